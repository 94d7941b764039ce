# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose history a prefix holds."""

from __future__ import annotations

import dataclasses
import datetime
import typing as t

import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain import lineage
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.manifest import Manifest

MOMENT = datetime.datetime(2026, 1, 31, tzinfo=datetime.timezone.utc)


def manifest(system_identifier: str | None) -> Manifest:
    return Manifest("db/app/20260131T000000Z.sql.gz.age", "0" * 64, MOMENT, system_identifier=system_identifier)


EARLIER = MOMENT - datetime.timedelta(days=1)
LATER = MOMENT + datetime.timedelta(days=1)


@pytest.mark.parametrize(
    ("identifier", "restored_from", "made_empty_at", "reason"),
    [
        pytest.param("1", None, None, None, id="our own history"),
        pytest.param("1", None, EARLIER, None, id="our own history, of a database that began empty"),
        pytest.param(
            "1", None, LATER, "created empty", id="our own history, of a database that was dropped and made anew"
        ),
        pytest.param("1", None, MOMENT + datetime.timedelta(milliseconds=900), None, id="in the same second"),
        pytest.param("2", "theirs", None, None, id="another cluster's, restored from exactly that backup"),
        pytest.param("2", "older", None, "another cluster", id="another cluster's, which went on after our restore"),
        pytest.param("2", None, None, "another cluster", id="another cluster's"),
        pytest.param("2", None, EARLIER, "another cluster", id="another cluster's, and newer than our empty one"),
        pytest.param("2", None, LATER, "created empty", id="another cluster's, and ours is empty"),
        pytest.param(None, None, LATER, "created empty", id="an older tool's, and ours was made empty"),
        pytest.param(None, None, None, None, id="an older tool's, of a cluster that we did not bootstrap"),
        pytest.param(None, "theirs", None, None, id="an older tool's, restored from it"),
    ],
)
def test_who_may_go_on(
    identifier: str | None, restored_from: str | None, made_empty_at: datetime.datetime | None, reason: str | None
) -> None:
    found = lineage.fault(
        manifest(identifier),
        previous_sha256="theirs",
        system_identifier="1",
        restored_from_sha256=restored_from,
        made_empty_at=made_empty_at,
    )
    assert found is None if reason is None else reason in (found or "")


def test_an_empty_prefix_is_anybodys() -> None:
    assert (
        lineage.fault(
            None, previous_sha256=None, system_identifier="1", restored_from_sha256="gone", made_empty_at=LATER
        )
        is None
    )


def test_a_number_that_nobody_can_have_reached_is_refused_not_counted_on() -> None:
    planted = dataclasses.replace(manifest("1"), sequence=2**53)
    found = lineage.fault(
        planted, previous_sha256="theirs", system_identifier="1", restored_from_sha256="theirs", made_empty_at=None
    )
    assert found is not None and "nobody can have made" in found
    said = dataclasses.replace(planted, database="app")
    assert not lineage.goes_on(said, None, database="app", system_identifier="1")


@pytest.mark.parametrize(
    ("changes", "ours"),
    [
        ({}, True),
        ({"database": "other"}, False),
        ({"system_identifier": "2"}, False),
        ({"sequence": None}, False),
        ({"system_identifier": None}, False),
        ({"sequence": 2}, False),
    ],
)
def test_whose_unfinished_backup_it_is(changes: dict[str, t.Any], ours: bool) -> None:
    said = dataclasses.replace(manifest("1"), **{"database": "app", "sequence": 3, **changes})
    latest = dataclasses.replace(manifest("1"), sequence=2)
    assert lineage.goes_on(said, latest, database="app", system_identifier="1") is ours


def test_the_first_backup_of_all_may_be_unfinished() -> None:
    said = dataclasses.replace(manifest("1"), database="app", sequence=1)
    assert lineage.goes_on(said, None, database="app", system_identifier="1")
