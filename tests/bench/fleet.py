# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long a run of the playbooks takes that has nothing to do: on eight hosts, compared with one.

The hosts are containers with systemd and PostgreSQL on this machine, reached over SSH, as a fleet is. Two settings are
measured, and in each round of both one host and all of them are run one after the other:

- each host has a share of a processor that is its own, the same whether it is alone or not, as hosts of a fleet have
  processors of their own; that is what the limit is for;
- all of them share this machine's processors with each other and with Ansible, as a fleet does not.

Writes bench-fleet.json and prints the table that docs/benchmarks.md quotes.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pathlib
import platform
import re
import secrets
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import typing as t

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import pyrage  # noqa: E402

import conftest  # noqa: E402  (puts the collection where Ansible finds it)

RELEASE = "12"
IMAGE = f"infrazero-test/debian-postgresql:{RELEASE}"
LIMIT = 2.0
BOOT_SECONDS = 300.0
# Of a processor, for each host: small enough that eight of them leave half of two processors to Ansible.
SHARE = 0.125


def say(text: str) -> None:
    """Progress, for whoever waits."""
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


class Fleet:
    """Containers as hosts, and an inventory of them.

    :param directory: of everything that isn't in a container.
    """

    def __init__(self, directory: pathlib.Path, count: int) -> None:
        self.directory = directory
        self.names = [f"infrazero-bench-{secrets.token_hex(3)}-db{number}" for number in range(1, count + 1)]
        engine = subprocess.run([ROOT / "scripts/containers/engine"], stdout=subprocess.PIPE, text=True, check=True)
        self.environment = {**os.environ, "DOCKER_HOST": engine.stdout.strip()}
        subprocess.run([ROOT / "scripts/containers/images", RELEASE], env=self.environment, check=True)

    def docker(self, *arguments: str, stdin: str | None = None) -> str:
        """What docker says to the *arguments*."""
        done = subprocess.run(
            ["docker", *arguments], input=stdin, stdout=subprocess.PIPE, text=True, env=self.environment, check=True
        )
        return done.stdout.strip()

    def start(self) -> None:
        """Make the hosts, each with an authorized key of this run."""
        key = self.directory / "key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
        for name in self.names:
            self.docker(
                *("run", "--detach", "--name", name, "--hostname", name.rpartition("-")[2]),
                *("--cap-add", "SYS_ADMIN", "--security-opt", "apparmor=unconfined", "--cgroupns", "private"),
                *("--tmpfs", "/run", "--tmpfs", "/run/lock", "--tmpfs", "/tmp:exec,mode=1777", IMAGE),
            )
        for name in self.names:
            self.wait_for(name)
            command = (
                "umask 077 && mkdir -p ~/.ssh && cat >~/.ssh/authorized_keys && ssh-keygen -A && mkdir -p /run/sshd"
            )
            self.docker("exec", "-i", name, "sh", "-c", command, stdin=key.with_suffix(".pub").read_text("utf-8"))
        (self.directory / "inventory.json").write_text(json.dumps(self.inventory(key)), encoding="utf-8")

    def wait_for(self, name: str) -> None:
        """Until the host has booted."""
        deadline = time.monotonic() + BOOT_SECONDS
        while time.monotonic() < deadline:
            done = subprocess.run(
                ["docker", "exec", name, "systemctl", "is-system-running"],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                env=self.environment,
                check=False,
            )
            if done.stdout.strip() == "running":
                return
            time.sleep(0.2)
        sys.exit(f"{name} did not boot within {BOOT_SECONDS:.0f} seconds")

    def share(self) -> None:
        """Leave each host no more than SHARE of a processor from now on."""
        self.docker("update", f"--cpus={SHARE}", *self.names)

    def stop(self) -> None:
        """Remove the hosts."""
        self.docker("rm", "--force", "--volumes", *self.names)

    def inventory(self, key: pathlib.Path) -> dict[str, t.Any]:
        """Of all hosts, with two databases each."""
        options = ["-o StrictHostKeyChecking=no", "-o UserKnownHostsFile=/dev/null", "-o LogLevel=ERROR"]
        identity = pyrage.x25519.Identity.generate()
        entry = {"password": secrets.token_urlsafe(20), "backup_age_public_key": str(identity.to_public())}
        variables = {
            "ansible_user": "root",
            "ansible_ssh_private_key_file": str(key),
            "ansible_ssh_common_args": " ".join([*options, '-o ProxyCommand="docker exec -i %h /usr/sbin/sshd -i"']),
            "ansible_python_interpreter": "/usr/bin/python3",
            "infrazero_databases": [{"name": name, "user": name, **entry} for name in ("shop", "ledger")],
            "infrazero_backup_directory": "/var/backups/databases",
            "runtime_wheelhouse": str(ROOT / ".ansible" / "wheelhouse" / f"debian-{RELEASE}"),
            "runtime_wheelhouse_download": True,
        }
        return {"databases": {"hosts": dict.fromkeys(self.names), "vars": variables}}

    def play(self, playbook: str, hosts: t.Sequence[str]) -> tuple[float, str]:
        """Seconds that a run on *hosts* took, and what it printed."""
        started = time.monotonic()
        done = subprocess.run(
            [
                *(sys.executable, "-m", "ansible", "playbook", "--inventory", str(self.directory / "inventory.json")),
                *("--limit", ",".join(hosts), f"infrazero.database.{playbook}"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={
                **self.environment,
                # The one configuration that fleets are told to have.
                "ANSIBLE_CONFIG": str(ROOT / "examples" / "ansible.cfg"),
                "ANSIBLE_COLLECTIONS_PATH": str(conftest.COLLECTIONS),
                "ANSIBLE_HOME": str(self.directory / "home"),
                "ANSIBLE_NOCOLOR": "1",
            },
            check=False,
        )
        seconds = time.monotonic() - started
        if done.returncode:
            sys.exit(f"the playbook {playbook} ended with {done.returncode}:\n{done.stdout[-8000:]}")
        return seconds, done.stdout


def changes(output: str) -> int:
    """How many tasks changed something."""
    return sum(map(int, re.findall(r"^\S+ +: ok=\d+ +changed=(\d+)", output, re.MULTILINE)))


def compare(fleet: Fleet, playbook: str, rounds: int, setting: str) -> dict[str, float]:
    """Medians of the seconds that one host and all of them take, none of which has anything to do."""
    seconds: dict[str, list[float]] = {"one": [], "all": []}
    for number in range(rounds + 1):
        for label, hosts in (("one", fleet.names[:1]), ("all", fleet.names)):
            took, output = fleet.play(playbook, hosts)
            if changes(output):
                sys.exit(f"a run without anything to do has changed something:\n{output[-8000:]}")
            warming_up = number == 0
            say(f"{setting}, round {number}, {label}: {took:.2f} s" + (", to warm up" if warming_up else ""))
            if not warming_up:
                seconds[label].append(took)
    return {label: round(statistics.median(each), 2) for label, each in seconds.items()}


def main() -> int:
    """Make the hosts, bring them to what is wanted, and measure runs that find nothing to do."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", type=int, default=8, help="size of the fleet (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=2, help="rounds of each comparison (default: %(default)s)")
    parser.add_argument("--playbook", default="site", help="what is run (default: %(default)s)")
    parser.add_argument("--output", type=pathlib.Path, default=ROOT / "bench-fleet.json")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        # A short path: in it are sockets of SSH.
        directory = pathlib.Path(tempfile.mkdtemp(prefix="fleet-", dir="/var/tmp"))
        stack.callback(shutil.rmtree, directory)
        fleet = Fleet(directory, options.hosts)
        say(f"starting {options.hosts} hosts")
        stack.callback(fleet.stop)
        fleet.start()
        first, _output = fleet.play(options.playbook, fleet.names)
        say(f"the first run took {first:.1f} s")
        medians = {"shared": compare(fleet, options.playbook, options.rounds, "shared")}
        fleet.share()
        medians["own"] = compare(fleet, options.playbook, options.rounds, "own")
    ratios = {setting: round(median["all"] / median["one"], 3) for setting, median in medians.items()}
    goal = {"id": "fleet_no_change_all_to_one", "ratio": ratios["own"], "limit": LIMIT, "met": ratios["own"] <= LIMIT}
    machine = f"{os.cpu_count()} cores, Python {platform.python_version()}"
    report = {
        "machine": machine,
        "playbook": options.playbook,
        "hosts": options.hosts,
        "rounds": options.rounds,
        "share_of_a_processor": SHARE,
        "first_seconds": round(first, 2),
        "median_seconds": medians,
        "goals": [goal],
    }
    options.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(f"\n{machine}, playbook {options.playbook}, {options.hosts} hosts, medians of {options.rounds}\n")
    print("| processors of the hosts | one host | all | ratio | limit | met |\n|---|---|---|---|---|---|")
    own, shared = medians["own"], medians["shared"]
    met = "yes" if goal["met"] else "no"
    print(f"| {SHARE} each | {own['one']:.1f} s | {own['all']:.1f} s | {ratios['own']} | {LIMIT} | {met} |")
    print(f"| shared | {shared['one']:.1f} s | {shared['all']:.1f} s | {ratios['shared']} | - | - |")
    return 0 if goal["met"] else 1


if __name__ == "__main__":
    sys.exit(main())
