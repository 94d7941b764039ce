# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine.errors import ConfigurationError
from ansible_collections.infrazero.database.plugins.plugin_utils import hba
from hypothesis import given
from hypothesis import strategies as st

LINES = ["host all all 10.8.0.0/24 scram-sha-256", 'host "a" "b" 10.1.0.0/16 scram-sha-256']
BLOCK = f"{hba.BEGIN}\n{LINES[0]}\n{LINES[1]}\n{hba.END}\n"


def test_administrators_come_first_then_each_database_and_network() -> None:
    assert hba.rules(wg_cidr="10.8.0.0/24", entries=[("a", "b"), ("c", "b")], cidrs=["10.1.0.0/16", "fd00::/8"]) == [
        "host all all 10.8.0.0/24 scram-sha-256",
        'host "a" "b" 10.1.0.0/16 scram-sha-256',
        'host "a" "b" fd00::/8 scram-sha-256',
        'host "c" "b" 10.1.0.0/16 scram-sha-256',
        'host "c" "b" fd00::/8 scram-sha-256',
    ]


def test_without_networks_nobody_comes_in() -> None:
    assert hba.rules(wg_cidr="", entries=[("a", "b")], cidrs=[]) == []


@pytest.mark.parametrize("name", ["all", "replication", "sameuser", "samerole", "+group", "@file", "a,b", "#", 'a"b'])
def test_names_are_only_names(name: str) -> None:
    (line,) = hba.rules(wg_cidr="", entries=[(name, name)], cidrs=["10.0.0.0/8"])
    token = '"' + name.replace('"', '""') + '"'
    assert line == f"host {token} {token} 10.0.0.0/8 scram-sha-256"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", BLOCK),
        ("local all all peer\n", "local all all peer\n" + BLOCK),
        ("local all all peer", "local all all peer\n" + BLOCK),
        (f"a\n{hba.BEGIN}\nold\n{hba.END}\nb\n", f"a\n{BLOCK}b\n"),
        (f"a\n  {hba.BEGIN} \n{hba.END}\n", f"a\n{BLOCK}"),
        (f"{hba.BEGIN}\nx\n{hba.END}\nb\n{hba.BEGIN}\ny\n{hba.END}\nc\n", f"{BLOCK}b\nc\n"),
    ],
)
def test_the_block_is_rewritten_whole_and_the_rest_stays(before: str, after: str) -> None:
    assert hba.rewrite(before, LINES) == after
    assert hba.rewrite(after, LINES) == after


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (f"{hba.BEGIN}\nhost all all all trust\n", 1),
        (f"a\n{hba.END}\n", 2),
        (f"{hba.BEGIN}\nx\n{hba.BEGIN}\n{hba.END}\n", 3),
        (f"{hba.BEGIN}\n{hba.END}\nx\n{hba.END}\n", 4),
    ],
)
def test_a_marker_without_counterpart_is_refused(text: str, line: int) -> None:
    with pytest.raises(ConfigurationError, match=f"line {line}: .* has no counterpart"):
        hba.rewrite(text, LINES)


@given(st.lists(st.text(alphabet="ab #\t", max_size=8)))
def test_everything_else_is_kept(lines: list[str]) -> None:
    text = "".join(f"{line}\n" for line in lines)
    written = hba.rewrite(text, LINES)
    assert written.replace(BLOCK, "") == text
