# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Restores of some tables, of real dumps: the schema whole, and of the chosen tables everything."""

from __future__ import annotations

import getpass
import json
import os
import pathlib
import subprocess
import sys

import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine import outcome
from ansible_collections.infrazero.database.plugins.module_utils._engine.backup import backup
from ansible_collections.infrazero.database.plugins.module_utils._engine.backup.plan import BackupOptions
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain import envfile
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.databases import Database
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.restoring import RestoreOptions
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.trust import UNSIGNED, Trust
from ansible_collections.infrazero.database.plugins.module_utils._engine.restore import restore
from ansible_collections.infrazero.database.plugins.module_utils._engine.stores.base import Store

from tests.support import scene
from tests.support.cluster import Cluster
from tests.support.controller import Controller
from tests.support.outcomes import details_of as good
from tests.support.outcomes import error

#: Two tables that belong together, others that refer to them, and all that a table can have.
SCHEMA = r"""
CREATE SCHEMA sales;
CREATE TYPE sales.state AS ENUM ('open', 'paid');
CREATE SEQUENCE public.free START 5;
SELECT nextval('public.free');
CREATE TABLE sales.customers (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL, UNIQUE (name));
CREATE TABLE public.orders (
    id bigserial PRIMARY KEY, customer int NOT NULL REFERENCES sales.customers, state sales.state,
    CHECK (id > 0)
);
CREATE TABLE public.lines (order_id bigint REFERENCES public.orders, n int, what text, EXCLUDE (n WITH =));
CREATE INDEX orders_state ON public.orders (state);
CREATE INDEX customers_upper ON sales.customers (upper(name));
CREATE INDEX lines_what ON public.lines (what);
COMMENT ON INDEX public.orders_state IS 'of a chosen table';
COMMENT ON INDEX sales.customers_upper IS 'of another';
COMMENT ON CONSTRAINT orders_customer_fkey ON public.orders IS 'refers to another';
COMMENT ON CONSTRAINT lines_n_excl ON public.lines IS 'of another';
CREATE STATISTICS public.of_orders ON id, customer FROM public.orders;
CREATE STATISTICS public.of_lines ON order_id, n FROM public.lines;
COMMENT ON STATISTICS public.of_orders IS 'of a chosen table';
COMMENT ON STATISTICS public.of_lines IS 'of another';
ALTER STATISTICS public.of_lines SET STATISTICS 10;
CREATE FUNCTION public.touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER touch_orders BEFORE UPDATE OF state ON public.orders FOR EACH ROW EXECUTE FUNCTION public.touch();
CREATE TRIGGER touch_lines BEFORE INSERT ON public.lines FOR EACH ROW EXECUTE FUNCTION public.touch();
COMMENT ON TRIGGER touch_lines ON public.lines IS 'of another';
ALTER TABLE public.lines DISABLE TRIGGER touch_lines;
CREATE RULE quiet AS ON DELETE TO public.lines DO INSTEAD NOTHING;
COMMENT ON RULE quiet ON public.lines IS 'of another';
ALTER TABLE sales.customers ENABLE ROW LEVEL SECURITY;
CREATE POLICY everyone ON sales.customers USING (true);
ALTER TABLE sales.customers CLUSTER ON customers_pkey;
ALTER TABLE public.lines REPLICA IDENTITY FULL;
-- It depends on the primary key of a table that is not chosen.
CREATE VIEW public.names AS SELECT c.id, c.name, count(*) FROM sales.customers c GROUP BY c.id;
CREATE FUNCTION public.no_delete() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER on_view INSTEAD OF DELETE ON public.names FOR EACH ROW EXECUTE FUNCTION public.no_delete();
CREATE MATERIALIZED VIEW public.totals AS SELECT count(*) AS n FROM public.orders;
CREATE UNIQUE INDEX totals_n ON public.totals (n);
CREATE MATERIALIZED VIEW public.others AS SELECT count(*) AS n FROM public.lines;
INSERT INTO sales.customers (name) SELECT 'customer ' || i FROM generate_series(1, 20) i;
INSERT INTO public.orders (customer, state) SELECT 1 + i % 20, 'open' FROM generate_series(1, 300) i;
INSERT INTO public.lines SELECT i, i, 'thing' FROM generate_series(1, 300) i;
REFRESH MATERIALIZED VIEW public.totals;
REFRESH MATERIALIZED VIEW public.others;
SELECT lo_from_bytea(0, 'large');
"""

