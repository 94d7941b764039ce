# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Connections to the server: our own through psycopg2, and what PostgreSQL's client programs need for theirs."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import shutil
import typing as t

from ...domain.secret import Secret
from ...errors import ConfigurationError, ConnectionFailed, LibraryMissing, PostgresError
from ...printing import printable
from . import authentication

try:
    import psycopg2
    import psycopg2.errorcodes
    import psycopg2.extensions
except ImportError:
    psycopg2 = None  # type: ignore[assignment]

if t.TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection

#: The ``application_name`` of each of our sessions begins with this; what it does follows.
APPLICATION = "infrazero.database"

#: Where Debian and its relatives keep each major version's programs.
INSTALLATIONS = "/usr/lib/postgresql"

# What ALTER ... SET says for a role or a database must not change what our statements do.  Settings of the start-up
# packet win over those.  The empty search_path leaves pg_catalog alone in it: a session of the superuser never calls an
# object that a tenant made (CVE-2018-1058).
_SESSION = {
    "client_encoding": "UTF8",
    "default_transaction_read_only": "off",
    "idle_in_transaction_session_timeout": "0",
    "local_preload_libraries": "",
    "lock_timeout": "0",
    "role": "none",
    "search_path": "",
    "standard_conforming_strings": "on",
    "statement_timeout": "0",
}
# The same, and the version that introduced the setting: an older server would refuse the connection for it.
_SESSION_SINCE = {
    "idle_session_timeout": ("0", 140000),
    "transaction_timeout": ("0", 170000),
}

# Of a transaction or a connection, not of the database: no start-up packet may, or need, fix them.
_NOT_PINNED = ("application_name", "transaction_deferrable", "transaction_isolation", "transaction_read_only")

_USER_SETTINGS = """
SELECT name, setting FROM pg_catalog.pg_settings WHERE context = 'user' AND name <> ALL (%s) ORDER BY name
"""

# Needs libpq 16; an older one knows no way to refuse a server that asks for less.
_REQUIRE_AUTH_SINCE = 160000


@dataclasses.dataclass(frozen=True)
class ConnectionSettings:
    """How the server is reached by its administrator.

    :param host: directory of the server's socket, or a host name or address.
    :param user: a superuser; through the socket usually known by peer authentication.
    :param password: not needed with peer authentication.
    :param maintenance_database: where the engine keeps its state and its locks.
    :param sslmode: libpq's; its own default when not given.
    :param connect_timeout: seconds.
    :param login_host: where roles with a password log in when *host* is a socket's directory, because Debian's
        ``pg_hba.conf`` lets them in by password over TCP only.
    """

    host: str = "/var/run/postgresql"
    port: int = 5432
    user: str = "postgres"
    password: Secret | None = None
    maintenance_database: str = "postgres"
    sslmode: str | None = None
    connect_timeout: int = 10
    login_host: str = "127.0.0.1"

    @property
    def over_socket(self) -> bool:
        """Whether *host* is a socket's directory (an absolute path, or ``@`` for an abstract socket)."""
        return self.host.startswith(("/", "@"))


def connect(
    settings: ConnectionSettings,
    *,
    database: str | None = None,
    user: str | None = None,
    password: Secret | None = None,
    through_socket: bool = False,
    autocommit: bool = True,
    application_name: str = APPLICATION,
) -> Connection:
    """A new session.

    Through a socket the server's process must belong to a user that may be the server
    (:func:`.authentication.trusted_users`); nothing is sent to another one.

    :param database: the maintenance database when not given.
    :param user: another role than the administrator, together with its *password*.  Where the administrator comes in
        through a socket, this role is let in at :attr:`ConnectionSettings.login_host`.
    :param through_socket: *user* comes in through the administrator's socket as well.
    :param application_name: ``infrazero.database`` and what the session does: others read it in ``pg_stat_activity``
        and in the text of a lock that is held.
    :raises ConnectionFailed: with the server's reason and what to do about it.
    """
    if psycopg2 is None:
        raise LibraryMissing("the Python library psycopg2 is not installed", hint="pip install psycopg2-binary")
    maintenance = database in (None, settings.maintenance_database)
    # The settings of the maintenance database are the superuser's own; those of any other one may be a tenant's.
    options = _as_options(_SESSION) if maintenance else pinned_options(settings)
    host, sslmode = settings.host, settings.sslmode
    optional: dict[str, t.Any] = {}
    if settings.over_socket and user is not None and not through_socket:
        # On the loopback TLS would only cost time; "allow" still uses it where pg_hba.conf insists.
        host, sslmode = settings.login_host, sslmode or "allow"
    elif settings.over_socket:
        optional["requirepeer"] = server_account(settings)
    secret = password if user is not None else settings.password
    over_tcp = "requirepeer" not in optional
    if over_tcp and secret is not None and psycopg2.extensions.libpq_version() >= _REQUIRE_AUTH_SINCE:
        optional["require_auth"] = _SCRAM if user is not None else _required_authentication(settings)
    optional.update(password=secret.reveal() if secret else None, sslmode=sslmode)
    try:
        connection: Connection = psycopg2.connect(
            host=host,
            port=settings.port,
            user=user if user is not None else settings.user,
            dbname=database if database is not None else settings.maintenance_database,
            connect_timeout=settings.connect_timeout,
            application_name=application_name,
            client_encoding="UTF8",
            options=options,
            keepalives=1,
            keepalives_idle=30,
            keepalives_interval=10,
            keepalives_count=3,
            **{name: value for name, value in optional.items() if value is not None},
        )
        connection.autocommit = True
        if maintenance:
            _set_newer(connection)
    except psycopg2.Error as error:
        who = user if user is not None else settings.user
        raise _connection_failed(str(error), where=f"{host}, port {settings.port}", who=who) from None
    connection.autocommit = autocommit
    return connection


