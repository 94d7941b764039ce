# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Numbers as people read them: sizes in KiB and MiB, durations, and ages."""

from __future__ import annotations

import typing as t

if t.TYPE_CHECKING:
    import datetime

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
#: Seconds of each unit of an age, the largest first, and what it is called.
_PERIODS = ((86400, "d"), (3600, "h"), (60, "min"))


def size(count: int | None) -> str:
    """Bytes in the largest unit of which there is at least one; ``-`` for ``None``."""
    if count is None:
        return "-"
    value, unit = float(count), 0
    # 1023.95 would be shown as 1024.0.
    while value >= 1023.95 and unit < len(_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{count} B" if not unit else f"{value:.1f} {_UNITS[unit]}"


def number(count: int) -> str:
    """A whole number with separators between thousands."""
    return f"{count:,}"


def counted(count: int, noun: str) -> str:
    """A number with its noun, in the plural where that is right: ``1 table``, ``2 tables``."""
    return f"{number(count)} {noun if count == 1 else noun + 's'}"


def duration(seconds: float) -> str:
    """How long something took: ``0.4 s``, ``12 s``, ``3 min 20 s``, ``2 h 5 min``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def age(seconds: float) -> str:
    """How long ago something was: ``6 h ago``, ``just now``; ``in 2 h`` for a moment to come."""
    for length, unit in _PERIODS:
        if abs(seconds) >= length:
            count = int(abs(seconds) // length)
            return f"{count} {unit} ago" if seconds > 0 else f"in {count} {unit}"
    return "just now"


def span(seconds: float) -> str:
    """A length of time in its largest unit: ``45 s``, ``3 min``, ``2 h``, ``1 d``."""
    for length, unit in _PERIODS:
        if abs(seconds) >= length:
            return f"{int(abs(seconds) // length)} {unit}"
    return f"{abs(seconds):.0f} s"


def clocks(theirs: datetime.datetime, ours: datetime.datetime, *, whose: str) -> str:
    """How this host's clock differs from another: ``this host's clock reads ..., 1 d behind the store's (...)``.

    :param whose: whose clock the other one is, in the possessive.
    """
    seconds = (ours - theirs).total_seconds()
    return (
        f"this host's clock reads {ours:%Y-%m-%dT%H:%M:%SZ}, {span(seconds)} {'behind' if seconds < 0 else 'ahead of'}"
        f" {whose} ({theirs:%Y-%m-%dT%H:%M:%SZ})"
    )
