# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What lies in a store, whoever has put it there."""

from __future__ import annotations

import datetime
import hashlib
import json
import pathlib
import typing as t

import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain import manifest as domain_manifest
from ansible_collections.infrazero.database.plugins.module_utils._engine.errors import ManifestError, NotFound
from ansible_collections.infrazero.database.plugins.module_utils._engine.stores import catalogue
from ansible_collections.infrazero.database.plugins.module_utils._engine.stores.base import DirectorySettings, Store
from ansible_collections.infrazero.database.plugins.module_utils._engine.stores.registry import open_store

OLD, NEW = "db/app/20260101T000000Z", "db/app/20260102T000000Z"


@pytest.fixture
def store(tmp_path: pathlib.Path) -> Store:
    (tmp_path / "bucket").mkdir()
    return open_store(DirectorySettings(path=str(tmp_path / "bucket")))


def manifest(key: str, created_at: str = "2026-01-02T00:00:00Z") -> bytes:
    return json.dumps({"key": key, "sha256": "0" * 64, "created_at": created_at}).encode()


def put(store: Store, *keys: str, latest: str | None = None) -> None:
    for key in keys:
        store.put(key, manifest("db/app/x") if key.endswith(".json") else b"dump")
    if latest is not None:
        store.put("db/app/latest-dump.json", manifest(latest))


def listed(store: Store) -> list[tuple[str, int | None, str, bool]]:
    return [(b.key, b.size, b.state, b.latest) for b in catalogue.catalogue(store, "app")]


def test_nothing(store: Store) -> None:
    assert listed(store) == []
    assert catalogue.read_latest(store, "db/app/") is None


def test_newest_first_with_their_states(store: Store) -> None:
    lost = "db/app/20251231T000000Z.manifest.json"
    put(store, f"{OLD}.sql.gz.age", f"{NEW}.sql.zst.age", f"{NEW}.manifest.json", lost, latest=f"{NEW}.sql.zst.age")
    # Of another database, and things that are no backups.
    put(store, "db/apple/20260101T000000Z.sql.gz.age", "db/app/README", "db/app/20269999T000000Z.sql.gz.age")
    assert listed(store) == [
        (f"{NEW}.sql.zst.age", 4, "complete", True),
        (f"{OLD}.sql.gz.age", 4, "orphan", False),
        (lost, None, "missing", False),
    ]


def test_the_manifest_that_latest_is_proves_an_older_tools_dump(store: Store) -> None:
    put(store, f"{OLD}.sql.gz.age", latest=f"{OLD}.sql.gz.age")
    assert listed(store) == [(f"{OLD}.sql.gz.age", 4, "complete", True)]


def test_a_dump_that_is_gone_is_missing(store: Store) -> None:
    put(store, f"{NEW}.manifest.json", latest=f"{NEW}.sql.gz.age")
    assert listed(store) == [(f"{NEW}.sql.gz.age", None, "missing", True)]


@pytest.mark.parametrize(
    "key", ["db/app/by-hand.sql.gz", "elsewhere/app.sql.gz.age", f"s3://bucket/{NEW}.sql.gz.age", "s3://other/x.sql"]
)
@pytest.mark.parametrize("there", [True, False])
def test_latest_may_name_an_object_of_any_name_anywhere(
    store: Store, tmp_path: pathlib.Path, key: str, there: bool
) -> None:
    (tmp_path / "other").mkdir()
    bucket, _slash, rest = key.removeprefix("s3://").partition("/") if key.startswith("s3://") else ("bucket", "", key)
    if there:
        put(store.sibling(bucket), rest)
    put(store, latest=key)
    shown = rest if bucket == "bucket" else store.sibling(bucket).url(rest)
    assert listed(store) == [(shown, 4 if there else None, "complete" if there else "missing", True)]