def _set_newer(connection: Connection) -> None:
    with connection.cursor() as cursor:
        for name, (value, since) in _SESSION_SINCE.items():
            if connection.info.server_version >= since:
                cursor.execute("SELECT pg_catalog.set_config(%s, %s, false)", (name, value))


def pinned_options(settings: ConnectionSettings) -> str:
    """Start-up options that override whatever the owner of a database may have set for it with ``ALTER DATABASE``.

    That is every setting that a user may change, as this very server lists them, with the value that a session of the
    administrator has in the maintenance database.  So nobody can lock backup and restore out of a database, or change
    what a dump of it says, by its settings; ``ALTER ROLE ... IN DATABASE`` is covered as well.
    """
    with (
        contextlib.closing(connect(settings)) as session,
        translated("the server's settings can't be listed"),
        session.cursor() as cursor,
    ):
        cursor.execute(_USER_SETTINGS, (list(_NOT_PINNED),))
        pinned = dict(cursor.fetchall())
    # "role" is in no list of settings.
    return _as_options({**_SESSION, **pinned})


def _as_options(values: t.Mapping[str, str]) -> str:
    escaped = {name: value.replace("\\", r"\\").replace(" ", r"\ ") for name, value in values.items()}
    return " ".join(f"-c {name}={value}" for name, value in escaped.items())


_SCRAM = "scram-sha-256"


def _required_authentication(settings: ConnectionSettings) -> str | None:
    """How the server may ask for the administrator's password over TCP, in the words of libpq's ``require_auth``."""
    # A server whose certificate was checked may be given it in clear: LDAP and PAM need that.
    return None if settings.sslmode in ("verify-ca", "verify-full") else "!password"


def server_account(settings: ConnectionSettings) -> str:
    """The account whose process listens on the server's socket, for libpq's ``requirepeer``.

    :raises ConnectionFailed: nobody listens there, or somebody who can't be the server.
    """
    where = f"{settings.host}, port {settings.port}"
    try:
        uid = authentication.socket_listener(settings.host, settings.port, timeout=settings.connect_timeout)
        trusted = authentication.trusted_users(settings.host, settings.user)
    except OSError as error:
        cause = "timeout expired" if isinstance(error, TimeoutError) else error.strerror or str(error)
        raise _connection_failed(cause, where=where, who=settings.user) from None
    name = authentication.account(uid)
    if uid not in trusted:
        raise ConnectionFailed(
            f"the process that listens on {where} is not the server",
            cause=f"it belongs to uid {uid} ({name or 'no account of this host'}), not to root, {settings.user}, "
            f"{authentication.ACCOUNT}, ourselves or the owner of the directory",
            hint="nothing was sent to it: find out who runs it (ss -lxp), and start PostgreSQL again; keep the socket "
            "in a directory that belongs to the server's account",
        )
    if name is None:
        raise ConnectionFailed(
            f"the process that listens on {where} has no name",
            cause=f"uid {uid} has no account on this host, and libpq checks the server by the name of its account",
            hint=f"add an account with the uid {uid}",
        )
    return name


# Errors -------------------------------------------------------------------------------------------------------------

