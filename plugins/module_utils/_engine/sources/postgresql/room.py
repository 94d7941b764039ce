# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The space that a second database would find on the file system of the server.

PostgreSQL does not tell it, so the file system itself is asked, where the server's directory can be examined from here.
A directory of that name may belong to another server, for example if this one runs in a container: the system
identifier in ``global/pg_control`` shows whose it is.
"""

from __future__ import annotations

import os
import pathlib
import sys
import typing as t

from ..base import Room
from . import kept
from .connection import translated

if t.TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection

# Not SHOW: it fails for a role that may not read the setting.
_CLUSTER = """
SELECT (SELECT setting FROM pg_catalog.pg_settings WHERE name = 'data_directory'),
       (SELECT system_identifier::text FROM pg_catalog.pg_control_system()),
       pg_catalog.pg_size_bytes(current_setting('max_wal_size')),
       coalesce((SELECT dattablespace FROM pg_catalog.pg_database WHERE datname = %s),
                (SELECT dattablespace FROM pg_catalog.pg_database WHERE datname = 'template0'))
"""
#: OID of the tablespace whose files are in the data directory itself.
_DEFAULT_TABLESPACE = 1663


def find(conn: Connection, *, like: str | None) -> Room:
    """What a new database would find.

    :param like: the database whose tablespace it will be in; ``None``: that of new databases.
    """
    with translated("could not look for free space"), conn.cursor() as cursor:
        cursor.execute(_CLUSTER, (like,))
        directory, identifier, most_wal, tablespace = cursor.fetchall()[0]
    free, wal = None, 0
    data = None if directory is None else pathlib.Path(directory)
    if data is not None and system_identifier(data) == identifier:
        files = data / "base" if tablespace == _DEFAULT_TABLESPACE else data / "pg_tblspc" / str(tablespace)
        free, wal = _free(files), _growth_of_wal(data / "pg_wal", files, most_wal)
    return Room(free=free, wal=wal, kept=kept.kept(conn))


def _free(directory: pathlib.Path) -> int | None:
    """Bytes that are free for users who are not root; ``None``: unknown."""
    try:
        found = os.statvfs(directory)
    except OSError:
        return None
    return found.f_bavail * found.f_frsize


def _growth_of_wal(wal: pathlib.Path, files: pathlib.Path, most: int) -> int:
    """Bytes that WAL may still take of the file system that *files* are on."""
    try:
        if wal.stat().st_dev != files.stat().st_dev:
            return 0
        with os.scandir(wal) as segments:
            present = sum(one.stat().st_size for one in segments if one.is_file(follow_symlinks=False))
    except OSError:
        return 0
    return max(0, most - present)


def system_identifier(data: pathlib.Path) -> str | None:
    """The identifier of the cluster whose data directory *data* is, decimal; ``None``: it cannot be read."""
    try:
        # Whatever has that name: opening it must neither wait nor change anything.
        control = os.open(data / "global" / "pg_control", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        first = os.read(control, 8)
    except OSError:
        return None
    finally:
        os.close(control)
    return str(int.from_bytes(first, sys.byteorder)) if len(first) == 8 else None
