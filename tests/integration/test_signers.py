# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The file in which a fleet's signing keys are gathered, and what a host of the fleet can make of it.

The hosts of the first part are this machine, each with a directory of its own; that of the second is a whole one.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import os
import pathlib
import platform
import re
import shutil
import subprocess
import tempfile
import typing as t

import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain import trust

from tests.support import scene
from tests.support.controller import Controller, Run, good
from tests.support.host import Host, new_host

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="roles install as root and step down")

HOSTS = ("db1", "db2", "db3")
#: A public key that no host has.
OTHER = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
ROTATE = ("--extra-vars", "infrazero_rotate_signing_key=true")


def line(name: str, key: str, options: str = "") -> str:
    return trust.signers_line(name, key).replace("namespaces", f"{options}namespaces") + "\n"


def said(run: Run) -> str:
    return " ".join(run.output.split())


# A fleet --------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Fleet:
    """Hosts whose keys are gathered by the role backup."""

    root: pathlib.Path

    @property
    def file(self) -> pathlib.Path:
        return self.root / "allowed_signers"

    def text(self) -> str:
        return self.file.read_text(encoding="utf-8") if self.file.exists() else ""

    def directory(self, host: str) -> pathlib.Path:
        return self.root / "etc" / host

    def key_of(self, host: str) -> str:
        path = self.directory(host) / "signing" / "id_ed25519.pub"
        return " ".join(path.read_text(encoding="utf-8").split()[:2])

    def answers(self, host: str, text: str | bytes) -> None:
        """Have *host* answer with this instead of its public key."""
        path = self.directory(host) / "signing" / "id_ed25519"
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(0o600)
        path.with_suffix(".pub").write_bytes(text if isinstance(text, bytes) else text.encode())

    def calls_itself(self, host: str, name: str) -> None:
        """Have *host* answer ``uname -n`` with this."""
        program = self.root / "bin" / host / "uname"
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(f"#!/bin/sh\nprintf '%s\\n' '{name}'\n", encoding="utf-8")
        program.chmod(0o755)

    def gather(
        self, *arguments: str, hosts: t.Sequence[str] = HOSTS, by_default: bool = False, **variables: t.Any
    ) -> Run:
        """Apply that part of the role.

        :param by_default: the inventory names no file.
        """
        task = {"ansible.builtin.include_role": {"name": "infrazero.database.backup", "tasks_from": "signing.yml"}}
        path = f"{self.root}/bin/{{{{ inventory_hostname }}}}:{os.environ['PATH']}"
        play = {"hosts": "all", "gather_facts": False, "environment": {"PATH": path}, "tasks": [task]}
        playbook = self.root / "gather.yml"
        playbook.write_text(json.dumps([play]), encoding="utf-8")
        settings = {
            "infrazero_config_directory": f"{self.root}/etc/{{{{ inventory_hostname }}}}",
            "infrazero_allowed_signers_file": str(self.file),
            "backup_manage_packages": False,
        }
        if by_default:
            del settings["infrazero_allowed_signers_file"]
        controller = Controller(self.root / "controller", settings)
        return controller.play(str(playbook), *arguments, hosts=hosts, **variables)

    def refused(self, *hosts: str, among: t.Sequence[str] = HOSTS, limit: str = "all") -> str:
        """What a run says that fails for *hosts* and for no other."""
        run = self.gather("--limit", limit, hosts=among)
        failed = re.findall(r"^(\S+) +: ok=.* failed=1 ", run.output, re.MULTILINE)
        assert sorted(failed) == sorted(hosts), run.output
        for host in hosts:
            assert f"a run with --limit {host} and infrazero_rotate_signing_key=true creates a new key" in said(run)
        return said(run)


@pytest.fixture
def fleet() -> t.Iterator[Fleet]:
    # Not pytest's directory: postgres must get in.
    root = pathlib.Path(tempfile.mkdtemp(prefix="fleet-", dir="/tmp"))
    root.chmod(0o755)
    for host in HOSTS:
        (root / "etc" / host).mkdir(parents=True)
    try:
        yield Fleet(root)
    finally:
        shutil.rmtree(root)


