# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""S3 servers on their bad days.

A real server (rclone) stands behind a proxy that injects the fault: answers that no real server gives on demand are
written by the proxy, everything else is the server's own.  The last tests need no proxy: names that don't resolve,
ports where nothing listens, certificates nobody vouches for.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import random
import re
import signal
import socket
import threading
import types
import typing as t

import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.secret import Secret
from ansible_collections.infrazero.database.plugins.module_utils._engine.errors import (
    AccessDenied,
    AlreadyExists,
    BucketMissing,
    ConfigurationError,
    Deleted,
    EngineError,
    NotFound,
    StoreError,
    Unreachable,
)
from ansible_collections.infrazero.database.plugins.module_utils._engine.stores import s3, s3_reader
from ansible_collections.infrazero.database.plugins.module_utils._engine.stores.base import S3Settings, read_all
from ansible_collections.infrazero.database.plugins.module_utils._engine.stores.s3 import PART_SIZE, S3Store

from tests.support.cluster import free_port
from tests.support.faultyproxy import (
    Answer,
    Exchange,
    FaultyProxy,
    altered,
    end_after,
    lose_answer,
    refuse,
    reset,
    reset_after,
    say,
)
from tests.support.s3server import S3Server
from tests.support.streams import Pieces, Stuck

KEY = "db/app/20260101T000000Z.sql.gz.age"
MIB = 1024 * 1024
TWO_PARTS = random.Random(2).randbytes(PART_SIZE + MIB)


@pytest.fixture(scope="module")
def server() -> t.Iterator[S3Server]:
    with S3Server() as running:
        yield running


@pytest.fixture(scope="module")
def running_proxy(server: S3Server) -> t.Iterator[FaultyProxy]:
    with FaultyProxy(server.endpoint) as running:
        yield running


@pytest.fixture
def proxy(running_proxy: FaultyProxy) -> FaultyProxy:
    running_proxy.heal()
    return running_proxy


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    """No waiting between attempts."""
    import botocore.endpoint

    real = botocore.endpoint.time  # type: ignore[attr-defined]
    monkeypatch.setattr(botocore.endpoint, "time", types.SimpleNamespace(time=real.time, sleep=lambda _seconds: None))
    monkeypatch.setattr(s3_reader, "RESUME_SECONDS", 0)


@pytest.fixture(scope="module")
def past_the_store(server: S3Server) -> t.Any:
    """A client of boto3's own."""
    return server.client()


@pytest.fixture
def bucket(past_the_store: t.Any) -> str:
    name = f"test-{random.randrange(10**12)}"
    past_the_store.create_bucket(Bucket=name)
    return name


@pytest.fixture(scope="module")
def connections(server: S3Server, running_proxy: FaultyProxy) -> tuple[S3Store, S3Store]:
    """A store through the proxy and one past it, made once: boto3 takes its time."""
    made = [S3Store(server.settings("none", endpoint=end)) for end in (running_proxy.endpoint, server.endpoint)]
    return made[0], made[1]


@pytest.fixture
def store(connections: tuple[S3Store, S3Store], proxy: FaultyProxy, bucket: str) -> S3Store:
    """The store through the proxy."""
    return connections[0].sibling(bucket)


@pytest.fixture
def unspent(server: S3Server, proxy: FaultyProxy, bucket: str) -> S3Store:
    """As store, of its own: a client of boto3 tries again only so often in all, and these tests have many faults."""
    return S3Store(server.settings(bucket, endpoint=proxy.endpoint))


@pytest.fixture
def real(connections: tuple[S3Store, S3Store], bucket: str) -> S3Store:
    """The same store past the proxy."""
    return connections[1].sibling(bucket)


@pytest.fixture
def nothing_left(past_the_store: t.Any, real: S3Store, bucket: str) -> t.Callable[[], bool]:
    """Whether the bucket has neither objects nor unfinished uploads."""

    def ask() -> bool:
        # rclone says so when there never was an upload.
        with contextlib.suppress(past_the_store.exceptions.NoSuchUpload):
            if past_the_store.list_multipart_uploads(Bucket=bucket).get("Uploads"):
                return False
        return not list(real.list(""))

    return ask


