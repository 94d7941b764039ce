-- Copyright (c) 2026, The infrazero.database contributors
-- GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
-- SPDX-License-Identifier: GPL-3.0-or-later

-- Tables of an application, with rows that look like commands, and whatever else a restore may lose.
-- psql variables: owner, the role that makes it all; rows, how many in the larger tables.
SET ROLE :"owner";
SET search_path = public;

CREATE TYPE state AS ENUM ('open', 'paid', 'sent');
CREATE DOMAIN email AS text CHECK (VALUE ~ '^[^@ ]+@[^@ ]+$');

CREATE TABLE customers (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    email email NOT NULL UNIQUE,
    notes text
);
INSERT INTO customers (email, notes)
SELECT 'customer' || i || '@example.com', CASE i % 3 WHEN 0 THEN E'tab\there, \\backslash, "quote"\nline two' WHEN 1 THEN 'Grüße, 東京' END
FROM generate_series(1, :rows) i;

CREATE TABLE orders (
    id bigint PRIMARY KEY,
    customer bigint NOT NULL REFERENCES customers,
    state state NOT NULL,
    price numeric(12, 4) NOT NULL,
    at timestamptz NOT NULL,
    packed bytea,
    details jsonb
);
INSERT INTO orders
SELECT i, 1 + (i * 7) % :rows, (ARRAY['open', 'paid', 'sent'])[1 + i % 3]::state, i / 7.0, timestamptz '2024-01-01' + i * interval '13 s',
       decode(md5(i::text), 'hex'), jsonb_build_object('line', i, 'note', E'\\N')
FROM generate_series(1, :rows * 2) i;
CREATE INDEX ON orders (at);

CREATE TABLE commands (line text NOT NULL);
INSERT INTO commands VALUES
    ('GRANT ALL ON TABLE orders TO public;'), ('REVOKE ALL ON SCHEMA public FROM app;'), ('ALTER TABLE orders OWNER TO mallory;'),
    ('\connect postgres'), ('\! touch /tmp/pretender'), ('\.'), ('COPY orders FROM stdin;'), ('DROP DATABASE postgres;'), (''), (E'a\n\\.\nb');

CREATE TABLE events (id bigint NOT NULL, kind text NOT NULL) PARTITION BY HASH (id);
CREATE TABLE events_0 PARTITION OF events FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE events_1 PARTITION OF events FOR VALUES WITH (MODULUS 2, REMAINDER 1);
INSERT INTO events SELECT i, 'kind ' || i % 5 FROM generate_series(1, :rows) i;

CREATE SEQUENCE tickets START 41;
SELECT nextval('tickets');

CREATE VIEW revenue AS SELECT customer, sum(price) AS total FROM orders GROUP BY customer;
CREATE MATERIALIZED VIEW best AS SELECT * FROM revenue ORDER BY total DESC, customer LIMIT 10;

CREATE FUNCTION hand_over() RETURNS void LANGUAGE plpgsql AS $body$
BEGIN
    EXECUTE '
GRANT SELECT ON orders TO CURRENT_USER;
ALTER TABLE orders OWNER TO CURRENT_USER;
';
END
$body$;
CREATE PROCEDURE close_all() LANGUAGE sql AS $$ UPDATE orders SET state = 'sent' $$;
