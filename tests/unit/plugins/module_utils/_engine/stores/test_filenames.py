# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of files for keys: readable where they can be, safe always, and never two keys for one file."""

from __future__ import annotations

import itertools

import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine.stores import filenames
from hypothesis import example, given
from hypothesis import strategies as st

# What the rules are about, much more often than chance would have it.
PIECES = st.sampled_from(
    ["a", ".", "/", "%", "%.", "%+", "%2E", "%00", "\x00", "\n", "..", "é", "\U0001f418", "x" * 240]
)
KEYS = st.one_of(
    st.lists(PIECES, min_size=1, max_size=12).map("".join),
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=80),
).filter(lambda key: 0 < len(key.encode()) <= 1024)


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("db/app/20260101T000000Z.sql.gz.age", "db/app/20260101T000000Z.sql.gz.age"),
        ("db/app/latest-dump.json", "db/app/latest-dump.json"),
        ("infisical/bootstrap/latest-tokens.json", "infisical/bootstrap/latest-tokens.json"),
        ("db/my.app/x.sql", "db/my%2Eapp/x.sql"),
        ('db/my app\'s "best"/x.sql', 'db/my app\'s "best"/x.sql'),
        ("a", "a%."),
        ("a/b", "a/b%."),
        ("..", "%2E."),
        ("../x.sql", "%2E%2E/x.sql"),
        (".hidden", "%2Ehidden%."),
        (".tmp-0123456789abcdef", "%2Etmp-0123456789abcdef%."),
        ("100%.sql", "100%25.sql"),
        ("a//b.sql", "a/%/b.sql"),
        ("/", "%/%."),
        ("a\nb\x00.sql", "a%0Ab%00.sql"),
        ("x" * 240 + ".sql", "x" * 240 + "%+/%2Esql%."),
    ],
)
def test_paths(key: str, path: str) -> None:
    assert filenames.path_of(key) == path
    assert filenames.key_of(path) == key


@given(KEYS)
@example("x" * 1024)
@example("." * 1024)
@example("/" * 1024)
@example("é" * 512)
@example("%" * 1024)
def test_a_path_is_safe_and_leads_back(key: str) -> None:
    path = filenames.path_of(key)
    assert filenames.key_of(path) == key
    assert len(path.encode()) < 3900
    for part in path.split("/"):
        assert part
        assert not part.startswith(".")
        assert len(part.encode()) <= 255
        assert part.isprintable() or not any(ord(letter) < 32 or ord(letter) == 127 for letter in part)


@given(KEYS, KEYS)
def test_no_object_is_in_the_way_of_another(one: str, other: str) -> None:
    if one != other:
        path = filenames.path_of(one)
        assert path != filenames.path_of(other)
        assert not filenames.path_of(other).startswith(path + "/")


@given(KEYS, st.integers(min_value=0, max_value=1024))
def test_the_folder_of_a_prefix_holds_its_objects(key: str, length: int) -> None:
    folder = filenames.folder_of(key[:length])
    assert not folder or filenames.path_of(key).startswith(folder + "/")


def test_short_keys_without_exception() -> None:
    """All keys of up to five of the letters that the rules are about."""
    paths: dict[str, str] = {}
    for length in range(1, 6):
        for letters in itertools.product("a./%", repeat=length):
            key = "".join(letters)
            path = filenames.path_of(key)
            assert paths.setdefault(path, key) == key
            assert filenames.key_of(path) == key
    folders = {path[:end] for path in paths for end, letter in enumerate(path) if letter == "/"}
    assert not folders & set(paths)


@pytest.mark.parametrize(
    "path",
    [
        "README",
        "db/app",
        "a%",
        "a%zz.sql",
        "a%2e.sql",
        "db.d/x.sql",
        ".x.sql",
        "db/.tmp-0123456789abcdef",
        "a%41.sql",
        "%",
    ],
)
def test_what_we_would_name_otherwise_is_not_ours(path: str) -> None:
    assert filenames.key_of(path) is None
