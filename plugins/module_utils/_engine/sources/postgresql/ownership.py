# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Sets the owners of the objects in a database, grants privileges on them, and drops roles that are no longer needed.

Unless stated otherwise, the functions take a superuser's autocommit connection to the database that they change.
System objects and members of extensions keep their owners.

Whoever named the objects may be hostile and may still be running code, for example through autovacuum.  An object is
therefore identified by its OID.  In one transaction, the object and its schema are locked, the name is read under these
locks, the owner is changed, and the object is looked up by its OID again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
import typing as t

from ...errors import PostgresError, RestoreRefused
from ...printing import printable
from .connection import identifier, is_text, transaction, translate, translated
from .dumptext.statements import OwnerChange

try:
    import psycopg2
    from psycopg2 import sql
except ImportError:
    psycopg2 = None  # type: ignore[assignment]
    sql = None  # type: ignore[assignment]

if t.TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection
    from psycopg2.extensions import cursor as Cursor

#: Number of objects whose owner is changed in one transaction.  Each table takes locks for itself, its indexes, TOAST
#: and sequences, and all sessions share the server's lock table (6,400 locks by default).
BATCH = 20

#: How long a change of owner waits for locks of others.  Autovacuum yields after ``deadlock_timeout``.
LOCK_TIMEOUT = "60s"

#: Number of functions that an error lists.
_NAMED = 5

#: The first OID of objects that users create; lower ones are system objects (FirstNormalObjectId).
_FIRST_USER_OID = 16384

# Roles that may run programs or access files as the server's user.  Neither their members nor superusers may own the
# objects of a dump, because a SECURITY DEFINER function may do whatever its owner may.
_HOST_ROLES = ("pg_execute_server_program", "pg_read_server_files", "pg_write_server_files")


#: OIDs by catalog.
Kept = t.Mapping[str, t.Collection[int]]


# Taking over --------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class TakeOver:
    """How many objects got a new owner, and warnings about those that did not."""

    changed: int
    warnings: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class _Kind:
    """One kind of object.

    :param catalog: catalog that contains the objects.
    :param column: column of the catalog with the owner.
    :param command: SQL expression for the kind's name in ALTER.
    :param condition: SQL condition for the rows that are independent objects.
    :param schema: column with the schema, if objects of this kind have one.
    """

    catalog: str
    column: str
    command: str
    condition: str = "true"
    schema: str | None = None

    def query(self, template: str) -> str:
        return template.format(
            **dataclasses.asdict(self),
            # The server identifies large objects by the catalog of their contents.
            identified_by=self.catalog.replace("pg_largeobject_metadata", "pg_largeobject"),
            first=_FIRST_USER_OID,
        )


# Only a superuser can own foreign-data wrappers and event triggers.  Languages and subscriptions are left to the
# administrator.  No command changes the owner of an extension.
_KINDS = (
    _Kind("pg_namespace", "nspowner", "'SCHEMA'", "o.nspname !~ '^pg_' AND (o.oid >= 16384 OR o.nspname = 'public')"),
    _Kind(
        "pg_class",
        "relowner",
        """CASE o.relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' WHEN 'S' THEN 'SEQUENCE'
        WHEN 'f' THEN 'FOREIGN TABLE' ELSE 'TABLE' END""",
        # A column's sequence always has the table's owner, and temporary tables belong to their sessions.
        """o.relkind IN ('r', 'p', 'f', 'v', 'm', 'S') AND o.relpersistence <> 't'
        AND NOT (o.relkind = 'S' AND EXISTS (
            SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = o.oid
            AND d.refclassid = 'pg_class'::regclass AND d.refobjsubid > 0 AND d.deptype IN ('a', 'i')))""",
        "relnamespace",
    ),
    _Kind(
        "pg_type",
        "typowner",
        "'TYPE'",
        # Not row types of tables and arrays, which follow.  (For multiranges see _MULTIRANGES.)
        """o.typtype IN ('b', 'c', 'd', 'e', 'r')
        AND (o.typrelid = 0 OR (SELECT c.relkind = 'c' FROM pg_class c WHERE c.oid = o.typrelid))
        AND NOT EXISTS (SELECT FROM pg_type e WHERE e.typarray = o.oid)""",
        "typnamespace",
    ),
    _Kind(
        "pg_proc",
        "proowner",
        # One command for functions, procedures and aggregates.
        "'ROUTINE'",
        # Not the functions that a range type creates.
        """NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = o.oid
        AND d.deptype = 'i')""",
        "pronamespace",
    ),
    _Kind("pg_operator", "oprowner", "'OPERATOR'", schema="oprnamespace"),
    _Kind("pg_opclass", "opcowner", "'OPERATOR CLASS'", schema="opcnamespace"),
    _Kind("pg_opfamily", "opfowner", "'OPERATOR FAMILY'", schema="opfnamespace"),
    _Kind("pg_collation", "collowner", "'COLLATION'", schema="collnamespace"),
    _Kind("pg_conversion", "conowner", "'CONVERSION'", schema="connamespace"),
    _Kind("pg_ts_config", "cfgowner", "'TEXT SEARCH CONFIGURATION'", schema="cfgnamespace"),
    _Kind("pg_ts_dict", "dictowner", "'TEXT SEARCH DICTIONARY'", schema="dictnamespace"),
    _Kind("pg_statistic_ext", "stxowner", "'STATISTICS'", schema="stxnamespace"),
    _Kind("pg_foreign_server", "srvowner", "'SERVER'"),
    _Kind("pg_publication", "pubowner", "'PUBLICATION'"),
    _Kind("pg_largeobject_metadata", "lomowner", "'LARGE OBJECT'"),
)