ROWS = "SELECT query_to_xml(format('SELECT count(*) AS n FROM %s', '{}'::regclass), false, true, '')"


@pytest.fixture
def shop(cluster: Cluster, store: Store) -> Database:
    """A database with a backup."""
    entry = scene.entry("shop")
    scene.make(cluster, entry, SCHEMA)
    back_up(cluster, store, entry)
    return entry


def back_up(cluster: Cluster, store: Store, entry: Database) -> None:
    summary = backup.back_up_all([entry], settings=cluster.settings, store=store, options=BackupOptions())
    assert not summary.failed, [str(one.error) for one in summary.failed]


def restored(
    cluster: Cluster, store: Store, entry: Database, *tables: str, source: str | None = None, plan: bool = False
) -> outcome.Summary:
    options = RestoreOptions(trust=Trust(mode=UNSIGNED), as_name="copy", tables=tables)
    return restore.restore_all(
        [entry], settings=cluster.settings, store=store, options=options, source=source, plan_only=plan
    )


def counts(cluster: Cluster, *tables: str) -> list[int]:
    return [int(cluster.psql(f"SELECT count(*) FROM {table}", "copy")) for table in tables]


def names(cluster: Cluster, query: str, database: str = "copy") -> set[str]:
    return set(filter(None, cluster.psql(query, database).splitlines()))


def test_of_the_chosen_tables_everything_and_of_the_others_the_schema(
    cluster: Cluster, store: Store, shop: Database
) -> None:
    details = good(restored(cluster, store, shop, "public.orders"))

    assert (details["tables"], details["rows"], details["verified"]) == (1, 300, True)
    assert counts(cluster, "public.orders", "sales.customers", "public.lines", "public.names") == [300, 0, 0, 0]
    of_relations = (
        "SELECT n.nspname || '.' || relname || ' ' || relkind::text FROM pg_class c JOIN pg_namespace n"
        " ON n.oid = relnamespace WHERE nspname IN ('public', 'sales') AND relkind <> 'i'"
    )
    assert names(cluster, of_relations) == names(cluster, of_relations, "shop"), "the schema is whole"
    indexes = "SELECT relname FROM pg_class WHERE relkind = 'i' AND relnamespace::regnamespace::text !~ '^pg_'"
    # Unique ones are of constraints, on which views depend.
    assert names(cluster, indexes) == {"orders_pkey", "orders_state", "customers_pkey", "customers_name_key"}
    triggers = "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal"
    assert names(cluster, triggers) == {"touch_orders", "on_view"}
    assert names(cluster, "SELECT rulename FROM pg_rules WHERE schemaname = 'public'") == set()
    assert names(cluster, "SELECT stxname FROM pg_statistic_ext") == {"of_orders"}
    assert names(cluster, "SELECT conname FROM pg_constraint WHERE contype IN ('f', 'x')") == set()
    assert names(cluster, "SELECT polname FROM pg_policy") == {"everyone"}
    assert cluster.psql("SELECT relrowsecurity FROM pg_class WHERE relname = 'customers'", "copy") == "t"
    comments = "SELECT description FROM pg_description WHERE description ~ '^(of|refers)' AND objsubid = 0"
    assert names(cluster, comments) == {"of a chosen table"}
    assert cluster.psql("SELECT nextval('public.orders_id_seq'), nextval('public.free')", "copy") == "301|6"
    assert cluster.psql("SELECT nextval('sales.customers_id_seq')", "copy") == "1"
    assert cluster.psql("SELECT count(*) FROM pg_largeobject_metadata", "copy") == "0"
    assert cluster.psql("SELECT string_agg(relname, ',') FROM pg_class WHERE NOT relispopulated", "copy") in (
        "totals,others",
        "others,totals",
    )
    warnings = "\n".join(details["warnings"])
    assert "foreign key orders_customer_fkey of public.orders left out: it refers to sales.customers" in warnings
    assert "large objects left out" in warnings
    assert "rows of materialized views left out (2 statements): they were not chosen" in warnings
    assert cluster.psql("SELECT count(*) FROM public.lines", "shop") == "300", "the database itself is as it was"


