# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Decides which extensions of a dump may be created, finds those that the server lacks, and creates them.

A dump names its extensions, so whoever wrote the dump chose them.  Trusted extensions, which PostgreSQL lets any owner
of a database create, are created as the throwaway role.  The scripts of all others run as superuser.  Of these, only
those are created that are known to give a tenant nothing beyond its database, or that the operator has named.
"""

from __future__ import annotations

import contextlib
import dataclasses
import typing as t

from ...errors import LoadError
from ...printing import printable, printable_name
from ...settings import name_for_errors
from . import ownership
from .connection import identifier, transaction, translated
from .dumptext import privileges

try:
    from psycopg2 import sql
except ImportError:
    sql = None  # type: ignore[assignment]

if t.TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection

    from .definer import Definer
    from .dumptext.definitions import Definition

#: Extensions that only a superuser can create and that are harmless afterwards: types, operators, index methods,
#: functions that compute with their arguments, and views and functions that only administrators may use.
#:
#: The following are not in this list, and are created only if the operator names them:
#:
#: - ``plpython3u``, ``plperlu``, ``pltclu``, ``plsh``, ``plr``: code that runs as the server's operating system user;
#: - ``adminpack``, ``file_fdw``, ``orafce`` (``utl_file``), ``postgis_raster`` (drivers of GDAL), ``ogr_fdw``: files of
#:   the server;
#: - ``dblink``, ``postgres_fdw`` and other foreign-data wrappers: connections from the server to anywhere, even itself;
#: - ``pageinspect``, ``pg_walinspect``, ``pg_surgery``, ``pg_visibility``, ``pg_dirtyread``, ``old_snapshot``: raw
#:   pages and the write-ahead log, regardless of privileges;
#: - ``pg_cron``, ``pg_partman``, ``pgagent``, ``pglogical``, ``postgis_tiger_geocoder``: the rows of their
#:   configuration tables are commands, and a dump fills those tables;
#: - ``timescaledb``, ``citus``, ``pg_repack``, ``set_user``, ``periods``, ``pgaudit``: functions or event triggers in
#:   them act with a superuser's privileges, or in a superuser's session;
#: - ``refint``, ``xml2``: obsolete, with a history of vulnerabilities.
#:
#: An extension is in the list if nothing in it that PUBLIC may execute leaves a process, a file or a connection behind,
#: or shows rows that the caller may not read. Before you add one, review its functions; then write down why it is safe.
DEFAULT_ALLOWED = frozenset(
    {
        # PostgreSQL's own
        "amcheck",  # reads tables and indexes to check them; not for PUBLIC
        "autoinc",  # a trigger that takes numbers from a sequence, as the caller
        "bloom",  # an index method
        "dict_xsyn",  # reads only synonym files in tsearch_data, like the server's own dictionaries
        "earthdistance",  # computes
        "insert_username",  # a trigger that sets a column to the caller's name
        "intagg",  # computes
        "moddatetime",  # a trigger that sets a column to the time
        "pg_buffercache",  # shows and evicts the cached pages of all databases; not for PUBLIC
        "pg_freespacemap",  # not for PUBLIC
        "pg_prewarm",  # reads what the caller may read; for functions that start a worker see _NOT_FOR_PUBLIC
        "pg_stat_statements",  # figures of all statements, texts of the caller's own; resetting it is not for PUBLIC
        "pgrowlocks",  # locks in tables that the caller may read
        "pgstattuple",  # not for PUBLIC
        "sslinfo",  # about the caller's own connection
        # Geography. They compute; address_standardizer and pgrouting read, as the caller, tables that are passed to
        # them. PROJ opens grid files that a coordinate system names; it downloads none unless the host's proj.ini
        # allows it.
        *("address_standardizer", "address_standardizer_data_us", "h3", "pgrouting", "postgis", "postgis_sfcgal"),
        "postgis_topology",
        # Types, and index methods for them. They compute; hll keeps settings and hypopg hypothetical indexes in the
        # session. unit_load() reads two files of its own, and only for roles that may read the server's files. The
        # processes in which rum and vector build an index end with the statement.
        *("debversion", "hll", "hypopg", "icu_ext", "ip4r", "jsquery", "numeral", "pg_rational"),
        *("pg_sphere", "prefix", "q3c", "rum", "semver", "tdigest", "unit", "vector"),
    }
)

#: Functions that PUBLIC could execute and that do more than the above. When an extension is created, EXECUTE on them is
#: revoked from PUBLIC, which leaves them to superusers.
#:
#: - ``pg_prewarm``: the worker outlives the session, the restore and the extension, and writes a file to the data
#:   directory every five minutes; the other function writes that file.
_NOT_FOR_PUBLIC = {"pg_prewarm": ("autoprewarm_start_worker", "autoprewarm_dump_now")}

# Harmless extensions whose configuration tables contain data and not commands, so a dump may add its rows.
_DATA_ROWS = frozenset({"address_standardizer", "address_standardizer_data_us", "postgis", "postgis_topology"})

#: Packages of Debian and apt.postgresql.org that are not named like the extension.  ``{}`` is the major version.
_PACKAGES = {
    "address_standardizer": "postgresql-{}-postgis-3",
    "address_standardizer_data_us": "postgresql-{}-postgis-3",
    "icu_ext": "postgresql-{}-icu-ext",
    "pg_cron": "postgresql-{}-cron",
    "pg_partman": "postgresql-{}-partman",
    "pg_rational": "postgresql-{}-rational",
    "pg_repack": "postgresql-{}-repack",
    "pg_similarity": "postgresql-{}-similarity",
    "pg_sphere": "postgresql-{}-pgsphere",
    "plperl": "postgresql-plperl-{}",
    "plperlu": "postgresql-plperl-{}",
    "plpgsql_check": "postgresql-{}-plpgsql-check",
    "plpython3u": "postgresql-plpython3-{}",
    "pltcl": "postgresql-pltcl-{}",
    "pltclu": "postgresql-pltcl-{}",
    "postgis": "postgresql-{}-postgis-3",
    "postgis_raster": "postgresql-{}-postgis-3",
    "postgis_sfcgal": "postgresql-{}-postgis-3",
    "postgis_tiger_geocoder": "postgresql-{}-postgis-3",
    "postgis_topology": "postgresql-{}-postgis-3",
    "vector": "postgresql-{}-pgvector",
}
_NAMED_LIKE_THE_EXTENSION = frozenset(
    {
        *("debversion", "hll", "hypopg", "ip4r", "jsquery", "numeral", "orafce", "periods", "pgaudit", "pglogical"),
        *("pgrouting", "pgtap", "prefix", "q3c", "rum", "semver", "tdigest", "unit"),
    }
)
# PostgreSQL's own extensions, which Debian ships in the server's package.
_CONTRIB = frozenset(
    {
        *(
            "amcheck",
            "autoinc",
            "bloom",
            "btree_gin",
            "btree_gist",
            "citext",
            "cube",
            "dblink",
            "dict_int",
            "dict_xsyn",
        ),
        *("earthdistance", "file_fdw", "fuzzystrmatch", "hstore", "insert_username", "intagg", "intarray", "isn", "lo"),
        *("ltree", "moddatetime", "pageinspect", "pg_buffercache", "pg_freespacemap", "pg_prewarm", "pg_trgm"),
        *("pg_stat_statements", "pg_visibility", "pgcrypto", "pgrowlocks", "pgstattuple", "postgres_fdw", "refint"),
        *("seg", "sslinfo", "tablefunc", "tcn", "tsm_system_rows", "tsm_system_time", "unaccent", "uuid-ossp", "xml2"),
    }
)


@dataclasses.dataclass(frozen=True)
class Available:
    """An extension that this server can create.

    :param version: version that ``CREATE EXTENSION`` installs by default.
    :param by_anyone: whether anyone with the privilege CREATE on a database may create it there.
    :param schema: the only schema in which it can be installed, if it requires one.
    """

    version: str
    by_anyone: bool
    schema: str | None


@dataclasses.dataclass(frozen=True)
class Check:
    """Problems with the extensions of a backup on this server.

    :param missing: one line, with the remedy, for each extension that is not installed on the host.
    :param refused: one line, with the remedy, for each extension that is not allowed.
    :param warnings: one line for each extension whose version differs from the backup's.
    """

    missing: tuple[str, ...]
    refused: tuple[str, ...]
    warnings: tuple[str, ...]


_AVAILABLE = """
SELECT e.name, e.default_version, v.trusted OR NOT v.superuser, v.schema
FROM pg_catalog.pg_available_extensions e
JOIN pg_catalog.pg_available_extension_versions v ON v.name = e.name AND v.version = e.default_version
"""


def available(conn: Connection) -> dict[str, Available]:
    """Return the extensions that are installed on the server's host, by name.  Works in any database."""
    with translated("could not list the server's extensions", phase="extensions"), conn.cursor() as cursor:
        cursor.execute(_AVAILABLE)
        return {name: Available(version, by_anyone, schema) for name, version, by_anyone, schema in cursor.fetchall()}


