# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import types

import psycopg2
import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine.errors import LoadError
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql import (
    database_settings,
    extensions,
    loader_role,
    ownership,
    packages,
    staging,
)
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.connection import connect
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.extensions import (
    StagingAdministrator,
)

from tests.support.queries import rows, run
from tests.support.requirements import require_contrib

LOADER = "infrazero_restore_t1"
STAGE = "shop__restore_t1"


@pytest.fixture
def stage(cluster, admin):
    """An empty stage: a superuser's session in it, and the throwaway role's."""
    require_contrib(cluster)
    with admin.cursor() as cursor:
        cursor.execute("CREATE ROLE shop LOGIN")
    loader_role.create_loader_role(admin, LOADER)
    staging.create_staging(admin, STAGE, loader=LOADER, like=database_settings.Creation())
    with contextlib.closing(connect(cluster.settings, database=STAGE, runs_scripts=True)) as conn:
        staging.open_staging(conn, LOADER)
        with contextlib.closing(
            loader_role.connect_loader(cluster.settings, admin, database=STAGE, role=LOADER)
        ) as loader:
            yield types.SimpleNamespace(admin=conn, loader=loader)


def there(connection):
    return dict(
        rows(
            connection,
            "SELECT extname::text, extowner::regrole::text || ' in ' || extnamespace::regnamespace FROM pg_extension",
        )
    )


def test_trusted_extensions_are_made_as_the_throwaway_role_and_become_the_owner_s(stage):
    administrator = StagingAdministrator(stage.admin, loader=LOADER)
    administrator.create_extension("hstore", "public")
    administrator.create_extension("hstore", "public")
    assert there(stage.admin)["hstore"] == f"{LOADER} in public"
    assert rows(stage.admin, "SELECT current_user") == [("postgres",)]
    run(stage.loader, "CREATE TABLE public.t AS SELECT 'a=>1'::public.hstore AS h")
    ownership.take_over(stage.admin, owner="shop", loader=LOADER)
    assert there(stage.admin)["hstore"] == "shop in public"


def test_harmless_ones_that_need_a_superuser_stay_with_the_administrator(stage):
    administrator = StagingAdministrator(stage.admin, loader=LOADER)
    administrator.create_extension("pg_stat_statements", "public")
    # It needs cube, which is trusted; pg_dump writes that first.
    administrator.create_extension("cube", "public")
    administrator.create_extension("earthdistance", "public")
    ownership.take_over(stage.admin, owner="shop", loader=LOADER)
    assert there(stage.admin) == {
        "plpgsql": "postgres in pg_catalog",
        "pg_stat_statements": "postgres in public",
        "cube": "shop in public",
        "earthdistance": "postgres in public",
    }


@pytest.mark.parametrize("name", ["file_fdw", "dblink", "adminpack", "postgres_fdw", "pageinspect"])
def test_those_that_reach_beyond_the_database_are_refused(stage, name):
    if name not in extensions.available(stage.admin):
        pytest.skip(f"this server has no {name}")
    before = there(stage.admin)
    with pytest.raises(LoadError, match=f"could not create extension '{name}'") as caught:
        StagingAdministrator(stage.admin, loader=LOADER).create_extension(name, "new_schema")
    assert f"add {name} to extensions (--extensions, DB_RESTORE_EXTENSIONS)" in caught.value.hint
    assert there(stage.admin) == before
    assert rows(stage.admin, "SELECT 1 FROM pg_namespace WHERE nspname = 'new_schema'") == []


def test_the_operator_may_allow_more(stage):
    StagingAdministrator(stage.admin, loader=LOADER, allowed={"dblink"}).create_extension("dblink", "public")
    assert there(stage.admin)["dblink"] == "postgres in public"


