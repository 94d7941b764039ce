# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import builtins
import importlib
import json
import pathlib
import platform
import typing as t

import pyrage
import pytest
import yaml
from ansible.module_utils._internal import _traceback
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.testing import patch_module_args
from ansible_collections.infrazero.database.plugins.module_utils import _ansible
from ansible_collections.infrazero.database.plugins.module_utils._engine import errors, outcome, settings
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain import envfile
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.databases import (
    Databases,
    InvalidDatabases,
)
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.secret import Secret
from ansible_collections.infrazero.database.plugins.module_utils._engine.profile import Profile
from ansible_collections.infrazero.database.plugins.module_utils._engine.stores import base

from tests.support.foreign import FOREIGN, UNENCODABLE, commanding, obeyed

PASSWORD = "canary-of-a-password"
IDENTITY = pyrage.x25519.Identity.generate()
ENTRY = {
    "name": "app",
    "user": "app_user",
    "password": PASSWORD,
    "backup_age_public_key": str(IDENTITY.to_public()),
    "backup_age_private_key": str(IDENTITY),
}
#: Modules that have each section of the settings, for its options.
MODULES = {
    "connection": "pg_cluster_info",
    "store": "backup_info",
    "signing": "age_backup",
    "backup": "age_backup",
    "restore": "s3_manifest_restore",
    "cluster": "age_backup",
    "cluster_backup": "age_backup",
    "cluster_restore": "pg_db_bootstrap",
}
CONNECTION = _ansible.settings_of("pg_cluster_info")
STORE = _ansible.settings_of("backup_info")
BOOTSTRAP = _ansible.ArgumentSpec(_ansible.settings_of("pg_db_bootstrap"), _ansible.DATABASES)


@pytest.fixture(autouse=True)
def profile() -> t.Iterator[None]:
    """What Ansible's wrapper sets before a module runs, and a module needs until it ends."""
    with patch_module_args():
        yield


def made(spec: _ansible.ArgumentSpec, **params: t.Any) -> AnsibleModule:
    with patch_module_args(params):
        return spec.module(supports_check_mode=True)


def ended(capsys: pytest.CaptureFixture[str], function: t.Callable[[], object]) -> dict[str, t.Any]:
    """What a module printed when it ended."""
    with pytest.raises(SystemExit):
        function()
    return json.loads(capsys.readouterr().out)


# Options ------------------------------------------------------------------------------------------------------------


def documented(name: str) -> dict[str, t.Any]:
    module = importlib.import_module(f"ansible_collections.infrazero.database.plugins.doc_fragments.{name}")
    return yaml.safe_load(module.ModuleDocFragment.DOCUMENTATION)