def test_tables_that_refer_to_each_other_and_a_materialized_view(
    cluster: Cluster, store: Store, shop: Database
) -> None:
    details = good(restored(cluster, store, shop, "public.lines", "public.orders", "public.totals", "sales.customers"))

    assert (details["tables"], details["rows"]) == (3, 620)
    assert cluster.psql("TABLE public.totals", "copy") == "300"
    constraints = "SELECT conname FROM pg_constraint WHERE contype IN ('f', 'x')"
    assert names(cluster, constraints) == names(cluster, constraints, "shop")
    indexes = "SELECT indexname FROM pg_indexes WHERE schemaname IN ('public', 'sales')"
    assert names(cluster, indexes) == names(cluster, indexes, "shop")
    # Another run replaces the copy.
    good(restored(cluster, store, shop, "sales.customers"))
    assert counts(cluster, "public.orders", "sales.customers") == [0, 20]


def test_partitions_and_inheriting_tables_come_along(cluster: Cluster, store: Store) -> None:
    entry = scene.entry("parts")
    scene.make(
        cluster,
        entry,
        """
        CREATE TABLE events (id int, at date, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
        CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
        CREATE TABLE a_2 PARTITION OF events FOR VALUES FROM ('2026-02-01') TO ('2026-03-01') PARTITION BY LIST (id);
        CREATE TABLE a_leaf PARTITION OF a_2 DEFAULT;
        CREATE INDEX ON events (at);
        CREATE TABLE base (a int); CREATE TABLE heir (b int) INHERITS (base);
        CREATE TABLE grandson () INHERITS (heir); CREATE TABLE other (a int);
        INSERT INTO events SELECT i, '2026-01-15' FROM generate_series(1, 5) i;
        INSERT INTO events SELECT i, '2026-02-15' FROM generate_series(1, 7) i;
        INSERT INTO base VALUES (1); INSERT INTO heir VALUES (1); INSERT INTO grandson VALUES (1);
        INSERT INTO other VALUES (1)
        """,
    )
    back_up(cluster, store, entry)
    # Neither is in the manifest, which counts rows: a partitioned table has none of its own.
    details = good(restored(cluster, store, entry, "public.events", "public.base"))
    assert (details["tables"], details["rows"]) == (5, 15)
    assert counts(cluster, "events", "a_leaf", "base", "other") == [12, 7, 3, 0]
    attached = "SELECT count(*) FROM pg_inherits"
    assert cluster.psql(attached, "copy") == cluster.psql(attached, "parts")
    assert cluster.psql("SELECT bool_and(indisvalid) FROM pg_index", "copy") == "t"

    good(restored(cluster, store, entry, "public.a_leaf"))
    assert counts(cluster, "events", "events_1") == [7, 0]
    # Its index is its own: the partitioned one is of a table that was not chosen.
    assert names(cluster, "SELECT indexname FROM pg_indexes WHERE tablename = 'a_leaf'") == names(
        cluster, "SELECT indexname FROM pg_indexes WHERE tablename = 'a_leaf'", "parts"
    )


