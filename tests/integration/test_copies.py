# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Copies beside a database: like the original, of which nothing is touched, and never in the place of another one."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import typing as t

import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine.backup import backup
from ansible_collections.infrazero.database.plugins.module_utils._engine.backup.plan import BackupOptions
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.databases import Database
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.restoring import RestoreOptions
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.trust import UNSIGNED, Trust
from ansible_collections.infrazero.database.plugins.module_utils._engine.errors import ConnectionFailed, PostgresError
from ansible_collections.infrazero.database.plugins.module_utils._engine.restore import restore
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources import registry
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql import (
    database_settings,
    lock,
    staging,
    state,
    swap,
)
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.connection import connect
from ansible_collections.infrazero.database.plugins.module_utils._engine.stores.base import Store

from tests.support import scene
from tests.support.cluster import Cluster
from tests.support.outcomes import details_of as good
from tests.support.outcomes import error

COPY = "app_check"

SETTINGS = """
ALTER DATABASE app SET work_mem = '5MB'; ALTER ROLE app IN DATABASE app SET search_path = main, public;
COMMENT ON DATABASE app IS 'it''s ours'; CREATE ROLE reader; GRANT CONNECT ON DATABASE app TO reader
"""


def back_up(cluster: Cluster, store: Store, *entries: Database) -> None:
    summary = backup.back_up_all(entries, settings=cluster.settings, store=store, options=BackupOptions())
    assert not summary.failed, [str(o.error) for o in summary.failed]
    assert not summary.warnings


def copied(cluster: Cluster, store: Store, entry: Database, name: str = COPY, **changes: t.Any) -> t.Any:
    """Restore the latest backup of *entry* as *name*."""
    fields = {field.name for field in dataclasses.fields(RestoreOptions)}
    given = {key: value for key, value in changes.items() if key in fields}
    options = RestoreOptions(as_name=name, **{"trust": Trust(mode=UNSIGNED), **given})
    rest = {key: value for key, value in changes.items() if key not in fields}
    return restore.restore_all([entry], settings=cluster.settings, store=store, options=options, **rest)


def logs_in(cluster: Cluster, who: Database, database: str) -> bool:
    """Whether the user of the entry *who* can connect to *database*."""
    try:
        connect(cluster.settings, database=database, user=who.user, password=who.password).close()
    except ConnectionFailed:
        return False
    return True


def databases(cluster: Cluster) -> dict[str, str]:
    """The OID of each database."""
    lines = cluster.psql("SELECT datname, oid FROM pg_database ORDER BY 1").splitlines()
    return dict(t.cast(t.Any, [line.split("|") for line in lines]))


def recorded(cluster: Cluster) -> str:
    """What is recorded of restores and backups of databases, but for copies."""
    return cluster.psql(
        "SELECT row_to_json(d) FROM infrazero.database d ORDER BY name;"
        "SELECT row_to_json(r) FROM infrazero.replaced r; SELECT row_to_json(r) FROM infrazero.restore r;"
        "SELECT row_to_json(b) FROM infrazero.backup b"
    )


@pytest.fixture
def app(cluster: Cluster, store: Store) -> Database:
    """A database with rows and settings, and a backup of it."""
    database = scene.entry("app")
    scene.make(cluster, database)
    scene.fill(cluster, database)
    cluster.psql(SETTINGS)
    back_up(cluster, store, database)
    return database


def test_a_copy_is_like_the_original_which_is_not_touched(cluster: Cluster, store: Store, app: Database) -> None:
    with contextlib.closing(connect(cluster.settings)) as admin:
        before = database_settings.capture(admin, "app")
    rows, there, records = scene.rows(cluster, app), databases(cluster), recorded(cluster)

    with (
        # A session in the original, and a backup of it at the same time.
        contextlib.closing(connect(cluster.settings, database="app", user="app", password=app.password)) as tenant,
        lock.locked_session(cluster.settings, "app", doing="backup"),
    ):
        details = good(copied(cluster, store, app))
        with tenant.cursor() as cursor:
            cursor.execute("SELECT 1")

    assert details["as"] == COPY and details["replaces"] is None and details["kept_as"] is None
    assert details["verified"] and ["not signed" in warning for warning in details["warnings"]] == [True]
    assert scene.rows(cluster, dataclasses.replace(app, name=COPY)) == rows == scene.rows(cluster, app)
    with contextlib.closing(connect(cluster.settings)) as admin:
        assert database_settings.capture(admin, "app") == before
        assert database_settings.capture(admin, COPY) == before
    new = databases(cluster)
    del new[COPY]
    assert (new, recorded(cluster)) == (there, records)
    assert cluster.psql("SELECT count(*) FROM pg_roles WHERE rolname LIKE 'infrazero\\_restore\\_%'") == "0"
    # A backup does not know it.
    back_up(cluster, store, app)
    assert databases(cluster).keys() == {*there, COPY}


def test_nobody_else_may_connect_to_a_copy(cluster: Cluster, store: Store, app: Database) -> None:
    """Also where everybody may connect to the original, and to the copy that it replaces."""
    stranger = scene.entry("stranger")
    scene.make(cluster, stranger)
    cluster.psql("GRANT CONNECT ON DATABASE app TO PUBLIC")
    back_up(cluster, store, app)
    good(copied(cluster, store, app))
    assert not logs_in(cluster, stranger, COPY) and logs_in(cluster, app, COPY)
    cluster.psql(f"GRANT CONNECT ON DATABASE {COPY} TO PUBLIC")
    good(copied(cluster, store, app))
    assert not logs_in(cluster, stranger, COPY) and logs_in(cluster, app, COPY)
    assert logs_in(cluster, stranger, "app")


