# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Limits the time and the disk space of a restore, whatever it waits for: a statement, the store, or the server.

A thread that waits in psycopg2 or in a read cannot be interrupted.  But it wakes up when its connection is shut down or
its source is closed.  The restore then fails, and is undone like after any other failure.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import typing as t

from ...errors import EngineError, LoadError
from ...settings import name_for_errors
from ...streams.flow import Readable
from ..base import out_of_time
from . import staging
from .connection import ConnectionSettings, connect

if t.TYPE_CHECKING:
    import typing_extensions as te
    from psycopg2.extensions import connection as Connection

#: Seconds between two checks of a staging database's size.
SIZE_EVERY = 2.0

#: Seconds that cleaning up may take after a limit was reached.  If the server hangs it would never end.  Leftovers are
#: on record.
GRACE = 60.0


class Closable(t.Protocol):
    """A source; closing it ends a pending read."""

    def close(self) -> None:
        """Release all resources.  A second call does nothing."""


class Limits:
    """The limits of one restore, as a context around all of it, including cleaning up.

    :param database: name of the database, for errors.
    :param seconds: time that the restore may take.
    """

    def __init__(self, database: str, *, seconds: float) -> None:
        self._database = database
        self._seconds = seconds
        self._changing = threading.Lock()
        self._error: EngineError | None = None
        self._disarmed = False
        self._over = threading.Event()
        self._left = threading.Event()
        self._held: list[socket.socket] = []
        self._last: list[socket.socket] = []
        self._sources: list[Closable] = []
        self._thread = threading.Thread(target=self._work, name="limits", daemon=True)
        #: Bytes of the dump's text that have been read.
        self.text_bytes = 0

    def __enter__(self) -> te.Self:
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._left.set()
        self._over.set()
        self._thread.join()

    def _work(self) -> None:
        if not self._over.wait(self._seconds):
            self.end(out_of_time(self._database, self._seconds))
        if self._error is not None and not self._left.wait(GRACE):
            with self._changing:
                _shut_down(self._last)

    def end(self, error: EngineError) -> None:
        """Make the restore fail with *error*, unless it has already exceeded a limit or is complete."""
        with self._changing:
            if self._disarmed or self._error is not None:
                return
            self._error = error
            _shut_down(self._held)
            sources = list(self._sources)
        self._over.set()
        for source in sources:
            _close_apart(source.close)

    def disarm(self) -> None:
        """Stop enforcing the limits.  Raise the error if one was exceeded before."""
        with self._changing:
            self._disarmed = True
        self._check()

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    @contextlib.contextmanager
    def enforced(self) -> t.Iterator[None]:
        """Replace whatever is raised inside by the error about a limit, if one was exceeded."""
        try:
            yield
        except Exception:
            if self._error is not None:
                raise self._error from None
            raise

    @contextlib.contextmanager
    def holding(self, conn: Connection, *, to_tidy_up: bool = False) -> t.Iterator[None]:
        """Shut down the session *conn* when a limit is exceeded.

        :param to_tidy_up: the session is needed to clean up.  Shut it down only if cleaning up also takes too long.
        """
        # A descriptor of our own: by then the session's may refer to something else.
        with socket.socket(fileno=os.dup(conn.fileno())) as end:
            group = self._last if to_tidy_up else self._held
            with self._changing:
                self._check()
                group.append(end)
            try:
                yield
            finally:
                with self._changing:
                    group.remove(end)

    @contextlib.contextmanager
    def sources(self) -> t.Iterator[contextlib.ExitStack]:
        """Give a stack for the dump's sources.  After a limit was exceeded, do not wait until they are closed.

        A second reading may begin within the first, and ends before it.
        """
        stack = contextlib.ExitStack()
        with self._changing:
            before = len(self._sources)
        try:
            yield stack
        finally:
            with self._changing:
                del self._sources[before:]
            if self._error is None:
                stack.close()
            else:
                _close_apart(stack.close)

    def closing(self, source: Closable) -> None:
        """Close *source*, which is on the stack of :meth:`sources`, when a limit is exceeded."""
        with self._changing:
            self._check()
            self._sources.append(source)

    def text(self, source: Readable, *, counted: bool = True) -> Readable:
        """Return the dump's text.  A read fails after a limit was exceeded.

        :param counted: whether the bytes that are read add to :attr:`text_bytes`.
        """
        return _Text(source, self, counted=counted)

    @contextlib.contextmanager
    def bounded(
        self, settings: ConnectionSettings, stage: str, most: t.Callable[[int], int | None]
    ) -> t.Iterator[None]:
        """End the restore when the staging database *stage* exceeds its size limit.

        :param most: the limit in bytes, given the bytes of text that have been read; ``None``: no limit.
        """
        ended = threading.Event()

        def work(admin: Connection) -> None:
            while not ended.wait(SIZE_EVERY):
                try:
                    size = staging.size_of(admin, stage)
                except EngineError as exc:
                    self.end(exc)
                    return
                limit = most(self.text_bytes)
                if limit is not None and size > limit:
                    self.end(
                        LoadError(
                            f"the restore of {self._database!r} exceeded its size limit",
                            cause=f"its staging database takes {size} bytes, max_size is {limit}",
                            hint="if you trust the dump, raise"
                            f" {name_for_errors('restore', 'max_size')}; 0 means any size",
                        )
                    )
                    return

        with contextlib.closing(connect(settings)) as admin, self.holding(admin):
            thread = threading.Thread(target=work, args=(admin,), name="size", daemon=True)
            thread.start()
            try:
                yield
            finally:
                ended.set()
                thread.join()


class _Text:
    def __init__(self, source: Readable, limits: Limits, *, counted: bool) -> None:
        self._source = source
        self._limits = limits
        self._counted = counted

    def read(self, n: int, /) -> bytes:
        self._limits._check()
        chunk = self._source.read(n)
        if self._counted:
            self._limits.text_bytes += len(chunk)
        return chunk

    def close(self) -> None:
        self._source.close()


def _shut_down(ends: t.Iterable[socket.socket]) -> None:
    for end in ends:
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def _close_apart(close: t.Callable[[], None]) -> None:
    """Close, in a thread, something whose read may never return."""

    def work() -> None:
        # The restore has already failed and reports why.
        with contextlib.suppress(Exception):
            close()

    threading.Thread(target=work, name="close", daemon=True).start()
