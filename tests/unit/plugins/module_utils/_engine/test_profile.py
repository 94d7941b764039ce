# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A configuration directory, with the settings of one run on top."""

from __future__ import annotations

import datetime
import json
import pathlib
import platform

import pyrage
import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine import settings
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain import envfile
from ansible_collections.infrazero.database.plugins.module_utils._engine.errors import ConfigurationError
from ansible_collections.infrazero.database.plugins.module_utils._engine.profile import Profile
from ansible_collections.infrazero.database.plugins.module_utils._engine.stores.base import (
    DirectorySettings,
    S3Settings,
)

ENTRY = {
    "name": "app",
    "user": "app_user",
    "password": "canary",
    "backup_age_public_key": str(pyrage.x25519.Identity.generate().to_public()),
}


def written(directory: pathlib.Path, **values: str) -> Profile:
    (directory / "db.env").write_text(envfile.render({"DATABASES_JSON": json.dumps([ENTRY]), **values}))
    return Profile.read(directory)


def test_what_db_env_says(tmp_path: pathlib.Path) -> None:
    host = written(
        tmp_path,
        DB_HOST="/run/x",
        DB_PORT="5433",
        DB_BACKUP_DIRECTORY="/backups",
        DB_BACKUP_JOBS="3",
        DB_BACKUP_COMPRESSION="zstd",
        DB_BACKUP_LOCK_WAIT="5",
        DB_SIGNING_NAME="db1",
        DB_RESTORE_SIGNERS='{"app": ["db2"]}',
        DB_RESTORE_EXTENSIONS="postgis,vector",
        DB_RESTORE_MAX_AGE_HOURS="0",
        DB_RESTORE_TIMEOUT="90",
    )
    assert (host.connection().host, host.connection().port) == ("/run/x", 5433)
    assert host.store() == DirectorySettings(path="/backups")
    made = host.backup_options()
    assert (made.jobs, made.compression.method, made.lock_wait_seconds, made.signer) == (3, "zstd", 5, None)
    assert (made.trust.name, made.trust.signers, made.trust.max_age) == ("db1", {"app": ("db2",)}, None)
    options = host.restore_options(host.databases())
    assert options.extensions == frozenset({"postgis", "vector"})
    assert options.timeout == datetime.timedelta(seconds=90)
    assert options.protected_roles == {"app_user"}
    assert host.warnings == ()


def test_keys_are_those_of_the_directory(tmp_path: pathlib.Path) -> None:
    (tmp_path / "allowed_signers").write_text("db2 ssh-ed25519 AAAA\n")
    (tmp_path / "revoked_keys").write_text("ssh-ed25519 BBBB\n")
    (tmp_path / "signing").mkdir()
    (tmp_path / "signing" / "id_ed25519.pub").write_text("ssh-ed25519 CCCC x\n")
    trust = written(tmp_path).trust()
    assert (trust.allowed_signers, trust.revoked_keys) == ("db2 ssh-ed25519 AAAA\n", "ssh-ed25519 BBBB\n")
    assert (trust.own_key, trust.name) == ("ssh-ed25519 CCCC", platform.node())


def test_relative_paths_in_db_env_are_relative_to_it(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "etc").mkdir()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "etc" / "allowed_signers").write_text("db2 ssh-ed25519 AAAA\n")
    (tmp_path / "etc" / "key.pub").write_text("ssh-ed25519 CCCC x\n")
    host = written(pathlib.Path("etc"), DB_BACKUP_DIRECTORY="../backups", DB_SIGNING_KEY="key", S3_CA_BUNDLE="/ca.pem")
    monkeypatch.chdir("/")
    assert host.directory == tmp_path / "etc"
    assert host.store() == DirectorySettings(path=f"{tmp_path}/etc/../backups")
    assert (host.trust().own_key, host.trust().allowed_signers) == ("ssh-ed25519 CCCC", "db2 ssh-ed25519 AAAA\n")
    assert host.values.get("store", "ca_bundle") == "/ca.pem"


def test_relative_paths_of_a_run_are_relative_to_the_working_directory(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "etc").mkdir()
    host = written(tmp_path / "etc")
    monkeypatch.chdir(tmp_path)
    assert host.over({("store", "directory"): "backups"}).store() == DirectorySettings(path=f"{tmp_path}/backups")
    assert Profile.empty("etc").directory == tmp_path / "etc"


