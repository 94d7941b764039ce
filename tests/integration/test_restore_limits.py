# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a hostile dump, a store or a server that stands still can take of time and disk, and what killed runs leave."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import pathlib
import signal
import subprocess
import sys
import textwrap
import threading
import typing as t

import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine.backup import backup
from ansible_collections.infrazero.database.plugins.module_utils._engine.backup.plan import BackupOptions
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.databases import Database, Databases
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.records import RESTORED
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.restoring import RestoreOptions
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.trust import UNSIGNED, Trust
from ansible_collections.infrazero.database.plugins.module_utils._engine.errors import ConfigurationError, LoadError
from ansible_collections.infrazero.database.plugins.module_utils._engine.restore import restore
from ansible_collections.infrazero.database.plugins.module_utils._engine.restore.choose import Choice
from ansible_collections.infrazero.database.plugins.module_utils._engine.restore.plan import Request
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql import (
    bootstrap,
    limits,
    state,
)
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.connection import connect
from ansible_collections.infrazero.database.plugins.module_utils._engine.stores.base import Store

from conftest import COLLECTIONS
from tests.support import scene
from tests.support.cluster import Cluster, wait_until
from tests.support.dumps import dump

FOREVER = "SELECT pg_sleep(3600);"
LOADING = "FROM pg_stat_activity WHERE application_name = 'infrazero.database load' AND query ~ 'pg_sleep'"
LEFT = (
    "SELECT (SELECT count(*) FROM pg_roles WHERE rolname LIKE 'infrazero%')"
    " + (SELECT count(*) FROM pg_database WHERE datname LIKE '%\\_\\_restore\\_%')"
)


def request(store: Store, database: Database, content: bytes, **changes: t.Any) -> Request:
    key = f"hostile/{database.name}"
    store.put(key, content)
    return Request(database, Choice(store, key, None, None), RestoreOptions(**changes))


@pytest.fixture
def shop(cluster: Cluster) -> Database:
    """A database with something precious in it."""
    database = scene.entry("shop")
    scene.make(cluster, database, "CREATE TABLE public.precious AS SELECT 1 AS id")
    return database


def assert_untouched(cluster: Cluster) -> None:
    assert cluster.psql("SELECT id FROM precious", "shop") == "1"
    assert cluster.psql(LEFT) == "0"


# Time ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("statements", [FOREVER, "DO $$BEGIN LOOP END LOOP; END$$;", "SELECT 1;" * 5_000_000])
def test_a_dump_that_never_ends(cluster: Cluster, store: Store, shop: Database, statements: str) -> None:
    asked = request(store, shop, statements.encode(), timeout=datetime.timedelta(seconds=2))
    with pytest.raises(LoadError, match="exceeded its time limit") as ended:
        restore.restore(asked, settings=cluster.settings)
    assert "2 seconds" in ended.value.cause and "DB_RESTORE_TIMEOUT" in ended.value.hint
    assert_untouched(cluster)


class Stalled:
    """An object whose store has sent some of it, and then nothing more."""

    def __init__(self, data: bytes, released: threading.Event) -> None:
        self._data = data
        self._released = released
        self.size = len(data) + 1

    def read(self, n: int, /) -> bytes:
        if not self._data:
            self._released.wait()
        chunk, self._data = self._data[:n], self._data[n:]
        return chunk

    def close(self) -> None:
        pass


@pytest.mark.parametrize("strategy", ["swap", "replace"])
@pytest.mark.parametrize("content", ["statement", "rows", "archive"])
def test_a_store_that_stands_still(
    cluster: Cluster, store: Store, shop: Database, monkeypatch: pytest.MonkeyPatch, content: str, strategy: str
) -> None:
    contents = {
        "statement": b"CREATE TABLE public.t (id int);\n",
        "rows": b"CREATE TABLE public.t (id int);\nCOPY public.t (id) FROM stdin;\n1\n2\n",
        "archive": dump(cluster, "shop", "--format=custom")[:-50],
    }
    asked = request(store, shop, b"SELECT 1;", timeout=datetime.timedelta(seconds=2), strategy=strategy)
    released = threading.Event()
    opened: list[Stalled] = []

    def stalled(_key: str) -> Stalled:
        # The plan looks at the first bytes; only then the dump itself is read.
        opened.append(Stalled(contents[content], released))
        return opened[-1]

    monkeypatch.setattr(store, "open", stalled)
    try:
        with pytest.raises(LoadError, match="exceeded its time limit"):
            restore.restore(asked, settings=cluster.settings)
        assert len(opened) == 2 and not released.is_set()
        assert_untouched(cluster)
    finally:
        released.set()


