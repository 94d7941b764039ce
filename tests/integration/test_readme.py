# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The README's own section "On real hosts", followed to the letter: a host is set up, lost, and replaced by another.

Files and commands are those of the README's blocks.  What is added is what a reader has to know of his own: addresses,
credentials, keys.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import re
import subprocess
import sys
import typing as t

import pytest

from conftest import ROOT
from tests.support import containers
from tests.support.containers import Containers

SHARED = ROOT / "molecule" / "shared" / "files"
BUCKET = "db-backups"
ACCESS_KEY, SECRET_KEY = "stranger", "a-secret-of-the-store"
#: What is different in this laboratory: no SSH, and hosts that reach no package index.
LABORATORY = """
ansible_connection: community.docker.docker
ansible_python_interpreter: /usr/bin/python3
runtime_wheelhouse: {wheels}
runtime_wheelhouse_download: true
"""


@dataclasses.dataclass(frozen=True)
class Block:
    """A fenced block of the README.

    :param language: ``shell`` or ``yaml``.
    :param path: the file that it is, by its first line; ``""``: it is no file.
    """

    language: str
    text: str

    @property
    def path(self) -> str:
        match = re.match(r"# (inventory/\S+)\n", self.text)
        return match[1] if match else ""


def blocks() -> list[Block]:
    """The blocks of the section, in their order."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (section,) = re.findall(r"^## On real hosts\n(.*?)^## ", text, re.DOTALL | re.MULTILINE)
    found = re.findall(r"^```(\w+)\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)
    return [Block(language, body) for language, body in found]


def test_every_block_is_a_file_or_is_run() -> None:
    found = blocks()
    assert {block.language for block in found} == {"shell", "yaml"}
    assert [block.text for block in found if block.language == "yaml" and not block.path] == []
    commands = "".join(block.text for block in found if block.language == "shell")
    # The keys are in the file that is committed.
    assert "{{ inventory_dir }}/allowed_signers" in "".join(block.text for block in found if block.language == "yaml")
    assert commands.count("infrazero.database.bootstrap") == 2 and "git add inventory" in commands


@dataclasses.dataclass
class Stranger:
    """Somebody who has the README and nothing else.

    :param home: their home directory.
    :param known: what they replace in blocks, by what the README has there.
    """

    home: pathlib.Path
    environment: dict[str, str]
    known: dict[str, str] = dataclasses.field(default_factory=dict)
    exports: list[str] = dataclasses.field(default_factory=list)
    used: set[str] = dataclasses.field(default_factory=set)

    @property
    def project(self) -> pathlib.Path:
        return self.home / "project"

    def write(self, block: Block) -> None:
        """Write the file that the block is."""
        path = self.project / block.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self._own(block.text), encoding="utf-8")

    def run(self, text: str, *, directory: pathlib.Path | None = None) -> str:
        """Run commands as one shell would that had run the earlier blocks."""
        script = "\n".join(["set -eu", *self.exports, text])
        self.exports += [line for line in text.splitlines() if line.startswith("export ")]
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=directory or self.project,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            check=False,
        )
        assert done.returncode == 0, f"{text}\n{done.stdout}"
        return done.stdout

    def _own(self, text: str) -> str:
        for written, own in self.known.items():
            if written in text:
                self.used.add(written)
                text = text.replace(written, own)
        return text


@pytest.fixture(scope="module")
def fleet() -> t.Iterator[Containers]:
    prefix = f"{ROOT.name}-readme-{os.getpid()}".lower()
    with containers.engine("the README") as address, Containers(address, prefix) as running:
        yield running


@pytest.fixture
def stranger(fleet: Containers, tmp_path: pathlib.Path) -> Stranger:
    laboratory = tmp_path / "laboratory" / "ansible_collections"
    laboratory.mkdir(parents=True)
    (laboratory / "community").symlink_to(ROOT / ".ansible" / "collections" / "ansible_collections" / "community")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE", "DB_", "GIT_"))}
    someone = {"NAME": "A stranger", "EMAIL": "stranger@example.com"}
    environment = {
        **kept,
        **fleet.environment,
        **{f"GIT_{role}_{name}": value for role in ("AUTHOR", "COMMITTER") for name, value in someone.items()},
        "HOME": str(tmp_path),
        "PATH": f"{pathlib.Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}",
        "LC_ALL": "C.UTF-8",
        # What the stranger installs, and how this laboratory reaches hosts; not the checkout.
        "ANSIBLE_COLLECTIONS_PATH": f"{tmp_path}/.ansible/collections:{tmp_path}/laboratory",
        "ANSIBLE_NOCOLOR": "1",
    }
    return Stranger(tmp_path, environment)


def checkout(directory: pathlib.Path) -> pathlib.Path:
    """A copy of what a release has."""
    files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout
    directory.mkdir()
    archive = subprocess.run(
        ["tar", "--create", "--null", "--files-from=-"], cwd=ROOT, input=files, stdout=subprocess.PIPE, check=True
    ).stdout
    subprocess.run(["tar", "--extract"], cwd=directory, input=archive, check=True)
    return directory


def fingerprint(fleet: Containers, host: str) -> str:
    """Rows of all tables with digests, sequences, functions, and owners."""
    psql = ["runuser", "--user=postgres", "--", "psql", "--no-psqlrc", "--quiet", "--dbname=shop"]
    text = (SHARED / "fingerprint.sql").read_text(encoding="utf-8")
    return fleet.run(host, *psql, "--set=ON_ERROR_STOP=1", text=text)


def test_a_host_is_lost_and_comes_back(fleet: Containers, stranger: Stranger) -> None:
    install, keys, *rest = blocks()
    stranger.run(install.text, directory=checkout(stranger.home / "checkout"))
    assert (stranger.home / ".ansible/collections/ansible_collections/infrazero/database/MANIFEST.json").exists()

    stranger.project.mkdir()
    stranger.run("git init --quiet")
    printed = stranger.run(keys.text)
    first = fleet.host("db1")
    stranger.known = {
        "192.0.2.10": first,
        "https://s3.example.com": fleet.s3(BUCKET, access_key=ACCESS_KEY, secret_key=SECRET_KEY),
        "age1zuw4svehzk6rcqtucscyulzwd4gv4x2pk9swmzptplxk4l8ssewqnuzkh8": re.findall(r"age1[0-9a-z]{58}", printed)[0],
        "AGE-SECRET-KEY-1...": re.findall(r"AGE-SECRET-KEY-1\w+", printed)[0],
        "ACCESS-KEY": ACCESS_KEY,
        "SECRET-KEY\n": f"{SECRET_KEY}\n",
        "PASSWORD": "a-password-of-the-shop",
    }
    commands = []
    for block in rest:
        if block.path:
            stranger.write(block)
        else:
            commands.append(block.text)
    assert stranger.used == set(stranger.known)
    (stranger.project / "inventory" / "group_vars" / "all.yml").write_text(
        LABORATORY.format(wheels=ROOT / ".ansible" / "wheelhouse" / "debian-12"), encoding="utf-8"
    )
    encrypt, begin, replace, again = commands
    stranger.run(encrypt)
    assert SECRET_KEY not in (stranger.project / "inventory/group_vars/databases/vault.yml").read_text(encoding="utf-8")

    # The first host, with rows in it.
    bootstrap, *backup = begin.splitlines()
    assert bootstrap.endswith("infrazero.database.bootstrap")
    said = stranger.run(bootstrap)
    assert "shop is empty, there is no backup of it" in said and "WARNING: the signing key" not in said
    fill = ["runuser", "--user=postgres", "--", "psql", "--no-psqlrc", "--quiet", "--dbname=shop"]
    fill += ["--set=ON_ERROR_STOP=1", "--set=owner=shop", "--set=rows=2000"]
    fleet.run(first, *fill, text=(SHARED / "fill.sql").read_text(encoding="utf-8"))
    before = fingerprint(fleet, first)
    assert "public.orders" in before
    stranger.run("\n".join(backup))
    assert stranger.run("git ls-files inventory").split() == [
        "inventory/allowed_signers",
        "inventory/group_vars/all.yml",
        "inventory/group_vars/databases/main.yml",
        "inventory/group_vars/databases/vault.yml",
        "inventory/hosts.yml",
    ]
    signers = (stranger.project / "inventory" / "allowed_signers").read_text(encoding="utf-8")
    assert signers.startswith("db1 namespaces=")

    # It is lost; all that is left is what was committed, and what is in the bucket.
    fleet.lose(first)
    stranger.run("git clean -dffx && git checkout --quiet -- .")
    second = fleet.host("another")
    hosts = stranger.project / "inventory" / "hosts.yml"
    hosts.write_text(hosts.read_text(encoding="utf-8").replace(first, second), encoding="utf-8")
    said = stranger.run(replace)
    assert "restored=1 empty=0 skipped=0 failed=0" in said
    assert fingerprint(fleet, second) == before
    after = (stranger.project / "inventory" / "allowed_signers").read_text(encoding="utf-8")
    assert after != signers and "valid-before=" in after

    # One database back, from the backup of the host that was lost.
    fleet.run(second, *fill, text="DROP TABLE orders CASCADE; UPDATE customers SET notes = 'lost';")
    assert fingerprint(fleet, second) != before
    stranger.run(again)
    assert fingerprint(fleet, second) == before
