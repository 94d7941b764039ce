# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.dumptext import statements
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.dumptext.scanner import (
    Statement,
)
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.dumptext.statements import (
    Comment,
    CreateExtension,
    CreateSchema,
    DefaultPrivileges,
    LeaveOut,
    NamesRoles,
    OwnerChange,
    Privileges,
    PublishAllTables,
    PublishSchemas,
    Refresh,
    Removal,
    SetParameter,
    WithOids,
)
from hypothesis import given
from hypothesis import strategies as st


def classify(text, encoding="utf-8"):
    return statements.classify(Statement(text.encode(encoding)), encoding=encoding)


@pytest.mark.parametrize(
    ("text", "kind", "identity", "role"),
    [
        ("ALTER TABLE public.t OWNER TO app", "TABLE", "public.t", "app"),
        ("alter table only Public.T owner to App", "TABLE", "Public.T", "app"),
        (
            'ALTER TABLE "a.b"."c ""d"" OWNER TO x" OWNER TO "My ""Role"""',
            "TABLE",
            '"a.b"."c ""d"" OWNER TO x"',
            'My "Role"',
        ),
        ("ALTER TABLE public . t /* OWNER TO a */ OWNER -- b\n TO app", "TABLE", "public.t", "app"),
        ("ALTER TABLE t OWNER TO ÄPP", "TABLE", "t", "Äpp"),
        ('ALTER TABLE t OWNER TO U&"\\0061\\+000062\\\\"', "TABLE", "t", "ab\\"),
        ("ALTER FUNCTION public.f() OWNER TO app", "FUNCTION", "public.f()", "app"),
        (
            'ALTER FUNCTION public."F x"(a integer, OUT "b)" "T y"[], VARIADIC c double precision[]) OWNER TO app',
            "FUNCTION",
            'public."F x"(a integer, OUT "b)" "T y"[], VARIADIC c double precision[])',
            "app",
        ),
        (
            "ALTER FUNCTION f(timestamp(3) without time zone) OWNER TO app",
            "FUNCTION",
            "f(timestamp(3) without time zone)",
            "app",
        ),
        (
            "ALTER PROCEDURE public.p(IN a integer, INOUT b text) OWNER TO app",
            "PROCEDURE",
            "public.p(IN a integer, INOUT b text)",
            "app",
        ),
        ("ALTER AGGREGATE public.agg(*) OWNER TO app", "AGGREGATE", "public.agg(*)", "app"),
        (
            "ALTER AGGREGATE a(float8 ORDER BY anyelement) OWNER TO app",
            "AGGREGATE",
            "a(float8 ORDER BY anyelement)",
            "app",
        ),
        ("ALTER OPERATOR public.<<=>> (integer, NONE) OWNER TO app", "OPERATOR", "public.<<=>>(integer, NONE)", "app"),
        ("ALTER OPERATOR CLASS public.c USING btree OWNER TO app", "OPERATOR CLASS", "public.c USING btree", "app"),
        ("ALTER OPERATOR FAMILY public.c USING gin OWNER TO app", "OPERATOR FAMILY", "public.c USING gin", "app"),
        ("ALTER MATERIALIZED VIEW public.v OWNER TO app", "MATERIALIZED VIEW", "public.v", "app"),
        ("ALTER FOREIGN TABLE public.v OWNER TO app", "FOREIGN TABLE", "public.v", "app"),
        ("ALTER FOREIGN DATA WRAPPER w OWNER TO app", "FOREIGN DATA WRAPPER", "w", "app"),
        ("ALTER TEXT SEARCH DICTIONARY public.d OWNER TO app", "TEXT SEARCH DICTIONARY", "public.d", "app"),
        ("ALTER LARGE OBJECT 12345 OWNER TO app", "LARGE OBJECT", "12345", "app"),
        ("ALTER SCHEMA s OWNER TO CURRENT_USER", "SCHEMA", "s", "current_user"),
        ("ALTER PUBLICATION p OWNER TO app", "PUBLICATION", "p", "app"),
        ("ALTER TYPE public.mood OWNER TO app", "TYPE", "public.mood", "app"),
        ("ALTER DOMAIN public.d OWNER TO app", "DOMAIN", "public.d", "app"),
        ("ALTER COLLATION public.c OWNER TO app", "COLLATION", "public.c", "app"),
        ("ALTER STATISTICS public.c OWNER TO app", "STATISTICS", "public.c", "app"),
        ("ALTER SERVER s OWNER TO app", "SERVER", "s", "app"),
        ("ALTER PROCEDURAL LANGUAGE plx OWNER TO app", "PROCEDURAL LANGUAGE", "plx", "app"),
    ],
)
def test_owner_changes(text, kind, identity, role):
    assert classify(text) == OwnerChange(kind, identity, role)


