# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rights on a bucket: each role works with its own policy alone, and the probe finds what is too much or too little.

The server's policies are enforced in front of it, see :mod:`tests.support.policyproxy`.
"""

from __future__ import annotations

import copy
import io
import json
import os
import pathlib
import subprocess
import sys
import typing as t

import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine import backup, restore
from ansible_collections.infrazero.database.plugins.module_utils._engine.backup import BackupOptions
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain import policies
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.restoring import RestoreOptions
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.secret import Secret
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.trusting import UNSIGNED, Trust
from ansible_collections.infrazero.database.plugins.module_utils._engine.errors import (
    AccessDenied,
    AlreadyExists,
    StoreError,
)
from ansible_collections.infrazero.database.plugins.module_utils._engine.stores.base import S3Settings
from ansible_collections.infrazero.database.plugins.module_utils._engine.stores.s3 import MIB, S3Store
from ansible_collections.infrazero.database.plugins.module_utils._engine.stores.s3_access import try_out
from ansible_collections.infrazero.database.plugins.module_utils._engine.streams.flow import Peekable

from conftest import COLLECTIONS
from tests.support import scene
from tests.support.cluster import Cluster
from tests.support.controller import Controller
from tests.support.policyproxy import PolicyProxy
from tests.support.s3server import S3Server

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
        proxy.policy = policies.policy(roles, bucket=BUCKET)
    secret = Secret(server.secret_key)
    return S3Store(
        S3Settings(bucket=BUCKET, endpoint=proxy.endpoint, access_key_id=server.access_key, secret_access_key=secret)
    )


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
    assert [finding for finding in policies.judge(access, roles) if not finding.fits] == []
    for other in {policies.HOST, policies.RESTORE, policies.PRUNE} - set(roles):
        assert [finding for finding in policies.judge(access, [other]) if not finding.fits]
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
    wide = copy.deepcopy(policies.policy([policies.HOST], bucket=BUCKET))
    wide["Statement"] = [s for s in wide["Statement"] if s["Effect"] == "Allow" or extra not in s["Action"]]
    wide["Statement"].append({"Effect": "Allow", "Action": [extra], "Resource": ["*"]})
    proxy.policy = wide
    wrong = {finding.action for finding in policies.judge(try_out(host, "db/"), [policies.HOST]) if not finding.fits}
    assert EXTRA[extra] in wrong
    assert wrong <= {EXTRA[extra], policies.DELETE_LATEST}


LACKING = {"List": policies.LIST, "ReadManifests": policies.READ_MANIFEST, "Create": policies.CREATE}


@pytest.mark.parametrize("missing", LACKING)
def test_what_a_host_lacks_is_found(server: S3Server, proxy: PolicyProxy, missing: str) -> None:
    host = store(server, proxy, policies.HOST)
    narrow = policies.policy([policies.HOST], bucket=BUCKET)
    proxy.policy = {"Statement": [s for s in narrow["Statement"] if s["Sid"] != missing]}
    findings = policies.judge(try_out(host, "db/"), [policies.HOST])
    assert [f"{LACKING[missing]}: denied"] == [
        f"{f.action}: {f.answer}" for f in findings if not f.fits and f.answer == "denied"
    ]


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


def test_the_commands_write_policies_and_say_what_is_wrong(server: S3Server, proxy: PolicyProxy) -> None:
    printed = run(server, "policy", "host", "--bucket", BUCKET)
    assert json.loads(printed.stdout) == policies.policy(["host"], bucket=BUCKET)
    probe = ("probe", "--bucket", BUCKET, "--endpoint", proxy.endpoint)

    proxy.policy = json.loads(printed.stdout)
    fits = run(server, *probe)
    assert fits.returncode == 0, fits.stdout + fits.stderr
    assert "ok\tdelete: denied\n" in fits.stdout
    assert "create-only writes: not honoured by this store; in parts: not honoured by this store\n" in fits.stdout

    proxy.policy = EVERYTHING
    unfit = run(server, *probe, "--json")
    assert unfit.returncode == 1
    report = json.loads(unfit.stdout)
    assert not report["fits"]
    assert {a["action"] for a in report["actions"] if not a["fits"]} >= {"read a dump", "overwrite", "delete"}
    assert server.secret_key not in fits.stdout + unfit.stdout

    nothing = run(server, "probe", "--bucket", BUCKET, "--endpoint", "http://127.0.0.1:9")
    assert nothing.returncode == 1 and "nothing answers" in nothing.stderr


def test_the_playbook_writes_policies_into_files(tmp_path: pathlib.Path) -> None:
    controller = Controller(tmp_path, {})
    written = ("bucket=backups", f"dest={tmp_path}/policies", '{"prefixes": ["db/shop/"]}')
    arguments = [argument for each in written for argument in ("-e", each)]
    done = controller.play("policies", *arguments, hosts=("localhost",))
    assert done.status == 0, done.output
    for roles in (["host"], ["host", "restore"], ["restore"], ["prune"]):
        text = (tmp_path / "policies" / f"{'-and-'.join(roles)}.json").read_text(encoding="utf-8")
        assert json.loads(text) == policies.policy(roles, bucket="backups", prefixes=["db/shop/"])
    assert controller.play("policies", *arguments, hosts=("localhost",)).changed == 0
    assert "Say for which bucket" in controller.play("policies", hosts=("localhost",)).output
