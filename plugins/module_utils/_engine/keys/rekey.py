# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The use case "rekey": encrypt backups to other recipients.

An object passes through memory: it is read, decrypted, compared with its manifest, encrypted to the new recipients and
stored beside the old one, which stays as it is.  The new manifest describes the same contents, embeds the old one, and
comes after the object; ``latest`` comes last, and only if it names the old one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import hashlib
import time
import typing as t

from .. import outcome
from ..domain import layout, manifest, recipients, rekeying
from ..domain import trust as trusting
from ..domain.subjects import Subject
from ..domain.trust import Trust
from ..errors import ChecksumMismatch, ConfigurationError, ManifestError, NotFound, StoreError, WrongIdentity
from ..printing import printable
from ..reporting import Reporter, Silent
from ..signing import verification
from ..signing.keys import Signer
from ..sources import registry
from ..stores import catalogue
from ..stores.base import Store
from ..streams import age, pipeline
from ..streams.flow import Ended
from ..version import VERSION
from .backups import Held, held, prove

#: Statuses: rekeyed; nothing had to be done; left alone, and why; what a dry run reports.
REKEYED = "rekeyed"
UNCHANGED = "unchanged"
SKIPPED = "skipped"
PLANNED = "planned"


@dataclasses.dataclass(frozen=True)
class Options:
    """How backups are rekeyed.

    :param identities: of :func:`..streams.age.parse_identities`; none in a dry run.
    :param signer: the key that signs the new manifests; ``None``: there is none, and only unsigned backups are rekeyed.
    :param trust: whose backups are accepted, beside those of *signer*.
    :param owners: of all recipients of the list.
    """

    identities: tuple[t.Any, ...]
    signer: Signer | None
    trust: Trust
    owners: recipients.Owners

    def with_identities(self, identities: t.Sequence[t.Any]) -> Options:
        """The same with *identities*."""
        return dataclasses.replace(self, identities=tuple(identities))

    @property
    def accepting(self) -> Trust:
        """The trust that old manifests are verified with: a signature is always looked at."""
        if self.signer is not None:
            return self.signer.accepting(self.trust)
        return dataclasses.replace(self.trust, mode=trusting.SIGNED)


@dataclasses.dataclass(frozen=True)
class Work:
    """One backup, and what becomes of it.

    :param named: whether somebody asked for this backup, and not only for all of them.
    """

    held: Held
    decision: rekeying.Decision
    named: bool = False

    @property
    def key(self) -> str:
        """The key of its dump."""
        return self.held.backup.key

    @property
    def is_due(self) -> bool:
        """Whether it is to be rekeyed."""
        return self.decision.action == rekeying.REKEY


def plan(
    store: Store, subjects: t.Sequence[Subject], *, options: Options, keys: t.Collection[str] | None = None
) -> list[Work]:
    """What becomes of each backup of *subjects*, oldest first, so that ``latest`` is rekeyed last.  Reads only.

    :param keys: only these, by the key of the dump or of its manifest; ``None``: all of them.
    :raises NotFound: if one of *keys* is not a backup.
    """
    work: list[Work] = []
    for subject in subjects:
        every = held(store, subject, trust=options.accepting)
        candidates = {one.backup.key: candidate for one in every if (candidate := _candidate(one)) is not None}
        decisions = rekeying.decide(list(candidates.values()), subject.recipients)
        for one in reversed(every):
            work.append(Work(one, decisions.get(one.backup.key, rekeying.Decision(rekeying.REKEY))))
    if keys is None:
        return work
    chosen = [one for one in work if not _names(one.held).isdisjoint(keys)]
    missing = sorted(set(keys) - {name for one in work for name in _names(one.held)})
    if missing:
        raise NotFound(
            f"{printable(store.url(missing[0]))} is not a backup of a database of the list",
            hint="infrazero-database list shows the backups with their keys",
        )
    # Whoever names a backup means this one, also if there is a copy for others.
    again = rekeying.Decision(rekeying.REKEY)
    return [
        Work(one.held, again if one.decision.action == rekeying.REPLACED else one.decision, named=True)
        for one in chosen
    ]


def _names(one: Held) -> frozenset[str]:
    return frozenset({one.backup.key, layout.manifest_key(one.backup.key)})


def _candidate(one: Held) -> rekeying.Candidate | None:
    """The backup as one that can take the place of another; ``None`` if nothing speaks for it."""
    if one.manifest is None or one.backup.state != "complete" or not (one.signed_by or one.is_unsigned):
        return None
    return rekeying.Candidate(one.backup.key, one.sha256, one.recipients, one.stands_for, one.signed_by is not None)


