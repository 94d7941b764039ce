# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Which backups have to be encrypted anew, so that certain recipients and no others can read each of them."""

from __future__ import annotations

import dataclasses
import typing as t

from . import recipients

#: What becomes of a backup: it is rekeyed; it is encrypted to these recipients; a rekeyed copy of it is; or it was
#: rekeyed to others before, and the newest copy is rekeyed in its place.
REKEY = "rekey"
CURRENT = "current"
DONE = "done"
REPLACED = "replaced"


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A backup with a manifest.

    :param key: of its dump.
    :param sha256: of its manifest.
    :param recipients: that the manifest names; ``None``: it names none.
    :param stands_for: SHA-256 of the manifests that it had before.
    :param proven: whether the signature of an accepted host was verified.
    """

    key: str
    sha256: str
    recipients: tuple[str, ...] | None
    stands_for: tuple[str, ...]
    proven: bool


@dataclasses.dataclass(frozen=True)
class Decision:
    """What becomes of one backup.

    :param copy: key of the dump that takes its place, if there is one.
    """

    action: str
    copy: str | None = None


def decide(candidates: t.Sequence[Candidate], wanted: t.Sequence[str]) -> dict[str, Decision]:
    """Decide what becomes of each of *candidates*, by key.

    An unsigned manifest may claim to be that of a rekeyed backup.  It takes the place of an unsigned one at most, so
    nobody without a signing key can keep a signed backup from being rekeyed.

    :param candidates: those whose objects are there, and whose manifests are proven or unsigned.
    :param wanted: the recipients.
    """

    by_earlier: dict[str, list[Candidate]] = {}
    for one in candidates:
        for sha256 in one.stands_for:
            by_earlier.setdefault(sha256, []).append(one)

    def copies(of: Candidate) -> list[Candidate]:
        found = [one for one in by_earlier.get(of.sha256, ()) if one.proven >= of.proven]
        # A copy of a copy stands for more manifests; of two, the later has the later key.
        return sorted(found, key=lambda one: (len(one.stands_for), one.key), reverse=True)

    def is_current(one: Candidate) -> bool:
        return one.recipients is not None and recipients.same(one.recipients, wanted)

    decisions = {}
    for one in candidates:
        found = copies(one)
        current = [copy for copy in found if is_current(copy)]
        if is_current(one):
            decisions[one.key] = Decision(CURRENT)
        elif current:
            decisions[one.key] = Decision(DONE, current[0].key)
        elif found:
            decisions[one.key] = Decision(REPLACED, found[0].key)
        else:
            decisions[one.key] = Decision(REKEY)
    return decisions
