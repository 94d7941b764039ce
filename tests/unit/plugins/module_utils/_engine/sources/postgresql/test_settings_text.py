# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A database's settings as text for psql, and those its rows are loaded under."""

from __future__ import annotations

import json
import re

import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine.errors import DumpSyntax
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql import settings_text
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.database_settings import (
    Creation,
    DatabaseSettings,
    Parameter,
    Privilege,
)
from hypothesis import given
from hypothesis import strategies as st


def settings(*parameters: Parameter, comment: str | None = None) -> DatabaseSettings:
    return DatabaseSettings(
        owner="app",
        creation=Creation(),
        privileges=frozenset({Privilege("app", "app", "CONNECT", False), Privilege("app", None, "CONNECT", False)}),
        parameters=parameters,
        security_labels=frozenset(),
        comment=comment,
        connection_limit=-1,
        allow_connections=True,
        is_template=False,
    )


def as_read(**changes: object) -> dict[str, object]:
    """The plain data of valid settings, as a reader of a preamble gets them, with *changes*."""
    whole = settings(Parameter("app", "search_path", "a, b"), Parameter(None, "x.y", "1"), comment="ours")
    return {**json.loads(json.dumps(whole.as_dict())), **changes}


def test_settings_are_read_back() -> None:
    whole = settings(Parameter("app", "search_path", "a, b"), Parameter(None, "x.y", "1"), comment="ours")
    assert settings_text.of_backup(as_read()) == whole


@pytest.mark.parametrize(
    "changes",
    [
        {"owner": None},
        {"owner": 1},
        {"comment": ["x"]},
        {"comment": "x\0"},
        {"unknown": 1},
        {"creation": None},
        {"creation": {"unknown": "x"}},
        {"connection_limit": "7; DROP ROLE app"},
        {"connection_limit": True},
        {"is_template": "yes"},
        {"allow_connections": None},
        {"security_labels": [["x"]]},
        {"security_labels": [["x", None]]},
        {"security_labels": [[None, "x"]]},
        {"parameters": {"a": 1}},
        {"parameters": [{"role": None, "name": "x"}]},
        {"parameters": [{"role": None, "name": "x", "value": 1}]},
        {"parameters": [{"role": 5, "name": "x", "value": "1"}]},
        {"parameters": [{"role": None, "name": "search_path", "value": '"open'}]},
        {"privileges": [{"grantor": "app", "grantee": None, "privilege": "CONNECT", "grantable": 1}]},
        {"privileges": [{"grantor": None, "grantee": None, "privilege": "CONNECT", "grantable": True}]},
        # What is granted is a keyword in a statement of a superuser.
        {
            "privileges": [
                {"grantor": "app", "grantee": None, "privilege": "CREATE ON DATABASE a TO b;--", "grantable": True}
            ]
        },
    ],
)
def test_settings_that_no_backup_writes_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(DumpSyntax, match="settings in the preamble"):
        settings_text.of_backup(as_read(**changes))


def facts(text: str) -> dict[str, list[list[object]]]:
    found: dict[str, list[list[object]]] = json.loads(re.search(r"json := '(.*)';", text)[1])  # type: ignore[index]
    return found


@given(st.text())
def test_no_value_ends_the_text_around_it(value: str) -> None:
    text = settings_text.for_psql(settings(Parameter(None, "app.x", value), comment=value))
    assert text.isascii()
    assert text.count("$infrazero$") == 2 and text.count("'") == settings_text.for_psql(settings()).count("'")
    assert ["COMMENT ON DATABASE %1$I IS %2$L", [value]] in facts(text)["statements"]


def test_a_list_of_names_is_given_name_by_name() -> None:
    text = settings_text.for_psql(settings(Parameter("web", "search_path", '"Books", public')))
    assert [
        "ALTER ROLE %5$I IN DATABASE %1$I SET %2$I TO %3$L, %4$L",
        ["search_path", "Books", "public", "web"],
    ] in facts(text)["statements"]


def test_rows_are_loaded_under_the_settings_of_the_database_but_for_those_of_the_text() -> None:
    found = settings_text.for_rows(
        settings(
            Parameter(None, "TimeZone", "Asia/Tokyo"),
            Parameter(None, "shop.tenant", "7"),
            Parameter(None, "default_transaction_read_only", "on"),
            Parameter(None, "DateStyle", "SQL, DMY"),
            Parameter(None, "array_nulls", "off"),
            Parameter(None, "lc_monetary", "es_CL.UTF-8"),
            Parameter("app", "shop.tenant", "8"),
        )
    )
    assert found == (("TimeZone", "Asia/Tokyo"), ("shop.tenant", "7"), ("array_nulls", "on"), ("lc_monetary", "C"))


def test_a_backup_without_settings_may_hold_money_of_any_locale() -> None:
    assert settings_text.for_rows(None) == (("array_nulls", "on"),)


def test_refreshes_have_the_locale_of_the_database() -> None:
    found = settings_text.for_refreshes(settings(Parameter(None, "lc_monetary", "es_CL.UTF-8")))
    assert found == (("lc_monetary", "es_CL.UTF-8"),)
