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
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.dumptext import events
from hypothesis import given, settings
from hypothesis import strategies as st

KEY = bytes(range(32))
HEADER = b"--\n-- PostgreSQL database dump\n--\n\n"
FOOTER = b"--\n-- PostgreSQL database dump complete\n--\n\n"
ROWS = b"1\ta\\\\.\n2\t\\N\n3\tCOPY t FROM stdin;\n"
DUMP = (
    events.preface(KEY)
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
    counter = events.Tally(key)
    for chunk in chunks:
        counter.feed(chunk)
    return counter.finish()


@settings(deadline=None)
@given(st.lists(st.integers(0, len(DUMP)), max_size=10))
def test_rows_are_counted_and_digested(cuts):
    edges = [0, *sorted(cuts), len(DUMP)]
    assert tally(*(DUMP[begin:end] for begin, end in itertools.pairwise(edges))) == [
        events.TableTally("public.t", 3, digest(ROWS)),
        events.TableTally("public.empty", 0, digest(b"")),
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
    monkeypatch.setattr(events, "MAX_TABLES", 2)
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
    assert len(events.preface(KEY)) == events.PREFACE_SIZE
    assert events.key_of(DUMP[: events.PREFACE_SIZE]) == KEY
    assert events.key_of(HEADER) is None
    assert events.key_of(DUMP[1:]) is None


def test_a_key_has_its_size():
    with pytest.raises(ValueError, match="32"):
        events.preface(b"short")


ROW = st.lists(st.sampled_from([b"\\N", b"\\\\.", b"\\\\", b"'", b"$$", b"\t", b";", b"--", b".", b"a"]), max_size=6)


@settings(max_examples=200, deadline=None)
@given(st.lists(ROW.map(b"".join), max_size=20), st.integers(1, 12), st.integers(1, 5))
def test_rows_are_given_as_they_stand(rows, size, piece):
    data = b"".join(row + b"\n" for row in rows)
    text = b"COPY t FROM stdin;\n" + data + b"\\.\nSELECT 1;\nCOPY u FROM stdin;\n" + data + b"\\.\n"
    found = []
    for event in events.events(io.BytesIO(text), size=size):
        if isinstance(event, events.CopyBlock):
            read = b""
            while part := event.read(piece):
                assert len(part) <= piece
                read += part
            assert event.read(piece) == b""
            found.append((event.table, read))
        else:
            found.append(event.text)
    assert found == [("t", data), b"SELECT 1", ("u", data)]


def test_unread_rows_are_passed_over():
    text = b"COPY t FROM stdin;\n1\n2\n\\.\nSELECT 1;"
    assert [event.text for event in events.events(io.BytesIO(text), size=3)] == [b"COPY t FROM stdin", b"SELECT 1"]


def test_a_failing_source_is_told():
    class Failing:
        def read(self, n):
            raise DumpSyntax("broken")

    with pytest.raises(DumpSyntax, match="broken"):
        list(events.events(Failing()))


class Dribble(io.BytesIO):
    def read(self, n=-1):
        return super().read(min(n, 7))


@pytest.mark.parametrize("source", [io.BytesIO, Dribble])
def test_a_check_finds_what_the_tally_found(source):
    assert events.check(source(DUMP)) == tally(DUMP)
    assert events.check(source(HEADER + FOOTER)) == []


def test_a_check_takes_sql_that_is_not_from_pg_dump():
    text = b"CREATE TABLE t (a int);\nCOPY t FROM stdin;\n1\n2\n\\.\n"
    assert [(table.name, table.rows) for table in events.check(io.BytesIO(text))] == [("t", 2)]


@pytest.mark.parametrize("text", [b"", b"-- x", DUMP[: DUMP.index(b"complete")], b"SELECT '"])
def test_a_check_proves_the_end(text):
    with pytest.raises(DumpIncomplete):
        events.check(io.BytesIO(text))
