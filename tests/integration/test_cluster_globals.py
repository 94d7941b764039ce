# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The roles of a real cluster, backed up, and restored to another one after the first is lost."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import pathlib
import subprocess
import typing as t

import pyrage
import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine import outcome
from ansible_collections.infrazero.database.plugins.module_utils._engine.backup import backup
from ansible_collections.infrazero.database.plugins.module_utils._engine.backup.plan import BackupOptions
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain import cluster as domain
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain import layout
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.databases import Database, Databases
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.secret import Secret
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.subjects import (
    CLUSTER_GLOBALS,
    ClusterGlobals,
)
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.trust import UNSIGNED, Trust
from ansible_collections.infrazero.database.plugins.module_utils._engine.errors import (
    AccessDenied,
    BackupRefused,
    ConfigurationError,
    EngineError,
    ForeignSigner,
    Replayed,
    RestoreRefused,
    Unsigned,
    WrongDatabase,
    WrongIdentity,
)
from ansible_collections.infrazero.database.plugins.module_utils._engine.restore import cluster as restore
from ansible_collections.infrazero.database.plugins.module_utils._engine.restore.choose import choose
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.base import RecordedGlobals
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql import (
    bootstrap,
    cluster_roles,
    cluster_text,
)
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.connection import connect
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.registry import open_source
from ansible_collections.infrazero.database.plugins.module_utils._engine.stores.base import Store
from psycopg2 import sql

from tests.support import scene
from tests.support.cluster import Cluster
from tests.support.outcomes import good, only
from tests.support.signing import SigningHost, trust
from tests.support.stores import keys

IDENTITY = pyrage.x25519.Identity.generate()
PREFIX = "cluster/db1/"
SUBJECT = ClusterGlobals(PREFIX, recipients=(str(IDENTITY.to_public()),))
#: Everything that ends a name, a string, a comment or a dollar quote where it is not quoted well.
NASTY = "r\n\\! id\n'\"$globals$;--\u2028é"
PASSWORD = "canary-of-a-password"
SECRET = "canary-of-a-setting\n'; DROP ROLE x; --"


@pytest.fixture
def host(tmp_path: pathlib.Path) -> SigningHost:
    return SigningHost.make(tmp_path / "keys", "db1")


def back_up(
    cluster: Cluster,
    store: Store,
    host: SigningHost | None,
    *entries: Database,
    subject: ClusterGlobals = SUBJECT,
    **options: t.Any,
) -> outcome.Summary:
    chosen = BackupOptions(
        signer=None if host is None else host.signer, trust=Trust() if host is None else trust(host), **options
    )
    return backup.back_up_all(entries, settings=cluster.settings, store=store, options=chosen, cluster=subject)


def reading(store: Store, trusted: Trust, subject: ClusterGlobals = SUBJECT) -> t.Callable[[], RecordedGlobals | None]:
    return lambda: restore.read(store, subject, trust=trusted, identity=lambda _url: Secret(str(IDENTITY)))


def start(cluster: Cluster, *entries: Database, **options: t.Any) -> bootstrap.Report:
    return bootstrap.bootstrap(Databases(entries), settings=cluster.settings, **options)


def run(cluster: Cluster, *statements: str | sql.Composable) -> None:
    with contextlib.closing(connect(cluster.settings)) as conn, conn.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def roles(cluster: Cluster, *, passwords: bool = False) -> domain.Globals:
    """The globals as they are."""
    with contextlib.closing(connect(cluster.settings)) as conn:
        return cluster_roles.read(conn, passwords=passwords)