#: Every method that asks the server something.
CALLS: dict[str, t.Callable[[S3Store], object]] = {
    "put": lambda store: store.put(KEY, b"x"),
    "put_if_absent": lambda store: store.put_if_absent(KEY, b"x"),
    "upload": lambda store: store.upload(KEY, Pieces(b"x")),
    "upload in parts": lambda store: store.upload(KEY, Pieces(TWO_PARTS)),
    "get": lambda store: store.get(KEY, limit=10),
    "open": lambda store: store.open(KEY),
    "head": lambda store: store.head(KEY),
    "list": lambda store: list(store.list("db/")),
    "delete": lambda store: store.delete(KEY),
    "probe": lambda store: store.probe(),
}


# Busy servers and lost connections ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault", [refuse(503, "SlowDown"), refuse(500, "InternalError"), reset], ids=["503", "500", "reset"]
)
def test_short_trouble_is_survived(store: S3Store, proxy: FaultyProxy, fault: t.Any) -> None:
    for operation in ("PutObject", "UploadPart", "CreateMultipartUpload", "GetObject", "HeadObject", "ListObjectsV2"):
        proxy.inject(operation, fault, times=3)
    store.upload(KEY, Pieces(TWO_PARTS))
    store.put("small.json", b"{}")
    assert store.get("small.json", limit=10) == b"{}"
    assert store.get(KEY, limit=len(TWO_PARTS)) == TWO_PARTS
    assert len(list(store.list(""))) == 2


@pytest.mark.parametrize("operation", ["CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"])
def test_lasting_trouble_with_an_upload_leaves_nothing(
    store: S3Store, real: S3Store, proxy: FaultyProxy, nothing_left: t.Callable[[], bool], operation: str
) -> None:
    proxy.inject(operation, refuse(503, "SlowDown", "Please reduce your request rate."))
    with pytest.raises(StoreError, match=r"503 SlowDown .*run again later"):
        store.upload(KEY, Pieces(TWO_PARTS))
    assert nothing_left()


def test_an_answer_to_a_part_without_its_tag_is_an_error_in_plain_words(
    store: S3Store, proxy: FaultyProxy, nothing_left: t.Callable[[], bool]
) -> None:
    def without(answer: Answer) -> None:
        answer.headers = [header for header in answer.headers if header[0].lower() != "etag"]

    # The part with which the form of writes is found out passes.
    proxy.inject("UploadPart", altered(without), skip=1)
    with pytest.raises(StoreError, match="lacks 'ETag'"):
        store.upload(KEY, Pieces(TWO_PARTS))
    assert nothing_left()


def test_a_failing_part_ends_the_reading_of_the_source(store: S3Store, proxy: FaultyProxy) -> None:
    # The part with which the form of writes is found out passes.
    proxy.inject("UploadPart", refuse(403, "AccessDenied"), skip=1)
    read = 0

    class Long(Pieces):
        def read(self, n: int, /) -> bytes:
            nonlocal read
            read += 1
            return bytes(MIB)

    with pytest.raises(AccessDenied):
        store.upload(KEY, Long(b""))
    assert read < 20 * PART_SIZE // MIB


def test_a_completion_that_fails_inside_a_200_is_tried_again_and_then_fails(
    unspent: S3Store, real: S3Store, proxy: FaultyProxy, nothing_left: t.Callable[[], bool]
) -> None:
    failed = say(200, b'<?xml version="1.0"?>\n<Error><Code>InternalError</Code><Message>injected</Message></Error>')
    proxy.inject("CompleteMultipartUpload", failed, times=1)
    unspent.upload(KEY, Pieces(TWO_PARTS))
    assert real.head(KEY).size == len(TWO_PARTS)
    real.delete(KEY)
    proxy.inject("CompleteMultipartUpload", failed)
    with pytest.raises(StoreError, match="InternalError"):
        unspent.upload(KEY, Pieces(TWO_PARTS))
    assert nothing_left()


