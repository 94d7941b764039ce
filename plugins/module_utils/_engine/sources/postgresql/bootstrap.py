# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The use case "bootstrap": roles and databases of the list, and on a fresh cluster the note of what is to be restored.

The note comes first, so that a bootstrap that is killed is resumed, and no database of it is backed up over its
``latest`` while it still waits for its restore.
"""

from __future__ import annotations

import contextlib
import dataclasses
import platform
import typing as t

from ...domain.databases import Databases
from ...domain.plan import (
    AlterRole,
    BootstrapPlan,
    ChangeOwner,
    CreateDatabase,
    CreateRole,
    Declaration,
    FinishDatabase,
    GrantDatabase,
    plan_bootstrap,
)
from ...domain.records import OUTSTANDING, RESTORED, SKIPPED
from ...errors import PostgresError
from . import cluster_globals, copies, facts, leftovers, roles, state
from .connection import APPLICATION, ConnectionSettings, connect, is_superuser

if t.TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection

    from ..base import GlobalsReport, RecordedGlobals


@dataclasses.dataclass(frozen=True)
class Report:
    """What a bootstrap has done, or would do.

    :param fresh: the cluster had no database of anybody's, and no bootstrap had begun.
    :param resumed: one had begun and not ended.
    :param plan: roles and databases.
    :param outstanding: databases that wait for their restore now.
    :param warnings: what could not be tidied up.
    :param globals: what became of the cluster's globals; ``None``: nothing was to be done.
    """

    fresh: bool
    resumed: bool
    plan: BootstrapPlan
    outstanding: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    globals: GlobalsReport | None = None

    @property
    def begins(self) -> bool:
        """Whether this run has begun a bootstrap, or resumed one."""
        return self.fresh or self.resumed

    @property
    def changed(self) -> bool:
        """Whether anything was, or would be, changed: roles, databases, or the record of the bootstrap."""
        restored = self.globals is not None and self.globals.changed
        return restored or self.plan.changed or self.fresh or (self.resumed and not self.outstanding)

    def as_dict(self) -> dict[str, t.Any]:
        """As plain data."""
        steps = self.plan.steps
        changes = (FinishDatabase, ChangeOwner, GrantDatabase)
        return {
            "changed": self.changed,
            "fresh": self.fresh,
            "plan": [*map(str, steps), *(self.globals.plan if self.globals else ())],
            "roles": {
                "created": [step.role for step in steps if isinstance(step, CreateRole)],
                "changed": [step.role for step in steps if isinstance(step, AlterRole)],
            },
            "databases": {
                "created": [step.database for step in steps if isinstance(step, CreateDatabase)],
                "changed": list(dict.fromkeys(step.database for step in steps if isinstance(step, changes))),
            },
            "outstanding": list(self.outstanding),
            "globals": None if self.globals is None else self.globals.as_dict(),
        }

    def diff(self) -> dict[str, str]:
        """As Ansible shows differences; no secret."""
        diff = self.plan.diff()
        if self.globals is not None:
            diff = {side: diff[side] + text for side, text in self.globals.diff().items()}
        if self.fresh or (self.resumed and not self.outstanding):
            waiting = ", ".join(repr(name) for name in self.outstanding)
            diff["before"] += f"bootstrap: {'never begun' if self.fresh else 'unfinished'}\n"
            diff["after"] += f"bootstrap: {f'waits for the restore of {waiting}' if waiting else 'finished'}\n"
        return diff


def bootstrap(
    listed: Databases,
    *,
    settings: ConnectionSettings,
    restore: bool = False,
    restore_added: bool = False,
    read_globals: t.Callable[[], RecordedGlobals | None] | None = None,
    privileges: bool = False,
    plan_only: bool = False,
) -> Report:
    """Bring about the roles and databases of *listed*.

    On a fresh cluster, or where an earlier bootstrap did not end, each database for which the list names a backup is
    recorded as waiting for its restore, before anything is made.  The restores themselves are another use case.

    :param restore: whether there are to be restores at all; without, databases are recorded as made empty.
    :param restore_added: whether databases that are added to a cluster that is not fresh are to be restored as well.
    :param read_globals: reads the backup of the globals of the cluster that was lost; called at most once, and only
        where the bootstrap begins or is resumed, before anything is changed.  ``None``: they are not restored.
    :param privileges: see :func:`...domain.cluster_plan.plan_globals`.
    :param plan_only: say what would be done, change nothing.
    :raises PostgresError: on a standby, and without a superuser.
    """
    _require_able(settings)
    warnings = () if plan_only else tuple(leftovers.remove_all(settings))
    declaration = Declaration.of(listed)
    wanted = {entry.name: restore and bool(entry.restore_latest or entry.restore_dump_path) for entry in listed.entries}
    with contextlib.closing(connect(settings, application_name=f"{APPLICATION} bootstrap")) as conn:
        cluster = facts.cluster_facts(conn)
        begins = cluster.fresh or cluster.unfinished
        absent = [name for name in wanted if name not in cluster.databases]
        recorded = None
        if read_globals is not None and begins and cluster_globals.origin(conn) is None:
            recorded = read_globals()
        if plan_only or begins or absent:
            # Also for what it refuses, before anything is recorded.
            planned = plan_bootstrap(declaration, roles.look(conn, declaration).facts)
        if plan_only:
            added = tuple(
                name
                for name in wanted
                if wanted[name]
                and name not in cluster.outstanding
                and ((begins and name not in cluster.records) or (restore_added and name in absent))
            )
            restored = (
                None
                if recorded is None
                else (cluster_globals.plan(conn, recorded, declaration.passwords, privileges=privileges))
            )
            return Report(cluster.fresh, cluster.unfinished, planned, cluster.outstanding + added, globals=restored)
        if begins:
            state.begin_bootstrap(conn, wanted, host=platform.node())
        _record_new(conn, {name: restore_added and wanted[name] for name in absent})
        copies.adopt(conn, wanted)
        done = roles.converge(conn, declaration)
        restored = (
            None
            if recorded is None
            else (cluster_globals.restore(conn, recorded, declaration.passwords, privileges=privileges))
        )
        if begins:
            state.finish_bootstrap(conn)
        return Report(cluster.fresh, cluster.unfinished, done, state.outstanding(conn), warnings, restored)


def _require_able(settings: ConnectionSettings) -> None:
    """Raise unless roles and databases can be created here, and the bootstrap be recorded."""
    with contextlib.closing(connect(settings)) as conn:
        in_recovery, privileged = facts.node(conn).in_recovery, is_superuser(conn)
    if in_recovery:
        raise PostgresError(
            "these databases cannot be created on this server",
            phase="plan",
            cause="it is a standby, which only copies its primary",
            hint="run the bootstrap on the primary: its roles and databases appear here by themselves",
        )
    if not privileged:
        raise PostgresError(
            "these databases cannot be created in this cluster",
            phase="plan",
            cause=f"{settings.user!r} is not a superuser",
            hint="connect as a superuser; on a server that gives you none, create roles and databases with its own"
            " means: backups and restores work without a bootstrap",
        )


def _record_new(conn: Connection, names: t.Mapping[str, bool]) -> None:
    """Record that databases that are going to be made hold nothing: also one that was restored once, and is gone.

    :param names: for each whether it waits for its restore then.
    """
    records = state.database_records(conn)
    for name, restore in names.items():
        record = records.get(name)
        if restore and (record is None or record.restore != OUTSTANDING):
            state.record_outcome(conn, name, OUTSTANDING)
        elif not restore and (record is None or record.restore == RESTORED):
            state.record_outcome(conn, name, SKIPPED)
