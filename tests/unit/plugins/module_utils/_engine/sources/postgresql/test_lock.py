# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import re

from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.lock import lock_table
from hypothesis import given
from hypothesis import strategies as st


def test_the_table_stays_the_same_in_every_release():
    # Hosts with different releases of this collection must meet in the same lock.
    assert lock_table("app") == "lock_a1fd4bb0bd020b579bd3df9b29bb6465"
    assert lock_table("App") != lock_table("app")


@given(st.text(min_size=1))
def test_the_name_of_the_table_needs_no_quotes_and_is_never_cut(name):
    assert re.fullmatch(r"lock_[0-9a-f]{32}", lock_table(name))
