# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sources with similar names, and the message that suggests them."""

from __future__ import annotations

import datetime

import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain import nearby
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.nearby import Nearby

NOW = datetime.datetime(2026, 1, 31, 12, tzinfo=datetime.timezone.utc)
EARLIER = NOW - datetime.timedelta(hours=2, minutes=5)
SHOP = "db/shop/20260131T032000Z.sql.gz.age"
KEYS = [
    SHOP,
    "db/shop/20260131T032000Z.manifest.json",
    "db/shop/latest-dump.json",
    "db/shop/20260130T032000Z.sql.gz.age",
    "db/ledger/latest-dump.json",
    "db/shop/signers/db1-abc.pub",
    "notes.txt",
]


@pytest.mark.parametrize(
    ("key", "first"),
    [
        # Misspelt.
        ("db/shpo/latest-dump.json", "db/shop/"),
        ("db/shop/20260131T032000Z.sql.gz", SHOP),
        ("db/shop/20260131T03200Z.sql.gz.age", SHOP),
        ("db/shop/20260131T032000.manifest.json", SHOP),
        ("db/SHOP", "db/shop/"),
        # In the wrong place.
        ("shop", "db/shop/"),
        ("shop/latest-dump.json", "db/shop/"),
        ("db/shpo/20260131T032000Z.sql.gz.age", SHOP),
        ("backups/db/ledger", "db/ledger/"),
    ],
)
def test_what_was_probably_meant_comes_first(key: str, first: str) -> None:
    assert nearby.similar(key, KEYS)[0] == first


@pytest.mark.parametrize("key", ["db/wiki/latest-dump.json", "wiki", "db/notes", "db/shop/signers/db1-abc.pub"])
def test_what_is_not_similar_is_left_out(key: str) -> None:
    assert nearby.similar(key, KEYS) == []


def test_of_sources_that_are_as_similar_the_newest_comes_first() -> None:
    keys = [f"db/shop/2026013{day}T032000Z.sql.gz.age" for day in (0, 1)]
    assert nearby.similar("db/shop/20260132T032000Z.sql.gz.age", keys) == keys[::-1]


def message(key: str, *named: Nearby, **rest: str) -> str:
    return nearby.message(key, location="s3://backups", named=named, now=NOW, **rest)


def test_one_suggestion() -> None:
    found = Nearby("db/shop/", EARLIER, "db1", accepted=True)
    assert message("db/shop", found) == (
        "object db/shop is not in the bucket s3://backups; "
        "did you mean db/shop/ (latest backup of 2 h ago, signed by db1)?"
    )


def test_several_suggestions_name_who_signed_them() -> None:
    text = message(
        "x", Nearby("db/shop/", EARLIER), Nearby(SHOP, EARLIER, "db2"), Nearby("a/", NOW, "db1", accepted=True)
    )
    assert text.endswith(
        "did you mean db/shop/ (latest backup of 2 h ago, not signed by a host that is known here), "
        f"{SHOP} (backup of 2 h ago, signed by db2, whose backups are not accepted here) "
        "or a/ (latest backup of a moment ago, signed by db1)?"
    )


def test_no_more_than_three_are_named() -> None:
    assert message("x", *[Nearby(f"p{number}/", NOW) for number in range(5)]).count("/ (") == nearby.MOST


def test_without_suggestions_the_reason_is_named_if_there_is_one() -> None:
    assert message("x") == "object x is not in the bucket s3://backups"
    assert message("x", why_few="the store denies listing") == (
        "object x is not in the bucket s3://backups; the store denies listing"
    )


def test_nothing_is_suggested_that_a_terminal_or_a_shell_obeys() -> None:
    text = message("a\x1b[2J", Nearby("b\x1b[2J/", NOW), Nearby("-rf/", NOW), Nearby("$(touch x)/", NOW))
    assert text.isprintable() and "b\\x1b" not in text and "-rf" not in text and "'$(touch x)/'" in text
