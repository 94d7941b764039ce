# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Policies of roles, and what is said of a credential."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain import layout, policies
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.policies import (
    ALLOWED,
    DENIED,
    HOST,
    PRUNE,
    RESTORE,
    ROLES,
    UNKNOWN,
    Access,
    evaluate,
    policy,
)
from ansible_collections.infrazero.database.plugins.module_utils._engine.errors import ConfigurationError

from tests.support.faultyproxy import Request
from tests.support.policyproxy import allows

DUMP = "db/shop/20260131T032000Z.sql.gz.age"
MANIFEST = "db/shop/20260131T032000Z.manifest.json"
LATEST = "db/shop/latest-dump.json"
TOKENS = "db/bootstrap/latest-tokens.json"


def may(document: dict[str, t.Any], method: str, key: str, query: str = "", **headers: str) -> bool:
    return allows(document, Request(method, f"/backups/{key}{query}", headers, b""), "backups")


def fleet_policy(*roles: str, **rest: t.Any) -> dict[str, t.Any]:
    """That of whoever has *roles* for all databases of the bucket."""
    return policy(roles, bucket="backups", prefixes=["db/"], **rest)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("key", [DUMP, MANIFEST, LATEST, TOKENS, "elsewhere/x.age"])
def test_what_each_role_may(role: str, key: str) -> None:
    document = fleet_policy(role)
    ours, pointer = key.startswith("db/"), key in (LATEST, TOKENS)
    condition = {"If-None-Match": "*"}
    assert may(document, "GET", "", "?list-type=2")
    assert may(document, "GET", key) == (ours and (role == RESTORE or key != DUMP))
    assert may(document, "PUT", key, **condition) == (ours and role == HOST)
    assert may(document, "PUT", key) == (pointer and role == HOST)
    assert may(document, "POST", key, "?uploads") == (ours and role == HOST)
    assert may(document, "PUT", key, "?partNumber=1&uploadId=x") == (ours and role == HOST)
    assert may(document, "POST", key, "?uploadId=x") == (pointer and role == HOST)
    assert may(document, "POST", key, "?uploadId=x", **condition) == (ours and role == HOST)
    assert may(document, "DELETE", key, "?uploadId=x") == (ours and role == HOST)
    assert may(document, "DELETE", key) == (ours and role == PRUNE and not pointer)
    assert not may(document, "DELETE", key, "?versionId=1")


def test_roles_together_may_what_each_of_them_may() -> None:
    both = fleet_policy(HOST, RESTORE)
    assert may(both, "GET", DUMP)
    assert may(both, "PUT", DUMP, **{"If-None-Match": "*"})
    assert not may(both, "PUT", DUMP)
    assert not may(both, "DELETE", DUMP)


def test_stores_without_conditions_get_none() -> None:
    document = fleet_policy(HOST, conditions=False)
    assert "Condition" not in str(document)
    assert may(document, "PUT", DUMP)


def test_a_bucket_s_policy_says_about_whom_it_is_and_a_tenant_s_where() -> None:
    arn = "arn:aws:iam::1:user/db1"
    document = policy([RESTORE], bucket="backups", prefixes=["db/shop/", "db/blog/"], principals=[arn])
    assert {str(statement["Principal"]) for statement in document["Statement"]} == {f"{{'AWS': ['{arn}']}}"}
    assert may(document, "GET", DUMP) and may(document, "GET", DUMP.replace("shop", "blog"))
    assert not may(document, "GET", DUMP.replace("shop", "other"))
    sids = [statement["Sid"] for statement in document["Statement"]]
    assert len(set(sids)) == len(sids) and "".join(sids).isalnum()


@pytest.mark.parametrize("prefix", ["", "db", "/db/", "*/", "db/?/", "${aws:username}/", 'a"/', "a\n/"])
def test_a_prefix_is_no_pattern(prefix: str) -> None:
    with pytest.raises(ConfigurationError, match="invalid prefix"):
        policy([HOST], bucket="backups", prefixes=[prefix])


def test_a_policy_is_limited_to_prefixes() -> None:
    with pytest.raises(ConfigurationError, match="at least one prefix"):
        policy([HOST], bucket="backups", prefixes=[])


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("key", [DUMP, MANIFEST, LATEST, "db/latest-dump.json", "db/shop2/x.age", "db/blog/x/y.age"])
def test_no_role_reaches_what_another_host_has(role: str, key: str) -> None:
    document = policy([role], bucket="backups", prefixes=["db/blog/", "team/shop/"])
    ours = key.startswith("db/blog/")
    for method in ("GET", "PUT", "DELETE"):
        assert not may(document, method, key, **{"If-None-Match": "*"}) or ours
    assert may(document, "PUT", "team/shop/x.age", **{"If-None-Match": "*"}) == (role == HOST)


@pytest.mark.parametrize("bucket", ["", "*", "a/b", "x"])
def test_a_bucket_is_a_name(bucket: str) -> None:
    with pytest.raises(ConfigurationError, match="bucket"):
        policy([HOST], bucket=bucket, prefixes=["db/"])


def test_the_object_to_try_things_on_is_no_backup_and_to_a_policy_a_dump() -> None:
    key = policies.probe_key("db/")
    assert layout.moment_of(key) is None
    assert not may(fleet_policy(HOST), "GET", key)
    assert may(fleet_policy(RESTORE), "GET", key)


def access(versions: bool | None = None, **answers: str) -> Access:
    given = dict.fromkeys(policies.ACTIONS, DENIED)
    given.update({name.replace("_", " "): answer for name, answer in answers.items()})
    return Access(given, versions=versions)


GOOD = {"list": ALLOWED, "read_a_manifest": ALLOWED, "create": ALLOWED}


def wrong(seen: Access, *roles: str) -> dict[str, str]:
    return {finding.action: finding.why for finding in evaluate(seen, roles) if not finding.fits}


def test_judgements() -> None:
    assert wrong(access(**GOOD), HOST) == {}
    assert wrong(access(**{**GOOD, "create": DENIED}), HOST) == {"create": "host can't work without it"}
    assert wrong(access(**GOOD, delete=ALLOWED), HOST) == {"delete": "host must not"}
    assert wrong(access(**GOOD, read_a_dump=ALLOWED), HOST, RESTORE) == {}
    assert wrong(access(**GOOD, read_a_dump=UNKNOWN), HOST) == {"read a dump": "no object to test it on"}
    assert wrong(access(**GOOD, delete_a_version_for_ever=UNKNOWN), HOST) == {}


def test_writing_over_is_no_harm_where_versions_are_kept() -> None:
    assert wrong(access(**GOOD, overwrite=ALLOWED, versions=True), HOST) == {}
    assert wrong(access(**GOOD, overwrite=ALLOWED, versions=False), HOST) == {
        "overwrite": "and the bucket does not keep the overwritten object"
    }
    restoring = {"list": ALLOWED, "read_a_manifest": ALLOWED, "read_a_dump": ALLOWED, "overwrite": ALLOWED}
    assert wrong(access(**restoring, versions=True), RESTORE) == {"overwrite": "restore must not"}
