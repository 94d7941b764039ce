# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""What belongs to a database and not to its contents, so that its successor can have it too.

Every function takes an autocommit connection of a superuser in the maintenance database, and joins a transaction that
the caller has begun.
"""

from __future__ import annotations

import dataclasses
import re
import typing as t

from ...errors import PostgresError, RestoreRefused
from ...printing import printable
from .connection import transaction, translated

try:
    import psycopg2
    import psycopg2.errorcodes
    from psycopg2 import sql
except ImportError:
    psycopg2 = None  # type: ignore[assignment]
    sql = None  # type: ignore[assignment]

if t.TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection

_PROVIDERS = {"b": "builtin", "c": "libc", "i": "icu"}

# Settings whose value is a list of names that the server keeps quoted (GUC_LIST_QUOTE; the list of pg_dump's
# variable_is_guc_list_quote).  Given back as one literal, such a list would become a single name.
_NAME_LISTS = frozenset(
    {
        "local_preload_libraries",
        "search_path",
        "session_preload_libraries",
        "shared_preload_libraries",
        "temp_tablespaces",
        "unix_socket_directories",
    }
)

_LIST_ITEM = re.compile(r'\s*(?:"((?:[^"]|"")*)"|([^\s,"]+))\s*(?:,|$)')


@dataclasses.dataclass(frozen=True)
class Creation:
    """What ``CREATE DATABASE`` fixes for ever; ``None`` is the cluster's own (that of ``template0``).

    :param provider: ``libc``, ``icu`` (PostgreSQL 15 and later) or ``builtin`` (17 and later).
    :param locale: of the providers ``icu`` and ``builtin``.
    """

    encoding: str | None = None
    provider: str | None = None
    collate: str | None = None
    ctype: str | None = None
    locale: str | None = None
    icu_rules: str | None = None
    tablespace: str | None = None


@dataclasses.dataclass(frozen=True)
class Privilege:
    """One entry of a database's access list.

    :param grantee: ``None`` is PUBLIC.
    """

    grantor: str
    grantee: str | None
    privilege: str
    grantable: bool


@dataclasses.dataclass(frozen=True)
class Parameter:
    """A setting made with ``ALTER DATABASE ... SET``, or ``ALTER ROLE ... IN DATABASE ... SET``.

    :param role: ``None`` is every role.
    :param value: as the server keeps it.
    """

    role: str | None
    name: str
    value: str


@dataclasses.dataclass(frozen=True)
class DatabaseSettings:
    """Everything that belongs to a database and not to its contents, so that its successor can have it too."""

    owner: str
    creation: Creation
    privileges: frozenset[Privilege]
    parameters: tuple[Parameter, ...]
    security_labels: frozenset[tuple[str, str]]
    comment: str | None
    connection_limit: int
    allow_connections: bool
    is_template: bool

    def search_path(self, role: str) -> str | None:
        """The search_path of *role* in the database, as the server keeps it; ``None``: neither has one."""
        found = {one.role: one.value for one in self.parameters if one.name == "search_path"}
        return found.get(role, found.get(None))

    def as_dict(self) -> dict[str, t.Any]:
        """As plain data, for the state and for backups."""
        data = dataclasses.asdict(self)
        data["privileges"] = [dataclasses.asdict(privilege) for privilege in self.privileges]
        data["security_labels"] = [list(label) for label in self.security_labels]
        return data

    @classmethod
    def from_dict(cls, data: t.Mapping[str, t.Any]) -> DatabaseSettings:
        """The inverse of :meth:`as_dict`."""
        parts = {
            "creation": Creation(**data["creation"]),
            "privileges": frozenset(Privilege(**privilege) for privilege in data["privileges"]),
            "parameters": tuple(Parameter(**parameter) for parameter in data["parameters"]),
            "security_labels": frozenset((provider, label) for provider, label in data["security_labels"]),
        }
        return cls(**{**data, **parts})


def without_public_connect(settings: DatabaseSettings) -> DatabaseSettings:
    """The same without PUBLIC's CONNECT; TEMPORARY stays, which is of use to those only who may connect."""
    privileges = {entry for entry in settings.privileges if (entry.grantee, entry.privilege) != (None, "CONNECT")}
    return dataclasses.replace(settings, privileges=frozenset(privileges))


_DATABASE = """
SELECT d.oid, pg_catalog.pg_get_userbyid(d.datdba), pg_catalog.pg_encoding_to_char(d.encoding), {provider},
       d.datcollate, d.datctype, {locale}, {icu_rules}, t.spcname,
       pg_catalog.shobj_description(d.oid, 'pg_database'), d.datconnlimit, d.datallowconn, d.datistemplate
FROM pg_catalog.pg_database d
JOIN pg_catalog.pg_tablespace t ON t.oid = d.dattablespace
WHERE d.datname = %s
"""

