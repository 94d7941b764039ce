# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is generated from the table of settings is up to date."""

from __future__ import annotations

import pathlib
import shutil
import subprocess
import sys

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
