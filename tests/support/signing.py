# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts that sign: their keys, made as the role backup makes them."""

from __future__ import annotations

import dataclasses
import pathlib
import subprocess
import typing as t

from ansible_collections.infrazero.database.plugins.module_utils._engine.domain import trust as trusting
from ansible_collections.infrazero.database.plugins.module_utils._engine.signing import keys


def make_key(path: pathlib.Path) -> str:
    """Make a key without passphrase at *path*; type and base64 of its public half come back."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(path)],
        stdin=subprocess.DEVNULL,
        check=True,
    )
    return " ".join(path.with_suffix(".pub").read_text(encoding="utf-8").split()[:2])


@dataclasses.dataclass(frozen=True)
class SigningHost:
    """A host with a signing key.

    :param path: of the private key.
    """

    name: str
    path: pathlib.Path
    public_key: str

    @classmethod
    def make(cls, directory: pathlib.Path, name: str) -> SigningHost:
        path = directory / name / "id_ed25519"
        return cls(name, path, make_key(path))

    @property
    def line(self) -> str:
        """Its line in an ``allowed_signers`` file."""
        return trusting.signers_line(self.name, self.public_key) + "\n"

    @property
    def signer(self) -> keys.Signer:
        """What backups of it are signed with."""
        signer = keys.Signer.at(str(self.path), host=self.name)
        assert signer is not None
        return signer


def trust(*hosts: SigningHost, **changes: t.Any) -> trusting.Trust:
    """Trust in signatures of *hosts* only, on the first of them."""
    values = {
        "mode": trusting.SIGNED,
        "allowed_signers": "".join(host.line for host in hosts),
        "name": hosts[0].name if hosts else None,
        **changes,
    }
    return trusting.Trust(**values)
