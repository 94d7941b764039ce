# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What others wrote reaches a person as text, never as a command."""

from __future__ import annotations

import json
import shlex
import subprocess

import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine import printing
from hypothesis import given
from hypothesis import strategies as st

from tests.support.foreign import COMMANDS, FOREIGN, UNENCODABLE, commanding, obeyed

#: Half a surrogate pair, too: a name of a file may hold one.
ANYTHING = st.text(alphabet=st.characters())


@pytest.mark.parametrize("text", FOREIGN.values(), ids=FOREIGN)
def test_nothing_that_a_terminal_obeys_is_left_or_lost(text: str) -> None:
    shown = printing.printable(f"db/shop/{text}")
    assert shown.isprintable() and shown.startswith("db/shop/")
    assert shown.encode("ascii").decode("unicode_escape") == f"db/shop/{text}"


@pytest.mark.parametrize("text", COMMANDS.values(), ids=COMMANDS)
def test_what_can_be_read_stays_as_it_is(text: str) -> None:
    assert printing.printable(text) == text


def test_letters_of_every_script_stay() -> None:
    text = "Größe שלום 数据库 e\u0301 😀"
    assert printing.printable(text) == text == printing.printable_name(text)


@given(ANYTHING)
def test_is_one_line_and_stays_what_it_is(text: str) -> None:
    shown = printing.printable(text)
    assert shown.isprintable()
    assert printing.printable(shown) == shown


@given(ANYTHING, ANYTHING)
def test_no_two_names_look_alike(one: str, other: str) -> None:
    assert (printing.printable_name(one) == printing.printable_name(other)) == (one == other)


def test_an_escape_and_its_text_do_not_look_alike() -> None:
    assert printing.printable_name("db/\x1b") == "db/\\x1b"
    assert printing.printable_name("db/\\x1b") == "db/\\\\x1b"


def test_the_longest_key_is_shown_whole_and_more_is_not() -> None:
    longest = "\\" * printing.MAX_NAME
    assert printing.printable_name(longest) == longest * 2
    assert printing.printable("x" * 10**6, limit=5) == "xxxxx... (999995 more characters)"
    assert len(printing.printable("\x1b" * 10**6)) < 5 * printing.MAX_TEXT


@pytest.mark.parametrize(
    "value", [*(text for text in COMMANDS.values() if text[0] != "-"), "db/shop/", "name with spaces", ""]
)
def test_a_shell_reads_the_word_as_it_was(value: str) -> None:
    word = printing.shell_word(value)
    assert word is not None
    assert shlex.split(word) == [value]
    done = subprocess.run(["sh", "-c", f"printf %s {word}"], capture_output=True, check=True, text=True)
    assert done.stdout == value


@pytest.mark.parametrize("value", FOREIGN.values(), ids=FOREIGN)
def test_no_command_is_suggested_with_what_can_not_be_shown(value: str) -> None:
    assert printing.shell_word(value) is None


@pytest.mark.parametrize("value", ["x" * (printing.MAX_NAME + 1), "--trust=unsigned", "-"])
def test_no_command_is_suggested_with_what_is_cut_or_an_option(value: str) -> None:
    assert printing.shell_word(value) is None


@given(st.dictionaries(ANYTHING, ANYTHING | st.lists(ANYTHING)))
def test_json_is_ascii_and_holds_no_control_character(document: dict[str, object]) -> None:
    text = printing.printable_json(document)
    assert text.isascii() and text.replace("\n", "").isprintable()
    text.encode("utf-8")

    def whole(value: object) -> object:
        """The same without halves of surrogate pairs, which become their escapes."""
        if isinstance(value, str):
            return value.encode("utf-8", "backslashreplace").decode("utf-8")
        return [whole(one) for one in value] if isinstance(value, list) else value

    assert json.loads(text) == {whole(key): whole(value) for key, value in document.items()}


@pytest.mark.parametrize("text", [*FOREIGN.values(), *UNENCODABLE.values()], ids=[*FOREIGN, *UNENCODABLE])
def test_data_command_no_terminal_and_can_be_encoded(text: str) -> None:
    data = {text: [text, (text, 1), {"a": text}], "b": None, "c": True}
    shown = printing.harmless(data)
    text = json.dumps(shown, ensure_ascii=False)
    assert not commanding(text)
    text.encode("utf-8")
    assert list(shown)[1:] == ["b", "c"] and shown["b"] is None and shown["c"] is True
    assert printing.harmless(shown) == shown


HONEST = [
    *("Größe", "データベース", "база", "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "👩\u200d💻"),
    *("a b", "x\ny", "\\x1b"),
]


@pytest.mark.parametrize("name", HONEST)
def test_data_of_honest_people_stay_as_they_are(name: str) -> None:
    assert printing.harmless({name: [name]}) == {name: [name]}


@pytest.mark.parametrize("text", UNENCODABLE.values(), ids=UNENCODABLE)
def test_what_can_not_be_encoded_is_shown_as_its_escape(text: str) -> None:
    for shown in (printing.printable(text), printing.printable_name(text), printing.printable_json([text])):
        shown.encode("utf-8")
        assert not obeyed(shown)
        assert "\\ud" in shown
