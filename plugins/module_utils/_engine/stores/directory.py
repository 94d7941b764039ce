# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""A store in a directory: a disk of its own, a mounted network file system.

An object is written to a temporary file beside its place, synced, and then linked or renamed into it in one step; the
directory is synced after that.  Files are readable by their owner only, so are the directories made on the way.
:mod:`.filenames` says which file is which object.
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
from .base import ABSENT, TAKEN, Capabilities, DirectorySettings, ObjectInfo, Readable, check_key, read_all

if t.TYPE_CHECKING:
    from types import TracebackType

_TEMPORARY = ".tmp-"
#: Seconds after which a temporary file nobody wrote to is taken for the leftover of a writer that was killed.
_ABANDONED = 24 * 3600
_CHUNK = 1024 * 1024

_UNREACHABLE = frozenset(
    {errno.EIO, errno.ESTALE, errno.ENODEV, errno.ENXIO, errno.ENOTCONN, errno.ETIMEDOUT, errno.EHOSTDOWN}
)
_HINTS = {
    errno.ENOSPC: "the file system is full: make room, then run again",
    errno.EDQUOT: "the quota is used up: make room, then run again",
    errno.EROFS: "the file system is mounted read-only: look into the kernel's log, remount it",
    errno.EFBIG: "the file system can't hold a file of this size",
    errno.ELOOP: "there is a symbolic link in the place of an object: remove it",
    errno.ENAMETOOLONG: "the path is too long for this file system: use a shorter path for the store",
}


class DirectoryStore:
    """The store in ``settings.path``; see :class:`.base.Store` for what its methods do."""

    def __init__(self, settings: DirectorySettings) -> None:
        self._root = pathlib.Path(settings.path)
        if not self._root.is_absolute():
            raise ConfigurationError(
                f"the path {settings.path!a} of the backup directory is not absolute",
                hint="give a path that begins with /",
            )

    @property
    def location(self) -> str:
        """The directory."""
        return f"directory {self._root}"

    @property
    def facts(self) -> Destination:
        """What a file system always does."""
        return Destination(kind="directory", create_only=True, checksums=False)

    def url(self, key: str) -> str:
        """Path of the object's file."""
        return str(self._path(key))

    def put_if_absent(self, key: str, data: bytes) -> None:
        """Create the object; exactly one of several writers wins."""
        self._write(key, iter((data,)), replace=False)

    def put(self, key: str, data: bytes) -> None:
        """Create or replace the object."""
        self._write(key, iter((data,)), replace=True)

    def upload(self, key: str, source: Readable, *, size_hint: int | None = None) -> ObjectInfo:
        """Create the object from a stream; *size_hint* isn't needed here."""
        self._write(key, iter(lambda: source.read(_CHUNK), b""), replace=False)
        return self.head(key)

    def get(self, key: str, *, limit: int) -> bytes:
        """The whole object."""
        with self.open(key) as reader:
            return read_all(reader, limit=limit)

    def open(self, key: str) -> FileReader:
        """Begin to read the object."""
        path = self._path(key)
        with self._translated(f"{key!a} can't be read", "download", key):
            # Neither through a link nor, should somebody have put a pipe there, waiting for its other end.
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                return FileReader(descriptor, _info(key, os.fstat(descriptor)))
            except BaseException:
                os.close(descriptor)
                raise

    def head(self, key: str) -> ObjectInfo:
        """The object's size and time."""
        path = self._path(key)
        with self._translated(f"{key!a} can't be looked at", "store", key):
            return _info(key, os.lstat(path))

    def list(self, prefix: str) -> t.Iterator[ObjectInfo]:
        """All objects whose keys begin with *prefix*."""
        folder = filenames.folder_of(prefix)
        with self._translated(f"objects under {prefix!a} can't be listed", "list"):
            self._require_root()
            yield from self._walk(folder, prefix)

    def delete(self, key: str) -> None:
        """Remove the object; none there is no error."""
        path = self._path(key)
        with self._translated(f"{key!a} can't be deleted", "delete"):
            self._require_root()
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
                _sync_directory(path.parent)

    def sibling(self, bucket: str) -> DirectoryStore:
        """The directory of that name beside this one."""
        if "/" in bucket or "\0" in bucket or bucket in ("", ".", ".."):
            raise StoreError(f"{bucket!a} can't be the name of a directory beside {self._root}")
        if bucket == self._root.name:
            return self
        return DirectoryStore(DirectorySettings(str(self._root.parent / bucket)))

    def probe(self) -> Capabilities:
        """What a file system does by its nature; nothing is written.  Its checksums are not ours to know."""
        with self._translated("the directory can't be used", "store"):
            self._require_root()
        return Capabilities(create_only=True, multipart_create_only=True, checksums=False)

    def _path(self, key: str) -> pathlib.Path:
        check_key(key)
        return self._root / filenames.path_of(key)

    def _require_root(self) -> None:
        """A directory that isn't there holds no answer to what is in it."""
        if not self._root.is_dir():
            raise Unreachable(
                f"there is no directory {self._root}",
                hint="mount its file system, or create it (mode 0700, owned by the user that runs backups)",
            )

    @contextlib.contextmanager
    def _translated(self, message: str, phase: str, key: str | None = None) -> t.Iterator[None]:
        """OSError as an error of the store; a missing file is NotFound where *key* is given."""
        try:
            yield
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                self._require_root()
                if key is not None and error.errno == errno.ENOENT:
                    cause = f"in {self._root}"
                    raise NotFound(f"there is no object {key!a}", phase=phase, cause=cause, hint=ABSENT) from None
            raise _error(error, message, phase) from error

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
        """Write *chunks* and have them on the disk.  What the source raises passes through as it is."""
        with open(descriptor, "wb", buffering=0) as file:
            for chunk in chunks:
                with self._translated(message, "upload"):
                    view = memoryview(chunk)
                    while view:
                        view = view[file.write(view) :]
            with self._translated(message, "upload"):
                os.fsync(descriptor)

    def _link(self, temporary: pathlib.Path, path: pathlib.Path, key: str) -> None:
        """Give the file *temporary* its own name, which must be free."""
        try:
            os.link(temporary, path, follow_symlinks=False)
        except FileExistsError:
            raise _exists(key, path) from None
        try:
            temporary.unlink()
            _sync_directory(path.parent)
        except OSError:
            # What may be gone after a crash isn't stored.
            path.unlink()
            raise

    def _make_folders(self, folder: pathlib.Path) -> None:
        """Make the folders from the root down to *folder*, each one durably."""
        path = self._root
        for name in folder.relative_to(self._root).parts:
            parent, path = path, path / name
            with contextlib.suppress(FileExistsError):
                path.mkdir(0o700)
                _sync_directory(parent)

    def _walk(self, folder: str, prefix: str) -> t.Iterator[ObjectInfo]:
        try:
            with os.scandir(self._root / folder) as found:
                entries = list(found)
        except FileNotFoundError:
            return
        for entry in entries:
            below = f"{folder}/{entry.name}" if folder else entry.name
            if entry.is_dir(follow_symlinks=False):
                yield from self._walk(below, prefix)
            elif entry.is_file(follow_symlinks=False) and not entry.name.startswith("."):
                key = _key_of(below)
                if key is not None and key.startswith(prefix):
                    # An object deleted in the meantime is none.
                    with contextlib.suppress(FileNotFoundError):
                        yield _info(key, entry.stat(follow_symlinks=False))


