# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rights on a bucket: each role works with its own policy alone, and the probe finds what is too much or too little.

The server's policies are enforced in front of it, see :mod:`tests.support.policyproxy`.
"""

from __future__ import annotations

import copy
import dataclasses
import io
import json
import os
import pathlib
import subprocess
import sys
import typing as t

import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine.backup import backup
from ansible_collections.infrazero.database.plugins.module_utils._engine.backup.plan import BackupOptions
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain import envfile, layout, policies
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.databases import Database
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.restoring import RestoreOptions
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.secret import Secret
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.trust import UNSIGNED, Trust
from ansible_collections.infrazero.database.plugins.module_utils._engine.errors import (
    AccessDenied,
    AlreadyExists,
    StoreError,
)
from ansible_collections.infrazero.database.plugins.module_utils._engine.restore import restore
from ansible_collections.infrazero.database.plugins.module_utils._engine.stores import trial
from ansible_collections.infrazero.database.plugins.module_utils._engine.stores.base import Protection
from ansible_collections.infrazero.database.plugins.module_utils._engine.stores.s3 import MIB, S3Store
from ansible_collections.infrazero.database.plugins.module_utils._engine.stores.s3_access import try_out
from ansible_collections.infrazero.database.plugins.module_utils._engine.streams.flow import Peekable

from conftest import COLLECTIONS
from tests.support import scene
from tests.support.cluster import Cluster
from tests.support.controller import Controller
from tests.support.host import as_json
from tests.support.policyproxy import PolicyProxy
from tests.support.s3server import S3Server
from tests.support.signing import SigningHost

BUCKET = "backups"
MODULE = "ansible_collections.infrazero.database.plugins.module_utils._engine.cli"
EVERYTHING = {
    "Statement": [
        {
            "Effect": "Allow",
            "Action": [
                *("s3:ListBucket", "s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload", "s3:DeleteObject"),
                "s3:DeleteObjectVersion",
            ],
            "Resource": ["*"],
        }
    ]
}


@pytest.fixture(scope="module")
def server() -> t.Iterator[S3Server]:
    with S3Server() as running:
        yield running


@pytest.fixture
def proxy(server: S3Server) -> t.Iterator[PolicyProxy]:
    server.create_bucket(BUCKET)
    running = PolicyProxy(server.endpoint, BUCKET, EVERYTHING)
    with running:
        yield running
    client = server.client()
    for found in client.list_objects_v2(Bucket=BUCKET).get("Contents", ()):
        client.delete_object(Bucket=BUCKET, Key=found["Key"])


def store(server: S3Server, proxy: PolicyProxy, *roles: str) -> S3Store:
    """A store whose user has *roles*."""
    if roles:
        proxy.policy = policies.policy(roles, bucket=BUCKET, prefixes=["db/"])
    return S3Store(server.settings(BUCKET, endpoint=proxy.endpoint))


def keys(server: S3Server) -> list[str]:
    return sorted(found["Key"] for found in server.client().list_objects_v2(Bucket=BUCKET).get("Contents", ()))


# Work -----------------------------------------------------------------------------------------------------------------


def test_backups_need_the_hosts_policy_only_and_restores_theirs(
    cluster: Cluster, server: S3Server, proxy: PolicyProxy
) -> None:
    shop = scene.entry("shop")
    scene.make(cluster, shop, "CREATE TABLE t AS SELECT 1 AS id")

    for sequence in (1, 2):
        summary = backup.back_up_all(
            [shop], settings=cluster.settings, store=store(server, proxy, policies.HOST), options=BackupOptions()
        )
        assert not summary.failed, summary.failed[0].error
        assert summary.outcomes[0].details["sequence"] == sequence
    # Dumps may not even be looked at; their keys are looked for in a listing, and so are their sizes.
    assert {denied.split(" ")[0] for denied in proxy.denied} == {"HeadObject", "GetObject"}
    assert all(denied.endswith(".sql.gz.age") for denied in proxy.denied)

    def restored(*roles: str) -> t.Any:
        return restore.restore_all(
            [shop],
            settings=cluster.settings,
            store=store(server, proxy, *roles),
            options=RestoreOptions(trust=Trust(mode=UNSIGNED)),
        )

    refused = restored(policies.HOST).failed[0].error
    assert isinstance(refused, AccessDenied)
    proxy.denied.clear()
    cluster.psql("DROP DATABASE shop")
    assert not restored(policies.RESTORE).failed
    assert cluster.psql("SELECT count(*) FROM t", "shop") == "1"
    assert proxy.denied == []
    # A host that may do both.
    assert not restored(policies.HOST, policies.RESTORE).failed


def test_a_host_may_store_its_public_key(
    cluster: Cluster, server: S3Server, proxy: PolicyProxy, tmp_path: pathlib.Path
) -> None:
    shop, host = scene.entry("shop"), SigningHost.make(tmp_path, "db1")
    scene.make(cluster, shop, "CREATE TABLE t AS SELECT 1 AS id")
    for _run in range(2):
        summary = backup.back_up_all(
            [shop],
            settings=cluster.settings,
            store=store(server, proxy, policies.HOST),
            options=BackupOptions(signer=host.signer),
        )
        assert [one.details["warnings"] for one in summary.outcomes] == [[]], summary
    (key,) = [key for key in keys(server) if key.endswith(".pub")]
    assert key == layout.signer_key("db/shop/", "db1", host.signer.signed.key)


def test_who_may_not_read_creates_all_the_same_and_only_once(server: S3Server, proxy: PolicyProxy) -> None:
    host = store(server, proxy, policies.HOST)
    for size in (10, 9 * MIB):
        key = f"db/shop/{size}.sql.gz.age"
        data = os.urandom(size)
        assert host.upload(key, Peekable(io.BytesIO(data))).size == size
        assert server.client().get_object(Bucket=BUCKET, Key=key)["Body"].read() == data
        with pytest.raises(AlreadyExists):
            host.upload(key, Peekable(io.BytesIO(data)))
        with pytest.raises(AccessDenied):
            host.put(key, data)
        with pytest.raises(AccessDenied):
            host.open(key)
        with pytest.raises(AccessDenied):
            host.delete(key)


def test_a_failing_upload_is_aborted_with_the_hosts_policy(server: S3Server, proxy: PolicyProxy) -> None:
    class Failing(io.BytesIO):
        def read(self, n: int | None = -1) -> bytes:
            data = super().read(n)
            if not data:
                raise StoreError("the source fails")
            return data

    with pytest.raises(StoreError, match="the source fails"):
        store(server, proxy, policies.HOST).upload("db/shop/x.age", Failing(bytes(20 * MIB)))
    assert "AbortMultipartUpload" in {request.operation for request in proxy.requests}
    assert keys(server) == []
    assert not [denied for denied in proxy.denied if not denied.startswith(("HeadObject", "GetObject"))]


# The probe ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "roles", [(policies.HOST,), (policies.RESTORE,), (policies.PRUNE,), (policies.HOST, policies.RESTORE)]
)
def test_each_role_fits_its_own_policy_and_no_other_role_does(
    server: S3Server, proxy: PolicyProxy, roles: tuple[str, ...]
) -> None:
    try_out(store(server, proxy, policies.HOST), "db/")  # makes the object
    access = try_out(store(server, proxy, *roles), "db/")
    assert [finding for finding in policies.evaluate(access, roles) if not finding.fits] == []
    for other in {policies.HOST, policies.RESTORE, policies.PRUNE} - set(roles):
        assert [finding for finding in policies.evaluate(access, [other]) if not finding.fits]
    assert keys(server) == ([] if policies.PRUNE in roles else ["db/.infrazero/probe.age"])
    assert (access.create_only is not None) == (policies.HOST in roles)


EXTRA = {
    "s3:GetObject": policies.READ,
    "s3:DeleteObject": policies.DELETE,
    "s3:PutObject": policies.OVERWRITE,
}


@pytest.mark.parametrize("extra", EXTRA)
def test_what_a_host_can_do_too_much_is_found(server: S3Server, proxy: PolicyProxy, extra: str) -> None:
    host = store(server, proxy, policies.HOST)
    wide = copy.deepcopy(policies.policy([policies.HOST], bucket=BUCKET, prefixes=["db/"]))
    wide["Statement"] = [s for s in wide["Statement"] if s["Effect"] == "Allow" or extra not in s["Action"]]
    wide["Statement"].append({"Effect": "Allow", "Action": [extra], "Resource": ["*"]})
    proxy.policy = wide
    wrong = {finding.action for finding in policies.evaluate(try_out(host, "db/"), [policies.HOST]) if not finding.fits}
    assert EXTRA[extra] in wrong
    assert wrong <= {EXTRA[extra], policies.DELETE_LATEST}


LACKING = {"List": policies.LIST, "ReadManifests": policies.READ_MANIFEST, "Create": policies.CREATE}


@pytest.mark.parametrize("missing", LACKING)
def test_what_a_host_lacks_is_found(server: S3Server, proxy: PolicyProxy, missing: str) -> None:
    host = store(server, proxy, policies.HOST)
    narrow = policies.policy([policies.HOST], bucket=BUCKET, prefixes=["db/"])
    proxy.policy = {"Statement": [s for s in narrow["Statement"] if s["Sid"] != missing]}
    findings = policies.evaluate(try_out(host, "db/"), [policies.HOST])
    assert [f"{LACKING[missing]}: denied"] == [
        f"{f.action}: {f.answer}" for f in findings if not f.fits and f.answer == "denied"
    ]


# A trial of what a backup needs ---------------------------------------------------------------------------------------


def test_a_trial_passes_with_the_hosts_policy_and_asks_for_no_more(server: S3Server, proxy: PolicyProxy) -> None:
    host = store(server, proxy, policies.HOST)
    for _again in range(2):
        found = trial.examine(host, ["db/shop/", "db/ledger/"], write=True)
        assert found.error is None
        assert (found.listing, found.writing) == (policies.ALLOWED, policies.ALLOWED)
        # The policy does not let it ask.
        assert found.protection == Protection(versions=None, object_lock=None)
    assert {denied.split(" ")[0] for denied in proxy.denied} <= {"GetBucketVersioning", "GetObjectLockConfiguration"}


def test_a_host_that_may_not_list_passes_a_trial(server: S3Server, proxy: PolicyProxy) -> None:
    host = store(server, proxy, policies.HOST)
    narrow = policies.policy([policies.HOST], bucket=BUCKET, prefixes=["db/"])
    proxy.policy = {"Statement": [s for s in narrow["Statement"] if s["Sid"] != "List"]}
    for write in (True, False):
        found = trial.examine(host, ["db/shop/"], write=write)
        assert (found.error, found.listing) == (None, policies.DENIED)


def test_a_trial_names_the_prefix_that_the_credentials_do_not_reach(server: S3Server, proxy: PolicyProxy) -> None:
    host = store(server, proxy, policies.HOST)
    proxy.policy = policies.policy([policies.HOST], bucket=BUCKET, prefixes=["db/shop/"])
    found = trial.examine(host, ["db/shop/", "db/ledger/"], write=True)
    assert isinstance(found.error, AccessDenied)
    assert found.refused_prefix == "db/ledger/"
    assert found.writing == policies.DENIED
    assert keys(server) == ["db/shop/.infrazero/probe.age"]


@pytest.mark.parametrize("write", [True, False])
def test_a_trial_with_a_wrong_secret_fails(server: S3Server, proxy: PolicyProxy, write: bool) -> None:
    wrong = S3Store(server.settings(BUCKET, secret_access_key=Secret("wrong")))
    error = trial.examine(wrong, ["db/shop/"], write=write).error
    assert isinstance(error, AccessDenied)
    assert "secret access key" in error.hint
    assert keys(server) == []


# The commands ---------------------------------------------------------------------------------------------------------


def run(server: S3Server, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", MODULE, *arguments],
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(COLLECTIONS),
            "AWS_ACCESS_KEY_ID": server.access_key,
            "AWS_SECRET_ACCESS_KEY": server.secret_key,
        },
        capture_output=True,
        text=True,
        check=False,
    )


def db_env(directory: pathlib.Path, server: S3Server, proxy: PolicyProxy, *entries: Database) -> pathlib.Path:
    """The configuration directory of a host with these databases, whose way to the bucket leads through *proxy*."""
    items = []
    for entry in entries:
        item = {name: value for name, value in as_json(entry).items() if name != "backup_age_private_key"}
        items.append({**item, "backup_prefix": entry.backup_prefix})
    values = {
        "DATABASES_JSON": json.dumps(items),
        "DB_BACKUP_BUCKET": BUCKET,
        "S3_ENDPOINT": proxy.endpoint,
        "S3_ACCESS_KEY_ID": server.access_key,
        "S3_SECRET_ACCESS_KEY": server.secret_key,
    }
    directory.mkdir()
    (directory / "db.env").write_text(envfile.render(values), encoding="utf-8")
    return directory


def test_a_host_can_neither_read_nor_write_what_another_host_has(
    tmp_path: pathlib.Path, server: S3Server, proxy: PolicyProxy
) -> None:
    blog = scene.entry("blog")
    wiki = dataclasses.replace(scene.entry("wiki"), backup_prefix="team/wiki/")
    client = server.client()
    forged = json.dumps({"key": "db/shop/20300101T000000Z.sql.gz.age", "sha256": "0" * 64}).encode()
    for key in ("db/shop/latest-dump.json", "db/shop/20260131T032000Z.sql.gz.age"):
        client.put_object(Bucket=BUCKET, Key=key, Body=b"of host A")
    config = db_env(tmp_path / "b", server, proxy, blog, wiki)

    printed = run(server, "policy", "host", "restore", "--config", str(config))
    assert printed.returncode == 0, printed.stderr
    proxy.policy = json.loads(printed.stdout)
    host_b = store(server, proxy)
    for key in ("db/shop/latest-dump.json", "db/latest-dump.json", "x/latest-dump.json"):
        with pytest.raises(AccessDenied):
            host_b.put(key, forged)
        with pytest.raises(AccessDenied):
            host_b.get(key, limit=MIB)
    for key in ("db/shop/20300101T000000Z.sql.gz.age", "db/shop/20300101T000000Z.manifest.json", "x/y.age"):
        with pytest.raises(AccessDenied):
            host_b.upload(key, Peekable(io.BytesIO(forged)))
    assert client.get_object(Bucket=BUCKET, Key="db/shop/latest-dump.json")["Body"].read() == b"of host A"
    assert keys(server) == ["db/shop/20260131T032000Z.sql.gz.age", "db/shop/latest-dump.json"]
    # Its own, it can.
    for prefix in ("db/blog/", "team/wiki/"):
        host_b.upload(f"{prefix}20260131T032000Z.sql.gz.age", Peekable(io.BytesIO(b"dump")))
        host_b.put(f"{prefix}latest-dump.json", b"{}")

    # One that is asked for beside the host's own is not added to them.
    printed = run(server, "policy", "host", "--config", str(config), "--prefix", "db/other/")
    assert json.loads(printed.stdout) == policies.policy(["host"], bucket=BUCKET, prefixes=["db/other/"])


def test_the_probe_tries_below_a_prefix_of_the_host(
    tmp_path: pathlib.Path, server: S3Server, proxy: PolicyProxy
) -> None:
    config = db_env(tmp_path / "b", server, proxy, scene.entry("blog"), scene.entry("wiki"))
    proxy.policy = json.loads(run(server, "policy", "host", "--config", str(config)).stdout)
    fits = run(server, "probe", "--config", str(config))
    assert fits.returncode == 0, fits.stdout + fits.stderr
    assert keys(server) == ["db/blog/.infrazero/probe.age"]
    assert run(server, "probe", "--config", str(config), "--prefix", "db/wiki/").returncode == 0
    elsewhere = run(server, "probe", "--config", str(config), "--prefix", "db/shop/")
    assert elsewhere.returncode == 1 and "NOT OK  create: denied" in elsewhere.stdout


@pytest.mark.parametrize("command", [("policy", "host"), ("probe",)])
def test_without_a_list_a_prefix_must_be_given(
    tmp_path: pathlib.Path, server: S3Server, proxy: PolicyProxy, command: tuple[str, ...]
) -> None:
    arguments = (*command, "--bucket", BUCKET, "--config", str(tmp_path))
    done = run(server, *arguments)
    assert done.returncode == 2
    assert "no prefix is given" in done.stderr and "--prefix db/shop/" in done.stderr
    assert proxy.requests == []


def test_the_commands_write_policies_and_say_what_is_wrong(server: S3Server, proxy: PolicyProxy) -> None:
    printed = run(server, "policy", "host", "--bucket", BUCKET, "--prefix", "db/shop/")
    assert json.loads(printed.stdout) == policies.policy(["host"], bucket=BUCKET, prefixes=["db/shop/"])
    probe = ("probe", "--bucket", BUCKET, "--endpoint", proxy.endpoint, "--prefix", "db/shop/")

    proxy.policy = json.loads(printed.stdout)
    fits = run(server, *probe)
    assert fits.returncode == 0, fits.stdout + fits.stderr
    assert "ok      delete: denied\n" in fits.stdout
    assert "create-only writes: not honoured by this store; in parts: not honoured by this store\n" in fits.stdout

    proxy.policy = EVERYTHING
    unfit = run(server, *probe, "--json")
    assert unfit.returncode == 1
    report = json.loads(unfit.stdout)
    assert not report["fits"]
    assert {a["action"] for a in report["actions"] if not a["fits"]} >= {"read a dump", "overwrite", "delete"}
    assert server.secret_key not in fits.stdout + unfit.stdout

    nothing = run(server, "probe", "--bucket", BUCKET, "--endpoint", "http://127.0.0.1:9", "--prefix", "db/")
    assert nothing.returncode == 1 and "nothing answers" in nothing.stderr


def files(directory: pathlib.Path) -> dict[str, t.Any]:
    """What the playbook has written: documents by their paths."""
    found = sorted(path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): json.loads(path.read_text(encoding="utf-8")) for path in found}


def expected(*prefixes: str) -> dict[str, t.Any]:
    roles = (["host"], ["host", "restore"], ["restore"], ["prune"])
    return {f"{'-and-'.join(each)}.json": policies.policy(each, bucket="backups", prefixes=prefixes) for each in roles}


def test_the_playbook_limits_each_host_to_its_own_databases(tmp_path: pathlib.Path) -> None:
    public = {"user": "app", "password": "x", "backup_age_public_key": scene.entry("x").recipients[0]}
    lists = {
        "db1": [{"name": "shop", **public}, {"name": "ledger", **public, "backup_prefix": "team/ledger/"}],
        "db2": [{"name": "blog", **public}],
    }
    controller = Controller(
        tmp_path / "controller",
        {
            "infrazero_databases": f"{{{{ ({json.dumps(lists)})[inventory_hostname] | default([]) }}}}",
            "infrazero_s3_bucket": "backups",
            # Nobody is there: all of it is the controller's work.
            "ansible_connection": "ssh",
            "ansible_host": "nobody.invalid",
        },
    )
    group = tmp_path / "infisical.ini"
    group.write_text("[infisical]\ndb2\n", encoding="utf-8")
    arguments = ("--inventory", str(group), "-e", f"dest={tmp_path}/policies")
    hosts = ("db1", "db2", "empty")
    done = controller.play("policies", *arguments, hosts=hosts)
    assert done.status == 0, done.output
    written = {
        f"{host}/{name}": text
        for host, prefixes in {"db1": ("db/shop/", "team/ledger/"), "db2": ("db/blog/", "infisical/")}.items()
        for name, text in expected(*prefixes).items()
    }
    assert files(tmp_path / "policies") == written
    assert controller.play("policies", *arguments, hosts=hosts).changed == 0

    # With the roles of its cluster, where these are backed up.
    cluster = {"infrazero_cluster_age_public_keys": [public["backup_age_public_key"]]}
    done = controller.play("policies", "-e", f"dest={tmp_path}/more", hosts=("db2",), **cluster)
    assert done.status == 0, done.output
    assert files(tmp_path / "more" / "db2") == expected("db/blog/", "cluster/db2/globals/")
    done = controller.play(
        "policies", "-e", f"dest={tmp_path}/more", hosts=("db2",), infrazero_cluster_prefix="team/x/", **cluster
    )
    assert files(tmp_path / "more" / "db2") == expected("db/blog/", "team/x/globals/")

    given = {"prefixes": ["db/shop/"], "dest": str(tmp_path / "given")}
    done = controller.play("policies", "-e", json.dumps(given), hosts=hosts, infrazero_s3_bucket="")
    assert done.status != 0 and "There is no bucket for" in done.output
    done = controller.play("policies", "-e", json.dumps({**given, "bucket": "backups"}), hosts=hosts)
    assert done.status == 0, done.output
    assert files(tmp_path / "given") == expected("db/shop/")


def test_the_playbook_refuses_what_it_can_not_limit(tmp_path: pathlib.Path) -> None:
    public = {"user": "app", "password": "x", "backup_age_public_key": scene.entry("x").recipients[0]}
    controller = Controller(tmp_path / "controller", {"infrazero_databases": [{"name": "shop*", **public}]})
    arguments = ("-e", f"dest={tmp_path}/policies")
    assert "There is no bucket for" in controller.play("policies", *arguments).output
    run = controller.play("policies", *arguments, infrazero_s3_bucket="backups")
    assert run.status != 0 and "invalid prefix 'db/shop*/' for a policy" in run.output
    run = controller.play("policies", *arguments, "-e", "bucket=backups", hosts=())
    assert run.status != 0 and "nothing to work on" in run.output
    assert not (tmp_path / "policies").exists()
