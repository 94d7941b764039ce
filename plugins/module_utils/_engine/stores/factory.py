# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The store that settings mean."""

from __future__ import annotations

import typing as t

from .base import S3Settings
from .directory import DirectoryStore
from .s3 import S3Store

if t.TYPE_CHECKING:
    from .base import DirectorySettings, Store


def open_store(settings: S3Settings | DirectorySettings) -> Store:
    """A store; raises ConfigurationError for settings that can't work, and asks no server yet."""
    if isinstance(settings, S3Settings):
        return S3Store(settings)
    return DirectoryStore(settings)
