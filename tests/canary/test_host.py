# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The life of a host by the real playbooks and the commands on it: bootstrapped, backed up, restored, in vain too."""

from __future__ import annotations

import json
import os
import typing as t

import pyrage
import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.databases import Database
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.secret import Secret

from tests.support import scene
from tests.support.controller import Run
from tests.support.host import Host, as_json, b64, new_host

from . import canaries, surfaces
from .canaries import Flock
from .watch import Watch

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="roles install as root and step down")


def entry(flock: Flock, name: str) -> Database:
    database = scene.entry(name, password=Secret(flock.add(canaries.text(f"password of {name}")).text))
    flock.add(canaries.of_identity(f"private key of {name}", database.identity.reveal()))
    return database


def in_inventory(host: Host) -> list[dict[str, t.Any]]:
    """The list as an inventory has it: Ansible takes no part of a password for a template."""
    return [
        as_json(database, password="{% raw %}" + database.password.reveal() + "{% endraw %}")
        for database in host.databases
    ]


def add_what_the_host_made(host: Host, flock: Flock) -> None:
    """Secrets that nobody brought."""
    for database in host.databases:
        verifier = host.cluster.psql(f"SELECT rolpassword FROM pg_authid WHERE rolname = '{database.user}'")
        flock.add(canaries.whole(f"verifier of {database.user}", verifier.rpartition("$")[2]))
    signing = host.root / "etc" / "signing" / "id_ed25519"
    if signing.exists():
        flock.add(canaries.of_signing_key("signing key", signing))


def test_the_life_of_a_host() -> None:
    flock = Flock()
    app, shop = entry(flock, "app"), entry(flock, "shop")
    nobody = flock.add(canaries.identity("private key of nobody"))
    key = app.identity.reveal()
    with new_host(app, shop, configuration=surfaces.TALKATIVE) as host:
        flock.add(canaries.whole("S3 secret key", host.server.secret_key))
        host.cluster.psql("CREATE EXTENSION pg_stat_statements")
        controller = host.controller()

        def play(watch: Watch, playbook: str, *arguments: str, expected: int = 0, **options: t.Any) -> Run:
            run = controller.play(playbook, "-vvvv", "--diff", *arguments, **options)
            watch.output(f"output of {playbook}", run.output)
            assert (run.status != 0) is (expected != 0), run.output[-4000:]
            return run

        # Programs that live too short to be seen: they tell by themselves what they were given.
        heard = host.root / "heard"
        talkative = host.root / "talkative"
        talkative.mkdir()
        heard.mkdir(mode=0o777)
        heard.chmod(0o777)
        for program in ("mktemp", "mkfifo", "rm", "id", "runuser"):
            path = talkative / program
            path.write_text(
                f'#!/bin/sh\n{{ echo "$0 $*"; tr "\\0" "\\n" </proc/self/environ; }} >>{heard}/{program}\n'
                f'PATH={os.defpath}:/usr/sbin:/sbin exec {program} "$@"\n',
                encoding="utf-8",
            )
            path.chmod(0o755)

        def command(watch: Watch, name: str, *arguments: str, expected: int = 0, **switches: str) -> None:
            done = host.script(name, *arguments, path=f"{talkative}:{os.defpath}", **switches)
            watch.output(f"output of {name}", done.stdout + done.stderr)
            assert done.returncode == expected, done.stdout + done.stderr

        with Watch(host.server.pid, log=False) as watch:
            play(watch, "bootstrap", environment=host.bring_private_list([as_json(app), as_json(shop)]))
            add_what_the_host_made(host, flock)
            for database in (app, shop):
                scene.fill(host.cluster, database)
            command(watch, "backup.sh", "--json")
            command(watch, "backup.sh", "--database", "nobody", expected=2)
            command(watch, "restore.sh", "app", "db/app/", "--dry-run", AGE_PRIVATE_KEY=key)
            command(watch, "restore.sh", "app", "db/app/", "--json", AGE_PRIVATE_KEY=key)
            command(watch, "restore.sh", "app", "db/app/", AGE_PRIVATE_KEY=nobody.text, expected=1)
            command(watch, "restore.sh", "app", "db/none/", "--json", AGE_PRIVATE_KEY=key, expected=1)
            given = {"infrazero_databases": in_inventory(host)}
            restore = ["--extra-vars", "confirm=yes database=app from=db/app/"]
            play(watch, "restore", *restore, age_private_key=nobody.text, expected=2, **given)
            play(watch, "restore", *restore, **given)
            found = watch.leaks(flock, host.cluster, host.root)
        assert watch.processes.sweeps > 100
        assert {path.name for path in heard.iterdir()} == {"mktemp", "mkfifo", "rm", "id", "runuser"}
        assert not found, "\n".join(map(str, found))
        assert_no_private_list_is_left(host)


def assert_no_private_list_is_left(host: Host) -> None:
    """The first boot's own files have lost it: they were searched above, but must be there to prove anything."""
    listed = b64([as_json(database) for database in host.databases])
    for path in (host.run_script, host.user_data):
        assert path.exists() and listed not in path.read_text(encoding="utf-8")


def test_a_list_with_secrets_in_wrong_fields() -> None:
    """A bootstrap that fails at its list tells every fault, and no value."""
    flock = Flock()
    app = entry(flock, "app")
    stray = flock.add(canaries.identity("private key of a stray"))
    with new_host(app) as host:
        entries = [
            as_json(app, backup_age_public_key=stray.text),
            as_json(app, name="other", backup_age_private_key=str(pyrage.x25519.Identity.generate())),
            as_json(app, name=stray.text),
            as_json(app, password=[stray.text]),
        ]
        with Watch(host.server.pid, log=False) as watch:
            run = host.controller().play(
                "bootstrap", "-vvvv", "--check", "--diff", environment=host.bring_private_list(entries)
            )
            watch.output("output of bootstrap", run.output)
            found = watch.leaks(flock, None, host.root / "controller", host.root / "opt")
        assert run.status != 0 and "entry 1 (app), backup_age_public_key: contains a private key" in run.output
        assert not found, json.dumps([str(hit) for hit in found], indent=1)
