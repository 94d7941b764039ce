# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine's layers: which package may import which, and that all of it runs without Ansible."""

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

#: Packages from the inside out.  Each may import those above it, and none of those in its own line.
LAYERS: tuple[frozenset[str], ...] = (
    frozenset({"printing", "version"}),
    frozenset({"errors", "reporting"}),
    frozenset({"domain"}),
    frozenset({"streams", "stores", "secretfiles"}),
    frozenset({"signing", "settings"}),
    frozenset({"sources"}),
)
USE_CASES = len(LAYERS)

#: What reads settings, calls use cases and reports; the packages that are neither these nor in a layer are use cases.
FRONT = frozenset({"__init__", "access", "checks", "cli", "commands", "profile", "progress", "validation"})

#: Packages that decide and never read or write.
PURE = (("domain",), ("sources", "postgresql", "dumptext"))

#: What a host has besides the standard library: roles/runtime/files/requirements.in.
LIBRARIES = {"boto3", "botocore", "s3transfer", "isal", "psycopg2", "pyrage", "tqdm", "urllib3", "xxhash", "zstandard"}


def place(path: pathlib.PurePath) -> tuple[str, ...]:
    """The parts of a file's place in the engine."""
    return path.relative_to(ENGINE).with_suffix("").parts


def package(path: pathlib.PurePath) -> str:
    """The package of the engine that a file belongs to; a use case that is one file is a package of its own."""
    return place(path)[0]


def layer(name: str) -> int:
    """The number of a package's layer, counted from the inside."""
    return next((number for number, names in enumerate(LAYERS) if name in names), USE_CASES)


def imported(path: pathlib.Path) -> t.Iterator[tuple[int, tuple[str, ...]]]:
    """Line and absolute place within the engine of everything that *path* imports from it."""
    parent = path.relative_to(ENGINE).parent.parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            assert node.level <= len(parent) + 1, f"{path}:{node.lineno} leaves the engine"
            base = parent[: len(parent) + 1 - node.level] + tuple((node.module or "").split(".") if node.module else ())
            for alias in node.names:
                yield node.lineno, (*base, alias.name)


def outside(path: pathlib.Path) -> t.Iterator[tuple[int, str]]:
    """Line and top-level name of everything that *path* imports from outside the engine at run time."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for_types = [
        node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
    ]
    ignored = {node for block in for_types for statement in block.body for node in ast.walk(statement)}
    for node in set(ast.walk(tree)) - ignored:
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name.partition(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.lineno, (node.module or "").partition(".")[0]


def test_finds_the_engine() -> None:
    inner = {"printing", "errors", "reporting", "domain", "streams", "stores", "signing", "sources"}
    assert {package(path) for path in FILES} > inner | {"backup", "restore"}
    assert {place(path)[: len(pure)] for path in FILES for pure in PURE} > set(PURE)


def test_imports_point_inwards() -> None:
    wrong = []
    for path in FILES:
        here = package(path)
        for line, target in imported(path):
            there = target[0]
            if there == here or (here == "__init__" and not target):
                continue
            if layer(here) < USE_CASES and layer(there) >= layer(here):
                wrong.append(f"{path.relative_to(ROOT)}:{line}: {here} imports {there}")
    assert not wrong, "\n".join(wrong)


def test_no_kind_of_source_imports_another() -> None:
    kinds = {place(path)[1] for path in FILES if package(path) == "sources" and len(place(path)) > 2}
    assert "postgresql" in kinds
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {place(path)[1]} imports {target[1]}"
        for path in FILES
        if package(path) == "sources" and place(path)[1] in kinds
        for line, target in imported(path)
        if target[0] == "sources" and target[1] in kinds - {place(path)[1]}
    ]
    assert not wrong, "\n".join(wrong)


def test_use_cases_know_no_kind_of_source() -> None:
    inner = frozenset[str]().union(*LAYERS) | FRONT
    use_cases = [path for path in FILES if package(path) not in inner]
    assert {package(path) for path in use_cases} >= {"backup", "restore"}
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: imports {'.'.join(target)}"
        for path in use_cases
        for line, target in imported(path)
        if target[0] == "sources" and target[1] not in ("base", "registry")
    ]
    wrong += [
        f"{path.relative_to(ROOT)}:{line}: imports {name}"
        for path in use_cases
        for line, name in outside(path)
        if name == "psycopg2"
    ]
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


def test_packages_that_decide_have_no_input_or_output() -> None:
    # A digest is computed, not read or written.
    forbidden = LIBRARIES - {"xxhash"} | {"os", "pathlib", "shutil", "socket", "subprocess", "tempfile", "threading"}
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: imports {name}"
        for path in FILES
        if any(place(path)[: len(pure)] == pure for pure in PURE)
        for line, name in outside(path)
        if name in forbidden
    ]
    assert not wrong, "\n".join(wrong)


def test_processes_are_started_in_one_place() -> None:
    users = [path for path in FILES if "subprocess" in dict(outside(path)).values()]
    assert [path.relative_to(ENGINE).as_posix() for path in users] == ["streams/process.py"]


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The engine under another name, beside a directory that holds a host's libraries and nothing else."""
    directory = tmp_path_factory.mktemp("elsewhere")
    shutil.copytree(ENGINE, directory / "app" / "copied", ignore=shutil.ignore_patterns("__pycache__"))
    libraries = directory / "libraries"
    libraries.mkdir()
    requirements = (ROOT / "roles" / "runtime" / "files" / "requirements.txt").read_text(encoding="utf-8")
    wanted = {line.partition("==")[0].replace("-", "_") for line in requirements.splitlines() if "==" in line}
    # Packages whose import name differs from their own, and modules that belong to them.
    wanted |= {"psycopg2", "psycopg2_binary.libs", "dateutil", "six.py", "_cffi_backend"}
    for place in sorted({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}):
        for path in pathlib.Path(place).iterdir():
            if path.name in wanted:
                (libraries / path.name).symlink_to(path)
    return directory


def run(elsewhere: pathlib.Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python with a host's libraries in place of its own."""
    return subprocess.run(
        [sys.executable, "-S", "-W", "error", *arguments],
        cwd="/",
        env={"PYTHONPATH": f"{elsewhere / 'app'}:{elsewhere / 'libraries'}", "PATH": os.defpath, "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_module_is_imported_elsewhere(elsewhere: pathlib.Path) -> None:
    places = [("copied", *place(path)) for path in FILES]
    names = [".".join(one).removesuffix(".__init__") for one in places]
    code = f"import importlib.util, {', '.join(names)}; assert not importlib.util.find_spec('ansible')"
    done = run(elsewhere, "-c", code)
    assert done.returncode == 0, done.stderr


def test_command_runs_elsewhere(elsewhere: pathlib.Path) -> None:
    done = run(elsewhere, "-m", "copied.cli", "--help")
    assert done.returncode == 0, done.stderr
    assert "backup" in done.stdout
    assert "restore" in done.stdout
