# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Locks a database, so that only one backup or restore of it runs at a time, on whichever host.

The lock is on an empty table in the schema ``infrazero`` of the maintenance database, one table for each database.
Tenants have no privileges on that schema, so they can neither take the lock nor block it.  (By contrast, anyone who can
connect can take an advisory lock.)  A separate session holds it in an open transaction, because the work itself needs
autocommit.  The lock ends with that session, so a killed run leaves nothing behind, and no lock is ever stale.

A role that is not a superuser cannot create such a table.  It takes an advisory lock of the maintenance database, which
is weaker: everybody who can connect there can take it, too, and so stop the run with an error that names them; and
superusers, who lock the table, are not kept out.

The open transaction holds nothing else back.  LOCK TABLE assigns no transaction ID and keeps no snapshot, so vacuum
still removes dead rows (``test_the_open_transaction_holds_back_nothing``).
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
from .connection import APPLICATION, ConnectionSettings, connect, is_superuser, translated

try:
    import psycopg2
    from psycopg2 import sql
except ImportError:
    psycopg2 = None  # type: ignore[assignment]
    sql = None  # type: ignore[assignment]

if t.TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection

#: Seconds that the release of a lock may take.  A server that hangs releases it when it continues.
RELEASE_SECONDS = 10.0

# The weakest mode that conflicts with itself.  It does not block pg_dump of the maintenance database.
_MODE = "ShareUpdateExclusiveLock"

_HOLDERS = """
SELECT a.pid, coalesce(a.usename, a.backend_type), coalesce(a.application_name, ''),
       coalesce(pg_catalog.host(a.client_addr), 'a local socket'), coalesce(a.xact_start, a.backend_start)
FROM pg_catalog.pg_locks l
JOIN pg_catalog.pg_stat_activity a USING (pid)
"""

