# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Connects to the server: through psycopg2, and with the arguments that PostgreSQL's client programs need."""

from __future__ import annotations

import codecs
import contextlib
import dataclasses
import ipaddress
import json
import os
import pathlib
import shutil
import threading
import typing as t

from ...domain import names
from ...domain.secret import Secret
from ...errors import ConfigurationError, ConnectionFailed, LibraryMissing, PostgresError
from ...printing import printable
from ...settings import name_for_errors
from . import authentication

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

# Names in a database with the encoding SQL_ASCII need not be text.  Each byte that is not valid UTF-8 becomes a
# surrogate character, as in Python's file names, and that byte again in a statement.
_BYTES = "infrazero_bytes"


def _bytes_codec(name: str) -> codecs.CodecInfo | None:
    if name != _BYTES:
        return None
    return codecs.CodecInfo(
        encode=lambda text, _errors="strict": codecs.utf_8_encode(text, "surrogateescape"),
        decode=lambda data, _errors="strict": codecs.utf_8_decode(data, "surrogateescape", True),
        name=name,
    )


codecs.register(_bytes_codec)
if psycopg2 is not None:
    psycopg2.extensions.encodings.update({"SQLASCII": _BYTES, "SQL_ASCII": _BYTES})

#: The ``application_name`` of all our sessions begins with this, followed by what the session does.
APPLICATION = "infrazero.database"

#: In place of ``~/.pgpass``, which would give sessions a password that is not that of the configuration.  No such file
#: can exist; of one that is not a regular file, libpq would complain on the standard error.
NO_PASSWORD_FILE = "/dev/null/pgpass"

#: Where Debian and its derivatives install the programs of each major version.
INSTALLATIONS = "/usr/lib/postgresql"

# A setting of the server, or one that ALTER ROLE or ALTER DATABASE has stored, must not change what our statements do,
# nor what pg_dump writes and a restore reads.  Settings in the startup packet override those.  With an empty
# search_path only pg_catalog is searched, so a superuser's session never calls an object that a tenant has created
# (CVE-2018-1058).
_SESSION = {
    # Keeps the server's order of day and month, which text in the database may need.
    "DateStyle": "ISO",
    "IntervalStyle": "postgres",
    # Off, NULL in an array becomes the word when rows are loaded.
    "array_nulls": "on",
    "backslash_quote": "safe_encoding",
    "bytea_output": "hex",
    "check_function_bodies": "on",
    "client_encoding": "UTF8",
    "client_min_messages": "warning",
    "default_table_access_method": "heap",
    # The server rejects the connection if it names a tablespace that has been dropped since.
    "default_tablespace": "",
    "default_transaction_deferrable": "off",
    "default_transaction_isolation": "read committed",
    "default_transaction_read_only": "off",
    "extra_float_digits": "3",
    "gin_fuzzy_search_limit": "0",
    "idle_in_transaction_session_timeout": "0",
    "local_preload_libraries": "",
    "lock_timeout": "0",
    "quote_all_identifiers": "off",
    "role": "none",
    "row_security": "on",
    "search_path": "",
    "standard_conforming_strings": "on",
    "statement_timeout": "0",
    "tcp_user_timeout": "0",
    "transform_null_equals": "off",
    "xmlbinary": "base64",
    "xmloption": "content",
}
# PostgreSQL's own.
_DEFAULT_SEARCH_PATH = '"$user", public'
# More such settings, which not every supported server has: an older one would reject the connection.
_SESSION_NEWER = {
    "idle_session_timeout": "0",  # 14
    "restrict_nonsystem_relation_kind": "",  # 17, and minor releases of the others since August 2024
    "transaction_timeout": "0",  # 17
}
_SET = """
SELECT pg_catalog.set_config(name, pg_catalog.jsonb_extract_path_text(%s, name), false)
FROM pg_catalog.pg_settings WHERE pg_catalog.jsonb_exists(%s, name)
"""