# Before a session exists libpq gives text only, in the server's language; these are the English ones.
_CONNECTION_HINTS = (
    (
        "Peer authentication failed",
        "run as the operating system user of that role (postgres), or give a host name and a password",
    ),
    ("password authentication failed", "check the role's password, and that the role may log in"),
    (
        "authentication method requirement",
        "the server asks for more than a proof of the password: is it the server? use scram-sha-256 in pg_hba.conf",
    ),
    ("no password supplied", "the server asks for a password: give one, or use the socket as the user postgres"),
    ("no pg_hba.conf entry", "add a line for this role, database and address to pg_hba.conf and reload the server"),
    ("too many clients", "close idle sessions, or raise max_connections"),
    ("remaining connection slots", "close idle sessions, or raise max_connections"),
    ("starting up", "the server is starting: try again when it accepts connections (pg_isready)"),
    ("not yet accepting connections", "the server is starting: try again when it accepts connections (pg_isready)"),
    ("in recovery mode", "the server is recovering from a crash: try again when it accepts connections"),
    ("shutting down", "the server is being stopped: start it again"),
    ("No such file or directory", "is the server running, and are the socket's directory and the port right?"),
    ("Connection refused", "is the server running, and does it listen there (listen_addresses, port)?"),
    ("timeout expired", "no answer: check the address, the network and the firewall"),
    ("could not translate host name", "check the host's name and the resolver"),
    ("Permission denied", "this operating system user may not use the socket: run as postgres"),
    ("not currently accepting connections", "allow connections: ALTER DATABASE ... ALLOW_CONNECTIONS true"),
    ("does not exist", "check the name; it is case sensitive"),
    ("SSL", "check sslmode, and the server's TLS settings"),
)

_STATE_HINTS = {
    "25006": "the session is read-only: is this server a standby? work on the primary",
    "42501": "the session's role lacks a privilege: connect as a superuser",
    "53100": "the server's disk is full: free or add space there",
    "53200": "the server is out of memory",
    "53300": "close idle sessions, or raise max_connections",
    "55006": "somebody is using it: close those sessions (pg_stat_activity) and try again",
    "55P03": "another session holds the lock: see pg_locks and pg_stat_activity",
    "57014": "the statement was cancelled or reached its time-out",
    "57P01": "an administrator ended the session, or the server was stopped: run again",
    "57P02": "the server crashed: look into its log, run again when it is back",
    "57P03": "the server is starting or stopping: run again when it accepts connections",
    "58030": "the server could not read or write a file: look into its log and the kernel's",
    "XX001": "the server found damaged data: look into its log, and check the disk before anything else",
    "XX002": "the server found a damaged index: look into its log, and check the disk before anything else",
}

# The primary message of these may quote values of rows: data exceptions, and what functions of a user raise.
_QUOTING_CLASSES = ("22", "P0")
# ... but these are about settings (an encoding that doesn't fit a locale, for example).
_NOT_QUOTING = frozenset({"22023"})


def translate(
    error: psycopg2.Error,
    message: str,
    *,
    kind: type[PostgresError] = PostgresError,
    phase: str | None = None,
) -> PostgresError:
    """A server's error as one of the engine's.

    The server's DETAIL, CONTEXT and the statement are left out, and so is a message that may quote a row: they can
    hold data.

    :param message: what we were doing when it happened, one line.
    """
    state = error.pgcode
    if state is None:
        # No answer of the server but the end of the connection; libpq's own words.
        return kind(
            message,
            phase=phase,
            cause=_one_line(str(error)),
            hint="the connection broke: was the server stopped, or the session ended? see the server's log",
        )
    name = psycopg2.errorcodes.lookup(state).lower() if _known(state) else "error"
    text = error.diag.message_primary or name
    if state[:2] in _QUOTING_CLASSES and state not in _NOT_QUOTING:
        text = name.replace("_", " ")
        place = [
            f"{what} {value}"
            for what, value in (
                ("schema", error.diag.schema_name),
                ("table", error.diag.table_name),
                ("column", error.diag.column_name),
                ("constraint", error.diag.constraint_name),
            )
            if value
        ]
        text = ", ".join([text, *place])
    hint = _STATE_HINTS.get(state, "")
    return kind(message, phase=phase, cause=f"{_one_line(text)} (SQLSTATE {state})", hint=hint)


@contextlib.contextmanager
def translated(
    message: str, *, kind: type[PostgresError] = PostgresError, phase: str | None = None
) -> t.Iterator[None]:
    """Whatever psycopg2 raises inside comes out through :func:`translate`."""
    try:
        yield
    except psycopg2.Error as error:
        # "from None": the original's DETAIL must not be in a traceback either.
        raise translate(error, message, kind=kind, phase=phase) from None


