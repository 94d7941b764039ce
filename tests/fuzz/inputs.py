# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Inputs that are worth a try: pieces that mean something to a reader, put together at random."""

from __future__ import annotations

import ast
import json
import pathlib
import re
import string
import typing as t

import pyrage
from hypothesis import strategies as st

from tests.support.readers import READERS
from tests.support.timing import Text

from .targets import SECRET

CASES = pathlib.Path(__file__).parent / "cases"

_DUMP = (
    rb"""COPY copy public.t t "a;b" "a""b" (a, b) FROM stdin stdin; ; ;; \. \.. \n \N -- --x /* */ /* /* ' '' E' e'
    U&' N' \' \\ " $ $$ $a$ $b$ $a $1 \connect \! \restrict \unrestrict \restrictx CREATE create OR REPLACE
    FUNCTION PROCEDURE RULE begin BEGIN atomic ATOMIC CASE case END end ( ) [ ] , . : :: = <> + - * / % ^ | & ~
    ! # @ ? SET set standard_conforming_strings off on to TO GRANT REVOKE ON ALL TABLE SCHEMA DATABASE ROLE USER
    OWNER ALTER DROP COMMENT IS POLICY USING WITH FOR PUBLICATION TABLES IN EXTENSION EVENT TRIGGER SUBSCRIPTION
    SECURITY LABEL LARGE OBJECT OPERATOR CLASS FAMILY AGGREGATE SESSION AUTHORIZATION RESET DEFAULT PRIVILEGES
    GRANTED BY postgres app "app" U&"\0061" U&"\+000061" U&"\+ffffff" U&"\d83d\de00" SELECT lo_unlink('1')"""
).split()
_DUMP_PIECES = [
    *_DUMP,
    *(piece + b" " for piece in _DUMP),
    *(b" ", b"\n", b"\r\n", b"\r", b"\t", b"\0", b"\xff", "é".encode(), b"\xef\xbb\xbf", b"\f", b"\v"),
    *(
        b"\n\\.\n",
        b"\r\n\\.\r\n",
        b" FROM stdin;\n",
        b"COPY t FROM stdin;\n",
        b"COPY t (a) FROM stdin;\r\n1\r\n\\.\r\n",
    ),
    *(b"--\n-- PostgreSQL database dump\n--\n\n", b"--\n-- PostgreSQL database dump complete\n--\n\n"),
    *(b"\\restrict abc\n", b"\\unrestrict abc\n", b"SET standard_conforming_strings = off;\n", b"E'a'\n'b\\';'"),
]


def _soup(pieces: t.Iterable[bytes], *, most: int = 24) -> st.SearchStrategy[bytes]:
    piece = st.sampled_from(list(pieces)) | st.binary(max_size=3)
    return st.lists(piece, max_size=most).map(b"".join)


def _letters(pieces: str, letters: str = string.printable + "é\u202e\u0301\U0001f600\ud800") -> st.SearchStrategy[str]:
    return st.lists(st.sampled_from([*pieces.split(), *letters]), max_size=12).map("".join)


_SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | _letters("db/ latest-dump.json s3:// .. %2E")
_JSON = st.recursive(
    _SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_letters("name key"), inner, max_size=3)
)


def _as_json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")


