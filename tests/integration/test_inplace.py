# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Restores without a superuser: in place, as the database's user, and all or nothing."""

from __future__ import annotations

import contextlib
import json
import typing as t

import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine.backup import backup
from ansible_collections.infrazero.database.plugins.module_utils._engine.backup.plan import BackupOptions
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.restoring import RestoreOptions
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.trust import UNSIGNED, Trust
from ansible_collections.infrazero.database.plugins.module_utils._engine.restore import restore
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql import inplace_load
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.connection import connect
from ansible_collections.infrazero.database.plugins.module_utils._engine.stores.base import Store

from tests.support import outcomes, sampledata, scene
from tests.support.cluster import Cluster
from tests.support.managed import Managed, managed_server

from .conftest import empty

#: What a database may have besides tables with rows; each is the user's own.
OBJECTS = """
CREATE SCHEMA stock;
CREATE TYPE stock.kind AS ENUM ('a', 'b');
CREATE DOMAIN stock.amount AS int CHECK (VALUE >= 0);
CREATE TYPE stock.pair AS (x int, y stock.kind);
CREATE TABLE stock.items (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, kind stock.kind NOT NULL DEFAULT 'a', amount stock.amount,
    "Odd "" name {x}" text UNIQUE
);
CREATE TABLE stock.moves (item int REFERENCES stock.items DEFERRABLE INITIALLY DEFERRED, at date)
    PARTITION BY RANGE (at);
CREATE TABLE stock.moves_2026 PARTITION OF stock.moves FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
INSERT INTO stock.items (amount, "Odd "" name {x}") SELECT g, 'n' || g FROM generate_series(1, 50) g;
INSERT INTO stock.moves SELECT id, '2026-05-05' FROM stock.items;
CREATE FUNCTION stock.total() RETURNS bigint LANGUAGE sql AS 'SELECT sum(amount) FROM stock.items';
CREATE PROCEDURE stock.nothing() LANGUAGE plpgsql AS 'BEGIN END';
CREATE VIEW stock.seen AS SELECT * FROM stock.items;
CREATE MATERIALIZED VIEW stock.sums AS SELECT kind, sum(amount) FROM stock.items GROUP BY kind;
CREATE FUNCTION stock.touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER touch BEFORE INSERT ON stock.items FOR EACH ROW EXECUTE FUNCTION stock.touch();
CREATE AGGREGATE stock.most(int) (SFUNC = int4larger, STYPE = int);
CREATE OPERATOR stock.=== (LEFTARG = int, RIGHTARG = int, FUNCTION = int4eq);
CREATE STATISTICS stock.both ON kind, amount FROM stock.items;
CREATE TEXT SEARCH CONFIGURATION stock.words (COPY = pg_catalog.simple);
CREATE COLLATION stock.plain (LOCALE = 'C');
ALTER TABLE stock.items ENABLE ROW LEVEL SECURITY;
CREATE POLICY all_of_them ON stock.items USING (true);
CREATE PUBLICATION moves FOR TABLE stock.items;
CREATE SEQUENCE public.loose START 7;
CREATE EXTENSION pg_trgm;
CREATE INDEX alike ON stock.items USING gin ("Odd "" name {x}" gin_trgm_ops);
GRANT SELECT ON stock.items TO reader;
ALTER DEFAULT PRIVILEGES IN SCHEMA stock GRANT SELECT ON TABLES TO reader;
COMMENT ON TABLE stock.items IS 'things';
SELECT lo_from_bytea(0, 'large');
"""
#: Everything that a restore should bring back, as PostgreSQL describes it, without the numbers of large objects.
SHAPE = r"""
SELECT string_agg(line, E'\n' ORDER BY line) FROM (
    SELECT i.type || ' ' || CASE WHEN i.type = 'large object' THEN '' ELSE i.identity END AS line
    FROM pg_shdepend s CROSS JOIN LATERAL pg_identify_object(s.classid, s.objid, s.objsubid) i
    WHERE s.deptype = 'o' AND s.dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND s.refobjid = 'shop'::regrole
    UNION ALL SELECT 'constraint ' || conname || pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid <> 0
    UNION ALL SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indexrelid >= 16384
    UNION ALL SELECT 'policy ' || polname FROM pg_policy
    UNION ALL SELECT 'acl ' || relname || relacl::text FROM pg_class WHERE relname = 'items'
    UNION ALL SELECT 'trigger ' || tgname FROM pg_trigger WHERE NOT tgisinternal
) lines WHERE line NOT LIKE '%pg_toast%'
"""


