# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module store_probe, and first backups of age_backup, run by Ansible against real stores."""

from __future__ import annotations

import dataclasses
import pathlib
import typing as t

import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain import policies

from tests.support import scene
from tests.support.cluster import Cluster
from tests.support.configured import ConfiguredHost, bucket_settings
from tests.support.faultyproxy import Answer, FaultyProxy, altered
from tests.support.playbook import Task, play
from tests.support.policyproxy import PolicyProxy
from tests.support.s3server import S3Server

BUCKET = "backups"


@pytest.fixture(scope="module")
def server() -> t.Iterator[S3Server]:
    with S3Server() as running:
        yield running


@pytest.fixture
def bucket(server: S3Server) -> t.Iterator[str]:
    server.create_bucket(BUCKET)
    yield BUCKET
    client = server.client()
    for found in client.list_objects_v2(Bucket=BUCKET).get("Contents", ()):
        client.delete_object(Bucket=BUCKET, Key=found["Key"])


def keys(server: S3Server) -> list[str]:
    return sorted(found["Key"] for found in server.client().list_objects_v2(Bucket=BUCKET).get("Contents", ()))


def options(server: S3Server, **changes: str) -> dict[str, t.Any]:
    return {
        "bucket": BUCKET,
        "endpoint": server.endpoint,
        "access_key_id": server.access_key,
        "secret_access_key": server.secret_key,
        "prefixes": ["db/shop/", "db/ledger/"],
        **changes,
    }


def test_check_mode_then_once_then_nothing_to_do(server: S3Server, bucket: str) -> None:
    probe = Task("store_probe", options(server))
    played = play(dataclasses.replace(probe, check=True), probe, probe)
    assert server.secret_key not in played.output
    planned, first, second = played.results
    assert [one["changed"] for one in (planned, first, second)] == [True, True, False]
    assert planned["destinations"][0]["writing"] == "not tried"
    assert planned["destinations"][0]["create_only"] is None
    assert planned["destinations"][0]["severity"] == "warning"  # rclone has no versions
    assert "no write was tried" in planned["destinations"][0]["checks"][0]["seen"]
    assert first["destinations"][0]["writing"] == "allowed"
    assert first["destinations"][0]["versions"] is False
    assert keys(server) == ["db/ledger/.infrazero/probe.age", "db/shop/.infrazero/probe.age"]


WRONG: dict[str, tuple[dict[str, t.Any], str]] = {
    "secret": ({"secret_access_key": "not-the-secret-of-it"}, "secret access key is wrong"),
    "bucket": ({"bucket": "absent"}, "NoSuchBucket"),
    "endpoint": ({"endpoint": "http://127.0.0.1:9"}, "nothing answers at http://127.0.0.1:9"),
    "prefix": ({"prefixes": ["db/shop"]}, "each ends with '/'"),
}


@pytest.mark.parametrize("check", [False, True])
@pytest.mark.parametrize("wrong", WRONG)
def test_a_store_that_cannot_be_reached_fails_in_one_paragraph(
    server: S3Server, bucket: str, wrong: str, check: bool
) -> None:
    changes, reason = WRONG[wrong]
    (failed,) = play(Task("store_probe", {**options(server), **changes}, check=check)).results
    assert failed["failed"]
    assert reason in failed["msg"]
    assert "\n" not in failed["msg"]
    assert keys(server) == []


def test_a_directory_that_is_not_mounted_fails(tmp_path: pathlib.Path) -> None:
    present, absent = play(
        Task("store_probe", {"directory": str(tmp_path), "prefixes": ["db/shop/"]}),
        Task("store_probe", {"directory": str(tmp_path / "absent"), "prefixes": ["db/shop/"]}),
    ).results
    assert present["destinations"][0]["versions"] is None
    assert present["destinations"][0]["severity"] == "ok"
    assert "does not exist" in absent["msg"]
    assert not (tmp_path / "absent").exists()


