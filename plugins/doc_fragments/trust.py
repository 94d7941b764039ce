# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this doc fragment is PRIVATE to the collection.

from __future__ import annotations


class ModuleDocFragment:
    """Whose backups are accepted."""

    DOCUMENTATION = r"""
options:
  signing_name:
    description:
      - The name that this host signs under, and whose backups it accepts as its own. Its name in the inventory.
      - When not given, the host's node name (C(uname -n)).
    type: str
    version_added: 0.2.0
  signing_key:
    description:
      - This host's private key, an Ed25519 key of OpenSSH without passphrase, which signs the manifests of backups.
        Where there is no such file they are not signed, with a warning.
      - What this key has signed is accepted without a line in O(allowed_signers). For that, the public key in the file
        beside it, which ends with C(.pub), is read.
    type: path
    default: /etc/infrazero/signing/id_ed25519
    version_added: 0.2.0
  allowed_signers:
    description:
      - The keys of hosts, as the text or as a list of the lines of an C(allowed_signers) file of OpenSSH. The name at
        the beginning of a line is the host that a manifest names.
      - A line alone does not make a host's backups acceptable. See O(signers).
      - When not given, O(allowed_signers_file) is read.
    type: raw
    version_added: 0.2.0
  allowed_signers_file:
    description:
      - The C(allowed_signers) file on the host.
    type: path
    default: /etc/infrazero/allowed_signers
    version_added: 0.2.0
  revoked_keys:
    description:
      - Public keys that are no longer trusted, as a text or as a list of lines.
      - When not given, O(revoked_keys_file) is read.
    type: raw
    version_added: 0.2.0
  revoked_keys_file:
    description:
      - The file of revoked keys on the host, if there is one.
    type: path
    default: /etc/infrazero/revoked_keys
    version_added: 0.2.0
  signers:
    description:
      - Names of other hosts whose backups are accepted, as lists by the name of a database, or by a prefix of keys that
        ends with V(/).
      - Backups of O(signing_name) and of O(databases[].backup_signers) are accepted without it.
    type: dict
    default: {}
    version_added: 0.2.0
requirements:
  - python >= 3.9
"""
