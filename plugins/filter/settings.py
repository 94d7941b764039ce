# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Settings of a host, on their way from variables to db.env."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError
from ansible_collections.infrazero.database.plugins.module_utils._engine import settings
from ansible_collections.infrazero.database.plugins.module_utils._engine.errors import EngineError


def db_env(value: t.Mapping[str, t.Any]) -> dict[str, str]:
    """Settings that differ from their defaults, as texts by their names in ``db.env``.

    :param value: settings by those names; empty texts and ``None`` are not set.
    :raises AnsibleFilterError: naming the variable that is not valid, as an inventory and as a role have it.
    """
    lines = {}
    for name, given in value.items():
        row = settings.STORED[name]
        variable = f"infrazero_{row.variable} (runtime_{row.variable})"
        try:
            found = settings.read({variable: given}, {variable: row})
            if found and found[row.key] != settings.Values().get(*row.key):
                lines[name] = row.type.written(found[row.key], variable)
        except EngineError as exc:
            # Not from it: Ansible would show the cause as well.
            raise AnsibleFilterError(str(exc)) from None
    return lines


class FilterModule:
    """The filters."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """By name."""
        return {"db_env": db_env}
