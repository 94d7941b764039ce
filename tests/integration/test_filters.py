# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filters in Ansible's own templating, with values as it hands them over."""

from __future__ import annotations

import json

import pyrage

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
