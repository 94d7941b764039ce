# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The choice of a backup: what a source names, and whether it may be restored."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import typing as t

from ..domain import layout, manifest, recipients
from ..domain.subjects import Subject
from ..domain.trust import Signed, Trust
from ..errors import AccessDenied, BucketMissing, ChecksumMismatch, Deleted, NotFound, TrustError, WrongIdentity
from ..signing import verification
from ..sources.base import HEAD_SIZE
from ..stores import catalogue
from ..stores.base import ABSENT, Store
from ..streams import age, pipeline
from . import nearest, remedies

#: Enough of an object to tell from its first bytes what it is.
_MAGIC_BYTES = 64


@dataclasses.dataclass(frozen=True)
class Choice:
    """The backup that a source, or an entry of the list, names.

    :param store: the store, or bucket, that holds it.
    :param found: its manifest; ``None``: it has none.
    :param sha256: what the encrypted object must hash to, if anything says so.
    :param signed_by: the accepted host that signed the manifest; ``None``: that is not proven.
    """

    store: Store
    key: str
    found: catalogue.Found | None
    sha256: str | None
    warnings: tuple[str, ...] = ()
    signed_by: Signed | None = None

    @property
    def proven(self) -> bool:
        """Whether the signature of a host whose backups are accepted was verified."""
        return self.signed_by is not None

    @property
    def url(self) -> str:
        """The object, as a person reads it."""
        return self.store.url(self.key)

    @property
    def manifest(self) -> manifest.Manifest | None:
        """The manifest of the backup."""
        return None if self.found is None else self.found.manifest

    @property
    def proof(self) -> pipeline.Proof | None:
        """What each chunk of the object must be; ``None``: nothing trustworthy says so."""
        said = self.manifest
        if not self.proven or said is None or said.size is None or said.chunks is None:
            return None
        return pipeline.Proof(said.size, said.sha256, said.chunks, origin="the one its manifest names")

    @property
    def created_at(self) -> datetime.datetime | None:
        """When the backup was created, if anything says so."""
        return layout.moment_of(self.key) if self.found is None else self.found.manifest.created_at


def choose(
    store: Store,
    source: str,
    *,
    database: Subject,
    trust: Trust,
    expected_sha256: str | None = None,
    suggest: bool = True,
) -> Choice:
    """Find the backup that *source* names: a manifest, a prefix with one, or a dump.

    Nothing of the dump itself is read: whether it may be is decided here, by its manifest.  Whether it exists is
    decided first.

    :param source: a key, a prefix that ends with ``/``, or ``s3://bucket/...``.
    :param database: the database to be restored.
    :param expected_sha256: what the object must hash to, as the operator says.
    :param suggest: whether the error for an absent object looks for similar ones.
    :raises NotFound: if the store says that the object isn't there.
    :raises TrustError: if the backup must not be restored.
    """
    location = layout.locate(source)
    where = store if location.bucket is None else store.sibling(location.bucket)
    try:
        found, warnings = _manifest_of(where, location)
    except BucketMissing as exc:
        if location.bucket is not None:
            exc.hint = nearest.in_bucket(store, location.key) or exc.hint
        raise
    except AccessDenied as exc:
        if suggest and not location.is_manifest:
            exc.hint = nearest.prefix(where, location.key, database=database, trust=trust) + exc.hint
        raise
    except NotFound as exc:
        if not suggest or isinstance(exc, Deleted):
            raise
        raise nearest.absent(exc, where, location.key, database=database, trust=trust) from None
    if found is not None:
        return _verified(found, trust=trust, database=database, expected_sha256=expected_sha256)
    warnings += verification.check_bare(where.url(location.key), trust=trust)
    if expected_sha256 is None:
        warnings += ("nothing says what the object's SHA-256 must be: it has no manifest of its own",)
    return Choice(where, location.key, None, expected_sha256, warnings)


def _manifest_of(where: Store, location: layout.Location) -> tuple[catalogue.Found | None, tuple[str, ...]]:
    """The manifest of what *location* names, and warnings; ``None``: it is a dump that exists and has none.

    :raises NotFound: if the store says that the object isn't there.
    :raises AccessDenied: if the store doesn't let us see whether the object is there.
    """
    if location.is_manifest:
        return catalogue.read_manifest(where, location.key), ()
    warnings: tuple[str, ...] = ()
    try:
        beside = catalogue.read_manifest(where, layout.manifest_key(location.key))
        if beside.location.key == location.key:
            return beside, ()
    except NotFound:
        pass
    except AccessDenied:
        # Some stores answer so for an absent key if listing isn't allowed; the dump itself was named by hand.
        warnings = ("the store doesn't let us see whether the dump has a manifest",)
    _require(where, location.key)
    return None, warnings


