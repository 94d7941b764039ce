# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Speed and memory against the plain tools, as ratios measured in one run.

In each round the tool and what it is compared with run one after the other, so that a machine that is slower for a
while is so for both; a figure is the median of the rounds' ratios.  Writes bench.json and prints the table that
docs/benchmarks.md quotes.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import pathlib
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import typing as t

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import psycopg2  # noqa: E402
import pyrage  # noqa: E402

import conftest  # noqa: E402  (puts the collection on sys.path)
from tests.support import sampledata, signing  # noqa: E402
from tests.support.cluster import Cluster  # noqa: E402
from tests.support.s3server import S3Server  # noqa: E402

ENGINE = "ansible_collections.infrazero.database.plugins.module_utils._engine"
#: Bytes that an order of the sample shop takes in a dump.
BYTES_PER_ORDER = 740
MIB = 1024 * 1024


def say(text: str) -> None:
    """Progress, for whoever waits."""
    print(f"{datetime.datetime.now():%H:%M:%S} {text}", flush=True)


def find_aws() -> pathlib.Path:
    """The directory of Amazon's command line, which the pipe needs; in an environment of its own, as it pins much."""
    found = shutil.which("aws")
    if found is not None:
        return pathlib.Path(found).parent
    place = ROOT / ".cache" / "aws"
    if not (place / "bin" / "aws").exists():
        say("installing awscli for the pipe to compare with")
        subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
        subprocess.run([str(place / "bin" / "pip"), "install", "-q", "awscli"], check=True)
    return place / "bin"


class Bench:
    """A cluster, an S3 server and a host's settings in one temporary directory."""

    def __init__(self, cluster: Cluster, server: S3Server, directory: pathlib.Path) -> None:
        self.cluster = cluster
        self.server = server
        self.directory = directory
        self.identity = pyrage.x25519.Identity.generate()
        self.bucket = "bench"
        server.create_bucket(self.bucket)
        self.aws = find_aws()
        self.samples: dict[str, list[float]] = {}
        self.peak: dict[str, int] = {}

    def connect(self, database: str) -> t.Any:
        """A session as superuser."""
        connection = psycopg2.connect(host=self.cluster.host, port=self.cluster.port, user="postgres", dbname=database)
        connection.autocommit = True
        return connection

    def make_database(self, name: str, mebibytes: int) -> None:
        """A sample shop whose dump has about that size."""
        say(f"filling {name} with about {mebibytes} MiB")
        with contextlib.closing(self.connect("postgres")) as connection:
            connection.cursor().execute(f"CREATE ROLE {name} LOGIN; ")
            connection.cursor().execute(f"CREATE DATABASE {name} OWNER {name}")
        with contextlib.closing(self.connect(name)) as connection:
            sampledata.shop(connection, orders=mebibytes * MIB // BYTES_PER_ORDER)
            connection.cursor().execute("VACUUM ANALYZE")

    def configure(self, names: t.Sequence[str]) -> None:
        """Write db.env as the role runtime does."""
        entries = [
            {
                "name": name,
                "user": name,
                "password": "not used here",
                "backup_age_public_key": str(self.identity.to_public()),
            }
            for name in names
        ]
        values = {
            "DATABASES_JSON": json.dumps(entries),
            "DB_HOST": self.cluster.host,
            "DB_PORT": str(self.cluster.port),
            "DB_BACKUP_BUCKET": self.bucket,
            "S3_ENDPOINT": self.server.endpoint,
            "S3_REGION": self.server.region,
            "S3_ACCESS_KEY_ID": self.server.access_key,
            "S3_SECRET_ACCESS_KEY": self.server.secret_key,
        }
        path = self.directory / "db.env"
        path.touch(0o600)
        path.write_text("".join(f"{key}='{value}'\n" for key, value in values.items()), encoding="utf-8")
        key = self.directory / "signing" / "id_ed25519"
        host = signing.SigningHost(platform.node(), key, signing.make_key(key))
        (self.directory / "allowed_signers").write_text(host.line, encoding="utf-8")

    def timed(self, label: str, argv: t.Sequence[str], *, environment: t.Mapping[str, str] | None = None) -> None:
        """Run a command, note its seconds and its peak memory (bytes) under *label*."""
        started = time.monotonic()
        log = self.directory / "last.log"
        with log.open("wb") as output:
            child = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env={**os.environ, **(environment or {})}
            )
            _pid, status, usage = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.monotonic() - started
        if child.returncode:
            sys.exit(f"{label} ended with {child.returncode}:\n{log.read_text(errors='replace')[-4000:]}")
        self.samples.setdefault(label, []).append(seconds)
        self.peak[label] = max(self.peak.get(label, 0), usage.ru_maxrss * 1024)
        say(f"{label}: {seconds:.2f} s, {usage.ru_maxrss // 1024} MiB")

    def engine(self, label: str, *arguments: str) -> None:
        """Run the host's command."""
        argv = [sys.executable, "-m", f"{ENGINE}.cli", *arguments, "--config", str(self.directory)]
        self.timed(
            label,
            argv,
            environment={
                "PYTHONPATH": str(conftest.COLLECTIONS),
                "DB_RESTORE_AGE_PRIVATE_KEY": str(self.identity),
                "DB_RESTORE_NON_INTERACTIVE": "true",
            },
        )

    def shell(self, label: str, command: str) -> None:
        """Run what an operator would type."""
        self.timed(
            label,
            ["bash", "-o", "pipefail", "-c", command],
            environment={
                "AWS_ACCESS_KEY_ID": self.server.access_key,
                "AWS_SECRET_ACCESS_KEY": self.server.secret_key,
                "AWS_DEFAULT_REGION": self.server.region,
                "PATH": f"{self.aws}:{os.environ['PATH']}",
            },
        )

    def pg(self, program: str) -> str:
        """A client program with the cluster's address."""
        return f"{self.cluster.bindir / program} -h {self.cluster.host} -p {self.cluster.port} -U postgres"

    def median(self, label: str) -> float:
        """The median of the seconds of *label*."""
        return statistics.median(self.samples[label])

    def ratio(self, label: str, reference: str) -> float:
        """The median of what *label* took of *reference* in the rounds that had both."""
        return statistics.median(ours / theirs for ours, theirs in zip(self.samples[label], self.samples[reference]))