# Since a fix of 2024 a multirange follows its range.  Older servers need a command of its own for it.
_MULTIRANGES = _Kind("pg_type", "typowner", "'TYPE'", "o.typtype = 'm'", "typnamespace")

# Objects of one kind that do not belong to the owner yet.
_OBJECTS = """
FROM pg_catalog.{catalog} o
WHERE {condition} AND o.{column} <> %(owner)s
  -- The schema public has a system OID, and the creator of a large object may choose any OID.
  AND (o.oid >= {first} OR '{catalog}' IN ('pg_namespace', 'pg_largeobject_metadata'))
  AND o.{column} IS DISTINCT FROM (SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname = 'pg_database_owner')
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                  WHERE d.classid = 'pg_catalog.{catalog}'::regclass AND d.objid = o.oid AND d.deptype = 'e')
  AND o.oid <> ALL (%(keep)s::oid[])
"""

# A row lock in the catalog: anyone who renames, drops or moves the object waits for the end of our transaction.
# Schemas, functions and types have no other lock.
_LOCK_OBJECTS = "SELECT o.oid" + _OBJECTS + " AND o.oid = ANY (%(oids)s::oid[]) ORDER BY o.oid FOR UPDATE OF o"

_LOCK_SCHEMAS = """
SELECT n.oid FROM pg_catalog.pg_namespace n
WHERE n.oid IN (SELECT o.{schema} FROM pg_catalog.{catalog} o WHERE o.oid = ANY (%(oids)s::oid[]))
ORDER BY n.oid FOR UPDATE OF n
"""

_IDENTITIES = """
SELECT {command}, i.identity
FROM pg_catalog.{catalog} o
CROSS JOIN LATERAL pg_catalog.pg_identify_object('pg_catalog.{identified_by}'::regclass, o.oid, 0) i
WHERE o.oid = ANY (%(oids)s::oid[])
"""

_OWNED = "SELECT o.oid FROM pg_catalog.{catalog} o WHERE o.oid = ANY (%(oids)s::oid[]) AND o.{column} = %(owner)s"

# Functions of the dump that run with their owner's privileges: SECURITY DEFINER functions, and functions that
# ANALYZE, REINDEX or autovacuum calls as the owner of the table.
_DEPUTIES = """
SELECT i.identity
FROM pg_catalog.pg_proc p
CROSS JOIN LATERAL pg_catalog.pg_identify_object('pg_catalog.pg_proc'::regclass, p.oid, 0) i
WHERE p.oid >= {first} AND p.oid <> ALL (%(keep)s::oid[])
  AND (p.prosecdef
       OR EXISTS (SELECT FROM pg_catalog.pg_depend d
                  LEFT JOIN pg_catalog.pg_class c ON d.classid = 'pg_catalog.pg_class'::regclass AND c.oid = d.objid
                  WHERE d.refclassid = 'pg_catalog.pg_proc'::regclass AND d.refobjid = p.oid
                    AND (c.relkind IN ('i', 'I') OR d.classid = 'pg_catalog.pg_statistic_ext'::regclass)))
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                  WHERE d.classid = 'pg_catalog.pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e')
ORDER BY i.identity
"""


