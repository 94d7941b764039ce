# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules pg_db_bootstrap and pg_cluster_info, run by Ansible against real clusters."""

from __future__ import annotations

import contextlib
import datetime
import pathlib
import typing as t

import psycopg2
import pyrage
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.records import (
    EMPTY,
    RESTORED,
    RestoredFrom,
)
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql import state
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.connection import connect

from tests.support.cluster import Cluster
from tests.support.playbook import Played, Task, play
from tests.support.signing import SigningHost

IDENTITY = pyrage.x25519.Identity.generate()
#: Anything that a shell, a template, SQL or a connection string would take for something else.
NASTY = "na'me\"{{1+1}};$(id)%s=é"
PASSWORD = "canary-of-a-password {{ 1 + 1 }} '\"\\%s"
NOTHING: dict[str, list[str]] = {"created": [], "changed": []}


def entry(name: str, user: str | None = None, password: str = PASSWORD, **changes: t.Any) -> dict[str, t.Any]:
    return {
        "name": name,
        "user": user or name,
        "password": password,
        "backup_age_public_key": str(IDENTITY.to_public()),
        **changes,
    }


def login(cluster: Cluster) -> dict[str, t.Any]:
    return {"login_host": cluster.host, "login_port": cluster.port}


def bootstrap(cluster: Cluster, *entries: dict[str, t.Any], **options: t.Any) -> Task:
    check, diff = options.pop("check", False), options.pop("diff", False)
    return Task("pg_db_bootstrap", {"databases": list(entries), **login(cluster), **options}, check=check, diff=diff)


def info(cluster: Cluster, *, check: bool = False) -> Task:
    return Task("pg_cluster_info", login(cluster), check=check)


def can_log_in(cluster: Cluster, user: str, password: str, database: str) -> bool:
    try:
        session = psycopg2.connect(host="127.0.0.1", port=cluster.port, user=user, password=password, dbname=database)
    except psycopg2.OperationalError:
        return False
    with contextlib.closing(session) as conn, conn.cursor() as cursor:
        cursor.execute("CREATE SCHEMA mine")  # only an owner may
    return True


def without_secrets(played: Played) -> None:
    assert "canary-of-a-password" not in played.output
    assert str(IDENTITY) not in played.output
    assert "SCRAM-SHA-256$" not in played.output


def test_create(cluster: Cluster) -> None:
    wish = (entry("app"), entry(NASTY, "app"), entry("b", NASTY, password="md5 of " + PASSWORD))
    played = play(
        info(cluster),
        bootstrap(cluster, *wish, check=True, diff=True),
        info(cluster, check=True),
        bootstrap(cluster, *wish, diff=True),
        bootstrap(cluster, *wish, check=True, diff=True),
        bootstrap(cluster, *wish),
        info(cluster),
    )
    before, planned, between, made, planned_again, again, after = played.results
    assert before["fresh"]
    assert (before["bootstrap"]["state"], before["databases"]) == ("none", [])
    assert {key: between[key] for key in before} == before, "check mode changes nothing"

    assert planned["changed"]
    assert planned["fresh"]
    assert planned["plan"] == [
        "create role 'app'",
        f"create role {NASTY!r}",
        "create database 'app' owned by 'app'",
        f"create database {NASTY!r} owned by 'app'",
        f"create database 'b' owned by {NASTY!r}",
    ]
    assert planned["diff"]["before"].splitlines()[0] == "role 'app': absent"
    assert planned["diff"]["after"].splitlines()[-2:] == [
        f"database 'b': owner {NASTY!r}, owner's privileges all",
        "bootstrap: finished",
    ]
    for key in ("changed", "fresh", "plan", "roles", "databases", "outstanding", "diff"):
        assert made[key] == planned[key], f"the run does what check mode said: {key}"
    assert made["roles"] == {"created": ["app", NASTY], "changed": []}
    assert made["databases"] == {"created": ["app", NASTY, "b"], "changed": []}

    for quiet in (planned_again, again):
        assert quiet["changed"] is False
        assert (quiet["plan"], quiet["roles"], quiet["databases"]) == ([], NOTHING, NOTHING)
        # This server is not one of ours: its own databases stay open to everybody, which every run tells once.
        (warning,) = quiet["warnings"]
        assert warning.endswith('REVOKE CONNECT ON DATABASE "postgres", "template1" FROM PUBLIC')
    assert planned_again["diff"]["before"] == planned_again["diff"]["after"] != ""

    assert not after["fresh"]
    assert after["bootstrap"]["state"] == "finished"
    assert [(one["name"], one["exists"], one["restore"]) for one in after["databases"]] == sorted(
        (name, True, "skipped") for name in ("app", "b", NASTY)
    )
    assert can_log_in(cluster, "app", PASSWORD, "app")
    assert can_log_in(cluster, "app", PASSWORD, NASTY)
    assert can_log_in(cluster, NASTY, "md5 of " + PASSWORD, "b")
    assert cluster.psql("SELECT DISTINCT left(rolpassword, 14) FROM pg_authid WHERE rolpassword IS NOT NULL") == (
        "SCRAM-SHA-256$"
    )
    without_secrets(played)


