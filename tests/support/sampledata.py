# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Databases with realistic rows, the same for the same scale: for the demo, the benchmarks and the tests.

The rows are made in the server, so that a gigabyte takes a minute.  One table is full of rows that look like SQL
commands and like the meta-commands of psql: a line-based restore loses or runs them.
"""

from __future__ import annotations

import typing as t

if t.TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection

_SHOP = """
SET search_path = public;
SELECT setseed(0.42);

CREATE TYPE order_state AS ENUM ('open', 'paid', 'sent', 'returned');
CREATE DOMAIN email AS text CHECK (VALUE ~ '^[^@ ]+@[^@ ]+$');

CREATE TABLE customers (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    email email NOT NULL UNIQUE,
    name text NOT NULL,
    country char(2) NOT NULL,
    created_at timestamptz NOT NULL,
    notes text
);
INSERT INTO customers (email, name, country, created_at, notes)
SELECT lower(f.w) || '.' || lower(l.w) || i || '@example.com', f.w || ' ' || l.w,
       (ARRAY['DE','FR','US','JP','BR','IN'])[1 + i % 6], timestamptz '2020-01-01' + i * interval '7 minutes',
       CASE WHEN i % 5 = 0 THEN E'called back;\\twants "paper" invoices\\nline two' END
FROM generate_series(1, %(customers)s) i
JOIN LATERAL (SELECT (ARRAY['Ada','Grace','Linus','Margaret','Edsger','Barbara','Tony','Frances'])[1 + (i * 7) % 8] w) f
  ON true
JOIN LATERAL (SELECT (ARRAY['Lovelace','Hopper','Hamilton','Liskov','Dijkstra','Allen','Hoare'])[1 + (i * 3) % 7] w) l
  ON true;

CREATE TABLE products (
    id integer PRIMARY KEY,
    title text NOT NULL,
    price numeric(10,2) NOT NULL CHECK (price >= 0),
    attributes jsonb NOT NULL
);
INSERT INTO products
SELECT i, 'Article ' || i || ' ' || (ARRAY['red','blue','green','oak','steel'])[1 + i % 5],
       round((i % 977)::numeric / 7, 2),
       jsonb_build_object('weight', i % 40, 'tags', jsonb_build_array('a' || i % 10, 'b' || i % 7))
FROM generate_series(1, 2000) i;

CREATE TABLE orders (
    id bigint PRIMARY KEY,
    customer_id bigint NOT NULL REFERENCES customers,
    placed_at timestamptz NOT NULL,
    state order_state NOT NULL,
    comment text
);
INSERT INTO orders
SELECT i, 1 + floor(random() * %(customers)s)::bigint, timestamptz '2024-01-01' + i * interval '13 seconds',
       (ARRAY['open','paid','sent','returned'])[1 + floor(random() * 4)::int]::order_state,
       'delivery ' || md5(i::text) || ' to the ' || (ARRAY['front door','neighbour','office','parcel shop'])[1 + i % 4]
FROM generate_series(1, %(orders)s) i;

CREATE TABLE messages (
    order_id bigint PRIMARY KEY REFERENCES orders,
    sent_at timestamptz NOT NULL,
    subject text NOT NULL,
    body text NOT NULL
);
INSERT INTO messages
SELECT i * 4, timestamptz '2024-01-03' + i * interval '52 seconds', 'Re: order ' || i * 4,
       (SELECT string_agg(list[1 + floor(random() * 50)::int], ' ')
        FROM (SELECT string_to_array(
            'invoice delivery please the of and to we you order thank regards Monday return parcel window address '
            'customer refund has not arrived yet is on a in with would like number again soon kind today tomorrow '
            'warehouse broken replacement colour blue size email phone called waiting week paper please, help.', ' '
        ) AS list) words, generate_series(1, 50 + i % 100))
FROM generate_series(1, %(orders)s / 4) i;

CREATE TABLE order_lines (
    order_id bigint NOT NULL REFERENCES orders,
    line integer NOT NULL,
    product_id integer NOT NULL REFERENCES products,
    quantity integer NOT NULL,
    price numeric(10,2) NOT NULL,
    total numeric(12,2) GENERATED ALWAYS AS (price * quantity) STORED,
    PRIMARY KEY (order_id, line)
);
INSERT INTO order_lines (order_id, line, product_id, quantity, price)
SELECT o, l, 1 + floor(random() * 2000)::int, 1 + floor(random() * 9)::int, round((random() * 300)::numeric, 2)
FROM generate_series(1, %(orders)s) o, generate_series(1, 3) l;

CREATE TABLE events (
    id bigint NOT NULL,
    at timestamptz NOT NULL,
    kind text NOT NULL,
    payload jsonb NOT NULL
) PARTITION BY HASH (id);
CREATE TABLE events_0 PARTITION OF events FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE events_1 PARTITION OF events FOR VALUES WITH (MODULUS 2, REMAINDER 1);
INSERT INTO events
SELECT i, timestamptz '2024-01-01' + i * interval '5 seconds', (ARRAY['view','click','search','buy'])[1 + i % 4],
       jsonb_build_object('session', md5((i / 20)::text), 'path', '/articles/' || i % 2000, 'ms', i % 1700, 'agent',
                          'Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101 Firefox/' || 100 + i % 40)
