# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measures whether the time that a reader takes is linear in the length of what it reads.

All times are the CPU time of this process and are compared with each other only, so a busy machine changes nothing.
"""

from __future__ import annotations

import contextlib
import functools
import resource
import signal
import typing as t

#: How many times as long as the short text the long one is.
STEP = 8
#: How many times as much a byte of the long text may cost; for a reader whose time grows with the square, it is STEP.
GROWTH = 3.0
#: How many times as much a byte may cost as one of an honest text costs.
ALLOWANCE = 100.0
#: A reader that takes no longer for a byte is never too slow: less than that is noise.
NOISE_SECONDS = 20e-9

Read = t.Callable[[bytes], object]


class Text(t.NamedTuple):
    """A text of any length: *unit* is repeated between *head* and *tail*."""

    head: bytes
    unit: bytes
    tail: bytes

    def of(self, size: int) -> bytes:
        return self.head + self.unit * max(1, size // len(self.unit)) + self.tail


class TooSlow(AssertionError):
    """The reader took too long."""


class _OutOfTime(BaseException):
    """Not an error that a reader would catch."""


def _give_up(_number: int, _frame: object) -> t.NoReturn:
    raise _OutOfTime


@contextlib.contextmanager
def _at_most(seconds: float) -> t.Iterator[None]:
    # Python's re looks for signals while it matches, so this ends a pattern of exponential time, too.
    before = signal.signal(signal.SIGPROF, _give_up)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def _cpu_seconds() -> float:
    # Not time.process_time(): while a timer of the process runs, Linux updates that clock with each tick only.
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def seconds_of(read: Read, data: bytes, *, limit: float, times: int = 1) -> float:
    """The least CPU time that *read* takes for *data*; infinite if it takes more than *limit* seconds."""
    least = float("inf")
    for _time in range(times):
        begin = _cpu_seconds()
        try:
            with _at_most(limit):
                read(data)
        except _OutOfTime:
            return float("inf")
        least = min(least, _cpu_seconds() - begin)
    return least


@functools.cache
def _seconds_of_a_byte(read: Read, plain: Text, size: int) -> float:
    honest = plain.of(size)
    return seconds_of(read, honest, limit=60, times=3) / len(honest)


def require_linear(read: Read, text: Text, *, size: int, plain: Text) -> None:
    """Fail with :class:`TooSlow` unless *read* takes a time for *text* that grows with its length and is in proportion.

    :param size: bytes of the long text; the short one has one part in :data:`STEP`.
    :param plain: what an honest text consists of.
    """
    long, short = text.of(size), text.of(size // STEP)
    proportion = max(ALLOWANCE * _seconds_of_a_byte(read, plain, size), NOISE_SECONDS) * len(long)
    # Where a first look seems bad, the best of several counts.
    for times in (1, 5):
        short_seconds = seconds_of(read, short, limit=max(proportion, 0.05), times=times)
        linear = max(short_seconds / len(short), NOISE_SECONDS) * len(long)
        limit = min(GROWTH * linear, proportion)
        long_seconds = seconds_of(read, long, limit=max(2 * limit, 0.05), times=times)
        if long_seconds <= limit:
            return
    raise TooSlow(
        f"{len(short)} bytes take {short_seconds * 1e3:.3g} ms, {len(long)} bytes {long_seconds * 1e3:.3g} ms, "
        f"at most {limit * 1e3:.3g} ms are linear and in proportion: {text!r:.300}"
    )