def _require(store: Store, key: str) -> None:
    """Raise NotFound if the object is absent.  A credential that may not read dumps may list them."""
    try:
        store.head(key)
    except AccessDenied as exc:
        try:
            exists = any(info.key == key for info in store.list(key))
        except AccessDenied:
            raise exc from None
        if not exists:
            raise NotFound(
                f"the object {key!a} does not exist", phase=exc.phase, cause="it is in no listing", hint=ABSENT
            ) from None


def _verified(found: catalogue.Found, *, trust: Trust, database: Subject, expected_sha256: str | None) -> Choice:
    """The backup that the manifest describes, if it may be restored."""
    try:
        signed_by, warnings = verification.check(found, trust=trust, database=database)
    except TrustError as exc:
        raise remedies.explained(exc, found, trust=trust, database=database) from None
    if signed_by is None:
        other = remedies.newest_beside(found, trust=trust, database=database)
        warnings += (f"an accepted host has signed another backup: {other}",) if other else ()
    return _chosen(found, signed_by, warnings, expected_sha256)


def _chosen(
    found: catalogue.Found, signed_by: Signed | None, warnings: tuple[str, ...], expected_sha256: str | None
) -> Choice:
    said = found.manifest.sha256
    if expected_sha256 not in (None, said):
        raise ChecksumMismatch(
            f"{found.store.url(found.key)} names an object with another SHA-256 than the one expected",
            cause=f"expected {expected_sha256}, the manifest says {said}",
            hint="choose the backup that you mean by its key",
        )
    location = found.location
    where = found.store if location.bucket is None else found.store.sibling(location.bucket)
    return Choice(where, location.key, found, said, warnings, signed_by)


@contextlib.contextmanager
def plain(
    choice: Choice,
    identities: t.Sequence[t.Any],
    *,
    proof: pipeline.Proof | None,
    advance: t.Callable[[int], None] | None = None,
) -> t.Iterator[pipeline.Decoded]:
    """The chosen object, decrypted and decompressed as it is read.

    :param identities: of :func:`..streams.age.parse_identities`.
    :param proof: what each of its chunks must be.
    """
    reader = choice.store.open(choice.key)
    with (
        contextlib.closing(reader),
        contextlib.closing(
            pipeline.decode(reader, identities=identities, expected_sha256=choice.sha256, proof=proof, advance=advance)
        ) as decoded,
    ):
        yield decoded


@dataclasses.dataclass(frozen=True)
class Look:
    """What the beginning of the chosen object tells.

    :param size: bytes of the object.
    :param encrypted: whether it needs an age identity.
    :param head: the first bytes of the dump; ``None``: no identity was given, and it is encrypted.
    """

    size: int
    encrypted: bool
    head: bytes | None


def look_into(choice: Choice, identities: t.Sequence[t.Any]) -> Look:
    """Look at the beginning of the object; identities are tried on it.

    What is decoded is proven if possible; otherwise it is looked at and dropped.
    """
    size, encrypted = _beginning(choice)
    head = None
    if identities or not encrypted:
        with plain(choice, identities, proof=choice.proof) as decoded:
            head = decoded.peek(HEAD_SIZE)
    return Look(size, encrypted, head)


def explained(error: BaseException, choice: Choice, *, owners: recipients.Owners) -> BaseException:
    """*error*, or the answer to a wrong key in its place: whom the object is encrypted to, and whose key was given."""
    if not isinstance(error, WrongIdentity):
        return error
    recorded = None if choice.manifest is None else choice.manifest.recipients
    return recipients.explain(error, url=choice.url, recorded=recorded, owners=owners)


def is_encrypted(choice: Choice) -> bool:
    """Whether the chosen object needs an age identity; its first bytes are read."""
    return _beginning(choice)[1]


def _beginning(choice: Choice) -> tuple[int, bool]:
    with contextlib.closing(choice.store.open(choice.key)) as reader:
        return reader.size, age.is_encrypted(reader.read(_MAGIC_BYTES))
