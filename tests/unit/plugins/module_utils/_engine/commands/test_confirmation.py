# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import argparse
import io
import os
import typing as t

import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine.commands import confirmation
from ansible_collections.infrazero.database.plugins.module_utils._engine.errors import NotConfirmed


def options(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    confirmation.add_flag(parser)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args(arguments)


@pytest.fixture
def terminal() -> t.Iterator[t.TextIO]:
    """The program's side of a real terminal."""
    other, side = os.openpty()
    with os.fdopen(side, "r+b", buffering=0) as raw, io.TextIOWrapper(raw) as text:
        yield text
    os.close(other)


@pytest.mark.parametrize(
    ("arguments", "stdin", "stderr", "interactive", "wanted"),
    [
        ([], True, True, True, True),
        (["--yes"], True, True, True, False),
        (["--json"], True, True, True, False),
        ([], True, True, False, False),
        ([], False, True, True, False),
        ([], True, False, True, False),
    ],
)
def test_only_a_person_on_a_terminal_is_asked(
    arguments: list[str],
    stdin: bool,
    stderr: bool,
    interactive: bool,
    wanted: bool,
    terminal: t.TextIO,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.stdin", terminal if stdin else io.StringIO("yes\n"))
    monkeypatch.setattr("sys.stderr", terminal if stderr else io.StringIO())
    # Where the results go makes no difference.
    monkeypatch.setattr("sys.stdout", io.StringIO())
    assert confirmation.is_wanted(options(*arguments), interactive=interactive) is wanted


@pytest.mark.parametrize("answer", ["yes\n", " YES \n", "yes"])
def test_yes_confirms(answer: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(answer))
    confirmation.require("the plan", "Replace shop?")
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.startswith("the plan\n\nReplace shop? Type yes to continue: ")


@pytest.mark.parametrize("answer", ["", "\n", "y\n", "no\n", "yes please\n"])
def test_anything_else_does_not(answer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(answer))
    with pytest.raises(NotConfirmed, match="nothing was changed"):
        confirmation.require("the plan", "Replace shop?")


def test_neither_does_what_is_not_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\xff\xfe\n"), encoding="utf-8"))
    with pytest.raises(NotConfirmed):
        confirmation.require("the plan", "Replace shop?")
