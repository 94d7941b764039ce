# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Which backups are accepted: whose signature counts for which database, where a manifest belongs, how old it may be.

A manifest is signed with the key of the host that made the backup, as OpenSSH signs files; who may sign is listed in
OpenSSH's own form, the lines of an ``allowed_signers`` file (ssh-keygen(1)).  The signer's name in it is the manifest's
``host``, so that no host can sign for another one.

A sound signature of a known host is not enough: a database is bound to the hosts whose backups of it are accepted.
They are this host itself and those that the list or the inventory names.
"""

from __future__ import annotations

import base64
import dataclasses
import datetime
import hashlib
import json
import struct
import typing as t

from ..errors import (
    ConfigurationError,
    ForeignSigner,
    ForgedManifest,
    Replayed,
    RevokedSigner,
    SignersMissing,
    TrustError,
    UnknownSigner,
    Unsigned,
    WrongDatabase,
)
from ..printing import printable
from . import layout, names
from .databases import Database
from .manifest import Manifest
from .text import NotJson, strict_json

#: What our signatures are for: none for anything else (a git commit, a file) counts here, nor the other way round.
NAMESPACE = "manifest@infrazero.database"

SIGNED = "signed"
UNSIGNED = "unsigned"
MODES = (SIGNED, UNSIGNED)

#: Results of the check of a signature.
GOOD = "good"
ALTERED = "altered"
UNKNOWN = "unknown"
REVOKED = "revoked"
ELSEWHERE = "elsewhere"

#: A signature with an Ed25519 key has 300 bytes, one with RSA 2,000.
MAX_SIGNATURE = 16 * 1024
_ARMOR = ("-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----")

_TOUGH = (
    "to restore it anyway, set trust: unsigned (--trust unsigned or DB_RESTORE_TRUST=unsigned with restore.sh, "
    "infrazero_trust in the inventory)"
)


@dataclasses.dataclass(frozen=True)
class Trust:
    """Whose backups a restore accepts.

    :param mode: :data:`SIGNED`: only what a trusted host has signed; :data:`UNSIGNED`: anything, with a warning.
    :param allowed_signers: contents of an ``allowed_signers`` file.
    :param revoked_keys: public keys that are no longer trusted, one a line.
    :param name: the name that this host signs under: backups of it are accepted; ``None``: it has none.
    :param own_key: this host's current public key, type and base64: what it signed is accepted; ``""``: it has none.
    :param signers: other hosts whose backups are accepted, by the name of a database or a prefix that ends with ``/``.
    :param once: other hosts whose backups are accepted in this run.
    :param max_age: an older latest backup is a warning; ``None``: never.
    """

    mode: str = SIGNED
    allowed_signers: str = ""
    revoked_keys: str = ""
    max_age: datetime.timedelta | None = datetime.timedelta(hours=48)
    name: str | None = None
    own_key: str = ""
    signers: t.Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    once: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ConfigurationError(f"trust is {self.mode!r}", hint=f"set it to {SIGNED} or {UNSIGNED}")


@dataclasses.dataclass(frozen=True)
class Verdict:
    """The result of the check of a signature.

    :param reason: :data:`GOOD`, or why not.
    :param key: fingerprint of the key that signed, as ``ssh-keygen -l`` prints it; ``""``: there is none.
    :param cause: OpenSSH's own words.
    """

    reason: str
    key: str = ""
    cause: str = ""


@dataclasses.dataclass(frozen=True)
class Signed:
    """Who signed a manifest, as its signature proves.

    :param name: of the host that the manifest names.
    :param key: fingerprint of the key, as ``ssh-keygen -l`` prints it.
    """

    name: str
    key: str

    def __str__(self) -> str:
        return f"{self.name} ({self.key})"


def accepted_names(trust: Trust, *, database: Database, key: str) -> tuple[str, ...]:
    """The hosts whose backups of *database* are accepted where the manifest's own key is *key*."""
    bound = [
        host
        for where, hosts in trust.signers.items()
        if where == database.name or (where.endswith("/") and key.startswith(where))
        for host in hosts
    ]
    every = [*([trust.name] if trust.name else []), *database.backup_signers, *bound, *trust.once]
    return tuple(name for name in dict.fromkeys(every) if can_sign(name))


def signer_names(value: t.Any, *, name: str) -> tuple[str, ...]:
    """Names of hosts that were given as a list.

    :param name: how errors call the setting.
    """
    if not isinstance(value, (list, tuple)) or not all(names.is_signer(item) for item in value):
        raise ConfigurationError(f"{name} is not a list of names of hosts", hint="write names such as db1, db2")
    return tuple(value)


