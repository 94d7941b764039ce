# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Creates the roles and databases of a bootstrap: reads them in one query, changes them in as few as possible."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import os
import typing as t

from ...domain.plan import (
    AlterRole,
    BootstrapPlan,
    ChangeOwner,
    CreateDatabase,
    CreateRole,
    DatabaseFacts,
    Declaration,
    Facts,
    FinishDatabase,
    GrantDatabase,
    Password,
    RoleFacts,
    Step,
    plan_bootstrap,
)
from ...domain.secret import Secret
from . import database_settings, scram, staging, state
from .connection import translate, translated

try:
    import psycopg2
    from psycopg2 import sql
except ImportError:
    psycopg2 = None  # type: ignore[assignment]
    sql = None  # type: ignore[assignment]

if t.TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection
    from psycopg2.extensions import cursor as Cursor

_LOOK = """
SELECT
  (SELECT coalesce(json_agg(json_build_array(rolname, rolcanlogin, rolsuper, coalesce(rolvaliduntil <= now(), false),
                                             rolpassword)), '[]')
   FROM pg_catalog.pg_authid WHERE rolname = ANY (%(roles)s::name[])),
  (SELECT coalesce(json_agg(json_build_array(
            datname, pg_catalog.pg_get_userbyid(datdba), datistemplate, datconnlimit <> -2,
            NOT datallowconn AND datconnlimit = 0 AND datacl IS NULL,
            (SELECT json_object_agg(grantee, privileges)
             FROM (SELECT pg_catalog.pg_get_userbyid(a.grantee) AS grantee,
                          json_agg(DISTINCT a.privilege_type) AS privileges
                   FROM pg_catalog.aclexplode(coalesce(datacl, pg_catalog.acldefault('d', datdba))) a
                   WHERE a.grantee <> 0
                   GROUP BY a.grantee) g))), '[]')
   FROM pg_catalog.pg_database WHERE datname = ANY (%(databases)s::name[])),
  (SELECT coalesce(json_agg(datname ORDER BY datname), '[]')
   FROM pg_catalog.pg_database
   WHERE datallowconn
     AND (datname IN (current_database(), 'postgres', 'template1') OR datname = ANY (%(databases)s::name[]))
     AND EXISTS (SELECT FROM pg_catalog.aclexplode(coalesce(datacl, pg_catalog.acldefault('d', datdba))) a
                 WHERE a.grantee = 0 AND a.privilege_type = 'CONNECT')),
  current_setting('scram_iterations', true),
  pg_catalog.pg_is_in_recovery()
"""

# A verifier is not a password, but it lets anyone test guesses.  It must not appear in the server's log, nor in
# pg_stat_statements, which monitoring may read.  Since PostgreSQL 16 the trees of debug_print_parse and the like also
# contain it.  Which of these settings exist depends on the version.
_QUIET = """
BEGIN;
SET LOCAL log_statement = 'none';
SET LOCAL log_min_duration_statement = -1;
SET LOCAL log_min_duration_sample = -1;
SET LOCAL log_transaction_sample_rate = 0;
SET LOCAL log_min_error_statement = 'panic';
SET LOCAL pg_stat_statements.track = 'none';
SELECT pg_catalog.set_config(name, 'off', true) FROM pg_catalog.pg_settings WHERE name LIKE 'debug\\_print\\_%';
"""

# Another session was faster: the role or database now exists, or its row has changed concurrently.
_RACES = frozenset({"42710", "42P04", "23505", "XX000", "42704", "3D000"})


@dataclasses.dataclass(frozen=True)
class Found:
    """The facts for a plan, and what else is needed to apply it.

    :param iterations: iterations for new verifiers, as the server would choose them.
    :param stored: what the server stores for each role's password.
    :param proven: whether the recorded proof shows that all of them match.
    """

    facts: Facts
    iterations: int
    stored: t.Mapping[str, str]
    proven: bool
    in_recovery: bool


