# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Stores the engine's state in the schema ``infrazero`` of the maintenance database.

The state is in the cluster that it describes: it is lost together with the cluster, and a new cluster has none.  A
bootstrap records what it is going to do before it does it, so that a killed one can be resumed.  A restore records the
database and the role that it is going to create, so that the leftovers of a killed one are known by name.

Every function takes a session in the maintenance database and leaves the transaction to the caller: the record of a
swap is part of the swap's transaction.  Reading also works if nothing was ever recorded.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import typing as t

from ...domain.records import OUTSTANDING, BackupRecord, DatabaseRecord, RestoredFrom
from ...domain.subjects import CLUSTER_GLOBALS
from ...errors import PostgresError
from .connection import translated

if t.TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection

#: Version of the tables below.  A release that changes them increments it, and migrates older ones in :func:`ensure`.
VERSION = 3

#: Creates the schema.  Statements that create tables in it follow in the same query or transaction.  If two sessions
#: run CREATE ... IF NOT EXISTS at the same time, one of them fails, so they take turns.  Only a superuser can lock a
#: system catalog in this mode, so a tenant cannot block them.
SCHEMA = """
LOCK TABLE pg_catalog.pg_namespace IN SHARE UPDATE EXCLUSIVE MODE;
CREATE SCHEMA IF NOT EXISTS infrazero;
REVOKE ALL ON SCHEMA infrazero FROM PUBLIC;
COMMENT ON SCHEMA infrazero IS 'State of infrazero.database: bootstraps, restores and what databases came from';
"""

_TABLES = """
CREATE TABLE IF NOT EXISTS infrazero.version (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    version integer NOT NULL
);
INSERT INTO infrazero.version (version) VALUES (%(version)s) ON CONFLICT DO NOTHING;
CREATE TABLE IF NOT EXISTS infrazero.bootstrap (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    host text NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz
);
CREATE UNIQUE INDEX IF NOT EXISTS bootstrap_unfinished ON infrazero.bootstrap ((true)) WHERE finished_at IS NULL;
CREATE TABLE IF NOT EXISTS infrazero.database (
    name text PRIMARY KEY,
    restore text NOT NULL CHECK (restore IN ('outstanding', 'restored', 'empty', 'skipped')),
    restored_from jsonb,
    dropped jsonb CHECK (dropped IS NULL OR restore = 'outstanding'),
    since timestamptz NOT NULL DEFAULT now(),
    CHECK ((restore = 'restored') = (restored_from IS NOT NULL))
);
CREATE TABLE IF NOT EXISTS infrazero.restore (
    id text PRIMARY KEY,
    database text NOT NULL,
    stage text NOT NULL,
    role text NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE IF NOT EXISTS infrazero.replaced (
    name text PRIMARY KEY,
    database text NOT NULL,
    replaced_at timestamptz NOT NULL DEFAULT now(),
    drop_after timestamptz NOT NULL
);
ALTER TABLE infrazero.replaced ADD COLUMN IF NOT EXISTS oid oid, ADD COLUMN IF NOT EXISTS before jsonb;
CREATE TABLE IF NOT EXISTS infrazero.copy (
    name text PRIMARY KEY,
    oid oid NOT NULL,
    database text NOT NULL,
    restored_from jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    drop_after timestamptz
);
CREATE TABLE IF NOT EXISTS infrazero.passwords (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    proof text NOT NULL
);
CREATE TABLE IF NOT EXISTS infrazero.backup (
    database text NOT NULL,
    location text NOT NULL,
    sequence bigint NOT NULL,
    manifest_sha256 text NOT NULL,
    key text NOT NULL,
    created_at timestamptz NOT NULL,
    signed_by jsonb,
    PRIMARY KEY (database, location)
);
UPDATE infrazero.version SET version = %(version)s WHERE version < %(version)s;
REVOKE ALL ON ALL TABLES IN SCHEMA infrazero FROM PUBLIC;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA infrazero FROM PUBLIC;
"""


@dataclasses.dataclass(frozen=True)
class Bootstrap:
    """The cluster's latest bootstrap.  Without :attr:`finished_at` it must be resumed."""

    id: int
    host: str
    started_at: datetime.datetime
    finished_at: datetime.datetime | None


@dataclasses.dataclass(frozen=True)
class RestoreRecord:
    """A restore that has begun.  If no session works on it any more, it was killed, and its objects are leftovers.

    :param database: the database to restore.
    :param stage: the staging database.
    :param role: the throwaway role that fills the staging database.
    """

    id: str
    database: str
    stage: str
    role: str
    started_at: datetime.datetime


