#!/usr/bin/python
# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: store_probe
short_description: Test whether backups can be stored, and what the store honours
version_added: 0.2.0
description:
  - Lists objects and creates one of a few bytes, C(.infrazero/probe.age), below each prefix, with the credentials that
    backups use, and fails if that is not possible. Also tests what the store honours, and how its clock differs from
    the host's.
  - The object stays, because a host may not be allowed to delete it. It is never taken for a backup.
  - The rights that a host needs (C(infrazero-database policy host)) are enough, and so are those without listing.
author:
  - The infrazero.database contributors (@infrazero)
extends_documentation_fragment:
  - infrazero.database.attributes
  - infrazero.database.attributes.actiongroup_all
  - infrazero.database.profile
  - infrazero.database.store
attributes:
  check_mode:
    support: full
    details:
      - Writes nothing. What only a write shows is V(not tried), or null.
  diff_mode:
    support: none
    details:
      - The object has the same contents each time.
  idempotent:
    support: full
    details:
      - The second run finds the objects of the first. Where the credentials may not list objects, no run reports a
        change.
options:
  prefixes:
    description:
      - Prefixes of object keys to test. Those of everything that O(config) backs up, when not given.
    type: list
    elements: str
seealso:
  - module: infrazero.database.age_backup
"""

EXAMPLES = r"""
- name: Fail if the host cannot store its backups
  infrazero.database.store_probe:
    config: /etc/infrazero
  become: true
  become_user: postgres

- name: Test a bucket before hosts use it
  infrazero.database.store_probe:
    prefixes: [db/shop/]
    bucket: db-backups
    endpoint: s3.example.com
    access_key_id: "{{ vault_s3_access_key_id }}"
    secret_access_key: "{{ vault_s3_secret_access_key }}"
  register: probed

- name: Require that nothing can be overwritten for good
  ansible.builtin.assert:
    that: probed.destinations[0].versions or probed.destinations[0].object_lock
"""

RETURN = r"""
destinations:
  description: Results for each place where backups are stored.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: Name of the destination; V(primary) is the one that O(bucket) or O(directory) describes.
      type: str
      sample: primary
    location:
      description: The bucket and the URL of its service, or the directory.
      type: str
      sample: s3://db-backups (https://s3.example.com)
    prefixes:
      description: The prefixes that were tested.
      type: list
      elements: str
      sample: [db/shop/]
    severity:
      description: The worst of RV(destinations[].checks) - V(ok), V(unknown), V(warning) or V(critical).
      type: str
      sample: ok
    listing:
      description: Whether the credentials may list objects - V(allowed), V(denied), or V(unknown) after an error.
      type: str
      sample: allowed
    writing:
      description:
        - Whether they may create objects - V(allowed), V(denied), V(unknown) after an error, or V(not tried) in check
          mode.
      type: str
      sample: allowed
    create_only:
      description: Whether exactly one of two writers of the same key succeeds; null if it was not tried.
      type: bool
      sample: true
    multipart_create_only:
      description: The same for objects that are uploaded in parts.
      type: bool
      sample: false
    versions:
      description:
        - Whether the bucket keeps overwritten objects; null if the credentials may not ask, or for a directory.
      type: bool
      sample: true
    object_lock:
      description: Whether the bucket has an object lock; null as for RV(destinations[].versions).
      type: bool
      sample: false
    clock_offset_seconds:
      description: Seconds that the clock of the store is ahead of the host's; null if it has not told the time.
      type: float
      sample: 0.4
    checks:
      description: What it means.
      type: list
      elements: dict
      contains:
        area:
          description: V(destinations) or V(clocks).
          type: str
          sample: destinations
        subject:
          description: What was checked.
          type: str
          sample: primary
        severity:
          description: V(ok), V(unknown), V(warning) or V(critical).
          type: str
          sample: ok
        seen:
          description: What was found.
          type: str
          sample: s3://db-backups (https://s3.example.com) accepts new objects
        remedy:
          description: What to do; empty if there is nothing to do.
          type: str
          sample: ""
  sample:
    - name: primary
      location: s3://db-backups (https://s3.example.com)
      prefixes: [db/shop/]
      severity: ok
      listing: allowed
      writing: allowed
      create_only: true
      multipart_create_only: true
      versions: true
      object_lock: false
      clock_offset_seconds: 0.4
      checks:
        - area: destinations
          subject: primary
          severity: ok
          seen: s3://db-backups (https://s3.example.com) accepts new objects
          remedy: ""
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import _ansible
from ..module_utils._engine.checks import destinations
from ..module_utils._engine.checks.host import PRIMARY
from ..module_utils._engine.domain import checks
from ..module_utils._engine.errors import ConfigurationError
from ..module_utils._engine.stores import registry, trial

NAME = "store_probe"


def run(module: AnsibleModule) -> dict[str, t.Any]:
    """Test the store; return the arguments of exit_json, or of fail_json."""
    host = _ansible.profile(module, NAME)
    prefixes = module.params["prefixes"]
    if prefixes is None:
        prefixes = [subject.prefix for subject in host.subjects()]
    if not prefixes or not all(prefix.endswith("/") and not prefix.startswith("/") for prefix in prefixes):
        raise ConfigurationError("invalid prefixes", hint="name at least one; each ends with '/', and begins with none")
    store = registry.open_store(host.store())
    found = trial.examine(store, prefixes, write=not module.check_mode)
    results = [*destinations.judge(PRIMARY, found, location=store.location)]
    # A clock that is wrong is the reason for an error, and otherwise no reason to fail.
    results += [checks.clock(f"destination {PRIMARY}", found.clock_offset)] if found.error is None else []
    honoured, protection = found.capabilities, found.protection
    result: dict[str, t.Any] = {
        "changed": found.created,
        "destinations": [
            {
                "name": PRIMARY,
                "location": store.location,
                "prefixes": list(prefixes),
                "severity": checks.worst(results),
                "listing": found.listing,
                "writing": found.writing,
                "create_only": None if honoured is None else honoured.create_only,
                "multipart_create_only": None if honoured is None else honoured.multipart_create_only,
                "versions": None if protection is None else protection.versions,
                "object_lock": None if protection is None else protection.object_lock,
                "clock_offset_seconds": None if found.clock_offset is None else round(found.clock_offset, 1),
                "checks": [one.as_dict() for one in results],
            }
        ],
    }
    if found.error is not None:
        reason = destinations.unfit(found, location=store.location)
        result.update(failed=True, msg=f"{reason}; {found.error.hint}", error=found.error.as_dict())
    return result


def main() -> t.NoReturn:
    """Entry point."""
    spec = _ansible.ArgumentSpec(_ansible.settings_of(NAME), prefixes={"type": "list", "elements": "str"})
    _ansible.run(spec.module(supports_check_mode=True), run)


if __name__ == "__main__":
    main()
