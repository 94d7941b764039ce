# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

r"""Splits the SQL text that pg_dump and pg_restore write into statements and the rows between them.

A dump is never parsed line by line: a table row, or a line of a function body, may look like any statement.  The
scanner follows PostgreSQL's own lexer (``scan.l``; ``psqlscan.l`` for where a statement ends): strings and quoted
names, ``E''`` strings and their continuation on later lines, dollar quotes with tags, nested comments, ``BEGIN ATOMIC``
bodies, rules with several actions, and the rows after ``COPY … FROM stdin`` up to ``\.``.

Most of a dump is rows.  They cost one search for their end in each chunk.  The scanner skips the text between them in
the longest steps that a compiled pattern can match.

A text may be written to stall its reader.  The time is therefore linear in the number of bytes, for every text and for
every way to split it into chunks.  No pattern can match the same text in two ways, and a pattern that can fail is never
tried again on bytes that it has passed: where more text may come, the state records what has been passed.  The scanner
takes as much memory as the statement that it is reading.  Python's ``re`` takes 100 bytes or more for each repetition
of a group, so groups are repeated only within one chunk, never over a whole statement.
"""

from __future__ import annotations

import re
import sys
import typing as t

from ....errors import DumpIncomplete, DumpSyntax
from ....printing import printable

STATEMENT_LIMIT = (1 << 30) - 2
"""The longest statement in bytes: the server accepts no longer message (``PQ_LARGE_MESSAGE_LIMIT`` in ``libpq.h``)."""

_LINE_LIMIT = 1 << 20


class Statement:
    """One SQL statement, without the semicolon that ends it."""

    __slots__ = ("text",)

    def __init__(self, text: bytes) -> None:
        self.text = text


class CopyStart(Statement):
    """A ``COPY … FROM stdin`` statement.  Its rows follow as :class:`CopyData`, then :class:`CopyEnd`.

    ``table`` is the table's name as the statement writes it, with schema and quotes.
    """

    __slots__ = ("table",)

    def __init__(self, text: bytes, table: str) -> None:
        super().__init__(text)
        self.table = table


