# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Servers that are not ours: reached by TCP with TLS and a password only, as a role that is not a superuser."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import typing as t

import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine import cli
from ansible_collections.infrazero.database.plugins.module_utils._engine.backup import backup
from ansible_collections.infrazero.database.plugins.module_utils._engine.backup.plan import BackupOptions
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain import manifest
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.databases import Database, parse
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.restoring import RestoreOptions
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.subjects import ClusterGlobals
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.trust import UNSIGNED, Trust
from ansible_collections.infrazero.database.plugins.module_utils._engine.errors import ConnectionFailed, PostgresError
from ansible_collections.infrazero.database.plugins.module_utils._engine.restore import restore
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql import (
    bootstrap,
    lock,
    state,
)
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.connection import (
    ConnectionSettings,
    connect,
)
from ansible_collections.infrazero.database.plugins.module_utils._engine.stores.base import Store
from ansible_collections.infrazero.database.plugins.module_utils._engine.streams import age

from tests.support import outcomes, scene
from tests.support.cluster import Cluster
from tests.support.managed import Managed, managed_server
from tests.support.playbook import Task, play

from .conftest import empty


@pytest.fixture(scope="module")
def running(shared_cluster: Cluster) -> t.Iterator[Managed]:
    with managed_server(shared_cluster.major) as server:
        yield server


@pytest.fixture
def server(running: Managed) -> t.Iterator[Managed]:
    yield running
    empty(running.cluster)


@pytest.fixture
def shop(server: Managed) -> Database:
    """A database with rows that its user owns, and a role that may read all of it."""
    shop = scene.entry("shop")
    scene.make(server.cluster, shop)
    scene.fill(server.cluster, shop)
    if server.cluster.major < 14:
        pytest.skip("pg_read_all_data exists since PostgreSQL 14")
    server.make_reader("reader", "shop")
    # The sample has a large object, which that role does not include.
    server.cluster.psql(
        r"SELECT format('GRANT SELECT ON LARGE OBJECT %s TO reader', oid) FROM pg_largeobject_metadata \gexec", "shop"
    )
    return shop


def back_up(settings: ConnectionSettings, store: Store, *entries: Database, **options: t.Any) -> t.Any:
    return backup.back_up_all(entries, settings=settings, store=store, options=BackupOptions(**options))


def findings(store: Store, details: t.Mapping[str, t.Any]) -> tuple[str, ...]:
    """What the manifest says that a restore would lack."""
    with contextlib.closing(store.open(details["manifest"])) as reader:
        part = manifest.parse(reader.read(1 << 20)).part
    assert part is not None
    return part.restore_findings or ()


# Connections --------------------------------------------------------------------------------------------------------


def test_only_tls_with_the_right_authority_and_password_is_let_in(server: Managed, tmp_path: pathlib.Path) -> None:
    server.cluster.psql("CREATE ROLE app LOGIN PASSWORD 'password of app'")
    with contextlib.closing(connect(server.settings("app"))) as conn:
        assert conn.info.ssl_in_use
    empty_file = tmp_path / "none.pem"
    empty_file.touch()
    for changes, cause in (
        ({"sslmode": "disable", "sslrootcert": None}, "no pg_hba.conf entry"),
        ({"password": None}, "no password supplied"),
        ({"host": "127.0.0.2"}, "127.0.0.2"),
        ({"sslrootcert": str(empty_file)}, "root certificate"),
    ):
        with pytest.raises(ConnectionFailed) as caught:
            connect(server.settings("app", **changes))
        assert cause in caught.value.cause
        assert "password of app" not in str(caught.value)


