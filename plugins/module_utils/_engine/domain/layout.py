# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The layout of the store: the keys of dumps and manifests, and the texts by which a backup can be named.

The formats are those of docs/formats/objects.md; other tools read and write them.
"""

from __future__ import annotations

import dataclasses
import datetime
import re

from ..errors import ConfigurationError
from .text import utf8_size

#: Name of the manifest that points to the newest good backup under a prefix.
LATEST = "latest-dump.json"
#: Suffix of the immutable manifest of each dump that this collection writes.
MANIFEST_SUFFIX = ".manifest.json"
#: S3's limit for the length of a key, in bytes of UTF-8.
MAX_KEY_BYTES = 1024

_TIMESTAMP = "%Y%m%dT%H%M%SZ"
#: Letters of S3's bucket names, those of its oldest region included; nothing that leads out of a directory.
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}\Z")
_DUMP_NAME = re.compile(
    r"(?P<prefix>.*/)(?P<stamp>[0-9]{8}T[0-9]{6}Z)(?P<rekeyed>\.rekeyed-[0-9]{8}T[0-9]{6}Z)?"
    r"(?P<layers>\.(?:sql|dump)(?:\.[a-z0-9]{2,3})?(?:\.age)?)\Z",
    re.DOTALL,
)


def timestamp(moment: datetime.datetime) -> str:
    """*moment* in the form used in keys: ``20261121T032000Z``, UTC, whole seconds."""
    return moment.astimezone(datetime.timezone.utc).strftime(_TIMESTAMP)


def prefix(database: str) -> str:
    """The default prefix of the objects of *database*, used unless its entry in the list has a backup_prefix."""
    return f"db/{database}/"


def cluster_prefix(host: str) -> str:
    """The default prefix of what belongs to the cluster of *host* and to none of its databases."""
    return f"cluster/{host}/"


def globals_prefix(cluster: str) -> str:
    """The prefix of the backups of a cluster's globals, under the prefix *cluster*."""
    return f"{cluster}globals/"


def home_of(key: str) -> str | None:
    """The database whose default prefix *key* is under; ``None`` if there is none."""
    match = re.match(r"db/([^/]+)/[^/]+\Z", key)
    return match[1] if match else None


def latest_key(under: str) -> str:
    """Key of the manifest of the newest good backup under the prefix *under*."""
    return under + LATEST


def dump_key(under: str, moment: datetime.datetime, *, suffix: str = ".gz") -> str:
    """Key of the dump under the prefix *under* in the run that began at *moment*.

    :param suffix: of the compression method; ``.gz`` is the form that other tools write.
    """
    return f"{under}{timestamp(moment)}.sql{suffix}.age"


def signer_key(under: str, host: str, fingerprint: str) -> str:
    """Key of the public signing key of *host* under the prefix *under*, where people find it.

    :param fingerprint: ``SHA256:...``; its base64 is written in the alphabet that is safe in names of files.
    """
    name = fingerprint.rpartition(":")[2].replace("+", "-").replace("/", "_")
    return f"{under}signers/{host}-{name}.pub"


def manifest_key(dump: str) -> str:
    """Key of the immutable manifest of the dump with the key *dump*."""
    match = _DUMP_NAME.match(dump)
    stem = match["prefix"] + match["stamp"] + (match["rekeyed"] or "") if match else dump
    return stem + MANIFEST_SUFFIX


def rekeyed_key(dump: str, *, created_at: datetime.datetime, moment: datetime.datetime) -> str:
    """Key of the copy of *dump* that is encrypted to other recipients: beside it, and with the same time first.

    :param created_at: when the backup was created.
    :param moment: when it is rekeyed.
    """
    match = _DUMP_NAME.match(dump)
    under = match["prefix"] if match else dump.rpartition("/")[0] + "/"
    layers = match["layers"] if match else ".sql.gz.age" if dump.endswith(".gz.age") else ".sql.age"
    return f"{under}{timestamp(created_at)}.rekeyed-{timestamp(moment)}{layers}"


def moment_of(key: str) -> datetime.datetime | None:
    """When the backup was created, by the key of its dump or immutable manifest; ``None`` for any other key."""
    match = _DUMP_NAME.match(key[: -len(MANIFEST_SUFFIX)] + ".sql" if key.endswith(MANIFEST_SUFFIX) else key)
    if match is None:
        return None
    try:
        moment = datetime.datetime.strptime(match["stamp"], _TIMESTAMP)
    except ValueError:
        return None
    return moment.replace(tzinfo=datetime.timezone.utc)


@dataclasses.dataclass(frozen=True)
class Location:
    """A key, and its bucket unless that is the configured one."""

    key: str
    bucket: str | None = None

    @property
    def is_manifest(self) -> bool:
        """Whether the name is that of a manifest; anything else is a dump."""
        return self.key.endswith((LATEST, MANIFEST_SUFFIX))


def locate(text: str, *, within: str | None = None) -> Location:
    """Parse a text that names a dump, a manifest or a prefix that has a latest manifest.

    ``s3://bucket/key`` names another bucket, anything else is a key.  A key that ends with ``/`` is a prefix and means
    its latest manifest.

    :param within: the bucket that a relative key belongs to; ``None`` for the configured one (a relative key in a
        manifest of another bucket belongs to that bucket).
    :raises ConfigurationError: if *text* is none of these.
    """
    bucket, key = within, text
    if text.startswith("s3://"):
        bucket, slash, key = text[len("s3://") :].partition("/")
        if not bucket or not slash or not key:
            raise _invalid_location(text, "the bucket or the key is missing")
        if not _BUCKET.match(bucket):
            raise _invalid_location(text, "the name of the bucket is invalid")
    elif "://" in text:
        raise _invalid_location(text, "only s3:// URLs are supported")
    if not key or key.startswith("/"):
        raise _invalid_location(text, "a key must not begin with '/'")
    if any(part in (".", "..") for part in key.split("/")):
        raise _invalid_location(text, "a key must not have '.' or '..' as a part")
    if re.search(r"[\x00-\x1f\x7f]", key):
        raise _invalid_location(text, "a key must not contain control characters")
    size = utf8_size(key)
    if size is None or size > MAX_KEY_BYTES:
        raise _invalid_location(text, f"a key must have at most {MAX_KEY_BYTES} bytes in UTF-8")
    return Location(key + LATEST if key.endswith("/") else key, bucket)


def _invalid_location(text: str, cause: str) -> ConfigurationError:
    return ConfigurationError(
        f"{text!r} does not name a backup",
        cause=cause,
        hint="give a key such as db/app/20260101T000000Z.sql.gz.age, a prefix such as db/app/, or s3://bucket/key",
    )
