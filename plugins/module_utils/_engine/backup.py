# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The use case "back up": dump, compress, encrypt, stream to the store, manifest last."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import platform
import secrets
import time
import typing as t

from . import outcome
from .domain import layout, lineage, manifest, records
from .domain.databases import Database
from .domain.trust import Signed, Trust
from .errors import (
    AccessDenied,
    BackupRefused,
    ConfigurationError,
    EngineError,
    ManifestError,
    PostgresError,
    ProcessFailed,
    StoreError,
)
from .printing import printable_name, shell_word
from .reporting import Reporter, Silent
from .signing import keys, verification
from .sources.postgresql import dump, facts, leftovers, lock, ownership, staging, state
from .sources.postgresql.connection import ConnectionSettings, client_credentials, client_program, connect
from .sources.postgresql.dumptext import tally
from .sources.postgresql.facts import ClusterFacts, DatabaseFacts
from .stores import catalogue
from .stores.base import Store
from .streams import age, pipeline
from .streams.compression import Compression
from .streams.flow import CHUNK
from .streams.process import Process, batch_work, child_environment, run
from .version import VERSION

if t.TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection

#: Status of a database that was backed up, and of one that check mode says would be.
BACKED_UP = "backed_up"
PLANNED = "planned"


@dataclasses.dataclass(frozen=True)
class BackupOptions:
    """How backups are made.

    :param jobs: databases that are backed up at the same time.
    :param take_over: go on with the history of a prefix though its latest backup is not of this cluster.
    :param lock_wait_seconds: how long the dump waits for a table that somebody holds exclusively.
    :param signer: the host's key, with which manifests are signed; ``None``: they are not, and that is warned of.
    :param trust: whose backups are accepted as the one before, besides those of *signer*.
    """

    compression: Compression = dataclasses.field(default_factory=Compression)
    jobs: int = 1
    take_over: bool = False
    lock_wait_seconds: int = 60
    signer: keys.Signer | None = None
    trust: Trust = dataclasses.field(default_factory=Trust)

    def __post_init__(self) -> None:
        if self.jobs < 1:
            raise ConfigurationError("jobs must be at least 1", hint="0 databases at a time are none")
        if self.lock_wait_seconds < 1:
            raise ConfigurationError("the wait for a lock must be at least 1 second", hint="0 would wait for ever")


@dataclasses.dataclass(frozen=True)
class BackupPlan:
    """What a backup would do.

    :param location: URL of the prefix.
    :param key: key of the dump to be made.
    :param estimated_size: bytes that the database takes in the cluster.
    :param previous: the backup that ours will follow; ``None``: it is the first.
    :param latest_sha256: SHA-256 of the latest manifest, which may be that of an earlier backup; ``""``: what is there
        is not a manifest; ``None``: nothing is.
    """

    database: str
    location: str
    key: str
    estimated_size: int
    cluster: ClusterFacts
    facts: DatabaseFacts
    previous: lineage.Link | None
    latest_sha256: str | None
    warnings: tuple[str, ...]

    @property
    def sequence(self) -> int:
        """The number that the backup gets."""
        return 1 if self.previous is None else self.previous.sequence + 1

    @property
    def previous_signed_by(self) -> dict[str, str] | None:
        """Who signed the backup that ours follows, as plain data; ``None``: nobody, or there is none."""
        signed = None if self.previous is None else self.previous.signed_by
        return None if signed is None else dataclasses.asdict(signed)

    def as_dict(self) -> dict[str, t.Any]:
        """As plain data."""
        return {
            "key": self.key,
            "sequence": self.sequence,
            "estimated_size": self.estimated_size,
            "previous": None if self.previous is None else self.previous.key,
            "previous_signed_by": self.previous_signed_by,
            "warnings": list(self.warnings),
        }


