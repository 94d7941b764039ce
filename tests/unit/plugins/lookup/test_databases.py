# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host's list, put together."""

from __future__ import annotations

import json
import pathlib

import pytest
from ansible.errors import AnsibleError
from ansible_collections.infrazero.database.plugins.lookup import databases

from tests.support.templating import templated

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


LIST = "{{ lookup('infrazero.database.databases') }}"


def test_files_on_the_controller(tmp_path: pathlib.Path) -> None:
    (tmp_path / "list.json").write_text(json.dumps([{"name": "ledger", "password_file": "{{ secret }}"}]))
    (tmp_path / "{{ secret }}").write_text("{{ 7 * 6 }}\n")  # no template: it is what a file holds
    (tmp_path / "key").write_text("AGE-SECRET-KEY-1X\n")
    variables = {
        "inventory_dir": str(tmp_path),
        "infrazero_databases": [{"name": "shop", "backup_age_private_key_file": f"{tmp_path}/key"}],
        "infrazero_databases_json_file": "list.json",
        "infrazero_databases_z": [{"name": "metrics"}],
    }
    assert templated([(LIST, variables)]) == [
        [
            {"name": "shop", "backup_age_private_key": "AGE-SECRET-KEY-1X"},
            {"name": "ledger", "password": "{{ 7 * 6 }}"},
            {"name": "metrics"},
        ]
    ]


def test_a_list_in_a_file_alone(tmp_path: pathlib.Path) -> None:
    text = json.dumps([SHOP])
    (tmp_path / "list.json").write_text(f"{text}\n")
    variables = {"infrazero_databases_json_file": str(tmp_path / "list.json")}
    assert templated([(LIST, variables), (LIST, {"infrazero_databases_json_file": ""})]) == [text, []]


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"infrazero_databases_json_file": "/none"}, "the file that infrazero_databases_json_file names can't be read"),
        ({"infrazero_databases": [{**SHOP, "password_file": "x"}]}, "password_file: is set beside password"),
        ({"infrazero_databases": [{"name": "shop", "password_file": "x"}]}, "entry 1 (shop), password_file: the file"),
    ],
)
def test_files_that_cannot_be_read_are_named(variables: dict[str, object], message: str) -> None:
    with pytest.raises(AssertionError) as caught:
        templated([(LIST, variables)])
    assert message in str(caught.value) and "canary" not in str(caught.value)
