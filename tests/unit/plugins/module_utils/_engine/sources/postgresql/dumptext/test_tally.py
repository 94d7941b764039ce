# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hashlib
import hmac
import io
import itertools

import pytest
import xxhash
from ansible_collections.infrazero.database.plugins.module_utils._engine.errors import DumpIncomplete, DumpSyntax
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.dumptext import (
    tally as tallies,
)
from hypothesis import given, settings
from hypothesis import strategies as st

KEY = bytes(range(32))
HEADER = b"--\n-- PostgreSQL database dump\n--\n\n"
FOOTER = b"--\n-- PostgreSQL database dump complete\n--\n\n"
ROWS = b"1\ta\\\\.\n2\t\\N\n3\tCOPY t FROM stdin;\n"
DUMP = (
    tallies.preface(KEY)
    + HEADER
    + b"\\restrict abc\nCOPY public.t (a, b) FROM stdin;\n"
    + ROWS
    + b"\\.\n\n\nCOPY public.empty (a) FROM stdin;\n\\.\n\n\n"
    + FOOTER
    + b"\\unrestrict abc\n\n"
)


def digest(rows, key=KEY):
    return hmac.new(key, xxhash.xxh3_128_digest(rows), hashlib.sha256).hexdigest()


def tally(*chunks, key=KEY):
    counter = tallies.Tally(key)
    for chunk in chunks:
        counter.feed(chunk)
    return counter.finish()


@settings(deadline=None)
@given(st.lists(st.integers(0, len(DUMP)), max_size=10))
def test_rows_are_counted_and_digested(cuts):
    edges = [0, *sorted(cuts), len(DUMP)]
    assert tally(*(DUMP[begin:end] for begin, end in itertools.pairwise(edges))) == [
        tallies.TableTally("public.t", 3, digest(ROWS)),
        tallies.TableTally("public.empty", 0, digest(b"")),
    ]


def test_a_table_in_two_blocks_is_one_table():
    text = (
        HEADER
        + b"COPY t (a) FROM stdin;\n1\n\\.\nCOPY u (a) FROM stdin;\n9\n\\.\nCOPY t (a) FROM stdin;\n2\n\\.\n"
        + FOOTER
    )
    assert [(table.name, table.rows, table.digest) for table in tally(text)] == [
        ("t", 2, digest(b"1\n2\n")),
        ("u", 1, digest(b"9\n")),
    ]


def test_more_tables_than_memory_is_meant_for_are_refused(monkeypatch):
    monkeypatch.setattr(tallies, "MAX_TABLES", 2)
    blocks = [b"COPY t%d (a) FROM stdin;\n1\n\\.\n" % number for number in range(3)]
    assert [one.name for one in tally(HEADER, *blocks[:2], blocks[0], FOOTER)] == ["t0", "t1"]
    with pytest.raises(DumpSyntax, match="more than 2 tables"):
        tally(HEADER, *blocks, FOOTER)


def test_digests_depend_on_the_key():
    other = bytes(32)
    assert tally(DUMP, key=other)[0].digest == digest(ROWS, other) != digest(ROWS)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        DUMP[: DUMP.index(b"complete")],
        DUMP[: DUMP.index(b"3\t")],
        DUMP + b"SELECT 1;\n",
        b"CREATE TABLE t (a int);\n",
    ],
)
def test_what_pg_dump_did_not_end_is_incomplete(text):
    with pytest.raises(DumpIncomplete):
        tally(text)


def test_meta_commands_are_refused():
    with pytest.raises(DumpSyntax):
        tally(DUMP.replace(b"\\restrict abc", b"\\connect x"))


def test_the_key_is_in_the_first_line():
    assert len(tallies.preface(KEY)) == tallies.PREFACE_SIZE
    assert tallies.key_of(DUMP[: tallies.PREFACE_SIZE]) == KEY
    assert tallies.key_of(HEADER) is None
    assert tallies.key_of(DUMP[1:]) is None


def test_a_key_has_its_size():
    with pytest.raises(ValueError, match="32"):
        tallies.preface(b"short")


class Dribble(io.BytesIO):
    def read(self, n=-1):
        return super().read(min(n, 7))


@pytest.mark.parametrize("source", [io.BytesIO, Dribble])
def test_a_check_finds_what_the_tally_found(source):
    assert tallies.check(source(DUMP)) == tally(DUMP)
    assert tallies.check(source(HEADER + FOOTER)) == []


def test_a_check_takes_sql_that_is_not_from_pg_dump():
    text = b"CREATE TABLE t (a int);\nCOPY t FROM stdin;\n1\n2\n\\.\n"
    assert [(table.name, table.rows) for table in tallies.check(io.BytesIO(text))] == [("t", 2)]


@pytest.mark.parametrize("text", [b"", b"-- x", DUMP[: DUMP.index(b"complete")], b"SELECT '"])
def test_a_check_proves_the_end(text):
    with pytest.raises(DumpIncomplete):
        tallies.check(io.BytesIO(text))
