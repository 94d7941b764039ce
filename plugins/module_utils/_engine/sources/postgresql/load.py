# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Loads the text of a dump, statements as statements and rows as COPY data, as a role that is not a superuser.

A dump is code.  psql would run its meta-commands, and a superuser's session would let it do anything to the host, so
a dump is never given to either.  The few things that need a superuser (extensions, publications of all tables) are
parsed, and left to :class:`AdminActions`, which decides about them in another session.  No text of the dump gets there.
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
from ...settings import name_for_errors
from .connection import codec_of, translate, translated
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
"""KiB of memory for building an index, if the server's own setting is lower."""

LEAST_MEMORY = 256 << 20
"""Bytes of memory that a load may always take, see :func:`_bounded_memory`."""


class AdminActions(t.Protocol):
    """What a superuser does for a dump in the database that is loaded.

    Each action succeeds, or raises one of the engine's errors, which ends the load.
    """

    def create_extension(self, name: str, schema: str | None) -> None:
        """Create an extension if it is allowed and does not exist; *schema* ``None``: the extension's own default."""

    def publish_all_tables(self, publication: str, parameters: t.Sequence[tuple[str, str]]) -> None:
        """Create a publication of all tables with its parameters (name, value)."""

    def publish_schemas(
        self, publication: str, schemas: t.Sequence[str], *, create: bool, parameters: t.Sequence[tuple[str, str]]
    ) -> None:
        """Add the tables of *schemas* to a publication.  If *create*, create the publication."""


@dataclasses.dataclass(frozen=True)
class LoadOptions:
    """Options for loading a dump.

    :param skip_acl: leave out the dump's grants.
    :param role_map: new names for roles that the dump names in grants, policies, user mappings and as owners.
    :param statement_seconds: how long a statement may take, or the rows of one table may pause; ``None``: no limit.
    """

    skip_acl: bool
    role_map: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    statement_seconds: float | None = None