def plan_backup(
    database: Database,
    *,
    admin: Connection,
    settings: ConnectionSettings,
    store: Store,
    options: BackupOptions,
    moment: datetime.datetime,
) -> BackupPlan:
    """Decide whether *database* may be backed up now, and as what.  Reads only.

    :param admin: a connection to the maintenance database.
    :param moment: the run's timestamp.
    :raises BackupRefused: where a backup would put a good one out of sight.
    """
    cluster = facts.cluster_facts(admin)
    record = state.database_record(admin, database.name)
    if record is not None and record.restore == records.OUTSTANDING:
        raise BackupRefused(
            f"the restore of {database.name!r} is outstanding, so its backup would be an empty one",
            hint="run the bootstrap again until every restore has succeeded, or restore it with restore.sh"
            + _arguments(database.name, database.prefix),
        )
    with contextlib.closing(connect(settings, database=database.name)) as conn:
        found = facts.database_facts(conn, database.name)
        unfit = ownership.deputies_fault(conn, database.user)
    latest = _latest(database, store=store, options=options)
    location = catalogue.location(store, database.prefix)
    warnings: list[str] = []
    newer: tuple[lineage.Link, ...] = ()
    try:
        newer, strange = _newer(database, store=store, latest=latest, cluster=cluster, options=options)
        warnings += strange
    except AccessDenied:
        warnings.append("the store doesn't let us list backups, so one that never became the latest would go unnoticed")
    known = lineage.Known(
        system_identifier=cluster.system_identifier,
        recorded=_recorded(admin, database, location=location, cluster=cluster),
        restored=_restored(record, location=location),
        made_empty_at=record.since if record is not None and record.restored_from is None else None,
    )
    decision = lineage.decide(latest, newer, known, take_over=options.take_over)
    if decision.refusal is not None and not options.take_over:
        raise BackupRefused(
            f"{database.name!r} must not be backed up to {location}",
            cause=decision.refusal,
            hint="restore from there first, or give this host a bucket of its own; if this cluster is meant to go on "
            "there, say so with --take-over (option take_over)",
        )
    warnings = [*decision.warnings, *warnings]
    if options.signer is None:
        warnings.append(
            "the manifest is not signed, there is no signing key: restores will ask for trust: unsigned; the role "
            "backup makes a key"
        )
    if unfit is not None:
        warnings.append(
            f"a restore will not make {database.user!r} the owner of this database: {unfit}; take the right from it "
            "(ALTER ROLE ... NOCREATEROLE), or give the database to another user"
        )
    previous = decision.previous
    if previous is not None and previous.created_at is not None and previous.created_at > moment:
        warnings.append(
            f"the clock reads {moment:%Y-%m-%dT%H:%M:%SZ}, before the backup of "
            f"{previous.created_at:%Y-%m-%dT%H:%M:%SZ} that this one follows: one of them was or is wrong"
        )
    return BackupPlan(
        database=database.name,
        location=location,
        key=layout.dump_key(database.prefix, moment, compression=options.compression.method),
        estimated_size=found.size,
        cluster=cluster,
        facts=found,
        previous=previous,
        latest_sha256=None if latest is None else latest.sha256,
        warnings=tuple(warnings),
    )


def _arguments(*values: str) -> str:
    """The arguments of a command that an operator may copy; nothing where one of them can't be shown as it is."""
    words = [shell_word(value) for value in values]
    return "".join(f" {word}" for word in words) if None not in words else ""


def _latest(database: Database, *, store: Store, options: BackupOptions) -> lineage.Latest | None:
    """The prefix's latest manifest; a host that can't sign has nothing to check it against, and believes it."""
    if options.signer is not None:
        return verification.standing(store, trust=options.signer.accepting(options.trust), database=database)
    found = catalogue.read_latest(store, database.prefix)
    return None if found is None else lineage.Latest(lineage.BELIEVED, found.sha256, found.manifest)


def _newer(
    database: Database,
    *,
    store: Store,
    latest: lineage.Latest | None,
    cluster: ClusterFacts,
    options: BackupOptions,
) -> tuple[tuple[lineage.Link, ...], list[str]]:
    """Backups that were ended before they moved latest, or whose latest was moved back, and warnings about the others.

    Their numbers are taken, so the next backup follows the highest.
    """
    signer, followed = options.signer, None if latest is None else latest.link
    found = verification.survey(
        store,
        database.prefix,
        than=None if followed is None else followed.created_at,
        trust=None if signer is None else signer.accepting(options.trust),
        database=database,
    )
    links = found.links
    if signer is None:
        # Nobody vouches for them: only those count that say to be of this cluster.
        links = tuple(one for one in links if one.sequence and one.system_identifier == cluster.system_identifier)
    return links, [] if found.warning is None else [found.warning]


