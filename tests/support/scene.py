# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests of the use cases have in common: databases of a list, with keys, roles and rows."""

from __future__ import annotations

import contextlib
import typing as t

import pyrage
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.databases import Database
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.secret import Secret
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.connection import connect
from psycopg2 import sql

from . import sampledata

if t.TYPE_CHECKING:
    from .cluster import Cluster


def entry(name: str, user: str | None = None, **changes: t.Any) -> Database:
    """An entry of the list with a key pair of its own."""
    identity = pyrage.x25519.Identity.generate()
    values: dict[str, t.Any] = {
        "name": name,
        "user": user or name,
        "password": Secret(f"password of {user or name}"),
        "recipients": (str(identity.to_public()),),
        "identity": Secret(str(identity)),
        **changes,
    }
    return Database(**values)


def key_of(database: Database) -> str:
    """Return the private key of an entry."""
    assert database.identity is not None
    return database.identity.reveal()


def make(cluster: Cluster, database: Database, *scripts: str) -> None:
    """Role and database of *database* as a bootstrap makes them, and what *scripts* make in it as its user."""
    with contextlib.closing(connect(cluster.settings)) as conn, conn.cursor() as cursor:
        cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (database.user,))
        if cursor.fetchone() is None:
            cursor.execute(
                sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(
                    sql.Identifier(database.user), sql.Literal(database.password.reveal())
                )
            )
        cursor.execute(
            sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(database.name), sql.Identifier(database.user))
        )
        cursor.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(sql.Identifier(database.name)))
    for script in scripts:
        with contextlib.closing(connect(cluster.settings, database=database.name)) as conn, conn.cursor() as cursor:
            cursor.execute(
                sql.SQL("SET SESSION AUTHORIZATION {}; SET search_path = public; ").format(
                    sql.Identifier(database.user)
                )
                + sql.SQL(script.replace("{", "{{").replace("}", "}}"))
            )


def fill(cluster: Cluster, database: Database) -> None:
    """Realistic rows, and rows that look like commands."""
    with contextlib.closing(connect(cluster.settings, database=database.name)) as conn:
        sampledata.shop(conn, orders=500)
        sampledata.pretender(conn)
        sampledata.ledger(conn, bookings=500)


def rows(cluster: Cluster, database: Database) -> dict[str, tuple[int, str]]:
    """Rows and digests of all its tables, made by the server alone."""
    with contextlib.closing(connect(cluster.settings, database=database.name)) as conn:
        return sampledata.fingerprint(conn)