@dataclasses.dataclass(frozen=True)
class Skipped:
    """Statements of a dump that were not run.

    :param kind: kind of object: ``event trigger``, ``grant``, ``parameter`` and so on.
    :param what: name of the object, or what else identifies it; may be empty.
    :param why: the reason, in one line.
    :param loss: whether the database now lacks something from the dump that no other part of the restore supplies.
    :param count: number of statements.
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
    """The result of a load.

    :param rows: number of rows by table (its name in the dump's COPY statements), as the server counted them.
    :param owner_changes: the owners that the dump names, with mapped roles.  None has been set.
    :param skipped: the statements that were not run.
    """

    rows: t.Mapping[str, int]
    owner_changes: t.Sequence[statements.OwnerChange]
    skipped: t.Sequence[Skipped]

    @property
    def warnings(self) -> list[str]:
        """Warnings for the operator: one line for each thing from the dump that the database now lacks."""
        return [str(skipped) for skipped in self.skipped if skipped.loss]


def load(
    events: t.Iterable[Statement], *, connection: Connection, admin: AdminActions, options: LoadOptions
) -> LoadResult:
    """Load a dump into the connection's database, which must be empty.

    :param events: from :func:`.dumptext.events.read`, whose errors are passed on.
    :param connection: an autocommit session of a role that may create objects in the database and is not a superuser.
        The dump changes its settings, so do not use it for anything else afterwards.
    :raises LoadError: if the server refuses a statement.  The text names the statement's object, never its data.
    """
    with (
        connection.cursor() as cursor,
        _bounded_memory(),
        contextlib.closing(_Watch(connection, options.statement_seconds)) as watch,
    ):
        return _Loader(connection, cursor, admin, options, watch).run(events)


def analyze(connection: Connection) -> None:
    """Collect statistics about all tables that the connection's role owns."""
    with translated("could not collect statistics", kind=LoadError), connection.cursor() as cursor:
        # The server warns about each table that the role does not own, including all system catalogs.
        cursor.execute("SET client_min_messages = error")
        cursor.execute("ANALYZE")


# A dump's text is scanned byte by byte.  In these encodings the second byte of a character may look like a quote or a
# backslash.  Servers cannot use them, but clients can.
_UNSAFE_ENCODINGS = re.compile("BIG5|GB18030|GBK|JOHAB|MSKANJI|SHIFTJIS|SHIFTJIS2004|SJIS|UHC|WIN(DOWS)?9(32|36|49|50)")

_COPY_LINE = re.compile(r", line (\d+)(?=[,:]|\Z)", re.MULTILINE)

_HINTS = {
    "0A000": "this server does not support that: is the dump from a newer PostgreSQL?",
    "42501": "only a superuser may do that, and a dump is never loaded as a superuser: package it as an extension and"
    " allow that extension, or remove it from the source database",
    "42601": "the server does not understand the statement: is the dump from a newer PostgreSQL?",
    "42704": "the dump needs something that does not exist here, such as a role, or an extension that it does not name",
    "42883": "the dump needs something that does not exist here, such as an extension that it does not name",
    "42P01": "the dump needs something that does not exist here: was only part of the database dumped?",
    "22021": "the dump's text does not match the encoding of the database",
    "22P05": "the dump's text does not match the encoding of the database",
    "23503": "the dump's rows violate its own constraints: did pg_dump create it, from the whole database?",
    "23505": "the dump's rows violate its own constraints: the source has a corrupted index or another collation",
}


# By now the loading role may no longer log in.  Before these minor releases, the server also applied that to the
# parallel workers of the role's session, and the statement failed.
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
                f"statement {self._number} of the dump, or the next one, needs more memory than the host can spare",
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
                "the dump leaves a transaction open",
                hint="it contains a BEGIN without a COMMIT: was it truncated or edited?",
            )
        skipped = [Skipped(*key, count) for key, count in self._skipped.items()]
        return LoadResult(self._rows, self._owner_changes, skipped)

    def _prepare(self) -> None:
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
                "SELECT pg_catalog.set_config('maintenance_work_mem', %s || 'kB', false) FROM pg_catalog.pg_settings"
                " WHERE name = 'maintenance_work_mem' AND setting::bigint < %s",
                (str(MAINTENANCE_WORK_MEM), MAINTENANCE_WORK_MEM),
            )
            if not _starts_workers(self._connection.info.server_version):
                self._cursor.execute(
                    "SET max_parallel_maintenance_workers = 0; SET max_parallel_workers_per_gather = 0"
                )

    def _take(self, statement: Statement) -> None:
        parsed = statements.classify(statement, encoding=self._encoding)
        if parsed is None:
            self._execute(statement)
        elif isinstance(parsed, statements.SetParameter):
            self._set(statement, parsed)
        elif isinstance(parsed, statements.OwnerChange):
            role = self._options.role_map.get(parsed.role, parsed.role)
            self._owner_changes.append(dataclasses.replace(parsed, role=role))
        elif isinstance(parsed, statements.LeaveOut):
            self._skip(parsed.kind, parsed.what, parsed.why, loss=parsed.loss)
        elif isinstance(parsed, statements.Privileges):
            self._grant(statement, parsed)
        elif isinstance(parsed, statements.Comment):
            if self._execute(statement, codes.INSUFFICIENT_PRIVILEGE):
                self._skip(self._describe(statement), "", "the dump does not own the object", loss=True)
        elif isinstance(parsed, statements.NamesRoles):
            self._name_roles(statement, parsed)
        elif isinstance(parsed, statements.CreateSchema):
            # public exists from the start, but "pg_dump --schema=public" and "--clean" create it nevertheless.
            self._execute(statement, *((codes.DUPLICATE_SCHEMA,) if parsed.name == "public" else ()))
        elif isinstance(parsed, statements.WithOids):
            self._skip("oid column", f"of table {parsed.table}", statements.NO_OIDS, loss=True)
            self._execute(Statement(parsed.text.encode(self._encoding, "surrogateescape")))
        elif isinstance(parsed, statements.Removal):
            self._execute(
                statement,
                codes.UNDEFINED_TABLE,
                codes.UNDEFINED_OBJECT,
                codes.UNDEFINED_FUNCTION,
                codes.UNDEFINED_COLUMN,
                codes.INVALID_SCHEMA_NAME,
            )
        elif isinstance(parsed, statements.CreateExtension):
            self._admin.create_extension(parsed.name, parsed.schema)
        elif isinstance(parsed, statements.PublishAllTables):
            self._admin.publish_all_tables(parsed.publication, parsed.parameters)
        else:
            self._admin.publish_schemas(
                parsed.publication, parsed.schemas, create=parsed.create, parameters=parsed.parameters
            )

    def _execute(self, statement: Statement, *tolerated: str) -> str | None:
        """Send a statement.  Return the SQLSTATE of its failure if that is among *tolerated*, otherwise ``None``."""
        if b"\0" in statement.text:
            # libpq would send only what comes before it.
            raise DumpSyntax(
                f"statement {self._number} of the dump contains a NUL byte ({self._describe(statement)})",
                hint="PostgreSQL's text never does: was the file written in UTF-16, or damaged?",
            )
        try:
            with self._watch:
                self._cursor.execute(statement.text)
        except psycopg2.Error as error:
            # In a transaction that the dump has begun, no failure can be ignored.
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

    def _set(self, statement: Statement, parsed: statements.SetParameter) -> None:
        if parsed.name == "client_encoding" and parsed.value is not None:
            self._set_encoding(statement, parsed.value)
            return
        failed = self._execute(
            statement, codes.UNDEFINED_OBJECT, codes.INVALID_PARAMETER_VALUE, codes.INSUFFICIENT_PRIVILEGE
        )
        if failed == codes.UNDEFINED_OBJECT and parsed.name != "default_tablespace":
            self._skip("parameter", parsed.name, "this server does not have it", loss=False)
        elif failed:
            self._skip("parameter", parsed.name, "this server rejects its value; the default is used", loss=True)
        elif parsed.name == "default_tablespace" and parsed.value and not self._may_use(parsed.value):
            failed = codes.INSUFFICIENT_PRIVILEGE
            self._skip("tablespace", parsed.value, "the restore may not use it; the default is used", loss=True)
        if failed and parsed.name == "default_tablespace":
            self._execute(Statement(b"SET default_tablespace = ''"))

    def _may_use(self, tablespace: str) -> bool:
        with translated(f"could not look up tablespace {tablespace!r}", kind=LoadError):
            self._cursor.execute("SELECT pg_catalog.has_tablespace_privilege(%s, 'CREATE')", (tablespace,))
            return bool(self._cursor.fetchall()[0][0])

    def _set_encoding(self, statement: Statement, encoding: str) -> None:
        if _UNSAFE_ENCODINGS.fullmatch(re.sub("[^A-Z0-9]", "", encoding.upper())):
            raise DumpSyntax(
                f"the dump is encoded in {encoding}, which cannot be loaded",
                hint="dump the database in its own encoding, or in UTF8",
            )
        try:
            self._connection.set_client_encoding(encoding)
        except psycopg2.Error as error:
            raise self._failed(statement, error) from None
        self._encoding = codec_of(self._connection.encoding)

    def _grant(self, statement: Statement, parsed: statements.Privileges) -> None:
        if self._options.skip_acl:
            self._skip("grant", "", "the restore was asked to skip the dump's grants", loss=False)
            return
        missing = self._missing(parsed.roles)
        if missing:
            self._skip("grant", f"to {', '.join(missing)}", "there is no such role", loss=True)
        elif self._execute(self._mapped(statement, parsed.roles), codes.INSUFFICIENT_PRIVILEGE):
            self._skip("grant", "", "the dump does not own the object", loss=True)

    def _name_roles(self, statement: Statement, parsed: statements.NamesRoles) -> None:
        missing = self._missing(parsed.roles)
        if missing:
            raise LoadError(
                printable(f"{self._describe(statement)} needs a role that does not exist: {', '.join(missing)}"),
                hint="create the role first, or map it to another one",
            )
        self._execute(self._mapped(statement, parsed.roles))

    def _mapped(self, statement: Statement, roles: t.Sequence[statements.RoleName]) -> Statement:
        return statements.rewrite_roles(statement, roles, self._options.role_map, encoding=self._encoding)

    def _missing(self, roles: t.Iterable[statements.RoleName]) -> list[str]:
        """Return which of *roles*, after mapping, do not exist in the cluster."""
        if self._known_roles is None:
            with translated("could not list the roles", kind=LoadError):
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
            failed.hint = f"if you trust the dump, raise {name_for_errors('restore', 'statement_timeout')}"
        elif error.pgcode is None and "memory" in failed.cause:
            failed.hint = _HINT_MEMORY
        return failed