def test_a_lost_answer_to_a_completion_is_no_failure(store: S3Store, real: S3Store, proxy: FaultyProxy) -> None:
    proxy.inject("CompleteMultipartUpload", lose_answer, times=1)
    assert store.upload(KEY, Pieces(TWO_PARTS)).size == len(TWO_PARTS)
    assert real.get(KEY, limit=len(TWO_PARTS)) == TWO_PARTS


def test_a_lost_answer_to_a_create_is_no_other_writer(unspent: S3Store, real: S3Store, proxy: FaultyProxy) -> None:
    """rclone ignores the condition of the repeated request, so the proxy answers for it as Amazon does."""
    proxy.inject("PutObject", lose_answer, times=1)
    proxy.inject("PutObject", refuse(412, "PreconditionFailed"))
    unspent.put_if_absent(KEY, b"ours")
    assert real.get(KEY, limit=10) == b"ours"
    with pytest.raises(AlreadyExists):
        unspent.put_if_absent("other.json", b"somebody else's answer to an absent key")


def test_a_server_that_loses_data_is_found_out(store: S3Store, proxy: FaultyProxy, real: S3Store) -> None:
    def shorter(exchange: Exchange) -> None:
        real.overwrite(KEY, TWO_PARTS[:-1])
        exchange.send(exchange.forward())

    proxy.inject("HeadObject", shorter, skip=1)
    with pytest.raises(StoreError, match=f"has {len(TWO_PARTS) - 1} bytes, {len(TWO_PARTS)} were sent"):
        store.upload(KEY, Pieces(TWO_PARTS))


@pytest.mark.parametrize("name", ["put", "put_if_absent"])
def test_a_server_that_says_done_and_does_nothing_is_found_out(store: S3Store, proxy: FaultyProxy, name: str) -> None:
    if name == "put":
        store.put(KEY, b"-")
    proxy.inject("PutObject", say(200, b""))
    with pytest.raises(StoreError):
        CALLS[name](store)


def test_a_writer_let_through_after_us_is_found_out(store: S3Store, proxy: FaultyProxy, real: S3Store) -> None:
    def overtaken(exchange: Exchange) -> None:
        real.delete(KEY)
        real.put_if_absent(KEY, b"x" * len(TWO_PARTS))
        exchange.send(exchange.forward())

    proxy.inject("HeadObject", overtaken, skip=1)
    with pytest.raises(StoreError, match="replaced by another writer"):
        store.upload(KEY, Pieces(TWO_PARTS))


# Conditions and checksums ---------------------------------------------------------------------------------------------


def answers_conditions(proxy: FaultyProxy, operation: str, status: int, code: str) -> None:
    """The server refuses *operation* with a condition, and knows it without."""

    def fault(exchange: Exchange) -> None:
        if any(name.lower() == "if-none-match" for name in exchange.request.headers):
            refuse(status, code)(exchange)
        else:
            exchange.send(exchange.forward())

    proxy.inject(operation, fault)


@pytest.mark.parametrize(("status", "code"), [(501, "NotImplemented"), (400, "InvalidArgument")])
def test_a_server_without_conditions_can_be_written_to(
    store: S3Store, real: S3Store, proxy: FaultyProxy, status: int, code: str
) -> None:
    answers_conditions(proxy, "PutObject", status, code)
    answers_conditions(proxy, "CompleteMultipartUpload", status, code)
    store.put_if_absent("small.json", b"{}")
    store.upload(KEY, Pieces(TWO_PARTS))
    assert real.get("small.json", limit=10) == b"{}"
    assert real.get(KEY, limit=len(TWO_PARTS)) == TWO_PARTS
    with pytest.raises(AlreadyExists):
        store.put_if_absent("small.json", b"again")
    probed = store.probe()
    assert not probed.create_only
    assert not probed.multipart_create_only


