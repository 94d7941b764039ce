# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Clocks that are wrong, or are set while a run is at work; of the run alone, with libfaketime."""

from __future__ import annotations

import datetime
import pathlib
import re
import typing as t

from tests.faults.cases.answers import DUMP
from tests.faults.trial import BACKUP, EITHER, RESTORE, Case, Trial
from tests.support.faultyproxy import before

if t.TYPE_CHECKING:
    from tests.faults.world import Ended


def cases() -> t.Iterator[Case]:
    """All of them."""
    for name, offset in (("day-fast", "+1d"), ("day-slow", "-1d"), ("hour-fast", "+1h"), ("years-fast", "+3650d")):
        for stage in (BACKUP, RESTORE):

            def moved(trial: Trial, offset: str = offset) -> None:
                _fake(trial, offset)

            yield Case(
                f"{stage}/clock/{name}", stage, f"the clock is off by {offset}", moved, EITHER, quick=name == "day-slow"
            )
    for name, offset in (("forward", "+1d"), ("back", "-1d")):

        def stepped(trial: Trial, offset: str = offset) -> None:
            file = _fake(trial, "+0")
            trial.inject("PutObject", before(trial.does(lambda: file.write_text(offset))), key=DUMP, times=1)

        yield Case(
            f"backup/clock/stepped-{name}", BACKUP, f"the clock is set by {offset} during the upload", stepped, EITHER
        )


def _library() -> str:
    found = [
        *pathlib.Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"),
        *pathlib.Path("/usr/lib64").glob("faketime/libfaketimeMT.so.1"),
    ]
    if not found:
        raise RuntimeError("clocks are moved with libfaketime: install the package")
    return str(found[0])


def _fake(trial: Trial, offset: str) -> pathlib.Path:
    """Move the run's clock; the file whose text moves it further comes back."""
    file = trial.world.directory / "clock"
    file.write_text(offset)
    trial.environment.update(
        LD_PRELOAD=_library(),
        FAKETIME_TIMESTAMP_FILE=str(file),
        FAKETIME_NO_CACHE="1",
        FAKETIME_DONT_FAKE_MONOTONIC="1",
    )

    def seen(ended: Ended) -> str | None:
        """Its log has the moved clock's times, if it came to a log."""
        now = datetime.datetime.now(datetime.timezone.utc)
        for found in re.findall(r"^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ) ", ended.err, re.MULTILINE):
            said = datetime.datetime.strptime(found, "%Y-%m-%dT%H:%M:%S%z")
            if abs((said - now).total_seconds()) > 1800:
                return None
        return "the clock was not moved" if offset != "+0" and ended.status == 0 else None

    trial.checks.append(seen)
    if offset != "+0":
        trial.happened()
    return file
