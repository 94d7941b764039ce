# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Who owns what in a database, who may use it, and which roles are no longer needed.

The functions take an autocommit connection of a superuser, in the database that they are about unless they say
otherwise.  Objects of the system and members of extensions keep their owners.

The names of objects are those of somebody who may be hostile and may still be running code (autovacuum does so for
him).  So an object is known by its OID: it and its schema are locked, its name is read under that lock, and after the
change of owner it is looked up by its OID again, all in one transaction.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
import typing as t

from ...errors import PostgresError, RestoreRefused
from ...printing import printable
from .connection import transaction, translate, translated
from .dumptext.statements import OwnerChange

try:
    import psycopg2
    from psycopg2 import sql
except ImportError:
    psycopg2 = None  # type: ignore[assignment]
    sql = None  # type: ignore[assignment]

if t.TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection

#: Objects that change hands in one transaction.  Each table takes locks for itself, its indexes, TOAST and sequences,
#: and the server's room for locks (6,400 with its defaults) is for all sessions.
BATCH = 20

#: How long a change of owner waits for what somebody else has locked.  Autovacuum gives way after ``deadlock_timeout``.
LOCK_TIMEOUT = "60s"

#: How many functions an error names.
_NAMED = 5

#: The first OID of what users make; everything below is the system's (FirstNormalObjectId).
_FIRST_USER_OID = 16384

# Who may become superuser, run programs or read files as the server's user: never the owner of what a dump made,
# because a SECURITY DEFINER function does what its owner may.
_HOST_ROLES = ("pg_execute_server_program", "pg_read_server_files", "pg_write_server_files")


# Taking over --------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class TakeOver:
    """What changed hands: how many objects, and what did not and why."""

    changed: int
    warnings: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class _Kind:
    """One kind of object.

    :param catalog: where its objects are.
    :param column: of the catalog, with the owner.
    :param command: what ALTER calls it, as an expression.
    :param condition: which rows are objects of their own.
    :param schema: column with the schema, where objects have one.
    """

    catalog: str
    column: str
    command: str
    condition: str = "true"
    schema: str | None = None

    def query(self, template: str) -> str:
        return template.format(
            **dataclasses.asdict(self),
            # Large objects are known to the server by the catalog of their contents.
            identified_by=self.catalog.replace("pg_largeobject_metadata", "pg_largeobject"),
            first=_FIRST_USER_OID,
        )


