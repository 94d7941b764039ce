# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Judges while a dump streams by what a restore of it would refuse or leave out, by the rules of the restore itself."""

from __future__ import annotations

import typing as t

from ....printing import printable
from . import statements
from .scanner import Statement

MOST = 100
"""The most findings that are reported one by one."""


class Judge:
    """Takes the statements of a dump and says what a restore would not bring back.

    :param encoding: Python codec of the dump's client_encoding.
    :param refuse_extension: returns why a restore would refuse to create an extension; ``None``: it would create it.
    """

    def __init__(self, *, encoding: str, refuse_extension: t.Callable[[str], str | None]) -> None:
        self._encoding = encoding
        self._refuse_extension = refuse_extension
        # As keys of a dictionary: each once, in the order of the dump.
        self._findings: dict[str, None] = {}

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

    def findings(self) -> tuple[str, ...]:
        """One line for each thing that a restore would refuse or leave out; empty if it would bring back everything."""
        found = [printable(text) for text in self._findings]
        if len(found) > MOST:
            found[MOST:] = [f"{len(found) - MOST} more"]
        return tuple(found)
