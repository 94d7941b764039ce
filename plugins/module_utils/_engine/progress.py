# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Telling an operator what is going on: a bar on a terminal, one line for each stage in a log."""

from __future__ import annotations

import datetime
import threading
import typing as t

from .printing import printable, printable_name

try:
    import tqdm
except ImportError:  # a log will do
    tqdm = None  # type: ignore[assignment]


class LogReporter:
    """One line a stage: moment, database, stage, message.

    :param stream: where the lines go; whole lines are written, so that several databases don't mix.
    """

    def __init__(self, stream: t.TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def stage(self, database: str, stage: str, message: str, *, total: int | None = None) -> None:
        """Write a line."""
        now = datetime.datetime.now(datetime.timezone.utc)
        with self._lock:
            name, text = printable_name(database), printable(message)
            self._stream.write(f"{now:%Y-%m-%dT%H:%M:%SZ} {name} {stage}: {text}\n")
            self._stream.flush()

    def advance(self, database: str, count: int) -> None:
        """Bytes are not logged."""

    def close(self) -> None:
        """Nothing is left to be written."""


class TerminalReporter:
    """A bar for each database: bytes, rate and time left of the stage it is in.

    :param stream: the terminal.
    """

    def __init__(self, stream: t.TextIO) -> None:
        self._stream = stream
        self._bars: dict[str, t.Any] = {}
        self._lock = threading.Lock()

    @staticmethod
    def is_available() -> bool:
        """Whether the library that draws the bars is installed."""
        return tqdm is not None

    def stage(self, database: str, stage: str, message: str, *, total: int | None = None) -> None:
        """Begin a bar where bytes are expected; say the stage."""
        with self._lock:
            shown = self._bars.pop(database, None)
            if shown is not None:
                shown.close()
            name = printable_name(database)
            tqdm.tqdm.write(f"{name}: {printable(message)}", file=self._stream)
            if total is not None:
                self._bars[database] = tqdm.tqdm(
                    total=total,
                    desc=f"{name} {stage}",
                    unit="B",
                    unit_scale=True,
                    unit_divisor=1024,
                    file=self._stream,
                    leave=False,
                    dynamic_ncols=True,
                )

    def advance(self, database: str, count: int) -> None:
        """Move the bar."""
        with self._lock:
            shown = self._bars.get(database)
            if shown is None:
                return
            if shown.total is not None and shown.n + count > shown.total:
                shown.total = None  # the estimate was too low: bytes and rate without a time left
            shown.update(count)

    def close(self) -> None:
        """Take every bar off the terminal."""
        with self._lock:
            for shown in self._bars.values():
                shown.close()
            self._bars.clear()
