# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import datetime
import os
import pathlib

import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine.checks import schedule
from ansible_collections.infrazero.database.plugins.module_utils._engine.checks.host import Host, Places
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.checks import CRITICAL, OK, WARNING

NOW = datetime.datetime.now(datetime.timezone.utc)


@pytest.fixture
def host(tmp_path: pathlib.Path) -> Host:
    for name in ("cron.d", "units", "proc/7", "opt", "etc"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "proc/7/comm").write_text("cron\n")
    (tmp_path / "opt/backup.sh").write_text(
        f'#!/bin/sh\n# Backs up every database.\nset -- python -m cli \\\n    backup --config {tmp_path}/etc "$@"\n'
    )
    places = Places(
        cron=(f"{tmp_path}/crontab", f"{tmp_path}/cron.d"),
        units=f"{tmp_path}/units",
        processes=f"{tmp_path}/proc",
        systemd=f"{tmp_path}/systemd",
    )
    return Host(tmp_path / "etc", places=places, now=NOW)


def write_table(tmp_path: pathlib.Path, line: str) -> pathlib.Path:
    path = tmp_path / "cron.d" / "infrazero-db-backup"
    path.write_text(line + "\n")
    return path


def test_nothing_starts_backups(host: Host) -> None:
    assert [one.severity for one in schedule.check(host)] == [WARNING]


def test_cron_starts_backups(host: Host, tmp_path: pathlib.Path) -> None:
    log = tmp_path / "backup.log"
    path = write_table(tmp_path, f"20 3 * * * postgres {tmp_path}/opt/backup.sh >>{log} 2>&1 || echo failed")
    one, *none = schedule.check(host)
    assert (one.subject, one.severity, none) == (str(path), OK, [])
    log.write_text("")
    assert "none since" in list(schedule.check(host))[1].seen
    log.write_text("1 database backed up\n")
    os.utime(log, (NOW.timestamp(), NOW.timestamp()))
    assert "just now" in list(schedule.check(host))[1].seen


@pytest.mark.parametrize("line", ["# 20 3 * * * postgres {script}", "20 3 * * * root /usr/local/bin/backup.sh"])
def test_what_does_not_start_them_is_not_a_schedule(host: Host, tmp_path: pathlib.Path, line: str) -> None:
    write_table(tmp_path, line.format(script=tmp_path / "opt/backup.sh"))
    assert [one.severity for one in schedule.check(host)] == [WARNING]


def test_the_schedule_of_another_profile_is_not_this_ones(host: Host, tmp_path: pathlib.Path) -> None:
    write_table(tmp_path, f"20 3 * * * postgres {tmp_path}/opt/backup.sh")
    other = Host(tmp_path / "other", places=host.places, now=NOW)
    assert [one.severity for one in schedule.check(other)] == [WARNING]


def test_without_cron_no_table_is_obeyed(host: Host, tmp_path: pathlib.Path) -> None:
    write_table(tmp_path, f"20 3 * * * postgres {tmp_path}/opt/backup.sh")
    (tmp_path / "proc/7/comm").write_text("sshd\n")
    assert next(schedule.check(host)).severity == CRITICAL


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives files away")
def test_another_users_cron_is_none(host: Host, tmp_path: pathlib.Path) -> None:
    write_table(tmp_path, f"20 3 * * * postgres {tmp_path}/opt/backup.sh")
    os.chown(tmp_path / "proc/7/comm", 1, 1)
    assert next(schedule.check(host)).severity == CRITICAL


TIMER = """
if [ "$2" = infrazero-db-backup.timer ]; then
    echo ActiveState={active}
    echo UnitFileState={enabled}
else
    echo Result={result}
    echo ExecMainStatus=1
fi
"""


@pytest.mark.parametrize(
    ("active", "enabled", "result", "severity"),
    [
        ("active", "enabled", "success", OK),
        ("inactive", "enabled", "success", CRITICAL),
        ("active", "disabled", "success", CRITICAL),
        ("active", "enabled", "exit-code", CRITICAL),
    ],
)
def test_a_timer_is_asked(
    host: Host,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    active: str,
    enabled: str,
    result: str,
    severity: str,
) -> None:
    (tmp_path / "systemd").mkdir()
    (tmp_path / "units/infrazero-db-backup.timer").write_text("[Timer]\nOnCalendar=daily\n")
    (tmp_path / "units/infrazero-db-backup.service").write_text(f'[Service]\nExecStart="{tmp_path}/opt/backup.sh"\n')
    program = tmp_path / "bin" / "systemctl"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n" + TIMER.format(active=active, enabled=enabled, result=result))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    assert [one.severity for one in schedule.check(host)] == [severity]


def test_a_timer_without_systemd_starts_nothing(host: Host, tmp_path: pathlib.Path) -> None:
    (tmp_path / "units/infrazero-db-backup.timer").write_text("")
    (tmp_path / "units/infrazero-db-backup.service").write_text(f'ExecStart="{tmp_path}/opt/backup.sh"\n')
    assert [one.severity for one in schedule.check(host)] == [CRITICAL]
