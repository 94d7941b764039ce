# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a store may answer: every status to every kind of request, for ever or for a while, and answers that lie."""

from __future__ import annotations

import dataclasses
import typing as t

from tests.faults.trial import BACKUP, BOOTSTRAP, EITHER, FAILS, RESTORE, SUCCEEDS, Case, Trial, meets
from tests.support.faultyproxy import Answer, Exchange, Fault, altered, refuse, say

#: What S3 servers say with each status.
STATUSES = {
    400: "InvalidRequest",
    401: "",
    403: "AccessDenied",
    404: "NoSuchBucket",
    405: "MethodNotAllowed",
    409: "OperationAborted",
    411: "MissingContentLength",
    412: "PreconditionFailed",
    416: "InvalidRange",
    429: "TooManyRequests",
    500: "InternalError",
    501: "NotImplemented",
    502: "",
    503: "SlowDown",
    504: "",
}
#: These are tried again.
PASSING = (429, 500, 502, 503, 504)


@dataclasses.dataclass(frozen=True)
class Point:
    """One kind of request in a run.

    :param statuses: those tried here; the others are at the same request of another run.
    :param harmless: the run can do without its answer.
    """

    name: str
    stage: str
    operation: str
    words: str
    key: str = ".*"
    live: str = "small"
    harmless: bool = False
    statuses: tuple[int, ...] = tuple(STATUSES)


DUMP = r".*\.age"
MANIFEST = r".*\.manifest\.json"
LATEST = r".*latest-dump\.json"

POINTS = (
    Point("get-latest", BACKUP, "GetObject", "GET of the latest manifest", LATEST),
    Point("head-dump", BACKUP, "HeadObject", "HEAD of the new dump's key", DUMP),
    Point("put-dump", BACKUP, "PutObject", "PUT of the dump", DUMP),
    Point("put-manifest", BACKUP, "PutObject", "PUT of its manifest", MANIFEST, statuses=(403, 412, 500, 503)),
    Point("put-latest", BACKUP, "PutObject", "PUT of the latest manifest", LATEST),
    Point("create-parts", BACKUP, "CreateMultipartUpload", "beginning of an upload in parts", live="large"),
    Point("put-part", BACKUP, "UploadPart", "PUT of a part", live="large"),
    Point("complete-parts", BACKUP, "CompleteMultipartUpload", "completion of an upload in parts", live="large"),
    Point("abort-parts", BACKUP, "AbortMultipartUpload", "abort of an upload in parts", live="large", harmless=True),
    Point(
        "get-manifest", RESTORE, "GetObject", "GET of the latest manifest", LATEST, statuses=(403, 404, 416, 500, 503)
    ),
    Point("get-dump", RESTORE, "GetObject", "GET of the dump", DUMP),
    Point("bootstrap-get", BOOTSTRAP, "GetObject", "GET of the dump", DUMP, statuses=(403, 404, 503)),
    Point("bootstrap-list", BOOTSTRAP, "ListObjectsV2", "LIST of a prefix whose latest manifest is gone"),
)


def cases() -> t.Iterator[Case]:
    """All of them."""
    for point in POINTS:
        for status in point.statuses:
            yield _status(point, status, STATUSES[status])
        for status in PASSING if point.name in ("put-dump", "get-dump") else (503,):
            if point.name != "bootstrap-list":
                yield _passing(point, status)
    yield from _denials()
    yield from _lies()


def _status(point: Point, status: int, code: str) -> Case:
    def arrange(trial: Trial) -> None:
        # What can't be aborted stays: the bucket's rule for incomplete uploads removes it.
        trial.may_leave = point.name == "abort-parts"
        if point.name == "bootstrap-list":
            trial.at_rest(trial.live.latest, None)
        # An answer to HEAD has no body, and the question that is asked then gets the same answer.
        operation = "HeadObject|GetObject" if point.operation == "HeadObject" else point.operation
        trial.inject(operation, refuse(status, code), key=point.key)

    harmless = point.harmless
    return Case(
        id=f"{point.stage}/{point.name}/{status}",
        stage=point.stage,
        fault=f"{status} {code} to the {point.words}".replace("  ", " "),
        arrange=arrange,
        # A host that may not read dumps finds its own in the list.
        expected=SUCCEEDS if harmless else EITHER if point.name == "head-dump" and status in (401, 403) else FAILS,
        says="" if harmless else str(status),
        live=point.live,
        quick=(point.name, status)
        in {("put-dump", 403), ("get-dump", 503), ("put-latest", 500), ("put-manifest", 412), ("get-latest", 403)},
    )


def _passing(point: Point, status: int) -> Case:
    return Case(
        id=f"{point.stage}/{point.name}/{status}-passes",
        stage=point.stage,
        fault=f"{status} to the {point.words}, three times, then none any more",
        arrange=meets(point.operation, refuse(status, STATUSES[status]), key=point.key, times=3),
        expected=SUCCEEDS,
        live=point.live,
        quick=(point.name, status) == ("put-dump", 503),
    )


