# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Processes that are ended, stopped or continued at named points: the run, its pg_dump, the server and its sessions."""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import time
import typing as t

from tests.faults.cases.answers import DUMP, LATEST, MANIFEST
from tests.faults.trial import BACKUP, BOOTSTRAP, EITHER, FAILS, RESTORE, SUCCEEDS, Case, Trial
from tests.support.cluster import wait_until
from tests.support.faultyproxy import Fault, after, amid, before

#: Where a backup is: operation, key, database, what has happened.
POINTS: dict[str, tuple[str, str, str, str]] = {
    "plan": ("GetObject", LATEST, "small", "while it plans"),
    "upload": ("PutObject", DUMP, "small", "while it uploads"),
    "mid-dump": ("CreateMultipartUpload", ".*", "large", "in the middle of the dump"),
    "part": ("UploadPart", ".*", "large", "in the middle of a part"),
    "completion": ("CompleteMultipartUpload", ".*", "large", "while it completes the upload"),
    "manifest": ("PutObject", MANIFEST, "small", "between dump and manifest"),
    "latest": ("PutObject", LATEST, "small", "between manifest and latest"),
}
#: A restore reads the first bytes, then tries the key, then loads.
LOADS = 2


def cases() -> t.Iterator[Case]:
    """All of them."""
    for point, (operation, key, live, words) in POINTS.items():
        for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            if number in (signal.SIGINT, signal.SIGHUP) and point not in ("upload", "mid-dump"):
                continue
            yield _signalled(point, number, operation, key, live, words, wrap=before)
        if point in ("upload", "completion", "manifest", "latest"):
            yield _signalled(
                f"after-{point}", signal.SIGKILL, operation, key, live, words + ", after the store's work", wrap=after
            )
    yield from _of_the_dump()
    yield from _of_a_restore()
    yield from _of_a_bootstrap()


def _signalled(
    point: str, number: signal.Signals, operation: str, key: str, live: str, words: str, *, wrap: t.Callable[..., Fault]
) -> Case:
    def arrange(trial: Trial) -> None:
        # Whoever is ended before the answer doesn't know the upload: the bucket's rule for incomplete ones removes it.
        trial.may_leave = point == "mid-dump"
        trial.inject(operation, wrap(trial.does(lambda: trial.signal(number))), key=key, times=1)

    return Case(
        f"backup/{point}/{number.name}",
        BACKUP,
        f"{number.name} {words}",
        arrange,
        live=live,
        quick=(point, number) in (("mid-dump", signal.SIGTERM), ("manifest", signal.SIGKILL)),
    )


def _of_the_dump() -> t.Iterator[Case]:
    """pg_dump waits for its reader then, with rows under way."""

    def case(name: str, words: str, action: t.Callable[[Trial], None], expected: str = FAILS, says: str = "") -> Case:
        def arrange(trial: Trial) -> None:
            trial.inject("CreateMultipartUpload", before(trial.does(lambda: action(trial))), times=1)

        return Case(
            f"backup/mid-dump/{name}",
            BACKUP,
            words,
            arrange,
            expected,
            says,
            live="large",
            quick=name == "pg_dump-SIGKILL",
        )

    def dump(number: int) -> t.Callable[[Trial], None]:
        def action(trial: Trial) -> None:
            for pid in _dumps(trial):
                os.kill(pid, number)

        return action

    def paused(trial: Trial, pids: t.Sequence[int]) -> None:
        for number in (signal.SIGSTOP, signal.SIGCONT):
            for pid in pids:
                os.kill(pid, number)
            time.sleep(0.5)

    def sessions(call: str, which: str) -> t.Callable[[Trial], None]:
        def action(trial: Trial) -> None:
            if not trial.world.sql(f"SELECT {call}(pid) FROM pg_stat_activity WHERE application_name {which}"):
                raise RuntimeError("there is no such session")

        return action

    def backend(trial: Trial) -> None:
        ((pid,),) = trial.world.sql("SELECT pid FROM pg_stat_activity WHERE application_name = 'pg_dump'")
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: _answers(trial))

    yield case("pg_dump-SIGKILL", "pg_dump is killed in the middle of the rows", dump(signal.SIGKILL), says="SIGKILL")
    yield case("pg_dump-SIGTERM", "pg_dump is ended in the middle of the rows", dump(signal.SIGTERM))
    yield case(
        "pg_dump-stopped", "pg_dump is stopped and goes on", lambda trial: paused(trial, _dumps(trial)), SUCCEEDS
    )
    yield case("stopped", "the run is stopped and goes on", lambda trial: paused(trial, [_pid(trial)]), SUCCEEDS)
    yield case(
        "session-terminated", "the server ends pg_dump's session", sessions("pg_terminate_backend", "= 'pg_dump'")
    )
    yield case(
        "query-cancelled",
        "the server cancels pg_dump's query",
        sessions("pg_cancel_backend", "= 'pg_dump'"),
        says="cancel",
    )
    yield case(
        "lock-lost",
        "the server ends the session that holds the lock",
        sessions("pg_terminate_backend", "LIKE 'infrazero.database backup%'"),
        says="lock",
    )
    yield case("backend-SIGKILL", "pg_dump's server process is killed, the server recovers", backend)
    yield case("restart", "the server is restarted", lambda trial: trial.world.cluster.restart())
    yield case(
        "crash", "the server crashes and is started again", lambda trial: trial.world.cluster.restart(immediate=True)
    )
    yield case("stopped-server", "the server is stopped, and stays so", lambda trial: trial.world.cluster.stop())

    def dropped(trial: Trial) -> None:
        trial.rows = None
        trial.world.sql(f"DROP DATABASE {trial.live.name} WITH (FORCE)")
        trial.heals(trial.world.reset_databases)

    yield case("database-dropped", "the database is dropped", dropped)