def measure_backups(bench: Bench, rounds: int) -> None:
    """pg_dump alone, ours, and the pipe that operators build."""
    aws = f"aws --endpoint-url {bench.server.endpoint} s3 cp - s3://{bench.bucket}/pipe/dump --expected-size 2000000000"
    pipe = f"{bench.pg('pg_dump')} big | gzip | age -r {bench.identity.to_public()} | {aws}"
    for number in range(rounds + 1):
        say(f"backup, round {number} of {rounds}" + (", to warm up" if number == 0 else ""))
        bench.shell("pg_dump", f"{bench.pg('pg_dump')} big >/dev/null")
        bench.engine("backup", "backup", "--database", "big")
        if number <= rounds // 2 + 1:
            bench.shell("pipe", pipe)
        if number == 0:
            bench.samples.clear()


def measure_restores(bench: Bench, rounds: int) -> None:
    """psql from a local plain file, and ours from the bucket."""
    plain = bench.directory / "big.sql"
    subprocess.run(["bash", "-c", f"{bench.pg('pg_dump')} big >{plain}"], check=True)
    for number in range(rounds):
        say(f"restore, round {number + 1} of {rounds}")
        with contextlib.closing(bench.connect("postgres")) as connection:
            connection.cursor().execute("DROP DATABASE IF EXISTS by_psql")
            connection.cursor().execute("CREATE DATABASE by_psql TEMPLATE template0")
        bench.shell("psql", f"{bench.pg('psql')} -X -q -v ON_ERROR_STOP=1 -f {plain} by_psql")
        with contextlib.closing(bench.connect("postgres")) as connection:
            connection.cursor().execute("DROP DATABASE by_psql")
            connection.cursor().execute("CHECKPOINT")
        bench.engine("restore", "restore", "big", "db/big/", "--keep-replaced", "0")
        with contextlib.closing(bench.connect("postgres")) as connection:
            connection.cursor().execute("CHECKPOINT")
    plain.unlink()


