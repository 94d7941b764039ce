# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Loads the text of a dump: statements as statements, rows as COPY data, as a role that is no superuser.

A dump is code.  psql would obey its meta-commands, and a superuser's session would let it do anything to the host, so
neither is ever given one.  The little that needs a superuser (extensions, publications of all tables) is read from
the dump, and done by :class:`AdminActions`, which decide about it, in another session; no text of the dump gets there.
"""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import re
import resource
import threading
import time
import typing as t

from ...errors import DumpSyntax, LoadError
from ...printing import printable
from .connection import translate, translated
from .dumptext import statements
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
"""Memory for building an index, in KiB, where the server's own setting is lower."""

LEAST_MEMORY = 256 << 20
"""Bytes that a load may take in any case, see :func:`_bounded_memory`."""


class AdminActions(t.Protocol):
    """What a superuser does for a dump, in the database that is loaded.

    Each action is done, or raises one of the engine's errors, which ends the load.
    """

    def create_extension(self, name: str, schema: str | None) -> None:
        """Make an extension if it is allowed and not there yet; *schema* None: where it belongs by itself."""

    def publish_all_tables(self, publication: str, parameters: t.Sequence[tuple[str, str]]) -> None:
        """Make a publication of all tables, with its parameters (name, value)."""

    def publish_schemas(
        self, publication: str, schemas: t.Sequence[str], *, create: bool, parameters: t.Sequence[tuple[str, str]]
    ) -> None:
        """Add the tables of *schemas* to a publication, which is made first if *create*."""


@dataclasses.dataclass(frozen=True)
class LoadOptions:
    """How a dump is loaded.

    :param skip_acl: leave out the dump's grants.
    :param role_map: new names of roles that the dump names: in grants, policies, user mappings and as owners.
    :param statement_seconds: how long a statement may take, or a table's rows stand still; ``None``: for ever.
    """

    skip_acl: bool
    role_map: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    statement_seconds: float | None = None


@dataclasses.dataclass(frozen=True)
class Skipped:
    """Statements of a dump that were not carried out.

    :param kind: of the object: ``event trigger``, ``grant``, ``parameter`` and so on.
    :param what: the object's name, or what else tells it from others; may be empty.
    :param why: the reason, one line.
    :param loss: something of the dump is missing in the database that nobody else sees to.
    :param count: how many statements.
    """

    kind: str
    what: str
    why: str
    loss: bool
    count: int

    def __str__(self) -> str:
        times = f" ({self.count} statements)" if self.count > 1 else ""
        return printable(f"{' '.join(filter(None, (self.kind, self.what)))} left out{times}: {self.why}")


@dataclasses.dataclass(frozen=True)
class LoadResult:
    """What a load did.

    :param rows: rows for each table, by its name in the dump's COPY statements, as the server counted them.
    :param owner_changes: the owners that the dump names, roles mapped; none has been set.
    :param skipped: what was not carried out.
    """

    rows: t.Mapping[str, int]
    owner_changes: t.Sequence[statements.OwnerChange]
    skipped: t.Sequence[Skipped]

    @property
    def warnings(self) -> list[str]:
        """What the operator should know: one line for everything of the dump that is missing now."""
        return [str(skipped) for skipped in self.skipped if skipped.loss]


def load(
    events: t.Iterable[Statement], *, connection: Connection, admin: AdminActions, options: LoadOptions
) -> LoadResult:
    """Load a dump into the connection's database, which is empty.

    :param events: of :func:`.dumptext.events.events`; whatever it raises comes through.
    :param connection: an autocommit session of a role that may create in the database and is no superuser.  The dump
        changes its settings; it is good for nothing else afterwards.
    :raises LoadError: the server refused something.  The text names the statement's object and never holds its data.
    """
    with (
        connection.cursor() as cursor,
        _bounded_memory(),
        contextlib.closing(_Watch(connection, options.statement_seconds)) as watch,
    ):
        return _Loader(connection, cursor, admin, options, watch).run(events)


