# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The command ``restore``."""

from __future__ import annotations

import typing as t

from .. import outcome
from ..domain import human
from ..printing import printable, printable_name
from ..stores.registry import open_store
from ..streams import age
from . import common, identity

if t.TYPE_CHECKING:
    import argparse

    from ..reporting import Reporter


def register(command: common.Command) -> None:
    """Add the command."""
    parser = command(
        "restore",
        run,
        "restore one database",
        "Restore one database from a backup. Only that database is replaced, and only by a backup that was verified\n"
        "to its last byte. Settings come from db.env; DB_RESTORE_* in the environment overrides it, and flags\n"
        "override both.",
    )
    parser.add_argument("database", metavar="DATABASE", help="a database of the list in db.env")
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="key of a dump or manifest, a prefix that ends with '/' (its latest backup), or s3://bucket/key",
    )
    parser.add_argument("--dry-run", action="store_true", help="print the plan and change nothing")
    common.add_flags(parser, "restore")
    identity.add_flag(parser)


def run(options: argparse.Namespace, reporter: Reporter) -> int:
    """Restore, or plan to; the exit status is returned."""
    # Not at the top: a backup, which starts every night on every host, starts sooner without it.
    from ..restore import restore
    from ..restore.choose import choose, is_encrypted
    from ..restore.plan import Request
    from ..sources import registry

    host = common.read_profile(options, "restore", environment=True)
    identity.leave_environment()
    listed = host.databases()
    database = listed.named(options.database)
    wanted = host.restore_options(listed)
    key = identity.given(host, options.identity_fd)
    choice = choose(
        open_store(host.store()),
        options.source,
        database=database,
        trust=wanted.trust,
        expected_sha256=host.values.get("restore", "expected_sha256"),
    )
    if key is None and not options.dry_run and is_encrypted(choice):
        key = identity.ask(choice.url, interactive=not host.values.get("restore", "non_interactive"))
    request = Request(
        database=database,
        choice=choice,
        options=wanted,
        identities=() if key is None else tuple(age.parse_identities([key])),
    )
    work = restore.plan if options.dry_run else restore.restore
    warnings = [] if options.dry_run else registry.open_source(host.connection()).remove_leftovers()
    summary = outcome.run_each(
        [database.name], lambda _name: work(request, settings=host.connection(), reporter=reporter), warnings=warnings
    )
    sentence, done = (_planned, "can be restored") if options.dry_run else (_restored, "restored")
    return common.finish(options, summary, warnings=host.warnings, sentence=sentence, done=done)


def _restored(one: outcome.Outcome) -> str:
    facts = one.details
    contents = f"{human.counted(facts['tables'], 'table')}, {human.counted(facts['rows'], 'row')}"
    kept = facts["kept_as"]
    result = "restored with errors" if facts["failed_statements"] else "restored"
    if facts["as"] is not None:
        result += f" as {printable_name(facts['as'])}"
    return (
        f"{result} from {printable(facts['source'])}{_made(facts)}: {contents} in"
        f" {human.duration(facts['duration_seconds'])}, {'verified' if facts['verified'] else 'not verified'}"
        + (f"; the replaced database is kept as {printable_name(kept)}" if kept else "")
    )


def _planned(one: outcome.Outcome) -> str:
    facts = one.details
    rows = "" if facts["rows"] is None else f", {human.counted(facts['rows'], 'row')}"
    times = "once" if facts["reads"] == 1 else "twice"
    replaced = facts["replaces"]
    copy = "" if facts["as"] is None else f" beside it as {printable_name(facts['as'])}"
    text = (
        f"would be restored{copy} from {printable(facts['source'])}{_made(facts)}: {human.size(facts['size'])}{rows},"
        f" read {times}"
    )
    if replaced is None:
        return f"{text}; no database is replaced"
    what = "a database" if facts["as"] is None else "an earlier copy"
    return (
        f"{text}; replaces {what} of {printable_name(replaced['owner'])} with {human.size(replaced['size'])} and"
        f" {human.counted(replaced['sessions'], 'session')}"
    )


def _made(facts: t.Mapping[str, t.Any]) -> str:
    age_seconds, signed_by = facts["age_seconds"], facts["signed_by"]
    created = "" if age_seconds is None else f", created {human.age(age_seconds)}"
    signed = "not signed by an accepted host" if signed_by is None else f"signed by {printable_name(signed_by['name'])}"
    return f"{created}, {signed}"
