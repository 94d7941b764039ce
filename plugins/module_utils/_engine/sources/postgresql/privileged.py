# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Lists the objects of a database that only a superuser can have created.

The list comes from the catalogs and not from the text of a dump, whose author may be a tenant: nobody can get an object
onto it without having been a superuser.  A restore creates what is on the list, and nothing else, as a superuser (see
:mod:`.definer`).
"""

from __future__ import annotations

import hashlib
import typing as t

from .catalog_digests import FIRST_USER_OID, SETTINGS, Described, Digests
from .connection import translated
from .dumptext.preamble import PrivilegedObject

if t.TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection

#: The kind of an entry for a library from which functions of the list come; its identity is the library's path.
LIBRARY = "library"

# Kinds that an administrator always keeps.
_KEPT = frozenset({"foreign-data wrapper", "language"})

_NOT_OF_THE_SYSTEM = f"o.oid >= {FIRST_USER_OID}"
_NOT_OF_AN_EXTENSION = """NOT EXISTS (
    SELECT FROM pg_catalog.pg_depend d
    WHERE d.classid = 'pg_catalog.{catalog}'::pg_catalog.regclass AND d.objid = o.oid AND d.deptype = 'e')"""
# Members of operator families belong to an extension through their family or operator class.
_NOT_OF_AN_EXTENSIONS_FAMILY = """NOT EXISTS (
    SELECT FROM pg_catalog.pg_depend d
    JOIN pg_catalog.pg_depend e ON e.classid = d.refclassid AND e.objid = d.refobjid AND e.deptype = 'e'
    WHERE d.classid = 'pg_catalog.{catalog}'::pg_catalog.regclass AND d.objid = o.oid
      AND d.refclassid IN ('pg_catalog.pg_opclass'::pg_catalog.regclass,
                           'pg_catalog.pg_opfamily'::pg_catalog.regclass))"""
# pg_dump leaves out what a superuser has put into the system's schemas.
_SCHEMA = """o.{column} NOT IN (
    SELECT n.oid FROM pg_catalog.pg_namespace n WHERE n.nspname ~ '^pg_' OR n.nspname = 'information_schema')"""
_SCHEMAS = {
    "pg_proc": "pronamespace",
    "pg_type": "typnamespace",
    "pg_opclass": "opcnamespace",
    "pg_opfamily": "opfnamespace",
    "pg_ts_template": "tmplnamespace",
    "pg_ts_parser": "prsnamespace",
}

#: Condition for functions that act beyond the database whoever calls them: they always belong to an administrator.
STAYS = "(l.lanname IN ('c', 'internal') OR NOT l.lanpltrusted)"
_OWNER_IS_SUPERUSER = "coalesce(w.rolsuper, false)"
# One that runs as its owner would get a superuser's rights for the first time, if its owner is not one.
_ROUTINE = f"""(({STAYS} AND NOT (o.prosecdef AND NOT {_OWNER_IS_SUPERUSER})) OR (NOT {STAYS} AND (
    o.proleakproof OR o.prosupport <> 0 OR EXISTS (
        SELECT FROM pg_catalog.unnest(o.proconfig) c
        JOIN pg_catalog.pg_settings s
          ON pg_catalog.lower(s.name) = pg_catalog.lower(pg_catalog.split_part(c, '=', 1))
        WHERE s.context <> 'user'))))"""


def _of_superusers(*columns: str) -> str:
    return f"""NOT EXISTS (
        SELECT FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_roles s ON s.oid = p.proowner
        WHERE p.oid IN ({", ".join(columns)}) AND NOT s.rolsuper)"""


# The constructors of a range type, and the cast to its multirange, come with the type.
_NO_PART = """NOT EXISTS (
    SELECT FROM pg_catalog.pg_depend d
    WHERE d.classid = 'pg_catalog.{catalog}'::pg_catalog.regclass AND d.objid = o.oid AND d.deptype = 'i'
      AND d.refclassid = 'pg_catalog.pg_type'::pg_catalog.regclass)"""
_CONDITIONS = {
    "function": f"o.prokind IN ('f', 'w') AND {_ROUTINE}",
    "procedure": f"o.prokind = 'p' AND {_ROUTINE}",
    "aggregate": "'pg_catalog.internal'::pg_catalog.regtype IN (a.aggtranstype, a.aggmtranstype)",
    # Base types, shells of types, and ranges that began as a shell.
    "type": """NOT EXISTS (SELECT FROM pg_catalog.pg_type e WHERE e.typarray = o.oid) AND (
        o.typtype = 'b' OR NOT o.typisdefined
        OR EXISTS (SELECT FROM pg_catalog.pg_range r WHERE r.rngtypid = o.oid AND r.rngcanonical <> 0))""",
    # The server calls their functions in a superuser's session.
    "event trigger": _of_superusers("o.evtfoid"),
    "foreign-data wrapper": _of_superusers("o.fdwhandler", "o.fdwvalidator"),
    "language": _of_superusers("o.lanplcallfoid", "o.laninline", "o.lanvalidator"),
    "subscription": f"""o.subdbid = (
        SELECT b.oid FROM pg_catalog.pg_database b WHERE b.datname = pg_catalog.current_database())
        AND {_OWNER_IS_SUPERUSER}""",
}


# Whoever owns a server chooses where the server connects to.  Only the owner of the database keeps that right.
_SERVERS_OF_OTHERS = """
SELECT s.oid::bigint FROM pg_catalog.pg_foreign_server s
JOIN pg_catalog.pg_database d ON d.datname = pg_catalog.current_database()
JOIN pg_catalog.pg_roles r ON r.oid = s.srvowner
WHERE r.rolsuper OR s.srvowner <> d.datdba
"""


def objects(conn: Connection) -> tuple[PrivilegedObject, ...]:
    """List the objects of the session's database that only a superuser can create, and the libraries they come from.

    System objects and members of extensions are left out.  So is what only works because its owner is trusted less
    than a superuser: a function in C that runs with the rights of an owner who is none, an event trigger that calls
    such an owner's function, and such an owner's subscription.

    A function that an object of the list calls in anybody's session (through a cast, an operator class, an event
    trigger) is listed, too, if it belongs to a superuser.

    An object that an administrator keeps at a restore has its exact privileges in the list.  For all others they are
    ``None``: they belong to the owner of the database.

    :param conn: in a transaction, whose settings are changed until its end.  Catalogs that its role may not read, those
        of subscriptions and user mappings, are left out (see :mod:`.reading`).
    """
    with translated("could not list the objects that only a superuser may create"), conn.cursor() as cursor:
        cursor.execute(SETTINGS)
        digests = Digests(cursor, conn.info.server_version)
        cursor.execute(
            "SELECT relname FROM pg_catalog.pg_class WHERE relname = ANY (%s)"
            " AND relnamespace = 'pg_catalog'::pg_catalog.regnamespace"
            " AND NOT pg_catalog.has_table_privilege(oid, 'SELECT')",
            ([one.catalog for one in digests.kinds.values()],),
        )
        hidden = {catalog for (catalog,) in cursor.fetchall()}
        found: dict[tuple[str, int], Described] = {}
        for kind, one in digests.kinds.items():
            if one.catalog in hidden:
                continue
            conditions = [_NOT_OF_THE_SYSTEM, _CONDITIONS.get(kind, "true")]
            of_extension = _NOT_OF_AN_EXTENSION
            if one.catalog in ("pg_amop", "pg_amproc"):
                of_extension = _NOT_OF_AN_EXTENSIONS_FAMILY
            conditions += [text.format(catalog=one.catalog) for text in (of_extension, _NO_PART)]
            if one.catalog in _SCHEMAS:
                conditions.append(_SCHEMA.format(column=_SCHEMAS[one.catalog]))
            for described in digests.describe(kind, " AND ".join(conditions), {}):
                found[one.catalog, described.oid] = described
        used = {oid for described in found.values() for oid in described.uses}
        stays = {("pg_proc", described.oid) for described in called(digests, used) if described.owned_by_superuser}
        for described in called(digests, {oid for _catalog, oid in stays}):
            found["pg_proc", described.oid] = described
        cursor.execute(
            "SELECT o.oid::bigint, o.probin FROM pg_catalog.pg_proc o"
            " JOIN pg_catalog.pg_language l ON l.oid = o.prolang"
            f" WHERE o.oid = ANY (%s::oid[]) AND o.prokind <> 'a' AND {STAYS}",
            ([oid for catalog, oid in found if catalog == "pg_proc"],),
        )
        libraries = set()
        for oid, library in cursor.fetchall():
            stays.add(("pg_proc", oid))
            libraries |= {library} - {None}
        cursor.execute(_SERVERS_OF_OTHERS)
        stays |= {("pg_foreign_server", oid) for (oid,) in cursor.fetchall()}
    listed = [
        PrivilegedObject(
            one.kind,
            one.identity,
            one.digest,
            # Whose a user mapping is.
            one.identity.rsplit(" on server ", 1)[0] if one.kind == "user mapping" else one.owner or "",
            one.privileges if one.kind in _KEPT or (catalog, oid) in stays else None,
        )
        for (catalog, oid), one in found.items()
    ]
    listed += [PrivilegedObject(LIBRARY, path, hashlib.sha256(path.encode()).hexdigest()) for path in libraries]
    return tuple(sorted(listed, key=lambda one: (one.kind, one.identity)))


def called(digests: Digests, oids: t.Iterable[int]) -> list[Described]:
    """Describe those of the functions that users have created."""
    condition = f"o.oid = ANY (%(oids)s::oid[]) AND {_NOT_OF_THE_SYSTEM} AND o.prokind <> 'p' AND " + (
        _NOT_OF_AN_EXTENSION.format(catalog="pg_proc")
    )
    return digests.describe("function", condition, {"oids": sorted(oids)})