def test_a_copy_replaces_an_earlier_one_and_the_plan_says_so(cluster: Cluster, store: Store, app: Database) -> None:
    good(copied(cluster, store, app))
    first = databases(cluster)
    cluster.psql("CREATE TABLE later (id int)", COPY)
    cluster.psql(f"ALTER DATABASE {COPY} SET work_mem = '9MB'")

    planned = good(copied(cluster, store, app, plan_only=True, drop_after=datetime.timedelta(hours=3)))
    assert planned["as"] == COPY and planned["replaces"]["owner"] == "app" and planned["drop_after"] == 3
    assert databases(cluster) == first

    # Also with the strategy that would drop the original first.
    assert good(copied(cluster, store, app, strategy="replace"))["kept_as"] is None
    second = databases(cluster)
    assert second.keys() == first.keys() and second[COPY] != first[COPY] and second["app"] == first["app"]
    assert cluster.psql("SELECT to_regclass('public.later') IS NULL", COPY) == "t"
    assert cluster.psql("SHOW work_mem", COPY) == "5MB"
    assert cluster.psql("SELECT count(*) FROM infrazero.replaced") == "0"


@pytest.mark.parametrize("name", ["other", "postgres", "template1", "app"])
def test_no_other_database_is_replaced_by_a_copy(cluster: Cluster, store: Store, app: Database, name: str) -> None:
    """Whatever the list and the command have let through."""
    scene.make(cluster, scene.entry("other"))
    there, records = databases(cluster), recorded(cluster)
    assert "no restore has made it as a copy" in error(copied(cluster, store, app, name))
    assert (databases(cluster), recorded(cluster)) == (there, records)


def test_a_database_that_got_the_name_of_a_copy_is_not_one(cluster: Cluster, store: Store, app: Database) -> None:
    good(copied(cluster, store, app, drop_after=datetime.timedelta(microseconds=1)))
    cluster.psql(f"DROP DATABASE {COPY}")
    scene.make(cluster, scene.entry(COPY))
    there = databases(cluster)
    assert "choose another name" in error(copied(cluster, store, app))
    assert registry.open_source(cluster.settings).expire_replaced([]) == []
    assert databases(cluster) == there


def test_a_database_that_appears_under_the_name_while_the_copy_is_filled_stays(
    cluster: Cluster, store: Store, app: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    good(copied(cluster, store, app))
    real = swap.swap

    def another(*arguments: t.Any, **options: t.Any) -> swap.SwapResult:
        cluster.psql(f"DROP DATABASE {COPY}")
        cluster.psql(f"CREATE DATABASE {COPY}")
        cluster.psql("CREATE TABLE precious (id int)", COPY)
        return real(*arguments, **options)

    monkeypatch.setattr(swap, "swap", another)
    there = databases(cluster).keys()
    assert "no restore has made it as a copy" in error(copied(cluster, store, app))
    assert databases(cluster).keys() == there
    assert cluster.psql("SELECT count(*) FROM precious", COPY) == "0"


def test_a_copy_is_dropped_when_its_time_is_over(cluster: Cluster, store: Store, app: Database) -> None:
    soon, later = datetime.timedelta(microseconds=1), datetime.timedelta(hours=1)
    for name, keep in (("one", soon), ("two", later), ("three", None)):
        good(copied(cluster, store, app, name, drop_after=keep))
    assert {"one", "two", "three"} < databases(cluster).keys()
    back_up(cluster, store, app)
    left = databases(cluster).keys()
    assert {"two", "three", "app"} <= left and "one" not in left
    assert cluster.psql("SELECT string_agg(name, ' ' ORDER BY name) FROM infrazero.copy") == "three two"
    # Not one that is being replaced.
    cluster.psql("UPDATE infrazero.copy SET drop_after = now()")
    with lock.locked_session(cluster.settings, "two", doing="restore"):
        back_up(cluster, store, app)
    assert "two" in databases(cluster) and "three" not in databases(cluster)


def test_a_copy_that_the_list_declares_is_a_database_like_any_other(
    cluster: Cluster, store: Store, app: Database
) -> None:
    good(copied(cluster, store, app, drop_after=datetime.timedelta(microseconds=1)))
    declared = dataclasses.replace(app, name=COPY, backup_prefix=None)
    back_up(cluster, store, declared)
    back_up(cluster, store, app)
    assert COPY in databases(cluster)


def test_a_copy_is_of_one_database(cluster: Cluster, store: Store, app: Database) -> None:
    options = RestoreOptions(as_name=COPY)
    for changes in ({"entries": [app, scene.entry("web")]}, {"entries": [app], "outstanding_only": True}):
        with pytest.raises(Exception, match="a copy is of one database"):
            restore.restore_all(settings=cluster.settings, store=store, options=options, **t.cast(t.Any, changes))


def test_a_copy_that_fails_leaves_nothing(
    cluster: Cluster, store: Store, app: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    there, records = databases(cluster), recorded(cluster)
    real = staging.roll_back_prepared

    def fail(conn: t.Any) -> None:
        real(conn)
        raise PostgresError("injected", phase="load")

    monkeypatch.setattr(staging, "roll_back_prepared", fail)
    assert "injected" in error(copied(cluster, store, app))
    assert (databases(cluster), recorded(cluster)) == (there, records)
    with contextlib.closing(connect(cluster.settings)) as admin:
        assert state.copies(admin) == ()
