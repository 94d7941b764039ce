# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The throwaway role that a dump is loaded as, and its only session.

Every function takes an autocommit connection of a superuser in the maintenance database.
"""

from __future__ import annotations

import contextlib
import secrets
import typing as t

from ...domain import peers
from ...domain.secret import Secret
from ...errors import ConnectionFailed
from . import authentication, scram
from .connection import ADMINISTRATION, APPLICATION, ConnectionSettings, connect, translated

try:
    from psycopg2 import sql
except ImportError:
    sql = None  # type: ignore[assignment]

if t.TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection

#: How long the throwaway role may log in, should a restore be killed in that moment.
LOGIN_WINDOW = "5 minutes"


def create_loader_role(conn: Connection, role: str, *, temp_file_limit: int | None = None) -> None:
    """Create the role that a dump is loaded as.

    It is a member of nothing, and :func:`.staging.create_staging` grants it what it may do in the staging database.
    Nobody can log in as it before :func:`connect_loader`, nor after.

    :param temp_file_limit: bytes that a process of it may take for temporary files; not even the role can raise it.
    """
    with translated(f"the throwaway role {role} can't be created", phase="role"), conn.cursor() as cursor:
        cursor.execute(
            sql.SQL(
                "CREATE ROLE {} NOLOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS"
                " CONNECTION LIMIT 1"
            ).format(sql.Identifier(role))
        )
        # Its own session could not change these.
        own: dict[str, t.Any] = dict(ADMINISTRATION)
        if temp_file_limit is not None:
            # A whole number of KiB, of which the server takes up to 2^31 - 1.
            own["temp_file_limit"] = min(max(temp_file_limit // 1024, 1), 2**31 - 1)
        for name, value in own.items():
            cursor.execute(
                sql.SQL("ALTER ROLE {} SET {} = {}").format(
                    sql.Identifier(role), sql.Identifier(name), sql.Literal(value)
                )
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

    Before this nothing but the login was sent.  Anyone who relays a session to the real server comes from a port of its
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

    Its staging database has to be dropped before, or handed over (:func:`.ownership.take_over`).
    """
    with translated(f"the throwaway role {role} can't be dropped", phase="role"), conn.cursor() as cursor:
        cursor.execute("SELECT 1 FROM pg_catalog.pg_roles WHERE rolname = %s", (role,))
        if cursor.fetchone() is None:
            return
        _end_sessions_of(cursor, role)
        cursor.execute(sql.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(sql.Identifier(role)))
