# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import datetime
import pathlib

import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.databases import Database
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.manifest import Manifest
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.restoring import RestoreOptions
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.secret import Secret
from ansible_collections.infrazero.database.plugins.module_utils._engine.errors import RestoreRefused
from ansible_collections.infrazero.database.plugins.module_utils._engine.restore.choose import Choice
from ansible_collections.infrazero.database.plugins.module_utils._engine.restore.plan import Request, plan_restore
from ansible_collections.infrazero.database.plugins.module_utils._engine.stores.base import DirectorySettings
from ansible_collections.infrazero.database.plugins.module_utils._engine.stores.catalogue import Found
from ansible_collections.infrazero.database.plugins.module_utils._engine.stores.registry import open_store

MOMENT = datetime.datetime(2026, 1, 31, tzinfo=datetime.timezone.utc)


class Session:
    """A source of which only the kind is ever looked at."""

    kind = "postgresql"


@pytest.mark.parametrize(
    ("source", "kind", "cause"),
    [("vault", "dump", "a dump of vault, not a dump of postgresql"), ("postgresql", "base_backup", "a base_backup of")],
)
def test_what_is_not_a_dump_of_this_kind_of_source_is_refused(
    tmp_path: pathlib.Path, source: str, kind: str, cause: str
) -> None:
    store = open_store(DirectorySettings(path=str(tmp_path)))
    said = Manifest("db/shop/x.age", "0" * 64, MOMENT, schema_version=2, source=source, kind=kind)
    found = Found(store, "db/shop/latest-dump.json", said, b"")
    request = Request(
        Database("shop", "shop", Secret("x"), ()), Choice(store, said.key, found, said.sha256), RestoreOptions()
    )
    with pytest.raises(RestoreRefused) as caught:
        plan_restore(request, session=Session())
    assert cause in caught.value.cause and "update" in caught.value.hint