@dataclasses.dataclass(frozen=True)
class Before:
    """What a replaced database had, so that it can be swapped in again as it was.

    :param settings: what belonged to it, as its maker wrote it.
    :param record: what was recorded of it; ``None``: nothing.
    """

    settings: dict[str, t.Any]
    record: DatabaseRecord | None


@dataclasses.dataclass(frozen=True)
class ReplacedRecord:
    """A database that was replaced and is kept for a while.

    :param name: its current name.
    :param database: its former name.
    :param oid: its OID: another database may have its name by now; ``None``: an older release has not recorded it.
    :param before: what was taken from it and what was recorded of it; ``None``: likewise.
    """

    name: str
    database: str
    replaced_at: datetime.datetime
    drop_after: datetime.datetime
    oid: int | None = None
    before: Before | None = None


@dataclasses.dataclass(frozen=True)
class CopyRecord:
    """A copy that a restore has made beside a database.

    :param oid: of the copy: another database may have its name by now.
    :param database: the database whose backup it was restored from.
    :param drop_after: when it is dropped; ``None``: it stays.
    """

    name: str
    oid: int
    database: str
    restored_from: RestoredFrom
    created_at: datetime.datetime
    drop_after: datetime.datetime | None


def ensure(conn: Connection) -> None:
    """Create the schema and its tables if they do not exist, and migrate those of an older release.

    :raises PostgresError: if a newer release has created them.
    """
    version = _version(conn)
    if version is None or version < VERSION:
        with translated("could not create the schema infrazero", phase="state"), conn.cursor() as cursor:
            # A single query is a single transaction, also in autocommit mode.
            cursor.execute(SCHEMA + _TABLES, {"version": VERSION})
        version = _version(conn)
    if version is None or version > VERSION:
        raise PostgresError(
            "a newer release has created the schema infrazero",
            phase="state",
            cause=f"it has version {version}, and this release supports up to {VERSION}",
            hint="update infrazero.database on this host",
        )


def _version(conn: Connection) -> int | None:
    rows = _read(conn, "SELECT version FROM infrazero.version")
    return int(rows[0][0]) if rows else None


def exists(conn: Connection) -> bool:
    """Return whether anything was ever recorded in this cluster that the session's role may read."""
    return _readable(conn) is True


def is_hidden(conn: Connection) -> bool:
    """Return whether something was recorded in this cluster that the session's role may not read."""
    return _readable(conn) is False


def _readable(conn: Connection) -> bool | None:
    """Return whether the session's role may read what was recorded; ``None`` if nothing ever was."""
    with translated("could not look up the schema infrazero", phase="state"), conn.cursor() as cursor:
        # Not the schema itself, which the lock of a database also creates.  This table exists since version 1.
        cursor.execute(
            "SELECT pg_catalog.has_schema_privilege(n.oid, 'USAGE')"
            " AND pg_catalog.has_table_privilege(c.oid, 'SELECT')"
            " FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
            " WHERE n.nspname = 'infrazero' AND c.relname = 'passwords'"
        )
        row = cursor.fetchone()
    return None if row is None else bool(row[0])


# Bootstrap ----------------------------------------------------------------------------------------------------------


def latest_bootstrap(conn: Connection) -> Bootstrap | None:
    """Return the bootstrap that began last; ``None`` if there was none."""
    rows = _read(conn, "SELECT id, host, started_at, finished_at FROM infrazero.bootstrap ORDER BY id DESC LIMIT 1")
    return Bootstrap(*rows[0]) if rows else None


def begin_bootstrap(conn: Connection, wanted: t.Mapping[str, bool], *, host: str) -> Bootstrap:
    """Record that a bootstrap begins, or that an unfinished one is resumed.

    Call it and commit before the first role or database is created.  What an interrupted run has done stays recorded as
    done.  New names are added.

    :param wanted: for each database, whether a backup is to be restored into it.
    :param host: host on which the bootstrap runs.
    """
    ensure(conn)
    with translated("could not record the bootstrap", phase="state"), conn.cursor() as cursor:
        cursor.execute(
            "WITH names AS ("
            "  INSERT INTO infrazero.database (name, restore)"
            "  SELECT key, CASE WHEN value::boolean THEN 'outstanding' ELSE 'skipped' END"
            "  FROM pg_catalog.jsonb_each_text(%s::jsonb)"
            "  ON CONFLICT (name) DO NOTHING"
            ") "
            "INSERT INTO infrazero.bootstrap (host) VALUES (%s)"
            " ON CONFLICT ((true)) WHERE finished_at IS NULL DO NOTHING",
            (json.dumps(dict(wanted)), host),
        )
    bootstrap = latest_bootstrap(conn)
    if bootstrap is None:
        raise PostgresError("the record of the bootstrap has disappeared", phase="state", hint="run again")
    return bootstrap


