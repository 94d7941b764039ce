# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible itself, run on this machine with the collection of this checkout."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import typing as t

import yaml

from conftest import COLLECTIONS
from tests.support.interpreter import interpreter

_NAMESPACE = "infrazero.database"


class Template(str):
    """A text in the arguments of a task that is a template."""


@dataclasses.dataclass(frozen=True)
class Task:
    """One task.

    :param module: its name in the collection, or a full name.
    :param arguments: texts are taken as they stand, a ``{{`` in them is no template; but see :class:`Template`.
    """

    module: str
    arguments: t.Mapping[str, t.Any] = dataclasses.field(default_factory=dict)
    check: bool = False
    diff: bool = False


@dataclasses.dataclass(frozen=True)
class Played:
    """What came of a play.

    :param results: of each task, also of those that failed.
    :param output: everything that Ansible printed, at its most talkative.
    """

    results: list[dict[str, t.Any]]
    output: str


class _Literal(str):
    """A text that Ansible doesn't take for a template."""


class _Dumper(yaml.SafeDumper):
    pass


_Dumper.add_representer(_Literal, lambda dumper, text: dumper.represent_scalar("!unsafe", str(text), style='"'))
_Dumper.ignore_aliases = lambda *_: True  # type: ignore[method-assign]


def _literal(value: t.Any) -> t.Any:
    if isinstance(value, Template):
        return str(value)
    if isinstance(value, str):
        return _Literal(value)
    if isinstance(value, t.Mapping):
        return {key: _literal(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_literal(item) for item in value]
    return value


def play(*tasks: Task, variables: t.Mapping[str, t.Any] | None = None) -> Played:
    """Run *tasks* one after the other on localhost, with this interpreter; one that fails doesn't stop the others.

    :param variables: of the play; taken as they stand too.
    """
    names = [f"result_{number}" for number in range(len(tasks))]
    with tempfile.TemporaryDirectory() as temporary:
        directory = pathlib.Path(temporary)
        steps: list[dict[str, t.Any]] = [
            {
                task.module if "." in task.module else f"{_NAMESPACE}.{task.module}": _literal(task.arguments),
                "register": name,
                "check_mode": task.check,
                "diff": task.diff,
                "ignore_errors": True,
            }
            for name, task in zip(names, tasks)
        ]
        gather = "{{ [" + ", ".join(names) + "] | ansible.builtin.to_json }}"
        steps.append(
            {
                "ansible.builtin.copy": {"dest": str(directory / "results"), "mode": "0600", "content": gather},
                "no_log": True,
            }
        )
        (directory / "play.yml").write_text(
            yaml.dump(
                [{"hosts": "localhost", "gather_facts": False, "vars": _literal(variables or {}), "tasks": steps}],
                Dumper=_Dumper,
                allow_unicode=True,
                sort_keys=False,
            ),
            encoding="utf-8",
        )
        done = subprocess.run(
            [
                *(sys.executable, "-m", "ansible", "playbook", "-vvvvv", "--inventory", "localhost,"),
                *("--connection", "local", "--extra-vars", f"ansible_python_interpreter={interpreter()}"),
                str(directory / "play.yml"),
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            encoding="utf-8",
            cwd=directory,
            env={
                "PATH": f"{pathlib.Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}",
                "HOME": str(directory),
                "LC_ALL": "C.UTF-8",
                "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS),
                "ANSIBLE_LOCAL_TEMP": str(directory / "local"),
                "ANSIBLE_REMOTE_TEMP": str(directory / "remote"),
                "ANSIBLE_NOCOLOR": "1",
                "ANSIBLE_PIPELINING": "1",
            },
            check=False,
        )
        output = done.stdout + done.stderr
        if done.returncode:
            raise AssertionError(f"ansible-playbook ended with {done.returncode}:\n{output}")
        return Played(json.loads((directory / "results").read_text(encoding="utf-8")), output)
