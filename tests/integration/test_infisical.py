# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role infisical on a host that was bootstrapped, and on the one that comes after it, with real servers."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import typing as t

import pyrage
import pytest

from tests.support import controller, scene
from tests.support.controller import Run
from tests.support.host import BUCKET, Host, new_host

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="roles install as root and step down")

TOKEN = "canary-of-the-admin-token '\"$%{}"
VAULT = scene.entry("infisical")
IDENTITY = pyrage.x25519.Identity.from_str(VAULT.identity.reveal()) if VAULT.identity else None


@pytest.fixture(scope="module")
def host() -> t.Iterator[Host]:
    with new_host(scene.entry("app")) as running:
        yield running


def play(host: Host, playbook: str = "infisical", *arguments: str, **variables: t.Any) -> Run:
    return host.controller().play(
        playbook,
        "--extra-vars=infrazero_infisical_hosts=all",  # where a play works can only be said there
        *arguments,
        infrazero_databases=host.entries,
        infisical_password=VAULT.password.reveal(),
        infisical_backup_age_public_key=list(VAULT.recipients),
        infisical_log_file=str(host.root / "infisical.log"),
        **variables,
    )


def good(run: Run) -> Run:
    return controller.good(run, hidden=(TOKEN, VAULT.password.reveal(), scene.key_of(VAULT)))


def objects(host: Host) -> dict[str, str]:
    """ETags of everything of Infisical's in the bucket, by key."""
    found = host.server.client().list_objects_v2(Bucket=BUCKET, Prefix="infisical/")
    return {item["Key"]: item["ETag"] for item in found.get("Contents", [])}


def read(host: Host, key: str) -> bytes:
    return host.server.client().get_object(Bucket=BUCKET, Key=key)["Body"].read()


def back_up(host: Host) -> subprocess.CompletedProcess[str]:
    """As the schedule does."""
    table = (host.root / "cron.d" / "infrazero-infisical-backup").read_text(encoding="utf-8")
    (line,) = [line for line in table.splitlines() if "backup.sh" in line]
    assert line.startswith("15 2 * * * postgres ")
    command = line.partition(" postgres ")[2].partition(" >>")[0].replace("\\%", "%")
    return subprocess.run(
        ["/bin/sh", "-c", command], capture_output=True, text=True, check=False, env={"PATH": os.defpath}
    )


def test_it_refuses_to_be_the_first_where_others_are_to_be_restored(host: Host) -> None:
    run = play(host)
    assert run.status != 0
    assert "Run infrazero.database.bootstrap first" in " ".join(run.output.split())
    assert host.names() == {"postgres", "template0", "template1"}


def test_a_database_a_place_and_a_schedule_of_its_own(host: Host) -> None:
    good(play(host, "bootstrap"))
    token = {"infisical_admin_token": TOKEN, "infisical_site_url": "https://infisical.example.com"}
    good(play(host, **token))
    assert "infisical" in host.names()
    scene.fill(host.cluster, VAULT)

    done = back_up(host)
    assert done.returncode == 0, done.stderr
    keys = objects(host)
    assert "infisical/latest-dump.json" in keys
    latest = json.loads(read(host, "infisical/latest-dump.json"))
    assert latest["key"].startswith("infisical/2") and latest["key"].endswith("Z.sql.gz.age")
    assert hashlib.sha256(read(host, latest["key"])).hexdigest() == latest["sha256"]

    pointer = json.loads(read(host, "infisical/bootstrap/latest-tokens.json"))
    sealed = read(host, pointer["admin_token_key"])
    assert hashlib.sha256(sealed).hexdigest() == pointer["admin_token_sha256"]
    assert pyrage.decrypt(sealed, [IDENTITY]).decode() == TOKEN

    again = good(play(host, **token))
    assert again.changed == 0, again.output
    assert objects(host) == keys
    # The schedule of the other databases is theirs, and they are not in this one.
    assert "--config" not in host.cron_table.read_text(encoding="utf-8")
    assert "infisical" not in (host.root / "etc" / "db.env").read_text(encoding="utf-8").partition("DB_TYPE")[0]


def test_a_lost_host_gets_it_back_where_that_is_asked_for(host: Host) -> None:
    before = scene.rows(host.cluster, VAULT)
    kept = objects(host)
    host.cluster.destroy()
    host.cluster.start()
    good(play(host, "bootstrap"))
    assert VAULT.identity is not None
    key = {"infisical_restore_from_s3": True, "infisical_backup_age_private_key": VAULT.identity.reveal()}
    wrong = {**key, "infisical_backup_age_private_key": str(pyrage.x25519.Identity.generate())}
    assert play(host, **wrong).status != 0

    planned = good(play(host, "infisical", "--check", **key))
    assert "infisical" not in host.names(), planned.output
    good(play(host, **key))
    assert scene.rows(host.cluster, VAULT) == before
    assert objects(host) == kept

    # And never again, though it is still asked for.
    host.cluster.psql("CREATE TABLE since AS SELECT 1 AS id", "infisical")
    assert good(play(host, **key)).changed == 0
    assert host.cluster.psql("SELECT id FROM since", "infisical") == "1"
    assert back_up(host).returncode == 0


def test_the_command_restores_it(host: Host) -> None:
    assert VAULT.identity is not None
    done = host.script(
        "restore.sh",
        "--config",
        str(host.root / "etc" / "infisical"),
        "infisical",
        "infisical/",
        AGE_PRIVATE_KEY=VAULT.identity.reveal(),
    )
    assert done.returncode == 0, done.stderr
