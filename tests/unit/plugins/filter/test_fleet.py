# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Batches, and the summary of a fleet."""

from __future__ import annotations

import json
import typing as t

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.infrazero.database.plugins.filter import fleet

CANARY = "canary-of-a-secret"
ENTRIES = [
    {"name": name, "user": f"{name}_user", "password": CANARY, "backup_age_private_key": CANARY}
    for name in ("shop", "ledger", "metrics", "wiki")
]
BACKED_UP = {
    "database": "shop",
    "status": "backed_up",
    "key": "db/shop/1.sql.gz.age",
    "rows": 3,
    "warnings": [],
    "sha256": "1f",
}
FAILED_DATABASE = {
    "database": "ledger",
    "status": "failed",
    "error": {"type": "X", "phase": "dump", "message": "no dump", "cause": "lost", "hint": "again"},
}


def statuses(report: t.Mapping[str, t.Any]) -> dict[str, str]:
    return {one["database"]: one["status"] for one in report["databases"]}


# Batches --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("serial", "sizes"),
    [
        (0, [7]),
        (1, [1] * 7),
        ("3", [3, 3, 1]),
        (100, [7]),
        ("30%", [2, 2, 2, 1]),
        ("1%", [1] * 7),
        ("100%", [7]),
        ([1, "50%"], [1, 3, 3]),
        ([1, 2, 3], [1, 2, 3, 1]),
        ([2, 0], [2, 5]),
    ],
)
def test_batches(serial: object, sizes: list[int]) -> None:
    hosts = [f"db{number}" for number in range(7)]
    found = fleet.batches(hosts, serial)
    assert [len(batch) for batch in found] == sizes
    assert [host for batch in found for host in batch] == hosts


def test_batches_of_no_host() -> None:
    assert fleet.batches([], 3) == []


@pytest.mark.parametrize("serial", [-1, "many", "", "50 %%", [], [1, None], 1.5, "\u0663"])
def test_batches_of_no_size(serial: object) -> None:
    with pytest.raises(AnsibleFilterError, match=r"infrazero\.database\.batches"):
        fleet.batches(["db1", "db2"], serial)


# One host -------------------------------------------------------------------------------------------------------------


def test_bootstrap_and_restore() -> None:
    bootstrap = {
        "changed": True,
        "databases": {"created": ["shop"], "changed": ["ledger"]},
        "roles": {"created": ["shop_user"], "changed": ["metrics_user"]},
    }
    report = fleet.host_report({"bootstrap": bootstrap, "restore": {"skipped": True}}, entries=ENTRIES)
    assert report["status"] == "ok" and report["error"] is None
    assert statuses(report) == {"shop": "created", "ledger": "changed", "metrics": "changed", "wiki": "unchanged"}
    restore = {"databases": [{"database": "shop", "status": "restored", "source": "s3://b/k", "rows": 7}]}
    report = fleet.host_report({"bootstrap": bootstrap, "restore": restore}, entries=ENTRIES)
    assert list(statuses(report)) == ["shop", "ledger", "metrics", "wiki"]
    assert report["databases"][0] == {"database": "shop", "status": "restored", "source": "s3://b/k", "rows": 7}


def test_first_backups_are_added_to_what_else_was_done() -> None:
    bootstrap = {"databases": {"created": ["shop"], "changed": []}, "roles": {"created": [], "changed": []}}
    outcomes = [
        {"database": "shop", "status": "backed_up", "key": "db/shop/1.age", "warnings": ["look"]},
        {"database": "ledger", "status": "present", "key": "db/ledger/1.age"},
        {"database": "metrics", "status": "skipped", "reason": "no", "warnings": ["no"]},
        {"database": "wiki", "status": "failed", "error": {"phase": "upload", "message": "full"}},
        {"database": "cluster globals", "status": "present", "key": "cluster/1.age"},
    ]
    report = fleet.host_report({"bootstrap": bootstrap, "first_backup": {"databases": outcomes}}, entries=ENTRIES)
    assert report["status"] == "failed"
    assert statuses(report) == {"shop": "created", "ledger": "unchanged", "metrics": "unchanged", "wiki": "failed"}
    assert report["databases"][0]["first_backup"] == "db/shop/1.age"
    assert report["databases"][0]["warnings"] == ["look"]
    assert "first_backup" not in report["databases"][1]
    assert report["databases"][2]["warnings"] == ["no"]
    (row,) = [
        line
        for line in fleet.fleet_table(fleet.fleet_summary({"db1": report}, playbook="site", started_at=""))
        if "created" in line and "first" in line
    ]
    assert row.endswith("first backup db/shop/1.age; look")


