# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whoever is connected, the command runs as the user that was asked for."""

from __future__ import annotations

import os
import pathlib
import subprocess
import typing as t

import pytest
from ansible.plugins.shell.sh import ShellModule
from ansible_collections.infrazero.database.plugins.become.step_down import BecomeModule

COMMAND = "printf '%s|' \"$(id -un)\" 'it'\"'\"'s' \"$HOME\""


def command(*, sudo: str = "sudo") -> str:
    plugin = BecomeModule()
    options = {"become_user": "postgres", "become_exe": sudo, "become_flags": "-H -S -n"}
    plugin.get_option = lambda name, **_others: options.get(name)
    shell = ShellModule()
    shell.executable = "/bin/sh"
    return str(plugin.build_become_command(COMMAND, shell))


def run(command: str, **options: t.Any) -> str:
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=True, **options)
    assert done.stdout.startswith("BECOME-SUCCESS-")
    return str(done.stdout.partition("\n")[2])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can step down")
def test_root_needs_no_sudo() -> None:
    home = pathlib.Path("~postgres").expanduser()
    assert run(command(sudo="/nonexistent")) == f"postgres|it's|{home}|"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can step down, to see what others get")
def test_others_go_by_sudo() -> None:
    sudo = pathlib.Path("/tmp") / f"sudo-{os.getpid()}"
    sudo.write_text('#!/bin/sh\nshift 3\n[ "$1 $2" = "-u postgres" ] || exit 9\nshift 2\nexec "$@"\n')
    sudo.chmod(0o755)
    try:
        said = run(command(sudo=str(sudo)), user="nobody", group="nogroup", extra_groups=[], env={"HOME": "/"})
    finally:
        sudo.unlink()
    assert said == "nobody|it's|/|"