def owner_obstacle(conn: Connection, role: str) -> str | None:
    """Return why *role* must not own the objects of a dump; ``None`` if it may.  Works in any database."""
    with translated(f"could not look up role {role!r}", phase="ownership"), conn.cursor() as cursor:
        cursor.execute(
            "SELECT r.rolsuper OR EXISTS (SELECT FROM pg_catalog.pg_roles s"
            " WHERE (s.rolsuper OR s.rolname = ANY(%s)) AND pg_catalog.pg_has_role(r.oid, s.oid, 'MEMBER'))"
            " FROM pg_catalog.pg_roles r WHERE r.rolname = %s",
            (list(_HOST_ROLES), role),
        )
        row = cursor.fetchone()
    if row is None:
        return f"there is no role {role!r}"
    if row[0]:
        return (
            f"role {role!r} is a superuser or can act as one, and SECURITY DEFINER functions of the dump would run with"
            " its privileges"
        )
    return None


def deputy_obstacle(conn: Connection, role: str) -> str | None:
    """Return why *role* must not own functions that run with their owner's privileges; ``None`` if it may.

    A role with CREATEROLE can create roles that outlive the database, and before PostgreSQL 16 it can grant membership
    in almost any role.  CREATEDB and REPLICATION are useless inside a function (a slot could fill the disk, but so can
    a table), and with BYPASSRLS a function sees only rows of the same database.
    """
    with translated(f"could not look up role {role!r}", phase="ownership"), conn.cursor() as cursor:
        cursor.execute(
            "SELECT s.rolname FROM pg_catalog.pg_roles r JOIN pg_catalog.pg_roles s"
            " ON s.rolcreaterole AND pg_catalog.pg_has_role(r.oid, s.oid, 'MEMBER')"
            " WHERE r.rolname = %s ORDER BY s.rolname <> r.rolname, s.rolname LIMIT 1",
            (role,),
        )
        row = cursor.fetchone()
    if row is None:
        return None
    who = f"role {role!r}" if row[0] == role else f"role {row[0]!r}, of which {role!r} is a member,"
    return f"{who} has CREATEROLE, and these functions would run with that privilege"


def deputies_obstacle(conn: Connection, owner: str) -> str | None:
    """Return why *owner* must not own the functions in this database that run with their owner's privileges.

    :returns: the reason and the functions; ``None`` if there are none, or *owner* may own them.
    """
    return _deputies_obstacle(conn, owner, _deputies(conn, {}))


def take_over(
    conn: Connection,
    *,
    owner: str,
    loader: str | None = None,
    owner_changes: t.Iterable[OwnerChange] = (),
    trusted_owners: t.Collection[str] = (),
    keep: Kept | None = None,
) -> TakeOver:
    """Make *owner* the owner of everything in this database.  The owner of the database itself changes in the swap.

    This applies to every schema, table, view, sequence, function, procedure, aggregate, type, large object,
    publication, operator, and so on, whoever owned it before, unless it belongs to the system or to an extension.

    :param loader: the throwaway role.  Afterwards it owns nothing and has no privileges, so whatever that role must do
        (ANALYZE) comes before.
    :param owner_changes: owners that the dump names, with mapped roles, if they are to be kept.  The dump then chooses
        whose privileges its functions run with, so *owner* must be a member of each such role, or the role must be in
        *trusted_owners*.
    :param trusted_owners: roles that the operator has named, for example as targets of the role map.
    :param keep: the objects that keep their owner, an administrator.
    :raises RestoreRefused: if *owner* does not exist or is a superuser; if it has CREATEROLE and the dump contains
        functions that would run with that privilege; or if another object than the intended ones got a new owner.
    """
    reason = owner_obstacle(conn, owner)
    if reason is not None:
        raise RestoreRefused(
            f"{owner!r} cannot own the database",
            phase="ownership",
            cause=reason,
            hint="use a separate role for this database",
        )
    keep = keep or {}
    deputies = _deputies(conn, keep)
    reason = _deputies_obstacle(conn, owner, deputies)
    if reason is not None:
        raise RestoreRefused(
            f"{owner!r} cannot own functions that run with their owner's privileges",
            phase="ownership",
            cause=reason,
            hint="revoke the privilege (ALTER ROLE ... NOCREATEROLE), or give the database to another user",
        )
    changed = 0
    with translated(f"could not make {owner!r} the owner of the database", phase="ownership"), conn.cursor() as cursor:
        cursor.execute(
            "SELECT r.oid, n.nspname FROM pg_catalog.pg_roles r"
            " LEFT JOIN pg_catalog.pg_namespace n ON n.nspname = 'public'"
            " AND pg_catalog.pg_get_userbyid(n.nspowner) = %s WHERE r.rolname = %s",
            (loader, owner),
        )
        owner_oid, public_is_loaders = cursor.fetchall()[0]
        if public_is_loaders and conn.info.server_version >= 150000:
            # As in a new database: so it belongs to the owner of the database.
            cursor.execute("ALTER SCHEMA public OWNER TO pg_database_owner")
        changed += _give(conn, _KINDS[:2], owner, owner_oid, keep)
        if loader is not None:
            _require_nothing_shared(conn, loader)
            # The rest at once, which the server finds by OID.  Tables would take too many locks in one transaction.
            with _impatient(conn):
                cursor.execute(
                    sql.SQL("REASSIGN OWNED BY {} TO {}").format(sql.Identifier(loader), sql.Identifier(owner))
                )
        changed += _give(conn, (*_KINDS, _MULTIRANGES), owner, owner_oid, keep)
    warnings = [
        warning
        for change in owner_changes
        if change.role != owner
        for warning in _change_owner(conn, change, owner, trusted_owners, deputies, keep)
    ]
    if loader is not None:
        with translated(f"could not remove what role {loader} has left", phase="ownership"), conn.cursor() as cursor:
            cursor.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(loader)))
        _require_nothing_of(conn, loader)
    return TakeOver(changed, tuple(warnings))


