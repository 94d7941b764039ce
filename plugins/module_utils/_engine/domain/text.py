# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Handling of text from outside: strict JSON, sizes in UTF-8, and names and literals in statements for people."""

from __future__ import annotations

import json
import typing as t


class NotJson(ValueError):
    """The text is not valid JSON; the message has the reason and position, but of the contents at most a field name."""


def strict_json(text: str | bytes) -> t.Any:
    """Decode the JSON *text*.

    Stricter than :func:`json.loads`: a field that occurs twice in one object and the constants ``NaN`` and ``Infinity``
    are errors, because parsers differ in how they handle them.

    :raises NotJson: if *text* is not valid JSON, is nested too deeply or is not valid UTF-8.
    """
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8")
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except NotJson:
        raise
    except json.JSONDecodeError as exc:
        raise NotJson(f"{exc.msg} at line {exc.lineno}, column {exc.colno}") from None
    except UnicodeDecodeError:
        raise NotJson("it is not valid UTF-8") from None
    except RecursionError:
        raise NotJson("it is nested too deeply") from None
    except ValueError:
        # The only other ValueError is Python's limit for the digits of an integer.
        raise NotJson("a number has too many digits") from None


def utf8_size(text: str) -> int | None:
    """Size of *text* in UTF-8, in bytes; ``None`` if UTF-8 can't encode it.

    That is text with an unpaired surrogate, which JSON can contain.
    """
    try:
        return len(text.encode("utf-8"))
    except UnicodeEncodeError:
        return None


def statement_name(name: str) -> str:
    """*name* as an identifier in a statement for psql, always in one line of visible characters."""
    if name.isprintable():
        return '"' + name.replace('"', '""') + '"'
    return 'U&"' + "".join(map(_unicode_escape, name)).replace('"', '""') + '"'


def statement_literal(text: str) -> str:
    """*text* as a literal in a statement for psql, always in one line of visible characters.

    With ``standard_conforming_strings``, which is on unless somebody turns it off.
    """
    if text.isprintable():
        return "'" + text.replace("'", "''") + "'"
    return "U&'" + "".join(map(_unicode_escape, text)).replace("'", "''") + "'"


def _unicode_escape(character: str) -> str:
    if character == "\\":
        return "\\\\"
    if character.isprintable():
        return character
    code = ord(character)
    return f"\\{code:04X}" if code <= 0xFFFF else f"\\+{code:06X}"


def _unique(pairs: list[tuple[str, t.Any]]) -> dict[str, t.Any]:
    result: dict[str, t.Any] = {}
    for key, value in pairs:
        if key in result:
            raise NotJson(f"the field {key[:100]!r} occurs twice in one object")
        result[key] = value
    return result


def _no_constant(name: str) -> t.NoReturn:
    raise NotJson(f"{name} is not a JSON number")
