# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is generated from the table of settings is up to date."""

from __future__ import annotations

import json
import pathlib
import shutil
import subprocess
import sys

import jsonschema
import yaml
from ansible_collections.infrazero.database.plugins.module_utils._engine import settings

from conftest import ROOT


def check(root: pathlib.Path) -> subprocess.CompletedProcess[str]:
    """Run the generator so that it only compares."""
    script = root / "scripts" / "generate.py"
    return subprocess.run([sys.executable, str(script), "--check"], capture_output=True, text=True, check=False)


def test_generated_files_are_up_to_date() -> None:
    done = check(ROOT)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_changed_default_is_found_in_every_file(tmp_path: pathlib.Path) -> None:
    for name in ("scripts", "plugins", "roles", "docs"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    table = tmp_path / "plugins" / "module_utils" / "_engine" / "settings.py"
    text = table.read_text(encoding="utf-8")
    assert text.count("default=259200") == 1
    table.write_text(text.replace("default=259200", "default=3600"), encoding="utf-8")
    done = check(tmp_path)
    assert done.returncode == 1
    assert sorted(line.partition(" ")[0] for line in done.stdout.splitlines()) == [
        "docs/settings.md",
        "plugins/doc_fragments/restore.py",
        "roles/runtime/README.md",
        "roles/runtime/defaults/main.yml",
        "roles/runtime/meta/argument_specs.yml",
    ]


def schema(name: str) -> jsonschema.Draft202012Validator:
    """A JSON Schema that editors and CI use."""
    document = json.loads((ROOT / "docs" / "formats" / name).read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(document)
    return jsonschema.Draft202012Validator(document)


def test_the_schema_of_an_inventory_knows_the_example() -> None:
    inventory = schema("inventory.schema.json")
    files = sorted((ROOT / "examples" / "inventory" / "group_vars").rglob("*.yml"))
    found = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in files if path.name != "vault.yml"]
    lists = [name for variables in found for name in variables if name.startswith("infrazero_databases")]
    assert len(lists) >= 3
    for variables in found:
        assert [error.message for error in inventory.iter_errors(variables)] == []
        for name in lists:
            if name in variables:
                (entry, *others) = variables[name]
                changed = {**variables, name: [{**entry, "backup_prefx": "x/"}, *others]}
                assert not inventory.is_valid(changed), name


def test_the_schema_of_an_inventory_describes_every_setting() -> None:
    properties = schema("inventory.schema.json").schema["properties"]
    assert {f"infrazero_{row.variable}" for row in settings.TABLE if row.variable} < {*properties}
    assert all(each["description"].endswith(".") for each in properties.values())


def test_the_schema_of_a_list() -> None:
    assert schema("databases.schema.json").is_valid(
        [{"name": "a", "user": "a", "password": "x", "backup_age_public_key": ["age1x"]}]
    )
