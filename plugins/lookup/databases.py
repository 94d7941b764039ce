# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: databases
short_description: The databases list of a host, from all the variables that bring a part of it
version_added: 0.2.0
description:
  - Of one variable that stands in several places of an inventory Ansible takes one value and drops the others. So the
    list of a host is put together from several variables. First comes C(infrazero_databases), then every variable
    whose name begins with C(infrazero_databases_), in the alphabetical order of their names.
  - Name the variable of a group after the group, for instance C(infrazero_databases_shops), and that of a single host
    C(infrazero_databases_host).
  - Each of them is a list, or its JSON text. The entries follow each other as they stand. A database that stands in
    two of them is a fault, which P(infrazero.database.validated#filter) and the modules name.
author:
  - The infrazero.database contributors (@infrazero)
options: {}
seealso:
  - plugin: infrazero.database.validated
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Which databases has each host?
  ansible.builtin.debug:
    msg: "{{ lookup('infrazero.database.databases') | map(attribute='name') }}"
"""

RETURN = r"""
_raw:
  description: One element, the list. It may hold passwords and private keys.
  type: list
  elements: list
"""

import json
import typing as t

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase

if t.TYPE_CHECKING:
    from ansible.template import Templar

NAME = "infrazero_databases"


def names(variables: t.Iterable[str]) -> list[str]:
    """Those of *variables* that bring a part of the list, in their order."""
    # "infrazero_databases" is the beginning of all the others, and so the first.
    return sorted(name for name in variables if name == NAME or name.startswith(f"{NAME}_"))


def merged(parts: t.Mapping[str, object]) -> object:
    """The entries of all *parts*, by the names of their variables.

    A single part is left as it is, whatever it is: there are others to judge it.

    :raises AnsibleLookupError: for one of many that is no list.
    """
    if len(parts) == 1:
        return next(iter(parts.values()))
    entries: list[object] = []
    for name, value in parts.items():
        part = value
        if isinstance(value, str):
            try:
                part = json.loads(value)
            except ValueError:
                part = None
        if not isinstance(part, (list, tuple)):
            # Not a word of what it is: there may be passwords in it.
            raise AnsibleLookupError(f"the variable {name} is neither a list of databases nor the JSON text of one")
        entries += part
    return entries


class LookupModule(LookupBase):
    """The list of a host."""

    def run(
        self, terms: t.Sequence[str], variables: t.Mapping[str, t.Any] | None = None, **kwargs: t.Any
    ) -> list[object]:
        """One result, whatever was asked for."""
        known = variables or {}
        templar = t.cast("Templar", self._templar)
        return [merged({name: templar.template(known[name]) for name in names(known)})]
