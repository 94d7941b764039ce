# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Converts archives in pg_dump's custom format to SQL text.

pg_restore only converts: it gets no connection, and nothing of ours in its environment.  An archive that is crafted to
attack pg_restore therefore finds no superuser's session there.  Its output is loaded like the text of any other dump.
"""

from __future__ import annotations

import contextlib
import typing as t

from ...streams.pipeline import Readable
from ...streams.process import Process, child_environment
from .connection import client_program

_MAGIC = b"PGDMP"


class Peekable(Readable, t.Protocol):
    """A stream whose next bytes can be inspected."""

    def peek(self, n: int) -> bytes:
        """Return the next *n* bytes without consuming them; fewer only if the stream ends before."""


@contextlib.contextmanager
def as_text(source: Peekable, *, server_version_num: int) -> t.Iterator[Readable]:
    """Give the text of the dump *source*: *source* itself, or the output of pg_restore if it is an archive.

    pg_restore reads the whole table of contents before it writes its first line, so an invalid archive fails before
    anything is loaded.  The text ends only after pg_restore has ended with 0 and the end of *source* is proven.

    :param server_version_num: the server's version.  The host's newest pg_restore that is not older is used.
    :raises ProcessFailed: in a read, if pg_restore could not read the archive.
    """
    if source.peek(len(_MAGIC)) != _MAGIC:
        yield source
        return
    program = client_program("pg_restore", server_version_num, newest=True)
    with Process([program, "--file=-"], phase="archive", environment=child_environment(), stdin=source) as text:
        yield text
