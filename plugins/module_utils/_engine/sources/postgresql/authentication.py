# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Asks the kernel which process is at the other end of a connection, before anything is sent to a server.

While PostgreSQL is stopped, or does not listen on an address, any local user can listen in its place.  The kernel
names the user behind a Unix socket.  It does not for a TCP port, so a session over TCP is compared with what the
server behind the socket and the kernel know about it.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import pwd
import socket
import struct
import typing as t

from ...domain import peers

if t.TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection

#: The account under which packages run the server.
ACCOUNT = "postgres"

_CREDENTIALS = struct.Struct("3i")  # struct ucred: process, user, group


def socket_listener(directory: str, port: int, *, timeout: float) -> int:
    """Return the ID of the user whose process listens on the server's Unix socket.

    Nothing is sent.  The server drops a connection that sends nothing without a line in its log.

    :param directory: as libpq takes it: an absolute path, or ``@`` and a name for an abstract socket.
    :raises OSError: if no process listens there, or we may not connect.
    """
    path = f"{directory}/.s.PGSQL.{port}"
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(timeout)
        probe.connect("\0" + path[1:] if path.startswith("@") else path)
        return _peer(probe)


def peer_user(conn: Connection) -> int:
    """Return the ID of the user whose process is at the other end of a session through a Unix socket."""
    with socket_of(conn) as end:
        return _peer(end)


def _peer(end: socket.socket) -> int:
    # For a listening socket the kernel reports the user that its process had when it began to listen.
    return int(_CREDENTIALS.unpack(end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))[1])


def trusted_users(directory: str, user: str) -> frozenset[int]:
    """Return the IDs of the users whose process may be the server behind the sockets in *directory*.

    These are root, the user of this process, the accounts ``postgres`` and *user*, and the owner of the directory if
    nobody else can have created it.

    :param user: the administrator's role, which is usually named like the server's account.
    """
    trusted = {0, os.geteuid()}
    for name in (ACCOUNT, user):
        with contextlib.suppress(KeyError):
            trusted.add(pwd.getpwnam(name).pw_uid)
    if directory.startswith("/"):
        resolved = pathlib.Path(directory).resolve()
        stats = [path.stat() for path in (resolved, *resolved.parents)]
        owner = peers.directory_owner([peers.Directory(each.st_uid, each.st_mode) for each in stats])
        trusted |= set() if owner is None else {owner}
    return frozenset(trusted)


def account(uid: int) -> str | None:
    """Return the name of a user; ``None`` if this host has no account for the ID."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return None


@contextlib.contextmanager
def socket_of(conn: Connection) -> t.Iterator[socket.socket]:
    """Give a session's socket for inspection.  The session keeps its own descriptor."""
    with socket.socket(fileno=os.dup(conn.fileno())) as end:
        yield end


def endpoints(conn: Connection) -> tuple[peers.Endpoint, peers.Endpoint] | None:
    """Return our end and the other end of a session's TCP connection; ``None`` if it uses a Unix socket."""
    with socket_of(conn) as end:
        if end.family == socket.AF_UNIX:
            return None
        ours, theirs = end.getsockname(), end.getpeername()
    return peers.endpoint(ours[0], ours[1]), peers.endpoint(theirs[0], theirs[1])


def tcp_peer_user(conn: Connection) -> int | None:
    """Return the ID of the local user that holds the other end of a session's TCP connection; ``None`` if none does."""
    ends = endpoints(conn)
    if ends is None:
        return None
    ours, theirs = ends
    for name in ("tcp", "tcp6"):
        with contextlib.suppress(FileNotFoundError):
            table = pathlib.Path("/proc/self/net", name).read_text(encoding="ascii")
            holder = peers.socket_owner(table, local=theirs, remote=ours)
            if holder is not None:
                return holder
    return None
