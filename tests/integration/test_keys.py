# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Backups that are encrypted to other recipients: whoever has the new key restores them, and nobody forges one."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
import pathlib
import subprocess
import typing as t

import pyrage
import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine import outcome
from ansible_collections.infrazero.database.plugins.module_utils._engine.backup import backup
from ansible_collections.infrazero.database.plugins.module_utils._engine.backup.plan import BackupOptions
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain import manifest, recipients
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.databases import Database
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.restoring import RestoreOptions
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.secret import Secret
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.subjects import ClusterGlobals
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.trust import Trust
from ansible_collections.infrazero.database.plugins.module_utils._engine.errors import (
    ChecksumMismatch,
    ConfigurationError,
    ForeignSigner,
    ForgedManifest,
    ManifestError,
    NotFound,
    RevokedSigner,
    StoreError,
    UnknownSigner,
    Unsigned,
    WrongIdentity,
)
from ansible_collections.infrazero.database.plugins.module_utils._engine.keys import rekey
from ansible_collections.infrazero.database.plugins.module_utils._engine.restore import cluster as globals_of
from ansible_collections.infrazero.database.plugins.module_utils._engine.restore import restore
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.base import RecordedGlobals
from ansible_collections.infrazero.database.plugins.module_utils._engine.stores.base import Store
from ansible_collections.infrazero.database.plugins.module_utils._engine.stores.registry import open_store
from ansible_collections.infrazero.database.plugins.module_utils._engine.streams import age

from tests.support import manifests, scene, stores
from tests.support.cluster import Cluster
from tests.support.s3server import S3Server
from tests.support.signing import SigningHost, trust

LATEST = "db/app/latest-dump.json"
NOON = datetime.datetime(2026, 1, 31, 12, tzinfo=datetime.timezone.utc)
NOW = datetime.datetime(2026, 12, 1, 4, tzinfo=datetime.timezone.utc)
FIRST, SECOND = "db/app/20260131T120000Z.sql.gz.age", "db/app/20260201T120000Z.sql.gz.age"


def copy_of(key: str, moment: datetime.datetime = NOW) -> str:
    return key.replace(".sql", f".rekeyed-{moment:%Y%m%dT%H%M%SZ}.sql")


def manifest_of(key: str) -> str:
    return key.partition(".sql")[0] + ".manifest.json"


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, SigningHost]:
    """Hosts that sign: the database's, the controller's and another one; mallory calls himself db1."""
    directory = tmp_path_factory.mktemp("keys")
    made = {name: SigningHost.make(directory, name) for name in ("db1", "office", "db2", "mallory")}
    made["mallory"] = dataclasses.replace(made["mallory"], name="db1")
    return made


@pytest.fixture(scope="module")
def db1(hosts: dict[str, SigningHost]) -> SigningHost:
    return hosts["db1"]


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A directory beside the store, which is in the test's own."""
    return tmp_path_factory.mktemp("folder")


@pytest.fixture
def app(cluster: Cluster) -> Database:
    database = scene.entry("app")
    scene.make(cluster, database)
    scene.fill(cluster, database)
    return database


def rotated(entry: Database, *, more: tuple[str, ...] = ()) -> Database:
    """The entry with a new key pair, and with further recipients."""
    identity = pyrage.x25519.Identity.generate()
    return dataclasses.replace(entry, recipients=(str(identity.to_public()), *more), identity=Secret(str(identity)))


def back_up(
    cluster: Cluster, store: Store, entry: Database, *, by: SigningHost | None, at: datetime.datetime = NOON
) -> dict[str, t.Any]:
    options = BackupOptions(signer=None if by is None else by.signer, trust=Trust() if by is None else trust(by))
    return dict(backup.back_up(entry, settings=cluster.settings, store=store, options=options, moment=at).details)


def options(entry: Database, by: SigningHost | None, trusted: Trust) -> rekey.Options:
    assert entry.identity is not None
    return rekey.Options(
        identities=tuple(age.parse_identities([entry.identity])),
        signer=None if by is None else by.signer,
        trust=trusted,
        owners=recipients.owners([entry]),
    )


