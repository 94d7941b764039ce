# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""A restore in place and in one transaction, for a server that gives nobody a superuser.

The database's user empties the database, loads the dump and compares it, all in one transaction of one session.  So it
is all or nothing, without a second database and without anybody's help.  PostgreSQL can roll almost all of this back;
what it cannot do in a transaction, pg_dump does not write.

No part of a dump has more rights here than its author has anyway: the session is the user's own, and has no other role
to go back to.  What the dump must not do is to end the transaction.  Statements that say so are refused; should one be
missed, its commit fails, because a deferred foreign key of a temporary table is fulfilled only at the end.
"""

from __future__ import annotations

import contextlib
import typing as t

from ...domain.restoring import REFUSE
from ...errors import LoadError, PostgresError
from ..base import Loaded, Open, Swapped, Task
from . import (
    database_settings,
    extensions,
    inplace_load,
    load,
    lock,
    ownership,
    sessions,
    settings_text,
    swap,
)
from .connection import APPLICATION, ConnectionSettings, connect, translated
from .dumpreading import DumpReading
from .dumptext import events, preamble, tally

try:
    from psycopg2 import sql
except ImportError:
    sql = None  # type: ignore[assignment]

if t.TYPE_CHECKING:
    import typing_extensions as te
    from psycopg2.extensions import connection as Connection

    from ...domain.records import RestoredFrom

#: How long to wait for the tables that other sessions use.
LOCK_TIMEOUT = "60s"
#: Objects that are dropped with one query.
_AT_ONCE = 100

_GATE = """
CREATE TEMPORARY TABLE infrazero_done (id int PRIMARY KEY) ON COMMIT DROP;
CREATE TEMPORARY TABLE infrazero_gate (
    id int REFERENCES pg_temp.infrazero_done DEFERRABLE INITIALLY DEFERRED
) ON COMMIT DROP;
INSERT INTO pg_temp.infrazero_gate VALUES (1);
"""

_TERMINATE = """
SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity
WHERE datname = pg_catalog.current_database() AND pid <> pg_catalog.pg_backend_pid() AND usename = session_user
"""

_SCHEMAS = """
SELECT n.nspname::text FROM pg_catalog.pg_namespace n JOIN pg_catalog.pg_roles r ON r.oid = n.nspowner
WHERE r.rolname = session_user AND n.nspname <> 'public' AND n.nspname !~ '^pg_'
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_namespace'::regclass
                  AND d.objid = n.oid AND d.deptype = 'e')
"""

_EXTENSIONS = """
SELECT e.extname::text FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_roles r ON r.oid = e.extowner
WHERE r.rolname = session_user
"""

# Parts of others (an identity's sequence, members of extensions) go with those.  Tables go first, whatever depends on
# them, and types and languages last.
_OWNED = """
SELECT s.classid::bigint, s.objid::bigint, i.type, i.identity
FROM pg_catalog.pg_shdepend s
CROSS JOIN LATERAL pg_catalog.pg_identify_object(s.classid, s.objid, s.objsubid) i
WHERE s.deptype = 'o' AND s.refclassid = 'pg_catalog.pg_authid'::regclass
  AND s.refobjid = (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = session_user)
  AND s.dbid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
  AND i.type <> 'default acl' AND coalesce(i.schema, '') !~ '^pg_(temp|toast)'
  AND NOT (i.type = 'schema' AND i.name IS NOT DISTINCT FROM 'public')
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                  WHERE d.classid = s.classid AND d.objid = s.objid AND d.deptype IN ('e', 'i')
                    AND d.refobjid <> s.objid)  -- a partitioned table is a part of its own columns
