# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Finds the statements of a dump that a restore must not send to the server unchanged, and parses them.

Most of a dump is loaded as it is.  :func:`classify` picks out the rest: statements that name roles of another cluster,
that only a superuser may run, or that concern the database itself and not its contents.  Statements are parsed by the
server's rules for tokens and names, never matched line by line.
"""

from __future__ import annotations

import dataclasses
import re
import typing as t

from ....printing import printable
from .scanner import Statement

# Tokens -------------------------------------------------------------------------------------------------------------

_LETTER = r"A-Za-z_\u0080-\U0010ffff"
# Of a token that may be long only the beginning is matched here, and its end is searched for: a text that is written to
# stall its reader must not take time that grows faster than its length, nor the memory that Python's re takes for each
# repetition of a group.
_TOKEN = re.compile(
    rf"""
      (?P<skip>    [ \t\n\r\f\v]+ | --[^\n\r]* )
    | (?P<comment> /\* )
    | (?P<uname>   [uU]&" )
    | (?P<escape>  [eE]' )
    | (?P<text>    (?:[uU]&|[bBxXnN])?' )
    | (?P<dollar>  \$(?:[{_LETTER}][{_LETTER}0-9]*)?\$ )
    | (?P<name>    " )
    | (?P<word>    [{_LETTER}][{_LETTER}0-9$]* )
    | (?P<number>  [0-9][0-9A-Za-z_.]* | \$[0-9]+ )
    | (?P<symbol>  [(),.;\[\]] | ::? )
    | (?P<operator> [+*<>=~!@\#%^&|`?] | -(?!-) | / )
    """,
    re.VERBOSE,
)
_OPERATOR_CONTINUES = re.compile(r"[+*<>=~!@#%^&|`?]+|-(?!-)|/(?!\*)")
_ESCAPE_STOP = re.compile(r"\\.|''|'", re.DOTALL)
_COMMENT_EDGE = re.compile(r"/\*|\*/")
#: Two escapes that together stand for one character.
_SURROGATES = re.compile("[\ud800-\udbff][\udc00-\udfff]")
_UNICODE_ESCAPE = re.compile(r"\\(?:\\|\+([0-9A-Fa-f]{6})|([0-9A-Fa-f]{4}))")
# In multibyte encodings the server folds only ASCII letters (downcase_identifier in scansup.c).
_FOLD = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}


class Token(t.NamedTuple):
    """A token.

    ``kind`` is ``word`` (an unquoted name or a keyword; ``value`` is folded to lower case), ``name`` (a quoted name;
    ``value`` is the name itself), ``text`` (a string; ``value`` is as written), ``number`` or ``symbol``.
    """

    kind: str
    value: str
    start: int
    end: int


def tokens(text: str) -> t.Iterator[Token]:
    """Yield the tokens of a statement without its comments.  Stop at the first text that is not SQL."""
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            return
        kind, begin, at = match.lastgroup or "", at, match.end()
        if kind == "word":
            yield Token("word", match[0].translate(_FOLD), begin, at)
        elif kind == "comment":
            at = _after_comment(text, begin)
        elif kind != "skip":
            inner, at = at, _after(kind, text, match)
            if at < 0:
                return
            if kind not in ("name", "uname"):
                yield Token(_KINDS_OF_TOKENS.get(kind, kind), text[begin:at], begin, at)
            elif at > inner + 1:
                value = text[inner : at - 1].replace('""', '"')
                yield Token("name", _unicode(value) if kind == "uname" else value, begin, at)
            else:
                return  # an empty quoted name


_KINDS_OF_TOKENS = {"escape": "text", "dollar": "text", "operator": "symbol"}


def _after(kind: str, text: str, match: re.Match[str]) -> int:
    """Return where a token of *kind* that begins with *match* ends; -1 if it has no end."""
    at = match.end()
    if kind == "dollar":
        end = text.find(match[0], at)
        return end + len(match[0]) if end >= 0 else -1
    if kind == "escape":
        return next((stop.end() for stop in _ESCAPE_STOP.finditer(text, at) if stop[0] == "'"), -1)
    if kind in ("text", "name", "uname"):
        quote = text[at - 1]
        while True:
            at = text.find(quote, at) + 1
            if not at:
                return -1
            if not text.startswith(quote, at):
                return at
            at += 1  # two quotes stand for one
    if kind == "operator":
        more = _OPERATOR_CONTINUES.match(text, at)
        while more is not None:
            at = more.end()
            more = _OPERATOR_CONTINUES.match(text, at)
    return at


def _after_comment(text: str, at: int) -> int:
    """Return where the comment at *at* ends."""
    depth = 0
    for edge in _COMMENT_EDGE.finditer(text, at):
        depth += 1 if edge[0] == "/*" else -1
        if not depth:
            return edge.end()
    return len(text)


def _unicode(text: str) -> str:
    return _SURROGATES.sub(
        lambda m: m[0].encode("utf-16-le", "surrogatepass").decode("utf-16-le"), _UNICODE_ESCAPE.sub(_unescaped, text)
    )


def _unescaped(match: re.Match[str]) -> str:
    number = int(match[1] or match[2] or "5c", 16)
    # The server rejects a number that is not a Unicode code point, so such a statement may stay as it is.
    return chr(number) if number <= 0x10FFFF else match[0]


# Kinds of statements ------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class OwnerChange:
    """``ALTER … OWNER TO``.

    ``kind`` is the object's kind in SQL (``TABLE``, ``MATERIALIZED VIEW``).  ``identity`` names the object with
    everything that ALTER needs: schema, argument types, access method.  It contains only names, type names, numbers
    and at most an operator, and all its brackets are closed, so it can be inserted into a statement as it is.
    """

    kind: str
    identity: str
    role: str


@dataclasses.dataclass(frozen=True)
class RoleName:
    """A role's name and its position in the statement's text, in characters."""

    name: str
    start: int
    end: int


@dataclasses.dataclass(frozen=True)
class Privileges:
    """``GRANT`` or ``REVOKE`` of privileges on an object.  ``roles`` does not contain PUBLIC and similar keywords."""

    roles: tuple[RoleName, ...]


@dataclasses.dataclass(frozen=True)
class DefaultPrivileges:
    """``ALTER DEFAULT PRIVILEGES``.  ``roles``, for an error, are those whose later objects it is about."""

    roles: str


@dataclasses.dataclass(frozen=True)
class Refresh:
    """``REFRESH MATERIALIZED VIEW``.  ``view`` is its name as the statement writes it."""

    view: str


@dataclasses.dataclass(frozen=True)
class NamesRoles:
    """A statement that names roles and is part of the database's contents: a policy or a user mapping."""

    roles: tuple[RoleName, ...]


@dataclasses.dataclass(frozen=True)
class CreateExtension:
    """``CREATE EXTENSION``.  If ``schema`` is ``None``, the extension's control file chooses the schema."""

    name: str
    schema: str | None


@dataclasses.dataclass(frozen=True)
class PublishAllTables:
    """``CREATE PUBLICATION … FOR ALL TABLES`` with its parameters as (name, value)."""

    publication: str
    parameters: tuple[tuple[str, str], ...]


@dataclasses.dataclass(frozen=True)
class PublishSchemas:
    """``ALTER PUBLICATION … ADD TABLES IN SCHEMA``, or ``CREATE PUBLICATION … FOR TABLES IN SCHEMA``."""

    publication: str
    schemas: tuple[str, ...]
    create: bool
    parameters: tuple[tuple[str, str], ...]


@dataclasses.dataclass(frozen=True)
class SetParameter:
    """``SET name = value``.  ``value`` is ``None`` unless it is a single word, name, number or string."""

    name: str
    value: str | None


@dataclasses.dataclass(frozen=True)
class CreateSchema:
    """``CREATE SCHEMA``."""

    name: str


@dataclasses.dataclass(frozen=True)
class Removal:
    """``DROP``, ``ALTER TABLE … DROP`` and the like.  ``pg_dump --clean`` begins with them; none need exist."""


@dataclasses.dataclass(frozen=True)
class WithOids:
    """``CREATE TABLE … WITH OIDS`` of a server before PostgreSQL 12.  ``text`` is the statement without the OIDs."""

    table: str
    text: str


@dataclasses.dataclass(frozen=True)
class Comment:
    """``COMMENT ON`` an object of the database."""


@dataclasses.dataclass(frozen=True)
class LeaveOut:
    """A statement that is not run.

    ``kind`` and ``what`` name the object, and ``why`` gives the reason.  ``loss`` is true if the database then lacks
    something from the dump that no other part of the restore supplies.
    """

    kind: str
    what: str
    why: str
    loss: bool = True


Classified = t.Union[
    OwnerChange,
    Privileges,
    DefaultPrivileges,
    Refresh,
    NamesRoles,
    CreateExtension,
    PublishAllTables,
    PublishSchemas,
    SetParameter,
    CreateSchema,
    WithOids,
    Removal,
    Comment,
    LeaveOut,
]

_SUPERUSER_CODE = "only a superuser may create one, and it would act beyond what this database's owner may do"
_DATABASE_ITSELF = "it belongs to the database itself, not to its contents, and the restore sets that"
_OWNERSHIP = "the restore sets the owners"
NO_OIDS = "PostgreSQL 12 and newer have no hidden oid columns; the other columns are restored"
_OFF = frozenset({"0", "f", "false", "n", "no", "of", "off"})
_FIRST_WORD = re.compile(rb"[A-Za-z]+")
_LANGUAGES = ("LANGUAGE", "PROCEDURAL LANGUAGE")
_EVERY_DATABASE = "every database has it"
_UNLINK = re.compile(rb"SELECT pg_catalog\.lo_unlink\('[0-9]+'\)\Z")


def classify(statement: Statement, *, encoding: str = "utf-8") -> Classified | None:
    """Return what is special about *statement*; ``None`` if it can be sent to the server unchanged.

    :param encoding: Python codec of the dump's client_encoding.
    """
    word = _FIRST_WORD.match(statement.text)
    handler = _HANDLERS.get(word[0].upper()) if word else None
    if handler is not None:
        return handler(_Cursor(decode(statement, encoding)))
    return Removal() if _UNLINK.match(statement.text) else None


def decode(statement: Statement, encoding: str) -> str:
    """Return the statement as characters; bytes that are invalid in *encoding* become surrogate escapes."""
    return statement.text.decode(encoding, "surrogateescape")


def rewrite_roles(
    statement: Statement, roles: t.Iterable[RoleName], mapping: t.Mapping[str, str], *, encoding: str = "utf-8"
) -> Statement:
    """Return *statement* with the names *roles* replaced by *mapping*.  Names that it does not contain stay."""
    text = decode(statement, encoding)
    pieces, at = [], 0
    for role in sorted(roles, key=lambda role: role.start):
        if role.name in mapping:
            pieces += [text[at : role.start], quote(mapping[role.name])]
            at = role.end
    return Statement("".join([*pieces, text[at:]]).encode(encoding, "surrogateescape"))


def is_post_data(statement: Statement, *, encoding: str = "utf-8") -> bool:
    """Return whether pg_dump writes *statement* only after all rows: a key, an index, a trigger and so on."""
    cursor = _Cursor(decode(statement, encoding))
    verb = cursor.any_word()
    if verb in ("grant", "refresh", "revoke"):
        return True
    if verb not in ("alter", "create"):
        return False
    kind = cursor.kind()
    if verb == "create":
        return kind in _POST_DATA
    if kind in ("TABLE", "FOREIGN TABLE"):
        cursor.skip_any("if", "exists", "only")
        # Of all triggers at once: --disable-triggers writes that around the rows of each table.
        return cursor.qualified() is not None and not any(
            cursor.words(word, "trigger", "all") for word in ("disable", "enable")
        )
    return kind in ("DEFAULT PRIVILEGES", "INDEX", "PUBLICATION")


_POST_DATA = frozenset(
    {
        *("CONSTRAINT TRIGGER", "EVENT TRIGGER", "INDEX", "POLICY", "PUBLICATION", "RULE", "STATISTICS"),
        *("SUBSCRIPTION", "TRIGGER", "UNIQUE INDEX"),
    }
)


def quote(name: str) -> str:
    """Return *name* as a quoted identifier."""
    return '"' + name.replace('"', '""') + '"'


def describe(statement: Statement, *, encoding: str = "utf-8") -> str:
    """Describe a statement for an error or a log by its command and its object, never by its strings or numbers."""
    cursor = _Cursor(decode(Statement(statement.text[:2000]), encoding))
    verb = cursor.any_word()
    if verb is None:
        return "statement"
    words = [verb.upper()]
    if verb in ("alter", "comment", "create", "drop", "security"):
        cursor.skip_any("on", "label", "or", "replace", "if", "not", "exists", "only")
        kind = cursor.kind()
        if kind is not None:
            words.append(kind)
            cursor.skip_any("if", "not", "exists", "only", "concurrently", "for")
    elif verb in ("insert", "copy", "truncate", "refresh", "delete", "update"):
        cursor.skip_any("into", "table", "only", "materialized", "view", "from")
    else:
        return words[0]
    name = cursor.qualified()
    if name is not None:
        words.append(name)
    return printable(" ".join(words))


# Parsing ------------------------------------------------------------------------------------------------------------

# Kinds of objects, by their names in statements.
_KIND_NAMES = (
    "access method, aggregate, cast, collation, column, constraint, constraint trigger, conversion, database,"
    "default privileges, domain, event trigger, extension, foreign data wrapper, foreign table, function, index,"
    "language, large object, materialized view, operator, operator class, operator family, policy, procedural language,"
    "procedure, publication, recursive view, role, routine, rule, schema, sequence, server, statistics, subscription,"
    "table, tablespace, temporary table, text search configuration, text search dictionary, text search parser,"
    "text search template, transform, trigger, type, unique index, unlogged table, user mapping, view"
)
_KINDS: dict[str, list[tuple[str, ...]]] = {}
for _kind in _KIND_NAMES.split(","):
    _words = tuple(_kind.split())
    _KINDS.setdefault(_words[0], []).insert(0, _words)  # the longer before the shorter
_WITH_ARGUMENTS = frozenset({"AGGREGATE", "FUNCTION", "PROCEDURE", "ROUTINE"})
_KEYWORD_ROLES = frozenset({"public", "current_user", "current_role", "session_user"})
_IN_IDENTITY = frozenset("(),.[]")


class _Cursor:
    """Reads a statement's tokens one by one.  A method that does not find what it looks for does not advance."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._source = tokens(text)
        self._tokens: list[Token] = []
        self._at = 0

    def peek(self, ahead: int = 0) -> Token | None:
        while len(self._tokens) <= self._at + ahead:
            token = next(self._source, None)
            if token is None:
                return None
            self._tokens.append(token)
        return self._tokens[self._at + ahead]

    def advance(self) -> Token | None:
        token = self.peek()
        if token is not None:
            self._at += 1
        return token

    @property
    def ended(self) -> bool:
        return self.peek() is None

    def words(self, *words: str) -> bool:
        """Skip these words, all of them or none."""
        for ahead, word in enumerate(words):
            token = self.peek(ahead)
            if token is None or token.kind != "word" or token.value != word:
                return False
        self._at += len(words)
        return True

    def symbol(self, symbol: str) -> bool:
        token = self.peek()
        if token is None or token.kind != "symbol" or token.value != symbol:
            return False
        self._at += 1
        return True

    def skip_any(self, *words: str) -> None:
        while any(self.words(word) for word in words):
            pass

    def any_word(self) -> str | None:
        token = self.peek()
        if token is None or token.kind != "word":
            return None
        self._at += 1
        return token.value

    def name(self) -> str | None:
        token = self._name_token()
        return token.value if token is not None else None

    def _name_token(self) -> Token | None:
        token = self.peek()
        if token is None or token.kind not in ("word", "name"):
            return None
        self._at += 1
        return token

    def names(self) -> tuple[str, ...]:
        """Read names that are separated by commas."""
        found: list[str] = []
        while True:
            name = self.name()
            if name is None:
                return tuple(found)
            found.append(name)
            if not self.symbol(","):
                return tuple(found)

    def qualified(self) -> str | None:
        """Read a name with its schema, as the statement writes it."""
        first = self._name_token()
        if first is None:
            return None
        parts = [self._text[first.start : first.end]]
        while self.symbol("."):
            part = self._name_token()
            if part is None:
                break
            parts.append(self._text[part.start : part.end])
        return ".".join(parts)

    def parts(self) -> tuple[str, ...] | None:
        """Read a name with its schema, as the names that it consists of."""
        found: list[str] = []
        while True:
            name = self.name()
            if name is None:
                return None
            found.append(name)
            if not self.symbol("."):
                return tuple(found)

    def arguments(self) -> str | None:
        """Read a list of argument types in parentheses, and return it with uniform spacing."""
        begin = self._at
        return self._spelled(begin) if self._arguments(star=True) else None

    def kind(self) -> str | None:
        """Read the kind of an object."""
        token = self.peek()
        for kind in _KINDS.get(token.value, ()) if token is not None else ():
            if self.words(*kind):
                return " ".join(kind).upper()
        return None

    def roles(self) -> tuple[RoleName, ...]:
        """Read roles that are separated by commas; leave out PUBLIC and similar keywords."""
        found: list[RoleName] = []
        while True:
            self.words("group")
            token = self._name_token()
            if token is None:
                return tuple(found)
            if token.kind == "name" or token.value not in _KEYWORD_ROLES:
                found.append(RoleName(token.value, token.start, token.end))
            if not self.symbol(","):
                return tuple(found)

    def forget(self) -> None:
        """Keep nothing of what was read: a statement may be long, and no caller goes back."""
        del self._tokens[: self._at]
        self._at = 0

    def seek(self, *words: str) -> str | None:
        """Advance past the next of these words that is outside brackets, and return it."""
        depth = 0
        while True:
            token = self.advance()
            if token is None:
                return None
            self.forget()
            if token.kind == "symbol":
                depth += (token.value in "([") - (token.value in ")]")
            elif token.kind == "word" and not depth and token.value in words:
                return token.value

    def with_oids(self) -> WithOids | None:
        """Read the rest of CREATE TABLE; ``None`` unless it asks for OIDs."""
        if "oids" not in self._text.lower():
            return None
        self.words("if", "not", "exists")
        table = self.qualified()
        while table is not None and self.seek("with", "as") == "with":
            in_list = self.symbol("(")
            token = self.advance()
            while in_list and token is not None and token.value not in ("oids", ")"):
                token = self.advance()
            if token is None or token.value != "oids":
                continue
            start, end, value = token.start, token.end, "on"
            if in_list and self.symbol("="):
                token = self.advance()
                if token is None:
                    break
                end, value = token.end, token.value.strip("'").translate(_FOLD)
            if value in _OFF:
                break
            # This is accepted, and means nothing.
            off = "oids = off" if in_list else "(oids = off)"
            return WithOids(table, self._text[:start] + off + self._text[end:])
        return None

    def placeholder(self) -> bool:
        """Read a view of nothing but ``NULL::type AS column, …``.

        ``pg_dump --clean`` puts it in the place of a view that other objects depend on (createDummyViewAsClause).
        """
        if self.qualified() is None or not self.words("as", "select"):
            return False
        while self.words("null") and self.symbol("::"):
            depth = 0
            while depth or not self.words("as"):
                token = self.advance()
                if (
                    token is None
                    or token.kind == "text"
                    or (token.kind == "symbol" and token.value not in _IN_IDENTITY)
                ):
                    return False
                if token.kind == "symbol":
                    depth += (token.value in "([") - (token.value in ")]")
            if self.name() is None or not self.symbol(","):
                return self.ended
        return False

    def parameters(self) -> tuple[tuple[str, str], ...] | None:
        """Read ``WITH (name = value, …)`` at the end of the statement; ``None`` if something else follows."""
        found: list[tuple[str, str]] = []
        if self.ended:
            return ()
        if not (self.words("with") and self.symbol("(")):
            return None
        while True:
            name = self.name()
            value = self.value() if name is not None and self.symbol("=") else None
            if name is None or value is None:
                return None
            found.append((name, value))
            if self.symbol(")"):
                return tuple(found) if self.ended else None
            if not self.symbol(","):
                return None

    def value(self) -> str | None:
        """Read a word, name, number or plain string."""
        token = self.peek()
        if token is None or token.kind == "symbol":
            return None
        value = token.value
        if token.kind == "text":
            if not value.startswith("'"):
                return None
            value = value[1:-1].replace("''", "'")
        self._at += 1
        return value

    def identity(self, kind: str) -> str | None:
        """Read what identifies an object of *kind* in ALTER, and return it with uniform spacing."""
        begin = self._at
        if kind == "LARGE OBJECT":
            number = self.advance()
            return number.value if number is not None and number.value.isdigit() else None
        if kind == "OPERATOR":
            while True:  # an operator's schema, and the operator
                token = self.advance()
                if token is None:
                    return None
                if token.kind == "symbol":
                    if token.value in "(),.;[]":
                        return None
                    break
                if not self.symbol("."):
                    return None
        elif self.qualified() is None:
            return None
        complete = True
        if kind in ("OPERATOR CLASS", "OPERATOR FAMILY"):
            complete = self.words("using") and self.name() is not None
        elif kind == "OPERATOR" or (kind in _WITH_ARGUMENTS and self._is_symbol("(")):
            complete = self._arguments(star=kind == "AGGREGATE")
        return self._spelled(begin) if complete else None

    def _is_symbol(self, symbol: str) -> bool:
        token = self.peek()
        return token is not None and token.kind == "symbol" and token.value == symbol

    def _arguments(self, *, star: bool) -> bool:
        """Skip a list of argument types in parentheses."""
        if not self.symbol("("):
            return False
        depth = 1
        while depth:
            token = self.advance()
            if token is None or token.kind == "text":
                return False
            if token.kind == "symbol":
                if token.value not in _IN_IDENTITY and not (star and token.value == "*"):
                    return False
                depth += (token.value in "([") - (token.value in ")]")
        return True

    def _spelled(self, begin: int) -> str:
        spelled: list[str] = []
        for token in self._tokens[begin : self._at]:
            written = self._text[token.start : token.end]
            if spelled and spelled[-1][-1] not in "(.[" and not (token.kind == "symbol" and written[0] in "(),.[]"):
                spelled.append(" ")
            spelled.append(written)
        return "".join(spelled)


# Commands -----------------------------------------------------------------------------------------------------------


def _alter(cursor: _Cursor) -> Classified | None:
    cursor.words("alter")
    kind = cursor.kind()
    if kind is None:
        return None
    if kind == "DEFAULT PRIVILEGES":
        given = cursor.words("for") and (cursor.words("role") or cursor.words("user"))
        roles = ", ".join(role.name for role in cursor.roles()) if given else ""
        return DefaultPrivileges(roles or "the current role")
    if kind in _LEFT_OUT:
        return _left_out(kind, cursor)
    if kind == "PUBLICATION":
        return _alter_publication(cursor)
    cursor.skip_any("if", "exists", "only")
    identity = cursor.identity(kind)
    if identity is None:
        return None
    if cursor.words("owner", "to"):
        role = cursor.name()
        return OwnerChange(kind, identity, role) if role is not None and cursor.ended else None
    if cursor.words("set", "with", "oids"):
        return LeaveOut("oid column", f"of table {printable(identity)}", NO_OIDS)
    if kind in ("TABLE", "FOREIGN TABLE", "VIEW", "DOMAIN") and cursor.seek("drop"):
        return Removal()
    return None


def _alter_publication(cursor: _Cursor) -> Classified | None:
    identity = cursor.qualified()
    if identity is None:
        return None
    if cursor.words("owner", "to"):
        role = cursor.name()
        return OwnerChange("PUBLICATION", identity, role) if role is not None and cursor.ended else None
    if cursor.words("add", "tables", "in", "schema"):
        schemas = cursor.names()
        if schemas and cursor.ended:
            return PublishSchemas(_unquoted(identity), schemas, create=False, parameters=())
    return None


def _unquoted(identity: str) -> str:
    return next(tokens(identity)).value


def _comment(cursor: _Cursor) -> Classified | None:
    cursor.words("comment", "on")
    kind = cursor.kind()
    if kind == "EXTENSION":
        return LeaveOut("comment", f"on extension {_named(cursor)}", "the extension brings its own", loss=False)
    if kind in _LEFT_OUT or kind in (*_LANGUAGES, "ROLE", "TABLESPACE"):
        return LeaveOut("comment", f"on {kind.lower()} {_named(cursor)}", _DATABASE_ITSELF, loss=False)
    return Comment()


def _create(cursor: _Cursor) -> Classified | None:
    cursor.words("create")
    replaces = cursor.words("or", "replace")
    cursor.words("trusted")
    kind = cursor.kind()
    if kind in _LANGUAGES:
        return _create_language(cursor)
    if kind in ("TABLE", "TEMPORARY TABLE", "UNLOGGED TABLE"):
        return cursor.with_oids()
    if kind == "EXTENSION":
        cursor.words("if", "not", "exists")
        name = cursor.name()
        cursor.words("with")
        schema = cursor.name() if cursor.words("schema") else None
        return CreateExtension(name, schema) if name is not None else None
    if kind == "PUBLICATION":
        return _create_publication(cursor)
    if kind == "VIEW" and replaces:
        return Removal() if cursor.placeholder() else None
    if kind == "SCHEMA":
        cursor.words("if", "not", "exists")
        name = cursor.name()
        return CreateSchema(name) if name is not None and cursor.ended else None
    if kind == "POLICY":
        return NamesRoles(cursor.roles()) if cursor.seek("to", "using", "with") == "to" else None
    if kind == "USER MAPPING":
        cursor.words("if", "not", "exists")
        return NamesRoles(cursor.roles()) if cursor.words("for") else None
    if kind in _LEFT_OUT:
        return _left_out(kind, cursor)
    return None


def _create_language(cursor: _Cursor) -> Classified | None:
    name = cursor.value()
    if name == "plpgsql":
        return LeaveOut("language", name, _EVERY_DATABASE, loss=False)
    # Without a handler it is the language of an extension of the same name, also for the server.
    return CreateExtension(name, None) if name is not None and cursor.ended else None


def _create_publication(cursor: _Cursor) -> Classified | None:
    name = cursor.name()
    if name is None or not cursor.words("for"):
        return None
    if cursor.words("all", "tables"):
        parameters = cursor.parameters()
        return PublishAllTables(name, parameters) if parameters is not None else None
    if cursor.words("tables", "in", "schema"):
        schemas = cursor.names()
        parameters = cursor.parameters()
        if schemas and parameters is not None:
            return PublishSchemas(name, schemas, create=True, parameters=parameters)
    return None


def _drop(cursor: _Cursor) -> Classified | None:
    cursor.words("drop")
    kind = cursor.kind()
    if kind == "EXTENSION":
        return LeaveOut("drop", f"of extension {_named(cursor)}", "a new database has nothing to drop", loss=False)
    if kind in _LANGUAGES:
        return LeaveOut("drop", f"of language {_named(cursor)}", "a new database has no other languages", loss=False)
    return _left_out(kind, cursor) if kind in _LEFT_OUT else Removal()


def _grant(cursor: _Cursor) -> Classified | None:
    of_object = cursor.seek("on", "to", "from")
    if of_object != "on":
        return LeaveOut("membership", "of roles", "roles belong to the cluster, not to the database")
    kind = cursor.kind()
    if kind in ("DATABASE", "TABLESPACE") or cursor.words("parameter"):
        return LeaveOut("grant", f"on {(kind or 'parameter').lower()} {_named(cursor)}", _DATABASE_ITSELF, loss=False)
    if cursor.seek("to", "from") is None:
        return None
    roles = cursor.roles()
    if cursor.seek("granted") and cursor.words("by"):
        roles += cursor.roles()
    return Privileges(roles)


def _refresh(cursor: _Cursor) -> Classified | None:
    if not cursor.words("refresh", "materialized", "view"):
        return None
    cursor.words("concurrently")
    view = cursor.qualified()
    return Refresh(view) if view is not None else None


def _reset(cursor: _Cursor) -> Classified | None:
    cursor.words("reset")
    if cursor.words("session", "authorization") or cursor.words("role"):
        return LeaveOut("session", "of another role", _OWNERSHIP, loss=False)
    return None


def _security(_cursor: _Cursor) -> Classified:
    return LeaveOut("security label", "", "security labels need a label provider in the server")


def _set(cursor: _Cursor) -> Classified | None:
    cursor.words("set")
    if not cursor.words("session", "authorization"):
        if not cursor.words("local"):
            cursor.words("session")
        if any(cursor.words(word) for word in ("time", "constraints", "transaction", "characteristics")):
            return None
        if cursor.words("names"):
            return SetParameter("client_encoding", cursor.value())
        if not cursor.words("role") and not cursor.words("session", "authorization"):
            name = cursor.qualified()
            if name is None or not (cursor.symbol("=") or cursor.words("to")):
                return None
            if name.translate(_FOLD) != "session_authorization":
                value = cursor.value()
                if name.translate(_FOLD) == "default_with_oids" and str(value).translate(_FOLD) not in _OFF:
                    return LeaveOut("parameter", "default_with_oids", NO_OIDS)
                return SetParameter(name.translate(_FOLD), value if cursor.ended else None)
    return LeaveOut("session", "of another role", _OWNERSHIP, loss=False)


# Kinds whose statements are always left out.
_LEFT_OUT = {
    "DATABASE": (_DATABASE_ITSELF, False),
    "EVENT TRIGGER": (_SUPERUSER_CODE, True),
    "SUBSCRIPTION": ("it would start to receive changes from another server; create it by hand if you need it", True),
}


def _left_out(kind: str, cursor: _Cursor) -> LeaveOut:
    why, loss = _LEFT_OUT[kind]
    return LeaveOut(kind.lower(), _named(cursor), why, loss)


def _named(cursor: _Cursor) -> str:
    cursor.skip_any("if", "exists", "not")
    return printable(cursor.qualified() or "")


_HANDLERS: dict[bytes, t.Callable[[_Cursor], Classified | None]] = {
    b"ALTER": _alter,
    b"COMMENT": _comment,
    b"CREATE": _create,
    b"DROP": _drop,
    b"GRANT": _grant,
    b"REFRESH": _refresh,
    b"RESET": _reset,
    b"REVOKE": _grant,
    b"SECURITY": _security,
    b"SET": _set,
}
