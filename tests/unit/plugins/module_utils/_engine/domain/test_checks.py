# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import datetime

import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain import checks
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.checks import (
    CRITICAL,
    OK,
    UNKNOWN,
    WARNING,
    Check,
)
from ansible_collections.infrazero.database.plugins.module_utils._engine.errors import StoreError

NOW = datetime.datetime(2026, 1, 31, 12, tzinfo=datetime.timezone.utc)
GIB = 1 << 30


def some(*severities: str) -> list[Check]:
    return [Check("area", "subject", severity, "seen") for severity in severities]


def test_the_worst_counts() -> None:
    assert checks.worst([]) == OK
    assert checks.worst(some(OK, UNKNOWN)) == UNKNOWN
    assert checks.worst(some(WARNING, UNKNOWN, OK)) == WARNING
    assert checks.worst(some(OK, CRITICAL, WARNING)) == CRITICAL
    assert checks.counted(some(OK, CRITICAL, OK)) == "1 critical, 2 ok"


def test_plain_data_is_printable() -> None:
    plain = Check("backups", "shop\x1b[2J", OK, "a\nb").as_dict()
    assert plain["subject"] == "shop\\x1b[2J"
    assert "\n" not in plain["seen"]


def test_an_error_keeps_cause_and_remedy() -> None:
    error = StoreError("it failed", cause="no reason", hint="do this")
    assert checks.failed("area", "subject", error) == Check(
        "area", "subject", CRITICAL, "it failed (no reason)", "do this"
    )


@pytest.mark.parametrize(
    ("offset", "severity"),
    [
        (None, UNKNOWN),
        (0, OK),
        (60, OK),
        (-60, OK),
        (61, WARNING),
        (-900, WARNING),
        (901, CRITICAL),
        (-86400, CRITICAL),
    ],
)
def test_clocks(offset: float | None, severity: str) -> None:
    one = checks.clock("store", offset)
    assert one.severity == severity
    assert bool(one.remedy) == (severity in (WARNING, CRITICAL))


def test_a_clock_says_how_far_and_in_which_direction() -> None:
    assert checks.clock("store", 86400).seen == "1 d ahead of this host's clock"
    assert checks.clock("store", -180).seen == "3 min behind this host's clock"


@pytest.mark.parametrize(
    ("free", "needed", "severity"),
    [(50, 0, OK), (50, 50, OK), (50, 51, WARNING), (9, 0, WARNING), (1, 0, CRITICAL), (1, 90, CRITICAL)],
)
def test_space(free: int, needed: int, severity: str) -> None:
    assert checks.space("/data", free=free * GIB, total=100 * GIB, needed=needed * GIB).severity == severity


@pytest.mark.parametrize(
    ("hours", "signed_by", "severity"),
    [
        (0, "db1", OK),
        (26, "db1", OK),
        (27, "db1", WARNING),
        (51, "db1", CRITICAL),
        (1, "", WARNING),
        (-1, "db1", WARNING),
    ],
)
def test_backups_age(hours: int, signed_by: str, severity: str) -> None:
    one = checks.backup_age("shop", NOW - datetime.timedelta(hours=hours), now=NOW, signed_by=signed_by)
    assert one.severity == severity
    assert ("signed by db1" in one.seen) == bool(signed_by)
