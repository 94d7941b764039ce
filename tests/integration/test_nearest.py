# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sources that name nothing: that is the error, whoever may have signed what, with the nearest ones that exist."""

from __future__ import annotations

import dataclasses
import datetime
import json
import pathlib
import typing as t

import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain import layout, policies
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.manifest import parse, render
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.trust import UNSIGNED, Trust
from ansible_collections.infrazero.database.plugins.module_utils._engine.errors import (
    AccessDenied,
    BucketMissing,
    EngineError,
    NotFound,
    Unsigned,
)
from ansible_collections.infrazero.database.plugins.module_utils._engine.restore.choose import choose
from ansible_collections.infrazero.database.plugins.module_utils._engine.stores.base import DirectorySettings, Store
from ansible_collections.infrazero.database.plugins.module_utils._engine.stores.directory import DirectoryStore
from ansible_collections.infrazero.database.plugins.module_utils._engine.stores.s3 import S3Store

from tests.support import scene
from tests.support.policyproxy import PolicyProxy
from tests.support.s3server import S3Server
from tests.support.signing import SigningHost, trust

SHOP = scene.entry("shop")
OLD = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0) - datetime.timedelta(hours=2, minutes=1)
BUCKET = "backups"


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, SigningHost]:
    directory = tmp_path_factory.mktemp("keys")
    return {name: SigningHost.make(directory, name) for name in ("db1", "db2", "mallory")}


def backup(store: Store, prefix: str, host: SigningHost | None, *, at: datetime.datetime = OLD, name: str = "") -> str:
    """A dump with its manifests; whoever can write to the store can create it."""
    key = layout.dump_key(prefix, at)
    said = parse(
        json.dumps(
            {
                "key": key,
                "sha256": "0" * 64,
                "created_at": at.strftime("%Y-%m-%dT%H:%M:%SZ"),
                "schema_version": 2,
                "source": "postgresql",
                "kind": "dump",
                "sequence": 1,
                "host": None if host is None else host.name,
                "postgresql": {
                    "database": name or prefix.rstrip("/").rpartition("/")[2],
                    "system_identifier": "1",
                },
            }
        ).encode()
    )
    data = render(said if host is None else host.signer.sign(said))
    store.put(key, b"x")
    store.put(layout.manifest_key(key), data)
    store.put(layout.latest_key(prefix), data)
    return key


def refused(store: Store, source: str, trusted: Trust, kind: type[EngineError] = NotFound) -> str:
    with pytest.raises(kind) as caught:
        choose(store, source, database=SHOP, trust=trusted)
    assert caught.value.__class__ is kind
    if kind is NotFound:
        assert "unsigned" not in str(caught.value).lower().replace("not signed", "")
    return str(caught.value)


@pytest.mark.parametrize("mode", ["signed", "unsigned"])
def test_a_forgotten_slash(store: Store, hosts: dict[str, SigningHost], mode: str) -> None:
    backup(store, "db/shop/", hosts["db1"])
    text = refused(store, "db/shop", trust(hosts["db1"], mode=mode))
    assert f"object db/shop is not in the {store.location}" in text
    assert "did you mean db/shop/ (latest backup of 2 h ago, signed by db1)?" in text


def test_a_slash_that_was_forgotten_before_an_unsigned_backup(store: Store, hosts: dict[str, SigningHost]) -> None:
    """The prefix is the operator's own word, so it is suggested, and who signed its backup is part of it."""
    backup(store, "db/shop/", None)
    assert "db/shop/ (latest backup of 2 h ago, not signed by a host" in refused(store, "db/shop", trust(hosts["db1"]))


@pytest.mark.parametrize(
    "source", ["db/shpo/", "db/shpo", "shop", "shop/", "db/Shop/", "db/shopp/latest-dump.json", "backups/shop/"]
)
def test_a_misspelt_prefix(store: Store, hosts: dict[str, SigningHost], source: str) -> None:
    backup(store, "db/shop/", hosts["db1"])
    assert "did you mean db/shop/ (latest backup of 2 h ago, signed by db1)" in refused(
        store, source, trust(hosts["db1"])
    )


def test_misspelt_keys(store: Store, hosts: dict[str, SigningHost]) -> None:
    backup(store, "db/shop/", hosts["db1"], at=OLD - datetime.timedelta(days=1))
    key = backup(store, "db/shop/", hosts["db1"])
    for source in (
        key[:-4],
        key.replace("Z.sql", ".sql"),
        key.replace("shop", "shpo"),
        f"{key[:-11]}.manifest.json"[1:],
    ):
        text = refused(store, source, trust(hosts["db1"]))
        assert f"did you mean {key} (backup of 2 h ago, signed by db1)" in text, source


