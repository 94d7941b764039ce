# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a test needs of the server, and skips without."""

from __future__ import annotations

import re
import typing as t

import pytest

if t.TYPE_CHECKING:
    from .cluster import Cluster


def require_contrib(cluster: Cluster, statements: str = "CREATE EXTENSION") -> None:
    """Skip a test whose *statements* need PostgreSQL's own extensions, if the server was built without them."""
    if re.search(r"CREATE EXTENSION|\$libdir/|auto_explain", statements) and not cluster.has_extension("hstore"):
        pytest.skip("this server comes without the extensions of contrib")
