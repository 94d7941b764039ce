# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""A store in a bucket of Amazon S3 or of a server with a compatible API.

boto3 and its transfer manager do the work.  This module decides:

Create-only writes.  Before a create-only write, the store checks that the key is free, and sends ``If-None-Match: *``
with the write and with the completion of a multipart upload.  Servers that support the condition close the gap between
the two.  If a server rejects it (501, some with 400), the same request is sent again without it.  Servers that ignore
it can't be distinguished.  Each object has a random token in its metadata, by which its writer recognizes it: when an
answer was lost and the retry finds the key taken, and when a server that ignores conditions has accepted another
writer's object.

Checksums.  ``auto`` sends a CRC-32 with each write over TLS and to the local host.  Over plain HTTP botocore signs the
SHA-256 of each body, which protects more, so a CRC would only cost time.  A server that rejects one form gets the
other.  Before a multipart upload, the store detects this with an upload of a one-byte part, which it aborts: that
leaves nothing behind and needs no further permissions.  Bodies sent to the local host (plain HTTP to a loopback
address) are not signed: nobody is in between, and SHA-256 takes most of an upload's processor time.  Some servers
accept CRCs and never verify them, so each plain body also has an MD5, which every server verifies.  (A CRC over TLS is
in a trailer, which only a server that supports it can decode.)