# Foreign-data wrappers and event triggers can only be a superuser's; languages and subscriptions are the
# administrator's business, and extensions have no command that changes their owner.
_KINDS = (
    _Kind("pg_namespace", "nspowner", "'SCHEMA'", "o.nspname !~ '^pg_' AND (o.oid >= 16384 OR o.nspname = 'public')"),
    _Kind(
        "pg_class",
        "relowner",
        """CASE o.relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' WHEN 'S' THEN 'SEQUENCE'
        WHEN 'f' THEN 'FOREIGN TABLE' ELSE 'TABLE' END""",
        # A sequence of a column always has the table's owner, and temporary tables are their sessions'.
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
        # Not the row types of tables, nor arrays: they follow.  (Multiranges: see _MULTIRANGES.)
        """o.typtype IN ('b', 'c', 'd', 'e', 'r')
        AND (o.typrelid = 0 OR (SELECT c.relkind = 'c' FROM pg_class c WHERE c.oid = o.typrelid))
        AND NOT EXISTS (SELECT FROM pg_type e WHERE e.typarray = o.oid)""",
        "typnamespace",
    ),
    _Kind(
        "pg_proc",
        "proowner",
        # A function, a procedure or an aggregate: one command fits all.
        "'ROUTINE'",
        # Not what a range type brings with it.
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

# Since a fix of 2024 a multirange follows its range; before, it needs a change of its own.
_MULTIRANGES = _Kind("pg_type", "typowner", "'TYPE'", "o.typtype = 'm'", "typnamespace")

# Objects of one kind that aren't the owner's yet.
_OBJECTS = """
FROM pg_catalog.{catalog} o
WHERE {condition} AND o.{column} <> %(owner)s
  -- The schema public has an OID of the system's, and a large object any that its maker chose.
  AND (o.oid >= {first} OR '{catalog}' IN ('pg_namespace', 'pg_largeobject_metadata'))
  AND o.{column} IS DISTINCT FROM (SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname = 'pg_database_owner')
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                  WHERE d.classid = 'pg_catalog.{catalog}'::regclass AND d.objid = o.oid AND d.deptype = 'e')
"""

# A lock of the row in the catalog: anyone who wants to rename the object, drop it or move it waits for the end of our
# transaction.  There is no other lock for a schema, a function or a type.
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

# Functions of the dump that run with their owner's rights: those that say so, and those that
# ANALYZE, REINDEX or autovacuum call as the owner of the table.
_DEPUTIES = """
SELECT i.identity
FROM pg_catalog.pg_proc p
CROSS JOIN LATERAL pg_catalog.pg_identify_object('pg_catalog.pg_proc'::regclass, p.oid, 0) i
WHERE p.oid >= {first}
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
    """Why *role* must not own what a dump made; ``None``: it may.  Works in any database."""
    with translated(f"role {role!r} can't be looked up", phase="ownership"), conn.cursor() as cursor:
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
            f"role {role!r} is a superuser or can act as one, and functions of a dump that are declared SECURITY"
            " DEFINER do what their owner may"
        )
    return None


def deputy_obstacle(conn: Connection, role: str) -> str | None:
    """Why functions that run with their owner's rights must not be *role*'s; ``None``: they may.

    A role with CREATEROLE makes roles that outlast the database, and before PostgreSQL 16 it gives membership in
    almost any role.  CREATEDB and REPLICATION are of no use inside a function (a slot could fill the disk, but so can
    a table), and with BYPASSRLS a function sees no more than rows of the same database.
    """
    with translated(f"role {role!r} can't be looked up", phase="ownership"), conn.cursor() as cursor:
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
    return f"{who} has CREATEROLE, and these functions would run with that right"


def deputies_obstacle(conn: Connection, owner: str) -> str | None:
    """Why *owner* must not own the functions of the connection's database that run with their owner's rights.

    :returns: the reason and the functions; ``None``: there are none, or it may own them.
    """
    return _deputies_obstacle(conn, owner, _deputies(conn))


def take_over(
    conn: Connection,
    *,
    owner: str,
    loader: str | None = None,
    owner_changes: t.Iterable[OwnerChange] = (),
    trusted_owners: t.Collection[str] = (),
) -> TakeOver:
    """Give everything in the connection's database to *owner*; the database itself changes hands in the swap.

    Whoever owned it before: every schema, table, view, sequence, function, procedure, aggregate, type, large object,
    publication, operator, and so on, that is neither the system's nor an extension's.

    :param loader: the throwaway role; nothing belongs to it afterwards and it has no privileges any more, so what is
        to be done as that role (ANALYZE) comes before.
    :param owner_changes: owners that the dump names, roles mapped, where they are to be kept.  The dump decides then
        whose rights its functions run with, so *owner* must be a member of such a role, or it must be in
        *trusted_owners*.
    :param trusted_owners: roles that the operator has named (targets of the role map, for example).
    :raises RestoreRefused: *owner* is missing or a superuser, or has CREATEROLE and the dump brings functions that
        would run with that right; or something else than what was meant has changed hands.
    """
    fault = owner_obstacle(conn, owner)
    if fault is not None:
        raise RestoreRefused(
            f"{owner!r} can't be the owner of the database",
            phase="ownership",
            cause=fault,
            hint="give it a role of its own",
        )
    deputies = _deputies(conn)
    fault = _deputies_obstacle(conn, owner, deputies)
    if fault is not None:
        raise RestoreRefused(
            f"{owner!r} can't be the owner of functions that run with their owner's rights",
            phase="ownership",
            cause=fault,
            hint="take the right from it (ALTER ROLE ... NOCREATEROLE), or give the database to another user",
        )
    changed = 0
    with translated(f"the database can't be given to {owner!r}", phase="ownership"), conn.cursor() as cursor:
        cursor.execute(
            "SELECT r.oid, n.nspname FROM pg_catalog.pg_roles r"
            " LEFT JOIN pg_catalog.pg_namespace n ON n.nspname = 'public'"
            " AND pg_catalog.pg_get_userbyid(n.nspowner) = %s WHERE r.rolname = %s",
            (loader, owner),
        )
        owner_oid, public_is_loaders = cursor.fetchall()[0]
        if public_is_loaders and conn.info.server_version >= 150000:
            # As a new database has it: the owner of the database owns it by that.
            cursor.execute("ALTER SCHEMA public OWNER TO pg_database_owner")
        changed += _give(conn, _KINDS[:2], owner, owner_oid)
        if loader is not None:
            _require_nothing_shared(conn, loader)
            # All the rest at once, which the server finds by OID; tables would take too many locks in one transaction.
            with _impatient(conn):
                cursor.execute(
                    sql.SQL("REASSIGN OWNED BY {} TO {}").format(sql.Identifier(loader), sql.Identifier(owner))
                )
        changed += _give(conn, _KINDS, owner, owner_oid) + _give(conn, (_MULTIRANGES,), owner, owner_oid)
    warnings = [
        warning
        for change in owner_changes
        if change.role != owner
        for warning in _change_owner(conn, change, owner, trusted_owners, deputies)
    ]
    if loader is not None:
        with translated(f"what is left of {loader} can't be removed", phase="ownership"), conn.cursor() as cursor:
            cursor.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(loader)))
        _require_nothing_of(conn, loader)
    return TakeOver(changed, tuple(warnings))


@contextlib.contextmanager
def _impatient(conn: Connection) -> t.Iterator[None]:
    """A transaction that doesn't wait for ever for what somebody else has locked."""
    with transaction(conn), conn.cursor() as cursor:
        cursor.execute("SELECT pg_catalog.set_config('lock_timeout', %s, true)", (LOCK_TIMEOUT,))
        yield


def _deputies_obstacle(conn: Connection, owner: str, deputies: t.Sequence[str]) -> str | None:
    fault = deputy_obstacle(conn, owner) if deputies else None
    if fault is None:
        return None
    return f"{fault}: {', '.join(deputies[:_NAMED])}" + (", ..." if len(deputies) > _NAMED else "")


def _deputies(conn: Connection) -> list[str]:
    with translated("functions can't be listed", phase="ownership"), conn.cursor() as cursor:
        cursor.execute(_DEPUTIES.format(first=_FIRST_USER_OID))
        return [printable(identity) for (identity,) in cursor.fetchall()]


def _give(conn: Connection, kinds: t.Iterable[_Kind], owner: str, owner_oid: int) -> int:
    changed = 0
    for kind in kinds:
        with conn.cursor() as cursor:
            cursor.execute(kind.query("SELECT o.oid" + _OBJECTS + " ORDER BY o.oid"), {"owner": owner_oid})
            oids = [oid for (oid,) in cursor.fetchall()]
        for start in range(0, len(oids), BATCH):
            with _impatient(conn):
                changed += _give_batch(conn, kind, owner, owner_oid, oids[start : start + BATCH])
    return changed


def _give_batch(conn: Connection, kind: _Kind, owner: str, owner_oid: int, oids: t.Sequence[int]) -> int:
    """Change the owner of objects of one kind, in the caller's transaction.

    As many statements as there are objects, each of which changes the owner of one object: when all the objects that
    were meant have changed hands, no other has.
    """
    with conn.cursor() as cursor:
        cursor.execute(kind.query(_LOCK_OBJECTS), {"owner": owner_oid, "oids": list(oids)})
        locked = [oid for (oid,) in cursor.fetchall()]
        if kind.schema is not None:
            cursor.execute(kind.query(_LOCK_SCHEMAS), {"oids": locked})
        cursor.execute(kind.query(_IDENTITIES), {"oids": locked})
        # The server has quoted these identities itself.
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
                f"something else than what was meant has been given to {owner!r}",
                phase="ownership",
                cause="names of objects change while their owner is changed: the dump runs code of its own, or the"
                " catalogs of the database are damaged",
                hint="it was rolled back; find out where the dump comes from",
            )
    return len(locked)


def _require_nothing_shared(conn: Connection, role: str) -> None:
    """REASSIGN OWNED gives databases and tablespaces away, too, and the throwaway role never has one."""
    with translated(f"what {role} owns can't be listed", phase="ownership"), conn.cursor() as cursor:
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
            cause="it can't have got that from the dump",
            hint="find out who gave it to the role, and give it back to its owner",
        )


