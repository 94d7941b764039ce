# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What each role says of itself in several places, said the same."""

from __future__ import annotations

import hashlib
import pathlib
import re
import runpy
import typing as t

import pytest
import yaml

from conftest import ROOT

ROLES = sorted(path for path in (ROOT / "roles").iterdir() if path.is_dir())


def load(path: pathlib.Path) -> t.Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


@pytest.fixture(params=ROLES, ids=lambda path: path.name)
def role(request: pytest.FixtureRequest) -> pathlib.Path:
    return request.param


def prefix(role: pathlib.Path) -> str:
    return role.name.lstrip("_") + "_"


def test_defaults_are_those_of_the_argument_specs(role: pathlib.Path) -> None:
    specs = load(role / "meta" / "argument_specs.yml")["argument_specs"]
    described = {name: option for spec in specs.values() for name, option in spec.get("options", {}).items()}
    defaults = load(role / "defaults" / "main.yml") or {}
    assert {name: option["default"] for name, option in described.items() if "default" in option} == defaults
    assert {name for name, option in described.items() if not option.get("required")} == set(defaults)


def test_variables_begin_with_the_name_of_the_role(role: pathlib.Path) -> None:
    defaults = load(role / "defaults" / "main.yml") or {}
    assert [name for name in defaults if not name.startswith(prefix(role))] == []
    internal = [name for path in role.glob("vars/*.yml") for name in load(path)]
    assert [name for name in internal if not name.startswith("__" + prefix(role))] == []


def test_registered_variables_are_internal(role: pathlib.Path) -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in role.glob("tasks/*.yml"))
    registered = re.findall(r"^ *register: *(\S+)", text, re.MULTILINE)
    assert [name for name in registered if not name.startswith("__" + prefix(role))] == []


def test_every_default_is_used(role: pathlib.Path) -> None:
    files = [path for path in role.rglob("*") if path.is_file() and path.parent.name in {"tasks", "templates", "vars"}]
    text = "\n".join(path.read_text(encoding="utf-8") for path in files)
    defaults = load(role / "defaults" / "main.yml") or {}
    assert [name for name in defaults if not re.search(rf"\b{name}\b", text)] == []


def test_readme_names_every_variable(role: pathlib.Path) -> None:
    text = (role / "README.md").read_text(encoding="utf-8")
    assert [name for name in load(role / "defaults" / "main.yml") or {} if f"`{name}`" not in text] == []


def test_there_are_roles() -> None:
    assert {path.name for path in ROLES} >= {"runtime", "bootstrap", "backup", "restore"}


@pytest.mark.parametrize("python", ["3.9", "3.11", "3.13"])
def test_the_controller_fetches_what_the_hosts_python_needs_not_its_own(python: str) -> None:
    needed = runpy.run_path(str(ROOT / "roles" / "runtime" / "files" / "fetch.py"))["needed"]
    text = (ROOT / "roles" / "runtime" / "files" / "requirements.txt").read_text(encoding="utf-8")
    lines = needed(text, python, "x86_64")
    names = [line.partition("==")[0] for line in lines]
    assert sorted(names) == sorted(set(names))
    assert {"boto3", "isal", "psycopg2-binary", "pyrage", "tqdm", "xxhash", "zstandard"} < set(names)
    assert "colorama" not in names  # Windows'
    assert all(re.fullmatch(r"[a-z0-9-]+==\S+( --hash=sha256:[0-9a-f]{64})+", line) for line in lines)
    version = re.search(r"^boto3==(\S+) ; python_full_version (<|>=) '3.10'", text, re.MULTILINE)
    assert version and (f"boto3=={version[1]}" in "\n".join(lines)) == ((python == "3.9") == (version[2] == "<"))


def test_the_controller_fetches_only_what_is_missing(tmp_path: pathlib.Path) -> None:
    missing = runpy.run_path(str(ROOT / "roles" / "runtime" / "files" / "fetch.py"))["missing"]
    names = (
        "six-1.0-py2.py3-none-any.whl",
        "isal-1.0-cp39-cp39-manylinux2014_x86_64.whl",
        "tqdm-1.0-py3-none-any.whl",
        "x.whl",
    )
    for name in names:
        (tmp_path / name).write_text(name, encoding="utf-8")
    hashes = [f"--hash=sha256:{hashlib.sha256(name.encode()).hexdigest()}" for name in names]
    other = f"--hash=sha256:{'0' * 64}"
    lines = [f"six==1.0 {other} {hashes[0]}", f"isal==1.0 {hashes[1]}", f"tqdm==1.0 {other}"]
    assert missing(lines, "3.9", "x86_64", tmp_path) == lines[2:]
    assert missing(lines, "3.11", "x86_64", tmp_path) == lines[1:]
    assert missing(lines, "3.9", "aarch64", tmp_path) == lines[1:]
    assert missing(lines, "3.9", "x86_64", tmp_path / "none") == lines