ORDER BY i.type NOT LIKE '%table', i.type NOT LIKE '%view', i.type IN ('type', 'language'), s.objid
"""

_DEFAULT_PRIVILEGES = """
SELECT n.nspname::text, d.defaclobjtype::text, a.grantee = 0, pg_catalog.pg_get_userbyid(a.grantee)::text
FROM pg_catalog.pg_default_acl d
JOIN pg_catalog.pg_roles r ON r.oid = d.defaclrole
LEFT JOIN pg_catalog.pg_namespace n ON n.oid = d.defaclnamespace
LEFT JOIN LATERAL pg_catalog.aclexplode(d.defaclacl) a ON true
WHERE r.rolname = session_user
"""
_KINDS = {"r": "TABLES", "S": "SEQUENCES", "f": "FUNCTIONS", "T": "TYPES", "n": "SCHEMAS", "L": "LARGE OBJECTS"}
#: What PUBLIC has by default.
_OF_PUBLIC = {"f": "EXECUTE", "T": "USAGE"}


class InPlace(DumpReading):
    """One restore in place; a context around all of it, within the limits of time and size.

    :param admin: an autocommit session in the maintenance database.
    :param held: the lock of the database.
    """

    #: The database itself always stays.
    dropped = False

    def __init__(self, task: Task, *, admin: Connection, held: lock.Lock, settings: ConnectionSettings) -> None:
        super().__init__(task, admin=admin)
        self._held = held
        self._settings = settings
        self._name = task.database.name
        self._user = task.database.user
        self._options = task.options
        self._filling = contextlib.ExitStack()
        self._around = contextlib.ExitStack()
        self._warnings: list[str] = []

    def __enter__(self) -> te.Self:
        self._around.enter_context(self.limits)
        return self

    def __exit__(self, *_exception: object) -> None:
        with self._around:
            self._filling.close()

    def make_room(self) -> None:
        """Do nothing: what is in the database goes only with the end of the transaction."""

    # Filling ----------------------------------------------------------------------------------------------------------

    def load(self, source: Open, /) -> Loaded:
        """Begin the transaction, empty the database and load the dump into it."""
        self._task.reporter.stage(self._task.subject, "load", f"loading {self._task.url}", total=self._task.size)
        enter = self._filling.enter_context
        enter(self.limits.bounded(self._settings, self._name, self._most))
        name = f"{APPLICATION} restore {self._name}"
        self._conn = enter(contextlib.closing(connect(self._settings, database=self._name, application_name=name)))
        enter(self.limits.holding(self._conn))
        with self.limits.sources() as stack:
            self._preamble, text = preamble.read(self._text(source(stack), stack))
            self._require_preamble()
            backup = self._settings_of_backup
            settings_text.set_for_rows(self._conn, backup)
            present = database_settings.capture(self._conn, self._name)
            found = None if backup is None else backup.search_path(backup.owner)
            found = present.search_path(self._user) if found is None else found
            path = load.DEFAULT_SEARCH_PATH if found is None else tuple(database_settings.split_names(found))
            self._load_options = load.LoadOptions(
                skip_acl=self._options.skips_acl,
                role_map=self._options.role_map,
                owner=self._user,
                source_owner=None if backup is None else backup.owner,
                forces_owner=True,
                grants_user=True,
                search_path=path,
                for_refreshes=settings_text.for_refreshes(backup),
                continues=self._options.continues,
                statement_seconds=self._options.statement_timeout.total_seconds(),
            )
            self._begin()
            self._empty()
            digests = tally.RowDigests(self._preamble.digest_key or b"")
            self._actions = inplace_load.OwnActions(self._conn, user=self._user, continues=self._options.continues)
            loaded = load.load(
                events.read(text, observe=digests.add),
                connection=self._conn,
                admin=self._actions,
                options=self._load_options,
                again=self._reader_again(source),
                execution=inplace_load.WholeExecution,
            )
        self._warnings += [*loaded.warnings, *self._actions.warnings]
        return Loaded(
            loaded.rows,
            {} if self._preamble.digest_key is None else digests.result(),
            tuple(map(str, loaded.skipped)),
            failed=loaded.failed,
            failed_tables=loaded.failed_tables,
        )

    def _most(self, text_bytes: int) -> int | None:
        """The limit of size: files of what is replaced stay until the end."""
        most, replaced = self._task.most(text_bytes), self._task.replaces
        return None if most is None else most + (0 if replaced is None else replaced.size)

    def _begin(self) -> None:
        if self._options.on_connections == REFUSE:
            sessions.require_no_sessions(self._admin, self._name)
        with translated(f"the restore of {self._name!r} can't begin", phase="load"), self._conn.cursor() as cursor:
            if self._options.on_connections != REFUSE:
                cursor.execute(_TERMINATE)
            cursor.execute("BEGIN")
            cursor.execute("SELECT pg_catalog.txid_current()")
            self._transaction = cursor.fetchall()[0][0]
            cursor.execute(_GATE)
            cursor.execute("SELECT pg_catalog.set_config('lock_timeout', %s, false)", (LOCK_TIMEOUT,))

    def _empty(self) -> None:
        """Drop everything that the user owns in the database, and its default privileges."""
        self._task.reporter.stage(self._task.subject, "drop", "dropping what is replaced, in the same transaction")
        available = extensions.available(self._conn)
        with (
            translated(f"what is in {self._name!r} can't be dropped", phase="drop"),
            self._conn.cursor() as cursor,
        ):
            cursor.execute(_EXTENSIONS)
            own = [name for (name,) in cursor.fetchall() if name in available and available[name].by_anyone]
            cursor.execute(_SCHEMAS)
            statements = [_drop("SCHEMA", sql.Identifier(name)) for (name,) in cursor.fetchall()]
            statements += [_drop("EXTENSION", sql.Identifier(name)) for name in own]
            _execute(cursor, statements)
            cursor.execute(_OWNED)
            _execute(cursor, [_drop_owned(oid, kind, identity) for _class, oid, kind, identity in cursor.fetchall()])
            cursor.execute(_DEFAULT_PRIVILEGES)
            _execute(cursor, list(_default_privileges(cursor.fetchall(), self._user)))
            cursor.execute(_OWNED)
            left = [f"{kind} {identity}" for _class, _oid, kind, identity in cursor.fetchall()]
            cursor.execute("SET lock_timeout = 0")
        if left:
            raise PostgresError(
                f"what is in {self._name!r} can't be dropped",
                phase="drop",
                cause=f"{len(left)} objects are still there, such as {left[0]}",
                hint="drop them, then restore again; nothing was changed",
            )

    def finish(self) -> tuple[str, ...]:
        """Gather statistics, and choose the user's search_path if nothing else has."""
        self._task.reporter.stage(self._task.subject, "analyze", "gathering statistics")
        inplace_load.settle(self._conn)
        self._warnings += load.analyze(self._conn, self._load_options.written_path)
        inplace_load.settle(self._conn)
        backup, replaces = self._settings_of_backup, self._task.replaces
        if backup is not None and (replaces is None or replaces.empty):
            if not self._options.public_connect:
                narrowed = database_settings.without_public_connect(backup)
                if narrowed != backup:
                    self._warnings.append(swap.public_connect_left_out(self._name))
                backup = narrowed
            self._warnings += database_settings.apply_foreign(
                self._conn, self._name, backup, role_map=self._options.role_map, as_owner=True
            )
        present = database_settings.capture(self._conn, self._name)
        if self._options.set_search_path and present.search_path(self._user) is None:
            path = list(self._options.search_path) or ownership.choose_search_path(self._conn)
            if path is not None:
                ownership.set_search_path(self._conn, database=self._name, role=self._user, path=path)
        return tuple(self._warnings)

    def swap(self, origin: RestoredFrom, /) -> Swapped:
        """Commit: from here on, the database is the restored one."""
        self._task.reporter.stage(self._task.subject, "swap", "committing the restored database")
        message = f"the restore of {self._name!r} could not be committed"
        with translated(message, phase="swap"), self._conn.cursor() as cursor:
            cursor.execute("SELECT pg_catalog.txid_current()")
            if cursor.fetchall()[0][0] != self._transaction:
                raise LoadError(message, phase="swap", cause="its transaction has ended before")
            cursor.execute("SET synchronous_commit = on; INSERT INTO pg_temp.infrazero_done VALUES (1)")
            self._held.check()
            cursor.execute("COMMIT")
            if cursor.statusmessage != "COMMIT":
                raise LoadError(message, phase="swap", cause="the server has rolled it back")
        return Swapped(None)

    def settle(self, swapped: Swapped, /) -> Swapped:
        """End the session."""
        self._filling.close()
        return swapped

    def discard(self) -> None:
        """Roll the transaction back."""
        self._filling.close()


