# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Signatures as OpenSSH makes and checks them: ``ssh-keygen -Y``.

What it reads goes to it through its standard input and through files that exist in memory only.  The private key stays
in its file, which nobody but ssh-keygen reads.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import typing as t

from ..domain import allowed_signers as allowed
from ..domain import trust
from ..errors import ConfigurationError, ProcessFailed

_PROGRAM = "ssh-keygen"


class Run(t.Protocol):
    """How a short tool is run: :func:`.streams.process.run` with a phase and an environment.

    The environment's time zone must be UTC: OpenSSH reads and compares local times.
    """

    def __call__(self, argv: t.Sequence[str], *, stdin: bytes | None = None, pass_fds: t.Sequence[int] = ()) -> bytes:
        """Its standard output.  Raises ProcessFailed where it ends with another status than 0."""


def public_key(path: str, *, run: Run) -> str:
    """Type and base64 of the public key that belongs to the private one in *path*.

    :raises ConfigurationError: where the private key can't be used: unreadable, or under a passphrase.
    """
    try:
        # Nobody is asked for a passphrase: this one is tried.
        printed = run([_PROGRAM, "-y", "-P", "", "-f", path])
    except ProcessFailed as exc:
        raise ConfigurationError(
            f"the signing key {path} can't be used",
            cause=exc.cause,
            hint="it must belong to the user that backups run as, have the mode 0600 and no passphrase; the role "
            "backup creates one if there is none",
        ) from None
    return " ".join(printed.decode("utf-8", "replace").split()[:2])


def sign(message: bytes, *, path: str, run: Run) -> str:
    """An armored signature over *message* with the private key in *path*."""
    arguments = [_PROGRAM, "-Y", "sign", "-q", "-f", path, "-n", trust.NAMESPACE]
    return run(arguments, stdin=message).decode("ascii")


def verify(
    message: bytes,
    signature: str,
    *,
    signer: str,
    moment: datetime.datetime,
    allowed_signers: str,
    revoked_keys: str,
    run: Run,
) -> trust.Verdict:
    """Whether *signature* over *message* is that of a key that *signer* was trusted with at *moment*.

    Only ssh-keygen's own exit status makes it good; why it isn't is determined afterwards.

    :param allowed_signers: contents of such a file; its times are UTC.
    :param revoked_keys: public keys, one a line.
    """
    key = trust.key_of(signature)
    if key is None:
        return trust.Verdict(trust.ALTERED)
    name = trust.fingerprint(key)
    valid = allowed.valid_at(allowed_signers, moment)
    with _file(signature) as (signature_path, signature_fd), _file(valid) as (allowed_path, allowed_fd):
        with _file(revoked_keys) as (revoked_path, revoked_fd):
            arguments = [_PROGRAM, "-Y", "verify", "-q", "-f", allowed_path, "-I", signer, "-n", trust.NAMESPACE]
            arguments += ["-s", signature_path, "-O", f"verify-time={moment:%Y%m%d%H%M%S}"]
            if revoked_keys:
                arguments += ["-r", revoked_path]
            try:
                run(arguments, stdin=message, pass_fds=(signature_fd, allowed_fd, revoked_fd))
            except ProcessFailed as exc:
                failed = exc
            else:
                return trust.Verdict(trust.GOOD, name)
        try:
            check = [_PROGRAM, "-Y", "check-novalidate", "-q", "-n", trust.NAMESPACE, "-s", signature_path]
            run(check, stdin=message, pass_fds=(signature_fd,))
        except ProcessFailed:
            return trust.Verdict(trust.ALTERED, name)
    if key in revoked_keys.split():
        return trust.Verdict(trust.REVOKED, name)
    if key not in allowed_signers.split():
        return trust.Verdict(trust.UNKNOWN, name)
    return trust.Verdict(trust.ELSEWHERE, name, failed.cause)


@contextlib.contextmanager
def _file(text: str) -> t.Iterator[tuple[str, int]]:
    """A file in memory with *text*: its path for a child that inherits the descriptor, and that descriptor."""
    descriptor = os.memfd_create("trust", os.MFD_CLOEXEC)
    try:
        with os.fdopen(os.dup(descriptor), "wb") as stream:
            stream.write(text.encode("utf-8"))
        yield f"/proc/self/fd/{descriptor}", descriptor
    finally:
        os.close(descriptor)
