# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import datetime

import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain import lineage
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.manifest import Manifest, Postgresql
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.nodes import (
    ANY,
    PRIMARY,
    STANDBY,
    Node,
    backs_up_elsewhere,
    covered,
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


NOW = datetime.datetime(2026, 1, 31, 3, 20, tzinfo=datetime.timezone.utc)


def reason(
    *,
    minutes: int = 9,
    host: str | None = "node1",
    system: str = "7",
    standing: str = lineage.BELIEVED,
    run_on: str = ANY,
) -> str | None:
    moment = NOW - datetime.timedelta(minutes=minutes)
    said = Manifest("db/app/x.sql.age", "0" * 64, moment, host=host, part=Postgresql(system_identifier=system))
    return covered(
        lineage.Latest(standing, "0" * 64, said),
        run_on=run_on,
        window=datetime.timedelta(hours=1),
        name="node2",
        system_identifier="7",
        moment=NOW,
    )


def test_the_backup_of_another_node_stands_for_ours() -> None:
    assert reason() == "node1 backed it up 9 minutes ago; run_on is any"
    assert reason(run_on=STANDBY) == "node1 backed it up 9 minutes ago; run_on is standby"
    # Its clock is a little ahead.
    assert reason(minutes=-4) == "node1 backed it up 0 minutes ago; run_on is any"


@pytest.mark.parametrize(
    "changes",
    [
        {"run_on": PRIMARY},
        {"host": "node2"},
        {"host": None},
        {"system": "8"},
        {"minutes": 60},
        {"minutes": -6},
        *({"standing": each} for each in (lineage.UNSIGNED, lineage.FOREIGN, lineage.FORGED, lineage.UNREADABLE)),
    ],
)
def test_nothing_else_does(changes: dict[str, object]) -> None:
    assert reason(**changes) is None  # type: ignore[arg-type]


def test_without_a_backup_there_is_nothing_to_stand_for_ours() -> None:
    nothing = {"window": datetime.timedelta(hours=1), "name": "node2", "system_identifier": "7", "moment": NOW}
    assert covered(None, run_on=ANY, **nothing) is None  # type: ignore[arg-type]
