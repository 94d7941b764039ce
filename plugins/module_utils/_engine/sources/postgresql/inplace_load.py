# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Loads a dump as the database's user and within one transaction, see :mod:`.inplace`.

A statement that fails must not end the transaction, so each has a savepoint.  pg_dump begins transactions of its own
around large objects; these have to be left out.
"""

from __future__ import annotations

import typing as t

from ...errors import DumpSyntax, LoadError, PostgresError
from ...printing import printable
from . import extensions, failures
from .connection import translate, translated
from .dumptext import privileges, statements
from .execution import Execution
from .packages import package_hint

try:
    import psycopg2
    import psycopg2.extensions
    from psycopg2 import sql
except ImportError:
    psycopg2 = None  # type: ignore[assignment]
    sql = None  # type: ignore[assignment]

if t.TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection

    from .dumptext.definitions import Definition
    from .dumptext.events import CopyBlock
    from .dumptext.scanner import Statement

_SAVEPOINT = "SAVEPOINT infrazero"
_NEXT = "RELEASE SAVEPOINT infrazero; SAVEPOINT infrazero"
_BACK = "ROLLBACK TO SAVEPOINT infrazero"

_BEGINS = ("begin", "start")
_ENDS = ("commit", "end")
#: What pg_dump never writes, and what would end the transaction or what protects it.
_FOREIGN = ("abort", "discard", "prepare", "release", "rollback", "savepoint")


def savepoint(conn: Connection) -> None:
    """Set the savepoint that :func:`settle` needs, in a transaction."""
    with translated("could not set a savepoint", kind=LoadError, phase="load"), conn.cursor() as cursor:
        cursor.execute(_SAVEPOINT)


def settle(conn: Connection) -> None:
    """Go on after a statement: keep what it has done, or undo it if it failed.

    :raises LoadError: if the transaction has ended.
    """
    status = conn.info.transaction_status
    with translated("the transaction of the restore was lost", kind=LoadError, phase="load"), conn.cursor() as cursor:
        if status == psycopg2.extensions.TRANSACTION_STATUS_INERROR:
            cursor.execute(_BACK)
        elif status == psycopg2.extensions.TRANSACTION_STATUS_INTRANS:
            cursor.execute(_NEXT)
        else:
            raise LoadError(
                "the transaction of the restore has ended before the restore",
                phase="load",
                cause="a statement of the dump has ended it",
                hint="no pg_dump writes that: find out where the dump comes from",
            )


class WholeExecution(Execution):
    """The session that loads a dump within a transaction that was begun before."""

    _inside = False

    @property
    def idle(self) -> bool:
        """Whether the dump has not begun a transaction of its own, which is left out."""
        return not self._inside

    def prepare(self) -> None:
        """Set what the load needs."""
        super().prepare()
        savepoint(self._connection)

    def run(self, statement: Statement, *tolerated: str) -> str | None:
        """Send a statement, unless it begins or ends a transaction.

        :raises DumpSyntax: if it would do so in a way that pg_dump does not.
        """
        first = next((each for each in statements.tokens(statements.decode(statement, self.encoding))), None)
        word = first.value if first is not None and first.kind == "word" else ""
        if (word in _BEGINS and not self._inside) or (word in _ENDS and self._inside):
            self._inside = word in _BEGINS
            return None
        if word in (*_BEGINS, *_ENDS, *_FOREIGN):
            raise DumpSyntax(
                f"statement {self.number} of the dump controls transactions ({word.upper()})",
                hint="no pg_dump writes that, and all of this restore is one transaction: check where the dump comes"
                " from",
            )
        return super().run(statement, *tolerated)

    def _attempt(self, statement: Statement) -> psycopg2.Error | None:
        error = super()._attempt(statement)
        self._go_on(error)
        return error

    def _attempt_copy(self, block: CopyBlock) -> psycopg2.Error | None:
        error = super()._attempt_copy(block)
        self._go_on(error)
        return error

    def set_parameter(self, name: str, value: str) -> bool:
        """Set a parameter that no more rows may be loaded under.  Return whether the server takes the value."""
        accepted = super().set_parameter(name, value)
        settle(self._connection)
        return accepted

    def _go_on(self, error: psycopg2.Error | None) -> None:
        # After an error that ends the load, the session may be lost.
        if error is None or not failures.is_fatal(error):
            settle(self._connection)


class OwnActions:
    """What the user itself can do of what a superuser does for a dump otherwise: :class:`.load.AdminActions`.

    :param conn: the session that loads the dump.
    :param continues: whether the load goes on over failures.
    :ivar warnings: what was left out.
    """

    def __init__(self, conn: Connection, *, user: str, continues: bool) -> None:
        self._conn = conn
        self._user = user
        self._continues = continues
        self.warnings: list[str] = []

    @property
    def why_undefined(self) -> str:
        """Why an object was not created, and what to do."""
        return f"only a superuser may create it, and {self._user!r} is not one: restore as a superuser"

    def define(self, definition: Definition) -> bool:
        """Create an object that only a superuser may create: nobody can here."""
        return False

    def create_role(self, role: str) -> bool:
        """Create a role that a policy names: nobody can here."""
        return False

    def keeps_privileges_of(self, change: privileges.Change) -> bool:
        """Whether an administrator has kept the object of *change*: there is none here."""
        return False

    def create_extension(self, name: str, schema: str | None) -> None:
        """Create an extension that anybody may create, unless it exists."""
        with translated("could not list extensions", kind=LoadError), self._conn.cursor() as cursor:
            cursor.execute("SELECT FROM pg_catalog.pg_extension WHERE extname = %s", (name,))
            if cursor.fetchone() is not None:
                return
        message = f"could not create extension {name!r}"
        extension = extensions.available(self._conn).get(name)
        if extension is None:
            hint = package_hint(name, self._conn.info.server_version // 10000)
            raise LoadError(message, phase="load", cause="it is not installed on the server", hint=hint)
        if not extension.by_anyone:
            raise LoadError(
                message,
                phase="load",
                cause="only a superuser can create it",
                hint="have it created in this database first, with the means of the server's provider",
            )
        statement = sql.SQL("CREATE EXTENSION {}").format(sql.Identifier(name))
        if schema is not None or extension.schema is None:
            statement += sql.SQL(" SCHEMA {}").format(sql.Identifier(schema or "public"))
        error = self._attempt(statement)
        if error is not None:
            raise error
        # Its script may have set another one for the whole session.
        self._attempt(sql.SQL("SET search_path = ''"))

    def publish_all_tables(self, publication: str, parameters: t.Sequence[tuple[str, str]]) -> None:
        """Leave out a publication of all tables."""
        self._leave_out(f"publication {publication}")

    def publish_schemas(
        self, publication: str, schemas: t.Sequence[str], *, create: bool, parameters: t.Sequence[tuple[str, str]]
    ) -> None:
        """Leave out the tables of *schemas* in a publication."""
        self._leave_out(f"the tables of {', '.join(schemas)} in publication {publication}")

    def revoke(self, change: privileges.Change) -> None:
        """Fail because of privileges on an object that is not the user's, or that is the server's own.

        Roles could otherwise do more here than in the source.
        """
        text = f"privileges on {change.object} can't be revoked, because it does not belong to {self._user!r}"
        if not self._continues:
            failed = LoadError(
                printable(text),
                phase="load",
                cause="roles could do more here than in the source",
                hint="have its owner revoke them, and drop the REVOKE from the source",
            )
            failures.add_what_continuing_saves(failed)
            raise failed
        self.warnings.append(printable(f"{text}: roles can do more here than in the source"))

    def alter_default_privileges(self, change: privileges.DefaultChange) -> str | None:
        """Change the user's own default privileges.  Return why that was not done, if it was not."""
        if change.creators != (self._user,):
            return f"only a superuser may change those of {', '.join(change.creators)}"
        text = privileges.render(change, change.grantees)
        error = self._attempt(sql.SQL(text.replace("{", "{{").replace("}", "}}")).format())
        return None if error is None else error.cause

    def _leave_out(self, what: str) -> None:
        self.warnings.append(printable(f"{what} left out: only a superuser may create it"))

    def _attempt(self, statement: sql.Composable) -> PostgresError | None:
        failed = None
        try:
            with self._conn.cursor() as cursor:
                cursor.execute(statement)
        except psycopg2.Error as error:
            failed = translate(error, "a statement of the restore failed", kind=LoadError, phase="load")
            if failures.is_fatal(error):
                raise failed from None
        settle(self._conn)
        return failed
