# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Tries what a backup needs of a store: to list, and to create objects that are never replaced.

Works on every kind of store.  :mod:`.s3_access` also tries what a credential must *not* be able to do.
"""

from __future__ import annotations

import contextlib
import dataclasses
import typing as t

from ..domain import layout, manifest, policies
from ..errors import AccessDenied, EngineError, NotFound
from .base import Capabilities, Protection, Store

NOT_TRIED = "not tried"


@dataclasses.dataclass(frozen=True)
class Trial:
    """What a trial has shown.

    :param listing: :data:`.policies.ALLOWED` or :data:`.policies.DENIED`; :data:`.policies.UNKNOWN` after an error.
    :param writing: the same for create-only writes; :data:`NOT_TRIED` if none was wanted.
    :param created: whether the trial has created an object, which stays, or would have.
    :param capabilities: what the store honours; ``None``: nothing could be written.
    :param protection: what it does against the loss of objects; ``None``: nothing, or it was not asked.
    :param clock_offset: seconds that its clock is ahead of this host's; ``None``: unknown.
    :param error: why a backup can't work here; ``None``: nothing speaks against it.
    :param refused_prefix: the prefix that *error* is about; ``""``: it is about the store.
    """

    listing: str
    writing: str
    created: bool
    capabilities: Capabilities | None
    protection: Protection | None
    clock_offset: float | None
    error: EngineError | None = None
    refused_prefix: str = ""


def examine(store: Store, prefixes: t.Sequence[str], *, write: bool) -> Trial:
    """Try *store* under each of *prefixes*, and what it honours under the first; an error ends the trial.

    :param prefixes: at least one; a credential may be limited to some.
    :param write: create the object :func:`.policies.probe_key` under each prefix.  It is never deleted: a host may not.
    """
    found = _under(store, prefixes[0], write=write, first=True)
    for prefix in prefixes[1:]:
        if found.error is not None:
            break
        more = _under(store, prefix, write=write, first=False)
        found = dataclasses.replace(
            found,
            listing=max(found.listing, more.listing, key=_WORSE.index),
            writing=max(found.writing, more.writing, key=_WORSE.index),
            created=found.created or more.created,
            error=more.error,
            refused_prefix=more.refused_prefix,
        )
    return dataclasses.replace(found, clock_offset=store.clock_offset)


_WORSE = (NOT_TRIED, policies.ALLOWED, policies.UNKNOWN, policies.DENIED)


def _under(store: Store, prefix: str, *, write: bool, first: bool) -> Trial:
    """The trial of one prefix.

    :param first: also test what the store honours.
    """
    key, absent = policies.probe_key(prefix), False
    listing, writing = policies.UNKNOWN, policies.UNKNOWN if write else NOT_TRIED
    capabilities: Capabilities | None = None
    protection: Protection | None = None
    error: EngineError | None = None
    try:
        try:
            absent = not any(info.key == key for info in store.list(key))
            listing = policies.ALLOWED
        except AccessDenied:
            listing = policies.DENIED
            if not write:
                _read_latest(store, prefix)
        if write:
            if first:
                capabilities = store.probe(key)
            else:
                store.try_write(key)
            writing = policies.ALLOWED
        if first:
            protection = store.protection()
    except EngineError as exc:
        if isinstance(exc, AccessDenied) and write:
            writing = policies.DENIED
        error = exc
    created = absent and error is None
    return Trial(listing, writing, created, capabilities, protection, None, error, "" if error is None else prefix)


def _read_latest(store: Store, prefix: str) -> None:
    """Raise AccessDenied if the credentials are good for nothing, as far as reading can tell."""
    with contextlib.suppress(NotFound):
        store.get(layout.latest_key(prefix), limit=manifest.MAX_BYTES)
