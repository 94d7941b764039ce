# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of modules, from the variables of an inventory."""

from __future__ import annotations

import typing as t

import pytest
from ansible.errors import AnsibleLookupError
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from ansible_collections.infrazero.database.plugins.lookup import options
from ansible_collections.infrazero.database.plugins.module_utils._engine import settings


def found(module: str, **variables: t.Any) -> dict[str, t.Any]:
    templar = Templar(DataLoader(), variables=variables)
    lookup = options.LookupModule(loader=DataLoader(), templar=templar)
    (result,) = lookup.run([module], variables=variables)
    return result


def test_only_what_the_inventory_says() -> None:
    assert found("age_backup") == {"config": "/etc/infrazero"}
    assert found(
        "age_backup",
        infrazero_config_directory="/etc/x",
        infrazero_s3_bucket="b",
        infrazero_s3_region="",
        infrazero_db_port=5433,
        infrazero_backup_jobs=trust_as_template("{{ count * 2 }}"),
        infrazero_restore_timeout=5,
        infrazero_databases=[],
        count=2,
    ) == {"config": "/etc/x", "bucket": "b", "login_port": 5433, "jobs": 4}


def test_a_directory_comes_before_a_bucket() -> None:
    given = found("backup_info", infrazero_s3_bucket="b", infrazero_backup_directory="/d")
    assert given == {"config": "/etc/infrazero", "directory": "/d"}


def test_false_and_zero_are_set() -> None:
    assert found("s3_manifest_restore", infrazero_restore_skip_acl=False, infrazero_restore_max_age=0) == {
        "config": "/etc/infrazero",
        "skip_acl": False,
        "max_age": 0,
    }


def test_every_stored_setting_has_a_variable_for_some_module() -> None:
    names = {name for module in settings.MODULES for name in options.variables_of(module)}
    assert names == {f"infrazero_{row.variable}" for row in settings.TABLE if row.variable}


def test_another_module_is_refused() -> None:
    with pytest.raises(AnsibleLookupError, match="secret_scrub is not a module with settings; there are age_backup"):
        found("secret_scrub")
