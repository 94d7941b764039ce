# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Types of settings: how each is written in a file, in the environment and on a command line, and how it is read.

A value comes as text (``db.env``, the environment, the command line) or as plain data (an option of a module, a
variable of an inventory).  Both ways lead to the same value and the same errors; an error names the setting as its user
wrote it.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import re
import typing as t

from ..errors import ConfigurationError
from . import layout, names, trust
from .secret import Secret
from .text import NotJson, strict_json, utf8_size

_TRUE = frozenset({"true", "1", "yes", "on"})
_FALSE = frozenset({"false", "0", "no", "off"})
_MAX_HOURS = 10 * 366 * 24
_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,9})?) ?([KMGT]?)(?:i?B)?", re.ASCII | re.IGNORECASE)
_SHA256 = re.compile(r"[0-9a-fA-F]{64}\Z")
_NUMBER = re.compile(r"\d{1,9}(?:\.\d{1,9})?\Z", re.ASCII)


@dataclasses.dataclass(frozen=True)
class Type:
    """A type of settings.

    :param name: what the reference calls it.
    :param ansible: the type of a module's option, as Ansible names it.
    :param read: text or plain data to the value; the second argument is the name that errors use.
    :param write: the value as text that *read* takes; ``None``: it is never written.
    :param elements: type of the elements, for a list.
    :param metavar: placeholder on the command line.
    """

    name: str
    ansible: str
    read: t.Callable[[t.Any, str], t.Any]
    write: t.Callable[[t.Any], str] | None = str
    elements: str | None = None
    metavar: str = "VALUE"

    def written(self, value: t.Any, name: str) -> str:
        """*value* as text that *read* takes.

        :param name: how errors name the setting.
        :raises ConfigurationError: for a value that no text stands for.
        """
        if self.write is None:
            raise TypeError(f"{name} is never written")
        text = self.write(value)
        try:
            same = self.read(text, name) == value
        except ConfigurationError:
            same = False
        if not same:
            raise ConfigurationError(
                f"{name} cannot be written as text", hint="use names without commas, colons and blanks"
            )
        return text


def _text(value: t.Any, name: str) -> str:
    if not isinstance(value, str):
        raise ConfigurationError(f"{name} is not a text", hint="give a text")
    return value


def _secret(value: t.Any, name: str) -> Secret:
    return Secret(_text(value, name))


def _boolean(value: t.Any, name: str) -> bool:
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower()
    if word not in _TRUE | _FALSE:
        raise ConfigurationError(f"{name} is neither true nor false", hint="set it to true or false")
    return word in _TRUE


def whole_number(least: int, most: int) -> t.Callable[[t.Any, str], int]:
    """Reader of whole numbers from *least* to *most*."""

    def read(value: t.Any, name: str) -> int:
        text = str(value).strip()
        # Checked as text: True is an int, and int() takes more digits than anybody means.
        if isinstance(value, bool) or not text.isascii() or not text.isdigit() or len(text) > len(str(most)):
            raise ConfigurationError(f"{name} is not a whole number", hint=f"give a number from {least} to {most}")
        if not least <= int(text) <= most:
            raise ConfigurationError(f"{name} must be from {least} to {most}", hint=f"it is {int(text)}")
        return int(text)

    return read


def _seconds(value: t.Any, name: str) -> datetime.timedelta:
    text = str(value).strip()
    most = _MAX_HOURS * 3600
    if not text.isascii() or not text.isdigit() or len(text) > len(str(most)) or not 0 < int(text) <= most:
        raise ConfigurationError(
            f"{name} is not a number of seconds", hint=f"give a whole number from 1 to {most}, in seconds"
        )
    return datetime.timedelta(seconds=int(text))


def _hours(value: t.Any, name: str) -> datetime.timedelta:
    text = str(value).strip()
    # Not float() alone: it reads "nan" and "1e3", too.
    if isinstance(value, bool) or not _NUMBER.match(text) or float(text) > _MAX_HOURS:
        raise ConfigurationError(f"{name} is not a number of hours", hint=f"give a number from 0 to {_MAX_HOURS}")
    return datetime.timedelta(hours=float(text))


