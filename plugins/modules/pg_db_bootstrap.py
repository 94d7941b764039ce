#!/usr/bin/python
# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_db_bootstrap
short_description: Create the roles and databases of a databases list
version_added: 0.1.0
description:
  - Creates a role for each user of the list, which can log in with its password, and each database, owned by its user,
    who has all privileges on it. A database is created from C(template0), with the encoding and the locale of
    C(template1), and nobody else can connect to it (C(PUBLIC) has no privilege on it).
  - The cluster is examined once, and changed with as few statements as possible. Everything else in it - other roles
    and databases, and memberships, privileges, settings and limits of those in the list - stays as it is. Nothing is
    ever dropped. A warning names the databases to which every role can connect, with the statement that ends this.
  - Passwords are compared with the SCRAM verifiers on the server, and sent as new verifiers if they differ. An MD5 hash
    is replaced. A password never leaves the host that the module runs on, and is never in the server's log.
  - A cluster is fresh if it has no databases but the system's own and no bootstrap was ever started in it. There, the
    bootstrap is recorded in the cluster itself, in the schema C(infrazero) of O(maintenance_db). With
    O(restore=true), the databases for which the list names a backup are recorded as outstanding until
    M(infrazero.database.s3_manifest_restore) has restored them. Until then, they are not backed up. An interrupted
    bootstrap is resumed.
  - On a fresh cluster, with O(cluster_age_private_key), the roles that are missing are then created from the latest
    backup of the globals of the cluster that was lost, with their memberships, settings and comments, so that the
    databases can be restored with grants to them. Existing roles are never changed. A role without a password in the
    backup cannot log in. Attributes and memberships with privileges in the whole cluster are only listed, in warnings,
    unless O(cluster_privileges=true). The backup must be signed. A store that does not answer or denies access is an
    error, and nothing is changed then.
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
  - infrazero.database.cluster
  - infrazero.database.cluster_restore
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details:
      - Shows the roles and databases of the list before and after, without passwords.
  idempotent:
    support: full
options:
  restore:
    description:
      - Whether the databases of a fresh cluster will be restored from their backups - those with
        O(databases[].restore_latest) and those with a O(databases[].restore_dump_path).
      - With V(false), they are recorded as created empty on purpose.
      - Has no effect on a cluster that is not fresh, unless O(restore_added) is set.
    type: bool
    default: false
  restore_added:
    description:
      - Whether databases that this run adds to a cluster that is not fresh will be restored as well, with
        O(restore=true).
    type: bool
    default: false
    version_added: 0.2.0
seealso:
  - module: infrazero.database.pg_cluster_info
  - module: infrazero.database.s3_manifest_restore
  - plugin: infrazero.database.private
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Create two databases with their users
  infrazero.database.pg_db_bootstrap:
    databases:
      - name: shop
        user: shop
        password: "{{ vault_shop_password }}"
        backup_age_public_key: age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p
      - name: ledger
        user: ledger
        password: "{{ vault_ledger_password }}"
        backup_age_public_key:
          - age1lggyhqrw2nlhcxprm67z43rta597azn8gknawjehu9d9dl0jq3yqqvfafg
          - ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIL8YQoU8HkBQrDkWDbjwrsZZBFVmOpZ9ZmTmDQXdRDYj escrow
  become: true
  become_user: postgres

- name: Show what would change on a server that is reached over the network
  infrazero.database.pg_db_bootstrap:
    databases: "{{ infrazero_databases }}"
    login_host: db.example.com
    login_password: "{{ vault_postgres_password }}"
    ssl_mode: verify-full
  check_mode: true
  diff: true

- name: Create the databases of a fresh cluster, to restore each of them from its latest backup
  infrazero.database.pg_db_bootstrap:
    databases: "{{ infrazero_databases }}"
    restore: true
  become: true
  become_user: postgres
  register: bootstrap

- name: Restore them
  infrazero.database.s3_manifest_restore:
    databases: "{{ infrazero_databases }}"
    bucket: db-backups
    outstanding_only: true
  become: true
  become_user: postgres
  when: bootstrap.outstanding | length > 0
"""

RETURN = r"""
fresh:
  description: Whether the cluster was fresh before this run.
  returned: success
  type: bool
  sample: true
plan:
  description: What was changed, or would be changed in check mode, one sentence for each step.
  returned: success
  type: list
  elements: str
  sample:
    - create role 'shop'
    - create database 'shop' owned by 'shop'
roles:
  description: Names of the roles that were created or changed.
  returned: success
  type: dict
  contains:
    created:
      description: Roles that did not exist.
      type: list
      elements: str
      sample: [shop]
    changed:
      description: Roles that could not log in, or had another password.
      type: list
      elements: str
      sample: []
