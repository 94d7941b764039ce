# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The swap: a staging database takes the place of the database that it was restored for."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import typing as t

from ...errors import PostgresError, RestoreRefused
from .connection import transaction, translate, translated
from .database_settings import DatabaseSettings, apply, close, without_public_connect
from .sessions import Session, in_use, sessions_of

try:
    import psycopg2
    import psycopg2.errors
    from psycopg2 import sql
except ImportError:
    psycopg2 = None  # type: ignore[assignment]
    sql = None  # type: ignore[assignment]

if t.TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection

#: How long a swap waits for somebody else's lock on one of the databases, and for sessions to end.
LOCK_TIMEOUT = "10s"

#: A client that is stopped in the middle of a swap loses it after this time, so that nobody waits for it for ever.
IDLE_TIMEOUT = "60s"

_SWAP_ATTEMPTS = 3
_TERMINATE_EVERY = 0.05  # seconds; the server looks every 0.1 s whether a database is unused


@dataclasses.dataclass(frozen=True)
class Kept:
    """A database that was replaced.  Only superusers can connect to it.

    :param name: that it has now.
    :param settings: what belonged to it before it was closed.
    """

    name: str
    oid: int
    settings: DatabaseSettings


@dataclasses.dataclass(frozen=True)
class SwapResult:
    """What a swap did.

    :param kept: the name that the replaced database has now, ``None`` where there was none.
    :param sessions: those in the replaced database when the swap began; they were ended.
    :param warnings: what the operator should know of.
    """

    kept: str | None
    sessions: tuple[Session, ...]
    warnings: tuple[str, ...]


_TERMINATE = """
SELECT pg_catalog.pg_terminate_backend(pid)
FROM pg_catalog.pg_stat_activity
WHERE datid = ANY(%s) AND backend_type <> 'autovacuum worker'
"""

_LOCK_HOLDERS = """
SELECT a.pid, coalesce(a.usename, a.backend_type), coalesce(a.application_name, ''),
       coalesce(pg_catalog.host(a.client_addr), 'a local socket'), coalesce(a.state, a.backend_type)
FROM pg_catalog.pg_locks l
JOIN pg_catalog.pg_stat_activity a USING (pid)
WHERE l.granted AND l.locktype = 'object' AND l.classid = 1262 AND l.objid = ANY(%s)
"""


def swap(
    conn: Connection,
    helper: Connection,
    *,
    database: str,
    stage: str,
    keep_as: str,
    owner: str,
    record: t.Callable[[Kept | None], None],
    on_connections: t.Literal["terminate", "refuse"] = "terminate",
    settings: DatabaseSettings | None = None,
    carries: bool = True,
    public_connect: bool = False,
) -> SwapResult:
    """Swap *stage* in for *database*, which is kept as *keep_as*; all or nothing.

    One transaction renames both, closes the replaced database, gives the staging database to *owner*, gives it what
    belonged to the replaced one (read at that very moment) and calls *record*.  Until it commits only a superuser can
    connect to the new database, and from then on only a superuser to the replaced one.  If the client, the server or
    the host is killed in its middle, the old database stays in its place and open.

    The first rename takes the server's exclusive lock of the database and then waits until nobody is connected: new
    sessions wait for the lock, and *helper* meanwhile ends those that are there, again and again.  A client that
    connects during the swap waits a moment and then gets the error that the database "has just been renamed"; its next
    attempt reaches the new one.

    The kept database belongs to the administrator, who can look up, salvage or dump rows, see
    :func:`.database_settings.close`: neither its former owner nor anybody else can connect, nor get the privilege back.
    What it had is passed to *record*.  Where there is no old database the staging database is only renamed.

    :param conn: not in a transaction.
    :param helper: another autocommit connection to the maintenance database, which only ends sessions.
    :param owner: of the new database.
    :param record: writes the state, with *conn*, in the same transaction, and last of all checks the database's lock,
        so that a lost lock is a lost swap; it gets the replaced database, ``None`` where there was none.
    :param on_connections: ``refuse``: sessions in the old database are an error that names them.
    :param settings: for the new database, instead of those of the old one.
    :param carries: whether the new database gets what belonged to the old one.
    :param public_connect: whether every role may connect to the new database, where every role could to the old one.
        Otherwise a warning says that they no longer can.
    :raises RestoreRefused: sessions with ``refuse``, or prepared transactions; nothing has been changed.
    """
    old, new = _oid(conn, database), _oid(conn, stage)
    if new is None:
        raise PostgresError(f"the database {stage!r} is gone", phase="swap")
    for each in (database, stage):
        _refuse_prepared(conn, each)
    sessions = sessions_of(conn, database)
    if sessions and on_connections == "refuse":
        raise in_use(database, sessions)
    targets = [oid for oid in (new, old if on_connections == "terminate" else None) if oid is not None]

    def attempt() -> DatabaseSettings | None:
        with transaction(conn), conn.cursor() as cursor:
            cursor.execute(
                "SET LOCAL lock_timeout = %s; SET LOCAL idle_in_transaction_session_timeout = %s",
                (LOCK_TIMEOUT, IDLE_TIMEOUT),
            )
            carried = settings
            kept: Kept | None = None
            with _ending_sessions(helper, targets):
                if old is not None:
                    _rename(cursor, database, keep_as)
                    kept = Kept(keep_as, old, close(conn, keep_as))
                    carried = settings or (kept.settings if carries else None)
                _rename(cursor, stage, database)
            # What comes next has the new owner's name in it.
            cursor.execute(
                sql.SQL("ALTER DATABASE {} OWNER TO {}").format(sql.Identifier(database), sql.Identifier(owner))
            )
            if carried is not None:
                apply(conn, database, carried if public_connect else without_public_connect(carried))
            record(kept)
        return carried

    carried = _attempted(
        attempt,
        conn,
        message=f"{stage!r} can't take the place of {database!r}",
        refuses=database if on_connections == "refuse" and old is not None else None,
        oids=[oid for oid in (old, new) if oid is not None],
    )
    warnings: list[str] = []
    if carried is not None and not public_connect and carried != without_public_connect(carried):
        warnings.append(public_connect_left_out(database))
    if old is not None:
        try:
            warnings += _left_behind(conn, old, keep_as)
        except PostgresError as exc:
            # The swap itself is done, and must not look like a failure.
            warnings.append(str(exc))
    return SwapResult(kept=keep_as if old is not None else None, sessions=sessions, warnings=tuple(warnings))