def test_keys_are_gathered_under_the_names_of_the_inventory(fleet: Fleet) -> None:
    for host, name in zip(HOSTS, ("*", "db1", "db1,db2\n* ")):
        fleet.calls_itself(host, name)
    assert good(fleet.gather("--check")).status == 0
    assert not fleet.file.exists()
    run = good(fleet.gather("--diff"))
    assert sorted(fleet.text().splitlines(keepends=True)) == [line(host, fleet.key_of(host)) for host in HOSTS]
    assert f"+{line('db2', fleet.key_of('db2'))}" in run.output
    before = fleet.text()
    for arguments in ([], ["--check"]):
        assert good(fleet.gather(*arguments)).changed == 0
    assert fleet.text() == before


def key(number: int) -> str:
    return "ssh-ed25519 " + base64.b64encode(b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + bytes([number] * 32)).decode()


RSA = "ssh-rsa " + base64.b64encode(b"\0\0\0\x07ssh-rsa\0\0\0\x03\x01\0\x01" + bytes(260)).decode()
#: Instead of a public key.
HOSTILE = {
    "a pattern in front": f"* {key(7)}\n",
    "another host's name in front": f"db1 {key(7)}\n",
    "several names in front": f"db1,db3 {key(7)}\n",
    "several lines": f"{key(7)}\n* {key(8)}\n",
    "several lines behind a comment": f"{key(7)} db2\r\n* {key(8)}\n",
    "an option": f"cert-authority {key(7)}\n",
    "RSA": f"{RSA}\n",
    "garbage": "ssh-ed25519 AAAA!\n",
    "another type inside": "ssh-ed25519 " + RSA.split()[1] + "\n",
    "no text": b"\xff\xfe\0",
    "nothing": "",
}


def test_hosts_that_answer_with_something_else_get_no_line(fleet: Fleet) -> None:
    hostile = {f"host{number}": answer for number, answer in enumerate(HOSTILE.values())}
    for host, answer in hostile.items():
        fleet.answers(host, answer)
    output = fleet.refused(*hostile, among=["db1", *hostile, "db3"])
    for host in hostile:
        assert f"{host} did not answer with the public half of an Ed25519 key" in output
    # The others go on, and nothing but their keys is in the file.
    assert sorted(fleet.text().splitlines(keepends=True)) == [line(host, fleet.key_of(host)) for host in ("db1", "db3")]


def test_hosts_that_answer_with_the_key_of_another_get_no_line(fleet: Fleet) -> None:
    good(fleet.gather(hosts=["db1"]))
    before = fleet.text()
    hostile = {"host0": "host0", "host1": "db1", "host2": "vm-1", "host3": "*"}
    for host, name in hostile.items():
        fleet.calls_itself(host, name)
        fleet.answers(host, fleet.key_of("db1") + "\n")
    output = fleet.refused(*hostile, among=["db1", *hostile, "db3"])
    for host in hostile:
        assert f"{host} answers with a signing key that is not its own" in output
    assert fleet.text() == before + line("db3", fleet.key_of("db3"))


def test_a_new_key_for_a_name_that_has_one_is_refused(fleet: Fleet) -> None:
    good(fleet.gather())
    fleet.file.write_text("# ours\n" + fleet.text() + "ops* cert-authority " + key(9) + "\n", encoding="utf-8")
    before = fleet.text()
    shutil.rmtree(fleet.directory("db2") / "signing")
    assert "db2 has a new signing key, which is not accepted" in fleet.refused("db2")
    assert fleet.text() == before
    # Also where it is a pattern that has one.
    fleet.file.write_text(line("db?", key(9)), encoding="utf-8")
    assert "db1 has a new signing key" in said(fleet.gather(hosts=["db1"]))
    assert fleet.text() == line("db?", key(9))


def test_a_key_is_replaced_where_that_is_asked_for(fleet: Fleet) -> None:
    good(fleet.gather())
    old, others = fleet.key_of("db2"), [line(host, fleet.key_of(host)) for host in ("db1", "db3")]
    run = good(fleet.gather(*ROTATE, "--check", "--limit", "db2"))
    assert run.changed == 1 and fleet.key_of("db2") == old
    run = good(fleet.gather(*ROTATE, "--limit", "db2"))
    new = fleet.key_of("db2")
    assert new != old
    lines = fleet.text().splitlines(keepends=True)
    (ended,) = [each for each in lines if old in each]
    assert re.sub(r'valid-before="20\d{12}",', "", ended) == line("db2", old) != ended
    assert sorted([*others, ended, line("db2", new)]) == sorted(lines)
    assert f"db2 signs with the key {trust.fingerprint(new.split()[1])}" in said(run)
    assert f"its key {trust.fingerprint(old.split()[1])} counts only for backups from before" in said(run)
    assert sorted(path.name for path in (fleet.directory("db2") / "signing").iterdir()) == [
        "id_ed25519",
        "id_ed25519.pub",
    ]
    private = fleet.directory("db2") / "signing" / "id_ed25519"
    assert (private.owner(), private.stat().st_mode & 0o777) == ("postgres", 0o600)
    printed = subprocess.run(["ssh-keygen", "-y", "-f", str(private)], capture_output=True, text=True, check=True)
    assert printed.stdout.split()[:2] == new.split()
    # A run without it changes nothing more.
    before = fleet.text()
    assert good(fleet.gather()).changed == 0
    assert fleet.text() == before
    # The older key, from a copy of the host for example, does not come back.
    fleet.answers("db2", old + "\n")
    assert "db2 signs with a key that was replaced" in fleet.refused("db2")
    assert fleet.text() == before


