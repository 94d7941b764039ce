# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Backups that a host of ours signed, and what somebody who can write to the store may put in their place."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import pathlib
import subprocess
import typing as t

import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine import outcome
from ansible_collections.infrazero.database.plugins.module_utils._engine.backup import backup
from ansible_collections.infrazero.database.plugins.module_utils._engine.backup.plan import BackupOptions
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain import layout, manifest
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain import trust as trusting
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.databases import Database
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.restoring import RestoreOptions
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.trust import Trust
from ansible_collections.infrazero.database.plugins.module_utils._engine.errors import (
    AccessDenied,
    BackupRefused,
    ChecksumMismatch,
    ForeignSigner,
    ForgedManifest,
    ManifestError,
    NotFound,
    Replayed,
    RevokedSigner,
    SignersMissing,
    StoreError,
    TrustError,
    UnknownSigner,
    Unsigned,
    WrongDatabase,
)
from ansible_collections.infrazero.database.plugins.module_utils._engine.restore import restore
from ansible_collections.infrazero.database.plugins.module_utils._engine.signing import keys as signing_keys
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql import state
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.connection import connect
from ansible_collections.infrazero.database.plugins.module_utils._engine.stores.base import DirectorySettings, Store
from ansible_collections.infrazero.database.plugins.module_utils._engine.stores.directory import DirectoryStore
from ansible_collections.infrazero.database.plugins.module_utils._engine.streams import process

from tests.support import manifests, scene
from tests.support.cluster import Cluster
from tests.support.signing import SigningHost, trust

LATEST = "db/app/latest-dump.json"
NOON = datetime.datetime(2026, 1, 31, 12, tzinfo=datetime.timezone.utc)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return tmp_path_factory.mktemp("keys")


@pytest.fixture(scope="module")
def db1(keys: pathlib.Path) -> SigningHost:
    """The host whose backups these are."""
    return SigningHost.make(keys, "db1")


@pytest.fixture(scope="module")
def db2(keys: pathlib.Path) -> SigningHost:
    """Another host of the fleet."""
    return SigningHost.make(keys, "db2")


@pytest.fixture(scope="module")
def mallory(keys: pathlib.Path) -> SigningHost:
    """Somebody with a key of his own, who calls himself db1."""
    return dataclasses.replace(SigningHost.make(keys, "mallory"), name="db1")


