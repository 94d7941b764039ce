# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Backs up and restores a database with each extension of extensions.yml, and writes the table in docs/extensions.md.

Each database has one extension and a small use of it.  The host's command backs it up from one cluster, signed, and
restores it to another one that has never had it: with the default settings, and if they refuse the extension, once more
with the extension allowed.  Then pg_dump's texts of both are compared, owners and privileges aside.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import dataclasses
import difflib
import importlib
import json
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import tempfile
import time
import typing as t

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import pyrage  # noqa: E402
import yaml  # noqa: E402

import conftest  # noqa: E402  (puts the collection on sys.path)
from tests.support import signing  # noqa: E402
from tests.support.cluster import Cluster, ClusterError  # noqa: E402

EXTENSIONS = pathlib.Path(__file__).with_name("extensions.yml")
PAGE = ROOT / "docs" / "extensions.md"
BEGIN, END = "<!-- begin of what the run wrote -->", "<!-- end of what the run wrote -->"
ENGINE = "ansible_collections.infrazero.database.plugins.module_utils._engine"
MAJOR = 15

# Only importable now that conftest has been imported.
envfile = importlib.import_module(f"{ENGINE}.domain.envfile")
trust = importlib.import_module(f"{ENGINE}.domain.trust")

VERDICTS = EQUAL, ALLOWED, REFUSED, DIFFERS, UNTRIED = "equal", "equal once allowed", "refused", "differs", "not tried"

#: How long one backup or restore may take.
SECONDS = 180

#: Libraries that extensions of the list need in the server, and settings of theirs.
SERVER = {
    # Not pglogical: with Debian 12's version, every DROP DATABASE waits for its worker, which never answers.
    "shared_preload_libraries": ",".join(
        ("pg_stat_statements", "pg_stat_kcache", "pg_qualstats", "pg_wait_sampling", "pg_cron", "pgaudit", "set_user")
    ),
    "cron.database_name": "x_pg_cron",
    "cron.use_background_workers": "on",
    "max_worker_processes": "20",
}


@dataclasses.dataclass(frozen=True)
class Extension:
    """One entry of extensions.yml."""

    name: str
    use: str
    package: str = f"postgresql-{MAJOR}"
    schema: str | None = None
    why: str = ""

    @property
    def database(self) -> str:
        return "x_" + self.name.replace("-", "_")


@dataclasses.dataclass(frozen=True)
class Result:
    """What became of one database.

    :param verdict: one of the constants above.
    :param note: why it was refused, or in what it differs.
    """

    extension: Extension
    version: str
    verdict: str
    note: str = ""


def declared() -> list[Extension]:
    """Return the entries of extensions.yml."""
    return [Extension(**entry) for entry in yaml.safe_load(EXTENSIONS.read_text(encoding="utf-8"))]


