# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every test of this room ends with no thread, no descriptor and no child more than it began with."""

from __future__ import annotations

import typing as t

import pytest

from tests.support.streams import nothing_left


@pytest.fixture(autouse=True)
def leaves_nothing() -> t.Iterator[None]:
    with nothing_left():
        yield