#: The same for settings that only a superuser can change.
ADMINISTRATION = {
    "allow_system_table_mods": "off",
    # Both would leave rows out of a backup without an error.
    "ignore_checksum_failure": "off",
    "zero_damaged_pages": "off",
    "lo_compat_privileges": "off",
    "session_replication_role": "origin",
}

# These belong to a transaction or a connection, not to a database: the startup packet need not, or cannot, set them.
_NOT_PINNED = ("application_name", "transaction_deferrable", "transaction_isolation", "transaction_read_only")

_USER_SETTINGS = """
SELECT name, setting FROM pg_catalog.pg_settings WHERE context = 'user' AND name <> ALL (%s) ORDER BY name
"""

# The version of libpq that introduced require_auth.  An older one cannot refuse a server that asks for less.
_REQUIRE_AUTH_SINCE = 160000


@dataclasses.dataclass(frozen=True)
class ConnectionSettings:
    """How the administrator connects to the server.

    :param host: directory of the server's socket, or a host name or address.
    :param user: a superuser, who usually uses the socket with peer authentication; or a role with fewer rights, which
        can do less.
    :param password: not needed with peer authentication.
    :param maintenance_database: database in which the engine keeps its state and its locks.
    :param sslmode: as libpq takes it; by default libpq's own default.
    :param sslrootcert: file with the certificates of authorities; by default libpq's own file.
    :param connect_timeout: in seconds.
    :param login_host: where roles with a password log in if *host* is a socket directory, because Debian's
        ``pg_hba.conf`` accepts their passwords only over TCP.
    """

    host: str = "/var/run/postgresql"
    port: int = 5432
    user: str = "postgres"
    password: Secret | None = None
    maintenance_database: str = "postgres"
    sslmode: str | None = None
    sslrootcert: str | None = None
    connect_timeout: int = 10
    login_host: str = "127.0.0.1"

    @property
    def over_socket(self) -> bool:
        """Whether *host* is a socket directory (an absolute path, or ``@`` for an abstract socket)."""
        return self.host.startswith(("/", "@"))

    @property
    def warnings(self) -> tuple[str, ...]:
        """What an attacker on the network could do to the administrator's sessions."""
        if self.over_socket or self.sslmode == "verify-full" or _is_loopback(self.host):
            return ()
        text = (
            f"the server {self.host} is not authenticated (sslmode {self.sslmode or 'prefer'}): anyone on the network"
            f" between can take its place, and read what is sent; set {name_for_errors('connection', 'sslmode')} to"
            f" verify-full, and {name_for_errors('connection', 'sslrootcert')} to its authority"
        )
        return (text,)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


_own_environment = threading.Lock()


def forget_environment() -> None:
    """Remove libpq's variables from the environment: they would change where we connect, and as whom, in silence.

    Not by arguments, because an empty one does not override ``PGSERVICE``, and the server's name in ``PGHOSTADDR`` wins
    over a host that is given.
    """
    with _own_environment:
        for name in [name for name in os.environ if name.startswith("PG")]:
            del os.environ[name]


