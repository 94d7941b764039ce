# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The globals of a cluster: read for a backup, compared with a backup, and created from one."""

from __future__ import annotations

import typing as t

from ...domain.cluster import Globals, Membership, Role, Setting
from ...domain.cluster_plan import (
    ClusterRoles,
    Comment,
    CreateRole,
    ExistingRole,
    GlobalsPlan,
    Grant,
    SetParameter,
    Step,
)
from ...domain.secret import Secret
from ...errors import PostgresError
from ...settings import name_for_errors
from .connection import is_superuser, translated
from .database_settings import Parameter, setting_values
from .roles import quietly

try:
    import psycopg2
    from psycopg2 import sql
except ImportError:
    psycopg2 = None  # type: ignore[assignment]
    sql = None  # type: ignore[assignment]

if t.TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection
    from psycopg2.extensions import cursor as Cursor

# Roles that PostgreSQL creates itself, and those that restores create for their own time, are not part of the globals.
# As JSON a column that a version does not have is a null.
_READ = """
WITH roles AS (
    SELECT * FROM pg_catalog.pg_authid
    WHERE rolname !~ '^pg_' AND rolname !~ '^infrazero_restore_[0-9a-z]{1,32}$'
)
SELECT
  current_setting('server_version_num')::int,
  (SELECT coalesce(json_agg(json_build_object(
            'name', rolname, 'superuser', rolsuper, 'inherit', rolinherit, 'createrole', rolcreaterole,
            'createdb', rolcreatedb, 'login', rolcanlogin, 'replication', rolreplication, 'bypassrls', rolbypassrls,
            'connection_limit', rolconnlimit,
            'valid_until', CASE WHEN isfinite(rolvaliduntil)
                           THEN to_char(rolvaliduntil AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
                           ELSE rolvaliduntil::text END,
            'password', CASE WHEN %(passwords)s THEN rolpassword END,
            'comment', pg_catalog.shobj_description(oid, 'pg_authid'),
            'settings', (SELECT json_agg(json_build_array(split_part(c.entry, '=', 1),
                                                          substr(c.entry, strpos(c.entry, '=') + 1), k.context)
                                         ORDER BY c.place)
                         FROM pg_catalog.pg_db_role_setting s
                         CROSS JOIN LATERAL unnest(s.setconfig) WITH ORDINALITY AS c(entry, place)
                         LEFT JOIN pg_catalog.pg_settings k ON lower(k.name) = lower(split_part(c.entry, '=', 1))
                         WHERE s.setrole = roles.oid AND s.setdatabase = 0)
          ) ORDER BY rolname), '[]') FROM roles),
  (SELECT coalesce(json_agg(json_build_array(
            pg_catalog.pg_get_userbyid(m.roleid), u.rolname, g.rolname, m.admin_option,
            (row ->> 'inherit_option')::boolean, (row ->> 'set_option')::boolean)
            ORDER BY 1::text, pg_catalog.pg_get_userbyid(m.roleid), u.rolname, g.rolname), '[]')
   FROM pg_catalog.pg_auth_members m
   JOIN roles u ON u.oid = m.member
   LEFT JOIN pg_catalog.pg_authid g ON g.oid = m.grantor,
   LATERAL to_jsonb(m) AS row),
  (SELECT coalesce(json_agg(spcname ORDER BY spcname), '[]') FROM pg_catalog.pg_tablespace WHERE spcname !~ '^pg_')
"""

# The superusers with their direct and indirect members: whoever is granted one of these roles can become superuser.
_LOOK = """
WITH RECURSIVE super AS (
    SELECT oid FROM pg_catalog.pg_roles WHERE rolsuper
    UNION
    SELECT m.member FROM pg_catalog.pg_auth_members m JOIN super s ON s.oid = m.roleid
)
SELECT
  current_setting('server_version_num')::int,
  (SELECT json_agg(json_build_array(
            rolname, EXISTS (SELECT FROM super s WHERE s.oid = r.oid),
            EXISTS (SELECT FROM pg_catalog.pg_db_role_setting s WHERE s.setrole = r.oid AND s.setdatabase = 0),
            pg_catalog.shobj_description(oid, 'pg_authid') IS NOT NULL))
   FROM pg_catalog.pg_roles r),
  (SELECT coalesce(json_agg(json_build_array(pg_catalog.pg_get_userbyid(roleid), pg_catalog.pg_get_userbyid(member))),
                   '[]')
   FROM pg_catalog.pg_auth_members),
  (SELECT json_object_agg(lower(name), context) FROM pg_catalog.pg_settings)
"""

_OPTIONS_SINCE = 160000


