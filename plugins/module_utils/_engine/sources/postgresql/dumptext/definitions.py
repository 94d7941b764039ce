# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Finds out which statements of a dump may be given to a superuser: a closed set of definitions.

A dump is loaded as a role that is not a superuser.  Some objects can only be created by a superuser, and
:func:`definition` recognizes the statements that create them.  Whoever wrote the dump may be hostile, so a statement is
accepted only if nothing that it makes the server *execute* can be the author's code:

- it is exactly one statement, all of whose text consists of tokens and white space;
- it has one of the forms that pg_dump writes, and never replaces an object;
- it contains no expression that the server would evaluate: no body that is parsed with the statement, no initial value
  of a type of the database, and in default values of parameters nothing but what is in ``pg_catalog``;
- what the server loads or calls while it executes the statement (a library, a validator of options) is returned with
  it, for the caller to check first.

Whether such a statement creates the object that it claims to create is not decided here: see
:mod:`..privileged`.
"""

from __future__ import annotations

import dataclasses
import re
import typing as t

from .scanner import Statement
from .statements import Token, tokens

#: Characters of a definition; pg_dump writes nothing longer but bodies of functions.
LONGEST = 16 << 20

CREATE, ADD, SHELL, ALTER, OWNER, COMMENT = "create", "add", "shell", "alter", "owner", "comment"


@dataclasses.dataclass(frozen=True)
class Definition:
    """A statement that defines an object that only a superuser may create.

    :param kind: as ``pg_identify_object`` names it: ``function``, ``operator class``, ``text search parser`` ...
    :param name: the object's name without its schema; empty if objects of this kind have none.
    :param text: the statement, which may be sent to the server as it is with ``standard_conforming_strings = on``.
    :param action: :data:`CREATE`; :data:`ADD` members to an operator family; create a :data:`SHELL` of a type;
        :data:`ALTER` the state of an event trigger; :data:`OWNER`: change that of an event trigger or a subscription,
        which a restore does not do; :data:`COMMENT` on an object.
    :param library: the library that the server loads to create a function.
    :param validator: the function, as the statement names it, that the server calls with the options.
    :param wrapper: the foreign-data wrapper whose validator is called with the options.
    :param server: the foreign server, likewise.
    """

    kind: str
    name: str
    text: str
    action: str = CREATE
    library: str | None = None
    validator: str | None = None
    wrapper: str | None = None
    server: str | None = None


def definition(statement: Statement, *, encoding: str = "utf-8") -> Definition | None:
    """Return what *statement* defines; ``None`` if it must not be given to a superuser.

    :param encoding: Python codec of the dump's client_encoding.
    """
    if not _HEAD.match(statement.text) or len(statement.text) > LONGEST or b"\0" in statement.text:
        return None
    try:
        text = statement.text.decode(encoding)
    except UnicodeDecodeError:
        return None
    reader = _reader(text)
    if reader is None:
        return None
    try:
        return _statement(reader)
    except _Refused:
        return None


def names_in(kind: str, identity: str) -> frozenset[tuple[str, str]]:
    """Return the pairs of a *kind* and a name that a definition of the object with this *identity* may have.

    It has one of them, and another object's may have the same.
    """
    return frozenset({(kind, ""), *((kind, token.value) for token in tokens(identity))})


class _Refused(Exception):
    """The statement does not have one of the accepted forms."""


_KINDS_OF_TOKENS = frozenset({"word", "name", "number", "symbol", "text"})


def _reader(text: str) -> _Reader | None:
    """Return the tokens of *text*, if it consists of nothing else: no comments, and nothing that is not SQL."""
    found: list[Token] = []
    at = 0
    for token in tokens(text):
        if text[at : token.start].strip(" \t\n\r\f") or token.kind not in _KINDS_OF_TOKENS:
            return None
        if token.kind == "symbol" and token.value == ";":
            return None
        # With U& a character's number is not always where we and the server agree on it (UESCAPE).
        if token.kind != "word" and text[token.start] in "uU":
            return None
        at = token.end
        found.append(token)
    return None if text[at:].strip(" \t\n\r\f") else _Reader(text, found)


class _Reader:
    """Reads tokens one by one.  A method that does not find what it requires raises :class:`_Refused`."""

    def __init__(self, text: str, found: t.Sequence[Token]) -> None:
        self.text = text
        self._tokens = found
        self._at = 0

    def peek(self) -> Token | None:
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def next(self) -> Token:
        token = self.peek()
        if token is None:
            raise _Refused
        self._at += 1
        return token

    def is_word(self, *words: str) -> bool:
        token = self.peek()
        return token is not None and token.kind == "word" and token.value in words

    def is_symbol(self, *symbols: str) -> bool:
        token = self.peek()
        return token is not None and token.kind == "symbol" and token.value in symbols

    def words(self, *words: str) -> bool:
        """Skip these words, all of them or none."""
        for ahead, word in enumerate(words, self._at):
            if ahead >= len(self._tokens) or self._tokens[ahead][:2] != ("word", word):
                return False
        self._at += len(words)
        return True

    def symbol(self, symbol: str) -> bool:
        if not self.is_symbol(symbol):
            return False
        self._at += 1
        return True

    def require(self, met: bool) -> None:
        if not met:
            raise _Refused

    def end(self) -> None:
        self.require(self.peek() is None)

    def name(self) -> str:
        token = self.next()
        self.require(token.kind in ("word", "name"))
        return token.value

    def qualified(self) -> tuple[str, str]:
        """Return the last part of a name, and all of it as the statement writes it."""
        begin = self._at
        last = self.name()
        while self.symbol("."):
            last = self.name()
        return last, self.text[self._tokens[begin].start : self._tokens[self._at - 1].end]

    def group(self) -> t.Iterator[tuple[int, Token]]:
        """Yield the tokens in a pair of parentheses, each with its depth (1: directly in them)."""
        self.require(self.symbol("("))
        depth = 1
        while True:
            token = self.next()
            if token.kind == "symbol":
                if token.value in "([":
                    depth += 1
                elif token.value in ")]":
                    depth -= 1
                    if not depth:
                        return
            yield depth, token

    def rest(self, *kinds: str) -> None:
        """Skip the rest of the statement, which consists of tokens of these *kinds*."""
        while self.peek() is not None:
            self.require(self.next().kind in kinds)

    def parameters(self, known: t.Collection[str]) -> dict[str, list[Token]]:
        """Read ``(name = value, name, ...)`` with *known* names, each at most once."""
        found: dict[str, list[Token]] = {}
        value: list[Token] | None = None
        for depth, token in self.group():
            if value is None:
                self.require(token.kind == "word" and token.value in known and token.value not in found)
                value = found[token.value] = []
            elif depth == 1 and token.kind == "symbol" and token.value == ",":
                value = None
            else:
                value.append(token)
        self.require(bool(found) and value is not None)
        for value in found.values():
            self.require(not value or value[0][:2] == ("symbol", "="))
            del value[:1]
        return found


# Statements ----------------------------------------------------------------------------------------------------------

_STRUCTURE = ("word", "name", "number", "symbol")


def _statement(reader: _Reader) -> Definition:
    verb = reader.next().value
    if verb == "create":
        for words, read in _CREATE:
            if reader.words(*words):
                return read(reader)
    elif verb == "alter":
        for words, read in _ALTER:
            if reader.words(*words):
                return read(reader)
    elif verb == "comment":
        return _comment(reader)
    raise _Refused


def _function(reader: _Reader) -> Definition:
    return _routine(reader, "function")


def _procedure(reader: _Reader) -> Definition:
    return _routine(reader, "procedure")


_PLAIN_CLAUSES = (
    ("window",),
    ("immutable",),
    ("stable",),
    ("volatile",),
    ("leakproof",),
    ("not", "leakproof"),
    ("strict",),
    ("called", "on", "null", "input"),
    ("returns", "null", "on", "null", "input"),
    ("security", "definer"),
    ("security", "invoker"),
)
_CLAUSES = frozenset(
    {
        *("as", "called", "cost", "immutable", "language", "leakproof", "not", "parallel", "returns", "rows"),
        *("security", "set", "stable", "strict", "support", "transform", "volatile", "window"),
    }
)


def _routine(reader: _Reader, kind: str) -> Definition:
    name, _written = reader.qualified()
    _arguments(reader)
    language, sources = "", []
    while reader.peek() is not None:
        if any(reader.words(*words) for words in _PLAIN_CLAUSES):
            continue
        # Whatever comes without one of these words is a body that is parsed with the statement.
        clause = reader.name()
        if clause == "language":
            language = reader.name()
        elif clause == "as":
            sources.append(reader.next())
            if reader.symbol(","):
                sources.append(reader.next())
        elif clause in ("cost", "rows"):
            reader.require(reader.next().kind == "number")
        elif clause == "parallel":
            reader.name()
        elif clause == "support":
            reader.qualified()
        elif clause == "set":
            _setting(reader)
        elif clause == "transform":
            _until_clause(reader)
        elif clause == "returns":
            if reader.words("table"):
                for _depth, token in reader.group():
                    reader.require(token.kind != "text")
            else:
                _until_clause(reader)
        else:
            raise _Refused
    reader.require(bool(language) and all(source.kind == "text" for source in sources))
    # The server loads the library of a function in C at once: it is the first of two strings.
    reader.require(len(sources) == (2 if language == "c" else 1))
    return Definition(kind, name, reader.text, library=_plain(sources[0]) if language == "c" else None)


def _plain(token: Token) -> str:
    """Return the value of a string in which nothing is escaped."""
    if not token.value.startswith("'") or "\\" in token.value:
        raise _Refused
    return token.value[1:-1].replace("''", "'")


def _arguments(reader: _Reader) -> None:
    """Skip the parameters of a function.  Default values may contain only what is in pg_catalog.

    The server parses them at once and calls the input functions of the constants' types.  For a type of the database
    that may be a function of the dump: of a domain in a composite type, for example.  With an empty search_path a name
    without a schema is one of pg_catalog.
    """
    in_default = False
    for depth, token in reader.group():
        if token.kind == "symbol":
            if depth == 1 and token.value == ",":
                in_default = False
            elif depth == 1 and token.value in ("=", ":"):
                # ":=" are two tokens; a cast, "::", is one.
                in_default = True
            reader.require(not (in_default and token.value == "."))
        elif depth == 1 and token.kind == "word" and token.value == "default":
            in_default = True
        else:
            reader.require(in_default or token.kind != "text")


def _setting(reader: _Reader) -> None:
    reader.qualified()
    reader.require(reader.words("to") or reader.symbol("="))
    while True:
        reader.require(reader.next().kind in ("word", "name", "number", "text"))
        if not reader.symbol(","):
            return


def _until_clause(reader: _Reader) -> None:
    """Skip types, up to the next clause."""
    depth = 0
    while True:
        token = reader.peek()
        if token is None or (not depth and token.kind == "word" and token.value in _CLAUSES):
            return
        reader.require(token.kind in _STRUCTURE)
        if token.kind == "symbol":
            depth += (token.value in "([") - (token.value in ")]")
        reader.next()


_OF_AGGREGATES = frozenset(
    {
        *("sfunc", "stype", "sspace", "finalfunc", "finalfunc_extra", "finalfunc_modify", "combinefunc"),
        *("serialfunc", "deserialfunc", "initcond", "msfunc", "minvfunc", "mstype", "msspace", "mfinalfunc"),
        *("mfinalfunc_extra", "mfinalfunc_modify", "minitcond", "sortop", "parallel", "hypothetical"),
    }
)


def _aggregate(reader: _Reader) -> Definition:
    name, _written = reader.qualified()
    for _depth, token in reader.group():
        reader.require(token.kind != "text")
    values = reader.parameters(_OF_AGGREGATES)
    reader.end()
    # The server passes an initial value to the input function of its type; internal has none.
    reader.require(_is_internal(values.get("stype")))
    reader.require("minitcond" not in values or _is_internal(values.get("mstype")))
    return Definition("aggregate", name, reader.text)


def _is_internal(value: t.Sequence[Token] | None) -> bool:
    return value is not None and [token[:2] for token in value] == [("word", "internal")]


_OF_TYPES = frozenset(
    {
        *("input", "output", "receive", "send", "typmod_in", "typmod_out", "analyze", "subscript", "internallength"),
        *("passedbyvalue", "alignment", "storage", "like", "category", "preferred", "default", "element"),
        *("delimiter", "collatable"),
    }
)
_OF_RANGES = frozenset({"subtype", "subtype_opclass", "collation", "canonical", "subtype_diff", "multirange_type_name"})


def _type(reader: _Reader) -> Definition:
    name, _written = reader.qualified()
    if reader.peek() is None:
        return Definition("type", name, reader.text, SHELL)
    reader.parameters(_OF_RANGES if reader.words("as", "range") else _OF_TYPES)
    reader.end()
    return Definition("type", name, reader.text)


def _structure(kind: str, *, named: bool = True) -> t.Callable[[_Reader], Definition]:
    """Definitions in which there are only names: the server looks them up and executes nothing."""

    def read(reader: _Reader) -> Definition:
        name = reader.qualified()[0] if named else ""
        reader.rest(*_STRUCTURE)
        return Definition(kind, name, reader.text)

    return read


def _operator_class(reader: _Reader) -> Definition:
    name, _written = reader.qualified()
    reader.words("default")
    reader.require(reader.words("for", "type"))
    while not reader.is_word("using"):
        reader.require(reader.next().kind in _STRUCTURE)
    reader.require(reader.words("using"))
    reader.name()
    # Without it the server may create a family, too.
    reader.require(reader.words("family"))
    reader.rest(*_STRUCTURE)
    return Definition("operator class", name, reader.text)


def _add_to_family(reader: _Reader) -> Definition:
    name, _written = reader.qualified()
    reader.require(reader.words("using"))
    reader.name()
    reader.require(reader.words("add"))
    reader.rest(*_STRUCTURE)
    return Definition("operator family", name, reader.text, ADD)


def _language(reader: _Reader) -> Definition:
    name = reader.name()
    # Without a handler the statement would create an extension.
    reader.require(reader.words("handler"))
    reader.rest("word", "name", "symbol")
    return Definition("language", name, reader.text)


def _wrapper(reader: _Reader) -> Definition:
    name, validator = reader.name(), None
    while reader.is_word("handler", "validator", "no"):
        if reader.words("no"):
            reader.require(reader.words("handler") or reader.words("validator"))
        elif reader.words("handler"):
            reader.qualified()
        else:
            reader.require(validator is None and reader.words("validator"))
            _name, validator = reader.qualified()
    _options(reader)
    return Definition("foreign-data wrapper", name, reader.text, validator=validator)


def _server(reader: _Reader) -> Definition:
    name = reader.name()
    if reader.words("type"):
        reader.require(reader.next().kind == "text")
    if reader.words("version"):
        reader.require(reader.next().kind == "text")
    reader.require(reader.words("foreign", "data", "wrapper"))
    wrapper = reader.name()
    _options(reader)
    return Definition("server", name, reader.text, wrapper=wrapper)


def _user_mapping(reader: _Reader) -> Definition:
    # Whoever executes the statement is not whom it means.
    reader.require(not reader.is_word("current_role", "current_user", "session_user", "user"))
    reader.name()
    reader.require(reader.words("server"))
    server = reader.name()
    _options(reader)
    return Definition("user mapping", "", reader.text, server=server)


def _options(reader: _Reader) -> None:
    if reader.words("options"):
        for _depth, token in reader.group():
            reader.require(token.kind != "number")
    reader.end()


_STATES = (("disable",), ("enable", "replica"), ("enable", "always"), ("enable",))


def _event_trigger(reader: _Reader) -> Definition:
    name = reader.name()
    reader.require(reader.words("on"))
    reader.name()
    if reader.words("when"):
        reader.require(reader.words("tag", "in"))
        for _depth, token in reader.group():
            reader.require(token.kind == "text" or token.value == ",")
    reader.require(reader.words("execute") and (reader.words("function") or reader.words("procedure")))
    reader.qualified()
    reader.require(reader.symbol("(") and reader.symbol(")"))
    reader.end()
    return Definition("event trigger", name, reader.text)


def _alter_event_trigger(reader: _Reader) -> Definition:
    name = reader.name()
    action = ALTER
    if reader.words("owner", "to"):
        reader.name()
        action = OWNER
    else:
        reader.require(any(reader.words(*words) for words in _STATES))
    reader.end()
    return Definition("event trigger", name, reader.text, action)


def _subscription(reader: _Reader) -> Definition:
    name = reader.name()
    reader.require(reader.words("connection") and reader.next().kind == "text" and reader.words("publication"))
    reader.name()
    while reader.symbol(","):
        reader.name()
    reader.require(reader.words("with"))
    values = reader.parameters(_OF_SUBSCRIPTIONS)
    reader.end()
    # Without it the server would connect to the publisher, and start to receive changes.
    connects = [token.value for token in values.get("connect", ())]
    reader.require(connects == ["false"])
    return Definition("subscription", name, reader.text)


def _alter_subscription(reader: _Reader) -> Definition:
    name = reader.name()
    reader.require(reader.words("owner", "to"))
    reader.name()
    reader.end()
    return Definition("subscription", name, reader.text, OWNER)


#: Not ``enabled``, ``create_slot`` and ``copy_data``, which pg_dump never writes.
_OF_SUBSCRIPTIONS = frozenset(
    {
        *("connect", "slot_name", "synchronous_commit", "binary", "streaming", "two_phase", "disable_on_error"),
        *("password_required", "run_as_owner", "origin", "failover"),
    }
)

_COMMENTED = (
    "access method",
    "aggregate",
    "cast",
    "event trigger",
    "foreign data wrapper",
    "function",
    "operator class",
    "operator family",
    "procedure",
    "server",
    "text search parser",
    "text search template",
    "transform",
    "type",
)


def _comment(reader: _Reader) -> Definition:
    reader.require(reader.words("on"))
    kind = next((kind for kind in _COMMENTED if reader.words(*kind.split())), None)
    if kind is None:
        raise _Refused
    while not reader.is_word("is"):
        reader.require(reader.next().kind in _STRUCTURE)
    reader.require(reader.words("is") and reader.next().kind == "text")
    reader.end()
    return Definition(kind, "", reader.text, COMMENT)


_CREATE: tuple[tuple[tuple[str, ...], t.Callable[[_Reader], Definition]], ...] = (
    (("function",), _function),
    (("procedure",), _procedure),
    (("aggregate",), _aggregate),
    (("cast",), _structure("cast", named=False)),
    (("type",), _type),
    (("operator", "class"), _operator_class),
    (("operator", "family"), _structure("operator family")),
    (("access", "method"), _structure("access method")),
    (("transform", "for"), _structure("transform", named=False)),
    (("text", "search", "template"), _structure("text search template")),
    (("text", "search", "parser"), _structure("text search parser")),
    (("foreign", "data", "wrapper"), _wrapper),
    (("server",), _server),
    (("user", "mapping", "for"), _user_mapping),
    (("language",), _language),
    (("procedural", "language"), _language),
    (("trusted", "language"), _language),
    (("trusted", "procedural", "language"), _language),
    (("event", "trigger"), _event_trigger),
    (("subscription",), _subscription),
)
_ALTER: tuple[tuple[tuple[str, ...], t.Callable[[_Reader], Definition]], ...] = (
    (("operator", "family"), _add_to_family),
    (("event", "trigger"), _alter_event_trigger),
    (("subscription",), _alter_subscription),
)
# Nothing else is worth a look at its tokens.
_HEAD = re.compile(
    r"(?:CREATE\s+(?:{})|ALTER\s+(?:{})|COMMENT\s+ON)\b".format(
        *("|".join(sorted({words[0] for words, _read in table})) for table in (_CREATE, _ALTER))
    ).encode(),
    re.IGNORECASE,
)
