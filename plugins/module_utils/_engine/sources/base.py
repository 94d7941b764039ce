# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""What a backup and a restore need from a source: whatever holds databases, such as a PostgreSQL server.

The use cases know only these protocols.  Each kind of source implements them in a package of its own, which
:mod:`.registry` lists.  Nothing here is about SQL: a source gives the stream of a dump, fills a staged copy from such a
stream, swaps that copy with the database, and keeps records of what was done.
"""

from __future__ import annotations

import dataclasses
import datetime
import typing as t

from ..domain.cluster_plan import CreateRole, GlobalsPlan
from ..domain.records import BackupRecord, DatabaseRecord, RestoredFrom
from ..errors import LoadError, RestoreRefused
from ..settings import name_for_errors

if t.TYPE_CHECKING:
    import contextlib

    from ..domain.cluster import Globals
    from ..domain.databases import Database
    from ..domain.manifest import Part
    from ..domain.nodes import Node
    from ..domain.restoring import RestoreOptions
    from ..errors import EngineError
    from ..reporting import Reporter
    from ..streams.pipeline import Decoded

HEAD_SIZE = 16 * 1024
"""Bytes of a dump that a source needs to recognize it."""

# Backups ------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Facts:
    """A database before its backup.

    :param system_identifier: what tells this source from all others of its kind.
    :param size: bytes that the database takes.
    :param keeps_records: whether the source can record anything now; a standby can't.
    :param part: what the manifest will say of the source, as far as it is known before the dump.
    :param warnings: what would keep a restore from bringing the database back as it is.
    """

    system_identifier: str
    size: int
    keeps_records: bool
    part: Part
    warnings: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Health:
    """A source as a check of the host sees it.

    :param version: of the server.
    :param standby: whether it follows another server.
    :param clock_offset: seconds that its clock is ahead of this host's.
    :param databases: size in bytes of each database that exists.
    :param outstanding: databases that wait for their restore.
    :param unfinished: whether a bootstrap has begun and not finished.
    :param dump_program: what would dump a database; an error says why nothing can.
    :param data_directory: where its files are, if they are on this host.
    """

    version: str
    standby: bool
    clock_offset: float
    databases: t.Mapping[str, int]
    outstanding: tuple[str, ...]
    unfinished: bool
    dump_program: str | EngineError
    data_directory: str | None


@dataclasses.dataclass(frozen=True)
class RestoreRules:
    """The rules by which a backup is judged while it streams: would a restore bring all of it back?

    :param options: of the host's restores.
    :param signed: whether the backup will be signed.
    :param required: whether what a restore would refuse or leave out makes the backup fail.
    """

    options: RestoreOptions
    signed: bool
    required: bool = False


class Dump(t.Protocol):
    """The stream of a dump."""

    def read(self, n: int, /) -> bytes:
        """Up to *n* bytes; ``b""`` only at the end of a dump that is proven to be whole."""

    def close(self) -> None:
        """End the dump; a read that waits for it returns."""

    @property
    def part(self) -> Part:
        """All that the manifest says of the source; after the proven end only."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a restore would refuse or leave out; after the proven end only."""


class Contents(t.Protocol):
    """The plain bytes of a backup as they stream by, compared with what its manifest says of them."""

    def feed(self, chunk: bytes, /) -> None:
        """Take the next piece, which may have any size and end anywhere."""

    def finish(self) -> None:
        """Compare, after the proven end.

        :raises ChecksumMismatch: if the contents are not those that the manifest describes.
        """


# Restores -----------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class RecordedGlobals:
    """A backup of a cluster's globals, which was verified.

    :param signed_by: name and fingerprint of the key that signed it.
    """

    globals: Globals
    origin: RestoredFrom
    signed_by: dict[str, str] | None
    warnings: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class GlobalsReport:
    """What a restore of globals has done, or would do.

    :param steps: the steps, which are done unless it is a plan.
    :param warnings: of the backup, and about what the server has not accepted.
    """

    recorded: RecordedGlobals
    steps: GlobalsPlan
    warnings: tuple[str, ...] = ()

    @property
    def changed(self) -> bool:
        """Whether any role is, or would be, changed."""
        return bool(self.steps.steps)

    @property
    def plan(self) -> tuple[str, ...]:
        """The steps as sentences."""
        return tuple(map(str, self.steps.steps))

    def as_dict(self) -> dict[str, t.Any]:
        """As plain data; no value of a setting and no verifier is in it."""
        return {
            "source": self.recorded.origin.url,
            "created_at": self.recorded.origin.created_at,
            "signed_by": self.recorded.signed_by,
            "created": list(self.steps.created),
            "plan": list(self.plan),
            "listed": list(self.steps.listed),
            "warnings": list(self.warnings),
        }

    def diff(self) -> dict[str, str]:
        """As Ansible shows differences; no secret."""
        before, after = [], []
        for step in self.steps.steps:
            if isinstance(step, CreateRole):
                before.append(f"role {step.role.name!r}: absent\n")
                password = "set" if step.role.password is not None else "none"
                after.append(f"role {step.role.name!r}: login {'yes' if step.login else 'no'}, password {password}\n")
            else:
                after.append(f"{step}\n")
        return {"before": "".join(before), "after": "".join(after)}


