# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import itertools
import os
import pathlib
import random
import subprocess
import sys
import textwrap
import threading
import typing as t

import pyrage
import pytest
import zstandard
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.manifest import CHUNK_SIZE, Chunks
from ansible_collections.infrazero.database.plugins.module_utils._engine.errors import (
    ChecksumMismatch,
    ConfigurationError,
    DamagedObject,
    IdentityMissing,
    ProcessFailed,
    StreamError,
    WrongIdentity,
)
from ansible_collections.infrazero.database.plugins.module_utils._engine.streams import flow
from ansible_collections.infrazero.database.plugins.module_utils._engine.streams.compression import Compression
from ansible_collections.infrazero.database.plugins.module_utils._engine.streams.pipeline import (
    Decoded,
    Encoded,
    FirstReading,
    Proof,
    decode,
    encode,
    reencrypt,
)
from ansible_collections.infrazero.database.plugins.module_utils._engine.streams.process import (
    Process,
    child_environment,
)
from hypothesis import given
from hypothesis import strategies as st

from tests.support.streams import Endless, Pieces, SourceBroke, Stuck, drain, flips

KEYS = [pyrage.x25519.Identity.generate() for _unused in range(3)]
RECIPIENTS = [key.to_public() for key in KEYS]
METHODS = ["gzip", "zstd", "none"]
# Enough for each thread to be behind: more than all that may wait between them, compressed or not.
LARGE = os.urandom(64 * 1024) * (4 * 3 * flow.DEPTH)
SAMPLE = b"".join(b"%d\tname %d\t\\N\n" % (i, i % 7) for i in range(20000)) + os.urandom(1000)


def encoder(source: t.Any, method: str = "gzip", **options: t.Any) -> Encoded:
    return encode(source, compression=Compression(method), recipients=RECIPIENTS[:1], **options)


def decoder(source: t.Any, expected_sha256: str | None = None, **options: t.Any) -> Decoded:
    return decode(source, identities=options.pop("identities", KEYS[:1]), expected_sha256=expected_sha256, **options)


def pack(data: bytes, method: str = "gzip") -> bytes:
    with encoder(io.BytesIO(data), method) as encoded:
        return drain(encoded)


def fails_to_drain(reader: t.Any) -> None:
    with pytest.raises(StreamError):
        drain(reader)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@given(
    st.binary(max_size=2000),
    st.sampled_from([0, 1, 10, 500]),
    st.sampled_from(METHODS),
    st.integers(1, 3),
    st.lists(st.integers(1, 70000), min_size=1, max_size=4),
    st.lists(st.integers(1, 70000), min_size=1, max_size=4),
    st.integers(1, 300000),
)
def test_round_trip(
    data: bytes, times: int, method: str, recipients: int, sizes: list[int], later: list[int], n: int
) -> None:
    data *= times
    observed: list[bytes] = []
    advanced: list[int] = []
    with encode(
        Pieces(data, sizes=sizes),
        compression=Compression(method),
        recipients=RECIPIENTS[:recipients],
        observe=observed.append,
        advance=advanced.append,
    ) as encoded:
        pieces = list(iter(lambda: encoded.read(n), b""))
        assert encoded.read(1) == b""
        packed = b"".join(pieces)
        assert all(len(piece) == n for piece in pieces[:-1])
        assert encoded.plain_size == len(data)
        assert (encoded.size, encoded.sha256) == (len(packed), sha256(packed))
    assert b"".join(observed) == data
    assert sum(advanced) == len(data)

    advanced.clear()
    source = Pieces(packed, sizes=later)
    with decoder(
        source, sha256(packed), identities=KEYS[recipients - 1 : recipients], advance=advanced.append
    ) as decoded:
        assert decoded.peek(5) == data[:5]
        assert drain(decoded, n) == data
        if method != "none":
            assert decoded.layers == ("age", method)
    assert sum(advanced) == len(packed)
    assert source.closed == 1


@pytest.mark.parametrize("method", METHODS)
def test_large_data_through_all_threads(method: str) -> None:
    with encoder(io.BytesIO(LARGE), method) as encoded:
        packed = drain(encoded, 8 * 1024 * 1024)
        assert encoded.plain_size == len(LARGE)
    with decoder(io.BytesIO(packed), encoded.sha256.upper()) as decoded:
        assert drain(decoded, 1024 * 1024) == LARGE


