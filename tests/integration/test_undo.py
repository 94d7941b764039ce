# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Replaced databases: nobody but the administrator gets in, an undo brings everything back, and they can be dropped."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import subprocess
import time
import typing as t

import psycopg2
import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine import outcome
from ansible_collections.infrazero.database.plugins.module_utils._engine.backup import backup
from ansible_collections.infrazero.database.plugins.module_utils._engine.backup.plan import BackupOptions
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain import records
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.databases import Database
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.records import DatabaseRecord
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.restoring import RestoreOptions
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.secret import Secret
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.trust import UNSIGNED, Trust
from ansible_collections.infrazero.database.plugins.module_utils._engine.errors import (
    ConnectionFailed,
    EngineError,
    LockHeld,
    RestoreRefused,
)
from ansible_collections.infrazero.database.plugins.module_utils._engine.restore import restore
from ansible_collections.infrazero.database.plugins.module_utils._engine.restore import undo as use_case
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources import registry
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql import (
    database_settings,
    lock,
    state,
)
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.connection import connect
from ansible_collections.infrazero.database.plugins.module_utils._engine.stores.base import Store

from tests.support import scene
from tests.support.cluster import Cluster, wait_until
from tests.support.outcomes import details_of as good

DAY = datetime.timedelta(hours=24)

SETTINGS = """
CREATE ROLE reader LOGIN PASSWORD 'r'; CREATE ROLE "head of readers" LOGIN PASSWORD 'h'; CREATE ROLE monitoring;
GRANT CONNECT ON DATABASE app TO "head of readers" WITH GRANT OPTION;
SET ROLE "head of readers"; GRANT CONNECT ON DATABASE app TO reader; RESET ROLE;
GRANT TEMPORARY ON DATABASE app TO PUBLIC; REVOKE CREATE ON DATABASE app FROM app;
ALTER DATABASE app SET work_mem = '5MB'; ALTER ROLE app IN DATABASE app SET search_path = main, "with, comma";
ALTER DATABASE app CONNECTION LIMIT 7 IS_TEMPLATE true; COMMENT ON DATABASE app IS 'it''s ours'
"""


def back_up(cluster: Cluster, store: Store, *entries: Database) -> outcome.Summary:
    summary = backup.back_up_all(entries, settings=cluster.settings, store=store, options=BackupOptions())
    assert not summary.failed, [str(o.error) for o in summary.failed]
    return summary


def restored(cluster: Cluster, store: Store, entry: Database, **changes: t.Any) -> dict[str, t.Any]:
    options = RestoreOptions(trust=Trust(mode=UNSIGNED), **changes)
    return good(restore.restore_all([entry], settings=cluster.settings, store=store, options=options))


def undone(cluster: Cluster, name: str = "app", **changes: t.Any) -> dict[str, t.Any]:
    options = {"keep": DAY, "on_connections": "terminate", **changes}
    return dict(use_case.undo(name, settings=cluster.settings, **options).details)


def dropped(cluster: Cluster, which: str = use_case.ALL, **changes: t.Any) -> outcome.Outcome:
    return use_case.drop_replaced("app", which, settings=cluster.settings, **changes)


def settings_of(cluster: Cluster, name: str) -> database_settings.DatabaseSettings:
    with contextlib.closing(connect(cluster.settings)) as admin:
        return database_settings.capture(admin, name)


def record_of(cluster: Cluster, name: str = "app") -> DatabaseRecord | None:
    with contextlib.closing(connect(cluster.settings)) as admin:
        return state.database_record(admin, name)


def oids(cluster: Cluster) -> dict[str, str]:
    lines = cluster.psql("SELECT datname, oid FROM pg_database WHERE datname LIKE 'app%' ORDER BY 1").splitlines()
    return dict(t.cast(t.Any, [line.split("|") for line in lines]))


def kept_names(cluster: Cluster) -> list[str]:
    """Databases that are kept, the last replaced one last."""
    return cluster.psql("SELECT name FROM infrazero.replaced ORDER BY replaced_at").splitlines()


def may_connect(cluster: Cluster, who: Database, database: str) -> bool:
    try:
        connect(cluster.settings, database=database, user=who.user, password=who.password).close()
    except ConnectionFailed:
        return False
    return True


@pytest.fixture
def app(cluster: Cluster, store: Store) -> Database:
    """A database with rows and settings, and a backup of it from before its last table."""
    database = scene.entry("app")
    scene.make(cluster, database)
    scene.fill(cluster, database)
    back_up(cluster, store, database)
    cluster.psql(SETTINGS)
    cluster.psql("CREATE TABLE later (id int); INSERT INTO later SELECT generate_series(1, 10)", "app")
    return database


