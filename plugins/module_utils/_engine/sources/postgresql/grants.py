# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The privileges of a dump: what is revoked is always revoked, and what is not granted is reported.

Roles but the database's user must never be able to do more than in the source.  A new function may be executed by
PUBLIC, so leaving out the ``REVOKE`` of a dump would open it.  A ``GRANT`` can be left out: that only takes away.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ...printing import printable
from ...settings import name_for_errors
from .dumptext import privileges, statements
from .dumptext.scanner import Statement

try:
    import psycopg2.errorcodes as codes
except ImportError:
    codes = None  # type: ignore[assignment]

#: Number of objects that a warning names.
NAMED = 5

#: The role that stands for the owner of the database, which is the user.
_OWNER_ROLE = "pg_database_owner"

_NO_ROLE = "there is no such role"
_NOT_OWNED = "the object does not belong to the dump"
_NO_OBJECT = "there is no such object here"
_FOREIGN_FORM = "it is not written as pg_dump writes it"


class PrivilegeActions(t.Protocol):
    """What a superuser does about the privileges of a dump."""

    def revoke(self, change: privileges.Change) -> None:
        """Revoke privileges on an object that the throwaway role does not own."""

    def keeps_privileges_of(self, change: privileges.Change) -> bool:
        """Whether the object of *change* is kept by an administrator, with exactly the privileges of the source."""

    def alter_default_privileges(self, change: privileges.DefaultChange) -> str | None:
        """Change the default privileges of one role.  Return why that was not done, if it was not."""


@dataclasses.dataclass(frozen=True)
class Policy:
    """What a restore does with the privileges of a dump.

    :param skip_acl: leave out what the dump grants.
    :param role_map: new names for roles.
    :param owner: the database's user, to whom everything will belong; ``None``: unknown.
    :param source_owner: owner of the dumped database; ``None``: unknown.
    :param forces_owner: whether everything will belong to *owner*, whoever owned it.
    :param grants_user: whether *owner* is granted everything afterwards.
    """

    skip_acl: bool
    role_map: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    owner: str | None = None
    source_owner: str | None = None
    forces_owner: bool = True
    grants_user: bool = True


@dataclasses.dataclass(frozen=True)
class LeftOut:
    """Grants that were left out: one role's, for one reason."""

    what: str
    why: str
    count: int


class Session(t.Protocol):
    """The session that loads the dump, as :class:`Grants` uses it."""

    @property
    def encoding(self) -> str:
        """Python codec of the dump's text."""

    @property
    def public_creates(self) -> bool:
        """Whether PUBLIC may create objects in the schema public of a new database."""

    def change_privileges(self, statement: Statement) -> str | None:
        """Execute a GRANT or REVOKE as the throwaway role.

        Return a SQLSTATE if it was refused, or without full effect: 42501, or that of a missing object.
        """

    def role_exists(self, name: str) -> bool:
        """Whether the cluster has the role *name*."""

    def is_superuser(self, name: str) -> bool:
        """Whether *name* is a superuser of the cluster."""


