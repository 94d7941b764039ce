# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: validation
short_description: Validate the variables of a host without connecting to it
version_added: 0.2.0
description:
  - Validates the list of databases of a host and every C(infrazero_*) and C(runtime_*) variable that is a setting, and
    returns all errors at once. A variable that cannot be templated is an error, too.
  - No message contains a secret.
author:
  - The infrazero.database contributors (@infrazero)
options:
  _terms:
    description:
      - Name of the variable that holds the list, as a list, as JSON text, or as the base64 of that, and name of the
        variable that holds what to say if it is empty.
    type: list
    elements: str
    required: true
seealso:
  - plugin: infrazero.database.validated
    plugin_type: filter
  - plugin: infrazero.database.variable_errors
    plugin_type: lookup
"""

EXAMPLES = r"""
- name: Refuse invalid variables
  ansible.builtin.assert:
    that: report.errors | length == 0
    fail_msg: "{{ report.errors }}"
    quiet: true
  vars:
    databases: "{{ lookup('infrazero.database.databases') }}"
    missing: There is no list.
    report: "{{ lookup('infrazero.database.validation', 'databases', 'missing') }}"
"""

RETURN = r"""
_raw:
  description: One element, the report.
  type: list
  elements: dict
  contains:
    databases:
      description: Names of the databases. Empty if the list is not valid.
      type: list
      elements: str
    errors:
      description: One text for each error.
      type: list
      elements: str
      sample: ["entry 2 (shop), user: is missing (give the name of the role)"]
    warnings:
      description: One text for each warning.
      type: list
      elements: str
    places:
      description: Where the backups of the databases are stored, for P(infrazero.database.shared_places#filter).
      type: list
      elements: str
"""

import dataclasses
import platform
import typing as t

from ansible.errors import AnsibleError
from ansible.plugins.lookup import LookupBase
from ansible_collections.infrazero.database.plugins.plugin_utils import validation

if t.TYPE_CHECKING:
    from ansible.template import Templar


class LookupModule(LookupBase):
    """Errors in the variables of a host."""

    def run(
        self, terms: t.Sequence[str], variables: t.Mapping[str, t.Any] | None = None, **kwargs: t.Any
    ) -> list[dict[str, t.Any]]:
        """The report as the only element."""
        listed, missing = terms
        known = variables or {}
        errors: list[str] = []

        def value(name: str) -> t.Any:
            """The value of a variable; ``None``: it cannot be templated."""
            try:
                found = t.cast("Templar", self._templar).template(known[name])
                return "" if found is None else found
            except AnsibleError as exc:
                errors.append(f"{name} cannot be templated: {_first_cause(exc)}")
            except Exception as exc:  # noqa: BLE001 - its text may hold the value
                errors.append(f"{name} cannot be templated: {type(exc).__name__}")
            return None

        names = {**validation.setting_variables(), **validation.file_variables()}
        given = {name: value(name) for name in names if name in known}
        before = len(errors)
        source = value(listed)
        # The reason has been recorded by then.
        nothing = str(value(missing)) if not source and len(errors) == before else ""
        report = validation.examine(
            given,
            source,
            host=str(known.get("inventory_hostname", "")),
            node=platform.node(),
            missing=nothing,
        )
        report.errors = [*errors, *(error for error in report.errors if error)]
        return [dataclasses.asdict(report)]


def _first_cause(error: BaseException) -> str:
    """What went wrong, without what was done at that time; of an error that is not Ansible's, the kind alone."""
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(str(error).split()) if isinstance(error, AnsibleError) else type(error).__name__
