# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import dataclasses
import datetime
import typing as t

import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine import errors
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain import trust as trusting
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.databases import Database
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.manifest import Manifest, Postgresql
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.secret import Secret

NOW = datetime.datetime(2026, 2, 1, tzinfo=datetime.timezone.utc)
PART = Postgresql(database="shop", system_identifier="7")
SAID = Manifest(
    key="db/shop/20260131T032000Z.sql.gz.age",
    sha256="0" * 64,
    created_at=datetime.datetime(2026, 1, 31, 3, 20, tzinfo=datetime.timezone.utc),
    schema_version=2,
    part=PART,
    host="db1",
    sequence=5,
    signature="a signature",
)
SHOP = Database(name="shop", user="shop", password=Secret("p"), recipients=("age1",))

TEAM = dataclasses.replace(SHOP, name="ledger", backup_prefix="teams/a/")


def said(**changes: t.Any) -> Manifest:
    part = {name: changes.pop(name) for name in ("database", "system_identifier") if name in changes}
    return dataclasses.replace(SAID, part=dataclasses.replace(PART, **part), **changes)


def test_a_complete_manifest_can_be_checked() -> None:
    assert trusting.incomplete(SAID, url="u") is None


def test_a_manifest_without_a_signature_is_unsigned() -> None:
    found = trusting.incomplete(said(signature=None), url="s3://b/latest-dump.json")
    assert isinstance(found, errors.Unsigned)
    for way in ("trust: unsigned", "--trust unsigned", "DB_RESTORE_TRUST=unsigned", "infrazero_restore_trust"):
        assert way in found.hint


@pytest.mark.parametrize("field", ["database", "system_identifier", "sequence", "host"])
def test_a_signature_over_less_than_ours_says_is_none(field: str) -> None:
    found = trusting.incomplete(said(**{field: None}), url="u")
    assert isinstance(found, errors.ForgedManifest) and field in found.cause


@pytest.mark.parametrize("host", ["", "-I", "*", "a,b", "!a", 'a"', "a b", "a\n", "\0", "x" * 256, "日本"])
def test_names_that_mean_something_to_openssh_are_no_hosts(host: str) -> None:
    assert not trusting.can_sign(host)
    assert isinstance(trusting.incomplete(said(host=host), url="u"), errors.ForgedManifest)


@pytest.mark.parametrize("host", ["db1", "db1.example.com", "ip-10-0-0-1", "a_b", "X" * 255, "fe80::1"])
def test_names_of_hosts(host: str) -> None:
    assert trusting.can_sign(host)


@pytest.mark.parametrize(
    ("reason", "kind", "word"),
    [
        (trusting.ALTERED, errors.ForgedManifest, "does not match its signature"),
        (trusting.UNKNOWN, errors.UnknownSigner, "not trusted"),
        (trusting.REVOKED, errors.RevokedSigner, "revoked"),
        (trusting.ELSEWHERE, errors.UnknownSigner, "not valid for db1"),
    ],
)
def test_each_refusal_has_its_name_and_what_to_do(reason: str, kind: type[errors.TrustError], word: str) -> None:
    found = trusting.refusal(trusting.Verdict(reason, "SHA256:x", "it has expired"), SAID, url="s3://b/k")
    assert found.__class__ is kind
    assert word in found.message and "s3://b/k" in found.message and found.hint
    assert (found.phase, reason == trusting.ALTERED or "SHA256:x" in found.cause) == ("trust", True)


def test_a_good_signature_is_not_refused() -> None:
    assert trusting.refusal(trusting.Verdict(trusting.GOOD, "SHA256:x"), SAID, url="u") is None


def test_without_signers_the_variable_and_the_file_are_named() -> None:
    found = trusting.no_signers(SAID, url="u")
    assert isinstance(found, errors.SignersMissing)
    assert "infrazero_allowed_signers_file" in found.hint and "/etc/infrazero" in found.hint


def test_an_unknown_signer_leads_to_three_steps_and_never_to_unsigned() -> None:
    for found in (
        trusting.no_signers(SAID, url="u"),
        trusting.refusal(trusting.Verdict(trusting.UNKNOWN, "SHA256:x"), SAID, url="u"),
    ):
        assert found is not None
        places = [found.hint.index(word) for word in ("1. compare", "2. to accept db1", "--signer db1", "3. otherwise")]
        assert places == sorted(places) and "unsigned" not in found.hint


@pytest.mark.parametrize(
    ("key", "database", "kind"),
    [
        ("db/shop/latest-dump.json", SHOP, None),
        ("db/shop/20260131T032000Z.manifest.json", SHOP, None),
        # Another tenant's, put where shop's belong.
        ("db/ledger/latest-dump.json", dataclasses.replace(SHOP, name="ledger"), errors.WrongDatabase),
        ("db/ledger/20260131T032000Z.manifest.json", dataclasses.replace(SHOP, name="ledger"), errors.WrongDatabase),
        # Asked for by name: one database from the backup of another.
        ("db/shop/latest-dump.json", dataclasses.replace(SHOP, name="ledger"), None),
        # ... where that other one's prefix holds a third one's.
        ("db/other/latest-dump.json", dataclasses.replace(SHOP, name="ledger"), errors.WrongDatabase),
        # Prefixes that are not named after databases.
        ("teams/a/latest-dump.json", dataclasses.replace(SHOP, backup_prefix="teams/a/"), None),
        ("db/team/latest-dump.json", dataclasses.replace(SHOP, backup_prefix="db/team/"), None),
        ("copies/latest-dump.json", SHOP, None),
        ("copies/latest-dump.json", dataclasses.replace(SHOP, name="ledger"), errors.WrongDatabase),
        ("teams/a/latest-dump.json", TEAM, errors.WrongDatabase),
        ("copies/20260131T032000Z.manifest.json", dataclasses.replace(SHOP, name="ledger"), None),
        # Another backup's manifest under this one's name.
        ("db/shop/20260201T032000Z.manifest.json", SHOP, errors.Replayed),
    ],
)
def test_where_a_manifest_may_lie(key: str, database: Database, kind: type[errors.TrustError] | None) -> None:
    found = trusting.misplaced(SAID, key=key, url=f"s3://b/{key}", database=database)
    assert found.__class__ is (kind or type(None))
    assert found is None or "name the dump itself" in found.hint


