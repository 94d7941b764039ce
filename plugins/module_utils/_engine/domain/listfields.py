# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The fields of the databases list, once: their names, what they mean, and which values they may have.

:mod:`.databases` reads a list and names every error in it; :func:`schema` is the same as JSON Schema, for editors and
CI.  The schema refuses nothing that the reader accepts, except fields that the reader ignores with a warning.  What it
cannot say is left to the reader: that names are unique, that no prefix is within another, lengths in bytes, checksums
of keys.
"""

from __future__ import annotations

import dataclasses
import typing as t

#: ``datname`` and ``rolname`` are of PostgreSQL's type ``name``: 63 bytes and a terminating NUL.
MAX_NAME_BYTES = 63
#: Databases that every cluster has; the list must not contain them.
SYSTEM_DATABASES = frozenset({"postgres", "template0", "template1"})
#: Words that PostgreSQL rejects as the name of a role.
RESERVED_ROLES = frozenset({"public", "none"})

# Regular expressions that mean the same in Python and in ECMA-262, whose \s and $ differ.

#: Characters that Python calls white space.
_SPACE = r"\u0009-\u000d\u001c-\u0020\u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_CONTROL = r"\u0000-\u001f\u007f"
_END = r"(?![\s\S])"
_NAME = rf"(?!\.\.?{_END})[^/\u0000{_SPACE}]+{_END}"
_PARTS = rf"(?:(?!\.\.?(?:/|{_END}))[^/{_SPACE}{_CONTROL}]*(?:/|{_END}))*{_END}"
_BUCKET = r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}"
_SECRET_KEY = "".join(f"[{letter.upper()}{letter}]" if letter.isalpha() else letter for letter in "age-secret-key-")


def _words(words: t.Iterable[str]) -> str:
    return rf"(?!(?:{'|'.join(sorted(words))}){_END})"


def _text(pattern: str, **more: t.Any) -> dict[str, t.Any]:
    return {"type": "string", "pattern": pattern, **more}


_KINDS = "[Aa][Gg][Ee]1|[Ss][Ss][Hh]-|[Ee][Cc][Dd][Ss][Aa]-|[Ss][Kk]-"
_RECIPIENT = _text(rf"^(?![\s\S]*(?:{_SECRET_KEY}|PRIVATE KEY))[{_SPACE}]*(?:{_KINDS})")
_FILE = {"type": ["string", "null"], "minLength": 1}


@dataclasses.dataclass(frozen=True)
class Field:
    """One field of an entry.

    :param name: its name.
    :param help: what it means, as sentences.
    :param schema: JSON Schema of its value.
    :param file_of: the field whose value is in the file that this one names; ``""``: it does not name a file.
    """

    name: str
    help: str
    schema: t.Mapping[str, t.Any]
    file_of: str = ""


TABLE: tuple[Field, ...] = (
    Field(
        "name",
        "Name of the database. Unique in the list. At most 63 bytes, without white space and '/', and not a template or"
        " maintenance database.",
        _text(rf"^{_words(SYSTEM_DATABASES)}{_NAME}", maxLength=MAX_NAME_BYTES),
    ),
    Field(
        "user",
        "Role that owns the database and logs in to it. Several databases may have the same user. At most 63 bytes,"
        " without white space and '/', and not a name that PostgreSQL reserves.",
        _text(rf"^(?!pg_){_words(RESERVED_ROLES)}{_NAME}", maxLength=MAX_NAME_BYTES),
    ),
    Field(
        "password",
        "Password of the user. If several entries have the same user, the password of the last one applies.",
        _text(rf"^[^\u0000]+{_END}", type=["string", "null"]),
    ),
    Field(
        "backup_age_public_key",
        "age recipient that backups are encrypted to, or a list of recipients, each of which can decrypt them: age1...,"
        " ssh-ed25519 ... or ssh-rsa ...",
        {"anyOf": [_RECIPIENT, {"type": "array", "items": _RECIPIENT, "minItems": 1}]},
    ),
    Field(
        "backup_age_private_key",
        "age identity that decrypts the backups. Needed for a restore only, and not allowed in a list that stays on a"
        " host.",
        _text(rf"{_SECRET_KEY}1|PRIVATE KEY-----", type=["string", "null"]),
    ),
    Field(
        "restore_latest",
        "Whether a fresh cluster restores the latest backup of the database. Default: true.",
        {"type": ["boolean", "null"]},
    ),
    Field(
        "restore_dump_path",
        "What a fresh cluster restores if restore_latest is false: the key of a dump or a manifest, a prefix that ends"
        " with '/', or s3://bucket/key. If empty, nothing is restored.",
        _text(rf"^(?!/)(?![Hh][Tt][Tt][Pp][Ss]?://)[^\u0000{_SPACE}]*{_END}", type=["string", "null"]),
    ),
    Field(
        "backup_prefix",
        "Prefix of the object keys of the backups, in place of db/<name>/. Ends with '/'. Two databases must not have"
        " the same prefix, nor one inside the other.",
        _text(rf"^(?=[\s\S]*/{_END})(?!/)(?![\s\S]*//){_PARTS}", type=["string", "null"]),
    ),
    Field(
        "backup_signers",
        "Names of other hosts, as in allowed_signers, whose backups of the database are accepted.",
        {
            "type": ["array", "null"],
            "items": _text(rf"^[A-Za-z0-9_][A-Za-z0-9_.:@+-]{{0,254}}{_END}"),
        },
    ),
    Field("password_file", "File that holds the password, in place of password.", _FILE, file_of="password"),
    Field(
        "backup_age_private_key_file",
        "File that holds the age identity, in place of backup_age_private_key.",
        _FILE,
        file_of="backup_age_private_key",
    ),
)

#: The fields in the order of docs/formats/databases-list.md, without those that name files.
FIELDS: tuple[str, ...] = tuple(row.name for row in TABLE if not row.file_of)
#: Fields that name a file, each with the field whose value is in it; see :func:`.databases.with_files`.
FILE_FIELDS: t.Mapping[str, str] = {row.name: row.file_of for row in TABLE if row.file_of}

DIALECT = "https://json-schema.org/draft/2020-12/schema"
#: A location of a backup, where a fresh cluster restores it.
_LOCATION = rf"^(?:{_END}|(?:s3://{_BUCKET}/|(?!s3://)(?![\s\S]*://))(?!/)(?!{_END}){_PARTS})"
_TEMPLATE = {"type": "string", "pattern": r"\{\{"}


def document() -> dict[str, t.Any]:
    """The JSON Schema of a list as a document of its own."""
    return {"$schema": DIALECT, "title": "The list of databases (databases_json)", **schema()}


def schema(*, templates: bool = False) -> dict[str, t.Any]:
    """JSON Schema (draft 2020-12) of the list.

    :param templates: whether values may be templates of Ansible, as in an inventory.
    """
    return {
        "type": "array",
        "minItems": 1,
        "items": {
            "type": "object",
            "properties": {
                row.name: {"description": row.help, **(_or_template(row.schema) if templates else row.schema)}
                for row in TABLE
            },
            "required": ["name", "user", "backup_age_public_key"],
            "additionalProperties": False,
            "allOf": [
                {"oneOf": [_given("password"), _given("password_file")]},
                {"not": {"allOf": [_given("backup_age_private_key"), _given("backup_age_private_key_file")]}},
                {
                    "if": {"properties": {"restore_latest": {"const": False}}, "required": ["restore_latest"]},
                    "then": {"properties": {"restore_dump_path": _location(templates=templates)}},
                },
            ],
        },
    }


def _location(*, templates: bool) -> t.Mapping[str, t.Any]:
    wanted = _text(_LOCATION, type=["string", "null"])
    return _or_template(wanted) if templates else wanted


def _or_template(value: t.Mapping[str, t.Any]) -> t.Mapping[str, t.Any]:
    return {"anyOf": [_TEMPLATE, value]}


def _given(field: str) -> dict[str, t.Any]:
    return {"required": [field], "properties": {field: {"type": "string"}}}
