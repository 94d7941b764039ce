# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import contextlib
import json

import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain import text
from hypothesis import given
from hypothesis import strategies as st

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(JSON)
def test_reads_what_json_writes(value: object) -> None:
    rendered = json.dumps(value)
    assert text.strict_json(rendered) == value
    assert text.strict_json(rendered.encode("utf-8")) == value


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("", "Expecting value at line 1, column 1"),
        ('[1,\n"a]', "line 2, column 1"),
        ('{"a": 1, "a": 1}', "the field 'a' occurs twice in one object"),
        ('[{"b": {"a": 1, "a": 2}}]', "the field 'a' occurs twice in one object"),
        ("[NaN]", "NaN is not a JSON number"),
        ("-Infinity", "-Infinity is not a JSON number"),
        ("[" * 200_000, "nested too deeply"),
        ("9" * 10_000, "too many digits"),
        (b'"\xff"', "not valid UTF-8"),
        ("\ufeff[]", "BOM"),
        ('{"a": 1} x', "Extra data"),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_says_why_it_is_no_json(source: str | bytes, reason: str) -> None:
    with pytest.raises(text.NotJson, match=reason):
        text.strict_json(source)


def test_a_long_name_that_is_there_twice_is_not_repeated_whole() -> None:
    name = "x" * 10**6
    with pytest.raises(text.NotJson) as caught:
        text.strict_json(f'{{"{name}": 1, "{name}": 2}}')
    assert len(str(caught.value)) < 200


@given(st.binary())
def test_bytes_are_json_or_the_one_error(data: bytes) -> None:
    with contextlib.suppress(text.NotJson):
        text.strict_json(data)


@given(st.text(alphabet=st.characters()))
def test_size_is_what_utf8_needs(value: str) -> None:
    try:
        expected = len(value.encode("utf-8"))
    except UnicodeEncodeError:
        expected = None
    assert text.utf8_size(value) == expected


def test_half_a_surrogate_pair_has_no_size() -> None:
    assert text.utf8_size(json.loads('"\\ud800"')) is None
    assert text.utf8_size(json.loads('"\\ud83d\\ude00"')) == 4


@pytest.mark.parametrize(
    ("value", "name", "literal"),
    [
        ("plain", '"plain"', "'plain'"),
        ('it\'s "x" \\n', '"it\'s ""x"" \\n"', "'it''s \"x\" \\n'"),
        ("a\n\\é\u2028", 'U&"a\\000A\\\\é\\2028"', "U&'a\\000A\\\\é\\2028'"),
        ("\U000e0001'", 'U&"\\+0E0001\'"', "U&'\\+0E0001'''"),
    ],
)
def test_names_and_literals_in_statements_are_one_visible_line(value: str, name: str, literal: str) -> None:
    assert text.statement_name(value) == name
    assert text.statement_literal(value) == literal


@given(st.text(alphabet=st.characters(blacklist_categories=["Cs"])))
def test_whatever_is_quoted_stays_in_its_line(value: str) -> None:
    assert text.statement_name(value).isprintable()
    assert text.statement_literal(value).isprintable()