@pytest.mark.parametrize("times", [1, 3])
def test_a_conflict_with_another_writer_is_tried_again(store: S3Store, proxy: FaultyProxy, times: int) -> None:
    proxy.inject("PutObject", refuse(409, "ConditionalRequestConflict"), times=times)
    store.put_if_absent(KEY, b"ours")
    assert store.get(KEY, limit=10) == b"ours"


def test_a_lasting_conflict_is_an_error(store: S3Store, proxy: FaultyProxy) -> None:
    proxy.inject("PutObject", refuse(409, "ConditionalRequestConflict"))
    with pytest.raises(StoreError, match="another writer uses the same key"):
        store.put_if_absent(KEY, b"ours")


@pytest.mark.parametrize(
    ("operation", "status", "code", "error"),
    [
        ("PutObject", 412, "PreconditionFailed", AlreadyExists),
        ("CompleteMultipartUpload", 412, "PreconditionFailed", AlreadyExists),
        ("CompleteMultipartUpload", 409, "ConditionalRequestConflict", StoreError),
    ],
)
def test_a_lost_race_is_said(
    store: S3Store, proxy: FaultyProxy, operation: str, status: int, code: str, error: type[EngineError]
) -> None:
    proxy.inject(operation, refuse(status, code))
    with pytest.raises(error, match=code):
        store.upload(KEY, Pieces(b"x" if operation == "PutObject" else TWO_PARTS))
    assert proxy.seen(operation)[0].headers["If-None-Match"] == "*"


@pytest.mark.parametrize(
    ("status", "code"),
    [(411, "MissingContentLength"), (501, "NotImplemented"), (400, "InvalidRequest"), (403, "SignatureDoesNotMatch")],
)
def test_checksums_are_left_out_where_the_server_refuses_them(
    store: S3Store, real: S3Store, proxy: FaultyProxy, status: int, code: str
) -> None:
    def fault(exchange: Exchange) -> None:
        if any(name.lower().startswith("x-amz-checksum") for name in exchange.request.headers):
            refuse(status, code)(exchange)
        else:
            exchange.send(exchange.forward())

    proxy.inject("PutObject|UploadPart|CreateMultipartUpload", fault)
    store.upload(KEY, Pieces(TWO_PARTS))
    assert real.get(KEY, limit=len(TWO_PARTS)) == TWO_PARTS
    tried = len(proxy.seen("PutObject"))
    store.put("small.json", b"{}")
    assert len(proxy.seen("PutObject")) == tried + 1, "what was found out is remembered"
    assert "x-amz-checksum-crc32" not in proxy.seen("PutObject")[-1].headers
    assert not store.probe().checksums


def test_to_the_host_itself_a_crc_is_sent_and_no_hash(store: S3Store, proxy: FaultyProxy) -> None:
    store.upload(KEY, Pieces(TWO_PARTS))
    for request in proxy.seen("UploadPart"):
        assert request.headers["x-amz-checksum-crc32"]
        assert request.headers["X-Amz-Content-SHA256"] == "UNSIGNED-PAYLOAD"


def test_elsewhere_without_tls_the_hash_of_each_body_is_signed(
    server: S3Server, proxy: FaultyProxy, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "_is_loopback", lambda _url: False)
    S3Store(server.settings(bucket, endpoint=proxy.endpoint)).upload(KEY, Pieces(TWO_PARTS))
    for request in proxy.seen("UploadPart"):
        assert re.fullmatch("[0-9a-f]{64}", request.headers["X-Amz-Content-SHA256"])
        assert "x-amz-checksum-crc32" not in request.headers


@pytest.mark.parametrize("operation", ["PutObject", "UploadPart"])
def test_a_body_that_is_changed_on_its_way_is_refused(
    store: S3Store, proxy: FaultyProxy, nothing_left: t.Callable[[], bool], operation: str
) -> None:
    """This server takes a CRC and never looks at it; MD5s it compares."""

    def change(exchange: Exchange) -> None:
        request = exchange.request
        exchange.request = dataclasses.replace(request, body=b"?" + request.body[1:])
        exchange.send(exchange.forward())

    proxy.inject(operation, change)
    with pytest.raises(StoreError):
        store.upload(KEY, Pieces(b"x" if operation == "PutObject" else TWO_PARTS))
    assert nothing_left()


