# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What belongs to a database itself comes back after its cluster is lost."""

from __future__ import annotations

import datetime
import json
import pathlib
import subprocess
import typing as t

import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine import outcome
from ansible_collections.infrazero.database.plugins.module_utils._engine.backup import backup
from ansible_collections.infrazero.database.plugins.module_utils._engine.backup.plan import BackupOptions
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.databases import Database
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.restoring import RestoreOptions
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.trust import UNSIGNED, Trust
from ansible_collections.infrazero.database.plugins.module_utils._engine.restore import restore
from ansible_collections.infrazero.database.plugins.module_utils._engine.stores.base import Store

from tests.support import scene
from tests.support.cluster import Cluster
from tests.support.outcomes import details_of
from tests.support.signing import SigningHost, trust

LIMIT = 1 << 20

SECRET = "s3cret-value \u00e9"

#: Settings, privileges and the rest of what belongs to the database, by a query that compares them.
OWN = (
    "SELECT datconnlimit, shobj_description(oid, 'pg_database'), datistemplate,"
    " (SELECT string_agg(coalesce(grantee::regrole::text, '') || privilege_type || is_grantable, ',' ORDER BY 1)"
    "  FROM (SELECT nullif(grantee, 0) AS grantee, privilege_type, is_grantable FROM aclexplode(datacl)"
    "        ORDER BY 1, 2) AS a),"
    " (SELECT string_agg(setrole::regrole || ' ' || setconfig::text, ';' ORDER BY setrole) FROM pg_db_role_setting"
    "  WHERE setdatabase = d.oid) FROM pg_database d WHERE datname = '{}'"
)


@pytest.fixture
def host(tmp_path: pathlib.Path) -> SigningHost:
    return SigningHost.make(tmp_path / "keys", "db1")


@pytest.fixture
def app(cluster: Cluster) -> Database:
    """A database with every kind of thing that is not in its contents."""
    database = scene.entry("app")
    scene.make(cluster, database)
    cluster.psql("CREATE ROLE reader; CREATE ROLE auditor")
    cluster.psql(
        f"""
        ALTER DATABASE app SET search_path = "Odd Name", public;
        ALTER DATABASE app SET app.tenant = '{SECRET}';
        ALTER DATABASE app SET default_transaction_read_only = off;
        ALTER DATABASE app SET statement_timeout = '123s';
        ALTER DATABASE app SET "DateStyle" = 'SQL, DMY';
        ALTER DATABASE app SET log_min_messages = 'error';
        ALTER ROLE app IN DATABASE app SET work_mem = '5MB';
        ALTER ROLE reader IN DATABASE app SET search_path = public;
        COMMENT ON DATABASE app IS 'it''s ours';
        ALTER DATABASE app CONNECTION LIMIT 7;
        REVOKE CONNECT ON DATABASE app FROM PUBLIC;
        GRANT CONNECT ON DATABASE app TO reader WITH GRANT OPTION
        """
    )
    cluster.psql(
        """
        SET lc_monetary = 'C';
        CREATE TABLE one (id int, many int[], price money, at timestamptz);
        INSERT INTO one VALUES (1, ARRAY[1, NULL], '1234.50', '2026-02-01 03:04:05+00');
        CREATE FUNCTION tenant() RETURNS text LANGUAGE sql STABLE RETURN current_setting('app.tenant');
        CREATE MATERIALIZED VIEW summary AS SELECT tenant() AS tenant, count(*) FROM one;
        """,
        "app",
    )
    return database


def back_up(cluster: Cluster, store: Store, database: Database, host: SigningHost | None) -> dict[str, t.Any]:
    options = BackupOptions(signer=None if host is None else host.signer)
    now = datetime.datetime.now(datetime.timezone.utc)
    made = backup.back_up(database, settings=cluster.settings, store=store, options=options, moment=now)
    return dict(made.details)


def restored(cluster: Cluster, store: Store, database: Database, trusted: Trust, **options: t.Any) -> outcome.Summary:
    return restore.restore_all(
        [database], settings=cluster.settings, store=store, options=RestoreOptions(trust=trusted, **options)
    )


def test_what_belongs_to_the_database_comes_back(
    cluster: Cluster, store: Store, app: Database, host: SigningHost
) -> None:
    before = cluster.psql(OWN.format("app")), cluster.psql("TABLE one; TABLE summary", "app")
    made = back_up(cluster, store, app, host)
    cluster.psql("DROP DATABASE app; ALTER SYSTEM SET array_nulls = off; SELECT pg_reload_conf()")
    try:
        details = details_of(restored(cluster, store, app, trust(host)))
    finally:
        cluster.psql("ALTER SYSTEM RESET ALL; SELECT pg_reload_conf()")
    assert (cluster.psql(OWN.format("app")), cluster.psql("TABLE one; TABLE summary", "app")) == before
    assert details["warnings"] == []
    # The manifest is not encrypted.
    manifest = store.get(made["manifest"], limit=LIMIT).decode()
    assert SECRET not in manifest and "tenant" not in manifest
    assert SECRET not in json.dumps(details)


