# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Debian's packages, downloaded and not installed: apt works with lists and a cache of its own."""

from __future__ import annotations

import pathlib
import re
import subprocess
import typing as t

KEYRING = pathlib.Path("/usr/share/keyrings/debian-archive-keyring.gpg")
REPOSITORIES = (
    ("http://deb.debian.org/debian", ("{}", "{}-updates")),
    ("http://deb.debian.org/debian-security", ("{}-security",)),
)


class AptError(Exception):
    """A package cannot be had; the text says why."""


def release() -> str:
    """Return the code name of the Debian that this machine runs."""
    text = pathlib.Path("/etc/os-release").read_text(encoding="utf-8")
    name = re.search(r"^VERSION_CODENAME=(\w+)$", text, re.MULTILINE)
    if name is None or not re.search(r"^ID=debian$", text, re.MULTILINE):
        raise AptError("this machine does not run Debian")
    return name[1]


class Apt:
    """The packages of one release of Debian, whatever this machine runs.

    :param place: a directory for apt's lists and cache.
    """

    def __init__(self, place: pathlib.Path, name: str) -> None:
        for part in ("lists/partial", "archives/partial"):
            (place / part).mkdir(parents=True, exist_ok=True)
        if not KEYRING.exists():
            raise AptError(f"{KEYRING} is missing: install the package debian-archive-keyring")
        lines = [
            f"{kind} [signed-by={KEYRING}] {address} {suite.format(name)} main"
            for address, suites in REPOSITORIES
            for suite in suites
            for kind in ("deb", "deb-src")
        ]
        (place / "sources.list").write_text("\n".join(lines) + "\n", encoding="utf-8")
        (place / "status").touch()
        settings = {
            "Dir::Etc::SourceList": place / "sources.list",
            "Dir::Etc::SourceParts": "/dev/null",
            "Dir::Etc::Preferences": "/dev/null",
            "Dir::Etc::PreferencesParts": "/dev/null",
            "Dir::State::Lists": place / "lists",
            "Dir::State::Status": place / "status",
            "Dir::Cache": place,
            # The user _apt need not be able to reach the checkout.
            "APT::Sandbox::User": "root",
        }
        self._options = [f"--option={name}={value}" for name, value in settings.items()]
        run("apt-get", *self._options, "--quiet", "update")

    def download(self, packages: t.Sequence[str], into: pathlib.Path) -> None:
        """Download binary packages, as NAME or NAME=VERSION."""
        into.mkdir(parents=True, exist_ok=True)
        run("apt-get", *self._options, "--quiet", "download", *packages, directory=into)

    def download_source(self, package: str, into: pathlib.Path) -> None:
        """Download the source of a package, as NAME=VERSION."""
        into.mkdir(parents=True, exist_ok=True)
        run("apt-get", *self._options, "--quiet", "source", "--download-only", package, directory=into)


def unpack(package: pathlib.Path, into: pathlib.Path) -> None:
    """Unpack the files of a downloaded package."""
    run("dpkg-deb", "--extract", str(package), str(into))


def run(*command: str, directory: pathlib.Path | None = None) -> str:
    """Run a command and return what it printed.

    :raises AptError: with its errors, or because it is missing.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=directory)
    except FileNotFoundError:
        raise AptError(f"{command[0]} is missing") from None
    if done.returncode:
        raise AptError(f"{command[0]} ended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout
