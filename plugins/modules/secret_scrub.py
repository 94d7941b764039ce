#!/usr/bin/python
# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: secret_scrub
short_description: Take private keys out of the files that brought them to a host
version_added: 0.1.0
description:
  - Rewrites scripts and cloud-init's copies of user-data so that they hold no private key any more. Everything else in
    them, their owner and their mode stay as they are.
  - Finds the keys also in base64 and gzip layers, as C(write_files) and MIME messages of cloud-init and C(ovf-env.xml)
    of Azure have them.
  - Takes out age identities wherever they stand, what is assigned to O(variables), and O(secrets).
  - A file is replaced as a whole, so a script that is running is not disturbed. The blocks of the disk that held the
    old file are not overwritten.
author:
  - The infrazero.database contributors (@infrazero)
extends_documentation_fragment:
  - infrazero.database.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
    details:
      - The difference is the secret.
  idempotent:
    support: full
options:
  paths:
    description:
      - Files, or patterns of them with V(*), V(?) and V([]). One that matches nothing is no error.
      - A symbolic link means the file it leads to. Directories are passed over.
    type: list
    elements: str
    required: true
  variables:
    description:
      - Shell variables whose assignments are emptied, with what else stands in that line.
      - V(export NAME=anything) becomes V(export NAME="").
    type: list
    elements: str
    default: [DATABASES_JSON_PRIVATE_B64]
  secrets:
    description:
      - Texts that are taken out wherever they stand.
    type: list
    elements: str
    default: []
seealso:
  - module: infrazero.database.pg_db_bootstrap
"""

EXAMPLES = r"""
- name: Forget the private keys
  infrazero.database.secret_scrub:
    paths:
      - /opt/infrazero/bootstrap/run.sh
      - /var/lib/cloud/instances/*/user-data.txt*
"""

RETURN = r"""
files:
  description: Files that held a secret.
  returned: success
  type: list
  elements: str
  sample: [/opt/infrazero/bootstrap/run.sh]
"""

import glob
import os
import pathlib
import tempfile
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import _ansible
from ..module_utils._engine.printing import printable
from ..module_utils._scrub import CantScrub, Scrubber


def run(module: AnsibleModule) -> dict[str, t.Any]:
    """Rewrite the files; what exit_json takes comes back."""
    scrubber = Scrubber(module.params["variables"], module.params["secrets"])
    # Not pathlib's, whose patterns can't be absolute.
    matches = (match for pattern in module.params["paths"] for match in glob.glob(pattern))  # noqa: PTH207
    found = {pathlib.Path(match).resolve() for match in matches}
    changed: list[str] = []
    faults: list[str] = []
    for path in sorted(found):
        try:
            if not path.is_file():
                continue
            data = path.read_bytes()
            scrubbed = scrubber.scrub(data)
            if scrubbed != data:
                if not module.check_mode:
                    replace(module, path, scrubbed)
                changed.append(str(path))
        except (CantScrub, OSError) as exc:
            faults.append(printable(f"{path}: {exc}"))
    result: dict[str, t.Any] = {"changed": bool(changed), "files": changed}
    if faults:
        module.fail_json(msg="private keys may be left in files: " + "; ".join(faults), **result)
    return result


def replace(module: AnsibleModule, path: pathlib.Path, data: bytes) -> None:
    """Put a file with *data* in place of the one at *path*, with its owner, mode and context."""
    number, name = tempfile.mkstemp(dir=module.tmpdir)
    with os.fdopen(number, "wb") as stream:
        stream.write(data)
    module.atomic_move(name, str(path))


def main() -> t.NoReturn:
    """Entry point."""
    spec = _ansible.ArgumentSpec(
        paths={"type": "list", "elements": "str", "required": True},
        variables={"type": "list", "elements": "str", "default": ["DATABASES_JSON_PRIVATE_B64"]},
        secrets={"type": "list", "elements": "str", "default": [], "no_log": True},
    )
    _ansible.run(spec.module(supports_check_mode=True), run)


if __name__ == "__main__":
    main()