def analyze(connection: Connection) -> None:
    """Gather statistics of all tables that the connection's role owns."""
    with translated("the statistics can't be gathered", kind=LoadError), connection.cursor() as cursor:
        # The server warns of each table that is not the role's own, all system catalogs among them.
        cursor.execute("SET client_min_messages = error")
        cursor.execute("ANALYZE")


# A dump's text is scanned byte by byte; in these encodings a character's second byte may look like a quote or a
# backslash.  Servers don't have them, clients can ask for them.
_UNSAFE_ENCODINGS = re.compile("BIG5|GB18030|GBK|JOHAB|MSKANJI|SHIFTJIS|SHIFTJIS2004|SJIS|UHC|WIN(DOWS)?9(32|36|49|50)")

_COPY_LINE = re.compile(r", line (\d+)(?=[,:]|\Z)", re.MULTILINE)

_HINTS = {
    "0A000": "this server can't do that: is the dump from a newer PostgreSQL?",
    "42501": "only a superuser may do that, and a dump is never loaded as one: provide it as an extension and allow"
    " that one, or take it out of the source database",
    "42601": "the server doesn't understand the statement: is the dump from a newer PostgreSQL?",
    "42704": "the dump needs something that isn't here: an extension that it doesn't name, or a role?",
    "42883": "the dump needs something that isn't here: an extension that it doesn't name?",
    "42P01": "the dump needs something that isn't here: was only a part of the database dumped?",
    "22021": "the dump's text doesn't fit the encoding of the database",
    "22P05": "the dump's text doesn't fit the encoding of the database",
    "23503": "the dump's rows contradict the dump's constraints: was it written by pg_dump, of the whole database?",
    "23505": "the dump's rows contradict the dump's constraints: a damaged index in the source, or another collation",
}


# The role that loads may not log in any more.  Before these minor releases the server applied that to the parallel
# workers of its session, too, and the statement failed.
_WORKERS_SINCE = {13: 130019, 14: 140016, 15: 150011, 16: 160007, 17: 170003}


