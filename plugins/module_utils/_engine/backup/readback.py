# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Reads back what a backup has stored, as far as the rights of a host go: it may be allowed to read no dump."""

from __future__ import annotations

import hashlib

from ..domain import layout, manifest
from ..errors import AccessDenied, ChecksumMismatch, NotFound
from ..stores.base import Store

MANIFEST = "manifest"
LATEST = "latest"
SIZE = "size"
FIRST_CHUNK = "first chunk"


def read_back(store: Store, made: manifest.Manifest, *, prefix: str) -> tuple[str, ...]:
    """Compare a backup that was just published with what the store has of it now.

    :param made: its manifest, as it was written.
    :param prefix: of the database.
    :returns: what was compared: :data:`MANIFEST`, :data:`LATEST`, :data:`SIZE`, :data:`FIRST_CHUNK`.
    :raises ChecksumMismatch: if something differs.
    :raises StoreError: if it can't be read for another reason than missing rights.
    """
    data = manifest.render(made)
    compared = []
    for part, key in ((MANIFEST, layout.manifest_key(made.key)), (LATEST, layout.latest_key(prefix))):
        if store.get(key, limit=manifest.MAX_BYTES) != data:
            raise _differs(store.url(key), "its contents are not those that were written")
        compared.append(part)
    size = _size(store, made.key)
    if size != made.size:
        raise _differs(store.url(made.key), f"it has {size} bytes, {made.size} were written")
    compared.append(SIZE)
    if made.chunks is not None and _first_chunk(store, made.key, made.chunks):
        compared.append(FIRST_CHUNK)
    return tuple(compared)


def _size(store: Store, key: str) -> int:
    try:
        return store.head(key).size
    except AccessDenied:
        listed = {info.key: info.size for info in store.list(key)}
        if key not in listed:
            raise NotFound(f"{store.url(key)} is not in the store, although it was stored") from None
        return listed[key]


def _first_chunk(store: Store, key: str, chunks: manifest.Chunks) -> bool:
    """Whether the first chunk could be read; raises unless it is the one that was written."""
    digest, missing = hashlib.sha256(), chunks.size
    try:
        reader = store.open(key)
    except AccessDenied:
        return False
    with reader:
        while missing:
            data = reader.read(missing)
            if not data:
                break
            digest.update(data)
            missing -= len(data)
    if digest.hexdigest() != chunks.sha256[0]:
        raise _differs(store.url(key), "its first chunk is not the one that was written")
    return True


def _differs(url: str, cause: str) -> ChecksumMismatch:
    return ChecksumMismatch(
        f"{url} does not read back",
        phase="store",
        cause=cause,
        hint="do not rely on this store: find out what changes objects, then run the backup again",
    )
