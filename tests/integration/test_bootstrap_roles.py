# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses

import psycopg2.extensions
import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.plan import (
    AlterRole,
    ChangeOwner,
    CreateDatabase,
    CreateRole,
    Declaration,
    FinishDatabase,
    GrantDatabase,
    Password,
    plan_bootstrap,
)
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.secret import Secret
from ansible_collections.infrazero.database.plugins.module_utils._engine.errors import (
    ConfigurationError,
    ConnectionFailed,
    PostgresError,
)
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql import roles, scram, state
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.connection import connect
from psycopg2 import sql

from tests.support.queries import rows

ANN = Secret("ann's secret")
BOB = Secret("bob's secret")
DECLARATION = Declaration(passwords={"ann": ANN, "bob": BOB}, owners={"app": "ann", "web": "bob", "log": "ann"})
NASTY = [
    'quote"quote',
    "apostrophe'apostrophe",
    "semi;DROP_ROLE_x;--",
    "percent%s%(x)s%%",
    "{{jinja}}",
    "{braces}{}{0}",
    "back\\slash",
    "\x01\x1b\x7f",
    "ü\u202e\u0301😀",
    "x" * 63,
    "é" * 31 + "x",
    "CaSe",
    "case",
    "all",
    "replication",
    "dbname=postgres",
]


class Watched:
    """A session that notes what it sends, and tells *before* of it first."""

    def __init__(self, conn, before=lambda statement: None):
        self.conn = conn
        self.before = before
        self.sent = []

    def __getattr__(self, name):
        return getattr(self.conn, name)

    def cursor(self):
        watched = self

        class Cursor(psycopg2.extensions.cursor):
            def execute(self, statement, arguments=None):
                text = statement if isinstance(statement, str) else statement.as_string(self.connection)
                watched.before(text)
                watched.sent.append(text)
                return super().execute(statement, arguments)

        return self.conn.cursor(cursor_factory=Cursor)


def owners(conn):
    return dict(
        rows(
            conn,
            "SELECT datname::text, pg_get_userbyid(datdba)::text FROM pg_database"
            " WHERE datname NOT IN ('postgres', 'template0', 'template1')",
        )
    )


def plan(conn, declaration=DECLARATION):
    return plan_bootstrap(declaration, roles.look(conn, declaration).facts)


def logs_in(cluster, user, password, database="postgres"):
    try:
        connect(cluster.settings, user=user, password=password, database=database).close()
    except ConnectionFailed:
        return False
    return True


def test_from_nothing_to_everything_and_then_nothing_to_do(cluster, admin):
    wanted = plan(admin)
    assert [type(step) for step in wanted.steps] == [CreateRole] * 2 + [CreateDatabase] * 3
    assert owners(admin) == {}
    assert not state.exists(admin)
    done = roles.converge(admin, DECLARATION)
    assert done == wanted
    assert owners(admin) == DECLARATION.owners
    assert logs_in(cluster, "ann", ANN, "app")
    assert logs_in(cluster, "ann", ANN, "log")
    assert logs_in(cluster, "bob", BOB, "web")
    assert not logs_in(cluster, "ann", BOB)
    for database, user in DECLARATION.owners.items():
        for privilege in ("CREATE", "CONNECT", "TEMPORARY"):
            assert rows(admin, "SELECT has_database_privilege(%s, %s, %s)", user, database, privilege) == [(True,)]
    assert not plan(admin).changed
    again = roles.converge(admin, DECLARATION)
    assert not again.changed
    assert again.before == again.after == done.after


def test_roles_are_nothing_but_users(admin):
    roles.converge(admin, DECLARATION)
    found = rows(
        admin,
        "SELECT rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls, rolcanlogin, rolpassword"
        " FROM pg_authid WHERE rolname = 'ann'",
    )
    assert found[0][:6] == (False, False, False, False, False, True)
    assert scram.matches(found[0][6], ANN)


def test_all_roles_cost_one_statement_and_a_look_three_at_most(admin):
    watched = Watched(admin)
    roles.converge(watched, DECLARATION)
    changing = [text for text in watched.sent if "ROLE" in text]
    assert len(changing) == 1
    assert changing[0].count("CREATE ROLE") == 2
    watched.sent.clear()
    assert not roles.converge(watched, DECLARATION).changed
    assert len(watched.sent) == 3
    assert all(text.lstrip().startswith("SELECT") for text in watched.sent)