# What the server says -------------------------------------------------------------------------------------------------

DENIED = {
    "AccessDenied": "s3:",
    "ExpiredToken": "expired",
    "InvalidAccessKeyId": "access key id",
    "RequestTimeTooSkewed": "clock",
}


@pytest.mark.parametrize("code", DENIED)
@pytest.mark.parametrize("name", CALLS)
def test_not_allowed_is_never_absent(store: S3Store, proxy: FaultyProxy, name: str, code: str) -> None:
    status = 400 if code == "ExpiredToken" else 403
    proxy.inject("HeadObject", refuse(status))
    proxy.inject(".*", refuse(status, code))
    with pytest.raises(AccessDenied) as caught:
        CALLS[name](store)
    assert DENIED[code] in caught.value.hint


def test_a_clock_that_some_servers_have_another_status_for(store: S3Store, proxy: FaultyProxy) -> None:
    words = "The difference between the request time and the server's time exceeds the maximum allowed."
    proxy.inject("GetObject", refuse(400, "AccessDenied", words))
    with pytest.raises(AccessDenied, match="the clock of this host"):
        store.get(KEY, limit=10)


OPERATIONS = {
    "PutObject": ("put", "put_if_absent", "upload"),
    "CreateMultipartUpload|UploadPart|CompleteMultipartUpload": ("upload in parts",),
    "GetObject": ("get", "open"),
    "HeadObject": ("head",),
    # Who may not look at an object looks for it in a listing.
    "HeadObject|ListObjectsV2": ("put_if_absent", "upload", "upload in parts"),
    "ListObjectsV2": ("list",),
    "DeleteObject": ("delete",),
}


@pytest.mark.parametrize(("operation", "name"), [(o, name) for o, names in OPERATIONS.items() for name in names])
def test_each_permission_may_be_the_one_missing(
    store: S3Store, real: S3Store, proxy: FaultyProxy, nothing_left: t.Callable[[], bool], operation: str, name: str
) -> None:
    there = name in ("get", "open", "head", "list", "delete")
    if there:
        real.put(KEY, b"x")
    proxy.inject(operation, refuse(403, "" if operation == "HeadObject" else "AccessDenied"))
    with pytest.raises(AccessDenied):
        CALLS[name](store)
    assert there or nothing_left()


@pytest.mark.parametrize(
    ("status", "code", "error", "hint"),
    [
        (404, "NoSuchBucket", BucketMissing, "create the bucket"),
        (404, "", StoreError, "endpoint is an S3 API"),
        (301, "PermanentRedirect", StoreError, "region"),
        (400, "AuthorizationHeaderMalformed", StoreError, "region"),
        (307, "TemporaryRedirect", StoreError, "region"),
        (403, "InvalidObjectState", StoreError, "archived"),
        (403, "SignatureDoesNotMatch", AccessDenied, "secret access key"),
        (401, "", AccessDenied, "s3:"),
        (400, "InvalidBucketName", StoreError, "check"),
        (500, "InternalError", StoreError, "run again"),
        (503, "", StoreError, "run again"),
    ],
)
@pytest.mark.parametrize("name", CALLS)
def test_other_answers_are_clear_errors(
    store: S3Store, proxy: FaultyProxy, name: str, status: int, code: str, error: type[EngineError], hint: str
) -> None:
    proxy.inject("HeadObject", refuse(status))
    proxy.inject(".*", refuse(status, code))
    with pytest.raises(StoreError) as caught:
        CALLS[name](store)
    assert caught.type is error
    assert hint in caught.value.hint


