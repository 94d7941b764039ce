# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""A tally of a dump's rows as its text streams by: how many each table has, and a digest of them.

A digest lets anybody who can compute it try guesses at a table of few rows.  So the digests of a tally are keyed with
random bytes, and the key is in the first line of the dump's text, as a comment, so it is encrypted with the dump.
"""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
import re
import typing as t

from ....errors import DumpIncomplete, DumpSyntax
from .events import CHUNK, Readable
from .scanner import CopyData, CopyStart, Scanner

try:
    import xxhash
except ImportError:
    xxhash = None  # type: ignore[assignment]

MAX_TABLES = 500_000
"""Tables with rows that a tally counts: more than twice what a manifest can hold; each takes memory."""

KEY_SIZE = 32
"""Bytes of a digest key."""

_PREFACE = b"-- infrazero digest key: "
_PREFACE_LINE = re.compile(re.escape(_PREFACE) + rb"([0-9a-f]{64})\n")
PREFACE_SIZE = len(_PREFACE) + 2 * KEY_SIZE + 1
"""Bytes of the line that :func:`preface` returns."""


def preface(key: bytes) -> bytes:
    """Return the first line of a dump's text: a comment that holds the digest *key* (32 random bytes)."""
    if len(key) != KEY_SIZE:
        raise ValueError("a digest key has 32 bytes")
    return _PREFACE + key.hex().encode("ascii") + b"\n"


def key_of(text: bytes) -> bytes | None:
    """Return the digest key from the first :data:`PREFACE_SIZE` bytes of a dump, None when there is none."""
    line = _PREFACE_LINE.match(text)
    return bytes.fromhex(line[1].decode("ascii")) if line else None


@dataclasses.dataclass(frozen=True)
class TableTally:
    """What a dump holds of one table.

    ``name`` is the table's name as its COPY statement has it; ``digest`` the HMAC-SHA256 (hex) under the digest key of
    the XXH3-128 of its rows as they are in the text, in their order.
    """

    name: str
    rows: int
    digest: str


class Tally:
    """Counts rows, digests them, and proves that the dump is whole.

    :param digest_key: see :func:`preface`; tallies can be compared only under one key.
    """

    def __init__(self, digest_key: bytes) -> None:
        self._key = digest_key
        self._scanner = Scanner()
        self._tables: dict[str, _Table] = {}
        self._table = _Table()

    def feed(self, chunk: bytes) -> None:
        """Take the next piece of the dump, of any size, cut anywhere.

        :raises DumpSyntax: for what no dump holds, and for more than :data:`MAX_TABLES` tables.
        """
        for event in self._scanner.feed(chunk):
            if isinstance(event, CopyData):
                self._table.add(event.data)
            elif isinstance(event, CopyStart):
                self._table = self._tables.setdefault(event.table, _Table())
                if len(self._tables) > MAX_TABLES:
                    raise DumpSyntax(
                        f"the dump has rows of more than {MAX_TABLES} tables",
                        hint="find out where the dump comes from; dump schemas one by one if it is yours",
                    )

    def finish(self) -> list[TableTally]:
        """Return the tables in the order of the dump, which is at its end.

        :raises DumpIncomplete: pg_dump's closing comment is not the end of the text.
        """
        self._scanner.finish()
        if not self._scanner.complete:
            raise DumpIncomplete("pg_dump's closing comment is missing", hint="run the backup again")
        return self._result()

    def finish_any(self) -> list[TableTally]:
        """As :meth:`finish`, for SQL text that need not come from pg_dump.

        :raises DumpIncomplete: the text ends inside a statement or a table's rows, or pg_dump began and didn't end it.
        """
        self._scanner.finish()
        return self._result()

    def _result(self) -> list[TableTally]:
        return [TableTally(name, table.rows, table.keyed(self._key)) for name, table in self._tables.items()]


def check(source: Readable) -> list[TableTally]:
    """Read a dump to its end and return its tables; nothing is kept of it.

    The digests are under the key in the dump's first line, so they are those of the backup's manifest.  A dump that has
    no such line is digested under an empty key.

    :raises DumpSyntax, DumpIncomplete: the text is none that could be loaded to its end.
    """
    first = b""
    while len(first) < PREFACE_SIZE:
        chunk = source.read(CHUNK)
        if not chunk:
            break
        first += chunk
    tally = Tally(key_of(first) or b"")
    chunk = first
    while chunk:
        tally.feed(chunk)
        chunk = source.read(CHUNK)
    return tally.finish_any()


class _Table:
    def __init__(self) -> None:
        self.rows = 0
        self._digest: t.Any = xxhash.xxh3_128()

    def add(self, data: bytes) -> None:
        self._digest.update(data)
        # bytes.count() looks at each byte by itself; replace() finds them with memchr and is several times faster.
        self.rows += len(data) - len(data.replace(b"\n", b""))

    def keyed(self, key: bytes) -> str:
        return hmac.new(key, self._digest.digest(), hashlib.sha256).hexdigest()
