# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Checks of the server, and of the databases that should be there."""

from __future__ import annotations

import typing as t

from ..domain.checks import CRITICAL, OK, WARNING, Check, failed
from ..errors import EngineError

if t.TYPE_CHECKING:
    from .host import Host

AREA = "server"


def check(host: Host) -> t.Iterator[Check]:
    """The server answers, can be dumped, and has the databases of the list."""
    listed = host.profile().databases()
    try:
        health = host.health()
    except EngineError as exc:
        yield failed(AREA, "connection", exc)
        return
    role = ", a standby" if health.standby else ""
    yield Check(AREA, "connection", OK, f"PostgreSQL {health.version}{role}")
    if isinstance(health.dump_program, EngineError):
        yield failed(AREA, "pg_dump", health.dump_program)
    else:
        yield Check(AREA, "pg_dump", OK, health.dump_program)
    for database in listed.entries:
        if database.name not in health.databases:
            remedy = "run the bootstrap, which creates it, or remove it from the list"
            yield Check(AREA, database.name, CRITICAL, "the database does not exist", remedy)


def restores(host: Host) -> t.Iterator[Check]:
    """No restore is outstanding."""
    health = host.health()
    for name in health.outstanding:
        yield Check(
            "restores",
            name,
            CRITICAL,
            "its restore is outstanding, so it is not backed up",
            "run the bootstrap again until every restore has succeeded, or restore it with restore.sh",
        )
    if health.unfinished and not health.outstanding:
        yield Check("restores", "bootstrap", WARNING, "it began and did not finish", "run the bootstrap again")
    if not (health.outstanding or health.unfinished):
        yield Check("restores", "all", OK, "none is outstanding")
