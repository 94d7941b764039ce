# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""What is backed up under a prefix of its own: a database of the list, or the globals of a cluster."""

from __future__ import annotations

import dataclasses
import typing as t

from . import layout, manifest

#: Name of the globals among databases: in results, in the records of the cluster, in the manifest.  No database of a
#: list has it, because a name there has no blanks; so a reader that knows only databases refuses such a backup.
CLUSTER_GLOBALS = "cluster globals"


class Subject(t.Protocol):
    """What a backup is of.  See :class:`.databases.Database`."""

    @property
    def name(self) -> str:
        """What results and records call it."""

    @property
    def kind(self) -> str:
        """What its objects contain: a kind of :mod:`.manifest`."""

    @property
    def prefix(self) -> str:
        """Prefix of its backups; ends with ``/``."""

    @property
    def recipients(self) -> tuple[str, ...]:
        """Age recipients."""

    @property
    def backup_signers(self) -> tuple[str, ...]:
        """Hosts whose backups of it are accepted in addition to this host's own and those of the inventory."""


@dataclasses.dataclass(frozen=True)
class ClusterGlobals:
    """The globals of a cluster as a subject of backups.

    :param cluster_prefix: prefix of the cluster; ends with ``/``.
    :param recipients: age recipients; none: the globals are not backed up.
    :param passwords: whether a backup contains the verifiers of passwords.
    """

    cluster_prefix: str
    recipients: tuple[str, ...] = ()
    passwords: bool = False
    backup_signers: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The same for all clusters."""
        return CLUSTER_GLOBALS

    @property
    def kind(self) -> str:
        """Globals."""
        return manifest.GLOBALS

    @property
    def prefix(self) -> str:
        """Prefix of the backups; ends with ``/``."""
        return layout.globals_prefix(self.cluster_prefix)
