# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The JSON Schema of the list and its reader accept the same lists, as far as a schema can tell."""

from __future__ import annotations

import re
import sys
import typing as t

import jsonschema
import pyrage
import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain import databases, listfields
from ansible_collections.infrazero.database.plugins.module_utils._engine.streams import age
from hypothesis import given
from hypothesis import strategies as st

SCHEMA = jsonschema.Draft202012Validator(listfields.schema())
TEMPLATES = jsonschema.Draft202012Validator(listfields.schema(templates=True))

PAIR = pyrage.x25519.Identity.generate()
IDENTITY, RECIPIENT = str(PAIR), str(PAIR.to_public())
SSH = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGPKkKvQuVQzFPOOGk3tP8ZmU8uJpOHXx7tqwGeOIbPp a comment"
FILES = {"/password": "secret", "/key": IDENTITY}

ENTRY = {"name": "app", "user": "app", "password": "secret", "backup_age_public_key": RECIPIENT}

#: What a schema cannot say: by field, or by the words of the reader.
UNTOLD = re.compile(
    r"bytes long|already the name|already the prefix|is within|not valid Unicode|at most 1024 bytes"
    r"|backup_age_public_key: |backup_age_private_key: (?!is )"
)

ODD: list[t.Any] = [None, True, 0, 1.5, "", [], {}, ["a"], {"a": 1}]
NAMES = [
    *("app", "é", "x" * 63, "x" * 64, "é" * 32, ".", "..", "...", "a/b", "a b", "a\n", "a\0", "\ud800", "a\u2003"),
    *("postgres", "template0", "template1", "Postgres", "public", "none", "publicx", "pg_x", "pg", "PG_x"),
]
PATHS = [
    *("db/app/", "db/app/x.age", "/db/", "s3://bucket/key", "s3://b/key", "s3://bucket/", "S3://bucket/x", "a//b/"),
    *("http://x/y", "HTTPS://x", "ftp://x/y", "a/../b/", "./a/", "a/.", "a/..b/", "s3://bucket//x", "s3://bucket/a://"),
    *("team/shop/", "a\x01/", "a /", "a/\n", "/", "//", "s3:/x/", "s3://bucket/../x", "a\x7f", "x" * 1025, "a/b"),
]
KEYS = [RECIPIENT, f" {RECIPIENT}\n", RECIPIENT.upper(), SSH, "age1x", "ssh-x", "x", IDENTITY, IDENTITY.lower()]
SIGNERS = ["db1", "a@b", "x" * 255, "x" * 256, "", "-a", "a b", "a\n", "a,b", "é", 7]

#: Values to try, by field.
POOLS: dict[str, list[t.Any]] = {
    "name": NAMES,
    "user": NAMES,
    "password": ["secret", "a\n", "a\0", " ", "\ud800"],
    "backup_age_public_key": [*KEYS, *([key] for key in KEYS), [RECIPIENT, SSH]],
    "backup_age_private_key": [*KEYS, f"# x\n{IDENTITY}\n"],
    "restore_latest": [True, False],
    "restore_dump_path": PATHS,
    "backup_prefix": PATHS,
    "backup_signers": [[name] for name in SIGNERS],
    "password_file": ["/password"],
    "backup_age_private_key_file": ["/key"],
}
TEXTS = st.text(max_size=5) | st.text(alphabet="a./:s3-{} \n\0\x85\u2003é", max_size=8)
VALUES: dict[str, st.SearchStrategy[t.Any]] = {
    name: st.sampled_from([*pool, *ODD]) if name.endswith("_file") else st.sampled_from([*pool, *ODD]) | TEXTS
    for name, pool in POOLS.items()
}
#: Changes of a good entry: most of what is made is almost right.
CHANGES = st.fixed_dictionaries({}, optional={**VALUES, "comment": TEXTS, "pasword": TEXTS})