@pytest.mark.parametrize(
    "name",
    [
        'Order "Lines"',
        "a.b",
        "x\ny; DROP TABLE victim; --",
        "таблица",
        "select",
        "comma, (bracket)",
        "UPPER",
        "$1 \\ '",
    ],
)
def test_odd_names(cluster: Cluster, store: Store, name: str) -> None:
    entry = scene.entry("odd")
    quoted = '"' + name.replace('"', '""') + '"'
    scene.make(
        cluster,
        entry,
        f"CREATE TABLE {quoted} (id serial PRIMARY KEY, x int); CREATE INDEX ON {quoted} (x);"
        f"INSERT INTO {quoted} (x) VALUES (1), (2); CREATE TABLE victim (a int); INSERT INTO victim VALUES (1)",
    )
    back_up(cluster, store, entry)
    details = good(restored(cluster, store, entry, f"public.{quoted}"))
    assert details["rows"] == 2
    assert counts(cluster, f"public.{quoted}", "victim") == [2, 0]
    sequence = cluster.psql(
        f"SELECT pg_get_serial_sequence('public.{quoted.replace(chr(39), chr(39) * 2)}', 'id')", "copy"
    )
    assert cluster.psql(f"SELECT nextval($x${sequence}$x$)", "copy") == "3"
    assert (
        cluster.psql(
            "SELECT count(*) FROM pg_index i JOIN pg_class c ON c.oid = indrelid WHERE relkind = 'r'"
            " AND relnamespace = 'public'::regnamespace",
            "copy",
        )
        == "2"
    )


def test_a_table_that_the_backup_lacks_is_refused_before_anything_is_created(
    cluster: Cluster, store: Store, shop: Database
) -> None:
    databases = "SELECT string_agg(datname || oid, ',' ORDER BY oid) FROM pg_database"
    roles = "SELECT count(*) FROM pg_roles"
    before = cluster.psql(databases), cluster.psql(roles)
    for wrong, nearest in (("public.order", "public.orders"), ("public.customers", "sales.customers")):
        for plan in (True, False):
            failed = error(restored(cluster, store, shop, "public.orders", wrong, plan=plan))
            assert f"{wrong} is not a table of the backup; did you mean {nearest}?" in str(failed)
    assert (cluster.psql(databases), cluster.psql(roles)) == before
    assert cluster.psql("SELECT count(*) FROM infrazero.restore") == "0"
    for wrong, remedy in (("orders", "public.orders"), ("public.", "schema.table"), ("a.b.c", "schema.table")):
        assert remedy in str(error(restored(cluster, store, shop, wrong)))


def as_user(cluster: Cluster, entry: Database, script: str) -> str:
    """Run a script with the programs of PostgreSQL, as the user of the database and over TCP."""
    environment = {
        "PATH": f"{cluster.bindir}:{os.environ['PATH']}",
        "PGHOST": "127.0.0.1",
        "PGPORT": str(cluster.port),
        "PGUSER": entry.user,
        "PGPASSWORD": entry.password.reveal(),
        "PGOPTIONS": "-c client_min_messages=warning",
    }
    command = ["/bin/bash", "-o", "pipefail", "-c", script]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


def test_the_rows_get_back_into_the_original(cluster: Cluster, store: Store, shop: Database) -> None:
    """What docs/restoring.md says, as the user of the database: its triggers are its own code."""
    good(restored(cluster, store, shop, "sales.customers"))
    cluster.psql("UPDATE sales.customers SET name = 'changed' WHERE id = 3", "shop")
    cluster.psql("ALTER TABLE sales.customers DISABLE ROW LEVEL SECURITY", "shop")
    back = "COPY sales.customers TO STDOUT"
    script = (
        f"psql -c '{back}' copy | psql --single-transaction --set=ON_ERROR_STOP=1"
        " -c 'CREATE TEMPORARY TABLE back (LIKE sales.customers)' -c 'COPY back FROM STDIN'"
        " -c 'INSERT INTO sales.customers OVERRIDING SYSTEM VALUE SELECT * FROM back"
        " ON CONFLICT (id) DO UPDATE SET name = excluded.name'"
        " -c \"SELECT setval(pg_get_serial_sequence('sales.customers', 'id'), max(id)) FROM sales.customers\" shop"
    )
    as_user(cluster, shop, script)
    assert cluster.psql("SELECT name FROM sales.customers WHERE id = 3", "shop") == "customer 3"
    assert cluster.psql("SELECT nextval('sales.customers_id_seq')", "shop") == "21"

    good(restored(cluster, store, shop, "public.lines"))
    cluster.psql("DROP TABLE public.lines CASCADE", "shop")
    as_user(
        cluster,
        shop,
        "pg_dump --table=public.lines copy | psql --single-transaction --set=ON_ERROR_STOP=1 shop",
    )
    assert cluster.psql("SELECT count(*) FROM public.lines", "shop") == "300"


