# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hypothesis
import hypothesis.strategies as st
import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine.errors import PostgresError
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql import database_settings


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", []),
        ('""', [""]),
        ("main, public", ["main", "public"]),
        ('"$user", public', ["$user", "public"]),
        ('"with, comma","with ""a quote"  ,  Mixed', ["with, comma", 'with "a quote', "Mixed"]),
        ("größe, ЯЯ", ["größe", "ЯЯ"]),
    ],
)
def test_a_list_of_names_is_read_as_the_server_wrote_it(value, expected):
    assert database_settings.split_names(value) == expected


@hypothesis.given(st.lists(st.text(st.characters(blacklist_categories=("Cs", "Cc")))))
def test_every_name_survives(items):
    assert database_settings.split_names(", ".join('"' + item.replace('"', '""') + '"' for item in items)) == items


@pytest.mark.parametrize("value", ['"open', "a b", ",", "a,,b", '"a"b'])
def test_what_is_no_list_is_an_error(value):
    with pytest.raises(PostgresError, match="not a list of names"):
        database_settings.split_names(value)
