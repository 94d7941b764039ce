# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The plan of a restore: what it would do, and whether it can succeed."""

from __future__ import annotations

import dataclasses
import datetime
import threading
import typing as t

from ..domain import layout, lineage, manifest
from ..domain.databases import Database
from ..domain.restoring import REPLACE, RestoreOptions
from ..errors import ChecksumMismatch, RestoreRefused
from ..printing import printable
from ..sources.base import Fit, Replaced, Session, out_of_time
from ..stores import catalogue
from .choose import Choice, Look, explained, look_into


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


@dataclasses.dataclass(frozen=True)
class RestorePlan:
    """What a restore would do.

    :param encrypted: whether the object needs an age identity.
    :param size: bytes of the object.
    :param reads: how often the object is read.  Twice if no signature proves its chunks one by one, because nothing of
        it may be executed before all of it was checked, and if the old database is dropped first.
    :param fit: how the backup fits the source that it is restored to.
    """

    request: Request
    moment: datetime.datetime
    encrypted: bool
    size: int
    reads: int
    fit: Fit
    replaces: Replaced | None
    warnings: tuple[str, ...]

    @property
    def drops_first(self) -> bool:
        """Whether the database is dropped before its successor is filled.  An earlier copy never is."""
        options = self.request.options
        return options.strategy == REPLACE and options.as_name is None and self.replaces is not None

    def as_dict(self) -> dict[str, t.Any]:
        """As plain data."""
        choice, options = self.request.choice, self.request.options
        created, said = choice.created_at, choice.manifest
        return {
            "as": options.as_name,
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
            "encrypted": self.encrypted,
            **self.fit.details,
            "replaces": None if self.replaces is None else dataclasses.asdict(self.replaces),
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
        _require_kind(choice, said, session.kind)
    look = _look_in_time(request)
    if said is not None and said.size not in (None, look.size):
        raise ChecksumMismatch(
            f"{choice.url} has {look.size} bytes, its manifest says {said.size}",
            hint="the object is damaged or was replaced: choose another backup",
        )
    if look.head is not None:
        session.require_dump(look.head)
    fit = session.fit(None if said is None else said.part, options)
    warnings = [*choice.warnings, *fit.warnings]
    if said is not None:
        warnings += _rolled_back(choice, name, session=session)
        if said.database not in (None, name):
            warnings.append(f"the backup is of the database {said.database!r}")
    planned = RestorePlan(
        request=request,
        moment=datetime.datetime.now(datetime.timezone.utc),
        encrypted=look.encrypted,
        size=look.size,
        reads=1,
        fit=fit,
        replaces=session.replaced(request.target.name),
        warnings=tuple(warnings),
    )
    return dataclasses.replace(planned, reads=2) if planned.drops_first or choice.proof is None else planned


def _look_in_time(request: Request) -> Look:
    """Look into the chosen object; a store that stands still costs no more time than the restore has."""
    seconds = request.options.timeout.total_seconds()
    looks: list[Look] = []
    failures: list[BaseException] = []

    def work() -> None:
        try:
            looks.append(look_into(request.choice, request.identities))
        except BaseException as error:  # noqa: BLE001 - passed on, whatever it is
            failures.append(error)

    # A read of the store may never return, and nobody waits for its thread then.
    thread = threading.Thread(target=work, name="look", daemon=True)
    thread.start()
    thread.join(seconds)
    if failures:
        raise explained(failures[0], request.choice, owners=request.options.owners)
    if not looks:
        raise out_of_time(request.database.name, seconds)
    return looks[0]


def _require_kind(choice: Choice, said: manifest.Manifest, kind: str) -> None:
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
