# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Dumps loaded into real servers as a role that is no superuser."""

from __future__ import annotations

import contextlib
import io
import re

import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.secret import Secret
from ansible_collections.infrazero.database.plugins.module_utils._engine.errors import (
    ChecksumMismatch,
    DumpIncomplete,
    DumpSyntax,
    LoadError,
    ProcessFailed,
    RestoreRefused,
)
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql import archive, load
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.connection import connect
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.dumptext import events
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.dumptext import (
    tally as tallies,
)
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.dumptext.statements import (
    OwnerChange,
)
from ansible_collections.infrazero.database.plugins.module_utils._engine.streams.flow import Peekable
from psycopg2 import sql

from tests.integration.conftest import empty
from tests.support import nasty
from tests.support.dumps import dump

LOADER = "throwaway"
STAGE = "shop__restore_x"
NASTY = "nasty"
PASSWORD = Secret("only for tests")
PLAIN = ("--no-owner", "--no-privileges")


class Admin:
    """Does what a dump needs of a superuser, and notes it; extensions but hstore are refused."""

    def __init__(self, conn):
        self._conn = conn
        self.done = []

    def create_extension(self, name, schema):
        if name not in ("hstore", "plpgsql"):
            raise RestoreRefused(f"the extension {name} is not allowed")
        self._do("CREATE EXTENSION IF NOT EXISTS {} SCHEMA {}", name, schema or "public")

    def publish_all_tables(self, publication, parameters):
        self._do("CREATE PUBLICATION {} FOR ALL TABLES", publication, parameters=parameters)

    def publish_schemas(self, publication, schemas, *, create, parameters):
        if create:
            self._do("CREATE PUBLICATION {}", publication, parameters=parameters)
        for schema in schemas:
            self._do("ALTER PUBLICATION {} ADD TABLES IN SCHEMA {}", publication, schema)

    def _do(self, text, *names, parameters=()):
        statement = sql.SQL(text).format(*map(sql.Identifier, names))
        if parameters:
            pairs = [sql.SQL("{} = {}").format(sql.Identifier(name), sql.Literal(value)) for name, value in parameters]
            statement += sql.SQL(" WITH ({})").format(sql.SQL(", ").join(pairs))
        self.done.append(statement.as_string(self._conn))
        with self._conn.cursor() as cursor:
            cursor.execute(statement)


class Stage:
    """An empty database and the sessions of a load into it."""

    def __init__(self, cluster, loader, superuser):
        self._cluster = cluster
        self.loader = loader
        self.admin = Admin(superuser)

    def load(self, source, *, skip_acl=True, role_map=None):
        if isinstance(source, (bytes, str)):
            source = io.BytesIO(source.encode() if isinstance(source, str) else source)
        with archive.as_text(Peekable(source), server_version_num=self.loader.info.server_version) as text:
            return load.load(
                events.read(text),
                connection=self.loader,
                admin=self.admin,
                options=load.LoadOptions(skip_acl=skip_acl, role_map=role_map or {}),
            )

    def query(self, text):
        with contextlib.closing(connect(self._cluster.settings, database=STAGE)) as conn, conn.cursor() as cursor:
            cursor.execute(text)
            return cursor.fetchall()


@contextlib.contextmanager
def new_stage(cluster):
    cluster.psql(
        f"""
        DROP DATABASE IF EXISTS {STAGE};
        SELECT 'CREATE ROLE {LOADER} LOGIN' WHERE to_regrole('{LOADER}') IS NULL \\gexec
        ALTER ROLE {LOADER} PASSWORD '{PASSWORD.reveal()}';
        CREATE DATABASE {STAGE} TEMPLATE template0;
        GRANT CREATE, TEMPORARY ON DATABASE {STAGE} TO {LOADER};
        """
    )
    cluster.psql(f"ALTER SCHEMA public OWNER TO {LOADER}", STAGE)
    with (
        contextlib.closing(connect(cluster.settings, database=STAGE, user=LOADER, password=PASSWORD)) as loader,
        contextlib.closing(connect(cluster.settings, database=STAGE)) as superuser,
    ):
        yield Stage(cluster, loader, superuser)


@pytest.fixture
def stage(cluster):
    with new_stage(cluster) as made:
        yield made


