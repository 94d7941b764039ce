# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every store does, proven on each: one suite for directories and S3 servers.

``directory`` and the two rclone servers (plain HTTP, and TLS with a CA of its own) are real.  ``moto`` stands for a
server that honours conditional writes, which rclone ignores: it is a mock of Amazon S3 in this process, good for
nothing else than its answers.  Faults on the way are in test_stores_faults.py.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import random
import subprocess
import sys
import threading
import typing as t
import unicodedata

import boto3
import moto
import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain import policies
from ansible_collections.infrazero.database.plugins.module_utils._engine.errors import (
    AlreadyExists,
    NotFound,
    StoreError,
)
from ansible_collections.infrazero.database.plugins.module_utils._engine.stores import s3, trial
from ansible_collections.infrazero.database.plugins.module_utils._engine.stores.base import (
    PROBE_KEY,
    Capabilities,
    DirectorySettings,
    Protection,
    S3Settings,
    Store,
)
from ansible_collections.infrazero.database.plugins.module_utils._engine.stores.registry import open_store

from tests.support.s3server import S3Server
from tests.support.stores import keys
from tests.support.streams import Pieces, SourceBroke

if t.TYPE_CHECKING:
    import pathlib

MIB = 1024 * 1024
KINDS = ("directory", "http", "tls", "moto")
#: Servers that put an object into a file of its key's name can't hold these.
NEEDS_FREE_KEYS = frozenset({"directory", "moto"})


class Bench:
    """A store under test, and what its kind is known to do."""

    def __init__(
        self, kind: str, bucket: str, store: Store, root: pathlib.Path, server: S3Server | None = None
    ) -> None:
        self.kind = kind
        self.bucket = bucket
        self.store = store
        #: Where buckets of the directory store are.
        self.root = root
        self.server = server
        self.honours_conditions = kind in ("directory", "moto")

    def open_uploads(self) -> list[str]:
        """Keys of uploads that were begun and neither completed nor aborted, or of temporary files."""
        if isinstance(self.store, s3.S3Store):
            client = self.server.client() if self.server else boto3.client("s3", region_name="us-east-1")
            # What rclone says when there never was any.
            with contextlib.suppress(client.exceptions.NoSuchUpload):
                return [
                    upload["Key"] for upload in client.list_multipart_uploads(Bucket=self.bucket).get("Uploads", [])
                ]
            return []
        return [path.name for path in self.root.rglob(".*") if path.is_file()]


@pytest.fixture(scope="module")
def servers() -> t.Iterator[dict[str, S3Server]]:
    with S3Server() as plain, S3Server(tls=True) as tls:
        yield {"http": plain, "tls": tls}


@pytest.fixture(params=KINDS)
def bench(request: pytest.FixtureRequest, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> t.Iterator[Bench]:
    kind = request.param
    bucket = f"test-{random.randrange(10**12)}"
    if kind == "directory":
        (tmp_path / bucket).mkdir(0o700)
        yield Bench(kind, bucket, open_store(DirectorySettings(str(tmp_path / bucket))), tmp_path)
    elif kind == "moto":
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "testing")
        with moto.mock_aws():
            boto3.client("s3", region_name="us-east-1").create_bucket(Bucket=bucket)
            yield Bench(kind, bucket, open_store(S3Settings(bucket)), tmp_path)
    else:
        server = request.getfixturevalue("servers")[kind]
        server.create_bucket(bucket)
        yield Bench(kind, bucket, open_store(server.settings(bucket)), tmp_path, server)


@pytest.fixture
def store(bench: Bench) -> Store:
    return bench.store


# Small objects --------------------------------------------------------------------------------------------------------