def test_check_mode_plans() -> None:
    bootstrap = {"databases": {"created": ["shop"], "changed": []}, "roles": {"created": [], "changed": ["wiki_user"]}}
    report = fleet.host_report({"bootstrap": bootstrap}, entries=ENTRIES, check_mode=True)
    assert statuses(report) == {"shop": "planned", "ledger": "unchanged", "metrics": "unchanged", "wiki": "planned"}
    # Nothing is installed yet, so nobody could be asked.
    for nothing in ({}, {"skipped": True, "changed": False}):
        report = fleet.host_report({"bootstrap": nothing, "restore": nothing}, entries=ENTRIES, check_mode=True)
        assert set(statuses(report).values()) == {"planned"}


def test_a_failed_bootstrap_says_nothing_of_databases() -> None:
    failed = {"failed": True, "msg": "no session"}
    report = fleet.host_report(
        {"bootstrap": failed}, entries=ENTRIES, failed_task={"name": "Create roles and databases"}, failed_result=failed
    )
    assert report == {
        "status": "failed",
        "error": {"task": "Create roles and databases", "message": "no session"},
        "databases": [],
    }


def test_one_database_fails_and_the_others_do_not() -> None:
    result = {
        "failed": True,
        "msg": "1 of 2 databases failed: ledger: no dump",
        "databases": [BACKED_UP, FAILED_DATABASE],
    }
    report = fleet.host_report({"backup": result}, failed_task={"name": "Back up"}, failed_result=result)
    assert report["status"] == "failed"
    assert report["databases"] == [
        {"database": "shop", "status": "backed_up", "key": "db/shop/1.sql.gz.age", "rows": 3},
        {
            "database": "ledger",
            "status": "failed",
            "error": {"phase": "dump", "message": "no dump", "cause": "lost", "hint": "again"},
        },
    ]


def test_unreachable() -> None:
    report = fleet.host_report({}, unreachable=True, failed_result={"unreachable": True, "msg": "no route\nto  host"})
    assert report == {"status": "unreachable", "error": {"task": "", "message": "no route to host"}, "databases": []}


@pytest.mark.parametrize(
    ("task", "result"),
    [
        ({"name": "Write db.env", "no_log": True}, {"msg": CANARY}),
        ({"name": "Write db.env"}, {"msg": CANARY, "_ansible_no_log": True}),
        (
            {"name": "Write db.env"},
            {"msg": "it ended", "stdout": CANARY, "invocation": {"module_args": {"content": CANARY}}},
        ),
    ],
)
def test_no_secrets(task: dict[str, t.Any], result: dict[str, t.Any]) -> None:
    bootstrap = {"databases": {"created": ["shop"], "changed": []}, "roles": {"created": [], "changed": []}}
    report = fleet.host_report({"bootstrap": bootstrap}, entries=ENTRIES, failed_task=task, failed_result=result)
    assert report["error"]["task"] == "Write db.env"
    assert CANARY not in json.dumps(report)


# The fleet ------------------------------------------------------------------------------------------------------------

OK = {
    "status": "ok",
    "error": None,
    "databases": [BACKED_UP, {**BACKED_UP, "database": "wiki", "warnings": ["it is late"]}],
}
HALF = {
    "status": "failed",
    "error": {"task": "Back up", "message": "1 of 2 databases failed"},
    "databases": [BACKED_UP, FAILED_DATABASE],
}
BROKEN = {"status": "failed", "error": {"task": "Back up", "message": "no session"}, "databases": []}
AWAY = {"status": "unreachable", "error": {"task": "", "message": "no route to host"}, "databases": []}
REPORTS = {"db1": OK, "db2": HALF, "db3": BROKEN, "db4": AWAY, "db5": {}, "db6": None}


def summary(reports: t.Mapping[str, t.Any], **changes: t.Any) -> dict[str, t.Any]:
    return fleet.fleet_summary(
        reports, **{"playbook": "backup", "started_at": "03:20", "finished_at": "03:21", **changes}
    )