def test_change(cluster: Cluster) -> None:
    cluster.psql("CREATE ROLE app NOLOGIN PASSWORD 'old'; CREATE ROLE other LOGIN; CREATE DATABASE app OWNER other")
    cluster.psql("ALTER DATABASE app CONNECTION LIMIT 7; ALTER ROLE app SET work_mem = '5MB'")
    cluster.psql("CREATE DATABASE foreign_db")
    wish = (entry("app"), entry("added", "app"))
    played = play(
        bootstrap(cluster, *wish, check=True, diff=True),
        bootstrap(cluster, *wish, diff=True),
        bootstrap(cluster, *wish, check=True),
        bootstrap(cluster, *wish),
        info(cluster),
    )
    planned, made, planned_again, again, after = played.results
    assert planned["changed"]
    assert not planned["fresh"]
    assert planned["plan"] == [
        "alter role 'app': allow login, set password",
        "create database 'added' owned by 'app'",
        "change owner of database 'app' from 'other' to 'app'",
    ]
    for key in ("changed", "fresh", "plan", "roles", "databases", "outstanding", "diff"):
        assert made[key] == planned[key]
    assert made["roles"] == {"created": [], "changed": ["app"]}
    assert made["databases"] == {"created": ["added"], "changed": ["app"]}
    assert not planned_again["changed"]
    assert not again["changed"]

    records = {one["name"]: one["restore"] for one in after["databases"]}
    assert records == {"added": "skipped", "app": None, "foreign_db": None}, "only what we made is recorded"
    assert after["bootstrap"]["state"] == "none"
    assert can_log_in(cluster, "app", PASSWORD, "app")
    kept = "FROM pg_database, pg_roles WHERE datname = 'app' AND rolname = 'app'"
    assert cluster.psql(f"SELECT datconnlimit, rolconfig {kept}") == "7|{work_mem=5MB}"
    without_secrets(played)


def test_a_changed_password_is_set_and_no_other_change_made(cluster: Cluster) -> None:
    changed = entry("app", password="another " + PASSWORD)
    played = play(
        bootstrap(cluster, entry("app")),
        bootstrap(cluster, changed, check=True),
        bootstrap(cluster, changed),
        bootstrap(cluster, changed),
    )
    _first, planned, made, again = played.results
    assert planned["plan"] == made["plan"] == ["alter role 'app': set password"]
    assert (made["changed"], again["changed"]) == (True, False)
    assert can_log_in(cluster, "app", "another " + PASSWORD, "app")
    without_secrets(played)


def test_a_fresh_cluster_whose_databases_are_to_be_restored(cluster: Cluster) -> None:
    wish = (
        entry("latest", backup_age_private_key=str(IDENTITY)),
        entry("given", restore_latest=False, restore_dump_path="db/given/"),
        entry("unwanted", restore_latest=False),
    )
    played = play(
        bootstrap(cluster, *wish, restore=True, check=True, diff=True),
        info(cluster),
        bootstrap(cluster, *wish, restore=True),
        bootstrap(cluster, *wish, restore=True),
        bootstrap(cluster, *wish),
        info(cluster),
    )
    planned, before, made, again, without, after = played.results
    assert planned["outstanding"] == ["latest", "given"]
    assert planned["diff"]["after"].endswith("bootstrap: waits for the restore of 'latest', 'given'\n")
    assert before["fresh"]
    assert sorted(made["outstanding"]) == ["given", "latest"]
    for later in (again, without):
        assert later["changed"] is False
        assert sorted(later["outstanding"]) == ["given", "latest"], "what waits goes on waiting"
    assert after["bootstrap"]["state"] == "unfinished"
    assert {one["name"]: one["restore"] for one in after["databases"]} == {
        "latest": "outstanding",
        "given": "outstanding",
        "unwanted": "skipped",
    }
    without_secrets(played)

    with contextlib.closing(connect(cluster.settings)) as conn:
        for name in ("latest", "given"):
            state.record_outcome(conn, name, EMPTY)
    planned, made, again = play(
        bootstrap(cluster, *wish, restore=True, check=True),
        bootstrap(cluster, *wish, restore=True),
        bootstrap(cluster, *wish, restore=True),
    ).results
    assert planned["changed"], "the bootstrap can be finished"
    assert made["changed"]
    assert (again["changed"], again["outstanding"]) == (False, [])