# Real dumps ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def nasty_cluster(shared_cluster):
    nasty.create(shared_cluster, NASTY)
    yield shared_cluster
    empty(shared_cluster)


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--inserts",),
        ("--clean",),
        ("--clean", "--if-exists", "--quote-all-identifiers"),
        ("--format=custom",),
        ("--format=custom", "--compress=0"),
        ("--format=tar",),
        ("--use-set-session-authorization",),
        ("--encoding=UTF8", "--disable-dollar-quoting"),
    ],
    ids=" ".join,
)
def test_a_restored_database_is_the_same(nasty_cluster, options):
    original = dump(nasty_cluster, NASTY)
    with new_stage(nasty_cluster) as stage:
        result = stage.load(dump(nasty_cluster, NASTY, *options))
    # Whose it is in a new database.
    nasty_cluster.psql(
        f"ALTER SCHEMA public OWNER TO {'pg_database_owner' if nasty_cluster.major >= 15 else 'postgres'}", STAGE
    )
    assert dump(nasty_cluster, STAGE, *PLAIN).decode() == dump(nasty_cluster, NASTY, *PLAIN).decode()
    restored = dump(nasty_cluster, STAGE)
    assert tally(restored) == tally(original)
    assert f"OWNER TO {LOADER};".encode() in restored
    assert result.warnings == []
    if "--inserts" not in options:
        loaded = {name.replace('"', ""): rows for name, rows in result.rows.items()}
        assert loaded == {table.name.replace('"', ""): table.rows for table in tally(original)}
    if "--use-set-session-authorization" not in options:
        kinds = {change.kind for change in result.owner_changes}
        assert kinds >= {
            *("SCHEMA", "TYPE", "DOMAIN", "FUNCTION", "PROCEDURE", "AGGREGATE", "OPERATOR", "COLLATION", "TABLE"),
            *("STATISTICS", "TEXT SEARCH DICTIONARY", "TEXT SEARCH CONFIGURATION", "PUBLICATION", "LARGE OBJECT"),
        }
        assert {change.role for change in result.owner_changes} == {"postgres"}
        assert not [
            change for change in result.owner_changes if "OWNER" in change.identity.replace(nasty.AWKWARD_TABLE, "")
        ]


def tally(text):
    counter = tallies.Tally(bytes(32))
    counter.feed(text)
    return counter.finish()


# A constraint and a view that pg_dump dumps apart from their objects, and that --clean removes apart from them.
APART = """
CREATE SCHEMA s;
CREATE DOMAIN s.d AS integer;
ALTER DOMAIN s.d ADD CONSTRAINT positive CHECK (VALUE > 0) NOT VALID;
CREATE TYPE s.kind AS ENUM ('a', 'b');
CREATE TABLE s.t (id integer PRIMARY KEY, d s.d, kind s.kind);
CREATE VIEW s.v AS SELECT id, kind, count(*) AS n FROM s.t GROUP BY id;
INSERT INTO s.t VALUES (1, 1, 'a');
"""


@pytest.mark.parametrize("options", [("--clean",), ("--clean", "--if-exists")], ids=" ".join)
def test_what_a_dump_removes_first_need_not_exist(cluster, stage, options):
    cluster.psql("CREATE DATABASE source")
    cluster.psql(APART, "source")
    text = dump(cluster, "source", *options)
    assert b"ALTER DOMAIN s.d DROP CONSTRAINT" in text and b"CREATE OR REPLACE VIEW s.v" in text
    result = stage.load(text)
    assert result.warnings == []
    assert stage.query("SELECT * FROM s.v") == [(1, "a", 1)]
    cluster.psql(f"ALTER SCHEMA public OWNER TO {'pg_database_owner' if cluster.major >= 15 else 'postgres'}", STAGE)
    assert dump(cluster, STAGE, *PLAIN).decode() == dump(cluster, "source", *PLAIN).decode()