def _require_nothing_of(conn: Connection, role: str) -> None:
    with translated(f"what {role} has can't be listed", phase="ownership"), conn.cursor() as cursor:
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
            f"the throwaway role {role} still has something in the database", phase="ownership", cause=", ".join(left)
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


def is_identity(kind: str, identity: str) -> bool:
    """Whether *identity* names one object of *kind* and can't be anything else in ``ALTER <kind> <identity> OWNER``.

    Kinds whose owner a dump may not choose are never.
    """
    plain = _WITHOUT_ARGUMENTS.get(kind)
    if plain is not None:
        return plain.fullmatch(identity) is not None
    named = _WITH_ARGUMENTS.get(kind)
    match = named.match(identity) if named is not None else None
    if match is None or any(comment in match[0] for comment in ("--", "/*")):
        return False
    position, depth = match.end(), 0
    while position < len(identity):
        token = _ARGUMENT_TOKEN.match(identity, position)
        if token is None:
            return False
        depth += {"(": 1, ")": -1}.get(token[0], 0)
        position = token.end()
        if depth == 0:
            # The list has ended, or it has never begun: nothing may follow.
            return token[0] == ")" and position == len(identity)
    return False


def _change_owner(
    conn: Connection,
    change: OwnerChange,
    owner: str,
    trusted_owners: t.Collection[str],
    deputies: t.Collection[str],
) -> t.Iterator[str]:
    what = printable(f"{change.kind.lower()} {change.identity}")
    stays = f"{what} stays with {owner!r}"
    fault = owner_obstacle(conn, change.role) or _stranger_obstacle(conn, change.role, owner, trusted_owners)
    if fault is None and deputies:
        fault = deputy_obstacle(conn, change.role)
    if fault is not None:
        yield f"{stays}: {fault}"
        return
    if not is_identity(change.kind, change.identity):
        yield f"{stays}: a dump may not choose the owner of that"
        return
    try:
        with _impatient(conn), conn.cursor() as cursor:
            cursor.execute(
                sql.SQL("ALTER {} {} OWNER TO {}").format(
                    sql.SQL(change.kind), sql.SQL(change.identity), sql.Identifier(change.role)
                )
            )
            cursor.execute(_STOLEN, {"role": change.role, "first": _FIRST_USER_OID})
            stolen = cursor.fetchone()
            if stolen is not None:
                raise RestoreRefused(
                    f"the dump gives {stolen[0]} to {change.role!r}",
                    phase="ownership",
                    cause="that belongs to the system or to an extension",
                    hint="no pg_dump writes this: find out where the dump comes from",
                )
    except psycopg2.Error as exc:
        yield f"{stays}: {translate(exc, 'the owner could not be changed').cause}"


