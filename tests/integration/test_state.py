# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import datetime

import psycopg2
import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain import records
from ansible_collections.infrazero.database.plugins.module_utils._engine.errors import PostgresError
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql import facts, state
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.connection import connect

SOURCE = records.RestoredFrom(
    url="s3://bucket/db/app/20260101T000000Z.sql.gz.age",
    key="db/app/20260101T000000Z.sql.gz.age",
    sha256="0" * 64,
    created_at="2026-01-01T00:00:00Z",
    manifest_sha256="1" * 64,
    system_identifier="7",
    sequence=6,
)
MADE = records.BackupRecord(
    database="app",
    location="s3://bucket/db/app/",
    sequence=7,
    manifest_sha256="2" * 64,
    key="db/app/20260101T000000Z.sql.gz.age",
    created_at=datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc),
    signed_by={"name": "db1", "key": "SHA256:x"},
)
#: The tables as release 0.1 made them.
VERSION_1 = """
CREATE SCHEMA infrazero;
CREATE TABLE infrazero.version (one boolean PRIMARY KEY DEFAULT true CHECK (one), version integer NOT NULL);
INSERT INTO infrazero.version (version) VALUES (1);
CREATE TABLE infrazero.bootstrap (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, host text NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now(), finished_at timestamptz
);
CREATE UNIQUE INDEX bootstrap_unfinished ON infrazero.bootstrap ((true)) WHERE finished_at IS NULL;
CREATE TABLE infrazero.database (
    name text PRIMARY KEY, restore text NOT NULL CHECK (restore IN ('outstanding', 'restored', 'empty', 'skipped')),
    restored_from jsonb, dropped jsonb CHECK (dropped IS NULL OR restore = 'outstanding'),
    since timestamptz NOT NULL DEFAULT now(), CHECK ((restore = 'restored') = (restored_from IS NOT NULL))
);
CREATE TABLE infrazero.restore (
    id text PRIMARY KEY, database text NOT NULL, stage text NOT NULL, role text NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE infrazero.replaced (
    name text PRIMARY KEY, database text NOT NULL, replaced_at timestamptz NOT NULL DEFAULT now(),
    drop_after timestamptz NOT NULL
);
CREATE TABLE infrazero.passwords (one boolean PRIMARY KEY DEFAULT true CHECK (one), proof text NOT NULL);
INSERT INTO infrazero.database (name, restore, restored_from) VALUES
    ('app', 'restored', '{"url": "u", "key": "k", "sha256": "00", "created_at": null, "manifest_sha256": "11",
                          "system_identifier": "7"}');
INSERT INTO infrazero.passwords (proof) VALUES ('kept');
"""
NASTY = ["a'b", 'a"b', "%s", "{{ x }}", "\\", "ü😀", "App", "app", "x" * 63, "\x01"]


def test_where_nothing_was_recorded_reading_finds_nothing(admin):
    assert not state.exists(admin)
    assert state.latest_bootstrap(admin) is None
    assert state.database_records(admin) == {}
    assert state.database_record(admin, "app") is None
    assert state.outstanding(admin) == ()
    assert state.restores(admin) == ()
    assert state.replaced(admin) == ()
    assert state.passwords_proof(admin) is None
    assert state.last_backup(admin, "app", location="s3://b/db/app/") is None
    assert not state.exists(admin)


def test_a_bootstrap_from_its_beginning_to_its_end(admin):
    begun = state.begin_bootstrap(admin, {"app": True, "web": True, "log": False}, host="db1")
    assert begun.host == "db1"
    assert begun.finished_at is None
    assert state.outstanding(admin) == ("app", "web")
    assert state.database_record(admin, "log").restore == records.SKIPPED
    assert not state.finish_bootstrap(admin)
    state.record_outcome(admin, "app", records.RESTORED, restored_from=SOURCE)
    assert state.outstanding(admin) == ("web",)
    assert not state.finish_bootstrap(admin)
    state.record_outcome(admin, "web", records.EMPTY)
    assert state.finish_bootstrap(admin)
    assert state.latest_bootstrap(admin).finished_at >= begun.started_at
    record = state.database_record(admin, "app")
    assert record.restored_from == SOURCE
    assert state.database_record(admin, "web").restored_from is None


