# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The backups of a database with their manifests: who signed them, and who can read them."""

from __future__ import annotations

import dataclasses

from ..domain import layout, recipients
from ..domain.subjects import Subject
from ..domain.trust import Signed, Trust, misplaced
from ..errors import EngineError, NotFound, Unsigned
from ..signing import verification
from ..stores import catalogue
from ..stores.base import Store


@dataclasses.dataclass(frozen=True)
class Held:
    """One backup in a store, and what its manifest says of its readers.

    Manifests may be large, and anyone with write access to the store can leave any number of them, so none is kept.

    :param backup: its entry in the catalogue.
    :param manifest: key of its manifest; ``None``: it has none, or none that can be read.
    :param sha256: SHA-256 of the manifest's bytes.
    :param recipients: that the manifest names; ``None``: it names none.
    :param stands_for: SHA-256 of the manifests that the backup had before it was rekeyed.
    :param signed_by: the accepted host that signed the manifest; ``None``: that is not proven.
    :param error: why the manifest can't be read, or is not proven.
    """

    subject: Subject
    backup: catalogue.Backup
    manifest: str | None = None
    sha256: str = ""
    recipients: tuple[str, ...] | None = None
    stands_for: tuple[str, ...] = ()
    signed_by: Signed | None = None
    error: EngineError | None = None

    @property
    def is_for_others(self) -> bool:
        """Whether it is known to be encrypted to other recipients than the list has."""
        return self.recipients is not None and not recipients.same(self.recipients, self.subject.recipients)

    @property
    def reason(self) -> str:
        """Why the manifest is not proven; empty if it is."""
        return "" if self.error is None else self.error.message

    @property
    def is_unsigned(self) -> bool:
        """Whether nobody claims to have signed it."""
        return isinstance(self.error, Unsigned)


def held(store: Store, subject: Subject, *, trust: Trust) -> list[Held]:
    """Every backup of *subject*, newest first; reads a listing and each manifest, no object.

    :param trust: whose signatures are accepted.
    """
    return [
        _held(store, subject, backup, trust=trust)
        for backup in catalogue.catalogue(store, subject.name, prefix=subject.prefix)
    ]


def _held(store: Store, subject: Subject, backup: catalogue.Backup, *, trust: Trust) -> Held:
    try:
        found = _manifest(store, subject, backup)
    except EngineError as exc:
        return Held(subject, backup, error=exc)
    signed: Signed | None = None
    error: EngineError | None = None
    try:
        signed = prove(found, subject, trust=trust)
    except EngineError as exc:  # for example, also if ssh-keygen is missing
        error = exc
    parsed = found.manifest
    return Held(subject, backup, found.key, found.sha256, parsed.recipients, parsed.stands_for, signed, error)


def _manifest(store: Store, subject: Subject, backup: catalogue.Backup) -> catalogue.Found:
    key = backup.key if backup.key.endswith(layout.MANIFEST_SUFFIX) else layout.manifest_key(backup.key)
    try:
        # What is beside the dump can't be replaced by its writer, as latest can.
        return catalogue.read_immutable(store, key)
    except NotFound:
        if not backup.latest:
            raise
        return catalogue.read_manifest(store, layout.latest_key(subject.prefix))


def prove(found: catalogue.Found, subject: Subject, *, trust: Trust) -> Signed:
    """The accepted host that signed a manifest, which is in the right place.

    :raises TrustError: if that can't be proven.
    """
    wrong = misplaced(found.manifest, key=found.key, url=found.store.url(found.key), database=subject)
    if wrong is not None:
        raise wrong
    return verification.prove(found, trust=trust, database=subject)
