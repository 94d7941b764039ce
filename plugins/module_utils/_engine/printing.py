# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""How text that others wrote is shown: keys of a store, fields of manifests, names in a dump, servers' messages.

A terminal obeys escape sequences, a log is read line by line, and some characters reorder or hide others. So none of
them gets through: each is shown as its escape, ``\\x1b`` or ``\\u202e``, so that it is seen rather than lost.

There are two functions because one can't do both jobs: what may be applied twice (:func:`printable`, also to a message
that has been through it) can't show every two texts differently, and what does that (:func:`printable_name`) changes
its own output.
"""

from __future__ import annotations

import json
import re
import shlex
import typing as t

#: Characters shown of a text, such as a server's message, and of a name: S3's longest key has 1024 bytes.
MAX_TEXT = 8 * 1024
MAX_NAME = 1024

# What str.isprintable lets pass and nobody sees: joiners, fillers, selectors of variants, the empty braille pattern.
_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)


def printable(text: str, *, limit: int = MAX_TEXT) -> str:
    """*text* in one line that no terminal and no log's reader obeys.

    :param limit: characters of *text* that are shown; the number of the rest is shown.
    """
    shown, rest = text[:limit], len(text) - limit
    # Nearly every text is all ASCII that may be shown.
    if not (shown.isascii() and shown.isprintable()):
        shown = "".join(map(_visible, shown))
    return f"{shown}... ({rest} more characters)" if rest > 0 else shown


def printable_name(name: str) -> str:
    """*name* as :func:`printable` shows it, with backslashes doubled: no two names of a store's length look alike.

    Letters of different scripts that look alike are not distinguished.
    """
    return printable(name.replace("\\", "\\\\"), limit=2 * MAX_NAME)


def shell_word(value: str) -> str | None:
    """*value* as one word of a POSIX shell's command, for a command that an operator may copy.

    :returns: ``None`` where what is shown would not be *value* itself, and where a program would read it as an option:
        no command is suggested with it then.
    """
    if value.startswith("-") or printable(value, limit=MAX_NAME) != value:
        return None
    return shlex.quote(value)


def printable_json(document: t.Any) -> str:
    """*document* as JSON in ASCII, which is UTF-8 in every locale, without any control character but its line ends.

    Half of a surrogate pair, which JSON can't hold, becomes its escape as text.
    """
    text = json.dumps(document, indent=2, ensure_ascii=False)
    text = re.sub("[\ud800-\udfff]", lambda match: f"\\\\u{ord(match[0]):04x}", text)
    # Not all of it is left to ensure_ascii, which passes DEL on.
    return re.sub("[^\n -~]", lambda match: _json_escape(match[0]), text)


def _visible(character: str) -> str:
    if character.isprintable() and not _INVISIBLE.match(character):
        return character
    code = ord(character)
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def _json_escape(character: str) -> str:
    return f"\\u{ord(character):04x}" if ord(character) <= 0xFF else json.dumps(character)[1:-1]