Permissions.  :mod:`..domain.policies` lists them.  A host that must not read the dumps that it writes uses a listing to
check that a key is free, and to check the size afterwards; then it can't detect another writer at the same moment.
"""

from __future__ import annotations

import base64
import contextlib
import ctypes
import dataclasses
import datetime
import hashlib
import ipaddress
import os
import secrets
import typing as t
import urllib.parse

from ..domain.manifest import Destination
from ..errors import AccessDenied, AlreadyExists, ConfigurationError, LibraryMissing, NotFound, StoreError
from .base import (
    PROBE_KEY,
    PROBE_TEXT,
    TAKEN,
    Capabilities,
    ObjectInfo,
    Protection,
    Readable,
    S3Settings,
    check_key,
    read_all,
)
from .s3_errors import CALL_ERRORS, CONNECT_ERRORS, code_of, is_refusal, parse_time, status_of, translated
from .s3_reader import S3Reader, etag_of, info_of

try:
    import boto3.session
    import botocore.config
    import botocore.exceptions
    import s3transfer.manager
except ImportError:
    boto3 = None  # type: ignore[assignment]

if t.TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client
    from mypy_boto3_s3.type_defs import GetObjectOutputTypeDef, HeadObjectOutputTypeDef
    from s3transfer.futures import TransferFuture

MIB = 1024 * 1024
#: S3's limits for a multipart upload.
MAX_PARTS = 10_000
MAX_PART_SIZE = 5 * 1024 * MIB
#: Minimum size of a part.  Without a size hint, an object may have 10,000 of these parts: 78 GiB.
PART_SIZE = 8 * MIB
#: Number of parts sent at the same time.
PARTS_IN_FLIGHT = 2

CONNECT_SECONDS = 10
READ_SECONDS = 60
ATTEMPTS = 5

_TOKEN = "infrazero-upload"
#: Answers of servers to a question about a setting that the bucket, or the server, does not have.
_NO_SUCH_SETTING = frozenset({"ObjectLockConfigurationNotFoundError", "NoSuchObjectLockConfiguration"})
_REGION = "us-east-1"
#: From malloc.h.
_M_ARENA_MAX = -8

#: Checksum arguments of a write, see *Checksums* above.
Form = t.Mapping[str, t.Any]
_WITH_CRC: Form = {"ChecksumAlgorithm": "CRC32"}
_PLAIN: Form = {}


def part_size_for(size_hint: int | None) -> int:
    """Size of each part in bytes so that 10,000 parts can contain *size_hint* bytes and a tenth more.

    An upload keeps up to five parts in memory: those being sent, one that waits, and one being assembled.  That is
    40 MiB up to a hint of 71 GiB, and then 55 MiB for each 100 GB of the hint.

    :raises ConfigurationError: if parts would exceed 5 GiB, the maximum of S3.
    """
    wanted = -(-(size_hint or 0) * 11 // (10 * MAX_PARTS))
    size = max(PART_SIZE, -(-wanted // MIB) * MIB)
    if size > MAX_PART_SIZE:
        raise ConfigurationError(
            f"an object of {size_hint} bytes is larger than S3 can store",
            hint="back up the database in another way, such as a physical backup",
        )
    return size


class S3Store:
    """The bucket ``settings.bucket``; :class:`.base.Store` documents its methods.

    Creating a store sends no request to an S3 server (boto3's credential chain may query the machine's metadata
    service).  Several threads may use a store at the same time.
    """

    def __init__(self, settings: S3Settings, *, client: S3Client | None = None) -> None:
        """Create a store; *client* is that of another store with the same settings except the bucket."""
        self._settings = settings
        self._bucket = settings.bucket
        self._client = client or _connect(settings)
        self._clock = _Clock(self._client)
        _share_one_heap()
        self._endpoint = self._client.meta.endpoint_url
        self._forms = _forms(settings.checksums, self._endpoint)
        self._capabilities: Capabilities | None = None

    @property
    def location(self) -> str:
        """Description of the bucket and the endpoint."""
        return f"s3://{self._bucket} ({self._endpoint})"

    @property
    def facts(self) -> Destination:
        """What the server's answers have shown so far."""
        honoured = None if self._capabilities is None else self._capabilities.create_only
        checksums = bool(self._forms[0]) if len(self._forms) == 1 else None
        return Destination(kind="s3", create_only=honoured, checksums=checksums)

    def url(self, key: str) -> str:
        """Location of the object as ``s3://bucket/key``."""
        return f"s3://{self._bucket}/{key}"

    def put_if_absent(self, key: str, data: bytes) -> None:
        """Create the object."""
        self._require_absent(key)
        token = secrets.token_hex(16)
        self._create(key, data, token)
        self._checked(key, len(data), token)

    def put(self, key: str, data: bytes) -> None:
        """Create or replace the object."""
        token = secrets.token_hex(16)
        self.overwrite(key, data, token=token)
        self._checked(key, len(data), token)

    def upload(self, key: str, source: Readable, *, size_hint: int | None = None) -> ObjectInfo:
        """Create the object from a stream; one smaller than a part is sent in one request.

        More than 10,000 parts (see :func:`part_size_for`) are an error, and nothing is stored.
        """
        self._require_absent(key)
        parts = _Parts(source, part_size_for(size_hint))
        token = secrets.token_hex(16)
        if parts.is_one():
            self._create(key, parts.read(), token)
        else:
            try:
                self._create_from_parts(key, parts, token)
            except _SourceFailed as error:
                raise error.failure from None
        return self._checked(key, parts.total, token)

    def get(self, key: str, *, limit: int) -> bytes:
        """Return the whole object."""
        with self.open(key) as reader:
            return read_all(reader, limit=limit)

    def open(self, key: str) -> S3Reader:
        """Open the object for reading."""
        check_key(key)

        def fetch(**part: t.Any) -> GetObjectOutputTypeDef:
            with self._translated(f"{self.url(key)!a} can't be read", "download"):
                return self._client.get_object(Bucket=self._bucket, Key=key, **part)

        return S3Reader(key, fetch, attempts=ATTEMPTS)

    def head(self, key: str) -> ObjectInfo:
        """Return the object's size and modification time."""
        check_key(key)
        with self._translated(f"{self.url(key)!a} can't be inspected", "store"):
            return info_of(key, self._head(key))

    def list(self, prefix: str) -> t.Iterator[ObjectInfo]:
        """Return all objects whose keys begin with *prefix*, page by page."""
        more: dict[str, t.Any] = {}
        while True:
            with self._translated(f"objects under {self.url(prefix)!a} can't be listed", "list"):
                page = self._client.list_objects_v2(Bucket=self._bucket, Prefix=prefix, **more)
            for item in page.get("Contents", ()):
                yield ObjectInfo(item["Key"], item["Size"], item["LastModified"], etag_of(item.get("ETag")))
            if not page.get("IsTruncated"):
                return
            token = page.get("NextContinuationToken")
            if not token or token == more.get("ContinuationToken"):
                raise StoreError(
                    f"the list of objects under {self.url(prefix)!a} is incomplete",
                    phase="list",
                    cause="the store reported further objects, but not how to request them",
                    hint="report this to the operator of the store; an incomplete list can't be used",
                )
            more = {"ContinuationToken": token}

    def delete(self, key: str) -> None:
        """Delete the object (in a bucket with versions, hide it)."""
        check_key(key)
        with self._translated(f"{self.url(key)!a} can't be deleted", "delete"):
            self._client.delete_object(Bucket=self._bucket, Key=key)

    def sibling(self, bucket: str) -> S3Store:
        """Return another bucket that uses the same connections."""
        if bucket == self._bucket:
            return self
        return S3Store(dataclasses.replace(self._settings, bucket=bucket), client=self._client)

    def overwrite(self, key: str, data: bytes, *, token: str = "") -> str | None:
        """Create or replace the object; return its new version if the bucket keeps versions, otherwise ``None``.

        Relies on the server's answer, unlike :meth:`put`, which afterwards checks that the object has *token*.
        """
        check_key(key)
        version: list[str | None] = []

        def write(form: Form) -> None:
            answer = self._client.put_object(
                Bucket=self._bucket, Key=key, Body=data, Metadata={_TOKEN: token} if token else {}, **form
            )
            version.append(answer.get("VersionId"))

        with self._translated(f"{self.url(key)!a} can't be written", "upload"):
            self._in_some_form(write)
        return version[0]

    def delete_version(self, key: str, version: str) -> None:
        """Delete one version of the object permanently."""
        with self._translated(f"a version of {self.url(key)!a} can't be deleted", "delete"):
            self._client.delete_object(Bucket=self._bucket, Key=key, VersionId=version)

    def try_write(self, key: str) -> None:
        """Create the object *key*, or have the server refuse that because it exists; needs no permission to read."""
        with self._translated(f"{self.url(key)!a} can't be written", "upload"):
            self._is_rejected(lambda form: self._create_probe(key, form))

    def probe(self, key: str = PROBE_KEY) -> Capabilities:
        """Test the capabilities of the server with one object of a few bytes under *key*.

        The object is created if it is missing and never deleted, because a host may lack the permission.  On a server
        that ignores conditions, each probe writes it again.
        """

        def create(form: Form) -> None:
            self._create_probe(key, form)

        def create_from_part(form: Form) -> None:
            with self._one_part(key, form, PROBE_TEXT) as (upload, part):
                self._client.complete_multipart_upload(
                    Bucket=self._bucket, Key=key, UploadId=upload, MultipartUpload={"Parts": [part]}
                )

        with self._translated(f"{self.location} can't be probed", "upload"):
            # The second of two writers must fail; it does not matter who was the first.
            self._is_rejected(create)
            self._capabilities = Capabilities(
                create_only=self._is_rejected(create),
                multipart_create_only=self._is_rejected(create_from_part),
                checksums=self._accepts_checksums(key),
            )
        return self._capabilities

    def protection(self) -> Protection:
        """The settings of the bucket; a server that knows none of them does not have them."""

        def versions() -> bool:
            return self._client.get_bucket_versioning(Bucket=self._bucket).get("Status") == "Enabled"

        def locked() -> bool:
            answer = self._client.get_object_lock_configuration(Bucket=self._bucket)
            return answer.get("ObjectLockConfiguration", {}).get("ObjectLockEnabled") == "Enabled"

        return Protection(versions=self._setting(versions), object_lock=self._setting(locked))

    @property
    def clock_offset(self) -> float | None:
        """Seconds that the server's clock is ahead, from the header ``Date`` of its last answer; to the second."""
        return self._clock.offset

    # Writing --------------------------------------------------------------------------------------------------------

    def _create_probe(self, key: str, form: Form) -> None:
        self._client.put_object(Bucket=self._bucket, Key=key, Body=PROBE_TEXT, IfNoneMatch="*", **form)

    def _require_absent(self, key: str) -> None:
        try:
            self.head(key)
        except NotFound:
            return
        except AccessDenied:
            # A host may write dumps but not read them.
            if self._listed(key) is None:
                return
        raise AlreadyExists(f"{self.url(key)!a} already exists", phase="upload", hint=TAKEN)

    def _listed(self, key: str) -> ObjectInfo | None:
        """The object according to a listing, without permission to read it; ``None`` if it does not exist."""
        return next((info for info in self.list(key) if info.key == key), None)

    def _create(self, key: str, data: bytes, token: str) -> None:
        """Send one create-only request; retry on a conflict with an active writer, as S3 requires."""

        def attempt(form: Form) -> None:
            self._client.put_object(
                Bucket=self._bucket, Key=key, Body=data, IfNoneMatch="*", Metadata={_TOKEN: token}, **form
            )

        for left in reversed(range(ATTEMPTS)):
            with self._translated(f"{self.url(key)!a} can't be created", "upload"):
                try:
                    self._in_some_form(attempt)
                    return
                except botocore.exceptions.ClientError as error:
                    # The answer to an earlier attempt of botocore may have been lost.
                    if status_of(error) == 412 and self._is_ours(key, token, len(data)):
                        return
                    if status_of(error) != 409 or not left:
                        raise
            self._require_absent(key)

    def _create_from_parts(self, key: str, parts: _Parts, token: str) -> None:
        config = s3transfer.manager.TransferConfig(
            multipart_threshold=parts.size,
            multipart_chunksize=parts.size,
            max_request_concurrency=PARTS_IN_FLIGHT,
            max_submission_concurrency=1,
            max_in_memory_upload_chunks=PARTS_IN_FLIGHT,
        )
        with self._translated(f"{self.url(key)!a} can't be created", "upload"):
            if len(self._forms) > 1:
                self._in_some_form(lambda form: self._try_part(key, form))
            extra = {"Metadata": {_TOKEN: token}, **self._forms[0]}
            try:
                # Leaving the context waits for every part, and after an exception aborts the upload.
                with s3transfer.manager.TransferManager(self._client, config) as manager, parts.closed_on_error():
                    parts.transfer = manager.upload(t.cast("t.Any", parts), self._bucket, key, extra_args=extra)
                    parts.transfer.result()
            except KeyError as error:
                # Raised by the transfer manager, which expects complete answers.
                raise StoreError(
                    f"{self.url(key)!a} can't be created",
                    phase="upload",
                    cause=f"the answer of the store lacks {error}",
                    hint="check that the endpoint is an S3 API, and that no proxy changes its answers",
                ) from error
            except CALL_ERRORS:
                # The answer to the completion may have been lost although the object exists.
                if not (parts.ended and self._is_ours(key, token, parts.total)):
                    raise

    def _checked(self, key: str, size: int, token: str) -> ObjectInfo:
        """Verify that the store has the uploaded object under *key*; return its properties."""
        try:
            with self._translated(f"{self.url(key)!a} can't be checked after its upload", "upload"):
                answer = self._head(key)
            info, owner = info_of(key, answer), answer.get("Metadata", {}).get(_TOKEN, token)
        except AccessDenied:
            listed, owner = self._listed(key), token
            if listed is None:
                raise
            info = listed
        if owner != token:
            raise StoreError(
                f"{self.url(key)!a} was replaced by another writer right after its upload",
                phase="upload",
                cause="the store has a different object than the one whose upload it confirmed",
                hint="make sure that only one host writes to a prefix; if so, report this to the operator of the store",
            )
        if info.size != size:
            raise StoreError(
                f"{self.url(key)!a} has {info.size} bytes, {size} were sent",
                phase="upload",
                cause="the store lost data, or another writer used the key",
                hint="this object is not a valid backup: delete it, and report this to the operator of the store",
            )
        return info

    def _is_ours(self, key: str, token: str, size: int) -> bool:
        try:
            answer = self._head(key)
        except CALL_ERRORS:
            return False
        return answer.get("Metadata", {}).get(_TOKEN) == token and answer["ContentLength"] == size

    def _in_some_form(self, call: t.Callable[[Form], object]) -> None:
        """Run *call* with the first form that the server accepts; from then on, only that form is used."""
        forms = self._forms
        for number, form in enumerate(forms, 1):
            try:
                call(form)
            except botocore.exceptions.ClientError as error:
                if number == len(forms) or not is_refusal(error):
                    raise
            else:
                self._forms = (form,)
                return

    def _try_part(self, key: str, form: Form) -> None:
        with self._one_part(key, form, b"\n"):
            pass

    @contextlib.contextmanager
    def _one_part(self, key: str, form: Form, data: bytes) -> t.Iterator[tuple[str, t.Any]]:
        """Start an upload with one part: its id, and the part for its completion; abort it unless it is completed."""
        upload = self._client.create_multipart_upload(Bucket=self._bucket, Key=key, **form)["UploadId"]
        try:
            part = self._client.upload_part(
                Bucket=self._bucket, Key=key, UploadId=upload, PartNumber=1, Body=data, **form
            )
            names = ("ETag", "ChecksumCRC32")
            yield upload, {"PartNumber": 1, **{name: value for name, value in part.items() if name in names}}
        finally:
            # Already completed, or not permitted: then the bucket's rule for incomplete uploads removes it.
            with contextlib.suppress(*CALL_ERRORS):
                self._client.abort_multipart_upload(Bucket=self._bucket, Key=key, UploadId=upload)

    def _is_rejected(self, call: t.Callable[[Form], None]) -> bool:
        """Whether the server rejects *call* because the object exists."""
        try:
            self._in_some_form(call)
        except botocore.exceptions.ClientError as error:
            if status_of(error) != 412:
                raise
            return True
        return False

    def _accepts_checksums(self, key: str) -> bool:
        try:
            self._try_part(key, _WITH_CRC)
        except botocore.exceptions.ClientError as error:
            if not is_refusal(error):
                raise
            return False
        return True

    def _setting(self, ask: t.Callable[[], bool]) -> bool | None:
        """A setting of the bucket; ``None`` if the credentials may not ask for it."""
        with self._translated(f"the settings of {self.location} can't be read", "list"):
            try:
                return ask()
            except botocore.exceptions.ClientError as error:
                if status_of(error) in (401, 403):
                    return None
                if code_of(error) in _NO_SUCH_SETTING or status_of(error) in (400, 405, 501):
                    return False
                raise

    # Reading properties -----------------------------------------------------------------------------------------------

    def _head(self, key: str) -> HeadObjectOutputTypeDef | GetObjectOutputTypeDef:
        """Request the object's properties.

        An error answer to HEAD has no body, so it can't distinguish an absent object from an absent bucket, or expired
        credentials from a wrong region.  The answer to GET, which needs the same permission, can.
        """
        try:
            return self._client.head_object(Bucket=self._bucket, Key=key)
        except botocore.exceptions.ClientError as error:
            if code_of(error):
                raise
            try:
                answer = self._client.get_object(Bucket=self._bucket, Key=key)
            except botocore.exceptions.ClientError as detail:
                # If the two answers differ, "not allowed" must not become "not found".
                raise detail if status_of(error) in (404, status_of(detail)) else error from None
            answer["Body"].close()
            if status_of(error) != 404:
                raise
            # The object was created between the two requests.
            return answer

    @contextlib.contextmanager
    def _translated(self, message: str, phase: str) -> t.Iterator[None]:
        try:
            yield
        except CALL_ERRORS as error:
            raise translated(error, message, phase=phase, endpoint=self._endpoint) from error


