# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: options
short_description: Options of a module, from the variables of the inventory
version_added: 0.2.0
description:
  - Collects the C(infrazero_*) variables of a host that are settings, and returns them as options of a module of this
    collection. Variables that are not defined or empty are left out, so that the module finds the rest in the host's
    own configuration.
  - The option C(config) is always there. It is C(infrazero_config_directory), or C(/etc/infrazero).
author:
  - The infrazero.database contributors (@infrazero)
options:
  _terms:
    description:
      - Names of modules, without the name of the collection.
    type: list
    elements: str
    required: true
seealso:
  - plugin: infrazero.database.databases
    plugin_type: lookup
"""

EXAMPLES = r"""
- name: Back databases up as the inventory and the host say
  infrazero.database.age_backup:
  module_defaults:
    infrazero.database.age_backup: "{{ lookup('infrazero.database.options', 'age_backup') }}"
"""

RETURN = r"""
_raw:
  description: One element for each module, its options. They may hold credentials.
  type: list
  elements: dict
"""

import typing as t

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase
from ansible_collections.infrazero.database.plugins.module_utils._engine import settings

if t.TYPE_CHECKING:
    from ansible.template import Templar


def variables_of(module: str) -> dict[str, str]:
    """Names of the options of *module* by the variables that set them.

    :raises AnsibleLookupError: for a module that has no settings.
    """
    if module not in settings.MODULES:
        raise AnsibleLookupError(f"{module} is not a module with settings; there are {', '.join(settings.MODULES)}")
    return {
        f"infrazero_{row.variable}": row.option
        for row in settings.TABLE
        if row.section in settings.MODULES[module] and row.option is not None and row.variable is not None
    }


class LookupModule(LookupBase):
    """The options of modules."""

    def run(
        self, terms: t.Sequence[str], variables: t.Mapping[str, t.Any] | None = None, **kwargs: t.Any
    ) -> list[dict[str, t.Any]]:
        """One dictionary for each of *terms*."""
        known = variables or {}
        templar = t.cast("Templar", self._templar)

        def value(name: str) -> t.Any:
            return templar.template(known[name]) if name in known else None

        def options(module: str) -> dict[str, t.Any]:
            given = {option: value(name) for name, option in variables_of(module).items()}
            given = {option: each for option, each in given.items() if each not in (None, "")}
            if "directory" in given:
                # As on the host: a directory comes before a bucket.
                given.pop("bucket", None)
            return {"config": value("infrazero_config_directory") or settings.DIRECTORY, **given}

        return [options(str(module)) for module in terms]
