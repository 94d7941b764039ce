# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Whose history a prefix holds, and whether a cluster may go on with it.

Two hosts on one prefix, or a fresh and empty cluster, would put the last good backup out of sight: ``latest`` would
point to something else.  So a backup follows the one before it only where both are of one history.
"""

from __future__ import annotations

import datetime

from .manifest import Manifest

#: More than this not every reader of JSON can count.
_MOST = 2**53 - 1


def fault(
    previous: Manifest | None,
    *,
    previous_sha256: str | None,
    system_identifier: str,
    restored_from_sha256: str | None,
    made_empty_at: datetime.datetime | None,
) -> str | None:
    """Why a cluster must not go on with the history that *previous* ends; ``None``: it may.

    :param previous: the prefix's latest manifest, ``None`` where there is none.
    :param previous_sha256: SHA-256 of that manifest's bytes.
    :param system_identifier: of the cluster that is to be backed up.
    :param restored_from_sha256: SHA-256 of the manifest that the database was restored from, where it was.
    :param made_empty_at: when our bootstrap made the database, if nothing was restored into it since.
    """
    if previous is None:
        return None
    if (previous.sequence or 0) >= _MOST:
        return f"the latest backup counts {previous.sequence} backups, which nobody can have made"
    if previous_sha256 == restored_from_sha256:
        return None
    # Also on the same cluster: a database that was dropped, and made anew by a bootstrap, holds nothing.
    if made_empty_at is not None and previous.created_at < made_empty_at.replace(microsecond=0):
        return "the latest backup was made before this database was created empty, and was never restored into it"
    if previous.system_identifier not in (None, system_identifier):
        return f"the latest backup is of another cluster (system identifier {previous.system_identifier})"
    return None


def goes_on(said: Manifest, latest: Manifest | None, *, database: str, system_identifier: str) -> bool:
    """Whether *said*, newer than *latest*, is of this database of this cluster and counts on from there."""
    ours = (said.database, said.system_identifier) == (database, system_identifier)
    before = 0 if latest is None else latest.sequence or 0
    return ours and said.sequence is not None and before < said.sequence < _MOST
