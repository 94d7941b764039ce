# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The terminal sessions of docs/restoring.md, really run: on a cluster, with a store, typed on a terminal.

``scripts/sessions.py`` writes what they show into the page; a test runs them again and compares what does not vary.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import pathlib
import pty
import re
import shlex
import struct
import sys
import tempfile
import termios
import typing as t

from ansible_collections.infrazero.database.plugins.module_utils._engine.domain import envfile, trust

from . import scene, signing
from .cluster import Cluster

COLLECTIONS = pathlib.Path(__file__).resolve().parents[2] / ".ansible" / "collections"
PAGE = pathlib.Path(__file__).resolve().parents[2] / "docs" / "restoring.md"
MODULE = "ansible_collections.infrazero.database.plugins.module_utils._engine.cli"

#: Where the sessions seem to happen.
HOST, STORE, FILES = "db1", "/srv/backups", "/var/lib/postgresql"

SCHEMA = """
CREATE TABLE customers (id int PRIMARY KEY, name text NOT NULL);
CREATE TABLE orders (id int PRIMARY KEY, customer int NOT NULL REFERENCES customers, total numeric(10, 2));
CREATE INDEX ON orders (customer);
INSERT INTO customers SELECT i, 'customer ' || i FROM generate_series(1, 200) i;
INSERT INTO orders SELECT i, 1 + i % 200, i % 90 + 0.5 FROM generate_series(1, 5000) i
"""
#: The mistake of the night.
MISTAKE = "DELETE FROM orders WHERE id > 1000"

_QUESTIONS = (b"age private key (not shown): ", b"Type yes to continue: ")


@dataclasses.dataclass(frozen=True)
class Command:
    """A command, as it is typed.

    :param program: what stands for its first word: a subcommand of ours, or ``None`` for a program of the path.
    :param answers: what is typed at its questions.
    """

    line: str
    answers: tuple[str, ...] = ()


#: By their names in the page.
SESSIONS: dict[str, tuple[Command, ...]] = {
    "list": (Command("infrazero-database list --database shop"),),
    "look": (Command("restore.sh shop db/shop/ --dry-run"),),
    "beside": (Command("restore.sh shop db/shop/ --as shop_before --drop-after 24 --yes", ("KEY",)),),
    "table": (
        Command("restore.sh shop db/shop/ --as shop_orders --table public.orders --yes", ("KEY",)),
        Command("psql -h 127.0.0.1 -U shop shop -c 'SELECT count(*) FROM orders'"),
        Command(
            "psql -h 127.0.0.1 -U shop shop_orders -c 'COPY orders TO STDOUT'"
            " | psql -h 127.0.0.1 -U shop shop --single-transaction --set=ON_ERROR_STOP=1"
            " -c 'CREATE TEMPORARY TABLE back (LIKE orders)' -c 'COPY back FROM STDIN'"
            " -c 'INSERT INTO orders SELECT * FROM back ON CONFLICT (id) DO NOTHING'"
        ),
    ),
    "file": (
        Command(f"restore.sh shop db/shop/ --to-file {FILES}/shop.sql", ("KEY",)),
        Command(f"sha256sum {FILES}/shop.sql"),
    ),
    "restore": (Command("restore.sh shop db/shop/", ("KEY", "yes")),),
    "undo": (Command("infrazero-database undo shop", ("yes",)),),
    "drop": (Command("infrazero-database drop-replaced shop", ("yes",)),),
}