def rekey_all(
    store: Store,
    work: t.Sequence[Work],
    *,
    options: Options,
    moment: datetime.datetime,
    plan_only: bool = False,
    reporter: Reporter | None = None,
) -> outcome.Summary:
    """Rekey each of *work*, of :func:`plan`; one that fails does not stop the others.

    :param moment: of the run, a part of the new keys.
    :param plan_only: only report what would be done.
    :raises ConfigurationError: before anything is done, if signed backups could not be signed again.
    """
    by_key = {one.key: one for one in work}
    signed = [one for one in work if one.held.signed_by is not None and one.is_due]
    if signed and options.signer is None:
        raise ConfigurationError(
            f"{signed[0].key} is signed, and there is no key here to sign its new manifest with",
            hint="rekey on the host that made the backups, or create a signing key here and have the hosts accept it "
            "(docs/keys.md)",
        )

    def rekey(key: str) -> outcome.Outcome:
        one = by_key[key]
        run = _Run(store, one.held, options, moment, reporter or Silent())
        reason = None if one.named else run.left_alone
        if reason is not None:
            return outcome.Outcome(key, SKIPPED, {"reason": reason})
        if one.is_due:
            return run.planned() if plan_only else run.rekey()
        if one.decision.action == rekeying.DONE and one.held.backup.latest and not plan_only:
            return run.point_to(t.cast(str, one.decision.copy))
        return outcome.Outcome(key, UNCHANGED, {"copy": one.decision.copy})

    return outcome.run_each(list(by_key), rekey, reporter=reporter)


