# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""PostgreSQL as a source of backups and a target of restores."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import hashlib
import secrets
import typing as t

from ...domain import manifest
from ...domain.databases import Database
from ...domain.nodes import Node
from ...domain.records import BackupRecord, DatabaseRecord
from ...domain.subjects import CLUSTER_GLOBALS
from ...errors import BackupRefused, EngineError, LoadError, PostgresError, ProcessFailed, RestoreRefused
from ...printing import printable
from ...settings import name_for_errors
from ...streams.flow import CHUNK, Readable
from ...streams.process import Process, batch_work, child_environment, run
from ..base import (
    HEAD_SIZE,
    Facts,
    Fit,
    GlobalsReport,
    Health,
    Kept,
    RecordedGlobals,
    Replaced,
    RestoreRules,
    Room,
    Staging,
    Swapped,
    Task,
)
from . import (
    archive,
    cluster_globals,
    cluster_roles,
    cluster_text,
    containment,
    copies,
    database_settings,
    dump,
    extensions,
    facts,
    failures,
    health,
    inplace_fit,
    kept,
    leftovers,
    lock,
    ownership,
    plaintext,
    privileged,
    reading,
    room,
    settings_text,
    state,
)
from .connection import (
    ConnectionSettings,
    client_credentials,
    client_program,
    codec_of,
    connect,
    is_superuser,
    translated,
)
from .dumptext import events, preamble, selection
from .dumptext.judgement import Judge
from .dumptext.tally import KEY_SIZE, Tally
from .inplace import InPlace
from .restoration import Restoration, encoding_of

if t.TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection

    from ...domain.restoring import RestoreOptions
    from ...streams.pipeline import Decoded


