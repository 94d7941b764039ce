# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The manifest: what a backup says about itself.

Three fields are the oldest form (``key``, ``sha256``, ``created_at``); a manifest that another tool wrote has only
those.  Ours adds what a restore needs to know beforehand and what proves the result: a head that is the same for every
kind of source, and one object with the facts of its source, named after it.  The bytes are canonical JSON (sorted keys,
no spaces, UTF-8), so that they can be hashed as they are; what is signed is the same without the signature, which is
what ``jq -cjS 'del(.signature)'`` prints.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
import re
import typing as t

from ..errors import ConfigurationError, ManifestError
from .fields import SHA256, Fields, invalid
from .layout import locate
from .text import NotJson, strict_json

#: Version of the fields beside the oldest three.  1 had PostgreSQL's facts among them, and no ``chunks``.
SCHEMA_VERSION = 2
#: Bytes of each chunk of an object, and how many of them are enough: larger objects have larger ones.
CHUNK_SIZE = 8 * 1024 * 1024
_MANY_CHUNKS = 100_000
#: Sizes of chunks that are accepted: with smaller ones the list would be too long, and larger ones fill the memory.
MIN_CHUNK_SIZE = 64 * 1024
MAX_CHUNK_SIZE = 64 * 1024 * 1024
#: No manifest is longer: 100,000 tables with long names fit.
MAX_BYTES = 64 * 1024 * 1024
#: No manifest has more fields (in all its objects together), or more items of any kind.  A table has three fields and
#: is four items, a chunk is one, so 100,000 tables fit twice.  A small item costs many times its bytes once it is read:
#: without a limit 64 MiB of them would take 1.75 GiB.
MAX_FIELDS = 600_000
MAX_ITEMS = 1_500_000

#: Kinds of sources, as the field ``source`` names them, and kinds of backups, as ``kind`` does.
POSTGRESQL = "postgresql"
DUMP = "dump"
GLOBALS = "globals"

_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
#: A JSON string whose escapes were removed.
_STRING = re.compile(rb'"[^"]*"')

_Reader = t.Callable[[Fields, str], t.Any]


def _by(read: _Reader, *, since: int = 1) -> dict[str, t.Any]:
    """The metadata of a field.

    :param read: reads it from JSON.
    :param since: the schema version that introduced it, 0 for the oldest three; in older manifests it means nothing.
    """
    return {"read": read, "since": since}


def _read(kind: type[t.Any], fields: Fields, version: int) -> dict[str, t.Any]:
    """The fields of the dataclass *kind* that a manifest of *version* can have."""
    return {
        field.name: field.metadata["read"](fields, field.name)
        for field in dataclasses.fields(kind)
        if "read" in field.metadata and field.metadata["since"] <= version
    }


