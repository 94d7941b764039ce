# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.infrazero.database.plugins.filter import encoding

from tests.support.foreign import FOREIGN, obeyed


@pytest.mark.parametrize("foreign", FOREIGN.values(), ids=FOREIGN)
def test_printable(foreign: str) -> None:
    shown = encoding.FilterModule().filters()["printable"](f"db/{foreign}")
    assert not obeyed(shown) and "\n" not in shown
    assert encoding.printable("db/shop/1.sql.gz.age") == "db/shop/1.sql.gz.age"