class _Clock:
    """Compares the time in each answer of a server with this host's.

    :param offset: seconds that the server's clock was ahead at its last answer; ``None``: it has not told the time.
    """

    def __init__(self, client: S3Client) -> None:
        self.offset: float | None = None
        # After errors, too: a server that refuses a signature because of the time tells its own.
        events: t.Any = client.meta.events
        events.register("after-call.s3", self._observe)

    def _observe(self, http_response: t.Any, **_rest: object) -> None:
        told = parse_time(http_response.headers.get("date"))
        if told is not None:
            self.offset = (told - datetime.datetime.now(datetime.timezone.utc)).total_seconds()


class _SourceFailed(Exception):
    """Wraps an error of a source for the transfer manager, whose threads would hang on a SystemExit."""

    def __init__(self, failure: BaseException) -> None:
        super().__init__(str(failure))
        self.failure = failure


class _Parts:
    """Adapter of a source for the transfer manager: it returns parts of exactly *size* bytes, except for the last one.

    The manager would read a source to its end even if the upload has already failed; the adapter stops that.
    """

    def __init__(self, source: Readable, size: int) -> None:
        self.size = size
        self.total = 0
        self.ended = False
        self.transfer: TransferFuture | None = None
        self._source = source
        self._count = 0
        self._held: bytes | None = None

    def is_one(self) -> bool:
        """Whether the whole source is smaller than one part; reads up to one part."""
        self._held = self._next()
        return len(self._held) < self.size

    def read(self, _amount: int = -1) -> bytes:
        """Return the next part; the transfer manager requests only whole parts."""
        data, self._held = self._held, None
        if data is not None:
            return data
        try:
            return self._next()
        except BaseException as failure:  # noqa: BLE001 (raised again in the caller's thread)
            raise _SourceFailed(failure) from None

    @contextlib.contextmanager
    def closed_on_error(self) -> t.Iterator[None]:
        """Close the source if the waiting thread is interrupted, because a thread of the manager may hang in a read."""
        try:
            yield
        except BaseException:
            self._source.close()
            raise

    def _next(self) -> bytes:
        chunks: list[bytes] = []
        missing = self.size
        while missing and not self.ended:
            if self.transfer is not None and self.transfer.done():
                raise StoreError("the upload ended before its source was read completely", phase="upload")
            chunk = self._source.read(missing)
            chunks.append(chunk)
            missing -= len(chunk)
            self.ended = not chunk
        data = b"".join(chunks)
        self.total += len(data)
        self._count += bool(data)
        if self._count > MAX_PARTS:
            raise StoreError(
                f"the stream is longer than the {MAX_PARTS} parts of {self.size // MIB} MiB of this upload",
                phase="upload",
                cause="the expected size was too small",
                hint="the upload was aborted; give a larger size hint",
            )
        return data