def test_an_older_tools_manifest_says_no_database() -> None:
    assert trusting.misplaced(said(database=None), key="db/shop/latest-dump.json", url="u", database=SHOP) is None


def test_the_age_of_the_latest_backup() -> None:
    day = datetime.timedelta(days=1)
    assert trusting.aged(SAID, now=NOW, limit=day) is None
    assert trusting.aged(SAID, now=NOW + 90 * day, limit=None) is None
    text = trusting.aged(SAID, now=NOW + 2 * day, limit=2 * day)
    assert text is not None and "69 hours old, more than 48" in text
    early = trusting.aged(SAID, now=NOW - 2 * day, limit=day)
    assert early is not None and "clock" in early


def test_what_anyone_can_leave_in_the_store_is_one_warning() -> None:
    text = trusting.strange(["db/shop/1", "db/shop/3\x1b[2J\n", "db/shop/2"], unread=0)
    assert "3 newer manifests" in text and r"db/shop/3\x1b[2J\x0a:" in text and "write access" in text
    assert "1480 more were not read" in trusting.strange(["k"], unread=1480)
    assert trusting.strange([], unread=1).startswith("1 more")


def test_lines_of_keys_as_inventories_have_them() -> None:
    assert trusting.key_lines(None, name="n") == ""
    assert trusting.key_lines("one a,b\ntwo\n", name="n") == "one a,b\ntwo\n"
    assert trusting.key_lines(["one a,b\n", "", "two"], name="n") == "one a,b\ntwo\n"
    for wrong in (7, [7], {"a": "b"}):
        with pytest.raises(errors.ConfigurationError, match="n is neither"):
            trusting.key_lines(wrong, name="n")
    assert trusting.holds_keys("# only\n\n a line\n") and not trusting.holds_keys("# only\n \n")


def test_another_mode_is_refused() -> None:
    with pytest.raises(errors.ConfigurationError, match="invalid trust mode 'maybe'"):
        trusting.Trust(mode="maybe")


def test_whose_backups_of_a_database_are_accepted() -> None:
    trust = trusting.Trust(
        name="db1",
        signers={"shop": ("db2",), "ledger": ("db3",), "db/": ("db4",), "db/shop/": ("db2", "db5"), "shop/": ("db6",)},
        once=("db7", "db1"),
    )
    shop = dataclasses.replace(SHOP, backup_signers=("db8",))
    found = trusting.accepted_names(trust, database=shop, key="db/shop/latest-dump.json")
    assert found == ("db1", "db8", "db2", "db4", "db5", "db7")
    staging = dataclasses.replace(SHOP, name="staging")
    assert trusting.accepted_names(trust, database=staging, key="copies/latest-dump.json") == ("db1", "db7")
    # A node name that OpenSSH would take for more than a name.
    for name in (None, "", "*", "db1,db2", "!db1"):
        assert trusting.accepted_names(trusting.Trust(name=name), database=SHOP, key="k") == ()


def test_a_foreign_signer_is_named_with_what_to_write() -> None:
    found = trusting.foreign(said(host="db2"), key="SHA256:x", url="u", database=SHOP, accepted=("db1", "db3"))
    assert isinstance(found, errors.ForeignSigner)
    assert "db2" in found.message and "'shop'" in found.message
    assert "db1, db3" in found.cause and "SHA256:x" in found.cause
    for way in (
        "backup_signers: [db2]",
        'infrazero_signers: {"shop": ["db2"]}',
        "--signer db2",
        "DB_RESTORE_SIGNER=db2",
    ):
        assert way in found.hint


def test_signers_as_settings_have_them() -> None:
    assert trusting.signers({}, name="n") == {}
    text = '{"shop": ["db2"], "db/production/": ["db3", "db4"]}'
    assert trusting.signers(text, name="n") == {"shop": ("db2",), "db/production/": ("db3", "db4")}
    assert trusting.signers({"shop": []}, name="n") == {"shop": ()}


@pytest.mark.parametrize(
    "value",
    [
        *("{", "[]", '{"shop": "db2"}', '{"shop": ["*"]}', '{"shop": [1]}', '{"": ["db2"]}', '{"db/shop": ["db2"]}', 7),
        *({"shop": None}, {7: ["db2"]}, {"shop": ["db1,db2"]}, {"shop": ["a\n"]}),
    ],
)
def test_signers_that_are_no_names_are_refused_and_not_repeated(value: t.Any) -> None:
    with pytest.raises(errors.ConfigurationError, match="configuration: n") as raised:
        trusting.signers(value, name="n")
    assert raised.value.hint and "*" not in str(raised.value) and "a\n" not in str(raised.value)
