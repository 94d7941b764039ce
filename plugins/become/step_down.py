# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: step_down
short_description: Become a less privileged user, by runuser as root and by sudo otherwise
version_added: 0.1.0
description:
  - A task that is to run as C(postgres) needs no C(sudo) where the connection is root's already. This plugin steps down
    with C(runuser) then, and calls C(sudo) for any other user.
  - Unlike P(ansible.builtin.su#become) it works with pipelining, so that the arguments of a module, which may hold
    private keys, are never a file on the host.
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
    """As ansible.builtin.sudo, but without sudo where there is nothing to ask it for."""

    name = "infrazero.database.step_down"

    def build_become_command(self, cmd: str, shell: t.Any) -> str:
        """*cmd*, to be run as the user by a POSIX shell."""
        by_sudo = super().build_become_command(cmd, shell)
        if not cmd:
            return cmd
        user = shlex.quote(self.get_option("become_user"))
        by_runuser = f"runuser -s /bin/sh {user} -c {shlex.quote(self._build_success_command(cmd, shell))}"
        return f'if [ "$(id -u)" -eq 0 ]; then {by_runuser}; else {by_sudo}; fi'