def test_one_change_is_one_step(cluster, admin):
    roles.converge(admin, DECLARATION)
    for statement, step in (
        ("ALTER ROLE ann NOLOGIN", AlterRole("ann", login=True)),
        ("ALTER ROLE ann VALID UNTIL '2001-01-01'", AlterRole("ann", unexpire=True)),
        ("ALTER ROLE ann PASSWORD 'another'", AlterRole("ann", password=ANN)),
        ("ALTER ROLE ann PASSWORD NULL", AlterRole("ann", password=ANN)),
        ("SET password_encryption = md5; ALTER ROLE ann PASSWORD 'ann''s secret'", AlterRole("ann", password=ANN)),
        ("ALTER DATABASE app OWNER TO bob", ChangeOwner("app", "ann", previous="bob")),
        ("REVOKE CREATE ON DATABASE app FROM ann", GrantDatabase("app", "ann", frozenset({"CREATE"}))),
        ("DROP DATABASE app", CreateDatabase("app", "ann")),
    ):
        admin.cursor().execute(statement)
        wanted = plan(admin)
        assert wanted.steps == (step,), statement
        assert len(set(wanted.before) ^ set(wanted.after)) == 2, statement
        assert roles.converge(admin, DECLARATION) == wanted, statement
        assert not plan(admin).changed, statement
    assert logs_in(cluster, "ann", ANN, "app")


def test_another_password_in_the_wish_replaces_the_old_one(cluster, admin):
    roles.converge(admin, DECLARATION)
    new = Secret("rotated")
    declaration = dataclasses.replace(DECLARATION, passwords={**DECLARATION.passwords, "ann": new})
    assert roles.converge(admin, declaration).steps == (AlterRole("ann", password=new),)
    assert logs_in(cluster, "ann", new)
    assert not logs_in(cluster, "ann", ANN)
    assert logs_in(cluster, "bob", BOB)


def test_what_nobody_wished_for_stays(admin):
    cursor = admin.cursor()
    for statement in (
        "CREATE ROLE team",
        "CREATE ROLE ann NOLOGIN CONNECTION LIMIT 7 VALID UNTIL '2999-01-01' IN ROLE team",
        "ALTER ROLE ann SET work_mem = '9MB'",
        "CREATE DATABASE app CONNECTION LIMIT 5",
        "REVOKE CONNECT ON DATABASE app FROM PUBLIC",
        "GRANT CONNECT ON DATABASE app TO team",
        "ALTER DATABASE app SET work_mem = '8MB'",
    ):
        cursor.execute(statement)
    roles.converge(admin, DECLARATION)
    assert rows(
        admin,
        "SELECT rolconnlimit, extract(year FROM rolvaliduntil)::int, pg_has_role('ann', 'team', 'MEMBER')"
        " FROM pg_roles WHERE rolname = 'ann'",
    ) == [(7, 2999, True)]
    assert rows(
        admin,
        "SELECT datconnlimit, has_database_privilege('bob', oid, 'CONNECT') FROM pg_database WHERE datname = 'app'",
    ) == [(5, False)]
    assert rows(admin, "SELECT has_database_privilege('team', 'app', 'CONNECT')") == [(True,)]
    assert len(rows(admin, "SELECT FROM pg_db_role_setting")) == 2


def test_a_database_of_the_superuser_is_taken_over_with_what_is_in_it(cluster, admin):
    admin.cursor().execute("CREATE DATABASE app")
    with contextlib.closing(connect(cluster.settings, database="app")) as conn:
        conn.cursor().execute("CREATE TABLE public.kept AS SELECT 1 AS one")
    steps = roles.converge(admin, DECLARATION).steps
    assert ChangeOwner("app", "ann", previous="postgres") in steps
    assert not any(isinstance(step, GrantDatabase) for step in steps)
    assert cluster.psql("SELECT one FROM public.kept", "app") == "1"


def test_the_plan_foresees_what_an_owner_hands_over(admin):
    """Whatever the privileges were, a plan that was applied leaves nothing to do."""
    cursor = admin.cursor()
    cursor.execute("CREATE ROLE ann; CREATE ROLE eve")
    for statement in (
        "REVOKE ALL ON DATABASE app FROM eve",
        "REVOKE ALL ON DATABASE app FROM PUBLIC",
        "REVOKE CREATE ON DATABASE app FROM eve; GRANT CREATE ON DATABASE app TO ann",
        "GRANT ALL ON DATABASE app TO ann",
    ):
        cursor.execute("CREATE DATABASE app OWNER eve")
        cursor.execute(statement)
        wanted = plan(admin)
        assert roles.converge(admin, DECLARATION) == wanted, statement
        assert not plan(admin).changed, statement
        assert rows(admin, "SELECT has_database_privilege('ann', 'app', 'CREATE')") == [(True,)], statement
        cursor.execute("DROP DATABASE app")


