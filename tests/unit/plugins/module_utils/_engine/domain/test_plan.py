# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import dataclasses

import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.databases import Database, Databases
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.plan import (
    DATABASE_PRIVILEGES,
    AlterRole,
    ChangeOwner,
    CreateDatabase,
    CreateRole,
    DatabaseFacts,
    Declaration,
    Facts,
    FinishDatabase,
    GrantDatabase,
    Password,
    RoleFacts,
    plan_bootstrap,
)
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.secret import Secret
from ansible_collections.infrazero.database.plugins.module_utils._engine.errors import ConfigurationError

SECRET = Secret("canary")
DECLARATION = Declaration(passwords={"ann": SECRET}, owners={"app": "ann"})
ROLE = RoleFacts("ann", login=True, superuser=False, expired=False, password=Password.MATCHES)
DATABASE = DatabaseFacts("app", owner="ann", privileges={"ann": DATABASE_PRIVILEGES})


def facts(role=ROLE, database=DATABASE):
    return Facts({role.name: role} if role else {}, {database.name: database} if database else {})


def steps(role=ROLE, database=DATABASE):
    return plan_bootstrap(DECLARATION, facts(role, database)).steps


def test_nothing_to_do():
    plan = plan_bootstrap(DECLARATION, facts())
    assert not plan.changed
    assert plan.steps == ()
    assert plan.before == plan.after


def test_everything_to_do():
    plan = plan_bootstrap(DECLARATION, facts(None, None))
    assert plan.changed
    assert plan.steps == (CreateRole("ann", SECRET), CreateDatabase("app", "ann"))
    assert plan.diff() == {
        "before": "role 'ann': absent\ndatabase 'app': absent\n",
        "after": "role 'ann': login yes, password set\ndatabase 'app': owner 'ann', owner's privileges all\n",
    }


def test_a_database_whose_making_was_interrupted_is_finished_first():
    database = dataclasses.replace(DATABASE, owner="eve", privileges={"eve": DATABASE_PRIVILEGES}, unfinished=True)
    plan = plan_bootstrap(DECLARATION, facts(database=database))
    assert plan.steps == (FinishDatabase("app"), ChangeOwner("app", "ann", previous="eve"))
    assert plan.before[-1] == "database 'app': unfinished"


def test_databases_that_are_open_to_everybody_are_a_warning_and_no_step():
    assert plan_bootstrap(DECLARATION, facts()).warnings == ()
    everybody = dataclasses.replace(facts(), open_databases=("postgres", 'it\'s "odd"'))
    plan = plan_bootstrap(DECLARATION, everybody)
    assert not plan.changed
    (warning,) = plan.warnings
    assert warning.startswith("every role of the cluster may connect to 'postgres', ")
    assert warning.endswith('REVOKE CONNECT ON DATABASE "postgres", "it\'s ""odd""" FROM PUBLIC')


def test_roles_come_before_databases():
    declaration = Declaration({"ann": SECRET, "bob": SECRET}, {"app": "ann", "web": "bob"})
    kinds = [type(step) for step in plan_bootstrap(declaration, Facts({}, {})).steps]
    assert kinds == [CreateRole, CreateRole, CreateDatabase, CreateDatabase]


@pytest.mark.parametrize(
    ("change", "step"),
    [
        ({"login": False}, AlterRole("ann", login=True)),
        ({"expired": True}, AlterRole("ann", unexpire=True)),
        ({"password": Password.DIFFERS}, AlterRole("ann", password=SECRET)),
        ({"password": Password.MISSING}, AlterRole("ann", password=SECRET)),
        ({"password": Password.OUTDATED}, AlterRole("ann", password=SECRET)),
        (
            {"login": False, "expired": True, "password": Password.DIFFERS},
            AlterRole("ann", login=True, unexpire=True, password=SECRET),
        ),
    ],
)
def test_of_a_role_only_what_differs_is_changed(change, step):
    role = dataclasses.replace(ROLE, **change)
    assert steps(role=role) == (step,)
    plan = plan_bootstrap(DECLARATION, facts(role))
    assert plan.before[0] != plan.after[0]
    assert plan.before[1:] == plan.after[1:]


def test_a_database_of_somebody_else_is_taken_over_with_its_default_privileges():
    theirs = DatabaseFacts("app", owner="postgres", privileges={"postgres": DATABASE_PRIVILEGES})
    assert steps(database=theirs) == (ChangeOwner("app", "ann", previous="postgres"),)


def test_privileges_that_nobody_hands_over_are_granted():
    theirs = DatabaseFacts(
        "app", owner="bob", privileges={"bob": frozenset({"CONNECT"}), "ann": frozenset({"TEMPORARY"})}
    )
    assert steps(database=theirs) == (
        ChangeOwner("app", "ann", previous="bob"),
        GrantDatabase("app", "ann", frozenset({"CREATE"})),
    )


def test_an_owner_without_privileges_gets_them():
    bare = DatabaseFacts("app", owner="ann", privileges={})
    assert steps(database=bare) == (GrantDatabase("app", "ann", DATABASE_PRIVILEGES),)
    plan = plan_bootstrap(DECLARATION, facts(database=bare))
    assert plan.before[1] == "database 'app': owner 'ann', owner's privileges none"


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (facts(role=dataclasses.replace(ROLE, superuser=True)), "role 'ann' is a superuser"),
        (facts(database=dataclasses.replace(DATABASE, template=True)), "database 'app' is a template"),
        (facts(database=dataclasses.replace(DATABASE, valid=False)), "DROP DATABASE"),
    ],
)
def test_refusals(found, reason):
    with pytest.raises(ConfigurationError, match=reason):
        plan_bootstrap(DECLARATION, found)


def test_every_refusal_is_named_at_once():
    found = facts(role=dataclasses.replace(ROLE, superuser=True), database=dataclasses.replace(DATABASE, template=True))
    with pytest.raises(ConfigurationError) as caught:
        plan_bootstrap(DECLARATION, found)
    assert "superuser" in caught.value.cause
    assert "template" in caught.value.cause


@pytest.mark.parametrize("found", [facts(None, None), facts(role=dataclasses.replace(ROLE, password=Password.DIFFERS))])
def test_no_text_shows_a_password(found):
    plan = plan_bootstrap(DECLARATION, found)
    shown = f"{plan!r} {plan.diff()} {[str(step) for step in plan.steps]}"
    assert "canary" not in shown
    assert "set" in shown


def test_steps_read_as_sentences():
    assert str(AlterRole("ann", login=True, unexpire=True, password=SECRET)) == (
        "alter role 'ann': allow login, remove expiration, set password"
    )
    assert str(CreateRole("ann", SECRET)) == "create role 'ann'"
    assert str(CreateDatabase("app", "ann")) == "create database 'app' owned by 'ann'"
    assert str(ChangeOwner("app", "ann", "bob")) == "change owner of database 'app' from 'bob' to 'ann'"
    assert str(GrantDatabase("app", "ann", frozenset({"CREATE", "CONNECT"}))) == (
        "grant CONNECT, CREATE on database 'app' to 'ann'"
    )


def test_wish_of_a_list_has_each_user_once_with_its_last_password():
    entries = tuple(
        Database(name=name, user=user, password=Secret(password), recipients=())
        for name, user, password in (("app", "ann", "first"), ("web", "bob", "x"), ("log", "ann", "last"))
    )
    declaration = Declaration.of(Databases(entries))
    assert declaration.passwords == {"ann": Secret("last"), "bob": Secret("x")}
    assert declaration.owners == {"app": "ann", "web": "bob", "log": "ann"}
