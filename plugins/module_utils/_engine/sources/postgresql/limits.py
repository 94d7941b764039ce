# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""What a restore may take of time and disk, whatever it is waiting for: a dump's statement, the store, the server.

A thread that waits in psycopg2 or in a read can't be interrupted.  But it wakes up when the connection under it is shut
down, or its source is closed; then the restore fails, and is undone as after any other failure.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import typing as t

from ...errors import EngineError, LoadError
from ...streams.flow import Readable
from . import staging
from .connection import ConnectionSettings, connect

if t.TYPE_CHECKING:
    import typing_extensions as te
    from psycopg2.extensions import connection as Connection

#: How often the size of a staging database is looked at, in seconds.
SIZE_EVERY = 2.0

#: How long tidying up may take after a limit was reached, in seconds.  With a server that stands still it never ends;
#: what is left is on record.
GRACE = 60.0


class Closable(t.Protocol):
    """What a reading ends with when it is closed."""

    def close(self) -> None:
        """Give up what is held; a second call does nothing."""


class Limits:
    """The limits of one restore; a context around all of it, tidying up included.

    :param database: its name, for the error.
    :param seconds: what the restore may take.
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
        #: Bytes of the dump's text that were read so far.
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
            self.end(
                LoadError(
                    f"the restore of {self._database!r} took longer than it may",
                    cause=f"it was not done after {self._seconds:g} seconds",
                    hint="find out what it was waiting for; if that is expected, allow more: option restore_timeout,"
                    " --timeout, or DB_RESTORE_TIMEOUT",
                )
            )
        if self._error is not None and not self._left.wait(GRACE):
            with self._changing:
                _shut_down(self._last)

    def end(self, error: EngineError) -> None:
        """Have the restore fail with *error*, unless it has failed for a limit before, or is through."""
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
        """From here on nothing is ended any more; raises where something was."""
        with self._changing:
            self._disarmed = True
        self._check()

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    @contextlib.contextmanager
    def enforced(self) -> t.Iterator[None]:
        """Whatever fails inside after a limit was reached fails because of that."""
        try:
            yield
        except Exception:
            if self._error is not None:
                raise self._error from None
            raise

    @contextlib.contextmanager
    def holding(self, conn: Connection, *, to_tidy_up: bool = False) -> t.Iterator[None]:
        """Shut the session *conn* down when a limit is reached.

        :param to_tidy_up: only when tidying up, for which it is needed, takes too long as well.
        """
        # A descriptor of our own: the session's may belong to something else by then.
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
        """A stack for what the dump is read from.  After a limit was reached nobody waits until it is closed."""
        stack = contextlib.ExitStack()
        try:
            yield stack
        finally:
            with self._changing:
                self._sources.clear()
            if self._error is None:
                stack.close()
            else:
                _close_apart(stack.close)

    def closing(self, source: Closable) -> None:
        """Close *source*, of the stack of :meth:`sources`, when a limit is reached."""
        with self._changing:
            self._check()
            self._sources.append(source)

    def text(self, source: Readable) -> Readable:
        """The text of the dump, counted; a read fails after a limit was reached."""
        return _Text(source, self)

    @contextlib.contextmanager
    def bounded(
        self, settings: ConnectionSettings, stage: str, most: t.Callable[[int], int | None]
    ) -> t.Iterator[None]:
        """End the restore when the staging database *stage* is larger than it may be.

        :param most: bytes, for the bytes of text that were read so far; ``None``: any.
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
                            f"the restore of {self._database!r} fills more of the disk than it may",
                            cause=f"its staging database takes {size} bytes, max_size is {limit}",
                            hint="if the dump is trusted allow more, or 0 for any size: option max_size, --max-size, or"
                            " DB_RESTORE_MAX_SIZE",
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
    def __init__(self, source: Readable, limits: Limits) -> None:
        self._source = source
        self._limits = limits

    def read(self, n: int, /) -> bytes:
        self._limits._check()
        chunk = self._source.read(n)
        self._limits.text_bytes += len(chunk)
        return chunk

    def close(self) -> None:
        self._source.close()


def _shut_down(ends: t.Iterable[socket.socket]) -> None:
    for end in ends:
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def _close_apart(close: t.Callable[[], None]) -> None:
    """Close something whose read may never return."""

    def work() -> None:
        # The restore has failed already, and says why.
        with contextlib.suppress(Exception):
            close()

    threading.Thread(target=work, name="close", daemon=True).start()
