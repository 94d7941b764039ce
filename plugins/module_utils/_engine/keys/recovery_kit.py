# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The use case "recovery kit": the files of a kit, with objects that prove keys, and private keys if that is wanted."""

from __future__ import annotations

import datetime
import shutil
import typing as t

from ..domain import recovery_kit
from ..domain.recovery_kit import Facts
from ..domain.secret import Secret
from ..domain.subjects import Subject
from ..domain.trust import Trust
from ..errors import EngineError
from ..streams import age
from ..streams.process import child_environment, run
from ..version import VERSION

#: Programs that the steps of a kit use and that print their version.
_PROGRAMS = ("age", "gunzip", "psql", "jq", "sha256sum")


def kit(
    subjects: t.Sequence[Subject],
    *,
    trust: Trust,
    location: str,
    endpoint: str | None,
    moment: datetime.datetime,
    identities: Secret | None = None,
    passphrase: Secret | None = None,
) -> dict[str, bytes]:
    """The files of a kit, by name.

    :param identities: private keys, one per line; they are encrypted with *passphrase*.  ``None``: the kit has none.
    """
    facts = Facts(
        subjects=tuple(subjects),
        trust=trust,
        location=location,
        endpoint=endpoint,
        created_at=moment,
        versions={"infrazero.database": VERSION, **_versions()},
        identities=identities is not None,
    )
    found = {name: text.encode("utf-8") for name, text in recovery_kit.files(facts).items()}
    for number, subject in enumerate(subjects, 1):
        name, text = recovery_kit.proof_name(number, subject), recovery_kit.proof_text(subject)
        found[name] = age.encrypt(text.encode("utf-8"), subject.recipients)
    if identities is not None and passphrase is not None:
        found[recovery_kit.IDENTITIES] = age.encrypt_with_passphrase(identities, passphrase)
    return found


def not_opened(subjects: t.Sequence[Subject], identities: Secret) -> list[str]:
    """Names of the databases whose backups none of *identities* opens.

    :raises ConfigurationError: if one of them is not a private key.
    """
    age.parse_identities([identities])
    return [subject.name for subject in subjects if age.pair_fault(subject.recipients, identities) is not None]


def _versions() -> dict[str, str]:
    found = {}
    for program in _PROGRAMS:
        if shutil.which(program) is None:
            continue
        try:
            printed = run([program, "--version"], phase="versions", environment=child_environment())
        except EngineError:
            continue
        lines = printed.decode("utf-8", "replace").splitlines()
        if lines:
            found[program] = lines[0]
    return found