@dataclasses.dataclass(frozen=True)
class Replaced:
    """The database that a restore replaces.

    :param identity: what tells it from another one that takes its name.
    :param size: bytes.
    :param sessions: connections to it at the moment.
    :param empty: whether it contains nothing, so that there is nothing to keep.
    """

    identity: str
    owner: str
    size: int
    sessions: int
    empty: bool


@dataclasses.dataclass(frozen=True)
class Kept:
    """A database that was replaced and is kept for a while.

    :param name: its present name.
    :param database: the database that it was.
    :param size: bytes.
    :param sessions: connections to it at the moment.
    :param restored_from: what it had been restored from; ``None``: nothing, or that is unknown.
    """

    name: str
    database: str
    size: int
    sessions: int
    replaced_at: datetime.datetime
    drop_after: datetime.datetime
    restored_from: RestoredFrom | None = None

    def as_dict(self) -> dict[str, t.Any]:
        """As plain data."""
        source = self.restored_from
        return {
            "name": self.name,
            "replaced_at": f"{self.replaced_at.astimezone(datetime.timezone.utc):%Y-%m-%dT%H:%M:%SZ}",
            "drop_after": f"{self.drop_after.astimezone(datetime.timezone.utc):%Y-%m-%dT%H:%M:%SZ}",
            "size": self.size,
            "sessions": self.sessions,
            "restored_from": None if source is None else source.url,
        }


@dataclasses.dataclass(frozen=True)
class Room:
    """The space for one more database.

    :param free: bytes that are free where its files will be; ``None``: unknown.
    :param wal: bytes of them that the server's log of changes may take meanwhile.
    :param kept: the replaced databases that are kept, oldest first.
    """

    free: int | None
    wal: int = 0
    kept: tuple[Kept, ...] = ()


@dataclasses.dataclass(frozen=True)
class Fit:
    """How a backup fits the source that it is to be restored to.

    :param details: facts for the report of a plan, as plain data.
    :param refusal: why it can't be restored here; ``None``: it can.
    """

    details: t.Mapping[str, t.Any]
    refusal: RestoreRefused | None = None
    warnings: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Task:
    """One restore, as the source needs to know it.

    :param part: what the manifest says of the source; ``None``: no manifest describes it.
    :param url: of the backup, for reports.
    :param size: bytes of the backup's object.
    :param replaces: the database that is there now.
    :param proven: whether an accepted host signed that the backup is of this database, or of the one that it is a copy
        of.
    :param copy_of: the database beside which *database* is a copy; ``None``: *database* itself is restored.
    :param most: bytes that the staged copy may take once so many bytes of the dump have been read; ``None``: any.
    """

    database: Database
    options: RestoreOptions
    part: Part | None
    proven: bool
    url: str
    size: int
    replaces: Replaced | None
    most: t.Callable[[int], int | None]
    reporter: Reporter
    copy_of: str | None = None

    @property
    def subject(self) -> str:
        """The database that reports name: the one whose backup is restored."""
        return self.copy_of or self.database.name


@dataclasses.dataclass(frozen=True)
class Loaded:
    """What was loaded into a staged copy.

    :param rows: rows of each table, as the source itself counted them, by the table's name in the dump.
    :param digests: of these rows, as the manifest has them; empty: the backup has no key for them.
    :param skipped: what was left out, in words.
    :param failed: what failed, in words, if the load went on.
    :param failed_tables: tables of which rows are therefore missing, by their names in the dump.
    :param left_out: rows of each table that was not chosen, as the reader counted them; none of them was loaded.
    """

    rows: t.Mapping[str, int]
    digests: t.Mapping[str, str]
    skipped: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    failed_tables: frozenset[str] = frozenset()
    left_out: t.Mapping[str, int] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Swapped:
    """The end of a restore.

    :param kept: the name under which the replaced database is kept; ``None``: it is not.
    """

    kept: str | None
    warnings: tuple[str, ...] = ()


