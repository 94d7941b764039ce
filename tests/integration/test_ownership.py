# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib

import psycopg2
import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine.errors import PostgresError, RestoreRefused
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql import (
    database_settings,
    loader_role,
    ownership,
    staging,
)
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.connection import connect
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.dumptext.statements import (
    OwnerChange,
)

from tests.support.cluster import Cluster
from tests.support.queries import rows, run
from tests.support.requirements import require_contrib

LOADER = "infrazero_restore_t1"
STAGE = "shop__restore_t1"

# One of everything that a user who is no superuser can make.
OBJECTS = r"""
CREATE SCHEMA main;
CREATE SCHEMA "odd, ""schema"" %s";
CREATE TABLE main.customer (id serial PRIMARY KEY, name text NOT NULL);
CREATE TABLE main.orders (id bigint GENERATED ALWAYS AS IDENTITY, day date) PARTITION BY RANGE (day);
CREATE TABLE main.orders_2025 PARTITION OF main.orders FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE "odd, ""schema"" %s"."ta""ble; DROP" (big text);
CREATE VIEW main.names AS SELECT name FROM main.customer;
CREATE MATERIALIZED VIEW main.cached AS SELECT name FROM main.customer;
CREATE SEQUENCE main.numbers;
CREATE TYPE main.mood AS ENUM ('sad', 'glad');
CREATE TYPE main.pair AS (a int, b text);
CREATE TYPE main.span AS RANGE (subtype = date);
CREATE DOMAIN main.positive AS int CHECK (VALUE > 0);
CREATE FUNCTION main.add(a int, VARIADIC b "char"[]) RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION main.add(text) RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1';
CREATE PROCEDURE main.work(a int, OUT b main.pair) LANGUAGE sql AS 'SELECT NULL::main.pair';
CREATE AGGREGATE main.total(int) (SFUNC = int4pl, STYPE = int);
CREATE AGGREGATE main.number_of(*) (SFUNC = int8inc, STYPE = int8, INITCOND = '0');
CREATE FUNCTION main.pick(int[], double precision) RETURNS int LANGUAGE sql AS 'SELECT $1[1]';
CREATE AGGREGATE main.middle(double precision ORDER BY int)
    (SFUNC = array_append, STYPE = int[], FINALFUNC = main.pick);
CREATE FUNCTION main.same(main.pair, main.pair) RETURNS boolean LANGUAGE sql AS 'SELECT true';
CREATE OPERATOR main.=== (LEFTARG = main.pair, RIGHTARG = main.pair, FUNCTION = main.same);
CREATE COLLATION main.plain FROM "C";
CREATE DEFAULT CONVERSION main.letters FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8;
CREATE TEXT SEARCH DICTIONARY main.words (TEMPLATE = simple);
CREATE TEXT SEARCH CONFIGURATION main.search (COPY = simple);
CREATE STATISTICS main.stats ON id, name FROM main.customer;
CREATE PUBLICATION feed FOR TABLE main.customer;
CREATE INDEX ON main.customer (name);
CREATE POLICY everyone ON main.customer USING (true);
CREATE RULE nothing AS ON INSERT TO main.names DO INSTEAD NOTHING;
CREATE EXTENSION hstore WITH SCHEMA main;
SELECT lo_create(4711);
ALTER DEFAULT PRIVILEGES IN SCHEMA main GRANT SELECT ON TABLES TO reader;
GRANT SELECT ON main.customer TO reader;
"""


@pytest.fixture
def stage(cluster, admin):
    """A stage that a throwaway role has filled with one of everything; a superuser's session in it."""
    require_contrib(cluster)
    run(admin, "CREATE ROLE shop LOGIN; CREATE ROLE reader; CREATE ROLE stranger")
    loader_role.create_loader_role(admin, LOADER)
    staging.create_staging(admin, STAGE, loader=LOADER, like=database_settings.Creation())
    with contextlib.closing(connect(cluster.settings, database=STAGE)) as conn:
        staging.open_staging(conn, LOADER)
        with contextlib.closing(
            loader_role.connect_loader(cluster.settings, admin, database=STAGE, role=LOADER)
        ) as loader:
            run(loader, OBJECTS if cluster.major >= 14 else OBJECTS.replace(", OUT b", ", INOUT b"))
        yield conn


