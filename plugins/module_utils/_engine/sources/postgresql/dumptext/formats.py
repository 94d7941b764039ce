# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Names an object that is not a dump, or a dump in a form that a restore does not read.

An object that somebody uploaded by hand may be something else than its key says.  The first bytes of what remains after
decryption and decompression tell what it is.  No text that the server would accept is taken for one of these formats:
where the first bytes can begin a statement or a comment, a second proof is needed.
"""

from __future__ import annotations

import re
import typing as t

from ....errors import DumpSyntax
from .scanner import Scanner, Statement

ARCHIVE = b"PGDMP"
"""The first bytes of pg_dump's custom format, and of the table of contents in its directory format."""

TABLE_OF_CONTENTS = b"toc.dat"
"""The first member of pg_dump's tar format."""

BLOCK = 512
"""Bytes of a block of a tar archive, which :func:`first_member` needs."""

_CHECKSUM = slice(148, 156)


class Format(t.NamedTuple):
    """A form that is not restored.

    :param name: completes the sentence "the object is ...".
    :param remedy: what the operator can do.
    """

    name: str
    remedy: str


def first_member(head: bytes) -> bytes | None:
    """Return the name of a tar archive's first member; ``None`` if *head* does not begin a tar archive."""
    block = head[:BLOCK]
    checksum = block[_CHECKSUM].strip(b" \0")
    if len(block) < BLOCK or re.fullmatch(rb"[0-7]{1,7}", checksum) is None:
        return None
    # The sum of all bytes, with blanks in the place of the sum itself.
    if int(checksum, 8) != sum(block) - sum(block[_CHECKSUM]) + 8 * ord(" "):
        return None
    return block[:100].partition(b"\0")[0]


def recognize(head: bytes) -> Format | None:
    """Return what the object is if no restore reads it; ``None`` if it may be a dump.

    :param head: its first bytes, without encryption and compression: a few KiB, fewer only if there are no more.
    """
    member = first_member(head)
    if member is not None:
        if member == TABLE_OF_CONTENTS:
            return None
        return _BASE_BACKUP if _IN_BASE_BACKUP.match(member) else _TAR
    for magic, proof, found in _FORMATS:
        if magic.match(head) and (proof is None or _is_in_statement(proof, head)):
            return found
    return None


def _is_in_statement(pattern: re.Pattern[bytes], head: bytes) -> bool:
    """Return whether a statement begins with *pattern*; what is in comments and strings does not count."""
    try:
        return any(isinstance(event, Statement) and pattern.match(event.text) for event in Scanner().feed(head))
    except DumpSyntax:
        return False


def _compressed(name: str, command: str) -> Format:
    return Format(f"compressed with {name}", f"decompress it ({command}), and restore the result")


_TAR = Format(
    "a tar archive that pg_dump did not write",
    "unpack it and restore the dump in it; convert a dump in the directory format with pg_restore --file",
)
_BASE_BACKUP = Format(
    "a base backup of a whole cluster",
    "start a server on the unpacked files, and dump the database from there with pg_dump",
)
_IN_BASE_BACKUP = re.compile(rb"(?:\./)?(?:backup_label|tablespace_map|PG_VERSION|base/|global/|PG_[0-9]+_)")
_GPG = Format("encrypted with gpg", "decrypt it (gpg --decrypt), encrypt it with age, and restore that")
_OPENSSL = Format("encrypted with openssl", "decrypt it (openssl enc -d), encrypt it with age, and restore that")
_MARK = rb"(?:\xef\xbb\xbf)?"
_BLANK = rb"[ \t\r\n\f\v]*"
_MYSQL = rb"(?:/\*M?!999999\\- [^\n]*\n)?-- (?:MySQL|MariaDB) dump [0-9]"

