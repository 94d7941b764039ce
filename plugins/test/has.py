# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Test: whether a host has a path as it should be, by what the module host_info has answered."""

from __future__ import annotations

DOCUMENTATION = r"""
name: has
short_description: Whether a path of a host already is as it should be
version_added: 0.2.0
description:
  - Compares a result of M(infrazero.database.host_info) with the desired state of one path, on the controller. A task
    that would change nothing can then be skipped without asking the host again.
  - Every option that is given must be met. A path that the result does not describe never is, so that the task runs.
author:
  - The infrazero.database contributors (@infrazero)
positional: _input, path
options:
  _input:
    description: A registered result of M(infrazero.database.host_info).
    type: dict
    required: true
  path:
    description: The path.
    type: str
    required: true
  exists:
    description: Whether there is something at the path.
    type: bool
    default: true
  type:
    description: What it is, V(file), V(directory) or V(link).
    type: str
  owner:
    description: Name of the user that it belongs to.
    type: str
  group:
    description: Name of the group that it belongs to.
    type: str
  mode:
    description: Permissions as four octal digits.
    type: str
  target:
    description: Target of a symbolic link.
    type: str
  content:
    description: Contents of a regular file. Needs O(salt).
    type: str
  salt:
    description: The salt that M(infrazero.database.host_info) was called with.
    type: str
seealso:
  - module: infrazero.database.host_info
"""

EXAMPLES = r"""
- name: Create the directory
  ansible.builtin.file:
    path: /opt/infrazero/db
    state: directory
    owner: root
    mode: "0755"
  when: host is not infrazero.database.has('/opt/infrazero/db', type='directory', owner='root', mode='0755')
"""

RETURN = r"""
_value:
  description: Whether the path is as it should be.
  type: bool
"""

import hashlib
import hmac
import typing as t

from ansible.errors import AnsibleFilterError


def has(host: t.Mapping[str, t.Any], path: str, *, exists: bool = True, **wanted: str) -> bool:
    """Whether *path* is as *wanted* in the answer of host_info."""
    if unknown := set(wanted) - {"type", "owner", "group", "mode", "target", "content", "salt"}:
        raise AnsibleFilterError(f"infrazero.database.has: {', '.join(sorted(unknown))} is not an option")
    content, salt = wanted.pop("content", None), wanted.pop("salt", None)
    if content is not None:
        if not salt:
            raise AnsibleFilterError("infrazero.database.has: content needs the salt that host_info was called with")
        wanted["digest"] = hmac.new(salt.encode(), content.encode(), hashlib.sha256).hexdigest()
    found = (host.get("paths") or {}).get(path) or {}
    return found.get("exists") is exists and all(found.get(name) == value for name, value in wanted.items())


class TestModule:
    """Tests of infrazero.database."""

    def tests(self) -> dict[str, t.Callable[..., bool]]:
        """By name."""
        return {"has": has}
