# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is reported of a list and of a configuration directory: everything at once, and no secret."""

from __future__ import annotations

import json
import pathlib
import typing as t

import pyrage
import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine import validation
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain import envfile
from ansible_collections.infrazero.database.plugins.module_utils._engine.errors import ConfigurationError

PAIR = pyrage.x25519.Identity.generate()
CANARY = "canary-of-a-secret"
ENTRY = {"name": "app", "user": "app", "password": CANARY, "backup_age_public_key": str(PAIR.to_public())}


def written(directory: pathlib.Path, *entries: t.Mapping[str, t.Any], **values: str) -> validation.Report:
    lines = {"DATABASES_JSON": json.dumps(entries or [ENTRY]), "DB_BACKUP_DIRECTORY": "/backups", **values}
    (directory / "db.env").write_text(envfile.render(lines))
    return validation.of_directory(directory)


def places(report: validation.Report) -> list[tuple[str, str]]:
    text = json.dumps(report.as_dict())
    assert CANARY not in text and str(PAIR) not in text
    assert all(fault.remedy for fault in report.errors), "each error has a remedy"
    assert report.as_dict()["valid"] is (not report.errors)
    return [(fault.entry, fault.field) for fault in report.errors]


def test_a_list() -> None:
    report = validation.of_list(json.dumps([ENTRY, {**ENTRY, "name": "b", "comment": "x"}]), subject="list.json")
    assert (report.subject, report.databases, places(report)) == ("list.json", 2, [])
    assert report.warnings == ("entry 2 (b): unknown fields are ignored: 'comment'",)


def test_a_list_with_errors() -> None:
    entries = [{**ENTRY, "name": "a b", "user": None}, ENTRY, {**ENTRY, "backup_age_public_key": "age1x"}]
    report = validation.of_list(json.dumps(entries), subject="list.json")
    assert report.databases is None
    assert places(report) == [
        ("entry 1 (a b)", "name"),
        ("entry 1 (a b)", "user"),
        ("entry 3 (app)", "name"),
        ("entry 3 (app)", "backup_age_public_key"),
    ]
    for text in ("", "[", "no base64!", "{}"):
        assert places(validation.of_list(text, subject="x")) == [("list", "")]


def test_private_keys_of_a_list() -> None:
    private = json.dumps([{**ENTRY, "backup_age_private_key": str(PAIR)}])
    assert places(validation.of_list(private, subject="x")) == []
    assert places(validation.of_list(private, subject="x", private=False)) == [
        ("entry 1 (app)", "backup_age_private_key")
    ]


def test_files_of_a_list_are_not_read() -> None:
    entry = {name: value for name, value in ENTRY.items() if name != "password"}
    files = {"password_file": "/none", "backup_age_private_key_file": "/none"}
    for given in ({**entry, **files}, {**ENTRY, "backup_age_private_key_file": "/none"}):
        assert places(validation.of_list(json.dumps([given]), subject="x")) == []
    assert places(validation.of_list(json.dumps([{**ENTRY, **files}]), subject="x")) == [
        ("entry 1 (app)", "password_file")
    ]
    assert places(validation.of_list(json.dumps([{**entry, **files}]), subject="x", private=False)) == [
        ("entry 1 (app)", "backup_age_private_key_file")
    ]


def test_a_configuration_directory(tmp_path: pathlib.Path) -> None:
    report = written(tmp_path, DB_BACKUP_JOB="2")
    assert (report.subject, report.databases, places(report)) == (str(tmp_path), 1, [])
    (warning,) = report.warnings
    assert "did you mean DB_BACKUP_JOBS?" in warning


def test_every_error_of_a_configuration_directory_at_once(tmp_path: pathlib.Path) -> None:
    report = written(
        tmp_path,
        {**ENTRY, "name": ""},
        DB_PORT="five",
        DB_BACKUP_JOBS="0",
        DB_BACKUP_DIRECTORY="",
        DB_BACKUP_BUCKET="b",
        S3_ACCESS_KEY_ID="x",
        DB_SIGNING_KEY="none",
        DB_CLUSTER_AGE_PUBLIC_KEYS='["age1x"]',
        DB_RESTORE_AGE_PRIVATE_KEY=CANARY,
        S3_SECRET_ACCESS_KEY_FILE="none",
    )
    assert sorted(places(report)) == [
        ("entry 1", "name"),
        ("settings", ""),
        ("settings", "DB_BACKUP_JOBS"),
        ("settings", "DB_CLUSTER_AGE_PUBLIC_KEYS"),
        ("settings", "DB_PORT"),
        ("settings", "DB_RESTORE_AGE_PRIVATE_KEY"),
        ("settings", "S3_SECRET_ACCESS_KEY"),
        ("settings", "S3_SECRET_ACCESS_KEY_FILE"),
    ]
    texts = [str(fault) for fault in report.errors]
    assert "settings, DB_PORT: is not a whole number (give a number from 1 to 65535)" in texts
    assert any("the signing key" in text and "does not exist" in text for text in texts)


def test_nowhere_to_store_backups_and_no_list(tmp_path: pathlib.Path) -> None:
    report = written(tmp_path, DATABASES_JSON="", DB_BACKUP_DIRECTORY="")
    assert places(report) == [("list", ""), ("settings", "")]


def test_a_file_that_is_none(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot read"):
        validation.of_directory(tmp_path)
    (tmp_path / "db.env").write_text(f"X='{CANARY}")
    with pytest.raises(ConfigurationError, match="line 1") as caught:
        validation.of_directory(tmp_path)
    assert CANARY not in str(caught.value)
