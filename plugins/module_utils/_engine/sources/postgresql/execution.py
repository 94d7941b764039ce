# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Sends the statements and rows of a dump to the server as the throwaway role, each at most twice.

A statement may rely on the ``search_path`` of its database: the text of a function may name tables without their
schema.  pg_dump empties the path, so a statement that fails is sent once more with the database's own one.  Rows may be
accepted only after the rows of other tables: these are loaded from a second reading of the dump, after all others.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
import typing as t

from ...errors import DamagedObject, DumpSyntax, LoadError
from ...settings import name_for_errors
from . import failures
from .connection import codec_of, translate, translated
from .containment import Watch
from .dumptext import definitions, statements
from .dumptext.events import CHUNK, CopyBlock
from .dumptext.scanner import Statement

try:
    import psycopg2
    import psycopg2.errorcodes as codes
    import psycopg2.extensions
except ImportError:
    psycopg2 = None  # type: ignore[assignment]

if t.TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection
    from psycopg2.extensions import cursor as Cursor

MAINTENANCE_WORK_MEM = 256 * 1024
"""KiB of memory for building an index, if the server's own setting is lower."""

MAX_DEFERRED = 10_000
"""Number of blocks of rows that may wait for the second reading."""

#: Opens the dump once more, from its beginning.
Again = t.Callable[[], "contextlib.AbstractContextManager[t.Iterable[Statement]]"]

SET_SEARCH_PATH = "SELECT pg_catalog.set_config('search_path', %s, false)"

# A dump's text is scanned byte by byte.  In these encodings the second byte of a character may look like a quote or a
# backslash.  Servers cannot use them, but clients can.
_UNSAFE_ENCODINGS = re.compile("BIG5|GB18030|GBK|JOHAB|MSKANJI|SHIFTJIS|SHIFTJIS2004|SJIS|UHC|WIN(DOWS)?9(32|36|49|50)")

_COPY_LINE = re.compile(r", line (\d+)(?=[,:]|\Z)", re.MULTILINE)

# By now the loading role may no longer log in.  Before these minor releases, the server also applied that to the
# parallel workers of the role's session, and the statement failed.
_WORKERS_SINCE = {13: 130019, 14: 140016, 15: 150011, 16: 160007, 17: 170003}


