# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host's list, put together."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleError
from ansible_collections.infrazero.database.plugins.lookup import databases

SHOP = {"name": "shop", "password": "canary"}
LEDGER = {"name": "ledger"}
METRICS = {"name": "metrics"}


def test_order_is_that_of_the_names() -> None:
    found = databases.names(["infrazero_databases_b", "infrazero_user", "infrazero_databases", "infrazero_databases_a"])
    assert found == ["infrazero_databases", "infrazero_databases_a", "infrazero_databases_b"]


def test_other_names_bring_nothing() -> None:
    assert databases.names(["infrazero_databasesx", "my_infrazero_databases", "databases"]) == []


def test_entries_follow_each_other() -> None:
    parts = {
        "infrazero_databases": [SHOP],
        "infrazero_databases_a": '[{"name": "ledger"}]',
        "infrazero_databases_b": [METRICS],
    }
    assert databases.merged(parts) == [SHOP, LEDGER, METRICS]


def test_nothing() -> None:
    assert databases.merged({}) == []


@pytest.mark.parametrize("value", [[SHOP], "[broken", 7])
def test_a_single_part_is_left_to_the_judges(value: object) -> None:
    assert databases.merged({"infrazero_databases": value}) == value


@pytest.mark.parametrize("value", ["[{'name': 'canary'}]", '{"name": "canary"}', {"name": "canary"}, None, 7])
def test_a_part_that_is_no_list_is_named_and_not_shown(value: object) -> None:
    with pytest.raises(AnsibleError, match="infrazero_databases_b") as caught:
        databases.merged({"infrazero_databases": [SHOP], "infrazero_databases_b": value})
    assert "canary" not in str(caught.value)