def measure_memory(bench: Bench) -> None:
    """A database of a tenth of the size."""
    for action in (("backup", "--database", "small"), ("restore", "small", "db/small/", "--keep-replaced", "0")):
        bench.engine(f"{action[0]} small", *action)


def goals(bench: Bench, idle: float) -> list[dict[str, t.Any]]:
    """What was promised, and what was measured."""

    def goal(name: str, ratio: float, limit: float, *, at_least: bool = False) -> dict[str, t.Any]:
        met = ratio >= limit if at_least else ratio <= limit
        return {"id": name, "ratio": round(ratio, 3), "limit": limit, "met": met}

    result = [
        goal("backup_to_pg_dump", bench.ratio("backup", "pg_dump"), 1.35),
        goal("pipe_to_backup", bench.ratio("pipe", "backup"), 3.0, at_least=True),
        goal("restore_to_psql", bench.ratio("restore", "psql"), 1.15),
    ]
    for action in ("backup", "restore"):
        big, small = bench.peak[action], bench.peak[f"{action} small"]
        result.append(goal(f"{action}_memory_big_to_small", big / small, 1.10))
        result.append(goal(f"{action}_memory_mib", max(big, small) / MIB, 150))
    result.append(goal("bootstrap_200_idle_seconds", idle, 0.5))
    return result


def measure_idle_bootstrap(bench: Bench, rounds: int) -> float:
    """Seconds that pg_db_bootstrap takes in the module with 200 databases and nothing to do."""
    from tests.bench import idle_bootstrap

    say("making 200 databases")
    return statistics.median(idle_bootstrap.seconds(bench.cluster.settings, databases=200, rounds=rounds))


def main() -> int:
    """Run every measurement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mebibytes", type=int, default=960, help="size of the large dump (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each comparison (default: %(default)s)")
    parser.add_argument("--output", type=pathlib.Path, default=ROOT / "bench.json")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        directory = pathlib.Path(tempfile.mkdtemp(prefix="bench-", dir="/var/tmp"))
        stack.callback(shutil.rmtree, directory)
        directory.chmod(0o755)
        cluster = stack.enter_context(
            Cluster(
                directory=directory / "cluster",
                configuration={"shared_buffers": "1GB", "max_wal_size": "8GB", "checkpoint_timeout": "1h"},
            )
        )
        server = stack.enter_context(S3Server(directory / "s3", fast=True))
        bench = Bench(cluster, server, directory)
        bench.make_database("small", options.mebibytes // 10)
        bench.make_database("big", options.mebibytes)
        bench.configure(["small", "big"])
        measure_backups(bench, options.rounds)
        bench.engine("backup small", "backup", "--database", "small")
        measure_restores(bench, options.rounds)
        measure_memory(bench)
        idle = measure_idle_bootstrap(bench, options.rounds)
    found = goals(bench, idle)
    machine = f"{os.cpu_count()} cores, Python {platform.python_version()}, PostgreSQL {cluster.major}"
    report = {
        "machine": machine,
        "mebibytes": options.mebibytes,
        "rounds": options.rounds,
        "seconds": {label: [round(one, 2) for one in rounds] for label, rounds in bench.samples.items()},
        "median_seconds": {label: round(bench.median(label), 2) for label in bench.samples},
        "peak_mib": {label: peak // MIB for label, peak in bench.peak.items()},
        "goals": found,
    }
    options.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(f"\n{machine}, {options.mebibytes} MiB, medians of {options.rounds} rounds\n")
    print("| goal | measured | limit | met |\n|---|---|---|---|")
    for row in found:
        print(f"| {row['id']} | {row['ratio']} | {row['limit']} | {'yes' if row['met'] else 'no'} |")
    return 0 if all(row["met"] for row in found) else 1


if __name__ == "__main__":
    sys.exit(main())
