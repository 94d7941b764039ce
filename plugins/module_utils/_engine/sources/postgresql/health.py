# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""What checks of a host ask the server.  Reads only."""

from __future__ import annotations

import datetime
import ipaddress
import typing as t

from ...errors import LibraryMissing
from ..base import Health
from . import state
from .connection import ConnectionSettings, client_program, translated

if t.TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection

# Not everybody may read the directory, or the size of every database.
_HEALTH = """
SELECT split_part(current_setting('server_version'), ' ', 1), current_setting('server_version_num')::int,
       pg_catalog.pg_is_in_recovery(), pg_catalog.clock_timestamp(),
       (SELECT coalesce(json_object_agg(
            d.datname,
            CASE WHEN has_database_privilege(d.oid, 'CONNECT') OR pg_has_role('pg_read_all_stats', 'USAGE')
                 THEN pg_catalog.pg_database_size(d.oid) ELSE 0 END), '{}')
        FROM pg_catalog.pg_database d),
       CASE WHEN pg_has_role('pg_read_all_settings', 'USAGE') THEN current_setting('data_directory') END
"""


def health(conn: Connection, *, local: bool) -> Health:
    """The server behind a session in its maintenance database.

    :param local: whether it runs on this host.
    """
    with translated("could not ask the server how it is"), conn.cursor() as cursor:
        cursor.execute(_HEALTH)
        rows = cursor.fetchall()
    now = datetime.datetime.now(datetime.timezone.utc)
    version, number, standby, clock, databases, directory = rows[0]
    bootstrap = state.latest_bootstrap(conn)
    program: str | LibraryMissing
    try:
        program = client_program("pg_dump", server_version_num=number)
    except LibraryMissing as exc:
        program = exc
    return Health(
        version=version,
        standby=standby,
        clock_offset=(clock - now).total_seconds(),
        databases=databases,
        outstanding=state.outstanding(conn),
        unfinished=bootstrap is not None and bootstrap.finished_at is None,
        dump_program=program,
        data_directory=directory if local else None,
    )


def is_local(settings: ConnectionSettings) -> bool:
    """Whether *settings* reach a server on this host."""
    if settings.over_socket or settings.host == "localhost":
        return True
    try:
        return ipaddress.ip_address(settings.host).is_loopback
    except ValueError:
        return False
