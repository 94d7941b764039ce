# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: engine
short_description: The engine of this collection, packed for a host
version_added: 0.1.0
description:
  - Packs the engine of this collection, which also runs without Ansible, into an archive.
  - Used by the role P(infrazero.database.runtime#role), which copies it to hosts in one piece.
author:
  - The infrazero.database contributors (@infrazero)
options: {}
"""

EXAMPLES = r"""
- name: Show the digest of the engine
  ansible.builtin.debug:
    msg: "{{ lookup('infrazero.database.engine').digest }}"
"""

RETURN = r"""
_raw:
  description: The archive.
  type: list
  elements: dict
  contains:
    digest:
      description:
        - SHA-256 of the uncompressed archive, in hexadecimal digits.
        - The same engine has the same digest everywhere.
      type: str
      sample: 4355a46b19d348dc2f57c046f8ef63d4538ebb936000f3c9ee954a27460dd865
    content:
      description: The archive in base64. A compressed C(tar) file with one directory, C(infrazero_engine).
      type: str
"""

import base64
import gzip
import hashlib
import io
import pathlib
import tarfile
import typing as t

from ansible.plugins.lookup import LookupBase

_ENGINE = pathlib.Path(__file__).resolve().parents[1] / "module_utils" / "_engine"


def pack() -> bytes:
    """The engine as a package ``infrazero_engine`` in a tar file.

    Owners, modes and times of the files are left out: equal engines give equal bytes.
    """
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path in sorted(_ENGINE.rglob("*.py")):
            member = tarfile.TarInfo(f"infrazero_engine/{path.relative_to(_ENGINE).as_posix()}")
            data = path.read_bytes()
            member.size = len(data)
            member.mode = 0o644
            archive.addfile(member, io.BytesIO(data))
    return plain.getvalue()


class LookupModule(LookupBase):
    """The engine, packed."""

    def run(
        self, terms: t.Sequence[str], variables: t.Mapping[str, t.Any] | None = None, **kwargs: t.Any
    ) -> list[dict[str, str]]:
        """One result, whatever the terms are."""
        archive = pack()
        return [
            {
                "digest": hashlib.sha256(archive).hexdigest(),
                "content": base64.b64encode(gzip.compress(archive, 1)).decode(),
            }
        ]
