# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import inspect

import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine import errors

EVERY_KIND = [
    kind for _name, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.EngineError)
]


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_every_error_says_where_it_happened(kind: type[errors.EngineError]) -> None:
    error = kind("no room", cause="disk full", hint="make room")
    assert str(error) == f"{kind.stage}: no room; cause: disk full; hint: make room"
    assert error.as_dict() == {
        "type": kind.__name__,
        "stage": kind.stage,
        "message": "no room",
        "cause": "disk full",
        "hint": "make room",
    }


def test_the_raiser_may_name_the_stage() -> None:
    assert str(errors.ProcessFailed("pg_dump failed", stage="dump")) == "dump: pg_dump failed"
    assert errors.ProcessFailed.stage == "stream"


def test_full_stops_of_servers_do_not_pile_up() -> None:
    assert str(errors.StoreError("refused.", cause="Access Denied.")) == "store: refused; cause: Access Denied"


def test_denied_and_unreachable_are_not_absent() -> None:
    for kind in (errors.AccessDenied, errors.Unreachable, errors.AlreadyExists):
        assert not issubclass(kind, errors.NotFound)
        assert issubclass(kind, errors.StoreError)


def test_a_checksum_mismatch_is_damage() -> None:
    assert issubclass(errors.ChecksumMismatch, errors.DamagedObject)
    assert issubclass(errors.DumpIncomplete, errors.DamagedObject)
