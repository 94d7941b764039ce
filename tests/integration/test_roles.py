# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The roles and playbooks on this machine, with everything that they install in a directory: the life of a host.

The tests follow each other as the chapters of that life do: bootstrapped, backed up, restored, lost, brought back.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import pathlib
import pty
import subprocess
import time
import typing as t

import pyrage
import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain import trust

from tests.support import scene
from tests.support.cluster import wait_until
from tests.support.controller import Run
from tests.support.host import NAME, Host, as_json, b64, new_host
from tests.support.remotetasks import RemoteTasks

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="roles install as root and step down")

OTHER_KEY = str(pyrage.x25519.Identity.generate())


@pytest.fixture(scope="module")
def host() -> t.Iterator[Host]:
    with new_host(scene.entry("app"), scene.entry("shop")) as running:
        yield running


def good(run: Run) -> Run:
    assert run.status == 0, run.output
    return run


def failed(run: Run) -> str:
    assert run.status != 0, run.output
    return " ".join(run.output.split())


def secrets(host: Host, *, private_only: bool = False) -> list[str]:
    found = [database.identity.reveal() for database in host.databases]
    found.append(b64(host.entries))
    if not private_only:
        found += [database.password.reveal() for database in host.databases]
        found.append(host.server.secret_key)
    return found


def assert_no_private_keys(host: Host) -> None:
    """No file of the host holds a private key, as it is or in base64."""
    for path in host.root.rglob("*"):
        if path.is_file() and "controller" not in path.parts and "s3" not in path.parts:
            data = path.read_bytes()
            for secret in secrets(host, private_only=True):
                assert secret.encode() not in data, path
    assert f'export {NAME}=""\n' in host.run_script.read_text(encoding="utf-8")
    content = host.user_data.read_text(encoding="utf-8").split("content: ")[1]
    assert base64.b64decode(content).decode() == host.run_script.read_text(encoding="utf-8")


# A first boot ---------------------------------------------------------------------------------------------------------


def test_check_mode_on_a_host_without_anything(host: Host) -> None:
    environment = host.bring_private_list(host.entries)
    before = sorted(host.root.rglob("*"))
    run = good(host.controller().play("bootstrap", "--check", "--diff", "-vvvv", environment=environment))
    assert "app, shop" in run.output
    assert [path for path in sorted(host.root.rglob("*")) if "controller" not in path.parts] == before
    assert host.names() == {"postgres", "template0", "template1"}
    assert not [secret for secret in secrets(host) if secret in run.output]


def test_bootstrap(host: Host) -> None:
    environment = host.bring_private_list(host.entries)
    run = good(host.controller().play("bootstrap", "--diff", "-vvvv", environment=environment))
    for line in ("app is empty, there is no backup of it", "restored=0 empty=2 skipped=0 failed=0"):
        assert line in run.output
    assert {"app", "shop"} < host.names()
    assert_no_private_keys(host)
    assert host.run_script.stat().st_mode & 0o777 == 0o700
    assert not [secret for secret in secrets(host) if secret in run.output]
    log = host.root / "backup 100%.log"
    assert (log.owner(), log.group(), log.stat().st_mode & 0o777) == ("postgres", "adm", 0o640)
    key = host.root / "etc" / "signing" / "id_ed25519"
    assert (key.owner(), key.stat().st_mode & 0o777, key.parent.stat().st_mode & 0o777) == ("postgres", 0o600, 0o700)
    line = trust.signers_line("host", " ".join(key.with_suffix(".pub").read_text().split()[:2]))
    for path in (host.gathered_signers, host.root / "etc" / "allowed_signers"):
        lines = path.read_text(encoding="utf-8").splitlines()
        assert [each for each in lines if not each.startswith("#")] == [line]


def test_a_second_run_changes_nothing(host: Host) -> None:
    for mode in ([], ["--check"]):
        run = good(host.controller().play("bootstrap", *mode, infrazero_databases=host.entries))
        assert run.changed == 0, run.output


def test_a_run_that_changes_nothing_asks_the_host_once(host: Host) -> None:
    """Each task on a host takes a fifth of a second, however little it does."""
    remote = RemoteTasks(host.root / "remote tasks")
    for mode in ([], ["--check"]):
        remote.path.unlink(missing_ok=True)
        environment = remote.environment
        run = host.controller().play("bootstrap", *mode, environment=environment, infrazero_databases=host.entries)
        assert good(run).changed == 0
        assert remote.modules("host") == [
            "raw",
            "host_info",
            "pg_db_bootstrap",
            "store_probe",
            "age_backup",
            "secret_scrub",
        ]