def test_a_delete_marker_is_mentioned(store: S3Store, proxy: FaultyProxy) -> None:
    def deleted(answer: Answer) -> None:
        answer.headers.append(("x-amz-delete-marker", "true"))

    proxy.inject("GetObject", altered(deleted))
    with pytest.raises(Deleted, match="delete marker"):
        store.get(KEY, limit=10)
    with pytest.raises(Deleted, match="delete marker"):
        store.head(KEY)


@pytest.mark.parametrize(
    "body", [b"<html><title>Welcome</title></html", b"\x00\xff", b"{}"], ids=["html", "bytes", "json"]
)
@pytest.mark.parametrize("status", [200, 403, 404, 502])
def test_what_is_no_s3_server_is_no_empty_store(store: S3Store, proxy: FaultyProxy, status: int, body: bytes) -> None:
    proxy.inject("ListObjectsV2", say(status, body))
    with pytest.raises(StoreError) as caught:
        list(store.list("db/"))
    assert not isinstance(caught.value, NotFound)
    assert caught.value.hint


@pytest.mark.parametrize("token", ["", "<NextContinuationToken>same</NextContinuationToken>"], ids=["none", "same"])
def test_a_list_that_is_cut_is_an_error(store: S3Store, proxy: FaultyProxy, token: str) -> None:
    body = f"<ListBucketResult><IsTruncated>true</IsTruncated>{token}</ListBucketResult>"
    proxy.inject("ListObjectsV2", say(200, body.encode()))
    with pytest.raises(StoreError, match="is incomplete"):
        list(store.list("db/"))


# Downloads ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("break_off", [reset_after, end_after], ids=["reset", "end"])
def test_a_download_goes_on_where_it_broke_off(
    store: S3Store, real: S3Store, proxy: FaultyProxy, break_off: t.Any
) -> None:
    real.put(KEY, TWO_PARTS)
    for count in (0, 1, MIB, 4 * MIB + 1):
        proxy.inject("GetObject", break_off(count), times=1)
    assert store.get(KEY, limit=len(TWO_PARTS)) == TWO_PARTS
    first, *others = proxy.seen("GetObject")
    assert "Range" not in first.headers
    assert len(others) == 4
    assert all(request.headers["Range"] and request.headers["If-Match"] for request in others)


def test_a_download_goes_on_when_the_server_sends_all_of_it_again(
    store: S3Store, real: S3Store, proxy: FaultyProxy
) -> None:
    real.put(KEY, TWO_PARTS)
    whole: list[Answer] = []

    def break_off(exchange: Exchange) -> None:
        whole.append(exchange.forward())
        exchange.send(whole[0], cut=3 * MIB)
        exchange.reset()

    def again(exchange: Exchange) -> None:
        """All of it again, but broken off within what was read already."""
        exchange.send(whole[0], cut=MIB)
        exchange.reset()

    proxy.inject("GetObject", break_off, times=1)
    proxy.inject("GetObject", again, times=1)
    proxy.inject("GetObject", lambda exchange: exchange.send(whole[0]))
    assert store.get(KEY, limit=len(TWO_PARTS)) == TWO_PARTS
    assert len(proxy.seen("GetObject")) == 3


@pytest.mark.parametrize("break_off", [reset_after(MIB), end_after(MIB)], ids=["reset", "end"])
def test_a_short_object_is_an_error_and_no_end(
    store: S3Store, real: S3Store, proxy: FaultyProxy, break_off: t.Any
) -> None:
    """The server promises more than it has, and says so again each time."""
    real.put(KEY, TWO_PARTS)
    proxy.inject("GetObject", break_off, times=1)
    proxy.inject("GetObject", end_after(0))
    with store.open(KEY) as reader:
        with pytest.raises(Unreachable, match=rf"was interrupted after \d+ of {len(TWO_PARTS)} bytes") as caught:
            read_all(reader, limit=len(TWO_PARTS))
        assert caught.value.hint
        with pytest.raises(Unreachable):
            reader.read(1)


