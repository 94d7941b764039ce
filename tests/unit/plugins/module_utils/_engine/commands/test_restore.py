# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import typing as t

import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine.commands import restore

from tests.support.foreign import FOREIGN, UNENCODABLE, obeyed

FACTS: dict[str, t.Any] = {
    "source": "s3://backups/db/shop/20260131T032000Z.sql.gz.age",
    "created_at": "2026-01-31T03:20:00Z",
    "age_seconds": 7200,
    "signed_by": {"name": "db1", "key": "SHA256:abc"},
    "tables": 12,
    "rows": 1_200_345,
    "size": 104_857_600,
    "reads": 1,
    "backup_server_version": "15.18",
    "replaces": {"owner": "shop", "size": 7_680_000, "sessions": 2, "empty": False},
    "as": None,
    "only_tables": [],
    "strategy": "swap",
    "space": {
        "needed": 9_000_000,
        "wal": 0,
        "estimated_from": "the size of the database when it was backed up",
        "available": 12_000_000_000,
    },
    "kept": [],
    "keep_replaced": 24.0,
    "in_place": False,
    "refusal": None,
}


def test_a_plan_is_told_in_words() -> None:
    assert restore.described(FACTS).splitlines() == [
        "plan of the restore",
        "  backup:    s3://backups/db/shop/20260131T032000Z.sql.gz.age, created 2026-01-31T03:20:00Z, 2 h ago",
        "  signed by: db1, key SHA256:abc",
        "  contents:  12 tables, 1,200,345 rows, of PostgreSQL 15.18, 100.0 MiB, read once",
        "  replaces:  a database of shop with 7.3 MiB and 2 sessions, which is kept for 24 h",
        "  space:     about 8.6 MiB needed (the size of the database when it was backed up), 11.2 GiB available",
    ]


def test_what_is_unknown_is_said() -> None:
    unknown = {
        **FACTS,
        "age_seconds": None,
        "signed_by": None,
        "tables": None,
        "rows": None,
        "reads": 2,
        "backup_server_version": None,
        "replaces": None,
        "space": {**FACTS["space"], "needed": None, "available": None},
    }
    assert restore.described(unknown).splitlines()[1:] == [
        "  backup:    s3://backups/db/shop/20260131T032000Z.sql.gz.age, of an unknown time",
        "  signed by: nobody whose backups are accepted here",
        "  contents:  100.0 MiB, read twice",
        "  replaces:  nothing: there is no such database",
        "  space:     need unknown, an unknown amount available",
    ]


def test_what_is_needed_for_wal_is_named() -> None:
    facts = {**FACTS, "space": {**FACTS["space"], "wal": 1 << 20}}
    assert "was backed up, with 1.0 MiB of WAL), 11.2 GiB available" in restore.described(facts)


def test_what_would_keep_it_from_beginning_is_in_the_plan() -> None:
    kept = [{"name": "shop__replaced_1", "size": 1 << 30}]
    facts = {**FACTS, "kept": kept, "refusal": "restore: no room"}
    *_rest, kept_line, refused = restore.described(facts).splitlines()
    assert kept_line == "  kept:      shop__replaced_1 (1.0 GiB): replaced before, and not dropped yet"
    assert refused == "  refused:   restore: no room"


def test_a_copy_is_told_from_the_database() -> None:
    copy = restore.described({**FACTS, "as": "shop_before", "strategy": "replace"}).splitlines()
    assert copy[0] == "plan of the restore beside it, as shop_before"
    assert copy[4] == "  replaces:  an earlier copy of shop with 7.3 MiB and 2 sessions"
    replaced = restore.described({**FACTS, "strategy": "replace"})
    assert "2 sessions, which is dropped first" in replaced
    in_place = restore.described({**FACTS, "in_place": True, "keep_replaced": 0.0})
    assert "2 sessions, whose contents are replaced in place and not kept" in in_place
    assert "2 sessions, which is not kept" in restore.described({**FACTS, "keep_replaced": 0.0})


@pytest.mark.parametrize("foreign", [*FOREIGN.values(), *UNENCODABLE.values()], ids=[*FOREIGN, *UNENCODABLE])
def test_what_others_wrote_is_shown_and_not_obeyed(foreign: str) -> None:
    """Keys of the store, names of hosts and roles, versions in a manifest: all of it comes from others."""
    facts = {
        **FACTS,
        "source": foreign,
        "signed_by": {"name": foreign, "key": foreign},
        "backup_server_version": foreign,
        "replaces": {**FACTS["replaces"], "owner": foreign},
        "kept": [{"name": foreign, "size": 1}],
        "only_tables": [foreign],
        "refusal": foreign,
    }
    shown = restore.described(facts)
    assert not obeyed(shown) and len(shown.splitlines()) == 9
