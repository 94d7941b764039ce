# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules age_backup, backup_info and s3_manifest_restore, run by Ansible against real clusters and stores."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import typing as t

import psycopg2
import pytest
import yaml
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.databases import Database
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.secret import Secret
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql import state
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.connection import connect
from ansible_collections.infrazero.database.plugins.module_utils._engine.stores import base, registry

from conftest import ROOT
from tests.support import scene
from tests.support.cluster import Cluster
from tests.support.foreign import FOREIGN
from tests.support.playbook import Played, Task, play
from tests.support.s3server import S3Server
from tests.support.scene import key_of
from tests.support.signing import SigningHost

#: Anything that a shell, a template or SQL would take for something else.
PASSWORD = "canary-of-a-password {{ 1 + 1 }} '\"\\%s"


@pytest.fixture(scope="module")
def server() -> t.Iterator[S3Server]:
    with S3Server(tls=True) as running:
        yield running


def listed(*entries: Database, private: bool = False) -> list[dict[str, t.Any]]:
    return [
        {
            "name": entry.name,
            "user": entry.user,
            "password": PASSWORD,
            "backup_age_public_key": entry.recipients[0],
            **({"backup_age_private_key": key_of(entry)} if private else {}),
        }
        for entry in entries
    ]


class Scene:
    """Tasks on one cluster and one store."""

    def __init__(self, cluster: Cluster, store: t.Mapping[str, t.Any], *secrets: str) -> None:
        self.cluster = cluster
        self.store = store
        self.secrets = [PASSWORD, "canary-of-a-password", *secrets]

    def task(self, module: str, *entries: Database, private: bool = False, **options: t.Any) -> Task:
        check, diff = options.pop("check", False), options.pop("diff", False)
        self.secrets += [key_of(entry) for entry in entries]
        login = {"login_host": self.cluster.host, "login_port": self.cluster.port}
        arguments = {"databases": listed(*entries, private=private), **login, **self.store, **options}
        return Task(module, arguments, check=check, diff=diff)

    def backup(self, *entries: Database, **options: t.Any) -> Task:
        return self.task("age_backup", *entries, **options)

    def restore(self, *entries: Database, **options: t.Any) -> Task:
        return self.task("s3_manifest_restore", *entries, **{"private": True, "trust": "unsigned", **options})

    def info(self, *names: str, check: bool = False) -> Task:
        return Task("backup_info", {"names": names, **self.store}, check=check)

    def play(self, *tasks: Task) -> list[dict[str, t.Any]]:
        return self.checked(play(*tasks)).results

    def checked(self, played: Played) -> Played:
        for secret in self.secrets:
            assert secret not in played.output
            # As it stands in JSON and in Python.
            assert secret.replace("\\", "\\\\").replace('"', '\\"') not in played.output
        return played


@pytest.fixture
def directory(cluster: Cluster, tmp_path: pathlib.Path) -> Scene:
    return Scene(cluster, {"directory": str(tmp_path)})


@pytest.fixture
def bucket(cluster: Cluster, server: S3Server, tmp_path: pathlib.Path) -> Scene:
    server.create_bucket(tmp_path.name.replace("_", "-").lower())
    store = {
        "bucket": tmp_path.name.replace("_", "-").lower(),
        "endpoint": server.endpoint,
        "region": server.region,
        "access_key_id": server.access_key,
        "secret_access_key": server.secret_key,
        "ca_bundle": server.ca_bundle,
    }
    return Scene(cluster, store, server.secret_key)


def make(cluster: Cluster, entry: Database) -> None:
    scene.make(cluster, entry, "CREATE TABLE t AS SELECT i, md5(i::text) AS x FROM generate_series(1, 100) i")


def oids(cluster: Cluster) -> str:
    """Databases and roles: what check mode and failures leave as they were."""
    return cluster.psql(
        "SELECT (SELECT string_agg(datname || oid, ',' ORDER BY oid) FROM pg_database)"
        " || (SELECT string_agg(rolname, ',' ORDER BY oid) FROM pg_roles)"
    )


def files(path: str) -> list[str]:
    return sorted(str(file) for file in pathlib.Path(path).rglob("*") if file.is_file())