class DumpText:
    """The text of a dump in transit: our preamble, then ``pg_dump``'s output, counted and proven to be complete.

    The end is passed on only after pg_dump has ended with status 0 and its text has turned out to be whole, so that
    nothing downstream ever sees the end of a broken dump.

    :param first: the preamble.
    :param key: that is in it.
    :param judge: finds what a restore would refuse or leave out.
    :param required: whether a finding makes the dump fail.
    :param part: what is known before the dump.
    """

    def __init__(
        self,
        source: t.Any,
        part: manifest.Postgresql,
        *,
        first: bytes,
        key: bytes,
        judge: Judge,
        required: bool,
        advance: t.Callable[[int], None],
    ) -> None:
        self._first = first
        self._source: Readable = source
        self._judge = judge
        self._required = required
        self._known = part.restore_findings or ()
        self._found: tuple[str, ...] = ()
        self._tally = Tally(key, observe=judge.take)
        self._advance = advance
        self.part = part

    def read(self, n: int, /) -> bytes:
        """Up to *n* bytes; ``b""`` is the proven end."""
        first, self._first = self._first[:n], self._first[n:]
        # The preamble and what follows it in one: every later chunk then comes as the reader asks for it, and is never
        # cut.
        chunk = first + self._source.read(n - len(first)) if len(first) < n else first
        if not chunk:
            tables = tuple(manifest.Table(one.name, one.rows, one.digest) for one in self._tally.finish())
            self._found = self._judge.findings()
            findings = (*self._known, *self._found)
            if findings and self._required:
                raise BackupRefused(
                    f"a restore would not bring all of {self.part.database!r} back",
                    phase="dump",
                    cause="; ".join(findings),
                    hint=f"change what it names, or back up without {name_for_errors('backup', 'require_restorable')}",
                )
            self.part = dataclasses.replace(self.part, tables=tables, restore_findings=findings)
            return b""
        self._tally.feed(chunk)
        self._advance(len(chunk))
        return chunk

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a restore would refuse or leave out; after the proven end only.

        Without what was known before, of which the facts warn.
        """
        return self._found

    def close(self) -> None:
        """End the dump: a read that waits for it returns."""
        self._source.close()


class PostgresqlSession:
    """A session of the administrator in the maintenance database."""

    kind = manifest.POSTGRESQL

    def __init__(self, admin: Connection, settings: ConnectionSettings) -> None:
        self._admin = admin
        self._settings = settings

    def health(self) -> Health:
        """The server as a check of the host sees it."""
        return health.health(self._admin, local=health.is_local(self._settings))

    def facts(self, database: Database, /) -> Facts:
        """The database before its backup."""
        cluster = facts.cluster_facts(self._admin)
        with contextlib.closing(connect(self._settings, database=database.name)) as conn:
            found = facts.database_facts(conn, database.name)
            unfit = ownership.deputies_obstacle(conn, database.user)
            unread = reading.require_readable(conn, database.name)
        warnings = (*unread, *self._unrecorded())
        if unfit is not None:
            text = (
                f"a restore will not make {database.user!r} the owner of this database: {unfit}; take the right from "
                "it (ALTER ROLE ... NOCREATEROLE), or give the database to another user"
            )
            warnings += (text,)
        return Facts(
            system_identifier=cluster.system_identifier,
            size=found.size,
            keeps_records=self._keeps_records(in_recovery=cluster.in_recovery),
            warnings=warnings,
            part=manifest.Postgresql(
                database=database.name,
                system_identifier=cluster.system_identifier,
                server_version=cluster.server_version,
                server_version_num=cluster.server_version_num,
                format="plain",
                encoding=found.encoding,
                locale_provider=found.locale_provider,
                collate=found.collate,
                ctype=found.ctype,
                icu_locale=found.icu_locale,
                icu_rules=found.icu_rules,
                extensions=tuple(manifest.Extension(one.name, one.version) for one in found.extensions),
                roles=tuple(found.roles),
                restore_findings=unread or None,
                database_size=found.size,
            ),
        )

    def _keeps_records(self, *, in_recovery: bool) -> bool:
        """Whether anything can be recorded: a standby can't, nor can a role that is not a superuser."""
        return not in_recovery and is_superuser(self._admin)

    def _unrecorded(self) -> tuple[str, ...]:
        """What is unknown because the role may not read what was recorded in the cluster."""
        if not state.is_hidden(self._admin):
            return ()
        text = (
            f"the role {self._settings.user!r} may not read the schema infrazero, so whether a restore of this database"
            f" is outstanding is unknown: GRANT pg_read_all_data TO {self._settings.user}"
        )
        return (text,)

    def require_dump(self, head: bytes, /) -> None:
        """Raise unless *head* may begin a dump of pg_dump in a form that can be restored."""
        archive.require_dump(head, server_version_num=self._admin.info.server_version)

    def require_tables(self, plain: Decoded, /, *, part: manifest.Part | None, tables: t.Sequence[str]) -> None:
        """Raise unless the dump *plain* has all of *tables*, as far as the text before its first rows tells."""
        encoding = None if part is None else part.encoding
        if encoding is None:
            encoding = encoding_of(plain.peek(HEAD_SIZE))
        counted = None if part is None or part.tables is None else [one.name for one in part.tables]
        try:
            with (
                containment.bounded_memory(),
                archive.as_text(plain, server_version_num=self._admin.info.server_version) as text,
            ):
                _preamble, dumped = preamble.read(text)
                selection.require(events.read(dumped), tables, encoding=codec_of(encoding or "UTF8"), counted=counted)
        except MemoryError:
            raise LoadError(
                "the beginning of the dump needs more memory than the host can spare", hint=failures.HINT_MEMORY
            ) from None

    def globals_facts(self, *, passwords: bool) -> Facts:
        """The globals of the cluster before their backup."""
        cluster = facts.cluster_facts(self._admin)
        return Facts(
            system_identifier=cluster.system_identifier,
            size=len(cluster_text.render(cluster_roles.read(self._admin, passwords=passwords))),
            keeps_records=self._keeps_records(in_recovery=cluster.in_recovery),
            warnings=self._unrecorded(),
            part=manifest.Postgresql(
                database=CLUSTER_GLOBALS,
                system_identifier=cluster.system_identifier,
                server_version=cluster.server_version,
                server_version_num=cluster.server_version_num,
                format="plain",
                encoding="UTF8",
            ),
        )

    def fit(self, database: Database, part: manifest.Part | None, options: RestoreOptions, /) -> Fit:
        """How a backup fits this server: versions, extensions and roles, and what the connected role can restore."""
        cluster = facts.cluster_facts(self._admin)
        said = part or manifest.Postgresql()
        warnings: list[str] = []
        missing_extensions: tuple[str, ...] = ()
        missing_roles: tuple[str, ...] = ()
        if part is not None:
            wanted = [(one.name, one.version) for one in said.extensions or ()]
            found = extensions.check(self._admin, wanted, allowed=options.extensions)
            missing_extensions = (*found.missing, *found.refused)
            warnings += found.warnings
            if not (options.skips_acl and options.forces_owner):
                roles = {options.role_map.get(role, role) for role in said.roles or ()}
                missing_roles = tuple(sorted(roles - facts.role_names(self._admin)))
                # If the user owns everything, the source's owner need not exist. The load names missing grants.
                warnings += [
                    f"role {role!r} is missing: what it owned or was granted is left out"
                    for role in missing_roles
                    if not options.forces_owner
                ]
            warnings += [
                f"the backup was made with a warning: {printable(text)}" for text in said.restore_findings or ()
            ]
            theirs, ours = (said.server_version_num or 0) // 10000, cluster.server_version_num // 10000
            if theirs > ours:
                warnings.append(
                    f"the backup is of PostgreSQL {theirs}, this server is {ours}: what only {theirs} knows fails"
                )
        refusal, in_place = None, not is_superuser(self._admin)
        if cluster.in_recovery:
            refusal = RestoreRefused(
                "nothing can be restored on this server",
                cause="it is a standby, which only copies its primary",
                hint="restore on the primary: what it has appears here by itself",
            )
        elif in_place:
            found_here = inplace_fit.find(self._admin, database, part, options, settings=self._settings)
            refusal = found_here.refusal
            warnings += found_here.warnings
        elif missing_extensions:
            refusal = RestoreRefused(
                "extensions of the backup can't be created on this server",
                cause="; ".join(missing_extensions),
                hint="nothing was changed: provide them and run again",
            )
        return Fit(
            details={
                "server_version": cluster.server_version,
                "backup_server_version": said.server_version,
                "missing_extensions": list(missing_extensions),
                "missing_roles": list(missing_roles),
                "in_place": in_place,
            },
            refusal=refusal,
            warnings=tuple(warnings),
        )

    def replaced(self, name: str, /) -> Replaced | None:
        """The database that a restore of *name* would replace; ``None``: there is none."""
        found = facts.replaced_facts(self._admin, name)
        if found is None:
            return None
        empty = False
        if found.allows_connections:
            with contextlib.closing(connect(self._settings, database=name)) as conn:
                empty = facts.is_empty(conn)
        return Replaced(
            identity=str(found.oid), owner=found.owner, size=found.size, sessions=found.sessions, empty=empty
        )

    def room(self, *, like: str | None) -> Room:
        """The space for one more database, if the file system of the server can be examined from here."""
        return room.find(self._admin, like=like)

    def kept(self, name: str, /) -> tuple[Kept, ...]:
        """The databases that *name* has replaced and that are still there, oldest first."""
        return kept.kept(self._admin, name)

    def require_copy(self, name: str, /) -> None:
        """Raise unless a copy may be called *name*."""
        copies.require_name(self._admin, name)

    def record(self, name: str, /) -> DatabaseRecord | None:
        """What is recorded of a database."""
        return state.database_record(self._admin, name)

    def last_backup(self, name: str, /, *, location: str) -> BackupRecord | None:
        """The last backup that this cluster has recorded for a place."""
        return state.last_backup(self._admin, name, location=location)


