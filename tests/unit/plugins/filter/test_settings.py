# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Variables of role runtime, as texts for db.env."""

from __future__ import annotations

import typing as t

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.infrazero.database.plugins.filter.settings import FilterModule
from ansible_collections.infrazero.database.plugins.module_utils._engine import settings
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain import envfile

db_env = FilterModule().filters()["db_env"]


def test_what_differs_from_the_default_is_written() -> None:
    assert db_env(
        {
            "DB_HOST": "",
            "DB_PORT": "5432",
            "DB_BACKUP_JOBS": 4,
            "DB_BACKUP_COMPRESSION": "gzip",
            "DB_RESTORE_EXTENSIONS": ["vector", "postgis"],
            "DB_RESTORE_SIGNERS": {"shop": ["db2"]},
            "DB_RESTORE_MAX_AGE_HOURS": 0,
            "DB_RESTORE_SKIP_ACL": False,
            "DB_RESTORE_GRANT_APP_USER": True,
            "DB_RESTORE_ROLE_MAP": {"old": "new"},
            "DB_RESTORE_JOBS": None,
        }
    ) == {
        "DB_BACKUP_JOBS": "4",
        "DB_RESTORE_EXTENSIONS": "postgis,vector",
        "DB_RESTORE_SIGNERS": '{"shop": ["db2"]}',
        "DB_RESTORE_MAX_AGE_HOURS": "0",
        "DB_RESTORE_SKIP_ACL": "false",
        "DB_RESTORE_ROLE_MAP": "old:new",
    }


def test_what_is_written_is_read_as_it_was_meant() -> None:
    given: dict[str, t.Any] = {"DB_RESTORE_SIGNERS": {"it's": ["db2"]}, "DB_RESTORE_KEEP_REPLACED": 1.5}
    lines = envfile.parse(envfile.render(db_env(given)), name="db.env")
    assert settings.read(lines, settings.STORED) == settings.read(given, settings.STORED)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("DB_BACKUP_JOBS", 0, r"infrazero_backup_jobs \(runtime_backup_jobs\) must be from 1 to 1000"),
        (
            "DB_RESTORE_STRATEGY",
            "swop",
            r"infrazero_restore_strategy \(runtime_restore_strategy\) is not one of swap, replace",
        ),
        (
            "DB_RESTORE_ROLE_MAP",
            {"a,b": "c"},
            r"infrazero_restore_role_map \(runtime_restore_role_map\) cannot be written as text",
        ),
    ],
)
def test_a_variable_that_is_not_valid_is_named(name: str, value: t.Any, message: str) -> None:
    with pytest.raises(AnsibleFilterError, match=message):
        db_env({name: value})


def test_a_secret_in_a_file_of_the_host() -> None:
    path = "/run/secrets/s3"
    assert db_env({"S3_SECRET_ACCESS_KEY": "", "S3_SECRET_ACCESS_KEY_FILE": path, "DB_PASSWORD_FILE": ""}) == {
        "S3_SECRET_ACCESS_KEY_FILE": path
    }
    with pytest.raises(AnsibleFilterError, match="infrazero_db_password and infrazero_db_password_file are both set"):
        db_env({"DB_PASSWORD": "not shown", "DB_PASSWORD_FILE": path})
    with pytest.raises(AnsibleFilterError, match="infrazero_db_password_file is not an absolute path"):
        db_env({"DB_PASSWORD_FILE": "secrets/db"})
