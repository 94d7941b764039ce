# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Clusters with a standby: which node backs up, what a standby refuses, and what a failover does to the backups."""

from __future__ import annotations

import datetime
import json
import pathlib
import typing as t

import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine import cli
from ansible_collections.infrazero.database.plugins.module_utils._engine.backup import backup
from ansible_collections.infrazero.database.plugins.module_utils._engine.backup.plan import BackupOptions
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain import nodes
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.databases import Database, parse
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.restoring import RestoreOptions
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.trust import UNSIGNED, Trust
from ansible_collections.infrazero.database.plugins.module_utils._engine.errors import PostgresError, ProcessFailed
from ansible_collections.infrazero.database.plugins.module_utils._engine.restore import restore
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.base import Dump, RestoreRules
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql import bootstrap
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.source import (
    PostgresqlSource,
)
from ansible_collections.infrazero.database.plugins.module_utils._engine.stores.base import Store
from ansible_collections.infrazero.database.plugins.module_utils._engine.streams import age

from tests.support import outcomes, scene, signing
from tests.support.cluster import Cluster, wait_until
from tests.support.playbook import Task, play
from tests.support.replication import Standby


class Nodes(t.NamedTuple):
    primary: Cluster
    standby: Standby
    shop: Database


@pytest.fixture
def pair(fresh_cluster: Cluster) -> t.Iterator[Nodes]:
    """A primary with a database, and a standby, which a test may promote."""
    shop = scene.entry("shop")
    scene.make(fresh_cluster, shop)
    scene.fill(fresh_cluster, shop)
    # As short as it gets: whatever is in the way of the primary is cancelled.
    with Standby(fresh_cluster, configuration={"max_standby_streaming_delay": "0"}) as standby:
        standby.catch_up()
        yield Nodes(fresh_cluster, standby, shop)


def back_up(cluster: Cluster, store: Store, shop: Database, **options: t.Any) -> t.Any:
    return backup.back_up_all([shop], settings=cluster.settings, store=store, options=BackupOptions(**options))


@pytest.mark.parametrize(
    ("run_on", "expected"),
    [
        (nodes.PRIMARY, (backup.BACKED_UP, backup.SKIPPED)),
        (nodes.STANDBY, (backup.SKIPPED, backup.BACKED_UP)),
        (nodes.ANY, (backup.BACKED_UP, backup.BACKED_UP)),
    ],
)
def test_only_the_nodes_that_are_meant_to_back_up(
    pair: Nodes, store: Store, run_on: str, expected: tuple[str, str]
) -> None:
    done = [back_up(node, store, pair.shop, run_on=run_on) for node in (pair.primary, pair.standby)]
    assert tuple(outcomes.good(summary).status for summary in done) == expected
    for summary in done:
        if outcomes.good(summary).status == backup.SKIPPED:
            assert outcomes.details_of(summary)["reason"].endswith(f"; run_on is {run_on}")
            assert summary.line("backed_up", "skipped") == "backed_up=0 skipped=1 failed=0"
    planned = backup.plan_all(
        [pair.shop], settings=pair.standby.settings, store=store, options=BackupOptions(run_on=run_on)
    )
    assert outcomes.good(planned).status == (backup.SKIPPED if run_on == nodes.PRIMARY else backup.PLANNED)


@pytest.mark.parametrize("run_on", [nodes.ANY, nodes.STANDBY])
def test_another_node_s_backup_stands_for_those_of_this_one(
    pair: Nodes, store: Store, tmp_path: pathlib.Path, run_on: str
) -> None:
    first, second = (signing.SigningHost.make(tmp_path / "keys", name) for name in ("node1", "node2"))
    accepted: dict[str, t.Any] = {"signers": {"shop": ("node1", "node2")}}
    one: dict[str, t.Any] = {"signer": first.signer, "trust": signing.trust(first, second, **accepted)}
    two: dict[str, t.Any] = {"signer": second.signer, "trust": signing.trust(second, first, **accepted)}
    # Two candidates: two standbys would be the same to each other.
    assert outcomes.good(back_up(pair.standby, store, pair.shop, run_on=run_on, **one)).status == backup.BACKED_UP
    skipped = outcomes.good(back_up(pair.standby, store, pair.shop, run_on=run_on, **two))
    assert skipped.status == backup.SKIPPED
    assert skipped.details["reason"] == f"node1 backed it up 0 minutes ago; run_on is {run_on}"
    planned = backup.plan_all(
        [pair.shop], settings=pair.standby.settings, store=store, options=BackupOptions(run_on=run_on, **two)
    )
    assert outcomes.good(planned).status == backup.SKIPPED
    # Its own backups are nothing to wait for, nor are old ones.
    assert outcomes.good(back_up(pair.standby, store, pair.shop, run_on=run_on, **one)).status == backup.BACKED_UP
    short = datetime.timedelta(0)
    late = back_up(pair.standby, store, pair.shop, run_on=run_on, run_on_window=short, **two)
    assert outcomes.good(late).status == backup.BACKED_UP