def connect(
    settings: ConnectionSettings,
    *,
    database: str | None = None,
    user: str | None = None,
    password: Secret | None = None,
    through_socket: bool = False,
    autocommit: bool = True,
    application_name: str = APPLICATION,
    runs_scripts: bool = False,
) -> Connection:
    """Open a session.

    Behind a socket, the server's process must belong to a user that may be the server
    (:func:`.authentication.trusted_users`).  Nothing is sent to any other process.

    :param database: the maintenance database by default.
    :param user: a role other than the administrator, together with its *password*.  If the administrator connects
        through a socket, this role connects to :attr:`ConnectionSettings.login_host`.
    :param through_socket: whether *user* also connects through the administrator's socket.
    :param application_name: ``infrazero.database`` and what the session does.  It is visible in ``pg_stat_activity``
        and in the error about a lock that is held.
    :param runs_scripts: whether the session, in a database other than the maintenance database, creates extensions.
        Scripts of some (postgis_topology) add to the search_path with which a session starts, and store that for the
        database.  So this session starts with the server's own default, and sets it to nothing at once.
    :raises ConnectionFailed: with the server's reason and the remedy.
    """
    if psycopg2 is None:
        raise LibraryMissing("the Python library psycopg2 is not installed", hint="pip install psycopg2-binary")
    maintenance = database in (None, settings.maintenance_database)
    forget_environment()
    # The settings of the maintenance database are the superuser's own; those of any other one may be a tenant's.
    values = _SESSION if maintenance else _pinned(settings)
    if runs_scripts:
        values = {**values, "search_path": _DEFAULT_SEARCH_PATH}
    options = _as_options(values)
    host, sslmode = settings.host, settings.sslmode
    optional: dict[str, t.Any] = {}
    if settings.over_socket and user is not None and not through_socket:
        # On the loopback interface TLS only costs time; "allow" still uses it where pg_hba.conf requires it.
        host, sslmode = settings.login_host, sslmode or "allow"
    elif settings.over_socket:
        optional["requirepeer"] = server_account(settings)
    secret = password if user is not None else settings.password
    over_tcp = "requirepeer" not in optional
    if over_tcp and secret is not None and psycopg2.extensions.libpq_version() >= _REQUIRE_AUTH_SINCE:
        optional["require_auth"] = _SCRAM if user is not None else _required_authentication(settings)
    optional.update(password=secret.reveal() if secret else None, sslmode=sslmode, sslrootcert=settings.sslrootcert)
    try:
        connection: Connection = psycopg2.connect(
            host=host,
            port=settings.port,
            user=user if user is not None else settings.user,
            dbname=database if database is not None else settings.maintenance_database,
            connect_timeout=settings.connect_timeout,
            # The server would shorten it, too, but with a NOTICE in its log.
            application_name=names.shortened(application_name),
            client_encoding="UTF8",
            options=options,
            keepalives=1,
            keepalives_idle=30,
            keepalives_interval=10,
            keepalives_count=3,
            passfile=NO_PASSWORD_FILE,
            **{name: value for name, value in optional.items() if value is not None},
        )
        connection.autocommit = True
        if connection.info.parameter_status("server_encoding") == "SQL_ASCII":
            # It has bytes of no known encoding, which the server refuses to send to a client that declares one.
            connection.set_client_encoding("SQL_ASCII")
        if maintenance:
            _set(connection, _SESSION_NEWER)
        if user is None and is_superuser(connection):
            # Not at the start: the server would reject everybody else.  Nothing of a tenant's has run before this.
            _set(connection, ADMINISTRATION)
        if runs_scripts:
            clear_search_path(connection)
    except psycopg2.Error as error:
        who = user if user is not None else settings.user
        raise _connection_failed(str(error), where=f"{host}, port {settings.port}", who=who) from None
    connection.autocommit = autocommit
    return connection


def _set(connection: Connection, settings: t.Mapping[str, str]) -> None:
    """Set those of *settings* that the server has."""
    values = json.dumps(settings)
    with connection.cursor() as cursor:
        cursor.execute(_SET, (values, values))


def is_superuser(connection: Connection) -> bool:
    """Whether the session's role is a superuser."""
    return connection.info.parameter_status("is_superuser") == "on"


def clear_search_path(connection: Connection) -> None:
    """Set search_path to nothing again, in a session that has run a script of an extension."""
    with connection.cursor() as cursor:
        cursor.execute("SET search_path = ''")


def pinned_options(settings: ConnectionSettings) -> str:
    """Return an administrator's startup options that override whatever the owner of a database has set for it."""
    return _as_options(_pinned(settings, administration=True))


