# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The use case "restore": choose a backup, check it, fill a second database from it, put that in place of the first."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import secrets
import time
import typing as t

from . import outcome
from .domain import layout, lineage, manifest, names, records, restoring
from .domain.databases import Database
from .domain.records import OUTSTANDING, DatabaseRecord, RestoredFrom
from .domain.restoring import REFUSE, REPLACE, RestoreOptions
from .domain.secret import Secret
from .domain.trust import Signed, Trust
from .errors import (
    AccessDenied,
    ChecksumMismatch,
    ConfigurationError,
    Deleted,
    EngineError,
    IdentityMissing,
    NotFound,
    PostgresError,
    RestoreRefused,
)
from .printing import printable, printable_name
from .reporting import Reporter, Silent
from .signing import verification
from .sources.postgresql import (
    archive,
    database_settings,
    extensions,
    facts,
    leftovers,
    limits,
    load,
    loader_role,
    lock,
    ownership,
    staging,
    state,
    swap,
)
from .sources.postgresql import sessions as sessions
from .sources.postgresql.connection import ConnectionSettings, connect
from .sources.postgresql.dumptext import events, tally
from .stores import catalogue
from .stores.base import Store
from .streams import age, pipeline

if t.TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection

#: Statuses: restored; the store has no backup; nothing was asked for; what check mode says of a restore.
RESTORED = records.RESTORED
EMPTY = records.EMPTY
SKIPPED = records.SKIPPED
PLANNED = "planned"
STATUSES = (RESTORED, EMPTY, SKIPPED)

#: Enough of an object to tell by its first bytes what it is.
_MAGIC_BYTES = 64


@dataclasses.dataclass(frozen=True)
class Choice:
    """The backup that a text, or an entry of the list, comes down to.

    :param store: the store, or bucket, that holds it.
    :param found: its manifest; ``None``: the object stands for itself.
    :param sha256: what the encrypted object must hash to, where anything says so.
    :param signed_by: the accepted host that signed the manifest; ``None``: that is not proven.
    """

    store: Store
    key: str
    found: catalogue.Found | None
    sha256: str | None
    warnings: tuple[str, ...] = ()
    signed_by: Signed | None = None

    @property
    def proven(self) -> bool:
        """Whether the signature of a host whose backups are accepted was verified."""
        return self.signed_by is not None

    @property
    def url(self) -> str:
        """The object, as a person reads it."""
        return self.store.url(self.key)

    @property
    def manifest(self) -> manifest.Manifest | None:
        """What the backup says of itself."""
        return None if self.found is None else self.found.manifest

    @property
    def proof(self) -> pipeline.Proof | None:
        """What each chunk of the object must be; ``None``: nothing that could be believed says so."""
        said = self.manifest
        if not self.proven or said is None or said.size is None or said.chunks is None:
            return None
        return pipeline.Proof(said.size, said.sha256, said.chunks, origin="the one its manifest names")

    @property
    def created_at(self) -> datetime.datetime | None:
        """When the backup was made, as far as anything tells."""
        return layout.moment_of(self.key) if self.found is None else self.found.manifest.created_at


def choose(
    store: Store, source: str, *, database: Database, trust: Trust, expected_sha256: str | None = None
) -> Choice:
    """Find the backup that *source* names: a manifest, a prefix with one, or a dump.

    Nothing of the dump itself is read: whether it may be is decided here, by its manifest.

    :param source: a key, a prefix that ends with ``/``, or ``s3://bucket/...``.
    :param database: the one that is to be restored.
    :param expected_sha256: what the operator says the object must hash to.
    :raises NotFound: where the store says that the manifest isn't there.
    :raises TrustError: where the backup is not one to be restored.
    """
    location = layout.locate(source)
    where = store if location.bucket is None else store.sibling(location.bucket)
    if location.is_manifest:
        found = catalogue.read_manifest(where, location.key)
        return _chosen(found, *verification.check(found, trust=trust, database=database), expected_sha256)
    warnings: tuple[str, ...] = ()
    try:
        beside = catalogue.read_manifest(where, layout.manifest_key(location.key))
    except NotFound:
        beside = None
    except AccessDenied:
        # Some stores answer so for an absent key where listing isn't allowed; the dump itself was named by hand.
        beside = None
        warnings = ("the store doesn't let us see whether the dump has a manifest",)
    if beside is not None and beside.location.key == location.key:
        return _chosen(beside, *verification.check(beside, trust=trust, database=database), expected_sha256)
    warnings += verification.check_bare(where.url(location.key), trust=trust)
    if expected_sha256 is None:
        warnings += ("nothing says what the object's SHA-256 must be: it has no manifest of its own",)
    return Choice(where, location.key, None, expected_sha256, warnings)


