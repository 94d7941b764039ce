# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.infrazero.database.plugins.module_utils._engine.postgres.lock import lock_key
from hypothesis import given
from hypothesis import strategies as st


def test_key_stays_the_same_in_every_release():
    # Hosts with different releases of this collection must meet in the same lock.
    assert lock_key("app") == -6774175042038002857
    assert lock_key("App") != lock_key("app")


@given(st.text(min_size=1))
def test_key_fits_into_a_bigint(name):
    assert -(2**63) <= lock_key(name) < 2**63
