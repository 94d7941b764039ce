# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Backs up PostgreSQL's regression database, restores it on a fresh cluster, and compares it with what psql restores.

The database is what PostgreSQL's own regression tests leave: objects of almost every kind that there is.  It is backed
up and signed by the module age_backup, then restored as a bootstrap does it, by pg_db_bootstrap and
s3_manifest_restore, on a cluster where only the libraries of the tests' C functions are.  A plain dump is loaded
by psql as superuser in the same cluster.  Both results are dumped again and compared statement by statement.
Writes regression.json and prints the table that docs/regression.md quotes; ends with 1 if anything differs but owners
and privileges.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
import typing as t

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import conftest  # noqa: E402, F401  (puts the collection on sys.path)  # pylint: disable=unused-import
from tests.regression import compare, material, source  # noqa: E402
from tests.support import apt, scene, signing  # noqa: E402
from tests.support.cluster import SERVER_USER, Cluster, ClusterError  # noqa: E402
from tests.support.playbook import Task, play  # noqa: E402

HOST = "db1"
CONTENTS = {
    "relations": "SELECT count(*) FROM pg_class WHERE oid >= 16384 AND relkind <> 't'"
    " AND relnamespace <> 'pg_toast'::regnamespace",
    "tables": "SELECT count(*) FROM pg_class WHERE oid >= 16384 AND relkind IN ('r', 'p', 'f')",
    "functions": "SELECT count(*) FROM pg_proc WHERE oid >= 16384",
    "types": "SELECT count(*) FROM pg_type WHERE oid >= 16384 AND typrelid = 0 AND typelem = 0",
    "operators": "SELECT count(*) FROM pg_operator WHERE oid >= 16384",
    "megabytes": "SELECT pg_database_size(current_database()) / 1000000",
}


def say(text: str) -> None:
    """Progress, for whoever waits."""
    print(f"{datetime.datetime.now():%H:%M:%S} {text}", flush=True)


class Trial:
    """One backup and restore, in a directory that the server's user can reach."""

    def __init__(self, directory: pathlib.Path, regress: material.Material) -> None:
        self.directory = directory
        self.regress = regress
        self.libraries = directory / "libraries"
        self.libraries.mkdir()
        for library in regress.libraries:
            shutil.copy(library, self.libraries / library.name)
        (directory / "store").mkdir()
        self.host = signing.SigningHost.make(directory, HOST)
        self.database = scene.entry(source.DATABASE, "app")

    def options(self, cluster: Cluster, *, private: bool, **more: t.Any) -> dict[str, t.Any]:
        """What a module is told; only a restore has the private key."""
        entry: dict[str, t.Any] = {
            "name": self.database.name,
            "user": self.database.user,
            "password": self.database.password.reveal(),
            "backup_age_public_key": self.database.recipients[0],
        }
        if private:
            entry.update(backup_age_private_key=scene.key_of(self.database), restore_latest=True)
        return {"databases": [entry], "login_host": cluster.host, "login_port": cluster.port, **more}

    @property
    def store(self) -> dict[str, t.Any]:
        """Where backups are."""
        return {"directory": str(self.directory / "store"), "signing_name": HOST}

    def backup(self, cluster: Cluster) -> dict[str, t.Any]:
        """Back the database up, and return what the module said of it."""
        task = Task("age_backup", self.options(cluster, private=False, **self.store, signing_key=str(self.host.path)))
        (result,) = play(task).results
        return one_database(result)

    def bootstrap(self, cluster: Cluster) -> dict[str, t.Any]:
        """Create role and database in a fresh cluster and restore it, and return what the module said."""
        created, restored = play(
            Task("pg_db_bootstrap", self.options(cluster, private=True, restore=True)),
            Task(
                "s3_manifest_restore",
                self.options(
                    cluster, private=True, **self.store, outstanding_only=True, allowed_signers=self.host.line
                ),
            ),
        ).results
        if not created.get("fresh"):
            sys.exit(f"pg_db_bootstrap: {created.get('msg', created)}")
        return one_database(restored)


def one_database(result: dict[str, t.Any]) -> dict[str, t.Any]:
    """Return what a module said of the only database."""
    if not result.get("databases"):
        sys.exit(f"the module ended with: {result.get('msg', result)}")
    found: dict[str, t.Any] = result["databases"][0]
    return found


def dump(cluster: Cluster) -> bytes:
    """What pg_dump writes of the database, with the database itself."""
    done = subprocess.run(
        [
            *(str(cluster.bindir / "pg_dump"), "--create", f"--host={cluster.host}", f"--port={cluster.port}"),
            *(f"--username={SERVER_USER}", source.DATABASE),
        ],
        capture_output=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"pg_dump ended with {done.returncode}: {done.stderr.decode(errors='replace')}")
    return done.stdout