def _chosen(
    found: catalogue.Found, signed_by: Signed | None, warnings: tuple[str, ...], expected_sha256: str | None
) -> Choice:
    said = found.manifest.sha256
    if expected_sha256 not in (None, said):
        raise ChecksumMismatch(
            f"{found.store.url(found.key)} names an object with another SHA-256 than the one expected",
            cause=f"expected {expected_sha256}, the manifest says {said}",
            hint="choose the backup that you mean by its key",
        )
    location = found.location
    where = found.store if location.bucket is None else found.store.sibling(location.bucket)
    return Choice(where, location.key, found, said, warnings, signed_by)


@dataclasses.dataclass(frozen=True)
class Request:
    """One restore that was asked for.

    :param database: the database to be put in place, and the user to whom it belongs.
    :param identities: parsed age identities, see :func:`.streams.age.parse_identities`.
    """

    database: Database
    choice: Choice
    options: RestoreOptions
    identities: tuple[t.Any, ...] = ()


@dataclasses.dataclass(frozen=True)
class Replaced:
    """The database that a restore puts something else in place of.

    :param size: bytes in the cluster.
    :param sessions: connections to it at the moment.
    :param empty: whether it holds no table, so that there is nothing to keep.
    """

    owner: str
    size: int
    sessions: int
    empty: bool


@dataclasses.dataclass(frozen=True)
class RestorePlan:
    """What a restore would do.

    :param encrypted: whether the object needs an age identity.
    :param size: of the object, bytes.
    :param reads: how often the object is read.  Twice where no signature proves its chunks one by one, because nothing
        of it may be executed before all of it was checked, and where the old database is dropped first.
    :param missing_extensions: those that can't be made here, each with what to do.
    :param missing_roles: roles of the dump that the cluster hasn't; they matter only where grants or owners are kept.
    """

    request: Request
    moment: datetime.datetime
    encrypted: bool
    size: int
    reads: int
    server_version: str
    missing_extensions: tuple[str, ...]
    missing_roles: tuple[str, ...]
    replaces: Replaced | None
    warnings: tuple[str, ...]

    def as_dict(self) -> dict[str, t.Any]:
        """As plain data."""
        choice = self.request.choice
        made, said = choice.created_at, choice.manifest
        return {
            "source": choice.url,
            "sha256": choice.sha256,
            "signed_by": None if choice.signed_by is None else dataclasses.asdict(choice.signed_by),
            "created_at": None if made is None else made.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "age_seconds": None if made is None else int((self.moment - made).total_seconds()),
            "size": self.size,
            "reads": self.reads,
            "read_size": self.reads * self.size,
            "plaintext_size": None if said is None else said.plaintext_size,
            "rows": None if said is None else said.rows,
            "encrypted": self.encrypted,
            "backup_server_version": None if said is None or said.part is None else said.part.server_version,
            "server_version": self.server_version,
            "missing_extensions": list(self.missing_extensions),
            "missing_roles": list(self.missing_roles),
            "replaces": None if self.replaces is None else dataclasses.asdict(self.replaces),
            "strategy": self.request.options.strategy,
            "owner": self.request.database.user,
            "warnings": list(self.warnings),
        }


