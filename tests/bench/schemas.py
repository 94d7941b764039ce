# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Databases that are unusual by their shape, against pg_dump and psql, as ratios measured in one run.

Ten thousand tables, a thousand partitions, one value of 200 MB, four hundred columns.  In each round the tool and what
it is compared with run one after the other; a figure is the median of the rounds' ratios.  Writes bench-schemas.json
and prints the table that docs/benchmarks.md quotes.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import pathlib
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import typing as t

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.bench.run import MIB, Bench, say  # noqa: E402
from tests.support.cluster import Cluster  # noqa: E402
from tests.support.s3server import S3Server  # noqa: E402

#: pg_dump locks every table, and the server's default has room for 6,400 locks.
LOCKS = 256


@dataclasses.dataclass(frozen=True)
class Shape:
    """A kind of database.

    :param size: how many of them, or how many bytes.
    :param script: statements that make the contents; ``{n}`` is the size.
    """

    name: str
    title: str
    size: int
    script: tuple[str, ...]


_TABLES = """
DO $do$ BEGIN FOR i IN 1..{n} LOOP
    EXECUTE format('CREATE TABLE t%s (id int PRIMARY KEY, name text NOT NULL, at timestamptz)', i);
    EXECUTE format('CREATE INDEX ON t%s (name)', i);
    EXECUTE format('INSERT INTO t%s SELECT g, md5(g::text), now() FROM generate_series(1, 10) g', i);
    IF i % 100 = 0 THEN COMMIT; END IF;
END LOOP; END $do$
"""
_PARTITIONS = """
DO $do$ BEGIN FOR i IN 1..{n} LOOP
    EXECUTE format('CREATE TABLE p%s PARTITION OF p FOR VALUES FROM (%s) TO (%s)', i, i * 100, i * 100 + 100);
    EXECUTE format('INSERT INTO p%s SELECT g, md5(g::text) FROM generate_series(%s, %s) g', i, i * 100, i * 100 + 99);
    IF i % 100 = 0 THEN COMMIT; END IF;
END LOOP; END $do$
"""
_COLUMNS = """
DO $do$ BEGIN
    EXECUTE (SELECT format('CREATE TABLE c (%s)',
        string_agg(format('c%s %s', g, CASE WHEN g % 2 = 0 THEN 'int' ELSE 'text' END), ', ' ORDER BY g))
        FROM generate_series(1, {n}) g);
    EXECUTE (SELECT format('INSERT INTO c SELECT %s FROM generate_series(1, 20000) i',
        string_agg(CASE WHEN g % 2 = 0 THEN format('i * %s', g)
            ELSE format('left(md5((i + %s)::text), 8)', g) END, ', ' ORDER BY g))
        FROM generate_series(1, {n}) g);
END $do$
"""
SHAPES = (
    Shape("tables", "{n:,} tables, each with a key, an index and ten rows", 10_000, (_TABLES,)),
    Shape(
        "partitions",
        "a table with {n:,} partitions, each with a key, an index and a hundred rows",
        1_000,
        (
            "CREATE TABLE p (id bigint PRIMARY KEY, name text NOT NULL) PARTITION BY RANGE (id)",
            "CREATE INDEX ON p (name)",
            _PARTITIONS,
        ),
    ),
    Shape(
        "value",
        "one value of {n:,} bytes",
        200_000_000,
        (
            "CREATE TABLE v (id int PRIMARY KEY, value text)",
            "INSERT INTO v SELECT 1, left(string_agg(md5(g::text), ''), {n}) FROM generate_series(1, {n} / 32 + 1) g",
        ),
    ),
    Shape("columns", "a table with {n:,} columns and 20,000 rows", 400, (_COLUMNS,)),
)


def make(bench: Bench, shape: Shape, size: int) -> None:
    """Create and fill the database of *shape*."""
    say(f"making {shape.title.format(n=size)}")
    with contextlib.closing(bench.connect("postgres")) as connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE ROLE {shape.name} LOGIN")
        cursor.execute(f"CREATE DATABASE {shape.name} OWNER {shape.name}")
    with contextlib.closing(bench.connect(shape.name)) as connection, connection.cursor() as cursor:
        for statement in shape.script:
            cursor.execute(statement.replace("{n}", str(size)))
        cursor.execute("VACUUM ANALYZE")