# As pg_dump 8.4 and pg_dump 9.6 wrote it.
OLD = """
--
-- PostgreSQL database dump
--

SET statement_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = off;
SET check_function_bodies = false;
SET client_min_messages = warning;
SET escape_string_warning = off;

DROP LANGUAGE plpgsql;
CREATE OR REPLACE PROCEDURAL LANGUAGE plpgsql;
ALTER PROCEDURAL LANGUAGE plpgsql OWNER TO postgres;
COMMENT ON LANGUAGE plpgsql IS 'x';
CREATE EXTENSION IF NOT EXISTS plpgsql WITH SCHEMA pg_catalog;

SET search_path = public, pg_catalog;
SET default_tablespace = '';
SET default_with_oids = true;

CREATE TABLE old (a integer, b text DEFAULT E'\\\\');
ALTER TABLE public.old OWNER TO postgres;

SET default_with_oids = false;

CREATE TABLE older (a integer) WITH OIDS;
CREATE TABLE oldest (a integer) WITH (fillfactor=70, oids=true);
CREATE TABLE without (a integer) WITHOUT OIDS;
ALTER TABLE without SET WITH OIDS;

COPY old (a, b) FROM stdin;
1\tx
\\.

COPY older (a) FROM stdin;
2
\\.

REVOKE ALL ON LANGUAGE plpgsql FROM PUBLIC;
GRANT ALL ON LANGUAGE plpgsql TO PUBLIC;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
REVOKE ALL ON SCHEMA public FROM postgres;
GRANT ALL ON SCHEMA public TO postgres;
GRANT ALL ON SCHEMA public TO PUBLIC;

--
-- PostgreSQL database dump complete
--

"""
BY_HAND = """
INSERT INTO old VALUES (3);
COPY older (a) FROM stdin;
4
\\.
"""


@pytest.mark.parametrize("skip_acl", [True, False])
def test_an_old_dump_is_loaded_without_its_oids(stage, skip_acl):
    result = stage.load(OLD + BY_HAND, skip_acl=skip_acl)
    assert stage.query("SELECT a FROM public.old UNION SELECT a FROM public.older ORDER BY a") == [
        (1,),
        (2,),
        (3,),
        (4,),
    ]
    assert stage.query("SELECT relname, reloptions FROM pg_class WHERE relname IN ('oldest', 'older') ORDER BY 1") == [
        ("older", None),
        ("oldest", ["fillfactor=70"]),
    ]
    assert [line.partition(" left out")[0] for line in result.warnings if "oid" in line] == [
        "parameter default_with_oids",
        "oid column of table older",
        "oid column of table oldest",
        "oid column of table without",
    ]
    assert not [line for line in result.warnings if "plpgsql" in line]


def test_half_of_what_was_added_to_a_dump_is_incomplete(stage):
    for end in (BY_HAND.index(";"), BY_HAND.rindex("4"), len(BY_HAND) - 2):
        with pytest.raises(DumpIncomplete):
            stage.load((OLD + BY_HAND)[: len(OLD) + end].replace("CREATE TABLE", "CREATE TABLE IF NOT EXISTS"))


def test_rows_with_oids_are_refused_with_the_remedy(stage):
    with pytest.raises(DumpSyntax, match=r"public\.old begin with OIDs") as refused:
        stage.load("CREATE TABLE public.old (a integer);\nCOPY public.old (a) WITH OIDS FROM stdin;\n16384\t1\n\\.\n")
    assert "--oids" in refused.value.hint


# What is not loaded as it stands ------------------------------------------------------------------------------------


def test_extensions_and_wide_publications_are_the_superusers_business(stage):
    result = stage.load(
        """
        CREATE SCHEMA ext; CREATE SCHEMA other;
        CREATE EXTENSION IF NOT EXISTS hstore WITH SCHEMA ext;
        COMMENT ON EXTENSION hstore IS 'it''s';
        CREATE PUBLICATION a FOR ALL TABLES WITH (publish = 'insert', publish_via_partition_root = true);
        COMMENT ON PUBLICATION a IS 'x';
        CREATE PUBLICATION b WITH (publish = 'delete');
        ALTER PUBLICATION b ADD TABLES IN SCHEMA ext, other;
        CREATE PUBLICATION c FOR TABLES IN SCHEMA ext WITH (publish = 'update');
        """
    )
    assert stage.admin.done == [
        'CREATE EXTENSION IF NOT EXISTS "hstore" SCHEMA "ext"',
        'CREATE PUBLICATION "a" FOR ALL TABLES WITH ("publish" = \'insert\', "publish_via_partition_root" = \'true\')',
        'ALTER PUBLICATION "b" ADD TABLES IN SCHEMA "ext"',
        'ALTER PUBLICATION "b" ADD TABLES IN SCHEMA "other"',
        'CREATE PUBLICATION "c" WITH ("publish" = \'update\')',
        'ALTER PUBLICATION "c" ADD TABLES IN SCHEMA "ext"',
    ]
    assert result.warnings == ["COMMENT PUBLICATION a left out: the dump does not own the object"]
    assert stage.query("SELECT pubname, puballtables, pubviaroot FROM pg_publication ORDER BY 1") == [
        ("a", True, True),
        ("b", False, False),
        ("c", False, False),
    ]


