# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Checks of the latest backups, as the next backup and a restore would see them."""

from __future__ import annotations

import typing as t

from ..domain import checks, human, lineage
from ..domain.checks import CRITICAL, WARNING, Check
from ..errors import EngineError
from ..signing import verification
from ..stores import catalogue

if t.TYPE_CHECKING:
    from ..domain.subjects import Subject
    from .host import Host

AREA = "backups"
_REMEDIES = {
    lineage.UNSIGNED: "run backup.sh: its backup is signed",
    lineage.FOREIGN: "the next backup is refused: name the signer for the database (infrazero_signers), or give this "
    "host a bucket of its own",
    lineage.FORGED: "do not restore it: find out who can write to the store, and restore an older backup by its key",
    lineage.UNREADABLE: "find out who has written latest-dump.json; infrazero-database list shows the backups",
}


def check(host: Host) -> t.Iterator[Check]:
    """Age and signer of the latest backup of everything that is backed up."""
    if host.trial().error is not None:
        # The destination's own check names the reason; each database would repeat it.
        return
    for subject in host.profile().subjects():
        try:
            yield _latest(subject, host)
        except EngineError as exc:
            yield checks.failed(AREA, subject.name, exc, severity=checks.UNKNOWN)


def _latest(subject: Subject, host: Host) -> Check:
    profile, store = host.profile(), host.store()
    location = catalogue.location(store, subject.prefix)
    found = verification.standing(store, trust=profile.trust(), database=subject)
    if found is None:
        return Check(AREA, subject.name, CRITICAL, f"there is no backup in {location}", "run backup.sh")
    if found.manifest is None or found.standing in (lineage.FORGED, lineage.UNREADABLE):
        return Check(AREA, subject.name, CRITICAL, found.reason, _REMEDIES[found.standing])
    signed_by = str(found.signed_by) if found.signed_by is not None else ""
    aged = checks.backup_age(subject.name, found.manifest.created_at, now=host.now, signed_by=signed_by)
    if found.standing == lineage.BELIEVED:
        return aged
    severity = (
        CRITICAL if found.standing == lineage.FOREIGN else max(WARNING, aged.severity, key=checks.SEVERITIES.index)
    )
    age = human.age((host.now - found.manifest.created_at).total_seconds())
    return Check(AREA, subject.name, severity, f"{age}; {found.reason}", _REMEDIES[found.standing])
