# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""A store in a directory, such as a separate disk or a mounted network file system.

An object is written to a temporary file in its directory, synced, and then linked or renamed to its name in one step;
then the directory is synced.  Only their owner can read the files and the directories that the store creates.
:mod:`.filenames` maps keys to files.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import os
import pathlib
import re
import secrets
import stat
import time
import typing as t

from ..domain.manifest import Destination
from ..errors import AccessDenied, AlreadyExists, ConfigurationError, NotFound, StoreError, Unreachable
from . import filenames
from .base import (
    ABSENT,
    PROBE_KEY,
    PROBE_TEXT,
    TAKEN,
    Capabilities,
    DirectorySettings,
    ObjectInfo,
    Readable,
    check_key,
    read_all,
)

if t.TYPE_CHECKING:
    from types import TracebackType

_TEMPORARY = ".tmp-"
#: Seconds after its last write when a temporary file is considered the leftover of a killed writer.
_ABANDONED = 24 * 3600
_CHUNK = 1024 * 1024

_UNREACHABLE = frozenset(
    {errno.EIO, errno.ESTALE, errno.ENODEV, errno.ENXIO, errno.ENOTCONN, errno.ETIMEDOUT, errno.EHOSTDOWN}
)
_HINTS = {
    errno.ENOSPC: "the file system is full: free some space or enlarge it, then run again",
    errno.EDQUOT: "the quota is used up: free some space, then run again",
    errno.EROFS: "the file system is mounted read-only: check the kernel log, then remount it",
    errno.EFBIG: "the file system does not support files of this size",
    errno.ELOOP: "a symbolic link is in the place of the object: remove it",
    errno.ENAMETOOLONG: "the path is too long for this file system: use a shorter path for the store",
}


