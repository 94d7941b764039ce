# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The interface of all object stores.

One test suite proves these guarantees for every store:

- an object is visible completely or not at all, both under its key and in listings;
- a create-only write never replaces an existing object (except, on a store that does not honour conditions, one that
  another writer creates at the same moment);
- a failed upload leaves nothing under its key;
- a reader returns every byte of one object or raises an error, and never ends early;
- :class:`NotFound` means that the store itself reported that the object does not exist.  "Not allowed", "no answer" and
  "no such bucket" are other errors.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ..errors import StoreError, TooLarge

if t.TYPE_CHECKING:
    import datetime
    from types import TracebackType

    from ..domain.manifest import Destination
    from ..domain.secret import Secret

#: Hints for an object that is absent, and for one that exists already.
ABSENT = "list the existing backups and choose another one; the object may have been deleted"
TAKEN = "another writer has used the same key: make sure that only one host writes to a prefix, and run again"

#: The object that a probe leaves, where the caller names no other.
PROBE_KEY = ".infrazero/probe"
PROBE_TEXT = b"Written by infrazero.database to see what this store honours. It may be deleted.\n"

#: S3's limit for the length of a key in bytes of UTF-8; it also applies to the directory store.
MAX_KEY_BYTES = 1024


@dataclasses.dataclass(frozen=True)
class ObjectInfo:
    """Properties of an object that are known without reading it.

    :param size: size in bytes.
    :param modified: when it was written, UTC, according to the store's clock.
    :param etag: a tag that changes when the object changes; ``None`` if the store has none.  Not a checksum.
    """

    key: str
    size: int
    modified: datetime.datetime
    etag: str | None = None


@dataclasses.dataclass(frozen=True)
class Capabilities:
    """Capabilities that a probe of a store has shown.

    :param create_only: of two writers that create the same key, exactly one succeeds.
    :param multipart_create_only: the same for multipart uploads.
    :param checksums: the store accepts the CRC that newer clients send, and so verifies the bytes of each request.
    """

    create_only: bool
    multipart_create_only: bool
    checksums: bool


@dataclasses.dataclass(frozen=True)
class Protection:
    """What a store does against the loss of objects, according to its own settings.

    :param versions: whether it keeps objects that are overwritten or deleted; ``None``: the credentials may not ask.
    :param object_lock: whether nobody can delete an object before a time; ``None``: the credentials may not ask.
    """

    versions: bool | None
    object_lock: bool | None


class Readable(t.Protocol):
    """The source of an upload."""

    def read(self, n: int, /) -> bytes:
        """Return at least one and at most *n* bytes, or ``b""`` at the proven end; raise an error otherwise."""

    def close(self) -> None:
        """Release all resources, and end a read that another thread waits in; a second call does nothing."""