def plan_restore(request: Request, *, admin: Connection, settings: ConnectionSettings) -> RestorePlan:
    """Look at the backup and at the cluster and say what a restore would do.  Reads only.

    Identities that are given are tried on the backup.

    :param admin: a connection to the maintenance database.
    :raises RestoreRefused: where the restore can't succeed.
    """
    choice, options = request.choice, request.options
    said = choice.manifest
    cluster = facts.cluster_facts(admin)
    warnings = list(choice.warnings)
    size, encrypted = _look_into(choice, request.identities)
    if said is not None and said.size not in (None, size):
        raise ChecksumMismatch(
            f"{choice.url} has {size} bytes, its manifest says {said.size}",
            hint="the object is damaged or was replaced: choose another backup",
        )
    missing_extensions: tuple[str, ...] = ()
    missing_roles: tuple[str, ...] = ()
    part = None if said is None else said.part
    if said is not None and part is not None:
        found = extensions.check(
            admin, [(e.name, e.version) for e in part.extensions or ()], allowed=options.extensions
        )
        missing_extensions = (*found.missing, *found.refused)
        warnings += found.warnings
        if not (options.skips_acl and options.forces_owner):
            wanted = {options.role_map.get(role, role) for role in part.roles or ()}
            missing_roles = tuple(sorted(wanted - facts.role_names(admin)))
            warnings += [
                f"role {role!r} is missing: what it owned or was granted is left out" for role in missing_roles
            ]
        theirs, ours = (part.server_version_num or 0) // 10000, cluster.server_version_num // 10000
        if theirs > ours:
            warnings.append(
                f"the backup is of PostgreSQL {theirs}, this server is {ours}: what only {theirs} knows fails"
            )
        warnings += _rolled_back(choice, request.database.name, admin=admin)
        if said.database not in (None, request.database.name):
            warnings.append(f"the backup is of the database {said.database!r}")
    replaces = _replaced(admin, request.database.name, settings)
    drops_first = options.strategy == REPLACE and replaces is not None
    return RestorePlan(
        request=request,
        moment=datetime.datetime.now(datetime.timezone.utc),
        encrypted=encrypted,
        size=size,
        reads=2 if drops_first or choice.proof is None else 1,
        server_version=cluster.server_version,
        missing_extensions=missing_extensions,
        missing_roles=missing_roles,
        replaces=replaces,
        warnings=tuple(warnings),
    )


def _rolled_back(choice: Choice, name: str, *, admin: Connection) -> t.Iterator[str]:
    """Warnings about a latest backup with a lower number than the cluster has recorded: that is not rolled back."""
    if choice.found is None or not choice.found.key.endswith(layout.LATEST):
        return
    said = choice.found.manifest
    location = catalogue.location(choice.found.store, choice.found.key[: -len(layout.LATEST)])
    latest = lineage.link(said, choice.found.sha256, choice.signed_by)
    made = state.last_backup(admin, name, location=location)
    if made is not None and latest.sequence < made.sequence:
        yield (
            f"latest is {latest.number}, but this cluster has made number {made.sequence} there "
            f"({printable(made.key)}): latest was rolled back"
        )
    record = state.database_record(admin, name)
    source = None if record is None else record.restored_from
    if source is None or not source.url.startswith(location):
        return
    if latest.sequence < (source.sequence or 0):
        yield (
            f"latest is {latest.number}, but the database was restored from number {source.sequence} of "
            f"{source.created_at} ({printable(source.key)}): latest was rolled back"
        )


def _replaced(admin: Connection, name: str, settings: ConnectionSettings) -> Replaced | None:
    found = facts.replaced_facts(admin, name)
    if found is None:
        return None
    empty = False
    if found.allows_connections:
        with contextlib.closing(connect(settings, database=name)) as conn:
            empty = facts.is_empty(conn)
    return Replaced(owner=found.owner, size=found.size, sessions=found.sessions, empty=empty)