# Undo ---------------------------------------------------------------------------------------------------------------


def test_an_undo_brings_back_every_row_privilege_and_setting(cluster: Cluster, store: Store, app: Database) -> None:
    rows, settings, there, record = (
        scene.rows(cluster, app),
        settings_of(cluster, "app"),
        oids(cluster),
        record_of(cluster),
    )
    kept = restored(cluster, store, app)["kept_as"]
    wrong = scene.rows(cluster, app)
    assert rows != wrong and record_of(cluster) is not None
    after = record_of(cluster)

    plan = undone(cluster, plan_only=True)
    assert (
        plan["previous"]["name"] == kept and plan["previous"]["size"] > 1 << 20 and plan["replaces"]["owner"] == "app"
    )
    assert plan["restored_from"] == record_of(cluster).restored_from.url and plan["previous"]["restored_from"] is None
    assert kept_names(cluster) == [kept]

    with contextlib.closing(connect(cluster.settings, database="app")):
        details = undone(cluster)
    assert details["replaces"]["sessions"] == 1 and details["warnings"] == []
    assert scene.rows(cluster, app) == rows
    assert settings_of(cluster, "app") == settings
    assert oids(cluster)["app"] == there["app"] and record_of(cluster) == record
    assert may_connect(cluster, app, "app")
    # The wrong one is kept, and a second undo brings it back.
    assert kept_names(cluster) == [details["kept_as"]] and not may_connect(cluster, app, details["kept_as"])
    assert undone(cluster)["previous"]["name"] == details["kept_as"]
    assert scene.rows(cluster, app) == wrong and record_of(cluster) == after
    undone(cluster)
    assert scene.rows(cluster, app) == rows and settings_of(cluster, "app") == settings and record_of(cluster) == record
    assert cluster.psql("SELECT count(*) FROM pg_database WHERE datname LIKE 'app%'") == "2"


def test_public_gets_its_connect_back(cluster: Cluster, store: Store, app: Database) -> None:
    """As it was, although the restored database did not get it."""
    cluster.psql("GRANT CONNECT ON DATABASE app TO PUBLIC")
    settings = settings_of(cluster, "app")
    restored(cluster, store, app)
    assert settings_of(cluster, "app") != settings
    undone(cluster)
    assert settings_of(cluster, "app") == settings


def test_the_last_of_several_comes_back(cluster: Cluster, store: Store, app: Database) -> None:
    first = restored(cluster, store, app)["kept_as"]
    cluster.psql("CREATE TABLE second (id int)", "app")
    second = restored(cluster, store, app)["kept_as"]
    assert undone(cluster)["previous"]["name"] == second
    assert cluster.psql("SELECT to_regclass('public.second') IS NOT NULL", "app") == "t"
    assert kept_names(cluster)[0] == first


def test_where_the_database_is_gone_the_previous_one_is_renamed(cluster: Cluster, store: Store, app: Database) -> None:
    restored(cluster, store, app)
    cluster.psql("ALTER DATABASE app IS_TEMPLATE false; DROP DATABASE app")
    assert undone(cluster)["kept_as"] is None
    assert cluster.psql("SELECT count(*) FROM later", "app") == "10" and kept_names(cluster) == []


@pytest.mark.parametrize("status", [records.RESTORED, records.EMPTY, records.SKIPPED, records.OUTSTANDING, None])
def test_after_an_undo_backups_go_on(cluster: Cluster, store: Store, app: Database, status: str | None) -> None:
    """What had been recorded is recorded again, with its time, and neither refuses nor overwrites a backup."""
    with contextlib.closing(connect(cluster.settings)) as admin:
        if status is not None:
            source = (
                records.RestoredFrom("file:///x", "x", "0" * 64, sequence=3) if status == records.RESTORED else None
            )
            state.record_outcome(admin, "app", status, restored_from=source)
            admin.cursor().execute("UPDATE infrazero.database SET since = now() - interval '1 year'")
    before = record_of(cluster)
    restored(cluster, store, app)
    undone(cluster)
    after = record_of(cluster)
    if status == records.OUTSTANDING:
        # Somebody has chosen these contents.
        assert after is not None and before is not None
        assert (after.restore, after.since) == (records.SKIPPED, before.since)
    else:
        assert after == before
    time.sleep(1.1)  # backups have whole seconds
    (made,) = back_up(cluster, store, app).outcomes
    assert made.details["sequence"] == 2
    assert all("not signed" in warning for warning in made.details["warnings"])
    assert len([info for info in store.list("db/app/") if info.key.endswith(".age")]) == 2
    cluster.psql("DROP TABLE later", "app")
    restored(cluster, store, app)
    assert cluster.psql("SELECT count(*) FROM later", "app") == "10"