def _write_hours(value: datetime.timedelta) -> str:
    # Without an exponent; nine digits tell microseconds apart.
    return f"{value.total_seconds() / 3600:.9f}".rstrip("0").rstrip(".")


def _size(value: t.Any, name: str) -> int:
    match = _SIZE.fullmatch(str(value).strip())
    if match is None:
        raise ConfigurationError(
            f"{name} is not a size", hint="give bytes, or a number with K, M, G or T; 0 for any size"
        )
    return int(float(match[1]) * 1024 ** " KMGT".index(match[2].upper() or " "))


def _sha256(value: t.Any, name: str) -> str:
    text = _text(value, name).strip()
    if not _SHA256.match(text):
        raise ConfigurationError(f"{name} is not a SHA-256", hint="give 64 hexadecimal digits")
    return text.lower()


def _database(value: t.Any, name: str) -> str:
    text = _text(value, name)
    size = utf8_size(text)
    if size is None or not text.isprintable() or re.search(r"[\s/]", text):
        raise ConfigurationError(
            f"{name} is not the name of a database", hint="give a name without blanks, slashes and control characters"
        )
    if not 0 < size <= names.NAME_LIMIT:
        raise ConfigurationError(
            f"{name} is not the name of a database", hint=f"give a name of 1 to {names.NAME_LIMIT} bytes in UTF-8"
        )
    return text


def _names(value: t.Any, name: str) -> tuple[str, ...]:
    if isinstance(value, str):
        value = value.split(",")
    if not isinstance(value, (list, tuple)) or not all(isinstance(item, str) for item in value):
        raise ConfigurationError(f"{name} is not a list of names", hint="separate names with commas")
    return tuple(filter(None, (item.strip() for item in value)))


def _tables(value: t.Any, name: str) -> tuple[str, ...]:
    # Not separated by commas: a quoted name may contain them.
    if isinstance(value, str):
        try:
            value = strict_json(value) if value.lstrip().startswith("[") else [value]
        except NotJson as exc:
            raise ConfigurationError(
                f"{name} is not valid JSON: {exc}", hint='use the form ["public.orders"]'
            ) from None
    if not isinstance(value, (list, tuple)) or not all(isinstance(item, str) for item in value):
        raise ConfigurationError(f"{name} is not a list of tables", hint="give names such as public.orders")
    return tuple(filter(None, (item.strip() for item in value)))


def _write_tables(value: t.Sequence[str]) -> str:
    return json.dumps(list(value), ensure_ascii=False) if value else ""


def _extensions(value: t.Any, name: str) -> frozenset[str]:
    # Spaces separate, too: hosts have settings of this form.
    return frozenset(_names(value.replace(" ", ",") if isinstance(value, str) else value, name))


def _role_map(value: t.Any, name: str) -> dict[str, str]:
    pairs: list[tuple[t.Any, t.Any]] = []
    if isinstance(value, t.Mapping):
        pairs += value.items()
    else:
        for pair in filter(None, (part.strip() for part in _text(value, name).split(","))):
            old, colon, new = (part.strip() for part in pair.partition(":"))
            if not colon:
                raise ConfigurationError(f"{name}: {pair!r} is not a pair old:new", hint="write old:new,old2:new2")
            pairs.append((old, new))
    roles: dict[str, str] = {}
    for old, new in pairs:
        if not isinstance(old, str) or not isinstance(new, str) or not old or not new:
            raise ConfigurationError(f"{name}: {old!r} is mapped to {new!r}", hint="map each role to a role by name")
        if old == new:
            raise ConfigurationError(f"{name}: {old!r} is mapped to itself", hint="leave the pair out")
        if roles.get(old, new) != new:
            raise ConfigurationError(f"{name}: {old!r} is mapped twice", hint="map each role once")
        roles[old] = new
    return roles


def _signer_names(value: t.Any, name: str) -> tuple[str, ...]:
    return trust.signer_names(list(_names(value, name)), name=name)


def _signers(value: t.Any, name: str) -> dict[str, tuple[str, ...]]:
    return trust.signers(value, name=name)


def _write_signers(value: t.Mapping[str, t.Sequence[str]]) -> str:
    return json.dumps({key: list(names) for key, names in value.items()}, ensure_ascii=False)


