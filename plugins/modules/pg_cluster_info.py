#!/usr/bin/python
# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_cluster_info
short_description: Say what a PostgreSQL cluster is, and what is recorded of its databases
version_added: 0.1.0
description:
  - Says whether a cluster is fresh, how far its bootstrap has come, which restores are outstanding, and what each
    database was restored from.
  - Reads the system catalogs and the schema C(infrazero) of O(maintenance_db). Works where nothing was ever recorded.
author:
  - The infrazero.database contributors (@infrazero)
extends_documentation_fragment:
  - infrazero.database.attributes
  - infrazero.database.attributes.actiongroup_all
  - infrazero.database.attributes.info_module
  - infrazero.database.profile
  - infrazero.database.connection
seealso:
  - module: infrazero.database.pg_db_bootstrap
  - module: infrazero.database.s3_manifest_restore
"""

EXAMPLES = r"""
- name: Look at the cluster of this host
  infrazero.database.pg_cluster_info:
  become: true
  become_user: postgres
  register: cluster

- name: Stop where databases still wait for their restore
  ansible.builtin.assert:
    that: cluster.outstanding | length == 0
    fail_msg: "To be restored: {{ cluster.outstanding | join(', ') }}"
"""

RETURN = r"""
system_identifier:
  description: What initdb named the cluster; only its physical copies have the same.
  returned: success
  type: str
  sample: "7445213980523423411"
server_version:
  description: Version of the server.
  returned: success
  type: str
  sample: "15.18"
server_version_num:
  description: Version of the server as a number.
  returned: success
  type: int
  sample: 150018
in_recovery:
  description: Whether the server is a standby, or still recovers.
  returned: success
  type: bool
  sample: false
fresh:
  description: Whether there is no database but the system's own, and no bootstrap was ever begun.
  returned: success
  type: bool
  sample: false
bootstrap:
  description: The bootstrap that began last.
  returned: success
  type: dict
  contains:
    state:
      description: V(none), V(unfinished) (to be resumed) or V(finished).
      type: str
      sample: finished
    host:
      description: Where it ran; null where there was none.
      type: str
      sample: db1
    started_at:
      description: When it began, UTC; null where there was none.
      type: str
      sample: "2026-01-31T03:20:00Z"
    finished_at:
      description: When it ended, UTC; null where it has not.
      type: str
      sample: "2026-01-31T03:24:10Z"
outstanding:
  description: Names of the databases that wait for their restore.
  returned: success
  type: list
  elements: str
  sample: []
databases:
  description: Every database but the system's own and those of RV(replaced) and RV(restores), by name; also one that is
    recorded and not there.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the database.
      type: str
      sample: shop
    exists:
      description: Whether it is there.
      type: bool
      sample: true
    restore:
      description:
        - What became of its restore - V(outstanding), V(restored), V(empty) (there was no backup) or V(skipped)
          (none was wanted).
        - Null where nothing is recorded of it.
      type: str
      sample: restored
    recorded_at:
      description: Since when that is so, UTC; null where nothing is recorded.
      type: str
      sample: "2026-01-31T03:23:55Z"
    restored_from:
      description: What it was restored from; null where it was not.
      type: dict
      contains:
        url:
          description: The dump.
          type: str
          sample: s3://db-backups/db/shop/20260130T032000Z.sql.gz.age
        key:
          description: Key of the dump.
          type: str
          sample: db/shop/20260130T032000Z.sql.gz.age
        sha256:
          description: SHA-256 of the encrypted object.
          type: str
          sample: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
        created_at:
          description: When the backup was made; null where nothing tells.
          type: str
          sample: "2026-01-30T03:20:00Z"
        manifest_sha256:
          description: SHA-256 of the backup's manifest; null where there was none.
          type: str
          sample: 60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752
        system_identifier:
          description: The cluster that the backup was made of; null where nothing tells.
          type: str
          sample: "7445213980523423000"
      sample:
        url: s3://db-backups/db/shop/20260130T032000Z.sql.gz.age
        key: db/shop/20260130T032000Z.sql.gz.age
        sha256: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
        created_at: "2026-01-30T03:20:00Z"
        manifest_sha256: 60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752
        system_identifier: "7445213980523423000"
