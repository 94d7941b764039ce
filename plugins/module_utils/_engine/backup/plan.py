# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The plan of a backup: whether the database may be backed up now, and as what."""

from __future__ import annotations

import dataclasses
import datetime
import platform
import typing as t

from ..domain import layout, lineage, manifest, nodes
from ..domain.records import OUTSTANDING, DatabaseRecord
from ..domain.restoring import RestoreOptions
from ..domain.subjects import Subject
from ..domain.trust import Signed, Trust
from ..errors import AccessDenied, BackupRefused, ConfigurationError, OtherHistory
from ..printing import shell_word
from ..settings import name_for_errors
from ..signing import keys, verification
from ..sources.base import Facts, Session
from ..stores import catalogue
from ..stores.base import Store
from ..streams.compression import Compression


@dataclasses.dataclass(frozen=True)
class BackupOptions:
    """How to back up.

    :param jobs: databases that are backed up at the same time.
    :param run_on: which nodes of a cluster back up, see :mod:`..domain.nodes`.
    :param run_on_window: how long another node's backup stands for one of this node.
    :param take_over: continue the history of a prefix even if its latest backup is another cluster's.
    :param allow_unsigned: back up without a signature even if the latest backup is signed.
    :param lock_wait_seconds: how long the dump waits for a table that somebody else holds exclusively.
    :param signer: the host's key, which signs the manifests; ``None``: they are not signed, and a warning says so.
    :param trust: whose backups may be the previous one, in addition to those of *signer*.
    :param require_restorable: fail where a restore would refuse or leave out anything.
    :param restores: how this host restores, which says what would be refused or left out.
    :param first: back up only what has no backup yet, and read back what was stored.
    """

    compression: Compression = dataclasses.field(default_factory=Compression)
    jobs: int = 1
    run_on: str = nodes.PRIMARY
    run_on_window: datetime.timedelta = datetime.timedelta(hours=12)
    take_over: bool = False
    allow_unsigned: bool = False
    lock_wait_seconds: int = 60
    signer: keys.Signer | None = None
    trust: Trust = dataclasses.field(default_factory=Trust)
    require_restorable: bool = False
    restores: RestoreOptions = dataclasses.field(default_factory=RestoreOptions)
    first: bool = False

    @property
    def host(self) -> str:
        """The name of this host in manifests."""
        return platform.node() if self.signer is None else self.signer.host

    def __post_init__(self) -> None:
        if self.jobs < 1:
            raise ConfigurationError("jobs must be at least 1")
        if self.lock_wait_seconds < 1:
            raise ConfigurationError("the wait for a lock must be at least 1 second", hint="0 would wait for ever")


@dataclasses.dataclass(frozen=True)
class BackupPlan:
    """What a backup would do.

    :param location: URL of the prefix.
    :param key: key of the new dump.
    :param facts: the database as the source describes it.
    :param previous: the backup that the new one follows; ``None``: it is the first.
    :param latest_sha256: SHA-256 of the latest manifest, which may be that of an earlier backup; ``""``: what is there
        is not a manifest; ``None``: nothing is there.
    :param follows_signed: whether the backup has no signature although the latest one has: the operator allowed it.
    :param latest_text_size: bytes of the dump's text in the latest backup; ``None``: unknown.
    :param covered: why the latest backup, of another node, stands for this one, which is not to be made; ``None``: it
        does not.
    """

    database: str
    location: str
    key: str
    facts: Facts
    previous: lineage.Link | None
    latest_sha256: str | None
    follows_signed: bool
    latest_text_size: int | None
    warnings: tuple[str, ...]
    covered: str | None = None

    @property
    def expected_text_size(self) -> int:
        """Bytes of text to expect of the dump, for progress: those of the latest one, else the size of the database."""
        return self.latest_text_size or self.facts.size

    @property
    def sequence(self) -> int:
        """The number of the new backup."""
        return 1 if self.previous is None else self.previous.sequence + 1

    @property
    def previous_signed_by(self) -> dict[str, str] | None:
        """Who signed the previous backup, as plain data; ``None``: nobody did, or there is none."""
        signed = None if self.previous is None else self.previous.signed_by
        return None if signed is None else dataclasses.asdict(signed)

    def as_dict(self) -> dict[str, t.Any]:
        """As plain data."""
        return {
            "key": self.key,
            "sequence": self.sequence,
            "estimated_size": self.facts.size,
            "previous": None if self.previous is None else self.previous.key,
            "previous_signed_by": self.previous_signed_by,
            "warnings": list(self.warnings),
        }