@pytest.mark.parametrize("name", NASTY)
def test_any_name_is_only_a_name(cluster, admin, name):
    declaration = Declaration({name: Secret(name)}, {name: name})
    roles.converge(admin, declaration)
    assert owners(admin) == {name: name}
    assert rows(admin, "SELECT rolname::text FROM pg_roles WHERE rolcanlogin AND NOT rolsuper") == [(name,)]
    assert not roles.converge(admin, declaration).changed
    assert logs_in(cluster, name, Secret(name), name)
    for spoil in ("ALTER ROLE {} NOLOGIN PASSWORD NULL", "ALTER DATABASE {} OWNER TO postgres"):
        admin.cursor().execute(sql.SQL(spoil).format(sql.Identifier(name)))
    assert len(roles.converge(admin, declaration).steps) == 2
    assert logs_in(cluster, name, Secret(name), name)


def test_names_that_differ_in_case_only(admin):
    declaration = Declaration({"App": ANN, "app": BOB, "APP": ANN}, {"App": "app", "app": "App", "APP": "APP"})
    roles.converge(admin, declaration)
    assert owners(admin) == declaration.owners
    assert not roles.converge(admin, declaration).changed


@pytest.mark.parametrize(
    ("preparation", "declaration", "reason"),
    [
        ([], Declaration({"postgres": ANN}, {"app": "postgres"}), "role 'postgres' is a superuser"),
        (["CREATE DATABASE app IS_TEMPLATE true"], DECLARATION, "database 'app' is a template"),
        (
            ["CREATE DATABASE app", "UPDATE pg_database SET datconnlimit = -2 WHERE datname = 'app'"],
            DECLARATION,
            "database 'app' is invalid",
        ),
    ],
)
def test_what_is_refused_changes_nothing(admin, preparation, declaration, reason):
    for statement in preparation:
        admin.cursor().execute(statement)
    with pytest.raises(ConfigurationError, match=reason):
        roles.converge(admin, declaration)
    assert rows(admin, "SELECT FROM pg_roles WHERE rolname IN ('ann', 'bob')") == []
    assert rows(admin, "SELECT rolpassword FROM pg_authid WHERE rolname = 'postgres'") == [(None,)]
    assert not state.exists(admin)


def test_a_failing_step_is_an_error_of_ours_without_a_secret(admin):
    admin.cursor().execute("SET default_transaction_read_only = on")
    with pytest.raises(PostgresError) as caught:
        roles.converge(admin, DECLARATION)
    assert caught.value.phase == "bootstrap"
    assert "25006" in caught.value.cause
    assert "SCRAM" not in str(caught.value)
    assert rows(admin, "SELECT FROM pg_roles WHERE rolname = 'ann'") == []


def test_after_an_interruption_the_rest_is_done(admin):
    names = {f"db{number}": "ann" for number in range(6)}
    declaration = Declaration({"ann": ANN}, names)

    class Killed(Exception):
        pass

    def kill(statement):
        if 'CREATE DATABASE "db3"' in statement:
            raise Killed

    with pytest.raises(Killed):
        roles.converge(Watched(admin, kill), declaration)
    assert sorted(owners(admin)) == ["db0", "db1", "db2"]
    assert [str(step) for step in roles.converge(admin, declaration).steps] == [
        f"create database 'db{number}' owned by 'ann'" for number in (3, 4, 5)
    ]
    assert owners(admin) == names


@pytest.mark.parametrize("statement", ['REVOKE ALL ON DATABASE "db1"', None])
def test_nobody_gets_into_a_database_that_is_only_half_made(cluster, admin, statement):
    """Killed between the two statements that make it, it is closed to everybody, and the next run finishes it."""
    admin.cursor().execute("CREATE ROLE eve LOGIN PASSWORD 'x'")
    declaration = Declaration({"ann": ANN}, {"db0": "ann", "db1": "ann"})
    tried = []

    class Killed(Exception):
        pass

    def watch(text):
        if "db1" in text and "db1" in owners(admin):
            tried.append(text)
            assert not logs_in(cluster, "eve", Secret("x"), "db1")
        if statement is not None and statement in text:
            raise Killed

    with pytest.raises(Killed) if statement else contextlib.nullcontext():
        roles.converge(Watched(admin, watch), declaration)
    assert tried
    if statement:
        assert not logs_in(cluster, "ann", ANN, "db1")
        assert plan(admin, declaration).steps == (FinishDatabase("db1"),)
        assert roles.converge(admin, declaration).steps == (FinishDatabase("db1"),)
    assert not plan(admin, declaration).changed
    for database in ("db0", "db1"):
        assert logs_in(cluster, "ann", ANN, database)
        assert not logs_in(cluster, "eve", Secret("x"), database)
        assert rows(admin, "SELECT has_database_privilege('eve', %s, 'TEMPORARY')", database) == [(False,)]
        assert rows(admin, "SELECT datconnlimit FROM pg_database WHERE datname = %s", database) == [(-1,)]