def _share_one_heap() -> None:
    """Have glibc use one heap for all threads created from now on.

    With a heap for each thread, parts that one thread allocates and another one frees cause fragmentation: an upload
    then uses up to twice as much memory, which grows with its duration.
    """
    # Other C libraries neither have nor need this function.
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


def _connect(settings: S3Settings) -> S3Client:
    if boto3 is None:
        raise LibraryMissing("the Python library boto3 is not installed", hint="pip install boto3")
    if bool(settings.access_key_id) != bool(settings.secret_access_key):
        raise ConfigurationError(
            "the S3 access key ID or the secret access key is missing", hint="give both keys, or none"
        )
    if settings.ca_bundle and not os.access(settings.ca_bundle, os.R_OK):
        raise ConfigurationError(
            f"the CA bundle {settings.ca_bundle!a} can't be read", hint="use the path of a readable PEM file"
        )
    endpoint = _endpoint(settings.endpoint)
    style: t.Any = settings.addressing_style
    if style not in ("auto", "path", "virtual"):
        raise ConfigurationError(f"invalid addressing style {style!a}", hint="use one of auto, path, virtual")
    elsewhere = bool(endpoint) and not _host(endpoint or "").endswith(".amazonaws.com")
    if style == "auto" and elsewhere:
        # Bucket names as subdomains need DNS records and certificates that other servers often lack.
        style = "path"
    options: dict[str, t.Any] = {"addressing_style": style}
    if endpoint and endpoint.startswith("http:") and _is_loopback(endpoint):
        options["payload_signing_enabled"] = False
    secret, token = settings.secret_access_key, settings.session_token
    try:
        session = boto3.session.Session(
            aws_access_key_id=settings.access_key_id or None,
            aws_secret_access_key=secret.reveal() if secret else None,
            aws_session_token=token.reveal() if token else None,
            region_name=settings.region or None,
        )
        client = session.client(
            "s3",
            endpoint_url=endpoint,
            region_name=session.region_name or _REGION,
            verify=settings.ca_bundle or None,
            config=botocore.config.Config(
                signature_version="s3v4",
                s3=t.cast("t.Any", options),
                # Each write requests its own checksum, see Form; reads are verified by the SHA-256 in the manifest.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                connect_timeout=CONNECT_SECONDS,
                read_timeout=READ_SECONDS,
                retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
                tcp_keepalive=True,
                user_agent_extra="infrazero.database",
            ),
        )
    except CONNECT_ERRORS as error:
        message = f"the bucket {settings.bucket!a} can't be used"
        raise translated(error, message, phase="store", endpoint=endpoint or "Amazon S3") from error
    # The type stubs do not declare that handlers return values.
    events: t.Any = client.meta.events
    if elsewhere:
        events.register("before-call.s3", _redirected_already)
    events.register("before-parameter-build.s3.CompleteMultipartUpload", _complete_if_absent)
    for operation in ("PutObject", "UploadPart"):
        events.register(f"before-call.s3.{operation}", _with_md5)
    for operation in ("PutObject", "CompleteMultipartUpload"):
        events.register(f"needs-retry.s3.{operation}", _without_refused_condition)
    return client


