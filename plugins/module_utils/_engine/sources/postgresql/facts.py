# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Facts about a cluster and its databases.  Reads only."""

from __future__ import annotations

import dataclasses
import typing as t

from ...domain.listfields import SYSTEM_DATABASES
from ...domain.nodes import Node
from ...domain.records import OUTSTANDING, DatabaseRecord
from ...errors import PostgresError
from . import state
from .connection import translated

if t.TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection

_CLUSTER = """
SELECT (SELECT system_identifier::text FROM pg_catalog.pg_control_system()),
       split_part(current_setting('server_version'), ' ', 1), current_setting('server_version_num')::int,
       pg_catalog.pg_is_in_recovery(), current_database(),
       (SELECT array_agg(datname::text ORDER BY datname) FROM pg_catalog.pg_database)
"""

# The columns of the locale differ between 13, 15 and 17: as JSON a column that isn't there is a null.
_DATABASE = """
SELECT pg_catalog.pg_encoding_to_char(d.encoding), row ->> 'datlocprovider', d.datcollate, d.datctype,
       coalesce(row ->> 'datlocale', row ->> 'daticulocale'), row ->> 'daticurules',
       pg_catalog.pg_database_size(d.oid),
       (SELECT coalesce(json_agg(json_build_array(extname, extversion) ORDER BY extname), '[]')
        FROM pg_catalog.pg_extension),
       -- Owners, grantees and roles of policies; the bootstrap superuser is never listed there.
       ARRAY(SELECT DISTINCT a.rolname::text
             FROM pg_catalog.pg_shdepend s
             JOIN pg_catalog.pg_roles a ON a.oid = s.refobjid
             WHERE s.refclassid = 'pg_catalog.pg_authid'::regclass AND s.deptype IN ('o', 'a', 'r')
               AND (s.dbid = d.oid OR (s.dbid = 0 AND s.classid = 'pg_catalog.pg_database'::regclass
                                       AND s.objid = d.oid))
             ORDER BY 1)
FROM pg_catalog.pg_database d, LATERAL to_jsonb(d) AS row
WHERE d.datname = %s AND d.datname = current_database()
"""

_PROVIDERS = {"c": "libc", "i": "icu", "b": "builtin", None: "libc"}


@dataclasses.dataclass(frozen=True)
class ClusterFacts:
    """The facts of a cluster.

    :param system_identifier: made by initdb; the same in physical copies only.
    :param server_version: ``15.18``.
    :param server_version_num: ``150018``.
    :param in_recovery: a standby, or a server that still recovers.
    :param fresh: there is no database but the system's own, and no bootstrap was ever begun here.
    :param databases: names of all of them.
    :param bootstrap: the one that began last; not finished: to be resumed.
    :param records: what is remembered of databases, by name.
    """

    system_identifier: str
    server_version: str
    server_version_num: int
    in_recovery: bool
    databases: tuple[str, ...]
    bootstrap: state.Bootstrap | None
    records: t.Mapping[str, DatabaseRecord]
    fresh: bool

    @property
    def unfinished(self) -> bool:
        """Whether a bootstrap has begun and is to be resumed."""
        return self.bootstrap is not None and self.bootstrap.finished_at is None

    @property
    def outstanding(self) -> tuple[str, ...]:
        """Databases whose restore is wanted and not done."""
        return tuple(record.name for record in self.records.values() if record.restore == OUTSTANDING)


@dataclasses.dataclass(frozen=True)
class Extension:
    """An extension that a database has."""

    name: str
    version: str


@dataclasses.dataclass(frozen=True)
class DatabaseFacts:
    """The facts of a database.

    :param encoding: PostgreSQL's name for it, ``UTF8``.
    :param locale_provider: ``libc``, ``icu`` or ``builtin``.
    :param icu_locale: the provider's locale where it isn't libc.
    :param icu_rules: additional rules of a collation of ICU (PostgreSQL 16 and later).
    :param size: bytes in the cluster.
    :param roles: owners and grantees of anything in it and roles of its policies, without the bootstrap superuser.
    """

    encoding: str
    locale_provider: str
    collate: str
    ctype: str
    icu_locale: str | None
    icu_rules: str | None
    size: int
    extensions: tuple[Extension, ...]
    roles: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class ReplacedFacts:
    """What a restore would replace.

    :param oid: of the database.
    :param size: bytes in the cluster.
    :param sessions: connections to it at the moment.
    :param allows_connections: whether anybody can connect to it at all.
    """

    oid: int
    owner: str
    size: int
    sessions: int
    allows_connections: bool


