# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import pathlib
import shutil
import subprocess

import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine import errors
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain import envfile
from hypothesis import given, settings
from hypothesis import strategies as st

KEYS = st.from_regex(r"[A-Z_][A-Z0-9_]{0,20}", fullmatch=True).map("T_".__add__)
#: Everything but NUL, which no shell holds, and halves of surrogate pairs, which no file of UTF-8 holds.
VALUES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
NASTY = st.text("aB1 '\"\\$`#;&|<>()~!{}[]*?\n\r\t\x0b=%:-é", max_size=12)


def sourced(path: pathlib.Path, keys: list[str]) -> dict[str, str]:
    """What bash makes of the file."""
    script = '. "$1" || exit 9; shift; for key; do printf "%s\\0" "${!key}"; done'
    done = subprocess.run(
        [shutil.which("bash") or "bash", "--norc", "-c", script, "bash", str(path), *keys],
        capture_output=True,
        check=True,
        env={"LC_ALL": "C.UTF-8", "HOME": "/nowhere", "PATH": os.defpath},
    )
    assert done.stderr == b""
    return dict(zip(keys, done.stdout.decode("utf-8").split("\0")))


def write(path: pathlib.Path, text: str) -> pathlib.Path:
    path.write_bytes(text.encode("utf-8"))
    return path


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return tmp_path_factory.mktemp("envfile") / "db.env"


def test_the_form_is_that_of_the_contract() -> None:
    assert envfile.render({"A": "1", "B": "it's"}) == "A='1'\nB='it'\\''s'\n"


@given(st.dictionaries(KEYS, VALUES | NASTY, max_size=6))
def test_what_is_written_is_read_back_in_its_order(values: dict[str, str]) -> None:
    parsed = envfile.parse(envfile.render(values), name="db.env")
    assert list(parsed.items()) == list(values.items())


@settings(max_examples=40)
@given(values=st.dictionaries(KEYS, VALUES | NASTY, min_size=1, max_size=30))
def test_a_shell_reads_what_is_written(file: pathlib.Path, values: dict[str, str]) -> None:
    assert sourced(write(file, envfile.render(values)), list(values)) == values


@settings(max_examples=150)
@given(
    value=NASTY
    | st.lists(
        st.sampled_from(["'a b'", '"a b"', "\\'", '"\\$x"', '"\\n\\\n"', "\\\n", "\\ ", "~", "a#b", "=", "'\n'", '"'])
        | st.text("ab'\"\\ \n", max_size=3),
        max_size=5,
    ).map("".join)
)
def test_whatever_is_accepted_means_the_same_to_a_shell(file: pathlib.Path, value: str) -> None:
    text = f"T_A={value}\nT_B='end'\n"
    try:
        parsed = envfile.parse(text, name="db.env")
    except errors.ConfigurationError:
        return
    assert sourced(write(file, text), list(parsed)) == parsed


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("", {}),
        ("\n\n# only a comment\n  # and another", {}),
        ("A=1", {"A": "1"}),
        ("A=", {"A": ""}),
        ("A=\n\nB=2\n", {"A": "", "B": "2"}),
        ("export A='x'\n\texport  B=y # note\n", {"A": "x", "B": "y"}),
        ("A='1'\nA='2'\n", {"A": "2"}),
        ("A='two\nlines'\nB=1", {"A": "two\nlines", "B": "1"}),
        ('A="say \\"hi\\" \\$x \\\\ \\`"', {"A": 'say "hi" $x \\ `'}),
        ("A='a'\"b\"c\\ d", {"A": "abc d"}),
        ("A=one\\\ntwo", {"A": "onetwo"}),
        ('A="one\\\ntwo"', {"A": "onetwo"}),
        ('A="\\n"', {"A": "\\n"}),
        ("A=https://s3.example.com:9000/x?y=z", {"A": "https://s3.example.com:9000/x?y=z"}),
        ("A={a,b}*[x]", {"A": "{a,b}*[x]"}),
    ],
)
def test_forms_written_by_hand_are_read_as_a_shell_does(file: pathlib.Path, text: str, values: dict[str, str]) -> None:
    assert envfile.parse(text, name="db.env") == values
    assert sourced(write(file, text), list(values)) == values


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("A='1'\nnot an assignment", 2),
        ("A B=1", 1),
        ("1A=x", 1),
        ("A =x", 1),
        ("A+=x", 1),
        ("'A'=x", 1),
        ("\x0bA=x", 1),
        ("A='open", 1),
        ('\n\nA="open', 3),
        ("A=$HOME", 1),
        ('A="$HOME"', 1),
        ("A=$(id)", 1),
        ("A=`id`", 1),
        ("A=$'x'", 1),
        ("A=~/backup", 1),
        ("A=x;id", 1),
        ("A=x&", 1),
        ("A=(a b)", 1),
        ("A=a|b", 1),
        ("A=a>b", 1),
        ("A=x y", 1),
        ("A='x' id", 1),
        ("A=x\\", 1),
        ("A='x'\r\nB='y'\r\n", 1),
        ("A=a\0b", 1),
        ("B=1\nA='a\0b'", 2),
    ],
)
def test_what_a_shell_would_expand_run_or_refuse_is_refused_with_its_line(text: str, line: int) -> None:
    with pytest.raises(errors.ConfigurationError, match=rf"db\.env, line {line}: ") as caught:
        envfile.parse(text, name="db.env")
    assert caught.value.hint


@given(VALUES, NASTY.filter(lambda text: "'" not in text))
def test_errors_do_not_repeat_the_contents(secret: str, rest: str) -> None:
    canary = "s3cr3t-canary"
    even = secret.replace("'", "")
    with pytest.raises(errors.ConfigurationError) as caught:
        envfile.parse(f"A='{canary}{even}\nB={canary}{rest}", name="db.env")
    assert canary not in str(caught.value)


@given(st.text(alphabet=st.characters()))
def test_any_text_is_read_or_refused_clearly(text: str) -> None:
    try:
        values = envfile.parse(text, name="db.env")
    except errors.ConfigurationError:
        return
    assert envfile.parse(envfile.render(values), name="db.env") == values


def test_a_nul_is_not_written_because_a_shell_would_drop_it() -> None:
    with pytest.raises(errors.ConfigurationError, match="A contains a NUL character"):
        envfile.render({"A": "a\0b"})


def test_a_very_long_value_is_read(file: pathlib.Path) -> None:
    values = {"DATABASES_JSON": "[" + '{"password": "it\'s"},' * 20_000 + "]", "LAST": "x"}
    assert envfile.parse(envfile.render(values), name="db.env") == values
