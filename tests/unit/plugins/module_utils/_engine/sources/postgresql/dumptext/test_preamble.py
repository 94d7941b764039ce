# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The text before pg_dump's, written and read."""

from __future__ import annotations

import hashlib
import io

import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine.errors import DumpIncomplete, DumpSyntax
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.dumptext import preamble
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.dumptext.events import (
    Readable,
)
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.dumptext.preamble import (
    PrivilegedObject,
)
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.dumptext.tally import (
    preface,
)
from hypothesis import given
from hypothesis import strategies as st

KEY = bytes(range(32))
SETTINGS = {"owner": "app", "comment": "caf\u00e9\n-- infrazero preamble ends\n'$infrazero$"}
OBJECTS = (
    PrivilegedObject("function", "public.f(integer)", "ab" * 32, "postgres", ((None, False), ("app", True))),
    PrivilegedObject("cast", "(text AS uuid)", "cd" * 32),
)
REST = b"--\n-- PostgreSQL database dump\n--\n"


def written() -> bytes:
    return preamble.render(KEY, settings=SETTINGS, objects=OBJECTS, sql="SELECT 1;\n")


class Pieces:
    """A source that gives a text in pieces of one size."""

    def __init__(self, text: bytes, size: int) -> None:
        self._text = io.BytesIO(text)
        self._size = size

    def read(self, n: int, /) -> bytes:
        return self._text.read(min(n, self._size))


def drained(source: Readable) -> bytes:
    return b"".join(iter(lambda: source.read(7), b""))


@given(st.integers(1, 2000))
def test_a_preamble_is_read_back_however_it_is_cut(size: int) -> None:
    read, rest = preamble.read(Pieces(written() + REST, size))
    assert (read.digest_key, read.settings, read.objects) == (KEY, SETTINGS, OBJECTS)
    assert read.sha256 == hashlib.sha256(written()).hexdigest()
    assert drained(rest) == REST


def test_every_line_is_ascii_and_begins_as_a_comment_or_is_the_sql() -> None:
    lines = written().decode("ascii").splitlines()
    assert [line for line in lines if not line.startswith("-- infrazero ")] == ["SELECT 1;"]
    assert len(lines) == 3 + len(OBJECTS) + 1


@pytest.mark.parametrize("text", [b"", b"SELECT 1;\n", REST, b"-- infrazero digest key: zz\n" + REST])
def test_a_text_without_a_preamble_stays_as_it_is(text: bytes) -> None:
    read, rest = preamble.read(io.BytesIO(text))
    assert read == preamble.Preamble()
    assert drained(rest) == text


def test_a_backup_of_version_0_1_has_its_key_only() -> None:
    text = preface(KEY) + REST
    read, rest = preamble.read(io.BytesIO(text))
    assert read == preamble.Preamble(KEY)
    assert drained(rest) == text


def test_what_looks_like_a_preamble_later_is_not_read() -> None:
    text = REST + written()
    assert preamble.read(io.BytesIO(text))[0] == preamble.Preamble()


def test_facts_after_the_sql_are_not_read() -> None:
    """What comes after our own lines, such as a comment in a dump, can't add an object."""
    line = b'-- infrazero privileged object: {"kind":"function","identity":"public.evil()","digest":"","owner":""}\n'
    read, _rest = preamble.read(io.BytesIO(written().replace(b"SELECT 1;\n", b"SELECT 1;\n" + line)))
    assert read.objects == OBJECTS


def test_a_cut_preamble_is_incomplete() -> None:
    whole = written()
    for end in range(len(preface(KEY)) + len("-- infrazero settings: "), len(whole)):
        with pytest.raises(DumpIncomplete, match="inside its preamble"):
            preamble.read(io.BytesIO(whole[:end]))


@pytest.mark.parametrize(
    ("old", "new", "cause"),
    [
        (b"privileged object", b"unknown line", "does not know"),
        (b'{"comment"', b'{"comment', "not valid JSON"),
        (b'{"digest":"abab', b'{"digest":1,"x":"abab', "described by texts"),
        (b"[[null,false]", b"[[null,0]", "pairs"),
        (b'[[null,false],["app",true]]', b"7", "pairs"),
        (b'settings: {"comment"', b'settings: ["comment"', "not valid JSON"),
    ],
)
def test_an_invalid_preamble_is_refused(old: bytes, new: bytes, cause: str) -> None:
    text = written()
    assert old in text
    with pytest.raises(DumpSyntax) as caught:
        preamble.read(io.BytesIO(text.replace(old, new)))
    assert cause in caught.value.cause


def test_an_endless_preamble_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preamble, "MAX_SIZE", 1 << 20)

    class Endless:
        begun = False

        def read(self, n: int, /) -> bytes:
            begin, self.begun = (b"" if self.begun else written()[:200]), True
            return begin + b"x" * (n - len(begin))

    with pytest.raises(DumpSyntax) as caught:
        preamble.read(Endless())
    assert "longer than" in caught.value.cause
