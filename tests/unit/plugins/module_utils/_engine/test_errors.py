# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import inspect

import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine import errors

from tests.support.foreign import FOREIGN, UNENCODABLE, obeyed

EVERY_KIND = [
    kind for _name, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.EngineError)
]


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_every_error_says_where_it_happened(kind: type[errors.EngineError]) -> None:
    error = kind("no room", cause="disk full", hint="make room")
    assert str(error) == f"{kind.phase}: no room; cause: disk full; hint: make room"
    assert error.as_dict() == {
        "type": kind.__name__,
        "phase": kind.phase,
        "message": "no room",
        "cause": "disk full",
        "hint": "make room",
    }


@pytest.mark.parametrize("foreign", [*FOREIGN.values(), *UNENCODABLE.values()], ids=[*FOREIGN, *UNENCODABLE])
def test_what_others_wrote_is_shown_and_not_obeyed(foreign: str) -> None:
    error = errors.StoreError(f"no {foreign}", cause=f"it is {foreign}")
    error.hint = f"look at {foreign}"  # as some are given later
    assert not obeyed(str(error)) and "\n" not in str(error)
    told = error.as_dict()
    assert not any(obeyed(text) or "\n" in text for text in told.values())
    assert all(len(told[name]) > len(foreign) for name in ("message", "cause", "hint"))
    # It stays what it was for whoever handles the error.
    assert error.message == f"no {foreign}"


def test_the_longest_list_of_faults_is_told_whole() -> None:
    text = "; ".join(f"entry {number} (name_of_a_database): is missing (give one)" for number in range(10_000))
    assert errors.ConfigurationError(text).as_dict()["message"] == text
    assert len(str(errors.ConfigurationError("x" * 10**8))) < 2 * 10**6


def test_the_raiser_may_name_the_stage() -> None:
    assert str(errors.ProcessFailed("pg_dump failed", phase="dump")) == "dump: pg_dump failed"
    assert errors.ProcessFailed.phase == "stream"


def test_full_stops_of_servers_do_not_pile_up() -> None:
    assert str(errors.StoreError("refused.", cause="Access Denied.")) == "store: refused; cause: Access Denied"


def test_denied_and_unreachable_are_not_absent() -> None:
    for kind in (errors.AccessDenied, errors.Unreachable, errors.AlreadyExists):
        assert not issubclass(kind, errors.NotFound)
        assert issubclass(kind, errors.StoreError)


def test_a_checksum_mismatch_is_damage() -> None:
    assert issubclass(errors.ChecksumMismatch, errors.DamagedObject)
    assert issubclass(errors.DumpIncomplete, errors.DamagedObject)
