# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Creates the objects of a dump that only a superuser may create, if the source had exactly these.

A statement comes from the text of a dump, and a tenant may have a hand in that text.  The list of
:func:`.privileged.objects` does not: it comes from the source's catalogs.  So a statement is only a proposal.  In one
transaction it is executed, the row that it has created in the catalog is described and compared with the list, and the
object gets its final owner.  Nobody ever sees anything that is not on the list, or that belongs to the wrong role.
What the server would load or call while it executes the statement is checked before
(:class:`.dumptext.definitions.Definition`).
"""

from __future__ import annotations

import contextlib
import typing as t

from ...errors import LoadError, RestoreRefused
from ...printing import printable
from .catalog_digests import SETTINGS, Described, Digests
from .connection import transaction, translate, translated
from .dumptext.definitions import ADD, COMMENT, CREATE, OWNER, SHELL, Definition, names_in
from .dumptext.preamble import PrivilegedObject
from .privileged import LIBRARY, called

try:
    import psycopg2
    from psycopg2 import sql
except ImportError:
    psycopg2 = None  # type: ignore[assignment]
    sql = None  # type: ignore[assignment]

if t.TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection
    from psycopg2.extensions import cursor as Cursor

#: Kinds that would act on the restore itself, and that nobody needs before it is finished.
_DEFERRED = frozenset({"event trigger", "subscription"})

_SETTINGS = (
    f"{SETTINGS}; SET LOCAL standard_conforming_strings = on; SET LOCAL lock_timeout = '60s';"
    # A function's validator compiles its body otherwise, or applies its settings.
    " SET LOCAL check_function_bodies = off"
)

# All that a definition might create, wanted or not.
_WATCHED = (
    *("pg_am", "pg_amop", "pg_amproc", "pg_cast", "pg_class", "pg_collation", "pg_constraint", "pg_conversion"),
    *("pg_event_trigger", "pg_extension", "pg_foreign_data_wrapper", "pg_foreign_server", "pg_language"),
    *("pg_namespace", "pg_opclass", "pg_operator", "pg_opfamily", "pg_policy", "pg_proc", "pg_publication"),
    *("pg_rewrite", "pg_statistic_ext", "pg_subscription", "pg_transform", "pg_trigger", "pg_ts_config", "pg_ts_dict"),
    *("pg_ts_parser", "pg_ts_template", "pg_type", "pg_user_mapping"),
)
_CREATED = " UNION ALL ".join(
    f"SELECT '{catalog}', o.oid::bigint FROM pg_catalog.{catalog} o"
    " WHERE o.xmin = pg_catalog.pg_current_xact_id()::pg_catalog.xid"
    for catalog in _WATCHED
)
# What belongs to an object that was created: the array type of a type, the constructors of a range.
_PARTS = """
SELECT c.relname::text, d.objid::bigint FROM pg_catalog.pg_depend d
JOIN pg_catalog.pg_class c ON c.oid = d.classid
WHERE d.deptype = 'i' AND d.refclassid = 'pg_catalog.pg_type'::pg_catalog.regclass
  AND d.classid IN ('pg_catalog.pg_type'::pg_catalog.regclass, 'pg_catalog.pg_proc'::pg_catalog.regclass,
                    'pg_catalog.pg_cast'::pg_catalog.regclass)
  AND d.refobjid = ANY (%s::oid[]) AND d.objid = ANY (%s::oid[])
