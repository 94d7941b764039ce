# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The kinds of stores.  Adding one is a module beside this one and one entry in :data:`KINDS`."""

from __future__ import annotations

import typing as t

from ..errors import ConfigurationError
from .base import DirectorySettings, S3Settings
from .directory import DirectoryStore
from .s3 import S3Store

if t.TYPE_CHECKING:
    from .base import Store

#: How any kind of store is reached.
Settings = t.Union[S3Settings, DirectorySettings]

#: The store that each type of settings reaches.
KINDS: t.Mapping[type, t.Callable[[t.Any], Store]] = {
    S3Settings: S3Store,
    DirectorySettings: DirectoryStore,
}


def open_store(settings: Settings) -> Store:
    """The store behind *settings*; nothing is asked of a server yet.

    :raises ConfigurationError: settings that can't work.
    """
    for kind, store in KINDS.items():
        if isinstance(settings, kind):
            return store(settings)
    raise ConfigurationError(f"{type(settings).__name__} are not settings of a store")
