# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""What a role that is not a superuser cannot read of a database, so that a backup of it would fail, or lack it.

pg_dump itself fails at rows and large objects that it may not read, in the middle of the dump and without a remedy.
But it leaves subscriptions and the options of user mappings out without an error.
"""

from __future__ import annotations

import typing as t

from ...errors import BackupRefused
from ...printing import printable
from .connection import is_superuser, translated

if t.TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection

#: How many objects an error names.
_NAMED = 5

# Relations whose rows pg_dump reads: of an extension, only those of its configuration tables.
_RELATIONS = """
WITH dumped AS (
    SELECT c.oid, c.relkind, n.oid AS schema, c.relrowsecurity
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'S') AND c.relpersistence <> 't'
      AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
      AND (c.oid IN (SELECT unnest(extconfig) FROM pg_catalog.pg_extension)
           OR NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::regclass
                          AND d.objid = c.oid AND d.deptype = 'e'))
), checked AS (
    SELECT oid, pg_catalog.has_schema_privilege(schema, 'USAGE')
                AND CASE WHEN relkind = 'S' THEN pg_catalog.has_sequence_privilege(oid, 'SELECT')
                    ELSE pg_catalog.has_table_privilege(oid, 'SELECT') END AS readable,
           relrowsecurity AND pg_catalog.row_security_active(oid) AS filtered
    FROM dumped
)
SELECT readable, oid::regclass::text FROM checked WHERE NOT readable OR filtered ORDER BY 2
"""

# Since 18 there is a function for that.
_LARGE_OBJECTS = """
SELECT count(*) FROM pg_catalog.pg_largeobject_metadata m
WHERE current_setting('lo_compat_privileges') = 'off' AND NOT pg_catalog.pg_has_role(m.lomowner, 'USAGE')
  AND NOT EXISTS (SELECT FROM pg_catalog.aclexplode(m.lomacl) a
                  WHERE a.privilege_type = 'SELECT'
                    AND (a.grantee = 0 OR pg_catalog.pg_has_role(a.grantee, 'USAGE')))
"""

_SUBSCRIPTIONS = """
SELECT subname::text FROM pg_catalog.pg_subscription
WHERE subdbid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()) ORDER BY 1
"""

# As the view pg_user_mappings decides whose options it shows.
_USER_MAPPINGS = """
SELECT u.usename::text || ' on server ' || u.srvname
FROM pg_catalog.pg_user_mappings u JOIN pg_catalog.pg_foreign_server s ON s.oid = u.srvid
WHERE u.umoptions IS NULL AND NOT (
    (u.umuser <> 0 AND u.usename = current_user
     AND (pg_catalog.pg_has_role(s.srvowner, 'USAGE') OR pg_catalog.has_server_privilege(s.oid, 'USAGE')))
    OR (u.umuser = 0 AND pg_catalog.pg_has_role(s.srvowner, 'USAGE')))
ORDER BY 1
"""


def require_readable(conn: Connection, database: str) -> tuple[str, ...]:
    """Raise if a dump through the role of *conn*, a session in *database*, would fail at what it may not read.

    :returns: what pg_dump would leave out without an error.
    :raises BackupRefused: with the remedy.
    """
    if is_superuser(conn):
        return ()
    role = conn.info.user
    with translated(f"could not look up what {role!r} may read in {database!r}"), conn.cursor() as cursor:
        cursor.execute(_RELATIONS)
        relations = cursor.fetchall()
        cursor.execute(_LARGE_OBJECTS)
        objects = cursor.fetchall()[0][0]
        cursor.execute(_SUBSCRIPTIONS)
        subscriptions = [name for (name,) in cursor.fetchall()]
        cursor.execute(_USER_MAPPINGS)
        mappings = [name for (name,) in cursor.fetchall()]
    denied = [name for readable, name in relations if not readable]
    filtered = [name for readable, name in relations if readable]
    causes, remedies = [], []
    if denied:
        causes.append(f"it may not read {_some(denied)}")
        since_14 = conn.info.server_version >= 140000
        remedies.append(
            f"GRANT pg_read_all_data TO {role}"
            if since_14
            else f"grant {role} SELECT on all tables and sequences, and USAGE on all schemas"
        )
    if filtered:
        causes.append(f"row-level security would hide rows of {_some(filtered)} from it")
        remedies.append(f"ALTER ROLE {role} BYPASSRLS, or back up as the owner of these tables")
    if objects:
        causes.append(f"it may not read {objects} large objects, which pg_read_all_data does not include")
        remedies.append(f"GRANT SELECT ON LARGE OBJECT ... TO {role} for each, or back up as their owner")
    if causes:
        raise BackupRefused(
            f"the role {role!r} can't back up all of {database!r}",
            cause=printable("; ".join(causes)),
            hint=printable("; ".join(remedies)),
        )
    findings = []
    if subscriptions:
        findings.append(f"only a superuser can back up subscriptions, so the backup lacks {_some(subscriptions)}")
    if mappings:
        findings.append(
            f"the role {role!r} may not read the options, such as passwords, of user mappings, so the backup has these"
            f" without them: {_some(mappings)}"
        )
    return tuple(map(printable, findings))


def _some(names: t.Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
