# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command ``doctor`` on a host with a real server and real stores."""

from __future__ import annotations

import datetime
import json
import pathlib
import typing as t

import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine.checks import doctor, host
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain import checks
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.checks import (
    CRITICAL,
    OK,
    UNKNOWN,
    WARNING,
)
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql import state
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.connection import connect

from tests.support import scene
from tests.support.cluster import Cluster
from tests.support.configured import ConfiguredHost, bucket_settings
from tests.support.faultyproxy import Answer, FaultyProxy, altered
from tests.support.s3server import S3Server


@pytest.fixture(scope="module")
def server() -> t.Iterator[S3Server]:
    with S3Server() as running:
        running.create_bucket("backups")
        yield running


@pytest.fixture
def configured(cluster: Cluster, tmp_path: pathlib.Path) -> ConfiguredHost:
    """A host with one database and a directory as its store."""
    shop = scene.entry("shop")
    scene.make(cluster, shop, "CREATE TABLE orders AS SELECT 1 AS id")
    (tmp_path / "store").mkdir()
    return ConfiguredHost(tmp_path / "etc", cluster, [shop], {"DB_BACKUP_DIRECTORY": str(tmp_path / "store")})


def found(one: ConfiguredHost) -> dict[tuple[str, str], dict[str, str]]:
    """The results of ``doctor --json``, by area and subject."""
    done = one.run("doctor", "--json")
    document = json.loads(done.stdout)
    assert done.returncode == int(document["severity"] == CRITICAL)
    assert {check["area"] for check in document["checks"]} <= set(doctor.AREAS)
    return {(check["area"], check["subject"]): check for check in document["checks"]}


def test_a_good_host_is_shown_area_by_area(configured: ConfiguredHost) -> None:
    before = found(configured)
    assert before["backups", "shop"]["severity"] == CRITICAL
    assert "there is no backup" in before["backups", "shop"]["seen"]
    assert configured.run("backup").returncode == 0

    results = found(configured)
    assert {area for area, _subject in results} == set(doctor.AREAS)
    bad = {key: check for key, check in results.items() if check["severity"] != OK}
    # This machine has no schedule; its disks may be full.
    assert {area for area, _subject in bad} <= {"schedule", "space"}
    assert results["server", "connection"]["seen"].startswith("PostgreSQL ")
    assert results["server", "pg_dump"]["seen"].endswith("pg_dump")
    assert "signed by" in results["backups", "shop"]["seen"]
    assert results["clocks", "server"]["seen"] == results["clocks", "destination primary"]["seen"]

    table = configured.run("doctor")
    assert "  -> apply the role backup" in table.stdout
    assert table.stdout.splitlines()[-1].endswith(" ok")


def test_a_bucket_is_tried_and_its_protection_shown(cluster: Cluster, server: S3Server, tmp_path: pathlib.Path) -> None:
    shop = scene.entry("shop")
    scene.make(cluster, shop)
    one = ConfiguredHost(tmp_path / "etc", cluster, [shop], bucket_settings(server, "backups"))
    results = found(one)
    assert results["destinations", "primary"]["severity"] == OK
    # rclone ignores conditions and has no versions.
    assert results["destinations", "primary: create-only writes"]["severity"] == WARNING
    assert results["destinations", "primary: protection"]["severity"] == WARNING
    assert results["clocks", "destination primary"]["severity"] == OK


def test_what_cannot_be_read_leaves_the_rest_unknown(configured: ConfiguredHost) -> None:
    (configured.directory / "db.env").write_text("S3_REGION")
    results = found(configured)
    assert results["configuration", "db.env"]["severity"] == CRITICAL
    assert {
        check["severity"] for (area, _subject), check in results.items() if area not in ("configuration", "schedule")
    } == {UNKNOWN}


def test_a_dead_server_hides_no_other_result(cluster: Cluster, configured: ConfiguredHost) -> None:
    assert configured.run("backup").returncode == 0
    configured.configure(DB_HOST="/nonexistent")
    results = found(configured)
    assert results["server", "connection"]["severity"] == CRITICAL
    assert results["server", "connection"]["remedy"]
    assert results["clocks", "server"]["severity"] == UNKNOWN
    assert results["restores", "-"]["severity"] == UNKNOWN
    assert results["destinations", "primary"]["severity"] == results["backups", "shop"]["severity"] == OK


def test_a_missing_store_is_named_once(configured: ConfiguredHost) -> None:
    configured.configure(DB_BACKUP_DIRECTORY="/nonexistent")
    results = found(configured)
    assert "does not exist" in results["destinations", "primary"]["seen"]
    assert not [area for area, _subject in results if area == "backups"]
    configured.configure(DB_BACKUP_DIRECTORY="")
    assert "DB_BACKUP_BUCKET" in found(configured)["destinations", "primary"]["remedy"]


def test_a_bug_of_a_check_is_unknown_and_stops_nothing(
    configured: ConfiguredHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_host: host.Host) -> t.Iterator[checks.Check]:
        yield checks.Check("space", "first", OK, "seen before")
        raise KeyError("a secret")

    monkeypatch.setitem(t.cast("dict[str, t.Any]", doctor.AREAS), "space", broken)
    results = doctor.examine(configured.directory)
    mine = [(one.subject, one.severity) for one in results if one.area == "space"]
    assert mine == [("first", OK), ("-", UNKNOWN)]
    assert "a secret" not in str(results)
    assert results[-1].area == "restores"


def test_a_missing_database_and_an_outstanding_restore_are_critical(
    cluster: Cluster, configured: ConfiguredHost
) -> None:
    cluster.psql("DROP DATABASE shop")
    with connect(cluster.settings) as conn:
        state.ensure(conn)
        state.begin_bootstrap(conn, {"shop": True}, host="test")
    results = found(configured)
    assert results["server", "shop"]["severity"] == CRITICAL
    assert results["restores", "shop"]["severity"] == CRITICAL