def test_an_object_that_was_put_is_there_as_it_was(store: Store) -> None:
    before = datetime.datetime.now(datetime.timezone.utc)
    store.put("db/app/latest-dump.json", b"{}")
    assert store.get("db/app/latest-dump.json", limit=2) == b"{}"
    info = store.head("db/app/latest-dump.json")
    assert (info.key, info.size) == ("db/app/latest-dump.json", 2)
    assert info.modified.utcoffset() == datetime.timedelta(0)
    assert abs(info.modified - before) < datetime.timedelta(minutes=1)


def test_put_replaces_and_the_tag_tells(store: Store) -> None:
    store.put("db/app/latest-dump.json", b"old")
    old = store.head("db/app/latest-dump.json")
    store.put("db/app/latest-dump.json", b"new one")
    assert store.get("db/app/latest-dump.json", limit=100) == b"new one"
    assert store.head("db/app/latest-dump.json").etag != old.etag


def test_create_only_never_replaces(store: Store) -> None:
    store.put_if_absent("db/app/one.json", b"first")
    with pytest.raises(AlreadyExists):
        store.put_if_absent("db/app/one.json", b"second")
    with pytest.raises(AlreadyExists):
        store.upload("db/app/one.json", Pieces(b"third"))
    assert store.get("db/app/one.json", limit=100) == b"first"


def test_what_is_not_there_is_not_found(store: Store) -> None:
    store.put("db/app/x.json", b"")
    for key in ("db/app/y.json", "db/app", "db/app/x.json/z", "nothing"):
        with pytest.raises(NotFound):
            store.head(key)
        with pytest.raises(NotFound):
            store.open(key)
        with pytest.raises(NotFound):
            store.get(key, limit=10)


def test_an_absent_bucket_is_no_absent_object(store: Store) -> None:
    elsewhere = store.sibling("no-such-bucket-here")
    for call in (
        lambda: elsewhere.head("db/app/latest-dump.json"),
        lambda: elsewhere.open("db/app/latest-dump.json"),
        lambda: elsewhere.put("db/app/latest-dump.json", b""),
        lambda: elsewhere.put_if_absent("db/app/latest-dump.json", b""),
        lambda: elsewhere.upload("db/app/x.gz", Pieces(b"x")),
        lambda: list(elsewhere.list("db/")),
        lambda: elsewhere.delete("db/app/x.gz"),
        elsewhere.probe,
    ):
        with pytest.raises(StoreError) as caught:
            call()
        assert not isinstance(caught.value, NotFound)
        assert caught.value.hint


def test_a_sibling_is_the_other_bucket(bench: Bench) -> None:
    other = f"other-{random.randrange(10**12)}"
    if bench.kind == "directory":
        (bench.root / other).mkdir()
    elif bench.server:
        bench.server.create_bucket(other)
    else:
        boto3.client("s3", region_name="us-east-1").create_bucket(Bucket=other)
    sibling = bench.store.sibling(other)
    sibling.put("key.json", b"there")
    assert sibling.get("key.json", limit=10) == b"there"
    assert other in sibling.url("key.json")
    with pytest.raises(NotFound):
        bench.store.head("key.json")


def test_delete_makes_absent_and_may_be_repeated(store: Store) -> None:
    store.put("db/app/x.gz", b"x")
    store.delete("db/app/x.gz")
    store.delete("db/app/x.gz")
    with pytest.raises(NotFound):
        store.head("db/app/x.gz")
    assert keys(store) == []


def test_get_refuses_more_than_its_limit(store: Store) -> None:
    store.put("big.json", bytes(1001))
    assert store.get("big.json", limit=1001) == bytes(1001)
    with pytest.raises(StoreError, match="1001 bytes long"):
        store.get("big.json", limit=1000)


@pytest.mark.parametrize("key", ["", "x" * 1025, "é" * 513, "half \ud800"], ids=["empty", "long", "wide", "surrogate"])
def test_keys_that_no_store_holds_are_refused(store: Store, key: str) -> None:
    for call in (
        lambda: store.put(key, b""),
        lambda: store.put_if_absent(key, b""),
        lambda: store.upload(key, Pieces(b"")),
        lambda: store.head(key),
        lambda: store.open(key),
        lambda: store.delete(key),
    ):
        with pytest.raises(StoreError, match="can't be stored"):
            call()