def test_as_plain_data(store: Store) -> None:
    put(store, f"{NEW}.sql.gz.age", latest=f"{NEW}.sql.gz.age")
    (backup,) = catalogue.catalogue(store, "app")
    assert backup.as_dict(datetime.datetime(2026, 1, 2, 1, tzinfo=datetime.timezone.utc)) == {
        "database": "app",
        "key": f"{NEW}.sql.gz.age",
        "created_at": "2026-01-02T00:00:00Z",
        "age_seconds": 3600,
        "size": 4,
        "state": "complete",
        "latest": True,
    }


def test_a_manifest_is_read_with_its_hash(store: Store) -> None:
    data = manifest(f"{OLD}.sql.gz.age")
    store.put("db/app/latest-dump.json", data)
    found = catalogue.read_latest(store, "db/app/")
    assert found is not None
    assert found.sha256 == hashlib.sha256(data).hexdigest()
    assert (found.location.key, found.location.bucket) == (f"{OLD}.sql.gz.age", None)


def test_a_broken_manifest_is_named_by_its_place(store: Store) -> None:
    store.put("db/app/latest-dump.json", b"{")
    with pytest.raises(ManifestError, match=r"bucket/db/app/latest-dump\.json: "):
        catalogue.read_latest(store, "db/app/")


def test_only_what_the_store_calls_absent_is_absent(store: Store) -> None:
    class Refusing:
        def get(self, _key: str, *, limit: int) -> t.NoReturn:
            raise PermissionError(str(limit))

    with pytest.raises(PermissionError):
        catalogue.read_latest(t.cast(Store, Refusing()), "db/app/")
    with pytest.raises(NotFound):
        catalogue.read_manifest(store, "db/app/latest-dump.json")


def test_a_prefix_has_a_url_that_no_other_begins_with(store: Store) -> None:
    place = catalogue.location(store, "db/app/")
    assert place.endswith("/db/app/")
    assert store.url("db/app/20260101T000000Z.sql.gz.age").startswith(place)
    assert not store.url("db/apple/20260101T000000Z.sql.gz.age").startswith(place)


def test_newer_manifests_are_listed_and_not_read(store: Store) -> None:
    for key in (f"{OLD}.manifest.json", f"{NEW}.manifest.json", "db/app/20260103T000000Z.manifest.json"):
        store.put(key, b"junk")
    put(store, f"{NEW}.sql.gz.age", "db/app/deeper/20260104T000000Z.manifest.json", "db/app/x.manifest.json")
    moments = [datetime.datetime(2026, 1, day, tzinfo=datetime.timezone.utc) for day in (1, 2, 3)]
    listed = catalogue.newer(store, "db/app/", than=moments[0])
    assert listed == [(moments[2], "db/app/20260103T000000Z.manifest.json"), (moments[1], f"{NEW}.manifest.json")]
    assert [moment for moment, _key in catalogue.newer(store, "db/app/", than=None)] == moments[::-1]
    assert catalogue.newer(store, "db/app/", than=moments[2]) == []


def test_a_manifest_beside_a_dump_is_that_dumps(store: Store) -> None:
    store.put(f"{NEW}.manifest.json", manifest(f"{NEW}.sql.gz.age"))
    assert catalogue.read_immutable(store, f"{NEW}.manifest.json").manifest.key == f"{NEW}.sql.gz.age"
    store.put(f"{OLD}.manifest.json", manifest(f"{NEW}.sql.gz.age"))
    with pytest.raises(ManifestError, match="of another backup"):
        catalogue.read_immutable(store, f"{OLD}.manifest.json")


def test_what_is_too_large_is_no_manifest_and_is_not_read(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    data = manifest(f"{NEW}.sql.gz.age")
    store.put("db/app/latest-dump.json", data)
    monkeypatch.setattr(domain_manifest, "MAX_BYTES", len(data) - 1)
    with pytest.raises(ManifestError, match="is not a manifest"):
        catalogue.read_latest(store, "db/app/")
