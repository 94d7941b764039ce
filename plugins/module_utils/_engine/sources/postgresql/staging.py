# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The staging database: the empty database that a restore fills, from its creation to its end.

Every function takes an autocommit connection of a superuser in the maintenance database, unless it says otherwise.
``CREATE DATABASE`` and ``DROP DATABASE`` can't run in a transaction block.
"""

from __future__ import annotations

import contextlib
import time
import typing as t

from ...errors import PostgresError, RestoreRefused
from .connection import ConnectionSettings, connect, transaction, translate, translated
from .database_settings import Creation, capture, role_or_public
from .sessions import sessions_of

try:
    import psycopg2
    import psycopg2.errorcodes
    from psycopg2 import sql
except ImportError:
    psycopg2 = None  # type: ignore[assignment]
    sql = None  # type: ignore[assignment]

if t.TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection

_TERMINATE_EVERY = 0.05  # seconds between two attempts to end sessions
_CLOSING_SECONDS = 60.0  # until sessions have ended; a backend that waits for the disk takes its time

_PROVIDER_SINCE = {"libc": 0, "icu": 150000, "builtin": 170000}


def create_staging(conn: Connection, name: str, *, loader: str, like: Creation) -> None:
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
        with translated(f"the staging database {name!r} can't be prepared", phase="create"), transaction(conn):
            cursor.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(identifier))
            cursor.execute(privileges_statement(name, loader))
            cursor.execute(sql.SQL("ALTER DATABASE {} WITH ALLOW_CONNECTIONS true").format(identifier))


def privileges_statement(name: str, loader: str) -> sql.Composed:
    """``GRANT`` of what the loader may do with the staging database itself."""
    return sql.SQL("GRANT CONNECT, CREATE, TEMPORARY ON DATABASE {} TO {}").format(
        sql.Identifier(name), sql.Identifier(loader)
    )


def open_staging(conn: Connection, loader: str) -> None:
    """Give the schema ``public`` to the loader, whose dump may change, drop and make it like any other.

    :param conn: the administrator's, in the staging database.
    """
    with (
        translated("the staging database's schema public can't be handed over", phase="create"),
        conn.cursor() as cursor,
    ):
        cursor.execute(sql.SQL("ALTER SCHEMA public OWNER TO {}").format(sql.Identifier(loader)))


# Anyone who got in with the dump's help, as another role perhaps.
_STRANGERS = """
SELECT pg_catalog.pg_terminate_backend(a.pid)
FROM pg_catalog.pg_stat_activity a
LEFT JOIN pg_catalog.pg_roles r ON r.oid = a.usesysid
WHERE a.datname = %s AND a.pid <> pg_catalog.pg_backend_pid() AND NOT coalesce(r.rolsuper, false)
  AND a.backend_type NOT IN ('autovacuum worker', 'parallel worker')
"""


def close_staging(conn: Connection, name: str) -> None:
    """Let only superusers connect to the staging database *name* any more, and end the sessions of everyone else.

    The dump is loaded by then.  It may have let others in: before PostgreSQL 16 a role can pass itself on.  What can
    still run code of the dump is autovacuum, which computes expressions of indexes and statistics as the owner of the
    table.

    :param conn: the administrator's, in the staging database.
    """
    present = capture(conn, name)
    with translated(f"the staging database {name!r} can't be closed", phase="ownership"), conn.cursor() as cursor:
        for grantee in {entry.grantee for entry in present.privileges} - {present.owner}:
            cursor.execute(
                sql.SQL("REVOKE ALL ON DATABASE {} FROM {} CASCADE").format(
                    sql.Identifier(name), role_or_public(grantee)
                )
            )
        deadline = time.monotonic() + _CLOSING_SECONDS
        while True:
            cursor.execute(_STRANGERS, (name,))
            if not cursor.fetchall():
                return
            if time.monotonic() > deadline:
                raise PostgresError(
                    f"sessions in the staging database {name!r} can't be ended",
                    phase="ownership",
                    cause="; ".join(map(str, sessions_of(conn, name))),
                    hint="run again",
                )
            time.sleep(_TERMINATE_EVERY)


def roll_back_prepared(conn: Connection) -> None:
    """Roll back what a dump has left prepared: nobody would end it, and the database could be neither used nor dropped.

    :param conn: the administrator's, in the staging database.
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


