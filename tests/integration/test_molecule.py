# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The shortest molecule scenario, on a real host in a container. The others take minutes each: `make molecule`."""

from __future__ import annotations

import typing as t

import pytest

from tests.support import containers


@pytest.fixture(scope="module")
def engine() -> t.Iterator[None]:
    with containers.engine("the scenario quick"):
        yield


@pytest.mark.usefixtures("engine")
def test_quick() -> None:
    status, said = containers.script("rehearse", "quick")
    assert status == 0, said
