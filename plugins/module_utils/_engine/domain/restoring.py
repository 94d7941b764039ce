# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""What the operator chose for a restore, and what follows from what was left open.

The rules for the environment switches of ``restore.sh`` are the contract's.
"""

from __future__ import annotations

import dataclasses
import datetime
import re
import typing as t

from ..errors import ConfigurationError
from .secret import Secret
from .trust import MODES, Trust, signer_names

SWAP = "swap"
REPLACE = "replace"
TERMINATE: t.Literal["terminate"] = "terminate"
REFUSE: t.Literal["refuse"] = "refuse"

_TRUE = frozenset({"true", "1", "yes", "on"})
_FALSE = frozenset({"false", "0", "no", "off"})
_MOST_HOURS = 10 * 366 * 24
#: What any database may take: indexes of empty tables, extensions, what the first rows need.
_LEAST_SIZE = 1 << 30
_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,9})?) ?([KMGT]?)(?:i?B)?", re.ASCII | re.IGNORECASE)
_SHA256 = re.compile(r"[0-9a-fA-F]{64}\Z")


@dataclasses.dataclass(frozen=True)
class RestoreOptions:
    """How a restore is made.

    :param role_map: roles of the dump by the names they get here.
    :param skip_acl: leave the dump's grants out; ``None``: unless roles are mapped.
    :param drop_mapped_roles: afterwards drop the roles that were mapped away from, where they own nothing.
    :param force_target_owner: everything belongs to the target user; ``None``: where grants are left out or
        roles mapped.
    :param grant_app_user: grants and default privileges for the target user.
    :param set_search_path: set the target user's search_path in the database.
    :param search_path: the schemas in it; empty: found out.
    :param strategy: ``swap``: fill a second database, check it, rename it into place; ``replace``: check the backup,
        drop the database, fill it in place, for hosts without the room.
    :param keep_replaced: how long a replaced database is kept beside the new one; nothing: dropped at once.
    :param on_connections: what becomes of the sessions in a database that is replaced: ``terminate``, or ``refuse``.
    :param public_connect: PUBLIC keeps its privilege to connect to a database that is replaced.
    :param extensions: extensions that may be made by the superuser besides those that are known to be harmless.
    :param protected_roles: roles that are never dropped, those of the list.
    :param trust: whose backups are restored.
    :param statement_timeout: how long one statement of the dump may take, or one table's rows stand still.
    :param timeout: how long a restore may take, up to the swap.
    :param max_size: bytes that the new database may take; 0: any number; ``None``: see :func:`size_limit`.
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
    protected_roles: frozenset[str] = frozenset()
    trust: Trust = dataclasses.field(default_factory=Trust)
    statement_timeout: datetime.timedelta = datetime.timedelta(hours=24)
    timeout: datetime.timedelta = datetime.timedelta(hours=72)
    max_size: int | None = None

    @property
    def skips_acl(self) -> bool:
        """Whether the dump's grants are left out."""
        return not self.role_map if self.skip_acl is None else self.skip_acl

    @property
    def forces_owner(self) -> bool:
        """Whether everything belongs to the target user afterwards."""
        if self.force_target_owner is None:
            return self.skips_acl or bool(self.role_map)
        return self.force_target_owner


@dataclasses.dataclass(frozen=True)
class Switches:
    """The environment switches of ``restore.sh``, read."""

    options: RestoreOptions
    identity: Secret | None
    expected_sha256: str | None
    non_interactive: bool


def role_map(text: str, *, name: str) -> dict[str, str]:
    """Read ``old:new,old2:new2``.

    :param name: how errors call the setting.
    """
    mapping: dict[str, str] = {}
    for pair in filter(None, (part.strip() for part in text.split(","))):
        old, colon, new = (part.strip() for part in pair.partition(":"))
        if not colon:
            raise ConfigurationError(f"{name}: {pair!r} is no pair old:new", hint="write old:new,old2:new2")
        if mapping.get(old, new) != new:
            raise ConfigurationError(f"{name}: {old!r} is mapped twice", hint="map each role once")
        mapping[old] = new
    return checked_role_map(mapping, name=name)


def checked_role_map(mapping: t.Mapping[t.Any, t.Any], *, name: str) -> dict[str, str]:
    """Check a mapping of roles; no name may be empty or stay as it is.

    :param name: how errors call the setting.
    """
    for old, new in mapping.items():
        if not isinstance(old, str) or not isinstance(new, str) or not old or not new:
            raise ConfigurationError(f"{name}: {old!r} is mapped to {new!r}", hint="map each role to a role by name")
        if old == new:
            raise ConfigurationError(f"{name}: {old!r} is mapped to itself", hint="leave the pair out")
    return dict(mapping)


def keep_replaced(hours: float, *, name: str) -> datetime.timedelta:
    """How long a replaced database is kept.

    :param name: how errors call the setting.
    """
    # A NaN fails every comparison.
    if not 0 <= hours <= _MOST_HOURS:
        raise ConfigurationError(
            f"{name}: {hours} is no number of hours", hint=f"give 0, to drop the database at once, up to {_MOST_HOURS}"
        )
    return datetime.timedelta(hours=hours)


