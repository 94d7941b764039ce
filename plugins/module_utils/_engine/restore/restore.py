# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The use case "restore": choose a backup, plan, fill a staged copy and compare it, swap it in."""

from __future__ import annotations

import contextlib
import time
import typing as t

from .. import outcome
from ..domain import layout, records
from ..domain.databases import Database
from ..domain.restoring import RestoreOptions
from ..domain.secret import Secret
from ..domain.subjects import Subject
from ..domain.trust import Trust
from ..errors import ConfigurationError, Deleted, EngineError, NotFound, RestoreRefused
from ..printing import printable_name
from ..reporting import Reporter, Silent
from ..sources import registry
from ..sources.base import Loaded, LockedSession, Source, Staging, Swapped
from ..stores.base import Store
from ..streams import age
from . import remedies, stage, swap
from .choose import choose
from .plan import Request, RestorePlan, plan_restore

#: Statuses: restored; restored, but for statements that failed; the store has no backup; nothing was requested; what
#: check mode reports.
RESTORED = records.RESTORED
RESTORED_WITH_ERRORS = outcome.RESTORED_WITH_ERRORS
EMPTY = records.EMPTY
SKIPPED = records.SKIPPED
PLANNED = "planned"
STATUSES = (RESTORED, RESTORED_WITH_ERRORS, EMPTY, SKIPPED)

_DROPPED = "the database itself was dropped to make room, and is missing until a restore of it succeeds"


def look(request: Request, *, settings: registry.Settings) -> RestorePlan:
    """What :func:`restore` would do.  Nothing is changed."""
    with registry.open_source(settings).session() as session:
        return plan_restore(request, session=session)


def plan(request: Request, *, settings: registry.Settings, reporter: Reporter | None = None) -> outcome.Outcome:
    """Report what :func:`restore` would do.  Nothing is changed."""
    return outcome.Outcome(request.database.name, PLANNED, look(request, settings=settings).as_dict())


def restore(
    request: Request,
    *,
    settings: registry.Settings,
    reporter: Reporter | None = None,
    shown: RestorePlan | None = None,
) -> outcome.Outcome:
    """Restore one database, or a copy beside it.  Until the swap, which comes last, nothing of the old one is touched.

    With the strategy ``replace`` the old one is dropped before the new one is filled, but only after the backup was
    read and checked as a whole.

    :param shown: of :func:`look`: what somebody has looked at and confirmed.  Nothing else is done.
    """
    reporter = reporter or Silent()
    with registry.open_source(settings).locked(request.target.name, doing="restore") as session:
        planned = plan_restore(request, session=session)
        if shown is not None:
            planned.require_same(shown)
        planned.require_possible()
        return _restore(planned, session=session, reporter=reporter)


def _restore(planned: RestorePlan, *, session: LockedSession, reporter: Reporter) -> outcome.Outcome:
    """Do all of it, or nothing."""
    started = time.monotonic()
    choice, name = planned.request.choice, planned.request.database.name
    with session.staging(stage.task_of(planned, reporter)) as staging:
        backup = stage.Backup(planned, reporter)
        with staging.limits.enforced():
            if planned.drops_first:
                stage.make_room(choice, backup, staging)
            if backup.proof is None:
                backup.prove(staging)
        with _discarded_on_failure(staging):
            with staging.limits.enforced():
                loaded, warnings = stage.fill(choice, backup, staging)
            staging.limits.disarm()
            swapped = swap.swap_in(choice, staging, sha256=backup.sha256)
        # The restore has succeeded: what fails from here on is a warning, and left to later runs.
        settled = staging.settle(swapped)
    details = _details(planned, loaded, settled, sha256=backup.sha256)
    details["duration_seconds"] = round(time.monotonic() - started, 3)
    failed = [f"not restored: {one}" for one in loaded.failed]
    details["warnings"] = [*planned.warnings, *failed, *warnings, *swapped.warnings, *settled.warnings]
    copy = "" if details["as"] is None else f" as {details['as']}"
    reporter.stage(name, "done", f"restored{copy} from {choice.url}" + (" with errors" if failed else ""))
    return outcome.Outcome(name, RESTORED_WITH_ERRORS if failed else RESTORED, details)


@contextlib.contextmanager
def _discarded_on_failure(staging: Staging) -> t.Iterator[None]:
    try:
        yield
    except BaseException as exc:
        # What can't be removed now is on record: the next run removes it.
        with contextlib.suppress(EngineError):
            staging.discard()
        if staging.dropped and isinstance(exc, EngineError):
            exc.hint = "; ".join(filter(None, [exc.hint, _DROPPED]))
        raise


def _details(planned: RestorePlan, loaded: Loaded, settled: Swapped, *, sha256: str | None) -> dict[str, t.Any]:
    said = planned.request.choice.manifest
    return {
        **planned.as_dict(),
        "sha256": sha256,
        "rows": sum(loaded.rows.values()),
        "tables": len(loaded.rows),
        "verified": said is not None and said.tables is not None,
        "kept_as": settled.kept,
        "skipped": list(loaded.skipped),
        "failed_statements": list(loaded.failed),
        "incomplete_tables": sorted(loaded.failed_tables),
    }


