# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An owner changes the settings of a database; neither our sessions nor its dumps obey any of them."""

from __future__ import annotations

import contextlib
import os
import pathlib
import subprocess
import typing as t

import psycopg2
import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine.backup import backup
from ansible_collections.infrazero.database.plugins.module_utils._engine.backup.plan import BackupOptions
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.restoring import RestoreOptions
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.secret import Secret
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.trust import UNSIGNED, Trust
from ansible_collections.infrazero.database.plugins.module_utils._engine.restore import restore
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql import dump
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.connection import connect
from ansible_collections.infrazero.database.plugins.module_utils._engine.stores.base import DirectorySettings
from ansible_collections.infrazero.database.plugins.module_utils._engine.stores.registry import open_store
from psycopg2 import sql

from tests.support import scene
from tests.support.cluster import Cluster

CONTENT = r"""
CREATE TABLE public."Every type" (
    id int PRIMARY KEY, words text, bytes bytea, price money, at timestamptz, span interval, doc xml, real float8,
    names text[], word tsvector
);
INSERT INTO public."Every type" VALUES
    (1, 'back\slash ''quote'' 表示', '\xdeadbeef', 1234.56, '2026-02-03 04:05:06.789+09',
     '1 year 2 mons -3 days 04:05:06', '<a>é</a>', 0.1 + 0.2, ARRAY[NULL, 'NULL', ''],
     to_tsvector('english', 'walking')),
    (2, NULL, '\x5c', -0.5, 'infinity', '-1 day', NULL, 'NaN', ARRAY[]::text[], '');
CREATE VIEW public.v AS SELECT id, "Every type".at::date AS day FROM public."Every type" WHERE words <> E'\\';
CREATE FUNCTION public.f(a int DEFAULT 1) RETURNS int LANGUAGE sql AS 'SELECT a';
CREATE INDEX ON public."Every type" (lower(words)) WHERE price > '1'::money;
ALTER TABLE public."Every type" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY p ON public."Every type" USING (false);
"""

#: Values that hurt, where the setting's type doesn't give one.
HOSTILE = {
    "application_name": "pg_dump",
    "DateStyle": "SQL, DMY",
    "TimeZone": "Asia/Tokyo",
    "client_encoding": "SJIS",
    "createrole_self_grant": "set, inherit",
    "default_table_access_method": "heap",
    "default_tablespace": "pg_default",
    "default_text_search_config": "pg_catalog.german",
    "lc_monetary": "C",
    "lc_numeric": "C",
    "lc_time": "C",
    "local_preload_libraries": "nosuch",
    "restrict_nonsystem_relation_kind": "view, foreign-table",
    "role": "app",
    "search_path": "evil, public",
    "seed": "0.5",
    "session_authorization": "app",
    "temp_tablespaces": "pg_default",
    "timezone_abbreviations": "India",
}


def hostile(name: str, kind: str, setting: str, least: str | None, most: str | None, choices: list[str] | None) -> str:
    if name in HOSTILE:
        return HOSTILE[name]
    if kind == "bool":
        return "off" if setting == "on" else "on"
    if kind == "enum":
        assert choices
        return next((choice for choice in reversed(choices) if choice != setting), setting)
    if name.endswith("timeout"):
        return "1"
    value = least if least != setting else most
    assert value is not None, f"what would hurt in {name}?"
    return value


