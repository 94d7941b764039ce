# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which tasks of a play cost a round trip to a host."""

from __future__ import annotations

import pathlib


class RemoteTasks:
    """The tasks that hosts were asked to run, in plays whose ansible-playbook is given this *environment*."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path
        self.environment = {
            "ANSIBLE_CALLBACK_PLUGINS": str(pathlib.Path(__file__).with_name("callbacks")),
            "ANSIBLE_CALLBACKS_ENABLED": "remote_tasks",
            "REMOTE_TASKS": str(path),
        }

    def modules(self, host: str) -> list[str]:
        """The modules that ran on *host*, one for each task or item of a loop that was not skipped."""
        lines = [line.split("\t") for line in self.path.read_text(encoding="utf-8").splitlines()]
        return [module for name, module, _task in lines if name == host]