@pytest.mark.parametrize(
    "text",
    [
        "ALTER TABLE t RENAME COLUMN owner TO app",
        "ALTER TABLE t RENAME owner TO app",
        "ALTER TABLE t ADD COLUMN owner text DEFAULT 'OWNER TO app'",
        "ALTER TABLE t OWNER TO app, ADD COLUMN a int",
        "ALTER FUNCTION f(a text = 'x') OWNER TO app",
        "ALTER FUNCTION f(a OWNER TO app",
        "ALTER FUNCTION f(a); DROP TABLE t; --) OWNER TO app",
        "ALTER LARGE OBJECT 1; OWNER TO app",
        "ALTER OPERATOR ; (a, b) OWNER TO app",
        "ALTER TABLE t ALTER COLUMN a SET DEFAULT 1",
        "ALTER SEQUENCE s OWNED BY t.a",
        "ALTER PUBLICATION p ADD TABLE ONLY public.t",
        "ALTER TABLE ONLY t ADD CONSTRAINT c CHECK ((a <> 'drop'::text))",
        "CREATE TABLE owner (a int)",
        "CREATE TABLE t (a int) WITHOUT OIDS",
        "CREATE TABLE t (a int) WITH (oids = false, fillfactor = 70)",
        "CREATE TABLE t (oids int DEFAULT 1 /* WITH OIDS */) WITH (fillfactor = 70)",
        "CREATE TABLE t (a int) WITH (oids =",
        "CREATE TABLE t PARTITION OF oids FOR VALUES WITH (modulus 4, remainder 0)",
        "CREATE TABLE t AS WITH oids AS (SELECT 1) SELECT 2",
        "CREATE LANGUAGE oids HANDLER f",
        "CREATE VIEW s.v AS\nSELECT\n    NULL::integer AS id",
        "CREATE OR REPLACE VIEW s.v AS SELECT NULL::integer AS id FROM t",
        "CREATE OR REPLACE VIEW s.v AS SELECT NULL::integer AS id, 1 AS b",
        "CREATE OR REPLACE VIEW s.v AS SELECT NULL::integer",
        "CREATE OR REPLACE VIEW s.v AS SELECT NULL::text || f() AS a",
        "CREATE PUBLICATION p FOR TABLE ONLY t",
        "CREATE PUBLICATION p WITH (publish = 'insert')",
        "CREATE POLICY p ON t USING ((a > 1))",
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS $$ALTER TABLE t OWNER TO app$$",
        "CREATE OR REPLACE RULE r AS ON INSERT TO t DO NOTHING",
        "SET TIME ZONE 'UTC'",
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
        "RESET search_path",
        "SELECT pg_catalog.set_config('search_path', '', false)",
        "SELECT pg_catalog.lo_unlink('1') FROM t",
        "INSERT INTO t VALUES ('GRANT ALL ON t TO app')",
        "\x00",
        "(SELECT 1)",
    ],
)
def test_the_rest_is_loaded_as_it_stands(text):
    assert classify(text) is None


