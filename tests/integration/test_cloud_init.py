# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role cloud_init: what it renders, what it refuses, and what its script does before Ansible is there."""

from __future__ import annotations

import base64
import gzip
import json
import os
import pathlib
import pickle
import re
import shutil
import stat
import subprocess
import sys
import typing as t

import pytest
import yaml

from conftest import ROOT
from tests.support import scene
from tests.support.controller import Controller, Run, good
from tests.support.host import as_json, b64

#: Whatever ends a quote in shell, YAML or JSON, or is a template's.
NASTY = "'\"\\$(id)`id`{x}%s#: \n\t- é😀\x7f\x85\u2028"
ENTRIES = [as_json(scene.entry("shop")), as_json(scene.entry("ledger"), password=NASTY)]
#: Variables of run.sh whose values leave the disk.
PRIVATE = (
    "DATABASES_JSON_PRIVATE_B64",
    "INFISICAL_DB_BACKUP_AGE_PRIVATE_KEY",
    "CLUSTER_AGE_PRIVATE_KEY",
    "INFRAZERO_INVENTORY_B64",
)
CLUSTER_KEY = scene.key_of(scene.entry("cluster"))
THIRD = as_json(scene.entry("third"))
LINE = 'db0 namespaces="manifest@infrazero.database" ssh-ed25519 AAAA'
PLAYBOOK = [{"hosts": "all", "gather_facts": False, "become": True, "roles": ["infrazero.database.cloud_init"]}]


def render(directory: pathlib.Path, *arguments: str, **variables: t.Any) -> Run:
    playbook = directory / "playbook.yml"
    playbook.write_text(json.dumps(PLAYBOOK), encoding="utf-8")
    settings = {
        "infrazero_databases": ENTRIES,
        "infrazero_databases_host": [THIRD],
        "infrazero_s3_bucket": "backups",
        "infrazero_s3_secret_access_key": NASTY,
        "infrazero_hosts": "all",
        "infrazero_rotate_signing_key": True,
        "cloud_init_path": str(directory / "user-data"),
        # Nobody is there: all of it is the controller's work.
        "ansible_connection": "ssh",
        "ansible_host": "nobody.invalid",
    }
    controller = Controller(directory / "controller", settings)
    return controller.play(str(playbook), *arguments, hosts=["db1"], **variables)


def files(directory: pathlib.Path) -> dict[str, bytes]:
    """What cloud-init would write, by the names of the files."""
    text = (directory / "user-data").read_text(encoding="ascii")
    assert text.startswith("#cloud-config\n")
    document = yaml.safe_load(text)
    assert document["runcmd"] == [[file["path"] for file in document["write_files"] if file["permissions"] == "0700"]]
    return {
        pathlib.PurePath(file["path"]).name: (
            gzip.decompress(base64.b64decode(file["content"]))
            if file.get("encoding") == "gz+b64"
            else file["content"].encode()
        )
        for file in document["write_files"]
    }


def assigned(script: bytes, name: str) -> str:
    (line,) = [line for line in script.decode().splitlines() if line.startswith(f"export {name}=")]
    return line.partition('="')[2].rstrip('"')


def test_what_a_new_host_is_given(tmp_path: pathlib.Path) -> None:
    # As earlier bootstraps have left it beside the inventory.
    (tmp_path / "controller").mkdir()
    (tmp_path / "controller" / "allowed_signers").write_text(f"# gathered\n{LINE}\n", encoding="utf-8")
    run = good(render(tmp_path, "-vvv", "--diff", cloud_init_settings={"runtime_wheelhouse": "/opt/wheels"}))
    assert run.changed == 1
    for entry in ENTRIES:
        assert entry["backup_age_private_key"] not in run.output
        assert b64(ENTRIES) not in run.output
    assert stat.S_IMODE((tmp_path / "user-data").stat().st_mode) == 0o600
    given = files(tmp_path)
    script = given["run.sh"]
    found = json.loads(base64.b64decode(assigned(script, "DATABASES_JSON_PRIVATE_B64")))
    assert [entry["name"] for entry in found] == ["shop", "ledger", "third"]
    assert found[1] == ENTRIES[1]

    inventory = tmp_path / "inventory.yml"
    inventory.write_bytes(gzip.decompress(base64.b64decode(assigned(script, "INFRAZERO_INVENTORY_B64"))))
    listed = Controller(tmp_path / "host", {}).play(str(show(tmp_path)), "--inventory", str(inventory))
    assert json.loads((tmp_path / "seen.json").read_text(encoding="utf-8")) == {
        "ansible_connection": "local",
        "infrazero_allowed_signers": ["# gathered", LINE],
        "infrazero_allowed_signers_file": "",
        "infrazero_s3_bucket": "backups",
        "infrazero_s3_secret_access_key": NASTY,
        "infrazero_signing_name": "db1",
        "runtime_wheelhouse": "/opt/wheels",
    }, listed.output
    # That would replace the key in each run of the script.
    assert b"rotate" not in inventory.read_bytes()

    subprocess.run(["/bin/sh", "-n"], input=script, check=True)
    assert good(render(tmp_path, cloud_init_settings={"runtime_wheelhouse": "/opt/wheels"})).changed == 0


