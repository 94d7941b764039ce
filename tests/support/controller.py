# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection's playbooks, run on this machine as on a host that has everything in a directory."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import re
import subprocess
import sys
import typing as t

from conftest import COLLECTIONS
from tests.support.interpreter import interpreter


@dataclasses.dataclass(frozen=True)
class Run:
    """A run of ansible-playbook.

    :param output: everything it printed.
    """

    status: int
    output: str

    @property
    def changed(self) -> int:
        """How many tasks changed something, on all hosts."""
        return sum(map(int, re.findall(r"^\S+ +: ok=\d+ +changed=(\d+)", self.output, re.MULTILINE)))


def good(run: Run, *, hidden: t.Iterable[str] = ()) -> Run:
    """Return *run*, which must be a success and print nothing of what is *hidden*."""
    assert run.status == 0, run.output
    for secret in hidden:
        assert secret not in run.output
    return run


def failed(run: Run) -> str:
    """Return on one line what *run* has printed, which must be a failure."""
    assert run.status != 0, run.output
    return " ".join(run.output.split())


@dataclasses.dataclass(frozen=True)
class Controller:
    """Runs playbooks.

    :param directory: of its own files.
    :param variables: of every run; given as an inventory gives them.
    """

    directory: pathlib.Path
    variables: t.Mapping[str, t.Any]

    def play(
        self,
        playbook: str,
        *arguments: str,
        hosts: t.Sequence[str] = ("host",),
        environment: t.Mapping[str, str] | None = None,
        **variables: t.Any,
    ) -> Run:
        """Run *playbook*, one of the collection by its name, or a file.

        :param arguments: more of them for ansible-playbook.
        :param hosts: of the group ``databases``.
        :param environment: variables besides the few that there are.
        :param variables: besides, or instead of, those of every run.
        """
        self.directory.mkdir(exist_ok=True)
        # Modules use it as root and as postgres, where neither the checkout nor a home is open to that one.
        remote = self.directory / "remote"
        remote.mkdir(exist_ok=True)
        remote.chmod(0o1777)
        inventory = self.directory / "inventory.json"
        common = {"ansible_connection": "local", "ansible_python_interpreter": interpreter()}
        databases = {"hosts": dict.fromkeys(hosts)}
        everything = {"children": {"databases": databases}, "vars": {**common, **self.variables, **variables}}
        inventory.write_text(json.dumps({"all": everything}), encoding="utf-8")
        name = playbook if playbook.endswith(".yml") else f"infrazero.database.{playbook}"
        done = subprocess.run(
            [sys.executable, "-m", "ansible", "playbook", "--inventory", str(inventory), name, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            cwd=self.directory,
            env={
                "PATH": f"{pathlib.Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}",
                "HOME": str(self.directory),
                "LC_ALL": "C.UTF-8",
                "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS),
                "ANSIBLE_LOCAL_TEMP": str(self.directory / "local"),
                "ANSIBLE_REMOTE_TEMP": str(remote),
                "ANSIBLE_NOCOLOR": "1",
                "ANSIBLE_PIPELINING": "1",
                **{name: os.environ[name] for name in ("PIP_INDEX_URL", "PIP_CONFIG_FILE") if name in os.environ},
                **(environment or {}),
            },
            check=False,
        )
        return Run(done.returncode, done.stdout)