replaced:
  description: Databases that a restore has replaced, and that are kept for a while.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: What the replaced database is called now.
      type: str
      sample: shop__replaced_5f2c9a01
    database:
      description: What it was called.
      type: str
      sample: shop
    replaced_at:
      description: When it was replaced, UTC.
      type: str
      sample: "2026-01-31T03:23:55Z"
    drop_after:
      description: When it may be dropped, UTC.
      type: str
      sample: "2026-02-01T03:23:55Z"
restores:
  description: Restores that have begun and not ended. One that nobody works on any more was killed.
  returned: success
  type: list
  elements: dict
  contains:
    id:
      description: Names the restore.
      type: str
      sample: 5f2c9a01
    database:
      description: The database to be restored.
      type: str
      sample: shop
    stage:
      description: The database that is filled.
      type: str
      sample: shop__restore_5f2c9a01
    role:
      description: The throwaway role that it is filled as.
      type: str
      sample: infrazero_restore_5f2c9a01
    started_at:
      description: When it began, UTC.
      type: str
      sample: "2026-01-31T03:23:05Z"
error:
  description: Why the module failed, with type, phase, message, cause and hint.
  returned: failure
  type: dict
  sample:
    type: ConnectionFailed
    phase: connect
    message: could not connect as 'postgres' to /var/run/postgresql, port 5432
    cause: No such file or directory
    hint: is the server running, and are the socket's directory and the port right?
"""

import contextlib
import dataclasses
import datetime
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import _ansible
from ..module_utils._engine.domain import records
from ..module_utils._engine.domain.databases import SYSTEM_DATABASES
from ..module_utils._engine.sources.postgresql import facts, state
from ..module_utils._engine.sources.postgresql.connection import connect

NAME = "pg_cluster_info"


def run(module: AnsibleModule) -> dict[str, t.Any]:
    """Look at the cluster; what exit_json takes comes back."""
    settings = _ansible.profile(module, NAME).connection()
    with contextlib.closing(connect(settings)) as conn:
        cluster = facts.cluster_facts(conn)
        replaced = state.replaced(conn)
        restores = state.restores(conn)
    system = SYSTEM_DATABASES | {settings.maintenance_database}
    apart = {record.name for record in replaced} | {record.stage for record in restores}
    names = (set(cluster.databases) | set(cluster.records)) - system - apart
    return {
        "changed": False,
        "system_identifier": cluster.system_identifier,
        "server_version": cluster.server_version,
        "server_version_num": cluster.server_version_num,
        "in_recovery": cluster.in_recovery,
        "fresh": cluster.fresh,
        "bootstrap": _bootstrap(cluster.bootstrap),
        "outstanding": list(cluster.outstanding),
        "databases": [
            {"name": name, "exists": name in cluster.databases, **_record(cluster.records.get(name))}
            for name in sorted(names)
        ],
        "replaced": [_plain(record) for record in replaced],
        "restores": [_plain(record) for record in restores],
    }


def _bootstrap(found: state.Bootstrap | None) -> dict[str, t.Any]:
    if found is None:
        return {"state": "none", "host": None, "started_at": None, "finished_at": None}
    return {
        "state": "unfinished" if found.finished_at is None else "finished",
        "host": found.host,
        "started_at": _moment(found.started_at),
        "finished_at": None if found.finished_at is None else _moment(found.finished_at),
    }


def _record(found: records.DatabaseRecord | None) -> dict[str, t.Any]:
    if found is None:
        return {"restore": None, "recorded_at": None, "restored_from": None}
    source = found.restored_from
    return {
        "restore": found.restore,
        "recorded_at": _moment(found.since),
        "restored_from": None if source is None else dataclasses.asdict(source),
    }


def _plain(record: state.ReplacedRecord | state.RestoreRecord) -> dict[str, t.Any]:
    fields = dataclasses.asdict(record)
    return {name: _moment(value) if isinstance(value, datetime.datetime) else value for name, value in fields.items()}


def _moment(moment: datetime.datetime) -> str:
    return moment.astimezone(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def main() -> t.NoReturn:
    """Entry point."""
    _ansible.run(_ansible.settings_of(NAME).module(supports_check_mode=True), run)


if __name__ == "__main__":
    main()
