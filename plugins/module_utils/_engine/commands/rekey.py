# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The command ``rekey``."""

from __future__ import annotations

import datetime
import sys
import typing as t

from .. import outcome
from ..domain import human, layout, recipients
from ..errors import ConfigurationError
from ..keys import rekey
from ..printing import printable, printable_name
from ..stores import catalogue
from ..stores.registry import open_store
from ..streams import age
from . import common, identity

if t.TYPE_CHECKING:
    from ..domain.subjects import Subject
    from ..profile import Profile
    from ..reporting import Reporter
    from ..stores.base import Store


def register(command: common.Command) -> None:
    """Add the command."""
    parser = command(
        "rekey",
        run,
        "encrypt backups to other recipients",
        "Encrypt backups to the recipients that the list has now. The old objects stay. Run it again to go on where\n"
        "it was interrupted. The private key is that of the old recipients; give several keys as several lines.",
    )
    parser.add_argument(
        "source", metavar="SOURCE", nargs="*", help="key of a dump or manifest, or the prefix of a database"
    )
    common.add_database_flag(parser)
    parser.add_argument("--all", action="store_true", help="all backups of all databases, and of the cluster's roles")
    parser.add_argument("--dry-run", action="store_true", help="report what would be done and change nothing")
    identity.add_flag(parser)


def run(options: common.Options, reporter: Reporter) -> int:
    """Rekey, or plan to; the exit status is returned."""
    host = common.read_profile(options, environment=True)
    identity.leave_environment()
    store = open_store(host.store())
    subjects, keys = _wanted(options, host, store)
    key = identity.given(host, options.identity_fd)
    how = rekey.Options(
        identities=() if key is None else tuple(age.parse_identities([key])),
        signer=host.signer(),
        trust=host.trust(),
        owners=recipients.owners([*host.databases().entries, host.cluster_globals()]),
    )
    for subject in subjects:
        age.parse_recipients(subject.recipients)
    work = rekey.plan(store, subjects, options=how, keys=keys)
    if not how.identities and not options.dry_run and any(one.is_due for one in work):
        interactive = not host.values.get("restore", "non_interactive")
        asked = identity.ask(f"{len(work)} backups in {store.location}", interactive=interactive)
        how = how.with_identities(age.parse_identities([asked]))
    now = datetime.datetime.now(datetime.timezone.utc)
    summary = rekey.rekey_all(store, work, options=how, moment=now, plan_only=options.dry_run, reporter=reporter)
    return _finish(options, summary, warnings=host.warnings)


def _wanted(options: common.Options, host: Profile, store: Store) -> tuple[list[Subject], list[str] | None]:
    """The databases whose backups are rekeyed, and the keys of those that were named; ``None``: all of them."""
    cluster = host.cluster_globals()
    every: list[Subject] = [*host.databases().entries, *([cluster] if cluster.recipients else [])]
    ways = [bool(options.source), bool(options.database), options.all]
    if sum(ways) != 1:
        raise ConfigurationError(
            "nothing says which backups to rekey"
            if not any(ways)
            else "SOURCE, --database and --all exclude each other",
            hint="name keys, or databases with --database, or use --all",
        )
    if options.all:
        return every, None
    if options.database:
        return list(host.databases().selected(options.database)), None
    subjects: dict[str, Subject] = {}
    keys: list[str] = []
    whole = True
    for source in options.source:
        owner = next((one for one in every if source.startswith(one.prefix)), None)
        if owner is None:
            raise ConfigurationError(
                f"{printable(source)} is not below the prefix of a database of the list",
                cause="the list has " + ", ".join(printable(one.prefix) for one in every),
                hint="name a key below one of these prefixes",
            )
        subjects[owner.prefix] = owner
        if source != owner.prefix:
            whole = False
            keys.append(_named(source, owner, store))
    if keys and any(source in subjects for source in options.source):
        raise ConfigurationError("keys and prefixes exclude each other", hint="run the command once for each")
    return list(subjects.values()), None if whole else keys


def _named(source: str, owner: Subject, store: Store) -> str:
    if source != layout.latest_key(owner.prefix):
        return source
    return catalogue.read_manifest(store, source).location.key


def _finish(options: common.Options, summary: outcome.Summary, *, warnings: t.Sequence[str]) -> int:
    status = common.FAILED if summary.failed else common.OK
    if options.json:
        backups = [{"backup": one.database, **one.as_dict()} for one in summary.outcomes]
        for entry in backups:
            del entry["database"]
        common.write_json({"backups": backups, "warnings": [*map(printable, warnings), *summary.warnings]})
        return status
    for warning in warnings:
        sys.stderr.write(f"warning: {printable(warning)}\n")
    for one in summary.outcomes:
        key = printable_name(one.database)
        for warning in one.details.get("warnings", ()):
            sys.stderr.write(f"warning: {key}: {printable(warning)}\n")
        if one.error is not None:
            sys.stderr.write(f"error: {key}: {one.error}\n")
        elif one.status == rekey.SKIPPED:
            sys.stderr.write(f"note: {key} is left alone: {one.details['reason']}\n")
        elif one.status != rekey.UNCHANGED:
            sys.stdout.write(f"{key}: {_sentence(one)}\n")
    sys.stdout.write(_last_line(summary) + "\n")
    return status


def _sentence(one: outcome.Outcome) -> str:
    facts = one.details
    if one.status == rekey.PLANNED:
        return f"would be rekeyed as {printable_name(facts['key'])}"
    if "copy" in facts:
        return f"was rekeyed as {printable_name(facts['copy'])}, which is now the latest"
    signed = "signed" if facts["signed"] else "not signed"
    latest = ", now the latest" if facts["latest"] else ""
    size, seconds = human.size(facts["size"]), human.duration(facts["duration_seconds"])
    return f"rekeyed as {printable_name(facts['key'])}: {size} in {seconds}, {signed}{latest}"


def _last_line(summary: outcome.Summary) -> str:
    """``3 rekeyed, 2 need no rekey, 1 failed``."""
    words = {
        rekey.REKEYED: "rekeyed",
        rekey.PLANNED: "to be rekeyed",
        rekey.UNCHANGED: "need no rekey",
        rekey.SKIPPED: "left alone",
        outcome.FAILED: "failed",
    }
    numbers = {word: sum(one.status == status for one in summary.outcomes) for status, word in words.items()}
    return ", ".join(f"{number} {word}" for word, number in numbers.items() if number) or "no backups"