def test_none_of_the_allowed_ones_gives_the_tenant_the_server(stage):
    """Make all of them that are installed here; the throwaway role can't do anything then that it could not before."""
    administrator = StagingAdministrator(stage.admin, loader=LOADER)
    required = {
        name: requires or []
        for name, requires in rows(
            stage.admin,
            "SELECT name::text, requires::text[] FROM pg_available_extension_versions v"
            " JOIN pg_available_extensions e USING (name) WHERE v.version = e.default_version",
        )
    }

    def create(name):
        for other in required[name]:
            create(other)
        administrator.create_extension(name, None)

    made = set()
    for name in sorted(extensions.DEFAULT_ALLOWED & set(required)):
        try:
            create(name)
            made.add(name)
        except LoadError as error:
            # Debian 12's debversion and pg_sphere declare operators as newer servers no longer let anyone do it.
            if "is already the" not in error.cause:
                raise
    assert made <= set(there(stage.admin))
    assert len(made) > 10
    # Functions of theirs that run with their owner's rights, languages, wrappers and event triggers.
    # (That one of postgis reads the extent of a geometry column from the statistics of a table.)
    deputies = {name for (name,) in rows(stage.admin, "SELECT proname FROM pg_proc WHERE prosecdef AND oid >= 16384")}
    assert deputies <= {"st_estimatedextent"}
    assert rows(stage.admin, "SELECT lanname FROM pg_language WHERE oid >= 16384 AND NOT lanpltrusted") == []
    assert rows(stage.admin, "SELECT fdwname FROM pg_foreign_data_wrapper") == []
    assert rows(stage.admin, "SELECT evtname FROM pg_event_trigger") == []
    # What shows or changes more than one's own is not for everybody.
    for function in ("pg_stat_statements_reset", "pg_buffercache_pages", "pgstattuple", "bt_index_check"):
        callable_by_loader = (
            "SELECT bool_or(has_function_privilege(%s, oid, 'EXECUTE')) FROM pg_proc WHERE proname = %s"
        )
        assert rows(stage.admin, callable_by_loader, LOADER, function) == [(False,)], function


def test_an_extension_that_the_host_lacks_is_named_with_its_package(stage):
    major = stage.admin.info.server_version // 10000
    administrator = StagingAdministrator(stage.admin, loader=LOADER)
    with pytest.raises(LoadError, match="could not create extension 'vector_of_nobody'") as caught:
        administrator.create_extension("vector_of_nobody", "public")
    assert caught.value.cause == "it is not installed on this host"
    for name, package in (
        ("postgis", f"postgresql-{major}-postgis-3"),
        ("hstore", f"postgresql-{major} (outside Debian, postgresql{major}-contrib)"),
        ("ip4r", f"postgresql-{major}-ip4r"),
        ("plpython3u", f"postgresql-plpython3-{major}"),
    ):
        assert f"install the package {package}" in packages.package_hint(name, major)


def test_a_missing_schema_is_made_for_the_loader(stage):
    StagingAdministrator(stage.admin, loader=LOADER).create_extension("citext", 'odd, "schema" %s')
    assert there(stage.admin)["citext"] == f'{LOADER} in "odd, ""schema"" %s"'
    assert rows(
        stage.admin, "SELECT nspowner::regrole::text FROM pg_namespace WHERE nspname = %s", 'odd, "schema" %s'
    ) == [(LOADER,)]


def test_without_a_schema_it_goes_where_it_belongs(stage):
    administrator = StagingAdministrator(stage.admin, loader=LOADER)
    administrator.create_extension("citext", None)
    administrator.create_extension("plpgsql", "pg_catalog")
    assert there(stage.admin)["citext"] == f"{LOADER} in public"


def test_no_script_of_a_superuser_runs_among_the_dump_s_functions(stage):
    run(stage.loader, 'CREATE SCHEMA s; CREATE COLLATION public.c FROM "C"')
    administrator = StagingAdministrator(stage.admin, loader=LOADER)
    administrator.create_extension("pg_stat_statements", "s")
    run(stage.loader, "CREATE FUNCTION public.evil() RETURNS int LANGUAGE sql AS 'SELECT 1'")
    with pytest.raises(LoadError, match="could not create extension 'bloom'") as caught:
        administrator.create_extension("bloom", "s")
    assert "as superuser" in caught.value.cause
    # A trusted one may be made at any time, as the server would let the tenant do it itself.
    administrator.create_extension("hstore", "s")
    assert set(there(stage.admin)) == {"plpgsql", "pg_stat_statements", "hstore"}


def test_a_failure_leaves_the_session_as_it_was(stage):
    administrator = StagingAdministrator(stage.admin, loader=LOADER)
    with pytest.raises(LoadError, match="could not create extension 'hstore'"):
        administrator.create_extension("hstore", "pg_new")  # a name that is the system's
    with pytest.raises(LoadError, match="could not create extension 'earthdistance'") as caught:
        administrator.create_extension("earthdistance", "new_schema")
    assert "cube" in caught.value.cause
    assert rows(stage.admin, "SELECT current_user, count(*) FROM pg_namespace WHERE nspname ~ 'new' GROUP BY 1") == []
    assert set(there(stage.admin)) == {"plpgsql"}


