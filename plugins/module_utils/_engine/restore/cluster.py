# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The backup of a cluster's globals, chosen, verified and read.  What is done with it is the bootstrap's."""

from __future__ import annotations

import dataclasses
import typing as t

from ..domain import cluster, recipients
from ..domain import trust as trusting
from ..domain.records import RestoredFrom
from ..domain.subjects import ClusterGlobals
from ..domain.trust import Trust
from ..errors import Deleted, NotFound, Replayed, RestoreRefused, Unsigned, WrongIdentity
from ..printing import printable
from ..sources.base import RecordedGlobals
from ..stores.base import Store
from ..streams import age
from .choose import Choice, choose, explained, plain
from .restore import no_backup

if t.TYPE_CHECKING:
    from ..domain.secret import Secret


def read(
    store: Store,
    subject: ClusterGlobals,
    *,
    trust: Trust,
    identity: t.Callable[[str], Secret],
    source: str | None = None,
) -> RecordedGlobals | None:
    """Read the globals of a cluster; ``None``: the store says that there is no backup of them.

    A signature is always required, whatever *trust* says: no older tool has written such a backup.

    :param identity: returns the cluster's age private key, by the URL of the object.  It is called once a backup is
        found and its signature verified.
    :param source: a key, or a prefix that ends with ``/``; ``None``: the latest backup.
    :raises TrustError: if the backup must not be used.
    :raises RestoreRefused: if there are other backups than the latest, or the text is not that of globals.
    """
    choice = _choose(store, subject, source or subject.prefix, trust=trust, latest=source is None)
    if choice is None:
        return None
    try:
        text = _text(choice, age.parse_identities([identity(choice.url)]))
    except WrongIdentity as exc:
        raise explained(exc, choice, owners=recipients.owners([subject])) from None
    found, created_at = choice.manifest, choice.created_at
    return RecordedGlobals(
        cluster.parse(text),
        RestoredFrom(
            url=choice.url,
            key=choice.key,
            sha256=choice.sha256 or "",
            created_at=None if created_at is None else created_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
            manifest_sha256=None if choice.found is None else choice.found.sha256,
            system_identifier=None if found is None else found.system_identifier,
            sequence=None if found is None else found.sequence,
        ),
        signed_by=None if choice.signed_by is None else dataclasses.asdict(choice.signed_by),
        warnings=choice.warnings,
    )


def _choose(store: Store, subject: ClusterGlobals, source: str, *, trust: Trust, latest: bool) -> Choice | None:
    signed = dataclasses.replace(trust, mode=trusting.SIGNED)
    try:
        choice = choose(store, source, database=subject, trust=signed, suggest=not latest)
    except Unsigned as exc:
        exc.hint = (
            "roles are never created from an unsigned backup; age, gunzip and psql apply it by hand, see "
            "docs/formats/globals.md"
        )
        raise
    except NotFound as exc:
        if not latest or isinstance(exc, Deleted):
            raise
        no_backup(subject, store, trust=signed)
        return None
    # A database may be restored from anywhere; the roles of a cluster come from the place of its own.
    found = choice.found
    if found is not None and (found.store is not choice.store or _directory(found.key) != _directory(choice.key)):
        raise Replayed(
            f"{found.store.url(found.key)} names an object under another prefix",
            cause=printable(choice.url),
            hint="somebody has stored the manifest in the wrong place: find out who",
        )
    return choice


def _directory(key: str) -> str:
    return key.rpartition("/")[0]


def _text(choice: Choice, identities: t.Sequence[t.Any]) -> bytes:
    """The whole text, which is used only after its proven end."""
    pieces: list[bytes] = []
    size = 0
    with plain(choice, identities, proof=choice.proof) as decoded:
        while True:
            piece = decoded.read(1 << 20)
            if not piece:
                return b"".join(pieces)
            size += len(piece)
            if size > cluster.MAX_BYTES:
                raise RestoreRefused(
                    f"{choice.url} has more than {cluster.MAX_BYTES} bytes of text",
                    hint="this is not a backup of a cluster's globals; choose another one",
                )
            pieces.append(piece)
