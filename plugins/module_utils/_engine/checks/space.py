# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Checks of free space: where the server's files are, and where a directory holds backups."""

from __future__ import annotations

import os
import typing as t

from ..domain import checks
from ..domain.checks import UNKNOWN, Check
from ..errors import EngineError
from ..stores.base import DirectorySettings

if t.TYPE_CHECKING:
    from .host import Host

AREA = "space"


def check(host: Host) -> t.Iterator[Check]:
    """Room for a second database beside the largest one of the list, and for the next backups."""
    profile = host.profile()
    try:
        health = host.health()
    except EngineError as exc:
        yield Check(AREA, "data directory", UNKNOWN, f"not checked: {exc.message}")
    else:
        sizes = [health.databases.get(database.name, 0) for database in profile.databases().entries]
        if health.data_directory is not None:
            yield _space(health.data_directory, needed=max(sizes, default=0))
    settings = profile.store()
    if isinstance(settings, DirectorySettings):
        yield _space(settings.path, needed=0)


def _space(path: str, *, needed: int) -> Check:
    try:
        found = os.statvfs(path)
    except OSError as exc:
        return Check(AREA, path, UNKNOWN, exc.strerror or "it can't be inspected")
    unit = found.f_frsize
    return checks.space(path, free=found.f_bavail * unit, total=found.f_blocks * unit, needed=needed)
