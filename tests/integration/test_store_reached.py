# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A bootstrap that ends well has reached its store: with no destination or a wrong one, the host fails.

The tests of this file are steps of one host's life, in this order.
"""

from __future__ import annotations

import json
import typing as t

import pytest

from tests.support import scene
from tests.support.controller import good
from tests.support.host import BUCKET, Host, new_host


@pytest.fixture(scope="module")
def host() -> t.Iterator[Host]:
    with new_host(scene.entry("shop"), scene.entry("ledger")) as running:
        yield running


def play(host: Host, playbook: str, *arguments: str, **variables: t.Any) -> t.Any:
    return host.controller().play(playbook, *arguments, infrazero_databases=host.entries, **variables)


def dumps(host: Host) -> list[str]:
    found = host.server.client().list_objects_v2(Bucket=BUCKET).get("Contents", ())
    return sorted(one["Key"] for one in found if one["Key"].endswith((".age", ".json")))


def role(host: Host, name: str) -> str:
    path = host.root / f"{name}.yml"
    path.write_text(json.dumps([{"hosts": "all", "gather_facts": False, "roles": [f"infrazero.database.{name}"]}]))
    return str(path)


@pytest.mark.parametrize("mode", [(), ("--check",)])
@pytest.mark.parametrize("playbook", ["bootstrap", "site", "role bootstrap", "role backup"])
def test_a_host_without_a_destination_is_refused_before_anything_changes(
    host: Host, playbook: str, mode: tuple[str, ...]
) -> None:
    what = role(host, playbook.split()[1]) if playbook.startswith("role ") else playbook
    before = sorted(str(path) for path in host.root.rglob("*") if "controller" not in path.parts)
    run = play(host, what, *mode, infrazero_s3_bucket="")
    assert run.status != 0
    assert run.changed == 0
    assert "neither a bucket nor a directory is set" in " ".join(run.output.split())
    assert sorted(str(path) for path in host.root.rglob("*") if "controller" not in path.parts) == before
    assert host.names() == {"postgres", "template0", "template1"}


WRONG: dict[str, tuple[dict[str, t.Any], str]] = {
    "secret": ({"infrazero_s3_secret_access_key": "not-the-secret-of-it"}, "the secret access key is wrong"),
    "bucket": ({"infrazero_s3_bucket": "absent"}, "create the bucket, or correct its name"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_host_that_cannot_store_backups_fails_in_the_summary(host: Host, wrong: str) -> None:
    changes, remedy = WRONG[wrong]
    # Without private keys nothing is restored, so nothing else asks the store.
    entries = [{name: value for name, value in one.items() if name != "backup_age_private_key"} for one in host.entries]
    run = host.controller().play(
        "bootstrap", infrazero_databases=entries, infrazero_summary_file="summary.json", **changes
    )
    assert run.status != 0
    summary = json.loads((host.root / "controller" / "summary.json").read_text())
    error = summary["hosts"][0]["error"]
    assert error["task"] == "Check that backups can be stored"
    assert error["message"].startswith("cannot store backups in s3://")
    assert remedy in error["message"]
    assert "not-the-secret-of-it" not in run.output
    assert dumps(host) == []


def test_first_backups_are_made_at_the_end(host: Host) -> None:
    entries = [{name: value for name, value in one.items() if name != "backup_age_private_key"} for one in host.entries]
    planned = good(host.controller().play("bootstrap", "--check", infrazero_databases=entries))
    assert "planned=2 failed=0" in planned.output
    assert dumps(host) == []
    without = good(host.controller().play("bootstrap", infrazero_databases=entries, infrazero_first_backup=False))
    assert without.changed
    probes = ["db/ledger/.infrazero/probe.age", "db/shop/.infrazero/probe.age"]
    assert dumps(host) == probes

    run = good(host.controller().play("bootstrap", infrazero_databases=entries, infrazero_summary_file="summary.json"))
    assert run.changed == 1
    summary = json.loads((host.root / "controller" / "summary.json").read_text())
    made = {one["database"]: one["first_backup"] for one in summary["hosts"][0]["databases"]}
    assert sorted(made) == ["ledger", "shop"]
    assert set(made.values()) < set(dumps(host))

    before = dumps(host)
    assert good(host.controller().play("bootstrap", infrazero_databases=entries)).changed == 0
    assert dumps(host) == before


def test_doctor_on_the_host_finds_it_all(host: Host) -> None:
    done = host.script("../bin/infrazero-database", "doctor", "--json")
    results = {(one["area"], one["subject"]): one for one in json.loads(done.stdout)["checks"]}
    for key in (("backups", "shop"), ("signers", "own key"), ("configuration", "rights"), ("server", "pg_dump")):
        assert results[key]["severity"] == "ok", results[key]
    assert results["backups", "shop"]["seen"].startswith("just now") or "min ago" in results["backups", "shop"]["seen"]


def test_a_store_that_is_lost_later_fails_the_next_bootstrap(host: Host) -> None:
    run = play(host, "bootstrap", infrazero_s3_endpoint="http://127.0.0.1:9")
    assert run.status != 0
    assert "nothing answers at http://127.0.0.1:9" in " ".join(run.output.split())
