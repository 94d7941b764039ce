# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a restore is made."""

from __future__ import annotations

import datetime

import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain import restoring
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.restoring import RestoreOptions
from ansible_collections.infrazero.database.plugins.module_utils._engine.errors import ConfigurationError


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


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("shop", "of the list"),
        ("postgres", "of the server"),
        ("template0", "of the server"),
        ("admin_db", "of the server"),
        ("shop__replaced_0a1b2c3d", "of this form"),
        ("shop__restore_0a1b2c3d", "of this form"),
    ],
)
def test_names_that_a_copy_must_not_have(name: str, cause: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        restoring.require_copy_name(
            RestoreOptions(as_name=name), listed={"shop", "blog"}, maintenance_database="admin_db"
        )
    assert cause in caught.value.cause and "choose another name" in caught.value.hint


def test_a_copy_may_have_any_other_name_and_stays_as_long_as_is_said() -> None:
    for options in (
        RestoreOptions(),
        RestoreOptions(as_name="shop_check"),
        RestoreOptions(as_name="shop_check", drop_after=datetime.timedelta(hours=1)),
    ):
        restoring.require_copy_name(options, listed={"shop"}, maintenance_database="postgres")


def test_some_tables_alone_replace_no_database() -> None:
    tables = ("public.orders",)
    with pytest.raises(ConfigurationError) as caught:
        restoring.require_copy_name(RestoreOptions(tables=tables), listed=(), maintenance_database="postgres")
    assert "--as" in caught.value.hint
    restoring.require_copy_name(
        RestoreOptions(as_name="shop_check", tables=tables), listed=(), maintenance_database="postgres"
    )


@pytest.mark.parametrize(("name", "hours"), [(None, 1), ("shop_check", 0)])
def test_a_time_without_a_copy_or_of_nothing(name: str | None, hours: int) -> None:
    options = RestoreOptions(as_name=name, drop_after=datetime.timedelta(hours=hours))
    with pytest.raises(ConfigurationError, match="drop_after is"):
        restoring.require_copy_name(options, listed=(), maintenance_database="postgres")
