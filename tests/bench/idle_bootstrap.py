# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What pg_db_bootstrap does when there is nothing to do: reading the list, the cluster, and comparing them."""

from __future__ import annotations

import time
import typing as t

import pyrage
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain import databases as databases_json
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.bootstrap import bootstrap
from ansible_collections.infrazero.database.plugins.module_utils._engine.streams import age

if t.TYPE_CHECKING:
    from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.connection import (
        ConnectionSettings,
    )


def seconds(settings: ConnectionSettings, *, databases: int, rounds: int) -> list[float]:
    """Make *databases* roles and databases, then measure *rounds* of runs that find nothing to do."""
    entries = []
    for number in range(databases):
        identity = pyrage.x25519.Identity.generate()
        entries.append(
            {
                "name": f"idle{number}",
                "user": f"idle{number}",
                "password": f"password {number}",
                "backup_age_public_key": str(identity.to_public()),
                "backup_age_private_key": str(identity),
            }
        )

    def run() -> bool:
        listed = databases_json.parse(entries, rules=age, private=True)
        return bootstrap(listed, settings=settings).changed

    while run():
        pass
    measured = []
    for _round in range(rounds):
        started = time.monotonic()
        if run():
            raise RuntimeError("a run that should have found nothing to do changed something")
        measured.append(time.monotonic() - started)
    return measured