def populate(cluster: Cluster) -> None:
    """Roles of every sort, and names and values that are dangerous where they are not quoted well."""
    nasty = sql.Identifier(NASTY)
    run(
        cluster,
        "CREATE ROLE reporting NOLOGIN",
        f"CREATE ROLE analyst LOGIN PASSWORD '{PASSWORD}' CONNECTION LIMIT 3 VALID UNTIL '2031-02-03 04:05:06+00'",
        "CREATE ROLE forever NOINHERIT VALID UNTIL 'infinity'",
        "CREATE ROLE deploy LOGIN CREATEDB CREATEROLE REPLICATION BYPASSRLS",
        "CREATE ROLE boss SUPERUSER LOGIN",
        "CREATE ROLE watcher",
        sql.SQL("CREATE ROLE {}").format(nasty),
        sql.SQL("COMMENT ON ROLE {} IS {}").format(nasty, sql.Literal(NASTY)),
        sql.SQL("ALTER ROLE {} SET app.token = {}").format(nasty, sql.Literal(SECRET)),
        'ALTER ROLE analyst SET search_path = main, "od\'d, name", public',
        "ALTER ROLE analyst SET statement_timeout = '5s'",
        "ALTER ROLE analyst SET log_statement = 'all'",
        "GRANT reporting TO analyst WITH ADMIN OPTION",
        sql.SQL("GRANT reporting TO {} GRANTED BY analyst").format(nasty),
        "GRANT deploy TO reporting",
        "GRANT pg_monitor TO watcher",
        "GRANT boss TO forever",
        "COMMENT ON ROLE reporting IS 'reads everything'",
    )


def populate_shop(cluster: Cluster) -> None:
    """What belongs to the user of a database in the list."""
    run(
        cluster,
        "GRANT reporting TO shop",
        "GRANT boss TO shop",
        "ALTER ROLE shop SET work_mem = '7MB'",
        "COMMENT ON ROLE shop IS 'the shop'",
        "ALTER ROLE shop CREATEDB",
    )


def harmless(recorded: domain.Globals, *, users: t.Collection[str] = ()) -> domain.Globals:
    """What is left of *recorded* where privileges and passwords were not asked for."""
    plain = dict.fromkeys(domain.PRIVILEGES.values(), False)
    return dataclasses.replace(
        recorded,
        roles=tuple(
            role
            if role.name == "postgres"
            else dataclasses.replace(
                role,
                **plain,
                login=role.name in users,
                settings=tuple(setting for setting in role.settings if setting.name != "log_statement"),
            )
            for role in recorded.roles
        ),
        memberships=tuple(one for one in recorded.memberships if one.role not in ("boss", "pg_monitor")),
    )


def test_roles_come_back_on_a_fresh_cluster(cluster: Cluster, store: Store, host: SigningHost) -> None:
    shop = scene.entry("shop")
    scene.make(cluster, shop)
    populate(cluster)
    populate_shop(cluster)
    before = roles(cluster)
    made = back_up(cluster, store, host, shop)
    assert [(one.database, one.status) for one in made.outcomes] == [
        ("shop", "backed_up"),
        (CLUSTER_GLOBALS, "backed_up"),
    ], made
    details = made.outcomes[1].details
    assert details["key"].startswith("cluster/db1/globals/")
    assert details["key"].endswith(".sql.gz.age")
    assert (details["kind"], details["sequence"], details["signed"], details["warnings"]) == ("globals", 1, True, [])
    for key in keys(store, "cluster/"):
        assert b"analyst" not in store.get(key, limit=1 << 20), key

    read = reading(store, trust(host))
    with Cluster(cluster.major) as fresh:
        planned = start(fresh, shop, restore=True, read_globals=read, plan_only=True)
        assert planned.globals is not None
        assert not [role for role in roles(fresh).roles if role.name != "postgres"]

        report = start(fresh, shop, restore=True, read_globals=read)
        assert report.globals is not None
        assert report.globals == planned.globals
        assert report.diff() == planned.diff()
        assert set(report.as_dict()["plan"]) > set(report.globals.plan)
        assert roles(fresh) == harmless(before, users=["shop"])
        listed = "\n".join(report.globals.steps.listed)
        for expected in (
            'ALTER ROLE "boss" SUPERUSER',
            'ALTER ROLE "deploy" SUPERUSER'.replace("SUPERUSER", "REPLICATION BYPASSRLS CREATEROLE CREATEDB"),
            'ALTER ROLE "shop" CREATEDB',
            'GRANT "boss" TO "forever"',
            'GRANT "boss" TO "shop"',
            'GRANT "pg_monitor" TO "watcher"',
            "log_statement",
            "'analyst', 'boss', 'deploy' could log in",
        ):
            assert expected in listed
        shown = f"{report.as_dict()}{report.diff()}{report.globals!r}"
        assert "canary" not in shown
        assert "canary" not in fresh.log.read_text()

        # Nothing is read again, nor anything changed, although the restore of the database is outstanding.
        again = start(fresh, shop, restore=True, read_globals=lambda: pytest.fail("read again"))
        assert (again.resumed, again.changed, again.globals) == (True, False, None)

        # The new cluster continues the history of the lost one.
        continued = good(back_up(fresh, store, host))
        assert (continued.details["sequence"], continued.details["previous"]) == (2, details["key"])


