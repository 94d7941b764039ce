-- Copyright (c) 2026, The infrazero.database contributors
-- GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
-- SPDX-License-Identifier: GPL-3.0-or-later

-- What is in a database, a line each, the same on every release of PostgreSQL: rows of all tables and views with a digest,
-- where sequences stand, what functions do, and whose all of it is.
\pset tuples_only on
\pset format unaligned
SET search_path = pg_catalog;
SET timezone = 'UTC';

SELECT format(
    'SELECT %L, %L, %L, count(*), md5(coalesce(string_agg(t::text, E''\n'' ORDER BY t::text COLLATE "C"), '''')) FROM %I.%I t',
    n.nspname || '.' || c.relname, c.relkind, pg_get_userbyid(c.relowner), n.nspname, c.relname
)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm') AND n.nspname NOT IN ('information_schema', 'pg_catalog')
ORDER BY n.nspname, c.relname
\gexec

SELECT schemaname || '.' || sequencename, 'S', sequenceowner, last_value FROM pg_sequences ORDER BY 1;

SELECT n.nspname || '.' || p.proname, p.prokind, pg_get_userbyid(p.proowner), md5(p.prosrc)
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname NOT IN ('information_schema', 'pg_catalog') ORDER BY 1;

SELECT n.nspname || '.' || t.typname, t.typtype, pg_get_userbyid(t.typowner)
FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
WHERE t.typtype IN ('d', 'e') AND n.nspname NOT IN ('information_schema', 'pg_catalog') ORDER BY 1;

SELECT datname, 'database', pg_get_userbyid(datdba) FROM pg_database WHERE datname = current_database();
