# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""A store in a bucket of Amazon S3 or of a server that speaks its protocol.

boto3 and its transfer manager do the work.  Decided here:

Create-only.  Before a create-only write we look whether the key is free, and send ``If-None-Match: *`` with the write
and with the completion of an upload in parts.  Servers that know the condition close the gap between the two; to those
that refuse it (501, some 400) the same request goes again without it; those that ignore it can't be recognised.  Each
object gets a random token as metadata, by which its writer knows it again: when an answer was lost and the retry finds
the key taken, and when a server that ignores conditions has let another writer through.

Checksums.  ``auto`` sends a CRC-32 with each write over TLS and to the host itself.  Over plain HTTP botocore signs the
SHA-256 of each body, which protects more, and a CRC would only cost time.  A server that refuses one form gets the
other.  An upload in parts finds that out with a part of one byte, which it aborts: nothing stays behind, and no more
permissions are needed.  To the host itself (plain HTTP to a loopback address) bodies aren't signed: nobody is in
between, and SHA-256 is most of an upload's processor time.  Some servers take CRCs and never look at them, so each body
that goes out as it is (a CRC over TLS comes in a trailer, which only a server that knows it takes apart) has its MD5
with it, which every server compares.

Permissions: those of :mod:`..domain.policies`.  A host that may not read the dumps it writes learns from a listing
whether their keys are free, and their sizes afterwards; who else wrote to a key at the same moment it can't tell then.
"""

from __future__ import annotations

import base64
import contextlib
import ctypes
import dataclasses
import hashlib
import ipaddress
import os
import secrets
import typing as t
import urllib.parse

from ..domain.manifest import Destination
from ..errors import AccessDenied, AlreadyExists, ConfigurationError, LibraryMissing, NotFound, StoreError
from .base import TAKEN, Capabilities, ObjectInfo, Readable, S3Settings, check_key, read_all
from .s3_errors import CALL_ERRORS, CONNECT_ERRORS, code_of, is_refusal, status_of, translated
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
#: S3's bounds for an upload in parts.
MAX_PARTS = 10_000
MAX_PART_SIZE = 5 * 1024 * MIB
#: Smallest part used.  Without a size hint an object may have 10,000 of them: 78 GiB.
PART_SIZE = 8 * MIB
#: Parts sent at once.
PARTS_IN_FLIGHT = 2

CONNECT_SECONDS = 10
READ_SECONDS = 60
ATTEMPTS = 5

PROBE_KEY = ".infrazero/probe"
PROBE_TEXT = b"Written by infrazero.database to see what this store honours. It may be deleted.\n"
_TOKEN = "infrazero-upload"
_REGION = "us-east-1"
#: From malloc.h.
_M_ARENA_MAX = -8

#: Arguments that a write is made with, see *Checksums* above.
Form = t.Mapping[str, t.Any]
_WITH_CRC: Form = {"ChecksumAlgorithm": "CRC32"}
_PLAIN: Form = {}


def part_size_for(size_hint: int | None) -> int:
    """Bytes of each part so that 10,000 of them hold *size_hint* bytes and a tenth more.

    An upload holds up to five parts in memory: those in flight, one that waits, and one being put together of pieces.
    That is 40 MiB up to a hint of 71 GiB, and then 55 MiB for each 100 GB of it.

    :raises ConfigurationError: beyond parts of 5 GiB, the most that S3 takes.
    """
    wanted = -(-(size_hint or 0) * 11 // (10 * MAX_PARTS))
    size = max(PART_SIZE, -(-wanted // MIB) * MIB)
    if size > MAX_PART_SIZE:
        raise ConfigurationError(
            f"an object of {size_hint} bytes is larger than S3 can store",
            hint="back the database up in another way, such as a physical backup",
        )
    return size


class S3Store:
    """The bucket ``settings.bucket``; see :class:`.base.Store` for what its methods do.

    Making one asks no S3 server (boto3's chain may ask the machine's metadata service for credentials).  Several
    threads may use one at the same time.
    """

    def __init__(self, settings: S3Settings, *, client: S3Client | None = None) -> None:
        """A store; *client* is one made by another store for the same settings, bucket apart."""
        self._settings = settings
        self._bucket = settings.bucket
        self._client = client or _connect(settings)
        _share_one_heap()
        self._endpoint = self._client.meta.endpoint_url
        self._forms = _forms(settings.checksums, self._endpoint)
        self._capabilities: Capabilities | None = None

    @property
    def location(self) -> str:
        """Bucket and endpoint."""
        return f"s3://{self._bucket} ({self._endpoint})"

    @property
    def facts(self) -> Destination:
        """What this object has learned from the server's answers."""
        honoured = None if self._capabilities is None else self._capabilities.create_only
        checksums = bool(self._forms[0]) if len(self._forms) == 1 else None
        return Destination(kind="s3", create_only=honoured, checksums=checksums)

    def url(self, key: str) -> str:
        """The object as ``s3://bucket/key``."""
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
        """Create the object from a stream; one smaller than a part goes out in one request.

        A stream of more than 10,000 parts, see :func:`part_size_for`, is an error, and nothing is stored.
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
        """The whole object."""
        with self.open(key) as reader:
            return read_all(reader, limit=limit)

    def open(self, key: str) -> S3Reader:
        """Begin to read the object."""
        check_key(key)

        def fetch(**part: t.Any) -> GetObjectOutputTypeDef:
            with self._translated(f"{self.url(key)!a} can't be read", "download"):
                return self._client.get_object(Bucket=self._bucket, Key=key, **part)

        return S3Reader(key, fetch, attempts=ATTEMPTS)

    def head(self, key: str) -> ObjectInfo:
        """The object's size and time."""
        check_key(key)
        with self._translated(f"{self.url(key)!a} can't be looked at", "store"):
            return info_of(key, self._head(key))

    def list(self, prefix: str) -> t.Iterator[ObjectInfo]:
        """All objects whose keys begin with *prefix*, page by page."""
        more: dict[str, t.Any] = {}
        while True:
            with self._translated(f"objects under {self.url(prefix)!a} can't be listed", "list"):
                page = self._client.list_objects_v2(Bucket=self._bucket, Prefix=prefix, **more)
            for found in page.get("Contents", ()):
                yield ObjectInfo(found["Key"], found["Size"], found["LastModified"], etag_of(found.get("ETag")))
            if not page.get("IsTruncated"):
                return
            token = page.get("NextContinuationToken")
            if not token or token == more.get("ContinuationToken"):
                raise StoreError(
                    f"the list of objects under {self.url(prefix)!a} is cut",
                    phase="list",
                    cause="the store says that there is more, but not where it goes on",
                    hint="ask the operator of the store; a list that isn't whole is of no use",
                )
            more = {"ContinuationToken": token}

    def delete(self, key: str) -> None:
        """Remove the object (in a bucket with versions: hide it)."""
        check_key(key)
        with self._translated(f"{self.url(key)!a} can't be deleted", "delete"):
            self._client.delete_object(Bucket=self._bucket, Key=key)

    def sibling(self, bucket: str) -> S3Store:
        """Another bucket, over the same connections."""
        if bucket == self._bucket:
            return self
        return S3Store(dataclasses.replace(self._settings, bucket=bucket), client=self._client)

    def overwrite(self, key: str, data: bytes, *, token: str = "") -> str | None:
        """Create or replace the object; returned is the version that it has now, where the bucket keeps versions.

        What the server says is believed, unlike :meth:`put`, which looks whether the object has *token* afterwards.
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
        """Remove one version of the object for ever."""
        with self._translated(f"a version of {self.url(key)!a} can't be deleted", "delete"):
            self._client.delete_object(Bucket=self._bucket, Key=key, VersionId=version)

    def probe(self, key: str = PROBE_KEY) -> Capabilities:
        """Find out what the server honours, with one object of a few bytes under *key*.

        It is written where it is missing and never deleted: a host's credentials may not be able to.  A server that
        ignores conditions has it written again by each probe.
        """

        def create(form: Form) -> None:
            self._client.put_object(Bucket=self._bucket, Key=key, Body=PROBE_TEXT, IfNoneMatch="*", **form)

        def create_from_part(form: Form) -> None:
            with self._one_part(key, form, PROBE_TEXT) as (upload, part):
                self._client.complete_multipart_upload(
                    Bucket=self._bucket, Key=key, UploadId=upload, MultipartUpload={"Parts": [part]}
                )

        with self._translated(f"{self.location} can't be probed", "upload"):
            # The second of two writers must lose; who was the first makes no difference.
            self._loses(create)
            self._capabilities = Capabilities(
                create_only=self._loses(create),
                multipart_create_only=self._loses(create_from_part),
                checksums=self._takes_checksums(key),
            )
        return self._capabilities

    # Writing --------------------------------------------------------------------------------------------------------

    def _require_absent(self, key: str) -> None:
        try:
            self.head(key)
        except NotFound:
            return
        except AccessDenied:
            # A host may write dumps and not read them.
            if self._listed(key) is None:
                return
        raise AlreadyExists(f"{self.url(key)!a} exists already", phase="upload", hint=TAKEN)

    def _listed(self, key: str) -> ObjectInfo | None:
        """What a listing says of the object, for those who may not look at it; ``None``: it isn't there."""
        return next((info for info in self.list(key) if info.key == key), None)

    def _create(self, key: str, data: bytes, token: str) -> None:
        """One create-only request; a conflict with a writer at work is tried again, as S3 asks for."""

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
                    # The answer to an earlier attempt of botocore's may have been lost.
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
                # Leaving the context waits for every part, and aborts the upload when an exception is the way out.
                with s3transfer.manager.TransferManager(self._client, config) as manager, parts.closed_on_error():
                    parts.transfer = manager.upload(t.cast("t.Any", parts), self._bucket, key, extra_args=extra)
                    parts.transfer.result()
            except KeyError as error:
                # Of the transfer manager, which takes answers for complete.
                raise StoreError(
                    f"{self.url(key)!a} can't be created",
                    phase="upload",
                    cause=f"the store's answer lacks {error}",
                    hint="check that the endpoint is an S3 API, and that no proxy changes its answers",
                ) from error
            except CALL_ERRORS:
                # The answer to the completion may have been lost, and the object be there all the same.
                if not (parts.ended and self._is_ours(key, token, parts.total)):
                    raise

    def _checked(self, key: str, size: int, token: str) -> ObjectInfo:
        """What the store has under *key*, if that is what we sent."""
        try:
            with self._translated(f"{self.url(key)!a} can't be checked after its upload", "upload"):
                answer = self._head(key)
            info, found = info_of(key, answer), answer.get("Metadata", {}).get(_TOKEN, token)
        except AccessDenied:
            listed, found = self._listed(key), token
            if listed is None:
                raise
            info = listed
        if found != token:
            raise StoreError(
                f"{self.url(key)!a} was replaced by another writer right after its upload",
                phase="upload",
                cause="what the store has there is not what it said it had taken",
                hint="make sure that only one host writes to a prefix; ask the operator of the store whether it keeps "
                "what it takes",
            )
        if info.size != size:
            raise StoreError(
                f"{self.url(key)!a} has {info.size} bytes, {size} were sent",
                phase="upload",
                cause="the store lost data, or something else wrote to the key",
                hint="the object is not a backup: delete it, and ask the operator of the store",
            )
        return info

    def _is_ours(self, key: str, token: str, size: int) -> bool:
        try:
            answer = self._head(key)
        except CALL_ERRORS:
            return False
        return answer.get("Metadata", {}).get(_TOKEN) == token and answer["ContentLength"] == size

    def _in_some_form(self, call: t.Callable[[Form], object]) -> None:
        """*call* with the first form that the server takes, which is the only one from then on."""
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
        """An upload with one part: its id, and what its completion needs; aborted unless it is completed."""
        upload = self._client.create_multipart_upload(Bucket=self._bucket, Key=key, **form)["UploadId"]
        try:
            part = self._client.upload_part(
                Bucket=self._bucket, Key=key, UploadId=upload, PartNumber=1, Body=data, **form
            )
            names = ("ETag", "ChecksumCRC32")
            yield upload, {"PartNumber": 1, **{name: value for name, value in part.items() if name in names}}
        finally:
            # Completed already, or not allowed: then the bucket's rule for incomplete uploads has to clean up.
            with contextlib.suppress(*CALL_ERRORS):
                self._client.abort_multipart_upload(Bucket=self._bucket, Key=key, UploadId=upload)

    def _loses(self, call: t.Callable[[Form], None]) -> bool:
        """Whether *call* is refused because the object is there."""
        try:
            self._in_some_form(call)
        except botocore.exceptions.ClientError as error:
            if status_of(error) != 412:
                raise
            return True
        return False

    def _takes_checksums(self, key: str) -> bool:
        try:
            self._try_part(key, _WITH_CRC)
        except botocore.exceptions.ClientError as error:
            if not is_refusal(error):
                raise
            return False
        return True

    # Looking --------------------------------------------------------------------------------------------------------

    def _head(self, key: str) -> HeadObjectOutputTypeDef | GetObjectOutputTypeDef:
        """What the server says about the object.

        An error answered to HEAD has no body, so it doesn't tell an absent object from an absent bucket, or expired
        credentials from a wrong region.  The answer to GET, which needs the same permission, does.
        """
        try:
            return self._client.head_object(Bucket=self._bucket, Key=key)
        except botocore.exceptions.ClientError as error:
            if code_of(error):
                raise
            try:
                answer = self._client.get_object(Bucket=self._bucket, Key=key)
            except botocore.exceptions.ClientError as detail:
                # Where the two contradict each other, "not allowed" must not turn into "not there".
                raise detail if status_of(error) in (404, status_of(detail)) else error from None
            answer["Body"].close()
            if status_of(error) != 404:
                raise
            # It was created between the two.
            return answer

    @contextlib.contextmanager
    def _translated(self, message: str, phase: str) -> t.Iterator[None]:
        try:
            yield
        except CALL_ERRORS as error:
            raise translated(error, message, phase=phase, endpoint=self._endpoint) from error