# A list that was never touched is NULL and means the default one.  Once touched it never becomes NULL again, so it is
# the meaning that is carried over.
_PRIVILEGES = """
SELECT pg_catalog.pg_get_userbyid(a.grantor),
       CASE WHEN a.grantee <> 0 THEN pg_catalog.pg_get_userbyid(a.grantee) END, a.privilege_type, a.is_grantable
FROM pg_catalog.pg_database d
CROSS JOIN LATERAL pg_catalog.aclexplode(coalesce(d.datacl, pg_catalog.acldefault('d', d.datdba))) a
WHERE d.oid = %s
"""

_PARAMETERS = """
SELECT r.rolname, c.entry
FROM pg_catalog.pg_db_role_setting s
LEFT JOIN pg_catalog.pg_roles r ON r.oid = s.setrole
CROSS JOIN LATERAL pg_catalog.unnest(s.setconfig) WITH ORDINALITY AS c(entry, place)
WHERE s.setdatabase = %s
ORDER BY r.rolname NULLS FIRST, c.place
"""

_LABELS = "SELECT provider, label FROM pg_catalog.pg_shseclabel WHERE classoid = 1262 AND objoid = %s"


def capture(conn: Connection, database: str) -> DatabaseSettings:
    """Read what belongs to *database* and not to its contents.

    :raises PostgresError: if there is no such database.
    """
    version = conn.info.server_version
    columns = {
        "provider": sql.SQL("d.datlocprovider::text" if version >= 150000 else "'c'"),
        "locale": sql.SQL(
            "d.datlocale" if version >= 170000 else "d.daticulocale" if version >= 150000 else "NULL::text"
        ),
        "icu_rules": sql.SQL("d.daticurules" if version >= 160000 else "NULL::text"),
    }
    with translated(f"database {database!r} can't be described", phase="settings"), conn.cursor() as cursor:
        cursor.execute(sql.SQL(_DATABASE).format(**columns), (database,))
        row = cursor.fetchone()
        if row is None:
            raise PostgresError(f"there is no database {database!r}", phase="settings")
        (oid, owner, encoding, provider, collate, ctype, locale, icu_rules, tablespace) = row[:9]
        comment, connection_limit, allow_connections, is_template = row[9:]
        cursor.execute(_PRIVILEGES, (oid,))
        privileges = frozenset(Privilege(*entry) for entry in cursor.fetchall())
        cursor.execute(_PARAMETERS, (oid,))
        parameters = tuple(Parameter(role, *entry.split("=", 1)) for role, entry in cursor.fetchall())
        cursor.execute(_LABELS, (oid,))
        labels = frozenset((label_provider, label) for label_provider, label in cursor.fetchall())
    return DatabaseSettings(
        owner=owner,
        creation=Creation(encoding, _PROVIDERS[provider], collate, ctype, locale, icu_rules, tablespace),
        privileges=privileges,
        parameters=parameters,
        security_labels=labels,
        comment=comment,
        # -2 marks a database whose DROP was interrupted; that is nothing to carry over.
        connection_limit=max(connection_limit, -1),
        allow_connections=allow_connections,
        is_template=is_template,
    )


def apply(conn: Connection, database: str, settings: DatabaseSettings) -> None:
    """Give *database* what :func:`capture` read of another one, and nothing else.

    Neither the owner nor what its creation has fixed is changed.  Privileges that the other database's owner had or
    gave are this one's owner's.  Needs no autocommit: it is one transaction, or part of the caller's.
    """
    present = capture(conn, database)
    message = f"the settings of the replaced database can't be given to {database!r}"
    with translated(message, phase="settings"), transaction(conn), conn.cursor() as cursor:
        _apply_privileges(conn, database, present, settings)
        for _what, statement in _statements(database, present, settings):
            cursor.execute(statement)


def close(conn: Connection, database: str) -> DatabaseSettings:
    """Let only superusers connect to *database* from now on, and return what :func:`capture` read of it before.

    It belongs to the administrator then: whoever owns a database can grant itself everything again.  It is not a
    template, of which every role that may create databases could make a copy.  Sessions that are in it stay.
    """
    before = capture(conn, database)
    name = sql.Identifier(database)
    with translated(f"database {database!r} can't be closed", phase="settings"), transaction(conn):
        with conn.cursor() as cursor:
            cursor.execute(sql.SQL("ALTER DATABASE {} OWNER TO CURRENT_USER").format(name))
            present = capture(conn, database)
            for grantee in {entry.grantee for entry in present.privileges} - {present.owner}:
                cursor.execute(
                    sql.SQL("REVOKE ALL ON DATABASE {} FROM {} CASCADE").format(name, role_or_public(grantee))
                )
            cursor.execute(sql.SQL("ALTER DATABASE {} WITH IS_TEMPLATE false").format(name))
        others = {entry.grantee for entry in capture(conn, database).privileges} - {present.owner}
        if others:
            raise PostgresError(
                f"database {database!r} can't be closed",
                phase="settings",
                cause=f"privileges of {', '.join(sorted(map(str, others)))} are still there",
            )
    return before