class _Rows:
    """Passes the rows of a block to psycopg2, and keeps the error of a failed read, which psycopg2 loses."""

    def __init__(self, block: CopyBlock, watch: _Watch) -> None:
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


# Protection of the host from a hostile dump -------------------------------------------------------------------------

_HINT_MEMORY = "pg_dump writes no statements with such large results: check where the dump comes from"


class _Memory:
    """The memory limit of this process, which all of its loads share."""

    lock = threading.Lock()
    loads = 0
    before = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)


@contextlib.contextmanager
def _bounded_memory() -> t.Iterator[None]:
    """Let this process take at most half of the host's available memory.

    libpq and psycopg2 keep a statement's whole result in memory (rows, notices, notifications) before anyone can see
    it, and cannot be told to keep less.  Without a limit a dump could make the kernel kill the host's other processes.
    Both libraries survive a failed allocation.

    The kernel has a single limit for the process.  Each further load at the same time may take half of what is
    available when it begins; the limit ends with the last load.
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
    """Cancels a statement that exceeds the time limit.  A dump can turn off the server's own limits.

    It is a context around each statement.  Within one, :meth:`restart` reports progress.
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
        self.restart()

    def __exit__(self, *_exception: object) -> None:
        self._since = None

    def restart(self) -> None:
        """Restart the time limit."""
        self._since = time.monotonic()

    def close(self) -> None:
        """End the thread."""
        self._closed.set()
        if self._thread.ident is not None:
            # Not forever: it may be asking a server that hangs to cancel a statement.
            self._thread.join(_CANCEL_SECONDS)

    def _work(self) -> None:
        seconds = t.cast(float, self._seconds)
        while not self._closed.wait(min(1.0, seconds)):
            since = self._since
            if since is not None and time.monotonic() - since > seconds:
                self.struck = True
                with contextlib.suppress(psycopg2.Error):
                    self._connection.cancel()
