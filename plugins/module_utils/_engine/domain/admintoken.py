# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The pointer to Infisical's admin token in the store: where the encrypted token is, and of which site.

Other tools read and write this format (``infisical/bootstrap/latest-tokens.json``): it is exact.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import re

from ..errors import ConfigurationError, ManifestError
from .layout import locate, timestamp
from .text import NotJson, strict_json

#: A pointer has a few hundred bytes.
MAX_BYTES = 64 * 1024

_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_MOMENT = "%Y-%m-%dT%H:%M:%SZ"


def pointer_key(prefix: str) -> str:
    """Key of the pointer, where everything of Infisical is under *prefix*."""
    return f"{prefix}bootstrap/latest-tokens.json"


def token_key(prefix: str, moment: datetime.datetime) -> str:
    """Key of the encrypted admin token that is stored at *moment*."""
    return f"{prefix}bootstrap/{timestamp(moment)}/admin.token.age"


@dataclasses.dataclass(frozen=True)
class Pointer:
    """The pointer's fields.

    :param key: of the encrypted token.
    :param sha256: of the encrypted token; ``None`` where its writer left it out.
    """

    key: str
    site_url: str
    sha256: str | None
    created_at: str

    def render(self) -> bytes:
        """As it is stored."""
        fields = {
            "created_at": self.created_at,
            "infisical_site_url": self.site_url,
            "admin_token_key": self.key,
            "admin_token_sha256": self.sha256,
        }
        return json.dumps(fields, indent=2, ensure_ascii=False).encode() + b"\n"


def moment_text(moment: datetime.datetime) -> str:
    """*moment* in the form that pointers have."""
    return moment.strftime(_MOMENT)


def parse(data: bytes) -> Pointer:
    """Read a pointer.

    :raises ManifestError: where it is none.
    """
    try:
        fields = strict_json(data)
    except NotJson as exc:
        raise _bad(f"is not JSON: {exc}") from None
    if not isinstance(fields, dict):
        raise _bad("is not a JSON object")

    def text(name: str) -> str:
        value = fields.get(name)
        if value is not None and not isinstance(value, str):
            raise _bad(f"has a {name} that is not a text")
        return value or ""

    key, sha256 = text("admin_token_key"), text("admin_token_sha256") or None
    try:
        location = locate(key)
    except ConfigurationError as exc:
        raise _bad("names no token in admin_token_key", cause=exc.cause) from None
    if location.bucket is not None or key.endswith("/"):
        raise _bad("names a token outside of this bucket, or none", cause="admin_token_key is not a key")
    if sha256 is not None and not _SHA256.match(sha256):
        raise _bad("has an admin_token_sha256 that is none")
    return Pointer(key=key, site_url=text("infisical_site_url"), sha256=sha256, created_at=text("created_at"))


def _bad(reason: str, *, cause: str = "") -> ManifestError:
    return ManifestError(
        f"the pointer to the admin token {reason}",
        cause=cause,
        hint="look at it; to have a new one written in its place, ask for a rotation of the token",
    )