# Straight from the catalogs, by another way than the code takes: everything that has an owner.
OWNED = """
SELECT i.type || ' ' || i.identity, pg_get_userbyid(o.owner) FROM (
    SELECT 'pg_namespace'::regclass AS classid, oid, nspowner AS owner FROM pg_namespace WHERE nspname !~ '^pg_'
    UNION ALL SELECT 'pg_class'::regclass, oid, relowner FROM pg_class WHERE relnamespace <> 'pg_toast'::regnamespace
    UNION ALL SELECT 'pg_type'::regclass, oid, typowner FROM pg_type t WHERE typnamespace <> 'pg_toast'::regnamespace
        AND NOT EXISTS (SELECT FROM pg_type e WHERE e.typarray = t.oid)
    UNION ALL SELECT 'pg_proc'::regclass, oid, proowner FROM pg_proc
    UNION ALL SELECT 'pg_operator'::regclass, oid, oprowner FROM pg_operator
    UNION ALL SELECT 'pg_opfamily'::regclass, oid, opfowner FROM pg_opfamily
    UNION ALL SELECT 'pg_collation'::regclass, oid, collowner FROM pg_collation
    UNION ALL SELECT 'pg_conversion'::regclass, oid, conowner FROM pg_conversion
    UNION ALL SELECT 'pg_ts_dict'::regclass, oid, dictowner FROM pg_ts_dict
    UNION ALL SELECT 'pg_ts_config'::regclass, oid, cfgowner FROM pg_ts_config
    UNION ALL SELECT 'pg_statistic_ext'::regclass, oid, stxowner FROM pg_statistic_ext
    UNION ALL SELECT 'pg_foreign_server'::regclass, oid, srvowner FROM pg_foreign_server
    UNION ALL SELECT 'pg_publication'::regclass, oid, pubowner FROM pg_publication
    UNION ALL SELECT 'pg_largeobject'::regclass, oid, lomowner FROM pg_largeobject_metadata
) o CROSS JOIN LATERAL pg_identify_object(o.classid, o.oid, 0) i
WHERE (o.oid >= 16384 OR o.classid = 'pg_largeobject'::regclass)
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = o.classid AND d.objid = o.oid
                  AND (d.deptype = 'e' OR (d.deptype = 'i' AND o.classid = 'pg_proc'::regclass)))
"""


def owners(connection):
    return dict(rows(connection, OWNED))


def owner_of_database(connection):
    return rows(connection, "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = current_database()")[0][0]


def public(connection):
    return rows(connection, "SELECT pg_get_userbyid(nspowner), nspacl::text FROM pg_namespace WHERE nspname = 'public'")


# Taking over --------------------------------------------------------------------------------------------------------


def test_everything_goes_to_the_owner_and_the_throwaway_role_can_go(stage, admin):
    before = owners(stage)
    assert {what: owner for what, owner in before.items() if owner != LOADER} == {}
    result = ownership.take_over(stage, owner="shop", loader=LOADER)
    assert result.warnings == ()
    after = owners(stage)
    assert set(after) == set(before)
    assert {what: owner for what, owner in after.items() if owner != "shop"} == {}
    # Nobody else may open it before it is swapped in.
    assert owner_of_database(stage) == "postgres"
    assert rows(stage, "SELECT extowner::regrole::text FROM pg_extension WHERE extname = 'hstore'") == [("shop",)]
    loader_role.drop_loader_role(admin, LOADER)
    assert rows(admin, "SELECT 1 FROM pg_roles WHERE rolname = %s", LOADER) == []
    # What the dump granted is still there, given by the new owner; to maintain is a right from PostgreSQL 17 on.
    own = "arwdDxtm" if stage.server_version >= 170000 else "arwdDxt"
    assert rows(stage, "SELECT relacl::text FROM pg_class WHERE relname = 'customer'") == [
        (f"{{shop={own}/shop,reader=r/shop}}",)
    ]


def test_the_members_of_extensions_stay_with_the_system(stage):
    members = """
    SELECT pg_get_userbyid(p.proowner) FROM pg_proc p JOIN pg_depend d ON d.classid = 'pg_proc'::regclass
    AND d.objid = p.oid AND d.deptype = 'e' GROUP BY 1
    """
    assert rows(stage, members) == [("postgres",)]
    ownership.take_over(stage, owner="shop", loader=LOADER)
    assert rows(stage, members) == [("postgres",)]


