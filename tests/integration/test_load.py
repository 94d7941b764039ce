# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Dumps loaded into real servers as a role that is no superuser."""

from __future__ import annotations

import contextlib
import functools
import io
import re

import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.secret import Secret
from ansible_collections.infrazero.database.plugins.module_utils._engine.errors import (
    ChecksumMismatch,
    DamagedObject,
    DumpIncomplete,
    DumpSyntax,
    LoadError,
    ProcessFailed,
    RestoreRefused,
)
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql import archive, load
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.connection import connect
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.dumptext import (
    events,
    privileges,
)
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
from tests.support.requirements import require_contrib

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

    def revoke(self, change):
        self._run(privileges.render(change, change.grantees))

    def alter_default_privileges(self, change):
        if not change.revokes and change.creators == ("postgres",):
            return "role 'postgres' is a superuser"
        if change.schemas == ("gone",):
            return "no schema"
        self._run(privileges.render(change, change.grantees))
        return None

    def _run(self, text):
        self.done.append(text)
        with self._conn.cursor() as cursor:
            cursor.execute(text)

    def create_extension(self, name, schema):
        if name not in ("hstore", "plpgsql"):
            raise RestoreRefused(f"the extension {name} is not allowed")
        self._do("CREATE EXTENSION IF NOT EXISTS {} SCHEMA {}", name, schema or "public")

    def define(self, definition):
        return False

    def create_role(self, role):
        return False

    def keeps_privileges_of(self, change):
        return False

    why_undefined = "no"

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
        self._run(statement.as_string(self._conn))


class Stage:
    """An empty database and the sessions of a load into it."""

    def __init__(self, cluster, loader, superuser):
        self._cluster = cluster
        self.readings = 1
        self.loader = loader
        self.admin = Admin(superuser)

    @contextlib.contextmanager
    def _read_again(self, text):
        self.readings += 1
        version = self.loader.info.server_version
        with contextlib.ExitStack() as stack:
            again = stack.enter_context(archive.as_text(Peekable(io.BytesIO(text)), server_version_num=version))
            yield events.read(again)

    def load(self, source, *, skip_acl=True, again=None, **options):
        """Load a dump; *again* is what a second reading finds, if it is not the same."""
        if isinstance(source, str):
            source = source.encode()
        if isinstance(source, bytes):
            again = source if again is None else again
            source = io.BytesIO(source)

        with archive.as_text(Peekable(source), server_version_num=self.loader.info.server_version) as text:
            return load.load(
                events.read(text),
                connection=self.loader,
                admin=self.admin,
                options=load.LoadOptions(skip_acl=skip_acl, **options),
                again=functools.partial(self._read_again, again),
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
    require_contrib(shared_cluster)
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
    assert not [line for line in result.warnings if "plpgsql" in line and not line.startswith("grant")]


def test_half_of_what_was_added_to_a_dump_is_incomplete(stage):
    for end in (BY_HAND.index(";"), BY_HAND.rindex("4"), len(BY_HAND) - 2):
        with pytest.raises(DumpIncomplete):
            stage.load((OLD + BY_HAND)[: len(OLD) + end].replace("CREATE TABLE", "CREATE TABLE IF NOT EXISTS"))


def test_rows_with_oids_are_refused_with_the_remedy(stage):
    with pytest.raises(DumpSyntax, match=r"public\.old begin with OIDs") as refused:
        stage.load("CREATE TABLE public.old (a integer);\nCOPY public.old (a) WITH OIDS FROM stdin;\n16384\t1\n\\.\n")
    assert "--oids" in refused.value.hint


# What is not loaded as it stands ------------------------------------------------------------------------------------


def test_extensions_and_wide_publications_are_the_superusers_business(cluster, stage):
    if cluster.major < 15:
        pytest.skip("PostgreSQL publishes whole schemas since 15")
    require_contrib(cluster)
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
        "security label",
        "membership of roles",
        "grant to PUBLIC on later tables of postgres",
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
        "grant to missing on table public.t left out (2 statements): there is no such role",
        "grant to other on table pg_catalog.pg_authid left out: the object does not belong to the dump",
    ]
    assert (
        stage.query("SELECT relacl::text FROM pg_class WHERE relname = 't'")
        == [(f"{{{LOADER}=arwdDxt/{LOADER},other=rd/{LOADER}}}",)]
        or cluster.major > 16
    )
    assert stage.query(
        "SELECT attacl::text FROM pg_attribute WHERE attacl IS NOT NULL AND attrelid = 'public.t'::regclass"
    ) == [('{"\\"Wri;ter\\"=w/' + LOADER + '"}',)]
    assert stage.query("SELECT polroles::regrole[]::text FROM pg_policy") == [("{other}",)]


