# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole promise in one run, on this machine, without touching anything of its own.

A cluster is bootstrapped from a list of databases, the databases are backed up to an S3 server, the cluster is lost, a
fresh one is bootstrapped from the same list, and every database is restored by itself.  Clusters and S3 server are
temporary; everything is in one directory, which stays for inspection until `make clean` removes it.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
import typing as t
import zlib

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import psycopg2  # noqa: E402
import pyrage  # noqa: E402

import conftest  # noqa: E402  (links the collection)
from tests.support import sampledata  # noqa: E402
from tests.support.cluster import Cluster, ClusterError, wait_until  # noqa: E402
from tests.support.s3server import S3Server, S3ServerError  # noqa: E402

#: Outside the checkout, because the user postgres must reach it and may not have access to a home directory; the link
#: .demo in the checkout points to it.
DIRECTORY = pathlib.Path("/var/tmp") / f"infrazero-demo-{zlib.crc32(str(ROOT).encode()):08x}"
LINK = ROOT / ".demo"
BUCKET = "db-backups"
ORDERS, BOOKINGS = 20_000, 50_000


class DemoError(Exception):
    """The demo cannot continue; the text says why."""


class Narrator:
    """Prints each step as a sentence, and how long it took."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._step = 0

    @contextlib.contextmanager
    def step(self, sentence: str) -> t.Iterator[list[str]]:
        """A step; the notes that are appended to the list are printed at its end."""
        self._step += 1
        print(f"[{self._step}] {sentence} ...", flush=True)
        started = time.monotonic()
        notes: list[str] = []
        yield notes
        for note in notes:
            print(f"    {note}")
        print(f"    {time.monotonic() - started:.1f} s", flush=True)

    @property
    def seconds(self) -> float:
        """Time since the start."""
        return time.monotonic() - self._started


class Demo:
    """Cluster, store and list of the demo.

    :param interrupt: kill the second bootstrap after its first restore, and start it again.
    """

    def __init__(self, directory: pathlib.Path, *, interrupt: bool) -> None:
        self.directory = directory
        self.interrupt = interrupt
        self.narrator = Narrator()
        self.databases = [_entry(name) for name in ("shop", "ledger", "looks-like-sql")]
        self.cluster = Cluster(directory=directory / "cluster")
        self.store_variables: dict[str, t.Any] = {}
        self.server: S3Server | None = None

    # The pieces -----------------------------------------------------------------------------------------------------

    def connect(self, database: str) -> t.Any:
        """A superuser's session."""
        connection = psycopg2.connect(host=self.cluster.host, port=self.cluster.port, user="postgres", dbname=database)
        connection.autocommit = True
        return connection

    def open_store(self, stack: contextlib.ExitStack) -> str:
        """Start the S3 server, or create a directory in its place; returns a sentence about it."""
        try:
            server = stack.enter_context(S3Server(self.directory / "s3", tls=True))
        except S3ServerError as error:
            store = self.directory / "store"
            store.mkdir()
            shutil.chown(store, "postgres", "postgres")
            self.store_variables = {"infrazero_backup_directory": str(store)}
            return f"no S3 server is available ({error}): the directory {store} takes the place of the bucket"
        server.create_bucket(BUCKET)
        self.server = server
        self.store_variables = {
            "infrazero_s3_bucket": BUCKET,
            "infrazero_s3_endpoint": server.endpoint,
            "infrazero_s3_region": server.region,
            "infrazero_s3_access_key_id": server.access_key,
            "infrazero_s3_secret_access_key": server.secret_key,
            "infrazero_s3_ca_bundle": server.ca_bundle,
        }
        return f"S3 at {server.endpoint}, bucket {BUCKET}, over TLS"

    def playbook(self, name: str) -> subprocess.Popen[bytes]:
        """Start one of the collection's playbooks on this machine."""
        host = {
            "ansible_connection": "local",
            # The system's Python, not that of the tests: it can use the system's packages.
            "ansible_python_interpreter": shutil.which("python3", path="/usr/bin") or sys.executable,
            "infrazero_install_directory": str(self.directory / "host" / "opt"),
            "infrazero_config_directory": str(self.directory / "host" / "etc"),
            "runtime_bin_directory": str(self.directory / "host" / "bin"),
            "infrazero_db_host": self.cluster.host,
            "infrazero_db_port": self.cluster.port,
            "backup_schedule_method": "none",
            "bootstrap_run_script": str(self.directory / "host" / "run.sh"),
            # On the controller: the host will be lost, and the next one must accept its signatures.
            "infrazero_allowed_signers_file": str(self.directory / "allowed_signers"),
            **self.store_variables,
        }
        inventory = self.directory / "inventory.json"
        inventory.touch(0o600)
        groups = {"databases": {"hosts": {"localhost": host}}}
        inventory.write_text(json.dumps(groups, indent=2) + "\n", encoding="utf-8")
        private = base64.b64encode(json.dumps(self.databases).encode()).decode()
        log = (self.directory / "ansible.log").open("ab")
        with log:
            return subprocess.Popen(
                [
                    str(pathlib.Path(sys.executable).with_name("ansible-playbook")),
                    *("--inventory", str(inventory), f"infrazero.database.{name}"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={
                    **os.environ,
                    "ANSIBLE_COLLECTIONS_PATH": str(conftest.COLLECTIONS),
                    "ANSIBLE_HOME": str(self.directory / "ansible"),
                    **({"PYTHONPYCACHEPREFIX": sys.pycache_prefix} if sys.pycache_prefix else {}),
                    "ANSIBLE_NOCOLOR": "1",
                    # As on a first boot: the private list arrives once, in this variable.
                    "DATABASES_JSON_PRIVATE_B64": private,
                },
            )

    def finish(self, process: subprocess.Popen[bytes], name: str) -> str:
        """Wait for a playbook; returns the recap of its log."""
        status = process.wait()
        text = (self.directory / "ansible.log").read_text(encoding="utf-8", errors="replace")
        if status:
            raise DemoError(f"the playbook {name} ended with {status}:\n{text[-3000:]}")
        recap = [line for line in text.splitlines() if line.startswith("localhost")]
        return " ".join(recap[-1].split()) if recap else "no recap"

    # The steps ------------------------------------------------------------------------------------------------------

    def fill(self) -> None:
        """Put rows into the new databases, as an application would."""
        with contextlib.closing(self.connect("shop")) as connection:
            sampledata.shop(connection, orders=ORDERS)
        with contextlib.closing(self.connect("ledger")) as connection:
            sampledata.ledger(connection, bookings=BOOKINGS)
        with contextlib.closing(self.connect("looks-like-sql")) as connection:
            sampledata.pretender(connection)

    def fingerprints(self) -> dict[str, dict[str, tuple[int, str]]]:
        """Rows and a digest of every table of every database, computed by the server alone."""
        result = {}
        for entry in self.databases:
            with contextlib.closing(self.connect(entry["name"])) as connection:
                result[entry["name"]] = sampledata.fingerprint(connection)
        return result

    def restored(self) -> list[str]:
        """Databases that have been restored so far."""
        with contextlib.closing(self.connect("postgres")) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT to_regclass('infrazero.database') IS NOT NULL")
            if not cursor.fetchone()[0]:
                return []
            cursor.execute("SELECT name FROM infrazero.database WHERE restore = 'restored' ORDER BY since")
            return [row[0] for row in cursor.fetchall()]

    def sources(self) -> dict[str, tuple[str, str]]:
        """Which backup each database was restored from, and its size now, from the cluster's own records."""
        with contextlib.closing(self.connect("postgres")) as connection, connection.cursor() as cursor:
            cursor.execute(
                "SELECT name, restored_from ->> 'key', pg_size_pretty(pg_database_size(name::text))"
                " FROM infrazero.database WHERE restore = 'restored'"
            )
            return {name: (key, size) for name, key, size in cursor.fetchall()}

    def run(self, stack: contextlib.ExitStack) -> int:
        """Run all steps; 0 if every database came back equal."""
        say = self.narrator.step
        stack.callback(_quietly_destroy, self.cluster)
        with say("Starting a separate S3 server") as notes:
            notes.append(self.open_store(stack))
        with say(f"Creating a separate PostgreSQL {self.cluster.major} cluster") as notes:
            self.cluster.start()
            first = self.cluster.psql("SELECT system_identifier FROM pg_control_system()")
            notes.append(f"port {self.cluster.port}, system identifier {first}")
        with say("Bootstrapping it from the databases list: roles, databases, backup.sh, restore.sh") as notes:
            notes.append(self.finish(self.playbook("bootstrap"), "bootstrap"))
        with say("Filling the databases as an application would; the rows of one look like SQL commands") as notes:
            self.fill()
            before = self.fingerprints()
            total = sum(rows for tables in before.values() for rows, _digest in tables.values())
            notes.append(f"{total:,} rows in {sum(map(len, before.values()))} tables")
        with say("Backing up every database, each encrypted to its own age key") as notes:
            backups = self.back_up()
            notes += [
                f"{b['database']}: {_size(b['plaintext_size'])} of SQL, {_size(b['size'])} stored, {b['key']}"
                for b in backups.values()
            ]
        with say("Forging a backup, as anyone with write access to the bucket could, and restoring it") as notes:
            notes.append(self.forge("ledger"))
        with say("Losing the cluster: the server is killed, and its files are deleted") as notes:
            self.cluster.stop(immediate=True)
            self.cluster.destroy()
            shutil.rmtree(self.directory / "host")
        with say("Creating a fresh cluster in its place, without any databases") as notes:
            self.cluster.start()
            second = self.cluster.psql("SELECT system_identifier FROM pg_control_system()")
            notes.append(f"system identifier {second}")
        if self.interrupt:
            with say("Bootstrapping it from the same list, and killing the run after the first restore") as notes:
                process = self.playbook("bootstrap")
                wait_until(lambda: bool(self.restored()) or process.poll() is not None, seconds=600)
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                _kill_children_of(self.directory)
                notes.append(f"killed; restored so far: {', '.join(self.restored())}")
        restoring = time.monotonic()
        with say("Bootstrapping it from the same list: it is fresh, so every database is restored by itself") as notes:
            notes.append(self.finish(self.playbook("bootstrap"), "bootstrap"))
        seconds = time.monotonic() - restoring
        with say("Comparing every row of every table with its state before the loss"):
            after = self.fingerprints()
        with say("Bootstrapping once more: nothing to do") as notes:
            recap = self.finish(self.playbook("bootstrap"), "bootstrap")
            notes.append(recap)
        equal = {name: before[name] == after[name] for name in before}
        self.table(before, backups, equal)
        idle = " changed=0 " in f"{recap} "
        print(f"\nsystem identifiers: {first} before, {second} now; the fresh bootstrap took {seconds:.1f} s")
        print(f"everything together took {self.narrator.seconds:.0f} s; logs and backups are in {self.directory}")
        if not idle:
            print("error: the last bootstrap changed something, although there was nothing to do")
        return 0 if all(equal.values()) and first != second and idle else 1

    def back_up(self) -> dict[str, dict[str, t.Any]]:
        """Run backup.sh as cron would; returns its results by database."""
        done = subprocess.run(
            [str(self.directory / "host" / "opt" / "backup.sh"), "--json"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise DemoError(f"backup.sh ended with {done.returncode}: {done.stdout}{done.stderr}")
        return {one["database"]: one for one in json.loads(done.stdout)["databases"]}

    def forge(self, name: str) -> str:
        """Replace the latest manifest with a forged one, see it refused, put the original back."""
        key = f"db/{name}/latest-dump.json"
        honest = self.read(key)
        forged = {**json.loads(honest), "sha256": "0" * 64}
        self.write(key, json.dumps(forged).encode())
        private = next(entry["backup_age_private_key"] for entry in self.databases if entry["name"] == name)
        done = subprocess.run(
            [str(self.directory / "host" / "opt" / "restore.sh"), name, f"db/{name}/"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env={**os.environ, "DB_RESTORE_AGE_PRIVATE_KEY": private},
            check=False,
        )
        self.write(key, honest)
        if done.returncode != 1 or "trust: " not in done.stderr:
            raise DemoError(
                f"the forged backup was not refused: restore.sh ended with {done.returncode}: {done.stderr}"
            )
        return "refused: " + done.stderr.partition("trust: ")[2].partition("; hint")[0]

    def read(self, key: str) -> bytes:
        """An object of the store, read without the code under demonstration."""
        if self.server is None:
            return (self.directory / "store" / key).read_bytes()
        return self.server.client().get_object(Bucket=BUCKET, Key=key)["Body"].read()

    def write(self, key: str, data: bytes) -> None:
        """Replace an object of the store, without the code under demonstration."""
        if self.server is None:
            (self.directory / "store" / key).write_bytes(data)
        else:
            self.server.client().put_object(Bucket=BUCKET, Key=key, Body=data)

    def table(
        self,
        before: dict[str, dict[str, tuple[int, str]]],
        backups: dict[str, dict[str, t.Any]],
        equal: dict[str, bool],
    ) -> None:
        """Print the results for each database."""
        head = ("database", "rows", "in the cluster", "dump", "stored", "backup took", "restored from", "equal?")
        lines = [head]
        sources = self.sources()
        for name, made in backups.items():
            key, size = sources.get(name, ("nothing", "-"))
            lines.append(
                (
                    name,
                    f"{sum(rows for rows, _digest in before[name].values()):,}",
                    size,
                    _size(made["plaintext_size"]),
                    _size(made["size"]),
                    f"{made['duration_seconds']:.2f} s",
                    key,
                    "yes" if equal[name] else "NO",
                )
            )
        widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
        print()
        for line in lines:
            print("  ".join(text.ljust(width) for text, width in zip(line, widths)).rstrip())


def _entry(name: str) -> dict[str, t.Any]:
    identity = pyrage.x25519.Identity.generate()
    return {
        "name": name,
        "user": f"{name}-app",
        "password": f"it's only a demo, {name}",
        "backup_age_public_key": str(identity.to_public()),
        "backup_age_private_key": str(identity),
    }


def _size(count: int) -> str:
    return f"{count / 1_000_000:.1f} MB" if count >= 100_000 else f"{count / 1000:.1f} kB"


def _kill_children_of(directory: pathlib.Path) -> None:
    """Kill what the killed playbook had started on this host: otherwise its module continues by itself."""
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if os.fsencode(directory / "host") in path.read_bytes():
                os.kill(int(path.parent.name), signal.SIGKILL)


def _quietly_destroy(cluster: Cluster) -> None:
    with contextlib.suppress(ClusterError):
        cluster.destroy()


def _restart_as_root() -> t.NoReturn:
    """Through sudo, which replaces this process.  Everything that it creates is in one directory, bytecode, too."""
    if shutil.which("sudo") is None:
        sys.exit("the demo uses this machine as its host, and roles need root there: run it as root, or install sudo")
    print("The demo uses this machine as its host, and roles need root there: continuing with sudo.", flush=True)
    kept = [name for name in os.environ if name.startswith("PIP_") or name.lower().endswith("_proxy")]
    sudo = ["sudo", *([f"--preserve-env={','.join(kept)}"] if kept else [])]
    os.execvp("sudo", [*sudo, sys.executable, "-X", f"pycache_prefix={DIRECTORY / 'bytecode'}", *sys.argv])


def main() -> int:
    """Run the demo, after removing what an earlier one left."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--interrupt", action="store_true", help="kill the second bootstrap between two restores")
    options = parser.parse_args()
    if os.geteuid() != 0:
        _restart_as_root()
    if DIRECTORY.exists():
        shutil.rmtree(DIRECTORY)
    print(__doc__.partition("\n\n")[0] + f"\nEverything is in {DIRECTORY}\n")
    DIRECTORY.mkdir(mode=0o755)
    LINK.unlink(missing_ok=True)
    LINK.symlink_to(DIRECTORY)
    # End in order on SIGTERM, too: nothing is left running.
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    try:
        with contextlib.ExitStack() as stack:
            return Demo(DIRECTORY, interrupt=options.interrupt).run(stack)
    except (DemoError, ClusterError) as error:
        print(f"the demo failed: {error}\nlogs are in {DIRECTORY}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