def test_a_working_directory_that_is_gone(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(ConfigurationError, match="etc is relative to a working directory that does not exist"):
        Profile.read("etc")
    assert written(tmp_path).directory == tmp_path


def test_a_signing_key_that_is_named_must_exist(tmp_path: pathlib.Path) -> None:
    assert written(tmp_path).signer() is None
    with pytest.raises(ConfigurationError, match=rf"the signing key {tmp_path}/none does not exist.*DB_SIGNING_KEY"):
        written(tmp_path, DB_SIGNING_KEY="none").signer()


def test_a_bucket_and_a_directory_replace_each_other(tmp_path: pathlib.Path) -> None:
    bucket, directory = ("store", "bucket"), ("store", "directory")
    at_a_bucket = written(tmp_path, DB_BACKUP_BUCKET="b", S3_REGION="eu")
    assert at_a_bucket.over({directory: "/d"}).store() == DirectorySettings(path="/d")
    assert at_a_bucket.over({bucket: "c"}).store() == S3Settings(bucket="c", region="eu")
    assert written(tmp_path, DB_BACKUP_DIRECTORY="/d").over({bucket: "c"}).store() == S3Settings(bucket="c")
    # As hosts of version 0.1 had them: the directory comes first.
    both = written(tmp_path, DB_BACKUP_BUCKET="b", DB_BACKUP_DIRECTORY="/d")
    assert both.store() == DirectorySettings(path="/d")


def test_nowhere_to_store_backups(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ConfigurationError, match="nothing says where backups are stored"):
        written(tmp_path).store()


def test_a_file_that_is_absent_or_not_text(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ConfigurationError, match=r"cannot read .*db.env; cause: No such file"):
        Profile.read(tmp_path)
    (tmp_path / "db.env").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match="it is not UTF-8"):
        Profile.read(tmp_path)


def test_a_setting_that_is_not_valid_is_named_with_its_file(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ConfigurationError, match=r"DB_BACKUP_JOBS in .*db.env must be from 1 to 1000"):
        written(tmp_path, DB_BACKUP_JOBS="0")


def test_a_private_key_in_the_file_is_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ConfigurationError, match="contains DB_RESTORE_AGE_PRIVATE_KEY") as caught:
        written(tmp_path, DB_RESTORE_AGE_PRIVATE_KEY="canary")
    assert "canary" not in str(caught.value)


def test_unknown_names_are_warnings_with_the_nearest_setting(tmp_path: pathlib.Path) -> None:
    host = written(
        tmp_path, DB_BACKUP_JOB="3", S3_REGOIN="eu", APP_DB_NAME="x", DB_BACKUP_AGE_KEY="x", DB_TYPE="postgres"
    )
    assert host.warnings == (
        f"{tmp_path}/db.env: DB_BACKUP_JOB is not a setting; did you mean DB_BACKUP_JOBS?",
        f"{tmp_path}/db.env: S3_REGOIN is not a setting; did you mean S3_REGION?",
    )


def test_without_a_list(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ConfigurationError, match="has no DATABASES_JSON"):
        written(tmp_path, DATABASES_JSON="").databases()


def test_secrets_of_db_env_in_files(tmp_path: pathlib.Path) -> None:
    """Every setting that is secret, by the table's one rule, and the list."""
    secrets = settings.in_files(settings.STORED)
    assert {"S3_SECRET_ACCESS_KEY", "DB_PASSWORD"} <= {*secrets}
    for name in secrets:
        (tmp_path / name).write_text(f"canary of {name}\n")
    entry = {key: value for key, value in ENTRY.items() if key != "password"}
    (tmp_path / "list.json").write_text(json.dumps([{**entry, "password_file": "password"}]))
    (tmp_path / "password").write_text("it's a canary\n")
    host = written(
        tmp_path,
        DATABASES_JSON="",
        DATABASES_JSON_FILE="list.json",
        S3_SECRET_ACCESS_KEY="",
        **{f"{name}_FILE": f"{tmp_path}/{name}" for name in secrets},
    )
    for name in secrets:
        row = settings.STORED[name]
        assert host.values.get(row.section, row.name).reveal() == f"canary of {name}"
    (database,) = host.databases().entries
    assert database.password.reveal() == "it's a canary"
    assert host.warnings == ()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"DATABASES_JSON_FILE": "list.json"}, r"DATABASES_JSON and DATABASES_JSON_FILE in .*db.env are both set"),
        ({"S3_SECRET_ACCESS_KEY_FILE": "none"}, r"the file that S3_SECRET_ACCESS_KEY_FILE in .*db.env names can't be"),
        (
            {"DB_RESTORE_AGE_PRIVATE_KEY_FILE": "key"},
            r"contains DB_RESTORE_AGE_PRIVATE_KEY_FILE, which is for a single",
        ),
    ],
)
def test_files_that_are_refused(tmp_path: pathlib.Path, values: dict[str, str], message: str) -> None:
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(ConfigurationError, match=message):
        written(tmp_path, **values)


