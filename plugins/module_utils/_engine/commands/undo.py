# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The commands ``undo`` and ``drop-replaced``: what becomes of the databases that restores have replaced."""

from __future__ import annotations

import datetime
import typing as t

from .. import outcome
from ..domain import human
from ..printing import printable, printable_name
from . import common, confirmation

if t.TYPE_CHECKING:
    import argparse

    from ..reporting import Reporter

_UNDO = """\
Swap the previous database back in: the one that the last restore, or the last undo, has replaced. It comes back with
its rows, its owner, its privileges and its settings, and the present database is kept in its place. So a second undo
brings back what the first one has put aside. What was written since the restore stays in the database that is put
aside."""

_DROP = """\
Drop the databases that restores of a database have replaced, before their time is over. They free their space at once,
and an undo cannot bring them back."""


def register(command: common.Command) -> None:
    """Add both commands."""
    parser = command("undo", undo, "swap the previous database back in", _UNDO)
    parser.add_argument("database", metavar="DATABASE", help="the database whose last restore is undone")
    parser.add_argument("--dry-run", action="store_true", help="print the plan and change nothing")
    confirmation.add_flag(parser)
    common.add_flags(parser, "restore", "keep_replaced", "on_connections", "non_interactive")

    parser = command("drop-replaced", drop_replaced, "drop databases that restores have replaced", _DROP)
    parser.add_argument("database", metavar="DATABASE", help="the database whose replaced databases are dropped")
    parser.add_argument("--all-but-newest", action="store_true", help="keep the one that an undo would bring back")
    parser.add_argument("--dry-run", action="store_true", help="print what would be dropped and change nothing")
    confirmation.add_flag(parser)
    common.add_flags(parser, "restore", "non_interactive")


def undo(options: argparse.Namespace, reporter: Reporter) -> int:
    """Undo the last restore, or plan to; the exit status is returned."""
    # Not at the top, as in the command restore.
    from ..restore import undo as use_case

    host = common.read_profile(options, "restore", environment=True)
    name, get = options.database, host.values.get

    def work(*, plan_only: bool) -> outcome.Outcome:
        return use_case.undo(
            name,
            settings=host.connection(),
            keep=get("restore", "keep_replaced"),
            on_connections=get("restore", "on_connections"),
            plan_only=plan_only,
            reporter=reporter,
        )

    if not options.dry_run and confirmation.is_wanted(options, interactive=not get("restore", "non_interactive")):
        confirmation.require(_undo_plan(work(plan_only=True)), f"Undo the last restore of {printable_name(name)}?")
    summary = outcome.run_each([name], lambda _name: work(plan_only=options.dry_run), reporter=reporter)
    sentence, done = (_undo_plan, "planned") if options.dry_run else (_undone, "swapped back in")
    return common.finish(options, summary, warnings=host.warnings, sentence=sentence, done=done)


def drop_replaced(options: argparse.Namespace, reporter: Reporter) -> int:
    """Drop replaced databases, or plan to; the exit status is returned."""
    from ..restore import undo as use_case

    host = common.read_profile(options, "restore", environment=True)
    name = options.database

    def work(*, plan_only: bool) -> outcome.Outcome:
        return use_case.drop_replaced(
            name,
            use_case.ALL_BUT_NEWEST if options.all_but_newest else use_case.ALL,
            settings=host.connection(),
            plan_only=plan_only,
            reporter=reporter,
        )

    interactive = not host.values.get("restore", "non_interactive")
    if not options.dry_run and confirmation.is_wanted(options, interactive=interactive):
        planned = work(plan_only=True)
        if planned.details["dropped"]:
            confirmation.require(_drop_plan(planned), "Drop them?")
    summary = outcome.run_each([name], lambda _name: work(plan_only=options.dry_run), reporter=reporter)
    sentence, done = (_drop_plan, "planned") if options.dry_run else (_dropped, "tidied up")
    return common.finish(options, summary, warnings=host.warnings, sentence=sentence, done=done)


# Sentences ----------------------------------------------------------------------------------------------------------


def _undo_plan(one: outcome.Outcome) -> str:
    facts = one.details
    previous, present = facts["previous"], facts["replaces"]
    back = f"{_kept(previous)}, {_origin(previous['restored_from'])}"
    if previous["sessions"]:
        back += f"; {human.counted(previous['sessions'], 'session')} in it would be ended"
    aside = "nothing: there is no such database"
    if present is not None:
        aside = (
            f"the present database with {human.size(present['size'])} and"
            f" {human.counted(present['sessions'], 'session')}, {_origin(facts['restored_from'])}; kept for"
            f" {facts['keep_replaced']:g} h"
        )
    return f"plan of the undo\n  comes back: {back}\n  put aside:  {aside}"


def _undone(one: outcome.Outcome) -> str:
    facts = one.details
    text = f"swapped back in: {_kept(facts['previous'])}, {_origin(facts['previous']['restored_from'])}"
    if facts["kept_as"] is None:
        return text
    return (
        f"{text}; what it has replaced is kept as {printable_name(facts['kept_as'])} for {facts['keep_replaced']:g} h"
    )


def _drop_plan(one: outcome.Outcome) -> str:
    return _listed(one, "would be dropped")


def _dropped(one: outcome.Outcome) -> str:
    return _listed(one, "dropped")


def _listed(one: outcome.Outcome, done: str) -> str:
    dropped = one.details["dropped"]
    if not dropped:
        return "no replaced database to drop"
    return f"{', '.join(map(_kept, dropped))}: {done}, {human.size(one.details['size'])} in total"


def _kept(facts: t.Mapping[str, t.Any]) -> str:
    """Such as ``shop__replaced_0a1b2c3d (1.2 GiB, replaced 2 h ago)``."""
    replaced_at = datetime.datetime.strptime(facts["replaced_at"], "%Y-%m-%dT%H:%M:%S%z")
    seconds = (datetime.datetime.now(datetime.timezone.utc) - replaced_at).total_seconds()
    return f"{printable_name(facts['name'])} ({human.size(facts['size'])}, replaced {human.age(seconds)})"


def _origin(url: str | None) -> str:
    return "not restored from a backup" if url is None else f"restored from {printable(url)}"