def _of_a_restore() -> t.Iterator[Case]:
    def case(
        name: str,
        words: str,
        action: t.Callable[[Trial], object],
        expected: str = FAILS,
        *,
        skip: int = LOADS,
        arguments: t.Sequence[str] = (),
        keeps: bool = True,
    ) -> Case:
        def arrange(trial: Trial) -> None:
            trial.arguments = list(arguments)
            if not keeps:
                # The strategy's price: the old database is gone by then, and that is said.
                trial.rows = None
            trial.inject("GetObject", amid(4000, trial.does(lambda: action(trial))), key=DUMP, times=1, skip=skip)

        return Case(f"restore/{name}", RESTORE, words, arrange, expected, quick=name == "load/SIGKILL")

    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        yield case(f"load/{number.name}", f"{number.name} in the middle of the load", _sends(number))
    for number in (signal.SIGKILL, signal.SIGTERM):
        yield case(
            f"replace-check/{number.name}",
            f"{number.name} while a backup is checked before the database is dropped for it",
            _sends(number),
            arguments=["--strategy", "replace"],
        )
        yield case(
            f"replace-load/{number.name}",
            f"{number.name} in the middle of the load, the old database dropped",
            _sends(number),
            skip=LOADS + 1,
            arguments=["--strategy", "replace"],
            keeps=False,
        )

    def sessions(where: str) -> t.Callable[[Trial], None]:
        def action(trial: Trial) -> None:
            if not trial.world.sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {where}"):
                raise RuntimeError("there is no such session")

        return action

    yield case(
        "load/loader-terminated", "the server ends the loading session", sessions("usename LIKE 'infrazero_restore_%'")
    )
    yield case(
        "load/lock-lost",
        "the server ends the session that holds the lock",
        lambda trial: _unclean(trial, lambda: sessions("application_name LIKE 'infrazero.database restore%'")(trial)),
        EITHER,
    )
    yield case("load/restart", "the server is restarted", lambda trial: _unclean(trial, trial.world.cluster.restart))
    yield case(
        "load/crash",
        "the server crashes and is started again",
        lambda trial: _unclean(trial, lambda: trial.world.cluster.restart(immediate=True)),
    )
    yield case(
        "load/stopped-server",
        "the server is stopped, and stays so",
        lambda trial: _unclean(trial, trial.world.cluster.stop),
    )

    def paused(trial: Trial) -> None:
        trial.signal(signal.SIGSTOP)
        time.sleep(0.5)
        trial.signal(signal.SIGCONT)

    yield case("load/stopped", "the run is stopped and goes on", paused, SUCCEEDS)

    def dropped(trial: Trial) -> None:
        trial.world.sql(f"DROP DATABASE {trial.live.name} WITH (FORCE)")

    yield case("load/target-dropped", "the database that is to be replaced is dropped", dropped, SUCCEEDS)

    def stage_dropped(trial: Trial) -> None:
        ((stage,),) = trial.world.sql("SELECT datname FROM pg_database WHERE datname LIKE '%\\_\\_restore\\_%'")
        trial.world.sql(f'DROP DATABASE "{stage}" WITH (FORCE)')

    yield case("load/stage-dropped", "the database that is being filled is dropped", stage_dropped)
    for point in ("analyze", "own", "swap"):
        for number in (signal.SIGKILL, signal.SIGTERM):

            def arrange(trial: Trial, point: str = point, number: int = number) -> None:
                trial.same_oid = False
                trial.watch[f" {point}: "] = trial.does(lambda: trial.signal(number))
                # It may be through before the signal comes; what is right then is judged below.
                trial.either_rows = True

            yield Case(
                f"restore/{point}/{number.name}", RESTORE, f"{number.name} as the stage {point} begins", arrange, EITHER
            )
    for number in (signal.SIGKILL, signal.SIGTERM):

        def amid_swap(trial: Trial, number: int = number) -> None:
            holder = trial.world.connect()
            trial.heals(holder.close)

            def hold() -> None:
                holder.autocommit = False
                holder.cursor().execute("LOCK TABLE infrazero.database IN ACCESS EXCLUSIVE MODE")

            def strike() -> None:
                waits = "SELECT 1 FROM pg_locks WHERE NOT granted AND relation = 'infrazero.database'::regclass"
                wait_until(lambda: bool(trial.world.sql(waits)))
                trial.signal(number)
                time.sleep(0.2)
                holder.rollback()

            trial.watch[" load: "] = hold
            trial.watch[" swap: "] = trial.does(strike)

        yield Case(
            f"restore/swap/amid-{number.name}", RESTORE, f"{number.name} within the transaction of the swap", amid_swap
        )


