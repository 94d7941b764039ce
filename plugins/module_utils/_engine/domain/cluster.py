# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The globals of a cluster: its roles with their memberships and settings, and the names of its tablespaces.

A backup of them is a text of SQL, of which the first line has the facts as JSON (docs/formats/globals.md).  The SQL is
made of these facts, in :mod:`.cluster_text`, and is for people who restore without this collection.  Here only the JSON
is read, and the SQL is never executed.
"""

from __future__ import annotations

import dataclasses
import json
import re
import typing as t

from ..errors import RestoreRefused
from .names import NAME_LIMIT
from .secret import Secret
from .text import NotJson, strict_json, utf8_size

#: What the first line of the text begins with; the rest of it is JSON.
MARK = "-- infrazero globals: "
#: Version of the JSON.
VERSION = 1
#: Most bytes of text that are read: 100,000 roles with some settings fit.
MAX_BYTES = 64 * 1024 * 1024

#: Attributes by which a role can do what others must not, as ``ALTER ROLE`` names them, with their fields.
PRIVILEGES: t.Mapping[str, str] = {
    "SUPERUSER": "superuser",
    "REPLICATION": "replication",
    "BYPASSRLS": "bypassrls",
    "CREATEROLE": "createrole",
    "CREATEDB": "createdb",
}

#: Predefined roles whose members can become superuser: they read or write the server's files, or run its programs.
#: (https://www.postgresql.org/docs/current/predefined-roles.html)
SUPERUSER_LIKE = frozenset({"pg_execute_server_program", "pg_read_server_files", "pg_write_server_files"})

#: What the server stores for a password (src/backend/libpq/crypt.c, get_password_type).
_VERIFIER = re.compile(
    r"md5[0-9a-f]{32}|SCRAM-SHA-256\$[1-9][0-9]{0,9}:[A-Za-z0-9+/=]+\$[A-Za-z0-9+/=]+:[A-Za-z0-9+/=]+"
)
_MOMENT = re.compile(r"infinity|-infinity|[0-9]{4,6}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?Z")
_RESERVED = frozenset({"", "public", "none"})
_CONTEXTS = frozenset({"internal", "postmaster", "sighup", "superuser-backend", "backend", "superuser", "user"})


@dataclasses.dataclass(frozen=True)
class Setting:
    """A setting of a role in all databases.

    :param value: as the server keeps it.  It may be a secret.
    :param context: who may change the setting, as ``pg_settings`` of the backed-up server says; ``None``: that does not
        know it, as with settings of applications.
    """

    name: str
    value: str = dataclasses.field(repr=False)
    context: str | None = None


@dataclasses.dataclass(frozen=True)
class Role:
    """A role.

    :param valid_until: UTC, ``2027-01-31T00:00:00Z``, or ``infinity``; ``None``: not set.
    :param password: the verifier; ``None``: the role has no password, or it was not asked for.
    """

    name: str
    superuser: bool = False
    inherit: bool = True
    createrole: bool = False
    createdb: bool = False
    login: bool = False
    replication: bool = False
    bypassrls: bool = False
    connection_limit: int = -1
    valid_until: str | None = None
    password: Secret | None = None
    settings: tuple[Setting, ...] = ()
    comment: str | None = dataclasses.field(default=None, repr=False)

    @property
    def privileges(self) -> tuple[str, ...]:
        """Its attributes among :data:`PRIVILEGES`, as ``ALTER ROLE`` names them."""
        return tuple(word for word, field in PRIVILEGES.items() if getattr(self, field))


@dataclasses.dataclass(frozen=True)
class Membership:
    """A membership of a role in another one.

    :param role: the role that was granted.
    :param inherit: option of PostgreSQL 16; ``None``: the server had none, and the member's own attribute counts.
    :param set_role: likewise, the option SET.
    """

    role: str
    member: str
    grantor: str | None = None
    admin: bool = False
    inherit: bool | None = None
    set_role: bool | None = None


@dataclasses.dataclass(frozen=True)
class Globals:
    """The globals of a cluster.

    :param server_version_num: of the server, such as 150018.
    :param tablespaces: names; they are never created, because a directory belongs to each.
    """

    server_version_num: int
    roles: tuple[Role, ...] = ()
    memberships: tuple[Membership, ...] = ()
    tablespaces: tuple[str, ...] = ()

    def superusers(self, more: t.Iterable[str] = ()) -> frozenset[str]:
        """The roles whose members can become superuser: superusers, :data:`SUPERUSER_LIKE`, and their members.

        Members of members count as well.

        :param more: further superusers.
        """
        members: dict[str, set[str]] = {}
        for one in self.memberships:
            members.setdefault(one.role, set()).add(one.member)
        reached: set[str] = set()
        pending = {role.name for role in self.roles if role.superuser} | SUPERUSER_LIKE | set(more)
        while pending:
            reached |= pending
            pending = set().union(*(members.get(name, ()) for name in pending)) - reached
        return frozenset(reached)


def is_predefined(name: str) -> bool:
    """Whether *name* is that of a role that PostgreSQL itself creates; others can't have such a name."""
    return name.startswith("pg_")


# As JSON ------------------------------------------------------------------------------------------------------------


def encode(globals_: Globals) -> str:
    """The facts as one line of ASCII."""
    return json.dumps(_plain(globals_), ensure_ascii=True, sort_keys=True, separators=(",", ":"))


