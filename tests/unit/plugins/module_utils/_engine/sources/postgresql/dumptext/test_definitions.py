# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which statements may be given to a superuser."""

from __future__ import annotations

import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.dumptext import definitions
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.dumptext.scanner import (
    Statement,
)

ADD, ALTER, COMMENT, CREATE, OWNER, SHELL = (
    *(definitions.ADD, definitions.ALTER, definitions.COMMENT),
    *(definitions.CREATE, definitions.OWNER, definitions.SHELL),
)


def read(text: str, encoding: str = "utf-8") -> definitions.Definition | None:
    return definitions.definition(Statement(text.encode(encoding)), encoding=encoding)


C = "RETURNS integer\n    LANGUAGE c IMMUTABLE STRICT\n    AS '$libdir/x', 'y'"

ACCEPTED = [
    # As pg_dump writes them.
    (f"CREATE FUNCTION public.f(a integer, b text[]) {C}", "function", "f", CREATE),
    (f"CREATE FUNCTION public.f(a integer DEFAULT 3, OUT b text, VARIADIC c text[] DEFAULT '{{}}'::text[]) {C}",
     "function", "f", CREATE),
    (f"CREATE FUNCTION public.f(a timestamp with time zone DEFAULT now(), b numeric DEFAULT (-1.5)) {C}",
     "function", "f", CREATE),
    (("CREATE FUNCTION public.f() RETURNS SETOF public.t[]\n LANGUAGE sql LEAKPROOF COST 3 ROWS 4 SUPPORT public.s\n"
      " SET search_path TO 'public', 'x'\n SET work_mem TO '8MB' SECURITY DEFINER\n AS $_$SELECT $1; SELECT 2$_$"),
     "function", "f", CREATE),
    (("CREATE FUNCTION public.f() RETURNS TABLE(a integer, b public.t) LANGUAGE plpython3u PARALLEL SAFE"
      " CALLED ON NULL INPUT NOT LEAKPROOF AS $$;\n;$$"), "function", "f", CREATE),
    (("CREATE FUNCTION public.f(integer) RETURNS integer LANGUAGE internal WINDOW"
      " TRANSFORM FOR TYPE integer, FOR TYPE public.hstore RETURNS NULL ON NULL INPUT AS $$int4up$$"),
     "function", "f", CREATE),
    ("CREATE PROCEDURE public.\"P;1\"(IN a integer) LANGUAGE plperlu AS $$die$$", "procedure", "P;1", CREATE),
    (("CREATE AGGREGATE public.mean(bigint) (\n    SFUNC = int8_avg_accum,\n    STYPE = internal,\n  INITCOND = '0',\n"
      "    FINALFUNC_EXTRA,\n    SORTOP = OPERATOR(pg_catalog.<),\n  PARALLEL = safe\n)"), "aggregate", "mean", CREATE),
    ("CREATE AGGREGATE public.m(*) (SFUNC = a, STYPE = internal, MSTYPE = internal, MINITCOND = '1')",
     "aggregate", "m", CREATE),
    ("CREATE AGGREGATE public.m(\"any\" ORDER BY anyelement) (SFUNC = a, STYPE = internal, HYPOTHETICAL)",
     "aggregate", "m", CREATE),
    ("CREATE CAST (character varying AS uuid) WITH INOUT AS IMPLICIT", "cast", "", CREATE),
    ("CREATE CAST (a AS b) WITH FUNCTION public.f(a, integer, boolean)", "cast", "", CREATE),
    ("CREATE TYPE public.t", "type", "t", SHELL),
    (("CREATE TYPE public.t (\n    INTERNALLENGTH = 4,\n    INPUT = public.t_in,\n    OUTPUT = public.t_out,\n"
      "    DEFAULT = '7',\n    PASSEDBYVALUE\n)"), "type", "t", CREATE),
    ("CREATE TYPE public.r AS RANGE (\n    subtype = integer,\n    canonical = public.c\n)", "type", "r", CREATE),
    (("CREATE OPERATOR CLASS public.o\n    DEFAULT FOR TYPE public.t USING btree FAMILY public.o AS\n"
      "    STORAGE integer ,\n    OPERATOR 1 public.<(public.t,public.t) FOR ORDER BY pg_catalog.float_ops ,\n"
      "    FUNCTION 1 (public.t, public.t) public.f(public.t,public.t)"), "operator class", "o", CREATE),
    ("CREATE OPERATOR FAMILY public.o USING btree", "operator family", "o", CREATE),
    ("ALTER OPERATOR FAMILY public.o USING btree ADD\n    OPERATOR 1 <(integer,bigint)", "operator family", "o", ADD),
    ("CREATE ACCESS METHOD m TYPE INDEX HANDLER public.h", "access method", "m", CREATE),
    ("CREATE TRANSFORM FOR public.t LANGUAGE plpython3u (FROM SQL WITH FUNCTION public.f(internal))",
     "transform", "", CREATE),
    ("CREATE TEXT SEARCH TEMPLATE public.t (\n    INIT = public.i,\n    LEXIZE = public.l )",
     "text search template", "t", CREATE),
    ("CREATE TEXT SEARCH PARSER public.p (START = s, GETTOKEN = g, END = e, LEXTYPES = l)",
     "text search parser", "p", CREATE),
    ("CREATE TRUSTED PROCEDURAL LANGUAGE l HANDLER public.h INLINE public.i VALIDATOR public.v",
     "language", "l", CREATE),
    ("CREATE FOREIGN DATA WRAPPER w NO HANDLER OPTIONS (\n    a 'b;c'\n)", "foreign-data wrapper", "w", CREATE),
    ("CREATE SERVER s TYPE 'x' VERSION '1' FOREIGN DATA WRAPPER w OPTIONS (host 'h')", "server", "s", CREATE),
    ("CREATE USER MAPPING FOR \"A\" SERVER s OPTIONS (\n    password 'p;'\n)", "user mapping", "", CREATE),
    ("CREATE USER MAPPING FOR PUBLIC SERVER s", "user mapping", "", CREATE),
    (("CREATE EVENT TRIGGER e ON ddl_command_end\n         WHEN TAG IN ('CREATE TABLE', 'DROP TABLE')\n"
      "   EXECUTE FUNCTION public.f()"), "event trigger", "e", CREATE),
    ("ALTER EVENT TRIGGER e DISABLE", "event trigger", "e", ALTER),
    ("ALTER EVENT TRIGGER e ENABLE ALWAYS", "event trigger", "e", ALTER),
    ("ALTER EVENT TRIGGER e OWNER TO postgres", "event trigger", "e", OWNER),
    ("CREATE SUBSCRIPTION s CONNECTION 'host=h' PUBLICATION \"P\", q WITH (connect = false, slot_name = 's')",
     "subscription", "s", CREATE),
    ("ALTER SUBSCRIPTION s OWNER TO postgres", "subscription", "s", OWNER),
    ("COMMENT ON CAST (integer AS public.t) IS 'it''s; one'", "cast", "", COMMENT),
]  # fmt: skip


