# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import string
import subprocess

import psycopg2
import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.secret import Secret
from ansible_collections.infrazero.database.plugins.module_utils._engine.errors import (
    ConnectionFailed,
    LoadError,
    PostgresError,
)
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql import scram
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.connection import (
    ConnectionSettings,
    client_arguments,
    client_credentials,
    client_program,
    connect,
    translated,
)
from psycopg2 import sql

from tests.support.cluster import Cluster, wait_until

NASTY_NAMES = [
    'quote"quote',
    "apostrophe'apostrophe",
    "semi;DROP TABLE x;--",
    "percent%s%(x)s%%",
    "{{jinja}}",
    "$(touch${IFS}x)`id`",
    "dbname=postgres",
    "postgresql://x",
    "back\\slash",
    "--option",
    "\x01\x1b\x7f",
    "ü\u202e\u0301😀",
    "x" * 63,
    "é" * 31 + "x",
    "CaSe",
]

PASSWORDS = [
    "simple",
    string.punctuation,
    string.punctuation[::-1] * 3,
    "md5" + "0123456789abcdef" * 2,
    "SCRAM-SHA-256$4096:AAAA$" + "A" * 43 + "=:" + "A" * 43 + "=",
    " leading and trailing ",
    "control\x01\x1f\x7f",
    "line\nbreak",
    "ünïcödé",
    "e\u0301",
    "a\u00a0b\u200bc\u00add",
    "\u0627\u0644\u0639",
    "\u06271",
    "😀",
    "\U0002f868\uf951",
    "%s%(x)s{{ x }}",
    "x" * 500,
]


def query(conn, statement, *arguments):
    with conn.cursor() as cursor:
        cursor.execute(statement, arguments or None)
        return cursor.fetchone()[0]


@pytest.fixture
def tony(cluster, admin):
    """A role that may log in with a password, and the settings to do so as if it were the administrator."""
    password = Secret(string.punctuation)
    admin.cursor().execute("CREATE ROLE tony LOGIN SUPERUSER PASSWORD %s", (scram.verifier(password),))
    return dataclasses.replace(cluster.settings, host="127.0.0.1", user="tony", password=password)


def test_session_says_what_it_does(cluster):
    with contextlib.closing(connect(cluster.settings, application_name="infrazero.database backup app")) as conn:
        assert query(conn, "SHOW application_name") == "infrazero.database backup app"
        assert query(conn, "SELECT current_user") == "postgres"
        assert conn.autocommit


@pytest.mark.parametrize("name", NASTY_NAMES)
def test_any_database_name_is_only_a_name(cluster, admin, name):
    admin.cursor().execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    with contextlib.closing(connect(cluster.settings, database=name)) as conn:
        assert query(conn, "SELECT current_database()") == name


def test_settings_of_the_role_and_the_database_do_not_reach_our_statements(cluster, admin):
    cursor = admin.cursor()
    cursor.execute("CREATE DATABASE app")
    cursor.execute("ALTER DATABASE app SET search_path = evil, pg_catalog")
    cursor.execute("ALTER DATABASE app SET statement_timeout = 1")
    cursor.execute("ALTER DATABASE app SET default_transaction_read_only = on")
    cursor.execute("ALTER DATABASE app SET standard_conforming_strings = off")
    with contextlib.closing(connect(cluster.settings, database="app")) as conn:
        conn.cursor().execute("CREATE SCHEMA evil")
        conn.cursor().execute("CREATE FUNCTION evil.version() RETURNS text LANGUAGE sql AS $$ SELECT 'evil' $$")
    with contextlib.closing(connect(cluster.settings, database="app")) as conn:
        assert query(conn, "SELECT version()").startswith("PostgreSQL")
        assert query(conn, "SHOW statement_timeout") == "0"
        assert query(conn, "SELECT %s", "\\'") == "\\'"