def test_rows_of_configuration_tables_can_be_loaded_and_the_right_to_it_ends(stage):
    # None of PostgreSQL's own extensions has configuration tables, so one is given some.
    run(
        stage.admin,
        """
        CREATE SCHEMA settings;
        CREATE EXTENSION insert_username WITH SCHEMA public;
        CREATE TABLE settings."ta ble" (id serial, value text);
        ALTER EXTENSION insert_username ADD SCHEMA settings;
        ALTER EXTENSION insert_username ADD TABLE settings."ta ble";
        ALTER EXTENSION insert_username ADD SEQUENCE settings."ta ble_id_seq";
        UPDATE pg_extension SET extconfig = ARRAY['settings."ta ble"'::regclass, 'settings."ta ble_id_seq"'::regclass]
        WHERE extname = 'insert_username';
        """,
    )
    fill = """INSERT INTO settings."ta ble" (id, value) VALUES (1, 'x'); SELECT setval('settings."ta ble_id_seq"', 7)"""
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        run(stage.loader, fill)
    StagingAdministrator(stage.admin, loader=LOADER)._open_configuration("insert_username")
    run(stage.loader, fill)
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        run(stage.loader, 'DELETE FROM settings."ta ble"')
    ownership.take_over(stage.admin, owner="shop", loader=LOADER)
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        run(stage.loader, fill)
    assert rows(stage.admin, """SELECT relowner::regrole::text FROM pg_class WHERE relname = 'ta ble'""") == [
        ("postgres",)
    ]


def test_a_backup_s_extensions_are_looked_at_before_a_restore(cluster, admin):
    require_contrib(cluster)
    there_is = extensions.available(admin)["hstore"].version
    checked = extensions.check(
        admin,
        [
            ("hstore", "0.1"),
            ("citext", None),
            ("plpgsql", "1.0"),
            ("dblink", None),
            ("file_fdw", None),
            ("nothing", "1"),
        ],
        allowed={"dblink"},
    )
    assert checked.warnings == (f"extension 'hstore' had version 0.1 and will have {there_is}",)
    assert [text.split(" is ")[0] for text in checked.missing] == ["extension 'nothing'"]
    assert [text.split(" is ")[0] for text in checked.refused] == ["extension 'file_fdw'"]


# Publications -------------------------------------------------------------------------------------------------------


def test_publications_that_only_a_superuser_makes(stage):
    administrator = StagingAdministrator(stage.admin, loader=LOADER)
    administrator.publish_all_tables(
        'all "of" it', [("publish", "insert, update"), ("publish_via_partition_root", "true")]
    )
    expected = [('all "of" it', True, True, True, False)]
    if stage.admin.info.server_version >= 150000:
        run(stage.loader, 'CREATE SCHEMA s; CREATE SCHEMA "t, u"; CREATE TABLE s.t (); CREATE PUBLICATION mine')
        administrator.publish_schemas("two", ["s", "t, u"], create=True, parameters=[("publish", "truncate")])
        administrator.publish_schemas("mine", ["t, u"], create=False, parameters=())
        expected += [("mine", False, True, True, True), ("two", False, False, False, False)]
        assert rows(stage.admin, "SELECT pubname::text, tablename::text FROM pg_publication_tables ORDER BY 1") == [
            ('all "of" it', "t"),
            ("two", "t"),
        ]
    query = "SELECT pubname::text, puballtables, pubinsert, pubupdate, pubdelete FROM pg_publication ORDER BY 1"
    assert rows(stage.admin, query) == expected
    ownership.take_over(stage.admin, owner="shop", loader=LOADER)
    assert rows(stage.admin, "SELECT DISTINCT pubowner::regrole::text FROM pg_publication") == [("shop",)]


def test_a_publication_that_can_not_be_made_is_named(stage):
    administrator = StagingAdministrator(stage.admin, loader=LOADER)
    with pytest.raises(LoadError, match="could not create publication 'p'"):
        administrator.publish_all_tables("p", [("no_such_parameter", "1")])
