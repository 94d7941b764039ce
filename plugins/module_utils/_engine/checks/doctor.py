# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The engine of checks: runs all of them, whatever becomes of each."""

from __future__ import annotations

import datetime
import pathlib
import typing as t

from .. import outcome
from ..domain.checks import UNKNOWN, Check
from ..errors import EngineError
from . import backups, configuration, destinations, keys, schedule, server, space
from .host import Host, Places

#: All checks by area, in the order in which they are shown.
AREAS: t.Mapping[str, t.Callable[[Host], t.Iterator[Check]]] = {
    "configuration": configuration.check,
    "server": server.check,
    "destinations": destinations.check,
    "clocks": destinations.clocks,
    "keys": keys.check,
    "signers": keys.signers,
    "schedule": schedule.check,
    "space": space.check,
    "backups": backups.check,
    "restores": server.restores,
}


def examine(directory: pathlib.Path, *, places: Places | None = None) -> list[Check]:
    """Check the host whose configuration is in *directory*.

    Reads only, but for the object that a trial of a destination leaves.  A check that fails for a reason of its own is
    :data:`.checks.UNKNOWN`, and the others go on.

    :param places: where the host keeps what is not in *directory*; ``None``: where Debian does.
    """
    host = Host(directory, places=places or Places(), now=datetime.datetime.now(datetime.timezone.utc))
    found: list[Check] = []
    for area, check in AREAS.items():
        try:
            found.extend(check(host))
        except EngineError as exc:
            found.append(Check(area, "-", UNKNOWN, f"not checked: {exc.message}", exc.hint))
        except Exception as exc:  # noqa: BLE001 - an error of ours must not hide what the other checks have found
            error = outcome.unexpected(exc)
            found.append(Check(area, "-", UNKNOWN, f"not checked: {error.message}", error.hint))
    return found
