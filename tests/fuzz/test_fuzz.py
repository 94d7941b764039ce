# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A short run of every fuzz target, and all inputs that broke something once; `make fuzz` goes on for longer."""

from __future__ import annotations

import base64
import gzip
import pathlib
import signal
import typing as t

import pytest
from ansible_collections.infrazero.database.plugins.module_utils._scrub import Scrubber
from hypothesis import HealthCheck, given, settings

from tests.support.readers import READERS
from tests.support.timing import Text, TooSlow

from . import inputs
from .inputs import CASES, INPUTS, REPEATED, cases, save, slow_cases
from .targets import TARGETS, within_time

#: A child for each file, and a thread for each object: fewer of them.
_EXAMPLES = {"settings": 60, "objects": 60, "databases_json": 150}
_SIZE = 200_000
_HANGS_AFTER_SECONDS = 60


@pytest.mark.parametrize("name", TARGETS)
def test_target(name: str) -> None:
    target = TARGETS[name]

    @settings(
        max_examples=_EXAMPLES.get(name, 300), deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(INPUTS[name])
    def run(data: bytes) -> None:
        target(data)

    run()


@pytest.mark.parametrize(("name", "data"), [(name, data) for name in TARGETS for data in cases(name)])
def test_case(name: str, data: bytes) -> None:
    TARGETS[name](data)


@pytest.mark.parametrize(("name", "text"), [(name, text) for name in READERS for text in slow_cases(name)])
def test_slow_case(name: str, text: Text) -> None:
    within_time(name, text)


@pytest.mark.parametrize("name", READERS)
def test_time_is_within_its_bound(name: str) -> None:
    @settings(max_examples=10, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(REPEATED[name])
    def run(text: Text) -> None:
        within_time(name, text)

    run()


def test_every_reader_has_a_bound() -> None:
    """What is scrubbed are files of this host."""
    assert TARGETS.keys() - READERS.keys() == {"scrubbed"}


def test_a_time_can_be_out_of_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = READERS["json_text"][0]._replace(read=lambda data: [data.count(b"x") for _time in range(len(data) // 8)])
    monkeypatch.setitem(READERS, "json_text", [slow])
    with pytest.raises(TooSlow):
        within_time("json_text", Text(b"", b"x", b""))


@pytest.mark.parametrize("case", [b"it's\n\xff", Text(b"'", b'"', b"# \0")])
def test_what_is_saved_is_a_case(case: bytes | Text, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "CASES", tmp_path)
    save("scanner", case)
    assert [*cases("scanner"), *slow_cases("scanner")] == [case]


def test_every_case_has_a_target() -> None:
    assert {path.stem for path in CASES.iterdir() if path.suffix == ".txt"} <= TARGETS.keys()


def test_a_target_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a fuzzer is for: a reader that breaks its promise is found out."""
    monkeypatch.setattr(Scrubber, "scrub", lambda _scrubber, data: data)
    with pytest.raises(AssertionError):
        TARGETS["scrubbed"](b"")


# Long inputs --------------------------------------------------------------------------------------------------------


def _repeated(*pieces: bytes, end: bytes = b"") -> bytes:
    return b"".join(pieces) * (_SIZE // sum(map(len, pieces))) + end


LONG: dict[str, tuple[str, t.Callable[[], bytes]]] = {
    "spaces after a string that may go on": ("scanner", lambda: b"SELECT E'a'" + _repeated(b" ")),
    "lines after a string that may go on": ("scanner", lambda: b"SELECT E'a'" + _repeated(b"\n")),
    "spaces after COPY": ("scanner", lambda: b"COPY t FROM stdin;" + _repeated(b" ")),
    "open comments": ("scanner", lambda: _repeated(b"/*")),
    "open comments in COPY": ("scanner", lambda: b"COPY " + _repeated(b"/* ")),
    "comments in COPY": ("scanner", lambda: b"COPY " + _repeated(b"/**/") + b";"),
    "line comments": ("scanner", lambda: _repeated(b"--\n")),
    "half of a comment": ("scanner", lambda: _repeated(b"-")),
    "dollars": ("scanner", lambda: _repeated(b"$")),
    "dollar tags": ("scanner", lambda: _repeated(b"$a$ $b$ ")),
    "semicolons": ("scanner", lambda: _repeated(b";")),
    "quotes": ("scanner", lambda: _repeated(b"'")),
    "escapes": ("scanner", lambda: b"SELECT E'" + _repeated(b"\\'")),
    "begin atomic": ("scanner", lambda: b"CREATE FUNCTION " + _repeated(b"begin atomic ") + b";"),
    "begin and white space": ("scanner", lambda: b"CREATE FUNCTION " + _repeated(b"begin", b" " * 900, b"atomic;")),
    "cases": ("scanner", lambda: b"CREATE FUNCTION begin atomic " + _repeated(b"case ") + b";"),
    "a rule's brackets": ("scanner", lambda: b"CREATE RULE " + _repeated(b"(") + b";"),
    "markers that are none": ("scanner", lambda: b"COPY t FROM stdin;\n" + _repeated(b"\\.\r")),
    "names in COPY": ("scanner", lambda: b"COPY " + _repeated(b"a.") + b";"),
    "white space in COPY": ("scanner", lambda: b"COPY a" + _repeated(b" ") + b";"),
    "strings of a statement": ("statements", lambda: b"ALTER TABLE " + _repeated(b"E'")),
    "dollars of a statement": ("statements", lambda: b"ALTER TABLE " + _repeated(b"$a$b$")),
    "comments of a statement": ("statements", lambda: b"GRANT " + _repeated(b"/*")),
    "names of a statement": ("statements", lambda: b"GRANT SELECT ON a TO " + _repeated(b"a,")),
    "tables to inherit from": ("statements", lambda: b"CREATE TABLE t () INHERITS (" + _repeated(b"a,")),
    "references of a foreign key": ("statements", lambda: b"ALTER TABLE public.a ADD FOREIGN KEY " + _repeated(b"(a")),
    "columns of a trigger": ("statements", lambda: b"CREATE TRIGGER t AFTER UPDATE OF " + _repeated(b"a, ")),
    "brackets of a statement": ("statements", lambda: b"ALTER FUNCTION a" + _repeated(b"(")),
    "deep JSON": ("json_text", lambda: _repeated(b"[")),
    "a long number": ("manifests", lambda: b'{"schema_version":' + _repeated(b"9") + b"}"),
    "spaces in a signature": ("signatures", lambda: b"-----BEGIN SSH SIGNATURE-----\n" + _repeated(b" ")),
    "beginnings of a signature": ("signatures", lambda: _repeated(b"-----BEGIN SSH SIGNATURE-----\nA")),
    "spaces in a settings file": ("settings", lambda: b"A=" + _repeated(b" ") + b"x"),
    "pieces of a value": ("settings", lambda: b"A=" + _repeated(b"'a'") + b'"'),
    "a long key": ("locations", lambda: _repeated(b"a/")),
    "a long name of a file": ("file_names", lambda: _repeated(b"%+/")),
    "base64 that is none": ("scrubbed", lambda: _repeated(b"A" * 41, b" ")),
    "base64 in lines": ("scrubbed", lambda: _repeated(b"A" * 76, b"\n")),
    "text in XML": ("scrubbed", lambda: _repeated(b">" + b"A" * 41)),
    "XML text that doesn't end": ("scrubbed", lambda: b">" + _repeated(b"A ")),
    "references in XML": ("scrubbed", lambda: _repeated(b">" + b"&#65;" * 41)),
    "assignments": ("scrubbed", lambda: _repeated(b"NAME='", b"a\n")),
}


class Hangs(BaseException):
    """Not an error that anything would catch."""


def _give_up(_number: int, _frame: object) -> t.NoReturn:
    raise Hangs


@pytest.mark.parametrize("which", LONG)
def test_long_inputs_come_to_an_end(which: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes a time that grows with the square of the length would take hours for these."""
    name, data = LONG[which]
    # In pieces as a pipe gives them, not byte by byte, which is slow by itself.
    monkeypatch.setattr("tests.fuzz.targets.CUTS", (65_536,))
    before = signal.signal(signal.SIGALRM, _give_up)
    signal.alarm(_HANGS_AFTER_SECONDS)
    try:
        TARGETS[name](data())
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("layers", range(5))
def test_layers_are_scrubbed(layers: int) -> None:
    """A private key goes, in whatever layers a first boot has packed it."""
    key = b"AGE-SECRET-KEY-1" + b"Q" * 58
    data = b"export OTHER='" + key + b"'\n"
    for layer in range(layers):
        data = gzip.compress(data) if layer % 2 else base64.b64encode(data)
    scrubbed = Scrubber(["NAME"], []).scrub(data)
    for layer in reversed(range(layers)):
        scrubbed = gzip.decompress(scrubbed) if layer % 2 else base64.b64decode(scrubbed)
    assert scrubbed == b"export OTHER=''\n"
