# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role runtime on this machine, with everything that it installs in a directory.

The tests follow each other: nothing installed, upgraded from wheels that the controller brings, changed.
Installing from an index is what tests/integration/test_roles.py does.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import pwd
import re
import shutil
import subprocess
import tempfile
import typing as t

import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain import envfile

import conftest
from tests.support.cluster import majors
from tests.support.controller import Controller, Run

ROOT = os.geteuid() == 0
USER = "postgres" if ROOT else pwd.getpwuid(os.geteuid()).pw_name
OWNER = pwd.getpwuid(os.geteuid()).pw_name
SECRET = 'it\'s a {canary} of "a" $ecret'
PRIVATE = "AGE-SECRET-KEY-1CANARY"
PASSWORD = "canary'of'a'password"
DATABASES = [
    {
        "name": "o'brien",
        "user": "app",
        "password": PASSWORD,
        "backup_age_public_key": "age1canary",
        "backup_age_private_key": PRIVATE,
    }
]


@dataclasses.dataclass
class Host:
    root: pathlib.Path

    @property
    def prefix(self) -> pathlib.Path:
        return self.root / "opt"

    @property
    def settings(self) -> pathlib.Path:
        return self.root / "etc" / "db.env"

    def run(self, *arguments: str, without: str = "", **variables: t.Any) -> Run:
        """Run the role.

        :param without: a variable of the inventory that is not set.
        """
        playbook = self.root / "controller" / "runtime.yml"
        playbook.parent.mkdir(exist_ok=True)
        playbook.write_text("- hosts: all\n  gather_facts: false\n  roles: [infrazero.database.runtime]\n")
        common = {
            "infrazero_install_directory": str(self.prefix),
            "infrazero_config_directory": str(self.root / "etc"),
            "infrazero_user": USER,
            "infrazero_owner": OWNER,
            "infrazero_s3_bucket": "backups",
            "infrazero_s3_secret_access_key": SECRET,
            "infrazero_databases": DATABASES,
            "runtime_wheelhouse": str(self.root / "wheels"),
            "runtime_bin_directory": str(self.root / "bin"),
        }
        common.pop(without, None)
        return Controller(playbook.parent, common).play(str(playbook), *arguments, **variables)

    def as_user(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        step_down = ["/usr/sbin/runuser", "-u", USER, "--"] if ROOT else []
        return subprocess.run(
            [*step_down, *arguments], cwd="/", env={"PATH": os.defpath}, capture_output=True, text=True, check=False
        )

    def tree(self) -> dict[str, float]:
        paths = [path for path in self.root.rglob("*") if "controller" not in path.parts and "wheels" not in path.parts]
        return {str(path): path.lstat().st_mtime for path in paths}


@pytest.fixture(scope="module")
def host() -> t.Iterator[Host]:
    # Not tmp_path: postgres must get in.
    root = pathlib.Path(tempfile.mkdtemp(prefix="runtime-", dir="/tmp"))
    root.chmod(0o755)
    try:
        yield Host(root)
    finally:
        shutil.rmtree(root)


def good(run: Run) -> Run:
    assert run.status == 0, run.output
    for canary in (SECRET, PRIVATE, PASSWORD):
        assert canary not in run.output
    return run


def failed(run: Run) -> str:
    assert run.status != 0, run.output
    return " ".join(run.output.split())


def test_check_mode_on_a_host_without_anything(host: Host) -> None:
    run = good(host.run("--check", "--diff", "-vvvv", runtime_wheelhouse_download=False))
    assert run.changed
    assert host.tree() == {}


def test_refuses_before_anything_changes(host: Host) -> None:
    assert "The host has no user nobody-here" in failed(host.run(infrazero_user="nobody-here"))
    if ROOT:
        (host.root / "closed").mkdir(mode=0o700)
        there = str(host.root / "closed")
        assert f"it may not enter {there}." in failed(host.run(infrazero_install_directory=f"{there}/opt/infrazero"))
        (host.root / "closed").rmdir()
    foreign = host.root / "bin" / "infrazero-database"
    foreign.parent.mkdir()
    for create in (foreign.touch, lambda: foreign.symlink_to("/bin/sh"), foreign.mkdir):
        create()
        assert f"{foreign} was not installed by this role, and is not replaced" in failed(host.run())
        foreign.rmdir() if foreign.is_dir() else foreign.unlink()
    foreign.parent.rmdir()
    assert "/nonexistent/python cannot be run" in failed(host.run(runtime_python="/nonexistent/python"))
    old = failed(host.run(runtime_prefix="/opt/own", backup_prefix="/opt/own"))
    assert "backup_prefix, runtime_prefix is not a variable of this version" in old
    assert "rename it to backup_install_directory, runtime_install_directory." in old
    misplaced = failed(host.run(infrazero_databases=[{**DATABASES[0], "backup_age_public_key": PRIVATE}]))
    assert PRIVATE not in misplaced
    both = failed(host.run(infrazero_s3_secret_access_key_file="/run/secrets/s3"))
    assert "infrazero_s3_secret_access_key and infrazero_s3_secret_access_key_file are both set" in both
    assert "{canary}" not in both
    assert host.tree() == {}


def test_libraries_that_are_not_what_was_pinned_are_refused_and_the_old_ones_stay(host: Host) -> None:
    # As an earlier version left it.
    for name in ("earlier", "long gone"):
        (host.prefix / "venvs" / name).mkdir(parents=True)
    (host.prefix / "venv").symlink_to("venvs/earlier")
    (host.root / "wheels").mkdir()
    requirements = pathlib.Path(conftest.ROOT, "roles", "runtime", "files", "requirements.txt").read_text(
        encoding="utf-8"
    )
    for version in re.findall(r"^boto3==(\S+)", requirements, re.MULTILINE):
        (host.root / "wheels" / f"boto3-{version}-py3-none-any.whl").touch()
    assert "DO NOT MATCH THE HASHES" in failed(host.run())
    assert (host.prefix / "venv").resolve().name == "earlier"
    shutil.rmtree(host.root / "wheels")


def test_installs_from_what_the_controller_brings(host: Host) -> None:
    good(host.run("--diff", "-vvvv", runtime_wheelhouse_download=True))
    done = host.as_user(str(host.prefix / "venv/bin/python"), "-I", "-m", "infrazero_engine.cli", "--help")
    assert "restore" in done.stdout, done.stderr
    code = "import boto3, isal, psycopg2, pyrage, tqdm, xxhash, zstandard"
    assert host.as_user(str(host.prefix / "venv/bin/python"), "-I", "-c", code).returncode == 0
    assert not (host.prefix / "wheelhouse").exists()
    # Those until now stay for what still runs with them.
    current = (host.prefix / "venv").resolve()
    assert {path.name for path in (host.prefix / "venvs").iterdir()} == {current.name, "earlier"}


def test_only_the_owner_may_write(host: Host) -> None:
    for path in host.prefix.rglob("*"):
        assert pwd.getpwuid(path.lstat().st_uid).pw_name == OWNER, path  # not that of what a link leads to
        assert path.is_symlink() or not path.lstat().st_mode & 0o022, path


def test_the_command(host: Host) -> None:
    command = host.root / "bin" / "infrazero-database"
    assert (command.owner(), command.stat().st_mode & 0o777) == (OWNER, 0o755)
    assert "restore" in host.as_user(str(command), "--help").stdout
    command.unlink()
    assert good(host.run("--check")).changed == 1
    assert good(host.run(runtime_bin_directory="")).changed == 0
    assert not command.exists()
    assert good(host.run("--diff")).changed == 1


def test_settings(host: Host) -> None:
    assert host.settings.stat().st_mode & 0o777 == 0o600
    assert host.settings.owner() == USER
    values = envfile.parse(host.settings.read_text(encoding="utf-8"), name="db.env")
    assert values["S3_SECRET_ACCESS_KEY"] == SECRET
    assert values["DB_BACKUP_BUCKET"] == "backups"
    assert PRIVATE not in host.settings.read_text(encoding="utf-8")
    assert values["DB_VERSION"] == str(max(majors()))
    # The contract's own reader is a shell.
    script = 'set -eu; . "$1"; printf "%s" "$S3_SECRET_ACCESS_KEY|$DATABASES_JSON"'
    done = host.as_user("/bin/sh", "-c", script, "sh", str(host.settings))
    assert done.stdout == f"{values['S3_SECRET_ACCESS_KEY']}|{values['DATABASES_JSON']}"
    assert PASSWORD in done.stdout


def test_second_run_changes_nothing(host: Host) -> None:
    before = host.tree()
    assert good(host.run("--diff")).changed == 0
    assert host.tree() == before


def test_an_inventory_of_version_0_1_means_the_same_directory(host: Host) -> None:
    before = host.tree()
    run = good(host.run(without="infrazero_install_directory", infrazero_prefix=str(host.prefix)))
    assert run.changed == 0
    assert host.tree() == before
    assert run.output.count("infrazero_prefix is deprecated") == 1
    # The new name wins where both are set.
    assert good(host.run(infrazero_prefix="/nonexistent")).changed == 0


def test_without_a_list_the_settings_stay(host: Host) -> None:
    before = host.settings.read_bytes()
    assert good(host.run(infrazero_databases=[], infrazero_s3_bucket="other")).changed == 0
    assert host.settings.read_bytes() == before


def test_changed_setting(host: Host) -> None:
    assert good(host.run("--diff", infrazero_s3_bucket="other")).changed == 1
    assert "DB_BACKUP_BUCKET='other'" in host.settings.read_text(encoding="utf-8")


def test_a_secret_in_a_file_of_the_host(host: Host) -> None:
    path = "/run/secrets/s3"
    more = {"infrazero_s3_bucket": "other", "infrazero_s3_secret_access_key_file": path}
    assert good(host.run("--diff", without="infrazero_s3_secret_access_key", **more)).changed == 1
    text = host.settings.read_text(encoding="utf-8")
    values = envfile.parse(text, name="db.env")
    # An empty value is not set; scripts that read the file know its name.
    assert (values["S3_SECRET_ACCESS_KEY_FILE"], values["S3_SECRET_ACCESS_KEY"]) == (path, "")
    assert "{canary}" not in text
    assert good(host.run(infrazero_s3_bucket="other")).changed == 1


def test_upgrade_of_the_engine(host: Host) -> None:
    engines = host.prefix / "engines"
    current = (host.prefix / "lib").resolve()
    # As an earlier version left it.
    current.rename(engines / "earlier")
    (host.prefix / "lib").unlink()
    (host.prefix / "lib").symlink_to("engines/earlier")
    (engines / "earlier" / "infrazero_engine" / "stale.py").touch()
    (engines / "long gone").mkdir()
    assert good(host.run("--diff", infrazero_s3_bucket="other")).changed == 2
    assert (host.prefix / "lib").resolve() == current
    assert {path.name for path in engines.iterdir()} == {current.name, "earlier"}
    assert not list(current.rglob("stale*"))
