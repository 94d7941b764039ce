# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The plan of a bootstrap: the steps from the existing roles and databases to the declared ones.

Each user may log in with its password (SCRAM), each database belongs to its user, and the user has all privileges on it
(docs/formats/databases-list.md).  Other memberships, grants, settings and limits are not declared, and stay.
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
    """How the current password of a role compares with the declared one."""

    MATCHES = "matches"
    DIFFERS = "differs"
    MISSING = "missing"
    #: An MD5 hash, whatever its password.
    OUTDATED = "outdated"


@dataclasses.dataclass(frozen=True)
class RoleFacts:
    """An existing role.

    :param expired: whether VALID UNTIL is in the past.
    """

    name: str
    login: bool
    superuser: bool
    expired: bool
    password: Password


@dataclasses.dataclass(frozen=True)
class DatabaseFacts:
    """An existing database.

    :param privileges: the privileges of each role on it, defaults included; PUBLIC is not listed.
    :param valid: false after an interrupted DROP DATABASE.
    :param unfinished: created by a bootstrap that was interrupted before it granted access to the owner.
    """

    name: str
    owner: str
    privileges: t.Mapping[str, frozenset[str]]
    template: bool = False
    valid: bool = True
    unfinished: bool = False


@dataclasses.dataclass(frozen=True)
class Facts:
    """The declared roles and databases that exist in the cluster, by name.

    :param open_databases: those of these databases, and of the cluster's own, to which every role may connect.
    """

    roles: t.Mapping[str, RoleFacts]
    databases: t.Mapping[str, DatabaseFacts]
    open_databases: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Declaration:
    """The desired state: roles with their passwords, and databases with their owners."""

    passwords: t.Mapping[str, Secret]
    owners: t.Mapping[str, str]

    @classmethod
    def of(cls, databases: Databases) -> Declaration:
        """The state that a valid list declares; if it names a user twice, the last password wins."""
        return cls(
            passwords=databases.passwords(),
            owners={entry.name: entry.user for entry in databases.entries},
        )


@dataclasses.dataclass(frozen=True)
class CreateRole:
    """Create a role that may log in."""

    role: str
    password: Secret

    def __str__(self) -> str:
        return f"create role {self.role!r}"


@dataclasses.dataclass(frozen=True)
class AlterRole:
    """Change the attributes of a role that differ from the desired ones; the others stay.

    :param password: the new password; ``None`` to keep the current one.
    """

    role: str
    login: bool = False
    unexpire: bool = False
    password: Secret | None = None

    def __str__(self) -> str:
        changes = [
            text
            for wanted, text in (
                (self.login, "allow login"),
                (self.unexpire, "remove expiration"),
                (self.password is not None, "set password"),
            )
            if wanted
        ]
        return f"alter role {self.role!r}: {', '.join(changes)}"


@dataclasses.dataclass(frozen=True)
class CreateDatabase:
    """Create a database; its owner has all privileges on it from the start, and other roles have none."""

    database: str
    owner: str

    def __str__(self) -> str:
        return f"create database {self.database!r} owned by {self.owner!r}"


@dataclasses.dataclass(frozen=True)
class FinishDatabase:
    """Grant the owner access to a database whose creation was interrupted."""

    database: str

    def __str__(self) -> str:
        return f"finish creating database {self.database!r}"


@dataclasses.dataclass(frozen=True)
class ChangeOwner:
    """Change the owner of a database to its user."""

    database: str
    owner: str
    previous: str

    def __str__(self) -> str:
        return f"change owner of database {self.database!r} from {self.previous!r} to {self.owner!r}"


@dataclasses.dataclass(frozen=True)
class GrantDatabase:
    """Grant a database's user the missing privileges on it."""

    database: str
    role: str
    missing: frozenset[str]

    def __str__(self) -> str:
        return f"grant {', '.join(sorted(self.missing))} on database {self.database!r} to {self.role!r}"


Step = t.Union[CreateRole, AlterRole, CreateDatabase, FinishDatabase, ChangeOwner, GrantDatabase]


