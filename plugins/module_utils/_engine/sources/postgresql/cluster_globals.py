# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The restore of a cluster's globals: planned, performed and recorded."""

from __future__ import annotations

import dataclasses
import typing as t

from ...domain.cluster_plan import plan_globals
from ...domain.records import RESTORED, RestoredFrom
from ...domain.subjects import CLUSTER_GLOBALS
from ..base import GlobalsReport, RecordedGlobals
from . import cluster_roles, state

if t.TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection


def origin(conn: Connection) -> RestoredFrom | None:
    """The backup that the globals of this cluster were restored from; ``None``: they were not."""
    record = state.database_record(conn, CLUSTER_GLOBALS)
    return None if record is None else record.restored_from


def plan(
    conn: Connection, recorded: RecordedGlobals, declared: t.Collection[str], *, privileges: bool
) -> GlobalsReport:
    """What :func:`restore` would do.  Reads only.

    :param declared: users of the databases list that a bootstrap creates.
    :param privileges: see :func:`...domain.cluster_plan.plan_globals`.
    """
    steps = plan_globals(recorded.globals, cluster_roles.look(conn), declared=declared, privileges=privileges)
    return GlobalsReport(recorded, steps, recorded.warnings)


def restore(
    conn: Connection, recorded: RecordedGlobals, declared: t.Collection[str], *, privileges: bool
) -> GlobalsReport:
    """Create what is missing, and record where it came from, in one transaction.

    :param conn: a superuser's session in the maintenance database, in autocommit mode.
    """
    planned = plan(conn, recorded, declared, privileges=privileges)
    state.ensure(conn)
    more = cluster_roles.apply(
        conn,
        planned.steps,
        record=lambda: state.record_outcome(conn, CLUSTER_GLOBALS, RESTORED, restored_from=recorded.origin),
    )
    return dataclasses.replace(planned, warnings=(*planned.warnings, *more))
