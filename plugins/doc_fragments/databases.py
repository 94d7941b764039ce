# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this doc fragment is PRIVATE to the collection.

from __future__ import annotations


class ModuleDocFragment:
    """The databases list."""

    DOCUMENTATION = r"""
options:
  databases:
    description:
      - The databases list. The whole list is validated before anything changes, and every error is reported at once.
      - P(infrazero.database.private#filter) converts JSON text to a list.
      - Either this or O(config) is needed. With O(config) alone, the list is that of C(db.env), without private keys.
    type: list
    elements: dict
    suboptions:
      name:
        description:
          - Name of the database. Needed, and once only.
          - At most 63 bytes, no whitespace and no V(/), and no template or maintenance database.
        type: str
      user:
        description:
          - The role that owns the database and logs in to it. Needed. Several databases may have the same.
          - At most 63 bytes, no whitespace and no V(/), and none that PostgreSQL reserves.
        type: str
      password:
        description:
          - Password of O(databases[].user). Needed, and not empty.
          - Where a user stands in several entries the last one's password holds.
        type: str
      backup_age_public_key:
        description:
          - The age recipient that backups are encrypted to, or a list of recipients that can each open them. Needed.
          - 'X25519 (C(age1...)), SSH (C(ssh-ed25519 ...), C(ssh-rsa ...)) and hardware keys (C(age1tag1...),
            C(age1tagpq1...)).'
        type: raw
      backup_age_private_key:
        description:
          - The age identity that opens the database's backups. Needed for a restore only. It is held in memory and
            never written anywhere.
        type: str
      restore_latest:
        description:
          - Whether a fresh cluster gets the latest backup of this database.
        type: bool
        default: true
      restore_dump_path:
        description:
          - The backup that a fresh cluster gets where O(databases[].restore_latest) is V(false) - key of a dump or a
            manifest, a prefix that ends with V(/), or C(s3://bucket/key). When empty or not given, none is restored.
        type: str
      backup_prefix:
        description:
          - Where the backups of this database lie instead of C(db/<name>/). Ends with V(/).
        type: str
        version_added: 0.2.0
      backup_signers:
        description:
          - Names of hosts, as in C(allowed_signers), whose backups of this database are accepted besides this host's
            own. A database that is restored from another host's backup names that host here.
        type: list
        elements: str
        version_added: 0.2.0
requirements:
  - python >= 3.9
  - pyrage
"""
