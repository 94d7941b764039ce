# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible callback that lists the tasks which cost a round trip to a host, one line each."""

from __future__ import annotations

import os
import pathlib
import typing as t

from ansible.plugins.callback import CallbackBase

#: What Ansible does without asking a host.
ON_THE_CONTROLLER = {
    "assert",
    "debug",
    "fail",
    "include_role",
    "include_tasks",
    "include_vars",
    "meta",
    "set_fact",
    "validate_argument_spec",
}


class CallbackModule(CallbackBase):
    """Appends to the file that REMOTE_TASKS names: a tab-separated host, module and name of the task."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "remote_tasks"
    CALLBACK_NEEDS_ENABLED = True

    def _note(self, result: t.Any) -> None:
        task = result.task
        action = task.action.rpartition(".")[2]
        if action in ON_THE_CONTROLLER or task.delegate_to == "localhost":
            return
        with pathlib.Path(os.environ["REMOTE_TASKS"]).open("a", encoding="utf-8") as stream:
            stream.write(f"{result.host.name}\t{action}\t{task.get_name()}\n")

    def v2_runner_on_ok(self, result: t.Any) -> None:
        if result.task.loop is None:  # or else its items have been noted
            self._note(result)

    def v2_runner_on_failed(self, result: t.Any, ignore_errors: bool = False) -> None:
        self._note(result)

    def v2_runner_item_on_ok(self, result: t.Any) -> None:
        self._note(result)
