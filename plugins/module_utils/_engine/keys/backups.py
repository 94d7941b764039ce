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
    """One backup in a store.

    :param backup: its entry in the catalogue.
    :param found: its manifest; ``None``: it has none that can be read.
    :param signed_by: the accepted host that signed the manifest; ``None``: that is not proven.
    :param error: why the manifest can't be read, or is not proven.
    """

    subject: Subject
    backup: catalogue.Backup
    found: catalogue.Found | None = None
    signed_by: Signed | None = None
    error: EngineError | None = None

    @property
    def recipients(self) -> tuple[str, ...] | None:
        """The recipients that the manifest names; ``None``: it names none."""
        return None if self.found is None else self.found.manifest.recipients

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
    latest = catalogue.read_latest(store, subject.prefix)
    return [
        _held(store, subject, backup, latest, trust=trust)
        for backup in catalogue.catalogue(store, subject.name, prefix=subject.prefix)
    ]


def _held(
    store: Store, subject: Subject, backup: catalogue.Backup, latest: catalogue.Found | None, *, trust: Trust
) -> Held:
    key = backup.key if backup.key.endswith(layout.MANIFEST_SUFFIX) else layout.manifest_key(backup.key)
    found = latest if backup.latest else None
    try:
        # What is beside the dump can't be replaced by its writer, as latest can.
        found = catalogue.read_immutable(store, key)
    except NotFound as exc:
        if found is None:
            return Held(subject, backup, error=exc)
    except EngineError as exc:
        return Held(subject, backup, error=exc)
    wrong = misplaced(found.manifest, key=found.key, url=store.url(found.key), database=subject)
    try:
        if wrong is not None:
            raise wrong
        return Held(subject, backup, found, verification.prove(found, trust=trust, database=subject))
    except EngineError as exc:  # for example, also if ssh-keygen is missing
        return Held(subject, backup, found, error=exc)