def _recorded(admin: Connection, database: Database, *, location: str, cluster: ClusterFacts) -> lineage.Link | None:
    made = state.last_backup(admin, database.name, location=location)
    if made is None:
        return None
    signed = None if made.signed_by is None else Signed(**made.signed_by)
    created_at = made.created_at.astimezone(datetime.timezone.utc)
    return lineage.Link(made.sequence, made.manifest_sha256, made.key, created_at, cluster.system_identifier, signed)


def _restored(record: records.DatabaseRecord | None, *, location: str) -> lineage.Link | None:
    source = None if record is None else record.restored_from
    if source is None or source.manifest_sha256 is None:
        return None
    # Another prefix has another count.
    sequence = source.sequence if source.url.startswith(location) else None
    return lineage.Link(sequence or 0, source.manifest_sha256, source.key, system_identifier=source.system_identifier)


def back_up(
    database: Database,
    *,
    settings: ConnectionSettings,
    store: Store,
    options: BackupOptions,
    moment: datetime.datetime,
    reporter: Reporter | None = None,
) -> outcome.Outcome:
    """Back up one database; the new backup is the latest one only after all of it was checked.

    :param moment: the run's timestamp, the same for all databases of a run; where the latest backup was made within the
        same second, this one waits for the next.
    """
    reporter = reporter or Silent()
    recipients = age.parse_recipients(database.recipients)
    with lock.locked_session(settings, database.name, doing="backup") as (admin, held):
        plan = plan_backup(database, admin=admin, settings=settings, store=store, options=options, moment=moment)
        if plan.previous is not None and plan.previous.created_at == moment.replace(microsecond=0):
            # Keys have whole seconds, and this one's is taken: the next second's is not.
            time.sleep(1 - moment.microsecond / 1_000_000)
            moment += datetime.timedelta(seconds=1)
            plan = plan_backup(database, admin=admin, settings=settings, store=store, options=options, moment=moment)
        started = time.monotonic()
        reporter.stage(database.name, "dump", f"dumping to {store.url(plan.key)}", total=plan.estimated_size)
        stream, tables, dump_version = _upload(
            plan, recipients=recipients, settings=settings, store=store, options=options, reporter=reporter
        )
        reporter.stage(database.name, "manifest", "writing the manifest")
        previous = plan.previous
        made = manifest.Manifest(
            key=plan.key,
            sha256=stream.sha256,
            created_at=moment.replace(microsecond=0),
            schema_version=manifest.SCHEMA_VERSION,
            source=manifest.POSTGRESQL,
            kind=manifest.DUMP,
            version=VERSION,
            compression=options.compression.method,
            size=stream.size,
            chunks=stream.chunks,
            plaintext_size=stream.plain_size,
            recipients=tuple(database.recipients),
            destination=store.facts,
            duration_seconds=round(time.monotonic() - started, 3),
            host=platform.node() if options.signer is None else options.signer.host,
            sequence=plan.sequence,
            previous_sha256=None if previous is None else previous.sha256,
            part=manifest.Postgresql(
                database=database.name,
                system_identifier=plan.cluster.system_identifier,
                server_version=plan.cluster.server_version,
                server_version_num=plan.cluster.server_version_num,
                dump_version=dump_version,
                format="plain",
                encoding=plan.facts.encoding,
                locale_provider=plan.facts.locale_provider,
                collate=plan.facts.collate,
                ctype=plan.facts.ctype,
                icu_locale=plan.facts.icu_locale,
                extensions=tuple(manifest.Extension(e.name, e.version) for e in plan.facts.extensions),
                roles=tuple(plan.facts.roles),
                tables=tuple(manifest.Table(table.name, table.rows, table.digest) for table in tables),
            ),
        )
        if options.signer is not None:
            made = options.signer.sign(made)
        data = _rendered(made)
        own_key = layout.manifest_key(plan.key)
        # A run that was stopped for a while may find another one at work; latest is not ours to move then.
        held.check()
        store.put_if_absent(own_key, data)
        # Again: nothing stands between this and the last step but the store.
        held.check()
        _require_unmoved(plan, database, store=store)
        store.put(layout.latest_key(database.prefix), data)
        warnings = [*plan.warnings, *_record(plan, made, data, admin=admin, options=options)]
    details = {
        "key": made.key,
        "manifest": own_key,
        "sha256": made.sha256,
        "size": made.size,
        "plaintext_size": made.plaintext_size,
        "tables": len(tables),
        "rows": made.rows,
        "sequence": made.sequence,
        "signed": made.signature is not None,
        "previous": None if plan.previous is None else plan.previous.key,
        "previous_signed_by": plan.previous_signed_by,
        "duration_seconds": made.duration_seconds,
        "warnings": warnings,
    }
    return outcome.Outcome(database.name, BACKED_UP, details)


