# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Names of the objects that a restore creates in a cluster, and names of signing hosts.

PostgreSQL silently truncates longer names, so this module shortens them first: it cuts the end of the database's name,
never the id of the restore, and never within a character.
"""

from __future__ import annotations

import re

from ..errors import ConfigurationError

#: Longest name in PostgreSQL, in bytes of UTF-8 (NAMEDATALEN - 1).
NAME_LIMIT = 63

_RESTORE_ID = re.compile(r"[0-9a-z]{1,32}")
#: A name in an allowed_signers file, where commas, wildcards and quotes have a special meaning.
_SIGNER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:@+-]{0,254}\Z")
_REPLACED = re.compile(r".+__replaced_[0-9a-z]{1,32}", re.DOTALL)
_STAGING = re.compile(r".+__restore_[0-9a-z]{1,32}", re.DOTALL)


def staging_name(database: str, restore_id: str) -> str:
    """Name of the staging database that the restore *restore_id* fills before it replaces *database*."""
    return _derived(database, "__restore_", restore_id)


def replaced_name(database: str, restore_id: str) -> str:
    """Name under which the restore *restore_id* keeps the database that it has replaced."""
    return _derived(database, "__replaced_", restore_id)


def is_replaced_name(name: str) -> bool:
    """Whether *name* has the form of :func:`replaced_name`."""
    return _REPLACED.fullmatch(name) is not None


def is_reserved_name(name: str) -> bool:
    """Whether *name* has the form of :func:`staging_name` or :func:`replaced_name`."""
    return is_replaced_name(name) or _STAGING.fullmatch(name) is not None


def loader_role(restore_id: str) -> str:
    """Name of the temporary role that the restore *restore_id* uses to load its dump."""
    return f"infrazero_restore_{_checked(restore_id)}"


def is_signer(name: object) -> bool:
    """Whether *name* can be a signer's name in an ``allowed_signers`` file."""
    return isinstance(name, str) and _SIGNER.match(name) is not None


def shortened(name: str, *, limit: int = NAME_LIMIT) -> str:
    """The beginning of *name* that fits into *limit* bytes, cut between two characters."""
    return name.encode("utf-8")[:limit].decode("utf-8", "ignore")


def _derived(database: str, infix: str, restore_id: str) -> str:
    suffix = infix + _checked(restore_id)
    return shortened(database, limit=NAME_LIMIT - len(suffix)) + suffix


def _checked(restore_id: str) -> str:
    if not _RESTORE_ID.fullmatch(restore_id):
        raise ConfigurationError(f"invalid restore id {restore_id!r}", hint="use 1 to 32 lower-case letters and digits")
    return restore_id