class CopyData:
    """A piece of the rows, which may end anywhere.  All pieces of a block together end with the last row's newline."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data


class CopyEnd:
    r"""The line ``\.`` after the last row."""

    __slots__ = ()


Event = t.Union[Statement, CopyStart, CopyData, CopyEnd]
_Text = t.Union[bytes, bytearray]

# Lexical patterns ---------------------------------------------------------------------------------------------------

# Bytes above 0x7f are part of names in every encoding that a server can use (scan.l: ident_start, ident_cont).
_IN_NAME = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_$" + bytes(range(0x80, 0x100)))
_NO_NAME_BEFORE, _NO_NAME_AFTER = rb"(?<![A-Za-z0-9_$\x80-\xff])", rb"(?![A-Za-z0-9_$\x80-\xff])"
_IDENTIFIER = re.compile(rb"[A-Za-z_\x80-\xff][A-Za-z0-9_$\x80-\xff]*")
_BLANK = rb"[ \t\n\r\f\v]*"
_LINES = _BLANK + rb"(?:--[^\n\r]*[\n\r]" + _BLANK + rb")*"
_SPACE = re.compile(_BLANK)
_SPACES = b" \t\n\r\f\v"

# Matches from anywhere in a statement as far as no decision is needed.  It cannot fail, so it never backtracks.  It
# stops before what may be an E'' string; these take the slow path.
_PLAIN = rb"[^'\"$\\;/\-]*"
_STEP_TEXT = _PLAIN + rb"(?:(?:(?<![eE])'[^']*'|\"[^\"]*\"|-(?=[^-])|/(?=[^*]))" + _PLAIN + rb")*"
_STEP = re.compile(_STEP_TEXT)
_STEP_NOT_CONFORMING = re.compile(_PLAIN)
_WHOLE = re.compile(_LINES + rb"(" + _STEP_TEXT + rb");?")
_BETWEEN = re.compile(_LINES)
# For statements that may contain semicolons: every byte that matters, and the words around a body.
_STOP_IN_RULE = re.compile(rb"['\"$\\;/\-()]")
_STOP_IN_ROUTINE = re.compile(
    rb"['\"$\\;/\-()]|" + _NO_NAME_BEFORE + rb"(?:begin|atomic|case|end)" + _NO_NAME_AFTER, re.IGNORECASE
)
_LONGEST_WORD = len(b"atomic")
_ATOMIC = re.compile(rb"atomic", re.IGNORECASE)
_WORD = re.compile(rb"[A-Za-z]{1,9}" + _NO_NAME_AFTER)
# Matches only without comments in between; _created() handles the rest.
_CREATE = rb"create\s+(?:or\s+replace\s+)?(rule|function|procedure)" + _NO_NAME_AFTER
_CREATED = re.compile(_CREATE, re.IGNORECASE)
# Statements that change how the text after them is read, if they contain no comment.
_SPECIAL = re.compile(rb"copy|set\s+(?:\w+\s+)?standard_conforming_strings|" + _CREATE, re.IGNORECASE)
_DOLLAR_TAG = rb"\$(?:[A-Za-z_\x80-\xff][A-Za-z0-9_\x80-\xff]{0,255})?"
_DOLLAR_QUOTE = re.compile(_DOLLAR_TAG + rb"\$")
_DOLLAR_CUT = re.compile(_DOLLAR_TAG + rb"\Z")
_ESCAPE_STOP = re.compile(rb"\\.|''|'", re.DOTALL)
_COMMENT_STOP = re.compile(rb"/\*|\*/")
_LINE_END = re.compile(rb"[\n\r]")

_PLAIN_COLUMNS = re.compile(rb"[^\"()]*")
_WITH_OIDS = re.compile(rb"with\s+oids\s+from\s+stdin" + _NO_NAME_AFTER, re.IGNORECASE)
_FROM_STDIN = re.compile(rb"from\s+stdin" + _NO_NAME_AFTER, re.IGNORECASE)
_SPACE_IN_LINE = re.compile(rb"[ \t]*")
_CONFORMING = re.compile(
    rb"set\s+(?:session\s+|local\s+)?standard_conforming_strings(?:\s*=\s*|\s+to\s+)'?(\w+)'?\s*\Z", re.IGNORECASE
)
_OFF = (b"off", b"false", b"no", b"0", b"f", b"n", b"of")
_META = re.compile(rb"\\([A-Za-z_]{0,32})")
_RESTRICT = re.compile(rb"\\(?:un)?restrict[ \t]+[A-Za-z0-9]+[ \t]*[\n\r]")
_HEADER = b"-- PostgreSQL database dump"
_COMMENT_LINE = re.compile(rb"--[^\n\r]*\n?")
_HEADER_LINE = re.compile(_HEADER + rb"( complete)?[ \t]*\n")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"

# What the scanner is reading.
_SQL, _STRING, _ESCAPE, _AFTER_ESCAPE, _NAME, _TAGGED, _LINE, _BLOCK, _META_COMMAND, _COPY_STATEMENT, _ROWS = range(11)
_QUOTE, _DOUBLE, _DOLLAR, _BACKSLASH, _SEMICOLON, _SLASH, _DASH, _OPEN, _CLOSE, _STAR = b"'\"$\\;/-()*"
_WATCHED = frozenset(b"cCsS")  # the first bytes of _SPECIAL


class Scanner:
    r"""Splits the text of a dump into events.  The text comes in chunks of any size, which may end anywhere.

    Pass every chunk to :meth:`feed`, exhaust what it returns, and call :meth:`finish` at the end.  The chunks have no
    influence on the events, except on where the rows are split into :class:`CopyData`.

    psql's meta-commands are not SQL: the scanner refuses them with :class:`DumpSyntax`.  It skips only ``\restrict``
    and ``\unrestrict``, with which pg_dump keeps psql from running others (CVE-2025-8714).
    """

    def __init__(self) -> None:
        self._rest = bytearray()  # what is not part of an event yet
        self._at = 0  # how much of _rest has been scanned
        self._state = _SQL
        self._begun = False  # _rest begins with the first byte of a statement
        self._stops: re.Pattern[bytes] | None = None  # for a statement that may contain semicolons
        self._parentheses = 0
        self._bodies = 0
        self._begin = -1  # where BEGIN and the white space and comments after it end in the statement; -1: no BEGIN
        self._depth = 0  # of nested comments
        self._after_line = _SQL  # the state after a line comment
        self._line_ended = False  # since the end of an E'' string, which continues only on a later line
        self._tag = b""
        self._conforming = True
        self._opening = True  # no byte has been passed yet
        self._line_end = b""  # of the COPY block: LF, or CR LF
        self._before_rows = 0  # bytes of the COPY statement's own line end, which come before the rows
        self._open = False  # pg_dump's opening comment was seen, and not its closing one since
        self._from_pg_dump = False
        self._empty = True
        self._complete = False

    def feed(self, chunk: bytes) -> t.Iterator[Event]:
        """Yield the events that *chunk* completes.

        :raises DumpSyntax: for text that no dump contains.
        """
        text: _Text = chunk
        if self._rest:
            self._rest += chunk
            text = self._rest
        size = len(text)
        start, at = 0, self._at
        if self._opening:
            if size < len(_BYTE_ORDER_MARK) and _BYTE_ORDER_MARK.startswith(text):
                at = size = 0
            else:
                self._opening = False
                start = at = len(_BYTE_ORDER_MARK) if text.startswith(_BYTE_ORDER_MARK) else 0
        while at < size or self._state == _ROWS:
            if self._state == _ROWS:
                marker = self._line_end + b"\\." + self._line_end
                # Most rows contain no backslash, and searching for a single byte is several times as fast.
                backslash = text.find(b"\\", start)
                end = -1 if backslash < 0 else text.find(marker, max(start, backslash - len(self._line_end)))
                stop = size - _cut_marker(text, start, marker) if end < 0 else end + len(self._line_end)
                first = start + self._before_rows
                if stop > first:
                    whole = text is chunk and first == 0 and stop == size
                    yield CopyData(chunk if whole else _cut(text, first, stop))
                    self._before_rows = 0
                    start = stop
                if end < 0:
                    at = start
                    break
                start = at = end + len(marker)
                self._state = _SQL
                yield CopyEnd()
            elif self._state == _COPY_STATEMENT:
                start = at = _end_of(_SPACE_IN_LINE, text, at)
                line_end = bytes(text[at : at + 2])
                if line_end in (b"", b"\r"):
                    break
                if line_end[:1] == b"\n":
                    line_end = b"\n"
                elif line_end != b"\r\n":
                    raise DumpSyntax("the rows of a COPY statement do not begin on the next line", hint=_HINT)
                self._line_end = line_end
                self._before_rows = len(line_end)
                self._state = _ROWS
            elif self._state == _META_COMMAND:
                if _LINE_END.search(text, at) is None:
                    at = size
                    _require_short_line(size - start)
                    break
                restrict = _RESTRICT.match(text, start)
                if restrict is None:
                    raise _meta_command(text, start)
                start = at = restrict.end()
                self._state = _SQL
            elif self._begun or self._state in (_LINE, _BLOCK):
                in_line = self._state == _LINE
                if not self._scan(text, start, at):
                    at = self._at
                    if self._begun:
                        _require_short_statement(size - start)
                    elif in_line:
                        _require_short_line(size - start)
                    else:
                        start = at
                    break
                at = self._at
                if self._begun:
                    self._begun = False
                    self._stops = None
                    self._begin = -1
                    if at - 1 > start:
                        yield self._event(_cut(text, start, at - 1))
                elif in_line:
                    self._comments(text, start, at)
                start = at
            else:
                # The fast path: complete statements with nothing in them that needs a decision.
                for match in _WHOLE.finditer(text, at) if self._conforming else ():
                    begin, stop = match.span(1)
                    if begin - at > len(_HEADER):
                        self._comments(text, at, begin)
                    start = at = begin
                    if match.end() == stop or (text[begin] in _WATCHED and _SPECIAL.match(text, begin)):
                        break
                    if begin < stop:
                        self._empty = self._complete = False
                        yield Statement(match[1])
                    start = at = stop + 1
                # The slow path: one statement, or a comment or meta-command before it.
                end = _end_of(_BETWEEN, text, at)
                self._comments(text, at, end)
                start = at = end
                two = text[at : at + 2]
                if two in (b"", b"-", b"/"):
                    break
                if two == b"--":
                    self._state, self._after_line = _LINE, _SQL
                    at += 2
                elif two == b"/*":
                    self._state, self._depth = _BLOCK, 1
                    at += 2
                elif text[at] == _BACKSLASH:
                    self._state = _META_COMMAND
                else:
                    self._begun = True
        if text is chunk:
            self._rest += chunk[start:]
        else:
            del self._rest[:start]
        self._at = at - start

    def finish(self) -> None:
        """Signal the end of the text.

        :raises DumpIncomplete: if the text ends inside a statement or the rows of a table, if it is empty, or if it
            has pg_dump's opening comment but not the closing one.
        """
        if self._state == _ROWS:
            raise DumpIncomplete("the dump ends inside the rows of a table", hint=_HINT_INCOMPLETE)
        for _event in self.feed(b"\n"):  # ends a comment or \unrestrict on the last line, and nothing else
            pass
        if self._rest or self._begun or self._state != _SQL:
            raise DumpIncomplete("the dump ends inside a statement or a comment", hint=_HINT_INCOMPLETE)
        if self._empty and not self._from_pg_dump:
            raise DumpIncomplete("the dump is empty", hint=_HINT_INCOMPLETE)
        if self._open:
            raise DumpIncomplete("pg_dump's closing comment is missing", hint=_HINT_INCOMPLETE)

    @property
    def complete(self) -> bool:
        """Whether pg_dump's closing comment was the last thing in the text so far."""
        return self._complete

    def _comments(self, text: _Text, start: int, end: int) -> None:
        """Look for pg_dump's opening and closing comment among the line comments between *start* and *end*."""
        if text.find(_HEADER, start, end) >= 0:
            for comment in _COMMENT_LINE.finditer(text, start, end):
                line = _HEADER_LINE.fullmatch(comment[0])
                if line is not None:
                    self._from_pg_dump = True
                    self._complete = line[1] is not None
                    self._open = not self._complete

    def _scan(self, text: _Text, start: int, at: int) -> bool:
        """Continue at *at* in the statement, or the comment before one, that begins at *start*.

        :returns: whether the end was reached; ``_at`` is then after it, and otherwise where to continue with more text.
        """
        size = len(text)
        while True:
            state = self._state
            if state == _SQL:
                if self._stops is None:
                    step = _STEP if self._conforming else _STEP_NOT_CONFORMING
                    at = _end_of(step, text, at)
                    if at == size:
                        break
                else:
                    stop = self._stops.search(text, at)
                    if stop is None:
                        at = max(at, size - _LONGEST_WORD)
                        break
                    at = stop.start()
                    if stop.end() - at > 1:
                        if stop.end() == size:
                            break  # the word may continue
                        self._word(stop[0].lower(), text, start, at)
                        at = stop.end()
                        continue
                byte = text[at]
                if byte == _SEMICOLON:
                    if self._stops is None and text[start] in b"cC":
                        kind = _created(text, start, at)
                        if kind == b"rule" or (kind in _ROUTINES and _ATOMIC.search(text, start, at)):
                            self._stops = _STOP_IN_RULE if kind == b"rule" else _STOP_IN_ROUTINE
                            self._parentheses = self._bodies = 0
                            at = start
                            continue
                    at += 1
                    if self._stops is None or not (self._parentheses or self._bodies):
                        self._at = at
                        return True
                elif byte == _QUOTE:
                    self._state = _ESCAPE if self._escapes(text, start, at) else _STRING
                    at += 1
                elif byte == _DOUBLE:
                    self._state = _NAME
                    at += 1
                elif byte == _DOLLAR:
                    if at > start and text[at - 1] in _IN_NAME:
                        at += 1
                        continue
                    quote = _DOLLAR_QUOTE.match(text, at)
                    if quote is not None:
                        self._state, self._tag = _TAGGED, bytes(quote[0])
                        at = quote.end()
                    elif _DOLLAR_CUT.match(text, at):
                        break
                    else:
                        at += 1
                elif byte == _BACKSLASH:
                    if t.cast("re.Match[bytes]", _META.match(text, at)).end() == size:
                        break
                    raise _meta_command(text, at)
                elif byte == _OPEN:
                    self._parentheses += 1
                    at += 1
                elif byte == _CLOSE:
                    self._parentheses = max(0, self._parentheses - 1)
                    at += 1
                elif at + 1 == size:
                    break  # it may be the first byte of a comment's start
                elif byte == _DASH and text[at + 1] == _DASH:
                    self._follows_begin(text, start, at)
                    self._state, self._after_line = _LINE, _SQL
                    at += 2
                elif byte == _SLASH and text[at + 1] == _STAR:
                    self._follows_begin(text, start, at)
                    self._state, self._depth = _BLOCK, 1
                    at += 2
                else:
                    at += 1
            elif state in (_STRING, _NAME):
                end = text.find(b"'" if state == _STRING else b'"', at)
                if end < 0:
                    at = size
                    break
                self._state = _SQL
                at = end + 1
            elif state == _ESCAPE:
                stop = _ESCAPE_STOP.search(text, at)
                if stop is None:
                    at = size - 1 if at < size and text[size - 1] == _BACKSLASH else size
                    break
                at = stop.end()
                if stop[0] == b"'":
                    if at == size:
                        at = stop.start()
                        break  # it may be the first of two
                    self._state, self._line_ended = _AFTER_ESCAPE, False
            elif state == _AFTER_ESCAPE:
                # A continuation of the string on a later line follows the same rules (scan.l: quotecontinue).
                if at == size:
                    break
                byte = text[at]
                if byte in _SPACES:
                    end = _end_of(_SPACE, text, at)
                    self._line_ended = self._line_ended or _LINE_END.search(text, at, end) is not None
                    at = end
                elif byte == _DASH and at + 1 == size:
                    break
                elif byte == _DASH and text[at + 1] == _DASH:
                    self._state, self._after_line = _LINE, _AFTER_ESCAPE
                    at += 2
                elif byte == _QUOTE and self._line_ended:
                    self._state = _ESCAPE
                    at += 1
                else:
                    self._state = _SQL
            elif state == _TAGGED:
                end = text.find(self._tag, at)
                if end < 0:
                    at = max(at, size - len(self._tag) + 1)
                    break
                self._state = _SQL
                at = end + len(self._tag)
            elif state == _LINE:
                stop = _LINE_END.search(text, at)
                if stop is None:
                    at = size
                    break
                at = stop.end()
                self._state = self._after_line
                if not self._begun:
                    self._at = at
                    return True
                if self._state == _AFTER_ESCAPE:
                    self._line_ended = True
                elif self._begin >= 0:
                    self._begin = at - start
            else:
                stop = _COMMENT_STOP.search(text, at)
                if stop is None:
                    at = size - 1 if at < size and text[size - 1] in (_SLASH, _STAR) else size
                    break
                self._depth += 1 if stop[0] == b"/*" else -1
                at = stop.end()
                if not self._depth:
                    self._state = _SQL
                    if not self._begun:
                        self._at = at
                        return True
                    if self._begin >= 0:
                        self._begin = at - start
        self._at = at
        return False

    def _word(self, word: bytes, text: _Text, start: int, at: int) -> None:
        """Count how deep a routine's bodies are nested: BEGIN ATOMIC … END, and CASE … END inside it."""
        if self._bodies:
            self._bodies += -1 if word == b"end" else word == b"case"
        elif word == b"begin":
            self._begin = at + len(word) - start
        elif word == b"atomic" and self._follows_begin(text, start, at):
            self._bodies = 1
            self._begin = -1

    def _follows_begin(self, text: _Text, start: int, at: int) -> bool:
        """Return whether only white space and comments are between BEGIN and *at*; if not, forget that BEGIN."""
        if self._begin >= 0:
            between = text[start + self._begin : at]
            if between and not between.isspace():
                self._begin = -1
        return self._begin >= 0

    def _escapes(self, text: _Text, start: int, at: int) -> bool:
        """Return whether a backslash is an escape in the string whose opening quote is at *at*."""
        if not self._conforming:
            return True
        if at == start or text[at - 1] not in b"eE":
            return False
        return at - 1 == start or text[at - 2] not in _IN_NAME

    def _event(self, statement: bytes) -> Statement:
        self._empty = self._complete = False
        head = statement[:4].lower()
        if head == b"copy":
            table = _copied_table(statement)
            if table is not None:
                self._state = _COPY_STATEMENT
                return CopyStart(statement, table.decode("utf-8", "backslashreplace"))
        elif head[:3] == b"set":
            conforming = _CONFORMING.match(statement)
            if conforming is not None:
                self._conforming = conforming[1].lower() not in _OFF
        return Statement(statement)