@pytest.mark.parametrize("password", PASSWORDS)
def test_a_verifier_made_here_lets_its_password_in(cluster, admin, password):
    secret = Secret(password)
    admin.cursor().execute("CREATE ROLE tony LOGIN PASSWORD %s", (scram.verifier(secret),))
    with contextlib.closing(connect(cluster.settings, user="tony", password=secret)) as conn:
        assert query(conn, "SELECT current_user") == "tony"
    with pytest.raises(ConnectionFailed) as caught:
        connect(cluster.settings, user="tony", password=Secret(password + "x"))
    assert password not in str(caught.value)


# What looks like a hash, the server takes for one.
@pytest.mark.parametrize("password", [text for text in PASSWORDS if not text.startswith(("md5", "SCRAM-"))])
def test_a_verifier_that_the_server_made_is_recognised(admin, password):
    admin.cursor().execute("CREATE ROLE tony PASSWORD %s", (password,))
    stored = query(admin, "SELECT rolpassword FROM pg_authid WHERE rolname = 'tony'")
    assert scram.matches(stored, Secret(password))
    assert not scram.matches(stored, Secret(password + "x"))


def test_a_role_comes_in_the_way_that_was_chosen(cluster, admin):
    admin.cursor().execute("CREATE ROLE tony LOGIN")
    settings = dataclasses.replace(cluster.settings, login_host="127.255.255.254")
    with pytest.raises(ConnectionFailed, match="Connection refused"):
        connect(settings, user="tony", password=Secret("x"))
    with pytest.raises(ConnectionFailed, match="Peer authentication failed"):
        connect(settings, user="tony", password=Secret("x"), through_socket=True)


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        ({"host": "/nowhere"}, "is the server running"),
        ({"port": 1}, "is the server running"),
        ({"host": "127.0.0.1", "port": 1}, "listen_addresses"),
        ({"host": "host.invalid"}, "resolver"),
        ({"user": "nobody"}, "operating system user"),
        ({"maintenance_database": "absent"}, "case-sensitive"),
        ({"host": "127.0.0.1"}, "asks for a password"),
        ({"host": "127.0.0.1", "password": Secret("canary")}, "password"),
    ],
)
def test_why_there_is_no_session(cluster, change, hint, monkeypatch):
    monkeypatch.setenv("PGPASSFILE", "/nowhere")
    with pytest.raises(ConnectionFailed) as caught:
        connect(dataclasses.replace(cluster.settings, **change))
    assert hint in caught.value.hint
    assert caught.value.phase == "connect"
    assert "\n" not in caught.value.cause
    assert "canary" not in str(caught.value)


def test_no_line_in_pg_hba(fresh_cluster):
    hba = fresh_cluster.data_directory / "pg_hba.conf"
    hba.write_text("local all all peer map=local\n", encoding="utf-8")
    fresh_cluster.psql("SELECT pg_reload_conf()")
    with contextlib.closing(connect(fresh_cluster.settings)) as conn:
        wait_until(lambda: query(conn, "SELECT pg_conf_load_time() > pg_postmaster_start_time()"))
    with pytest.raises(ConnectionFailed) as caught:
        connect(fresh_cluster.settings, user="tony", password=Secret("x"))
    assert "pg_hba.conf, then reload" in caught.value.hint


def test_too_many_sessions(shared_cluster):
    few = {"max_connections": "3", "superuser_reserved_connections": "0", "max_wal_senders": "0"}
    with Cluster(shared_cluster.major, configuration=few) as cluster, contextlib.ExitStack() as stack:
        for _number in range(3):
            stack.enter_context(contextlib.closing(connect(cluster.settings)))
        with pytest.raises(ConnectionFailed) as caught:
            connect(cluster.settings)
    assert "max_connections" in caught.value.hint


def failing(conn, statement):
    with translated("it failed", kind=LoadError, phase="load"):
        conn.cursor().execute(statement)


