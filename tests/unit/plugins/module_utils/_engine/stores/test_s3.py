# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings of the S3 store: what becomes of them, and which are refused.  Nothing here talks to a server."""

from __future__ import annotations

import typing as t

import botocore.exceptions
import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.secret import Secret
from ansible_collections.infrazero.database.plugins.module_utils._engine.errors import (
    ConfigurationError,
    LibraryMissing,
)
from ansible_collections.infrazero.database.plugins.module_utils._engine.stores import s3, s3_errors
from ansible_collections.infrazero.database.plugins.module_utils._engine.stores.base import (
    DirectorySettings,
    S3Settings,
)
from ansible_collections.infrazero.database.plugins.module_utils._engine.stores.directory import DirectoryStore
from ansible_collections.infrazero.database.plugins.module_utils._engine.stores.registry import open_store
from ansible_collections.infrazero.database.plugins.module_utils._engine.stores.s3 import MIB, S3Store, part_size_for

if t.TYPE_CHECKING:
    import pathlib


@pytest.fixture(autouse=True)
def no_configuration(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    for name in ("AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))


def made(**more: t.Any) -> S3Store:
    given = {"bucket": "backups", "access_key_id": "AKIA", "secret_access_key": Secret("hush"), **more}
    return S3Store(S3Settings(**given))


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("s3.example.com", "https://s3.example.com"),
        ("s3.example.com:9000/", "https://s3.example.com:9000"),
        ("http://10.0.0.1:9000", "http://10.0.0.1:9000"),
        ("https://[::1]:9000", "https://[::1]:9000"),
        ("https://gateway.example.com/s3", "https://gateway.example.com/s3"),
        (None, "https://s3.eu-central-1.amazonaws.com"),
        ("", "https://s3.eu-central-1.amazonaws.com"),
    ],
)
def test_endpoints(given: str | None, url: str) -> None:
    assert made(endpoint=given, region="eu-central-1").location == f"s3://backups ({url})"


@pytest.mark.parametrize(
    "endpoint",
    ["ftp://x", "https://", "https://user:hush@x", "user:hush@x", "https://x?a=b", "https://x#y", "https://x:y", "://"],
)
def test_endpoints_that_are_none(endpoint: str) -> None:
    with pytest.raises(ConfigurationError, match="not the URL of a server") as caught:
        made(endpoint=endpoint)
    assert "hush" not in str(caught.value)


def test_the_region_is_given_found_or_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    def region(**more: t.Any) -> str:
        return made(**more)._client.meta.region_name

    assert region() == "us-east-1"
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-3")
    assert region() == "eu-west-3"
    assert region(region="fsn1", endpoint="fsn1.example.com") == "fsn1"


def url_of_a_request(store: S3Store) -> str:
    return store._client.generate_presigned_url("get_object", Params={"Bucket": "backups", "Key": "k"})


@pytest.mark.parametrize(
    ("endpoint", "style", "begins"),
    [
        ("s3.example.com", "auto", "https://s3.example.com/backups/k?"),
        ("s3.example.com", "virtual", "https://backups.s3.example.com/k?"),
        (None, "auto", "https://backups.s3.amazonaws.com/k?"),
        (None, "path", "https://s3.amazonaws.com/backups/k?"),
    ],
)
def test_addressing_styles(endpoint: str | None, style: str, begins: str) -> None:
    assert url_of_a_request(made(endpoint=endpoint, addressing_style=style)).startswith(begins)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"addressing_style": "dns"}, "one of auto, path, virtual"),
        ({"checksums": "always"}, "one of auto, when_supported, when_required"),
        ({"access_key_id": None}, "one half"),
        ({"secret_access_key": None}, "one half"),
        ({"secret_access_key": Secret("")}, "one half"),
        ({"ca_bundle": "/no/such/file.pem"}, "/no/such/file.pem"),
    ],
)
def test_settings_that_cannot_work(more: dict[str, t.Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        made(**more)


def test_a_missing_library_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "boto3", None)
    with pytest.raises(LibraryMissing, match="boto3"):
        made()


@pytest.mark.parametrize(
    "endpoint", ["https://s3.example.com", "http://localhost:9000", "http://127.0.0.1", "http://[::1]"]
)
def test_a_crc_is_preferred_where_nothing_else_checks(endpoint: str) -> None:
    assert made(endpoint=endpoint)._forms == ({"ChecksumAlgorithm": "CRC32"}, {})


def test_over_plain_http_the_signed_hash_is_preferred() -> None:
    assert made(endpoint="http://10.0.0.1")._forms == ({}, {"ChecksumAlgorithm": "CRC32"})
    assert made(endpoint="http://localhost.example.com")._forms == ({}, {"ChecksumAlgorithm": "CRC32"})


@pytest.mark.parametrize(
    ("hint", "size"),
    [
        (None, 8 * MIB),
        (0, 8 * MIB),
        (76_000_000_000, 8 * MIB),
        (77_000_000_000, 9 * MIB),
        (10**12, 105 * MIB),
        (10**13, 1050 * MIB),
        (48 * 10**12, 5036 * MIB),
    ],
)
def test_parts_hold_the_hint_and_a_tenth_more(hint: int | None, size: int) -> None:
    assert part_size_for(hint) == size
    assert size * s3.MAX_PARTS >= (hint or 0) * 1.1


def test_what_s3_cannot_hold_is_refused_before_it_begins() -> None:
    with pytest.raises(ConfigurationError, match="larger than S3 can store"):
        part_size_for(50 * 10**12)


def test_a_sibling_shares_the_connections() -> None:
    store = made()
    assert store.sibling("backups") is store
    other = store.sibling("other")
    assert other.url("k") == "s3://other/k"
    assert other._client is store._client


def test_the_registry_knows_both(tmp_path: pathlib.Path) -> None:
    assert isinstance(open_store(S3Settings("backups")), S3Store)
    assert isinstance(open_store(DirectorySettings(str(tmp_path))), DirectoryStore)


def test_settings_show_no_secret() -> None:
    settings = S3Settings("b", access_key_id="AKIA", secret_access_key=Secret("hush"), session_token=Secret("hush"))
    assert "hush" not in repr(settings)


def test_what_answers_in_the_servers_place_chooses_no_more_than_a_line() -> None:
    said = {"Error": {"Code": "E\x1b[2J" * 1000, "Message": "\n2030-01-01 app done: restored\x9b" * 10_000}}
    error = s3_errors.translated(
        botocore.exceptions.ClientError(said, "GetObject"), "no", phase="download", endpoint="https://s3.invalid"
    )
    assert error.cause.isprintable() and len(error.cause) < 5000