def _stranger_obstacle(conn: Connection, role: str, owner: str, trusted_owners: t.Collection[str]) -> str | None:
    """Why the dump of *owner*'s database may not act as *role*: it would, in a SECURITY DEFINER function."""
    if role in trusted_owners:
        return None
    # Who may SET ROLE to it could have given it the object anyway.
    right = "SET" if conn.info.server_version >= 160000 else "MEMBER"
    with translated(f"role {role!r} can't be looked up", phase="ownership"), conn.cursor() as cursor:
        cursor.execute("SELECT pg_catalog.pg_has_role(%s, %s, %s)", (owner, role, right))
        if cursor.fetchall()[0][0]:
            return None
    return f"{owner!r} is not a member of {role!r}, and no role map lets the dump choose it"


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
    """Let *user* use everything in the connection's database, also what is made later; returns how many grants it took.

    USAGE and CREATE on the schemas, ALL on tables, views and sequences, and default privileges for what the
    administrator, and the owners of relations there, will create in those schemas.  What the user can do already, for
    example as the owner, is not granted again.

    :param owns_database: whether the database is the user's, or will be.
    """
    role = sql.Identifier(user)
    table_privileges = [*_TABLE_PRIVILEGES, *(["MAINTAIN"] if conn.info.server_version >= 170000 else [])]
    with (
        translated(f"privileges can't be granted to {user!r}", phase="grants"),
        transaction(conn),
        conn.cursor() as cursor,
    ):
        cursor.execute(_SCHEMAS, {"user": user, "owns_database": owns_database})
        schemas = cursor.fetchall()
        cursor.execute(_RELATIONS, {"user": user, "table": table_privileges, "sequence": list(_SEQUENCE_PRIVILEGES)})
        relations = cursor.fetchall()
        cursor.execute(_OWNERS)
        makers = sorted({maker for (maker,) in cursor.fetchall()} - {user})
        statements = [
            sql.SQL("GRANT USAGE, CREATE ON SCHEMA {} TO {}").format(sql.Identifier(schema), role)
            for schema, granted in schemas
            if not granted
        ]
        statements += [
            sql.SQL("GRANT ALL ON {} {} TO {}").format(sql.SQL(kind), sql.Identifier(schema, name), role)
            for kind, schema, name in relations
        ]
        granted = len(statements)
        statements += [
            sql.SQL("ALTER DEFAULT PRIVILEGES FOR ROLE {} IN SCHEMA {} GRANT ALL ON {} TO {}").format(
                sql.Identifier(maker), sql.Identifier(schema), sql.SQL(kind), role
            )
            for maker in makers
            for schema, _granted in schemas
            for kind in ("TABLES", "SEQUENCES")
        ]
        for start in range(0, len(statements), BATCH):
            cursor.execute(sql.SQL("; ").join(statements[start : start + BATCH]))
    return granted


