# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Readers that compress and decompress a source with gzip (ISA-L) or zstd."""

from __future__ import annotations

import dataclasses
import typing as t

from ..errors import ConfigurationError, DamagedObject, LibraryMissing
from .flow import CHUNK, ChunkReader, Peekable, Readable

try:
    from isal import igzip_lib, isal_zlib
except ImportError:
    igzip_lib = isal_zlib = None  # type: ignore[assignment]
try:
    import zstandard
except ImportError:
    zstandard = None  # type: ignore[assignment]

GZIP_MAGIC = b"\x1f\x8b"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
#: Number of bytes that :func:`method_of` needs.
METHOD_SIZE = len(ZSTD_MAGIC)

#: Levels a method takes (lowest, highest, the one used where none is asked for).  ISA-L has four levels; its 1 is as
#: small as gzip's default and several times as fast.
LEVELS: dict[str, tuple[int, int, int]] = {"none": (0, 0, 0), "gzip": (0, 3, 1), "zstd": (1, 22, 3)}

# zlib's number for "gzip header and trailer, largest window".
_GZIP_WINDOW = 31
# A zstd block of 4 bytes may decompress to 128 KiB.  With slices of this size, a decompression bomb produces at most
# 64 MiB between two checks of the limit.
_ZSTD_SLICE = 2048


@dataclasses.dataclass(frozen=True)
class Compression:
    """How a stream is compressed.

    :param method: ``gzip``, ``zstd`` or ``none``.
    :param level: see :data:`LEVELS`; ``None`` for the method's default.
    :raises ConfigurationError: if the method is unknown or does not support the level.
    """

    method: str = "gzip"
    level: int | None = None

    def __post_init__(self) -> None:
        if self.method not in LEVELS:
            raise ConfigurationError(
                f"unknown compression method {self.method!r}", hint="use one of " + ", ".join(sorted(LEVELS))
            )
        lowest, highest, default = LEVELS[self.method]
        if self.level is None:
            object.__setattr__(self, "level", default)
        elif not lowest <= self.level <= highest:
            raise ConfigurationError(
                f"{self.method} does not support the compression level {self.level}",
                hint=f"use a level from {lowest} to {highest}",
            )


class _Compressor(t.Protocol):
    def compress(self, data: bytes, /) -> bytes: ...

    def flush(self) -> bytes: ...


class _Compressing(ChunkReader):
    def __init__(self, source: Readable, compressor: _Compressor) -> None:
        super().__init__()
        self._source = source
        self._compressor: _Compressor | None = compressor

    def _next_chunk(self) -> bytes:
        while self._compressor is not None:
            chunk = self._source.read(CHUNK)
            if chunk:
                out = self._compressor.compress(chunk)
            else:
                # The trailer is written only now, after the source has proven its end.
                out = self._compressor.flush()
                self._compressor = None
            if out:
                return out
        return b""

    def close(self) -> None:
        self._source.close()


def compressing_reader(source: Readable, compression: Compression) -> ChunkReader:
    """*source*, compressed.

    :raises LibraryMissing: if the method's library is not installed; no slower one silently replaces it.
    """
    if compression.method == "none":
        return Peekable(source)
    _require(compression.method)
    level = t.cast(int, compression.level)
    if compression.method == "gzip":
        return _Compressing(source, isal_zlib.compressobj(level, isal_zlib.DEFLATED, _GZIP_WINDOW))
    return _Compressing(source, zstandard.ZstdCompressor(level=level, write_checksum=True).compressobj())


class _Decompressing(ChunkReader):
    """Reads frames (gzip members, zstd frames) until the source's proven end; nothing else may be between them."""

    method = ""

    def __init__(self, source: Readable) -> None:
        super().__init__()
        self._source = source
        # Compressed bytes that have not been passed to the decompressor yet.
        self._input = b""

    def _damaged(self, what: str, cause: str = "") -> DamagedObject:
        return DamagedObject(
            f"the {self.method} data {what}",
            phase="decompress",
            cause=cause,
            hint="the object is incomplete or altered: choose another backup",
        )

    def _another_frame(self, magic: bytes) -> bool:
        """Whether the source continues with *magic*; its proven end here is also the end of the stream."""
        while len(self._input) < len(magic):
            chunk = self._source.read(CHUNK)
            if not chunk:
                break
            self._input += chunk
        if not self._input:
            return False
        if not self._input.startswith(magic):
            raise self._damaged("is followed by unexpected data")
        return True

    def close(self) -> None:
        self._source.close()


