# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The kinds of sources.  Adding one is a package beside this module and one line in :data:`KINDS`."""

from __future__ import annotations

import typing as t

from ..domain import manifest
from ..errors import ConfigurationError
from .postgresql.connection import ConnectionSettings
from .postgresql.contents import Contents as PostgresqlContents
from .postgresql.source import PostgresqlSource

if t.TYPE_CHECKING:
    from .base import Contents, Source

#: How any kind of source is reached.
Settings = ConnectionSettings

#: The source that each type of settings reaches.
KINDS: t.Mapping[type[Settings], t.Callable[[t.Any], Source]] = {
    ConnectionSettings: PostgresqlSource,
}

#: What compares the contents of a backup with its manifest, by the ``source`` in it.
CONTENTS: t.Mapping[str, t.Callable[[t.Any], Contents]] = {
    manifest.POSTGRESQL: PostgresqlContents,
}


def open_source(settings: Settings) -> Source:
    """The source behind *settings*; nothing is connected yet."""
    for kind, source in KINDS.items():
        if isinstance(settings, kind):
            return source(settings)
    raise ConfigurationError(f"{type(settings).__name__} are not settings of a source that can be backed up")


def contents(described: manifest.Manifest) -> Contents:
    """What compares the contents of the backup with *described*, its manifest; no source is connected."""
    kind = described.source or manifest.POSTGRESQL
    if kind not in CONTENTS:
        raise ConfigurationError(
            f"the contents of a backup of {kind} are not known here",
            hint="update infrazero.database to the version that wrote the backup, or a newer one",
        )
    return CONTENTS[kind](described.part)