def test_another_databases_prefix(store: Store, hosts: dict[str, SigningHost]) -> None:
    """One database may be restored from the backup of another, so that one's are suggested; then its own."""
    wiki = backup(store, "db/wiki/", hosts["db1"])
    backup(store, "db/shop/", hosts["db1"])
    text = refused(store, wiki[:-4], trust(hosts["db1"]))
    assert f"did you mean {wiki} (backup of 2 h ago, signed by db1) or db/shop/ (latest backup of 2 h ago" in text
    assert "or db/shop/" in refused(store, "db/wikki/", trust(hosts["db1"]))
    # What is there is not accepted by the way.
    assert choose(store, wiki, database=SHOP, trust=trust(hosts["db1"])).proven


def test_a_prefix_without_a_latest_backup(store: Store, hosts: dict[str, SigningHost]) -> None:
    key = backup(store, "db/shop/", hosts["db1"])
    store.delete(layout.latest_key("db/shop/"))
    for source in ("db/shop/", "db/shop"):
        assert f"did you mean {key} (backup of 2 h ago, signed by db1)?" in refused(store, source, trust(hosts["db1"]))


def test_an_empty_store_suggests_nothing(store: Store, hosts: dict[str, SigningHost]) -> None:
    text = refused(store, "db/shop/", trust(hosts["db1"]))
    assert f"object db/shop/latest-dump.json is not in the {store.location}; " in text and "did you mean" not in text


def test_what_others_left_is_not_suggested(store: Store, hosts: dict[str, SigningHost]) -> None:
    """Whoever can write to the bucket can create names that look like those an operator mistypes."""
    mallory = dataclasses.replace(hosts["mallory"], name="db1")
    for prefix in ("db/shpo/", "db/shopp/", "db/shop\u202e/", "db/$(touch x)shop/"):
        backup(store, prefix, mallory, name="shop")
        backup(store, f"{prefix}x/", None, name="shop")
    honest = backup(store, "db/shop/", hosts["db1"])
    planted = backup(store, "db/shop/", None, at=OLD + datetime.timedelta(hours=1))
    for source in ("db/sho/", "db/sho", f"{planted[:-5]}", "db/shop-/"):
        text = refused(store, source, trust(hosts["db1"]))
        assert "shpo" not in text and "shopp" not in text and "touch" not in text and text.isprintable()
        assert f"did you mean {planted}" not in text and f"or {planted}" not in text
    assert honest in refused(store, honest[:-4], trust(hosts["db1"]))


def test_a_host_that_is_known_and_not_accepted_is_named(store: Store, hosts: dict[str, SigningHost]) -> None:
    backup(store, "db/production/", hosts["db2"])
    text = refused(store, "db/prodution/", trust(hosts["db1"], hosts["db2"]))
    assert "db/production/ (latest backup of 2 h ago, signed by db2, whose backups are not accepted here)" in text


def test_without_signatures_any_source_is_suggested(store: Store) -> None:
    key = backup(store, "db/shop/", None)
    assert f"did you mean {key} (" in refused(store, key[:-4], Trust(mode=UNSIGNED))


def test_an_unsigned_backup_leads_to_unsigned_only_if_its_object_exists(
    store: Store, hosts: dict[str, SigningHost]
) -> None:
    signed = backup(store, "db/shop/", hosts["db1"])
    key = backup(store, "db/shop/", None, at=OLD + datetime.timedelta(hours=1))
    text = refused(store, "db/shop/", trust(hosts["db1"]), Unsigned)
    assert f"restore {signed} (backup of 2 h ago, signed by db1); " in text and "--trust unsigned" in text
    store.delete(key)
    for source in ("db/shop/", layout.manifest_key(key)):
        text = refused(store, source, trust(hosts["db1"]), Unsigned)
        assert f"the object that it names is not there: {key}" in text
        assert f"restore {signed} (" in text and "--trust unsigned" not in text
    data = json.loads(store.get(layout.latest_key("db/shop/"), limit=1 << 20))
    store.put(layout.latest_key("db/shop/"), json.dumps({**data, "key": f"s3://elsewhere/{key}"}).encode())
    text = refused(store, "db/shop/", trust(hosts["db1"]), Unsigned)
    assert "names an object in another bucket: s3://elsewhere/" in text and "--trust unsigned" not in text
    # A dump without a manifest.
    store.put("db/shop/20200101T000000Z.sql.gz.age", b"x")
    assert "--trust unsigned" in refused(store, "db/shop/20200101T000000Z.sql.gz.age", trust(hosts["db1"]), Unsigned)


