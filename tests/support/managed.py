# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A PostgreSQL server as a provider gives it: over TCP with TLS and a password only, and no superuser for anybody."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import shutil
import tempfile
import typing as t

from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.secret import Secret
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.connection import (
    ConnectionSettings,
)

from .cluster import SERVER_USER, Cluster
from .s3server import make_certificates


@dataclasses.dataclass(frozen=True)
class Managed:
    """The server; only its provider comes through the socket of *cluster*.

    :param authority: file with the certificate of its authority.
    """

    cluster: Cluster
    authority: pathlib.Path

    def settings(self, user: str, **changes: t.Any) -> ConnectionSettings:
        """How *user* connects, whose password is ``password of USER``."""
        values: dict[str, t.Any] = {
            "host": "localhost",
            "port": self.cluster.port,
            "user": user,
            "password": Secret(f"password of {user}"),
            "sslmode": "verify-full",
            "sslrootcert": str(self.authority),
            **changes,
        }
        return ConnectionSettings(**values)

    def make_reader(self, name: str, *databases: str) -> None:
        """A role that may read everything, and connect to *databases*."""
        self.cluster.psql(f"CREATE ROLE {name} LOGIN PASSWORD 'password of {name}'; GRANT pg_read_all_data TO {name}")
        for database in databases:
            self.cluster.psql(f"GRANT CONNECT ON DATABASE {database} TO {name}")


@contextlib.contextmanager
def managed_server(major: int | None = None) -> t.Iterator[Managed]:
    """Start one, and destroy it at the end."""
    # Not TMPDIR: the server's user must be able to reach it.
    directory = pathlib.Path(tempfile.mkdtemp(prefix="tls-", dir="/tmp"))
    try:
        authority, certificate, key = make_certificates(directory)
        directory.chmod(0o755)
        if os.geteuid() == 0:
            shutil.chown(key, SERVER_USER, SERVER_USER)
        configuration = {"ssl": "on", "ssl_cert_file": str(certificate), "ssl_key_file": str(key)}
        network = ["hostssl all all 127.0.0.1/32 scram-sha-256"]
        with Cluster(major, configuration=configuration, network=network) as cluster:
            yield Managed(cluster, authority)
    finally:
        shutil.rmtree(directory)