@pytest.mark.parametrize(
    ("text", "roles"),
    [
        ("GRANT ALL ON TABLE public.t TO app", ["app"]),
        (
            'GRANT SELECT(a,"to") ON TABLE public."from" TO PUBLIC, App, "My Role", GROUP g WITH GRANT OPTION',
            ["app", "My Role", "g"],
        ),
        ("REVOKE ALL ON SCHEMA public FROM PUBLIC", []),
        ("REVOKE GRANT OPTION FOR SELECT ON TABLE t FROM app CASCADE", ["app"]),
        ("GRANT ALL ON FUNCTION public.f(integer, text) TO app GRANTED BY boss", ["app", "boss"]),
        ("GRANT SELECT ON LARGE OBJECT 1 TO app", ["app"]),
        ('GRANT USAGE ON FOREIGN SERVER s TO "public"', ["public"]),
    ],
)
def test_privileges_name_their_roles(text, roles):
    found = classify(text)
    assert isinstance(found, Privileges)
    assert [role.name for role in found.roles] == roles


@pytest.mark.parametrize(
    ("text", "roles"),
    [
        ("CREATE POLICY p ON public.t FOR SELECT TO app, PUBLIC USING ((a = 'x to y'::text))", ["app"]),
        ("CREATE USER MAPPING FOR app SERVER s OPTIONS (password 'hunter2')", ["app"]),
        ("CREATE USER MAPPING FOR PUBLIC SERVER s", []),
    ],
)
def test_contents_name_roles(text, roles):
    found = classify(text)
    assert isinstance(found, NamesRoles)
    assert [role.name for role in found.roles] == roles


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("CREATE EXTENSION IF NOT EXISTS hstore WITH SCHEMA public", CreateExtension("hstore", "public")),
        ('CREATE EXTENSION "uuid-ossp"', CreateExtension("uuid-ossp", None)),
        ("CREATE PUBLICATION p FOR ALL TABLES", PublishAllTables("p", ())),
        (
            "CREATE PUBLICATION \"P q\" FOR ALL TABLES WITH (publish = 'insert, update', publish_via_x = true)",
            PublishAllTables("P q", (("publish", "insert, update"), ("publish_via_x", "true"))),
        ),
        ('ALTER PUBLICATION p ADD TABLES IN SCHEMA a, "B c"', PublishSchemas("p", ("a", "B c"), False, ())),
        (
            "CREATE PUBLICATION p FOR TABLES IN SCHEMA a WITH (publish = '')",
            PublishSchemas("p", ("a",), True, (("publish", ""),)),
        ),
        ("SET statement_timeout = 0", SetParameter("statement_timeout", "0")),
        ("SET client_encoding TO 'UTF8'", SetParameter("client_encoding", "UTF8")),
        ("SET NAMES 'LATIN1'", SetParameter("client_encoding", "LATIN1")),
        ("SET LOCAL default_tablespace = ''", SetParameter("default_tablespace", "")),
        ("SET search_path = public, pg_catalog", SetParameter("search_path", None)),
        ("SET plpgsql.extra_warnings = all", SetParameter("plpgsql.extra_warnings", "all")),
        ("CREATE SCHEMA public", CreateSchema("public")),
        ("DROP TABLE IF EXISTS public.t", Removal()),
        ("DROP FUNCTION f(integer)", Removal()),
        ("SELECT pg_catalog.lo_unlink('4711')", Removal()),
        ("ALTER TABLE IF EXISTS ONLY public.t DROP CONSTRAINT c", Removal()),
        ("ALTER TABLE public.t ALTER COLUMN id DROP DEFAULT", Removal()),
        ("ALTER DOMAIN public.d DROP CONSTRAINT c", Removal()),
        ("ALTER VIEW IF EXISTS public.v ALTER COLUMN c DROP DEFAULT", Removal()),
        ("DROP DOMAIN public.d", Removal()),
        (
            """CREATE OR REPLACE VIEW s.v AS
SELECT
    NULL::integer AS id,
    NULL::numeric(10,2)[] AS "as",
    NULL::timestamp with time zone AS n,
    NULL::s."T y" COLLATE pg_catalog."C" AS t""",
            Removal(),
        ),
        ("CREATE PROCEDURAL LANGUAGE plperl", CreateExtension("plperl", None)),
        ("CREATE OR REPLACE TRUSTED LANGUAGE pltcl", CreateExtension("pltcl", None)),
        ("SET default_with_oids = false", SetParameter("default_with_oids", "false")),
        (
            "CREATE TABLE public.t (a text DEFAULT 'WITH OIDS') WITH OIDS",
            WithOids("public.t", "CREATE TABLE public.t (a text DEFAULT 'WITH OIDS') WITH (oids = off)"),
        ),
        (
            'CREATE TABLE IF NOT EXISTS "OIDS" (oids integer) WITH (fillfactor=70, OIDS = TRUE)',
            WithOids('"OIDS"', 'CREATE TABLE IF NOT EXISTS "OIDS" (oids integer) WITH (fillfactor=70, oids = off)'),
        ),
        (
            "CREATE UNLOGGED TABLE t (a int) WITH (\"oids\", fillfactor='70') TABLESPACE x",
            WithOids("t", "CREATE UNLOGGED TABLE t (a int) WITH (oids = off, fillfactor='70') TABLESPACE x"),
        ),
        ("COMMENT ON TABLE public.t IS 'COMMENT ON EXTENSION'", Comment()),
        ("COMMENT ON SCHEMA public IS 'x'", Comment()),
    ],
)
def test_special_statements(text, expected):
    assert classify(text) == expected


