# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Filters: views of a databases list."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError
from ansible.utils.display import Display
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain import databases
from ansible_collections.infrazero.database.plugins.module_utils._engine.errors import EngineError
from ansible_collections.infrazero.database.plugins.plugin_utils.validation import NAME, key_rules

display = Display()


def public(value: object, *, name: str = NAME) -> list[dict[str, t.Any]]:
    """The list without private keys."""
    try:
        return databases.public_view(value, name=name)
    except EngineError as exc:
        raise AnsibleFilterError(f"infrazero.database.public: {exc}") from None


def private(value: object, *, name: str = NAME) -> list[dict[str, t.Any]]:
    """The list with private keys."""
    try:
        return databases.private_view(value, name=name)
    except EngineError as exc:
        raise AnsibleFilterError(f"infrazero.database.private: {exc}") from None


def validated(
    value: object, *, private: bool = True, maintenance_db: str = "postgres", name: str = NAME
) -> list[dict[str, t.Any]]:
    """The list, if it is valid."""
    try:
        source = databases.decoded(value, name=name)
        found = databases.parse(
            source,
            rules=key_rules(),
            private=private,
            maintenance_database=maintenance_db,
            name=name,
        )
        view = databases.private_view(source, name=name)
    except EngineError as exc:
        raise AnsibleFilterError(f"infrazero.database.validated: {exc}") from None
    # The modules get the view, and so cannot warn about fields that are not in it. Ansible shows equal warnings once.
    for warning in found.warnings:
        display.warning(warning)
    return view


def backup_prefixes(value: object, *, name: str = NAME) -> list[str]:
    """Where the backups of the list's databases are, in the order of the list."""
    try:
        found = databases.parse(value, rules=key_rules(), private=True, name=name)
    except EngineError as exc:
        raise AnsibleFilterError(f"infrazero.database.backup_prefixes: {exc}") from None
    return [entry.prefix for entry in found.entries]


class FilterModule:
    """Filters of infrazero.database."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """By name."""
        return {
            "backup_prefixes": backup_prefixes,
            "public": public,
            "private": private,
            "validated": validated,
        }
