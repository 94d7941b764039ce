# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from ansible_collections.infrazero.database.plugins.lookup import variable_errors


@pytest.fixture
def errors(monkeypatch):
    """Messages about a run of the playbook restore with these variables."""

    def run(own, *, others=None, extra=None):
        monkeypatch.setattr(variable_errors, "load_extra_vars", lambda loader: extra or {})
        loader = DataLoader()
        known = {**own, "hostvars": others or {}, "ansible_play_hosts_all": ["db1", *(others or {})]}
        lookup = variable_errors.LookupModule(loader=loader, templar=Templar(loader=loader, variables=known))
        return lookup.run(["restore"], variables=known)

    return run


def test_finds_misspelt_variables_of_all_hosts_once(errors):
    found = errors(
        {"infrazero_s3_buckets": 1}, others={"db2": {"infrazero_s3_buckets": 1}, "db3": {"infrazero_host": 1}}
    )
    assert [message.partition(" ")[0] for message in found] == ["infrazero_host", "infrazero_s3_buckets"]


def test_examines_short_names_of_the_command_line_alone(errors):
    assert errors({"databse": "shop"}) == []
    assert errors({"databse": "shop"}, extra={"databse": "shop"}) == [
        "databse is not an option of the playbook restore; did you mean database?"
    ]


def test_compares_values_after_templating(errors):
    own = {"one": "shop", "database": trust_as_template("{{ one }}")}
    assert errors({**own, "infrazero_database": "shop"}) == []
    assert len(errors({**own, "infrazero_database": "wiki"})) == 1


def test_compares_the_values_of_every_host_with_its_own(errors):
    others = {"db2": {"database": "shop", "infrazero_database": "wiki"}, "db3": {"infrazero_database": "wiki"}}
    assert errors({"database": "shop"}, others=others) == [
        "database and infrazero_database have different values; set only one of them"
    ]