def test_an_interrupted_bootstrap_is_resumed(admin):
    begun = state.begin_bootstrap(admin, {"app": True, "web": True}, host="db1")
    state.record_outcome(admin, "app", records.RESTORED, restored_from=SOURCE)
    resumed = state.begin_bootstrap(admin, {"app": True, "web": True, "new": True}, host="db1")
    assert resumed == begun
    assert state.outstanding(admin) == ("new", "web")
    assert state.database_record(admin, "app").restore == records.RESTORED


def test_after_a_finished_bootstrap_the_next_is_another(admin):
    first = state.begin_bootstrap(admin, {}, host="db1")
    assert state.finish_bootstrap(admin)
    assert state.begin_bootstrap(admin, {}, host="db1").id > first.id


def test_nothing_stays_of_a_transaction_that_was_rolled_back(cluster, admin):
    with contextlib.closing(connect(cluster.settings, autocommit=False)) as conn:
        state.begin_bootstrap(conn, {"app": True}, host="db1")
        state.record_outcome(conn, "app", records.EMPTY)
        conn.rollback()
    assert not state.exists(admin)
    assert state.outstanding(admin) == ()


@pytest.mark.parametrize("name", NASTY)
def test_any_name_is_only_a_name(admin, name):
    state.begin_bootstrap(admin, {name: True}, host=name)
    assert state.outstanding(admin) == (name,)
    state.record_outcome(admin, name, records.EMPTY)
    state.begin_restore(admin, "r1", database=name, stage=name, role=name)
    state.record_replaced(admin, name, database=name, keep=datetime.timedelta(hours=1))
    assert state.database_record(admin, name).restore == records.EMPTY
    assert state.latest_bootstrap(admin).host == name
    (record,) = state.restores(admin, database=name)
    assert (record.database, record.stage, record.role) == (name, name, name)
    (kept,) = state.replaced(admin, database=name)
    assert (kept.name, kept.database) == (name, name)


def test_a_restore_is_known_until_it_ends(admin):
    state.begin_restore(admin, "r1", database="app", stage="app__restore_r1", role="infrazero_restore_r1")
    state.begin_restore(admin, "r2", database="web", stage="web__restore_r2", role="infrazero_restore_r2")
    assert [record.id for record in state.restores(admin)] == ["r1", "r2"]
    (record,) = state.restores(admin, database="web")
    assert record.stage == "web__restore_r2"
    state.end_restore(admin, "r1")
    assert [record.id for record in state.restores(admin)] == ["r2"]


def test_replaced_databases_expire_by_the_servers_clock(admin):
    state.record_replaced(admin, "app__replaced_1", database="app", keep=datetime.timedelta(hours=-1))
    state.record_replaced(admin, "app__replaced_2", database="app", keep=datetime.timedelta(hours=1))
    state.record_replaced(admin, "web__replaced_3", database="web", keep=datetime.timedelta(0))
    assert {record.name for record in state.replaced(admin)} == {
        "app__replaced_1",
        "app__replaced_2",
        "web__replaced_3",
    }
    assert {record.name for record in state.replaced(admin, expired=True)} == {"app__replaced_1", "web__replaced_3"}
    assert [record.name for record in state.replaced(admin, expired=True, database="app")] == ["app__replaced_1"]
    state.forget_replaced(admin, "app__replaced_1")
    assert [record.name for record in state.replaced(admin, database="app")] == ["app__replaced_2"]


@pytest.mark.parametrize(("outcome", "source"), [(records.RESTORED, None), (records.EMPTY, SOURCE), ("nonsense", None)])
def test_the_tables_refuse_what_can_not_be(admin, outcome, source):
    with pytest.raises(PostgresError, match="23514"):
        state.record_outcome(admin, "app", outcome, restored_from=source)


