# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A subset of the fault harness; ``make faults`` runs all of it."""

from __future__ import annotations

import pathlib
import tempfile
import typing as t

import pytest

from tests.faults.cases import cases, disk
from tests.faults.trial import Case, Trial
from tests.faults.world import World
from tests.support.cluster import majors

pytestmark = pytest.mark.skipif(not majors(), reason="no PostgreSQL server is installed")


@pytest.fixture(scope="module")
def world() -> t.Iterator[World]:
    with (
        tempfile.TemporaryDirectory(prefix="faults-", dir="/var/tmp") as directory,
        World(pathlib.Path(directory)) as made,
    ):
        yield made


@pytest.mark.parametrize("case", [case for case in cases() if case.quick], ids=lambda case: case.id)
def test_a_fault(world: World, case: Case) -> None:
    if "/disk/full" in case.id and not disk.mounts():
        pytest.skip("a small disk can't be mounted here: that takes root, and in a container CAP_SYS_ADMIN")
    world.reset()
    result = Trial(world, case, seed=1).play()
    assert result.faults == []