def _denials() -> t.Iterator[Case]:
    """Credentials that are refused in the middle of the work, or with words of their own."""
    expired = refuse(400, "ExpiredToken", "The provided token has expired.")

    def later(operation: str, skip: int, fault: Fault = expired) -> t.Callable[[Trial], None]:
        return meets(operation, fault, skip=skip)

    yield Case(
        "backup/expired/mid-upload",
        BACKUP,
        "credentials expire after the first part",
        later("UploadPart|CompleteMultipartUpload", 2),
        says="expired",
        live="large",
        quick=True,
    )
    yield Case(
        "backup/expired/before-manifest",
        BACKUP,
        "credentials expire after the dump",
        meets("PutObject", expired, key=MANIFEST),
        says="expired",
    )
    yield Case(
        "restore/expired/mid-download",
        RESTORE,
        "credentials expire after the manifest",
        meets("GetObject", expired, key=DUMP),
        says="expired",
    )
    for code in ("RequestTimeTooSkewed", "InvalidAccessKeyId", "SignatureDoesNotMatch", "AccountProblem"):
        for stage in (BACKUP, RESTORE):
            yield Case(
                f"{stage}/denied/{code}",
                stage,
                f"403 {code} to everything",
                meets(".*", refuse(403, code)),
                says=code,
            )
    for name, value in (
        ("S3_SECRET_ACCESS_KEY", "x" * 40),
        ("S3_ACCESS_KEY_ID", "AKIAWRONG"),
        ("DB_BACKUP_BUCKET", "none-such"),
    ):
        for stage in (BACKUP, RESTORE):

            def wrong(trial: Trial, name: str = name, value: str = value) -> None:
                trial.settings[name] = value
                trial.inject("GetObject|HeadObject", lambda exchange: exchange.send(exchange.forward()))

            yield Case(f"{stage}/denied/{name}", stage, f"a wrong {name}, judged by the real server", wrong)


def _lies() -> t.Iterator[Case]:
    error = b'<?xml version="1.0"?>\n<Error><Code>InternalError</Code><Message>injected</Message></Error>'
    yield Case(
        "backup/complete-parts/200-error-passes",
        BACKUP,
        "200 with an error in its body to the completion, once",
        meets("CompleteMultipartUpload", say(200, error), times=1),
        expected=SUCCEEDS,
        live="large",
    )
    for name, body in (
        ("error", error),
        ("empty", b""),
        ("html", b"<html>Welcome</html"),
        ("denied", error.replace(b"InternalError", b"AccessDenied")),
    ):
        yield Case(
            f"backup/complete-parts/200-{name}",
            BACKUP,
            f"200 to the completion, with a body that is not a success ({name}), and nothing is completed",
            _incomplete(body),
            live="large",
            quick=name == "error",
        )
    for point in POINTS[:5]:
        yield Case(
            f"backup/{point.name}/200-nothing",
            BACKUP,
            f"200 to the {point.words}, and nothing is done",
            meets(point.operation, say(200, b""), key=point.key),
        )
    for stage, operation in (
        (BACKUP, "GetObject"),
        (RESTORE, "GetObject"),
        (BOOTSTRAP, "GetObject"),
        (BACKUP, "HeadObject"),
    ):
        for name, body in (("html", b"<html><title>Sign in</title></html>"), ("json", b"{}"), ("empty", b"")):
            if operation == "HeadObject" and name != "html":
                continue
            yield Case(
                f"{stage}/{operation}/portal-{name}",
                stage,
                f"a proxy on the way answers 200 with {name} to each {operation}",
                meets(operation, say(200, body)),
            )
    for stage in (BACKUP, RESTORE):
        yield Case(
            f"{stage}/get-latest/no-such-key",
            stage,
            "the latest manifest is not there",
            lambda trial: trial.at_rest(trial.live.latest, None),
            expected=SUCCEEDS if stage == BACKUP else FAILS,
        )
        yield Case(
            f"{stage}/get-latest/delete-marker",
            stage,
            "a delete marker stands in the place of the latest manifest",
            _marker,
            expected=SUCCEEDS if stage == BACKUP else FAILS,
            says="" if stage == BACKUP else "delete marker",
            quick=stage == RESTORE,
        )
    yield Case(
        "bootstrap/get-latest/delete-marker",
        BOOTSTRAP,
        "a delete marker stands in the place of the latest manifest",
        _marker,
        says="delete marker",
    )
    yield Case(
        "bootstrap/get-latest/no-such-key",
        BOOTSTRAP,
        "the latest manifest is gone, dumps are there",
        lambda trial: trial.at_rest(trial.live.latest, None),
        says="missing",
    )
    yield from _lists()
    yield Case(
        "backup/put-part/no-etag",
        BACKUP,
        "the answer to a part has no ETag",
        meets("UploadPart", altered(_without("etag"))),
        live="large",
        expected=EITHER,
    )
    for name in ("content-length", "last-modified", "etag"):
        yield Case(
            f"restore/get-dump/no-{name}",
            RESTORE,
            f"the answer with the dump has no {name}",
            meets("GetObject", _bare(name), key=DUMP),
            expected=EITHER,
        )
    for name, by in (("shorter", -1), ("longer", 1), ("half", None), ("zero", 0)):
        yield Case(
            f"restore/get-dump/content-length-{name}",
            RESTORE,
            f"the dump's Content-Length is wrong: {name}",
            meets("GetObject", _promising(by), key=DUMP),
            quick=name == "half",
        )
        yield Case(
            f"restore/get-manifest/content-length-{name}",
            RESTORE,
            f"the manifest's Content-Length is wrong: {name}",
            meets("GetObject", _promising(by), key=LATEST),
        )