databases:
  description: Names of the databases that were created or changed.
  returned: success
  type: dict
  contains:
    created:
      description: Databases that did not exist.
      type: list
      elements: str
      sample: [shop]
    changed:
      description: Databases that had another owner, or on which their user lacked a privilege.
      type: list
      elements: str
      sample: []
outstanding:
  description: Names of the databases whose restore is outstanding.
  returned: success
  type: list
  elements: str
  sample: [shop]
globals:
  description:
    - What was restored of the globals of the cluster, or would be in check mode; null if nothing was to be restored.
    - No password and no value of a setting is in it.
  returned: success
  type: dict
  version_added: 0.2.0
  contains:
    source:
      description: URL of the backup.
      type: str
    created_at:
      description: When it was created.
      type: str
    signed_by:
      description: Host that signed it, and the fingerprint of its key.
      type: dict
    created:
      description: Roles that were created.
      type: list
      elements: str
    plan:
      description: The steps, one sentence each; they are also part of RV(plan).
      type: list
      elements: str
    listed:
      description: What was not restored, with the statement that does it where there is one.
      type: list
      elements: str
    warnings:
      description: Warnings about the backup, and settings that the server does not accept.
      type: list
      elements: str
  sample:
    source: s3://db-backups/cluster/db1/globals/20260131T032000Z.sql.gz.age
    created_at: "2026-01-31T03:20:00Z"
    signed_by:
      name: db1
      key: SHA256:2l8Gd3nXmPqoXwEvnM0sZ0m2Ck4YV1d5Ykq3Yx1V2mE
    created: [reporting]
    plan:
      - create role 'reporting' with NOLOGIN
      - grant role 'reporting' to 'shop'
    listed:
      - "role 'deploy' had CREATEDB; not restored: ALTER ROLE \"deploy\" CREATEDB"
    warnings: []
error:
  description: Why the module failed - type, phase, message, cause and hint, and every error of the list.
  returned: failure
  type: dict
  sample:
    type: ConnectionFailed
    phase: connect
    message: could not connect as 'postgres' to /var/run/postgresql, port 5432
    cause: No such file or directory
    hint: is the server running, and are the socket's directory and the port right?
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import _ansible
from ..module_utils._engine.sources.postgresql import bootstrap

if t.TYPE_CHECKING:
    from ..module_utils._engine.domain.secret import Secret
    from ..module_utils._engine.profile import Profile
    from ..module_utils._engine.sources.base import RecordedGlobals

NAME = "pg_db_bootstrap"


def run(module: AnsibleModule) -> dict[str, t.Any]:
    """Create the roles and databases and return what exit_json takes."""
    host = _ansible.profile(module, NAME)
    key = host.values.get("cluster_restore", "age_private_key")
    report = bootstrap.bootstrap(
        _ansible.databases(module, host, private=True),
        settings=host.connection(),
        restore=module.params["restore"],
        restore_added=module.params["restore_added"],
        read_globals=None if key is None else lambda: _read_globals(module, host, key),
        privileges=host.values.get("cluster_restore", "privileges"),
        plan_only=module.check_mode,
    )
    for warning in (*report.plan.warnings, *report.warnings):
        module.warn(warning)
    if report.globals is not None:
        for warning in (*report.globals.warnings, *report.globals.steps.listed):
            module.warn(f"cluster globals: {warning}")
    elif key is None and report.begins and host.cluster_globals().recipients:
        module.warn("cluster globals: not restored, because there is no cluster_age_private_key")
    return {**report.as_dict(), "diff": report.diff()}


def _read_globals(module: AnsibleModule, host: Profile, key: Secret) -> RecordedGlobals | None:
    """The latest backup of the globals; that there is none is a warning."""
    # Not at the top, and not for all: only this reads from a store.
    from ..module_utils._engine.restore import cluster
    from ..module_utils._engine.stores import registry

    store, subject = registry.open_store(host.store()), host.cluster_globals()
    found = cluster.read(store, subject, trust=host.trust(), identity=lambda _url: key)
    if found is None:
        module.warn(
            f"cluster globals: not restored, because {store.location} has no backup of them in {subject.prefix}"
        )
    return found


def main() -> t.NoReturn:
    """Entry point."""
    spec = _ansible.ArgumentSpec(
        _ansible.settings_of(NAME),
        _ansible.DATABASES,
        restore={"type": "bool", "default": False},
        restore_added={"type": "bool", "default": False},
    )
    _ansible.run(spec.module(supports_check_mode=True), run)


if __name__ == "__main__":
    main()
