# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Scripts of extensions that a superuser runs in the staging database, and what a dump could make of them."""

from __future__ import annotations

import contextlib
import types

import psycopg2
import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine.errors import LoadError
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql import (
    cron,
    database_settings,
    extensions,
    loader_role,
    ownership,
    staging,
)
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.connection import connect
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.extensions import (
    StagingAdministrator,
)

from tests.integration.test_restore import back_up, restored
from tests.support import scene
from tests.support.foreign import obeyed
from tests.support.outcomes import details_of
from tests.support.ownextensions import own_extensions
from tests.support.queries import rows, run

LOADER = "infrazero_restore_t1"
STAGE = "shop__restore_t1"


@pytest.fixture
def own(shared_cluster):
    with own_extensions(shared_cluster.major) as written:
        yield written


@pytest.fixture
def stage(cluster, admin):
    """An empty stage: a superuser's session in it, as a restore has it, and the throwaway role's."""
    run(admin, "CREATE ROLE shop LOGIN")
    loader_role.create_loader_role(admin, LOADER)
    staging.create_staging(admin, STAGE, loader=LOADER, like=database_settings.Creation())
    with contextlib.closing(connect(cluster.settings, database=STAGE, runs_scripts=True)) as conn:
        staging.open_staging(conn, LOADER)
        with contextlib.closing(
            loader_role.connect_loader(cluster.settings, admin, database=STAGE, role=LOADER)
        ) as loader:
            yield types.SimpleNamespace(admin=conn, loader=loader)


def created(stage):
    return {name for (name,) in rows(stage.admin, "SELECT extname::text FROM pg_extension")} - {"plpgsql"}


# An extension that anybody may create, and one of a superuser that uses it -------------------------------------------

ANYBODYS = """
CREATE TYPE pair AS (a int, b int);
CREATE FUNCTION checked(text) RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION adds(pair, pair) RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE OPERATOR + (LEFTARG = pair, RIGHTARG = pair, FUNCTION = adds);
CREATE TABLE seen (a int, b text DEFAULT 'x');
CREATE DOMAIN small AS int CHECK (VALUE < 10);
CREATE VIEW last AS SELECT max(a) FROM seen;
DO $$ BEGIN CREATE FUNCTION caught() RETURNS int LANGUAGE sql AS 'SELECT 1'; EXCEPTION WHEN others THEN NULL; END $$;
"""
SUPERUSERS = """
INSERT INTO seen (a) SELECT checked('x');
CREATE FUNCTION powerful() RETURNS int LANGUAGE sql AS 'SELECT 1';
"""


@pytest.fixture
def both(own):
    anybodys = own.write("anybodys", ANYBODYS, superuser="false", relocatable="true")
    return anybodys, own.write("superusers", SUPERUSERS, relocatable="true", requires=f"'{anybodys}'")


def test_an_extension_of_a_superuser_after_one_of_anybody(stage, both):
    administrator = StagingAdministrator(stage.admin, loader=LOADER, allowed={both[1]})
    for name in both:
        administrator.create_extension(name, "public")
    assert created(stage) == set(both)
    assert rows(stage.admin, "SELECT proowner::regrole::text FROM pg_proc WHERE proname = 'checked'") == [(LOADER,)]
    # VACUUM and ANALYZE change only figures.
    run(stage.loader, 'ANALYZE public.seen; CREATE COLLATION public.c FROM "C"')
    administrator.create_extension("bloom", "public")


EVIL = (
    "CREATE OR REPLACE FUNCTION public.checked(text) RETURNS int LANGUAGE plpgsql AS"
    " $$ BEGIN EXECUTE 'CREATE ROLE taken SUPERUSER'; RETURN 1; END $$"
)
BUILT_IN = "pg_catalog.query_to_xml('CREATE ROLE taken SUPERUSER', true, true, '')::text"


def test_a_member_that_was_replaced_would_run_as_superuser(stage, both):
    """The attack itself, with the administrator's CREATE EXTENSION in place of ours."""
    administrator = StagingAdministrator(stage.admin, loader=LOADER)
    administrator.create_extension(both[0], "public")
    run(stage.loader, EVIL)
    run(stage.admin, f"CREATE EXTENSION {both[1]} SCHEMA public")
    assert rows(stage.admin, "SELECT rolsuper FROM pg_roles WHERE rolname = 'taken'") == [(True,)]