def _end_of(pattern: re.Pattern[bytes], text: _Text, at: int, end: int = sys.maxsize) -> int:
    """Return where the match of *pattern* ends, which cannot fail."""
    return pattern.match(text, at, end).end()  # type: ignore[union-attr]


def _cut(text: _Text, start: int, end: int) -> bytes:
    if isinstance(text, bytes):
        return text[start:end]
    with memoryview(text) as view:  # a slice of a bytearray would be copied twice
        return bytes(view[start:end])


def _after_gap(text: _Text, at: int, end: int) -> int:
    """Return where the white space and the comments at *at* end."""
    while True:
        at = _end_of(_SPACE, text, at, end)
        if text.startswith(b"--", at, end):
            line = _LINE_END.search(text, at, end)
            at = end if line is None else line.end()
        elif text.startswith(b"/*", at, end):
            depth = 0
            for edge in _COMMENT_STOP.finditer(text, at, end):
                depth += 1 if edge[0] == b"/*" else -1
                at = edge.end()
                if not depth:
                    break
            else:
                return end
        else:
            return at


def _words(text: _Text, at: int, end: int) -> t.Iterator[bytes]:
    """Yield the keywords that a statement begins with, in lower case."""
    while True:
        word = _WORD.match(text, at, end)
        if word is None:
            return
        yield word[0].lower()
        at = _after_gap(text, word.end(), end)