def test_the_environment_of_libpq_changes_nothing(
    server: Managed, shop: Database, store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    """Neither variables, nor the files in a home directory, say which server it is or who logs in there."""
    home = tmp_path / "home"
    home.mkdir()
    (home / ".pgpass").write_text("*:*:*:*:password of reader\n")
    (home / ".pgpass").chmod(0o600)
    (home / ".pg_service.conf").write_text("[other]\nhost=192.0.2.1\nuser=other\n")
    monkeypatch.setenv("HOME", str(home))

    def elsewhere() -> None:
        for name, value in {
            "PGHOSTADDR": "192.0.2.1",
            "PGHOST": "192.0.2.1",
            "PGSERVICE": "other",
            "PGPASSWORD": "password of reader",
            "PGUSER": "other",
            "PGDATABASE": "other",
            "PGOPTIONS": "-c search_path=evil",
            "PGSSLMODE": "disable",
            "PGREQUIREAUTH": "none",
        }.items():
            monkeypatch.setenv(name, value)

    elsewhere()
    with pytest.raises(ConnectionFailed, match="no password supplied"):
        connect(server.settings("reader", password=None))
    elsewhere()
    made = outcomes.good(back_up(server.settings("reader"), store, shop))
    assert made.status == backup.BACKED_UP
    assert not [name for name in os.environ if name.startswith("PG")]


def test_a_server_that_is_not_authenticated_is_one_warning(server: Managed, shop: Database, store: Store) -> None:
    # An address of the loopback interface that does not look like one.
    settings = server.settings("reader", host="127.1", sslmode="require", sslrootcert=None)
    summary = back_up(settings, store, shop)
    outcomes.good(summary)
    (warning,) = summary.warnings
    assert "the server 127.1 is not authenticated (sslmode require)" in warning
    assert not back_up(server.settings("reader"), store, shop).warnings


# Backups ------------------------------------------------------------------------------------------------------------


def test_a_role_that_may_read_everything_backs_up_and_a_superuser_restores(
    server: Managed, shop: Database, store: Store, cluster: Cluster
) -> None:
    summary = back_up(server.settings("reader"), store, shop)
    details = outcomes.details_of(summary)
    assert details["warnings"] == [each for each in details["warnings"] if "not signed" in each]
    assert findings(store, details) == ()
    # It can record nothing in the cluster, and needs no record.
    assert server.cluster.psql("SELECT count(*) FROM pg_namespace WHERE nspname = 'infrazero'") == "0"
    scene.make(cluster, shop)
    restored = restore.restore_all(
        [shop],
        settings=cluster.settings,
        store=store,
        options=RestoreOptions(trust=Trust(mode=UNSIGNED)),
        source=details["key"],
    )
    outcomes.good(restored)
    assert scene.rows(cluster, shop) == scene.rows(server.cluster, shop)
    # The next one follows it.
    assert outcomes.details_of(back_up(server.settings("reader"), store, shop))["sequence"] == 2


@pytest.mark.parametrize(
    ("script", "cause", "remedy"),
    [
        ("REVOKE pg_read_all_data FROM reader", "it may not read", "GRANT pg_read_all_data TO reader"),
        (
            "ALTER TABLE public.customers ENABLE ROW LEVEL SECURITY",
            "row-level security would hide rows of public.customers",
            "ALTER ROLE reader BYPASSRLS",
        ),
        ("SELECT lo_from_bytea(0, 'x')", "it may not read 1 large objects", "GRANT SELECT ON LARGE OBJECT"),
    ],
)
def test_what_would_stop_the_dump_is_refused_with_the_remedy(
    server: Managed, shop: Database, store: Store, script: str, cause: str, remedy: str
) -> None:
    server.cluster.psql(script, "shop")
    text = outcomes.error(back_up(server.settings("reader"), store, shop))
    assert "the role 'reader' can't back up all of 'shop'" in text
    assert cause in text
    assert remedy in text
    assert list(store.list(shop.prefix)) == []


def test_remedies_remedy(server: Managed, shop: Database, store: Store) -> None:
    server.cluster.psql("ALTER TABLE public.customers ENABLE ROW LEVEL SECURITY; ALTER ROLE reader BYPASSRLS", "shop")
    outcomes.good(back_up(server.settings("reader"), store, shop))


def test_what_the_dump_would_leave_out_in_silence_is_said(server: Managed, shop: Database, store: Store) -> None:
    server.cluster.psql(
        "CREATE SUBSCRIPTION feed CONNECTION 'dbname=x' PUBLICATION p WITH (connect = false);"
        "CREATE FOREIGN DATA WRAPPER away; CREATE SERVER other FOREIGN DATA WRAPPER away;"
        "CREATE USER MAPPING FOR shop SERVER other OPTIONS (password 'secret of the mapping')",
        "shop",
    )
    details = outcomes.details_of(back_up(server.settings("reader"), store, shop))
    warnings = " ".join(details["warnings"])
    assert warnings.count("the backup lacks feed") == 1
    assert warnings.count("without them: shop on server other") == 1
    assert "secret of the mapping" not in warnings
    named = " ".join(findings(store, details))
    assert "the backup lacks feed" in named
    assert "without them: shop on server other" in named
    text = outcomes.error(back_up(server.settings("reader"), store, shop, require_restorable=True))
    assert "the backup lacks feed" in text


def test_an_outstanding_restore_is_seen_by_those_who_may_read_it(server: Managed, shop: Database, store: Store) -> None:
    own = scene.entry("own")
    scene.make(server.cluster, own, "CREATE TABLE things AS SELECT 1 AS id")
    with contextlib.closing(connect(server.cluster.settings)) as conn:
        state.record_outcome(conn, "shop", "outstanding")
        state.record_outcome(conn, "own", "outstanding")
    assert "the restore of 'shop' is outstanding" in outcomes.error(back_up(server.settings("reader"), store, shop))
    # Its own user may not read that, and the warning says so.
    details = outcomes.details_of(back_up(server.settings("own"), store, own))
    assert "GRANT pg_read_all_data TO own" in " ".join(details["warnings"])


def test_roles_are_backed_up_without_passwords(server: Managed, shop: Database, store: Store) -> None:
    def back_up_roles(user: str, *, passwords: bool) -> t.Any:
        roles = ClusterGlobals(cluster_prefix="cluster/x/", recipients=shop.recipients, passwords=passwords)
        return backup.back_up_all(
            [], settings=server.settings(user), store=store, options=BackupOptions(), cluster=roles
        )

    outcomes.good(back_up_roles("shop", passwords=False))
    # pg_read_all_data includes the catalogs, and so the verifiers.
    outcomes.good(back_up_roles("reader", passwords=True))
    text = outcomes.error(back_up_roles("shop", passwords=True))
    assert "GRANT pg_read_all_data TO shop" in text
    assert "DB_CLUSTER_PASSWORDS" in text


def test_the_host_s_command_backs_up_with_the_settings_of_db_env(
    server: Managed, shop: Database, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "store"
    store.mkdir()
    public = [
        {"name": "shop", "user": "shop", "password": "unused", "backup_age_public_key": list(shop.recipients)},
    ]
    settings = {
        "DATABASES_JSON": json.dumps(public),
        "DB_HOST": "localhost",
        "DB_PORT": server.cluster.port,
        "DB_USER": "reader",
        "DB_PASSWORD": "password of reader",
        "DB_SSLMODE": "verify-full",
        "DB_SSLROOTCERT": server.authority,
        "DB_MAINTENANCE_DATABASE": "postgres",
        "DB_BACKUP_DIRECTORY": store,
    }
    (tmp_path / "db.env").write_text("".join(f"{name}='{value}'\n" for name, value in settings.items()))
    assert cli.main(["backup", "--config", str(tmp_path)]) == 0
    assert cli.main(["list", "--config", str(tmp_path)]) == 0
    printed = capsys.readouterr()
    assert "shop: backed up as" in printed.out
    assert "password of reader" not in printed.out + printed.err
    assert "is not a setting" not in printed.err


def test_the_modules_back_up_and_restore_with_a_password(server: Managed, tmp_path: pathlib.Path) -> None:
    own = scene.entry("own")
    scene.make(server.cluster, own, "CREATE TABLE things AS SELECT g AS id FROM generate_series(1, 50) g")
    entry = {"name": "own", "user": "own", "password": "password of own", "backup_age_public_key": list(own.recipients)}
    options: dict[str, t.Any] = {
        "databases": [entry],
        "directory": str(tmp_path),
        "login_host": "localhost",
        "login_port": server.cluster.port,
        "login_user": "own",
        "login_password": "password of own",
        "ssl_mode": "verify-full",
        "ssl_rootcert": str(server.authority),
    }
    key = {"backup_age_private_key": scene.key_of(own)}
    restore_options = {**options, "databases": [{**entry, **key}], "trust": "unsigned"}
    (made,) = play(Task("age_backup", options)).results
    assert made["summary"] == "backed_up=1 failed=0"
    server.cluster.psql("DELETE FROM things", "own")
    played = play(
        Task("s3_manifest_restore", restore_options, check=True),
        Task("s3_manifest_restore", restore_options, diff=True),
    )
    planned, restored = (result["databases"][0] for result in played.results)
    assert (planned["status"], planned["in_place"]) == ("planned", True)
    assert (restored["status"], restored["rows"]) == ("restored", 50)
    assert server.cluster.psql("SELECT count(*) FROM things", "own") == "50"
    assert "password of own" not in played.output


# The lock -----------------------------------------------------------------------------------------------------------


def test_the_lock_of_those_who_are_no_superusers(server: Managed, shop: Database, store: Store) -> None:
    with lock.locked_session(server.settings("reader"), "shop", doing="restore") as (_conn, held):
        held.check()
        text = outcomes.error(back_up(server.settings("shop"), store, shop))
        assert "another backup or restore of database 'shop' is running" in text
        assert "role reader" in text
        with lock.locked_session(server.settings("reader"), "other", doing="backup"):
            pass
    with lock.locked_session(server.settings("shop"), "shop", doing="backup"):
        pass


def test_a_tenant_who_holds_the_weaker_lock_is_named(server: Managed, shop: Database, store: Store) -> None:
    """They can stop the backup, but not in silence; a superuser's lock is another one, see test_lock.py."""
    server.cluster.psql("CREATE ROLE tenant LOGIN PASSWORD 'password of tenant'")
    with contextlib.closing(connect(server.settings("tenant"), application_name="x")) as conn:
        conn.cursor().execute("SELECT pg_advisory_lock(%s)", (lock._number("shop"),))
        text = outcomes.error(back_up(server.settings("reader"), store, shop))
        assert "(role tenant," in text
        outcomes.good(back_up(server.cluster.settings, store, shop))
    outcomes.good(back_up(server.settings("reader"), store, shop))


# What takes a superuser ---------------------------------------------------------------------------------------------


def test_a_bootstrap_without_superuser_is_refused_in_words(server: Managed, shop: Database) -> None:
    listed = parse(
        [{"name": "new", "user": "new", "password": "x", "backup_age_public_key": list(shop.recipients)}],
        rules=age,
        private=False,
    )
    for plan_only in (True, False):
        with pytest.raises(PostgresError, match="'reader' is not a superuser"):
            bootstrap.bootstrap(listed, settings=server.settings("reader"), plan_only=plan_only)
    assert server.cluster.psql("SELECT count(*) FROM pg_namespace WHERE nspname = 'infrazero'") == "0"
