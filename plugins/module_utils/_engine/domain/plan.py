# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The plan of a bootstrap's roles and databases: declaration and facts in, steps out.

Each user may log in with its password (SCRAM), each database belongs to its user, who has
all privileges on it.  Whatever else is there (memberships, other grants, settings, limits) is not declared and stays.
"""

from __future__ import annotations

import dataclasses
import enum
import typing as t

from ..errors import ConfigurationError
from .databases import Databases
from .secret import Secret

#: Privileges on a database, as ``aclexplode`` names them.
DATABASE_PRIVILEGES = frozenset({"CREATE", "CONNECT", "TEMPORARY"})


class Password(enum.Enum):
    """How the password that a role has compares with the one it shall have."""

    MATCHES = "matches"
    DIFFERS = "differs"
    MISSING = "missing"
    #: An MD5 hash, of whatever password.
    OUTDATED = "outdated"


@dataclasses.dataclass(frozen=True)
class RoleFacts:
    """The facts of a role.

    :param expired: VALID UNTIL is in the past.
    """

    name: str
    login: bool
    superuser: bool
    expired: bool
    password: Password


@dataclasses.dataclass(frozen=True)
class DatabaseFacts:
    """The facts of a database.

    :param privileges: what each role has been granted on it, defaults included; PUBLIC isn't listed.
    :param valid: false for what an interrupted DROP DATABASE left.
    :param unfinished: made by a bootstrap that was interrupted before it let the owner in.
    """

    name: str
    owner: str
    privileges: t.Mapping[str, frozenset[str]]
    template: bool = False
    valid: bool = True
    unfinished: bool = False


@dataclasses.dataclass(frozen=True)
class Facts:
    """Those roles and databases of the list that exist in the cluster, by name.

    :param open_databases: those of them, and of the cluster's own, to which every role may connect.
    """

    roles: t.Mapping[str, RoleFacts]
    databases: t.Mapping[str, DatabaseFacts]
    open_databases: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Declaration:
    """Roles with their passwords, and databases with their owners."""

    passwords: t.Mapping[str, Secret]
    owners: t.Mapping[str, str]

    @classmethod
    def of(cls, databases: Databases) -> Declaration:
        """What a valid list declares; if a user is listed twice, the last password wins."""
        return cls(
            passwords=databases.passwords(),
            owners={entry.name: entry.user for entry in databases.entries},
        )


@dataclasses.dataclass(frozen=True)
class CreateRole:
    """Make a role that may log in."""

    role: str
    password: Secret

    def __str__(self) -> str:
        return f"create role {self.role!r}"


@dataclasses.dataclass(frozen=True)
class AlterRole:
    """Change what of a role isn't as wished; the rest of it stays.

    :param password: the new one; ``None``: it has the right one.
    """

    role: str
    login: bool = False
    unexpire: bool = False
    password: Secret | None = None

    def __str__(self) -> str:
        what = [
            text
            for wanted, text in (
                (self.login, "allow login"),
                (self.unexpire, "end its expiry"),
                (self.password is not None, "set password"),
            )
            if wanted
        ]
        return f"alter role {self.role!r}: {', '.join(what)}"


@dataclasses.dataclass(frozen=True)
class CreateDatabase:
    """Make a database; its owner has all privileges on it from the start, and nobody else has any."""

    database: str
    owner: str

    def __str__(self) -> str:
        return f"create database {self.database!r} owned by {self.owner!r}"


@dataclasses.dataclass(frozen=True)
class FinishDatabase:
    """Let the owner into a database whose making was interrupted."""

    database: str

    def __str__(self) -> str:
        return f"finish creating database {self.database!r}"


@dataclasses.dataclass(frozen=True)
class ChangeOwner:
    """Give a database to its user."""

    database: str
    owner: str
    previous: str

    def __str__(self) -> str:
        return f"change owner of database {self.database!r} from {self.previous!r} to {self.owner!r}"


@dataclasses.dataclass(frozen=True)
class GrantDatabase:
    """Give a database's user the privileges on it that it lacks."""

    database: str
    role: str
    missing: frozenset[str]

    def __str__(self) -> str:
        return f"grant {', '.join(sorted(self.missing))} on database {self.database!r} to {self.role!r}"


Step = t.Union[CreateRole, AlterRole, CreateDatabase, FinishDatabase, ChangeOwner, GrantDatabase]


