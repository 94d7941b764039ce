# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The contents of a dump, compared with its manifest."""

from __future__ import annotations

import dataclasses

import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.manifest import Postgresql, Table
from ansible_collections.infrazero.database.plugins.module_utils._engine.errors import ChecksumMismatch, DumpIncomplete
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.contents import Contents
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.dumptext import tally

KEY = bytes(range(32))
TEXT = (
    tally.preface(KEY)
    + b"-- PostgreSQL database dump\n\nCOPY public.one (id) FROM stdin;\n1\n2\n\\.\n\n"
    + b"COPY public.two (id) FROM stdin;\n\\.\n\n-- PostgreSQL database dump complete\n"
)


def part(text: bytes = TEXT, key: bytes = KEY) -> Postgresql:
    counted = tally.Tally(key)
    counted.feed(text)
    return Postgresql(tables=tuple(Table(one.name, one.rows, one.digest) for one in counted.finish()))


def compare(said: Postgresql | None, text: bytes, step: int = 7) -> None:
    contents = Contents(said)
    for at in range(0, len(text), step):
        contents.feed(text[at : at + step])
    contents.finish()


@pytest.mark.parametrize("step", [1, 7, 100, 10_000])
def test_what_the_manifest_describes(step: int) -> None:
    compare(part(), TEXT, step)
    assert [table.rows for table in part().tables or ()] == [2, 0]


def test_other_rows_and_other_tables() -> None:
    for text in (
        TEXT.replace(b"\n2\n", b"\n3\n"),
        TEXT.replace(b"\n2\n", b"\n2\n3\n"),
        TEXT.replace(b"public.two", b"public.other"),
        TEXT.replace(b"00", b"01", 1),
    ):
        with pytest.raises(ChecksumMismatch, match="public"):
            compare(part(), text)
    with pytest.raises(ChecksumMismatch):
        compare(dataclasses.replace(part(), tables=()), TEXT)


def test_a_text_that_ends_too_early() -> None:
    with pytest.raises(DumpIncomplete):
        compare(part(), TEXT[: TEXT.index(b"\n2\n")])
    with pytest.raises((DumpIncomplete, ChecksumMismatch)):
        compare(part(), b"")


def test_nothing_is_compared_where_nothing_is_said() -> None:
    for said in (None, Postgresql()):
        compare(said, b"PGDMP\x00 whatever is in it; COPY")


def test_a_text_without_a_key() -> None:
    text = TEXT[tally.PREFACE_SIZE :]
    compare(part(text, b""), text)
