# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Whether a database can be restored in place by its user, who is not a superuser, and what that lacks (.inplace)."""

from __future__ import annotations

import contextlib
import dataclasses
import typing as t

from ...domain.restoring import REPLACE
from ...errors import RestoreRefused
from ...printing import printable
from ...settings import name_for_errors
from . import extensions
from .connection import ConnectionSettings, connect, translated

if t.TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection

    from ...domain import manifest
    from ...domain.databases import Database
    from ...domain.restoring import RestoreOptions

_NAMED = 5

# What initdb and extensions have created is not anybody's own.  The owner of the schema public may be anybody.
_OF_OTHERS = """
WITH objects AS (
    SELECT 'pg_catalog.pg_class'::regclass AS catalog, oid, relowner AS owner, relnamespace AS schema
    FROM pg_catalog.pg_class WHERE relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND relpersistence <> 't'
    UNION ALL SELECT 'pg_catalog.pg_proc'::regclass, oid, proowner, pronamespace FROM pg_catalog.pg_proc
    UNION ALL SELECT 'pg_catalog.pg_type'::regclass, oid, typowner, typnamespace FROM pg_catalog.pg_type
              WHERE typrelid = 0 AND typelem = 0
    UNION ALL SELECT 'pg_catalog.pg_operator'::regclass, oid, oprowner, oprnamespace FROM pg_catalog.pg_operator
    UNION ALL SELECT 'pg_catalog.pg_namespace'::regclass, oid, nspowner, oid FROM pg_catalog.pg_namespace
              WHERE nspname <> 'public'
    UNION ALL SELECT 'pg_catalog.pg_largeobject'::regclass, oid, lomowner, 0 FROM pg_catalog.pg_largeobject_metadata
    UNION ALL SELECT 'pg_catalog.pg_publication'::regclass, oid, pubowner, 0 FROM pg_catalog.pg_publication
    UNION ALL SELECT 'pg_catalog.pg_foreign_server'::regclass, oid, srvowner, 0 FROM pg_catalog.pg_foreign_server
)
SELECT pg_catalog.pg_describe_object(o.catalog, o.oid, 0), pg_catalog.pg_get_userbyid(o.owner)::text
FROM objects o
WHERE o.oid >= 16384 AND o.owner <> (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = session_user)
  AND o.schema NOT IN (SELECT oid FROM pg_catalog.pg_namespace
                       WHERE nspname ~ '^pg_' OR nspname = 'information_schema')
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                  WHERE d.classid = o.catalog AND d.objid = o.oid AND d.deptype = 'e')
ORDER BY 1
"""

# Those that would go with a schema, or with what they depend on.
_EXTENSIONS = """
SELECT e.extname::text, n.nspowner = r.oid AND n.nspname <> 'public'
FROM pg_catalog.pg_extension e
JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace
JOIN pg_catalog.pg_roles r ON r.rolname = session_user
ORDER BY 1
"""

_LOCKS = """
SELECT current_setting('max_locks_per_transaction')::int
       * (current_setting('max_connections')::int + current_setting('max_prepared_transactions')::int),
       (SELECT count(*) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_roles r ON r.oid = c.relowner
        WHERE r.rolname = session_user)
"""
#: Of a table that a restore creates: the table, its TOAST table with an index, and an index of its own.
_LOCKS_OF_A_TABLE = 4


@dataclasses.dataclass(frozen=True)
class Found:
    """What is in the way, and what a restore in place lacks.

    :param refusal: why it can't be done; ``None``: it can.
    """

    refusal: RestoreRefused | None
    warnings: tuple[str, ...] = ()