def _look_into(choice: Choice, identities: t.Sequence[t.Any]) -> tuple[int, bool]:
    """Size of the object and whether it is encrypted; identities that are given are tried on its beginning.

    Its first bytes only tell whether an identity is needed.  What the identities are tried on is proven where that is
    possible; elsewhere it is decrypted and dropped.
    """
    with contextlib.closing(choice.store.open(choice.key)) as reader:
        size = reader.size
        encrypted = age.is_encrypted(reader.read(_MAGIC_BYTES))
    if encrypted and identities:
        with _plain(choice, identities, proof=choice.proof) as plain:
            plain.peek(1)
    return size, encrypted


@contextlib.contextmanager
def _plain(
    choice: Choice,
    identities: t.Sequence[t.Any],
    *,
    proof: pipeline.Proof | None,
    advance: t.Callable[[int], None] | None = None,
) -> t.Iterator[pipeline.Decoded]:
    reader = choice.store.open(choice.key)
    with (
        contextlib.closing(reader),
        contextlib.closing(
            pipeline.decode(reader, identities=identities, expected_sha256=choice.sha256, proof=proof, advance=advance)
        ) as plain,
    ):
        yield plain


def is_encrypted(choice: Choice) -> bool:
    """Whether the chosen object needs an age identity; its first bytes are read."""
    return _look_into(choice, ())[1]


def plan(request: Request, *, settings: ConnectionSettings, reporter: Reporter | None = None) -> outcome.Outcome:
    """Say what :func:`restore` would do.  Nothing is changed."""
    with contextlib.closing(connect(settings)) as admin:
        made = plan_restore(request, admin=admin, settings=settings)
    return outcome.Outcome(request.database.name, PLANNED, made.as_dict())


def restore(request: Request, *, settings: ConnectionSettings, reporter: Reporter | None = None) -> outcome.Outcome:
    """Restore one database.  Until the swap, which comes last, nothing of the old one is touched.

    With the strategy ``replace`` the old one is dropped before the new one is filled, but only after the backup was
    read and checked as a whole.
    """
    reporter = reporter or Silent()
    with lock.locked_session(settings, request.database.name, doing="restore") as (admin, held):
        made = plan_restore(request, admin=admin, settings=settings)
        if made.encrypted and not request.identities:
            raise IdentityMissing(
                f"{request.choice.url} is encrypted and no age private key was given",
                hint="give backup_age_private_key in the list of databases, or age_private_key",
            )
        if made.missing_extensions:
            raise RestoreRefused(
                "extensions of the backup can't be made on this server",
                cause="; ".join(made.missing_extensions),
                hint="nothing was changed: provide them and run again",
            )
        return _Restore(made, settings=settings, admin=admin, held=held, reporter=reporter).run()


_DROPPED = "the database itself was dropped for want of room, and is missing until a restore of it succeeds"