def _record(
    plan: BackupPlan, made: manifest.Manifest, data: bytes, *, admin: Connection, options: BackupOptions
) -> t.Iterator[str]:
    """Record in the cluster that the backup has become the latest one; a failure is a warning: the backup is good."""
    if plan.cluster.in_recovery:
        return
    signer = options.signer
    try:
        state.record_backup(
            admin,
            records.BackupRecord(
                database=plan.database,
                location=plan.location,
                sequence=plan.sequence,
                manifest_sha256=manifest.digest(data),
                key=made.key,
                created_at=made.created_at,
                signed_by=None if signer is None else dataclasses.asdict(signer.signed),
            ),
        )
    except PostgresError as exc:
        yield f"the backup is good, but the cluster could not record it: {exc}"


def _rendered(made: manifest.Manifest) -> bytes:
    """The manifest's bytes, which a restore can read.

    :raises BackupRefused: they are more than a restore reads.
    """
    data = manifest.render(made)
    try:
        manifest.parse(data)
    except ManifestError as exc:
        raise BackupRefused(
            f"the manifest of {made.database!r} is one that no restore would read",
            cause=exc.message,
            hint="the latest backup is still the one before; split the database, it has too many tables or roles",
        ) from None
    return data


def _require_unmoved(plan: BackupPlan, database: Database, *, store: Store) -> None:
    """Another host has no lock of ours: latest must still be what it was when this backup began.

    :raises BackupRefused: where somebody has moved it.
    """
    try:
        now = catalogue.read_latest(store, database.prefix)
    except ManifestError:
        if plan.latest_sha256 == "":
            return
        raise
    if now is None or now.sha256 == plan.latest_sha256:
        return
    raise BackupRefused(
        f"{store.url(now.key)} was moved by somebody else while this backup was made",
        cause=f"it names {printable_name(now.manifest.key)}, made on "
        + printable_name(now.manifest.host or "an unknown host"),
        hint="see that only one host backs up to a prefix, then run again; this backup is there with its own manifest",
    )


def back_up_all(
    entries: t.Sequence[Database],
    *,
    settings: ConnectionSettings,
    store: Store,
    options: BackupOptions,
    reporter: Reporter | None = None,
) -> outcome.Summary:
    """Back up every one of *entries* under one timestamp; one that fails doesn't stop the others.

    Databases that a restore replaced, and whose time beside the new one is over, are dropped first.
    """
    moment = datetime.datetime.now(datetime.timezone.utc)
    by_name = {entry.name: entry for entry in entries}
    warnings = [*leftovers.remove_all(settings), *_expire(settings)]

    def work(name: str) -> outcome.Outcome:
        return back_up(by_name[name], settings=settings, store=store, options=options, moment=moment, reporter=reporter)

    return outcome.run_each(list(by_name), work, jobs=options.jobs, warnings=warnings)


def _expire(settings: ConnectionSettings) -> list[str]:
    """Drop the replaced databases whose time is over; why one could not be, which is no reason not to back up."""
    warnings = []
    with contextlib.closing(connect(settings)) as admin:
        for kept in state.replaced(admin, expired=True):
            try:
                staging.expire_replaced(admin, [kept.name])
                state.forget_replaced(admin, kept.name)
            except PostgresError as exc:
                warnings.append(str(exc))
    return warnings


