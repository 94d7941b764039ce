# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The command ``restore``."""

from __future__ import annotations

import typing as t

from .. import outcome
from ..domain import human
from ..domain.restoring import REPLACE
from ..errors import ConfigurationError
from ..printing import printable, printable_name
from ..stores.registry import open_store
from ..streams import age
from . import common, confirmation, identity

if t.TYPE_CHECKING:
    import argparse

    from ..reporting import Reporter
    from ..restore.plan import RestorePlan


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
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--dry-run", action="store_true", help="print the plan and change nothing")
    instead.add_argument(
        "--to-file",
        metavar="PATH",
        help="write the plain dump to this new file, which only its owner can read, and restore nothing; no server is"
        " needed",
    )
    confirmation.add_flag(parser)
    common.add_flags(parser, "restore")
    identity.add_flag(parser)


def run(options: argparse.Namespace, reporter: Reporter) -> int:
    """Restore, or plan to; the exit status is returned."""
    # Not at the top: a backup, which starts every night on every host, starts sooner without it.
    from ..restore import restore, to_file
    from ..restore.choose import choose, is_encrypted
    from ..restore.plan import Request
    from ..sources import registry

    host = common.read_profile(options, "restore", environment=True)
    identity.leave_environment()
    listed = host.databases()
    database = listed.named(options.database)
    wanted = host.restore_options(listed)
    key = identity.given(host, options.identity_fd)
    interactive = not host.values.get("restore", "non_interactive")
    # Chosen once: what is restored is what was shown, whatever has become the latest backup meanwhile.
    choice = choose(
        open_store(host.store()),
        options.source,
        database=database,
        trust=wanted.trust,
        expected_sha256=host.values.get("restore", "expected_sha256"),
    )
    if key is None and not options.dry_run and is_encrypted(choice):
        # Before the plan, which then tells whether the key opens the backup.
        key = identity.ask(choice.url, interactive=interactive)
    request = Request(
        database=database,
        choice=choice,
        options=wanted,
        identities=() if key is None else tuple(age.parse_identities([key])),
    )
    settings = host.connection()
    if options.to_file is not None:
        if wanted.as_name is not None:
            raise ConfigurationError(
                "--to-file and --as exclude each other", hint="a file contains the whole dump: leave --as out"
            )
        summary = outcome.run_each(
            [database.name], lambda _name: to_file.write(request, options.to_file, settings=settings, reporter=reporter)
        )
        return common.finish(options, summary, warnings=host.warnings, sentence=_written, done="written")
    warnings: list[str] = []
    shown: RestorePlan | None = None
    if not options.dry_run:
        warnings = registry.open_source(settings).remove_leftovers()
        if confirmation.is_wanted(options, interactive=interactive):
            shown = restore.look(request, settings=settings)
            shown.require_possible()
            name = printable_name(database.name)
            plan = [f"{name}: {described(shown.as_dict())}"]
            plan += [f"  {'warning:':<11}{printable(text)}" for text in shown.warnings]
            confirmation.require("\n".join(plan), _question(shown, name))

    def work(_name: str) -> outcome.Outcome:
        if options.dry_run:
            return restore.plan(request, settings=settings)
        return restore.restore(request, settings=settings, reporter=reporter, shown=shown)

    summary = outcome.run_each([database.name], work, warnings=warnings)
    sentence, done = (_planned, "planned") if options.dry_run else (_restored, "restored")
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


def _written(one: outcome.Outcome) -> str:
    facts = one.details
    contents = "an archive for pg_restore"
    if facts["is_text"]:
        contents = f"{human.counted(facts['tables'], 'table')}, {human.counted(facts['rows'], 'row')}"
    return (
        f"written to {printable(facts['file'])} from {printable(facts['source'])}{_made(facts)}: {contents},"
        f" {human.size(facts['file_size'])} in {human.duration(facts['duration_seconds'])},"
        f" {'verified' if facts['verified'] else 'not verified'}; SHA-256 {facts['file_sha256']}"
    )


def _planned(one: outcome.Outcome) -> str:
    return described(one.details)


