# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The rules for accepting a backup: its signer, the place of its manifest, and its age.

The host that creates a backup signs the manifest with its own key, as OpenSSH signs files.  The trusted keys are listed
in OpenSSH's own format, the lines of an ``allowed_signers`` file (ssh-keygen(1)).  The signer's name there must be the
manifest's ``host``, so no host can sign for another one.

A valid signature of a known host is not enough: each database has a set of hosts whose backups of it are accepted.
These are this host itself and the ones that the list or the inventory names.
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
from .manifest import DUMP, GLOBALS, Manifest
from .subjects import Subject
from .text import NotJson, strict_json

#: Namespace of the signatures: one for another purpose (a git commit, a file) is not valid here, and vice versa.
NAMESPACE = "manifest@infrazero.database"

SIGNED = "signed"
UNSIGNED = "unsigned"
MODES = (SIGNED, UNSIGNED)

#: Results of the verification of a signature.
GOOD = "good"
ALTERED = "altered"
UNKNOWN = "unknown"
REVOKED = "revoked"
ELSEWHERE = "elsewhere"

#: Size limit; a signature has about 300 bytes with an Ed25519 key and 2,000 with an RSA key.
MAX_SIGNATURE = 16 * 1024
_ARMOR = ("-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----")

_ANYWAY = (
    "to restore it anyway, set trust: unsigned (--trust unsigned or DB_RESTORE_TRUST=unsigned with restore.sh, "
    "infrazero_restore_trust in the inventory)"
)
#: The remedy for a backup without a signature that exists.
OLDER = f"a backup of an older tool has no signature: {_ANYWAY}"


