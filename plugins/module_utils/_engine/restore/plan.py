# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The plan of a restore: what it would do, and whether it can succeed."""

from __future__ import annotations

import dataclasses
import datetime
import threading
import typing as t

from ..domain import human, layout, lineage, manifest
from ..domain.databases import Database
from ..domain.restoring import REPLACE, Estimate, RestoreOptions, estimate
from ..errors import ChecksumMismatch, IdentityMissing, RestoreRefused
from ..printing import printable, printable_name, shell_word
from ..settings import name_for_errors
from ..sources.base import Fit, Kept, Replaced, Room, Session, out_of_time
from ..stores import catalogue
from .choose import Choice, explained, look_into, plain

_Result = t.TypeVar("_Result")


@dataclasses.dataclass(frozen=True)
class Request:
    """A requested restore.

    :param database: the database to be restored, and the user who will own it.
    :param identities: parsed age identities, see :func:`.streams.age.parse_identities`.
    """

    database: Database
    choice: Choice
    options: RestoreOptions
    identities: tuple[t.Any, ...] = ()

    @property
    def target(self) -> Database:
        """The database that is created or replaced: *database*, or a copy beside it."""
        name = self.options.as_name
        return self.database if name is None else dataclasses.replace(self.database, name=name)


#: The most databases that an error offers to be dropped.
_MOST_KEPT = 5


@dataclasses.dataclass(frozen=True)
class Space:
    """The space that a restore takes, and what there is of it.

    :param estimate: of the restored database; ``None``: nothing says how large it will be.
    :param wal: bytes that WAL may take of the same space meanwhile; never more than the database.
    :param available: bytes, with those of a database that is dropped first; ``None``: unknown.
    :param kept: replaced databases that are kept, and could be dropped.
    """

    estimate: Estimate | None
    wal: int
    available: int | None
    kept: tuple[Kept, ...] = ()

    @classmethod
    def of(cls, expected: Estimate | None, room: Room, *, freed: int) -> Space:
        """What *room* is for a database of the *expected* size, once so many bytes of it were *freed*."""
        wal = 0 if expected is None else min(room.wal, expected.size)
        return cls(expected, wal, None if room.free is None else room.free + freed, room.kept)

    @property
    def needed(self) -> int | None:
        """Bytes in all; ``None``: unknown."""
        return None if self.estimate is None else self.estimate.size + self.wal

    @property
    def suffices(self) -> bool:
        """Whether there is enough, as far as that is known."""
        return self.needed is None or self.available is None or self.needed <= self.available

    def as_dict(self) -> dict[str, t.Any]:
        """As plain data."""
        return {
            "needed": self.needed,
            "wal": self.wal,
            "estimated_from": None if self.estimate is None else self.estimate.basis,
            "available": self.available,
        }


