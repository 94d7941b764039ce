# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Signing keys: the key that the host signs with, and the files of trusted and revoked keys."""

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


def ssh_keygen() -> sshsig.Run:
    """Return the function that runs ssh-keygen."""
    return functools.partial(run, phase="trust", environment=child_environment({"TZ": "UTC0"}))


@dataclasses.dataclass(frozen=True)
class Signer:
    """The host's signing key.

    :param path: path of the private key.
    :param host: the name that the host signs with.
    :param public_key: type and base64 of the public key.
    """

    path: str
    host: str
    public_key: str

    @classmethod
    def at(cls, path: str, *, host: str) -> Signer | None:
        """The key in *path*, tested to be usable; ``None`` if the file does not exist.

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
                hint="the user that runs backups must own its directory",
            ) from None
        if not trusting.can_sign(host):
            raise ConfigurationError(
                f"the host name {host!r} is not valid in an allowed_signers file",
                hint="use only letters, digits, '.', '_' and '-' in the host's name (hostnamectl)",
            )
        return cls(path, host, sshsig.public_key(path, run=ssh_keygen()))

    @property
    def signed(self) -> Signed:
        """The signer of what this key signs."""
        return Signed(self.host, trusting.fingerprint(self.public_key.split()[1]))

    def accepting(self, trust: Trust) -> Trust:
        """*trust* for this host: signatures are required, and those of its own key and name are accepted."""
        return dataclasses.replace(trust, mode=trusting.SIGNED, name=self.host, own_key=self.public_key)

    def sign(self, unsigned: manifest.Manifest) -> manifest.Manifest:
        """Return *unsigned* with a signature."""
        message = manifest.render(dataclasses.replace(unsigned, signature=None))
        return dataclasses.replace(unsigned, signature=sshsig.sign(message, path=self.path, run=ssh_keygen()))


def read_keys(path: str) -> str:
    """Contents of a key file on this host; ``""`` if it does not exist."""
    try:
        return pathlib.Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as exc:
        cause = (exc.strerror or "") if isinstance(exc, OSError) else "it is not valid UTF-8"
        raise ConfigurationError(f"{path} can't be read", cause=cause, hint="set its mode to 0644") from None


def own_public_key(path: str) -> str:
    """Type and base64 of the public key in ``<path>.pub``; ``""`` if it can't be read."""
    try:
        words = pathlib.Path(f"{path}.pub").read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError):
        return ""
    return " ".join(words[:2]) if len(words) > 1 else ""
