# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Recognizes the form of a dump, and converts archives of pg_dump to SQL text.

pg_restore only converts: it gets no connection, and nothing of ours in its environment.  An archive that is crafted to
attack pg_restore therefore finds no superuser's session there.  Its output is loaded like the text of any other dump.
"""

from __future__ import annotations

import contextlib
import re
import typing as t

from ...errors import ForeignFormat, LibraryMissing
from ...streams.pipeline import Readable
from ...streams.process import Process, child_environment, run
from .connection import client_program
from .dump import version_of
from .dumptext import formats

# The header of an archive: pg_backup_archiver.c, WriteHead.  pg_restore reads archives of its own version and older.
_SINCE = {(1, 15): 16, (1, 16): 17}
_READ_BY_ALL = (1, 14)
_SIZES, _TIMES = 11, 7


class Peekable(Readable, t.Protocol):
    """A stream whose next bytes can be inspected."""

    def peek(self, n: int) -> bytes:
        """Return the next *n* bytes without consuming them; fewer only if the stream ends before."""


def require_dump(head: bytes, *, server_version_num: int) -> None:
    """Raise unless a dump in a form that can be restored may begin with *head*.

    :param head: its first bytes, see :data:`..base.HEAD_SIZE`.
    :raises ForeignFormat: with the name of the format and the remedy.
    :raises LibraryMissing: for an archive of a newer pg_dump: the package to install.
    """
    found = formats.recognize(head)
    if found is not None:
        raise ForeignFormat(f"the object cannot be restored: it is {found.name}", hint=found.remedy)
    if head.startswith(formats.ARCHIVE):
        _require_readable(head, server_version_num)


def _require_readable(header: bytes, server_version_num: int) -> None:
    version = (header[5], header[6]) if len(header) > _SIZES else _READ_BY_ALL
    if version <= _READ_BY_ALL:
        return
    written_by = _SINCE.get(version) or _pg_dump_major(header)
    program = client_program("pg_restore", server_version_num, newest=True)
    installed = _major(version_of(run([program, "--version"], phase="archive", environment=child_environment())))
    if written_by is not None and installed is not None and installed < written_by:
        raise LibraryMissing(
            f"the archive was written by pg_dump {written_by}, and pg_restore {installed} does not read it",
            phase="archive",
            hint=f"install the package postgresql-client-{written_by}, and run again; nothing was changed",
        )


def _pg_dump_major(header: bytes) -> int | None:
    """Return the major version of the pg_dump that wrote the archive; ``None`` if the header has another layout."""
    size = header[8]
    # One byte with the compression method, then the time of the dump.
    at = _SIZES + 1 + _TIMES * (1 + size)
    for _text in ("the database's name", "the server's version"):
        at += 1 + size + int.from_bytes(header[at + 1 : at + 1 + size], "little")
    at += 1 + size
    return _major(header[at : at + 16].decode("ascii", "replace"))


def _major(version: str) -> int | None:
    match = re.match("[0-9]{1,3}", version)
    return int(match[0]) if match else None


@contextlib.contextmanager
def as_text(source: Peekable, *, server_version_num: int) -> t.Iterator[Readable]:
    """Give the text of the dump *source*: *source* itself, or the output of pg_restore if it is an archive.

    An archive is in pg_dump's custom or tar format; pg_restore reads both as a stream.  It reads the whole table of
    contents before it writes its first line, so an invalid archive fails before anything is loaded.  The text ends only
    after pg_restore has ended with 0 and the end of *source* is proven.

    :param server_version_num: the server's version.  The host's newest pg_restore that is not older is used.
    :raises ProcessFailed: in a read, if pg_restore could not read the archive.
    """
    head = source.peek(formats.BLOCK)
    if not head.startswith(formats.ARCHIVE) and formats.first_member(head) != formats.TABLE_OF_CONTENTS:
        yield source
        return
    program = client_program("pg_restore", server_version_num, newest=True)
    with Process([program, "--file=-"], phase="archive", environment=child_environment(), stdin=source) as text:
        yield text
