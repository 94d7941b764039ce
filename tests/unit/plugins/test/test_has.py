# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The test ``has``, as templates use it."""

from __future__ import annotations

import typing as t

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.infrazero.database.plugins.modules import host_info
from ansible_collections.infrazero.database.plugins.test import has as plugin

SALT = "a salt"
has = plugin.has


def answer(*paths: object, salt: str | None = SALT) -> dict[str, t.Any]:
    return {"paths": {str(path): host_info.path_facts(str(path), salt=salt, text=False) for path in paths}}


def test_a_file_with_its_contents(tmp_path) -> None:
    file = tmp_path / "file"
    file.write_text("ü\n", encoding="utf-8")
    file.chmod(0o640)
    host = answer(file)
    assert has(host, str(file), type="file", mode="0640", content="ü\n", salt=SALT)
    assert not has(host, str(file), content="ü", salt=SALT)
    assert not has(host, str(file), content="ü\n", salt="another")
    assert not has(host, str(file), mode="0644", content="ü\n", salt=SALT)
    assert not has(host, str(file), type="directory")
    # It was asked without a salt.
    assert not has(answer(file, salt=None), str(file), content="ü\n", salt=SALT)


def test_a_link_and_where_it_leads(tmp_path) -> None:
    link = tmp_path / "lib"
    link.symlink_to("engines/1")
    assert has(answer(link), str(link), type="link", target="engines/1")
    assert not has(answer(link), str(link), type="link", target="engines/2")


def test_what_is_absent(tmp_path) -> None:
    none = tmp_path / "none"
    assert has(answer(none), str(none), exists=False)
    assert not has(answer(none), str(none))
    assert not has(answer(tmp_path), str(tmp_path), exists=False)


@pytest.mark.parametrize("exists", [True, False])
@pytest.mark.parametrize("host", [{}, {"paths": {}}, {"paths": None}, {"paths": {"/x": {"exists": None}}}])
def test_what_is_unknown_is_never_as_wanted(host: dict[str, t.Any], exists: bool) -> None:
    assert not has(host, "/x", exists=exists)


def test_wrong_usage_is_an_error() -> None:
    with pytest.raises(AnsibleFilterError, match="has: mod is not an option"):
        has({}, "/x", mod="0644")
    with pytest.raises(AnsibleFilterError, match="content needs the salt"):
        has({}, "/x", content="x")


def test_it_is_found_by_its_name() -> None:
    assert plugin.TestModule().tests() == {"has": has}
