# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Backups and restores on a server, by a role and of a database whose settings would change or end them."""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
import signal
import subprocess
import time
import typing as t

import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine.backup import backup
from ansible_collections.infrazero.database.plugins.module_utils._engine.backup.plan import BackupOptions
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.databases import Database
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.restoring import RestoreOptions
from ansible_collections.infrazero.database.plugins.module_utils._engine.reporting import Silent
from ansible_collections.infrazero.database.plugins.module_utils._engine.restore import restore
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql import loader_role
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.connection import (
    ADMINISTRATION,
    connect,
)
from ansible_collections.infrazero.database.plugins.module_utils._engine.stores.base import Store

from tests.support import scene
from tests.support.cluster import Cluster, wait_until
from tests.support.outcomes import error, good
from tests.support.signing import SigningHost, trust
from tests.support.stores import keys

if t.TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection

#: Each with a value that has broken, or would break, something.
HOSTILE = {
    "DateStyle": "German, DMY",
    "IntervalStyle": "sql_standard",
    "array_nulls": "off",
    "backslash_quote": "off",
    "bytea_output": "escape",
    "client_encoding": "LATIN1",
    "client_min_messages": "debug5",
    "default_tablespace": "nowhere",
    "default_transaction_deferrable": "on",
    "default_transaction_isolation": "serializable",
    "default_transaction_read_only": "on",
    "extra_float_digits": "-15",
    "gin_fuzzy_search_limit": "1",
    "idle_in_transaction_session_timeout": "1ms",
    "idle_session_timeout": "250ms",
    "lock_timeout": "1ms",
    "quote_all_identifiers": "on",
    "restrict_nonsystem_relation_kind": "view, foreign-table",
    "row_security": "off",
    "search_path": "public, pg_catalog",
    "standard_conforming_strings": "off",
    "statement_timeout": "1ms",
    # Not shorter: connecting takes a transaction, too, and nobody can set anything before that.
    "transaction_timeout": "200ms",
    "transform_null_equals": "on",
    "xmlbinary": "hex",
    "xmloption": "document",
}

# What comes back changed, or not at all, if a session of ours takes over one of the settings above.
CONTENTS = """
SET check_function_bodies = off;
CREATE FUNCTION version() RETURNS text LANGUAGE sql AS $$ SELECT 'of a tenant' $$;
CREATE FUNCTION later() RETURNS bigint LANGUAGE sql AS $$ SELECT count(*) FROM public.one $$;
CREATE TABLE one (
    id int PRIMARY KEY, words text[], bytes bytea, number float8, day date, span interval, moment timestamptz, doc xml,
    note text DEFAULT E'it''s \\\\ "so"');
INSERT INTO one VALUES
    (1, ARRAY['a', NULL, 'NULL'], '\\x00ff41', 0.1::float8 + 0.2, '2026-02-01', '-1 day +02:03:04',
     '2026-02-01 03:04+00', 'a<b/>', NULL),
    (2, NULL, NULL, 1e-300, '0044-03-15 BC', '-1 years -2 mons', 'infinity', NULL, E'\\\\'' OR 1=1 --');
CREATE TABLE two (one_id int REFERENCES one, CHECK (one_id > 0));
INSERT INTO two VALUES (1), (2);
CREATE TABLE secret (id int, owner text);
INSERT INTO secret VALUES (1, 'app'), (2, 'nobody');
ALTER TABLE secret ENABLE ROW LEVEL SECURITY;
ALTER TABLE secret FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON secret USING (owner = current_user);
CREATE VIEW nulls AS SELECT id FROM one WHERE (note = NULL) IS NULL;
CREATE MATERIALIZED VIEW seen AS SELECT id, words, day FROM one;
CREATE MATERIALIZED VIEW over_a_view AS SELECT * FROM nulls;
CREATE INDEX ON one USING gin (words);
SELECT lo_from_bytea(0, '\\xdeadbeef');
"""


def dump(cluster: Cluster, database: str) -> list[str]:
    """Return the lines of a plain dump that another program has made."""
    done = subprocess.run(
        [cluster.bindir / "pg_dump", "-h", cluster.host, "-p", str(cluster.port), "-U", "postgres", "-d", database],
        capture_output=True,
        check=True,
        encoding="utf-8",
    )
    return [line for line in done.stdout.splitlines() if not re.match(r"\\(un)?restrict |-- Name: [0-9]+; ", line)]


@pytest.fixture
def configured(cluster: Cluster) -> t.Iterator[t.Callable[[str], None]]:
    """Configure the server as ``ALTER SYSTEM`` does, which such settings would themselves keep from being undone."""
    file = pathlib.Path(cluster.data_directory, "postgresql.auto.conf")
    postmaster = int(pathlib.Path(cluster.data_directory, "postmaster.pid").read_text().split()[0])

    def configure(line: str) -> None:
        begin = cluster.log.stat().st_size
        file.write_text(line)
        os.kill(postmaster, signal.SIGHUP)
        # The postmaster reads the file before it accepts the next connection.
        wait_until(lambda: "reloading configuration files" in cluster.log.read_bytes()[begin:].decode())

    yield configure
    configure("")


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> SigningHost:
    return SigningHost.make(tmp_path_factory.mktemp("keys"), "db1")