def test_a_bootstrap_that_was_killed_is_resumed(cluster: Cluster) -> None:
    with contextlib.closing(connect(cluster.settings)) as conn:
        state.begin_bootstrap(conn, {"one": True, "two": True}, host="db1")
    cluster.psql("CREATE ROLE one LOGIN")
    wish = (entry("one"), entry("two"), entry("three"))
    planned, made, after = play(
        bootstrap(cluster, *wish, restore=True, check=True),
        bootstrap(cluster, *wish, restore=True),
        info(cluster),
    ).results
    assert not made["fresh"]
    assert sorted(planned["outstanding"]) == sorted(made["outstanding"]) == ["one", "three", "two"]
    assert made["databases"]["created"] == ["one", "two", "three"]
    assert after["bootstrap"]["host"] == "db1", "it is the same bootstrap"
    assert after["bootstrap"]["state"] == "unfinished"


def test_a_database_that_was_restored_and_is_gone_is_made_empty_and_known_to_be(cluster: Cluster) -> None:
    source = RestoredFrom(url="s3://b/k", key="k", sha256="00", manifest_sha256="11")
    with contextlib.closing(connect(cluster.settings)) as conn:
        state.record_outcome(conn, "app", RESTORED, restored_from=source)
    before, _made, after = play(info(cluster), bootstrap(cluster, entry("app")), info(cluster)).results
    (database,) = before["databases"]
    assert (database["exists"], database["restore"]) == (False, "restored")
    assert database["restored_from"]["manifest_sha256"] == "11"
    (database,) = after["databases"]
    assert (database["exists"], database["restore"], database["restored_from"]) == (True, "skipped", None)


BROKEN: list[tuple[list[dict[str, t.Any]], dict[str, t.Any], list[str]]] = [
    (
        [entry("a b", password=""), {"user": "x"}],
        {},
        ["has 6 errors", "entry 1 (a b), name: contains whitespace", "entry 2, password: is missing"],
    ),
    (
        [entry("app", backup_age_private_key=str(pyrage.x25519.Identity.generate()))],
        {},
        ["backup_age_private_key: doesn't belong"],
    ),
    ([entry("app", "postgres")], {}, ["role 'postgres' is a superuser"]),
    ([entry("app")], {"maintenance_db": "app"}, ["maintenance database"]),
    ([entry("app")], {"login_port": 1}, ["connect: could not connect as 'postgres' to"]),
    (
        [entry("app")],
        {"login_host": "127.0.0.1", "login_password": "wrong " + PASSWORD},
        ["connect: could not connect as 'postgres' to", "hint: check the role's password"],
    ),
]


def test_one_clear_error_and_nothing_changed(cluster: Cluster) -> None:
    tasks = [bootstrap(cluster, *entries, **options) for entries, options, _texts in BROKEN]
    played = play(*tasks, info(cluster))
    *results, after = played.results
    for result, (_entries, _options, texts) in zip(results, BROKEN):
        assert result["failed"]
        assert not result["changed"]
        for text in texts:
            assert text in result["msg"]
        assert result["error"]["hint"]
    assert results[0]["error"]["faults"][0]["field"] == "name"
    assert after["fresh"]
    assert after["databases"] == []
    assert cluster.psql("SELECT count(*) FROM pg_namespace WHERE nspname = 'infrazero'") == "0"
    without_secrets(played)