def _redirected_already(params: dict[str, t.Any], **_rest: object) -> None:
    """Prevent botocore from requesting the bucket's region, which only Amazon's servers report.

    It would repeat the request after each redirect, including that of its own request, in an endless loop.
    """
    params["context"].setdefault("s3_redirect", {})["redirected"] = True


def _complete_if_absent(params: dict[str, t.Any], **_rest: object) -> None:
    """Make every multipart upload create-only; the transfer manager has no argument for this."""
    params["IfNoneMatch"] = "*"


def _with_md5(params: dict[str, t.Any], **_rest: object) -> None:
    """Have the server verify the body with its MD5, which detects accidents but not attacks."""
    algorithm = params["context"].get("checksum", {}).get("request_algorithm", {})
    if isinstance(algorithm, dict) and algorithm.get("in") == "trailer":
        return
    body, digest = params["body"], hashlib.md5(usedforsecurity=False)
    if isinstance(body, (bytes, bytearray)):
        digest.update(body)
    else:
        start = body.tell()
        while chunk := body.read(MIB):
            digest.update(chunk)
        body.seek(start)
    params["headers"]["Content-MD5"] = base64.b64encode(digest.digest()).decode("ascii")


def _without_refused_condition(
    response: tuple[t.Any, t.Any] | None, request_dict: dict[str, t.Any], **_rest: object
) -> float | None:
    """Have botocore repeat a conditional write immediately without the condition if the server does not support it."""
    if response is None or "If-None-Match" not in request_dict["headers"]:
        return None
    code = response[1].get("Error", {}).get("Code")
    if response[0].status_code != 501 and code not in ("NotImplemented", "InvalidRequest", "InvalidArgument"):
        return None
    del request_dict["headers"]["If-None-Match"]
    return 0.0


