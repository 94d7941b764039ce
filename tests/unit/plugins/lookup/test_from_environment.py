# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A secret of the environment of ansible-playbook, or of the file that it names."""

from __future__ import annotations

import pathlib

import pytest

from tests.support.templating import templated

NAME = "DATABASES_JSON_PRIVATE_B64"
TEMPLATE = f"{{{{ lookup('infrazero.database.from_environment', '{NAME}') }}}}"


def test_the_variable_or_its_file(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(NAME, raising=False)
    assert templated([(TEMPLATE, {})]) == [""]
    (tmp_path / "list").write_text("W10=\n")
    monkeypatch.setenv(f"{NAME}_FILE", str(tmp_path / "list"))
    assert templated([(TEMPLATE, {})]) == ["W10="]
    monkeypatch.setenv(f"{NAME}_FILE", "")
    monkeypatch.setenv(NAME, "e30=")
    assert templated([(TEMPLATE, {})]) == ["e30="]


def test_not_both(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NAME, "canary")
    monkeypatch.setenv(f"{NAME}_FILE", str(tmp_path / "none"))
    with pytest.raises(AssertionError) as caught:
        templated([(TEMPLATE, {})])
    assert f"{NAME} and {NAME}_FILE in the environment are both set" in str(caught.value)
    assert "canary" not in str(caught.value)
