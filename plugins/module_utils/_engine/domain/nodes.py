# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Which node of a cluster backs up: one list and one schedule may be on all of them."""

from __future__ import annotations

import dataclasses
import datetime
import typing as t

from ..printing import printable_name

if t.TYPE_CHECKING:
    from .lineage import Latest

#: Values of the setting ``run_on``.
PRIMARY = "primary"
STANDBY = "standby"
ANY = "any"

#: How far the clocks of nodes may differ.
_SKEW = datetime.timedelta(minutes=5)


@dataclasses.dataclass(frozen=True)
class Node:
    """One server of a cluster, at the moment.

    :param in_recovery: whether it is a standby, or still recovers.
    :param standbys: how many standbys receive its changes.
    """

    in_recovery: bool
    standbys: int


def backs_up_elsewhere(node: Node, run_on: str) -> str | None:
    """Return why *node* does not back up; ``None``: it does.

    Without any standby, the primary is the only one that can: otherwise nobody would back up, and nothing would fail.
    """
    if run_on == PRIMARY and node.in_recovery:
        return "this node is a standby; run_on is primary"
    if run_on == STANDBY and not node.in_recovery and node.standbys:
        return "this node is the primary; run_on is standby"
    return None


def covered(
    latest: Latest | None,
    *,
    run_on: str,
    window: datetime.timedelta,
    name: str,
    system_identifier: str,
    moment: datetime.datetime,
) -> str | None:
    """Return why the latest backup, of another node, stands for one of this node; ``None``: it does not.

    Only an accepted backup counts: anyone who can write to the store could otherwise stop all others in silence.

    :param window: how old it may be.
    :param name: the name that this node signs with.
    :param system_identifier: of the cluster.
    :param moment: the run's timestamp.
    """
    link = None if latest is None else latest.link
    if run_on == PRIMARY or latest is None or latest.manifest is None or link is None or link.created_at is None:
        return None
    host, age = latest.manifest.host, moment - link.created_at
    if host in (None, name) or link.system_identifier != system_identifier or not -_SKEW <= age < window:
        return None
    minutes = max(0, int(age.total_seconds() // 60))
    return f"{printable_name(str(host))} backed it up {minutes} minutes ago; run_on is {run_on}"
