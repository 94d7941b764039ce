# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Another local user listens where the server should: nothing is sent there, and nothing is replaced."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import shutil
import tempfile
import typing as t

import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine import outcome
from ansible_collections.infrazero.database.plugins.module_utils._engine.backup import backup
from ansible_collections.infrazero.database.plugins.module_utils._engine.backup.plan import BackupOptions
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.databases import Database
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.restoring import RestoreOptions
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.secret import Secret
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.trust import UNSIGNED, Trust
from ansible_collections.infrazero.database.plugins.module_utils._engine.errors import ConnectionFailed
from ansible_collections.infrazero.database.plugins.module_utils._engine.restore import restore
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql import connection
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.connection import (
    client_arguments,
    connect,
)
from ansible_collections.infrazero.database.plugins.module_utils._engine.stores.base import DirectorySettings, Store
from ansible_collections.infrazero.database.plugins.module_utils._engine.stores.registry import open_store

from tests.support import scene
from tests.support.cluster import Cluster
from tests.support.impostor import ATTACKER, Impostor

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="an attacker of another user is needed, so root is")

ROW = "a row that nobody else may see"


class World:
    """A cluster with a database, a backup of it, and what has changed in the database since."""

    def __init__(self, cluster: Cluster, store: Store, app: Database) -> None:
        self.cluster = cluster
        self.store = store
        self.app = app

    def restore(self) -> outcome.Outcome:
        summary = restore.restore_all(
            [self.app],
            settings=self.cluster.settings,
            store=self.store,
            options=RestoreOptions(trust=Trust(mode=UNSIGNED)),
            source=f"{self.app.prefix}latest-dump.json",
        )
        return summary.outcomes[0]

    def assert_untouched(self) -> None:
        assert self.cluster.psql("SELECT string_agg(what, ',') FROM secret", "app") == f"{ROW},later"
        assert self.cluster.psql("SELECT count(*) FROM pg_database WHERE datname LIKE 'app\\_\\_%'") == "0"
        assert self.cluster.psql("SELECT count(*) FROM pg_roles WHERE rolname LIKE 'infrazero%'") == "0"


@contextlib.contextmanager
def world(major: int, path: pathlib.Path, listen: str) -> t.Iterator[World]:
    with Cluster(major, configuration={"listen_addresses": listen}) as cluster:
        app = scene.entry("app")
        scene.make(cluster, app, f"CREATE TABLE public.secret AS SELECT '{ROW}'::text AS what")
        store = open_store(DirectorySettings(path=str(path)))
        summary = backup.back_up_all([app], settings=cluster.settings, store=store, options=BackupOptions())
        assert not summary.failed
        cluster.psql("INSERT INTO secret VALUES ('later')", "app")
        yield World(cluster, store, app)


@pytest.fixture
def old_libpq(monkeypatch: pytest.MonkeyPatch) -> None:
    """A libpq that can't be told how a server may authenticate us."""
    monkeypatch.setattr(connection, "_REQUIRE_AUTH_SINCE", 10**9)


@pytest.mark.parametrize("mode", ["trusting", "asking"])
def test_the_port_of_a_server_that_listens_on_its_socket_only(
    shared_cluster: Cluster, tmp_path: pathlib.Path, mode: str
) -> None:
    with world(shared_cluster.major, tmp_path, "") as at, Impostor(mode, "127.0.0.1", at.cluster.port) as impostor:
        result = at.restore()
        assert result.error is not None
        assert "can't log in" in str(result.error)
        assert "authentication method requirement" in result.error.cause
        assert ROW.encode() not in impostor.heard
        assert b"p\0\0\0" not in impostor.heard, "the message that holds a password"
        at.assert_untouched()


def test_the_port_with_an_older_libpq(shared_cluster: Cluster, tmp_path: pathlib.Path, old_libpq: None) -> None:
    with world(shared_cluster.major, tmp_path, "") as at, Impostor("trusting", "127.0.0.1", at.cluster.port) as other:
        result = at.restore()
        assert result.error is not None
        assert "is not the one behind" in result.error.message and "0 sessions" in result.error.cause
        assert ROW.encode() not in other.heard and b"CREATE TABLE" not in other.heard
        at.assert_untouched()