def _endpoint(text: str | None) -> str | None:
    """Validate the URL of an endpoint; ``https://`` is added if it has no scheme."""
    if not text:
        return None
    url = text if "://" in text else f"https://{text}"
    try:
        parts = urllib.parse.urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        plain = "@" not in parts.netloc and not parts.query and not parts.fragment
    except ValueError:
        usable = plain = False
    if not (usable and plain):
        # The URL is not shown, because it may contain credentials.
        raise ConfigurationError(
            "the S3 endpoint is not a valid server URL",
            hint="use a URL such as https://s3.example.com, with a port if needed",
        )
    return url.rstrip("/")


def _host(url: str) -> str:
    return urllib.parse.urlsplit(url).hostname or ""


def _is_loopback(url: str) -> bool:
    host = _host(url)
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _forms(checksums: str, endpoint: str) -> tuple[Form, ...]:
    """The forms of writes to try, the preferred one first."""
    if checksums == "when_supported":
        return (_WITH_CRC,)
    if checksums == "when_required":
        return (_PLAIN,)
    if checksums != "auto":
        raise ConfigurationError(
            f"invalid checksum mode {checksums!a}", hint="use one of auto, when_supported, when_required"
        )
    if endpoint.startswith("https:") or _is_loopback(endpoint):
        return (_WITH_CRC, _PLAIN)
    return (_PLAIN, _WITH_CRC)
