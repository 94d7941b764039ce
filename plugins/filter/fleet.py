# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Filters: batches of hosts, reports of hosts, and the summary of a run."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError
from ansible_collections.infrazero.database.plugins.module_utils._engine.printing import printable

Plain = t.Mapping[str, t.Any]

#: Version of the summary's format.
VERSION = 1

OK = "ok"
FAILED = "failed"
UNREACHABLE = "unreachable"
#: The run has not ended, so that nothing is known about the host.
UNFINISHED = "unfinished"
UNCHANGED = "unchanged"
PLANNED = "planned"

#: Fields of a module's outcome for a database that are part of the summary, in addition to its status.
_DETAILS = ("key", "source", "signed_by", "created_at", "size", "rows", "duration_seconds", "warnings")


# Batches --------------------------------------------------------------------------------------------------------------


def batches(hosts: t.Sequence[str], serial: object = 0) -> list[list[str]]:
    """*hosts* in batches of the sizes in *serial*, which means the same as the keyword of a play.

    :param serial: a number, a percentage such as ``"25%"``, or a list of them whose last element is repeated.
        0 is all hosts at once.
    :raises AnsibleFilterError: for anything else.
    """
    steps = list(serial) if isinstance(serial, (list, tuple)) else [serial]
    if not steps:
        raise AnsibleFilterError("infrazero.database.batches: serial is an empty list")
    sizes = [_size(step, len(hosts)) for step in steps]
    found: list[list[str]] = []
    rest = list(hosts)
    while rest:
        size = sizes[min(len(found), len(sizes) - 1)] or len(rest)
        found.append(rest[:size])
        rest = rest[size:]
    return found