def test_the_schema_public_is_as_in_a_new_database(cluster, admin, stage):
    run(admin, "CREATE DATABASE reference OWNER shop TEMPLATE template0")
    ownership.take_over(stage, owner="shop", loader=LOADER)
    with contextlib.closing(connect(cluster.settings, database="reference")) as reference:
        if admin.info.server_version >= 150000:
            assert public(stage) == public(reference)
        else:
            assert public(stage)[0][0] == "shop"


def test_a_second_time_there_is_nothing_to_do(stage):
    assert ownership.take_over(stage, owner="shop", loader=LOADER).changed > 0
    assert ownership.take_over(stage, owner="shop").changed == 0


def test_a_database_whose_objects_belong_to_many(stage):
    """Also the superuser's: what an administrator made by hand, or an earlier restore left."""
    run(
        stage,
        f"""
        REASSIGN OWNED BY {LOADER} TO stranger;
        ALTER TABLE main.customer OWNER TO reader;
        ALTER SCHEMA main OWNER TO postgres;
        ALTER PROCEDURE main.work OWNER TO postgres;
        ALTER TYPE main.span OWNER TO reader;
        CREATE TABLE public.by_hand ();
        CREATE PUBLICATION all_of_it FOR ALL TABLES;
        CREATE EXTENSION postgres_fdw WITH SCHEMA public;
        CREATE SERVER elsewhere FOREIGN DATA WRAPPER postgres_fdw;
        CREATE FOREIGN TABLE main.far (id int) SERVER elsewhere;
        CREATE OPERATOR FAMILY main.family USING hash;
        CREATE OPERATOR CLASS main.class FOR TYPE main.pair USING hash AS OPERATOR 1 main.=== (main.pair, main.pair);
        CREATE TEMPORARY TABLE mine ();
        """,
    )
    assert set(owners(stage).values()) >= {"stranger", "reader", "postgres"}
    result = ownership.take_over(stage, owner="shop")
    assert result.changed > 0
    rest = {what: owner for what, owner in owners(stage).items() if owner != "shop"}
    assert {owner for what, owner in rest.items() if "pg_temp" not in what} <= {"pg_database_owner"}
    assert {what for what in rest if "mine" in what}, "the temporary table is its session's"
    # Roles of other databases' objects keep those.
    assert rows(stage, "SELECT pg_get_userbyid(opcowner) FROM pg_opclass WHERE opcname = 'class'") == [("shop",)]


def test_other_databases_are_not_touched(admin, cluster, stage):
    run(admin, "CREATE DATABASE other OWNER stranger")
    run(stage, "ALTER TABLE main.customer OWNER TO stranger")
    ownership.take_over(stage, owner="shop", loader=LOADER)
    assert rows(admin, "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'other'") == [("stranger",)]


@pytest.mark.parametrize("how", ["SUPERUSER", "IN ROLE root_like", "IN ROLE pg_execute_server_program", None])
def test_an_owner_who_can_act_as_superuser_is_refused(admin, stage, how):
    run(admin, "CREATE ROLE root_like SUPERUSER")
    if how is not None:
        run(admin, f"CREATE ROLE boss {how}")
    before = owners(stage)
    with pytest.raises(RestoreRefused, match="cannot own") as caught:
        ownership.take_over(stage, owner="boss", loader=LOADER)
    assert ("there is no role" if how is None else "superuser") in caught.value.cause
    assert owners(stage) == before
    assert ownership.owner_obstacle(admin, "shop") is None


def test_a_database_of_the_loader_is_not_given_away(stage):
    """Not in the stage, but shared: REASSIGN OWNED would give it to the tenant."""
    run(stage, f"ALTER DATABASE template1 OWNER TO {LOADER}")
    try:
        with pytest.raises(RestoreRefused, match="owns database template1"):
            ownership.take_over(stage, owner="shop", loader=LOADER)
    finally:
        run(stage, "ALTER DATABASE template1 OWNER TO postgres")
    run(stage, f"GRANT CONNECT ON DATABASE postgres TO {LOADER}")
    ownership.take_over(stage, owner="shop", loader=LOADER)


# Somebody who renames things meanwhile ------------------------------------------------------------------------------


