# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Databases with the encoding SQL_ASCII: names and rows are bytes, which need not be text in any encoding."""

from __future__ import annotations

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
from tests.support.outcomes import good
from tests.support.signing import SigningHost, trust

CONTENTS = """
SET client_encoding = 'SQL_ASCII';
SET SESSION AUTHORIZATION "caf\u00e9";
CREATE SCHEMA "sch\u00e9ma";
CREATE TABLE "sch\u00e9ma"."caf\u00e9" (id serial PRIMARY KEY, "pri\u00e8re ""x"" y" text DEFAULT '\u00e0');
INSERT INTO "sch\u00e9ma"."caf\u00e9" ("pri\u00e8re ""x"" y") VALUES ('d\u00e9j\u00e0'), (DEFAULT);
CREATE VIEW "sch\u00e9ma"."v\u00fce" AS SELECT * FROM "sch\u00e9ma"."caf\u00e9";
CREATE FUNCTION public."f\u00e9"() RETURNS text LANGUAGE sql AS $$ SELECT 'd\u00e9j\u00e0'::text $$;
CREATE TYPE public."\u00e9num" AS ENUM ('\u00e9', 'e');
COMMENT ON TABLE "sch\u00e9ma"."caf\u00e9" IS '\u00e9';
"""


@pytest.fixture
def host(tmp_path: pathlib.Path) -> SigningHost:
    return SigningHost.make(tmp_path / "keys", "db1")


@pytest.fixture
def app(cluster: Cluster) -> Database:
    """A database with names in Latin-1, and a user whose name is in UTF-8, as everywhere else in the cluster."""
    database = scene.entry("app", user="caf\u00e9")
    cluster.psql(
        'CREATE ROLE "caf\u00e9" LOGIN;'
        'CREATE DATABASE app OWNER "caf\u00e9" TEMPLATE template0 ENCODING SQL_ASCII LOCALE "C";'
        "REVOKE ALL ON DATABASE app FROM PUBLIC"
    )
    owner, rest = CONTENTS.split("CREATE SCHEMA", 1)
    run(cluster, owner.encode("utf-8") + b"CREATE SCHEMA" + rest.encode("latin-1"))
    return database


def run(cluster: Cluster, script: bytes) -> None:
    program = [cluster.bindir / "psql", "-X", "-q", "-h", cluster.host, "-p", str(cluster.port), "-U", "postgres"]
    subprocess.run([*program, "-v", "ON_ERROR_STOP=1", "-d", "app"], input=script, check=True)


def dump(cluster: Cluster) -> list[bytes]:
    program = [cluster.bindir / "pg_dump", "-h", cluster.host, "-p", str(cluster.port), "-U", "postgres", "-d", "app"]
    text = subprocess.run(program, capture_output=True, check=True).stdout
    return [line for line in text.splitlines() if not line.startswith((b"\\restrict", b"\\unrestrict"))]


def back_up(cluster: Cluster, store: Store, app: Database, host: SigningHost) -> outcome.Summary:
    options = BackupOptions(signer=host.signer)
    return backup.back_up_all([app], settings=cluster.settings, store=store, options=options)


def restored(cluster: Cluster, store: Store, app: Database, host: SigningHost, **options: bool) -> outcome.Summary:
    given = RestoreOptions(trust=trust(host), **options)
    return restore.restore_all([app], settings=cluster.settings, store=store, options=given)


def test_names_that_are_not_text_come_back(cluster: Cluster, store: Store, app: Database, host: SigningHost) -> None:
    before = dump(cluster)
    good(back_up(cluster, store, app, host))
    good(restored(cluster, store, app, host, grant_app_user=False))
    assert dump(cluster) == before

    # With every step that composes statements of such names; other owners make it grant privileges.
    cluster.psql("CREATE ROLE other")
    run(
        cluster,
        b'ALTER TABLE "sch\xe9ma"."caf\xe9" OWNER TO other; GRANT ALL ON SCHEMA "sch\xe9ma" TO other',
    )
    good(back_up(cluster, store, app, host))
    cluster.psql("DROP DATABASE app")
    good(restored(cluster, store, app, host, force_target_owner=True))
    run(cluster, b'SET ROLE "caf\xc3\xa9"; SELECT id FROM "sch\xe9ma"."caf\xe9"')


def test_a_name_that_is_not_text_is_printable_in_errors(
    cluster: Cluster, store: Store, app: Database, host: SigningHost
) -> None:
    run(
        cluster,
        b"CREATE FUNCTION public.here(int) RETURNS bool LANGUAGE sql AS $$ SELECT current_database() = 'app' $$;"
        b'ALTER TABLE "sch\xe9ma"."caf\xe9" ADD CONSTRAINT "ch\xe9ck" CHECK (public.here(id))',
    )
    before = dump(cluster)
    good(back_up(cluster, store, app, host))
    (failed,) = restored(cluster, store, app, host).failed
    assert failed.error is not None
    assert r'"sch\udce9ma"."caf\udce9"' in failed.error.message and "ch\\udce9ck" in failed.error.cause
    json.dumps(failed.as_dict(), ensure_ascii=False).encode("utf-8")
    assert dump(cluster) == before


@pytest.fixture(scope="module")
def ascii_cluster(shared_cluster: Cluster) -> t.Iterator[Cluster]:
    """A cluster as initdb makes it in the locale C: new databases have no encoding."""
    with Cluster(shared_cluster.major) as running:
        running.psql(
            "UPDATE pg_database SET encoding = pg_char_to_encoding('SQL_ASCII'), datcollate = 'C', datctype = 'C'"
        )
        yield running


@pytest.mark.parametrize("exists", [False, True])
@pytest.mark.parametrize(
    ("header", "encoding", "warning"),
    [
        ("SET client_encoding = 'UTF8';\n", "UTF8", "it was created with UTF8, in which the dump is written"),
        ("SET client_encoding = 'LATIN1';\n", "LATIN1", "it was created with LATIN1"),
        ("", "SQL_ASCII", "so it has SQL_ASCII"),
    ],
)
def test_a_dump_that_says_its_encoding_gets_it(
    ascii_cluster: Cluster, store: Store, header: str, encoding: str, warning: str, exists: bool
) -> None:
    """Dumps of other tools have no manifest that would say it."""
    entry = scene.entry(f"{encoding.lower()}{exists}".lower())
    ascii_cluster.psql(f"CREATE ROLE {entry.user} LOGIN")
    if exists:
        ascii_cluster.psql(f"CREATE DATABASE {entry.name} OWNER {entry.user} TEMPLATE template0")
    text = f"{header}CREATE TABLE t (x text);\nINSERT INTO t VALUES ('\u00e9');\n"
    key = f"db/{entry.name}/by-hand.sql"
    store.put(key, text.encode("latin-1" if encoding == "LATIN1" else "utf-8"))
    summary = restore.restore_all(
        [entry],
        settings=ascii_cluster.settings,
        store=store,
        options=RestoreOptions(trust=Trust(mode=UNSIGNED)),
        source=key,
    )
    warnings = good(summary).details["warnings"]
    assert [one for one in warnings if "encoding" in one and warning in one], warnings
    stored = "SELECT pg_encoding_to_char(encoding) FROM pg_database WHERE datname = current_database()"
    assert ascii_cluster.psql(stored, entry.name) == encoding
    octets = {"UTF8": "c3a9", "LATIN1": "e9", "SQL_ASCII": "c3a9"}[encoding]
    assert ascii_cluster.psql("SELECT encode(x::bytea, 'hex') FROM t", entry.name) == octets
