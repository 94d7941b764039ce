# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""One backup or restore of a database at a time, whichever host it is started on.

The lock is an advisory lock of the server, held by a session in the maintenance database: it ends with that session,
so a killed run leaves nothing behind and nothing has to be judged stale.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import hashlib
import typing as t

from ..errors import LockHeld
from .connection import APPLICATION, ConnectionSettings, connect, translated

try:
    import psycopg2.extensions
except ImportError:
    psycopg2 = None  # type: ignore[assignment]

if t.TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection

# pg_locks shows the two halves of the key as classid and objid, and objsubid 1 for a key of 64 bits.
_HOLDER = """
SELECT a.pid, coalesce(a.application_name, ''), coalesce(host(a.client_addr), 'a local socket'), a.backend_start
FROM pg_catalog.pg_locks l
JOIN pg_catalog.pg_stat_activity a USING (pid)
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
  AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
  AND l.classid = (%(high)s::bigint)::oid AND l.objid = (%(low)s::bigint)::oid
"""


@dataclasses.dataclass(frozen=True)
class Holder:
    """The session that holds a lock.

    :param application_name: says what it is doing: ``infrazero.database backup app``.
    :param client: its address.
    :param since: when the session began; ours take their lock first of all.
    """

    pid: int
    application_name: str
    client: str
    since: datetime.datetime

    def __str__(self) -> str:
        what = self.application_name or "no application name"
        since = self.since.astimezone(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        return f"server process {self.pid} ({what}) from {self.client}, since {since}"


class Lock:
    """A lock that is held; given by :func:`database_lock`."""

    def __init__(self, conn: Connection, name: str, key: int) -> None:
        self._conn = conn
        self._name = name
        self._key = key

    def check(self) -> None:
        """Raise :class:`LockHeld` unless the lock is still ours.

        To be called before the steps that others see (a manifest, a swap): a run that was stopped for a while may
        find its session ended and another run at work.
        """
        with translated(f"the lock of database {self._name!r} was lost", kind=LockHeld), self._conn.cursor() as cursor:
            cursor.execute("SELECT pg_catalog.pg_backend_pid()")
            row = cursor.fetchone()
        holder = holder_of(self._conn, self._name)
        if row is None or holder is None or holder.pid != row[0]:
            raise LockHeld(
                f"the lock of database {self._name!r} was lost",
                cause=f"it is held by {holder}" if holder else "nobody holds it any more",
                hint="run again",
            )


def lock_key(name: str) -> int:
    """The key of a database's lock: 64 bits, signed, the same on every host and in every release."""
    digest = hashlib.sha256(b"infrazero.database\0" + name.encode("utf-8")).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


def holder_of(conn: Connection, name: str) -> Holder | None:
    """Who holds the lock of database *name*, seen from a session in the maintenance database."""
    key = lock_key(name) & 0xFFFFFFFFFFFFFFFF
    with translated(f"could not see who holds the lock of database {name!r}"), conn.cursor() as cursor:
        cursor.execute(_HOLDER, {"high": key >> 32, "low": key & 0xFFFFFFFF})
        row = cursor.fetchone()
    return Holder(*row) if row is not None else None


@contextlib.contextmanager
def database_lock(conn: Connection, name: str) -> t.Iterator[Lock]:
    """Hold the lock of database *name* as long as the context, or as *conn* lives.

    :param conn: a session in the maintenance database.  It keeps the lock across transactions, and should begin for
        this work: its start is what others are told as "since".
    :raises LockHeld: at once, naming the holder, when somebody has it.
    """
    key = lock_key(name)
    _acquire(conn, name, key)
    try:
        yield Lock(conn, name, key)
    finally:
        _release(conn, key)


@contextlib.contextmanager
def locked_session(settings: ConnectionSettings, name: str, *, doing: str) -> t.Iterator[tuple[Connection, Lock]]:
    """A session of its own in the maintenance database that holds the lock of database *name* as long as it lives.

    :param doing: ``backup`` or ``restore``: what others are told when they find the lock held.
    :raises LockHeld: at once, naming the holder, when somebody has it.
    """
    session = contextlib.closing(connect(settings, application_name=f"{APPLICATION} {doing} {name}"))
    with session as conn, database_lock(conn, name) as held:
        yield conn, held


def _acquire(conn: Connection, name: str, key: int) -> None:
    holder: Holder | None = None
    # A holder that is gone when we look for its name has let go of the lock: try once more.
    for _attempt in range(3):
        with translated(f"could not lock database {name!r}"), conn.cursor() as cursor:
            cursor.execute("SELECT pg_catalog.pg_try_advisory_lock(%s)", (key,))
            row = cursor.fetchone()
        if row is not None and row[0]:
            return
        holder = holder_of(conn, name)
        if holder is not None:
            break
    raise LockHeld(
        f"another backup or restore of database {name!r} is running",
        cause=f"its lock is held by {holder}" if holder else "its lock changes hands",
        hint="wait until it has ended; if it hangs, end it with SELECT pg_terminate_backend(pid)",
    )


def _release(conn: Connection, key: int) -> None:
    if conn.closed:
        return
    # A lock that can't be released any more went with its session; what happened inside the context matters more.
    with contextlib.suppress(psycopg2.Error):
        if conn.info.transaction_status == psycopg2.extensions.TRANSACTION_STATUS_INERROR:
            conn.rollback()
        with conn.cursor() as cursor:
            cursor.execute("SELECT pg_catalog.pg_advisory_unlock(%s)", (key,))
