# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Verification of the manifests that a restore or a backup relies on: who signed them, and whether that counts."""

from __future__ import annotations

import dataclasses
import datetime
import typing as t

from ..domain import layout, lineage, manifest
from ..domain import trust as trusting
from ..domain.databases import Database
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

#: How many manifests beside the latest one are read.
_MOST_READ = 20
#: How far clocks of hosts differ.
_SKEW = datetime.timedelta(minutes=5)


def prove(found: catalogue.Found, *, trust: Trust, database: Database) -> Signed:
    """The host that signed the manifest, whose backups of *database* are accepted.

    :raises TrustError: if that is not proven.
    """
    said, url = found.manifest, found.store.url(found.key)
    incomplete = trusting.incomplete(said, url=url)
    if incomplete is not None:
        raise incomplete
    signature, host = said.signature or "", said.host or ""
    own = trust.own_key and trusting.key_of(signature) == trust.own_key.split()[1]
    # This host's own key needs no line, and counts whatever the host was called when it signed.
    allowed = trusting.signers_line(host, trust.own_key) + "\n" if own else trust.allowed_signers
    if not trusting.holds_keys(allowed):
        raise trusting.no_signers(url)
    message = manifest.signed_text(found.data)

    def verify(signer: str) -> trusting.Verdict:
        return sshsig.verify(
            message,
            signature,
            signer=signer,
            moment=said.created_at,
            allowed_signers=allowed,
            revoked_keys=trust.revoked_keys,
            run=keys.ssh_keygen(),
        )

    verdict = verify(host)
    refusal = trusting.refusal(verdict, said, url=url)
    if refusal is not None:
        raise refusal
    accepted = trusting.accepted_names(trust, database=database, key=found.key)
    # The same key under an accepted name: a host that has another name today.
    if not (own or host in accepted or any(verify(name).reason == trusting.GOOD for name in accepted)):
        raise trusting.foreign(said, key=verdict.key, url=url, database=database, accepted=accepted)
    return Signed(host, verdict.key)


def check(found: catalogue.Found, *, trust: Trust, database: Database) -> tuple[Signed | None, tuple[str, ...]]:
    """Verify the manifest that a restore of *database* relies on; returns who signed it, and warnings.

    :returns: no signer only if nothing has to be signed.
    :raises TrustError: if it must not be restored.
    """
    said = found.manifest
    misplaced = trusting.misplaced(said, key=found.key, url=found.store.url(found.key), database=database)
    if misplaced is not None:
        raise misplaced
    warnings: list[str] = []
    signed: Signed | None = None
    try:
        signed = prove(found, trust=trust, database=database)
    except EngineError as exc:  # also where there is no ssh-keygen, for example
        warnings.append(_tolerated(exc, trust=trust))
    if found.key.endswith(layout.LATEST):
        now = datetime.datetime.now(datetime.timezone.utc)
        aged = trusting.aged(said, now=now, limit=trust.max_age)
        warnings += [] if aged is None else [aged]
        warnings += _behind(found, signed=signed, trust=trust, database=database)
    return signed, tuple(warnings)


def check_bare(url: str, *, trust: Trust) -> tuple[str, ...]:
    """Warnings about a dump that has no manifest.

    :raises TrustError: unless nothing has to be signed.
    """
    return (_tolerated(trusting.unsigned(url, what="there is no manifest of it"), trust=trust),)


def _tolerated(error: EngineError, *, trust: Trust) -> str:
    """Raise *error*, or turn it into a warning if nothing has to be signed."""
    if trust.mode == trusting.SIGNED:
        raise error
    return f"restored without proof, as requested: {error.message}" + (f" ({error.cause})" if error.cause else "")


@dataclasses.dataclass(frozen=True)
class Survey:
    """The immutable manifests under a prefix that are newer than its latest one, as the verification found them.

    :param believed: those that count, each with who signed it (``None``: nothing had to be signed).
    :param strange: keys of those that don't count: unsigned, of a host that isn't accepted, forged, unreadable.
    :param unread: how many were not read, because there are too many.
    """

    believed: tuple[tuple[catalogue.Found, Signed | None], ...]
    strange: tuple[str, ...]
    unread: int

    @property
    def links(self) -> tuple[lineage.Link, ...]:
        """Those that count, as backups that others can follow."""
        return tuple(lineage.link(found.manifest, found.sha256, signed) for found, signed in self.believed)

    @property
    def warning(self) -> str | None:
        """The warning about those that don't count; ``None``: there are none."""
        return trusting.strange(self.strange, unread=self.unread) if self.strange or self.unread else None


def survey(
    store: Store, prefix: str, *, than: datetime.datetime | None, trust: Trust | None, database: Database
) -> Survey:
    """Look through the immutable manifests under *prefix* that are newer by their keys.

    At most :data:`_MOST_READ` are read, the newest first, and those of times that are yet to come after all others:
    a host whose clock is right leaves none.  So a backup that counts is overlooked only behind so many that don't, and
    then :attr:`Survey.unread` says that not all were read.

    :param than: ``None``: all of them.
    :param trust: who must have signed them; ``None``: nobody.
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


def standing(store: Store, *, trust: Trust, database: Database) -> lineage.Latest | None:
    """The latest manifest of *database*, as far as a host that signs believes it; ``None``: there is none.

    :param trust: who must have signed it.
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
    # The signature is sound, or there is nobody to compare it with.
    return lineage.FOREIGN if isinstance(error, (ForeignSigner, UnknownSigner, SignersMissing)) else lineage.FORGED


def _behind(latest: catalogue.Found, *, signed: Signed | None, trust: Trust, database: Database) -> t.Iterator[str]:
    """Warnings about the manifests that are newer than the latest one; those count that are as good as it is."""
    try:
        found = survey(
            latest.store,
            latest.key[: -len(layout.LATEST)],
            than=latest.manifest.created_at,
            trust=None if signed is None else trust,
            database=database,
        )
    except AccessDenied:
        yield "the store doesn't let us list the backups, so whether latest is the newest is unknown"
        return
    own = lineage.link(latest.manifest, latest.sha256, signed)
    highest = max(found.links, key=lambda one: one.sequence, default=own)
    if highest.sequence > own.sequence:
        # What nobody has signed is not suggested.
        word = shell_word(highest.key) if highest.signed_by else None
        advice = "" if word is None else f"; to restore the newer one name {word}"
        yield lineage.behind(own, highest) + advice
    if found.warning is not None:
        yield found.warning