@contextlib.contextmanager
def _impatient(conn: Connection) -> t.Iterator[None]:
    """Run a transaction that does not wait forever for locks of others."""
    with transaction(conn), conn.cursor() as cursor:
        cursor.execute("SELECT pg_catalog.set_config('lock_timeout', %s, true)", (LOCK_TIMEOUT,))
        yield


def _deputies_obstacle(conn: Connection, owner: str, deputies: t.Sequence[str]) -> str | None:
    reason = deputy_obstacle(conn, owner) if deputies else None
    if reason is None:
        return None
    return f"{reason}: {', '.join(deputies[:_NAMED])}" + (", ..." if len(deputies) > _NAMED else "")


def _deputies(conn: Connection, keep: Kept) -> list[str]:
    with translated("could not list the functions", phase="ownership"), conn.cursor() as cursor:
        cursor.execute(_DEPUTIES.format(first=_FIRST_USER_OID), {"keep": list(keep.get("pg_proc", ()))})
        return [printable(identity) for (identity,) in cursor.fetchall()]


def _give(conn: Connection, kinds: t.Iterable[_Kind], owner: str, owner_oid: int, keep: Kept) -> int:
    changed = 0
    for kind in kinds:
        with conn.cursor() as cursor:
            cursor.execute(
                kind.query("SELECT o.oid" + _OBJECTS + " ORDER BY o.oid"),
                {"owner": owner_oid, "keep": list(keep.get(kind.catalog, ()))},
            )
            oids = [oid for (oid,) in cursor.fetchall()]
        for start in range(0, len(oids), BATCH):
            with _impatient(conn):
                changed += _give_batch(conn, kind, owner, owner_oid, oids[start : start + BATCH])
    return changed


def _give_batch(conn: Connection, kind: _Kind, owner: str, owner_oid: int, oids: t.Sequence[int]) -> int:
    """Change the owner of objects of one kind in the caller's transaction.

    There are as many statements as objects, and each changes the owner of one object.  If all the intended objects then
    have the new owner, no other object got it.
    """
    with conn.cursor() as cursor:
        cursor.execute(kind.query(_LOCK_OBJECTS), {"owner": owner_oid, "oids": list(oids), "keep": []})
        locked = [oid for (oid,) in cursor.fetchall()]
        if kind.schema is not None:
            cursor.execute(kind.query(_LOCK_SCHEMAS), {"oids": locked})
        cursor.execute(kind.query(_IDENTITIES), {"oids": locked})
        # The server itself has quoted these identities.
        statements = [
            sql.SQL("ALTER {} {} OWNER TO {}").format(sql.SQL(what), sql.SQL(identity), sql.Identifier(owner))
            for what, identity in cursor.fetchall()
        ]
        if statements:
            cursor.execute(sql.SQL("; ").join(statements))
        cursor.execute(kind.query(_OWNED), {"owner": owner_oid, "oids": locked})
        given = [oid for (oid,) in cursor.fetchall()]
        if len(statements) != len(locked) or sorted(given) != sorted(locked):
            raise RestoreRefused(
                f"{owner!r} became the owner of another object than the intended one",
                phase="ownership",
                cause="objects were renamed while their owner was changed: the dump runs code of its own, or the"
                " database's catalogs are corrupted",
                hint="the change was rolled back; check where the dump comes from",
            )
    return len(locked)