# What an object begins with, what one of its statements must begin with in addition, and what the object then is.
_ALL: tuple[tuple[bytes, bytes | None, Format], ...] = (
    (rb"\xfd7zXZ\0", None, _compressed("xz", "xz -d")),
    (rb"\x5d\0\0.{10}", None, _compressed("lzma", "xz -d --format=lzma")),
    (rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)", None, _compressed("bzip2", "bzip2 -d")),
    (rb"\x04\x22\x4d\x18|\x02\x21\x4c\x18", None, _compressed("lz4", "lz4 -d")),
    (rb"LZIP\x01", None, _compressed("lzip", "lzip -d")),
    (rb"\x1f\x9d", None, _compressed("compress", "gzip -d")),
    (rb"\x1f\x8b|\x28\xb5\x2f\xfd", None, Format("compressed twice", "decompress it once, and restore the result")),
    (rb"PK(?:\x03\x04|\x05\x06)", None, Format("a zip archive", "unpack it, and restore the dump in it")),
    (rb"7z\xbc\xaf\x27\x1c", None, Format("a 7z archive", "unpack it, and restore the dump in it")),
    (
        rb"age-encryption\.org/v1\n|-----BEGIN AGE ENCRYPTED FILE-----\r?\n[A-Za-z0-9+/]{40}",
        None,
        Format("encrypted with age twice", "decrypt it once (age --decrypt), and restore the result"),
    ),
    # A packet with a session key, for a recipient or for a passphrase (RFC 4880, sections 4.2, 5.1 and 5.3).
    (rb"[\x84\x85\x86\xc1].{1,5}?\x03|[\x8c\x8d\xc3].{1,5}?[\x04-\x06]", None, _GPG),
    # For the server the first line is a comment.  But no statement begins with a word of 40 letters.
    (rb"-----BEGIN PGP MESSAGE-----\r?\n(?:[A-Z][A-Za-z]*: [^\n]*\n)*\r?\n[A-Za-z0-9+/]{40}", None, _GPG),
    (rb"Salted__|U2FsdGVkX1", None, _OPENSSL),
    (
        rb"\xff\xfe|\xfe\xff|[\x01-\x7f]\0[\x01-\x7f]\0|\0[\x01-\x7f]\0[\x01-\x7f]",
        None,
        Format("a text in UTF-16", "convert it (iconv -f UTF-16 -t UTF-8), and restore the result"),
    ),
    (
        _MARK + _BLANK + rb"<[A-Za-z?!]",
        None,
        Format(
            "an HTML or XML document",
            "it may be an error that a server sent in place of the dump: look at it, and upload the dump itself",
        ),
    ),
    (
        _MARK + _BLANK + rb"\{" + _BLANK + rb'[}"]',
        None,
        Format("a JSON document", "restore the dump itself, or name a manifest by its key"),
    ),
    (
        rb"SQLite format 3\0",
        None,
        Format("a database file of SQLite", "convert it to PostgreSQL first; this restores dumps of pg_dump"),
    ),
    # The directory format's table of contents says that it is of the tar format.
    (
        ARCHIVE + rb".{5}[\x03\x05]",
        None,
        Format(
            "the table of contents of a dump in the directory format, without the data",
            "convert the whole directory with pg_restore --file, and restore the result",
        ),
    ),
    (
        _MARK + _MYSQL,
        rb"(?:ALTER|CREATE|DROP|INSERT|LOCK|USE) [A-Za-z_ ]*(?:/\*[^*]*\*/[A-Za-z_ ]*)?`",
        Format("a dump of MySQL or MariaDB", "convert it to PostgreSQL first; this restores dumps of pg_dump"),
    ),
    (
        _MARK + rb"--\r?\n-- PostgreSQL database cluster dump\r?\n",
        rb"(?:ALTER|CREATE|DROP) (?:ROLE|USER|GROUP|TABLESPACE|DATABASE) ",
        Format(
            "a dump of a whole cluster by pg_dumpall",
            "dump the database by itself with pg_dump, or restore only its part of this text",
        ),
    ),
)
_FORMATS = [
    (re.compile(magic, re.DOTALL), None if proof is None else re.compile(proof), found) for magic, proof, found in _ALL
]
