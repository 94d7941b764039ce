# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Databases that were replaced and are kept: swapped in again, or dropped.

The lock of the database that replaced them must be held wherever anything is changed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import secrets
import typing as t

from ...domain import names
from ...domain.records import OUTSTANDING, SKIPPED
from ...domain.restoring import REFUSE
from ...errors import LockHeld, PostgresError
from ..base import Kept, Swapped, nothing_kept
from . import database_settings, lock, sessions, staging, state, swap
from .connection import ConnectionSettings, connect, translated

if t.TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection

_UNKNOWN = (
    "an older release has replaced it, and has not recorded what it had been restored from: that is unknown from now on"
)


def kept(conn: Connection, database: str | None = None) -> tuple[Kept, ...]:
    """The databases that *database*, or any one, has replaced and that still exist, oldest first."""
    return tuple(
        Kept(
            name=record.name,
            database=record.database,
            replaced_at=record.replaced_at,
            drop_after=record.drop_after,
            size=staging.size_of(conn, record.name),
            sessions=len(sessions.sessions_of(conn, record.name)),
            restored_from=None
            if record.before is None or record.before.record is None
            else record.before.record.restored_from,
        )
        for record in _existing(conn, database)
    )


def _existing(conn: Connection, database: str | None) -> list[state.ReplacedRecord]:
    return [record for record in state.replaced(conn, database=database) if _is_there(conn, record)]


def _is_there(conn: Connection, record: state.ReplacedRecord) -> bool:
    """Whether the database of *record* exists; another one of its name is not it."""
    with translated(f"database {record.name!r} can't be looked up", phase="state"), conn.cursor() as cursor:
        cursor.execute("SELECT oid FROM pg_catalog.pg_database WHERE datname = %s", (record.name,))
        row = cursor.fetchone()
    return row is not None and record.oid in (None, row[0])


def undo(
    conn: Connection,
    held: lock.Lock,
    database: str,
    *,
    settings: ConnectionSettings,
    keep: datetime.timedelta,
    on_connections: t.Literal["terminate", "refuse"],
) -> Swapped:
    """Swap the database that *database* replaced last in again, and keep the present one; all or nothing.

    What was taken from the kept database when it was replaced is given back, and what was recorded of it is recorded
    again, in one transaction with the swap.

    :param keep: how long the present database is kept.
    :raises RestoreRefused: if nothing is kept, or the swap may not be done; nothing has been changed.
    """
    existing = _existing(conn, database)
    if not existing:
        raise nothing_kept(database)
    last = existing[-1]
    if on_connections == REFUSE:
        sessions.require_no_sessions(conn, last.name)
    before, warnings = last.before, []
    if before is None:
        # It has kept its owner and its privileges.
        restored = database_settings.capture(conn, last.name)
        warnings.append(f"{last.name!r}: {_UNKNOWN}")
    else:
        wanted = database_settings.DatabaseSettings.from_dict(before.settings)
        restored, warnings = database_settings.reopened(conn, last.name, wanted)

    def record(now_kept: swap.Kept | None) -> None:
        present = state.database_record(conn, database)
        state.forget_replaced(conn, last.name)
        state.put_back(conn, database, None if before is None else _settled(before))
        if now_kept is not None:
            state.record_replaced(
                conn,
                now_kept.name,
                database=database,
                keep=keep,
                oid=now_kept.oid,
                before=state.Before(now_kept.settings.as_dict(), present),
            )
        # Right before the commit: another run may be at work by now.
        held.check()

    held.check()
    with contextlib.closing(connect(settings)) as helper:
        swapped = swap.swap(
            conn,
            helper,
            database=database,
            stage=last.name,
            keep_as=names.replaced_name(database, secrets.token_hex(4)),
            owner=restored.owner,
            record=record,
            on_connections=on_connections,
            settings=restored,
            public_connect=True,
        )
    return Swapped(swapped.kept, (*warnings, *swapped.warnings))


def _settled(before: state.Before) -> t.Any:
    """What is recorded of a database that somebody has chosen: it does not wait for a restore any more."""
    record = before.record
    if record is None or record.restore != OUTSTANDING:
        return record
    return dataclasses.replace(record, restore=SKIPPED, dropped=None)


def drop(conn: Connection, database: str, name: str, *, settings: ConnectionSettings) -> None:
    """Drop the database *name*, which *database* has replaced, and forget it.

    :raises PostgresError: if it is not one of those, or can't be dropped.
    """
    for record in state.replaced(conn, database=database):
        if record.name == name:
            _drop(conn, record, settings=settings)
            return
    raise PostgresError(f"{name!r} is not a database that {database!r} has replaced", phase="drop")


def drop_expired(settings: ConnectionSettings) -> list[str]:
    """Drop the kept databases whose time is over, each under the lock of the one that replaced it.

    One whose lock is held is passed over: the next run sees to it.

    :returns: why one could not be dropped.
    """
    warnings = []
    with contextlib.closing(connect(settings)) as conn:
        expired = state.replaced(conn, expired=True)
    for record in expired:
        try:
            with lock.locked_session(settings, record.database, doing="restore") as (admin, _held):
                # It may have been swapped in again since.
                if record in state.replaced(admin, expired=True, database=record.database):
                    _drop(admin, record, settings=settings)
        except LockHeld:
            continue
        except PostgresError as exc:
            warnings.append(str(exc))
    return warnings


def _drop(conn: Connection, record: state.ReplacedRecord, *, settings: ConnectionSettings) -> None:
    if not names.is_replaced_name(record.name):
        raise PostgresError(f"{record.name!r} is not a replaced database and is not dropped", phase="drop")
    if _is_there(conn, record):
        staging.drop_with_subscriptions(conn, record.name, settings=settings)
    state.forget_replaced(conn, record.name)
