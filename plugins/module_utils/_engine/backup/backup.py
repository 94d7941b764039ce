# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The use case "back up": plan, dump to the store, publish; ``latest`` comes last."""

from __future__ import annotations

import datetime
import time
import typing as t

from .. import outcome
from ..domain import layout, manifest
from ..domain.databases import Database
from ..reporting import Reporter, Silent
from ..sources import registry
from ..stores.base import Store
from ..streams import age, pipeline
from . import dump, publish
from .plan import BackupOptions, BackupPlan, plan_backup

#: Status of a database that was backed up, and of one that check mode would back up.
BACKED_UP = "backed_up"
PLANNED = "planned"


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
    reporter = reporter or Silent()
    recipients = age.parse_recipients(database.recipients)
    source = registry.open_source(settings)
    with source.locked(database.name, doing="backup") as session:
        plan = plan_backup(database, session=session, store=store, options=options, moment=moment)
        if plan.previous is not None and plan.previous.created_at == moment.replace(microsecond=0):
            # Keys have whole seconds, and this one's is taken: the next second's is not.
            time.sleep(1 - moment.microsecond / 1_000_000)
            moment += datetime.timedelta(seconds=1)
            plan = plan_backup(database, session=session, store=store, options=options, moment=moment)
        started = time.monotonic()
        reporter.stage(database.name, "dump", f"dumping to {store.url(plan.key)}", total=plan.expected_text_size)

        def described_by(stream: pipeline.Encoded, part: manifest.Part) -> manifest.Manifest:
            return publish.describe(
                plan,
                database,
                kind=source.kind,
                stream=stream,
                part=part,
                store=store,
                options=options,
                moment=moment,
                seconds=time.monotonic() - started,
            )

        def before_end(stream: pipeline.Encoded, part: manifest.Part) -> None:
            publish.require_publishable(plan, described_by(stream, part), database, session=session, store=store)

        stream, dumped = dump.upload(
            plan,
            recipients=recipients,
            session=session,
            store=store,
            options=options,
            reporter=reporter,
            before_end=before_end,
        )
        reporter.stage(database.name, "manifest", "writing the manifest")
        # Again: only now is known what the store has shown of itself.
        described = described_by(stream, dumped.part)
        warnings = publish.publish(plan, described, database, session=session, store=store, options=options)
    warnings = [*plan.warnings, *dumped.warnings, *warnings]
    return outcome.Outcome(database.name, BACKED_UP, _details(plan, described, warnings=warnings))


def _details(plan: BackupPlan, described: manifest.Manifest, *, warnings: t.Sequence[str]) -> dict[str, t.Any]:
    return {
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
    reporter: Reporter | None = None,
) -> outcome.Summary:
    """Back up each of *entries* under one timestamp; one that fails doesn't stop the others.

    Replaced databases that restores kept, and whose time is over, are dropped first.
    """
    moment = datetime.datetime.now(datetime.timezone.utc)
    by_name = {entry.name: entry for entry in entries}
    source = registry.open_source(settings)
    warnings = [*source.remove_leftovers(), *source.expire_replaced()]

    def work(name: str) -> outcome.Outcome:
        return back_up(by_name[name], settings=settings, store=store, options=options, moment=moment, reporter=reporter)

    return outcome.run_each(list(by_name), work, jobs=options.jobs, warnings=warnings, reporter=reporter)


def plan_all(
    entries: t.Sequence[Database],
    *,
    settings: registry.Settings,
    store: Store,
    options: BackupOptions,
    reporter: Reporter | None = None,
) -> outcome.Summary:
    """Report what :func:`back_up_all` would do.  Nothing is changed."""
    moment = datetime.datetime.now(datetime.timezone.utc)
    by_name = {entry.name: entry for entry in entries}
    source = registry.open_source(settings)

    def work(name: str) -> outcome.Outcome:
        age.parse_recipients(by_name[name].recipients)
        with source.session() as session:
            plan = plan_backup(by_name[name], session=session, store=store, options=options, moment=moment)
        return outcome.Outcome(name, PLANNED, plan.as_dict())

    return outcome.run_each(list(by_name), work, jobs=options.jobs)
