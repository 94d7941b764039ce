# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The dump of one restore, as every kind of restore reads it: within its limits, and with its preamble proven."""

from __future__ import annotations

import contextlib
import typing as t

from ...errors import ChecksumMismatch
from ..base import Open, Task
from . import archive, execution, limits, settings_text
from .dumptext import events, preamble, tally
from .dumptext.scanner import Statement

if t.TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection

    from ...streams.pipeline import Decoded, Readable
    from .database_settings import DatabaseSettings


class DumpReading:
    """What a restore reads.

    :param admin: an autocommit session in the maintenance database.
    """

    def __init__(self, task: Task, *, admin: Connection) -> None:
        self._task = task
        self._admin = admin
        self._preamble = preamble.Preamble()
        self.limits = limits.Limits(task.database.name, seconds=task.options.timeout.total_seconds())

    def check(self, source: Open, /) -> t.Mapping[str, int]:
        """Read the dump to its end, execute nothing, and count the rows of each table."""
        with self.limits.sources() as stack:
            rows = {table.name: table.rows for table in tally.check(self._text(source(stack), stack))}
        self.limits.text_bytes = 0  # it is read once more
        return rows

    def _text(self, plain: Decoded, stack: contextlib.ExitStack, *, again: bool = False) -> Readable:
        """The text of the dump, whatever form it has, until *stack* is left.

        :param again: whether this is a second reading, during the first.
        """
        self.limits.closing(plain)
        text = stack.enter_context(archive.as_text(plain, server_version_num=self._admin.info.server_version))
        return self.limits.text(text, counted=not again)

    def _reader_again(self, source: Open) -> execution.Again:
        """Open the dump once more, while it is read."""

        @contextlib.contextmanager
        def again() -> t.Iterator[t.Iterable[Statement]]:
            text = f"reading {self._task.url} again, for rows that depend on others"
            self._task.reporter.stage(self._task.subject, "load", text, total=self._task.size)
            with self.limits.sources() as stack:
                _preamble, dump = preamble.read(self._text(source(stack), stack, again=True))
                yield events.read(dump)

        return again

    def _require_preamble(self) -> None:
        """Raise unless the preamble is the one that the manifest names."""
        said = None if self._task.part is None else self._task.part.preamble_sha256
        if said is not None and said != self._preamble.sha256:
            raise ChecksumMismatch(
                f"the preamble of {self._task.url} is not the one that its manifest names",
                phase="load",
                hint="choose another backup; nothing was replaced",
            )

    @property
    def _settings_of_backup(self) -> DatabaseSettings | None:
        """The settings of the database in the backup; ``None``: it has none."""
        settings = self._preamble.settings
        return None if settings is None else settings_text.of_backup(settings)