def _require_nothing_shared(conn: Connection, role: str) -> None:
    """Refuse a throwaway role that owns databases or tablespaces: REASSIGN OWNED would give them away as well."""
    with translated(f"could not list what role {role} owns", phase="ownership"), conn.cursor() as cursor:
        cursor.execute(
            "SELECT pg_catalog.pg_describe_object(s.classid, s.objid, s.objsubid) FROM pg_catalog.pg_shdepend s"
            " WHERE s.deptype = 'o' AND s.dbid = 0 AND s.refclassid = 'pg_catalog.pg_authid'::regclass"
            " AND s.refobjid = (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = %s)",
            (role,),
        )
        shared = [description for (description,) in cursor.fetchall()]
    if shared:
        raise RestoreRefused(
            f"the throwaway role {role} owns {', '.join(shared)}",
            phase="ownership",
            cause="the dump cannot have caused this",
            hint="find out who gave this to the role, and give it back to its owner",
        )


def _require_nothing_of(conn: Connection, role: str) -> None:
    with translated(f"could not list what role {role} has", phase="ownership"), conn.cursor() as cursor:
        cursor.execute(
            "SELECT pg_catalog.pg_describe_object(classid, objid, objsubid) FROM pg_catalog.pg_shdepend"
            " WHERE refclassid = 'pg_catalog.pg_authid'::regclass"
            " AND refobjid = (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = %s)"
            " AND dbid IN (0, (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()))"
            " LIMIT 10",
            (role,),
        )
        left = [description for (description,) in cursor.fetchall()]
    if left:
        raise PostgresError(
            f"the throwaway role {role} still has objects or privileges in the database",
            phase="ownership",
            cause=", ".join(left),
        )


# Owners that a dump names -------------------------------------------------------------------------------------------

_QUOTED = r'"(?:[^"]|"")[^"]*(?:""[^"]*)*"'
_IDENTIFIER = rf"(?:{_QUOTED}|[^\W\d][\w$]*)"
_NAME = rf"{_IDENTIFIER}(?:\.{_IDENTIFIER}){{0,2}}"
_OPERATOR = rf"(?:{_IDENTIFIER}\.)?[-+*/<>=~!@#%^&|`?]+"
# What a list of arguments may contain: names, modes and types, with brackets and lengths.
_ARGUMENT_TOKEN = re.compile(rf"\s+|{_QUOTED}|[^\W\d][\w$]*|\d+|[.,*()\[\]]")

_WITHOUT_ARGUMENTS = dict.fromkeys(
    (
        *("TABLE", "VIEW", "MATERIALIZED VIEW", "SEQUENCE", "FOREIGN TABLE", "SCHEMA", "TYPE", "DOMAIN", "COLLATION"),
        *("CONVERSION", "TEXT SEARCH CONFIGURATION", "TEXT SEARCH DICTIONARY", "STATISTICS", "SERVER", "PUBLICATION"),
    ),
    re.compile(_NAME),
)
_WITHOUT_ARGUMENTS["LARGE OBJECT"] = re.compile(r"\d+")
_WITHOUT_ARGUMENTS["OPERATOR CLASS"] = _WITHOUT_ARGUMENTS["OPERATOR FAMILY"] = re.compile(
    rf"{_NAME}\s+USING\s+{_IDENTIFIER}"
)
_WITH_ARGUMENTS = {kind: re.compile(rf"{_NAME}\s*") for kind in ("FUNCTION", "PROCEDURE", "ROUTINE", "AGGREGATE")}
_WITH_ARGUMENTS["OPERATOR"] = re.compile(rf"{_OPERATOR}\s*")

_STOLEN = """
SELECT pg_catalog.pg_describe_object(s.classid, s.objid, s.objsubid)
FROM pg_catalog.pg_shdepend s
WHERE s.deptype = 'o' AND s.refclassid = 'pg_catalog.pg_authid'::regclass
  AND s.refobjid = (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = %(role)s)
  AND s.dbid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
  AND ((s.objid < %(first)s AND s.classid <> 'pg_catalog.pg_largeobject'::regclass
        AND NOT (s.classid = 'pg_catalog.pg_namespace'::regclass
                 AND s.objid IN (SELECT n.oid FROM pg_catalog.pg_namespace n WHERE n.nspname = 'public')))
       OR EXISTS (SELECT FROM pg_catalog.pg_depend d
                  WHERE d.classid = s.classid AND d.objid = s.objid AND d.deptype = 'e'))
LIMIT 1
"""


