# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The manifest: what a backup says of itself.

Three fields are the contract's (``key``, ``sha256``, ``created_at``); a manifest of another tool has no others.  Ours
adds what a restore wants to know beforehand and what proves it afterwards.  The bytes are canonical JSON (sorted keys,
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
from .layout import locate
from .text import NotJson, strict_json, utf8_size

#: Version of the fields that stand beside the contract's three.  1 had no ``chunks``.
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

_MOMENT = "%Y-%m-%dT%H:%M:%SZ"
#: What a signed integer of 64 bits holds: more is no size, count or version.
_MAX_NUMBER = 2**63 - 1
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
#: A JSON string whose escapes were removed.
_STRING = re.compile(rb'"[^"]*"')


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows of one table in a dump.

    :param name: qualified and quoted as it stands in the dump.
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


@dataclasses.dataclass(frozen=True)
class Manifest:
    """One backup.  Sizes are bytes, durations seconds, moments UTC; ``None``: not said (another tool's manifest).

    :param key: key of the dump, relative to the manifest's bucket, or ``s3://bucket/key``.
    :param sha256: lower-case hex over the encrypted object.
    :param created_at: the run's timestamp, whole seconds.
    :param system_identifier: of the cluster that was dumped, decimal.
    :param server_version_num: as the server's setting of that name: ``150018``.
    :param dump_version: version of the ``pg_dump`` that made the dump.
    :param size: of the encrypted object.
    :param chunks: of the encrypted object; never without *size*.
    :param plaintext_sha256: lower-case hex over the dump's text.
    :param sequence: counts the backups of this database, from 1.
    :param previous_sha256: SHA-256 of the bytes of the manifest before this one, ``None`` for the first.
    :param roles: names of the roles that own something or are granted something in the database.
    :param signature: armored SSHSIG over :func:`signed_text`.
    """

    key: str
    sha256: str
    created_at: datetime.datetime
    schema_version: int | None = None
    database: str | None = None
    system_identifier: str | None = None
    server_version: str | None = None
    server_version_num: int | None = None
    dump_version: str | None = None
    encoding: str | None = None
    locale_provider: str | None = None
    collate: str | None = None
    ctype: str | None = None
    icu_locale: str | None = None
    format: str | None = None
    compression: str | None = None
    size: int | None = None
    plaintext_size: int | None = None
    plaintext_sha256: str | None = None
    duration_seconds: float | None = None
    host: str | None = None
    sequence: int | None = None
    previous_sha256: str | None = None
    extensions: tuple[Extension, ...] | None = None
    roles: tuple[str, ...] | None = None
    tables: tuple[Table, ...] | None = None
    chunks: Chunks | None = None
    signature: str | None = None

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


def render(manifest: Manifest) -> bytes:
    """The canonical bytes of *manifest*; fields that say nothing are left out."""
    fields: dict[str, t.Any] = {}
    for field in dataclasses.fields(manifest):
        value = getattr(manifest, field.name)
        if value is None:
            continue
        if isinstance(value, datetime.datetime):
            # Not strftime(), which writes the year 1 without its zeros.
            value = value.astimezone(datetime.timezone.utc).replace(tzinfo=None).isoformat(timespec="seconds") + "Z"
        elif isinstance(value, float) and value.is_integer():
            value = int(value)  # as jq writes it
        elif isinstance(value, Chunks):
            value = {"size": value.size, "sha256": value.sha256}
        elif isinstance(value, tuple):
            value = [item if isinstance(item, str) else dataclasses.asdict(item) for item in value]
        fields[field.name] = value
    return _canonical(fields)


def signed_text(data: bytes) -> bytes:
    """What a signature of the manifest *data* is made over: all its fields, also unknown ones, but ``signature``.

    :raises ManifestError: where the bytes hold what canonical JSON can't.
    """
    try:
        fields = strict_json(data)
        return _canonical({name: value for name, value in fields.items() if name != "signature"})
    except (NotJson, AttributeError, ValueError, RecursionError):
        raise _bad("can't be brought into its canonical form") from None


def _canonical(fields: t.Mapping[str, t.Any]) -> bytes:
    # In small pieces: one emoji in a text makes each of its characters take four bytes.
    pieces = []
    for name, value in sorted(fields.items()):
        data = b"[" + b",".join(map(_encoded, value)) + b"]" if isinstance(value, list) else _encoded(value)
        pieces.append(_encoded(name) + b":" + data)
    return b"{" + b",".join(pieces) + b"}"


def _encoded(value: t.Any) -> bytes:
    # The one printable difference to jq, which escapes this control character too.
    return _ENCODER.encode(value).replace("\x7f", "\\u007f").encode("utf-8")


def digest(data: bytes) -> str:
    """SHA-256 of a manifest's bytes as they lie in the store: the link that the next manifest holds."""
    return hashlib.sha256(data).hexdigest()


def parse(data: bytes) -> Manifest:
    """Read a manifest, whoever wrote it.

    :raises ManifestError: where the bytes are no manifest, break the contract, or are of a version that is newer than
        this program; the text names the field.
    """
    if len(data) > MAX_BYTES:
        raise _bad(f"is longer than {MAX_BYTES} bytes")
    _check_structure(data)
    try:
        fields = strict_json(data)
    except NotJson as exc:
        raise _bad(f"is no JSON: {exc}") from None
    if not isinstance(fields, dict):
        raise _bad("is no JSON object")
    reader = _Fields(fields)
    version = reader.number("schema_version")
    if version is not None and version > SCHEMA_VERSION:
        raise ManifestError(
            f"the manifest is of version {version}, this program reads up to {SCHEMA_VERSION}",
            hint="use the version of infrazero.database that made the backup, or a newer one",
        )
    # Beside the contract's three fields another tool may have its own: only our version gives ours their meaning.
    ours = reader if version is not None else _Fields({})
    key = reader.text("key", required=True)
    try:
        location = locate(key)
    except ConfigurationError as exc:
        raise _bad("names no object", field="key", cause=exc.cause) from None
    if location.is_manifest:
        raise _bad("names a manifest, not a dump", field="key")
    sha256 = reader.sha256("sha256")
    if sha256 is None:
        raise _bad("is missing", field="sha256")
    size = ours.number("size")
    return Manifest(
        key=key,
        sha256=sha256,
        created_at=reader.moment("created_at"),
        schema_version=version,
        database=ours.text("database"),
        system_identifier=ours.text("system_identifier"),
        server_version=ours.text("server_version"),
        server_version_num=ours.number("server_version_num"),
        dump_version=ours.text("dump_version"),
        encoding=ours.text("encoding"),
        locale_provider=ours.text("locale_provider"),
        collate=ours.text("collate"),
        ctype=ours.text("ctype"),
        icu_locale=ours.text("icu_locale"),
        format=ours.text("format"),
        compression=ours.text("compression"),
        size=size,
        plaintext_size=ours.number("plaintext_size"),
        plaintext_sha256=ours.sha256("plaintext_sha256"),
        duration_seconds=ours.seconds("duration_seconds"),
        host=ours.text("host"),
        sequence=ours.number("sequence"),
        previous_sha256=ours.sha256("previous_sha256"),
        extensions=ours.extensions(),
        roles=ours.texts("roles"),
        tables=ours.tables(),
        chunks=ours.chunks(size) if (version or 0) >= 2 else None,
        signature=ours.text("signature"),
    )


def _check_structure(data: bytes) -> None:
    """Count what JSON *data* would become, in linear time and before any of it is made.

    :raises ManifestError: where that is more than any backup has.
    """
    # Without the two escapes that matter each quote begins or ends a string.  Where there are more strings than fields
    # and items together, JSON has too many of these, whatever its strings contain.
    plain = data.replace(b"\\\\", b"").replace(b'\\"', b"")
    outside = _STRING.sub(b"", plain) if plain.count(b'"') <= 2 * (MAX_FIELDS + MAX_ITEMS) else plain
    fields, items = outside.count(b":"), sum(map(outside.count, (b",", b"[", b"{")))
    for name, count, most in (("fields", fields, MAX_FIELDS), ("items", items, MAX_ITEMS)):
        if count > most:
            raise _bad(f"has more than {most} {name}")


def _bad(reason: str, *, field: str = "", cause: str = "") -> ManifestError:
    what = f"the manifest's {field} {reason}" if field else f"the manifest {reason}"
    return ManifestError(what, cause=cause, hint="choose another backup, or name the dump itself to be restored")


class _Fields:
    def __init__(self, fields: dict[str, t.Any]) -> None:
        self.fields = fields

    @t.overload
    def text(self, name: str, *, required: t.Literal[True]) -> str: ...

    @t.overload
    def text(self, name: str) -> str | None: ...

    def text(self, name: str, *, required: bool = False) -> str | None:
        value = self.fields.get(name)
        if value is None and not required:
            return None
        if not isinstance(value, str) or (required and not value):
            raise _bad("is missing" if value in (None, "") else "is no text", field=name)
        if utf8_size(value) is None:
            raise _bad("is not valid Unicode", field=name)
        return value

    def sha256(self, name: str) -> str | None:
        value = self.text(name)
        if value is not None and not _SHA256.match(value):
            raise _bad("is no SHA-256 in lower-case hex", field=name)
        return value

    def number(self, name: str) -> int | None:
        value = self.fields.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MAX_NUMBER:
            raise _bad(f"is no whole number from 0 to {_MAX_NUMBER}", field=name)
        return value

    def required_number(self, name: str) -> int:
        value = self.number(name)
        if value is None:
            raise _bad("is missing", field=name)
        return value

    def seconds(self, name: str) -> float | None:
        value = self.fields.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= _MAX_NUMBER:
            raise _bad("is no number of seconds", field=name)
        return float(value)

    def moment(self, name: str) -> datetime.datetime:
        value = self.text(name, required=True)
        try:
            moment = datetime.datetime.strptime(value, _MOMENT)
        except ValueError:
            raise _bad("is not of the form 2026-01-31T23:59:59Z", field=name) from None
        return moment.replace(tzinfo=datetime.timezone.utc)

    def chunks(self, total: int | None) -> Chunks | None:
        value = self.fields.get("chunks")
        if value is None:
            return None
        if not isinstance(value, dict) or total is None:
            raise _bad("are not an object beside a size", field="chunks")
        size, sha256 = value.get("size"), value.get("sha256")
        if isinstance(size, bool) or not isinstance(size, int) or not MIN_CHUNK_SIZE <= size <= MAX_CHUNK_SIZE:
            raise _bad(f"do not have a size from {MIN_CHUNK_SIZE} to {MAX_CHUNK_SIZE} bytes", field="chunks")
        expected = -(-total // size)
        if not isinstance(sha256, list) or len(sha256) != expected:
            raise _bad(f"are not the {expected} that an object of {total} bytes has", field="chunks")
        if not all(isinstance(item, str) and _SHA256.match(item) for item in sha256):
            raise _bad("have a SHA-256 that is not in lower-case hex", field="chunks")
        return Chunks(size, tuple(sha256))

    def _list(self, name: str) -> list[t.Any] | None:
        value = self.fields.get(name)
        if value is not None and not isinstance(value, list):
            raise _bad("is no list", field=name)
        return value

    def texts(self, name: str) -> tuple[str, ...] | None:
        values = self._list(name)
        if values is None:
            return None
        if not all(isinstance(value, str) and utf8_size(value) is not None for value in values):
            raise _bad("holds something that is no text", field=name)
        return tuple(values)

    def _objects(self, name: str) -> list[_Fields] | None:
        values = self._list(name)
        if values is None:
            return None
        if not all(isinstance(value, dict) for value in values):
            raise _bad("holds something that is no object", field=name)
        return [_Fields(value) for value in values]

    def extensions(self) -> tuple[Extension, ...] | None:
        objects = self._objects("extensions")
        if objects is None:
            return None
        return tuple(Extension(o.text("name", required=True), o.text("version", required=True)) for o in objects)

    def tables(self) -> tuple[Table, ...] | None:
        objects = self._objects("tables")
        if objects is None:
            return None
        return tuple(
            Table(o.text("name", required=True), o.required_number("rows"), o.text("digest", required=True))
            for o in objects
        )