class Raced:
    """A session before whose every statement something else happens."""

    def __init__(self, conn, before):
        self.conn = conn
        self.before = before

    def __getattr__(self, name):
        return getattr(self.conn, name)

    def cursor(self):
        raced = self

        class Cursor(psycopg2.extensions.cursor):
            def execute(self, statement, arguments=None):
                text = statement if isinstance(statement, str) else statement.as_string(self.connection)
                raced.before(text)
                return super().execute(statement, arguments)

        return self.conn.cursor(cursor_factory=Cursor)


@pytest.fixture
def racer(cluster, stage):
    """A session in the stage with the rights of its tenant; a superuser has let it in."""
    with contextlib.closing(connect(cluster.settings, database=STAGE)) as conn:
        run(conn, "SET SESSION AUTHORIZATION shop; SET lock_timeout = '300ms'")
        yield conn


def once(wanted, action):
    """*action*, before the first statement that holds *wanted*."""
    left = [action]

    def before(text):
        if wanted in text and left:
            left.pop()()

    return before, left


def extension_owners(connection):
    return rows(
        connection,
        "SELECT DISTINCT pg_get_userbyid(owner) FROM (SELECT 'pg_class'::regclass AS classid, oid, relowner AS owner"
        " FROM pg_class UNION ALL SELECT 'pg_proc'::regclass, oid, proowner FROM pg_proc) o JOIN pg_depend d"
        " ON d.classid = o.classid AND d.objid = o.oid AND d.deptype = 'e'",
    )


EXCHANGE = 'BEGIN; ALTER SCHEMA "{0}" RENAME TO aside; ALTER SCHEMA "{1}" RENAME TO "{0}"; COMMIT'


@pytest.mark.parametrize(
    ("lure", "alter"),
    [
        ("CREATE VIEW lure.pg_stat_statements AS SELECT 1", "ALTER VIEW lure.pg_stat_statements"),
        ("CREATE FUNCTION lure.tconvert(text, text) RETURNS int LANGUAGE sql AS 'SELECT 1'", "ALTER ROUTINE lure."),
    ],
)
def test_schemas_that_are_renamed_meanwhile_do_not_lead_to_an_extensions_object(stage, racer, lure, alter):
    run(
        stage,
        f"CREATE SCHEMA lure; CREATE SCHEMA ext; {lure}; GRANT CREATE ON DATABASE {STAGE} TO shop;"
        "CREATE EXTENSION pg_stat_statements WITH SCHEMA ext; ALTER EXTENSION hstore SET SCHEMA ext;"
        "ALTER SCHEMA lure OWNER TO shop; ALTER SCHEMA ext OWNER TO shop",
    )

    def rename():
        with contextlib.suppress(psycopg2.errors.LockNotAvailable):
            run(racer, EXCHANGE.format("lure", "ext"))
        run(racer, "ROLLBACK")

    before, left = once(alter, rename)
    ownership.take_over(Raced(stage, before), owner="shop", loader=LOADER)
    assert left == []
    assert extension_owners(stage) == [("postgres",)]
    assert {owner for what, owner in owners(stage).items() if " lure." in what} == {"shop"}


def test_what_can_not_be_locked_is_found_afterwards_and_rolled_back(stage, racer):
    """The types of a function's arguments are part of its name, and in schemas of their own."""
    run(
        stage,
        f"CREATE SCHEMA x AUTHORIZATION shop; CREATE SCHEMA y AUTHORIZATION shop; CREATE TYPE x.t AS (a int);"
        "CREATE TYPE y.t AS (a int); CREATE FUNCTION main.lure(x.t) RETURNS int LANGUAGE sql AS 'SELECT 1';"
        "CREATE FUNCTION main.lure(y.t) RETURNS int LANGUAGE sql AS 'SELECT 1';"
        f"ALTER EXTENSION hstore ADD FUNCTION main.lure(y.t); GRANT CREATE ON DATABASE {STAGE} TO shop",
    )
    before, left = once("ALTER ROUTINE main.lure(", lambda: run(racer, EXCHANGE.format("x", "y")))
    with pytest.raises(RestoreRefused, match="another object than the intended one"):
        ownership.take_over(Raced(stage, before), owner="shop", loader=LOADER)
    assert left == []
    assert extension_owners(stage) == [("postgres",)]


