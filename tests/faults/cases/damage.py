# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bytes that are not those that were sent: in the store, on the way there, on the way back."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import typing as t

import pyrage

from tests.faults.cases.answers import DUMP, LATEST, MANIFEST
from tests.faults.trial import BACKUP, BOOTSTRAP, FAILS, RESTORE, SUCCEEDS, Case, Trial, meets
from tests.support.faultyproxy import Answer, Exchange, Fault, altered

Bytes = t.Callable[[bytes], bytes]

#: Bytes of the chunks in a manifest; the database's backup is smaller.
_CHUNK = 8 * 1024 * 1024
#: Where a bit is flipped: a byte, counted from the end where negative, or a share of the whole.
PLACES: dict[str, float] = {
    "age-magic": 3,
    "age-stanza": 30,
    "age-mac": 180,
    "nonce": 205,
    "quarter": 0.25,
    "middle": 0.5,
    "three-quarters": 0.75,
    "last-chunk": -40,
    "last": -1,
}


def flip(place: float) -> Bytes:
    """One bit flipped at *place*."""

    def change(data: bytes) -> bytes:
        at = int(len(data) * place) if isinstance(place, float) else place
        changed = bytearray(data)
        changed[at] ^= 0x10
        return bytes(changed)

    return change


def cases() -> t.Iterator[Case]:
    """All of them."""
    yield from _of_the_dump()
    yield from _of_the_manifest()
    yield from _on_the_way_there()


def _in_store(change: Bytes) -> t.Callable[[Trial], None]:
    return lambda trial: trial.at_rest(trial.live.dump, change(trial.live.objects[trial.live.dump]))


def _latest(change: Bytes | bytes) -> t.Callable[[Trial], None]:
    """Something else in place of the latest manifest."""

    def arrange(trial: Trial) -> None:
        key = trial.live.latest
        trial.at_rest(key, change if isinstance(change, bytes) else change(trial.live.objects[key]))

    return arrange


