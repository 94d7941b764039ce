# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The choices of a restore, and the environment switches of restore.sh."""

from __future__ import annotations

import dataclasses
import datetime

import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain import restoring
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.restoring import (
    RestoreOptions,
    read_switches,
)
from ansible_collections.infrazero.database.plugins.module_utils._engine.errors import ConfigurationError

BASE = RestoreOptions()


def test_without_a_role_map_grants_are_left_out_and_the_user_owns_everything() -> None:
    assert BASE.skips_acl and BASE.forces_owner


def test_with_a_role_map_grants_are_kept_and_the_user_still_owns_everything() -> None:
    options = read_switches({"DB_RESTORE_ROLE_MAP": "old:new"}, base=BASE).options
    assert options.role_map == {"old": "new"}
    assert not options.skips_acl and options.forces_owner


def test_keeping_grants_without_a_role_map_keeps_the_owners_too() -> None:
    options = read_switches({"DB_RESTORE_SKIP_ACL": "false"}, base=BASE).options
    assert not options.skips_acl and not options.forces_owner


@pytest.mark.parametrize(
    ("switch", "field"),
    [
        ("DB_RESTORE_SKIP_ACL", "skip_acl"),
        ("DB_RESTORE_DROP_MAPPED_ROLES", "drop_mapped_roles"),
        ("DB_RESTORE_FORCE_TARGET_OWNER", "force_target_owner"),
        ("DB_RESTORE_GRANT_APP_USER", "grant_app_user"),
        ("DB_RESTORE_PUBLIC_CONNECT", "public_connect"),
        ("DB_RESTORE_SET_SEARCH_PATH", "set_search_path"),
    ],
)
def test_flags(switch: str, field: str) -> None:
    for text, value in (("true", True), ("TRUE", True), ("1", True), ("false", False), ("no", False)):
        assert getattr(read_switches({switch: text}, base=BASE).options, field) is value
    for unset in ({}, {switch: ""}, {switch: "  "}):
        assert read_switches(unset, base=BASE).options == BASE
    with pytest.raises(ConfigurationError, match=switch):
        read_switches({switch: "maybe"}, base=BASE)


@pytest.mark.parametrize(
    ("text", "reason"),
    [("app", "no pair"), ("app:app", "itself"), ("a:b,a:c", "twice"), (":b", "mapped"), ("a:", "mapped")],
)
def test_a_role_map_that_is_none(text: str, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason) as caught:
        read_switches({"DB_RESTORE_ROLE_MAP": text}, base=BASE)
    assert "DB_RESTORE_ROLE_MAP" in str(caught.value)


def test_role_map() -> None:
    assert restoring.role_map(" a:b , c:d ,", name="x") == {"a": "b", "c": "d"}
    assert restoring.checked_role_map({"a": "b"}, name="x") == {"a": "b"}
    with pytest.raises(ConfigurationError):
        restoring.checked_role_map({"a": 1}, name="x")


def test_the_other_switches() -> None:
    switches = read_switches(
        {
            "DB_RESTORE_AGE_PRIVATE_KEY": "AGE-SECRET-KEY-1X",
            "DB_RESTORE_NON_INTERACTIVE": "true",
            "DB_RESTORE_EXPECTED_SHA256": "AB" * 32,
            "DB_RESTORE_SEARCH_PATH": "main, public",
            "UNRELATED": "x",
        },
        base=BASE,
    )
    assert switches.identity is not None and switches.identity.reveal() == "AGE-SECRET-KEY-1X"
    assert switches.non_interactive
    assert switches.expected_sha256 == "ab" * 32
    assert switches.options.search_path == ("main", "public")
    unset = read_switches({}, base=BASE)
    assert (unset.identity, unset.expected_sha256, unset.non_interactive) == (None, None, False)


def test_signers_of_one_restore_are_added() -> None:
    base = dataclasses.replace(BASE, trust=dataclasses.replace(BASE.trust, once=("db1",)))
    assert read_switches({"DB_RESTORE_SIGNER": " db2, db3 ,"}, base=base).options.trust.once == ("db1", "db2", "db3")
    assert read_switches({"DB_RESTORE_SIGNER": ""}, base=base).options.trust.once == ("db1",)
    with pytest.raises(ConfigurationError, match="DB_RESTORE_SIGNER"):
        read_switches({"DB_RESTORE_SIGNER": "db*"}, base=base)


def test_a_sha256_that_is_none() -> None:
    with pytest.raises(ConfigurationError, match="DB_RESTORE_EXPECTED_SHA256"):
        read_switches({"DB_RESTORE_EXPECTED_SHA256": "abc"}, base=BASE)


@pytest.mark.parametrize("hours", [-1, float("nan"), float("inf"), 1e9])
def test_hours_that_nothing_can_be_kept_for(hours: float) -> None:
    with pytest.raises(ConfigurationError, match="no number of hours"):
        restoring.keep_replaced(hours, name="x")


def test_hours_that_a_replaced_database_is_kept_for() -> None:
    assert restoring.keep_replaced(0, name="x") == datetime.timedelta(0)
    assert restoring.keep_replaced(1.5, name="x") == datetime.timedelta(minutes=90)


def test_how_long_a_statement_may_take() -> None:
    assert read_switches({}, base=BASE).options.statement_timeout == datetime.timedelta(hours=24)
    options = read_switches({"DB_RESTORE_STATEMENT_TIMEOUT": " 90 "}, base=BASE).options
    assert options.statement_timeout == datetime.timedelta(seconds=90)


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "1h", "٣", "9" * 30])
def test_a_time_that_is_none(text: str) -> None:
    with pytest.raises(ConfigurationError, match="DB_RESTORE_STATEMENT_TIMEOUT is no number of seconds"):
        read_switches({"DB_RESTORE_STATEMENT_TIMEOUT": text}, base=BASE)


def test_how_long_and_how_large_a_restore_may_be() -> None:
    assert BASE.timeout == datetime.timedelta(hours=72) and BASE.max_size is None
    options = read_switches({"DB_RESTORE_TIMEOUT": "90", "DB_RESTORE_MAX_SIZE": "1.5g"}, base=BASE).options
    assert (options.timeout, options.max_size) == (datetime.timedelta(seconds=90), 3 << 29)
    assert restoring.read_limits(None, None, base=options) == options
    given = restoring.read_limits("5", "0", base=options)
    assert (given.timeout, given.max_size) == (datetime.timedelta(seconds=5), 0)


@pytest.mark.parametrize(
    ("text", "size"), [("0", 0), ("4096", 4096), ("1k", 1024), ("20 GiB", 20 << 30), ("2TB", 2 << 40), ("7B", 7)]
)
def test_a_size(text: str, size: int) -> None:
    assert restoring.max_size(text, name="x") == size


@pytest.mark.parametrize("text", ["", "-1", "1e9", "G", "1 XB", "1,5G", "٣", "nan", "9" * 30])
def test_what_is_not_a_size(text: str) -> None:
    with pytest.raises(ConfigurationError, match="x is not a size"):
        restoring.max_size(text, name="x")


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
