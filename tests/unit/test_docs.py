# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the documentation names exists: tests that show a promise or hold a format, paths, and targets of links."""

from __future__ import annotations

import ast
import functools
import pathlib
import re
import typing as t

import pytest

from conftest import ROOT

TESTS = ROOT / "tests"
ATTACK_TREE = ROOT / "docs" / "attack-tree.md"
SECURITY = ROOT / "docs" / "security.md"
DESIGN = ROOT / "docs" / "design.md"
ENGINE = ROOT / "plugins" / "module_utils" / "_engine"
FORMATS = sorted((ROOT / "docs" / "formats").glob("*.md"))
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/*.md", "docs/formats/*.md", "roles/*/README.md")
    for path in ROOT.glob(pattern)
    if path.name != "CHANGELOG.md"
)

#: Code in the text that may be a test: ``integration/test_x.py``, ``test_x.py``, either with ``::test_y``, or
#: ``test_y`` alone, which is one of the files in the same row.
_FILE = re.compile(r"(?:tests/)?((?:[\w]+/)*\w+\.py)(?:::(\w+))?\Z")
_TEST = re.compile(r"test_\w+\Z")
_CODE = re.compile(r"`([^`]+)`")
_FENCED = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\]\(([^()\s]+)\)")
_HEADING = re.compile(r"^#+ +(.+?) *$", re.MULTILINE)


@functools.cache
def defined(path: pathlib.Path) -> frozenset[str]:
    """Names of the functions in a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)))


def found(name: str) -> list[pathlib.Path]:
    """The files that *name* means: a path below tests/, or the name of a file anywhere in there."""
    path = TESTS / name
    return [path] if path.is_file() else [] if "/" in name else sorted(TESTS.rglob(name))


def is_of_the_tests(name: str) -> bool:
    """Whether a name of a file is meant to be one of the tests': the engine's are named, too."""
    folder, _slash, base = name.rpartition("/")
    return base.startswith("test_") or (bool(folder) and (TESTS / folder.partition("/")[0]).is_dir())


def missing(text: str) -> t.Iterator[str]:
    """The tests that a row, or a paragraph, names and that do not exist."""
    files: list[pathlib.Path] = []
    for code in _CODE.findall(text):
        match = _FILE.match(code)
        if match and is_of_the_tests(match[1]):
            paths = found(match[1])
            files += paths
            if len(paths) != 1 or (match[2] and match[2] not in defined(paths[0])):
                yield code
        elif _TEST.match(code) and not any(code in defined(path) for path in files or TESTS.rglob("test_*.py")):
            yield code


def rows(path: pathlib.Path) -> list[str]:
    """The rows of a document's tables."""
    return [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("|")]


def test_every_test_of_the_attack_tree_exists() -> None:
    text = ATTACK_TREE.read_text(encoding="utf-8")
    assert list(missing(text)) == []
    assert text.count("::test_") > 30


def test_every_test_of_the_tables_of_promises_exists() -> None:
    found_missing = [name for row in rows(SECURITY) for name in missing(row)]
    assert found_missing == []
    assert sum("test_" in row for row in rows(SECURITY)) > 20


@pytest.mark.parametrize(
    "text",
    [
        "`integration/test_trust.py`",
        "`test_unproven.py` has it: `test_nothing_of_a_forged_object_is_executed`",
        "`tests/unit/test_docs.py::test_what_is_named_is_looked_for`",
        "`fuzz/targets.py`: `manifests`",
        "`unit/test_docs.py`, `unit/test_structure.py`: `test_finds_the_engine`, `test_what_is_named_is_looked_for`",
        "`test_finds_the_engine`",
        "by `printing.py` and `/etc/infrazero/db.env`",
    ],
)
def test_what_is_named_is_looked_for(text: str) -> None:
    assert list(missing(text)) == []


@pytest.mark.parametrize(
    "text",
    [
        "`integration/test_no_such.py`",
        "`test_no_such.py`",
        "`fuzz/no_such.py`",
        "`integration/test_trust.py::test_no_such`",
        "`integration/test_trust.py`: `test_finds_the_engine`",
        "`test_no_such`",
        "`__init__.py`, `unit/../test_trust.py`, `test_no_such`",
    ],
)
def test_what_is_not_there_is_told(text: str) -> None:
    assert len(list(missing(text))) == 1


def test_no_test_of_the_attack_tree_is_still_to_be_named() -> None:
    """Red until each marker ``TEST:topic`` has become the name of the test that shows it."""
    assert re.findall(r"TEST:[\w-]+", ATTACK_TREE.read_text(encoding="utf-8")) == []