def show(directory: pathlib.Path) -> pathlib.Path:
    """A playbook that writes down what db1 knows."""
    names = ["ansible_connection", "infrazero_s3_bucket", "infrazero_s3_secret_access_key", "infrazero_signing_name"]
    names += ["runtime_wheelhouse", "infrazero_allowed_signers", "infrazero_allowed_signers_file"]
    seen = "{{ dict(names | zip(query('ansible.builtin.vars', *names))) | to_json }}"
    path = directory / "show.yml"
    copy = {"content": seen, "dest": str(directory / "seen.json"), "mode": "0600"}
    play = {"hosts": "db1", "gather_facts": False, "vars": {"names": names}, "tasks": [{"ansible.builtin.copy": copy}]}
    path.write_text(json.dumps([play]), encoding="utf-8")
    return path


def test_every_copy_of_user_data_that_a_cloud_keeps_is_scrubbed(tmp_path: pathlib.Path) -> None:
    """Below a folder, as a first boot does it: the files that cloud-init, an installer and Azure's agent leave."""
    good(render(tmp_path))
    user_data = (tmp_path / "user-data").read_bytes()
    encoded = base64.b64encode(user_data).decode()
    copies = {
        "var/lib/cloud/instances/i-1/user-data.txt": user_data,
        "var/lib/cloud/instances/i-1/user-data.txt.i": user_data,
        "var/lib/cloud/instances/i-1/cloud-config.txt": user_data,
        "var/lib/cloud/instances/i-1/obj.pkl": pickle.dumps({"userdata_raw": user_data}),
        "var/lib/cloud/seed/nocloud-net/user-data": user_data,
        "run/cloud-init/instance-data-sensitive.json": json.dumps({"ds": {"user_data": f"ci-b64:{encoded}"}}).encode(),
        "etc/cloud/cloud.cfg.d/99-installer.cfg": f'datasource: {{None: {{userdata_raw: "{encoded}"}}}}\n'.encode(),
        "var/lib/waagent/ovf-env.xml": f"<a:CustomData>{encoded}</a:CustomData>".encode(),
        "var/lib/waagent/CustomData": encoded.encode(),
    }
    host, program = tmp_path / "host", tmp_path / "program"
    for name, content in copies.items():
        (host / name).parent.mkdir(parents=True, exist_ok=True)
        (host / name).write_bytes(content)
    program.mkdir()
    shutil.copy(ROOT / "roles" / "cloud_init" / "files" / "scrub.py", program)
    shutil.copy(ROOT / "plugins" / "module_utils" / "_scrub.py", program)
    defaults = yaml.safe_load((ROOT / "roles" / "bootstrap" / "defaults" / "main.yml").read_text(encoding="utf-8"))
    variables = ",".join(PRIVATE)
    patterns = [f"{host}{pattern}" for pattern in defaults["bootstrap_scrub_paths"]]
    subprocess.run([sys.executable, str(program / "scrub.py"), variables, *patterns], input=b"", check=True)
    scrubbed = {name: (host / name).read_bytes() for name in copies}
    assert [name for name, content in copies.items() if scrubbed[name] == content] == []
    secret = assigned(files(tmp_path)["run.sh"], "DATABASES_JSON_PRIVATE_B64").encode()[:100]
    assert secret in user_data
    for name, content in scrubbed.items():
        runs = re.findall(rb"[A-Za-z0-9+/]{40,}={0,2}", content)
        inner = b"".join(base64.b64decode(run + b"=" * (-len(run) % 4)) for run in runs)
        assert secret not in content + inner, name