def test_a_script_that_runs_as_the_loader_would_lead_to_the_superuser_of_the_session(stage, own, both):
    second = own.write("second", "SELECT checked('x')", superuser="false", requires=f"'{both[0]}'")
    administrator = StagingAdministrator(stage.admin, loader=LOADER)
    administrator.create_extension(both[0], "public")
    run(stage.loader, EVIL.replace("BEGIN", "BEGIN RESET ROLE;"))
    with pytest.raises(LoadError) as caught:
        administrator.create_extension(second, "public")
    assert "as superuser" in caught.value.cause
    # The attack itself, with plain statements in place of ours.
    run(stage.admin, f"BEGIN; SET LOCAL ROLE {LOADER}; CREATE EXTENSION {second} SCHEMA public; COMMIT")
    assert rows(stage.admin, "SELECT rolsuper FROM pg_roles WHERE rolname = 'taken'") == [(True,)]


@pytest.mark.parametrize(
    "change",
    [
        EVIL,
        "ALTER FUNCTION public.checked(text) RENAME TO other",
        "ALTER FUNCTION public.caught() SET search_path = public",
        "ALTER OPERATOR public.+ (public.pair, public.pair) SET (RESTRICT = NONE)",
        "ALTER TYPE public.pair ADD ATTRIBUTE c int",
        f"ALTER DOMAIN public.small ADD CHECK ({BUILT_IN} IS NOT NULL)",
        f"ALTER TABLE public.seen ALTER b SET DEFAULT {BUILT_IN}",
        f"ALTER TABLE public.seen ADD CHECK ({BUILT_IN} IS NOT NULL)",
        "ALTER TABLE public.seen ADD c int",
        "CREATE INDEX ON public.seen (a)",
        f"CREATE RULE r AS ON INSERT TO public.seen DO ALSO SELECT {BUILT_IN}",
        "CREATE TRIGGER t BEFORE UPDATE ON public.seen EXECUTE FUNCTION suppress_redundant_updates_trigger()",
        f"CREATE POLICY p ON public.seen USING ({BUILT_IN} IS NOT NULL)",
        f"CREATE OR REPLACE VIEW public.last AS SELECT max(a) FROM public.seen WHERE {BUILT_IN} IS NOT NULL",
        "CREATE FUNCTION public.f() RETURNS void LANGUAGE sql AS ''; ALTER EXTENSION {0} ADD FUNCTION public.f()",
        "CREATE TABLE public.heir () INHERITS (public.seen)",
        "DROP EXTENSION {0}; CREATE FUNCTION public.checked(text) RETURNS int LANGUAGE sql AS 'SELECT 1'",
    ],
)
def test_no_script_runs_in_our_session_among_changed_members(stage, both, change):
    administrator = StagingAdministrator(stage.admin, loader=LOADER, allowed={both[1]})
    administrator.create_extension(both[0], "public")
    run(stage.loader, change.replace("{0}", both[0]))
    with pytest.raises(LoadError, match="could not create extension") as caught:
        administrator.create_extension(both[1], "public")
    assert "as superuser" in caught.value.cause
    assert both[1] not in created(stage)
    assert rows(stage.admin, "SELECT FROM pg_roles WHERE rolname = 'taken'") == []


# What scripts say and set -------------------------------------------------------------------------------------------


def test_what_a_script_says_is_shown(stage, own):
    name = own.write(
        "fails",
        "DO $$ BEGIN RAISE EXCEPTION E'only in database %\\x1b[2J', 'x' USING DETAIL = 'Set it first.'; END $$;",
        superuser="false",
    )
    with pytest.raises(LoadError, match=f"could not create extension '{name}'") as caught:
        StagingAdministrator(stage.admin, loader=LOADER).create_extension(name, "public")
    assert caught.value.cause == "only in database x\\x1b[2J; Set it first. (SQLSTATE P0001)"
    assert not obeyed(str(caught.value))


#: As postgis_topology does it.
SETS_PATH = """
CREATE FUNCTION add_to_path() RETURNS void LANGUAGE plpgsql AS $$
DECLARE path text; BEGIN
    SELECT reset_val || ', added' INTO path FROM pg_settings WHERE name = 'search_path';
    EXECUTE 'ALTER DATABASE ' || quote_ident(current_database()) || ' SET search_path = ' || path;
    EXECUTE 'SET search_path = ' || path;
END $$;
SELECT add_to_path();
"""