def without_texts(options: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """Options as documentation and specification both tell them."""
    told = {}
    for name, option in options.items():
        kept = {key: value for key, value in option.items() if key not in ("description", "no_log", "version_added")}
        for key in ("suboptions", "options"):
            if key in kept:
                kept["options"] = without_texts(kept.pop(key))
        told[name] = kept
    return told


@pytest.mark.parametrize("section", MODULES)
def test_documentation_and_specification_of_a_section_are_the_same(section: str) -> None:
    options = _ansible.settings_of(MODULES[section]).options
    described = documented(section)["options"]
    assert without_texts(described) == without_texts({name: options[name] for name in described})


@pytest.mark.parametrize("module", settings.MODULES)
def test_a_module_has_the_options_of_its_sections_and_no_others(module: str) -> None:
    fragments = [documented(name)["options"] for name in ("profile", *settings.MODULES[module])]
    assert set(_ansible.settings_of(module).options) == {name for options in fragments for name in options}


def test_documentation_and_specification_of_the_list_are_the_same() -> None:
    assert without_texts(documented("databases")["options"]) == without_texts(_ansible.DATABASES.options)


@pytest.mark.parametrize(
    ("sections", "spec"), [(["connection"], CONNECTION), (["store"], STORE), (["databases"], _ansible.DATABASES)]
)
def test_documented_requirements_are_the_libraries_that_are_looked_for(
    sections: list[str], spec: _ansible.ArgumentSpec
) -> None:
    libraries = [text.split()[0] for name in sections for text in documented(name)["requirements"]]
    assert libraries == ["python", *spec.libraries]


def test_secrets_and_nothing_else_are_hidden() -> None:
    def hidden(options: t.Mapping[str, t.Any]) -> set[str]:
        found = {name for name, option in options.items() if option.get("no_log")}
        return found.union(*(hidden(option.get("options", {})) for option in options.values()))

    parts = [*map(_ansible.settings_of, settings.MODULES), _ansible.DATABASES]
    assert set.union(*(hidden(part.options) for part in parts)) == {
        "age_private_key",
        "cluster_age_private_key",
        "login_password",
        "secret_access_key",
        "session_token",
        "password",
        "backup_age_private_key",
    }


@pytest.mark.parametrize("given", [json.dumps([ENTRY]), json.dumps([ENTRY])[1:], [json.dumps(ENTRY)[1:]], 7])
def test_nothing_is_repeated_of_options_that_cannot_be_read(given: object, capsys: pytest.CaptureFixture[str]) -> None:
    """Ansible knows no secret then, not even those of the other options."""
    params = {"databases": given, "login_password": "canary-of-the-administrator"}
    result = ended(capsys, lambda: made(BOOTSTRAP, **params))
    assert "databases is not a list of dictionaries" in result["msg"]
    assert "canary" not in json.dumps(result) and str(IDENTITY) not in json.dumps(result)


def test_another_option_that_cannot_be_read_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    params = {"databases": [ENTRY], "login_port": "seven"}
    result = ended(capsys, lambda: made(BOOTSTRAP, **params))
    assert "'login_port' is of type" in result["msg"]
    assert PASSWORD not in json.dumps(result)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"databases": [], "login_prot": 1}, "login_prot is not an option; did you mean login_port?"),
        (
            {"databases": [{"name": "app", "backup_age_publickey": PASSWORD}]},
            "backup_age_publickey is not an option; did you mean backup_age_public_key?",
        ),
        ({"databases": [], "colour": PASSWORD}, "colour is not an option"),
    ],
)
def test_a_misspelt_option_is_named_with_the_nearest_one(
    params: dict[str, t.Any], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    result = ended(capsys, lambda: made(BOOTSTRAP, **params))
    assert result["msg"] == message
    assert PASSWORD not in json.dumps(result)


def test_the_system_log_has_no_options(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Ansible would write is text of Python, in which it doesn't find a secret with a quote or a backslash."""
    told: list[str] = []
    monkeypatch.setattr(AnsibleModule, "log", lambda _self, msg, log_args=None: told.append(f"{msg} {log_args}"))
    made(_ansible.DATABASES, databases=[{**ENTRY, "password": "canary'of\\a\"password"}])
    assert told == ["Invoked None"]


def test_no_option_comes_from_the_environment() -> None:
    assert not any(
        "fallback" in option for module in settings.MODULES for option in _ansible.settings_of(module).options.values()
    )


def test_parts_add_up() -> None:
    one = _ansible.ArgumentSpec(
        libraries=["psycopg2"], mutually_exclusive=[("a", "b")], a={"type": "str"}, b={"type": "str"}
    )
    two = _ansible.ArgumentSpec(
        libraries=["pyrage"], required_one_of=[("c", "d")], required_by={"c": ("d",)}, c={"type": "str"}
    )
    whole = _ansible.ArgumentSpec(one, two, required_together=[("a", "d")], d={"type": "int"})
    assert list(whole.options) == ["a", "b", "c", "d"]
    assert whole.libraries == ["psycopg2", "pyrage"]
    assert (whole.mutually_exclusive, whole.required_one_of) == ([("a", "b")], [("c", "d")])
    assert (whole.required_together, whole.required_by) == ([("a", "d")], {"c": ("d",)})
    assert not two.mutually_exclusive, "a part isn't changed by what it becomes a part of"


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({"bucket": "b", "directory": "/d"}, "mutually exclusive: bucket|directory"),
        ({"bucket": "b", "access_key_id": "x"}, "required together: access_key_id, secret_access_key"),
        ({"bucket": "b", "session_token": "x"}, "missing parameter(s) required by 'session_token': access_key_id"),
        ({"bucket": "b", "checksums": "never"}, "value of checksums must be one of"),
    ],
)
def test_rules_of_the_store(capsys: pytest.CaptureFixture[str], params: dict[str, t.Any], text: str) -> None:
    assert text in ended(capsys, lambda: made(STORE, **params))["msg"]


