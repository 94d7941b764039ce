# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The use cases "undo" and "drop replaced databases": a restore leaves the previous database behind for a while."""

from __future__ import annotations

import dataclasses
import datetime
import time
import typing as t

from .. import outcome
from ..printing import printable_name
from ..reporting import Reporter, Silent
from ..sources import registry
from ..sources.base import Kept, LockedSession, Session, nothing_kept

#: Statuses: the previous database was swapped in again; replaced databases were dropped; there was none to drop; what
#: check mode reports.
UNDONE = "undone"
DROPPED = "dropped"
NOTHING = "nothing"
PLANNED = "planned"

#: Which of the replaced databases of a database are dropped.
ALL = "all"
ALL_BUT_NEWEST = "all_but_newest"

# Undo ---------------------------------------------------------------------------------------------------------------


def undo(
    name: str,
    *,
    settings: registry.Settings,
    keep: datetime.timedelta,
    on_connections: t.Literal["terminate", "refuse"],
    plan_only: bool = False,
    reporter: Reporter | None = None,
) -> outcome.Outcome:
    """Swap the database that *name* replaced last in again, and keep the present one instead of it.

    Its privileges, its owner and what was recorded of it come back with it, all or nothing.  So a second call brings
    back what the first has put aside.

    :param keep: how long the present database is kept.
    :param on_connections: whether sessions are ended.
    :param plan_only: only report what would be done.
    """
    progress = reporter or Silent()
    started = time.monotonic()
    source = registry.open_source(settings)
    if plan_only:
        with source.session() as session:
            return outcome.Outcome(name, PLANNED, _undo_plan(name, session, keep))
    with source.locked(name, doing="restore") as locked:
        details = _undo_plan(name, locked, keep)
        progress.stage(name, "swap", f"swapping {details['previous']['name']} back in")
        swapped = locked.undo(name, keep=keep, on_connections=on_connections)
    details.update(
        kept_as=swapped.kept,
        duration_seconds=round(time.monotonic() - started, 3),
        warnings=list(swapped.warnings),
    )
    return outcome.Outcome(name, UNDONE, details)


def _undo_plan(name: str, session: Session, keep: datetime.timedelta) -> dict[str, t.Any]:
    kept = session.kept(name)
    if not kept:
        raise nothing_kept(name)
    present, record = session.replaced(name), session.record(name)
    return {
        "previous": kept[-1].as_dict(),
        "replaces": None if present is None else dataclasses.asdict(present),
        "restored_from": None if record is None or record.restored_from is None else record.restored_from.url,
        "keep_replaced": keep.total_seconds() / 3600,
        "warnings": [],
    }


# Replaced databases -------------------------------------------------------------------------------------------------


def drop_replaced(
    name: str,
    which: str,
    *,
    settings: registry.Settings,
    plan_only: bool = False,
    reporter: Reporter | None = None,
) -> outcome.Outcome:
    """Drop the databases that *name* has replaced, before their time is over.

    :param which: :data:`ALL` or :data:`ALL_BUT_NEWEST`.
    :param plan_only: only report what would be dropped.
    """
    source = registry.open_source(settings)
    if plan_only:
        with source.session() as session:
            return outcome.Outcome(name, PLANNED, _dropped(_chosen(session, name, which)))
    with source.locked(name, doing="restore") as locked:
        chosen = _chosen(locked, name, which)
        _drop(locked, name, chosen, reporter or Silent())
    return outcome.Outcome(name, DROPPED if chosen else NOTHING, _dropped(chosen))


def _chosen(session: Session, name: str, which: str) -> tuple[Kept, ...]:
    kept = session.kept(name)
    return kept[:-1] if which == ALL_BUT_NEWEST else kept


def _drop(session: LockedSession, name: str, chosen: t.Iterable[Kept], reporter: Reporter) -> None:
    for one in chosen:
        reporter.stage(name, "drop", f"dropping {one.name}")
        session.drop_kept(name, one.name)


def _dropped(chosen: t.Sequence[Kept]) -> dict[str, t.Any]:
    return {"dropped": [one.as_dict() for one in chosen], "size": sum(one.size for one in chosen), "warnings": []}


def changes(result: outcome.Outcome) -> bool:
    """Whether anything was changed, or would be."""
    return bool(result.details["dropped"]) if "dropped" in result.details else True


def difference(result: outcome.Outcome) -> dict[str, t.Any]:
    """What was changed, or would be, as Ansible's diff shows it."""
    details = result.details
    if "dropped" in details:
        before = "".join(f"{printable_name(one['name'])}: {one['size']} bytes\n" for one in details["dropped"])
        after = ""
    else:
        previous, present = details["previous"], details["replaces"]
        before = "absent\n" if present is None else f"{_origin(details['restored_from'])}, {present['size']} bytes\n"
        after = f"{_origin(previous['restored_from'])}, replaced {previous['replaced_at']}, {previous['size']} bytes\n"
    return {"before_header": result.database, "after_header": result.database, "before": before, "after": after}


def _origin(url: str | None) -> str:
    return "not from a backup" if url is None else printable_name(url)
