# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The use case "back up": plan, dump to the store, publish; ``latest`` comes last."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import time
import typing as t

from .. import outcome
from ..domain import layout, manifest, nodes
from ..domain.databases import Database
from ..domain.subjects import ClusterGlobals, Subject
from ..errors import ConfigurationError, ManifestError, OtherHistory
from ..reporting import Reporter, Silent
from ..sources import registry
from ..sources.base import Dump, Facts, LockedSession, RestoreRules, Source
from ..stores import catalogue
from ..stores.base import Store
from ..streams import age, pipeline
from . import dump, publish, readback
from .plan import BackupOptions, BackupPlan, plan_backup

#: Status of a database that was backed up, of one that another node of the cluster backs up, and of one that check mode
#: would back up.
BACKED_UP = "backed_up"
SKIPPED = "skipped"
PLANNED = "planned"

#: Status, where only first backups are wanted, of a database that has one; SKIPPED is that of one that can't have one.
PRESENT = "present"


def back_up(
    database: Database,
    *,
    settings: registry.Settings,
    store: Store,
    options: BackupOptions,
    moment: datetime.datetime,
    reporter: Reporter | None = None,
) -> outcome.Outcome:
    """Back up one database; the new backup becomes the latest one only after all of it was checked.

    :param moment: the run's timestamp, the same for all databases of a run; if the latest backup was made within the
        same second, this one waits for the next.
    """
    source = registry.open_source(settings)

    def dump_of(part: manifest.Part, advance: t.Callable[[int], None]) -> contextlib.AbstractContextManager[Dump]:
        rules = RestoreRules(options.restores, signed=options.signer is not None, required=options.require_restorable)
        return session.dump(
            database.name, part, rules=rules, lock_wait_seconds=options.lock_wait_seconds, advance=advance
        )

    # In this order: a key that is not valid is an error of the list, whatever the server says.
    recipients = age.parse_recipients(database.recipients)
    with source.locked(database.name, doing="backup") as session:
        run = _Run(database, recipients, source.kind, session, store, options, reporter or Silent())
        return run.back_up(lambda: session.facts(database), dump_of, moment=moment)


def back_up_globals(
    cluster: ClusterGlobals,
    *,
    settings: registry.Settings,
    store: Store,
    options: BackupOptions,
    moment: datetime.datetime,
    reporter: Reporter | None = None,
) -> outcome.Outcome:
    """Back up the globals of the cluster, as :func:`back_up` does a database."""
    source = registry.open_source(settings)

    def dump_of(part: manifest.Part, advance: t.Callable[[int], None]) -> contextlib.AbstractContextManager[Dump]:
        return session.dump_globals(part, passwords=cluster.passwords, advance=advance)

    recipients = age.parse_recipients(cluster.recipients)
    with source.locked(cluster.name, doing="backup") as session:
        run = _Run(cluster, recipients, source.kind, session, store, options, reporter or Silent())
        return run.back_up(lambda: session.globals_facts(passwords=cluster.passwords), dump_of, moment=moment)


@dataclasses.dataclass(frozen=True)
class _Run:
    """The backup of one database, or of the globals, under its lock.

    :param kind: of the source.
    """

    subject: Subject
    recipients: t.Sequence[t.Any]
    kind: str
    session: LockedSession
    store: Store
    options: BackupOptions
    reporter: Reporter

    def back_up(
        self,
        look: t.Callable[[], Facts],
        dump_of: t.Callable[[manifest.Part, t.Callable[[int], None]], contextlib.AbstractContextManager[Dump]],
        *,
        moment: datetime.datetime,
    ) -> outcome.Outcome:
        """Plan, dump and publish.

        :param look: reads the facts of the subject.
        :param dump_of: begins its dump, see :func:`.dump.upload`.
        """
        subject, session, store, options = self.subject, self.session, self.store, self.options
        plan = plan_backup(subject, look=look, session=session, store=store, options=options, moment=moment)
        if plan.covered is not None:
            return outcome.Outcome(subject.name, SKIPPED, {"reason": plan.covered})
        if plan.previous is not None and plan.previous.created_at == moment.replace(microsecond=0):
            # Keys have whole seconds, and this one's is taken: the next second's is not.
            time.sleep(1 - moment.microsecond / 1_000_000)
            moment += datetime.timedelta(seconds=1)
            plan = plan_backup(subject, look=look, session=session, store=store, options=options, moment=moment)
        started = time.monotonic()
        self.reporter.stage(subject.name, "dump", f"dumping to {store.url(plan.key)}", total=plan.expected_text_size)

        def described_by(stream: pipeline.Encoded, part: manifest.Part) -> manifest.Manifest:
            return publish.describe(
                plan,
                subject,
                kind=self.kind,
                stream=stream,
                part=part,
                store=store,
                options=options,
                moment=moment,
                seconds=time.monotonic() - started,
            )

        def before_end(stream: pipeline.Encoded, part: manifest.Part) -> None:
            publish.require_publishable(plan, described_by(stream, part), subject, session=session, store=store)

        stream, dumped = dump.upload(
            plan,
            recipients=self.recipients,
            dump_of=dump_of,
            store=store,
            options=options,
            reporter=self.reporter,
            before_end=before_end,
        )
        self.reporter.stage(subject.name, "manifest", "writing the manifest")
        # Again: only now is known what the store has shown of itself.
        described = described_by(stream, dumped.part)
        warnings = publish.publish(plan, described, subject, session=session, store=store, options=options)
        warnings = [*plan.warnings, *dumped.warnings, *warnings]
        details = _details(plan, described, warnings=warnings)
        if options.first:
            self.reporter.stage(subject.name, "check", "reading the backup back")
            details["read_back"] = list(readback.read_back(store, described, prefix=subject.prefix))
        return outcome.Outcome(subject.name, BACKED_UP, details)