def _size(step: object, count: int) -> int:
    text = str(step).strip()
    number = text[:-1] if text.endswith("%") else text
    if not (number.isascii() and number.isdigit()):
        raise AnsibleFilterError(
            f"infrazero.database.batches: serial must be a number, a percentage or a list of them, not {text!r}"
        )
    if text.endswith("%"):
        return max(1, count * int(number) // 100)
    return int(number)


# One host -------------------------------------------------------------------------------------------------------------


def host_report(
    results: t.Mapping[str, Plain],
    *,
    entries: t.Sequence[Plain] = (),
    check_mode: bool = False,
    unreachable: bool = False,
    failed_task: Plain | None = None,
    failed_result: Plain | None = None,
    warnings: t.Sequence[str] = (),
) -> dict[str, t.Any]:
    """Results of a host and its databases, without secrets.

    :param results: registered results of modules: ``bootstrap`` of pg_db_bootstrap, ``restore`` of
        s3_manifest_restore, ``backup`` and ``first_backup`` of age_backup; each is optional.
    :param entries: the host's list, to which ``bootstrap`` belongs.
    :param check_mode: whether the run is in check mode.
    :param unreachable: whether *failed_result* comes from a host that did not answer.
    :param failed_task: the task that failed on the host, ``ansible_failed_task`` in a rescue.
    :param failed_result: its result.
    :param warnings: about the host and none of its databases.
    """
    databases = {one["database"]: one for one in _bootstrapped(results.get("bootstrap"), entries, check_mode)}
    for action in ("restore", "backup"):
        for outcome in (results.get(action) or {}).get("databases") or ():
            databases[outcome["database"]] = _outcome(outcome)
    for outcome in (results.get("first_backup") or {}).get("databases") or ():
        _add_first_backup(databases, outcome)
    error = None
    if failed_result is not None:
        task = failed_task or {}
        error = {"task": str(task.get("name") or task.get("action") or ""), "message": _message(task, failed_result)}
        status = UNREACHABLE if unreachable else FAILED
    else:
        status = FAILED if any(one["status"] == FAILED for one in databases.values()) else OK
    report: dict[str, t.Any] = {"status": status, "error": error, "databases": list(databases.values())}
    if warnings:
        report["warnings"] = [printable(str(warning)) for warning in warnings]
    return report


def _bootstrapped(result: Plain | None, entries: t.Sequence[Plain], check_mode: bool) -> t.Iterator[dict[str, t.Any]]:
    databases, roles = (result or {}).get("databases"), (result or {}).get("roles") or {}
    if databases is None:
        # The task failed, or was skipped because nothing is installed on the host yet.
        return iter([{"database": str(entry["name"]), "status": PLANNED} for entry in entries if check_mode])

    def status(entry: Plain) -> str:
        if entry["name"] in databases.get("created", ()):
            return PLANNED if check_mode else "created"
        touched = entry["name"] in databases.get("changed", ())
        if touched or any(entry.get("user") in roles.get(kind, ()) for kind in ("created", "changed")):
            return PLANNED if check_mode else "changed"
        return UNCHANGED

    return iter([{"database": str(entry["name"]), "status": status(entry)} for entry in entries])


def _outcome(outcome: Plain) -> dict[str, t.Any]:
    found = {"database": outcome["database"], "status": outcome["status"]}
    found.update((name, outcome[name]) for name in _DETAILS if outcome.get(name))
    if outcome.get("error"):
        found["error"] = {name: outcome["error"].get(name, "") for name in ("phase", "message", "cause", "hint")}
    return found


def _add_first_backup(databases: dict[str, dict[str, t.Any]], outcome: Plain) -> None:
    """Add the result of a first backup to what else was done to a database; a failure comes before it."""
    name = outcome["database"]
    if outcome["status"] == FAILED:
        databases[name] = _outcome(outcome)
        return
    if outcome["status"] == "present" and not outcome.get("warnings"):
        return
    known = databases.setdefault(name, {"database": name, "status": outcome["status"]})
    if outcome["status"] in ("backed_up", PLANNED):
        known["first_backup"] = outcome["key"]
    if outcome.get("warnings"):
        known["warnings"] = [*known.get("warnings", ()), *outcome["warnings"]]


def _message(task: Plain, result: Plain) -> str:
    # A rescue also gets results that Ansible does not show.
    if task.get("no_log") or result.get("_ansible_no_log"):
        return "the task failed; its output is hidden because it may contain secrets"
    return printable(" ".join(str(result.get("msg") or "the task failed").split()))


# The fleet ------------------------------------------------------------------------------------------------------------


def fleet_summary(
    reports: t.Mapping[str, Plain | None],
    *,
    playbook: str,
    started_at: str,
    finished_at: str | None = None,
    check_mode: bool = False,
) -> dict[str, t.Any]:
    """Results of all hosts.

    :param reports: those of :func:`host_report` by host, in the order of the inventory; empty for a host without one.
    :param finished_at: when the run ended; ``None`` if it has not.
    """
    hosts = [{"host": str(host), **_completed(report, finished_at)} for host, report in reports.items()]
    counts: dict[str, int] = {}
    for host in hosts:
        for database in host["databases"]:
            counts[database["status"]] = counts.get(database["status"], 0) + 1
    return {
        "version": VERSION,
        "playbook": playbook,
        "check_mode": check_mode,
        "started_at": started_at,
        "finished_at": finished_at,
        "ok": finished_at is not None and all(host["status"] == OK for host in hosts),
        "hosts_by_status": {
            status: [host["host"] for host in hosts if host["status"] == status]
            for status in (OK, FAILED, UNREACHABLE, UNFINISHED)
        },
        "databases_by_status": dict(sorted(counts.items())),
        "hosts": hosts,
    }


def _completed(report: Plain | None, finished_at: str | None) -> Plain:
    if report:
        return report
    if finished_at is None:
        return {"status": UNFINISHED, "error": None, "databases": []}
    # Failures are rescued and reported, so a host without a report has become unreachable.
    message = "the host became unreachable during the run; Ansible's output shows the task"
    return {"status": UNREACHABLE, "error": {"task": "", "message": message}, "databases": []}


def fleet_table(summary: Plain) -> list[str]:
    """Lines of a table of *summary*: a row for each host and database, then one with the totals."""
    rows = [("HOST", "DATABASE", "STATUS", "DETAILS")]
    for host in summary["hosts"]:
        reported = any(database["status"] == FAILED for database in host["databases"])
        if (host["status"] != OK and not reported) or not host["databases"]:
            error = host["error"] or {"task": "", "message": ""}
            rows.append((host["host"], "-", host["status"], ": ".join(filter(None, (error["task"], error["message"])))))
        rows += [(host["host"], one["database"], one["status"], _details(one)) for one in host["databases"]]
        rows += [(host["host"], "-", "warning", warning) for warning in host.get("warnings", ())]
    # A host controls the results of its modules, and anyone with write access to the store controls keys.
    cells = [[printable(text) for text in row] for row in rows]
    widths = [max(len(row[column]) for row in cells) for column in range(3)]
    lines = ["  ".join([*(cell.ljust(width) for cell, width in zip(row, widths)), row[3]]).rstrip() for row in cells]
    # Not in the form of Ansible's recap: Molecule would take "unchanged=2" for a change.
    by_host = ", ".join(f"{len(names)} {status}" for status, names in summary["hosts_by_status"].items() if names)
    by_database = ", ".join(f"{count} {status}" for status, count in summary["databases_by_status"].items())
    return [*lines, f"hosts: {by_host or 'none'}; databases: {by_database or 'none'}"]


def _details(database: Plain) -> str:
    error = database.get("error")
    if error:
        return ": ".join(str(error[name]) for name in ("message", "cause") if error[name])
    backup = str(database.get("key") or database.get("source") or "")
    signed_by = database.get("signed_by")
    if signed_by:
        backup += f", signed by {signed_by['name']}"
    first = f"first backup {database['first_backup']}" if database.get("first_backup") else ""
    return "; ".join(filter(None, (backup, first, *database.get("warnings", ()))))


class FilterModule:
    """Filters of infrazero.database."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """By name."""
        return {
            "batches": batches,
            "fleet_summary": fleet_summary,
            "fleet_table": fleet_table,
            "host_report": host_report,
        }