def measure(bench: Bench, shape: Shape, rounds: int) -> dict[str, t.Any]:
    """Back the database up and restore it, beside pg_dump and psql."""
    name = shape.name
    plain = bench.directory / f"{name}.sql"
    subprocess.run(["bash", "-c", f"{bench.pg('pg_dump')} {name} >{plain}"], check=True)
    for number in range(rounds):
        say(f"{name}, round {number + 1} of {rounds}")
        bench.shell(f"{name} pg_dump", f"{bench.pg('pg_dump')} {name} >/dev/null")
        bench.engine(f"{name} backup", "backup", "--database", name)
        _recreate(bench)
        bench.shell(f"{name} psql", f"{bench.pg('psql')} -X -q -v ON_ERROR_STOP=1 -f {plain} by_psql")
        _recreate(bench)
        bench.engine(f"{name} restore", "restore", name, f"db/{name}/", "--keep-replaced", "0")
    found = {
        "name": name,
        "dump_mib": plain.stat().st_size // MIB,
        "backup_to_pg_dump": round(bench.ratio(f"{name} backup", f"{name} pg_dump"), 2),
        "restore_to_psql": round(bench.ratio(f"{name} restore", f"{name} psql"), 2),
        **{
            f"{what}_seconds": round(statistics.median(bench.samples[f"{name} {what}"]), 1)
            for what in ("pg_dump", "backup", "psql", "restore")
        },
        **{f"{what}_mib": bench.peak[f"{name} {what}"] // MIB for what in ("backup", "restore")},
    }
    plain.unlink()
    return found


def _recreate(bench: Bench) -> None:
    """An empty database for psql, and the work that the last measurement has left to the server done."""
    with contextlib.closing(bench.connect("postgres")) as connection, connection.cursor() as cursor:
        cursor.execute("DROP DATABASE IF EXISTS by_psql")
        cursor.execute("CREATE DATABASE by_psql TEMPLATE template0")
        cursor.execute("CHECKPOINT")


def main() -> int:
    """Run every measurement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = ", ".join(shape.name for shape in SHAPES)
    parser.add_argument("shapes", nargs="*", metavar="SHAPE", help=f"{names}; default: all")
    parser.add_argument("--divide", type=int, default=1, help="make everything this many times as small")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each comparison (default: %(default)s)")
    parser.add_argument("--output", type=pathlib.Path, default=ROOT / "bench-schemas.json")
    options = parser.parse_args()
    shapes = [one for one in SHAPES if not options.shapes or one.name in options.shapes]
    with contextlib.ExitStack() as stack:
        directory = pathlib.Path(tempfile.mkdtemp(prefix="bench-", dir="/var/tmp"))
        stack.callback(shutil.rmtree, directory)
        directory.chmod(0o755)
        configuration = {"shared_buffers": "1GB", "max_wal_size": "8GB", "checkpoint_timeout": "1h"}
        cluster = stack.enter_context(
            Cluster(
                directory=directory / "cluster",
                configuration={**configuration, "max_locks_per_transaction": str(LOCKS)},
            )
        )
        server = stack.enter_context(S3Server(directory / "s3", fast=True))
        bench = Bench(cluster, server, directory)
        bench.configure([shape.name for shape in shapes])
        results = []
        for shape in shapes:
            size = shape.size // options.divide
            make(bench, shape, size)
            results.append({**measure(bench, shape, options.rounds), "title": shape.title.format(n=size)})
            with contextlib.closing(bench.connect("postgres")) as connection:
                connection.cursor().execute(f"DROP DATABASE {shape.name}")
    machine = f"{os.cpu_count()} cores, Python {platform.python_version()}, PostgreSQL {cluster.major}"
    report = {"machine": machine, "rounds": options.rounds, "results": results}
    options.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(f"\n{machine}, medians of {options.rounds} rounds\n")
    print("| database | `pg_dump` | backup | ratio | `psql` | restore | ratio | peak memory |\n" + "| --- " * 8 + "|")
    for one in results:
        print(
            f"| {one['title']} ({one['dump_mib']} MiB) | {one['pg_dump_seconds']} s | {one['backup_seconds']} s"
            f" | {one['backup_to_pg_dump']} | {one['psql_seconds']} s | {one['restore_seconds']} s"
            f" | {one['restore_to_psql']} | {one['backup_mib']}, {one['restore_mib']} MiB |"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
