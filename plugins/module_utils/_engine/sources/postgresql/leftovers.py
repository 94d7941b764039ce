# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Staging databases and throwaway roles of restores that were killed; the next run of anything removes them."""

from __future__ import annotations

import contextlib
import typing as t

from ...errors import LockHeld, PostgresError
from . import loader_role, lock, staging, state
from .connection import ConnectionSettings, connect, is_superuser

if t.TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection


def remove(admin: Connection, stage: str, role: str, restore_id: str, *, settings: ConnectionSettings) -> None:
    """Remove what a restore made for itself, and then the record of it; the lock of its database must be held."""
    staging.drop_staging(admin, stage, settings=settings)
    loader_role.drop_loader_role(admin, role)
    state.end_restore(admin, restore_id)


def remove_of(admin: Connection, database: str, *, settings: ConnectionSettings) -> None:
    """Remove what killed restores of *database* have left; its lock must be held, so nobody else works on it."""
    for record in state.restores(admin, database=database):
        remove(admin, record.stage, record.role, record.id, settings=settings)


def remove_all(settings: ConnectionSettings) -> list[str]:
    """Remove what killed restores of any database have left, each under the lock of its database.

    A database whose lock is held is passed over: it is being restored, or its next run sees to it.

    :returns: why something could not be removed.
    """
    warnings = []
    with contextlib.closing(connect(settings)) as admin:
        if not is_superuser(admin):
            return []
        names = dict.fromkeys(record.database for record in state.restores(admin))
    for name in names:
        try:
            with lock.locked_session(settings, name, doing="restore") as (admin, _held):
                remove_of(admin, name, settings=settings)
        except LockHeld:
            continue
        except PostgresError as exc:
            warnings.append(f"what a killed restore of {name!r} left behind could not be removed: {exc}")
    return warnings
