# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Identification of the other end of a connection, from what the kernel and the server report."""

from __future__ import annotations

import ipaddress
import stat
import sys
import typing as t

#: Address and port.
Endpoint = tuple[t.Union[ipaddress.IPv4Address, ipaddress.IPv6Address], int]

_ESTABLISHED = "01"
_PASSWORD_METHODS = frozenset({"scram-sha-256", "md5", "password", "trust"})


class Directory(t.NamedTuple):
    """Owner and mode of a directory."""

    uid: int
    mode: int


def directory_owner(path: t.Sequence[Directory]) -> int | None:
    """The owner of a directory if only the owner can have created it; otherwise ``None``.

    The mode of the directory itself does not matter: a group with write access (Debian's 2775) can replace a socket,
    but can't make the process behind it run as the owner.

    :param path: the directory itself, then each of its parents.
    """
    owner = path[0].uid
    for above in path[1:]:
        if above.uid not in (0, owner) or above.mode & (stat.S_IWGRP | stat.S_IWOTH):
            return None
    return owner


def endpoint(address: str, port: int) -> Endpoint:
    """An endpoint; an IPv4-mapped IPv6 address becomes the IPv4 address."""
    # A scope, as in fe80::1%eth0, is added by the kernel.
    parsed = ipaddress.ip_address(address.partition("%")[0])
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return mapped or parsed, port


def socket_owner(table: str, *, local: Endpoint, remote: Endpoint) -> int | None:
    """The user that owns one end of an established TCP connection; ``None`` if that end is not on this machine.

    :param table: contents of ``/proc/net/tcp`` or ``/proc/net/tcp6``.
    :param local: address and port of that end.
    """
    for line in table.splitlines()[1:]:
        fields = line.split()
        # A connection that no process has accepted yet has neither an inode nor a user.
        if len(fields) < 10 or fields[3] != _ESTABLISHED or fields[9] == "0":
            continue
        if _table_endpoint(fields[1]) == local and _table_endpoint(fields[2]) == remote:
            return int(fields[7])
    return None


def _table_endpoint(text: str) -> Endpoint:
    address, _colon, port = text.partition(":")
    raw = bytes.fromhex(address)
    if sys.byteorder == "little":
        # The kernel prints the address as 32-bit words in host byte order.
        raw = b"".join(raw[start : start + 4][::-1] for start in range(0, len(raw), 4))
    return endpoint(str(ipaddress.ip_address(raw)), int(port, 16))


class Rule(t.NamedTuple):
    """A line of ``pg_hba.conf``, as the view ``pg_hba_file_rules`` shows it."""

    type: str | None
    databases: t.Sequence[str] | None
    users: t.Sequence[str] | None
    method: str | None
    error: str | None


def socket_admits(rules: t.Iterable[Rule], *, database: str, role: str) -> bool:
    """Whether ``pg_hba.conf`` lets *role* connect to *database* with a password through the Unix socket.

    Only exact names and ``all`` are understood.  If anything else might match, the answer is no.
    """
    for rule in rules:
        if rule.error is not None or rule.databases is None or rule.users is None:
            return False
        if rule.type != "local":
            continue
        covers = _covers(rule.databases, database), _covers(rule.users, role)
        if covers == (True, True):
            return rule.method in _PASSWORD_METHODS
        if False not in covers:
            return False
    return False


def _covers(names: t.Sequence[str], name: str) -> bool | None:
    """Whether a rule's list covers *name*; ``None`` if the list has an entry that is not understood here."""
    if name in names or "all" in names:
        return True
    special = any(each.startswith(("+", "@", "/", "same")) for each in names)
    return None if special else False