def drop_staging(conn: Connection, name: str, *, settings: ConnectionSettings) -> None:
    """Drop a staging database, if it is there, with whatever a dump has left in it."""
    with translated(f"prepared transactions in {name!r} can't be listed", phase="drop"), conn.cursor() as cursor:
        cursor.execute("SELECT 1 FROM pg_catalog.pg_prepared_xacts WHERE database = %s", (name,))
        prepared = cursor.fetchone() is not None
    if prepared:
        with contextlib.suppress(PostgresError), contextlib.closing(connect(settings, database=name)) as inside:
            roll_back_prepared(inside)
    drop_with_subscriptions(conn, name, settings=settings)


def drop_with_subscriptions(conn: Connection, name: str, *, settings: ConnectionSettings) -> None:
    """Drop the database *name*, if it is there, with subscriptions that are disabled, as a restore creates them.

    A database that has one cannot be dropped.  Its slot on the other server stays: another database may use it.
    """
    with translated(f"subscriptions in {name!r} can't be listed", phase="drop"), conn.cursor() as cursor:
        cursor.execute(
            "SELECT s.subname FROM pg_catalog.pg_subscription s JOIN pg_catalog.pg_database d ON d.oid = s.subdbid"
            " WHERE d.datname = %s AND d.datallowconn AND NOT s.subenabled",
            (name,),
        )
        subscriptions = [subscription for (subscription,) in cursor.fetchall()]
    if subscriptions:
        with (
            contextlib.closing(connect(settings, database=name)) as inside,
            translated(f"subscriptions in {name!r} can't be dropped", phase="drop"),
            inside.cursor() as cursor,
        ):
            for subscription in subscriptions:
                cursor.execute(
                    sql.SQL("ALTER SUBSCRIPTION {0} SET (slot_name = NONE); DROP SUBSCRIPTION {0}").format(
                        sql.Identifier(subscription)
                    )
                )
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


def default_encoding(conn: Connection) -> str:
    """The encoding of a database for which none is given."""
    with translated("could not look up the encoding of template0", phase="create"), conn.cursor() as cursor:
        cursor.execute(
            "SELECT pg_catalog.pg_encoding_to_char(encoding) FROM pg_catalog.pg_database WHERE datname = 'template0'"
        )
        return str(cursor.fetchall()[0][0])


def _require_creation(conn: Connection, name: str, like: Creation) -> None:
    version = conn.info.server_version
    since = _PROVIDER_SINCE.get(like.provider or "libc")
    if since is None or version < since:
        raise RestoreRefused(
            f"the staging database {name!r} can't be created",
            phase="create",
            cause=f"PostgreSQL {version // 10000} has no locale provider {like.provider!r}",
            hint="restore on a newer PostgreSQL, or create the database yourself with another locale first",
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
        else f"create the tablespace {like.tablespace} first (CREATE TABLESPACE), or move the database to another one",
    }
    error = translate(exc, f"the staging database {name!r} can't be created", phase="create")
    error.hint = hints.get(exc.pgcode or "", error.hint)
    return error


def size_of(conn: Connection, name: str) -> int:
    """Bytes that the database *name* takes on disk; 0 where there is none (any more)."""
    with translated(f"the size of {name!r} can't be measured", phase="load"), conn.cursor() as cursor:
        cursor.execute(
            "SELECT pg_catalog.pg_database_size(oid) FROM pg_catalog.pg_database WHERE datname = %s", (name,)
        )
        row = cursor.fetchone()
    return 0 if row is None else int(row[0])


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