@pytest.mark.parametrize("count", [1, 300])
def test_a_server_that_hands_out_next_to_nothing_each_time_is_left(
    store: S3Store, real: S3Store, proxy: FaultyProxy, count: int
) -> None:
    real.put(KEY, TWO_PARTS)
    proxy.inject("GetObject", end_after(count))
    with pytest.raises(Unreachable, match=rf"was interrupted after \d+ of {len(TWO_PARTS)} bytes"):
        store.get(KEY, limit=len(TWO_PARTS))
    assert len(proxy.seen("GetObject")) <= s3.ATTEMPTS + 1


def test_a_download_that_breaks_off_again_and_again_goes_on_as_long_as_there_is_progress(
    store: S3Store, real: S3Store, proxy: FaultyProxy
) -> None:
    real.put(KEY, TWO_PARTS)
    proxy.inject("GetObject", end_after(MIB))
    assert store.get(KEY, limit=len(TWO_PARTS)) == TWO_PARTS
    assert len(proxy.seen("GetObject")) > s3.ATTEMPTS + 1


def test_a_download_never_goes_on_in_another_object(store: S3Store, real: S3Store, proxy: FaultyProxy) -> None:
    real.put(KEY, TWO_PARTS)
    proxy.inject("GetObject", reset_after(MIB), times=1)
    with store.open(KEY) as reader:
        reader.read(10)
        real.put(KEY, TWO_PARTS[::-1])
        with pytest.raises(StoreError, match="another object"):
            read_all(reader, limit=len(TWO_PARTS))


@pytest.mark.parametrize(
    ("status", "code"), [(412, "PreconditionFailed"), (404, "NoSuchKey"), (416, "InvalidRange"), (403, "AccessDenied")]
)
def test_an_object_gone_while_it_is_read_was_there(
    store: S3Store, real: S3Store, proxy: FaultyProxy, status: int, code: str
) -> None:
    real.put(KEY, TWO_PARTS)
    proxy.inject("GetObject", reset_after(MIB), times=1)
    proxy.inject("GetObject", refuse(status, code))
    with store.open(KEY) as reader, pytest.raises(StoreError) as caught:
        read_all(reader, limit=len(TWO_PARTS))
    assert not isinstance(caught.value, (NotFound, AlreadyExists))
    assert code in caught.value.cause


def test_a_stalled_server_is_left_and_asked_again(
    server: S3Server, real: S3Store, bucket: str, proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "READ_SECONDS", 0.3)
    real.put(KEY, TWO_PARTS)
    released = threading.Event()

    def stall(exchange: Exchange) -> None:
        exchange.send(exchange.forward(), cut=MIB)
        released.wait(30)
        exchange.reset()

    proxy.inject("GetObject", stall, times=1)
    store = S3Store(server.settings(bucket, endpoint=proxy.endpoint))
    try:
        assert store.get(KEY, limit=len(TWO_PARTS)) == TWO_PARTS
    finally:
        released.set()


# Limits ---------------------------------------------------------------------------------------------------------------