def test_all_of_it_comes_back_where_it_is_asked_for(cluster: Cluster, store: Store, host: SigningHost) -> None:
    shop = scene.entry("shop")
    scene.make(cluster, shop)
    populate(cluster)
    populate_shop(cluster)
    subject = dataclasses.replace(SUBJECT, passwords=True)
    good(back_up(cluster, store, host, subject=subject))
    before = roles(cluster, passwords=True)
    with Cluster(cluster.major) as fresh:
        report = start(fresh, shop, read_globals=reading(store, trust(host)), privileges=True)
        assert report.globals is not None
        after = {role.name: role for role in roles(fresh, passwords=True).roles}
        for role in before.roles:
            if role.name == "analyst":
                assert role.password is not None
                kept = tuple(setting for setting in role.settings if setting.name != "log_statement")
                assert after[role.name] == dataclasses.replace(role, settings=kept)
            elif role.name == "shop":
                # Its attributes and its password are those of the list.
                assert after[role.name] == dataclasses.replace(role, createdb=False, password=after[role.name].password)
                assert after[role.name].password != role.password
            elif role.name != "postgres":
                # Without a password of their own, two of them could log in by other means.
                assert after[role.name] == dataclasses.replace(role, login=False)
        wanted = {one for one in before.memberships if (one.role, one.member) != ("boss", "shop")}
        assert set(roles(fresh).memberships) == wanted
        assert any('GRANT "boss" TO "shop"' in line for line in report.globals.steps.listed)
        assert "SCRAM-SHA-256" not in f"{report.as_dict()}{report.diff()}{report.globals!r}{fresh.log.read_text()}"


def test_existing_roles_stay_as_they_are(cluster: Cluster, store: Store, host: SigningHost) -> None:
    populate(cluster)
    good(back_up(cluster, store, host))
    with Cluster(cluster.major) as other:
        run(
            other,
            "CREATE ROLE analyst NOLOGIN",
            "ALTER ROLE analyst SET work_mem = '3MB'",
            "CREATE ROLE reporting SUPERUSER",
        )
        before = {role.name: role for role in roles(other).roles}
        recorded = reading(store, trust(host))()
        assert recorded is not None
        report = open_source(other.settings).restore_globals(recorded, privileges=True, plan_only=False)
        assert "deploy" in report.steps.created
        after = roles(other)
        assert {role.name: role for role in after.roles if role.name in before} == before
        # Neither is anybody made a member of a role that was here, nor the other way round.
        assert {(one.role, one.member) for one in after.memberships} == {
            ("boss", "forever"),
            ("pg_monitor", "watcher"),
        }
        again = open_source(other.settings).restore_globals(recorded, privileges=True, plan_only=False)
        assert not again.changed