def _of_a_bootstrap() -> t.Iterator[Case]:
    for number in (signal.SIGKILL, signal.SIGTERM):

        def in_load(trial: Trial, number: int = number) -> None:
            strike = trial.does(lambda: trial.signal(number))
            trial.inject("GetObject", amid(4000, strike), key=DUMP, times=1, skip=LOADS)

        def in_roles(trial: Trial, number: int = number) -> None:
            holder = trial.world.connect(cluster=trial.world.bare)
            holder.autocommit = False
            holder.cursor().execute("LOCK TABLE pg_authid IN SHARE ROW EXCLUSIVE MODE")
            trial.heals(holder.close)

            def strike() -> None:
                waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'pg_authid'::regclass"
                wait_until(lambda: trial.world.bare.psql(waits) != "0")
                trial.signal(number)

            trial.soon(trial.does(strike))

        yield Case(
            f"bootstrap/load/{number.name}", BOOTSTRAP, f"{number.name} in the middle of the first restore", in_load
        )
        yield Case(f"bootstrap/roles/{number.name}", BOOTSTRAP, f"{number.name} while roles are made", in_roles)

    def crash(trial: Trial) -> None:
        strike = trial.does(lambda: trial.world.bare.restart(immediate=True))
        trial.inject("GetObject", amid(4000, strike), key=DUMP, times=1, skip=LOADS)

    yield Case("bootstrap/load/crash", BOOTSTRAP, "the server crashes in the middle of the first restore", crash)


def _sends(number: int) -> t.Callable[[Trial], None]:
    return lambda trial: trial.signal(number)


def _unclean(trial: Trial, action: t.Callable[[], object]) -> None:
    """What a restore has made can't be removed without a server; the next one does it."""
    trial.may_leave = True
    action()


def _pid(trial: Trial) -> int:
    if trial.running is None:
        raise RuntimeError("nothing runs")
    return trial.running.pid


def _dumps(trial: Trial) -> list[int]:
    """The run's pg_dump."""
    if trial.running is None:
        raise RuntimeError("nothing runs")
    found = []
    for pid in trial.running.children():
        with contextlib.suppress(OSError):
            if pathlib.Path(f"/proc/{pid}/comm").read_text().strip() == "pg_dump":
                found.append(pid)
    if not found:
        raise RuntimeError("there is no pg_dump")
    return found


def _answers(trial: Trial) -> bool:
    with contextlib.suppress(Exception):
        return bool(trial.world.sql("SELECT 1"))
    return False
