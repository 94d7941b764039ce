# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The kinds of sources.  Adding one is a package beside this module and one line in :data:`KINDS`."""

from __future__ import annotations

import typing as t

from ..errors import ConfigurationError
from .postgresql.connection import ConnectionSettings
from .postgresql.source import PostgresqlSource

if t.TYPE_CHECKING:
    from .base import Source

#: How any kind of source is reached.
Settings = ConnectionSettings

#: The source that each type of settings reaches.
KINDS: t.Mapping[type[Settings], t.Callable[[t.Any], Source]] = {
    ConnectionSettings: PostgresqlSource,
}


def open_source(settings: Settings) -> Source:
    """The source behind *settings*; nothing is connected yet."""
    for kind, source in KINDS.items():
        if isinstance(settings, kind):
            return source(settings)
    raise ConfigurationError(f"{type(settings).__name__} are not settings of a source that can be backed up")