def test_what_somebody_holds_locked_is_not_waited_for_for_ever(stage, racer, monkeypatch):
    monkeypatch.setattr(ownership, "LOCK_TIMEOUT", "200ms")
    run(stage, "ALTER TABLE main.customer OWNER TO shop; ALTER SCHEMA main OWNER TO shop")
    run(racer, "BEGIN; LOCK TABLE main.customer IN ACCESS SHARE MODE")
    with pytest.raises(PostgresError, match="could not make 'stranger' the owner"):
        ownership.take_over(stage, owner="stranger")


# Functions that run with their owner's rights -----------------------------------------------------------------------


def test_a_role_with_createrole_owns_no_function_that_runs_with_its_rights(stage, admin):
    run(admin, "CREATE ROLE maker CREATEROLE; CREATE ROLE member IN ROLE maker")
    for owner in ("maker", "member"):
        before = owners(stage)
        with pytest.raises(RestoreRefused, match="cannot own functions") as caught:
            ownership.take_over(stage, owner=owner, loader=LOADER)
        assert "CREATEROLE" in caught.value.cause and "main.add(pg_catalog.text)" in caught.value.cause
        assert "NOCREATEROLE" in caught.value.hint
        assert owners(stage) == before
    run(stage, "DROP FUNCTION main.add(text)")
    ownership.take_over(stage, owner="maker", loader=LOADER)


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE INDEX ON main.customer (main.code(id))",
        "CREATE INDEX ON main.customer (id) WHERE main.code(id) > 0",
        "CREATE STATISTICS main.codes ON (main.code(id)), name FROM main.customer",
    ],
)
def test_nor_what_maintenance_calls_as_the_owner_of_the_table(stage, admin, statement):
    if "STATISTICS" in statement and admin.info.server_version < 140000:
        pytest.skip("statistics have expressions since PostgreSQL 14")
    run(admin, "CREATE ROLE maker CREATEROLE")
    run(
        stage,
        "DROP FUNCTION main.add(text);CREATE FUNCTION main.code(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1'",
    )
    run(stage, statement)
    with pytest.raises(RestoreRefused, match="cannot own functions") as caught:
        ownership.take_over(stage, owner="maker", loader=LOADER)
    assert "main.code" in caught.value.cause


@pytest.mark.parametrize("attribute", ["CREATEDB", "REPLICATION", "BYPASSRLS"])
def test_other_attributes_are_no_reason(stage, admin, attribute):
    run(admin, f"CREATE ROLE odd {attribute}")
    ownership.take_over(stage, owner="odd", loader=LOADER)


def test_a_role_with_createrole_that_the_dump_chooses_gets_none(stage, admin):
    run(admin, "CREATE ROLE maker CREATEROLE")
    change = OwnerChange("FUNCTION", "main.add(text)", "maker")
    options = {"owner": "shop", "loader": LOADER, "owner_changes": [change], "trusted_owners": {"maker"}}
    (warning,) = ownership.take_over(stage, **options).warnings
    assert warning.startswith("function main.add(text) stays with 'shop': role 'maker' has CREATEROLE")
    assert set(owners(stage).values()) == {"shop"}


# --------------------------------------------------------------------------------------------------------------------


def test_many_tables_do_not_need_a_lock_each(shared_cluster):
    configuration = {"max_connections": "10", "max_locks_per_transaction": "10", "max_wal_senders": "0"}
    with Cluster(shared_cluster.major, configuration=configuration) as cluster:
        with contextlib.closing(connect(cluster.settings)) as admin:
            run(admin, "CREATE ROLE shop LOGIN")
            loader_role.create_loader_role(admin, LOADER)
            staging.create_staging(admin, STAGE, loader=LOADER, like=database_settings.Creation())
        with contextlib.closing(connect(cluster.settings, database=STAGE)) as conn:
            staging.open_staging(conn, LOADER)
            with (
                contextlib.closing(
                    loader_role.connect_loader(cluster.settings, conn, database=STAGE, role=LOADER)
                ) as loader,
                loader.cursor() as cursor,
            ):
                for number in range(200):
                    cursor.execute(f"CREATE TABLE public.t{number} (a int PRIMARY KEY, b text UNIQUE)")
            with pytest.raises(psycopg2.errors.OutOfMemory):
                run(conn, f"REASSIGN OWNED BY {LOADER} TO shop")
            assert ownership.take_over(conn, owner="shop", loader=LOADER).changed >= 200
            assert set(owners(conn).values()) == {"shop"}


# Owners that a dump names -------------------------------------------------------------------------------------------


