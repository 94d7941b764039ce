# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import pathlib
import shutil
import signal
import sys
import threading
import time

import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine.errors import (
    LibraryMissing,
    ProcessFailed,
    StreamError,
)
from ansible_collections.infrazero.database.plugins.module_utils._engine.streams.process import (
    Process,
    batch_work,
    child_environment,
    end_all,
    run,
)

from tests.support.processes import is_running
from tests.support.streams import Endless, Pieces, SourceBroke, Stuck, drain


def shell(script: str, **options: object) -> Process:
    return Process(["sh", "-c", script], phase="dump", environment=child_environment(), **options)


def ends(pid: int) -> bool:
    """Whether a process that was sent a signal ends: who isn't its parent can only look again and again."""
    return any(not is_running(pid) or time.sleep(0.01) for _unused in range(1000))


def test_all_of_the_output_then_the_proven_end() -> None:
    with shell("head -c 3000000 /dev/zero; printf end") as process:
        assert drain(process, 70000) == bytes(3000000) + b"end"
        assert process.read(1) == b""


def test_reads_are_full_but_the_last() -> None:
    with shell("for i in 1 2 3 4; do printf abc; sleep 0.01; done") as process:
        assert [process.read(5), process.read(5), process.read(5), process.read(5)] == [b"abcab", b"cabca", b"bc", b""]


def test_reading_nothing_is_refused_as_it_would_look_like_the_end() -> None:
    with shell("echo text") as process, pytest.raises(ValueError, match="at least one byte"):
        process.read(0)


def test_exit_1_after_the_full_output_is_no_end() -> None:
    with shell("echo all of it; echo 'pg_dump: error: no' >&2; exit 1") as process:
        assert process.read(11) == b"all of it\n"
        for _again in range(2):
            with pytest.raises(ProcessFailed) as caught:
                process.read(1)
            assert caught.value.phase == "dump"
            assert "exited with status 1" in caught.value.message
            assert caught.value.cause == "pg_dump: error: no"


@pytest.mark.parametrize("before", ["", "echo some;", "head -c 2000000 /dev/zero;"])
def test_a_killed_child_is_no_end(before: str) -> None:
    with shell(f"{before} kill -KILL $$") as process, pytest.raises(ProcessFailed, match="SIGKILL"):
        drain(process)


def test_a_child_that_closes_its_output_is_believed_only_with_its_status() -> None:
    with shell("echo text; exec >&-; sleep 0.2; exit 4") as process, pytest.raises(ProcessFailed, match="status 4"):
        drain(process)


def test_much_standard_error_neither_blocks_nor_fills_the_memory() -> None:
    script = (
        "head -c 20000000 /dev/zero | tr '\\0' 'x' >&2; printf '\\nnear the end\\n\\033[31mlast line\\n' >&2; exit 1"
    )
    with shell(script) as process, pytest.raises(ProcessFailed) as caught:
        drain(process)
    assert len(caught.value.cause) <= 2048
    assert caught.value.cause == "near the end; \\x1b[31mlast line"


def test_an_ignored_sigchld_loses_the_status_and_is_never_a_success() -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        with shell("echo text; exit 1") as process, pytest.raises(ProcessFailed, match="SIGCHLD"):
            drain(process)
    finally:
        signal.signal(signal.SIGCHLD, before)


@pytest.mark.parametrize(
    ("program", "package"),
    [("/nowhere/pg_dump", "postgresql-client"), ("no-such-program", "no-such-program"), ("/etc/passwd", "passwd")],
)
def test_a_program_that_cannot_be_run_names_its_package(program: str, package: str) -> None:
    source = Pieces(b"")
    with pytest.raises(LibraryMissing) as caught:
        Process([program], phase="dump", environment=child_environment(), stdin=source)
    assert program in caught.value.message
    assert f"package {package}," in caught.value.hint
    assert source.closed == 1


def test_too_many_arguments_are_another_failure() -> None:
    with pytest.raises(ProcessFailed, match="could not be started"):
        run(["true", "x" * 10_000_000], phase="dump", environment=child_environment())


