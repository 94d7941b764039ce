# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The use case "trust": sign manifests with the host's own key, and judge those that a restore is to go by."""

from __future__ import annotations

import dataclasses
import datetime
import functools
import itertools
import pathlib
import typing as t

from . import catalogue
from .domain import layout, manifest, trusting
from .domain.databases import Database
from .domain.trusting import Trust
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

    @property
    def trust(self) -> Trust:
        """Trust in this key alone."""
        return Trust(
            mode=trusting.SIGNED, allowed_signers=trusting.signers_line(self.host, self.public_key) + "\n", max_age=None
        )

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


def fault(found: catalogue.Found, *, trust: Trust) -> TrustError | None:
    """Why the manifest is not proven to be a trusted host's; ``None``: it is."""
    said, url = found.manifest, found.store.url(found.key)
    incomplete = trusting.incomplete(said, url=url)
    if incomplete is not None:
        return incomplete
    if not trusting.holds_keys(trust.allowed_signers):
        return trusting.no_signers(url)
    verdict = sshsig.verify(
        manifest.signed_text(found.data),
        said.signature or "",
        signer=said.host or "",
        moment=said.created_at,
        allowed_signers=trust.allowed_signers,
        revoked_keys=trust.revoked_keys,
        run=_run(),
    )
    return trusting.refusal(verdict, said, url=url)


def check(found: catalogue.Found, *, trust: Trust, database: Database) -> tuple[str, ...]:
    """Judge the manifest that a restore of *database* is to go by; what is to be warned of comes back.

    :raises TrustError: where it is not to be restored from.
    """
    said = found.manifest
    misplaced = trusting.misplaced(said, key=found.key, url=found.store.url(found.key), database=database)
    if misplaced is not None:
        raise misplaced
    warnings = list(_tolerated(trust, lambda: fault(found, trust=trust)))
    if found.key.endswith(layout.LATEST):
        now = datetime.datetime.now(datetime.timezone.utc)
        aged = trusting.aged(said, now=now, limit=trust.max_age)
        warnings += filter(None, [aged, _behind(found, trust=trust)])
    return tuple(warnings)


def check_bare(url: str, *, trust: Trust) -> tuple[str, ...]:
    """Judge a dump without a manifest; what is to be warned of comes back.

    :raises TrustError: unless nothing has to be signed.
    """
    return tuple(_tolerated(trust, lambda: trusting.unsigned(url, what="there is no manifest of it")))


def _tolerated(trust: Trust, judge: t.Callable[[], TrustError | None]) -> t.Iterator[str]:
    """Raise what *judge* says, or, where nothing has to be signed, make a warning of it."""
    try:
        error: EngineError | None = judge()
    except EngineError as exc:
        # No ssh-keygen here, for example.
        error = exc
    if error is None:
        return
    if trust.mode == trusting.SIGNED:
        raise error
    yield f"restored on trust, as was asked for: {error.message}" + (f" ({error.cause})" if error.cause else "")


def newer(store: Store, prefix: str, *, than: datetime.datetime | None, trust: Trust | None) -> catalogue.Found | None:
    """The newest manifest under *prefix* that is newer by its key and counts; ``None``: there is none.

    :param trust: who must have signed it; ``None``: nobody.
    """
    # An attacker may have left any number of them.
    for found in itertools.islice(catalogue.newer(store, prefix, than=than), _MOST_NEWER):
        if trust is None or fault(found, trust=trust) is None:
            return found
    return None


def _behind(latest: catalogue.Found, *, trust: Trust) -> str | None:
    """What the prefix's immutable manifests say of its latest one; only those count that are as good as it must be."""
    try:
        found = newer(
            latest.store,
            latest.key[: -len(layout.LATEST)],
            than=latest.manifest.created_at,
            trust=None if trust.mode == trusting.UNSIGNED else trust,
        )
    except AccessDenied:
        return "the store doesn't let us list the backups, so whether latest is the newest can't be told"
    return None if found is None else trusting.behind(latest.manifest, found.manifest)
