# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""One backup or restore of a database at a time, whichever host it is started on.

The lock is that of an empty table in the schema ``infrazero`` of the maintenance database, one table for each database.
Tenants have no privilege on that schema, so they can neither take the lock nor hold it up.  (An advisory lock, by
contrast, is free for everybody who can connect.)  It is held by a session of its own, in a transaction that stays open,
because the work itself needs autocommit: it ends with that session, so a killed run leaves nothing behind and no lock
ever has to be declared stale.

The open transaction holds nothing else back.  LOCK TABLE assigns no transaction ID and keeps no snapshot, so vacuum
removes dead rows as ever (``test_the_open_transaction_holds_back_nothing``).
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import hashlib
import socket
import threading
import typing as t

from ...errors import LockHeld
from ...printing import printable
from . import authentication, state
from .connection import APPLICATION, ConnectionSettings, connect, translated

try:
    import psycopg2
    from psycopg2 import sql
except ImportError:
    psycopg2 = None  # type: ignore[assignment]
    sql = None  # type: ignore[assignment]

if t.TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection

#: How long the release of a lock may take.  A server that does not answer has released it when it goes on.
RELEASE_SECONDS = 10.0

# The weakest mode that conflicts with itself.  pg_dump of the maintenance database doesn't mind it.
_MODE = "ShareUpdateExclusiveLock"

# Whatever bars our mode.  Readers don't, and they must not be taken for the holder.
_HOLDER = """
SELECT a.pid, coalesce(a.usename, a.backend_type), coalesce(a.application_name, ''),
       coalesce(pg_catalog.host(a.client_addr), 'a local socket'), coalesce(a.xact_start, a.backend_start)
FROM pg_catalog.pg_locks l
JOIN pg_catalog.pg_stat_activity a USING (pid)
WHERE l.locktype = 'relation' AND l.granted AND l.relation = pg_catalog.to_regclass(%s)
  AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
  AND l.mode IN ('ShareUpdateExclusiveLock', 'ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock',
                 'AccessExclusiveLock')
LIMIT 1
"""

_HELD = """
SELECT EXISTS (
    SELECT FROM pg_catalog.pg_locks
    WHERE pid = pg_catalog.pg_backend_pid() AND locktype = 'relation' AND granted AND mode = %s AND relation = %s
      AND database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()))
"""


@dataclasses.dataclass(frozen=True)
class Holder:
    """The session that holds a lock.

    :param role: who it is, or what kind of process where it is nobody's session.
    :param application_name: says what it is doing: ``infrazero.database backup app``.
    :param client: its address.
    :param since: when its transaction began; ours take their lock first of all.
    """

    pid: int
    role: str
    application_name: str
    client: str
    since: datetime.datetime

    def __str__(self) -> str:
        what = self.application_name or "no application name"
        since = self.since.astimezone(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        return printable(f"server process {self.pid} (role {self.role}, {what}) from {self.client}, since {since}")


class Lock:
    """A lock that is held; given by :func:`database_lock`.

    :param conn: the session that holds it.
    :param relation: OID of the table that is locked; ``None``: the server is a standby, where nothing can be locked.
    """

    def __init__(self, conn: Connection, name: str, relation: int | None) -> None:
        self._conn = conn
        self._name = name
        self._relation = relation

    def check(self) -> None:
        """Raise :class:`LockHeld` unless the lock is still ours.

        To be called before the steps that others see (a manifest, the end of a swap): a run that was stopped for a
        while may find its session ended and another run at work.
        """
        message = f"the lock of database {self._name!r} was lost"
        with translated(message, kind=LockHeld), self._conn.cursor() as cursor:
            if self._relation is None:
                cursor.execute("SELECT pg_catalog.pg_is_in_recovery()")
            else:
                cursor.execute(_HELD, (_MODE, self._relation))
            row = cursor.fetchone()
        if row is not None and row[0]:
            return
        holder = holder_of(self._conn, self._name)
        raise LockHeld(
            message,
            cause="the server was a standby and no longer is one"
            if self._relation is None
            else f"it is held by {holder}"
            if holder
            else "nobody holds it any longer",
            hint="run again",
        )


def lock_table(name: str) -> str:
    """The table in the schema ``infrazero`` that is locked for database *name*: the same on every host."""
    return "lock_" + hashlib.sha256(b"infrazero.database\0" + name.encode("utf-8")).hexdigest()[:32]


def holder_of(conn: Connection, name: str) -> Holder | None:
    """Who holds the lock of database *name*, seen from a session in the maintenance database."""
    with translated(f"could not see who holds the lock of database {name!r}"), conn.cursor() as cursor:
        cursor.execute(_HOLDER, (f"infrazero.{lock_table(name)}",))
        row = cursor.fetchone()
    return Holder(*row) if row is not None else None


@contextlib.contextmanager
def database_lock(conn: Connection, name: str) -> t.Iterator[Lock]:
    """Hold the lock of database *name* as long as the context, or as *conn* lives.

    On a standby there is nothing to lock and nothing is locked: no database is restored there, and of two backups at
    once the one that is late finds that ``latest`` has moved.

    :param conn: a session in the maintenance database, in autocommit, for nothing else: its transaction stays open.
    :raises LockHeld: at once, naming the holder, when somebody has it.
    """
    relation = _acquire(conn, name)
    try:
        yield Lock(conn, name, relation)
    finally:
        # A lock that can't be released any more went with its session; what happened inside the context matters more.
        with contextlib.suppress(psycopg2.Error), _hurried(conn), conn.cursor() as cursor:
            cursor.execute("ROLLBACK")


@contextlib.contextmanager
def _hurried(conn: Connection) -> t.Iterator[None]:
    """Shut the session down when it takes too long: a server that stands still would keep us waiting for ever."""

    def shut_down(end: socket.socket) -> None:
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)

    with authentication.socket_of(conn) as end:
        timer = threading.Timer(RELEASE_SECONDS, shut_down, (end,))
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()