def rekeyed(
    store: Store,
    old: Database,
    new: Database,
    *,
    by: SigningHost | None,
    trusted: Trust | None = None,
    keys: t.Collection[str] | None = None,
    moment: datetime.datetime = NOW,
    **rest: t.Any,
) -> dict[str, outcome.Outcome]:
    how = options(old, by, trusted or (Trust() if by is None else trust(by)))
    work = rekey.plan(store, [new], options=how, keys=keys)
    summary = rekey.rekey_all(store, work, options=how, moment=moment, **rest)
    return {one.database: one for one in summary.outcomes}


def statuses(outcomes: t.Mapping[str, outcome.Outcome]) -> dict[str, str]:
    return {key: one.status for key, one in outcomes.items()}


def error_of(outcomes: t.Mapping[str, outcome.Outcome], key: str = FIRST) -> Exception | None:
    return outcomes[key].error


def restored(
    cluster: Cluster, store: Store, entry: Database, trusted: Trust, source: str | None = None
) -> outcome.Outcome:
    summary = restore.restore_all(
        [entry], settings=cluster.settings, store=store, options=RestoreOptions(trust=trusted), source=source
    )
    return summary.outcomes[0]


def read(store: Store, key: str = LATEST) -> dict[str, t.Any]:
    return dict(json.loads(store.get(key, limit=1 << 20)))


def contents(store: Store) -> dict[str, bytes]:
    return {key: store.get(key, limit=1 << 30) for key in stores.keys(store)}


def test_every_backup_is_rekeyed_and_restored_elsewhere(
    cluster: Cluster, fresh_cluster: Cluster, store: Store, app: Database, db1: SigningHost, folder: pathlib.Path
) -> None:
    back_up(cluster, store, app, by=db1)
    back_up(cluster, store, app, by=db1, at=NOON + datetime.timedelta(days=1))
    before, rows = contents(store), scene.rows(cluster, app)
    escrow = pyrage.x25519.Identity.generate()
    new = rotated(app, more=(str(escrow.to_public()),))

    planned = rekeyed(store, app, new, by=db1, plan_only=True)
    assert statuses(planned) == {FIRST: "planned", SECOND: "planned"} and contents(store) == before
    done = rekeyed(store, app, new, by=db1)
    assert statuses(done) == {FIRST: "rekeyed", SECOND: "rekeyed"}
    assert [done[key].details["latest"] for key in (FIRST, SECOND)] == [False, True]
    after = contents(store)
    added = {copy_of(key) for key in (FIRST, SECOND)} | {manifest_of(copy_of(key)) for key in (FIRST, SECOND)}
    assert set(after) == set(before) | added
    assert {key: after[key] for key in before if key != LATEST} == {k: v for k, v in before.items() if k != LATEST}
    assert after[LATEST] == after[manifest_of(copy_of(SECOND))]
    said = read(store)
    assert (said["created_at"], said["sequence"], said["recipients"]) == ("2026-02-01T12:00:00Z", 2, [*new.recipients])
    assert said["postgresql"] == json.loads(before[LATEST])["postgresql"]
    assert manifest.earlier(after[LATEST]) == before[LATEST]
    # All that the oldest readers know.
    assert (said["key"], said["sha256"]) == (copy_of(SECOND), hashlib.sha256(after[copy_of(SECOND)]).hexdigest())
    # What age reads is what it read before.
    for identity in (new.identity, Secret(str(escrow))):
        key = folder / "key.txt"
        key.write_text(identity.reveal() if identity else "")
        opened = subprocess.run(["age", "-d", "-i", key], input=after[copy_of(SECOND)], capture_output=True, check=True)
        assert app.identity is not None
        assert opened.stdout == pyrage.decrypt(before[SECOND], age.parse_identities([app.identity]))
    with pytest.raises(pyrage.DecryptError):
        pyrage.decrypt(after[copy_of(SECOND)], age.parse_identities([t.cast(Secret, app.identity)]))

    assert statuses(rekeyed(store, app, new, by=db1)) == {
        key: "unchanged" for name in (FIRST, SECOND) for key in (name, copy_of(name))
    }
    assert contents(store) == after
    scene.make(fresh_cluster, new)
    for source in (None, copy_of(FIRST), manifest_of(copy_of(FIRST))):
        back = restored(fresh_cluster, store, new, trust(db1), source)
        assert back.status == "restored", back.error
        assert scene.rows(fresh_cluster, new) == rows
        assert back.details["verified"] and back.details["signed_by"]["name"] == "db1"

    # The database goes on being backed up, without a word about what has happened.
    more = back_up(cluster, store, new, by=db1, at=NOON + datetime.timedelta(days=2))
    assert (more["sequence"], more["previous"], more["warnings"]) == (3, copy_of(SECOND), [])
    assert read(store)["previous_sha256"] == manifest.digest(after[LATEST])