@dataclasses.dataclass(frozen=True)
class _Run:
    """The work on one backup."""

    store: Store
    held: Held
    options: Options
    moment: datetime.datetime
    reporter: Reporter

    @property
    def _key(self) -> str:
        return self.held.backup.key

    @property
    def left_alone(self) -> str | None:
        """Why there is nothing to be rekeyed; ``None``: there is."""
        if self.held.manifest is None and isinstance(self.held.error, NotFound):
            return "it has no manifest, so nothing says what it should be"
        return "its object is missing" if self.held.backup.state == "missing" else None

    def _found(self) -> catalogue.Found:
        """The manifest of the backup, read and proven again, if the backup may be rekeyed.

        :raises EngineError: if it must not be.
        """
        one, options = self.held, self.options
        if self.left_alone is not None:
            raise NotFound(
                f"{printable(self.store.url(self._key))} can't be rekeyed",
                cause=self.left_alone,
                hint="choose another backup; an object without a manifest can be decrypted and encrypted with age",
            )
        if one.manifest is None or not (one.signed_by or one.is_unsigned):
            raise one.error or NotFound(f"{printable(self.store.url(self._key))} has no manifest")
        found = catalogue.read_manifest(self.store, one.manifest)
        if one.signed_by is not None:
            prove(found, one.subject, trust=options.accepting)
        if found.sha256 != one.sha256:
            raise ManifestError(
                f"{printable(self.store.url(one.manifest))} has changed since it was looked at",
                hint="run the command again; manifests never change, so find out who writes to the store",
            )
        if one.signed_by is not None and options.signer is not None:
            trusting.require_bound(
                options.signer.host, found.manifest, trust=options.trust, database=one.subject, key=found.key
            )
        return found

    def planned(self) -> outcome.Outcome:
        """Report what :meth:`rekey` would do."""
        found = self._found()
        return outcome.Outcome(self._key, PLANNED, self._details(found, key=self._new_key(found)))

    def _new_key(self, found: catalogue.Found) -> str:
        location = found.location
        # A dump in another bucket gets its copy here, beside the manifest.
        beside = location.key if location.bucket is None else self.held.subject.prefix + location.key.split("/")[-1]
        return layout.rekeyed_key(beside, created_at=found.manifest.created_at, moment=self.moment)

    def _details(self, found: catalogue.Found, *, key: str) -> dict[str, t.Any]:
        return {
            "key": key,
            "name": self.held.subject.name,
            "created_at": f"{found.manifest.created_at:%Y-%m-%dT%H:%M:%SZ}",
            "recipients": list(self.held.subject.recipients),
            "signed": self.held.signed_by is not None,
            "warnings": []
            if self.held.signed_by is not None
            else ["the backup is not signed, and neither is its copy"],
        }

    def rekey(self) -> outcome.Outcome:
        """Store the copy, its manifest, and ``latest`` if that names the old one."""
        found, started = self._found(), time.monotonic()
        key = self._new_key(found)
        stream = self._store_copy(found, key)
        described = self._described(found, key, stream)
        if self.held.signed_by is not None:
            described = t.cast(Signer, self.options.signer).sign(described)
        data = manifest.render(described)
        self.store.put_if_absent(layout.manifest_key(key), data)
        moved, warnings = self._move_latest(data)
        details = self._details(found, key=key)
        details["warnings"] = [*details["warnings"], *warnings]
        details.update(
            manifest=layout.manifest_key(key),
            sha256=described.sha256,
            size=described.size,
            latest=moved,
            duration_seconds=round(time.monotonic() - started, 3),
        )
        return outcome.Outcome(self._key, REKEYED, details)

    def _store_copy(self, found: catalogue.Found, key: str) -> pipeline.Encoded:
        """Encrypt the object to the new recipients and store it; its sizes and checksums come back."""
        said, location = found.manifest, found.location
        where = found.store if location.bucket is None else found.store.sibling(location.bucket)
        new = age.parse_recipients(self.held.subject.recipients)
        contents, text = registry.contents(said), hashlib.sha256()

        def observe(chunk: bytes) -> None:
            contents.feed(chunk)
            if said.plaintext_sha256 is not None:
                text.update(chunk)

        def finish(size: int) -> None:
            _compare(said, size=size, sha256=text.hexdigest())
            contents.finish()

        with contextlib.closing(where.open(location.key)) as reader:
            if said.size not in (None, reader.size):
                raise ChecksumMismatch(
                    f"{where.url(location.key)} has {reader.size} bytes, its manifest says {said.size}",
                    hint="the object is damaged or was replaced: choose another backup",
                )
            self.reporter.stage(self._key, "rekey", f"encrypting it as {self.store.url(key)}", total=reader.size)
            encoded = pipeline.reencrypt(
                reader,
                identities=self.options.identities,
                recipients=new,
                expected_sha256=said.sha256,
                proof=self._proof(said),
                chunk_size=manifest.chunk_size(reader.size),
                observe=observe,
                finish=finish,
                advance=lambda count: self.reporter.advance(self._key, count),
            )
            with contextlib.closing(encoded) as stream:
                # A manifest that no restore would read is found before the object is stored.
                ended = Ended(stream, lambda: manifest.parse(manifest.render(self._described(found, key, stream))))
                try:
                    stored = self.store.upload(key, ended, size_hint=reader.size + 64 * 1024)
                except WrongIdentity as exc:
                    raise recipients.explain(
                        exc, url=where.url(location.key), recorded=said.recipients, owners=self.options.owners
                    ) from None
        if stored.size != stream.size:
            raise StoreError(
                f"{self.store.url(key)} has {stored.size} bytes, {stream.size} were sent",
                phase="upload",
                hint="the store lost data: the old object is as it was",
            )
        return stream

    def _proof(self, said: manifest.Manifest) -> pipeline.Proof | None:
        if self.held.signed_by is None or said.size is None or said.chunks is None:
            return None
        return pipeline.Proof(said.size, said.sha256, said.chunks, origin="the one its manifest names")

    def _described(self, found: catalogue.Found, key: str, stream: pipeline.Encoded) -> manifest.Manifest:
        signer = None if self.held.signed_by is None else self.options.signer
        return manifest.rekeyed(
            found.data,
            at=self.moment,
            recipients=tuple(self.held.subject.recipients),
            changes={
                "key": key,
                "sha256": stream.sha256,
                "size": stream.size,
                "chunks": stream.chunks,
                "plaintext_size": stream.plain_size,
                "version": VERSION,
                "destination": self.store.facts,
                "host": found.manifest.host if signer is None else signer.host,
            },
        )

    def point_to(self, copy: str) -> outcome.Outcome:
        """Move ``latest``, which an interrupted run has left on the old one, to the copy that is there."""
        found = catalogue.read_immutable(self.store, layout.manifest_key(copy))
        if self.held.signed_by is not None:
            prove(found, self.held.subject, trust=self.options.accepting)
        moved, warnings = self._move_latest(found.data)
        return outcome.Outcome(
            self._key, REKEYED if moved else UNCHANGED, {"copy": copy, "latest": moved, "warnings": warnings}
        )

    def _move_latest(self, data: bytes) -> tuple[bool, list[str]]:
        """Make the copy the latest backup if the old one is; whether it was, and warnings, come back.

        :param data: the manifest of the copy.
        """
        subject = self.held.subject
        latest = catalogue.read_latest(self.store, subject.prefix)
        if latest is None or latest.sha256 != self.held.sha256:
            return False, []
        trust = None if self.held.signed_by is None else self.options.accepting
        # A backup stores its own manifest before it moves latest, so one that is about to do that is seen here.
        newer = verification.survey(
            self.store, subject.prefix, than=latest.manifest.created_at, trust=trust, database=subject
        )
        if any(link.sequence > (latest.manifest.sequence or 0) for link in newer.links):
            return False, ["latest still names the old object, because there is a newer backup, which will move it"]
        self.store.put(layout.latest_key(subject.prefix), data)
        return True, []


def _compare(said: manifest.Manifest, *, size: int, sha256: str) -> None:
    """Raise unless the plain text is the one that the manifest describes."""
    if said.plaintext_size not in (None, size):
        cause = f"{size} bytes, {said.plaintext_size} in the manifest"
    elif said.plaintext_sha256 not in (None, sha256):
        cause = f"SHA-256 {sha256}, {said.plaintext_sha256} in the manifest"
    else:
        return
    raise ChecksumMismatch(
        "the text of the backup is not the one that its manifest describes", cause=cause, hint="choose another backup"
    )