class _Restore:
    """A restore under way, under its lock."""

    def __init__(
        self,
        made: RestorePlan,
        *,
        settings: ConnectionSettings,
        admin: Connection,
        held: lock.Lock,
        reporter: Reporter,
    ) -> None:
        self.plan = made
        self.choice = made.request.choice
        self.options = made.request.options
        self.name = made.request.database.name
        self.owner = made.request.database.user
        self.settings = settings
        self.admin = admin
        self.held = held
        self.reporter = reporter
        restore_id = secrets.token_hex(4)
        self.restore_id = restore_id
        self.stage = names.stage_name(self.name, restore_id)
        self.kept_name = names.replaced_name(self.name, restore_id)
        self.role = names.loader_role(restore_id)
        self.proof = self.choice.proof
        self.sha256 = self.choice.sha256
        self.search_path: list[str] | None = None
        self.warnings = list(made.warnings)
        # Settings that the new database gets instead of those of the one in its place: of one that was dropped.
        self.before: database_settings.DatabaseSettings | None = None
        self.limits = limits.Limits(self.name, seconds=self.options.timeout.total_seconds())

    def run(self) -> outcome.Outcome:
        """Do all of it, or nothing, within the limits of time and size."""
        with self.limits, self.limits.holding(self.admin, to_tidy_up=True):
            return self._run()

    def _run(self) -> outcome.Outcome:
        started = time.monotonic()
        leftovers.remove_of(self.admin, self.name, settings=self.settings)
        record = state.database_record(self.admin, self.name)
        if record is not None and record.dropped is not None:
            self.before = database_settings.DatabaseSettings.from_dict(record.dropped)
        like = self._creation()
        if self.options.strategy == REPLACE and self.plan.replaces is not None:
            with self.limits.enforced():
                self._clear_the_way(record)
        if self.proof is None:
            with self.limits.enforced():
                self._prove()
        try:
            with self.limits.enforced():
                state.begin_restore(self.admin, self.restore_id, database=self.name, stage=self.stage, role=self.role)
                loaded = self._fill(like)
            self.limits.disarm()
            self.held.check()
            swapped = self._put_in_place()
        except BaseException as exc:
            # What can't be removed now is on record: the next restore of this database removes it.
            with contextlib.suppress(PostgresError):
                self._tidy_up()
            if self.before is not None and isinstance(exc, EngineError):
                exc.hint = "; ".join(filter(None, [exc.hint, _DROPPED]))
            raise
        # The restore has succeeded: what fails from here on is told, and left to later runs.
        self.warnings += swapped.warnings
        with self._warned():
            self._tidy_up()
        kept = swapped.kept
        with self._warned():
            if kept is not None and self._is_disposable(kept):
                staging.drop_database(self.admin, kept)
                state.forget_replaced(self.admin, kept)
                kept = None
        with self._warned():
            self.warnings += self._drop_mapped_roles()
        details = {
            **self.plan.as_dict(),
            "sha256": self.sha256,
            "rows": sum(loaded.rows.values()),
            "tables": len(loaded.rows),
            "verified": self.choice.manifest is not None and self.choice.manifest.tables is not None,
            "kept_as": kept,
            "duration_seconds": round(time.monotonic() - started, 3),
            "skipped": [str(skipped) for skipped in loaded.skipped],
            "warnings": self.warnings,
        }
        self.reporter.stage(self.name, "done", f"restored from {self.choice.url}")
        return outcome.Outcome(self.name, RESTORED, details)

    def _tidy_up(self) -> None:
        """Remove what this restore made for itself, and then the record of it."""
        leftovers.remove(self.admin, self.stage, self.role, self.restore_id, settings=self.settings)

    @contextlib.contextmanager
    def _warned(self) -> t.Iterator[None]:
        try:
            yield
        except PostgresError as exc:
            self.warnings.append(str(exc))

    def _is_disposable(self, kept: str) -> bool:
        """Whether nobody wants the replaced database any more: not asked for, or there is nothing in it."""
        if not self.options.keep_replaced:
            return True
        replaced = self.plan.replaces
        if replaced is None or not replaced.empty:
            return False
        # Somebody may have begun to use it while the backup was loaded.
        with contextlib.closing(connect(self.settings, database=kept)) as conn:
            return facts.is_empty(conn)

    def _creation(self) -> database_settings.Creation:
        """How the new database is made: like the one it replaces if that holds anything, else as the backup says."""
        if self.before is not None:
            return self.before.creation
        said, replaced = self.choice.manifest, self.plan.replaces
        part = None if said is None else said.part
        if replaced is not None and (not replaced.empty or part is None or part.encoding is None):
            return database_settings.capture(self.admin, self.name).creation
        if part is None or part.encoding is None:
            return database_settings.Creation()
        return database_settings.Creation(
            encoding=part.encoding,
            provider=part.locale_provider,
            collate=part.collate,
            ctype=part.ctype,
            locale=part.icu_locale,
        )

    def _prove(self) -> None:
        """Read the object as a whole before anything in it is executed; the second reading is compared with this."""
        self.reporter.stage(self.name, "check", f"reading {self.choice.url} once to check it", total=self.plan.size)
        with self.limits.sources() as stack:
            reader = stack.enter_context(contextlib.closing(self.choice.store.open(self.choice.key)))
            first = pipeline.FirstReading(reader, expected_sha256=self.choice.sha256, advance=self._advance)
            self.limits.closing(stack.enter_context(contextlib.closing(first)))
            self.proof = first.prove()
        self.sha256 = self.proof.sha256

    def _clear_the_way(self, record: DatabaseRecord | None) -> None:
        """For want of room: prove the backup to its last byte, then drop the old database."""
        self.reporter.stage(self.name, "check", f"reading {self.choice.url} once to check it", total=self.plan.size)
        with self.limits.sources() as stack:
            plain = self._object(stack)
            self._compare({table.name: table.rows for table in tally.check(self._as_text(plain, stack))})
            self.proof = plain.proof
        self.sha256 = self.proof.sha256
        self.limits.text_bytes = 0  # it is read once more
        if self.options.on_connections == REFUSE:
            sessions.require_no_sessions(self.admin, self.name)
        before = self.before or database_settings.capture(self.admin, self.name)
        # From here on there is no database to be backed up until the restore has succeeded, and its settings have no
        # other place.
        state.record_outcome(self.admin, self.name, OUTSTANDING, dropped=before.as_dict())
        self.reporter.stage(self.name, "drop", "dropping the old database, for want of room")
        try:
            staging.drop_database(self.admin, self.name)
        except PostgresError:
            with contextlib.suppress(PostgresError):
                state.put_back(self.admin, self.name, record)
            raise
        self.before = before

    def _advance(self, count: int) -> None:
        self.reporter.advance(self.name, count)

    def _object(self, stack: contextlib.ExitStack) -> pipeline.Decoded:
        """The decoded object, until *stack* is left."""
        plain = stack.enter_context(
            _plain(self.choice, self.plan.request.identities, proof=self.proof, advance=self._advance)
        )
        self.limits.closing(plain)
        return plain

    def _as_text(self, plain: pipeline.Decoded, stack: contextlib.ExitStack) -> pipeline.Readable:
        text = stack.enter_context(archive.as_text(plain, server_version_num=self.admin.info.server_version))
        return self.limits.text(text)

    def _text(self, stack: contextlib.ExitStack) -> pipeline.Readable:
        """The text of the dump, whatever form the object has, until *stack* is left."""
        return self._as_text(self._object(stack), stack)

    def _most(self, text_bytes: int) -> int | None:
        """How large the new database may be when so many bytes of the dump's text were read."""
        said = self.choice.manifest
        return restoring.size_limit(
            self.options.max_size,
            plaintext_size=None if said is None else said.plaintext_size,
            rows=None if said is None else said.rows,
            text_bytes=text_bytes,
        )

    def _fill(self, like: database_settings.Creation) -> load.LoadResult:
        self.reporter.stage(self.name, "load", f"loading {self.choice.url}", total=self.plan.size)
        loader_role.create_loader_role(
            self.admin, self.role, temp_file_limit=self._most(restoring.text_bytes_of(self.plan.size))
        )
        staging.create_stage(self.admin, self.stage, loader=self.role, like=like)
        with (
            self.limits.bounded(self.settings, self.stage, self._most),
            contextlib.closing(connect(self.settings, database=self.stage)) as stage_admin,
            self.limits.holding(stage_admin),
        ):
            staging.open_stage(stage_admin, self.role)
            helper = extensions.StageAdministrator(stage_admin, loader=self.role, allowed=self.options.extensions)
            with (
                contextlib.closing(
                    loader_role.connect_loader(self.settings, self.admin, database=self.stage, role=self.role)
                ) as loader,
                self.limits.holding(loader),
            ):
                with self.limits.sources() as stack:
                    loaded = load.load(
                        events.read(self._text(stack)),
                        connection=loader,
                        admin=helper,
                        options=load.LoadOptions(
                            skip_acl=self.options.skips_acl,
                            role_map=self.options.role_map,
                            statement_seconds=self.options.statement_timeout.total_seconds(),
                        ),
                    )
                self._compare(loaded.rows)
                self.reporter.stage(self.name, "analyze", "gathering statistics")
                load.analyze(loader)
            loader_role.shut_out(stage_admin, self.role)
            staging.close_stage(stage_admin, self.stage)
            staging.roll_back_prepared(stage_admin)
            self.reporter.stage(self.name, "own", f"handing everything to {self.owner}")
            taken = ownership.take_over(
                stage_admin,
                owner=self.owner,
                loader=self.role,
                owner_changes=() if self.options.forces_owner else loaded.owner_changes,
                trusted_owners=frozenset(self.options.role_map.values()),
            )
            if self.options.grant_app_user:
                ownership.grant_all(stage_admin, self.owner, owns_database=True)
            if self.options.set_search_path:
                self.search_path = list(self.options.search_path) or ownership.choose_search_path(stage_admin)
            self.warnings += [*loaded.warnings, *taken.warnings]
        return loaded

    def _compare(self, rows: t.Mapping[str, int]) -> None:
        """The server's own counts with those of the manifest."""
        said = self.choice.manifest
        if said is None or said.tables is None:
            return
        expected = {table.name: table.rows for table in said.tables}
        if expected == dict(rows):
            return
        table = min(key for key in {*expected, *rows} if expected.get(key) != rows.get(key))
        counts = f"{rows.get(table, 'no')} rows loaded, {expected.get(table, 'no')} in the manifest"
        raise ChecksumMismatch(
            f"the rows of {self.choice.url} are not those that its manifest counts",
            phase="load",
            cause=f"{printable(table)}: {counts}",
            hint="choose another backup; nothing was replaced",
        )

    def _put_in_place(self) -> swap.SwapResult:
        self.reporter.stage(self.name, "swap", "putting the restored database in place")
        found, made = self.choice.found, self.choice.created_at

        def record(kept: str | None) -> None:
            state.record_outcome(
                self.admin,
                self.name,
                RESTORED,
                restored_from=RestoredFrom(
                    url=self.choice.url,
                    key=self.choice.key,
                    sha256=self.sha256 or "",
                    created_at=None if made is None else made.strftime("%Y-%m-%dT%H:%M:%SZ"),
                    manifest_sha256=None if found is None else found.sha256,
                    system_identifier=None if found is None else found.manifest.system_identifier,
                    sequence=found.manifest.sequence if found is not None and self.choice.proven else None,
                ),
            )
            # Not before: what the replaced database had for the role is carried over in this transaction.
            if self.search_path is not None:
                ownership.set_search_path(self.admin, database=self.name, role=self.owner, path=self.search_path)
            if kept is not None:
                state.record_replaced(self.admin, kept, database=self.name, keep=self.options.keep_replaced)
            # Right before the commit: another run may be at work by now.
            self.held.check()

        with contextlib.closing(connect(self.settings)) as helper:
            return swap.swap(
                self.admin,
                helper,
                database=self.name,
                stage=self.stage,
                keep_as=self.kept_name,
                owner=self.owner,
                record=record,
                on_connections=self.options.on_connections,
                settings=self.before,
                public_connect=self.options.public_connect,
            )

    def _drop_mapped_roles(self) -> t.Sequence[str]:
        mapping = self.options.role_map
        if not mapping or not self.options.drop_mapped_roles:
            return ()
        protected = {*self.options.protected_roles, *mapping.values(), self.owner}
        return ownership.drop_mapped_roles(self.admin, mapping, protected=protected).warnings