_QUOTED_PART = re.compile('"[^"]*"')


def is_identity(kind: str, identity: str) -> bool:
    """Return whether *identity* names one object of *kind*, and is nothing else in ``ALTER <kind> <identity> OWNER``.

    It is false for kinds whose owner a dump may not choose.
    """
    plain = _WITHOUT_ARGUMENTS.get(kind)
    if plain is not None:
        return plain.fullmatch(identity) is not None
    named = _WITH_ARGUMENTS.get(kind)
    match = named.match(identity) if named is not None else None
    if match is None or any(comment in _QUOTED_PART.sub("", match[0]) for comment in ("--", "/*")):
        return False
    position, depth = match.end(), 0
    while position < len(identity):
        token = _ARGUMENT_TOKEN.match(identity, position)
        if token is None:
            return False
        depth += {"(": 1, ")": -1}.get(token[0], 0)
        position = token.end()
        if depth == 0:
            # The list has ended, or it has never begun.  Nothing may follow.
            return token[0] == ")" and position == len(identity)
    return False


def _change_owner(
    conn: Connection,
    change: OwnerChange,
    owner: str,
    trusted_owners: t.Collection[str],
    deputies: t.Collection[str],
    keep: Kept,
) -> t.Iterator[str]:
    what = printable(f"{change.kind.lower()} {change.identity}")
    stays = f"{what} stays with {owner!r}"
    reason = owner_obstacle(conn, change.role) or _stranger_obstacle(conn, change.role, owner, trusted_owners)
    if reason is None and deputies:
        reason = deputy_obstacle(conn, change.role)
    if reason is not None:
        yield f"{stays}: {reason}"
        return
    if not is_identity(change.kind, change.identity):
        yield f"{stays}: a dump may not choose the owner of such an object"
        return
    try:
        with _impatient(conn), conn.cursor() as cursor:
            cursor.execute(
                sql.SQL("ALTER {} {} OWNER TO {}").format(
                    sql.SQL(change.kind), sql.SQL(change.identity), sql.Identifier(change.role)
                )
            )
            _require_kept(cursor, keep, change.role)
            cursor.execute(_STOLEN, {"role": change.role, "first": _FIRST_USER_OID})
            stolen = cursor.fetchone()
            if stolen is not None:
                raise RestoreRefused(
                    f"the dump gives {stolen[0]} to {change.role!r}",
                    phase="ownership",
                    cause="this belongs to the system or to an extension",
                    hint="pg_dump never writes this: check where the dump comes from",
                )
    except _Kept:
        # The administrator has it, as the restore documents.
        return
    except psycopg2.Error as exc:
        yield f"{stays}: {translate(exc, 'could not change the owner').cause}"


class _Kept(Exception):
    """The object that would get another owner is the administrator's."""


def _require_kept(cursor: Cursor, keep: Kept, role: str) -> None:
    for kind in _KINDS:
        oids = list(keep.get(kind.catalog, ()))
        if oids:
            cursor.execute(
                f"SELECT FROM pg_catalog.{kind.catalog} o JOIN pg_catalog.pg_roles r ON r.oid = o.{kind.column}"
                " WHERE r.rolname = %s AND o.oid = ANY (%s::oid[]) LIMIT 1",
                (role, oids),
            )
            if cursor.fetchone() is not None:
                raise _Kept


def creator_obstacle(conn: Connection, role: str, owner: str, trusted_owners: t.Collection[str]) -> str | None:
    """Return why a dump may not choose the default privileges of what *role* creates; ``None`` if it may.

    What a superuser creates in the database, such as the functions of an extension, must not be the tenant's to use
    because a dump says so.
    """
    return owner_obstacle(conn, role) or _stranger_obstacle(conn, role, owner, trusted_owners)


def _stranger_obstacle(conn: Connection, role: str, owner: str, trusted_owners: t.Collection[str]) -> str | None:
    """Return why the dump of *owner*'s database may not act as *role*, as a SECURITY DEFINER function would."""
    if role in trusted_owners:
        return None
    # If the owner may SET ROLE to it, the owner could have given it the object anyway.
    right = "SET" if conn.info.server_version >= 160000 else "MEMBER"
    with translated(f"could not look up role {role!r}", phase="ownership"), conn.cursor() as cursor:
        cursor.execute("SELECT pg_catalog.pg_has_role(%s, %s, %s)", (owner, role, right))
        if cursor.fetchall()[0][0]:
            return None
    return f"{owner!r} is not a member of {role!r}, and the role map does not allow the dump to choose it"


