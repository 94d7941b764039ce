# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A setting of the inventory has the same effect in the command, the modules, the playbooks and a bootstrap.

What is between the inventory and the options of a backup or a restore is real: role runtime's defaults and its template
of db.env, the expressions of the playbooks and of role bootstrap, the modules, the command's parser.  Only the work
itself is left out.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import pathlib
import typing as t

import pyrage
import pytest
import yaml
from ansible.module_utils.testing import patch_module_args
from ansible_collections.infrazero.database.plugins.module_utils import _ansible
from ansible_collections.infrazero.database.plugins.module_utils._engine import cli, settings
from ansible_collections.infrazero.database.plugins.module_utils._engine.commands import common
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain import values as of
from ansible_collections.infrazero.database.plugins.module_utils._engine.profile import Profile

from conftest import ROOT
from tests.support.templating import templated

ENTRY = {
    "name": "app",
    "user": "app_user",
    "password": "secret",
    "backup_age_public_key": str(pyrage.x25519.Identity.generate().to_public()),
}
#: Two values of each type that are no setting's default: as an inventory has it, and as it is typed.
SAMPLES: dict[of.Type, tuple[t.Any, str]] = {
    of.TEXT: ("it's \\ text", "other"),
    of.PATH: ("/some/where", "/other"),
    of.SECRET: ("it's \\ secret", "other"),
    of.SECONDS: (90, "91"),
    of.HOURS: (1.5, "0"),
    of.SIZE: ("5G", "0"),
    of.NAMES: (["main", "public"], "one"),
    of.EXTENSIONS: (["postgis", "vector"], "citus"),
    of.ROLE_MAP: ({"old": "new"}, "a:b"),
    of.SIGNERS: ({"app": ["db2"]}, "{}"),
    of.RECIPIENTS: (["age1one", "ssh-ed25519 AAAA two, three"], '["age1four"]'),
    of.PREFIX: ("some/where/", "other/"),
}
#: Texts that mean more than themselves.
SPECIAL = {"signing_name": "db1", "s3_endpoint": "s3.example.com", "db_host": "/run/elsewhere"}


def samples(row: settings.Setting) -> tuple[t.Any, str]:
    """Two values of a setting that are not its default: as an inventory has it, and as it is typed."""
    if row.type is of.BOOLEAN:
        return not row.default, str(bool(row.default)).lower()
    if row.choices:
        others = [each for each in row.choices if each != row.default]
        return others[0], str(others[-1] if len(others) > 1 else row.default)
    if row.type.name == "integer":
        return 3, "4"
    value, typed = SAMPLES[row.type]
    return SPECIAL.get(str(row.variable), value), typed


ROWS = {row.variable: row for row in settings.TABLE if row.variable}
VALUES = {name: samples(row)[0] for name, row in ROWS.items()}
OTHERS = {name: samples(row)[1] for name, row in ROWS.items()}
#: Settings that only make sense beside another one.
BESIDE = {"s3_access_key_id": {"s3_secret_access_key": "x"}, "s3_secret_access_key": {"s3_access_key_id": "x"}}
#: Where each way to run a module sets its options: the file and the module.
EXPRESSIONS = {
    "backup": ("playbooks/tasks/backup.yml", "age_backup"),
    "restore": ("playbooks/restore.yml", "s3_manifest_restore"),
    "bootstrap": ("roles/bootstrap/tasks/restore.yml", "s3_manifest_restore"),
    "roles": ("roles/bootstrap/tasks/create.yml", "pg_db_bootstrap"),
}
#: The command that has the flags of a section, and its other arguments.
COMMANDS = {
    "backup": ("backup",),
    "restore": ("restore", "app", "db/app/"),
    "cluster": ("globals", "--show"),
    "cluster_restore": ("globals", "--show"),
}


def yaml_of(path: str) -> t.Any:
    return yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))