def test_a_database_that_an_older_release_has_replaced_comes_back_as_it_is(
    cluster: Cluster, store: Store, app: Database
) -> None:
    settings, rows = settings_of(cluster, "app"), scene.rows(cluster, app)
    restored(cluster, store, app)
    # As version 0.1 left it: with its privileges, and with nothing on record.
    undone(cluster)
    cluster.psql("ALTER DATABASE app RENAME TO app__replaced_0a1b2c3d")
    cluster.psql("CREATE DATABASE app OWNER app")
    cluster.psql(
        "ALTER TABLE infrazero.replaced DROP COLUMN oid, DROP COLUMN before; UPDATE infrazero.version SET version = 2;"
        "DROP TABLE infrazero.copy; DELETE FROM infrazero.replaced;"
        "INSERT INTO infrazero.replaced VALUES ('app__replaced_0a1b2c3d', 'app', now(), now() + interval '1 day')"
    )
    assert undone(cluster, plan_only=True)["previous"]["name"] == "app__replaced_0a1b2c3d"
    (warning,) = undone(cluster)["warnings"]
    assert "has not recorded what it had been restored from" in warning
    assert (settings_of(cluster, "app"), scene.rows(cluster, app), record_of(cluster)) == (settings, rows, None)
    assert cluster.psql("SELECT version FROM infrazero.version") == "3"
    # What it has put aside is closed, and comes back.
    assert undone(cluster)["warnings"] == []


def test_roles_that_are_gone(cluster: Cluster, store: Store, app: Database) -> None:
    restored(cluster, store, app)
    cluster.psql('REVOKE ALL ON DATABASE app FROM "head of readers" CASCADE; DROP ROLE reader')
    (warning,) = undone(cluster)["warnings"]
    assert "privileges of reader" in warning
    assert may_connect(cluster, scene.entry("head of readers", password=Secret("h")), "app")


def test_an_owner_that_is_gone_is_named(cluster: Cluster, store: Store, app: Database) -> None:
    kept = restored(cluster, store, app)["kept_as"]
    cluster.psql("ALTER ROLE app RENAME TO app2")
    with pytest.raises(RestoreRefused, match="belonged to the role 'app', which is gone"):
        undone(cluster)
    assert kept_names(cluster) == [kept]


# Refusals -----------------------------------------------------------------------------------------------------------


def test_without_a_previous_database_there_is_nothing_to_undo(cluster: Cluster, store: Store, app: Database) -> None:
    for plan_only in (True, False):
        with pytest.raises(RestoreRefused, match="no previous database of 'app' is kept") as caught:
            undone(cluster, plan_only=plan_only)
        assert "restore a backup" in caught.value.hint
    # Nor where its time is over and the next backup has dropped it.
    restored(cluster, store, app, keep_replaced=datetime.timedelta(microseconds=1))
    back_up(cluster, store, dataclasses.replace(app, name="app"))
    with pytest.raises(RestoreRefused, match="no previous database"):
        undone(cluster)


def test_sessions_are_spared_where_that_is_asked_for(cluster: Cluster, store: Store, app: Database) -> None:
    kept = restored(cluster, store, app)["kept_as"]
    for name in ("app", kept):
        with contextlib.closing(connect(cluster.settings, database=name, application_name="the till")) as busy:
            with pytest.raises(RestoreRefused) as caught:
                undone(cluster, on_connections="refuse")
            assert "the till" in caught.value.cause
            busy.cursor().execute("SELECT 1")
    assert kept_names(cluster) == [kept]


def test_prepared_transactions_are_not_lost(fresh_cluster: Cluster, store: Store) -> None:
    fresh_cluster.psql("ALTER SYSTEM SET max_prepared_transactions = 5")
    fresh_cluster.stop()
    fresh_cluster.start()
    app = scene.entry("app")
    scene.make(fresh_cluster, app, "CREATE TABLE t (id int)")
    back_up(fresh_cluster, store, app)
    kept = restored(fresh_cluster, store, app)["kept_as"]
    fresh_cluster.psql("BEGIN; INSERT INTO t VALUES (1); PREPARE TRANSACTION 'parcel'", "app")
    with pytest.raises(RestoreRefused, match="prepared transactions") as caught:
        undone(fresh_cluster)
    assert "'parcel' of postgres" in caught.value.cause and kept_names(fresh_cluster) == [kept]


