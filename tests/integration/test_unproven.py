# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Objects that are not what their manifest names: the server must not see a statement of them.

Anybody who can write to the store and knows the public age key can put one in the place of a good backup, of the same
size and with SQL of his own.  What the server executed is read in its own log.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
import pathlib
import random
import subprocess
import typing as t

import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine import outcome
from ansible_collections.infrazero.database.plugins.module_utils._engine.backup import backup
from ansible_collections.infrazero.database.plugins.module_utils._engine.backup.plan import BackupOptions
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain import manifest
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain import trust as trusting
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.databases import Database
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.restoring import RestoreOptions
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.trust import Trust
from ansible_collections.infrazero.database.plugins.module_utils._engine.errors import BackupRefused, ChecksumMismatch
from ansible_collections.infrazero.database.plugins.module_utils._engine.restore import restore
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql import state
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.connection import connect
from ansible_collections.infrazero.database.plugins.module_utils._engine.stores.base import DirectorySettings, Store
from ansible_collections.infrazero.database.plugins.module_utils._engine.stores.directory import DirectoryStore

from tests.support import manifests, scene
from tests.support.cluster import Cluster, wait_until
from tests.support.signing import SigningHost, trust
from tests.support.stores import keys

LATEST = "db/app/latest-dump.json"
TRACE = "a statement that nobody has proven"
#: What a manifest says of its object, from the most to the least.
KINDS = ("schema 2", "schema 1", "three fields", "the operator's SHA-256")
STRATEGIES = ("swap", "replace")


@pytest.fixture(scope="module")
def db1(tmp_path_factory: pytest.TempPathFactory) -> SigningHost:
    """The host whose backups these are."""
    return SigningHost.make(tmp_path_factory.mktemp("keys"), "db1")


@pytest.fixture
def store(tmp_path: pathlib.Path) -> DirectoryStore:
    return DirectoryStore(DirectorySettings(path=str(tmp_path)))


@pytest.fixture
def app(cluster: Cluster) -> Database:
    """A database whose backup is a megabyte: with less of it, the first look would see its end."""
    database = scene.entry("app")
    scene.make(
        cluster, database, "CREATE TABLE one AS SELECT md5(n::text) || md5((-n)::text) FROM generate_series(1, 25000) n"
    )
    return database


@pytest.fixture
def executed(cluster: Cluster) -> t.Iterator[t.Callable[[str], bool]]:
    """Whether the server was sent a statement with some text in it since the test began."""

    def switch(change: str, value: str) -> None:
        cluster.psql(f"ALTER SYSTEM {change}; SELECT pg_reload_conf()")
        wait_until(lambda: cluster.psql("SHOW log_statement") == value)

    switch("SET log_statement = 'all'", "all")
    begin = cluster.log.stat().st_size
    yield lambda text: text in cluster.log.read_bytes()[begin:].decode()
    switch("RESET log_statement", "none")


def back_up(cluster: Cluster, store: Store, entry: Database, by: SigningHost) -> dict[str, t.Any]:
    """Make a backup; its manifest comes back."""
    backup.back_up(
        entry,
        settings=cluster.settings,
        store=store,
        options=BackupOptions(signer=by.signer),
        moment=datetime.datetime.now(datetime.timezone.utc),
    )
    return read(store)


def read(store: Store) -> dict[str, t.Any]:
    return dict(json.loads(store.get(LATEST, limit=1 << 24)))


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def chunks_of(data: bytes, size: int) -> dict[str, t.Any]:
    return {"size": size, "sha256": [sha256(data[start : start + size]) for start in range(0, len(data), size)]}


def write(store: Store, fields: t.Mapping[str, t.Any], *, by: SigningHost | None) -> None:
    """Make *fields* the latest manifest, with a sound signature of *by*'s."""
    fields = {name: value for name, value in fields.items() if name != "signature"}
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    if by is not None:
        text = manifests.canonical(manifests.signed(by, {k: v for k, v in fields.items() if k != "signature"}))
    store.put(LATEST, text)


