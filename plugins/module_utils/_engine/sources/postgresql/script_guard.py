# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Lets the script of an extension run in a superuser's session only where it cannot call objects of the dump."""

from __future__ import annotations

import contextlib
import typing as t

from ...errors import LoadError
from .connection import translated

try:
    from psycopg2 import sql
except ImportError:
    sql = None  # type: ignore[assignment]

if t.TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection

#: Rows of catalogs that decide what a superuser's script runs, as far as they belong to roles that are not superusers:
#: functions, operators, types and relations, and what is attached to these and may call a function.  A change gives a
#: row another xmin; only the figures of VACUUM and ANALYZE are changed in place.
_FOREIGN_ROWS = """
WITH objects AS (
    SELECT s.classid, s.objid
    FROM pg_catalog.pg_shdepend s
    JOIN pg_catalog.pg_roles r ON r.oid = s.refobjid
    WHERE s.deptype = 'o' AND s.refclassid = 'pg_catalog.pg_authid'::regclass
      AND (r.rolname = %(loader)s OR NOT r.rolsuper)
      AND s.dbid = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())
      AND (%(extension)s IS NULL OR EXISTS (
        SELECT FROM pg_catalog.pg_depend m JOIN pg_catalog.pg_extension e ON e.oid = m.refobjid
        WHERE m.refclassid = 'pg_catalog.pg_extension'::regclass AND e.extname = %(extension)s
          AND m.deptype = 'e' AND m.classid = s.classid AND m.objid = s.objid))
), types AS (
    SELECT objid FROM objects WHERE classid = 'pg_catalog.pg_type'::regclass
), relations AS (
    SELECT objid FROM objects WHERE classid = 'pg_catalog.pg_class'::regclass
    UNION
    -- The columns of composite types.
    SELECT y.typrelid FROM pg_catalog.pg_type y JOIN types ON objid = y.oid WHERE y.typrelid <> 0
)
SELECT c.tableoid::text, c.oid::text, c.xmin::text
FROM pg_catalog.pg_proc c JOIN objects ON classid = c.tableoid AND objid = c.oid
UNION ALL SELECT c.tableoid::text, c.oid::text, c.xmin::text
FROM pg_catalog.pg_operator c JOIN objects ON classid = c.tableoid AND objid = c.oid
UNION ALL SELECT c.tableoid::text, c.oid::text, c.xmin::text FROM pg_catalog.pg_type c JOIN types ON objid = c.oid
UNION ALL SELECT c.tableoid::text, c.oid::text, c.xmin::text FROM pg_catalog.pg_class c JOIN relations ON objid = c.oid
UNION ALL SELECT c.tableoid::text, c.attrelid || '.' || c.attnum, c.xmin::text
FROM pg_catalog.pg_attribute c JOIN relations ON objid = c.attrelid
UNION ALL SELECT c.tableoid::text, c.oid::text, c.xmin::text
FROM pg_catalog.pg_attrdef c JOIN relations ON objid = c.adrelid
UNION ALL SELECT c.tableoid::text, c.oid::text, c.xmin::text
FROM pg_catalog.pg_constraint c
WHERE c.conrelid IN (SELECT objid FROM relations) OR c.contypid IN (SELECT objid FROM types)
UNION ALL SELECT c.tableoid::text, c.indexrelid::text, c.xmin::text
FROM pg_catalog.pg_index c JOIN relations ON objid = c.indrelid
UNION ALL SELECT c.tableoid::text, c.oid::text, c.xmin::text
FROM pg_catalog.pg_rewrite c JOIN relations ON objid = c.ev_class
UNION ALL SELECT c.tableoid::text, c.oid::text, c.xmin::text
FROM pg_catalog.pg_trigger c JOIN relations ON objid = c.tgrelid
UNION ALL SELECT c.tableoid::text, c.oid::text, c.xmin::text
FROM pg_catalog.pg_policy c JOIN relations ON objid = c.polrelid
"""


class ScriptGuard:
    """What the throwaway role has in the staging database when a superuser's session runs a script there.

    pg_dump writes extensions before everything but schemas, collations and the like, so a dump owns nothing then that a
    script could call, apart from the members of extensions that anybody may create: those belong to the role that
    created them, which may replace them.  They are accepted as long as they are as their own script left them.

    :param conn: the administrator's autocommit session in the staging database.
    :param loader: the throwaway role.
    """

    def __init__(self, conn: Connection, *, loader: str) -> None:
        self._conn = conn
        self._loader = loader
        self._accepted: set[tuple[str, str, str]] = set()

    def accept(self, extension: str) -> None:
        """Accept the members of *extension* as they are.

        Only in the transaction that creates it: nobody else can have changed them yet.
        """
        self._accepted |= self._rows(extension)

    @contextlib.contextmanager
    def alone(self, message: str) -> t.Iterator[None]:
        """Run a script while nobody but the waiting loader is connected.

        Others could create objects meanwhile: before PostgreSQL 16 a dump can let them act as its role.
        """
        limit = sql.SQL("ALTER DATABASE {} CONNECTION LIMIT {}")
        with translated(message, kind=LoadError), self._conn.cursor() as cursor:
            cursor.execute("SELECT pg_catalog.current_database()")
            stage = sql.Identifier(cursor.fetchall()[0][0])
            # The limit does not apply to superusers.  The dump's own session waits for us.
            cursor.execute(limit.format(stage, sql.Literal(0)))
            try:
                self._refuse_strangers(message)
                self._refuse_hijacking(message)
                yield
            finally:
                cursor.execute(limit.format(stage, sql.Literal(-1)))

    def _refuse_strangers(self, message: str) -> None:
        with self._conn.cursor() as cursor:
            cursor.execute(
                "SELECT FROM pg_catalog.pg_stat_activity WHERE datname = pg_catalog.current_database()"
                " AND backend_type = 'client backend' AND pid <> pg_catalog.pg_backend_pid()"
                " GROUP BY datname HAVING pg_catalog.count(*) > 1 OR pg_catalog.max(usename::text) <> %s",
                (self._loader,),
            )
            strangers = cursor.fetchone() is not None
        if strangers:
            raise LoadError(
                message,
                cause="somebody else is connected to the database that is being restored, and could change what the"
                " extension's script does as superuser",
                hint="find out who it is: a dump lets others in only on purpose",
            )

    def _refuse_hijacking(self, message: str) -> None:
        if self._rows() - self._accepted:
            raise LoadError(
                message,
                cause="the dump has created functions, operators, types or tables before the extension, or changed"
                " those of another extension, and the extension's script could call them as superuser",
                hint="pg_dump never writes this order: check where the dump comes from, or move CREATE EXTENSION to its"
                " beginning",
            )

    def _rows(self, extension: str | None = None) -> set[tuple[str, str, str]]:
        """Return what :data:`_FOREIGN_ROWS` finds; of the members of *extension* only, if it is given."""
        with self._conn.cursor() as cursor:
            cursor.execute(_FOREIGN_ROWS, {"loader": self._loader, "extension": extension})
            return set(cursor.fetchall())