def test_the_last_backup_in_each_place_is_known(admin):
    elsewhere = dataclasses.replace(MADE, location="s3://other/db/app/", sequence=3, signed_by=None)
    for made in (MADE, elsewhere, dataclasses.replace(MADE, database="web", sequence=1)):
        state.record_backup(admin, made)
    assert state.last_backup(admin, "app", location=MADE.location) == MADE
    assert state.last_backup(admin, "app", location=elsewhere.location) == elsewhere
    assert state.last_backup(admin, "log", location=MADE.location) is None
    # Also a lower one, which is only made where somebody has taken a prefix over.
    again = dataclasses.replace(MADE, sequence=1, key="k")
    state.record_backup(admin, again)
    assert state.last_backup(admin, "app", location=MADE.location) == again


def test_the_state_of_an_older_release_is_brought_up_to_date(cluster, admin):
    admin.cursor().execute(VERSION_1)

    def version():
        cursor = admin.cursor()
        cursor.execute("SELECT version, to_regclass('infrazero.backup') IS NOT NULL FROM infrazero.version")
        return cursor.fetchone()

    # Reading needs no migration.
    assert state.last_backup(admin, "app", location=MADE.location) is None
    assert version() == (1, False)
    # All of it or nothing.
    with contextlib.closing(connect(cluster.settings, autocommit=False)) as conn:
        state.record_backup(conn, MADE)
        conn.rollback()
    assert version() == (1, False)
    state.record_backup(admin, MADE)
    assert version() == (3, True)
    assert state.last_backup(admin, "app", location=MADE.location) == MADE
    record = state.database_record(admin, "app")
    assert (record.restored_from.manifest_sha256, record.restored_from.sequence) == ("11", None)
    assert state.passwords_proof(admin) == "kept"
    state.ensure(admin)
    assert version() == (3, True)


def test_two_may_bring_the_state_up_to_date_at_once(cluster, admin):
    admin.cursor().execute(VERSION_1)

    def record(number):
        with contextlib.closing(connect(cluster.settings)) as conn:
            state.record_backup(conn, dataclasses.replace(MADE, database=f"db{number}"))

    with concurrent.futures.ThreadPoolExecutor(4) as executor:
        list(executor.map(record, range(8)))
    assert all(state.last_backup(admin, f"db{number}", location=MADE.location) for number in range(8))


def test_others_may_not_look(cluster, admin):
    state.begin_bootstrap(admin, {"app": True}, host="db1")
    cursor = admin.cursor()
    cursor.execute("CREATE ROLE tony LOGIN PASSWORD 'x'")
    cursor.execute(
        "SELECT relname::text FROM pg_class WHERE relnamespace = 'infrazero'::regnamespace AND relkind IN ('r', 'S')"
    )
    relations = [row[0] for row in cursor.fetchall()]
    assert len(relations) >= 7
    with contextlib.closing(
        psycopg2.connect(host="127.0.0.1", port=cluster.port, user="tony", password="x", dbname="postgres")
    ) as conn:
        conn.autocommit = True
        for relation in relations:
            with pytest.raises(psycopg2.errors.InsufficientPrivilege):
                conn.cursor().execute(f"SELECT * FROM infrazero.{relation}")
    # ... also when somebody lets them into the schema by mistake.
    cursor.execute("GRANT USAGE ON SCHEMA infrazero TO tony")
    for relation in relations:
        cursor.execute("SELECT has_table_privilege('tony', %s, 'SELECT')", (f"infrazero.{relation}",))
        assert cursor.fetchone() == (False,)


def test_a_newer_release_is_respected(admin):
    state.ensure(admin)
    admin.cursor().execute("UPDATE infrazero.version SET version = version + 1")
    with pytest.raises(PostgresError, match="newer release"):
        state.begin_bootstrap(admin, {"app": True}, host="db1")
    assert state.database_records(admin) == {}


def test_two_may_begin_at_once(cluster):
    def begin(number):
        with contextlib.closing(connect(cluster.settings)) as conn:
            return state.begin_bootstrap(conn, {f"db{number}": True}, host="db1").id

    with concurrent.futures.ThreadPoolExecutor(4) as executor:
        assert len(set(executor.map(begin, range(8)))) == 1
    with contextlib.closing(connect(cluster.settings)) as conn:
        assert len(state.outstanding(conn)) == 8