def finish_bootstrap(conn: Connection) -> bool:
    """Record that the bootstrap has finished, unless a restore is outstanding.

    :returns: whether it has finished.
    """
    with translated("could not record the end of the bootstrap", phase="state"), conn.cursor() as cursor:
        cursor.execute(
            "UPDATE infrazero.bootstrap SET finished_at = now() WHERE finished_at IS NULL"
            " AND NOT EXISTS (SELECT FROM infrazero.database WHERE restore = 'outstanding')"
        )
    bootstrap = latest_bootstrap(conn)
    return bootstrap is not None and bootstrap.finished_at is not None


# Databases ----------------------------------------------------------------------------------------------------------

_DATABASE_COLUMNS = "name, restore, restored_from, since, dropped"


def database_records(conn: Connection) -> dict[str, DatabaseRecord]:
    """Return the records of all databases by name, without that of the cluster's globals."""
    rows = _read(
        conn,
        f"SELECT {_DATABASE_COLUMNS} FROM infrazero.database WHERE name <> %s ORDER BY name",
        (CLUSTER_GLOBALS,),
    )
    return {row[0]: _database_record(*row) for row in rows}


def database_record(conn: Connection, name: str) -> DatabaseRecord | None:
    """Return the record of one database; ``None`` if there is none."""
    rows = _read(conn, f"SELECT {_DATABASE_COLUMNS} FROM infrazero.database WHERE name = %s", (name,))
    return _database_record(*rows[0]) if rows else None


def outstanding(conn: Connection) -> tuple[str, ...]:
    """Return the databases that still wait for their restore."""
    return tuple(record.name for record in database_records(conn).values() if record.restore == OUTSTANDING)


def record_outcome(
    conn: Connection,
    name: str,
    restore: str,
    *,
    restored_from: RestoredFrom | None = None,
    dropped: t.Mapping[str, t.Any] | None = None,
) -> None:
    """Record the outcome of a database's restore in place of what was recorded before.

    :param restore: a status of :mod:`...domain.records`; ``OUTSTANDING`` if a restore is going to empty the database
        first.
    :param restored_from: only with ``RESTORED``, and always then.
    :param dropped: with ``OUTSTANDING``, see :class:`...domain.records.DatabaseRecord`.
    """
    ensure(conn)
    source = None if restored_from is None else json.dumps(dataclasses.asdict(restored_from))
    settings = None if dropped is None else json.dumps(dropped)
    with translated(f"could not record the outcome of restoring {name!r}", phase="state"), conn.cursor() as cursor:
        cursor.execute(
            "INSERT INTO infrazero.database (name, restore, restored_from, dropped) VALUES (%s, %s, %s, %s)"
            " ON CONFLICT (name) DO UPDATE SET restore = excluded.restore, restored_from = excluded.restored_from,"
            " dropped = excluded.dropped, since = now()",
            (name, restore, source, settings),
        )


def put_back(conn: Connection, name: str, record: DatabaseRecord | None) -> None:
    """Put an earlier record of database *name* back, with its time; ``None``: there was none."""
    if record is not None:
        record_outcome(conn, name, record.restore, restored_from=record.restored_from, dropped=record.dropped)
    with translated(f"could not put the record of database {name!r} back", phase="state"), conn.cursor() as cursor:
        if record is None:
            cursor.execute("DELETE FROM infrazero.database WHERE name = %s", (name,))
        else:
            cursor.execute("UPDATE infrazero.database SET since = %s WHERE name = %s", (record.since, name))


def _database_record(
    name: str,
    restore: str,
    source: dict[str, t.Any] | None,
    since: datetime.datetime,
    dropped: dict[str, t.Any] | None,
) -> DatabaseRecord:
    return DatabaseRecord(name, restore, None if source is None else RestoredFrom(**source), since, dropped)


# Backups ------------------------------------------------------------------------------------------------------------