# Privileges ---------------------------------------------------------------------------------------------------------

_SCHEMAS = """
SELECT n.nspname, pg_catalog.has_schema_privilege(%(user)s, n.oid, 'USAGE')
              AND pg_catalog.has_schema_privilege(%(user)s, n.oid, 'CREATE')
              OR %(owns_database)s AND pg_catalog.pg_get_userbyid(n.nspowner) = 'pg_database_owner'
FROM pg_catalog.pg_namespace n
WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                  WHERE d.classid = 'pg_catalog.pg_namespace'::regclass AND d.objid = n.oid AND d.deptype = 'e')
ORDER BY n.nspname
"""

_RELATIONS = """
SELECT CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, n.nspname, c.relname
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL pg_catalog.unnest(CASE c.relkind WHEN 'S' THEN %(sequence)s ELSE %(table)s END) AS p(privilege)
WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm', 'S') AND c.relpersistence <> 't'
  AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                  WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
GROUP BY c.oid, c.relkind, n.nspname, c.relname
HAVING NOT pg_catalog.bool_and(CASE c.relkind
                               WHEN 'S' THEN pg_catalog.has_sequence_privilege(%(user)s, c.oid, p.privilege)
                               ELSE pg_catalog.has_table_privilege(%(user)s, c.oid, p.privilege) END)
ORDER BY 1, 2, 3
"""

_TABLE_PRIVILEGES = ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER")
_SEQUENCE_PRIVILEGES = ("USAGE", "SELECT", "UPDATE")

_OWNERS = """
SELECT DISTINCT pg_catalog.pg_get_userbyid(c.relowner)
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm', 'S') AND c.relpersistence <> 't'
  AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
UNION
SELECT session_user
"""


def grant_all(conn: Connection, user: str, *, owns_database: bool = False) -> int:
    """Grant *user* all privileges on everything in this database, also on future objects.

    These are USAGE and CREATE on the schemas, ALL on tables, views and sequences, and default privileges on what the
    administrator and the owners of its relations will create in these schemas.  Privileges that the user already has,
    for example as the owner, are not granted again.

    :param owns_database: whether the user owns the database, or will own it.
    :returns: number of grants, without default privileges.
    """
    role = sql.Identifier(user)
    table_privileges = [*_TABLE_PRIVILEGES, *(["MAINTAIN"] if conn.info.server_version >= 170000 else [])]
    with (
        translated(f"could not grant privileges to {user!r}", phase="grants"),
        transaction(conn),
        conn.cursor() as cursor,
    ):
        cursor.execute(_SCHEMAS, {"user": user, "owns_database": owns_database})
        schemas = cursor.fetchall()
        cursor.execute(_RELATIONS, {"user": user, "table": table_privileges, "sequence": list(_SEQUENCE_PRIVILEGES)})
        relations = cursor.fetchall()
        cursor.execute(_OWNERS)
        creators = sorted({creator for (creator,) in cursor.fetchall()} - {user})
        statements = [
            sql.SQL("GRANT USAGE, CREATE ON SCHEMA {} TO {}").format(identifier(schema), role)
            for schema, granted in schemas
            if not granted
        ]
        statements += [
            sql.SQL("GRANT ALL ON {} {} TO {}").format(sql.SQL(kind), identifier(schema, name), role)
            for kind, schema, name in relations
        ]
        granted = len(statements)
        statements += [
            sql.SQL("ALTER DEFAULT PRIVILEGES FOR ROLE {} IN SCHEMA {} GRANT ALL ON {} TO {}").format(
                sql.Identifier(creator), identifier(schema), sql.SQL(kind), role
            )
            for creator in creators
            for schema, _granted in schemas
            for kind in ("TABLES", "SEQUENCES")
        ]
        for start in range(0, len(statements), BATCH):
            cursor.execute(sql.SQL("; ").join(statements[start : start + BATCH]))
    return granted


# search_path --------------------------------------------------------------------------------------------------------


