# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Extensions that a test writes itself: a server finds them only in a directory that all of its clusters share."""

from __future__ import annotations

import contextlib
import os
import pathlib
import typing as t
import uuid

import pytest


class OwnExtensions:
    """Writes extensions whose names nobody else uses, and removes them at the end."""

    def __init__(self, major: int) -> None:
        self._directory = pathlib.Path(f"/usr/share/postgresql/{major}/extension")
        if not os.access(self._directory, os.W_OK):
            pytest.skip(f"{self._directory} is not writable here: run as root")
        self._prefix = f"infrazero_test_{uuid.uuid4().hex[:8]}"
        self._written: list[pathlib.Path] = []

    def write(self, name: str, script: str, **control: object) -> str:
        """Write an extension with *script* and the parameters *control*; return its whole name."""
        whole = f"{self._prefix}_{name}"
        lines = [f"{key} = {value}" for key, value in {"default_version": "'1'", **control}.items()]
        for path, text in ((f"{whole}.control", "\n".join(lines) + "\n"), (f"{whole}--1.sql", script)):
            self._written.append(self._directory / path)
            self._written[-1].write_text(text, encoding="utf-8")
        return whole

    def remove(self) -> None:
        """Remove all of them."""
        for path in self._written:
            path.unlink()


@contextlib.contextmanager
def own_extensions(major: int) -> t.Iterator[OwnExtensions]:
    """Own extensions of a test, for the server *major*."""
    own = OwnExtensions(major)
    try:
        yield own
    finally:
        own.remove()