@pytest.fixture(scope="module")
def running(shared_cluster: Cluster) -> t.Iterator[Managed]:
    with managed_server(shared_cluster.major) as server:
        yield server


@pytest.fixture
def server(running: Managed) -> t.Iterator[Managed]:
    yield running
    empty(running.cluster)


class World:
    """A database that its user has filled, on a server where nobody but the provider is a superuser."""

    def __init__(self, server: Managed, store: Store) -> None:
        self.server = server
        self.store = store
        self.shop = scene.entry("shop")
        server.cluster.psql("CREATE ROLE reader")
        scene.make(server.cluster, self.shop)
        with contextlib.closing(connect(self.settings, database="shop")) as conn:
            sampledata.shop(conn, orders=200)
            sampledata.pretender(conn)
            sampledata.ledger(conn, bookings=200)
            conn.cursor().execute("SET search_path = public")
            conn.cursor().execute(OBJECTS)

    @property
    def settings(self) -> t.Any:
        return self.server.settings("shop")

    def psql(self, sql: str) -> str:
        """As the provider."""
        return self.server.cluster.psql(sql, "shop")

    def run(self, sql: str) -> None:
        """As the user."""
        with contextlib.closing(connect(self.settings, database="shop")) as conn:
            conn.cursor().execute(f"SET search_path = public; {sql}")

    def state(self) -> tuple[t.Any, str]:
        return scene.rows(self.server.cluster, self.shop), self.psql(SHAPE)

    def back_up(self) -> str:
        summary = backup.back_up_all([self.shop], settings=self.settings, store=self.store, options=BackupOptions())
        return str(outcomes.details_of(summary)["key"])

    def restore(self, source: str, *, plan_only: bool = False, **changes: t.Any) -> t.Any:
        options = RestoreOptions(**{"trust": Trust(mode=UNSIGNED), "skip_acl": False, **changes})
        return restore.restore_all(
            [self.shop],
            settings=self.settings,
            store=self.store,
            options=options,
            source=source,
            plan_only=plan_only,
        )

    def restore_text(self, text: str, **changes: t.Any) -> t.Any:
        """Restore a dump that somebody has written by hand."""
        key = f"{self.shop.prefix}by-hand.sql"
        self.store.put(key, text.encode())
        return self.restore(key, **changes)


@pytest.fixture
def world(server: Managed, store: Store) -> World:
    return World(server, store)


def test_a_user_restores_its_own_database(world: World) -> None:
    before = world.state()
    key = world.back_up()
    world.run(
        "DELETE FROM stock.moves; DROP TABLE public.orders CASCADE; CREATE TABLE stock.later AS SELECT 1 AS x;"
        "CREATE SCHEMA more; CREATE VIEW more.v AS SELECT * FROM stock.items; ALTER TYPE stock.kind ADD VALUE 'c';"
        "ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO reader; ALTER DEFAULT PRIVILEGES REVOKE ALL ON FUNCTIONS FROM"
        " PUBLIC; CREATE FUNCTION later() RETURNS int LANGUAGE sql AS 'SELECT 1'; SELECT lo_from_bytea(0, 'more')"
    )
    assert world.state() != before
    details = outcomes.details_of(world.restore(key))
    assert world.state() == before
    assert details["in_place"] is True
    assert details["verified"] is True
    assert details["kept_as"] is None
    assert any("in place, in one transaction" in warning for warning in details["warnings"])
    # Default privileges are those of the backup, too.
    assert world.psql("SELECT count(*) FROM pg_default_acl") == "1"
    # Again, over what was restored.
    outcomes.good(world.restore(key))
    assert world.state() == before
    assert world.server.cluster.psql("SELECT count(*) FROM pg_namespace WHERE nspname = 'infrazero'") == "0"
    assert world.server.cluster.psql("SELECT count(*) FROM pg_database WHERE datname LIKE 'shop%'") == "1"


def test_into_an_empty_database_with_the_settings_of_the_backup(world: World) -> None:
    world.run("ALTER DATABASE shop SET work_mem = '9MB'")
    before, key = world.state(), world.back_up()
    world.server.cluster.psql("DROP DATABASE shop")
    world.server.cluster.psql("CREATE DATABASE shop OWNER shop")
    outcomes.good(world.restore(key))
    assert world.state() == before
    with contextlib.closing(connect(world.settings, database="shop")) as conn, conn.cursor() as cursor:
        cursor.execute("SELECT setconfig::text FROM pg_db_role_setting WHERE setrole = 0")
        assert cursor.fetchall() == [("{work_mem=9MB}",)]