def _incomplete(body: bytes) -> t.Callable[[Trial], None]:
    def arrange(trial: Trial) -> None:
        # Taken for completed, it can't be aborted any more.
        trial.may_leave = True
        trial.inject("CompleteMultipartUpload", say(200, body))

    return arrange


def _lists() -> t.Iterator[Case]:
    """Lists that are cut, or that lie, where it is to be found out whether there is any backup."""

    def listing(name: str, words: str, body: bytes, expected: str = FAILS, says: str = "") -> Case:
        def arrange(trial: Trial) -> None:
            trial.at_rest(trial.live.latest, None)
            trial.inject("ListObjectsV2", say(200, body))

        return Case(f"bootstrap/list/{name}", BOOTSTRAP, words, arrange, expected=expected, says=says)

    def contents(*keys: str) -> str:
        return "".join(
            f"<Contents><Key>{key}</Key><Size>1</Size><LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
            for key in keys
        )

    def page(inner: str) -> bytes:
        return f"<ListBucketResult>{inner}</ListBucketResult>".encode()

    cut = "<IsTruncated>true</IsTruncated>"
    many = contents(*(f"db/small/other-{number}" for number in range(1000)))
    yield listing(
        "cut", "a list is cut at 1,000 keys, and doesn't say where it goes on", page(many + cut), says="is incomplete"
    )
    yield listing(
        "same-page",
        "a list goes on with the same page, again and again",
        page(many + cut + "<NextContinuationToken>same</NextContinuationToken>"),
        says="is incomplete",
    )
    yield listing(
        "extra",
        "a list has keys that nobody asked for, and the backups",
        page(contents("../../x", "db/small/20260101T000000Z.sql.gz.age")),
        says="missing",
    )
    yield listing("html", "a page of a proxy in place of a list", b"<html><title>Sign in</title></html", says="listed")
    yield listing("garbage", "bytes that are no XML in place of a list", b"\x00\xff\xfe<")

    def second_page(trial: Trial) -> None:
        trial.at_rest(trial.live.latest, None)
        more = "<NextContinuationToken>more</NextContinuationToken>"
        trial.inject("ListObjectsV2", say(200, page(many + cut + more)), times=1)
        trial.inject("ListObjectsV2", say(200, page(contents("db/small/20260101T000000Z.sql.gz.age"))))

    yield Case(
        "bootstrap/list/second-page",
        BOOTSTRAP,
        "the backups stand on the second page of a list",
        second_page,
        says="missing",
    )


def _marker(trial: Trial) -> None:
    trial.at_rest(trial.live.latest, None)

    def deleted(exchange: Exchange) -> None:
        answer = exchange.forward()
        if answer.status == 404:
            answer.headers.append(("x-amz-delete-marker", "true"))
        exchange.send(answer)

    trial.inject("GetObject", deleted, key=LATEST)


def _without(name: str) -> t.Callable[[Answer], None]:
    def change(answer: Answer) -> None:
        answer.headers = [header for header in answer.headers if header[0].lower() != name]

    return change


def _bare(name: str) -> Fault:
    """The whole answer, but for one header; its end is the connection's."""

    def fault(exchange: Exchange) -> None:
        answer = exchange.forward()
        lines = [f"{key}: {value}" for key, value in answer.headers if key.lower() != name]
        head = "\r\n".join([f"HTTP/1.1 {answer.status} OK", *lines, "Connection: close"])
        exchange.send_bytes(head.encode("latin-1") + b"\r\n\r\n" + answer.body)

    return fault


def _promising(by: int | None) -> Fault:
    """The answer promises another length than it has: *by* more, none at all (0), or half (``None``)."""

    def fault(exchange: Exchange) -> None:
        answer = exchange.forward()
        size = len(answer.body)
        length = size // 2 if by is None else 0 if by == 0 else size + by
        lines = [f"{key}: {value}" for key, value in answer.headers if key.lower() != "content-length"]
        head = "\r\n".join([f"HTTP/1.1 {answer.status} OK", *lines, f"Content-Length: {length}"])
        exchange.send_bytes(head.encode("latin-1") + b"\r\n\r\n" + answer.body)

    return fault
