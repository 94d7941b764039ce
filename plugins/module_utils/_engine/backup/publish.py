# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The publication of a backup: its manifest, then ``latest``, then the source's record of it."""

from __future__ import annotations

import dataclasses
import datetime
import typing as t

from ..domain import layout, manifest
from ..domain.records import BackupRecord
from ..domain.subjects import Subject
from ..errors import AlreadyExists, BackupRefused, EngineError, ManifestError
from ..printing import printable_name
from ..sources.base import LockedSession
from ..stores import catalogue
from ..stores.base import Store
from ..streams import pipeline
from ..version import VERSION
from .plan import BackupOptions, BackupPlan


def describe(
    plan: BackupPlan,
    database: Subject,
    *,
    kind: str,
    stream: pipeline.Encoded,
    part: manifest.Part,
    store: Store,
    options: BackupOptions,
    moment: datetime.datetime,
    seconds: float,
) -> manifest.Manifest:
    """The manifest of a backup, signed if there is a key.

    :param kind: of the source.
    :param part: what the source says of it.
    :param seconds: from its first byte to its last.
    """
    previous, signer = plan.previous, options.signer
    described = manifest.Manifest(
        key=plan.key,
        sha256=stream.sha256,
        created_at=moment.replace(microsecond=0),
        schema_version=manifest.SCHEMA_VERSION,
        source=kind,
        kind=database.kind,
        version=VERSION,
        compression=options.compression.method,
        size=stream.size,
        chunks=stream.chunks,
        plaintext_size=stream.plain_size,
        recipients=tuple(database.recipients),
        destination=store.facts,
        duration_seconds=round(seconds, 3),
        host=options.host,
        sequence=plan.sequence,
        previous_sha256=None if previous is None else previous.sha256,
        allow_unsigned=plan.follows_signed or None,
        part=part,
    )
    return described if signer is None else signer.sign(described)


def require_publishable(
    plan: BackupPlan, described: manifest.Manifest, database: Subject, *, session: LockedSession, store: Store
) -> None:
    """Raise what would make :func:`publish` fail, as far as it can be known while the object is not yet in the store.

    :raises BackupRefused: if no restore would read the manifest, or if somebody else has moved ``latest``.
    """
    _rendered(described)
    session.check_lock()
    _require_unmoved(plan, database, store=store, hint="nothing was stored")


def publish(
    plan: BackupPlan,
    described: manifest.Manifest,
    database: Subject,
    *,
    session: LockedSession,
    store: Store,
    options: BackupOptions,
) -> list[str]:
    """Make the backup the latest one; warnings come back.

    :raises BackupRefused: if no restore would read the manifest, or if somebody else has moved ``latest``.
    """
    data = _rendered(described)
    try:
        # A run that was stopped for a while may find another one at work; latest is not ours to move then.
        session.check_lock()
        store.put_if_absent(layout.manifest_key(plan.key), data)
    except EngineError as exc:
        exc.hint = "; ".join(
            filter(
                None,
                (exc.hint, f"{store.url(plan.key)} has no manifest now: infrazero-database list shows it as orphan"),
            )
        )
        raise
    # Again: after this only the store is between us and the last step.
    session.check_lock()
    _require_unmoved(plan, database, store=store, hint="this backup is in the store, with its own manifest")
    store.put(layout.latest_key(database.prefix), data)
    return [
        *_record(plan, described, data, session=session, options=options),
        *_publish_key(database, store=store, options=options),
    ]


def _record(
    plan: BackupPlan, made: manifest.Manifest, data: bytes, *, session: LockedSession, options: BackupOptions
) -> t.Iterator[str]:
    """Record that the backup has become the latest one; a failure is a warning, because the backup is good."""
    if not plan.facts.keeps_records:
        return
    signer = options.signer
    try:
        session.record_backup(
            BackupRecord(
                database=plan.database,
                location=plan.location,
                sequence=plan.sequence,
                manifest_sha256=manifest.digest(data),
                key=made.key,
                created_at=made.created_at,
                signed_by=None if signer is None else dataclasses.asdict(signer.signed),
            ),
        )
    except EngineError as exc:
        yield f"the backup is good, but the cluster could not record it: {exc}"


def _publish_key(database: Subject, *, store: Store, options: BackupOptions) -> t.Iterator[str]:
    """Store the public key beside the backups that it has signed; a failure is a warning, because the backup is good.

    It is for people who have lost the host, and who know its fingerprint from elsewhere.  Nothing reads it to decide
    about trust, so what somebody else has put in its place does no harm, and is left there.
    """
    signer = options.signer
    if signer is None:
        return
    key = layout.signer_key(database.prefix, signer.host, signer.signed.key)
    try:
        store.put_if_absent(key, f"{signer.public_key} {signer.host}\n".encode())
    except AlreadyExists:
        return
    except EngineError as exc:
        yield f"the backup is good, but the public key of this host could not be stored as {store.url(key)}: {exc}"


def _rendered(made: manifest.Manifest) -> bytes:
    """The bytes of the manifest, proven to be readable for a restore.

    :raises BackupRefused: a restore would not read them.
    """
    data = manifest.render(made)
    try:
        manifest.parse(data)
    except ManifestError as exc:
        raise BackupRefused(
            f"no restore would read the manifest of {made.database!r}",
            cause=exc.message,
            hint="the previous backup is still the latest; split the database, which has too many tables or roles",
        ) from None
    return data


def _require_unmoved(plan: BackupPlan, database: Subject, *, store: Store, hint: str) -> None:
    """Another host can't see our lock: latest must still be the backup that it was when this one began.

    That backup may have been rekeyed meanwhile.

    :param hint: what is in the store now.
    :raises BackupRefused: if somebody has moved it.
    """
    try:
        now = catalogue.read_latest(store, database.prefix)
    except ManifestError:
        if plan.latest_sha256 == "":
            return
        raise
    if now is None or plan.latest_sha256 in (now.sha256, *now.manifest.stands_for):
        return
    raise BackupRefused(
        f"{store.url(now.key)} was moved by somebody else during this backup",
        cause=f"it names {printable_name(now.manifest.key)}, created on "
        + printable_name(now.manifest.host or "an unknown host"),
        hint=f"make sure that only one host backs up to a prefix, then run again; {hint}",
    )
