# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether there is room for a second database: a cluster on a small file system of its own."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import subprocess
import tempfile
import typing as t

import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine.backup import backup
from ansible_collections.infrazero.database.plugins.module_utils._engine.backup.plan import BackupOptions
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.databases import Database
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.restoring import RestoreOptions
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.trust import UNSIGNED, Trust
from ansible_collections.infrazero.database.plugins.module_utils._engine.errors import RestoreRefused
from ansible_collections.infrazero.database.plugins.module_utils._engine.restore import restore
from ansible_collections.infrazero.database.plugins.module_utils._engine.restore.choose import choose
from ansible_collections.infrazero.database.plugins.module_utils._engine.restore.plan import Request, RestorePlan
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql import room
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.connection import connect
from ansible_collections.infrazero.database.plugins.module_utils._engine.stores.base import Store
from ansible_collections.infrazero.database.plugins.module_utils._engine.streams import age

from tests.support import scene
from tests.support.cluster import Cluster

MIB = 1 << 20


def mounted(path: pathlib.Path, size: int) -> bool:
    """Mount a file system of *size* bytes, which is in memory, on *path*; whether this machine lets us."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "tmpfs", str(path)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.fixture
def small(shared_cluster: Cluster) -> t.Iterator[Cluster]:
    """A cluster that has a file system of 480 MiB."""
    path = pathlib.Path(tempfile.mkdtemp(prefix="room-", dir="/tmp"))
    path.chmod(0o755)
    try:
        if not mounted(path, 480 * MIB):
            pytest.skip("only root may mount file systems, and in a container only with CAP_SYS_ADMIN")
        try:
            with Cluster(
                shared_cluster.major,
                directory=path / "cluster",
                configuration={"max_wal_size": "32MB", "min_wal_size": "32MB"},
            ) as running:
                yield running
        finally:
            subprocess.run(["umount", "--lazy", str(path)], check=False)
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def ballast(cluster: Cluster, *, left: int) -> t.Iterator[None]:
    """Fill the cluster's file system until only *left* bytes are free."""
    file = cluster.directory.parent / "ballast"
    free = os.statvfs(cluster.directory)
    with file.open("wb") as stream:
        os.posix_fallocate(stream.fileno(), 0, free.f_bavail * free.f_frsize - left)
    yield
    file.unlink()


def planned(cluster: Cluster, store: Store, entry: Database, **options: t.Any) -> RestorePlan:
    wanted = RestoreOptions(trust=Trust(mode=UNSIGNED), **options)
    choice = choose(store, f"db/{entry.name}/", database=entry, trust=wanted.trust)
    request = Request(entry, choice, wanted, tuple(age.parse_identities([entry.identity])))
    return restore.look(request, settings=cluster.settings)


def restored(cluster: Cluster, plan: RestorePlan) -> None:
    restore.restore(plan.request, settings=cluster.settings, shown=plan)


def test_without_room_for_a_second_database_nothing_starts(small: Cluster, store: Store) -> None:
    shop = scene.entry("shop")
    scene.make(
        small,
        shop,
        "CREATE TABLE big AS SELECT i, repeat(md5(i::text), 30) AS x FROM generate_series(1, 90000) i;"
        "ALTER TABLE big ADD PRIMARY KEY (i)",
    )
    backup.back_up_all([shop], settings=small.settings, store=store, options=BackupOptions())
    size = int(small.psql("SELECT pg_database_size('shop')"))
    before = small.psql("SELECT string_agg(datname || oid, ',' ORDER BY oid) FROM pg_database")

    with ballast(small, left=size - 8 * MIB):
        plan = planned(small, store, shop)
        # What the manifest says, and what WAL may still take beside it.
        assert plan.space.estimate is not None and abs(plan.space.estimate.size - size) < MIB
        assert 0 <= plan.space.wal <= 32 * MIB and plan.space.needed == plan.space.estimate.size + plan.space.wal
        assert plan.space.available is not None and abs(plan.space.available - size + 8 * MIB) < 20 * MIB
        with pytest.raises(RestoreRefused) as refused:
            restored(small, plan)
        assert "not enough free space" in refused.value.message and "MiB" in refused.value.cause
        assert "strategy (--strategy, DB_RESTORE_STRATEGY) to replace" in refused.value.hint
        assert "ignore_free_space (--ignore-free-space" in refused.value.hint
        assert small.psql("SELECT string_agg(datname || oid, ',' ORDER BY oid) FROM pg_database") == before
        assert planned(small, store, shop, ignore_free_space=True).refusal is None
        # Dropping the old one first leaves enough.
        instead = planned(small, store, shop, strategy="replace")
        assert instead.refusal is None and instead.space.available is not None
        assert instead.space.available > plan.space.available + size - 20 * MIB
    # Not beside the ballast: WAL may grow beyond max_wal_size.
    restored(small, instead)
    assert small.psql("SELECT count(*) FROM big", "shop") == "90000"

    # A copy that is kept is a way out, and named.
    restored(small, planned(small, store, shop))
    kept = small.psql("SELECT name FROM infrazero.replaced")
    with ballast(small, left=size - 8 * MIB):
        with pytest.raises(RestoreRefused, match="not enough") as again:
            restored(small, planned(small, store, shop))
        assert f"drop-replaced DATABASE): {kept} (" in again.value.hint
        small.psql(f'DROP DATABASE "{kept}"; DELETE FROM infrazero.replaced')
        assert planned(small, store, shop).refusal is None


def test_the_file_system_of_a_tablespace_counts(cluster: Cluster, store: Store, tmp_path: pathlib.Path) -> None:
    path = pathlib.Path(tempfile.mkdtemp(prefix="room-", dir="/tmp"))
    try:
        if not mounted(path, 24 * MIB):
            pytest.skip("only root may mount file systems, and in a container only with CAP_SYS_ADMIN")
        location = path / "tablespace"
        location.mkdir(mode=0o700)
        shutil.chown(location, "postgres")
        shop = scene.entry("shop")
        scene.make(cluster, shop, "CREATE TABLE t AS SELECT 1 AS a")
        cluster.psql(f"CREATE TABLESPACE small LOCATION '{location}'")
        try:
            cluster.psql("ALTER DATABASE shop SET TABLESPACE small")
            with contextlib.closing(connect(cluster.settings)) as conn:
                found, elsewhere = room.find(conn, like="shop"), room.find(conn, like=None)
            assert found.free is not None and 0 < found.free < 24 * MIB and found.wal == 0
            assert elsewhere.free is not None and elsewhere.free > 24 * MIB
        finally:
            cluster.psql("DROP DATABASE shop")
            cluster.psql("DROP TABLESPACE small")
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=False)
        shutil.rmtree(path, ignore_errors=True)


def test_a_directory_of_another_server_is_not_measured(
    cluster: Cluster, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server in a container names a directory that is another server's on this host, or anything at all."""
    with contextlib.closing(connect(cluster.settings)) as conn:
        identifier = room.system_identifier(cluster.data_directory)
        assert identifier == cluster.psql("SELECT system_identifier FROM pg_control_system()")
        monkeypatch.setattr(room, "system_identifier", lambda _data: str(int(identifier) + 1))
        assert room.find(conn, like=None).free is None
    monkeypatch.undo()
    assert room.system_identifier(tmp_path) is None
    control = tmp_path / "global" / "pg_control"
    control.parent.mkdir()
    for make in (control.touch, control.mkdir, lambda: os.mkfifo(control)):
        make()  # it is never waited for
        assert room.system_identifier(tmp_path) is None
        control.rmdir() if control.is_dir() else control.unlink()