def test_dumps_of_older_tools(cluster: Cluster, store: Store) -> None:
    """Without a manifest a table may come later than the first rows; names have no schema, and rows are statements."""
    entry = scene.entry("old")
    scene.make(cluster, entry)
    store.put(
        "db/old/old.sql",
        b"SET search_path = sales, pg_catalog;\nCREATE SCHEMA sales;\nCREATE TABLE a (x int);\n"
        b"CREATE TABLE b (x int);\nINSERT INTO a VALUES (1);\nINSERT INTO b VALUES (1);\n"
        b"COPY b (x) FROM stdin;\n2\n\\.\n"
        b"SET search_path = public, pg_catalog;\nCREATE TABLE a (x int);\nCOPY a (x) FROM stdin;\n5\n\\.\n"
        b"CREATE INDEX i ON a (x);\n",
    )
    details = good(restored(cluster, store, entry, "sales.b", source="db/old/old.sql"))
    assert counts(cluster, "sales.a", "sales.b", "public.a") == [0, 2, 0]
    assert not details["verified"]
    good(restored(cluster, store, entry, "public.a", source="db/old/old.sql"))
    assert counts(cluster, "sales.a", "sales.b", "public.a") == [0, 0, 1]
    cluster.psql('DROP DATABASE "copy"')
    late = error(restored(cluster, store, entry, "sales.c", source="db/old/old.sql"))
    assert "sales.c is not a table of the backup" in str(late)
    assert cluster.psql("SELECT count(*) FROM pg_database WHERE datname LIKE 'copy%'") == "0"


def test_the_rows_of_the_others_are_proven_too(
    cluster: Cluster, store: Store, shop: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of the backup is compared with its manifest, so an incomplete one is found whatever was chosen."""
    from ansible_collections.infrazero.database.plugins.module_utils._engine.restore import stage

    seen: list[dict[str, int]] = []
    compare = stage.compare
    monkeypatch.setattr(
        stage, "compare", lambda choice, rows, *rest: (seen.append(dict(rows)), compare(choice, rows, *rest))
    )
    good(restored(cluster, store, shop, "public.orders"))
    assert seen == [{"public.orders": 300, "public.lines": 300, "sales.customers": 20}]


def test_the_playbook_takes_tables(cluster: Cluster, store: Store, shop: Database, tmp_path: pathlib.Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "db.env").write_text(envfile.render({"DB_TYPE": "postgresql"}))
    (tmp_path / "opt").mkdir()
    (tmp_path / "opt" / "venv").symlink_to(sys.prefix)
    variables = {
        "ansible_connection": "local",
        "infrazero_install_directory": str(tmp_path / "opt"),
        "infrazero_config_directory": str(tmp_path / "etc"),
        "infrazero_user": getpass.getuser(),
        "infrazero_db_host": cluster.host,
        "infrazero_db_port": cluster.port,
        "infrazero_databases": [
            {
                "name": "shop",
                "user": "shop",
                "password": "x",
                "backup_age_public_key": shop.recipients[0],
                "backup_age_private_key": scene.key_of(shop),
            }
        ],
        "infrazero_backup_directory": str(tmp_path),
        "infrazero_restore_trust": "unsigned",
        "infrazero_options": {"as": "copy"},
    }
    controller = Controller(tmp_path / "controller", variables)
    arguments = ["--extra-vars", json.dumps({"database": "shop", "from": "db/shop/", "as": "copy", "confirm": "yes"})]
    wrong = controller.play("restore", *arguments, "--extra-vars", '{"tables": ["public.order"]}', hosts=("db1",))
    assert wrong.status != 0 and "did you mean public.orders?" in " ".join(wrong.output.split()), wrong.output
    done = controller.play("restore", *arguments, "--extra-vars", "tables=public.orders", hosts=("db1",))
    assert done.status == 0, done.output
    assert "tables:    public.orders" in done.output and "needed," in done.output
    assert counts(cluster, "public.orders", "public.lines") == [300, 0]