def test_an_extension_that_is_not_allowed_ends_the_load(stage):
    with pytest.raises(RestoreRefused, match="pgcrypto"):
        stage.load("CREATE EXTENSION pgcrypto; CREATE TABLE t (a int);")
    assert stage.query("SELECT count(*) FROM pg_class WHERE relname = 't'") == [(0,)]


def test_what_reaches_beyond_the_database_is_left_out(stage):
    result = stage.load(
        """
        SET transaction_timeout_of_the_future = 0;
        SET SESSION AUTHORIZATION 'postgres';
        CREATE FUNCTION public.e() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
        CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION public.e();
        ALTER EVENT TRIGGER e OWNER TO postgres;
        CREATE SUBSCRIPTION s CONNECTION 'host=nowhere password=hunter2' PUBLICATION p;
        ALTER DEFAULT PRIVILEGES FOR ROLE postgres GRANT ALL ON TABLES TO PUBLIC;
        SECURITY LABEL FOR selinux ON FUNCTION public.e() IS 'x';
        COMMENT ON DATABASE postgres IS 'x';
        ALTER DATABASE postgres SET work_mem = '1GB';
        GRANT ALL ON DATABASE postgres TO PUBLIC;
        GRANT pg_read_all_data TO PUBLIC;
        RESET SESSION AUTHORIZATION;
        """,
        skip_acl=False,
    )
    surroundings = "it belongs to the database itself, not to its contents, and the restore sets that"
    assert sorted(str(skipped) for skipped in result.skipped if not skipped.loss) == [
        f"comment on database postgres left out: {surroundings}",
        f"database postgres left out: {surroundings}",
        f"grant on database postgres left out: {surroundings}",
        "parameter transaction_timeout_of_the_future left out: this server does not have it",
        "session of another role left out (2 statements): the restore sets the owners",
    ]
    assert [warning.partition(" left out")[0] for warning in result.warnings] == [
        "event trigger e",
        "subscription s",
        "default privileges of postgres",
        "security label",
        "membership of roles",
    ]
    assert "hunter2" not in str(result)
    assert stage.query("SELECT count(*) FROM pg_event_trigger") == [(0,)]


def test_owners_are_noted_and_not_set(stage):
    result = stage.load(
        "CREATE TABLE public.t (a int); ALTER TABLE public.t OWNER TO postgres;"
        'CREATE SCHEMA s; ALTER SCHEMA s OWNER TO "old role";',
        role_map={"old role": "new"},
    )
    assert result.owner_changes == [
        OwnerChange("TABLE", "public.t", "postgres"),
        OwnerChange("SCHEMA", "s", "new"),
    ]
    assert stage.query("SELECT tableowner FROM pg_tables WHERE tablename = 't'") == [(LOADER,)]


GRANTS = """
    CREATE TABLE public.t (a int, "to" int);
    REVOKE ALL ON TABLE public.t FROM PUBLIC;
    GRANT SELECT ON TABLE public.t TO reader;
    GRANT UPDATE("to") ON TABLE public.t TO "Wri;ter";
    GRANT INSERT ON TABLE public.t TO missing;
    GRANT DELETE ON TABLE public.t TO reader, missing;
    GRANT SELECT ON TABLE pg_catalog.pg_authid TO reader;
    CREATE POLICY p ON public.t TO reader USING (true);
"""


def test_grants_are_made_where_they_are_asked_for(cluster, stage):
    cluster.psql('CREATE ROLE reader; CREATE ROLE "Wri;ter"; CREATE ROLE other')
    result = stage.load(GRANTS, skip_acl=False, role_map={"reader": "other"})
    assert result.warnings == [
        "grant to missing left out (2 statements): there is no such role",
        "grant left out: the dump does not own the object",
    ]
    assert (
        stage.query("SELECT relacl::text FROM pg_class WHERE relname = 't'")
        == [(f"{{{LOADER}=arwdDxt/{LOADER},other=r/{LOADER}}}",)]
        or cluster.major > 16
    )
    assert stage.query(
        "SELECT attacl::text FROM pg_attribute WHERE attacl IS NOT NULL AND attrelid = 'public.t'::regclass"
    ) == [('{"\\"Wri;ter\\"=w/' + LOADER + '"}',)]
    assert stage.query("SELECT polroles::regrole[]::text FROM pg_policy") == [("{other}",)]


