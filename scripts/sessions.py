# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run the terminal sessions of docs/restoring.md, and write what they show into the page.

.venv/bin/python scripts/sessions.py
"""

from __future__ import annotations

import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import conftest  # noqa: E402, F401  (puts the collection on sys.path)  # pylint: disable=unused-import
from tests.support import sessions  # noqa: E402
from tests.support.cluster import Cluster  # noqa: E402


def main() -> None:
    """Rewrite the page."""
    page = sessions.PAGE.read_text(encoding="utf-8")
    with Cluster() as cluster, sessions.stage(cluster) as stage:
        for name in sessions.SESSIONS:
            page = sessions.with_session(page, name, stage.session(name))
    sessions.PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