_PAIR = pyrage.x25519.Identity.generate()
_NAMES = _SCALARS | st.sampled_from(
    ["app", "shop", "postgres", "template1", "a/b", "pg_x", "é" * 32, "A", "a", "..", "x y"]
)
_ENTRIES = st.fixed_dictionaries(
    {},
    optional={
        "name": _NAMES,
        "user": _NAMES,
        "password": st.just(SECRET) | st.just([SECRET]) | st.just({"a": SECRET}) | st.just(SECRET + "\0") | st.just(""),
        "backup_age_public_key": st.sampled_from([str(_PAIR.to_public()), [str(_PAIR.to_public())] * 2, str(_PAIR)])
        | _JSON,
        "backup_age_private_key": st.sampled_from([str(_PAIR), SECRET, [SECRET], "AGE-SECRET-KEY-1" + SECRET, None]),
        "restore_latest": _SCALARS,
        "restore_dump_path": _SCALARS,
        "prefix": _SCALARS,
        "backup_prefix": _SCALARS,
        "backup_signers": st.lists(_SCALARS | st.just("db1"), max_size=2) | _SCALARS,
    },
)
_SHA = st.sampled_from(["0" * 64, "F" * 64, "f" * 63]) | _SCALARS
#: PostgreSQL's part of a manifest.
_PART: dict[str, st.SearchStrategy[t.Any]] = {
    **dict.fromkeys(("database", "encoding", "format", "system_identifier"), _SCALARS),
    "server_version_num": _SCALARS | st.integers(0, 9),
    "roles": st.lists(_SCALARS, max_size=3) | _SCALARS,
    "extensions": st.lists(st.fixed_dictionaries({"name": _SCALARS, "version": _SCALARS}), max_size=2) | _SCALARS,
    "tables": st.lists(
        st.fixed_dictionaries({"name": _SCALARS, "rows": _SCALARS | st.integers(0, 9), "digest": _SCALARS}),
        max_size=2,
    )
    | _SCALARS,
}
_MANIFESTS = st.fixed_dictionaries(
    {
        "key": st.sampled_from(["db/a/20260101T000000Z.sql.gz.age", "s3://b/k", "../x", "/x", "db/a/latest-dump.json"])
        | _SCALARS,
        "sha256": _SHA,
        "created_at": st.sampled_from(
            [
                "2026-01-31T03:20:00Z",
                "0001-01-01T00:00:00Z",
                "2026-1-1T1:1:1Z",
                "9999-12-31T23:59:60Z",
                "\u0662\u0660\u0662\u0666-\u0660\u0661-\u0663\u0661T\u0660\u0663:\u0662\u0660:\u0660\u0660Z",
            ]
        )
        | _SCALARS,
    },
    optional={
        "schema_version": st.sampled_from([1, 1, 2, 2, 2, 0, 3, True, 1.0, "1"]) | _SCALARS,
        "source": st.just("postgresql") | _SCALARS,
        "postgresql": st.fixed_dictionaries({}, optional=_PART) | _SCALARS,
        **dict.fromkeys(("kind", "version", "host", "compression", "signature"), _SCALARS),
        **dict.fromkeys(("size", "plaintext_size", "sequence"), _SCALARS | st.integers(0, 9)),
        "chunks": st.fixed_dictionaries(
            {
                "size": st.sampled_from([65536, 8388608, 0, 65536.0]) | _SCALARS,
                "sha256": st.lists(_SHA, max_size=2) | _SHA,
            }
        )
        | _SCALARS,
        "recipients": st.lists(_SCALARS, max_size=3) | _SCALARS,
        "rekeyed": st.fixed_dictionaries(
            {
                "at": st.just("2026-01-31T03:20:00Z") | _SCALARS,
                "sha256": st.just("f" * 64) | _SHA,
                "manifest": st.dictionaries(st.sampled_from(["key", "signature", "rekeyed", "later"]), _JSON) | _JSON,
            }
        )
        | _SCALARS,
        "destination": st.fixed_dictionaries(
            {}, optional={"kind": _SCALARS, **dict.fromkeys(("create_only", "checksums"), _SCALARS | st.booleans())}
        )
        | _SCALARS,
        "duration_seconds": _SCALARS | st.floats(0, 100),
        **dict.fromkeys(("plaintext_sha256", "previous_sha256"), _SHA),
        # Where version 1 had them.
        **_PART,
    },
)
_JSON_PIECES = [
    *(
        b"{",
        b"}",
        b"[",
        b"]",
        b":",
        b",",
        b'"',
        b'"a"',
        b'"name"',
        b"1",
        b"-",
        b"e9",
        b"1e999",
        b"9" * 5000,
        b"NaN",
        b"Infinity",
    ),
    *(
        b"null",
        b"true",
        b'"\\ud800"',
        b'"\\u0000"',
        b"\\",
        b" ",
        b"\xff",
        b"\xef\xbb\xbf",
        b"[" * 2000,
        b'{"a":' * 2000,
    ),
]
_ARMOR = (b"-----BEGIN SSH SIGNATURE-----", b"-----END SSH SIGNATURE-----")
_ENV_PIECES = [
    *(
        b"DB_A=",
        b"DB_B=",
        b"export ",
        b"'",
        b'"',
        b"\\",
        b"\n",
        b" ",
        b"\t",
        b"#",
        b"$",
        b"`",
        b"$(id)",
        b"${x}",
        b"a",
        b"=",
        b";",
    ),
    *(
        b"'\\''",
        b'\\"',
        b"\\\n",
        b"~",
        b"&",
        b"|",
        b"<",
        b">",
        b"*",
        b"?",
        b"[a]",
        b"{a,b}",
        b"!",
        b"%",
        b"\r",
        b"\xc3\xa9",
        b"\xff",
    ),
]
_KEYS = "db/ a/ / // . .. ./ ../ latest-dump.json .manifest.json .sql.gz.age 20260101T000000Z s3:// bucket %2E %. %+ %"
_MAGIC = (
    b"age-encryption.org/v1\n",
    b"-> X25519 ",
    b"--- ",
    b"\x1f\x8b\x08\0\0\0\0\0\0\3",
    b"\x28\xb5\x2f\xfd",
    b"PGDMP",
    b"\n",
)
_SCRUB_PIECES = [
    *(
        b"NAME=",
        b"export ",
        b"'",
        b'"',
        b"\\",
        b"\n",
        b" ",
        b"A" * 40,
        b"QUdFLVNFQ1JFVC1LRVktMQ==" * 3,
        b"\0",
        b"=",
        b"- ",
        b": ",
    ),
    *(
        SECRET.encode(),
        b"\x1f\x8b\x08",
        b"AGE-SECRET-KEY-1",
        b"AGE-SECRET-KEY-1" + b"P" * 58,
        b"age-secret-key-1" + b"q" * 58,
    ),
]

