# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real servers for the integration tests."""

from __future__ import annotations

import contextlib
import pathlib
import typing as t

import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.connection import connect
from ansible_collections.infrazero.database.plugins.module_utils._engine.stores.base import DirectorySettings, Store
from ansible_collections.infrazero.database.plugins.module_utils._engine.stores.registry import open_store

from tests.support.cluster import Cluster, majors

if t.TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection


@pytest.fixture(scope="session", params=majors() or [None], ids=lambda major: f"postgresql-{major}")
def shared_cluster(request: pytest.FixtureRequest) -> t.Iterator[Cluster]:
    """One running cluster of each installed major version; tests take :func:`cluster`."""
    with Cluster(request.param) as running:
        yield running


@pytest.fixture
def cluster(shared_cluster: Cluster) -> t.Iterator[Cluster]:
    """A running cluster with nothing in it but what initdb makes; what the test makes is removed after it."""
    yield shared_cluster
    empty(shared_cluster)


@pytest.fixture
def fresh_cluster(shared_cluster: Cluster) -> t.Iterator[Cluster]:
    """A cluster of the test's own, which it may stop, crash and destroy."""
    with Cluster(shared_cluster.major) as running:
        yield running


@pytest.fixture
def admin(cluster: Cluster) -> t.Iterator[Connection]:
    """A superuser's session in the maintenance database."""
    with contextlib.closing(connect(cluster.settings)) as conn:
        yield conn


@pytest.fixture
def store(tmp_path: pathlib.Path) -> Store:
    """A store in the test's own directory."""
    return open_store(DirectorySettings(path=str(tmp_path)))


def empty(cluster: Cluster) -> None:
    """Remove every database and role that initdb didn't make, and the engine's state."""
    if not cluster.running:
        cluster.start()
    subscriptions = cluster.psql(
        "SELECT format('%s,%I', datname, subname) FROM pg_subscription s JOIN pg_database d ON d.oid = subdbid"
    )
    for database, name in (line.rsplit(",", 1) for line in subscriptions.splitlines()):
        cluster.psql(
            f"ALTER SUBSCRIPTION {name} DISABLE; ALTER SUBSCRIPTION {name} SET (slot_name = NONE);"
            f" DROP SUBSCRIPTION {name}",
            database,
        )
    cluster.psql(
        r"""
        SET lock_timeout = '10s';
        DROP SCHEMA IF EXISTS infrazero CASCADE;
        SELECT format('ALTER DATABASE %I IS_TEMPLATE false', datname) FROM pg_database
        WHERE datistemplate AND datname NOT IN ('template0', 'template1') \gexec
        SELECT format('DROP DATABASE %I WITH (FORCE)', datname) FROM pg_database
        WHERE datname NOT IN ('postgres', 'template0', 'template1') \gexec
        SELECT format('DROP OWNED BY %1$I CASCADE', rolname) FROM pg_roles
        WHERE rolname <> 'postgres' AND rolname NOT LIKE 'pg\_%' \gexec
        SELECT format('DROP ROLE %I', rolname) FROM pg_roles
        WHERE rolname <> 'postgres' AND rolname NOT LIKE 'pg\_%' \gexec
        """
    )
