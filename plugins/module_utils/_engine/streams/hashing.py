# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Readers that compute digests and sizes of a stream, or pass on only chunks with the expected digest."""

from __future__ import annotations

import dataclasses
import hashlib

from ..domain.manifest import CHUNK_SIZE, Chunks
from ..errors import ChecksumMismatch
from .flow import CHUNK, Readable


class HashingReader:
    """Passes on the bytes of *source* and computes their digest and size.

    :param algorithm: a name that :func:`hashlib.new` accepts.
    """

    def __init__(self, source: Readable, algorithm: str = "sha256") -> None:
        self._source = source
        self._hash = hashlib.new(algorithm)
        #: Number of bytes read so far.
        self.size = 0

    def read(self, n: int, /) -> bytes:
        """Read up to *n* bytes from the source; its errors are passed on."""
        chunk = self._source.read(n)
        self._hash.update(chunk)
        self.size += len(chunk)
        return chunk

    def hexdigest(self) -> str:
        """The digest of the bytes read so far, in lower-case hex; of the whole stream only after its end."""
        return self._hash.hexdigest()

    def close(self) -> None:
        """Close the source."""
        self._source.close()


class ChunkHashingReader(HashingReader):
    """A :class:`HashingReader` with SHA-256 that also computes the digest of each chunk of *chunk_size* bytes."""

    def __init__(self, source: Readable, *, chunk_size: int = CHUNK_SIZE) -> None:
        super().__init__(source)
        self._size = chunk_size
        self._chunk = hashlib.sha256()
        self._left = chunk_size
        self._digests: list[str] = []

    def read(self, n: int, /) -> bytes:
        """Read up to *n* bytes from the source; its errors are passed on."""
        data = super().read(n)
        view = memoryview(data)
        while view:
            piece, view = view[: self._left], view[self._left :]
            self._chunk.update(piece)
            self._left -= len(piece)
            if not self._left:
                self._digests.append(self._chunk.hexdigest())
                self._chunk = hashlib.sha256()
                self._left = self._size
        return data

    def chunks(self) -> Chunks:
        """The digests of the chunks read so far; of the whole stream only after its end."""
        last = [self._chunk.hexdigest()] if self._left < self._size else []
        return Chunks(self._size, (*self._digests, *last))


@dataclasses.dataclass(frozen=True)
class Proof:
    """The expected contents of an object, so that each chunk can be verified before anything reads it.

    :param size: size of the object in bytes.
    :param sha256: SHA-256 of the object, lower-case hex.
    :param origin: describes the expected object in errors: ``the object is not <origin>``.
    """

    size: int
    sha256: str
    chunks: Chunks
    origin: str


class ProvenReader:
    """Passes on the bytes of *source*, each chunk only after the whole chunk has been verified against *proof*.

    It keeps one chunk in memory at a time.

    :raises ChecksumMismatch: on read, if a chunk differs, the source ends early or has more bytes than expected.
    """

    def __init__(self, source: Readable, proof: Proof) -> None:
        self._source = source
        self._proof = proof
        self._number = 0
        self._chunk = memoryview(b"")
        self._error: ChecksumMismatch | None = None

    def read(self, n: int, /) -> bytes:
        """Return the next verified bytes, ``b""`` after the last one; errors of the source are passed on."""
        if self._error is not None:
            raise self._error
        if not self._chunk:
            try:
                self._chunk = self._next_chunk()
            except ChecksumMismatch as exc:
                self._error = exc
                raise
        piece, self._chunk = self._chunk[:n], self._chunk[n:]
        return bytes(piece)

    def _next_chunk(self) -> memoryview:
        proof, chunks = self._proof, self._proof.chunks
        begin = min(self._number * chunks.size, proof.size)
        size = min(chunks.size, proof.size - begin)
        if not size:
            if self._source.read(1):
                raise self._mismatch(f"it is longer than {proof.size} bytes")
            return memoryview(b"")
        place = f"chunk {self._number + 1} of {len(chunks.sha256)}, bytes {begin} to {begin + size - 1}"
        # Filled in place, because a source may return a chunk byte by byte.
        chunk = memoryview(bytearray(size))
        digest = hashlib.sha256()
        filled = 0
        while filled < size:
            data = self._source.read(min(CHUNK, size - filled))
            if not data:
                raise self._mismatch(f"it ends after {begin + filled} bytes, in {place}")
            digest.update(data)
            chunk[filled : filled + len(data)] = data
            filled += len(data)
        expected = chunks.sha256[self._number]
        if digest.hexdigest() != expected:
            raise self._mismatch(f"{place}: the SHA-256 is {digest.hexdigest()}, expected {expected}")
        self._number += 1
        return chunk

    def _mismatch(self, cause: str) -> ChecksumMismatch:
        return ChecksumMismatch(
            f"the object is not {self._proof.origin}",
            cause=cause,
            hint="no data from there on was used: find out who writes to the store, and choose another backup",
        )

    def close(self) -> None:
        """Close the source."""
        self._source.close()
