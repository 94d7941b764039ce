# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Which backup the next one follows, and whether a cluster may continue the history under a prefix at all.

Two hosts on one prefix, or a fresh and empty cluster, would replace the last good backup: ``latest`` would point to
something else.  So a backup follows the one before it only if both are of one history.

Nothing in the store is believed beyond what signatures prove.  A host that signs takes number, times and system
identifier only from manifests that an accepted host has signed, and from what its own cluster has recorded.  A host
that can't sign has only the store to rely on; it passes the latest manifest as :data:`BELIEVED`.
"""

from __future__ import annotations

import dataclasses
import datetime
import typing as t

from ..printing import printable
from .manifest import Manifest
from .trust import Signed

#: What a latest manifest is: believed; without a signature; with a sound signature, but of a host that is not accepted;
#: forged, of a revoked key, or another database's; not a manifest at all.
BELIEVED = "believed"
UNSIGNED = "unsigned"
FOREIGN = "foreign"
FORGED = "forged"
UNREADABLE = "unreadable"

#: One backup a second for 68 years: nobody has counted up to here.
_MOST = 2**31

_MOMENT = "%Y-%m-%dT%H:%M:%SZ"


@dataclasses.dataclass(frozen=True)
class Link:
    """A backup that another one can follow.

    :param sequence: its number; 0: none that is believed.
    :param sha256: of its manifest's bytes.
    :param key: of its dump.
    :param created_at: the run's timestamp, ``None`` where that is not known.
    :param system_identifier: of the cluster that it was made of, where that is known.
    :param signed_by: who signed it, where that is proven.
    """

    sequence: int
    sha256: str
    key: str
    created_at: datetime.datetime | None = None
    system_identifier: str | None = None
    signed_by: Signed | None = None

    def __str__(self) -> str:
        return f"{self.number} ({printable(self.key)})"

    @property
    def number(self) -> str:
        """Number and time, in words."""
        return f"number {self.sequence}" + ("" if self.created_at is None else f" of {self.created_at:{_MOMENT}}")


@dataclasses.dataclass(frozen=True)
class Latest:
    """The prefix's latest manifest.

    :param standing: :data:`BELIEVED`, or why it is not.
    :param sha256: of its bytes.
    :param manifest: what it says; ``None`` where it is :data:`UNREADABLE`.
    :param signed_by: who signed it, where that is proven.
    :param reason: why it is not believed, in a few words.
    """

    standing: str
    sha256: str
    manifest: Manifest | None = None
    signed_by: Signed | None = None
    reason: str = ""

    @property
    def link(self) -> Link | None:
        """The backup to follow, where the manifest is believed."""
        if self.manifest is None or self.standing != BELIEVED:
            return None
        return link(self.manifest, self.sha256, self.signed_by)


@dataclasses.dataclass(frozen=True)
class Known:
    """What the cluster knows by itself.

    :param recorded: the last backup that it has made under the prefix.
    :param restored: the backup under the prefix that the database was restored from.
    :param made_empty_at: when our bootstrap made the database, if nothing was restored into it since.
    """

    system_identifier: str
    recorded: Link | None = None
    restored: Link | None = None
    made_empty_at: datetime.datetime | None = None


@dataclasses.dataclass(frozen=True)
class Decision:
    """What becomes of the next backup.

    :param refusal: why it must not be made, unless somebody says that the prefix is taken over; ``None``: it may.
    :param previous: the backup that it follows; ``None``: it is the first.
    """

    refusal: str | None
    previous: Link | None
    warnings: tuple[str, ...]


def link(said: Manifest, sha256: str, signed_by: Signed | None) -> Link:
    """The backup that a believed manifest describes."""
    return Link(said.sequence or 0, sha256, said.key, said.created_at, said.system_identifier, signed_by)


def decide(latest: Latest | None, newer: t.Sequence[Link], known: Known, *, take_over: bool = False) -> Decision:
    """Decide which backup the next one follows.

    :param latest: the prefix's latest manifest, ``None`` if there is none.
    :param newer: believed backups whose manifests are newer than it; if it is not believed, all that were found.
    :param take_over: continue even if it would be refused.
    """
    refusal = _refusal(latest, newer, known)
    if refusal is not None and not take_over:
        return Decision(refusal, None, ())
    followed = None if latest is None else latest.link
    chosen = latest is not None and known.restored is not None and latest.sha256 == known.restored.sha256
    # Of equal ones the first is followed.
    links = [followed, *newer, known.recorded]
    if known.restored is not None and (chosen or known.restored.sequence):
        links.append(known.restored)
    previous = max(
        (one for one in links if one is not None and one.sequence < _MOST), key=lambda one: one.sequence, default=None
    )
    warnings = []
    if refusal is not None:
        warnings.append(f"taken over: {refusal}; {_goes_on(previous)}")
    elif latest is None and previous is not None:
        warnings.append(
            f"there is no latest backup, but there was {previous}: latest was deleted, or a backup ended before it "
            f"moved latest; {_goes_on(previous)}"
        )
    elif latest is not None and latest.standing != BELIEVED:
        warnings.append(_passed_over(latest, previous, known, chosen=chosen))
    elif previous is not None and followed is not None and previous.sequence > followed.sequence:
        warnings.append(f"{behind(followed, previous)}; {_goes_on(previous)}")
    return Decision(refusal, previous, tuple(warnings))


def behind(latest: Link, later: Link) -> str:
    """The warning about a latest backup that is not the last one."""
    return (
        f"latest is {latest.number}, but there is {later}: latest was rolled back, or a backup ended before it "
        "moved latest"
    )


def _goes_on(previous: Link | None) -> str:
    if previous is None:
        return "a new count begins with number 1"
    return f"this backup is number {previous.sequence + 1}"


def _passed_over(latest: Latest, previous: Link | None, known: Known, *, chosen: bool) -> str:
    """The warning about a latest manifest that is not believed."""
    if chosen:
        return (
            f"the number of the latest backup, which this database was restored from, is not believed: {latest.reason}"
        )
    after = f"{_goes_on(previous)}, after {previous}" if previous is not None else _goes_on(previous)
    if known.recorded is not None and latest.sha256 == known.recorded.sha256:
        return f"the latest backup is this cluster's own, but {latest.reason}; {after}"
    if _may_be_ours(latest, known):
        return f"the latest manifest is ignored: {latest.reason}; {after}"
    return f"somebody has overwritten the latest manifest: {latest.reason}; {after}"


def _refusal(latest: Latest | None, newer: t.Sequence[Link], known: Known) -> str | None:
    """Why the cluster must not continue the prefix's history; ``None``: it may."""
    followed = None if latest is None else latest.link
    if followed is not None:
        return _refused(followed, known)
    # Nothing says which is the last one: the highest of those that are believed counts.
    highest = max((one for one in newer if one.sequence < _MOST), key=lambda one: one.sequence, default=None)
    if latest is None:
        return None if highest is None else _refused(highest, known)
    if any(one is not None and latest.sha256 == one.sha256 for one in (known.restored, known.recorded)):
        return None
    said = latest.manifest
    if said is not None and _is_before_empty(said.created_at, known):
        return _BEFORE_EMPTY
    refusal = None if highest is None else _refused(highest, known)
    if refusal is not None:
        return refusal
    if _may_be_ours(latest, known):
        return None
    # The signer may be a second host that backs up here, and this may be the best backup that there is.
    if latest.standing != FOREIGN:
        # Otherwise a cluster that has signed backups here knows that somebody has overwritten them.
        if known.recorded is not None and known.recorded.signed_by is not None:
            return None
        if any(one.system_identifier == known.system_identifier for one in newer):
            return None
    refusal = f"the latest manifest is not of a backup that this host accepts: {latest.reason}"
    if said is not None and said.system_identifier not in (None, known.system_identifier):
        refusal += f"; it names another cluster (system identifier {printable(str(said.system_identifier))})"
    return refusal