def test_a_server_that_stands_still(fresh_cluster: Cluster, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster, database, other = fresh_cluster, scene.entry("shop"), scene.entry("other")
    scene.make(cluster, database, "CREATE TABLE public.precious AS SELECT 1 AS id")
    scene.make(cluster, other)
    monkeypatch.setattr(limits, "GRACE", 2.0)
    asked = request(store, database, FOREVER.encode(), timeout=datetime.timedelta(seconds=10))
    errors: list[LoadError] = []

    def run() -> None:
        try:
            restore.restore(asked, settings=cluster.settings)
        except LoadError as exc:
            errors.append(exc)

    thread = threading.Thread(target=run)
    thread.start()
    wait_until(lambda: cluster.psql(f"SELECT count(*) {LOADING}") == "1")
    postmaster = int((cluster.data_directory / "postmaster.pid").read_text(encoding="utf-8").split()[0])
    tree = [postmaster, *map(int, subprocess.check_output(["pgrep", "-P", str(postmaster)], text=True).split())]
    for pid in tree:
        os.kill(pid, signal.SIGSTOP)
    try:
        thread.join(timeout=120)
        assert not thread.is_alive()
    finally:
        for pid in tree:
            os.kill(pid, signal.SIGCONT)
    assert len(errors) == 1 and "exceeded its time limit" in str(errors[0])
    assert cluster.psql("SELECT id FROM precious", "shop") == "1"

    # What could not be removed is, by the next backup of another database.
    def backed_up() -> bool:
        summary = backup.back_up_all([other], settings=cluster.settings, store=store, options=BackupOptions())
        assert not summary.failed and not summary.warnings
        return cluster.psql(LEFT) == "0"

    wait_until(backed_up)


def test_a_restore_in_time_is_not_ended_by_its_limit(cluster: Cluster, store: Store, shop: Database) -> None:
    asked = request(store, shop, b"CREATE TABLE public.t (id int);", timeout=datetime.timedelta(seconds=60))
    assert restore.restore(asked, settings=cluster.settings).status == restore.RESTORED


# Size ---------------------------------------------------------------------------------------------------------------


#: Ten thousand million rows, and hardly anything in temporary files.
MANY = "generate_series(1, 100000) a, generate_series(1, 100000) b"


@pytest.mark.parametrize(
    "statements",
    [
        f"CREATE TABLE public.t AS SELECT a, repeat('x', 100) FROM {MANY};",
        "CREATE TABLE public.t (id bigint); INSERT INTO public.t SELECT generate_series(1, 1000000000);",
        f"SELECT lo_from_bytea(0, convert_to(repeat(md5(a::text), 1000), 'UTF8')) FROM {MANY};",
    ],
)
def test_a_small_dump_that_fills_the_disk(
    cluster: Cluster, store: Store, shop: Database, monkeypatch: pytest.MonkeyPatch, statements: str
) -> None:
    monkeypatch.setattr(limits, "SIZE_EVERY", 0.1)
    asked = request(store, shop, statements.encode(), max_size=40 << 20)
    with pytest.raises(LoadError, match="exceeded its size limit") as ended:
        restore.restore(asked, settings=cluster.settings)
    taken = int(ended.value.cause.split("takes ")[1].split()[0])
    assert taken > 40 << 20 and f"max_size is {40 << 20}" in ended.value.cause
    assert "DB_RESTORE_MAX_SIZE" in ended.value.hint
    assert_untouched(cluster)


def test_a_small_dump_with_large_temporary_files(cluster: Cluster, store: Store, shop: Database) -> None:
    hostile = b"SELECT count(*) FROM (SELECT i FROM generate_series(1, 1000000000) i ORDER BY i DESC) s;"
    with pytest.raises(LoadError, match=r'temporary file size exceeds "?temp_file_limit'):
        restore.restore(request(store, shop, hostile, max_size=40 << 20), settings=cluster.settings)
    assert_untouched(cluster)


@pytest.mark.parametrize("max_size", [None, 0])
def test_narrow_rows_with_indexes_fit(
    cluster: Cluster, store: Store, shop: Database, monkeypatch: pytest.MonkeyPatch, max_size: int | None
) -> None:
    """Rows as small as they get in text, large on disk: no floor helps them here."""
    from ansible_collections.infrazero.database.plugins.module_utils._engine.domain import restoring

    monkeypatch.setattr(restoring, "_LEAST_SIZE", 16 << 20)
    monkeypatch.setattr(limits, "SIZE_EVERY", 0.05)
    cluster.psql(
        "CREATE TABLE narrow AS SELECT (i % 10)::bigint AS a, (i % 7)::bigint AS b FROM generate_series(1, 300000) i;"
        "ALTER TABLE narrow ADD id serial PRIMARY KEY; CREATE INDEX ON narrow (a); CREATE INDEX ON narrow (b, a)",
        "shop",
    )
    made = backup.back_up_all([shop], settings=cluster.settings, store=store, options=BackupOptions())
    assert not made.failed
    summary = restore.restore_all(
        [shop],
        settings=cluster.settings,
        store=store,
        options=RestoreOptions(trust=Trust(mode=UNSIGNED), max_size=max_size),
    )
    assert not summary.failed, summary.failed[0].error


# Others -------------------------------------------------------------------------------------------------------------


def test_restores_of_a_run_do_not_wait_for_a_slow_one(cluster: Cluster, tmp_path: pathlib.Path, store: Store) -> None:
    entries = [scene.entry(name, restore_latest=False, restore_dump_path=f"dump/{name}") for name in ("a", "b", "c")]
    for entry in entries:
        scene.make(cluster, entry)
        store.put(f"dump/{entry.name}", b"CREATE TABLE public.loaded AS SELECT 1 AS id;")
    store.put("dump/a", FOREVER.encode())
    summaries: list[t.Any] = []

    def run() -> None:
        summaries.append(
            restore.restore_all(
                entries,
                settings=cluster.settings,
                store=store,
                options=RestoreOptions(trust=Trust(mode=UNSIGNED)),
                jobs=2,
            )
        )

    thread = threading.Thread(target=run)
    thread.start()

    def others_are_done() -> bool:
        with contextlib.closing(connect(cluster.settings)) as conn:
            records = state.database_records(conn)
        return {name for name in ("b", "c") if name in records and records[name].restore == RESTORED} == {
            "b",
            "c",
        }

    wait_until(others_are_done, seconds=60)
    assert cluster.psql(f"SELECT count(*) {LOADING}") == "1", "the slow one is still at it"
    cluster.psql(f"SELECT pg_terminate_backend(pid) {LOADING}")
    thread.join()
    assert [outcome.status for outcome in summaries[0].outcomes] == ["failed", "restored", "restored"]
    assert "57P01" in str(summaries[0].outcomes[0].error) or "terminat" in str(summaries[0].outcomes[0].error)
    assert cluster.psql(LEFT) == "0"


def test_no_jobs_are_refused(cluster: Cluster, store: Store) -> None:
    with pytest.raises(ConfigurationError, match="jobs must be at least 1"):
        restore.restore_all([], settings=cluster.settings, store=store, options=RestoreOptions(), jobs=0)


SCRIPT = """
import json, sys
sys.path.insert(0, {collections!r})
from ansible_collections.infrazero.database.plugins.module_utils._engine.restore import restore
from ansible_collections.infrazero.database.plugins.module_utils._engine.restore.choose import Choice
from ansible_collections.infrazero.database.plugins.module_utils._engine.restore.plan import Request
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.databases import Database
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.restoring import RestoreOptions
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.secret import Secret
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql import connection
from ansible_collections.infrazero.database.plugins.module_utils._engine.stores.base import DirectorySettings
from ansible_collections.infrazero.database.plugins.module_utils._engine.stores.registry import open_store

given = json.load(sys.stdin)
choice = Choice(open_store(DirectorySettings(path=given["path"])), "hostile/shop", None, None)
request = Request(Database("shop", "shop", Secret("x"), ()), choice, RestoreOptions())
restore.restore(request, settings=connection.ConnectionSettings(host=given["host"], port=given["port"]))
"""


@pytest.mark.parametrize("next_run", ["backup", "restore", "bootstrap"])
def test_what_a_killed_restore_leaves_is_removed_by_the_next_run_of_anything(
    cluster: Cluster, tmp_path: pathlib.Path, store: Store, shop: Database, next_run: str
) -> None:
    store.put("hostile/shop", FOREVER.encode())
    other = scene.entry("other", restore_latest=False, restore_dump_path="dump/other")
    scene.make(cluster, other)
    store.put("dump/other", b"SELECT 1;")
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(SCRIPT).format(collections=str(COLLECTIONS))],
        stdin=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps({"host": cluster.host, "port": cluster.port, "path": str(tmp_path)}))
    process.stdin.close()
    wait_until(lambda: cluster.psql(f"SELECT count(*) {LOADING}") == "1")

    def run() -> None:
        if next_run == "backup":
            summary = backup.back_up_all([other], settings=cluster.settings, store=store, options=BackupOptions())
            assert not summary.failed and not summary.warnings
        elif next_run == "restore":
            options = RestoreOptions(trust=Trust(mode=UNSIGNED))
            done = restore.restore_all([other], settings=cluster.settings, store=store, options=options)
            assert not done.failed and not done.warnings
        else:
            assert not bootstrap.bootstrap(Databases((other,), ()), settings=cluster.settings).warnings

    # While it runs it is not touched.
    run()
    assert cluster.psql(f"SELECT count(*) {LOADING}") == "1" and cluster.psql(LEFT) == "2"
    process.kill()
    process.wait()
    assert cluster.psql("SELECT bool_or(rolcanlogin) FROM pg_roles WHERE rolname LIKE 'infrazero%'") == "f"

    def removed() -> bool:
        run()
        return cluster.psql(LEFT) == "0"

    # Its lock ends when the server notices.
    wait_until(removed)
    assert_untouched(cluster)


def test_a_lost_session_ends_the_load(cluster: Cluster, store: Store, shop: Database) -> None:
    hostile = b"CREATE TABLE public.t (id int); SELECT pg_sleep(3600); CREATE TABLE public.u (id int);"
    asked = request(store, shop, hostile)
    killer = threading.Thread(
        target=lambda: (
            wait_until(lambda: cluster.psql(f"SELECT count(*) {LOADING}") == "1"),
            cluster.psql(f"SELECT pg_terminate_backend(pid) {LOADING}"),
        )
    )
    killer.start()
    with contextlib.ExitStack() as stack:
        stack.callback(killer.join)
        with pytest.raises(LoadError):
            restore.restore(asked, settings=cluster.settings)
    assert_untouched(cluster)
