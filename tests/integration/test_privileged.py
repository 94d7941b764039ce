# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Objects that only a superuser may create come back from a signed backup, and belong to whom they should."""

from __future__ import annotations

import datetime
import pathlib
import typing as t

import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine.backup import backup
from ansible_collections.infrazero.database.plugins.module_utils._engine.backup.plan import BackupOptions
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.databases import Database
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.restoring import RestoreOptions
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.trust import UNSIGNED, Trust
from ansible_collections.infrazero.database.plugins.module_utils._engine.errors import PostgresError
from ansible_collections.infrazero.database.plugins.module_utils._engine.outcome import Summary
from ansible_collections.infrazero.database.plugins.module_utils._engine.restore import restore
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql import swap
from ansible_collections.infrazero.database.plugins.module_utils._engine.stores.base import Store

from tests.support import scene
from tests.support.cluster import Cluster, ClusterError
from tests.support.dumps import dump
from tests.support.outcomes import details_of, error
from tests.support.requirements import require_contrib
from tests.support.signing import SigningHost, trust


@pytest.fixture
def host(tmp_path: pathlib.Path) -> SigningHost:
    return SigningHost.make(tmp_path / "keys", "db1")


@pytest.fixture
def app(cluster: Cluster) -> Database:
    database = scene.entry("app")
    scene.make(cluster, database)
    cluster.psql("CREATE ROLE reader LOGIN")
    return database


def text_of(cluster: Cluster) -> str:
    """What pg_dump says of the database, but for owners and privileges."""
    return dump(cluster, "app", "--no-owner", "--no-privileges").decode()


def back_up(cluster: Cluster, store: Store, app: Database, host: SigningHost | None) -> None:
    moment = datetime.datetime.now(datetime.timezone.utc)
    options = BackupOptions(signer=None if host is None else host.signer)
    backup.back_up(app, settings=cluster.settings, store=store, options=options, moment=moment)


def restored(cluster: Cluster, store: Store, app: Database, host: SigningHost | None, **options: t.Any) -> Summary:
    trusted = Trust(mode=UNSIGNED) if host is None else trust(host)
    return restore.restore_all(
        [app], settings=cluster.settings, store=store, options=RestoreOptions(trust=trusted, **options)
    )


def round_trip(
    cluster: Cluster, store: Store, app: Database, host: SigningHost, **options: t.Any
) -> tuple[dict[str, t.Any], str, str]:
    """Back up, lose and restore the database; the details, and its dumps before and after."""
    before = text_of(cluster)
    back_up(cluster, store, app, host)
    subscriptions = cluster.psql("SELECT subname FROM pg_subscription", "app").splitlines()
    for name in subscriptions:
        cluster.psql(f"ALTER SUBSCRIPTION {name} SET (slot_name = NONE); DROP SUBSCRIPTION {name}", "app")
    cluster.psql("DROP DATABASE app WITH (FORCE)")
    return details_of(restored(cluster, store, app, host, **options)), before, text_of(cluster)


def owner(cluster: Cluster, function: str) -> str:
    return cluster.psql(f"SELECT proowner::regrole FROM pg_proc WHERE proname = '{function}'", "app")