def test_one_at_a_time(cluster: Cluster, store: Store, app: Database) -> None:
    kept = restored(cluster, store, app)["kept_as"]
    with lock.locked_session(cluster.settings, "app", doing="backup"):
        for work in (undone, dropped):
            with pytest.raises(LockHeld):
                work(cluster)
    assert kept_names(cluster) == [kept]


@pytest.mark.parametrize(
    ("step", "end"),
    [
        ("forget_replaced", "kill"),
        ("put_back", "fail"),
        ("record_replaced", "lose the lock"),
        ("check", "kill"),
        ("check", "lose the lock"),
    ],
)
def test_an_undo_that_ends_in_its_middle_leaves_the_present_database(
    cluster: Cluster, store: Store, app: Database, monkeypatch: pytest.MonkeyPatch, step: str, end: str
) -> None:
    kept = restored(cluster, store, app)["kept_as"]
    before = (oids(cluster), record_of(cluster), settings_of(cluster, "app"), settings_of(cluster, kept))
    place: t.Any = lock.Lock if step == "check" else state
    real, calls = getattr(place, step), []

    def ends(*arguments: t.Any, **options: t.Any) -> t.Any:
        calls.append(step)
        if step == "check" and len(calls) == 1:
            return real(*arguments, **options)
        if end == "fail":
            raise EngineError("injected")
        if end == "kill":
            ours = "FROM pg_stat_activity WHERE application_name LIKE '%restore app'"
            cluster.psql(f"SELECT pg_terminate_backend(pid) {ours}")
            wait_until(lambda: cluster.psql(f"SELECT count(*) {ours}") == "0")
        else:
            with contextlib.closing(connect(cluster.settings)) as conn:
                holder = lock.holder_of(conn, "app")
            assert holder is not None
            cluster.end_session(holder.pid)
        return real(*arguments, **options)

    monkeypatch.setattr(place, step, ends)
    with pytest.raises(EngineError):
        undone(cluster)
    monkeypatch.undo()
    assert calls
    assert (oids(cluster), record_of(cluster), settings_of(cluster, "app"), settings_of(cluster, kept)) == before
    assert kept_names(cluster) == [kept]
    assert may_connect(cluster, app, "app") and not may_connect(cluster, app, kept)
    undone(cluster)
    assert cluster.psql("SELECT count(*) FROM later", "app") == "10"


# Hostile tenants ----------------------------------------------------------------------------------------------------

#: What a tenant could try, connected to its own database, to get into the one that was replaced.
WAYS_IN = [
    "GRANT CONNECT ON DATABASE {kept} TO app",
    "GRANT CONNECT ON DATABASE {kept} TO PUBLIC",
    "ALTER DATABASE {kept} OWNER TO app",
    "ALTER DATABASE {kept} RENAME TO mine",
    "ALTER DATABASE {kept} SET search_path = mine",
    "ALTER DATABASE {kept} IS_TEMPLATE true",
    "ALTER DATABASE {kept} CONNECTION LIMIT 0",
    "COMMENT ON DATABASE {kept} IS 'mine'",
    "CREATE DATABASE mine TEMPLATE {kept}",
    "DROP DATABASE {kept}",
    "SET ROLE postgres",
]


def test_the_former_owner_has_no_way_into_a_replaced_database(cluster: Cluster, store: Store, app: Database) -> None:
    """Nor has anybody else; also with CREATEDB, and although the database was a template and open to everybody."""
    cluster.psql("GRANT ALL ON DATABASE app TO PUBLIC; ALTER ROLE app CREATEDB; ALTER ROLE reader CREATEDB")
    inside = connect(cluster.settings, database="app", user="app", password=app.password)
    kept = restored(cluster, store, app)["kept_as"]
    with pytest.raises(psycopg2.OperationalError):
        inside.cursor().execute("SELECT 1")
    readers = [
        scene.entry("reader", password=Secret("r")),
        scene.entry("head of readers", password=Secret("h")),
    ]
    for who in (app, *readers):
        assert not may_connect(cluster, who, kept)
    before = settings_of(cluster, kept)
    with contextlib.closing(connect(cluster.settings, database="app", user="app", password=app.password)) as tenant:
        for way in WAYS_IN:
            for statement in (way.format(kept=kept), f"SET ROLE pg_database_owner; {way.format(kept=kept)}"):
                with contextlib.suppress(psycopg2.Error), tenant.cursor() as cursor:
                    cursor.execute(statement)
                with contextlib.suppress(psycopg2.Error), tenant.cursor() as cursor:
                    cursor.execute("RESET ROLE")
    assert settings_of(cluster, kept) == before
    for who in (app, *readers):
        assert not may_connect(cluster, who, kept)
    assert cluster.psql("SELECT count(*) FROM pg_database WHERE datname = 'mine'") == "0"
    # The administrator still can, and dump it.
    assert cluster.psql("SELECT count(*) FROM later", kept) == "10"
    program = [str(cluster.bindir / "pg_dump"), f"--host={cluster.host}", f"--port={cluster.port}", "-Upostgres", kept]
    assert b"CREATE TABLE public.later" in subprocess.run(program, capture_output=True, check=True).stdout


