#!/usr/bin/python
# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: age_backup
short_description: Back databases up, each encrypted to its own age recipients
version_added: 0.1.0
description:
  - Dumps every database with C(pg_dump), compresses and encrypts it with the age public key of that database, and
    streams it to an S3 bucket or a directory. Nothing is written to the host's disk.
  - The manifest is written last, and V(latest-dump.json) only points to a complete, verified backup. A run that fails
    leaves the previous backup as the latest one.
  - The manifest has the number of rows and a digest of each table, computed while the dump is streamed.
  - A database that fails does not stop the others. The module fails at the end and names it.
  - Also backs up the roles of the cluster, with their attributes, memberships and settings, if they have recipients of
    their own (O(cluster_age_public_keys)) and O(only) is not given. They are one more result, V(cluster globals).
  - The backup of a database is refused while its restore is outstanding, and if its latest backup is of another
    cluster.
  - A host that signs its backups continues only from a backup that it, or a host named for the database, has signed.
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
  - infrazero.database.backup
  - infrazero.database.cluster
  - infrazero.database.cluster_backup
attributes:
  check_mode:
    support: full
    details:
      - Returns the key under which each database would be backed up, and fails if a backup would be refused.
  diff_mode:
    support: none
    details:
      - A backup changes nothing that a diff could show.
  idempotent:
    support: partial
    details:
      - Every run creates a new backup, unless O(first=true).
options:
  only:
    description:
      - Names of databases of O(databases) to back up. All of them, and the roles of the cluster, when not given.
    type: list
    elements: str
  first:
    description:
      - Back up only what has no backup yet. A database with a backup is V(present); one whose store has the history of
        another cluster is V(skipped), with a warning.
      - Each backup is read back as far as the rights of the host go, see RV(databases[].read_back).
    type: bool
    default: false
    version_added: 0.2.0
seealso:
  - module: infrazero.database.backup_info
  - module: infrazero.database.s3_manifest_restore
"""

EXAMPLES = r"""
- name: Make a first backup of every database that has none
  infrazero.database.age_backup:
    config: /etc/infrazero
    first: true
  become: true
  become_user: postgres

- name: Back every database up
  infrazero.database.age_backup:
    databases: "{{ infrazero_databases | infrazero.database.public }}"
    bucket: db-backups
    endpoint: s3.example.com
    access_key_id: "{{ vault_s3_access_key_id }}"
    secret_access_key: "{{ vault_s3_secret_access_key }}"
  become: true
  become_user: postgres

- name: Back one database up before a migration, to a directory
  infrazero.database.age_backup:
    databases: "{{ infrazero_databases | infrazero.database.public }}"
    only: [shop]
    directory: /var/backups/databases
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
      description: Name of the database, or V(cluster globals).
      type: str
      sample: shop
    kind:
      description: V(dump) of a database, or V(globals).
      type: str
      version_added: 0.2.0
      sample: dump
    status:
      description:
        - V(backed_up), V(planned) in check mode, V(failed), or V(skipped) where another node of the cluster backs up
          (see O(run_on)).
        - With O(first=true), also V(present) if there is a backup, or V(skipped) if none can be made.
      type: str
      sample: backed_up
    key:
      description: Key of the dump.
      type: str
      sample: db/shop/20260131T032000Z.sql.gz.age
    manifest:
      description: Key of the backup's own manifest, which is never overwritten.
      type: str
      sample: db/shop/20260131T032000Z.manifest.json
    sha256:
      description: SHA-256 of the encrypted object.
      type: str
      sample: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
    size:
      description: Size of the encrypted object in bytes.
      type: int
      sample: 104857600
    plaintext_size:
      description: Size of the dump's text in bytes.
      type: int
      sample: 524288000
    tables:
      description: Number of tables with rows in the dump.
      type: int
      sample: 12
    rows:
      description: Rows of all tables together.
      type: int
      sample: 1200345
    sequence:
      description: Number of this backup, counted for the database under its prefix.
      type: int
      sample: 42
    signed:
      description: Whether the manifest is signed.
      type: bool
      sample: true
    previous:
      description: Key of the previous backup; null if this is the first.
      type: str
      version_added: 0.2.0
      sample: db/shop/20260130T032000Z.sql.gz.age
    previous_signed_by:
      description: Host that signed the previous backup, and the fingerprint of its key; null if that is not proven.
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
    read_back:
      description:
        - Parts of the backup that were read back and compared - V(manifest), V(latest), V(size) of the object and its
          V(first chunk), which a host may not be allowed to read.
      returned: with O(first=true), for a new backup
      type: list
      elements: str
      version_added: 0.2.0
      sample: [manifest, latest, size, first chunk]
    duration_seconds:
      description: How long it took, in seconds.
      type: float
      sample: 12.3
    warnings:
      description: Warnings about this database.
      type: list
      elements: str
      sample: []
    reason:
      description: Why another node of the cluster backs it up.
      returned: status is V(skipped)
      type: str
      version_added: 0.2.0
      sample: this node is a standby; run_on is primary
    error:
      description: Why it failed - type, phase, message, cause and hint.
      type: dict
      sample:
        type: BackupRefused
        phase: plan
        message: the restore of 'shop' is outstanding, so its backup would be empty
        cause: ""
        hint: run the bootstrap again until every restore has succeeded, or restore it with restore.sh
summary:
  description: Counts, and the names of those that failed.
  returned: always
  type: str
  sample: backed_up=3 failed=0
"""

import dataclasses
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import _ansible
from ..module_utils._engine.backup import backup
from ..module_utils._engine.stores import registry

NAME = "age_backup"


def run(module: AnsibleModule) -> dict[str, t.Any]:
    """Back the databases up and return what exit_json takes."""
    host = _ansible.profile(module, NAME)
    databases = _ansible.databases(module, host, private=False).selected(module.params["only"])
    action = backup.plan_all if module.check_mode else backup.back_up_all
    summary = action(
        databases,
        cluster=None if module.params["only"] is not None else host.cluster_globals(),
        settings=host.connection(),
        store=registry.open_store(host.store()),
        options=dataclasses.replace(host.backup_options(), first=module.params["first"]),
    )
    statuses = [backup.PLANNED if module.check_mode else backup.BACKED_UP]
    if any(one.status == backup.SKIPPED for one in summary.outcomes):
        statuses.append(backup.SKIPPED)
    return _ansible.summed_up(summary, *statuses)


def main() -> t.NoReturn:
    """Entry point."""
    spec = _ansible.ArgumentSpec(
        _ansible.settings_of(NAME),
        _ansible.DATABASES,
        only={"type": "list", "elements": "str"},
        first={"type": "bool", "default": False},
    )
    _ansible.run(spec.module(supports_check_mode=True), run)


if __name__ == "__main__":
    main()