@pytest.mark.parametrize(("text", "kind", "name", "action"), ACCEPTED, ids=lambda value: value[:60])
def test_definitions_as_pg_dump_writes_them(text: str, kind: str, name: str, action: str) -> None:
    found = read(text)
    assert found is not None
    assert (found.kind, found.name, found.action, found.text) == (kind, name, action, text)


@pytest.mark.parametrize(("text", "kind", "name", "action"), ACCEPTED, ids=lambda value: value[:60])
@pytest.mark.parametrize(
    "more",
    ["; CREATE ROLE mallory SUPERUSER", ";", " -- ", "/**/", " \\", " '", " \"", " $$", "\0", "\x01"],
)  # fmt: skip
def test_nothing_comes_with_a_definition(text: str, kind: str, name: str, action: str, more: str) -> None:
    assert read(text + more) is None
    assert read(text.replace(" ", more + " ", 1)) is None


REFUSED = [
    # Whatever replaces an object, or is not made of tokens of SQL.
    f"CREATE OR REPLACE FUNCTION public.f() {C}",
    "CREATE OR REPLACE PROCEDURAL LANGUAGE plpython3u",
    "CREATE PROCEDURAL LANGUAGE plpython3u",
    "CREATE OR REPLACE TRANSFORM FOR t LANGUAGE l (FROM SQL WITH FUNCTION f(internal))",
    f'CREATE FUNCTION U&"f"() {C}',
    # Parsed with the statement, by whoever executes it: the server calls input functions of the database.
    f"CREATE FUNCTION public.f(a public.t DEFAULT '(1)'::public.t) {C}",
    f"CREATE FUNCTION public.f(a public.t = '(1)'::public.t) {C}",
    f"CREATE FUNCTION public.f(a public.t := ARRAY['(1)'::public.t]) {C}",
    f"CREATE FUNCTION public.f(a integer DEFAULT public.g('(1)')) {C}",
    f"CREATE FUNCTION public.f(a integer DEFAULT 1 OPERATOR(public.+) 2) {C}",
    "CREATE FUNCTION public.f() RETURNS integer LANGUAGE sql LEAKPROOF RETURN 1",
    "CREATE FUNCTION public.f() RETURNS integer LANGUAGE sql LEAKPROOF BEGIN ATOMIC SELECT 1 END",
    "CREATE FUNCTION public.f() RETURNS public.t LANGUAGE sql LEAKPROOF RETURN '(1)'::public.t",
    "CREATE AGGREGATE public.m(bigint) (SFUNC = f, STYPE = public.internal, INITCOND = '1')",
    "CREATE AGGREGATE public.m(bigint) (SFUNC = f, STYPE = public.t, INITCOND = '1')",
    "CREATE AGGREGATE public.m(bigint) (SFUNC = f, STYPE = \"internal\", INITCOND = '1')",
    "CREATE AGGREGATE public.m(bigint) (SFUNC = f, STYPE = internal, STYPE = public.t, INITCOND = '1')",
    "CREATE AGGREGATE public.m(bigint) (SFUNC = f, STYPE = internal, MSTYPE = public.t, MINITCOND = '1')",
    'CREATE AGGREGATE public.m(bigint) (SFUNC = f, STYPE = internal, "MSTYPE" = public.t)',
    "CREATE AGGREGATE public.m (BASETYPE = bigint, SFUNC = f, STYPE = internal)",
    "CREATE DOMAIN public.d AS integer DEFAULT public.f()",
    "CREATE TYPE public.t AS (a integer)",
    "CREATE TYPE public.t AS ENUM ('a')",
    "CREATE TYPE public.t (INPUT = a, OUTPUT = b, EVIL = c)",
    # A library of another name than the caller sees.
    "CREATE FUNCTION public.f() RETURNS integer LANGUAGE c AS E'\\x41', 'y'",
    "CREATE FUNCTION public.f() RETURNS integer LANGUAGE c AS '\\x41', 'y'",
    "CREATE FUNCTION public.f() RETURNS integer LANGUAGE c AS $$a$$, 'y'",
    "CREATE FUNCTION public.f() RETURNS integer LANGUAGE c AS 'a'",
    "CREATE FUNCTION public.f() RETURNS integer LANGUAGE other AS 'a', 'b'",
    "CREATE FUNCTION public.f() RETURNS integer AS 'a', 'b'",
    "CREATE FUNCTION public.f() RETURNS integer LANGUAGE sql SET role FROM CURRENT AS 'SELECT 1'",
    # What connects to other servers, or enables it.
    "CREATE SUBSCRIPTION s CONNECTION 'host=h' PUBLICATION p",
    "CREATE SUBSCRIPTION s CONNECTION 'host=h' PUBLICATION p WITH (slot_name = 's')",
    "CREATE SUBSCRIPTION s CONNECTION 'host=h' PUBLICATION p WITH (connect = true)",
    "CREATE SUBSCRIPTION s CONNECTION 'host=h' PUBLICATION p WITH (connect = false, enabled = true)",
    "CREATE SUBSCRIPTION s CONNECTION 'host=h' PUBLICATION p WITH (connect = false, connect = true)",
    "ALTER SUBSCRIPTION s ENABLE",
    # Other statements.
    "ALTER OPERATOR FAMILY public.o USING btree DROP OPERATOR 1 (integer, integer)",
    "ALTER OPERATOR FAMILY public.o USING btree OWNER TO mallory",
    "ALTER FUNCTION public.f() OWNER TO mallory",
    "CREATE OPERATOR CLASS public.o FOR TYPE t USING btree AS FUNCTION 1 f(t, t)",
    "CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION public.f('x')",
    "CREATE SERVER IF NOT EXISTS s FOREIGN DATA WRAPPER w",
    "CREATE USER MAPPING FOR CURRENT_USER SERVER s",
    "CREATE USER MAPPING IF NOT EXISTS FOR a SERVER s",
    "CREATE EXTENSION hstore",
    "CREATE ROLE mallory SUPERUSER",
    "COPY t TO PROGRAM 'x'",
    "COMMENT ON DATABASE postgres IS 'x'",
    "COMMENT ON ROLE postgres IS 'x'",
    "COMMENT ON FUNCTION public.f() IS 'x' 'y'",
    "DO $$BEGIN END$$",
    "",
    "CREATE",
    "CREATE FUNCTION",
    "CREATE FUNCTION public.f(",
    "CREATE FUNCTION public.f()",
    "CREATE TYPE public.t (",
]