def test_grants_are_left_out_where_they_are_not_asked_for(cluster, stage):
    cluster.psql("CREATE ROLE reader")
    result = stage.load(GRANTS, skip_acl=True)
    left_out = "the restore leaves out the grants of a dump unless skip_acl (--skip-acl, DB_RESTORE_SKIP_ACL) is false"
    assert result.warnings == [
        f"grant to reader on table public.t, table pg_catalog.pg_authid left out (3 statements): {left_out}",
        f"grant to Wri;ter on table public.t left out: {left_out}",
        f"grant to missing on table public.t left out (2 statements): {left_out}",
    ]
    assert stage.query("SELECT aclexplode(relacl) FROM pg_class WHERE relname = 't' AND relacl <> '{}'") in (
        [],
        stage.query("SELECT aclexplode(acldefault('r', relowner)) FROM pg_class WHERE relname = 't'"),
    )


def public_may(stage, *calls):
    """What PUBLIC may do, by functions such as has_function_privilege()."""
    return [stage.query(f"SELECT {call.format('public')}")[0][0] for call in calls]


WIPE = "has_function_privilege('{}', 'public.wipe()', 'EXECUTE')"
REVOKED = """
    CREATE FUNCTION public.wipe() RETURNS int LANGUAGE sql AS 'SELECT 1';
    CREATE TYPE public.colour AS ENUM ('red');
    REVOKE ALL ON FUNCTION public.wipe() FROM PUBLIC;
    GRANT ALL ON FUNCTION public.wipe() TO reader;
    REVOKE ALL ON TYPE public.colour FROM PUBLIC;
    REVOKE USAGE ON SCHEMA public FROM PUBLIC;
"""


@pytest.mark.parametrize("skip_acl", [True, False])
def test_what_is_revoked_from_public_is_always_revoked(cluster, stage, skip_acl):
    cluster.psql("CREATE ROLE reader")
    result = stage.load(REVOKED, skip_acl=skip_acl)
    calls = (
        WIPE,
        "has_type_privilege('{}', 'public.colour', 'USAGE')",
        "has_schema_privilege('{}', 'public', 'USAGE')",
    )
    assert public_may(stage, *calls) == [False, False, False]
    assert stage.query(f"SELECT {WIPE.format('reader')}") == [(not skip_acl,)]
    assert [warning.partition(" left out")[0] for warning in result.warnings] == (
        ["grant to reader on function public.wipe()"] if skip_acl else []
    )
    assert stage.admin.done == [], "the objects are the dump's own"


def test_what_the_dump_does_not_own_is_revoked_by_the_administrator(cluster, stage):
    """The server only warns where the throwaway role has the privilege itself, as everybody."""
    require_contrib(cluster)
    cluster.psql("CREATE ROLE reader")
    result = stage.load(
        """
        SET client_min_messages = error;
        CREATE EXTENSION hstore;
        REVOKE ALL ON FUNCTION public.hstore(text, text) FROM PUBLIC;
        REVOKE ALL ON FUNCTION pg_catalog.lower(text) FROM PUBLIC;
        REVOKE SELECT ON TABLE pg_catalog.pg_roles FROM PUBLIC;
        REVOKE ALL ON LANGUAGE plpgsql FROM PUBLIC;
        REVOKE ALL ON FUNCTION pg_catalog.pg_ls_waldir() FROM PUBLIC;
        REVOKE ALL ON FUNCTION pg_catalog.gone_in_this_version(integer) FROM PUBLIC, missing;
        GRANT EXECUTE ON FUNCTION pg_catalog.lower(text) TO app;
        """,
        owner="app",
    )
    assert stage.admin.done[1:] == [
        'REVOKE ALL ON FUNCTION "public"."hstore"(text, text) FROM PUBLIC',
        'REVOKE ALL ON FUNCTION "pg_catalog"."lower"(text) FROM PUBLIC',
        'REVOKE SELECT ON TABLE "pg_catalog"."pg_roles" FROM PUBLIC',
        'REVOKE ALL ON LANGUAGE "plpgsql" FROM PUBLIC',
        'REVOKE ALL ON FUNCTION "pg_catalog"."pg_ls_waldir"() FROM PUBLIC',
    ]
    assert public_may(
        stage,
        "has_function_privilege('{}', 'lower(text)', 'EXECUTE')",
        "has_table_privilege('{}', 'pg_roles', 'SELECT')",
        "has_language_privilege('{}', 'plpgsql', 'USAGE')",
    ) == [False, False, False]
    # Only here even the user lacks what was granted to it.
    assert [warning.partition(" left out")[0] for warning in result.warnings] == [
        "grant to app on function pg_catalog.lower(text)"
    ]


