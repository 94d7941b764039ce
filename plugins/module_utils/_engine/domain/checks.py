# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Results of checks: what was checked, how bad it is, what was seen, and what to do about it.

One engine of checks (:mod:`..checks`) collects them for every front end.  The functions here decide: from facts that
others have read, each makes the result.
"""

from __future__ import annotations

import dataclasses
import datetime
import typing as t

from ..errors import EngineError
from ..printing import printable
from . import human

OK = "ok"
UNKNOWN = "unknown"
WARNING = "warning"
CRITICAL = "critical"
#: From the best to the worst.  What could not be checked is better than what is known to be bad.
SEVERITIES = (OK, UNKNOWN, WARNING, CRITICAL)

#: Seconds that clocks may differ before a warning, and before it is critical: S3 then refuses signatures.
CLOCK_WARNING = 60
CLOCK_CRITICAL = 15 * 60
#: Age of the latest backup above which a daily one has been missed, and above which two have.
LATE = datetime.timedelta(hours=26)
TOO_LATE = datetime.timedelta(hours=50)
#: Free space of a file system, as a part of it.
SPACE_WARNING = 0.10
SPACE_CRITICAL = 0.02

_SYNCHRONIZE = "synchronize the clocks (timedatectl set-ntp true)"


@dataclasses.dataclass(frozen=True)
class Check:
    """One result.

    :param area: the group that it belongs to, such as ``server``.
    :param subject: what was checked, such as the name of a database.
    :param severity: one of :data:`SEVERITIES`.
    :param seen: what was found, in a few words.
    :param remedy: what to do; ``""`` if there is nothing to do.
    """

    area: str
    subject: str
    severity: str
    seen: str
    remedy: str = ""

    def as_dict(self) -> dict[str, str]:
        """As plain data, printable: parts of it are what others wrote."""
        return {name: printable(value) for name, value in dataclasses.asdict(self).items()}


def worst(checks: t.Iterable[Check]) -> str:
    """The worst severity of *checks*; :data:`OK` if there are none."""
    return max((one.severity for one in checks), key=SEVERITIES.index, default=OK)


def counted(checks: t.Sequence[Check]) -> str:
    """``2 critical, 1 warning, 12 ok``: the number of checks of each severity, the worst first."""
    counts = {each: sum(one.severity == each for one in checks) for each in reversed(SEVERITIES)}
    return ", ".join(f"{count} {each}" for each, count in counts.items() if count)


def failed(area: str, subject: str, error: EngineError, *, severity: str = CRITICAL) -> Check:
    """The result of a check that ended with *error*."""
    seen = error.message + (f" ({error.cause})" if error.cause else "")
    return Check(area, subject, severity, seen, error.hint)


def clock(subject: str, offset: float | None) -> Check:
    """How the clock of *subject* differs from this host's.

    :param offset: seconds that it is ahead; ``None``: it has not told the time.
    """
    if offset is None:
        return Check("clocks", subject, UNKNOWN, "it has not told the time")
    if abs(offset) <= CLOCK_WARNING:
        return Check("clocks", subject, OK, "agrees with this host's clock")
    seen = f"{human.span(offset)} {'ahead of' if offset > 0 else 'behind'} this host's clock"
    if abs(offset) <= CLOCK_CRITICAL:
        return Check("clocks", subject, WARNING, seen, _SYNCHRONIZE)
    remedy = f"{_SYNCHRONIZE}: with more than 15 minutes, S3 refuses requests, and backups get wrong times"
    return Check("clocks", subject, CRITICAL, seen, remedy)


def space(subject: str, *, free: int, total: int, needed: int = 0) -> Check:
    """The free space of a file system.

    :param free: bytes that the user of backups may still write.
    :param needed: bytes that the next large operation takes.
    """
    seen = f"{human.size(free)} of {human.size(total)} are free"
    if free < total * SPACE_CRITICAL:
        return Check("space", subject, CRITICAL, seen, "free some space, or enlarge the file system")
    if free < needed:
        remedy = f"a restore of the largest database needs {human.size(needed)} beside it; strategy replace needs less"
        return Check("space", subject, WARNING, seen, remedy)
    if free < total * SPACE_WARNING:
        return Check("space", subject, WARNING, seen, "free some space, or enlarge the file system")
    return Check("space", subject, OK, seen)


def backup_age(subject: str, created_at: datetime.datetime, *, now: datetime.datetime, signed_by: str) -> Check:
    """The age of the latest backup of *subject*.

    :param signed_by: who has signed it, in words; ``""``: nobody.
    """
    age = now - created_at
    seen = f"{human.age(age.total_seconds())}, {f'signed by {signed_by}' if signed_by else 'not signed'}"
    if age < -datetime.timedelta(seconds=CLOCK_WARNING):
        return Check("backups", subject, WARNING, seen, f"it is from the future: {_SYNCHRONIZE}")
    if age > TOO_LATE:
        return Check("backups", subject, CRITICAL, seen, "run backup.sh, and look at the log of the schedule")
    if age > LATE:
        return Check("backups", subject, WARNING, seen, "run backup.sh, and look at the log of the schedule")
    if not signed_by:
        remedy = "a restore will need trust: unsigned; the role backup creates a signing key"
        return Check("backups", subject, WARNING, seen, remedy)
    return Check("backups", subject, OK, seen)