def test_the_tenant_of_a_copy_gets_no_further_than_the_copy(cluster: Cluster, store: Store, app: Database) -> None:
    kept = restored(cluster, store, app)["kept_as"]
    restored(cluster, store, app, as_name="app_check")
    before = settings_of(cluster, kept)
    session = connect(cluster.settings, database="app_check", user="app", password=app.password)
    with contextlib.closing(session) as tenant:
        for way in WAYS_IN:
            with pytest.raises(psycopg2.Error), tenant.cursor() as cursor:
                cursor.execute(way.format(kept=kept))
    assert settings_of(cluster, kept) == before
    assert not may_connect(cluster, scene.entry("reader", password=Secret("r")), "app_check")


def test_a_database_that_a_tenant_gave_the_name_of_a_kept_one_is_not_swapped_in(
    cluster: Cluster, store: Store, app: Database
) -> None:
    """Nor is it dropped: the record is of another database."""
    kept = restored(cluster, store, app)["kept_as"]
    cluster.psql(f"DROP DATABASE {kept}")
    cluster.psql("CREATE ROLE mallory CREATEDB")
    cluster.psql(f"SET ROLE mallory; CREATE DATABASE {kept}".replace("; ", ";\n"))
    there = oids(cluster)
    with pytest.raises(RestoreRefused, match="no previous database"):
        undone(cluster)
    assert dropped(cluster).details["dropped"] == []
    cluster.psql("UPDATE infrazero.replaced SET drop_after = now()")
    assert registry.open_source(cluster.settings).expire_replaced([]) == []
    assert oids(cluster) == there and kept_names(cluster) == []


# Replaced databases beyond one --------------------------------------------------------------------------------------


def test_replaced_databases_are_named_and_dropped_at_once(cluster: Cluster, store: Store, app: Database) -> None:
    def named(details: dict[str, t.Any]) -> list[str]:
        return [warning for warning in details["warnings"] if "still kept" in warning]

    first = restored(cluster, store, app)
    assert first["kept"] == [] and named(first) == []
    second = restored(cluster, store, app)
    (warning,) = named(second)
    assert f"{first['kept_as']} (" in warning and "MiB, until 20" in warning
    assert "infrazero-database drop-replaced app --all-but-newest" in warning
    assert [one["name"] for one in second["kept"]] == [first["kept_as"]]
    third = restored(cluster, store, app)
    assert first["kept_as"] in named(third)[0] and second["kept_as"] in named(third)[0]
    # None is added where nothing is kept, and one alone is not too many.
    assert len(named(restored(cluster, store, app, keep_replaced=datetime.timedelta(0)))) == 1

    planned = dropped(cluster, use_case.ALL_BUT_NEWEST, plan_only=True)
    assert (planned.status, len(kept_names(cluster))) == (use_case.PLANNED, 3)
    done = dropped(cluster, use_case.ALL_BUT_NEWEST)
    names = [first["kept_as"], second["kept_as"]]
    assert done.status == use_case.DROPPED and [one["name"] for one in done.details["dropped"]] == names
    assert done.details == planned.details and done.details["size"] > 2 << 20
    assert kept_names(cluster) == [third["kept_as"]] and oids(cluster).keys() == {"app", third["kept_as"]}
    assert dropped(cluster, use_case.ALL_BUT_NEWEST).status == use_case.NOTHING
    assert dropped(cluster).status == use_case.DROPPED and oids(cluster).keys() == {"app"}
    assert dropped(cluster).status == use_case.NOTHING


def test_only_what_was_replaced_is_dropped(cluster: Cluster, store: Store, app: Database) -> None:
    restored(cluster, store, app)
    with contextlib.closing(connect(cluster.settings)) as admin:
        state.record_replaced(admin, "app", database="app", keep=DAY)
    with pytest.raises(EngineError, match="'app' is not a replaced database"):
        dropped(cluster)
    assert "app" in oids(cluster)
    with (
        registry.open_source(cluster.settings).locked("app", doing="restore") as session,
        pytest.raises(EngineError, match="not a database that 'app' has replaced"),
    ):
        session.drop_kept("app", "postgres")