# search_path --------------------------------------------------------------------------------------------------------


def choose_search_path(conn: Connection) -> list[str] | None:
    """The search_path that the connection's database gets; ``None``: it is left alone.

    ``main, public`` where the schema ``main`` has relations, else the only schema other than ``public`` that has some,
    and ``public``.
    """
    with translated("schemas can't be listed", phase="search_path"), conn.cursor() as cursor:
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
    return [*schemas, "public"] if len(schemas) == 1 else None


def set_search_path(conn: Connection, *, database: str, role: str, path: t.Sequence[str]) -> None:
    """Set *role*'s search_path in *database*, each of its names by itself.  Works in any database and transaction."""
    with translated(f"the search_path in {database!r} can't be set", phase="search_path"), conn.cursor() as cursor:
        cursor.execute(
            sql.SQL("ALTER ROLE {} IN DATABASE {} SET search_path = {}").format(
                sql.Identifier(role), sql.Identifier(database), sql.SQL(", ").join(map(sql.Identifier, path))
            )
        )


# Roles that are mapped away -----------------------------------------------------------------------------------------

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
    """The roles that were dropped, and why others were not."""

    dropped: tuple[str, ...]
    warnings: tuple[str, ...]


def drop_mapped_roles(conn: Connection, roles: t.Iterable[str], *, protected: t.Collection[str]) -> DroppedRoles:
    """Drop those of *roles* that own nothing and may do nothing anywhere in the cluster.  Works in any database.

    :param roles: old names of a role map; those that aren't there are passed over.
    :param protected: roles that are kept whatever they own: the users of ``databases_json``, targets of the map.
    """
    dropped, warnings = [], []
    for role in roles:
        with translated(f"role {role!r} can't be looked up", phase="roles"), conn.cursor() as cursor:
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
                    reasons = ["it has just got something"]
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
            (predefined, "it is one of PostgreSQL's own"),
            (role in protected, "it is needed"),
            (members, f"roles are members of it ({members})"),
            (sessions, f"it has {sessions} sessions"),
        )
        if holds
    ]
    for shared, database, owns, count in dependencies:
        verb = "it owns" if owns else "it may use"
        reasons.append(f"{verb} {shared}" if shared else f"{verb} {count} objects in database {database!r}")
    return reasons
