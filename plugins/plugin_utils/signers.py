# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The ``allowed_signers`` file in which the controller gathers the signing keys of a fleet, as text.

What a host answers is data about that host alone: the name in front of its key is the inventory's, one key is
accepted for one name, and a line that is already there changes only in the two ways that :func:`gathered` names.
"""

from __future__ import annotations

import base64
import datetime
import re
import struct
import typing as t

from ..module_utils._engine.domain import allowed_signers, trust
from ..module_utils._engine.domain.allowed_signers import Entry
from ..module_utils._engine.errors import ConfigurationError

#: Inventory names of the machine that Ansible itself runs on.
LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})

_KEY_TYPE = "ssh-ed25519"
_BLOB = struct.pack(">I", len(_KEY_TYPE)) + _KEY_TYPE.encode() + struct.pack(">I", 32)
#: The only form in which a host may answer: type, the base64 of 51 bytes, and a comment that is dropped.
_PUBLIC_KEY = re.compile(rf"{_KEY_TYPE} ([A-Za-z0-9+/]{{68}})(?: [^\r\n]*)?\n?\Z")


def signing_name(name: str, *, node: str) -> str:
    """The name that a host of the inventory signs under.

    :param name: of the host in the inventory, or the one that the inventory gives for this.
    :param node: the controller's own node name, which a host that bootstraps itself as ``localhost`` signs under.
    :raises ConfigurationError: where that can't be a name in an ``allowed_signers`` file.
    """
    found = node if name in LOCAL else name
    if not trust.can_sign(found):
        raise ConfigurationError(
            f"the host {name!r} cannot sign backups under the name {found!r}",
            cause="a signer's name has letters, digits and . _ - : @ + only, and begins with a letter, a digit or _",
            hint="rename the host in the inventory, or set infrazero_signing_name for it",
        )
    return found


def signer_line(public_key: str, name: str) -> str:
    """The line of an ``allowed_signers`` file for a host.

    :param public_key: what the host answered, the text of ``id_ed25519.pub``.
    :param name: that it signs under.
    :raises ConfigurationError: where the answer is anything else than one Ed25519 key.
    """
    blob = base64.b64encode(_own_blob(public_key, name)).decode()
    return trust.signers_line(name, f"{_KEY_TYPE} {blob}")


def gathered(
    text: str,
    *,
    name: str,
    public_key: str,
    node: str = "",
    others: t.Collection[str] = (),
    replace: bool = False,
    now: datetime.datetime,
) -> str:
    """The text of an ``allowed_signers`` file with the key of a host in it.

    A key that is already listed for *name* leaves the text as it is.  A new one is appended.  Of the lines that are
    there, two kinds are changed: with *replace*, those of an older key of this host get ``valid-before``, so that it
    counts only for what it has signed until *now*; and a line of this key under *node* alone, as version 0.1 gathered
    it, gets *name* in front.

    :param name: that the host signs under, the inventory's.
    :param public_key: what the host answered, the text of ``id_ed25519.pub``.
    :param node: what the host's ``uname -n`` answered; the name of 0.1.
    :param others: names of all other hosts of the inventory.
    :param replace: whether a new key is accepted for a name that has one.
    :raises ConfigurationError: where the key is not to be accepted for *name*.
    """
    blob = _own_blob(public_key, name)
    lines = text.split("\n")
    entries = {number: entry for number, entry in enumerate(map(allowed_signers.read, lines)) if entry is not None}
    listed = {number: entry for number, entry in entries.items() if entry.blob == blob}
    elsewhere = {n: entry for n, entry in listed.items() if entry.authority or not entry.matches(name)}
    upgrade = node not in others and trust.can_sign(node)
    for entry in elsewhere.values():
        if entry.authority or not (upgrade and entry.names == node and _counts(entry)):
            raise _listed_elsewhere(name, entry)
    own = [entry for number, entry in listed.items() if number not in elsewhere and _counts(entry)]
    if own:
        if all(_ended(entry, now) for entry in own):
            raise _retired(name, own[0])
        return text
    older = {n: entry for n, entry in entries.items() if _counts(entry) and entry.matches(name)}
    if older and not replace:
        raise _new_key(name, blob, next(iter(older.values())))
    for number, entry in older.items():
        if _is_of(entry, name, others):
            lines[number] = entry.until(now)
    for number, entry in elsewhere.items():
        lines[number] = entry.also_as(name)
    result = "\n".join(lines)
    if elsewhere:
        return result
    return result + ("\n" if result and not result.endswith("\n") else "") + signer_line(public_key, name) + "\n"


def report(text: str, *, name: str, public_key: str) -> str:
    """What an ``allowed_signers`` file says about a host whose key has just been gathered, in one sentence."""
    blob = _own_blob(public_key, name)
    found = [f"{name} signs with the key {_fingerprint(blob)}"]
    for entry in filter(None, map(allowed_signers.read, text.split("\n"))):
        if not entry.matches(name) or not _counts(entry):
            continue
        key, end = _fingerprint(entry.blob), entry.end
        if entry.blob == blob:
            aliases = ", ".join(alias for alias in entry.names.split(",") if alias != name)
            found += [f"it also counts as {aliases}"] if aliases else []
        elif end is not None:
            found.append(f"its key {key} counts only for backups made before {end:%Y-%m-%d %H:%M:%S} UTC")
        else:
            found.append(
                f"the key {key} still counts: its line is not of {name} alone, remove it by hand if it must not"
            )
    return "; ".join(found)


def _counts(entry: Entry) -> bool:
    """Whether the line counts for signatures of manifests."""
    return entry.counts_for(trust.NAMESPACE)


def _ended(entry: Entry, now: datetime.datetime) -> bool:
    """Whether the key no longer counts for what is signed from *now* on."""
    return entry.end is not None and entry.end <= now


def _is_of(entry: Entry, name: str, others: t.Collection[str]) -> bool:
    """Whether the line is a key of the host *name* alone: under its names, and no pattern or name of another."""
    if entry.authority or re.search(r"[*?!]", entry.names):
        return False
    return not (set(entry.names.split(",")) - {name}) & set(others)


# Keys and errors ----------------------------------------------------------------------------------------------------


def _own_blob(public_key: str, name: str) -> bytes:
    match = _PUBLIC_KEY.match(public_key)
    blob = b"" if match is None else base64.b64decode(match[1])
    if not blob.startswith(_BLOB):
        raise ConfigurationError(
            f"{name} did not answer with the public half of an Ed25519 key",
            cause="signing/id_ed25519.pub beside its db.env must be one line: ssh-ed25519, base64, a comment",
            hint=f"find out who changed it; {_remedy(name)}",
        )
    return blob


def _b64(blob: bytes) -> str:
    return base64.b64encode(blob).decode()


def _fingerprint(blob: bytes) -> str:
    return trust.fingerprint(_b64(blob))


def _remedy(name: str) -> str:
    return f"a run with --limit {name} and infrazero_rotate_signing_key=true makes a new key for {name}"


def _new_key(name: str, blob: bytes, entry: Entry) -> ConfigurationError:
    return ConfigurationError(
        f"{name} has a new signing key, which is not accepted: its name has another one in allowed_signers",
        cause=f"the host answers with {_fingerprint(blob)}; the line of {entry.names!r} has {_fingerprint(entry.blob)}",
        hint=f"if {name} is to have a new key, {_remedy(name)}, and the older one then counts only for backups made "
        f"before; otherwise find out who answers as {name}",
    )


def _listed_elsewhere(name: str, entry: Entry) -> ConfigurationError:
    return ConfigurationError(
        f"{name} answers with a signing key that is not its own: allowed_signers has it under another name",
        cause=f"the line of {entry.names!r} has the key {_fingerprint(entry.blob)}",
        hint=f"if the host was renamed, put {name} in front of that line's names, with a comma; "
        f"otherwise {_remedy(name)}",
    )


def _retired(name: str, entry: Entry) -> ConfigurationError:
    return ConfigurationError(
        f"{name} signs with a key that was replaced: its next backups would not be accepted",
        cause=f"valid-before of the key {_fingerprint(entry.blob)} in allowed_signers is over",
        hint=_remedy(name),
    )