def cluster_facts(conn: Connection) -> ClusterFacts:
    """The cluster behind a session in its maintenance database."""
    with translated("could not read the facts of the cluster"), conn.cursor() as cursor:
        cursor.execute(_CLUSTER)
        rows = cursor.fetchall()
    identifier, version, number, in_recovery, maintenance, databases = rows[0]
    bootstrap = state.latest_bootstrap(conn)
    return ClusterFacts(
        system_identifier=identifier,
        server_version=version,
        server_version_num=number,
        in_recovery=in_recovery,
        databases=tuple(databases),
        bootstrap=bootstrap,
        records=state.database_records(conn),
        fresh=bootstrap is None and set(databases) <= SYSTEM_DATABASES | {maintenance},
    )


# Walsenders of logical replication feed other clusters; pg_basebackup has no standby yet.
_NODE = """
SELECT pg_catalog.pg_is_in_recovery(),
       (SELECT count(*) FROM pg_catalog.pg_stat_replication r
        WHERE coalesce(r.state, 'streaming') IN ('streaming', 'catchup')
          AND r.pid NOT IN (SELECT s.active_pid FROM pg_catalog.pg_replication_slots s
                            WHERE s.slot_type = 'logical' AND s.active_pid IS NOT NULL))
"""


def node(conn: Connection) -> Node:
    """Which node of its cluster the server is."""
    with translated("could not look up whether the server is a standby"), conn.cursor() as cursor:
        cursor.execute(_NODE)
        return Node(*cursor.fetchall()[0])


def database_facts(conn: Connection, name: str) -> DatabaseFacts:
    """The database *name*, read through a session in it."""
    with translated(f"could not read the facts of database {name!r}"), conn.cursor() as cursor:
        cursor.execute(_DATABASE, (name,))
        row = cursor.fetchone()
    if row is None:
        raise PostgresError(
            f"could not read the facts of database {name!r}",
            cause=f"the session is in {conn.info.dbname!r}",
            hint="was it renamed or dropped meanwhile? run again",
        )
    encoding, provider, collate, ctype, icu_locale, icu_rules, size, extensions, roles = row
    return DatabaseFacts(
        encoding=encoding,
        locale_provider=_PROVIDERS.get(provider, provider),
        collate=collate,
        ctype=ctype,
        icu_locale=icu_locale,
        icu_rules=icu_rules,
        size=size,
        extensions=tuple(Extension(*pair) for pair in extensions),
        roles=tuple(roles),
    )


def replaced_facts(conn: Connection, name: str) -> ReplacedFacts | None:
    """What a restore of *name* would replace; ``None``: there is no such database."""
    with translated(f"could not look at database {name!r}"), conn.cursor() as cursor:
        cursor.execute(
            "SELECT oid::bigint, pg_catalog.pg_get_userbyid(datdba)::text, pg_catalog.pg_database_size(oid),"
            " (SELECT count(*) FROM pg_catalog.pg_stat_activity WHERE datid = d.oid), datallowconn"
            " FROM pg_catalog.pg_database d WHERE datname = %s",
            (name,),
        )
        row = cursor.fetchone()
    return None if row is None else ReplacedFacts(*row)


def role_names(conn: Connection) -> frozenset[str]:
    """Names of all roles."""
    with translated("could not read the roles"), conn.cursor() as cursor:
        cursor.execute("SELECT rolname::text FROM pg_catalog.pg_roles")
        return frozenset(row[0] for row in cursor.fetchall())


def is_empty(conn: Connection) -> bool:
    """Whether the session's database holds no table, view, sequence or large object of anybody's."""
    with translated("could not look for tables"), conn.cursor() as cursor:
        cursor.execute(
            "SELECT NOT EXISTS (SELECT FROM pg_catalog.pg_class c"
            " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
            " WHERE n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'"
            " AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d"
            " WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'))"
            " AND NOT EXISTS (SELECT FROM pg_catalog.pg_largeobject_metadata)"
        )
        rows = cursor.fetchall()
    return bool(rows[0][0])