def test_the_database_that_was_restored_from_it_goes_on(
    cluster: Cluster, fresh_cluster: Cluster, store: Store, app: Database, db1: SigningHost
) -> None:
    """The backup is another cluster's, and the restored one knows it by the manifest that it had then."""
    back_up(cluster, store, app, by=db1)
    scene.make(fresh_cluster, app)
    assert restored(fresh_cluster, store, app, trust(db1)).status == "restored"
    new = rotated(app)
    assert statuses(rekeyed(store, app, new, by=db1)) == {FIRST: "rekeyed"}
    more = back_up(fresh_cluster, store, new, by=db1, at=NOON + datetime.timedelta(days=1))
    assert (more["sequence"], more["previous"]) == (2, copy_of(FIRST))


class Meanwhile:
    """A store where something happens once an object was uploaded."""

    def __init__(self, store: Store, happens: t.Callable[[], object]) -> None:
        self._store = store
        self._happens = happens

    def __getattr__(self, name: str) -> t.Any:
        return getattr(self._store, name)

    def upload(self, key: str, source: t.Any, *, size_hint: int | None = None) -> t.Any:
        done = self._store.upload(key, source, size_hint=size_hint)
        self._happens()
        return done


def test_a_backup_that_runs_while_the_latest_is_rekeyed(
    cluster: Cluster, store: Store, app: Database, db1: SigningHost
) -> None:
    back_up(cluster, store, app, by=db1)
    new, before = rotated(app), store.get(LATEST, limit=1 << 20)
    busy = t.cast(Store, Meanwhile(store, lambda: rekeyed(store, app, new, by=db1)))
    more = back_up(cluster, busy, new, by=db1, at=NOON + datetime.timedelta(days=1))
    assert copy_of(FIRST) in stores.keys(store)
    assert (more["sequence"], read(store)["key"]) == (2, SECOND)
    # It follows the manifest that it saw, which the copy's names.
    assert read(store)["previous_sha256"] == manifest.digest(before)
    assert read(store, manifest_of(copy_of(FIRST)))["rekeyed"]["sha256"] == manifest.digest(before)
    assert back_up(cluster, store, new, by=db1, at=NOON + datetime.timedelta(days=2))["warnings"] == []


def test_rekeyed_again(cluster: Cluster, store: Store, app: Database, db1: SigningHost) -> None:
    back_up(cluster, store, app, by=db1)
    second = rotated(app)
    rekeyed(store, app, second, by=db1)
    third, later = rotated(second), NOW + datetime.timedelta(days=1)
    again = f"db/app/20260131T120000Z.rekeyed-{later:%Y%m%dT%H%M%SZ}.sql.gz.age"
    done = rekeyed(store, second, third, by=db1, moment=later)
    assert statuses(done) == {FIRST: "unchanged", copy_of(FIRST): "rekeyed"}
    assert read(store)["key"] == done[copy_of(FIRST)].details["key"] == again
    assert len(manifest.parse(store.get(LATEST, limit=1 << 20)).stands_for) == 2
    before = scene.rows(cluster, app)
    assert restored(cluster, store, third, trust(db1)).status == "restored"
    assert scene.rows(cluster, app) == before
    # The first one by name, for whoever has its key still.
    fourth = rotated(third)
    named = rekeyed(store, app, fourth, by=db1, keys=[manifest_of(FIRST)], moment=later + datetime.timedelta(days=1))
    assert statuses(named) == {FIRST: "rekeyed"} and not named[FIRST].details["latest"]