class ObjectReader(t.Protocol):
    """A reader of one object."""

    @property
    def info(self) -> ObjectInfo:
        """Properties of the object when it was opened."""

    @property
    def size(self) -> int:
        """Size of the whole object in bytes."""

    def read(self, n: int, /) -> bytes:
        """Return at least one and at most *n* bytes, or ``b""`` after the last one; a short object is an error."""

    def close(self) -> None:
        """Release all resources; a second call does nothing."""

    def __enter__(self) -> ObjectReader:
        """The reader itself."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        """Close the reader."""


class Store(t.Protocol):
    """A bucket or its equivalent.  Every method raises :class:`StoreError` or one of its subclasses."""

    @property
    def location(self) -> str:
        """Description of the store for an operator, without secrets."""

    @property
    def facts(self) -> Destination:
        """What is known about the store so far; sends no request."""

    def url(self, key: str) -> str:
        """The location of the object *key* in the store's notation: ``s3://bucket/key`` or the path of a file."""

    def put_if_absent(self, key: str, data: bytes) -> None:
        """Create the object *key*.  Raises AlreadyExists if it exists."""

    def put(self, key: str, data: bytes) -> None:
        """Create or replace the object *key*."""

    def upload(self, key: str, source: Readable, *, size_hint: int | None = None) -> ObjectInfo:
        """Create the object *key* from a stream with constant memory; errors of *source* are raised unchanged.

        The caller closes *source*; an upload that is interrupted by a signal may have closed it already.

        :param size_hint: the best known upper bound of the size in bytes.
        """

    def get(self, key: str, *, limit: int) -> bytes:
        """Return the whole object.  Raises TooLarge if it is larger than *limit* bytes."""

    def open(self, key: str) -> ObjectReader:
        """Open the object for reading."""

    def head(self, key: str) -> ObjectInfo:
        """Return the object's size and modification time."""

    def list(self, prefix: str) -> t.Iterator[ObjectInfo]:
        """Return all objects whose keys begin with *prefix*, in no particular order."""

    def delete(self, key: str) -> None:
        """Delete the object; it is not an error if it does not exist."""

    def sibling(self, bucket: str) -> Store:
        """Return another bucket at the same place, with the same credentials."""

    def try_write(self, key: str) -> None:
        """Create the tiny object *key*, or have the store refuse that because the object exists."""

    def probe(self, key: str = PROBE_KEY) -> Capabilities:
        """Test the capabilities of the store; leaves at most the tiny object *key*."""

    def protection(self) -> Protection | None:
        """What the store does against the loss of objects; reads only.  ``None``: a store of its kind has nothing."""

    @property
    def clock_offset(self) -> float | None:
        """Seconds that the store's clock is ahead of this host's, as far as it has shown; ``None``: it has not."""


@dataclasses.dataclass(frozen=True)
class S3Settings:
    """An S3 bucket and how to reach it.

    :param endpoint: URL; without a scheme, ``https://`` is added.  ``None`` for Amazon's own endpoint.
    :param region: ``None`` for the region of the environment or of the AWS configuration, else ``us-east-1``.
    :param access_key_id: the credentials, together with *secret_access_key*; without them, boto3's credential chain is
        used.
    :param ca_bundle: path of a PEM file with the CA certificates for the endpoint.
    :param addressing_style: ``path``, ``virtual``, or ``auto``, which is ``path`` unless the endpoint is Amazon's.
    :param checksums: ``when_supported`` sends a CRC with each write, ``when_required`` does not (older servers reject
        it), ``auto`` detects what the server supports.
    """

    bucket: str
    endpoint: str | None = None
    region: str | None = None
    access_key_id: str | None = None
    secret_access_key: Secret | None = None
    session_token: Secret | None = None
    ca_bundle: str | None = None
    addressing_style: str = "auto"
    checksums: str = "auto"


@dataclasses.dataclass(frozen=True)
class DirectorySettings:
    """An existing directory.

    :param path: path of the directory.  The store never creates it, because a file system that is not mounted would
        then look like a store without backups.
    """

    path: str


def check_key(key: str) -> None:
    """Raise StoreError for a *key* that S3 does not allow: empty, not UTF-8, or longer than 1024 bytes."""
    try:
        size = len(key.encode("utf-8"))
    except UnicodeEncodeError:
        size = -1
    if not 0 < size <= MAX_KEY_BYTES:
        raise StoreError(
            f"the key {key[:80]!a} can't be stored",
            cause="it is not valid UTF-8" if size < 0 else f"it is {size} bytes long",
            hint=f"a key must be valid UTF-8 of 1 to {MAX_KEY_BYTES} bytes",
        )


def read_all(reader: ObjectReader, *, limit: int) -> bytes:
    """Read the whole object; raises TooLarge before reading if it has more than *limit* bytes."""
    if reader.size > limit:
        raise TooLarge(
            f"{reader.info.key!a} is {reader.size} bytes long, more than the limit of {limit} bytes",
            phase="download",
            hint="this is not an object of the expected kind: inspect it",
        )
    chunks: list[bytes] = []
    while True:
        chunk = reader.read(256 * 1024)
        if not chunk:
            return b"".join(chunks)
        chunks.append(chunk)
