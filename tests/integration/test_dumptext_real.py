# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The reader of dumps on what pg_dump really writes."""

from __future__ import annotations

import contextlib
import io
import random
import re

import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine.errors import DumpIncomplete
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.connection import connect
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.dumptext import events
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.dumptext import (
    tally as tallies,
)

from tests.integration.conftest import empty
from tests.support import nasty
from tests.support.dumps import dump
from tests.support.requirements import require_contrib

KEY = bytes(32)


@pytest.fixture(scope="module")
def nasty_database(shared_cluster):
    """A database full of traps; its name is one, too."""
    name = 'na\'st;y "{{ db }}"'
    require_contrib(shared_cluster)
    nasty.create(shared_cluster, name)
    yield name
    empty(shared_cluster)


def tally(text, sizes=None):
    counter = tallies.Tally(KEY)
    source = io.BytesIO(text)
    while chunk := source.read(next(sizes) if sizes else 1 << 18):
        counter.feed(chunk)
    return counter.finish()


def flat(text, size=1 << 18):
    found = []
    for event in events.read(io.BytesIO(text), size=size):
        if isinstance(event, events.CopyBlock):
            rows = b""
            while part := event.read(1000):
                rows += part
            found.append((event.table, rows))
        else:
            found.append(event.text)
    return found


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--inserts",),
        ("--column-inserts", "--rows-per-insert=7"),
        ("--clean", "--if-exists"),
        ("--quote-all-identifiers",),
    ],
    ids=" ".join,
)
def test_any_cuts_give_the_same(shared_cluster, nasty_database, options):
    text = dump(shared_cluster, nasty_database, *options)
    whole = flat(text, len(text))
    assert whole == flat(text, 1) == flat(text, 7) == flat(text, 1000)


def test_the_tally_counts_what_the_server_counts(shared_cluster, nasty_database):
    text = dump(shared_cluster, nasty_database)
    generator = random.Random(7)
    tables = tally(text)
    assert tables == tally(text, iter(lambda: generator.randint(1, 5000), 0))
    assert tables == tallies.check(io.BytesIO(tallies.preface(KEY) + text))
    with contextlib.closing(connect(shared_cluster.settings, database=nasty_database)) as conn, conn.cursor() as cursor:
        for table in tables:
            cursor.execute(f"SELECT count(*) FROM ONLY {table.name}")
            assert cursor.fetchone()[0] == table.rows, table.name
        cursor.execute("SELECT count(*) FROM pg_class WHERE relkind = 'r' AND oid >= 16384")
        assert cursor.fetchone()[0] == len(tables)


def test_equal_contents_have_equal_digests(shared_cluster, nasty_database):
    first, second = (dump(shared_cluster, nasty_database) for _run in range(2))
    assert tally(first) == tally(second)
    changed = first.replace(b"\tGRANT ALL ON TABLE t TO PUBLIC;\n", b"\tGRANT ALL ON TABLE t TO PUBLIC.\n", 1)
    assert changed != first
    assert [a.name for a, b in zip(tally(first), tally(changed)) if a != b] == ["public.texts"]


def test_every_statement_is_a_statement_of_its_own(shared_cluster, nasty_database):
    """The server agrees where statements end: what it was given in one piece it is given again piece by piece."""
    text = dump(shared_cluster, nasty_database, "--schema-only", "--no-owner", "--no-privileges")
    found = flat(text)
    bodies = [piece for piece in found if re.match(rb"CREATE (FUNCTION|PROCEDURE|RULE)", piece)]
    assert len(bodies) == (11 if shared_cluster.major >= 14 else 10)
    assert any(b"BEGIN ATOMIC" in body and body.rstrip().endswith(b"END") for body in bodies)
    shared_cluster.psql('CREATE DATABASE "pieces"')
    with contextlib.closing(connect(shared_cluster.settings, database="pieces")) as conn, conn.cursor() as cursor:
        for piece in found:
            cursor.execute(piece)
    again = dump(shared_cluster, "pieces", "--schema-only", "--no-owner", "--no-privileges")
    assert again == text


def test_a_dump_that_is_cut_anywhere_is_incomplete(shared_cluster, nasty_database):
    text = dump(shared_cluster, nasty_database)
    end = text.rindex(b"complete") + len(b"complete") - 1
    generator = random.Random(8)
    for cut in [end, *(generator.randint(0, end) for _cut in range(200))]:
        with pytest.raises(DumpIncomplete):
            tally(text[:cut])
        with pytest.raises(DumpIncomplete):
            flat(text[:cut])