def _of_the_dump() -> t.Iterator[Case]:
    for name, place in PLACES.items():
        yield Case(
            f"restore/dump/flip-{name}",
            RESTORE,
            f"a bit of the dump is flipped in the store ({name})",
            _in_store(flip(place)),
            quick=name in ("age-mac", "middle"),
        )
    for name, place in (("first", 0), ("middle", 0.5), ("last", -1)):
        yield Case(
            f"restore/dump/flip-{name}-on-the-way",
            RESTORE,
            f"a bit of the dump is flipped on its way back ({name})",
            meets("GetObject", altered(_body(flip(place))), key=DUMP),
        )
    changes: dict[str, tuple[str, Bytes]] = {
        "empty": ("the dump is empty", lambda data: b""),
        "one-byte": ("the dump has one byte", lambda data: data[:1]),
        "header": ("the dump ends within its age header", lambda data: data[:100]),
        "half": ("the dump is cut in half", lambda data: data[: len(data) // 2]),
        "chunk-less": ("the dump lacks its last byte", lambda data: data[:-1]),
        "longer": ("something stands behind the dump", lambda data: data + b"\0" * 100),
        "twice": ("the dump stands there twice", lambda data: data * 2),
        "zeros": ("the dump is zeros, of the right size", lambda data: bytes(len(data))),
        "html": ("a page of HTML stands in the dump's place", lambda data: b"<html>Not here</html>"),
        "chunks-swapped": (
            "halves of the dump are swapped",
            lambda data: data[len(data) // 2 :] + data[: len(data) // 2],
        ),
    }
    for name, (words, change) in changes.items():
        yield Case(f"restore/dump/{name}", RESTORE, words, _in_store(change), quick=name in ("empty", "half"))
    yield Case("restore/dump/missing", RESTORE, "the dump is gone", lambda trial: trial.at_rest(trial.live.dump, None))
    yield Case(
        "bootstrap/dump/missing",
        BOOTSTRAP,
        "the dump is gone",
        lambda trial: trial.at_rest(trial.live.dump, None),
        quick=True,
    )
    yield Case(
        "bootstrap/dump/flip-middle", BOOTSTRAP, "a bit of the dump is flipped in the store", _in_store(flip(0.5))
    )

    # What the host itself has signed, and is no whole dump all the same: a fault of whoever made it.
    texts: dict[str, tuple[str, Bytes]] = {
        "text-cut": ("the dump's text ends midway, all checksums are right", lambda text: text[: len(text) // 2]),
        "text-no-end": (
            "the dump's text lacks its last line",
            lambda text: text.rstrip()[: text.rstrip().rfind(b"\n") - 40],
        ),
        "text-empty": ("the dump has no text, all checksums are right", lambda text: b""),
        "rows-lost": ("a row of the dump is lost, all checksums are right", _without_a_row),
        "meta-command": (
            "a psql command stands in the dump",
            lambda text: text.replace(b"\nSET ", b"\n\\! touch /tmp/x\nSET ", 1),
        ),
        "syntax": (
            "the dump has a statement that the server doesn't know",
            lambda text: text.replace(b"CREATE TABLE", b"CREATE TABEL", 1),
        ),
        "extension": (
            "the dump wants an extension that isn't there",
            lambda text: text.replace(b"\nCREATE SCHEMA main", b"\nCREATE EXTENSION nosuch;\nCREATE SCHEMA main", 1),
        ),
        "tablespace": (
            "the dump wants a tablespace that isn't there",
            lambda text: text.replace(b"SET default_tablespace = ''", b"SET default_tablespace = 'nosuch'", 1),
        ),
        "bomb": ("the dump unpacks to 512 MiB of zeros", lambda text: bytes(512 * 1024 * 1024)),
    }
    for name, (words, change) in texts.items():
        expected = SUCCEEDS if name == "tablespace" else FAILS
        yield Case(f"restore/dump/{name}", RESTORE, words, _remade(change), expected)


def _body(change: Bytes) -> t.Callable[[Answer], None]:
    def fault(answer: Answer) -> None:
        if answer.status in (200, 206):
            answer.body = change(answer.body)

    return fault


def _without_a_row(text: bytes) -> bytes:
    lines = text.split(b"\n")
    start = next(
        number for number, line in enumerate(lines) if line.startswith(b"COPY ") and lines[number + 1] != b"\\."
    )
    del lines[start + 1]
    return b"\n".join(lines)


def _remade(change: Bytes) -> t.Callable[[Trial], None]:
    """Another text in the dump, with a manifest, and a signature, that fit it."""

    def arrange(trial: Trial) -> None:
        live = trial.live
        identity = pyrage.x25519.Identity.from_str(live.identity)
        text = change(gzip.decompress(pyrage.decrypt(live.objects[live.dump], [identity])))
        data = pyrage.encrypt(gzip.compress(text, 1), [identity.to_public()])
        trial.at_rest(live.dump, data)
        trial.at_rest(
            live.latest,
            trial.manifest(
                sha256=hashlib.sha256(data).hexdigest(),
                size=len(data),
                chunks={"size": _CHUNK, "sha256": [hashlib.sha256(data).hexdigest()]},
                plaintext_size=len(text),
            ),
        )

    return arrange


def _changed(changes: dict[str, t.Any], *, gone: bool) -> t.Callable[[Trial], None]:
    """The latest manifest says something else; *gone*: where it matters only for a database that has to be made."""

    def arrange(trial: Trial) -> None:
        trial.at_rest(trial.live.latest, trial.manifest(**changes))
        if gone:
            trial.rows = None
            trial.world.sql(f"DROP DATABASE {trial.live.name}")

    return arrange


def _of_the_manifest() -> t.Iterator[Case]:
    for name, place in (("first", 0), ("quarter", 0.25), ("half", 0.5), ("three-quarters", 0.75), ("last", -1)):
        yield Case(
            f"restore/manifest/flip-{name}",
            RESTORE,
            f"a bit of the manifest is flipped in the store ({name})",
            _latest(flip(place)),
            quick=name == "half",
        )
    raw: dict[str, tuple[str, Bytes]] = {
        "empty": ("the manifest is empty", lambda data: b""),
        "cut": ("the manifest is cut in half", lambda data: data[: len(data) // 2]),
        "list": ("the manifest is a list", lambda data: b"[]"),
        "null": ("the manifest is null", lambda data: b"null"),
        "deep": ("the manifest is nested 100,000 deep", lambda data: b"[" * 100_000),
        "utf-16": ("the manifest is UTF-16", lambda data: data.decode().encode("utf-16")),
        "not-utf-8": ("the manifest is no UTF-8", lambda data: data.replace(b"small", b"sm\xffll")),
        "nan": ("the manifest has a NaN", lambda data: data.replace(b'"size":', b'"size":NaN,"x":')),
        "duplicate": (
            "the manifest has a key twice",
            lambda data: data.replace(b"{", b'{"sha256":"' + b"0" * 64 + b'",', 1),
        ),
        "huge": ("the manifest has 65 MiB", lambda data: data + b" " * (65 * 1024 * 1024)),
        "unsigned": (
            "the manifest has no signature",
            lambda data: b'{"created_at":"2026-01-01T00:00:00Z","key":"db/small/x.age","sha256":"' + b"0" * 64 + b'"}',
        ),
    }
    for name, (words, change) in raw.items():
        yield Case(
            f"restore/manifest/{name}",
            RESTORE,
            words,
            _latest(change),
            says="nsigned|signature|sign" if name == "unsigned" else "",
        )
    for name, words, changes in (
        ("sha256", "the manifest names another SHA-256", {"sha256": "0" * 64}),
        ("size", "the manifest names another size", {"size": 1}),
        ("key-up", "the manifest's key leads out of the bucket", {"key": "db/../../etc/passwd"}),
        ("key-absolute", "the manifest's key is absolute", {"key": "/etc/passwd"}),
        ("key-url", "the manifest's key is on the web", {"key": "https://example.com/x"}),
        ("key-gone", "the manifest names a dump that never was", {"key": "db/small/20200101T000000Z.sql.gz.age"}),
        ("key-none", "the manifest names no dump", {"key": ...}),
        ("key-manifest", "the manifest names itself", {"key": "db/small/latest-dump.json"}),
        ("key-bucket", "the manifest names a bucket that isn't there", {"key": "s3://no-such-bucket/db/small/x.age"}),
        ("version", "the manifest is of a version to come", {"schema_version": 99}),
        ("moment", "the manifest's moment is none", {"created_at": "yesterday"}),
        ("database", "the manifest is another database's", {"database": "payroll"}),
        ("rows", "the manifest counts other rows", {"tables": [{"name": "public.x", "rows": 1, "digest": "0" * 64}]}),
        ("types", "the manifest's sizes are texts", {"size": "1"}),
        ("locale", "the manifest wants a locale that isn't there", {"collate": "xx_YY.UTF-8", "ctype": "xx_YY.UTF-8"}),
        (
            "extension",
            "the manifest wants an extension that isn't there",
            {"extensions": [{"name": "nosuch", "version": "1"}]},
        ),
    ):
        yield Case(f"restore/manifest/{name}", RESTORE, words, _changed(changes, gone=name == "locale"))
    for name, data in (("empty", b""), ("cut", b'{"key":"db/'), ("html", b"<html>")):
        yield Case(
            f"backup/manifest/{name}",
            BACKUP,
            f"the latest manifest is damaged ({name}), after a backup that the cluster has recorded",
            _latest(data),
            SUCCEEDS,
            says="somebody has overwritten the latest manifest.*after number 1",
        )

    def other(trial: Trial) -> None:
        trial.at_rest(trial.live.latest, trial.manifest(system_identifier="1"))

    yield Case(
        "backup/manifest/other-cluster",
        BACKUP,
        "the latest backup is another cluster's",
        other,
        says="another cluster",
        quick=True,
    )


def _on_the_way_there() -> t.Iterator[Case]:
    """A bit that is flipped on its way to the store, and a store that keeps what it was given, or something else."""

    def sent(change: Bytes) -> Fault:
        def fault(exchange: Exchange) -> None:
            exchange.request = dataclasses.replace(exchange.request, body=change(exchange.request.body))
            exchange.send(exchange.forward())

        return fault

    for name, operation, key, live in (
        ("put-dump", "PutObject", DUMP, "small"),
        ("put-manifest", "PutObject", MANIFEST, "small"),
        ("put-latest", "PutObject", LATEST, "small"),
        ("put-part", "UploadPart", ".*", "large"),
    ):
        for where, place in (("first", 0), ("middle", 0.5), ("last", -1)):
            yield Case(
                f"backup/{name}/flip-{where}",
                BACKUP,
                f"a bit is flipped on its way to the store ({name}, {where})",
                meets(operation, sent(flip(place)), key=key),
                expected=FAILS,
                live=live,
                quick=(name, where) == ("put-dump", "middle"),
            )

    def losing(trial: Trial) -> None:
        def fault(exchange: Exchange) -> None:
            answer = exchange.forward()
            key = exchange.request.key
            trial.world.put(trial.bucket, key, exchange.request.body[:-1])
            exchange.send(answer)

        trial.inject("PutObject", fault, key=DUMP)

    yield Case("backup/put-dump/truncated", BACKUP, "the store loses the last byte of what it has taken", losing)