# Many ---------------------------------------------------------------------------------------------------------------


def restore_all(
    entries: t.Sequence[Database],
    *,
    settings: ConnectionSettings,
    store: Store,
    options: RestoreOptions,
    source: str | None = None,
    identity: Secret | None = None,
    expected_sha256: str | None = None,
    outstanding_only: bool = False,
    plan_only: bool = False,
    jobs: int = 1,
    reporter: Reporter | None = None,
) -> outcome.Summary:
    """Restore each of *entries* from what its entry says, or one of them from *source*.

    :param identity: instead of the entries' own.
    :param outstanding_only: only those whose restore is outstanding; a database without any backup is recorded as
        empty, one whose entry names none any more as skipped, and when nothing is outstanding any more the bootstrap
        is finished.
    :param plan_only: say what would be done.
    :param jobs: databases that are restored at the same time; one that takes long holds up no other.
    """
    if jobs < 1:
        raise ConfigurationError("jobs must be at least 1")
    if len(entries) != 1 and (source, expected_sha256) != (None, None):
        raise ConfigurationError("source and expected_sha256 go with one database", hint="name it with only")
    by_name = {entry.name: entry for entry in entries}
    with contextlib.closing(connect(settings)) as admin:
        wanted = frozenset(state.outstanding(admin)) if outstanding_only else frozenset(by_name)

    recording = outstanding_only and not plan_only

    def work(name: str) -> outcome.Outcome:
        entry = by_name[name]
        text = source or default_source(entry)
        if name not in wanted:
            return outcome.Outcome(name, SKIPPED, {"reason": "no restore is outstanding"})
        if text is None:
            if recording:
                _record(name, SKIPPED, settings=settings)
            return outcome.Outcome(name, SKIPPED, {"reason": "the entry names no backup"})
        try:
            choice = choose(store, text, database=entry, trust=options.trust, expected_sha256=expected_sha256)
        except NotFound as exc:
            if source is not None or not entry.restore_latest or isinstance(exc, Deleted):
                raise
            reason = _no_backup(entry, store)
            if recording:
                _record(name, EMPTY, settings=settings)
            return outcome.Outcome(name, EMPTY, {"reason": reason})
        key = identity or entry.identity
        request = Request(
            database=entry,
            choice=choice,
            options=options,
            identities=() if key is None else tuple(age.parse_identities([key])),
        )
        return (plan if plan_only else restore)(request, settings=settings, reporter=reporter)

    # Not by each restore: it would hold the lock of a database that another one is about to restore.
    warnings = [] if plan_only else leftovers.remove_all(settings)
    summary = outcome.run_each(list(by_name), work, jobs=jobs, warnings=warnings)
    if recording:
        with contextlib.closing(connect(settings)) as admin:
            if state.exists(admin):
                state.finish_bootstrap(admin)
    return summary