# Parts --------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows of one table in a dump.

    :param name: qualified and quoted as it is in the dump.
    :param digest: HMAC-SHA-256 (hex) of the rows' XXH3-128, under a key that only the dump itself holds, so that a
        reader of the manifest can't guess small tables.
    """

    name: str
    rows: int
    digest: str


@dataclasses.dataclass(frozen=True)
class Extension:
    """An extension that the dumped database had."""

    name: str
    version: str


@dataclasses.dataclass(frozen=True)
class Chunks:
    """The encrypted object in pieces, so that each can be proven before anything reads it.

    :param size: bytes of each chunk; the last one has what is left.
    :param sha256: of each chunk, lower-case hex, in their order.
    """

    size: int
    sha256: tuple[str, ...]


def _chunks(fields: Fields, name: str) -> Chunks | None:
    value, total = fields.any(name), fields.number("size")
    if value is None:
        return None
    if not isinstance(value, dict) or total is None:
        raise fields.invalid(name, "are not an object beside a size")
    size, sha256 = value.get("size"), value.get("sha256")
    if isinstance(size, bool) or not isinstance(size, int) or not MIN_CHUNK_SIZE <= size <= MAX_CHUNK_SIZE:
        raise fields.invalid(name, f"do not have a size from {MIN_CHUNK_SIZE} to {MAX_CHUNK_SIZE} bytes")
    expected = -(-total // size)
    if not isinstance(sha256, list) or len(sha256) != expected:
        raise fields.invalid(name, f"are not the {expected} that an object of {total} bytes has")
    if not all(isinstance(item, str) and SHA256.match(item) for item in sha256):
        raise fields.invalid(name, "have a SHA-256 that is not in lower-case hex")
    return Chunks(size, tuple(sha256))


def _extensions(fields: Fields, name: str) -> tuple[Extension, ...] | None:
    objects = fields.objects(name)
    if objects is None:
        return None
    return tuple(Extension(one.required_text("name"), one.required_text("version")) for one in objects)


def _tables(fields: Fields, name: str) -> tuple[Table, ...] | None:
    objects = fields.objects(name)
    if objects is None:
        return None
    return tuple(
        Table(one.required_text("name"), one.required_number("rows"), one.required_text("digest")) for one in objects
    )


@dataclasses.dataclass(frozen=True)
class Destination:
    """What was known about the store when the backup was written.

    :param kind: ``s3`` or ``directory``.
    :param create_only: whether of two writers that create one key exactly one wins.
    :param checksums: whether it checks the CRC that comes with each write.
    """

    kind: str | None = dataclasses.field(default=None, metadata=_by(Fields.text, since=2))
    create_only: bool | None = dataclasses.field(default=None, metadata=_by(Fields.flag, since=2))
    checksums: bool | None = dataclasses.field(default=None, metadata=_by(Fields.flag, since=2))


@dataclasses.dataclass(frozen=True)
class Rekeyed:
    """What a backup was before it was encrypted to other recipients; everything else is as it was.

    :param at: when it was rekeyed, whole seconds.
    :param sha256: SHA-256 of the earlier manifest's bytes, lower-case hex.
    :param manifest: the fields of the earlier manifest that were different; ``None``: it did not have the field.
    """

    at: datetime.datetime
    sha256: str
    manifest: t.Mapping[str, t.Any]


def _rekeyed(fields: Fields, name: str) -> Rekeyed | None:
    inner = fields.object(name)
    if inner is None:
        return None
    earlier = inner.any("manifest")
    if not isinstance(earlier, dict):
        raise inner.invalid("manifest", "is not an object")
    try:
        _canonical(earlier)
    except (ValueError, RecursionError):
        raise inner.invalid("manifest", "can't be brought into its canonical form") from None
    return Rekeyed(inner.required_moment("at"), inner.required_sha256("sha256"), earlier)


def _destination(fields: Fields, name: str) -> Destination | None:
    inner = fields.object(name)
    return None if inner is None else Destination(**_read(Destination, inner, SCHEMA_VERSION))


@dataclasses.dataclass(frozen=True)
class Postgresql:
    """The facts of a PostgreSQL database.

    :param system_identifier: of the cluster that was dumped, decimal.
    :param server_version_num: as the server's setting of that name: ``150018``.
    :param dump_version: version of the ``pg_dump`` that wrote the dump.
    :param format: ``plain``: the dump is SQL text.
    :param roles: names of the roles that own something or are granted something in the database.
    :param preamble_sha256: lower-case hex over the text before that of ``pg_dump``.
    :param restore_findings: what a restore would refuse or leave out, as the backup found; empty: nothing.
    :param database_size: bytes that the database took in its cluster.
    """

    database: str | None = dataclasses.field(default=None, metadata=_by(Fields.text))
    system_identifier: str | None = dataclasses.field(default=None, metadata=_by(Fields.text))
    server_version: str | None = dataclasses.field(default=None, metadata=_by(Fields.text))
    server_version_num: int | None = dataclasses.field(default=None, metadata=_by(Fields.number))
    dump_version: str | None = dataclasses.field(default=None, metadata=_by(Fields.text))
    format: str | None = dataclasses.field(default=None, metadata=_by(Fields.text))
    encoding: str | None = dataclasses.field(default=None, metadata=_by(Fields.text))
    locale_provider: str | None = dataclasses.field(default=None, metadata=_by(Fields.text))
    collate: str | None = dataclasses.field(default=None, metadata=_by(Fields.text))
    ctype: str | None = dataclasses.field(default=None, metadata=_by(Fields.text))
    icu_locale: str | None = dataclasses.field(default=None, metadata=_by(Fields.text))
    icu_rules: str | None = dataclasses.field(default=None, metadata=_by(Fields.text, since=2))
    extensions: tuple[Extension, ...] | None = dataclasses.field(default=None, metadata=_by(_extensions))
    roles: tuple[str, ...] | None = dataclasses.field(default=None, metadata=_by(Fields.texts))
    tables: tuple[Table, ...] | None = dataclasses.field(default=None, metadata=_by(_tables))
    preamble_sha256: str | None = dataclasses.field(default=None, metadata=_by(Fields.sha256, since=2))
    restore_findings: tuple[str, ...] | None = dataclasses.field(default=None, metadata=_by(Fields.texts, since=2))
    database_size: int | None = dataclasses.field(default=None, metadata=_by(Fields.number, since=2))


#: The part of each kind of source.  Each has the fields that :class:`Manifest` passes on: ``database``,
#: ``system_identifier`` (what tells one source of its kind from another) and ``tables``.
PARTS: t.Mapping[str, type[Postgresql]] = {POSTGRESQL: Postgresql}
Part = Postgresql


# The manifest -------------------------------------------------------------------------------------------------------


def _key(fields: Fields, name: str) -> str:
    key = fields.required_text(name)
    try:
        location = locate(key)
    except ConfigurationError as exc:
        raise fields.invalid(name, "does not name an object", cause=exc.cause) from None
    if location.is_manifest:
        raise fields.invalid(name, "names a manifest, not a dump")
    return key


@dataclasses.dataclass(frozen=True)
class Manifest:
    """One backup.  Sizes are bytes, durations seconds, moments UTC; ``None``: unknown (another tool's manifest).

    :param key: key of the object, relative to the manifest's bucket, or ``s3://bucket/key``.
    :param sha256: lower-case hex over the encrypted object.
    :param created_at: the run's timestamp, whole seconds.
    :param source: what was backed up: ``postgresql``.
    :param kind: what the object contains: ``dump``, or ``globals`` of a cluster.
    :param version: of infrazero.database, which wrote the backup.
    :param size: of the encrypted object.
    :param chunks: of the encrypted object; never without *size*.
    :param plaintext_size: before compression and encryption.
    :param plaintext_sha256: lower-case hex over the plain text; written by version 0.1 only.
    :param recipients: the public keys that the object was encrypted to.
    :param sequence: counts the backups of this database, from 1.
    :param previous_sha256: SHA-256 of the bytes of the manifest before this one, ``None`` for the first.
    :param rekeyed: what the backup was before it was rekeyed; ``None``: it was not.
    :param allow_unsigned: the backup before it is signed, and the operator allowed that this one is not.
    :param part: the facts of the source; in JSON an object under the name of the source.
    :param signature: armored SSHSIG over :func:`signed_text`.
    """

    key: str = dataclasses.field(metadata=_by(_key, since=0))
    sha256: str = dataclasses.field(metadata=_by(Fields.required_sha256, since=0))
    created_at: datetime.datetime = dataclasses.field(metadata=_by(Fields.required_moment, since=0))
    schema_version: int | None = dataclasses.field(default=None, metadata=_by(Fields.number))
    source: str | None = dataclasses.field(default=None, metadata=_by(Fields.text, since=2))
    kind: str | None = dataclasses.field(default=None, metadata=_by(Fields.text, since=2))
    version: str | None = dataclasses.field(default=None, metadata=_by(Fields.text, since=2))
    compression: str | None = dataclasses.field(default=None, metadata=_by(Fields.text))
    size: int | None = dataclasses.field(default=None, metadata=_by(Fields.number))
    chunks: Chunks | None = dataclasses.field(default=None, metadata=_by(_chunks, since=2))
    plaintext_size: int | None = dataclasses.field(default=None, metadata=_by(Fields.number))
    plaintext_sha256: str | None = dataclasses.field(default=None, metadata=_by(Fields.sha256))
    recipients: tuple[str, ...] | None = dataclasses.field(default=None, metadata=_by(Fields.texts, since=2))
    destination: Destination | None = dataclasses.field(default=None, metadata=_by(_destination, since=2))
    duration_seconds: float | None = dataclasses.field(default=None, metadata=_by(Fields.seconds))
    host: str | None = dataclasses.field(default=None, metadata=_by(Fields.text))
    sequence: int | None = dataclasses.field(default=None, metadata=_by(Fields.number))
    previous_sha256: str | None = dataclasses.field(default=None, metadata=_by(Fields.sha256))
    rekeyed: Rekeyed | None = dataclasses.field(default=None, metadata=_by(_rekeyed, since=2))
    allow_unsigned: bool | None = dataclasses.field(default=None, metadata=_by(Fields.flag, since=2))
    part: Part | None = None
    signature: str | None = dataclasses.field(default=None, metadata=_by(Fields.text))

    @property
    def database(self) -> str | None:
        """The database that was backed up."""
        return None if self.part is None else self.part.database

    @property
    def system_identifier(self) -> str | None:
        """The cluster that it was backed up from."""
        return None if self.part is None else self.part.system_identifier

    @property
    def tables(self) -> tuple[Table, ...] | None:
        """Its tables, as far as they are counted."""
        return None if self.part is None else self.part.tables

    @property
    def stands_for(self) -> tuple[str, ...]:
        """SHA-256 of the manifests of the same backup before it was rekeyed, the last one first."""
        found = []
        earlier: t.Any = self.rekeyed and {"sha256": self.rekeyed.sha256, "manifest": self.rekeyed.manifest}
        while isinstance(earlier, dict) and isinstance(earlier.get("sha256"), str):
            found.append(earlier["sha256"])
            inner = earlier.get("manifest")
            earlier = inner.get("rekeyed") if isinstance(inner, dict) else None
        return tuple(found)

    @property
    def rows(self) -> int | None:
        """Rows of all tables together."""
        return None if self.tables is None else sum(table.rows for table in self.tables)


def chunk_size(estimated: int) -> int:
    """Bytes of each chunk of an object of about *estimated* bytes."""
    size = CHUNK_SIZE
    while size < MAX_CHUNK_SIZE and estimated > _MANY_CHUNKS * size:
        size *= 2
    return size


# Writing ------------------------------------------------------------------------------------------------------------


def render(manifest: Manifest) -> bytes:
    """The canonical bytes of *manifest* in the form of :data:`SCHEMA_VERSION`; unknown fields are left out."""
    fields = _plain(manifest)
    part = fields.pop("part", None)
    if part is not None:
        fields[manifest.source or POSTGRESQL] = part
    return _canonical(fields)


def _plain(value: t.Any) -> t.Any:
    if dataclasses.is_dataclass(value):
        pairs = ((field.name, getattr(value, field.name)) for field in dataclasses.fields(value))
        return {name: _plain(item) for name, item in pairs if item is not None}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, datetime.datetime):
        # Not strftime(), which writes the year 1 without its zeros.
        return value.astimezone(datetime.timezone.utc).replace(tzinfo=None).isoformat(timespec="seconds") + "Z"
    if isinstance(value, float) and value.is_integer():
        return int(value)  # as jq writes it
    return value


def signed_text(data: bytes) -> bytes:
    """What the signature of the manifest *data* covers: all its fields, also unknown ones, but ``signature``.

    :raises ManifestError: where the bytes contain what canonical JSON can't.
    """
    try:
        fields = strict_json(data)
        return _canonical({name: value for name, value in fields.items() if name != "signature"})
    except (NotJson, AttributeError, ValueError, RecursionError):
        raise invalid("can't be brought into its canonical form") from None


def _canonical(value: t.Any) -> bytes:
    # In small pieces: one emoji in a text makes each of its characters take four bytes.
    if isinstance(value, dict):
        return (
            b"{" + b",".join([_encoded(name) + b":" + _canonical(item) for name, item in sorted(value.items())]) + b"}"
        )
    if isinstance(value, list):
        return b"[" + b",".join(map(_encoded, value)) + b"]"
    return _encoded(value)


def _encoded(value: t.Any) -> bytes:
    # The one printable difference to jq, which escapes this control character too.
    return _ENCODER.encode(value).replace("\x7f", "\\u007f").encode("utf-8")


def rekeyed(
    data: bytes, *, at: datetime.datetime, recipients: tuple[str, ...], changes: t.Mapping[str, t.Any]
) -> Manifest:
    """The manifest, without a signature, of the backup that the manifest *data* describes, once it is rekeyed.

    :param changes: other fields of the new one; all that are not among them are as they were.
    :raises ManifestError: where *data* can't be embedded in another manifest.
    """
    before = parse(data)
    fields = {
        "plaintext_sha256": None,
        "source": before.source,
        "kind": before.kind,
        **changes,
        "schema_version": SCHEMA_VERSION,
        "recipients": recipients,
        "signature": None,
    }
    bare = dataclasses.replace(before, **fields, rekeyed=None)
    old, new = strict_json(data), strict_json(render(bare))
    # The signature is that of the old one in any case: the new one gets its own later.
    names = {name for name in {*old, *new} if old.get(name) != new.get(name)} | {"signature"}
    known = {name: old.get(name) for name in sorted(names)}
    after = dataclasses.replace(bare, rekeyed=Rekeyed(at.replace(microsecond=0), digest(data), known))
    try:
        embedded = earlier(render(after))
        whole = before.signature is None or signed_text(embedded) == signed_text(data)
    except (ValueError, RecursionError):
        whole = False
    if not whole:
        raise invalid("can't be embedded in that of a rekeyed backup")
    return after


def earlier(data: bytes) -> bytes:
    """The manifest, in its canonical form, that the rekeyed backup of *data* had before.

    As jq writes it: ``(del(.rekeyed) + .rekeyed.manifest) | with_entries(select(.value != null))``.

    :raises ManifestError: where the bytes are not a manifest.
    """
    try:
        fields = strict_json(data)
        fields = {**fields, "rekeyed": None, **fields["rekeyed"]["manifest"]}
        return _canonical({name: value for name, value in fields.items() if value is not None})
    except (NotJson, AttributeError, KeyError, TypeError, ValueError, RecursionError):
        raise invalid("does not describe the backup that it was rekeyed from") from None


def agree(one: Manifest, other: Manifest) -> bool:
    """Whether two manifests, one of a rekeyed backup and one of what it was before, describe the same contents."""
    names = ("created_at", "source", "kind", "compression", "plaintext_size", "sequence", "previous_sha256", "part")
    return all(getattr(one, name) == getattr(other, name) for name in names)


def digest(data: bytes) -> str:
    """SHA-256 of a manifest's bytes as they are in the store: the link that the next manifest contains."""
    return hashlib.sha256(data).hexdigest()


# Reading ------------------------------------------------------------------------------------------------------------


def parse(data: bytes) -> Manifest:
    """Read a manifest, no matter who wrote it.

    :raises ManifestError: where the bytes are not a manifest, break its format, or are of a version that is newer than
        this program; the text names the field.
    """
    if len(data) > MAX_BYTES:
        raise invalid(f"is longer than {MAX_BYTES} bytes")
    _check_structure(data)
    try:
        parsed = strict_json(data)
    except NotJson as exc:
        raise invalid(f"is not JSON: {exc}") from None
    if not isinstance(parsed, dict):
        raise invalid("is not a JSON object")
    fields = Fields(parsed)
    version = fields.number("schema_version")
    if version is not None and version > SCHEMA_VERSION:
        raise ManifestError(
            f"the manifest has version {version}, which needs a newer version of infrazero.database",
            cause=f"this one reads versions up to {SCHEMA_VERSION}",
            hint="update infrazero.database to the version that wrote the backup, or a newer one",
        )
    # Another tool may have fields of its own beside the oldest three: only our version gives ours their meaning.
    read = _read(Manifest, fields, 0 if version is None else max(version, 1))
    if version is not None and version < 2:
        read.update(source=POSTGRESQL, kind=DUMP, part=Postgresql(**_read(Postgresql, fields, version)))
    elif version is not None and read["source"] in PARTS:
        kind = PARTS[read["source"]]
        inner = fields.object(read["source"])
        read["part"] = None if inner is None else kind(**_read(kind, inner, version))
    return Manifest(**read)


def _check_structure(data: bytes) -> None:
    """Count what JSON *data* would become, in linear time and before any of it is built.

    :raises ManifestError: where that is more than any backup has.
    """
    # Without the two escapes that matter each quote begins or ends a string.  Where there are more strings than fields
    # and items together, JSON has too many of these, whatever its strings contain.
    plain = data.replace(b"\\\\", b"").replace(b'\\"', b"")
    outside = _STRING.sub(b"", plain) if plain.count(b'"') <= 2 * (MAX_FIELDS + MAX_ITEMS) else plain
    fields, items = outside.count(b":"), sum(map(outside.count, (b",", b"[", b"{")))
    for name, count, most in (("fields", fields, MAX_FIELDS), ("items", items, MAX_ITEMS)):
        if count > most:
            raise invalid(f"has more than {most} {name}")
