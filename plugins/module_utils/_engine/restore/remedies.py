# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""What an operator can do about a backup that is not accepted, as far as the store knows it.

Nothing here makes a backup acceptable: a backup is suggested only if an accepted host has signed it, and a published
key is only ever named together with the fingerprint that has to be compared.
"""

from __future__ import annotations

import contextlib
import datetime

from ..domain import layout, nearby
from ..domain import trust as trusting
from ..domain.subjects import Subject
from ..domain.trust import Trust
from ..errors import EngineError, NotFound, SignersMissing, TrustError, UnknownSigner, Unsigned
from ..printing import printable_name, shell_word
from ..signing import verification
from ..stores import catalogue
from ..stores.base import Store

#: Size limit of a published key: one line.
_MOST_BYTES = 4096


def explained(error: TrustError, found: catalogue.Found, *, trust: Trust, database: Subject) -> TrustError:
    """*error*, which refuses the manifest *found*, with a hint that names what is in the store."""
    other = newest_beside(found, trust=trust, database=database)
    key = trusting.key_of(found.manifest.signature or "")
    if isinstance(error, Unsigned):
        _explain_unsigned(error, found, other)
    elif isinstance(error, (UnknownSigner, SignersMissing)) and key is not None and key not in trust.allowed_signers:
        error.hint = trusting.steps(found.manifest, published=_published(found, key), other=other)
    elif other:
        error.hint += f"; the newest backup that an accepted host has signed is {other}"
    return error


def _explain_unsigned(error: TrustError, found: catalogue.Found, other: str) -> None:
    """Add the hint to restore an unsigned backup anyway only if there is one."""
    instead = f"restore {other}" if other else "choose a backup that one of your hosts has signed"
    named = found.location
    if named.bucket is not None:
        # Nothing in another bucket is read because of an unsigned text.
        word = shell_word(found.manifest.key)
        error.hint = f"{instead}; it names an object in another bucket" + (f": {word}" if word else "")
    elif _is_absent(found.store, named.key):
        error.cause += f", and the object that it names is not there: {printable_name(named.key)}"
        error.hint = f"{instead}; find out who wrote the manifest"
    else:
        error.hint = f"{instead}; {trusting.OLDER}"


def newest_beside(found: catalogue.Found, *, trust: Trust, database: Subject) -> str:
    """As :func:`newest_accepted`, beside the manifest *found*."""
    return newest_accepted(found.store, _prefix(found.key), trust=trust, database=database)


def newest_accepted(store: Store, prefix: str, *, trust: Trust, database: Subject) -> str:
    """Describe the newest backup under *prefix* that an accepted host has signed; an empty text if there is none."""
    with contextlib.suppress(EngineError):
        proven = verification.newest(store, prefix, trust=trust, database=database)
        if proven is not None:
            found, signed = proven
            one = nearby.Nearby(found.manifest.key, found.manifest.created_at, signed.name, accepted=True)
            return one.described(datetime.datetime.now(datetime.timezone.utc)) or ""
    return ""


def _is_absent(store: Store, key: str) -> bool:
    """Whether the store reports that the object does not exist."""
    try:
        store.head(key)
    except NotFound:
        return True
    except EngineError:
        pass
    return False


def _published(found: catalogue.Found, key: str) -> str:
    """URL of the public key *key* if it is published beside the manifest that it has signed."""
    place = layout.signer_key(_prefix(found.key), str(found.manifest.host), trusting.fingerprint(key))
    with contextlib.suppress(EngineError):
        if key.encode() in found.store.get(place, limit=_MOST_BYTES).split():
            return found.store.url(place)
    return ""


def _prefix(key: str) -> str:
    return key[: key.rfind("/") + 1]
