# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import dataclasses
import re
import threading
import time

import psycopg2
import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain import names
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.secret import Secret
from ansible_collections.infrazero.database.plugins.module_utils._engine.errors import (
    ConnectionFailed,
    EngineError,
    PostgresError,
    RestoreRefused,
)
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql import (
    database_settings,
    loader_role,
    sessions,
    staging,
    swap,
)
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.connection import connect
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.database_settings import (
    Creation,
)

from tests.support.cluster import Cluster
from tests.support.queries import rows, run

LOADER = "infrazero_restore_t1"


@pytest.fixture
def helper(cluster):
    with contextlib.closing(connect(cluster.settings)) as connection:
        yield connection


def existing(connection):
    return {name for (name,) in rows(connection, "SELECT datname FROM pg_database")} - {
        "postgres",
        "template0",
        "template1",
    }


def make(cluster, name, marker):
    """A database with one table that says which one it is."""
    cluster.psql(f'CREATE DATABASE "{name}"')
    cluster.psql(f"CREATE TABLE marker AS SELECT '{marker}'::text AS which", name)


def which(cluster, name):
    return cluster.psql("SELECT which FROM marker", name)


# The throwaway role -------------------------------------------------------------------------------------------------


ATTRIBUTES = (
    "SELECT rolcanlogin, rolsuper, rolcreatedb, rolcreaterole, rolreplication, rolbypassrls FROM pg_roles"
    " WHERE rolname = %s"
)


def test_the_throwaway_role_may_do_nothing_and_log_in_only_while_we_do(cluster, admin, monkeypatch):
    loader_role.create_loader_role(admin, LOADER, temp_file_limit=10 << 20)
    assert rows(admin, ATTRIBUTES, LOADER) == [(False,) * 6]
    assert (
        rows(admin, "SELECT 1 FROM pg_auth_members WHERE member = %s::regrole OR roleid = %s::regrole", LOADER, LOADER)
        == []
    )
    seen = []

    def look(*arguments, **options):
        seen.append(rows(admin, ATTRIBUTES, LOADER)[0][0])
        seen.append(
            rows(
                admin,
                "SELECT rolpassword LIKE 'SCRAM-SHA-256$%%',"
                " rolvaliduntil BETWEEN now() + interval '4 minutes' AND now() + interval '5 minutes'"
                " FROM pg_authid WHERE rolname = %s",
                LOADER,
            )[0]
        )
        return connect(*arguments, **options)

    monkeypatch.setattr(loader_role, "connect", look)
    with contextlib.closing(
        loader_role.connect_loader(cluster.settings, admin, database="postgres", role=LOADER)
    ) as loader:
        assert seen == [True, (True, True)]
        assert rows(admin, ATTRIBUTES, LOADER) == [(False,) * 6]
        assert rows(loader, "SHOW temp_file_limit") == [("10MB",)]
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            run(loader, "SET temp_file_limit = -1")


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER ROLE CURRENT_USER LOGIN",
        "ALTER ROLE CURRENT_USER VALID UNTIL 'infinity'",
        "ALTER ROLE CURRENT_USER CONNECTION LIMIT -1",
        "ALTER ROLE CURRENT_USER LOGIN PASSWORD 'known'",
    ],
)
def test_the_throwaway_role_can_not_let_itself_in(cluster, admin, statement):
    loader_role.create_loader_role(admin, LOADER)
    with contextlib.closing(
        loader_role.connect_loader(cluster.settings, admin, database="postgres", role=LOADER)
    ) as loader:
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            run(loader, statement)
        run(loader, "ALTER ROLE CURRENT_USER PASSWORD 'known'")
    with pytest.raises(ConnectionFailed, match="not permitted to log in"):
        connect(cluster.settings, user=LOADER, password=Secret("known"))


def test_the_role_is_shut_out_where_its_login_fails(cluster, admin):
    loader_role.create_loader_role(admin, LOADER)
    with pytest.raises(ConnectionFailed, match="can't log in"):
        loader_role.connect_loader(cluster.settings, admin, database="absent", role=LOADER)
    assert rows(admin, ATTRIBUTES, LOADER) == [(False,) * 6]