class _SourceFailed(Exception):
    """Carries what a source raised through the transfer manager, whose threads hang on a SystemExit."""

    def __init__(self, failure: BaseException) -> None:
        super().__init__(str(failure))
        self.failure = failure


class _Parts:
    """The source of an upload as the transfer manager reads it: in parts of exactly *size* bytes but for the last.

    The manager would read a source to its end even when the upload has failed long before; this ends it.
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
        """Whether the whole source is smaller than a part; reads that much."""
        self._held = self._next()
        return len(self._held) < self.size

    def read(self, _amount: int = -1) -> bytes:
        """The next part; the transfer manager asks for whole parts only."""
        data, self._held = self._held, None
        if data is not None:
            return data
        try:
            return self._next()
        except BaseException as failure:  # noqa: BLE001 (it is raised again, in the caller's thread)
            raise _SourceFailed(failure) from None

    @contextlib.contextmanager
    def closed_on_error(self) -> t.Iterator[None]:
        """Closes the source when the waiting thread is interrupted: the manager's may hang in a read of it."""
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
                raise StoreError("the upload has ended before its source", phase="upload")
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
                cause="the size that was expected of it was too small",
                hint="give a better size hint; the upload was aborted",
            )
        return data


def _share_one_heap() -> None:
    """Have glibc keep one heap for all threads made from now on.

    With one for each thread, parts that one thread makes and another frees are scattered: an upload then holds up to
    twice as much memory, and the more the longer it takes.
    """
    # Other C libraries have no such function, and no need of it.
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


