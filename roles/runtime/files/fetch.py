# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Download the wheels that a host with another Python needs and that are missing, from pip's index to the controller.

fetch.py REQUIREMENTS PYTHON MACHINE DIRECTORY, as in `fetch.py requirements.txt 3.9 x86_64 wheels`.

pip chooses wheels for the Python that it is given, but evaluates markers for its own Python (pypa/pip#11664):
requirements that the host does not need are removed first.
"""

from __future__ import annotations

import hashlib
import pathlib
import re
import subprocess
import sys

from packaging.requirements import Requirement
from packaging.tags import compatible_tags, cpython_tags
from packaging.utils import InvalidWheelFilename, parse_wheel_filename

PLATFORMS = ("manylinux_2_28", "manylinux_2_17", "manylinux2014")


def needed(text: str, python: str, machine: str) -> list[str]:
    """The requirements in *text* of a host with *python* (such as 3.9) on *machine*, without markers."""
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
    return lines


def missing(lines: list[str], python: str, machine: str, directory: pathlib.Path) -> list[str]:
    """Those of *lines* for which *directory* has no wheel with one of the hashes that the host can use."""
    version = tuple(map(int, python.split(".")))
    platforms = [f"{platform}_{machine}" for platform in PLATFORMS]
    usable = {*cpython_tags(version, platforms=platforms), *compatible_tags(version, platforms=platforms)}
    present = set()
    for wheel in directory.glob("*.whl"):
        try:
            if usable & parse_wheel_filename(wheel.name)[3]:
                present.add(f"--hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}")
        except InvalidWheelFilename:  # not a wheel of ours
            continue
    return [line for line in lines if present.isdisjoint(line.split()[1:])]


def main(requirements: str, python: str, machine: str, directory: str) -> int:
    """Download the wheels; return pip's exit status."""
    lines = needed(pathlib.Path(requirements).read_text(encoding="utf-8"), python, machine)
    lines = missing(lines, python, machine, pathlib.Path(directory))
    if not lines:
        return 0
    options = ["--quiet", "--no-input", "--disable-pip-version-check", "--no-deps", "--require-hashes"]
    options += ["--only-binary=:all:", "--implementation=cp", f"--python-version={python}"]
    options += [f"--abi=cp{python.replace('.', '')}", "--abi=abi3", "--abi=none"]
    options += [f"--platform={platform}_{machine}" for platform in PLATFORMS]
    return subprocess.run(
        [sys.executable, "-m", "pip", "download", *options, f"--dest={directory}", "--requirement=/dev/stdin"],
        input="\n".join(lines),
        text=True,
        check=False,
    ).returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