class DirectoryStore:
    """The store in the directory ``settings.path``; :class:`.base.Store` documents its methods."""

    def __init__(self, settings: DirectorySettings) -> None:
        self._root = pathlib.Path(settings.path)
        if not self._root.is_absolute():
            raise ConfigurationError(
                f"the path {settings.path!a} of the backup directory is not absolute",
                hint="use a path that begins with /",
            )
        self._clock_offset: float | None = None

    @property
    def location(self) -> str:
        """Description of the directory."""
        return f"directory {self._root}"

    @property
    def facts(self) -> Destination:
        """The capabilities of every file system."""
        return Destination(kind="directory", create_only=True, checksums=False)

    def url(self, key: str) -> str:
        """Path of the object's file."""
        return str(self._path(key))

    def put_if_absent(self, key: str, data: bytes) -> None:
        """Create the object; exactly one of several writers succeeds."""
        self._write(key, iter((data,)), replace=False)

    def put(self, key: str, data: bytes) -> None:
        """Create or replace the object."""
        self._write(key, iter((data,)), replace=True)

    def upload(self, key: str, source: Readable, *, size_hint: int | None = None) -> ObjectInfo:
        """Create the object from a stream; *size_hint* is not used."""
        self._write(key, iter(lambda: source.read(_CHUNK), b""), replace=False)
        return self.head(key)

    def get(self, key: str, *, limit: int) -> bytes:
        """Return the whole object."""
        with self.open(key) as reader:
            return read_all(reader, limit=limit)

    def open(self, key: str) -> FileReader:
        """Open the object for reading."""
        path = self._path(key)
        with self._translated(f"{key!a} can't be read", "download", key):
            # Follows no link, and does not block if the file is a named pipe.
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                return FileReader(descriptor, _info(key, os.fstat(descriptor)))
            except BaseException:
                os.close(descriptor)
                raise

    def head(self, key: str) -> ObjectInfo:
        """Return the object's size and modification time."""
        path = self._path(key)
        with self._translated(f"{key!a} can't be inspected", "store", key):
            return _info(key, os.lstat(path))

    def list(self, prefix: str) -> t.Iterator[ObjectInfo]:
        """Return all objects whose keys begin with *prefix*."""
        folder = filenames.folder_of(prefix)
        with self._translated(f"objects under {prefix!a} can't be listed", "list"):
            self._require_root()
            yield from self._walk(folder, prefix)

    def delete(self, key: str) -> None:
        """Delete the object; it is not an error if it does not exist."""
        path = self._path(key)
        with self._translated(f"{key!a} can't be deleted", "delete"):
            self._require_root()
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
                _sync_directory(path.parent)

    def sibling(self, bucket: str) -> DirectoryStore:
        """Return the store in the directory named *bucket* with the same parent."""
        if "/" in bucket or "\0" in bucket or bucket in ("", ".", ".."):
            raise StoreError(f"invalid bucket name {bucket!a}: it must name a directory in {self._root.parent}")
        if bucket == self._root.name:
            return self
        return DirectoryStore(DirectorySettings(str(self._root.parent / bucket)))

    def try_write(self, key: str) -> None:
        """Write the object *key* anew: on a file system that is full, an existing object would prove nothing."""
        self.put(key, PROBE_TEXT)
        # A file server sets the time of the file by its own clock.
        self._clock_offset = self.head(key).modified.timestamp() - time.time()

    def probe(self, key: str = PROBE_KEY) -> Capabilities:
        """Write the object *key*; the capabilities are those of every file system, whose checksums are not visible."""
        self.try_write(key)
        return Capabilities(create_only=True, multipart_create_only=True, checksums=False)

    def protection(self) -> None:
        """A file system keeps nothing that was deleted."""

    @property
    def clock_offset(self) -> float | None:
        """Seconds that the clock of the file system is ahead, from the time of the object last tried."""
        return self._clock_offset

    def _path(self, key: str) -> pathlib.Path:
        check_key(key)
        return self._root / filenames.path_of(key)

    def _require_root(self) -> None:
        """Raise Unreachable if the directory is missing, because then nothing is known about its objects."""
        if not self._root.is_dir():
            raise Unreachable(
                f"the directory {self._root} does not exist",
                hint="mount its file system, or create it (mode 0700, owner: the user that runs backups)",
            )

    @contextlib.contextmanager
    def _translated(self, message: str, phase: str, key: str | None = None) -> t.Iterator[None]:
        """Translate OSError to an error of the store; a missing file is NotFound if *key* is given."""
        try:
            yield
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                self._require_root()
                if key is not None and error.errno == errno.ENOENT:
                    cause = f"it is not in {self._root}"
                    raise NotFound(
                        f"the object {key!a} does not exist", phase=phase, cause=cause, hint=ABSENT
                    ) from None
            raise _error(error, message, phase, where=str(self._root)) from error

    def _write(self, key: str, chunks: t.Iterator[bytes], *, replace: bool) -> None:
        path = self._path(key)
        with self._translated(f"{key!a} can't be written", "upload"):
            self._require_root()
            if not replace and _is_taken(path):
                raise _exists(key, path)
            folder = path.parent
            self._make_folders(folder)
            _sweep(folder)
            temporary = folder / (_TEMPORARY + secrets.token_hex(8))
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            self._fill(descriptor, chunks, f"{key!a} can't be written")
            with self._translated(f"{key!a} can't be written", "upload"):
                if replace:
                    temporary.replace(path)
                    _sync_directory(folder)
                else:
                    self._link(temporary, path, key)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise

    def _fill(self, descriptor: int, chunks: t.Iterator[bytes], message: str) -> None:
        """Write *chunks* and sync them to the disk.  Errors of the source are raised unchanged."""
        with open(descriptor, "wb", buffering=0) as file:
            for chunk in chunks:
                with self._translated(message, "upload"):
                    view = memoryview(chunk)
                    while view:
                        view = view[file.write(view) :]
            with self._translated(message, "upload"):
                os.fsync(descriptor)

    def _link(self, temporary: pathlib.Path, path: pathlib.Path, key: str) -> None:
        """Link the file *temporary* to *path*, which must not exist."""
        try:
            os.link(temporary, path, follow_symlinks=False)
        except FileExistsError:
            raise _exists(key, path) from None
        try:
            temporary.unlink()
            _sync_directory(path.parent)
        except OSError:
            # An object that a crash may still remove does not count as stored.
            path.unlink()
            raise

    def _make_folders(self, folder: pathlib.Path) -> None:
        """Create the folders from the root down to *folder*, and sync each one."""
        path = self._root
        for name in folder.relative_to(self._root).parts:
            parent, path = path, path / name
            with contextlib.suppress(FileExistsError):
                path.mkdir(0o700)
                _sync_directory(parent)

    def _walk(self, folder: str, prefix: str) -> t.Iterator[ObjectInfo]:
        try:
            with os.scandir(self._root / folder) as listing:
                entries = list(listing)
        except FileNotFoundError:
            return
        for entry in entries:
            below = f"{folder}/{entry.name}" if folder else entry.name
            if entry.is_dir(follow_symlinks=False):
                yield from self._walk(below, prefix)
            elif entry.is_file(follow_symlinks=False) and not entry.name.startswith("."):
                key = _key_of(below)
                if key is not None and key.startswith(prefix):
                    # The object may have been deleted in the meantime.
                    with contextlib.suppress(FileNotFoundError):
                        yield _info(key, entry.stat(follow_symlinks=False))