def test_what_somebody_has_changed_is_corrected(host: Host) -> None:
    """All of it, and nothing else."""
    changes: list[t.Callable[[], object]] = [
        lambda: (host.root / "etc" / "db.env").chmod(0o640),
        (host.root / "etc" / "allowed_signers").unlink,
        lambda: (host.root / "etc" / "signing").chmod(0o755),
        lambda: (host.root / "etc" / "signing" / "id_ed25519").chmod(0o640),
        lambda: os.lchown(host.prefix / "lib", 1, 1),
        lambda: os.lchown(host.prefix / "venv", 1, 1),
        lambda: (host.prefix / "backup.sh").write_text("#!/bin/sh\n", encoding="utf-8"),
        lambda: (host.prefix / "restore.sh").chmod(0o700),
        host.command.unlink,
        host.cron_table.unlink,
        lambda: (host.root / "logrotate.d" / host.cron_table.name).write_text("", encoding="utf-8"),
        lambda: (host.root / "backup 100%.log").chmod(0o644),
    ]
    for change in changes:
        change()
    for mode in (["--check"], []):
        run = good(host.controller().play("bootstrap", *mode, infrazero_databases=host.entries))
        assert run.changed == len(changes), run.output
    assert good(host.controller().play("bootstrap", infrazero_databases=host.entries)).changed == 0
    assert os.lstat(host.prefix / "lib").st_uid == os.lstat(host.prefix / "venv").st_uid == 0


def test_the_cron_table_runs_the_backup(host: Host) -> None:
    """Its last line, read as cron does: what stands before an unescaped percent sign, without the backslashes."""
    for database in host.databases:
        scene.fill(host.cluster, database)
    line = host.cron_table.read_text(encoding="utf-8").splitlines()[-1]
    assert line.startswith("20 3 * * * postgres /")
    command = line.split(None, 6 - 1)[5].partition("postgres ")[2].replace("\\%", "%")
    done = subprocess.run(
        ["/bin/sh", "-c", command], user="postgres", group="postgres", check=False, capture_output=True
    )
    log = (host.root / "backup 100%.log").read_text(encoding="utf-8")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b""), log
    assert "2 databases backed up" in log