def test_the_plan_says_it_before(world: World) -> None:
    key = world.back_up()
    before = world.state()
    details = outcomes.details_of(world.restore(key, plan_only=True))
    assert details["in_place"] is True
    assert details["refusal"] is None
    assert details["keep_replaced"] == 0
    text = " ".join(details["warnings"])
    assert "other sessions wait for its tables" in text
    assert "can't be brought back (undo)" in text
    assert world.state() == before


@pytest.mark.parametrize(
    ("script", "cause", "changes"),
    [
        ("CREATE TABLE public.theirs ()", "objects of other owners", {}),
        ("CREATE VIEW public.theirs AS SELECT * FROM stock.items", "view public.theirs of 'postgres'", {}),
        (
            "ALTER DATABASE shop OWNER TO postgres; GRANT CONNECT ON DATABASE shop TO shop",
            "it belongs to 'postgres'",
            {},
        ),
        ("CREATE EXTENSION pageinspect SCHEMA stock", "extensions are in schemas of 'shop'", {}),
        ("SELECT 1", "can't drop and create it", {"strategy": "replace"}),
        ("SELECT 1", "can't create a database for a copy", {"as_name": "copy"}),
        ("SELECT 1", "for single tables", {"as_name": None, "tables": ("stock.items",)}),
    ],
)
def test_what_is_in_the_way_is_said_and_nothing_is_changed(
    world: World, script: str, cause: str, changes: dict[str, t.Any]
) -> None:
    key = world.back_up()
    world.psql(script)
    before = world.state()
    text = outcomes.error(world.restore(key, **changes))
    assert "can't be restored with this role" in text
    assert cause in text
    assert "nothing was changed" in text
    assert world.state() == before


def test_only_a_database_s_own_user_restores_it(world: World) -> None:
    key = world.back_up()
    world.server.cluster.psql("CREATE ROLE other LOGIN PASSWORD 'password of other'; GRANT shop TO other")
    summary = restore.restore_all(
        [world.shop],
        settings=world.server.settings("other"),
        store=world.store,
        options=RestoreOptions(trust=Trust(mode=UNSIGNED)),
        source=key,
    )
    # As a member of the user it could, but the dump's code could then act as that member.
    assert "connect as 'shop'" in outcomes.error(summary)


def test_an_extension_for_superusers_has_to_be_there_before(world: World) -> None:
    world.psql("CREATE EXTENSION pageinspect")
    key = world.back_up()
    outcomes.good(world.restore(key))
    world.psql("DROP EXTENSION pageinspect")
    assert "only a superuser can create the extensions that the backup needs: pageinspect" in outcomes.error(
        world.restore(key)
    )


def test_a_statement_that_fails_leaves_everything_as_it_was(world: World) -> None:
    before = world.state()
    text = outcomes.error(world.restore_text("CREATE TABLE public.new ();\nSELECT 1/0;\n"))
    assert "division by zero" in text
    assert world.state() == before


def test_rows_that_are_not_those_of_the_manifest_leave_everything_as_it_was(world: World) -> None:
    world.back_up()
    latest = f"{world.shop.prefix}latest-dump.json"
    fields = json.loads(world.store.get(latest, limit=1 << 20))
    fields["postgresql"]["tables"][0]["rows"] += 1
    world.store.put(latest, json.dumps(fields).encode())
    world.run("DELETE FROM stock.moves")
    before = world.state()
    assert "are not those that its manifest counts" in outcomes.error(world.restore(latest))
    assert world.state() == before


@pytest.mark.parametrize("word", ["COMMIT", "END", "ROLLBACK", "ABORT", "SAVEPOINT x", "RELEASE SAVEPOINT infrazero"])
def test_a_dump_can_not_end_the_transaction(world: World, word: str) -> None:
    """It would leave a part of itself in place of the database."""
    before = world.state()
    text = outcomes.error(world.restore_text(f"CREATE TABLE public.new ();\n/* a */ {word};\nSELECT 1/0;\n"))
    assert "controls transactions" in text
    assert world.state() == before


@pytest.mark.parametrize(
    "script",
    [
        "DO $$ BEGIN COMMIT; END $$;",
        "CREATE PROCEDURE public.p() LANGUAGE plpgsql AS 'BEGIN COMMIT; END'; CALL public.p();",
        "SET CONSTRAINTS ALL IMMEDIATE;",
    ],
)
def test_nor_with_code_of_its_own(world: World, script: str) -> None:
    before = world.state()
    assert world.restore_text(f"CREATE TABLE public.new ();\n{script}\n").failed
    assert world.state() == before