@pytest.fixture
def host(cluster: Cluster, server: S3Server, bucket: str, tmp_path: pathlib.Path) -> ConfiguredHost:
    shop, ledger = scene.entry("shop"), scene.entry("ledger")
    scene.make(cluster, shop, "CREATE TABLE orders AS SELECT 1 AS id")
    scene.make(cluster, ledger)
    return ConfiguredHost(tmp_path / "etc", cluster, [shop, ledger], bucket_settings(server, bucket))


def first(one: ConfiguredHost, *, check: bool = False) -> Task:
    return Task("age_backup", {"config": str(one.directory), "first": True}, check=check)


def test_first_backups_are_made_once_and_read_back(host: ConfiguredHost, server: S3Server) -> None:
    assert host.run("backup", "--database", "shop").returncode == 0
    planned, made, again = play(first(host, check=True), first(host), first(host)).results
    assert [one["status"] for one in planned["databases"]] == ["present", "planned"]
    assert [one["status"] for one in made["databases"]] == ["present", "backed_up"]
    assert made["databases"][1]["read_back"] == ["manifest", "latest", "size", "first chunk"]
    assert [one["status"] for one in again["databases"]] == ["present", "present"]
    assert [one["changed"] for one in (planned, made, again)] == [True, True, False]
    dumps = [key for key in keys(server) if key.endswith(".sql.gz.age")]
    assert [key.rpartition("/")[0] for key in dumps] == ["db/ledger", "db/shop"]


def test_a_host_that_may_not_read_dumps_reads_back_the_rest(host: ConfiguredHost, server: S3Server) -> None:
    policy = policies.policy([policies.HOST], bucket=BUCKET, prefixes=["db/"])
    with PolicyProxy(server.endpoint, BUCKET, policy) as proxy:
        host.configure(S3_ENDPOINT=proxy.endpoint)
        probed, made = play(Task("store_probe", {"config": str(host.directory)}), first(host)).results
    assert probed["destinations"][0]["writing"] == "allowed"
    assert probed["destinations"][0]["versions"] is None
    assert [one["read_back"] for one in made["databases"]] == [["manifest", "latest", "size"]] * 2


def test_a_store_that_returns_something_else_fails(host: ConfiguredHost, server: S3Server) -> None:
    def spoil(answer: Answer) -> None:
        if answer.status == 200:
            answer.body = bytes(len(answer.body))

    with FaultyProxy(server.endpoint) as proxy:
        proxy.inject("GetObject", altered(spoil), key=r".*\.age")
        host.configure(S3_ENDPOINT=proxy.endpoint)
        (made,) = play(first(host)).results
    assert made["failed"]
    assert "does not read back" in made["msg"]
    assert {one["status"] for one in made["databases"]} == {"failed"}


def test_the_history_of_another_cluster_is_not_continued(
    host: ConfiguredHost, server: S3Server, fresh_cluster: Cluster, tmp_path: pathlib.Path
) -> None:
    scene.make(fresh_cluster, host.entries[0])
    other = ConfiguredHost(tmp_path / "other", fresh_cluster, host.entries[:1], host.settings)
    for name in ("id_ed25519", "id_ed25519.pub"):
        (other.directory / "signing" / name).write_bytes((host.directory / "signing" / name).read_bytes())
    assert other.run("backup").returncode == 0
    # A run that was killed before its last step, or a latest that somebody has deleted.
    server.client().delete_object(Bucket=BUCKET, Key="db/shop/latest-dump.json")
    before = [key for key in keys(server) if key.startswith("db/shop/")]
    (made,) = play(first(host)).results
    assert not made.get("failed")
    assert [one["status"] for one in made["databases"]] == ["skipped", "backed_up"]
    assert "must not be backed up to" in made["databases"][0]["reason"]
    assert [key for key in keys(server) if key.startswith("db/shop/")] == before
