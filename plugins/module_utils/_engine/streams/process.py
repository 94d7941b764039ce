# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Child processes: the only place of the engine that starts any.

A child's output is believed with its exit status only: the end of the stream is not given to the reader before the
child exited with 0.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import pathlib
import shutil
import signal
import subprocess
import threading
import time
import typing as t

from ..errors import LibraryMissing, ProcessFailed, StreamError
from ..printing import printable
from .flow import CHUNK, Readable

# fcntl has the name from Python 3.10 on.
_F_SETPIPE_SZ = 1031
_PIPE_BYTES = 1024 * 1024
_NAP_SECONDS = 0.001
# What is kept of a child's standard error.
_STDERR_BYTES = 2048
# pg_dump and pg_restore cancel their query in the server when they are asked to end; killed at once, they would leave
# it running there, locks and all.
_GRACE_SECONDS = 2.0

_PACKAGES = {
    "pg_dump": "postgresql-client",
    "pg_dumpall": "postgresql-client",
    "pg_restore": "postgresql-client",
    "psql": "postgresql-client",
    "ssh-keygen": "openssh-client",
}


def child_environment(extra: t.Mapping[str, str] | None = None) -> dict[str, str]:
    """A clean environment for a child: where to find programs, home, time zone, messages in English; and *extra*.

    Nothing else is inherited, so no secret of ours can be: not the store's, not the server's, not an identity.
    """
    environment = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR", "TZ") if name in os.environ}
    environment.setdefault("PATH", os.defpath)
    environment["LANG"] = environment["LC_ALL"] = "C.UTF-8"
    environment.update(extra or {})
    return environment


_running: set[Process] = set()
_running_lock = threading.Lock()


def end_all() -> None:
    """Ask all running children to end, and all that they started; readers of their output get ProcessFailed.

    For a program that must end while its threads wait for children, which may be silent for long.
    Not to be called in a handler of a signal: the thread that it interrupts may be at work on a child.
    """
    with _running_lock:
        running = list(_running)
    for process in running:
        process.end()