def _may_be_ours(latest: Latest, known: Known) -> bool:
    """Whether a manifest that is not believed can be an older tool's, or ours from before there was a key."""
    said = latest.manifest
    return (
        latest.standing == UNSIGNED
        and said is not None
        and (said.schema_version is None or said.system_identifier == known.system_identifier)
    )


def _refused(followed: Link, known: Known) -> str | None:
    """Why a backup that is believed must not be followed; ``None``: it may."""
    if followed.sequence >= _MOST:
        return f"the latest backup has the number {followed.sequence}, which no count can have reached"
    if known.restored is not None and followed.sha256 == known.restored.sha256:
        return None
    if followed.created_at is not None and _is_before_empty(followed.created_at, known):
        return _BEFORE_EMPTY
    if followed.system_identifier in (None, known.system_identifier):
        return None
    if known.restored is not None and followed.sequence < known.restored.sequence:
        # An earlier backup of the history that the database was restored from.
        return None
    return f"the latest backup is of another cluster (system identifier {printable(str(followed.system_identifier))})"


#: Also of the same cluster: a database that was dropped, and created again by a bootstrap, is empty.
_BEFORE_EMPTY = "the latest backup was made before this database was created empty, and was never restored into it"


def _is_before_empty(moment: datetime.datetime, known: Known) -> bool:
    """Whether a backup of *moment* is older than the empty database, and no backup of that has been made since."""
    if known.made_empty_at is None:
        return False
    since = known.made_empty_at.replace(microsecond=0)
    recorded = None if known.recorded is None else known.recorded.created_at
    return moment < since and not (recorded is not None and recorded >= since)
