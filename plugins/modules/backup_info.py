#!/usr/bin/python
# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: backup_info
short_description: List the backups of databases
version_added: 0.1.0
description:
  - Lists every backup of the databases in an S3 bucket or a directory, with its age, size and state.
  - Reads one listing and the latest manifest of each database. Needs neither a connection to a server nor a private
    key.
  - The returned keys are safe to show on a terminal. Objects whose keys contain control characters, or characters that
    a terminal interprets or hides, were not written by a backup. They are omitted, and a warning reports their number.
author:
  - The infrazero.database contributors (@infrazero)
extends_documentation_fragment:
  - infrazero.database.attributes
  - infrazero.database.attributes.actiongroup_all
  - infrazero.database.attributes.info_module
  - infrazero.database.profile
  - infrazero.database.store
options:
  names:
    description:
      - Names of the databases.
    type: list
    elements: str
    required: true
seealso:
  - module: infrazero.database.age_backup
"""

EXAMPLES = r"""
- name: List the backups of two databases
  infrazero.database.backup_info:
    names: [shop, ledger]
    bucket: db-backups
    endpoint: s3.example.com
  register: catalogue

- name: Fail if the latest backup is more than a day old
  ansible.builtin.assert:
    that: catalogue.databases[item].latest.age_seconds < 86400
    fail_msg: "The latest backup of {{ item }} is older than a day"
  loop: [shop, ledger]
"""

RETURN = r"""
databases:
  description: The backups, by name of the database.
  returned: success
  type: dict
  contains:
    latest:
      description:
        - The backup that V(latest-dump.json) names, with the fields of RV(databases.backups[]).
        - Null if there is none.
      type: dict
    backups:
      description: Every backup, newest first.
      type: list
      elements: dict
      contains:
        database:
          description: Name of the database.
          type: str
          sample: shop
        key:
          description: Key of the dump, exactly as in the store.
          type: str
          sample: db/shop/20260131T032000Z.sql.gz.age
        created_at:
          description: When the backup began, UTC.
          type: str
          sample: "2026-01-31T03:20:00Z"
        age_seconds:
          description: Seconds since then.
          type: int
          sample: 3600
        size:
          description: Size of the encrypted object in bytes; null if it is missing.
          type: int
          sample: 104857600
        state:
          description:
            - V(complete) if the dump and its manifest exist.
            - V(orphan) for a dump that no manifest names, from a backup that failed after its upload, one that is
              running, or a tool that writes no such manifests. It is restored only by its own key, as an unsigned
              backup.
            - V(missing) for a manifest whose dump is missing.
          type: str
          sample: complete
        latest:
          description: Whether V(latest-dump.json) names this backup.
          type: bool
          sample: true
  sample:
    shop:
      latest:
        database: shop
        key: db/shop/20260131T032000Z.sql.gz.age
        created_at: "2026-01-31T03:20:00Z"
        age_seconds: 3600
        size: 104857600
        state: complete
        latest: true
      backups:
        - database: shop
          key: db/shop/20260131T032000Z.sql.gz.age
          created_at: "2026-01-31T03:20:00Z"
          age_seconds: 3600
          size: 104857600
          state: complete
          latest: true
"""

import datetime
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import _ansible
from ..module_utils._engine.domain import layout
from ..module_utils._engine.printing import printable, printable_name
from ..module_utils._engine.stores import catalogue, registry

NAME = "backup_info"


def run(module: AnsibleModule) -> dict[str, t.Any]:
    """Read the catalogue; return the arguments of exit_json."""
    store = registry.open_store(_ansible.profile(module, NAME).store())
    now = datetime.datetime.now(datetime.timezone.utc)
    databases = {}
    for name in module.params["names"]:
        listed = catalogue.catalogue(store, name)
        # The operator chose the name. The rest of the keys of backups is ASCII.
        shown = [backup for backup in listed if is_printable(backup.key, prefix=layout.prefix(name))]
        if len(shown) < len(listed):
            module.warn(
                f"{len(listed) - len(shown)} objects under {printable_name(layout.prefix(name))} are omitted: their "
                "keys contain characters that no backup writes and that a terminal interprets or hides"
            )
        backups = [backup.as_dict(now) for backup in shown]
        databases[name] = {"latest": next((b for b in backups if b["latest"]), None), "backups": backups}
    return {"changed": False, "databases": databases}


def is_printable(key: str, *, prefix: str) -> bool:
    """Whether *key* without *prefix* can be shown unchanged."""
    rest = key[len(prefix) :] if key.startswith(prefix) else key
    return printable(rest) == rest


def main() -> t.NoReturn:
    """Entry point."""
    spec = _ansible.ArgumentSpec(
        _ansible.settings_of(NAME), names={"type": "list", "elements": "str", "required": True}
    )
    _ansible.run(spec.module(supports_check_mode=True), run)


if __name__ == "__main__":
    main()