def plan_backup(
    database: Subject,
    *,
    look: t.Callable[[], Facts],
    session: Session,
    store: Store,
    options: BackupOptions,
    moment: datetime.datetime,
) -> BackupPlan:
    """Decide whether *database* may be backed up now, and as what.  Reads only.

    :param database: a database, or the globals of the cluster.
    :param look: reads the facts of it.
    :param moment: the run's timestamp.
    :raises BackupRefused: if a bad backup would replace a good one.
    """
    record = session.record(database.name)
    if record is not None and record.restore == OUTSTANDING:
        raise BackupRefused(
            f"the restore of {database.name!r} is outstanding, so its backup would be empty",
            hint="run the bootstrap again until every restore has succeeded, or restore it with restore.sh"
            + _arguments(database.name, database.prefix),
        )
    found = look()
    latest = _latest(database, store=store, options=options)
    location = catalogue.location(store, database.prefix)
    follows_signed = options.signer is None and _is_signed(database, latest, session=session, location=location)
    if follows_signed and not options.allow_unsigned:
        raise BackupRefused(
            f"{database.name!r} must not be backed up without a signature: its latest backup is signed",
            cause="this host has no signing key, and no restore would accept the new backup in place of the signed one",
            hint="create the key with the playbook bootstrap or the role backup, or check the path in "
            f"{name_for_errors('signing', 'signing_key')}; if this host is meant to sign no more, set "
            f"{name_for_errors('backup', 'allow_unsigned')}",
        )
    decision, strange = _decide(database, record, found, latest, session=session, store=store, options=options)
    warnings = [*decision.warnings, *strange]
    if options.signer is None:
        # No older tool has written globals, so there is no reason to restore them unsigned.
        effect = "a restore will need trust: unsigned" if database.kind == manifest.DUMP else "no restore will use it"
        warnings.append(
            f"the manifest is not signed, because there is no signing key: {effect}; the role backup creates a key"
            + ("; the backup before it is signed: this was allowed by allow_unsigned" if follows_signed else "")
        )
    warnings += found.warnings
    previous = decision.previous
    if previous is not None and previous.created_at is not None and previous.created_at > moment:
        warnings.append(
            f"the clock reads {moment:%Y-%m-%dT%H:%M:%SZ}, before the backup of "
            f"{previous.created_at:%Y-%m-%dT%H:%M:%SZ} that this one follows: one of them was or is wrong"
        )
    return BackupPlan(
        database=database.name,
        location=location,
        key=layout.dump_key(database.prefix, moment, suffix=options.compression.suffix),
        facts=found,
        previous=previous,
        latest_sha256=None if latest is None else latest.sha256,
        follows_signed=follows_signed,
        latest_text_size=None if latest is None or latest.manifest is None else latest.manifest.plaintext_size,
        warnings=tuple(warnings),
        covered=nodes.covered(
            latest,
            run_on=options.run_on,
            window=options.run_on_window,
            name=options.host,
            system_identifier=found.system_identifier,
            moment=moment,
        ),
    )