_ROUTINES = (b"function", b"procedure")


def _created(text: _Text, start: int, end: int) -> bytes:
    """Return the word after CREATE or CREATE OR REPLACE; empty for any other statement."""
    created = _CREATED.match(text, start, end)
    if created is not None:
        return created[1].lower()
    words = _words(text, start, end)
    if next(words, b"") != b"create":
        return b""
    kind = next(words, b"")
    return next(words, b"") if kind == b"or" and next(words, b"") == b"replace" else kind


def _copied_table(statement: bytes) -> bytes | None:
    """Return the table in ``COPY table [(columns)] FROM stdin`` as it is written; ``None`` for any other COPY."""
    begin = at = _after_gap(statement, len(b"copy"), len(statement))
    if begin == len(b"copy"):
        return None
    while True:
        end = _after_name(statement, at)
        if end < 0:
            return None
        at = _end_of(_SPACE, statement, end)
        if not statement.startswith(b".", at):
            break
        at = _end_of(_SPACE, statement, at + 1)
    if statement.startswith(b"(", at):
        at = _end_of(_PLAIN_COLUMNS, statement, at + 1)
        while statement.startswith(b'"', at):
            at = statement.find(b'"', at + 1) + 1
            at = _end_of(_PLAIN_COLUMNS, statement, at) if at else len(statement)
        if not statement.startswith(b")", at):
            return None
        at = _end_of(_SPACE, statement, at + 1)
    if _WITH_OIDS.match(statement, at):
        table = statement[begin:end].decode("utf-8", "backslashreplace")
        raise DumpSyntax(
            f"the rows of table {printable(table)} begin with OIDs, which PostgreSQL 12 and newer cannot load",
            hint="dump the database again, without --oids",
        )
    return statement[begin:end] if _FROM_STDIN.match(statement, at) else None


