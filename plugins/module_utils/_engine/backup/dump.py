# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The dump of a backup on its way: compressed, encrypted and uploaded as it comes.

A store completes an object only once it has read the proven end of its source.  So whatever can be known to keep the
backup from becoming the latest one is checked right before that end is passed on: the upload then fails, and leaves
nothing behind.  A host that may not delete objects could not remove it later.
"""

from __future__ import annotations

import contextlib
import typing as t

from ..domain import manifest
from ..errors import StoreError
from ..reporting import Reporter
from ..sources.base import Dump
from ..stores.base import Store
from ..streams import pipeline
from ..streams.flow import Ended
from .plan import BackupOptions, BackupPlan


def upload(
    plan: BackupPlan,
    *,
    recipients: t.Sequence[t.Any],
    dump_of: t.Callable[[manifest.Part, t.Callable[[int], None]], contextlib.AbstractContextManager[Dump]],
    store: Store,
    options: BackupOptions,
    reporter: Reporter,
    before_end: t.Callable[[pipeline.Encoded, manifest.Part], object],
) -> tuple[pipeline.Encoded, Dump]:
    """Upload the dump to the plan's key; its sizes and checksums come back, and the ended dump.

    :param recipients: of :func:`..streams.age.parse_recipients`.
    :param dump_of: begins the dump; takes what is known of the source, and a function that is passed the size of each
        piece.
    :param before_end: called with the same and the source's part of the manifest before the store completes the object,
        perhaps in another thread; if it raises, nothing is stored.
    """
    size = plan.facts.size
    with (
        dump_of(plan.facts.part, lambda count: reporter.advance(plan.database, count)) as dump,
        contextlib.closing(
            pipeline.encode(
                dump,
                compression=options.compression,
                recipients=recipients,
                chunk_size=manifest.chunk_size(size),
            )
        ) as stream,
    ):
        ended = Ended(stream, lambda: before_end(stream, dump.part))
        stored = store.upload(plan.key, ended, size_hint=size)
    if stored.size != stream.size:
        raise StoreError(
            f"{store.url(plan.key)} has {stored.size} bytes, {stream.size} were sent",
            phase="upload",
            hint="the store lost data: the previous backup is still the latest",
        )
    return stream, dump
