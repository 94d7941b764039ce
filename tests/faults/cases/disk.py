# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Disks that are full, read-only, gone or broken: of a store in a directory, and of the server.

Small file systems in memory stand for disks; only root may mount them, and in a container only with CAP_SYS_ADMIN.
"""

from __future__ import annotations

import pathlib
import shutil
import subprocess
import typing as t

from tests.faults.trial import BACKUP, BOOTSTRAP, EITHER, RESTORE, SUCCEEDS, Case, Trial
from tests.support.cluster import Cluster

MIB = 1024 * 1024


def cases() -> t.Iterator[Case]:
    """All of them."""
    yield Case("backup/disk/full", BACKUP, "the store's disk is full", _full(0), says="full", quick=True)
    yield Case(
        "backup/disk/full-midway",
        BACKUP,
        "the store's disk fills up in the upload",
        _full(2 * MIB),
        says="full",
        live="large",
    )
    yield Case(
        "backup/disk/full-manifest",
        BACKUP,
        "the store's disk has room for the dump only",
        _full(16 * 1024),
        says="full",
    )
    yield Case("backup/disk/inodes", BACKUP, "the store's disk has no inode left", _inodes, says="full")
    yield Case("backup/disk/read-only", BACKUP, "the store's disk is read-only", _read_only, says="read-only")
    yield Case("restore/disk/read-only", RESTORE, "the store's disk is read-only", _read_only, SUCCEEDS)
    yield Case(
        "backup/disk/gone",
        BACKUP,
        "the store's disk is not mounted, its mount point gone",
        _gone,
        says="does not exist",
    )
    yield Case(
        "restore/disk/gone",
        RESTORE,
        "the store's disk is not mounted, its mount point gone",
        _gone,
        says="does not exist",
    )
    yield Case("backup/disk/file", BACKUP, "a file stands where the prefix should be", _file)
    for name, code, number, words in (
        ("fsync", "EIO", 1, "fsync of the dump fails"),
        ("fsync", "EIO", 2, "fsync of the dump's directory fails"),
        ("fsync", "EIO", 3, "fsync of the manifest fails"),
        ("fsync", "EIO", 5, "fsync of the latest manifest fails"),
        ("fsync", "ENOSPC", 1, "there is no room at fsync"),
        ("link", "EPERM", 1, "the file system knows no hard links"),
        ("link", "EIO", 1, "giving the dump its name fails"),
        ("link", "EDQUOT", 1, "a quota is used up when the dump gets its name"),
    ):

        def broken(trial: Trial, call: str = f"{name}:{code}:{number}") -> None:
            trial.use_directory(_directory(trial))
            fired = trial.world.directory / "fired"
            fired.unlink(missing_ok=True)
            trial.environment.update(FAULTY_OS=call, FAULTY_OS_FIRED=str(fired))
            trial.checks.append(lambda _ended: trial.happened() if fired.exists() else f"{call} didn't come to pass")

        yield Case(f"backup/disk/{name}-{code}-{number}", BACKUP, f"{words} ({code})", broken, quick=number == 3)
    yield Case("bootstrap/disk/pgdata", BOOTSTRAP, "the server's disk is full", _server(96, 1), says="full|space")
    yield Case(
        "bootstrap/disk/pgdata-midway", BOOTSTRAP, "the server's disk fills up in the restore", _server(96, 24), EITHER
    )
    yield Case("bootstrap/disk/pg_wal", BOOTSTRAP, "the disk of pg_wal is full, the server stops", _wal)


def mounts() -> bool:
    """Whether this process may mount file systems; tried where nobody else sees it."""
    command = ["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _mounted(trial: Trial, name: str, *options: str) -> pathlib.Path:
    path = trial.world.directory / name
    path.mkdir()
    path.chmod(0o755)
    subprocess.run(["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(path)], check=True)

    def unmount() -> None:
        subprocess.run(["umount", "--lazy", str(path)], check=False)
        shutil.rmtree(path, ignore_errors=True)

    trial.ends(unmount)
    return path


def _directory(trial: Trial) -> pathlib.Path:
    path = trial.world.directory / "store"
    path.mkdir()
    trial.ends(lambda: shutil.rmtree(path, ignore_errors=True))
    return path


def _full(left: int) -> t.Callable[[Trial], None]:
    """A disk with *left* bytes left."""

    def arrange(trial: Trial) -> None:
        disk = _mounted(trial, "disk", "size=24m")
        store = disk / "store"
        store.mkdir()
        trial.use_directory(store)
        filler = disk / "filler"
        _fill(filler, left)
        trial.heals(filler.unlink)
        trial.happened()

    return arrange


def _fill(path: pathlib.Path, left: int) -> None:
    free = shutil.disk_usage(path.parent).free - left
    with path.open("wb", buffering=0) as file:
        while free > 0:
            free -= file.write(bytes(min(free, MIB)))


def _inodes(trial: Trial) -> None:
    disk = _mounted(trial, "disk", "size=8m,nr_inodes=12")
    store = disk / "store"
    store.mkdir()
    trial.use_directory(store)
    fillers = []
    while True:
        path = disk / f"filler-{len(fillers)}"
        try:
            path.touch()
        except OSError:
            break
        fillers.append(path)
    trial.heals(lambda: [path.unlink() for path in fillers])
    trial.happened()


def _read_only(trial: Trial) -> None:
    disk = _mounted(trial, "disk", "size=24m")
    trial.use_directory(disk)
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    trial.heals(lambda: subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True))
    trial.happened()


def _gone(trial: Trial) -> None:
    path = _directory(trial)
    trial.use_directory(path)
    trial.settings["DB_BACKUP_DIRECTORY"] = str(path / "not-mounted")
    trial.happened()


def _file(trial: Trial) -> None:
    path = _directory(trial)
    trial.use_directory(path)
    aside = path / "aside"
    (path / "db").rename(aside)
    (path / "db").write_text("not a directory")

    def put_back() -> None:
        (path / "db").unlink()
        aside.rename(path / "db")

    good, trial.good = trial.good, {}
    trial.heals(lambda: (put_back(), trial.good.update(good)))
    trial.happened()


def _server(size: int, left: int) -> t.Callable[[Trial], None]:
    """A server on a disk of *size* MiB, of which *left* are left."""

    def arrange(trial: Trial) -> None:
        disk = _mounted(trial, "pgdata", f"size={size}m")
        cluster = Cluster(directory=disk / "cluster", configuration={"min_wal_size": "32MB", "max_wal_size": "32MB"})
        disk.chmod(0o755)
        _start(trial, cluster)
        filler = disk / "filler"
        _fill(filler, left * MIB)
        trial.heals(filler.unlink)
        trial.happened()

    return arrange


def _start(trial: Trial, cluster: Cluster) -> None:
    cluster.start()
    trial.ends(cluster.destroy)
    trial.world.use_bare(cluster)
    trial.ends(lambda: trial.world.use_bare(None))


def _wal(trial: Trial) -> None:
    disk = _mounted(trial, "wal", "size=20m")
    cluster = Cluster(configuration={"min_wal_size": "32MB", "max_wal_size": "32MB"})
    _start(trial, cluster)
    cluster.stop()
    wal = cluster.data_directory / "pg_wal"
    shutil.copytree(wal, disk / "pg_wal")
    shutil.rmtree(wal)
    for path in (disk, *disk.rglob("*")):
        shutil.chown(path, "postgres", "postgres")
    wal.symlink_to(disk / "pg_wal")
    cluster.start()
    filler = disk / "filler"
    _fill(filler, 0)
    # Most of the one segment that there is room for; the first database fills the rest.
    cluster.psql("SELECT pg_logical_emit_message(false, 'fill', repeat('x', 12 * 1024 * 1024))")

    def room() -> None:
        filler.unlink()
        subprocess.run(["mount", "-o", "remount,size=200m", str(disk)], check=True)
        if not cluster.running:
            cluster.start()

    trial.heals(room)
    trial.happened()
