# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql import extensions

from tests.extensions import run

DECLARED = run.declared()
#: Extensions of other distributions, and of apt.postgresql.org.
ELSEWHERE = {"h3", "vector"}


def test_each_extension_of_the_default_list_is_tried():
    assert extensions.DEFAULT_ALLOWED - {extension.name for extension in DECLARED} == ELSEWHERE


def test_a_reason_is_given_for_each_extension_that_is_not_restored_by_default():
    verdicts = run.committed()
    assert set(verdicts) == {extension.name for extension in DECLARED}
    for extension in DECLARED:
        if extension.why:
            assert extension.name not in extensions.DEFAULT_ALLOWED, extension.name
        if verdicts[extension.name] != run.UNTRIED:
            assert bool(extension.why) == (verdicts[extension.name] != run.EQUAL), extension.name


def test_what_is_on_the_default_list_was_restored_equal():
    verdicts = run.committed()
    for name in extensions.DEFAULT_ALLOWED - ELSEWHERE:
        assert verdicts[name] in (run.EQUAL, run.UNTRIED), name