def load_with_psql(cluster: Cluster, text: pathlib.Path) -> list[str]:
    """Load a dump into a database of its own as superuser, and return the errors."""
    done = subprocess.run(
        [
            *(str(cluster.bindir / "psql"), "-X", "-q", f"--host={cluster.host}", f"--port={cluster.port}"),
            *(f"--username={SERVER_USER}", "--dbname=postgres", "-f", str(text)),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=False,
    )
    return [line for line in done.stderr.decode(errors="replace").splitlines() if "ERROR" in line or "FATAL" in line]


def run(trial: Trial, options: argparse.Namespace) -> dict[str, t.Any]:
    """Do all of it, and return the report."""
    regress = trial.regress
    with Cluster(options.major, directory=trial.directory / "source") as cluster:
        say(f"running the {len(source.schedule(regress))} regression tests of PostgreSQL {regress.version}")
        unexpected = source.create(cluster, regress, trial.libraries, say=say)
        contents = {name: int(cluster.psql(query, source.DATABASE)) for name, query in CONTENTS.items()}
        say(f"the database has {', '.join(f'{number} {name}' for name, number in contents.items())}")
        original = dump(cluster)
        started = time.monotonic()
        backup = trial.backup(cluster)
        say(f"backup: {backup['status']}, {time.monotonic() - started:.1f} s with Ansible's start")
    for warning in backup.get("warnings", ()):
        say(f"  {warning}")
    report: dict[str, t.Any] = {
        "version": regress.version,
        "tests": len(source.schedule(regress)),
        "unexpected": unexpected,
        "contents": contents,
        "backup": {"status": backup["status"], "warnings": backup.get("warnings", [])},
    }
    if options.keep is not None:
        options.keep.mkdir(parents=True, exist_ok=True)
        (options.keep / "source.sql").write_bytes(original)
    with Cluster(options.major, directory=trial.directory / "fresh") as cluster:
        started = time.monotonic()
        restore = trial.bootstrap(cluster)
        say(f"restore: {restore['status']}, {time.monotonic() - started:.1f} s with Ansible's start")
        report["restore"] = {
            "status": restore["status"],
            "warnings": restore.get("warnings", []),
            "error": restore.get("error"),
        }
        for line in (restore.get("error") or {}).values():
            say(f"  {line}")
        for warning in restore.get("warnings", ()):
            say(f"  {warning}")
        if not restore["status"].startswith("restored"):
            return report
        restored = dump(cluster)
        cluster.psql(f"ALTER DATABASE {source.DATABASE} RENAME TO ours")
        text = trial.directory / "original.sql"
        text.write_bytes(original)
        report["psql_errors"] = load_with_psql(cluster, text)
        say(f"psql: {len(report['psql_errors'])} errors")
        reference = dump(cluster)
    if options.keep is not None:
        (options.keep / "restored.sql").write_bytes(restored)
        (options.keep / "psql.sql").write_bytes(reference)
    compared = compare.compare(restored, reference)
    report["statements"] = dict(compared.counts)
    report["differing"] = {kind: compared.differing(kind) for kind in compare.KINDS}
    report["differences"] = [dataclasses.asdict(one) for one in compared.differences]
    return report


def show(report: t.Mapping[str, t.Any]) -> bool:
    """Print the table, and return whether the restore is what it has to be."""
    if "statements" not in report:
        return False
    for one in report["differences"]:
        for side, texts in (("restored", one["only_first"]), ("by psql", one["only_second"])):
            for text in texts if one["kind"] != compare.OWNER else ():
                print(f"only {side} ({one['kind']}): {text if len(text) < 300 else text[:300] + ' …'}")
    print("\n| statements of the re-dump | restored | differ from psql's |\n| --- | --- | --- |")
    for kind in compare.KINDS:
        print(f"| {kind} | {report['statements'].get(kind, 0)} | {report['differing'][kind]} |")
    return bool(
        report["restore"]["status"] == "restored"
        and not report["differing"][compare.OTHER]
        and not report["psql_errors"]
        and not report["unexpected"]
    )


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--major", type=int, default=15, help="installed PostgreSQL (default: %(default)s)")
    parser.add_argument("--keep", type=pathlib.Path, help="write the dumps that are compared to this directory")
    parser.add_argument("--output", type=pathlib.Path, default=ROOT / "regression.json")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        directory = pathlib.Path(tempfile.mkdtemp(prefix="regression-", dir="/var/tmp"))
        stack.callback(shutil.rmtree, directory)
        directory.chmod(0o755)
        try:
            regress = material.fetch(options.major)
            report = run(Trial(directory, regress), options)
        except (apt.AptError, ClusterError) as error:
            sys.exit(str(error))
    options.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 0 if show(report) else 1


if __name__ == "__main__":
    sys.exit(main())
