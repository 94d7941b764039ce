# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import functools
import gzip
import io
import os
import tracemalloc
import typing as t
import zlib

import pytest
import zstandard
from ansible_collections.infrazero.database.plugins.module_utils._engine.errors import (
    ConfigurationError,
    DamagedObject,
    LibraryMissing,
)
from ansible_collections.infrazero.database.plugins.module_utils._engine.streams import compression
from ansible_collections.infrazero.database.plugins.module_utils._engine.streams.compression import (
    Compression,
    compressing_reader,
    decompressing_reader,
)
from hypothesis import given
from hypothesis import strategies as st

from tests.support.streams import Pieces, SourceBroke, drain, flips

METHODS = ["gzip", "zstd", "none"]
SIZES = st.lists(st.integers(1, 5000), min_size=1, max_size=5)
# Incompressible bytes, rows of a table and repetitions: every kind of block.
SAMPLE = os.urandom(700) + b"".join(b"%d\tname %d\t\\N\n" % (i, i % 7) for i in range(100)) + b"\0" * 500


def compress(data: bytes, method: str = "gzip", level: int | None = None) -> bytes:
    return drain(compressing_reader(io.BytesIO(data), Compression(method, level)))


def decompress(data: bytes, **options: t.Any) -> bytes:
    return drain(decompressing_reader(Pieces(data), **options))


def zstd(data: bytes, **options: t.Any) -> bytes:
    """As the zstd command does it: with a checksum."""
    return zstandard.ZstdCompressor(write_checksum=True, **options).compress(data)


FOREIGN = {"gzip": functools.partial(gzip.compress, mtime=0), "zstd": zstd}

any_compression = st.one_of(
    st.builds(Compression, st.just("gzip"), st.sampled_from([None, 0, 1, 2, 3])),
    st.builds(Compression, st.just("zstd"), st.sampled_from([None, 1, 3, 9])),
    st.just(Compression("none")),
)


@given(st.binary(max_size=20000), any_compression, SIZES, SIZES, st.integers(1, 30000))
def test_round_trip(data: bytes, how: Compression, sizes: list[int], later_sizes: list[int], n: int) -> None:
    packed = drain(compressing_reader(Pieces(data, sizes=sizes), how), n)
    if how.method != "none" or compression.method_of(data) == "none":
        assert drain(decompressing_reader(Pieces(packed, sizes=later_sizes)), n) == data


def test_others_read_ours_and_we_theirs() -> None:
    data = SAMPLE * 500
    assert gzip.decompress(compress(data)) == data
    assert zstandard.ZstdDecompressor().decompressobj().decompress(compress(data, "zstd")) == data
    for method, pack in FOREIGN.items():
        assert decompress(pack(data)) == data, method


def test_ours_carry_a_checksum() -> None:
    assert zlib.crc32(SAMPLE).to_bytes(4, "little") == compress(SAMPLE)[-8:-4]
    assert zstandard.get_frame_parameters(compress(SAMPLE, "zstd")).has_checksum


@pytest.mark.parametrize("method", METHODS)
def test_nothing_in_nothing_out(method: str) -> None:
    assert decompress(compress(b"", method)) == b""
    assert decompress(b"") == b""


@pytest.mark.parametrize("method", ["gzip", "zstd"])
def test_several_members_are_one_stream(method: str) -> None:
    pack = FOREIGN[method]
    packed = pack(SAMPLE) + pack(b"") + pack(b"second")
    for sizes in [(65536,), (1,), (len(pack(SAMPLE)),)]:
        assert drain(decompressing_reader(Pieces(packed, sizes=sizes))) == SAMPLE + b"second"


@pytest.mark.parametrize("method", ["gzip", "zstd"])
@pytest.mark.parametrize("sizes", [(65536,), (1,)])
def test_truncated_at_any_byte(method: str, sizes: tuple[int, ...]) -> None:
    packed = FOREIGN[method](SAMPLE)
    for end in range(compression.METHOD_SIZE, len(packed)):
        with pytest.raises(DamagedObject, match="ends before"):
            drain(decompressing_reader(Pieces(packed[:end], sizes=sizes)))