class Host:
    """A cluster and the host's command for it; both hosts share store, keys and signers."""

    def __init__(self, cluster: Cluster, directory: pathlib.Path, store: pathlib.Path) -> None:
        self.cluster = cluster
        self._directory = directory
        self._store = store
        cluster.psql("CREATE ROLE app LOGIN")

    def run(
        self, verb: str, *arguments: str, extension: Extension, identity: pyrage.x25519.Identity, **more: str
    ) -> dict[str, t.Any]:
        """Run the command; return the outcome, whose ``error`` is ``None`` after a success."""
        config = self._directory / extension.database
        if not config.exists():
            shutil.copytree(self._store.parent / "signing", config / "signing")
            shutil.copy(self._store.parent / "allowed_signers", config / "allowed_signers")
        entry = {
            "name": extension.database,
            "user": "app",
            "password": "not used",
            "backup_age_public_key": str(identity.to_public()),
        }
        (config / "db.env").write_text(
            envfile.render(
                {
                    "DATABASES_JSON": json.dumps([entry]),
                    "DB_TYPE": "postgresql",
                    "DB_HOST": self.cluster.host,
                    "DB_PORT": str(self.cluster.port),
                    "DB_BACKUP_DIRECTORY": str(self._store),
                    **more,
                }
            )
        )
        try:
            done = subprocess.run(
                [sys.executable, "-m", f"{ENGINE}.cli", verb, "--config", str(config), *arguments, "--json"],
                env={
                    "PATH": os.environ["PATH"],
                    "PYTHONPATH": str(conftest.COLLECTIONS),
                    "LC_ALL": "C.UTF-8",
                    "DB_RESTORE_AGE_PRIVATE_KEY": str(identity),
                    "DB_RESTORE_NON_INTERACTIVE": "true",
                },
                capture_output=True,
                text=True,
                check=False,
                timeout=SECONDS,
            )
        except subprocess.TimeoutExpired:
            return {"error": {"message": f"{verb} takes longer than {SECONDS} seconds"}}
        try:
            outcome = json.loads(done.stdout)
        except ValueError:
            raise RuntimeError(f"{verb} of {extension.name}: {done.stdout}{done.stderr}") from None
        outcome = outcome.get("databases", [outcome])[0]
        return {"error": None if done.returncode == 0 else {"message": done.stderr}, **outcome}

    def dump(self, extension: Extension) -> list[str]:
        """Return pg_dump's text of the database, without owners, privileges and what differs in each run."""
        done = subprocess.run(
            [
                *(str(self.cluster.bindir / "pg_dump"), "--no-owner", "--no-privileges", f"--host={self.cluster.host}"),
                *(f"--port={self.cluster.port}", "--username=postgres", f"--dbname={extension.database}"),
            ],
            capture_output=True,
            text=True,
            check=True,
        )
        lines = done.stdout.splitlines()
        return [line for line in lines if not line.startswith(("\\restrict", "\\unrestrict", "-- Dumped"))]


class Trial:
    """The way of each database from one cluster to the other."""

    def __init__(self, source: Host, target: Host) -> None:
        self._source = source
        self._target = target

    def of(self, extension: Extension) -> Result:
        """Back up, restore and compare one database."""
        cluster = self._source.cluster
        cluster.psql(f"CREATE DATABASE {extension.database} OWNER app")
        try:
            schema = f"SCHEMA {extension.schema}" if extension.schema else ""
            cluster.psql(f'CREATE EXTENSION IF NOT EXISTS "{extension.name}" {schema} CASCADE', extension.database)
        except ClusterError as error:
            return Result(extension, "", UNTRIED, _error_line(str(error)))
        version = cluster.psql(
            f"SELECT extversion FROM pg_extension WHERE extname = '{extension.name}'", extension.database
        )
        try:
            cluster.psql(extension.use, extension.database)
        except ClusterError as error:
            return Result(extension, version, UNTRIED, f"its use failed: {_error_line(str(error))}")
        identity = pyrage.x25519.Identity.generate()
        backup = self._source.run("backup", extension=extension, identity=identity)
        if backup["error"]:
            return Result(extension, version, REFUSED, f"backup: {_text(backup['error'])}")
        restored, allowed = self._restore(extension, identity), False
        if restored["error"] and "not allowed in a restore" in _text(restored["error"]):
            allowed = True
            names = cluster.psql("SELECT string_agg(extname, ',') FROM pg_extension", extension.database)
            restored = self._restore(extension, identity, DB_RESTORE_EXTENSIONS=names)
        if restored["error"]:
            return Result(extension, version, REFUSED, _text(restored["error"]))
        differences = [
            line
            for line in difflib.unified_diff(
                self._source.dump(extension), self._target.dump(extension), lineterm="", n=0
            )
            if not line.startswith(("---", "+++", "@@")) and line[1:].strip()
        ]
        if differences:
            note = "; ".join([*differences[:4], *(restored.get("warnings") or ())])
            return Result(extension, version, DIFFERS, f"{len(differences)} lines: {note}")
        return Result(extension, version, ALLOWED if allowed else EQUAL, extension.why)

    def _restore(self, extension: Extension, identity: pyrage.x25519.Identity, **more: str) -> dict[str, t.Any]:
        prefix = f"db/{extension.database}/"
        return self._target.run("restore", extension.database, prefix, extension=extension, identity=identity, **more)