def test_halves_of_two_keys_are_an_error(fleet: Fleet) -> None:
    """As a run leaves them that was killed while it replaced the key."""
    good(fleet.gather(hosts=["db1"]))
    other = fleet.root / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(other)], check=True)
    private = fleet.directory("db1") / "signing" / "id_ed25519"
    private.write_bytes(other.read_bytes())
    run = fleet.gather(hosts=["db1"])
    assert run.status != 0
    assert "id_ed25519.pub is not the public half of" in said(run)
    assert "a run with --limit db1 and infrazero_rotate_signing_key=true creates a new key for db1" in said(run)
    good(fleet.gather(*ROTATE, hosts=["db1"]))
    assert good(fleet.gather(hosts=["db1"])).changed == 0


def test_what_0_1_gathered_under_node_names_is_upgraded_in_place(fleet: Fleet) -> None:
    good(fleet.gather())
    keys = {host: fleet.key_of(host) for host in HOSTS}
    for host, name in zip(HOSTS, ("vm-1", "db3", "vm-3")):
        fleet.calls_itself(host, name)
    # db2's node name is the name of another host in the inventory.
    fleet.file.write_text(
        "# 0.1\n" + line("vm-1", keys["db1"]) + line("db3", keys["db2"]) + line("vm-3", keys["db3"]), encoding="utf-8"
    )
    assert "db2 answers with a signing key that is not its own" in fleet.refused("db2", limit="db1,db2")
    first = "# 0.1\n" + line("db1,vm-1", keys["db1"])
    assert fleet.text() == first + line("db3", keys["db2"]) + line("vm-3", keys["db3"])
    fleet.file.write_text(first + line("vm-3", keys["db3"]), encoding="utf-8")
    run = good(fleet.gather("--limit", "db1,db3"))
    assert fleet.text() == first + line("db3,vm-3", keys["db3"])
    assert "it also counts as vm-3" in said(run)
    assert good(fleet.gather("--limit", "db1,db3")).changed == 0


def test_a_host_that_trusts_only_itself_keeps_its_older_keys(fleet: Fleet) -> None:
    own = fleet.directory("db1") / "allowed_signers"
    fleet.calls_itself("db1", "vm-1")
    good(fleet.gather(hosts=["db1"], infrazero_allowed_signers_file=""))
    old = fleet.key_of("db1")
    own.write_text(line("vm-1", old), encoding="utf-8")
    good(fleet.gather(hosts=["db1"], infrazero_allowed_signers_file=""))
    assert own.read_text(encoding="utf-8") == line("db1,vm-1", old)
    good(fleet.gather(*ROTATE, hosts=["db1"], infrazero_allowed_signers_file=""))
    assert re.fullmatch(
        rf'db1,vm-1 valid-before="\d+",.* {re.escape(old)}\ndb1 .* {re.escape(fleet.key_of("db1"))}\n',
        own.read_text(encoding="utf-8"),
    )
    assert good(fleet.gather(hosts=["db1"], infrazero_allowed_signers_file="")).changed == 0