@pytest.mark.parametrize("method", ["gzip", "zstd"])
def test_a_truncated_second_member(method: str) -> None:
    packed = FOREIGN[method](SAMPLE)
    for end in range(1, len(packed)):
        with pytest.raises(DamagedObject):
            decompress(packed + packed[:end])


@pytest.mark.parametrize("method", ["gzip", "zstd"])
@pytest.mark.parametrize("packed_by_us", [True, False])
def test_a_flipped_bit_never_changes_what_comes_out(method: str, packed_by_us: bool) -> None:
    """Some bits of a header say nothing about the data (time, name of the system): these may be flipped."""
    packed = compress(SAMPLE, method) if packed_by_us else FOREIGN[method](SAMPLE)
    magic = len(compression.METHODS[method].magic)
    harmless = set()
    for position, flipped in flips(packed, start=magic):
        try:
            assert decompress(flipped, limit=10 * len(SAMPLE)) == SAMPLE
            harmless.add(position)
        except DamagedObject:
            pass
    assert len(harmless) < 20


@pytest.mark.parametrize("method", ["gzip", "zstd"])
@pytest.mark.parametrize("trailing", [b"\0", b"\0" * 512, b"x", b"\x1f", b"text of something else", b"PGDMP"])
def test_trailing_bytes_are_an_error(method: str, trailing: bytes) -> None:
    packed = FOREIGN[method](SAMPLE)
    for sizes in [(65536,), (len(packed),), (1,)]:
        with pytest.raises(DamagedObject):
            drain(decompressing_reader(Pieces(packed + trailing, sizes=sizes)))


@pytest.mark.parametrize(("method", "most"), [("gzip", 8), ("zstd", 160)])
def test_a_bomb_stops_at_the_limit_in_little_memory(method: str, most: int) -> None:
    bomb = compress(bytes(1024) * 1024 * 256, method, 3)
    limit = 1024 * 1024
    tracemalloc.start()
    try:
        with pytest.raises(DamagedObject, match="larger than the limit of 1048576 bytes"):
            decompress(bomb, limit=limit)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < most * 1024 * 1024


@pytest.mark.parametrize("method", METHODS)
def test_the_limit_itself_is_allowed(method: str) -> None:
    packed = compress(SAMPLE, method)
    assert decompress(packed, limit=len(SAMPLE)) == SAMPLE
    with pytest.raises(DamagedObject, match="larger"):
        decompress(packed, limit=len(SAMPLE) - 1)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("part", [0, 0.5, 1])
def test_an_error_of_the_source_is_never_an_end(method: str, part: float) -> None:
    reader = compressing_reader(Pieces(SAMPLE, fail_at=int(len(SAMPLE) * part)), Compression(method))
    packed = compress(SAMPLE, method)
    back = decompressing_reader(Pieces(packed, fail_at=int(len(packed) * part)))
    for stream in (reader, back):
        for _again in range(2):
            with pytest.raises(SourceBroke):
                drain(stream)


@pytest.mark.parametrize("method", METHODS)
def test_closing_closes_the_source(method: str) -> None:
    one, other = Pieces(SAMPLE), Pieces(SAMPLE)
    compressing_reader(one, Compression(method)).close()
    decompressing_reader(other, limit=5).close()
    assert (one.closed, other.closed) == (1, 1)


@pytest.mark.parametrize(("method", "attribute"), [("gzip", "isal_zlib"), ("zstd", "zstandard")])
def test_a_missing_library_is_an_error_and_nothing_slower(
    method: str, attribute: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = compress(SAMPLE, method)
    monkeypatch.setattr(compression, attribute, None)
    with pytest.raises(LibraryMissing, match=r"isal|zstandard"):
        compress(SAMPLE, method)
    with pytest.raises(LibraryMissing, match=r"isal|zstandard"):
        decompress(packed)
    assert decompress(compress(SAMPLE, "none")) == SAMPLE


@pytest.mark.parametrize(
    ("method", "level"), [("gzip", 4), ("gzip", -1), ("zstd", 0), ("zstd", 23), ("none", 1), ("xz", None)]
)
def test_what_there_is_not(method: str, level: int | None) -> None:
    with pytest.raises(ConfigurationError):
        Compression(method, level)


def test_levels_where_none_is_asked_for() -> None:
    assert [Compression(method).level for method in METHODS] == [1, 3, 0]
