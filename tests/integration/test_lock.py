# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys

import psycopg2
import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine.errors import LockHeld, PostgresError
from ansible_collections.infrazero.database.plugins.module_utils._engine.postgres.connection import connect
from ansible_collections.infrazero.database.plugins.module_utils._engine.postgres.lock import (
    database_lock,
    holder_of,
    locked_session,
)

from tests.support.cluster import wait_until


@pytest.fixture
def other(cluster):
    with contextlib.closing(connect(cluster.settings, application_name="infrazero.database restore app")) as conn:
        yield conn


def free(conn, name="app"):
    try:
        with database_lock(conn, name):
            return True
    except LockHeld:
        return False


def test_one_at_a_time_and_the_holder_is_named(admin, other):
    with database_lock(other, "app"), pytest.raises(LockHeld) as caught, database_lock(admin, "app"):
        pytest.fail("two have the lock")
    text = str(caught.value)
    assert "'app'" in text
    assert f"process {other.info.backend_pid} (infrazero.database restore app) from a local socket, since 20" in text
    assert free(admin)


def test_address_of_a_holder_from_elsewhere(cluster, admin):
    admin.cursor().execute("CREATE ROLE tony LOGIN PASSWORD 'x'")
    with (
        contextlib.closing(
            psycopg2.connect(host="127.0.0.1", port=cluster.port, user="tony", password="x", dbname="postgres")
        ) as conn,
        database_lock(conn, "app"),
    ):
        assert holder_of(admin, "app").client == "127.0.0.1"


def test_a_session_with_the_lock_says_what_it_does(cluster, admin):
    with locked_session(cluster.settings, "app", doing="backup") as (_conn, held):
        held.check()
        assert holder_of(admin, "app").application_name == "infrazero.database backup app"
    assert holder_of(admin, "app") is None


@pytest.mark.parametrize("name", ["App", "app ", "'; SELECT 1; --", 'quote"', "%s%(x)s", "ü\u202e😀", "x" * 63])
def test_names_have_locks_of_their_own(admin, other, name):
    with database_lock(other, "app"), database_lock(other, name):
        assert not free(admin, name)
    assert free(admin, name)


def test_lock_outlives_transactions_and_ends_after_a_failed_one(cluster, admin):
    with contextlib.closing(connect(cluster.settings, autocommit=False)) as conn:
        with database_lock(conn, "app"):
            conn.commit()
            assert not free(admin)
            conn.rollback()
            assert not free(admin)
            with pytest.raises(psycopg2.errors.DivisionByZero):
                conn.cursor().execute("SELECT 1 / 0")
            assert not free(admin)
        assert free(admin)


def test_an_error_of_the_work_comes_through_when_the_session_is_gone(admin, other):
    def work():
        with database_lock(other, "app"):
            admin.cursor().execute("SELECT pg_terminate_backend(%s, 10000)", (other.info.backend_pid,))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()
    assert free(admin)


def test_a_lost_lock_is_noticed(cluster, admin, other):
    with contextlib.ExitStack() as stack:
        held = stack.enter_context(database_lock(other, "app"))
        held.check()
        # As after a long stop of the process: the server has dropped the lock, another run has it.
        other.cursor().execute("SELECT pg_advisory_unlock_all()")
        with pytest.raises(LockHeld, match="nobody holds it any more"):
            held.check()
        with database_lock(admin, "app"), pytest.raises(LockHeld, match=f"process {admin.info.backend_pid}"):
            held.check()
        admin.cursor().execute("SELECT pg_terminate_backend(%s, 10000)", (other.info.backend_pid,))
        with pytest.raises(PostgresError, match="was lost"):
            held.check()


HOLDER = """
import contextlib, sys, time
sys.path[:0] = sys.argv[3:]
from ansible_collections.infrazero.database.plugins.module_utils._engine.postgres.connection import ConnectionSettings
from ansible_collections.infrazero.database.plugins.module_utils._engine.postgres.lock import locked_session
with locked_session(ConnectionSettings(host=sys.argv[1], port=int(sys.argv[2])), "app", doing="backup"):
    print("locked", flush=True)
    time.sleep(600)
"""


def test_a_killed_run_leaves_no_lock(cluster, admin):
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, cluster.host, str(cluster.port), *sys.path], stdout=subprocess.PIPE
    ) as child:
        try:
            assert child.stdout.readline() == b"locked\n"
            assert not free(admin)
            child.send_signal(signal.SIGSTOP)
            assert not free(admin)
        finally:
            child.kill()
    wait_until(lambda: free(admin))


def test_a_crash_of_the_server_leaves_no_lock(fresh_cluster):
    with contextlib.closing(connect(fresh_cluster.settings)) as conn, database_lock(conn, "app"):
        fresh_cluster.restart(immediate=True)
        with contextlib.closing(connect(fresh_cluster.settings)) as again:
            assert free(again)
