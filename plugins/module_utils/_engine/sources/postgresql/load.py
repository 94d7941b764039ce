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
import typing as t

from ...errors import LoadError
from ...printing import printable
from . import failures
from .connection import translate
from .containment import Watch, bounded_memory
from .dumptext import statements
from .dumptext.events import CopyBlock
from .dumptext.scanner import Statement
from .dumptext.selection import Selection
from .execution import SET_SEARCH_PATH, Again, DefiningActions, Execution, written_path
from .grants import Grants, Policy, PrivilegeActions

try:
    import psycopg2
    import psycopg2.errorcodes as codes
except ImportError:
    psycopg2 = None  # type: ignore[assignment]

if t.TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection

DEFAULT_SEARCH_PATH = ("$user", "public")
"""The server's own default."""


class AdminActions(PrivilegeActions, DefiningActions, t.Protocol):
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
class LoadOptions(Policy):
    """Options for loading a dump, beside what is done with its roles and privileges.

    :param search_path: the database's own, for statements that rely on it; ``$user`` stands for its user.
    :param for_refreshes: parameters (name, value) to set before the first materialized view is refreshed.
    :param continues: go on after a statement that failed.
    :param statement_seconds: how long a statement may take, or the rows of one table may pause; ``None``: no limit.
    """

    search_path: tuple[str, ...] = DEFAULT_SEARCH_PATH
    for_refreshes: tuple[tuple[str, str], ...] = ()
    continues: bool = False
    statement_seconds: float | None = None

    @property
    def written_path(self) -> str:
        """The database's own ``search_path`` as the server takes it."""
        # A schema is named like the user that the database had in the source, or has now.
        return written_path(self.search_path, self.source_owner, self.owner)


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
    :param failed: one line for each statement that failed, if the load went on.
    :param failed_tables: tables of which rows are therefore missing, as the dump names them.
    """

    rows: t.Mapping[str, int]
    owner_changes: t.Sequence[statements.OwnerChange]
    skipped: t.Sequence[Skipped]
    failed: tuple[str, ...] = ()
    failed_tables: frozenset[str] = frozenset()

    @property
    def warnings(self) -> list[str]:
        """Warnings for the operator: one line for each thing from the dump that the database now lacks."""
        return [str(skipped) for skipped in self.skipped if skipped.loss]


def load(
    events: t.Iterable[Statement],
    *,
    connection: Connection,
    admin: AdminActions,
    options: LoadOptions,
    again: Again | None = None,
    selection: Selection | None = None,
    execution: type[Execution] = Execution,
) -> LoadResult:
    """Load a dump into the connection's database, which must be empty.

    :param events: from :func:`.dumptext.events.read`, whose errors are passed on.
    :param connection: an autocommit session of a role that may create objects in the database and is not a superuser.
        The dump changes its settings, so do not use it for anything else afterwards.
    :param again: for rows that are accepted only after those of other tables; ``None``: that is a failure.
    :param selection: chooses the statements that are loaded; ``None``: all.
    :param execution: how statements and rows are sent.
    :raises LoadError: if the server refuses a statement.  The text names the statement's object, never its data.
    """
    with (
        connection.cursor() as cursor,
        bounded_memory(),
        contextlib.closing(Watch(connection, options.statement_seconds)) as watch,
    ):
        session = execution(
            connection,
            cursor,
            watch,
            search_path=options.written_path,
            continues=options.continues,
            seconds=options.statement_seconds,
            again=again,
            admin=admin,
        )
        return _Loader(session, admin, options, selection).run(events)


def analyze(connection: Connection, search_path: str) -> tuple[str, ...]:
    """Collect statistics about all tables that the connection's role owns.

    The server computes the expressions of indexes for that, so it may fail like their creation.  Nothing is missing
    then that the server does not collect later by itself: what comes back is a warning.

    :param search_path: of the database, as the server takes it.
    """
    with connection.cursor() as cursor:
        try:
            # The server warns about each table that the role does not own, including all system catalogs.
            cursor.execute("SET client_min_messages = error")
            cursor.execute(SET_SEARCH_PATH, (search_path,))
            cursor.execute("ANALYZE")
        except psycopg2.Error as error:
            failed = translate(error, "statistics were not collected for all tables", kind=LoadError)
            if failures.is_fatal(error):
                raise failed from None
            return (f"{failed.message}: {failed.cause}. Run ANALYZE in the database after you have corrected this",)
    return ()


class _Loader:
    def __init__(
        self, execution: Execution, admin: AdminActions, options: LoadOptions, selection: Selection | None
    ) -> None:
        self._execution = execution
        self._selection = selection
        self._admin = admin
        self._options = options
        self._grants = Grants(execution, admin, options, owners=lambda: self._owners)
        self._owners: set[str] = set()
        self._owner_changes: list[statements.OwnerChange] = []
        self._skipped: dict[tuple[str, str, str, bool], int] = {}
        self._for_refreshes = options.for_refreshes
        self._unpopulated: set[str] = set()

    def run(self, events: t.Iterable[Statement]) -> LoadResult:
        execution = self._execution
        execution.prepare()
        try:
            self._run(events)
        except MemoryError:
            raise LoadError(
                f"statement {execution.number} of the dump, or the next one, needs more memory than the host can spare",
                hint=failures.HINT_MEMORY,
            ) from None
        skipped = [Skipped(*key, count) for key, count in self._skipped.items()]
        if self._selection is not None:
            skipped += [Skipped(kind, what, why, True, count) for kind, what, why, count in self._selection.notes()]
        skipped += [Skipped("grant", one.what, one.why, True, one.count) for one in self._grants.finish()]
        failed = execution.failures
        rows = {table: rows for table, rows in execution.rows.items() if table not in failed.tables}
        return LoadResult(rows, self._owner_changes, skipped, failed.result(), frozenset(failed.tables))

    def _run(self, events: t.Iterable[Statement]) -> None:
        selection = self._selection
        for self._execution.number, statement in enumerate(events, 1):
            if selection is not None and not selection.takes(statement, encoding=self._execution.encoding):
                continue
            if isinstance(statement, CopyBlock):
                self._execution.copy(statement)
            else:
                self._take(statement)
        self._execution.load_deferred()
        if not self._execution.idle:
            raise LoadError(
                "the dump leaves a transaction open",
                hint="it contains a BEGIN without a COMMIT: was it truncated or edited?",
            )

    def _take(self, statement: Statement) -> None:
        parsed = statements.classify(statement, encoding=self._execution.encoding)
        run = self._execution.run
        if parsed is None:
            run(statement)
        elif isinstance(parsed, statements.SetParameter):
            self._set(statement, parsed)
        elif isinstance(parsed, statements.OwnerChange):
            self._owners.add(parsed.role)
            role = self._options.role_map.get(parsed.role, parsed.role)
            self._owner_changes.append(dataclasses.replace(parsed, role=role))
        elif isinstance(parsed, statements.LeaveOut):
            if not self._execution.define(statement):
                self._skip(parsed.kind, parsed.what, parsed.why, loss=parsed.loss)
        elif isinstance(parsed, (statements.Privileges, statements.DefaultPrivileges)):
            self._change_privileges(statement, parsed)
        elif isinstance(parsed, statements.Refresh):
            self._refresh(statement, parsed)
        elif isinstance(parsed, statements.Comment):
            if run(statement, codes.INSUFFICIENT_PRIVILEGE):
                self._skip(self._execution.describe(statement), "", "the dump does not own the object", loss=True)
        elif isinstance(parsed, statements.NamesRoles):
            self._name_roles(statement, parsed)
        elif isinstance(parsed, statements.CreateSchema):
            # public exists from the start, but "pg_dump --schema=public" and "--clean" create it nevertheless.
            run(statement, *((codes.DUPLICATE_SCHEMA,) if parsed.name == "public" else ()))
        elif isinstance(parsed, statements.WithOids):
            self._skip("oid column", f"of table {parsed.table}", statements.NO_OIDS, loss=True)
            run(Statement(parsed.text.encode(self._execution.encoding, "surrogateescape")))
        elif isinstance(parsed, statements.Removal):
            run(
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

    def _set(self, statement: Statement, parsed: statements.SetParameter) -> None:
        execution = self._execution
        if parsed.name == "client_encoding" and parsed.value is not None:
            execution.set_encoding(statement, parsed.value)
            return
        if parsed.name == "client_min_messages":
            # The load has its own: it needs the server's warnings.
            return
        failed = execution.run(
            statement, codes.UNDEFINED_OBJECT, codes.INVALID_PARAMETER_VALUE, codes.INSUFFICIENT_PRIVILEGE
        )
        if failed == codes.UNDEFINED_OBJECT and parsed.name != "default_tablespace":
            self._skip("parameter", parsed.name, "this server does not have it", loss=False)
        elif failed:
            self._skip("parameter", parsed.name, "this server rejects its value; the default is used", loss=True)
        elif parsed.name == "default_tablespace" and parsed.value and not execution.may_use(parsed.value):
            failed = codes.INSUFFICIENT_PRIVILEGE
            self._skip("tablespace", parsed.value, "the restore may not use it; the default is used", loss=True)
        if failed and parsed.name == "default_tablespace":
            execution.run(Statement(b"SET default_tablespace = ''"))

    def _change_privileges(
        self, statement: Statement, parsed: statements.Privileges | statements.DefaultPrivileges
    ) -> None:
        # What is composed from it is sent with the server's rules for texts.
        self._execution.refuse_nul(statement)
        if isinstance(parsed, statements.DefaultPrivileges):
            self._grants.take_default(statement, parsed.roles)
        else:
            self._grants.take(statement, parsed.roles)

    def _refresh(self, statement: Statement, parsed: statements.Refresh) -> None:
        """Refresh a materialized view, unless that takes a privilege that only its owner in the source had."""
        for name, value in self._for_refreshes:
            if not self._execution.set_parameter(name, value):
                self._skip("parameter", name, "this server rejects its value; the default is used", loss=True)
        self._for_refreshes = ()
        # A view over one that is not populated cannot be, either.
        depending = (codes.OBJECT_NOT_IN_PREREQUISITE_STATE,) if self._unpopulated else ()
        if self._execution.run(statement, codes.INSUFFICIENT_PRIVILEGE, *depending) is not None:
            self._unpopulated.add(parsed.view)
            owner = self._options.owner
            who = "its owner" if owner is None else f"its owner {owner!r}"
            self._skip(
                "rows",
                f"of materialized view {parsed.view}",
                f"{self._execution.cause}. When {who} may read what it needs, run as that role:"
                f" SET row_security = off; REFRESH MATERIALIZED VIEW {parsed.view};",
                loss=True,
            )

    def _name_roles(self, statement: Statement, parsed: statements.NamesRoles) -> None:
        names = {self._options.role_map.get(role.name, role.name) for role in parsed.roles}
        missing = sorted(name for name in names if not self._execution.role_exists(name))
        if missing:
            missing = [role for role in missing if not self._execution.create_role(role)]
        if missing:
            failed = LoadError(
                printable(
                    f"{self._execution.describe(statement)} needs a role that does not exist: {', '.join(missing)}"
                ),
                hint="create the role first, or map it to another one",
            )
            self._execution.fail(statement, failed)
            return
        rewritten = statements.rewrite_roles(
            statement, parsed.roles, self._options.role_map, encoding=self._execution.encoding
        )
        self._execution.run(rewritten)

    def _skip(self, kind: str, what: str, why: str, *, loss: bool) -> None:
        key = (kind, what, why, loss)
        self._skipped[key] = self._skipped.get(key, 0) + 1
