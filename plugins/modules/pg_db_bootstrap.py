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
author:
  - The infrazero.database contributors (@infrazero)
extends_documentation_fragment:
  - infrazero.database.attributes
  - infrazero.database.attributes.actiongroup_all
  - infrazero.database.profile
  - infrazero.database.connection
  - infrazero.database.databases
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

NAME = "pg_db_bootstrap"


def run(module: AnsibleModule) -> dict[str, t.Any]:
    """Create the roles and databases and return what exit_json takes."""
    host = _ansible.profile(module, NAME)
    report = bootstrap.bootstrap(
        _ansible.databases(module, host, private=True),
        settings=host.connection(),
        restore=module.params["restore"],
        restore_added=module.params["restore_added"],
        plan_only=module.check_mode,
    )
    for warning in (*report.plan.warnings, *report.warnings):
        module.warn(warning)
    return {**report.as_dict(), "diff": report.diff()}


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