# Many ---------------------------------------------------------------------------------------------------------------


def restore_all(
    entries: t.Sequence[Database],
    *,
    settings: registry.Settings,
    store: Store,
    options: RestoreOptions,
    source: str | None = None,
    identity: Secret | None = None,
    expected_sha256: str | None = None,
    outstanding_only: bool = False,
    plan_only: bool = False,
    jobs: int = 1,
    reporter: Reporter | None = None,
) -> outcome.Summary:
    """Restore each of *entries* from the backup that its entry names, or one of them from *source*.

    :param identity: used in place of the entries' own.
    :param outstanding_only: only those whose restore is outstanding; a database that has no backup is recorded as
        empty, one whose entry no longer names a backup as skipped, and once nothing is outstanding the bootstrap is
        finished.  Grants to roles that exist are kept by default.
    :param plan_only: only report what would be done.
    :param jobs: databases that are restored at the same time; one that takes long does not delay the others.
    """
    if jobs < 1:
        raise ConfigurationError("jobs must be at least 1")
    if len(entries) != 1 and (source, expected_sha256) != (None, None):
        raise ConfigurationError("source and expected_sha256 go with one database", hint="name it with only")
    if options.as_name is not None and (len(entries) != 1 or outstanding_only):
        raise ConfigurationError("a copy is of one database", hint="name it with only, without outstanding_only")
    if outstanding_only:
        options = options.on_fresh_cluster()
    by_name = {entry.name: entry for entry in entries}
    opened = registry.open_source(settings)
    wanted = opened.outstanding() if outstanding_only else frozenset(by_name)
    recording = outstanding_only and not plan_only

    def work(name: str) -> outcome.Outcome:
        entry = by_name[name]
        text = source or default_source(entry)
        if name not in wanted:
            return outcome.Outcome(name, SKIPPED, {"reason": "no restore is outstanding"})
        if text is None:
            if recording:
                _record(name, SKIPPED, source=opened)
            return outcome.Outcome(name, SKIPPED, {"reason": "the entry names no backup"})
        try:
            choice = choose(
                store,
                text,
                database=entry,
                trust=options.trust,
                expected_sha256=expected_sha256,
                # A database that has no backup yet needs no suggestions.
                suggest=source is not None or not entry.restore_latest,
            )
        except NotFound as exc:
            if source is not None or not entry.restore_latest or isinstance(exc, Deleted):
                raise
            reason = no_backup(entry, store, trust=options.trust)
            if recording:
                _record(name, EMPTY, source=opened)
            return outcome.Outcome(name, EMPTY, {"reason": reason})
        key = identity or entry.identity
        request = Request(
            database=entry,
            choice=choice,
            options=options,
            identities=() if key is None else tuple(age.parse_identities([key])),
        )
        return (plan if plan_only else restore)(request, settings=settings, reporter=reporter)

    # Not by each restore: it would hold the lock of a database that another one is about to restore.
    warnings = [*opened.warnings, *([] if plan_only else opened.remove_leftovers())]
    summary = outcome.run_each(list(by_name), work, jobs=jobs, warnings=warnings, reporter=reporter)
    if recording:
        opened.finish_bootstrap()
    return summary


def default_source(entry: Database) -> str | None:
    """The backup that the entry is to be restored from; ``None``: none."""
    return layout.latest_key(entry.prefix) if entry.restore_latest else entry.restore_dump_path or None


def _record(name: str, status: str, *, source: Source) -> None:
    with source.locked(name, doing="restore") as session:
        session.record_outcome(name, status)


def no_backup(entry: Subject, store: Store, *, trust: Trust) -> str:
    """Why a database has no backup: the store has no latest one.  Believed only if it has no other one either.

    :param trust: whose backups may be suggested instead.
    """
    others = sum(layout.moment_of(info.key) is not None for info in store.list(entry.prefix))
    if others:
        newest = remedies.newest_accepted(store, entry.prefix, trust=trust, database=entry)
        raise RestoreRefused(
            f"{store.url(layout.latest_key(entry.prefix))} is missing, but {others} objects of backups are there",
            cause="it was deleted, or never written; who wrote the other objects is unknown",
            hint="find out who deletes from the store; "
            + (f"the newest backup that an accepted host has signed is {newest}; " if newest else "")
            + "a backup named in restore_dump_path, with restore_latest false, is restored if a host that you trust "
            "signed it",
        )
    return f"{store.location} has no backup of it"


def difference(result: outcome.Outcome) -> dict[str, t.Any]:
    """What a restore changed, or would, as Ansible's diff shows it."""
    details = result.details
    replaced = details.get("replaces")
    before = "absent" if replaced is None else f"{replaced['size']} bytes, owner {printable_name(replaced['owner'])}"
    source, owner = printable_name(str(details.get("source"))), printable_name(str(details.get("owner")))
    name = str(details.get("as") or result.database)
    return {
        "before_header": name,
        "after_header": name,
        "before": f"{before}\n",
        "after": f"{source} of {details.get('created_at')}, owner {owner}\n",
    }
