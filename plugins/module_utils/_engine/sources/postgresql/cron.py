# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Restores pg_cron, which can only be created in the database that the server's setting ``cron.database_name`` names.

A staging database has another name.  So the rows of pg_cron's tables are loaded into plain tables that look like them,
and once the database has its own name, the extension is created there and takes the rows over.

A job is a command that pg_cron runs as the job's role in the job's database.  In a source database, row-level security
binds jobs to the role that created them, but whoever wrote a dump chooses its rows.  Therefore only jobs that the owner
of the database could have created there stay active.
"""

from __future__ import annotations

import typing as t

from ...errors import LoadError
from ...printing import printable
from .connection import transaction, translated

try:
    from psycopg2 import sql
except ImportError:
    sql = None  # type: ignore[assignment]

if t.TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection

NAME = "pg_cron"

#: How long the tables are waited for: the owner of the database is connected by then, and might lock them.
LOCK_TIMEOUT = "10s"

#: The columns of pg_cron's tables in all its versions.
_TABLES = """
CREATE SCHEMA cron;
CREATE SEQUENCE cron.jobid_seq;
CREATE SEQUENCE cron.runid_seq;
CREATE TABLE cron.job (
    jobid bigint, schedule text, command text, nodename text, nodeport int, database text, username text,
    active boolean DEFAULT true, jobname text
);
CREATE TABLE cron.job_run_details (
    jobid bigint, runid bigint, job_pid int, database text, username text, command text, status text,
    return_message text, start_time timestamptz, end_time timestamptz
);
COMMENT ON SCHEMA cron IS 'infrazero.database: rows of pg_cron, until the extension is created';
"""

_HAS_TABLES = """
SELECT FROM pg_catalog.pg_namespace n JOIN pg_catalog.pg_roles r ON r.oid = n.nspowner
WHERE n.nspname = 'cron' AND r.rolsuper
  AND pg_catalog.obj_description(n.oid, 'pg_namespace') LIKE 'infrazero.database: %'
"""

_COLUMNS = """
SELECT a.attname FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_attribute b USING (attname)
WHERE a.attrelid = pg_catalog.to_regclass(%s) AND b.attrelid = pg_catalog.to_regclass(%s)
  AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""

#: Jobs that the owner of this database could not have created: of other roles, in other databases, on other servers.
_DEACTIVATE = """
UPDATE cron.job SET active = false
WHERE active AND NOT (username = %s AND database = pg_catalog.current_database()
                      AND (nodename IN ('', 'localhost', '127.0.0.1', '::1') OR nodename LIKE '/%%'))
RETURNING jobid, username
"""

_BY_HAND = (
    "ALTER SCHEMA cron RENAME TO cron_rows; CREATE EXTENSION pg_cron; INSERT INTO cron.job SELECT * FROM cron_rows.job;"
    " SELECT setval('cron.jobid_seq', max(jobid)) FROM cron.job; DROP SCHEMA cron_rows CASCADE"
)


def prepare(conn: Connection, *, loader: str) -> None:
    """Create the tables that *loader* fills, in place of the extension.

    :param conn: a superuser's autocommit session in the staging database.
    """
    role = sql.Identifier(loader)
    message = "could not create the tables for the rows of pg_cron"
    with translated(message, kind=LoadError), transaction(conn), conn.cursor() as cursor:
        cursor.execute(_HAS_TABLES)
        if cursor.fetchone() is not None:
            return
        cursor.execute(_TABLES)
        cursor.execute(sql.SQL("GRANT USAGE ON SCHEMA cron TO {}").format(role))
        cursor.execute(sql.SQL("GRANT INSERT ON ALL TABLES IN SCHEMA cron TO {}").format(role))
        cursor.execute(sql.SQL("GRANT UPDATE ON ALL SEQUENCES IN SCHEMA cron TO {}").format(role))


