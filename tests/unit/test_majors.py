# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of majors counts what failed and names what was not tested."""

from __future__ import annotations

import pathlib

from tests.majors import run

REPORT = """<?xml version="1.0" encoding="utf-8"?>
<testsuites name="pytest tests"><testsuite name="pytest" errors="1" failures="1" skipped="2" tests="6" time="12.5">
<testcase classname="tests.integration.test_load" name="test_a[postgresql-17]" time="1"/>
<testcase classname="tests.integration.test_load" name="test_b[postgresql-17]" time="1"/>
<testcase classname="tests.integration.test_load" name="test_c[postgresql-17]" time="1">
<failure message="AssertionError: no&#10;more">text</failure></testcase>
<testcase classname="tests.integration.test_load" name="test_d[postgresql-17]" time="1">
<error message="failed on setup">text</error></testcase>
<testcase classname="tests.integration.test_load" name="test_e[postgresql-17]" time="1">
<skipped type="pytest.skip" message="no ICU">text</skipped></testcase>
<testcase classname="tests.integration.test_load" name="test_f[postgresql-17]" time="1">
<skipped type="pytest.skip" message="no ICU">text</skipped></testcase>
</testsuite></testsuites>
"""


def test_reads_what_passed_failed_and_was_skipped(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "report.xml"
    path.write_text(REPORT, encoding="utf-8")
    assert run.read(path) == {
        "passed": 2,
        "failed": {
            "test_load::test_c[postgresql-17]": "AssertionError: no",
            "test_load::test_d[postgresql-17]": "failed on setup",
        },
        "skipped": {"no ICU": 2},
        "seconds": 12.5,
    }


def test_the_table_has_a_row_for_each_major_and_says_what_was_not_tested() -> None:
    tested = {"major": 17, "version": "17.10", "source": "wheel", "note": "without ICU", "passed": 2}
    lines = run.table(
        [
            {**tested, "failed": {"test_load::test_c": "no"}, "skipped": {"no ICU": 2}},
            {"major": 18, "source": "another", "note": "", "untested": "no network"},
        ]
    )
    assert lines[2:4] == [
        "| 17.10 | wheel, without ICU | 2 | 1 | 2 |",
        "| 18 | another | not tested | | |",
    ]
    assert lines[-1] == "- 2 on 17.10: no ICU"
