# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is particular to directories: modes, durability, disks that fail, files that others put there.

Faults of the disk are injected into the calls of :mod:`os`: a full or read-only disk can't be had without privileges.
"""

from __future__ import annotations

import errno
import os
import pathlib
import signal
import stat
import subprocess
import sys
import time
import typing as t

import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine.errors import (
    AccessDenied,
    ConfigurationError,
    NotFound,
    StoreError,
    Unreachable,
)
from ansible_collections.infrazero.database.plugins.module_utils._engine.stores import directory
from ansible_collections.infrazero.database.plugins.module_utils._engine.stores.base import DirectorySettings
from ansible_collections.infrazero.database.plugins.module_utils._engine.stores.directory import DirectoryStore

from tests.support.streams import Pieces

KEY = "db/app/20260101T000000Z.sql.gz.age"


@pytest.fixture
def root(tmp_path: pathlib.Path) -> pathlib.Path:
    made = tmp_path / "backups"
    made.mkdir(0o700)
    return made


@pytest.fixture
def store(root: pathlib.Path) -> DirectoryStore:
    return DirectoryStore(DirectorySettings(str(root)))


def files(root: pathlib.Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir())


def test_only_the_owner_reads(store: DirectoryStore, root: pathlib.Path) -> None:
    old = os.umask(0)
    try:
        store.put(KEY, b"x")
        store.upload("db/other/x.gz", Pieces(b"x"))
    finally:
        os.umask(old)
    for path in root.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)


def test_an_operator_finds_the_file(store: DirectoryStore, root: pathlib.Path) -> None:
    store.put(KEY, b"x")
    assert files(root) == [KEY]
    assert store.url(KEY) == str(root / KEY)


def test_a_directory_that_is_not_there_is_no_empty_store(tmp_path: pathlib.Path) -> None:
    store = DirectoryStore(DirectorySettings(str(tmp_path / "not-mounted")))
    calls: list[t.Callable[[], object]] = [
        lambda: store.head(KEY),
        lambda: store.open(KEY),
        lambda: store.get(KEY, limit=1),
        lambda: list(store.list("db/")),
        lambda: store.put(KEY, b""),
        lambda: store.put_if_absent(KEY, b""),
        lambda: store.upload(KEY, Pieces(b"")),
        lambda: store.delete(KEY),
        store.probe,
    ]
    for call in calls:
        with pytest.raises(Unreachable, match="mount its file system"):
            call()
    assert not (tmp_path / "not-mounted").exists()


def test_the_path_is_absolute() -> None:
    with pytest.raises(ConfigurationError, match="begins with /"):
        DirectoryStore(DirectorySettings("backups"))


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "a\0b"])
def test_a_sibling_lies_beside(store: DirectoryStore, name: str) -> None:
    with pytest.raises(StoreError):
        store.sibling(name)


def test_what_is_synced_and_in_which_order(
    store: DirectoryStore, root: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file before it has its name, each directory after it has got a new entry."""
    done: list[str] = []
    real_fsync, real_link, real_replace = os.fsync, os.link, pathlib.Path.replace

    def fsync(descriptor: int) -> None:
        done.append("sync " + str(pathlib.Path(f"/proc/self/fd/{descriptor}").readlink()).replace(str(root), "."))
        real_fsync(descriptor)

    def link(source: t.Any, target: t.Any, **more: t.Any) -> None:
        done.append("link")
        real_link(source, target, **more)

    def replace(source: pathlib.Path, target: t.Any) -> pathlib.Path:
        done.append("rename")
        return real_replace(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "link", link)
    monkeypatch.setattr(pathlib.Path, "replace", replace)
    store.upload("db/app/x.gz", Pieces(b"x"))
    temporary = done[2]
    assert temporary.startswith("sync ./db/app/.tmp-")
    assert done == ["sync .", "sync ./db", temporary, "link", "sync ./db/app"]
    done.clear()
    store.put("db/app/x.gz", b"y")
    assert [step.partition("-")[0] for step in done] == ["sync ./db/app/.tmp", "rename", "sync ./db/app"]


FAULTS = [
    (errno.ENOSPC, StoreError, "make room"),
    (errno.EDQUOT, StoreError, "make room"),
    (errno.EROFS, StoreError, "read-only"),
    (errno.EACCES, AccessDenied, "belong to the user"),
    (errno.EIO, Unreachable, "disk or the mount"),
    (errno.ESTALE, Unreachable, "disk or the mount"),
]


@pytest.mark.parametrize(("number", "error", "hint"), FAULTS)
@pytest.mark.parametrize("call", ["fsync", "open", "link", "mkdir"])
def test_a_write_that_fails_leaves_nothing(
    store: DirectoryStore,
    root: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    call: str,
    number: int,
    error: type[StoreError],
    hint: str,
) -> None:
    def fail(*_arguments: object, **_more: object) -> t.NoReturn:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patched:
        patched.setattr(os, call, fail)
        with pytest.raises(error) as caught:
            store.upload(KEY, Pieces(b"x"))
    assert caught.type is error
    assert hint in caught.value.hint
    assert files(root) == []


