# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Progress for an operator: bars on a terminal, one line for each stage in a log."""

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

    def begin(self, count: int) -> None:
        """The number of databases is not logged."""

    def stage(self, database: str, stage: str, message: str, *, total: int | None = None) -> None:
        """Write a line."""
        now = datetime.datetime.now(datetime.timezone.utc)
        with self._lock:
            name, text = printable_name(database), printable(message)
            self._stream.write(f"{now:%Y-%m-%dT%H:%M:%SZ} {name} {stage}: {text}\n")
            self._stream.flush()

    def advance(self, database: str, count: int) -> None:
        """Bytes are not logged."""

    def finish(self, database: str) -> None:
        """The results follow the log."""

    def close(self) -> None:
        """Nothing is left to be written."""


class TerminalReporter:
    """A bar for the databases of the run, and one for each database: bytes, rate and time left of its stage.

    :param stream: the terminal.
    """

    def __init__(self, stream: t.TextIO) -> None:
        self._stream = stream
        self._run: t.Any = None
        self._bars: dict[str, t.Any] = {}
        self._lock = threading.Lock()

    @staticmethod
    def is_available() -> bool:
        """Whether the library that draws the bars is installed."""
        return tqdm is not None

    def begin(self, count: int) -> None:
        """Begin the bar of the run, if there are several databases."""
        with self._lock:
            if count > 1:
                self._run = self._bar(count, desc="databases", unit="")

    def stage(self, database: str, stage: str, message: str, *, total: int | None = None) -> None:
        """Complete the bar of the stage before, print the stage, and begin a bar if bytes are expected."""
        with self._lock:
            self._complete(database)
            name = printable_name(database)
            tqdm.tqdm.write(f"{name}: {printable(message)}", file=self._stream)
            if total is not None:
                self._bars[database] = self._bar(
                    total, desc=f"{name} {stage}", unit="B", unit_scale=True, unit_divisor=1024
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

    def finish(self, database: str) -> None:
        """Remove the bar of *database*, and move that of the run."""
        with self._lock:
            shown = self._bars.pop(database, None)
            if shown is not None:
                shown.close()
            if self._run is not None:
                self._run.update(1)

    def close(self) -> None:
        """Remove every bar from the terminal."""
        with self._lock:
            for shown in (*self._bars.values(), self._run):
                if shown is not None:
                    shown.close()
            self._bars.clear()
            self._run = None

    def _bar(self, total: int, **options: t.Any) -> t.Any:
        return tqdm.tqdm(total=total, file=self._stream, leave=False, dynamic_ncols=True, **options)

    def _complete(self, database: str) -> None:
        """Show the bar of a stage that has succeeded at 100 %, and remove it: its total was an estimate."""
        shown = self._bars.pop(database, None)
        if shown is not None:
            shown.total = shown.n = max(shown.n, 1)
            shown.refresh()
            shown.close()