def test_a_wrong_key_and_damage_store_nothing(cluster: Cluster, store: Store, app: Database, db1: SigningHost) -> None:
    back_up(cluster, store, app, by=db1)
    before, new = contents(store), rotated(app)
    wrong = error_of(rekeyed(store, rotated(app), new, by=db1))
    assert isinstance(wrong, WrongIdentity) and f"encrypted to {app.recipients[0]}" in wrong.cause
    with pytest.raises(NotFound, match="20270101"):
        rekeyed(store, app, new, by=db1, keys=["db/app/20270101T000000Z.sql.gz.age"])
    # The object is altered, replaced, and gone.
    forged = pyrage.encrypt(b"x", age.parse_recipients(app.recipients))
    for data in (before[FIRST][:-1] + b"x", forged):
        store.put(FIRST, data)
        assert isinstance(error_of(rekeyed(store, app, new, by=db1)), ChecksumMismatch)
    store.delete(FIRST)
    assert statuses(rekeyed(store, app, new, by=db1)) == {FIRST: "skipped"}
    assert isinstance(error_of(rekeyed(store, app, new, by=db1, keys=[FIRST])), NotFound)
    store.put(FIRST, before[FIRST])
    # The host signed a manifest that lies: the rows are compared with it, and the size and the hash of the text.
    for lie in (
        {"tables": [{**one, "rows": one["rows"] + 1} for one in read(store)["postgresql"]["tables"]]},
        {"tables": [{**one, "digest": "0" * 64} for one in read(store)["postgresql"]["tables"]]},
        {"plaintext_size": 5},
        {"plaintext_sha256": "0" * 64},
    ):
        lying = manifests.signed(db1, manifests.changed(json.loads(before[LATEST]), signature=..., **lie))
        for key in (LATEST, manifest_of(FIRST)):
            store.put(key, manifests.canonical(lying))
        assert isinstance(error_of(rekeyed(store, app, new, by=db1)), ChecksumMismatch), lie
    assert set(contents(store)) == set(before)


class Failing:
    """A store that is gone once a key of this kind is written."""

    def __init__(self, store: Store, suffix: str) -> None:
        self._store = store
        self._suffix = suffix

    def __getattr__(self, name: str) -> t.Any:
        return getattr(self._store, name)

    def _check(self, key: str) -> None:
        if key.endswith(self._suffix):
            raise StoreError("the store is gone")

    def put(self, key: str, data: bytes) -> None:
        self._check(key)
        self._store.put(key, data)

    def put_if_absent(self, key: str, data: bytes) -> None:
        self._check(key)
        self._store.put_if_absent(key, data)


@pytest.mark.parametrize(("suffix", "again"), [(".manifest.json", "rekeyed"), ("latest-dump.json", "rekeyed")])
def test_an_interrupted_run_goes_on(
    cluster: Cluster, store: Store, app: Database, db1: SigningHost, suffix: str, again: str
) -> None:
    back_up(cluster, store, app, by=db1)
    before, new = contents(store), rotated(app)
    assert isinstance(error_of(rekeyed(t.cast(Store, Failing(store, suffix)), app, new, by=db1)), StoreError)
    assert contents(store)[LATEST] == before[LATEST]
    later = NOW + datetime.timedelta(seconds=5)
    assert rekeyed(store, app, new, by=db1, moment=later)[FIRST].status == again
    assert read(store)["recipients"] == [*new.recipients]
    rows = scene.rows(cluster, app)
    assert restored(cluster, store, new, trust(db1)).status == "restored" and scene.rows(cluster, app) == rows


def test_a_newer_backup_keeps_latest_to_itself(cluster: Cluster, store: Store, app: Database, db1: SigningHost) -> None:
    """A backup has stored its manifest and is about to move latest."""
    back_up(cluster, store, app, by=db1)
    old = store.get(LATEST, limit=1 << 20)
    back_up(cluster, store, app, by=db1, at=NOON + datetime.timedelta(days=1))
    store.put(LATEST, old)
    done = rekeyed(store, app, rotated(app), by=db1, keys=[FIRST])
    assert done[FIRST].status == "rekeyed" and not done[FIRST].details["latest"]
    assert "there is a newer backup" in done[FIRST].details["warnings"][0]
    assert store.get(LATEST, limit=1 << 20) == old


