# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine, packed for hosts."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import os
import tarfile

from ansible_collections.infrazero.database.plugins.lookup import engine

from conftest import ROOT

ENGINE = ROOT / "plugins" / "module_utils" / "_engine"


def packed() -> dict[str, str]:
    (result,) = engine.LookupModule().run([])
    return result


def members(result: dict[str, str]) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(base64.b64decode(result["content"]))) as archive:
        return {member.name: archive.extractfile(member).read() for member in archive}


def test_holds_the_whole_engine_and_nothing_else() -> None:
    sources = {f"infrazero_engine/{path.relative_to(ENGINE)}": path.read_bytes() for path in ENGINE.rglob("*.py")}
    assert members(packed()) == sources


def test_digest_does_not_depend_on_times_or_modes() -> None:
    before = packed()["digest"]
    path = ENGINE / "__init__.py"
    status = path.stat()
    try:
        os.utime(path, (0, 0))
        path.chmod(0o600)
        assert packed()["digest"] == before
    finally:
        path.chmod(status.st_mode)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_digest_is_that_of_the_archive() -> None:
    result = packed()
    assert hashlib.sha256(gzip.decompress(base64.b64decode(result["content"]))).hexdigest() == result["digest"]