ODD_KEYS = [
    'db/o\'brien "the" 2nd/20260101T000000Z.sql.gz.age',
    "db/100%/a%2Fb%00%.sql",
    "db/$(reboot) `id`;&|<>*?!#~/x=y+z,@:.sql",
    "db/{{ lookup('pipe', 'id') }}/x.sql",
    "db/back\\slash/x.sql",
    "db/-rf/-x.sql",
    "db/.hidden/.x.sql",
    "db/" + unicodedata.normalize("NFC", "Ünïcödé") + "/x.sql",
    "db/" + unicodedata.normalize("NFD", "Ünïcödé") + "/x.sql",
    "db/\u202eright to left\u202c/\u05e2\u05d1\u05e8\u05d9\u05ea.sql",
    "db/\U0001f418/x.sql",
    "/".join(["d" * 200] * 4) + "/" + "x" * 92 + ".sql",
]
FREE_KEYS = [
    *("db/../../etc/x.sql", "db/./x.sql", "../x", "..", ".", "a/..", "/", "//", "/a.sql", "a//b.sql", "a/"),
    *("%", "%2E.", "a%.", "%+/x", ".tmp-0123456789abcdef", "db/.tmp-0123456789abcdef", "lines\nand\ttabs.sql"),
    *("x" * 900, "." * 900, "%" * 900, "é" * 450, "db/" + "y" * 300 + "/" + "z" * 300 + ".sql"),
    *("a", "a/b", "a/b/c", "a.b", "a.b/c", "a.b/c.d", "x" * 256, "x" * 256 + "/y", "x" * 240 + ".sql"),
]