def test_what_is_kept_and_what_is_under_way_is_told(cluster: Cluster) -> None:
    cluster.psql("CREATE DATABASE app__replaced_0a1b2c3d")
    cluster.psql("CREATE DATABASE app_check")
    source = RestoredFrom("file:///app.age", "app.age", "0" * 64)
    with contextlib.closing(connect(cluster.settings)) as conn:
        state.record_replaced(conn, "app__replaced_0a1b2c3d", database="app", keep=datetime.timedelta(hours=1))
        state.begin_restore(conn, "4d5e6f70", database="app", stage="app__restore_4d5e6f70", role="loader")
        state.record_copy(conn, "app_check", database="app", restored_from=source, keep=None)
    (result,) = play(info(cluster)).results
    (kept,) = result["replaced"]
    assert (kept["name"], kept["database"]) == ("app__replaced_0a1b2c3d", "app")
    assert kept["replaced_at"] < kept["drop_after"]
    assert kept.keys() == {"name", "database", "replaced_at", "drop_after"}
    (copy,) = result["copies"]
    assert copy.pop("created_at").endswith("Z")
    assert copy == {"name": "app_check", "database": "app", "drop_after": None, "source": "file:///app.age"}
    (restore,) = result["restores"]
    assert (restore["id"], restore["stage"]) == ("4d5e6f70", "app__restore_4d5e6f70")
    assert result["databases"] == []
    assert result["server_version_num"] // 10000 == cluster.major
    assert result["server_version"].startswith(str(cluster.major))
    assert int(result["system_identifier"]) > 0
    assert result["in_recovery"] is False


def test_the_roles_of_a_lost_cluster(cluster: Cluster, tmp_path: pathlib.Path) -> None:
    """The key reaches the module only, and nothing secret leaves it."""
    host = SigningHost.make(tmp_path / "keys", "db1")
    (tmp_path / "store").mkdir()
    where = {
        "directory": str(tmp_path / "store"),
        "signing_name": "db1",
        "signing_key": str(host.path),
        "allowed_signers": host.line,
        "cluster_prefix": "cluster/db1/",
    }
    recipients = {"cluster_age_public_keys": [str(IDENTITY.to_public())], "cluster_passwords": True}
    cluster.psql(
        "CREATE ROLE reporting LOGIN PASSWORD 'canary-of-a-password'; CREATE ROLE deploy CREATEDB;"
        "ALTER ROLE reporting SET app.token = 'canary-of-a-password'; GRANT pg_monitor TO reporting"
    )
    key = {"cluster_age_private_key": str(IDENTITY)}
    cluster.psql("CREATE DATABASE app")
    (made,) = play(Task("age_backup", {"databases": [entry("app")], **login(cluster), **where, **recipients})).results
    assert [one["status"] for one in made["databases"]] == ["backed_up", "backed_up"]
    assert made["summary"] == "backed_up=2 failed=0"

    with Cluster(cluster.major) as fresh:
        played = play(
            bootstrap(fresh, entry("app"), **where, **key, check=True, diff=True),
            bootstrap(fresh, entry("app"), **where, **key, diff=True),
            bootstrap(fresh, entry("app"), **where, **key, diff=True),
            bootstrap(fresh, entry("app")),
            info(fresh),
        )
        planned, done, again, without, after = played.results
        assert {key: planned["globals"][key] for key in ("created", "plan", "listed")} == {
            key: done["globals"][key] for key in ("created", "plan", "listed")
        }
        assert done["globals"]["created"] == ["deploy", "reporting"]
        assert done["globals"]["signed_by"]["name"] == "db1"
        assert "set app.token of role 'reporting'" in done["plan"]
        assert planned["diff"] == done["diff"]
        assert "role 'reporting': absent" in done["diff"]["before"].splitlines()
        assert "role 'reporting': login yes, password set" in done["diff"]["after"].splitlines()
        assert any('ALTER ROLE "deploy" CREATEDB' in warning for warning in done["warnings"])
        assert any('GRANT "pg_monitor" TO "reporting"' in warning for warning in done["warnings"])
        assert (again["changed"], again["globals"], without["changed"], without["globals"]) == (
            False,
            None,
            False,
            None,
        )
        assert [one["name"] for one in after["databases"]] == ["app"], "the globals are not a database"
        without_secrets(played)

    with Cluster(cluster.major) as fresh:
        away = {**where, "cluster_prefix": "cluster/db9/"}
        gone = {**where, "directory": str(tmp_path / "not mounted")}
        failed, none = play(
            bootstrap(fresh, entry("app"), **gone, **key),
            bootstrap(fresh, entry("app"), **away, **key),
        ).results
        assert failed["failed"]
        assert none["fresh"], "a store that cannot be reached leaves the cluster fresh"
        assert none["globals"] is None
        assert any("has no backup of them in cluster/db9/globals/" in warning for warning in none["warnings"])