# Libraries ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> t.Callable[..., None]:
    """A host that lacks libraries."""
    real = builtins.__import__

    def lack(*names: str) -> None:
        def fail(name: str, *others: t.Any, **more: t.Any) -> t.Any:
            if name in names:
                raise ImportError(name)
            return real(name, *others, **more)

        monkeypatch.setattr(builtins, "__import__", fail)

    return lack


def test_every_missing_library_is_named_at_once(
    capsys: pytest.CaptureFixture[str], without: t.Callable[..., None]
) -> None:
    without("pyrage", "psycopg2")
    spec = BOOTSTRAP
    message = ended(capsys, lambda: made(spec, databases=[ENTRY]))["msg"]
    assert "required Python library (psycopg2, pyrage)" in message


def test_boto3_is_needed_for_a_bucket_only(capsys: pytest.CaptureFixture[str], without: t.Callable[..., None]) -> None:
    without("boto3")
    assert made(STORE, directory="/backups").params["directory"] == "/backups"
    assert made(STORE, config="/etc/infrazero").params["config"] == "/etc/infrazero", "it may name a directory"
    assert "(boto3)" in ended(capsys, lambda: made(STORE, bucket="backups"))["msg"]


# From options to the engine -----------------------------------------------------------------------------------------


def of_module(name: str, **params: t.Any) -> Profile:
    """The profile that a module has with some options."""
    return _ansible.profile(made(_ansible.settings_of(name), **params), name)


def test_the_connection_is_by_default_the_superusers_through_the_socket() -> None:
    found = of_module("pg_cluster_info").connection()
    assert (found.host, found.port, found.user) == ("/var/run/postgresql", 5432, "postgres")
    assert (found.password, found.sslmode, found.maintenance_database) == (None, None, "postgres")


def test_the_connections_options() -> None:
    found = of_module(
        "pg_cluster_info",
        login_host="db.example.com",
        login_port=5433,
        login_user="admin",
        login_password=PASSWORD,
        ssl_mode="verify-full",
        maintenance_db="defaultdb",
    ).connection()
    assert (found.host, found.port, found.user) == ("db.example.com", 5433, "admin")
    assert (found.password, found.sslmode) == (Secret(PASSWORD), "verify-full")
    assert found.maintenance_database == "defaultdb"


def test_this_hosts_backups_are_accepted_without_more_options(tmp_path: pathlib.Path) -> None:
    absent = {"allowed_signers_file": str(tmp_path / "none"), "revoked_keys_file": str(tmp_path / "none")}
    trust = of_module("age_backup", signing_key=str(tmp_path / "none"), **absent).trust()
    assert (trust.name, trust.own_key, trust.allowed_signers, trust.signers) == (platform.node(), "", "", {})


def test_whose_backups_are_accepted(tmp_path: pathlib.Path) -> None:
    (tmp_path / "key.pub").write_text("ssh-ed25519 AAAA a comment\n")
    (tmp_path / "allowed").write_text("db1 ssh-ed25519 AAAA\n")
    trust = of_module(
        "age_backup",
        signing_name="db1",
        signing_key=str(tmp_path / "key"),
        allowed_signers_file=str(tmp_path / "allowed"),
        revoked_keys=["ssh-ed25519 BBBB"],
        signers={"shop": ["db2"]},
    ).trust()
    assert (trust.name, trust.own_key) == ("db1", "ssh-ed25519 AAAA")
    assert (trust.allowed_signers, trust.revoked_keys) == ("db1 ssh-ed25519 AAAA\n", "ssh-ed25519 BBBB\n")
    assert trust.signers == {"shop": ("db2",)}