def test_psql_applies_the_text(cluster: Cluster, store: Store, host: SigningHost, tmp_path: pathlib.Path) -> None:
    populate(cluster)
    made = good(back_up(cluster, store, host))
    before = roles(cluster)
    key = tmp_path / "key"
    key.write_text(f"{IDENTITY}\n")
    with Cluster(cluster.major) as fresh:
        pipe = (
            f"age -d -i {key} {store.url(made.details['key'])} | gunzip |"
            f" psql -X -q -v ON_ERROR_STOP=1 -h {fresh.host} -p {fresh.port} -U postgres postgres"
        )
        for _time in range(2):
            done = subprocess.run(["bash", "-euo", "pipefail", "-c", pipe], check=True, capture_output=True, text=True)
            assert (done.stdout, done.stderr) == ("", "")
        after = roles(fresh)
        # The text does not name grantors.
        assert after == dataclasses.replace(
            harmless(before),
            memberships=tuple(dataclasses.replace(one, grantor="postgres") for one in harmless(before).memberships),
        )
        # A second time, over a role that was changed meanwhile.
        run(fresh, "ALTER ROLE analyst LOGIN", "REVOKE reporting FROM analyst CASCADE", "DROP ROLE forever")
        changed = {role.name: role for role in roles(fresh).roles}
        subprocess.run(["bash", "-euo", "pipefail", "-c", pipe], check=True)
        again = {role.name: role for role in roles(fresh).roles}
        assert {name: again[name] for name in changed} == changed
        assert "forever" in again
        assert "canary" not in fresh.log.read_text()


def test_psql_applies_passwords_where_they_are_recorded(
    cluster: Cluster, store: Store, host: SigningHost, tmp_path: pathlib.Path
) -> None:
    populate(cluster)
    made = good(back_up(cluster, store, host, subject=dataclasses.replace(SUBJECT, passwords=True)))
    key = tmp_path / "key"
    key.write_text(f"{IDENTITY}\n")
    with Cluster(cluster.major) as fresh:
        command = f"age -d -i {key} {store.url(made.details['key'])} | gunzip"
        text = subprocess.run(["bash", "-euo", "pipefail", "-c", command], check=True, stdout=subprocess.PIPE).stdout
        fresh.psql(text.decode())
        analyst = {role.name: role for role in roles(fresh, passwords=True).roles}["analyst"]
        assert analyst.login
        assert (
            analyst.password == {role.name: role for role in roles(cluster, passwords=True).roles}["analyst"].password
        )
        assert "SCRAM-SHA-256" not in fresh.log.read_text()


# Backups ------------------------------------------------------------------------------------------------------------


def test_without_recipients_there_is_no_backup_of_globals(cluster: Cluster, store: Store, host: SigningHost) -> None:
    shop = scene.entry("shop")
    scene.make(cluster, shop)
    made = back_up(cluster, store, host, shop, subject=ClusterGlobals(PREFIX))
    assert [one.database for one in made.outcomes] == ["shop"]
    assert not made.warnings


def test_one_failure_does_not_stop_the_rest(cluster: Cluster, store: Store, host: SigningHost) -> None:
    shop = scene.entry("shop")
    scene.make(cluster, shop)
    broken = dataclasses.replace(SUBJECT, recipients=("age1nonsense",))
    made = back_up(cluster, store, host, shop, subject=broken)
    assert [one.status for one in made.outcomes] == ["backed_up", "failed"]
    made = back_up(cluster, store, host, scene.entry("gone"))
    assert [one.status for one in made.outcomes] == ["failed", "backed_up"]


