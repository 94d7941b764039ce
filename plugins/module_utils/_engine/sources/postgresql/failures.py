# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""What follows from the failure of a statement: another try, the end of the load, and the hint to its likely cause."""

from __future__ import annotations

import dataclasses

from ...errors import LoadError
from ...printing import printable
from ...settings import name_for_errors

try:
    import psycopg2
except ImportError:
    psycopg2 = None  # type: ignore[assignment]

#: Failures of the session, the server or the host, and not of the statement: connection, resources, an operator's
#: intervention, files, configuration limits, internal errors.
_FATAL_CLASSES = ("08", "53", "57", "XX")
_FATAL = ("58000", "58030")

#: Failures that another ``search_path`` does not cure: privileges, syntax, objects that exist, rows that violate keys
#: (a second try would compare them all again), and what only follows from an earlier failure in a transaction.
_FINAL = (
    *("0A000", "25P02", "42501", "42601", "42701", "42710", "42712", "42723", "42P04", "42P05", "42P06", "42P07"),
    *("23502", "23503", "23505", "23P01", "55000"),
)

_HINTS = {
    "0A000": "this server does not support that: is the dump from a newer PostgreSQL?",
    "22021": "the dump's text does not match the encoding of the database",
    "22P05": "the dump's text does not match the encoding of the database",
    "23503": "the dump's rows violate its own constraints: did pg_dump create it, from the whole database?",
    "23505": "the dump's rows violate its own constraints: the source has a corrupted index or another collation",
    "23514": "the dump's rows violate a check: does it call a function that looks into other tables, or at the time?",
    "42501": "only a superuser may do that, and a dump is never loaded as a superuser: package it as an extension and"
    " allow that extension, or remove it from the source database",
    "42601": "the server does not understand the statement: is the dump from a newer PostgreSQL?",
    "42704": "the dump needs something that does not exist here, such as a role, or an extension that it does not name",
    "42883": "the dump needs something that does not exist here, such as an extension that it does not name",
    "42P01": "the dump needs something that does not exist here: was only part of the database dumped?",
    "58P01": "the server's host lacks a file: install the package that it comes from, as on the host of the source",
    "F0000": "the server's host lacks a file, or has another one: install the package that it comes from, as on the"
    " host of the source",
}
_HINT_ROW_SECURITY = (
    "the source read these rows as a role that row-level security does not restrict; a dump is never loaded as one"
)
_HINT_UNQUALIFIED = (
    "a function of the database uses a name without its schema. In the source database, give the function the"
    " search_path that it needs (ALTER FUNCTION ... SET search_path = ...), or qualify the name"
)
_HINT_COLLATION = (
    "the server's host lacks a locale: generate it there (locale-gen) as on the host of the source, and restart"
    " PostgreSQL"
)
HINT_MEMORY = "pg_dump writes no statements with such large results: check where the dump comes from"

#: Failures of names, which may be those in a function that relies on the search_path.
_OF_NAMES = ("3F000", "42703", "42704", "42883", "42P01")

#: Number of failed statements that a result describes.
MAX_DESCRIBED = 100


def is_fatal(error: psycopg2.Error) -> bool:
    """Whether nothing else can be loaded after *error*, or must not be."""
    state = error.pgcode
    return state is None or state[:2] in _FATAL_CLASSES or state in _FATAL


def may_depend_on_search_path(error: psycopg2.Error) -> bool:
    """Whether a statement that failed with *error* may succeed with another ``search_path``."""
    return not is_fatal(error) and error.pgcode not in _FINAL


def may_depend_on_other_tables(error: psycopg2.Error) -> bool:
    """Whether rows that were refused with *error* may be accepted once all other tables have theirs."""
    return (
        may_depend_on_search_path(error)
        # A value that its column does not take.
        and (error.pgcode or "")[:2] != "22"
        # It was about a row, and not about the table.
        and bool(error.diag.context)
    )


def hint(error: psycopg2.Error, default: str) -> str:
    """Return the likely cause of *error*, or what to do about it."""
    state = error.pgcode or ""
    message = error.diag.message_primary or ""
    if state == "42501" and "row-level security" in message:
        return _HINT_ROW_SECURITY
    # In the text of a function, and not in the statement itself.
    if state in _OF_NAMES and "function" in (error.diag.context or ""):
        return _HINT_UNQUALIFIED
    if state == "42704" and "collation" in message:
        return _HINT_COLLATION
    return _HINTS.get(state, default)


@dataclasses.dataclass
class Failures:
    """The statements that failed in a load that goes on.

    :ivar tables: those of which rows are missing, as the dump names them.
    """

    described: list[str] = dataclasses.field(default_factory=list)
    count: int = 0
    tables: set[str] = dataclasses.field(default_factory=set)

    def add(self, error: LoadError) -> None:
        """Record the failure of a statement."""
        self.count += 1
        if self.count <= MAX_DESCRIBED:
            parts = [error.message, error.cause, error.hint]
            self.described.append(printable("; ".join(part for part in parts if part)))

    def result(self) -> tuple[str, ...]:
        """One line for each failed statement, the last for those beyond :data:`MAX_DESCRIBED`."""
        more = self.count - len(self.described)
        return (*self.described, *([f"{more} more statements failed"] if more else []))


def add_what_continuing_saves(error: LoadError) -> None:
    """Add to the hint of *error*, which ends the load, what ``on_error: continue`` would do instead."""
    saved = (
        f"set {name_for_errors('restore', 'on_error')} to continue to restore every other statement that does not"
        " depend on this one, and to get the list of those that fail"
    )
    error.hint = "; ".join(filter(None, [error.hint, saved]))