def arrange(store: Store, fields: dict[str, t.Any], kind: str, by: SigningHost) -> dict[str, t.Any]:
    """Leave a manifest that says as much as *kind* tells; what a restore of it must be given comes back."""
    given: dict[str, t.Any] = {"trusted": trust(by)}
    if kind == "schema 1":
        write(store, manifests.version_1(fields), by=by)
    elif kind == "three fields":
        write(store, {name: fields[name] for name in ("key", "sha256", "created_at")}, by=None)
        given = {"trusted": Trust(mode=trusting.UNSIGNED)}
    elif kind == "the operator's SHA-256":
        store.delete(LATEST)
        store.delete(fields["key"].replace(".sql.gz.age", ".manifest.json"))
        given = {
            "trusted": Trust(mode=trusting.UNSIGNED),
            "source": fields["key"],
            "expected_sha256": fields["sha256"],
        }
    return given


def restored(
    cluster: Cluster, store: Store, entry: Database, *, trusted: Trust, strategy: str = "swap", **rest: t.Any
) -> outcome.Outcome:
    options = RestoreOptions(trust=trusted, strategy=strategy)
    return restore.restore_all([entry], settings=cluster.settings, store=store, options=options, **rest).outcomes[0]


def forged(entry: Database, size: int) -> bytes:
    """An object of *size* bytes with a statement of an attacker's, who knows nothing but the public key."""
    # Some sizes can't be had with one recipient: each 64 KiB take 16 bytes more.
    for recipients in (entry.recipients, entry.recipients * 2):
        padding = 0
        for _attempt in range(4):
            text = f"SELECT '{TRACE}';\n-- {'x' * padding}\n".encode()
            argv = ["age", *(word for recipient in recipients for word in ("-r", recipient))]
            data = subprocess.run(argv, input=text, stdout=subprocess.PIPE, check=True).stdout
            if len(data) == size:
                return data
            padding += size - len(data)
    raise AssertionError(f"no object of {size} bytes can be made")


class Exchanging(DirectoryStore):
    """A store in which an object becomes another one as soon as a restore has read it to its end."""

    def __init__(self, settings: DirectorySettings, other: bytes) -> None:
        super().__init__(settings)
        self._other = other
        self.armed = False

    def open(self, key: str) -> t.Any:
        """The object, and later readers of it get the other one when this one has come to its end."""
        reader = super().open(key)
        return _Watched(self, reader) if key.endswith(".age") else reader

    def exchange(self, key: str) -> None:
        """Put the other object in its place, once a restore is under way."""
        if self.armed:
            self.put(key, self._other)


class _Watched:
    def __init__(self, store: Exchanging, reader: t.Any) -> None:
        self._store = store
        self._reader = reader

    def __getattr__(self, name: str) -> t.Any:
        return getattr(self._reader, name)

    def read(self, n: int, /) -> bytes:
        data: bytes = self._reader.read(n)
        if not data:
            self._store.exchange(self._reader.info.key)
        return data


class Watching:
    """A reporter that counts, and at the first stage of a restore proper arms a store."""

    def __init__(self, store: Exchanging | None = None) -> None:
        self._store = store
        self.stages: list[tuple[str, int | None]] = []
        self.counts: list[int] = []

    def begin(self, count: int) -> None:
        """One database."""

    def finish(self, database: str) -> None:
        """Nothing is counted."""

    def stage(self, database: str, stage: str, message: str, *, total: int | None = None) -> None:
        if self._store is not None:
            self._store.armed = True
        self.stages.append((stage, total))
        self.counts.append(0)

    def advance(self, database: str, count: int) -> None:
        self.counts[-1] += count

    @property
    def read(self) -> list[tuple[str, int | None, int]]:
        """Stages in which bytes were counted: name, announced, counted."""
        return [(*stage, count) for stage, count in zip(self.stages, self.counts) if count or stage[1]]


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_of_a_forged_object_is_executed(
    cluster: Cluster,
    store: DirectoryStore,
    app: Database,
    db1: SigningHost,
    executed: t.Callable[[str], bool],
    kind: str,
    strategy: str,
) -> None:
    fields = back_up(cluster, store, app, db1)
    given = arrange(store, fields, kind, db1)
    store.put(fields["key"], forged(app, fields["size"]))
    look = "SELECT oid FROM pg_database WHERE datname = 'app'"
    before = cluster.psql(look), scene.rows(cluster, app)
    error = restored(cluster, store, app, strategy=strategy, **given).error
    assert isinstance(error, ChecksumMismatch), error
    assert error.hint
    assert not executed(TRACE)
    assert (cluster.psql(look), scene.rows(cluster, app)) == before