#: By kind: what a superuser creates.
KINDS = {
    "casts": """
        CREATE CAST (varchar AS uuid) WITH INOUT AS IMPLICIT;
        COMMENT ON CAST (varchar AS uuid) IS 'for the old client';
        CREATE FUNCTION public.to_flag(inet) RETURNS bytea LANGUAGE sql IMMUTABLE AS 'SELECT ''x''::bytea';
        CREATE CAST (inet AS bytea) WITH FUNCTION public.to_flag(inet) AS ASSIGNMENT;
        CREATE CAST (bytea AS text) WITHOUT FUNCTION;
    """,
    "functions in C": """
        CREATE FUNCTION public.distance(text, text, int DEFAULT 3, x text DEFAULT 'a'::text) RETURNS int
            LANGUAGE c IMMUTABLE STRICT AS '$libdir/fuzzystrmatch', 'levenshtein';
        COMMENT ON FUNCTION public.distance(text, text, int, text) IS 'of two words';
        CREATE FUNCTION public.stamp() RETURNS trigger LANGUAGE c AS '$libdir/autoinc', 'autoinc';
        CREATE TABLE words (a text, b text, d int GENERATED ALWAYS AS (public.distance(a, b)) STORED);
        INSERT INTO words VALUES ('one', 'two');
    """,
    "internal functions": """
        CREATE FUNCTION public.size(text) RETURNS int LANGUAGE internal IMMUTABLE STRICT PARALLEL SAFE AS 'textlen';
        CREATE PROCEDURE public.nothing(int) LANGUAGE internal AS 'int4up';
        CREATE TABLE t (a text);
        INSERT INTO t VALUES ('one');
        CREATE INDEX t_size ON t (public.size(a));
    """,
    "LEAKPROOF": """
        CREATE FUNCTION public.same(int) RETURNS int LANGUAGE sql IMMUTABLE LEAKPROOF AS 'SELECT $1';
    """,
    "support functions": """
        CREATE FUNCTION public.words() RETURNS SETOF text LANGUAGE sql STABLE ROWS 3
            SUPPORT generate_series_int4_support
            AS 'SELECT ''a'' UNION SELECT ''b''';
    """,
    "settings of superusers": """
        CREATE FUNCTION public.quiet() RETURNS int LANGUAGE plpgsql SET log_statement TO 'none' SET work_mem TO '8MB'
            AS 'BEGIN RETURN 1; END';
    """,
    "aggregates with internal state": """
        CREATE AGGREGATE public.mean(int8) (sfunc = int8_avg_accum, stype = internal, finalfunc = numeric_poly_avg,
            combinefunc = int8_avg_combine, serialfunc = int8_avg_serialize, deserialfunc = int8_avg_deserialize,
            msfunc = int8_avg_accum, minvfunc = int8_avg_accum_inv, mstype = internal, mfinalfunc = numeric_poly_avg,
            parallel = safe);
        COMMENT ON AGGREGATE public.mean(int8) IS 'of all';
    """,
    "base types": """
        CREATE TYPE public.short;
        CREATE FUNCTION public.short_in(cstring) RETURNS public.short LANGUAGE internal IMMUTABLE STRICT AS 'int4in';
        CREATE FUNCTION public.short_out(public.short) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'int4out';
        CREATE TYPE public.short (INPUT = public.short_in, OUTPUT = public.short_out, LIKE = int4, DEFAULT = '7',
            CATEGORY = 'x', PREFERRED = true);
        COMMENT ON TYPE public.short IS 'numbers';
        CREATE FUNCTION public.short_lt(public.short, public.short) RETURNS bool
            LANGUAGE internal IMMUTABLE STRICT AS 'int4lt';
        CREATE FUNCTION public.short_eq(public.short, public.short) RETURNS bool
            LANGUAGE internal IMMUTABLE STRICT AS 'int4eq';
        CREATE FUNCTION public.short_gt(public.short, public.short) RETURNS bool
            LANGUAGE internal IMMUTABLE STRICT AS 'int4gt';
        CREATE FUNCTION public.short_cmp(public.short, public.short) RETURNS int
            LANGUAGE internal IMMUTABLE STRICT AS 'btint4cmp';
        CREATE OPERATOR public.< (LEFTARG = public.short, RIGHTARG = public.short, FUNCTION = public.short_lt);
        CREATE OPERATOR public.= (LEFTARG = public.short, RIGHTARG = public.short, FUNCTION = public.short_eq);
        CREATE OPERATOR public.> (LEFTARG = public.short, RIGHTARG = public.short, FUNCTION = public.short_gt);
        CREATE OPERATOR CLASS public.short_ops DEFAULT FOR TYPE public.short USING btree AS
            OPERATOR 1 public.<, OPERATOR 3 public.=, OPERATOR 5 public.>,
            FUNCTION 1 public.short_cmp(public.short, public.short);
        CREATE CAST (public.short AS int4) WITHOUT FUNCTION AS IMPLICIT;
        CREATE TYPE public.undefined;
        CREATE TABLE shorts (a public.short PRIMARY KEY, b public.short[] DEFAULT '{3,4}');
        INSERT INTO shorts VALUES ('3'), ('4');
    """,
    "ranges with a canonical form": """
        CREATE TYPE public.span;
        CREATE FUNCTION public.span_canonical(public.span) RETURNS public.span
            LANGUAGE internal IMMUTABLE STRICT AS 'int4range_canonical';
        CREATE TYPE public.span AS RANGE (subtype = int4, canonical = public.span_canonical,
            subtype_diff = int4range_subdiff);
        CREATE TABLE spans (a public.span);
        INSERT INTO spans VALUES ('[1,2]');
    """,
    "operator classes": """
        CREATE FUNCTION public.by_length(text, text) RETURNS int LANGUAGE sql IMMUTABLE STRICT
            AS 'SELECT btint4cmp(length($1), length($2))';
        CREATE OPERATOR CLASS public.length_ops FOR TYPE text USING btree AS
            OPERATOR 1 <, OPERATOR 3 =, OPERATOR 5 >, FUNCTION 1 public.by_length(text, text);
        CREATE OPERATOR FAMILY public.numbers USING btree;
        CREATE OPERATOR CLASS public.int4_too FOR TYPE int4 USING btree FAMILY public.numbers AS
            OPERATOR 1 <, OPERATOR 3 =, FUNCTION 1 btint4cmp(int4, int4);
        ALTER OPERATOR FAMILY public.numbers USING btree ADD
            OPERATOR 1 < (int4, int8), FUNCTION 1 (int4, int8) btint48cmp(int4, int8);
        COMMENT ON OPERATOR FAMILY public.numbers USING btree IS 'of two sizes';
        CREATE OPERATOR CLASS public.searched FOR TYPE tsvector USING gist AS
            OPERATOR 1 @@ (tsvector, tsquery),
            FUNCTION 1 gtsvector_consistent(internal, tsvector, int2, oid, internal),
            FUNCTION 2 gtsvector_union(internal, internal), FUNCTION 3 gtsvector_compress(internal),
            FUNCTION 4 gtsvector_decompress(internal), FUNCTION 5 gtsvector_penalty(internal, internal, internal),
            FUNCTION 6 gtsvector_picksplit(internal, internal),
            FUNCTION 7 gtsvector_same(gtsvector, gtsvector, internal), STORAGE gtsvector;
        CREATE TABLE t (a text, b int, c tsvector);
        INSERT INTO t VALUES ('one', 1, 'one');
        CREATE INDEX t_a ON t (a public.length_ops);
        CREATE INDEX t_b ON t (b public.int4_too);
        CREATE INDEX t_c ON t USING gist (c public.searched);
    """,
    "access methods": """
        CREATE ACCESS METHOD tree TYPE INDEX HANDLER bthandler;
        CREATE ACCESS METHOD pile TYPE TABLE HANDLER heap_tableam_handler;
        CREATE OPERATOR CLASS public.tree_ops FOR TYPE int4 USING tree AS
            OPERATOR 1 <, OPERATOR 3 =, FUNCTION 1 btint4cmp(int4, int4);
        CREATE TABLE t (a int) USING pile;
        INSERT INTO t VALUES (1);
    """,
    "transforms": """
        CREATE FUNCTION public.fine(internal) RETURNS internal LANGUAGE internal STABLE AS 'textlike_support';
        CREATE TRANSFORM FOR int LANGUAGE sql (FROM SQL WITH FUNCTION public.fine(internal));
    """,
    "text search": """
        CREATE TEXT SEARCH TEMPLATE public.plain (INIT = dsimple_init, LEXIZE = dsimple_lexize);
        CREATE TEXT SEARCH PARSER public.usual (START = prsd_start, GETTOKEN = prsd_nexttoken, END = prsd_end,
            LEXTYPES = prsd_lextype, HEADLINE = prsd_headline);
        COMMENT ON TEXT SEARCH PARSER public.usual IS 'the usual one';
        CREATE TEXT SEARCH DICTIONARY public.words (TEMPLATE = public.plain, STOPWORDS = english);
        CREATE TEXT SEARCH CONFIGURATION public.found (PARSER = public.usual);
        ALTER TEXT SEARCH CONFIGURATION public.found ADD MAPPING FOR asciiword WITH public.words;
    """,
    "foreign data": """
        CREATE FUNCTION public.checked(text[], oid) RETURNS void LANGUAGE plpgsql AS 'BEGIN END';
        CREATE FOREIGN DATA WRAPPER away VALIDATOR public.checked OPTIONS (one 'two');
        CREATE SERVER far TYPE 'x' VERSION '1' FOREIGN DATA WRAPPER away OPTIONS (host '192.0.2.1');
        COMMENT ON SERVER far IS 'far away';
        ALTER SERVER far OWNER TO app;
        CREATE USER MAPPING FOR app SERVER far OPTIONS (password 'p');
        CREATE FOREIGN TABLE far_t (a int) SERVER far;
    """,
    "languages": """
        CREATE FUNCTION public.call() RETURNS language_handler LANGUAGE c AS '$libdir/plpgsql', 'plpgsql_call_handler';
        CREATE FUNCTION public.inline(internal) RETURNS void LANGUAGE c AS '$libdir/plpgsql', 'plpgsql_inline_handler';
        CREATE FUNCTION public.valid(oid) RETURNS void LANGUAGE c AS '$libdir/plpgsql', 'plpgsql_validator';
        CREATE TRUSTED LANGUAGE trusted HANDLER public.call INLINE public.inline VALIDATOR public.valid;
        CREATE LANGUAGE untrusted HANDLER public.call INLINE public.inline VALIDATOR public.valid;
        CREATE FUNCTION public.trusting() RETURNS int LANGUAGE trusted AS 'BEGIN RETURN 1; END';
        CREATE FUNCTION public.distrusting() RETURNS int LANGUAGE untrusted AS 'BEGIN RETURN 2; END';
    """,
    "event triggers": """
        CREATE TABLE said (command text);
        CREATE FUNCTION public.say() RETURNS event_trigger LANGUAGE plpgsql AS
            'BEGIN INSERT INTO public.said VALUES (tg_tag); END';
        CREATE EVENT TRIGGER loud ON ddl_command_end EXECUTE FUNCTION public.say();
        CREATE EVENT TRIGGER a_few ON ddl_command_start WHEN TAG IN ('CREATE TABLE', 'DROP TABLE')
            EXECUTE FUNCTION public.say();
        CREATE EVENT TRIGGER off ON sql_drop EXECUTE FUNCTION public.say();
        ALTER EVENT TRIGGER off DISABLE;
        ALTER EVENT TRIGGER a_few ENABLE ALWAYS;
    """,
    "subscriptions": """
        CREATE SUBSCRIPTION changes CONNECTION 'host=192.0.2.1 dbname=x password=hidden' PUBLICATION one, two
            WITH (connect = false, slot_name = 'other', synchronous_commit = 'local', binary = true);
    """,
}