class Closable(t.Protocol):
    """Something whose reads fail once it is closed."""

    def close(self) -> None:
        """Give up what is held; a second call does nothing."""


class Limits(t.Protocol):
    """The limits of one restore."""

    def enforced(self) -> contextlib.AbstractContextManager[None]:
        """Make whatever fails inside, after a limit was reached, fail because of that limit."""

    def sources(self) -> contextlib.AbstractContextManager[contextlib.ExitStack]:
        """A stack for whatever the backup is read from.  Once a limit was reached, nobody waits until it is closed."""

    def closing(self, source: Closable, /) -> None:
        """Close *source*, which is in the stack of :meth:`sources`, when a limit is reached."""

    def disarm(self) -> None:
        """End nothing any more from here on; raises if a limit was reached before."""


def out_of_time(database: str, seconds: float) -> LoadError:
    """Return the error of a restore that took longer than it may."""
    return LoadError(
        f"the restore of {database!r} exceeded its time limit",
        cause=f"it was not complete after {seconds:g} seconds",
        hint=f"find out what it was waiting for; if it needs this time, raise {name_for_errors('restore', 'timeout')}",
    )


def nothing_kept(database: str) -> RestoreRefused:
    """Return the error that no previous database can be swapped in again."""
    return RestoreRefused(
        f"no previous database of {database!r} is kept",
        phase="plan",
        cause="none was replaced, or it was dropped when its time was over",
        hint="restore a backup; infrazero-database list shows them",
    )


#: Opens the backup for one reading: the plain bytes, until the stack is left.
Open = t.Callable[["contextlib.ExitStack"], "Decoded"]


class Staging(t.Protocol):
    """The staged copy of one restore, from its creation to its end.

    :meth:`load` and :meth:`finish` without :meth:`swap` are a verification: the copy is complete and was compared, and
    :meth:`discard` leaves nothing of it.
    """

    @property
    def limits(self) -> Limits:
        """What the restore may take."""

    @property
    def dropped(self) -> bool:
        """Whether the database itself is missing, dropped to make room by this restore or an earlier one."""

    def check(self, source: Open, /) -> t.Mapping[str, int]:
        """Read the backup to its end, load nothing, and return the rows of each table."""

    def make_room(self) -> None:
        """Drop the database before its successor is there, for hosts without the space for both."""

    def load(self, source: Open, /) -> Loaded:
        """Create the staged copy and fill it."""

    def finish(self) -> tuple[str, ...]:
        """Make the loaded copy ready to be swapped in; warnings come back."""

    def swap(self, origin: RestoredFrom, /) -> Swapped:
        """Swap the copy in and record *origin*, all or nothing."""

    def settle(self, swapped: Swapped, /) -> Swapped:
        """Tidy up after a swap; what fails is a warning, because the restore has succeeded."""

    def discard(self) -> None:
        """Remove the staged copy and all that was created for it."""


# Sources ------------------------------------------------------------------------------------------------------------


class Session(t.Protocol):
    """A look at a source; nothing is changed through it."""

    @property
    def kind(self) -> str:
        """The kind of the source, as a manifest's ``source`` names it."""

    def health(self) -> Health:
        """The source as a check of the host sees it."""

    def facts(self, database: Database, /) -> Facts:
        """The database before its backup."""

    def require_dump(self, head: bytes, /) -> None:
        """Raise unless a dump that this source restores may begin with *head*, its first :data:`HEAD_SIZE` bytes.

        :raises ForeignFormat: with the name of what it is instead, and the remedy.
        """

    def require_tables(self, plain: Decoded, /, *, part: Part | None, tables: t.Sequence[str]) -> None:
        """Raise unless the dump *plain* has all of *tables*, as far as its beginning tells.

        :raises RestoreRefused: naming the most similar table.
        """

    def globals_facts(self, *, passwords: bool) -> Facts:
        """The globals of the cluster before their backup.

        :param passwords: whether the verifiers of passwords belong to them.
        """

    def fit(self, database: Database, part: Part | None, options: RestoreOptions, /) -> Fit:
        """How a backup of which the manifest says *part* fits this source.

        :param database: that is restored.
        """

    def replaced(self, name: str, /) -> Replaced | None:
        """The database that a restore of *name* would replace; ``None``: there is none."""

    def kept(self, name: str, /) -> tuple[Kept, ...]:
        """The databases that *name* has replaced and that are still there, oldest first."""

    def require_copy(self, name: str, /) -> None:
        """Raise unless a copy may be called *name*: there is no such database, or it is an earlier copy.

        :raises RestoreRefused: with the remedy.
        """

    def room(self, *, like: str | None) -> Room:
        """The space for one more database.

        :param like: the database that it will be created like; ``None``: like a new one.
        """

    def record(self, name: str, /) -> DatabaseRecord | None:
        """What is recorded of a database."""

    def last_backup(self, name: str, /, *, location: str) -> BackupRecord | None:
        """The last backup of a database that this source has recorded for a place."""


