# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The error for a source that names nothing: it suggests the nearest ones that exist.

Anyone with write access to the store can create objects with similar names.  So a source is suggested only if a known
host has signed it, with two exceptions: the prefix of the database itself, and what the operator has typed with a ``/``
at its end.  The suggestion says who signed it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import itertools

from ..domain import layout, nearby
from ..domain import trust as trusting
from ..domain.subjects import Subject
from ..domain.trust import Trust
from ..errors import AccessDenied, EngineError, ForeignSigner, NotFound
from ..printing import shell_word
from ..signing import verification
from ..stores import catalogue
from ..stores.base import Store

#: Maximum number of objects that are listed, and of manifests that are read, in search of similar names.
_MOST_LISTED = 10_000
_MOST_READ = 6


def absent(error: NotFound, store: Store, key: str, *, database: Subject, trust: Trust) -> NotFound:
    """The error for the object *key*, which the store reports as absent.

    :param error: the store's own error.
    """
    look = _Look(store, database, trust)
    why_few = look.around(key)
    now = datetime.datetime.now(datetime.timezone.utc)
    return NotFound(
        nearby.message(key, location=store.location, named=look.found, now=now, why_few=why_few),
        phase=error.phase,
        cause=error.cause,
        hint="infrazero-database list shows the backups of this host's databases",
    )


def prefix(store: Store, key: str, *, database: Subject, trust: Trust) -> str:
    """The beginning of a hint: the prefix that *key* is probably the name of, if a latest backup is there."""
    look = _Look(store, database, trust)
    look.at(f"{key}/")
    texts = [one.described(datetime.datetime.now(datetime.timezone.utc)) for one in look.found]
    return f"did you mean {texts[0]}? Otherwise, " if texts and texts[0] else ""


def in_bucket(store: Store, key: str) -> str:
    """The hint for a bucket that does not exist: the same key in the configured one, if it is there."""
    word = shell_word(key)
    with contextlib.suppress(EngineError):
        store.head(key)
        return f"did you mean {nearby.source_of(word)} in the bucket of this host, {store.location}?" if word else ""
    return ""


class _Look:
    """What is found in the store.

    :param found: sources, in the order in which they were found.
    """

    def __init__(self, store: Store, database: Subject, trust: Trust) -> None:
        self._store = store
        self._database = database
        self._trust = trust
        self.found: list[nearby.Nearby] = []

    def around(self, key: str) -> str:
        """Look for what was meant by *key*; returns why others could not be looked for, or an empty text."""
        if key.endswith(f"/{layout.LATEST}"):
            # The prefix may have other backups than the latest one.
            self._newest_of(key[: -len(layout.LATEST)])
        elif layout.moment_of(key) is None:
            self.at(f"{key}/")
        if self.found:
            return ""
        try:
            self._similar(key)
        except AccessDenied:
            return "the store denies listing other objects"
        except EngineError:
            return "other objects could not be listed"
        finally:
            self.at(self._database.prefix)
        return ""

    def at(self, prefix: str) -> None:
        """Add the latest backup under *prefix*, whoever has signed it; without one, the newest of an accepted host."""
        if any(one.source == prefix for one in self.found):
            return
        with contextlib.suppress(EngineError):
            latest = catalogue.read_latest(self._store, prefix)
            if latest is None:
                self._newest_of(prefix)
            else:
                self.found.append(self._judged(latest, prefix))

    def _newest_of(self, prefix: str) -> None:
        """Add the newest backup under *prefix* that an accepted host has signed."""
        with contextlib.suppress(EngineError):
            proven = verification.newest(self._store, prefix, trust=self._trust, database=self._database)
            if proven is not None:
                found, signed = proven
                source = found.manifest.key
                self.found.append(nearby.Nearby(source, found.manifest.created_at, signed.name, accepted=True))

    def _similar(self, key: str) -> None:
        """Add sources with names like *key* that a known host has signed, or any if no signature is required."""
        above = key[: -len(layout.LATEST) - 1] if key.endswith(f"/{layout.LATEST}") else key
        listed: list[str] = []
        while above and not listed:
            above = above.rpartition("/")[0]
            objects = self._store.list(f"{above}/" if above else "")
            listed = [info.key for info in itertools.islice(objects, _MOST_LISTED)]
        for source in nearby.similar(key, listed)[:_MOST_READ]:
            if len(self.found) == nearby.MOST:
                break
            with contextlib.suppress(EngineError):
                found = (
                    catalogue.read_manifest(self._store, layout.latest_key(source))
                    if source.endswith("/")
                    else catalogue.read_immutable(self._store, layout.manifest_key(source))
                )
                judged = self._judged(found, source)
                if judged.signer is not None or self._trust.mode == trusting.UNSIGNED:
                    self.found.append(judged)

    def _judged(self, found: catalogue.Found, source: str) -> nearby.Nearby:
        """The source *source*, with the host that has signed its manifest, if a known one has."""
        said = nearby.Nearby(source, found.manifest.created_at)
        url = found.store.url(found.key)
        if trusting.misplaced(found.manifest, key=found.key, url=url, database=self._database) is not None:
            return said
        try:
            signed = verification.prove(found, trust=self._trust, database=self._database)
        except ForeignSigner:
            return dataclasses.replace(said, signer=found.manifest.host)
        except EngineError:
            return said
        return dataclasses.replace(said, signer=signed.name, accepted=True)
