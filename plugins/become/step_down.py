# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: step_down
short_description: Become a less privileged user, with runuser as root and with sudo otherwise
version_added: 0.1.0
description:
  - A task that runs as C(postgres) does not need C(sudo) if the connection is root's. This plugin then switches the
    user with C(runuser). For any other connection it calls C(sudo).
  - Unlike P(ansible.builtin.su#become), it works with pipelining, so that the arguments of a module, which may include
    private keys, are never written to a file on the host.
author:
  - The infrazero.database contributors (@infrazero)
options:
  become_user:
    description: User to become.
    type: str
    default: root
    ini:
      - section: privilege_escalation
        key: become_user
    vars:
      - name: ansible_become_user
    env:
      - name: ANSIBLE_BECOME_USER
    keyword:
      - name: become_user
  become_exe:
    description: The sudo program.
    type: str
    default: sudo
    vars:
      - name: ansible_become_exe
    keyword:
      - name: become_exe
  become_flags:
    description: Options of sudo.
    type: str
    default: -H -S -n
    vars:
      - name: ansible_become_flags
    keyword:
      - name: become_flags
  become_pass:
    description: Password that sudo asks for.
    type: str
    vars:
      - name: ansible_become_password
      - name: ansible_become_pass
    env:
      - name: ANSIBLE_BECOME_PASS
  sudo_chdir:
    description: Directory to change to before sudo is called.
    type: str
    vars:
      - name: ansible_sudo_chdir
"""

import shlex
import typing as t

from ansible.plugins.become.sudo import BecomeModule as Sudo


class BecomeModule(Sudo):
    """Like ansible.builtin.sudo, but without sudo where root connects."""

    name = "infrazero.database.step_down"

    def build_become_command(self, cmd: str, shell: t.Any) -> str:
        """A command for a POSIX shell that runs *cmd* as the user."""
        by_sudo = super().build_become_command(cmd, shell)
        if not cmd:
            return cmd
        user = shlex.quote(self.get_option("become_user"))
        by_runuser = f"runuser -s /bin/sh {user} -c {shlex.quote(self._build_success_command(cmd, shell))}"
        return f'if [ "$(id -u)" -eq 0 ]; then {by_runuser}; else {by_sudo}; fi'
