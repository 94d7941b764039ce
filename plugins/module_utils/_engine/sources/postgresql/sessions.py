# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Who is connected to a database."""

from __future__ import annotations

import dataclasses
import typing as t

from ...errors import RestoreRefused
from .connection import translated

if t.TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection

# Autovacuum workers give way by themselves: RENAME ends them.  Parallel workers go with their leader.
_SESSIONS = """
SELECT pid, coalesce(usename, backend_type), coalesce(application_name, ''),
       coalesce(pg_catalog.host(client_addr), 'a local socket'), coalesce(state, backend_type)
FROM pg_catalog.pg_stat_activity
WHERE datid = %s AND pid <> pg_catalog.pg_backend_pid()
  AND backend_type NOT IN ('autovacuum worker', 'parallel worker')
ORDER BY backend_start
"""


@dataclasses.dataclass(frozen=True)
class Session:
    """Somebody who is connected to a database."""

    pid: int
    role: str
    application: str
    client: str
    state: str

    def __str__(self) -> str:
        return (
            f"process {self.pid} (role {self.role}, {self.application or 'no application name'}, from {self.client},"
            f" {self.state})"
        )


def sessions_of(conn: Connection, database: str) -> tuple[Session, ...]:
    """Who is connected to *database*, longest first."""
    with translated(f"the sessions of {database!r} can't be listed", phase="swap"), conn.cursor() as cursor:
        cursor.execute("SELECT oid FROM pg_catalog.pg_database WHERE datname = %s", (database,))
        row = cursor.fetchone()
        if row is None:
            return ()
        cursor.execute(_SESSIONS, row)
        return tuple(Session(*session) for session in cursor.fetchall())


def require_no_sessions(conn: Connection, database: str) -> None:
    """Raise RestoreRefused, naming them, where sessions are in *database*."""
    sessions = sessions_of(conn, database)
    if sessions:
        raise in_use(database, sessions)


def in_use(database: str, sessions: t.Sequence[Session]) -> RestoreRefused:
    """The error that names the sessions because of which *database* can't be replaced."""
    return RestoreRefused(
        f"database {database!r} is in use and may not be taken from its sessions",
        phase="swap",
        cause="; ".join(map(str, sessions)),
        hint="stop those applications, or let the restore end their sessions",
    )
