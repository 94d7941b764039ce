# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""What a source remembers of its databases: what they were restored from, and the last backup of each."""

from __future__ import annotations

import dataclasses
import datetime
import typing as t

#: What became of a database's restore.  ``outstanding``: wanted and not done yet, so it must not be backed up;
#: ``empty``: there was no backup; ``skipped``: none was wanted.
OUTSTANDING = "outstanding"
RESTORED = "restored"
EMPTY = "empty"
SKIPPED = "skipped"


@dataclasses.dataclass(frozen=True)
class RestoredFrom:
    """What a database was restored from.

    :param url: of the object.
    :param sha256: of the encrypted object.
    :param created_at: when the backup was created, if anything said so.
    :param manifest_sha256: of the manifest's bytes, where one was read: it ties later backups to this one.
    :param system_identifier: of the cluster that the backup was made of, where the manifest says so.
    :param sequence: the backup's number, where the manifest was proven; ``None``: nothing vouches for it.
    """

    url: str
    key: str
    sha256: str
    created_at: str | None = None
    manifest_sha256: str | None = None
    system_identifier: str | None = None
    sequence: int | None = None


@dataclasses.dataclass(frozen=True)
class DatabaseRecord:
    """What is remembered of one database.

    :param restore: :data:`OUTSTANDING`, :data:`RESTORED`, :data:`EMPTY` or :data:`SKIPPED`.
    :param since: when it was recorded.
    :param dropped: with :data:`OUTSTANDING`, what belonged to the database and not to its contents, where it was
        dropped to make room for the restore; as its maker wrote it.
    """

    name: str
    restore: str
    restored_from: RestoredFrom | None
    since: datetime.datetime
    dropped: dict[str, t.Any] | None = None


@dataclasses.dataclass(frozen=True)
class BackupRecord:
    """The last backup of a database that this cluster has made in one place.

    What a store says of it may have been rolled back; this was not, as long as the cluster itself was not.

    :param location: URL of the prefix.
    :param sequence: the backup's number.
    :param manifest_sha256: SHA-256 of the manifest's bytes.
    :param key: of the dump.
    :param created_at: the run's timestamp.
    :param signed_by: name and fingerprint of the key that signed it; ``None``: it is not signed.
    """

    database: str
    location: str
    sequence: int
    manifest_sha256: str
    key: str
    created_at: datetime.datetime
    signed_by: dict[str, str] | None = None
