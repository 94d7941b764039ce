# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Judges while a dump streams by what a restore of it would refuse or leave out, by the rules of the restore itself."""

from __future__ import annotations

import typing as t

from ....printing import printable
from . import definitions, statements
from .preamble import PrivilegedObject
from .scanner import Statement

MOST = 100
"""The most findings that are reported one by one."""

_NAMED = 5
"""The most objects that one finding names."""

# Definitions of these always take a superuser.
_OF_SUPERUSERS = (
    *("CREATE ACCESS METHOD", "CREATE EVENT TRIGGER", "CREATE FOREIGN DATA WRAPPER", "CREATE OPERATOR CLASS"),
    *("CREATE OPERATOR FAMILY", "CREATE SUBSCRIPTION", "CREATE TEXT SEARCH PARSER", "CREATE TEXT SEARCH TEMPLATE"),
    "CREATE TRANSFORM",
)
_ROUTINES = ("CREATE FUNCTION", "CREATE PROCEDURE")
# Those of routines do if they contain one of these words.
_WORDS_OF_SUPERUSERS = frozenset({"leakproof", "support"})
_LANGUAGES_OF_SUPERUSERS = frozenset({"c", "internal"})


class Judge:
    """Takes the statements of a dump and says what a restore would not bring back.

    :param encoding: Python codec of the dump's client_encoding.
    :param refuse_extension: returns why a restore would refuse to create an extension; ``None``: it would create it.
    :param objects: those that only a superuser may create.
    :param signed: whether the backup will be signed, so that a restore creates these.
    """

    def __init__(
        self,
        *,
        encoding: str,
        refuse_extension: t.Callable[[str], str | None],
        objects: t.Sequence[PrivilegedObject] = (),
        signed: bool = True,
    ) -> None:
        self._encoding = encoding
        self._refuse_extension = refuse_extension
        # As keys of a dictionary: each once, in the order of the dump.
        self._findings: dict[str, None] = {}
        self._privileged = bool(objects)
        if objects and not signed:
            names = [f"{one.kind} {one.identity}" for one in objects]
            more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
            self._findings[
                f"{', '.join(names[:_NAMED])}{more} would be refused: only a superuser may create it, and the backup is"
                " not signed"
            ] = None

    def take(self, statement: Statement) -> None:
        """Take the next statement of the dump."""
        parsed = statements.classify(statement, encoding=self._encoding)
        if isinstance(parsed, statements.LeaveOut) and parsed.loss:
            what = " ".join(filter(None, (parsed.kind, parsed.what)))
            self._findings[f"{what} would be left out: {parsed.why}"] = None
        elif isinstance(parsed, statements.CreateExtension):
            reason = self._refuse_extension(parsed.name)
            if reason is not None:
                self._findings[reason] = None
        elif parsed is None and self._privileged:
            self._take_definition(statement)

    def _take_definition(self, statement: Statement) -> None:
        what = statements.describe(statement, encoding=self._encoding)
        if not (what.startswith(_OF_SUPERUSERS) or (what.startswith(_ROUTINES) and self._takes_superuser(statement))):
            return
        if definitions.definition(statement, encoding=self._encoding) is None:
            self._findings[
                f"{what.partition(' ')[2].lower()} would be refused: only a superuser may create it, and its definition"
                " contains an expression that the server would evaluate"
            ] = None

    def _takes_superuser(self, statement: Statement) -> bool:
        before = ""
        for token in statements.tokens(statements.decode(statement, self._encoding)):
            if token.kind == "word":
                if token.value in _WORDS_OF_SUPERUSERS and before != "not":
                    return True
                if before == "language" and token.value in _LANGUAGES_OF_SUPERUSERS:
                    return True
                before = token.value
        return False

    def findings(self) -> tuple[str, ...]:
        """One line for each thing that a restore would refuse or leave out; empty if it would bring back everything."""
        found = [printable(text) for text in self._findings]
        if len(found) > MOST:
            found[MOST:] = [f"{len(found) - MOST} more"]
        return tuple(found)
