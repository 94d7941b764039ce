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
from . import cron, ownership, staging
from .connection import clear_search_path, identifier, transaction, translate, translated
from .dumptext import privileges
from .packages import package_hint
from .script_guard import ScriptGuard

try:
    import psycopg2
    from psycopg2 import sql
except ImportError:
    psycopg2 = None  # type: ignore[assignment]
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
#: - ``dblink``, ``postgres_fdw`` and other foreign-data wrappers, ``plproxy``, ``pgmemcache``: connections from the
#:   server to anywhere, even itself;
#: - ``pageinspect``, ``pg_walinspect``, ``pg_surgery``, ``pg_visibility``, ``pg_dirtyread``, ``old_snapshot``: raw
#:   pages and the write-ahead log, regardless of privileges;
#: - ``pg_qualstats``, ``pg_stat_kcache``, ``pg_wait_sampling``, ``plprofiler``, ``pldbgapi``, ``plpgsql_check``: what
#:   goes on in other sessions and databases;
#: - ``pg_cron``, ``pg_partman``, ``pg_fact_loader``, ``powa``, ``pre_prepare``, ``pglogical``: the rows of their
#:   configuration tables are commands, and a dump fills those tables;
#: - ``timescaledb``, ``citus``, ``pg_repack``, ``set_user``, ``periods``, ``pgaudit``, ``pgq``: functions or event
#:   triggers in them act with a superuser's privileges, or in a superuser's session;
#: - ``refint``, ``xml2``: obsolete, with a history of vulnerabilities;
#: - ``pgmp``: a number that is too large makes its library abort the server;
#: - ``pg_similarity``, ``pgpcre``, ``pllua``, ``pointcloud``, ``rdkit``, ``table_log``: nobody has reviewed them yet.
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
        "hstore_plperl",  # conversions for functions in a trusted language
        # Geography. They compute; address_standardizer and pgrouting read, as the caller, tables that are passed to
        # them. PROJ opens grid files that a coordinate system names; it downloads none unless the host's proj.ini
        # allows it.
        *("address_standardizer", "address_standardizer_data_us", "h3", "pgrouting", "postgis", "postgis_sfcgal"),
        "postgis_topology",
        # Types, and index methods for them. They compute; hll keeps settings and hypopg hypothetical indexes in the
        # session. unit_load() reads two files of its own, and only for roles that may read the server's files. The
        # processes in which rum and vector build an index end with the statement.
        *("asn1oid", "debversion", "extra_window_functions", "first_last_agg", "hll", "hypopg", "icu_ext", "ip4r"),
        *("jsquery", "numeral", "pg_rational", "pg_sphere", "prefix", "q3c", "rum", "semver", "tdigest"),
        *("toastinfo", "unit", "vector"),
    }
)

#: Functions that PUBLIC could execute and that do more than the above. When an extension is created, EXECUTE on them is
#: revoked from PUBLIC, which leaves them to superusers.
#:
#: - ``pg_prewarm``: the worker outlives the session, the restore and the extension, and writes a file to the data
#:   directory every five minutes; the other function writes that file.
_NOT_FOR_PUBLIC = {"pg_prewarm": ("autoprewarm_start_worker", "autoprewarm_dump_now")}

# Harmless extensions whose configuration tables contain data and not commands, so a dump may add its rows.
_DATA_ROWS = frozenset({"address_standardizer", "address_standardizer_data_us", "postgis", "postgis_topology", "unit"})

# Extensions that anyone may create, if the database is theirs: their scripts store a search_path for it.
_BY_THE_OWNER = frozenset({"postgis_tiger_geocoder"})


