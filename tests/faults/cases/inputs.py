# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What people and programs hand in: lists of databases, settings, keys, sources."""

from __future__ import annotations

import json
import typing as t

import pyrage

from tests.faults.trial import BACKUP, BOOTSTRAP, FAILS, RESTORE, SUCCEEDS, Case, Trial

Entry = dict[str, t.Any]


def cases() -> t.Iterator[Case]:
    """All of them."""
    lists: dict[str, tuple[str, t.Callable[[Entry], str]]] = {
        "none": ("no list", lambda entry: ""),
        "not-json": ("a list that is not JSON", lambda entry: "{"),
        "object": ("an object for a list", json.dumps),
        "null": ("null for a list", lambda entry: "null"),
        "number": ("a number for an entry", lambda entry: "[1]"),
        "nan": ("NaN in the list", lambda entry: "[NaN]"),
        "twice": ("a database twice", lambda entry: json.dumps([entry, entry])),
        "case-twice": ("a key twice in an entry", lambda entry: '[{"name":"a","name":"small"}]'),
        "deep": ("a list 100,000 deep", lambda entry: "[" * 100_000),
    }
    for name, (words, text) in lists.items():

        def whole(trial: Trial, text: t.Callable[[Entry], str] = text) -> None:
            trial.settings["DATABASES_JSON"] = text(trial.live.entry())
            trial.happened()

        yield Case(f"backup/list/{name}", BACKUP, words, whole, quick=name == "not-json")
    fields: dict[str, tuple[str, Entry]] = {
        "name-none": ("an entry without a name", {"name": None}),
        "name-empty": ("an empty name", {"name": ""}),
        "name-slash": ("a name with a slash", {"name": "../small"}),
        "name-space": ("a name with a space", {"name": "sm all"}),
        "name-newline": ("a name with a line break", {"name": "small\n"}),
        "name-64": ("a name of 64 bytes", {"name": "x" * 64}),
        "name-template1": ("the name of a template", {"name": "template1"}),
        "name-postgres": ("the name of the maintenance database", {"name": "postgres"}),
        "name-number": ("a number for a name", {"name": 7}),
        "user-none": ("an entry without a user", {"user": None}),
        "user-list": ("a list for a user", {"user": ["small"]}),
        "key-none": ("an entry without a public key", {"backup_age_public_key": None}),
        "key-text": ("an invalid public key", {"backup_age_public_key": "age1nonsense"}),
        "key-cut": (
            "a public key that lacks its end",
            {"backup_age_public_key": str(pyrage.x25519.Identity.generate().to_public())[:-1]},
        ),
        "key-private": (
            "a private key in the place of the public one",
            {"backup_age_public_key": str(pyrage.x25519.Identity.generate())},
        ),
        "restore_latest": ("a text for a switch", {"restore_latest": "perhaps"}),
    }
    for name, (words, changes) in fields.items():

        def entry(trial: Trial, changes: Entry = changes) -> None:
            trial.entries = [{**trial.live.entry(), **changes}]
            trial.happened()

        yield Case(f"backup/entry/{name}", BACKUP, words, entry)
        if name in ("name-slash", "name-64", "key-none", "name-template1"):

            def private(trial: Trial, changes: Entry = changes) -> None:
                trial.entries = [{**trial.live.entry(private=True), **changes}]
                trial.happened()

            yield Case(f"bootstrap/entry/{name}", BOOTSTRAP, words, private)
    yield from _settings()
    yield from _keys()
    yield from _sources()


def _settings() -> t.Iterator[Case]:
    for name, words, changes in (
        ("port", "a port that is not a number", {"DB_PORT": "five"}),
        ("other-port", "a port where nothing listens", {"DB_PORT": "1"}),
        ("socket", "a socket's directory that isn't there", {"DB_HOST": "/nonexistent"}),
        ("jobs", "no jobs at a time", {"DB_BACKUP_JOBS": "0"}),
        ("compression", "a compression that nobody knows", {"DB_BACKUP_COMPRESSION": "rar"}),
        ("no-store", "neither bucket nor directory", {"DB_BACKUP_BUCKET": ""}),
        (
            "directory",
            "a directory that isn't there, such as one that isn't mounted",
            {"DB_BACKUP_DIRECTORY": "/nonexistent"},
        ),
        ("relative", "a directory that isn't absolute", {"DB_BACKUP_DIRECTORY": "backups"}),
        ("endpoint", "an endpoint that is not a URL", {"S3_ENDPOINT": "http://[::1"}),
        ("half-keys", "one half of the store's keys", {"S3_SECRET_ACCESS_KEY": ""}),
        ("bundle", "a CA bundle that isn't there", {"S3_CA_BUNDLE": "/nonexistent"}),
        ("style", "an addressing style that nobody knows", {"S3_ADDRESSING_STYLE": "sideways"}),
        ("signing", "an invalid signing key", {"DB_SIGNING_KEY": "/etc/hostname"}),
    ):
        yield Case(f"backup/setting/{name}", BACKUP, words, _with_settings(changes))


