# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The watch finds what it is made to find: a secret planted in every form, and in every place."""

from __future__ import annotations

import base64
import gzip
import json
import os
import pathlib
import shlex
import subprocess
import sys
import syslog
import tempfile
import textwrap
import typing as t
import urllib.parse

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.support.cluster import Cluster, wait_until
from tests.support.s3server import S3Server

from . import canaries, surfaces
from .allowed import leaks
from .canaries import Canary, Flock, Hit
from .watch import Watch


def found(flock: Flock, data: bytes) -> list[str]:
    return [hit.canary for hit in flock.hits(b"before " + data + b" after", "here")]


FORMS: dict[str, t.Callable[[str], str]] = {
    "as it is": str,
    "JSON": json.dumps,
    "JSON in JSON": lambda text: json.dumps(json.dumps({"a": text})),
    "JSON, letters by number": lambda text: "".join(f"\\u{ord(char):04x}" for char in text),
    "Python": repr,
    "URL": lambda text: urllib.parse.quote(text, safe=""),
    "URL, all of it": lambda text: "".join(f"%{byte:02X}" for byte in text.encode()),
    "shell": shlex.quote,
    "SQL": lambda text: "'" + text.replace("'", "''") + "'",
    "hex": lambda text: text.encode().hex(),
    "reversed": lambda text: text[::-1],
    "upper case": str.upper,
    "UTF-16": lambda text: text.encode("utf-16-le").decode("latin-1"),
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "base64 for URLs": lambda text: base64.urlsafe_b64encode(text.encode()).decode(),
    "base64 in lines": lambda text: base64.encodebytes(b"x" * 50 + text.encode()).decode(),
    "base64 in base64": lambda text: base64.b64encode(base64.b64encode(b"x" + text.encode())).decode(),
    "in lines": lambda text: "\n  ".join(textwrap.wrap(text, 11)),
    "in lines of JSON": lambda text: json.dumps("\n".join(textwrap.wrap(text, 7))),
    "in pieces of Python": lambda text: '"\n    "'.join(textwrap.wrap(text, 9)),
    "cut off": lambda text: text[: len(text) - len(text) // 3],
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", [canaries.text, canaries.word, canaries.identity])
def test_every_form_is_found(form: str, kind: t.Callable[[str], Canary]) -> None:
    canary = kind("planted")
    text = canary.text if form != "cut off" else str(canary.core)
    assert found(Flock(kind("another"), canary), FORMS[form](text).encode("utf-8", "surrogateescape")) == ["planted"]


@pytest.mark.parametrize("before", range(6))
def test_base64_is_found_wherever_it_begins(before: int) -> None:
    canary = canaries.text("planted")
    assert found(Flock(canary), base64.b64encode(b"x" * before + canary.text.encode() + b"y" * before)) == ["planted"]


def test_a_signing_key_is_found_by_its_private_part_only(tmp_path: pathlib.Path) -> None:
    key = Ed25519PrivateKey.generate()
    path = tmp_path / "id_ed25519"
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    flock = Flock(canaries.of_signing_key("planted", path))
    assert found(flock, path.read_bytes()) == ["planted"]
    assert found(flock, key.private_bytes_raw().hex().encode()) == ["planted"]
    assert found(flock, base64.b64encode(key.public_key().public_bytes_raw())) == []


def test_what_is_no_secret_is_not_found() -> None:
    flock = Flock(canaries.text("one"), canaries.identity("two"))
    assert found(flock, os.urandom(100_000)) == []
    assert found(flock, canaries.text("another").text.encode()) == []


@pytest.mark.parametrize(
    ("canary", "place", "allowed"),
    [
        ("password of app", "/tmp/host-x/etc/db.env", True),
        ("private key of app", "/tmp/host-x/etc/db.env", False),
        ("private key of app", "environment DB_RESTORE_AGE_PRIVATE_KEY of /bin/sh /opt/restore.sh app db/app/", True),
        ("private key of app", "environment DB_RESTORE_AGE_PRIVATE_KEY of mktemp -d", False),
        ("private key of app", "environment DATABASES_JSON_PRIVATE_B64 of python -c\nimport sys", True),
        ("private key of app", "arguments of /bin/sh /opt/restore.sh app db/app/", False),
        ("verifier of app", "PGDATA/global/1260", True),
        ("verifier of app", "pg_stat_statements", False),
        ("signing key", "/tmp/host-x/etc/signing/id_ed25519", True),
        ("signing key", "/tmp/host-x/etc/signing/id_ed25519.pub", False),
    ],
)
def test_what_is_allowed_is_allowed_there_only(canary: str, place: str, allowed: bool) -> None:
    hit = Hit(canary, "as it is", place)
    assert leaks([hit]) == ([] if allowed else [hit])


def test_every_place_is_searched(tmp_path: pathlib.Path) -> None:
    flock = Flock()
    secrets: dict[str, str] = {}

    def secret(place: str) -> str:
        secrets[place] = flock.add(canaries.word(place)).text
        return secrets[place]

    with Cluster(configuration=surfaces.TALKATIVE) as cluster, S3Server(tmp_path / "s3") as server:
        server.create_bucket("bucket")
        cluster.psql("CREATE EXTENSION pg_stat_statements; CREATE SCHEMA infrazero; CREATE TABLE infrazero.a (b text)")
        with Watch(server.pid) as watch:
            waits = "import sys; sys.stdin.read()"
            with subprocess.Popen(
                [sys.executable, "-c", waits, secret("argument")],
                env={"PLANTED": secret("environment")},
                stdin=subprocess.PIPE,
            ) as process:
                wait_until(
                    lambda: (process.pid, 4) in {(p.number, len(p.arguments)) for p in list(watch.processes.seen)}
                )
                process.communicate()
            with tempfile.NamedTemporaryFile("w", prefix="planted-", dir="/tmp", delete=False) as new:
                new.write(secret("new file"))
            name = pathlib.Path(tempfile.mkdtemp(prefix="planted-", dir="/var/tmp")) / secret("name of a new file")
            name.touch()
            (tmp_path / "file").write_text(secret("file"))
            (tmp_path / "packed").write_bytes(gzip.compress(secret("packed file").encode()))
            server.client().put_object(Bucket="bucket", Key="a", Body=secret("object").encode())
            cluster.psql(f'SELECT 1 AS "{secret("statement")}"')
            cluster.psql(f"INSERT INTO infrazero.a VALUES ('{secret('state')}')")
            cluster.psql(f"COMMENT ON DATABASE postgres IS '{secret('catalogue')}'")
            watch.output("output", secret("output"))
            if watch.log.heard:
                syslog.syslog(secret("system log"))
            hits = watch.hits(flock, cluster, tmp_path)
        pathlib.Path(new.name).unlink()
        name.unlink()
        name.parent.rmdir()
    places: dict[str, set[str]] = {}
    for hit in hits:
        places.setdefault(hit.canary, set()).add(hit.place.partition(" of ")[0])
    assert places.keys() == secrets.keys()
    assert "arguments" in places["argument"]
    assert "environment PLANTED" in places["environment"]
    assert {"PostgreSQL's log", "pg_stat_statements"} <= places["statement"]
    assert "schema infrazero" in places["state"]
    assert any(place.startswith("PGDATA/") for place in places["catalogue"])
    assert any("/s3/" in place for place in places["object"])
