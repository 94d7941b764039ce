# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""What every object store does.

The guarantees, the same for all stores and proven by one suite of tests:

- an object is seen whole or not at all, under its key and in listings;
- create-only writes never replace what is there (on a store that doesn't honour conditions, a writer that comes at the
  very same moment excepted);
- a failing upload leaves nothing under its key;
- a reader returns every byte of one object or raises, never an early end;
- :class:`NotFound` means that the store itself said that there is no such object.  "Not allowed", "no answer" and "no
  such bucket" are other errors.
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

#: What to do where an object is absent, or is there already.
ABSENT = "see what is there with the command's list, and choose another backup; was it deleted?"
TAKEN = "somebody else has written the same key: see that only one host writes to a prefix, and run again"

#: S3's limit for the length of a key in bytes of UTF-8; the directory store keeps to it too.
MAX_KEY_BYTES = 1024


@dataclasses.dataclass(frozen=True)
class ObjectInfo:
    """What a store knows about an object without reading it.

    :param size: bytes.
    :param modified: when it was written, UTC, by the store's clock.
    :param etag: changes when the object does; ``None`` where the store has none.  Not a checksum.
    """

    key: str
    size: int
    modified: datetime.datetime
    etag: str | None = None


@dataclasses.dataclass(frozen=True)
class Capabilities:
    """What a store was seen to do.

    :param create_only: of two writers that create one key, exactly one wins.
    :param multipart_create_only: the same for objects that arrive in parts.
    :param checksums: takes the CRC that newer clients send along, and so checks each request's bytes.
    """

    create_only: bool
    multipart_create_only: bool
    checksums: bool


class Readable(t.Protocol):
    """Where an upload comes from."""

    def read(self, n: int, /) -> bytes:
        """At least one and at most *n* bytes; ``b""`` only at the proven end; anything wrong raises."""

    def close(self) -> None:
        """Give up what is held, and end a read that another thread is waiting in; a second call does nothing."""


class ObjectReader(t.Protocol):
    """One object being read."""

    @property
    def info(self) -> ObjectInfo:
        """The object, as it was when it was opened."""

    @property
    def size(self) -> int:
        """Bytes of the whole object."""

    def read(self, n: int, /) -> bytes:
        """At least one and at most *n* bytes; ``b""`` only after the object's last byte; a short object raises."""

    def close(self) -> None:
        """Give up what is held; a second call does nothing."""

    def __enter__(self) -> ObjectReader:
        """The reader itself."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        """Close it."""


class Store(t.Protocol):
    """A bucket, or its equivalent.  Every method raises :class:`StoreError` or one of its subclasses."""

    @property
    def location(self) -> str:
        """The store in words for an operator; no secret."""

    @property
    def facts(self) -> Destination:
        """What is known about the store so far; nothing is asked for it."""

    def url(self, key: str) -> str:
        """Where the object *key* is, in the store's own notation: ``s3://bucket/key``, the path of a file."""

    def put_if_absent(self, key: str, data: bytes) -> None:
        """Create the object *key*.  Raises AlreadyExists if it is there."""

    def put(self, key: str, data: bytes) -> None:
        """Create or replace the object *key*."""

    def upload(self, key: str, source: Readable, *, size_hint: int | None = None) -> ObjectInfo:
        """Create the object *key* from a stream, in flat memory; what *source* raises is raised again.

        The caller closes *source*; an upload that is interrupted by a signal may have done so before.

        :param size_hint: an upper bound, as good as one is known, of the bytes to come.
        """

    def get(self, key: str, *, limit: int) -> bytes:
        """The whole object.  Raises TooLarge if it is larger than *limit* bytes."""

    def open(self, key: str) -> ObjectReader:
        """Begin to read the object."""

    def head(self, key: str) -> ObjectInfo:
        """The object's size and time."""

    def list(self, prefix: str) -> t.Iterator[ObjectInfo]:
        """All objects whose keys begin with *prefix*, in no particular order."""

    def delete(self, key: str) -> None:
        """Remove the object; none there is no error."""

    def sibling(self, bucket: str) -> Store:
        """Another bucket of the same place, with the same credentials."""

    def probe(self) -> Capabilities:
        """Find out what the store honours; leaves at most one tiny object, always the same."""


@dataclasses.dataclass(frozen=True)
class S3Settings:
    """An S3 bucket and how to reach it.

    :param endpoint: URL, ``https://`` is put in front where no scheme is given; ``None`` is Amazon's own.
    :param region: ``None`` takes the one of the environment or of the AWS configuration, else ``us-east-1``.
    :param access_key_id: with *secret_access_key* the credentials; without them boto3's chain finds some.
    :param ca_bundle: path of a PEM file with the CA of the endpoint's certificate.
    :param addressing_style: ``path``, ``virtual``, or ``auto``: by path unless the endpoint is Amazon's.
    :param checksums: ``when_supported`` sends a CRC with each write, ``when_required`` doesn't (older servers refuse
        it), ``auto`` finds out.
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
    """A directory that exists.

    :param path: of the directory; it is never made by the store, because a file system that isn't mounted would then
        look like a store without backups.
    """

    path: str


def check_key(key: str) -> None:
    """Raise StoreError for a *key* that no S3 store takes: empty, not UTF-8, or longer than 1024 bytes."""
    try:
        size = len(key.encode("utf-8"))
    except UnicodeEncodeError:
        size = -1
    if not 0 < size <= MAX_KEY_BYTES:
        raise StoreError(
            f"the key {key[:80]!a} can't be stored",
            cause="it isn't valid UTF-8" if size < 0 else f"it is {size} bytes long",
            hint=f"keys are UTF-8 and 1 to {MAX_KEY_BYTES} bytes long",
        )


def read_all(reader: ObjectReader, *, limit: int) -> bytes:
    """Everything that *reader* gives; raises TooLarge before reading if that is more than *limit* bytes."""
    if reader.size > limit:
        raise TooLarge(
            f"{reader.info.key!a} is {reader.size} bytes long, more than the {limit} bytes it may have",
            phase="download",
            hint="this is not an object of the expected kind: inspect it by hand",
        )
    chunks: list[bytes] = []
    while True:
        chunk = reader.read(256 * 1024)
        if not chunk:
            return b"".join(chunks)
        chunks.append(chunk)
