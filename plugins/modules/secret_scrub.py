#!/usr/bin/python
# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: secret_scrub
short_description: Remove private keys from the files that brought them to a host
version_added: 0.1.0
description:
  - Removes private keys from scripts and from cloud-init's copies of user-data. The rest of each file, its owner and
    its mode stay unchanged.
  - Also finds keys in layers of base64 and gzip, as in cloud-init's C(write_files), MIME messages and Azure's
    C(ovf-env.xml).
  - Removes all age identities, the values assigned to O(variables), and O(secrets).
  - Replaces a file as a whole, so a running script is not disturbed. Does not overwrite the disk blocks of the old
    file.
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
      - The difference would contain the secret.
  idempotent:
    support: full
options:
  paths:
    description:
      - Files, or patterns with V(*), V(?) and V([]). A pattern that matches nothing is not an error.
      - Symbolic links are followed. Directories are ignored.
    type: list
    elements: str
    required: true
  variables:
    description:
      - Shell variables whose values are removed, together with the rest of the line.
      - V(export NAME=anything) becomes V(export NAME="").
    type: list
    elements: str
    default: [DATABASES_JSON_PRIVATE_B64]
  secrets:
    description:
      - Texts to remove everywhere.
    type: list
    elements: str
    default: []
seealso:
  - module: infrazero.database.pg_db_bootstrap
"""

EXAMPLES = r"""
- name: Remove the private keys
  infrazero.database.secret_scrub:
    paths:
      - /opt/infrazero/bootstrap/run.sh
      - /var/lib/cloud/instances/*/user-data.txt*
"""

RETURN = r"""
files:
  description: Files that contained a secret.
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
    """Rewrite the files; return the arguments of exit_json."""
    scrubber = Scrubber(module.params["variables"], module.params["secrets"])
    # Not pathlib's glob, which does not support absolute patterns.
    matches = (match for pattern in module.params["paths"] for match in glob.glob(pattern))  # noqa: PTH207
    files = {pathlib.Path(match).resolve() for match in matches}
    changed: list[str] = []
    errors: list[str] = []
    for path in sorted(files):
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
            errors.append(printable(f"{path}: {exc}"))
    result: dict[str, t.Any] = {"changed": bool(changed), "files": changed}
    if errors:
        module.fail_json(msg="private keys may remain in these files: " + "; ".join(errors), **result)
    return result


def replace(module: AnsibleModule, path: pathlib.Path, data: bytes) -> None:
    """Replace the file at *path* with one that contains *data*; keep owner, mode and context."""
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