def signers(value: t.Any, *, name: str) -> dict[str, tuple[str, ...]]:
    """Hosts whose backups are accepted, by database or prefix, as a mapping or as JSON text.

    :param name: how errors call the setting.
    """
    example = 'write {"shop": ["db2"], "db/production/": ["db3"]}'
    if isinstance(value, str):
        try:
            value = strict_json(value)
        except NotJson as exc:
            raise ConfigurationError(f"{name} is not valid JSON: {exc}", hint=example) from None
    if not isinstance(value, t.Mapping) or not all(isinstance(where, str) and where for where in value):
        raise ConfigurationError(f"{name} is not a mapping of databases or prefixes to names of hosts", hint=example)
    for where in value:
        if "/" in where and not where.endswith("/"):
            raise ConfigurationError(f"{name}: the prefix {printable(where)!r} does not end with '/'", hint=example)
    return {where: signer_names(hosts, name=f"{name}, {printable(where)}") for where, hosts in value.items()}


def key_lines(value: t.Any, *, name: str) -> str:
    """The text of a file of keys that was given as a text or as a list of lines.

    :param name: how errors call the setting.
    """
    if value is None:
        return ""
    lines = [value] if isinstance(value, str) else value
    if not isinstance(lines, (list, tuple)) or not all(isinstance(line, str) for line in lines):
        raise ConfigurationError(f"{name} is neither a text nor a list of lines", hint="give the lines of the file")
    return "".join(line.rstrip("\n") + "\n" for line in lines if line.strip())


def max_age(hours: float, *, name: str) -> datetime.timedelta | None:
    """How old the latest backup may be without a warning; 0 hours: as old as it likes.

    :param name: how errors call the setting.
    """
    # A NaN fails every comparison.
    if not 0 <= hours <= 24 * 366 * 100:
        raise ConfigurationError(f"{name}: {hours} is not a number of hours", hint="give hours, or 0 for no limit")
    return datetime.timedelta(hours=hours) if hours else None


def holds_keys(text: str) -> bool:
    """Whether a file of keys has any line that isn't empty or a comment."""
    return any(line.strip() and not line.lstrip().startswith("#") for line in text.splitlines())


def can_sign(host: str | None) -> bool:
    """Whether *host* can be a signer's name in an ``allowed_signers`` file."""
    return names.is_signer(host)


def signers_line(host: str, public_key: str) -> str:
    """The line of an ``allowed_signers`` file that trusts *host* with *public_key* (type and base64)."""
    return f'{host} namespaces="{NAMESPACE}" {public_key}'


def key_of(signature: str) -> str | None:
    """The public key that an armored SSHSIG says it was made with, in base64 as in a ``.pub`` file.

    Of use for explanations only: it proves nothing.  The form is OpenSSH's PROTOCOL.sshsig.
    """
    # No pattern here: a text can be made so that it takes hours to match.
    text, (begin, end) = signature.strip(), _ARMOR
    if len(signature) > MAX_SIGNATURE or not (text.startswith(begin) and text.endswith(end)):
        return None
    try:
        blob = base64.b64decode("".join(text[len(begin) : -len(end)].split()), validate=True)
        (size,) = struct.unpack_from(">I", blob, len(b"SSHSIG") + 4)
    except (ValueError, struct.error):
        return None
    start = len(b"SSHSIG") + 8
    if not blob.startswith(b"SSHSIG") or len(blob) < start + size:
        return None
    return base64.b64encode(blob[start : start + size]).decode()


def fingerprint(key: str) -> str:
    """``SHA256:...`` of a public key in base64."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(base64.b64decode(key)).digest()).decode().rstrip("=")


# Refusals -----------------------------------------------------------------------------------------------------------


def unsigned(url: str, *, what: str) -> TrustError:
    """The error for a backup that nobody signed.

    :param what: why there is no signature.
    """
    return Unsigned(
        f"{url} is not signed, so anyone with write access to the store may have written it",
        cause=what,
        hint=f"choose a backup that one of your hosts signed; backups of older tools have no signature: {_TOUGH}",
    )


def incomplete(said: Manifest, *, url: str) -> TrustError | None:
    """Why a manifest can't be checked, before its signature is; ``None``: it can be."""
    if said.signature is None:
        return unsigned(url, what="its manifest has no signature")
    missing = [name for name in ("database", "system_identifier", "sequence") if getattr(said, name) is None]
    if not can_sign(said.host):
        missing.append("host")
    if missing:
        return ForgedManifest(
            f"the manifest {url} has a signature, but lacks fields that ours always have",
            cause=f"no {', no '.join(missing)} that could be checked",
            hint="it was not written by this collection: find out who wrote it, and choose another backup",
        )
    return None


def no_signers(url: str) -> TrustError:
    """The error where nothing says whose backups are trusted."""
    return SignersMissing(
        f"{url} can't be checked: this host does not know whose signatures to trust",
        cause="there is no allowed_signers, or no line in it",
        hint="set infrazero_allowed_signers (the role backup gathers the lines of a fleet in the controller's "
        "infrazero_allowed_signers_file), or write them to allowed_signers beside db.env (/etc/infrazero); " + _TOUGH,
    )