def test_the_throwaway_role_fills_its_stage_over_tcp_and_is_gone_afterwards(cluster, admin):
    loader_role.create_loader_role(admin, LOADER)
    staging.create_staging(admin, "shop__restore_t1", loader=LOADER, like=Creation())
    inside = connect(cluster.settings, database="shop__restore_t1")
    staging.open_staging(inside, LOADER)
    inside.close()
    loader = loader_role.connect_loader(cluster.settings, admin, database="shop__restore_t1", role=LOADER)
    assert rows(loader, "SELECT inet_server_addr() IS NOT NULL") == [(True,)]
    run(loader, "CREATE TABLE public.t (); DROP SCHEMA public CASCADE; CREATE SCHEMA public; CREATE SCHEMA s")
    for statement in (
        'ALTER DATABASE "shop__restore_t1" SET search_path = evil',
        "ALTER DATABASE postgres SET search_path = evil",
        "CREATE DATABASE other",
        "CREATE ROLE other",
        "COPY (SELECT 1) TO PROGRAM 'true'",
        "SELECT pg_read_file('postgresql.conf')",
        "SET ROLE postgres",
    ):
        with pytest.raises(psycopg2.Error):
            run(loader, statement)
    staging.drop_database(admin, "shop__restore_t1")
    loader_role.drop_loader_role(admin, LOADER)
    loader_role.drop_loader_role(admin, LOADER)
    assert rows(admin, "SELECT rolname FROM pg_roles WHERE rolname = %s", LOADER) == []


def test_dropping_the_role_ends_its_sessions_and_takes_its_privileges(cluster, admin):
    loader_role.create_loader_role(admin, LOADER)
    run(admin, f"GRANT CONNECT ON DATABASE postgres TO {LOADER}")
    session = loader_role.connect_loader(cluster.settings, admin, database="postgres", role=LOADER)
    loader_role.drop_loader_role(admin, LOADER)
    # The signal may still be on its way: the backend gets the time to see it.
    with pytest.raises(psycopg2.OperationalError):
        run(session, "SELECT pg_sleep(30)")


def test_a_role_that_still_owns_a_stage_is_not_dropped(admin):
    loader_role.create_loader_role(admin, LOADER)
    run(admin, f"CREATE DATABASE d OWNER {LOADER}")
    with pytest.raises(PostgresError, match=f"throwaway role {LOADER} can't be dropped"):
        loader_role.drop_loader_role(admin, LOADER)


def test_a_server_that_lets_the_role_not_in_is_told_with_what_to_do(cluster, admin):
    loader_role.create_loader_role(admin, LOADER)
    # Nothing listens there, and through the socket only peers get in.
    settings = dataclasses.replace(cluster.settings, login_host="127.0.0.2")
    with pytest.raises(ConnectionFailed, match="can't log in") as caught:
        loader_role.connect_loader(settings, admin, database="postgres", role=LOADER)
    assert 'pg_hba.conf needs a line such as "host all all 127.0.0.2/32 scram-sha-256"' in caught.value.hint
    assert "listen on 127.0.0.2" in caught.value.hint


# The stage ----------------------------------------------------------------------------------------------------------


def test_a_stage_is_empty_closed_and_like_the_replaced_database(cluster, admin, tmp_path_factory):
    run(admin, "CREATE ROLE shop LOGIN")
    run(admin, "CREATE DATABASE shop TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'")
    cluster.psql("CREATE TABLE not_in_stages ()", "template1")
    loader_role.create_loader_role(admin, LOADER)
    like = database_settings.capture(admin, "shop").creation
    staging.create_staging(admin, "shop__restore_t1", loader=LOADER, like=like)
    stage = database_settings.capture(admin, "shop__restore_t1")
    assert stage.creation == like
    assert (like.encoding, like.provider, like.collate, like.ctype) == ("LATIN1", "libc", "C", "C")
    assert stage.allow_connections
    assert stage.owner == "postgres"
    assert {(entry.grantee, entry.privilege) for entry in stage.privileges if entry.grantee != "postgres"} == {
        (LOADER, "CONNECT"),
        (LOADER, "CREATE"),
        (LOADER, "TEMPORARY"),
    }
    assert cluster.psql("SELECT count(*) FROM pg_class WHERE relname = 'not_in_stages'", "shop__restore_t1") == "0"
    cluster.psql("DROP TABLE not_in_stages", "template1")


def test_a_stage_like_a_database_with_an_icu_locale(cluster, admin):
    if not cluster.has_icu:
        pytest.skip("this server has no ICU locales for databases")
    run(
        admin,
        "CREATE DATABASE shop TEMPLATE template0 ENCODING 'UTF8' LOCALE_PROVIDER icu ICU_LOCALE 'de-DE' LOCALE 'C'",
    )
    loader_role.create_loader_role(admin, LOADER)
    like = database_settings.capture(admin, "shop").creation
    assert (like.provider, like.locale) == ("icu", "de-DE")
    staging.create_staging(admin, "shop__restore_t1", loader=LOADER, like=like)
    assert database_settings.capture(admin, "shop__restore_t1").creation == like


