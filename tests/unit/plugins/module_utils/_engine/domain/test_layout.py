# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import datetime
import re

import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine import errors
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain import layout
from ansible_collections.infrazero.database.plugins.module_utils._engine.streams.compression import METHODS
from hypothesis import given
from hypothesis import strategies as st

MOMENT = datetime.datetime(2026, 11, 21, 3, 20, 7, tzinfo=datetime.timezone.utc)
MOMENTS = st.datetimes(
    min_value=datetime.datetime(1970, 1, 1),
    max_value=datetime.datetime(9000, 1, 1),
    timezones=st.timezones(),
)
#: Whatever the contract lets a database be called.
NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/"), min_size=1, max_size=15).filter(
    lambda name: not re.search(r"\s", name) and name not in (".", "..")
)


def test_keys_are_those_of_the_contract() -> None:
    assert layout.timestamp(MOMENT) == "20261121T032007Z"
    assert layout.prefix("app") == "db/app/"
    assert layout.latest_key("db/app/") == "db/app/latest-dump.json"
    assert layout.dump_key("db/app/", MOMENT) == "db/app/20261121T032007Z.sql.gz.age"
    assert layout.manifest_key("db/app/20261121T032007Z.sql.gz.age") == "db/app/20261121T032007Z.manifest.json"


def test_the_timestamp_is_utc_whatever_the_moments_zone() -> None:
    tokyo = MOMENT.astimezone(datetime.timezone(datetime.timedelta(hours=9)))
    assert layout.dump_key("db/app/", tokyo) == layout.dump_key("db/app/", MOMENT)


@given(NAMES, MOMENTS, st.sampled_from(["", *(method.suffix for method in METHODS.values())]))
def test_the_moment_can_be_read_back_from_the_keys(name: str, moment: datetime.datetime, suffix: str) -> None:
    dump = layout.dump_key(layout.prefix(name), moment, suffix=suffix)
    whole = moment.astimezone(datetime.timezone.utc).replace(microsecond=0)
    assert layout.moment_of(dump) == whole
    assert layout.moment_of(layout.manifest_key(dump)) == whole
    assert dump.startswith(layout.prefix(name))


def test_keys_of_rekeyed_backups() -> None:
    now = datetime.datetime(2026, 12, 1, 4, tzinfo=datetime.timezone.utc)
    for old, new in {
        "db/app/20261121T032007Z.sql.gz.age": "db/app/20261121T032007Z.rekeyed-20261201T040000Z.sql.gz.age",
        "db/app/20261121T032007Z.rekeyed-20261130T000000Z.sql.zst.age": "db/app/20261121T032007Z.rekeyed-"
        "20261201T040000Z.sql.zst.age",
        "old/prod.backup.gz.age": "old/20261121T032007Z.rekeyed-20261201T040000Z.sql.gz.age",
        "old/prod.age": "old/20261121T032007Z.rekeyed-20261201T040000Z.sql.age",
    }.items():
        assert layout.rekeyed_key(old, created_at=MOMENT, moment=now) == new
        assert layout.moment_of(new) == layout.moment_of(layout.manifest_key(new)) == MOMENT
        assert layout.manifest_key(new) == new.partition(".sql")[0] + ".manifest.json"


@given(NAMES)
def test_keys_of_a_database_name_a_place_and_the_latest_key_none_in_time(name: str) -> None:
    assert layout.moment_of(layout.latest_key(layout.prefix(name))) is None
    assert layout.locate(layout.prefix(name)) == layout.Location(layout.latest_key(layout.prefix(name)))
    dump = layout.dump_key(layout.prefix(name), MOMENT)
    assert layout.locate(dump) == layout.Location(dump)


@given(st.tuples(NAMES, NAMES).filter(lambda pair: pair[0] != pair[1]))
def test_no_database_lies_inside_another(names: tuple[str, str]) -> None:
    one, other = names
    assert not layout.dump_key(layout.prefix(one), MOMENT).startswith(layout.prefix(other))


@pytest.mark.parametrize(
    "key",
    [
        "",
        "latest-dump.json",
        "db/app/latest-dump.json",
        "db/app/20261121T032007Z",
        "20261121T032007Z.sql.gz.age",
        "db/app/20261321T032007Z.sql.gz.age",
        "db/app/20261121T032007Z.sql.gz.age.part",
        "db/app/x20261121T032007Z.sql.gz.age",
        "db/app/20261121T032007Z.sql.gz.age\n",
        "db/app/\u0662\u0660\u0662\u06661121T032007Z.sql.gz.age",
        "db/app/note.manifest.json",
    ],
)
def test_other_keys_have_no_moment(key: str) -> None:
    assert layout.moment_of(key) is None