def kind_of(cluster: Cluster, kind: str) -> str:
    """The statements of a kind, for the server's version."""
    require_contrib(cluster, KINDS[kind])
    return KINDS[kind] if cluster.major >= 14 else KINDS[kind].replace(", binary = true", "")


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_comes_back_equal(
    cluster: Cluster, store: Store, app: Database, host: SigningHost, kind: str
) -> None:
    cluster.psql(kind_of(cluster, kind), "app")
    details, before, after = round_trip(cluster, store, app, host, grant_app_user=False)
    assert after == before
    assert details["warnings"] == []
    assert details["skipped"] == []
    # The second generation, too.
    details, before, after = round_trip(cluster, store, app, host, grant_app_user=False)
    assert after == before
    assert details["warnings"] == []


# Owners and privileges -----------------------------------------------------------------------------------------------

OWNERS = """
    CREATE FUNCTION public.size(text) RETURNS int LANGUAGE internal IMMUTABLE STRICT AS 'textlen';
    ALTER FUNCTION public.size(text) OWNER TO app;
    CREATE FUNCTION public.secret(text) RETURNS int LANGUAGE internal IMMUTABLE STRICT AS 'textlen';
    REVOKE ALL ON FUNCTION public.secret(text) FROM PUBLIC;
    GRANT EXECUTE ON FUNCTION public.secret(text) TO reader WITH GRANT OPTION;
    CREATE FUNCTION public.own(text) RETURNS int LANGUAGE internal IMMUTABLE STRICT AS 'textlen';
    REVOKE ALL ON FUNCTION public.own(text) FROM PUBLIC;
    GRANT EXECUTE ON FUNCTION public.own(text) TO app;
    CREATE FUNCTION public.same(int) RETURNS int LANGUAGE sql IMMUTABLE LEAKPROOF SECURITY DEFINER AS 'SELECT $1';
    CREATE FUNCTION public.by_length(text, text) RETURNS int LANGUAGE sql IMMUTABLE STRICT SECURITY DEFINER
        AS 'SELECT btint4cmp(length($1), length($2))';
    CREATE OPERATOR CLASS public.length_ops FOR TYPE text USING btree AS
        OPERATOR 1 <, OPERATOR 3 =, OPERATOR 5 >, FUNCTION 1 public.by_length(text, text);
    CREATE FUNCTION public.say() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
    CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION public.say();
    CREATE EXTENSION postgres_fdw;
    CREATE SERVER mine FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '192.0.2.1');
    ALTER SERVER mine OWNER TO app;
    CREATE SERVER theirs FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '192.0.2.2');
    GRANT USAGE ON FOREIGN SERVER theirs TO app;
    CREATE USER MAPPING FOR app SERVER theirs OPTIONS (user 'u', password 'p');
    CREATE USER MAPPING FOR PUBLIC SERVER theirs OPTIONS (user 'v', password_required 'false');
    CREATE USER MAPPING FOR reader SERVER mine;
    CREATE FOREIGN TABLE public.mine_t (a int) SERVER mine;
    CREATE FOREIGN TABLE public.theirs_t (a int) SERVER theirs;
    CREATE TABLE public.t (a text);
    INSERT INTO public.t VALUES ('one');
    CREATE INDEX t_a ON public.t (public.own(a), public.size(a), a public.length_ops);
"""