def test_a_database_that_somebody_has_closed_stays_closed(admin):
    roles.converge(admin, DECLARATION)
    admin.cursor().execute("ALTER DATABASE app ALLOW_CONNECTIONS false CONNECTION LIMIT 0")
    admin.cursor().execute("ALTER DATABASE web ALLOW_CONNECTIONS false")
    assert not roles.converge(admin, DECLARATION).changed
    closed = "SELECT datname::text FROM pg_database WHERE NOT datallowconn AND datname <> 'template0' ORDER BY 1"
    assert rows(admin, closed) == [("app",), ("web",)]


def test_a_tenant_in_template1_is_not_in_the_way(cluster, admin):
    """Nor is what somebody has put there in the new databases; encoding and locale are those of template1 as ever."""
    admin.cursor().execute("CREATE ROLE eve LOGIN PASSWORD 'x'")
    cluster.psql("CREATE TABLE planted ()", "template1")
    try:
        with contextlib.closing(connect(cluster.settings, user="eve", password=Secret("x"), database="template1")):
            roles.converge(admin, DECLARATION)
        assert cluster.psql("SELECT count(*) FROM pg_class WHERE relname = 'planted'", "app") == "0"
        how = "SELECT encoding, datcollate, datctype, dattablespace FROM pg_database WHERE datname = %s"
        assert rows(admin, how, "app") == rows(admin, how, "template1")
    finally:
        cluster.psql("DROP TABLE planted", "template1")


def test_databases_that_everybody_can_connect_to_are_told_and_left_alone(admin):
    cursor = admin.cursor()
    cursor.execute("CREATE ROLE ann; CREATE ROLE monitoring")
    cursor.execute("CREATE DATABASE app OWNER ann")
    cursor.execute("CREATE DATABASE not_listed")
    public = "SELECT datname::text FROM pg_database WHERE has_database_privilege('public', oid, 'CONNECT') ORDER BY 1"
    before = {name for (name,) in rows(admin, public)}
    (warning,) = roles.converge(admin, DECLARATION).warnings
    assert 'REVOKE CONNECT ON DATABASE "app", "postgres", "template1" FROM PUBLIC' in warning
    assert {name for (name,) in rows(admin, public)} == before
    assert not plan(admin).changed and plan(admin).warnings == (warning,)
    # The statement does what it says, and a grant to a role stays.
    cursor.execute("GRANT CONNECT ON DATABASE app TO monitoring")
    cursor.execute(warning.partition(": ")[2])
    try:
        assert plan(admin).warnings == ()
        assert rows(admin, "SELECT has_database_privilege('monitoring', 'app', 'CONNECT')") == [(True,)]
    finally:
        cursor.execute("GRANT CONNECT ON DATABASE postgres, template1 TO PUBLIC")


def test_somebody_else_may_be_faster(cluster, admin):
    """Roles and databases that appear after our look are no failure."""
    theirs = {'CREATE ROLE "ann"': "CREATE ROLE ann", 'CREATE DATABASE "web"': "CREATE DATABASE web"}

    def overtake(statement):
        for ours in [ours for ours in theirs if ours in statement]:
            admin.cursor().execute(theirs.pop(ours))

    with contextlib.closing(connect(cluster.settings)) as conn:
        done = roles.converge(Watched(conn, overtake), DECLARATION)
    assert theirs == {}
    assert set(map(str, done.steps)) == {
        "alter role 'ann': allow login, set password",
        "create role 'bob'",
        "create database 'app' owned by 'ann'",
        "create database 'log' owned by 'ann'",
        "change owner of database 'web' from 'postgres' to 'bob'",
    }
    assert done.before[0] == "role 'ann': absent"
    assert owners(admin) == DECLARATION.owners
    assert not plan(admin).changed
    assert logs_in(cluster, "ann", ANN)


def test_a_race_that_nobody_ran_is_an_error(admin):
    """The same refusal twice, with nothing less to do, isn't tried for ever."""
    attempts = []

    def refuse(statement):
        if "CREATE ROLE" in statement:
            attempts.append(statement)
            with admin.cursor() as cursor:
                cursor.execute("DO $$ BEGIN RAISE EXCEPTION 'refused' USING ERRCODE = '42710'; END $$")

    with pytest.raises(PostgresError, match="42710"):
        roles.converge(Watched(admin, refuse), DECLARATION)
    assert len(attempts) == 2
    assert rows(admin, "SELECT FROM pg_roles WHERE rolname = 'ann'") == []


