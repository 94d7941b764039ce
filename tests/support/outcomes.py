# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of what a run over several databases has returned."""

from __future__ import annotations

import typing as t

from ansible_collections.infrazero.database.plugins.module_utils._engine.outcome import Outcome, Summary


def only(summary: Summary) -> Outcome:
    """Return the only outcome."""
    (outcome,) = summary.outcomes
    return outcome


def good(summary: Summary) -> Outcome:
    """Return the only outcome, which must be a success."""
    assert not summary.failed, [str(outcome.error) for outcome in summary.failed]
    return only(summary)


def details_of(summary: Summary) -> dict[str, t.Any]:
    """Return the details of the only outcome, which must be a success."""
    return dict(good(summary).details)


def error(summary: Summary) -> str:
    """Return the text of the only error."""
    (failed,) = summary.failed
    return str(failed.error)
