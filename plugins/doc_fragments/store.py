# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this doc fragment is PRIVATE to the collection.

from __future__ import annotations


class ModuleDocFragment:
    """Where backups lie."""

    DOCUMENTATION = r"""
options:
  bucket:
    description:
      - The S3 bucket that holds the backups.
      - Exactly one of O(bucket) and O(directory) is needed.
    type: str
  endpoint:
    description:
      - URL of the S3 service. Where no scheme is given, C(https://) is put in front.
      - When not given, AWS is used.
    type: str
  region:
    description:
      - The bucket's region.
    type: str
  access_key_id:
    description:
      - The access key. When not given, the credential chain of boto3 is followed - its environment variables, its
        files, then the role of the machine.
    type: str
  secret_access_key:
    description:
      - The secret that belongs to O(access_key_id).
    type: str
  session_token:
    description:
      - The session token that belongs to O(access_key_id), where the credentials are temporary.
    type: str
  ca_bundle:
    description:
      - File with the certificates of the authorities that the service's own is checked against, instead of the
        system's. Certificates are always checked.
    type: path
  addressing_style:
    description:
      - Whether the bucket stands in the path of a URL or in its host name.
    type: str
    choices:
      - auto
      - path
      - virtual
    default: auto
  checksums:
    description:
      - Whether uploads carry the newer checksums of S3, which older compatible services refuse.
      - With V(auto) it is found out by trying.
    type: str
    choices:
      - auto
      - when_supported
      - when_required
    default: auto
  directory:
    description:
      - A local directory that holds the backups instead of a bucket. It must exist - a file system that is not mounted
        would otherwise look like a store without backups.
      - Exactly one of O(bucket) and O(directory) is needed. The other options of a bucket mean nothing with
        O(directory).
    type: path
requirements:
  - python >= 3.9
  - boto3 (for a bucket)
  - isal
  - xxhash
  - zstandard
"""
