# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Archives of pg_dump's custom format, converted to the text that they represent.

pg_restore is used as a converter only: it gets no connection, and nothing of this program's environment, so that an
archive made to attack it finds no superuser's session there.  Its output is read and loaded like any dump's text.
"""

from __future__ import annotations

import contextlib
import typing as t

from ...streams.pipeline import Readable
from ...streams.process import Process, child_environment
from .connection import client_program

_MAGIC = b"PGDMP"


class Peekable(Readable, t.Protocol):
    """A stream whose first bytes can be looked at."""

    def peek(self, n: int) -> bytes:
        """The next *n* bytes, fewer only where the stream ends before, without taking them."""


@contextlib.contextmanager
def as_text(source: Peekable, *, server_version_num: int) -> t.Iterator[Readable]:
    """Give the text of the dump *source*: itself, or what pg_restore makes of an archive as it streams by.

    pg_restore reads the whole table of contents before it writes its first line, so an archive that is none fails
    before anything is loaded.  The text's end is given only after pg_restore has ended with 0 and *source* is proven.

    :param server_version_num: the server's; the newest pg_restore of the host that is not older is taken.
    :raises ProcessFailed: at a read; pg_restore could not read the archive.
    """
    if source.peek(len(_MAGIC)) != _MAGIC:
        yield source
        return
    program = client_program("pg_restore", server_version_num, newest=True)
    with Process([program, "--file=-"], phase="archive", environment=child_environment(), stdin=source) as text:
        yield text
