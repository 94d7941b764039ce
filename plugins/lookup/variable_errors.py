# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: variable_errors
short_description: Misspelt and contradictory variables of a run
version_added: 0.2.0
description:
  - Lists the variables that begin with C(infrazero_) and that this collection does not know, in the inventory of the
    hosts of the play and on the command line, with the nearest known name.
  - Also lists the names on the command line that are similar to an option of the playbook, and options that have
    different values under their short names and their names with C(infrazero_).
  - No message contains a value.
author:
  - The infrazero.database contributors (@infrazero)
options:
  _terms:
    description: Name of the playbook, such as V(restore).
    type: list
    elements: str
    required: true
  more:
    description: More names of variables that begin with C(infrazero_), such as those for another host.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Refuse misspelt variables
  ansible.builtin.assert:
    that: errors | length == 0
    fail_msg: "{{ errors | join('; ') }}"
    quiet: true
  vars:
    errors: "{{ query('infrazero.database.variable_errors', 'restore') }}"
  run_once: true
"""

RETURN = r"""
_raw:
  description: A message for each error.
  type: list
  elements: str
  sample: ["infrazero_s3_buckets is not a variable of this collection; did you mean infrazero_s3_bucket?"]
"""

import typing as t

from ansible.parsing.dataloader import DataLoader
from ansible.plugins.lookup import LookupBase
from ansible.utils.vars import load_extra_vars
from ansible_collections.infrazero.database.plugins.plugin_utils import variables as names

if t.TYPE_CHECKING:
    from ansible.template import Templar


class LookupModule(LookupBase):
    """Errors in the names of variables."""

    def run(self, terms: t.Sequence[str], variables: t.Mapping[str, t.Any] | None = None, **kwargs: t.Any) -> list[str]:
        """Messages about the play of which *variables* are those of one host."""
        (playbook,) = terms
        own = variables or {}
        templar = t.cast("Templar", self._templar)
        hostvars = own.get("hostvars", {})
        others = [hostvars[host] for host in own.get("ansible_play_hosts_all", ()) if host in hostvars]
        # ansible-playbook has read them already: this answers with what it keeps.
        extra = load_extra_vars(self._loader or DataLoader())
        found = {str(name) for one in (own, *others, kwargs.get("more", ())) for name in one}
        messages = names.unknown(found, extra=[str(name) for name in extra], playbook=playbook)
        pairs = [name for pair in names.OPTIONS.get(playbook, {}).items() for name in pair if name]
        # Variables of a play are not among those of other hosts, and the values of those come out templated.
        given = [{name: templar.template(own[name]) for name in pairs if name in own}]
        given += [{name: one[name] for name in pairs if name in one} for one in others]
        for values in given:
            messages += names.contradictions(values, playbook=playbook)
        return list(dict.fromkeys(messages))