class LockedSession(Session, t.Protocol):
    """Work on one database, under its lock."""

    def check_lock(self) -> None:
        """Raise LockHeld unless the lock is still held; to be called before steps that others see."""

    def dump(
        self,
        name: str,
        part: Part,
        *,
        rules: RestoreRules,
        lock_wait_seconds: int,
        advance: t.Callable[[int], None],
    ) -> contextlib.AbstractContextManager[Dump]:
        """The dump of a database.

        :param part: of its :class:`Facts`.
        :param rules: by which the dump is judged.
        :param lock_wait_seconds: how long to wait for whatever somebody else has locked.
        :param advance: is passed the size of each piece.
        """

    def dump_globals(
        self, part: Part, *, passwords: bool, advance: t.Callable[[int], None]
    ) -> contextlib.AbstractContextManager[Dump]:
        """The text of the globals of the cluster; see :meth:`dump` and :meth:`globals_facts`."""

    def record_backup(self, made: BackupRecord, /) -> None:
        """Record the backup that has become the latest one."""

    def record_outcome(self, name: str, status: str, /) -> None:
        """Record that nothing was restored, and why: a status of :mod:`..domain.records`."""

    def undo(
        self, name: str, /, *, keep: datetime.timedelta, on_connections: t.Literal["terminate", "refuse"]
    ) -> Swapped:
        """Swap the database that *name* replaced last in again, all or nothing.

        :param keep: how long the present database is kept.
        """

    def drop_kept(self, name: str, kept: str, /) -> None:
        """Drop the database *kept*, which *name* has replaced."""

    def staging(self, task: Task, /) -> contextlib.AbstractContextManager[Staging]:
        """The staged copy of a restore; what killed restores of the database have left is removed first."""


class CheckedDump(t.Protocol):
    """The bytes of a dump, which are checked as they are read."""

    @property
    def is_text(self) -> bool:
        """Whether they are text, in which rows are counted."""

    def read(self, n: int, /) -> bytes:
        """Up to *n* bytes; ``b""`` only at the end of a dump that is proven to be whole."""

    @property
    def rows(self) -> t.Mapping[str, int]:
        """Rows of each table of a text, by its name in the dump; after the proven end only."""

    @property
    def digests(self) -> t.Mapping[str, str]:
        """Digests of these rows, as a manifest has them; empty: the backup has no key for them."""


class Source(t.Protocol):
    """Whatever holds databases."""

    @property
    def kind(self) -> str:
        """As a manifest's ``source`` names it."""

    def checked(self, plain: Decoded, /) -> CheckedDump:
        """The dump *plain* as it is; the source itself is not asked.

        :raises ForeignFormat: if it is none.
        """

    @property
    def warnings(self) -> tuple[str, ...]:
        """What could happen to the sessions on their way to the source."""

    def node(self) -> Node:
        """Which node of its cluster this is."""

    def session(self) -> contextlib.AbstractContextManager[Session]:
        """A session that changes nothing."""

    def locked(self, name: str, /, *, doing: str) -> contextlib.AbstractContextManager[LockedSession]:
        """A session under the lock of a database.

        :param doing: ``backup`` or ``restore``: shown to others who find the lock held.
        :raises LockHeld: at once, if somebody else holds it.
        """

    def remove_leftovers(self) -> list[str]:
        """Remove what killed restores have left; returns why something could not be removed."""

    def expire_replaced(self, listed: t.Collection[str], /) -> list[str]:
        """Drop the replaced databases and the copies whose time is over; returns why one could not be dropped.

        :param listed: databases of the list; none of them is a copy any more.
        """

    def outstanding(self) -> frozenset[str]:
        """The databases that wait for their restore."""

    def restore_globals(self, recorded: RecordedGlobals, /, *, privileges: bool, plan_only: bool) -> GlobalsReport:
        """Create the roles of *recorded* that are missing.

        :param privileges: see :func:`..domain.cluster_plan.plan_globals`.
        :param plan_only: change nothing.
        """

    def finish_bootstrap(self) -> None:
        """Record that the bootstrap is finished, if nothing is outstanding any more."""