def test_keys_that_no_backup_has_are_left_out_and_counted(directory: Scene) -> None:
    """What Ansible prints of a result is JSON, in which it escapes only some of what a terminal obeys."""
    app = scene.entry("app\u200d")  # a joiner, as names in some languages have it
    make(directory.cluster, app)
    store = registry.open_store(base.DirectorySettings(directory.store["directory"]))
    for text in FOREIGN.values():
        store.put(f"{app.prefix}{text}/20290101T000000Z.sql.gz.age", b"x")
    made, info = directory.play(directory.backup(app), directory.info(app.name))
    (backup,) = info["databases"][app.name]["backups"]
    assert backup["key"] == made["databases"][0]["key"] and backup["state"] == "complete"
    assert info["databases"][app.name]["latest"] == backup
    (warning,) = info["warnings"]
    assert warning.startswith(f"{len(FOREIGN)} objects under db/app\\u200d/ are omitted") and warning.isprintable()


def test_from_one_end_to_the_other_over_s3(bucket: Scene) -> None:
    one, two = scene.entry("one"), scene.entry("two")
    for entry in (one, two):
        make(bucket.cluster, entry)
    before = {entry.name: scene.rows(bucket.cluster, entry) for entry in (one, two)}
    planned, empty, made, info, again = bucket.play(
        bucket.backup(one, two, check=True, diff=True),
        bucket.info("one", check=True),
        bucket.backup(one, two, jobs=2, diff=True),
        bucket.info("one", "two"),
        bucket.backup(one, two, only=["two"], check=True),
    )
    assert planned["changed"] and planned["summary"] == "planned=2 failed=0"
    assert empty["databases"]["one"] == {"latest": None, "backups": []}, "check mode writes nothing"
    assert made["changed"] and made["summary"] == "backed_up=2 failed=0"
    assert [(d["database"], d["rows"], d["tables"]) for d in made["databases"]] == [("one", 100, 1), ("two", 100, 1)]
    assert not info["changed"]
    for database in made["databases"]:
        (backup,) = info["databases"][database["database"]]["backups"]
        assert (backup["key"], backup["size"], backup["state"]) == (database["key"], database["size"], "complete")
        assert info["databases"][database["database"]]["latest"] == backup
    assert [d["database"] for d in again["databases"]] == ["two"]
    assert again["databases"][0]["previous"] == made["databases"][1]["key"]

    for entry in (one, two):
        bucket.cluster.psql("TRUNCATE t", entry.name)
    kept = oids(bucket.cluster)
    (plan,) = bucket.play(bucket.restore(one, two, check=True, diff=True))
    assert plan["changed"] and oids(bucket.cluster) == kept
    (first, _second) = plan["databases"]
    assert (first["status"], first["rows"], first["encrypted"]) == ("planned", 100, True)
    assert first["replaces"]["owner"] == "one"
    done, planned_again, done_again = bucket.play(
        bucket.restore(one, two, diff=True),
        bucket.restore(one, two, check=True),
        bucket.restore(one, two, keep_replaced=0),
    )
    assert done["summary"] == "restored=2 empty=0 skipped=0 failed=0"
    assert [d["after"] for d in done["diff"]] == [d["after"] for d in plan["diff"]], "the run does what check mode said"
    assert all(d["kept_as"] and d["verified"] for d in done["databases"])
    # A restore that is asked for is made each time.
    assert planned_again["changed"] and done_again["changed"]
    assert {entry.name: scene.rows(bucket.cluster, entry) for entry in (one, two)} == before


def test_what_a_fresh_cluster_waits_for(directory: Scene) -> None:
    cluster = directory.cluster
    old, new = scene.entry("old"), scene.entry("new")
    make(cluster, old)
    before = scene.rows(cluster, old)
    directory.play(directory.backup(old))
    cluster.psql("DROP DATABASE old")
    cluster.psql("DROP ROLE old")

    bootstrap = directory.task("pg_db_bootstrap", old, new, private=True, restore=True)
    arguments = {name: value for name, value in bootstrap.arguments.items() if name != "directory"}
    waiting = {"outstanding_only": True}
    made, planned, between, refused, done, planned_again, again, backed_up = directory.play(
        Task("pg_db_bootstrap", arguments),
        directory.restore(old, new, check=True, **waiting),
        Task("pg_cluster_info", {"login_host": cluster.host, "login_port": cluster.port}),
        directory.backup(old, only=["old"]),
        directory.restore(old, new, **waiting),
        directory.restore(old, new, check=True, **waiting),
        directory.restore(old, new, **waiting),
        directory.backup(old, new),
    )
    assert sorted(made["outstanding"]) == ["new", "old"]
    assert [d["status"] for d in planned["databases"]] == ["planned", "empty"]
    assert {d["name"]: d["restore"] for d in between["databases"]} == {"old": "outstanding", "new": "outstanding"}
    assert refused["failed"] and "outstanding" in refused["msg"]
    assert done["changed"] and done["summary"] == "restored=1 empty=1 skipped=0 failed=0"
    for quiet in (planned_again, again):
        assert not quiet["changed"] and quiet["summary"] == "restored=0 empty=0 skipped=2 failed=0"
    assert backed_up["summary"] == "backed_up=2 failed=0"
    assert scene.rows(cluster, old) == before
    with contextlib.closing(psycopg2.connect(host="127.0.0.1", port=cluster.port, user="old", password=PASSWORD)) as c:
        assert c.info.dbname == "old"


