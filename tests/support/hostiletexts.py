# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Texts that are made to stall a reader of :mod:`.readers`: those that once did, and repetitions of everything else."""

from __future__ import annotations

import gzip

import zstandard

from .timing import Text

_ROUTINE = b"CREATE FUNCTION f() RETURNS int BEGIN ATOMIC "
_ARMOR = b"-----BEGIN AGE ENCRYPTED FILE-----\n"
_MANIFEST = b'{"key":"db/a/20260101T000000Z.sql.gz.age","sha256":"' + b"0" * 64 + b'",'

#: By the reader's name, then by what the text does.
HOSTILE: dict[str, dict[str, Text]] = {
    "scanner": {
        "quoted columns, COPY without an end": Text(b"COPY t (", b'"a"', b";"),
        "quotes of columns": Text(b"COPY t (", b'"""a', b'";'),
        "quotes of a table": Text(b'COPY "', b'""', b"x;"),
        "names of a table": Text(b"COPY a", b'."b""c"', b" x;"),
        "short names of a table": Text(b"COPY a", b" . a", b" x;"),
        "white space behind a table": Text(b"COPY a", b" ", b"x;"),
        "white space before stdin": Text(b"COPY a from", b"\n", b"x;"),
        "comments behind COPY": Text(b"COPY ", b"/* ", b""),
        "comments before a table": Text(b"COPY ", b"/**/", b";"),
        "a long comment before a table": Text(b"COPY /*", b"a*", b"*/ t x;"),
        "lines before a table": Text(b"COPY ", b"--\n", b"t x;"),
        "a line that goes on behind COPY": Text(b"COPY t FROM stdin;", b" ", b""),
        "blocks without rows": Text(b"", b"COPY t FROM stdin;\n\\.\n", b""),
        "rows of backslashes": Text(b"COPY t FROM stdin;\n", b"\\", b""),
        "rows of markers that are none": Text(b"COPY t FROM stdin;\r\n", b"\r\n\\.", b""),
        "comments behind an escape string": Text(b"SELECT E'a'", b"--\n", b";"),
        "a long comment behind an escape string": Text(b"SELECT E'a'--", b"x", b"\n;"),
        "white space behind an escape string": Text(b"SELECT E'a'", b" ", b";"),
        "lines behind an escape string": Text(b"SELECT E'a'", b"\n", b";"),
        "pieces of an escape string": Text(b"SELECT ", b"E'a'\n--\n'b'", b";"),
        "escapes": Text(b"SELECT E'", b"\\'", b"';"),
        "quotes in an escape string": Text(b"SELECT E'", b"''", b"';"),
        "open string": Text(b"SELECT '", b"x", b""),
        "quotes": Text(b"SELECT ", b"'", b""),
        "open name": Text(b'SELECT "', b"x", b""),
        "open dollar quote": Text(b"SELECT $a$", b"$a", b""),
        "long dollar tags": Text(b"SELECT ", b"$" + b"a" * 255, b""),
        "dollar tags": Text(b"SELECT ", b"$a$ $b$ ", b""),
        "a long statement": Text(b"SELECT ", b"a", b";"),
        "a long line between statements": Text(b"--", b"x", b""),
        "lines between statements": Text(b"", b"--\n", b""),
        "headings": Text(b"", b"--\n-- PostgreSQL database dump\n--\n", b""),
        "headings in one line": Text(b"--", b"-- PostgreSQL database dump", b""),
        "a long comment between statements": Text(b"/*", b"x", b""),
        "open comments": Text(b"", b"/*", b""),
        "comments in CREATE": Text(b"CREATE", b"/**/", b"x;"),
        "open comments in CREATE": Text(b"CREATE ", b"/*", b""),
        "a long comment in CREATE": Text(b"CREATE /*", b"x", b"*/ TABLE x;"),
        "lines in CREATE OR REPLACE": Text(b"CREATE OR", b"--\n", b"REPLACE x;"),
        "a meta-command without an end": Text(b"\\restrict ", b"a", b""),
        "meta-commands": Text(b"", b"\\restrict a\n", b""),
        "commented words before atomic": Text(
            b"CREATE FUNCTION f() ", b"--" + b"begin --" * 110 + b"\n" + b"atomic " * 18, b";"
        ),
        "white space before atomic": Text(b"CREATE FUNCTION ", b"begin" + b" " * 900 + b"x atomic ", b";"),
        "comments before atomic": Text(b"CREATE FUNCTION f() begin ", b"--\n", b"x atomic;"),
        "words before atomic": Text(b"CREATE FUNCTION ", b"begin x atomic ", b";"),
        "bodies": Text(b"CREATE FUNCTION f() begin atomic ", b"case ", b";"),
        "semicolons of a body": Text(_ROUTINE, b";", b""),
        "semicolons of a rule": Text(b"CREATE RULE r AS (", b";", b""),
        "routines": Text(b"", b"CREATE FUNCTION f(atomic int);", b""),
        "spaces of a setting": Text(b"SET ", b" ", b"standard_conforming_string;"),
        "a long setting": Text(b"SET standard_conforming_strings = '", b"a", b" ;"),
        "strings with backslashes": Text(b"SET standard_conforming_strings = off;", b"'\\'", b""),
    },
    "tally": {
        "tables": Text(b"", b"COPY t FROM stdin;\n1\n\\.\n", b""),
        "no end of the first line": Text(b"-- infrazero digest key: ", b"5", b""),
    },
    "statements": {
        "roles": Text(b"GRANT ALL ON t TO ", b"a,", b"a"),
        "arguments": Text(b"ALTER FUNCTION f(", b"a,", b"a) OWNER TO x"),
        "brackets": Text(b"ALTER FUNCTION f", b"(", b""),
        "quotes of a name": Text(b'ALTER TABLE "', b'""', b'" OWNER TO x'),
        "an open name": Text(b'ALTER TABLE "', b'""', b""),
        "open names": Text(b"ALTER TABLE x", b'."', b""),
        "unicode names": Text(b"ALTER TABLE ", b'U&"\\0061".', b"x OWNER TO x"),
        "escapes of a unicode name": Text(b'ALTER TABLE U&"', b"\\d83d\\de00\\+ffffff", b'" OWNER TO x'),
        "quotes": Text(b"ALTER TABLE t ", b"'", b""),
        "escape strings": Text(b"ALTER TABLE t ", b"E'\\'''", b""),
        "an open escape string": Text(b"ALTER TABLE t E'", b"\\'", b""),
        "dollar quotes": Text(b"ALTER TABLE t ", b"$a$ $b$ ", b""),
        "dollar tags": Text(b"ALTER TABLE t ", b"$a", b""),
        "an open dollar quote": Text(b"ALTER TABLE t $a$", b"$a", b""),
        "comments": Text(b"GRANT ", b"/**/", b""),
        "open comments": Text(b"GRANT ", b"/*", b""),
        "operators and comments": Text(b"ALTER TABLE t ", b"+/**/", b""),
        "operators and lines": Text(b"ALTER TABLE t ", b"+--\n", b""),
        "operators": Text(b"ALTER OPERATOR ", b"+-", b" (a) OWNER TO x"),
        "numbers": Text(b"ALTER LARGE OBJECT ", b"1", b" OWNER TO x"),
        "parameters of a table": Text(b"CREATE TABLE oids (a int) ", b"WITH (a = 1) ", b""),
        "columns of a placeholder": Text(b"CREATE OR REPLACE VIEW v AS SELECT ", b"NULL::a AS b, ", b"x"),
        "brackets of a placeholder": Text(b"CREATE OR REPLACE VIEW v AS SELECT NULL::", b"(", b" AS b"),
        "brackets of a table": Text(b"CREATE TABLE oids WITH ", b"(", b""),
        "parameters of a publication": Text(b"CREATE PUBLICATION p FOR ALL TABLES WITH (", b"a=1,", b"b=1)"),
        "bytes of no character": Text(b"GRANT ALL ON t TO ", b"\xff", b",a"),
        "arguments of a definition": Text(b"CREATE FUNCTION f(", b"a b DEFAULT 1,", b"c d) LANGUAGE c AS 'x', 'y'"),
        "brackets of a definition": Text(b"CREATE FUNCTION f(", b"(", b""),
        "types of a definition": Text(b"CREATE FUNCTION f() RETURNS ", b"a", b" LANGUAGE sql AS ''"),
        "settings of a definition": Text(b"CREATE FUNCTION f() SET a TO b", b", b", b" LANGUAGE sql AS ''"),
        "clauses of a definition": Text(b"CREATE FUNCTION f() ", b"STRICT ", b"LANGUAGE sql AS ''"),
        "a name of a definition": Text(b"CREATE TYPE a", b".a", b""),
        "members of a definition": Text(
            b"CREATE OPERATOR CLASS o FOR TYPE t USING b FAMILY o AS ", b"STORAGE t, ", b""
        ),
        "a comment on an object": Text(b"COMMENT ON FUNCTION f(", b"a, ", b"a) IS ''"),
    },
    "formats": {
        "white space": Text(b"", b" ", b"x"),
        "white space of JSON": Text(b"{", b" ", b"x"),
        "lines of gpg": Text(b"-----BEGIN PGP MESSAGE-----\n", b"A: x\n", b"x"),
        "a long line of gpg": Text(b"-----BEGIN PGP MESSAGE-----\nA: ", b"A: ", b"x"),
        "letters of gpg": Text(b"-----BEGIN PGP MESSAGE-----\n\n", b"A\n", b"x"),
        "words of MySQL": Text(b"-- MySQL dump 1\nDROP ", b"a ", b"x;"),
        "statements of MySQL": Text(b"-- MySQL dump 1\n", b"DROP a /* x */ b;", b"x"),
        "comments of MySQL": Text(b"-- MySQL dump 1\nUSE ", b"/*", b"x;"),
        "statements of a cluster": Text(b"--\n-- PostgreSQL database cluster dump\n", b"DROP x;", b"x"),
    },
    "identities": {
        "quotes": Text(b"", b'"', b""),
        "pairs of quotes": Text(b'"', b'""', b"x"),
        "names": Text(b"a", b'."a"', b""),
        "white space": Text(b"a", b" ", b""),
        "brackets": Text(b"a(", b"(", b""),
        "quotes in brackets": Text(b"a(", b'"', b""),
        "operators": Text(b"", b"+", b""),
    },
    "databases_json": {
        "names": Text(b"[", b'{"name":"a","user":"b","prefix":"x/"},', b"1]"),
        "brackets": Text(b"", b"[", b""),
        "a long name": Text(b'[{"name":"', b"a", b'"}]'),
        "fields": Text(b'[{"a":1', b',"b":[]', b"}]"),
    },
    "manifests": {
        "a long number": Text(_MANIFEST + b'"schema_version":', b"9", b"}"),
        "tables": Text(_MANIFEST + b'"schema_version":1,"tables":[', b'{"name":"a","rows":1,"digest":"a"},', b"{}]}"),
        "roles": Text(_MANIFEST + b'"schema_version":1,"roles":[', b'"",', b'""]}'),
        "tables of version 2": Text(
            _MANIFEST + b'"schema_version":2,"source":"postgresql","postgresql":{"tables":[',
            b'{"name":"a","rows":1,"digest":"a"},',
            b"{}]}}",
        ),
        "a long key": Text(b'{"key":"', b"a/", b'"}'),
        "dots of a key": Text(b'{"key":"', b"../", b'"}'),
        "escapes": Text(_MANIFEST + b'"host":"', b"\\u007f", b'"}'),
    },
    "json_text": {
        "brackets": Text(b"", b"[", b""),
        "objects": Text(b"", b'{"":', b""),
        "digits": Text(b"", b"9", b""),
        "a fraction": Text(b"0.", b"9", b""),
        "exponents": Text(b"1e", b"9", b""),
        "escapes": Text(b'"', b"\\ud800", b'"'),
        "white space": Text(b"[", b" ", b""),
        "lines": Text(b"[", b"\n", b""),
    },
    "signatures": {
        "spaces": Text(b"-----BEGIN SSH SIGNATURE-----\n", b" ", b"x"),
        "beginnings": Text(b"", b"-----BEGIN SSH SIGNATURE-----\n", b"-----END SSH SIGNATURE-----"),
        "comments": Text(b"", b"#\n", b""),
        "a long name": Text(b"", b"a.", b" "),
    },
    "settings": {
        "spaces": Text(b"A=", b" ", b"x"),
        "spaces before a name": Text(b"", b" ", b"!"),
        "pieces": Text(b"A=", b"'a'", b'"'),
        "escapes": Text(b'A="', b"\\a", b""),
        "escapes in quotes": Text(b'A="', b'\\"', b'"'),
        "letters": Text(b"A=", b"\\a", b"$"),
        "comments": Text(b"", b"#\n", b""),
        "lines": Text(b"", b"A=''\n", b"!"),
    },
    "locations": {
        "folders": Text(b"db/", b"a/", b"x"),
        "slashes": Text(b"", b"/", b"20260101T000000Z.sql"),
        "times": Text(b"", b"/20260101T000000Z.sql", b""),
        "a bucket": Text(b"s3://", b"a", b"/a"),
    },
    "file_names": {
        "continued names": Text(b"", b"%+/", b""),
        "escapes": Text(b"", b"%2F", b""),
    },
    "objects": {
        "empty members": Text(b"", gzip.compress(b"", mtime=0), b""),
        "empty frames": Text(b"", zstandard.compress(b""), b""),
        "zeros": Text(gzip.compress(b"", mtime=0), b"\0", b""),
        "armored lines": Text(_ARMOR, b"A" * 64 + b"\n", b""),
        "an armored line": Text(_ARMOR, b"A", b""),
        "spaces in armor": Text(_ARMOR, b" ", b""),
        "lines in armor": Text(_ARMOR, b"\n", b""),
        "recipients": Text(b"age-encryption.org/v1\n", b"-> X25519 a\n", b"--- "),
        "a long recipient": Text(b"age-encryption.org/v1\n-> ", b"a ", b"\n--- "),
    },
    "age_keys": {
        "beginnings": Text(b"", b"-----BEGIN PRIVATE KEY-----", b""),
        "beginnings of many kinds": Text(b"", b"-----BEGIN A PRIVATE KEY----------BEGIN B PRIVATE KEY-----", b""),
        "a long kind": Text(b"-----BEGIN ", b"PRIVATE KEY ", b""),
        "lines": Text(b"", b"#\n", b""),
        "a long key": Text(b"age1", b"q", b""),
        "a long secret key": Text(b"AGE-SECRET-KEY-1", b"Q", b""),
        "a long SSH key": Text(b"ssh-ed25519 ", b"A", b""),
        "a private key": Text(b"-----BEGIN OPENSSH PRIVATE KEY-----\n", b"A", b"-----END OPENSSH PRIVATE KEY-----"),
    },
}

