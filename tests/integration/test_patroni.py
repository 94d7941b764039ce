# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Three nodes with Patroni and etcd, in containers: one list, one backup a night, also after a failover."""

from __future__ import annotations

import os
import pathlib
import sys
import typing as t

import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.restoring import RestoreOptions
from ansible_collections.infrazero.database.plugins.module_utils._engine.restore import restore
from ansible_collections.infrazero.database.plugins.module_utils._engine.stores.base import DirectorySettings
from ansible_collections.infrazero.database.plugins.module_utils._engine.stores.registry import open_store

from tests.support import containers, outcomes, scene, signing
from tests.support.cluster import Cluster
from tests.support.patroni import NAMES, PatroniCluster, build_image

pytestmark = pytest.mark.skipif("TEST_PATRONI" not in os.environ, reason="takes minutes: make patroni")


@pytest.fixture(scope="module")
def engine() -> t.Iterator[None]:
    """A Docker engine with the image, or the reason why there is none."""
    if sys.version_info[:2] != (3, 11):
        pytest.skip("the libraries of this Python are not those of Debian 12's")
    before = os.environ.get("DOCKER_HOST")
    with containers.engine("the cluster") as host:
        if not host.startswith("unix:"):
            pytest.skip(f"{host} cannot mount this checkout")
        os.environ["DOCKER_HOST"] = host
        try:
            build_image()
            yield
        finally:
            if before is None:
                del os.environ["DOCKER_HOST"]
            else:
                os.environ["DOCKER_HOST"] = before


@pytest.mark.usefixtures("engine")
def test_one_backup_a_night_also_after_a_failover(tmp_path: pathlib.Path, cluster: Cluster) -> None:
    if cluster.major < 15:
        pytest.skip("the nodes have PostgreSQL 15, which an older server does not understand")
    shop = scene.entry("shop")
    public = {"name": "shop", "user": "shop", "password": "x", "backup_age_public_key": list(shop.recipients)}
    with PatroniCluster(tmp_path) as nodes:
        nodes.leader.psql("CREATE ROLE shop; CREATE DATABASE shop OWNER shop")
        nodes.leader.psql("CREATE TABLE things AS SELECT g AS id FROM generate_series(1, 1000) g", "shop")
        nodes.configure([public])

        def night(standbys: int) -> dict[str, t.Any]:
            """One run on every node at the same time: the leader's report, after a look at those of the others."""
            nodes.wait_for(standbys=standbys)
            leader, reports = nodes.leader.name, nodes.back_up_everywhere()
            done = [report for report in reports if report["status"] == "backed_up"]
            others = [report for report in reports if report not in done]
            assert [report["node"] for report in done] == [leader]
            assert len(others) == standbys
            for report in others:
                assert report["status"] == "skipped"
                assert report["reason"] == "this node is a standby; run_on is primary"
            return done[0]

        first = night(standbys=2)
        assert (first["sequence"], first["signed"]) == (1, True)

        lost = nodes.leader
        lost.kill()
        second = night(standbys=1)
        assert second["node"] != lost.name
        assert (second["sequence"], second["previous"]) == (2, first["key"])
        assert second["previous_signed_by"]["name"] == lost.name
        assert second["warnings"] == []

        lost.start()
        nodes.wait_for(standbys=2)
        nodes.leader.run(
            "patronictl", "-c", "/etc/patroni.yml", "failover", "--candidate", lost.name, "--force", "shop"
        )
        nodes.wait_for(standbys=2)
        nodes.leader.psql("INSERT INTO things VALUES (1001)", "shop")
        third = night(standbys=2)
        assert third["node"] == lost.name
        assert (third["sequence"], third["previous_signed_by"]["name"]) == (3, second["node"])

        manifests = [path.name for path in nodes.store.rglob("*.manifest.json")]
        assert len(manifests) == 3

        # Elsewhere: a host that is none of the nodes, and accepts their backups.
        trust = signing.trust(*nodes.hosts, name="elsewhere", signers={"shop": NAMES})
        scene.make(cluster, shop)
        restored = restore.restore_all(
            [shop],
            settings=cluster.settings,
            store=open_store(DirectorySettings(path=str(nodes.store))),
            options=RestoreOptions(trust=trust),
            source=f"{shop.prefix}latest-dump.json",
        )
    details = outcomes.details_of(restored)
    assert details["signed_by"]["name"] == lost.name
    assert cluster.psql("SELECT count(*), max(id) FROM things", "shop") == "1001|1001"
