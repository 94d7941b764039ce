# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the canary tests have in common: the watch that is kept while something runs, and the option for all of it."""

from __future__ import annotations

import typing as t

import pytest

from .watch import Watch


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all-canaries", action="store_true", help="every module in every mode; takes some minutes")


@pytest.fixture
def watch() -> t.Iterator[Watch]:
    """Keeps watch from here to the end of the test."""
    with Watch() as watching:
        yield watching
