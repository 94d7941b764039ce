# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.nodes import (
    ANY,
    PRIMARY,
    STANDBY,
    Node,
    backs_up_elsewhere,
)

ALONE = Node(in_recovery=False, standbys=0)
FOLLOWED = Node(in_recovery=False, standbys=2)
FOLLOWING = Node(in_recovery=True, standbys=0)
#: Of a cascade.
BETWEEN = Node(in_recovery=True, standbys=1)


@pytest.mark.parametrize(
    ("run_on", "those"),
    [
        (PRIMARY, {ALONE, FOLLOWED}),
        (STANDBY, {ALONE, FOLLOWING, BETWEEN}),
        (ANY, {ALONE, FOLLOWED, FOLLOWING, BETWEEN}),
    ],
)
def test_who_backs_up(run_on: str, those: set[Node]) -> None:
    assert {node for node in (ALONE, FOLLOWED, FOLLOWING, BETWEEN) if backs_up_elsewhere(node, run_on) is None} == those
