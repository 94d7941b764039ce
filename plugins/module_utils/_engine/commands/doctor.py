# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The command ``doctor``: checks this host, and says what to do."""

from __future__ import annotations

import sys
import typing as t

from ..checks import doctor
from ..domain import checks
from . import common

if t.TYPE_CHECKING:
    from ..reporting import Reporter

UNFIT = 1

_DESCRIPTION = """\
Check everything that backups and restores of this host depend on, and print one line for each result, the remedy
below it: the configuration, the server, the destination, clocks, keys, signers, the schedule, free space, the latest
backup of each database, and outstanding restores. Nothing is changed, except that a small object,
.infrazero/probe.age, is written below each prefix to see whether backups can be stored.

The exit status is 1 if something is critical. Warnings, and what could not be checked (unknown), leave it at 0."""


def register(command: common.Command) -> None:
    """Add the command."""
    command("doctor", run, "check this host", _DESCRIPTION)


def run(options: common.Options, _reporter: Reporter) -> int:
    """Check the host; the exit status is returned."""
    found = doctor.examine(options.config)
    worst = checks.worst(found)
    if options.json:
        common.write_json({"severity": worst, "checks": [one.as_dict() for one in found]})
    else:
        common.write_checks(found)
        sys.stdout.write(f"{checks.counted(found)}\n")
    return UNFIT if worst == checks.CRITICAL else common.OK
