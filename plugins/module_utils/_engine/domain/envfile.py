# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The host's settings files, ``/etc/infrazero/*.env``: lines of ``KEY='value'`` that a shell can also source.

Only what docs/formats/db-env.md allows is read: assignments of literal text.  Nothing is expanded and nothing is run.
"""

from __future__ import annotations

import re
import typing as t

from ..errors import ConfigurationError

_KEY = re.compile(r"[ \t]*(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_]*)=")
#: One piece of a shell word: '...', "..." without expansions, an escaped character, or plain characters.
_PIECE = re.compile(r"'([^']*)'|\"([^\"\\$`]*(?:\\.[^\"\\$`]*)*)\"|\\(.)|([^\s'\"\\#;&|<>()$`~]+)", re.DOTALL)
_BLANK = re.compile(r"(?:[ \t]*(?:#[^\n]*)?(?:\n|\Z))")


def render(values: t.Mapping[str, str]) -> str:
    """Render *values* as the lines of a settings file, in order; a single quote becomes ``'\\''``.

    :raises ConfigurationError: for a NUL, which a shell cannot store.
    """
    for key, value in values.items():
        if "\0" in value:
            raise ConfigurationError(
                f"{key} contains a NUL character", hint="a settings file cannot contain one: remove it"
            )
    quoted = {key: value.replace("'", "'\\''") for key, value in values.items()}
    return "".join(f"{key}='{value}'\n" for key, value in quoted.items())


def parse(text: str, *, name: str) -> dict[str, str]:
    """Parse a settings file.

    :param name: how errors name the file.
    :raises ConfigurationError: with the line, never with its contents.
    """
    if "\0" in text:
        raise _bad(text, text.index("\0"), name, "contains a NUL character")
    values: dict[str, str] = {}
    position = 0
    while position < len(text):
        blank = _BLANK.match(text, position)
        if blank and blank.end() > position:
            position = blank.end()
            continue
        key = _KEY.match(text, position)
        if key is None:
            raise _bad(text, position, name, "is not KEY='value'")
        position = key.end()
        pieces: list[str] = []
        while position < len(text) and text[position] not in " \t\n":
            piece = _PIECE.match(text, position)
            if piece is None:
                raise _bad(text, position, name, "contains an unclosed quote, an expansion or a special character")
            single, double, escaped, plain = piece.groups()
            if double is not None:
                double = re.sub(r"\\(?:([\\\"$`])|\n)", r"\1", double)
            elif escaped == "\n":
                escaped = ""  # in a shell, a backslash at the end of a line joins it to the next one
            pieces.append(next(part for part in (single, double, escaped, plain) if part is not None))
            position = piece.end()
        end = _BLANK.match(text, position)
        if end is None:
            raise _bad(text, position, name, "continues after its value")
        values[key[1]] = "".join(pieces)
        position = end.end()
    return values


def _bad(text: str, position: int, name: str, reason: str) -> ConfigurationError:
    line = text.count("\n", 0, position) + 1
    return ConfigurationError(
        f"{name}, line {line}: {reason}", hint="write KEY='value', and replace ' in the value with '\\''"
    )
