# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The text of a backup of globals: the facts as JSON, and SQL made of them, which psql applies without this collection.

docs/formats/globals.md has the format.  The SQL creates the roles that are missing and changes no other: one ``DO``
block, which is one transaction.  What :mod:`...domain.cluster_plan` only lists is in it as comments.  A name or a value
never reaches another line, whatever characters it has, so none can end a comment.
"""

from __future__ import annotations

import io
import typing as t

from ...domain import cluster, manifest
from ...domain.cluster import Globals, Membership, Role, Setting
from ...domain.text import statement_literal, statement_name
from .database_settings import Parameter, setting_values

_HEAD = """\
-- Roles of a PostgreSQL cluster, written by infrazero.database. This creates the roles that are missing, and changes no
-- other role. A role without a password of its own cannot log in. To apply it, as a superuser:
--   age --decrypt --identity KEY FILE | gunzip | psql --no-psqlrc --set ON_ERROR_STOP=1 postgres
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SET log_statement = 'none';
SET log_min_duration_statement = -1;
SET log_min_messages = 'panic';
SET log_min_error_statement = 'panic';
"""

_TAIL = """\
-- Not restored above. Run what you want of it.
"""


def render(globals_: Globals) -> bytes:
    """The text of a backup of *globals_*."""
    body = "".join(f"  {line}\n" for line in _body(globals_))
    tag = _tag(body)
    block = f"DO {tag}\n{body}{tag};\n"
    listed = "".join(f"-- {line}\n" for line in _listed(globals_))
    return f"{cluster.MARK}{cluster.encode(globals_)}\n{_HEAD}{block}{_TAIL}{listed}".encode()


def _tag(body: str) -> str:
    """A dollar quote that is not in *body*."""
    tag, number = "$globals$", 0
    while tag in body:
        number += 1
        tag = f"$globals{number}$"
    return tag


def _body(globals_: Globals) -> t.Iterator[str]:
    names = ", ".join(statement_literal(role.name) for role in globals_.roles)
    yield "DECLARE"
    yield "  missing name[] := ARRAY("
    yield f"    SELECT name FROM unnest(ARRAY[{names}]::name[]) AS name"
    yield "    WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = name));"
    yield "BEGIN"
    for role in globals_.roles:
        yield f"  IF {statement_literal(role.name)} = ANY (missing) THEN"
        yield f"    CREATE ROLE {statement_name(role.name)} {_attributes(role)};"
        for setting in filter(_may_set, role.settings):
            yield f"    {_setting(role, setting)}"
        if role.comment is not None:
            yield f"    COMMENT ON ROLE {statement_name(role.name)} IS {statement_literal(role.comment)};"
        yield "  END IF;"
    harmless = _harmless(globals_)
    for one in globals_.memberships:
        if one in harmless:
            yield f"  IF ARRAY[{statement_literal(one.role)}, {statement_literal(one.member)}]::name[] <@ missing THEN"
            yield from (f"    {line}" for line in _grant(one))
            yield "  END IF;"
    yield "END"


def _attributes(role: Role) -> str:
    words = ["LOGIN" if role.login and role.password is not None else "NOLOGIN"]
    words.append("INHERIT" if role.inherit else "NOINHERIT")
    words.append(f"CONNECTION LIMIT {role.connection_limit}")
    if role.valid_until is not None:
        words.append(f"VALID UNTIL {statement_literal(role.valid_until)}")
    if role.password is not None:
        words.append(f"PASSWORD {statement_literal(role.password.reveal())}")
    return " ".join(words)


def _setting(role: Role, setting: Setting) -> str:
    items = ", ".join(map(statement_literal, setting_values(Parameter(role.name, setting.name, setting.value))))
    return f"ALTER ROLE {statement_name(role.name)} SET {statement_name(setting.name)} TO {items};"


def _may_set(setting: Setting) -> bool:
    return setting.context == "user" or (setting.context is None and "." in setting.name)


def _harmless(globals_: Globals) -> frozenset[Membership]:
    """The memberships in roles that are neither predefined nor lead to a superuser."""
    superusers = globals_.superusers()
    return frozenset(
        one for one in globals_.memberships if not cluster.is_predefined(one.role) and one.role not in superusers
    )


def _grant(one: Membership) -> t.Iterator[str]:
    grant = f"GRANT {statement_name(one.role)} TO {statement_name(one.member)}"
    if one.inherit is None or one.set_role is None:
        yield f"{grant}{' WITH ADMIN OPTION' if one.admin else ''};"
        return
    options = ", ".join(
        f"{word} {'TRUE' if value else 'FALSE'}"
        for word, value in (("ADMIN", one.admin), ("INHERIT", one.inherit), ("SET", one.set_role))
    )
    # As text: a server before PostgreSQL 16 would not read the statement.
    yield "IF current_setting('server_version_num')::int >= 160000 THEN"
    yield f"  EXECUTE {statement_literal(f'{grant} WITH {options}')};"
    if one.inherit and one.set_role:
        yield "ELSE"
        yield f"  {grant}{' WITH ADMIN OPTION' if one.admin else ''};"
    yield "END IF;"


def _listed(globals_: Globals) -> t.Iterator[str]:
    for role in globals_.roles:
        words = [*role.privileges, *(["LOGIN"] if role.login and role.password is None else [])]
        if words:
            yield f"ALTER ROLE {statement_name(role.name)} {' '.join(words)};"
        for setting in role.settings:
            if not _may_set(setting):
                yield _setting(role, setting)
    harmless = _harmless(globals_)
    for one in globals_.memberships:
        if one not in harmless:
            admin = " WITH ADMIN OPTION" if one.admin else ""
            yield f"GRANT {statement_name(one.role)} TO {statement_name(one.member)}{admin};"
    for name in globals_.tablespaces:
        yield f"Tablespace {statement_name(name)}"


class GlobalsDump:
    """The text of a backup of globals, as a dump is read.

    :param part: what the manifest says of the source.
    :param advance: is passed the size of each piece.
    """

    #: What a restore leaves out depends on the cluster that it restores to.
    warnings: tuple[str, ...] = ()

    def __init__(self, text: bytes, part: manifest.Postgresql, *, advance: t.Callable[[int], None]) -> None:
        self._stream = io.BytesIO(text)
        self._advance = advance
        self.part = part

    def read(self, n: int, /) -> bytes:
        """Up to *n* bytes; ``b""`` is the end."""
        chunk = self._stream.read(n)
        self._advance(len(chunk))
        return chunk

    def close(self) -> None:
        """Nothing has to end."""