def _decide(
    database: Subject,
    record: DatabaseRecord | None,
    found: Facts,
    latest: lineage.Latest | None,
    *,
    session: Session,
    store: Store,
    options: BackupOptions,
) -> tuple[lineage.Decision, list[str]]:
    """Which backup the new one follows, and warnings about what else is in the store."""
    location = catalogue.location(store, database.prefix)
    restored = _restored(record, location=location)
    newer: tuple[lineage.Link, ...] = ()
    try:
        newer, warnings = _newer(
            database,
            store=store,
            latest=latest,
            restored=restored,
            system_identifier=found.system_identifier,
            options=options,
        )
    except AccessDenied:
        warnings = ["the store doesn't let us list backups, so one that never became the latest would go unnoticed"]
    known = lineage.Known(
        system_identifier=found.system_identifier,
        recorded=_recorded(session, database, location=location, system_identifier=found.system_identifier),
        restored=restored,
        made_empty_at=record.since if record is not None and record.restored_from is None else None,
    )
    decision = lineage.decide(latest, newer, known, take_over=options.take_over)
    if decision.refusal is not None and not options.take_over:
        own = "a bucket" if database.kind == manifest.DUMP else "a cluster_prefix"
        raise OtherHistory(
            f"{database.name!r} must not be backed up to {location}",
            cause=decision.refusal,
            hint=f"restore from there first, or give this host {own} of its own; if this cluster is meant to "
            "continue that history, say so with --take-over (option take_over)",
        )
    return decision, warnings


def _is_signed(database: Subject, latest: lineage.Latest | None, *, session: Session, location: str) -> bool:
    """Whether the latest backup is signed, by its manifest or by the cluster's own record.

    A host without a key can't tell whether a signature is valid.  One that somebody has put there stops its backups,
    which anyone with write access to the store can do in other ways, too.
    """
    if latest is not None and latest.manifest is not None and latest.manifest.signature is not None:
        return True
    made = session.last_backup(database.name, location=location)
    return made is not None and made.signed_by is not None


def _arguments(*values: str) -> str:
    """Arguments of a command that an operator can copy; nothing if one of them can't be shown as it is."""
    words = [shell_word(value) for value in values]
    return "".join(f" {word}" for word in words) if None not in words else ""


def _latest(database: Subject, *, store: Store, options: BackupOptions) -> lineage.Latest | None:
    """The latest manifest of the prefix; a host that can't sign has nothing to check it against, and believes it."""
    if options.signer is not None:
        return verification.standing(store, trust=options.signer.accepting(options.trust), database=database)
    found = catalogue.read_latest(store, database.prefix)
    return None if found is None else lineage.Latest(lineage.BELIEVED, found.sha256, found.manifest)


def _newer(
    database: Subject,
    *,
    store: Store,
    latest: lineage.Latest | None,
    restored: lineage.Link | None,
    system_identifier: str,
    options: BackupOptions,
) -> tuple[tuple[lineage.Link, ...], list[str]]:
    """Backups that ended before they moved latest, or whose latest was moved back, and warnings about the others.

    Their numbers are taken, so the next backup follows the highest.  If an older tool has written latest, it has no
    number, and those before it count, too.
    """
    signer, followed = options.signer, None if latest is None else latest.link
    found = verification.survey(
        store,
        database.prefix,
        than=None if followed is None or not followed.sequence else followed.created_at,
        trust=None if signer is None else signer.accepting(options.trust),
        database=database,
    )
    links = found.links
    if signer is None:
        # Nobody vouches for them: only those count that claim to be of this cluster, or whose history it continues.
        continued = followed is not None and restored is not None and followed.is_backup(restored.sha256)
        links = tuple(
            one for one in links if one.sequence and (continued or one.system_identifier == system_identifier)
        )
    return links, [] if found.warning is None else [found.warning]


def _recorded(session: Session, database: Subject, *, location: str, system_identifier: str) -> lineage.Link | None:
    made = session.last_backup(database.name, location=location)
    if made is None:
        return None
    signed = None if made.signed_by is None else Signed(**made.signed_by)
    created_at = made.created_at.astimezone(datetime.timezone.utc)
    return lineage.Link(made.sequence, made.manifest_sha256, made.key, created_at, system_identifier, signed)


def _restored(record: DatabaseRecord | None, *, location: str) -> lineage.Link | None:
    source = None if record is None else record.restored_from
    if source is None or source.manifest_sha256 is None:
        return None
    # Another prefix has another count.
    sequence = source.sequence if source.url.startswith(location) else None
    return lineage.Link(sequence or 0, source.manifest_sha256, source.key, system_identifier=source.system_identifier)
