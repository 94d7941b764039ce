# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Backups of a real cluster to a real store, and the runs that must not become one."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import hashlib
import json
import pathlib
import shlex
import subprocess
import threading
import typing as t

import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine import outcome
from ansible_collections.infrazero.database.plugins.module_utils._engine.backup import backup
from ansible_collections.infrazero.database.plugins.module_utils._engine.backup.plan import BackupOptions
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain import layout, records
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.databases import Database
from ansible_collections.infrazero.database.plugins.module_utils._engine.errors import (
    ConnectionFailed,
    PostgresError,
    StoreError,
)
from ansible_collections.infrazero.database.plugins.module_utils._engine.reporting import Silent
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql import lock, state
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.connection import connect
from ansible_collections.infrazero.database.plugins.module_utils._engine.stores import catalogue
from ansible_collections.infrazero.database.plugins.module_utils._engine.stores.base import Store
from ansible_collections.infrazero.database.plugins.module_utils._engine.streams.compression import Compression
from ansible_collections.infrazero.database.plugins.module_utils._engine.version import VERSION

from tests.support import manifests, scene, signing
from tests.support.cluster import Cluster, wait_until
from tests.support.foreign import COMMANDS
from tests.support.outcomes import error, good, only
from tests.support.stores import keys


def back_up(cluster: Cluster, store: Store, *entries: Database, **options: t.Any) -> outcome.Summary:
    return backup.back_up_all(entries, settings=cluster.settings, store=store, options=BackupOptions(**options))


def next_second(store: Store, name: str) -> None:
    """A run's timestamp has whole seconds: wait until another one can begin."""
    latest = catalogue.read_latest(store, f"db/{name}/")
    assert latest is not None
    wait_until(
        lambda: (
            datetime.datetime.now(datetime.timezone.utc) >= latest.manifest.created_at + datetime.timedelta(seconds=1)
        )
    )


