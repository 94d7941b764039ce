# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.infrazero.database.plugins.module_utils._engine.errors import LoadError
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql import failures


def test_a_result_describes_so_many_failures_and_counts_the_others():
    found = failures.Failures()
    assert found.result() == ()
    for number in range(failures.MAX_DESCRIBED + 3):
        found.add(LoadError(f"statement {number} failed", cause="a cause", hint=""))
    *described, last = found.result()
    assert described[0] == "statement 0 failed; a cause"
    assert len(described) == failures.MAX_DESCRIBED
    assert last == "3 more statements failed"


def test_an_error_that_ends_the_load_says_what_going_on_would_save():
    error = LoadError("x", hint="a hint")
    failures.add_what_continuing_saves(error)
    assert error.hint.startswith("a hint; set on_error (--on-error, DB_RESTORE_ON_ERROR) to continue")
