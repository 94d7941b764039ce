# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The linters, one session each, in the environment that nox itself runs in. `make lint` runs them all."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys

import antsibull_nox
import nox

ROOT = pathlib.Path(__file__).resolve().parent
STATE = ROOT / ".ansible"
COLLECTIONS = STATE / "collections"

nox.options.default_venv_backend = "none"

# Tools come from beside nox, also where it was called by its path alone.
os.environ["PATH"] = os.pathsep.join([str(pathlib.Path(sys.executable).parent), os.environ["PATH"]])
os.environ["ANSIBLE_HOME"] = str(STATE)
os.environ["ANSIBLE_COLLECTIONS_PATH"] = str(COLLECTIONS)

antsibull_nox.load_antsibull_nox_toml()


def shell_scripts() -> list[str]:
    """Files of the checkout that begin as a bash script does."""
    listed = subprocess.run(
        ["git", "grep", "-lz", "--untracked", "--fixed-strings", "#!/usr/bin/env bash"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    paths = [pathlib.Path(path) for path in listed.split("\0") if path]
    return [str(path) for path in paths if (ROOT / path).read_bytes().startswith(b"#!/usr/bin/env bash\n")]


@nox.session
def ruff(session: nox.Session) -> None:
    """Errors and style of Python."""
    session.run("ruff", "check", "--quiet", ".")
    session.run("ruff", "format", "--check", "--quiet", ".")


@nox.session
def mypy(session: nox.Session) -> None:
    """Types: strict for everything that is installed, less so for tests and demo."""
    options = [f"--config-file={ROOT / 'pyproject.toml'}", f"--cache-dir={ROOT / '.mypy_cache'}"]
    with session.chdir(COLLECTIONS):
        session.run("mypy", *options, "--package=ansible_collections.infrazero.database.plugins")
    session.run("mypy", *options, "conftest.py", "demo", "tests", env={"MYPYPATH": str(COLLECTIONS)})


@nox.session
def yamllint(session: nox.Session) -> None:
    """Style of YAML."""
    session.run("yamllint", "--strict", ".")


@nox.session
def shellcheck(session: nox.Session) -> None:
    """Errors in shell scripts."""
    session.run("shellcheck", *shell_scripts())


@nox.session(name="ansible-lint")
def ansible_lint(session: nox.Session) -> None:
    """Roles and playbooks, at the strictest profile."""
    session.run("ansible-lint", "-q", "--nocolor")


@nox.session
def docs(session: nox.Session) -> None:
    """Documentation of plugins and roles: complete, and its references resolve."""
    session.run(
        "antsibull-docs",
        "lint-collection-docs",
        "--plugin-docs",
        "--validate-collection-refs=all",
        "--disallow-unknown-collection-refs",
        ".",
    )


@nox.session
def changelog(session: nox.Session) -> None:
    """Fragments of the changelog."""
    session.run("antsibull-changelog", "lint")


@nox.session
def importer(session: nox.Session) -> None:
    """The built collection, as Galaxy would import it: no error, no warning."""
    build = STATE / "build"
    shutil.rmtree(build, ignore_errors=True)
    session.run("ansible-galaxy", "collection", "build", "--output-path", str(build))
    (tarball,) = build.glob("*.tar.gz")
    with session.chdir(build):
        report = session.run(
            *("python", "-m", "galaxy_importer.main", tarball.name),
            # It has a session of its own.
            env={"GALAXY_IMPORTER_RUN_ANSIBLE_LINT": "false"},
            silent=True,
        )
    complaints = [line for line in str(report).splitlines() if line.startswith(("ERROR", "WARNING"))]
    if complaints:
        session.error("\n".join(complaints))


@nox.session
def sanity(session: nox.Session) -> None:
    """ansible-test sanity, with every Python for hosts that this machine has."""
    session.run("scripts/sanity")
