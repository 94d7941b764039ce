# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filters in Ansible's own templating, with values as it hands them over."""

from __future__ import annotations

import json

import pyrage
import yaml

from conftest import ROOT
from tests.support.foreign import FOREIGN, obeyed
from tests.support.playbook import Task, Template, play

IDENTITY = pyrage.x25519.Identity.generate()
ENTRY = {
    "name": "{{ 'no template' }}".replace(" ", ""),
    "user": "app",
    "password": "canary-of-a-password",
    "backup_age_public_key": str(IDENTITY.to_public()),
    "backup_age_private_key": str(IDENTITY),
    "restore_latest": None,
}


def test_views_in_templates() -> None:
    def shown(expression: str) -> Task:
        return Task("ansible.builtin.debug", {"msg": Template("{{ " + expression + " }}")})

    values = {
        "text": json.dumps([ENTRY]),
        "listed": [{**ENTRY, "name": "app"}],
        "broken": [{**ENTRY, "name": 7, "restore_latest": 0}, [True], 1.5, None],
    }
    played = play(
        shown("text | infrazero.database.validated | infrazero.database.public"),
        shown("text | b64encode | infrazero.database.private == (text | from_json)"),
        shown("listed | infrazero.database.validated == listed"),
        shown("broken | infrazero.database.validated"),
        shown("listed | infrazero.database.validated(private=false)"),
        variables=values,
    )
    public, private, validated, broken, for_host = played.results
    assert public["msg"] == [{field: value for field, value in ENTRY.items() if field != "backup_age_private_key"}]
    assert private["msg"] is True
    assert validated["msg"] is True
    assert broken["failed"]
    for text in ("entry 1, name: is a number", "entry 2: is a list", "entry 3: is a number", "entry 4: is null"):
        assert text in broken["msg"]
    assert "must not be present here" in for_host["msg"]
    assert str(IDENTITY) not in broken["msg"] + for_host["msg"]


def test_the_plan_of_a_restore_shows_nothing_that_a_terminal_obeys() -> None:
    """The task of the playbook itself: Ansible escapes only some characters of what it shows."""
    tasks = yaml.safe_load((ROOT / "playbooks" / "tasks" / "restore_plan.yml").read_text(encoding="utf-8"))
    (task,) = (task for task in tasks if task["name"] == "Show the plan")
    foreign = "".join(FOREIGN.values())
    plan = {
        **dict.fromkeys(("database", "owner", "source", "created_at", "backup_server_version"), foreign),
        "server_version": "15",
        "signed_by": {"name": foreign, "key": foreign},
        "size": 1,
        "read_size": 1,
        "reads": 1,
        "rows": 1,
        "age_seconds": 1,
        "strategy": "swap",
        "as": foreign,
        "only_tables": [foreign],
        "space": {"needed": 1, "available": 1},
        "refusal": foreign,
        "warnings": [foreign],
        "replaces": {"owner": foreign, "size": 1, "sessions": 0},
    }
    templates = {
        name: [Template(line) for line in value] if isinstance(value, list) else Template(value)
        for name, value in task["vars"].items()
    }
    message = Template(task["ansible.builtin.debug"]["msg"])
    played = play(Task("ansible.builtin.debug", {"msg": message}), variables={**templates, "__restore_plan": plan})
    (shown,) = played.results
    assert [line.split(":")[0] for line in shown["msg"]] == [line.split(":")[0] for line in task["vars"]["lines"]]
    assert all(line.isprintable() for line in shown["msg"])
    assert not obeyed(played.output)