@pytest.mark.parametrize("method", ["gzip", "zstd"])
def test_a_backup_opens_with_other_peoples_tools(
    cluster: Cluster, store: Store, tmp_path: pathlib.Path, method: str
) -> None:
    app = scene.entry("app")
    scene.make(cluster, app)
    scene.fill(cluster, app)
    made = good(back_up(cluster, store, app, compression=Compression(method=method)))

    assert app.identity is not None
    identity = tmp_path / "identity"
    identity.write_text(app.identity.reveal() + "\n")
    subprocess.run(["createdb", "-h", cluster.host, "-p", str(cluster.port), "-U", "postgres", "by_hand"], check=True)
    psql = f"psql -X -q -v ON_ERROR_STOP=1 -h {cluster.host} -p {cluster.port} -U postgres"
    uncompress = {"gzip": "gunzip", "zstd": "zstd -d"}[method]
    subprocess.run(
        [
            "bash",
            "-euo",
            "pipefail",
            "-c",
            f"age -d -i {identity} {store.url(made.details['key'])} | {uncompress} | {psql} by_hand",
        ],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    assert scene.rows(cluster, app) == scene.rows(cluster, dataclasses.replace(app, name="by_hand"))


def test_the_manifest_says_what_the_backup_is(cluster: Cluster, store: Store) -> None:
    app = scene.entry("app")
    scene.make(
        cluster, app, "CREATE TABLE one (id int); INSERT INTO one SELECT generate_series(1, 7);", "CREATE TABLE bare ()"
    )
    made = good(back_up(cluster, store, app))

    data = store.get("db/app/latest-dump.json", limit=1 << 20)
    assert data == store.get(made.details["manifest"], limit=1 << 20)
    fields = json.loads(data)
    with store.open(fields["key"]) as reader:
        content = b"".join(iter(lambda: reader.read(1 << 20), b""))
    assert fields["sha256"] == hashlib.sha256(content).hexdigest()
    assert fields["size"] == len(content)
    assert content.startswith(b"age-encryption.org/v1\n")
    assert layout.moment_of(fields["key"]) is not None
    assert fields["created_at"].replace("-", "").replace(":", "") in fields["key"]
    part = fields["postgresql"]
    assert part["system_identifier"] == cluster.psql("SELECT system_identifier FROM pg_control_system()")
    assert part["database"] == "app"
    assert part["server_version_num"] == int(cluster.psql("SHOW server_version_num"))
    assert part["dump_version"].startswith(f"{cluster.major}.")
    assert {(table["name"], table["rows"]) for table in part["tables"]} == {("public.one", 7), ("public.bare", 0)}
    assert part["roles"] == ["app"]
    assert (fields["schema_version"], fields["source"], fields["kind"], fields["version"]) == (
        *(2, "postgresql", "dump"),
        VERSION,
    )
    assert fields["recipients"] == list(app.recipients)
    assert fields["destination"] == {"kind": "directory", "create_only": True, "checksums": False}
    assert "plaintext_sha256" not in fields, "nothing compares it"
    assert (fields["sequence"], "previous_sha256" in fields) == (1, False)
    secret = [app.password.reveal(), app.identity.reveal() if app.identity else ""]
    assert all(secret)
    assert not [text for text in secret if text.encode() in data]


def test_two_backups_within_one_second_have_keys_of_their_own(cluster: Cluster, store: Store) -> None:
    app = scene.entry("app")
    scene.make(cluster, app, "CREATE TABLE one AS SELECT 1 AS id")
    moment = datetime.datetime.now(datetime.timezone.utc)
    made = [
        backup.back_up(app, settings=cluster.settings, store=store, options=BackupOptions(), moment=moment)
        for _run in range(2)
    ]
    moments = [layout.moment_of(one.details["key"]) for one in made]
    assert moments[0] == moment.replace(microsecond=0)
    assert moments[1] == moments[0] + datetime.timedelta(seconds=1)
    latest = catalogue.read_latest(store, "db/app/")
    assert latest is not None
    assert latest.manifest.created_at == moments[1]


def test_an_owner_that_a_restore_would_refuse_is_a_warning_of_the_backup(cluster: Cluster, store: Store) -> None:
    app = scene.entry("app")
    scene.make(
        cluster,
        app,
        "CREATE FUNCTION deputy() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1';"
        "CREATE FUNCTION harmless() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    )
    assert not [text for text in good(back_up(cluster, store, app)).details["warnings"] if "CREATEROLE" in text]
    cluster.psql("ALTER ROLE app CREATEROLE")
    next_second(store, "app")
    (told,) = [text for text in good(back_up(cluster, store, app)).details["warnings"] if "CREATEROLE" in text]
    assert "public.deputy()" in told and "harmless" not in told


def test_backups_are_a_chain(cluster: Cluster, store: Store) -> None:
    app = scene.entry("app")
    scene.make(cluster, app, "CREATE TABLE one AS SELECT 1 AS id")
    good(back_up(cluster, store, app))
    first = store.get("db/app/latest-dump.json", limit=1 << 20)
    next_second(store, "app")
    good(back_up(cluster, store, app))
    second = catalogue.read_latest(store, "db/app/")
    assert second is not None
    assert second.manifest.sequence == 2
    assert second.manifest.previous_sha256 == hashlib.sha256(first).hexdigest()
    both = [json.loads(data)["postgresql"] for data in (first, store.get(second.key, limit=1 << 20))]
    digests = [part["tables"][0]["digest"] for part in both]
    assert digests[0] != digests[1], "the digests of two backups must not tell that a table has not changed"
    listed = catalogue.catalogue(store, "app")
    assert [(b.state, b.latest) for b in listed] == [("complete", True), ("complete", False)]


def test_the_longest_name_is_not_truncated_with_a_notice(cluster: Cluster, store: Store) -> None:
    app = scene.entry("é" * 31 + "x", "app")
    scene.make(cluster, app)
    cluster.psql("ALTER SYSTEM SET log_min_messages = notice")
    cluster.psql("SELECT pg_reload_conf()")
    try:
        cluster.psql("DO $$BEGIN RAISE NOTICE 'notices are logged'; END$$")
        good(back_up(cluster, store, app))
    finally:
        cluster.psql("ALTER SYSTEM RESET log_min_messages")
        cluster.psql("SELECT pg_reload_conf()")
    log = cluster.log.read_text(encoding="utf-8", errors="replace")
    _before, mark, after = log.rpartition("NOTICE:  notices are logged")
    assert mark and "will be truncated" not in after


def test_one_database_that_fails_does_not_stop_the_others(cluster: Cluster, store: Store) -> None:
    here, gone = scene.entry("here"), scene.entry("gone")
    scene.make(cluster, here)
    summary = back_up(cluster, store, gone, here, jobs=2)
    assert [o.status for o in summary.outcomes] == ["failed", "backed_up"]
    assert summary.line("backed_up") == "backed_up=1 failed=1 (gone)"
    assert not [key for key in keys(store) if key.startswith("db/gone/")]


def test_an_outstanding_restore_is_never_backed_up(cluster: Cluster, store: Store) -> None:
    app = scene.entry("app")
    scene.make(cluster, app)
    with contextlib.closing(connect(cluster.settings)) as conn:
        state.begin_bootstrap(conn, {"app": True}, host="here")
    told = error(back_up(cluster, store, app))
    assert "outstanding" in told and "restore it with restore.sh app db/app/" in told
    assert keys(store) == []


@pytest.mark.parametrize("name", [*(text for text in COMMANDS.values() if "/" not in text), "a\x1bb"])
def test_a_command_in_a_hint_is_quoted_or_left_out(cluster: Cluster, store: Store, name: str) -> None:
    app = scene.entry(name, user="app")
    scene.make(cluster, app)
    with contextlib.closing(connect(cluster.settings)) as conn:
        state.begin_bootstrap(conn, {name: True}, host="here")
    told = error(back_up(cluster, store, app))
    assert told.isprintable()
    _before, _command, arguments = told.partition("restore it with restore.sh")
    can_be_copied = name.isprintable() and not name.startswith("-")
    assert shlex.split(arguments) == ([name, f"db/{name}/"] if can_be_copied else [])


def test_a_prefix_of_another_cluster_is_refused_until_told(cluster: Cluster, store: Store) -> None:
    app = scene.entry("app")
    scene.make(cluster, app)
    good(back_up(cluster, store, app))
    latest = json.loads(store.get("db/app/latest-dump.json", limit=1 << 20))
    theirs = json.dumps(manifests.changed(latest, system_identifier="1")).encode()
    store.put("db/app/latest-dump.json", theirs)
    before = keys(store)

    next_second(store, "app")
    assert "another cluster" in error(back_up(cluster, store, app))
    assert keys(store) == before
    assert store.get("db/app/latest-dump.json", limit=1 << 20) == theirs

    taken = good(back_up(cluster, store, app, take_over=True))
    assert any("taken over" in warning for warning in taken.details["warnings"])


def test_a_database_that_was_restored_from_the_latest_backup_goes_on_with_it(cluster: Cluster, store: Store) -> None:
    app = scene.entry("app")
    scene.make(cluster, app)
    good(back_up(cluster, store, app))
    latest = json.loads(store.get("db/app/latest-dump.json", limit=1 << 20))
    theirs = json.dumps(manifests.changed(latest, system_identifier="1")).encode()
    store.put("db/app/latest-dump.json", theirs)
    with contextlib.closing(connect(cluster.settings)) as conn:
        source = records.RestoredFrom("u", "k", "0" * 64, manifest_sha256=hashlib.sha256(theirs).hexdigest())
        state.record_outcome(conn, "app", records.RESTORED, restored_from=source)
    next_second(store, "app")
    assert good(back_up(cluster, store, app)).details["sequence"] == 2


@pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed"])
def test_numbers_go_on_after_an_older_tool_has_written_latest(
    cluster: Cluster, store: Store, tmp_path: pathlib.Path, signed: bool
) -> None:
    signer = signing.SigningHost.make(tmp_path, "db1").signer if signed else None
    app = scene.entry("app")
    scene.make(cluster, app)
    for number in (1, 2):
        assert good(back_up(cluster, store, app, signer=signer)).details["sequence"] == number
        next_second(store, "app")
    ours = json.loads(store.get("db/app/latest-dump.json", limit=1 << 20))
    now = datetime.datetime.now(datetime.timezone.utc)
    theirs = {"key": ours["key"], "sha256": ours["sha256"], "created_at": f"{now:%Y-%m-%dT%H:%M:%SZ}"}
    written = json.dumps(theirs).encode()
    store.put("db/app/latest-dump.json", written)

    def next_number() -> int:
        options = BackupOptions(signer=signer)
        planned = good(backup.plan_all([app], settings=cluster.settings, store=store, options=options)).details
        assert any("older tool" in text or "is ignored" in text for text in planned["warnings"])
        return t.cast(int, planned["sequence"])

    assert next_number() == 3
    # The cluster has lost its records.
    with contextlib.closing(connect(cluster.settings)) as conn:
        conn.cursor().execute("DROP SCHEMA infrazero CASCADE")
    assert next_number() == 3
    if signed:
        return
    # It is a new cluster, and was restored from there.
    key = layout.manifest_key(ours["key"])
    store.put(key, json.dumps(manifests.changed(ours, system_identifier="1", sequence=7)).encode())
    assert next_number() == 2, "the numbers of another cluster do not count"
    with contextlib.closing(connect(cluster.settings)) as conn:
        source = records.RestoredFrom("u", "k", "0" * 64, manifest_sha256=hashlib.sha256(written).hexdigest())
        state.record_outcome(conn, "app", records.RESTORED, restored_from=source)
    assert next_number() == 8


def test_an_older_tools_backup_is_not_put_out_of_sight_by_an_empty_database(cluster: Cluster, store: Store) -> None:
    app = scene.entry("app")
    scene.make(cluster, app)
    theirs = (
        b'{"key":"db/app/20250101T000000Z.sql.gz.age","sha256":"'
        + b"0" * 64
        + b'","created_at":"2025-01-01T00:00:00Z"}'
    )
    store.put("db/app/latest-dump.json", theirs)
    with contextlib.closing(connect(cluster.settings)) as conn:
        state.record_outcome(conn, "app", records.SKIPPED)
    assert "created empty" in error(back_up(cluster, store, app))
    with contextlib.closing(connect(cluster.settings)) as conn:
        conn.cursor().execute("DROP SCHEMA infrazero CASCADE")
    # A host that was set up by hand, or by the older tool, goes on with its own backups.
    assert good(back_up(cluster, store, app)).details["sequence"] == 1


def test_a_database_that_was_dropped_and_made_anew_does_not_become_the_latest_backup(
    cluster: Cluster, store: Store
) -> None:
    app = scene.entry("app")
    scene.make(cluster, app, "CREATE TABLE one AS SELECT 1 AS id")
    good(back_up(cluster, store, app))
    cluster.psql("DROP DATABASE app")
    next_second(store, "app")
    with contextlib.closing(connect(cluster.settings)) as conn:
        state.record_outcome(conn, "app", records.SKIPPED)
    scene.make(cluster, app)
    before = keys(store)
    assert "created empty" in error(back_up(cluster, store, app))
    assert keys(store) == before
    good(back_up(cluster, store, app, take_over=True))
    next_second(store, "app")
    good(back_up(cluster, store, app))


def test_a_second_run_at_the_same_time_is_told_who_is_at_it(cluster: Cluster, store: Store) -> None:
    app = scene.entry("app")
    scene.make(cluster, app)
    with lock.locked_session(cluster.settings, "app", doing="restore"):
        text = error(back_up(cluster, store, app))
    assert "another backup or restore" in text and "infrazero.database restore app" in text
    assert keys(store) == []


def test_latest_is_not_moved_over_the_backup_of_another_host(cluster: Cluster, store: Store) -> None:
    """Hosts that begin a prefix at the same time see no lock of each other."""
    app = scene.entry("app")
    scene.make(cluster, app, "CREATE TABLE t (id int)")
    theirs = b'{"created_at":"2026-01-31T03:20:00Z","key":"db/app/theirs.sql.gz.age","sha256":"' + b"0" * 64 + b'"}'

    class Meanwhile(Silent):
        def stage(self, database: str, stage: str, message: str, *, total: int | None = None) -> None:
            if stage == "manifest":
                store.put("db/app/latest-dump.json", theirs)

    summary = backup.back_up_all(
        [app], settings=cluster.settings, store=store, options=BackupOptions(), reporter=Meanwhile()
    )
    assert "moved by somebody else" in error(summary) and "theirs.sql.gz.age" in error(summary)
    assert store.get("db/app/latest-dump.json", limit=1000) == theirs


def test_a_backup_that_cannot_become_the_latest_stores_nothing(cluster: Cluster, store: Store) -> None:
    """A host that may not delete objects could not remove a full-size one later."""
    app = scene.entry("app")
    scene.make(cluster, app, "CREATE TABLE t (id int)")

    class DuringTheDump(Silent):
        def __init__(self, work: t.Callable[[], object]) -> None:
            self.work = work

        def advance(self, database: str, count: int) -> None:
            self.work()

    def run(work: t.Callable[[], object]) -> str:
        return error(
            backup.back_up_all(
                [app], settings=cluster.settings, store=store, options=BackupOptions(), reporter=DuringTheDump(work)
            )
        )

    theirs = b'{"created_at":"2026-01-31T03:20:00Z","key":"db/app/theirs.sql.gz.age","sha256":"' + b"0" * 64 + b'"}'
    text = run(lambda: store.put("db/app/latest-dump.json", theirs))
    assert "moved by somebody else" in text and "nothing was stored" in text
    assert keys(store) == ["db/app/latest-dump.json"]
    store.delete("db/app/latest-dump.json")

    end_lock = (
        "SELECT pg_terminate_backend(pid) FROM pg_locks JOIN pg_stat_activity USING (pid)"
        " WHERE locktype = 'relation' AND pg_locks.mode = 'ShareUpdateExclusiveLock'"
    )
    assert "the lock of database 'app' was lost" in run(lambda: cluster.psql(end_lock))
    assert keys(store) == []


def test_an_object_whose_manifest_could_not_be_stored_is_an_orphan(
    cluster: Cluster, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = scene.entry("app")
    scene.make(cluster, app, "CREATE TABLE t (id int)")

    def full(_store: Store, _key: str, _data: bytes) -> None:
        raise StoreError("the store is full", hint="free some space")

    with monkeypatch.context() as patched:
        patched.setattr(type(store), "put_if_absent", full)
        text = error(back_up(cluster, store, app))
    (key,) = keys(store)
    assert "hint: free some space; " in text and store.url(key) in text and "orphan" in text
    (orphan,) = catalogue.catalogue(store, "app")
    assert (orphan.key, orphan.state, orphan.size) == (key, "orphan", store.head(key).size)

    next_moment = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=1)
    made = backup.back_up(app, settings=cluster.settings, store=store, options=BackupOptions(), moment=next_moment)
    assert {one.key: one.state for one in catalogue.catalogue(store, "app")} == {
        key: "orphan",
        made.details["key"]: "complete",
    }


def test_a_table_that_somebody_holds_is_named_with_its_holder(cluster: Cluster, store: Store) -> None:
    app = scene.entry("app")
    scene.make(cluster, app, "CREATE TABLE held (id int)")
    with contextlib.closing(connect(cluster.settings, database="app", autocommit=False)) as conn:
        conn.cursor().execute("SET application_name = 'the migration'; LOCK TABLE public.held IN ACCESS EXCLUSIVE MODE")
        text = error(back_up(cluster, store, app, lock_wait_seconds=1))
    assert "public.held" in text and "the migration" in text
    assert keys(store) == []


def test_a_dump_whose_session_is_ended_leaves_the_last_backup_alone(cluster: Cluster, store: Store) -> None:
    app = scene.entry("app")
    scene.make(
        cluster, app, "CREATE TABLE big AS SELECT i, repeat(md5(i::text), 40) AS t FROM generate_series(1, 30000) i"
    )
    good(back_up(cluster, store, app))
    before = {key: store.head(key) for key in keys(store)}
    next_second(store, "app")

    stop = threading.Event()

    def assassin() -> None:
        while not stop.is_set():
            cluster.psql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pg_dump'")

    thread = threading.Thread(target=assassin)
    thread.start()
    try:
        text = error(back_up(cluster, store, app))
    finally:
        stop.set()
        thread.join()
    assert text.startswith("dump:"), text
    assert {key: store.head(key) for key in keys(store)} == before


def test_check_mode_reads_only(cluster: Cluster, store: Store) -> None:
    app = scene.entry("app")
    scene.make(cluster, app)
    summary = backup.plan_all([app], settings=cluster.settings, store=store, options=BackupOptions())
    details = good(summary).details
    assert only(summary).status == backup.PLANNED
    assert details["key"].startswith("db/app/") and details["estimated_size"] > 0
    assert keys(store) == []


def test_a_clock_that_went_back_is_said(cluster: Cluster, store: Store) -> None:
    app = scene.entry("app")
    scene.make(cluster, app)
    good(back_up(cluster, store, app))
    latest = json.loads(store.get("db/app/latest-dump.json", limit=1 << 20))
    store.put("db/app/latest-dump.json", json.dumps({**latest, "created_at": "2099-01-01T00:00:00Z"}).encode())
    with contextlib.suppress(TimeoutError):
        wait_until(lambda: False, seconds=1.1)
    assert any("clock" in warning for warning in good(back_up(cluster, store, app)).details["warnings"])


def test_replaced_databases_go_when_their_time_is_over(cluster: Cluster, store: Store) -> None:
    app = scene.entry("app")
    scene.make(cluster, app)
    for name in ("app__replaced_0a", "app__replaced_0b"):
        cluster.psql(f'CREATE DATABASE "{name}"')
    with contextlib.closing(connect(cluster.settings)) as conn:
        state.record_replaced(conn, "app__replaced_0a", database="app", keep=datetime.timedelta(0))
        state.record_replaced(conn, "app__replaced_0b", database="app", keep=datetime.timedelta(hours=1))
    good(back_up(cluster, store, app))
    left = cluster.psql("SELECT string_agg(datname, ',') FROM pg_database WHERE datname LIKE '%replaced%'")
    assert left == "app__replaced_0b"


def test_a_backup_is_recorded_in_the_cluster(cluster: Cluster, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    app = scene.entry("app")
    scene.make(cluster, app)
    first = good(back_up(cluster, store, app)).details
    place = catalogue.location(store, "db/app/")
    with contextlib.closing(connect(cluster.settings)) as conn:
        record = state.last_backup(conn, "app", location=place)
        assert record is not None
        assert (record.sequence, record.key, record.signed_by) == (1, first["key"], None)
        assert record.manifest_sha256 == hashlib.sha256(store.get(first["manifest"], limit=1 << 20)).hexdigest()
        next_second(store, "app")

        def fails(*_: object) -> t.NoReturn:
            raise PostgresError("the disk is full")

        monkeypatch.setattr(state, "record_backup", fails)
        second = good(back_up(cluster, store, app)).details
        assert any("could not record it" in w and "disk is full" in w for w in second["warnings"])
        assert state.last_backup(conn, "app", location=place) == record
        monkeypatch.undo()
        next_second(store, "app")
        assert good(back_up(cluster, store, app)).details["sequence"] == 3


def test_no_server_is_one_clear_error(fresh_cluster: Cluster, store: Store) -> None:
    fresh_cluster.stop()
    with pytest.raises(ConnectionFailed, match="is the server running"):
        back_up(fresh_cluster, store, scene.entry("app"))


def test_a_replaced_database_that_can_not_be_dropped_is_a_warning(cluster: Cluster, store: Store) -> None:
    app = scene.entry("app")
    scene.make(cluster, app)
    with contextlib.closing(connect(cluster.settings)) as conn:
        state.record_replaced(conn, "precious", database="app", keep=datetime.timedelta(0))
    summary = back_up(cluster, store, app)
    good(summary)
    assert ["'precious' is not a replaced database" in warning for warning in summary.warnings] == [True]
