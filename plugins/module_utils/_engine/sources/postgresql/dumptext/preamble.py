# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The text that a backup puts before ``pg_dump``'s: what a restore needs, and a dump of the contents does not have.

It may contain secrets, such as the values of settings, so it travels inside the encrypted object.  Comment lines hold
the facts for this engine, as JSON::

    -- infrazero digest key: <64 hex digits>
    -- infrazero settings: {...}
    -- infrazero privileged object: {...}
    -- infrazero preamble ends

Between the facts and the last line are SQL statements that give ``psql`` the same settings.  This engine never executes
them, it uses the facts.  A backup of version 0.1 has the first line only.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import typing as t

from ....domain.text import NotJson, strict_json
from ....errors import DumpIncomplete, DumpSyntax
from .events import CHUNK, Readable
from .tally import PREFACE_SIZE, key_of, preface

MAX_SIZE = 64 << 20
"""Bytes of the longest preamble that is read."""

_FACTS = b"-- infrazero "
_SETTINGS = b"-- infrazero settings: "
_OBJECT = b"-- infrazero privileged object: "
_END = b"-- infrazero preamble ends\n"


@dataclasses.dataclass(frozen=True)
class PrivilegedObject:
    """An object that only a superuser may create, as the catalogs of the dumped database described it.

    :param kind: as ``pg_identify_object()`` names it: ``function``, ``cast``.
    :param identity: likewise: ``public.same(integer)``.
    :param digest: SHA-256 (hex) of what the catalogs said of it.
    :param owner: name of its owner; empty for a kind that has none.
    :param privileges: who may execute a function: pairs of a role's name (``None``: PUBLIC) and whether it may pass
        that on; ``None`` for other kinds.
    """

    kind: str
    identity: str
    digest: str
    owner: str = ""
    privileges: tuple[tuple[str | None, bool], ...] | None = None


@dataclasses.dataclass(frozen=True)
class Preamble:
    """What is known from the text before ``pg_dump``'s.

    :param digest_key: the key of the manifest's digests; ``None``: the text has no preamble.
    :param settings: what belongs to the database itself, as :class:`..database_settings.DatabaseSettings` writes it;
        ``None``: unknown.
    :param objects: those that only a superuser may create; ``None``: unknown, as in a backup of version 0.1.
    :param sha256: of the whole preamble; ``None`` as for *objects*.
    """

    digest_key: bytes | None = None
    settings: t.Mapping[str, t.Any] | None = None
    objects: tuple[PrivilegedObject, ...] | None = None
    sha256: str | None = None


def render(key: bytes, *, settings: t.Mapping[str, t.Any], objects: t.Iterable[PrivilegedObject], sql: str) -> bytes:
    """Return the text of a preamble.

    :param key: 32 random bytes, the key of the digests.
    :param sql: the statements for ``psql``, in ASCII.
    """
    lines = [_SETTINGS + _json(settings), *(_OBJECT + _json(dataclasses.asdict(one)) for one in objects)]
    return preface(key) + b"\n".join([*lines, sql.encode("ascii").rstrip(b"\n"), _END])


def _json(value: t.Any) -> bytes:
    # One line of ASCII, whatever is in it: the text around it has the encoding of the database.
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def read(source: Readable) -> tuple[Preamble, Readable]:
    """Read the preamble at the beginning of a dump's text, and return it with the text that comes after it.

    A text without a preamble is returned as it is.

    :raises DumpSyntax: if the preamble is not one that :func:`render` wrote.
    :raises DumpIncomplete: if the text ends inside the preamble.
    """
    data = bytearray()
    ended = _fill(source, data, PREFACE_SIZE + len(_SETTINGS))
    digest_key = key_of(data)
    if digest_key is None or not data.startswith(_SETTINGS, PREFACE_SIZE):
        return Preamble(digest_key), _Rest(bytes(data), source)
    end = -1
    searched = 0
    while end < 0:
        end = data.find(b"\n" + _END, searched)
        searched = max(0, len(data) - len(_END))
        if end < 0:
            if ended:
                raise DumpIncomplete("the dump ends inside its preamble", hint="use another backup")
            if len(data) > MAX_SIZE:
                raise _invalid(f"it is longer than {MAX_SIZE >> 20} MiB")
            ended = _fill(source, data, len(data) + 1)
    size = end + 1 + len(_END)
    text = bytes(data[:size])
    settings, objects = _facts(text[PREFACE_SIZE:end])
    preamble = Preamble(digest_key, settings, objects, hashlib.sha256(text).hexdigest())
    return preamble, _Rest(bytes(data[size:]), source)


def _fill(source: Readable, data: bytearray, size: int) -> bool:
    """Read until *data* has *size* bytes, and return whether the text has ended."""
    while len(data) < size:
        chunk = source.read(CHUNK)
        if not chunk:
            return True
        data += chunk
    return False


def _facts(text: bytes) -> tuple[t.Mapping[str, t.Any], tuple[PrivilegedObject, ...]]:
    settings: t.Any = None
    objects = []
    # Facts come first; what follows them is for psql.
    for line in text.split(b"\n"):
        if line.startswith(_SETTINGS) and settings is None:
            settings = _object(line[len(_SETTINGS) :])
        elif line.startswith(_OBJECT):
            objects.append(_privileged(_object(line[len(_OBJECT) :])))
        elif line.startswith(_FACTS):
            raise _invalid("it has a line that this version does not know")
        else:
            break
    return settings, tuple(objects)


def _object(text: bytes) -> dict[str, t.Any]:
    try:
        value = strict_json(text)
    except NotJson as exc:
        raise _invalid(f"it is not valid JSON: {exc}") from None
    if not isinstance(value, dict):
        raise _invalid("a line of it is not a JSON object")
    return value


def _privileged(fields: t.Mapping[str, t.Any]) -> PrivilegedObject:
    texts = {name: fields.get(name) for name in ("kind", "identity", "digest", "owner")}
    if not all(isinstance(text, str) for text in texts.values()):
        raise _invalid("a privileged object is not described by texts")
    entries = fields.get("privileges")
    if entries is None:
        return PrivilegedObject(**t.cast("dict[str, t.Any]", texts))
    pairs = []
    for entry in entries if isinstance(entries, list) else [None]:
        if not (
            isinstance(entry, list)
            and len(entry) == 2
            and (entry[0] is None or isinstance(entry[0], str))
            and isinstance(entry[1], bool)
        ):
            raise _invalid("the privileges of an object are not pairs of a role and a flag")
        pairs.append((entry[0], entry[1]))
    return PrivilegedObject(**t.cast("dict[str, t.Any]", texts), privileges=tuple(pairs))


def _invalid(cause: str) -> DumpSyntax:
    return DumpSyntax(
        "the preamble of the dump can't be read",
        cause=cause,
        hint="was the backup written by a newer version of infrazero.database? update this host, or use another backup",
    )


class _Rest:
    """What was read ahead, and then the rest of the source."""

    def __init__(self, begin: bytes, source: Readable) -> None:
        self._begin = begin
        self._source = source

    def read(self, n: int, /) -> bytes:
        if self._begin:
            begin, self._begin = self._begin[:n], self._begin[n:]
            return begin
        return self._source.read(n)
