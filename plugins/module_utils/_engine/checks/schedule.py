# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Checks of the schedule: cron or systemd starts backups of this configuration directory, and the last run was good."""

from __future__ import annotations

import contextlib
import datetime
import os
import pathlib
import re
import shlex
import typing as t

from ..domain import human
from ..domain.checks import CRITICAL, OK, WARNING, Check
from ..errors import ProcessFailed
from ..streams.process import child_environment, run

if t.TYPE_CHECKING:
    from .host import Host

AREA = "schedule"
_SCRIPT = re.compile(r"[^\s'\"]*backup\.sh\b")
#: What follows ``>>`` in a line of cron, or the property of a unit that names a log.
_LOG = re.compile(r"(?:>>\s*|StandardOutput=append:)([^\s;&|]+)")


def check(host: Host) -> t.Iterator[Check]:
    """What starts backups, and when it ran last."""
    found = False
    for path in _files(host.places.cron):
        lines = [line for line in _text(path).splitlines() if not line.lstrip().startswith("#")]
        for line in lines:
            if _runs_backups(line, host.directory):
                found = True
                yield from _cron(host, path, line)
    for path in sorted(pathlib.Path(host.places.units).glob("*.timer")):
        service = _text(path.with_suffix(".service"))
        if _runs_backups(service, host.directory):
            found = True
            yield from _timer(host, path, service)
    if not found:
        remedy = (
            "apply the role backup with backup_schedule_method cron or systemd, unless something else starts backups"
        )
        yield Check(AREA, "backups", WARNING, "no cron table and no timer starts backup.sh", remedy)


def _cron(host: Host, path: pathlib.Path, line: str) -> t.Iterator[Check]:
    if _cron_runs(pathlib.Path(host.places.processes)):
        yield Check(AREA, str(path), OK, "cron starts backups")
    else:
        yield Check(
            AREA, str(path), CRITICAL, "no cron is running, so no backup starts", "run: systemctl enable --now cron"
        )
    yield from _last(host, path, line)


def _cron_runs(processes: pathlib.Path) -> bool:
    """Whether root, or this user, runs cron: any other user can call a process so."""
    for comm in processes.glob("[0-9]*/comm"):
        with contextlib.suppress(OSError):  # it has ended
            if comm.stat().st_uid in (0, os.getuid()) and _text(comm).strip() in ("cron", "crond"):
                return True
    return False


def _timer(host: Host, path: pathlib.Path, service: str) -> t.Iterator[Check]:
    if not pathlib.Path(host.places.systemd).exists():
        yield Check(AREA, path.name, CRITICAL, "systemd does not run this host", "use backup_schedule_method: cron")
        return
    timer = _properties(path.name, "ActiveState", "UnitFileState")
    work = _properties(path.with_suffix(".service").name, "Result", "ExecMainStatus")
    if timer.get("ActiveState") != "active" or timer.get("UnitFileState") != "enabled":
        seen = f"it is {timer.get('ActiveState')} and {timer.get('UnitFileState')}"
        yield Check(AREA, path.name, CRITICAL, seen, f"run: systemctl enable --now {path.name}")
    elif work.get("Result") not in ("success", ""):
        seen = f"its last run ended with status {work.get('ExecMainStatus')} ({work.get('Result')})"
        yield Check(AREA, path.name, CRITICAL, seen, f"run: journalctl -u {path.stem}.service, and look at its log")
    else:
        yield Check(AREA, path.name, OK, "the timer is active and enabled")
    yield from _last(host, path, service)


def _last(host: Host, path: pathlib.Path, text: str) -> t.Iterator[Check]:
    """When a run last wrote to its log; the age of the backups themselves is another check."""
    match = _LOG.search(text)
    if match is None:
        return
    log = pathlib.Path(match[1].replace("\\%", "%").replace("%%", "%").strip("'\""))
    try:
        status = log.stat()
    except OSError:
        return
    if not status.st_size:
        yield Check(AREA, f"{path.name}: last run", OK, f"none since {log} was created or rotated")
        return
    age = host.now - datetime.datetime.fromtimestamp(status.st_mtime, datetime.timezone.utc)
    yield Check(AREA, f"{path.name}: last run", OK, f"{human.age(age.total_seconds())} ({log})")


def _runs_backups(text: str, directory: pathlib.Path) -> bool:
    """Whether *text* starts a script that backs up the databases of *directory*."""
    scripts = (pathlib.Path(match[0]) for match in _SCRIPT.finditer(text))
    return any(str(directory) in _words(_text(script)) for script in scripts)


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text, comments=True)
    except ValueError:
        return text.split()


def _properties(unit: str, *names: str) -> dict[str, str]:
    argv = ["systemctl", "show", unit, f"--property={','.join(names)}"]
    try:
        shown = run(argv, phase="schedule", environment=child_environment())
    except ProcessFailed:
        return {}
    return dict(line.split("=", 1) for line in shown.decode("utf-8", "replace").splitlines() if "=" in line)


def _files(places: t.Sequence[str]) -> t.Iterator[pathlib.Path]:
    for place in map(pathlib.Path, places):
        yield from sorted(place.iterdir()) if place.is_dir() and os.access(place, os.R_OK) else [place]


def _text(path: pathlib.Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
