# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""How work reports its progress.  Anything with these two methods will do; nothing here writes anywhere."""

from __future__ import annotations

import typing as t


class Reporter(t.Protocol):
    """Receives stages and bytes from the use cases."""

    def stage(self, database: str, stage: str, message: str, *, total: int | None = None) -> None:
        """A stage of the work on *database* begins.

        :param stage: short name, the same words as the phases of :class:`.errors.EngineError`.
        :param message: one line for a log, no secret.
        :param total: bytes expected in this stage as :meth:`advance` will count them, where known.
        """

    def advance(self, database: str, count: int) -> None:
        """*count* more bytes of the current stage are done."""


class Silent:
    """A reporter that nobody listens to."""

    def stage(self, database: str, stage: str, message: str, *, total: int | None = None) -> None:
        """Ignore a stage."""

    def advance(self, database: str, count: int) -> None:
        """Ignore bytes."""