def _pinned(settings: ConnectionSettings, *, administration: bool = False) -> dict[str, str]:
    """Return settings that override whatever the owner of a database has set with ``ALTER DATABASE``.

    They are all settings that this server lets a user change, with the values in an administrator's session in the
    maintenance database.  So nobody can use a database's settings to keep backup and restore out of it, or to change
    the contents of its dump.  This includes settings of ``ALTER ROLE ... IN DATABASE``.

    :param administration: with those that only a superuser can change, if the administrator is one.
    """
    with (
        contextlib.closing(connect(settings)) as session,
        translated("could not list the server's settings"),
        session.cursor() as cursor,
    ):
        cursor.execute(_USER_SETTINGS, (list(_NOT_PINNED),))
        pinned = dict(cursor.fetchall())
        more = ADMINISTRATION if administration and is_superuser(session) else {}
    # pg_settings does not list "role".
    return {**_SESSION, **pinned, **more}


def _as_options(values: t.Mapping[str, str]) -> str:
    escaped = {name: value.replace("\\", r"\\").replace(" ", r"\ ") for name, value in values.items()}
    return " ".join(f"-c {name}={value}" for name, value in escaped.items())


_SCRAM = "scram-sha-256"


def _required_authentication(settings: ConnectionSettings) -> str | None:
    """Return how the server may ask for the administrator's password over TCP, as libpq's ``require_auth``."""
    # A server whose certificate is verified may receive it in clear text, which LDAP and PAM need.
    return None if settings.sslmode in ("verify-ca", "verify-full") else "!password"


