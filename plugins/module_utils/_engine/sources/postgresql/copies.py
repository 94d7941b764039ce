# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Copies that restores have made beside a database: which names they may have, and when they are dropped."""

from __future__ import annotations

import contextlib
import typing as t

from ...errors import LockHeld, PostgresError, RestoreRefused
from . import lock, staging, state
from .connection import ConnectionSettings, connect, translated

if t.TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection


def require_name(conn: Connection, name: str) -> None:
    """Raise RestoreRefused unless no database is called *name*, or only a copy that a restore has made."""
    with translated(f"database {name!r} can't be looked up", phase="plan"), conn.cursor() as cursor:
        cursor.execute("SELECT FROM pg_catalog.pg_database WHERE datname = %s", (name,))
        is_free = cursor.fetchone() is None
    if not is_free:
        require_own(conn, name, called=name)


def require_own(conn: Connection, name: str, *, called: str) -> None:
    """Raise RestoreRefused unless the database *called* is the copy that is recorded as *name*.

    :param called: the name that the database has at the moment.
    """
    with translated(f"database {called!r} can't be looked up", phase="plan"), conn.cursor() as cursor:
        cursor.execute("SELECT oid FROM pg_catalog.pg_database WHERE datname = %s", (called,))
        rows = cursor.fetchall()
    if [(state.copy_oid(conn, name),)] != rows:
        raise RestoreRefused(
            f"a copy cannot be called {name!r}",
            phase="plan",
            cause="there is a database of this name, and no restore has made it as a copy",
            hint="choose another name; nothing was changed",
        )


def adopt(conn: Connection, listed: t.Iterable[str]) -> None:
    """Forget that databases of the list were copies: they are never dropped or replaced as such."""
    declared = {record.name for record in state.copies(conn)} & set(listed)
    if declared:
        state.forget_copies(conn, declared)


def drop_expired(settings: ConnectionSettings, listed: t.Collection[str]) -> list[str]:
    """Drop the copies whose time is over, each under the lock of its name.

    A copy whose lock is held is passed over: it is being replaced.

    :param listed: databases of the list; none of them is a copy any more.
    :returns: why one could not be dropped.
    """
    warnings = []
    expired: list[str] = []
    try:
        with contextlib.closing(connect(settings)) as admin:
            adopt(admin, listed)
            expired = [record.name for record in state.copies(admin, expired=True)]
    except PostgresError as exc:
        warnings.append(str(exc))
    for name in expired:
        try:
            with lock.locked_session(settings, name, doing="restore") as (admin, _held):
                if any(record.name == name for record in state.copies(admin, expired=True)):
                    staging.drop_with_subscriptions(admin, name, settings=settings)
                    state.forget_copies(admin, [name])
        except LockHeld:
            continue
        except PostgresError as exc:
            warnings.append(str(exc))
    return warnings
