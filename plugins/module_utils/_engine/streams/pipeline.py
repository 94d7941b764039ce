# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""A backup's bytes on their way out, and back in: the stages put together and spread over threads.

Hashing, ISA-L and age run without Python's lock, so a thread for each of the heavy stages keeps all processors busy
beside the process that makes the dump; they take turns more often than Python's threads usually do.  Memory is a few
chunks for each thread, whatever the size.
"""

from __future__ import annotations

import sys
import threading
import typing as t

from ..domain.manifest import CHUNK_SIZE, Chunks
from ..errors import ChecksumMismatch, StreamError
from .age import MAGIC_SIZE, decrypting_reader, encrypting_reader, is_encrypted
from .compression import METHOD_SIZE, Compression, compressing_reader, decompressing_reader, method_of
from .flow import CHUNK, DEPTH, ChunkReader, Peekable, Readable, ThreadReader, read_ahead
from .hashing import ChunkHashingReader, HashingReader, Proof, ProvenReader

#: How long a thread may keep Python's lock while another wants it, in seconds.  The stages hand over every few hundred
#: microseconds; with Python's own 5 ms each of them waits for a turn longer than it works.
SWITCH_INTERVAL = 5e-5

__all__ = ["Decoded", "Encoded", "FirstReading", "Proof", "Readable", "decode", "encode", "reencrypt"]

_Reader = t.TypeVar("_Reader")


class _Observed:
    """Passes each chunk to *observe* and its size to *advance*, and adds up the sizes."""

    def __init__(
        self,
        source: Readable,
        observe: t.Callable[[bytes], None] | None,
        advance: t.Callable[[int], None] | None,
    ) -> None:
        self._source = source
        self._observe = observe
        self._advance = advance
        self.size = 0

    def read(self, n: int, /) -> bytes:
        chunk = self._source.read(n)
        self.size += len(chunk)
        if chunk:
            if self._observe is not None:
                self._observe(chunk)
            if self._advance is not None:
                self._advance(len(chunk))
        return chunk

    def close(self) -> None:
        self._source.close()


class _Sized(t.Protocol):
    size: int


class Encoded(Peekable):
    """The bytes of an object as it goes to the store, and after their end what a manifest says of them."""

    def __init__(self, source: ChunkHashingReader, plain: _Sized) -> None:
        super().__init__(source)
        self._cipher = source
        self._plain = plain

    def _whole(self, reader: _Reader) -> _Reader:
        if not self._ended:
            raise StreamError("sizes and checksums are known only after the proven end of the stream")
        return reader

    @property
    def plain_size(self) -> int:
        """Bytes before compression and encryption."""
        return self._whole(self._plain).size

    @property
    def size(self) -> int:
        """Bytes of the object."""
        return self._whole(self._cipher).size

    @property
    def sha256(self) -> str:
        """SHA-256 of the object, lower-case hex."""
        return self._whole(self._cipher).hexdigest()

    @property
    def chunks(self) -> Chunks:
        """SHA-256 of each chunk of the object."""
        return self._whole(self._cipher).chunks()


def encode(
    source: Readable,
    *,
    compression: Compression,
    recipients: t.Sequence[t.Any],
    chunk_size: int = CHUNK_SIZE,
    observe: t.Callable[[bytes], None] | None = None,
    advance: t.Callable[[int], None] | None = None,
) -> Encoded:
    """*source* compressed and encrypted, as it is read.

    Whatever fails anywhere is raised by :meth:`Encoded.read`, never taken for the end; the upload that reads it
    then aborts.  Nothing runs before the first read.  Closing it closes *source* at once, while it may be being read
    (made for :class:`.process.Process`), and ends the threads.

    :param recipients: of :func:`.age.parse_recipients`, at least one.
    :param chunk_size: bytes of each of :attr:`Encoded.chunks`.
    :param observe: receives every plain chunk, in order, in a thread of its own; if it raises, the stream fails.
    :param advance: receives the size of every plain chunk, likewise.
    """
    sys.setswitchinterval(SWITCH_INTERVAL)
    plain = _Observed(source, observe, advance)
    compressed = compressing_reader(read_ahead(plain, name="dump"), compression)
    return Encoded(ChunkHashingReader(encrypting_reader(compressed, recipients), chunk_size=chunk_size), plain)


class _Checked:
    """Raises in place of the end where the digest is not the expected one."""

    def __init__(self, source: HashingReader, expected_sha256: str) -> None:
        self._source = source
        self._expected = expected_sha256.lower()

    def read(self, n: int, /) -> bytes:
        chunk = self._source.read(n)
        if not chunk and self._source.hexdigest() != self._expected:
            raise ChecksumMismatch(
                "the object is not the one its manifest names",
                cause=f"SHA-256 {self._source.hexdigest()} of {self._source.size} bytes, not {self._expected}",
                hint="it is damaged, cut off or another one: take another backup",
            )
        return chunk

    def close(self) -> None:
        self._source.close()


class _Patient:
    """Closes only between two reads: what comes from a network can't be closed while another thread reads it."""

    def __init__(self, source: Readable) -> None:
        self._source = source
        self._reading = threading.Lock()
        self._closed = False

    def read(self, n: int, /) -> bytes:
        with self._reading:
            if self._closed:
                raise StreamError("the object was closed while it was being read")
            return self._source.read(n)

    def close(self) -> None:
        with self._reading:
            if not self._closed:
                self._closed = True
                self._source.close()