@pytest.mark.parametrize(
    ("statement", "cause"),
    [
        ("SELECT 'canary'::int", "invalid text representation (SQLSTATE 22P02)"),
        ("DO $$ BEGIN RAISE EXCEPTION 'canary' USING DETAIL = 'canary'; END $$", "raise exception (SQLSTATE P0001)"),
        (
            "CREATE TEMP TABLE rows (id text PRIMARY KEY); INSERT INTO rows VALUES ('canary'), ('canary')",
            'duplicate key value violates unique constraint "rows_pkey" (SQLSTATE 23505)',
        ),
        (
            "CREATE TEMP TABLE short (id char(3)); INSERT INTO short VALUES ('canary')",
            "string data right truncation (SQLSTATE 22001)",
        ),
        ("SET TimeZone = 'nowhere'", 'invalid value for parameter "TimeZone": "nowhere" (SQLSTATE 22023)'),
    ],
)
def test_no_row_stands_in_an_error(admin, statement, cause):
    with pytest.raises(LoadError) as caught:
        failing(admin, statement)
    assert caught.value.cause == cause
    assert "canary" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_a_session_that_was_ended(cluster):
    with contextlib.closing(connect(cluster.settings)) as victim:
        pid = victim.info.backend_pid
        cluster.end_session(pid)
        with pytest.raises(PostgresError) as caught:
            failing(victim, "SELECT 1")
    assert caught.value.hint


def test_hints_come_with_the_servers_code(cluster, admin):
    with contextlib.closing(connect(cluster.settings)) as conn:
        conn.set_session(readonly=True)
        with pytest.raises(PostgresError) as caught:
            failing(conn, "CREATE ROLE tony")
    assert "standby" in caught.value.hint


# Client programs ----------------------------------------------------------------------------------------------------


def dump(cluster, settings, database, environment=None, **options):
    program = client_program("pg_dump", cluster.major * 10000)
    return subprocess.run(
        [program, "--no-password", *client_arguments(settings, database)],
        env={"PATH": os.defpath, "LC_ALL": "C.UTF-8", **(environment or {})},
        capture_output=True,
        check=False,
        **options,
    )


def test_client_program_is_of_the_servers_major(cluster, admin):
    program = client_program("pg_dump", int(query(admin, "SHOW server_version_num")))
    assert program == str(cluster.bindir / "pg_dump")
    assert client_program("pg_restore", cluster.major * 10000, newest=True).endswith("/pg_restore")


def test_pg_dump_logs_in_with_the_password_from_memory(cluster, tony):
    with client_credentials(tony) as (environment, descriptors):
        done = dump(cluster, tony, "postgres", environment, pass_fds=descriptors)
    assert done.returncode == 0, done.stderr
    assert b"PostgreSQL database dump complete" in done.stdout


def test_pg_dump_without_it_is_refused(cluster, tony):
    done = dump(cluster, tony, "postgres")
    assert done.returncode != 0
    assert b"no password supplied" in done.stderr


def test_the_password_is_in_no_argument_nor_environment(cluster, tony):
    secret = tony.password.reveal()
    argv = [str(cluster.bindir / "psql"), "--no-psqlrc", "--no-password", *client_arguments(tony, "postgres")]
    with contextlib.ExitStack() as stack:
        environment, descriptors = stack.enter_context(client_credentials(tony))
        child = stack.enter_context(
            subprocess.Popen(
                argv,
                env={"PATH": os.defpath, **environment},
                pass_fds=descriptors,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
        child.stdin.write("SELECT 'ready';\n")
        child.stdin.flush()
        for line in child.stdout:
            if "ready" in line:
                break
        seen = pathlib.Path(f"/proc/{child.pid}/environ").read_bytes()
        seen += pathlib.Path(f"/proc/{child.pid}/cmdline").read_bytes()
        child.stdin.close()
    assert b"/proc/self/fd/" in seen
    assert secret.encode() not in seen


@pytest.mark.parametrize("name", NASTY_NAMES)
def test_pg_dump_takes_any_database_name(cluster, admin, name):
    admin.cursor().execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    with contextlib.closing(connect(cluster.settings, database=name)) as conn:
        conn.cursor().execute("CREATE TABLE public.only_here ()")
    done = dump(cluster, cluster.settings, name)
    assert done.returncode == 0, done.stderr
    assert b"only_here" in done.stdout


def test_a_library_error_without_a_code_is_translated():
    with pytest.raises(PostgresError, match="it failed"), translated("it failed"):
        raise psycopg2.InterfaceError("connection already closed")


def test_settings_show_no_password():
    assert "canary" not in repr(ConnectionSettings(password=Secret("canary")))