@pytest.mark.parametrize(
    ("text", "kind", "what", "loss"),
    [
        ("COMMENT ON EXTENSION hstore IS 'x'", "comment", "on extension hstore", False),
        ("COMMENT ON LANGUAGE plpgsql IS 'x'", "comment", "on language plpgsql", False),
        ("COMMENT ON DATABASE shop IS 'x'", "comment", "on database shop", False),
        ("CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION f()", "event trigger", "e", True),
        ("ALTER EVENT TRIGGER e OWNER TO app", "event trigger", "e", True),
        ("CREATE SUBSCRIPTION s CONNECTION 'password=hunter2' PUBLICATION p", "subscription", "s", True),
        ("ALTER SUBSCRIPTION s OWNER TO app", "subscription", "s", True),
        ("DROP SUBSCRIPTION IF EXISTS s", "subscription", "s", True),
        ("CREATE DATABASE shop WITH TEMPLATE = template0", "database", "shop", False),
        ("ALTER DATABASE shop OWNER TO app", "database", "shop", False),
        ("ALTER DATABASE shop SET search_path TO x", "database", "shop", False),
        ("DROP DATABASE IF EXISTS shop", "database", "shop", False),
        ("CREATE PROCEDURAL LANGUAGE plpgsql", "language", "plpgsql", False),
        ("CREATE OR REPLACE PROCEDURAL LANGUAGE plpgsql", "language", "plpgsql", False),
        ("CREATE TRUSTED LANGUAGE 'plpgsql' HANDLER plpgsql_call_handler", "language", "plpgsql", False),
        ("DROP PROCEDURAL LANGUAGE IF EXISTS plpgsql", "drop", "of language plpgsql", False),
        ("SET default_with_oids = true", "parameter", "default_with_oids", True),
        ("SET default_with_oids TO 'on'", "parameter", "default_with_oids", True),
        ("ALTER TABLE ONLY public.t SET WITH OIDS", "oid column", "of table public.t", True),
        ("DROP EXTENSION IF EXISTS hstore", "drop", "of extension hstore", False),
        ("GRANT ALL ON DATABASE shop TO app", "grant", "on database shop", False),
        ("GRANT SET ON PARAMETER work_mem TO app", "grant", "on parameter work_mem", False),
        ("GRANT boss TO app", "membership", "of roles", True),
        ("REVOKE boss FROM app", "membership", "of roles", True),
        ("SET SESSION AUTHORIZATION 'app'", "session", "of another role", False),
        ("SET LOCAL SESSION AUTHORIZATION DEFAULT", "session", "of another role", False),
        ("SET session_authorization TO app", "session", "of another role", False),
        ("SET ROLE app", "session", "of another role", False),
        ("RESET ROLE", "session", "of another role", False),
        ("RESET SESSION AUTHORIZATION", "session", "of another role", False),
        ("SECURITY LABEL FOR selinux ON TABLE t IS 'x'", "security label", "", True),
    ],
)
def test_statements_that_are_left_out(text, kind, what, loss):
    found = classify(text)
    assert isinstance(found, LeaveOut)
    assert (found.kind, found.what, found.loss) == (kind, what, loss)
    assert found.why
    assert "hunter2" not in repr(found)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("GRANT SELECT ON TABLE app TO app", 'GRANT SELECT ON TABLE app TO "new ""one"""'),
        (
            "GRANT SELECT ON TABLE t TO x, App WITH GRANT OPTION",
            'GRANT SELECT ON TABLE t TO x, "new ""one""" WITH GRANT OPTION',
        ),
        (
            "REVOKE ALL ON TABLE t FROM app, PUBLIC GRANTED BY app",
            'REVOKE ALL ON TABLE t FROM "new ""one""", PUBLIC GRANTED BY "new ""one"""',
        ),
        (
            "CREATE POLICY app ON t TO app USING ((a = 'to app'::text))",
            'CREATE POLICY app ON t TO "new ""one""" USING ((a = \'to app\'::text))',
        ),
        ('GRANT SELECT ON TABLE ünïcödé TO "APP", app', 'GRANT SELECT ON TABLE ünïcödé TO "APP", "new ""one"""'),
    ],
)
def test_roles_are_rewritten(text, expected):
    statement = Statement(text.encode())
    roles = statements.classify(statement).roles
    rewritten = statements.rewrite_roles(statement, roles, {"app": 'new "one"'})
    assert rewritten.text.decode() == expected