def test_a_bucket() -> None:
    assert of_module("backup_info", bucket="backups").store() == base.S3Settings(bucket="backups")
    assert of_module(
        "backup_info",
        bucket="backups",
        endpoint="s3.example.com",
        region="eu-1",
        access_key_id="id",
        secret_access_key="secret",
        session_token="token",
        ca_bundle="/etc/ca.pem",
        addressing_style="path",
        checksums="when_required",
    ).store() == base.S3Settings(
        bucket="backups",
        endpoint="s3.example.com",
        region="eu-1",
        access_key_id="id",
        secret_access_key=Secret("secret"),
        session_token=Secret("token"),
        ca_bundle="/etc/ca.pem",
        addressing_style="path",
        checksums="when_required",
    )


def test_empty_texts_of_a_bucket_are_not_given() -> None:
    """Variables of an inventory are often empty rather than undefined."""
    empty = dict.fromkeys(("endpoint", "region", "access_key_id", "secret_access_key", "ca_bundle"), "")
    assert of_module("backup_info", bucket="backups", **empty).store() == base.S3Settings(bucket="backups")


def test_a_directory() -> None:
    found = of_module("backup_info", directory="/var/backups", endpoint="s3.example.com").store()
    assert found == base.DirectorySettings(path="/var/backups")


def test_neither_a_bucket_nor_a_directory() -> None:
    with pytest.raises(errors.ConfigurationError, match="nothing says where backups are stored"):
        of_module("backup_info").store()


def test_an_option_that_is_not_valid_is_named() -> None:
    with pytest.raises(errors.ConfigurationError, match=r"keep_replaced is not a number of hours"):
        of_module("s3_manifest_restore", keep_replaced=-1)


def test_options_override_the_configuration(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "db.env").write_text("DB_PORT='5433'\nDB_HOST='/run/a'\nDB_BACKUP_JOB='3'\n")
    warnings: list[str] = []
    monkeypatch.setattr(AnsibleModule, "warn", lambda _module, text, **_options: warnings.append(text))
    assert of_module("pg_cluster_info", config=str(tmp_path)).connection().port == 5433
    found = of_module("pg_cluster_info", config=str(tmp_path), login_port=5434).connection()
    assert (found.host, found.port) == ("/run/a", 5434)
    assert f"{tmp_path}/db.env: DB_BACKUP_JOB is not a setting; did you mean DB_BACKUP_JOBS?" in warnings


def listed(*entries: t.Mapping[str, t.Any], private: bool = True, **params: t.Any) -> Databases:
    """The list that a module has with some options."""
    module = made(BOOTSTRAP, databases=list(entries), **params)
    return _ansible.databases(module, _ansible.profile(module, "pg_db_bootstrap"), private=private)


def test_the_list_is_validated_with_real_keys() -> None:
    assert listed(ENTRY).named("app").identity == Secret(str(IDENTITY))
    with pytest.raises(InvalidDatabases, match="must not be present here"):
        listed(ENTRY, private=False)
    with pytest.raises(InvalidDatabases, match="doesn't belong"):
        listed({**ENTRY, "backup_age_private_key": str(pyrage.x25519.Identity.generate())})


def test_every_error_of_the_list_is_reported_though_ansible_would_stop_at_the_first() -> None:
    with pytest.raises(InvalidDatabases, match="has 4 errors"):
        listed({"user": "x"}, {**ENTRY, "password": ""})


def test_the_list_must_not_name_the_maintenance_database_of_the_connection() -> None:
    with pytest.raises(InvalidDatabases, match="maintenance database"):
        listed(ENTRY, maintenance_db="app")


