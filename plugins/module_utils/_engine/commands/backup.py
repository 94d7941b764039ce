# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The command ``backup``."""

from __future__ import annotations

import dataclasses
import sys
import typing as t

from ..backup import backup
from ..domain import human, manifest
from ..printing import printable
from ..stores import registry
from . import common

if t.TYPE_CHECKING:
    from ..outcome import Outcome
    from ..reporting import Reporter


def register(command: common.Command) -> None:
    """Add the command."""
    parser = command(
        "backup",
        run,
        "back databases up",
        "Back up every database of the list in db.env, each encrypted to its own age recipients, and the roles of the\n"
        "cluster if they have recipients (DB_CLUSTER_AGE_PUBLIC_KEYS).",
    )
    common.add_database_flag(parser)
    common.add_flags(parser, "backup")
    parser.add_argument("--dry-run", action="store_true", help="report what would be done, and whether it is allowed")


def run(options: common.Options, reporter: Reporter) -> int:
    """Back up, or plan to; the exit status is returned."""
    host = common.read_profile(options, "backup")
    wanted = host.databases().selected(options.database)
    work = backup.plan_all if options.dry_run else backup.back_up_all
    summary = work(
        wanted,
        # Whoever names databases wants no more than these.
        cluster=None if options.database else host.cluster_globals(),
        settings=host.connection(),
        store=registry.open_store(host.store()),
        options=host.backup_options(),
        reporter=reporter,
    )
    if not options.json:
        # One line, every night, in the mail of cron or the journal of each other node.
        for reason in dict.fromkeys(
            str(one.details["reason"]) for one in summary.outcomes if one.status == backup.SKIPPED
        ):
            sys.stdout.write(f"not backed up here: {reason}\n")
        done_here = tuple(one for one in summary.outcomes if one.status != backup.SKIPPED)
        if summary.outcomes and not done_here:
            return common.OK
        summary = dataclasses.replace(summary, outcomes=done_here)
    sentence, done = (_planned, "can be backed up") if options.dry_run else (_backed_up, "backed up")
    return common.finish(options, summary, warnings=host.warnings, sentence=sentence, done=done)


def _backed_up(one: Outcome) -> str:
    """Such as ``backed up as KEY: 12 tables, 1,200 rows, 1.2 MiB (5.0 MiB of text) in 12 s, number 42, signed``."""
    facts = one.details
    contents = "the roles of the cluster"
    if facts["kind"] == manifest.DUMP:
        contents = f"{human.counted(facts['tables'], 'table')}, {human.counted(facts['rows'], 'row')}"
    sizes = f"{human.size(facts['size'])} ({human.size(facts['plaintext_size'])} of text)"
    signed = "signed" if facts["signed"] else "not signed"
    return (
        f"backed up as {printable(facts['key'])}: {contents}, {sizes} in {human.duration(facts['duration_seconds'])},"
        f" number {facts['sequence']}, {signed}"
    )


def _planned(one: Outcome) -> str:
    facts = one.details
    what = "the database has" if facts["kind"] == manifest.DUMP else "their text has"
    return (
        f"would be backed up as {printable(facts['key'])}, number {facts['sequence']}; {what}"
        f" {human.size(facts['estimated_size'])}"
    )
