# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hypothesis
import hypothesis.strategies as st
import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain import names
from ansible_collections.infrazero.database.plugins.module_utils._engine.errors import ConfigurationError

IDS = st.text("0123456789abcdefghijklmnopqrstuvwxyz", min_size=1, max_size=32)
DATABASES = st.text(st.characters(blacklist_categories=("Cs", "Cc")), min_size=1)


def test_the_names_of_a_restore():
    assert names.staging_name("shop", "7f3a") == "shop__restore_7f3a"
    assert names.replaced_name("shop", "7f3a") == "shop__replaced_7f3a"
    assert names.loader_role("7f3a") == "infrazero_restore_7f3a"


def test_a_long_name_loses_its_own_end_and_not_the_id():
    assert names.staging_name("x" * 63, "7f3a") == "x" * 49 + "__restore_7f3a"


def test_no_character_is_cut_in_two():
    # 48 bytes of two-byte characters fit in front of a suffix of 14; the 49th byte would be half of one.
    assert names.staging_name("é" * 31, "7f3a") == "é" * 24 + "__restore_7f3a"


@hypothesis.given(database=DATABASES, restore_id=IDS)
def test_every_name_fits_keeps_its_id_and_can_be_told(database, restore_id):
    stage, kept = (names.staging_name(database, restore_id), names.replaced_name(database, restore_id))
    for name in (stage, kept, names.loader_role(restore_id)):
        assert len(name.encode("utf-8")) <= 63
        assert name.endswith(f"_{restore_id}")
    assert stage != kept
    assert names.is_replaced_name(kept)


@pytest.mark.parametrize("name", ["shop", "shop__restore_7f3a", "__replaced_7f3a", "shop__replaced_", "s__replaced_A"])
def test_other_names_are_not_of_a_replaced_database(name):
    assert not names.is_replaced_name(name)


@pytest.mark.parametrize("restore_id", ["", "A", "a-b", "a b", "é", "a" * 33, "a\n", '"'])
def test_an_id_that_could_be_misread_is_refused(restore_id):
    with pytest.raises(ConfigurationError, match="invalid restore id"):
        names.staging_name("shop", restore_id)
