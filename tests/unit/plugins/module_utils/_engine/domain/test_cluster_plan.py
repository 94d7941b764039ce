# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.cluster import (
    Globals,
    Membership,
    Role,
    Setting,
)
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.cluster_plan import (
    ClusterRoles,
    Comment,
    CreateRole,
    ExistingRole,
    GlobalsPlan,
    Grant,
    SetParameter,
    plan_globals,
)
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.secret import Secret

POSTGRES = {"postgres": ExistingRole(superuser=True), "pg_monitor": ExistingRole()}
CONTEXTS = {"work_mem": "user", "log_statement": "superuser", "auto_explain.log_analyze": "superuser"}
PASSWORD = Secret("SCRAM-SHA-256$4096:c2FsdA==$c3RvcmVk:c2VydmVy")


def found(version: int = 150018, **roles: ExistingRole) -> ClusterRoles:
    return ClusterRoles(version, {**POSTGRES, **roles}, contexts=CONTEXTS)


def planned(
    *parts: Role | Membership, here: ClusterRoles | None = None, tablespaces: tuple[str, ...] = (), **options: t.Any
) -> GlobalsPlan:
    recorded = Globals(
        150018,
        roles=tuple(part for part in parts if isinstance(part, Role)),
        memberships=tuple(part for part in parts if isinstance(part, Membership)),
        tablespaces=tablespaces,
    )
    return plan_globals(recorded, here or found(), **options)


def granted(plan: GlobalsPlan) -> list[tuple[str, str]]:
    return [(step.membership.role, step.membership.member) for step in plan.steps if isinstance(step, Grant)]


def test_a_missing_role_is_created_without_login_and_without_privileges() -> None:
    role = Role("x", login=True, superuser=True, createrole=True)
    plan = planned(role)
    assert plan.steps == (CreateRole(role, login=False, privileges=()),)
    assert str(plan.steps[0]) == "create role 'x' with NOLOGIN"
    assert plan.listed[0] == ("role 'x' had SUPERUSER, CREATEROLE; not restored: ALTER ROLE \"x\" SUPERUSER CREATEROLE")
    assert plan.listed[1].startswith("'x' could log in, and cannot now")


def test_what_was_asked_for_is_created() -> None:
    role = Role("x", login=True, superuser=True, password=PASSWORD)
    plan = planned(role, Membership("pg_monitor", "x"), privileges=True)
    assert plan.steps[0] == CreateRole(role, login=True, privileges=("SUPERUSER",))
    assert granted(plan) == [("pg_monitor", "x")]
    assert plan.listed == ()


@pytest.mark.parametrize("privileges", [False, True])
def test_an_existing_role_is_never_changed(privileges: bool) -> None:
    role = Role("x", superuser=True, login=True, password=PASSWORD, settings=(Setting("work_mem", "1"),), comment="c")
    here = found(x=ExistingRole(), y=ExistingRole())
    plan = planned(
        role,
        Role("new"),
        Membership("x", "new"),
        Membership("new", "x"),
        Membership("x", "y"),
        here=here,
        privileges=privileges,
    )
    assert [str(step) for step in plan.steps] == ["create role 'new' with NOLOGIN"]
    assert sum("which exists here" in line for line in plan.listed) == 3


@pytest.mark.parametrize("privileges", [False, True])
def test_nobody_becomes_a_member_of_a_superuser_that_was_here(privileges: bool) -> None:
    plan = planned(
        Role("postgres", superuser=True),
        Role("x"),
        Membership("postgres", "x"),
        Membership("postgres", "shop"),
        declared=["shop"],
        privileges=privileges,
    )
    assert granted(plan) == []
    assert 'GRANT "postgres" TO "shop"' in plan.listed[-1]


@pytest.mark.parametrize("privileges", [False, True])
@pytest.mark.parametrize("way", ["boss", "pg_execute_server_program", "pg_write_server_files", "pg_read_server_files"])
def test_a_user_of_the_list_gets_no_way_to_a_superuser(way: str, privileges: bool) -> None:
    plan = planned(
        Role("boss", superuser=True),
        Role("group"),
        Role("shop"),
        Membership(way, "group"),
        Membership("group", "shop"),
        Membership(way, "shop"),
        here=found(**{way: ExistingRole()} if way != "boss" else {}),
        declared=["shop"],
        privileges=privileges,
    )
    assert granted(plan) == ([(way, "group")] if privileges else [])
    assert any('GRANT "group" TO "shop"' in line for line in plan.listed)