def _after_name(text: bytes, at: int) -> int:
    """Return where the name at *at* ends; -1 if there is none."""
    if not text.startswith(b'"', at):
        name = _IDENTIFIER.match(text, at)
        return name.end() if name else -1
    while True:
        at = text.find(b'"', at + 1) + 1
        if not at:
            return -1
        if not text.startswith(b'"', at):
            return at


def _require_short_statement(size: int) -> None:
    if size > STATEMENT_LIMIT:
        raise DumpSyntax("a statement is longer than the server accepts (1 GiB)", hint=_HINT)


def _require_short_line(size: int) -> None:
    if size > _LINE_LIMIT:
        raise DumpSyntax("a line between statements is longer than 1 MiB", hint=_HINT)


def _cut_marker(text: _Text, start: int, marker: bytes) -> int:
    """Return how many of the last bytes of *text*, from *start* on, may be the beginning of *marker*."""
    for length in range(min(len(marker) - 1, len(text) - start), 0, -1):
        if text.endswith(marker[:length]):
            return length
    return 0


def _meta_command(text: _Text, at: int) -> DumpSyntax:
    name = t.cast("re.Match[bytes]", _META.match(text, at))[0].decode("ascii")
    hint = _HINT
    if name in ("\\connect", "\\c"):
        hint = "dump a single database, with pg_dump without --create, and not with pg_dumpall"
    return DumpSyntax(f"the dump contains the psql meta-command {name}, which is never run", hint=hint)


_HINT = "only the text that pg_dump or pg_restore writes is accepted; check where this dump comes from"
_HINT_INCOMPLETE = "the dump was truncated when it was created or copied; use another one"