def test_wrong_rights_are_critical(configured: ConfiguredHost) -> None:
    (configured.directory / "db.env").chmod(0o644)
    (configured.directory / "allowed_signers").chmod(0o666)
    (configured.directory / "signing" / "id_ed25519").chmod(0o640)
    results = found(configured)
    assert "can read its secrets" in results["configuration", str(configured.directory / "db.env")]["seen"]
    assert "can change it" in results["configuration", str(configured.directory / "allowed_signers")]["seen"]
    assert ("configuration", "rights") not in results
    assert results["signers", "own key"]["severity"] == CRITICAL


def test_a_private_key_on_the_host_is_critical_and_not_shown(configured: ConfiguredHost) -> None:
    secret = scene.key_of(configured.entries[0])
    path = configured.directory / "old" / "key.txt"
    path.parent.mkdir()
    path.write_text(f"# kept for later\n{secret}\n")
    done = configured.run("doctor")
    assert done.returncode == 1
    assert str(path) in done.stdout
    assert secret not in done.stdout


def test_signers_are_checked_with_openssh(configured: ConfiguredHost) -> None:
    allowed = configured.directory / "allowed_signers"
    line = allowed.read_text()
    allowed.write_text("")
    assert "not in allowed_signers" in found(configured)["signers", "own key"]["seen"]
    allowed.write_text(line)
    (configured.directory / "revoked_keys").write_text(" ".join(line.split()[-2:]) + "\n")
    assert "is revoked" in found(configured)["signers", "own key"]["seen"]
    (configured.directory / "revoked_keys").unlink()
    configured.configure(DB_RESTORE_SIGNERS='{"shop": ["db2"]}')
    assert "db2" in found(configured)["signers", "shop"]["seen"]
    (configured.directory / "signing" / "id_ed25519").unlink()
    assert found(configured)["signers", "own key"]["severity"] == WARNING


def test_an_unsigned_and_an_unreadable_latest_are_named(configured: ConfiguredHost, tmp_path: pathlib.Path) -> None:
    key = configured.directory / "signing" / "id_ed25519"
    key.rename(key.with_name("aside"))
    assert configured.run("backup").returncode == 0
    key.with_name("aside").rename(key)
    results = found(configured)
    assert results["backups", "shop"]["severity"] == WARNING
    assert results["backups", "shop"]["remedy"]
    (tmp_path / "store" / "db" / "shop" / "latest-dump.json").write_bytes(b"\x1b]0;owned\x07{}")
    done = configured.run("doctor")
    assert done.returncode == 1
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize(("seconds", "severity"), [(-86400, CRITICAL), (-120, WARNING), (5, OK), (3600, CRITICAL)])
def test_the_clock_of_a_bucket_is_compared(
    cluster: Cluster, server: S3Server, tmp_path: pathlib.Path, seconds: int, severity: str
) -> None:
    def skew(answer: Answer) -> None:
        moment = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=seconds)
        answer.headers[:] = [pair for pair in answer.headers if pair[0].lower() != "date"]
        answer.headers.append(("Date", f"{moment:%a, %d %b %Y %H:%M:%S GMT}"))

    with FaultyProxy(server.endpoint) as proxy:
        proxy.inject(".*", altered(skew))
        settings = bucket_settings(server, "backups", S3_ENDPOINT=proxy.endpoint)
        one = ConfiguredHost(tmp_path / "etc", cluster, [scene.entry("shop")], settings)
        assert found(one)["clocks", "destination primary"]["severity"] == severity


@pytest.mark.parametrize("told", ["", "yesterday", "Thu, 99 Jan 99999 00:00:00 GMT", "Thu, 01 Jan 1970 00:00:00"])
def test_a_store_that_tells_no_time_is_unknown(
    cluster: Cluster, server: S3Server, tmp_path: pathlib.Path, told: str
) -> None:
    def garble(answer: Answer) -> None:
        answer.headers[:] = [pair for pair in answer.headers if pair[0].lower() != "date"] + [("Date", told)]

    with FaultyProxy(server.endpoint) as proxy:
        proxy.inject(".*", altered(garble))
        settings = bucket_settings(server, "backups", S3_ENDPOINT=proxy.endpoint)
        one = ConfiguredHost(tmp_path / "etc", cluster, [scene.entry("shop")], settings)
        results = found(one)
    assert results["clocks", "destination primary"]["severity"] == UNKNOWN
    assert results["destinations", "primary"]["severity"] == OK


def test_a_directory_is_probed_as_a_backup_uses_it(configured: ConfiguredHost, tmp_path: pathlib.Path) -> None:
    done = configured.run("probe", "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["fits"] is True
    assert list((tmp_path / "store" / "db" / "shop").rglob("probe.age"))
    configured.configure(DB_BACKUP_DIRECTORY="/nonexistent")
    done = configured.run("probe")
    assert done.returncode == 1
    assert "-> mount its file system" in done.stdout


def test_a_role_without_superuser_is_enough(cluster: Cluster, configured: ConfiguredHost) -> None:
    cluster.psql("CREATE ROLE auditor LOGIN PASSWORD 'of the auditor'")
    configured.configure(DB_HOST="127.0.0.1", DB_USER="auditor", DB_PASSWORD="of the auditor", DB_SSLMODE="disable")
    results = found(configured)
    assert results["server", "connection"]["severity"] == OK, results["server", "connection"]
    assert results["restores", "all"]["severity"] == OK
    # It may neither read where the data directory is, nor the state of an administrator.
    assert not [subject for area, subject in results if area == "space" and "data" in subject]
