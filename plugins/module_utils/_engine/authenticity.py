# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The use case "trust": sign manifests with the host's own key, and verify those that a restore or backup relies on."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import functools
import itertools
import pathlib

from . import catalogue
from .domain import layout, manifest, trusting
from .domain.databases import Database
from .domain.trusting import Signed, Trust
from .errors import AccessDenied, ConfigurationError, EngineError, TrustError
from .stores.base import Store
from .streams.process import child_environment, run
from .trust import sshsig

#: Where the role backup leaves the host's key, and the role restore who else is trusted.
SIGNING_KEY = "/etc/infrazero/signing/id_ed25519"
ALLOWED_SIGNERS = "/etc/infrazero/allowed_signers"
REVOKED_KEYS = "/etc/infrazero/revoked_keys"
#: How many manifests that are newer than the latest are looked at.
_MOST_NEWER = 10


def _run() -> sshsig.Run:
    return functools.partial(run, stage="trust", environment=child_environment({"TZ": "UTC0"}))


@dataclasses.dataclass(frozen=True)
class Signer:
    """The host's own key.

    :param path: of the private key.
    :param host: the name that it signs under.
    :param public_key: type and base64.
    """

    path: str
    host: str
    public_key: str

    @classmethod
    def at(cls, path: str, *, host: str) -> Signer | None:
        """The key in *path*, proven to be usable; ``None`` where there is no such file.

        :param host: name of this host.
        """
        try:
            pathlib.Path(path).stat()
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise ConfigurationError(
                f"the signing key {path} can't be used",
                cause=exc.strerror or "",
                hint="its directory must belong to the user that backups run as",
            ) from None
        if not trusting.can_sign(host):
            raise ConfigurationError(
                f"the host's name {host!r} can't stand in an allowed_signers file",
                hint="give the host a name of letters, digits, '.', '_' and '-' (hostnamectl)",
            )
        return cls(path, host, sshsig.public_key(path, run=_run()))

    def accepting(self, trust: Trust) -> Trust:
        """*trust* as this host has it: signatures are required, and those of its own key and name count."""
        return dataclasses.replace(trust, mode=trusting.SIGNED, name=self.host, own_key=self.public_key)

    def sign(self, made: manifest.Manifest) -> manifest.Manifest:
        """*made* with a signature."""
        message = manifest.render(dataclasses.replace(made, signature=None))
        return dataclasses.replace(made, signature=sshsig.sign(message, path=self.path, run=_run()))


def read_keys(path: str) -> str:
    """The text of a file of keys on this host; one that isn't there has no lines."""
    try:
        return pathlib.Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as exc:
        cause = (exc.strerror or "") if isinstance(exc, OSError) else "it is no UTF-8"
        raise ConfigurationError(f"{path} can't be read", cause=cause, hint="its mode should be 0644") from None


def own_public_key(path: str) -> str:
    """Type and base64 of the public key beside the private one in *path*; ``""`` where there is none for us to read."""
    try:
        words = pathlib.Path(f"{path}.pub").read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError):
        return ""
    return " ".join(words[:2]) if len(words) > 1 else ""


def prove(found: catalogue.Found, *, trust: Trust, database: Database) -> Signed:
    """Who signed the manifest, a host whose backups of *database* are accepted.

    :raises TrustError: where that is not proven.
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
            run=_run(),
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
    """Verify the manifest that a restore of *database* is to go by: who signed it, and warnings, come back.

    :returns: no signer only where nothing has to be signed.
    :raises TrustError: where it is not to be restored from.
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
        warnings += filter(None, [aged, _behind(found, trust=trust, database=database)])
    return signed, tuple(warnings)


def check_bare(url: str, *, trust: Trust) -> tuple[str, ...]:
    """Warnings about a dump that has no manifest.

    :raises TrustError: unless nothing has to be signed.
    """
    return (_tolerated(trusting.unsigned(url, what="there is no manifest of it"), trust=trust),)


def _tolerated(error: EngineError, *, trust: Trust) -> str:
    """Raise *error*, or, where nothing has to be signed, make a warning of it."""
    if trust.mode == trusting.SIGNED:
        raise error
    return f"restored on trust, as was asked for: {error.message}" + (f" ({error.cause})" if error.cause else "")


def newer(
    store: Store, prefix: str, *, than: datetime.datetime | None, trust: Trust | None, database: Database
) -> catalogue.Found | None:
    """The newest manifest under *prefix* that is newer by its key and counts; ``None``: there is none.

    :param trust: who must have signed it; ``None``: nobody.
    """
    # An attacker may have left any number of them.
    for found in itertools.islice(catalogue.newer(store, prefix, than=than), _MOST_NEWER):
        with contextlib.suppress(TrustError):
            if trust is not None:
                prove(found, trust=trust, database=database)
            return found
    return None


def _behind(latest: catalogue.Found, *, trust: Trust, database: Database) -> str | None:
    """What the prefix's immutable manifests say of its latest one; only those count that are as good as it must be."""
    try:
        found = newer(
            latest.store,
            latest.key[: -len(layout.LATEST)],
            than=latest.manifest.created_at,
            trust=None if trust.mode == trusting.UNSIGNED else trust,
            database=database,
        )
    except AccessDenied:
        return "the store doesn't let us list the backups, so whether latest is the newest can't be told"
    return None if found is None else trusting.behind(latest.manifest, found.manifest)