def read(conn: Connection, *, passwords: bool) -> Globals:
    """The globals of the cluster.

    :param passwords: whether the verifiers of passwords are read, which takes a superuser or ``pg_read_all_data``.
    """
    # Everybody may read the view, which shows no verifiers.
    query = _READ if passwords else _READ.replace("pg_catalog.pg_authid", "pg_catalog.pg_roles")
    try:
        with translated("could not read the roles of the cluster"), conn.cursor() as cursor:
            cursor.execute(query, {"passwords": passwords})
            rows = cursor.fetchall()
    except PostgresError as exc:
        if passwords and not is_superuser(conn):
            exc.hint = (
                f"to read the verifiers of passwords, GRANT pg_read_all_data TO {conn.info.user} or connect as a"
                f" superuser; or leave them out with {name_for_errors('cluster_backup', 'passwords')}"
            )
        raise
    version, roles, memberships, tablespaces = rows[0]
    return Globals(
        server_version_num=version,
        roles=tuple(
            Role(
                **{
                    **role,
                    "password": None if role["password"] is None else Secret(role["password"]),
                    "settings": tuple(Setting(*setting) for setting in role["settings"] or ()),
                }
            )
            for role in roles
        ),
        memberships=tuple(Membership(*one) for one in memberships),
        tablespaces=tuple(tablespaces),
    )


def look(conn: Connection) -> ClusterRoles:
    """The roles of the cluster that is restored to."""
    with translated("could not read the roles of the cluster"), conn.cursor() as cursor:
        cursor.execute(_LOOK)
        rows = cursor.fetchall()
    version, roles, memberships, contexts = rows[0]
    return ClusterRoles(
        server_version_num=version,
        roles={name: ExistingRole(*more) for name, *more in roles},
        memberships=frozenset((role, member) for role, member in memberships),
        contexts=contexts,
    )


def apply(conn: Connection, plan: GlobalsPlan, *, record: t.Callable[[], None]) -> tuple[str, ...]:
    """Perform the steps of *plan* in one transaction, with what *record* does; warnings come back.

    :param conn: a superuser's session in autocommit mode.
    """
    version = conn.info.server_version
    warnings = []
    with translated("could not create the roles of the cluster", phase="bootstrap"), quietly(conn) as cursor:
        # The message about a value that is not valid has the value.  Errors reach us all the same.
        cursor.execute("SET LOCAL log_min_messages = 'panic'")
        for step in plan.steps:
            if not isinstance(step, SetParameter):
                cursor.execute(_statement(step, version))
            elif not _set(cursor, step):
                warnings.append(f"this server does not accept the setting {step.setting.name} of role {step.role!r}")
        record()
    return tuple(warnings)


def _set(cursor: Cursor, step: SetParameter) -> bool:
    """Whether the server has accepted a setting.  Its message would have the value, which may be a secret."""
    items = setting_values(Parameter(step.role, step.setting.name, step.setting.value))
    cursor.execute("SAVEPOINT setting")
    try:
        cursor.execute(
            sql.SQL("ALTER ROLE {} SET {} TO {}").format(
                sql.Identifier(step.role),
                sql.Identifier(step.setting.name),
                sql.SQL(", ").join(map(sql.Literal, items)),
            )
        )
    except (psycopg2.DataError, psycopg2.ProgrammingError):
        cursor.execute("ROLLBACK TO SAVEPOINT setting")
        return False
    cursor.execute("RELEASE SAVEPOINT setting")
    return True


def _statement(step: Step, version: int) -> sql.Composable:
    if isinstance(step, CreateRole):
        return _creation(step)
    if isinstance(step, Comment):
        return sql.SQL("COMMENT ON ROLE {} IS {}").format(sql.Identifier(step.role), sql.Literal(step.text))
    if isinstance(step, Grant):
        return _grant(step, version)
    raise TypeError(step)


def _creation(step: CreateRole) -> sql.Composable:
    role = step.role
    parts: list[sql.Composable] = [
        sql.SQL("CREATE ROLE {}").format(sql.Identifier(role.name)),
        sql.SQL("LOGIN" if step.login else "NOLOGIN"),
    ]
    parts.append(sql.SQL("INHERIT" if role.inherit else "NOINHERIT"))
    parts += map(sql.SQL, step.privileges)
    parts.append(sql.SQL("CONNECTION LIMIT {}").format(sql.Literal(role.connection_limit)))
    if role.valid_until is not None:
        parts.append(sql.SQL("VALID UNTIL {}").format(sql.Literal(role.valid_until)))
    if role.password is not None:
        parts.append(sql.SQL("PASSWORD {}").format(sql.Literal(role.password.reveal())))
    return sql.SQL(" ").join(parts)


def _grant(step: Grant, version: int) -> sql.Composable:
    one = step.membership
    options = []
    if version >= _OPTIONS_SINCE:
        options += [
            f"{word} {'TRUE' if value else 'FALSE'}"
            for word, value in (("ADMIN", one.admin), ("INHERIT", one.inherit), ("SET", one.set_role))
            if value is not None
        ]
    elif one.admin:
        options.append("ADMIN OPTION")
    parts: list[sql.Composable] = [
        sql.SQL("GRANT {} TO {}").format(sql.Identifier(one.role), sql.Identifier(one.member))
    ]
    if options:
        parts.append(sql.SQL("WITH " + ", ".join(options)))
    if step.grantor is not None:
        parts.append(sql.SQL("GRANTED BY {}").format(sql.Identifier(step.grantor)))
    return sql.SQL(" ").join(parts)