@pytest.mark.skipif(shutil.which("stdbuf") is None, reason="no stdbuf")
def test_a_child_can_be_had_to_write_much_at_once() -> None:
    with Process(["env"], phase="dump", environment=child_environment(), gather=4321) as process:
        assert b"_STDBUF_O=4321\n" in drain(process)
    with Process(["env"], phase="dump", environment=child_environment()) as process:
        assert b"_STDBUF_O" not in drain(process)
    with Process([str(shutil.which("env"))], phase="dump", environment={"PATH": "/nowhere"}, gather=4321) as process:
        assert b"_STDBUF_O" not in drain(process), "it only saves time"


def test_a_child_that_writes_much_at_once_goes_by_its_own_name() -> None:
    with (
        Process(["false"], phase="dump", environment=child_environment(), gather=4321) as process,
        pytest.raises(ProcessFailed, match=r"^dump: false exited with status 1"),
    ):
        process.read(1)
    with pytest.raises(LibraryMissing, match="no-such-program"):
        Process(["no-such-program"], phase="dump", environment=child_environment(), gather=4321)


@pytest.mark.skipif(not hasattr(os, "sched_getscheduler"), reason="Linux only")
def test_batch_work_is_for_the_thread_that_asks_and_what_it_starts() -> None:
    def policies() -> tuple[int, int]:
        stat = run(["cat", "/proc/self/stat"], phase="dump", environment=child_environment())
        return os.sched_getscheduler(0), int(stat.rpartition(b")")[2].split()[38])

    def work(chosen: int) -> None:
        os.sched_setscheduler(0, chosen, os.sched_param(0))
        with batch_work():
            within.append(policies())
        after.append(policies())

    before = policies()
    within: list[tuple[int, int]] = []
    after: list[tuple[int, int]] = []
    for chosen in (os.SCHED_OTHER, os.SCHED_IDLE):
        thread = threading.Thread(target=work, args=(chosen,))
        thread.start()
        thread.join()
    assert within == [(os.SCHED_BATCH, os.SCHED_BATCH), (os.SCHED_IDLE, os.SCHED_IDLE)]
    assert after == [(os.SCHED_OTHER, os.SCHED_OTHER), (os.SCHED_IDLE, os.SCHED_IDLE)]
    assert policies() == before


def test_leaving_ends_the_child_and_all_it_started() -> None:
    with shell("sleep 1000 & printf '%07d %07d' $! $$; sleep 1000") as process:
        pids = [int(word) for word in process.read(15).split()]
        assert all(is_running(pid) for pid in pids)
    assert all(ends(pid) for pid in pids)
    process.close()


def test_a_child_is_asked_to_end_before_it_is_killed(tmp_path: pathlib.Path) -> None:
    mark = tmp_path / "cancelled"
    with shell(f"trap 'echo yes > {mark}; exit 1' TERM; echo up; while :; do sleep 0.01; done") as process:
        assert process.read(3) == b"up\n"
    assert mark.read_text() == "yes\n"


def test_a_child_that_will_not_end_is_killed() -> None:
    with shell("trap '' TERM; echo up; while :; do sleep 1000; done") as process:
        assert process.read(3) == b"up\n"
        pid = process._child.pid
    assert not is_running(pid)


def test_a_stopped_child_is_killed() -> None:
    with shell("echo up; kill -STOP $$") as process:
        assert process.read(3) == b"up\n"


def test_what_a_child_leaves_running_ends_with_it() -> None:
    with shell("sleep 1000 >/dev/null & echo $!") as process:
        pid = int(drain(process))
    assert ends(pid)


def test_closing_wakes_a_reader_in_another_thread() -> None:
    process = shell("echo up; sleep 1000")
    assert process.read(3) == b"up\n"
    errors: list[BaseException] = []

    def read() -> None:
        try:
            process.read(1)
        except StreamError as exc:
            errors.append(exc)

    thread = threading.Thread(target=read)
    thread.start()
    process.close()
    thread.join()
    assert len(errors) == 1
    with pytest.raises(StreamError):
        process.read(1)


def test_a_closed_process_has_no_end_even_where_the_child_was_done() -> None:
    process = shell("exit 0")
    process.close()
    with pytest.raises(StreamError):
        process.read(1)


