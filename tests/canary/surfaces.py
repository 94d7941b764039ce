# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where secrets are looked for while a run goes on, and after it."""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import os
import pathlib
import shutil
import socket
import subprocess
import threading
import time
import typing as t

from tests.support.cluster import wait_until

if t.TYPE_CHECKING:
    from tests.support.cluster import Cluster

_PROC = pathlib.Path("/proc")
_LOG_SOCKET = pathlib.Path("/dev/log")
_JOURNAL = pathlib.Path("/run/systemd/journal/socket")
_SWEEPS_PER_SECOND = 200
#: In folders that everybody shares, what is longer comes from others.
_LONGEST_SHARED_FILE = 1024 * 1024

#: What a cluster of ours has to tell of: every statement, in the log and in the statistics.
TALKATIVE = {
    "shared_preload_libraries": "pg_stat_statements",
    "pg_stat_statements.track": "all",
    "pg_stat_statements.track_utility": "on",
    "log_statement": "all",
    "log_min_duration_statement": "0",
    "log_min_error_statement": "debug5",
    "log_connections": "on",
    "log_disconnections": "on",
    "log_replication_commands": "on",
    "log_parameter_max_length_on_error": "-1",
    "debug_print_parse": "on",
}


@dataclasses.dataclass(frozen=True)
class Process:
    """What /proc said of a process at some moment."""

    number: int
    arguments: tuple[bytes, ...]
    environment: tuple[bytes, ...]

    def __str__(self) -> str:
        return b" ".join(self.arguments)[:120].decode("utf-8", "replace")


class ProcessSampler:
    """Reads arguments and environments of all processes, again and again, while it is entered.

    :param passed_over: process ids whose environment is the test's own business.
    """

    def __init__(self, *passed_over: int) -> None:
        self.seen: set[Process] = set()
        self.sweeps = 0
        self._passed_over = frozenset((*passed_over, os.getpid()))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="process sampler")

    def __enter__(self) -> ProcessSampler:
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        # What runs before us is read once, what comes later in every sweep: it may become another program.
        first = self._sweep(frozenset())
        while not self._stop.wait(1 / _SWEEPS_PER_SECOND):
            self._sweep(first)
        self._sweep(frozenset())

    def _sweep(self, known: frozenset[int]) -> frozenset[int]:
        numbers = frozenset(int(name) for name in os.listdir(_PROC) if name.isdigit())  # noqa: PTH208 - much faster
        for number in numbers - known - self._passed_over:
            with contextlib.suppress(OSError):
                before = _read(number, "cmdline")
                environment = _read(number, "environ")
                # Between the two reads it may have become another program, which isn't to be blamed for this one.
                if before and before == _read(number, "cmdline"):
                    self.seen.add(Process(number, _parts(before), _parts(environment)))
        self.sweeps += 1
        return numbers

    def texts(self) -> t.Iterator[tuple[str, bytes]]:
        """Every argument, and every variable of an environment, with its place."""
        for process in self.seen:
            yield f"arguments of {process}", b"\0".join(process.arguments)
            for variable in process.environment:
                name = variable.partition(b"=")[0].decode("utf-8", "replace")
                yield f"environment {name} of {process}", variable


def _read(number: int, name: str) -> bytes:
    return (_PROC / str(number) / name).read_bytes()


def _parts(data: bytes) -> tuple[bytes, ...]:
    return tuple(data.rstrip(b"\0").split(b"\0"))


