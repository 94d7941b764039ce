# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Filters of the role server: its plan, and its block of pg_hba.conf."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible.errors import AnsibleFilterError
from ansible_collections.infrazero.database.plugins.module_utils._engine.errors import EngineError
from ansible_collections.infrazero.database.plugins.plugin_utils import hba, server


def server_plan(desired: t.Mapping[str, t.Any], facts: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """Plan of a host's server."""
    try:
        return dataclasses.asdict(server.plan(desired, facts))
    except EngineError as exc:
        raise AnsibleFilterError(f"infrazero.database.server_plan: {exc}") from None


def hba_block(text: str, lines: t.Sequence[str]) -> str:
    """Text of a pg_hba.conf with these lines as the collection's block."""
    try:
        return hba.rewrite(text, lines)
    except EngineError as exc:
        raise AnsibleFilterError(f"infrazero.database.hba_block: {exc}") from None


class FilterModule:
    """Filters of infrazero.database."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """By name."""
        return {"server_plan": server_plan, "hba_block": hba_block}