def test_the_controller_signs_with_its_own_key(
    cluster: Cluster, store: Store, app: Database, db1: SigningHost, hosts: dict[str, SigningHost]
) -> None:
    office = hosts["office"]
    back_up(cluster, store, app, by=db1)
    new = rotated(app)
    # Hosts that don't accept the controller's backups would neither restore this one nor go on after it.
    there = trust(office, db1, signers={"app": ("db1",)})
    unbound = error_of(rekeyed(store, app, new, by=office, trusted=there))
    assert isinstance(unbound, ForeignSigner) and 'infrazero_signers: {"app": ["office"]}' in unbound.hint
    there = trust(office, db1, signers={"app": ("db1", "office")})
    assert rekeyed(store, app, new, by=office, trusted=there)[FIRST].status == "rekeyed"
    assert read(store)["host"] == "office"
    assert manifest.parse(manifest.earlier(store.get(LATEST, limit=1 << 20))).host == "db1"

    for trusted, refused in (
        (trust(db1), UnknownSigner),
        (trust(db1, office), ForeignSigner),
        # Neither signature is enough.
        (trust(office, name="db3", signers={"app": ("office", "db1")}), UnknownSigner),
        (trust(office, db1, name="db3", signers={"app": ("office",)}), ForeignSigner),
        (trust(db1, office, signers={"app": ("office",)}, revoked_keys=db1.public_key + "\n"), RevokedSigner),
        (trust(db1, office, signers={"app": ("office",)}, revoked_keys=office.public_key + "\n"), RevokedSigner),
    ):
        error = restored(cluster, store, new, trusted).error
        assert isinstance(error, refused), error
    bound = trust(db1, office, signers={"app": ("office",)})
    rows = scene.rows(cluster, app)
    back = restored(cluster, store, new, bound)
    assert back.status == "restored" and back.details["signed_by"]["name"] == "office"
    assert scene.rows(cluster, app) == rows
    settings = BackupOptions(signer=db1.signer, trust=bound)
    more = backup.back_up(
        new, settings=cluster.settings, store=store, options=settings, moment=NOON + datetime.timedelta(days=1)
    )
    assert (more.details["sequence"], more.details["previous"]) == (2, copy_of(FIRST))


def test_a_signer_vouches_for_nothing_that_was_not_accepted(
    cluster: Cluster, store: Store, app: Database, db1: SigningHost, hosts: dict[str, SigningHost]
) -> None:
    """The controller is accepted for the database, and tricked or bribed into rekeying something else."""
    office = hosts["office"]
    back_up(cluster, store, app, by=db1)
    new = rotated(app)
    bound = trust(db1, office, signers={"app": ("office",)})
    there = trust(office, db1, signers={"app": ("db1", "office")})
    assert rekeyed(store, app, new, by=office, trusted=there)[FIRST].status == "rekeyed"
    good = read(store)
    unsigned = manifests.changed(good, signature=...)

    def embedding(**changes: t.Any) -> dict[str, t.Any]:
        before = {**good["rekeyed"]["manifest"], **changes}
        return {**unsigned, "rekeyed": {**good["rekeyed"], "manifest": before}}

    before = json.loads(manifest.earlier(manifests.canonical(good)))
    bare = manifests.changed(before, signature=...)
    forged = {
        "an unsigned backup": (embedding(signature=None), Unsigned),
        "what was changed after it was signed": (embedding(sha256="0" * 64), ForgedManifest),
        "another host's": (embedding(signature=manifests.signed(hosts["db2"], bare)["signature"]), UnknownSigner),
        "mallory's": (embedding(signature=manifests.signed(hosts["mallory"], bare)["signature"]), UnknownSigner),
        "other rows than the host signed": (
            {**unsigned, "postgresql": {**unsigned["postgresql"], "tables": []}},
            ForgedManifest,
        ),
        # The host's own manifest, whole and sound, beside other contents.
        "other contents": (
            {
                **unsigned,
                "postgresql": {**unsigned["postgresql"], "tables": []},
                "rekeyed": {**good["rekeyed"], "manifest": {**before, "version": "0.0"}},
            },
            ForgedManifest,
        ),
        "another time": (embedding(created_at="2026-01-30T12:00:00Z"), ForgedManifest),
    }
    sound = {**unsigned, "created_at": "2026-01-31T13:00:00Z", "rekeyed": {**good["rekeyed"], "manifest": before}}
    forged["a later time, with the host's own manifest"] = (sound, ForgedManifest)
    for name, (fields, kind) in forged.items():
        store.put(LATEST, manifests.canonical(manifests.signed(office, fields)))
        error = restored(cluster, store, new, bound).error
        assert isinstance(error, kind), (name, error)
        assert "rekeyed from" in error.message or kind is ForgedManifest, name
    # And a writer to the bucket, without any accepted key, gains nothing by embedding a sound manifest.
    for fields in (unsigned, manifests.signed(hosts["mallory"], {**unsigned, "host": "db1"})):
        store.put(LATEST, manifests.canonical(fields))
        error = restored(cluster, store, new, bound).error
        assert type(error) in (Unsigned, UnknownSigner), error


