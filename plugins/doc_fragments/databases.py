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
          - Name of the database. Required and unique.
          - At most 63 bytes, without whitespace and V(/), and not a template or maintenance database.
        type: str
      user:
        description:
          - Role that owns the database and logs in to it. Required. Several databases may have the same user.
          - At most 63 bytes, without whitespace and V(/), and not a name that PostgreSQL reserves.
        type: str
      password:
        description:
          - Password of O(databases[].user). Required, not empty.
          - If several entries have the same user, the password of the last one is used.
        type: str
      backup_age_public_key:
        description:
          - age recipient that backups are encrypted to, or a list of recipients, each of which can decrypt them.
            Required.
          - 'X25519 (C(age1...)), SSH (C(ssh-ed25519 ...), C(ssh-rsa ...)) and hardware keys (C(age1tag1...),
            C(age1tagpq1...)).'
        type: raw
      backup_age_private_key:
        description:
          - age identity that decrypts the database's backups, needed for a restore only. It is kept in memory and
            never written anywhere.
        type: str
      restore_latest:
        description:
          - Whether a fresh cluster restores the latest backup of this database.
        type: bool
        default: true
      restore_dump_path:
        description:
          - Backup that a fresh cluster restores if O(databases[].restore_latest) is V(false) - key of a dump or a
            manifest, a prefix that ends with V(/), or C(s3://bucket/key). If empty, none is restored.
        type: str
      backup_prefix:
        description:
          - Prefix of the object keys of this database's backups, instead of C(db/<name>/). It ends with V(/).
        type: str
        version_added: 0.2.0
      backup_signers:
        description:
          - Names of hosts, as in C(allowed_signers), whose backups of this database are accepted besides this host's
            own. To restore a database from another host's backup, name that host here.
        type: list
        elements: str
        version_added: 0.2.0
requirements:
  - python >= 3.9
  - pyrage
"""
