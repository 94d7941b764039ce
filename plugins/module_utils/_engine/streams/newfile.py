# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Creates a file that only its owner can read, and that has its name only once it is complete.

Until then it has a temporary name in the same directory.  Nothing that exists is replaced.  No other user can lead the
path elsewhere, because each of its directories belongs to root or to the caller, and others may write to it only if it
is sticky, where they cannot replace what is not theirs.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import secrets
import stat
import typing as t

from ..errors import ConfigurationError, StreamError

if t.TYPE_CHECKING:
    import typing_extensions as te

_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
#: Characters of the name that its temporary name repeats.
_SHOWN = 48


class NewFile:
    """A context in which the file is written.  Without :meth:`complete` nothing is left of it at the end.

    A process that is killed leaves the temporary file behind, which begins with a dot and ends with ``.part``.

    :param path: absolute.
    :raises ConfigurationError: if the file must not or cannot be created there.
    """

    def __init__(self, path: str) -> None:
        self._path = pathlib.Path(path)
        if not self._path.is_absolute() or ".." in self._path.parts or path.endswith("/") or not self._path.name:
            raise ConfigurationError(
                f"{path} is not the absolute path of a file",
                hint="give a path that begins with /, without .., that ends with the name of the new file",
            )
        folder = self._path.parent
        try:
            _require_own(folder)
            _require_own(folder.resolve(strict=True))
            self._folder = os.open(folder.resolve(strict=True), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as exc:
            raise ConfigurationError(
                f"{path} cannot be created", cause=exc.strerror or "", hint=f"is {folder} a directory of yours?"
            ) from None
        self._temporary = f".{self._path.name[:_SHOWN]}.{secrets.token_hex(8)}.part"
        self._descriptor = -1

    def __enter__(self) -> te.Self:
        try:
            if _exists(self._path.name, self._folder):
                raise self._taken()
            with self._translated():
                self._descriptor = os.open(self._temporary, _FLAGS, 0o600, dir_fd=self._folder)
        except BaseException:
            os.close(self._folder)
            raise
        return self

    def __exit__(self, *_exception: object) -> None:
        try:
            if self._descriptor >= 0:
                os.close(self._descriptor)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._temporary, dir_fd=self._folder)
        finally:
            os.close(self._folder)

    def write(self, chunk: bytes) -> None:
        """Append *chunk*.

        :raises StreamError: if it cannot be written.
        """
        with self._translated():
            view = memoryview(chunk)
            while view:
                view = view[os.write(self._descriptor, view) :]

    def complete(self) -> None:
        """Give the file its name, once its bytes have reached the disk.

        :raises ConfigurationError: if the name has been taken meanwhile.
        :raises StreamError: if that fails otherwise; then the file does not exist.
        """
        with self._translated():
            os.fsync(self._descriptor)
            try:
                # Unlike a renaming, this replaces nothing.
                os.link(
                    self._temporary,
                    self._path.name,
                    src_dir_fd=self._folder,
                    dst_dir_fd=self._folder,
                    follow_symlinks=False,
                )
            except FileExistsError:
                raise self._taken() from None
            try:
                os.unlink(self._temporary, dir_fd=self._folder)
                os.fsync(self._folder)
            except OSError:
                os.unlink(self._path.name, dir_fd=self._folder)
                raise

    def _taken(self) -> ConfigurationError:
        return ConfigurationError(
            f"{self._path} exists", hint="choose another name, or remove it; nothing was replaced"
        )

    @contextlib.contextmanager
    def _translated(self) -> t.Iterator[None]:
        try:
            yield
        except OSError as exc:
            raise StreamError(
                f"{self._path} cannot be written",
                phase="write",
                cause=exc.strerror or "",
                hint="make room or choose another directory, on a file system that knows hard links; nothing was left",
            ) from None


def _exists(name: str, folder: int) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _require_own(folder: pathlib.Path) -> None:
    """Raise if another user could replace *folder*, or what is above it, by something else.

    :raises OSError: if it cannot be examined.
    """
    own = (0, os.geteuid())
    for each in (folder, *folder.parents):
        found = each.lstat()
        # The mode of a symbolic link means nothing.
        shared = not stat.S_ISLNK(found.st_mode) and found.st_mode & 0o022 and not found.st_mode & stat.S_ISVTX
        if found.st_uid not in own or shared:
            reason = "others may write to it" if shared else "it belongs to another user"
            raise ConfigurationError(
                f"no file is created below {each}",
                cause=f"{reason}, who could lead the path elsewhere",
                hint="choose a directory whose whole path belongs to you or root, such as your home directory",
            )