def test_a_new_cluster_does_not_replace_the_globals_of_the_lost_one(
    cluster: Cluster, store: Store, host: SigningHost
) -> None:
    populate(cluster)
    first = good(back_up(cluster, store, host))
    with Cluster(cluster.major) as fresh:
        refused = only(back_up(fresh, store, host)).error
        assert isinstance(refused, BackupRefused)
        assert "belongs to another cluster" in refused.cause
        assert "cluster_prefix" in refused.hint
        recorded = reading(store, trust(host))()
        assert recorded is not None
        assert recorded.origin.key == first.details["key"]
        # Restored by hand, it may continue.
        open_source(fresh.settings).restore_globals(recorded, privileges=False, plan_only=False)
        assert good(back_up(fresh, store, host)).details["sequence"] == 2


def test_a_database_cannot_have_the_prefix_of_the_globals(cluster: Cluster, store: Store, host: SigningHost) -> None:
    for prefix in (SUBJECT.prefix, PREFIX, SUBJECT.prefix + "more/"):
        with pytest.raises(ConfigurationError, match="overlap"):
            back_up(cluster, store, host, scene.entry("shop", backup_prefix=prefix))


def test_a_dry_run_plans_the_globals(cluster: Cluster, store: Store, host: SigningHost) -> None:
    options = BackupOptions(signer=host.signer, trust=trust(host))
    planned = only(backup.plan_all([], settings=cluster.settings, store=store, options=options, cluster=SUBJECT))
    assert (planned.status, planned.details["kind"]) == ("planned", "globals")
    assert not keys(store, "cluster/")


# What must not become a role ----------------------------------------------------------------------------------------


@pytest.fixture
def second(tmp_path: pathlib.Path) -> SigningHost:
    return SigningHost.make(tmp_path / "keys", "db2")


def refusal(store: Store, trusted: Trust, subject: ClusterGlobals = SUBJECT) -> EngineError:
    with pytest.raises(EngineError) as caught:
        reading(store, trusted, subject)()
    return caught.value


def copy(store: Store, source: str, target: str) -> None:
    for key in keys(store, source):
        store.put(target + key[len(source) :], store.get(key, limit=1 << 20))


def test_globals_of_another_host(cluster: Cluster, store: Store, host: SigningHost, second: SigningHost) -> None:
    good(back_up(cluster, store, second))
    found = refusal(store, trust(host, second))
    assert isinstance(found, ForeignSigner)
    assert json.dumps({SUBJECT.prefix: ["db2"]}) in found.hint
    # The inventory accepts it by a prefix, as the hint says.
    accepted = trust(host, second, signers={"cluster/db1/": ("db2",)})
    assert reading(store, accepted)() is not None


def test_globals_of_another_prefix(cluster: Cluster, store: Store, host: SigningHost) -> None:
    """A backup that this host itself has made, of a cluster with weaker roles, copied by somebody."""
    staging = dataclasses.replace(SUBJECT, cluster_prefix="cluster/staging/")
    good(back_up(cluster, store, host, subject=staging))
    copy(store, "cluster/staging/", PREFIX)
    assert isinstance(refusal(store, trust(host)), Replayed)


def test_an_unsigned_backup(cluster: Cluster, store: Store, host: SigningHost) -> None:
    made = good(back_up(cluster, store, None))
    assert "no restore will use it" in made.details["warnings"][0]
    for trusted in (trust(host), dataclasses.replace(trust(host), mode=UNSIGNED)):
        found = refusal(store, trusted)
        assert isinstance(found, Unsigned)
        assert "psql" in found.hint
        assert "trust: unsigned" not in found.hint


def test_a_database_in_place_of_globals_and_the_other_way_round(
    cluster: Cluster, store: Store, host: SigningHost
) -> None:
    shop = scene.entry("shop")
    scene.make(cluster, shop)
    made = back_up(cluster, store, host, shop)
    dump, globals_ = made.outcomes
    for source in (globals_.details["manifest"], globals_.details["key"], SUBJECT.prefix):
        with pytest.raises(WrongDatabase):
            choose(store, source, database=shop, trust=trust(host))
    assert choose(store, dump.details["key"], database=shop, trust=trust(host)).proven
    copy(store, "db/shop/", SUBJECT.prefix)
    assert isinstance(refusal(store, trust(host)), WrongDatabase)


