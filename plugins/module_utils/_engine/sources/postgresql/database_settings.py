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

from ...errors import PostgresError
from .connection import transaction, translated

try:
    from psycopg2 import sql
except ImportError:
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

    def as_dict(self) -> dict[str, t.Any]:
        """As plain data, for the state."""
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
    name = sql.Identifier(database)
    present = capture(conn, database)
    message = f"the settings of the replaced database can't be given to {database!r}"
    with translated(message, phase="settings"), transaction(conn), conn.cursor() as cursor:
        _apply_privileges(conn, database, present, settings)
        for role in {parameter.role for parameter in present.parameters}:
            cursor.execute(_setting(database, role, sql.SQL("RESET ALL")))
        for parameter in settings.parameters:
            assignment = sql.SQL("SET {} TO {}").format(sql.Identifier(parameter.name), _setting_value(parameter))
            cursor.execute(_setting(database, parameter.role, assignment))
        for provider, _label in present.security_labels - settings.security_labels:
            cursor.execute(
                sql.SQL("SECURITY LABEL FOR {} ON DATABASE {} IS NULL").format(sql.Identifier(provider), name)
            )
        for provider, label in settings.security_labels:
            cursor.execute(
                sql.SQL("SECURITY LABEL FOR {} ON DATABASE {} IS {}").format(
                    sql.Identifier(provider), name, sql.Literal(label)
                )
            )
        cursor.execute(sql.SQL("COMMENT ON DATABASE {} IS {}").format(name, sql.Literal(settings.comment)))
        cursor.execute(
            sql.SQL("ALTER DATABASE {} WITH ALLOW_CONNECTIONS {} CONNECTION LIMIT {} IS_TEMPLATE {}").format(
                name,
                sql.Literal(settings.allow_connections),
                sql.Literal(settings.connection_limit),
                sql.Literal(settings.is_template),
            )
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


def _setting_value(parameter: Parameter) -> sql.Composable:
    if parameter.name.lower() not in _NAME_LISTS:
        return sql.Literal(parameter.value)
    return sql.SQL(", ").join(sql.Literal(item) for item in split_names(parameter.value) or [""])


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
