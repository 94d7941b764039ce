# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import sqlite3
import tarfile
import zipfile

import pyrage
import pytest
import zstandard
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.base import HEAD_SIZE
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.dumptext import formats

SQL = b"--\n-- PostgreSQL database dump\n--\n\nCREATE TABLE public.t (a integer);\n" + b"-- x\n" * 1_000
RECIPIENT = pyrage.x25519.Identity.generate().to_public()


def tar(*members: str, kind: int = tarfile.USTAR_FORMAT) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=kind) as archive:
        for name in members:
            member = tarfile.TarInfo(name)
            member.size = len(SQL)
            archive.addfile(member, io.BytesIO(SQL))
    return target.getvalue()


def zipped() -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("shop.sql", SQL)
    return target.getvalue()


MYSQL = b"""-- MySQL dump 10.13  Distrib 8.0.36, for Linux (x86_64)
--
-- Host: localhost    Database: shop
-- ------------------------------------------------------
/*!40101 SET @OLD_CHARACTER_SET_CLIENT=@@CHARACTER_SET_CLIENT */;

DROP TABLE IF EXISTS `t`;
CREATE TABLE `t` (
  `id` int NOT NULL
) ENGINE=InnoDB;
"""
MARIADB = b"""/*M!999999\\- enable the sandbox mode */\x20
-- MariaDB dump 10.19-11.4.2-MariaDB, for debian-linux-gnu (x86_64)
--
CREATE DATABASE /*!32312 IF NOT EXISTS*/ `shop` /*!40100 DEFAULT CHARACTER SET utf8mb4 */;
USE `shop`;
"""
CLUSTER = b"""--
-- PostgreSQL database cluster dump
--

\\restrict x

SET default_transaction_read_only = off;

--
-- Roles
--

CREATE ROLE app;
ALTER ROLE app WITH NOSUPERUSER LOGIN;
"""
# What GnuPG 2.2 writes: for a passphrase, for an elliptic curve, for RSA.
GPG = ["8c0d040903023cdec1a47cd5a29bffd23e01", "845e03c619ac60f4b3688e12010740f6", "85010c03c619ac60f4b3688e0107ff5e"]
ARMORED = b"""-----BEGIN PGP MESSAGE-----
Comment: written by hand

jA0ECQMCE9TCOqvMlIX/0kABfvSmOBMQHPusj4ugGmjgvUQ+iAgxyNS5o51jtuV0
vsUV8wbIUAXTfJ+qR0q8ISE4YBB6bP5ELi4wkmmEOMb9
=gfBQ
-----END PGP MESSAGE-----
"""

FOREIGN = {
    "xz": (lzma.compress(SQL), "compressed with xz"),
    "lzma": (lzma.compress(SQL, format=lzma.FORMAT_ALONE), "compressed with lzma"),
    "bzip2": (bz2.compress(SQL), "compressed with bzip2"),
    "bzip2 of nothing": (bz2.compress(b""), "compressed with bzip2"),
    "lz4": (bytes.fromhex("04224d186440a703"), "compressed with lz4"),
    "lz4 of old": (bytes.fromhex("02214c1804000000"), "compressed with lz4"),
    "lzip": (b"LZIP\x01\x0c\x00", "compressed with lzip"),
    "compress": (b"\x1f\x9d\x90\x43", "compressed with compress"),
    "zip": (zipped(), "a zip archive"),
    "7z": (b"7z\xbc\xaf\x27\x1c\x00\x04", "a 7z archive"),
    "gzip": (gzip.compress(SQL), "compressed twice"),
    "zstd": (zstandard.compress(SQL), "compressed twice"),
    "age": (pyrage.encrypt(SQL, [RECIPIENT]), "encrypted with age twice"),
    "age, armored": (
        b"-----BEGIN AGE ENCRYPTED FILE-----\nYWdlLWVuY3J5cHRpb24ub3JnL3YxCi0+IFgyNTUxOSBh\n",
        "encrypted with age twice",
    ),
    **{f"gpg {head[:2]}": (bytes.fromhex(head), "encrypted with gpg") for head in GPG},
    "gpg, armored": (ARMORED, "encrypted with gpg"),
    "gpg, armored, CR LF": (ARMORED.replace(b"\n", b"\r\n"), "encrypted with gpg"),
    "openssl": (bytes.fromhex("53616c7465645f5f8dca405ea01a1ba4"), "encrypted with openssl"),
    "openssl, base64": (b"U2FsdGVkX1+uCcqcllFv0c/l9CI2CSwhcNC+/Ts9am8=\n", "encrypted with openssl"),
    "UTF-16": (SQL.decode().encode("utf-16"), "a text in UTF-16"),
    "UTF-16 BE with a mark": (("\ufeff" + SQL.decode()).encode("utf-16-be"), "a text in UTF-16"),
    "UTF-16 LE without a mark": (SQL.decode().encode("utf-16-le"), "a text in UTF-16"),
    "UTF-16 BE without a mark": (SQL.decode().encode("utf-16-be"), "a text in UTF-16"),
    "HTML": (b"\n<!DOCTYPE html>\n<html><body>502 Bad Gateway</body></html>", "an HTML or XML document"),
    "XML": (b"\xef\xbb\xbf<?xml version='1.0'?><Error><Code>NoSuchKey</Code></Error>", "an HTML or XML document"),
    "JSON": (b'{\n  "key": "db/shop/20260101T000000Z.sql.gz.age"}', "a JSON document"),
    "MySQL": (MYSQL, "a dump of MySQL or MariaDB"),
    "MariaDB": (MARIADB, "a dump of MySQL or MariaDB"),
    "pg_dumpall": (CLUSTER, "a dump of a whole cluster by pg_dumpall"),
    "pg_dumpall, CR LF": (CLUSTER.replace(b"\n", b"\r\n"), "a dump of a whole cluster by pg_dumpall"),
    "directory format": (bytes.fromhex("5047444d50010e00040803010100000000"), "the table of contents of a dump in the"),
    "tar of a directory": (tar("./", "./toc.dat"), "a tar archive that pg_dump did not write"),
    "tar of GNU": (tar("shop.sql", kind=tarfile.GNU_FORMAT), "a tar archive that pg_dump did not write"),
    "tar of POSIX": (tar("shop.sql", kind=tarfile.PAX_FORMAT), "a tar archive that pg_dump did not write"),
    "base backup": (tar("backup_label", "global/pg_control"), "a base backup of a whole cluster"),
    "base backup of a tablespace": (tar("PG_15_202209061/5/16384"), "a base backup of a whole cluster"),
    "data directory": (tar("./PG_VERSION"), "a base backup of a whole cluster"),
}


