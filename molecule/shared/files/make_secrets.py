# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""make_secrets.py FILE DATABASE...: write the secrets of one run of a scenario, as JSON that only the caller can read.

Passwords have what shells, SQL, YAML and ini files treat in ways of their own.
"""

from __future__ import annotations

import json
import os
import pathlib
import secrets
import sys
import typing as t

import pyrage


def database(name: str) -> dict[str, t.Any]:
    """An entry of infrazero_databases."""
    identity = pyrage.x25519.Identity.generate()
    return {
        "name": name,
        "user": name,
        "password": f"{secrets.token_urlsafe(12)} 'q\"$HOME%d\\\\:@/é",
        "backup_age_public_key": str(identity.to_public()),
        "backup_age_private_key": str(identity),
    }


path = pathlib.Path(sys.argv[1])
text = json.dumps(
    {
        "databases": [database(name) for name in sys.argv[2:]],
        "s3_access_key_id": secrets.token_hex(10).upper(),
        "s3_secret_access_key": secrets.token_urlsafe(30),
    }
)
with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
    file.write(text)