def _recipients(value: t.Any, name: str) -> tuple[str, ...]:
    if isinstance(value, str):
        try:
            value = strict_json(value) if value.lstrip().startswith("[") else [value]
        except NotJson as exc:
            raise ConfigurationError(f"{name} is not valid JSON: {exc}", hint='use the form ["age1..."]') from None
    if not isinstance(value, (list, tuple)) or not all(isinstance(item, str) and item.strip() for item in value):
        raise ConfigurationError(f"{name} is not a list of age recipients", hint="give keys that begin with age1")
    recipients = tuple(item.strip() for item in value)
    if any(item.upper().startswith("AGE-SECRET-KEY-") for item in recipients):
        raise ConfigurationError(
            f"{name} contains a private key",
            hint="give the public key of a new pair; anyone who could read this setting may have this private key",
        )
    return recipients


def _prefix(value: t.Any, name: str) -> str:
    text = _text(value, name).strip()
    if not text.endswith("/"):
        raise ConfigurationError(f"{name} does not end with '/'", hint="give a prefix such as cluster/db1/")
    try:
        location = layout.locate(text)
    except ConfigurationError as exc:
        raise ConfigurationError(f"{name} is not a prefix of keys", cause=exc.cause) from None
    if location.bucket is not None:
        raise ConfigurationError(f"{name} names a bucket", hint="give a prefix such as cluster/db1/")
    return text


def choice(*choices: str) -> Type:
    """One of *choices*."""

    def read(value: t.Any, name: str) -> str:
        word = _text(value, name).strip().lower()
        if word not in choices:
            raise ConfigurationError(f"{name} is not one of {', '.join(choices)}", hint="correct it, or leave it out")
        return word

    return Type("choice", "str", read)


def integer(least: int, most: int, *, metavar: str = "N") -> Type:
    """A whole number from *least* to *most*."""
    return Type("integer", "int", whole_number(least, most), metavar=metavar)


TEXT = Type("text", "str", _text, metavar="TEXT")
PATH = Type("path", "path", _text, metavar="PATH")
SECRET = Type("secret", "str", _secret, write=lambda value: str(value.reveal()))
BOOLEAN = Type("boolean", "bool", _boolean, write=lambda value: "true" if value else "false")
SECONDS = Type("seconds", "int", _seconds, write=lambda value: str(int(value.total_seconds())), metavar="SECONDS")
HOURS = Type("hours", "float", _hours, write=_write_hours, metavar="HOURS")
SIZE = Type("size", "str", _size, metavar="SIZE")
SHA256 = Type("SHA-256", "str", _sha256, metavar="SHA256")
#: Name of a database.
DATABASE = Type("name", "str", _database, metavar="NAME")
NAMES = Type("list of names", "list", _names, write=",".join, elements="str", metavar="NAME,...")
#: Names of tables as SQL has them, with schema; JSON where it is a text, or one name.
TABLES = Type("list of names", "list", _tables, write=_write_tables, elements="str", metavar="SCHEMA.TABLE")
EXTENSIONS = Type(
    "list of names",
    "list",
    _extensions,
    write=lambda value: ",".join(sorted(value)),
    elements="str",
    metavar="NAME,...",
)
ROLE_MAP = Type(
    "mapping",
    "dict",
    _role_map,
    write=lambda value: ",".join(f"{old}:{new}" for old, new in value.items()),
    metavar="OLD:NEW,...",
)
#: Names of hosts.
SIGNER_NAMES = Type("list of names", "list", _signer_names, write=",".join, elements="str", metavar="NAME")
#: Names of hosts by the name of a database or a prefix of keys; JSON where it is a text.
SIGNERS = Type("mapping", "dict", _signers, write=_write_signers)
#: Age recipients; JSON where it is a text.
RECIPIENTS = Type("list of keys", "list", _recipients, write=lambda value: json.dumps(list(value)), elements="str")
#: A prefix of object keys.
PREFIX = Type("prefix", "str", _prefix, metavar="PREFIX")
#: Lines of an allowed_signers file, as a text or a list.
KEY_LINES = Type("lines", "raw", lambda value, name: trust.key_lines(value, name=name), write=None)