@dataclasses.dataclass(frozen=True)
class Trust:
    """The settings that decide which backups a restore accepts.

    :param mode: :data:`SIGNED` accepts only backups that a trusted host has signed, :data:`UNSIGNED` accepts all
        backups, with a warning.
    :param allowed_signers: contents of an ``allowed_signers`` file.
    :param revoked_keys: public keys that are no longer trusted, one per line.
    :param name: the name that this host signs with; its backups are accepted.  ``None`` if it has none.
    :param own_key: this host's current public key, type and base64; backups signed with it are accepted.  ``""`` if it
        has none.
    :param signers: other hosts whose backups are accepted, by the name of a database or a prefix that ends with ``/``.
    :param once: other hosts whose backups are accepted in this run only.
    :param max_age: maximum age of the latest backup without a warning; ``None`` for no limit.
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
            raise ConfigurationError(f"invalid trust mode {self.mode!r}", hint=f"use {SIGNED} or {UNSIGNED}")


@dataclasses.dataclass(frozen=True)
class Verdict:
    """The result of the verification of a signature.

    :param reason: :data:`GOOD`, or the reason why the signature is not accepted.
    :param key: fingerprint of the signing key, as ``ssh-keygen -l`` prints it; ``""`` if there is none.
    :param cause: the message of OpenSSH.
    """

    reason: str
    key: str = ""
    cause: str = ""


@dataclasses.dataclass(frozen=True)
class Signed:
    """The proven signer of a manifest.

    :param name: name of the host in the manifest.
    :param key: fingerprint of the key, as ``ssh-keygen -l`` prints it.
    """

    name: str
    key: str

    def __str__(self) -> str:
        return f"{self.name} ({self.key})"


def accepted_names(trust: Trust, *, database: Subject, key: str) -> tuple[str, ...]:
    """The hosts whose backups of *database* are accepted, for a manifest stored under *key*."""
    bound = [
        host
        for where, hosts in trust.signers.items()
        if where == database.name or (where.endswith("/") and key.startswith(where))
        for host in hosts
    ]
    every = [*([trust.name] if trust.name else []), *database.backup_signers, *bound, *trust.once]
    return tuple(name for name in dict.fromkeys(every) if can_sign(name))


def require_bound(signer: str, manifest: Manifest, *, trust: Trust, database: Subject, key: str) -> None:
    """Raise unless hosts that restore *database* accept what *signer* signs in place of the signer of *manifest*.

    :param trust: of this host, whose own name is not enough: other hosts restore the backup.
    :param key: of the manifest.
    """
    elsewhere = dataclasses.replace(trust, name=None, once=())
    if signer in (manifest.host, *accepted_names(elsewhere, database=database, key=key)):
        return
    where = database.name if database.kind != GLOBALS else database.prefix
    raise ForeignSigner(
        f"this host signs as {signer}, whose backups of {database.name!r} other hosts do not accept",
        cause=f"the backup was signed by {printable(str(manifest.host))}, and nothing names {signer} for the database",
        hint=f"set infrazero_signers: {json.dumps({where: [signer]}, ensure_ascii=False)} in the inventory (or "
        f"backup_signers: [{signer}] in the database's entry of the list), add the line of {signer} to "
        "allowed_signers, give both to the hosts first, then rekey; or rekey on the host that made the backups",
    )


def signer_names(value: t.Any, *, name: str) -> tuple[str, ...]:
    """Validate a list of host names.

    :param name: name of the setting in errors.
    """
    if not isinstance(value, (list, tuple)) or not all(names.is_signer(item) for item in value):
        raise ConfigurationError(f"{name} is not a list of host names", hint="give names such as db1, db2")
    return tuple(value)


def signers(value: t.Any, *, name: str) -> dict[str, tuple[str, ...]]:
    """Validate the hosts whose backups are accepted, by database or prefix, given as a mapping or as JSON text.

    :param name: name of the setting in errors.
    """
    example = 'use the form {"shop": ["db2"], "db/production/": ["db3"]}'
    if isinstance(value, str):
        try:
            value = strict_json(value)
        except NotJson as exc:
            raise ConfigurationError(f"{name} is not valid JSON: {exc}", hint=example) from None
    if not isinstance(value, t.Mapping) or not all(isinstance(where, str) and where for where in value):
        raise ConfigurationError(
            f"{name} is not a mapping of databases or prefixes to lists of host names", hint=example
        )
    for where in value:
        if "/" in where and not where.endswith("/"):
            raise ConfigurationError(f"{name}: the prefix {printable(where)!r} does not end with '/'", hint=example)
    return {where: signer_names(hosts, name=f"{name}, {printable(where)}") for where, hosts in value.items()}


def key_lines(value: t.Any, *, name: str) -> str:
    """Contents of a key file, given as a string or as a list of lines.

    :param name: name of the setting in errors.
    """
    if value is None:
        return ""
    lines = [value] if isinstance(value, str) else value
    if not isinstance(lines, (list, tuple)) or not all(isinstance(line, str) for line in lines):
        raise ConfigurationError(f"{name} is neither a string nor a list of lines", hint="give the lines of the file")
    return "".join(line.rstrip("\n") + "\n" for line in lines if line.strip())


def holds_keys(text: str) -> bool:
    """Whether a key file has any line that is neither empty nor a comment."""
    return any(line.strip() and not line.lstrip().startswith("#") for line in text.splitlines())


def can_sign(host: str | None) -> bool:
    """Whether *host* is a valid name of a signer in an ``allowed_signers`` file."""
    return names.is_signer(host)


def signers_line(host: str, public_key: str) -> str:
    """The line of an ``allowed_signers`` file that trusts *host* with *public_key* (type and base64)."""
    return f'{host} namespaces="{NAMESPACE}" {public_key}'


def key_of(signature: str) -> str | None:
    """The public key that an armored SSHSIG names as its signing key, in base64 as in a ``.pub`` file.

    Only for explanations: it proves nothing.  OpenSSH's PROTOCOL.sshsig has the format.
    """
    # No regular expression here: a crafted text could take hours to match.
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
    """Fingerprint ``SHA256:...`` of a public key in base64."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(base64.b64decode(key)).digest()).decode().rstrip("=")


# Refusals -----------------------------------------------------------------------------------------------------------


def unsigned(url: str, *, what: str) -> TrustError:
    """The error for an unsigned backup that exists.

    :param what: the reason for the missing signature.
    """
    return Unsigned(
        f"{url} is not signed, so anyone with write access to the store may have created it",
        cause=what,
        hint=f"choose a backup that one of your hosts has signed; {OLDER}",
    )


