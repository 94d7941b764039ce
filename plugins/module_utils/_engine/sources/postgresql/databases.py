# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Databases that a restore makes, fills, puts in another's place and throws away.

Every function takes an autocommit connection of a superuser in the maintenance database, unless it says otherwise.
``CREATE DATABASE`` and ``DROP DATABASE`` can't run in a transaction block; everything else is transactional, renames
included, and joins a transaction that the caller has begun.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
import secrets
import threading
import time
import typing as t

from ...domain import names, peers
from ...domain.secret import Secret
from ...errors import ConnectionFailed, PostgresError, RestoreRefused
from . import authentication, scram
from .connection import APPLICATION, ConnectionSettings, connect, translate, translated

try:
    import psycopg2
    import psycopg2.errorcodes
    import psycopg2.extensions
    from psycopg2 import sql
except ImportError:
    psycopg2 = None  # type: ignore[assignment]
    sql = None  # type: ignore[assignment]

if t.TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection

#: How long a swap waits for somebody else's lock on one of the databases, and for sessions to end.
LOCK_TIMEOUT = "10s"

#: A client that is stopped in the middle of a swap loses it after this time, so that nobody waits for it for ever.
IDLE_TIMEOUT = "60s"

_SWAP_ATTEMPTS = 3
_TERMINATE_EVERY = 0.05  # seconds; the server looks every 0.1 s whether a database is unused
_CLOSING_SECONDS = 60.0  # until sessions in a stage have ended; a backend that waits for the disk takes its time

_PROVIDERS = {"b": "builtin", "c": "libc", "i": "icu"}
_PROVIDER_SINCE = {"libc": 0, "icu": 150000, "builtin": 170000}

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


@contextlib.contextmanager
def transaction(conn: Connection) -> t.Iterator[None]:
    """Do everything inside in one transaction of an autocommit connection, or in the one that is already open."""
    if conn.info.transaction_status != psycopg2.extensions.TRANSACTION_STATUS_IDLE:
        yield
        return
    with conn.cursor() as cursor:
        cursor.execute("BEGIN")
        try:
            yield
            cursor.execute("COMMIT")
        except BaseException:
            # Where the connection itself is gone the server has rolled back already.
            with contextlib.suppress(psycopg2.Error):
                cursor.execute("ROLLBACK")
            raise


# The throwaway role -------------------------------------------------------------------------------------------------


#: How long the throwaway role may log in, should a restore be killed in that moment.
LOGIN_WINDOW = "5 minutes"