def _text(error: t.Mapping[str, str]) -> str:
    return "; ".join(filter(None, (error.get("message"), error.get("cause"))))


def _error_line(text: str) -> str:
    return next((line.split("ERROR:")[1].strip() for line in text.splitlines() if "ERROR:" in line), text)


def try_all(
    extensions: t.Sequence[Extension], report: t.Callable[[Result], None], stack: contextlib.ExitStack
) -> list[Result]:
    """Try all extensions, two at a time; what that leaves is removed with *stack*, which takes a while."""
    work = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
    store = work / "store"
    store.mkdir()
    line = trust.signers_line(platform.node(), signing.make_key(work / "signing" / "id_ed25519"))
    (work / "allowed_signers").write_text(line + "\n")
    hosts = []
    for role in ("source", "target"):
        cluster = stack.enter_context(Cluster(MAJOR, configuration=SERVER))
        hosts.append(Host(cluster, work / role, store))
    trial = Trial(*hosts)
    results = []
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for result in pool.map(trial.of, extensions):
            report(result)
            results.append(result)
    return results


# The page -----------------------------------------------------------------------------------------------------------


def rows() -> dict[str, str]:
    """Return the rows of the table in docs/extensions.md, by extension."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    return {line.split("`")[1]: line for line in lines if line.startswith("| `")}


def committed() -> dict[str, str]:
    """Return the verdicts of that table."""
    return {name: row.split(" | ")[3] for name, row in rows().items()}


def row_of(result: Result) -> str:
    """Return the row of a result."""
    note = result.note if result.verdict != REFUSED else f"{result.extension.why}; {result.note}"
    note = note.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")
    extension = result.extension
    return f"| `{extension.name}` | {result.version} | {extension.package} | {result.verdict} | {note} |"


def write(results: t.Sequence[Result], *, server: str) -> None:
    """Write the results into the page; rows of extensions that were not tried this time stay."""
    declared_names = {extension.name for extension in declared()}
    merged = {**rows(), **{result.extension.name: row_of(result) for result in results}}
    table = [merged[name] for name in sorted(declared_names & set(merged))]
    verdicts = [row.split(" | ")[3] for row in table]
    counts = ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in VERDICTS if verdict in verdicts)
    lines = [
        f"{len(table)} extensions: {counts}. PostgreSQL {server}, {time.strftime('%Y-%m-%d')}.",
        "",
        "| extension | version | package | restored | why not by default, or not at all |",
        "| --- | --- | --- | --- | --- |",
        *table,
    ]
    page = PAGE.read_text(encoding="utf-8")
    head, _begin, rest = page.partition(BEGIN)
    tail = rest.partition(END)[2]
    PAGE.write_text("\n".join([head + BEGIN, "", *lines, "", END + tail]), encoding="utf-8")


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("only", nargs="*", metavar="EXTENSION", help="try only these")
    parser.add_argument("--packages", action="store_true", help="print the Debian packages of all extensions")
    arguments = parser.parse_args()
    extensions = declared()
    if arguments.packages:
        print(*sorted({extension.package for extension in extensions}), sep="\n")
        return 0
    chosen = [extension for extension in extensions if not arguments.only or extension.name in arguments.only]
    before = committed()
    unexpected = []

    def report(result: Result) -> None:
        expected = before.get(result.extension.name)
        mark = "" if result.verdict == expected else f"   (the page says: {expected})"
        print(f"{result.extension.name:30} {result.verdict:20}{mark} {result.note}", flush=True)
        if mark:
            unexpected.append(result.extension.name)

    server = subprocess.run(
        [f"/usr/lib/postgresql/{MAJOR}/bin/postgres", "--version"], capture_output=True, text=True, check=True
    )
    with contextlib.ExitStack() as stack:
        write(try_all(chosen, report, stack), server=server.stdout.split()[2])
    if unexpected:
        print(f"not as {PAGE.name} says: {' '.join(unexpected)}")
    return 1 if unexpected else 0


if __name__ == "__main__":
    sys.exit(main())