@pytest.mark.parametrize(
    "options",
    [{}, {"skip_acl": False, "force_target_owner": False}, {"force_target_owner": True, "grant_app_user": True}],
    ids=["as documented", "owners and privileges of the dump", "all to the owner"],
)
def test_what_acts_beyond_the_database_stays_with_the_administrator(
    cluster: Cluster, store: Store, app: Database, host: SigningHost, options: dict[str, t.Any]
) -> None:
    require_contrib(cluster)
    cluster.psql(OWNERS, "app")
    details, before, after = round_trip(cluster, store, app, host, extensions=frozenset({"postgres_fdw"}), **options)
    assert after == before
    # In C or internal: whatever the owner was.  Functions that others call without a name: if a superuser owned them.
    owners = {name: owner(cluster, name) for name in ("size", "secret", "own", "by_length", "say", "same")}
    assert owners == {**dict.fromkeys(owners, "postgres"), "same": "app"}
    assert cluster.psql("SELECT opcowner::regrole FROM pg_opclass WHERE opcname = 'length_ops'", "app") == "app"
    query = "SELECT string_agg(acl::text, ' ' ORDER BY acl::text) FROM pg_proc, unnest(proacl) acl WHERE proname = '{}'"
    acl = {name: cluster.psql(query.format(name), "app") for name in ("size", "secret", "own")}
    assert acl == {
        "size": "=X/postgres app=X/postgres postgres=X/postgres",
        "secret": "postgres=X/postgres reader=X*/postgres",
        "own": "app=X/postgres postgres=X/postgres",
    }
    servers = cluster.psql("SELECT srvname, srvowner::regrole, srvacl FROM pg_foreign_server ORDER BY 1", "app")
    assert servers.splitlines() == ["mine|app|", "theirs|postgres|{postgres=U/postgres,app=U/postgres}"]
    # The role that loaded the dump has left nothing.
    assert (
        cluster.psql(
            "SELECT count(*) FROM pg_shdepend d LEFT JOIN pg_authid a ON a.oid = d.refobjid"
            " WHERE d.refclassid = 'pg_authid'::regclass AND a.oid IS NULL"
        )
        == "0"
    )
    # What the dump grants on objects of the administrator is granted by the list.
    assert [warning for warning in details["warnings"] if "infrazero" in warning or "grant" in warning] == []


