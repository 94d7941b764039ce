# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Filters: views of a databases list."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain import databases
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.secret import Secret
from ansible_collections.infrazero.database.plugins.module_utils._engine.errors import EngineError
from ansible_collections.infrazero.database.plugins.module_utils._engine.streams import age

try:
    import pyrage
except ImportError:
    pyrage = None


class _LeftToTheHost:
    """Judges of age keys where pyrage isn't installed: the modules judge them on the host, before they do anything."""

    def recipient_fault(self, text: str) -> str | None:
        return None

    def mix_fault(self, recipients: t.Sequence[str]) -> str | None:
        return None

    def identity_fault(self, secret: Secret) -> str | None:
        return None

    def pair_fault(self, recipients: t.Sequence[str], secret: Secret) -> str | None:
        return None


def public(value: object) -> list[dict[str, t.Any]]:
    """The list without private keys."""
    try:
        return databases.public_view(value)
    except EngineError as exc:
        raise AnsibleFilterError(f"infrazero.database.public: {exc}") from None


def private(value: object) -> list[dict[str, t.Any]]:
    """The list with private keys."""
    try:
        return databases.private_view(value)
    except EngineError as exc:
        raise AnsibleFilterError(f"infrazero.database.private: {exc}") from None


def validated(value: object, *, private: bool = True, maintenance_db: str = "postgres") -> list[dict[str, t.Any]]:
    """The list, where it breaks no rule."""
    try:
        databases.parse(
            value,
            rules=_LeftToTheHost() if pyrage is None else age,
            private=private,
            maintenance_database=maintenance_db,
        )
        return databases.private_view(value)
    except EngineError as exc:
        raise AnsibleFilterError(f"infrazero.database.validated: {exc}") from None


def backup_prefixes(value: object) -> list[str]:
    """Where the backups of the list's databases are, in the order of the list."""
    try:
        found = databases.parse(value, rules=_LeftToTheHost() if pyrage is None else age, private=True)
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
