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
  - The backup is checked against its manifest, decrypted, and loaded into a second database by a throwaway role
    that is no superuser.  Only when all of it was loaded and counted, that database takes the place of the one
    before.  A restore that fails changes nothing.
  - A dump is data here, never a script. C(psql) is not used, and meta-commands in a dump are errors.
  - Nothing of a backup is executed before it is proven.  A backup whose manifest has signed hashes of its chunks is
    read once, any other twice.  The first reading checks it as a whole, the second is compared with the first.
  - One database that fails does not stop the others.  The module fails at the end and names it.
author:
  - The infrazero.database contributors (@infrazero)
extends_documentation_fragment:
  - infrazero.database.attributes
  - infrazero.database.attributes.actiongroup_all
  - infrazero.database.connection
  - infrazero.database.store
  - infrazero.database.databases
  - infrazero.database.trust
attributes:
  check_mode:
    support: full
    details:
      - Returns the plan, with the backup that was chosen, its age, sizes and versions, missing roles and
        extensions, and what would be replaced.  Keys that are given are tried on the backup.
  diff_mode:
    support: full
    details:
      - Shows what each database was and will be restored from, never rows.
  idempotent:
    support: partial
    details:
      - With O(outstanding_only=true) a second run finds nothing to do.  Otherwise each run restores again.
