# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A backup says on the day it is made what a restore would not bring back."""

from __future__ import annotations

import json
import pathlib
import typing as t

import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine import outcome
from ansible_collections.infrazero.database.plugins.module_utils._engine.backup import backup
from ansible_collections.infrazero.database.plugins.module_utils._engine.backup.plan import BackupOptions
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.databases import Database
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.restoring import RestoreOptions
from ansible_collections.infrazero.database.plugins.module_utils._engine.restore import restore
from ansible_collections.infrazero.database.plugins.module_utils._engine.stores.base import Store

from tests.support import manifests, scene
from tests.support.cluster import Cluster
from tests.support.outcomes import details_of, error
from tests.support.signing import SigningHost, trust

FINDING = "extension 'file_fdw' is not allowed in a restore"


@pytest.fixture
def host(tmp_path: pathlib.Path) -> SigningHost:
    return SigningHost.make(tmp_path / "keys", "db1")


@pytest.fixture
def app(cluster: Cluster) -> Database:
    """A database with an extension that no restore creates unless it is told to."""
    database = scene.entry("app")
    scene.make(cluster, database, "CREATE TABLE one AS SELECT generate_series(1, 3) AS id")
    cluster.psql("CREATE EXTENSION file_fdw", "app")
    return database


def back_up(cluster: Cluster, store: Store, database: Database, host: SigningHost, **options: t.Any) -> outcome.Summary:
    return backup.back_up_all(
        [database], settings=cluster.settings, store=store, options=BackupOptions(signer=host.signer, **options)
    )


def planned(cluster: Cluster, store: Store, database: Database, host: SigningHost) -> dict[str, t.Any]:
    return details_of(
        restore.restore_all(
            [database],
            settings=cluster.settings,
            store=store,
            options=RestoreOptions(trust=trust(host)),
            plan_only=True,
        )
    )


def test_a_backup_warns_of_what_a_restore_would_refuse(
    cluster: Cluster, store: Store, app: Database, host: SigningHost
) -> None:
    made = details_of(back_up(cluster, store, app, host))
    (warning,) = made["warnings"]
    assert warning.startswith(FINDING)
    said = json.loads(store.get(made["manifest"], limit=1 << 20))
    assert said["postgresql"]["restore_findings"] == [warning]
    # A dry run of a restore says the same.
    assert f"the backup was made with a warning: {warning}" in planned(cluster, store, app, host)["warnings"]


def test_the_rules_are_those_of_the_hosts_own_restores(
    cluster: Cluster, store: Store, app: Database, host: SigningHost
) -> None:
    allowed = RestoreOptions(extensions=frozenset({"file_fdw"}))
    made = details_of(back_up(cluster, store, app, host, restores=allowed))
    assert made["warnings"] == []
    assert json.loads(store.get(made["manifest"], limit=1 << 20))["postgresql"]["restore_findings"] == []


def test_a_backup_that_has_to_be_restorable_fails_and_leaves_nothing(
    cluster: Cluster, store: Store, app: Database, host: SigningHost
) -> None:
    failed = error(back_up(cluster, store, app, host, require_restorable=True))
    assert FINDING in failed and "require_restorable" in failed
    assert list(store.list("db/app/")) == []
    cluster.psql("DROP EXTENSION file_fdw", "app")
    assert details_of(back_up(cluster, store, app, host, require_restorable=True))["warnings"] == []


def test_other_rows_than_the_manifest_describes_are_refused(
    cluster: Cluster, store: Store, app: Database, host: SigningHost
) -> None:
    """The count is right, and so are the object's checksums: only the digest of the rows tells."""
    cluster.psql("DROP EXTENSION file_fdw", "app")
    made = details_of(back_up(cluster, store, app, host))
    said = json.loads(store.get(made["manifest"], limit=1 << 20))
    (table,) = said["postgresql"]["tables"]
    said = manifests.changed(said, tables=[{**table, "digest": "0" * 64}], signature=...)
    store.put("db/app/latest-dump.json", manifests.canonical(manifests.signed(host, said)))
    summary = restore.restore_all(
        [app], settings=cluster.settings, store=store, options=RestoreOptions(trust=trust(host))
    )
    failed = error(summary)
    assert "public.one: the digest of its rows differs" in failed
    assert cluster.psql("SELECT count(*) FROM one", "app") == "3"
