# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster of three nodes in containers, each with PostgreSQL, Patroni, etcd and the engine of this checkout."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import secrets
import subprocess
import sysconfig
import typing as t

import yaml

import conftest

from . import signing
from .cluster import wait_until

IMAGE = "infrazero-test/patroni:12"
NAMES = ("node1", "node2", "node3")
SECONDS = 120.0

_PATRONI = "/etc/patroni.yml"
_VERSION = "15"


class NodeError(Exception):
    """A command in a container has failed."""


def docker(*arguments: str, check: bool = True, text: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command of Docker's client."""
    done = subprocess.run(
        ["docker", *arguments], input=text or "", capture_output=True, text=True, timeout=600, check=False
    )
    if check and done.returncode:
        raise NodeError(f"docker {' '.join(arguments)} ended with {done.returncode}: {done.stderr.strip()}")
    return done


def build_image() -> None:
    """Build the image; its base is that of the other rehearsals."""
    recipe = pathlib.Path(conftest.ROOT, "scripts", "containers", "patroni")
    subprocess.run(
        ["docker", "build", "--quiet", "--tag", IMAGE, str(recipe)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "DOCKER_BUILDKIT": "0"},
        check=True,
    )


class Node:
    """One of the nodes."""

    def __init__(self, name: str, *, container: str) -> None:
        self.name = name
        self.container = container

    def run(self, *command: str, user: str = "postgres", check: bool = True, text: str | None = None) -> str:
        """Run *command*, and return what it printed."""
        interactive = [] if text is None else ["--interactive"]
        return docker("exec", *interactive, "--user", user, self.container, *command, check=check, text=text).stdout

    def psql(self, sql: str, database: str = "postgres") -> str:
        """What *sql* returns."""
        arguments = ("--no-psqlrc", "--quiet", "--no-align", "--tuples-only", "--set=ON_ERROR_STOP=1")
        return self.run("psql", *arguments, database, text=sql).strip()

    def start(self) -> None:
        """Start etcd and Patroni, and the container before, if it does not run."""
        docker("start", self.container)
        members = ",".join(f"{name}=http://{name}:2380" for name in NAMES)
        etcd = [
            *("etcd", "--name", self.name, "--data-dir", "/var/lib/postgresql/etcd"),
            *("--listen-peer-urls", "http://0.0.0.0:2380", "--listen-client-urls", "http://0.0.0.0:2379"),
            *("--initial-advertise-peer-urls", f"http://{self.name}:2380"),
            *("--advertise-client-urls", f"http://{self.name}:2379", "--initial-cluster", members),
        ]
        for command in (etcd, ["patroni", _PATRONI]):
            script = 'exec "$@" >>"$0" 2>&1'
            log = f"/var/lib/postgresql/{command[0]}.log"
            docker("exec", "--detach", "--user", "postgres", self.container, "sh", "-c", script, log, *command)

    def kill(self) -> None:
        """End the whole machine at once."""
        docker("kill", self.container)

    def role(self) -> str:
        """``primary``, ``standby``, or ``""`` if it does not answer."""
        with contextlib.suppress(NodeError):
            return "standby" if self.psql("SELECT pg_is_in_recovery()") == "t" else "primary"
        return ""

    def log(self) -> str:
        """The ends of its logs."""
        logs = ("/var/lib/postgresql/etcd.log", "/var/lib/postgresql/patroni.log")
        return self.run("tail", "-n", "15", *logs, check=False)


class PatroniCluster:
    """The three nodes.

    :param directory: for the store, which all nodes share, and for their configurations.
    """

    def __init__(self, directory: pathlib.Path) -> None:
        self._id = f"infrazero-{secrets.token_hex(3)}"
        self._directory = directory
        self.store = directory / "store"
        self.nodes = [Node(name, container=f"{self._id}-{name}") for name in NAMES]
        self.hosts: list[signing.SigningHost] = []

    def __enter__(self) -> PatroniCluster:
        self.store.mkdir()
        self.store.chmod(0o777)
        docker("network", "create", self._id)
        try:
            for node in self.nodes:
                self._create(node)
            for node in self.nodes:
                node.start()
            self.wait_for(standbys=2)
        except BaseException as error:
            logs = "\n".join(node.log() for node in self.nodes)
            self.__exit__()
            raise NodeError(f"{error}\n{logs}") from error
        return self

    def __exit__(self, *_exception: object) -> None:
        docker("rm", "--force", "--volumes", *(node.container for node in self.nodes), check=False)
        docker("network", "rm", self._id, check=False)

    def _create(self, node: Node) -> None:
        configuration = self._directory / node.name
        configuration.mkdir()
        mounts = {
            str(conftest.ROOT): "/checkout:ro",
            sysconfig.get_paths()["purelib"]: "/libraries:ro",
            str(self.store): "/store",
            str(configuration): "/etc/infrazero",
        }
        docker(
            *("run", "--detach", "--name", node.container, "--hostname", node.name, "--init"),
            *("--network", self._id, "--network-alias", node.name),
            *(word for source, target in mounts.items() for word in ("--volume", f"{source}:{target}")),
            IMAGE,
        )
        node.run("sh", "-c", f"cat > {_PATRONI}", user="root", text=yaml.safe_dump(_patroni(node.name)))
        node.run("mkdir", "-p", "/var/run/postgresql", user="root")
        node.run("chown", "postgres:", "/var/run/postgresql", user="root")

    def configure(self, databases: t.Sequence[t.Mapping[str, t.Any]]) -> None:
        """Give all nodes the same list, keys of their own, and each other as accepted signers."""
        self.hosts = [signing.SigningHost.make(self._directory / node.name / "keys", node.name) for node in self.nodes]
        signers = {database["name"]: list(NAMES) for database in databases}
        for node, host in zip(self.nodes, self.hosts):
            configuration = self._directory / node.name
            settings = {
                "DATABASES_JSON": json.dumps(databases),
                "DB_BACKUP_DIRECTORY": "/store",
                "DB_SIGNING_NAME": node.name,
                "DB_SIGNING_KEY": f"/etc/infrazero/keys/{node.name}/id_ed25519",
                "DB_RESTORE_SIGNERS": json.dumps(signers),
            }
            lines = "".join(f"{name}='{value}'\n" for name, value in settings.items())
            (configuration / "db.env").write_text(lines, encoding="utf-8")
            text = "".join(each.line for each in self.hosts)
            (configuration / "allowed_signers").write_text(text, encoding="utf-8")
            node.run("chown", "--recursive", "postgres:", "/etc/infrazero", user="root")
            assert host.path.exists()

    @property
    def leader(self) -> Node:
        """The only node that is a primary."""
        (leader,) = [node for node in self.nodes if node.role() == "primary"]
        return leader

    def wait_for(self, *, standbys: int) -> None:
        """Wait until there is one leader, which as many standbys follow."""
        query = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'"

        def ready() -> bool:
            roles = [node.role() for node in self.nodes]
            if roles.count("primary") != 1 or roles.count("standby") != standbys:
                return False
            with contextlib.suppress(NodeError):
                return self.nodes[roles.index("primary")].psql(query) == str(standbys)
            return False

        wait_until(ready, seconds=SECONDS)

    def back_up_everywhere(self) -> list[dict[str, t.Any]]:
        """Back up on all nodes that run, at the same time; what each of them reports of its only database."""
        command = (
            *("env", "PYTHONPATH=/checkout/plugins/module_utils:/libraries", "PYTHONDONTWRITEBYTECODE=1"),
            *("python3", "-m", "_engine.cli", "backup", "--config", "/etc/infrazero", "--json"),
        )
        running = [node for node in self.nodes if node.role()]
        processes = [
            subprocess.Popen(
                ["docker", "exec", "--user", "postgres", node.container, *command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for node in running
        ]
        reports = []
        for node, process in zip(running, processes):
            out, err = process.communicate(timeout=SECONDS)
            assert process.returncode == 0, f"{node.name}: {out}{err}"
            (report,) = json.loads(out)["databases"]
            reports.append({"node": node.name, **report})
        return reports


def _patroni(name: str) -> dict[str, t.Any]:
    return {
        "scope": "shop",
        "name": name,
        "restapi": {"listen": "0.0.0.0:8008", "connect_address": f"{name}:8008"},
        "etcd3": {"hosts": [f"{each}:2379" for each in NAMES]},
        "bootstrap": {
            "dcs": {
                # As short as it gets: a failover takes about as long as the time to live.
                "ttl": 20,
                "loop_wait": 1,
                "retry_timeout": 5,
                "postgresql": {"use_pg_rewind": True, "use_slots": True},
            },
            "initdb": [{"encoding": "UTF8"}, {"locale": "C.UTF-8"}, "data-checksums"],
        },
        "postgresql": {
            "listen": "0.0.0.0:5432",
            "connect_address": f"{name}:5432",
            "data_dir": "/var/lib/postgresql/patroni",
            "bin_dir": f"/usr/lib/postgresql/{_VERSION}/bin",
            "pgpass": "/var/lib/postgresql/pgpass",
            "authentication": {
                "superuser": {"username": "postgres", "password": "password of postgres"},
                "replication": {"username": "replicator", "password": "password of replicator"},
            },
            "parameters": {"unix_socket_directories": "/var/run/postgresql"},
            "pg_hba": [
                "local all postgres peer",
                "host replication replicator 0.0.0.0/0 scram-sha-256",
                "host all all 0.0.0.0/0 scram-sha-256",
            ],
        },
    }