def test_public_keeps_the_default_that_pg_dump_revokes_and_grants_again(cluster, stage):
    """As pg_dump writes the schema public of PostgreSQL 14: PUBLIC could create there, which it cannot since 15."""
    creates = cluster.major < 15
    result = stage.load(
        "REVOKE USAGE ON SCHEMA public FROM PUBLIC; GRANT ALL ON SCHEMA public TO PUBLIC;"
        "CREATE FUNCTION public.wipe() RETURNS int LANGUAGE sql AS 'SELECT 1';"
        "REVOKE ALL ON FUNCTION public.wipe() FROM PUBLIC; GRANT ALL ON FUNCTION public.wipe() TO PUBLIC;"
        "CREATE SCHEMA s; GRANT USAGE ON SCHEMA s TO PUBLIC;"
    )
    assert public_may(
        stage,
        "has_schema_privilege('{}', 'public', 'USAGE')",
        "has_schema_privilege('{}', 'public', 'CREATE')",
        WIPE,
        "has_schema_privilege('{}', 's', 'USAGE')",
    ) == [True, creates, True, False]
    assert [warning.partition(" left out")[0] for warning in result.warnings] == [
        "grant to PUBLIC on schema s" if creates else "grant to PUBLIC on schema public, schema s"
    ]


@pytest.mark.parametrize("skip_acl", [True, False])
def test_grants_to_the_user_and_to_the_owner_of_the_source_are_nothing_that_is_missing(cluster, stage, skip_acl):
    text = """
        CREATE TABLE public.t (a int); ALTER TABLE public.t OWNER TO old_app;
        CREATE TABLE public.u (a int); ALTER TABLE public.u OWNER TO postgres;
        REVOKE ALL ON TABLE public.t FROM old_app; GRANT SELECT ON TABLE public.t TO old_app;
        GRANT ALL ON TABLE public.t TO app, postgres; GRANT USAGE ON SCHEMA public TO pg_database_owner;
        ALTER DEFAULT PRIVILEGES FOR ROLE postgres IN SCHEMA public GRANT ALL ON TABLES TO app;
    """
    cluster.psql("CREATE ROLE app")
    assert stage.load(text, skip_acl=skip_acl, owner="app").warnings == []


LATER_OBJECTS = """
    CREATE TABLE public.t (a int); ALTER TABLE public.t OWNER TO old_app;
    ALTER DEFAULT PRIVILEGES FOR ROLE old_app REVOKE ALL ON FUNCTIONS FROM PUBLIC;
    ALTER DEFAULT PRIVILEGES FOR ROLE old_app IN SCHEMA public GRANT SELECT ON TABLES TO reader, missing;
    ALTER DEFAULT PRIVILEGES FOR ROLE missing GRANT SELECT ON TABLES TO reader;
    ALTER DEFAULT PRIVILEGES FOR ROLE other REVOKE ALL ON TYPES FROM PUBLIC;
    ALTER DEFAULT PRIVILEGES FOR ROLE old_app IN SCHEMA gone GRANT SELECT ON TABLES TO other;
"""
DEFAULT = "ALTER DEFAULT PRIVILEGES FOR ROLE"


