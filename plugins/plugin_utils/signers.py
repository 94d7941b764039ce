# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The text of the ``allowed_signers`` file in which the controller gathers the signing keys of a fleet.

A host's answer is about that host only: the name in front of its key is the inventory's, one key is accepted for one
name, and an existing line changes only in the two ways that :func:`gathered` describes.
"""

from __future__ import annotations

import base64
import datetime
import os
import pathlib
import re
import struct
import typing as t

from ..module_utils._engine.domain import allowed_signers, trust
from ..module_utils._engine.domain.allowed_signers import Entry
from ..module_utils._engine.errors import ConfigurationError

#: Name of the file beside the inventory.
FILE = "allowed_signers"
#: First line of a host's file, and the line in front of those that only this host has.
_MANAGED = "# Lines of the inventory: a bootstrap replaces them.\n"
_KEPT = "# Lines of this host that were here before: they are kept.\n"

#: Inventory names of the controller itself.
LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})

_KEY_TYPE = "ssh-ed25519"
_BLOB = struct.pack(">I", len(_KEY_TYPE)) + _KEY_TYPE.encode() + struct.pack(">I", 32)
#: The only valid answer of a host: type, the base64 of 51 bytes, and a comment, which is dropped.
_PUBLIC_KEY = re.compile(rf"{_KEY_TYPE} ([A-Za-z0-9+/]{{68}})(?: [^\r\n]*)?\n?\Z")


def signing_name(name: str, *, node: str) -> str:
    """The name under which a host of the inventory signs.

    :param name: name of the host in the inventory, or the inventory's name for signing.
    :param node: the controller's node name, under which a host signs that bootstraps itself as ``localhost``.
    :raises ConfigurationError: if it cannot be a name in an ``allowed_signers`` file.
    """
    found = node if name in LOCAL else name
    if not trust.can_sign(found):
        raise ConfigurationError(
            f"the host {name!r} cannot sign backups under the name {found!r}",
            cause="a signer's name has only letters, digits and . _ - : @ +, and begins with a letter, a digit or _",
            hint="rename the host in the inventory, or set infrazero_signing_name for it",
        )
    return found


def signer_line(public_key: str, name: str) -> str:
    """The line of an ``allowed_signers`` file for a host.

    :param public_key: the host's answer, the text of ``id_ed25519.pub``.
    :param name: name under which it signs.
    :raises ConfigurationError: if the answer is not exactly one Ed25519 key.
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
    """The text of an ``allowed_signers`` file with the key of a host.

    A key that is already listed for *name* leaves the text unchanged; a new one is appended.  Existing lines change in
    two cases: with *replace*, those of an older key of this host get ``valid-before``, so that it counts only for
    signatures until *now*; and a line of this key under *node* only, as version 0.1 wrote it, gets *name* in front.

    :param name: name under which the host signs, from the inventory.
    :param public_key: the host's answer, the text of ``id_ed25519.pub``.
    :param node: the host's ``uname -n``, its name in version 0.1.
    :param others: names of all other hosts of the inventory.
    :param replace: whether to accept a new key for a name that has one.
    :raises ConfigurationError: if the key must not be accepted for *name*.
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


def file_beside(inventory_dir: str | None, *, lines: object = ()) -> str:
    """Path of the file on the controller in which keys are gathered unless the inventory names one; ``""``: none.

    :param inventory_dir: directory of the inventory, an absolute path.  Ansible says ``"None"`` if it has none.
    :param lines: lines that the inventory itself has, in place of a file.
    """
    directory = pathlib.Path(inventory_dir or "")
    return str(directory / FILE) if directory.is_absolute() and not lines else ""


def warning(public_key: str, *, name: str, path: str, lines: str, text: str) -> str:
    """The warning that the key of a host is kept nowhere but on that host; ``""`` if it is, or will be.

    :param public_key: the host's answer; ``""`` if it has no key yet.
    :param name: name under which the host signs.
    :param path: the file in which keys are gathered; ``""``: none.
    :param lines: lines that the inventory itself has.
    :param text: contents of the file.
    """
    line = signer_line(public_key, name) if public_key else ""
    key = line.rpartition(" ")[2]
    if key and any(entry is not None and _b64(entry.blob) == key for entry in _entries(f"{lines}\n{text}")):
        return ""
    if path:
        if _writable(path):
            return ""
        reason = f"{path} cannot be written"
    elif lines:
        reason = "infrazero_allowed_signers has no line for it"
    else:
        reason = "no file for it is set, and the inventory has no directory for one"
    keep = f"keep this line: {line}" if line else "keep its line, which the run without --check shows"
    return (
        f"the signing key of {name} is kept nowhere but on the host itself: {reason}. If the host is lost, no restore "
        "accepts its backups without that key: set infrazero_allowed_signers_file to a file that can be written, or "
        f"{keep}"
    )


def on_host(text: str, *, name: str, public_key: str = "", found: str = "", keep: bool = False) -> str:
    """The text of a host's own ``allowed_signers`` file: the inventory's lines, and that of the host's key.

    :param text: the inventory's lines.
    :param name: name under which the host signs.
    :param public_key: the host's answer; ``""`` if it has no key yet.
    :param found: what the file has now.
    :param keep: keep lines that only this file has.  Those that an earlier bootstrap has written are replaced.
    """
    listed = {entry.blob for entry in _entries(text) if entry is not None}
    result = _MANAGED + text.strip() + "\n"
    if public_key:
        own = _own_blob(public_key, name)
        if own not in listed:
            result += signer_line(public_key, name) + "\n"
            listed.add(own)
    managed, marker, rest = found.partition(_KEPT)
    kept = rest if marker or managed.startswith(_MANAGED) else found
    lines = [line for line in kept.split("\n") if _is_only_in(line, listed)] if keep else []
    return result + (_KEPT + "\n".join(lines) + "\n" if lines else "")


def _entries(text: str) -> list[Entry | None]:
    return [allowed_signers.read(line) for line in text.split("\n")]


def _is_only_in(line: str, listed: t.Collection[bytes]) -> bool:
    entry = allowed_signers.read(line)
    return entry is not None and entry.blob not in listed


def _writable(path: str) -> bool:
    """Whether this process can write the file, which Ansible replaces as a whole."""
    file = pathlib.Path(path)
    return os.access(file.parent, os.W_OK | os.X_OK) and (not file.exists() or os.access(file, os.W_OK))


def report(text: str, *, name: str, public_key: str) -> str:
    """The keys that an ``allowed_signers`` file accepts for a host, in one sentence."""
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
            found.append(f"its key {key} counts only for backups from before {end:%Y-%m-%d %H:%M:%S} UTC")
        else:
            found.append(
                f"the key {key} still counts, because its line is not only for {name}: remove it by hand if necessary"
            )
    return "; ".join(found)


def _counts(entry: Entry) -> bool:
    """Whether the line applies to signatures of manifests."""
    return entry.counts_for(trust.NAMESPACE)


def _ended(entry: Entry, now: datetime.datetime) -> bool:
    """Whether the key does not count for signatures from *now* on."""
    return entry.end is not None and entry.end <= now


def _is_of(entry: Entry, name: str, others: t.Collection[str]) -> bool:
    """Whether the line is a key of the host *name* only: without a pattern, and without another host's name."""
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
            hint=f"find out who changed the file; {_remedy(name)}",
        )
    return blob


