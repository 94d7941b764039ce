# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Checks of keys: a host has public keys of age only, and a signing key of its own that others can verify."""

from __future__ import annotations

import pathlib
import stat
import typing as t

from .. import settings
from ..domain import allowed_signers, human
from ..domain import trust as trusting
from ..domain.checks import CRITICAL, OK, UNKNOWN, WARNING, Check, failed
from ..errors import EngineError
from ..signing import keys, sshsig
from ..streams import age

if t.TYPE_CHECKING:
    from .host import Host

#: How every private key of age begins, and the largest file that is searched for one.
_PRIVATE = b"AGE-SECRET-KEY-"
_LARGEST = 1024 * 1024


def check(host: Host) -> t.Iterator[Check]:
    """Recipients are valid, and the configuration directory has no private key of age."""
    for subject in host.profile().subjects():
        try:
            age.parse_recipients(subject.recipients)
        except EngineError as exc:
            yield failed("keys", subject.name, exc)
        else:
            yield Check("keys", subject.name, OK, human.counted(len(subject.recipients), "age recipient"))
    yield from _private(host.directory)


def _private(directory: pathlib.Path) -> t.Iterator[Check]:
    found, unread = [], []
    for path in sorted(directory.rglob("*")):
        try:
            if path.is_file() and path.stat().st_size <= _LARGEST and _PRIVATE in path.read_bytes():
                found.append(str(path))
        except OSError:
            unread.append(str(path))
    remedy = "remove it: whoever takes over this host could read every backup that it decrypts"
    yield from (Check("keys", path, CRITICAL, "it contains a private key of age", remedy) for path in found)
    if unread:
        yield Check("keys", "private keys", UNKNOWN, f"this user can't read {', '.join(unread)}", "look there as root")
    elif not found:
        yield Check("keys", "private keys", OK, f"none in {directory}")


def signers(host: Host) -> t.Iterator[Check]:
    """The host's own key can sign, others can verify it, and every accepted host has a key."""
    profile = host.profile()
    path = profile.values.get("signing", "signing_key") or str(host.directory / settings.SIGNING_KEY)
    try:
        signer = profile.signer()
    except EngineError as exc:
        yield failed("signers", "own key", exc)
        return
    if signer is None:
        remedy = (
            "apply the role backup, which creates one; a restore needs trust: unsigned for backups without a signature"
        )
        yield Check("signers", "own key", WARNING, f"there is no signing key {path}", remedy)
    else:
        yield _own(signer, host)
    trust = profile.trust()
    for subject in profile.subjects():
        accepted = trusting.accepted_names(trust, database=subject, key=subject.prefix)
        for name in accepted:
            if name != profile.signing_name() and not _has_key(name, trust.allowed_signers):
                remedy = f"add the public key of {name} to allowed_signers"
                yield Check(
                    "signers", subject.name, WARNING, f"backups of {name} are accepted, but it has no key", remedy
                )


def _own(signer: keys.Signer, host: Host) -> Check:
    mode = stat.S_IMODE(pathlib.Path(signer.path).stat().st_mode)
    if mode & 0o077:
        return Check(
            "signers", "own key", CRITICAL, f"{signer.path} has mode {mode:04o}", f"run: chmod 600 {signer.path}"
        )
    trust = host.profile().trust()
    if trust.own_key != signer.public_key:
        remedy = "a run with infrazero_rotate_signing_key=true creates a new key"
        return Check(
            "signers", "own key", CRITICAL, f"{signer.path}.pub is not the public half of {signer.path}", remedy
        )
    message = b"infrazero.database doctor"
    verdict = sshsig.verify(
        message,
        sshsig.sign(message, path=signer.path, run=keys.ssh_keygen()),
        signer=signer.host,
        moment=host.now,
        allowed_signers=trust.allowed_signers,
        revoked_keys=trust.revoked_keys,
        run=keys.ssh_keygen(),
    )
    if verdict.reason == trusting.REVOKED:
        remedy = "a run with infrazero_rotate_signing_key=true creates a new key"
        return Check("signers", "own key", CRITICAL, f"{signer.signed} is revoked", remedy)
    if verdict.reason != trusting.GOOD:
        remedy = "run the playbook bootstrap with infrazero_allowed_signers_file, which gathers the keys of all hosts"
        seen = f"{signer.signed} is not in allowed_signers for {signer.host}: only this host accepts its backups"
        return Check("signers", "own key", WARNING, seen, remedy)
    return Check("signers", "own key", OK, f"signs as {signer.signed}, and is in allowed_signers")


def _has_key(name: str, allowed: str) -> bool:
    entries = map(allowed_signers.read, allowed.splitlines())
    return any(entry is not None and entry.matches(name) for entry in entries)