class LockedPostgresqlSession(PostgresqlSession):
    """The same, under the lock of a database."""

    def __init__(self, admin: Connection, settings: ConnectionSettings, held: lock.Lock) -> None:
        super().__init__(admin, settings)
        self._held = held

    def check_lock(self) -> None:
        """Raise LockHeld unless the lock is still held."""
        self._held.check()

    @contextlib.contextmanager
    def dump(
        self,
        name: str,
        part: manifest.Part,
        *,
        rules: RestoreRules,
        lock_wait_seconds: int,
        advance: t.Callable[[int], None],
    ) -> t.Iterator[DumpText]:
        """The output of ``pg_dump``; an error about locks names those who hold them."""
        program = client_program("pg_dump", server_version_num=part.server_version_num or 0)
        version = dump.version_of(run([program, "--version"], phase="dump", environment=child_environment()))
        arguments = dump.arguments(
            program, self._settings, name, encoding=part.encoding or "UTF8", lock_wait_seconds=lock_wait_seconds
        )
        key = secrets.token_bytes(KEY_SIZE)
        with batch_work(), client_credentials(self._settings) as (extra, pass_fds), self._snapshot(name) as conn:
            listed = privileged.objects(conn)
            first = self._preamble(conn, name, key, listed)
            known = dataclasses.replace(part, dump_version=version, preamble_sha256=hashlib.sha256(first).hexdigest())
            environment = child_environment({**extra, **dump.environment(self._settings)})
            arguments.append(f"--snapshot={dump.export_snapshot(conn)}")
            with Process(arguments, phase="dump", environment=environment, pass_fds=pass_fds, gather=CHUNK) as process:
                try:
                    yield DumpText(
                        process,
                        known,
                        first=first,
                        key=key,
                        judge=self._judge(part, rules, listed),
                        required=rules.required,
                        advance=advance,
                    )
                except ProcessFailed as exc:
                    if facts.node(self._admin).in_recovery:
                        exc.hint = f"{dump.ON_STANDBY}; {exc.hint}"
                    raise self._named_blockers(exc, name) from None

    @contextlib.contextmanager
    def dump_globals(
        self, part: manifest.Part, *, passwords: bool, advance: t.Callable[[int], None]
    ) -> t.Iterator[cluster_text.GlobalsDump]:
        """The text of the globals of the cluster."""
        text = cluster_text.render(cluster_roles.read(self._admin, passwords=passwords))
        yield cluster_text.GlobalsDump(text, part, advance=advance)

    @contextlib.contextmanager
    def _snapshot(self, name: str) -> t.Iterator[Connection]:
        """A session in the database whose transaction sees what the dump will see."""
        with contextlib.closing(connect(self._settings, database=name)) as conn:
            with translated(f"could not read the catalogs of {name!r}", phase="dump"), conn.cursor() as cursor:
                cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            yield conn

    def _judge(self, part: manifest.Part, rules: RestoreRules, listed: t.Sequence[preamble.PrivilegedObject]) -> Judge:
        refused: dict[str, str] = {}
        for one in part.extensions or ():
            checked = extensions.check(self._admin, [(one.name, None)], allowed=rules.options.extensions)
            refused.update(dict.fromkeys([one.name] if checked.refused else [], "; ".join(checked.refused)))
        return Judge(
            encoding=codec_of(part.encoding or "UTF8"),
            refuse_extension=refused.get,
            objects=listed,
            refuse_objects=None if rules.signed or rules.options.privileged else "the backup is not signed",
        )

    @staticmethod
    def _preamble(conn: Connection, name: str, key: bytes, listed: t.Sequence[preamble.PrivilegedObject]) -> bytes:
        settings = database_settings.capture(conn, name)
        return preamble.render(
            key,
            settings=settings.as_dict(),
            objects=listed,
            sql=settings_text.for_psql(settings),
        )

    def _named_blockers(self, error: EngineError, name: str) -> EngineError:
        """*error* with the names of those whose locks it was about, if it was about locks."""
        if dump.LOCK_TIMED_OUT not in error.cause:
            return error
        try:
            with contextlib.closing(connect(self._settings, database=name)) as conn:
                names = dump.blockers(conn)
        except PostgresError:
            return error
        if not names:
            return error
        return ProcessFailed(
            error.message,
            phase=error.phase,
            cause=f"{error.cause}; {'; '.join(names)}",
            hint="let that process finish, or end it, and run the backup again",
        )

    def record_backup(self, made: BackupRecord, /) -> None:
        """Record the backup that has become the latest one."""
        state.record_backup(self._admin, made)

    def record_outcome(self, name: str, status: str, /) -> None:
        """Record that nothing was restored, and why."""
        state.record_outcome(self._admin, name, status)

    def undo(
        self, name: str, /, *, keep: datetime.timedelta, on_connections: t.Literal["terminate", "refuse"]
    ) -> Swapped:
        """Swap the database that *name* replaced last in again."""
        return kept.undo(
            self._admin, self._held, name, settings=self._settings, keep=keep, on_connections=on_connections
        )

    def drop_kept(self, name: str, kept_as: str, /) -> None:
        """Drop a database that *name* has replaced."""
        kept.drop(self._admin, name, kept_as, settings=self._settings)

    @contextlib.contextmanager
    def staging(self, task: Task, /) -> t.Iterator[Staging]:
        """A staging database, which is swapped with the database that it was filled for.

        Only a superuser can do that; anybody else restores in place.
        """
        if not is_superuser(self._admin):
            with InPlace(task, admin=self._admin, held=self._held, settings=self._settings) as in_place:
                yield in_place
            return
        with Restoration(task, admin=self._admin, held=self._held, settings=self._settings) as restoration:
            yield restoration


