# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Decides which backup the next one follows, and whether a cluster may continue the history under a prefix at all.

Two hosts that share a prefix, or a new and empty cluster, would replace the last good backup: ``latest`` would point to
another one.  So a backup follows the previous one only if both belong to the same history.

The store is trusted only as far as signatures prove its contents.  A host that signs takes numbers, times and system
identifiers only from manifests that an accepted host has signed, and from the records of its own cluster.  A host that
can't sign can only rely on the store; it passes its latest manifest as :data:`BELIEVED`.
"""

from __future__ import annotations

import dataclasses
import datetime
import typing as t

from ..printing import printable
from .manifest import Manifest
from .trust import Signed

#: State of a latest manifest: accepted; not signed; with a valid signature of a host that is not accepted; forged,
#: signed with a revoked key or of another database; not a manifest.
BELIEVED = "believed"
UNSIGNED = "unsigned"
FOREIGN = "foreign"
FORGED = "forged"
UNREADABLE = "unreadable"

#: More backups than one each second for 68 years, so no real backup has such a number.
_MOST = 2**31

_MOMENT = "%Y-%m-%dT%H:%M:%SZ"


@dataclasses.dataclass(frozen=True)
class Link:
    """A backup that another one can follow.

    :param sequence: its number; 0 if it has none that is accepted.
    :param sha256: SHA-256 of its manifest's bytes.
    :param key: key of its dump.
    :param created_at: the run's timestamp; ``None`` if unknown.
    :param system_identifier: system identifier of its cluster; ``None`` if unknown.
    :param signed_by: who signed it; ``None`` if that is not proven.
    :param stands_for: SHA-256 of its manifests before it was rekeyed.
    """

    sequence: int
    sha256: str
    key: str
    created_at: datetime.datetime | None = None
    system_identifier: str | None = None
    signed_by: Signed | None = None
    stands_for: tuple[str, ...] = ()

    def is_backup(self, sha256: str) -> bool:
        """Whether *sha256* is that of its manifest, or of one that it had before it was rekeyed."""
        return sha256 in (self.sha256, *self.stands_for)

    def __str__(self) -> str:
        return f"{self.number} ({printable(self.key)})"

    @property
    def number(self) -> str:
        """Its number and time as text."""
        return f"number {self.sequence}" + ("" if self.created_at is None else f" of {self.created_at:{_MOMENT}}")


@dataclasses.dataclass(frozen=True)
class Latest:
    """The latest manifest under the prefix.

    :param standing: :data:`BELIEVED`, or why it is not accepted.
    :param sha256: SHA-256 of its bytes.
    :param manifest: its contents; ``None`` if it is :data:`UNREADABLE`.
    :param signed_by: who signed it; ``None`` if that is not proven.
    :param reason: why it is not accepted, in a few words.
    """

    standing: str
    sha256: str
    manifest: Manifest | None = None
    signed_by: Signed | None = None
    reason: str = ""

    @property
    def link(self) -> Link | None:
        """The backup to follow; ``None`` if the manifest is not accepted."""
        if self.manifest is None or self.standing != BELIEVED:
            return None
        return link(self.manifest, self.sha256, self.signed_by)


@dataclasses.dataclass(frozen=True)
class Known:
    """What the cluster itself has recorded.

    :param recorded: the last backup that the cluster has created under the prefix.
    :param restored: the backup under the prefix that the database was restored from.
    :param made_empty_at: when a bootstrap created the database, unless a backup has been restored into it since.
    """

    system_identifier: str
    recorded: Link | None = None
    restored: Link | None = None
    made_empty_at: datetime.datetime | None = None


@dataclasses.dataclass(frozen=True)
class Decision:
    """The decision about the next backup.

    :param refusal: why it must not be created, unless the operator takes over the prefix; ``None`` if it may.
    :param previous: the backup that it follows; ``None`` if it is the first.
    """

    refusal: str | None
    previous: Link | None
    warnings: tuple[str, ...]


def link(manifest: Manifest, sha256: str, signed_by: Signed | None) -> Link:
    """The backup that an accepted manifest describes."""
    return Link(
        manifest.sequence or 0,
        sha256,
        manifest.key,
        manifest.created_at,
        manifest.system_identifier,
        signed_by,
        manifest.stands_for,
    )


def decide(latest: Latest | None, newer: t.Sequence[Link], known: Known, *, take_over: bool = False) -> Decision:
    """Decide which backup the next one follows.

    :param latest: the latest manifest under the prefix; ``None`` if there is none.
    :param newer: accepted backups that are newer than *latest*; all accepted backups if *latest* is not accepted or has
        no number.
    :param take_over: continue even if the backup would be refused.
    """
    refusal = _refusal(latest, newer, known)
    if refusal is not None and not take_over:
        return Decision(refusal, None, ())
    followed = None if latest is None else latest.link
    chosen = False
    if latest is not None and known.restored is not None:
        restored = known.restored.sha256
        chosen = latest.sha256 == restored if followed is None else followed.is_backup(restored)
    # If several have the same number, the first one is followed.
    links = [followed, *newer, known.recorded]
    if known.restored is not None and (chosen or known.restored.sequence):
        links.append(known.restored)
    previous = max(
        (one for one in links if one is not None and one.sequence < _MOST), key=lambda one: one.sequence, default=None
    )
    warnings = []
    if refusal is not None:
        warnings.append(f"taken over: {refusal}; {_next_number(previous)}")
    elif latest is None and previous is not None:
        warnings.append(
            f"the latest manifest is missing, although there was {previous}: latest was deleted, or a backup was "
            f"interrupted before it created latest; {_next_number(previous)}"
        )
    elif latest is not None and latest.standing != BELIEVED:
        warnings.append(_ignored(latest, previous, known, chosen=chosen))
    elif previous is not None and followed is not None and previous.sequence > followed.sequence:
        warnings.append(f"{behind(followed, previous)}; {_next_number(previous)}")
    return Decision(refusal, previous, tuple(warnings))


def behind(latest: Link, later: Link) -> str:
    """The warning that the latest backup is not the newest one."""
    if not latest.sequence:
        return f"latest has no number, as if an older tool had written it, but there is {later}"
    return (
        f"latest is {latest.number}, but there is {later}: latest was rolled back, or a backup was interrupted before "
        "it updated latest"
    )


def _next_number(previous: Link | None) -> str:
    if previous is None:
        return "numbering starts again with 1"
    return f"this backup is number {previous.sequence + 1}"


def _ignored(latest: Latest, previous: Link | None, known: Known, *, chosen: bool) -> str:
    """The warning about a latest manifest that is not accepted."""
    if chosen:
        return (
            "the number of the latest backup is not accepted, although this database was restored from it: "
            f"{latest.reason}"
        )
    after = f"{_next_number(previous)}, after {previous}" if previous is not None else _next_number(previous)
    if known.recorded is not None and latest.sha256 == known.recorded.sha256:
        return f"the latest backup is this cluster's own, but {latest.reason}; {after}"
    if _may_be_own(latest, known):
        return f"the latest manifest is ignored: {latest.reason}; {after}"
    return f"somebody has overwritten the latest manifest: {latest.reason}; {after}"


def _refusal(latest: Latest | None, newer: t.Sequence[Link], known: Known) -> str | None:
    """Why the cluster must not continue the history under the prefix; ``None`` if it may."""
    followed = None if latest is None else latest.link
    if followed is not None:
        return _refused(followed, known)
    # No accepted latest manifest: the accepted backup with the highest number counts.
    highest = max((one for one in newer if one.sequence < _MOST), key=lambda one: one.sequence, default=None)
    if latest is None:
        return None if highest is None else _refused(highest, known)
    if any(one is not None and latest.sha256 == one.sha256 for one in (known.restored, known.recorded)):
        return None
    manifest = latest.manifest
    if manifest is not None and _is_before_empty(manifest.created_at, known):
        return _BEFORE_EMPTY
    refusal = None if highest is None else _refused(highest, known)
    if refusal is not None:
        return refusal
    if _may_be_own(latest, known):
        return None
    # The signer may be a second host that backs up to this prefix, and this may be the best backup.
    if latest.standing != FOREIGN:
        # Otherwise a cluster that has signed backups here knows that the manifest has been overwritten.
        if known.recorded is not None and known.recorded.signed_by is not None:
            return None
        if any(one.system_identifier == known.system_identifier for one in newer):
            return None
    refusal = f"the latest manifest is not that of a backup that this host accepts: {latest.reason}"
    if manifest is not None and manifest.system_identifier not in (None, known.system_identifier):
        refusal += f"; it names another cluster (system identifier {printable(str(manifest.system_identifier))})"
    return refusal


def _may_be_own(latest: Latest, known: Known) -> bool:
    """Whether an unsigned manifest may be from an older tool, or from this cluster before it had a signing key."""
    manifest = latest.manifest
    return (
        latest.standing == UNSIGNED
        and manifest is not None
        and (manifest.schema_version is None or manifest.system_identifier == known.system_identifier)
    )


def _refused(followed: Link, known: Known) -> str | None:
    """Why an accepted backup must not be followed; ``None`` if it may."""
    if followed.sequence >= _MOST:
        return f"the number {followed.sequence} of the latest backup is too high to be real"
    if known.restored is not None and followed.is_backup(known.restored.sha256):
        return None
    if followed.created_at is not None and _is_before_empty(followed.created_at, known):
        return _BEFORE_EMPTY
    if followed.system_identifier in (None, known.system_identifier):
        return None
    if known.restored is not None and followed.sequence < known.restored.sequence:
        # An earlier backup of the history that the database was restored from.
        return None
    return (
        f"the latest backup belongs to another cluster (system identifier {printable(str(followed.system_identifier))})"
    )


#: Also for the same cluster: a database that was dropped and created again by a bootstrap is empty.
_BEFORE_EMPTY = "the latest backup is older than this database, which was created empty, and was never restored into it"


def _is_before_empty(moment: datetime.datetime, known: Known) -> bool:
    """Whether a backup of *moment* is older than the empty database, which has not been backed up since."""
    if known.made_empty_at is None:
        return False
    since = known.made_empty_at.replace(microsecond=0)
    recorded = None if known.recorded is None else known.recorded.created_at
    return moment < since and not (recorded is not None and recorded >= since)