def test_what_is_valid_but_odd_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    warnings: list[str] = []
    monkeypatch.setattr(AnsibleModule, "warn", lambda _module, text, **_options: warnings.append(text))
    listed({**ENTRY, "restore_dump_path": "db/app/"})
    assert "entry 1 (app): restore_dump_path is ignored because restore_latest is true" in warnings


def test_the_list_of_the_configuration_is_used_where_none_is_given(tmp_path: pathlib.Path) -> None:
    public = {name: value for name, value in ENTRY.items() if name != "backup_age_private_key"}
    (tmp_path / "db.env").write_text(envfile.render({"DATABASES_JSON": json.dumps([public])}))
    module = made(BOOTSTRAP, config=str(tmp_path))
    found = _ansible.databases(module, _ansible.profile(module, "pg_db_bootstrap"), private=True)
    assert [one.name for one in found.entries] == ["app"]


def test_a_list_or_a_configuration_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    message = ended(capsys, lambda: made(BOOTSTRAP))["msg"]
    assert "one of the following is required: databases, config" in message


# Results ------------------------------------------------------------------------------------------------------------

MODULE = _ansible.ArgumentSpec(_ansible.DATABASES)


def test_a_result_ends_the_module(capsys: pytest.CaptureFixture[str]) -> None:
    module = made(MODULE, databases=[ENTRY])
    result = ended(capsys, lambda: _ansible.run(module, lambda _module: {"changed": True, "outstanding": ["app"]}))
    assert (result["changed"], result["outstanding"]) == (True, ["app"])
    assert "failed" not in result