class PostgresqlSource:
    """A PostgreSQL server; nothing is connected before it is used."""

    kind = manifest.POSTGRESQL

    def __init__(self, settings: ConnectionSettings) -> None:
        self._settings = settings

    @property
    def warnings(self) -> tuple[str, ...]:
        """What could happen to the sessions on their way to the server."""
        return self._settings.warnings

    def node(self) -> Node:
        """Which node of its cluster the server is."""
        with contextlib.closing(connect(self._settings)) as admin:
            return facts.node(admin)

    def checked(self, plain: Decoded, /) -> plaintext.CheckedDump:
        """The dump *plain* as it is, SQL text or an archive."""
        return plaintext.CheckedDump(plain)

    @contextlib.contextmanager
    def session(self) -> t.Iterator[PostgresqlSession]:
        """A session that changes nothing."""
        with contextlib.closing(connect(self._settings)) as admin:
            yield PostgresqlSession(admin, self._settings)

    @contextlib.contextmanager
    def locked(self, name: str, /, *, doing: str) -> t.Iterator[LockedPostgresqlSession]:
        """A session under the lock of a database."""
        with lock.locked_session(self._settings, name, doing=doing) as (admin, held):
            yield LockedPostgresqlSession(admin, self._settings, held)

    def remove_leftovers(self) -> list[str]:
        """Remove the staging databases and throwaway roles of restores that were killed."""
        return leftovers.remove_all(self._settings)

    def expire_replaced(self, listed: t.Collection[str], /) -> list[str]:
        """Drop the replaced databases and the copies whose time is over."""
        with contextlib.closing(connect(self._settings)) as admin:
            if not is_superuser(admin):
                return []
        return [*kept.drop_expired(self._settings), *copies.drop_expired(self._settings, listed)]

    def outstanding(self) -> frozenset[str]:
        """The databases that wait for their restore."""
        with contextlib.closing(connect(self._settings)) as admin:
            return frozenset(state.outstanding(admin))

    def restore_globals(self, recorded: RecordedGlobals, /, *, privileges: bool, plan_only: bool) -> GlobalsReport:
        """Create the roles of *recorded* that are missing."""
        if plan_only:
            with contextlib.closing(connect(self._settings)) as admin:
                return cluster_globals.plan(admin, recorded, (), privileges=privileges)
        with lock.locked_session(self._settings, CLUSTER_GLOBALS, doing="restore") as (admin, _held):
            return cluster_globals.restore(admin, recorded, (), privileges=privileges)

    def finish_bootstrap(self) -> None:
        """Record that the bootstrap is finished, if nothing is outstanding any more."""
        with contextlib.closing(connect(self._settings)) as admin:
            if is_superuser(admin) and state.exists(admin):
                state.finish_bootstrap(admin)
