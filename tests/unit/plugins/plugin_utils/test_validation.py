# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is found in the variables of a host, without a connection to it."""

from __future__ import annotations

import typing as t

import pyrage
import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain import values as of
from ansible_collections.infrazero.database.plugins.plugin_utils import validation

PAIR = pyrage.x25519.Identity.generate()
CANARY = "canary-of-a-secret"
ENTRY = {"name": "shop", "user": "shop", "password": CANARY, "backup_age_public_key": str(PAIR.to_public())}
GOOD = {"infrazero_s3_bucket": "backups"}


def examined(values: t.Mapping[str, t.Any], *entries: t.Any, host: str = "db1") -> validation.Report:
    report = validation.examine(values, list(entries), host=host, node="controller", missing="there is no list")
    assert CANARY not in repr(report) and str(PAIR) not in repr(report)
    return report


def test_what_is_valid() -> None:
    report = examined({**GOOD, "infrazero_s3_endpoint": "https://s3.example.com/", "infrazero_backup_jobs": "2"}, ENTRY)
    assert report == validation.Report(databases=["shop"], places=["https://s3.example.com/backups/db/shop/"])


def test_every_error_at_once() -> None:
    report = examined(
        {
            "infrazero_backup_jobs": "zero",
            "runtime_restore_timeout": -1,
            "infrazero_s3_secret_access_key": CANARY,
            "infrazero_signing_name": "a b",
            "infrazero_cluster_age_public_keys": ["age1x"],
        },
        {**ENTRY, "user": "pg_x"},
        {**ENTRY, "backup_prefx": "x/"},
    )
    assert [error.partition(" ")[0] for error in report.errors] == [
        *("infrazero_backup_jobs", "runtime_restore_timeout", "nothing", "infrazero_s3_access_key_id", "the"),
        *("infrazero_cluster_age_public_keys", "entry", "entry", "entry"),
    ]
    assert report.databases == [] and report.places == []


def test_what_cannot_be_known_is_not_called_missing() -> None:
    """Its template has an error of its own, which is reported by the caller."""
    unknown = {"infrazero_s3_bucket": None, "infrazero_s3_secret_access_key": None, "infrazero_s3_access_key_id": "x"}
    assert examined(unknown, ENTRY).errors == []
    assert len(examined({**unknown, "infrazero_s3_bucket": "", "infrazero_s3_access_key_id": ""}, ENTRY).errors) == 2


def test_no_list() -> None:
    assert examined(GOOD).errors == ["there is no list"]


def test_a_variable_of_role_runtime_overrides_the_shared_one() -> None:
    values = {**GOOD, "infrazero_db_maintenance_database": "postgres"}
    assert examined({**values, "runtime_s3_bucket": "other"}, ENTRY).places == ["s3://other/db/shop/"]
    assert examined({**values, "runtime_backup_directory": "/backups"}, ENTRY).places == []


def test_without_pyrage_keys_are_left_to_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validation, "pyrage", None)
    report = examined(GOOD, {**ENTRY, "backup_age_public_key": "age1x"})
    assert report.errors == [] and "pyrage is not installed" in report.warnings[0]


def test_every_setting_of_an_inventory_is_examined() -> None:
    rows = validation.setting_variables()
    wrong = {name: {"a": {"b": 1}} for name, row in rows.items() if row.type is not of.KEY_LINES}
    report = examined(wrong, ENTRY)
    text = " ".join(report.errors)
    # A mapping of nothing but texts is a valid value of one type.
    assert [name for name in wrong if name not in text] == []


def test_places_that_hosts_share() -> None:
    cluster = {**GOOD, "infrazero_cluster_age_public_keys": [str(PAIR.to_public())]}
    places = {
        "db1": examined(cluster, ENTRY).places,
        "db2": examined(cluster, {**ENTRY, "backup_prefix": "db/shop/"}, host="db2").places,
        "db3": examined({**cluster, "infrazero_s3_bucket": "other"}, ENTRY, host="db3").places,
    }
    (warning,) = validation.shared(places)
    assert warning.startswith("db1, db2 store backups in the same place, s3://backups/db/shop/: ")
    assert "s3://backups/cluster/db1/" in places["db1"]


def test_a_secret_in_a_file_of_the_host() -> None:
    values = {"infrazero_s3_bucket": "b", "infrazero_s3_access_key_id": "A"}
    path = "/run/secrets/s3"
    assert examined({**values, "infrazero_s3_secret_access_key_file": path}, ENTRY).errors == []
    assert examined({**values, "infrazero_s3_secret_access_key_file": None}, ENTRY).errors == []
    both = {**values, "infrazero_s3_secret_access_key": "S", "infrazero_s3_secret_access_key_file": path}
    assert examined(both, ENTRY).errors == [
        "infrazero_s3_secret_access_key and infrazero_s3_secret_access_key_file are both set (set only one of them)"
    ]
    assert examined({**values, "infrazero_s3_secret_access_key_file": "s3"}, ENTRY).errors == [
        "infrazero_s3_secret_access_key_file is not an absolute path (name a file on the host)"
    ]