def test_a_restore_with_errors_is_no_failure_of_the_module(directory: Scene) -> None:
    cluster = directory.cluster
    app = scene.entry("app")
    make(cluster, app)
    cluster.psql(
        "CREATE TABLE lost AS SELECT 1 AS a; CREATE FUNCTION gone(a int) RETURNS boolean LANGUAGE plpgsql STABLE"
        " AS 'BEGIN RETURN a IN (TABLE public.lost); END'; CREATE TABLE broken (a int CHECK (gone(a)));"
        "INSERT INTO broken VALUES (1); DROP TABLE lost",
        "app",
    )
    _made, stopped, done = directory.play(
        directory.backup(app), directory.restore(app), directory.restore(app, on_error="continue", diff=True)
    )
    assert stopped["failed"] and "on_error (--on-error, DB_RESTORE_ON_ERROR) to continue" in stopped["msg"]
    assert not done.get("failed") and done["changed"] and done["diff"]
    assert done["summary"] == "restored=0 restored_with_errors=1 empty=0 skipped=0 failed=0"
    (database,) = done["databases"]
    assert database["status"] == "restored_with_errors" and database["incomplete_tables"] == ["public.broken"]
    assert any("not restored: COPY public.broken failed" in warning for warning in database["warnings"])


def test_failures_of_a_restore_change_nothing(directory: Scene) -> None:
    cluster = directory.cluster
    app, other = scene.entry("app"), scene.entry("other")
    make(cluster, app)
    directory.play(directory.backup(app))
    directory.secrets.append(key_of(other))
    kept, rows = oids(cluster), scene.rows(cluster, app)
    wrong, none, missing, digest, source, twice, hours, unknown, exclusive = results = directory.play(
        directory.restore(app, age_private_key=key_of(other)),
        directory.restore(app, private=False),
        directory.restore(app, source="db/nowhere/"),
        directory.restore(app, expected_sha256="ab" * 32),
        directory.restore(app, source="/etc/passwd"),
        directory.restore(app, other, source="db/app/"),
        directory.restore(app, keep_replaced=-1),
        directory.restore(app, only=["nobody"]),
        directory.restore(app, source="db/app/", outstanding_only=True),
    )
    assert all(result["failed"] and not result.get("changed") for result in results)
    assert wrong["databases"][0]["error"]["type"] == "WrongIdentity"
    assert none["databases"][0]["error"]["type"] == "IdentityMissing"
    assert missing["databases"][0]["error"]["type"] == "NotFound"
    assert digest["databases"][0]["error"]["type"] == "ChecksumMismatch"
    assert source["databases"][0]["error"]["type"] == "ConfigurationError"
    assert twice["error"]["phase"] == hours["error"]["phase"] == unknown["error"]["phase"] == "configuration"
    assert "mutually exclusive" in exclusive["msg"]
    assert oids(cluster) == kept and scene.rows(cluster, app) == rows


def test_several_private_keys_are_tried(directory: Scene) -> None:
    """As during a rotation: in the list, and as an option."""
    app, other = scene.entry("app"), scene.entry("other")
    make(directory.cluster, app)
    directory.play(directory.backup(app))
    several = f"# the other one\n{key_of(other)}\n\n{key_of(app)}\n"
    directory.secrets += [key_of(app), key_of(other)]
    rotating = dataclasses.replace(app, identity=Secret(several))
    for result in directory.play(
        directory.restore(rotating), directory.restore(app, private=False, age_private_key=several)
    ):
        assert not result.get("failed") and result["databases"][0]["status"] == "restored", result