def test_a_commit_that_nobody_has_noticed_fails(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server itself refuses it, by a foreign key that is not fulfilled before the end."""
    monkeypatch.setattr(inplace_load, "_FOREIGN", ())
    monkeypatch.setattr(inplace_load, "_BEGINS", ())
    monkeypatch.setattr(inplace_load, "_ENDS", ())
    before = world.state()
    text = outcomes.error(world.restore_text("CREATE TABLE public.new ();\nCOMMIT;\nCREATE TABLE public.more ();\n"))
    assert "the transaction of the restore has ended before the restore" in text
    assert world.state() == before


def test_continuing_over_errors_keeps_all_the_rest(world: World) -> None:
    summary = world.restore_text(
        "CREATE TABLE public.one (x int);\nSELECT 1/0;\nCOPY public.one (x) FROM stdin;\n1\n\\.\n"
        "COPY public.none (x) FROM stdin;\n1\n\\.\n\nCREATE TABLE public.two AS SELECT x FROM public.one;\n",
        on_error="continue",
    )
    assert outcomes.good(summary).status == restore.RESTORED_WITH_ERRORS
    assert world.psql("SELECT count(*) FROM public.two") == "1"


def test_nothing_becomes_wider_than_in_the_source(world: World) -> None:
    """What the source has revoked from everybody, and the user may not revoke here."""
    before = world.state()
    text = "CREATE TABLE public.one ();\nREVOKE ALL ON FUNCTION pg_catalog.pg_sleep(double precision) FROM PUBLIC;\n"
    refused = outcomes.error(world.restore_text(text))
    assert "can't be revoked, because it does not belong to 'shop'" in refused
    assert "roles could do more here than in the source" in refused
    assert world.state() == before
    details = outcomes.details_of(world.restore_text(text, on_error="continue"))
    assert any("roles can do more here than in the source" in warning for warning in details["warnings"])


def test_what_takes_a_superuser_is_left_out_and_named(world: World) -> None:
    details = outcomes.details_of(
        world.restore_text(
            "CREATE TABLE public.one ();\nCREATE PUBLICATION every FOR ALL TABLES WITH (publish = 'insert');\n"
            "CREATE SUBSCRIPTION feed CONNECTION 'dbname=x' PUBLICATION p WITH (connect = false, slot_name = 'feed');\n"
        )
    )
    text = " ".join(details["warnings"])
    assert "publication every left out: only a superuser may create it" in text
    assert "subscription feed left out" in text
    assert world.psql("SELECT count(*) FROM pg_publication") == "0"


def test_the_search_path_follows_the_tables(world: World) -> None:
    outcomes.good(world.restore_text("CREATE SCHEMA main;\nCREATE TABLE main.one ();\n"))
    with contextlib.closing(connect(world.settings, database="shop")) as conn, conn.cursor() as cursor:
        cursor.execute("SELECT setconfig::text FROM pg_db_role_setting WHERE setrole = 'shop'::regrole")
        assert cursor.fetchall() == [('{"search_path=main, public"}',)]


def test_rows_may_depend_on_rows_of_later_tables(world: World) -> None:
    """A check that looks into another table: the dump is read once more, in the same transaction."""
    outcomes.good(
        world.restore_text(
            "CREATE TABLE public.a (x int);\nCREATE TABLE public.b (x int);\n"
            "CREATE FUNCTION public.known(x int) RETURNS bool LANGUAGE plpgsql AS"
            " 'BEGIN IF NOT EXISTS (SELECT FROM public.b WHERE b.x = known.x) THEN RAISE ''no''; END IF; RETURN true;"
            " END';\n"
            "ALTER TABLE public.a ADD CHECK (public.known(x));\n"
            "COPY public.a (x) FROM stdin;\n1\n\\.\nCOPY public.b (x) FROM stdin;\n1\n\\.\n"
        )
    )
    assert world.psql("SELECT count(*) FROM public.a") == "1"


def test_sessions_of_the_user_are_ended_or_in_the_way(world: World) -> None:
    key = world.back_up()
    with contextlib.closing(connect(world.settings, database="shop", application_name="app")) as conn:
        conn.cursor().execute("BEGIN; SELECT * FROM stock.items")
        text = outcomes.error(world.restore(key, on_connections="refuse"))
        assert "is in use" in text
        outcomes.good(world.restore(key))