def test_a_stream_of_too_many_parts_is_an_error_and_leaves_nothing(
    store: S3Store, real: S3Store, nothing_left: t.Callable[[], bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "MAX_PARTS", 2)
    exactly = bytes(2 * PART_SIZE)
    assert store.upload("fits.gz", Pieces(exactly)).size == len(exactly)
    real.delete("fits.gz")
    with pytest.raises(StoreError, match="longer than the 2 parts"):
        store.upload(KEY, Pieces(bytes(2 * PART_SIZE + 1)))
    assert nothing_left()


def test_a_source_may_end_the_program(store: S3Store, nothing_left: t.Callable[[], bool]) -> None:
    """A SystemExit in one of the transfer manager's threads would make it wait for ever."""

    class Ending(Pieces):
        def read(self, n: int, /) -> bytes:
            if self.position > 3 * PART_SIZE:
                raise SystemExit(3)
            return super().read(n)

    with pytest.raises(SystemExit):
        store.upload(KEY, Ending(bytes(4 * PART_SIZE), sizes=(MIB,)))
    assert nothing_left()


def test_a_signal_ends_an_upload_whose_source_hangs(store: S3Store, nothing_left: t.Callable[[], bool]) -> None:
    source = Stuck(bytes(2 * PART_SIZE))
    caller = threading.get_ident()

    def interrupt() -> None:
        source.waiting.wait()
        signal.pthread_kill(caller, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            store.upload(KEY, source)
    finally:
        source.close()
        thread.join()
    assert nothing_left()


# The way to the server ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CALLS)
def test_nothing_listening_is_unreachable(server: S3Server, name: str) -> None:
    store = S3Store(server.settings("bucket", endpoint=f"http://127.0.0.1:{free_port()}"))
    with pytest.raises(Unreachable) as caught:
        CALLS[name](store)
    assert "nothing answers at http://127.0.0.1" in caught.value.hint


def test_a_name_that_does_not_resolve_is_said(server: S3Server) -> None:
    store = S3Store(server.settings("bucket", endpoint="https://s3.no-such-host.invalid"))
    with pytest.raises(Unreachable, match="can't be resolved"):
        store.head(KEY)


def test_a_server_that_never_answers_times_out(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "READ_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        store = S3Store(server.settings("bucket", endpoint=f"http://127.0.0.1:{silent.getsockname()[1]}"))
        with pytest.raises(Unreachable, match="in time"):
            store.head(KEY)


def test_tls_is_never_skipped(server: S3Server, tmp_path: t.Any) -> None:
    with S3Server(tls=True) as tls, S3Server(tmp_path, tls=True) as other:
        tls.create_bucket("bucket")
        known = S3Store(tls.settings("bucket"))
        known.put(KEY, b"x")
        for bundle in (None, other.ca_bundle):
            store = S3Store(tls.settings("bucket", ca_bundle=bundle))
            with pytest.raises(Unreachable, match=r"CERTIFICATE_VERIFY_FAILED.*CA bundle"):
                store.head(KEY)
        # http to a port that speaks TLS, and the other way round.
        with pytest.raises(StoreError):
            S3Store(tls.settings("bucket", endpoint=tls.endpoint.replace("https", "http"))).head(KEY)
        with pytest.raises(Unreachable, match="scheme"):
            S3Store(server.settings("bucket", endpoint=server.endpoint.replace("http", "https"))).head(KEY)


def test_wrong_credentials_are_said_by_a_real_server(server: S3Server, bucket: str) -> None:
    for wrong in ({"secret_access_key": Secret("x" * 40)}, {"access_key_id": "AKIAWRONG"}):
        store = S3Store(server.settings(bucket, **wrong))
        for call in CALLS.values():
            with pytest.raises(AccessDenied) as caught:
                call(store)
            assert "x" * 40 not in str(caught.value)


def test_no_credentials_is_no_absence(server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: t.Any) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    store = S3Store(S3Settings("bucket", endpoint=server.endpoint))
    with pytest.raises(AccessDenied, match=r"Unable to locate credentials.*give both keys"):
        store.head(KEY)


def test_the_chain_finds_credentials(server: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", server.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", server.secret_key)
    store = S3Store(S3Settings(bucket, endpoint=server.endpoint))
    store.put(KEY, b"x")
    assert store.get(KEY, limit=1) == b"x"


def test_an_unknown_profile_is_a_setting(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "no-such-profile")
    with pytest.raises(ConfigurationError, match="no-such-profile"):
        S3Store(S3Settings("bucket", endpoint=server.endpoint))


def test_no_secret_in_logs_or_texts(
    store: S3Store, server: S3Server, proxy: FaultyProxy, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    store.put(KEY, b"x")
    proxy.inject(".*", refuse(403, "SignatureDoesNotMatch"))
    with pytest.raises(AccessDenied) as caught:
        store.put(KEY, b"x")
    for text in (caplog.text, str(caught.value), repr(store), store.location, repr(server.settings("b", endpoint="e"))):
        assert server.secret_key not in text
