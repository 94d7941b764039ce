# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import base64
import json
import typing as t

import pyrage
import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.infrazero.database.plugins.filter import databases as filters
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.secret import Secret
from ansible_collections.infrazero.database.plugins.module_utils._engine.streams import age
from ansible_collections.infrazero.database.plugins.plugin_utils import validation

IDENTITY = str(pyrage.x25519.Identity.generate())
RECIPIENT = age.public_of(Secret(IDENTITY))
PASSWORD = "canary-of-a-password"


def entry(**changes: t.Any) -> dict[str, t.Any]:
    return {
        "name": "app",
        "user": "app",
        "password": PASSWORD,
        "backup_age_public_key": RECIPIENT,
        "backup_age_private_key": IDENTITY,
        **changes,
    }


@pytest.fixture
def no_pyrage(monkeypatch: pytest.MonkeyPatch) -> None:
    """A controller without the library."""
    monkeypatch.setattr(validation, "pyrage", None)
    monkeypatch.setattr(age, "pyrage", None)


def test_views() -> None:
    text = json.dumps([entry()])
    without = {field: value for field, value in entry().items() if field != "backup_age_private_key"}
    assert filters.public([entry()]) == filters.public(text) == [without]
    assert filters.private([entry()]) == filters.private(base64.b64encode(text.encode()).decode()) == [entry()]
    assert filters.validated([entry()]) == filters.validated(text) == [entry()]


def test_prefixes_are_those_of_the_entries() -> None:
    items = [entry(), entry(name="b", backup_prefix="team/b/"), entry(name="c", backup_prefix=None)]
    assert filters.backup_prefixes(json.dumps(items)) == ["db/app/", "team/b/", "db/c/"]
    with pytest.raises(AnsibleFilterError, match=r"backup_prefixes: .*does not end with"):
        filters.backup_prefixes([entry(backup_prefix="team")])


def test_a_valid_list_comes_out_as_it_went_in() -> None:
    items = [entry(restore_latest=None, backup_age_public_key=[RECIPIENT]), entry(name="b", restore_dump_path="")]
    assert filters.validated(items) == items


def test_every_fault_is_told_and_no_secret() -> None:
    broken = [
        entry(name="a/b", backup_age_private_key=str(pyrage.x25519.Identity.generate())),
        entry(backup_age_public_key="age1mistyped"),
        entry(backup_age_public_key=IDENTITY),
    ]
    with pytest.raises(AnsibleFilterError) as caught:
        filters.validated(broken)
    text = str(caught.value)
    assert text.startswith("infrazero.database.validated: configuration: infrazero_databases has ")
    for part in (
        "entry 1 (a/b), name: contains '/'",
        "entry 1 (a/b), backup_age_private_key: doesn't belong",
        "entry 2 (app), backup_age_public_key: is malformed",
        "entry 3 (app), name: 'app' is already the name of entry 2",
        "entry 3 (app), backup_age_public_key: contains a private key",
    ):
        assert part in text
    assert PASSWORD not in text
    assert "AGE-SECRET-KEY" not in text


def test_errors_call_the_list_as_the_caller_does() -> None:
    with pytest.raises(AnsibleFilterError, match="validated: configuration: DATABASES_JSON_PRIVATE_B64 has 1 error: "):
        filters.validated("not base64", name="DATABASES_JSON_PRIVATE_B64")


def test_a_list_in_base64_is_validated_as_it_came() -> None:
    text = base64.b64encode(json.dumps([entry(pasword="")]).encode()).decode()
    with pytest.raises(AnsibleFilterError, match=r"entry 1 \(app\): pasword is not an option; did you mean password\?"):
        filters.validated(text)
    assert filters.validated(base64.b64encode(json.dumps([entry()]).encode()).decode()) == [entry()]


def test_unknown_fields_are_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    monkeypatch.setattr(filters.display, "warning", shown.append)
    assert filters.validated([entry(owner_team="web")]) == [entry()]
    assert shown == ["entry 1 (app): unknown fields are ignored: 'owner_team'"]


def test_a_list_for_a_host_has_no_private_key() -> None:
    with pytest.raises(AnsibleFilterError, match="backup_age_private_key: must not be present here"):
        filters.validated([entry()], private=False)
    assert filters.validated(filters.public([entry()]), private=False)


def test_the_maintenance_database_can_be_named() -> None:
    with pytest.raises(AnsibleFilterError, match="maintenance database"):
        filters.validated([entry()], maintenance_db="app")


@pytest.mark.parametrize("function", [filters.public, filters.private, filters.validated])
@pytest.mark.parametrize("value", [None, 7, "", "text", {}, [], [1], "[1]"])
def test_what_is_no_list_is_an_error_of_the_filter(function: t.Callable[[object], object], value: object) -> None:
    with pytest.raises(AnsibleFilterError, match=rf"infrazero\.database\.{function.__name__}: "):
        function(value)


@pytest.mark.usefixtures("no_pyrage")
def test_without_pyrage_keys_are_left_to_the_host_but_every_other_rule_holds() -> None:
    assert filters.validated([entry(backup_age_public_key="age1mistyped")])
    with pytest.raises(AnsibleFilterError, match=r"has 2 errors: .*is empty.*contains a private key"):
        filters.validated([entry(password="", backup_age_public_key=IDENTITY)])
