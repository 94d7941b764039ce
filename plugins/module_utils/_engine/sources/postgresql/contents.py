# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The contents of a dump, compared with its manifest as the plain text streams by; no server is needed."""

from __future__ import annotations

from ...domain.manifest import Postgresql, Table
from ...errors import ChecksumMismatch
from ...printing import printable
from .dumptext.tally import PREFACE_SIZE, Tally, key_of


class Contents:
    """The rows and digests of a dump's tables.

    :param part: what the manifest says; without tables, as in a manifest of another tool, nothing is compared.
    """

    def __init__(self, part: Postgresql | None) -> None:
        self._tables = None if part is None else part.tables
        self._head = b""
        self._tally: Tally | None = None

    def feed(self, chunk: bytes) -> None:
        """Take the next piece of the text, which may have any size and end anywhere.

        :raises DumpSyntax: for text that no dump contains.
        """
        if self._tables is None:
            return
        if self._tally is not None:
            self._tally.feed(chunk)
            return
        # The key of the digests is in the first line.
        self._head += chunk
        if len(self._head) >= PREFACE_SIZE:
            self._tally = self._begun()

    def _begun(self) -> Tally:
        tally = Tally(key_of(self._head) or b"")
        tally.feed(self._head)
        return tally

    def finish(self) -> None:
        """Compare, after the proven end of the text.

        :raises DumpIncomplete: if the text ends too early.
        :raises ChecksumMismatch: if a table has other rows than the manifest says.
        """
        if self._tables is None:
            return
        tally = self._tally or self._begun()
        found = {one.name: Table(one.name, one.rows, one.digest) for one in tally.finish_any()}
        expected = {one.name: one for one in self._tables}
        different = [name for name in {*found, *expected} if found.get(name) != expected.get(name)]
        if different:
            raise ChecksumMismatch(
                "the rows of the backup are not those that its manifest describes",
                cause=f"{printable(min(different))}: the number of its rows or their digest differs",
                hint="choose another backup",
            )