def server_account(settings: ConnectionSettings) -> str:
    """Return the account whose process listens on the server's socket, for libpq's ``requirepeer``.

    :raises ConnectionFailed: if no process listens there, or one that cannot be the server.
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
            cause=f"it belongs to uid {uid} ({name or 'no account on this host'}), not to root, {settings.user}, "
            f"{authentication.ACCOUNT}, the user that runs this program or the owner of the directory",
            hint="nothing was sent to it: find out who runs it (ss -lxp), then start PostgreSQL; keep the socket in a "
            "directory that the server's account owns",
        )
    if name is None:
        raise ConnectionFailed(
            f"the process that listens on {where} belongs to an unknown account",
            cause=f"uid {uid} has no account on this host, and libpq verifies the server by its account's name",
            hint=f"create an account with uid {uid}",
        )
    return name


# Errors -------------------------------------------------------------------------------------------------------------

# Before a session exists, libpq gives only text, in the server's language.  These are the English messages.
_CONNECTION_HINTS = (
    (
        "Peer authentication failed",
        "run as the operating system user of that role (postgres), or set a host name and a password",
    ),
    ("password authentication failed", "check the role's password, and that the role may log in"),
    (
        "authentication method requirement",
        "the server asks for the password itself, so check that it is the real one; use scram-sha-256 in pg_hba.conf",
    ),
    ("no password supplied", "the server asks for a password: set one, or use the socket as the user postgres"),
    ("no pg_hba.conf entry", "add a line for this role, database and address to pg_hba.conf, then reload the server"),
    ("too many clients", "close idle sessions, or raise max_connections"),
    ("remaining connection slots", "close idle sessions, or raise max_connections"),
    ("starting up", "the server is starting: try again when it accepts connections (pg_isready)"),
    ("not yet accepting connections", "the server is starting: try again when it accepts connections (pg_isready)"),
    ("in recovery mode", "the server is recovering from a crash: try again when it accepts connections"),
    ("shutting down", "the server is shutting down: start it again"),
    ("No such file or directory", "is the server running, and are the socket directory and the port right?"),
    ("Connection refused", "is the server running, and does it listen there (listen_addresses, port)?"),
    ("timeout expired", "the server did not answer: check the address, the network and the firewall"),
    ("could not translate host name", "check the host name and the resolver"),
    ("Permission denied", "this operating system user may not use the socket: run as postgres"),
    ("not currently accepting connections", "allow connections: ALTER DATABASE ... ALLOW_CONNECTIONS true"),
    ("does not exist", "check the name; it is case-sensitive"),
    ("SSL", "check sslmode, and the server's TLS settings"),
)

_STATE_HINTS = {
    "25006": "the session is read-only; if this server is a standby, use the primary",
    "42501": "the session's role lacks a privilege: connect as a superuser",
    "53100": "the server's disk is full: free or add space there",
    "53200": "the server is out of memory",
    "53300": "close idle sessions, or raise max_connections",
    "55006": "it is in use: close those sessions (pg_stat_activity), then try again",
    "55P03": "another session holds the lock: see pg_locks and pg_stat_activity",
    "57014": "the statement was canceled or reached its timeout",
    "57P01": "an administrator ended the session, or the server was stopped: run again",
    "57P02": "the server crashed: check its log, and run again when it accepts connections",
    "57P03": "the server is starting or stopping: run again when it accepts connections",
    "58030": "the server could not read or write a file: check its log and the kernel's",
    "XX001": "the server found corrupted data: check its log, and check the disk first of all",
    "XX002": "the server found a corrupted index: check its log, and check the disk first of all",
}

# The primary message of these may quote values of rows: data exceptions, and errors that a user's functions raise.
_QUOTING_CLASSES = ("22", "P0")
# ... but these concern settings, for example an encoding that does not match a locale.
_NOT_QUOTING = frozenset({"22023"})


def translate(
    error: psycopg2.Error,
    message: str,
    *,
    kind: type[PostgresError] = PostgresError,
    phase: str | None = None,
) -> PostgresError:
    """Return an error of the server as one of the engine's errors.

    The server's DETAIL, its CONTEXT and the statement may contain data, so they are left out.  So is a primary message
    that may quote a row.

    :param message: what failed, in one line.
    """
    state = error.pgcode
    if state is None:
        # The connection ended instead of an answer from the server, and the text is libpq's own.
        return kind(
            message,
            phase=phase,
            cause=_one_line(str(error)),
            hint="the connection was lost: check in the server's log whether the server stopped or the session was"
            " ended",
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
    """Translate errors that psycopg2 raises inside with :func:`translate`."""
    try:
        yield
    except psycopg2.Error as error:
        # "from None": the original's DETAIL must not appear in a traceback either.
        raise translate(error, message, kind=kind, phase=phase) from None


def _known(state: str) -> bool:
    try:
        psycopg2.errorcodes.lookup(state)
    except KeyError:
        return False
    return True


def _connection_failed(text: str, *, where: str, who: str) -> ConnectionFailed:
    hint = next((hint for needle, hint in _CONNECTION_HINTS if needle in text), "")
    return ConnectionFailed(f"could not connect as {who!r} to {where}", cause=_one_line(text), hint=hint)


def _one_line(text: str) -> str:
    # A message from the server may contain text from a dump.
    return printable("; ".join(line.strip() for line in text.splitlines() if line.strip()))


# PostgreSQL's client programs ---------------------------------------------------------------------------------------


def client_arguments(settings: ConnectionSettings, database: str) -> list[str]:
    """Return arguments that tell a client program where to connect, as which role and to which database; no secret.

    They are one connection string, because a program takes a bare database name that contains ``=`` or begins with
    ``postgresql://`` for a connection string.
    """
    parts: dict[str, t.Any] = {
        "host": settings.host,
        "port": settings.port,
        "user": settings.user,
        "dbname": database,
        "connect_timeout": settings.connect_timeout,
    }
    for name, value in (("sslmode", settings.sslmode), ("sslrootcert", settings.sslrootcert)):
        if value is not None:
            parts[name] = value
    if settings.over_socket:
        parts["requirepeer"] = server_account(settings)
    return ["--dbname=" + psycopg2.extensions.make_dsn(**parts)]


@contextlib.contextmanager
def client_credentials(settings: ConnectionSettings) -> t.Iterator[tuple[dict[str, str], tuple[int, ...]]]:
    """Give what a client program needs to log in: additions to its environment, and descriptors to inherit.

    The password is in a password file that exists only in memory.  It is never in the arguments or the environment of a
    process, where others could read it, nor on a disk.  The file ends with the context.
    """
    if settings.password is None:
        yield {"PGPASSFILE": NO_PASSWORD_FILE}, ()
        return
    secret = settings.password.reveal()
    if "\n" in secret or "\r" in secret:
        raise ConfigurationError(
            "the administrator's password contains a line break",
            cause="a password file has one line for each password, so it cannot give this one to pg_dump or pg_restore",
            hint="choose another password, or use peer authentication",
        )
    escaped = secret.replace("\\", "\\\\").replace(":", "\\:")
    descriptor = os.memfd_create("passfile", os.MFD_CLOEXEC)
    try:
        # libpq accepts only a regular file that nobody else may read.  A memory file is both.
        os.fchmod(descriptor, 0o600)
        content = f"*:*:*:*:{escaped}\n".encode()
        if os.write(descriptor, content) != len(content):
            raise ConfigurationError(
                "could not write the password file in memory", hint="check whether the host is out of memory"
            )
        environment = {"PGPASSFILE": f"/proc/self/fd/{descriptor}"}
        required = None if settings.over_socket else _required_authentication(settings)
        if required is not None:
            # Not in the connection string: libpq before 16 rejects it there, but ignores the variable.
            environment["PGREQUIREAUTH"] = required
        yield environment, (descriptor,)
    finally:
        os.close(descriptor)


def client_program(
    name: str, server_version_num: int, *, newest: bool = False, installations: str = INSTALLATIONS
) -> str:
    """Return the path of a client program that is at least as new as the server.

    :param name: ``pg_dump`` or ``pg_restore``.
    :param server_version_num: the server's version, such as 150018 for 15.18.
    :param newest: take the newest installed program.  This is for pg_restore, because an archive may come from a newer
        pg_dump.  Otherwise take the one closest to the server's version, because a newer pg_dump writes settings that
        an older server and its psql do not know.
    :param installations: directory with one directory for each major version.
    :raises LibraryMissing: with the name of the package to install.
    """
    server = server_version_num // 10000
    installed = sorted(
        int(path.parent.parent.name)
        for path in pathlib.Path(installations).glob(f"*/bin/{name}")
        if path.parent.parent.name.isdigit() and os.access(path, os.X_OK)
    )
    suitable = [major for major in installed if major >= server]
    if suitable:
        return str(pathlib.Path(installations, str(suitable[-1 if newest else 0]), "bin", name))
    elsewhere = None if installed else shutil.which(name)
    if elsewhere is not None:
        # Its version is unknown until it runs; pg_dump itself refuses a newer server.
        return elsewhere
    if installed:
        message, cause = (
            f"{name} is older than the server",
            f"the server has version {server}, the newest {name} on this host has version {installed[-1]}",
        )
    else:
        message, cause = f"{name} is not installed", f"it is neither in {installations} nor on PATH"
    raise LibraryMissing(message, cause=cause, hint=f"install the package postgresql-client-{server}")


def codec_of(encoding: str) -> str:
    """Return Python's codec for an encoding of the server; UTF-8 for one that Python does not have, and SQL_ASCII."""
    codec = psycopg2.extensions.encodings.get(encoding.upper(), "ascii")
    return "utf-8" if codec == "ascii" else codec


def identifier(*names: str) -> sql.SQL:
    """Return the name of an object as ``sql.Identifier`` does, which takes no names that are not text."""
    return sql.SQL(".".join('"' + name.replace('"', '""') + '"' for name in names))


def is_text(name: str) -> bool:
    """Whether *name* is text in every encoding that has its characters, see :data:`_BYTES`."""
    return not any("\udc80" <= character <= "\udcff" for character in name)


@contextlib.contextmanager
def transaction(conn: Connection) -> t.Iterator[None]:
    """Run everything inside in one transaction of an autocommit connection, or in the one that is already open."""
    if conn.info.transaction_status != psycopg2.extensions.TRANSACTION_STATUS_IDLE:
        yield
        return
    with conn.cursor() as cursor:
        cursor.execute("BEGIN")
        try:
            yield
            cursor.execute("COMMIT")
        except BaseException:
            # If the connection itself is lost, the server has already rolled back.
            with contextlib.suppress(psycopg2.Error):
                cursor.execute("ROLLBACK")
            raise