class Decoded(ThreadReader):
    """The plain bytes of an object; its layers are found by their magic bytes.  See :func:`decode`.

    :param proof: what the object is, once *source* was read to its end.
    :param depth: pieces of the object that may wait to be decrypted.
    """

    def __init__(
        self,
        source: Readable,
        *,
        proof: t.Callable[[], Proof],
        depth: int,
        identities: t.Sequence[t.Any],
        limit: int | None,
    ) -> None:
        self._object = read_ahead(source, name="fetch", depth=depth)
        super().__init__(self._unwrap, self._object, name="decompress")
        self._proof = proof
        self._identities = identities
        self._limit = limit
        self._layers: tuple[str, ...] = ()

    @property
    def proof(self) -> Proof:
        """What another reading of the object is to be compared with; after the proven end only."""
        if not self._ended:
            raise StreamError("what an object is, is known only after its proven end")
        return self._proof()

    @property
    def layers(self) -> tuple[str, ...]:
        """What the object was wrapped in, outermost first: ``age``, then ``gzip`` or ``zstd``; after the first read."""
        return self._layers

    def _unwrap(self, put: t.Callable[[bytes], None]) -> None:
        reader: ChunkReader = self._object
        layers = []
        try:
            if is_encrypted(reader.peek(MAGIC_SIZE)):
                reader = decrypting_reader(reader, self._identities)
                layers.append("age")
            method = method_of(reader.peek(METHOD_SIZE))
            if method != "none":
                layers.append(method)
            self._layers = tuple(layers)
            reader = decompressing_reader(reader, limit=self._limit)
            while True:
                chunk = reader.read(CHUNK)
                if not chunk:
                    return
                put(chunk)
        finally:
            reader.close()


def _proof_of(hashed: ChunkHashingReader) -> Proof:
    return Proof(hashed.size, hashed.hexdigest(), hashed.chunks(), origin="what it was when it was checked")


class FirstReading:
    """Reads an object to its end before a second reading decodes it; nothing in it is looked at.

    Closing it ends the reading, and closes *source* between two reads.

    :param expected_sha256: of the whole object, in hex.
    :param advance: receives the size of every piece of the object, in a thread of its own.
    """

    def __init__(
        self, source: Readable, *, expected_sha256: str | None, advance: t.Callable[[int], None] | None = None
    ) -> None:
        sys.setswitchinterval(SWITCH_INTERVAL)
        self._ahead = read_ahead(_Observed(_Patient(source), None, advance), name="fetch")
        self._hashed = ChunkHashingReader(self._ahead)
        self._checked: Readable = self._hashed if expected_sha256 is None else _Checked(self._hashed, expected_sha256)

    def prove(self) -> Proof:
        """What the second reading is to be compared with.

        :raises ChecksumMismatch: the object has another SHA-256 than the expected one.
        """
        while self._checked.read(CHUNK):
            pass
        return _proof_of(self._hashed)

    def close(self) -> None:
        """Give up what is held; a second call does nothing."""
        self._ahead.close()


