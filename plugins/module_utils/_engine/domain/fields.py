# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The fields of a JSON object that somebody else has written: each reader's error names the field.

A reader takes a name and returns the value, ``None`` where the field is absent or ``null``.
"""

from __future__ import annotations

import datetime
import re
import typing as t

from ..errors import ManifestError
from .text import utf8_size

_MOMENT = "%Y-%m-%dT%H:%M:%SZ"
#: The largest signed integer of 64 bits: more is not a size, a count or a version.
_MAX_NUMBER = 2**63 - 1
SHA256 = re.compile(r"[0-9a-f]{64}\Z")


def invalid(reason: str, *, field: str = "", cause: str = "") -> ManifestError:
    """The error about a manifest that can't be used; *field* is the one to blame."""
    what = f"the manifest's {field} {reason}" if field else f"the manifest {reason}"
    return ManifestError(what, cause=cause, hint="choose another backup, or name the dump itself to be restored")


class Fields:
    """The fields of one object.

    :param prefix: in front of the names of its fields in errors: ``postgresql.``.
    """

    def __init__(self, fields: t.Mapping[str, t.Any], *, prefix: str = "") -> None:
        self._fields = fields
        self._prefix = prefix

    def invalid(self, name: str, reason: str, *, cause: str = "") -> ManifestError:
        """The error about the field *name*."""
        return invalid(reason, field=self._prefix + name, cause=cause)

    def any(self, name: str) -> t.Any:
        """Whatever the field holds."""
        return self._fields.get(name)

    def text(self, name: str) -> str | None:
        """Valid Unicode."""
        value = self._fields.get(name)
        if value is None:
            return None
        if not isinstance(value, str):
            raise self.invalid(name, "is not a text")
        if utf8_size(value) is None:
            raise self.invalid(name, "is not valid Unicode")
        return value

    def required_text(self, name: str) -> str:
        """Text that is not empty."""
        value = self.text(name)
        if not value:
            raise self.invalid(name, "is missing")
        return value

    def sha256(self, name: str) -> str | None:
        """A SHA-256 in lower-case hex."""
        value = self.text(name)
        if value is not None and not SHA256.match(value):
            raise self.invalid(name, "is not a SHA-256 in lower-case hex")
        return value

    def required_sha256(self, name: str) -> str:
        """A SHA-256 in lower-case hex."""
        value = self.sha256(name)
        if value is None:
            raise self.invalid(name, "is missing")
        return value

    def number(self, name: str) -> int | None:
        """A size, a count or a version."""
        value = self._fields.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MAX_NUMBER:
            raise self.invalid(name, f"is not a whole number from 0 to {_MAX_NUMBER}")
        return value

    def required_number(self, name: str) -> int:
        """A size, a count or a version."""
        value = self.number(name)
        if value is None:
            raise self.invalid(name, "is missing")
        return value

    def seconds(self, name: str) -> float | None:
        """A duration."""
        value = self._fields.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= _MAX_NUMBER:
            raise self.invalid(name, "is not a number of seconds")
        return float(value)

    def flag(self, name: str) -> bool | None:
        """``true`` or ``false``."""
        value = self._fields.get(name)
        if value is not None and not isinstance(value, bool):
            raise self.invalid(name, "is neither true nor false")
        return value

    def required_moment(self, name: str) -> datetime.datetime:
        """A moment in UTC."""
        value = self.required_text(name)
        try:
            moment = datetime.datetime.strptime(value, _MOMENT)
        except ValueError:
            raise self.invalid(name, "is not of the form 2026-01-31T23:59:59Z") from None
        return moment.replace(tzinfo=datetime.timezone.utc)

    def texts(self, name: str) -> tuple[str, ...] | None:
        """A list of texts."""
        values = self._list(name)
        if values is None:
            return None
        if not all(isinstance(value, str) and utf8_size(value) is not None for value in values):
            raise self.invalid(name, "contains something that is not a text")
        return tuple(values)

    def object(self, name: str) -> Fields | None:
        """An object."""
        value = self._fields.get(name)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self.invalid(name, "is not an object")
        return Fields(value, prefix=f"{self._prefix}{name}.")

    def objects(self, name: str) -> list[Fields] | None:
        """A list of objects."""
        values = self._list(name)
        if values is None:
            return None
        if not all(isinstance(value, dict) for value in values):
            raise self.invalid(name, "contains something that is not an object")
        return [Fields(value, prefix=f"{self._prefix}{name}.") for value in values]

    def _list(self, name: str) -> list[t.Any] | None:
        value = self._fields.get(name)
        if value is not None and not isinstance(value, list):
            raise self.invalid(name, "is not a list")
        return value