def test_nobody_without_a_key_keeps_a_backup_from_being_rekeyed(
    cluster: Cluster, store: Store, app: Database, db1: SigningHost, hosts: dict[str, SigningHost]
) -> None:
    """Manifests that say that it is done already, and junk."""
    back_up(cluster, store, app, by=db1)
    new = rotated(app)
    claim = manifest.rekeyed(
        store.get(LATEST, limit=1 << 20),
        at=NOW,
        recipients=new.recipients,
        changes={"key": copy_of(FIRST, NOON), "sha256": "0" * 64, "size": 1, "chunks": None},
    )
    store.put(copy_of(FIRST, NOON), b"x")
    for data in (manifest.render(claim), manifest.render(hosts["mallory"].signer.sign(claim)), b"{}"):
        store.put(manifest_of(copy_of(FIRST, NOON)), data)
        done = rekeyed(store, app, new, by=db1, moment=NOW + datetime.timedelta(seconds=len(data) % 50))
        assert done[FIRST].status == "rekeyed" and "size" in done[FIRST].details, done
        assert data.startswith(b'{"c') or done[copy_of(FIRST, NOON)].error is not None
        store.put(LATEST, store.get(manifest_of(FIRST), limit=1 << 20))
        for key in stores.keys(store):
            if ".rekeyed-20261201" in key:
                store.delete(key)


def test_a_manifest_that_changes_between_plan_and_rekey(
    cluster: Cluster, store: Store, app: Database, db1: SigningHost
) -> None:
    back_up(cluster, store, app, by=db1)
    how, signed = options(app, db1, trust(db1)), read(store)
    before = stores.keys(store)
    work = rekey.plan(store, [rotated(app)], options=how)
    another = manifests.signed(db1, manifests.changed(signed, signature=..., host="db1", version="0.0"))
    for fields, kind in ((another, ManifestError), (manifests.changed(signed, signature=...), Unsigned)):
        store.put(manifest_of(FIRST), manifests.canonical(fields))
        summary = rekey.rekey_all(store, work, options=how, moment=NOW)
        assert isinstance(summary.outcomes[0].error, kind), summary
    assert stores.keys(store) == before


def test_unsigned_backups_stay_unsigned(cluster: Cluster, store: Store, app: Database, db1: SigningHost) -> None:
    back_up(cluster, store, app, by=None)
    new = rotated(app)
    done = rekeyed(store, app, new, by=db1)
    assert done[FIRST].status == "rekeyed" and done[FIRST].details["latest"]
    assert done[FIRST].details["warnings"] == ["the backup is not signed, and neither is its copy"]
    assert "signature" not in read(store)
    assert isinstance(restored(cluster, store, new, trust(db1)).error, Unsigned)
    rows = scene.rows(cluster, app)
    assert restored(cluster, store, new, Trust(mode="unsigned")).status == "restored"
    assert scene.rows(cluster, app) == rows


