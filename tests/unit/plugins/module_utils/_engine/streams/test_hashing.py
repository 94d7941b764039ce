# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import hashlib
import io

from ansible_collections.infrazero.database.plugins.module_utils._engine.streams.hashing import HashingReader

from tests.support.streams import Pieces, drain


def test_digest_and_size_are_of_what_passed() -> None:
    data = bytes(range(256)) * 1000
    reader = HashingReader(Pieces(data, sizes=(1, 1000, 77)))
    assert drain(reader, 500) == data
    assert reader.size == len(data)
    assert reader.hexdigest() == hashlib.sha256(data).hexdigest()


def test_another_algorithm() -> None:
    reader = HashingReader(io.BytesIO(b"abc"), "sha512")
    drain(reader)
    assert reader.hexdigest() == hashlib.sha512(b"abc").hexdigest()


def test_closing_closes_the_source() -> None:
    source = Pieces(b"")
    HashingReader(source).close()
    assert source.closed == 1
