# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Running ``pg_dump``: its arguments, and the names of locks that block it."""

from __future__ import annotations

import re
import typing as t

from .connection import ConnectionSettings, client_arguments, pinned_options

if t.TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection

#: What pg_dump quotes when a table could not be locked in time.
LOCK_TIMED_OUT = "LOCK TABLE"

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
    """The command line of a dump of *database* as plain SQL; it holds no secret.

    :param encoding: the database's own.
    """
    return [
        program,
        "--no-password",  # never prompt: nobody answers
        # Otherwise the dump is in the client_encoding that the owner has set for the database.
        f"--encoding={encoding}",
        f"--lock-wait-timeout={lock_wait_seconds * 1000}",
        *client_arguments(settings, database),
    ]


def environment(settings: ConnectionSettings) -> dict[str, str]:
    """What is added to the environment of pg_dump: its session obeys no setting of the database."""
    return {"PGOPTIONS": pinned_options(settings)}


def version_of(output: bytes) -> str:
    """The version in what ``pg_dump --version`` printed: ``15.18``."""
    match = _VERSION.search(output.decode("utf-8", "replace"))
    return match[1] if match else "unknown"


def blockers(conn: Connection) -> list[str]:
    """Who holds tables of the connection's database exclusively, longest first, five at most."""
    with conn.cursor() as cursor:
        cursor.execute(_BLOCKERS)
        return [
            f"{relation} is held by process {pid} (role {role}, {application or 'no application name'}) for {age} s"
            for relation, pid, role, application, age in cursor.fetchall()
        ]