def test_another_hosts_backup_is_restored_where_it_is_named(
    directory: Scene, tmp_path_factory: pytest.TempPathFactory
) -> None:
    app = scene.entry("app")
    make(directory.cluster, app)
    here, there = (SigningHost.make(tmp_path_factory.mktemp("keys"), name) for name in ("db1", "db2"))
    keys = {"allowed_signers": [here.line, there.line]}
    theirs = {**keys, "signing_name": "db2", "signing_key": str(there.path)}
    ours = {**keys, "signing_name": "db1", "signing_key": str(here.path), "trust": "signed", "check": True}
    made, refused, named, wrong, again = directory.play(
        directory.backup(app, **theirs),
        directory.restore(app, **ours),
        directory.restore(app, **ours, signers={"app": ["db2"]}),
        directory.restore(app, **ours, signers={"app": ["db1,db2"]}),
        directory.backup(app, **theirs),
    )
    assert made["databases"][0]["signed"] is True
    assert refused["databases"][0]["error"]["type"] == "ForeignSigner"
    assert named["databases"][0]["signed_by"]["name"] == "db2"
    assert wrong["error"]["phase"] == "configuration" and "signers" in wrong["msg"]
    assert again["databases"][0]["previous"] == made["databases"][0]["key"]
    assert again["databases"][0]["previous_signed_by"]["name"] == "db2"


def test_one_that_fails_does_not_stop_the_others(directory: Scene) -> None:
    here, gone = scene.entry("here"), scene.entry("gone")
    make(directory.cluster, here)
    made, jobs, restored = directory.play(
        directory.backup(gone, here),
        directory.backup(here, jobs=0),
        directory.restore(gone, here),
    )
    assert made["failed"] and made["changed"] and made["summary"] == "backed_up=1 failed=1 (gone)"
    assert made["msg"].startswith("1 of 2 databases failed: gone: connect: ")
    assert jobs["failed"] and jobs["error"]["phase"] == "configuration"
    assert [d["status"] for d in restored["databases"]] == ["empty", "restored"]


def test_no_store_and_no_permission_are_failures_and_create_nothing(bucket: Scene, server: S3Server) -> None:
    app = scene.entry("app")
    make(bucket.cluster, app)
    with contextlib.closing(connect(bucket.cluster.settings)) as conn:
        state.begin_bootstrap(conn, {"app": True}, host="here")
    kept = oids(bucket.cluster)
    waiting = {"outstanding_only": True}
    results = bucket.play(
        bucket.restore(app, endpoint="https://127.0.0.1:1", **waiting),
        bucket.restore(app, secret_access_key="canary-of-a-password 2", **waiting),
        bucket.restore(app, ca_bundle="/etc/ssl/certs/ca-certificates.crt", **waiting),
        bucket.restore(app, bucket="there-is-no-such-bucket", **waiting),
        bucket.backup(app, secret_access_key="canary-of-a-password 2"),
        Task("backup_info", {**bucket.store, "names": ["app"], "endpoint": "https://127.0.0.1:1"}),
    )
    assert all(result["failed"] and not result.get("changed") for result in results), results
    kinds = [result["databases"][0]["error"]["type"] for result in results[:2]]
    assert kinds == ["Unreachable", "AccessDenied"]
    assert oids(bucket.cluster) == kept
    with contextlib.closing(connect(bucket.cluster.settings)) as conn:
        assert state.outstanding(conn) == ("app",)
    assert "Contents" not in server.client().list_objects_v2(Bucket=bucket.store["bucket"])


def test_a_restored_database_and_its_roles_as_the_options_say(directory: Scene) -> None:
    cluster = directory.cluster
    app = scene.entry("app")
    make(cluster, app)
    cluster.psql("CREATE ROLE old_owner; CREATE ROLE reader")
    cluster.psql(
        "CREATE TABLE theirs (i int); ALTER TABLE theirs OWNER TO old_owner; GRANT SELECT ON t TO reader", "app"
    )
    made, done = directory.play(
        directory.backup(app, compression="zstd"),
        directory.restore(
            app,
            only=["app", "app"],
            strategy="replace",
            role_map={"old_owner": "app"},
            search_path=["extra", "public"],
            on_connections="refuse",
        ),
    )
    assert made["databases"][0]["key"].endswith(".sql.zst.age")
    (database,) = done["databases"]
    assert (database["status"], database["kept_as"]) == ("restored", None)
    assert cluster.psql("SELECT tableowner FROM pg_tables WHERE tablename = 'theirs'", "app") == "app"
    assert cluster.psql("SELECT has_table_privilege('reader', 't', 'SELECT')", "app") == "t", (
        "roles mapped, grants kept"
    )
    assert cluster.psql("SELECT count(*) FROM pg_roles WHERE rolname = 'old_owner'") == "0"
    path = cluster.psql("SELECT setconfig FROM pg_db_role_setting WHERE setrole = 'app'::regrole")
    assert path == '{"search_path=extra, public"}'


