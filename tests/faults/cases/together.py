# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs at the same time: on one host, on two, and one that was stopped for so long that another took its place."""

from __future__ import annotations

import contextlib
import signal
import time
import typing as t

from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql import lock

from tests.faults.cases.answers import DUMP, MANIFEST
from tests.faults.cases.signals import LOADS
from tests.faults.trial import BACKUP, RESTORE, SUCCEEDS, Case, Trial
from tests.support.faultyproxy import amid, before


def cases() -> t.Iterator[Case]:
    """All of them."""
    for other in (BACKUP, RESTORE):

        def during_backup(trial: Trial, other: str = other) -> None:
            trial.inject("PutObject", before(trial.does(lambda: _locked_out(trial, other))), key=DUMP, times=1)

        def during_restore(trial: Trial, other: str = other) -> None:
            strike = trial.does(lambda: _locked_out(trial, other))
            trial.inject("GetObject", amid(4000, strike), key=DUMP, times=1, skip=LOADS)

        yield Case(f"backup/together/{other}", BACKUP, f"a {other} begins during a backup", during_backup, SUCCEEDS)
        yield Case(f"restore/together/{other}", RESTORE, f"a {other} begins during a restore", during_restore, SUCCEEDS)
    for name, key, words in (
        ("upload", DUMP, "while it uploads"),
        ("manifest", MANIFEST, "between dump and manifest"),
    ):

        def overtaken(trial: Trial, key: str = key) -> None:
            trial.inject("PutObject", before(trial.does(lambda: _overtaken(trial))), key=key, times=1)

        yield Case(
            f"backup/overtaken/{name}",
            BACKUP,
            f"the run is stopped {words}, loses its lock, and goes on after another backup",
            overtaken,
            says="lock|latest",
            quick=name == "upload",
        )
    yield Case("backup/hosts/taken", BACKUP, "another host's prefix", _other_host, says="another cluster")
    yield Case("backup/hosts/race", BACKUP, "two hosts begin a prefix at the same time", _race, says="latest|another")
    for stage in (BACKUP, RESTORE):
        yield Case(f"{stage}/lock/held", stage, "a session that hangs holds the lock", _held, says="pid|process")
        yield Case(
            f"{stage}/lock/lost",
            stage,
            "the session with the lock is gone before the last step",
            _lost,
            says="lock|session",
        )


def _locked_out(trial: Trial, other: str) -> None:
    """A second run, which has to say that the first one is at work."""
    config = trial.directory
    words = ["cli", other, "--config", str(config), "--json"]
    if other == RESTORE:
        words[2:2] = [trial.live.name, f"db/{trial.live.name}/"]
    key = {"DB_RESTORE_AGE_PRIVATE_KEY": trial.live.identity, "DB_RESTORE_NON_INTERACTIVE": "true"}
    ended = trial.world.start(words, key).wait()
    if ended.status != 3:
        raise RuntimeError(f"the second run ended with {ended.status}: {ended.text}")


def _overtaken(trial: Trial) -> None:
    world = trial.world
    trial.signal(signal.SIGSTOP)
    try:
        world.sql(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE application_name LIKE 'infrazero.database backup%'"
        )
        # The same second has the same key, which the stopped run has taken or is going to.
        time.sleep(1.1)
        trial.first = False
        second = world.start(["cli", "backup", "--config", str(trial.directory), "--json"]).wait()
        trial.first = True
        if second.status:
            raise RuntimeError(f"the other backup failed: {second.text}")
        latest = trial.objects()[trial.live.latest]
        trial.checks.append(
            lambda _ended: None if trial.objects()[trial.live.latest] == latest else "latest is not the newer backup's"
        )
    finally:
        trial.signal(signal.SIGCONT)


def _bare_database(trial: Trial) -> dict[str, str]:
    """The database on another cluster; settings of its host."""
    world = trial.world
    world.tidy(world.bare)
    world.bare.psql("CREATE ROLE small LOGIN; CREATE DATABASE small OWNER small")
    world.bare.psql("CREATE TABLE other (id int)", "small")
    return {"DB_HOST": world.bare.host, "DB_PORT": str(world.bare.port)}


def _other_host(trial: Trial) -> None:
    trial.settings = _bare_database(trial)
    trial.happened()


def _race(trial: Trial) -> None:
    world = trial.world
    for key in list(trial.good):
        trial.good.pop(key)
        world.s3.delete_object(Bucket=trial.bucket, Key=key)
    other = world.configure(
        world.directory / "etc-other", trial.entries, trial.bucket, cluster=world.bare, **_bare_database(trial)
    )
    made: dict[str, bytes] = {}

    def second() -> None:
        time.sleep(1.1)
        ended = world.start(["cli", "backup", "--config", str(other), "--json"]).wait()
        if ended.status:
            raise RuntimeError(f"the other host's backup failed: {ended.text}")
        made.update(trial.objects())

    trial.inject("PutObject", before(trial.does(second)), key=DUMP, times=1)
    trial.checks.append(
        lambda _ended: (
            None
            if made and trial.objects()[trial.live.latest] == made[trial.live.latest]
            else "the other host's latest backup is out of sight"
        )
    )
    # Which host the prefix belongs to is for people to say.
    trial.rerun = False


def _held(trial: Trial) -> None:
    conn = trial.world.connect()
    with conn.cursor() as cursor:
        cursor.execute("SET application_name = 'infrazero.database backup small'")
    held = contextlib.ExitStack()
    held.callback(conn.close)
    held.enter_context(lock.database_lock(conn, trial.live.name))
    trial.heals(held.close)
    trial.happened()


def _lost(trial: Trial) -> None:
    def end() -> None:
        trial.world.sql(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE application_name LIKE 'infrazero.database backup%'"
            " OR application_name LIKE 'infrazero.database restore%'"
        )

    if trial.case.stage == BACKUP:
        trial.inject("HeadObject", before(trial.does(end)), key=DUMP, times=1, skip=1)
    else:
        # Without the session nothing can be removed; the next restore does it.
        trial.may_leave = True
        trial.inject("GetObject", amid(4000, trial.does(end)), key=DUMP, times=1, skip=LOADS)
