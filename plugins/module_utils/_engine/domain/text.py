# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Texts that come from outside: JSON read strictly, and what UTF-8 can hold."""

from __future__ import annotations

import json
import typing as t


class NotJson(ValueError):
    """The text is not JSON; its own text says why and where, and quotes nothing of the contents but a field's name."""


def strict_json(text: str | bytes) -> t.Any:
    """What JSON *text* decodes to.

    Stricter than :func:`json.loads`: a field that is in one object twice, and the constants ``NaN`` and
    ``Infinity``, are errors, because readers differ in what they make of them.

    :raises NotJson: for anything that is not JSON, also where it is nested too deeply or is not valid UTF-8.
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
        # What is left is Python's limit for the digits of a whole number.
        raise NotJson("a number has too many digits") from None


def utf8_size(text: str) -> int | None:
    """Bytes of *text* in UTF-8; ``None`` for what UTF-8 can't hold: half of a surrogate pair (JSON can name one)."""
    try:
        return len(text.encode("utf-8"))
    except UnicodeEncodeError:
        return None


def _unique(pairs: list[tuple[str, t.Any]]) -> dict[str, t.Any]:
    result: dict[str, t.Any] = {}
    for key, value in pairs:
        if key in result:
            raise NotJson(f"the field {key[:100]!r} is in one object twice")
        result[key] = value
    return result


def _no_constant(name: str) -> t.NoReturn:
    raise NotJson(f"{name} is not a JSON number")