def test_odd_keys_are_only_names(bench: Bench) -> None:
    wanted = ODD_KEYS + (FREE_KEYS if bench.kind in NEEDS_FREE_KEYS else [])
    for number, key in enumerate(wanted):
        bench.store.put_if_absent(key, b"%d" % number)
    for number, key in enumerate(wanted):
        assert bench.store.get(key, limit=10) == b"%d" % number
        assert bench.store.head(key).key == key
        assert bench.store.url(key)
    assert keys(bench.store) == sorted(wanted)
    for key in wanted:
        assert key in keys(bench.store, key[: len(key) // 2])
        assert key in keys(bench.store, key)
    for key in wanted:
        bench.store.delete(key)
    assert keys(bench.store) == []


# Listings -------------------------------------------------------------------------------------------------------------


def test_listings_go_past_a_thousand(bench: Bench) -> None:
    if bench.kind == "moto":
        pytest.skip("a thousand requests to the mock take long, and prove nothing more")
    wanted = sorted(f"db/app/{number:04}.json" for number in range(1203))
    # What the store keeps its objects in: files under their own names.
    root = bench.server.data if bench.server else bench.root
    folder = root / bench.bucket / "db" / "app"
    folder.mkdir(parents=True)
    for key in wanted:
        (folder / key.rpartition("/")[2]).write_bytes(b"x")
    found = list(bench.store.list("db/app/"))
    assert sorted(info.key for info in found) == wanted
    assert {info.size for info in found} == {1}


def test_a_prefix_is_no_folder(store: Store) -> None:
    for key in ("db/app/x.json", "db/app2/x.json", "db/ap/x.json", "db/app.json"):
        store.put(key, b"")
    assert keys(store, "db/app/") == ["db/app/x.json"]
    assert keys(store, "db/app") == ["db/app.json", "db/app/x.json", "db/app2/x.json"]
    assert keys(store, "db/x") == keys(store, "nothing/") == []


def test_a_listing_says_what_head_says(store: Store) -> None:
    store.put("db/app/x.json", b"12345")
    (listed,) = store.list("db/")
    looked = store.head("db/app/x.json")
    assert (listed.key, listed.size, listed.etag) == (looked.key, looked.size, looked.etag)
    assert abs(listed.modified - looked.modified) < datetime.timedelta(seconds=1.5)


# Streams --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "size",
    [0, 1, s3.PART_SIZE - 1, s3.PART_SIZE, s3.PART_SIZE + 1, 4 * s3.PART_SIZE],
)
def test_a_stream_arrives_whole(bench: Bench, size: int) -> None:
    data = random.Random(size).randbytes(size)
    info = bench.store.upload("db/app/x.gz", Pieces(data, sizes=(1, 65536, 1_000_003)), size_hint=size)
    assert info.size == size
    assert bench.store.head("db/app/x.gz").size == size
    with bench.store.open("db/app/x.gz") as reader:
        assert reader.size == reader.info.size == size
        digest = hashlib.sha256()
        while chunk := reader.read(300_007):
            assert len(chunk) <= 300_007
            digest.update(chunk)
        assert reader.read(1) == b""
    assert digest.digest() == hashlib.sha256(data).digest()
    assert bench.open_uploads() == []


@pytest.mark.parametrize("fail_at", [0, 1000, s3.PART_SIZE, 3 * s3.PART_SIZE + 1])
def test_a_source_that_breaks_leaves_nothing(bench: Bench, fail_at: int) -> None:
    with pytest.raises(SourceBroke):
        bench.store.upload("db/app/x.gz", Pieces(bytes(5 * s3.PART_SIZE), fail_at=fail_at))
    with pytest.raises(NotFound):
        bench.store.head("db/app/x.gz")
    assert keys(bench.store) == []
    assert bench.open_uploads() == []


def test_an_object_is_not_seen_before_it_is_whole(bench: Bench) -> None:
    seen: list[list[str]] = []

    class Watched(Pieces):
        def read(self, n: int, /) -> bytes:
            seen.append(keys(bench.store))
            return super().read(n)

    bench.store.upload("db/app/x.gz", Watched(bytes(3 * s3.PART_SIZE), sizes=(s3.PART_SIZE,)))
    assert len(seen) > 3
    assert seen == [[]] * len(seen)
    assert keys(bench.store) == ["db/app/x.gz"]


def test_a_key_taken_during_an_upload_is_not_replaced(bench: Bench) -> None:
    if not bench.honours_conditions:
        pytest.skip("this server ignores conditions")

    class Overtaken(Pieces):
        def read(self, n: int, /) -> bytes:
            with contextlib.suppress(AlreadyExists):
                bench.store.put_if_absent("db/app/x.gz", b"the other's")
            return super().read(n)

    for size in (10, 2 * s3.PART_SIZE):
        with pytest.raises(AlreadyExists):
            bench.store.upload("db/app/x.gz", Overtaken(bytes(size), sizes=(s3.PART_SIZE,)))
        assert bench.store.get("db/app/x.gz", limit=100) == b"the other's"
        assert bench.open_uploads() == []
        bench.store.delete("db/app/x.gz")


def test_of_several_writers_one_wins(bench: Bench) -> None:
    if not bench.honours_conditions:
        pytest.skip("this server ignores conditions")
    won: list[bytes] = []
    start = threading.Barrier(8)

    def write(data: bytes) -> None:
        start.wait()
        with contextlib.suppress(AlreadyExists):
            bench.store.put_if_absent("lock.json", data)
            won.append(data)

    threads = [threading.Thread(target=write, args=(b"%d" % number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert won == [bench.store.get("lock.json", limit=10)]
    assert bench.open_uploads() == []


# Stores of their kind -------------------------------------------------------------------------------------------------


def test_probe_tells_what_the_store_honours_and_litters_once(bench: Bench) -> None:
    expected = {
        "directory": Capabilities(create_only=True, multipart_create_only=True, checksums=False),
        "http": Capabilities(create_only=False, multipart_create_only=False, checksums=True),
        "tls": Capabilities(create_only=False, multipart_create_only=False, checksums=False),
        "moto": Capabilities(create_only=True, multipart_create_only=True, checksums=True),
    }
    for _again in range(2):
        assert bench.store.probe() == expected[bench.kind]
        assert [info.key for info in bench.store.list("")] == [PROBE_KEY]
        assert bench.open_uploads() == []


def test_a_trial_creates_an_object_under_each_prefix_once(bench: Bench) -> None:
    prefixes = ["db/shop/", "db/ledger/"]
    planned = trial.examine(bench.store, prefixes, write=False)
    assert (planned.error, planned.listing, planned.writing) == (None, policies.ALLOWED, trial.NOT_TRIED)
    assert planned.created
    assert list(bench.store.list("")) == []
    for again in (False, True):
        found = trial.examine(bench.store, prefixes, write=True)
        assert (found.error, found.listing, found.writing) == (None, policies.ALLOWED, policies.ALLOWED)
        assert found.created != again
        assert found.capabilities == bench.store.probe(policies.probe_key(prefixes[0]))
        assert found.clock_offset is None or abs(found.clock_offset) < 30
        # moto answers in process, without a clock.
        assert found.clock_offset is not None or bench.kind == "moto"
        keys = sorted(info.key for info in bench.store.list(""))
        assert keys == sorted(map(policies.probe_key, prefixes))
    assert bench.open_uploads() == []


def test_protection_is_what_the_bucket_has(bench: Bench) -> None:
    # rclone knows neither setting; moto's bucket has neither at first.
    nothing = None if bench.kind == "directory" else Protection(versions=False, object_lock=False)
    assert bench.store.protection() == nothing
    if bench.kind == "moto":
        client = boto3.client("s3", region_name="us-east-1")
        client.create_bucket(Bucket="guarded", ObjectLockEnabledForBucket=True)
        assert bench.store.sibling("guarded").protection() == Protection(versions=True, object_lock=True)


@pytest.mark.parametrize("mode", ["when_supported", "when_required"])
def test_checksum_modes_can_be_chosen(servers: dict[str, S3Server], mode: str) -> None:
    servers["http"].create_bucket("modes")
    store = open_store(servers["http"].settings("modes", checksums=mode))
    data = random.randbytes(s3.PART_SIZE + 1)
    store.upload(f"{mode}.gz", Pieces(data))
    assert store.get(f"{mode}.gz", limit=len(data)) == data
    has_checksum = "x-amz-checksum-crc32" in str(servers["http"].client().head_object(Bucket="modes", Key=f"{mode}.gz"))
    assert not has_checksum or mode == "when_supported"


MEASURED = """
import resource, sys
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.secret import Secret
from tests.integration.test_stores import *

class Zeros:
    def __init__(self, left): self.left = left
    def read(self, n):
        size = min(n, 262144, self.left)
        self.left -= size
        return bytes(size)

endpoint, access, secret, size = sys.argv[1], *sys.stdin.read().split(), int(sys.argv[2])
store = open_store(S3Settings("memory", endpoint=endpoint, access_key_id=access, secret_access_key=Secret(secret)))
store.put("warm", bytes(100))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
store.upload(f"{size}.gz", Zeros(size))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_memory_is_flat(servers: dict[str, S3Server]) -> None:
    server = servers["http"]
    server.create_bucket("memory")

    def growth(size: int) -> float:
        done = subprocess.run(
            [sys.executable, "-c", "import conftest\n" + MEASURED, server.endpoint, str(size)],
            input=f"{server.access_key} {server.secret_key}",
            capture_output=True,
            text=True,
            check=True,
        )
        return int(done.stdout) / 1024

    small, large = growth(64 * MIB), growth(192 * MIB)
    assert large < 60
    assert large < small + 10