def test_by_default_keys_are_gathered_beside_the_inventory(fleet: Fleet) -> None:
    path = fleet.root / "controller" / "allowed_signers"
    run = good(fleet.gather(by_default=True))
    assert sorted(path.read_text(encoding="utf-8").splitlines(keepends=True)) == [
        line(host, fleet.key_of(host)) for host in HOSTS
    ]
    assert "WARNING" not in run.output
    for arguments in ([], ["--check"]):
        assert good(fleet.gather(*arguments, by_default=True)).changed == 0
    # Lines in the inventory are instead of the file.
    path.unlink()
    every = [line(host, fleet.key_of(host)) for host in HOSTS]
    run = good(fleet.gather(by_default=True, infrazero_allowed_signers=every))
    assert not path.exists() and "WARNING" not in run.output


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"infrazero_allowed_signers_file": "/nonexistent/signers"}, "/nonexistent/signers cannot be written"),
        ({"infrazero_allowed_signers_file": ""}, "no file for it is set"),
        ({"infrazero_allowed_signers": line("db2", OTHER)}, "infrazero_allowed_signers has no line for it"),
    ],
)
def test_a_key_that_is_kept_nowhere_else_is_said(fleet: Fleet, variables: dict[str, t.Any], reason: str) -> None:
    by_default = "infrazero_allowed_signers_file" not in variables
    run = good(fleet.gather("--check", hosts=["db1"], by_default=by_default, **variables))
    assert "WARNING: the signing key of db1 is kept nowhere but on the host itself" in said(run)
    assert reason in said(run) and "the run without --check shows" in said(run)
    for arguments in ([], [], ["--check"]):
        run = good(fleet.gather(*arguments, hosts=["db1"], by_default=by_default, **variables))
        shown = said(run).replace("\\", "")
        assert reason in shown and f"keep this line: {line('db1', fleet.key_of('db1')).strip()}" in shown
    assert run.changed == 0


def test_what_can_not_be_a_name_is_refused_before_anything_changes(fleet: Fleet) -> None:
    names = {"comma": "db1,db3", "pattern": "*", "quote": 'db"2', "blank": "db 2", "newline": "db2\ndb3"}
    bound = {"text": {"shop": "db3"}, "bound_pattern": {"shop": ["*"]}}
    playbook = fleet.root / "role.yml"
    play = {"hosts": "all", "gather_facts": False, "roles": ["infrazero.database.backup"]}
    playbook.write_text(json.dumps([play]), encoding="utf-8")
    settings = {
        "infrazero_install_directory": str(fleet.root / "opt"),
        "infrazero_config_directory": f"{fleet.root}/etc/{{{{ inventory_hostname }}}}",
        "infrazero_allowed_signers_file": str(fleet.file),
        "infrazero_s3_bucket": "backups",
        "infrazero_databases": [{"name": "shop", "user": "shop", "password": "x", "backup_age_public_key": "age1x"}],
        "infrazero_signing_name": f"{{{{ ({json.dumps(names)})[inventory_hostname] | default(inventory_hostname) }}}}",
        "infrazero_signers": f"{{{{ ({json.dumps(bound)})[inventory_hostname] | default({{}}) }}}}",
    }
    run = Controller(fleet.root / "controller", settings).play(str(playbook), hosts=[*names, *bound])
    for host in names:
        assert re.search(rf"^fatal: \[{host}\]: .*cannot sign backups under the name", run.output, re.MULTILINE)
    for host in bound:
        assert re.search(
            rf"^fatal: \[{host}\]: .*infrazero_signers \(runtime_signers\), shop is not a list of host names",
            run.output,
            re.MULTILINE,
        )
    assert not [path for path in (fleet.root / "etc").glob("*/*") if path.parent.name not in HOSTS]
    assert not (fleet.root / "opt").exists() and not fleet.file.exists()


# A host ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def host() -> t.Iterator[Host]:
    with new_host(scene.entry("app")) as running:
        yield running


def bootstrap(host: Host, *arguments: str, **variables: t.Any) -> Run:
    return host.controller().play("bootstrap", *arguments, infrazero_databases=host.entries, **variables)


def setting(host: Host, name: str) -> str | None:
    text = (host.root / "etc" / "db.env").read_text(encoding="utf-8")
    match = re.search(rf"^{name}='(.*)'$", text, re.MULTILINE)
    return match[1] if match else None


def own_key(host: Host) -> str:
    path = host.root / "etc" / "signing" / "id_ed25519.pub"
    return " ".join(path.read_text(encoding="utf-8").split()[:2])


def lose(host: Host) -> None:
    """Lose the host: what is left is the controller and the store."""
    host.cluster.destroy()
    host.cluster.start()
    shutil.rmtree(host.root / "etc")


def signer(host: Host) -> str:
    """The name under which the latest backup is signed."""
    body = host.server.client().get_object(Bucket="backups", Key="db/app/latest-dump.json")["Body"].read()
    return str(json.loads(body)["host"])


