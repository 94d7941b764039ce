# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Restores into a real cluster from a real store, of our own backups and of other tools', and those that must fail."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import hashlib
import json
import os
import pathlib
import shlex
import signal
import subprocess
import sys
import textwrap
import typing as t

import pyrage
import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine import outcome
from ansible_collections.infrazero.database.plugins.module_utils._engine.backup import backup
from ansible_collections.infrazero.database.plugins.module_utils._engine.backup.plan import BackupOptions
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain import records
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.databases import Database
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.restoring import RestoreOptions
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.secret import Secret
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.trust import UNSIGNED, Trust
from ansible_collections.infrazero.database.plugins.module_utils._engine.errors import (
    ConnectionFailed,
    Deleted,
    ForeignFormat,
    LibraryMissing,
    PostgresError,
)
from ansible_collections.infrazero.database.plugins.module_utils._engine.reporting import Silent
from ansible_collections.infrazero.database.plugins.module_utils._engine.restore import restore, stage
from ansible_collections.infrazero.database.plugins.module_utils._engine.restore.choose import choose
from ansible_collections.infrazero.database.plugins.module_utils._engine.restore.plan import Request, plan_restore
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources import registry
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql import (
    leftovers,
    load,
    loader_role,
    lock,
    ownership,
    staging,
    state,
    swap,
)
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.connection import connect
from ansible_collections.infrazero.database.plugins.module_utils._engine.stores.base import Store
from ansible_collections.infrazero.database.plugins.module_utils._engine.streams import age

from tests.support import scene
from tests.support.cluster import Cluster, wait_until
from tests.support.dumps import dump
from tests.support.outcomes import details_of as good
from tests.support.outcomes import error

COLLECTIONS = pathlib.Path(__file__).resolve().parents[2] / ".ansible" / "collections"


def back_up(cluster: Cluster, store: Store, *entries: Database) -> None:
    summary = backup.back_up_all(entries, settings=cluster.settings, store=store, options=BackupOptions())
    assert not summary.failed, [str(o.error) for o in summary.failed]


def restored(cluster: Cluster, store: Store, *entries: Database, **changes: t.Any) -> outcome.Summary:
    """Restore, whoever made the backup; options of the restore and of restore_all may be given."""
    fields = {field.name for field in dataclasses.fields(RestoreOptions)}
    given = {name: value for name, value in changes.items() if name in fields}
    options = RestoreOptions(**{"trust": Trust(mode=UNSIGNED), **given})
    rest = {name: value for name, value in changes.items() if name not in fields}
    return restore.restore_all(entries, settings=cluster.settings, store=store, options=options, **rest)


def logs_in(cluster: Cluster, who: Database, database: str) -> bool:
    """Whether the user of the entry *who* can connect to *database*."""
    try:
        connect(cluster.settings, database=database, user=who.user, password=who.password).close()
    except ConnectionFailed:
        return False
    return True


def traces(cluster: Cluster) -> tuple[str, str, str]:
    """Databases, roles, and what is recorded as under way: what a failed restore must leave as it was."""
    running = "SELECT count(*) FROM infrazero.restore"
    recorded = cluster.psql("SELECT to_regclass('infrazero.restore') IS NOT NULL") == "t"
    return (
        cluster.psql("SELECT string_agg(datname || ' ' || oid, ',' ORDER BY datname) FROM pg_database"),
        cluster.psql("SELECT string_agg(rolname, ',' ORDER BY rolname) FROM pg_roles"),
        cluster.psql(running) if recorded else "0",
    )


@pytest.fixture
def app(cluster: Cluster) -> Database:
    """A database with rows."""
    database = scene.entry("app")
    scene.make(cluster, database)
    scene.fill(cluster, database)
    return database


def test_a_lost_database_comes_back_whole(cluster: Cluster, store: Store, app: Database) -> None:
    before, (_databases, roles, _restores) = scene.rows(cluster, app), traces(cluster)
    back_up(cluster, store, app)
    cluster.psql("DROP DATABASE app")

    details = good(restored(cluster, store, app))

    assert scene.rows(cluster, app) == before
    assert details["verified"] and details["replaces"] is None and details["kept_as"] is None
    owner = "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'app'"
    assert cluster.psql(owner) == "app"
    others = (
        "SELECT count(*) FROM pg_class WHERE relowner <> 'app'::regrole"
        " AND relnamespace IN ('public'::regnamespace, 'main'::regnamespace)"
    )
    assert cluster.psql(others, "app") == "0"
    assert (
        cluster.psql(
            "SELECT prosrc LIKE '%\nGRANT SELECT ON%\nALTER TABLE%OWNER TO%' FROM pg_proc WHERE proname = 'hand_over'",
            "app",
        )
        == "t"
    )
    assert (
        cluster.psql(
            "SELECT every(reltuples >= 0) FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace",
            "app",
        )
        == "t"
    )
    # The contract's rule: the schema main has relations, so the user's search_path is main, public: a list.
    path = cluster.psql("SELECT setconfig FROM pg_db_role_setting WHERE setrole = 'app'::regrole", "app")
    assert path == '{"search_path=main, public"}'
    databases, *rest = traces(cluster)
    assert rest == [roles, "0"] and "__restore_" not in databases


def test_the_replaced_database_is_kept_and_its_settings_are_carried_over(
    cluster: Cluster, store: Store, app: Database
) -> None:
    back_up(cluster, store, app)
    cluster.psql(
        "ALTER DATABASE app CONNECTION LIMIT 7; ALTER DATABASE app SET work_mem = '5MB';"
        "ALTER ROLE app IN DATABASE app SET statement_timeout = '1min'; COMMENT ON DATABASE app IS 'it''s ours';"
        "CREATE ROLE reader; REVOKE CONNECT ON DATABASE app FROM PUBLIC; GRANT CONNECT ON DATABASE app TO reader"
    )
    cluster.psql("DELETE FROM looks_like_sql; CREATE TABLE later (id int)", "app")
    details = good(restored(cluster, store, app, set_search_path=False))

    assert details["replaces"]["owner"] == "app"
    assert cluster.psql("SELECT count(*) FROM looks_like_sql", "app") == "1200"
    assert cluster.psql("SELECT to_regclass('public.later') IS NULL", "app") == "t"
    assert cluster.psql("SELECT count(*) FROM later", details["kept_as"]) == "0"
    settings = (
        "SELECT datconnlimit, shobj_description(oid, 'pg_database'), has_database_privilege('reader', oid, 'CONNECT'),"
        " (SELECT count(*) FROM aclexplode(datacl) WHERE grantee = 0 AND privilege_type = 'CONNECT'),"
        " (SELECT string_agg(setrole::regrole || ' ' || setconfig::text, ';' ORDER BY setrole) FROM pg_db_role_setting"
        "  WHERE setdatabase = d.oid) FROM pg_database d WHERE datname = 'app'"
    )
    assert cluster.psql(settings) == "7|it's ours|t|0|- {work_mem=5MB};app {statement_timeout=1min}"


