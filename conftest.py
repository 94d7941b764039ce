# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the checkout importable as ansible_collections.infrazero.database, wherever it lies."""

from __future__ import annotations

import pathlib
import signal
import sys

ROOT = pathlib.Path(__file__).resolve().parent
COLLECTIONS = ROOT / ".ansible" / "collections"
LINK = COLLECTIONS / "ansible_collections" / "infrazero" / "database"

if LINK.resolve() != ROOT:
    LINK.parent.mkdir(parents=True, exist_ok=True)
    LINK.unlink(missing_ok=True)
    LINK.symlink_to("../../../..")
sys.path.insert(0, str(COLLECTIONS))
sys.path.insert(0, str(ROOT))

# Where a run is to outlive its terminal, everything that it starts would ignore the signal, too.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # So would what a shell starts in the background ignore this one, which a test sends to itself.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure() -> None:
    """How long an example of hypothesis takes says how busy the machine is, and fails nothing."""
    # Not with the others: scripts import this file, too, and measure their memory.
    from hypothesis import HealthCheck, settings

    settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("untimed")