def test_default_privileges_are_kept_where_grants_are(cluster, stage):
    cluster.psql("CREATE ROLE app; CREATE ROLE reader; CREATE ROLE other")
    result = stage.load(LATER_OBJECTS, skip_acl=False, owner="app")
    assert stage.admin.done[:3] == [
        f'{DEFAULT} "app" REVOKE ALL ON FUNCTIONS FROM PUBLIC',
        f'{DEFAULT} "app" IN SCHEMA "public" GRANT SELECT ON TABLES TO "reader"',
        f'{DEFAULT} "other" REVOKE ALL ON TYPES FROM PUBLIC',
    ]
    assert result.warnings == [
        "grant to missing on later tables of old_app in schema public left out: there is no such role",
        "grant to reader on later tables of missing left out: there is no role missing",
        "grant to other on later tables of old_app in schema gone left out: no schema",
    ]


def test_of_default_privileges_that_are_left_out_what_is_revoked_is_revoked(cluster, stage):
    cluster.psql("CREATE ROLE app; CREATE ROLE reader; CREATE ROLE other")
    result = stage.load(LATER_OBJECTS, skip_acl=True, owner="app")
    assert stage.admin.done == [
        f'{DEFAULT} "app" REVOKE ALL ON FUNCTIONS FROM PUBLIC',
        f'{DEFAULT} "other" REVOKE ALL ON TYPES FROM PUBLIC',
    ]
    assert [warning.partition(" left out")[0] for warning in result.warnings] == [
        "grant to reader on later tables of old_app in schema public, later tables of missing",
        "grant to missing on later tables of old_app in schema public",
        "grant to other on later tables of old_app in schema gone",
    ]


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
    assert load.analyze(stage.loader, "public") == ()
    assert stage.query("SELECT attname FROM pg_stats WHERE tablename = 't'") == [("a",)]


def test_an_index_is_built_in_parallel_by_a_role_that_may_not_log_in(cluster, stage):
    cluster.psql(f"ALTER ROLE {LOADER} NOLOGIN")
    stage.load(
        "SET min_parallel_table_scan_size = 0; CREATE TABLE t WITH (parallel_workers = 2) AS"
        " SELECT i FROM generate_series(1, 50000) i; CREATE INDEX ON t (i);"
    )
    assert stage.query("SELECT count(*) FROM pg_indexes WHERE tablename = 't'") == [(1,)]


# One bad object does not cost the rest ------------------------------------------------------------------------------

UNQUALIFIED = """
SET check_function_bodies = false;
SELECT pg_catalog.set_config('search_path', '', false);
CREATE SCHEMA s; CREATE TABLE s.item (n int);
CREATE FUNCTION s.total(x int) RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT sum(n) + x FROM item';
CREATE MATERIALIZED VIEW s.summary AS SELECT s.total(1) AS t WITH NO DATA;
COPY s.item (n) FROM stdin;
2
\\.
CREATE INDEX i ON s.item (s.total(n));
REFRESH MATERIALIZED VIEW s.summary;
"""


def require_obeyed_search_path(cluster):
    """Skip where the server itself builds indexes and refreshes views with a search_path of its own."""
    if cluster.major >= 17:
        pytest.skip(f"PostgreSQL {cluster.major} ignores the session's search_path")


@pytest.mark.parametrize(
    "options",
    [{"search_path": ("public", "s")}, {"search_path": ("$user", "public"), "owner": "s"}],
    ids=["the database's own", "a schema named like the user"],
)
def test_statements_that_rely_on_the_search_path_are_tried_with_the_databases_own(cluster, stage, options):
    require_obeyed_search_path(cluster)
    result = stage.load(UNQUALIFIED + "SELECT 1 / (current_setting('search_path') = '')::int;", **options)
    assert result.warnings == [] and result.rows == {"s.item": 1}
    assert stage.query("SELECT t FROM s.summary") == [(3,)]


def test_a_name_that_nothing_finds_has_a_hint(stage):
    with pytest.raises(LoadError, match="CREATE INDEX i failed") as failed:
        stage.load(UNQUALIFIED)
    assert "ALTER FUNCTION ... SET search_path" in failed.value.hint
    assert "set on_error (--on-error, DB_RESTORE_ON_ERROR) to continue" in failed.value.hint