class Slow(Silent):
    """Lets every session be idle for longer than the timeouts above while something else is done."""

    def stage(self, database: str, stage: str, message: str, *, total: int | None = None) -> None:
        if stage in ("dump", "load", "swap"):
            time.sleep(0.3)


@pytest.fixture
def app(cluster: Cluster) -> Database:
    database = scene.entry("app")
    scene.make(cluster, database, CONTENTS if cluster.has_xml else CONTENTS.replace("doc xml", "doc text"))
    if cluster.major < 15:
        # As after every restore.  Newer servers have a role that stands for the owner of the database.
        cluster.psql("ALTER SCHEMA public OWNER TO app", "app")
    return database


def backed_up_and_restored(cluster: Cluster, store: Store, database: Database, host: SigningHost) -> None:
    """Make a backup and restore it in place, without a warning."""
    options = BackupOptions(signer=host.signer)
    made = backup.back_up_all([database], settings=cluster.settings, store=store, options=options, reporter=Slow())
    assert not good(made).details["warnings"]
    summary = restore.restore_all(
        [database],
        settings=cluster.settings,
        store=store,
        options=RestoreOptions(trust=trust(host), grant_app_user=False),
        reporter=Slow(),
    )
    assert not good(summary).details["warnings"]


def known(cluster: Cluster) -> list[str]:
    names = cluster.psql("SELECT name FROM pg_settings").splitlines()
    return [name for name in HOSTILE if name in names]


@pytest.mark.parametrize("name", HOSTILE)
def test_no_setting_of_the_server_changes_a_backup_or_a_restore(
    cluster: Cluster, store: Store, app: Database, host: SigningHost, configured: t.Callable[[str], None], name: str
) -> None:
    if name not in known(cluster):
        pytest.skip(f"PostgreSQL {cluster.major} has no {name}")
    before = dump(cluster, "app")
    configured(f"{name} = '{HOSTILE[name]}'\n")
    backed_up_and_restored(cluster, store, app, host)
    configured("")
    assert dump(cluster, "app") == before


@pytest.mark.parametrize("whose", ["DATABASE app", "ROLE postgres", "ROLE postgres IN DATABASE app", "ROLE ALL"])
def test_no_setting_of_a_role_or_a_database_changes_a_backup_or_a_restore(
    cluster: Cluster, store: Store, app: Database, host: SigningHost, admin: Connection, whose: str
) -> None:
    before = dump(cluster, "app")
    with admin.cursor() as cursor:
        for name in known(cluster):
            values = ", ".join(f"'{value}'" for value in HOSTILE[name].split(", "))
            cursor.execute(f"ALTER {whose} SET {name} TO {values}")
        try:
            backed_up_and_restored(cluster, store, app, host)
        finally:
            cursor.execute(f"ALTER {whose} RESET ALL")
    assert dump(cluster, "app") == before


def test_a_dump_is_loaded_without_the_servers_settings_for_superusers(
    cluster: Cluster, admin: Connection, configured: t.Callable[[str], None]
) -> None:
    configured("session_replication_role = replica\nlo_compat_privileges = on\nallow_system_table_mods = on\n")
    loader_role.create_loader_role(admin, "loader")
    admin.cursor().execute("CREATE DATABASE staging")
    sessions = (
        connect(cluster.settings),
        connect(cluster.settings, database="staging"),
        loader_role.connect_loader(cluster.settings, admin, database="staging", role="loader"),
    )
    for session in sessions:
        with contextlib.closing(session), session.cursor() as cursor:
            cursor.execute("SELECT name, setting FROM pg_settings WHERE name = ANY (%s)", (list(ADMINISTRATION),))
            found = dict(cursor.fetchall())
        assert found == ADMINISTRATION


def test_a_damaged_page_is_never_left_out_of_a_backup(fresh_cluster: Cluster, store: Store, host: SigningHost) -> None:
    """With zero_damaged_pages the server would give no rows of it, and only a warning."""
    app = scene.entry("app")
    scene.make(fresh_cluster, app, "CREATE TABLE t AS SELECT 1 AS id")
    file = fresh_cluster.data_directory / fresh_cluster.psql("SELECT pg_relation_filepath('t')", "app")
    fresh_cluster.stop()
    data = bytearray(file.read_bytes())
    data[12:20] = b"\xff" * 8  # the offsets in the header of the page
    file.write_bytes(data)
    with (fresh_cluster.data_directory / "postgresql.auto.conf").open("a") as settings:
        settings.write("zero_damaged_pages = on\nignore_checksum_failure = on\n")
    fresh_cluster.start()
    assert fresh_cluster.psql("SHOW zero_damaged_pages") == "on"

    options = BackupOptions(signer=host.signer)
    summary = backup.back_up_all([app], settings=fresh_cluster.settings, store=store, options=options)
    assert "invalid page in block 0" in error(summary)
    assert keys(store) == []