def test_the_wrong_key(cluster: Cluster, store: Store, host: SigningHost) -> None:
    good(back_up(cluster, store, host))
    other = Secret(str(pyrage.x25519.Identity.generate()))
    with pytest.raises(WrongIdentity):
        restore.read(store, SUBJECT, trust=trust(host), identity=lambda _url: other)


@pytest.mark.parametrize(
    "text",
    [
        b"CREATE ROLE tenant SUPERUSER;\n",
        b"-- infrazero globals: {}\nCREATE ROLE tenant SUPERUSER;\n",
        b"\n-- infrazero globals: {}\n",
        b"",
    ],
)
def test_a_text_that_was_written_by_hand(
    cluster: Cluster, store: Store, host: SigningHost, monkeypatch: pytest.MonkeyPatch, text: bytes
) -> None:
    """Signed and encrypted as it must be, so only its contents are wrong."""
    monkeypatch.setattr(cluster_text, "render", lambda _globals: text)
    good(back_up(cluster, store, host))
    with Cluster(cluster.major) as fresh:
        with pytest.raises(RestoreRefused, match="not a backup of a cluster's globals"):
            start(fresh, scene.entry("shop"), read_globals=reading(store, trust(host)))
        assert "tenant" not in {role.name for role in roles(fresh).roles}


def test_sql_after_the_facts_is_never_executed(
    cluster: Cluster, store: Store, host: SigningHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    populate(cluster)
    rendered = cluster_text.render
    monkeypatch.setattr(
        cluster_text, "render", lambda found: rendered(found) + b"CREATE ROLE tenant SUPERUSER LOGIN;\n"
    )
    good(back_up(cluster, store, host))
    with Cluster(cluster.major) as fresh:
        start(fresh, scene.entry("shop"), read_globals=reading(store, trust(host)))
        names = {role.name for role in roles(fresh).roles}
        assert "analyst" in names
        assert "tenant" not in names


def test_a_failure_leaves_a_fresh_cluster_fresh(cluster: Cluster, store: Store) -> None:
    def denied() -> RecordedGlobals | None:
        raise AccessDenied("the store denies access")

    shop = scene.entry("shop")
    with Cluster(cluster.major) as fresh:
        for plan_only in (True, False):
            with pytest.raises(AccessDenied):
                start(fresh, shop, restore=True, read_globals=denied, plan_only=plan_only)
        assert start(fresh, shop, plan_only=True).fresh
        # No backup is not a failure.
        report = start(fresh, shop, restore=True, read_globals=reading(store, Trust()))
        assert (report.fresh, report.globals) == (True, None)


def test_a_missing_latest_is_no_absence(cluster: Cluster, store: Store, host: SigningHost) -> None:
    good(back_up(cluster, store, host))
    store.delete(SUBJECT.prefix + layout.LATEST)
    assert isinstance(refusal(store, trust(host)), RestoreRefused)


def test_a_setting_that_the_server_refuses_is_a_warning_without_its_value(
    cluster: Cluster, store: Store, host: SigningHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(cluster, "CREATE ROLE odd", "ALTER ROLE odd SET work_mem = '7MB'", "ALTER ROLE odd SET app.kept = 'yes'")
    encoded = domain.encode
    monkeypatch.setattr(domain, "encode", lambda found: encoded(found).replace("7MB", "canary-7"))
    good(back_up(cluster, store, host))
    with Cluster(cluster.major) as fresh:
        report = start(fresh, scene.entry("shop"), read_globals=reading(store, trust(host)))
        assert report.globals is not None
        assert report.globals.warnings == ("this server does not accept the setting work_mem of role 'odd'",)
        odd = {role.name: role for role in roles(fresh).roles}["odd"]
        assert [(setting.name, setting.value) for setting in odd.settings] == [("app.kept", "yes")]
        assert "canary" not in fresh.log.read_text()
