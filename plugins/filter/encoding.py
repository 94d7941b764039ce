# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters: encode text for transport, and make it safe to show."""

from __future__ import annotations

import base64
import gzip

from ansible.errors import AnsibleFilterError
from ansible_collections.infrazero.database.plugins.module_utils._engine import printing


def gzip_b64(value: object) -> str:
    """Text, compressed with gzip, in base64; equal texts give equal results."""
    if not isinstance(value, str):
        raise AnsibleFilterError("infrazero.database.gzip_b64: the value is not text")
    return base64.b64encode(gzip.compress(value.encode(), mtime=0)).decode()


def printable(value: object) -> str:
    """Text in one line without control sequences: each unprintable character as its escape."""
    return printing.printable(str(value))


class FilterModule:
    """Filters of infrazero.database."""

    def filters(self) -> dict[str, object]:
        """By name."""
        return {"gzip_b64": gzip_b64, "printable": printable}