def _starts_workers(server_version: int) -> bool:
    return server_version >= _WORKERS_SINCE.get(server_version // 10000, 0)


class _Loader:
    def __init__(
        self, connection: Connection, cursor: Cursor, admin: AdminActions, options: LoadOptions, watch: _Watch
    ) -> None:
        self._connection = connection
        self._cursor = cursor
        self._admin = admin
        self._options = options
        self._watch = watch
        self._encoding = "utf-8"
        self._number = 0
        self._known_roles: frozenset[str] | None = None
        self._rows: dict[str, int] = {}
        self._owner_changes: list[statements.OwnerChange] = []
        self._skipped: dict[tuple[str, str, str, bool], int] = {}

    def run(self, events: t.Iterable[Statement]) -> LoadResult:
        self._prepare()
        try:
            return self._run(events)
        except MemoryError:
            raise LoadError(
                f"statement {self._number} of the dump, or the one after it, takes more memory than the host can spare",
                hint=_HINT_MEMORY,
            ) from None

    def _run(self, events: t.Iterable[Statement]) -> LoadResult:
        for self._number, statement in enumerate(events, 1):
            if isinstance(statement, CopyBlock):
                self._copy(statement)
            else:
                self._take(statement)
        if not self._idle:
            raise LoadError(
                "the dump leaves a transaction open", hint="it has a BEGIN without its COMMIT: was it cut or edited?"
            )
        skipped = [Skipped(*key, count) for key, count in self._skipped.items()]
        return LoadResult(self._rows, self._owner_changes, skipped)

    def _prepare(self) -> None:
        if self._connection.info.parameter_status("is_superuser") != "off":
            raise LoadError("a dump is not loaded as a superuser", hint="connect as the throwaway role")
        with translated("the session can't be prepared", kind=LoadError):
            self._cursor.execute(
                # What text that doesn't come from pg_dump may rely on; pg_dump's own sets it anyway.
                "SET search_path = public;"
                # Lost with the server, a staging database is filled again from the start.
                "SET synchronous_commit = off;"
                # It would be made anew for the check of every foreign key.
                "SET jit = off;"
                "SELECT pg_catalog.set_config('maintenance_work_mem', %s || 'kB', false) FROM pg_catalog.pg_settings"
                " WHERE name = 'maintenance_work_mem' AND setting::bigint < %s",
                (str(MAINTENANCE_WORK_MEM), MAINTENANCE_WORK_MEM),
            )
            if not _starts_workers(self._connection.info.server_version):
                self._cursor.execute(
                    "SET max_parallel_maintenance_workers = 0; SET max_parallel_workers_per_gather = 0"
                )

    def _take(self, statement: Statement) -> None:
        found = statements.classify(statement, encoding=self._encoding)
        if found is None:
            self._execute(statement)
        elif isinstance(found, statements.SetParameter):
            self._set(statement, found)
        elif isinstance(found, statements.OwnerChange):
            role = self._options.role_map.get(found.role, found.role)
            self._owner_changes.append(dataclasses.replace(found, role=role))
        elif isinstance(found, statements.LeaveOut):
            self._skip(found.kind, found.what, found.why, loss=found.loss)
        elif isinstance(found, statements.Privileges):
            self._grant(statement, found)
        elif isinstance(found, statements.Comment):
            if self._execute(statement, codes.INSUFFICIENT_PRIVILEGE):
                self._skip(self._describe(statement), "", "the object is not the dump's own", loss=True)
        elif isinstance(found, statements.NamesRoles):
            self._name_roles(statement, found)
        elif isinstance(found, statements.CreateSchema):
            # It is there from the start, but "pg_dump --schema=public" and "--clean" make it all the same.
            self._execute(statement, *((codes.DUPLICATE_SCHEMA,) if found.name == "public" else ()))
        elif isinstance(found, statements.Removal):
            self._execute(
                statement,
                codes.UNDEFINED_TABLE,
                codes.UNDEFINED_OBJECT,
                codes.UNDEFINED_FUNCTION,
                codes.UNDEFINED_COLUMN,
                codes.INVALID_SCHEMA_NAME,
            )
        elif isinstance(found, statements.CreateExtension):
            self._admin.create_extension(found.name, found.schema)
        elif isinstance(found, statements.PublishAllTables):
            self._admin.publish_all_tables(found.publication, found.parameters)
        else:
            self._admin.publish_schemas(
                found.publication, found.schemas, create=found.create, parameters=found.parameters
            )

    def _execute(self, statement: Statement, *tolerated: str) -> str | None:
        """Send a statement; the SQLSTATE of its failure if that is among *tolerated*."""
        if b"\0" in statement.text:
            # libpq would send what is before it.
            raise DumpSyntax(
                f"a NUL byte in statement {self._number} of the dump ({self._describe(statement)})",
                hint="text of PostgreSQL has none: was the file written in UTF-16, or damaged?",
            )
        try:
            with self._watch:
                self._cursor.execute(statement.text)
        except psycopg2.Error as error:
            # Within a transaction of the dump's own nothing can be passed over.
            if error.pgcode in tolerated and self._idle:
                return error.pgcode
            raise self._failed(statement, error) from None
        return None

    def _copy(self, block: CopyBlock) -> None:
        rows = _Rows(block, self._watch)
        try:
            with self._watch:
                self._cursor.copy_expert(block.text, t.cast(t.Any, rows), CHUNK)
        except psycopg2.Error as error:
            if rows.error is not None:
                raise rows.error from None
            raise self._failed(block, error) from None
        self._rows[block.table] = self._rows.get(block.table, 0) + self._cursor.rowcount

    def _set(self, statement: Statement, found: statements.SetParameter) -> None:
        if found.name == "client_encoding" and found.value is not None:
            self._set_encoding(statement, found.value)
            return
        failed = self._execute(
            statement, codes.UNDEFINED_OBJECT, codes.INVALID_PARAMETER_VALUE, codes.INSUFFICIENT_PRIVILEGE
        )
        if failed == codes.UNDEFINED_OBJECT and found.name != "default_tablespace":
            self._skip("parameter", found.name, "this server doesn't know it", loss=False)
        elif failed:
            self._skip("parameter", found.name, "its value can't be had here; the default is used", loss=True)
        elif found.name == "default_tablespace" and found.value and not self._may_use(found.value):
            failed = codes.INSUFFICIENT_PRIVILEGE
            self._skip("tablespace", found.value, "the restore may not use it; the default is used", loss=True)
        if failed and found.name == "default_tablespace":
            self._execute(Statement(b"SET default_tablespace = ''"))

    def _may_use(self, tablespace: str) -> bool:
        with translated(f"the tablespace {tablespace!r} can't be looked up", kind=LoadError):
            self._cursor.execute("SELECT pg_catalog.has_tablespace_privilege(%s, 'CREATE')", (tablespace,))
            return bool(self._cursor.fetchall()[0][0])

    def _set_encoding(self, statement: Statement, encoding: str) -> None:
        if _UNSAFE_ENCODINGS.fullmatch(re.sub("[^A-Z0-9]", "", encoding.upper())):
            raise DumpSyntax(
                f"the dump is written in {encoding}", hint="dump in the database's own encoding, or in UTF8"
            )
        try:
            self._connection.set_client_encoding(encoding)
        except psycopg2.Error as error:
            raise self._failed(statement, error) from None
        codec = psycopg2.extensions.encodings.get(self._connection.encoding, "ascii")
        self._encoding = "utf-8" if codec == "ascii" else codec

    def _grant(self, statement: Statement, found: statements.Privileges) -> None:
        if self._options.skip_acl:
            self._skip("grant", "", "the dump's grants are not asked for", loss=False)
            return
        missing = self._missing(found.roles)
        if missing:
            self._skip("grant", f"to {', '.join(missing)}", "there is no such role", loss=True)
        elif self._execute(self._mapped(statement, found.roles), codes.INSUFFICIENT_PRIVILEGE):
            self._skip("grant", "", "the object is not the dump's own", loss=True)

    def _name_roles(self, statement: Statement, found: statements.NamesRoles) -> None:
        missing = self._missing(found.roles)
        if missing:
            raise LoadError(
                printable(f"{self._describe(statement)} is for a role that is missing: {', '.join(missing)}"),
                hint="create the role first, or map it to another one",
            )
        self._execute(self._mapped(statement, found.roles))

    def _mapped(self, statement: Statement, roles: t.Sequence[statements.RoleName]) -> Statement:
        return statements.rewrite_roles(statement, roles, self._options.role_map, encoding=self._encoding)

    def _missing(self, roles: t.Iterable[statements.RoleName]) -> list[str]:
        """Which of *roles*, mapped, the cluster hasn't."""
        if self._known_roles is None:
            with translated("the roles can't be listed", kind=LoadError):
                self._cursor.execute("SELECT rolname FROM pg_catalog.pg_roles")
                self._known_roles = frozenset(name for (name,) in self._cursor.fetchall())
        names = {self._options.role_map.get(role.name, role.name) for role in roles}
        return sorted(names - self._known_roles)

    def _skip(self, kind: str, what: str, why: str, *, loss: bool) -> None:
        key = (kind, what, why, loss)
        self._skipped[key] = self._skipped.get(key, 0) + 1

    @property
    def _idle(self) -> bool:
        return self._connection.info.transaction_status == psycopg2.extensions.TRANSACTION_STATUS_IDLE

    def _describe(self, statement: Statement) -> str:
        return statements.describe(statement, encoding=self._encoding)

    def _failed(self, statement: Statement, error: psycopg2.Error) -> LoadError:
        where = f"statement {self._number} of the dump"
        line = _COPY_LINE.search(error.diag.context or "") if isinstance(statement, CopyBlock) else None
        if line is not None:
            where += f", row {line[1]}"
        failed = t.cast(
            LoadError, translate(error, f"{self._describe(statement)} failed ({where})", kind=LoadError, phase="load")
        )
        failed.hint = _HINTS.get(error.pgcode or "", failed.hint)
        if self._watch.struck:
            failed.cause = f"it took longer than {self._options.statement_seconds:g} seconds"
            failed.hint = "if the dump is trusted, allow more: DB_RESTORE_STATEMENT_TIMEOUT"
        elif error.pgcode is None and "memory" in failed.cause:
            failed.hint = _HINT_MEMORY
        return failed


class _Rows:
    """A block's rows for psycopg2, which loses the error of a failing read."""

    def __init__(self, block: CopyBlock, watch: _Watch) -> None:
        self._block = block
        self._watch = watch
        self.error: BaseException | None = None

    def read(self, n: int, /) -> bytes:
        self._watch.go_on()
        try:
            return self._block.read(n)
        except BaseException as error:
            self.error = error
            raise


# What a hostile dump could take from the host -----------------------------------------------------------------------

_HINT_MEMORY = "no pg_dump writes statements that answer with so much: find out where the dump comes from"


class _Memory:
    """The limit of this process, which all of its loads share."""

    lock = threading.Lock()
    loads = 0
    before = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)