def test_what_was_a_superusers_is_not_the_users_in_place_of_the_owner_of_the_database(
    cluster: Cluster, store: Store, app: Database, host: SigningHost
) -> None:
    require_contrib(cluster)
    cluster.psql(OWNERS, "app")
    cluster.psql("ALTER DATABASE app OWNER TO postgres; ALTER SERVER mine OWNER TO postgres", "app")
    cluster.psql("REVOKE ALL ON FUNCTION own(text) FROM app; DROP INDEX t_a", "app")
    round_trip(cluster, store, app, host, extensions=frozenset({"postgres_fdw"}))
    for name in ("secret", "own"):
        assert cluster.psql(f"SELECT has_function_privilege('app', 'public.{name}(text)', 'EXECUTE')", "app") == "f"
    assert cluster.psql("SELECT srvowner::regrole FROM pg_foreign_server WHERE srvname = 'mine'", "app") == "postgres"
    assert cluster.psql("SELECT has_server_privilege('app', 'mine', 'USAGE')", "app") == "f"


def test_the_tenant_can_not_change_what_stays(cluster: Cluster, store: Store, app: Database, host: SigningHost) -> None:
    require_contrib(cluster)
    cluster.psql(KINDS["languages"] + OWNERS.replace("CREATE EXTENSION", "CREATE EXTENSION IF NOT EXISTS"), "app")
    round_trip(cluster, store, app, host, extensions=frozenset({"postgres_fdw"}))
    for statement in (
        "CREATE OR REPLACE FUNCTION public.by_length(text, text) RETURNS int LANGUAGE sql AS 'SELECT 0'",
        "CREATE OR REPLACE FUNCTION public.say() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'",
        "CREATE OR REPLACE FUNCTION public.distrusting() RETURNS int LANGUAGE untrusted AS 'BEGIN RETURN 3; END'",
        "ALTER FUNCTION public.size(text) SECURITY DEFINER",
        "SELECT public.secret('x')",
        "ALTER SERVER theirs OPTIONS (SET host '127.0.0.1')",
    ):
        with pytest.raises(ClusterError, match=r"must be owner|permission denied"):
            cluster.psql(f"SET SESSION AUTHORIZATION app; {statement}", "app")


