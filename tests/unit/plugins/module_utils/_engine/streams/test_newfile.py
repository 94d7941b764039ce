# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import contextlib
import os
import pathlib
import tempfile
import typing as t

import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine.errors import ConfigurationError, StreamError
from ansible_collections.infrazero.database.plugins.module_utils._engine.streams.newfile import NewFile

#: Somebody else.
OTHER = 12345

only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to others")


@pytest.fixture
def folder() -> t.Iterator[pathlib.Path]:
    """A directory of our own in one that is everybody's, as /tmp is."""
    with tempfile.TemporaryDirectory(dir="/tmp") as path:
        yield pathlib.Path(path)


def write(path: pathlib.Path | str, data: bytes = b"secret") -> None:
    with NewFile(str(path)) as file:
        file.write(data)
        file.complete()


def test_the_file_is_there_once_it_is_complete(folder: pathlib.Path) -> None:
    path = folder / "dump.sql"
    with NewFile(str(path)) as file:
        file.write(b"one")
        assert not path.exists()
        (temporary,) = folder.iterdir()
        assert temporary.name.startswith(".dump.sql.") and temporary.name.endswith(".part")
        assert temporary.stat().st_mode & 0o777 == 0o600
        file.write(b" two")
        file.complete()
    assert path.read_bytes() == b"one two" and path.stat().st_mode & 0o777 == 0o600
    assert list(folder.iterdir()) == [path] and path.stat().st_nlink == 1


def test_nothing_is_left_of_one_that_is_not(folder: pathlib.Path) -> None:
    with contextlib.suppress(KeyboardInterrupt), NewFile(str(folder / "dump.sql")) as file:
        file.write(b"one")
        raise KeyboardInterrupt
    with NewFile(str(folder / "dump.sql")):
        pass
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("kind", ["file", "directory", "link", "dangling link", "fifo"])
def test_what_exists_is_not_replaced_and_not_followed(folder: pathlib.Path, kind: str) -> None:
    path, target = folder / "dump.sql", folder / "target"
    target.write_text("target")

    def make() -> None:
        if kind == "file":
            path.write_text("old")
        elif kind == "directory":
            path.mkdir()
        elif kind == "fifo":
            os.mkfifo(path)
        else:
            path.symlink_to(target if kind == "link" else folder / "nowhere")

    with NewFile(str(path)) as file:
        file.write(b"secret")
        make()  # while it is written
        with pytest.raises(ConfigurationError, match="exists"):
            file.complete()
    before = path.lstat()
    with pytest.raises(ConfigurationError, match="exists"):
        write(path)
    assert path.lstat() == before and target.read_text() == "target"
    assert {one.name for one in folder.iterdir()} == {"dump.sql", "target"}


@pytest.mark.parametrize("path", ["dump.sql", "./dump.sql", "/tmp/../dump.sql", "/", "/tmp/", "", "-"])
def test_what_is_no_path_of_a_file(path: str) -> None:
    with pytest.raises(ConfigurationError, match="absolute path"):
        NewFile(path)


def test_a_directory_that_is_missing_or_none(folder: pathlib.Path) -> None:
    (folder / "file").touch()
    for path in (folder / "missing" / "dump.sql", folder / "file" / "dump.sql"):
        with pytest.raises(ConfigurationError, match="cannot be created"):
            write(path)


@pytest.mark.parametrize("mode", [0o777, 0o775, 0o757])
def test_a_directory_that_others_may_write_to(folder: pathlib.Path, mode: int) -> None:
    shared = folder / "shared"
    (shared / "own").mkdir(parents=True)
    shared.chmod(mode)
    for path in (shared / "dump.sql", shared / "own" / "dump.sql"):
        with pytest.raises(ConfigurationError, match="no file is created below"):
            write(path)
    # There nobody can replace what is not theirs.
    shared.chmod(mode | 0o1000)
    write(shared / "dump.sql")
    write(shared / "own" / "dump.sql")


@only_root
def test_a_directory_or_a_link_of_somebody_else(folder: pathlib.Path) -> None:
    own, foreign = folder / "own", folder / "foreign"
    own.mkdir()
    (foreign / "own").mkdir(parents=True)
    os.chown(foreign, OTHER, OTHER)
    link = folder / "link"
    link.symlink_to(own)
    write(link / "dump.sql")  # a link of our own
    os.chown(link, OTHER, OTHER, follow_symlinks=False)
    ours = folder / "ours"
    ours.symlink_to(foreign / "own")
    for path in (foreign / "dump.sql", foreign / "own" / "dump.sql", link / "again.sql", ours / "dump.sql"):
        with pytest.raises(ConfigurationError, match="no file is created below"):
            write(path)
    assert {one.name for one in own.iterdir()} == {"dump.sql"}
    assert {one.name for one in foreign.iterdir()} == {"own"}


def test_a_full_disk_leaves_nothing(folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_arguments: object, **_more: object) -> t.NoReturn:
        raise OSError(28, "No space left on device")

    for name in ("write", "fsync", "link"):
        with monkeypatch.context() as patched:
            patched.setattr(os, name, full)
            with pytest.raises(StreamError, match="cannot be written") as failed:
                write(folder / "dump.sql")
        assert failed.value.cause == "No space left on device"
        assert list(folder.iterdir()) == []
