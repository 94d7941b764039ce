# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose a recipient is, and what is answered to a key that opens nothing."""

from __future__ import annotations

import typing as t

from ansible_collections.infrazero.database.plugins.module_utils._engine.domain import recipients
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.databases import Database
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.secret import Secret
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.subjects import ClusterGlobals
from ansible_collections.infrazero.database.plugins.module_utils._engine.errors import WrongIdentity

SHOP, BLOG, ESCROW, STRANGER = "age1shop", "age1blog", "age1escrow", "age1stranger"
SSH = "ssh-ed25519 AAAAC3Nz"


def entry(name: str, *keys: str) -> Database:
    return Database(name, name, Secret("password"), keys)


OWNERS = recipients.owners(
    [
        entry("shop", SHOP, ESCROW),
        entry("blog", BLOG, ESCROW, f"{SSH} admin@office"),
        ClusterGlobals("cluster/db1/", (ESCROW, "AGE1SHOUTED")),
    ]
)


def explained(given: tuple[str, ...] | None, recorded: t.Sequence[str] | None) -> WrongIdentity:
    error = WrongIdentity("no key fits", cause="it is encrypted to keys of these kinds: X25519")
    error.given = given
    return recipients.explain(error, url="s3://bucket/db/shop/x.age", recorded=recorded, owners=OWNERS)


def test_owners_and_labels() -> None:
    assert recipients.labelled(SHOP, OWNERS) == "age1shop (database shop)"
    assert recipients.labelled(ESCROW, OWNERS) == "age1escrow (database shop, database blog, cluster globals)"
    assert recipients.labelled(f"{SSH} another comment", OWNERS) == f"{SSH} another comment (database blog)"
    assert recipients.labelled("age1shouted", OWNERS) == "age1shouted (cluster globals)"
    assert recipients.labelled(STRANGER, OWNERS) == STRANGER


def test_the_same_recipients() -> None:
    assert recipients.same([SHOP, f"{SSH} one"], [f"{SSH} two", SHOP.upper()])
    assert not recipients.same([SHOP], [SHOP, ESCROW])


def test_the_key_of_another_database() -> None:
    error = explained((BLOG,), (SHOP, ESCROW))
    assert error.message == "the given age private key does not open s3://bucket/db/shop/x.age"
    assert error.cause == (
        "the manifest says that it is encrypted to age1shop (database shop), age1escrow (database shop, database blog,"
        " cluster globals); the given key belongs to age1blog: this is the key of database blog"
    )
    assert error.phase == "decrypt" and error.given == (BLOG,)


def test_an_unknown_key_and_an_ssh_key() -> None:
    assert explained((STRANGER,), (SHOP,)).cause.endswith("; the given key belongs to age1stranger")
    assert explained((), (SHOP,)).cause.endswith("; the given key is an SSH key")


def test_a_manifest_without_recipients() -> None:
    for recorded in (None, ()):
        cause = explained((BLOG,), recorded).cause
        assert cause.startswith("it is encrypted to keys of these kinds: X25519; no manifest names the recipients")
        assert cause.endswith("this is the key of database blog")


def test_a_passphrase_is_another_matter() -> None:
    assert explained(None, (SHOP,)).message == "no key fits"


def test_what_a_manifest_says_is_shown_and_not_obeyed() -> None:
    error = explained((SHOP,), ["age1\x1b[2J\u202e", *(f"age1{number}" for number in range(1_000))])
    text = str(error)
    assert "\x1b" not in text and "\u202e" not in text and "\\x1b[2J" in text
    assert "and 991 more" in text and len(text) < 1_000
