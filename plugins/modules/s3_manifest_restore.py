#!/usr/bin/python
# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: s3_manifest_restore
short_description: Restore databases from their backups
version_added: 0.1.0
description:
  - Restores databases from the backup that a manifest names, or from a dump named by its key.
  - The backup is verified against its manifest, decrypted, and loaded into a staging database by a temporary role
    that is not a superuser. Only after all of it was loaded and its rows were compared, the staging database replaces
    the previous one. A restore that fails changes nothing.
  - A dump is treated as data, never as a script. C(psql) is not used, and meta-commands in a dump are errors.
  - Nothing in a backup is executed before it is verified. A backup whose manifest has signed hashes of its chunks is
    read once, any other twice. The first pass verifies it as a whole, the second is compared with the first.
  - A database that fails does not stop the others. The module fails at the end and names it.
author:
  - The infrazero.database contributors (@infrazero)
extends_documentation_fragment:
  - infrazero.database.attributes
  - infrazero.database.attributes.actiongroup_all
  - infrazero.database.profile
  - infrazero.database.connection
  - infrazero.database.store
  - infrazero.database.databases
  - infrazero.database.signing
  - infrazero.database.restore
attributes:
  check_mode:
    support: full
    details:
      - Returns the plan - the chosen backup, its age, sizes and versions, missing roles and extensions, and what would
        be replaced. Private keys that are given are tested on the backup.
  diff_mode:
    support: full
    details:
      - Shows which backup each database was, and will be, restored from; never rows.
  idempotent:
    support: partial
    details:
      - With O(outstanding_only=true) or O(drop_replaced), a second run finds nothing to do. With O(undo=true), each run
        swaps the two databases. Otherwise, each run restores again.