def test_two_may_do_it_at_once(cluster):
    declaration = Declaration(
        {f"u{number}": Secret(f"p{number}") for number in range(8)}, {f"d{number}": f"u{number}" for number in range(8)}
    )

    def run(_number):
        with contextlib.closing(connect(cluster.settings)) as conn:
            return roles.converge(conn, declaration)

    with concurrent.futures.ThreadPoolExecutor(3) as executor:
        plans = list(executor.map(run, range(3)))
    made = [step.database for one in plans for step in one.steps if isinstance(step, CreateDatabase)]
    assert sorted(made) == sorted(declaration.owners)
    with contextlib.closing(connect(cluster.settings)) as conn:
        assert not plan(conn, declaration).changed


# Passwords ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("password", ["md5" + "0" * 32, scram.verifier(Secret("x")), "%s{}'\"\\", "ü\u0301😀"])
def test_any_password_is_only_a_password(cluster, admin, password):
    declaration = Declaration({"ann": Secret(password)}, {})
    roles.converge(admin, declaration)
    assert logs_in(cluster, "ann", Secret(password))
    assert not roles.converge(admin, declaration).changed


def test_the_proof_spares_the_comparison_and_nothing_else(admin, monkeypatch):
    roles.converge(admin, DECLARATION)
    compared = []
    real = scram.matches

    def spy(stored, password):
        compared.append(password)
        return real(stored, password)

    monkeypatch.setattr(scram, "matches", spy)
    assert roles.look(admin, DECLARATION).proven
    assert compared == []
    # It says nothing of another declaration, nor of what somebody else has changed.
    other = dataclasses.replace(DECLARATION, passwords={**DECLARATION.passwords, "ann": Secret("other")})
    assert roles.look(admin, other).facts.roles["ann"].password is Password.DIFFERS
    assert len(compared) == 2
    admin.cursor().execute("ALTER ROLE bob PASSWORD 'other'")
    found = roles.look(admin, DECLARATION)
    assert not found.proven
    assert found.facts.roles["ann"].password is Password.MATCHES
    assert found.facts.roles["bob"].password is Password.DIFFERS
    admin.cursor().execute("DROP SCHEMA infrazero CASCADE")
    assert len(roles.converge(admin, DECLARATION).steps) == 1
    assert roles.look(admin, DECLARATION).proven


def test_iterations_are_those_that_the_server_is_set_to(cluster, admin):
    if cluster.major < 16:
        pytest.skip("scram_iterations came with 16")
    admin.cursor().execute("SET scram_iterations = 5000")
    roles.converge(admin, DECLARATION)
    ((stored,),) = rows(admin, "SELECT rolpassword FROM pg_authid WHERE rolname = 'ann'")
    assert stored.startswith("SCRAM-SHA-256$5000:")


def test_no_secret_in_the_servers_log(fresh_cluster):
    fresh_cluster.psql(
        "ALTER SYSTEM SET log_statement = 'all'; ALTER SYSTEM SET log_min_duration_statement = 0;"
        "ALTER SYSTEM SET log_min_error_statement = 'debug5'; ALTER SYSTEM SET debug_print_parse = on;"
        "ALTER SYSTEM SET debug_print_rewritten = on; ALTER SYSTEM SET debug_print_plan = on; SELECT pg_reload_conf()"
    )
    with contextlib.closing(connect(fresh_cluster.settings)) as conn:
        roles.converge(conn, DECLARATION)
        conn.cursor().execute("ALTER ROLE ann NOLOGIN PASSWORD NULL")

        def vanish(statement):
            if 'ALTER ROLE "ann"' in statement and "PASSWORD" in statement:
                conn.cursor().execute("ALTER ROLE ann RENAME TO eve")

        # A batch that fails: the server would log its statement beside the error.
        failing = roles.look(conn, DECLARATION)
        steps = plan_bootstrap(DECLARATION, failing.facts).steps
        with pytest.raises(psycopg2.errors.UndefinedObject):
            roles._apply_roles(Watched(conn, vanish), steps, 4096)
        # What the log can hold at all.
        conn.cursor().execute("SELECT 'landmark'")
    log = fresh_cluster.log.read_text(encoding="utf-8")
    assert "landmark" in log
    assert "CREATE DATABASE" in log
    assert "SCRAM-SHA-256" not in log
    assert "secret" not in log