class SystemLog:
    """What is sent to the system's log while it is entered.

    Where nobody listens on /dev/log, as in a container, this does (one at a time: another waits); else the journal is
    asked.
    """

    def __init__(self) -> None:
        self.text = b""
        self._socket: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._since = 0.0

    def __enter__(self) -> SystemLog:
        self._since = time.time()
        if os.geteuid() == 0 and not _JOURNAL.exists():
            wait_until(self._listen, seconds=600)
        return self

    def _listen(self) -> bool:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            listener.connect(str(_LOG_SOCKET))
        except ConnectionRefusedError:
            _LOG_SOCKET.unlink(missing_ok=True)  # of somebody who is no more
        except FileNotFoundError:
            pass
        else:
            listener.close()
            return False
        listener.close()
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            listener.bind(str(_LOG_SOCKET))
        except OSError:  # somebody was faster
            listener.close()
            return False
        _LOG_SOCKET.chmod(0o666)
        listener.settimeout(0.1)
        self._socket = listener
        self._thread = threading.Thread(target=self._receive, args=(listener,), name="system log")
        self._thread.start()
        return True

    def _receive(self, listener: socket.socket) -> None:
        while True:
            try:
                self.text += listener.recv(1 << 20) + b"\n"
            except TimeoutError:
                if self._stopping.is_set():
                    return

    def __exit__(self, *_exception: object) -> None:
        if self._socket is not None and self._thread is not None:
            self._stopping.set()
            self._thread.join()
            self._socket.close()
            _LOG_SOCKET.unlink()
        elif self.heard:
            command = ["journalctl", "--no-pager", "--output=export", f"--since=@{self._since:.0f}"]
            self.text = subprocess.run(command, capture_output=True, check=False).stdout

    @property
    def heard(self) -> bool:
        """Whether there is a log that can be read."""
        return self._socket is not None or (_JOURNAL.exists() and shutil.which("journalctl") is not None)


def files(root: pathlib.Path, *, up_to: int | None = None) -> t.Iterator[tuple[pathlib.Path, bytes]]:
    """Every file below *root* with its contents; its name is one of them, and so is what gzip has packed.

    :param up_to: bytes that a file may have.
    """
    for directory, _folders, names in os.walk(root):
        for name in names:
            path = pathlib.Path(directory) / name
            with contextlib.suppress(OSError):
                if not path.is_file() or path.is_symlink() or (up_to is not None and path.stat().st_size > up_to):
                    continue
                data = path.read_bytes()
                yield path, os.fsencode(path)
                yield path, data
                if data.startswith(b"\x1f\x8b"):
                    yield path, gzip.decompress(data)


class NewFiles:
    """Files of the shared folders, such as /tmp, that came while it was entered and are there at the end."""

    FOLDERS = (pathlib.Path("/tmp"), pathlib.Path("/var/tmp"), pathlib.Path("/dev/shm"))

    def __init__(self) -> None:
        self.paths: list[pathlib.Path] = []
        self._before: set[pathlib.Path] = set()

    def __enter__(self) -> NewFiles:
        self._before = set(self._top())
        return self

    def __exit__(self, *_exception: object) -> None:
        self.paths = [path for path in self._top() if path not in self._before]

    def _top(self) -> t.Iterator[pathlib.Path]:
        for folder in self.FOLDERS:
            if folder.is_dir():
                yield from folder.iterdir()

    def contents(self) -> t.Iterator[tuple[pathlib.Path, bytes]]:
        """All that is new, with its contents."""
        for path in self.paths:
            if (path / "data" / "PG_VERSION").exists():
                continue  # another test's cluster
            if path.is_dir() and not path.is_symlink():
                yield from files(path, up_to=_LONGEST_SHARED_FILE)
            elif path.is_file() and not path.is_symlink() and path.stat().st_size <= _LONGEST_SHARED_FILE:
                with contextlib.suppress(OSError):
                    yield path, os.fsencode(path)
                    yield path, path.read_bytes()


def of_cluster(cluster: Cluster) -> t.Iterator[tuple[str, bytes]]:
    """The server's log, its statistics of statements, the engine's state, and what sessions show."""
    yield "PostgreSQL's log", cluster.log.read_bytes()
    yield "pg_stat_statements", cluster.psql("SELECT query FROM pg_stat_statements").encode()
    yield "pg_stat_activity", cluster.psql("SELECT a::text FROM pg_stat_activity a").encode()
    yield "pg_settings", cluster.psql("SELECT s::text FROM pg_settings s").encode()
    state = cluster.psql(
        "SELECT coalesce(string_agg(format('SELECT x::text FROM infrazero.%I x', tablename), ' UNION ALL '),"
        " 'SELECT NULL') FROM pg_tables WHERE schemaname = 'infrazero'"
    )
    yield "schema infrazero", cluster.psql(state).encode()


def of_data_directory(cluster: Cluster) -> t.Iterator[tuple[str, bytes]]:
    """Every file of the cluster, after all of it was written."""
    cluster.psql("CHECKPOINT")
    for path, data in files(cluster.data_directory):
        yield f"PGDATA/{path.relative_to(cluster.data_directory)}", data
