# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Which node of a cluster backs up: one list and one schedule may be on all of them."""

from __future__ import annotations

import dataclasses

#: Values of the setting ``run_on``.
PRIMARY = "primary"
STANDBY = "standby"
ANY = "any"


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