_SETTINGS = {
    "owner": "app",
    "creation": {},
    "privileges": [{"grantor": "app", "grantee": None, "privilege": "CONNECT", "grantable": False}],
    "parameters": [{"role": None, "name": "search_path", "value": "a, b"}],
    "security_labels": [],
    "comment": None,
    "connection_limit": -1,
    "allow_connections": True,
    "is_template": False,
}
_PREAMBLE_PIECES = [
    b"-- infrazero digest key: " + b"5" * 64 + b"\n",
    b"-- infrazero settings: ",
    b"-- infrazero privileged object: ",
    *(
        b"-- infrazero preamble ends\n",
        b"-- infrazero ",
        b"\n",
        b"{}",
        b"null",
        b"SELECT 1;",
        b"\xff",
        b'"',
        b"'",
        b"$",
    ),
    _as_json(_SETTINGS),
    _as_json({"kind": "cast", "identity": "(a AS b)", "digest": "d", "owner": "", "privileges": None}),
    _as_json({"kind": "function", "identity": "f()", "digest": "d", "owner": "o", "privileges": [[None, False]]}),
]


def _changed(fields: dict[str, t.Any]) -> st.SearchStrategy[bytes]:
    """A whole preamble, of whose settings some are anything."""
    return st.dictionaries(st.sampled_from([*fields]), _JSON, max_size=2).map(
        lambda changes: b"".join(
            [*_PREAMBLE_PIECES[:2], _as_json({**fields, **changes}), b"\n\n-- infrazero preamble ends\nSELECT 1;"]
        )
    )


