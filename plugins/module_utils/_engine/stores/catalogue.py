# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""What is in the store: manifests read with care, and the list of a database's backups."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import typing as t

from ..domain import layout, manifest
from ..errors import ManifestError, NotFound, TooLarge
from ..printing import printable_name
from .base import Store


@dataclasses.dataclass(frozen=True)
class Found:
    """A manifest as it is in a store.

    :param key: the manifest's own key.
    :param data: its bytes.
    """

    store: Store
    key: str
    manifest: manifest.Manifest
    data: bytes = dataclasses.field(repr=False)

    @property
    def sha256(self) -> str:
        """SHA-256 of its bytes."""
        return manifest.digest(self.data)

    @property
    def location(self) -> layout.Location:
        """Where the dump is; its bucket is ``None`` if that is the manifest's own."""
        return layout.locate(self.manifest.key)


def location(store: Store, prefix: str) -> str:
    """URL of *prefix*; it ends with ``/``."""
    return store.url(layout.latest_key(prefix))[: -len(layout.LATEST)]


def read_manifest(store: Store, key: str) -> Found:
    """Read and check one manifest.

    :raises NotFound: only where the store says that there is none; any other answer is its own error.
    """
    try:
        data = store.get(key, limit=manifest.MAX_BYTES)
    except TooLarge as exc:
        raise ManifestError(f"{store.url(key)} is not a manifest", cause=exc.message, hint=exc.hint) from None
    try:
        parsed = manifest.parse(data)
    except ManifestError as exc:
        raise ManifestError(
            f"{printable_name(store.url(key))}: {exc.message}", cause=exc.cause, hint=exc.hint
        ) from None
    return Found(store, key, parsed, data)


def read_latest(store: Store, prefix: str) -> Found | None:
    """The manifest of the newest good backup under *prefix*; ``None`` where the store says that there is none."""
    try:
        return read_manifest(store, layout.latest_key(prefix))
    except NotFound:
        return None


def newer(store: Store, prefix: str, *, than: datetime.datetime | None) -> list[tuple[datetime.datetime, str]]:
    """Moments and keys of the immutable manifests under *prefix* that are newer by their keys, newest first.

    There are some where a backup was ended before it moved latest, and where somebody has moved it back.  One listing
    is read, and none of the manifests: anyone with write access to the store can leave any number of them.

    :param than: ``None``: all of them.
    """
    moments = {
        info.key: layout.moment_of(info.key) for info in store.list(prefix) if info.key.endswith(layout.MANIFEST_SUFFIX)
    }
    dated = [(moment, key) for key, moment in moments.items() if moment is not None and "/" not in key[len(prefix) :]]
    return sorted(((moment, key) for moment, key in dated if than is None or moment > than), reverse=True)


def read_immutable(store: Store, key: str) -> Found:
    """Read one of the manifests beside dumps.

    :raises ManifestError: also where it is another backup's than its key says: anybody can copy an old one.
    """
    found = read_manifest(store, key)
    if layout.manifest_key(found.location.key) != key:
        raise ManifestError(f"{store.url(key)} is the manifest of another backup")
    return found


@dataclasses.dataclass(frozen=True)
class Backup:
    """One backup in the catalogue.

    :param key: of the dump; a URL if it is in another bucket.
    :param created_at: from the key, for the latest from its manifest.
    :param size: bytes of the encrypted object, ``None`` where it is missing.
    :param state: ``complete``: the dump and its manifest are there; ``unproven``: a dump without a manifest (a run that
        was cut off, or another tool's); ``missing``: a manifest whose dump is gone.
    :param latest: whether ``latest-dump.json`` names it.
    """

    database: str
    key: str
    created_at: datetime.datetime
    size: int | None
    state: str
    latest: bool

    def as_dict(self, now: datetime.datetime) -> dict[str, t.Any]:
        """As plain data, with its age in seconds at the moment *now*."""
        return {
            "database": self.database,
            "key": self.key,
            "created_at": self.created_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "age_seconds": int((now - self.created_at).total_seconds()),
            "size": self.size,
            "state": self.state,
            "latest": self.latest,
        }


def catalogue(store: Store, database: str, *, prefix: str | None = None) -> list[Backup]:
    """Every backup of *database* in the store, newest first; one listing and the latest manifest are read.

    :param prefix: where they are; by default the usual place.
    """
    prefix = prefix or layout.prefix(database)
    latest = read_latest(store, prefix)
    sizes: dict[str, int] = {}
    moments: dict[str, datetime.datetime] = {}
    proofs: set[str] = set()
    for info in store.list(prefix):
        moment = layout.moment_of(info.key)
        if moment is None:
            continue
        if info.key.endswith(layout.MANIFEST_SUFFIX):
            proofs.add(info.key)
        else:
            sizes[info.key] = info.size
        moments[info.key] = moment
    pointed_at = None
    if latest is not None:
        pointed_at = _pointed_at(latest, sizes)
        moments[pointed_at] = latest.manifest.created_at
        proofs.add(layout.manifest_key(pointed_at))

    # A manifest whose dump is gone represents its dump, under the manifest's own key unless the dump's is known.
    lost = proofs - {layout.manifest_key(key) for key in sizes}
    if pointed_at is not None and pointed_at not in sizes:
        lost = (lost - {layout.manifest_key(pointed_at)}) | {pointed_at}
    backups = [
        Backup(
            database=database,
            key=key,
            created_at=moments[key],
            size=sizes.get(key),
            state="missing" if key in lost else "complete" if layout.manifest_key(key) in proofs else "unproven",
            latest=key == pointed_at,
        )
        for key in [*sizes, *lost]
    ]
    return sorted(backups, key=lambda backup: (backup.created_at, backup.key), reverse=True)


def _pointed_at(latest: Found, sizes: dict[str, int]) -> str:
    """Key of the dump that *latest* names, or its URL in another bucket; its size is added if it wasn't listed."""
    location = latest.location
    store = latest.store if location.bucket is None else latest.store.sibling(location.bucket)
    key = location.key if store is latest.store else store.url(location.key)
    if key not in sizes:
        # A dump may have any name and be anywhere.
        with contextlib.suppress(NotFound):
            sizes[key] = store.head(location.key).size
    return key
