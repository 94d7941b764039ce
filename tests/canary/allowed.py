# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a secret may be, each with its reason.  Everything else is a leak.

The list stands in docs/security.md, too.
"""

from __future__ import annotations

import dataclasses
import re
import typing as t

if t.TYPE_CHECKING:
    from .canaries import Hit


@dataclasses.dataclass(frozen=True)
class Allowed:
    """A place that may hold some secrets.

    :param place: pattern for the whole of :attr:`Hit.place`.
    :param canaries: pattern for the whole of the secret's name.
    """

    place: str
    canaries: str
    why: str

    def covers(self, hit: Hit) -> bool:
        """Whether the secret may be there."""
        return bool(re.fullmatch(self.place, hit.place, re.DOTALL) and re.fullmatch(self.canaries, hit.canary))


ALLOWED = (
    Allowed(
        r".*/controller/(inventory\.json|private\.yml)",
        r".*",
        "the inventory and playbook of whoever runs the playbook: that is where the secrets come from",
    ),
    Allowed(
        r".*/etc/db\.env",
        r"password of .*|S3 secret key",
        "db.env of the host, 0600, its runtime user's: what a backup needs; never a private key",
    ),
    Allowed(
        r"environment DB_RESTORE_AGE_PRIVATE_KEY of /bin/sh .*/restore\.sh .*",
        r"private key of .*",
        "whoever calls restore.sh has put the key into its environment; nothing that it starts has it",
    ),
    Allowed(
        r"environment DATABASES_JSON_PRIVATE_B64 of .*",
        r"private key of .*|password of .*",
        "a first boot exports the private list, and what it starts inherits it, until the bootstrap ends",
    ),
    Allowed(
        r".*/signing/id_ed25519",
        r"signing key",
        "the host's own signing key, 0600 in a folder of 0700, its runtime user's",
    ),
    Allowed(
        r"PGDATA/(global|pg_wal)/.*",
        r"verifier of .*",
        "what PostgreSQL keeps in place of a password; it stands in no log and in no statistics",
    ),
)


def leaks(hits: t.Iterable[Hit]) -> list[Hit]:
    """*hits* that nothing allows."""
    return sorted({hit for hit in hits if not any(allowed.covers(hit) for allowed in ALLOWED)})
