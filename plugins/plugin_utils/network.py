# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Networks of a host: those of its clients, and the addresses to listen on.

The rules are those of docs/formats/server.md.
"""

from __future__ import annotations

import ipaddress
import re
import typing as t

#: Settings of ``network.env``, all of them optional.
SETTINGS = ("WG_CIDR", "PRIVATE_CIDR", "DB_LISTEN_ADDRESS")

#: An address or a host's name, which the server resolves itself.
_LISTEN = re.compile(r"\*|[A-Za-z0-9._:-]+")


class BadNetwork(ValueError):
    """Not a network, or not an address to listen on; the text of the exception is the reason."""


def cidr(text: str) -> str:
    """*text*, one network such as ``10.1.0.0/16``, in its canonical form; an address is a network of one.

    :raises BadNetwork: for anything else.
    """
    try:
        return str(ipaddress.ip_network(text.strip(), strict=False))
    except ValueError:
        raise BadNetwork(f"{text!r} is not a network") from None


def cidrs(source: object) -> tuple[str, ...]:
    """The networks in *source*, each once, in their order.

    :param source: a list, or a text with commas or blanks between them.
    :raises BadNetwork: for the first that is invalid.
    """
    items = re.split(r"[,\s]+", source) if isinstance(source, str) else source
    if not isinstance(items, t.Sequence):
        raise BadNetwork("is neither a list nor a text")
    return tuple(dict.fromkeys(cidr(str(item)) for item in items if item != ""))


def listen_addresses(*, wanted: str, private: str, addresses: t.Sequence[str]) -> str:
    """The value of ``listen_addresses``.

    :param wanted: ``DB_LISTEN_ADDRESS``, which is used unchanged unless it is empty.
    :param private: ``PRIVATE_CIDR``; otherwise the first of *addresses* in it, and ``localhost``.
    :param addresses: the host's IPv4 addresses in their order.
    :return: ``*`` if both are empty.
    :raises BadNetwork: if *wanted* or *private* is malformed.
    """
    if wanted:
        for part in wanted.split(","):
            if not _LISTEN.fullmatch(part.strip()):
                raise BadNetwork(f"{wanted!r} is not a list of addresses")
        return wanted
    if private:
        network = ipaddress.ip_network(cidr(private))
        if network.version != 4:
            raise BadNetwork(f"{private!r} is not an IPv4 network")
        for address in addresses:
            if ipaddress.ip_address(address) in network:
                return f"{address},localhost"
    return "*"


def covers_loopback(listen: str) -> bool:
    """Whether a server with this ``listen_addresses`` can be reached at 127.0.0.1."""
    return any(part.strip() in ("*", "0.0.0.0", "localhost", "127.0.0.1") for part in listen.split(","))
