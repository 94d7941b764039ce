# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a restore is made."""

from __future__ import annotations

import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain import restoring
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.restoring import RestoreOptions


def test_without_a_role_map_privileges_are_left_out_and_the_user_owns_everything() -> None:
    options = RestoreOptions()
    assert options.skips_acl and options.forces_owner


def test_with_a_role_map_privileges_are_kept_and_the_user_still_owns_everything() -> None:
    options = RestoreOptions(role_map={"old": "new"})
    assert not options.skips_acl and options.forces_owner


def test_keeping_privileges_without_a_role_map_keeps_the_owners_too() -> None:
    options = RestoreOptions(skip_acl=False)
    assert not options.skips_acl and not options.forces_owner


def test_a_bootstrap_keeps_privileges_and_gives_everything_to_the_user() -> None:
    options = RestoreOptions().on_fresh_cluster()
    assert not options.skips_acl and options.forces_owner


def test_a_bootstrap_obeys_what_is_set() -> None:
    options = RestoreOptions(skip_acl=True, force_target_owner=False).on_fresh_cluster()
    assert options.skips_acl and not options.forces_owner


@pytest.mark.parametrize(
    ("given", "plaintext_size", "rows", "text_bytes", "limit"),
    [
        (0, 10**12, 10**6, 0, None),
        (5, 10**12, 10**6, 0, 5),
        (None, 10, 1, 10**12, 1 << 30),
        (None, 10**12, 0, 0, 4 * 10**12),
        # Twenty million rows of one small number: 720 MB and 430 MB for its index, and 160 MB of text.
        (None, 160 * 10**6, 20 * 10**6, 0, 4 * (160 + 64 * 20) * 10**6),
        (None, None, None, 0, 1 << 30),
        (None, None, None, 10**12, 16 * 10**12),
        (None, 10**12, None, 10**9, 16 * 10**9),
    ],
)
def test_how_large_a_restored_database_may_be(
    given: int | None, plaintext_size: int | None, rows: int | None, text_bytes: int, limit: int | None
) -> None:
    said = restoring.size_limit(given, plaintext_size=plaintext_size, rows=rows, text_bytes=text_bytes)
    assert said == limit


def test_how_many_at_a_time() -> None:
    assert [restoring.default_jobs(count) for count in (None, 1, 2, 3, 64)] == [2, 2, 2, 3, 4]
