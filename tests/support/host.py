# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""This machine as a host of the roles, with everything that they install in a directory."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import typing as t

from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.databases import Database

from . import scene
from .cluster import Cluster
from .controller import Controller
from .s3server import S3Server

BUCKET = "backups"
NAME = "DATABASES_JSON_PRIVATE_B64"


def as_json(database: Database, **changes: t.Any) -> dict[str, t.Any]:
    return {
        "name": database.name,
        "user": database.user,
        "password": database.password.reveal(),
        "backup_age_public_key": list(database.recipients),
        "backup_age_private_key": database.identity.reveal(),
        **changes,
    }


def b64(entries: t.Sequence[t.Mapping[str, t.Any]]) -> str:
    return base64.b64encode(json.dumps(entries).encode()).decode()


@dataclasses.dataclass
class Host:
    """A host, and the controller that works on it.

    :param root: everything of it lies in here, but the cluster.
    """

    root: pathlib.Path
    cluster: Cluster
    server: S3Server
    databases: tuple[Database, ...]

    @property
    def entries(self) -> list[dict[str, t.Any]]:
        return [as_json(database) for database in self.databases]

    @property
    def run_script(self) -> pathlib.Path:
        return self.root / "bootstrap" / "run.sh"

    @property
    def user_data(self) -> pathlib.Path:
        return self.root / "cloud" / "user-data.txt"

    @property
    def cron_table(self) -> pathlib.Path:
        return self.root / "cron.d" / "infrazero-db-backup"

    @property
    def prefix(self) -> pathlib.Path:
        return self.root / "opt"

    @property
    def command(self) -> pathlib.Path:
        return self.root / "bin" / "infrazero-database"

    @property
    def gathered_signers(self) -> pathlib.Path:
        return self.root / "controller" / "allowed_signers"

    def controller(self) -> Controller:
        """Runs playbooks with the inventory of this host."""
        return Controller(
            self.root / "controller",
            {
                "infrazero_install_directory": str(self.prefix),
                "infrazero_config_directory": str(self.root / "etc"),
                "infrazero_db_host": self.cluster.host,
                "infrazero_db_port": self.cluster.port,
                "infrazero_s3_bucket": BUCKET,
                "infrazero_s3_endpoint": self.server.endpoint,
                "infrazero_s3_region": self.server.region,
                "infrazero_s3_access_key_id": self.server.access_key,
                "infrazero_s3_secret_access_key": self.server.secret_key,
                "infrazero_allowed_signers_file": str(self.gathered_signers),
                "runtime_bin_directory": str(self.command.parent),
                "backup_manage_packages": False,
                "backup_log_file": str(self.root / "backup 100%.log"),
                "backup_cron_directory": str(self.cron_table.parent),
                "backup_logrotate_directory": str(self.root / "logrotate.d"),
                "backup_timer_directory": str(self.root / "systemd"),
                "bootstrap_run_script": str(self.run_script),
                "bootstrap_scrub_paths": [str(self.user_data.parent / "*")],
            },
        )

    def bring_private_list(self, entries: t.Sequence[t.Mapping[str, t.Any]]) -> dict[str, str]:
        """Leave the list where a first boot has it: in a script, in its user-data, and in the environment."""
        script = f"#!/bin/sh\nexport {NAME}='{b64(entries)}'\nansible-playbook ...\n"
        for path in (self.run_script, self.user_data):
            path.parent.mkdir(exist_ok=True)
        self.run_script.write_text(script, encoding="utf-8")
        self.run_script.chmod(0o700)
        packed = base64.b64encode(script.encode()).decode()
        self.user_data.write_text(
            f"#cloud-config\nwrite_files:\n- encoding: b64\n  content: {packed}\n", encoding="utf-8"
        )
        return {NAME: b64(entries)}

    def script(
        self, name: str, *arguments: str, path: str = os.defpath, cwd: pathlib.Path | None = None, **switches: str
    ) -> subprocess.CompletedProcess[str]:
        """Run backup.sh or restore.sh; *switches* are those of the environment, without ``DB_RESTORE_``."""
        return subprocess.run(
            [str(self.prefix / name), *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env={"PATH": path, **{f"DB_RESTORE_{key}": value for key, value in switches.items()}},
            cwd=cwd,
            check=False,
        )

    def rows(self) -> dict[str, dict[str, tuple[int, str]]]:
        """Rows and digests of all tables, by the name of the database."""
        return {database.name: scene.rows(self.cluster, database) for database in self.databases}

    def names(self) -> set[str]:
        """Names of the cluster's databases."""
        return set(self.cluster.psql("SELECT datname FROM pg_database").split())


@contextlib.contextmanager
def new_host(*databases: Database, configuration: t.Mapping[str, str] | None = None) -> t.Iterator[Host]:
    """A host with a running cluster and store, and nothing of ours on it yet.

    :param configuration: of the cluster.
    """
    # Not pytest's directory: postgres must get in.
    root = pathlib.Path(tempfile.mkdtemp(prefix="host-", dir="/tmp"))
    root.chmod(0o755)
    try:
        for name in ("cron.d", "logrotate.d", "systemd"):
            (root / name).mkdir()
        with Cluster(configuration=configuration) as cluster, S3Server(root / "s3") as server:
            server.create_bucket(BUCKET)
            yield Host(root, cluster, server, databases)
    finally:
        shutil.rmtree(root)