@pytest.mark.parametrize("foreign", FOREIGN.values(), ids=FOREIGN)
def test_warnings_and_messages_hold_nothing_that_a_terminal_obeys(
    foreign: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ansible escapes only some of it."""
    warned: list[str] = []
    monkeypatch.setattr(AnsibleModule, "warn", lambda _module, text, **_options: warned.append(text))

    def work(module: AnsibleModule) -> dict[str, t.Any]:
        module.warn(f"now {foreign}")
        outcomes = (
            outcome.Outcome("app", "restored", {"source": foreign, "warnings": [foreign]}),
            outcome.Outcome("wiki", outcome.FAILED, error=errors.StoreError(foreign)),
        )
        return _ansible.summed_up(outcome.Summary(outcomes, (f"run {foreign}",)), "restored")

    result = ended(capsys, lambda: _ansible.run(made(MODULE, databases=[ENTRY]), work))
    assert not commanding(result["databases"][0]["source"])
    shown = [result["msg"], *result["databases"][0]["warnings"], *result["databases"][1]["error"].values()]
    assert [text.partition(" ")[0] for text in warned if text.startswith(("now ", "run "))] == ["now", "run"]
    shown += warned
    assert not any(obeyed(text) or "\n" in text for text in shown)


@pytest.mark.parametrize("foreign", [*FOREIGN.values(), *UNENCODABLE.values()], ids=[*FOREIGN, *UNENCODABLE])
@pytest.mark.parametrize("failed", [False, True])
def test_results_hold_nothing_that_a_terminal_obeys(
    capsys: pytest.CaptureFixture[str], foreign: str, failed: bool
) -> None:
    def work(_module: AnsibleModule) -> dict[str, t.Any]:
        shown = outcome.Outcome(
            "app", "restored", {"key": foreign, "missing_roles": [foreign], "signed_by": {"h": foreign}}
        )
        error = errors.NotFound(foreign, cause=foreign, hint=foreign)
        outcomes = (shown, outcome.Outcome("app", outcome.FAILED, error=error)) if failed else (shown,)
        result = _ansible.summed_up(outcome.Summary(outcomes, (foreign,)), "restored")
        return {**result, "diff": [{"before": f"{foreign}\n", "after_header": foreign}]}

    result = ended(capsys, lambda: _ansible.run(made(MODULE, databases=[ENTRY]), work))
    # As a callback of Ansible prints it.
    text = json.dumps(result, ensure_ascii=False)
    assert not commanding(text)
    text.encode("utf-8")
    assert result.get("failed", False) is failed and result["diff"][0]["before"].endswith("\n")


def test_an_error_of_the_engine_is_told_whole(capsys: pytest.CaptureFixture[str]) -> None:
    def work(_module: AnsibleModule) -> dict[str, t.Any]:
        raise errors.AccessDenied("PUT was refused", cause="403", hint="check the credentials")

    result = ended(capsys, lambda: _ansible.run(made(MODULE, databases=[ENTRY]), work))
    assert result["failed"] is True
    assert result["msg"] == "store: PUT was refused; cause: 403; hint: check the credentials"
    assert result["error"] == {
        "type": "AccessDenied",
        "phase": "store",
        "message": "PUT was refused",
        "cause": "403",
        "hint": "check the credentials",
    }


@pytest.mark.parametrize("tracebacks", [False, True])
def test_the_text_of_a_foreign_exception_is_never_shown(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tracebacks: bool
) -> None:
    monkeypatch.setattr(_traceback, "_is_traceback_enabled", lambda _event: tracebacks)
    canary = "canary in a foreign text"

    def foreign(_module: AnsibleModule) -> dict[str, t.Any]:
        raise KeyError(canary)

    def chained(_module: AnsibleModule) -> dict[str, t.Any]:
        try:
            raise KeyError(canary)
        except KeyError as exc:
            raise errors.StoreError("no") from exc

    for work in (foreign, chained):
        module = made(MODULE, databases=[ENTRY])
        with pytest.raises(SystemExit):
            _ansible.run(module, work)
        out, err = capsys.readouterr()
        assert canary not in out + err
        assert json.loads(out)["failed"] is True
        if work is foreign:
            assert "unexpected KeyError in foreign, line " in json.loads(out)["msg"]


def test_secrets_of_the_list_are_masked_wherever_they_turn_up(capsys: pytest.CaptureFixture[str]) -> None:
    def work(_module: AnsibleModule) -> dict[str, t.Any]:
        return {"changed": False, "leak": f"the password is {PASSWORD} and the key {IDENTITY}"}

    with pytest.raises(SystemExit):
        _ansible.run(made(MODULE, databases=[ENTRY]), work)
    out = capsys.readouterr().out
    assert PASSWORD not in out
    assert str(IDENTITY) not in out
    assert "the password is ********" in out


def test_outcomes_are_summed_up() -> None:
    done = outcome.Outcome("app", "backed_up", {"size": 1})
    assert _ansible.summed_up(outcome.Summary((done,)), "backed_up", "skipped") == {
        "changed": True,
        "databases": [{"database": "app", "status": "backed_up", "size": 1}],
        "summary": "backed_up=1 skipped=0 failed=0",
    }
    skipped = outcome.Summary((outcome.Outcome("app", "skipped"),))
    assert _ansible.summed_up(skipped, "backed_up", "skipped")["changed"] is False


def test_a_failed_database_fails_the_module_and_the_others_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    summary = outcome.Summary(
        (
            outcome.Outcome("app", "backed_up"),
            outcome.Outcome("b", outcome.FAILED, error=errors.LockHeld("busy", hint="wait")),
        )
    )

    def work(_module: AnsibleModule) -> dict[str, t.Any]:
        return _ansible.summed_up(summary, "backed_up")

    result = ended(capsys, lambda: _ansible.run(made(MODULE, databases=[ENTRY]), work))
    assert result["failed"] is True
    assert result["changed"] is True
    assert result["msg"] == "1 of 2 databases failed: b: lock: busy; hint: wait"
    assert result["summary"] == "backed_up=1 failed=1 (b)"
    assert [one["database"] for one in result["databases"]] == ["app", "b"]
    assert result["databases"][1]["error"]["type"] == "LockHeld"