def test_grants_are_left_out_where_they_are_not_asked_for(cluster, stage):
    cluster.psql("CREATE ROLE reader")
    result = stage.load(GRANTS, skip_acl=True)
    assert [str(skipped) for skipped in result.skipped] == [
        "grant left out (6 statements): the restore was asked to skip the dump's grants"
    ]
    assert result.warnings == []
    assert stage.query("SELECT relacl::text FROM pg_class WHERE relname = 't'") == [(None,)]


def test_a_policy_for_a_missing_role_is_an_error(stage):
    with pytest.raises(LoadError, match="CREATE POLICY p needs a role that does not exist: nobody") as refused:
        stage.load("CREATE TABLE public.t (a int); CREATE POLICY p ON public.t TO nobody USING (true);")
    assert "map it" in refused.value.hint


def test_a_tablespace_that_is_not_there_is_replaced_by_the_default(cluster, stage):
    cluster.psql("SET allow_in_place_tablespaces = on; CREATE TABLESPACE private LOCATION ''")
    try:
        result = stage.load(
            "SET default_tablespace = missing; CREATE TABLE public.a (a int);"
            "SET default_tablespace = private; CREATE TABLE public.b (a int);"
            "SET default_table_access_method = columnar; CREATE TABLE public.c (a int);"
        )
    finally:
        cluster.psql("DROP TABLESPACE private")
    assert result.warnings == [
        "parameter default_tablespace left out: this server rejects its value; the default is used",
        "tablespace private left out: the restore may not use it; the default is used",
        "parameter default_table_access_method left out: this server rejects its value; the default is used",
    ]
    assert stage.query("SELECT count(*), max(reltablespace) FROM pg_class WHERE relname IN ('a', 'b', 'c')") == [(3, 0)]


def test_text_in_another_encoding(cluster, stage):
    cluster.psql('CREATE ROLE "jürgen"; CREATE DATABASE westerly')
    cluster.psql(
        'CREATE TABLE "schön" (a text); INSERT INTO "schön" VALUES (\'grün\'); GRANT SELECT ON "schön" TO "jürgen"',
        "westerly",
    )
    result = stage.load(dump(cluster, "westerly", "--encoding=LATIN1"), skip_acl=False)
    assert result.warnings == []
    assert stage.query("SELECT a, has_table_privilege('jürgen', 'public.schön', 'SELECT') FROM public.schön") == [
        ("grün", True)
    ]


# Errors -------------------------------------------------------------------------------------------------------------


def test_a_superuser_never_loads_a_dump(cluster):
    with contextlib.closing(connect(cluster.settings)) as superuser, pytest.raises(LoadError, match="superuser"):
        load.load([], connection=superuser, admin=Admin(superuser), options=load.LoadOptions(skip_acl=True))