def steps(manifest: Manifest, *, published: str = "", other: str = "") -> str:
    """What to do, in order, about a signature with a key that is not known.

    :param published: URL of the public key in the store, where anyone with write access may have put it.
    :param other: description of another backup that an accepted host has signed.
    """
    host = manifest.host
    where = (
        f"the key is published as {published}, which proves nothing by itself" if published else "see docs/signing.md"
    )
    return (
        f"1. compare the key's fingerprint with that of {host}: in the allowed_signers of your inventory or of another "
        "host, in the output of an earlier bootstrap, or with ssh-keygen -lf /etc/infrazero/signing/id_ed25519.pub on "
        f"that host; if it is the same, add the line of {host} to allowed_signers ({where}): the file beside the "
        "inventory (infrazero_allowed_signers_file) or the one in the directory of db.env (/etc/infrazero); if this "
        f"host has another name, also accept {host} for the database, with backup_signers or infrazero_signers; "
        f"2. to accept {host} for this restore only, use --signer {host} (DB_RESTORE_SIGNER={host}), which needs the "
        "line, too; 3. otherwise choose another backup"
        + (f": {other}" if other else ", one that an accepted host has signed")
    )


def incomplete(manifest: Manifest, *, url: str) -> TrustError | None:
    """The error for a manifest whose signature can't be verified at all; ``None`` if it can."""
    if manifest.signature is None:
        return unsigned(url, what="its manifest has no signature")
    missing = [name for name in ("database", "system_identifier", "sequence") if getattr(manifest, name) is None]
    if not can_sign(manifest.host):
        missing.append("host")
    if missing:
        return ForgedManifest(
            f"the manifest {url} is signed but lacks required fields",
            cause=f"missing or invalid: {', '.join(missing)}",
            hint="this collection did not write it: find out who did, and choose another backup",
        )
    return None


def no_signers(manifest: Manifest, *, url: str) -> TrustError:
    """The error if no trusted signers are configured."""
    key = key_of(manifest.signature or "")
    return SignersMissing(
        f"{url} can't be verified: this host has no trusted signers",
        cause="allowed_signers does not exist or has no lines; the manifest names the host "
        f"{manifest.host} and the key {fingerprint(key) if key else 'of another format'}",
        hint=steps(manifest),
    )


def refusal(verdict: Verdict, manifest: Manifest, *, url: str) -> TrustError | None:
    """The error for a signature that is not accepted; ``None`` for a good one."""
    if verdict.reason == GOOD:
        return None
    if verdict.reason == REVOKED:
        return RevokedSigner(
            f"{url} was signed with a revoked key of {manifest.host}",
            cause=f"revoked_keys contains the key {verdict.key}",
            hint="choose a backup that was signed with another key; if this backup was certainly signed before the key "
            f"was compromised, {_ANYWAY}",
        )
    if verdict.reason == UNKNOWN:
        return UnknownSigner(
            f"{url} was signed with a key that is not trusted",
            cause=f"its manifest names the host {manifest.host}, but allowed_signers has no line with the key "
            f"{verdict.key}",
            hint=steps(manifest),
        )
    if verdict.reason == ELSEWHERE:
        return UnknownSigner(
            f"{url} was signed with a trusted key that is not valid for {manifest.host} at "
            f"{manifest.created_at:%Y-%m-%d %H:%M}",
            cause=f"key {verdict.key}: {verdict.cause}" if verdict.cause else f"key {verdict.key}",
            hint="check the key's line in allowed_signers: its names must include the host, and valid-after and "
            "valid-before must include the time of the backup (UTC)",
        )
    return ForgedManifest(
        f"the manifest {url} does not match its signature",
        cause="its fields or its signature were changed after signing",
        hint="somebody writes to the store without permission: find out who, and choose another backup",
    )