def create_loader_role(conn: Connection, role: str, *, temp_file_limit: int | None = None) -> None:
    """Make the role that a dump is loaded as.

    It is a member of nothing, and what it may do in the stage is granted by :func:`create_stage`.  Nobody can log in
    as it before :func:`connect_loader`, nor after.

    :param temp_file_limit: bytes that a process of it may take for temporary files; not even the role can raise it.
    """
    with translated(f"the throwaway role {role} can't be made", phase="role"), conn.cursor() as cursor:
        cursor.execute(
            sql.SQL(
                "CREATE ROLE {} NOLOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS"
                " CONNECTION LIMIT 1"
            ).format(sql.Identifier(role))
        )
        if temp_file_limit is not None:
            # A whole number of KiB, of which the server takes up to 2^31 - 1.
            kib = min(max(temp_file_limit // 1024, 1), 2**31 - 1)
            cursor.execute(
                sql.SQL("ALTER ROLE {} SET temp_file_limit = {}").format(sql.Identifier(role), sql.Literal(kib))
            )


def connect_loader(settings: ConnectionSettings, admin: Connection, *, database: str, role: str) -> Connection:
    """The only session that the throwaway *role* will ever have, in *database*.

    The role may log in for this moment only, with a random password of which the server gets a verifier.  Nobody can
    log in as it afterwards, whatever the dump does to its password: only a superuser, or a role with CREATEROLE, can
    allow it again.

    Where the administrator comes through a socket, the session is the authenticated server's own: it comes through the
    same socket, or over TCP and is compared with what that server and the kernel know of it before anything is sent.

    :param admin: an autocommit session in the maintenance database.
    :raises ConnectionFailed: it could not log in, or another server answered.
    """
    password = Secret(secrets.token_urlsafe(32))
    with translated(f"the throwaway role {role} can't be let in", phase="role"), admin.cursor() as cursor:
        cursor.execute("SELECT (pg_catalog.now() + %s::pg_catalog.interval)::text", (LOGIN_WINDOW,))
        valid_until = cursor.fetchall()[0][0]
        cursor.execute(
            sql.SQL("ALTER ROLE {} LOGIN PASSWORD {} VALID UNTIL {}").format(
                sql.Identifier(role), sql.Literal(scram.verifier(password)), sql.Literal(valid_until)
            )
        )
    with contextlib.ExitStack() as failing:
        try:
            loader = _log_in(settings, admin, database=database, role=role, password=password)
            failing.callback(loader.close)
        finally:
            with translated(f"the throwaway role {role} can't be shut out", phase="role"), admin.cursor() as cursor:
                cursor.execute(sql.SQL("ALTER ROLE {} NOLOGIN").format(sql.Identifier(role)))
        _require_same_server(loader, admin, settings=settings, database=database, role=role)
        failing.pop_all()
    return loader


_RULES = """
SELECT type, database, user_name, auth_method, error FROM pg_catalog.pg_hba_file_rules ORDER BY {}
"""


def _log_in(
    settings: ConnectionSettings, admin: Connection, *, database: str, role: str, password: Secret
) -> Connection:
    def log_in(*, through_socket: bool) -> Connection:
        return connect(
            settings,
            database=database,
            user=role,
            password=password,
            through_socket=through_socket,
            application_name=f"{APPLICATION} load",
        )

    if settings.over_socket:
        order = "rule_number" if admin.info.server_version >= 160000 else "line_number"
        with translated("pg_hba.conf can't be looked into", phase="role"), admin.cursor() as cursor:
            cursor.execute(_RULES.format(order))
            rules = [peers.Rule(*row) for row in cursor.fetchall()]
        if peers.socket_admits(rules, database=database, role=role):
            # The file is not always what the server has loaded.
            with contextlib.suppress(ConnectionFailed):
                return log_in(through_socket=True)
    try:
        return log_in(through_socket=False)
    except ConnectionFailed as exc:
        raise ConnectionFailed(
            f"the throwaway role {role}, which loads the dump, can't log in",
            cause=exc.cause,
            hint=_login_hint(settings),
        ) from None


def _login_hint(settings: ConnectionSettings) -> str:
    if not settings.over_socket:
        return (
            f"the server has to listen on {settings.host}, and pg_hba.conf needs a line such as"
            ' "host all all ADDRESS/32 scram-sha-256" for this host\'s address'
        )
    return (
        f"the server has to listen on {settings.login_host}, and pg_hba.conf needs a line such as"
        f' "host all all {settings.login_host}/32 scram-sha-256", as Debian has it; or its first line for sockets,'
        ' after the administrator\'s, has to be "local all all scram-sha-256"'
    )


def _require_same_server(
    loader: Connection, admin: Connection, *, settings: ConnectionSettings, database: str, role: str
) -> None:
    """Raise unless the throwaway role's session is one of the server that the administrator is connected to.

    Before this nothing but the login was sent.  Whoever relays a session to the real server comes from a port of its
    own; and the process that holds the other end of ours is not the server's.
    """
    with translated("the throwaway role's session can't be looked up", phase="connect"), admin.cursor() as cursor:
        cursor.execute(
            "SELECT datname, pg_catalog.host(client_addr), client_port FROM pg_catalog.pg_stat_activity"
            " WHERE usename = %s AND backend_type = 'client backend'",
            (role,),
        )
        sessions = cursor.fetchall()
    ends = authentication.endpoints(loader)
    cause = ""
    if [session[0] for session in sessions] != [database]:
        cause = (
            f"the administrator sees {len(sessions)} sessions of the throwaway role, not exactly one in {database!r}"
        )
    elif settings.over_socket and ends is not None:
        _database, address, port = sessions[0]
        seen = None if address is None else peers.endpoint(address, port)
        server, holder = authentication.peer_user(admin), authentication.tcp_peer_user(loader)
        if seen != ends[0]:
            cause = f"the administrator sees the session come from {address or 'a socket'}, port {port}, not from ours"
        elif holder != server:
            cause = (
                "no process of this host is seen at the other end"
                if holder is None
                else f"the process at the other end belongs to uid {holder}, the server to uid {server}"
            )
    if cause:
        host = settings.login_host if settings.over_socket else settings.host
        raise ConnectionFailed(
            f"the server that answers on {host}, port {settings.port}, is not the one behind {settings.host}",
            cause=cause,
            hint="no rows were sent to it, and nothing was replaced: find out who listens there (ss -ltnp)",
        )


def shut_out(conn: Connection, role: str) -> None:
    """Let nobody log in as the throwaway *role* any more, and end what sessions of it there still are."""
    with translated(f"the throwaway role {role} can't be shut out", phase="role"), conn.cursor() as cursor:
        cursor.execute(sql.SQL("ALTER ROLE {} NOLOGIN").format(sql.Identifier(role)))
        _end_sessions_of(cursor, role)


def _end_sessions_of(cursor: t.Any, role: str) -> None:
    cursor.execute(
        "SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity WHERE usename = %s", (role,)
    )


def drop_loader_role(conn: Connection, role: str) -> None:
    """End the throwaway role's sessions and drop it with the privileges that it has on databases.

    Its stage has to be dropped before, or handed over (:func:`.ownership.take_over`).
    """
    with translated(f"the throwaway role {role} can't be dropped", phase="role"), conn.cursor() as cursor:
        cursor.execute("SELECT 1 FROM pg_catalog.pg_roles WHERE rolname = %s", (role,))
        if cursor.fetchone() is None:
            return
        _end_sessions_of(cursor, role)
        cursor.execute(sql.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(sql.Identifier(role)))


def size_of(conn: Connection, name: str) -> int:
    """Bytes that the database *name* takes on disk; 0 where there is none (any more)."""
    with translated(f"the size of {name!r} can't be measured", phase="load"), conn.cursor() as cursor:
        cursor.execute(
            "SELECT pg_catalog.pg_database_size(oid) FROM pg_catalog.pg_database WHERE datname = %s", (name,)
        )
        row = cursor.fetchone()
    return 0 if row is None else int(row[0])


# What belongs to a database and not to its contents -----------------------------------------------------------------


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
        """What :meth:`as_dict` was made of."""
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

    :raises PostgresError: where there is no such database.
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
    """Give *database* what :func:`capture` read of another one, and nothing besides.

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
            cursor.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM {} CASCADE").format(name, _role(grantee)))
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
                    _role(entry.grantee),
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


def _role(name: str | None) -> sql.Composable:
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
            raise PostgresError(f"{value!r} is no list of names", phase="settings")
        quoted, plain = match.groups()
        items.append(plain if quoted is None else quoted.replace('""', '"'))
        position = match.end()
    return items


# The stage ----------------------------------------------------------------------------------------------------------


def create_stage(conn: Connection, name: str, *, loader: str, like: Creation) -> None:
    """Make the empty database *name*, which the role *loader* will fill.

    It is made from ``template0``, so that it holds nothing but the dump.  It belongs to the administrator until it is
    swapped in: neither the dump, which acts as the loader, nor the tenant who will own it can change the database
    itself.  Nobody else may connect.

    :param like: the replaced database's (:func:`capture`), or what a manifest says.
    """
    _require_creation(conn, name, like)
    with conn.cursor() as cursor:
        try:
            cursor.execute(create_statement(conn.info.server_version, name, like))
        except psycopg2.Error as exc:
            raise _creation_failed(exc, name, like) from None
        identifier = sql.Identifier(name)
        with translated(f"the stage {name!r} can't be prepared", phase="create"), transaction(conn):
            cursor.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(identifier))
            cursor.execute(
                sql.SQL("GRANT CONNECT, CREATE, TEMPORARY ON DATABASE {} TO {}").format(
                    identifier, sql.Identifier(loader)
                )
            )
            cursor.execute(sql.SQL("ALTER DATABASE {} WITH ALLOW_CONNECTIONS true").format(identifier))


def open_stage(conn: Connection, loader: str) -> None:
    """Give the schema ``public`` to the loader, whose dump may change, drop and make it like any other.

    :param conn: the administrator's, in the stage.
    """
    with translated("the stage's schema public can't be handed over", phase="create"), conn.cursor() as cursor:
        cursor.execute(sql.SQL("ALTER SCHEMA public OWNER TO {}").format(sql.Identifier(loader)))


# Whoever got in with the dump's help, as another role perhaps.
_STRANGERS = """
SELECT pg_catalog.pg_terminate_backend(a.pid)
FROM pg_catalog.pg_stat_activity a
LEFT JOIN pg_catalog.pg_roles r ON r.oid = a.usesysid
WHERE a.datname = %s AND a.pid <> pg_catalog.pg_backend_pid() AND NOT coalesce(r.rolsuper, false)
  AND a.backend_type NOT IN ('autovacuum worker', 'parallel worker')
"""


def close_stage(conn: Connection, name: str) -> None:
    """Let nobody but superusers connect to the stage *name* any more, and end the sessions of everybody else.

    The dump is loaded by then.  It may have let others in: before PostgreSQL 16 a role can pass itself on.  What can
    still run code of the dump is autovacuum, which computes expressions of indexes and statistics as the owner of the
    table.

    :param conn: the administrator's, in the stage.
    """
    present = capture(conn, name)
    with translated(f"the stage {name!r} can't be closed", phase="ownership"), conn.cursor() as cursor:
        for grantee in {entry.grantee for entry in present.privileges} - {present.owner}:
            cursor.execute(
                sql.SQL("REVOKE ALL ON DATABASE {} FROM {} CASCADE").format(sql.Identifier(name), _role(grantee))
            )
        deadline = time.monotonic() + _CLOSING_SECONDS
        while True:
            cursor.execute(_STRANGERS, (name,))
            if not cursor.fetchall():
                return
            if time.monotonic() > deadline:
                raise PostgresError(
                    f"sessions in the stage {name!r} can't be ended",
                    phase="ownership",
                    cause="; ".join(map(str, sessions_of(conn, name))),
                    hint="run again",
                )
            time.sleep(_TERMINATE_EVERY)


def roll_back_prepared(conn: Connection) -> None:
    """Roll back what a dump has left prepared: nobody would end it, and the stage could be neither used nor dropped.

    :param conn: the administrator's, in the stage.
    :raises PostgresError: there was something.
    """
    with translated("prepared transactions can't be ended", phase="load"), conn.cursor() as cursor:
        cursor.execute(
            "SELECT gid FROM pg_catalog.pg_prepared_xacts WHERE database = pg_catalog.current_database() ORDER BY gid"
        )
        prepared = cursor.fetchall()
        for (gid,) in prepared:
            cursor.execute(sql.SQL("ROLLBACK PREPARED {}").format(sql.Literal(gid)))
    if prepared:
        raise PostgresError(
            f"the dump has prepared {len(prepared)} transactions and ended none of them",
            phase="load",
            hint="no pg_dump writes that: find out where the dump comes from",
        )


def drop_stage(conn: Connection, name: str, *, settings: ConnectionSettings) -> None:
    """Drop a stage, if it is there, with whatever a dump has left in it."""
    with translated(f"prepared transactions in {name!r} can't be listed", phase="drop"), conn.cursor() as cursor:
        cursor.execute("SELECT 1 FROM pg_catalog.pg_prepared_xacts WHERE database = %s", (name,))
        prepared = cursor.fetchone() is not None
    if prepared:
        with contextlib.suppress(PostgresError), contextlib.closing(connect(settings, database=name)) as inside:
            roll_back_prepared(inside)
    drop_database(conn, name)


def create_statement(version: int, name: str, like: Creation) -> sql.Composed:
    """``CREATE DATABASE`` from ``template0``; nobody can connect to the new database before that is allowed.

    ``template0`` and not ``template1``, in which anybody could have put something, and where a session of anybody's
    would be in the way.

    :param version: of the server.
    """
    options: list[tuple[str, str | None]] = [("ENCODING", like.encoding)]
    if version >= 150000:
        options.append(("LOCALE_PROVIDER", like.provider))
    options += [("LC_COLLATE", like.collate), ("LC_CTYPE", like.ctype)]
    if like.provider == "icu":
        options += [("ICU_LOCALE", like.locale), ("ICU_RULES", like.icu_rules)]
    elif like.provider == "builtin":
        options.append(("BUILTIN_LOCALE", like.locale))
    # Nobody gets in before the privileges are set.
    parts = [sql.SQL("CREATE DATABASE {} WITH TEMPLATE template0 ALLOW_CONNECTIONS false").format(sql.Identifier(name))]
    parts += [
        sql.SQL("{} {}").format(sql.SQL(option), sql.Literal(value)) for option, value in options if value is not None
    ]
    if like.tablespace is not None:
        parts.append(sql.SQL("TABLESPACE {}").format(sql.Identifier(like.tablespace)))
    return sql.SQL(" ").join(parts)


def _require_creation(conn: Connection, name: str, like: Creation) -> None:
    version = conn.info.server_version
    since = _PROVIDER_SINCE.get(like.provider or "libc")
    if since is None or version < since:
        raise RestoreRefused(
            f"the stage {name!r} can't be made",
            phase="create",
            cause=f"PostgreSQL {version // 10000} has no locale provider {like.provider!r}",
            hint="restore on a newer PostgreSQL, or make the database yourself with another locale before",
        )


def _creation_failed(exc: psycopg2.Error, name: str, like: Creation) -> PostgresError:
    locales = " ".join(sorted({value for value in (like.collate, like.ctype) if value}))
    unfitting = (
        f"encoding {like.encoding}, locale {locales or like.locale}: this server doesn't have it, or the locale doesn't"
        " fit the encoding"
    )
    hints = {
        psycopg2.errorcodes.DUPLICATE_DATABASE: "an earlier restore left it behind: drop it, or run again",
        psycopg2.errorcodes.DISK_FULL: "free or add space, or restore with strategy: replace",
        # "invalid locale name", whatever the version calls it
        psycopg2.errorcodes.WRONG_OBJECT_TYPE: f"this host lacks a locale of the database ({locales}): enable it in"
        " /etc/locale.gen, run locale-gen and restart PostgreSQL",
        psycopg2.errorcodes.INVALID_PARAMETER_VALUE: unfitting,
        psycopg2.errorcodes.UNDEFINED_OBJECT: unfitting
        if like.tablespace is None
        else f"make the tablespace {like.tablespace} first (CREATE TABLESPACE), or move the database to another one",
    }
    error = translate(exc, f"the stage {name!r} can't be made", phase="create")
    error.hint = hints.get(exc.pgcode or "", error.hint)
    return error


def drop_database(conn: Connection, name: str) -> None:
    """Drop the database *name*, if it is there, ending the sessions in it; needs autocommit."""
    try:
        with conn.cursor() as cursor:
            cursor.execute("SELECT datistemplate FROM pg_catalog.pg_database WHERE datname = %s", (name,))
            row = cursor.fetchone()
            if row is None:
                return
            if row[0]:
                cursor.execute(sql.SQL("ALTER DATABASE {} WITH IS_TEMPLATE false").format(sql.Identifier(name)))
            cursor.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
    except psycopg2.Error as exc:
        error = translate(exc, f"database {name!r} can't be dropped", phase="drop")
        if exc.pgcode == psycopg2.errorcodes.OBJECT_IN_USE:
            error.hint = (
                "end what still uses it: prepared transactions (pg_prepared_xacts), logical replication slots"
                " (pg_replication_slots), subscriptions (pg_subscription)"
            )
        raise error from None


def expire_replaced(conn: Connection, kept: t.Iterable[str]) -> list[str]:
    """Drop the kept databases whose time is over, and return their names; needs autocommit.

    :param kept: their names, from the state; what can't be the name of a replaced database is refused.
    """
    expired = list(kept)
    for name in expired:
        if not names.is_replaced_name(name):
            raise PostgresError(f"{name!r} is no replaced database and isn't dropped", phase="drop")
    for name in expired:
        drop_database(conn, name)
    return expired


# The swap -----------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Session:
    """Somebody who is connected to a database."""

    pid: int
    role: str
    application: str
    client: str
    state: str

    def __str__(self) -> str:
        return (
            f"process {self.pid} (role {self.role}, {self.application or 'no application name'}, from {self.client},"
            f" {self.state})"
        )


@dataclasses.dataclass(frozen=True)
class SwapResult:
    """What a swap did.

    :param kept: the name that the replaced database has now, ``None`` where there was none.
    :param sessions: those in the replaced database when the swap began; they were ended.
    :param warnings: what the operator should know of.
    """

    kept: str | None
    sessions: tuple[Session, ...]
    warnings: tuple[str, ...]


# Autovacuum workers give way by themselves: RENAME ends them.  Parallel workers go with their leader.
_SESSIONS = """
SELECT pid, coalesce(usename, backend_type), coalesce(application_name, ''),
       coalesce(pg_catalog.host(client_addr), 'a local socket'), coalesce(state, backend_type)
FROM pg_catalog.pg_stat_activity
WHERE datid = %s AND pid <> pg_catalog.pg_backend_pid()
  AND backend_type NOT IN ('autovacuum worker', 'parallel worker')
ORDER BY backend_start
"""

_TERMINATE = """
SELECT pg_catalog.pg_terminate_backend(pid)
FROM pg_catalog.pg_stat_activity
WHERE datid = ANY(%s) AND backend_type <> 'autovacuum worker'
"""

_LOCK_HOLDERS = """
SELECT a.pid, coalesce(a.usename, a.backend_type), coalesce(a.application_name, ''),
       coalesce(pg_catalog.host(a.client_addr), 'a local socket'), coalesce(a.state, a.backend_type)
FROM pg_catalog.pg_locks l
JOIN pg_catalog.pg_stat_activity a USING (pid)
WHERE l.granted AND l.locktype = 'object' AND l.classid = 1262 AND l.objid = ANY(%s)
"""


def sessions_of(conn: Connection, database: str) -> tuple[Session, ...]:
    """Who is connected to *database*, longest first."""
    with translated(f"the sessions of {database!r} can't be listed", phase="swap"), conn.cursor() as cursor:
        cursor.execute("SELECT oid FROM pg_catalog.pg_database WHERE datname = %s", (database,))
        row = cursor.fetchone()
        if row is None:
            return ()
        cursor.execute(_SESSIONS, row)
        return tuple(Session(*session) for session in cursor.fetchall())


def require_no_sessions(conn: Connection, database: str) -> None:
    """Raise RestoreRefused, naming them, where sessions are in *database*."""
    sessions = sessions_of(conn, database)
    if sessions:
        raise _in_use(database, sessions)


def swap(
    conn: Connection,
    helper: Connection,
    *,
    database: str,
    stage: str,
    keep_as: str,
    owner: str,
    record: t.Callable[[str | None], None],
    on_connections: t.Literal["terminate", "refuse"] = "terminate",
    settings: DatabaseSettings | None = None,
    public_connect: bool = False,
) -> SwapResult:
    """Put *stage* in *database*'s place, which is kept as *keep_as*; all of it or nothing.

    One transaction renames both, gives the stage to *owner*, gives it what belonged to the replaced database (read at
    that very moment) and calls *record*.  Until it commits nobody but a superuser can connect to the stage.  Whoever is
    killed in its middle, the client, the server or the host, leaves the old database in its place and open.

    The first rename takes the server's exclusive lock of the database and then waits until nobody is connected: new
    sessions wait for the lock, and *helper* meanwhile ends those that are there, again and again.  A client that
    connects during the swap waits a moment and is then told that the database "has just been renamed"; its next try
    reaches the new one.

    The kept database stays as it is: its owner, its privileges and its settings, and it can be connected to, so that
    somebody can look up or salvage rows.  Where there is no old database the stage is only renamed.

    :param conn: not in a transaction.
    :param helper: another autocommit connection to the maintenance database, which only ends sessions.
    :param owner: of the new database.
    :param record: writes the state, with *conn*, in the same transaction, and last of all checks the database's lock,
        so that a lost lock is a lost swap; it is told the name that the replaced database has now, ``None`` where
        there was none.
    :param on_connections: ``refuse``: sessions in the old database are an error that names them.
    :param settings: for the new database, instead of those of the old one.
    :param public_connect: whether every role may connect to the new database, where every role could to the old one.
        Otherwise a warning says that they no longer can.
    :raises RestoreRefused: sessions with ``refuse``, or prepared transactions; nothing has been changed.
    """
    old, new = _oid(conn, database), _oid(conn, stage)
    if new is None:
        raise PostgresError(f"the stage {stage!r} is gone", phase="swap")
    if old is not None:
        _refuse_prepared(conn, database)
    sessions = sessions_of(conn, database)
    if sessions and on_connections == "refuse":
        raise _in_use(database, sessions)
    attempt = 0
    carried = settings
    while True:
        attempt += 1
        try:
            with transaction(conn), conn.cursor() as cursor:
                cursor.execute(
                    "SET LOCAL lock_timeout = %s; SET LOCAL idle_in_transaction_session_timeout = %s",
                    (LOCK_TIMEOUT, IDLE_TIMEOUT),
                )
                targets = [oid for oid in (new, old if on_connections == "terminate" else None) if oid is not None]
                with _ending_sessions(helper, targets):
                    if old is not None:
                        _rename(cursor, database, keep_as)
                        carried = settings or capture(conn, keep_as)
                    _rename(cursor, stage, database)
                # What comes next has the new owner's name in it.
                cursor.execute(
                    sql.SQL("ALTER DATABASE {} OWNER TO {}").format(sql.Identifier(database), sql.Identifier(owner))
                )
                if carried is not None:
                    apply(conn, database, carried if public_connect else _without_public(carried))
                record(keep_as if old is not None else None)
            break
        except psycopg2.errors.ObjectInUse as exc:
            if on_connections == "refuse" and old is not None:
                raise _in_use(database, sessions_of(conn, database)) from None
            if attempt == _SWAP_ATTEMPTS:
                raise translate(exc, f"{stage!r} can't take the place of {database!r}", phase="swap") from None
        except psycopg2.errors.LockNotAvailable as exc:
            error = translate(exc, f"{stage!r} can't take the place of {database!r}", phase="swap")
            error.hint = _lock_holders(conn, [oid for oid in (old, new) if oid is not None]) or error.hint
            raise error from None
        except psycopg2.Error as exc:
            raise translate(exc, f"{stage!r} can't take the place of {database!r}", phase="swap") from None
    warnings: list[str] = []
    if carried is not None and not public_connect and carried != _without_public(carried):
        warnings.append(
            f"the privilege CONNECT of PUBLIC on {database!r} was left out: until now every role of the cluster could"
            " connect. Grant it to the roles that need it (GRANT CONNECT ON DATABASE ... TO ...), or restore with"
            " public_connect"
        )
    if old is not None:
        try:
            warnings += _left_behind(conn, old, keep_as)
        except PostgresError as exc:
            # The swap itself is done, and must not look like a failure.
            warnings.append(str(exc))
    return SwapResult(kept=keep_as if old is not None else None, sessions=sessions, warnings=tuple(warnings))


def _without_public(settings: DatabaseSettings) -> DatabaseSettings:
    """The same without PUBLIC's CONNECT; TEMPORARY stays, which is of use to those only who may connect."""
    privileges = {entry for entry in settings.privileges if (entry.grantee, entry.privilege) != (None, "CONNECT")}
    return dataclasses.replace(settings, privileges=frozenset(privileges))


def _rename(cursor: t.Any, name: str, to: str) -> None:
    cursor.execute(sql.SQL("ALTER DATABASE {} RENAME TO {}").format(sql.Identifier(name), sql.Identifier(to)))


def _oid(conn: Connection, database: str) -> int | None:
    with translated(f"database {database!r} can't be looked up", phase="swap"), conn.cursor() as cursor:
        cursor.execute("SELECT oid FROM pg_catalog.pg_database WHERE datname = %s", (database,))
        row = cursor.fetchone()
    return row[0] if row is not None else None


def _in_use(database: str, sessions: t.Sequence[Session]) -> RestoreRefused:
    return RestoreRefused(
        f"database {database!r} is in use and may not be taken from its sessions",
        phase="swap",
        cause="; ".join(map(str, sessions)),
        hint="stop those applications, or let the restore end their sessions",
    )


def _refuse_prepared(conn: Connection, database: str) -> None:
    with translated("prepared transactions can't be listed", phase="swap"), conn.cursor() as cursor:
        cursor.execute(
            "SELECT gid, owner, prepared::text FROM pg_catalog.pg_prepared_xacts WHERE database = %s ORDER BY prepared",
            (database,),
        )
        prepared = cursor.fetchall()
    if prepared:
        raise RestoreRefused(
            f"database {database!r} has prepared transactions, which would be lost",
            phase="swap",
            cause="; ".join(f"{gid!r} of {owner}, since {since}" for gid, owner, since in prepared),
            hint="end them with COMMIT PREPARED or ROLLBACK PREPARED in that database",
        )


def _lock_holders(conn: Connection, oids: t.Sequence[int]) -> str:
    with translated("holders of locks can't be listed", phase="swap"), conn.cursor() as cursor:
        cursor.execute(_LOCK_HOLDERS, (list(oids),))
        holders = [Session(*row) for row in cursor.fetchall()]
    return "somebody holds a lock on the database: " + "; ".join(map(str, holders)) if holders else ""


def _left_behind(conn: Connection, oid: int, kept: str) -> t.Iterator[str]:
    """What goes on in the kept database, or is missing in its successor, and nobody sees."""
    with translated(f"replication of {kept!r} can't be described", phase="swap"), conn.cursor() as cursor:
        cursor.execute("SELECT subname FROM pg_catalog.pg_subscription WHERE subdbid = %s ORDER BY 1", (oid,))
        for (name,) in cursor.fetchall():
            yield f"subscription {name!r} stays with the replaced database {kept!r} and goes on filling it"
        cursor.execute("SELECT slot_name FROM pg_catalog.pg_replication_slots WHERE datoid = %s ORDER BY 1", (oid,))
        for (name,) in cursor.fetchall():
            yield f"replication slot {name!r} stays with the replaced database {kept!r} and keeps its WAL"


@contextlib.contextmanager
def _ending_sessions(helper: Connection, oids: t.Sequence[int]) -> t.Iterator[None]:
    """End the sessions in the databases *oids*, again and again, as long as the context lasts."""
    done = threading.Event()
    failures: list[psycopg2.Error] = []

    def work() -> None:
        try:
            with helper.cursor() as cursor:
                while not done.is_set():
                    cursor.execute(_TERMINATE, (list(oids),))
                    done.wait(_TERMINATE_EVERY)
        except psycopg2.Error as exc:
            failures.append(exc)

    thread = threading.Thread(target=work, name="end-sessions", daemon=True)
    thread.start()
    try:
        yield
    except psycopg2.errors.ObjectInUse:
        done.set()
        thread.join()
        if failures:
            raise translate(failures[0], "sessions can't be ended", phase="swap") from None
        raise
    finally:
        done.set()
        thread.join()