@t.final
class Process:
    """A running child in a session of its own, whose standard output is read.

    :param argv: program and arguments; no secret, every user of the host can read them.
    :param phase: the phase its failure is reported under.
    :param environment: the child's whole environment, see :func:`child_environment`.
    :param pass_fds: descriptors it inherits beside 0, 1, 2.
    :param gather: bytes that it is to write at once, where it leaves that to the C library, whose own choice is a page.
        It only saves time.
    :param stdin: what it reads, fed by a thread up to its proven end; an error there ends the child, and is the one
        that :meth:`read` raises.  Closed with the process.  Without it, nothing: ``/dev/null``.
    :raises LibraryMissing: the program is not installed.
    """

    def __init__(
        self,
        argv: t.Sequence[str],
        *,
        phase: str,
        environment: t.Mapping[str, str],
        pass_fds: t.Sequence[int] = (),
        gather: int | None = None,
        stdin: Readable | None = None,
    ) -> None:
        self._name = pathlib.PurePath(argv[0]).name
        self._phase = phase
        self._source = stdin
        self._feed_error: BaseException | None = None
        self._stderr = b""
        self._closed = False
        # The exit status, negative for a signal; None where it got lost.  Valid once the child is reaped.
        self._status: int | None = None
        self._reaped = False
        self._reaping = threading.Lock()
        try:
            # Not AnsibleModule.run_command: it holds the whole output in memory, and needs Ansible.
            self._child = subprocess.Popen(  # pylint: disable=consider-using-with,ansible-bad-function
                [*([] if gather is None else _gathering(gather, argv[0], environment)), *argv],
                stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=dict(environment),
                pass_fds=tuple(pass_fds),
                start_new_session=True,
                cwd="/",
            )
        except OSError as exc:
            if stdin is not None:
                stdin.close()
            cause = exc.strerror or str(exc)
            if not isinstance(exc, (FileNotFoundError, PermissionError, NotADirectoryError)):
                raise ProcessFailed(f"{self._name} could not be started", phase=phase, cause=cause) from exc
            raise LibraryMissing(
                f"the program {argv[0]} can't be run",
                phase=phase,
                cause=cause,
                hint=f"install the package {_PACKAGES.get(self._name, self._name)}, or correct the path",
            ) from exc
        self._stdout = t.cast(io.BufferedReader, self._child.stdout)
        _enlarge(self._stdout)
        self._threads = [threading.Thread(target=self._drain, name=f"{self._name} stderr", daemon=True)]
        if stdin is not None:
            self._threads.append(
                threading.Thread(target=self._feed, args=(stdin,), name=f"{self._name} stdin", daemon=True)
            )
        for thread in self._threads:
            thread.start()
        with _running_lock:
            _running.add(self)

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()

    def read(self, n: int, /) -> bytes:
        """Exactly *n* bytes of its standard output, fewer at the end, ``b""`` once it has exited with 0.

        :raises ProcessFailed: another exit status, or a signal; ``cause`` holds the last lines of its standard error.
        """
        if n < 1:
            raise ValueError("read at least one byte: nothing read would look like the end")
        pieces = []
        with contextlib.suppress(ValueError):  # closed by another thread
            while n:
                piece = self._stdout.read1(n)
                if not piece:
                    break
                pieces.append(piece)
                n -= len(piece)
                if n:
                    # Programs write a page at a time; to be woken for each takes more time than all else here.
                    time.sleep(_NAP_SECONDS)
        if not pieces:
            self._prove()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def end(self) -> None:
        """Ask the child, and all it started, to end; does not wait."""
        self._signal(signal.SIGTERM)

    def close(self) -> None:
        """End a child that still runs, and all it started; a second call does nothing.

        May be called while another thread is in :meth:`read`, which then raises.
        """
        with self._reaping:
            if self._closed:
                return
            self._closed = True
        with _running_lock:
            _running.discard(self)
        self.end()
        deadline = time.monotonic() + _GRACE_SECONDS
        while not self._ended() and time.monotonic() < deadline:
            time.sleep(0.01)
        self._signal(signal.SIGKILL)
        self._reap()
        try:
            if self._source is not None:
                self._source.close()
        finally:
            for thread in self._threads:
                thread.join()
            self._stdout.close()

    def _prove(self) -> None:
        """Return only where the child exited with 0 and all it was fed is proven."""
        self._reap()
        if self._feed_error is None and self._status == 0:
            # A child may have enough before its input ends; the input's own end counts all the same.
            for thread in self._threads:
                thread.join()
        if self._feed_error is not None:
            raise self._feed_error
        if self._closed:
            raise StreamError(f"{self._name} was ended before its output was read to the end", phase=self._phase)
        if self._status == 0:
            return
        self._threads[0].join()
        if self._status is None:
            raise ProcessFailed(
                f"nobody knows how {self._name} ended",
                phase=self._phase,
                cause="its exit status was not kept: the signal SIGCHLD is ignored",
                hint="start this program with SIGCHLD at its default",
            )
        cause = _last_lines(self._stderr)
        if self._status > 0:
            raise ProcessFailed(
                f"{self._name} ended with exit status {self._status}",
                phase=self._phase,
                cause=cause,
                hint=f"the cause is in {self._name}'s own words: put that right, then run again",
            )
        number = -self._status
        name = signal.Signals(number).name if number in set(signal.Signals) else str(number)
        killer = ", look for the kernel's out-of-memory killer," if number == signal.SIGKILL else ""
        hint = f"if nobody ended it on purpose{killer} run again"
        raise ProcessFailed(f"{self._name} was ended by signal {name}", phase=self._phase, cause=cause, hint=hint)

    def _ended(self) -> bool:
        """Whether the child has ended, reaped or not; does not wait."""
        try:
            return os.waitid(os.P_PID, self._child.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None
        except ChildProcessError:
            return True

    def _reap(self) -> None:
        """Wait for the child's end, take its status, end what it left behind."""
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_PID, self._child.pid, os.WEXITED | os.WNOWAIT)
        with self._reaping:
            if self._reaped:
                return
            # Not Popen's returncode: it says 0 where the status got lost.
            ended = None
            with contextlib.suppress(ChildProcessError):
                ended = os.waitid(os.P_PID, self._child.pid, os.WEXITED | os.WNOWAIT)
            if ended is not None:
                self._status = ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status
                # Until it is reaped the number of its session is its own.
                self._send(signal.SIGKILL)
            self._child.wait()
            self._reaped = True

    def _signal(self, number: int) -> None:
        with self._reaping:
            if not self._reaped:
                self._send(number)

    def _send(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._child.pid, number)

    def _drain(self) -> None:
        with t.cast(t.BinaryIO, self._child.stderr) as stderr:
            while True:
                chunk = os.read(stderr.fileno(), CHUNK)
                if not chunk:
                    return
                self._stderr = (self._stderr + chunk)[-_STDERR_BYTES:]

    def _feed(self, source: Readable) -> None:
        stdin = t.cast(t.BinaryIO, self._child.stdin)
        _enlarge(stdin)
        listening = True
        try:
            while not (self._closed or (self._reaped and self._status != 0)):
                chunk = source.read(CHUNK)
                if not chunk:
                    break
                if listening:
                    try:
                        stdin.write(chunk)
                        stdin.flush()
                    except BrokenPipeError:
                        listening = False
        except BaseException as exc:  # noqa: BLE001 - crosses over to the reading thread, whatever it is
            self._feed_error = exc
            # Before its input is closed: the child must not take this for the end.
            self._signal(signal.SIGKILL)
        finally:
            with contextlib.suppress(BrokenPipeError):
                stdin.close()