@dataclasses.dataclass(frozen=True)
class RestorePlan:
    """What a restore would do.

    :param encrypted: whether the object needs an age identity.
    :param size: bytes of the object.
    :param reads: how often the object is read.  Twice if no signature proves its chunks one by one, because nothing of
        it may be executed before all of it was checked, and if the old database is dropped first.
    :param fit: how the backup fits the source that it is restored to.
    :param room: what the source has for one more database.
    :param kept: databases that were replaced before and are still kept, oldest first.
    """

    request: Request
    moment: datetime.datetime
    encrypted: bool
    size: int
    reads: int
    fit: Fit
    replaces: Replaced | None
    room: Room
    warnings: tuple[str, ...]
    kept: tuple[Kept, ...] = ()

    @property
    def drops_first(self) -> bool:
        """Whether the database is dropped before its successor is filled.  An earlier copy never is."""
        options = self.request.options
        return options.strategy == REPLACE and options.as_name is None and self.replaces is not None

    @property
    def keeps_another(self) -> bool:
        """Whether the database that is replaced will be kept."""
        replaces = self.replaces
        return (
            replaces is not None
            and not replaces.empty
            and not self.drops_first
            and not self.in_place
            and bool(self.request.options.keep_replaced)
        )

    @property
    def in_place(self) -> bool:
        """Whether the contents of the database are replaced, because the source does not let us create another."""
        return bool(self.fit.details.get("in_place"))

    @property
    def space(self) -> Space:
        """The space that is needed, and what there is of it."""
        said, replaced = self.request.choice.manifest, self.replaces
        if self.request.options.tables:
            return Space.of(None, self.room, freed=0)
        expected = estimate(
            original=None if said is None or said.part is None else said.part.database_size,
            replaced=None if replaced is None or replaced.empty else replaced.size,
            plaintext_size=None if said is None else said.plaintext_size,
            rows=None if said is None else said.rows,
        )
        return Space.of(expected, self.room, freed=replaced.size if self.drops_first and replaced is not None else 0)

    @property
    def refusal(self) -> RestoreRefused | None:
        """Why it can't be restored here; ``None``: it can."""
        if self.fit.refusal is not None:
            return self.fit.refusal
        if self.space.suffices or self.request.options.ignore_free_space:
            return None
        return self._no_room()

    def _no_room(self) -> RestoreRefused:
        space, name = self.space, printable_name(self.request.target.name)
        basis = [space.estimate.basis] if space.estimate is not None else []
        if space.wal:
            basis.append(f"{human.size(space.wal)} of WAL")
        ways = ["add space"]
        if (
            self.replaces is not None
            and self.request.options.as_name is None
            and not (self.drops_first or self.in_place)
        ):
            ways.insert(0, f"set {name_for_errors('restore', 'strategy')} to {REPLACE}: it drops {name} first")
        if space.kept:
            largest = sorted(space.kept, key=lambda one: one.size, reverse=True)[:_MOST_KEPT]
            names = ", ".join(f"{printable_name(one.name)} ({human.size(one.size)})" for one in largest)
            ways.append(f"drop replaced databases that are kept (infrazero-database drop-replaced DATABASE): {names}")
        return RestoreRefused(
            f"there is not enough free space for the restored {name}",
            cause=f"about {human.size(space.needed)} are needed ({', with '.join(basis)}), and the file system of the"
            f" server has {human.size(space.available)}" + (", with what the drop frees" if self.drops_first else ""),
            hint=f"nothing was changed: {'; or '.join(ways)}; if the estimate is wrong, set"
            f" {name_for_errors('restore', 'ignore_free_space')}",
        )

    def require_possible(self) -> None:
        """Raise unless the restore can begin.

        :raises IdentityMissing, RestoreRefused: why not.
        """
        if self.encrypted and not self.request.identities:
            raise IdentityMissing(
                f"{self.request.choice.url} is encrypted and no age private key was given",
                hint="give backup_age_private_key in the list of databases, or age_private_key",
            )
        if self.refusal is not None:
            raise self.refusal

    def require_same(self, shown: RestorePlan) -> None:
        """Raise unless this is, in what counts, the plan that somebody has looked at.

        :raises RestoreRefused: naming the difference.
        """
        differences = []
        if self.size != shown.size:  # for a backup without a manifest; any other is compared with its hashes
            differences.append("the backup is another one")
        before, now = shown.replaces, self.replaces
        if (before and before.identity) != (now and now.identity):
            differences.append("the database that is replaced is another one")
        elif before is not None and now is not None and (before.owner, before.empty) != (now.owner, now.empty):
            differences.append("the database that is replaced has another owner, or is no longer empty")
        if differences:
            raise RestoreRefused(
                f"{self.request.target.name!r} is not as it was when the plan was shown",
                cause="; ".join(differences),
                hint="nothing was changed: run the command again, and look at its new plan",
            )

    def as_dict(self) -> dict[str, t.Any]:
        """As plain data."""
        choice, options = self.request.choice, self.request.options
        created, said = choice.created_at, choice.manifest
        return {
            "as": options.as_name,
            "only_tables": list(options.tables),
            "drop_after": None if options.drop_after is None else options.drop_after.total_seconds() / 3600,
            "source": choice.url,
            "sha256": choice.sha256,
            "signed_by": None if choice.signed_by is None else dataclasses.asdict(choice.signed_by),
            "created_at": None if created is None else created.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "age_seconds": None if created is None else int((self.moment - created).total_seconds()),
            "size": self.size,
            "reads": self.reads,
            "read_size": self.reads * self.size,
            "plaintext_size": None if said is None else said.plaintext_size,
            "rows": None if said is None else said.rows,
            "tables": None if said is None or said.tables is None else len(said.tables),
            "encrypted": self.encrypted,
            **self.fit.details,
            "replaces": None if self.replaces is None else dataclasses.asdict(self.replaces),
            "keep_replaced": options.keep_replaced.total_seconds() / 3600 if self.keeps_another else 0.0,
            "space": self.space.as_dict(),
            "refusal": None if self.refusal is None else str(self.refusal),
            "kept": [one.as_dict() for one in self.kept],
            "strategy": options.strategy,
            "owner": self.request.database.user,
            "warnings": list(self.warnings),
        }


