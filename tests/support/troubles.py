# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes wrong on hosts, brought about for real, and what the command answers.

The tests check the answers, and scripts/troubleshooting.py writes them into docs/troubleshooting.md.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import re
import subprocess
import tempfile
import typing as t

from . import scene
from .cluster import Cluster
from .configured import ConfiguredHost, bucket_settings
from .s3server import S3Server

#: Debian's package libfaketime, below /usr/lib.
FAKETIME = "*/faketime/libfaketime.so.1"


class CannotHappen(Exception):
    """The trouble can't be brought about on this machine; the text says why."""


@dataclasses.dataclass
class World:
    """Host db1 with the databases shop and ledger and a backup of each, host db2, and their store."""

    root: pathlib.Path
    cluster: Cluster
    server: S3Server
    db1: ConfiguredHost
    db2: ConfiguredHost

    def key(self, name: str) -> dict[str, str]:
        """The private key of a database of db1, as an operator hands it to a restore."""
        entry = next(entry for entry in self.db1.entries if entry.name == name)
        return {"DB_RESTORE_AGE_PRIVATE_KEY": scene.key_of(entry)}


@contextlib.contextmanager
def world() -> t.Iterator[World]:
    """A new one; it takes a few seconds."""
    with tempfile.TemporaryDirectory() as name, Cluster() as cluster, S3Server() as server:
        root = pathlib.Path(name)
        shop, ledger = scene.entry("shop"), scene.entry("ledger")
        # As much as no compression makes small.
        notes = "SELECT i, md5(i::text) || md5((i + 1)::text) AS note FROM generate_series(1, 60000) i"
        scene.make(cluster, shop, f"CREATE TABLE orders AS {notes}")
        scene.make(cluster, ledger)
        hosts = []
        for host, bucket in (("db1", "backups"), ("db2", "backups-db2")):
            server.create_bucket(bucket)
            entries = [shop, ledger] if host == "db1" else [shop]
            one = ConfiguredHost(root / host, cluster, entries, bucket_settings(server, bucket), name=host)
            done = one.run("backup")
            if done.returncode:
                raise CannotHappen(done.stderr)
            hosts.append(one)
        yield World(root, cluster, server, *hosts)


@dataclasses.dataclass(frozen=True)
class Trouble:
    """Something that goes wrong.

    :param title: of its section.
    :param command: what the operator types on the host.
    :param happens: brings it about and runs the command.
    """

    title: str
    command: str
    happens: t.Callable[[World], subprocess.CompletedProcess[str]]


def _no_destination(it: World) -> subprocess.CompletedProcess[str]:
    it.db1.configure(DB_BACKUP_BUCKET="")
    return it.db1.run("backup")


def _wrong_secret(it: World) -> subprocess.CompletedProcess[str]:
    it.db1.configure(S3_SECRET_ACCESS_KEY="not-the-secret-of-it")
    return it.db1.run("backup", "--database", "shop")


def _wrong_bucket(it: World) -> subprocess.CompletedProcess[str]:
    it.db1.configure(DB_BACKUP_BUCKET="bakcups")
    return it.db1.run("backup", "--database", "shop")


def _clock(it: World) -> subprocess.CompletedProcess[str]:
    libraries = list(pathlib.Path("/usr/lib").glob(FAKETIME))
    if not libraries:
        raise CannotHappen("libfaketime is not installed")
    return it.db1.run("backup", "--database", "shop", LD_PRELOAD=str(libraries[0]), FAKETIME="+1d")


def _full_disk(it: World) -> subprocess.CompletedProcess[str]:
    if os.getuid():
        raise CannotHappen("only root can mount a small file system")
    small = it.root / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,mode=0700", "none", small], check=True)
    try:
        it.db1.configure(DB_BACKUP_BUCKET="", DB_BACKUP_DIRECTORY=str(small))
        return it.db1.run("backup", "--database", "shop")
    finally:
        subprocess.run(["umount", small], check=True)


def _unknown_signer(it: World) -> subprocess.CompletedProcess[str]:
    return it.db1.run("restore", "shop", "s3://backups-db2/db/shop/", **it.key("shop"))


