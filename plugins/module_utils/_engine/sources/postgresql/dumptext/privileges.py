# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Parses the privileges that a dump grants and revokes, and writes them as statements again.

What is parsed consists of words from closed sets, of names, and of a function's arguments.  :func:`render` composes a
statement from these parts, so that no text of the dump gets to an administrator.
"""

from __future__ import annotations

import dataclasses
import typing as t

from .scanner import Statement
from .statements import _KEYWORD_ROLES as KEYWORD_ROLES
from .statements import _Cursor as Cursor
from .statements import decode, quote

#: What an object can be called in GRANT and REVOKE, as pg_dump and people write it.  TABLE may be left out.
_KINDS: dict[tuple[str, ...], str] = {
    ("foreign", "data", "wrapper"): "FOREIGN DATA WRAPPER",
    ("foreign", "server"): "FOREIGN SERVER",
    ("large", "object"): "LARGE OBJECT",
    **{
        (kind.lower(),): kind
        for kind in (
            *("TABLE", "SEQUENCE", "SCHEMA", "TYPE", "DOMAIN", "LANGUAGE"),
            *("FUNCTION", "PROCEDURE", "ROUTINE"),
        )
    },
}
WITH_ARGUMENTS = frozenset({"FUNCTION", "PROCEDURE", "ROUTINE"})
_KINDS_OF_LATER_OBJECTS: dict[tuple[str, ...], str] = {
    ("large", "objects"): "LARGE OBJECTS",
    **{(kind.lower(),): kind for kind in ("TABLES", "SEQUENCES", "FUNCTIONS", "ROUTINES", "TYPES", "SCHEMAS")},
}
_PRIVILEGES = frozenset(
    {
        *("select", "insert", "update", "delete", "truncate", "references", "trigger", "maintain"),
        *("usage", "create", "execute"),
    }
)
ALL = "ALL"

#: What PUBLIC may do with a new object, unless it is revoked.
DEFAULTS_OF_PUBLIC = {
    "SCHEMA": "USAGE",  # of the schema public only
    **dict.fromkeys(("FUNCTION", "PROCEDURE", "ROUTINE"), "EXECUTE"),
    **dict.fromkeys(("TYPE", "DOMAIN", "LANGUAGE"), "USAGE"),
}


@dataclasses.dataclass(frozen=True)
class Right:
    """A privilege (``SELECT``, or :data:`ALL`), of some columns if any are given."""

    privilege: str
    columns: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Change:
    """``GRANT`` or ``REVOKE`` on one object.

    :param grantees: names of roles; ``None`` is PUBLIC.
    :param names: the object's name, with its schema if that is given; of a large object its number.
    :param arguments: types of a function's arguments in parentheses, spaced uniformly.  They contain only names,
        numbers and brackets, and all brackets are closed.
    :param grant_option: ``GRANT OPTION FOR``, or ``WITH GRANT OPTION``.
    """

    revokes: bool
    rights: tuple[Right, ...]
    kind: str
    names: tuple[str, ...]
    arguments: str
    grantees: tuple[str | None, ...]
    grant_option: bool = False

    @property
    def identity(self) -> str:
        """The object in a statement."""
        if self.kind == "LARGE OBJECT":
            return self.names[0]
        return ".".join(map(quote, self.names)) + self.arguments

    @property
    def object(self) -> str:
        """The object, as a person reads it."""
        return f"{self.kind.lower()} {'.'.join(self.names)}{self.arguments}"


@dataclasses.dataclass(frozen=True)
class DefaultChange:
    """``ALTER DEFAULT PRIVILEGES``: what is granted or revoked on objects that *creators* will create.

    :param creators: names of roles; empty: the session's own.
    :param schemas: empty: all.
    :param kind: ``TABLES``, ``FUNCTIONS`` and so on.
    """

    revokes: bool
    rights: tuple[Right, ...]
    kind: str
    grantees: tuple[str | None, ...]
    creators: tuple[str, ...] = ()
    schemas: tuple[str, ...] = ()
    grant_option: bool = False

    @property
    def object(self) -> str:
        """The objects, as a person reads it."""
        where = f" in schema {', '.join(self.schemas)}" if self.schemas else ""
        return f"later {self.kind.lower()} of {', '.join(self.creators) or 'the current role'}{where}"


def parse(statement: Statement, *, encoding: str = "utf-8") -> Change | DefaultChange | None:
    """Return what *statement* grants or revokes; ``None`` if it is not of the form that pg_dump writes.

    :param encoding: Python codec of the dump's client_encoding.
    """
    cursor = Cursor(decode(statement, encoding))
    if not cursor.words("alter", "default", "privileges"):
        return _change(cursor)
    creators: tuple[str, ...] = ()
    schemas: tuple[str, ...] = ()
    if cursor.words("for") and (cursor.words("role") or cursor.words("user")):
        found = _roles(cursor)
        if found is None or None in found:
            return None
        creators = t.cast("tuple[str, ...]", found)
    if cursor.words("in", "schema"):
        schemas = cursor.names()
    parsed = _rights(cursor)
    kind = _kind(cursor, _KINDS_OF_LATER_OBJECTS)
    if parsed is None or kind is None:
        return None
    revokes, rights, grant_option = parsed
    ending = _ending(cursor, revokes=revokes)
    if ending is None or any(right.columns for right in rights):
        return None
    grantees, with_option = ending
    return DefaultChange(revokes, rights, kind, grantees, creators, schemas, grant_option or with_option)


def _change(cursor: Cursor) -> Change | None:
    parsed = _rights(cursor)
    if parsed is None:
        return None
    revokes, rights, grant_option = parsed
    kind = _kind(cursor, _KINDS) or "TABLE"
    names: tuple[str, ...] | None
    arguments = ""
    if kind == "LARGE OBJECT":
        number = cursor.advance()
        names = (number.value,) if number is not None and number.value.isdigit() and number.value.isascii() else None
    else:
        names = cursor.parts()
        if kind in WITH_ARGUMENTS:
            found = cursor.arguments()
            names, arguments = (names, found) if found is not None else (None, "")
    ending = _ending(cursor, revokes=revokes) if names else None
    if not names or ending is None:
        return None
    grantees, with_option = ending
    return Change(revokes, rights, kind, names, arguments, grantees, grant_option or with_option)


def _rights(cursor: Cursor) -> tuple[bool, tuple[Right, ...], bool] | None:
    """Read ``REVOKE GRANT OPTION FOR SELECT (a), INSERT ON``: whether it revokes, what, and the option alone."""
    revokes = cursor.words("revoke")
    if not revokes and not cursor.words("grant"):
        return None
    grant_option = revokes and cursor.words("grant", "option", "for")
    rights = []
    while True:
        word = cursor.any_word()
        if word == "all":
            cursor.words("privileges")
            word = ALL.lower()
        elif word not in _PRIVILEGES:
            return None
        columns: tuple[str, ...] = ()
        if cursor.symbol("("):
            columns = cursor.names()
            if not columns or not cursor.symbol(")"):
                return None
        rights.append(Right(word.upper(), columns))
        if cursor.words("on"):
            return revokes, tuple(rights), grant_option
        if not cursor.symbol(","):
            return None


def _kind(cursor: Cursor, kinds: t.Mapping[tuple[str, ...], str]) -> str | None:
    return next((kind for words, kind in kinds.items() if cursor.words(*words)), None)


def _ending(cursor: Cursor, *, revokes: bool) -> tuple[tuple[str | None, ...], bool] | None:
    """Read ``TO role, … WITH GRANT OPTION`` to the end: the roles, and whether the option is given."""
    if not cursor.words("from" if revokes else "to"):
        return None
    grantees = _roles(cursor)
    if grantees is None:
        return None
    with_option = not revokes and cursor.words("with", "grant", "option")
    if revokes and not cursor.words("cascade"):
        cursor.words("restrict")
    return (grantees, with_option) if cursor.ended else None


def _roles(cursor: Cursor) -> tuple[str | None, ...] | None:
    found: list[str | None] = []
    while True:
        cursor.words("group")
        token = cursor.peek()
        if token is None or token.kind not in ("word", "name"):
            return None
        cursor.advance()
        if token.kind == "word" and token.value in KEYWORD_ROLES:
            if token.value != "public":
                return None  # CURRENT_USER is a different one here
            found.append(None)
        else:
            found.append(token.value)
        if not cursor.symbol(","):
            return tuple(found)


def render(change: Change | DefaultChange, grantees: t.Sequence[str | None]) -> str:
    """Write *change* as a statement, for *grantees* in place of its own."""
    rights = ", ".join(
        right.privilege + (f" ({', '.join(map(quote, right.columns))})" if right.columns else "")
        for right in change.rights
    )
    roles = ", ".join("PUBLIC" if name is None else quote(name) for name in grantees)
    words = []
    if isinstance(change, DefaultChange):
        words += ["ALTER DEFAULT PRIVILEGES"]
        if change.creators:
            words += ["FOR ROLE", ", ".join(map(quote, change.creators))]
        if change.schemas:
            words += ["IN SCHEMA", ", ".join(map(quote, change.schemas))]
        on = change.kind
    else:
        on = f"{change.kind} {change.identity}"
    if change.revokes:
        words += ["REVOKE", *(["GRANT OPTION FOR"] if change.grant_option else []), rights, "ON", on, "FROM", roles]
    else:
        words += ["GRANT", rights, "ON", on, "TO", roles, *(["WITH GRANT OPTION"] if change.grant_option else [])]
    return " ".join(words)