def test_summary() -> None:
    found = summary(REPORTS)
    assert not found["ok"]
    assert found["hosts_by_status"] == {
        "ok": ["db1"],
        "failed": ["db2", "db3"],
        "unreachable": ["db4", "db5", "db6"],
        "unfinished": [],
    }
    assert found["databases_by_status"] == {"backed_up": 3, "failed": 1}
    assert [host["host"] for host in found["hosts"]] == list(REPORTS)
    assert "became unreachable" in found["hosts"][4]["error"]["message"]
    json.dumps(found)


def test_summary_of_a_good_run() -> None:
    assert summary({"db1": OK})["ok"]
    assert summary({})["ok"]


def test_summary_of_a_run_that_never_ended_is_not_ok() -> None:
    found = summary({"db1": OK, "db2": {}}, finished_at=None)
    assert not found["ok"]
    assert found["hosts_by_status"]["unfinished"] == ["db2"]


def test_table() -> None:
    assert fleet.fleet_table(summary(REPORTS)) == [
        "HOST  DATABASE  STATUS       DETAILS",
        "db1   shop      backed_up    db/shop/1.sql.gz.age",
        "db1   wiki      backed_up    db/shop/1.sql.gz.age; it is late",
        "db2   shop      backed_up    db/shop/1.sql.gz.age",
        "db2   ledger    failed       no dump: lost",
        "db3   -         failed       Back up: no session",
        "db4   -         unreachable  no route to host",
        "db5   -         unreachable  the host became unreachable during the run; Ansible's output shows the task",
        "db6   -         unreachable  the host became unreachable during the run; Ansible's output shows the task",
        "hosts: 1 ok, 2 failed, 3 unreachable; databases: 3 backed_up, 1 failed",
    ]


def test_table_says_why_a_host_failed_whose_databases_did_not() -> None:
    host = {**BROKEN, "error": {"task": "Schedule", "message": "no cron"}, "databases": [BACKED_UP]}
    assert fleet.fleet_table(summary({"db1": host}))[1:3] == [
        "db1   -         failed     Schedule: no cron",
        "db1   shop      backed_up  db/shop/1.sql.gz.age",
    ]


def test_table_says_who_signed_what_was_restored() -> None:
    found = {
        "database": "shop",
        "status": "restored",
        "source": "s3://b/1",
        "signed_by": {"name": "db1", "key": "SHA256:x"},
    }
    report = fleet.host_report({"restore": {"databases": [found]}})
    assert report["databases"][0]["signed_by"] == found["signed_by"]
    assert fleet.fleet_table(summary({"db2": report}))[1] == "db2   shop      restored  s3://b/1, signed by db1"


def test_table_of_a_host_without_databases() -> None:
    host = {"status": "ok", "error": None, "databases": []}
    assert fleet.fleet_table(summary({"db1": host}))[1:] == [
        "db1   -         ok",
        "hosts: 1 ok; databases: none",
    ]


def test_table_forges_no_row_and_holds_nothing_that_a_terminal_obeys() -> None:
    key = "db/shop/\x1b[2J\u202e\x9b\ndb9   shop      backed_up    db/shop/2.sql.gz.age"
    host = {"status": "ok", "error": None, "databases": [{**BACKED_UP, "key": key, "warnings": ["\x1b[31m"]}]}
    lines = fleet.fleet_table(summary({"db1": host}))
    assert len(lines) == 3
    assert all(line.isprintable() for line in lines)
    assert r"db/shop/\x1b[2J\u202e\x9b\x0adb9" in lines[1]


def test_a_failed_task_s_message_is_printable() -> None:
    report = fleet.host_report({}, failed_task={"name": "Restore"}, failed_result={"msg": "no \x1b[2J\n\u202e"})
    assert report["error"]["message"] == r"no \x1b[2J \u202e"


def test_a_warning_about_a_host_has_a_row_of_its_own() -> None:
    report = fleet.host_report({}, warnings=["its key\x1b[2J is kept nowhere"])
    assert report["status"] == fleet.OK and report["warnings"] == ["its key\\x1b[2J is kept nowhere"]
    lines = fleet.fleet_table(summary({"db1": report}))
    assert [" ".join(line.split()) for line in lines[1:-1]] == [
        "db1 - ok",
        "db1 - warning its key\\x1b[2J is kept nowhere",
    ]
    assert "warnings" not in fleet.host_report({})
