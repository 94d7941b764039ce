# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The contents of the store: validated manifests, and the list of a database's backups."""

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
    """A manifest in a store.

    :param key: key of the manifest itself.
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
        """Location of the dump; its bucket is ``None`` if it is the manifest's own."""
        return layout.locate(self.manifest.key)


def location(store: Store, prefix: str) -> str:
    """URL of *prefix*, which ends with ``/``."""
    return store.url(layout.latest_key(prefix))[: -len(layout.LATEST)]


def read_manifest(store: Store, key: str) -> Found:
    """Read and validate one manifest.

    :raises NotFound: only if the store reports that it does not exist; any other answer is a different error.
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
    """The manifest of the newest good backup under *prefix*; ``None`` if the store reports that there is none."""
    try:
        return read_manifest(store, layout.latest_key(prefix))
    except NotFound:
        return None


def newer(store: Store, prefix: str, *, than: datetime.datetime | None) -> list[tuple[datetime.datetime, str]]:
    """Times and keys of the immutable manifests under *prefix* whose keys are newer than *than*, newest first.

    Such manifests exist if a backup was interrupted before it updated latest, or if somebody has rolled latest back.
    Only a listing is read, not the manifests: anyone with write access to the store can create any number of them.

    :param than: ``None`` for all of them.
    """
    moments = {
        info.key: layout.moment_of(info.key) for info in store.list(prefix) if info.key.endswith(layout.MANIFEST_SUFFIX)
    }
    dated = [(moment, key) for key, moment in moments.items() if moment is not None and "/" not in key[len(prefix) :]]
    return sorted(((moment, key) for moment, key in dated if than is None or moment > than), reverse=True)


def read_immutable(store: Store, key: str) -> Found:
    """Read the immutable manifest of a dump.

    :raises ManifestError: also if it belongs to another backup than its key says: anyone can copy an old manifest.
    """
    found = read_manifest(store, key)
    if layout.manifest_key(found.location.key) != key:
        raise ManifestError(f"{store.url(key)} is the manifest of another backup")
    return found


@dataclasses.dataclass(frozen=True)
class Backup:
    """One backup in the catalogue.

    :param key: key of the dump; a URL if it is in another bucket.
    :param created_at: the time in the key; for the latest backup, the time in its manifest.
    :param size: size of the encrypted object in bytes; ``None`` if it is missing.
    :param state: ``complete``: the dump and its manifest exist; ``orphan``: a dump without a manifest, from a backup
        that failed after its upload, one that is running, or a tool that writes no such manifests; ``missing``: a
        manifest without its dump.
    :param latest: whether ``latest-dump.json`` names this backup.
    """

    database: str
    key: str
    created_at: datetime.datetime
    size: int | None
    state: str
    latest: bool

    def as_dict(self, now: datetime.datetime) -> dict[str, t.Any]:
        """Return the backup as plain data, with its age in seconds at *now*."""
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
    """Every backup of *database* in the store, newest first; reads one listing and the latest manifest.

    :param prefix: prefix of the backups; ``None`` for the default one.
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

    # A manifest whose dump is missing represents the backup, under the manifest's own key unless the dump's is known.
    missing = proofs - {layout.manifest_key(key) for key in sizes}
    if pointed_at is not None and pointed_at not in sizes:
        missing = (missing - {layout.manifest_key(pointed_at)}) | {pointed_at}
    backups = [
        Backup(
            database=database,
            key=key,
            created_at=moments[key],
            size=sizes.get(key),
            state="missing" if key in missing else "complete" if layout.manifest_key(key) in proofs else "orphan",
            latest=key == pointed_at,
        )
        for key in [*sizes, *missing]
    ]
    return sorted(backups, key=lambda backup: (backup.created_at, backup.key), reverse=True)


def _pointed_at(latest: Found, sizes: dict[str, int]) -> str:
    """Key of the dump that *latest* names, or its URL in another bucket; adds its size to *sizes* if needed."""
    location = latest.location
    store = latest.store if location.bucket is None else latest.store.sibling(location.bucket)
    key = location.key if store is latest.store else store.url(location.key)
    if key not in sizes:
        # A dump may have any name and be anywhere.
        with contextlib.suppress(NotFound):
            sizes[key] = store.head(location.key).size
    return key
