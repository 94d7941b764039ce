# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Infisical's admin token: stored once, and replaced only on purpose."""

from __future__ import annotations

import hashlib
import json
import pathlib
import typing as t

import pyrage
import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine import admintoken
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.secret import Secret
from ansible_collections.infrazero.database.plugins.module_utils._engine.errors import (
    AccessDenied,
    ConfigurationError,
    ManifestError,
)
from ansible_collections.infrazero.database.plugins.module_utils._engine.stores.base import DirectorySettings, Store
from ansible_collections.infrazero.database.plugins.module_utils._engine.stores.registry import open_store

from tests.support.stores import keys

IDENTITY = pyrage.x25519.Identity.generate()
TOKEN = Secret("eyJ0 - 'a token'")
SITE = "https://infisical.example.com"
POINTER = "infisical/bootstrap/latest-tokens.json"


@pytest.fixture
def store(tmp_path: pathlib.Path) -> Store:
    return open_store(DirectorySettings(path=str(tmp_path)))


def keep(store: Store, **changes: t.Any) -> admintoken.Kept:
    arguments: dict[str, t.Any] = {"site_url": SITE, "recipients": [str(IDENTITY.to_public())], "store": store}
    return admintoken.keep(changes.pop("token", TOKEN), **{**arguments, **changes})


def pointer(store: Store) -> t.Any:
    return json.loads(store.get(POINTER, limit=10_000))


def test_the_token_lies_encrypted_without_a_line_end_and_is_pointed_at(store: Store) -> None:
    kept = keep(store)
    said = pointer(store)
    assert set(said) == {"created_at", "infisical_site_url", "admin_token_key", "admin_token_sha256"}
    assert (kept.changed, kept.pointer_key, said["infisical_site_url"]) == (True, POINTER, SITE)
    stamp = said["created_at"].replace("-", "").replace(":", "")
    assert said["admin_token_key"] == f"infisical/bootstrap/{stamp}/admin.token.age"
    sealed = store.get(said["admin_token_key"], limit=10_000)
    assert hashlib.sha256(sealed).hexdigest() == said["admin_token_sha256"]
    assert pyrage.decrypt(sealed, [IDENTITY]) == TOKEN.reveal().encode()


def test_a_second_run_leaves_everything_as_it_is(store: Store) -> None:
    keep(store)
    before = (keys(store), store.get(POINTER, limit=10_000), store.head(POINTER).modified)
    assert not keep(store, token=Secret("another")).changed
    assert (keys(store), store.get(POINTER, limit=10_000), store.head(POINTER).modified) == before


def test_check_mode_writes_nothing(store: Store) -> None:
    assert keep(store, plan_only=True).changed
    assert keys(store) == []


def test_what_another_tool_has_stored_stays(store: Store) -> None:
    store.put("infisical/bootstrap/admin.token.age", b"age-encryption.org/v1")
    store.put(POINTER, b'{"admin_token_key": "infisical/bootstrap/admin.token.age", "readonly_token_key": "x"}')
    assert not keep(store).changed


def test_a_rotation_keeps_the_token_before(store: Store) -> None:
    store.put("infisical/bootstrap/20200101T000000Z/admin.token.age", b"old")
    store.put(POINTER, b'{"admin_token_key": "infisical/bootstrap/20200101T000000Z/admin.token.age"}')
    assert keep(store, rotate=True).changed
    assert store.get("infisical/bootstrap/20200101T000000Z/admin.token.age", limit=10) == b"old"
    assert pointer(store)["admin_token_key"] != "infisical/bootstrap/20200101T000000Z/admin.token.age"


@pytest.mark.parametrize("damage", ["missing", "altered"])
def test_a_token_that_is_lost_is_stored_anew(store: Store, damage: str) -> None:
    store.put(
        POINTER,
        json.dumps(
            {"admin_token_key": "infisical/bootstrap/a/admin.token.age", "admin_token_sha256": "0" * 64}
        ).encode(),
    )
    if damage == "altered":
        store.put("infisical/bootstrap/a/admin.token.age", b"something else")
    kept = keep(store)
    assert kept.changed
    assert "stored again" in kept.warnings[0]
    assert pointer(store)["admin_token_key"] == kept.pointer.key


def test_the_token_of_another_site_is_not_replaced(store: Store) -> None:
    keep(store)
    before = keys(store)
    with pytest.raises(ConfigurationError, match="belongs to another site"):
        keep(store, site_url="https://other.example.com")
    assert keys(store) == before


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b'{"admin_token_key": 1}',
        b'{"admin_token_key": "/etc/passwd"}',
        b'{"admin_token_key": "../x"}',
    ],
)
def test_a_pointer_that_is_none_is_an_error_and_stays(store: Store, content: bytes) -> None:
    store.put(POINTER, content)
    with pytest.raises(ManifestError):
        keep(store)
    assert keys(store) == [POINTER]


def test_not_allowed_is_not_absent() -> None:
    class Refusing:
        def get(self, key: str, *, limit: int) -> bytes:
            raise AccessDenied("403")

    with pytest.raises(AccessDenied):
        keep(t.cast(Store, Refusing()))


@pytest.mark.parametrize("token", ["", "token\n", " token"])
def test_a_token_with_a_line_end_is_refused(store: Store, token: str) -> None:
    with pytest.raises(ConfigurationError):
        keep(store, token=Secret(token))
    assert keys(store) == []