def reopened(conn: Connection, database: str, before: DatabaseSettings) -> tuple[DatabaseSettings, list[str]]:
    """What *database* must get, so that :func:`close` is undone; privileges of roles that are gone are left out.

    :param before: what :func:`close` returned.
    :returns: the settings, and warnings.
    """
    present = capture(conn, database)
    with translated("could not read the roles", phase="settings"), conn.cursor() as cursor:
        cursor.execute("SELECT rolname::text FROM pg_catalog.pg_roles")
        roles = {name for (name,) in cursor.fetchall()}
    if before.owner not in roles:
        raise RestoreRefused(
            f"database {database!r} belonged to the role {before.owner!r}, which is gone",
            phase="settings",
            hint="create the role, and try again",
        )
    kept = {one for one in before.privileges if {one.grantor, one.grantee or before.owner} <= roles}
    gone = sorted({one.grantee or "PUBLIC" for one in before.privileges - kept})
    return (
        dataclasses.replace(present, owner=before.owner, privileges=frozenset(kept), is_template=before.is_template),
        [f"privileges of {', '.join(gone)} on the database were left out: a role is gone"] if gone else [],
    )


def apply_foreign(
    conn: Connection,
    database: str,
    settings: DatabaseSettings,
    *,
    role_map: t.Mapping[str, str],
    as_owner: bool,
) -> list[str]:
    """Give *database* the settings of a database in another cluster, in the caller's transaction.

    Roles that this cluster lacks, and settings that this server refuses, are left out; warnings come back.  All
    privileges are granted by the owner.

    :param role_map: new names for roles.
    :param as_owner: do only what the database's owner may do: nobody vouches for the settings.
    """
    present = capture(conn, database)
    message = f"the settings in the backup can't be given to {database!r}"
    with translated(message, phase="settings"), conn.cursor() as cursor:
        cursor.execute("SELECT rolname::text FROM pg_catalog.pg_roles")
        fitting, warnings = _fit(settings, present.owner, {name for (name,) in cursor.fetchall()}, role_map)
        _apply_privileges(conn, database, present, fitting)
        if as_owner:
            cursor.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(present.owner)))
        for what, statement in _statements(database, present, fitting):
            cursor.execute("SAVEPOINT setting")
            try:
                cursor.execute(statement)
            except psycopg2.Error as error:
                cursor.execute("ROLLBACK TO SAVEPOINT setting")
                # The server's message may quote the value, which may be a secret.
                reason = psycopg2.errorcodes.lookup(error.pgcode or "XX000").lower().replace("_", " ")
                warnings.append(printable(f"{what} of database {database!r} was left out: {reason}"))
            cursor.execute("RELEASE SAVEPOINT setting")
        if as_owner:
            cursor.execute("RESET ROLE")
    return warnings


def _fit(
    settings: DatabaseSettings, owner: str, roles: t.Collection[str], role_map: t.Mapping[str, str]
) -> tuple[DatabaseSettings, list[str]]:
    """The settings with the names of this cluster's roles, and warnings about what was left out."""
    warnings = []

    def here(role: str) -> str | None:
        name = owner if role == settings.owner else role_map.get(role, role)
        return name if name in roles else None

    privileges, parameters = set(), []
    for entry in settings.privileges:
        grantee = None if entry.grantee is None else here(entry.grantee)
        if entry.grantee is not None and grantee is None:
            warnings.append(f"{entry.privilege} on the database was not granted to {entry.grantee!r}: no such role")
        else:
            privileges.add(Privilege(owner, grantee, entry.privilege, entry.grantable))
    for one in settings.parameters:
        role = None if one.role is None else here(one.role)
        if one.role is not None and role is None:
            warnings.append(f"setting {one.name!r} of role {one.role!r} in the database was left out: no such role")
        else:
            parameters.append(dataclasses.replace(one, role=role))
    fitting = dataclasses.replace(
        settings, owner=owner, privileges=frozenset(privileges), parameters=tuple(parameters), allow_connections=True
    )
    return fitting, [printable(warning) for warning in sorted(set(warnings))]


