# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Dumps whose author wants a superuser to create something else than what the source had.

The list of what only a superuser may create is the source's, as in a signed backup.  The text is the attacker's: a
``pg_dump`` before August 2025 lets a tenant write whole statements into it, through line breaks in names.
"""

from __future__ import annotations

import contextlib
import dataclasses
import secrets
import typing as t

import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.restoring import RestoreOptions
from ansible_collections.infrazero.database.plugins.module_utils._engine.errors import EngineError
from ansible_collections.infrazero.database.plugins.module_utils._engine.restore import restore
from ansible_collections.infrazero.database.plugins.module_utils._engine.restore.choose import Choice
from ansible_collections.infrazero.database.plugins.module_utils._engine.restore.plan import Request
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql import privileged
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.connection import connect
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.database_settings import (
    capture,
)
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.dumptext import preamble
from ansible_collections.infrazero.database.plugins.module_utils._engine.stores.base import Store

from tests.support import scene
from tests.support.cluster import Cluster
from tests.support.requirements import require_contrib

DIFFERS = "in the dump is not the one that the source had"
DENIED = "SQLSTATE 42(501|P13)"

# Tries to become superuser, wherever and as whomever it is called.
ACT = """CREATE FUNCTION public.act() RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN CREATE ROLE mallory SUPERUSER; RETURN true; EXCEPTION WHEN OTHERS THEN RETURN true; END$$;
"""
COMPOSITE = ACT + "CREATE DOMAIN public.trap AS int CHECK (public.act()); CREATE TYPE public.pair AS (a public.trap);"
INTERNAL = "CREATE FUNCTION public.f(int) RETURNS int LANGUAGE internal IMMUTABLE STRICT AS 'int4abs';"


def base_type(name: str, like: str = "int4") -> str:
    return f"""CREATE TYPE public.{name};
    CREATE FUNCTION public.{name}_in(cstring) RETURNS public.{name} LANGUAGE internal IMMUTABLE STRICT AS '{like}in';
    CREATE FUNCTION public.{name}_out(public.{name}) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS '{like}out';
    CREATE TYPE public.{name} (INPUT = public.{name}_in, OUTPUT = public.{name}_out, LIKE = pg_catalog.{like});
    """


OF_TYPE = "CREATE FUNCTION public.f(public.a) RETURNS int LANGUAGE internal IMMUTABLE STRICT AS 'textlen';"
OPERATORS = "OPERATOR 1 <(text, text), OPERATOR 3 =(text, text), OPERATOR 5 >(text, text)"


def by_length(body: str = "btint4cmp(length($1), length($2))") -> str:
    return f"""CREATE FUNCTION public.by_length(text, text) RETURNS int LANGUAGE sql IMMUTABLE STRICT
    AS 'SELECT {body}';
    """


def operator_class(function: str = "public.by_length(text, text)") -> str:
    return f"""CREATE OPERATOR FAMILY public.o USING btree;
    CREATE OPERATOR CLASS public.o FOR TYPE text USING btree FAMILY public.o AS {OPERATORS}, FUNCTION 1 {function};
    """


def cast(body: str) -> str:
    return f"""CREATE FUNCTION public.flag(inet) RETURNS bytea LANGUAGE sql IMMUTABLE AS 'SELECT ''{body}''::bytea';
    CREATE CAST (inet AS bytea) WITH FUNCTION public.flag(inet) AS ASSIGNMENT;
    """


def event_trigger(body: str = "BEGIN END") -> str:
    return f"""CREATE FUNCTION public.say() RETURNS event_trigger LANGUAGE plpgsql AS '{body}';
    CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION public.say();
    """


def wrapper(body: str = "BEGIN END") -> str:
    return f"""{ACT}
    CREATE FUNCTION public.valid(text[], oid) RETURNS void LANGUAGE plpgsql AS '{body}';
    CREATE FOREIGN DATA WRAPPER w VALIDATOR public.valid OPTIONS (a 'b');
    """


def definer(body: str, how: str = "SET log_statement TO 'none'") -> str:
    return f"""{ACT}
    CREATE FUNCTION public.q(int) RETURNS int LANGUAGE plpgsql IMMUTABLE SECURITY DEFINER {how}
    AS '{body}';
    CREATE TABLE public.t (a int); INSERT INTO public.t VALUES (1);
    CREATE INDEX ON public.t (public.q(a));
    """


SERVER = "CREATE EXTENSION postgres_fdw; CREATE SERVER s FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '192.0.2.1');"
ACTS = "BEGIN PERFORM public.act(); RETURN 1; END"


@dataclasses.dataclass(frozen=True)
class Attack:
    """What a superuser has created in the source, the text that is restored, and what the restore says.

    :param refused: ``None``: the text is restored, and the attacker has gained nothing.
    """

    name: str
    source: str
    text: str
    refused: str | None = DIFFERS


ATTACKS = [
    # Not on the list.
    Attack(
        "a line break in a name: a function that reads files",
        INTERNAL,
        "-- Name: harmless\nCREATE FUNCTION public.evil(text) RETURNS text LANGUAGE internal AS 'pg_read_file_all';\n",
        DENIED,
    ),
    Attack("an overload", INTERNAL, INTERNAL.replace("f(int)", "f(bigint)"), DENIED),
    Attack("a cast", INTERNAL, "CREATE CAST (int AS text) WITHOUT FUNCTION;", DENIED),
    Attack("an extension's function", INTERNAL, "CREATE LANGUAGE plpython3u;", "."),
    # The same identity.
    Attack("another function", INTERNAL, INTERNAL.replace("int4abs", "pg_advisory_lock_int8")),
    Attack("the same function for others", INTERNAL, INTERNAL.replace("STRICT", "STRICT SECURITY DEFINER")),
    Attack("a setting more", INTERNAL, INTERNAL.replace("STRICT", "STRICT SET search_path TO public")),
    Attack("another order", INTERNAL, INTERNAL.replace("int4abs", "int4um") + INTERNAL),
    Attack(
        "another library",
        "CREATE FUNCTION public.f(text, text) RETURNS int LANGUAGE c AS '$libdir/fuzzystrmatch', 'levenshtein';",
        "CREATE FUNCTION public.f(text, text) RETURNS int LANGUAGE c AS '/tmp/evil', 'levenshtein';",
    ),
    Attack(
        "another symbol",
        "CREATE FUNCTION public.f(text, text) RETURNS int LANGUAGE c AS '$libdir/fuzzystrmatch', 'levenshtein';",
        "CREATE FUNCTION public.f(text, text) RETURNS int LANGUAGE c AS '$libdir/fuzzystrmatch', 'soundex';",
    ),
    Attack(
        "another default", INTERNAL.replace("(int)", "(int DEFAULT 1)"), INTERNAL.replace("(int)", "(int DEFAULT 2)")
    ),
    Attack(
        "LEAKPROOF with another body",
        "CREATE FUNCTION public.f(int) RETURNS int LANGUAGE sql LEAKPROOF AS 'SELECT 1';",
        "CREATE FUNCTION public.f(int) RETURNS int LANGUAGE sql LEAKPROOF AS 'SELECT 2';",
    ),
    # Types that are taken for others: the server would read memory that is not theirs.
    Attack("a domain in place of a type", base_type("a", "text") + OF_TYPE, "CREATE DOMAIN public.a AS int;" + OF_TYPE),
    Attack(
        "a type in place of another",
        base_type("a", "text") + base_type("b") + OF_TYPE,
        base_type("a", "text")
        + base_type("b")
        + "ALTER TYPE public.a RENAME TO c; ALTER TYPE public.b RENAME TO a;"
        + OF_TYPE,
    ),
    Attack("a type of another size", base_type("a", "text") + OF_TYPE, base_type("a") + OF_TYPE),
    Attack(
        "another composite type",
        "CREATE TYPE public.a AS (b text);" + OF_TYPE.replace("textlen", "record_out"),
        "CREATE TYPE public.a AS (b int);" + OF_TYPE.replace("textlen", "record_out"),
    ),
    Attack(
        "a type that is passed off as an extension's",
        "CREATE EXTENSION hstore SCHEMA public;" + OF_TYPE.replace("public.a", "public.hstore"),
        "CREATE EXTENSION hstore WITH SCHEMA public; CREATE SCHEMA s; ALTER EXTENSION hstore SET SCHEMA s;"
        "CREATE DOMAIN public.hstore AS int; ALTER EXTENSION hstore ADD DOMAIN public.hstore;"
        + OF_TYPE.replace("public.a", "public.hstore"),
        DENIED,
    ),
    Attack(
        "a shell that is completed as something else",
        base_type("a"),
        "CREATE TYPE public.a; CREATE TYPE public.a AS ENUM ('x');",
        "must be owner|not owner|already exists",
    ),
    # What the server executes while it executes a definition.
    Attack(
        "the initial value of an aggregate",
        "CREATE AGGREGATE public.m(int8) (sfunc = int8_avg_accum, stype = internal, finalfunc = numeric_poly_avg);",
        f"""{COMPOSITE} CREATE AGGREGATE public.m(int8) (sfunc = int8_avg_accum, stype = internal,
        finalfunc = numeric_poly_avg, msfunc = public.x, minvfunc = public.x,
        mstype = public.trap, minitcond = '1');""",
        "CREATE AGGREGATE public.m failed",
    ),
    Attack(
        "the default of a parameter",
        "CREATE TYPE public.pair AS (a int);"
        "CREATE FUNCTION public.f(int, public.pair) RETURNS int LANGUAGE internal AS 'int4abs';",
        f"{COMPOSITE} CREATE FUNCTION public.f(int, public.pair DEFAULT '(1)'::public.pair) RETURNS int"
        " LANGUAGE internal AS 'int4abs';",
        DENIED,
    ),
    Attack(
        "a body that is parsed at once",
        "CREATE TYPE public.pair AS (a int);"
        "CREATE FUNCTION public.f(int) RETURNS public.pair LANGUAGE sql LEAKPROOF AS 'SELECT NULL::public.pair';",
        f"{COMPOSITE} CREATE FUNCTION public.f(int) RETURNS public.pair LANGUAGE sql LEAKPROOF"
        " RETURN '(1)'::public.pair;",
        DENIED,
    ),
    Attack("a wrapper's validator", wrapper(), wrapper("BEGIN PERFORM public.act(); END")),
    Attack(
        "two statements, by other rules for strings",
        INTERNAL,
        r"""SET standard_conforming_strings = off;
        CREATE FUNCTION public.f(int) RETURNS int LANGUAGE internal
        AS 'int4abs\'; CREATE ROLE mallory SUPERUSER; --';""",
        DENIED,
    ),
    # Functions that others call.
    Attack("the function of a cast", cast("good"), cast("evil")),
    Attack("the function of an operator class", by_length() + operator_class(), by_length("0") + operator_class()),
    Attack(
        "a member of an operator class",
        by_length() + operator_class(),
        by_length() + operator_class("pg_catalog.bttext_pattern_cmp(text, text)"),
    ),
    Attack(
        "a member more",
        by_length() + operator_class(),
        by_length() + operator_class() + "ALTER OPERATOR FAMILY public.o USING btree ADD OPERATOR 1 <(int, int);",
        DENIED,
    ),
    Attack("the function of an event trigger", event_trigger(), event_trigger("BEGIN PERFORM 1; END")),
    Attack(
        "an event trigger of a tenant's function",
        event_trigger() + "CREATE ROLE evil; ALTER FUNCTION public.say() OWNER TO evil;",
        event_trigger("BEGIN CREATE ROLE mallory SUPERUSER; END"),
        None,
    ),
    Attack(
        "an event trigger on another event",
        event_trigger(),
        event_trigger().replace("ddl_command_end", "ddl_command_start"),
    ),
    Attack(
        "a foreign server",
        "CREATE EXTENSION postgres_fdw; CREATE SERVER s FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '192.0.2.1');",
        "CREATE EXTENSION postgres_fdw; CREATE SERVER s FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '127.0.0.1');",
    ),
    Attack(
        "a user mapping without a password",
        SERVER + "CREATE USER MAPPING FOR PUBLIC SERVER s OPTIONS (user 'u', password 'p');",
        SERVER + "CREATE USER MAPPING FOR PUBLIC SERVER s OPTIONS (user 'postgres', password_required 'false');",
    ),
    Attack(
        "a user mapping of somebody else",
        SERVER + "CREATE USER MAPPING FOR postgres SERVER s OPTIONS (user 'u', password 'p');",
        SERVER + "CREATE USER MAPPING FOR PUBLIC SERVER s OPTIONS (user 'u', password 'p');",
        DENIED,
    ),
    Attack(
        "a subscription of another publisher",
        "CREATE SUBSCRIPTION s CONNECTION 'host=192.0.2.1' PUBLICATION p WITH (connect = false);",
        "CREATE SUBSCRIPTION s CONNECTION 'host=192.0.2.2' PUBLICATION p WITH (connect = false, slot_name = 's');",
    ),
    Attack(
        "a subscription that is enabled",
        "CREATE SUBSCRIPTION s CONNECTION 'host=192.0.2.1' PUBLICATION p WITH (connect = false);",
        "CREATE SUBSCRIPTION s CONNECTION 'host=192.0.2.1' PUBLICATION p WITH (connect = false, enabled = true);",
        None,
    ),
    # A function that runs as its owner, with a setting that only a superuser may choose, which an index calls.
    Attack(
        "SECURITY DEFINER with another body", definer("BEGIN RETURN 1; END", "LEAKPROOF"), definer(ACTS, "LEAKPROOF")
    ),
    Attack("a setting of superusers in an index", definer(ACTS), definer(ACTS), 'set parameter "log_statement"'),
    Attack("SECURITY DEFINER in an index", definer(ACTS, "LEAKPROOF"), definer(ACTS, "LEAKPROOF"), None),
    Attack(
        "a function that ran as its owner, who was no superuser",
        "CREATE ROLE evil; CREATE FUNCTION public.f(int) RETURNS int LANGUAGE internal SECURITY DEFINER AS 'int4abs';"
        "ALTER FUNCTION public.f(int) OWNER TO evil;",
        "CREATE FUNCTION public.f(int) RETURNS int LANGUAGE internal SECURITY DEFINER AS 'int4abs';",
        DENIED,
    ),
    Attack("a comment on another object", INTERNAL, f"{INTERNAL} COMMENT ON FUNCTION now() IS 'evil';", None),
]


@pytest.fixture
def restoring(cluster: Cluster, store: Store) -> t.Iterator[t.Callable[..., dict[str, t.Any]]]:
    """Restore a text with the list of what a superuser has created in the source."""
    shop = scene.entry("shop")
    scene.make(cluster, shop)

    def restore_it(source: str, text: str, **options: t.Any) -> dict[str, t.Any]:
        require_contrib(cluster, source)
        if " RETURN '(1)'" in text and cluster.major < 14:
            pytest.skip("functions have parsed bodies since PostgreSQL 14")
        cluster.psql("CREATE DATABASE source")
        cluster.psql(source, "source")
        with contextlib.closing(connect(cluster.settings, database="source")) as conn, conn.cursor() as cursor:
            cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            listed = privileged.objects(conn)
            settings = capture(conn, "source").as_dict()
        for name in cluster.psql("SELECT subname FROM pg_subscription", "source").splitlines():
            cluster.psql(f"ALTER SUBSCRIPTION {name} SET (slot_name = NONE); DROP SUBSCRIPTION {name}", "source")
        cluster.psql("DROP DATABASE source WITH (FORCE); DROP ROLE IF EXISTS mallory")
        first = preamble.render(secrets.token_bytes(32), settings=settings, objects=listed, sql="")
        store.put("attack", first + text.encode())
        values = {"privileged": True, "extensions": frozenset({"postgres_fdw"}), **options}
        request = Request(shop, Choice(store, "attack", None, None), RestoreOptions(**values))
        return dict(restore.restore(request, settings=cluster.settings).details)

    yield restore_it
    assert cluster.psql("SELECT count(*) FROM pg_roles WHERE rolname = 'mallory'") == "0"
    assert cluster.psql("SELECT count(*) FROM pg_database WHERE datname LIKE '%\\_\\_restore\\_%'") == "0"
    assert cluster.psql("SELECT count(*) FROM pg_roles WHERE rolname LIKE 'infrazero%'") == "0"


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_nothing_is_created_that_the_source_did_not_have(
    cluster: Cluster, restoring: t.Callable[..., dict[str, t.Any]], attack: Attack
) -> None:
    if attack.refused is None:
        restoring(attack.source, attack.text)
        # What a superuser does with the database later.
        cluster.psql("VACUUM (FULL, ANALYZE); REINDEX DATABASE shop; CREATE TABLE later ()", "shop")
        return
    with pytest.raises(EngineError, match=attack.refused):
        restoring(attack.source, attack.text)
    # And what is the source's own is restored.
    if attack.refused == DIFFERS:
        restoring(attack.source, attack.source.replace("CREATE ROLE evil;", ""))
