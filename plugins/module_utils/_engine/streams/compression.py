# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Compression, both ways, as readers that pull from a source.  :data:`METHODS` has one row for each method."""

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

# zlib's number for "gzip header and trailer, largest window".
_GZIP_WINDOW = 31
# One zstd block of 4 bytes may expand to 128 KiB.  Fed in slices of this size, a bomb unpacks at most 64 MiB between
# two looks at the limit.
_ZSTD_SLICE = 2048


@dataclasses.dataclass(frozen=True)
class Compression:
    """How a stream is compressed.

    :param method: a name in :data:`METHODS`.
    :param level: one of the method's; ``None``: its default.
    :raises ConfigurationError: an unknown method, or a level that it doesn't have.
    """

    method: str = "gzip"
    level: int | None = None

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ConfigurationError(f"unknown compression method {self.method!r}", hint="one of " + ", ".join(METHODS))
        lowest, highest, default = METHODS[self.method].levels
        if self.level is None:
            object.__setattr__(self, "level", default)
        elif not lowest <= self.level <= highest:
            raise ConfigurationError(
                f"compression level {self.level} is not one of {self.method}", hint=f"{lowest} to {highest}"
            )

    @property
    def suffix(self) -> str:
        """What the method adds to the name of a file: ``.gz``."""
        return METHODS[self.method].suffix


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
                # Only here, after the source has proven its end, is the trailer written.
                out = self._compressor.flush()
                self._compressor = None
            if out:
                return out
        return b""

    def close(self) -> None:
        self._source.close()


def compressing_reader(source: Readable, compression: Compression) -> ChunkReader:
    """*source*, compressed.

    :raises LibraryMissing: the method's library is not installed; nothing slower silently takes its place.
    """
    method = METHODS[compression.method]
    method.require()
    return method.compressing(source, t.cast(int, compression.level))


class _Decompressing(ChunkReader):
    """Frames (gzip members, zstd frames) one after the other until the source's proven end, nothing else between."""

    method = ""

    def __init__(self, source: Readable) -> None:
        super().__init__()
        self._source = source
        # Compressed bytes that the decompressor has not been given yet.
        self._input = b""

    def _damaged(self, what: str, cause: str = "") -> DamagedObject:
        return DamagedObject(
            f"the {self.method} data {what}",
            phase="decompress",
            cause=cause,
            hint="the object is incomplete or altered: take another backup",
        )

    def _another_frame(self, magic: bytes) -> bool:
        """Whether the source goes on with *magic*; its proven end here is the stream's own."""
        while len(self._input) < len(magic):
            chunk = self._source.read(CHUNK)
            if not chunk:
                break
            self._input += chunk
        if not self._input:
            return False
        if not self._input.startswith(magic):
            raise self._damaged("is followed by something else")
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
                if not self._another_frame(METHODS[self.method].magic):
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
                if not self._another_frame(METHODS[self.method].magic):
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
                f"the data is larger than the {self._limit} bytes it may have",
                phase="decompress",
                hint="the object is not what it claims to be, or the limit is too small",
            )
        return chunk

    def close(self) -> None:
        self._source.close()


def decompressing_reader(source: Readable, *, limit: int | None = None) -> ChunkReader:
    """*source*, decompressed as its first bytes say, or as it is.

    :param limit: most bytes that may come out; more is an error as soon as it is met.
    :raises LibraryMissing: at the first read, if the library of the method is not installed.
    :raises DamagedObject: at a read: truncated, altered, or followed by something else.
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
            method = METHODS[method_of(self._source.peek(METHOD_SIZE))]
            method.require()
            self._reader = method.decompressing(self._source)
        return self._reader.read(CHUNK)

    def close(self) -> None:
        self._source.close()


# Methods ------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Method:
    """One way to compress.

    :param name: as settings and manifests have it.
    :param suffix: what it adds to the name of a file.
    :param magic: the first bytes of its output; ``b""``: any.
    :param levels: the lowest, the highest, and the default.
    :param library: the Python package that it needs; ``""``: none.
    :param installed: whether that package can be imported.
    :param compressing: a reader of a source's compressed bytes, at a level.
    :param decompressing: a reader of a compressed source's bytes.
    """

    name: str
    suffix: str
    magic: bytes
    levels: tuple[int, int, int]
    library: str
    installed: t.Callable[[], bool]
    compressing: t.Callable[[Readable, int], ChunkReader]
    decompressing: t.Callable[[Peekable], ChunkReader]

    def require(self) -> None:
        """Raise LibraryMissing if the package is not installed."""
        if not self.installed():
            raise LibraryMissing(
                f"the Python library {self.library} is needed for {self.name} and is not installed",
                hint=f"install the Python package {self.library} for the interpreter in use",
            )


def _gzipping(source: Readable, level: int) -> ChunkReader:
    return _Compressing(source, isal_zlib.compressobj(level, isal_zlib.DEFLATED, _GZIP_WINDOW))


def _zstding(source: Readable, level: int) -> ChunkReader:
    return _Compressing(source, zstandard.ZstdCompressor(level=level, write_checksum=True).compressobj())


_ALL = (
    # ISA-L has four levels of gzip; its 1 is as small as gzip's default and several times as fast.
    Method(
        *("gzip", ".gz", b"\x1f\x8b", (0, 3, 1)),
        *("isal", lambda: isal_zlib is not None),
        *(_gzipping, _Gunzipping),
    ),
    Method(
        *("zstd", ".zst", b"\x28\xb5\x2f\xfd", (1, 22, 3)),
        *("zstandard", lambda: zstandard is not None),
        *(_zstding, _Unzstding),
    ),
    Method(
        *("none", "", b"", (0, 0, 0)),
        *("", lambda: True),
        *(lambda source, _level: Peekable(source), lambda source: source),
    ),
)
#: The methods by their names; there is no other list of them.
METHODS: t.Mapping[str, Method] = {method.name: method for method in _ALL}
#: Bytes to look at for :func:`method_of`.
METHOD_SIZE = max(len(method.magic) for method in METHODS.values())


def method_of(head: bytes) -> str:
    """The name of the method, from the first :data:`METHOD_SIZE` bytes of a stream."""
    found = (name for name, method in METHODS.items() if method.magic and head.startswith(method.magic))
    return next(found, "none")
