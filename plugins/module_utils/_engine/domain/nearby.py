# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""What somebody probably meant by a source that names nothing: sources with similar names, and how they are named."""

from __future__ import annotations

import dataclasses
import datetime
import difflib
import typing as t

from ..printing import printable_name, shell_word
from . import human, layout

#: How alike two names must be, from 0 to 1.  A transposition in a name of four letters leaves 0.75.
_CUTOFF = 0.7
#: Maximum number of sources that a message names.
MOST = 3


@dataclasses.dataclass(frozen=True)
class Nearby:
    """A source that exists.

    :param source: a prefix, whose latest backup it is, or the key of a dump.
    :param created_at: when the backup was created, by its manifest.
    :param signer: name of the known host that signed it; ``None`` if no known host has.
    :param accepted: whether that host's backups of the database are accepted.
    """

    source: str
    created_at: datetime.datetime
    signer: str | None = None
    accepted: bool = False

    def described(self, now: datetime.datetime) -> str | None:
        """Such as ``db/shop/ (latest backup of 2 h ago, signed by db1)``; ``None`` if it can't be shown as it is."""
        word = shell_word(self.source)
        if word is None:
            return None
        what = "latest backup" if self.source.endswith("/") else "backup"
        by = "not signed by a host that is known here" if self.signer is None else f"signed by {self.signer}"
        if self.signer is not None and not self.accepted:
            by += ", whose backups are not accepted here"
        age = human.age((now - self.created_at).total_seconds()).replace("just now", "a moment ago")
        return f"{word} ({what} of {age}, {by})"


def source_of(key: str) -> str:
    """*key* as the operator has named it: a prefix in place of its latest manifest."""
    return key[: -len(layout.LATEST)] if key.endswith(f"/{layout.LATEST}") else key


def similar(key: str, keys: t.Iterable[str]) -> list[str]:
    """Sources among *keys* whose names resemble *key*, the most similar first and of these the newest.

    :param key: a key that does not exist: of a dump, a manifest, or the latest manifest of a prefix.
    :param keys: keys of objects, no matter who wrote them.
    :returns: prefixes that have a latest manifest, and keys of dumps.
    """
    wanted = source_of(key)
    sources = [source for source in filter(None, map(_source, keys)) if source != wanted]
    if wanted.endswith(layout.MANIFEST_SUFFIX):
        pairs = {source: _likeness(wanted, layout.manifest_key(source)) for source in sources}
    else:
        pairs = {source: _likeness(wanted, source) for source in sources}
    alike = [source for source, likeness in pairs.items() if likeness >= _CUTOFF]
    return sorted(alike, key=lambda source: (pairs[source], source), reverse=True)


def message(key: str, *, location: str, named: t.Sequence[Nearby], now: datetime.datetime, why_few: str = "") -> str:
    """The message that the object *key* is not in the store.

    :param location: description of the store, such as ``s3://backups (URL)`` or ``directory /path``.
    :param named: sources to suggest, the best one first.
    :param why_few: why others could not be looked for.
    """
    place = f"bucket {location}" if location.startswith("s3://") else location
    text = f"object {printable_name(key)} is not in the {place}"
    texts = list(filter(None, (one.described(now) for one in named)))[:MOST]
    if texts:
        *first, last = texts
        return f"{text}; did you mean {', '.join(first)}{' or ' if first else ''}{last}?"
    return f"{text}; {why_few}" if why_few else text


def _source(key: str) -> str | None:
    """The source that the object *key* is; ``None`` if it is none, or one that others represent."""
    if key.endswith(f"/{layout.LATEST}"):
        return source_of(key)
    return None if key.endswith(layout.MANIFEST_SUFFIX) or layout.moment_of(key) is None else key


def _likeness(wanted: str, source: str) -> float:
    """How alike two sources are, from 0 to 1, without the folders that both have in front."""
    ours, theirs = wanted.rstrip("/").split("/"), source.rstrip("/").split("/")
    last = _ratio(ours[-1], theirs[-1])
    while len(ours) > 1 and len(theirs) > 1 and ours[0] == theirs[0]:
        ours, theirs = ours[1:], theirs[1:]
    return max(last, _ratio("/".join(ours), "/".join(theirs)))


def _ratio(first: str, second: str) -> float:
    matcher = difflib.SequenceMatcher(None, first.casefold(), second.casefold(), autojunk=False)
    # The quick bounds reject most pairs.
    if min(matcher.real_quick_ratio(), matcher.quick_ratio()) < _CUTOFF:
        return 0.0
    return matcher.ratio()
