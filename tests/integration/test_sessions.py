# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The terminal sessions of docs/restoring.md are what the commands show today."""

from __future__ import annotations

from tests.support import sessions
from tests.support.cluster import Cluster


def test_the_page_shows_what_the_commands_show(cluster: Cluster) -> None:
    shown = sessions.blocks(sessions.PAGE.read_text(encoding="utf-8"))
    assert list(shown) and set(shown) == set(sessions.SESSIONS)
    with sessions.stage(cluster) as stage:
        for name in sessions.SESSIONS:
            assert sessions.shape(stage.session(name)) == sessions.shape(shown[name]), "run scripts/sessions.py"
        # The mistake is undone by the session about one table already.
        assert cluster.psql("SELECT count(*) FROM orders", "shop") == "5000"


def test_a_session_is_replaced_alone() -> None:
    page = sessions.PAGE.read_text(encoding="utf-8")
    other = sessions.with_session(page, "look", "$ other\n")
    assert sessions.blocks(other) == {**sessions.blocks(page), "look": "$ other\n"}
