# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of settings: names follow one rule, defaults don't drift, and layers override each other."""

from __future__ import annotations

import dataclasses
import datetime
import re

import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine import settings
from ansible_collections.infrazero.database.plugins.module_utils._engine.backup.plan import BackupOptions
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.restoring import RestoreOptions
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.secret import Secret
from ansible_collections.infrazero.database.plugins.module_utils._engine.errors import ConfigurationError
from ansible_collections.infrazero.database.plugins.module_utils._engine.settings import TABLE, Values
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.connection import (
    ConnectionSettings,
)
from ansible_collections.infrazero.database.plugins.module_utils._engine.stores.base import S3Settings

#: Names that people had in their files before there was a rule.
OLDER = {
    "DB_BACKUP_BUCKET",
    "DB_BACKUP_DIRECTORY",
    "DB_SIGNING_NAME",
    "DB_SIGNING_KEY",
    "DB_RESTORE_SIGNERS",
    "DB_RESTORE_MAX_AGE_HOURS",
}


def test_every_name_stands_for_one_setting() -> None:
    assert len(settings.BY_KEY) == len(TABLE)
    environment = [row.environment for row in TABLE if row.environment]
    variables = [row.variable for row in TABLE if row.variable]
    assert len(set(environment)) == len(environment)
    assert len(set(variables)) == len(variables)
    for sections in settings.MODULES.values():
        options = [row.option for row in TABLE if row.option and row.section in sections]
        assert len(set(options)) == len(options)


def test_names_follow_the_rule() -> None:
    for row in TABLE:
        if row.environment and row.environment not in OLDER:
            prefix = "S3" if row.environment.startswith("S3_") else f"DB_{row.section.partition('_')[0]}"
            prefix = "DB" if row.section == "connection" else prefix
            assert row.environment == f"{prefix}_{row.name}".upper()
        if row.flag:
            # One name is given at a time.
            name = row.name[:-1] if row.repeatable and row.name.endswith("s") else row.name
            assert row.flag == "--" + name.replace("_", "-")
        if row.section == "connection":
            assert row.variable == f"db_{row.name}"
        if row.section in ("backup", "restore", "signing", "store"):
            assert row.option in (row.name, None)
        if row.section.startswith("cluster"):
            assert row.option == f"cluster_{row.name}"
            assert row.variable == (row.option if row.stored else None)


def test_every_stored_switch_is_in_every_front_end() -> None:
    for row in TABLE:
        if row.section in ("backup", "restore") and row.stored:
            assert row.environment and row.option and row.variable == f"{row.section}_{row.name}", row.name
            assert row.flag or row.key == ("restore", "jobs"), "the command restores one database"


def test_texts_are_phrases() -> None:
    for row in TABLE:
        assert not row.help.endswith("."), row.name
        assert all(text.endswith(".") for text in row.details), row.name
        assert not re.search(r"\b[Ii]s no [a-z]", " ".join([row.help, *row.details])), row.name


def test_defaults_are_those_of_the_option_objects() -> None:
    objects = {"restore": RestoreOptions(), "store": S3Settings(bucket="b"), "connection": ConnectionSettings()}
    for section, made in objects.items():
        values = Values().of_section(section)
        for field in dataclasses.fields(made):
            if field.name in values and field.name not in ("trust", "bucket"):
                assert getattr(made, field.name) == values[field.name], field.name
    options = BackupOptions()
    values = Values().of_section("backup")
    assert (options.compression.method, options.jobs, options.take_over) == (
        values["compression"],
        values["jobs"],
        values["take_over"],
    )
    assert options.lock_wait_seconds == values["lock_wait"].total_seconds()
    assert options.trust.mode == Values().get("restore", "trust")
    assert options.trust.max_age == Values().get("restore", "max_age")


def test_every_default_can_be_read_and_written() -> None:
    for row in TABLE:
        if row.default is not None:
            value = row.type.read(row.default, row.name)
            assert row.type.read(row.type.written(value, row.name), row.name) == value


def test_layers_override_each_other() -> None:
    key = ("backup", "jobs")
    values = Values({key: 2}).over({key: None}).over({("backup", "compression"): "zstd"})
    assert (values.get(*key), values.get("backup", "compression")) == (2, "zstd")
    assert values.over({key: 3}).get(*key) == 3
    assert values.without(key).get(*key) == 1
    falsy = Values({("restore", "keep_replaced"): datetime.timedelta(0), ("restore", "grant_app_user"): False})
    assert falsy.get("restore", "keep_replaced") == datetime.timedelta(0)
    assert falsy.get("restore", "grant_app_user") is False


def test_what_is_empty_is_not_set() -> None:
    given = {"DB_BACKUP_JOBS": " ", "DB_PORT": "", "DB_HOST": None}
    assert settings.read(given, settings.STORED) == {}


def test_an_error_names_the_setting_and_never_a_secret() -> None:
    with pytest.raises(ConfigurationError, match=r"DB_PORT in /x/db.env is not a whole number"):
        settings.read({"DB_PORT": "five"}, settings.STORED, named="{} in /x/db.env")
    with pytest.raises(ConfigurationError) as caught:
        settings.read({"S3_SECRET_ACCESS_KEY": Secret("canary")}, settings.STORED)
    assert "canary" not in str(caught.value)


def test_a_file_must_not_hold_what_is_for_one_restore() -> None:
    for name in ("DB_RESTORE_AGE_PRIVATE_KEY", "DB_RESTORE_AGE_PRIVATE_KEY_FILE", "DB_RESTORE_SIGNER"):
        errors = settings.not_to_be_stored({name: "canary", "DB_PORT": "1"}, name="db.env")
        assert [*errors] == [name]
        assert f"db.env contains {name}, which is for a single restore" in str(errors[name])
        assert "canary" not in str(errors[name])
    assert settings.not_to_be_stored(settings.STORED, name="db.env") == {}


def test_every_error_is_found_and_valid_values_are_kept() -> None:
    given = {"DB_PORT": "five", "DB_BACKUP_JOBS": "0", "DB_BACKUP_COMPRESSION": "zstd"}
    values, errors = settings.examine(given, settings.STORED)
    assert values == {("backup", "compression"): "zstd"}
    assert [*errors] == ["DB_PORT", "DB_BACKUP_JOBS"]


def test_a_hint_names_a_setting_for_every_reader() -> None:
    assert settings.name_for_errors("restore", "timeout") == "timeout (--timeout, DB_RESTORE_TIMEOUT)"
    assert settings.name_for_errors("connection", "sslmode") == "ssl_mode (DB_SSLMODE)"