@pytest.fixture
def root(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path


@pytest.fixture
def app(cluster: Cluster) -> Database:
    database = scene.entry("app")
    scene.make(cluster, database, "CREATE TABLE one AS SELECT generate_series(1, 7) AS id")
    return database


def back_up(
    cluster: Cluster,
    store: Store,
    entry: Database,
    *,
    by: SigningHost | None,
    at: datetime.datetime = NOON,
    **rest: t.Any,
) -> dict[str, t.Any]:
    options = BackupOptions(signer=None if by is None else by.signer, **rest)
    made = backup.back_up(entry, settings=cluster.settings, store=store, options=options, moment=at)
    return dict(made.details)


def restored(cluster: Cluster, store: Store, entry: Database, trusted: Trust, **rest: t.Any) -> outcome.Outcome:
    summary = restore.restore_all(
        [entry], settings=cluster.settings, store=store, options=RestoreOptions(trust=trusted), **rest
    )
    return summary.outcomes[0]


def about_backups(result: outcome.Outcome) -> list[str]:
    """The warnings of a restore, without those about databases that earlier restores have replaced."""
    return [text for text in result.details["warnings"] if "replaced before" not in text]


def refused(
    cluster: Cluster, store: Store, entry: Database, trusted: Trust, kind: type[Exception], **rest: t.Any
) -> str:
    """The restore fails with exactly this error, and the database is as it was."""
    look = f"SELECT oid FROM pg_database WHERE datname = '{entry.name}'"
    before = cluster.psql(look), scene.rows(cluster, entry)
    error = restored(cluster, store, entry, trusted, **rest).error
    assert error.__class__ is kind, error
    assert error.hint
    assert (cluster.psql(look), scene.rows(cluster, entry)) == before
    return str(error)


def read(store: Store, key: str = LATEST) -> dict[str, t.Any]:
    return dict(json.loads(store.get(key, limit=1 << 20)))


def write(store: Store, fields: t.Mapping[str, t.Any], key: str = LATEST) -> None:
    store.put(key, json.dumps(fields, sort_keys=True).encode())


def signed_by(host: SigningHost, fields: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """*fields* with a sound signature of *host*'s."""
    said = manifest.parse(json.dumps(fields).encode())
    return dict(json.loads(manifest.render(host.signer.sign(said))))


def test_a_signed_backup_is_restored(cluster: Cluster, store: Store, app: Database, db1: SigningHost) -> None:
    assert back_up(cluster, store, app, by=db1, at=datetime.datetime.now(datetime.timezone.utc))["signed"] is True
    done = restored(cluster, store, app, trust(db1))
    assert done.error is None
    assert done.details["warnings"] == []


def test_jq_and_ssh_keygen_alone_check_a_manifest(
    cluster: Cluster, store: Store, root: pathlib.Path, app: Database, db1: SigningHost, mallory: SigningHost
) -> None:
    back_up(cluster, store, app, by=db1)

    def check(allowed: str) -> subprocess.CompletedProcess[str]:
        (root / "allowed_signers").write_text(allowed)
        # As docs/signing.md has it.
        script = """
        set -eu
        jq --compact-output --join-output --sort-keys 'del(.signature)' latest-dump.json >message
        jq --raw-output .signature latest-dump.json >message.sig
        host=$(jq --raw-output .host latest-dump.json)
        ssh-keygen -Y verify -f allowed_signers -I "$host" -n manifest@infrazero.database -s message.sig <message
        echo "$(jq --raw-output .sha256 latest-dump.json)  $(jq --raw-output .key latest-dump.json)" | sha256sum --check
        """
        (root / "latest-dump.json").write_bytes(store.get(LATEST, limit=1 << 20))
        return subprocess.run(
            ["bash", "-c", script], cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )

    good = check(db1.line)
    assert good.returncode == 0, good.stdout
    assert 'Good "manifest@infrazero.database" signature for db1' in good.stdout and ": OK" in good.stdout
    assert check(mallory.line).returncode != 0
    write(store, {**read(store), "sequence": 2})
    assert check(db1.line).returncode != 0


def test_what_nobody_signed_is_refused(cluster: Cluster, store: Store, app: Database, db1: SigningHost) -> None:
    made = back_up(cluster, store, app, by=None)
    assert any("not signed" in warning for warning in made["warnings"])
    text = refused(cluster, store, app, trust(db1), Unsigned)
    assert "DB_RESTORE_TRUST=unsigned" in text and "infrazero_restore_trust" in text
    refused(cluster, store, app, trust(db1), Unsigned, source=made["key"])
    store.delete(made["manifest"])
    # The dump alone: nothing vouches for it, whatever SHA-256 somebody was told.
    refused(cluster, store, app, trust(db1), Unsigned, source=made["key"], expected_sha256=made["sha256"])
    done = restored(cluster, store, app, Trust(mode=trusting.UNSIGNED), source=made["key"])
    assert done.error is None
    assert any("is not signed" in warning for warning in done.details["warnings"])


def test_an_older_tools_backup_comes_in_when_that_is_said(
    cluster: Cluster, store: Store, app: Database, db1: SigningHost
) -> None:
    made = back_up(cluster, store, app, by=None)
    store.delete(made["manifest"])
    write(store, {name: read(store)[name] for name in ("key", "sha256", "created_at")})
    refused(cluster, store, app, trust(db1), Unsigned)
    assert restored(cluster, store, app, Trust(mode=trusting.UNSIGNED)).error is None


def test_without_signers_it_is_said_what_to_do(cluster: Cluster, store: Store, app: Database, db1: SigningHost) -> None:
    back_up(cluster, store, app, by=db1)
    for nobody in ("", "# none yet\n"):
        text = refused(cluster, store, app, trust(allowed_signers=nobody), SignersMissing)
        assert "infrazero_allowed_signers" in text and "/etc/infrazero" in text


def test_every_field_is_bound(cluster: Cluster, store: Store, app: Database, db1: SigningHost) -> None:
    made = back_up(cluster, store, app, by=db1)
    # Nothing of it may be looked at: were it, the error would be another one.
    store.delete(made["key"])
    honest = read(store)
    assert {"postgresql", "host", "created_at", "sequence", "sha256", "key"} <= set(honest)
    assert {"database", "system_identifier"} <= set(honest["postgresql"])
    changed: dict[str, t.Any] = {
        "key": "db/app/20250101T000000Z.sql.gz.age",
        "sha256": "0" * 64,
        "created_at": "2026-01-31T12:00:01Z",
        "signature": honest["signature"].replace("\n", "", 1),
    }
    for name, value in honest.items():
        other = changed.get(name, value + 1 if isinstance(value, (int, float)) else [] if value else [{"name": "x"}])
        if isinstance(value, str) and name not in changed:
            other = f"{value}1"
        forgeries = [{**honest, name: other}, {key: kept for key, kept in honest.items() if key != name}]
        # Each field of an inner object, too.
        for inner in value if isinstance(value, dict) else ():
            forgeries += [{**honest, name: {**value, inner: f"{value[inner]}1"}}]
            forgeries += [{**honest, name: {key: kept for key, kept in value.items() if key != inner}}]
        for forged in forgeries:
            write(store, forged)
            error = restored(cluster, store, app, trust(db1)).error
            assert isinstance(error, (TrustError, ManifestError)), (name, error)
    write(store, {**honest, "a field of tomorrow": 1})
    assert restored(cluster, store, app, trust(db1)).error.__class__ is ForgedManifest
    write(store, honest)
    assert restored(cluster, store, app, trust(db1)).error.__class__ is NotFound, "the honest one is let through"


def test_a_forgers_backup_is_refused(
    cluster: Cluster, store: Store, app: Database, db1: SigningHost, mallory: SigningHost
) -> None:
    """Whoever has the public age key and can write to the bucket can make a backup that is sound in itself."""
    back_up(cluster, store, app, by=mallory)
    text = refused(cluster, store, app, trust(db1), UnknownSigner)
    assert "ssh-keygen -lf" in text and mallory.signer.host in text
    # Only the word of somebody who isn't trusted says that it is db1.
    done = restored(cluster, store, app, Trust(mode=trusting.UNSIGNED, allowed_signers=db1.line))
    assert any("not trusted" in warning for warning in done.details["warnings"])


def test_a_dump_that_was_encrypted_anew_is_refused(
    cluster: Cluster, store: Store, root: pathlib.Path, app: Database, db1: SigningHost, mallory: SigningHost
) -> None:
    made = back_up(cluster, store, app, by=db1)
    honest = read(store)
    path = root / made["key"]
    plain = subprocess.run(["age", "-d", "-i", "-", str(path)], input=_identity(app), stdout=-1, check=True).stdout
    path.unlink()
    subprocess.run(["age", "-r", app.recipients[0], "-o", str(path)], input=plain, check=True)
    refused(cluster, store, app, trust(db1), ChecksumMismatch)
    # ... with a manifest that goes with it.
    size = path.stat().st_size
    digest = subprocess.run(["sha256sum", path], stdout=subprocess.PIPE, text=True, check=True).stdout.split()[0]
    write(store, {**honest, "sha256": digest, "size": size})
    refused(cluster, store, app, trust(db1), ForgedManifest)
    write(store, signed_by(mallory, {**honest, "sha256": digest, "size": size}))
    refused(cluster, store, app, trust(db1), UnknownSigner)


def _identity(entry: Database) -> bytes:
    assert entry.identity is not None
    return entry.identity.reveal().encode()


def test_a_host_signs_for_nobody_else(
    cluster: Cluster, store: Store, app: Database, db1: SigningHost, db2: SigningHost
) -> None:
    back_up(cluster, store, app, by=dataclasses.replace(db2, name="db1"))
    assert "a trusted key that is not valid for db1" in refused(cluster, store, app, trust(db1, db2), UnknownSigner)


def test_another_hosts_backup_is_refused_unless_it_is_named(
    cluster: Cluster, store: Store, app: Database, db1: SigningHost, db2: SigningHost
) -> None:
    """Root on db2 has a key that the fleet knows, and credentials that can write where db1's backups are."""
    back_up(cluster, store, app, by=db1)
    cluster.psql("CREATE TABLE planted AS SELECT 1 AS id", database="app")
    made = back_up(cluster, store, app, by=db2, at=NOON + datetime.timedelta(hours=1), take_over=True)
    fleet = trust(db1, db2, max_age=None)
    for source in (LATEST, made["key"], made["manifest"]):
        text = refused(cluster, store, app, fleet, ForeignSigner, source=source)
        assert "was signed by db2, whose backups of 'app' are not accepted" in text
        assert "accepted from db1;" in text
        for way in ("backup_signers: [db2]", 'infrazero_signers: {"app": ["db2"]}', "--signer db2"):
            assert way in text
    refused(cluster, store, app, fleet, ForeignSigner, plan_only=True)
    # Nor by the name of another database, or of another prefix.
    elsewhere = dataclasses.replace(fleet, signers={"other": ("db2",), "db/other/": ("db2",)})
    refused(cluster, store, app, elsewhere, ForeignSigner)
    named = dataclasses.replace(app, backup_signers=("db2",))
    meant = [
        (named, fleet),
        (app, dataclasses.replace(fleet, signers={"app": ("db2",)})),
        (app, dataclasses.replace(fleet, signers={"db/app/": ("db2",)})),
        (app, dataclasses.replace(fleet, once=("db2",))),
    ]
    for entry, trusted in meant:
        plan = restored(cluster, store, entry, trusted, plan_only=True)
        assert plan.error is None and plan.details["warnings"] == []
        assert plan.details["signed_by"]["name"] == "db2"
    done = restored(cluster, store, named, fleet)
    assert done.error is None
    assert done.details["signed_by"] == {"name": "db2", "key": trusting.fingerprint(db2.public_key.split()[1])}
    unsigned = restored(cluster, store, app, dataclasses.replace(fleet, mode=trusting.UNSIGNED), plan_only=True)
    assert any(
        "restored without verification" in warning and "db2" in warning for warning in unsigned.details["warnings"]
    )
    assert unsigned.details["signed_by"] is None


def test_a_renamed_hosts_backups_are_accepted_where_its_key_has_both_names(
    cluster: Cluster, store: Store, app: Database, db1: SigningHost
) -> None:
    renamed = dataclasses.replace(db1, name="ip-10-0-0-1")
    back_up(cluster, store, app, by=renamed)
    both = f"ip-10-0-0-1,{db1.line}"
    assert restored(cluster, store, app, trust(allowed_signers=both, name="db1")).error is None
    refused(cluster, store, app, trust(allowed_signers=renamed.line, name="db1"), ForeignSigner)
    # The key must have had the accepted name when the backup was made.
    late = renamed.line + f'db1 valid-after="20260131120001" {db1.public_key}\n'
    refused(cluster, store, app, trust(allowed_signers=late, name="db1"), ForeignSigner)


def test_a_host_accepts_what_its_own_key_has_signed(
    cluster: Cluster, store: Store, app: Database, db1: SigningHost, db2: SigningHost
) -> None:
    """Also before its line was gathered, and under the name that it had before."""
    back_up(cluster, store, app, by=dataclasses.replace(db1, name="ip-10-0-0-1"))
    own = trust(allowed_signers="", name="db1", own_key=db1.public_key)
    assert restored(cluster, store, app, own).error is None
    revoked = dataclasses.replace(own, revoked_keys=db1.public_key + "\n")
    refused(cluster, store, app, revoked, RevokedSigner)
    refused(cluster, store, app, dataclasses.replace(own, own_key=db2.public_key), SignersMissing)
    write(store, {**read(store), "sequence": 2})
    refused(cluster, store, app, own, ForgedManifest)


def test_a_manifest_under_another_backups_name_is_refused(
    cluster: Cluster, store: Store, app: Database, db1: SigningHost
) -> None:
    first = back_up(cluster, store, app, by=db1)
    second = back_up(cluster, store, app, by=db1, at=NOON + datetime.timedelta(hours=1))
    store.put(second["manifest"], store.get(first["manifest"], limit=1 << 20))
    refused(cluster, store, app, trust(db1), Replayed, source=second["manifest"])
    # The dump itself: the manifest beside it is not its own, so there is none.
    refused(cluster, store, app, trust(db1), Unsigned, source=second["key"])


def test_another_tenants_backup_is_refused(cluster: Cluster, store: Store, app: Database, db1: SigningHost) -> None:
    other = scene.entry("other")
    scene.make(cluster, other, "CREATE TABLE theirs AS SELECT 1 AS id")
    back_up(cluster, store, other, by=db1)
    mine = back_up(cluster, store, app, by=db1)
    theirs = store.get("db/other/latest-dump.json", limit=1 << 20)
    store.put(LATEST, theirs)
    store.put(mine["manifest"], theirs)
    for mode in trusting.MODES:
        refused(cluster, store, app, trust(db1, mode=mode), WrongDatabase)
        refused(cluster, store, app, trust(db1, mode=mode), WrongDatabase, source=mine["manifest"])
    # On purpose, by name, it stays possible, and is said.
    key = dataclasses.replace(app, identity=other.identity)
    done = restored(cluster, store, key, trust(db1), source="db/other/")
    assert done.error is None
    assert any("of the database 'other'" in warning for warning in done.details["warnings"])


def test_a_latest_that_was_rolled_back_is_said(
    cluster: Cluster, store: Store, app: Database, db1: SigningHost, mallory: SigningHost
) -> None:
    first = back_up(cluster, store, app, by=db1)
    second = back_up(cluster, store, app, by=db1, at=NOON + datetime.timedelta(hours=1))
    store.put(LATEST, store.get(first["manifest"], limit=1 << 20))
    # A stranger's newer one doesn't count, nor does one that can't be read.
    planted = {**read(store), "key": "db/app/20260201T000000Z.sql.gz.age", "sequence": 9}
    write(store, signed_by(mallory, planted), "db/app/20260201T000000Z.manifest.json")
    store.put("db/app/20260202T000000Z.manifest.json", b"junk")
    store.put("db/app/20260203T000000Z.manifest.json", store.get(first["manifest"], limit=1 << 20))
    text = " ".join(restored(cluster, store, app, trust(db1)).details["warnings"])
    assert "number 1 of 2026-01-31T12:00:00Z, but there is number 2" in text and second["key"] in text
    assert "hours old, more than 48" in text
    relaxed = restored(cluster, store, app, trust(db1, max_age=None), source=second["key"])
    assert about_backups(relaxed) == []


def test_the_next_backup_follows_the_newest_whatever_latest_says(
    cluster: Cluster, store: Store, app: Database, db1: SigningHost, mallory: SigningHost
) -> None:
    first = back_up(cluster, store, app, by=db1)
    second = back_up(cluster, store, app, by=db1, at=NOON + datetime.timedelta(hours=1))
    newest = store.get(LATEST, limit=1 << 20)
    store.put(LATEST, store.get(first["manifest"], limit=1 << 20))
    planted = {**read(store), "key": "db/app/20260131T140000Z.sql.gz.age", "sequence": 9}
    write(store, signed_by(mallory, planted), "db/app/20260131T140000Z.manifest.json")
    # Nor does an honest one that somebody has copied.
    store.put("db/app/20260131T143000Z.manifest.json", store.get(first["manifest"], limit=1 << 20))
    third = back_up(cluster, store, app, by=db1, at=NOON + datetime.timedelta(hours=3))
    assert third["sequence"] == 3
    assert any(second["key"] in warning for warning in third["warnings"])
    assert read(store)["previous_sha256"] == manifest.digest(newest)


# Roll-backs and strangers -------------------------------------------------------------------------------------------


def forget(cluster: Cluster) -> None:
    """The cluster has recorded nothing, as one that has come from release 0.1."""
    cluster.psql("DROP SCHEMA IF EXISTS infrazero CASCADE")


def litter(store: Store, count: int, *, after: datetime.datetime) -> None:
    """Unsigned manifests that are newer than anything, as anyone with write access can leave them."""
    for number in range(count):
        moment = after + datetime.timedelta(seconds=number)
        key = f"db/app/{moment:%Y%m%dT%H%M%SZ}"
        fields = {"key": f"{key}.sql.gz.age", "sha256": "0" * 64, "created_at": f"{moment:%Y-%m-%dT%H:%M:%SZ}"}
        write(store, {**fields, "schema_version": 1, "database": "app", "sequence": 2**53 - 2}, f"{key}.manifest.json")


@pytest.mark.parametrize("recorded", [True, False])
@pytest.mark.parametrize("ahead", [datetime.timedelta(hours=3), datetime.timedelta(days=36500)])
def test_junk_does_not_hide_a_roll_back(
    cluster: Cluster, store: Store, app: Database, db1: SigningHost, *, recorded: bool, ahead: datetime.timedelta
) -> None:
    first = back_up(cluster, store, app, by=db1)
    second = back_up(cluster, store, app, by=db1, at=NOON + datetime.timedelta(hours=1))
    newest = store.get(LATEST, limit=1 << 20)
    store.put(LATEST, store.get(first["manifest"], limit=1 << 20))
    litter(store, 10, after=NOON + ahead)
    if not recorded:
        forget(cluster)
    text = " ".join(restored(cluster, store, app, trust(db1), plan_only=True).details["warnings"])
    assert "latest is number 1 of" in text and "there is number 2 of" in text
    assert f"to restore the newer one, name {second['key']}" in text
    assert ("this cluster has made number 2" in text) is recorded
    assert "10 newer manifests are unreadable or not signed" in text
    third = back_up(cluster, store, app, by=db1, at=NOON + datetime.timedelta(hours=2))
    assert (third["sequence"], third["previous"], third["previous_signed_by"]["name"]) == (3, second["key"], "db1")
    assert read(store)["previous_sha256"] == manifest.digest(newest)
    warnings = " ".join(third["warnings"])
    assert "latest is number 1 of" in warnings and "number 2 of" in warnings and "10 newer manifests" in warnings


def test_the_cluster_knows_what_was_deleted_from_the_store(
    cluster: Cluster, store: Store, app: Database, db1: SigningHost
) -> None:
    first = back_up(cluster, store, app, by=db1)
    second = back_up(cluster, store, app, by=db1, at=NOON + datetime.timedelta(hours=1))
    newest = store.get(LATEST, limit=1 << 20)
    store.put(LATEST, store.get(first["manifest"], limit=1 << 20))
    store.delete(second["manifest"])
    store.delete(second["key"])
    (warning,) = about_backups(restored(cluster, store, app, trust(db1, max_age=None), plan_only=True))
    assert "latest is number 1 of" in warning and "this cluster has made number 2" in warning
    third = back_up(cluster, store, app, by=db1, at=NOON + datetime.timedelta(hours=2))
    assert third["sequence"] == 3 and read(store)["previous_sha256"] == manifest.digest(newest)
    # Also where there is nothing at all.
    store.delete(LATEST)
    store.delete(third["manifest"])
    fourth = back_up(cluster, store, app, by=db1, at=NOON + datetime.timedelta(hours=3))
    assert fourth["sequence"] == 4 and any(
        "the latest manifest is missing" in warning for warning in fourth["warnings"]
    )


def test_a_cluster_knows_what_it_was_restored_from(
    cluster: Cluster, store: Store, app: Database, db1: SigningHost
) -> None:
    first = back_up(cluster, store, app, by=db1)
    second = back_up(cluster, store, app, by=db1, at=NOON + datetime.timedelta(hours=1))
    # Of the cluster that this host had before.
    old, new = (
        signed_by(db1, manifests.changed(read(store, one["manifest"]), system_identifier="1"))
        for one in (first, second)
    )
    write(store, new)
    for one in (first, second):
        store.delete(one["manifest"])
    forget(cluster)
    assert restored(cluster, store, app, trust(db1)).error is None
    write(store, old)
    (warning,) = about_backups(restored(cluster, store, app, trust(db1, max_age=None), plan_only=True))
    assert "latest is number 1 of" in warning and "was restored from number 2 of" in warning
    third = back_up(cluster, store, app, by=db1, at=NOON + datetime.timedelta(hours=2))
    assert third["sequence"] == 3 and any("rolled back" in warning for warning in third["warnings"])
    digest = manifest.digest(json.dumps(new, sort_keys=True).encode())
    assert read(store)["previous_sha256"] == digest


POISON = 2**53 - 2


@pytest.mark.parametrize("recorded", [True, False])
def test_an_unsigned_latest_neither_stops_nor_numbers_the_next_backup(
    cluster: Cluster, store: Store, app: Database, db1: SigningHost, *, recorded: bool
) -> None:
    back_up(cluster, store, app, by=db1)
    newest = store.get(LATEST, limit=1 << 20)
    planted = {**read(store), "sequence": POISON, "created_at": "2099-01-01T00:00:00Z"}
    del planted["signature"]
    write(store, planted)
    if not recorded:
        forget(cluster)
    second = back_up(cluster, store, app, by=db1, at=NOON + datetime.timedelta(hours=1))
    assert second["sequence"] == 2 and read(store)["previous_sha256"] == manifest.digest(newest)
    assert any("is ignored" in warning for warning in second["warnings"])
    assert back_up(cluster, store, app, by=db1, at=NOON + datetime.timedelta(hours=2))["sequence"] == 3


def test_an_older_tools_latest_is_passed_over(cluster: Cluster, store: Store, app: Database, db1: SigningHost) -> None:
    write(
        store, {"key": "db/app/20250101T000000Z.sql.gz.age", "sha256": "0" * 64, "created_at": "2025-01-01T00:00:00Z"}
    )
    made = back_up(cluster, store, app, by=db1)
    assert (made["sequence"], made["previous"]) == (1, None) and "previous_sha256" not in read(store)
    assert any("is ignored" in warning for warning in made["warnings"])


@pytest.mark.parametrize("plant", ["unsigned", "stranger", "other host", "other database", "junk", "huge"])
def test_a_latest_of_somebody_else_is_followed_by_nobody(
    cluster: Cluster,
    store: Store,
    root: pathlib.Path,
    app: Database,
    db1: SigningHost,
    db2: SigningHost,
    mallory: SigningHost,
    *,
    plant: str,
) -> None:
    theirs = {**_of_another_cluster(cluster, store, app, db1), "sequence": POISON}
    unsigned = {name: value for name, value in theirs.items() if name != "signature"}
    planted = {
        "unsigned": unsigned,
        "stranger": signed_by(mallory, unsigned),
        "other host": signed_by(db2, {**unsigned, "host": "db2"}),
        "other database": signed_by(db1, manifests.changed(unsigned, database="other")),
    }

    def somebody_overwrites() -> None:
        if plant in planted:
            write(store, planted[plant])
        elif plant == "junk":
            store.put(LATEST, b"{")
        else:
            with (root / LATEST).open("wb") as file:
                file.truncate(manifest.MAX_BYTES + 1)

    somebody_overwrites()
    fleet = trust(db1, db2)

    def run(hours: int, **rest: t.Any) -> dict[str, t.Any]:
        return back_up(cluster, store, app, by=db1, at=NOON + datetime.timedelta(hours=hours), trust=fleet, **rest)

    with pytest.raises(BackupRefused, match="must not be backed up to") as raised:
        run(1)
    assert "not that of a backup that this host accepts" in raised.value.cause and "--take-over" in raised.value.hint
    taken = run(1, take_over=True)
    assert taken["sequence"] == 1
    (warning,) = (warning for warning in taken["warnings"] if warning.startswith("taken over: "))
    assert "numbering starts again with 1" in warning
    # From now on the cluster knows that it was here.
    somebody_overwrites()
    if plant in ("stranger", "other host"):
        # It may be a host that has taken this one's place, and its backup the better one.
        with pytest.raises(BackupRefused, match="must not be backed up to") as raised:
            run(2)
        assert "names another cluster" in raised.value.cause
        assert run(2, take_over=True)["sequence"] == 2
        return
    second = run(2)
    assert (second["sequence"], second["previous"]) == (2, taken["key"])
    assert any("somebody has overwritten the latest manifest" in warning for warning in second["warnings"])


def _of_another_cluster(cluster: Cluster, store: Store, app: Database, host: SigningHost) -> dict[str, t.Any]:
    """A latest manifest of another cluster; nothing else is left."""
    made = back_up(cluster, store, app, by=host)
    fields = manifests.changed(read(store), system_identifier="1")
    for key in (LATEST, made["manifest"], made["key"]):
        store.delete(key)
    forget(cluster)
    return fields


def test_what_was_restored_on_trust_is_followed_but_not_counted(
    cluster: Cluster, store: Store, app: Database, db1: SigningHost
) -> None:
    back_up(cluster, store, app, by=None)
    write(store, manifests.changed(read(store), system_identifier="1", sequence=POISON))
    chosen = store.get(LATEST, limit=1 << 20)
    forget(cluster)
    assert restored(cluster, store, app, trust(db1, mode=trusting.UNSIGNED)).error is None
    made = back_up(cluster, store, app, by=db1, at=NOON + datetime.timedelta(hours=1))
    assert made["sequence"] == 1 and read(store)["previous_sha256"] == manifest.digest(chosen)
    assert any("this database was restored from it" in warning for warning in made["warnings"])


def test_a_host_that_can_not_sign_can_take_a_poisoned_prefix_over(
    cluster: Cluster, store: Store, app: Database
) -> None:
    back_up(cluster, store, app, by=None)
    write(store, {**read(store), "sequence": POISON})

    def run(hours: int, **rest: t.Any) -> dict[str, t.Any]:
        return back_up(cluster, store, app, by=None, at=NOON + datetime.timedelta(hours=hours), **rest)

    with pytest.raises(BackupRefused, match="must not be backed up to"):
        run(1)
    assert run(1, take_over=True)["sequence"] == 2
    assert run(2)["sequence"] == 3


def test_no_unsigned_backup_hides_a_signed_one(cluster: Cluster, store: Store, app: Database, db1: SigningHost) -> None:
    """A host that has lost its key, or looks for it in the wrong place."""
    made = back_up(cluster, store, app, by=db1)
    signed = store.get(LATEST, limit=1 << 20)

    def run(hours: int, **rest: t.Any) -> dict[str, t.Any]:
        return back_up(cluster, store, app, by=None, at=NOON + datetime.timedelta(hours=hours), **rest)

    with pytest.raises(BackupRefused, match="must not be backed up without a signature") as refusal:
        run(1)
    assert "signing_key" in refusal.value.hint and "--allow-unsigned" in refusal.value.hint
    with pytest.raises(BackupRefused, match="must not be backed up without a signature"):
        run(1, take_over=True)
    assert store.get(LATEST, limit=1 << 20) == signed
    # A new host has only the store's word for it.
    forget(cluster)
    with pytest.raises(BackupRefused, match="must not be backed up without a signature"):
        run(1)
    allowed = run(1, allow_unsigned=True)
    assert read(store)["allow_unsigned"] is True
    assert any("allowed by allow_unsigned" in warning for warning in allowed["warnings"])
    text = refused(cluster, store, app, trust(db1), Unsigned)
    assert f"restore {made['key']} (backup of " in text and "signed by db1)" in text
    done = restored(cluster, store, app, trust(db1, mode=trusting.UNSIGNED), plan_only=True)
    assert any(
        warning.startswith(f"an accepted host has signed another backup: {made['key']} (backup of ")
        for warning in done.details["warnings"]
    )
    run(2)
    assert "allow_unsigned" not in read(store)


def test_an_unsigned_latest_does_not_make_a_host_forget_that_it_signs(
    cluster: Cluster, store: Store, app: Database, db1: SigningHost
) -> None:
    """Somebody has put an unsigned latest there, and the host has lost its key."""
    back_up(cluster, store, app, by=db1)
    write(store, {name: value for name, value in read(store).items() if name != "signature"})
    with pytest.raises(BackupRefused, match="must not be backed up without a signature"):
        back_up(cluster, store, app, by=None, at=NOON + datetime.timedelta(hours=1))


def test_a_restore_names_the_newest_signed_backup(
    cluster: Cluster, store: Store, app: Database, db1: SigningHost, mallory: SigningHost
) -> None:
    back_up(cluster, store, app, by=db1)
    newest = back_up(cluster, store, app, by=db1, at=NOON + datetime.timedelta(hours=1))
    for hours, host in ((2, None), (3, mallory)):
        forged = {**read(store, newest["manifest"]), "key": f"db/app/2026013{hours}T120000Z.sql.gz.age"}
        del forged["signature"]
        write(store, forged if host is None else signed_by(host, forged))
        write(store, read(store), f"db/app/2026013{hours}T120000Z.manifest.json")
        store.put(forged["key"], b"x")
        text = refused(cluster, store, app, trust(db1), Unsigned if host is None else UnknownSigner)
        assert f"{newest['key']} (backup of " in text and "signed by db1)" in text


def _published(host: SigningHost) -> str:
    return layout.signer_key("db/app/", host.name, host.signer.signed.key)


def test_the_public_key_is_stored_beside_the_backups(
    cluster: Cluster, store: Store, root: pathlib.Path, app: Database, db1: SigningHost
) -> None:
    for hours in (0, 1):
        assert back_up(cluster, store, app, by=db1, at=NOON + datetime.timedelta(hours=hours))["warnings"] == []
    path = pathlib.Path(store.url(_published(db1)))
    shown = subprocess.run(["ssh-keygen", "-lf", path], stdout=subprocess.PIPE, text=True, check=True).stdout
    assert db1.signer.signed.key in shown and shown.split()[2] == "db1"
    # On another host, which does not know it, the error names it with the steps.
    text = refused(cluster, store, app, trust(allowed_signers="db9 ssh-ed25519 AAAA\n"), UnknownSigner)
    assert f"the key is published as {path}, which proves nothing" in text
    assert db1.signer.signed.key in text and "--signer db1" in text and "unsigned" not in text


def test_a_planted_public_key_changes_nothing(
    cluster: Cluster, store: Store, app: Database, db1: SigningHost, mallory: SigningHost
) -> None:
    """Whoever can write to the bucket puts a key where the host's own will be, or beside it."""
    for key in (_published(db1), _published(mallory), "db/app/signers/allowed_signers"):
        store.put(key, f"{mallory.public_key} db1\n".encode())
    assert back_up(cluster, store, app, by=db1)["warnings"] == []
    assert store.get(_published(db1), limit=4096) == f"{mallory.public_key} db1\n".encode()
    # It is not mistaken for the key that has signed the backup.
    text = refused(cluster, store, app, trust(allowed_signers="db9 ssh-ed25519 AAAA\n"), UnknownSigner)
    assert "is published as" not in text
    assert restored(cluster, store, app, trust(db1)).error is None
    # A backup that is signed with the planted key stays one of an unknown signer.
    back_up(cluster, store, app, by=mallory, at=NOON + datetime.timedelta(hours=1), take_over=True)
    refused(cluster, store, app, trust(db1), UnknownSigner)


class _Keyless(DirectoryStore):
    """A store whose policy does not let a host store its public key."""

    def put_if_absent(self, key: str, data: bytes) -> None:
        if key.endswith(".pub"):
            raise AccessDenied("not allowed", hint="ask the operator")
        super().put_if_absent(key, data)


def test_a_backup_is_good_without_its_published_key(
    cluster: Cluster, root: pathlib.Path, app: Database, db1: SigningHost
) -> None:
    store = _Keyless(DirectorySettings(str(root)))
    (warning,) = back_up(cluster, store, app, by=db1)["warnings"]
    assert warning.startswith("the backup is good, but the public key of this host could not be stored as ")
    assert restored(cluster, store, app, trust(db1)).error is None


class _Counting(DirectoryStore):
    """A store that counts what is read of it."""

    reads = 0

    def get(self, key: str, *, limit: int) -> bytes:
        self.reads += 1
        return super().get(key, limit=limit)


@pytest.mark.parametrize(("believed", "readable"), [(True, True), (True, False), (False, False)])
def test_reads_do_not_grow_with_what_others_leave_in_the_store(
    cluster: Cluster,
    store: Store,
    root: pathlib.Path,
    app: Database,
    db1: SigningHost,
    *,
    believed: bool,
    readable: bool,
) -> None:
    back_up(cluster, store, app, by=db1)
    if not believed:
        write(store, {name: read(store)[name] for name in ("key", "sha256", "created_at")})
    litter(store, 1500, after=NOON + datetime.timedelta(minutes=1))
    if not readable:
        for path in (root / "db" / "app").glob("*.manifest.json"):
            if "T120000" not in path.name:
                path.write_bytes(b"{" + path.read_bytes())
    counting = _Counting(DirectorySettings(path=str(root)))
    plan = restored(
        cluster, counting, app, trust(db1, mode=trusting.SIGNED if believed else trusting.UNSIGNED), plan_only=True
    )
    # Twice the newest ones at most: those that are newer than latest, and those that an accepted host has signed.
    assert plan.error is None and counting.reads < 50
    assert any("1480 more were not read" in warning for warning in plan.details["warnings"])
    counting.reads = 0
    made = back_up(cluster, counting, app, by=db1, at=NOON + datetime.timedelta(hours=1))
    assert made["sequence"] == 2 and counting.reads < 30
    assert any("more were not read" in warning and "write access" in warning for warning in made["warnings"])


def test_one_check_of_a_signature_is_enough(
    cluster: Cluster, store: Store, app: Database, db1: SigningHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    back_up(cluster, store, app, by=db1)
    checks: list[list[str]] = []

    def counted(argv: t.Sequence[str], **rest: t.Any) -> bytes:
        checks.append(list(argv))
        return process.run(argv, **rest)

    monkeypatch.setattr(signing_keys, "run", counted)
    assert restored(cluster, store, app, trust(db1)).error is None
    assert len(checks) == 1
    checks.clear()
    back_up(cluster, store, app, by=db1, at=NOON + datetime.timedelta(hours=1))
    # The host's own key is read, and signs: once before the store completes the object, so that a key that can't sign
    # leaves nothing behind, and once what is published. The manifest before is checked.
    signs = ["-Y", "sign"]
    assert sorted(argv[1:3] for argv in checks) == [signs, signs, ["-Y", "verify"], ["-y", "-P"]]


class _Killed(DirectoryStore):
    """A store at which a run ends before it has moved latest."""

    def put(self, key: str, data: bytes) -> None:
        raise StoreError("the run ends here")


@pytest.mark.parametrize("signs", [True, False])
def test_a_backup_that_was_ended_before_it_moved_latest_keeps_its_number(
    cluster: Cluster, store: Store, root: pathlib.Path, app: Database, db1: SigningHost, *, signs: bool
) -> None:
    by = db1 if signs else None
    killed = _Killed(DirectorySettings(path=str(root)))
    # The very first one, and a later one.
    for hour, ended in ((0, True), (1, False), (2, True), (3, False)):
        at = NOON + datetime.timedelta(hours=hour)
        with pytest.raises(StoreError) if ended else contextlib.nullcontext():
            back_up(cluster, killed if ended else store, app, by=by, at=at)
    chain = [store.get(f"db/app/20260131T1{n}0000Z.manifest.json", limit=1 << 20) for n in (2, 3, 4, 5)]
    links = [(one["sequence"], one.get("previous_sha256")) for one in map(json.loads, chain)]
    assert links == [(n + 1, manifest.digest(chain[n - 1]) if n else None) for n in range(4)]


def test_a_key_is_rotated(cluster: Cluster, store: Store, app: Database, db1: SigningHost, keys: pathlib.Path) -> None:
    old = back_up(cluster, store, app, by=db1)
    new = dataclasses.replace(SigningHost.make(keys, "db1-rotated"), name="db1")
    back_up(cluster, store, app, by=new, at=NOON + datetime.timedelta(hours=1))
    both = trust(db1, new)
    assert restored(cluster, store, app, both).error is None
    assert restored(cluster, store, app, both, source=old["key"]).error is None
    # The old one only for what it signed until then.
    lines = f'db1 valid-before="20260131120001" {db1.public_key}\n{new.line}'
    until = trust(allowed_signers=lines, name="db1")
    assert restored(cluster, store, app, until, source=old["key"]).error is None
    # ... and not at all.
    assert restored(cluster, store, app, trust(new)).error is None
    refused(cluster, store, app, trust(new), UnknownSigner, source=old["key"])


def test_a_lost_hosts_key_is_revoked(cluster: Cluster, store: Store, app: Database, db1: SigningHost) -> None:
    back_up(cluster, store, app, by=db1)
    revoked = trust(db1, revoked_keys=f"# lost\n{db1.public_key} db1\n")
    assert "revoked" in refused(cluster, store, app, revoked, RevokedSigner)
    expired = trust(allowed_signers=f'db1 valid-before="20260131115959" {db1.public_key}\n')
    assert "expired" in refused(cluster, store, app, expired, UnknownSigner)


def test_a_fresh_cluster_is_as_strict(
    cluster: Cluster, store: Store, app: Database, db1: SigningHost, mallory: SigningHost
) -> None:
    back_up(cluster, store, app, by=mallory)
    with contextlib.closing(connect(cluster.settings)) as conn:
        state.begin_bootstrap(conn, {"app": True}, host="here")
        refused(cluster, store, app, trust(db1), UnknownSigner, outstanding_only=True)
        assert state.outstanding(conn) == ("app",)
        assert restored(cluster, store, app, trust(mallory), outstanding_only=True).error is None
        assert state.outstanding(conn) == ()


def test_a_plan_is_as_strict(cluster: Cluster, store: Store, app: Database, db1: SigningHost) -> None:
    back_up(cluster, store, app, by=None)
    refused(cluster, store, app, trust(db1), Unsigned, plan_only=True)