def test_roles_that_are_missing_are_named(cluster: Cluster, store: Store, app: Database, host: SigningHost) -> None:
    back_up(cluster, store, app, host)
    cluster.psql("DROP DATABASE app; DROP ROLE reader")
    details = details_of(restored(cluster, store, app, trust(host)))
    assert details["warnings"] == [
        "CONNECT on the database was not granted to 'reader': no such role",
        "setting 'search_path' of role 'reader' in the database was left out: no such role",
    ]
    assert "reader" not in cluster.psql(OWN.format("app")) and "work_mem" in cluster.psql(OWN.format("app"))


def test_a_mapped_role_gets_what_the_old_one_had(
    cluster: Cluster, store: Store, app: Database, host: SigningHost
) -> None:
    back_up(cluster, store, app, host)
    cluster.psql("DROP DATABASE app; DROP ROLE reader")
    details_of(restored(cluster, store, app, trust(host), role_map={"reader": "auditor"}))
    assert "auditorCONNECT" in cluster.psql(OWN.format("app"))


def test_a_setting_that_the_server_refuses_is_named_without_its_value(
    cluster: Cluster, store: Store, app: Database, host: SigningHost
) -> None:
    cluster.psql("ALTER DATABASE app SET timezone = 'Asia/Tokyo'")
    # As on a host without this locale: the server knows the setting, but not the value.
    cluster.psql(
        "UPDATE pg_db_role_setting SET setconfig = array_replace(setconfig, 'TimeZone=Asia/Tokyo', 'TimeZone=Mars/Sea')"
        " WHERE setrole = 0 AND setdatabase = (SELECT oid FROM pg_database WHERE datname = 'app')"
    )
    back_up(cluster, store, app, host)
    cluster.psql("DROP DATABASE app")
    details = details_of(restored(cluster, store, app, trust(host)))
    expected = "the setting 'TimeZone' of database 'app' was left out: invalid parameter value"
    assert details["warnings"] == [expected]
    assert "statement_timeout" in cluster.psql(OWN.format("app"))


def test_the_settings_of_a_database_that_is_replaced_win(
    cluster: Cluster, store: Store, app: Database, host: SigningHost
) -> None:
    back_up(cluster, store, app, host)
    cluster.psql("ALTER DATABASE app SET statement_timeout = '7s'; COMMENT ON DATABASE app IS 'newer'")
    before = cluster.psql(OWN.format("app"))
    details_of(restored(cluster, store, app, trust(host)))
    assert cluster.psql(OWN.format("app")) == before


def test_nobody_but_a_superuser_makes_settings_of_a_superuser(
    cluster: Cluster, store: Store, app: Database, host: SigningHost
) -> None:
    """Of a backup that nobody signed, only what the owner of a database may set itself is taken."""
    back_up(cluster, store, app, None)
    cluster.psql("DROP DATABASE app")
    details = details_of(restored(cluster, store, app, Trust(mode=UNSIGNED)))
    # The server lets a superuser alone store a setting that it does not know.
    assert [warning for warning in details["warnings"] if "left out" in warning] == [
        "the setting 'app.tenant' of database 'app' was left out: insufficient privilege",
        "the setting 'log_min_messages' of database 'app' was left out: insufficient privilege",
        "the setting 'search_path' of database 'app' was left out: insufficient privilege",
    ]
    own = cluster.psql(OWN.format("app"))
    assert "log_min_messages" not in own and "reader {search_path" not in own
    assert "statement_timeout" in own and "it's ours" in own


def test_psql_alone_gives_the_same_settings(
    cluster: Cluster, store: Store, app: Database, host: SigningHost, tmp_path: pathlib.Path
) -> None:
    before = cluster.psql(OWN.format("app")), cluster.psql("TABLE one; TABLE summary", "app")
    made = back_up(cluster, store, app, host)
    key = tmp_path / "key"
    key.write_text(scene.key_of(app) + "\n")
    cluster.psql("DROP DATABASE app; ALTER SYSTEM SET array_nulls = off; SELECT pg_reload_conf()")
    try:
        cluster.psql("CREATE DATABASE app OWNER app")
        login = ["-h", cluster.host, "-p", str(cluster.port), "-U", "postgres", "-d", "app"]
        psql = [str(cluster.bindir / "psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", *login]
        pipe = 'set -o pipefail; age -d -i "$1" | gunzip | "${@:2}"'
        done = subprocess.run(
            ["bash", "-c", pipe, "-", str(key), *psql],
            input=store.get(made["key"], limit=LIMIT),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            check=False,
        )
    finally:
        cluster.psql("ALTER SYSTEM RESET ALL; SELECT pg_reload_conf()")
    assert (done.returncode, done.stderr.decode()) == (0, "")
    assert (cluster.psql(OWN.format("app")), cluster.psql("TABLE one; TABLE summary", "app")) == before
