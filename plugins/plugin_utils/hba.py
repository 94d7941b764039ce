# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The collection's block of ``pg_hba.conf``, with the rules for clients.

The block is between two markers and is rewritten whole; everything around it stays (docs/formats/server.md).
"""

from __future__ import annotations

import typing as t

from ..module_utils._engine.errors import ConfigurationError

BEGIN = "# BEGIN INFRAZERO"
END = "# END INFRAZERO"

_METHOD = "scram-sha-256"


def rules(*, wg_cidr: str, entries: t.Iterable[tuple[str, str]], cidrs: t.Sequence[str]) -> list[str]:
    """Lines of the block.

    :param wg_cidr: network of the administrators, who may connect to every database; may be empty.
    :param entries: database and user of each entry of the list.
    :param cidrs: networks of the applications.
    """
    lines = [f"host all all {wg_cidr} {_METHOD}"] if wg_cidr else []
    for database, user in entries:
        lines += [f"host {quoted(database)} {quoted(user)} {cidr} {_METHOD}" for cidr in cidrs]
    return list(dict.fromkeys(lines))


def quoted(name: str) -> str:
    """*name* as a token of ``pg_hba.conf`` that can only be a name, not ``all``, ``+group`` or ``@file``."""
    doubled = name.replace('"', '""')
    return f'"{doubled}"'


def rewrite(text: str, lines: t.Sequence[str]) -> str:
    """*text*, a whole ``pg_hba.conf``, with *lines* as its block.

    The block keeps its place; a new one is appended.  Of several blocks, the first is kept.

    :raises ConfigurationError: if a marker has no counterpart, so that the extent of the block is unknown.
    """
    block = [BEGIN, *lines, END]
    kept: list[str] = []
    place: int | None = None
    began = 0
    for number, line in enumerate(text.splitlines(), start=1):
        marker = line.strip()
        if (marker == BEGIN and began) or (marker == END and not began):
            raise _unpaired(number, marker)
        if marker == BEGIN:
            began = number
            place = len(kept) if place is None else place
        elif marker == END:
            began = 0
        elif not began:
            kept.append(line)
    if began:
        raise _unpaired(began, BEGIN)
    place = len(kept) if place is None else place
    return "".join(f"{line}\n" for line in [*kept[:place], *block, *kept[place:]])


def _unpaired(number: int, marker: str) -> ConfigurationError:
    return ConfigurationError(
        f"pg_hba.conf, line {number}: {marker!r} has no counterpart",
        hint=f"the block is between one {BEGIN!r} and one {END!r}: remove or complete it by hand",
    )
