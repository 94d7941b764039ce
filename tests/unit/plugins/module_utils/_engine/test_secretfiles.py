# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets in files: what is read, what is refused, and that nothing of a secret is shown."""

from __future__ import annotations

import os
import pathlib

import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine import secretfiles
from ansible_collections.infrazero.database.plugins.module_utils._engine.errors import ConfigurationError

CANARY = "canary-of-a-secret"
IDENTITY = f"# created: today\nAGE-SECRET-KEY-1{CANARY}\n"


def written(path: pathlib.Path, data: bytes) -> pathlib.Path:
    path.write_bytes(data)
    path.chmod(0o600)
    return path


@pytest.mark.parametrize(
    ("data", "text"),
    [(b"x", "x"), (b"x\n", "x"), (b"x\r\n\n", "x"), (b" x \n", " x "), ("ü'\"\ny\n".encode(), "ü'\"\ny")],
)
def test_line_breaks_at_the_end_are_removed_and_nothing_else(tmp_path: pathlib.Path, data: bytes, text: str) -> None:
    assert secretfiles.read(written(tmp_path / "file", data), named="X_FILE") == (text, False)


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (b"", "it is empty"),
        (b" \n", "it is empty"),
        (f"{CANARY}\0".encode(), "it contains NUL"),
        (CANARY.encode() + b"\xff", "it is not UTF-8"),
        (CANARY.encode() * (secretfiles.MOST // len(CANARY) + 1), "it is too large"),
    ],
)
def test_what_is_not_a_secret_is_refused_and_not_shown(tmp_path: pathlib.Path, data: bytes, cause: str) -> None:
    path = written(tmp_path / "file", data)
    with pytest.raises(ConfigurationError) as caught:
        secretfiles.read(path, named="X_FILE in db.env")
    assert f"the file that X_FILE in db.env names, {path}, can't be read; cause: {cause}" in str(caught.value)
    assert CANARY not in str(caught.value)


def test_a_secret_in_place_of_a_path_is_not_shown(tmp_path: pathlib.Path) -> None:
    for path in (CANARY, f"/{CANARY}/x", f"{CANARY}\0", CANARY * 1000):
        with pytest.raises(ConfigurationError, match="that X_FILE names can't be read") as caught:
            secretfiles.read(path, named="X_FILE")
        assert CANARY not in str(caught.value) and CANARY not in repr(caught.value.as_dict())
    with pytest.raises(ConfigurationError, match="Is a directory"):
        secretfiles.read(tmp_path, named="X_FILE")


@pytest.mark.parametrize(
    ("text", "mode", "exposed"),
    [(IDENTITY, 0o644, True), (IDENTITY, 0o640, False), (CANARY, 0o644, False)],
)
def test_a_private_key_that_everyone_can_read_is_reported(
    tmp_path: pathlib.Path, text: str, mode: int, exposed: bool
) -> None:
    path = written(tmp_path / "file", text.encode())
    path.chmod(mode)
    found, warnings = secretfiles.resolve({"X_FILE": "file"}, ["X"], directory=tmp_path, named="{}")
    assert found["X"] == text.rstrip("\n")
    assert [f"{path} holds a private key and can be read by every user: set its mode to 0600"] * exposed == warnings


def test_a_pipe_can_be_read(tmp_path: pathlib.Path) -> None:
    reader, writer = os.pipe()
    os.write(writer, IDENTITY.encode())
    os.close(writer)
    found, warnings = secretfiles.resolve({"X_FILE": f"/dev/fd/{reader}"}, ["X"], directory=tmp_path, named="{}")
    os.close(reader)
    assert found["X"] == IDENTITY.rstrip() and warnings == []


def test_a_secret_and_its_file_are_not_both_given(tmp_path: pathlib.Path) -> None:
    written(tmp_path / "file", b"x")
    given = {"X": CANARY, "X_FILE": str(tmp_path / "file")}
    with pytest.raises(ConfigurationError, match=r"X and X_FILE in db\.env are both set") as caught:
        secretfiles.resolve(given, ["X"], directory=tmp_path, named="{} in db.env")
    assert CANARY not in str(caught.value)
    # As role runtime writes what is not set.
    assert secretfiles.resolve({**given, "X": ""}, ["X"], directory=tmp_path, named="{}")[0]["X"] == "x"
    assert secretfiles.resolve({**given, "X_FILE": " "}, ["X"], directory=tmp_path, named="{}")[0]["X"] == CANARY


def test_only_secrets_are_read_from_files(tmp_path: pathlib.Path) -> None:
    given = {"Y": "y", "Y_FILE": str(tmp_path / "none")}
    assert secretfiles.resolve(given, ["X"], directory=tmp_path, named="{}") == (given, [])