@st.composite
def lists(draw: st.DrawFn) -> t.Any:
    """Lists of which most entries have few errors."""
    entries = []
    for changes in draw(st.lists(CHANGES, max_size=2)):
        kept = draw(st.sets(st.sampled_from(sorted(changes)), max_size=3)) if changes else set()
        entry = {**ENTRY, **{name: changes[name] for name in kept}}
        for name in draw(st.sets(st.sampled_from(sorted(ENTRY)), max_size=1)):
            del entry[name]
        entries.append(entry)
    return draw(st.sampled_from([[*entries, 3], *ODD])) if draw(st.integers(0, 9)) == 0 else entries


def read(source: t.Any) -> tuple[list[str], list[str]]:
    """Errors and warnings of the reader."""
    try:
        found = databases.with_files(source, read=FILES.__getitem__, private=True)
        return [], list(databases.parse(found, rules=age, private=True).warnings)
    except databases.InvalidDatabases as exc:
        return [str(fault) for fault in exc.faults], []


def agree(source: t.Any) -> None:
    """Whatever one of the two refuses, the other refuses as well, as far as it can."""
    errors, warnings = read(source)
    refused = [error.message for error in SCHEMA.iter_errors(source)]
    if not errors and not any("unknown fields" in warning for warning in warnings):
        assert not refused, (source, refused)
    if not refused:
        assert not [error for error in errors if not UNTOLD.search(error)], (source, errors)
        # In an inventory, values may be templates as well.
        assert TEMPLATES.is_valid(source)


@pytest.mark.parametrize("field", POOLS)
def test_schema_and_reader_agree_on_each_value(field: str) -> None:
    for value in (*POOLS[field], *ODD):
        for latest in (None, True, False):
            agree([{**ENTRY, "restore_latest": latest, field: value}])
            agree([{**ENTRY, "password": None, "restore_latest": latest, field: value}])


@given(lists())
def test_schema_and_reader_agree(source: t.Any) -> None:
    agree(source)


@pytest.mark.parametrize("field", listfields.FIELDS)
def test_each_field_is_described_and_restricted(field: str) -> None:
    """A value of a wrong kind is refused in each of them."""
    assert not SCHEMA.is_valid([{**ENTRY, field: {"a": 1}}])
    assert not SCHEMA.is_valid([{**ENTRY, field: 7}])


def test_the_schemas_are_schemas() -> None:
    for validator in (SCHEMA, TEMPLATES):
        jsonschema.Draft202012Validator.check_schema(validator.schema)
    assert SCHEMA.is_valid([ENTRY]) and not SCHEMA.is_valid([]) and not SCHEMA.is_valid([{}])
    assert not SCHEMA.is_valid([{**ENTRY, "pasword": "x"}])


def test_templates_of_an_inventory() -> None:
    entry = {
        **ENTRY,
        "name": "shop_{{ inventory_hostname }}",
        "password": "{{ vault_password }}",
        "backup_age_public_key": "{{ keys }}",
        "restore_latest": "{{ fresh | bool }}",
        "backup_signers": "{{ groups['databases'] }}",
    }
    assert TEMPLATES.is_valid([entry])
    assert not SCHEMA.is_valid([entry])
    assert not TEMPLATES.is_valid([{**entry, "restore_latest": "yes"}])


def test_white_space_is_pythons() -> None:
    ours = re.compile(f"[{listfields._SPACE}]")
    for code in range(sys.maxunicode + 1):
        character = chr(code)
        assert bool(ours.match(character)) == bool(re.match(r"\s", character)) == character.isspace(), hex(code)


def test_patterns_mean_the_same_in_ecma_262() -> None:
    """Nothing in them that only one of the two knows, or that they read differently."""
    text = repr(listfields.schema(templates=True))
    assert not re.search(r"\\\\[AZzdwbBDWG]|\(\?[P<#imsx]|\\\\s(?!\\\\S)|\$", text)