def _b64(blob: bytes) -> str:
    return base64.b64encode(blob).decode()


def _fingerprint(blob: bytes) -> str:
    return trust.fingerprint(_b64(blob))


def _remedy(name: str) -> str:
    return f"a run with --limit {name} and infrazero_rotate_signing_key=true creates a new key for {name}"


def _new_key(name: str, blob: bytes, entry: Entry) -> ConfigurationError:
    return ConfigurationError(
        f"{name} has a new signing key, which is not accepted: allowed_signers has another key for it",
        cause=f"the host answers with {_fingerprint(blob)}; the line of {entry.names!r} has {_fingerprint(entry.blob)}",
        hint=f"if {name} needs a new key, {_remedy(name)}, and the older key then counts only for earlier backups; "
        f"otherwise find out who answers as {name}",
    )


def _listed_elsewhere(name: str, entry: Entry) -> ConfigurationError:
    return ConfigurationError(
        f"{name} answers with a signing key that is not its own: allowed_signers has the key under another name",
        cause=f"the line of {entry.names!r} has the key {_fingerprint(entry.blob)}",
        hint=f"if the host was renamed, add {name} and a comma in front of the names of that line; "
        f"otherwise {_remedy(name)}",
    )


def _retired(name: str, entry: Entry) -> ConfigurationError:
    return ConfigurationError(
        f"{name} signs with a key that was replaced: its next backups would not be accepted",
        cause=f"valid-before of the key {_fingerprint(entry.blob)} in allowed_signers has passed",
        hint=_remedy(name),
    )
