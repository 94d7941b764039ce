# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Digest and size of bytes that pass by."""

from __future__ import annotations

import hashlib

from .flow import Readable


class HashingReader:
    """Hands on what *source* gives and keeps its digest and size.

    :param algorithm: a name :func:`hashlib.new` knows.
    """

    def __init__(self, source: Readable, algorithm: str = "sha256") -> None:
        self._source = source
        self._hash = hashlib.new(algorithm)
        #: Bytes so far.
        self.size = 0

    def read(self, n: int, /) -> bytes:
        """What the source gives for *n*; its errors are its own."""
        chunk = self._source.read(n)
        self._hash.update(chunk)
        self.size += len(chunk)
        return chunk

    def hexdigest(self) -> str:
        """The digest of the bytes so far, in lower-case hex: the whole stream's after its end only."""
        return self._hash.hexdigest()

    def close(self) -> None:
        """Close the source."""
        self._source.close()