def record_backup(conn: Connection, record: BackupRecord) -> None:
    """Record the backup that has become the latest one, in place of the previous one in the same location."""
    ensure(conn)
    values = dataclasses.asdict(record)
    values["signed_by"] = None if record.signed_by is None else json.dumps(record.signed_by)
    with translated(f"could not record the backup of {record.database!r}", phase="state"), conn.cursor() as cursor:
        cursor.execute(
            "INSERT INTO infrazero.backup (database, location, sequence, manifest_sha256, key, created_at, signed_by)"
            " VALUES (%(database)s, %(location)s, %(sequence)s, %(manifest_sha256)s, %(key)s, %(created_at)s,"
            " %(signed_by)s)"
            " ON CONFLICT (database, location) DO UPDATE SET sequence = excluded.sequence,"
            " manifest_sha256 = excluded.manifest_sha256, key = excluded.key, created_at = excluded.created_at,"
            " signed_by = excluded.signed_by",
            values,
        )


def last_backup(conn: Connection, database: str, *, location: str) -> BackupRecord | None:
    """Return the last backup of *database* that this cluster has stored in *location*; ``None`` if none is recorded."""
    if not _has_table(conn, "backup"):
        return None
    rows = _read(
        conn,
        "SELECT database, location, sequence, manifest_sha256, key, created_at, signed_by FROM infrazero.backup"
        " WHERE database = %s AND location = %s",
        (database, location),
    )
    return BackupRecord(*rows[0]) if rows else None


# Restores -----------------------------------------------------------------------------------------------------------


def begin_restore(conn: Connection, restore_id: str, *, database: str, stage: str, role: str) -> None:
    """Record the database and the role that a restore is going to create.

    Call it before they are created, and commit immediately.
    """
    ensure(conn)
    with translated(f"could not record the restore of {database!r}", phase="state"), conn.cursor() as cursor:
        cursor.execute(
            "INSERT INTO infrazero.restore (id, database, stage, role) VALUES (%s, %s, %s, %s)",
            (restore_id, database, stage, role),
        )


def restores(conn: Connection, *, database: str | None = None) -> tuple[RestoreRecord, ...]:
    """Return restores that have begun and not ended, oldest first.

    Under the lock of *database*, all of its own are leftovers, because nobody else can be working on them.
    """
    rows = _read(
        conn,
        "SELECT id, database, stage, role, started_at FROM infrazero.restore"
        " WHERE %(database)s IS NULL OR database = %(database)s ORDER BY started_at, id",
        {"database": database},
    )
    return tuple(RestoreRecord(*row) for row in rows)


def end_restore(conn: Connection, restore_id: str) -> None:
    """Delete the record of a restore: what it has created was dropped or swapped in."""
    with translated(f"could not record the end of restore {restore_id}", phase="state"), conn.cursor() as cursor:
        cursor.execute("DELETE FROM infrazero.restore WHERE id = %s", (restore_id,))


# Replaced databases -------------------------------------------------------------------------------------------------


def record_replaced(
    conn: Connection,
    name: str,
    *,
    database: str,
    keep: datetime.timedelta,
    oid: int | None = None,
    before: Before | None = None,
) -> None:
    """Record that *database* was replaced and is kept as *name* for *keep*, by the server's clock."""
    ensure(conn)
    written = None if before is None else json.dumps(dataclasses.asdict(before), default=datetime.datetime.isoformat)
    with translated(f"could not record the replaced database {name!r}", phase="state"), conn.cursor() as cursor:
        cursor.execute(
            "INSERT INTO infrazero.replaced (name, database, drop_after, oid, before)"
            " VALUES (%s, %s, now() + %s, %s, %s)",
            (name, database, keep, oid, written),
        )


def replaced(conn: Connection, *, expired: bool = False, database: str | None = None) -> tuple[ReplacedRecord, ...]:
    """Return replaced databases that are kept, oldest first.

    :param expired: only those that have expired by the server's clock.
    :param database: only those that this database has replaced.
    """
    rows = _read(
        conn,
        # As JSON, a column that an older release did not have is a null.
        "SELECT name, database, replaced_at, drop_after, (to_jsonb(r) ->> 'oid')::bigint, to_jsonb(r) -> 'before'"
        " FROM infrazero.replaced r"
        " WHERE (drop_after <= now() OR NOT %(expired)s) AND (%(database)s IS NULL OR database = %(database)s)"
        " ORDER BY replaced_at, name",
        {"expired": expired, "database": database},
    )
    return tuple(
        ReplacedRecord(name, former, replaced_at, drop_after, oid, _before(before))
        for name, former, replaced_at, drop_after, oid, before in rows
    )


def _before(data: dict[str, t.Any] | None) -> Before | None:
    if data is None:
        return None
    said = data["record"]
    if said is None:
        return Before(data["settings"], None)
    since = datetime.datetime.fromisoformat(said["since"])
    record = _database_record(said["name"], said["restore"], said["restored_from"], since, said["dropped"])
    return Before(data["settings"], record)