def prose(path: pathlib.Path) -> str:
    """A page without its blocks of code, in which a bracket is no link and a comment no heading."""
    return _FENCED.sub("", path.read_text(encoding="utf-8"))


def anchor(heading: str) -> str:
    """What GitHub calls a heading in links to it."""
    text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading)
    return re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")


def dead_links(page: pathlib.Path, text: str) -> t.Iterator[str]:
    """The links in *text* that lead to no file, or to no heading of one, as seen from *page*."""
    for target in _LINK.findall(text):
        if re.match(r"[a-z]+:", target):
            continue
        name, _mark, heading = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        if not path.exists() or (heading and heading not in map(anchor, _HEADING.findall(prose(path)))):
            yield target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: pathlib.Path) -> None:
    assert list(dead_links(page, prose(page))) == []


def test_there_are_links_to_follow() -> None:
    assert sum(len(_LINK.findall(prose(page))) for page in PAGES) > 80


@pytest.mark.parametrize(
    ("text", "dead"),
    [
        ("[a](design.md), [b](formats/), [c](../README.md), [d](https://example.com/x)", []),
        ("[a](signing.md#whose-backups-are-accepted), [b](formats/server.md#pg_hbaconf)", []),
        ("[a](no-such.md)", ["no-such.md"]),
        ("[a](signing.md#no-such-heading)", ["signing.md#no-such-heading"]),
        ("[a](#promises), [b](#no-such-heading)", ["#no-such-heading"]),
    ],
)
def test_a_dead_link_is_found(text: str, dead: list[str]) -> None:
    assert list(dead_links(SECURITY, text)) == dead


@pytest.mark.parametrize("page", [page for page in FORMATS if page.name != "README.md"], ids=lambda page: page.stem)
def test_every_format_is_held_by_tests_that_exist(page: pathlib.Path) -> None:
    held = [row for row in rows(page) if row.startswith("| held by |")]
    assert len(held) == 1
    assert "test_" in held[0] or "fuzz/" in held[0]
    assert list(missing(held[0])) == []


def test_the_index_has_every_format() -> None:
    index = (ROOT / "docs" / "formats" / "README.md").read_text(encoding="utf-8")
    assert [page.name for page in FORMATS if page.name != "README.md" and f"({page.name})" not in index] == []


def absent_paths(text: str) -> t.Iterator[str]:
    """Paths in *text*, from the root or from the engine's, that do not exist."""
    for code in _CODE.findall(text):
        if ("/" in code or code.endswith(".py")) and re.fullmatch(r"[\w./-]+", code):
            name = pathlib.PurePath(code)
            roots = (ROOT, ENGINE, TESTS)
            if not any((root / name).exists() for root in roots) and not found(code):
                yield code


def test_every_path_of_the_design_exists() -> None:
    text = prose(DESIGN)
    assert list(absent_paths(text)) == []
    assert list(missing(text)) == []
    assert text.count(".py`") > 15


@pytest.mark.parametrize(
    ("text", "absent"),
    [
        (
            "`domain/layout.py`, `roles/server/`, `integration/test_stores.py`, `test_stores.py`, `make generate`, `x`",
            [],
        ),
        ("`domain/no_such.py` and `no-such/`", ["domain/no_such.py", "no-such/"]),
    ],
)
def test_an_absent_path_is_found(text: str, absent: list[str]) -> None:
    assert list(absent_paths(text)) == absent


def texts(path: pathlib.Path) -> set[str]:
    """The texts in a file's code, with ``...`` where a value is put in."""
    nodes = [*ast.walk(ast.parse(path.read_text(encoding="utf-8")))]
    return {
        "".join(str(part.value) if isinstance(part, ast.Constant) else "..." for part in node.values)
        for node in nodes
        if isinstance(node, ast.JoinedStr)
    } | {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def test_every_refusal_is_a_message_of_the_role() -> None:
    page = (ROOT / "docs" / "server.md").read_text(encoding="utf-8").partition("\n## What is refused")[2]
    table = [line for line in page.partition("\n## ")[0].splitlines() if line.startswith("| `")]
    plans = ROOT / "plugins" / "plugin_utils"
    messages = [text for name in ("server.py", "volume.py") for text in texts(plans / name)]
    quoted = [code for line in table for code in _CODE.findall(line.split("|")[1])]
    assert len(quoted) > 8
    assert [code for code in quoted if not any(code in message for message in messages)] == []