def test_nobody_stops_backups_in_silence(pair: Nodes, store: Store, tmp_path: pathlib.Path) -> None:
    """A latest backup that is not accepted is an error, as ever, and not a reason to skip."""
    first, second = (signing.SigningHost.make(tmp_path / "keys", name) for name in ("node1", "node2"))
    back_up(pair.standby, store, pair.shop, run_on=nodes.ANY, signer=first.signer, trust=signing.trust(first))
    mine = back_up(pair.standby, store, pair.shop, run_on=nodes.ANY, signer=second.signer, trust=signing.trust(second))
    assert "is not that of a backup that this host accepts" in outcomes.error(mine)


def test_without_a_standby_the_primary_backs_up(pair: Nodes, store: Store) -> None:
    pair.standby.stop()
    wait_until(lambda: pair.primary.psql("SELECT count(*) FROM pg_stat_replication") == "0")
    assert outcomes.good(back_up(pair.primary, store, pair.shop, run_on=nodes.STANDBY)).status == backup.BACKED_UP


def test_a_backup_of_a_standby_has_all_rows(pair: Nodes, store: Store, cluster: Cluster) -> None:
    details = outcomes.details_of(back_up(pair.standby, store, pair.shop, run_on=nodes.STANDBY))
    scene.make(cluster, pair.shop)
    restored = restore.restore_all(
        [pair.shop],
        settings=cluster.settings,
        store=store,
        options=RestoreOptions(trust=Trust(mode=UNSIGNED)),
        source=details["key"],
    )
    outcomes.good(restored)
    assert scene.rows(cluster, pair.shop) == scene.rows(pair.primary, pair.shop)