def test_a_script_may_add_to_the_search_path_of_the_database_but_not_to_ours(stage, own):
    name = own.write("path", SETS_PATH)
    StagingAdministrator(stage.admin, loader=LOADER, allowed={name}).create_extension(name, "public")
    query = "SELECT unnest(setconfig) FROM pg_db_role_setting s JOIN pg_database d ON d.oid = setdatabase"
    assert rows(stage.admin, query) == [('search_path="$user", public, added',)]
    assert rows(stage.admin, "SHOW search_path") == [('""',)]


def test_a_script_may_need_the_database_for_itself(stage, own, monkeypatch):
    name = own.write("path", SETS_PATH, superuser="false")
    before = rows(stage.admin, "SELECT datdba, datacl::text FROM pg_database WHERE datname = %s", STAGE)
    with pytest.raises(LoadError, match="must be owner of database"):
        StagingAdministrator(stage.admin, loader=LOADER).create_extension(name, "public")
    monkeypatch.setattr(extensions, "_BY_THE_OWNER", {name})
    StagingAdministrator(stage.admin, loader=LOADER).create_extension(name, "public")
    assert created(stage) == {name}
    assert rows(stage.admin, "SELECT datdba, datacl::text FROM pg_database WHERE datname = %s", STAGE) == before


def test_servers_of_an_allowed_wrapper(stage):
    use = (
        "CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '192.0.2.1');"
        "CREATE USER MAPPING FOR shop SERVER far OPTIONS (user 'u', password 'p');"
        "CREATE FOREIGN TABLE public.t (a int) SERVER far"
    )
    StagingAdministrator(stage.admin, loader=LOADER, allowed={"postgres_fdw"}).create_extension("postgres_fdw", None)
    run(stage.loader, use)
    ownership.take_over(stage.admin, owner="shop", loader=LOADER)
    assert rows(stage.admin, "SELECT srvowner::regrole::text FROM pg_foreign_server") == [("shop",)]
    # The loader's privilege has ended, and nobody has got one.
    for role in (LOADER, "shop"):
        assert rows(stage.admin, "SELECT has_foreign_data_wrapper_privilege(%s, 'postgres_fdw', 'USAGE')", role) == [
            (False,)
        ]


# pg_cron ------------------------------------------------------------------------------------------------------------

#: What matters here of the real one, which `make extensions` tries.
CRON = """
DO $$ BEGIN IF current_database() <> current_setting('cron.database_name') THEN
RAISE EXCEPTION 'can only create extension in database %', current_setting('cron.database_name'); END IF; END $$;
CREATE SCHEMA cron;
CREATE SEQUENCE cron.jobid_seq;
CREATE TABLE cron.job (jobid bigint PRIMARY KEY DEFAULT nextval('cron.jobid_seq'), schedule text NOT NULL,
    command text NOT NULL, nodename text NOT NULL DEFAULT 'localhost', nodeport int NOT NULL DEFAULT 5432,
    database text NOT NULL DEFAULT current_database(), username text NOT NULL DEFAULT current_user,
    active boolean NOT NULL DEFAULT true, jobname text);
GRANT SELECT ON cron.job TO public;
ALTER TABLE cron.job ENABLE ROW LEVEL SECURITY;
CREATE POLICY cron_job_policy ON cron.job USING (username = current_user);
SELECT pg_extension_config_dump('cron.job', '');
SELECT pg_extension_config_dump('cron.jobid_seq', '');
"""
JOBS = """
INSERT INTO cron.job (jobid, nodeport, schedule, command, database, username, nodename) VALUES
    (1, 5432, '@daily', 'VACUUM', current_database(), 'shop', 'localhost'),
    (2, 5432, '@daily', 'ALTER ROLE shop SUPERUSER', current_database(), 'postgres', 'localhost'),
    (3, 5432, '@daily', 'SELECT 1', 'other', 'shop', 'localhost'),
    (4, 5432, '@daily', 'SELECT 1', current_database(), 'shop', '192.0.2.1');
SELECT setval('cron.jobid_seq', 4);
"""
KEPT = "SELECT jobid, command, username, active FROM cron.job ORDER BY jobid"


@pytest.fixture
def cron_name(own, monkeypatch):
    name = own.write("cron", CRON)
    monkeypatch.setattr(cron, "NAME", name)
    return name


@pytest.fixture
def shop(cluster, cron_name):
    """A database with pg_cron and jobs, where the server runs jobs."""
    entry = scene.entry("shop")
    scene.make(cluster, entry, "CREATE TABLE t AS SELECT 1 AS a")
    # Unless the library is loaded, the server's configuration file is the only other place for the setting.
    cluster.psql("ALTER ROLE postgres SET cron.database_name = 'shop'")
    cluster.psql(f"SET cron.database_name = 'shop'; CREATE EXTENSION {cron_name} SCHEMA pg_catalog", "shop")
    cluster.psql(JOBS, "shop")
    yield entry
    cluster.psql("ALTER ROLE postgres RESET cron.database_name")