@dataclasses.dataclass(frozen=True)
class Available:
    """An extension that this server can create.

    :param version: version that ``CREATE EXTENSION`` installs by default.
    :param by_anyone: whether anyone with the privilege CREATE on a database may create it there.
    :param hardened: whether its script runs as superuser for anyone, and is written to run among objects of others.
    :param schema: the only schema in which it can be installed, if it requires one.
    """

    version: str
    by_anyone: bool
    hardened: bool
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
SELECT e.name, e.default_version, v.trusted OR NOT v.superuser, v.trusted AND v.superuser, v.schema
FROM pg_catalog.pg_available_extensions e
JOIN pg_catalog.pg_available_extension_versions v ON v.name = e.name AND v.version = e.default_version
"""


def available(conn: Connection) -> dict[str, Available]:
    """Return the extensions that are installed on the server's host, by name.  Works in any database."""
    with translated("could not list the server's extensions", phase="extensions"), conn.cursor() as cursor:
        cursor.execute(_AVAILABLE)
        return {name: Available(*values) for name, *values in cursor.fetchall()}


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
            missing.append(f"extension {name!r} is not installed on this host: {package_hint(name, major)}")
            continue
        if not extension.by_anyone and name not in DEFAULT_ALLOWED and name not in allowed:
            refused.append(f"extension {name!r} is not allowed in a restore: {_allow_hint(name)}")
        if version is not None and version != extension.version:
            warnings.append(f"extension {name!r} had version {version} and will have {extension.version}")
    return Check(tuple(missing), tuple(refused), tuple(warnings))


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
        self._guard = ScriptGuard(conn, loader=loader)
        #: Whether pg_cron is created after the swap, see :mod:`.cron`.
        self.defers_cron = False

    def create_extension(self, name: str, schema: str | None) -> None:
        """Create the extension *name* in *schema*, and the schema if needed.  Do nothing if the extension exists."""
        if self._exists("SELECT FROM pg_catalog.pg_extension WHERE extname = %s", name):
            return
        message = f"could not create extension {name!r}"
        extension = self._available.get(name)
        if extension is None:
            major = self._conn.info.server_version // 10000
            raise LoadError(message, cause="it is not installed on this host", hint=package_hint(name, major))
        if not extension.by_anyone and name not in DEFAULT_ALLOWED and name not in self._allowed:
            raise LoadError(message, cause="it is not allowed in a restore", hint=_allow_hint(name))
        if name == cron.NAME:
            cron.prepare(self._conn, loader=self._loader)
            self.defers_cron = True
            return
        # If it requires a schema, CREATE EXTENSION creates that.
        target = schema or (None if extension.schema else "public")
        # Also if the script runs as the loader: code of the dump could leave the role that our session has taken.
        with contextlib.nullcontext() if extension.hardened else self._guard.alone(message):
            self._create_extension(message, name, extension, target)

    def _create_extension(self, message: str, name: str, extension: Available, target: str | None) -> None:
        with _shown(message), transaction(self._conn), self._conn.cursor() as cursor:
            if target is not None and not self._exists(
                "SELECT FROM pg_catalog.pg_namespace WHERE nspname = %s", target
            ):
                cursor.execute(
                    sql.SQL("CREATE SCHEMA {} AUTHORIZATION {}").format(
                        sql.Identifier(target), sql.Identifier(self._loader)
                    )
                )
            if name in _BY_THE_OWNER:
                self._give_database(self._loader)
            if extension.by_anyone:
                # In the end the owner of the database owns it, and may then update and drop it.
                cursor.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(self._loader)))
            statement = sql.SQL("CREATE EXTENSION {}").format(sql.Identifier(name))
            if target is not None:
                statement += sql.SQL(" SCHEMA {}").format(sql.Identifier(target))
            cursor.execute(statement)
            # The script may have set another one for the whole session, with schemas of the dump in it.
            clear_search_path(self._conn)
            if extension.by_anyone:
                cursor.execute("RESET ROLE")
                self._guard.accept(name)
            if name in _BY_THE_OWNER:
                self._give_database(None)
            self._revoke_from_public(name, _NOT_FOR_PUBLIC.get(name, ()))
            if name in _DATA_ROWS or name in self._allowed:
                self._open_configuration(name)
            if name in self._allowed and not (self._definer is not None and self._definer.has_list):
                # Otherwise the list decides which servers there are, and whose they are.
                self._open_wrappers(name)

    def _give_database(self, role: str | None) -> None:
        """Make *role* the owner of the staging database, ``None``: the administrator; within one transaction only."""
        with self._conn.cursor() as cursor:
            cursor.execute("SELECT pg_catalog.current_database()")
            stage = cursor.fetchall()[0][0]
            owner = sql.SQL("CURRENT_USER") if role is None else sql.Identifier(role)
            cursor.execute(sql.SQL("ALTER DATABASE {} OWNER TO {}").format(sql.Identifier(stage), owner))
            # The owner's privileges went with the ownership.
            cursor.execute(staging.privileges_statement(stage, self._loader))

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

    def _open_wrappers(self, name: str) -> None:
        """Let the loader create servers of the extension's foreign-data wrappers until its privileges are dropped."""
        with self._conn.cursor() as cursor:
            cursor.execute(
                "SELECT w.fdwname FROM pg_catalog.pg_extension e"
                " JOIN pg_catalog.pg_depend d ON d.refclassid = 'pg_catalog.pg_extension'::regclass"
                " AND d.refobjid = e.oid AND d.deptype = 'e'"
                " AND d.classid = 'pg_catalog.pg_foreign_data_wrapper'::regclass"
                " JOIN pg_catalog.pg_foreign_data_wrapper w ON w.oid = d.objid WHERE e.extname = %s",
                (name,),
            )
            for (wrapper,) in cursor.fetchall():
                cursor.execute(
                    sql.SQL("GRANT USAGE ON FOREIGN DATA WRAPPER {} TO {}").format(
                        sql.Identifier(wrapper), sql.Identifier(self._loader)
                    )
                )

    def _open_configuration(self, name: str) -> None:
        """Let the loader add rows to the extension's configuration tables until its privileges are dropped.

        It may read them, too: the extension's own types and functions do, as the caller.
        """
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
                statement = (
                    "GRANT UPDATE ON SEQUENCE {} TO {}" if is_sequence else "GRANT SELECT, INSERT ON TABLE {} TO {}"
                )
                cursor.execute(sql.SQL(statement).format(identifier(schema, relation), loader))


@contextlib.contextmanager
def _shown(message: str) -> t.Iterator[None]:
    """Translate errors of an extension's script.  What it says is shown: it comes from the host, and quotes no row."""
    try:
        yield
    except psycopg2.Error as error:
        failed = translate(error, message, kind=LoadError)
        said = [text for text in (error.diag.message_primary, error.diag.message_detail) if text]
        if said:
            failed.cause = printable(f"{'; '.join(said)} (SQLSTATE {error.pgcode})")
        raise failed from None


def _parameters(parameters: t.Sequence[tuple[str, str]]) -> sql.Composable:
    if not parameters:
        return sql.SQL("")
    return sql.SQL(" WITH ({})").format(
        sql.SQL(", ").join(
            sql.SQL("{} = {}").format(sql.Identifier(name), sql.Literal(value)) for name, value in parameters
        )
    )