@dataclasses.dataclass(frozen=True)
class BootstrapPlan:
    """The steps of a bootstrap, in order; empty if the cluster is in the desired state.

    :param before: the current state of the declared roles and databases, one line each, without a secret.
    :param after: their state afterwards.
    :param warnings: problems that the plan does not fix.
    """

    steps: tuple[Step, ...]
    before: tuple[str, ...]
    after: tuple[str, ...]
    warnings: tuple[str, ...] = ()

    @property
    def changed(self) -> bool:
        """Whether the plan has any steps."""
        return bool(self.steps)

    def diff(self) -> dict[str, str]:
        """The plan as Ansible shows differences: the texts before and after."""
        return {
            "before": "".join(f"{line}\n" for line in self.before),
            "after": "".join(f"{line}\n" for line in self.after),
        }


def plan_bootstrap(desired: Declaration, facts: Facts) -> BootstrapPlan:
    """Plan the steps from *facts* to *desired*.

    :raises ConfigurationError: if the state cannot be reached; the error has every reason, and no step is performed.
    """
    _refuse(desired, facts)
    roles: list[Step] = []
    creations: list[Step] = []
    changes: list[Step] = []
    before: list[str] = []
    after: list[str] = []
    for role, password in desired.passwords.items():
        current = facts.roles.get(role)
        before.append(_role_line(role, current))
        after.append(f"role {role!r}: login yes, password set")
        if current is None:
            roles.append(CreateRole(role, password))
            continue
        step = AlterRole(
            role,
            login=not current.login,
            unexpire=current.expired,
            password=None if current.password is Password.MATCHES else password,
        )
        if step != AlterRole(role):
            roles.append(step)
    for database, owner in desired.owners.items():
        existing = facts.databases.get(database)
        before.append(_database_line(database, existing))
        after.append(f"database {database!r}: owner {owner!r}, owner's privileges all")
        if existing is None:
            creations.append(CreateDatabase(database, owner))
            continue
        if existing.unfinished:
            creations.append(FinishDatabase(database))
        privileges = existing.privileges.get(owner, frozenset())
        if existing.owner != owner:
            changes.append(ChangeOwner(database, owner, previous=existing.owner))
            # The server transfers the old owner's privileges to the new one.
            privileges |= existing.privileges.get(existing.owner, frozenset())
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
        f" roles that need it, then revoke it from all others: REVOKE CONNECT ON DATABASE {quoted} FROM PUBLIC"
    )
    return (warning,)


def _refuse(desired: Declaration, facts: Facts) -> None:
    reasons = [
        f"role {role!r} is a superuser: the user of an application must not be one"
        for role in desired.passwords
        if role in facts.roles and facts.roles[role].superuser
    ]
    for database in desired.owners:
        existing = facts.databases.get(database)
        if existing is None:
            continue
        if existing.template:
            reasons.append(f"database {database!r} is a template")
        if not existing.valid:
            reasons.append(
                f"database {database!r} is invalid because its DROP DATABASE was interrupted: run DROP DATABASE again"
            )
    if reasons:
        raise ConfigurationError(
            "these databases cannot be created in this cluster",
            cause="; ".join(reasons),
            hint="choose other names, or fix this in the cluster; nothing has been changed",
        )


def _role_line(name: str, current: RoleFacts | None) -> str:
    if current is None:
        return f"role {name!r}: absent"
    password = {
        Password.MATCHES: "set",
        Password.DIFFERS: "different",
        Password.MISSING: "none",
        Password.OUTDATED: "MD5 hash",
    }[current.password]
    expired = ", expired" if current.expired else ""
    return f"role {name!r}: login {'yes' if current.login else 'no'}{expired}, password {password}"


def _database_line(name: str, current: DatabaseFacts | None) -> str:
    if current is None:
        return f"database {name!r}: absent"
    if current.unfinished:
        return f"database {name!r}: unfinished"
    held = current.privileges.get(current.owner, frozenset())
    privileges = "all" if held >= DATABASE_PRIVILEGES else ", ".join(sorted(held)) or "none"
    return f"database {name!r}: owner {current.owner!r}, owner's privileges {privileges}"