def test_the_command_says_in_one_line_that_another_node_backs_up(
    pair: Nodes, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "store"
    store.mkdir()
    public = [{"name": "shop", "user": "shop", "password": "x", "backup_age_public_key": list(pair.shop.recipients)}]
    settings = {
        "DATABASES_JSON": json.dumps(public),
        "DB_HOST": pair.standby.host,
        "DB_PORT": pair.standby.port,
        "DB_BACKUP_DIRECTORY": store,
    }
    (tmp_path / "db.env").write_text("".join(f"{name}='{value}'\n" for name, value in settings.items()))
    assert cli.main(["backup", "--config", str(tmp_path)]) == 0
    printed = capsys.readouterr()
    assert printed.out == "not backed up here: this node is a standby; run_on is primary\n"
    assert printed.err == ""
    assert cli.main(["backup", "--config", str(tmp_path), "--json"]) == 0
    (one,) = json.loads(capsys.readouterr().out)["databases"]
    assert one == {
        "database": "shop",
        "status": "skipped",
        "reason": "this node is a standby; run_on is primary",
    }
    assert cli.main(["backup", "--config", str(tmp_path), "--run-on", "any"]) == 0


def read_while_dropped(dump: Dump, pair: Nodes) -> None:
    """Read the dump, and drop a table of it on the primary before its rows are read."""
    # pg_dump has locked every table before it writes rows.
    text = dump.read(1 << 16)
    while b"CREATE TABLE" not in text:
        text = dump.read(1 << 16)
    pair.primary.psql("DROP TABLE much", "shop")
    # Either the dump is cancelled at once, or the standby waits until pg_dump reads on and its session notices.
    arrived = "SELECT to_regclass('much') IS NULL OR EXISTS (SELECT FROM pg_locks WHERE NOT granted)"
    wait_until(lambda: pair.standby.psql(arrived, "shop") == "t")
    while text:
        text = dump.read(1 << 16)


def test_the_module_reports_that_another_node_backs_up(pair: Nodes, tmp_path: pathlib.Path) -> None:
    entry = {"name": "shop", "user": "shop", "password": "x", "backup_age_public_key": list(pair.shop.recipients)}
    options = {"databases": [entry], "directory": str(tmp_path), "login_host": pair.standby.host}
    task = {**options, "login_port": pair.standby.port}
    skipped, planned, made = play(
        Task("age_backup", task),
        Task("age_backup", task, check=True),
        Task("age_backup", {**task, "run_on": "standby"}),
    ).results
    for result in (skipped, planned):
        assert result["changed"] is False
        assert result["summary"].endswith("=0 skipped=1 failed=0")
        assert result["databases"][0]["reason"] == "this node is a standby; run_on is primary"
    assert made["summary"] == "backed_up=1 failed=0"


def test_what_the_primary_cancels_has_a_remedy(pair: Nodes) -> None:
    pair.primary.psql("CREATE TABLE much AS SELECT repeat('x', 1000) AS x FROM generate_series(1, 20000)", "shop")
    pair.standby.catch_up()
    rules = RestoreRules(RestoreOptions(), signed=False)
    with PostgresqlSource(pair.standby.settings).locked("shop", doing="backup") as session:
        part = session.facts(pair.shop).part
        with (
            pytest.raises(ProcessFailed) as caught,
            session.dump("shop", part, rules=rules, lock_wait_seconds=10, advance=lambda _size: None) as dump,
        ):
            read_while_dropped(dump, pair)
    assert "conflict with recovery" in caught.value.cause
    assert "max_standby_streaming_delay" in caught.value.hint
    assert "hot_standby_feedback" in caught.value.hint


def test_a_standby_refuses_a_bootstrap_and_a_restore_in_words(pair: Nodes, store: Store) -> None:
    made = outcomes.details_of(back_up(pair.primary, store, pair.shop))
    listed = parse(
        [{"name": "new", "user": "new", "password": "x", "backup_age_public_key": list(pair.shop.recipients)}],
        rules=age,
        private=False,
    )
    with pytest.raises(PostgresError, match="it is a standby, which only copies its primary"):
        bootstrap.bootstrap(listed, settings=pair.standby.settings)
    pair.standby.catch_up()
    restored = restore.restore_all(
        [pair.shop],
        settings=pair.standby.settings,
        store=store,
        options=RestoreOptions(trust=Trust(mode=UNSIGNED)),
        source=made["key"],
    )
    text = outcomes.error(restored)
    assert "nothing can be restored on this server; cause: it is a standby" in text
    assert "restore on the primary" in text


# Failover -----------------------------------------------------------------------------------------------------------


def test_after_a_failover_the_new_primary_goes_on_with_the_history(
    pair: Nodes, store: Store, tmp_path: pathlib.Path
) -> None:
    """Each node signs with its own key, in its own name; the nodes accept each other's backups."""
    names = ("node1", "node2")
    first, second = (signing.SigningHost.make(tmp_path / "keys", name) for name in names)
    accepted = {"signers": {"shop": names}}
    on_first = {"signer": first.signer, "trust": signing.trust(first, second, **accepted)}
    on_second = {"signer": second.signer, "trust": signing.trust(second, first, **accepted)}

    one = outcomes.details_of(back_up(pair.primary, store, pair.shop, **on_first))
    assert outcomes.good(back_up(pair.standby, store, pair.shop, **on_second)).status == backup.SKIPPED
    pair.standby.catch_up()
    pair.primary.stop(immediate=True)
    pair.standby.promote()
    two = outcomes.details_of(back_up(pair.standby, store, pair.shop, **on_second))
    assert (one["sequence"], two["sequence"]) == (1, 2)
    assert (two["previous"], two["previous_signed_by"]["name"]) == (one["key"], "node1")
    assert two["warnings"] == []


def test_a_node_whose_key_is_unknown_is_followed_only_as_far_as_the_cluster_itself_remembers(
    pair: Nodes, store: Store, tmp_path: pathlib.Path
) -> None:
    """The record of a backup is replicated; a system identifier in a manifest proves nothing."""
    first, second = (signing.SigningHost.make(tmp_path / "keys", name) for name in ("node1", "node2"))
    one = outcomes.details_of(back_up(pair.primary, store, pair.shop, signer=first.signer, trust=signing.trust(first)))
    pair.standby.catch_up()
    pair.primary.stop(immediate=True)
    pair.standby.promote()
    alone: dict[str, t.Any] = {"signer": second.signer, "trust": signing.trust(second)}
    two = outcomes.details_of(back_up(pair.standby, store, pair.shop, **alone))
    assert (two["sequence"], two["previous"]) == (2, one["key"])
    assert "the latest backup is this cluster's own, but" in " ".join(two["warnings"])
    # Somebody of the same name and cluster, but neither its key nor its record.
    pair.standby.psql("DELETE FROM infrazero.backup")
    back_up(pair.standby, store, pair.shop, signer=first.signer, trust=signing.trust(first, second), take_over=True)
    pair.standby.psql("DELETE FROM infrazero.backup")
    text = outcomes.error(back_up(pair.standby, store, pair.shop, **alone))
    assert "must not be backed up to" in text
    assert "is not that of a backup that this host accepts" in text