def test_a_host_is_told_its_name_and_whose_backups_it_accepts(host: Host) -> None:
    good(bootstrap(host, infrazero_signers={"app": ["db7"], "db/production/": ["db8", "db9"]}))
    assert setting(host, "DB_SIGNING_NAME") == "host"
    assert json.loads(setting(host, "DB_RESTORE_SIGNERS") or "") == {"app": ["db7"], "db/production/": ["db8", "db9"]}
    good(bootstrap(host))
    assert setting(host, "DB_RESTORE_SIGNERS") is None
    scene.fill(host.cluster, host.databases[0])
    done = host.script("backup.sh")
    assert done.returncode == 0, done.stdout + done.stderr
    assert signer(host) == "host"
    good(host.controller().play("backup", infrazero_databases=host.entries, infrazero_signers={"app": ["db7"]}))
    assert signer(host) == "host"


def test_a_lost_host_is_bootstrapped_anew_under_its_name(host: Host) -> None:
    before, old = host.rows(), own_key(host)
    lose(host)
    run = good(bootstrap(host))
    assert "restored=1 empty=0 skipped=0 failed=0" in run.output
    assert host.rows() == before
    new = own_key(host)
    first, second = host.gathered_signers.read_text(encoding="utf-8").splitlines(keepends=True)
    assert re.fullmatch(r'host valid-before="\d{14}",namespaces=.* ' + re.escape(old) + "\n", first)
    assert second == line("host", new)
    assert f"its key {trust.fingerprint(old.split()[1])} counts only for backups from before" in said(run)
    assert good(bootstrap(host)).changed == 0


def test_a_bootstrap_that_was_ended_before_the_key_was_gathered_is_resumed(host: Host) -> None:
    # Half of one: a key on the host, a bootstrap in the cluster, and a controller that knows neither.
    gathered = host.gathered_signers.read_text(encoding="utf-8")
    lose(host)
    rotated = [{**host.entries[0], "restore_dump_path": "db/app/none.sql.gz.age", "restore_latest": False}]
    run = host.controller().play("bootstrap", infrazero_databases=rotated)
    assert run.status != 0 and "failed=1 (app)" in run.output
    host.gathered_signers.write_text(gathered, encoding="utf-8")
    good(bootstrap(host))
    assert line("host", own_key(host)) in host.gathered_signers.read_text(encoding="utf-8")


def test_a_cluster_that_is_not_fresh_keeps_its_key(host: Host) -> None:
    before, gathered = host.rows(), host.gathered_signers.read_text(encoding="utf-8")
    shutil.rmtree(host.root / "etc" / "signing")
    run = bootstrap(host)
    assert run.status != 0
    assert "host has a new signing key, which is not accepted" in said(run)
    assert host.gathered_signers.read_text(encoding="utf-8") == gathered
    run = good(bootstrap(host, *ROTATE))
    assert line("host", own_key(host)) in host.gathered_signers.read_text(encoding="utf-8")
    # What the older keys have signed is restored all the same.
    done = host.script("restore.sh", "app", "db/app/", AGE_PRIVATE_KEY=host.databases[0].identity.reveal())
    assert done.returncode == 0, done.stdout + done.stderr
    assert host.rows() == before


def test_a_host_of_0_1_is_upgraded_in_place_and_its_backups_are_restored(host: Host) -> None:
    node = platform.node()
    # As 0.1 left it: every name is the host's own.
    host.gathered_signers.unlink()
    good(bootstrap(host, infrazero_signing_name=node))
    path = host.root / "etc" / "db.env"
    text = path.read_text(encoding="utf-8")
    path.write_text(re.sub(r"^DB_SIGNING_NAME=.*\n", "", text, flags=re.MULTILINE), encoding="utf-8")
    host.gathered_signers.write_text(line(node, own_key(host)), encoding="utf-8")
    shutil.copy(host.gathered_signers, host.root / "etc" / "allowed_signers")
    done = host.script("backup.sh")
    assert done.returncode == 0, done.stdout + done.stderr
    assert signer(host) == node
    before = host.rows()

    good(bootstrap(host))
    assert host.gathered_signers.read_text(encoding="utf-8") == line(f"host,{node}", own_key(host))
    done = host.script("restore.sh", "app", "db/app/", AGE_PRIVATE_KEY=host.databases[0].identity.reveal())
    assert done.returncode == 0, done.stdout + done.stderr
    assert host.rows() == before
    # Also on the host that takes its place.
    lose(host)
    run = good(bootstrap(host))
    assert "restored=1 empty=0 skipped=0 failed=0" in run.output
    assert host.rows() == before