def test_such_an_object_is_executed_where_nothing_says_what_it_should_be(
    cluster: Cluster, store: DirectoryStore, app: Database, db1: SigningHost, executed: t.Callable[[str], bool]
) -> None:
    """So it is sound, and the log would show it."""
    store.put("dump.age", forged(app, 1_000_000))
    assert restored(cluster, store, app, trusted=Trust(mode=trusting.UNSIGNED), source="dump.age").error is None
    assert executed(TRACE)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("kind", [*KINDS, "nothing"])
def test_an_object_that_is_exchanged_between_two_readings_is_not_executed(
    cluster: Cluster,
    store: DirectoryStore,
    app: Database,
    db1: SigningHost,
    executed: t.Callable[[str], bool],
    tmp_path: pathlib.Path,
    kind: str,
    strategy: str,
) -> None:
    fields = back_up(cluster, store, app, db1)
    if kind == "nothing":
        given = arrange(store, fields, KINDS[-1], db1)
        del given["expected_sha256"]
    else:
        given = arrange(store, fields, kind, db1)
    exchanging = Exchanging(DirectorySettings(path=str(tmp_path)), forged(app, fields["size"]))
    done = restored(cluster, exchanging, app, strategy=strategy, reporter=Watching(exchanging), **given)
    assert not executed(TRACE)
    if (kind, strategy) == ("schema 2", "swap"):
        # It is read once.
        assert done.error is None
    else:
        assert isinstance(done.error, ChecksumMismatch), done.error
        assert "chunk 1 of 1" in done.error.cause
        assert ("is missing until a restore of it succeeds" in done.error.hint) == (strategy == "replace")


def plain_object(statements: t.Sequence[str], size: int) -> bytes:
    """SQL that nobody has encrypted, with one of *statements* in each of its chunks of *size* bytes."""
    texts = [f"SELECT '{statement}';\n-- ".encode() for statement in statements]
    return b"".join(text + b"x" * (size - len(text) - 1) + b"\n" for text in texts)


@pytest.mark.parametrize("chunk", range(4))
def test_nothing_is_executed_from_a_changed_chunk_on(
    cluster: Cluster,
    store: DirectoryStore,
    app: Database,
    db1: SigningHost,
    executed: t.Callable[[str], bool],
    chunk: int,
) -> None:
    """A backup that a host signed and that is not encrypted: there is no age that would notice."""
    honest = [f"honest number {number}" for number in range(4)]
    size = manifest.MIN_CHUNK_SIZE
    data = plain_object(honest, size)
    fields = back_up(cluster, store, app, db1)
    fields |= {"sha256": sha256(data), "size": len(data), "chunks": chunks_of(data, size)}
    fields = manifests.changed(fields, tables=[], preamble_sha256=...)
    write(store, fields, by=db1)
    store.put(fields["key"], data)
    assert restored(cluster, store, app, trusted=trust(db1)).error is None
    assert all(executed(statement) for statement in honest)

    store.put(fields["key"], plain_object([*honest[:chunk], TRACE, "what follows it", *honest[chunk + 2 :]][:4], size))
    error = restored(cluster, store, app, trusted=trust(db1)).error
    assert not executed(TRACE) and not executed("what follows it")
    assert isinstance(error, ChecksumMismatch)
    assert f"chunk {chunk + 1} of 4, bytes {chunk * size} to {chunk * size + size - 1}" in error.cause
    # And where its chunks aren't signed, nothing at all.
    changed = plain_object([f"changed number {number}" for number in range(4)], size)
    given = arrange(store, fields, "schema 1", db1)
    store.put(fields["key"], changed)
    assert isinstance(restored(cluster, store, app, **given).error, ChecksumMismatch)
    assert not executed("changed number")


def test_a_list_of_chunks_that_nobody_signed_proves_nothing(
    cluster: Cluster,
    store: DirectoryStore,
    app: Database,
    db1: SigningHost,
    executed: t.Callable[[str], bool],
    tmp_path: pathlib.Path,
) -> None:
    fields = back_up(cluster, store, app, db1)
    other = forged(app, fields["size"])
    honest = (tmp_path / fields["key"]).read_bytes()
    mallory = SigningHost.make(tmp_path / "keys", "db1")
    for by in (None, mallory):
        write(store, {**fields, "chunks": chunks_of(other, manifest.CHUNK_SIZE)}, by=by)
        for signers in ("", db1.line):
            unsigned = Trust(mode=trusting.UNSIGNED, allowed_signers=signers)
            store.put(fields["key"], honest)
            plan = restored(cluster, store, app, trusted=unsigned, plan_only=True).details
            assert (plan["reads"], plan["read_size"]) == (2, 2 * fields["size"])
            store.put(fields["key"], other)
            assert isinstance(restored(cluster, store, app, trusted=unsigned).error, ChecksumMismatch)
    assert not executed(TRACE)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("kind", [*KINDS, "signed, but that is not asked for"])