def decode(
    source: Readable,
    *,
    identities: t.Sequence[t.Any],
    expected_sha256: str | None,
    proof: Proof | None = None,
    limit: int | None = None,
    advance: t.Callable[[int], None] | None = None,
) -> Decoded:
    """The plain bytes of an object: decrypted and decompressed by what its magic bytes say.

    What is underneath (the text of a dump, an archive) is left to the reader.  The object is always read to its proven
    end.  Nothing runs before the first read.  Closing it ends the threads, and closes *source* between two reads.

    :param identities: of :func:`.age.parse_identities`; may be empty where the object is not encrypted.
    :param expected_sha256: of the whole object, in hex; checked before the end is given to the reader.
    :param proof: what the object must be: no byte of it is decrypted before its chunk was found to be the right one.
        Without it everything is read before anything is checked, so nothing of it may be executed.
    :param limit: most plain bytes.
    :param advance: receives the size of every piece of the object, in a thread of its own.
    :raises IdentityMissing, WrongIdentity, DamagedObject, ChecksumMismatch: all at a read.
    """
    sys.setswitchinterval(SWITCH_INTERVAL)
    reader: Readable = _Observed(_Patient(source), None, advance)
    if proof is None:
        hashed = ChunkHashingReader(reader)
        checked: Readable = hashed if expected_sha256 is None else _Checked(hashed, expected_sha256)
        return Decoded(checked, proof=lambda: _proof_of(hashed), depth=DEPTH, identities=identities, limit=limit)
    checked, depth = _proven(reader, proof)
    return Decoded(checked, proof=lambda: proof, depth=depth, identities=identities, limit=limit)


def _proven(source: Readable, proof: Proof) -> tuple[Readable, int]:
    """*source*, each chunk only once it was proven, and how many pieces of it to read ahead."""
    # As many pieces as a chunk has: the next one is fetched while this one is used.
    return _Checked(HashingReader(ProvenReader(source, proof)), proof.sha256), max(DEPTH, proof.chunks.size // CHUNK)


class _Passed:
    """Passes each chunk that is read to *put*, too."""

    def __init__(self, source: Readable, put: t.Callable[[bytes], None]) -> None:
        self._source = source
        self._put = put

    def read(self, n: int, /) -> bytes:
        chunk = self._source.read(n)
        self._put(chunk)
        return chunk

    def close(self) -> None:
        self._source.close()


class _Unpacked:
    """The size of the plain bytes of :func:`reencrypt`, which are looked at and not passed on."""

    def __init__(self) -> None:
        self.size = 0


def reencrypt(
    source: Readable,
    *,
    identities: t.Sequence[t.Any],
    recipients: t.Sequence[t.Any],
    expected_sha256: str,
    proof: Proof | None = None,
    chunk_size: int = CHUNK_SIZE,
    observe: t.Callable[[bytes], None],
    finish: t.Callable[[int], None],
    advance: t.Callable[[int], None] | None = None,
) -> Encoded:
    """An encrypted object encrypted to other recipients; what is inside the encryption stays as it is, byte for byte.

    The end of the new object is passed on only once the old one was read to its proven end, what is inside was
    decompressed to its own, and *finish* has returned.  Closing it ends the threads, and closes *source* between two
    reads.

    :param identities: of :func:`.age.parse_identities`, one of which opens the old object.
    :param recipients: of :func:`.age.parse_recipients`, who can open the new one.
    :param expected_sha256: of the whole old object, in hex.
    :param proof: what the old object must be: no byte of it is decrypted before its chunk was proven.
    :param chunk_size: bytes of each of :attr:`Encoded.chunks`.
    :param observe: receives every plain chunk, in order, in a thread of its own; if it raises, the stream fails.
    :param finish: receives the number of plain bytes at their end; if it raises, the stream fails.
    :param advance: receives the size of every piece of the old object, in a thread of its own.
    :raises WrongIdentity, DamagedObject, ChecksumMismatch: all at a read.
    """
    sys.setswitchinterval(SWITCH_INTERVAL)
    reader: Readable = _Observed(_Patient(source), None, advance)
    if proof is None:
        checked, depth = t.cast(Readable, _Checked(HashingReader(reader), expected_sha256)), DEPTH
    else:
        checked, depth = _proven(reader, proof)
    inner = decrypting_reader(read_ahead(checked, name="fetch", depth=depth), identities)
    unpacked = _Unpacked()

    def work(put: t.Callable[[bytes], None]) -> None:
        plain = decompressing_reader(_Passed(inner, put))
        while True:
            chunk = plain.read(CHUNK)
            if not chunk:
                break
            unpacked.size += len(chunk)
            observe(chunk)
        finish(unpacked.size)

    compared = ThreadReader(work, inner, name="compare")
    return Encoded(ChunkHashingReader(encrypting_reader(compared, recipients), chunk_size=chunk_size), unpacked)
