# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The faults, by where they come from."""

from __future__ import annotations

import typing as t

from tests.faults.cases import answers, clock, damage, disk, inputs, network, server, signals, together

if t.TYPE_CHECKING:
    from tests.faults.trial import Case

_ROOMS = (answers, network, damage, signals, together, server, disk, clock, inputs)


def cases() -> list[Case]:
    """All cases; each has an id of its own."""
    found = [case for room in _ROOMS for case in room.cases()]
    ids = {case.id for case in found}
    if len(ids) != len(found):
        raise ValueError("two cases have the same id")
    return found
