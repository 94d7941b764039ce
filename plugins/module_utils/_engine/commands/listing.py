# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The command ``list``."""

from __future__ import annotations

import datetime
import sys
import typing as t

from ..domain import human
from ..printing import printable, printable_name
from ..stores import catalogue, registry
from . import common

if t.TYPE_CHECKING:
    from ..reporting import Reporter

_HEADER = ("CREATED", "AGE", "DATABASE", "SIZE", "STATE", "LATEST", "KEY")


def register(command: common.Command) -> None:
    """Add the command."""
    parser = command(
        "list",
        run,
        "list backups",
        "List the backups of databases, and of the roles of the cluster if they have recipients, newest first. A\n"
        "restore from a prefix takes the latest one.",
    )
    common.add_database_flag(parser)


def run(options: common.Options, _reporter: Reporter) -> int:
    """Print the catalogue; the exit status is returned."""
    host = common.read_profile(options)
    store = registry.open_store(host.store())
    now = datetime.datetime.now(datetime.timezone.utc)
    backups = [
        backup
        for subject in host.selected(options.database)
        for backup in catalogue.catalogue(store, subject.name, prefix=subject.prefix)
    ]
    if options.json:
        common.write_json({"backups": [one.as_dict(now) for one in backups]})
        return common.OK
    for warning in host.warnings:
        sys.stderr.write(f"warning: {printable(warning)}\n")
    for row in _aligned([_HEADER, *(_cells(one, now) for one in backups)]):
        sys.stdout.write(row + "\n")
    if not (host.cluster_globals().recipients or options.database):
        sys.stderr.write(
            "note: the roles of the cluster are not backed up, because DB_CLUSTER_AGE_PUBLIC_KEYS names no recipient\n"
        )
    return common.OK


def _cells(one: catalogue.Backup, now: datetime.datetime) -> tuple[str, ...]:
    # Names and keys are what others wrote.
    return (
        f"{one.created_at:%Y-%m-%d %H:%M:%SZ}",
        human.age((now - one.created_at).total_seconds()),
        printable_name(one.database),
        human.size(one.size),
        one.state,
        "latest" if one.latest else "",
        printable_name(one.key),
    )


def _aligned(rows: t.Sequence[tuple[str, ...]]) -> t.Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip()