options:
  only:
    description:
      - Names of databases of O(databases) to restore.  All of them when not given.
    type: list
    elements: str
  source:
    description:
      - What to restore, for one database.  A key of the bucket, V(s3://bucket/key), or a prefix that ends with V(/).
      - A key that ends with V(latest-dump.json) or V(.manifest.json) is a manifest, anything else a dump.
      - When not given, the entry decides.  With C(restore_latest) its latest backup, else its C(restore_dump_path).
    type: str
  outstanding_only:
    description:
      - Restore only databases whose restore is outstanding, as M(infrazero.database.pg_db_bootstrap) has recorded
        it on a fresh cluster.  A database without any backup stays empty, and that is recorded.
    type: bool
    default: false
  age_private_key:
    description:
      - The age private key, instead of C(backup_age_private_key) of the entry.
    type: str
  expected_sha256:
    description:
      - What the encrypted object must hash to, for one database.
    type: str
  role_map:
    description:
      - Roles of the dump by the names that they get here.
    type: dict
    default: {}
  skip_acl:
    description:
      - Leave the grants of the dump out.  True when not given, unless roles are mapped.
    type: bool
  drop_mapped_roles:
    description:
      - Afterwards drop the roles that were mapped away from.  A role that owns anything is kept, with a warning.
    type: bool
    default: true
  force_target_owner:
    description:
      - Everything in the database belongs to its user.  True when not given and grants are left out or roles are
        mapped.
    type: bool
  grant_app_user:
    description:
      - Grant the user everything on schemas, tables and sequences, also on later ones.
    type: bool
    default: true
  set_search_path:
    description:
      - Set the search_path of the user in the database.
    type: bool
    default: true
  search_path:
    description:
      - The schemas of the search_path.  Found out when not given.
    type: list
    elements: str
    default: []
  strategy:
    description:
      - V(swap) fills a second database and renames it into place.
      - V(replace) reads the whole backup once to check it, drops the database and fills it anew, for hosts without
        the room.
    type: str
    choices: [swap, replace]
    default: swap
  keep_replaced:
    description:
      - For how many hours the replaced database is kept beside the new one.  With V(0) it is dropped at once.
      - A database without any table is never kept.
    type: float
    default: 24
  on_connections:
    description:
      - What becomes of the sessions in a database that is replaced.  V(terminate) ends them, V(refuse) gives up
        where there are any.
    type: str
    choices: [terminate, refuse]
    default: terminate
  public_connect:
    description:
      - Let every role of the cluster connect to the restored database, where every role could connect to the one that
        it replaces (the privilege C(CONNECT) of C(PUBLIC)). Otherwise that privilege is left out, with a warning.
      - Privileges of named roles are always kept.
    type: bool
    default: false
    version_added: 0.2.0
  extensions:
    description:
      - Extensions that the administrator makes for a dump, besides trusted ones and those known to be harmless.
    type: list
    elements: str
    default: []
  statement_timeout:
    description:
      - How many seconds a single statement of the dump may take, or the rows of one table stand still.
    type: int
    default: 86400
    version_added: 0.2.0
  restore_timeout:
    description:
      - How many seconds the restore of one database may take until its swap, whatever it is waiting for.
    type: int
    default: 259200
    version_added: 0.2.0
  max_size:
    description:
      - The largest size of a restored database, in bytes or with a binary unit, such as V(500G).  Any size with V(0).
      - When not given, four times the dump's text by the manifest, with 64 bytes added for each row; without such a
        manifest sixteen times the text that was read so far.  In any case V(1G).
    type: str
    version_added: 0.2.0
  jobs:
    description:
      - How many databases are restored at the same time.  When not given, one for each processor, but at least 2 and at
        most 4.
    type: int
    version_added: 0.2.0
  trust:
    description:
      - With V(signed) only a backup is restored whose manifest was signed by this host, or by one that O(signers) or
        the database's C(backup_signers) names. The signature is verified before anything of the backup is read.
      - With V(unsigned) any backup is, with a warning for one that V(signed) would refuse.  That is how backups of
        older tools come in.
      - A manifest that lies where the backups of another database do is refused with both.
    type: str
    choices: [signed, unsigned]
    default: signed
    version_added: 0.2.0
  max_age:
    description:
      - A latest backup that is older than so many hours is restored with a warning, it may have been rolled back.
        None is with V(0).
    type: float
    default: 48
    version_added: 0.2.0
seealso:
  - module: infrazero.database.age_backup
  - module: infrazero.database.pg_db_bootstrap
"""

EXAMPLES = r"""
- name: Restore what a fresh cluster waits for
  infrazero.database.s3_manifest_restore:
    databases: "{{ infrazero_databases }}"
    outstanding_only: true
    bucket: db-backups
    endpoint: s3.example.com
  become: true
  become_user: postgres

- name: See what a restore of yesterday's backup would do
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

- name: Bring in a backup of an older tool, which is not signed
  infrazero.database.s3_manifest_restore:
    databases: "{{ infrazero_databases }}"
    only: [shop]
    source: s3://old-backups/db/shop/
    trust: unsigned
    bucket: db-backups
    endpoint: s3.example.com
  become: true
  become_user: postgres
"""

RETURN = r"""
databases:
  description: What became of each database, in the order of the list.
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
        - V(restored), V(empty) where the store has no backup, V(skipped) where nothing was asked for, V(planned) in
          check mode, or V(failed).
      type: str
      sample: restored
    source:
      description: The dump.
      type: str
      sample: s3://db-backups/db/shop/20260131T032000Z.sql.gz.age
    sha256:
      description: SHA-256 of the encrypted object; in check mode null where nothing says it.
      type: str
      sample: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
    signed_by:
      description:
        - The host that signed the backup, as its signature proves, and the fingerprint of its key.
        - Null where that is not proven, which O(trust=unsigned) allows.
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
      description: When the backup was made.
      type: str
      sample: "2026-01-31T03:20:00Z"
    age_seconds:
      description: Seconds since then.
      type: int
      sample: 3600
    size:
      description: Bytes of the encrypted object.
      type: int
      sample: 104857600
    reads:
      description:
        - How often the object is read.  V(2) where no trusted host has signed hashes of its chunks, and where
          O(strategy=replace) drops a database first.
      type: int
      sample: 1
      version_added: 0.2.0
    read_size:
      description: Bytes of the object that are read in all.
      type: int
      sample: 104857600
      version_added: 0.2.0
    plaintext_size:
      description: Bytes of the dump's text, null where no manifest says it.
      type: int
      sample: 524288000
    rows:
      description: Rows of all tables together, as the server counted them; in check mode what the manifest says.
      type: int
      sample: 1200345
    tables:
      description: Number of tables with rows, after a restore.
      type: int
      sample: 12
    verified:
      description: Whether object and rows were compared with a manifest.
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
      description: Extensions of the backup that cannot be made on this server, each with what to do.
      type: list
      elements: str
      sample: []
    missing_roles:
      description: Roles of the backup that this cluster does not have, where grants or owners are kept.
      type: list
      elements: str
      sample: []
    replaces:
      description: Owner, size and sessions of the database that is replaced; null where there is none.
      type: dict
      sample:
        owner: shop
        size: 7680000
        sessions: 2
    kept_as:
      description: The name under which the replaced database is kept, null where it is not.
      type: str
      sample: shop__replaced_5f2c9a01
    strategy:
      description: How the restore is made.
      type: str
      sample: swap
    owner:
      description: The user whose everything is.
      type: str
      sample: shop
    duration_seconds:
      description: How long it took.
      type: float
      sample: 32.1
    skipped:
      description: Statements of the dump that were left out, and why.
      type: list
      elements: str
      sample: []
    warnings:
      description: What was noticed on the way.
      type: list
      elements: str
      sample: []
    error:
      description: Why it failed, with type, phase, message, cause and hint.
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

import dataclasses
import os
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import _ansible
from ..module_utils._engine.domain import restoring, trust
from ..module_utils._engine.domain.secret import Secret
from ..module_utils._engine.restore import restore


def run(module: AnsibleModule) -> dict[str, t.Any]:
    """Restore the databases; what exit_json takes comes back."""
    params = module.params
    listed = _ansible.databases(module, private=True)
    databases = _ansible.selected(listed, params["only"])
    options = restoring.RestoreOptions(
        role_map=restoring.checked_role_map(params["role_map"], name="role_map"),
        skip_acl=params["skip_acl"],
        drop_mapped_roles=params["drop_mapped_roles"],
        force_target_owner=params["force_target_owner"],
        grant_app_user=params["grant_app_user"],
        set_search_path=params["set_search_path"],
        search_path=tuple(params["search_path"]),
        strategy=params["strategy"],
        keep_replaced=restoring.keep_replaced(params["keep_replaced"], name="keep_replaced"),
        on_connections=params["on_connections"],
        public_connect=params["public_connect"],
        extensions=frozenset(params["extensions"]),
        protected_roles=frozenset(database.user for database in listed.entries),
        statement_timeout=restoring.seconds(str(params["statement_timeout"]), name="statement_timeout"),
        timeout=restoring.seconds(str(params["restore_timeout"]), name="restore_timeout"),
        max_size=None if params["max_size"] is None else restoring.max_size(params["max_size"], name="max_size"),
        trust=dataclasses.replace(
            _ansible.trust(module),
            mode=params["trust"],
            max_age=trust.max_age(params["max_age"], name="max_age"),
        ),
    )
    sha256 = params["expected_sha256"]
    key = params["age_private_key"]
    summary = restore.restore_all(
        databases,
        settings=_ansible.connection(module),
        store=_ansible.store(module),
        options=options,
        source=params["source"],
        identity=Secret(key) if key else None,
        expected_sha256=restoring.expected_sha256(sha256, name="expected_sha256") if sha256 else None,
        outstanding_only=params["outstanding_only"],
        plan_only=module.check_mode,
        jobs=restoring.default_jobs(os.cpu_count()) if params["jobs"] is None else params["jobs"],
    )
    result = _ansible.summed_up(summary, *restore.STATUSES)
    result["changed"] = any(o.status in (restore.RESTORED, restore.PLANNED) for o in summary.outcomes)
    result["diff"] = [
        restore.difference(o) for o in summary.outcomes if o.status in (restore.RESTORED, restore.PLANNED)
    ]
    return result


def main() -> t.NoReturn:
    """Entry point."""
    spec = _ansible.ArgumentSpec(
        _ansible.CONNECTION,
        _ansible.STORE,
        _ansible.DATABASES,
        _ansible.TRUST,
        only={"type": "list", "elements": "str"},
        source={"type": "str"},
        outstanding_only={"type": "bool", "default": False},
        age_private_key={"type": "str", "no_log": True},
        expected_sha256={"type": "str"},
        role_map={"type": "dict", "default": {}},
        skip_acl={"type": "bool"},
        drop_mapped_roles={"type": "bool", "default": True},
        force_target_owner={"type": "bool"},
        grant_app_user={"type": "bool", "default": True},
        set_search_path={"type": "bool", "default": True},
        search_path={"type": "list", "elements": "str", "default": []},
        strategy={"type": "str", "choices": [restoring.SWAP, restoring.REPLACE], "default": restoring.SWAP},
        keep_replaced={"type": "float", "default": 24},
        on_connections={
            "type": "str",
            "choices": [restoring.TERMINATE, restoring.REFUSE],
            "default": restoring.TERMINATE,
        },
        public_connect={"type": "bool", "default": False},
        extensions={"type": "list", "elements": "str", "default": []},
        statement_timeout={"type": "int", "default": 86400},
        restore_timeout={"type": "int", "default": 259200},
        max_size={"type": "str"},
        jobs={"type": "int"},
        trust={"type": "str", "choices": [trust.SIGNED, trust.UNSIGNED], "default": trust.Trust.mode},
        max_age={"type": "float", "default": 48},
        mutually_exclusive=[("source", "outstanding_only")],
    )
    _ansible.run(spec.module(supports_check_mode=True), run)


if __name__ == "__main__":
    main()
