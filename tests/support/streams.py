# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sources of bytes with faults to order, and what a test of streams must leave behind: nothing."""

from __future__ import annotations

import contextlib
import itertools
import pathlib
import threading
import typing as t


class SourceBroke(Exception):
    """The fault a :class:`Pieces` was told to have."""


class Pieces:
    """*data* in pieces of *sizes*, over and over; raises :class:`SourceBroke` before the byte *fail_at*."""

    def __init__(self, data: bytes, *, sizes: t.Sequence[int] = (65536,), fail_at: int | None = None) -> None:
        self._data = data
        self._sizes = itertools.cycle(sizes)
        self._fail_at = fail_at
        self.position = 0
        self.closed = 0
        self.ended = False

    def read(self, n: int, /) -> bytes:
        if self.closed:
            raise AssertionError("read after close")
        end = self.position + min(n, next(self._sizes))
        if self._fail_at is not None:
            if self.position >= self._fail_at:
                raise SourceBroke
            end = min(end, self._fail_at)
        piece = self._data[self.position : end]
        self.position += len(piece)
        self.ended = not piece
        return piece

    def close(self) -> None:
        self.closed += 1


class Endless:
    """Zeros without end; *closed* stops it, as closing a process does."""

    def __init__(self) -> None:
        self.closed = 0

    def read(self, n: int, /) -> bytes:
        if self.closed:
            raise SourceBroke
        return bytes(n)

    def close(self) -> None:
        self.closed += 1


class Stuck(Endless):
    """Gives *data*, then hangs until it is closed."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self._data = data
        self._closing = threading.Event()
        self.waiting = threading.Event()

    def read(self, n: int, /) -> bytes:
        piece, self._data = self._data[:n], self._data[n:]
        if piece:
            return piece
        self.waiting.set()
        self._closing.wait()
        raise SourceBroke

    def close(self) -> None:
        super().close()
        self._closing.set()


def drain(reader: t.Any, size: int = 65536) -> bytes:
    """All there is, read *size* at a time."""
    return b"".join(iter(lambda: reader.read(size), b""))


def flips(data: bytes, *, start: int = 0, step: int = 1) -> t.Iterator[tuple[int, bytes]]:
    """*data* with one bit flipped, for every *step*-th bit from byte *start* on."""
    for bit in range(start * 8, len(data) * 8, step):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        yield bit // 8, bytes(flipped)


def _descriptors() -> int:
    return sum(1 for _unused in pathlib.Path("/proc/self/fd").iterdir())


def _children() -> set[str]:
    found: set[str] = set()
    for task in pathlib.Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the thread has just ended
            found.update((task / "children").read_text().split())
    return found


@contextlib.contextmanager
def nothing_left() -> t.Iterator[None]:
    """Fails where threads, file descriptors or children (zombies too) stay behind."""
    threads, descriptors, children = set(threading.enumerate()), _descriptors(), _children()
    yield
    for thread in set(threading.enumerate()) - threads:
        thread.join(5)  # it may have given its last chunk just now
    assert set(threading.enumerate()) <= threads
    assert _descriptors() <= descriptors
    assert _children() <= children