def test_state_survives_a_crash(fresh_cluster):
    with contextlib.closing(connect(fresh_cluster.settings)) as conn:
        state.begin_bootstrap(conn, {"app": True}, host="db1")
        conn.cursor().execute("CHECKPOINT")
    fresh_cluster.restart(immediate=True)
    with contextlib.closing(connect(fresh_cluster.settings)) as conn:
        assert state.outstanding(conn) == ("app",)
        assert facts.cluster_facts(conn).unfinished


# Facts --------------------------------------------------------------------------------------------------------------


def test_a_cluster_from_initdb_is_fresh(cluster, admin):
    found = facts.cluster_facts(admin)
    assert found.fresh
    assert not found.unfinished
    assert found.outstanding == ()
    assert found.server_version_num // 10000 == cluster.major
    assert found.server_version.startswith(f"{cluster.major}.")
    assert found.databases == ("postgres", "template0", "template1")
    assert not found.in_recovery
    assert int(found.system_identifier) > 0


def test_somebodys_database_makes_it_not_fresh(admin):
    admin.cursor().execute("CREATE DATABASE somebodys")
    assert not facts.cluster_facts(admin).fresh


def test_a_record_makes_it_not_fresh_and_an_unfinished_one_is_resumed(admin):
    state.begin_bootstrap(admin, {"app": True}, host="db1")
    found = facts.cluster_facts(admin)
    assert (found.fresh, found.unfinished, found.outstanding) == (False, True, ("app",))
    assert found.records["app"].restore == records.OUTSTANDING
    state.record_outcome(admin, "app", records.EMPTY)
    state.finish_bootstrap(admin)
    found = facts.cluster_facts(admin)
    assert (found.fresh, found.unfinished, found.outstanding) == (False, False, ())


def test_clusters_differ_by_their_system_identifier(admin, fresh_cluster):
    with contextlib.closing(connect(fresh_cluster.settings)) as conn:
        theirs = facts.cluster_facts(conn).system_identifier
    assert facts.cluster_facts(admin).system_identifier != theirs


def test_facts_of_a_database(cluster, admin):
    cursor = admin.cursor()
    for role in ("owner", "table_owner", "grantee", "database_grantee", "stranger"):
        cursor.execute(f"CREATE ROLE {role}")
    cursor.execute("CREATE DATABASE app OWNER owner")
    cursor.execute("GRANT CONNECT ON DATABASE app TO database_grantee")
    with contextlib.closing(connect(cluster.settings, database="app")) as conn:
        conn.cursor().execute(
            "CREATE TABLE public.rows (); ALTER TABLE public.rows OWNER TO table_owner;"
            "GRANT SELECT ON public.rows TO grantee"
        )
        found = facts.database_facts(conn, "app")
        assert found.roles == ("database_grantee", "grantee", "owner", "table_owner")
        assert [extension.name for extension in found.extensions] == ["plpgsql"]
        assert (found.encoding, found.collate, found.ctype) == ("UTF8", "C.UTF-8", "C.UTF-8")
        assert (found.locale_provider, found.icu_locale) == ("libc", None)
        assert found.size > 1_000_000
        replaced = facts.replaced_facts(admin, "app")
        assert (replaced.owner, replaced.sessions) == ("owner", 1)
        assert replaced.size == found.size
        with pytest.raises(PostgresError, match="the session is in 'app'"):
            facts.database_facts(conn, "web")
    assert facts.replaced_facts(admin, "web") is None
    assert facts.role_names(admin) >= {"owner", "stranger", "postgres"}


def test_locale_of_another_provider(cluster, admin):
    if not cluster.has_icu:
        pytest.skip("this server has no ICU locales for databases")
    admin.cursor().execute(
        "CREATE DATABASE app TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'en-US' LOCALE 'C.UTF-8'"
    )
    with contextlib.closing(connect(cluster.settings, database="app")) as conn:
        found = facts.database_facts(conn, "app")
    assert (found.locale_provider, found.icu_locale) == ("icu", "en-US")