def test_owners_of_the_dump_are_kept_where_the_owner_may_act_as_them(stage, admin, cluster):
    # Procedures have results of their own since 14.
    result, arguments = ("OUT", "integer") if cluster.major >= 14 else ("INOUT", "integer,main.pair")
    run(admin, "GRANT reader TO shop")
    changes = [
        OwnerChange("TABLE", "main.customer", "reader"),
        OwnerChange("TABLE", '"odd, ""schema"" %s"."ta""ble; DROP"', "reader"),
        OwnerChange("VIEW", "main.names", "reader"),
        OwnerChange("TABLE", "main.names", "reader"),
        OwnerChange("SCHEMA", "main", "reader"),
        OwnerChange("FUNCTION", 'main.add(a integer, VARIADIC b "char"[])', "reader"),
        OwnerChange("PROCEDURE", f"main.work(IN a integer, {result} b main.pair)", "reader"),
        OwnerChange("AGGREGATE", "main.number_of(*)", "reader"),
        OwnerChange("AGGREGATE", "main.middle(double precision ORDER BY integer)", "reader"),
        OwnerChange("OPERATOR", "main.=== (main.pair, main.pair)", "reader"),
        OwnerChange("TYPE", "main.mood", "reader"),
        OwnerChange("DOMAIN", "main.positive", "reader"),
        OwnerChange("TEXT SEARCH CONFIGURATION", "main.search", "reader"),
        OwnerChange("STATISTICS", "main.stats", "reader"),
        OwnerChange("PUBLICATION", "feed", "reader"),
        OwnerChange("LARGE OBJECT", "4711", "reader"),
        OwnerChange("SEQUENCE", "main.numbers", "shop"),
    ]
    assert ownership.take_over(stage, owner="shop", loader=LOADER, owner_changes=changes).warnings == ()
    after = owners(stage)
    readers = {what for what, owner in after.items() if owner == "reader"}
    assert {"table main.customer", "view main.names", "schema main", "type main.mood", "large object 4711"} <= readers
    assert {
        'function main.add(integer,pg_catalog."char"[])',
        f"procedure main.work({arguments})",
        "publication feed",
    } <= readers
    assert set(after.values()) == {"reader", "shop"}
    assert after["sequence main.numbers"] == "shop"


def test_owners_that_the_dump_may_not_choose_stay_with_a_warning(stage, admin):
    run(admin, "CREATE ROLE root_like SUPERUSER; CREATE ROLE member IN ROLE root_like")
    changes = [
        OwnerChange("FUNCTION", "main.add(text)", "postgres"),
        OwnerChange("FUNCTION", "main.add(text)", "member"),
        OwnerChange("FUNCTION", "main.add(text)", "stranger"),
        OwnerChange("TABLE", "main.customer", "nobody"),
        OwnerChange("TABLE", "main.missing", "reader"),
        OwnerChange("TABLE", "pg_catalog.pg_authid", "reader"),
        OwnerChange("TABLE", "main.customer ADD COLUMN x int DEFAULT random(),", "reader"),
        OwnerChange("FOREIGN DATA WRAPPER", "w", "reader"),
        OwnerChange("EVENT TRIGGER", "e", "reader"),
    ]
    result = ownership.take_over(
        stage, owner="shop", loader=LOADER, owner_changes=changes, trusted_owners={"reader", "postgres", "member"}
    )
    assert [warning.split(": ")[0] for warning in result.warnings] == [
        "function main.add(text) stays with 'shop'",
        "function main.add(text) stays with 'shop'",
        "function main.add(text) stays with 'shop'",
        "table main.customer stays with 'shop'",
        "table main.missing stays with 'shop'",
        "table pg_catalog.pg_authid stays with 'shop'",
        "table main.customer ADD COLUMN x int DEFAULT random(), stays with 'shop'",
        "foreign data wrapper w stays with 'shop'",
        "event trigger e stays with 'shop'",
    ]
    for warning, word in zip(
        result.warnings,
        [
            *(
                "superuser",
                "superuser",
                "not a member of 'stranger'",
                "no role 'nobody'",
                "does not exist",
                "system catalog",
            ),
            *["may not"] * 3,
        ],
    ):
        assert word in warning
    assert set(owners(stage).values()) == {"shop"}