def plan_all(
    entries: t.Sequence[Database],
    *,
    settings: ConnectionSettings,
    store: Store,
    options: BackupOptions,
    reporter: Reporter | None = None,
) -> outcome.Summary:
    """Say what :func:`back_up_all` would do.  Nothing is changed."""
    moment = datetime.datetime.now(datetime.timezone.utc)
    by_name = {entry.name: entry for entry in entries}

    def work(name: str) -> outcome.Outcome:
        age.parse_recipients(by_name[name].recipients)
        with contextlib.closing(connect(settings)) as admin:
            plan = plan_backup(
                by_name[name], admin=admin, settings=settings, store=store, options=options, moment=moment
            )
        return outcome.Outcome(name, PLANNED, plan.as_dict())

    return outcome.run_each(list(by_name), work)


class _DumpText:
    """The text of a dump on its way: our first line, then ``pg_dump``'s output, counted and proven complete.

    The end is passed on only after pg_dump has ended with status 0 and its text has turned out to be whole, so that
    whatever lies downstream never sees the end of a broken dump.
    """

    def __init__(self, source: pipeline.Readable, *, advance: t.Callable[[int], None]) -> None:
        key = secrets.token_bytes(tally.KEY_SIZE)
        self._first = tally.preface(key)
        self._source = source
        self._tally = tally.Tally(key)
        self._advance = advance
        self.tables: t.Sequence[tally.TableTally] = ()

    def read(self, size: int) -> bytes:
        """Up to *size* bytes; ``b""`` is the proven end."""
        # Our line and what follows it in one: every later chunk then comes as the stages ask for it, and is never cut.
        first, self._first = self._first, b""
        chunk = first + self._source.read(size - len(first))
        if not chunk:
            self.tables = self._tally.finish()
            return b""
        self._tally.feed(chunk)
        self._advance(len(chunk))
        return chunk

    def close(self) -> None:
        """End the dump: a read that waits for it returns."""
        self._source.close()


def _upload(
    plan: BackupPlan,
    *,
    recipients: t.Sequence[t.Any],
    settings: ConnectionSettings,
    store: Store,
    options: BackupOptions,
    reporter: Reporter,
) -> tuple[pipeline.Encoded, t.Sequence[tally.TableTally], str]:
    program = client_program("pg_dump", server_version_num=plan.cluster.server_version_num)
    version = dump.version_of(run([program, "--version"], phase="dump", environment=child_environment()))
    arguments = dump.arguments(
        program,
        settings,
        plan.database,
        encoding=plan.facts.encoding,
        lock_wait_seconds=options.lock_wait_seconds,
    )
    with batch_work(), client_credentials(settings) as (extra, pass_fds):
        environment = child_environment({**extra, **dump.environment(settings)})
        with Process(arguments, phase="dump", environment=environment, pass_fds=pass_fds, gather=CHUNK) as process:
            text = _DumpText(process, advance=lambda count: reporter.advance(plan.database, count))
            with contextlib.closing(
                pipeline.encode(
                    text,
                    compression=options.compression,
                    recipients=recipients,
                    chunk_size=manifest.chunk_size(plan.estimated_size),
                )
            ) as stream:
                try:
                    stored = store.upload(plan.key, stream, size_hint=plan.estimated_size)
                except ProcessFailed as exc:
                    raise _named_blockers(exc, settings, plan.database) from None
    if stored.size != stream.size:
        raise StoreError(
            f"{store.url(plan.key)} has {stored.size} bytes, {stream.size} were sent",
            phase="upload",
            hint="the store lost data: the backup before this one is still the latest",
        )
    return stream, text.tables, version


def _named_blockers(error: EngineError, settings: ConnectionSettings, database: str) -> EngineError:
    """*error* with the names of those whose locks it was about, if it was about locks."""
    if dump.LOCK_TIMED_OUT not in error.cause:
        return error
    try:
        with contextlib.closing(connect(settings, database=database)) as conn:
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