@contextlib.contextmanager
def locked_session(settings: ConnectionSettings, name: str, *, doing: str) -> t.Iterator[tuple[Connection, Lock]]:
    """A session in the maintenance database to work with, under the lock of database *name*, which another one holds.

    :param doing: ``backup`` or ``restore``: shown to others who find the lock held.
    :raises LockHeld: at once, naming the holder, when somebody has it.
    """
    application_name = f"{APPLICATION} {doing} {name}"
    with (
        contextlib.closing(connect(settings, application_name=application_name)) as holding,
        database_lock(holding, name) as held,
        contextlib.closing(connect(settings, application_name=application_name)) as conn,
    ):
        yield conn, held


def _acquire(conn: Connection, name: str) -> int | None:
    """Lock the table of database *name*, made where need be; its OID comes back, on a standby ``None``."""
    message = f"could not lock database {name!r}"
    with translated(message), conn.cursor() as cursor:
        cursor.execute("SELECT pg_catalog.pg_is_in_recovery()")
        if cursor.fetchall()[0][0]:
            return None
    holder: Holder | None = None
    # A holder that is gone when we look for its name has let go of the lock: try once more.
    for _attempt in range(3):
        with translated(message), conn.cursor() as cursor:
            relation = _try(cursor, name)
        if relation is not None:
            return relation
        holder = holder_of(conn, name)
        if holder is not None:
            break
    raise LockHeld(
        f"another backup or restore of database {name!r} is running",
        cause=f"its lock is held by {holder}" if holder else "its lock keeps changing hands",
        hint="wait until it has ended; if it hangs, end it with SELECT pg_terminate_backend(pid)",
    )


def _try(cursor: t.Any, name: str) -> int | None:
    """Begin a transaction that holds the lock and return the table's OID; ``None``: somebody else has the lock."""
    table = lock_table(name)
    look = "SELECT pg_catalog.to_regclass(%s)::oid"
    cursor.execute(look, (f"infrazero.{table}",))
    if cursor.fetchone()[0] is None:
        # One query, and so one transaction.
        cursor.execute(
            sql.SQL(
                state.SCHEMA + "CREATE TABLE IF NOT EXISTS infrazero.{table} ();"
                "REVOKE ALL ON TABLE infrazero.{table} FROM PUBLIC;"
                "COMMENT ON TABLE infrazero.{table} IS {comment}"
            ).format(
                table=sql.Identifier(table),
                comment=sql.Literal(f"Locked while database {name!r} is backed up or restored"),
            )
        )
    # Not the isolation that the role or the database may have been given: it could keep a snapshot.
    cursor.execute("BEGIN ISOLATION LEVEL READ COMMITTED")
    try:
        cursor.execute(
            sql.SQL("LOCK TABLE infrazero.{} IN SHARE UPDATE EXCLUSIVE MODE NOWAIT").format(sql.Identifier(table))
        )
    except psycopg2.errors.LockNotAvailable:
        cursor.execute("ROLLBACK")
        return None
    cursor.execute(look, (f"infrazero.{table}",))
    return t.cast(int, cursor.fetchone()[0])