@contextlib.contextmanager
def _bounded_memory() -> t.Iterator[None]:
    """Let this process take at most half of the memory that the host has to spare.

    libpq and psycopg2 hold whatever a statement answers with, rows, notices, notifications, before anybody sees it, and
    there is no asking them for less.  With no limit a dump could have the host's other processes killed for it.  Both
    survive an allocation that fails.

    The kernel knows one limit for the process.  Each further load at the same time may take half of what is left then;
    the limit ends with the last one.
    """
    with _Memory.lock:
        if not _Memory.loads:
            _Memory.before = resource.getrlimit(resource.RLIMIT_AS)
        _Memory.loads += 1
        now, hard = resource.getrlimit(resource.RLIMIT_AS)
        taken = int(pathlib.Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
        limit = taken + max(_available_memory() // 2, LEAST_MEMORY)
        most = _Memory.before[0]
        if most != resource.RLIM_INFINITY:
            limit = min(limit, most)
        if _Memory.loads == 1 or limit > now:
            resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    try:
        yield
    finally:
        with _Memory.lock:
            _Memory.loads -= 1
            if not _Memory.loads:
                resource.setrlimit(resource.RLIMIT_AS, _Memory.before)


def _available_memory() -> int:
    for line in pathlib.Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        name, _colon, value = line.partition(":")
        if name == "MemAvailable":
            return int(value.split()[0]) * 1024
    return 0


_CANCEL_SECONDS = 5


class _Watch:
    """Cancels what the server does for longer than it may; a dump can undo the server's own time limits.

    A context for each statement; :meth:`go_on` within one says that it gets somewhere.
    """

    def __init__(self, connection: Connection, seconds: float | None) -> None:
        self._connection = connection
        self._seconds = seconds
        self._since: float | None = None
        self._closed = threading.Event()
        self.struck = False
        self._thread = threading.Thread(target=self._work, name="watch", daemon=True)
        if seconds is not None:
            self._thread.start()

    def __enter__(self) -> None:
        self.go_on()

    def __exit__(self, *_exception: object) -> None:
        self._since = None

    def go_on(self) -> None:
        """Begin to count anew."""
        self._since = time.monotonic()

    def close(self) -> None:
        """End the thread."""
        self._closed.set()
        if self._thread.ident is not None:
            # Not for ever: it may be asking a server that stands still to cancel a statement.
            self._thread.join(_CANCEL_SECONDS)

    def _work(self) -> None:
        seconds = t.cast(float, self._seconds)
        while not self._closed.wait(min(1.0, seconds)):
            since = self._since
            if since is not None and time.monotonic() - since > seconds:
                self.struck = True
                with contextlib.suppress(psycopg2.Error):
                    self._connection.cancel()