def keep(conn: Connection) -> None:
    """Take the tables back from the owner of the database, who has everything by now and must not prepare them for us.

    :param conn: a superuser's autocommit session in the staging database, to which nobody else can connect.
    """
    with translated("could not keep the tables for the rows of pg_cron"), transaction(conn), conn.cursor() as cursor:
        cursor.execute(
            "ALTER SCHEMA cron OWNER TO CURRENT_USER; ALTER TABLE cron.job OWNER TO CURRENT_USER;"
            "ALTER TABLE cron.job_run_details OWNER TO CURRENT_USER;"
            "ALTER SEQUENCE cron.jobid_seq OWNER TO CURRENT_USER; ALTER SEQUENCE cron.runid_seq OWNER TO CURRENT_USER"
        )


def finish(conn: Connection, *, owner: str) -> tuple[str, ...]:
    """Create the extension, if :func:`prepare` has been called in this database, and give it its rows.

    :param conn: a superuser's autocommit session in the restored database, which has its own name by now.
    :returns: warnings: jobs that are no longer active, or what is left to do if this server runs no jobs here.
    """
    with translated("could not restore the jobs of pg_cron"), conn.cursor() as cursor:
        cursor.execute(_HAS_TABLES)
        if cursor.fetchone() is None:
            return ()
        cursor.execute("SELECT pg_catalog.current_database(), pg_catalog.current_setting('cron.database_name', true)")
        database, runs_in = cursor.fetchall()[0]
        if database != runs_in:
            now = "it is not set" if runs_in is None else f"it is {runs_in!r} now"
            return (
                (
                    f"extension {NAME!r} left out: it can only be created in the database that the server's setting"
                    f" cron.database_name names ({now}). Its jobs are in the table cron.job. Add pg_cron to"
                    f" shared_preload_libraries, set cron.database_name to {printable(repr(database))}, restart the"
                    f" server and run in that database: {_BY_HAND}"
                ),
            )
        with transaction(conn):
            cursor.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'; SET LOCAL search_path = pg_catalog, pg_temp")
            cursor.execute("ALTER SCHEMA cron RENAME TO infrazero_cron")
            cursor.execute(sql.SQL("CREATE EXTENSION {} WITH SCHEMA pg_catalog").format(sql.Identifier(NAME)))
            for table in ("job", "job_run_details"):
                _move(conn, table)
            for sequence in ("jobid_seq", "runid_seq"):
                cursor.execute(
                    "SELECT pg_catalog.setval(pg_catalog.to_regclass(%s), last_value, is_called)"
                    f" FROM infrazero_cron.{sequence} WHERE pg_catalog.to_regclass(%s) IS NOT NULL",
                    (f"cron.{sequence}", f"cron.{sequence}"),
                )
            cursor.execute(_DEACTIVATE, (owner,))
            stopped = cursor.fetchall()
            cursor.execute("DROP SCHEMA infrazero_cron CASCADE")
    if not stopped:
        return ()
    numbers = ", ".join(str(number) for number, _role in sorted(stopped))
    roles = ", ".join(sorted({repr(role) for _number, role in stopped}))
    return (
        printable(
            f"{len(stopped)} jobs of pg_cron are no longer active, because they would run as another role than"
            f" {owner!r}, in another database or on another server (roles: {roles}). Read their commands in cron.job,"
            f" then run: UPDATE cron.job SET active = true WHERE jobid IN ({numbers})"
        ),
    )


def _move(conn: Connection, table: str) -> None:
    with conn.cursor() as cursor:
        cursor.execute(_COLUMNS, (f"infrazero_cron.{table}", f"cron.{table}"))
        columns = sql.SQL(", ").join(sql.Identifier(name) for (name,) in cursor.fetchall())
        if columns.seq:
            cursor.execute(
                sql.SQL("INSERT INTO cron.{table} ({columns}) SELECT {columns} FROM infrazero_cron.{table}").format(
                    table=sql.Identifier(table), columns=columns
                )
            )