@pytest.mark.parametrize("text", REFUSED)
def test_everything_else_is_not_a_definition(text: str) -> None:
    assert read(text) is None


def test_the_caller_is_told_what_the_server_loads_and_calls() -> None:
    found = read("CREATE FUNCTION public.f() RETURNS integer LANGUAGE c AS 'it''s', 'y'")
    assert found is not None and found.library == "it's"
    found = read("CREATE FOREIGN DATA WRAPPER w HANDLER public.h VALIDATOR public.\"V\" OPTIONS (a 'b')")
    assert found is not None and found.validator == 'public."V"'
    found = read("CREATE SERVER s FOREIGN DATA WRAPPER \"W\" OPTIONS (a 'b')")
    assert found is not None and found.wrapper == "W"


def test_bytes_that_are_not_in_the_encoding() -> None:
    assert definitions.definition(Statement(b"CREATE TYPE public.t\xff")) is None
    assert definitions.definition(Statement(b"CREATE TYPE public.t\xff"), encoding="latin-1") == definitions.Definition(
        "type", "t\xff", "CREATE TYPE public.t\xff", SHELL
    )


def test_a_definition_is_not_endless() -> None:
    assert read(f"CREATE FUNCTION public.f() RETURNS int LANGUAGE sql AS '{'x' * definitions.LONGEST}'") is None