def _details(plan: BackupPlan, described: manifest.Manifest, *, warnings: t.Sequence[str]) -> dict[str, t.Any]:
    return {
        "kind": described.kind,
        "key": described.key,
        "manifest": layout.manifest_key(plan.key),
        "sha256": described.sha256,
        "size": described.size,
        "plaintext_size": described.plaintext_size,
        "tables": len(described.tables or ()),
        "rows": described.rows,
        "sequence": described.sequence,
        "signed": described.signature is not None,
        "previous": None if plan.previous is None else plan.previous.key,
        "previous_signed_by": plan.previous_signed_by,
        "duration_seconds": described.duration_seconds,
        "warnings": list(warnings),
    }


def back_up_all(
    entries: t.Sequence[Database],
    *,
    settings: registry.Settings,
    store: Store,
    options: BackupOptions,
    cluster: ClusterGlobals | None = None,
    reporter: Reporter | None = None,
) -> outcome.Summary:
    """Back up each of *entries* under one timestamp; one that fails doesn't stop the others.

    :param cluster: the globals of the cluster, which are backed up as well if they have recipients.

    Replaced databases that restores kept, and copies that they made, are dropped first if their time is over.  Where
    another node of the cluster backs up, nothing is done.
    """
    moment = datetime.datetime.now(datetime.timezone.utc)
    by_name = {entry.name: entry for entry in entries}
    source = registry.open_source(settings)
    wanted = _wanted(cluster, entries)
    skipped = _skipped([*by_name, *wanted], source, options)
    if skipped is not None:
        return skipped
    warnings = [*source.warnings, *source.remove_leftovers(), *source.expire_replaced(by_name.keys())]

    def work(name: str) -> outcome.Outcome:
        more: t.Any = {"settings": settings, "store": store, "options": options, "moment": moment, "reporter": reporter}
        if name in by_name:
            return back_up(by_name[name], **more)
        return back_up_globals(wanted[name], **more)

    do = _of_those_without({**by_name, **wanted}, work, store=store) if options.first else work
    return outcome.run_each([*by_name, *wanted], do, jobs=options.jobs, warnings=warnings, reporter=reporter)


def _of_those_without(
    subjects: t.Mapping[str, Subject], work: t.Callable[[str], outcome.Outcome], *, store: Store
) -> t.Callable[[str], outcome.Outcome]:
    """*work* for each of *subjects* that has no backup, unless the store has another cluster's history of it."""

    def guarded(name: str) -> outcome.Outcome:
        subject = subjects[name]
        try:
            found = catalogue.read_latest(store, subject.prefix)
        except ManifestError as exc:
            # There is something, which the next backup judges.
            return outcome.Outcome(name, PRESENT, {"kind": subject.kind, "warnings": [exc.message]})
        if found is not None:
            return outcome.Outcome(name, PRESENT, {"kind": subject.kind, "key": found.location.key})
        try:
            return work(name)
        except OtherHistory as exc:
            return outcome.Outcome(name, SKIPPED, {"kind": subject.kind, "reason": str(exc), "warnings": [str(exc)]})

    return guarded


def _skipped(names: t.Iterable[str], source: Source, options: BackupOptions) -> outcome.Summary | None:
    """The outcomes where another node of the cluster backs up; ``None``: this one does."""
    reason = nodes.backs_up_elsewhere(source.node(), options.run_on)
    if reason is None:
        return None
    return outcome.Summary(tuple(outcome.Outcome(name, SKIPPED, {"reason": reason}) for name in names))


def _wanted(cluster: ClusterGlobals | None, entries: t.Sequence[Database]) -> dict[str, ClusterGlobals]:
    """The globals that are backed up, by name: those that have recipients.

    :raises ConfigurationError: if a database has its backups in the same place, or one of them is inside the other.
    """
    if cluster is None or not cluster.recipients:
        return {}
    for entry in entries:
        if entry.prefix.startswith(cluster.prefix) or cluster.prefix.startswith(entry.prefix):
            raise ConfigurationError(
                f"the prefixes of {entry.name!r} and of the cluster's globals overlap",
                cause=f"{entry.prefix!r} and {cluster.prefix!r}",
                hint="change backup_prefix of the database, or cluster_prefix",
            )
    return {cluster.name: cluster}


def plan_all(
    entries: t.Sequence[Database],
    *,
    settings: registry.Settings,
    store: Store,
    options: BackupOptions,
    cluster: ClusterGlobals | None = None,
    reporter: Reporter | None = None,
) -> outcome.Summary:
    """Report what :func:`back_up_all` would do.  Nothing is changed."""
    moment = datetime.datetime.now(datetime.timezone.utc)
    by_name = {entry.name: entry for entry in entries}
    source = registry.open_source(settings)
    wanted = _wanted(cluster, entries)
    skipped = _skipped([*by_name, *wanted], source, options)
    if skipped is not None:
        return skipped

    def work(name: str) -> outcome.Outcome:
        subject: Subject = wanted[name] if name in wanted else by_name[name]
        age.parse_recipients(subject.recipients)

        def look() -> Facts:
            if name in wanted:
                return session.globals_facts(passwords=wanted[name].passwords)
            return session.facts(by_name[name])

        with source.session() as session:
            plan = plan_backup(subject, look=look, session=session, store=store, options=options, moment=moment)
        if plan.covered is not None:
            return outcome.Outcome(name, SKIPPED, {"reason": plan.covered})
        return outcome.Outcome(name, PLANNED, {"kind": subject.kind, **plan.as_dict()})

    do = _of_those_without({**by_name, **wanted}, work, store=store) if options.first else work
    return outcome.run_each([*by_name, *wanted], do, jobs=options.jobs, warnings=source.warnings)