def _missing_slash(it: World) -> subprocess.CompletedProcess[str]:
    return it.db1.run("restore", "shop", "db/shop", **it.key("shop"))


def _wrong_name(it: World) -> subprocess.CompletedProcess[str]:
    return it.db1.run("restore", "shopp", "db/shop/", **it.key("shop"))


def _wrong_key(it: World) -> subprocess.CompletedProcess[str]:
    return it.db1.run("restore", "shop", "db/shop/", **it.key("ledger"))


#: By a short name.
TROUBLES: t.Mapping[str, Trouble] = {
    "no destination": Trouble("No destination", "backup.sh", _no_destination),
    "wrong secret": Trouble("Wrong secret access key", "backup.sh --database shop", _wrong_secret),
    "wrong bucket": Trouble("Wrong bucket", "backup.sh --database shop", _wrong_bucket),
    "clock": Trouble("A clock that is off by a day", "backup.sh --database shop", _clock),
    "full disk": Trouble("Full disk", "backup.sh --database shop", _full_disk),
    "unknown signer": Trouble("Unknown signer", "restore.sh shop s3://backups-db2/db/shop/", _unknown_signer),
    "missing slash": Trouble("Missing slash", "restore.sh shop db/shop", _missing_slash),
    "wrong name": Trouble("Wrong name of a database", "restore.sh shopp db/shop/", _wrong_name),
    "wrong key": Trouble("Private key of another database", "restore.sh shop db/shop/", _wrong_key),
}


@dataclasses.dataclass(frozen=True)
class Answer:
    """What the command answered.

    :param text: its errors, with the names that a reader's host has.
    """

    status: int
    text: str


def answers(it: World) -> dict[str, Answer]:
    """The answer to each trouble that can happen on this machine."""
    found = {}
    for name, trouble in TROUBLES.items():
        try:
            done = trouble.happens(it)
        except CannotHappen:
            continue
        finally:
            it.db1.configure()
        lines = [line for line in done.stderr.splitlines() if not line.startswith("warning: ")]
        errors = [line for line in lines if line.startswith("error: ")]
        found[name] = Answer(done.returncode, _as_on_a_host("\n".join(errors), it))
    return found


def _as_on_a_host(text: str, it: World) -> str:
    """*text* with the paths and addresses of a host, and the same times and keys each time."""
    for ours, theirs in {
        it.server.endpoint: "https://s3.example.com",
        str(it.root / "small"): "/mnt/backups",
        str(it.root / "db1"): "/etc/infrazero",
        it.cluster.host: "/var/run/postgresql",
        it.server.access_key: "AKIAEXAMPLE",
    }.items():
        text = text.replace(ours, theirs)
    text = re.sub(r"\b\d{8}T\d{6}Z", "20260131T032000Z", text)
    text = re.sub(r"\b20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", _Days(), text)
    text = re.sub(r"SHA256:[A-Za-z0-9+/]{43}", "SHA256:fingerprint", text)
    text = re.sub(r"\bage1[a-z0-9]{58}", _Numbered("age1recipient"), text)
    # The same fingerprint as a part of a key's name.
    text = re.sub(r"-[A-Za-z0-9_-]{43}\.pub", "-fingerprint.pub", text)
    return re.sub(r"just now|a moment ago|\d+ (?:s|min) ago", "2 h ago", text)


class _Numbered:
    """Replaces each text by a word, the same one for the same text."""

    def __init__(self, word: str) -> None:
        self._word = word
        self._known: dict[str, str] = {}

    def __call__(self, match: re.Match[str]) -> str:
        known = self._known
        return known.setdefault(match[0], f"{self._word}{len(known) + 1}")


class _Days(_Numbered):
    """Replaces times, in the order of their days."""

    def __init__(self) -> None:
        super().__init__("")

    def __call__(self, match: re.Match[str]) -> str:
        days = self._known
        return days.setdefault(match[0][:10], f"2026-01-{31 - len(days):02}T03:20:00Z")