def refusal(verdict: Verdict, said: Manifest, *, url: str) -> TrustError | None:
    """The error for a signature that does not count; ``None`` for a good one."""
    if verdict.reason == GOOD:
        return None
    if verdict.reason == REVOKED:
        return RevokedSigner(
            f"{url} was signed with a key of {said.host} that is revoked",
            cause=f"revoked_keys names the key {verdict.key}",
            hint="choose a backup that another key has signed; if this one is known to be from before the key was "
            f"lost, {_TOUGH}",
        )
    if verdict.reason == UNKNOWN:
        return UnknownSigner(
            f"{url} was signed with a key that is not trusted",
            cause=f"it names the host {said.host}; allowed_signers has no line with the key {verdict.key}",
            hint="if the backup is from one of your hosts, compare the key with ssh-keygen -lf "
            "/etc/infrazero/signing/id_ed25519.pub there, and add that host's line to infrazero_allowed_signers (or "
            "allowed_signers beside db.env) under its name in the inventory",
        )
    if verdict.reason == ELSEWHERE:
        return UnknownSigner(
            f"{url} was signed with a key that is trusted, but not as {said.host} at {said.created_at:%Y-%m-%d %H:%M}",
            cause=f"key {verdict.key}: {verdict.cause}" if verdict.cause else f"key {verdict.key}",
            hint="look at the key's line in allowed_signers: the names in front must include the manifest's host, and "
            "valid-after and valid-before the time of the backup (UTC)",
        )
    return ForgedManifest(
        f"the manifest {url} is not what was signed",
        cause="its fields, or its signature, were changed afterwards",
        hint="someone writes to the store who should not: find out who, and choose another backup",
    )


def foreign(said: Manifest, *, key: str, url: str, database: Database, accepted: t.Sequence[str]) -> TrustError:
    """The error for a sound signature of a known host whose backups of *database* are not accepted.

    :param key: fingerprint of the key that signed.
    :param accepted: the hosts whose backups are.
    """
    host = str(said.host)
    own = f"backups of {database.name!r} are accepted from {', '.join(accepted)}" if accepted else ""
    return ForeignSigner(
        f"{url} was signed by {host}, whose backups of {database.name!r} are not accepted here",
        cause=f"key {key}; {own or 'this host has no name that backups could be accepted from'}",
        hint=f"if you want it, name {host} for this database: backup_signers: [{host}] in its entry of the list, or "
        f"infrazero_signers: {json.dumps({database.name: [host]}, ensure_ascii=False)} in the inventory; for one "
        f"restore --signer {host} or DB_RESTORE_SIGNER={host} with restore.sh",
    )


def misplaced(said: Manifest, *, key: str, url: str, database: Database) -> TrustError | None:
    """Why a manifest must not be where it is; ``None``: it may.

    A manifest under the prefix of the database to be restored is that database's; elsewhere it may be that of the
    database whose name the prefix has.  Restoring one database from another's backup is done by naming that other
    one's prefix or dump.

    :param key: the manifest's own.
    :param database: the one to be restored.
    """
    pointer = key.endswith(layout.LATEST)
    own, home = key.startswith(database.prefix), layout.home_of(key)
    expected = {database.name} if own or home is None else {database.name, home}
    if said.database is not None and said.database not in expected and (pointer or own or home is not None):
        return WrongDatabase(
            f"{url} is a backup of the database {said.database!r}, but is among those of "
            f"{(database.name if own or home is None else home)!r}",
            hint="find out who put it there; if you want a backup of that database, name the dump itself as the source",
        )
    name = layout.manifest_key(layout.locate(said.key).key).rpartition("/")[2]
    if not pointer and key.rpartition("/")[2] != name:
        return Replayed(
            f"{url} is the manifest of another backup",
            cause=f"it names {printable(said.key)}",
            hint="someone has put it there under a wrong name: find out who, and name the dump itself as the source",
        )
    return None


# Warnings -----------------------------------------------------------------------------------------------------------


def strange(keys: t.Sequence[str], *, unread: int) -> str:
    """The warning about manifests beside the latest one that are not believed.

    :param keys: their own keys.
    :param unread: how many more there are.
    """
    parts = []
    if keys:
        parts.append(
            f"{len(keys)} newer manifests are unreadable, or not signed by a host whose backups are accepted, the "
            f"newest of them {printable(max(keys))}"
        )
    if unread:
        parts.append(f"{unread} more were not read, so a newer backup may be among them")
    return "; ".join(parts) + ": anyone with write access to the store can leave these"


def aged(said: Manifest, *, now: datetime.datetime, limit: datetime.timedelta | None) -> str | None:
    """The warning about the age of a latest backup; ``None``: none."""
    age = now - said.created_at
    if age < -datetime.timedelta(minutes=5):
        return f"the latest backup is of {said.created_at:%Y-%m-%dT%H:%M:%SZ}, which is in the future: a clock is wrong"
    if limit is None or age <= limit:
        return None
    return (
        f"the latest backup is {age.total_seconds() / 3600:.0f} hours old, more than "
        f"{limit.total_seconds() / 3600:g}: did backups stop, or was latest rolled back?"
    )
