# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine's rooms: which one may know which, and that the whole of it runs where Ansible is not."""

from __future__ import annotations

import ast
import os
import pathlib
import shutil
import subprocess
import sys
import sysconfig
import typing as t

import pytest

from conftest import ROOT

ENGINE = ROOT / "plugins" / "module_utils" / "_engine"
FILES = sorted(ENGINE.rglob("*.py"))

#: Rooms from the inside out. Each may know those before it; of those in one line, none knows another.
LAYERS: tuple[frozenset[str], ...] = (
    frozenset({"printing"}),
    frozenset({"errors", "reporting"}),
    frozenset({"domain"}),
    frozenset({"postgres", "stores", "streams", "trust"}),
)
USE_CASES = len(LAYERS)

#: What a host has besides the standard library: roles/runtime/files/requirements.in.
LIBRARIES = {"boto3", "botocore", "s3transfer", "isal", "psycopg2", "pyrage", "tqdm", "urllib3", "xxhash", "zstandard"}


def room(path: pathlib.PurePath) -> str:
    """The room that a file of the engine stands in; a use case is one of its own."""
    return path.relative_to(ENGINE).with_suffix("").parts[0]


def layer(name: str) -> int:
    """How far out a room is."""
    return next((number for number, rooms in enumerate(LAYERS) if name in rooms), USE_CASES)


def imported(path: pathlib.Path) -> t.Iterator[tuple[int, tuple[str, ...]]]:
    """Line and absolute place within the engine of everything that *path* imports from it."""
    package = path.relative_to(ENGINE).parent.parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            assert node.level <= len(package) + 1, f"{path}:{node.lineno} leaves the engine"
            base = package[: len(package) + 1 - node.level] + tuple(
                (node.module or "").split(".") if node.module else ()
            )
            for alias in node.names:
                yield node.lineno, (*base, alias.name)


def outside(path: pathlib.Path) -> t.Iterator[tuple[int, str]]:
    """Line and top-level name of everything that *path* imports from elsewhere when it runs."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for_types = [
        node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
    ]
    idle = {node for block in for_types for statement in block.body for node in ast.walk(statement)}
    for node in set(ast.walk(tree)) - idle:
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name.partition(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.lineno, (node.module or "").partition(".")[0]


def test_finds_the_engine() -> None:
    assert {room(path) for path in FILES} > {"errors", "domain", "postgres", "stores", "streams", "backup", "restore"}


def test_imports_point_inwards() -> None:
    wrong = []
    for path in FILES:
        here = room(path)
        for line, place in imported(path):
            there = place[0]
            if there == here or (here == "__init__" and not place):
                continue
            if layer(here) < USE_CASES and layer(there) >= layer(here):
                wrong.append(f"{path.relative_to(ROOT)}:{line}: {here} knows {there}")
    assert not wrong, "\n".join(wrong)


def test_nothing_but_known_libraries_from_outside() -> None:
    allowed = sys.stdlib_module_names | LIBRARIES
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: imports {name}"
        for path in FILES
        for line, name in outside(path)
        if name not in allowed or name == "importlib"
    ]
    assert not wrong, "\n".join(wrong)


def test_domain_has_no_input_or_output() -> None:
    # A digest is computed, not read or written.
    forbidden = LIBRARIES - {"xxhash"} | {"os", "pathlib", "shutil", "socket", "subprocess", "tempfile", "threading"}
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: imports {name}"
        for path in FILES
        if room(path) == "domain"
        for line, name in outside(path)
        if name in forbidden
    ]
    assert not wrong, "\n".join(wrong)


def test_processes_are_started_in_one_place() -> None:
    users = [path for path in FILES if "subprocess" in dict(outside(path)).values()]
    assert [path.relative_to(ENGINE).as_posix() for path in users] == ["streams/process.py"]


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The engine under another name, and a directory with the libraries of a host and nothing else."""
    directory = tmp_path_factory.mktemp("elsewhere")
    shutil.copytree(ENGINE, directory / "app" / "copied", ignore=shutil.ignore_patterns("__pycache__"))
    libraries = directory / "libraries"
    libraries.mkdir()
    requirements = (ROOT / "roles" / "runtime" / "files" / "requirements.txt").read_text(encoding="utf-8")
    wanted = {line.partition("==")[0].replace("-", "_") for line in requirements.splitlines() if "==" in line}
    # Packages whose name and import name differ, and modules that lie beside them.
    wanted |= {"psycopg2", "psycopg2_binary.libs", "dateutil", "six.py", "_cffi_backend"}
    for place in sorted({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}):
        for path in pathlib.Path(place).iterdir():
            if path.name in wanted:
                (libraries / path.name).symlink_to(path)
    return directory


def run(elsewhere: pathlib.Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python without its own libraries, but with those of a host."""
    return subprocess.run(
        [sys.executable, "-S", "-W", "error", *arguments],
        cwd="/",
        env={"PYTHONPATH": f"{elsewhere / 'app'}:{elsewhere / 'libraries'}", "PATH": os.defpath, "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_module_is_imported_elsewhere(elsewhere: pathlib.Path) -> None:
    places = [("copied", *path.relative_to(ENGINE).with_suffix("").parts) for path in FILES]
    names = [".".join(place).removesuffix(".__init__") for place in places]
    code = f"import importlib.util, {', '.join(names)}; assert not importlib.util.find_spec('ansible')"
    done = run(elsewhere, "-c", code)
    assert done.returncode == 0, done.stderr


def test_command_runs_elsewhere(elsewhere: pathlib.Path) -> None:
    done = run(elsewhere, "-m", "copied.cli", "--help")
    assert done.returncode == 0, done.stderr
    assert "backup" in done.stdout
    assert "restore" in done.stdout