def _connect(settings: S3Settings) -> S3Client:
    if boto3 is None:
        raise LibraryMissing("the Python library boto3 is not installed", hint="pip install boto3")
    if bool(settings.access_key_id) != bool(settings.secret_access_key):
        raise ConfigurationError("one half of the S3 credentials is missing", hint="give both keys, or none")
    if settings.ca_bundle and not os.access(settings.ca_bundle, os.R_OK):
        raise ConfigurationError(
            f"the CA bundle {settings.ca_bundle!a} can't be read", hint="give the path of a readable PEM file"
        )
    endpoint = _endpoint(settings.endpoint)
    style: t.Any = settings.addressing_style
    if style not in ("auto", "path", "virtual"):
        raise ConfigurationError(f"{style!a} is not an addressing style", hint="it is one of auto, path, virtual")
    elsewhere = bool(endpoint) and not _host(endpoint or "").endswith(".amazonaws.com")
    if style == "auto" and elsewhere:
        # Names below the endpoint's own need DNS records and certificates that other servers often lack.
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
                # Checksums are asked for write by write, see Form; what is read has the SHA-256 of its manifest.
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
    # What the type stubs don't know: handlers return things.
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
    """Keeps botocore from asking for the bucket's region, which only Amazon's servers tell.

    It asks again for each redirect, also for that of its own question, without end.
    """
    params["context"].setdefault("s3_redirect", {})["redirected"] = True


