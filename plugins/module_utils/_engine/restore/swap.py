# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The swap at the end of a restore: the staged copy takes the database's place, and the source records its origin."""

from __future__ import annotations

from ..domain.records import RestoredFrom
from ..sources.base import Staging, Swapped
from .choose import Choice


def swap_in(choice: Choice, staging: Staging, *, sha256: str | None) -> Swapped:
    """Swap the staged copy in, all or nothing.

    :param sha256: of the object that was restored.
    """
    found, created = choice.found, choice.created_at
    return staging.swap(
        RestoredFrom(
            url=choice.url,
            key=choice.key,
            sha256=sha256 or "",
            created_at=None if created is None else created.strftime("%Y-%m-%dT%H:%M:%SZ"),
            manifest_sha256=None if found is None else found.sha256,
            system_identifier=None if found is None else found.manifest.system_identifier,
            sequence=found.manifest.sequence if found is not None and choice.proven else None,
        )
    )
