# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import copy
import dataclasses
import json
import pickle
import traceback

import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.secret import Secret

TEXT = "correct horse battery staple"


def test_reveal_is_the_one_way_to_the_text() -> None:
    assert Secret(TEXT).reveal() == TEXT


@pytest.mark.parametrize(
    "shown",
    [
        pytest.param(str, id="str"),
        pytest.param(repr, id="repr"),
        pytest.param(ascii, id="ascii"),
        pytest.param("{}".format, id="format"),
        pytest.param(lambda secret: f"{secret!r} {secret}", id="f-string"),
        pytest.param(lambda secret: repr({"password": [secret]}), id="container"),
    ],
)
def test_no_way_of_printing_shows_it(shown) -> None:
    text = shown(Secret(TEXT))
    assert "***" in text
    assert TEXT not in text


@pytest.mark.parametrize(
    "export", [json.dumps, pickle.dumps, copy.copy, copy.deepcopy, "{:>40}".format, vars], ids=lambda f: f.__name__
)
def test_every_accidental_way_out_is_a_type_error_without_the_text(export) -> None:
    with pytest.raises(TypeError) as caught:
        export(Secret(TEXT))
    assert TEXT not in "".join(traceback.format_exception(caught.type, caught.value, caught.tb))


def test_a_dataclass_that_holds_one_is_not_turned_into_plain_data() -> None:
    @dataclasses.dataclass(frozen=True)
    class Holder:
        password: Secret

    holder = Holder(Secret(TEXT))
    assert TEXT not in repr(holder)
    with pytest.raises(TypeError):
        dataclasses.asdict(holder)


def test_equality_is_by_contents_and_only_among_secrets() -> None:
    assert Secret(TEXT) == Secret(TEXT)
    assert hash(Secret(TEXT)) == hash(Secret(TEXT))
    assert Secret(TEXT) != Secret("other")
    assert Secret(TEXT) != TEXT


def test_an_empty_secret_is_false() -> None:
    assert not Secret("")
    assert Secret(" ")