def forget_replaced(conn: Connection, name: str) -> None:
    """Delete the record of a replaced database that no longer exists."""
    with (
        translated(f"could not delete the record of the replaced database {name!r}", phase="state"),
        conn.cursor() as cursor,
    ):
        cursor.execute("DELETE FROM infrazero.replaced WHERE name = %s", (name,))


# Copies -------------------------------------------------------------------------------------------------------------


def record_copy(
    conn: Connection, name: str, *, database: str, restored_from: RestoredFrom, keep: datetime.timedelta | None
) -> None:
    """Record that the database *name* is a copy, in place of an earlier one of this name.

    :param database: the database whose backup it was restored from.
    :param keep: how long it stays, by the server's clock; ``None``: until somebody drops it.
    """
    ensure(conn)
    with translated(f"could not record the copy {name!r}", phase="state"), conn.cursor() as cursor:
        cursor.execute(
            "INSERT INTO infrazero.copy (name, oid, database, restored_from, drop_after)"
            " SELECT datname, oid, %s, %s, now() + %s FROM pg_catalog.pg_database WHERE datname = %s"
            " ON CONFLICT (name) DO UPDATE SET oid = excluded.oid, database = excluded.database,"
            " restored_from = excluded.restored_from, created_at = now(), drop_after = excluded.drop_after",
            (database, json.dumps(dataclasses.asdict(restored_from)), keep, name),
        )


def copies(conn: Connection, *, expired: bool = False) -> tuple[CopyRecord, ...]:
    """Return the copies, oldest first.  A database of another restore or of anyone else is never among them.

    :param expired: only those whose time is over by the server's clock.
    """
    if not _has_table(conn, "copy"):
        return ()
    rows = _read(
        conn,
        "SELECT c.name, c.oid, c.database, c.restored_from, c.created_at, c.drop_after FROM infrazero.copy c"
        " JOIN pg_catalog.pg_database d ON d.datname = c.name AND d.oid = c.oid"
        " WHERE c.drop_after <= now() OR NOT %s ORDER BY c.created_at, c.name",
        (expired,),
    )
    return tuple(
        CopyRecord(name, oid, database, RestoredFrom(**source), created_at, drop_after)
        for name, oid, database, source, created_at, drop_after in rows
    )


def copy_oid(conn: Connection, name: str) -> int | None:
    """Return the OID of the copy that is recorded as *name*, whatever it is called now; ``None``: none is recorded."""
    if not _has_table(conn, "copy"):
        return None
    rows = _read(conn, "SELECT oid FROM infrazero.copy WHERE name = %s", (name,))
    return int(rows[0][0]) if rows else None


def forget_copies(conn: Connection, names: t.Iterable[str]) -> None:
    """Delete the records of copies that were dropped, or that are databases of the list now."""
    if not _has_table(conn, "copy"):
        return
    with translated("could not delete records of copies", phase="state"), conn.cursor() as cursor:
        cursor.execute("DELETE FROM infrazero.copy WHERE name = ANY(%s)", (list(names),))


# Passwords ----------------------------------------------------------------------------------------------------------


def passwords_proof(conn: Connection) -> str | None:
    """Return the proof that was recorded last (see :func:`.scram.proof`)."""
    rows = _read(conn, "SELECT proof FROM infrazero.passwords")
    return str(rows[0][0]) if rows else None


def record_passwords_proof(conn: Connection, proof: str) -> None:
    """Record a proof in place of the previous one."""
    ensure(conn)
    with translated("could not record the proof of the passwords", phase="state"), conn.cursor() as cursor:
        cursor.execute(
            "INSERT INTO infrazero.passwords (proof) VALUES (%s)"
            " ON CONFLICT (one) DO UPDATE SET proof = excluded.proof",
            (proof,),
        )


# --------------------------------------------------------------------------------------------------------------------


def _has_table(conn: Connection, name: str) -> bool:
    """Whether there is this table: a cluster of an older release gets it only when something is recorded."""
    return bool(_read(conn, "SELECT WHERE pg_catalog.to_regclass(%s) IS NOT NULL", (f"infrazero.{name}",)))


def _read(
    conn: Connection, query: str, parameters: t.Sequence[t.Any] | t.Mapping[str, t.Any] = ()
) -> list[tuple[t.Any, ...]]:
    if not exists(conn):
        return []
    with translated("could not read the schema infrazero", phase="state"), conn.cursor() as cursor:
        cursor.execute(query, parameters)
        return cursor.fetchall()
