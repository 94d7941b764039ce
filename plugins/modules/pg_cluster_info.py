#!/usr/bin/python
# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_cluster_info
short_description: Gather facts about a PostgreSQL cluster and its databases
version_added: 0.1.0
description:
  - Reports whether a cluster is fresh, the state of its bootstrap, which restores are outstanding, and what each
    database was restored from.
  - Reads the system catalogs and the schema C(infrazero) of O(maintenance_db). Also works on a cluster without any
    records.
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
- name: Gather facts about the cluster of this host
  infrazero.database.pg_cluster_info:
  become: true
  become_user: postgres
  register: cluster

- name: Fail if a restore is outstanding
  ansible.builtin.assert:
    that: cluster.outstanding | length == 0
    fail_msg: "To be restored: {{ cluster.outstanding | join(', ') }}"
"""

RETURN = r"""
system_identifier:
  description: The identifier that initdb gave the cluster; only its physical copies have the same one.
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
  description: Whether the server is a standby or is still recovering.
  returned: success
  type: bool
  sample: false
fresh:
  description: Whether the cluster has only the system databases and no bootstrap has ever begun.
  returned: success
  type: bool
  sample: false
bootstrap:
  description: The most recent bootstrap.
  returned: success
  type: dict
  contains:
    state:
      description: V(none), V(unfinished) (the next run resumes it) or V(finished).
      type: str
      sample: finished
    host:
      description: Host where it ran; null if there was none.
      type: str
      sample: db1
    started_at:
      description: When it began, UTC; null if there was none.
      type: str
      sample: "2026-01-31T03:20:00Z"
    finished_at:
      description: When it ended, UTC; null if it has not ended.
      type: str
      sample: "2026-01-31T03:24:10Z"
outstanding:
  description: Names of the databases whose restore is outstanding.
  returned: success
  type: list
  elements: str
  sample: []
databases:
  description: All databases, by name, except the system databases and those in RV(replaced), RV(copies) and
    RV(restores). Includes databases that are recorded but do not exist.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the database.
      type: str
      sample: shop
    exists:
      description: Whether it exists.
      type: bool
      sample: true
    restore:
      description:
        - State of its restore - V(outstanding), V(restored), V(empty) (there was no backup) or V(skipped)
          (no restore was requested).
        - Null if nothing is recorded.
      type: str
      sample: restored
    recorded_at:
      description: When this state was recorded, UTC; null if nothing is recorded.
      type: str
      sample: "2026-01-31T03:23:55Z"
    restored_from:
      description: What it was restored from; null if it was not restored.
      type: dict
      contains:
        url:
          description: URL of the dump.
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
          description: When the backup was created; null if unknown.
          type: str
          sample: "2026-01-30T03:20:00Z"
        manifest_sha256:
          description: SHA-256 of the backup's manifest; null if there was none.
          type: str
          sample: 60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752
        system_identifier:
          description: System identifier of the cluster of the backup; null if unknown.
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
  description: Databases that a restore has replaced and that are kept for some time.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Current name of the replaced database.
      type: str
      sample: shop__replaced_5f2c9a01
    database:
      description: Its former name.
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
copies:
  description: Copies that restores have made beside a database.
  returned: success
  type: list
  elements: dict
  version_added: 0.2.0
  contains:
    name:
      description: Name of the copy.
      type: str
      sample: shop_check
    database:
      description: The database whose backup it was restored from.
      type: str
      sample: shop
    created_at:
      description: When it was restored, UTC.
      type: str
      sample: "2026-01-31T03:23:55Z"
    drop_after:
      description: When it may be dropped, UTC; null if it stays.
      type: str
      sample: "2026-02-01T03:23:55Z"
    source:
      description: URL of the dump.
      type: str
      sample: s3://db-backups/db/shop/20260130T032000Z.sql.gz.age
restores:
  description: Restores that have begun and not ended. They are running or were killed.
  returned: success
  type: list
  elements: dict
  contains:
    id:
      description: ID of the restore.
      type: str
      sample: 5f2c9a01
    database:
      description: The database to restore.
      type: str
      sample: shop
    stage:
      description: The staging database.
      type: str
      sample: shop__restore_5f2c9a01
    role:
      description: The temporary role that loads the dump.
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
from ..module_utils._engine.domain.listfields import SYSTEM_DATABASES
from ..module_utils._engine.sources.postgresql import facts, state
from ..module_utils._engine.sources.postgresql.connection import connect

NAME = "pg_cluster_info"


def run(module: AnsibleModule) -> dict[str, t.Any]:
    """Gather the facts; return the arguments of exit_json."""
    settings = _ansible.profile(module, NAME).connection()
    with contextlib.closing(connect(settings)) as conn:
        cluster = facts.cluster_facts(conn)
        replaced = state.replaced(conn)
        copies = state.copies(conn)
        restores = state.restores(conn)
    system = SYSTEM_DATABASES | {settings.maintenance_database}
    excluded = {record.name for record in replaced} | {record.name for record in copies}
    excluded |= {record.stage for record in restores}
    names = (set(cluster.databases) | set(cluster.records)) - system - excluded
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
        "replaced": [_plain(record, "name", "database", "replaced_at", "drop_after") for record in replaced],
        "copies": [
            {**_plain(record, "name", "database", "created_at", "drop_after"), "source": record.restored_from.url}
            for record in copies
        ],
        "restores": [_plain(record, "id", "database", "stage", "role", "started_at") for record in restores],
    }


def _bootstrap(last: state.Bootstrap | None) -> dict[str, t.Any]:
    if last is None:
        return {"state": "none", "host": None, "started_at": None, "finished_at": None}
    return {
        "state": "unfinished" if last.finished_at is None else "finished",
        "host": last.host,
        "started_at": _moment(last.started_at),
        "finished_at": None if last.finished_at is None else _moment(last.finished_at),
    }


def _record(record: records.DatabaseRecord | None) -> dict[str, t.Any]:
    if record is None:
        return {"restore": None, "recorded_at": None, "restored_from": None}
    source = record.restored_from
    return {
        "restore": record.restore,
        "recorded_at": _moment(record.since),
        "restored_from": None if source is None else dataclasses.asdict(source),
    }


def _plain(record: state.ReplacedRecord | state.CopyRecord | state.RestoreRecord, *names: str) -> dict[str, t.Any]:
    fields = dataclasses.asdict(record)
    return {
        name: _moment(fields[name]) if isinstance(fields[name], datetime.datetime) else fields[name] for name in names
    }


def _moment(moment: datetime.datetime) -> str:
    return moment.astimezone(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def main() -> t.NoReturn:
    """Entry point."""
    _ansible.run(_ansible.settings_of(NAME).module(supports_check_mode=True), run)


if __name__ == "__main__":
    main()