def plan_restore(request: Request, *, session: Session) -> RestorePlan:
    """Look at the backup and at the source and say what a restore would do.  Reads only.

    Identities that are given are tried on the backup.

    :raises RestoreRefused: if the restore can't succeed.
    """
    choice, options, name = request.choice, request.options, request.database.name
    said = choice.manifest
    if options.as_name is not None:
        session.require_copy(options.as_name)
    if said is not None:
        require_kind(choice, said, session.kind)
    look = _in_time(request, lambda: look_into(choice, request.identities))
    require_size(choice, look.size)
    if look.head is not None:
        session.require_dump(look.head)
        if options.tables:
            _in_time(request, lambda: _require_tables(request, session))
    fit = session.fit(request.target, None if said is None else said.part, options)
    warnings = [*choice.warnings, *fit.warnings]
    if said is not None:
        warnings += _rolled_back(choice, name, session=session)
        if said.database not in (None, name):
            warnings.append(f"the backup is of the database {said.database!r}")
    replaces = session.replaced(request.target.name)
    # A copy is created like its backup, not like an earlier copy.
    like = None if replaces is None or replaces.empty or options.as_name is not None else request.target.name
    planned = RestorePlan(
        request=request,
        moment=datetime.datetime.now(datetime.timezone.utc),
        encrypted=look.encrypted,
        size=look.size,
        reads=1,
        fit=fit,
        replaces=replaces,
        room=session.room(like=like),
        warnings=(),
        kept=() if options.as_name is not None else session.kept(name),
    )
    return dataclasses.replace(
        planned,
        reads=2 if planned.drops_first or choice.proof is None else 1,
        warnings=(*warnings, *_kept_before(name, planned.kept, keeps_another=planned.keeps_another)),
    )


def _in_time(request: Request, read: t.Callable[[], _Result]) -> _Result:
    """Call *read*, which reads the chosen object; a store that stands still costs no more time than the restore has."""
    seconds = request.options.timeout.total_seconds()
    results: list[_Result] = []
    failures: list[BaseException] = []

    def work() -> None:
        try:
            results.append(read())
        except BaseException as error:  # noqa: BLE001 - passed on, whatever it is
            failures.append(error)

    # A read of the store may never return, and nobody waits for its thread then.
    thread = threading.Thread(target=work, name="look", daemon=True)
    thread.start()
    thread.join(seconds)
    if failures:
        raise explained(failures[0], request.choice, owners=request.options.owners)
    if not results:
        raise out_of_time(request.database.name, seconds)
    return results[0]


def _require_tables(request: Request, session: Session) -> None:
    """Raise unless the backup has the chosen tables.  Of the object only the beginning is read."""
    choice = request.choice
    part = None if choice.manifest is None else choice.manifest.part
    with plain(choice, request.identities, proof=choice.proof) as decoded:
        session.require_tables(decoded, part=part, tables=request.options.tables)


def require_size(choice: Choice, size: int) -> None:
    """Raise unless the object of *size* bytes has the size that its manifest says."""
    said = choice.manifest
    if said is not None and said.size not in (None, size):
        raise ChecksumMismatch(
            f"{choice.url} has {size} bytes, its manifest says {said.size}",
            hint="the object is damaged or was replaced: choose another backup",
        )


def require_kind(choice: Choice, said: manifest.Manifest, kind: str) -> None:
    """Raise unless the backup is a dump of the kind of source that it is to be restored to."""
    if said.source in (None, kind) and said.kind in (None, manifest.DUMP):
        return
    raise RestoreRefused(
        f"{choice.url} can't be restored here",
        cause=f"its manifest says that it is a {said.kind or manifest.DUMP} of {said.source or kind}, "
        f"not a {manifest.DUMP} of {kind}",
        hint="choose another backup, or update infrazero.database if it should know this kind",
    )


def _rolled_back(choice: Choice, name: str, *, session: Session) -> t.Iterator[str]:
    """Warnings about a latest backup with a lower number than the cluster has recorded: that is not rolled back."""
    if choice.found is None or not choice.found.key.endswith(layout.LATEST):
        return
    said = choice.found.manifest
    location = catalogue.location(choice.found.store, choice.found.key[: -len(layout.LATEST)])
    latest = lineage.link(said, choice.found.sha256, choice.signed_by)
    made = session.last_backup(name, location=location)
    if made is not None and latest.sequence < made.sequence:
        yield (
            f"latest is {latest.number}, but this cluster has made number {made.sequence} there "
            f"({printable(made.key)}): latest was rolled back"
        )
    record = session.record(name)
    source = None if record is None else record.restored_from
    if source is None or not source.url.startswith(location):
        return
    if latest.sequence < (source.sequence or 0):
        yield (
            f"latest is {latest.number}, but the database was restored from number {source.sequence} of "
            f"{source.created_at} ({printable(source.key)}): latest was rolled back"
        )


def _kept_before(name: str, kept: t.Sequence[Kept], *, keeps_another: bool) -> t.Iterator[str]:
    """A warning that more than one replaced database of *name* is kept, if so.

    :param keeps_another: whether the restore that this is about keeps one more.
    """
    if not kept or len(kept) + keeps_another < 2:
        return
    listed = ", ".join(
        f"{printable_name(one.name)} ({human.size(one.size)}, until"
        f" {one.drop_after.astimezone(datetime.timezone.utc):%Y-%m-%d %H:%MZ})"
        for one in kept
    )
    yield (
        f"databases that were replaced before are still kept: {listed}; to drop all but the newest one:"
        f" infrazero-database drop-replaced {shell_word(name) or printable_name(name)} --all-but-newest"
    )
