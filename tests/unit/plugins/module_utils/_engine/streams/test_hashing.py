# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import dataclasses
import hashlib
import io
import typing as t

import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.manifest import CHUNK_SIZE, Chunks
from ansible_collections.infrazero.database.plugins.module_utils._engine.errors import ChecksumMismatch
from ansible_collections.infrazero.database.plugins.module_utils._engine.streams.hashing import (
    ChunkHashingReader,
    HashingReader,
    Proof,
    ProvenReader,
)
from hypothesis import given
from hypothesis import strategies as st

from tests.support.streams import Pieces, SourceBroke, drain

SIZE = 1000
#: Two chunks and a half; no two of them are the same.
DATA = (bytes(range(251)) * 10)[:2500]


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def proof(data: bytes, size: int = SIZE) -> Proof:
    hashes = tuple(sha256(data[start : start + size]) for start in range(0, len(data), size))
    return Proof(len(data), sha256(data), Chunks(size, hashes), origin="the one that was signed")


def handed_on(reader: ProvenReader, n: int = 77) -> tuple[bytes, Exception | None]:
    """All that comes out of *reader*, and what it ends with."""
    data = b""
    try:
        while piece := reader.read(n):
            data += piece
    except (ChecksumMismatch, SourceBroke) as exc:
        return data, exc
    return data, None


def test_digest_and_size_are_of_what_passed() -> None:
    data = bytes(range(256)) * 1000
    reader = HashingReader(Pieces(data, sizes=(1, 1000, 77)))
    assert drain(reader, 500) == data
    assert reader.size == len(data)
    assert reader.hexdigest() == hashlib.sha256(data).hexdigest()


def test_another_algorithm() -> None:
    reader = HashingReader(io.BytesIO(b"abc"), "sha512")
    drain(reader)
    assert reader.hexdigest() == hashlib.sha512(b"abc").hexdigest()


def test_closing_closes_the_source() -> None:
    source = Pieces(b"")
    HashingReader(source).close()
    assert source.closed == 1


@pytest.mark.parametrize("size", [0, 1, CHUNK_SIZE - 1, CHUNK_SIZE, CHUNK_SIZE + 1, 2 * CHUNK_SIZE, 2 * CHUNK_SIZE + 9])
@pytest.mark.parametrize("pieces", [(65536,), (CHUNK_SIZE // 3, 1, 2 * CHUNK_SIZE), (1 << 30,)])
def test_each_chunk_has_its_digest(size: int, pieces: t.Sequence[int]) -> None:
    data = (bytes(range(256)) * (size // 256 + 1))[:size]
    reader = ChunkHashingReader(Pieces(data, sizes=pieces))
    assert drain(reader, 1 << 30) == data
    assert (reader.size, reader.hexdigest()) == (size, sha256(data))
    assert reader.chunks() == proof(data, CHUNK_SIZE).chunks


@given(st.integers(0, 3500), st.lists(st.integers(1, 2500), min_size=1, max_size=3), st.integers(1, 3000))
def test_what_is_proven_is_handed_on(size: int, pieces: list[int], n: int) -> None:
    data = (bytes(range(251)) * 15)[:size]
    source = Pieces(data, sizes=pieces)
    reader = ProvenReader(source, proof(data))
    assert handed_on(reader, n) == (data, None)
    assert reader.read(1) == b""
    reader.close()
    assert source.closed == 1


@pytest.mark.parametrize("position", [0, 1, 999, 1000, 1999, 2000, 2499])
@pytest.mark.parametrize("pieces", [(1,), (300,), (5000,)])
def test_no_byte_of_a_changed_chunk_is_handed_on(position: int, pieces: t.Sequence[int]) -> None:
    data = DATA
    changed = bytearray(data)
    changed[position] ^= 1
    reader = ProvenReader(Pieces(bytes(changed), sizes=pieces), proof(data))
    before, error = handed_on(reader)
    begin = position // SIZE * SIZE
    assert before == data[:begin]
    assert isinstance(error, ChecksumMismatch)
    assert "is not the one that was signed" in error.message
    assert f"chunk {begin // SIZE + 1} of 3, bytes {begin} to {min(begin + SIZE, 2500) - 1}" in error.cause
    with pytest.raises(ChecksumMismatch):
        reader.read(1)


CHANGES: dict[str, t.Callable[[bytes], bytes]] = {
    "nothing": lambda data: b"",
    "cut in a chunk": lambda data: data[:2100],
    "cut between chunks": lambda data: data[:2000],
    "cut by one": lambda data: data[:-1],
    "one byte more": lambda data: data + b"x",
    "a chunk more": lambda data: data + data[:SIZE],
    "a chunk twice": lambda data: data[:SIZE] * 2 + data[SIZE:],
    "chunks exchanged": lambda data: data[SIZE : 2 * SIZE] + data[:SIZE] + data[2 * SIZE :],
    "a chunk left out": lambda data: data[:SIZE] + data[2 * SIZE :],
}


@pytest.mark.parametrize("change", CHANGES)
def test_missing_and_additional_bytes_are_no_end(change: str) -> None:
    data = DATA
    before, error = handed_on(ProvenReader(Pieces(CHANGES[change](data)), proof(data)))
    assert data.startswith(before) and len(before) in (0, 1000, 2000, 2500)
    assert isinstance(error, ChecksumMismatch) and error.hint


def test_an_object_that_should_be_empty_is() -> None:
    assert handed_on(ProvenReader(Pieces(b""), proof(b""))) == (b"", None)
    assert isinstance(handed_on(ProvenReader(Pieces(b"x"), proof(b"")))[1], ChecksumMismatch)


def test_the_sources_own_error_is_raised() -> None:
    data = bytes(2500)
    before, error = handed_on(ProvenReader(Pieces(data, fail_at=1500), proof(data)))
    assert before == data[:1000] and isinstance(error, SourceBroke)


def test_a_list_of_hashes_is_bound_to_its_place() -> None:
    """The right digests in another order prove nothing."""
    data = DATA
    right = proof(data)
    turned = dataclasses.replace(right, chunks=Chunks(SIZE, right.chunks.sha256[::-1]))
    assert handed_on(ProvenReader(Pieces(data), turned))[0] == b""
