# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: databases
short_description: Databases list of a host, combined from several variables
version_added: 0.2.0
description:
  - If an inventory sets one variable in several places, Ansible uses one value and drops the others. So the list of a
    host is combined from several variables. First comes C(infrazero_databases), then every variable whose name begins
    with C(infrazero_databases_), in the alphabetical order of their names.
  - Name the variable of a group after the group, for instance C(infrazero_databases_shops), and that of a single host
    C(infrazero_databases_host).
  - Each of them is a list, or its JSON text. The entries keep their order. A database with two entries is an error,
    which P(infrazero.database.validated#filter) and the modules report.
  - The variable C(infrazero_databases_json_file) is the path of a file on the controller that holds JSON text. It is
    a part of the list like the others.
  - In an entry, C(password_file) and C(backup_age_private_key_file) are paths of files on the controller that hold the
    password and the private key.
  - A relative path is relative to the directory of the inventory. Files may be encrypted with C(ansible-vault). Line
    breaks at the end of a file are removed.
author:
  - The infrazero.database contributors (@infrazero)
options: {}
seealso:
  - plugin: infrazero.database.validated
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Show the databases of each host
  ansible.builtin.debug:
    msg: "{{ lookup('infrazero.database.databases') | map(attribute='name') }}"
"""

RETURN = r"""
_raw:
  description: One element, the list. It may contain passwords and private keys.
  type: list
  elements: list
"""

import json
import pathlib
import typing as t

from ansible.errors import AnsibleError, AnsibleLookupError
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.lookup import LookupBase
from ansible.utils.display import Display
from ansible_collections.infrazero.database.plugins.module_utils._engine import secretfiles
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.databases import with_files
from ansible_collections.infrazero.database.plugins.module_utils._engine.errors import ConfigurationError, EngineError

if t.TYPE_CHECKING:
    from ansible.template import Templar

NAME = "infrazero_databases"
#: A file that holds a part of the list.
FILE = f"{NAME}_json_file"
#: How a file begins that ansible-vault has encrypted.
_VAULT = "$ANSIBLE_VAULT;"

display = Display()


def names(variables: t.Iterable[str]) -> list[str]:
    """Those of *variables* that hold a part of the list, in their order."""
    # "infrazero_databases" is a prefix of the others, and so comes first.
    return sorted(name for name in variables if name == NAME or name.startswith(f"{NAME}_"))


def merged(parts: t.Mapping[str, object]) -> object:
    """The entries of all *parts*, by the names of their variables.

    A single part is returned unchanged, whatever it is, because the filters and modules validate it.

    :raises AnsibleLookupError: if one of several parts is not a list.
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
            # Without the value, which may contain passwords.
            raise AnsibleLookupError(f"the variable {name} is neither a list of databases nor JSON text of one")
        entries += part
    return entries


class LookupModule(LookupBase):
    """Databases list of a host."""

    def run(
        self, terms: t.Sequence[str], variables: t.Mapping[str, t.Any] | None = None, **kwargs: t.Any
    ) -> list[object]:
        """The list as the only element, for any terms."""
        known = variables or {}
        templar = t.cast("Templar", self._templar)
        parts = {name: templar.template(known[name]) for name in names(known)}
        directory = str(known.get("inventory_dir") or "")

        def read(path: str, *, named: str = "the list") -> str:
            return self._read(str(pathlib.Path(directory, pathlib.Path(path).expanduser())), named=named)

        try:
            if FILE in parts:
                path = parts.pop(FILE)
                if path:
                    parts[FILE] = read(str(path), named=FILE)
            return [with_files(merged(dict(sorted(parts.items()))), read=read, private=True, name=NAME)]
        except EngineError as exc:
            raise AnsibleLookupError(str(exc)) from None

    def _read(self, path: str, *, named: str) -> str:
        contents = secretfiles.read(path, named=named)
        if contents.exposed:
            display.warning(f"{path} holds a private key and can be read by every user: set its mode to 0600")
        if not contents.text.startswith(_VAULT):
            return contents.text
        try:
            return str((self._loader or DataLoader()).get_text_file_contents(path)).rstrip("\r\n")
        except AnsibleError as exc:
            raise ConfigurationError(
                f"{path} cannot be decrypted", cause=exc.message, hint="give the password of its vault"
            ) from None
