# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Counts and digests the rows of each table while the text of a dump streams by.

A digest of few rows could be guessed from, if anybody could compute it.  So what is published is keyed with random
bytes that stand in the first line of the dump's text, as a comment, and so behind the dump's encryption.
"""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
import re
import typing as t

from ..errors import DumpIncomplete
from .dumptext import CopyData, CopyStart, Scanner

try:
    import xxhash
except ImportError:
    xxhash = None  # type: ignore[assignment]

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
    the XXH3-128 of its rows as they stand in the text, in their order.
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

        :raises DumpSyntax: for what no dump holds.
        """
        for event in self._scanner.feed(chunk):
            if isinstance(event, CopyData):
                self._table.add(event.data)
            elif isinstance(event, CopyStart):
                self._table = self._tables.setdefault(event.table, _Table())

    def finish(self) -> list[TableTally]:
        """Return the tables in the order of the dump, which is at its end.

        :raises DumpIncomplete: pg_dump's closing comment is not the end of the text.
        """
        self._scanner.finish()
        if not self._scanner.complete:
            raise DumpIncomplete("pg_dump's closing comment is missing", hint="make the backup again")
        return [TableTally(name, table.rows, table.keyed(self._key)) for name, table in self._tables.items()]


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