def test_another_directory(tmp_path: pathlib.Path, hosts: dict[str, SigningHost]) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    here = DirectoryStore(DirectorySettings(str(tmp_path / "one")))
    backup(here.sibling("two"), "db/shop/", hosts["db1"])
    text = refused(here, "s3://two/db/shop", trust(hosts["db1"]))
    assert f"is not in the directory {tmp_path / 'two'}; did you mean db/shop/" in text


# A real server, with policies -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server() -> t.Iterator[S3Server]:
    with S3Server() as running:
        running.create_bucket(BUCKET)
        yield running


@pytest.fixture
def proxy(server: S3Server) -> t.Iterator[PolicyProxy]:
    running = PolicyProxy(server.endpoint, BUCKET, {})
    with running:
        yield running


def s3_store(server: S3Server, proxy: PolicyProxy, *roles: str, lists: bool = True) -> S3Store:
    policy = policies.policy(roles, bucket=BUCKET, prefixes=["db/"])
    if not lists:
        policy["Statement"] = [one for one in policy["Statement"] if one["Sid"] != "List"]
    proxy.policy = policy
    return S3Store(server.settings(BUCKET, endpoint=proxy.endpoint))


@pytest.mark.parametrize("role", [policies.HOST, policies.RESTORE])
def test_each_role_is_told_what_is_there(
    server: S3Server, proxy: PolicyProxy, hosts: dict[str, SigningHost], role: str
) -> None:
    key = backup(S3Store(server.settings(BUCKET)), "db/shop/", hosts["db1"])
    store = s3_store(server, proxy, role)
    for source in ("db/shop", "db/shpo/"):
        assert "did you mean db/shop/ (latest backup of 2 h ago, signed by db1)" in refused(
            store, source, trust(hosts["db1"])
        )
    assert f"did you mean {key} (backup" in refused(store, key[:-4], trust(hosts["db1"]))


def test_who_may_not_list_is_told_what_can_be_known(
    server: S3Server, proxy: PolicyProxy, hosts: dict[str, SigningHost]
) -> None:
    key = backup(S3Store(server.settings(BUCKET)), "db/shop/", hosts["db1"])
    # A dump that it may not read, and may not list either: whether it exists is unknown.
    store = s3_store(server, proxy, policies.HOST, lists=False)
    other = layout.dump_key("db/shop/", OLD - datetime.timedelta(days=1))
    assert "did you mean" not in refused(store, other, trust(hosts["db1"]), AccessDenied)
    text = refused(store, "db/shop", trust(hosts["db1"]), AccessDenied)
    assert "did you mean db/shop/ (latest backup of 2 h ago, signed by db1)? Otherwise, the credentials need" in text
    # One that it may read is absent.
    store = s3_store(server, proxy, policies.RESTORE, lists=False)
    text = refused(store, key[:-4], trust(hosts["db1"]))
    assert "did you mean db/shop/ (latest backup" in text


def test_not_allowed_stays_not_allowed(server: S3Server, proxy: PolicyProxy, hosts: dict[str, SigningHost]) -> None:
    backup(S3Store(server.settings(BUCKET)), "db/shop/", hosts["db1"])
    s3_store(server, proxy, policies.RESTORE)
    proxy.policy = {"Statement": []}
    store = S3Store(server.settings(BUCKET, endpoint=proxy.endpoint))
    for source in ("db/shop", "db/shop/", "db/shop/20200101T000000Z.sql.gz.age", "db/shpo/"):
        assert "is not in" not in refused(store, source, trust(hosts["db1"]), AccessDenied)


def test_a_bucket_that_does_not_exist(server: S3Server, hosts: dict[str, SigningHost]) -> None:
    store = S3Store(server.settings(BUCKET))
    key = backup(store, "db/shop/", hosts["db1"])
    for source, meant in ((f"s3://backup/{key}", key), ("s3://backup/db/shop/", "db/shop/")):
        text = refused(store, source, trust(hosts["db1"]), BucketMissing)
        assert "NoSuchBucket" in text
        assert f"did you mean {meant} in the bucket of this host, s3://backups (" in text
    text = refused(store, "s3://backup/db/shpo/", trust(hosts["db1"]), BucketMissing)
    assert "did you mean" not in text and "correct its name" in text