def test_a_user_of_the_list_keeps_its_other_memberships_settings_and_comment() -> None:
    shop = Role(
        "shop", createdb=True, password=PASSWORD, settings=(Setting("work_mem", "7MB", "user"),), comment="the shop"
    )
    parts = (shop, Role("reporting", createdb=True), Membership("reporting", "shop"), Membership("shop", "reporting"))
    for here in (found(), found(shop=ExistingRole())):
        plan = planned(*parts, here=here, declared=["shop"])
        assert plan.created == ("reporting",)
        assert SetParameter("shop", shop.settings[0]) in plan.steps
        assert Comment("shop", "the shop") in plan.steps
        assert granted(plan) == [("reporting", "shop"), ("shop", "reporting")]
        assert any('ALTER ROLE "shop" CREATEDB' in line for line in plan.listed)
    plan = planned(*parts, here=found(shop=ExistingRole(settings=True, comment=True)), declared=["shop"])
    assert not [step for step in plan.steps if isinstance(step, (SetParameter, Comment))]


def test_only_settings_that_the_role_could_change_itself() -> None:
    settings = (
        Setting("Work_Mem", "canary", "user"),
        Setting("log_statement", "canary", "user"),  # the server here decides
        Setting("app.token", "canary"),
        Setting("auto_explain.log_analyze", "canary"),
        Setting("pgaudit.log", "canary", "superuser"),  # the server there knew it, this one does not
        Setting("role", "canary"),
    )
    plan = planned(Role("x", settings=settings))
    assert [step.setting.name for step in plan.steps if isinstance(step, SetParameter)] == ["Work_Mem", "app.token"]
    assert len(plan.listed) == 4
    assert "canary" not in str(plan) + "".join(map(str, plan.steps))


def test_what_exists_is_not_granted_again() -> None:
    here = ClusterRoles(150018, POSTGRES, frozenset({("x", "y")}))
    plan = planned(Role("x"), Role("y"), Membership("x", "y"), here=here)
    assert granted(plan) == []
    assert plan.listed == ()


def test_predefined_roles_that_this_server_does_not_have() -> None:
    plan = planned(Role("x"), Membership("pg_maintain", "x"), privileges=True)
    assert granted(plan) == []
    assert "which this server does not have" in plan.listed[0]


def test_a_membership_that_a_server_could_only_grant_wider_is_listed() -> None:
    parts = (
        Role("a"),
        Role("b"),
        Role("c"),
        Membership("a", "b", inherit=False, set_role=True),
        Membership("a", "c", inherit=True, set_role=True),
    )
    assert granted(planned(*parts)) == [("a", "c")]
    assert granted(planned(*parts, here=found(160000))) == [("a", "b"), ("a", "c")]


def test_a_grantor_comes_before_what_it_grants() -> None:
    parts = (
        *map(Role, "abcd"),
        Membership("a", "d", grantor="c"),
        Membership("a", "c", grantor="b", admin=True),
        Membership("a", "b", grantor="postgres", admin=True),
    )
    plan = planned(*parts, here=found(160000))
    grants = [(step.membership.member, step.grantor) for step in plan.steps if isinstance(step, Grant)]
    assert grants == [("b", None), ("c", "b"), ("d", "c")]


def test_a_grantor_without_the_right_is_left_out_where_the_server_checks_it() -> None:
    parts = (*map(Role, "abc"), Membership("a", "b", grantor="c"), Membership("a", "b", grantor="postgres", admin=True))
    plan = planned(*parts, here=found(160000))
    assert [(step.grantor, step.membership.admin) for step in plan.steps if isinstance(step, Grant)] == [
        (None, True),
        (None, False),
    ]
    plan = planned(*parts)
    assert {step.grantor for step in plan.steps if isinstance(step, Grant)} == {None, "c"}


def test_two_grants_by_strangers_become_one() -> None:
    parts = (
        *map(Role, "ab"),
        Membership("a", "b", grantor="x", admin=True, inherit=False, set_role=True),
        Membership("a", "b", grantor="y", inherit=True, set_role=False),
    )
    plan = planned(*parts, here=found(160000))
    assert plan.steps[2:] == (Grant(Membership("a", "b", "y", admin=True, inherit=True, set_role=True), None),)


def test_tablespaces_are_only_named() -> None:
    plan = planned(tablespaces=("fast",))
    assert plan.steps == ()
    assert plan.listed == ("tablespaces are never created; the backed-up cluster had 'fast'",)


def test_a_statement_is_one_line_whatever_a_name_has() -> None:
    plan = planned(Role("x\n; DROP ROLE y; --", superuser=True))
    assert plan.listed[0].endswith('ALTER ROLE U&"x\\000A; DROP ROLE y; --" SUPERUSER')
    assert "\n" not in "".join(plan.listed) + "".join(map(str, plan.steps))