def test_backup_script(host: Host) -> None:
    time.sleep(1)  # a run's timestamp has whole seconds, and the test before has just made a backup
    done = host.script("backup.sh", "--database", "app", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert [one["status"] for one in json.loads(done.stdout)["databases"]] == ["backed_up"]
    assert host.script("backup.sh", "--help").returncode == 0
    done = host.script("backup.sh", "--database", "nobody's")
    assert done.returncode == 2
    assert "not in the databases list" in done.stderr


def test_the_command_is_on_the_path(host: Host) -> None:
    def run(*arguments: str, user: str | None = None, **switches: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["infrazero-database", *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            user=user,
            group=user,
            extra_groups=[] if user else None,
            env={"PATH": f"{host.command.parent}:{os.defpath}", **switches},
        )

    assert (host.command.owner(), host.command.stat().st_mode & 0o777) == ("root", 0o755)
    assert "backup" in run("--help").stdout
    for user in (None, "postgres"):
        done = run("backup", "--dry-run", "--json", user=user)
        assert done.returncode == 0, done.stdout + done.stderr
        assert {one["database"] for one in json.loads(done.stdout)["databases"]} == {"app", "shop"}
    assert "No such file" in run("backup", "--config", "/nonexistent").stderr
    done = run(
        "restore", "app", "db/app/", "--dry-run", DB_RESTORE_AGE_PRIVATE_KEY=host.entries[0]["backup_age_private_key"]
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert run().returncode == 2


def test_backup_playbook(host: Host) -> None:
    run = good(host.controller().play("backup", infrazero_databases=host.entries))
    assert "backed_up=2 failed=0" in run.output
    assert "no list of databases" in failed(host.controller().play("backup"))


# restore.sh -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "switches", "says"),
    [
        ([], {}, "the following arguments are required: DATABASE, SOURCE"),
        (["app"], {}, "the following arguments are required: SOURCE"),
        (["nobody", "db/app/"], {"AGE_PRIVATE_KEY": OTHER_KEY}, "not in the databases list"),
        (["app", "db/app/"], {}, "no age private key was given"),
        (["app", "db/app/"], {"NON_INTERACTIVE": "true"}, "no age private key was given"),
        (["app", "db/app/"], {"AGE_PRIVATE_KEY": "x" * 40000}, "too long"),
        (["app", "db/app/"], {"AGE_PRIVATE_KEY": "not a key"}, "not an age identity"),
        (["app", "db/app/"], {"AGE_PRIVATE_KEY": OTHER_KEY}, "the given age private key does not open s3://"),
        (["app", "db/app/"], {"ROLE_MAP": "old"}, "DB_RESTORE_ROLE_MAP"),
        (["app", "db/app/none.sql.gz.age"], {"AGE_PRIVATE_KEY": OTHER_KEY}, "db/app/none.sql.gz.age"),
    ],
)
def test_restore_script_refuses(host: Host, arguments: list[str], switches: dict[str, str], says: str) -> None:
    before = host.rows()
    done = host.script("restore.sh", *arguments, **switches)
    assert done.returncode in (1, 2)
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert switches.get("AGE_PRIVATE_KEY", "no key") not in done.stdout + done.stderr
    assert host.rows() == before


def test_restore_script(host: Host) -> None:
    before = host.rows()
    scene.rows(host.cluster, host.databases[0])
    host.cluster.psql("DROP SCHEMA public CASCADE", "app")
    done = host.script("restore.sh", "app", "db/app/", AGE_PRIVATE_KEY=host.databases[0].identity.reveal())
    assert done.returncode == 0, done.stdout + done.stderr
    assert host.rows() == before


def test_restore_script_asks_on_a_terminal(host: Host) -> None:
    before = host.rows()
    ours, theirs = pty.openpty()
    shown = b""
    with os.fdopen(ours, "r+b", buffering=0) as terminal:
        process = subprocess.Popen(
            ["setsid", "--ctty", "--wait", str(host.prefix / "restore.sh"), "app", "db/app/"],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={"PATH": os.defpath, "TERM": "dumb"},
        )
        os.close(theirs)
        while b"private key" not in shown:
            shown += terminal.read(4096)
        terminal.write(host.databases[0].identity.reveal().encode() + b"\n")
        while b"Type yes to continue" not in shown:
            shown += terminal.read(4096)
        terminal.write(b"yes\n")
        try:
            while chunk := terminal.read(4096):
                shown += chunk
        except OSError:  # how Linux says that nobody has the terminal open any more
            pass
        assert process.wait() == 0, shown.decode()
    assert host.databases[0].identity.reveal().encode() not in shown
    assert host.rows() == before


def test_the_key_is_in_no_process(host: Host) -> None:
    """While the engine runs, in its place a program that waits: no argument, no environment of anything has the key."""
    stand_in = host.root / "stand-in"
    (stand_in / "venv" / "bin").mkdir(parents=True)
    stand_in.chmod(0o777)
    seen, environment, go = stand_in / "seen", stand_in / "environment", stand_in / "go"
    program = stand_in / "venv" / "bin" / "python"
    program.write_text(
        '#!/bin/sh\n[ "$DB_RESTORE_SKIP_ACL" = false ] || exit 9\n'
        f"env >{environment}\n{{ id -un; cat <&3; }} >{seen}.new\nmv {seen}.new {seen}\n"
        f"until [ -e {go} ]; do sleep 0.02; done\n"
    )
    program.chmod(0o755)
    script = stand_in / "restore.sh"
    script.write_text((host.prefix / "restore.sh").read_text().replace(str(host.prefix), str(stand_in)))
    script.chmod(0o755)
    key = str(pyrage.x25519.Identity.generate())
    process = subprocess.Popen(
        [str(script), "app", "db/app/"],
        env={"PATH": os.defpath, "DB_RESTORE_AGE_PRIVATE_KEY": key, "DB_RESTORE_SKIP_ACL": "false"},
        stdin=subprocess.DEVNULL,
    )
    try:
        wait_until(seen.exists)
        assert seen.read_text() == f"postgres\n{key}\n"
        assert key not in environment.read_text()
        assert f"HOME={pathlib.Path('~postgres').expanduser()}\n" in environment.read_text()
        assert key.encode() not in pathlib.Path(f"/proc/{process.pid}/environ").read_bytes()
        for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                assert key.encode() not in path.read_bytes(), path
        assert not [path for path in pathlib.Path("/tmp").glob("tmp.*/key") if path.is_fifo()]
    finally:
        go.touch()
        assert process.wait() == 0


# The playbook restore -------------------------------------------------------------------------------------------------

RESTORE = ["--extra-vars", "database=app from=db/app/"]


@pytest.mark.parametrize(
    ("arguments", "hosts", "says"),
    [
        ([], ["host"], "Nothing to restore was given: add -e database=NAME -e from=SOURCE"),
        (["--extra-vars", "database=app"], ["host"], "Nothing to restore was given"),
        (["--extra-vars", "database=nobody from=db/app/"], ["host"], "has no entry for nobody"),
        (RESTORE, ["host", "other"], "This would restore on 2 hosts"),
        (RESTORE, ["host"], "The restore was not confirmed; nothing has changed"),
        (["--extra-vars", "database=app from=db/none/"], ["host"], "db/none/latest-dump.json"),
    ],
)
def test_restore_playbook_refuses(host: Host, arguments: list[str], hosts: list[str], says: str) -> None:
    before = host.cluster.psql("SELECT oid FROM pg_database WHERE datname = 'app'")
    run = host.controller().play("restore", *arguments, hosts=hosts, infrazero_databases=host.entries)
    assert says in failed(run)
    assert host.cluster.psql("SELECT oid FROM pg_database WHERE datname = 'app'") == before


def test_restore_playbook(host: Host) -> None:
    before = host.rows()
    oid = host.cluster.psql("SELECT oid FROM pg_database WHERE datname = 'app'")
    arguments = [*RESTORE, "--extra-vars", "confirm=yes", "-vvvv"]
    run = good(host.controller().play("restore", "--check", *arguments, infrazero_databases=host.entries))
    assert "replaces:  a database owned by app" in run.output
    assert host.cluster.psql("SELECT oid FROM pg_database WHERE datname = 'app'") == oid
    run = good(host.controller().play("restore", *arguments, infrazero_databases=host.entries))
    assert "restored=1 empty=0 skipped=0 failed=0" in run.output
    assert not [secret for secret in secrets(host) if secret in run.output]
    assert host.cluster.psql("SELECT oid FROM pg_database WHERE datname = 'app'") != oid
    assert host.rows() == before


def test_restore_playbook_beside_the_database_and_back_again(host: Host) -> None:
    def played(variables: str, *more: str) -> Run:
        arguments = ["--extra-vars", f"database=app confirm=yes {variables}", *more]
        return good(host.controller().play("restore", *arguments, infrazero_databases=host.entries))

    oid = "SELECT oid FROM pg_database WHERE datname = 'app'"
    before = host.cluster.psql(oid)
    run = played("from=db/app/ as=app_check drop_after=2", "--check", "--diff")
    assert "app, beside it as app_check, owned by app" in run.output and "replaces:  nothing" in run.output
    played("from=db/app/ as=app_check drop_after=2")
    assert (
        host.cluster.psql("SELECT drop_after - created_at FROM infrazero.copy WHERE name = 'app_check'") == "02:00:00"
    )
    assert host.cluster.psql(oid) == before
    twice = ["--extra-vars", "database=app from=db/app/ undo=true"]
    assert "exclude each other" in failed(host.controller().play("restore", *twice, infrazero_databases=host.entries))

    # What has no table is not kept.
    host.cluster.psql("CREATE TABLE public.later (id int)", "app")
    played("from=db/app/")
    assert host.cluster.psql(oid) != before
    run = played("undo=true", "--check", "--diff")
    assert "comes back: app__replaced_" in run.output and "put aside:  a database owned by app" in run.output
    assert host.cluster.psql(oid) != before
    assert "undone=1 failed=0" in played("undo=true").output
    assert host.cluster.psql(oid) == before
    assert "app__replaced_" in played("drop_replaced=all", "--check").output
    assert "dropped=1 nothing=0 failed=0" in played("drop_replaced=all").output
    assert "dropped=0 nothing=1 failed=0" in played("drop_replaced=all").output
    host.cluster.psql("DROP TABLE public.later", "app")
    host.cluster.psql("DROP DATABASE app_check")
    assert host.cluster.psql("SELECT count(*) FROM pg_database WHERE datname LIKE 'app%'") == "1"


# Lost, and brought back -----------------------------------------------------------------------------------------------


def test_a_failed_restore_is_named_scrubbed_and_resumed_and_the_others_are_backed_up(host: Host) -> None:
    before = host.rows()
    host.cluster.destroy()
    host.cluster.start()
    host.cron_table.unlink()
    rotated = scene.entry("shop")
    entries = [as_json(host.databases[0]), as_json(rotated)]
    environment = host.bring_private_list(entries)
    said = failed(host.controller().play("bootstrap", environment=environment))
    assert "restored=1 empty=0 skipped=0 failed=1 (shop)" in said
    assert b64(entries) not in host.run_script.read_text(encoding="utf-8")
    assert f'export {NAME}=""\n' in host.run_script.read_text(encoding="utf-8")
    # Scheduled before the restores, which may take days or be interrupted.
    assert said.index("Write the cron table") < said.index("Restore the databases whose restore is outstanding")
    assert host.cron_table.exists()
    for _night in range(2):
        done = host.script("backup.sh")
        assert done.returncode == 1
        assert "the restore of 'shop' is outstanding" in done.stderr and "restore.sh shop db/shop/" in done.stderr
        assert "app: backed up as db/app/" in done.stdout

    environment = host.bring_private_list(host.entries)
    run = good(host.controller().play("bootstrap", environment=environment))
    assert "restored=1 empty=0 skipped=0 failed=0" in run.output
    assert_no_private_keys(host)
    assert host.cron_table.exists()
    assert host.rows() == before


def test_the_roles_of_a_lost_cluster_come_back(host: Host) -> None:
    key = scene.entry("cluster")
    assert key.identity is not None
    secret = key.identity.reveal()
    host.cluster.psql("CREATE ROLE reporting; GRANT reporting TO app; ALTER ROLE app SET work_mem = '7MB'")
    host.cluster.psql("CREATE TABLE public.granted (); GRANT SELECT ON public.granted TO reporting", "app")
    variables = {"infrazero_cluster_age_public_keys": list(key.recipients)}
    run = good(host.controller().play("backup", infrazero_databases=host.entries, **variables))
    assert "cluster globals" in run.output
    before = host.rows()
    host.cluster.destroy()
    host.cluster.start()

    environment = {**host.bring_private_list(host.entries), "CLUSTER_AGE_PRIVATE_KEY": secret}
    with host.run_script.open("a", encoding="utf-8") as script:
        script.write(f"export CLUSTER_AGE_PRIVATE_KEY={secret} # of the cluster\n")
    run = good(host.controller().play("bootstrap", "--diff", "-vvvv", environment=environment, **variables))
    assert "restored=2 empty=0 skipped=0 failed=0" in run.output
    assert "role 'reporting': absent" in run.output
    assert secret not in run.output
    assert host.run_script.read_text(encoding="utf-8").endswith('export CLUSTER_AGE_PRIVATE_KEY=""\n')
    assert host.cluster.psql("SELECT pg_has_role('app', 'reporting', 'MEMBER')") == "t"
    assert host.cluster.psql("SELECT rolconfig FROM pg_roles WHERE rolname = 'app'") == "{work_mem=7MB}"
    # The role was there when the database was restored.
    assert host.cluster.psql("SELECT has_table_privilege('reporting', 'public.granted', 'SELECT')", "app") == "t"
    assert host.rows() == before
    # The host backs them up from now on, after the backup that it was restored from.
    done = host.script("backup.sh")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "2 databases and the cluster globals backed up"
    again = {"infrazero_cluster_age_private_key": secret, **variables}
    assert good(host.controller().play("bootstrap", infrazero_databases=host.entries, **again)).changed == 0


def test_a_list_with_faults_changes_nothing_and_is_scrubbed(host: Host) -> None:
    entries = [as_json(host.databases[0], name="a b", user=""), as_json(host.databases[1], password=None)]
    environment = host.bring_private_list(entries)
    before = sorted((host.prefix).rglob("*"))
    said = failed(host.controller().play("bootstrap", "-vvvv", environment=environment))
    for fault in (
        "entry 1 (a b), name: contains whitespace",
        "entry 1 (a b), user: is empty",
        "entry 2 (shop), password: is missing",
    ):
        assert fault in said
    assert sorted((host.prefix).rglob("*")) == before
    assert f'export {NAME}=""\n' in host.run_script.read_text(encoding="utf-8")
    assert not [secret for secret in secrets(host) if secret in said]


# The roles by themselves ----------------------------------------------------------------------------------------------


def test_roles_alone_and_no_schedule(host: Host) -> None:
    playbook = host.root / "roles.yml"
    play = {"hosts": "all", "gather_facts": False, "roles": ["infrazero.database.backup", "infrazero.database.restore"]}
    playbook.write_text(json.dumps([play]), encoding="utf-8")
    variables = {"infrazero_databases": host.entries, "backup_schedule_method": "none"}
    good(host.controller().play(str(playbook), **variables))
    assert not host.cron_table.exists()
    assert good(host.controller().play(str(playbook), **variables)).changed == 0


@pytest.mark.parametrize("schedule", ["20 3 * *", "20 3 * * * root reboot", "20 3 * * *\n* * * * * root reboot", "3am"])
def test_a_schedule_that_cron_cannot_read(host: Host, schedule: str) -> None:
    playbook = host.root / "schedule.yml"
    play = {"hosts": "all", "gather_facts": False, "roles": ["infrazero.database.backup"]}
    playbook.write_text(json.dumps([play]), encoding="utf-8")
    run = host.controller().play(str(playbook), backup_cron_schedule=schedule, infrazero_databases=host.entries)
    assert "invalid backup_cron_schedule" in failed(run)