def test_errors_in_a_list_in_a_file_name_the_file_and_the_entry(tmp_path: pathlib.Path) -> None:
    bad = {**ENTRY, "password_file": "none", "backup_age_private_key_file": "key"}
    (tmp_path / "list.json").write_text(json.dumps([bad]))
    host = written(tmp_path, DATABASES_JSON="", DATABASES_JSON_FILE="list.json")
    with pytest.raises(ConfigurationError, match=rf"{tmp_path}/list.json has 1 error.*password_file: is set beside"):
        host.databases()
    del bad["password"]
    (tmp_path / "list.json").write_text(json.dumps([bad]))
    with pytest.raises(
        ConfigurationError, match=r"entry 1 .*, password_file: the file that the list names can't be read"
    ):
        Profile.read(tmp_path).databases()
    (tmp_path / "none").write_text("x")
    # A host has public keys only, and so it reads no other.
    with pytest.raises(ConfigurationError, match="backup_age_private_key_file: must not be present here"):
        Profile.read(tmp_path).databases()


def test_a_misspelt_name_of_a_file(tmp_path: pathlib.Path) -> None:
    (warning,) = written(tmp_path, S3_SECRET_ACCES_KEY_FILE="x").warnings
    assert warning.endswith("did you mean S3_SECRET_ACCESS_KEY_FILE?")


def test_a_private_key_of_a_restore_in_a_file(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "key"
    path.write_text("# public key: age1x\nAGE-SECRET-KEY-1X\n")
    path.chmod(0o644)
    host = written(tmp_path).over_environment({"DB_RESTORE_AGE_PRIVATE_KEY_FILE": str(path)})
    key = host.values.get("restore", "age_private_key")
    assert key.reveal() == "# public key: age1x\nAGE-SECRET-KEY-1X"
    assert host.warnings == (f"{path} holds a private key and can be read by every user: set its mode to 0600",)
    both = {"DB_RESTORE_AGE_PRIVATE_KEY_FILE": str(path), "DB_RESTORE_AGE_PRIVATE_KEY": "AGE-SECRET-KEY-1CANARY"}
    with pytest.raises(
        ConfigurationError, match="_KEY and DB_RESTORE_AGE_PRIVATE_KEY_FILE in the environment"
    ) as caught:
        written(tmp_path).over_environment(both)
    assert "CANARY" not in str(caught.value)


def test_the_environment_of_a_restore(tmp_path: pathlib.Path) -> None:
    values = (
        Profile.empty(tmp_path)
        .over_environment(
            {
                "DB_RESTORE_AGE_PRIVATE_KEY": "AGE-SECRET-KEY-1X",
                "DB_RESTORE_NON_INTERACTIVE": "true",
                "DB_RESTORE_EXPECTED_SHA256": "AB" * 32,
                "DB_RESTORE_SEARCH_PATH": "main, public",
                "DB_RESTORE_SIGNER": "db2, db3",
                "DB_RESTORE_SIGNERS": '{"app": ["db4"]}',
                "DB_RESTORE_SKIP_ACL": "",
                "DB_BACKUP_JOBS": "7",
                "DB_HOST": "/elsewhere",
                "UNRELATED": "x",
            }
        )
        .values
    )
    key = values.get("restore", "age_private_key")
    assert key is not None and key.reveal() == "AGE-SECRET-KEY-1X"
    assert values.get("restore", "non_interactive") is True
    assert values.get("restore", "expected_sha256") == "ab" * 32
    assert values.get("restore", "search_path") == ("main", "public")
    assert values.get("restore", "signer") == ("db2", "db3")
    assert values.get("signing", "signers") == {"app": ("db4",)}
    assert values.get("restore", "skip_acl") is None
    assert values.get("backup", "jobs") == 1, "only settings of restores come from the environment"
    assert values.get("connection", "host") == "/var/run/postgresql"


def test_a_misspelt_switch_in_the_environment_is_an_error(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ConfigurationError, match=r"DB_RESTORE_ROLEMAP is not .*; did you mean DB_RESTORE_ROLE_MAP"):
        Profile.empty(tmp_path).over_environment({"DB_RESTORE_ROLEMAP": "a:b"})
