# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an operator sees."""

from __future__ import annotations

import io
import re
import threading
import typing as t

import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine import progress
from ansible_collections.infrazero.database.plugins.module_utils._engine.progress import LogReporter, TerminalReporter


def test_a_log_has_one_line_for_each_stage() -> None:
    stream = io.StringIO()
    reporter = LogReporter(stream)
    reporter.stage("app", "dump", "dumping to s3://b/k", total=10)
    reporter.advance("app", 10)
    reporter.stage("app", "manifest", "writing the manifest")
    reporter.close()
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ app dump: dumping to s3://b/k\n"
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ app manifest: writing the manifest\n",
        stream.getvalue(),
    )


def test_what_others_wrote_forges_no_line() -> None:
    stream = io.StringIO()
    LogReporter(stream).stage("app\x1b[2J", "load", "loading db/x\n2030-01-01T00:00:00Z app done: restored")
    (line,) = stream.getvalue().splitlines()
    assert line.endswith(r" app\x1b[2J load: loading db/x\x0a2030-01-01T00:00:00Z app done: restored")


def test_lines_of_several_databases_do_not_mix() -> None:
    class Slow(io.StringIO):
        """Writes letter by letter, so that writers without a lock would get in each other's way."""

        def write(self, text: str) -> int:
            return sum(io.StringIO.write(self, letter) for letter in text)

    stream = Slow()
    reporter = LogReporter(stream)
    threads = [
        threading.Thread(target=lambda name=name: [reporter.stage(name, "dump", "x" * 50) for _time in range(50)])
        for name in ("one", "two", "three")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = stream.getvalue().splitlines()
    assert len(lines) == 150
    assert all(re.fullmatch(r"\S+Z (one|two|three) dump: x{50}", line) for line in lines)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(reporter: TerminalReporter, database: str) -> dict[str, t.Any]:
    return dict(reporter._bars[database].format_dict)


def test_a_bar_counts_the_bytes_of_a_stage() -> None:
    stream = Terminal()
    reporter = TerminalReporter(stream)
    reporter.stage("app", "dump", "dumping", total=4096)
    reporter.advance("app", 1024)
    assert (shown(reporter, "app")["n"], shown(reporter, "app")["total"]) == (1024, 4096)
    reporter.stage("app", "manifest", "writing the manifest")
    reporter.advance("app", 1)  # a stage without bytes has no bar
    reporter.close()
    assert "app: dumping" in stream.getvalue() and "app dump" in stream.getvalue()
    assert "app dump: 100%|" in stream.getvalue(), "the stage has ended well, whatever was estimated"
    assert "app: writing the manifest" in stream.getvalue()
    assert not reporter._bars


def test_an_estimate_that_was_too_low_gives_way_to_bytes_alone() -> None:
    reporter = TerminalReporter(Terminal())
    reporter.stage("app", "dump", "dumping", total=100)
    for _time in range(3):
        reporter.advance("app", 60)
    assert (shown(reporter, "app")["n"], shown(reporter, "app")["total"]) == (180, None)
    reporter.close()


def test_a_stage_that_did_not_end_well_is_not_shown_as_complete() -> None:
    stream = Terminal()
    reporter = TerminalReporter(stream)
    reporter.stage("app", "dump", "dumping", total=4096)
    reporter.advance("app", 1024)
    reporter.finish("app")
    assert not reporter._bars and "100%" not in stream.getvalue()


def test_the_run_has_a_bar_of_its_databases() -> None:
    reporter = TerminalReporter(Terminal())
    reporter.begin(3)
    reporter.stage("one", "dump", "dumping", total=10)
    reporter.finish("one")
    reporter.finish("two")  # it failed before its first stage
    run = dict(reporter._run.format_dict)
    assert (run["n"], run["total"], run["prefix"]) == (2, 3, "databases")
    reporter.close()
    alone = TerminalReporter(Terminal())
    alone.begin(1)
    assert alone._run is None


def test_several_databases_have_a_bar_each() -> None:
    reporter = TerminalReporter(Terminal())
    reporter.stage("one", "dump", "dumping", total=10)
    reporter.stage("two", "dump", "dumping", total=20)
    reporter.advance("two", 5)
    assert (shown(reporter, "one")["n"], shown(reporter, "two")["n"]) == (0, 5)
    reporter.close()


def test_without_the_library_there_are_no_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    assert TerminalReporter.is_available()
    monkeypatch.setattr(progress, "tqdm", None)
    assert not TerminalReporter.is_available()
