# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What reads bytes from a store, a dump or a list, as functions that take any bytes, with an honest text for each."""

from __future__ import annotations

import contextlib
import functools
import gzip
import io
import typing as t

from ansible_collections.infrazero.database.plugins.module_utils._engine.domain import (
    databases,
    envfile,
    layout,
    manifest,
    trust,
)
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.secret import Secret
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.text import NotJson, strict_json
from ansible_collections.infrazero.database.plugins.module_utils._engine.errors import EngineError
from ansible_collections.infrazero.database.plugins.module_utils._engine.printing import printable
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql import ownership
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.dumptext import (
    definitions,
    formats,
    preamble,
    statements,
    tally,
)
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.dumptext import (
    scanner as dumptext_scanner,
)
from ansible_collections.infrazero.database.plugins.module_utils._engine.stores import filenames
from ansible_collections.infrazero.database.plugins.module_utils._engine.streams import age, compression

from .timing import Read, Text

IDENTITY = "AGE-SECRET-KEY-1PPHJUE8N9F5KFDVMNHG3M2877DDQVHJ6LPJ57RPALDXL33LXADESXYM2U5"


class Reader(t.NamedTuple):
    """A reader.

    ``size`` is how many bytes show whether its time is linear, at most what it is ever given.
    """

    read: Read
    plain: Text
    size: int


def _scan(data: bytes, *, cut: int) -> None:
    scanner = dumptext_scanner.Scanner()
    with contextlib.suppress(EngineError):
        for at in range(0, len(data), cut):
            for _event in scanner.feed(data[at : at + cut]):
                pass
        scanner.finish()


def _check(data: bytes) -> None:
    with contextlib.suppress(EngineError):
        tally.check(io.BytesIO(data))


def _preamble(data: bytes) -> None:
    with contextlib.suppress(EngineError):
        preamble.read(io.BytesIO(data))


class _AnyRole(dict[str, str]):
    """Maps every role to another one."""

    def __contains__(self, _role: object) -> bool:
        return True

    def __missing__(self, role: str) -> str:
        return role


def _classify(data: bytes, *, encoding: str) -> None:
    statement = dumptext_scanner.Statement(data)
    found = statements.classify(statement, encoding=encoding)
    for _token in statements.tokens(statements.decode(statement, encoding)):
        pass
    definitions.definition(statement, encoding=encoding)
    statements.describe(statement, encoding=encoding)
    statements.rewrite_roles(statement, getattr(found, "roles", ()), _AnyRole(), encoding=encoding)
    if isinstance(found, statements.OwnerChange):
        ownership.is_identity(found.kind, found.identity)


def _identify(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    for kind in ("TABLE", "FUNCTION", "OPERATOR", "OPERATOR CLASS"):
        ownership.is_identity(kind, text)
    printable(text)


def _list(data: bytes) -> None:
    for read in (functools.partial(databases.parse, rules=age, private=True), databases.public_view):
        with contextlib.suppress(databases.InvalidDatabases):
            read(data)


def _manifest(data: bytes) -> None:
    for read in (manifest.parse, manifest.signed_text, manifest.earlier):
        with contextlib.suppress(EngineError):
            read(data)


def _json(data: bytes) -> None:
    with contextlib.suppress(NotJson):
        strict_json(data)


def _signature(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    trust.key_of(text)
    trust.can_sign(text)
    trust.holds_keys(trust.key_lines(text, name="allowed_signers"))


def _settings(data: bytes) -> None:
    with contextlib.suppress(EngineError):
        envfile.parse(data.decode("utf-8", "surrogateescape"), name="db.env")


def _recognize(data: bytes) -> None:
    formats.recognize(data)


def _locate(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    with contextlib.suppress(EngineError):
        layout.locate(text)
    layout.home_of(text)
    layout.moment_of(text)
    layout.manifest_key(text)


def _file_name(data: bytes) -> None:
    filenames.key_of(data.decode("utf-8", "replace"))


_IDENTITIES = age.parse_identities([Secret(IDENTITY)])


def _object(data: bytes) -> None:
    reader: t.Any = io.BytesIO(data)
    with contextlib.suppress(EngineError):
        if age.is_encrypted(data):
            reader = age.decrypting_reader(reader, _IDENTITIES)
        reader = compression.decompressing_reader(reader, limit=64 << 20)
        while reader.read(1 << 16):
            pass


def _age_key(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    age.recipient_fault(text)
    age.identity_fault(Secret(text))


_STATEMENTS = Text(
    b"",
    b"ALTER TABLE public.t ADD CONSTRAINT c CHECK ((a > 0));\n"
    b"COMMENT ON TABLE public.t IS 'what''s this';\nSELECT E'\\n', $$;$$;\n",
    b"",
)
_TABLE = b'{"name":"public.t","rows":12,"digest":"' + b"0" * 64 + b'"}'
_MANIFEST = (
    b'{"schema_version":1,"key":"db/a/20260101T000000Z.sql.gz.age","sha256":"'
    + b"0" * 64
    + b'","created_at":"2026-01-31T03:20:00Z","tables":['
)

READERS: dict[str, list[Reader]] = {
    "scanner": [
        Reader(functools.partial(_scan, cut=1), _STATEMENTS, 32_768),
        Reader(functools.partial(_scan, cut=1_000), _STATEMENTS, 131_072),
        Reader(functools.partial(_scan, cut=1 << 18), _STATEMENTS, 131_072),
    ],
    "tally": [Reader(_check, _STATEMENTS, 131_072)],
    "preambles": [
        Reader(
            _preamble,
            Text(
                b"-- infrazero digest key: " + b"5" * 64 + b"\n-- infrazero settings: {}\n",
                b'-- infrazero privileged object: {"kind":"cast","identity":"","digest":"","owner":""}\n',
                b"\n-- infrazero preamble ends\n",
            ),
            131_072,
        )
    ],
    "statements": [
        Reader(functools.partial(_classify, encoding=encoding), Text(b"GRANT ALL ON t TO ", b"a, ", b"b"), 32_768)
        for encoding in ("utf-8", "euc_jp")
    ],
    "formats": [Reader(_recognize, Text(b"-- MySQL dump 1\n", b"SELECT 1;\n", b""), 131_072)],
    "identities": [Reader(_identify, Text(b"f(", b"a integer, ", b"b text)"), 131_072)],
    "databases_json": [Reader(_list, Text(b"[", b'{"name":"a","user":"b"},', b"null]"), 65_536)],
    "manifests": [Reader(_manifest, Text(_MANIFEST, _TABLE + b",", _TABLE + b"]}"), 131_072)],
    "json_text": [Reader(_json, Text(b"[", b'{"a":[1,"b"]},', b"1]"), 131_072)],
    "signatures": [Reader(_signature, Text(b"", b'host namespaces="a" ssh-ed25519 AAAA\n', b""), 131_072)],
    "settings": [Reader(_settings, Text(b"", b"DB_A='b'\\''c'\n", b""), 131_072)],
    "locations": [Reader(_locate, Text(b"db/", b"a/", b"20260101T000000Z.sql.gz.age"), 131_072)],
    # The longest path that Linux takes.
    "file_names": [Reader(_file_name, Text(b"db%2E/", b"a/", b"b.object"), 4_096)],
    "objects": [Reader(_object, Text(b"", gzip.compress(b"a", mtime=0), b""), 131_072)],
    "age_keys": [Reader(_age_key, Text(b"", IDENTITY.encode() + b"\n", b""), 65_536)],
}