# The modes that conflict with ours.  Readers do not conflict, and must not be reported as the holder.
_HOLDER = f"""{_HOLDERS}
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

# The two halves of an advisory lock's number, which has 64 bits.
_ADVISORY = """
l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
AND l.classid = (%(number)s::bigint >> 32 & 4294967295)::oid AND l.objid = (%(number)s::bigint & 4294967295)::oid
AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
"""
_ADVISORY_HOLDER = f"{_HOLDERS} WHERE {_ADVISORY} LIMIT 1"
_ADVISORY_HELD = f"""
SELECT EXISTS (SELECT FROM pg_catalog.pg_locks l WHERE l.pid = pg_catalog.pg_backend_pid() AND {_ADVISORY})
"""


@dataclasses.dataclass(frozen=True)
class Holder:
    """The session that holds a lock.

    :param role: its role, or the kind of process if it has none.
    :param application_name: what it is doing, such as ``infrazero.database backup app``.
    :param client: address of the client.
    :param since: start of its transaction; our sessions first of all take their lock.  ``None``: unknown, because only
        some roles see that of others.
    """

    pid: int
    role: str
    application_name: str
    client: str
    since: datetime.datetime | None

    def __str__(self) -> str:
        what = self.application_name or "no application name"
        text = f"server process {self.pid} (role {self.role}, {what}) from {self.client}"
        if self.since is not None:
            text += f", since {self.since.astimezone(datetime.timezone.utc):%Y-%m-%dT%H:%M:%SZ}"
        return printable(text)


class Lock:
    """A lock that is held, from :func:`database_lock`.

    :param conn: the session that holds it.
    :param relation: OID of the locked table; ``None`` on a standby, where nothing can be locked, and with *advisory*.
    :param advisory: whether it is an advisory lock.
    """

    def __init__(self, conn: Connection, name: str, relation: int | None, *, advisory: bool = False) -> None:
        self._conn = conn
        self._name = name
        self._relation = relation
        self._advisory = advisory

    def check(self) -> None:
        """Raise :class:`LockHeld` unless we still hold the lock.

        Call it before each step that others can see (a manifest, the end of a swap): while a run was suspended, its
        session may have ended and another run may have begun.
        """
        message = f"the lock of database {self._name!r} was lost"
        with translated(message, kind=LockHeld), self._conn.cursor() as cursor:
            if self._advisory:
                cursor.execute(_ADVISORY_HELD, {"number": _number(self._name)})
            elif self._relation is None:
                cursor.execute("SELECT pg_catalog.pg_is_in_recovery()")
            else:
                cursor.execute(_HELD, (_MODE, self._relation))
            row = cursor.fetchone()
        if row is not None and row[0]:
            return
        holder = holder_of(self._conn, self._name)
        raise LockHeld(
            message,
            cause="the server was a standby and has been promoted"
            if self._relation is None and not self._advisory
            else f"it is held by {holder}"
            if holder
            else "no session holds it now",
            hint="run again",
        )


def lock_table(name: str) -> str:
    """Return the table in the schema ``infrazero`` that is locked for database *name*, the same on every host."""
    return "lock_" + hashlib.sha256(b"infrazero.database\0" + name.encode("utf-8")).hexdigest()[:32]


def _number(name: str) -> int:
    """Return the number of the advisory lock of database *name*, the same on every host."""
    return int.from_bytes(bytes.fromhex(lock_table(name)[len("lock_") :])[:8], "big", signed=True)


def holder_of(conn: Connection, name: str) -> Holder | None:
    """Return who holds the lock of database *name*.  *conn* is a session in the maintenance database."""
    with translated(f"could not find out who holds the lock of database {name!r}"), conn.cursor() as cursor:
        if is_superuser(conn):
            cursor.execute(_HOLDER, (f"infrazero.{lock_table(name)}",))
        else:
            cursor.execute(_ADVISORY_HOLDER, {"number": _number(name)})
        row = cursor.fetchone()
    return Holder(*row) if row is not None else None


@contextlib.contextmanager
def database_lock(conn: Connection, name: str) -> t.Iterator[Lock]:
    """Hold the lock of database *name* until the context or the session *conn* ends.

    On a standby a superuser locks nothing, and nothing has to be locked: no database is restored there, and of two
    backups at the same time the later one detects that ``latest`` has changed.

    :param conn: a session in the maintenance database, in autocommit mode.  Do not use it for anything else: its
        transaction stays open.
    :raises LockHeld: immediately, with the holder, if another session has the lock.
    """
    advisory = not is_superuser(conn)
    relation = _acquire(conn, name)
    try:
        yield Lock(conn, name, relation, advisory=advisory)
    finally:
        # A lock that cannot be released has ended with its session.  What happened inside the context matters more.
        with contextlib.suppress(psycopg2.Error), _hurried(conn), conn.cursor() as cursor:
            cursor.execute("SELECT pg_catalog.pg_advisory_unlock_all()" if advisory else "ROLLBACK")


@contextlib.contextmanager
def _hurried(conn: Connection) -> t.Iterator[None]:
    """Shut down the session if this takes too long: we would wait forever for a server that hangs."""

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
    """Open a session in the maintenance database, while another session holds the lock of database *name*.

    :param doing: ``backup`` or ``restore``, for others that find the lock held.
    :raises LockHeld: immediately, with the holder, if another session has the lock.
    """
    application_name = f"{APPLICATION} {doing} {name}"
    with (
        contextlib.closing(connect(settings, application_name=application_name)) as holding,
        database_lock(holding, name) as held,
        contextlib.closing(connect(settings, application_name=application_name)) as conn,
    ):
        yield conn, held


def _acquire(conn: Connection, name: str) -> int | None:
    """Lock the table of database *name*, and create it if needed.

    Return its OID; ``None`` on a standby, and where the lock is an advisory one.
    """
    message = f"could not lock database {name!r}"
    privileged = is_superuser(conn)
    with translated(message), conn.cursor() as cursor:
        cursor.execute("SELECT pg_catalog.pg_is_in_recovery()")
        if cursor.fetchall()[0][0] and privileged:
            return None
    holder: Holder | None = None
    # A holder that is gone when we ask for its name has released the lock: try again.
    for _attempt in range(3):
        with translated(message), conn.cursor() as cursor:
            if privileged:
                relation = _try(cursor, name)
            else:
                cursor.execute("SELECT pg_catalog.pg_try_advisory_lock(%s)", (_number(name),))
                if cursor.fetchall()[0][0]:
                    return None
                relation = None
        if relation is not None:
            return relation
        holder = holder_of(conn, name)
        if holder is not None:
            break
    raise LockHeld(
        f"another backup or restore of database {name!r} is running",
        cause=f"its lock is held by {holder}" if holder else "its lock passes from one session to another",
        hint="wait until it has ended; if it hangs, end it with SELECT pg_terminate_backend(pid)",
    )


def _try(cursor: t.Any, name: str) -> int | None:
    """Begin a transaction that holds the lock.  Return the table's OID; ``None`` if another session has the lock."""
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
    # Not the default isolation level of the role or the database, which could keep a snapshot.
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
