# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Reads the text of a dump as a stream of statements and of the rows between them."""

from __future__ import annotations

import typing as t

from .scanner import CopyData, CopyStart, Event, Scanner, Statement

CHUNK = 1 << 18
"""Bytes to request from a source in one read."""


class Readable(t.Protocol):
    """A source of text."""

    def read(self, n: int, /) -> bytes:
        """Return up to *n* bytes; ``b""`` only at the proven end."""


class CopyBlock(Statement):
    """A ``COPY … FROM stdin`` statement and its rows.  Read the rows before you request the next event."""

    __slots__ = ("_at", "_data", "_ended", "_events", "table")

    def __init__(self, start: CopyStart, events: t.Iterator[Event]) -> None:
        super().__init__(start.text)
        self.table = start.table
        self._events = events
        self._data = b""
        self._at = 0
        self._ended = False

    def read(self, n: int = -1, /) -> bytes:
        """Return up to *n* bytes of rows, or ``b""`` after the last row.

        :raises DumpIncomplete: if the text ends before the block does.
        """
        if self._at == len(self._data):
            event = None if self._ended else next(self._events)
            if not isinstance(event, CopyData):
                self._ended = True
                return b""
            self._data, self._at = event.data, 0
        data = self._data
        if self._at or 0 <= n < len(data):
            data = data[self._at : self._at + n] if n >= 0 else data[self._at :]
        self._at += len(data)
        return data


def read(
    source: Readable, *, size: int = CHUNK, observe: t.Callable[[str, bytes], None] | None = None
) -> t.Iterator[Statement]:
    """Yield the statements of the dump in *source*.  A statement that rows follow is a :class:`CopyBlock`.

    Rows that the caller does not read are skipped.

    :param size: bytes to request from *source* in one read; also the most that a block returns in one read.
    :param observe: is called with the table's name and each piece of its rows, and once with no rows before them.
    :raises DumpSyntax, DumpIncomplete: like the scanner.  Errors of *source* are passed on.
    """
    flow = _flow(source, size)
    for event in flow:
        if isinstance(event, CopyStart):
            block = CopyBlock(event, flow if observe is None else _observed(event.table, flow, observe))
            yield block
            while block.read():
                pass
        elif isinstance(event, Statement):
            yield event


def _observed(table: str, events: t.Iterator[Event], observe: t.Callable[[str, bytes], None]) -> t.Iterator[Event]:
    observe(table, b"")
    for event in events:
        if isinstance(event, CopyData):
            observe(table, event.data)
        yield event


def _flow(source: Readable, size: int) -> t.Iterator[Event]:
    scanner = Scanner()
    while True:
        chunk = source.read(size)
        if not chunk:
            break
        yield from scanner.feed(chunk)
    scanner.finish()
