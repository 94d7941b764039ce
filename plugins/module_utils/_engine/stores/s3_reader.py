# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Reader of an object on an S3 server that resumes after lost connections."""

from __future__ import annotations

import dataclasses
import re
import time
import typing as t

from ..errors import AlreadyExists, NotFound, StoreError, Unreachable
from .base import ObjectInfo
from .s3_errors import BODY_ERRORS

if t.TYPE_CHECKING:
    from types import TracebackType

    from mypy_boto3_s3.type_defs import GetObjectOutputTypeDef, HeadObjectOutputTypeDef

#: Seconds before the first attempt to resume; each further wait without progress is twice as long.
RESUME_SECONDS = 0.5
#: Minimum progress in bytes: a server that sends less each time could keep a reader busy for days.
PROGRESS = 64 * 1024
_SKIP = 1024 * 1024


class S3Reader:
    """A reader of an object; see :class:`.base.ObjectReader`.

    If the connection is lost or an answer ends early, it requests the rest, only of the same object and only as long as
    a limited number of attempts makes progress.

    :param fetch: requests the object; accepts boto3's ``Range`` and ``IfMatch``.
    :param attempts: maximum number of attempts to resume until PROGRESS bytes have been received since the first one.
    """

    def __init__(self, key: str, fetch: t.Callable[..., GetObjectOutputTypeDef], *, attempts: int) -> None:
        answer = fetch()
        self.info = info_of(key, answer)
        self.size = self.info.size
        self._fetch = fetch
        self._attempts = attempts
        self._failures = 0
        self._failed_at = 0
        self._same = {"IfMatch": answer["ETag"]} if self.info.etag else {}
        self._body = answer["Body"]
        # Bytes returned to the caller, and offset in the object, which is lower if a server resends the whole object.
        self._position = 0
        self._at = 0

    def read(self, n: int, /) -> bytes:
        """Return the next bytes of the object."""
        while n > 0 and self._position < self.size:
            behind = self._position - self._at
            try:
                data = self._body.read(min(behind, _SKIP) if behind else min(n, self.size - self._position))
            except BODY_ERRORS as error:
                self._resume(f"{type(error).__name__}: {error}")
                continue
            if not data:
                self._resume("the server ended its answer early")
                continue
            self._at += len(data)
            if not behind:
                self._position = self._at
                if self._position - self._failed_at >= PROGRESS:
                    self._failures = 0
                return data
        return b""

    def close(self) -> None:
        """Close the connection, or return it to the pool if the answer was read to its end."""
        self._body.close()

    def __enter__(self) -> S3Reader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self.close()

    def _resume(self, cause: str) -> None:
        """Request the rest; raise an error after too many attempts, or if the object has changed."""
        self._body.close()
        message = f"the download of {self.info.key!a} was interrupted after {self._position} of {self.size} bytes"
        if self._failures == self._attempts:
            hint = "check the network, and whether the store still has the whole object"
            raise Unreachable(message, phase="download", cause=cause, hint=hint)
        time.sleep(RESUME_SECONDS * 2**self._failures)
        if not self._failures:
            self._failed_at = self._position
        self._failures += 1
        try:
            answer = self._fetch(Range=f"bytes={self._position}-", **self._same)
        except (NotFound, AlreadyExists) as error:
            # Deleted or, according to the condition, replaced: this does not mean that it never existed.
            raise _changed(message, error.cause) from error
        start, size = _extent(answer)
        now = dataclasses.replace(info_of(self.info.key, answer), size=size)
        if now != self.info or start not in (0, self._position):
            answer["Body"].close()
            raise _changed(message, "the store now has another object under this key")
        self._body = answer["Body"]
        self._at = start


def info_of(key: str, answer: HeadObjectOutputTypeDef | GetObjectOutputTypeDef) -> ObjectInfo:
    """The object that an answer to HEAD or GET describes (for a range, *size* is that of the range)."""
    if "ContentLength" not in answer or "LastModified" not in answer:
        raise StoreError(
            f"the answer of the store lacks the size or the time of {key!a}",
            hint="check that the endpoint is an S3 API, and that no proxy changes its answers",
        )
    return ObjectInfo(key, answer["ContentLength"], answer["LastModified"], etag_of(answer.get("ETag")))


def etag_of(text: str | None) -> str | None:
    """The entity tag without its quotes; ``None`` if it is empty, as on some servers."""
    return (text or "").strip('"') or None


def _extent(answer: GetObjectOutputTypeDef) -> tuple[int, int]:
    """The offset of an answer's body in its object, and the object's size.

    The status does not help: some servers answer 200 to a range request, whether they honour the range or not.
    """
    match = re.match(r"bytes (\d+)-\d+/(\d+)\Z", answer.get("ContentRange", ""))
    return (int(match[1]), int(match[2])) if match else (0, answer["ContentLength"])


def _changed(message: str, cause: str) -> StoreError:
    hint = "find out who writes to the bucket, then run again"
    return StoreError(f"{message}, and it is now another object", phase="download", cause=cause, hint=hint)