def default_source(entry: Database) -> str | None:
    """What the entry says it is to be restored from; ``None``: nothing."""
    return layout.latest_key(entry.prefix) if entry.restore_latest else entry.restore_dump_path or None


def _record(name: str, restore: str, *, settings: ConnectionSettings) -> None:
    with lock.locked_session(settings, name, doing="restore") as (admin, _held):
        state.record_outcome(admin, name, restore)


def _no_backup(entry: Database, store: Store) -> str:
    """The store says that there is no latest backup.  Believed only where there is no other one either."""
    others = sum(layout.moment_of(info.key) is not None for info in store.list(entry.prefix))
    if others:
        raise RestoreRefused(
            f"{store.url(layout.latest_key(entry.prefix))} is missing, but {others} objects of backups are there",
            cause="it was deleted, or never written; who made the other objects is not known",
            hint="find out who deletes from the store; a backup named in restore_dump_path, with restore_latest false, "
            "is restored if a host that you trust has signed it",
        )
    return f"{store.location} holds no backup of it"


def difference(result: outcome.Outcome) -> dict[str, t.Any]:
    """What a restore changed, or would, as Ansible's diff shows it."""
    details = result.details
    replaced = details.get("replaces")
    before = "absent" if replaced is None else f"{replaced['size']} bytes, owner {printable_name(replaced['owner'])}"
    source, owner = printable_name(str(details.get("source"))), printable_name(str(details.get("owner")))
    return {
        "before_header": result.database,
        "after_header": result.database,
        "before": f"{before}\n",
        "after": f"{source} of {details.get('created_at')}, owner {owner}\n",
    }
