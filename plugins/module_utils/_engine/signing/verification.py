# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Verification of the manifests that restores and backups use: who signed them, and whether the signer is accepted."""

from __future__ import annotations

import dataclasses
import datetime
import typing as t

from ..domain import layout, lineage, manifest
from ..domain import trust as trusting
from ..domain.subjects import Subject
from ..domain.trust import Signed, Trust
from ..errors import (
    AccessDenied,
    EngineError,
    ForeignSigner,
    ManifestError,
    NotFound,
    SignersMissing,
    TrustError,
    UnknownSigner,
    Unsigned,
)
from ..printing import shell_word
from ..stores import catalogue
from ..stores.base import Store
from . import keys, sshsig

#: Maximum number of manifests read in addition to the latest one.
_MOST_READ = 20
#: How far the clocks of hosts may differ.
_SKEW = datetime.timedelta(minutes=5)


def prove(found: catalogue.Found, *, trust: Trust, database: Subject) -> Signed:
    """Prove that a host whose backups of *database* are accepted signed the manifest; return the signer.

    The manifest of a rekeyed backup has to be proven, and so does the one that it had before: whoever rekeys a backup
    vouches for the new object, but can't make a backup acceptable that was not, or that no longer is.

    :raises TrustError: if that can't be proven.
    """
    url = found.store.url(found.key)
    signed = _prove(found.manifest, found.data, key=found.key, url=url, trust=trust, database=database)
    after, data, url = found.manifest, found.data, f"the backup that {url} was rekeyed from"
    while after.rekeyed is not None:
        data = manifest.earlier(data)
        before = manifest.parse(data)
        _prove(before, data, key=found.key, url=url, trust=trust, database=database)
        if not manifest.agree(before, after):
            raise trusting.disagreeing(url)
        after = before
    return signed


def _prove(parsed: manifest.Manifest, data: bytes, *, key: str, url: str, trust: Trust, database: Subject) -> Signed:
    """Prove the signature of one manifest.

    :param data: its bytes.
    :param key: where it is, or where the one is that it is embedded in.
    """
    incomplete = trusting.incomplete(parsed, url=url)
    if incomplete is not None:
        raise incomplete
    signature, host = parsed.signature or "", parsed.host or ""
    own = trust.own_key and trusting.key_of(signature) == trust.own_key.split()[1]
    # This host's own key needs no line, and is accepted whatever name the host had when it signed.
    allowed = trusting.signers_line(host, trust.own_key) + "\n" if own else trust.allowed_signers
    if not trusting.holds_keys(allowed):
        raise trusting.no_signers(parsed, url=url)
    message = manifest.signed_text(data)

    def verify(signer: str) -> trusting.Verdict:
        return sshsig.verify(
            message,
            signature,
            signer=signer,
            moment=parsed.created_at,
            allowed_signers=allowed,
            revoked_keys=trust.revoked_keys,
            run=keys.ssh_keygen(),
        )

    verdict = verify(host)
    refusal = trusting.refusal(verdict, parsed, url=url)
    if refusal is not None:
        raise refusal
    accepted = trusting.accepted_names(trust, database=database, key=key)
    # The same key under an accepted name: a host that has been renamed since.
    if not (own or host in accepted or any(verify(name).reason == trusting.GOOD for name in accepted)):
        raise trusting.foreign(parsed, key=verdict.key, url=url, database=database, accepted=accepted)
    return Signed(host, verdict.key)


def check(found: catalogue.Found, *, trust: Trust, database: Subject) -> tuple[Signed | None, tuple[str, ...]]:
    """Verify the manifest that a restore of *database* uses.

    :returns: the signer and warnings; the signer is ``None`` only if signatures are not required.
    :raises TrustError: if the backup must not be restored.
    """
    parsed = found.manifest
    misplaced = trusting.misplaced(parsed, key=found.key, url=found.store.url(found.key), database=database)
    if misplaced is not None:
        raise misplaced
    warnings: list[str] = []
    signed: Signed | None = None
    try:
        signed = prove(found, trust=trust, database=database)
    except EngineError as exc:  # for example, also if ssh-keygen is missing
        warnings.append(_tolerated(exc, trust=trust))
    if found.key.endswith(layout.LATEST):
        now = datetime.datetime.now(datetime.timezone.utc)
        aged = trusting.aged(parsed, now=now, limit=trust.max_age)
        warnings += [] if aged is None else [aged]
        warnings += _behind(found, signed=signed, trust=trust, database=database)
    return signed, tuple(warnings)


def check_bare(url: str, *, trust: Trust) -> tuple[str, ...]:
    """Return the warnings about a dump that has no manifest.

    :raises TrustError: if signatures are required.
    """
    return (_tolerated(trusting.unsigned(url, what="it has no manifest"), trust=trust),)


def _tolerated(error: EngineError, *, trust: Trust) -> str:
    """Raise *error* if signatures are required; otherwise return it as a warning."""
    if trust.mode == trusting.SIGNED:
        raise error
    return f"restored without verification, as requested: {error.message}" + (
        f" ({error.cause})" if error.cause else ""
    )