def check(conn: Connection, wanted: t.Iterable[tuple[str, str | None]], *, allowed: t.Collection[str] = ()) -> Check:
    """Check before a restore whether the extensions of a backup can be created.

    :param wanted: names and versions from the manifest.
    :param allowed: extensions that the operator allows in addition to :data:`DEFAULT_ALLOWED`.
    """
    installed = available(conn)
    major = conn.info.server_version // 10000
    missing, refused, warnings = [], [], []
    for name, version in wanted:
        extension = installed.get(name)
        if extension is None:
            missing.append(f"extension {name!r} is not installed on this host: {_package_hint(name, major)}")
            continue
        if not extension.by_anyone and name not in DEFAULT_ALLOWED and name not in allowed:
            refused.append(f"extension {name!r} is not allowed in a restore: {_allow_hint(name)}")
        if version is not None and version != extension.version:
            warnings.append(f"extension {name!r} had version {version} and will have {extension.version}")
    return Check(tuple(missing), tuple(refused), tuple(warnings))


def _package_hint(name: str, major: int) -> str:
    if name in _CONTRIB:
        return f"install the package postgresql-{major} (outside Debian, postgresql{major}-contrib)"
    package = _PACKAGES.get(name, "postgresql-{}-" + name if name in _NAMED_LIKE_THE_EXTENSION else "")
    return f"install the package {package.format(major)}" if package else "install it, or dump without it"