def look(conn: Connection, declaration: Declaration) -> Found:
    """Compare the declared roles and databases with the cluster.  Only reads, in three queries at most.

    :param conn: a superuser's session in the maintenance database.
    """
    with translated("could not read the roles and databases"), conn.cursor() as cursor:
        cursor.execute(_LOOK, {"roles": list(declaration.passwords), "databases": list(declaration.owners)})
        rows = cursor.fetchall()
    roles, databases, open_databases, iterations, in_recovery = rows[0]
    stored = {name: password for name, _login, _superuser, _expired, password in roles if password is not None}
    compared, proven = _compare(conn, declaration.passwords, stored)
    facts = Facts(
        roles={
            name: RoleFacts(
                name, login=login, superuser=superuser, expired=expired, password=compared.get(name, Password.MISSING)
            )
            for name, login, superuser, expired, _password in roles
        },
        databases={
            name: DatabaseFacts(
                name,
                owner=owner,
                privileges={role: frozenset(held) for role, held in (privileges or {}).items()},
                template=template,
                valid=valid,
                unfinished=unfinished,
            )
            for name, owner, template, valid, unfinished, privileges in databases
        },
        open_databases=tuple(open_databases),
    )
    return Found(
        facts,
        iterations=int(iterations) if iterations else scram.ITERATIONS,
        stored=stored,
        proven=proven,
        in_recovery=in_recovery,
    )


def converge(conn: Connection, declaration: Declaration) -> BootstrapPlan:
    """Change the roles and databases until they are as declared.

    Others may be doing the same at the same time.  In that case the cluster is read again, and the rest is done.

    :param conn: a superuser's session in the maintenance database, in autocommit mode, which CREATE DATABASE needs.
    :returns: the steps that were done, with the state before the first and after the last one as text.
    """
    done: list[Step] = []
    before: tuple[str, ...] | None = None
    failed: tuple[Step, ...] | None = None
    while True:
        found = look(conn, declaration)
        plan = plan_bootstrap(declaration, found.facts)
        before = plan.before if before is None else before
        try:
            _apply(conn, plan, declaration, found, done)
        except psycopg2.Error as error:
            # Another session that was faster changes what is left to do.  If that is still the same, it was not a race.
            if error.pgcode not in _RACES or plan.steps == failed:
                raise translate(error, "could not create the roles and databases", phase="bootstrap") from None
            failed = plan.steps
            continue
        return BootstrapPlan(tuple(done), before, plan.after, plan.warnings)


def _apply(conn: Connection, plan: BootstrapPlan, declaration: Declaration, found: Found, done: list[Step]) -> None:
    """Apply the plan's steps, and append each that has taken effect to *done*."""
    stored = dict(found.stored)
    roles = [step for step in plan.steps if isinstance(step, (CreateRole, AlterRole))]
    if roles:
        stored.update(_apply_roles(conn, roles, found.iterations))
        done.extend(roles)
    creations = [step for step in plan.steps if isinstance(step, CreateDatabase)]
    # New databases get the default encoding and locale, which are those of template1 and not always of template0.
    like = database_settings.capture(conn, "template1").creation if creations else None
    for step in plan.steps:
        if isinstance(step, CreateDatabase) and like is not None:
            with conn.cursor() as cursor:
                cursor.execute(_creation(conn, step, like))
            done.append(step)
        if isinstance(step, (CreateDatabase, FinishDatabase)):
            with conn.cursor() as cursor:
                cursor.execute(_opening(step))
            done.extend([step] if isinstance(step, FinishDatabase) else [])
    others = [step for step in plan.steps if isinstance(step, (ChangeOwner, GrantDatabase))]
    if others:
        with conn.cursor() as cursor:
            # One query is one transaction.
            cursor.execute(sql.SQL(";\n").join(_database_statement(step) for step in others))
        done.extend(others)
    if stored and not (found.proven or found.in_recovery):
        state.record_passwords_proof(conn, scram.proof(_credentials(declaration.passwords, stored)))


def _apply_roles(conn: Connection, steps: t.Sequence[CreateRole | AlterRole], iterations: int) -> dict[str, str]:
    """Create and alter roles in one transaction.  Return the new verifiers by role."""
    secrets = {step.role: step.password for step in steps if step.password is not None}
    computed = _in_threads(lambda secret: scram.verifier(secret, iterations=iterations), list(secrets.values()))
    verifiers = dict(zip(secrets, computed))
    statements = [_role_statement(step, verifiers.get(step.role)) for step in steps]
    with quietly(conn) as cursor:
        cursor.execute(sql.SQL(";\n").join(statements))
    return verifiers