LATER = """
CREATE TABLE public.zz_code (code text);
CREATE FUNCTION public.known(c text) RETURNS boolean LANGUAGE sql STABLE
  AS 'SELECT EXISTS (SELECT FROM zz_code WHERE code = c)';
CREATE TABLE public.entry (code text CHECK (public.known(code)));
CREATE TABLE public.good (a int);
SELECT pg_catalog.set_config('search_path', '', false);
COPY public.entry (code) FROM stdin;
a
a
\\.
COPY public.good (a) FROM stdin;
1
\\.
COPY public.zz_code (code) FROM stdin;
a
\\.
"""
KEY = "ALTER TABLE ONLY public.entry ADD CONSTRAINT u UNIQUE (code);"


def test_rows_whose_check_looks_into_a_later_table_are_loaded_from_a_second_reading(stage):
    result = stage.load(LATER + KEY.replace("UNIQUE", "CHECK (public.known(code)), ADD EXCLUDE"), continues=True)
    # Before the key, which is not even valid: nothing else of the first reading is repeated.
    assert result.rows == {"public.entry": 2, "public.good": 1, "public.zz_code": 1}
    assert result.failed_tables == frozenset() and len(result.failed) == 1
    assert stage.query("SELECT count(*) FROM public.entry") == [(2,)]
    assert stage.readings == 2


def test_rows_that_nothing_makes_acceptable_are_read_twice_and_no_more(stage):
    bad = LATER.replace("\na\n\\.\n", "\nx\n\\.\n", 1)
    with pytest.raises(LoadError, match=r"COPY public.entry failed \(statement 6 of the dump, row 2\)") as failed:
        stage.load(bad + KEY)
    assert "looks into other tables" in failed.value.hint
    assert stage.readings == 2


def test_a_second_reading_of_something_else_ends_the_load(stage):
    for other in (LATER.replace("COPY public.entry", "COPY public.good"), "SELECT 1;"):
        with pytest.raises(DamagedObject, match="second reading"):
            stage.load(LATER, again=other.encode(), continues=True)


def test_without_a_second_reading_rows_that_are_refused_are_a_failure(stage):
    with pytest.raises(LoadError, match=r"COPY public\.entry failed"):
        load.load(
            events.read(io.BytesIO(LATER.encode())),
            connection=stage.loader,
            admin=stage.admin,
            options=load.LoadOptions(skip_acl=True),
        )


def test_every_statement_is_tried_twice_at_most(stage):
    """A sequence counts the tries, whether they are rolled back or not."""
    result = stage.load(
        """
        CREATE SEQUENCE public.tries;
        CREATE FUNCTION public.fail(a int) RETURNS int LANGUAGE plpgsql IMMUTABLE
          AS $$BEGIN PERFORM nextval('public.tries'); RAISE 'no' USING ERRCODE = '42883'; END$$;
        CREATE TABLE public.t (a int CHECK (public.fail(a) > 0)); CREATE TABLE public.u AS SELECT 1 AS a;
        """
        + "COPY public.t (a) FROM stdin;\n1\n\\.\n" * 3
        + "CREATE INDEX ON public.u (public.fail(a));" * 5,
        continues=True,
    )
    assert stage.query("SELECT last_value FROM public.tries") == [(16,)]
    assert stage.readings == 2
    assert len(result.failed) == 8 and result.failed_tables == {"public.t"} and result.rows == {}


def test_a_second_try_is_the_throwaway_roles_too(cluster, stage):
    """What the database's own search_path finds, a tenant may have put there."""
    require_obeyed_search_path(cluster)
    stage.load(
        "CREATE SCHEMA s; CREATE SEQUENCE s.throwaway; CREATE FUNCTION s.lookup(a int) RETURNS int LANGUAGE plpgsql"
        " IMMUTABLE AS $$BEGIN PERFORM nextval(session_user::text), nextval(current_user::text); RETURN a; END$$;"
        "CREATE TABLE public.t AS SELECT 1 AS a; CREATE INDEX ON public.t (s.lookup(a));",
        search_path=("s",),
    )
    assert stage.query(f"SELECT last_value FROM s.{LOADER}") == [(2,)]