def choose_search_path(conn: Connection) -> list[str] | None:
    """Return the search_path for this database (docs/formats/switches.md); ``None`` if it is to stay unchanged.

    It is ``main, public`` if the schema ``main`` contains relations.  Otherwise, if exactly one schema
    other than ``public`` contains relations, it is that schema and ``public``; not in a database with the encoding
    SQL_ASCII, if the schema's name is not valid UTF-8.
    """
    with translated("could not list the schemas", phase="search_path"), conn.cursor() as cursor:
        cursor.execute(
            "SELECT DISTINCT n.nspname FROM pg_catalog.pg_class c"
            " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
            " WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm') AND c.relpersistence <> 't'"
            " AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'public')"
            " AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::regclass"
            " AND d.objid = c.oid AND d.deptype = 'e')"
        )
        schemas = {name for (name,) in cursor.fetchall()}
    if "main" in schemas:
        return ["main", "public"]
    # The setting is made in the maintenance database, whose encoding may not have the name.
    return [*schemas, "public"] if len(schemas) == 1 and is_text(*schemas) else None


def set_search_path(conn: Connection, *, database: str, role: str, path: t.Sequence[str]) -> None:
    """Set *role*'s search_path in *database*.  Each name is quoted.  Works in any database and transaction."""
    with translated(f"could not set the search_path in {database!r}", phase="search_path"), conn.cursor() as cursor:
        cursor.execute(
            sql.SQL("ALTER ROLE {} IN DATABASE {} SET search_path = {}").format(
                sql.Identifier(role), sql.Identifier(database), sql.SQL(", ").join(map(sql.Identifier, path))
            )
        )


# Roles that the role map replaces -----------------------------------------------------------------------------------

_ROLE = """
SELECT r.rolsuper, r.rolname = session_user, r.rolname ~ '^pg_',
       (SELECT pg_catalog.count(*) FROM pg_catalog.pg_auth_members m WHERE m.roleid = r.oid),
       (SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_activity a WHERE a.usesysid = r.oid)
FROM pg_catalog.pg_roles r WHERE r.rolname = %s
"""

_DEPENDENCIES = """
SELECT CASE WHEN s.dbid = 0 THEN pg_catalog.pg_describe_object(s.classid, s.objid, s.objsubid) END,
       d.datname, s.deptype = 'o', pg_catalog.count(*)
FROM pg_catalog.pg_shdepend s
LEFT JOIN pg_catalog.pg_database d ON d.oid = s.dbid
WHERE s.refclassid = 'pg_catalog.pg_authid'::regclass
  AND s.refobjid = (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = %s)
GROUP BY 1, 2, 3
ORDER BY 3 DESC, 2 NULLS FIRST, 1
"""


@dataclasses.dataclass(frozen=True)
class DroppedRoles:
    """The roles that were dropped, and warnings about those that were not."""

    dropped: tuple[str, ...]
    warnings: tuple[str, ...]


def drop_mapped_roles(conn: Connection, roles: t.Iterable[str], *, protected: t.Collection[str]) -> DroppedRoles:
    """Drop those of *roles* that own nothing and have no privileges anywhere in the cluster.  Works in any database.

    :param roles: old names of a role map.  Those that do not exist are ignored.
    :param protected: roles that are always kept: the users of ``databases_json``, and targets of the map.
    """
    dropped, warnings = [], []
    for role in roles:
        with translated(f"could not look up role {role!r}", phase="roles"), conn.cursor() as cursor:
            cursor.execute(_ROLE, (role,))
            row = cursor.fetchone()
            if row is None:
                continue
            cursor.execute(_DEPENDENCIES, (role,))
            reasons = _reasons_to_keep(role, row, cursor.fetchall(), protected)
            if not reasons:
                try:
                    cursor.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))
                    dropped.append(role)
                except psycopg2.errors.DependentObjectsStillExist:
                    reasons = ["it has just become the owner of an object or got a privilege"]
        if reasons:
            warnings.append(f"role {role!r} is kept: " + ", ".join(reasons))
    return DroppedRoles(tuple(dropped), tuple(warnings))


def _reasons_to_keep(
    role: str, row: tuple[t.Any, ...], dependencies: t.Sequence[tuple[t.Any, ...]], protected: t.Collection[str]
) -> list[str]:
    superuser, ourselves, predefined, members, sessions = row
    reasons = [
        reason
        for holds, reason in (
            (superuser, "it is a superuser"),
            (ourselves, "it is the role of this connection"),
            (predefined, "it is a predefined role"),
            (role in protected, "the databases list or the role map needs it"),
            (members, f"it has members ({members})"),
            (sessions, f"it has {sessions} sessions"),
        )
        if holds
    ]
    for shared, database, owns, count in dependencies:
        verb = "it owns" if owns else "it has privileges on"
        reasons.append(f"{verb} {shared}" if shared else f"{verb} {count} objects in database {database!r}")
    return reasons