@given(
    st.text(alphabet=st.characters()) | st.from_regex(r"a/[0-9]{8}T[0-9]{6}Z\.sql(\.manifest\.json)?", fullmatch=True)
)
def test_any_text_has_a_moment_or_none(key: str) -> None:
    moment = layout.moment_of(key)
    assert moment is None or layout.timestamp(moment) in key


def test_a_foreign_dump_has_its_manifest_beside_it_too() -> None:
    assert layout.manifest_key("db/app/by-hand.sql") == "db/app/by-hand.sql.manifest.json"


def test_a_database_named_like_a_manifest_keeps_its_moment() -> None:
    key = "db/x.manifest.json/20261121T032007Z.manifest.json"
    assert layout.moment_of(key) == MOMENT


@pytest.mark.parametrize(
    ("text", "key", "bucket", "is_manifest"),
    [
        ("db/app/", "db/app/latest-dump.json", None, True),
        ("db/app/latest-dump.json", "db/app/latest-dump.json", None, True),
        ("somewhere/old-latest-dump.json", "somewhere/old-latest-dump.json", None, True),
        ("db/app/20261121T032007Z.manifest.json", "db/app/20261121T032007Z.manifest.json", None, True),
        ("db/app/x.sql.gz.age", "db/app/x.sql.gz.age", None, False),
        ("dump.sql", "dump.sql", None, False),
        ("s3://other/db/app/", "db/app/latest-dump.json", "other", True),
        ("s3://other.bucket-2/x.sql", "x.sql", "other.bucket-2", False),
        ("db/a..b/x.sql", "db/a..b/x.sql", None, False),
        ("db/日本/x.sql", "db/日本/x.sql", None, False),
        ("db/$(id)`'\";%=/x.sql", "db/$(id)`'\";%=/x.sql", None, False),
    ],
)
def test_every_form_of_the_contract_is_located(text: str, key: str, bucket: str | None, is_manifest: bool) -> None:
    location = layout.locate(text)
    assert (location.key, location.bucket, location.is_manifest) == (key, bucket, is_manifest)


def test_a_relative_key_belongs_to_the_bucket_of_its_manifest() -> None:
    assert layout.locate("db/app/x.sql", within="other").bucket == "other"
    assert layout.locate("s3://third/db/app/x.sql", within="other").bucket == "third"


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("", "begin with '/'"),
        ("/db/app/x.sql", "begin with '/'"),
        ("s3://", "is missing"),
        ("s3://bucket", "is missing"),
        ("s3://bucket/", "is missing"),
        ("s3:///x.sql", "is missing"),
        ("s3://bucket//x.sql", "begin with '/'"),
        ("s3://../x.sql", "name of the bucket"),
        ("s3://a b/x.sql", "name of the bucket"),
        ("s3://%2e%2e/x.sql", "name of the bucket"),
        ("https://example.com/x.sql", "only s3://"),
        ("S3://bucket/x.sql", "only s3://"),
        ("file:///etc/passwd", "only s3://"),
        ("db/../x.sql", "'..'"),
        ("..", "'..'"),
        ("db/./x.sql", "'.'"),
        ("s3://bucket/../x.sql", "'..'"),
        ("db/app/x.sql\n", "control"),
        ("db/\0/x.sql", "control"),
        ("db/\x7f", "control"),
        ("db/\ud800/x.sql", "UTF-8"),
        ("ä" * 513, "1024 bytes"),
    ],
)
def test_what_names_no_backup_is_refused(text: str, cause: str) -> None:
    with pytest.raises(errors.ConfigurationError) as caught:
        layout.locate(text)
    assert cause in caught.value.cause
    assert caught.value.hint
    str(caught.value).encode("utf-8")


@given(st.text(alphabet=st.characters()) | st.text("s3:/.ab\n\0%", max_size=20), st.none() | st.just("other"))
def test_any_text_is_a_safe_place_or_a_clear_error(text: str, within: str | None) -> None:
    try:
        location = layout.locate(text, within=within)
    except errors.ConfigurationError:
        return
    parts = location.key.split("/")
    assert parts[0]
    assert not {".", ".."} & set(parts)
    assert location.bucket not in (".", "..", "")
    assert location.key.isprintable() or not re.search(r"[\x00-\x1f\x7f]", location.key)
    location.key.encode("utf-8")