def test_a_stage_in_the_tablespace_of_the_replaced_database(cluster, admin):
    run(admin, "SET allow_in_place_tablespaces = on") if admin.info.server_version >= 150000 else pytest.skip("15+")
    run(admin, "CREATE TABLESPACE fast LOCATION ''")
    try:
        run(admin, "CREATE DATABASE shop TABLESPACE fast")
        loader_role.create_loader_role(admin, LOADER)
        like = database_settings.capture(admin, "shop").creation
        staging.create_staging(admin, "shop__restore_t1", loader=LOADER, like=like)
        assert database_settings.capture(admin, "shop__restore_t1").creation.tablespace == "fast"
    finally:
        for name in existing(admin):
            staging.drop_database(admin, name)
        run(admin, "DROP TABLESPACE fast")


@pytest.mark.parametrize(
    ("like", "hint"),
    [
        (Creation(encoding="UTF8", collate="xx_XX.UTF-8", ctype="xx_XX.UTF-8"), "lacks a locale.*xx_XX.*locale-gen"),
        (Creation(tablespace="nowhere"), "create the tablespace nowhere first"),
        (Creation(encoding="LATIN1", collate="C.UTF-8", ctype="C.UTF-8"), "doesn't fit the encoding"),
        (Creation(encoding="NOT-ONE"), "encoding NOT-ONE.*doesn't have it"),
    ],
)
def test_a_stage_that_can_not_be_made_says_what_is_missing(admin, like, hint):
    loader_role.create_loader_role(admin, LOADER)
    with pytest.raises(PostgresError) as caught:
        staging.create_staging(admin, "shop__restore_t1", loader=LOADER, like=like)
    assert caught.value.phase == "create"
    assert re.search(hint, caught.value.hint), caught.value
    assert existing(admin) == set()


def test_a_locale_provider_that_this_server_has_not(admin):
    with pytest.raises(RestoreRefused, match="has no locale provider 'newer'"):
        staging.create_staging(admin, "s", loader=LOADER, like=Creation(provider="newer"))
    assert existing(admin) == set()


