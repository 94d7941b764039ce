# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: from_environment
short_description: A secret from the environment, or from a file that it names
version_added: 0.2.0
description:
  - Returns the value of an environment variable of C(ansible-playbook), such as C(DATABASES_JSON_PRIVATE_B64), or the
    contents of the file that the variable with C(_FILE) at the end of its name names.
  - Fails if both are set, and if the file cannot be read or is empty. Line breaks at its end are removed.
author:
  - The infrazero.database contributors (@infrazero)
options:
  _terms:
    description: Names of environment variables.
    type: list
    elements: str
    required: true
seealso:
  - plugin: ansible.builtin.env
    plugin_type: lookup
"""

EXAMPLES = r"""
- name: Show how long the private list is
  ansible.builtin.debug:
    msg: "{{ lookup('infrazero.database.from_environment', 'DATABASES_JSON_PRIVATE_B64') | length }}"
"""

RETURN = r"""
_raw:
  description: One text for each variable. It is empty if neither the variable nor its file is set.
  type: list
  elements: str
"""

import os
import typing as t

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase
from ansible.utils.display import Display
from ansible_collections.infrazero.database.plugins.module_utils._engine import secretfiles
from ansible_collections.infrazero.database.plugins.module_utils._engine.errors import EngineError

display = Display()


class LookupModule(LookupBase):
    """Secrets from the environment."""

    def run(self, terms: t.Sequence[str], variables: t.Mapping[str, t.Any] | None = None, **kwargs: t.Any) -> list[str]:
        """One text for each of *terms*."""
        try:
            found, warnings = secretfiles.resolve(os.environ, terms, directory="", named="{} in the environment")
        except EngineError as exc:
            raise AnsibleLookupError(str(exc)) from None
        for warning in warnings:
            display.warning(warning)
        return [found.get(name, "") for name in terms]