def test_signed_backups_are_not_rekeyed_without_a_key(
    cluster: Cluster, store: Store, app: Database, db1: SigningHost
) -> None:
    back_up(cluster, store, app, by=db1)
    before = contents(store)
    with pytest.raises(ConfigurationError, match="no key here to sign"):
        rekeyed(store, app, rotated(app), by=None, trusted=trust(db1))
    # Nor what is signed by a stranger.
    assert isinstance(error_of(rekeyed(store, app, rotated(app), by=None)), Exception)
    assert contents(store) == before


def test_backups_of_older_tools(cluster: Cluster, store: Store, app: Database, db1: SigningHost) -> None:
    """A manifest of version 0.1, one of three fields, and an object that no manifest names."""
    back_up(cluster, store, app, by=db1)
    old = manifests.signed(db1, manifests.changed(manifests.version_1(read(store)), signature=...))
    for key in (LATEST, manifest_of(FIRST)):
        store.put(key, manifests.canonical(old))
    new, rows = rotated(app), scene.rows(cluster, app)
    assert rekeyed(store, app, new, by=db1)[FIRST].status == "rekeyed"
    assert restored(cluster, store, new, trust(db1)).status == "restored" and scene.rows(cluster, app) == rows

    first = store.get(FIRST, limit=1 << 30)
    for key in stores.keys(store):
        store.delete(key)
    plain = {name: old[name] for name in ("key", "sha256", "created_at")} | {"tool": {"name": "backup.sh", "n": None}}
    store.put(LATEST, json.dumps(plain, indent=1).encode())
    store.put(FIRST, first)
    store.put(SECOND, first)
    done = rekeyed(store, app, new, by=db1)
    assert statuses(done) == {FIRST: "rekeyed", SECOND: "skipped"}
    assert restored(cluster, store, new, Trust(mode="unsigned")).status == "restored"
    assert scene.rows(cluster, app) == rows
    assert statuses(rekeyed(store, app, new, by=db1)) == {
        FIRST: "unchanged" if manifest_of(FIRST) in stores.keys(store) else "skipped",
        copy_of(FIRST): "unchanged",
        SECOND: "skipped",
    }


def test_the_roles_of_the_cluster(cluster: Cluster, store: Store, db1: SigningHost) -> None:
    cluster.psql("CREATE ROLE reporting; CREATE ROLE deploy LOGIN")
    old, new = (scene.entry("keys") for _unused in range(2))
    before, after = (ClusterGlobals("cluster/db1/", one.recipients) for one in (old, new))
    backup.back_up_globals(
        before, settings=cluster.settings, store=store, options=BackupOptions(signer=db1.signer), moment=NOON
    )
    how = options(old, db1, trust(db1))
    summary = rekey.rekey_all(store, rekey.plan(store, [after], options=how), options=how, moment=NOW)
    assert [one.status for one in summary.outcomes] == ["rekeyed"], summary

    def read_with(entry: Database) -> RecordedGlobals | None:
        return globals_of.read(store, after, trust=trust(db1), identity=lambda _url: t.cast(Secret, entry.identity))

    found = read_with(new)
    assert found is not None and {"reporting", "deploy"} <= {role.name for role in found.globals.roles}
    assert found.signed_by is not None and found.origin.key.endswith(".rekeyed-20261201T040000Z.sql.gz.age")
    with pytest.raises(WrongIdentity, match=r"encrypted to .*\(cluster globals\)"):
        read_with(old)


def test_large_backups_stream_through_s3(cluster: Cluster, db1: SigningHost) -> None:
    """More than one part of an upload, and more than one chunk."""
    app = scene.entry("app")
    scene.make(
        cluster,
        app,
        "CREATE TABLE noise AS SELECT id, encode(sha512(id::text::bytea), 'hex') AS text"
        " FROM generate_series(1, 300000) AS id",
    )
    with S3Server() as server:
        server.create_bucket("backups")
        store = open_store(server.settings("backups"))
        back_up(cluster, store, app, by=db1)
        new, rows = rotated(app), scene.rows(cluster, app)
        assert rekeyed(store, app, new, by=db1)[FIRST].status == "rekeyed"
        assert len(read(store)["chunks"]["sha256"]) > 1
        assert restored(cluster, store, new, trust(db1)).status == "restored"
        assert scene.rows(cluster, app) == rows