@dataclasses.dataclass(frozen=True)
class BootstrapPlan:
    """What is to be done, in this order; no steps: everything is as wished.

    :param before: the declaration's roles and databases as they are, one line each, without a secret.
    :param after: the same as they will be.
    :param warnings: what stays as it is and should not.
    """

    steps: tuple[Step, ...]
    before: tuple[str, ...]
    after: tuple[str, ...]
    warnings: tuple[str, ...] = ()

    @property
    def changed(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.steps)

    def diff(self) -> dict[str, str]:
        """As Ansible shows differences: two texts."""
        return {
            "before": "".join(f"{line}\n" for line in self.before),
            "after": "".join(f"{line}\n" for line in self.after),
        }


def plan_bootstrap(declaration: Declaration, facts: Facts) -> BootstrapPlan:
    """The steps from *facts* to *declaration*.

    :raises ConfigurationError: with everything that must not be done; then nothing may be done.
    """
    _refuse(declaration, facts)
    roles: list[Step] = []
    creations: list[Step] = []
    changes: list[Step] = []
    before: list[str] = []
    after: list[str] = []
    for role, password in declaration.passwords.items():
        found = facts.roles.get(role)
        before.append(_role_line(role, found))
        after.append(f"role {role!r}: login yes, password set")
        if found is None:
            roles.append(CreateRole(role, password))
            continue
        step = AlterRole(
            role,
            login=not found.login,
            unexpire=found.expired,
            password=None if found.password is Password.MATCHES else password,
        )
        if step != AlterRole(role):
            roles.append(step)
    for database, owner in declaration.owners.items():
        there = facts.databases.get(database)
        before.append(_database_line(database, there))
        after.append(f"database {database!r}: owner {owner!r}, owner's privileges all")
        if there is None:
            creations.append(CreateDatabase(database, owner))
            continue
        if there.unfinished:
            creations.append(FinishDatabase(database))
        privileges = there.privileges.get(owner, frozenset())
        if there.owner != owner:
            changes.append(ChangeOwner(database, owner, previous=there.owner))
            # The server hands the old owner's privileges over to the new one.
            privileges |= there.privileges.get(there.owner, frozenset())
        missing = DATABASE_PRIVILEGES - privileges
        if missing:
            changes.append(GrantDatabase(database, owner, missing))
    return BootstrapPlan((*roles, *creations, *changes), tuple(before), tuple(after), _warnings(facts))


def _warnings(facts: Facts) -> tuple[str, ...]:
    if not facts.open_databases:
        return ()
    quoted = ", ".join('"' + name.replace('"', '""') + '"' for name in facts.open_databases)
    warning = (
        f"every role of the cluster may connect to {', '.join(map(repr, facts.open_databases))}. Grant CONNECT to the"
        f" roles that need it, and then take it from all the others: REVOKE CONNECT ON DATABASE {quoted} FROM PUBLIC"
    )
    return (warning,)


def _refuse(declaration: Declaration, facts: Facts) -> None:
    reasons = [
        f"role {role!r} is a superuser: an application's user must not be one"
        for role in declaration.passwords
        if role in facts.roles and facts.roles[role].superuser
    ]
    for database in declaration.owners:
        there = facts.databases.get(database)
        if there is None:
            continue
        if there.template:
            reasons.append(f"database {database!r} is a template")
        if not there.valid:
            reasons.append(f"database {database!r} was left half dropped: finish it with DROP DATABASE")
    if reasons:
        raise ConfigurationError(
            "these databases cannot be created in this cluster",
            cause="; ".join(reasons),
            hint="choose other names, or put that right in the cluster; nothing has been changed",
        )


def _role_line(name: str, found: RoleFacts | None) -> str:
    if found is None:
        return f"role {name!r}: absent"
    password = {
        Password.MATCHES: "set",
        Password.DIFFERS: "another one",
        Password.MISSING: "none",
        Password.OUTDATED: "an MD5 hash",
    }[found.password]
    expired = ", expired" if found.expired else ""
    return f"role {name!r}: login {'yes' if found.login else 'no'}{expired}, password {password}"


def _database_line(name: str, found: DatabaseFacts | None) -> str:
    if found is None:
        return f"database {name!r}: absent"
    if found.unfinished:
        return f"database {name!r}: unfinished"
    held = found.privileges.get(found.owner, frozenset())
    privileges = "all" if held >= DATABASE_PRIVILEGES else ", ".join(sorted(held)) or "none"
    return f"database {name!r}: owner {found.owner!r}, owner's privileges {privileges}"
