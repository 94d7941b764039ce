# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The dump of a backup on its way: compressed, encrypted and uploaded as it comes."""

from __future__ import annotations

import contextlib
import typing as t

from ..domain import manifest
from ..errors import StoreError
from ..reporting import Reporter
from ..sources.base import Dump, LockedSession, RestoreRules
from ..stores.base import Store
from ..streams import pipeline
from .plan import BackupOptions, BackupPlan


def upload(
    plan: BackupPlan,
    *,
    recipients: t.Sequence[t.Any],
    session: LockedSession,
    store: Store,
    options: BackupOptions,
    reporter: Reporter,
) -> tuple[pipeline.Encoded, Dump]:
    """Upload the dump to the plan's key; its sizes and checksums come back, and the ended dump.

    :param recipients: of :func:`..streams.age.parse_recipients`.
    """
    size = plan.facts.size
    with (
        session.dump(
            plan.database,
            plan.facts.part,
            rules=RestoreRules(
                options.restores, signed=options.signer is not None, required=options.require_restorable
            ),
            lock_wait_seconds=options.lock_wait_seconds,
            advance=lambda count: reporter.advance(plan.database, count),
        ) as dump,
        contextlib.closing(
            pipeline.encode(
                dump,
                compression=options.compression,
                recipients=recipients,
                chunk_size=manifest.chunk_size(size),
            )
        ) as stream,
    ):
        stored = store.upload(plan.key, stream, size_hint=size)
    if stored.size != stream.size:
        raise StoreError(
            f"{store.url(plan.key)} has {stored.size} bytes, {stream.size} were sent",
            phase="upload",
            hint="the store lost data: the previous backup is still the latest",
        )
    return stream, dump
