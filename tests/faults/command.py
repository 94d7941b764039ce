# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command of a host, and the modules, as they are but for their patience: a process for the fault harness.

``command.py cli ARGUMENTS...`` or ``command.py NAME-OF-A-MODULE FILE-WITH-ARGUMENTS``.  Less than on a host are: waits
between attempts, time-outs, the wait for locks, and the size of an upload's parts.  ``FAULTY_OS`` makes a call of the
operating system fail: ``fsync:EIO:2`` is its second call for a file of the store.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import json
import os
import pathlib
import runpy
import select
import signal
import socket
import sys
import time
import traceback
import types
import typing as t

PACKAGE = "ansible_collections.infrazero.database.plugins"


def hurry() -> None:
    """Wait for nothing longer than a case may take."""
    import botocore.endpoint
    import s3transfer.utils
    from ansible_collections.infrazero.database.plugins.module_utils._engine.backup.plan import BackupOptions
    from ansible_collections.infrazero.database.plugins.module_utils._engine.stores import s3, s3_reader

    real = botocore.endpoint.time  # type: ignore[attr-defined]
    botocore.endpoint.time = types.SimpleNamespace(  # type: ignore[attr-defined]
        time=real.time, sleep=lambda seconds: real.sleep(min(seconds, 0.02))
    )
    if "FAKETIME_TIMESTAMP_FILE" in os.environ:
        # libfaketime and the call that Python sleeps with don't get on when a clock is set.
        time.sleep = _sleep  # type: ignore[assignment]
    s3.PART_SIZE = s3.MIB
    most, _least, parts = s3transfer.utils.ChunksizeAdjuster.__init__.__defaults__ or ()
    s3transfer.utils.ChunksizeAdjuster.__init__.__defaults__ = (most, s3.PART_SIZE, parts)
    s3.CONNECT_SECONDS = 3
    s3.READ_SECONDS = int(os.environ.get("FAULTS_READ_SECONDS", "30"))
    s3_reader.RESUME_SECONDS = 0.02
    real_init = BackupOptions.__init__

    def init(self: t.Any, *arguments: t.Any, **named: t.Any) -> None:
        real_init(self, *arguments, **{"lock_wait_seconds": 2, **named})

    BackupOptions.__init__ = init  # type: ignore[assignment]


def _sleep(seconds: float) -> None:
    select.select([], [], [], seconds)


def break_call(name: str, code: str, number: int) -> None:
    """Let the call *number* of ``os.<name>`` fail, and say so in the file FAULTY_OS_FIRED."""
    real: t.Callable[..., t.Any] = getattr(os, name)
    calls = 0

    def call(*arguments: t.Any, **named: t.Any) -> t.Any:
        nonlocal calls
        calls += 1
        if calls == number:
            pathlib.Path(os.environ["FAULTY_OS_FIRED"]).touch()
            failure = getattr(errno, code)
            raise OSError(failure, os.strerror(failure))
        return real(*arguments, **named)

    setattr(os, name, call)


def run(what: str, arguments: t.Sequence[str]) -> None:
    """Run the command, or a module; ends the program."""
    if "FAULTY_OS" in os.environ:
        name, code, number = os.environ["FAULTY_OS"].split(":")
        break_call(name, code, int(number))
    if what == "cli":
        from ansible_collections.infrazero.database.plugins.module_utils._engine import cli

        raise SystemExit(cli.main(arguments))
    sys.argv[:] = [what, *arguments]
    runpy.run_module(f"{PACKAGE}.modules.{what}", run_name="__main__", alter_sys=True)


def serve(descriptor: int) -> None:
    """Fork a process for each request that comes through the socket *descriptor*: the libraries are loaded only once.

    A request is arguments and environment as JSON, and two descriptors for output.  What goes back: the process's
    number, and later its end.
    """
    import boto3.session
    import botocore.session
    import psycopg2  # noqa: F401
    import pyrage  # noqa: F401
    from ansible.module_utils import basic  # noqa: F401
    from ansible_collections.infrazero.database.plugins.module_utils import _ansible  # noqa: F401
    from ansible_collections.infrazero.database.plugins.module_utils._engine import cli  # noqa: F401

    # What a client is made of is read from files, which takes longer than all that a small run does.
    botocore.session.create_loader = functools.cache(botocore.session.create_loader)  # type: ignore[assignment]
    boto3.session.Session(aws_access_key_id="x", aws_secret_access_key="x").client("s3", region_name="us-east-1")
    wanted = socket.socket(fileno=descriptor)
    waking, woken = socket.socketpair()
    waking.setblocking(False)
    signal.set_wakeup_fd(waking.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    wanted.send(b"{}")
    while True:
        readable, _unused, _none = select.select([wanted, woken], [], [])
        if woken in readable:
            woken.recv(1024)
            _reap(wanted)
        if wanted not in readable:
            continue
        data, descriptors, _flags, _address = socket.recv_fds(wanted, 1 << 20, 2)
        if not data:
            return
        request = json.loads(data)
        pid = os.fork()
        if not pid:
            _become(request, descriptors)
        wanted.send(json.dumps({"started": pid}).encode())
        for each in descriptors:
            os.close(each)


def _reap(wanted: socket.socket) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        wanted.send(json.dumps({"ended": pid, "status": os.waitstatus_to_exitcode(status)}).encode())


def _become(request: t.Mapping[str, t.Any], descriptors: t.Sequence[int]) -> t.NoReturn:
    """Be the process that was asked for."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with open(os.devnull, "rb") as nothing:  # noqa: PTH123 - a descriptor is wanted
        os.dup2(nothing.fileno(), 0)
    os.dup2(descriptors[0], 1)
    os.dup2(descriptors[1], 2)
    os.closerange(3, 64)
    # Opened for what they are now: the ones from before may have been files, which can be asked for a position.
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)  # noqa: SIM115
    os.environ.clear()
    os.environ.update(request["environment"])
    status = 1
    try:
        what, *arguments = request["arguments"]
        hurry()
        run(what, arguments)
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:  # noqa: BLE001 - as the interpreter does
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
        with contextlib.suppress(OSError):
            sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(int(sys.argv[2]))
    else:
        hurry()
        run(sys.argv[1], sys.argv[2:])