def test_figures_are_known_after_the_end_only() -> None:
    with encoder(io.BytesIO(SAMPLE)) as encoded:
        assert encoded.read(1000)
        for name in ("plain_size", "size", "sha256", "chunks"):
            with pytest.raises(StreamError, match="only after"):
                getattr(encoded, name)
        drain(encoded)
        assert encoded.plain_size == len(SAMPLE)


# What an object may be ----------------------------------------------------------------------------------------------

OBJECTS = {
    "text": (SAMPLE, ()),
    "archive": (b"PGDMP" + SAMPLE, ()),
    "gzip": (gzip.compress(SAMPLE), ("gzip",)),
    "members": (gzip.compress(SAMPLE[:500]) + gzip.compress(SAMPLE[500:]), ("gzip",)),
    "zstd": (zstandard.ZstdCompressor(write_checksum=True).compress(SAMPLE), ("zstd",)),
    "age": (pyrage.encrypt(SAMPLE, RECIPIENTS[:1]), ("age",)),
    "armored": (pyrage.encrypt(gzip.compress(SAMPLE), RECIPIENTS[:1], armored=True), ("age", "gzip")),
    "empty": (b"", ()),
    "encrypted empty": (pyrage.encrypt(b"", RECIPIENTS[:1]), ("age",)),
}


@pytest.mark.parametrize("name", OBJECTS)
def test_layers_are_found(name: str) -> None:
    packed, layers = OBJECTS[name]
    plain = b"" if "empty" in name else b"PGDMP" + SAMPLE if name == "archive" else SAMPLE
    for sizes in [(65536,), (1, 2, 3)]:
        with decoder(Pieces(packed, sizes=sizes), sha256(packed)) as decoded:
            assert drain(decoded) == plain
            assert decoded.layers == layers


@pytest.mark.parametrize("name", OBJECTS)
def test_another_checksum_is_no_end(name: str) -> None:
    packed, _layers = OBJECTS[name]
    with decoder(io.BytesIO(packed), sha256(packed + b"x")) as decoded:
        for _again in range(2):
            with pytest.raises(ChecksumMismatch, match=sha256(packed)) as caught:
                drain(decoded)
            assert caught.value.phase == "checksum"


def test_trailing_bytes_count_in_the_checksum() -> None:
    packed = pack(SAMPLE)
    with decoder(io.BytesIO(packed + b"\n"), sha256(packed)) as decoded, pytest.raises(DamagedObject):
        drain(decoded)
    armored = OBJECTS["armored"][0]
    with decoder(io.BytesIO(armored + b"\n" * 300_000), sha256(armored)) as decoded, pytest.raises(ChecksumMismatch):
        drain(decoded)


@pytest.mark.parametrize("method", METHODS)
def test_a_flipped_bit_anywhere_is_found_by_the_checksum(method: str) -> None:
    packed = pack(SAMPLE[:3000], method)
    for _position, flipped in flips(packed, step=61):
        decoded = decoder(io.BytesIO(flipped), sha256(packed), limit=100_000)
        with decoded, pytest.raises((DamagedObject, WrongIdentity)):
            drain(decoded)


@pytest.mark.parametrize("method", METHODS)
def test_truncated_anywhere_without_a_checksum(method: str) -> None:
    packed = pack(SAMPLE, method)
    for end in {*range(40, 500, 7), *range(500, len(packed), 9973), len(packed) - 1}:
        with decoder(io.BytesIO(packed[:end])) as decoded, pytest.raises(DamagedObject):
            drain(decoded)


def test_no_identity_wrong_identity_and_nobody_to_encrypt_to() -> None:
    packed = pack(SAMPLE)
    with decoder(io.BytesIO(packed), identities=[]) as decoded, pytest.raises(IdentityMissing):
        decoded.read(1)
    with decoder(io.BytesIO(packed), identities=KEYS[1:]) as decoded, pytest.raises(WrongIdentity):
        decoded.peek(1)
    with decoder(io.BytesIO(SAMPLE), identities=[]) as decoded:
        assert drain(decoded) == SAMPLE
    with pytest.raises(ConfigurationError):
        encode(io.BytesIO(SAMPLE), compression=Compression(), recipients=[])


