# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""A dump as it is, checked while it is copied: no server is needed, and nothing of it is executed."""

from __future__ import annotations

import typing as t

from ...errors import ForeignFormat
from .dumptext import formats
from .dumptext.tally import PREFACE_SIZE, TableTally, Tally, key_of

if t.TYPE_CHECKING:
    from ...streams.pipeline import Decoded


class CheckedDump:
    """The bytes of a dump; their end is passed on only after the dump has turned out to be whole.

    :param plain: the decrypted and decompressed object.
    :raises ForeignFormat: if it is not a dump.
    """

    def __init__(self, plain: Decoded) -> None:
        head = plain.peek(formats.BLOCK)
        found = formats.recognize(head)
        if found is not None:
            raise ForeignFormat(f"the object is not a dump: it is {found.name}", hint=found.remedy)
        self._plain = plain
        self.is_text = not head.startswith(formats.ARCHIVE) and formats.first_member(head) != formats.TABLE_OF_CONTENTS
        self._key = key_of(plain.peek(PREFACE_SIZE)) if self.is_text else None
        self._tally = Tally(self._key or b"") if self.is_text else None
        self._tables: list[TableTally] = []

    def read(self, n: int, /) -> bytes:
        """Up to *n* bytes.

        :raises DumpSyntax, DumpIncomplete: if it is SQL text that a restore would not read to its end.
        """
        chunk = self._plain.read(n)
        if self._tally is not None:
            if chunk:
                self._tally.feed(chunk)
            else:
                self._tables = self._tally.finish_any()
        return chunk

    @property
    def rows(self) -> dict[str, int]:
        """Rows of each table, after the end; none of an archive, in which they are not counted."""
        return {table.name: table.rows for table in self._tables}

    @property
    def digests(self) -> dict[str, str]:
        """Digests of these rows, as a manifest has them; empty: the backup has no key for them."""
        return {} if self._key is None else {table.name: table.digest for table in self._tables}
