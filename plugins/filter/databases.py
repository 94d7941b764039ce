# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Filters: views of a databases list."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError
from ansible.utils.display import Display
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain import databases
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.secret import Secret
from ansible_collections.infrazero.database.plugins.module_utils._engine.errors import EngineError
from ansible_collections.infrazero.database.plugins.module_utils._engine.streams import age

try:
    import pyrage
except ImportError:
    pyrage = None

#: What errors call a list that comes from an inventory.
NAME = "infrazero_databases"

display = Display()


class _CheckedByTheHost:
    """Accepts every age key if the controller has no pyrage: the modules check them before they change anything."""

    def recipient_fault(self, text: str) -> str | None:
        return None

    def mix_fault(self, recipients: t.Sequence[str]) -> str | None:
        return None

    def identity_fault(self, secret: Secret) -> str | None:
        return None

    def pair_fault(self, recipients: t.Sequence[str], secret: Secret) -> str | None:
        return None


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
            rules=_CheckedByTheHost() if pyrage is None else age,
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
    rules = _CheckedByTheHost() if pyrage is None else age
    try:
        found = databases.parse(value, rules=rules, private=True, name=name)
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
