# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One inventory, and the same effect of its settings in backup.sh, restore.sh, the playbooks and a fresh cluster.

tests/unit/test_front_ends.py compares every setting; here a few are seen at work.
"""

from __future__ import annotations

import json
import pathlib
import shutil
import typing as t

import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain import envfile

from tests.support import scene
from tests.support.controller import Run
from tests.support.host import BUCKET, Host, new_host

#: Neither trusted nor known to be harmless.
EXTENSION = "dblink"
SETTINGS = {
    "infrazero_backup_compression": "zstd",
    "infrazero_backup_jobs": 2,
    "infrazero_restore_extensions": [EXTENSION],
    # A third of a second: every backup is older when it is restored.
    "infrazero_restore_max_age": 0.0001,
    "infrazero_restore_keep_replaced": 0,
}
REFUSED = f"extension {EXTENSION!r}"
OLD = "hours old, more than"


@pytest.fixture(scope="module")
def host() -> t.Iterator[Host]:
    with new_host(scene.entry("app")) as running:
        environment = running.bring_private_list(running.entries)
        run = running.controller().play("bootstrap", environment=environment, **SETTINGS)
        assert run.status == 0, run.output
        scene.fill(running.cluster, running.databases[0])
        running.cluster.psql(f"CREATE EXTENSION {EXTENSION}", "app")
        yield running


def dumps(host: Host) -> list[str]:
    """Keys of all dumps in the bucket."""
    listed = host.server.client().list_objects_v2(Bucket=BUCKET, Prefix="db/app/").get("Contents", [])
    return [each["Key"] for each in listed if each["Key"].endswith(".age") and ".infrazero/" not in each["Key"]]


def play(host: Host, playbook: str, *arguments: str, **variables: t.Any) -> Run:
    """Run a playbook at its most talkative; no secret of the inventory or the host may be in its output."""
    run = host.controller().play(playbook, "-vvvvv", *arguments, infrazero_databases=host.entries, **variables)
    (entry,) = host.entries
    for secret in (host.server.secret_key, entry["password"], entry["backup_age_private_key"]):
        assert secret not in run.output
    return run


RESTORE = ("--extra-vars", "database=app from=db/app/ confirm=yes")


def test_compression_and_jobs(host: Host) -> None:
    done = host.script("backup.sh")
    assert done.returncode == 0, done.stderr
    run = play(host, "backup", **SETTINGS)
    assert run.status == 0, run.output
    # And where the inventory says nothing any more, as the host is configured.
    run = play(host, "backup")
    assert run.status == 0, run.output
    found = dumps(host)
    # The first is the bootstrap's.
    assert len(found) == 4
    assert {"".join(pathlib.PurePath(key).suffixes) for key in found} == {".sql.zst.age"}


def test_a_relative_configuration_directory(host: Host) -> None:
    """With other settings than the host's own, so that it is really this directory that is read."""
    other = host.root / "other"
    shutil.copytree(host.root / "etc", other)
    for path in (other, *other.rglob("*")):
        shutil.chown(path, "postgres", "postgres")
    with (other / "db.env").open("a") as settings:
        settings.write("DB_BACKUP_COMPRESSION=none\n")
    before = dumps(host)
    done = host.script("backup.sh", "--config", "other", cwd=host.root)
    assert done.returncode == 0 and "number" in done.stdout and "not signed" not in done.stdout, done
    (made,) = {*dumps(host)} - {*before}
    assert made.endswith(".sql.age")
    key = host.entries[0]["backup_age_private_key"]
    done = host.script("restore.sh", "app", made, "--config", "../other", cwd=host.root / "etc", AGE_PRIVATE_KEY=key)
    assert done.returncode == 0, done.stderr


