# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import re

import pytest
import yaml
from ansible_collections.infrazero.database.plugins.plugin_utils import variables

from conftest import ROOT

#: Names that begin alike and are not variables: the package that a host gets, and what names of roles begin with.
OTHER_NAMES = {"infrazero_engine", "infrazero_restore_"}


def read_by_the_collection() -> set[str]:
    """Names that roles and playbooks mention."""
    files = [path for part in ("roles", "playbooks") for path in (ROOT / part).rglob("*") if path.is_file()]
    text = "\n".join(path.read_text(encoding="utf-8") for path in files if path.suffix != ".asc")
    names = set(re.findall(r"\binfrazero_[a-z0-9_]*[a-z0-9]\b(?![*])", text))
    return {name for name in names if not name.startswith(variables.OPEN)} - OTHER_NAMES


def test_the_table_has_exactly_the_variables_that_roles_and_playbooks_read() -> None:
    # A prefix of names in a comment, such as infrazero_s3_, ends with an underscore and is not found.
    # The lookup plugin of the list reads the one that begins like a part of the list.
    assert read_by_the_collection() == variables.KNOWN - {"infrazero_databases_json_file"}


def test_every_option_of_a_playbook_is_read_under_both_names() -> None:
    for playbook, options in variables.OPTIONS.items():
        files = [ROOT / "playbooks" / f"{playbook}.yml", *(ROOT / "playbooks" / "tasks").glob(f"{playbook}*.yml")]
        text = "\n".join(path.read_text(encoding="utf-8") for path in files)
        code = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
        for option, shared in options.items():
            if shared is not None:
                assert re.search(rf"\b{shared}\b", code), f"{playbook} does not read {shared}"
            assert re.search(rf"(?<![\w.]){option}\b", code), f"{playbook} does not read {option}"


def test_a_new_host_gets_no_options_of_playbooks() -> None:
    """They are about one run on the controller, and one of them is a private key."""
    text = (ROOT / "roles" / "cloud_init" / "vars" / "main.yml").read_text(encoding="utf-8")
    left_out = set(yaml.safe_load(text)["__cloud_init_left_out"])
    shared = {name for options in variables.OPTIONS.values() for name in options.values() if name}
    assert {name.removeprefix(variables.BEGINNING) for name in shared} < left_out
    assert {variables.BEGINNING + name for name in left_out - {".*_file"}} < variables.KNOWN


@pytest.mark.parametrize(
    ("inventory", "extra", "playbook", "expected"),
    [
        (
            ["infrazero_s3_buckets"],
            [],
            "site",
            ["infrazero_s3_buckets is not a variable of this collection; did you mean infrazero_s3_bucket?"],
        ),
        ([], ["infrazero_colour"], "site", ["infrazero_colour is not a variable of this collection"]),
        # An inventory may have variables for other collections.
        (["infrazero_colour"], [], "site", []),
        (
            [],
            ["databse", "infrazero_form", "unrelated"],
            "restore",
            [
                "databse is not an option of the playbook restore; did you mean database?",
                "infrazero_form is not a variable of this collection",
            ],
        ),
        (
            [],
            ["age-private-key"],
            "restore",
            ["age-private-key is not an option of the playbook restore; did you mean age_private_key?"],
        ),
        # What the inventory calls its own variables is nobody else's business.
        (["databse", "database_name", "jobss"], [], "backup", []),
        (
            ["infrazero_databases_shops", "infrazero_databases", "infrazero_backup_jobs"],
            ["database", "jobs"],
            "backup",
            [],
        ),
        (["infrazero_databases_"], [], "site", ["infrazero_databases_"]),
        # The option of another playbook.
        ([], ["database", "form"], "site", []),
    ],
)
def test_unknown_names_are_reported_with_the_nearest_known_one(inventory, extra, playbook, expected) -> None:
    found = variables.unknown([*inventory, *extra], extra=extra, playbook=playbook)
    assert len(found) == len(expected)
    assert all(message.startswith(start) for message, start in zip(found, expected))


def test_a_misspelt_variable_is_reported_once() -> None:
    assert len(variables.unknown(["infrazero_s3_buckets"] * 3, extra=["infrazero_s3_buckets"], playbook="site")) == 1


@pytest.mark.parametrize(
    ("values", "contradicts"),
    [
        ({"database": "shop", "infrazero_database": "wiki"}, True),
        ({"database": "shop", "infrazero_database": "shop"}, False),
        ({"database": "shop"}, False),
        ({"infrazero_database": "shop"}, False),
        ({"confirm": "yes", "infrazero_confirm": True}, False),
        ({"confirm": "yes", "infrazero_confirm": False}, True),
        ({"options": {"trust": "signed"}, "infrazero_options": {"trust": "unsigned"}}, True),
        ({"options": {"trust": "signed"}, "infrazero_options": {"trust": "signed"}}, False),
        ({"dest": "a", "infrazero_dest": "b"}, False),  # not an option of this playbook
    ],
)
def test_two_values_of_one_option_are_an_error_unless_they_are_the_same(values, contradicts) -> None:
    assert bool(variables.contradictions(values, playbook="restore")) is contradicts


def test_numbers_on_the_command_line_are_texts() -> None:
    assert variables.contradictions({"from": "2", "infrazero_from": 2}, playbook="restore") == []
    assert variables.contradictions({"from": "2", "infrazero_from": 4}, playbook="restore") == [
        "from and infrazero_from have different values; set only one of them"
    ]


def test_an_option_overrides_a_setting_for_one_run() -> None:
    assert variables.contradictions({"jobs": "2", "infrazero_backup_jobs": 4}, playbook="backup") == []


def test_a_contradiction_does_not_show_the_values() -> None:
    values = {"age_private_key": "AGE-SECRET-KEY-1", "infrazero_age_private_key": "AGE-SECRET-KEY-2"}
    (message,) = variables.contradictions(values, playbook="restore")
    assert "SECRET" not in message
