# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Counts the rows of each table in a dump, and computes a digest of them, as the text streams by.

Anyone who can compute a digest can use it to guess the contents of a table of few rows.  The digests are therefore
keyed with random bytes.  The key is a comment in the first line of the dump's text, so the encryption protects it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
import re
import typing as t

from ....errors import DumpIncomplete, DumpSyntax
from .events import CHUNK, Readable
from .scanner import CopyData, CopyStart, Scanner, Statement

try:
    import xxhash
except ImportError:
    xxhash = None  # type: ignore[assignment]

MAX_TABLES = 500_000
"""The most tables with rows that a tally counts, because each takes memory: more than twice what fits in a manifest."""

KEY_SIZE = 32
"""Bytes of a digest key."""

_PREFACE = b"-- infrazero digest key: "
_PREFACE_LINE = re.compile(re.escape(_PREFACE) + rb"([0-9a-f]{64})\n")
PREFACE_SIZE = len(_PREFACE) + 2 * KEY_SIZE + 1
"""Bytes of the line that :func:`preface` returns."""


def preface(key: bytes) -> bytes:
    """Return the first line of a dump's text: a comment that contains the digest *key* (32 random bytes)."""
    if len(key) != KEY_SIZE:
        raise ValueError("a digest key must have 32 bytes")
    return _PREFACE + key.hex().encode("ascii") + b"\n"


def key_of(text: bytes | bytearray) -> bytes | None:
    """Return the digest key from the first :data:`PREFACE_SIZE` bytes of a dump, ``None`` if there is none."""
    line = _PREFACE_LINE.match(text)
    return bytes.fromhex(line[1].decode("ascii")) if line else None


@dataclasses.dataclass(frozen=True)
class TableTally:
    """What a dump contains of one table.

    ``name`` is the table's name as its COPY statement writes it.  ``digest`` is an HMAC-SHA256 (hex) with the digest
    key over the XXH3-128 of its rows, which are taken as they are in the text and in the order of the text.
    """

    name: str
    rows: int
    digest: str


class Tally:
    """Counts rows, computes their digests, and proves that the dump is complete.

    :param digest_key: see :func:`preface`; only tallies with the same key can be compared.
    :param observe: receives each statement.
    """

    def __init__(self, digest_key: bytes, *, observe: t.Callable[[Statement], None] | None = None) -> None:
        self._key = digest_key
        self._observe = observe
        self._scanner = Scanner()
        self._tables: dict[str, _Table] = {}
        self._table = _Table()

    def feed(self, chunk: bytes) -> None:
        """Take the next piece of the dump, which may have any size and end anywhere.

        :raises DumpSyntax: for text that no dump contains, and for more than :data:`MAX_TABLES` tables.
        """
        for event in self._scanner.feed(chunk):
            if isinstance(event, CopyData):
                self._table.add(event.data)
            elif isinstance(event, CopyStart):
                self._table = self._tables.setdefault(event.table, _Table())
                if len(self._tables) > MAX_TABLES:
                    raise DumpSyntax(
                        f"the dump contains rows of more than {MAX_TABLES} tables",
                        hint="check where the dump comes from; if it is yours, dump its schemas one by one",
                    )
            elif self._observe is not None and isinstance(event, Statement):
                self._observe(event)

    def finish(self) -> list[TableTally]:
        """Signal the end of the dump, and return its tables in the order of the dump.

        :raises DumpIncomplete: if the text does not end with pg_dump's closing comment.
        """
        self._scanner.finish()
        if not self._scanner.complete:
            raise DumpIncomplete("pg_dump's closing comment is missing", hint="back up the database again")
        return self._result()

    def finish_any(self) -> list[TableTally]:
        """Like :meth:`finish`, but for SQL text that need not come from pg_dump.

        :raises DumpIncomplete: if the text ends inside a statement or a table's rows, or if it has pg_dump's opening
            comment but not the closing one.
        """
        self._scanner.finish()
        return self._result()

    def _result(self) -> list[TableTally]:
        return [TableTally(name, table.rows, table.keyed(self._key)) for name, table in self._tables.items()]


def check(source: Readable) -> list[TableTally]:
    """Read a dump to its end, and return its tables.  The text itself is discarded.

    The digests use the key in the dump's first line, so they equal those in the backup's manifest.  For a dump without
    such a line the key is empty.

    :raises DumpSyntax, DumpIncomplete: if the text cannot be loaded to its end.
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


class RowDigests:
    """Counts rows, and computes their digests, while they are read for another purpose.

    :param key: see :func:`preface`.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._tables: dict[str, _Table] = {}

    def add(self, table: str, data: bytes) -> None:
        """Take the next piece of the rows of *table*; an empty one records a table that has none."""
        self._tables.setdefault(table, _Table()).add(data)

    def rows(self) -> dict[str, int]:
        """The number of rows of each table."""
        return {name: table.rows for name, table in self._tables.items()}

    def result(self) -> dict[str, str]:
        """The digest of each table, as :class:`TableTally` has it."""
        return {name: table.keyed(self._key) for name, table in self._tables.items()}


class _Table:
    def __init__(self) -> None:
        self.rows = 0
        self._digest: t.Any = xxhash.xxh3_128()

    def add(self, data: bytes) -> None:
        self._digest.update(data)
        # bytes.count() examines each byte by itself; replace() uses memchr and is several times as fast.
        self.rows += len(data) - len(data.replace(b"\n", b""))

    def keyed(self, key: bytes) -> str:
        return hmac.new(key, self._digest.digest(), hashlib.sha256).hexdigest()