@pytest.mark.parametrize("state", ["53100", "57014", "08006", "XX000"])
def test_nothing_goes_on_after_a_failure_of_the_server(stage, state):
    with pytest.raises(LoadError, match="SELECT failed"):
        stage.load(
            f"CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS $$BEGIN RAISE 'no' USING ERRCODE = '{state}'; END$$;"
            "SELECT f();",
            continues=True,
        )


def test_a_load_that_goes_on_lists_what_failed_without_data(cluster, stage):
    result = stage.load(
        """
        CREATE TABLE public.t (a int);
        CREATE TABLE public.gone (a no_such_type DEFAULT 'hunter2');
        CREATE POLICY p ON public.t TO nobody USING (true);
        COPY public.gone (a) FROM stdin;
hunter2
\\.
        COPY public.t (a) FROM stdin;
1
hunter2
\\.
        COMMENT ON TABLE public.gone IS 'hunter2';
        BEGIN; SELECT 'hunter2'::int; SELECT 1; COMMIT;
        CREATE VIEW public.v AS SELECT 1 AS a;
        """,
        continues=True,
    )
    assert [re.match(r"(.*?) (failed|needs)", line)[1] for line in result.failed] == [
        "CREATE TABLE public.gone",
        "CREATE POLICY p",
        "COPY public.gone",
        "COPY public.t",
        "COMMENT TABLE public.gone",
        "SELECT",
        "SELECT",
    ]
    assert "hunter2" not in str(result)
    assert result.failed_tables == {"public.gone", "public.t"} and result.rows == {}
    assert stage.query("SELECT a FROM public.v") == [(1,)]


def test_a_view_that_only_its_owner_could_refresh_stays_empty(cluster, stage):
    result = stage.load(
        """
        SET row_security = off;
        CREATE TABLE public.t (a int); ALTER TABLE public.t ENABLE ROW LEVEL SECURITY;
        ALTER TABLE public.t FORCE ROW LEVEL SECURITY;
        CREATE MATERIALIZED VIEW public.totals AS SELECT count(*) FROM public.t WITH NO DATA;
        CREATE MATERIALIZED VIEW public."over" AS SELECT * FROM public.totals WITH NO DATA;
        CREATE MATERIALIZED VIEW public.other AS SELECT 1 AS a WITH NO DATA;
        REFRESH MATERIALIZED VIEW public.totals;
        REFRESH MATERIALIZED VIEW public."over";
        REFRESH MATERIALIZED VIEW public.other;
        """,
        owner="app",
    )
    first, second = result.warnings
    assert "rows of materialized view public.totals left out: query would be affected by row-level security" in first
    assert first.endswith(
        "owner 'app' may read what it needs, run as that role: SET row_security = off;"
        " REFRESH MATERIALIZED VIEW public.totals;"
    )
    assert 'public."over" left out: materialized view "totals" has not been populated' in second
    assert stage.query("SELECT relname, relispopulated FROM pg_class WHERE relkind = 'm' ORDER BY 1") == [
        ("other", True),
        ("over", False),
        ("totals", False),
    ]


def test_a_view_over_an_empty_one_is_an_error_if_none_was_left_empty(stage):
    with pytest.raises(LoadError, match=r"REFRESH public\.b failed"):
        stage.load(
            "CREATE MATERIALIZED VIEW public.a AS SELECT 1 AS x WITH NO DATA;"
            "CREATE MATERIALIZED VIEW public.b AS SELECT * FROM public.a WITH NO DATA;"
            "REFRESH MATERIALIZED VIEW public.b;"
        )


def test_statistics_that_cannot_be_collected_are_a_warning(stage):
    stage.load(
        "CREATE TABLE public.t AS SELECT g AS a FROM generate_series(1, 9) g;"
        "CREATE FUNCTION public.f(a int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN a; END';"
        "CREATE INDEX ON public.t (public.f(a));"
        "CREATE OR REPLACE FUNCTION public.f(a int) RETURNS int LANGUAGE plpgsql IMMUTABLE"
        " AS $$BEGIN RAISE 'hunter2' USING ERRCODE = '22012'; END$$;"
    )
    (warning,) = load.analyze(stage.loader, "public")
    assert warning.startswith("statistics were not collected for all tables: division by zero")