options:
  only:
    description:
      - Names of databases of O(databases) to restore.  All of them when not given.
    type: list
    elements: str
  source:
    description:
      - Backup to restore, for a single database - a key of the bucket, V(s3://bucket/key), or a prefix that ends with
        V(/).
      - A key that ends with V(latest-dump.json) or V(.manifest.json) is a manifest, anything else a dump.
      - Without it, the list's entry decides - its latest backup with C(restore_latest), otherwise its
        C(restore_dump_path).
    type: str
  outstanding_only:
    description:
      - Restore only databases whose restore is outstanding, as M(infrazero.database.pg_db_bootstrap) has recorded it on
        a fresh cluster. A database that has no backup stays empty, and that is recorded.
      - Grants to roles that exist are kept then, unless O(skip_acl=true).
    type: bool
    default: false
  undo:
    description:
      - Instead of restoring, swap the previous database of each of O(only) back in - the one that its last restore, or
        its last undo, has replaced. It comes back with its rows, owner, privileges and settings.
      - The present database is kept for O(keep_replaced) hours. A second undo brings it back.
    type: bool
    default: false
    version_added: 0.2.0
  drop_replaced:
    description:
      - Instead of restoring, drop the databases that restores of O(only) have replaced, before their time is over -
        V(all), or V(all_but_newest), which leaves the one that an undo would bring back.
    type: str
    choices: [all, all_but_newest]
    version_added: 0.2.0
seealso:
  - module: infrazero.database.age_backup
  - module: infrazero.database.pg_db_bootstrap
"""

EXAMPLES = r"""
- name: Restore the outstanding databases of a fresh cluster
  infrazero.database.s3_manifest_restore:
    databases: "{{ infrazero_databases }}"
    outstanding_only: true
    bucket: db-backups
    endpoint: s3.example.com
  become: true
  become_user: postgres

- name: Plan a restore of yesterday's backup
  infrazero.database.s3_manifest_restore:
    databases: "{{ infrazero_databases }}"
    only: [shop]
    source: db/shop/20260130T032000Z.sql.gz.age
    bucket: db-backups
    endpoint: s3.example.com
  become: true
  become_user: postgres
  check_mode: true
  register: plan

- name: Restore staging from production's backup, which another host signs
  infrazero.database.s3_manifest_restore:
    databases: "{{ infrazero_databases }}"
    only: [staging]
    source: db/production/
    signers:
      staging: [db1]
    bucket: db-backups
    endpoint: s3.example.com
  become: true
  become_user: postgres

- name: Restore a backup of an older tool, which is not signed
  infrazero.database.s3_manifest_restore:
    databases: "{{ infrazero_databases }}"
    only: [shop]
    source: s3://old-backups/db/shop/
    trust: unsigned
    bucket: db-backups
    endpoint: s3.example.com
  become: true
  become_user: postgres

- name: Restore yesterday's backup beside the database, to look at it
  infrazero.database.s3_manifest_restore:
    databases: "{{ infrazero_databases }}"
    only: [shop]
    source: db/shop/20260130T032000Z.sql.gz.age
    as: shop_check
    drop_after: 24
    bucket: db-backups
    endpoint: s3.example.com
  become: true
  become_user: postgres

- name: Undo the last restore
  infrazero.database.s3_manifest_restore:
    databases: "{{ infrazero_databases }}"
    only: [shop]
    undo: true
  become: true
  become_user: postgres

- name: Free the space of replaced databases, but for the last one
  infrazero.database.s3_manifest_restore:
    databases: "{{ infrazero_databases }}"
    only: [shop]
    drop_replaced: all_but_newest
  become: true
  become_user: postgres
"""

RETURN = r"""
databases:
  description: Result of each database, in the order of the list.
  returned: always
  type: list
  elements: dict
  contains:
    database:
      description: Name of the database.
      type: str
      sample: shop
    status:
      description:
        - V(restored), V(restored_with_errors) if statements failed with O(on_error=continue), V(empty) if there is no
          backup, V(skipped) if no restore was requested, V(planned) in check mode, or V(failed).
        - With O(undo=true), V(undone). With O(drop_replaced), V(dropped), or V(nothing) if there was none.
        - V(restored_with_errors) is not a failure of the module. The database was replaced, and C(warnings) describes
          what is missing.
      type: str
      sample: restored
    as:
      description: Name of the copy; null if the database itself was restored.
      type: str
      sample: shop_check
      version_added: 0.2.0
    drop_after:
      description: Hours after which the copy is dropped; null if it stays, or there is none.
      type: float
      sample: 24.0
      version_added: 0.2.0
    kept:
      description: Databases that were replaced before and are still kept, oldest first.
      type: list
      elements: dict
      version_added: 0.2.0
      contains: &kept
        name:
          description: Name of the replaced database.
          type: str
          sample: shop__replaced_5f2c9a01
        size:
          description: Its size in bytes.
          type: int
          sample: 7680000
        sessions:
          description: Connections to it at the moment.
          type: int
          sample: 0
        replaced_at:
          description: When it was replaced, UTC.
          type: str
          sample: "2026-01-31T03:23:55Z"
        drop_after:
          description: When it may be dropped, UTC.
          type: str
          sample: "2026-02-01T03:23:55Z"
        restored_from:
          description: URL of the dump that it was restored from; null if it was not, or that is not recorded.
          type: str
          sample: s3://db-backups/db/shop/20260130T032000Z.sql.gz.age
    previous:
      description: With O(undo=true), the database that comes back.
      returned: with O(undo=true)
      type: dict
      version_added: 0.2.0
      contains: *kept
    restored_from:
      description: With O(undo=true), URL of the dump that the present database was restored from; null if unknown.
      returned: with O(undo=true)
      type: str
      sample: s3://db-backups/db/shop/20260131T032000Z.sql.gz.age
      version_added: 0.2.0
    keep_replaced:
      description: Hours for which the database that is replaced will be kept; V(0) if it will not.
      type: float
      sample: 24.0
      version_added: 0.2.0
    dropped:
      description: With O(drop_replaced), the databases that were dropped; in check mode, those that would be.
      returned: with O(drop_replaced)
      type: list
      elements: dict
      version_added: 0.2.0
      contains: *kept
    source:
      description: URL of the dump.
      type: str
      sample: s3://db-backups/db/shop/20260131T032000Z.sql.gz.age
    sha256:
      description: SHA-256 of the encrypted object; null in check mode if no manifest has it.
      type: str
      sample: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
    signed_by:
      description:
        - Host that signed the backup, as its signature proves, and the fingerprint of its key.
        - Null if that is not proven, which O(trust=unsigned) allows.
      type: dict
      version_added: 0.2.0
      contains:
        name:
          description: Name of the host.
          type: str
        key:
          description: Fingerprint of the key.
          type: str
      sample:
        name: db1
        key: SHA256:2l8Gd3nXmPqoXwEvnM0sZ0m2Ck4YV1d5Ykq3Yx1V2mE
    created_at:
      description: When the backup was created.
      type: str
      sample: "2026-01-31T03:20:00Z"
    age_seconds:
      description: Age of the backup in seconds.
      type: int
      sample: 3600
    size:
      description: Size of the encrypted object in bytes; with O(drop_replaced), of the databases.
      type: int
      sample: 104857600
    reads:
      description:
        - How often the object is read - V(2) if no accepted host has signed hashes of its chunks, or if
          O(strategy=replace) drops a database first.
      type: int
      sample: 1
      version_added: 0.2.0
    read_size:
      description: Bytes that are read in total.
      type: int
      sample: 104857600
      version_added: 0.2.0
    plaintext_size:
      description: Size of the dump's text in bytes; null if no manifest has it.
      type: int
      sample: 524288000
    rows:
      description: Number of rows in all tables, as the server counted them; in check mode, as the manifest has it.
      type: int
      sample: 1200345
    tables:
      description: Number of tables with rows; in check mode, as the manifest has it, null if no manifest has it.
      type: int
      sample: 12
    verified:
      description: Whether the object and its rows were compared with a manifest.
      type: bool
      sample: true
    encrypted:
      description: Whether the object is encrypted.
      type: bool
      sample: true
    backup_server_version:
      description: Version of the server that was dumped.
      type: str
      sample: "15.18"
    server_version:
      description: Version of this server.
      type: str
      sample: "15.18"
    missing_extensions:
      description: Extensions of the backup that cannot be created on this server, each with the remedy.
      type: list
      elements: str
      sample: []
    missing_roles:
      description: Roles of the backup that this cluster does not have, if privileges or owners are kept.
      type: list
      elements: str
      sample: []
    only_tables:
      description: Tables that were chosen with O(tables); empty if all were.
      type: list
      elements: str
      version_added: 0.2.0
      sample: []
    in_place:
      description:
        - Whether the database is restored in place, in one transaction, because the connected role is not a superuser.
      type: bool
      version_added: 0.2.0
      sample: false
    replaces:
      description: Owner, size and sessions of the database that is replaced; null if there is none.
      type: dict
      sample:
        owner: shop
        size: 7680000
        sessions: 2
    space:
      description: Disk space for the restored database, on the file system of the server.
      type: dict
      version_added: 0.2.0
      contains:
        needed:
          description: Estimated number of bytes, with those that WAL may take on the same file system; null if unknown.
          type: int
        wal:
          description: Number of these bytes that WAL may take.
          type: int
        estimated_from:
          description: What the estimate is derived from; null if it is unknown.
          type: str
        available:
          description:
            - Number of free bytes, with those of a database that O(strategy=replace) drops first.
            - Null if the server's directory cannot be examined, for example because the server is on another host.
          type: int
      sample:
        needed: 7680000
        wal: 0
        estimated_from: the size of the database when it was backed up
        available: 12000000000
    refusal:
      description: Why the backup cannot be restored here, such as too little space; null if it can.
      type: str
      version_added: 0.2.0
      sample: null
    kept_as:
      description: Name under which the replaced database is kept; null if it is not.
      type: str
      sample: shop__replaced_5f2c9a01
    strategy:
      description: Strategy of the restore.
      type: str
      sample: swap
    owner:
      description: Role that owns the restored objects.
      type: str
      sample: shop
    duration_seconds:
      description: How long it took, in seconds.
      type: float
      sample: 32.1
    failed_statements:
      description:
        - Statements of the dump that failed, with O(on_error=continue), each with its cause. The last entry counts
          those beyond 100.
      type: list
      elements: str
      sample: []
      version_added: 0.2.0
    incomplete_tables:
      description: Tables whose rows were not all restored because such a statement failed.
      type: list
      elements: str
      sample: []
      version_added: 0.2.0
    skipped:
      description: Statements of the dump that were skipped, each with the reason.
      type: list
      elements: str
      sample: []
    warnings:
      description: Warnings about this database.
      type: list
      elements: str
      sample: []
    error:
      description: Why it failed - type, phase, message, cause and hint.
      type: dict
      sample:
        type: ChecksumMismatch
        phase: checksum
        message: the object's SHA-256 is not the one its manifest names
        cause: ""
        hint: choose another backup
summary:
  description: Counts, and the names of those that failed.
  returned: always
  type: str
  sample: restored=3 empty=0 skipped=0 failed=0
"""

import os
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import _ansible
from ..module_utils._engine import outcome
from ..module_utils._engine.domain import restoring
from ..module_utils._engine.errors import ConfigurationError
from ..module_utils._engine.restore import restore, undo
from ..module_utils._engine.stores import registry

if t.TYPE_CHECKING:
    from ..module_utils._engine.domain.databases import Databases
    from ..module_utils._engine.profile import Profile

NAME = "s3_manifest_restore"

_CHANGED = (restore.RESTORED, restore.RESTORED_WITH_ERRORS, restore.PLANNED)


def run(module: AnsibleModule) -> dict[str, t.Any]:
    """Restore the databases and return what exit_json takes."""
    params = module.params
    host = _ansible.profile(module, NAME)
    listed = _ansible.databases(module, host, private=True)
    if params["undo"] or params["drop_replaced"]:
        return _previous(module, host, listed)
    summary = restore.restore_all(
        listed.selected(params["only"]),
        settings=host.connection(),
        store=registry.open_store(host.store()),
        options=host.restore_options(listed),
        source=params["source"],
        identity=host.values.get("restore", "age_private_key"),
        expected_sha256=host.values.get("restore", "expected_sha256"),
        outstanding_only=params["outstanding_only"],
        plan_only=module.check_mode,
        jobs=host.values.get("restore", "jobs") or restoring.default_jobs(os.cpu_count()),
    )
    result = _ansible.summed_up(summary, *restore.STATUSES)
    changed = [o for o in summary.outcomes if o.status in _CHANGED]
    result["changed"] = bool(changed)
    result["diff"] = [restore.difference(outcome) for outcome in changed]
    return result


def _previous(module: AnsibleModule, host: Profile, listed: Databases) -> dict[str, t.Any]:
    """Swap previous databases back in, or drop them."""
    params, get = module.params, host.values.get
    which = params["drop_replaced"]
    given = [name for name in ("source", "as", "drop_after", "tables", "outstanding_only") if params[name]]
    if params["undo"] and which:
        given.append("drop_replaced")
    if given or not params["only"]:
        raise ConfigurationError(
            "undo and drop_replaced do nothing else, to databases that are named",
            cause=f"{', '.join(given)} was given as well" if given else "only was not given",
            hint="name the databases with only, and give one of the two without options of a restore",
        )
    names = [entry.name for entry in listed.selected(params["only"])]

    def work(name: str) -> outcome.Outcome:
        settings, plan_only = host.connection(), module.check_mode
        if which:
            return undo.drop_replaced(name, which, settings=settings, plan_only=plan_only)
        return undo.undo(
            name,
            settings=settings,
            keep=get("restore", "keep_replaced"),
            on_connections=get("restore", "on_connections"),
            plan_only=plan_only,
        )

    summary = outcome.run_each(names, work)
    result = _ansible.summed_up(summary, *((undo.DROPPED, undo.NOTHING) if which else (undo.UNDONE,)))
    changed = [one for one in summary.outcomes if one.error is None and undo.changes(one)]
    result["changed"] = bool(changed)
    result["diff"] = [undo.difference(one) for one in changed]
    return result


def main() -> t.NoReturn:
    """Entry point."""
    spec = _ansible.ArgumentSpec(
        _ansible.settings_of(NAME),
        _ansible.DATABASES,
        only={"type": "list", "elements": "str"},
        source={"type": "str"},
        outstanding_only={"type": "bool", "default": False},
        undo={"type": "bool", "default": False},
        drop_replaced={"type": "str", "choices": [undo.ALL, undo.ALL_BUT_NEWEST]},
        mutually_exclusive=[("source", "outstanding_only")],
    )
    _ansible.run(spec.module(supports_check_mode=True), run)


if __name__ == "__main__":
    main()