@contextlib.contextmanager
def batch_work() -> t.Iterator[None]:
    """Have Linux run the calling thread, and whatever it starts meanwhile, as batch work.

    A batch process that is woken does not push another one off its processor.  pg_dump is woken for every 8 KiB that
    the server has for it; that it then waits until the server has more saves both of them thousands of changes a
    second.  A policy that somebody has chosen for us stays.
    """
    ours = False
    with contextlib.suppress(AttributeError, OSError):  # elsewhere, or not allowed: it only saves time
        if os.sched_getscheduler(0) == os.SCHED_OTHER:
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
            ours = True
    try:
        yield
    finally:
        if ours:
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def run(
    argv: t.Sequence[str],
    *,
    phase: str,
    environment: t.Mapping[str, str],
    stdin: bytes | None = None,
    pass_fds: t.Sequence[int] = (),
) -> bytes:
    """Run a short tool and return its standard output; parameters and errors as those of :class:`Process`."""
    source = None if stdin is None else io.BytesIO(stdin)
    with Process(argv, phase=phase, environment=environment, pass_fds=pass_fds, stdin=source) as process:
        return b"".join(iter(lambda: process.read(CHUNK), b""))


def _gathering(size: int, program: str, environment: t.Mapping[str, str]) -> list[str]:
    """The command in front of *program* that makes it write *size* bytes at once; it becomes *program*, same PID."""
    path = environment.get("PATH")
    stdbuf = shutil.which("stdbuf", path=path)
    return [stdbuf, f"--output={size}"] if stdbuf and shutil.which(program, path=path) else []


def _enlarge(pipe: t.IO[bytes]) -> None:
    """Let more fit into a pipe; it only saves time, and a user may have used up what pipes may take."""
    with contextlib.suppress(OSError):
        fcntl.fcntl(pipe.fileno(), _F_SETPIPE_SZ, _PIPE_BYTES)


def _last_lines(stderr: bytes) -> str:
    """The end of a child's standard error as one line without control characters."""
    lines = stderr.decode("utf-8", "replace").splitlines()
    if len(stderr) == _STDERR_BYTES and len(lines) > 1:
        del lines[0]  # cut
    return printable("; ".join(line.strip() for line in lines if line.strip()))