def starts_workers(server_version: int) -> bool:
    """Whether the server starts parallel workers for a role that may not log in."""
    return server_version >= _WORKERS_SINCE.get(server_version // 10000, 0)


def written_path(search_path: t.Sequence[str], *users: str | None) -> str:
    """Return a ``search_path`` as the server takes it, with the names of *users* in place of ``$user``."""
    names = [name for entry in search_path for name in (users if entry == "$user" else (entry,))]
    return ", ".join(statements.quote(name) for name in names if name is not None)


# What only a superuser may do; an aggregate whose state is internal is "invalid" for everybody else.
_DENIED = ("42501", "42P13")


class DefiningActions(t.Protocol):
    """What a superuser does so that objects can be created which the throwaway role may not create."""

    def define(self, definition: definitions.Definition) -> bool:
        """Create an object that only a superuser may create, or later: false if the source did not have it."""

    @property
    def why_undefined(self) -> str:
        """Why an object was not created, and what to do."""

    def create_role(self, role: str) -> bool:
        """Create a role that a policy names and nobody can log in as: false if the source did not have it."""


@dataclasses.dataclass(frozen=True)
class _Deferred:
    """Rows that wait for the second reading: the statement that they follow, and why they were refused."""

    text: bytes
    error: LoadError


class Execution:
    """The session that loads one dump.

    :param search_path: the database's own, as :func:`written_path` writes it.
    :param continues: record statements that fail, and go on.
    :param seconds: time limit of a statement, for errors.
    :param again: ``None``: rows are never tried again.
    :param admin: creates what only a superuser may create.
    :ivar number: of the statement that is executed, from 1.
    :ivar encoding: Python codec of the dump's text.
    :ivar rows: number of rows by table, as the server counted them.
    :ivar cause: why the last statement failed, if :meth:`run` has returned that.
    """

    def __init__(
        self,
        connection: Connection,
        cursor: Cursor,
        watch: Watch,
        *,
        search_path: str,
        continues: bool,
        seconds: float | None,
        again: Again | None,
        admin: DefiningActions,
    ) -> None:
        self._connection = connection
        self._cursor = cursor
        self._watch = watch
        self._search_path = search_path
        self._continues = continues
        self._seconds = seconds
        self._again = again
        self._admin = admin
        self._deferred: dict[int, _Deferred] = {}
        self._known_roles: dict[str, bool] | None = None
        self.number = 0
        self.encoding = "utf-8"
        self.cause = ""
        self.rows: dict[str, int] = {}
        self.failures = failures.Failures()

    @property
    def idle(self) -> bool:
        """Whether the dump has not begun a transaction."""
        return self._connection.info.transaction_status == psycopg2.extensions.TRANSACTION_STATUS_IDLE

    def prepare(self) -> None:
        """Check whose session it is, and set what the load needs."""
        if self._connection.info.parameter_status("is_superuser") != "off":
            raise LoadError("a dump is never loaded as a superuser", hint="connect as the throwaway role")
        with translated("could not prepare the session", kind=LoadError):
            self._cursor.execute(
                # Text that does not come from pg_dump may rely on it; pg_dump's own text sets it anyway.
                "SET search_path = public;"
                # If the server crashes, the staging database is filled again from the start.
                "SET synchronous_commit = off;"
                # Otherwise the check of every foreign key would compile anew.
                "SET jit = off;"
                # See change_privileges(); a dump's own setting is left out.
                "SET client_min_messages = warning;"
                "SELECT pg_catalog.set_config('maintenance_work_mem', %s || 'kB', false) FROM pg_catalog.pg_settings"
                " WHERE name = 'maintenance_work_mem' AND setting::bigint < %s",
                (str(MAINTENANCE_WORK_MEM), MAINTENANCE_WORK_MEM),
            )
            if not starts_workers(self._connection.info.server_version):
                self._cursor.execute(
                    "SET max_parallel_maintenance_workers = 0; SET max_parallel_workers_per_gather = 0"
                )

    # Statements

    def run(self, statement: Statement, *tolerated: str) -> str | None:
        """Send a statement.  Return the SQLSTATE of its failure if that is among *tolerated*, otherwise ``None``.

        :raises LoadError: if it failed otherwise, unless the load goes on over that.
        """
        if self._deferred and self.idle and statements.is_post_data(statement, encoding=self.encoding):
            self.load_deferred()
        self.refuse_nul(statement)
        error = self._attempt(statement)
        if error is not None and error.pgcode in _DENIED and self.idle and self.define(statement):
            return None
        if error is not None and error.pgcode not in tolerated and self._may_try_again(error):
            with self._own_search_path():
                error = self._attempt(statement)
        if error is None:
            return None
        # In a transaction that the dump has begun, no failure can be ignored.
        if error.pgcode in tolerated and self.idle:
            self.cause = translate(error, "").cause
            return error.pgcode
        self._fail(statement, error)
        return None

    def define(self, statement: Statement) -> bool:
        """Have a superuser create what only a superuser may create; return whether the source had it.

        :raises RestoreRefused: if it is not what the source had.
        """
        definition = definitions.definition(statement, encoding=self.encoding)
        if definition is None:
            return False
        try:
            return self._admin.define(definition)
        except LoadError as failed:
            self.fail(statement, failed)
            return True

    def _attempt(self, statement: Statement) -> psycopg2.Error | None:
        try:
            with self._watch:
                self._cursor.execute(statement.text)
        except psycopg2.Error as error:
            return error
        return None

    def _may_try_again(self, error: psycopg2.Error) -> bool:
        return self.idle and not self._watch.struck and failures.may_depend_on_search_path(error)

    @contextlib.contextmanager
    def _own_search_path(self) -> t.Iterator[None]:
        """Set the ``search_path`` of the database, and afterwards the dump's again."""
        with translated("could not set the search_path", kind=LoadError):
            self._cursor.execute("SELECT pg_catalog.current_setting('search_path')")
            before = self._cursor.fetchall()[0][0]
            self._cursor.execute(SET_SEARCH_PATH, (self._search_path,))
        yield
        # After an error that ends the load nothing is to be set any more.
        if not self._connection.closed and self.idle:
            with translated("could not set the search_path", kind=LoadError):
                self._cursor.execute(SET_SEARCH_PATH, (before,))

    def refuse_nul(self, statement: Statement) -> None:
        """Raise if libpq would send only the beginning of *statement*."""
        if b"\0" in statement.text:
            raise DumpSyntax(
                f"statement {self.number} of the dump contains a NUL byte ({self.describe(statement)})",
                hint="PostgreSQL's text never does: was the file written in UTF-16, or damaged?",
            )

    def change_privileges(self, statement: Statement) -> str | None:
        """Execute a GRANT or REVOKE.

        Return a SQLSTATE if it was refused, or without full effect: 42501, or that of a missing object.
        """
        # A role that has a privilege which it may not grant gets only a warning.  (psycopg2 keeps the last 50 of them.)
        del self._connection.notices[:]
        refused = self.run(
            statement,
            codes.INSUFFICIENT_PRIVILEGE,
            codes.UNDEFINED_TABLE,
            codes.UNDEFINED_OBJECT,
            codes.UNDEFINED_FUNCTION,
            codes.UNDEFINED_COLUMN,
            codes.INVALID_SCHEMA_NAME,
        )
        if refused is None and self._connection.notices:
            return codes.INSUFFICIENT_PRIVILEGE
        return refused

    # Rows

    def copy(self, block: CopyBlock) -> None:
        """Load the rows of a block, or defer that."""
        error = self._attempt_copy(block)
        if error is None:
            return
        if (
            self._again is None
            or not self.idle
            or self._watch.struck
            or len(self._deferred) >= MAX_DEFERRED
            or not failures.may_depend_on_other_tables(error)
        ):
            self._fail(block, error)
            return
        self._deferred[self.number] = _Deferred(block.text, self._failed(block, error))

    def _attempt_copy(self, block: CopyBlock) -> psycopg2.Error | None:
        rows = _Rows(block, self._watch)
        try:
            with self._watch:
                self._cursor.copy_expert(block.text, t.cast(t.Any, rows), CHUNK)
        except psycopg2.Error as error:
            if rows.error is not None:
                raise rows.error from None
            return error
        self.rows[block.table] = self.rows.get(block.table, 0) + self._cursor.rowcount
        return None

    def load_deferred(self) -> None:
        """Load the rows that were refused at first from a second reading of the dump, and skip everything else in it.

        All other tables have their rows by now, and none has keys, indexes or triggers yet.
        """
        deferred, self._deferred = self._deferred, {}
        if not deferred or self._again is None:
            return
        before = self.number
        with self._again() as events, self._own_search_path():
            for self.number, block in enumerate(events, 1):
                first = deferred.pop(self.number, None)
                if first is None:
                    continue
                if not isinstance(block, CopyBlock) or block.text != first.text:
                    raise _another()
                error = self._attempt_copy(block)
                if error is not None:
                    self._fail(block, error)
                if not deferred:
                    break
        if deferred:
            raise _another()
        self.number = before

    # Failures

    def _fail(self, statement: Statement, error: psycopg2.Error) -> None:
        failed = self._failed(statement, error)
        if failures.is_fatal(error) or self._watch.struck:
            raise failed
        self.fail(statement, failed)

    def fail(self, statement: Statement, failed: LoadError) -> None:
        """Raise *failed*, unless the load goes on: then record it."""
        if not self._continues:
            failures.add_what_continuing_saves(failed)
            raise failed
        if isinstance(statement, CopyBlock):
            self.failures.tables.add(statement.table)
        self.failures.add(failed)

    def _failed(self, statement: Statement, error: psycopg2.Error) -> LoadError:
        where = f"statement {self.number} of the dump"
        line = _COPY_LINE.search(error.diag.context or "") if isinstance(statement, CopyBlock) else None
        if line is not None:
            where += f", row {line[1]}"
        failed = t.cast(
            LoadError, translate(error, f"{self.describe(statement)} failed ({where})", kind=LoadError, phase="load")
        )
        failed.hint = failures.hint(error, failed.hint)
        if error.pgcode in _DENIED and definitions.definition(statement, encoding=self.encoding) is not None:
            failed.hint = self._admin.why_undefined
        if self._watch.struck:
            failed.cause = f"it took longer than {self._seconds:g} seconds"
            failed.hint = f"if you trust the dump, raise {name_for_errors('restore', 'statement_timeout')}"
        elif error.pgcode is None and "memory" in failed.cause:
            failed.hint = failures.HINT_MEMORY
        return failed

    def describe(self, statement: Statement) -> str:
        """Describe *statement* without its data."""
        return statements.describe(statement, encoding=self.encoding)

    # The session

    def set_encoding(self, statement: Statement, encoding: str) -> None:
        """Obey ``SET client_encoding``."""
        if _UNSAFE_ENCODINGS.fullmatch(re.sub("[^A-Z0-9]", "", encoding.upper())):
            raise DumpSyntax(
                f"the dump is encoded in {encoding}, which cannot be loaded",
                hint="dump the database in its own encoding, or in UTF8",
            )
        try:
            self._connection.set_client_encoding(encoding)
        except psycopg2.Error as error:
            raise self._failed(statement, error) from None
        self.encoding = codec_of(self._connection.encoding)

    def set_parameter(self, name: str, value: str) -> bool:
        """Set a parameter that no more rows may be loaded under.  Return whether the server takes the value."""
        self.load_deferred()
        try:
            self._cursor.execute("SELECT pg_catalog.set_config(%s, %s, false)", (name, value))
        except psycopg2.Error as error:
            if failures.is_fatal(error):
                raise translate(error, f"could not set {name}", kind=LoadError) from None
            return False
        return True

    def may_use(self, tablespace: str) -> bool:
        """Whether the throwaway role may create tables in *tablespace*."""
        with translated(f"could not look up tablespace {tablespace!r}", kind=LoadError):
            self._cursor.execute("SELECT pg_catalog.has_tablespace_privilege(%s, 'CREATE')", (tablespace,))
            return bool(self._cursor.fetchall()[0][0])

    def create_role(self, role: str) -> bool:
        """Have a superuser create a role that is missing; return whether the source had it."""
        self._known_roles = None
        return self._admin.create_role(role)

    @property
    def public_creates(self) -> bool:
        """Whether PUBLIC may create objects in the schema public of a new database."""
        return self._connection.info.server_version < 150000

    def role_exists(self, name: str) -> bool:
        """Whether the cluster has the role *name*."""
        return name in self._roles

    def is_superuser(self, name: str) -> bool:
        """Whether *name* is a superuser of the cluster."""
        return self._roles.get(name, False)

    @property
    def _roles(self) -> dict[str, bool]:
        """The roles of the cluster, and whether they are superusers."""
        if self._known_roles is None:
            with translated("could not list the roles", kind=LoadError):
                self._cursor.execute("SELECT rolname, rolsuper FROM pg_catalog.pg_roles")
                self._known_roles = dict(self._cursor.fetchall())
        return self._known_roles


def _another() -> DamagedObject:
    return DamagedObject(
        "the second reading of the backup was not the same as the first",
        phase="load",
        hint="the object was replaced while it was restored: find out by whom, and run again",
    )


class _Rows:
    """Passes the rows of a block to psycopg2, and keeps the error of a failed read, which psycopg2 loses."""

    def __init__(self, block: CopyBlock, watch: Watch) -> None:
        self._block = block
        self._watch = watch
        self.error: BaseException | None = None

    def read(self, n: int, /) -> bytes:
        self._watch.restart()
        try:
            return self._block.read(n)
        except BaseException as error:
            self.error = error
            raise