def test_the_user_gets_no_privilege_that_only_a_superuser_had_as_the_owner_of_the_database(
    cluster: Cluster, store: Store, app: Database, host: SigningHost
) -> None:
    """The user stands in for the owner of the source; not where the owner was a superuser, who needs no privileges."""
    cluster.psql(
        """
        ALTER DATABASE app OWNER TO postgres;
        CREATE FUNCTION public.secret(text) RETURNS int LANGUAGE internal AS 'textlen';
        REVOKE EXECUTE ON FUNCTION public.secret(text) FROM PUBLIC;
        CREATE FOREIGN DATA WRAPPER outside;
        CREATE SERVER theirs FOREIGN DATA WRAPPER outside OPTIONS (host '192.0.2.1');
        """,
        "app",
    )
    _details, before, after = round_trip(cluster, store, app, host)
    assert after == before
    for statement in (
        "SELECT public.secret('x')",
        "CREATE SERVER mine FOREIGN DATA WRAPPER outside",
        "CREATE USER MAPPING FOR CURRENT_USER SERVER theirs",
        "ALTER SERVER theirs OPTIONS (SET host '127.0.0.1')",
    ):
        with pytest.raises(ClusterError, match=r"must be owner|permission denied"):
            cluster.psql(f"SET SESSION AUTHORIZATION app; {statement}", "app")


