# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real PostgreSQL clusters of our own: for the tests, the demo and the benchmarks.

Each lies in a directory of its own and listens on a free port of 127.0.0.1 and on a socket in its directory.  The
machine's own clusters and services are never touched.  PostgreSQL refuses to run as root, so a root caller steps down
to ``postgres``.  Who may log in is what a Debian host has: local users by peer (root and the caller may be
``postgres``), everybody else over TCP with a SCRAM password.
"""

from __future__ import annotations

import os
import pathlib
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
import typing as t

if t.TYPE_CHECKING:
    from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.connection import (
        ConnectionSettings,
    )

INSTALLATIONS = pathlib.Path("/usr/lib/postgresql")
SERVER_USER = "postgres"

#: The kernel's limit for a socket's path is 107 bytes; the server's own name in it takes up to 15 of them.
SOCKET_DIRECTORY_LIMIT = 90

#: Nothing a test makes has to outlive a power cut.
VOLATILE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


class ClusterError(Exception):
    """A cluster couldn't be made, started or stopped; the text ends with what the server said."""


def majors() -> list[int]:
    """Major versions whose server is installed here, oldest first."""
    return sorted(int(path.parent.parent.name) for path in INSTALLATIONS.glob("[0-9]*/bin/initdb"))


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listened on a moment ago."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Cluster:
    """One cluster; as a context manager it's started, and destroyed at the end.

    :param major: which PostgreSQL; the newest installed one when not given.
    :param directory: where its files go, made if need be; a temporary directory when not given.  The user
        ``postgres`` must be able to reach it.
    :param port: a free one when not given.  The cluster keeps it, also when it's destroyed and made anew.
    :param durable: keep fsync and its friends on.
    :param configuration: more settings for ``postgresql.conf``.
    :param network: lines of ``pg_hba.conf`` for TCP, in place of those that take a password from this machine.
    """

    def __init__(
        self,
        major: int | None = None,
        *,
        directory: pathlib.Path | None = None,
        port: int | None = None,
        durable: bool = False,
        configuration: t.Mapping[str, str] | None = None,
        network: t.Sequence[str] = (
            "host all all 127.0.0.1/32 scram-sha-256",
            "host replication all 127.0.0.1/32 scram-sha-256",
        ),
    ) -> None:
        self._network = network
        installed = majors()
        if not installed:
            raise ClusterError(f"no PostgreSQL server in {INSTALLATIONS}: install the package postgresql")
        self.major = major if major is not None else installed[-1]
        if self.major not in installed:
            raise ClusterError(f"PostgreSQL {self.major} isn't installed; there is {installed}")
        self.bindir = INSTALLATIONS / str(self.major) / "bin"
        self.port = port if port is not None else free_port()
        self._may_change_port = port is None
        self._given_directory = directory
        self._directory: pathlib.Path | None = None
        self._socket_directory: pathlib.Path | None = None
        self._configuration = {
            **({} if durable else VOLATILE),
            "listen_addresses": "127.0.0.1",
            "password_encryption": "scram-sha-256",
            "timezone": "UTC",
            "log_timezone": "UTC",
            "log_line_prefix": "%m [%p] %q%u@%d %a ",
            **(configuration or {}),
        }

    # What the cluster is --------------------------------------------------------------------------------------------

    @property
    def directory(self) -> pathlib.Path:
        """Everything of this cluster lies in here."""
        if self._directory is None:
            raise ClusterError("the cluster hasn't been started yet")
        return self._directory

    @property
    def data_directory(self) -> pathlib.Path:
        """The server's PGDATA."""
        return self.directory / "data"

    @property
    def log(self) -> pathlib.Path:
        """The server's log."""
        return self.directory / "server.log"

    @property
    def host(self) -> str:
        """The socket's directory, as libpq takes it for a host."""
        if self._socket_directory is None:
            raise ClusterError("the cluster hasn't been started yet")
        return str(self._socket_directory)

    @property
    def settings(self) -> ConnectionSettings:
        """The engine's settings for a connection as superuser through the socket."""
        from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.connection import (
            ConnectionSettings,
        )

        return ConnectionSettings(host=self.host, port=self.port)

    @property
    def running(self) -> bool:
        """Whether the server's own status program sees it running."""
        return self._directory is not None and self._pg_ctl("status", check=False).returncode == 0

    # Its life -------------------------------------------------------------------------------------------------------

    def __enter__(self) -> Cluster:
        self.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.destroy()

    def start(self) -> None:
        """Start the server, and make the cluster first where there is none (also after :meth:`destroy`)."""
        self._make_directories()
        if not (self.data_directory / "PG_VERSION").exists():
            self._initialise()
        for attempt in (1, 2, 3):
            self._write_configuration()
            try:
                self._pg_ctl("start", "-w", "-t", "60", "-l", str(self.log))
                return
            except ClusterError as error:
                # Another program may have taken the port since it was found free.
                taken = "could not bind" in str(error) or "could not create any TCP/IP sockets" in str(error)
                if not taken or not self._may_change_port or attempt == 3:
                    raise
                self.port = free_port()

    def stop(self, *, immediate: bool = False) -> None:
        """Stop the server; *immediate* is a crash: no checkpoint, recovery at the next start."""
        self._pg_ctl("stop", "-w", "-t", "60", "-m", "immediate" if immediate else "fast")

    def restart(self, *, immediate: bool = False) -> None:
        """Stop and start the server on its files."""
        self.stop(immediate=immediate)
        self.start()

    def destroy(self) -> None:
        """Stop the server, if it runs, and delete every file of the cluster."""
        if self._directory is None:
            return
        if self.running:
            self.stop(immediate=True)
        if self._socket_directory is not None:
            shutil.rmtree(self._socket_directory)
        shutil.rmtree(self._directory)
        self._directory = self._socket_directory = None

    # For those who test with it -------------------------------------------------------------------------------------

    def psql(self, sql: str, database: str = "postgres", *, user: str = SERVER_USER) -> str:
        """Run *sql* in psql as superuser, stopping at the first error; what it printed, unaligned, without headers."""
        done = subprocess.run(
            [
                *(str(self.bindir / "psql"), "--no-psqlrc", "--quiet", "--no-align", "--tuples-only"),
                *("--set=ON_ERROR_STOP=1", f"--host={self.host}", f"--port={self.port}", f"--username={user}"),
                # A connection string and not a bare name: a name with "=" in it would be taken for one.
                "--dbname=dbname='" + database.replace("\\", r"\\").replace("'", r"\'") + "'",
            ],
            input=sql,
            capture_output=True,
            text=True,
            encoding="utf-8",
            env=self._environment(),
            check=False,
        )
        if done.returncode:
            raise ClusterError(f"psql ended with {done.returncode}: {done.stderr.strip()}")
        return done.stdout.rstrip("\n")

    def end_session(self, pid: int) -> None:
        """End a session, and wait until it has ended."""
        self.psql(f"SELECT pg_terminate_backend({pid})")
        wait_until(lambda: not self.psql(f"SELECT 1 FROM pg_stat_activity WHERE pid = {pid}"))

    @property
    def has_icu(self) -> bool:
        """Whether the server can use ICU's locales for databases."""
        return self.major >= 15 and bool(self.psql("SELECT 1 FROM pg_collation WHERE collname = 'und-x-icu'"))

    @property
    def has_xml(self) -> bool:
        """Whether the server was built with libxml, and can read values of the type xml."""
        try:
            return bool(self.psql("SELECT '<a/>'::xml"))
        except ClusterError:
            return False

    def has_extension(self, name: str) -> bool:
        """Whether the extension *name* is installed beside the server."""
        return bool(self.psql(f"SELECT 1 FROM pg_available_extensions WHERE name = '{name}'"))

    # ----------------------------------------------------------------------------------------------------------------

    @staticmethod
    def _environment() -> dict[str, str]:
        return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8", "TZ": "UTC"}

    def _make_directories(self) -> None:
        if self._directory is None:
            if self._given_directory is None:
                # Not TMPDIR: it may be long, and private to us.
                self._directory = pathlib.Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
            else:
                self._directory = self._given_directory.resolve()
                self._directory.mkdir(parents=True, exist_ok=True)
            self._own(self._directory)
        if self._socket_directory is None:
            inside = self._directory / "s"
            if len(os.fsencode(inside)) <= SOCKET_DIRECTORY_LIMIT:
                inside.mkdir(exist_ok=True)
                self._socket_directory = inside
            else:
                self._socket_directory = pathlib.Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
            self._own(self._socket_directory)

    @staticmethod
    def _own(path: pathlib.Path) -> None:
        path.chmod(0o700)
        if os.geteuid() == 0:
            shutil.chown(path, SERVER_USER, SERVER_USER)

    def _initialise(self) -> None:
        self._run(
            *(str(self.bindir / "initdb"), "--pgdata", str(self.data_directory), f"--username={SERVER_USER}"),
            *("--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"),
            *("--auth-local=peer", "--auth-host=scram-sha-256"),
        )
        # Ours stands beside the server's own file, and below what ALTER SYSTEM writes.
        with (self.data_directory / "postgresql.conf").open("a", encoding="utf-8") as configuration:
            configuration.write("include 'cluster.conf'\n")
        self._write(
            "pg_hba.conf",
            [
                "local all all peer map=local",
                "local replication all peer map=local",
                *self._network,
            ],
        )
        superusers = sorted({"root", SERVER_USER, pwd.getpwuid(os.geteuid()).pw_name})
        self._write("pg_ident.conf", [f"local {user} {SERVER_USER}" for user in superusers] + [r"local /^(.*)$ \1"])

    def _write_configuration(self) -> None:
        settings = {**self._configuration, "port": str(self.port), "unix_socket_directories": self.host}
        self._write(
            "cluster.conf", [f"{name} = '" + value.replace("'", "''") + "'" for name, value in settings.items()]
        )

    def _write(self, name: str, lines: t.Sequence[str]) -> None:
        path = self.data_directory / name
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        path.chmod(0o600)
        if os.geteuid() == 0:
            shutil.chown(path, SERVER_USER, SERVER_USER)

    def _pg_ctl(self, command: str, *options: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self._run(
            str(self.bindir / "pg_ctl"), "--pgdata", str(self.data_directory), command, *options, check=check
        )

    def _run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        step_down: dict[str, t.Any] = {}
        if os.geteuid() == 0:
            step_down = {"user": SERVER_USER, "group": SERVER_USER, "extra_groups": []}
        # Its output goes to a file: a server keeps what it inherits open, and a pipe would never end.
        with tempfile.TemporaryFile() as output:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self._environment(),
                cwd="/",
                check=False,
                **step_down,
            )
            output.seek(0)
            said = output.read().decode("utf-8", "replace")
        if check and done.returncode:
            log = ""
            if self._directory is not None and self.log.exists():
                log = "\n" + "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-20:])
            raise ClusterError(f"{' '.join(command)} ended with {done.returncode}: {said.strip()}{log}")
        return subprocess.CompletedProcess(command, done.returncode, said, "")


def wait_until(condition: t.Callable[[], bool], *, seconds: float = 30.0) -> None:
    """Return as soon as *condition* holds; :class:`TimeoutError` when it doesn't within *seconds*."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not true within {seconds:.0f} s")
        time.sleep(0.01)