def foreign(manifest: Manifest, *, key: str, url: str, database: Subject, accepted: t.Sequence[str]) -> TrustError:
    """The error for a valid signature of a known host whose backups of *database* are not accepted.

    :param key: fingerprint of the signing key.
    :param accepted: the hosts whose backups are accepted.
    """
    host = str(manifest.host)
    # The globals have no entry in the list; they are known by their prefix.
    where, entry = database.name, f"set backup_signers: [{host}] in its entry of the list, or "
    if database.kind == GLOBALS:
        where, entry = database.prefix, "set "
    own = f"backups of {database.name!r} are accepted from {', '.join(accepted)}" if accepted else ""
    return ForeignSigner(
        f"{url} was signed by {host}, whose backups of {database.name!r} are not accepted here",
        cause=f"key {key}; {own or 'no other host is accepted, and this host has no valid name'}",
        hint=f"if this backup is wanted, accept {host} for it: {entry}"
        f"infrazero_signers: {json.dumps({where: [host]}, ensure_ascii=False)} in the inventory; "
        f"for a single restore, use --signer {host}, or DB_RESTORE_SIGNER={host} with restore.sh",
    )


def disagreeing(url: str) -> TrustError:
    """The error for a rekeyed backup whose manifest says something else than the one that it had before."""
    return ForgedManifest(
        f"{url} had other contents",
        cause="the manifest of a rekeyed backup must describe the same contents as the one that it had before",
        hint="find out who rekeyed it, and choose another backup",
    )


def misplaced(manifest: Manifest, *, key: str, url: str, database: Subject) -> TrustError | None:
    """The error for a manifest that is in the wrong place; ``None`` if it is in the right one.

    A manifest under the prefix of the database to be restored must belong to that database; elsewhere it may belong to
    the database that the prefix is named after.  To restore a database from the backup of another one, the operator
    names the other one's prefix or dump.

    :param key: key of the manifest itself.
    :param database: the database to be restored.
    """
    if (manifest.kind or DUMP) != database.kind:
        return WrongDatabase(
            f"{url} is a backup of another kind than one of {database.name!r}: {printable(str(manifest.kind))}",
            hint="name a backup of the right kind; if this one is stored among others, find out who put it there",
        )
    pointer = key.endswith(layout.LATEST)
    own, home = key.startswith(database.prefix), layout.home_of(key)
    expected = {database.name} if own or home is None else {database.name, home}
    if manifest.database is not None and manifest.database not in expected and (pointer or own or home is not None):
        return WrongDatabase(
            f"{url} is a backup of the database {manifest.database!r}, but is stored among the backups of "
            f"{(database.name if own or home is None else home)!r}",
            hint="find out who put it there; if this backup is wanted, name the dump itself as the source",
        )
    name = layout.manifest_key(layout.locate(manifest.key).key).rpartition("/")[2]
    if not pointer and key.rpartition("/")[2] != name:
        return Replayed(
            f"{url} is the manifest of another backup",
            cause=f"it names {printable(manifest.key)}",
            hint="somebody has stored it under the wrong key: find out who, and name the dump itself as the source",
        )
    return None


# Warnings -----------------------------------------------------------------------------------------------------------


def strange(keys: t.Sequence[str], *, unread: int) -> str:
    """The warning about newer manifests than the latest one that are not accepted.

    :param keys: keys of the manifests.
    :param unread: number of further manifests that were not read.
    """
    parts = []
    if keys:
        parts.append(
            f"{len(keys)} newer manifests are unreadable or not signed by a host whose backups are accepted; the "
            f"newest one is {printable(max(keys))}"
        )
    if unread:
        parts.append(f"{unread} more were not read, so a newer backup may be among them")
    return "; ".join(parts) + ": anyone with write access to the store can create such manifests"


def aged(manifest: Manifest, *, now: datetime.datetime, limit: datetime.timedelta | None) -> str | None:
    """The warning about the age of the latest backup; ``None`` if there is none."""
    age = now - manifest.created_at
    if age < -datetime.timedelta(minutes=5):
        return f"the latest backup is dated {manifest.created_at:%Y-%m-%dT%H:%M:%SZ}, in the future: a clock is wrong"
    if limit is None or age <= limit:
        return None
    return (
        f"the latest backup is {age.total_seconds() / 3600:.0f} hours old, more than "
        f"{limit.total_seconds() / 3600:g}: did backups stop, or was latest rolled back?"
    )
