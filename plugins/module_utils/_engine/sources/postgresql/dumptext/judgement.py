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


class Judge:
    """Takes the statements of a dump and says what a restore would not bring back.

    :param encoding: Python codec of the dump's client_encoding.
    :param refuse_extension: returns why a restore would refuse to create an extension; ``None``: it would create it.
    :param objects: those that only a superuser may create.
    :param refuse_objects: why a restore would refuse to create them; ``None``: it would create them.
    """

    def __init__(
        self,
        *,
        encoding: str,
        refuse_extension: t.Callable[[str], str | None],
        objects: t.Sequence[PrivilegedObject] = (),
        refuse_objects: str | None = None,
    ) -> None:
        self._encoding = encoding
        self._refuse_extension = refuse_extension
        # As keys of a dictionary: each once, in the order of the dump.
        self._findings: dict[str, None] = {}
        self._objects = [one for one in objects if _must_be_defined(one)]
        self._refuse_objects = refuse_objects
        self._listed = frozenset().union(*(definitions.names_in(one.kind, one.identity) for one in self._objects))
        self._defined: set[tuple[str, str]] = set()

    def take(self, statement: Statement) -> None:
        """Take the next statement of the dump."""
        parsed = statements.classify(statement, encoding=self._encoding)
        if (
            self._objects
            and (parsed is None or isinstance(parsed, statements.LeaveOut))
            and self._is_defined(statement)
        ):
            return
        if isinstance(parsed, statements.LeaveOut) and parsed.loss:
            what = " ".join(filter(None, (parsed.kind, parsed.what)))
            self._findings[f"{what} would be left out: {parsed.why}"] = None
        elif isinstance(parsed, statements.CreateExtension):
            reason = self._refuse_extension(parsed.name)
            if reason is not None:
                self._findings[reason] = None

    def _is_defined(self, statement: Statement) -> bool:
        """Whether *statement* defines an object that a restore would create as superuser."""
        definition = definitions.definition(statement, encoding=self._encoding)
        if definition is None or (definition.kind, definition.name) not in self._listed:
            return False
        self._defined.add((definition.kind, definition.name))
        return self._refuse_objects is None

    def _objects_refused(self) -> t.Iterator[str]:
        for one in self._objects:
            if self._refuse_objects is not None:
                yield f"{one.kind} {one.identity} would be refused: {self._refuse_objects}"
            elif not definitions.names_in(one.kind, one.identity) & self._defined:
                yield (
                    f"{one.kind} {one.identity} would be refused: only a superuser may create it, and its definition"
                    " contains an expression that a superuser must not execute"
                )

    def findings(self) -> tuple[str, ...]:
        """One line for each thing that a restore would refuse or leave out; empty if it would bring back everything."""
        found = [printable(text) for text in (*self._findings, *self._objects_refused())]
        if len(found) > MOST:
            found[MOST:] = [f"{len(found) - MOST} more"]
        return tuple(found)


_MAY_BE_CREATED = frozenset(
    {"cast", "function of access method", "library", "operator of access method", "user mapping"}
)


def _must_be_defined(one: PrivilegedObject) -> bool:
    """Whether a restore needs a superuser to create an object of the list.

    A cast between a user's own types does not, and neither does a user mapping of an own server, nor a function that
    another object of the list calls.  Members of operator families are part of other definitions.
    """
    if one.kind in ("function", "procedure"):
        return one.privileges is None
    return one.kind not in _MAY_BE_CREATED