@pytest.mark.parametrize(
    ("mode", "cause"), [("relay", "not from ours"), ("relay-same-port", "the process at the other end belongs to")]
)
def test_a_relay_to_the_real_server(shared_cluster: Cluster, tmp_path: pathlib.Path, mode: str, cause: str) -> None:
    with (
        world(shared_cluster.major, tmp_path, "127.0.0.2") as at,
        Impostor(mode, "127.0.0.1", at.cluster.port, "127.0.0.2") as impostor,
    ):
        result = at.restore()
        assert result.error is not None
        assert "is not the one behind" in result.error.message and cause in result.error.cause
        assert ROW.encode() not in impostor.heard and b"CREATE TABLE" not in impostor.heard
        at.assert_untouched()


def test_the_same_server_is_recognised_behind_its_port(shared_cluster: Cluster, tmp_path: pathlib.Path) -> None:
    with world(shared_cluster.major, tmp_path, "127.0.0.1") as at:
        assert at.restore().error is None
        assert at.cluster.psql("SELECT string_agg(what, ',') FROM secret", "app") == ROW


@pytest.mark.parametrize("method", ["scram-sha-256", "trust"])
def test_the_socket_is_taken_where_it_lets_the_role_in(
    shared_cluster: Cluster, tmp_path: pathlib.Path, method: str
) -> None:
    with world(shared_cluster.major, tmp_path, "") as at:
        hba = at.cluster.data_directory / "pg_hba.conf"
        hba.write_text(f"local all postgres peer map=local\nlocal all all {method}\n", encoding="utf-8")
        at.cluster.restart()
        with Impostor("trusting", "127.0.0.1", at.cluster.port) as impostor:
            assert at.restore().error is None
            assert impostor.heard == b""
        assert at.cluster.psql("SELECT string_agg(what, ',') FROM secret", "app") == ROW


@pytest.fixture
def shared_directory() -> t.Iterator[str]:
    """A directory where every user may make a socket, as /tmp is."""
    path = tempfile.mkdtemp(prefix="pg-", dir="/tmp")
    pathlib.Path(path).chmod(0o1777)
    yield path
    shutil.rmtree(path)


@pytest.mark.parametrize("mode", ["trusting", "asking"])
def test_a_socket_in_a_directory_of_everybody(cluster: Cluster, shared_directory: str, mode: str) -> None:
    settings = dataclasses.replace(cluster.settings, host=shared_directory, password=Secret("canary"))
    with Impostor(mode, shared_directory, settings.port) as impostor:
        for attempt in (connect, lambda settings: client_arguments(settings, "app")):
            with pytest.raises(ConnectionFailed, match="is not the server") as refused:
                attempt(settings)
            assert f"({ATTACKER})" in refused.value.cause
        assert impostor.heard == b""


def test_an_impostor_that_comes_after_the_look(cluster: Cluster, shared_directory: str, monkeypatch) -> None:
    """libpq itself looks again, at the connection that it uses."""
    settings = dataclasses.replace(cluster.settings, host=shared_directory, password=Secret("canary"))
    monkeypatch.setattr(connection, "server_account", lambda _settings: "postgres")
    with Impostor("asking", shared_directory, settings.port) as impostor:
        with pytest.raises(ConnectionFailed, match="requirepeer specifies"):
            connect(settings)
        assert impostor.heard == b""


def test_a_password_is_not_given_in_clear_over_tcp(cluster: Cluster, tmp_path: pathlib.Path) -> None:
    with world(cluster.major, tmp_path, "") as at, Impostor("asking", "127.0.0.1", at.cluster.port) as impostor:
        settings = dataclasses.replace(at.cluster.settings, host="127.0.0.1", password=Secret("canary"))
        with pytest.raises(ConnectionFailed, match="authentication method requirement"):
            connect(settings)
        assert b"canary" not in impostor.heard