@pytest.mark.parametrize(
    "change",
    [
        OwnerChange("FUNCTION", "pg_catalog.pg_read_file(text)", "reader"),
        OwnerChange("SCHEMA", "pg_catalog", "reader"),
        OwnerChange("TYPE", "pg_catalog.int4", "reader"),
        OwnerChange("FUNCTION", "main.hstore_in(cstring)", "reader"),
    ],
)
def test_a_dump_that_reaches_for_the_system_is_refused(stage, change):
    with pytest.raises(RestoreRefused) as caught:
        ownership.take_over(stage, owner="shop", loader=LOADER, owner_changes=[change], trusted_owners={"reader"})
    assert "belongs to the system or to an extension" in caught.value.cause
    assert rows(stage, "SELECT 1 FROM pg_shdepend WHERE refobjid = 'reader'::regrole AND deptype = 'o'") == []


# Privileges ---------------------------------------------------------------------------------------------------------


def may(connection, user, what, *privileges):
    return [
        privilege
        for privilege in privileges
        if rows(connection, "SELECT has_table_privilege(%s, %s, %s)", user, what, privilege)[0][0]
    ]


def test_the_user_can_use_everything_also_what_comes_later(stage):
    ownership.take_over(stage, owner="stranger", loader=LOADER)
    assert may(stage, "shop", "main.customer", "SELECT") == []
    assert ownership.grant_all(stage, "shop") > 0
    everything = ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER")
    for what in (
        "main.customer",
        "main.orders_2025",
        "main.names",
        "main.cached",
        '"odd, ""schema"" %s"."ta""ble; DROP"',
    ):
        assert may(stage, "shop", what, *everything) == list(everything)
    for sequence in ("main.numbers", "main.customer_id_seq"):
        assert rows(stage, "SELECT has_sequence_privilege('shop', %s, 'USAGE')", sequence) == [(True,)]
    run(stage, "CREATE TABLE main.later (id serial)")
    run(stage, "SET ROLE stranger; CREATE TABLE main.even_later (); RESET ROLE")
    run(stage, "SET ROLE shop; INSERT INTO main.later DEFAULT VALUES; TABLE main.even_later")
    run(stage, "CREATE TABLE main.own (); CREATE TABLE public.own (); RESET ROLE")
    assert ownership.grant_all(stage, "shop") == 0


def test_the_owner_needs_no_grants(stage):
    ownership.take_over(stage, owner="shop", loader=LOADER)
    assert ownership.grant_all(stage, "shop", owns_database=True) == 0
    assert rows(stage, "SELECT relacl FROM pg_class WHERE relname = 'numbers'") == [(None,)]
    run(stage, "CREATE TABLE main.later ()")
    assert may(stage, "shop", "main.later", "SELECT") == ["SELECT"]


def test_extensions_grant_what_they_want(stage):
    run(stage, "CREATE EXTENSION pg_stat_statements WITH SCHEMA main")
    ownership.take_over(stage, owner="shop", loader=LOADER)
    ownership.grant_all(stage, "shop")
    assert may(stage, "shop", "main.pg_stat_statements", "INSERT") == []


# search_path --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("SELECT", None),
        ("CREATE TABLE public.t ()", None),
        ("CREATE SCHEMA main", None),
        ("CREATE SCHEMA main; CREATE SEQUENCE main.s", None),
        ("CREATE SCHEMA main; CREATE VIEW main.v AS SELECT 1", ["main", "public"]),
        ("CREATE SCHEMA app; CREATE TABLE app.t (); CREATE TABLE public.t ()", ["app", "public"]),
        ("CREATE SCHEMA app; CREATE TABLE app.t (); CREATE SCHEMA main; CREATE TABLE main.t ()", ["main", "public"]),
        ("CREATE SCHEMA a; CREATE TABLE a.t (); CREATE SCHEMA b; CREATE TABLE b.t ()", None),
        ("CREATE SCHEMA a; CREATE EXTENSION pg_stat_statements WITH SCHEMA a", None),
        ("CREATE TEMPORARY TABLE t ()", None),
    ],
)
def test_the_search_path_of_the_contract(cluster, admin, statement, expected):
    require_contrib(cluster, statement)
    run(admin, "CREATE DATABASE shop TEMPLATE template0")
    with contextlib.closing(connect(cluster.settings, database="shop")) as conn:
        run(conn, statement)
        assert ownership.choose_search_path(conn) == expected


