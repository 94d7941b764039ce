# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which backups are rekeyed."""

from __future__ import annotations

from ansible_collections.infrazero.database.plugins.module_utils._engine.domain import rekeying
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.rekeying import Candidate, Decision

OLD, NEW = ("age1old",), ("age1new", "age1escrow")


def backup(key: str, to: tuple[str, ...] | None, *before: str, proven: bool = True) -> Candidate:
    """A backup whose manifest has its key for a hash."""
    return Candidate(key, key, to, before, proven)


def decided(*candidates: Candidate) -> dict[str, tuple[str, str | None]]:
    return {key: (one.action, one.copy) for key, one in rekeying.decide(candidates, NEW).items()}


def test_what_others_can_read_is_rekeyed() -> None:
    assert decided(backup("a", OLD), backup("b", NEW[::-1]), backup("c", None), backup("d", NEW[:1])) == {
        "a": ("rekey", None),
        "b": ("current", None),
        "c": ("rekey", None),
        "d": ("rekey", None),
    }


def test_a_copy_takes_the_place_of_what_it_was() -> None:
    assert decided(backup("a", OLD), backup("a2", NEW, "a")) == {"a": ("done", "a2"), "a2": ("current", None)}
    # One for others does, too, and is rekeyed in its place; the last one, if there are several.
    assert decided(backup("a", OLD), backup("a2", ("age1x",), "a"), backup("a3", ("age1y",), "a2", "a")) == {
        "a": ("replaced", "a3"),
        "a2": ("replaced", "a3"),
        "a3": ("rekey", None),
    }


def test_an_unsigned_manifest_takes_the_place_of_no_signed_one() -> None:
    unsigned = backup("a2", NEW, "a", proven=False)
    assert rekeying.decide([backup("a", OLD), unsigned], NEW)["a"] == Decision("rekey")
    assert rekeying.decide([backup("a", OLD, proven=False), unsigned], NEW)["a"] == Decision("done", "a2")
    signed = backup("a2", NEW, "a")
    assert rekeying.decide([backup("a", OLD, proven=False), signed], NEW)["a"] == Decision("done", "a2")
