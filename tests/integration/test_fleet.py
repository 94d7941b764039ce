# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbooks on hosts of which some fail, are away, or are lost on the way.

Every host is this machine, in check mode, where nothing is installed. What is tested here is who stops whom, and what
is said of it; that the work itself is done, test_roles.py and the scenarios say.
"""

from __future__ import annotations

import json
import pathlib
import typing as t

import pytest

from tests.support import scene
from tests.support.controller import Controller, Run, failed
from tests.support.host import b64

#: Connections to it are refused.
NOWHERE = {"ansible_host": "127.0.0.1", "ansible_port": 1}
PASSWORD = "canary-of-a-password"
HOSTS = ("away", "lost", "empty", "wrong", "good")


def entry(name: str) -> dict[str, t.Any]:
    database = scene.entry(name)
    return {"name": name, "user": name, "password": PASSWORD, "backup_age_public_key": database.recipients[0]}


def templated(choices: t.Mapping[str, t.Any], otherwise: t.Any) -> str:
    """A variable that has a value of its own on some hosts."""
    return f"{{{{ ({json.dumps(choices)})[inventory_hostname] | default({json.dumps(otherwise)}) }}}}"


@pytest.fixture
def controller(tmp_path: pathlib.Path) -> Controller:
    return Controller(
        tmp_path / "controller",
        {
            **NOWHERE,
            # One is not there from the beginning, and one is lost as soon as a task in the middle of the role is over.
            "ansible_connection": (
                "{{ 'ssh' if inventory_hostname == 'away' or inventory_hostname == 'lost' and"
                " __runtime_host is defined else 'local' }}"
            ),
            "infrazero_databases": templated({"empty": [], "wrong": [{"name": "shop"}]}, [entry("shop")]),
            "infrazero_databases_host": templated({"good": [entry("wiki")]}, []),
            "infrazero_install_directory": "/nonexistent/opt",  # nothing is installed: all runs are checks
            "infrazero_config_directory": str(tmp_path / "etc"),
            "infrazero_backup_directory": str(tmp_path / "backups"),
            "infrazero_summary_file": "summary.json",
            "bootstrap_scrub_paths": [],
            "backup_manage_packages": False,
        },
    )


def summary(controller: Controller) -> dict[str, t.Any]:
    path = controller.directory / "summary.json"
    assert path.stat().st_mode & 0o777 == 0o600
    text = path.read_text(encoding="utf-8")
    assert PASSWORD not in text
    return json.loads(text)


def warnings(found: t.Mapping[str, t.Any]) -> dict[str, list[str]]:
    return {host["host"]: host["warnings"] for host in found["hosts"] if "warnings" in host}


def by_host(found: t.Mapping[str, t.Any]) -> dict[str, dict[str, str]]:
    return {host["host"]: {one["database"]: one["status"] for one in host["databases"]} for host in found["hosts"]}


def messages(found: t.Mapping[str, t.Any]) -> dict[str, str]:
    return {host["host"]: host["error"]["message"] for host in found["hosts"] if host["error"]}


def table(run: Run) -> list[str]:
    """The lines of the table, as they stand in the output."""
    lines = [line.strip().strip('",') for line in run.output.splitlines()]
    start = next(number for number, line in enumerate(lines) if line.startswith("HOST "))
    return lines[start : next(n for n, line in enumerate(lines) if n > start and line.startswith("hosts: ")) + 1]


def test_no_host_stops_another(controller: Controller) -> None:
    # Batches of one: each of them that fails is one in which no host is left.
    run = controller.play("bootstrap", "--check", hosts=HOSTS, infrazero_serial=1)
    assert run.status != 0
    found = summary(controller)
    assert found["playbook"] == "bootstrap" and found["check_mode"] and found["finished_at"] and not found["ok"]
    assert found["hosts_by_status"] == {
        "ok": ["good"],
        "failed": ["empty", "wrong"],
        "unreachable": ["away", "lost"],
        "unfinished": [],
    }
    assert by_host(found) == {
        "away": {},
        "lost": {},
        "empty": {},
        "wrong": {},
        "good": {"shop": "planned", "wiki": "planned"},
    }
    said = messages(found)
    assert "Connection refused" in said["away"]
    assert "became unreachable" in said["lost"]
    assert "no list of databases" in said["empty"]
    assert "user" in said["wrong"] and "password" in said["wrong"]
    assert table(run)[0].split() == ["HOST", "DATABASE", "STATUS", "DETAILS"]
    assert [line.split()[:3] for line in table(run)[1:-1]] == [
        ["away", "-", "unreachable"],
        ["lost", "-", "unreachable"],
        ["empty", "-", "failed"],
        ["wrong", "-", "failed"],
        ["good", "shop", "planned"],
        ["good", "wiki", "planned"],
    ]
    assert table(run)[-1] == "hosts: 1 ok, 2 failed, 2 unreachable; databases: 2 planned"
    assert PASSWORD not in run.output


def test_a_host_that_is_away_is_summed_up_on_its_own(controller: Controller) -> None:
    for playbook in ("bootstrap", "backup"):
        run = controller.play(playbook, "--limit", "away", hosts=HOSTS)
        assert run.status != 0
        assert summary(controller)["hosts_by_status"]["unreachable"] == ["away"]
        assert summary(controller)["playbook"] == playbook


def test_a_run_that_never_ended_leaves_no_summary_of_success(controller: Controller) -> None:
    assert controller.play("bootstrap", "--check", "--limit", "good", hosts=HOSTS).status == 0
    assert summary(controller)["ok"]
    # With the last host the run is over, there and then.
    assert controller.play("bootstrap", "--check", "--limit", "lost", hosts=HOSTS).status != 0
    found = summary(controller)
    assert not found["ok"] and found["finished_at"] is None
    assert found["hosts_by_status"]["unfinished"] == ["lost"]


def test_a_size_of_batches_that_is_none(controller: Controller) -> None:
    run = controller.play("bootstrap", "--check", "--limit", "good", hosts=HOSTS, infrazero_serial="some")
    assert run.status != 0
    assert "serial must be a number, a percentage or a list of them" in " ".join(run.output.split())


@pytest.mark.parametrize(
    ("playbook", "arguments", "inventory", "expected"),
    [
        (
            "bootstrap",
            (),
            {"infrazero_s3_buckets": "x"},
            "infrazero_s3_buckets is not a variable of this collection; did you mean infrazero_s3_bucket?",
        ),
        (
            "server",
            ("--extra-vars", "infrazero_db_prot=5433"),
            {},
            "infrazero_db_prot is not a variable of this collection; did you mean infrazero_db_port?",
        ),
        (
            "restore",
            ("--extra-vars", "databse=shop from=db/shop/"),
            {},
            "databse is not an option of the playbook restore; did you mean database?",
        ),
        (
            "backup",
            ("--extra-vars", "database=shop"),
            {"infrazero_database": templated({"good": "wiki"}, "shop")},
            "database and infrazero_database have different values; set only one of them",
        ),
        (
            "policies",
            ("--extra-vars", "prefixs=db/shop/"),
            {},
            "prefixs is not an option of the playbook policies; did you mean prefixes?",
        ),
    ],
)
def test_misspelt_and_contradictory_variables_end_the_run_before_anything_else(
    controller: Controller,
    playbook: str,
    arguments: tuple[str, ...],
    inventory: dict[str, t.Any],
    expected: str,
) -> None:
    # The first host has no connection: not even that is noticed.
    run = controller.play(playbook, *arguments, hosts=("away", "good"), **inventory)
    assert run.status != 0
    said = " ".join(run.output.split())
    # Once as Ansible's error and once as the result of the task, and not for each host.
    assert said.count(expected) == 2, run.output
    assert "Connection refused" not in said
    if playbook in ("bootstrap", "restore", "backup"):
        assert summary(controller)["finished_at"] is None


def test_options_of_a_playbook_come_from_the_inventory_too(controller: Controller) -> None:
    run = controller.play(
        "restore",
        "--check",
        hosts=("good",),
        infrazero_database="nobody",
        infrazero_from="db/nobody/",
        ansible_python_interpreter="{{ ansible_playbook_python }}",
    )
    assert run.status != 0
    assert "has no entry for nobody. It has: shop, wiki." in " ".join(run.output.split())


PLAYBOOKS = ("backup", "bootstrap", "infisical", "policies", "restore", "server", "site", "validate")


@pytest.mark.parametrize("playbook", PLAYBOOKS)
def test_a_run_without_hosts_is_not_a_success(controller: Controller, playbook: str) -> None:
    """Ansible alone would skip the play and exit with 0."""
    run = controller.play(playbook, hosts=())
    group = "infisical" if playbook == "infisical" else "databases"
    assert f"nothing to work on: the group {group} of the inventory" in failed(run)
    assert run.changed == 0


def test_only_hosts_with_databases_are_worked_on(controller: Controller, tmp_path: pathlib.Path) -> None:
    others = tmp_path / "others.ini"
    others.write_text("[web]\nweb1\n", encoding="utf-8")
    run = controller.play("bootstrap", "--check", "--inventory", str(others), hosts=("good",))
    assert run.status == 0, run.output
    assert [*by_host(summary(controller))] == ["good"]
    said = failed(controller.play("bootstrap", "--inventory", str(others), "--limit", "web1", hosts=("good",)))
    assert "--limit web1 leaves none of the hosts databases" in said
    extra = ("--extra-vars", "infrazero_hosts=good")
    assert controller.play("bootstrap", "--check", *extra, "--inventory", str(others), hosts=HOSTS).status == 0


@pytest.mark.parametrize("playbook", ["site", "server", "bootstrap", "backup"])
def test_a_host_without_a_list_is_refused_before_anything_changes(controller: Controller, playbook: str) -> None:
    nothing = {"infrazero_databases": [], "infrazero_databases_host": []}
    run = controller.play(playbook, "--limit", "empty", hosts=HOSTS, **nothing)
    said = failed(run)
    assert "There is no list of databases for empty" in said or "server_databases: there is no list" in said
    assert "infrazero_databases" in said and "DATABASES_JSON_PRIVATE_B64" in said
    assert run.changed == 0


def test_a_first_boot_needs_no_group(controller: Controller) -> None:
    """It gets as far as the role server, which finds that this machine is not as it should be."""
    environment = {"DATABASES_JSON_PRIVATE_B64": b64([entry("shop")])}
    run = controller.play(
        "first_boot",
        *("--inventory", "localhost,", "--limit", "localhost", "--check", "--connection", "local"),
        hosts=(),
        environment=environment,
        infrazero_private_cidr="none",
    )
    said = failed(run)
    assert "nothing to work on" not in said and "PRIVATE_CIDR: 'none' is not a network" in said
    assert summary(controller)["hosts_by_status"]["failed"] == ["localhost"]


def test_a_host_whose_key_would_be_kept_nowhere_is_in_the_summary(controller: Controller) -> None:
    """One is beside an inventory, where keys can be gathered; the other comes from the command line."""
    everybody = ("--extra-vars", "infrazero_hosts=all")
    run = controller.play("bootstrap", "--check", "--inventory", "bare,", *everybody, hosts=("good",))
    assert run.status == 0, run.output
    found = summary(controller)
    assert found["ok"] and list(warnings(found)) == ["bare"]
    (warning,) = warnings(found)["bare"]
    assert warning.startswith("the signing key of bare is kept nowhere but on the host itself: no file for it is set")
    rows = [" ".join(row.split()) for row in table(run)]
    assert [row for row in rows if row.startswith("bare - warning the signing key of bare is kept nowhere")]
    assert not [row for row in rows if row.startswith("good - warning")]


def test_an_inventory_is_validated_without_a_connection(controller: Controller) -> None:
    # All hosts are away.
    nowhere = {
        **NOWHERE,
        "ansible_connection": "ssh",
        "infrazero_backup_directory": "",
        "infrazero_s3_bucket": "backups",
    }
    run = controller.play("validate", hosts=("good", "other"), **nowhere)
    assert run.status == 0, run.output
    said = " ".join(run.output.split())
    assert "valid; databases: shop, wiki" in said and "valid; databases: shop" in said
    assert "good, other store backups in the same place, s3://backups/db/shop/" in said
    assert run.changed == 0 and "unreachable=1" not in run.output


def test_every_error_of_an_inventory_is_reported_at_once(controller: Controller) -> None:
    variables = {
        **NOWHERE,
        "ansible_connection": "ssh",
        "infrazero_restore_timout": 5,
        "infrazero_backup_jobs": "zero",
        "infrazero_s3_secret_access_key": "{{ vault_of_nobody }}",
    }
    run = controller.play("validate", hosts=HOSTS, **variables)
    said = failed(run)
    for part in (
        "infrazero_restore_timout is not a variable of this collection; did you mean infrazero_restore_timeout?",
        "infrazero_backup_jobs is not a whole number",
        "infrazero_s3_secret_access_key cannot be templated: 'vault_of_nobody' is undefined",
        "There is no list of databases for empty",
        "entry 1 (shop), user: is missing",
    ):
        assert part in said, part
    assert PASSWORD not in run.output
    assert "failed=1" in run.output and "unreachable=1" not in run.output
    # What only one of them has is reported of that one, and what is about all of them once.
    assert run.output.count("There is no list of databases for empty") <= 2
    assert "There is no list of databases for good" not in run.output