class FileReader:
    """An object of a directory being read; see :class:`.base.ObjectReader`."""

    def __init__(self, descriptor: int, info: ObjectInfo) -> None:
        self.info = info
        self.size = info.size
        self._position = 0
        self._file: t.BinaryIO = open(descriptor, "rb", buffering=0)  # noqa: SIM115 (close() does)

    def read(self, n: int, /) -> bytes:
        """The next bytes of the object."""
        if n <= 0 or self._position == self.size:
            return b""
        try:
            data = self._file.read(min(n, self.size - self._position))
        except OSError as error:
            raise _error(error, f"{self.info.key!a} can't be read", "download") from error
        if not data:
            raise StoreError(
                f"{self.info.key!a} ended after {self._position} of {self.size} bytes",
                phase="download",
                cause="the file was cut while it was read",
                hint="look into who else writes to the directory",
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
            hint="look into who else writes to the directory",
        )
    return ObjectInfo(
        key=key,
        size=status.st_size,
        modified=datetime.datetime.fromtimestamp(status.st_mtime, datetime.timezone.utc),
        etag=f"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}",
    )


def _is_taken(path: pathlib.Path) -> bool:
    """Whether anything has this name, a dangling link included."""
    try:
        path.lstat()
    except FileNotFoundError:
        return False
    return True


def _exists(key: str, path: pathlib.Path) -> AlreadyExists:
    return AlreadyExists(f"{key!a} exists already", phase="upload", cause=f"the file {path} is there", hint=TAKEN)


def _key_of(path: str) -> str | None:
    """The object's key; ``None`` for a name that isn't UTF-8 or that we don't give."""
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return None
    return filenames.key_of(path)


def _sweep(folder: pathlib.Path) -> None:
    """Remove what writers that were killed left in *folder*."""
    with os.scandir(folder) as found:
        for entry in found:
            if re.match(re.escape(_TEMPORARY) + r"[0-9a-f]{16}\Z", entry.name):
                # Another writer's file may have got its name, or have been swept, by now.
                with contextlib.suppress(FileNotFoundError):
                    if time.time() - entry.stat(follow_symlinks=False).st_mtime > _ABANDONED:
                        pathlib.Path(entry.path).unlink()


def _sync_directory(path: pathlib.Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _error(error: OSError, message: str, phase: str) -> StoreError:
    number = error.errno or 0
    cause = f"{error.strerror}: {error.filename}" if error.filename else str(error.strerror)
    if number in (errno.EACCES, errno.EPERM):
        return AccessDenied(
            message,
            phase=phase,
            cause=cause,
            hint="the directory and what is in it must belong to the user that runs backups and restores; "
            "its file system must know hard links",
        )
    if number in _UNREACHABLE:
        return Unreachable(message, phase=phase, cause=cause, hint="look into the disk or the mount of the directory")
    return StoreError(message, phase=phase, cause=cause, hint=_HINTS.get(number, "look into the directory by hand"))
