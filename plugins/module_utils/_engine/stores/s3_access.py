# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Tests the permissions of a credential in a bucket with an object created for that purpose."""

from __future__ import annotations

import typing as t

from ..domain import policies
from ..errors import AccessDenied, AlreadyExists, NotFound
from .base import PROBE_TEXT
from .s3 import S3Store

#: Size limit of the test objects; a real manifest may be larger.
_LIMIT = 1 << 20


def try_out(store: S3Store, prefix: str) -> policies.Access:
    """Test every action that a credential may be able to perform under *prefix*.

    Leaves at most the object :func:`.policies.probe_key`, with several versions if the bucket keeps versions; a
    credential that may delete has deleted it again.

    :raises StoreError: if the store neither allows nor denies an action.
    """
    key, latest = policies.probe_key(prefix), policies.probe_latest_key(prefix)
    answers = {
        policies.LIST: _answer(lambda: next(iter(store.list(prefix)), None)),
        policies.READ_MANIFEST: _answer(lambda: store.get(latest, limit=_LIMIT)),
    }
    capabilities = None
    try:
        capabilities = store.probe(key)
        answers[policies.CREATE] = policies.ALLOWED
    except AccessDenied:
        answers[policies.CREATE] = policies.DENIED
    answers[policies.READ] = _answer(lambda: store.get(key, limit=_LIMIT), absent=policies.UNKNOWN)
    version: list[str | None] = []
    answers[policies.OVERWRITE] = _answer(lambda: version.append(store.overwrite(key, PROBE_TEXT)))
    answers[policies.DELETE_LATEST] = _answer(lambda: store.delete(latest))
    kept = version[0] if version else None
    answers[policies.DELETE_VERSION] = policies.UNKNOWN
    if kept is not None:
        answers[policies.DELETE_VERSION] = _answer(lambda: store.delete_version(key, kept))
    answers[policies.DELETE] = _answer(lambda: store.delete(key))
    return policies.Access(
        answers=answers,
        versions=kept is not None if version else None,
        create_only=None if capabilities is None else capabilities.create_only,
        multipart_create_only=None if capabilities is None else capabilities.multipart_create_only,
    )


def _answer(attempt: t.Callable[[], object], *, absent: str = policies.ALLOWED) -> str:
    try:
        attempt()
    except AccessDenied:
        return policies.DENIED
    except NotFound:
        return absent
    except AlreadyExists:
        # The credential may write; only the condition is not met.
        return policies.DENIED
    return policies.ALLOWED