class Grants:
    """Applies the GRANT and REVOKE statements of one dump.

    :param owners: returns the roles that the dump has named as owners so far.
    """

    def __init__(
        self, session: Session, admin: PrivilegeActions, policy: Policy, owners: t.Callable[[], set[str]]
    ) -> None:
        self._session = session
        self._admin = admin
        self._policy = policy
        self._owners = owners
        # Objects of which the dump has revoked PUBLIC's privileges, and whether the administrator had to do that.
        self._revoked: dict[tuple[str, str], bool] = {}
        # What the administrator revokes when the load is over: the load itself may need it, as everybody else.
        self._foreign: list[privileges.Change] = []
        self._defaults: list[privileges.DefaultChange] = []
        # By role (None: PUBLIC), reason, and whether even the user cannot do without the grant.
        self._left_out: dict[tuple[str | None, str, bool], _Objects] = {}

    def take(self, statement: Statement, roles: t.Sequence[statements.RoleName]) -> None:
        """Apply a GRANT or REVOKE on an object, as far as the policy allows.

        :param roles: all that the statement names.
        """
        change = privileges.parse(statement, encoding=self._session.encoding)
        if not isinstance(change, privileges.Change):
            self._take_whole(statement, roles)
        elif change.revokes:
            self._revoke(change)
        else:
            self._grant(statement, change)

    def take_default(self, statement: Statement, roles: str) -> None:
        """Note an ALTER DEFAULT PRIVILEGES for :meth:`finish`: until then it would concern what the load creates."""
        change = privileges.parse(statement, encoding=self._session.encoding)
        if isinstance(change, privileges.DefaultChange) and change.creators:
            self._defaults.append(change)
        else:
            self._leave_out(None, f"later objects of {roles}", _FOREIGN_FORM, needed=True)

    def finish(self) -> tuple[LeftOut, ...]:
        """Let the administrator do what the throwaway role could not, and return what was left out of the dump."""
        for foreign in self._foreign:
            self._admin.revoke(foreign)
        for change in self._defaults:
            if change.revokes:
                self._revoke_default(change)
            else:
                self._grant_default(change)
        return tuple(self._summed_up())

    # Objects

    def _take_whole(self, statement: Statement, roles: t.Sequence[statements.RoleName]) -> None:
        """Execute a statement that is not parsed further: as the throwaway role, it concerns the dump's own objects."""
        revokes = statement.text[:6].upper() == b"REVOKE"
        names = [self._mapped(role.name) for role in roles]
        concerned: list[str | None] = [*names] or [None]
        missing = sorted({name for name in names if not self._session.role_exists(name)})
        if self._policy.skip_acl and not revokes:
            for name in concerned:
                self._leave_out(name, "several objects", self._skip_reason, needed=False)
        elif missing:
            for gone in missing:
                self._leave_out(gone, "REVOKE" if revokes else "several objects", _NO_ROLE, needed=revokes)
        else:
            rewritten = statements.rewrite_roles(
                statement, roles, self._policy.role_map, encoding=self._session.encoding
            )
            if self._session.change_privileges(rewritten) is not None:
                for name in concerned:
                    self._leave_out(name, "several objects", _NOT_OWNED, needed=True)

    def _revoke(self, change: privileges.Change) -> None:
        grantees = self._narrowed(change.grantees)
        if not grantees:
            return
        change = dataclasses.replace(change, grantees=tuple(grantees))
        refused = self._session.change_privileges(self._rendered(change))
        by_admin = refused == codes.INSUFFICIENT_PRIVILEGE
        if by_admin:
            self._foreign.append(change)
        if None in grantees and (refused is None or by_admin):
            self._revoked[change.kind, change.identity] = by_admin

    def _narrowed(self, grantees: t.Iterable[str | None]) -> list[str | None]:
        """Those who are to lose a privilege: all but the user and roles that do not exist."""
        mapped = [name if name is None else self._mapped(name) for name in grantees]
        return [
            name
            for name in dict.fromkeys(mapped)
            if name is None or (name not in (self._policy.owner, _OWNER_ROLE) and self._session.role_exists(name))
        ]

    def _grant(self, statement: Statement, change: privileges.Change) -> None:
        if self._admin.keeps_privileges_of(change):
            return
        needed = self._revoked.get((change.kind, change.identity), False)
        mapped = [name if name is None else self._mapped(name) for name in change.grantees]
        if self._policy.skip_acl:
            for name in mapped:
                if name is not None or not self._give_back(change):
                    self._leave_out(name, change.object, self._skip_reason, needed=needed)
            return
        present = [name for name in mapped if name is None or self._session.role_exists(name)]
        for name in mapped:
            if name not in present:
                self._leave_out(name, change.object, _NO_ROLE, needed=needed)
        if not present:
            return
        rewritten = self._rendered(dataclasses.replace(change, grantees=tuple(present)))
        # As it is where possible: it may name the grantor.
        refused = self._session.change_privileges(statement if present == list(change.grantees) else rewritten)
        if refused is not None:
            why = _NOT_OWNED if refused == codes.INSUFFICIENT_PRIVILEGE else _NO_OBJECT
            for name in present:
                self._leave_out(name, change.object, why, needed=True)

    def _give_back(self, change: privileges.Change) -> bool:
        """Grant PUBLIC what it has by default on a new object, if the dump has revoked that before.

        pg_dump revokes everything and grants the rest again.  Return whether nothing else was granted.
        """
        default = privileges.DEFAULTS_OF_PUBLIC.get(change.kind)
        if (
            default is None
            or (change.kind, change.identity) not in self._revoked
            or (change.kind == "SCHEMA" and change.names != ("public",))
        ):
            return False
        granted = {right.privilege for right in change.rights}
        if not granted & {default, privileges.ALL}:
            return False
        everything = change.kind != "SCHEMA" or self._session.public_creates
        rights = change.rights if everything else (privileges.Right(default),)
        back = dataclasses.replace(change, rights=rights, grantees=(None,), grant_option=False)
        if self._session.change_privileges(self._rendered(back)) is not None:
            return False
        return everything or granted == {default}

    # Default privileges

    def _creators(self, change: privileges.DefaultChange) -> list[str]:
        """The roles of the cluster that stand for those whose later objects *change* is about."""
        found = []
        for role in change.creators:
            name = self._mapped(role)
            if self._policy.forces_owner and self._policy.owner is not None and role in self._source_owners():
                # What that role created in the source, the user creates here.
                found.append(self._policy.owner)
                if not change.revokes:
                    continue
            if self._session.role_exists(name):
                found.append(name)
        return list(dict.fromkeys(found))

    def _revoke_default(self, change: privileges.DefaultChange) -> None:
        grantees = tuple(self._narrowed(change.grantees))
        for creator in self._creators(change) if grantees else ():
            one = dataclasses.replace(change, creators=(creator,), grantees=grantees)
            why = self._admin.alter_default_privileges(one)
            if why is not None:
                self._leave_out(None, f"REVOKE on {one.object}", why, needed=True)

    def _grant_default(self, change: privileges.DefaultChange) -> None:
        mapped = [name if name is None else self._mapped(name) for name in change.grantees]
        reasons: dict[str | None, str] = {
            name: self._skip_reason if self._policy.skip_acl else _NO_ROLE
            for name in mapped
            if self._policy.skip_acl or not (name is None or self._session.role_exists(name))
        }
        present = tuple(name for name in mapped if name not in reasons)
        creators = self._creators(change)
        for creator in creators if present else ():
            why = self._admin.alter_default_privileges(
                dataclasses.replace(change, creators=(creator,), grantees=present)
            )
            if why is not None:
                reasons.update(dict.fromkeys(present, why))
        if present and not creators:
            reasons.update(dict.fromkeys(present, f"there is no role {', '.join(map(self._mapped, change.creators))}"))
        for name, why in reasons.items():
            self._leave_out(name, change.object, why, needed=not self._policy.grants_user)

    # What is left out

    @property
    def _skip_reason(self) -> str:
        setting = name_for_errors("restore", "skip_acl")
        return f"the restore leaves out the grants of a dump unless {setting} is false"

    def _mapped(self, name: str) -> str:
        return self._policy.role_map.get(name, name)

    def _rendered(self, change: privileges.Change) -> Statement:
        text = privileges.render(change, change.grantees)
        return Statement(text.encode(self._session.encoding, "surrogateescape"))

    def _leave_out(self, role: str | None, what: str, why: str, *, needed: bool) -> None:
        self._left_out.setdefault((role, why, needed), _Objects()).add(what)

    def _source_owners(self) -> set[str]:
        """Roles of the source whose objects and rights are the user's here."""
        if not self._policy.forces_owner:
            return set()
        if self._policy.source_owner is not None:
            return {self._policy.source_owner}
        # If several roles owned something, nobody knows which of them the user stands for.
        owners = {role for role in self._owners() if role != _OWNER_ROLE and not self._session.is_superuser(role)}
        return owners if len(owners) == 1 else set()

    def _summed_up(self) -> t.Iterator[LeftOut]:
        users = {self._policy.owner, _OWNER_ROLE, *self._source_owners(), *map(self._mapped, self._source_owners())}
        for (role, why, needed), objects in self._left_out.items():
            # Superusers need no grants, and the user has all rights as the owner.
            if role is None or needed or not (role in users or self._session.is_superuser(role)):
                to = "PUBLIC" if role is None else role
                yield LeftOut(printable(f"to {to} on {objects}"), why, objects.count)


class _Objects:
    """Names of objects, of which the first few are kept."""

    def __init__(self) -> None:
        self.count = 0
        self._named: dict[str, None] = {}
        self._more = False

    def add(self, name: str) -> None:
        self.count += 1
        if len(self._named) < NAMED:
            self._named[name] = None
        else:
            self._more = self._more or name not in self._named

    def __str__(self) -> str:
        return ", ".join(self._named) + (" and others" if self._more else "")