def _attempted(
    attempt: t.Callable[[], DatabaseSettings | None],
    conn: Connection,
    *,
    message: str,
    refuses: str | None,
    oids: t.Sequence[int],
) -> DatabaseSettings | None:
    """The result of *attempt*, which is repeated while sessions come back to the databases.

    :param refuses: the database whose sessions must not be ended; ``None``: all of them may be.
    :param oids: of the databases whose locks somebody else may hold.
    """
    for left in reversed(range(_SWAP_ATTEMPTS)):
        try:
            return attempt()
        except psycopg2.errors.ObjectInUse as exc:
            if refuses is not None:
                raise in_use(refuses, sessions_of(conn, refuses)) from None
            if not left:
                raise translate(exc, message, phase="swap") from None
        except psycopg2.errors.LockNotAvailable as exc:
            error = translate(exc, message, phase="swap")
            error.hint = _lock_holders(conn, oids) or error.hint
            raise error from None
        except psycopg2.Error as exc:
            raise translate(exc, message, phase="swap") from None
    raise AssertionError("the last attempt returns or raises")


def public_connect_left_out(database: str) -> str:
    """The warning that not every role may connect to *database* any more."""
    return (
        f"the privilege CONNECT of PUBLIC on {database!r} was left out: until now every role of the cluster could"
        " connect. Grant it to the roles that need it (GRANT CONNECT ON DATABASE ... TO ...), or restore with"
        " public_connect"
    )


def _rename(cursor: t.Any, name: str, to: str) -> None:
    cursor.execute(sql.SQL("ALTER DATABASE {} RENAME TO {}").format(sql.Identifier(name), sql.Identifier(to)))


def _oid(conn: Connection, database: str) -> int | None:
    with translated(f"database {database!r} can't be looked up", phase="swap"), conn.cursor() as cursor:
        cursor.execute("SELECT oid FROM pg_catalog.pg_database WHERE datname = %s", (database,))
        row = cursor.fetchone()
    return row[0] if row is not None else None


def _refuse_prepared(conn: Connection, database: str) -> None:
    with translated("prepared transactions can't be listed", phase="swap"), conn.cursor() as cursor:
        cursor.execute(
            "SELECT gid, owner, prepared::text FROM pg_catalog.pg_prepared_xacts WHERE database = %s ORDER BY prepared",
            (database,),
        )
        prepared = cursor.fetchall()
    if prepared:
        raise RestoreRefused(
            f"database {database!r} has prepared transactions, which would be lost",
            phase="swap",
            cause="; ".join(f"{gid!r} of {owner}, since {since}" for gid, owner, since in prepared),
            hint="end them with COMMIT PREPARED or ROLLBACK PREPARED in that database",
        )


def _lock_holders(conn: Connection, oids: t.Sequence[int]) -> str:
    with translated("holders of locks can't be listed", phase="swap"), conn.cursor() as cursor:
        cursor.execute(_LOCK_HOLDERS, (list(oids),))
        holders = [Session(*row) for row in cursor.fetchall()]
    return "somebody holds a lock on the database: " + "; ".join(map(str, holders)) if holders else ""


def _left_behind(conn: Connection, oid: int, kept: str) -> t.Iterator[str]:
    """What goes on in the kept database, or is missing in its successor, and nobody sees."""
    with translated(f"replication of {kept!r} can't be described", phase="swap"), conn.cursor() as cursor:
        cursor.execute(
            "SELECT subname FROM pg_catalog.pg_subscription WHERE subdbid = %s AND subenabled ORDER BY 1", (oid,)
        )
        for (name,) in cursor.fetchall():
            yield f"subscription {name!r} stays with the replaced database {kept!r} and goes on filling it"
        cursor.execute("SELECT slot_name FROM pg_catalog.pg_replication_slots WHERE datoid = %s ORDER BY 1", (oid,))
        for (name,) in cursor.fetchall():
            yield f"replication slot {name!r} stays with the replaced database {kept!r} and keeps its WAL"


@contextlib.contextmanager
def _ending_sessions(helper: Connection, oids: t.Sequence[int]) -> t.Iterator[None]:
    """End the sessions in the databases *oids*, again and again, as long as the context lasts."""
    done = threading.Event()
    failures: list[psycopg2.Error] = []

    def work() -> None:
        try:
            with helper.cursor() as cursor:
                while not done.is_set():
                    cursor.execute(_TERMINATE, (list(oids),))
                    done.wait(_TERMINATE_EVERY)
        except psycopg2.Error as exc:
            failures.append(exc)

    thread = threading.Thread(target=work, name="end-sessions", daemon=True)
    thread.start()
    try:
        yield
    except psycopg2.errors.ObjectInUse:
        done.set()
        thread.join()
        if failures:
            raise translate(failures[0], "sessions can't be ended", phase="swap") from None
        raise
    finally:
        done.set()
        thread.join()