def test_over_the_limit_nothing_is_written(tmp_path: pathlib.Path) -> None:
    many = [as_json(scene.entry(f"database-{number}")) for number in range(80)]
    run = render(tmp_path, infrazero_databases=[*many, {**as_json(scene.entry("huge")), "password": "x" * 5000}])
    said = " ".join(run.output.split())
    assert run.status != 0
    assert not (tmp_path / "user-data").exists()
    for part in ("the provider accepts 32768", "the list of 82 databases", "huge", "infrazero_s3_secret_access_key"):
        assert part in said, said
    assert many[0]["backup_age_private_key"] not in run.output


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"infrazero_databases": [{"name": "a b"}]}, "contains whitespace"),
        ({"infrazero_databases": [], "infrazero_databases_host": []}, "There is no list of databases for db1"),
        ({"infrazero_s3_buckets": "x"}, "infrazero_s3_buckets is not a variable of this collection; did you mean"),
        ({"cloud_init_settings": {"infrazero_restore_trsut": "signed"}}, "did you mean infrazero_restore_trust?"),
        ({"infrazero_signing_name": "db*"}, "cannot sign backups under the name 'db*'"),
        ({"cloud_init_collection": "x\ny"}, "cloud_init_collection must contain only printable ASCII"),
        ({"cloud_init_collection_sha256": "abc"}, "not a SHA-256"),
        ({"cloud_init_infisical_private_key": "age1xyz"}, "not an age private key"),
        ({"cloud_init_cluster_age_private_key": "age1xyz"}, "not an age private key"),
    ],
)
def test_what_it_refuses(tmp_path: pathlib.Path, variables: dict[str, t.Any], message: str) -> None:
    run = render(tmp_path, **variables)
    assert run.status != 0
    assert message in " ".join(run.output.split()), run.output
    assert not (tmp_path / "user-data").exists()


@pytest.fixture
def booting(tmp_path: pathlib.Path) -> pathlib.Path:
    """The directory of a host on which cloud-init has written the files; ansible-core can't be installed there."""
    directory = tmp_path / "boot strap"
    directory.mkdir()
    good(
        render(
            tmp_path,
            cloud_init_directory=str(directory),
            cloud_init_wheelhouse=str(tmp_path / "nothing"),
            cloud_init_infisical_private_key=ENTRIES[0]["backup_age_private_key"],
            # As in an inventory, which brings the others of its kind in a file that stays.
            infrazero_cluster_age_private_key=CLUSTER_KEY,
        )
    )
    for name, content in files(tmp_path).items():
        (directory / name).write_bytes(content)
    return directory


def boot(
    directory: pathlib.Path, *arguments: str, given: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/sh", str(directory / "run.sh"), *arguments],
        input=given,
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"], **environment},
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="a first boot is root's")
def test_the_private_keys_leave_the_disk_whatever_comes_of_it(booting: pathlib.Path) -> None:
    done = boot(booting)
    assert done.returncode == 1
    assert "failed with status 1" in done.stderr
    for path in booting.rglob("*"):
        if path.is_file():
            for key in (CLUSTER_KEY, *(entry["backup_age_private_key"] for entry in ENTRIES)):
                assert key.encode() not in path.read_bytes(), path
    lines = (booting / "run.sh").read_text(encoding="utf-8").splitlines()
    for name in PRIVATE:
        assert f'export {name}=""' in lines
    assert stat.S_IMODE((booting / "inventory.yml").stat().st_mode) == 0o600

    # Another run wants the list again, and takes it in four forms.
    inventory = (booting / "inventory.yml").read_bytes()
    secret = booting.parent / "secret"
    secret.write_text(json.dumps(ENTRIES), encoding="utf-8")
    assert "there is no private list" in boot(booting).stderr
    assert "neither base64 nor a JSON array" in boot(booting, "-", given="'; id; '").stderr
    for again in (
        boot(booting, "-", given=json.dumps(ENTRIES, indent=2)),
        boot(booting, "-", given=b64(ENTRIES) + "\n"),
        boot(booting, DATABASES_JSON_PRIVATE_B64=b64(ENTRIES)),
        boot(booting, DATABASES_JSON_PRIVATE_B64_FILE=str(secret)),
    ):
        assert "installing ansible-core" in again.stdout, again.stderr
    assert (booting / "inventory.yml").read_bytes() == inventory


@pytest.mark.skipif(os.geteuid() != 0, reason="a first boot is root's")
def test_where_the_keys_can_not_be_taken_off_the_disk_nothing_is_done(booting: pathlib.Path) -> None:
    (booting / "scrub.py").unlink()
    done = boot(booting)
    assert done.returncode == 1
    assert "nothing else was done" in done.stderr
    assert "installing" not in done.stdout
