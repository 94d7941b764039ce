# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Protects the host from a hostile dump: bounds the memory that its answers take, and the time of each statement."""

from __future__ import annotations

import contextlib
import pathlib
import resource
import threading
import time
import typing as t

try:
    import psycopg2
except ImportError:
    psycopg2 = None  # type: ignore[assignment]

if t.TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection

LEAST_MEMORY = 256 << 20
"""Bytes of memory that a load may always take, see :func:`bounded_memory`."""


class _Memory:
    """The memory limit of this process, which all of its loads share."""

    lock = threading.Lock()
    loads = 0
    before = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)


@contextlib.contextmanager
def bounded_memory() -> t.Iterator[None]:
    """Let this process take at most half of the host's available memory.

    libpq and psycopg2 keep a statement's whole result in memory (rows, notices, notifications) before anyone can see
    it, and cannot be told to keep less.  Without a limit a dump could make the kernel kill the host's other processes.
    Both libraries survive a failed allocation.

    The kernel has a single limit for the process.  Each further load at the same time may take half of what is
    available when it begins; the limit ends with the last load.
    """
    with _Memory.lock:
        if not _Memory.loads:
            _Memory.before = resource.getrlimit(resource.RLIMIT_AS)
        _Memory.loads += 1
        now, hard = resource.getrlimit(resource.RLIMIT_AS)
        taken = int(pathlib.Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
        limit = taken + max(_available_memory() // 2, LEAST_MEMORY)
        most = _Memory.before[0]
        if most != resource.RLIM_INFINITY:
            limit = min(limit, most)
        if _Memory.loads == 1 or limit > now:
            resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    try:
        yield
    finally:
        with _Memory.lock:
            _Memory.loads -= 1
            if not _Memory.loads:
                resource.setrlimit(resource.RLIMIT_AS, _Memory.before)


def _available_memory() -> int:
    for line in pathlib.Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        name, _colon, value = line.partition(":")
        if name == "MemAvailable":
            return int(value.split()[0]) * 1024
    return 0


_CANCEL_SECONDS = 5


class Watch:
    """Cancels a statement that exceeds the time limit.  A dump can turn off the server's own limits.

    It is a context around each statement.  Within one, :meth:`restart` reports progress.
    """

    def __init__(self, connection: Connection, seconds: float | None) -> None:
        self._connection = connection
        self._seconds = seconds
        self._since: float | None = None
        self._closed = threading.Event()
        self.struck = False
        self._thread = threading.Thread(target=self._work, name="watch", daemon=True)
        if seconds is not None:
            self._thread.start()

    def __enter__(self) -> None:
        self.restart()

    def __exit__(self, *_exception: object) -> None:
        self._since = None

    def restart(self) -> None:
        """Restart the time limit."""
        self._since = time.monotonic()

    def close(self) -> None:
        """End the thread."""
        self._closed.set()
        if self._thread.ident is not None:
            # Not forever: it may be asking a server that hangs to cancel a statement.
            self._thread.join(_CANCEL_SECONDS)

    def _work(self) -> None:
        seconds = t.cast(float, self._seconds)
        while not self._closed.wait(min(1.0, seconds)):
            since = self._since
            if since is not None and time.monotonic() - since > seconds:
                self.struck = True
                with contextlib.suppress(psycopg2.Error):
                    self._connection.cancel()
