# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plain dump of a backup as a file, for another machine: what other people's programs make of it."""

from __future__ import annotations

import hashlib
import json
import pathlib
import subprocess
import tempfile
import typing as t

import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine import outcome
from ansible_collections.infrazero.database.plugins.module_utils._engine.backup import backup
from ansible_collections.infrazero.database.plugins.module_utils._engine.backup.plan import BackupOptions
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.databases import Database
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.restoring import RestoreOptions
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.trust import UNSIGNED, Trust
from ansible_collections.infrazero.database.plugins.module_utils._engine.errors import (
    ChecksumMismatch,
    DamagedObject,
    EngineError,
    ForeignFormat,
    IdentityMissing,
    WrongIdentity,
)
from ansible_collections.infrazero.database.plugins.module_utils._engine.reporting import Silent
from ansible_collections.infrazero.database.plugins.module_utils._engine.restore import to_file
from ansible_collections.infrazero.database.plugins.module_utils._engine.restore.choose import choose
from ansible_collections.infrazero.database.plugins.module_utils._engine.restore.plan import Request
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.connection import (
    ConnectionSettings,
)
from ansible_collections.infrazero.database.plugins.module_utils._engine.stores.base import Store
from ansible_collections.infrazero.database.plugins.module_utils._engine.streams import age

from tests.support import scene
from tests.support.cluster import Cluster
from tests.support.dumps import dump

#: A server that is not there: a file needs none.
NOWHERE = ConnectionSettings(host="/nowhere", port=1)


@pytest.fixture
def folder() -> t.Iterator[pathlib.Path]:
    with tempfile.TemporaryDirectory(dir="/tmp") as path:
        yield pathlib.Path(path)


@pytest.fixture
def app(cluster: Cluster, store: Store) -> Database:
    """A database with a backup."""
    entry = scene.entry("app")
    scene.make(cluster, entry)
    scene.fill(cluster, entry)
    cluster.psql("ALTER DATABASE app SET work_mem = '7MB'")
    summary = backup.back_up_all([entry], settings=cluster.settings, store=store, options=BackupOptions())
    assert not summary.failed
    return entry


def write(
    store: Store, entry: Database, path: pathlib.Path, *, source: str = "db/app/", key: Database | None = None
) -> outcome.Outcome:
    options = RestoreOptions(trust=Trust(mode=UNSIGNED))
    choice = choose(store, source, database=entry, trust=options.trust)
    identities = tuple(age.parse_identities([(key or entry).identity]))
    return to_file.write(Request(entry, choice, options, identities), str(path), settings=NOWHERE, reporter=Silent())


def test_psql_restores_the_file(cluster: Cluster, store: Store, app: Database, folder: pathlib.Path) -> None:
    before = scene.rows(cluster, app)
    details = write(store, app, folder / "app.sql").details

    data = (folder / "app.sql").read_bytes()
    assert (folder / "app.sql").stat().st_mode & 0o777 == 0o600
    assert (details["file_size"], details["file_sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
    manifest = json.loads(store.get("db/app/latest-dump.json", limit=1 << 20))
    counted = [table["rows"] for table in manifest["postgresql"]["tables"]]
    assert details["verified"] and (details["tables"], details["rows"]) == (len(counted), sum(counted))
    cluster.psql("DROP DATABASE app; CREATE DATABASE app TEMPLATE template0")
    cluster.psql(data.decode(), "app")  # psql, stopping at the first error
    assert scene.rows(cluster, app) == before
    assert cluster.psql("SHOW work_mem", "app") == "7MB", "settings of the database are in the file"


def test_an_archive_is_written_as_it_is(cluster: Cluster, store: Store, app: Database, folder: pathlib.Path) -> None:
    archive = dump(cluster, "app", "--format=custom")
    store.put("db/app/old.dump", archive)
    details = write(store, app, folder / "app.dump", source="db/app/old.dump").details
    assert (folder / "app.dump").read_bytes() == archive
    assert (details["is_text"], details["rows"], details["verified"]) == (False, None, False)
    listed = subprocess.run(
        [cluster.bindir / "pg_restore", "--list", folder / "app.dump"], capture_output=True, text=True, check=True
    )
    assert "TABLE DATA" in listed.stdout


def test_nothing_is_left_of_what_is_not_whole(
    store: Store, app: Database, folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    path = folder / "app.sql"

    def refused(kind: type[EngineError], **more: t.Any) -> EngineError:
        with pytest.raises(kind) as caught:
            write(store, app, path, **more)
        assert list(folder.iterdir()) == []
        return caught.value

    refused(WrongIdentity, key=scene.entry("other"))
    for text in (b"CREATE TABLE t (a int);\nCOPY t (a) FROM stdin;\n1\n", b"--\n-- PostgreSQL database dump\n--\n\n"):
        store.put("db/app/cut.sql", text)
        refused(DamagedObject, source="db/app/cut.sql")
        (tmp_path / "db/app/cut.sql").unlink()
    store.put("db/app/xz", b"\xfd7zXZ\x00 and so on")
    assert "xz" in str(refused(ForeignFormat, source="db/app/xz"))
    (key,) = [one.key for one in store.list("db/app/") if one.key.endswith(".age")]
    whole = (tmp_path / key).read_bytes()
    for damaged in (whole[:-100], whole[:-1] + bytes([whole[-1] ^ 1])):
        (tmp_path / key).write_bytes(damaged)
        refused(DamagedObject)
    (tmp_path / key).write_bytes(whole)
    latest = tmp_path / "db/app/latest-dump.json"
    honest = latest.read_text()
    for name in ("rows", "digest"):
        manifest = json.loads(honest)
        table = manifest["postgresql"]["tables"][0]
        table[name] = table["rows"] + 1 if name == "rows" else "0" * 64
        latest.write_text(json.dumps(manifest))
        assert "are not those that its manifest" in str(refused(ChecksumMismatch, source="db/app/latest-dump.json"))
    latest.write_text(honest)
    assert write(store, app, path).details["verified"]


def test_without_a_key_nothing_is_written(store: Store, app: Database, folder: pathlib.Path) -> None:
    options = RestoreOptions(trust=Trust(mode=UNSIGNED))
    request = Request(app, choose(store, "db/app/", database=app, trust=options.trust), options)
    with pytest.raises(IdentityMissing):
        to_file.write(request, str(folder / "app.sql"), settings=NOWHERE, reporter=Silent())
    assert list(folder.iterdir()) == []