def test_bytes_that_are_no_characters_survive_a_rewriting():
    statement = Statement(b'GRANT ALL ON TABLE "\xff\xe4" TO app')
    found = statements.classify(statement)
    assert (
        statements.rewrite_roles(statement, found.roles, {"app": "b"}).text == b'GRANT ALL ON TABLE "\xff\xe4" TO "b"'
    )


def test_names_are_read_in_the_encoding_of_the_dump():
    assert classify('ALTER TABLE t OWNER TO "jürgen"', encoding="latin-1") == OwnerChange("TABLE", "t", "jürgen")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("CREATE TABLE public.\"a b\" (password text DEFAULT 'hunter2')", 'CREATE TABLE public."a b"'),
        ("CREATE OR REPLACE FUNCTION public.f() AS 'hunter2'", "CREATE FUNCTION public.f"),
        ("CREATE UNIQUE INDEX i ON t USING btree (a)", "CREATE UNIQUE INDEX i"),
        ("ALTER TABLE ONLY public.t ADD CONSTRAINT c PRIMARY KEY (id)", "ALTER TABLE public.t"),
        ("COMMENT ON COLUMN public.t.a IS 'hunter2'", "COMMENT COLUMN public.t.a"),
        ("CREATE USER MAPPING FOR app SERVER s OPTIONS (password 'hunter2')", "CREATE USER MAPPING app"),
        ("INSERT INTO public.t VALUES ('hunter2')", "INSERT public.t"),
        ("SELECT set_config('a', 'hunter2', false)", "SELECT"),
        ("CREATE ROLE app PASSWORD 'hunter2'", "CREATE ROLE app"),
        ("DO $$hunter2$$", "DO"),
        ("COPY public.t (a, b) FROM stdin", "COPY public.t"),
        ("REFRESH MATERIALIZED VIEW public.v", "REFRESH public.v"),
        ('CREATE TABLE "a\nb" (c int)', 'CREATE TABLE "a\\x0ab"'),
        ("'hunter2'", "statement"),
    ],
)
def test_descriptions_hold_no_data(text, expected):
    assert statements.describe(Statement(text.encode())) == expected


