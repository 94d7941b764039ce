# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: hosts
short_description: The hosts that a playbook works on
version_added: 0.2.0
description:
  - Returns the pattern of hosts that a variable sets, such as C(infrazero_hosts), or else the name of a group.
  - Fails if the pattern and C(--limit) leave no host. Ansible alone would skip the play and report success.
  - With C(--syntax-check), where an inventory may be missing, the pattern is returned unchecked.
author:
  - The infrazero.database contributors (@infrazero)
options:
  _terms:
    description: Name of the group that the playbook works on by default.
    type: list
    elements: str
    required: true
  variable:
    description: Name of the variable that overrides it.
    type: str
    default: infrazero_hosts
"""

EXAMPLES = r"""
- name: Work on the group databases, or on the hosts of infrazero_hosts
  hosts: "{{ lookup('infrazero.database.hosts', 'databases') }}"
  tasks: []
"""

RETURN = r"""
_raw:
  description: One element, the pattern.
  type: list
  elements: str
"""

import typing as t

from ansible import context
from ansible.errors import AnsibleLookupError
from ansible.inventory.manager import InventoryManager
from ansible.plugins.lookup import LookupBase

if t.TYPE_CHECKING:
    from ansible.template import Templar


def inventory(groups: t.Mapping[str, t.Iterable[str]], *, limit: str | None) -> InventoryManager:
    """An inventory of hosts and groups, without variables.

    :param groups: names of hosts by group, as in the variable ``groups``.
    :param limit: the pattern of ``--limit``.
    """
    manager = InventoryManager(loader=None, parse=False)
    for group, hosts in groups.items():
        manager.add_group(group)
        for host in hosts:
            manager.add_host(host, group=group)
    manager.subset(limit)
    return manager


def remedy(pattern: str, group: str, variable: str, groups: t.Mapping[str, t.Collection[str]]) -> str:
    """Why *pattern* leaves no host, whatever the limit, and what to do."""
    if pattern != group:
        return f"no host of the inventory matches {variable} ({pattern}): correct it"
    state = "has no hosts" if group in groups else "does not exist"
    return (
        f"the group {group} of the inventory {state}: add the hosts that have databases to it, or name others with"
        f" -e {variable}=PATTERN"
    )


class LookupModule(LookupBase):
    """The hosts of a play."""

    def run(self, terms: t.Sequence[str], variables: t.Mapping[str, t.Any] | None = None, **kwargs: t.Any) -> list[str]:
        """The pattern as the only element.

        :raises AnsibleLookupError: if no host is left.
        """
        self.set_options(var_options=variables, direct=kwargs)
        known = variables or {}
        templar = t.cast("Templar", self._templar)
        (group,) = terms
        variable = t.cast(str, self.get_option("variable"))
        given = templar.template(known[variable]) if variable in known else None
        pattern = given or group
        if context.CLIARGS.get("syntax"):
            return [pattern]
        groups, limit = known.get("groups", {}), known.get("ansible_limit")
        if not inventory(groups, limit=None).list_hosts(pattern):
            raise AnsibleLookupError(f"nothing to work on: {remedy(pattern, group, variable, groups)}")
        if not inventory(groups, limit=limit).list_hosts(pattern):
            raise AnsibleLookupError(
                f"nothing to work on: --limit {limit} leaves none of the hosts {pattern}: correct it, or name other"
                f" hosts with -e {variable}=PATTERN"
            )
        return [pattern]
