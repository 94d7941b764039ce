# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The plan of a restore of a cluster's globals: the steps that create what is missing, and what is only listed.

An existing role is never changed.  A role is created without the attributes of :data:`.cluster.PRIVILEGES`, without
memberships in predefined roles and without those that lead to a superuser, unless they are asked for.  A user of the
databases list gets back its memberships, its comment and its settings, but never an attribute or a password, and never
a way to a superuser.
"""

from __future__ import annotations

import dataclasses
import typing as t

from . import cluster
from .cluster import Globals, Membership, Role, Setting
from .text import statement_name

#: The version that made INHERIT and SET options of each membership, and checks who may grant one.
_OPTIONS_SINCE = 160000


@dataclasses.dataclass(frozen=True)
class ExistingRole:
    """A role of the cluster that is restored to.

    :param superuser: whether it is one, or a member of one.
    :param settings: whether it has any in all databases.
    :param comment: whether it has one.
    """

    superuser: bool = False
    settings: bool = False
    comment: bool = False


@dataclasses.dataclass(frozen=True)
class ClusterRoles:
    """The roles of the cluster that is restored to.

    :param memberships: pairs of role and member.
    :param contexts: who may change each setting that the server knows, as ``pg_settings`` says, by its name in lower
        case.
    """

    server_version_num: int
    roles: t.Mapping[str, ExistingRole]
    memberships: frozenset[tuple[str, str]] = frozenset()
    contexts: t.Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class CreateRole:
    """Create a role.

    :param role: as it was.
    :param login: whether it may log in.
    :param privileges: what it gets of :attr:`.cluster.Role.privileges`.
    """

    role: Role
    login: bool
    privileges: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"create role {self.role.name!r} with {' '.join(['LOGIN' if self.login else 'NOLOGIN', *self.privileges])}"
        )


@dataclasses.dataclass(frozen=True)
class SetParameter:
    """Give a role a setting in all databases."""

    role: str
    setting: Setting

    def __str__(self) -> str:
        return f"set {self.setting.name} of role {self.role!r}"


@dataclasses.dataclass(frozen=True)
class Comment:
    """Give a role its comment."""

    role: str
    text: str = dataclasses.field(repr=False)

    def __str__(self) -> str:
        return f"comment on role {self.role!r}"


@dataclasses.dataclass(frozen=True)
class Grant:
    """Make a role a member of another one.

    :param grantor: the role in whose name it is granted; ``None``: the superuser who runs it.
    """

    membership: Membership
    grantor: str | None

    def __str__(self) -> str:
        option = " with admin option" if self.membership.admin else ""
        return f"grant role {self.membership.role!r} to {self.membership.member!r}{option}"


Step = t.Union[CreateRole, SetParameter, Comment, Grant]


@dataclasses.dataclass(frozen=True)
class GlobalsPlan:
    """The steps of a restore of globals, in order.

    :param listed: what is not restored, a sentence each, with the statement that does it where there is one.  No value
        of a setting and no verifier is in it.
    """

    steps: tuple[Step, ...] = ()
    listed: tuple[str, ...] = ()

    @property
    def created(self) -> tuple[str, ...]:
        """Names of the roles that are created."""
        return tuple(step.role.name for step in self.steps if isinstance(step, CreateRole))


def plan_globals(
    recorded: Globals,
    found: ClusterRoles,
    *,
    declared: t.Collection[str] = (),
    privileges: bool = False,
) -> GlobalsPlan:
    """Plan the steps from the roles *found* to the *recorded* ones.

    :param declared: users of the databases list that a bootstrap creates; they exist when the steps are performed.
    :param privileges: create what is otherwise only listed.
    """
    planner = _Planner(recorded, found, frozenset(declared), privileges)
    return planner.plan()


class _Planner:
    def __init__(self, recorded: Globals, found: ClusterRoles, declared: frozenset[str], privileges: bool) -> None:
        self._recorded = recorded
        self._found = found
        self._declared = declared
        self._privileges = privileges
        self._missing = frozenset(
            role.name for role in recorded.roles if role.name not in found.roles and role.name not in declared
        )
        self._superusers = recorded.superusers(name for name, role in found.roles.items() if role.superuser)
        self._listed: list[str] = []

    def plan(self) -> GlobalsPlan:
        steps: list[Step] = []
        silent: list[str] = []
        for role in self._recorded.roles:
            if role.name in self._missing:
                login = role.login and role.password is not None
                steps.append(CreateRole(role, login, role.privileges if self._privileges else ()))
                if role.login and not login:
                    silent.append(role.name)
        for role in self._recorded.roles:
            if role.name in self._missing or role.name in self._declared:
                self._list_privileges(role)
                steps += self._belongings(role)
        if silent:
            self._listed.append(
                f"{', '.join(map(repr, silent))} could log in, and cannot now, because the backup has no password of"
                " theirs: set one with ALTER ROLE ... LOGIN PASSWORD"
            )
        steps += self._grants()
        if self._recorded.tablespaces:
            self._listed.append(
                "tablespaces are never created; the backed-up cluster had "
                + ", ".join(map(repr, self._recorded.tablespaces))
            )
        return GlobalsPlan(tuple(steps), tuple(self._listed))

    def _list_privileges(self, role: Role) -> None:
        if not role.privileges or (self._privileges and role.name in self._missing):
            return
        words = " ".join(role.privileges)
        self._list(
            f"role {role.name!r} had {', '.join(role.privileges)}", f"ALTER ROLE {statement_name(role.name)} {words}"
        )

    def _belongings(self, role: Role) -> t.Iterator[Step]:
        """Settings and the comment, where nobody has given the role others."""
        present = self._found.roles.get(role.name, ExistingRole())
        if not present.settings:
            for setting in role.settings:
                if self._may_set(setting):
                    yield SetParameter(role.name, setting)
                else:
                    self._list(f"role {role.name!r} had the setting {setting.name}, which only a superuser may change")
        if role.comment is not None and not present.comment:
            yield Comment(role.name, role.comment)

    def _may_set(self, setting: Setting) -> bool:
        """Whether the role could have changed the setting itself."""
        context = self._found.contexts.get(setting.name.lower(), setting.context)
        # A setting that no server knew belongs to an application.
        return context == "user" or (context is None and "." in setting.name)

    def _grants(self) -> t.Iterator[Step]:
        wanted: dict[tuple[str, str, str | None], Membership] = {}
        for one in self._recorded.memberships:
            if (one.role, one.member) in self._found.memberships:
                continue
            refusal = self._refusal(one)
            if refusal is None:
                key = (one.role, one.member, one.grantor if one.grantor in self._ours else None)
                wanted[key] = _joined(wanted.get(key), one)
            elif refusal:
                statement = f"GRANT {statement_name(one.role)} TO {statement_name(one.member)}"
                self._list(f"{one.member!r} was a member of {one.role!r}, {refusal}", statement)
        yield from _in_order(wanted, checked=self._found.server_version_num >= _OPTIONS_SINCE)

    @property
    def _ours(self) -> frozenset[str]:
        return self._missing | self._declared

    def _refusal(self, one: Membership) -> str | None:
        """Why a membership is not restored; ``""``: it means nothing here; ``None``: it is restored."""
        predefined = cluster.is_predefined(one.role)
        if one.member not in self._ours:
            return "which exists here" if one.member in self._found.roles else ""
        if not predefined and one.role not in self._ours:
            return "which exists here" if one.role in self._found.roles else ""
        if predefined and one.role not in self._found.roles:
            return "which this server does not have"
        if one.role in self._superusers and (one.member in self._declared or not self._privileges):
            return "whose members can become superuser"
        if predefined and not self._privileges:
            return "which is a predefined role"
        if self._found.server_version_num < _OPTIONS_SINCE and (one.set_role is False or one.inherit is False):
            return "without the option SET or INHERIT, which this server does not have"
        return None

    def _list(self, what: str, statement: str | None = None) -> None:
        self._listed.append(f"{what}; not restored" + ("" if statement is None else f": {statement}"))


def _joined(first: Membership | None, second: Membership) -> Membership:
    """Two grants of the same role to the same member, as one."""
    if first is None:
        return second
    return dataclasses.replace(
        second,
        admin=first.admin or second.admin,
        inherit=None if second.inherit is None else bool(first.inherit or second.inherit),
        set_role=None if second.set_role is None else bool(first.set_role or second.set_role),
    )


def _in_order(wanted: t.Mapping[tuple[str, str, str | None], Membership], *, checked: bool) -> t.Iterator[Grant]:
    """Grants, each after the one that lets its grantor grant it.

    :param checked: whether the server wants a grantor to have the admin option.
    """
    pending = dict(wanted)
    admins: set[tuple[str, str]] = set()
    while pending:
        now = [key for key in pending if key[2] is None or not checked or (key[0], key[2]) in admins]
        # Without its grantor, what is granted by a role that may not.
        grantors = {key: key[2] for key in now} or dict.fromkeys(list(pending)[:1])
        for key, grantor in grantors.items():
            one = pending.pop(key)
            yield Grant(one, grantor)
            if one.admin:
                admins.add((one.role, one.member))