FROM generate_series(1, %(orders)s * 2) i;

CREATE INDEX ON orders (customer_id);
CREATE INDEX ON orders (placed_at);
CREATE INDEX ON order_lines (product_id);
CREATE INDEX ON events (at);

CREATE VIEW revenue AS
SELECT c.country, sum(l.total) AS total FROM customers c JOIN orders o ON o.customer_id = c.id
JOIN order_lines l ON l.order_id = o.id GROUP BY c.country;
"""

_PRETENDER = r"""
SET search_path = public;
CREATE TABLE looks_like_sql (id integer PRIMARY KEY, line text NOT NULL);
INSERT INTO looks_like_sql
SELECT i, (ARRAY[
    'GRANT ALL ON TABLE secrets TO public;',
    'REVOKE ALL ON SCHEMA public FROM app;',
    'ALTER TABLE secrets OWNER TO mallory;',
    '\connect postgres',
    '\! touch /tmp/pretender',
    '\.',
    'COPY secrets FROM stdin;',
    'DROP DATABASE postgres;',
    E'first line\nGRANT second TO line;\n\\.\n',
    '-- PostgreSQL database dump complete',
    'SET ROLE postgres;',
    '$$ BEGIN; EXECUTE ''DROP ROLE app''; END $$'
])[1 + i % 12] FROM generate_series(1, 1200) i;

CREATE FUNCTION hand_over() RETURNS void LANGUAGE plpgsql AS $body$
BEGIN
    EXECUTE '
GRANT SELECT ON looks_like_sql TO CURRENT_USER;
ALTER TABLE looks_like_sql OWNER TO CURRENT_USER;
';
END
$body$;
COMMENT ON FUNCTION hand_over() IS 'ALTER TABLE x OWNER TO y;
GRANT z TO y;
\.';
"""

_LEDGER = """
SET search_path = public;
CREATE SCHEMA main;
CREATE TABLE main.accounts (id integer PRIMARY KEY, owner text NOT NULL, currency char(3) NOT NULL);
INSERT INTO main.accounts SELECT i, 'owner ' || i, (ARRAY['EUR','USD','JPY'])[1 + i % 3] FROM generate_series(1, 500) i;
CREATE TABLE main.bookings (
    id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    account_id integer NOT NULL REFERENCES main.accounts,
    at date NOT NULL,
    amount numeric(14,2) NOT NULL
);
INSERT INTO main.bookings (account_id, at, amount)
SELECT 1 + i % 500, date '2024-01-01' + i % 365, ((i * 7919) % 1000003)::numeric / 100 - 5000
FROM generate_series(1, %(bookings)s) i;
CREATE PROCEDURE main.close_year() LANGUAGE sql AS $$ DELETE FROM main.bookings WHERE at < date '2000-01-01' $$;
CREATE AGGREGATE main.product(numeric) (SFUNC = numeric_mul, STYPE = numeric, INITCOND = 1);
SELECT lo_from_bytea(0, decode(repeat('00ff10', 20000), 'hex'));
"""


def _run(conn: Connection, script: str, values: t.Mapping[str, int]) -> None:
    for name, value in values.items():
        script = script.replace(f"%({name})s", str(value))
    with conn.cursor() as cursor:
        cursor.execute(script)


def shop(conn: Connection, *, orders: int) -> None:
    """A shop with *orders* orders; a dump of it takes about 740 bytes an order."""
    _run(conn, _SHOP, {"orders": orders, "customers": max(orders // 10, 10)})


def pretender(conn: Connection) -> None:
    """A table and a function whose contents look like SQL commands."""
    _run(conn, _PRETENDER, {})


def ledger(conn: Connection, *, bookings: int) -> None:
    """Accounts and bookings in a schema ``main``, a procedure, an aggregate and a large object."""
    _run(conn, _LEDGER, {"bookings": bookings})


_TABLES = """
SELECT n.nspname, c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition
  AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_toast'
ORDER BY 1, 2
"""


def fingerprint(conn: Connection) -> dict[str, tuple[int, str]]:
    """Rows and a digest of every table, and of the large objects, by name; the order of the rows doesn't matter.

    Made by the server with plain SQL, on purpose with nothing of the collection's own code.
    """
    from psycopg2 import sql

    result: dict[str, tuple[int, str]] = {}
    with conn.cursor() as cursor:
        cursor.execute(_TABLES)
        for schema, table in cursor.fetchall():
            cursor.execute(
                sql.SQL(
                    "SELECT count(*), coalesce(sum(hashtextextended(t::text, 0)), 0)::text,"
                    " coalesce(sum(hashtextextended(t::text, 1)), 0)::text FROM {} t"
                ).format(sql.Identifier(schema, table))
            )
            rows, first, second = cursor.fetchone() or (0, "", "")
            result[f"{schema}.{table}"] = (rows, f"{first}/{second}")
        cursor.execute(
            "SELECT count(*), coalesce(md5(string_agg(md5(lo_get(oid)), ',' ORDER BY oid)), '')"
            " FROM pg_catalog.pg_largeobject_metadata"
        )
        result["large objects"] = cursor.fetchone() or (0, "")
    return result