def seconds(text: str, *, name: str) -> datetime.timedelta:
    """How long something may take, given in seconds.

    :param name: how errors call the setting.
    """
    if not text.isascii() or not text.isdigit() or not 0 < int(text) <= _MOST_HOURS * 3600:
        raise ConfigurationError(f"{name} is no number of seconds", hint="give a whole number of at least 1")
    return datetime.timedelta(seconds=int(text))


def max_size(text: str, *, name: str) -> int:
    """How large a restored database may be: bytes, or a number with a binary unit such as ``20G`` or ``1.5 TiB``.

    :param name: how errors call the setting.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ConfigurationError(
            f"{name} is not a size", hint="give bytes, or a number with K, M, G or T; 0 for any size"
        )
    return int(float(match[1]) * 1024 ** " KMGT".index(match[2].upper() or " "))


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
    return max(_LEAST_SIZE, 4 * (plaintext_size + 64 * rows))


def text_bytes_of(size: int) -> int:
    """Bytes of text that an object of *size* bytes may hold, for a first guess: it may be compressed."""
    return 16 * size


def default_jobs(processors: int | None) -> int:
    """How many databases are restored at a time: one that stands still must leave room for others."""
    return min(4, max(2, processors or 0))


def read_limits(timeout: str | None, size: str | None, *, base: RestoreOptions) -> RestoreOptions:
    """*base* with the limits that the command line gives; ``None``: not given."""
    return dataclasses.replace(
        base,
        timeout=base.timeout if timeout is None else seconds(timeout, name="--timeout"),
        max_size=base.max_size if size is None else max_size(size, name="--max-size"),
    )


def expected_sha256(text: str, *, name: str) -> str:
    """Check a SHA-256 that somebody typed; lower-case hex comes out."""
    if not _SHA256.match(text):
        raise ConfigurationError(f"{name} is no SHA-256", hint="give 64 hexadecimal digits")
    return text.lower()


def read_switches(environment: t.Mapping[str, str], *, base: RestoreOptions) -> Switches:
    """Read the switches ``DB_RESTORE_*`` of *environment*; an empty one counts as unset.

    :param base: what is not named by a switch stays as it is here.
    :raises ConfigurationError: naming the switch.
    """

    def flag(name: str, default: t.Any) -> t.Any:
        text = environment.get(name, "").strip().lower()
        if not text:
            return default
        if text not in _TRUE | _FALSE:
            raise ConfigurationError(f"{name} is neither true nor false", hint="set it to true or false, or unset it")
        return text in _TRUE

    mapping = environment.get("DB_RESTORE_ROLE_MAP", "")
    sha256 = environment.get("DB_RESTORE_EXPECTED_SHA256", "").strip()
    path = environment.get("DB_RESTORE_SEARCH_PATH", "")
    statement = environment.get("DB_RESTORE_STATEMENT_TIMEOUT", "").strip()
    whole = environment.get("DB_RESTORE_TIMEOUT", "").strip()
    most = environment.get("DB_RESTORE_MAX_SIZE", "").strip()
    key = environment.get("DB_RESTORE_AGE_PRIVATE_KEY", "")
    mode = environment.get("DB_RESTORE_TRUST", "").strip().lower()
    names = filter(None, (part.strip() for part in environment.get("DB_RESTORE_SIGNER", "").split(",")))
    signers = signer_names(list(names), name="DB_RESTORE_SIGNER")
    if mode and mode not in MODES:
        raise ConfigurationError(f"DB_RESTORE_TRUST is none of {', '.join(MODES)}", hint="correct it, or unset it")
    options = dataclasses.replace(
        base,
        role_map=role_map(mapping, name="DB_RESTORE_ROLE_MAP") if mapping else base.role_map,
        skip_acl=flag("DB_RESTORE_SKIP_ACL", base.skip_acl),
        drop_mapped_roles=flag("DB_RESTORE_DROP_MAPPED_ROLES", base.drop_mapped_roles),
        force_target_owner=flag("DB_RESTORE_FORCE_TARGET_OWNER", base.force_target_owner),
        grant_app_user=flag("DB_RESTORE_GRANT_APP_USER", base.grant_app_user),
        set_search_path=flag("DB_RESTORE_SET_SEARCH_PATH", base.set_search_path),
        public_connect=flag("DB_RESTORE_PUBLIC_CONNECT", base.public_connect),
        search_path=tuple(filter(None, (part.strip() for part in path.split(",")))) or base.search_path,
        trust=dataclasses.replace(base.trust, mode=mode or base.trust.mode, once=base.trust.once + signers),
        statement_timeout=seconds(statement, name="DB_RESTORE_STATEMENT_TIMEOUT")
        if statement
        else base.statement_timeout,
        timeout=seconds(whole, name="DB_RESTORE_TIMEOUT") if whole else base.timeout,
        max_size=max_size(most, name="DB_RESTORE_MAX_SIZE") if most else base.max_size,
    )
    return Switches(
        options=options,
        identity=Secret(key) if key else None,
        expected_sha256=expected_sha256(sha256, name="DB_RESTORE_EXPECTED_SHA256") if sha256 else None,
        non_interactive=flag("DB_RESTORE_NON_INTERACTIVE", False),
    )