class FileReader:
    """A reader of an object in a directory; see :class:`.base.ObjectReader`."""

    def __init__(self, descriptor: int, info: ObjectInfo) -> None:
        self.info = info
        self.size = info.size
        self._position = 0
        self._file: t.BinaryIO = open(descriptor, "rb", buffering=0)  # noqa: SIM115 (close() does)

    def read(self, n: int, /) -> bytes:
        """Return the next bytes of the object."""
        if n <= 0 or self._position == self.size:
            return b""
        try:
            data = self._file.read(min(n, self.size - self._position))
        except OSError as error:
            raise _error(error, f"{self.info.key!a} can't be read", "download", where="the object's file") from error
        if not data:
            raise StoreError(
                f"{self.info.key!a} ended after {self._position} of {self.size} bytes",
                phase="download",
                cause="the file was truncated while it was read",
                hint="find out who else writes to the directory",
            )
        self._position += len(data)
        return data

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> FileReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self.close()


def _info(key: str, status: os.stat_result) -> ObjectInfo:
    if not stat.S_ISREG(status.st_mode):
        raise StoreError(
            f"{key!a} is not a regular file",
            hint="find out who else writes to the directory",
        )
    return ObjectInfo(
        key=key,
        size=status.st_size,
        modified=datetime.datetime.fromtimestamp(status.st_mtime, datetime.timezone.utc),
        etag=f"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}",
    )


def _is_taken(path: pathlib.Path) -> bool:
    """Whether *path* exists, including a dangling link."""
    try:
        path.lstat()
    except FileNotFoundError:
        return False
    return True


def _exists(key: str, path: pathlib.Path) -> AlreadyExists:
    return AlreadyExists(
        f"the object {key!a} already exists", phase="upload", cause=f"the file {path} exists", hint=TAKEN
    )


def _key_of(path: str) -> str | None:
    """The object's key; ``None`` for a name that is not UTF-8 or that this store does not use."""
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return None
    return filenames.key_of(path)


def _sweep(folder: pathlib.Path) -> None:
    """Remove the temporary files that killed writers have left in *folder*."""
    with os.scandir(folder) as listing:
        for entry in listing:
            if re.match(re.escape(_TEMPORARY) + r"[0-9a-f]{16}\Z", entry.name):
                # By now another writer may have renamed or removed the file.
                with contextlib.suppress(FileNotFoundError):
                    if time.time() - entry.stat(follow_symlinks=False).st_mtime > _ABANDONED:
                        pathlib.Path(entry.path).unlink()


def _sync_directory(path: pathlib.Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _error(error: OSError, message: str, phase: str, *, where: str) -> StoreError:
    """Translate *error*, which happened in *where* if it names no file itself."""
    number = error.errno or 0
    cause = f"{error.strerror}: {error.filename or where}"
    if number in (errno.EACCES, errno.EPERM):
        return AccessDenied(
            message,
            phase=phase,
            cause=cause,
            hint="the user that runs backups and restores must own the directory and everything in it, and the file "
            "system must support hard links",
        )
    if number in _UNREACHABLE:
        return Unreachable(message, phase=phase, cause=cause, hint="check the disk or the mount of the directory")
    return StoreError(message, phase=phase, cause=cause, hint=_HINTS.get(number, "inspect the directory"))
