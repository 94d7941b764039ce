# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql import execution


@pytest.mark.parametrize(
    ("version", "starts"),
    [(130018, False), (130019, True), (150010, False), (150018, True), (170002, False), (170003, True), (180000, True)],
)
def test_which_server_starts_workers_for_a_role_that_may_not_log_in(version, starts):
    assert execution.starts_workers(version) is starts
