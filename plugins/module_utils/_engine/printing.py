# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Safe display of text that others wrote: object keys, manifest fields, names in a dump, servers' messages.

A terminal obeys escape sequences, a log is read line by line, and some characters reorder or hide others.  None of them
is passed on: each is shown as its escape, ``\\x1b`` or ``\\u202e``, so that it is visible rather than lost.

There are several functions because one can't do every job.  :func:`printable` can be applied again to its own output,
so it can't show every two texts differently.  :func:`printable_name` shows different texts differently, so it changes
its own output.  :func:`harmless` is for data that programs go on working with, and that others print.
"""

from __future__ import annotations

import json
import re
import shlex
import typing as t

#: Maximum number of characters shown of a text, such as a server's message, and of a name (an S3 key has up to 1024
#: bytes).
MAX_TEXT = 8 * 1024
MAX_NAME = 1024

# What a terminal or a reader of lines obeys, other than a newline, and what is not a character at all: controls, line
# separators, directional overrides and isolates, halves of surrogate pairs.
_OBEYED = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

# Invisible characters that str.isprintable accepts: joiners, fillers, variation selectors, the blank braille pattern.
_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)


def printable(text: str, *, limit: int = MAX_TEXT) -> str:
    """Return *text* as one line that is safe to show on a terminal and to write to a log.

    :param limit: maximum number of characters of *text* that are shown; the number of omitted ones is appended.
    """
    shown, rest = text[:limit], len(text) - limit
    # Nearly every text is entirely printable ASCII.
    if not (shown.isascii() and shown.isprintable()):
        shown = "".join(map(_visible, shown))
    return f"{shown}... ({rest} more characters)" if rest > 0 else shown


def printable_name(name: str) -> str:
    """Return *name* as :func:`printable` shows it, with backslashes doubled.

    No two different names of valid length are shown alike, except that letters of different scripts may look the same.
    """
    return printable(name.replace("\\", "\\\\"), limit=2 * MAX_NAME)


def shell_word(value: str) -> str | None:
    """Return *value* quoted as one word of a POSIX shell command that an operator may copy.

    :returns: ``None`` if *value* can't be shown unchanged or a program would read it as an option; then no command
        with it is suggested.
    """
    if value.startswith("-") or printable(value, limit=MAX_NAME) != value:
        return None
    return shlex.quote(value)


def printable_json(document: t.Any) -> str:
    """Return *document* as ASCII JSON, which is UTF-8 in every locale, with no control characters except newlines.

    An unpaired surrogate, which JSON can't represent, becomes its escape as text.
    """
    text = json.dumps(document, indent=2, ensure_ascii=False)
    text = re.sub("[\ud800-\udfff]", lambda match: f"\\\\u{ord(match[0]):04x}", text)
    # ensure_ascii alone is not enough: it leaves DEL as it is.
    return re.sub("[^\n -~]", lambda match: _json_escape(match[0]), text)


def harmless(data: t.Any) -> t.Any:
    """Return plain *data* with the escape of each character that a terminal obeys or that UTF-8 can't encode.

    For results that programs go on working with: unlike :func:`printable` it changes no name that somebody may have
    given honestly.  Newlines stay, because a diff has them.
    """
    if isinstance(data, str):
        return _OBEYED.sub(lambda match: _escape(match[0]), data)
    if isinstance(data, t.Mapping):
        return {harmless(key): harmless(value) for key, value in data.items()}
    return [harmless(one) for one in data] if isinstance(data, (list, tuple)) else data


def _visible(character: str) -> str:
    return character if character.isprintable() and not _INVISIBLE.match(character) else _escape(character)


def _escape(character: str) -> str:
    code = ord(character)
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def _json_escape(character: str) -> str:
    return f"\\u{ord(character):04x}" if ord(character) <= 0xFF else json.dumps(character)[1:-1]