def test_jobs_come_back_in_the_database_that_runs_them(cluster, store, shop, cron_name):
    back_up(cluster, store, shop)
    details = details_of(restored(cluster, store, shop, extensions=frozenset({cron_name})))
    assert cluster.psql(KEPT, "shop").splitlines() == [
        "1|VACUUM|shop|t",
        "2|ALTER ROLE shop SUPERUSER|postgres|f",
        "3|SELECT 1|shop|f",
        "4|SELECT 1|shop|f",
    ]
    (warning,) = [warning for warning in details["warnings"] if "pg_cron" in warning]
    assert "3 jobs of pg_cron are no longer active" in warning
    assert "WHERE jobid IN (2, 3, 4)" in warning
    assert cluster.psql("SELECT nextval('cron.jobid_seq')", "shop") == "5"
    assert cluster.psql(f"SELECT FROM pg_extension WHERE extname = '{cron_name}'", "shop") == ""
    assert cluster.psql("SELECT count(*) FROM pg_namespace WHERE nspname ~ 'cron'", "shop") == "1"
    assert cluster.psql("SELECT relowner::regrole FROM pg_class WHERE oid = 'cron.job'::regclass", "shop") == "postgres"


def test_without_a_place_for_them_jobs_are_kept_and_the_way_is_told(cluster, store, shop, cron_name):
    back_up(cluster, store, shop)
    cluster.psql("ALTER ROLE postgres SET cron.database_name = 'postgres'")
    details = details_of(restored(cluster, store, shop, extensions=frozenset({cron_name})))
    (warning,) = [warning for warning in details["warnings"] if "pg_cron" in warning]
    assert "(it is 'postgres' now)" in warning
    assert cluster.psql("SELECT count(*) FROM cron.job", "shop") == "4"
    by_hand = warning.split("run in that database: ")[1].replace("EXTENSION pg_cron", f"EXTENSION {cron_name}")
    cluster.psql(f"SET cron.database_name = 'shop'; {by_hand}", "shop")
    assert cluster.psql("SELECT count(*) FROM cron.job", "shop") == "4"
    assert cluster.psql("SELECT nextval('cron.jobid_seq')", "shop") == "5"


def test_the_owner_cannot_prepare_the_tables_that_a_superuser_reads(stage, cron_name):
    administrator = StagingAdministrator(stage.admin, loader=LOADER, allowed={cron_name})
    administrator.create_extension(cron_name, "public")
    administrator.create_extension(cron_name, "public")
    assert administrator.defers_cron
    run(stage.loader, JOBS)
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        run(stage.loader, "CREATE RULE r AS ON INSERT TO cron.job DO ALSO NOTHING")
    ownership.take_over(stage.admin, owner="shop", loader=LOADER)
    ownership.grant_all(stage.admin, "shop", owns_database=True)
    cron.keep(stage.admin)
    for attempt in (
        "DROP TABLE cron.job",
        "ALTER TABLE cron.job RENAME TO other",
        "ALTER SCHEMA cron RENAME TO other",
        "CREATE RULE r AS ON UPDATE TO cron.job DO ALSO NOTHING",
    ):
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            run(stage.admin, f"SET ROLE shop; {attempt}")
        run(stage.admin, "RESET ROLE")
    run(stage.admin, f"SET cron.database_name = '{STAGE}'")
    cron.finish(stage.admin, owner="shop")
    assert rows(stage.admin, KEPT)[:2] == [
        (1, "VACUUM", "shop", True),
        (2, "ALTER ROLE shop SUPERUSER", "postgres", False),
    ]


def test_a_schema_of_the_dump_is_not_taken_for_ours(stage, cron_name):
    run(stage.loader, "CREATE SCHEMA cron; COMMENT ON SCHEMA cron IS 'infrazero.database: x'")
    administrator = StagingAdministrator(stage.admin, loader=LOADER, allowed={cron_name})
    with pytest.raises(LoadError, match="could not create the tables for the rows of pg_cron"):
        administrator.create_extension(cron_name, "public")
    ownership.take_over(stage.admin, owner="shop", loader=LOADER)
    assert cron.finish(stage.admin, owner="shop") == ()