def _drop(kind: str, name: sql.Composable) -> sql.Composable:
    return sql.SQL("DROP {} IF EXISTS {} CASCADE").format(sql.SQL(kind), name)


def _drop_owned(oid: int, kind: str, identity: str) -> sql.Composable:
    """The statement that drops an object as ``pg_identify_object`` describes it; the identity is quoted."""
    if kind == "large object":
        return sql.SQL("SELECT pg_catalog.lo_unlink({})").format(sql.Literal(oid))
    words = {"composite type": "TYPE", "statistics object": "STATISTICS"}.get(kind, kind.upper())
    return _drop(words, sql.SQL(identity.replace("{", "{{").replace("}", "}}")).format())


def _default_privileges(
    rows: t.Iterable[tuple[str | None, str, bool, str | None]], user: str
) -> t.Iterator[sql.Composable]:
    """Statements that make default privileges those of a new role again."""
    entries: dict[tuple[str | None, str], None] = {}
    for schema, kind, public, grantee in rows:
        entries[schema, kind] = None
        if grantee is not None:
            yield _alter_default(schema, "REVOKE ALL ON {} FROM {}", kind, None if public else grantee)
    for schema, kind in entries:
        # In a schema there are none by default.
        if schema is None:
            yield _alter_default(None, "GRANT ALL ON {} TO {}", kind, user)
            if kind in _OF_PUBLIC:
                yield _alter_default(None, f"GRANT {_OF_PUBLIC[kind]} ON {{}} TO {{}}", kind, None)


def _alter_default(schema: str | None, action: str, kind: str, grantee: str | None) -> sql.Composable:
    where = sql.SQL("") if schema is None else sql.SQL(" IN SCHEMA {}").format(sql.Identifier(schema))
    who = sql.SQL("PUBLIC") if grantee is None else sql.Identifier(grantee)
    return sql.SQL("ALTER DEFAULT PRIVILEGES{} ").format(where) + sql.SQL(action).format(sql.SQL(_KINDS[kind]), who)


def _execute(cursor: t.Any, statements: t.Sequence[sql.Composable]) -> None:
    for start in range(0, len(statements), _AT_ONCE):
        cursor.execute(sql.SQL("; ").join(statements[start : start + _AT_ONCE]))