def find(
    admin: Connection,
    database: Database,
    part: manifest.Part | None,
    options: RestoreOptions,
    *,
    settings: ConnectionSettings,
) -> Found:
    """Find out whether the connected role can restore *database* in place.

    :param admin: its session in the maintenance database.
    """
    name, user = database.name, database.user
    with translated(f"could not look at database {name!r}"), admin.cursor() as cursor:
        cursor.execute(
            "SELECT pg_catalog.pg_get_userbyid(datdba)::text, pg_catalog.pg_encoding_to_char(encoding)"
            " FROM pg_catalog.pg_database WHERE datname = %s",
            (name,),
        )
        row = cursor.fetchone()
    if settings.user != user:
        return _refused(
            name,
            f"{settings.user!r} is not a superuser, and restores only what is its own",
            f"connect as {user!r} ({name_for_errors('connection', 'user')})",
        )
    if options.as_name is not None:
        return _refused(name, f"{user!r} can't create a database for a copy", "connect as a superuser")
    if options.tables:
        # They would take the place of everything.
        return _refused(name, f"{user!r} can't create a database for single tables", "connect as a superuser")
    if row is None:
        return _refused(
            name,
            f"there is no such database, and {user!r} is not a superuser who creates it",
            f"have it created: CREATE DATABASE {name} OWNER {user}",
        )
    owner, encoding = row
    if owner != user:
        return _refused(name, f"it belongs to {owner!r}", f"ALTER DATABASE {name} OWNER TO {user}")
    if options.strategy == REPLACE:
        return _refused(
            name,
            f"{user!r} can't drop and create it",
            f"leave {name_for_errors('restore', 'strategy')} at its default",
        )
    with contextlib.closing(connect(settings, database=name)) as conn:
        return _inside(conn, database, part, encoding)


def _inside(conn: Connection, database: Database, part: manifest.Part | None, encoding: str) -> Found:
    name, user = database.name, database.user
    with translated(f"could not look into database {name!r}"), conn.cursor() as cursor:
        cursor.execute(_OF_OTHERS)
        others = [f"{what} of {owner!r}" for what, owner in cursor.fetchall()]
        cursor.execute(_EXTENSIONS)
        present = dict(cursor.fetchall())
        cursor.execute(_LOCKS)
        locks, relations = cursor.fetchall()[0]
    if others:
        return _refused(
            name,
            f"it has objects of other owners, which could be dropped with those of {user!r}: {_some(others)}",
            f"drop them, or give them to {user!r}",
        )
    available = extensions.available(conn)
    by_user = {one for one, extension in available.items() if extension.by_anyone}
    stuck = [one for one, goes in present.items() if goes and one not in by_user]
    if stuck:
        return _refused(
            name,
            f"extensions are in schemas of {user!r}, who could not create them again: {_some(stuck)}",
            "have them moved to another schema (ALTER EXTENSION ... SET SCHEMA public)",
        )
    wanted = [one.name for one in (part.extensions if part is not None else None) or ()]
    missing = [one for one in wanted if one not in present and one not in by_user]
    if missing:
        return _refused(
            name,
            f"only a superuser can create the extensions that the backup needs: {_some(missing)}",
            "have them created in this database first (CREATE EXTENSION), with the means of the server's provider",
        )
    method = (
        f"{user!r} is not a superuser, so {name!r} is restored in place, in one transaction: other sessions wait for"
        " its tables until it ends, what is replaced is not kept and can't be brought back (undo), and nothing is"
        " recorded in the cluster"
    )
    warnings = [method]
    said = None if part is None else part.encoding
    if said not in (None, encoding):
        warnings.append(f"the backup has the encoding {said}, the database keeps its own: {encoding}")
    needed = relations + _LOCKS_OF_A_TABLE * len((part.tables if part is not None else None) or ())
    if needed > locks:
        warnings.append(
            f"the transaction needs about {needed} locks, and the server has room for {locks}: if it fails for lack of"
            " shared memory, raise max_locks_per_transaction"
        )
    return Found(None, tuple(map(printable, warnings)))


def _refused(name: str, cause: str, hint: str) -> Found:
    return Found(
        RestoreRefused(
            f"{name!r} can't be restored with this role",
            cause=printable(cause),
            hint=printable(f"nothing was changed: {hint}"),
        )
    )


def _some(names: t.Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