@pytest.mark.parametrize("method", METHODS)
def test_the_limit_bounds_what_comes_out(method: str) -> None:
    packed = pack(bytes(10_000_000), method)
    with decoder(io.BytesIO(packed), limit=10_000_000) as decoded:
        assert len(drain(decoded)) == 10_000_000
    with decoder(io.BytesIO(packed), limit=9_999_999) as decoded, pytest.raises(DamagedObject, match="larger"):
        drain(decoded)


# Chunks -------------------------------------------------------------------------------------------------------------


def gather(reader: Decoded, pieces: list[bytes]) -> None:
    """Read to the end; what was read before an error is in *pieces*."""
    pieces.extend(iter(lambda: reader.read(1000), b""))


def proven(packed: bytes, size: int = 65536) -> Proof:
    hashes = tuple(sha256(packed[start : start + size]) for start in range(0, len(packed), size))
    return Proof(len(packed), sha256(packed), Chunks(size, hashes), origin="the one that was signed")


def test_the_chunks_that_were_written_prove_what_is_read() -> None:
    data = random.Random(1).randbytes(20_000_000)
    with encoder(io.BytesIO(data), "none", chunk_size=1_000_000) as encoded:
        packed = drain(encoded)
        assert encoded.chunks == proven(packed, 1_000_000).chunks
    with encoder(io.BytesIO(data), "none") as encoded:
        packed = drain(encoded)
        chunks = encoded.chunks
    assert chunks == proven(packed, CHUNK_SIZE).chunks and len(chunks.sha256) == 3
    proof = Proof(len(packed), sha256(packed), chunks, origin="it")
    advanced: list[int] = []
    with decoder(Pieces(packed), proof=proof, advance=advanced.append) as decoded:
        assert drain(decoded) == data
        assert decoded.proof is proof
    assert sum(advanced) == len(packed)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("layered", [True, False])
