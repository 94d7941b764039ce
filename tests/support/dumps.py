# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Dumps of test databases, made with the cluster's own pg_dump."""

from __future__ import annotations

import re
import subprocess
import typing as t

from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.connection import (
    client_arguments,
)

if t.TYPE_CHECKING:
    from tests.support.cluster import Cluster

_RANDOM = re.compile(rb"^\\(un)?restrict \w{40,}$", re.MULTILINE)


def dump(cluster: Cluster, database: str, *options: str) -> bytes:
    """What ``pg_dump`` with *options* writes of *database*; the token of ``\\restrict`` is always the same."""
    done = subprocess.run(
        [str(cluster.bindir / "pg_dump"), *options, *client_arguments(cluster.settings, database)],
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC"},
        stdout=subprocess.PIPE,
        check=True,
    )
    return _RANDOM.sub(rb"\\\1restrict same", done.stdout) if not done.stdout.startswith(b"PGDMP") else done.stdout