def _statements(
    database: str, present: DatabaseSettings, settings: DatabaseSettings
) -> t.Iterator[tuple[str, sql.Composable]]:
    """What to execute, apart from privileges, so that *present* becomes *settings*; each with what it is about."""
    name = sql.Identifier(database)
    for role in {parameter.role for parameter in present.parameters}:
        yield "the settings", _setting(database, role, sql.SQL("RESET ALL"))
    for parameter in settings.parameters:
        values = sql.SQL(", ").join(map(sql.Literal, setting_values(parameter)))
        assignment = sql.SQL("SET {} TO {}").format(sql.Identifier(parameter.name), values)
        yield f"the setting {parameter.name!r}", _setting(database, parameter.role, assignment)
    for provider, _label in present.security_labels - settings.security_labels:
        label = sql.SQL("SECURITY LABEL FOR {} ON DATABASE {} IS NULL").format(sql.Identifier(provider), name)
        yield f"the security label of {provider!r}", label
    for provider, text in settings.security_labels:
        label = sql.SQL("SECURITY LABEL FOR {} ON DATABASE {} IS {}").format(
            sql.Identifier(provider), name, sql.Literal(text)
        )
        yield f"the security label of {provider!r}", label
    yield "the comment", sql.SQL("COMMENT ON DATABASE {} IS {}").format(name, sql.Literal(settings.comment))
    yield (
        "the connection limit",
        sql.SQL("ALTER DATABASE {} WITH ALLOW_CONNECTIONS {} CONNECTION LIMIT {} IS_TEMPLATE {}").format(
            name,
            sql.Literal(settings.allow_connections),
            sql.Literal(settings.connection_limit),
            sql.Literal(settings.is_template),
        ),
    )


def _apply_privileges(conn: Connection, database: str, present: DatabaseSettings, settings: DatabaseSettings) -> None:
    def ours(role: str | None) -> str | None:
        return present.owner if role == settings.owner else role

    name = sql.Identifier(database)
    wanted = {
        Privilege(ours(entry.grantor) or entry.grantor, ours(entry.grantee), entry.privilege, entry.grantable)
        for entry in settings.privileges
    }
    with conn.cursor() as cursor:
        for grantee in {entry.grantee for entry in present.privileges}:
            cursor.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM {} CASCADE").format(name, role_or_public(grantee)))
        # The owner can always grant; everybody else only what was granted to it with the right to pass it on.
        may_grant = {(present.owner, privilege) for privilege in ("CREATE", "CONNECT", "TEMPORARY")}
        while wanted:
            now = {entry for entry in wanted if (entry.grantor, entry.privilege) in may_grant}
            if not now:
                raise PostgresError(f"the access list of {database!r} holds a grant of nobody", phase="settings")
            for entry in now:
                statement = sql.SQL("GRANT {} ON DATABASE {} TO {}{}").format(
                    sql.SQL(entry.privilege),
                    name,
                    role_or_public(entry.grantee),
                    sql.SQL(" WITH GRANT OPTION" if entry.grantable else ""),
                )
                if entry.grantor == present.owner:
                    # What a superuser grants counts as granted by the owner.
                    cursor.execute(statement)
                else:
                    cursor.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(entry.grantor)))
                    cursor.execute(statement)
                    cursor.execute("RESET ROLE")
                if entry.grantable and entry.grantee is not None:
                    may_grant.add((entry.grantee, entry.privilege))
            wanted -= now


def role_or_public(name: str | None) -> sql.Composable:
    """A role in a statement; ``None`` is PUBLIC."""
    return sql.SQL("PUBLIC") if name is None else sql.Identifier(name)


def _setting(database: str, role: str | None, action: sql.Composable) -> sql.Composed:
    if role is None:
        return sql.SQL("ALTER DATABASE {} {}").format(sql.Identifier(database), action)
    return sql.SQL("ALTER ROLE {} IN DATABASE {} {}").format(sql.Identifier(role), sql.Identifier(database), action)


def setting_values(parameter: Parameter) -> list[str]:
    """The values that ``SET`` has to be given for a parameter: the names of a list one by one."""
    if parameter.name.lower() not in _NAME_LISTS:
        return [parameter.value]
    return split_names(parameter.value) or [""]


def split_names(value: str) -> list[str]:
    """The names in a list as the server keeps it: separated by commas, in double quotes where they need them."""
    items: list[str] = []
    position = 0
    while position < len(value):
        match = _LIST_ITEM.match(value, position)
        if match is None:
            raise PostgresError(f"{value!r} is not a list of names", phase="settings")
        quoted, plain = match.groups()
        items.append(plain if quoted is None else quoted.replace('""', '"'))
        position = match.end()
    return items