NAME = st.text(st.characters(blacklist_characters="\0", blacklist_categories=("Cs",)), min_size=1, max_size=20)


@given(NAME, NAME, NAME)
def test_every_name_is_read_back(schema, table, role):
    quote = statements.quote
    text = f"ALTER TABLE {quote(schema)}.{quote(table)} OWNER TO {quote(role)}"
    assert classify(text) == OwnerChange("TABLE", f"{quote(schema)}.{quote(table)}", role)
    statement = Statement(
        f"GRANT SELECT({quote(table)}) ON TABLE {quote(schema)}.{quote(table)} TO {quote(role)}".encode()
    )
    rewritten = statements.rewrite_roles(statement, statements.classify(statement).roles, {role: table})
    assert [found.name for found in statements.classify(rewritten).roles] == [table]


@given(st.text(max_size=60), st.sampled_from(sorted(statements._HANDLERS)))
def test_nothing_makes_it_stumble(rest, verb):
    statement = Statement(verb + b" " + rest.encode("utf-8", "surrogatepass"))
    statements.classify(statement)
    statements.describe(statement)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("REFRESH MATERIALIZED VIEW public.v", Refresh("public.v")),
        ('REFRESH MATERIALIZED VIEW CONCURRENTLY s."a b" WITH DATA', Refresh('s."a b"')),
        ("REFRESH WONDER w", None),
        (
            'ALTER DEFAULT PRIVILEGES FOR ROLE app, "B" IN SCHEMA s GRANT SELECT ON TABLES TO b',
            DefaultPrivileges("app, B"),
        ),
        ("ALTER DEFAULT PRIVILEGES REVOKE ALL ON TYPES FROM PUBLIC", DefaultPrivileges("the current role")),
    ],
)
def test_views_and_default_privileges(text, found):
    assert classify(text) == found


@pytest.mark.parametrize(
    ("text", "after_rows"),
    [
        ("CREATE INDEX i ON t (a)", True),
        ("CREATE UNIQUE INDEX i ON t (a)", True),
        ("CREATE TRIGGER x BEFORE INSERT ON t EXECUTE FUNCTION f()", True),
        ("CREATE POLICY p ON t", True),
        ("ALTER TABLE ONLY public.t ADD CONSTRAINT t_pkey PRIMARY KEY (id)", True),
        ("ALTER TABLE t ENABLE ROW LEVEL SECURITY", True),
        ("ALTER INDEX public.i ATTACH PARTITION public.j", True),
        ("REFRESH MATERIALIZED VIEW v", True),
        ("GRANT SELECT ON t TO a", True),
        ("ALTER DEFAULT PRIVILEGES FOR ROLE a GRANT SELECT ON TABLES TO b", True),
        ("CREATE TABLE t (a int)", False),
        ("CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'CREATE INDEX'", False),
        # What --disable-triggers writes around the rows of each table.
        ("ALTER TABLE public.t DISABLE TRIGGER ALL", False),
        ("ALTER TABLE public.t ENABLE TRIGGER ALL", False),
        ("ALTER SEQUENCE s OWNED BY t.a", False),
        ("SELECT pg_catalog.setval('s', 1, true)", False),
        ("SET default_tablespace = ''", False),
        ("COPY t FROM stdin", False),
    ],
)
def test_what_pg_dump_writes_only_after_all_rows(text, after_rows):
    assert statements.is_post_data(Statement(text.encode())) is after_rows