def test_a_name_that_may_not_last_is_taken_back(
    store: DirectoryStore, root: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put("db/app/older.gz", b"x")

    def fail(path: pathlib.Path) -> t.NoReturn:
        raise OSError(errno.EIO, f"can't sync {path}")

    with monkeypatch.context() as patched:
        patched.setattr(directory, "_sync_directory", fail)
        with pytest.raises(Unreachable):
            store.upload(KEY, Pieces(b"x"))
    assert files(root) == ["db/app/older.gz"]


def test_a_full_disk_for_real(store: DirectoryStore, root: pathlib.Path) -> None:
    """The kernel's own limit for the size of a file stands for the disk's."""
    resource = pytest.importorskip("resource")
    old_limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    old_handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, old_limit[1]))
        with pytest.raises(StoreError, match="file of this size"):
            store.upload(KEY, Pieces(bytes(1_000_000)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old_limit)
        signal.signal(signal.SIGXFSZ, old_handler)
    assert files(root) == []


KILLED = """
import os, signal, sys
from tests.unit.plugins.module_utils._engine.stores.test_directory import *

class Killed(Pieces):
    def read(self, n):
        if self.position > 1000:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().read(n)

DirectoryStore(DirectorySettings(sys.argv[1])).upload(KEY, Killed(bytes(1_000_000)))
"""


def test_what_a_killed_writer_leaves_is_not_seen_and_swept_later(store: DirectoryStore, root: pathlib.Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", "import conftest\n" + KILLED, str(root)], capture_output=True, check=False
    )
    assert ended.returncode == -signal.SIGKILL
    (left,) = files(root)
    assert list(store.list("")) == []
    with pytest.raises(NotFound):
        store.head(KEY)
    # It may belong to a writer at work: only time tells.
    store.upload(KEY, Pieces(b"x"))
    assert files(root) == sorted([KEY, left])
    store.delete(KEY)
    old = time.time() - 25 * 3600
    os.utime(root / left, (old, old))
    (root / "db/app/.tmp-of-somebody").touch()
    os.utime(root / "db/app/.tmp-of-somebody", (old, old))
    store.upload(KEY, Pieces(b"x"))
    assert files(root) == sorted([KEY, "db/app/.tmp-of-somebody"])


def test_a_file_cut_while_it_is_read_is_no_end(store: DirectoryStore, root: pathlib.Path) -> None:
    store.put(KEY, bytes(1000))
    with store.open(KEY) as reader:
        assert len(reader.read(10)) == 10
        os.truncate(root / KEY, 500)
        assert len(reader.read(1000)) == 490
        with pytest.raises(StoreError, match="ended after 500 of 1000 bytes"):
            reader.read(1000)


def test_a_replaced_object_is_read_to_its_end(store: DirectoryStore) -> None:
    store.put(KEY, b"old" * 1000)
    with store.open(KEY) as reader:
        assert reader.read(3) == b"old"
        store.put(KEY, b"new")
        assert reader.read(10_000) == b"old" * 999
        assert reader.read(1) == b""


def test_what_others_put_there_is_no_object(store: DirectoryStore, root: pathlib.Path, tmp_path: pathlib.Path) -> None:
    outside = tmp_path / "secret.txt"
    outside.write_text("secret")
    (root / "link.sql").symlink_to(outside)
    (root / "folder").symlink_to(tmp_path)
    os.mkfifo(root / "pipe.sql")
    (root / "dir.sql").mkdir()
    (root / "README").touch()
    (root / "bad%.zz.sql").touch()
    (root / os.fsdecode(b"latin1-\xe9.sql")).touch()
    assert list(store.list("")) == []
    for key in ("link.sql", "pipe.sql", "dir.sql"):
        with pytest.raises(StoreError) as caught:
            store.get(key, limit=100)
        assert not isinstance(caught.value, NotFound)
        with pytest.raises(StoreError, match="not a regular file"):
            store.head(key)
    store.put("link.sql", b"ours")
    assert outside.read_text() == "secret"
    assert store.get("link.sql", limit=10) == b"ours"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may do anything")
def test_an_unreadable_folder_is_no_absence(store: DirectoryStore, root: pathlib.Path) -> None:
    store.put(KEY, b"x")
    (root / "db").chmod(0)
    try:
        for call in (lambda: store.head(KEY), lambda: store.open(KEY), lambda: list(store.list("db/"))):
            with pytest.raises(AccessDenied):
                call()
    finally:
        (root / "db").chmod(0o700)


@pytest.mark.parametrize("call", ["lstat", "open", "scandir"])
def test_not_allowed_is_never_absent(store: DirectoryStore, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    def fail(*_arguments: object, **_more: object) -> t.NoReturn:
        raise PermissionError(errno.EACCES, "injected")

    action: dict[str, t.Callable[[], object]] = {
        "lstat": lambda: store.head(KEY),
        "open": lambda: store.open(KEY),
        "scandir": lambda: list(store.list("db/")),
    }
    monkeypatch.setattr(os, call, fail)
    with pytest.raises(AccessDenied):
        action[call]()
