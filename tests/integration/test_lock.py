# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import concurrent.futures
import contextlib
import hashlib
import signal
import subprocess
import sys
import time

import psycopg2
import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine.errors import LockHeld, PostgresError
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql import state
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.connection import connect
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.lock import (
    database_lock,
    holder_of,
    lock_table,
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
    who = f"process {other.info.backend_pid} (role postgres, infrazero.database restore app)"
    assert f"{who} from a local socket, since 20" in text
    assert free(admin)


def test_address_of_a_holder_from_elsewhere(cluster, admin):
    admin.cursor().execute("CREATE ROLE tony LOGIN SUPERUSER PASSWORD 'x'")
    with (
        contextlib.closing(
            psycopg2.connect(host="127.0.0.1", port=cluster.port, user="tony", password="x", dbname="postgres")
        ) as conn,
    ):
        conn.autocommit = True
        with database_lock(conn, "app"):
            holder = holder_of(admin, "app")
    assert (holder.client, holder.role) == ("127.0.0.1", "tony")


def test_many_may_be_the_first(cluster):
    """Those who find neither schema nor table make them, and one at a time has the lock."""

    def locks(_number):
        with contextlib.closing(connect(cluster.settings)) as conn:
            return sum(free(conn, name) for name in ("app", "web"))

    with concurrent.futures.ThreadPoolExecutor(6) as executor:
        assert sum(executor.map(locks, range(12))) >= 2
    assert cluster.psql("SELECT count(*) FROM pg_class WHERE relname LIKE 'lock\\_%'") == "2"


def test_the_open_transaction_holds_back_nothing(cluster, admin):
    """Neither a transaction ID nor a snapshot, also where everybody's transactions keep theirs."""
    admin.cursor().execute("ALTER ROLE postgres SET default_transaction_isolation = 'repeatable read'")
    try:
        with locked_session(cluster.settings, "app", doing="backup") as (_conn, held):
            held.check()
            pid = holder_of(admin, "app").pid
            session = f"SELECT state, backend_xid, backend_xmin FROM pg_stat_activity WHERE pid = {pid}"
            assert cluster.psql(session) == "idle in transaction||"
            # The proof by the deed: a row that died meanwhile is removed.
            cluster.psql("CREATE TABLE mortal (id int) WITH (autovacuum_enabled = off); INSERT INTO mortal VALUES (1)")
            cluster.psql("DELETE FROM mortal")
            cluster.psql("VACUUM mortal")
            assert cluster.psql("SELECT pg_relation_size('mortal')") == "0"
    finally:
        cluster.psql("ALTER ROLE postgres RESET default_transaction_isolation; DROP TABLE IF EXISTS mortal")


def test_no_time_out_ends_it(cluster, admin):
    known = admin.info.server_version
    timeouts = ["statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"]
    timeouts += ["idle_session_timeout"] if known >= 140000 else []
    timeouts += ["transaction_timeout"] if known >= 170000 else []
    for name in timeouts:
        admin.cursor().execute(f"ALTER ROLE postgres SET {name} = '300ms'")
    try:
        with locked_session(cluster.settings, "app", doing="backup") as (conn, held):
            time.sleep(1)
            held.check()
            conn.cursor().execute("SELECT 1")
    finally:
        for name in timeouts:
            admin.cursor().execute(f"ALTER ROLE postgres RESET {name}")


def test_on_a_standby_nothing_is_locked(fresh_cluster):
    fresh_cluster.stop()
    (fresh_cluster.data_directory / "standby.signal").touch()
    fresh_cluster.start()
    with locked_session(fresh_cluster.settings, "app", doing="backup") as (conn, held):
        held.check()
        assert free(conn)
        conn.cursor().execute("SELECT pg_promote()")
        with pytest.raises(LockHeld, match="has been promoted"):
            held.check()


# Tenants ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def tenant(cluster, admin):
    """Somebody who owns a database, and can connect to the maintenance database as everybody can by default."""
    admin.cursor().execute("CREATE ROLE tenant LOGIN PASSWORD 'x'")
    admin.cursor().execute("CREATE DATABASE app OWNER tenant TEMPLATE template0")
    with contextlib.closing(
        psycopg2.connect(
            host="127.0.0.1",
            port=cluster.port,
            user="tenant",
            password="x",
            dbname="postgres",
            application_name="infrazero.database restore app",
        )
    ) as conn:
        conn.autocommit = True
        yield conn


def test_a_tenant_can_not_take_the_lock_of_0_1(cluster, tenant):
    """The key of release 0.1 is public: SHA-256 of the name."""
    digest = hashlib.sha256(b"infrazero.database\0app").digest()
    tenant.cursor().execute("SELECT pg_advisory_lock(%s)", (int.from_bytes(digest[:8], "big", signed=True),))
    with locked_session(cluster.settings, "app", doing="backup") as (_conn, held):
        held.check()


def test_a_tenant_can_not_take_the_lock(admin, tenant):
    assert free(admin)
    table = lock_table("app")
    # By its name, by way of the search_path, and by what takes a lock in passing.
    for statement in (
        *(f"BEGIN; LOCK TABLE infrazero.{table} IN {mode} MODE" for mode in ("ACCESS SHARE", "ACCESS EXCLUSIVE")),
        f"BEGIN; SET LOCAL search_path = infrazero; LOCK TABLE {table} IN SHARE UPDATE EXCLUSIVE MODE",
        f"VACUUM infrazero.{table}",
        f"BEGIN; ANALYZE infrazero.{table}",
        f"BEGIN; CREATE STATISTICS s ON a, b FROM infrazero.{table}",
        f"BEGIN; ALTER TABLE infrazero.{table} ADD COLUMN a int",
        f"BEGIN; TABLE infrazero.{table}",
    ):
        with pytest.raises((psycopg2.errors.InsufficientPrivilege, psycopg2.errors.UndefinedTable)):
            tenant.cursor().execute(statement)
        assert free(admin)
        tenant.cursor().execute("ROLLBACK")


def test_a_tenant_can_not_pass_for_the_holder(cluster, admin, tenant, other):
    tenant.cursor().execute("BEGIN; LOCK TABLE pg_catalog.pg_class IN ACCESS SHARE MODE")
    assert free(admin)
    with database_lock(other, "app"), pytest.raises(LockHeld) as caught, database_lock(admin, "app"):
        pytest.fail("two have the lock")
    assert f"process {other.info.backend_pid} (role postgres" in caught.value.cause


def test_a_tenant_can_not_keep_the_first_run_from_making_the_tables(cluster, admin, tenant):
    """Release 0.1 made them under an advisory lock whose key everybody can read."""
    tenant.cursor().execute("SELECT pg_advisory_lock(%s)", (0x696E6672617A65,))
    for mode in ("SHARE UPDATE EXCLUSIVE", "ACCESS EXCLUSIVE"):
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            tenant.cursor().execute(f"BEGIN; LOCK TABLE pg_catalog.pg_namespace IN {mode} MODE")
        tenant.cursor().execute("ROLLBACK")
    # What everybody may do with a catalog stays without effect, too.
    tenant.cursor().execute("BEGIN; LOCK TABLE pg_catalog.pg_namespace IN ACCESS SHARE MODE; CREATE TEMP TABLE mine ()")
    with contextlib.closing(connect(cluster.settings)) as conn, conn.cursor() as cursor:
        cursor.execute("SET statement_timeout = '5s'")
        state.ensure(conn)
        assert free(conn)


def test_a_tenant_who_is_let_into_the_schema_has_no_right_to_the_table(cluster, admin, tenant):
    assert free(admin)
    admin.cursor().execute("GRANT USAGE ON SCHEMA infrazero TO tenant")
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        tenant.cursor().execute(f"BEGIN; LOCK TABLE infrazero.{lock_table('app')} IN ACCESS SHARE MODE")


# --------------------------------------------------------------------------------------------------------------------


def test_a_session_with_the_lock_says_what_it_does(cluster, admin):
    with locked_session(cluster.settings, "app", doing="backup") as (_conn, held):
        held.check()
        assert holder_of(admin, "app").application_name == "infrazero.database backup app"
    assert holder_of(admin, "app") is None


@pytest.mark.parametrize("name", ["App", "app ", "'; SELECT 1; --", 'quote"', "%s%(x)s", "ü\u202e😀", "x" * 63])
def test_names_have_locks_of_their_own(cluster, admin, other, name):
    with contextlib.closing(connect(cluster.settings)) as third:
        with database_lock(other, "app"), database_lock(third, name):
            assert not free(admin, name)
        assert free(admin, name)
    tables = "SELECT obj_description(oid, 'pg_class') FROM pg_class WHERE relnamespace = 'infrazero'::regnamespace"
    assert repr(name) in cluster.psql(tables)


def test_an_error_of_the_work_comes_through_when_the_session_is_gone(cluster, admin, other):
    def work():
        with database_lock(other, "app"):
            cluster.end_session(other.info.backend_pid)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()
    assert free(admin)


def test_a_lost_lock_is_noticed(cluster, admin, other):
    with contextlib.ExitStack() as stack:
        held = stack.enter_context(database_lock(other, "app"))
        held.check()
        # As after a long stop of the process: the server has dropped the lock, another run has it.
        other.cursor().execute("ROLLBACK")
        with pytest.raises(LockHeld, match="no session holds it now"):
            held.check()
        with database_lock(admin, "app"), pytest.raises(LockHeld, match=f"process {admin.info.backend_pid}"):
            held.check()
        cluster.end_session(other.info.backend_pid)
        with pytest.raises(PostgresError, match="was lost"):
            held.check()


HOLDER = """
import contextlib, sys, time
sys.path[:0] = sys.argv[3:]
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql import connection
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.lock import locked_session
with locked_session(connection.ConnectionSettings(host=sys.argv[1], port=int(sys.argv[2])), "app", doing="backup"):
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