def _complete_if_absent(params: dict[str, t.Any], **_rest: object) -> None:
    """Makes every upload in parts create-only; the transfer manager has no argument for it."""
    params["IfNoneMatch"] = "*"


def _with_md5(params: dict[str, t.Any], **_rest: object) -> None:
    """Has the server compare the body with its MD5: a check against accidents, not against people."""
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
    """Makes botocore repeat a conditional write at once, without its condition, when the server has no such thing."""
    if response is None or "If-None-Match" not in request_dict["headers"]:
        return None
    code = response[1].get("Error", {}).get("Code")
    if response[0].status_code != 501 and code not in ("NotImplemented", "InvalidRequest", "InvalidArgument"):
        return None
    del request_dict["headers"]["If-None-Match"]
    return 0.0


def _endpoint(text: str | None) -> str | None:
    """The URL of an endpoint: ``https://`` is put in front of one without a scheme."""
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
        # It isn't quoted: somebody may have put credentials into it.
        raise ConfigurationError(
            "the S3 endpoint is not the URL of a server",
            hint="give it as https://s3.example.com, with a port where needed",
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
    """The forms in which writes are tried, the better one first."""
    if checksums == "when_supported":
        return (_WITH_CRC,)
    if checksums == "when_required":
        return (_PLAIN,)
    if checksums != "auto":
        raise ConfigurationError(
            f"{checksums!a} is not a mode of checksums", hint="it is one of auto, when_supported, when_required"
        )
    if endpoint.startswith("https:") or _is_loopback(endpoint):
        return (_WITH_CRC, _PLAIN)
    return (_PLAIN, _WITH_CRC)