def test_the_environment_is_clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "AWS_SECRET_ACCESS_KEY",
        "PGPASSWORD",
        "DB_RESTORE_AGE_PRIVATE_KEY",
        "PGHOST",
        "LD_PRELOAD",
        "LC_CTYPE",
    ):
        monkeypatch.setenv(name, "canary")
    monkeypatch.setenv("TZ", "Europe/Berlin")
    output = run(["env"], phase="dump", environment=child_environment({"PGPASSFILE": "/proc/self/fd/9"})).decode()
    assert "canary" not in output
    seen = dict(line.split("=", 1) for line in output.splitlines())
    assert seen.keys() <= {"PATH", "HOME", "TMPDIR", "TZ", "LANG", "LC_ALL", "PGPASSFILE"}
    assert (seen["LC_ALL"], seen["TZ"], seen["PGPASSFILE"]) == ("C.UTF-8", "Europe/Berlin", "/proc/self/fd/9")


def test_a_path_is_there_without_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PATH")
    assert run(["echo", "found"], phase="dump", environment=child_environment()) == b"found\n"


def test_a_session_of_its_own() -> None:
    script = "import os; print(os.getsid(0) == os.getpid(), os.getcwd())"
    assert run([sys.executable, "-c", script], phase="dump", environment=child_environment()) == b"True /\n"


def test_descriptors_are_inherited_only_when_named() -> None:
    reading, writing = os.pipe()
    try:
        os.write(writing, b"secret\n")
        os.close(writing)
        argv = ["cat", f"/dev/fd/{reading}"]
        with pytest.raises(ProcessFailed):
            run(argv, phase="dump", environment=child_environment())
        assert run(argv, phase="dump", environment=child_environment(), pass_fds=[reading]) == b"secret\n"
    finally:
        os.close(reading)


def test_run_feeds_and_collects() -> None:
    data = os.urandom(3_000_000)
    assert run(["cat"], phase="dump", environment=child_environment(), stdin=data) == data
    assert run(["cat"], phase="dump", environment=child_environment(), stdin=b"") == b""
    assert run(["cat"], phase="dump", environment=child_environment()) == b""


@pytest.mark.parametrize("fail_at", [0, 1, 100_000, 3_000_000])
def test_an_error_of_the_input_is_the_error_and_never_looks_like_its_end(fail_at: int, tmp_path: pathlib.Path) -> None:
    mark = tmp_path / "believed"
    source = Pieces(bytes(3_000_000), fail_at=fail_at)
    with shell(f"cat; echo yes > {mark}", stdin=source) as process:
        for _again in range(2):
            with pytest.raises(SourceBroke):
                drain(process)
    assert not mark.exists()
    assert source.closed == 1


def test_a_child_may_have_enough_of_its_input_but_the_inputs_end_still_counts() -> None:
    source = Pieces(bytes(3_000_000))
    with shell("head -c 10", stdin=source) as process:
        assert drain(process) == bytes(10)
        assert source.ended
    source = Pieces(bytes(3_000_000), fail_at=2_999_999)
    with shell("head -c 10", stdin=source) as process, pytest.raises(SourceBroke):
        drain(process)


def test_a_child_that_fails_before_its_input_ends_is_the_error() -> None:
    source = Endless()
    process = shell("head -c 10 >/dev/null; echo broken >&2; exit 3", stdin=source)
    with process, pytest.raises(ProcessFailed, match="status 3; cause: broken"):
        drain(process)
    assert source.closed == 1


def test_closing_ends_a_child_whose_input_hangs() -> None:
    source = Stuck(b"some")
    with shell("cat", stdin=source) as process:
        assert process.read(4) == b"some"
        source.waiting.wait()
    assert source.closed == 1


def test_all_children_can_be_ended_though_somebody_waits_for_them() -> None:
    with Process(["sleep", "60"], phase="dump", environment=child_environment()) as child:
        timer = threading.Timer(0.1, end_all)
        timer.start()
        with pytest.raises(ProcessFailed, match="SIGTERM"):
            child.read(1)
        timer.join()
    end_all()  # nothing is left to be ended
