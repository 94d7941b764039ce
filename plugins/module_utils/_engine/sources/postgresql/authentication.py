# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Which process is at the other end: the kernel's word for it, before anything is sent to a server.

While PostgreSQL is stopped, or does not listen on an address, any local user can listen in its place.  A Unix socket
names the user behind it.  A TCP port does not, so a session over TCP is compared with what the server behind the
socket and the kernel know of it.
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

#: The account that packages run the server as.
ACCOUNT = "postgres"

_CREDENTIALS = struct.Struct("3i")  # struct ucred: process, user, group


def socket_listener(directory: str, port: int, *, timeout: float) -> int:
    """The user whose process listens on the server's Unix socket.

    Nothing is sent; a server drops a connection that says nothing without a line in its log.

    :param directory: libpq's: an absolute path, or ``@`` and a name for an abstract socket.
    :raises OSError: nobody listens there, or we may not connect.
    """
    path = f"{directory}/.s.PGSQL.{port}"
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(timeout)
        probe.connect("\0" + path[1:] if path.startswith("@") else path)
        return _peer(probe)


def peer_user(conn: Connection) -> int:
    """The user whose process is at the other end of a session through a Unix socket."""
    with socket_of(conn) as end:
        return _peer(end)


def _peer(end: socket.socket) -> int:
    # Of a listening process the kernel keeps the user that it had when it began to listen.
    return int(_CREDENTIALS.unpack(end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))[1])


def trusted_users(directory: str, user: str) -> frozenset[int]:
    """The users whose process may be the server behind the sockets in *directory*.

    Root; ourselves; the accounts ``postgres`` and *user*; and the owner of the directory, where nobody else can have
    created that.

    :param user: the administrator's role, which usually has the name of the server's account.
    """
    trusted = {0, os.geteuid()}
    for name in (ACCOUNT, user):
        with contextlib.suppress(KeyError):
            trusted.add(pwd.getpwnam(name).pw_uid)
    if directory.startswith("/"):
        place = pathlib.Path(directory).resolve()
        found = [path.stat() for path in (place, *place.parents)]
        owner = peers.directory_owner([peers.Directory(each.st_uid, each.st_mode) for each in found])
        trusted |= set() if owner is None else {owner}
    return frozenset(trusted)


def account(uid: int) -> str | None:
    """The name of a user; ``None``: this machine has no account for it."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return None


@contextlib.contextmanager
def socket_of(conn: Connection) -> t.Iterator[socket.socket]:
    """The socket of a session, to look at; the session keeps its own descriptor."""
    with socket.socket(fileno=os.dup(conn.fileno())) as end:
        yield end


def endpoints(conn: Connection) -> tuple[peers.Endpoint, peers.Endpoint] | None:
    """Our end of a session's TCP connection and the other one; ``None``: it goes through a Unix socket."""
    with socket_of(conn) as end:
        if end.family == socket.AF_UNIX:
            return None
        ours, theirs = end.getsockname(), end.getpeername()
    return peers.endpoint(ours[0], ours[1]), peers.endpoint(theirs[0], theirs[1])


def tcp_peer_user(conn: Connection) -> int | None:
    """The user of this machine that holds the other end of a session's TCP connection; ``None``: no user here does."""
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