def _known(state: str) -> bool:
    try:
        psycopg2.errorcodes.lookup(state)
    except KeyError:
        return False
    return True


def _connection_failed(text: str, *, where: str, who: str) -> ConnectionFailed:
    hint = next((hint for needle, hint in _CONNECTION_HINTS if needle in text), "")
    return ConnectionFailed(f"no session as {who!r} on {where}", cause=_one_line(text), hint=hint)


def _one_line(text: str) -> str:
    # A message of the server may come from a dump.
    return printable("; ".join(line.strip() for line in text.splitlines() if line.strip()))


# PostgreSQL's client programs ---------------------------------------------------------------------------------------


def client_arguments(settings: ConnectionSettings, database: str) -> list[str]:
    """The arguments that tell a client program where to connect, as which role and to which database; no secret.

    One connection string, because a bare name that holds ``=`` or begins with ``postgresql://`` would be read as one.
    """
    parts: dict[str, t.Any] = {
        "host": settings.host,
        "port": settings.port,
        "user": settings.user,
        "dbname": database,
        "connect_timeout": settings.connect_timeout,
    }
    if settings.sslmode is not None:
        parts["sslmode"] = settings.sslmode
    if settings.over_socket:
        parts["requirepeer"] = server_account(settings)
    return ["--dbname=" + psycopg2.extensions.make_dsn(**parts)]


@contextlib.contextmanager
def client_credentials(settings: ConnectionSettings) -> t.Iterator[tuple[dict[str, str], tuple[int, ...]]]:
    """What lets a client program log in: additions to its environment, and descriptors it must inherit.

    A password goes through a password file that exists in memory only: never in the arguments or the environment of a
    process, where others could read it, nor on a disk.  The file is gone when the context is left.
    """
    if settings.password is None:
        yield {}, ()
        return
    secret = settings.password.reveal()
    if "\n" in secret or "\r" in secret:
        raise ConfigurationError(
            "the administrator's password holds a line break",
            cause="a password file has one line for each password, so pg_dump and pg_restore can't be given it",
            hint="choose another password, or use peer authentication",
        )
    escaped = secret.replace("\\", "\\\\").replace(":", "\\:")
    descriptor = os.memfd_create("passfile", os.MFD_CLOEXEC)
    try:
        # libpq takes a regular file only, and one that nobody else may read; both hold for a memory file.
        os.fchmod(descriptor, 0o600)
        content = f"*:*:*:*:{escaped}\n".encode()
        if os.write(descriptor, content) != len(content):
            raise ConfigurationError("the password file in memory could not be written", hint="is memory exhausted?")
        environment = {"PGPASSFILE": f"/proc/self/fd/{descriptor}"}
        required = None if settings.over_socket else _required_authentication(settings)
        if required is not None:
            # Not in the connection string: a libpq before 16 would refuse that, and passes over a variable.
            environment["PGREQUIREAUTH"] = required
        yield environment, (descriptor,)
    finally:
        os.close(descriptor)


def client_program(
    name: str, server_version_num: int, *, newest: bool = False, installations: str = INSTALLATIONS
) -> str:
    """Path of a client program that is at least as new as the server.

    :param name: ``pg_dump`` or ``pg_restore``.
    :param server_version_num: the server's, 150018 for 15.18.
    :param newest: take the newest program there is: the reader of archives, which may come from a newer pg_dump.
        Otherwise the one nearest to the server, because a newer pg_dump writes settings that an older server and its
        psql don't know.
    :param installations: directory with one directory for each major version.
    :raises LibraryMissing: naming the package to install.
    """
    server = server_version_num // 10000
    found = sorted(
        int(path.parent.parent.name)
        for path in pathlib.Path(installations).glob(f"*/bin/{name}")
        if path.parent.parent.name.isdigit() and os.access(path, os.X_OK)
    )
    fitting = [major for major in found if major >= server]
    if fitting:
        return str(pathlib.Path(installations, str(fitting[-1 if newest else 0]), "bin", name))
    elsewhere = None if found else shutil.which(name)
    if elsewhere is not None:
        # Its version isn't known before it runs; pg_dump itself refuses a server that is newer.
        return elsewhere
    if found:
        message, cause = (
            f"{name} is older than the server",
            f"the server is {server}, the newest {name} here is {found[-1]}",
        )
    else:
        message, cause = f"{name} is not installed", f"neither in {installations} nor on PATH"
    raise LibraryMissing(message, cause=cause, hint=f"install the package postgresql-client-{server}")


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