def test_secrets_in_files(host: Host) -> None:
    """As a container has them: the list, a password in it, the secret of the bucket and the private key."""
    other, secrets = host.root / "container", host.root / "secrets"
    shutil.copytree(host.root / "etc", other)
    secrets.mkdir()
    (entry,) = host.entries
    key, password = entry.pop("backup_age_private_key"), entry.pop("password")
    values = envfile.parse((other / "db.env").read_text(encoding="utf-8"), name="db.env")
    files = {
        "list": json.dumps([{**entry, "password_file": "../secrets/password"}]),
        "password": password,
        "bucket": values["S3_SECRET_ACCESS_KEY"],
        "key": f"# created: today\n{key}",
    }
    for name, text in files.items():
        (secrets / name).write_text(f"{text}\n", encoding="utf-8")
        (secrets / name).chmod(0o600)
    values.update(DATABASES_JSON="", S3_SECRET_ACCESS_KEY="")
    values.update(DATABASES_JSON_FILE="../secrets/list", S3_SECRET_ACCESS_KEY_FILE=f"{secrets}/bucket")
    (other / "db.env").write_text(envfile.render(values), encoding="utf-8")
    for path in (other, *other.rglob("*"), *secrets.iterdir()):
        shutil.chown(path, "postgres", "postgres")
    before = dumps(host)
    done = host.script("backup.sh", "--config", str(other))
    assert done.returncode == 0, done.stderr
    (made,) = {*dumps(host)} - {*before}
    arguments = ("app", made, "--config", str(other))
    done = host.script("restore.sh", *arguments, AGE_PRIVATE_KEY_FILE=str(secrets / "key"))
    assert done.returncode == 0, done.stderr
    done = host.script("restore.sh", *arguments, AGE_PRIVATE_KEY_FILE=str(secrets / "none"))
    assert done.returncode == 2 and "DB_RESTORE_AGE_PRIVATE_KEY_FILE" in done.stderr, done


def test_extensions_and_age(host: Host) -> None:
    (database,) = host.databases
    before = host.rows()
    key = database.identity.reveal() if database.identity is not None else ""
    done = host.script("restore.sh", "app", "db/app/", AGE_PRIVATE_KEY=key)
    assert done.returncode == 0 and OLD in done.stderr, done.stderr
    for variables in (SETTINGS, {}):
        run = play(host, "restore", *RESTORE, **variables)
        assert run.status == 0 and OLD in run.output, run.output
    assert host.rows() == before
    # Without the setting, each of them refuses: it is what allows them.
    run = play(host, "restore", *RESTORE, infrazero_restore_extensions=[])
    assert run.status != 0 and REFUSED in run.output
    done = host.script("restore.sh", "app", "db/app/", "--extensions", "citext", AGE_PRIVATE_KEY=key)
    assert done.returncode == 1 and REFUSED in done.stderr


def test_a_fresh_cluster_is_restored_with_them(host: Host) -> None:
    before = host.rows()
    host.cluster.destroy()
    host.cluster.start()
    environment = host.bring_private_list(host.entries)
    run = host.controller().play("bootstrap", environment=environment, **SETTINGS)
    assert run.status == 0 and "restored=1 empty=0 skipped=0 failed=0" in run.output, run.output
    assert OLD in run.output
    assert host.rows() == before


def test_a_time_limit(host: Host) -> None:
    """A statement of the dump that takes longer than the limit: the error names the setting for every reader."""
    host.cluster.psql(
        "CREATE FUNCTION slow() RETURNS int LANGUAGE sql AS 'SELECT 1 FROM pg_sleep(3)';"
        "CREATE MATERIALIZED VIEW m AS SELECT slow()",
        "app",
    )
    assert host.script("backup.sh").returncode == 0
    (database,) = host.databases
    key = database.identity.reveal() if database.identity is not None else ""
    hint = "statement_timeout (--statement-timeout, DB_RESTORE_STATEMENT_TIMEOUT)"
    done = host.script("restore.sh", "app", "db/app/", AGE_PRIVATE_KEY=key, STATEMENT_TIMEOUT="1")
    assert done.returncode == 1 and hint in done.stderr, done.stderr
    run = play(host, "restore", *RESTORE, infrazero_restore_statement_timeout=1, **SETTINGS)
    assert run.status != 0 and hint in run.output, run.output