def _question(plan: RestorePlan, name: str) -> str:
    if plan.request.options.as_name is not None:
        name += f" as {printable_name(plan.request.options.as_name)}"
    elif plan.replaces is not None and not plan.replaces.empty:
        return f"Replace {name}?"
    return f"Restore {name}?"


def described(facts: t.Mapping[str, t.Any]) -> str:
    """A plan in words: what is restored, from what, and what is replaced.

    :param facts: of :meth:`..restore.plan.RestorePlan.as_dict`.
    """
    copy = facts["as"]
    lines = [
        ("backup", _backup(facts)),
        ("signed by", _signed_by(facts)),
        ("contents", _contents(facts)),
        *([("tables", f"only {', '.join(map(printable, facts['only_tables']))}")] if facts["only_tables"] else []),
        ("replaces", _replaces(facts)),
        ("space", _space(facts["space"])),
    ]
    kept = [f"{printable_name(one['name'])} ({human.size(one['size'])})" for one in facts["kept"]]
    if kept:
        lines.append(("kept", f"{', '.join(kept)}: replaced before, and not dropped yet"))
    if facts["refusal"] is not None:
        lines.append(("refused", printable(facts["refusal"])))
    title = "plan of the restore" if copy is None else f"plan of the restore beside it, as {printable_name(copy)}"
    return "\n".join([title, *(f"  {label + ':':<11}{text}" for label, text in lines)])


def _backup(facts: t.Mapping[str, t.Any]) -> str:
    seconds = facts["age_seconds"]
    created = "of an unknown time" if seconds is None else f"created {facts['created_at']}, {human.age(seconds)}"
    return f"{printable(facts['source'])}, {created}"


def _signed_by(facts: t.Mapping[str, t.Any]) -> str:
    signed_by = facts["signed_by"]
    if signed_by is None:
        return "nobody whose backups are accepted here"
    return f"{printable_name(signed_by['name'])}, key {printable(signed_by['key'])}"


def _contents(facts: t.Mapping[str, t.Any]) -> str:
    parts = []
    if facts["tables"] is not None:
        parts.append(f"{human.counted(facts['tables'], 'table')}, {human.counted(facts['rows'], 'row')}")
    if facts["backup_server_version"] is not None:
        parts.append(f"of PostgreSQL {printable(facts['backup_server_version'])}")
    times = "once" if facts["reads"] == 1 else "twice"
    parts.append(f"{human.size(facts['size'])}, read {times}")
    return ", ".join(parts)


def _replaces(facts: t.Mapping[str, t.Any]) -> str:
    replaced = facts["replaces"]
    if replaced is None:
        return "nothing: there is no such database"
    if replaced["empty"]:
        return f"an empty database of {printable_name(replaced['owner'])}"
    what = "a database" if facts["as"] is None else "an earlier copy"
    return (
        f"{what} of {printable_name(replaced['owner'])} with {human.size(replaced['size'])} and"
        f" {human.counted(replaced['sessions'], 'session')}" + _fate(facts)
    )


def _fate(facts: t.Mapping[str, t.Any]) -> str:
    """What becomes of the database that is replaced."""
    if facts["as"] is not None:
        return ""
    if facts["strategy"] == REPLACE:
        return ", which is dropped first"
    if facts["in_place"]:
        return ", whose contents are replaced in place and not kept"
    hours = facts["keep_replaced"]
    return f", which is kept for {hours:g} h" if hours else ", which is not kept"


def _space(space: t.Mapping[str, t.Any]) -> str:
    needed, available = space["needed"], space["available"]
    wal = f", with {human.size(space['wal'])} of WAL" if space["wal"] else ""
    text = "need unknown" if needed is None else f"about {human.size(needed)} needed ({space['estimated_from']}{wal})"
    return f"{text}, {'an unknown amount' if available is None else human.size(available)} available"


def _made(facts: t.Mapping[str, t.Any]) -> str:
    age_seconds, signed_by = facts["age_seconds"], facts["signed_by"]
    created = "" if age_seconds is None else f", created {human.age(age_seconds)}"
    signed = "not signed by an accepted host" if signed_by is None else f"signed by {printable_name(signed_by['name'])}"
    return f"{created}, {signed}"
