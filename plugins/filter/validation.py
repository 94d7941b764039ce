# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

from ansible_collections.infrazero.database.plugins.plugin_utils import validation


def shared_places(places: t.Mapping[str, t.Collection[str]]) -> list[str]:
    """A warning for each place in which several hosts store backups."""
    return validation.shared(places)


class FilterModule:
    """Filters about the validation of an inventory."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """By name."""
        return {"shared_places": shared_places}
