# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hosts of a play, and the error where there is none."""

from __future__ import annotations

import typing as t

import pytest

from tests.support.templating import templated

GROUPS = {"all": ["app1", "db1", "db2"], "databases": ["db1", "db2"], "shops": [], "infisical": ["db2"]}
DATABASES = "{{ lookup('infrazero.database.hosts', 'databases') }}"
INFISICAL = "{{ lookup('infrazero.database.hosts', 'infisical', variable='infrazero_infisical_hosts') }}"


def test_the_group_unless_a_variable_names_others() -> None:
    groups: dict[str, t.Any] = {"groups": GROUPS}
    cases = [
        (DATABASES, groups),
        (DATABASES, {**groups, "ansible_limit": "db2"}),
        (DATABASES, {**groups, "infrazero_hosts": "all:!databases"}),
        (DATABASES, {**groups, "infrazero_hosts": ""}),
        (DATABASES, {**groups, "infrazero_hosts": "{{ chosen }}", "chosen": "db*"}),
        (DATABASES, {"groups": {"all": []}, "infrazero_hosts": "localhost"}),
        (INFISICAL, {**groups, "infrazero_hosts": "nothing"}),
        (INFISICAL, {**groups, "infrazero_infisical_hosts": "app1"}),
    ]
    assert templated(cases) == [
        *("databases", "databases", "all:!databases", "databases", "db*", "localhost", "infisical", "app1")
    ]


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"groups": {"all": ["db1"]}}, "the group databases of the inventory does not exist: add the hosts"),
        ({"groups": {"all": ["db1"], "databases": []}}, "the group databases of the inventory has no hosts: add"),
        ({"groups": GROUPS, "ansible_limit": "app1"}, "--limit app1 leaves none of the hosts databases"),
        (
            {"groups": GROUPS, "infrazero_hosts": "databses"},
            "no host of the inventory matches infrazero_hosts (databses)",
        ),
        ({"groups": GROUPS, "infrazero_hosts": "shops"}, "no host of the inventory matches infrazero_hosts (shops)"),
    ],
)
def test_no_host_is_an_error(variables: dict[str, t.Any], message: str) -> None:
    with pytest.raises(AssertionError) as caught:
        templated([(DATABASES, variables)])
    assert f"nothing to work on: {message}" in str(caught.value)
