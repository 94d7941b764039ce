# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run on the controller: the wheels that a host with another Python needs, from the index that pip is configured for.

fetch.py REQUIREMENTS PYTHON MACHINE DIRECTORY, as in `fetch.py requirements.txt 3.9 x86_64 wheels`.

pip chooses wheels for the Python that it is told, but goes by its own Python where a requirement depends on one
(pypa/pip#11664): the list is reduced to what the host needs before.
"""

from __future__ import annotations

import pathlib
import re
import subprocess
import sys

from packaging.requirements import Requirement


def needed(text: str, python: str, machine: str) -> str:
    """The requirements of *text* for a host with *python* (such as 3.9) on *machine*, without conditions."""
    environment = {
        "implementation_name": "cpython",
        "os_name": "posix",
        "platform_machine": machine,
        "platform_python_implementation": "CPython",
        "platform_system": "Linux",
        "python_full_version": f"{python}.0",
        "python_version": python,
        "sys_platform": "linux",
    }
    lines = []
    for line in re.sub(r"(?m)\\\n|^\s*#.*", "", text).splitlines():
        wanted, *hashes = re.split(r"\s+(?=--hash=)", line.strip())
        if wanted:
            requirement = Requirement(wanted)
            if requirement.marker is None or requirement.marker.evaluate(environment):
                lines.append(" ".join([f"{requirement.name}{requirement.specifier}", *hashes]))
    return "".join(f"{line}\n" for line in lines)


def main(requirements: str, python: str, machine: str, directory: str) -> int:
    """Fetch them; pip's exit status."""
    options = ["--quiet", "--no-input", "--disable-pip-version-check", "--no-deps", "--require-hashes"]
    options += ["--only-binary=:all:", "--implementation=cp", f"--python-version={python}"]
    options += [f"--abi=cp{python.replace('.', '')}", "--abi=abi3", "--abi=none"]
    options += [f"--platform={tag}_{machine}" for tag in ("manylinux_2_28", "manylinux_2_17", "manylinux2014")]
    return subprocess.run(
        [sys.executable, "-m", "pip", "download", *options, f"--dest={directory}", "--requirement=/dev/stdin"],
        input=needed(pathlib.Path(requirements).read_text(encoding="utf-8"), python, machine),
        text=True,
        check=False,
    ).returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
