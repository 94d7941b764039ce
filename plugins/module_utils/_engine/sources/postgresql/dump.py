# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Prepares pg_dump: its arguments and its environment.  Explains which locks block it."""

from __future__ import annotations

import re
import typing as t

from ...settings import name_for_errors
from .connection import ConnectionSettings, client_arguments, pinned_options, translated
from .settings_text import MONEY_LOCALE

if t.TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection

#: Part of the statement that pg_dump quotes if it could not lock a table in time.
LOCK_TIMED_OUT = "LOCK TABLE"

#: The cause is in the server's language, so this is said of every dump that fails on a standby.
ON_STANDBY = (
    "this server is a standby, which cancels a dump that is in the way of its primary's changes (conflict with"
    " recovery): raise max_standby_streaming_delay, set hot_standby_feedback, or back up on the primary"
    f" ({name_for_errors('backup', 'run_on')})"
)

_VERSION = re.compile(r"\(PostgreSQL\)\s+(\S+)")

_BLOCKERS = """
SELECT l.relation::regclass::text, a.pid, coalesce(a.usename, ''), coalesce(a.application_name, ''),
       extract(epoch FROM now() - a.xact_start)::bigint
FROM pg_catalog.pg_locks l
JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
WHERE l.granted AND l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock'
  AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
ORDER BY a.xact_start
LIMIT 5
"""


def arguments(
    program: str, settings: ConnectionSettings, database: str, *, encoding: str, lock_wait_seconds: int
) -> list[str]:
    """Return the command line that dumps *database* as plain SQL.  It contains no secret.

    :param encoding: encoding of the database.
    """
    return [
        program,
        "--no-password",  # never prompt: nobody would answer
        # Otherwise the dump uses the client_encoding that the owner has set for the database.
        f"--encoding={encoding}",
        f"--lock-wait-timeout={lock_wait_seconds * 1000}",
        *client_arguments(settings, database),
    ]


def environment(settings: ConnectionSettings) -> dict[str, str]:
    """Return additions to pg_dump's environment, by which its session overrides the database's settings."""
    return {"PGOPTIONS": f"{pinned_options(settings)} -c lc_monetary={MONEY_LOCALE}"}


def export_snapshot(conn: Connection) -> str:
    """Return the snapshot of the transaction of *conn*, for ``pg_dump --snapshot``; it is valid until that ends."""
    with translated("could not export a snapshot", phase="dump"), conn.cursor() as cursor:
        cursor.execute("SELECT pg_catalog.pg_export_snapshot()")
        return str(cursor.fetchall()[0][0])


def version_of(output: bytes) -> str:
    """Return the version in the output of ``pg_dump --version``, such as ``15.18``."""
    match = _VERSION.search(output.decode("utf-8", "replace"))
    return match[1] if match else "unknown"


def blockers(conn: Connection) -> list[str]:
    """Describe the sessions that have exclusive locks on the database's tables: longest first, at most five."""
    with conn.cursor() as cursor:
        cursor.execute(_BLOCKERS)
        return [
            f"{relation} is locked by process {pid} (role {role}, {application or 'no application name'}) for {age} s"
            for relation, pid, role, application, age in cursor.fetchall()
        ]