"""
_MEMBERS = {"pg_amop": "operator of access method", "pg_amproc": "function of access method"}

_PRIVILEGES = {
    "function": ("EXECUTE", "FUNCTION", "function"),
    "procedure": ("EXECUTE", "PROCEDURE", "function"),
    "foreign-data wrapper": ("USAGE", "FOREIGN DATA WRAPPER", "foreign_data_wrapper"),
    "language": ("USAGE", "LANGUAGE", "language"),
    "server": ("USAGE", "FOREIGN SERVER", "server"),
}

# Objects that may be kept, by their kinds in GRANT: their catalog, and an expression for their names.
_SCHEMA_AND_NAME = "(SELECT n.nspname FROM pg_catalog.pg_namespace n WHERE n.oid = o.pronamespace), o.proname"
_KEPT = {
    **dict.fromkeys(("FUNCTION", "PROCEDURE", "ROUTINE"), ("pg_proc", _SCHEMA_AND_NAME)),
    "FOREIGN DATA WRAPPER": ("pg_foreign_data_wrapper", "o.fdwname"),
    "FOREIGN SERVER": ("pg_foreign_server", "o.srvname"),
    "LANGUAGE": ("pg_language", "o.lanname"),
}


class _NotListed(Exception):
    """The source had no such object."""


class Definer:
    """Creates what is on the list of a backup.

    :param conn: the administrator's autocommit session in the staging database.
    :param objects: the list; ``None`` if the backup has none, or none that may be used.
    :param loader: the throwaway role.
    :param owner: the role that will own the database.
    :param role_map: new names for roles that the list names.
    :param roles: roles of the source that may be created if a policy needs them.
    :param why_undefined: why nothing that is missing in the list is created, and what to do.
    """

    def __init__(
        self,
        conn: Connection,
        *,
        objects: t.Iterable[PrivilegedObject] | None,
        loader: str,
        owner: str,
        role_map: t.Mapping[str, str],
        roles: t.Iterable[str] = (),
        why_undefined: str = "",
    ) -> None:
        self._conn = conn
        self._roles = frozenset(roles)
        #: Roles that were created; a restore that fails has to drop them.
        self.created_roles: list[str] = []
        #: Whether it is known what the source had, and to whom that belonged.
        self.has_list = objects is not None
        self._role_map = role_map
        self._entries = {(one.kind, self._identity(one)): one for one in objects or ()}
        self._names = frozenset().union(*(names_in(kind, identity) for kind, identity in self._entries))
        self._loader = loader
        self._owner = owner
        self._types = {identity: one.digest for (kind, identity), one in self._entries.items() if kind == "type"}
        self._defined: set[tuple[str, int]] = set()
        self._kept: dict[str, set[int]] = {}
        self._deferred: dict[tuple[str, str], list[Definition]] = {}
        self._warnings: dict[str, None] = {}
        self._loading = True
        self.why_undefined = why_undefined

    @property
    def kept(self) -> t.Mapping[str, t.Collection[int]]:
        """The objects that stay with the administrator: OIDs by catalog."""
        return self._kept

    def keeps(self, kind: str, names: t.Sequence[str]) -> bool:
        """Whether an object of *kind*, as GRANT calls it, stays with the administrator, with the list's privileges.

        :param names: its name, with its schema if it has one.  Functions of one name are not told apart.
        """
        query = _KEPT.get(kind)
        if query is None or not self._kept:
            return False
        catalog, written = query
        with translated("could not look up an object", kind=LoadError), self._conn.cursor() as cursor:
            cursor.execute(
                f"SELECT EXISTS (SELECT FROM pg_catalog.{catalog} o WHERE o.oid = ANY (%s::oid[])"
                f" AND ARRAY[{written}]::text[] = %s::text[])",
                (list(self._kept.get(catalog, ())), list(names)),
            )
            return bool(cursor.fetchall()[0][0])

    def define(self, definition: Definition) -> bool:
        """Create the object that *definition* defines, or keep it for :meth:`finish`.

        :returns: false if the source had no such object; then nothing has changed.
        :raises LoadError: if the server refuses it.
        :raises RestoreRefused: if it differs from the source's.
        """
        if definition.action == COMMENT:
            return self._comment(definition)
        if (definition.kind, definition.name) not in self._names:
            return False
        if definition.kind in _DEFERRED:
            key = (definition.kind, definition.name)
            if (definition.action == CREATE) == (key in self._deferred):
                return False
            if definition.action != OWNER:
                self._deferred.setdefault(key, []).append(definition)
            return True
        return self._create(definition)

    def create_role(self, role: str) -> bool:
        """Create a role that nobody can log in as; return whether the source had it, and it may be created."""
        if role not in self._roles or role.startswith("pg_"):
            return False
        with (
            translated(f"could not create role {role!r}", kind=LoadError, phase="load"),
            self._conn.cursor() as cursor,
        ):
            cursor.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(sql.Identifier(role)))
        self.created_roles.append(role)
        self._warnings[
            printable(f"role {role!r} was created, because policies of the database name it: nobody can log in as it")
        ] = None
        return True

    def drop_roles(self, conn: Connection) -> None:
        """Drop the roles that were created, after a restore that has failed; a session in any database will do."""
        with contextlib.suppress(psycopg2.Error), conn.cursor() as cursor:
            while self.created_roles:
                cursor.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(self.created_roles.pop())))

    def finish(self) -> tuple[str, ...]:
        """Create what would act on the restore itself: event triggers, and subscriptions, which stay disabled.

        :returns: warnings.
        """
        self._loading = False
        for definitions in self._deferred.values():
            if not self._create(*definitions):
                raise self._differs(definitions[0])
        return tuple(self._warnings)

    # One object -------------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _transaction(self, message: str) -> t.Iterator[tuple[Cursor, Digests]]:
        with (
            translated(message, kind=LoadError, phase="load"),
            transaction(self._conn),
            self._conn.cursor() as cursor,
        ):
            cursor.execute(_SETTINGS)
            yield cursor, Digests(cursor, self._conn.info.server_version, expected=self._types)

    def _create(self, definition: Definition, *then: Definition) -> bool:
        if definition.library is not None and (LIBRARY, definition.library) not in self._entries:
            # The server would load it, and run code of it.
            raise self._differs(definition)
        message = printable(f"could not create {definition.kind} {definition.name}".rstrip())
        try:
            with self._transaction(message) as (cursor, digests):
                adopted = self._require_trusted(cursor, digests, definition)
                for one in (definition, *then):
                    self._execute(cursor, one, message)
                cursor.execute(_CREATED)
                created = [one for one in cursor.fetchall() if one not in adopted]
                kept = adopted | self._settle(cursor, digests, definition, created)
        except _NotListed:
            return False
        self._defined.update(created)
        for catalog, oid in kept:
            self._kept.setdefault(catalog, set()).add(oid)
        return True

    def _execute(self, cursor: Cursor, definition: Definition, message: str) -> None:
        try:
            cursor.execute(definition.text)
        except psycopg2.Error as error:
            if definition.kind == "subscription":
                # The server quotes the parts of a connection string that it does not understand.
                raise LoadError(message, phase="load", cause=f"SQLSTATE {error.pgcode}") from None
            raise translate(error, message, kind=LoadError, phase="load") from None

    def _settle(
        self, cursor: Cursor, digests: Digests, definition: Definition, created: t.Sequence[tuple[str, int]]
    ) -> set[tuple[str, int]]:
        """Compare what was created with the list, and give it its owner; return what the administrator keeps."""
        if not created:
            raise self._differs(definition)
        catalog = digests.kinds[definition.kind].catalog
        main = [oid for where, oid in created if where == catalog]
        others = {one for one in created if one[0] != catalog}
        if definition.kind == "type":
            parts = self._parts(cursor, created)
            main = [oid for oid in main if (catalog, oid) not in parts]
            others -= parts
        elif definition.kind in ("operator class", "operator family"):
            others = {(where, oid) for where, oid in others if where not in _MEMBERS}
        if others or len(main) != (0 if definition.action == ADD else 1):
            raise self._differs(definition)
        described = [self._described(digests, definition.kind, oid) for oid in main]
        described += [self._described(digests, _MEMBERS[where], oid) for where, oid in created if where in _MEMBERS]
        kept: set[tuple[str, int]] = set()
        for one in described:
            # A type of which there is only a shell is compared when it is complete.
            self._require_same(definition, one)
            kept |= self._adopt(cursor, digests, one.uses, definition)
        if definition.action != SHELL:
            for oid, one in zip(main, described):
                kept |= {(catalog, oid)} if self._own(cursor, digests, one) else set()
        return kept

    @staticmethod
    def _parts(cursor: Cursor, created: t.Sequence[tuple[str, int]]) -> set[tuple[str, int]]:
        types = [oid for catalog, oid in created if catalog == "pg_type"]
        cursor.execute(_PARTS, (types, [oid for _catalog, oid in created]))
        return set(cursor.fetchall()) & set(created)

    @staticmethod
    def _described(digests: Digests, kind: str, oid: int) -> Described:
        found = digests.describe(kind, "o.oid = %(oid)s", {"oid": oid})
        if not found:
            raise _NotListed
        return found[0]

    def _require_same(self, definition: Definition, described: Described) -> None:
        entry = self._entries.get((described.kind, described.identity))
        if entry is None:
            raise _NotListed
        if entry.digest != described.digest:
            raise self._differs(definition, described.identity)

    def _differs(self, definition: Definition, identity: str = "") -> RestoreRefused:
        what = printable(f"{definition.kind} {identity or definition.name}".rstrip())
        return RestoreRefused(
            f"{what} in the dump is not the one that the source had",
            phase="load",
            cause="a superuser would have to create it, and the row that this makes in the catalog differs from the one"
            " that was recorded by the backup",
            hint="the dump is damaged, or a user of the source database tries to gain a superuser's rights: check where"
            " the object comes from",
        )

    # What the server calls --------------------------------------------------------------------------------------------

    def _require_trusted(self, cursor: Cursor, digests: Digests, definition: Definition) -> set[tuple[str, int]]:
        """Refuse a statement during which the server would call a function that does not belong to a superuser.

        :returns: functions that were taken back from the throwaway role.
        """
        if definition.server is not None:
            cursor.execute(
                "SELECT w.fdwvalidator::oid::bigint FROM pg_catalog.pg_foreign_server s"
                " JOIN pg_catalog.pg_foreign_data_wrapper w ON w.oid = s.srvfdw WHERE s.srvname = %s",
                (definition.server,),
            )
        elif definition.wrapper is not None:
            cursor.execute(
                "SELECT fdwvalidator::oid::bigint FROM pg_catalog.pg_foreign_data_wrapper WHERE fdwname = %s",
                (definition.wrapper,),
            )
        elif definition.validator is not None:
            # Nobody may exchange the function for another one of its name meanwhile.
            cursor.execute("SELECT FROM pg_catalog.pg_namespace WHERE nspname !~ '^pg_' FOR UPDATE")
            cursor.execute(
                "SELECT p.oid::bigint FROM pg_catalog.pg_proc p"
                " WHERE p.oid = pg_catalog.to_regprocedure(%s || '(pg_catalog.text[], pg_catalog.oid)') FOR UPDATE",
                (definition.validator,),
            )
        else:
            return set()
        oids = [oid for (oid,) in cursor.fetchall() if oid]
        adopted = self._adopt(cursor, digests, oids, definition)
        if any(not one.owned_by_superuser for one in called(digests, oids)):
            raise _NotListed
        return adopted

    def _adopt(
        self, cursor: Cursor, digests: Digests, oids: t.Sequence[int], definition: Definition
    ) -> set[tuple[str, int]]:
        """Take functions that belonged to a superuser in the source back from the throwaway role, if they are the same.

        The object that calls them does so in the sessions of others.
        """
        kept = set()
        for one in called(digests, oids) if oids else ():
            entry = self._entries.get((one.kind, one.identity))
            if entry is None or entry.privileges is None:
                continue
            if not one.owned_by_superuser:
                cursor.execute(sql.SQL("ALTER FUNCTION {} OWNER TO CURRENT_USER").format(sql.SQL(one.identity)))
                # Nobody can change it any more.
                self._require_same(definition, self._described(digests, one.kind, one.oid))
                self._grant(cursor, one, entry)
            kept.add(("pg_proc", one.oid))
        return kept

    # Owners and privileges --------------------------------------------------------------------------------------------

    def _own(self, cursor: Cursor, digests: Digests, described: Described) -> bool:
        """Give an object its owner; return whether that is the administrator."""
        entry = self._entries[described.kind, described.identity]
        kind = digests.kinds[described.kind]
        if described.owner is None:
            return False
        if described.kind in _DEFERRED:
            return True
        if entry.privileges is not None:
            self._grant(cursor, described, entry)
            return True
        cursor.execute(
            sql.SQL("ALTER {} {} OWNER TO {}").format(
                sql.SQL(kind.command), sql.SQL(described.identity), sql.Identifier(self._loader)
            )
        )
        if self._described(digests, described.kind, described.oid).owner != self._loader:
            raise LoadError(printable(f"the owner of {described.kind} {described.identity} could not be changed"))
        return False

    def _identity(self, entry: PrivilegedObject) -> str:
        """The identity that an object of the list has here; that of a user mapping begins with the role's name."""
        if entry.kind != "user mapping":
            return entry.identity
        return self._mapped(entry.owner) + entry.identity[len(entry.owner) :]

    def _mapped(self, role: str) -> str:
        return self._role_map.get(role, role)

    def _grant(self, cursor: Cursor, described: Described, entry: PrivilegedObject) -> None:
        """Give an object of the administrator exactly the privileges of the list."""
        privilege, command, function = _PRIVILEGES[described.kind]
        target = sql.SQL("{} ON {} {}").format(sql.SQL(privilege), sql.SQL(command), sql.SQL(described.identity))
        if described.kind == "language" and not self._is_trusted(cursor, described.oid):
            # It belongs to superusers anyway, and the server refuses both GRANT and REVOKE.
            return
        cursor.execute(sql.SQL("REVOKE ALL ON {} {} FROM PUBLIC").format(sql.SQL(command), sql.SQL(described.identity)))
        cursor.execute("SELECT rolname::text FROM pg_catalog.pg_roles")
        roles = {role for (role,) in cursor.fetchall()}
        for grantee, grantable in entry.privileges or ():
            role = None if grantee is None else self._mapped(grantee)
            if role is not None and role not in roles:
                self._warnings[
                    printable(
                        f"{privilege} on {described.kind} {described.identity} is not granted to {role!r}: there is no"
                        " such role"
                    )
                ] = None
                continue
            statement = sql.SQL("GRANT {} TO {}").format(
                target, sql.SQL("PUBLIC") if role is None else sql.Identifier(role)
            )
            if grantable and role is not None:
                statement += sql.SQL(" WITH GRANT OPTION")
            cursor.execute(statement)
        if not self._loading:
            return
        # The throwaway role acts for the owner until the end of the load, and loses all privileges then.  It may create
        # foreign tables of any server: the owner gets them like all tables.
        cursor.execute(
            sql.SQL(
                "SELECT (%s OR EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = %s)"
                " AND pg_catalog.has_{0}_privilege(%s, %s::oid, %s))"
                " AND NOT pg_catalog.has_{0}_privilege(%s, %s::oid, %s)"
            ).format(sql.SQL(function)),
            (
                described.kind == "server",
                *(self._owner, self._owner, described.oid, privilege),
                *(self._loader, described.oid, privilege),
            ),
        )
        if cursor.fetchall()[0][0]:
            cursor.execute(sql.SQL("GRANT {} TO {}").format(target, sql.Identifier(self._loader)))

    @staticmethod
    def _is_trusted(cursor: Cursor, language: int) -> bool:
        cursor.execute("SELECT lanpltrusted FROM pg_catalog.pg_language WHERE oid = %s", (language,))
        return bool(cursor.fetchall()[0][0])

    # Comments ---------------------------------------------------------------------------------------------------------

    def _comment(self, definition: Definition) -> bool:
        """Comment on an object that was created here; the throwaway role does not own all of them."""
        try:
            with self._transaction("could not comment on an object") as (cursor, _digests):
                cursor.execute(definition.text)
                cursor.execute(
                    "SELECT c.relname::text, d.objoid::bigint FROM pg_catalog.pg_description d"
                    " JOIN pg_catalog.pg_class c ON c.oid = d.classoid"
                    " WHERE d.xmin = pg_catalog.pg_current_xact_id()::pg_catalog.xid"
                )
                if not set(cursor.fetchall()) <= self._defined | {
                    (catalog, oid) for catalog, oids in self._kept.items() for oid in oids
                }:
                    raise _NotListed
        except (_NotListed, LoadError):
            return False
        return True