def _with_settings(changes: dict[str, str]) -> t.Callable[[Trial], None]:
    def arrange(trial: Trial) -> None:
        trial.settings.update(changes)
        trial.happened()

    return arrange


def _keys() -> t.Iterator[Case]:
    other = str(pyrage.x25519.Identity.generate())
    for name, words, identity in (
        ("none", "no private key", None),
        ("other", "another private key", other),
        ("cut", "a private key that lacks its end", other[:-1]),
        ("public", "a public key for the private one", str(pyrage.x25519.Identity.generate().to_public())),
        ("ssh", "a text that is not a key", "-----BEGIN OPENSSH PRIVATE KEY-----"),
    ):

        def arrange(trial: Trial, identity: str | None = identity) -> None:
            trial.identity = identity
            trial.happened()

        yield Case(f"restore/key/{name}", RESTORE, words, arrange, quick=name == "other")

    def rotated(trial: Trial) -> None:
        trial.entries = [{**trial.live.entry(private=True), "backup_age_private_key": other}]
        trial.happened()

    yield Case("bootstrap/key/rotated", BOOTSTRAP, "a private key that was rotated since the backup", rotated)

    def unknown(trial: Trial) -> None:
        trial.environment["DB_RESTORE_EXPECTED_SHA256"] = "0" * 64
        trial.happened()

    yield Case("restore/key/expected-sha256", RESTORE, "the operator expects another SHA-256", unknown)


def _with_switches(environment: dict[str, str]) -> t.Callable[[Trial], None]:
    def arrange(trial: Trial) -> None:
        trial.environment.update(environment)
        trial.happened()

    return arrange


def _sources() -> t.Iterator[Case]:
    for name, words, source in (
        ("up", "a source that leads out of the bucket", "db/../../etc/passwd"),
        ("absolute", "an absolute source", "/etc/passwd"),
        ("web", "a source on the web", "https://example.com/dump"),
        ("control", "a source with a control character", "db/small/\x07"),
        ("long", "a source of 2,000 bytes", "x" * 2000),
        ("bucket", "a bucket that isn't there", "s3://no-such-bucket/db/small/"),
        ("prefix", "a prefix without backups", "db/nobody/"),
        ("gone", "a dump that isn't there", "db/small/20200101T000000Z.sql.gz.age"),
    ):

        def arrange(trial: Trial, source: str = source) -> None:
            trial.source = source
            trial.happened()

        yield Case(f"restore/source/{name}", RESTORE, words, arrange)
    for name, words, environment in (
        ("role-map", "an invalid map of roles", {"DB_RESTORE_ROLE_MAP": "a"}),
        ("switch", "a switch that is neither true nor false", {"DB_RESTORE_SKIP_ACL": "perhaps"}),
        ("trust", "a trust that nobody knows", {"DB_RESTORE_TRUST": "blind"}),
    ):
        yield Case(f"restore/switch/{name}", RESTORE, words, _with_switches(environment))

    def many(trial: Trial) -> None:
        other = [{**trial.live.entry(), "name": f"db{number}"} for number in range(2_000)]
        trial.entries = [*other, trial.live.entry()]
        trial.arguments = ["--database", trial.live.name]
        trial.happened()

    yield Case("backup/list/many", BACKUP, "a list of 2,000 databases, of which one is wanted", many, SUCCEEDS)

    def one_missing(trial: Trial) -> None:
        trial.entries = [{**trial.live.entry(), "name": "gone"}, trial.live.entry()]
        trial.happened()

    yield Case(
        "backup/list/one-missing",
        BACKUP,
        "one of two databases isn't there: the other is backed up",
        one_missing,
        FAILS,
    )
