# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The keys of signatures: the host's own, which it signs with, and the files of those that it trusts or has revoked."""

from __future__ import annotations

import dataclasses
import functools
import pathlib

from ..domain import manifest
from ..domain import trust as trusting
from ..domain.trust import Signed, Trust
from ..errors import ConfigurationError
from ..streams.process import child_environment, run
from . import sshsig

#: Where the role backup leaves the host's key, and the role restore who else is trusted.
SIGNING_KEY = "/etc/infrazero/signing/id_ed25519"
ALLOWED_SIGNERS = "/etc/infrazero/allowed_signers"
REVOKED_KEYS = "/etc/infrazero/revoked_keys"


def ssh_keygen() -> sshsig.Run:
    """How ssh-keygen is run."""
    return functools.partial(run, phase="trust", environment=child_environment({"TZ": "UTC0"}))


@dataclasses.dataclass(frozen=True)
class Signer:
    """The host's own key.

    :param path: of the private key.
    :param host: the name that it signs under.
    :param public_key: type and base64.
    """

    path: str
    host: str
    public_key: str

    @classmethod
    def at(cls, path: str, *, host: str) -> Signer | None:
        """The key in *path*, proven to be usable; ``None`` if there is no such file.

        :param host: name of this host.
        """
        try:
            pathlib.Path(path).stat()
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise ConfigurationError(
                f"the signing key {path} can't be used",
                cause=exc.strerror or "",
                hint="its directory must belong to the user that backups run as",
            ) from None
        if not trusting.can_sign(host):
            raise ConfigurationError(
                f"the host's name {host!r} can't be used in an allowed_signers file",
                hint="give the host a name of letters, digits, '.', '_' and '-' (hostnamectl)",
            )
        return cls(path, host, sshsig.public_key(path, run=ssh_keygen()))

    @property
    def signed(self) -> Signed:
        """Who signs with it."""
        return Signed(self.host, trusting.fingerprint(self.public_key.split()[1]))

    def accepting(self, trust: Trust) -> Trust:
        """*trust* as this host has it: signatures are required, and those of its own key and name count."""
        return dataclasses.replace(trust, mode=trusting.SIGNED, name=self.host, own_key=self.public_key)

    def sign(self, made: manifest.Manifest) -> manifest.Manifest:
        """*made* with a signature."""
        message = manifest.render(dataclasses.replace(made, signature=None))
        return dataclasses.replace(made, signature=sshsig.sign(message, path=self.path, run=ssh_keygen()))


def read_keys(path: str) -> str:
    """The text of a file of keys on this host; one that isn't there has no lines."""
    try:
        return pathlib.Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as exc:
        cause = (exc.strerror or "") if isinstance(exc, OSError) else "it is not UTF-8"
        raise ConfigurationError(f"{path} can't be read", cause=cause, hint="its mode should be 0644") from None


def own_public_key(path: str) -> str:
    """Type and base64 of the public key beside the private one in *path*; ``""`` where there is none for us to read."""
    try:
        words = pathlib.Path(f"{path}.pub").read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError):
        return ""
    return " ".join(words[:2]) if len(words) > 1 else ""