def _plain(globals_: Globals) -> dict[str, t.Any]:
    return {
        "version": VERSION,
        "server_version_num": globals_.server_version_num,
        "roles": [
            {
                **{field: getattr(role, field) for field in _ROLE_FLAGS},
                "name": role.name,
                "connection_limit": role.connection_limit,
                "valid_until": role.valid_until,
                "password": None if role.password is None else role.password.reveal(),
                "settings": [dataclasses.asdict(setting) for setting in role.settings],
                "comment": role.comment,
            }
            for role in globals_.roles
        ],
        "memberships": [
            {
                "role": one.role,
                "member": one.member,
                "grantor": one.grantor,
                "admin": one.admin,
                "inherit": one.inherit,
                "set": one.set_role,
            }
            for one in globals_.memberships
        ],
        "tablespaces": list(globals_.tablespaces),
    }


_ROLE_FLAGS = ("superuser", "inherit", "createrole", "createdb", "login", "replication", "bypassrls")


def parse(text: bytes) -> Globals:
    """Read the facts in the first line of a backup's text.

    :raises RestoreRefused: if it is not such a text; the message has nothing of it but names of fields.
    """
    first = text.partition(b"\n")[0]
    if not first.startswith(MARK.encode()):
        raise _invalid(f"its first line does not begin with {MARK.strip()!r}")
    try:
        fields = strict_json(first[len(MARK) :])
    except NotJson as exc:
        raise _invalid(f"its first line is not JSON: {exc}") from None
    version = fields.get("version") if isinstance(fields, dict) else None
    if isinstance(version, int) and not isinstance(version, bool) and version > VERSION:
        raise RestoreRefused(
            f"the backup of the globals has version {version}, which needs a newer version of infrazero.database",
            cause=f"this one reads versions up to {VERSION}",
            hint="update infrazero.database to the version that wrote the backup, or a newer one",
        )
    return _globals(_Reader(fields, "the first line"))


def _invalid(cause: str) -> RestoreRefused:
    return RestoreRefused(
        "the object is not a backup of a cluster's globals",
        cause=cause,
        hint="nothing was changed; choose another backup of the globals",
    )


class _Reader:
    """Reads fields of an object."""

    def __init__(self, fields: t.Any, where: str) -> None:
        if not isinstance(fields, dict):
            raise _invalid(f"{where} is not a JSON object")
        self._fields = fields
        self._where = where

    def invalid(self, name: str, what: str) -> RestoreRefused:
        return _invalid(f"{self._where}: {name} is not {what}")

    def flag(self, name: str) -> bool:
        value = self._fields.get(name)
        if not isinstance(value, bool):
            raise self.invalid(name, "true or false")
        return value

    def optional_flag(self, name: str) -> bool | None:
        return None if self._fields.get(name) is None else self.flag(name)

    def number(self, name: str, least: int, most: int) -> int:
        value = self._fields.get(name)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise self.invalid(name, f"a whole number from {least} to {most}")
        return value

    def text(self, name: str) -> str:
        value = self._fields.get(name)
        if not isinstance(value, str) or "\0" in value or utf8_size(value) is None:
            raise self.invalid(name, "a text")
        return value

    def optional_text(self, name: str) -> str | None:
        return None if self._fields.get(name) is None else self.text(name)

    def name(self, name: str) -> str:
        """The name of an object of PostgreSQL."""
        value = self.text(name)
        size = utf8_size(value)
        if not value or size is None or size > NAME_LIMIT:
            raise self.invalid(name, f"a name of 1 to {NAME_LIMIT} bytes")
        return value

    def matched(self, name: str, pattern: re.Pattern[str], what: str) -> str | None:
        value = self.optional_text(name)
        if value is not None and not pattern.fullmatch(value):
            raise self.invalid(name, what)
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        value = self._fields.get(name)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.invalid(name, "a list of texts")
        return tuple(value)

    def objects(self, name: str) -> t.Iterator[_Reader]:
        value = self._fields.get(name)
        if not isinstance(value, list):
            raise self.invalid(name, "a list")
        for number, item in enumerate(value, start=1):
            yield _Reader(item, f"{name}, item {number}")


def _globals(fields: _Reader) -> Globals:
    fields.number("version", 1, VERSION)
    roles = tuple(_role(one) for one in fields.objects("roles"))
    if len({role.name for role in roles}) != len(roles):
        raise _invalid("roles: a name occurs twice")
    return Globals(
        server_version_num=fields.number("server_version_num", 90000, 10_000_000),
        roles=roles,
        memberships=tuple(_membership(one) for one in fields.objects("memberships")),
        tablespaces=fields.texts("tablespaces"),
    )


def _role(fields: _Reader) -> Role:
    name = fields.name("name")
    if is_predefined(name) or name in _RESERVED:
        raise fields.invalid("name", "one that a role may have")
    password = fields.matched("password", _VERIFIER, "a verifier of a password")
    return Role(
        name=name,
        connection_limit=fields.number("connection_limit", -1, 2**31 - 1),
        valid_until=fields.matched("valid_until", _MOMENT, "a time"),
        password=None if password is None else Secret(password),
        settings=tuple(_setting(one) for one in fields.objects("settings")),
        comment=fields.optional_text("comment"),
        **{field: fields.flag(field) for field in _ROLE_FLAGS},
    )


def _setting(fields: _Reader) -> Setting:
    context = fields.optional_text("context")
    if context is not None and context not in _CONTEXTS:
        raise fields.invalid("context", "one that pg_settings has")
    return Setting(fields.name("name"), fields.text("value"), context)


def _membership(fields: _Reader) -> Membership:
    return Membership(
        role=fields.name("role"),
        member=fields.name("member"),
        grantor=fields.optional_text("grantor"),
        admin=fields.flag("admin"),
        inherit=fields.optional_flag("inherit"),
        set_role=fields.optional_flag("set"),
    )
