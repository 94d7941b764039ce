# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import io

import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine.errors import DumpSyntax
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.dumptext import events
from hypothesis import given, settings
from hypothesis import strategies as st

ROW = st.lists(st.sampled_from([b"\\N", b"\\\\.", b"\\\\", b"'", b"$$", b"\t", b";", b"--", b".", b"a"]), max_size=6)


@settings(max_examples=200, deadline=None)
@given(st.lists(ROW.map(b"".join), max_size=20), st.integers(1, 12), st.integers(1, 5))
def test_rows_are_given_as_they_stand(rows, size, piece):
    data = b"".join(row + b"\n" for row in rows)
    text = b"COPY t FROM stdin;\n" + data + b"\\.\nSELECT 1;\nCOPY u FROM stdin;\n" + data + b"\\.\n"
    found = []
    for event in events.read(io.BytesIO(text), size=size):
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
    assert [event.text for event in events.read(io.BytesIO(text), size=3)] == [b"COPY t FROM stdin", b"SELECT 1"]


def test_a_failing_source_is_told():
    class Failing:
        def read(self, n):
            raise DumpSyntax("broken")

    with pytest.raises(DumpSyntax, match="broken"):
        list(events.read(Failing()))
