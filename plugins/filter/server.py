# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Filters: what the role server decides."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible.errors import AnsibleFilterError
from ansible_collections.infrazero.database.plugins.module_utils._engine.errors import EngineError
from ansible_collections.infrazero.database.plugins.plugin_utils import hba, server


def server_plan(wish: t.Mapping[str, t.Any], facts: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """What to do on a host."""
    try:
        return dataclasses.asdict(server.plan(wish, facts))
    except EngineError as exc:
        raise AnsibleFilterError(f"infrazero.database.server_plan: {exc}") from None


def hba_block(text: str, lines: t.Sequence[str]) -> str:
    """A pg_hba.conf with these lines as our block."""
    try:
        return hba.rewrite(text, lines)
    except EngineError as exc:
        raise AnsibleFilterError(f"infrazero.database.hba_block: {exc}") from None


class FilterModule:
    """Filters of infrazero.database."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """By name."""
        return {"server_plan": server_plan, "hba_block": hba_block}
