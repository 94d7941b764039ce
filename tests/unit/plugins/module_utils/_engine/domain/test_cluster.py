# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import dataclasses
import json
import typing as t

import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain import cluster
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.cluster import (
    Globals,
    Membership,
    Role,
    Setting,
)
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.secret import Secret
from ansible_collections.infrazero.database.plugins.module_utils._engine.errors import RestoreRefused

VERIFIER = "SCRAM-SHA-256$4096:c2FsdA==$c3RvcmVk:c2VydmVy"
EVERYTHING = Globals(
    150018,
    roles=(
        Role("plain"),
        Role(
            "na'me\n\"\u2028é",
            superuser=True,
            inherit=False,
            createrole=True,
            createdb=True,
            login=True,
            replication=True,
            bypassrls=True,
            connection_limit=3,
            valid_until="2031-02-03T04:05:06.000000Z",
            password=Secret(VERIFIER),
            settings=(Setting("search_path", 'a, "b c"', "user"), Setting("app.x", "canary\n", None)),
            comment="two\nlines",
        ),
    ),
    memberships=(Membership("plain", "x", "y", admin=True, inherit=False, set_role=True), Membership("a", "b")),
    tablespaces=("fast",),
)


def text(**changes: t.Any) -> bytes:
    """The text of *EVERYTHING*, with fields of its JSON changed."""
    fields = {**json.loads(cluster.encode(EVERYTHING)), **changes}
    return f"{cluster.MARK}{json.dumps(fields)}\nSELECT 1;\n".encode()


def role(**changes: t.Any) -> bytes:
    plain = json.loads(cluster.encode(EVERYTHING))["roles"][0]
    return text(roles=[{**plain, **changes}])


def refused(data: bytes) -> RestoreRefused:
    with pytest.raises(RestoreRefused) as caught:
        cluster.parse(data)
    return caught.value


def test_what_is_written_is_read() -> None:
    encoded = cluster.encode(EVERYTHING)
    assert encoded.isascii()
    assert encoded.isprintable()
    assert cluster.parse(f"{cluster.MARK}{encoded}\nDROP ROLE x;\n".encode()) == EVERYTHING
    # Also if the text ends there.
    assert cluster.parse(f"{cluster.MARK}{encoded}".encode()) == EVERYTHING


def test_nothing_that_may_be_secret_is_shown() -> None:
    shown = repr(EVERYTHING)
    assert "canary" not in shown
    assert "SCRAM" not in shown


@pytest.mark.parametrize(
    "name", ["", "pg_monitor", "pg_made_up", "public", "none", "x" * 64, "é" * 32, "nul\0", "\ud800", None, 3, ["x"]]
)
def test_a_name_that_no_role_may_have(name: t.Any) -> None:
    assert "name" in refused(role(name=name)).cause


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (b"", "does not begin"),
        (b"CREATE ROLE x SUPERUSER;\n", "does not begin"),
        (b"\n" + text(), "does not begin"),
        (b"\xef\xbb\xbf" + text(), "does not begin"),
        (cluster.MARK.encode() + b"{", "not JSON"),
        (cluster.MARK.encode() + b'{"version":1,"version":1}', "occurs twice"),
        (cluster.MARK.encode() + b"[" * 100_000, "nested too deeply"),
        (cluster.MARK.encode() + b"[]", "not a JSON object"),
        (cluster.MARK.encode() + b"{}", "version"),
        (text(version=True), "version"),
        (text(version=0), "version"),
        (text(roles={}), "roles"),
        (text(roles=[3]), "roles, item 1"),
        (text(memberships=None), "memberships"),
        (text(tablespaces=[3]), "tablespaces"),
        (text(server_version_num="150018"), "server_version_num"),
        (role(superuser="no"), "superuser"),
        (role(superuser=None), "superuser"),
        (role(connection_limit=-2), "connection_limit"),
        (role(connection_limit=True), "connection_limit"),
        (role(connection_limit=2**31), "connection_limit"),
        (role(password="canary"), "password"),
        (role(password=VERIFIER + "'"), "password"),
        (role(valid_until="tomorrow'; DROP ROLE x; --"), "valid_until"),
        (role(valid_until="2031-02-03T04:05:06Z\n"), "valid_until"),
        (role(comment=3), "comment"),
        (role(settings=[{"name": "x", "value": "canary", "context": "canary"}]), "context"),
        (role(settings=[{"name": "", "value": "y"}]), "name"),
        (role(settings=[{"name": "x"}]), "value"),
        (role(settings=["x=y"]), "settings"),
        (text(memberships=[{"role": "x", "member": "y", "admin": 1}]), "admin"),
        (text(memberships=[{"role": "x", "member": "", "admin": False}]), "member"),
    ],
)
def test_a_text_that_is_not_valid(data: bytes, cause: str) -> None:
    error = refused(data)
    assert cause in error.cause
    assert "canary" not in str(error.as_dict())


def test_a_name_that_occurs_twice() -> None:
    twice = dataclasses.replace(EVERYTHING, roles=(EVERYTHING.roles[0],) * 2)
    assert "occurs twice" in refused(f"{cluster.MARK}{cluster.encode(twice)}".encode()).cause


def test_a_later_version_asks_for_an_update() -> None:
    error = refused(text(version=2, roles="something else"))
    assert "newer version" in error.message


def test_superusers_and_all_who_can_become_one() -> None:
    def member(role_: str, name: str) -> Membership:
        return Membership(role_, name)

    recorded = Globals(
        150018,
        roles=(Role("boss", superuser=True), Role("deploy", createdb=True)),
        memberships=(
            member("boss", "a"),
            member("a", "b"),
            member("b", "a"),
            member("deploy", "c"),
            member("pg_monitor", "d"),
            member("pg_execute_server_program", "e"),
            member("e", "f"),
            member("here", "g"),
        ),
    )
    assert recorded.superusers() == {"boss", "a", "b", "e", "f"} | cluster.SUPERUSER_LIKE
    assert recorded.superusers(["here"]) == {"boss", "a", "b", "e", "f", "here", "g"} | cluster.SUPERUSER_LIKE


def test_a_long_chain_of_memberships_is_followed_in_linear_time() -> None:
    chain = tuple(Membership(f"r{number}", f"r{number + 1}") for number in range(50_000))
    assert len(Globals(150018, roles=(Role("r0", superuser=True),), memberships=chain).superusers()) == 50_004
