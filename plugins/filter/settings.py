# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Settings of a host, on their way from variables to db.env."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError
from ansible_collections.infrazero.database.plugins.module_utils._engine import secretfiles, settings
from ansible_collections.infrazero.database.plugins.module_utils._engine.errors import EngineError


def db_env(value: t.Mapping[str, t.Any]) -> dict[str, str]:
    """Settings that differ from their defaults, as texts by their names in ``db.env``.

    :param value: settings by those names, and paths by the names of files that hold secrets (``S3_..._FILE``); empty
        texts and ``None`` are not set.
    :raises AnsibleFilterError: naming the variable that is not valid, as an inventory and as a role have it.
    """
    lines = {}
    files = {secret + secretfiles.SUFFIX: secret for secret in settings.in_files(settings.STORED)}
    for name, given in value.items():
        if name in files:
            if given:
                lines[name] = _path(given, settings.STORED[files[name]], beside=value.get(files[name]))
            continue
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


def _path(given: t.Any, row: settings.Setting, *, beside: t.Any) -> str:
    """The path of the host's file that holds a secret; *beside*: the secret itself, which must not be set, too."""
    variable = f"infrazero_{row.variable}"
    if beside:
        raise AnsibleFilterError(f"{variable} and {variable}_file are both set; set only one of them")
    path = str(given)
    if not path.startswith("/") or not path.isprintable():
        raise AnsibleFilterError(f"{variable}_file is not an absolute path: name a file on the host")
    return path


class FilterModule:
    """The filters."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """By name."""
        return {"db_env": db_env}