@pytest.mark.parametrize(
    ("text", "message", "cause", "hint"),
    [
        ("CREATE TABLE t (a int); CREATE TABLE t (a int);", r"CREATE TABLE t failed \(statement 2", "42P07", ""),
        ("CREATE TABLE t (a no_such_type DEFAULT 'hunter2');", "CREATE TABLE t failed", "42704", "extension"),
        ("CREATE FUNCTION f() RETURNS int LANGUAGE c AS 'hunter2';", "CREATE FUNCTION f failed", "42501", "superuser"),
        ("CREATE WONDER w;", "CREATE w?", "42601", "newer"),
        ("COPY pg_catalog.pg_class TO '/tmp/hunter2';", "COPY pg_catalog.pg_class failed", "42501", ""),
        ("COPY (SELECT 'hunter2') TO PROGRAM 'cat';", "COPY failed", "42501", ""),
        ("COPY pg_catalog.pg_class TO STDOUT;", "COPY pg_catalog.pg_class failed", "COPY", ""),
        ("CREATE ROLE r PASSWORD 'hunter2';", "CREATE ROLE r failed", "42501", ""),
        ("SELECT 'hunter2'::int;", "SELECT failed", r"invalid text representation \(SQLSTATE 22P02\)", ""),
        ("CREATE USER MAPPING FOR PUBLIC SERVER s OPTIONS (password 'hunter2');", "CREATE USER MAPPING", "42704", ""),
        (
            "CREATE TABLE t (a int, b text);\nCOPY t FROM stdin;\n1\tx\nhunter2\ty\n\\.\n",
            r"COPY t failed \(statement 2 of the dump, row 2\)",
            r"invalid text representation.*22P02",
            "",
        ),
        (
            "CREATE TABLE t (a text UNIQUE);\nCOPY t (a) FROM stdin;\nhunter2\nhunter2\n\\.\n",
            r"COPY t failed \(statement 2 of the dump, row 2\)",
            r"t_a_key.*23505",
            "collation",
        ),
        ("BEGIN; CREATE TABLE t (a int);", "transaction open", "", "COMMIT"),
        ("BEGIN; DROP TABLE missing; COMMIT;", "DROP TABLE missing failed", "42P01", ""),
        ("COPY missing FROM stdin;\nhunter2\n\\.\n", "COPY missing failed", "42P01", "part of the database"),
    ],
)
def test_errors_say_what_and_why_and_hold_no_data(stage, text, message, cause, hint):
    with pytest.raises(LoadError, match=message) as failed:
        stage.load(text)
    assert re.search(cause, failed.value.cause)
    assert hint in failed.value.hint
    assert "hunter2" not in str(failed.value)
    assert failed.value.__cause__ is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("SELECT 1;\n\\! touch /tmp/x\n", "meta-command"),
        ("SELECT 'a\0b';", "statement 1 of the dump contains a NUL byte"),
        ("SET client_encoding = 'SJIS';", "SJIS"),
        ("SET NAMES 'Windows-936';", "Windows-936"),
    ],
)
def test_what_no_dump_holds_is_refused(stage, text, message):
    with pytest.raises(DumpSyntax, match=message):
        stage.load(text)


def test_a_dump_that_ends_early_is_incomplete(stage):
    with pytest.raises(DumpIncomplete):
        stage.load("CREATE TABLE t (a int);\nCOPY t (a) FROM stdin;\n1\n")
    assert stage.query("SELECT count(*) FROM pg_class WHERE relname = 't'") == [(1,)]


def test_a_source_that_fails_in_the_middle_of_rows_is_told(stage):
    class Failing(io.BytesIO):
        def read(self, n=-1):
            data = super().read(n)
            if not data:
                raise ChecksumMismatch("the object is another one")
            return data

    with pytest.raises(ChecksumMismatch, match="another one"):
        stage.load(Failing(b"CREATE TABLE t (a int);\nCOPY t (a) FROM stdin;\n" + b"1\n" * 300_000))
    assert stage.query("SELECT count(*) FROM public.t") == [(0,)]


@pytest.mark.parametrize(
    "damage", [lambda data: data[: len(data) // 2], lambda data: data[:300], lambda data: b"PGDMP" + data[:50]]
)
def test_a_damaged_archive_is_told(cluster, stage, damage):
    cluster.psql("CREATE DATABASE source")
    cluster.psql("CREATE TABLE t AS SELECT md5(i::text) FROM generate_series(1, 5000) i", "source")
    with pytest.raises(ProcessFailed, match="pg_restore"):
        stage.load(damage(dump(cluster, "source", "--format=custom")))


def test_statistics_are_gathered(stage):
    stage.load("CREATE TABLE t (a int); INSERT INTO t SELECT 1; CREATE TABLE u (a int) PARTITION BY LIST (a);")
    load.analyze(stage.loader)
    assert stage.query("SELECT attname FROM pg_stats WHERE tablename = 't'") == [("a",)]


def test_an_index_is_built_in_parallel_by_a_role_that_may_not_log_in(cluster, stage):
    cluster.psql(f"ALTER ROLE {LOADER} NOLOGIN")
    stage.load(
        "SET min_parallel_table_scan_size = 0; CREATE TABLE t WITH (parallel_workers = 2) AS"
        " SELECT i FROM generate_series(1, 50000) i; CREATE INDEX ON t (i);"
    )
    assert stage.query("SELECT count(*) FROM pg_indexes WHERE tablename = 't'") == [(1,)]