def test_a_closed_stage_has_no_way_in(cluster, admin):
    """Neither for the throwaway role nor for whom it has let in, or who is in already."""
    run(admin, f"CREATE ROLE shop LOGIN PASSWORD 'x'; CREATE ROLE {LOADER}_friend LOGIN PASSWORD 'x'")
    loader_role.create_loader_role(admin, LOADER)
    # As it never may: so that nothing but the stage keeps it out.
    run(admin, f"ALTER ROLE {LOADER} LOGIN PASSWORD 'x'")
    staging.create_staging(admin, "shop__restore_t1", loader=LOADER, like=Creation())
    run(admin, f"GRANT {LOADER} TO shop; GRANT CONNECT ON DATABASE shop__restore_t1 TO {LOADER}_friend")
    credentials = [(LOADER, Secret("x")), ("shop", Secret("x")), (f"{LOADER}_friend", Secret("x"))]

    def log_in(user, secret):
        return connect(cluster.settings, database="shop__restore_t1", user=user, password=secret)

    inside = [log_in(*credential) for credential in credentials]
    with contextlib.closing(connect(cluster.settings, database="shop__restore_t1")) as stage:
        staging.close_staging(stage, "shop__restore_t1")
        assert rows(stage, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()") == [(1,)]
    for session in inside:
        with pytest.raises(psycopg2.OperationalError):
            run(session, "SELECT 1")
    for credential in credentials:
        with pytest.raises(ConnectionFailed, match="permission denied for database"):
            log_in(*credential)


# Carrying over ------------------------------------------------------------------------------------------------------

CATALOG = """
SELECT r.rolname, s.setconfig FROM pg_db_role_setting s LEFT JOIN pg_roles r ON r.oid = s.setrole
WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = %s) ORDER BY 1
"""


def test_everything_that_belongs_to_a_database_is_carried_over(admin):
    run(admin, 'CREATE ROLE shop; CREATE ROLE "read er"; CREATE ROLE chain; CREATE ROLE "Odd""name"')
    run(admin, "CREATE DATABASE shop OWNER shop")
    run(
        admin,
        """
        ALTER DATABASE shop CONNECTION LIMIT 17;
        COMMENT ON DATABASE shop IS 'it''s \\ the "shop"';
        REVOKE ALL ON DATABASE shop FROM PUBLIC;
        GRANT TEMPORARY ON DATABASE shop TO PUBLIC;
        GRANT CONNECT ON DATABASE shop TO "read er" WITH GRANT OPTION;
        REVOKE CREATE ON DATABASE shop FROM shop;
        ALTER DATABASE shop SET work_mem = '7MB';
        ALTER DATABASE shop SET "TimeZone" = 'Europe/Berlin';
        ALTER DATABASE shop SET search_path = main, "with, comma", "with ""a quote", '$user';
        ALTER DATABASE shop SET "shop.setting" = 'a, "b", ''c''';
        ALTER ROLE shop IN DATABASE shop SET search_path = '';
        ALTER ROLE "Odd""name" IN DATABASE shop SET statement_timeout = '5s';
        ALTER ROLE shop IN DATABASE shop SET log_min_duration_statement = 0;
        """,
    )
    run(admin, 'SET ROLE "read er"; GRANT CONNECT ON DATABASE shop TO chain; RESET ROLE')
    run(admin, "CREATE DATABASE stage OWNER shop")
    run(admin, "ALTER DATABASE stage SET work_mem = '1MB'; ALTER ROLE chain IN DATABASE stage SET jit = off")
    old = database_settings.capture(admin, "shop")
    database_settings.apply(admin, "stage", old)
    assert database_settings.capture(admin, "stage") == old
    assert rows(admin, CATALOG, "stage") == rows(admin, CATALOG, "shop")
    acl = "SELECT array(SELECT unnest(datacl)::text ORDER BY 1) FROM pg_database WHERE datname = %s"
    assert rows(admin, acl, "stage") == rows(admin, acl, "shop")
    assert old.connection_limit == 17
    assert old.comment == 'it\'s \\ the "shop"'


def test_a_database_that_was_never_touched_is_carried_over(admin):
    run(admin, "CREATE ROLE shop")
    run(admin, "CREATE DATABASE shop OWNER shop")
    loader_role.create_loader_role(admin, LOADER)
    staging.create_staging(admin, "stage", loader=LOADER, like=Creation())
    run(admin, "ALTER DATABASE stage OWNER TO shop")
    old = database_settings.capture(admin, "shop")
    database_settings.apply(admin, "stage", old)
    assert database_settings.capture(admin, "stage") == old
    # The list itself can't become NULL again, but it says the same.
    assert rows(
        admin,
        "SELECT datacl::text[] <@ acldefault('d', datdba)::text[] AND datacl::text[] @> acldefault('d', datdba)::text[]"
        " FROM pg_database WHERE datname = 'stage'",
    ) == [(True,)]
    database_settings.apply(admin, "stage", old)
    assert database_settings.capture(admin, "stage") == old


def test_closed_databases_and_templates_stay_so(admin):
    run(admin, "CREATE DATABASE shop ALLOW_CONNECTIONS false IS_TEMPLATE true CONNECTION LIMIT 0")
    run(admin, "CREATE DATABASE stage")
    old = database_settings.capture(admin, "shop")
    database_settings.apply(admin, "stage", old)
    assert database_settings.capture(admin, "stage") == old
    assert (old.allow_connections, old.is_template, old.connection_limit) == (False, True, 0)


def test_the_owner_s_privileges_go_to_the_new_owner(admin):
    run(admin, "CREATE ROLE before; CREATE ROLE after; CREATE ROLE reader")
    run(admin, "CREATE DATABASE shop OWNER before")
    run(admin, "REVOKE ALL ON DATABASE shop FROM PUBLIC; GRANT CONNECT ON DATABASE shop TO reader")
    run(admin, "CREATE DATABASE stage OWNER after")
    database_settings.apply(admin, "stage", database_settings.capture(admin, "shop"))
    stage = database_settings.capture(admin, "stage")
    assert stage.owner == "after"
    assert {entry.grantor for entry in stage.privileges} == {"after"}
    assert {entry.grantee for entry in stage.privileges} == {"after", "reader"}


def test_settings_come_over_whole_or_not_at_all(admin):
    run(admin, "CREATE DATABASE stage CONNECTION LIMIT 3")
    before = database_settings.capture(admin, "stage")
    broken = dataclasses.replace(
        before,
        connection_limit=5,
        parameters=(
            database_settings.Parameter(None, "work_mem", "1MB"),
            database_settings.Parameter(None, "work_mem_", "x"),
        ),
    )
    with pytest.raises(PostgresError, match="can't be given to 'stage'"):
        database_settings.apply(admin, "stage", broken)
    assert database_settings.capture(admin, "stage") == before


def test_a_database_that_is_not_there_has_no_settings(admin):
    with pytest.raises(PostgresError, match="there is no database 'shop'"):
        database_settings.capture(admin, "shop")


# The swap -----------------------------------------------------------------------------------------------------------


def swapped(admin, helper, record=lambda _kept: None, **options):
    names_ = {"database": "shop", "stage": "shop__restore_t1", "keep_as": "shop__replaced_t1", "owner": "postgres"}
    return swap.swap(admin, helper, record=record, **{**names_, **options})


def test_the_stage_takes_the_place_and_the_old_one_is_kept(cluster, admin, helper):
    make(cluster, "shop", "old")
    make(cluster, "shop__restore_t1", "new")
    run(admin, "CREATE TABLE IF NOT EXISTS public.swaps (name text); TRUNCATE public.swaps")
    run(admin, "ALTER DATABASE shop CONNECTION LIMIT 9; COMMENT ON DATABASE shop IS 'the shop'")
    before = database_settings.capture(admin, "shop")
    passed: list[swap.Kept] = []

    def record(kept):
        passed.append(kept)
        run(admin, "INSERT INTO public.swaps VALUES ('shop')")

    result = swapped(admin, helper, record=record, public_connect=True)
    assert result == swap.SwapResult(kept="shop__replaced_t1", sessions=(), warnings=())
    (kept,) = passed
    assert (kept.name, kept.settings) == ("shop__replaced_t1", before)
    assert existing(admin) == {"shop", "shop__replaced_t1"}
    assert (which(cluster, "shop"), which(cluster, "shop__replaced_t1")) == ("new", "old")
    assert database_settings.capture(admin, "shop") == before
    closed = database_settings.capture(admin, "shop__replaced_t1")
    assert {entry.grantee for entry in closed.privileges} == {"postgres"}
    assert dataclasses.replace(closed, privileges=before.privileges) == before
    assert rows(admin, "SELECT name FROM public.swaps") == [("shop",)]
    run(admin, "DROP TABLE public.swaps")


def test_the_new_database_changes_hands_in_the_swap(cluster, admin, helper):
    """Until the commit the stage is the administrator's; privileges of the old owner are the new one's then."""
    run(admin, "CREATE ROLE before; CREATE ROLE after; CREATE ROLE reader")
    make(cluster, "shop", "old")
    make(cluster, "shop__restore_t1", "new")
    run(admin, "ALTER DATABASE shop OWNER TO before; GRANT CONNECT ON DATABASE shop TO reader")
    stage = "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'shop__restore_t1'"

    def fails(_kept):
        assert rows(helper, stage) == [("postgres",)]
        raise EngineError("the record failed")

    with pytest.raises(EngineError, match="the record failed"):
        swapped(admin, helper, owner="after", record=fails)
    assert rows(admin, stage) == [("postgres",)]
    swapped(admin, helper, owner="after")
    found = database_settings.capture(admin, "shop")
    assert found.owner == "after"
    assert {(entry.grantor, entry.grantee, entry.privilege) for entry in found.privileges} == {
        *(("after", "after", privilege) for privilege in ("CREATE", "CONNECT", "TEMPORARY")),
        ("after", "reader", "CONNECT"),
        ("after", None, "TEMPORARY"),
    }
    assert database_settings.capture(admin, "shop__replaced_t1").owner == "postgres"


def public_privileges(admin, database):
    return {entry.privilege for entry in database_settings.capture(admin, database).privileges if entry.grantee is None}


def test_public_gets_its_connect_back_only_where_that_is_asked_for(cluster, admin, helper):
    run(admin, "CREATE ROLE monitoring")
    make(cluster, "shop", "old")
    make(cluster, "shop__restore_t1", "new")
    run(admin, "GRANT CONNECT ON DATABASE shop TO monitoring")
    (warning,) = swapped(admin, helper).warnings
    assert "CONNECT of PUBLIC on 'shop' was left out" in warning and "GRANT CONNECT ON DATABASE" in warning
    assert public_privileges(admin, "shop") == {"TEMPORARY"}
    assert rows(admin, "SELECT has_database_privilege('monitoring', 'shop', 'CONNECT')") == [(True,)]
    # Once: what is replaced next has no such privilege.
    make(cluster, "shop__restore_t1", "newer")
    assert swapped(admin, helper, keep_as="shop__replaced_t2", public_connect=True).warnings == ()
    assert public_privileges(admin, "shop") == {"TEMPORARY"}
    # Asked for, and there.
    run(admin, "GRANT CONNECT ON DATABASE shop TO PUBLIC")
    make(cluster, "shop__restore_t1", "newest")
    assert swapped(admin, helper, keep_as="shop__replaced_t3", public_connect=True).warnings == ()
    assert public_privileges(admin, "shop") == {"TEMPORARY", "CONNECT"}


def test_public_gets_nothing_where_there_is_no_old_database(admin, helper):
    loader_role.create_loader_role(admin, LOADER)
    staging.create_staging(admin, "shop__restore_t1", loader=LOADER, like=Creation())
    swapped(admin, helper, public_connect=True)
    assert public_privileges(admin, "shop") == set()


def test_a_setting_made_while_the_restore_ran_is_not_lost(cluster, admin, helper):
    make(cluster, "shop", "old")
    make(cluster, "shop__restore_t1", "new")
    run(admin, "ALTER DATABASE shop SET work_mem = '9MB'")
    swapped(admin, helper)
    assert cluster.psql("SHOW work_mem", "shop") == "9MB"


def test_without_an_old_database_the_stage_is_renamed(cluster, admin, helper):
    make(cluster, "shop__restore_t1", "new")
    run(admin, "CREATE DATABASE gone CONNECTION LIMIT 4")
    settings = database_settings.capture(admin, "gone")
    staging.drop_database(admin, "gone")
    assert swapped(admin, helper, settings=settings).kept is None
    assert which(cluster, "shop") == "new"
    assert database_settings.capture(admin, "shop").connection_limit == 4


def test_a_record_that_fails_leaves_everything_as_it_was(cluster, admin, helper):
    make(cluster, "shop", "old")
    make(cluster, "shop__restore_t1", "new")
    run(admin, "ALTER DATABASE shop SET work_mem = '9MB'")
    before = {name: database_settings.capture(admin, name) for name in existing(admin)}

    def ours(_kept):
        raise EngineError("the record failed")

    with pytest.raises(EngineError, match="the record failed"):
        swapped(admin, helper, record=ours)
    with pytest.raises(PostgresError, match="can't take the place of 'shop'"):
        swapped(admin, helper, record=lambda _kept: run(admin, "SELECT 1/0"))
    assert {name: database_settings.capture(admin, name) for name in existing(admin)} == before
    assert (which(cluster, "shop"), which(cluster, "shop__restore_t1")) == ("old", "new")


def test_a_killed_swap_leaves_the_old_database_open_in_its_place(cluster, admin, helper):
    make(cluster, "shop", "old")
    make(cluster, "shop__restore_t1", "new")
    own = connect(cluster.settings)

    def killed(_kept):
        run(admin, f"SELECT pg_terminate_backend({own.info.backend_pid})")
        while rows(admin, "SELECT 1 FROM pg_stat_activity WHERE pid = %s", own.info.backend_pid):
            time.sleep(0.01)
        run(own, "SELECT 1")

    with pytest.raises(PostgresError):
        swap.swap(
            own,
            helper,
            database="shop",
            stage="shop__restore_t1",
            keep_as="shop__replaced_t1",
            owner="postgres",
            record=killed,
        )
    assert existing(admin) == {"shop", "shop__restore_t1"}
    assert (which(cluster, "shop"), which(cluster, "shop__restore_t1")) == ("old", "new")


def test_a_stopped_client_loses_its_swap(cluster, helper, monkeypatch):
    monkeypatch.setattr(swap, "IDLE_TIMEOUT", "100ms")
    make(cluster, "shop", "old")
    make(cluster, "shop__restore_t1", "new")
    own = connect(cluster.settings)
    pid = own.info.backend_pid

    def stopped(_kept):
        # Nobody waits for ever for a client that does nothing: the server ends its session.
        while rows(helper, "SELECT 1 FROM pg_stat_activity WHERE pid = %s", pid):
            time.sleep(0.01)

    with pytest.raises(PostgresError, match=r"'shop' can't be described|can't take the place of 'shop'"):
        swapped(own, helper, record=stopped)
    assert existing(helper) == {"shop", "shop__restore_t1"}
    assert (which(cluster, "shop"), which(cluster, "shop__restore_t1")) == ("old", "new")


def test_sessions_in_the_old_database_are_ended_and_named(cluster, admin, helper):
    make(cluster, "shop", "old")
    make(cluster, "shop__restore_t1", "new")
    busy = connect(cluster.settings, database="shop", application_name="the till")
    run(busy, "BEGIN; SELECT 1")
    leftover = connect(cluster.settings, database="shop__restore_t1")
    result = swapped(admin, helper)
    assert [(session.pid, session.application) for session in result.sessions] == [(busy.info.backend_pid, "the till")]
    assert which(cluster, "shop") == "new"
    for session in (busy, leftover):
        with pytest.raises(psycopg2.OperationalError):
            run(session, "SELECT 1")


def test_sessions_can_be_a_reason_to_refuse(cluster, admin, helper):
    make(cluster, "shop", "old")
    make(cluster, "shop__restore_t1", "new")
    busy = connect(cluster.settings, database="shop", application_name="the till")
    with pytest.raises(RestoreRefused, match="is in use") as caught:
        swapped(admin, helper, on_connections="refuse")
    assert f"process {busy.info.backend_pid} (role postgres, the till, from a local socket, idle)" in caught.value.cause
    run(busy, "SELECT 1")
    assert (which(cluster, "shop"), which(cluster, "shop__restore_t1")) == ("old", "new")
    busy.close()


def test_a_session_that_comes_while_refusing_is_not_ended(cluster, admin, helper, monkeypatch):
    make(cluster, "shop", "old")
    make(cluster, "shop__restore_t1", "new")
    busy = connect(cluster.settings, database="shop", application_name="the till")
    monkeypatch.setattr(swap, "sessions_of", _first_blind(sessions.sessions_of))
    with pytest.raises(RestoreRefused, match="is in use") as caught:
        swapped(admin, helper, on_connections="refuse")
    assert "the till" in caught.value.cause
    run(busy, "SELECT 1")
    assert which(cluster, "shop") == "old"
    busy.close()


def _first_blind(real):
    """What lists sessions, but sees nobody at its first call: as if they came right after it."""
    calls = []

    def sessions_of(*arguments):
        calls.append(arguments)
        return () if len(calls) == 1 else real(*arguments)

    return sessions_of


def test_prepared_transactions_are_never_lost(shared_cluster):
    with Cluster(shared_cluster.major, configuration={"max_prepared_transactions": "1"}) as cluster:
        make(cluster, "shop", "old")
        make(cluster, "shop__restore_t1", "new")
        cluster.psql("BEGIN; INSERT INTO marker VALUES ('prepared'); PREPARE TRANSACTION 'till 7'", "shop")
        with (
            contextlib.closing(connect(cluster.settings)) as own,
            contextlib.closing(connect(cluster.settings)) as other,
        ):
            with pytest.raises(RestoreRefused, match="prepared transactions") as caught:
                swapped(own, other)
            assert "'till 7' of postgres" in caught.value.cause
            assert existing(own) == {"shop", "shop__restore_t1"}


def test_a_lock_on_the_database_is_waited_for_and_its_holder_named(cluster, admin, helper, monkeypatch):
    monkeypatch.setattr(swap, "LOCK_TIMEOUT", "100ms")
    make(cluster, "shop", "old")
    make(cluster, "shop__restore_t1", "new")
    other = connect(cluster.settings, application_name="the colleague")
    run(other, "BEGIN; COMMENT ON DATABASE shop IS 'not committed yet'")
    with pytest.raises(PostgresError, match="can't take the place") as caught:
        swapped(admin, helper)
    assert "the colleague" in caught.value.hint
    other.close()
    assert which(cluster, "shop") == "old"
    assert swapped(admin, helper).kept == "shop__replaced_t1"


def test_a_stage_that_is_gone_is_an_error(cluster, admin, helper):
    make(cluster, "shop", "old")
    with pytest.raises(PostgresError, match="'shop__restore_t1' is gone"):
        swapped(admin, helper)
    assert which(cluster, "shop") == "old"


def test_what_replicates_is_told(cluster, admin, helper):
    make(cluster, "shop", "old")
    make(cluster, "shop__restore_t1", "new")
    cluster.psql("CREATE SUBSCRIPTION feed CONNECTION 'dbname=none' PUBLICATION p WITH (connect = false)", "shop")
    cluster.psql("ALTER SUBSCRIPTION feed ENABLE", "shop")
    warnings = swapped(admin, helper, public_connect=True).warnings
    assert warnings == (
        "subscription 'feed' stays with the replaced database 'shop__replaced_t1' and goes on filling it",
    )
    with pytest.raises(PostgresError, match="can't be dropped") as caught:
        staging.drop_database(admin, "shop__replaced_t1")
    assert "pg_subscription" in caught.value.hint
    cluster.psql(
        "ALTER SUBSCRIPTION feed DISABLE; ALTER SUBSCRIPTION feed SET (slot_name = NONE); DROP SUBSCRIPTION feed",
        "shop__replaced_t1",
    )


def test_swapping_under_a_hail_of_connections(cluster, admin, helper):
    """Whoever connects gets the old database or the new one, or is refused; no swap is lost."""
    run(admin, "CREATE ROLE pooler LOGIN SUPERUSER PASSWORD 'x'")
    make(cluster, "shop", "0")
    stop, seen, refused = threading.Event(), [], []

    def connecting():
        while not stop.is_set():
            try:
                session = psycopg2.connect(
                    host=cluster.settings.login_host, port=cluster.port, user="pooler", password="x", dbname="shop"
                )
                with session.cursor() as cursor:
                    cursor.execute("SELECT which FROM marker; ")
                    seen.append(cursor.fetchone()[0])
                session.close()
            except psycopg2.Error as error:
                refused.append(str(error))

    threads = [threading.Thread(target=connecting) for _number in range(4)]
    for thread in threads:
        thread.start()
    try:
        for number in range(1, 6):
            make(cluster, "stage", str(number))
            kept = f"shop__replaced_{number}"
            result = swap.swap(
                admin, helper, database="shop", stage="stage", keep_as=kept, owner="pooler", record=lambda _kept: None
            )
            assert result.kept == kept
            # Somebody has seen the new one before the next takes its place.
            while str(number) not in seen[-20:]:
                time.sleep(0.01)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert {which(cluster, f"shop__replaced_{number}") for number in range(1, 6)} == set("01234")
    assert which(cluster, "shop") == "5"
    # Every client saw the databases in their order: never an old one after its successor, give or take those who
    # had their row before the swap.
    assert set(seen) <= set("012345")
    for text in refused:
        assert "terminating connection" in text or "does not exist" in text or "server closed" in text, text


# Dropping -----------------------------------------------------------------------------------------------------------


def test_dropping_ends_sessions_takes_templates_and_does_not_mind_absence(cluster, admin):
    run(admin, "CREATE DATABASE shop IS_TEMPLATE true")
    busy = connect(cluster.settings, database="shop")
    staging.drop_database(admin, "shop")
    staging.drop_database(admin, "shop")
    assert existing(admin) == set()
    with pytest.raises(psycopg2.OperationalError):
        run(busy, "SELECT 1")


def test_names_that_need_quoting(cluster, admin, helper):
    database = """sh"op'; DROP -- %s é"""
    for restore_id in ("t1", "t2"):
        stage, kept = (names.staging_name(database, restore_id), names.replaced_name(database, restore_id))
        loader_role.create_loader_role(admin, names.loader_role(restore_id))
        staging.create_staging(admin, stage, loader=names.loader_role(restore_id), like=Creation())
        swap.swap(
            admin, helper, database=database, stage=stage, keep_as=kept, owner="postgres", record=lambda _kept: None
        )
    assert existing(admin) == {database, names.replaced_name(database, "t2")}


@pytest.mark.parametrize(
    ("version", "like", "expected"),
    [
        (
            140000,
            Creation("UTF8", "libc", "C", "C.UTF-8", None, None, "pg_default"),
            "ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C.UTF-8' TABLESPACE \"pg_default\"",
        ),
        (
            150000,
            Creation("UTF8", "libc", "C", "C"),
            "ENCODING 'UTF8' LOCALE_PROVIDER 'libc' LC_COLLATE 'C' LC_CTYPE 'C'",
        ),
        (
            160000,
            Creation("UTF8", "icu", "C", "C", "de", "&a < b"),
            "ENCODING 'UTF8' LOCALE_PROVIDER 'icu' LC_COLLATE 'C' LC_CTYPE 'C' ICU_LOCALE 'de' ICU_RULES '&a < b'",
        ),
        (
            170000,
            Creation("UTF8", "builtin", "C", "C", "C.UTF-8"),
            "ENCODING 'UTF8' LOCALE_PROVIDER 'builtin' LC_COLLATE 'C' LC_CTYPE 'C' BUILTIN_LOCALE 'C.UTF-8'",
        ),
    ],
)
def test_each_version_is_told_in_its_own_words(admin, version, like, expected):
    # Versions that aren't installed here can at least be spoken to as their manuals say.
    statement = staging.create_statement(version, "s", like).as_string(admin)
    assert statement == f'CREATE DATABASE "s" WITH TEMPLATE template0 ALLOW_CONNECTIONS false {expected}'
