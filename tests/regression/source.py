# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Creates PostgreSQL's regression database: what its regression tests leave behind."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import typing as t

from tests.support.cluster import SERVER_USER, Cluster

from .material import Material

DATABASE = "regression"
#: Tests whose subject is not what a dump of one database contains.
LEFT_OUT = frozenset({"tablespace", "subscription", "database"})
#: What pg_regress sets (create_database() and initialize_environment() in pg_regress.c).
SETTINGS = {
    "lc_messages": "C",
    "lc_monetary": "C",
    "lc_numeric": "C",
    "lc_time": "C",
    "bytea_output": "hex",
    "timezone_abbreviations": "Default",
}
ENVIRONMENT = {
    "PGTZ": "America/Los_Angeles",
    "PGDATESTYLE": "Postgres, MDY",
    "PGOPTIONS": "-c intervalstyle=postgres_verbose",
    "LC_ALL": "C",
}


def schedule(material: Material) -> list[str]:
    """Return the names of the tests in the order in which they run."""
    lines = (material.source / "parallel_schedule").read_text(encoding="utf-8").splitlines()
    names = [name for line in lines if line.startswith("test:") for name in line.partition(":")[2].split()]
    return [name for name in names if name not in LEFT_OUT]


def create(cluster: Cluster, material: Material, libraries: pathlib.Path, *, say: t.Callable[[str], None]) -> list[str]:
    """Create the regression database in *cluster*, and return the tests whose output is not an expected one.

    The tests run one after the other.  Many of them make errors on purpose; what counts is what they leave.

    :param libraries: the directory from which the server loads the tests' libraries.
    """
    place = cluster.directory / "regress"
    shutil.copytree(material.source, place)
    (place / "results").mkdir()
    for directory, _names, files in os.walk(place):
        for name in (".", *files):
            _own(pathlib.Path(directory, name))
    cluster.psql(f"CREATE DATABASE {DATABASE} TEMPLATE template0")
    for name, value in SETTINGS.items():
        cluster.psql(f"ALTER DATABASE {DATABASE} SET {name} TO '{value}'")
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PG")},
        **ENVIRONMENT,
        "PG_ABS_SRCDIR": str(place),
        "PG_ABS_BUILDDIR": str(place),
        "PG_LIBDIR": str(libraries),
        "PG_DLSUFFIX": ".so",
        "PGHOST": cluster.host,
        "PGPORT": str(cluster.port),
        "PGUSER": SERVER_USER,
        "PGDATABASE": DATABASE,
    }
    names = schedule(material)
    unexpected = []
    for number, name in enumerate(names, 1):
        result = place / "results" / f"{name}.out"
        with (place / "sql" / f"{name}.sql").open("rb") as script, result.open("wb") as output:
            subprocess.run(
                [
                    *(str(cluster.bindir / "psql"), "-X", "-a", "-q"),
                    *("-v", "HIDE_TABLEAM=on", "-v", "HIDE_TOAST_COMPRESSION=on"),
                ],
                stdin=script,
                stdout=output,
                stderr=output,
                env=environment,
                cwd=place,
                check=False,
            )
        # Files with a number are for other platforms and settings.
        expected = [place / "expected" / f"{name}.out", *(place / "expected").glob(f"{name}_[0-9].out")]
        if result.read_bytes() not in [path.read_bytes() for path in expected]:
            unexpected.append(name)
            say(f"unexpected output of {name}")
        if number % 40 == 0:
            say(f"{number} of {len(names)} tests")
    return unexpected


def _own(path: pathlib.Path) -> None:
    if os.geteuid() == 0:
        shutil.chown(path, SERVER_USER, SERVER_USER)