@pytest.mark.parametrize(("data", "name"), FOREIGN.values(), ids=FOREIGN)
def test_what_is_not_a_dump_is_named_with_a_remedy(data: bytes, name: str) -> None:
    found = formats.recognize(data[:HEAD_SIZE])
    assert found is not None and found.name.startswith(name)
    assert found.remedy


def test_a_database_file_of_sqlite_is_named(tmp_path) -> None:
    connection = sqlite3.connect(tmp_path / "vault.db")
    connection.execute("CREATE TABLE t (a)")
    connection.close()
    found = formats.recognize((tmp_path / "vault.db").read_bytes()[:HEAD_SIZE])
    assert found is not None and "SQLite" in found.name


DUMPS = {
    "nothing": b"",
    "one byte": b"-",
    "pg_dump": SQL,
    "a mark": b"\xef\xbb\xbf" + SQL,
    "ours": b"-- infrazero digest key: " + b"0" * 64 + b"\n" + SQL,
    "custom format": bytes.fromhex("5047444d50010e00040801010100000000"),
    "tar format": tar("toc.dat", "3355.dat", "restore.sql"),
    # Valid SQL that begins like something else.
    "a comment about MySQL": b"-- MySQL dump 10.13 was converted to this\nCREATE TABLE t (a int);\n",
    "MySQL in a comment": b"-- MySQL dump 10.13\n/* CREATE TABLE `t` (a int); */\n-- USE `shop`;\nSELECT 1;\n",
    "MySQL in a string": b"-- MySQL dump 10.13\nSELECT '\nDROP TABLE `t`;\n', $$\nUSE `a`;\n$$;\n",
    "a converted dump of MySQL": MYSQL.replace(b"`", b'"').replace(b"ENGINE=InnoDB", b""),
    "a comment about pg_dumpall": b"-- PostgreSQL database cluster dump\nCREATE TABLE t (a int);\n",
    "the part of one database": CLUSTER.partition(b"CREATE ROLE")[0] + b"CREATE TABLE t (a int);\n",
    "a comment with a role": CLUSTER.replace(b"CREATE", b"-- CREATE").replace(b"ALTER", b"-- ALTER"),
    "a heading of gpg": b"-----BEGIN PGP MESSAGE-----\n\nCREATE TABLE t (a int);\n",
    "a heading of age": b"-----BEGIN AGE ENCRYPTED FILE-----\nCREATE TABLE t (a int);\n",
    "ustar at its place": b"--" + b"x" * 255 + b"ustar\0" + b"x" * 300,
    "ustar in a comment": b"--" + b"x" * 146 + b"0000000\n" + SQL,
    "brackets": b"(SELECT 1);",
}


@pytest.mark.parametrize("data", DUMPS.values(), ids=DUMPS)
def test_what_the_server_may_take_is_not_refused(data: bytes) -> None:
    assert formats.recognize(data[:HEAD_SIZE]) is None


def test_every_format_is_tested() -> None:
    tested = {name for _data, name in FOREIGN.values()}
    for _magic, _proof, found in formats._FORMATS:
        assert any(found.name.startswith(name) for name in tested) or "SQLite" in found.name