class _Gunzipping(_Decompressing):
    method = "gzip"

    def __init__(self, source: Readable) -> None:
        super().__init__(source)
        self._member: igzip_lib.IgzipDecompressor | None = None

    def _next_chunk(self) -> bytes:
        while True:
            if self._member is None:
                if not self._another_frame(GZIP_MAGIC):
                    return b""
                self._member = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
            if self._member.needs_input and not self._input:
                self._input = self._source.read(CHUNK)
                if not self._input:
                    raise self._damaged("ends before its trailer")
            data, self._input = self._input, b""
            try:
                out = self._member.decompress(data, CHUNK)
            except igzip_lib.error as exc:  # type: ignore[misc]  # declared as an instance
                raise self._damaged("is damaged", str(exc)) from exc
            if self._member.eof:
                self._input = self._member.unused_data
                self._member = None
            if out:
                return out


class _Unzstding(_Decompressing):
    method = "zstd"

    def __init__(self, source: Readable) -> None:
        super().__init__(source)
        self._frame: t.Any = None
        self._taken = 0

    def _next_chunk(self) -> bytes:
        while True:
            if self._frame is None:
                self._input, self._taken = self._input[self._taken :], 0
                if not self._another_frame(ZSTD_MAGIC):
                    return b""
                self._frame = zstandard.ZstdDecompressor().decompressobj()
            if self._taken == len(self._input):
                self._input, self._taken = self._source.read(CHUNK), 0
                if not self._input:
                    raise self._damaged("ends before its last block")
            data = self._input[self._taken : self._taken + _ZSTD_SLICE]
            self._taken += len(data)
            try:
                out: bytes = self._frame.decompress(data)
            except zstandard.ZstdError as exc:
                raise self._damaged("is damaged", str(exc)) from exc
            if self._frame.eof:
                self._taken -= len(self._frame.unused_data)
                self._frame = None
            if out:
                return out


class _Limited(ChunkReader):
    def __init__(self, source: ChunkReader, limit: int) -> None:
        super().__init__()
        self._source = source
        self._limit = limit
        self._size = 0

    def _next_chunk(self) -> bytes:
        chunk = self._source.read(CHUNK)
        self._size += len(chunk)
        if self._size > self._limit:
            raise DamagedObject(
                f"the data is larger than the limit of {self._limit} bytes",
                phase="decompress",
                hint="the object is not the expected backup, or the limit is too low",
            )
        return chunk

    def close(self) -> None:
        self._source.close()


def decompressing_reader(source: Readable, *, limit: int | None = None) -> ChunkReader:
    """*source*, decompressed according to its first bytes: gzip, zstd or unchanged.

    :param limit: maximum size of the decompressed data, in bytes; exceeding it is an error.
    :raises LibraryMissing: on the first read, if the library for the detected method is not installed.
    :raises DamagedObject: on read, if the data is truncated, altered or followed by other data.
    """
    reader = _Detecting(source)
    return reader if limit is None else _Limited(reader, limit)


class _Detecting(ChunkReader):
    def __init__(self, source: Readable) -> None:
        super().__init__()
        self._source = Peekable(source)
        self._reader: ChunkReader | None = None

    def _next_chunk(self) -> bytes:
        if self._reader is None:
            method = method_of(self._source.peek(METHOD_SIZE))
            _require(method)
            self._reader = {"gzip": _Gunzipping, "zstd": _Unzstding}.get(method, Peekable)(self._source)
        return self._reader.read(CHUNK)

    def close(self) -> None:
        self._source.close()


def method_of(head: bytes) -> str:
    """``gzip``, ``zstd`` or ``none``, from the first :data:`METHOD_SIZE` bytes of a stream."""
    if head.startswith(GZIP_MAGIC):
        return "gzip"
    if head.startswith(ZSTD_MAGIC):
        return "zstd"
    return "none"


def _require(method: str) -> None:
    """Raise LibraryMissing if the library of *method* is missing."""
    libraries = {"gzip": ("isal", isal_zlib), "zstd": ("zstandard", zstandard)}
    name, library = libraries.get(method, ("", method))
    if library is None:
        raise LibraryMissing(
            f"the Python library {name}, which {method} needs, is not installed",
            hint=f"install the Python package {name} for this Python interpreter",
        )