_DUMP_PIECES = (
    rb"""' '' " "" ; $ $$ $a$ $a \ \. - -- /* */ ( ) [ . , = + E' E'' e'\' U&" U&' N' a 1 begin atomic case end copy
    from COPY CREATE FUNCTION SET"""
).split()
_DUMP_PIECES += [piece + end for piece in _DUMP_PIECES for end in (b" ", b"\n")]
_FRAGMENTS = {
    "scanner": ([b"SELECT ", _ROUTINE], _DUMP_PIECES),
    "statements": ([b"ALTER TABLE "], _DUMP_PIECES),
    "identities": ([b"a("], _DUMP_PIECES),
    "json_text": (
        [b"", b"[", b'{"a":'],
        [b'"', b'"a"', b"[]", b"[],", b"{}", b"-", b"1", b"1,", b"\\", b"\\u", b"\xff"],
    ),
    "settings": ([b"A="], [b"'", b'"', b"\\", b"\\\\", b"a", b"#", b"\t", b"$", b"`", b"=", b"\xff", b"\r"]),
    "locations": ([b"", b"s3://"], [b".", b"..", b"./", b"%2E", b"s3://", b"\xff", b"\n", b"db/"]),
    "age_keys": (
        [b""],
        [b"age1", b"AGE-SECRET-KEY-1", b"ssh-rsa ", b"-", b"\n", b" ", b"#", b"-----END PRIVATE KEY-----"],
    ),
}

#: Every fragment of a token, repeated.
GENERIC: dict[str, dict[str, Text]] = {
    name: {f"{head!r} {unit!r}": Text(head, unit, b"") for head in heads for unit in units}
    for name, (heads, units) in _FRAGMENTS.items()
}
