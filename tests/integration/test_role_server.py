# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Effects of the role ``server`` on a running server.  ``molecule/server`` applies the whole role to real hosts."""

from __future__ import annotations

import json
import pathlib

import pytest

from tests.support.cluster import Cluster
from tests.support.controller import Controller, Run

PLAYBOOK = """\
- hosts: all
  gather_facts: false
  tasks:
    - ansible.builtin.include_role:
        name: infrazero.database.server
        tasks_from: "{{ item }}.yml"
      loop: [compare, ask, public]
"""


class Host:
    """A running server, and task files of the role."""

    def __init__(self, cluster: Cluster, directory: pathlib.Path, *, installed: bool) -> None:
        self.cluster = cluster
        self.mark = directory / "mark"
        self.playbook = directory / "public.yml"
        self.playbook.write_text(PLAYBOOK, encoding="utf-8")
        if installed:
            self.mark.touch()
        self.controller = Controller(directory / "controller", {})

    def run(self, *arguments: str) -> Run:
        given = {
            "__server_data": str(self.cluster.data_directory),
            "__server_installed_mark": str(self.mark),
            "__server_plan": {"major": "99", "listen_addresses": "*"},
            "__server_running": True,
            "__server_reloaded": {},
            "__server_after": {},
        }
        done = self.controller.play(str(self.playbook), *arguments, "--extra-vars", json.dumps(given))
        assert done.status == 0, done.output
        return done

    @property
    def open(self) -> str:
        """The databases to which every role can connect."""
        query = "SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_database"
        return self.cluster.psql(f"{query} WHERE datallowconn AND has_database_privilege('public', oid, 'CONNECT')")


def test_the_servers_own_databases_are_closed_to_public(fresh_cluster: Cluster, tmp_path: pathlib.Path) -> None:
    host = Host(fresh_cluster, tmp_path, installed=True)
    fresh_cluster.psql("CREATE ROLE monitoring")
    fresh_cluster.psql("GRANT CONNECT ON DATABASE postgres TO monitoring")
    fresh_cluster.psql("CREATE DATABASE others")
    before = host.open
    assert "postgres" in before and "template1" in before

    planned = host.run("--check")
    assert planned.changed == 1
    assert "Would take the privilege CONNECT from PUBLIC on: postgres, template1" in planned.output
    assert host.open == before

    assert host.run().changed == 1
    assert host.open == "others"
    assert fresh_cluster.psql("SELECT has_database_privilege('monitoring', 'postgres', 'CONNECT')") == "t"

    assert host.run().changed == 0
    assert host.run("--check").changed == 0


@pytest.mark.parametrize("arguments", [(), ("--check",)])
def test_a_server_of_somebody_elses_is_left_alone(
    cluster: Cluster, tmp_path: pathlib.Path, arguments: tuple[str, ...]
) -> None:
    host = Host(cluster, tmp_path, installed=False)
    before = host.open
    assert host.run(*arguments).changed == 0
    assert host.open == before
