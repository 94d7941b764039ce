# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a store contains."""

from __future__ import annotations

from ansible_collections.infrazero.database.plugins.module_utils._engine.stores.base import Store


def keys(store: Store, prefix: str = "") -> list[str]:
    """Return the keys below *prefix*, sorted, without those that the engine keeps for its own checks."""
    return sorted(info.key for info in store.list(prefix) if not info.key.startswith(".infrazero"))
