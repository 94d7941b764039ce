# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""No text makes a reader take a time that grows faster than the text.

The measurements run in a process of their own with a limit of CPU time, so that a pattern of exponential time fails and
does not hang.  Each text is measured at two lengths in that one process, and the times are compared with each other.
"""

from __future__ import annotations

import json
import re
import resource
import subprocess
import sys
import tracemalloc

import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.dumptext import (
    scanner as dumptext_scanner,
)
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.dumptext import (
    selection,
    statements,
)

from conftest import ROOT
from tests.support.hostiletexts import GENERIC, HOSTILE
from tests.support.readers import READERS
from tests.support.timing import Text, TooSlow, require_linear

_CPU_SECONDS = 240


def measure() -> None:
    """Print a line of JSON for each text when its measurement begins, and its fault when it ends."""
    for name, texts in HOSTILE.items():
        for what, text in texts.items():
            for number, reader in enumerate(READERS[name]):
                _report(f"{name}: {what}", number, text, reader.size)
    for name, texts in GENERIC.items():
        for text in texts.values():
            _report(f"{name}: fragments", 0, text, READERS[name][0].size // 2)


def _report(key: str, number: int, text: Text, size: int) -> None:
    reader = READERS[key.partition(":")[0]][number]
    print(json.dumps([key, None]), flush=True)
    try:
        require_linear(reader.read, text, size=size, plain=reader.plain)
    except TooSlow as exc:
        print(json.dumps([key, f"reader {number}: {exc}"]), flush=True)


@pytest.fixture(scope="module")
def faults() -> dict[str, list[str]]:
    """The faults by what was measured; what the limit of CPU time ended is one, too."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_CPU, (_CPU_SECONDS, _CPU_SECONDS))

    program = f"import conftest, runpy; runpy.run_path({__file__!r})['measure']()"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, check=False, preexec_fn=limit
    )
    found: dict[str, list[str]] = {}
    last = ""
    for line in done.stdout.decode().splitlines():
        last, fault = json.loads(line)
        found.setdefault(last, []).extend([fault] if fault else [])
    if done.returncode:
        found.setdefault(last, []).append(f"ended with the status {done.returncode}")
    return found


@pytest.mark.parametrize(
    "key",
    [
        *(f"{name}: {what}" for name, texts in HOSTILE.items() for what in texts),
        *(f"{name}: fragments" for name in GENERIC),
    ],
)
def test_time_grows_with_the_length_only(key: str, faults: dict[str, list[str]]) -> None:
    assert faults.get(key, ["was not measured"]) == []


@pytest.mark.parametrize(
    "read",
    [
        lambda data: [data.count(b"a") for _time in range(len(data))],
        re.compile(rb"(?:a|a?a)+b").match,
        lambda data: [data.find(b"b", at) for at in range(len(data)) for _time in range(1000 * data.count(b"a", 0, 1))],
    ],
    ids=["quadratic", "exponential", "out of proportion"],
)
def test_a_slow_reader_is_found(read) -> None:
    with pytest.raises(TooSlow):
        require_linear(read, Text(b"", b"a", b""), size=8_192, plain=Text(b"", b"\n" * 7, b"b"))


def test_time_for_mapped_roles_grows_with_their_number_only() -> None:
    def rewrite(data: bytes) -> None:
        roles = [statements.RoleName("a", at, at + 1) for at in range(len(data)) if data[at : at + 1] == b"a"]
        statements.rewrite_roles(dumptext_scanner.Statement(data), roles, {"a": "b"})

    require_linear(rewrite, Text(b"GRANT b TO ", b"a,", b"c"), size=1 << 19, plain=Text(b"", b"a" + b" " * 63, b""))


def test_a_linear_reader_is_let_through() -> None:
    require_linear(bytes.upper, Text(b"", b"a", b""), size=1 << 20, plain=Text(b"", b"b", b""))


_SIZE = 60_000


@pytest.mark.parametrize(
    "text",
    [
        b'COPY "' + b"a" * _SIZE + b'" FROM stdin;\n\\.\n',
        b'COPY t ("' + b'""' * (_SIZE // 2) + b'") FROM stdin;\n\\.\n',
        b"CREATE /*" + b"a" * _SIZE + b"*/ TABLE t();",
        b"CREATE " + b"--\n" * (_SIZE // 3) + b" TABLE t();",
        b"SELECT E'a'" + b"--\n" * (_SIZE // 3) + b";",
        b'ALTER TABLE "' + b"a" * _SIZE + b'" OWNER TO b;',
        b"ALTER TABLE '" + b"''" * (_SIZE // 2) + b"';",
        b"ALTER TABLE E'" + b"\\'" * (_SIZE // 2) + b"';",
        b"ALTER TABLE t " + b"+-" * (_SIZE // 2) + b";",
        b"ALTER TABLE t " + b"," * _SIZE + b";",
        b"ALTER TABLE t ALTER a ADD GENERATED " + b"," * _SIZE + b";",
        b"CREATE TABLE t () INHERITS (" + b"a," * (_SIZE // 2) + b"a);",
        b"CREATE RULE t AS ON " + b"+ " * (_SIZE // 2) + b";",
    ],
    ids=lambda text: text[:16].decode(),
)
def test_memory_is_in_proportion_to_the_statement(text: bytes) -> None:
    """Python's re takes 100 bytes and more for each repetition of a group."""
    scanner = dumptext_scanner.Scanner()
    tracemalloc.start()
    try:
        for at in range(0, len(text), 1_024):
            for event in scanner.feed(text[at : at + 1_024]):
                if isinstance(event, dumptext_scanner.Statement):
                    statements.classify(event)
                    selection.Selection(["public.a"]).takes(event, encoding="utf-8")
        _now, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 20 * len(text)


def test_nothing_of_a_comment_between_statements_is_held() -> None:
    scanner = dumptext_scanner.Scanner()
    chunk = b" " * 65_536
    tracemalloc.start()
    try:
        list(scanner.feed(b"/*"))
        for _time in range(100):
            list(scanner.feed(chunk))
        _now, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 4 * len(chunk)