@pytest.mark.parametrize("path", [["main", "public"], ['odd, "schema" %s', "public"], ["$user"], ["Main", "main"]])
def test_the_search_path_is_a_list_of_names(cluster, admin, path):
    run(admin, "CREATE ROLE shop LOGIN SUPERUSER PASSWORD 'x'")
    run(admin, "CREATE DATABASE shop")
    ownership.set_search_path(admin, database="shop", role="shop", path=path)
    with contextlib.closing(
        psycopg2.connect(host="127.0.0.1", port=cluster.port, user="shop", password="x", dbname="shop")
    ) as conn:
        for name in path:
            run(conn, 'CREATE SCHEMA IF NOT EXISTS "{}"'.format(name.replace('"', '""')))
        # The application's own view of it: every name is a schema of its own.
        expected = ["shop" if name == "$user" else name for name in path]
        run(conn, "CREATE SCHEMA IF NOT EXISTS shop")
        assert rows(conn, "SELECT current_schemas(false)::text[]") == [(expected,)]


# Roles that are mapped away -----------------------------------------------------------------------------------------


def test_roles_that_nothing_needs_are_dropped(admin):
    run(admin, "CREATE ROLE old_owner LOGIN; CREATE ROLE grp; GRANT grp TO old_owner")
    run(admin, "CREATE DATABASE shop")
    run(admin, "ALTER ROLE old_owner IN DATABASE shop SET work_mem = '1MB'")
    assert ownership.drop_mapped_roles(admin, ["old_owner", "missing"], protected=()) == ownership.DroppedRoles(
        ("old_owner",), ()
    )
    assert rows(admin, "SELECT rolname FROM pg_roles WHERE rolname IN ('old_owner', 'grp')") == [("grp",)]


def test_roles_that_something_needs_are_kept_and_it_is_named(cluster, admin):
    run(
        admin,
        "CREATE ROLE owning; CREATE ROLE allowed; CREATE ROLE database_owner; CREATE ROLE grp; CREATE ROLE in_list;"
        " CREATE ROLE member IN ROLE grp; CREATE ROLE connected LOGIN PASSWORD 'x'; CREATE ROLE root_like SUPERUSER",
    )
    run(admin, "CREATE DATABASE els_where OWNER database_owner")
    cluster.psql(
        "CREATE TABLE t (); ALTER TABLE t OWNER TO owning; CREATE TABLE u (); GRANT SELECT ON u TO allowed", "els_where"
    )
    run(admin, "GRANT CONNECT ON DATABASE els_where TO allowed")
    with contextlib.closing(
        psycopg2.connect(host="127.0.0.1", port=cluster.port, user="connected", password="x", dbname="postgres")
    ):
        result = ownership.drop_mapped_roles(
            admin,
            [
                *("owning", "allowed", "database_owner", "grp", "in_list", "connected", "root_like", "postgres"),
                "pg_monitor",
            ],
            protected={"in_list"},
        )
    assert result.dropped == ()
    assert result.warnings == (
        "role 'owning' is kept: it owns 1 objects in database 'els_where'",
        (
            "role 'allowed' is kept: it has privileges on database els_where,"
            " it has privileges on 1 objects in database 'els_where'"
        ),
        "role 'database_owner' is kept: it owns database els_where",
        "role 'grp' is kept: it has members (1)",
        "role 'in_list' is kept: the databases list or the role map needs it",
        "role 'connected' is kept: it has 1 sessions",
        "role 'root_like' is kept: it is a superuser",
        result.warnings[7],
        result.warnings[8],
    )
    assert result.warnings[7].startswith(
        "role 'postgres' is kept: it is a superuser, it is the role of this connection"
    )
    assert result.warnings[8].startswith("role 'pg_monitor' is kept: it is a predefined role")


def test_the_loader_that_has_something_elsewhere_is_told(stage, cluster):
    run(stage, f"GRANT CREATE ON DATABASE postgres TO {LOADER}")
    cluster.psql(f"CREATE SCHEMA left_here AUTHORIZATION {LOADER}")
    try:
        ownership.take_over(stage, owner="shop", loader=LOADER)
        with (
            pytest.raises(PostgresError, match="can't be dropped"),
            contextlib.closing(connect(cluster.settings, database=STAGE)) as conn,
        ):
            loader_role.drop_loader_role(conn, LOADER)
    finally:
        cluster.psql("DROP SCHEMA left_here")
