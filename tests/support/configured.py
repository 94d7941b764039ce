# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A configuration directory as role runtime writes it, and the command on the host run with it."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import platform
import subprocess
import sys
import typing as t

from ansible_collections.infrazero.database.plugins.module_utils._engine.domain import envfile, trust
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.databases import Database

from conftest import COLLECTIONS

from . import signing
from .cluster import Cluster
from .s3server import S3Server

MODULE = "ansible_collections.infrazero.database.plugins.module_utils._engine.cli"


@dataclasses.dataclass
class ConfiguredHost:
    """A host whose databases are *entries*, with a signing key that its allowed_signers has.

    :param directory: for its configuration; created.
    :param settings: names and values of db.env besides the list and the server.
    :param name: that it signs under.
    """

    directory: pathlib.Path
    cluster: Cluster
    entries: t.Sequence[Database]
    settings: t.Mapping[str, str]
    name: str = platform.node()

    def __post_init__(self) -> None:
        self.directory.mkdir()
        self.configure()
        key = self.directory / "signing" / "id_ed25519"
        line = trust.signers_line(self.name, signing.make_key(key))
        (self.directory / "allowed_signers").write_text(line + "\n")

    def configure(self, **changes: str) -> None:
        """Write db.env, with *changes* of its settings."""
        listed = [
            {
                "name": entry.name,
                "user": entry.user,
                "password": entry.password.reveal(),
                "backup_age_public_key": list(entry.recipients),
            }
            for entry in self.entries
        ]
        values = {
            "DATABASES_JSON": json.dumps(listed),
            "DB_HOST": self.cluster.host,
            "DB_PORT": str(self.cluster.port),
            "DB_SIGNING_NAME": self.name,
            **self.settings,
            **changes,
        }
        path = self.directory / "db.env"
        path.touch(mode=0o600)
        path.write_text(envfile.render({name: value for name, value in values.items() if value}))

    @property
    def secrets(self) -> list[str]:
        """What no output may contain."""
        known = [entry.password.reveal() for entry in self.entries]
        return [*known, *(value for name, value in self.settings.items() if name == "S3_SECRET_ACCESS_KEY")]

    def run(self, command: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run the command on this host."""
        done = subprocess.run(
            [sys.executable, "-m", MODULE, command, "--config", str(self.directory), *arguments],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(COLLECTIONS), "LC_ALL": "C.UTF-8", **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        assert not [secret for secret in self.secrets if secret in done.stdout + done.stderr], "a secret in the output"
        return done


def bucket_settings(server: S3Server, bucket: str, **changes: str) -> dict[str, str]:
    """The settings in db.env of a bucket on *server*."""
    return {
        "DB_BACKUP_BUCKET": bucket,
        "S3_ENDPOINT": server.endpoint,
        "S3_ACCESS_KEY_ID": server.access_key,
        "S3_SECRET_ACCESS_KEY": server.secret_key,
        **changes,
    }
