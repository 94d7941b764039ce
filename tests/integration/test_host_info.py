# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module host_info and the test has, used by Ansible as the roles use them."""

from __future__ import annotations

import getpass
import hashlib
import os
import pathlib
import pwd

import pytest

from tests.support.playbook import Task, Template, play

SALT = "canary of a salt"
SECRET = "canary of a password"


def test_a_task_is_skipped_where_the_host_has_what_is_wanted(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "db.env"
    file.write_text(f"{SECRET}\n", encoding="utf-8")
    file.chmod(0o600)
    wanted = f"path, type='file', owner='{getpass.getuser()}', mode='0600', salt='{SALT}', content"
    compare = [
        Template(f"{{{{ result_1 is infrazero.database.has({wanted}=text) }}}}"),
        Template(f"{{{{ result_1 is infrazero.database.has({wanted}=text ~ ' ') }}}}"),
    ]
    played = play(
        Task("host_info", {"paths": [str(file)], "salt": SALT}),
        Task("host_info", {"paths": [str(file)], "salt": SALT}, check=True, diff=True),
        *(Task("ansible.builtin.debug", {"msg": template}) for template in compare),
        variables={"path": str(file), "text": f"{SECRET}\n"},
    )
    first, second, *compared = played.results
    assert [result["changed"] for result in played.results] == [False] * 4
    assert first["paths"] == second["paths"]
    assert [result["msg"] for result in compared] == [True, False]
    # Neither the salt nor anything that a guess could be compared with, but by somebody who knows the salt.
    results = played.output.partition("TASK [ansible.builtin.debug]")[0]
    assert first["paths"][str(file)]["digest"] in results
    for hidden in (SALT, SECRET, hashlib.sha256(f"{SECRET}\n".encode()).hexdigest()):
        assert hidden not in results


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can ask for another user")
def test_what_a_user_cannot_reach(tmp_path: pathlib.Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    options = {"user": "nobody", "reachable": [f"{closed}/opt"], "commands": ["sh"]}
    (result,) = play(Task("host_info", options)).results
    assert result["user"]["uid"] == pwd.getpwnam("nobody").pw_uid
    assert str(closed).startswith(result["closed"][f"{closed}/opt"])
    assert result["commands"]["sh"].endswith("/sh")