@contextlib.contextmanager
def quietly(conn: Connection) -> t.Iterator[Cursor]:
    """A transaction of which nothing is in the server's log, for statements with verifiers of passwords.

    :param conn: in autocommit mode.
    """
    with conn.cursor() as cursor:
        cursor.execute(_QUIET)
        try:
            yield cursor
            # Separately: a query that ends with COMMIT is logged after the log settings have been restored.
            cursor.execute("COMMIT")
        except BaseException:
            if not conn.closed:
                with contextlib.suppress(psycopg2.Error):
                    cursor.execute("ROLLBACK")
            raise


def _role_statement(step: CreateRole | AlterRole, verifier: str | None) -> sql.Composable:
    creating = isinstance(step, CreateRole)
    parts: list[sql.Composable] = [
        sql.SQL("CREATE ROLE {}" if creating else "ALTER ROLE {}").format(sql.Identifier(step.role))
    ]
    if creating or (isinstance(step, AlterRole) and step.login):
        parts.append(sql.SQL("LOGIN"))
    if isinstance(step, AlterRole) and step.unexpire:
        parts.append(sql.SQL("VALID UNTIL 'infinity'"))
    if verifier is not None:
        parts.append(sql.SQL("PASSWORD {}").format(sql.Literal(verifier)))
    return sql.SQL(" ").join(parts)


def _creation(conn: Connection, step: CreateDatabase, like: database_settings.Creation) -> sql.Composable:
    """Return the statement that creates a database to which nobody can connect.

    The connection limit distinguishes it from a database that somebody has closed.
    """
    created = staging.create_statement(conn.info.server_version, step.database, like)
    return sql.SQL("{} OWNER {} CONNECTION LIMIT 0").format(created, sql.Identifier(step.owner))


def _opening(step: CreateDatabase | FinishDatabase) -> sql.Composable:
    # One query is one transaction.
    return sql.SQL(
        "REVOKE ALL ON DATABASE {0} FROM PUBLIC; ALTER DATABASE {0} WITH ALLOW_CONNECTIONS true CONNECTION LIMIT -1"
    ).format(sql.Identifier(step.database))


def _database_statement(step: ChangeOwner | GrantDatabase) -> sql.Composable:
    database = sql.Identifier(step.database)
    if isinstance(step, ChangeOwner):
        return sql.SQL("ALTER DATABASE {} OWNER TO {}").format(database, sql.Identifier(step.owner))
    return sql.SQL("GRANT ALL PRIVILEGES ON DATABASE {} TO {}").format(database, sql.Identifier(step.role))


# Passwords ----------------------------------------------------------------------------------------------------------


def _credentials(passwords: t.Mapping[str, Secret], stored: t.Mapping[str, str]) -> list[scram.Credential]:
    return [scram.Credential(name, passwords[name], text) for name, text in stored.items()]


def _compare(
    conn: Connection, passwords: t.Mapping[str, Secret], stored: t.Mapping[str, str]
) -> tuple[dict[str, Password], bool]:
    """Compare each stored password with the declared one.  Also return whether the recorded proof was sufficient.

    By design it takes some milliseconds to compute a verifier.  If a run leaves everything as declared, its proof lets
    the next run detect with a single such computation that nothing has changed.
    """
    credentials = _credentials(passwords, stored)
    if scram.proves(state.passwords_proof(conn), credentials):
        return dict.fromkeys(stored, Password.MATCHES), True
    matching = _in_threads(lambda one: scram.matches(one.stored, one.password), credentials)
    return {
        credential.user: Password.MATCHES
        if matches
        else Password.OUTDATED
        if credential.stored.startswith("md5")
        else Password.DIFFERS
        for credential, matches in zip(credentials, matching)
    }, False


_In = t.TypeVar("_In")
_Out = t.TypeVar("_Out")


def _in_threads(work: t.Callable[[_In], _Out], items: t.Sequence[_In]) -> list[_Out]:
    """Return the results of *work* in order.  Hashing releases the interpreter lock, so threads use all processors."""
    if not items:
        return []
    workers = min(len(items), len(os.sched_getaffinity(0)))
    with concurrent.futures.ThreadPoolExecutor(workers) as executor:
        return list(executor.map(work, items))