def test_the_plan_says_what_is_read_and_no_more_is(
    cluster: Cluster, store: DirectoryStore, app: Database, db1: SigningHost, kind: str, strategy: str
) -> None:
    fields = back_up(cluster, store, app, db1)
    given = arrange(store, fields, kind, db1)
    if kind not in KINDS:
        given["trusted"] = trust(db1, mode=trusting.UNSIGNED)
    proven = kind in ("schema 2", "signed, but that is not asked for")
    times = 1 if proven and strategy == "swap" else 2
    plan = restored(cluster, store, app, strategy=strategy, plan_only=True, **given).details
    assert (plan["reads"], plan["read_size"]) == (times, times * fields["size"])
    watching = Watching()
    done = restored(cluster, store, app, strategy=strategy, reporter=watching, **given)
    assert done.error is None
    assert done.details["read_size"] == plan["read_size"]
    stages = ["check", "load"][-times:]
    assert watching.read == [(stage, fields["size"], fields["size"]) for stage in stages]


def test_the_sha256_of_an_object_that_nothing_names_is_recorded(
    cluster: Cluster, store: DirectoryStore, app: Database, db1: SigningHost
) -> None:
    fields = back_up(cluster, store, app, db1)
    given = arrange(store, fields, KINDS[-1], db1)
    del given["expected_sha256"]
    for strategy in STRATEGIES:
        assert restored(cluster, store, app, strategy=strategy, plan_only=True, **given).details["sha256"] is None
        done = restored(cluster, store, app, strategy=strategy, **given)
        assert done.error is None
        assert done.details["sha256"] == fields["sha256"]
        with contextlib.closing(connect(cluster.settings)) as conn:
            record = state.database_record(conn, "app")
        assert record is not None and record.restored_from is not None
        assert record.restored_from.sha256 == fields["sha256"]


def test_split_jq_and_sha256sum_alone_check_the_chunks(
    cluster: Cluster, store: DirectoryStore, app: Database, db1: SigningHost, tmp_path: pathlib.Path
) -> None:
    """An object of several chunks, written by a backup; the commands are those of docs/formats/manifest.md."""
    cluster.psql(
        "CREATE TABLE many AS SELECT md5(n::text) || md5((-n)::text) AS text FROM generate_series(1, 250000) n", "app"
    )
    fields = back_up(cluster, store, app, db1)
    assert (fields["schema_version"], fields["chunks"]["size"]) == (2, manifest.CHUNK_SIZE)
    assert len(fields["chunks"]["sha256"]) == -(-fields["size"] // manifest.CHUNK_SIZE) > 1
    script = f"""
    set -eu
    dump=$(jq -r .key {LATEST})
    split --bytes="$(jq .chunks.size {LATEST})" --filter=sha256sum "$dump" | cut -c1-64 >chunks
    jq -r '.chunks.sha256[]' {LATEST} | cmp - chunks
    """

    def check() -> int:
        return subprocess.run(["bash", "-c", script], cwd=tmp_path, check=False).returncode

    assert check() == 0
    assert restored(cluster, store, app, trusted=trust(db1)).error is None
    data = bytearray((tmp_path / fields["key"]).read_bytes())
    place = random.Random(1).randrange(manifest.CHUNK_SIZE, len(data))
    data[place] ^= 1
    store.put(fields["key"], bytes(data))
    assert check() != 0
    error = restored(cluster, store, app, trusted=trust(db1)).error
    assert isinstance(error, ChecksumMismatch) and "chunk 2 of " in error.cause


def test_a_manifest_that_no_restore_would_read_is_not_written(
    cluster: Cluster, store: DirectoryStore, app: Database, db1: SigningHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    back_up(cluster, store, app, db1)
    before = store.get(LATEST, limit=1 << 20)
    present = keys(store)
    cluster.psql("CREATE TABLE two (id int); CREATE TABLE three (id int)", "app")
    monkeypatch.setattr(manifest, "MAX_FIELDS", before.count(b":") + 1)
    with pytest.raises(BackupRefused, match=r"no restore would read.*more than"):
        back_up(cluster, store, app, db1)
    assert store.get(LATEST, limit=1 << 20) == before
    assert keys(store) == present, "the store has an object that no manifest names"