def dumped(cluster: Cluster) -> bytes:
    """What a backup gets out of pg_dump."""
    arguments = dump.arguments(
        str(cluster.bindir / "pg_dump"), cluster.settings, "app", encoding="UTF8", lock_wait_seconds=10
    )
    environment = {"PATH": os.defpath, **dump.environment(cluster.settings)}
    done = subprocess.run(arguments, env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    # Newer ones write a random key.
    return b"\n".join(line for line in done.stdout.splitlines() if b"restrict " not in line)


@pytest.fixture
def app(cluster: Cluster) -> t.Iterator[psycopg2.extensions.connection]:
    """A session of the owner of the database app, as it was before any setting."""
    database = scene.entry("app")
    scene.make(cluster, database, CONTENT if cluster.has_xml else CONTENT.replace("doc xml", "doc text"))
    with contextlib.closing(
        psycopg2.connect(
            host="127.0.0.1", port=cluster.port, user="app", password=database.password.reveal(), dbname="app"
        )
    ) as owner:
        owner.autocommit = True
        yield owner


def change(owner: psycopg2.extensions.connection, name: str, value: str) -> bool:
    """Set *name* for the database as its owner; whether the server let him."""
    items = sql.SQL(", ").join(sql.Literal(item.strip()) for item in value.split(",")) if name != "DateStyle" else None
    try:
        owner.cursor().execute(
            sql.SQL("ALTER DATABASE app SET {} = {}").format(sql.Identifier(name), items or sql.Literal(value))
        )
    except psycopg2.Error:
        return False
    return True


def test_no_setting_of_a_database_changes_a_session_or_a_dump(
    cluster: Cluster, app: psycopg2.extensions.connection
) -> None:
    with contextlib.closing(connect(cluster.settings, database="app")) as conn, conn.cursor() as cursor:
        everything = "SELECT name, setting FROM pg_catalog.pg_settings WHERE context = 'user' ORDER BY name"
        cursor.execute(everything)
        untouched = cursor.fetchall()
        cursor.execute(
            "SELECT name, vartype, setting, min_val, max_val, enumvals FROM pg_catalog.pg_settings"
            " WHERE context = 'user' ORDER BY name"
        )
        settings = [
            *cursor.fetchall(),
            *((name, "string", "", None, None, None) for name in ("role", "seed", "session_authorization")),
        ]
    original = dumped(cluster)
    changed = []
    for name, *facts in settings:
        if not change(app, name, hostile(name, *facts)):
            continue
        changed.append(name)
        with contextlib.closing(connect(cluster.settings, database="app")) as conn, conn.cursor() as cursor:
            cursor.execute(everything)
            now = dict(cursor.fetchall())
            # Those of a transaction end with it; the session's first transaction has ended.
            assert {key: value for key, value in now.items() if not key.startswith("transaction_")} == {
                key: value for key, value in untouched if not key.startswith("transaction_")
            }, name
            cursor.execute("SELECT current_user, session_user")
            assert cursor.fetchone() == ("postgres", "postgres"), name
        assert dumped(cluster) == original, name
        # Not as the owner, whom newer servers refuse it for some settings.
        cluster.psql("ALTER DATABASE app RESET ALL")
    # All but those that belong to a transaction or exist for one value.
    assert {"client_encoding", "role", "local_preload_libraries", "row_security", "search_path"} <= set(changed)
    assert len(changed) > 100, changed


def test_all_settings_at_once(cluster: Cluster, app: psycopg2.extensions.connection, tmp_path: pathlib.Path) -> None:
    for name in HOSTILE:
        change(app, name, HOSTILE[name])
    app.cursor().execute("ALTER DATABASE app SET statement_timeout = 1")
    app.cursor().execute("ALTER DATABASE app SET quote_all_identifiers = on")
    with contextlib.closing(connect(cluster.settings, database="app")) as conn, conn.cursor() as cursor:
        cursor.execute("SELECT pg_catalog.pg_sleep(0.01)")
    database = scene.entry("app")
    store = open_store(DirectorySettings(path=str(tmp_path)))
    made = backup.back_up_all([database], settings=cluster.settings, store=store, options=BackupOptions())
    assert not made.failed, made.failed[0].error
    restored = restore.restore_all(
        [database],
        settings=cluster.settings,
        store=store,
        options=RestoreOptions(trust=Trust(mode=UNSIGNED)),
        source=f"{database.prefix}latest-dump.json",
    )
    assert not restored.failed, restored.failed[0].error
    with contextlib.closing(connect(cluster.settings, database="app")) as conn, conn.cursor() as cursor:
        cursor.execute('SELECT words FROM public."Every type" WHERE id = 1')
        assert cursor.fetchall() == [("back\\slash 'quote' 表示",)]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("client_encoding", "SJIS"),
        ("role", "app"),
        ("local_preload_libraries", "nosuch"),
        ("row_security", "off"),
        ("idle_session_timeout", "1"),
    ],
)
def test_an_owner_can_not_lock_out_backup_and_restore(
    cluster: Cluster, app: psycopg2.extensions.connection, tmp_path: pathlib.Path, name: str, value: str
) -> None:
    if not change(app, name, value):
        pytest.skip(f"PostgreSQL {cluster.major} has no {name}")
    database = scene.entry("app")
    store = open_store(DirectorySettings(path=str(tmp_path)))
    made = backup.back_up_all([database], settings=cluster.settings, store=store, options=BackupOptions())
    assert not made.failed, made.failed[0].error
    restored = restore.restore_all(
        [database],
        settings=cluster.settings,
        store=store,
        options=RestoreOptions(trust=Trust(mode=UNSIGNED)),
        source=f"{database.prefix}latest-dump.json",
    )
    assert not restored.failed, restored.failed[0].error
    # The setting is the owner's; it comes back with the database.
    assert cluster.psql("SELECT setconfig::text FROM pg_db_role_setting s WHERE setrole = 0").startswith(f"{{{name}=")


def test_settings_of_a_role_in_the_database_are_covered(cluster: Cluster, app: psycopg2.extensions.connection) -> None:
    cluster.psql("ALTER ROLE postgres IN DATABASE app SET statement_timeout = 1")
    cluster.psql("ALTER ROLE postgres IN DATABASE app SET \"DateStyle\" = 'SQL, DMY'")
    with contextlib.closing(connect(cluster.settings, database="app")) as conn, conn.cursor() as cursor:
        cursor.execute("SELECT pg_catalog.pg_sleep(0.01), current_setting('DateStyle')")
        assert cursor.fetchall()[0][1].startswith("ISO")
    dumped(cluster)


def test_a_password_role_comes_in_with_the_same_settings(cluster: Cluster, app: psycopg2.extensions.connection) -> None:
    change(app, "search_path", "evil")
    app.cursor().execute("ALTER ROLE app PASSWORD 'x'")
    with (
        contextlib.closing(connect(cluster.settings, database="app", user="app", password=Secret("x"))) as conn,
        conn.cursor() as cursor,
    ):
        cursor.execute("SHOW search_path")
        assert cursor.fetchall() != [("evil",)]