def variables_of(directory: str, given: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """An inventory, and what role runtime makes of it."""
    return {
        **yaml_of("roles/runtime/defaults/main.yml"),
        **yaml_of("roles/runtime/vars/main.yml"),
        **yaml_of("roles/bootstrap/vars/main.yml"),
        # What the module host_info has found on the host.
        "__runtime_host": {"postgresql": ["15"]},
        "ansible_managed": "managed",
        "inventory_hostname": "db1.example.com",
        "infrazero_config_directory": directory,
        "infrazero_databases": [ENTRY],
        **{f"infrazero_{name}": value for name, value in given.items()},
    }


@dataclasses.dataclass
class Configured:
    """A host that role runtime has configured, and the options that each way to run a module passes there."""

    directory: pathlib.Path
    options: dict[str, dict[str, t.Any]]


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Configured]:
    """A host for each setting whose inventory sets it, and one, ``""``, whose inventory sets nothing."""
    file = (ROOT / "roles/runtime/templates/db.env.j2").read_text(encoding="utf-8")
    defaults = [module_defaults(yaml_of(path), module) for path, module in EXPRESSIONS.values()]
    names = ["", *VALUES]
    directories = [tmp_path_factory.mktemp(name or "none") for name in names]
    cases = []
    for name, directory in zip(names, directories):
        given = {"s3_bucket": "backups", **BESIDE.get(name, {}), **({name: VALUES[name]} if name else {})}
        variables = variables_of(str(directory), given)
        cases += [(template, variables) for template in (file, *defaults)]
    results = iter(templated(cases))
    found = {}
    for name, directory in zip(names, directories):
        (directory / "db.env").write_text(next(results) + "\n")
        found[name] = Configured(directory, {way: next(results) for way in EXPRESSIONS})
    return found


def module_defaults(node: t.Any, module: str) -> str:
    """The expression with which *module*'s options are set, somewhere in a play or in tasks."""
    if isinstance(node, dict):
        found = node.get("module_defaults", {}).get(f"infrazero.database.{module}")
        if found is not None:
            return t.cast(str, found)
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    return next(filter(None, (module_defaults(each, module) for each in children)), "")


def of_module(module: str, params: dict[str, t.Any]) -> Profile:
    spec = _ansible.ArgumentSpec(_ansible.settings_of(module), _ansible.DATABASES)
    with patch_module_args(params):
        return _ansible.profile(spec.module(supports_check_mode=True), module)


def of_command(directory: pathlib.Path, section: str, *arguments: str) -> Profile:
    options: argparse.Namespace = cli.parsed([*COMMANDS[section], "--config", str(directory), *arguments])
    return common.read_profile(options, section)


def effects(host: Profile) -> dict[str, t.Any]:
    """All that a profile decides."""
    listed = host.databases()
    return {
        "connection": host.connection(),
        "store": host.store(),
        "backup": host.backup_options(),
        "restore": host.restore_options(listed),
        "jobs": host.values.get("restore", "jobs"),
        "globals": host.cluster_globals(),
        "privileges": host.values.get("cluster_restore", "privileges"),
    }


def test_the_values_are_not_the_defaults() -> None:
    assert len(ROWS) > 30
    for name, row in ROWS.items():
        assert row.type.read(VALUES[name], name) != settings.Values().get(*row.key), name
        assert row.type.read(VALUES[name], name) != row.type.read(OTHERS[name], name), name


@pytest.mark.parametrize("name", VALUES)
def test_a_setting_of_the_inventory_is_the_same_everywhere(name: str, hosts: dict[str, Configured]) -> None:
    row, host = ROWS[name], hosts[name]
    assert Profile.read(host.directory).values.get(*row.key) == row.type.read(VALUES[name], name)
    by_command = effects(of_command(host.directory, "restore"))
    assert by_command == effects(of_command(host.directory, "backup"))
    for way, (_path, module) in EXPRESSIONS.items():
        assert effects(of_module(module, host.options[way])) == by_command, way
        assert effects(of_module(module, {"config": str(host.directory)})) == by_command, way
        # Also on a host that is not configured yet: what the inventory says is passed on.
        if row.section in settings.MODULES[module]:
            assert row.option in host.options[way], way


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row.flag])
def test_a_flag_overrides_the_configuration(name: str, hosts: dict[str, Configured]) -> None:
    row = ROWS[name]
    flag = str(row.flag)
    value = row.type.read(OTHERS[name], name)
    arguments = [flag if value else f"--no-{flag[2:]}"] if row.type.ansible == "bool" else [flag, OTHERS[name]]
    assert of_command(hosts[name].directory, row.section, *arguments).values.get(*row.key) == value


def test_where_the_inventory_sets_nothing_all_have_the_same_defaults(hosts: dict[str, Configured]) -> None:
    host = hosts[""]
    by_command = effects(of_command(host.directory, "restore"))
    for way, (_path, module) in EXPRESSIONS.items():
        assert effects(of_module(module, host.options[way])) == by_command
    assert by_command["restore"].statement_timeout == datetime.timedelta(days=1)
