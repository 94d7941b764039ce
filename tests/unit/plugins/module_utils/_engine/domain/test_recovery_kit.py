# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The texts of a recovery kit.  The integration tests follow its steps."""

from __future__ import annotations

import datetime
import json
import pathlib
import subprocess
import typing as t

import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain import recovery_kit
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.databases import Database
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.recovery_kit import Facts
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.secret import Secret
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.subjects import ClusterGlobals, Subject
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.trust import Trust

NOW = datetime.datetime(2026, 12, 1, 4, tzinfo=datetime.timezone.utc)
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKJ5JkeKYsVg62+0PbeC9XAGpi1aM6D1EswV0xhaIIL/"
STRANGE = "a\"b'c;$(id)\x1b[2J\u202e`"


def entry(name: str, **changes: t.Any) -> Database:
    return Database(name, f"{name}_user", Secret("s3cret of it"), ("age1own", "age1escrow"), **changes)


def files(*subjects: Subject, trust: Trust | None = None, **changes: t.Any) -> dict[str, str]:
    values: dict[str, t.Any] = {
        "subjects": subjects,
        "trust": trust or Trust(),
        "location": "bucket backups",
        "endpoint": None,
        "created_at": NOW,
        "versions": {"infrazero.database": "0.2.0"},
        "identities": False,
        **changes,
    }
    return recovery_kit.files(Facts(**values))


def test_what_is_in_a_kit() -> None:
    trust = Trust(
        name="db1", own_key=KEY, allowed_signers="db2 ssh-ed25519 AAAA", signers={"shop": ("db2",)}, revoked_keys="x\n"
    )
    made = files(entry("shop", backup_signers=("db3",)), ClusterGlobals("cluster/db1/", ("age1c",)), trust=trust)
    shop, cluster = json.loads(made["databases.json"])
    assert shop == {
        "name": "shop",
        "user": "shop_user",
        "prefix": "db/shop/",
        "recipients": ["age1own", "age1escrow"],
        "signers": ["db1", "db3", "db2"],
        "proof": "proofs/1-shop.age",
    }
    assert (cluster["user"], cluster["prefix"], cluster["proof"]) == (None, "cluster/db1/globals/", "proofs/2.age")
    assert "THE ROLES OF THE CLUSTER" in made["README.txt"] and "-r revoked_keys" in made["README.txt"]
    assert made["revoked_keys"] == "x\n"
    # The host's own key, which it needs no line for itself.
    assert made["allowed_signers"].splitlines()[1] == f'db1 namespaces="manifest@infrazero.database" {KEY}'
    assert not any("s3cret" in text for text in made.values())


def test_a_controller_without_a_key_signs_nothing() -> None:
    made = files(entry("shop"), trust=Trust(name="office", once=("guest",)))
    assert json.loads(made["databases.json"])[0]["signers"] == []
    assert "revoked_keys" not in made and "THE ROLES" not in made["README.txt"]


def test_names_are_shown_and_obeyed_by_nothing() -> None:
    made = files(entry(STRANGE), endpoint="https://x/\x1b")
    readme = made["README.txt"]
    assert "\x1b" not in readme and "\u202e" not in readme and "database='NAME'" in readme
    assert json.loads(made["databases.json"])[0]["name"] == STRANGE and made["databases.json"].isascii()
    assert recovery_kit.proof_name(3, entry(STRANGE)) == "proofs/3.age"
    assert "\x1b" not in recovery_kit.proof_text(entry(STRANGE))


@pytest.mark.parametrize("version", [1, 2])
def test_statements_quote_what_a_manifest_says(tmp_path: pathlib.Path, version: int) -> None:
    for name, text in files(entry(STRANGE)).items():
        (tmp_path / name).write_text(text)
    part = {
        "database": STRANGE,
        "encoding": "UTF8'",
        "collate": "C",
        "ctype": "C",
        "locale_provider": "icu",
        "icu_locale": "de",
        "roles": [f"{STRANGE}_user", 'x"; DROP'],
        "tables": [{"name": 'public."it\'s"', "rows": 7, "digest": "d"}],
    }
    fields = part if version == 1 else {"postgresql": part}

    def jq(*arguments: str) -> str:
        done = subprocess.run(
            ["jq", "-r", *arguments], cwd=tmp_path, input=json.dumps(fields), capture_output=True, text=True, check=True
        )
        return done.stdout

    quoted = STRANGE.replace('"', '""')
    created = jq("--arg", "database", STRANGE, "--slurpfile", "kit", "databases.json", "-f", "create.jq")
    database = (
        f"CREATE DATABASE \"{quoted}\" OWNER \"{quoted}_user\" TEMPLATE template0 ENCODING 'UTF8''' LC_COLLATE 'C'"
        " LC_CTYPE 'C' LOCALE_PROVIDER icu ICU_LOCALE 'de';"
    )
    roles = [f'CREATE ROLE "{quoted}_user" LOGIN;', 'CREATE ROLE "x""; DROP";']
    assert created.splitlines() == [*roles, database]
    assert jq("-f", "count.jq") == "SELECT 'public.\"it''s\"', count(*) = 7 FROM ONLY public.\"it's\";\n"