INPUTS: dict[str, st.SearchStrategy[bytes]] = {
    "scanner": _soup(_DUMP_PIECES),
    "tally": _soup(_DUMP_PIECES),
    "preambles": _changed(_SETTINGS)
    | _soup(_PREAMBLE_PIECES, most=12).map(lambda tail: b"".join([*_PREAMBLE_PIECES[:2], tail])),
    "statements": _soup(_DUMP_PIECES, most=16),
    "formats": _soup(
        [*_MAGIC, b"-- MySQL dump 1\n", b"Salted__", b"<html>", b"\xff\xfe", b"BZh9", b"PK\3\4", b" ", b"--"]
    ),
    "identities": _soup(
        [
            *(b"a", b"public.", b'"', b'"a"', b'"a""b"', b".", b" ", b"(", b")", b"[]", b",", b"*", b"--", b"/*", b";"),
            *(b"'", b"+", b"-", b"/", b"||", b" USING ", b"1", b"integer", b"VARIADIC ", b"\n", b"\xc3\xa9", b"\xff"),
        ],
        most=12,
    ),
    "databases_json": st.lists(_ENTRIES | _SCALARS, max_size=4).map(_as_json)
    | _JSON.map(_as_json)
    | _soup(_JSON_PIECES),
    "manifests": _MANIFESTS.map(_as_json) | _JSON.map(_as_json) | _soup(_JSON_PIECES),
    "json_text": _soup(_JSON_PIECES) | _JSON.map(_as_json),
    "signatures": _soup(
        [*_ARMOR, b"U1NIU0lH", b"AAAAAQAAADMAAAALc3NoLWVkMjU1MTk=", b"\n", b" ", b"A", b"host", b"a.b-c_d"]
    ),
    "settings": _soup(_ENV_PIECES, most=12),
    "locations": _letters(_KEYS).map(lambda text: text.encode("utf-8", "surrogatepass")) | st.binary(max_size=40),
    "file_names": _letters(_KEYS + " %2F %00 %ff").map(lambda text: text.encode("utf-8", "surrogatepass")),
    "objects": _soup(_MAGIC, most=6),
    "age_keys": _soup(
        [
            *(
                str(_PAIR).encode(),
                str(_PAIR.to_public()).encode(),
                b"ssh-ed25519 AAAA",
                b"age1",
                b" ",
                b"\n",
                b"#",
                b"\xff",
            ),
            *(
                b"-----BEGIN OPENSSH PRIVATE KEY-----",
                b"-----END OPENSSH PRIVATE KEY-----",
                b"-----BEGIN PRIVATE KEY-----",
            ),
        ]
    ),
    "scrubbed": _soup(_SCRUB_PIECES, most=10),
}


#: Texts whose reader must take a time that grows with their length: what may stand in an input, repeated.
REPEATED: dict[str, st.SearchStrategy[Text]] = {
    name: st.builds(Text, INPUTS[name], INPUTS[name].filter(bool), INPUTS[name]) for name in READERS
}


def cases(target: str) -> list[bytes]:
    """Inputs that broke something once."""
    return [case for case in _saved(target) if isinstance(case, bytes)]


def slow_cases(target: str) -> list[Text]:
    """Texts that took too long once."""
    return [Text(*case) for case in _saved(target) if isinstance(case, tuple)]


def _saved(target: str) -> list[bytes | tuple[bytes, bytes, bytes]]:
    """Python's literals, one a line, with what they broke behind them: bytes, or (head, unit, tail) of a slow text."""
    path = CASES / f"{target}.txt"
    if not path.exists():
        return []
    lines = path.read_text(encoding="ascii").splitlines()
    return [ast.literal_eval(re.sub(r"  #[^'\"]*$", "", line)) for line in lines if line and not line.startswith("#")]


def save(target: str, case: bytes | Text) -> str:
    """Add *case* to those of *target*, and return its line."""
    line = repr(case if isinstance(case, bytes) else tuple(case))
    path = CASES / f"{target}.txt"
    if not path.exists():
        path.write_text(_LICENCE, encoding="ascii")
    with path.open("a", encoding="ascii") as stream:
        stream.write(f"{line}\n")
    return line


# That of this file: license-check refuses a second one in it.
_LICENCE = "".join(pathlib.Path(__file__).read_text(encoding="utf-8").splitlines(keepends=True)[:3])