def test_nothing_of_an_unproven_chunk_is_decoded(method: str, layered: bool) -> None:
    """Also where the changed chunk is sound in itself, as a writer makes it who needs no key for that."""
    packed = pack(LARGE, method) if layered else LARGE
    for number in (0, 1, len(packed) // 65536 - 1):
        changed = bytearray(packed)
        changed[number * 65536 + 5] ^= 1
        pieces: list[bytes] = []
        with (
            decoder(Pieces(bytes(changed)), proof=proven(packed)) as decoded,
            pytest.raises(ChecksumMismatch, match=f"chunk {number + 1} of .*bytes {number * 65536} to "),
        ):
            gather(decoded, pieces)
        out = b"".join(pieces)
        assert LARGE.startswith(out)
        if not layered:
            assert len(out) <= number * 65536


def prove(source: Pieces, *, expected_sha256: str | None, advance: t.Callable[[int], None] | None = None) -> Proof:
    with contextlib.closing(FirstReading(source, expected_sha256=expected_sha256, advance=advance)) as reading:
        return reading.prove()


@pytest.mark.parametrize("name", OBJECTS)
def test_what_an_object_is_comes_out_of_either_reading(name: str) -> None:
    packed, _layers = OBJECTS[name]
    source = Pieces(packed, sizes=(1000,))
    advanced: list[int] = []
    found = prove(source, expected_sha256=None, advance=advanced.append)
    assert (found.size, found.sha256, found.chunks) == (
        len(packed),
        sha256(packed),
        proven(packed, CHUNK_SIZE).chunks,
    )
    assert (source.closed, sum(advanced)) == (1, len(packed))
    with decoder(Pieces(packed), sha256(packed)) as decoded:
        with pytest.raises(StreamError, match="only after"):
            _unused = decoded.proof
        drain(decoded)
        assert decoded.proof == found
    with decoder(Pieces(packed), proof=found) as decoded:
        drain(decoded)
    assert prove(Pieces(packed), expected_sha256=sha256(packed).upper()) == found


def test_an_object_that_is_not_the_expected_one_is_not_proven() -> None:
    source = Pieces(SAMPLE)
    with pytest.raises(ChecksumMismatch):
        prove(source, expected_sha256=sha256(b""))
    assert source.closed == 1
    source = Pieces(SAMPLE, fail_at=100)
    with pytest.raises(SourceBroke):
        prove(source, expected_sha256=None)
    assert source.closed == 1


# Stages that die ----------------------------------------------------------------------------------------------------


def _fail_at(data: bytes) -> list[int]:
    return [0, 1, len(data) // 2, len(data) - 1, len(data)]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("fail_at", _fail_at(LARGE))
def test_a_source_that_breaks_is_never_a_clean_end(method: str, fail_at: int) -> None:
    sent = bytearray()
    with encoder(Pieces(LARGE, fail_at=fail_at), method) as encoded:
        for _again in range(2):
            with pytest.raises(SourceBroke):
                sent.extend(itertools.chain.from_iterable(iter(lambda: encoded.read(1000), b"")))
        with pytest.raises(StreamError):
            _unused = encoded.sha256
    with decoder(io.BytesIO(bytes(sent) or b"age-encryption.org/v1\n")) as decoded, pytest.raises(DamagedObject):
        drain(decoded)


@pytest.mark.parametrize("method", METHODS)
def test_an_object_that_breaks_off_is_never_a_clean_end(method: str) -> None:
    packed = pack(LARGE, method)
    for fail_at in _fail_at(packed):
        with decoder(Pieces(packed, fail_at=fail_at), sha256(packed)) as decoded:
            for _again in range(2):
                with pytest.raises(SourceBroke):
                    drain(decoded, 1024 * 1024)


@pytest.mark.parametrize("script", ["exit 1", "kill -KILL $$", "kill -SEGV $$"])
@pytest.mark.parametrize("before", ["", "echo some; ", "head -c 20000000 /dev/urandom; "])
def test_a_dump_that_dies_is_never_a_clean_end(before: str, script: str) -> None:
    argv = ["sh", "-c", before + script]
    with Process(argv, phase="dump", environment=child_environment()) as process, encoder(process) as encoded:
        with pytest.raises(ProcessFailed):
            drain(encoded)
        with pytest.raises(StreamError):
            _unused = encoded.size


@pytest.mark.parametrize("after", [0, 1_000_000])
def test_an_observer_that_raises_stops_it(after: int) -> None:
    seen = 0

    def observe(chunk: bytes) -> None:
        nonlocal seen
        seen += len(chunk)
        if seen > after:
            raise SourceBroke

    for option in ({"observe": observe}, {"advance": lambda size: observe(bytes(size))}):
        seen = 0
        with encoder(Endless(), **option) as encoded, pytest.raises(SourceBroke):
            drain(encoded)


def test_a_compressor_that_raises_stops_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def compress(self, data: bytes) -> bytes:
            raise SourceBroke

    module = sys.modules[Compression.__module__]
    monkeypatch.setattr(module.isal_zlib, "compressobj", lambda *unused: Broken())
    with encoder(Endless()) as encoded, pytest.raises(SourceBroke):
        drain(encoded)


# Closing early ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("read", [0, 1, 3_000_000])
def test_closing_early_leaves_nothing(method: str, read: int) -> None:
    argv = ["cat", "/dev/urandom"]
    with Process(argv, phase="dump", environment=child_environment()) as process, encoder(process, method) as encoded:
        if read:
            assert len(encoded.read(read)) == read
        encoded.close()
        with pytest.raises(StreamError):
            drain(encoded)

    source = Pieces(pack(LARGE, method))
    decoded = decoder(source)
    if read:
        assert len(decoded.read(read)) == read
    decoded.close()
    decoded.close()
    assert source.closed == 1
    with pytest.raises(StreamError):
        drain(decoded)


def test_closing_an_encoder_wakes_a_hanging_source() -> None:
    source = Stuck(SAMPLE)
    encoded = encoder(source)
    reading = threading.Thread(target=fails_to_drain, args=(encoded,))
    reading.start()
    source.waiting.wait()
    encoded.close()
    reading.join()


def test_a_decoder_is_not_closed_in_the_middle_of_a_read_of_its_source() -> None:
    class Slow(Pieces):
        reading = False
        overlapped = False
        started = threading.Event()
        go_on = threading.Event()

        def read(self, n: int, /) -> bytes:
            self.reading = True
            self.started.set()
            self.go_on.wait()
            self.reading = False
            return super().read(n)

        def close(self) -> None:
            self.overlapped |= self.reading
            super().close()

    source = Slow(pack(SAMPLE))
    decoded = decoder(source)
    reading = threading.Thread(target=fails_to_drain, args=(decoded,))
    reading.start()
    source.started.wait()
    closing = threading.Thread(target=decoded.close)
    closing.start()
    reading.join()  # woken although the source is still being read
    source.go_on.set()
    closing.join()
    assert not source.overlapped
    assert source.closed == 1


def test_an_archive_read_by_a_child_is_proven_by_its_object() -> None:
    """pg_restore reads what decode gives: the object's own fault is the one that is told."""
    packed = pack(LARGE)
    options = {"phase": "load", "environment": child_environment()}
    with Process(["cat"], stdin=decoder(io.BytesIO(packed), sha256(packed)), **options) as process:
        assert drain(process) == LARGE
    for damaged, expected in ((packed, sha256(b"")), (packed[:-1], None), (packed[:3_000_000], None)):
        for script in ("cat", "head -c 10"):
            process = Process(["sh", "-c", script], stdin=decoder(io.BytesIO(damaged), expected), **options)
            with process, pytest.raises(DamagedObject):
                drain(process)


# Memory -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_memory_is_flat(method: str, tmp_path: pathlib.Path) -> None:
    """In an interpreter of its own: 20 and 200 MB out and back through the pipeline, peak of resident memory."""
    script = textwrap.dedent(
        """
        import resource, sys
        sys.path[:0] = sys.argv[3].split(":")
        import pyrage
        from ansible_collections.infrazero.database.plugins.module_utils._engine.streams import compression, pipeline

        class Rows:
            left = int(sys.argv[1]) * 1000 * 1000
            block = b"".join(b"%d\\tname %d\\t\\\\N\\n" % (i * 7919, i % 71) for i in range(40000))
            def read(self, n, /):
                piece = self.block[:min(n, self.left)]
                self.left -= len(piece)
                return piece
            def close(self):
                pass

        key = pyrage.x25519.Identity.generate()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        packed = pipeline.encode(
            Rows(), compression=compression.Compression(sys.argv[2]), recipients=[key.to_public()])
        decoded = pipeline.decode(packed, identities=[key], expected_sha256=None)
        while decoded.read(1024 * 1024):
            pass
        decoded.close()
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
        """
    )
    peaks = []
    for megabytes in (20, 200):
        argv = [sys.executable, "-c", script, str(megabytes), method, ":".join(sys.path)]
        peaks.append(int(subprocess.run(argv, check=True, capture_output=True).stdout) * 1024)
    assert max(peaks) < 80 * 1024 * 1024  # both directions at once
    assert peaks[1] < peaks[0] + 16 * 1024 * 1024


def test_memory_is_flat_where_each_chunk_is_proven() -> None:
    """In an interpreter of its own: 40 and 200 MB read twice, the second time chunk by chunk."""
    script = textwrap.dedent(
        """
        import resource, sys
        sys.path[:0] = sys.argv[2].split(":")
        from ansible_collections.infrazero.database.plugins.module_utils._engine.streams import pipeline

        class Rows:
            def __init__(self):
                self.left = int(sys.argv[1]) * 1000 * 1000
            def read(self, n, /):
                # As a socket may: never as much as was asked for.
                n = min(max(n // 3, 1), self.left)
                self.left -= n
                return bytes(n)
            def close(self):
                pass

        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        reading = pipeline.FirstReading(Rows(), expected_sha256=None)
        proof = reading.prove()
        reading.close()
        first = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with pipeline.decode(Rows(), identities=[], expected_sha256=None, proof=proof) as decoded:
            while decoded.read(1024 * 1024):
                pass
        print(first - before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
        """
    )
    peaks = []
    for megabytes in (40, 200):
        argv = [sys.executable, "-c", script, str(megabytes), ":".join(sys.path)]
        done = subprocess.run(argv, check=True, capture_output=True)
        peaks.append([int(peak) * 1024 for peak in done.stdout.split()])
    for once, both in peaks:
        assert once < 8 * 1024 * 1024
        assert both < once + 3 * CHUNK_SIZE
    assert peaks[1][1] < peaks[0][1] + 4 * 1024 * 1024


# Encrypting anew ------------------------------------------------------------------------------------------------------


def again(source: t.Any, expected_sha256: str, **options: t.Any) -> Encoded:
    settings: dict[str, t.Any] = {
        "identities": KEYS[:1],
        "recipients": RECIPIENTS[1:],
        "observe": lambda _chunk: None,
        "finish": lambda _size: None,
        **options,
    }
    return reencrypt(source, expected_sha256=expected_sha256, **settings)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("proven", [True, False])
def test_what_is_inside_the_encryption_stays_as_it_is(method: str, proven: bool) -> None:
    with encoder(io.BytesIO(SAMPLE), method) as encoded:
        packed = drain(encoded)
        proof = Proof(encoded.size, encoded.sha256, encoded.chunks, origin="the one before")
    seen: list[bytes] = []
    sizes: list[int] = []
    read: list[int] = []
    source = Pieces(packed, sizes=(7, 65536))
    new = again(
        source,
        sha256(packed),
        proof=proof if proven else None,
        observe=seen.append,
        finish=sizes.append,
        advance=read.append,
    )
    with new:
        data = drain(new)
        assert (new.size, new.sha256, new.plain_size) == (len(data), sha256(data), len(SAMPLE))
        assert new.chunks == Chunks(CHUNK_SIZE, (sha256(data),))
    assert b"".join(seen) == SAMPLE and sizes == [len(SAMPLE)] and sum(read) == len(packed)
    for key in KEYS[1:]:
        assert pyrage.decrypt(data, [key]) == pyrage.decrypt(packed, [KEYS[0]])
    with pytest.raises(pyrage.DecryptError):
        pyrage.decrypt(data, [KEYS[0]])
    assert source.closed


def test_no_object_ends_before_the_old_one_was_proven() -> None:
    """Each fault is raised in place of the end, so an upload is given up."""
    packed = pack(SAMPLE)
    truncated = pyrage.encrypt(gzip.compress(SAMPLE)[:-4], RECIPIENTS[:1])

    def broken(_argument: object) -> None:
        raise ChecksumMismatch("rows differ")

    for source, options, error in (
        (packed, {"identities": KEYS[1:]}, WrongIdentity),
        (packed[:-1], {}, StreamError),
        (truncated, {}, DamagedObject),
        (pyrage.encrypt(gzip.compress(SAMPLE) + b"more", RECIPIENTS[:1]), {}, DamagedObject),
        (SAMPLE, {}, DamagedObject),
        (packed, {"observe": broken}, ChecksumMismatch),
        (packed, {"finish": broken}, ChecksumMismatch),
    ):
        with again(Pieces(source), sha256(source), **options) as new, pytest.raises(error):
            drain(new)
    with again(Pieces(packed), "0" * 64) as new, pytest.raises(ChecksumMismatch):
        drain(new)
    with again(Pieces(packed, fail_at=len(packed) // 2), sha256(packed)) as new, pytest.raises(SourceBroke):
        drain(new)


def test_nothing_of_an_altered_chunk_is_decrypted_for_others() -> None:
    with encoder(io.BytesIO(SAMPLE)) as encoded:
        drain(encoded)
        proof = Proof(encoded.size, encoded.sha256, encoded.chunks, origin="the one before")
    seen: list[bytes] = []
    forged = Pieces(pack(b"-- something else\n" * 1000))
    with again(forged, proof.sha256, proof=proof, observe=seen.append) as new, pytest.raises(ChecksumMismatch):
        drain(new)
    assert not seen


def test_encrypting_anew_can_be_given_up() -> None:
    packed = pack(LARGE, "none")
    source = Pieces(packed)
    new = again(source, sha256(packed))
    assert new.read(10)
    new.close()
    new.close()
    assert source.closed
