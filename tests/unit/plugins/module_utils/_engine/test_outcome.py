# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Work on many databases."""

from __future__ import annotations

import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine.errors import NotFound
from ansible_collections.infrazero.database.plugins.module_utils._engine.outcome import (
    FAILED,
    RESTORED_WITH_ERRORS,
    Outcome,
    Summary,
    run_each,
)

from tests.support.foreign import FOREIGN, UNENCODABLE, obeyed


def work(name: str) -> Outcome:
    if name == "bad":
        raise NotFound("it is not there", hint="look elsewhere")
    if name == "worse":
        raise ValueError("password=hunter2")
    return Outcome(name, "restored", {"rows": 3})


@pytest.mark.parametrize("jobs", [1, 3])
def test_one_that_fails_does_not_stop_the_others(jobs: int) -> None:
    summary = run_each(["one", "bad", "worse", "two"], work, jobs=jobs)
    assert [(o.database, o.status) for o in summary.outcomes] == [
        ("one", "restored"),
        ("bad", FAILED),
        ("worse", FAILED),
        ("two", "restored"),
    ]
    assert summary.line("restored", "skipped") == "restored=2 skipped=0 failed=2 (bad, worse)"
    assert summary.outcomes[0].as_dict() == {"database": "one", "status": "restored", "rows": 3}
    assert summary.outcomes[1].as_dict()["error"]["hint"] == "look elsewhere"


def test_databases_restored_with_errors_are_counted_if_there_are_any() -> None:
    summary = Summary((Outcome("a", RESTORED_WITH_ERRORS), Outcome("b", "restored")))
    statuses = ("restored", RESTORED_WITH_ERRORS)
    assert summary.line(*statuses) == "restored=1 restored_with_errors=1 failed=0"
    assert not summary.failed and summary.incomplete == summary.outcomes[:1]
    assert Summary((Outcome("b", "restored"),)).line(*statuses) == "restored=1 failed=0"


def test_the_text_of_a_foreign_exception_is_not_told() -> None:
    error = run_each(["worse"], work).outcomes[0].error
    assert error is not None
    assert "ValueError" in str(error) and "work" in str(error)
    assert "hunter2" not in str(error) and "hunter2" not in repr(error.as_dict())


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_interruption_is_no_failure_of_a_database(jobs: int) -> None:
    def interrupted(name: str) -> Outcome:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_each(["one", "two"], interrupted, jobs=jobs)


@pytest.mark.parametrize("jobs", [1, 2])
def test_warnings_of_the_run_stand_in_its_summary(jobs: int) -> None:
    summary = run_each(["one"], work, jobs=jobs, warnings=["look out"])
    assert summary.warnings == ("look out",)
    assert not summary.failed


@pytest.mark.parametrize("foreign", [*FOREIGN.values(), *UNENCODABLE.values()], ids=[*FOREIGN, *UNENCODABLE])
def test_sentences_are_printable_and_data_stay_exact(foreign: str) -> None:
    details = {"key": foreign, "warnings": [foreign], "skipped": [foreign], "reason": foreign}
    told = Outcome("one", "restored", details).as_dict()
    assert told["key"] == foreign
    for text in (*told["warnings"], *told["skipped"], told["reason"]):
        assert not obeyed(text) and "\n" not in text


def test_the_warnings_and_names_of_a_run_are_printable() -> None:
    assert run_each(["one"], work, warnings=["of \x1b\n"]).warnings == ("of \\x1b\\x0a",)
    failing = run_each(["a\x1b"], lambda name: Outcome(name, FAILED, error=NotFound("no")))
    assert failing.line("restored") == "restored=0 failed=1 (a\\x1b)"
