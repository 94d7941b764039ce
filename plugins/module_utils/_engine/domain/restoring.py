# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""How a restore is made, and what follows from what was left open."""

from __future__ import annotations

import dataclasses
import datetime
import typing as t

from ..errors import ConfigurationError
from . import names, recipients
from .listfields import SYSTEM_DATABASES
from .trust import Trust

SWAP = "swap"
REPLACE = "replace"
STOP = "stop"
CONTINUE = "continue"
TERMINATE: t.Literal["terminate"] = "terminate"
REFUSE: t.Literal["refuse"] = "refuse"

#: What any database may take: indexes of empty tables, extensions, what the first rows need.
_LEAST_SIZE = 1 << 30
#: Bytes that a row takes in its table and an index, beside its values.
_ROW_OVERHEAD = 64


@dataclasses.dataclass(frozen=True)
class RestoreOptions:
    """How a restore is made.

    Most fields are settings of the section ``restore``, see :data:`..settings.TABLE`.

    :param skip_acl: ``None``: unless roles are mapped.
    :param force_target_owner: ``None``: where privileges are left out or roles are mapped.
    :param search_path: empty: chosen by where the tables are.
    :param keep_replaced: zero: the replaced database is dropped at once.
    :param extensions: those that the superuser may create besides the ones that are known to be harmless.
    :param protected_roles: roles that are never dropped: those of the list.
    :param trust: whose backups are restored.
    :param owners: names of the databases of each recipient in the list, for the answer to a wrong key.
    :param max_size: bytes; 0: any number; ``None``: see :func:`size_limit`.
    :param on_error: :data:`STOP` or :data:`CONTINUE`.
    :param as_name: name of a copy beside the database; ``None``: the database itself is restored.
    :param drop_after: how long the copy stays; ``None``: until somebody drops it.
    :param tables: the tables whose rows are loaded, as they are written in SQL, with schema; empty: all.
    :param ignore_free_space: restore also if there seems to be too little free space.
    """

    role_map: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    skip_acl: bool | None = None
    drop_mapped_roles: bool = True
    force_target_owner: bool | None = None
    grant_app_user: bool = True
    set_search_path: bool = True
    search_path: tuple[str, ...] = ()
    strategy: str = SWAP
    keep_replaced: datetime.timedelta = datetime.timedelta(hours=24)
    on_connections: t.Literal["terminate", "refuse"] = TERMINATE
    public_connect: bool = False
    extensions: frozenset[str] = frozenset()
    privileged: bool = False
    protected_roles: frozenset[str] = frozenset()
    trust: Trust = dataclasses.field(default_factory=Trust)
    owners: recipients.Owners = dataclasses.field(default_factory=dict)
    statement_timeout: datetime.timedelta = datetime.timedelta(hours=24)
    timeout: datetime.timedelta = datetime.timedelta(hours=72)
    max_size: int | None = None
    on_error: str = STOP
    as_name: str | None = None
    drop_after: datetime.timedelta | None = None
    tables: tuple[str, ...] = ()
    ignore_free_space: bool = False

    @property
    def continues(self) -> bool:
        """Whether a restore goes on after a statement that fails."""
        return self.on_error == CONTINUE

    def on_fresh_cluster(self) -> RestoreOptions:
        """The same for a bootstrap: what roles of the cluster may do is kept, and everything belongs to the user."""
        return dataclasses.replace(
            self,
            skip_acl=False if self.skip_acl is None else self.skip_acl,
            force_target_owner=True if self.force_target_owner is None else self.force_target_owner,
        )

    @property
    def skips_acl(self) -> bool:
        """Whether the dump's privileges are left out."""
        return not self.role_map if self.skip_acl is None else self.skip_acl

    @property
    def forces_owner(self) -> bool:
        """Whether everything belongs to the target user afterwards."""
        if self.force_target_owner is None:
            return self.skips_acl or bool(self.role_map)
        return self.force_target_owner


def require_copy_name(options: RestoreOptions, *, listed: t.Collection[str], maintenance_database: str) -> None:
    """Raise unless the name of the copy that *options* ask for, if any, may be that of a copy.

    :param listed: the databases of the list.
    :raises ConfigurationError: with the remedy.
    """
    name = options.as_name
    if name is None:
        if options.drop_after is not None:
            raise ConfigurationError("drop_after is for a copy", hint="name the copy (--as), or leave drop_after out")
        if options.tables:
            raise ConfigurationError(
                "some tables alone can't replace a database",
                hint="restore them into a copy beside it: name it with as (--as)",
            )
        return
    if options.drop_after is not None and not options.drop_after:
        raise ConfigurationError("drop_after is 0", hint="give the hours that the copy is to stay, or leave it out")
    reason = ""
    if name in listed:
        reason = "it is a database of the list"
    elif name in SYSTEM_DATABASES | {maintenance_database}:
        reason = "it is a database of the server"
    elif names.is_reserved_name(name):
        reason = "names of this form belong to restores in progress and to replaced databases"
    if reason:
        raise ConfigurationError(
            f"a copy cannot be called {name!r}",
            cause=reason,
            hint=f"choose another name, such as {name[:40] + '_copy'!r}",
        )


def size_limit(given: int | None, *, plaintext_size: int | None, rows: int | None, text_bytes: int) -> int | None:
    """Bytes that a restored database may take; ``None``: any number.

    By default four times the dump's text, of which each row counts 64 bytes more than it has.  A row takes at least 36
    bytes in its table and 16 in each index, also where its text is one digit; and small numbers of 8 bytes are written
    with one.  What is allowed leaves room for about ten indexes of narrow rows, and for bloat.  Where no manifest says
    how much text and how many rows there are, sixteen times the text that was read so far: of a row that may be two
    bytes.  In any case 1 GiB.

    :param given: what the operator allows; 0: any number; ``None``: by default.
    :param plaintext_size: bytes of the dump's text, by the manifest.
    :param rows: of all tables, likewise.
    :param text_bytes: of the dump's text, read so far.
    """
    if given is not None:
        return given or None
    if plaintext_size is None or rows is None:
        return max(_LEAST_SIZE, 16 * text_bytes)
    return max(_LEAST_SIZE, 4 * (plaintext_size + _ROW_OVERHEAD * rows))


@dataclasses.dataclass(frozen=True)
class Estimate:
    """About how many bytes a restored database will take, and what that is derived from, in words."""

    size: int
    basis: str


def estimate(
    *, original: int | None, replaced: int | None, plaintext_size: int | None, rows: int | None
) -> Estimate | None:
    """About how many bytes a restored database will take; ``None``: nothing says so.

    :param original: bytes that the database took when it was backed up, by the manifest.
    :param replaced: bytes of the database that is replaced, if it has contents.
    :param plaintext_size: bytes of the dump's text, by the manifest.
    :param rows: of all tables, likewise.
    """
    if original is not None:
        return Estimate(original, "the size of the database when it was backed up")
    if replaced is not None:
        return Estimate(replaced, "the size of the database that is replaced")
    if plaintext_size is not None:
        return Estimate(plaintext_size + _ROW_OVERHEAD * (rows or 0), "the size of the dump's text, and its rows")
    return None


def text_bytes_of(size: int) -> int:
    """Bytes of text that an object of *size* bytes may hold, for a first guess: it may be compressed."""
    return 16 * size


def default_jobs(processors: int | None) -> int:
    """How many databases are restored at the same time: one that is stuck must not hold up the others."""
    return min(4, max(2, processors or 0))
