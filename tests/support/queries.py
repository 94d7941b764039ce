# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SQL in a test's own session."""

from __future__ import annotations

import typing as t

if t.TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection


def run(conn: Connection, statement: str) -> None:
    """Run *statement* and ignore its result."""
    with conn.cursor() as cursor:
        cursor.execute(statement)


def rows(conn: Connection, statement: str, *parameters: object) -> list[tuple[t.Any, ...]]:
    """Return the rows of *statement*.  Without *parameters*, a percent sign in it stands for itself."""
    with conn.cursor() as cursor:
        cursor.execute(statement, parameters or None)
        return cursor.fetchall()