class Stage:
    """A host with the database ``shop`` and a backup of it, after the mistake."""

    def __init__(self, cluster: Cluster, directory: pathlib.Path) -> None:
        self._cluster = cluster
        self._config, self._store, self._files = (directory / name for name in ("etc", "store", "files"))
        for path in (self._config, self._store, self._files):
            path.mkdir()
        self._entry = scene.entry("shop")
        line = trust.signers_line(HOST, signing.make_key(self._config / "signing" / "id_ed25519"))
        (self._config / "allowed_signers").write_text(line + "\n")
        listed = {"name": "shop", "user": "shop", "password": "x", "backup_age_public_key": self._entry.recipients[0]}
        values = {
            "DATABASES_JSON": json.dumps([listed]),
            "DB_TYPE": "postgresql",
            "DB_HOST": cluster.host,
            "DB_PORT": str(cluster.port),
            "DB_BACKUP_DIRECTORY": str(self._store),
            "DB_SIGNING_NAME": HOST,
        }
        (self._config / "db.env").write_text(envfile.render(values))
        scene.make(cluster, self._entry, SCHEMA)
        status, shown = self.run(Command("backup.sh"))
        if status:
            raise RuntimeError(shown)
        self._cluster.psql(MISTAKE, "shop")

    def session(self, name: str) -> str:
        """Run the session *name*; what the terminal shows, with the prompt."""
        shown = []
        for command in SESSIONS[name]:
            status, text = self.run(command)
            if status:
                raise RuntimeError(f"{command.line} ended with {status}: {text}")
            shown.append(f"$ {_wrapped(command.line)}\n{text}")
        return "".join(shown)

    def run(self, command: Command) -> tuple[int, str]:
        """Type *command* on a terminal; its exit status and what it showed."""
        subcommands = {"restore.sh": "restore", "backup.sh": "backup"}
        parts = shlex.split(command.line.replace(FILES, str(self._files)), posix=False)
        first = parts.pop(0)
        if first in (*subcommands, "infrazero-database"):
            subcommand = subcommands.get(first) or parts.pop(0)
            line = shlex.join([sys.executable, "-m", MODULE, subcommand, "--config", str(self._config)])
        else:
            line = first
        script = " ".join([line, *parts])
        key = self._entry.identity
        answers = [key.reveal() if one == "KEY" and key is not None else one for one in command.answers]
        status, text = _typed(["/bin/sh", "-c", script], self._environment(), answers)
        for path, seeming in ((self._store, STORE), (self._files, FILES)):
            text = text.replace(str(path), seeming)
        return status, text

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": f"{self._cluster.bindir}:{os.environ['PATH']}",
            "PYTHONPATH": str(COLLECTIONS),
            "LC_ALL": "C.UTF-8",
            "TERM": "dumb",
            "PGPORT": str(self._cluster.port),
            "PGPASSWORD": self._entry.password.reveal(),
            # Bars are gone in the end, and a page shows nothing of them.
            "TQDM_DISABLE": "1",
        }


def _typed(argv: list[str], environment: dict[str, str], answers: list[str]) -> tuple[int, str]:
    """Run a program on a terminal of 200 columns and answer its questions."""
    pid, terminal = pty.fork()
    if not pid:
        os.execve(argv[0], argv, environment)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 200, 0, 0))
    shown, seen = b"", 0
    while True:
        try:
            chunk = os.read(terminal, 4096)
        except OSError:  # the other end is gone
            break
        shown += chunk
        if answers and shown.endswith(_QUESTIONS) and len(shown) > seen:
            seen = len(shown)
            os.write(terminal, answers.pop(0).encode() + b"\n")
    os.close(terminal)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return status, shown.decode().replace("\r\n", "\n")


def _wrapped(line: str) -> str:
    """A long command, over several lines as a shell takes it."""
    return line.replace(" | ", " |\n    ").replace(" -c 'C", " \\\n    -c 'C").replace(" -c 'I", " \\\n    -c 'I")


@contextlib.contextmanager
def stage(cluster: Cluster) -> t.Iterator[Stage]:
    """A stage in a temporary directory; the databases on the cluster are left to the caller."""
    with tempfile.TemporaryDirectory(dir="/tmp") as path:
        yield Stage(cluster, pathlib.Path(path))


def blocks(page: str) -> dict[str, str]:
    """The sessions in the text of the page, by name."""
    found = re.finditer(
        r"<!-- BEGIN generated: session (\w+) [^\n]*\n```text\n(.*?)```\n<!-- END generated -->", page, re.S
    )
    return {match[1]: match[2] for match in found}


#: Blanks at the ends of lines, which psql pads its headings with, and which a page may not have.
_TRAILING = re.compile(r"[ \t]+$", re.MULTILINE)


def with_session(page: str, name: str, text: str) -> str:
    """The text of the page with another session *name*."""
    text = _TRAILING.sub("", text)
    pattern = rf"(<!-- BEGIN generated: session {name} [^\n]*\n)(?:.*?)(<!-- END generated -->)"
    written, count = re.subn(pattern, lambda match: f"{match[1]}```text\n{text}```\n{match[2]}", page, flags=re.S)
    if count != 1:
        raise ValueError(f"{PAGE} has no session {name!r}")
    return written


#: What differs from run to run.
_VARYING = (
    (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\dZ|\d{8}T\d{6}Z", "TIME"),
    (r"just now|\d+ (?:min|h|d) ago", "AGE"),
    (r"[\d.]+ [KMGT]iB", "SIZE"),
    (r"\d+(?:\.\d+)? s\b", "SECONDS"),
    (r"SHA256:[A-Za-z0-9+/]+|\b[0-9a-f]{64}\b", "HASH"),
    (r"__(replaced|restore)_\w+", r"__\1_ID"),
    (r"PostgreSQL [\d.]+", "PostgreSQL N"),
    (r" +", " "),
)


def shape(text: str) -> str:
    """What of a session is the same in every run."""
    for pattern, mask in _VARYING:
        text = re.sub(pattern, mask, text)
    return _TRAILING.sub("", text)