def _allow_hint(name: str) -> str:
    return (
        "only a superuser can create it, and it may reach beyond the database; if you trust the dump with it, add"
        f" {printable_name(name)} to {name_for_errors('restore', 'extensions')}"
    )


class StagingAdministrator:
    """What a superuser does while a dump is loaded: :class:`.load.AdminActions`.

    :param conn: the administrator's autocommit session in the staging database.
    :param loader: the throwaway role.
    :param owner: the user that the database will belong to; ``None``: default privileges are not granted.
    :param allowed: extensions that the operator allows in addition to :data:`DEFAULT_ALLOWED`.  The dump may also fill
        the configuration tables of these.
    :param definer: creates what is on the list of the backup; ``None``: nothing is.
    :param trusted_owners: see :func:`.ownership.take_over`.
    """

    def __init__(
        self,
        conn: Connection,
        *,
        loader: str,
        owner: str | None = None,
        allowed: t.Collection[str] = (),
        definer: Definer | None = None,
        trusted_owners: t.Collection[str] = (),
    ) -> None:
        self._conn = conn
        self._definer = definer
        self._loader = loader
        self._owner = owner
        self._trusted_owners = trusted_owners
        self._allowed = frozenset(allowed)
        self._available = available(conn)

    def create_extension(self, name: str, schema: str | None) -> None:
        """Create the extension *name* in *schema*, and the schema if needed.  Do nothing if the extension exists."""
        if self._exists("SELECT FROM pg_catalog.pg_extension WHERE extname = %s", name):
            return
        message = f"could not create extension {name!r}"
        extension = self._available.get(name)
        if extension is None:
            major = self._conn.info.server_version // 10000
            raise LoadError(message, cause="it is not installed on this host", hint=_package_hint(name, major))
        if not extension.by_anyone and name not in DEFAULT_ALLOWED and name not in self._allowed:
            raise LoadError(message, cause="it is not allowed in a restore", hint=_allow_hint(name))
        # If it requires a schema, CREATE EXTENSION creates that.
        target = schema or (None if extension.schema else "public")
        with self._alone(message, script_of_superuser=not extension.by_anyone):
            self._create_extension(message, name, extension, target)

    def _create_extension(self, message: str, name: str, extension: Available, target: str | None) -> None:
        with translated(message, kind=LoadError), transaction(self._conn), self._conn.cursor() as cursor:
            if target is not None and not self._exists(
                "SELECT FROM pg_catalog.pg_namespace WHERE nspname = %s", target
            ):
                cursor.execute(
                    sql.SQL("CREATE SCHEMA {} AUTHORIZATION {}").format(
                        sql.Identifier(target), sql.Identifier(self._loader)
                    )
                )
            if extension.by_anyone:
                # In the end the owner of the database owns it, and may then update and drop it.
                cursor.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(self._loader)))
            statement = sql.SQL("CREATE EXTENSION {}").format(sql.Identifier(name))
            if target is not None:
                statement += sql.SQL(" SCHEMA {}").format(sql.Identifier(target))
            cursor.execute(statement)
            if extension.by_anyone:
                cursor.execute("RESET ROLE")
            self._revoke_from_public(name, _NOT_FOR_PUBLIC.get(name, ()))
            if name in _DATA_ROWS or name in self._allowed:
                self._open_configuration(name)

    def _revoke_from_public(self, name: str, functions: t.Sequence[str]) -> None:
        """Restrict *functions* of the extension *name* to superusers.  Older versions may lack some of them."""
        with self._conn.cursor() as cursor:
            cursor.execute(
                "SELECT n.nspname, p.proname, pg_catalog.pg_get_function_identity_arguments(p.oid)"
                " FROM pg_catalog.pg_extension e"
                " JOIN pg_catalog.pg_depend d ON d.refclassid = 'pg_catalog.pg_extension'::regclass"
                " AND d.refobjid = e.oid AND d.deptype = 'e' AND d.classid = 'pg_catalog.pg_proc'::regclass"
                " JOIN pg_catalog.pg_proc p ON p.oid = d.objid"
                " JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace"
                " WHERE e.extname = %s AND p.proname::text = ANY (%s)",
                (name, list(functions)),
            )
            for schema, function, arguments in cursor.fetchall():
                cursor.execute(
                    sql.SQL("REVOKE EXECUTE ON FUNCTION {}({}) FROM PUBLIC").format(
                        sql.Identifier(schema, function), sql.SQL(arguments)
                    )
                )

    def revoke(self, change: privileges.Change) -> None:
        """Revoke privileges on an object of an extension or of the system."""
        message = f"could not revoke privileges on {printable(change.object)}"
        if not change.revokes or (
            change.kind in privileges.WITH_ARGUMENTS and not ownership.is_identity(change.kind, change.identity)
        ):
            raise LoadError(message, hint="pg_dump never writes this: check where the dump comes from")
        self._change_privileges(change, message)

    def keeps_privileges_of(self, change: privileges.Change) -> bool:
        """Whether the object of *change* is kept by an administrator, with exactly the privileges of the source."""
        return self._definer is not None and self._definer.keeps(change.kind, change.names)

    def alter_default_privileges(self, change: privileges.DefaultChange) -> str | None:
        """Change the default privileges of one role.  Return why that was not done, if it was not.

        What is revoked can do no harm.  What is granted is the user's own business, or that of a role that the user may
        act as anyway.
        """
        (creator,) = change.creators
        if not change.revokes:
            if self._owner is None:
                return "the user of the database is unknown"
            reason = ownership.creator_obstacle(self._conn, creator, self._owner, self._trusted_owners)
            if reason is not None:
                return reason
        try:
            self._change_privileges(change, "could not change default privileges")
        except LoadError as exc:
            return exc.cause
        return None

    def _change_privileges(self, change: privileges.Change | privileges.DefaultChange, message: str) -> None:
        with translated(message, kind=LoadError), transaction(self._conn), self._conn.cursor() as cursor:
            # A transaction that the dump has prepared would never end.
            cursor.execute("SELECT pg_catalog.set_config('lock_timeout', %s, true)", (ownership.LOCK_TIMEOUT,))
            # As bytes: in a database without an encoding, names are not always text.
            cursor.execute(privileges.render(change, change.grantees).encode("utf-8", "surrogateescape"))

    def define(self, definition: Definition) -> bool:
        """Create an object that only a superuser may create, if the source had it; return whether it had."""
        return self._definer is not None and self._definer.define(definition)

    @property
    def why_undefined(self) -> str:
        """Why :meth:`define` has not created an object, and what to do."""
        return self._definer.why_undefined if self._definer is not None else ""

    def create_role(self, role: str) -> bool:
        """Create a role that a policy names, if the source had it; return whether it had."""
        return self._definer is not None and self._definer.create_role(role)

    def publish_all_tables(self, publication: str, parameters: t.Sequence[tuple[str, str]]) -> None:
        """Create a publication of all tables with its parameters (name, value)."""
        self._publish(
            publication,
            sql.SQL("CREATE PUBLICATION {} FOR ALL TABLES{}").format(identifier(publication), _parameters(parameters)),
        )

    def publish_schemas(
        self, publication: str, schemas: t.Sequence[str], *, create: bool, parameters: t.Sequence[tuple[str, str]]
    ) -> None:
        """Add the tables of *schemas* to a publication.  If *create*, create the publication."""
        statement = (
            "CREATE PUBLICATION {} FOR TABLES IN SCHEMA {}{}"
            if create
            else "ALTER PUBLICATION {} ADD TABLES IN SCHEMA {}{}"
        )
        self._publish(
            publication,
            sql.SQL(statement).format(
                identifier(publication),
                sql.SQL(", ").join(map(identifier, schemas)),
                _parameters(parameters),
            ),
        )

    def _publish(self, publication: str, statement: sql.Composed) -> None:
        message = f"could not create publication {publication!r}"
        with translated(message, kind=LoadError), self._conn.cursor() as cursor:
            cursor.execute(statement)

    def _exists(self, query: str, name: str) -> bool:
        with translated("could not read the database's catalog", kind=LoadError), self._conn.cursor() as cursor:
            cursor.execute(query, (name,))
            return cursor.fetchone() is not None

    @contextlib.contextmanager
    def _alone(self, message: str, *, script_of_superuser: bool) -> t.Iterator[None]:
        """Run a superuser's script only where it cannot call functions or operators of the dump.

        pg_dump writes extensions before everything but schemas, collations and the like.  Nobody else may be connected
        to the staging database either, to create such objects meanwhile: before PostgreSQL 16 a dump can let others act
        as its role.
        """
        if not script_of_superuser:
            yield
            return
        limit = sql.SQL("ALTER DATABASE {} CONNECTION LIMIT {}")
        with translated(message, kind=LoadError), self._conn.cursor() as cursor:
            cursor.execute("SELECT pg_catalog.current_database()")
            stage = sql.Identifier(cursor.fetchall()[0][0])
            # The limit does not apply to superusers.  The dump's own session waits for us.
            cursor.execute(limit.format(stage, sql.Literal(0)))
            try:
                self._refuse_strangers(message)
                self._refuse_hijacking(message)
                yield
            finally:
                cursor.execute(limit.format(stage, sql.Literal(-1)))

    def _refuse_strangers(self, message: str) -> None:
        if self._exists(
            "SELECT FROM pg_catalog.pg_stat_activity WHERE datname = pg_catalog.current_database()"
            " AND backend_type = 'client backend' AND pid <> pg_catalog.pg_backend_pid()"
            " GROUP BY datname HAVING pg_catalog.count(*) > 1 OR pg_catalog.max(usename::text) <> %s",
            self._loader,
        ):
            raise LoadError(
                message,
                cause="somebody else is connected to the database that is being restored, and could change what the"
                " extension's script does as superuser",
                hint="find out who it is: a dump lets others in only on purpose",
            )

    def _refuse_hijacking(self, message: str) -> None:
        if self._exists(
            "SELECT FROM pg_catalog.pg_shdepend s JOIN pg_catalog.pg_roles r ON r.oid = s.refobjid"
            " WHERE s.deptype = 'o' AND s.refclassid = 'pg_catalog.pg_authid'::regclass"
            " AND (r.rolname = %s OR NOT r.rolsuper)"
            " AND s.dbid = (SELECT d.oid FROM pg_catalog.pg_database d"
            " WHERE d.datname = pg_catalog.current_database())"
            " AND s.classid IN ('pg_catalog.pg_proc'::regclass, 'pg_catalog.pg_operator'::regclass,"
            " 'pg_catalog.pg_type'::regclass, 'pg_catalog.pg_class'::regclass)"
            " LIMIT 1",
            self._loader,
        ):
            raise LoadError(
                message,
                cause="the dump has created functions, operators, types or tables before the extension, and the"
                " extension's script could call them as superuser",
                hint="pg_dump never writes this order: check where the dump comes from, or move CREATE EXTENSION to its"
                " beginning",
            )

    def _open_configuration(self, name: str) -> None:
        """Let the loader add rows to the extension's configuration tables until its privileges are dropped."""
        loader = sql.Identifier(self._loader)
        with self._conn.cursor() as cursor:
            cursor.execute(
                "SELECT c.relkind = 'S', n.nspname, c.relname FROM pg_catalog.pg_extension e"
                " CROSS JOIN LATERAL pg_catalog.unnest(e.extconfig) AS x(relation)"
                " JOIN pg_catalog.pg_class c ON c.oid = x.relation"
                " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE e.extname = %s",
                (name,),
            )
            relations = cursor.fetchall()
            for schema in {schema for _is_sequence, schema, _relation in relations}:
                cursor.execute(sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(identifier(schema), loader))
            for is_sequence, schema, relation in relations:
                statement = "GRANT UPDATE ON SEQUENCE {} TO {}" if is_sequence else "GRANT INSERT ON TABLE {} TO {}"
                cursor.execute(sql.SQL(statement).format(identifier(schema, relation), loader))


def _parameters(parameters: t.Sequence[tuple[str, str]]) -> sql.Composable:
    if not parameters:
        return sql.SQL("")
    return sql.SQL(" WITH ({})").format(
        sql.SQL(", ").join(
            sql.SQL("{} = {}").format(sql.Identifier(name), sql.Literal(value)) for name, value in parameters
        )
    )