def test_a_copy_an_undo_and_what_is_dropped(directory: Scene) -> None:
    """In check mode and for real, each with a difference, and refused where it makes no sense."""
    cluster, app = directory.cluster, scene.entry("app")
    make(cluster, app)
    directory.play(directory.backup(app))
    cluster.psql("CREATE TABLE later (id int)", "app")
    later, there = "SELECT to_regclass('public.later') IS NOT NULL", oids(cluster)

    planned, taken, empty = directory.play(
        directory.restore(app, **{"as": "app_check"}, drop_after=24, check=True, diff=True),
        directory.restore(app, **{"as": "app"}),
        directory.restore(app, only=["app"], undo=True, check=True),
    )
    (plan,) = planned["databases"]
    assert planned["changed"] and (plan["as"], plan["drop_after"], plan["replaces"]) == ("app_check", 24, None)
    assert planned["diff"][0]["before_header"] == "app_check" and planned["diff"][0]["before"] == "absent\n"
    assert taken["failed"] and "it is a database of the list" in taken["msg"]
    assert empty["failed"] and "no previous database of 'app' is kept" in empty["msg"]
    assert oids(cluster) == there
    (copied,) = directory.play(directory.restore(app, **{"as": "app_check"}))
    assert copied["changed"] and copied["summary"] == "restored=1 empty=0 skipped=0 failed=0"
    assert (cluster.psql(later, "app_check"), cluster.psql(later, "app")) == ("f", "t")

    directory.play(directory.restore(app))
    assert cluster.psql(later, "app") == "f"
    there = oids(cluster)
    planned, kept, *refused = directory.play(
        directory.restore(app, only=["app"], undo=True, check=True, diff=True),
        directory.restore(app, only=["app"], drop_replaced="all_but_newest", diff=True),
        directory.restore(app, undo=True),
        directory.restore(app, only=["app"], undo=True, source="db/app/"),
        directory.restore(app, only=["app"], undo=True, drop_replaced="all"),
        directory.restore(app, only=["app"], drop_replaced="all", outstanding_only=True),
        directory.restore(app, only=["app"], drop_replaced="some"),
    )
    assert planned["changed"] and planned["databases"][0]["status"] == "planned"
    assert "not from a backup, replaced 20" in planned["diff"][0]["after"]
    assert not kept["changed"] and kept["databases"][0]["status"] == "nothing" and kept["diff"] == []
    assert all(one["failed"] and not one.get("changed") for one in refused)
    assert oids(cluster) == there

    undone, again, few, dropped, none = directory.play(
        directory.restore(app, only=["app"], undo=True, keep_replaced=2, diff=True),
        directory.restore(app, only=["app"], undo=True),
        directory.restore(app, only=["app"], drop_replaced="all", check=True, diff=True),
        directory.restore(app, only=["app"], drop_replaced="all"),
        directory.restore(app, only=["app"], drop_replaced="all"),
    )
    (back,) = undone["databases"]
    assert undone["changed"] and (back["status"], back["keep_replaced"]) == ("undone", 2)
    assert undone["summary"] == "undone=1 failed=0" and back["restored_from"].endswith(".age")
    assert again["databases"][0]["previous"]["name"] == back["kept_as"] and cluster.psql(later, "app") == "f"
    assert few["changed"] and few["databases"][0]["dropped"] == dropped["databases"][0]["dropped"]
    assert few["diff"][0]["before"].startswith("app__replaced_") and few["diff"][0]["after"] == ""
    assert dropped["changed"] and dropped["databases"][0]["status"] == "dropped"
    assert not none["changed"] and none["databases"][0]["status"] == "nothing"
    assert cluster.psql("SELECT count(*) FROM pg_database WHERE datname LIKE 'app\\_\\_%'") == "0"


@pytest.mark.parametrize("name", ["age_backup", "backup_info", "s3_manifest_restore"])
def test_examples_use_what_there_is(name: str) -> None:
    module = ROOT / "plugins" / "modules" / f"{name}.py"
    texts: dict[str, str] = {}
    exec(compile(module.read_text().split("import typing as t")[0], str(module), "exec"), texts)
    documentation = yaml.safe_load(texts["DOCUMENTATION"])
    options = set(documentation["options"])
    for fragment in documentation["extends_documentation_fragment"]:
        _namespace, _collection, file, *part = fragment.split(".")
        found: dict[str, t.Any] = {}
        exec((ROOT / "plugins" / "doc_fragments" / f"{file}.py").read_text(), found)
        text = getattr(found["ModuleDocFragment"], part[0].upper() if part else "DOCUMENTATION")
        options |= set(yaml.safe_load(text).get("options", {}))
    tasks = yaml.safe_load(texts["EXAMPLES"])
    used = [task[f"infrazero.database.{name}"] for task in tasks if f"infrazero.database.{name}" in task]
    assert used
    for arguments in used:
        assert set(arguments) <= options
    assert {"bucket", "directory"} <= options
