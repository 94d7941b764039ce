#!/usr/bin/python
# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: infisical_admin_token
short_description: Keep Infisical's admin token, encrypted, beside its backups
version_added: 0.2.0
description:
  - Stores the token, encrypted with age, as C(infisical/bootstrap/<timestamp>/admin.token.age), and a pointer to it as
    C(infisical/bootstrap/latest-tokens.json).
  - An existing token and its pointer are not changed, unless the token's object is missing or is not the one that was
    stored.
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
  diff_mode:
    support: none
    details:
      - The difference would contain the secret.
  idempotent:
    support: partial
    details:
      - With O(rotate=true), every run stores the token.
options:
  token:
    description:
      - The token, without whitespace around it.
    type: str
    required: true
  site_url:
    description:
      - URL of the site that the token belongs to. A token of another site is replaced only with O(rotate=true).
    type: str
    required: true
  recipients:
    description:
      - Age recipients that the token is encrypted to.
    type: list
    elements: str
    required: true
  prefix:
    description:
      - Prefix of the keys of all of Infisical's objects. It ends with V(/).
    type: str
    default: infisical/
  rotate:
    description:
      - Store the token even if there is one already. The previous token stays under its own key.
    type: bool
    default: false
requirements:
  - python >= 3.9
  - pyrage
seealso:
  - module: infrazero.database.age_backup
"""

EXAMPLES = r"""
- name: Keep the admin token
  infrazero.database.infisical_admin_token:
    token: "{{ vault_infisical_admin_token }}"
    site_url: https://infisical.example.com
    recipients: [age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p]
    bucket: db-backups
    endpoint: s3.example.com
"""

RETURN = r"""
key:
  description: Key of the encrypted token.
  returned: success
  type: str
  sample: infisical/bootstrap/20260131T021500Z/admin.token.age
pointer:
  description: Key of the pointer to the token.
  returned: success
  type: str
  sample: infisical/bootstrap/latest-tokens.json
sha256:
  description: SHA-256 of the encrypted token; null if another tool stored the token without it.
  returned: success
  type: str
  sample: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
created_at:
  description: When the token was stored, UTC.
  returned: success
  type: str
  sample: "2026-01-31T02:15:00Z"
error:
  description: Why the module failed, with type, phase, message, cause and hint.
  returned: failure
  type: dict
  sample:
    type: ConfigurationError
    phase: configuration
    message: s3://db-backups/infisical/bootstrap/latest-tokens.json belongs to another site
    cause: it names the site 'https://old.example.com', not 'https://infisical.example.com'
    hint: "correct site_url, or, to replace the other site's token, rotate it (rotate: true)"
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import _ansible
from ..module_utils._engine import admintoken
from ..module_utils._engine.domain.secret import Secret
from ..module_utils._engine.stores import registry

NAME = "infisical_admin_token"


def run(module: AnsibleModule) -> dict[str, t.Any]:
    """Keep the token; return the arguments of exit_json."""
    params = module.params
    kept = admintoken.keep(
        Secret(params["token"]),
        site_url=params["site_url"],
        recipients=params["recipients"],
        store=registry.open_store(_ansible.profile(module, NAME).store()),
        prefix=params["prefix"],
        rotate=params["rotate"],
        plan_only=module.check_mode,
    )
    for warning in kept.warnings:
        module.warn(warning)
    return {
        "changed": kept.changed,
        "key": kept.pointer.key,
        "pointer": kept.pointer_key,
        "sha256": kept.pointer.sha256,
        "created_at": kept.pointer.created_at,
    }


def main() -> t.NoReturn:
    """Entry point."""
    spec = _ansible.ArgumentSpec(
        _ansible.settings_of(NAME),
        libraries=["pyrage"],
        token={"type": "str", "required": True, "no_log": True},
        site_url={"type": "str", "required": True},
        recipients={"type": "list", "elements": "str", "required": True},
        prefix={"type": "str", "default": "infisical/"},
        rotate={"type": "bool", "default": False},
    )
    _ansible.run(spec.module(supports_check_mode=True), run)


if __name__ == "__main__":
    main()