def test_roles_that_do_not_exist_are_left_out_and_named(
    cluster: Cluster, store: Store, app: Database, host: SigningHost
) -> None:
    require_contrib(cluster)
    cluster.psql(OWNERS, "app")
    back_up(cluster, store, app, host)
    cluster.psql("DROP DATABASE app; DROP ROLE reader")
    details = details_of(restored(cluster, store, app, host, extensions=frozenset({"postgres_fdw"})))
    assert (
        "EXECUTE on function public.secret(pg_catalog.text) is not granted to 'reader': there is no such role"
        in details["warnings"]
    )


# Where the list comes from -------------------------------------------------------------------------------------------


def unsigned(cluster: Cluster, store: Store, app: Database, **options: t.Any) -> Summary:
    back_up(cluster, store, app, None)
    cluster.psql("DROP DATABASE app")
    return restored(cluster, store, app, None, **options)


def test_an_unsigned_backup_defines_nothing_unless_that_is_asked_for(
    cluster: Cluster, store: Store, app: Database
) -> None:
    cluster.psql(KINDS["internal functions"], "app")
    said = error(unsigned(cluster, store, app))
    assert "SQLSTATE 42501" in said
    assert "the backup is not signed" in said and "DB_RESTORE_PRIVILEGED" in said
    details_of(restored(cluster, store, app, None, privileged=True))
    assert owner(cluster, "size") == "postgres"


# Roles of policies ---------------------------------------------------------------------------------------------------

POLICIES = """
    CREATE TABLE public.t (a int);
    ALTER TABLE public.t ENABLE ROW LEVEL SECURITY;
    CREATE POLICY p ON public.t TO reader USING (true);
    CREATE POLICY q ON public.t TO reader USING (a = 1);
"""


def test_a_role_that_only_policies_name_is_created_without_login(
    cluster: Cluster, store: Store, app: Database, host: SigningHost
) -> None:
    cluster.psql(POLICIES, "app")
    back_up(cluster, store, app, host)
    before = text_of(cluster)
    cluster.psql("DROP DATABASE app; DROP ROLE reader")
    details = details_of(restored(cluster, store, app, host))
    assert text_of(cluster) == before
    assert cluster.psql("SELECT rolcanlogin, rolinherit, rolsuper FROM pg_roles WHERE rolname = 'reader'") == "f|t|f"
    assert (
        "role 'reader' was created, because policies of the database name it: nobody can log in as it"
        in (details["warnings"])
    )


def test_nothing_is_left_of_a_restore_that_fails(
    cluster: Cluster, store: Store, app: Database, host: SigningHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a role that it has created, nor a database that cannot be dropped because of its subscription."""
    cluster.psql(POLICIES + kind_of(cluster, "subscriptions"), "app")
    back_up(cluster, store, app, host)
    cluster.psql("DROP POLICY p ON t; DROP POLICY q ON t", "app")
    cluster.psql("DROP ROLE reader")
    roles: list[str] = []

    def fail(*_arguments: object, **_options: object) -> t.NoReturn:
        roles.append(cluster.psql("SELECT rolname FROM pg_roles WHERE rolname = 'reader'"))
        raise PostgresError("no")

    monkeypatch.setattr(swap, "swap", fail)
    assert error(restored(cluster, store, app, host)) == "postgresql: no"
    assert roles == ["reader"]
    assert cluster.psql("SELECT count(*) FROM pg_roles WHERE rolname = 'reader'") == "0"
    assert cluster.psql("SELECT count(*) FROM pg_database WHERE datname LIKE '%\\_\\_restore\\_%'") == "0"
    assert cluster.psql("SELECT count(*) FROM pg_subscription") == "1"


def test_a_replaced_database_with_a_subscription_is_dropped(
    cluster: Cluster, store: Store, app: Database, host: SigningHost
) -> None:
    cluster.psql(kind_of(cluster, "subscriptions"), "app")
    back_up(cluster, store, app, host)
    details = details_of(restored(cluster, store, app, host, keep_replaced=datetime.timedelta(0)))
    assert details["warnings"] == []
    assert cluster.psql("SELECT datname, subname FROM pg_subscription JOIN pg_database d ON d.oid = subdbid") == (
        "app|changes"
    )