@dataclasses.dataclass(frozen=True)
class Survey:
    """The immutable manifests under a prefix that are newer than its latest manifest.

    :param believed: the accepted manifests, each with its signer (``None`` if signatures are not required).
    :param strange: keys of the others: unsigned, of a host that is not accepted, forged or unreadable.
    :param unread: number of manifests that were not read because there are too many.
    """

    believed: tuple[tuple[catalogue.Found, Signed | None], ...]
    strange: tuple[str, ...]
    unread: int

    @property
    def links(self) -> tuple[lineage.Link, ...]:
        """The accepted manifests as backups that others can follow."""
        return tuple(lineage.link(found.manifest, found.sha256, signed) for found, signed in self.believed)

    @property
    def warning(self) -> str | None:
        """The warning about manifests that are not accepted; ``None`` if there are none."""
        return trusting.strange(self.strange, unread=self.unread) if self.strange or self.unread else None


def survey(
    store: Store, prefix: str, *, than: datetime.datetime | None, trust: Trust | None, database: Subject
) -> Survey:
    """Read the immutable manifests under *prefix* whose keys are newer than *than*.

    At most :data:`_MOST_READ` are read, the newest first.  Those with a time in the future come last, because a host
    with a correct clock creates none.  So an accepted backup is missed only behind that many others, and then
    :attr:`Survey.unread` is not 0.

    :param than: ``None`` for all manifests.
    :param trust: the required signers; ``None`` if signatures are not required.
    """
    soon = datetime.datetime.now(datetime.timezone.utc) + _SKEW
    dated = catalogue.newer(store, prefix, than=than)
    ordered = [key for moment, key in dated if moment <= soon]
    ordered += [key for moment, key in reversed(dated) if moment > soon]
    believed: list[tuple[catalogue.Found, Signed | None]] = []
    strange: list[str] = []
    for key in ordered[:_MOST_READ]:
        try:
            found = catalogue.read_immutable(store, key)
            misplaced = trusting.misplaced(found.manifest, key=key, url=store.url(key), database=database)
            if misplaced is not None:
                raise misplaced
            believed.append((found, None if trust is None else prove(found, trust=trust, database=database)))
        except NotFound:
            continue
        except (ManifestError, TrustError):
            strange.append(key)
    return Survey(tuple(believed), tuple(strange), len(ordered[_MOST_READ:]))


def newest(store: Store, prefix: str, *, trust: Trust, database: Subject) -> tuple[catalogue.Found, Signed] | None:
    """The newest backup under *prefix* that an accepted host has signed; ``None`` if there is none.

    :param trust: the required signers.
    """
    believed = survey(store, prefix, than=None, trust=trust, database=database).believed
    signed = [(found, signer) for found, signer in believed if signer is not None]
    return max(signed, key=lambda one: one[0].manifest.created_at, default=None)


def standing(store: Store, *, trust: Trust, database: Subject) -> lineage.Latest | None:
    """The latest manifest of *database* and whether a host that signs accepts it; ``None`` if there is none.

    :param trust: the required signers.
    """
    try:
        found = catalogue.read_latest(store, database.prefix)
    except ManifestError as exc:
        return lineage.Latest(lineage.UNREADABLE, "", reason=exc.message)
    if found is None:
        return None
    try:
        misplaced = trusting.misplaced(found.manifest, key=found.key, url=store.url(found.key), database=database)
        if misplaced is not None:
            raise misplaced
        signed = prove(found, trust=trust, database=database)
    except TrustError as exc:
        return lineage.Latest(_standing_of(exc), found.sha256, found.manifest, reason=exc.message)
    return lineage.Latest(lineage.BELIEVED, found.sha256, found.manifest, signed)


def _standing_of(error: TrustError) -> str:
    if isinstance(error, Unsigned):
        return lineage.UNSIGNED
    # The signature is valid, or this host has no trusted key to verify it with.
    return lineage.FOREIGN if isinstance(error, (ForeignSigner, UnknownSigner, SignersMissing)) else lineage.FORGED


def _behind(latest: catalogue.Found, *, signed: Signed | None, trust: Trust, database: Subject) -> t.Iterator[str]:
    """Warnings about manifests that are newer than the latest one; they need a signature if it has one."""
    try:
        newer = survey(
            latest.store,
            latest.key[: -len(layout.LATEST)],
            than=latest.manifest.created_at,
            trust=None if signed is None else trust,
            database=database,
        )
    except AccessDenied:
        yield "can't check whether latest is the newest backup, because the store denies listing the backups"
        return
    own = lineage.link(latest.manifest, latest.sha256, signed)
    highest = max(newer.links, key=lambda one: one.sequence, default=own)
    if highest.sequence > own.sequence:
        # An unsigned backup is not suggested.
        word = shell_word(highest.key) if highest.signed_by else None
        advice = "" if word is None else f"; to restore the newer one, name {word}"
        yield lineage.behind(own, highest) + advice
    if newer.warning is not None:
        yield newer.warning