def test_nobody_gets_into_the_stage_before_it_is_swapped_in(
    cluster: Cluster, store: Store, app: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither its future owner nor a role that the dump has let in, whatever step of the restore is next."""
    back_up(cluster, store, app)
    accomplice = scene.entry("accomplice")
    scene.make(cluster, accomplice)
    got_in: list[tuple[str, str]] = []
    tried: list[str] = []

    def try_to_log_in(step: str) -> None:
        (stage,) = cluster.psql("SELECT datname FROM pg_database WHERE datname LIKE '%\\_\\_restore\\_%'").splitlines()
        tried.append(step)
        for who in (app, accomplice):
            if logs_in(cluster, who, stage):
                got_in.append((step, who.user))

    def watch(module: t.Any, name: str) -> None:
        real = getattr(module, name)

        def watched(*arguments: t.Any, **options: t.Any) -> t.Any:
            try_to_log_in(f"before {name}")
            result = real(*arguments, **options)
            if name != "swap":
                try_to_log_in(f"after {name}")
            return result

        monkeypatch.setattr(module, name, watched)

    def analyzed(*arguments: t.Any) -> tuple[str, ...]:
        # What a dump does itself before PostgreSQL 16.
        loader = cluster.psql("SELECT rolname FROM pg_roles WHERE rolname LIKE 'infrazero\\_restore\\_%'")
        cluster.psql(f"GRANT {loader} TO accomplice")
        return ()

    monkeypatch.setattr(load, "analyze", analyzed)
    watch(staging, "roll_back_prepared")
    for step in ("take_over", "grant_all", "choose_search_path"):
        watch(ownership, step)
    watch(swap, "swap")
    good(restored(cluster, store, app))
    assert len(tried) == 9
    assert got_in == []
    assert logs_in(cluster, app, "app")
    assert not logs_in(cluster, accomplice, "app")


@pytest.mark.parametrize("asked", [False, True])
def test_public_may_connect_where_it_could_and_the_operator_asks_for_it(
    cluster: Cluster, store: Store, app: Database, asked: bool
) -> None:
    back_up(cluster, store, app)
    stranger = scene.entry("stranger")
    scene.make(cluster, stranger)
    cluster.psql("GRANT CONNECT ON DATABASE app TO PUBLIC")
    details = good(restored(cluster, store, app, public_connect=asked))
    assert any("CONNECT of PUBLIC on 'app'" in warning for warning in details["warnings"]) != asked
    assert logs_in(cluster, stranger, "app") == asked


def test_a_lock_that_is_lost_during_the_swap_undoes_it(
    cluster: Cluster, store: Store, app: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    back_up(cluster, store, app)
    cluster.psql("CREATE TABLE later (id int)", "app")
    real = state.record_replaced

    def end_the_holder(conn: t.Any, *arguments: t.Any, **options: t.Any) -> None:
        real(conn, *arguments, **options)
        holder = lock.holder_of(conn, "app")
        assert holder is not None
        cluster.end_session(holder.pid)

    monkeypatch.setattr(state, "record_replaced", end_the_holder)
    assert "the lock of database 'app' was lost" in error(restored(cluster, store, app))
    assert cluster.psql("SELECT count(*) FROM later", "app") == "0"


def test_nothing_is_kept_where_that_is_asked_for(cluster: Cluster, store: Store, app: Database) -> None:
    back_up(cluster, store, app)
    assert good(restored(cluster, store, app, keep_replaced=datetime.timedelta(0)))["kept_as"] is None
    assert "replaced" not in traces(cluster)[0]


FORMS = {
    "older tool": ("pg_dump {connection} app | gzip | age -r {recipient}", "app.sql.gz.age"),
    "armored": ("pg_dump {connection} app | gzip -9 | age -a -r {recipient}", "app.sql.gz.age"),
    "zstd": ("pg_dump {connection} app | zstd -q | age -r {recipient}", "app.sql.zst.age"),
    "custom format": ("pg_dump -Fc {connection} app | age -r {recipient}", "app.dump.age"),
    "tar format": ("pg_dump -Ft {connection} app | gzip | age -r {recipient}", "app.tar.gz.age"),
    "tar format, plain": ("pg_dump -Ft {connection} app", "app.tar"),
    "custom format, plain": ("pg_dump -Fc {connection} app", "app.dump"),
    "plain": ("pg_dump {connection} app", "app.sql"),
    "inserts": ("pg_dump --inserts --rows-per-insert=50 {connection} app | gzip", "app.sql.gz"),
    "clean": ("pg_dump --clean --if-exists --no-owner --no-acl {connection} app | gzip", "app.sql.gz"),
}


@pytest.mark.parametrize("form", FORMS)
def test_what_other_tools_made_is_restored(
    cluster: Cluster, store: Store, app: Database, tmp_path: pathlib.Path, form: str
) -> None:
    command, name = FORMS[form]
    if cluster.major < 14:
        # Several rows with a generated column in one INSERT are what an older server cannot read, psql or not.
        command = command.replace("--rows-per-insert=50", "")
    (tmp_path / "db" / "app").mkdir(parents=True)
    target = tmp_path / "db" / "app" / name
    line = command.format(
        connection=f"-h {shlex.quote(cluster.host)} -p {cluster.port} -U postgres", recipient=app.recipients[0]
    )
    path = f"PATH={cluster.bindir}:$PATH; {line} >{shlex.quote(str(target))}"
    subprocess.run(["bash", "-euo", "pipefail", "-c", path], check=True)
    before = scene.rows(cluster, app)
    cluster.psql("DROP DATABASE app")

    sha256 = hashlib.sha256(target.read_bytes()).hexdigest()
    (tmp_path / "db" / "app" / "latest-dump.json").write_text(
        json.dumps({"key": f"db/app/{name}", "sha256": sha256, "created_at": "2026-01-31T03:20:00Z"})
    )
    details = good(restored(cluster, store, app))
    assert scene.rows(cluster, app) == before
    assert details["sha256"] == sha256 and not details["verified"]
    # And by its key, without the manifest.
    details = good(restored(cluster, store, app, source=f"db/app/{name}"))
    assert scene.rows(cluster, app) == before
    assert any("no manifest" in warning for warning in details["warnings"])


FOREIGN_FORMS = {
    "xz": ("pg_dump {connection} app | xz | age -r {recipient}", "compressed with xz", "xz -d"),
    "gzip in gzip": ("pg_dump {connection} app | gzip | gzip", "compressed twice", "decompress it once"),
    "age in age": ("pg_dump {connection} app | age -r {recipient} | age -r {recipient}", "with age twice", "once"),
    "UTF-16": ("pg_dump {connection} app | iconv -t UTF-16 | gzip | age -r {recipient}", "in UTF-16", "iconv"),
    "pg_dumpall": ("pg_dumpall {connection} | gzip | age -r {recipient}", "by pg_dumpall", "with pg_dump"),
    "directory": ("pg_dump -Fd {connection} app -f d && cat d/toc.dat", "in the directory format", "pg_restore --file"),
    "tar of a directory": ("pg_dump -Fd {connection} app -f d && tar -c d", "a tar archive", "unpack it"),
    "base backup": ("pg_basebackup {connection} -D - -Ft -X none | gzip", "a base backup", "pg_dump"),
}


@pytest.mark.parametrize("form", FOREIGN_FORMS)
def test_what_is_not_a_dump_is_named_before_anything_is_touched(
    cluster: Cluster, store: Store, app: Database, tmp_path: pathlib.Path, form: str
) -> None:
    command, name, remedy = FOREIGN_FORMS[form]
    (tmp_path / "elsewhere").mkdir()
    target = tmp_path / "elsewhere" / "app.sql.gz.age"
    line = command.format(
        connection=f"-h {shlex.quote(cluster.host)} -p {cluster.port} -U postgres", recipient=app.recipients[0]
    )
    path = f"PATH={cluster.bindir}:$PATH; cd {shlex.quote(str(tmp_path))}; ({line}) >{shlex.quote(str(target))}"
    subprocess.run(["bash", "-euo", "pipefail", "-c", path], check=True, stderr=subprocess.DEVNULL)
    before, rows = traces(cluster), scene.rows(cluster, app)
    for changes in ({}, {"strategy": "replace"}, {"plan_only": True}):
        (failed,) = restored(cluster, store, app, source="elsewhere/app.sql.gz.age", **changes).failed
        assert isinstance(failed.error, ForeignFormat)
        assert name in failed.error.message and remedy in failed.error.hint
    assert traces(cluster) == before and scene.rows(cluster, app) == rows


def test_an_archive_of_a_newer_pg_dump_names_the_package(
    cluster: Cluster, store: Store, app: Database, tmp_path: pathlib.Path
) -> None:
    archive = bytearray(dump(cluster, "app", "--format=custom"))
    archive[6] += 40  # the minor version of the format
    if cluster.major < 16:
        del archive[12:16]  # the compression: one byte since PostgreSQL 16, a number of five bytes before
    # The server's version, and pg_dump's.
    written = archive.replace(f"\0\0\0{cluster.major}.".encode(), b"\0\0\x0097.")
    (tmp_path / "newer.dump").write_bytes(written)
    before = traces(cluster)
    (failed,) = restored(cluster, store, app, source="newer.dump").failed
    assert isinstance(failed.error, LibraryMissing)
    assert "pg_dump 97" in failed.error.message and "postgresql-client-97" in failed.error.hint
    assert traces(cluster) == before


def test_the_key_is_tried_before_anything_is_touched(cluster: Cluster, store: Store, app: Database) -> None:
    back_up(cluster, store, app)
    before, rows = traces(cluster), scene.rows(cluster, app)
    other = Secret(str(pyrage.x25519.Identity.generate()))
    assert "does not open" in error(restored(cluster, store, app, identity=other))
    assert "no age private key" in error(restored(cluster, store, dataclasses.replace(app, identity=None)))
    for strategy in ("swap", "replace"):
        assert error(restored(cluster, store, app, identity=other, strategy=strategy))
    assert traces(cluster) == before and scene.rows(cluster, app) == rows


DAMAGES: dict[str, t.Callable[[bytes], bytes]] = {
    "truncated": lambda data: data[: len(data) // 2],
    "last byte gone": lambda data: data[:-1],
    "a bit flipped in the middle": lambda data: (
        data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :]
    ),
    "a bit flipped in the header": lambda data: data[:60] + bytes([data[60] ^ 1]) + data[61:],
    "bytes added": lambda data: data + b"x",
    "empty": lambda data: b"",
}


@pytest.mark.parametrize("manifest", [True, False], ids=["with manifest", "without manifest"])
@pytest.mark.parametrize("strategy", ["swap", "replace"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_object_changes_nothing(
    cluster: Cluster, store: Store, app: Database, damage: str, strategy: str, manifest: bool
) -> None:
    back_up(cluster, store, app)
    key = json.loads(store.get("db/app/latest-dump.json", limit=1 << 20))["key"]
    with store.open(key) as reader:
        data = b"".join(iter(lambda: reader.read(1 << 20), b""))
    before, rows = traces(cluster), scene.rows(cluster, app)
    if manifest:
        store.put(key, DAMAGES[damage](data))
        assert error(restored(cluster, store, app, strategy=strategy))
    else:
        store.put("elsewhere/app.sql.gz.age", DAMAGES[damage](data))
        assert error(restored(cluster, store, app, strategy=strategy, source="elsewhere/app.sql.gz.age"))
    assert traces(cluster) == before and scene.rows(cluster, app) == rows


def test_without_its_swap_a_restore_is_a_verification(cluster: Cluster, store: Store, app: Database) -> None:
    back_up(cluster, store, app)
    choice = choose(store, "db/app/", database=app, trust=Trust(mode=UNSIGNED))
    identities = tuple(age.parse_identities([app.identity]))
    before, rows = traces(cluster), scene.rows(cluster, app)
    with registry.open_source(cluster.settings).locked("app", doing="restore") as session:
        planned = plan_restore(Request(app, choice, RestoreOptions(), identities), session=session)
        with session.staging(stage.task_of(planned, Silent())) as staging:
            backup = stage.Backup(planned, Silent())
            backup.prove(staging)
            loaded, _warnings = stage.fill(choice, backup, staging)
            assert traces(cluster) != before, "there is a staging database"
            staging.discard()
    assert loaded.rows == {table.name: table.rows for table in choice.manifest.tables}
    assert traces(cluster) == before and scene.rows(cluster, app) == rows


@pytest.mark.parametrize("strategy", ["swap", "replace"])
def test_rows_that_the_manifest_does_not_count_change_nothing(
    cluster: Cluster, store: Store, app: Database, strategy: str
) -> None:
    back_up(cluster, store, app)
    fields = json.loads(store.get("db/app/latest-dump.json", limit=1 << 20))
    fields["postgresql"]["tables"][0]["rows"] += 1
    store.put("db/app/latest-dump.json", json.dumps(fields).encode())
    before, rows = traces(cluster), scene.rows(cluster, app)
    assert "in the manifest" in error(restored(cluster, store, app, strategy=strategy))
    assert traces(cluster) == before and scene.rows(cluster, app) == rows


def test_the_sha256_that_the_operator_expects(cluster: Cluster, store: Store, app: Database) -> None:
    back_up(cluster, store, app)
    fields = json.loads(store.get("db/app/latest-dump.json", limit=1 << 20))
    before = traces(cluster)
    assert "another SHA-256" in error(restored(cluster, store, app, expected_sha256="0" * 64))
    assert traces(cluster) == before
    good(restored(cluster, store, app, expected_sha256=fields["sha256"]))


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"key":"db/../x"}', b"\xff", b'{"key":"a","key":"b"}'])
def test_a_broken_manifest_is_one_clear_error(cluster: Cluster, store: Store, app: Database, content: bytes) -> None:
    store.put("db/app/latest-dump.json", content)
    before = traces(cluster)
    assert error(restored(cluster, store, app)).startswith("manifest:")
    assert traces(cluster) == before


def test_a_missing_object_is_no_missing_backup(cluster: Cluster, store: Store, app: Database) -> None:
    back_up(cluster, store, app)
    store.delete(json.loads(store.get("db/app/latest-dump.json", limit=1 << 20))["key"])
    assert error(restored(cluster, store, app))
    assert restored(cluster, store, app).outcomes[0].status == "failed"


def test_a_deleted_latest_manifest_is_no_missing_backup(cluster: Cluster, store: Store, app: Database) -> None:
    back_up(cluster, store, app)
    store.delete("db/app/latest-dump.json")
    told = error(restored(cluster, store, app))
    assert "latest-dump.json is missing" in told and "it was deleted, or never written" in told


def test_nothing_unsigned_is_suggested_in_place_of_a_latest_that_is_missing(
    cluster: Cluster, store: Store, app: Database
) -> None:
    """Whoever deleted it may have left the newest object, too, under a name that a shell obeys."""
    for name in ("20290101T000000Z", "$(touch x)/20290102T000000Z", "\x1b[2J/20290103T000000Z"):
        store.put(f"db/app/{name}.sql.gz.age", b"x")
    told = error(restored(cluster, store, app))
    assert "3 objects of backups are there" in told
    assert "2029" not in told and "touch" not in told and told.isprintable()


def test_a_delete_marker_is_no_missing_backup(
    cluster: Cluster, store: Store, app: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store here has no delete markers: its answer is injected."""

    def deleted(key: str, *, limit: int) -> bytes:
        raise Deleted(f"{key} is not there", cause="a delete marker took its place")

    monkeypatch.setattr(store, "get", deleted)
    assert "delete marker" in error(restored(cluster, store, app))


def test_no_backup_at_all(cluster: Cluster, store: Store, app: Database) -> None:
    assert restored(cluster, store, app).outcomes[0].status == restore.EMPTY
    by_path = dataclasses.replace(app, restore_latest=False, restore_dump_path="db/app/")
    assert "latest-dump.json" in error(restored(cluster, store, by_path))
    nothing = dataclasses.replace(app, restore_latest=False)
    assert restored(cluster, store, nothing).outcomes[0].status == restore.SKIPPED


def test_sessions_are_named_and_spared_where_that_is_asked_for(cluster: Cluster, store: Store, app: Database) -> None:
    back_up(cluster, store, app)
    before = traces(cluster)
    with contextlib.closing(connect(cluster.settings, database="app", application_name="the till")) as conn:
        for strategy in ("swap", "replace"):
            text = error(restored(cluster, store, app, on_connections="refuse", strategy=strategy))
            assert "the till" in text
        assert traces(cluster) == before
        conn.cursor().execute("SELECT 1")
        good(restored(cluster, store, app))


def test_for_want_of_room_the_old_database_goes_first(cluster: Cluster, store: Store, app: Database) -> None:
    before = scene.rows(cluster, app)
    back_up(cluster, store, app)
    cluster.psql("ALTER DATABASE app CONNECTION LIMIT 7")
    cluster.psql("DELETE FROM looks_like_sql", "app")
    assert good(restored(cluster, store, app, strategy="replace"))["kept_as"] is None
    assert scene.rows(cluster, app) == before
    settings = "SELECT datconnlimit, pg_get_userbyid(datdba), has_database_privilege('public', oid, 'CONNECT')"
    assert cluster.psql(f"{settings} FROM pg_database WHERE datname = 'app'") == "7|app|f"


def test_the_plan_changes_nothing_and_says_everything(cluster: Cluster, store: Store, app: Database) -> None:
    back_up(cluster, store, app)
    before = traces(cluster)
    summary = restored(cluster, store, app, plan_only=True)
    details = good(summary)
    assert summary.outcomes[0].status == restore.PLANNED
    assert traces(cluster) == before
    assert details["source"].endswith(".sql.gz.age") and details["encrypted"]
    assert details["age_seconds"] >= 0 and details["size"] > 0 and details["plaintext_size"] > details["size"]
    assert details["replaces"]["size"] > 0 and not details["replaces"]["empty"]
    assert details["rows"] == sum(
        count for name, (count, _d) in scene.rows(cluster, app).items() if name != "large objects"
    )


def test_roles_are_mapped_and_grants_kept(cluster: Cluster, store: Store) -> None:
    old = scene.entry("app", "old-owner")
    scene.make(cluster, old, "CREATE TABLE one AS SELECT 1 AS id")
    cluster.psql("CREATE ROLE reader")
    cluster.psql("GRANT SELECT ON one TO reader", "app")
    back_up(cluster, store, old)
    new = dataclasses.replace(old, user="new-owner")
    cluster.psql('CREATE ROLE "new-owner" LOGIN; ALTER DATABASE app OWNER TO "new-owner"')
    cluster.psql('REASSIGN OWNED BY "old-owner" TO "new-owner"; DROP OWNED BY "old-owner"', "app")
    details = good(
        restored(cluster, store, new, role_map={"old-owner": "new-owner"}, keep_replaced=datetime.timedelta(0))
    )
    assert cluster.psql("SELECT relowner::regrole FROM pg_class WHERE relname = 'one'", "app") == '"new-owner"'
    assert cluster.psql("SELECT has_table_privilege('reader', 'public.one', 'SELECT')", "app") == "t"
    assert cluster.psql("SELECT count(*) FROM pg_roles WHERE rolname = 'old-owner'") == "0", details["warnings"]


def test_a_mapped_role_that_owns_something_elsewhere_is_kept(cluster: Cluster, store: Store) -> None:
    app = scene.entry("app", "old-owner")
    scene.make(cluster, app, "CREATE TABLE one AS SELECT 1 AS id")
    back_up(cluster, store, app)
    cluster.psql('CREATE ROLE "new-owner" LOGIN; CREATE DATABASE other OWNER "old-owner"')
    new = dataclasses.replace(app, user="new-owner")
    details = good(restored(cluster, store, new, role_map={"old-owner": "new-owner"}))
    assert any("old-owner" in warning for warning in details["warnings"])
    assert cluster.psql("SELECT count(*) FROM pg_roles WHERE rolname = 'old-owner'") == "1"


# Privileges ---------------------------------------------------------------------------------------------------------

CLOSED = """
CREATE TABLE item AS SELECT 1 AS id;
CREATE FUNCTION wipe() RETURNS int LANGUAGE sql AS 'SELECT 1';
REVOKE ALL ON FUNCTION wipe() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION wipe() TO reader; GRANT SELECT ON item TO reader;
ALTER DEFAULT PRIVILEGES REVOKE ALL ON FUNCTIONS FROM PUBLIC;
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO reader;
"""
MAY = (
    "SELECT has_function_privilege('public', 'wipe()', 'EXECUTE'),"
    " has_function_privilege('reader', 'wipe()', 'EXECUTE'), has_table_privilege('reader', 'item', 'SELECT'),"
    " has_function_privilege('public', 'later()', 'EXECUTE'), has_table_privilege('reader', 'later', 'SELECT')"
)
LATER_OBJECTS = "SET ROLE app; CREATE TABLE later (); CREATE FUNCTION later() RETURNS int LANGUAGE sql AS 'SELECT 1'"


def told(details: t.Mapping[str, t.Any]) -> list[str]:
    """The warnings of a restore, but for that about the missing signature."""
    return [warning for warning in details["warnings"] if not warning.startswith("restored without verification")]


def closed(cluster: Cluster) -> Database:
    """A database with privileges, in which other roles may do less than by default."""
    app = scene.entry("app")
    cluster.psql("CREATE ROLE reader; CREATE ROLE stranger")
    scene.make(cluster, app, CLOSED)
    # By the administrator, as is common: objects that do not belong to the user.
    cluster.psql("REVOKE ALL ON FUNCTION pg_catalog.pg_sleep(float) FROM PUBLIC", "app")
    return app


@pytest.mark.parametrize("in_place", [True, False])
def test_a_restore_without_grants_is_no_wider_than_the_source_and_names_them(
    cluster: Cluster, store: Store, in_place: bool
) -> None:
    app = closed(cluster)
    back_up(cluster, store, app)
    if not in_place:
        cluster.psql("DROP DATABASE app")
    details = good(restored(cluster, store, app))
    cluster.psql(LATER_OBJECTS, "app")
    assert cluster.psql(MAY, "app") == "f|f|f|f|f"
    assert cluster.psql("SELECT has_function_privilege('stranger', 'pg_sleep(float)', 'EXECUTE')", "app") == "f"
    (warning,) = told(details)
    named, _why = warning.split(" left out (3 statements): the restore leaves out the grants of a dump unless skip_acl")
    assert sorted(named.removeprefix("grant to reader on ").split(", ")) == [
        "function public.wipe()",
        "later tables of app in schema public",
        "table public.item",
    ]


def test_a_bootstrap_keeps_grants_to_roles_that_exist(fresh_cluster: Cluster, store: Store) -> None:
    cluster = fresh_cluster
    app = closed(cluster)
    cluster.psql("CREATE ROLE gone")
    cluster.psql("GRANT UPDATE ON item TO gone", "app")
    back_up(cluster, store, app)
    cluster.destroy()
    cluster.start()
    # As another user: its predecessor, who owned the database, need not exist.
    new = dataclasses.replace(app, user="successor")
    cluster.psql("CREATE ROLE reader; CREATE ROLE stranger")
    begin(cluster, new)
    details = good(restored(cluster, store, new, outstanding_only=True))
    cluster.psql(LATER_OBJECTS.replace("app", "successor"), "app")
    assert cluster.psql(MAY, "app") == "f|t|t|f|t"
    assert cluster.psql("SELECT has_function_privilege('stranger', 'pg_sleep(float)', 'EXECUTE')", "app") == "f"
    assert cluster.psql("SELECT tableowner FROM pg_tables WHERE tablename = 'item'", "app") == "successor"
    assert told(details) == ["grant to gone on table public.item left out: there is no such role"]


def test_a_restored_database_is_backed_up_and_restored_without_a_warning(
    cluster: Cluster, store: Store, app: Database
) -> None:
    ways: list[dict[str, t.Any]] = [{}, {"skip_acl": False}, {"role_map": {"somebody": "app"}}]
    for options in ways:
        back_up(cluster, store, app)
        # None is kept: a second one would be named in a warning.
        assert told(good(restored(cluster, store, app, keep_replaced=datetime.timedelta(0), **options))) == []


# One bad object does not cost the rest ------------------------------------------------------------------------------

# By the administrator, with functions that work only with the search_path of the database.
DIFFICULT = """
CREATE SCHEMA helpers; GRANT USAGE ON SCHEMA helpers TO app;
ALTER DATABASE app SET search_path = helpers, public; SET search_path = helpers, public;
CREATE FUNCTION helpers.lowered(v text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT lower(v)';
CREATE FUNCTION public.plain(v text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT lowered(v)';
CREATE TABLE public.person (name text, folded text GENERATED ALWAYS AS (public.plain(name)) STORED);
INSERT INTO public.person VALUES ('Z'), ('A');
CREATE INDEX person_plain ON public.person (public.plain(name));
CREATE TABLE public.zz_code (code text PRIMARY KEY); INSERT INTO public.zz_code VALUES ('a');
CREATE FUNCTION public.known(c text) RETURNS boolean LANGUAGE sql STABLE
  AS 'SELECT EXISTS (SELECT FROM zz_code WHERE code = c)';
CREATE TABLE public.entry (code text CHECK (public.known(code))); INSERT INTO public.entry VALUES ('a');
CREATE MATERIALIZED VIEW public.summary AS SELECT public.plain(name) AS name FROM public.person;
"""


def difficult(cluster: Cluster) -> str:
    """What this server can create: since PostgreSQL 17, not what only works with the session's search_path."""
    lines = DIFFICULT.splitlines()
    own_path = ("CREATE INDEX", "CREATE MATERIALIZED VIEW")
    return "\n".join(line for line in lines if cluster.major < 17 or not line.startswith(own_path))


# Of no use to anybody, since what it looks up is gone.
BROKEN = """
CREATE TABLE public.lost AS SELECT 1 AS a;
CREATE FUNCTION public.gone(a int) RETURNS boolean LANGUAGE plpgsql STABLE AS 'BEGIN RETURN a IN (TABLE lost); END';
CREATE TABLE public.broken (a int CHECK (public.gone(a))); INSERT INTO public.broken VALUES (1), (1);
DROP TABLE public.lost;
CREATE VIEW public.over_it AS SELECT * FROM public.broken;
CREATE INDEX last ON public.entry (code);
"""


@pytest.mark.parametrize("in_place", [True, False])
def test_what_relies_on_the_databases_search_path_or_on_later_rows_is_restored(
    cluster: Cluster, store: Store, in_place: bool
) -> None:
    app = scene.entry("app")
    scene.make(cluster, app)
    cluster.psql(difficult(cluster), "app")
    back_up(cluster, store, app)
    if not in_place:
        cluster.psql("DROP DATABASE app")
    summary = restored(cluster, store, app)
    details = good(summary)
    assert (summary.outcomes[0].status, details["rows"], details["verified"]) == ("restored", 4, True)
    found = cluster.psql("SELECT string_agg(name || folded, ',' ORDER BY name) FROM public.person", "app")
    assert found == "Aa,Zz"
    if cluster.major < 17:
        assert cluster.psql("SELECT count(*) FROM public.summary", "app") == "2"


def test_an_error_ends_a_restore_and_says_what_would_be_saved(cluster: Cluster, store: Store, app: Database) -> None:
    cluster.psql(BROKEN.replace("CREATE INDEX last", "--"), "app")
    back_up(cluster, store, app)
    before = traces(cluster)
    text = error(restored(cluster, store, app))
    assert "COPY public.broken failed" in text and "qualify the name" in text
    assert "set on_error (--on-error, DB_RESTORE_ON_ERROR) to continue" in text
    assert traces(cluster) == before


def test_a_restore_that_goes_on_lists_what_failed_and_restores_the_rest(cluster: Cluster, store: Store) -> None:
    app = scene.entry("app")
    scene.make(cluster, app)
    cluster.psql(difficult(cluster) + BROKEN, "app")
    back_up(cluster, store, app)
    summary = restored(cluster, store, app, on_error="continue")
    details = good(summary)
    assert summary.outcomes[0].status == restore.RESTORED_WITH_ERRORS
    assert [line.partition(" failed")[0] for line in details["failed_statements"]] == ["COPY public.broken"]
    assert details["incomplete_tables"] == ["public.broken"]
    assert told(details)[0] == f"not restored: {details['failed_statements'][0]}"
    assert cluster.psql("SELECT count(*) FROM over_it", "app") == "0"
    assert cluster.psql("SELECT count(*) FROM pg_indexes WHERE indexname = 'last'", "app") == "1"
    # It is not outstanding any more.
    with contextlib.closing(connect(cluster.settings)) as conn:
        record = state.database_record(conn, "app")
    assert record is not None and record.restore == "restored"


def test_rows_that_are_missing_without_a_failure_are_still_damage(
    cluster: Cluster, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = scene.entry("app")
    scene.make(cluster, app)
    cluster.psql(difficult(cluster) + BROKEN, "app")
    back_up(cluster, store, app)
    real = load.load

    def fewer(*arguments: t.Any, **options: t.Any) -> load.LoadResult:
        result = real(*arguments, **options)
        return dataclasses.replace(result, rows={**result.rows, "public.person": 1})

    monkeypatch.setattr(load, "load", fewer)
    assert "public.person: 1 rows loaded, 2 in the manifest" in error(
        restored(cluster, store, app, on_error="continue")
    )


def test_a_limit_holds_during_a_second_reading(cluster: Cluster, store: Store) -> None:
    app = scene.entry("app")
    scene.make(cluster, app)
    cluster.psql(
        "CREATE TABLE zz (a int); INSERT INTO zz VALUES (1);"
        "CREATE FUNCTION slow(x int) RETURNS boolean LANGUAGE plpgsql STABLE AS $$BEGIN"
        " IF current_setting('server_version_num')::int > 0 AND EXISTS (SELECT FROM public.zz)"
        " AND current_database() LIKE 'app\\_\\_%' THEN PERFORM pg_sleep(3600); END IF;"
        " RETURN EXISTS (SELECT FROM public.zz); END$$;"
        "CREATE TABLE aa (a int CHECK (slow(a))); INSERT INTO aa VALUES (1)",
        "app",
    )
    back_up(cluster, store, app)
    before = traces(cluster)
    text = error(restored(cluster, store, app, on_error="continue", timeout=datetime.timedelta(seconds=8)))
    assert "exceeded its time limit" in text
    assert traces(cluster) == before


# The fresh cluster --------------------------------------------------------------------------------------------------


def begin(cluster: Cluster, *entries: Database) -> None:
    with contextlib.closing(connect(cluster.settings)) as conn:
        state.begin_bootstrap(conn, {entry.name: True for entry in entries}, host="here")
    for entry in entries:
        scene.make(cluster, entry)


def test_a_fresh_cluster_is_restored_and_then_left_alone(fresh_cluster: Cluster, store: Store) -> None:
    cluster = fresh_cluster
    one, two, new = scene.entry("one"), scene.entry("two"), scene.entry("new")
    for entry in (one, two):
        scene.make(cluster, entry, f"CREATE TABLE t AS SELECT '{entry.name}' AS name")
    back_up(cluster, store, one, two)
    cluster.destroy()
    cluster.start()

    begin(cluster, one, two, new)
    summary = restored(cluster, store, one, two, new, outstanding_only=True)
    assert summary.line(*restore.STATUSES) == "restored=2 empty=1 skipped=0 failed=0"
    assert cluster.psql("SELECT name FROM t", "two") == "two"
    with contextlib.closing(connect(cluster.settings)) as conn:
        bootstrap = state.latest_bootstrap(conn)
        assert bootstrap is not None and bootstrap.finished_at is not None
    # An empty database that was replaced is not worth keeping.
    assert "replaced" not in traces(cluster)[0]

    cluster.psql("INSERT INTO t VALUES ('since')", "two")
    again = restored(cluster, store, one, two, new, outstanding_only=True)
    assert again.line(*restore.STATUSES) == "restored=0 empty=0 skipped=3 failed=0"
    assert cluster.psql("SELECT count(*) FROM t", "two") == "2"
    # A cluster that was restored goes on with the history it was restored from.
    back_up(cluster, store, one, two, new)


def test_one_that_fails_stays_outstanding_and_is_resumed(fresh_cluster: Cluster, store: Store) -> None:
    cluster = fresh_cluster
    one, two = scene.entry("one"), scene.entry("two")
    for entry in (one, two):
        scene.make(cluster, entry, "CREATE TABLE t AS SELECT 1 AS id")
    back_up(cluster, store, one, two)
    cluster.destroy()
    cluster.start()
    begin(cluster, one, two)
    wrong = dataclasses.replace(one, identity=scene.entry("x").identity)
    summary = restored(cluster, store, wrong, two, outstanding_only=True)
    assert summary.line(*restore.STATUSES) == "restored=1 empty=0 skipped=0 failed=1 (one)"
    latest = store.get("db/one/latest-dump.json", limit=1 << 20)
    refused = backup.back_up_all([one], settings=cluster.settings, store=store, options=BackupOptions())
    assert "outstanding" in str(refused.outcomes[0].error)
    assert store.get("db/one/latest-dump.json", limit=1 << 20) == latest
    summary = restored(cluster, store, one, two, outstanding_only=True)
    assert summary.line(*restore.STATUSES) == "restored=1 empty=0 skipped=1 failed=0"
    assert cluster.psql("SELECT id FROM t", "one") == "1"


def test_what_a_restore_left_that_was_killed_after_its_swap_is_removed_by_the_next_run(
    fresh_cluster: Cluster, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster, one = fresh_cluster, scene.entry("one")
    scene.make(cluster, one, "CREATE TABLE t AS SELECT 1 AS id")
    back_up(cluster, store, one)
    cluster.destroy()
    cluster.start()
    begin(cluster, one)
    with monkeypatch.context() as patch:
        patch.setattr(leftovers, "remove", lambda *_given, **_named: None)  # as far as a killed run comes
        restored(cluster, store, one, outstanding_only=True)
    assert "infrazero_restore" in traces(cluster)[1] and traces(cluster)[2] == "1"
    summary = restored(cluster, store, one, outstanding_only=True)
    assert summary.line(*restore.STATUSES) == "restored=0 empty=0 skipped=1 failed=0"
    assert "infrazero_restore" not in traces(cluster)[1] and traces(cluster)[2] == "0"
    assert cluster.psql("SELECT id FROM t", "one") == "1"


def test_what_0_1_left_when_it_was_killed_is_removed(cluster: Cluster, store: Store, app: Database) -> None:
    """Its stage may be the tenant's already, who is in it, and was filled by a role that still owns things there."""
    back_up(cluster, store, app)
    stage, role = "app__restore_0123abcd", "infrazero_restore_0123abcd"
    with contextlib.closing(connect(cluster.settings)) as admin:
        state.begin_restore(admin, "0123abcd", database="app", stage=stage, role=role)
    cluster.psql(f"CREATE ROLE {role} LOGIN")
    cluster.psql(f"CREATE DATABASE {stage} OWNER app")
    cluster.psql(f"CREATE TABLE theirs (); ALTER TABLE theirs OWNER TO {role}", stage)
    cluster.psql("CREATE TABLE planted ()", stage)
    with contextlib.closing(connect(cluster.settings, database=stage, user="app", password=app.password)):
        good(restored(cluster, store, app))
    assert stage not in traces(cluster)[0] and role not in traces(cluster)[1]
    assert cluster.psql("SELECT to_regclass('public.planted') IS NULL", "app") == "t"


SCRIPT = """
import json, sys
sys.path.insert(0, {collections!r})
from ansible_collections.infrazero.database.plugins.module_utils._engine.restore import restore
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.databases import Database
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.restoring import RestoreOptions
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.secret import Secret
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.trust import UNSIGNED, Trust
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql import connection
from ansible_collections.infrazero.database.plugins.module_utils._engine.stores.base import DirectorySettings
from ansible_collections.infrazero.database.plugins.module_utils._engine.stores.registry import open_store

given = json.load(sys.stdin)
entries = [Database(n, u, Secret("x"), (r,), Secret(i)) for n, u, r, i in given["entries"]]
summary = restore.restore_all(
    entries,
    settings=connection.ConnectionSettings(host=given["host"], port=given["port"]),
    store=open_store(DirectorySettings(path=given["path"])),
    options=RestoreOptions(trust=Trust(mode=UNSIGNED)),
    outstanding_only=True,
)
print(summary.line(*restore.STATUSES))
"""


def start(cluster: Cluster, path: pathlib.Path, *entries: Database) -> subprocess.Popen[str]:
    """The same restore in a process of its own, to be killed."""
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(SCRIPT).format(collections=str(COLLECTIONS))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    given = {
        "host": cluster.host,
        "port": cluster.port,
        "path": str(path),
        "entries": [[e.name, e.user, e.recipients[0], e.identity.reveal() if e.identity else ""] for e in entries],
    }
    assert process.stdin is not None
    process.stdin.write(json.dumps(given))
    process.stdin.close()
    return process


POINTS = {
    "between two restores": "SELECT count(*) > 0 FROM infrazero.database WHERE restore = 'restored'",
    "with a stage half full": "SELECT count(*) > 0 FROM pg_database WHERE datname LIKE 'two__restore_%'",
}


@pytest.mark.parametrize("point", POINTS)
def test_killed_and_started_again_it_ends_with_everything_restored(
    fresh_cluster: Cluster, store: Store, tmp_path: pathlib.Path, point: str
) -> None:
    cluster = fresh_cluster
    entries = [scene.entry(name) for name in ("one", "two", "three")]
    for entry in entries:
        scene.make(cluster, entry)
        scene.fill(cluster, entry)
    before = {entry.name: scene.rows(cluster, entry) for entry in entries}
    back_up(cluster, store, *entries)
    cluster.destroy()
    cluster.start()
    begin(cluster, *entries)

    process = start(cluster, tmp_path, *entries)
    wait_until(lambda: cluster.psql(POINTS[point]) == "t" or process.poll() is not None)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    with contextlib.closing(connect(cluster.settings)) as conn:
        assert state.outstanding(conn), "it was over before it was killed: the test needs more rows"

    def finished() -> bool:
        with start(cluster, tmp_path, *entries) as again:
            return again.stdout is not None and "failed=0" in again.stdout.read()

    # The killed run's session, and its lock, end when the server notices: the first try may be too early.
    wait_until(finished, seconds=60)
    assert {entry.name: scene.rows(cluster, entry) for entry in entries} == before
    assert "__restore_" not in traces(cluster)[0]
    assert "infrazero_restore" not in traces(cluster)[1] and traces(cluster)[2] == "0"


def fails(message: str) -> t.Callable[..., t.NoReturn]:
    def fault(*_arguments: object, **_options: object) -> t.NoReturn:
        raise PostgresError(message)

    return fault


SETTINGS = (
    "SELECT datconnlimit, shobj_description(oid, 'pg_database'), has_database_privilege('reader', oid, 'CONNECT'),"
    " (SELECT count(*) FROM aclexplode(datacl) WHERE grantee = 0 AND privilege_type = 'CONNECT'),"
    " (SELECT string_agg(setrole::regrole || ' ' || setconfig::text, ';' ORDER BY setrole) FROM pg_db_role_setting"
    "  WHERE setdatabase = d.oid) FROM pg_database d WHERE datname = 'app'"
)


@pytest.mark.parametrize("again", ["swap", "replace"])
def test_a_database_dropped_for_want_of_room_gets_its_settings_back_in_a_later_run(
    cluster: Cluster, store: Store, app: Database, monkeypatch: pytest.MonkeyPatch, again: str
) -> None:
    back_up(cluster, store, app)
    cluster.psql(
        "ALTER DATABASE app CONNECTION LIMIT 7; ALTER DATABASE app SET work_mem = '5MB';"
        "ALTER ROLE app IN DATABASE app SET statement_timeout = '1min'; COMMENT ON DATABASE app IS 'it''s ours';"
        "CREATE ROLE reader; REVOKE CONNECT ON DATABASE app FROM PUBLIC; GRANT CONNECT ON DATABASE app TO reader"
    )
    before = scene.rows(cluster, app)
    with monkeypatch.context() as patch:
        patch.setattr(load, "analyze", fails("the disk is full"))
        text = error(restored(cluster, store, app, strategy="replace"))
    assert "the disk is full" in text and "is missing until a restore of it succeeds" in text
    assert "app" not in traces(cluster)[0] and traces(cluster)[2] == "0"
    with contextlib.closing(connect(cluster.settings)) as conn:
        assert state.outstanding(conn) == ("app",)
    # Meanwhile a bootstrap may have made it anew.
    if again == "replace":
        cluster.psql("CREATE DATABASE app OWNER app")

    good(restored(cluster, store, app, strategy=again, set_search_path=False))
    assert scene.rows(cluster, app) == before
    assert cluster.psql(SETTINGS) == "7|it's ours|t|0|- {work_mem=5MB};app {statement_timeout=1min}"
    with contextlib.closing(connect(cluster.settings)) as conn:
        record = state.database_record(conn, "app")
    assert record is not None and (record.restore, record.dropped) == ("restored", None)


@pytest.mark.parametrize("recorded", [True, False])
def test_a_database_that_can_not_be_dropped_may_still_be_backed_up(
    cluster: Cluster, store: Store, app: Database, monkeypatch: pytest.MonkeyPatch, recorded: bool
) -> None:
    back_up(cluster, store, app)
    with contextlib.closing(connect(cluster.settings)) as conn:
        if recorded:
            state.record_outcome(conn, "app", records.EMPTY)
        before = state.database_record(conn, "app")
        monkeypatch.setattr(staging, "drop_database", fails("a replication slot uses it"))
        assert "a replication slot" in error(restored(cluster, store, app, strategy="replace"))
        after = state.database_record(conn, "app")
    assert (before and before.restore) == (after and after.restore) == ("empty" if recorded else None)


def test_what_fails_after_the_swap_is_a_warning(
    cluster: Cluster, store: Store, app: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    back_up(cluster, store, app)
    drop = staging.drop_database

    def slot(conn: t.Any, name: str) -> None:
        if "__replaced_" in name:
            raise PostgresError("a replication slot uses it")
        drop(conn, name)

    monkeypatch.setattr(staging, "drop_database", slot)
    monkeypatch.setattr(loader_role, "drop_loader_role", fails("the role is needed"))
    details = good(restored(cluster, store, app, keep_replaced=datetime.timedelta(0)))
    warnings = [warning for warning in details["warnings"] if not warning.startswith("restored without verification")]
    assert [w for w in warnings if "replication slot" in w or "role is needed" in w] == warnings
    assert len(warnings) == 2
    with contextlib.closing(connect(cluster.settings)) as conn:
        assert [kept.name for kept in state.replaced(conn, expired=True)] == [details["kept_as"]]
        assert len(state.restores(conn)) == 1
    monkeypatch.undo()
    # A backup drops the one, the next restore the other.
    back_up(cluster, store, app)
    good(restored(cluster, store, app))
    assert "infrazero_restore" not in traces(cluster)[1] and details["kept_as"] not in traces(cluster)[0]


def test_the_first_error_is_told_though_tidying_up_fails_too(
    cluster: Cluster, store: Store, app: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    back_up(cluster, store, app)
    with monkeypatch.context() as patch:
        patch.setattr(load, "analyze", fails("the disk is full"))
        patch.setattr(loader_role, "drop_loader_role", fails("the role is needed"))
        assert "the disk is full" in error(restored(cluster, store, app))
    good(restored(cluster, store, app))
    assert "infrazero_restore" not in traces(cluster)[1] and traces(cluster)[2] == "0"


def test_a_database_that_nobody_may_connect_to_is_replaced(cluster: Cluster, store: Store, app: Database) -> None:
    back_up(cluster, store, app)
    cluster.psql("ALTER DATABASE app WITH ALLOW_CONNECTIONS false")
    details = good(restored(cluster, store, app))
    assert details["replaces"]["empty"] is False and details["kept_as"]
    assert cluster.psql("SELECT datallowconn FROM pg_database WHERE datname = 'app'") == "f", "as it was"


def test_a_database_that_was_empty_is_kept_where_somebody_has_filled_it_meanwhile(
    cluster: Cluster, store: Store, app: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    back_up(cluster, store, app)
    cluster.psql("DROP DATABASE app")
    cluster.psql("CREATE DATABASE app OWNER app")
    analyze = load.analyze

    def meanwhile(*arguments: t.Any) -> tuple[str, ...]:
        cluster.psql("CREATE TABLE precious AS SELECT 1 AS id", "app")
        return analyze(*arguments)

    monkeypatch.setattr(load, "analyze", meanwhile)
    details = good(restored(cluster, store, app))
    assert cluster.psql("SELECT id FROM precious", details["kept_as"]) == "1"


def test_a_database_that_appears_while_its_backup_is_loaded_is_kept(
    cluster: Cluster, store: Store, app: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    back_up(cluster, store, app)
    cluster.psql("DROP DATABASE app")
    analyze = load.analyze

    def meanwhile(*arguments: t.Any) -> tuple[str, ...]:
        cluster.psql("CREATE DATABASE app")
        cluster.psql("CREATE TABLE precious AS SELECT 1 AS id", "app")
        return analyze(*arguments)

    monkeypatch.setattr(load, "analyze", meanwhile)
    details = good(restored(cluster, store, app))
    assert cluster.psql("SELECT id FROM precious", details["kept_as"]) == "1"
    with contextlib.closing(connect(cluster.settings)) as conn:
        assert [kept.name for kept in state.replaced(conn)] == [details["kept_as"]]


def test_an_outstanding_restore_that_nobody_wants_any_more_is_settled(cluster: Cluster, store: Store) -> None:
    app = scene.entry("app", restore_latest=False)
    scene.make(cluster, app)
    with contextlib.closing(connect(cluster.settings)) as conn:
        state.begin_bootstrap(conn, {"app": True}, host="here")
    assert restored(cluster, store, app, outstanding_only=True, plan_only=True).outcomes[0].status == restore.SKIPPED
    with contextlib.closing(connect(cluster.settings)) as conn:
        assert state.outstanding(conn) == ("app",), "check mode changes nothing"
    assert restored(cluster, store, app, outstanding_only=True).outcomes[0].status == restore.SKIPPED
    with contextlib.closing(connect(cluster.settings)) as conn:
        assert state.outstanding(conn) == ()
        bootstrap = state.latest_bootstrap(conn)
    assert bootstrap is not None and bootstrap.finished_at is not None
