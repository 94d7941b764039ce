# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Types of settings: as text and as plain data, with the same value and the same errors."""

from __future__ import annotations

import datetime
import typing as t

import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain import values as of
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.secret import Secret
from ansible_collections.infrazero.database.plugins.module_utils._engine.errors import ConfigurationError


@pytest.mark.parametrize("value", [True, "true", "TRUE", " yes ", "1", "on"])
def test_true(value: t.Any) -> None:
    assert of.BOOLEAN.read(value, "x") is True


@pytest.mark.parametrize("value", [False, "false", "No", "0", "off"])
def test_false(value: t.Any) -> None:
    assert of.BOOLEAN.read(value, "x") is False


@pytest.mark.parametrize("value", ["maybe", "2", 2])
def test_neither_true_nor_false(value: t.Any) -> None:
    with pytest.raises(ConfigurationError, match="x is neither true nor false"):
        of.BOOLEAN.read(value, "x")


def test_whole_numbers() -> None:
    assert [of.integer(1, 99).read(value, "x") for value in (7, "7", " 07 ")] == [7, 7, 7]


@pytest.mark.parametrize("value", ["", "0", 0, -1, 100, "1.5", 1.5, True, "seven", "٣", "9" * 5000])
def test_what_is_not_a_whole_number_in_the_range(value: t.Any) -> None:
    with pytest.raises(ConfigurationError, match=r"x (is not a whole number|must be from 1 to 99)"):
        of.integer(1, 99).read(value, "x")


@pytest.mark.parametrize(("value", "minutes"), [(0, 0), ("0", 0), (1.5, 90), ("1.5", 90), (24.0, 1440), (0.05, 3)])
def test_hours(value: t.Any, minutes: int) -> None:
    found = of.HOURS.read(value, "x")
    assert found == datetime.timedelta(minutes=minutes)
    assert of.HOURS.read(of.HOURS.written(found, "x"), "x") == found


def test_a_very_small_number_of_hours_is_written_without_an_exponent() -> None:
    assert of.HOURS.written(of.HOURS.read(0.0001, "x"), "x") == "0.0001"


@pytest.mark.parametrize("value", [-1, float("nan"), float("inf"), 1e9, "1e3", "nan", "1h", True, "٣"])
def test_what_is_not_a_number_of_hours(value: t.Any) -> None:
    with pytest.raises(ConfigurationError, match="x is not a number of hours"):
        of.HOURS.read(value, "x")


@pytest.mark.parametrize("value", ["0", 0, "-1", "1.5", 1.5, "1h", "٣", "9" * 30])
def test_what_is_not_a_number_of_seconds(value: t.Any) -> None:
    with pytest.raises(ConfigurationError, match="x is not a number of seconds"):
        of.SECONDS.read(value, "x")


@pytest.mark.parametrize(
    ("value", "size"),
    [("0", 0), ("4096", 4096), (4096, 4096), ("1k", 1024), ("20 GiB", 20 << 30), ("2TB", 2 << 40), ("7B", 7)],
)
def test_sizes(value: t.Any, size: int) -> None:
    assert of.SIZE.read(value, "x") == size


@pytest.mark.parametrize("value", ["", "-1", "1e9", "G", "1 XB", "1,5G", "٣", "nan", "9" * 30])
def test_what_is_not_a_size(value: str) -> None:
    with pytest.raises(ConfigurationError, match="x is not a size"):
        of.SIZE.read(value, "x")


@pytest.mark.parametrize("value", [" a:b , c:d ,", {"a": "b", "c": "d"}])
def test_role_maps(value: t.Any) -> None:
    found = of.ROLE_MAP.read(value, "x")
    assert found == {"a": "b", "c": "d"}
    assert of.ROLE_MAP.read(of.ROLE_MAP.written(found, "x"), "x") == found


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("app", "not a pair"),
        ("app:app", "itself"),
        ({"app": "app"}, "itself"),
        ("a:b,a:c", "twice"),
        (":b", "mapped"),
        ("a:", "mapped"),
        ({"a": 1}, "mapped"),
        (7, "not a text"),
    ],
)
def test_what_is_not_a_role_map(value: t.Any, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=f"x.*{reason}"):
        of.ROLE_MAP.read(value, "x")


def test_a_role_map_that_no_text_can_hold_is_not_written() -> None:
    for roles in ({"a,b": "c"}, {"a:b": "c"}, {"a": " b"}):
        with pytest.raises(ConfigurationError, match="x cannot be written as text"):
            of.ROLE_MAP.written(roles, "x")


def test_names() -> None:
    assert of.NAMES.read("main, public,", "x") == of.NAMES.read(["main", " public "], "x") == ("main", "public")
    assert of.EXTENSIONS.read("postgis vector,", "x") == frozenset({"postgis", "vector"})
    assert of.EXTENSIONS.written(frozenset({"b", "a"}), "x") == "a,b"
    for value in (7, [7], {"a": "b"}):
        with pytest.raises(ConfigurationError, match="x is not a list of names"):
            of.NAMES.read(value, "x")


@pytest.mark.parametrize("name", ["shop_check", "Großhandel", "a-b.c", 'say"hi"', "é" * 31])
def test_the_name_of_a_database(name: str) -> None:
    assert of.DATABASE.read(name, "as") == name


@pytest.mark.parametrize("name", ["", " ", "a b", "a/b", "a\nb", "a\x1b[2J", "x" * 64, "é" * 32, "\udc80", 7])
def test_what_is_not_the_name_of_a_database(name: t.Any) -> None:
    """A longer one would be cut by the server, and be the name of another database."""
    with pytest.raises(ConfigurationError, match="as is not"):
        of.DATABASE.read(name, "as")


def test_names_of_hosts() -> None:
    assert of.SIGNER_NAMES.read(" db2, db3 ,", "x") == ("db2", "db3")
    with pytest.raises(ConfigurationError, match="x is not a list of host names"):
        of.SIGNER_NAMES.read("db*", "x")


def test_signers() -> None:
    found = of.SIGNERS.read({"shop": ["db2"]}, "x")
    assert of.SIGNERS.read(of.SIGNERS.written(found, "x"), "x") == found == {"shop": ("db2",)}


def test_choices() -> None:
    kind = of.choice("swap", "replace")
    assert kind.read(" SWAP ", "x") == "swap"
    with pytest.raises(ConfigurationError, match="x is not one of swap, replace"):
        kind.read("other", "x")


def test_sha256() -> None:
    assert of.SHA256.read("AB" * 32, "x") == "ab" * 32
    with pytest.raises(ConfigurationError, match="x is not a SHA-256"):
        of.SHA256.read("abc", "x")


def test_a_secret_is_written_and_never_shown() -> None:
    found = of.SECRET.read("s3cret", "x")
    assert (found, str(found), of.SECRET.written(found, "x")) == (Secret("s3cret"), "***", "s3cret")


def test_recipients() -> None:
    keys = ("age1one", "ssh-ed25519 AAAA a, comment")
    assert of.RECIPIENTS.read(list(keys), "x") == keys
    assert of.RECIPIENTS.read(of.RECIPIENTS.written(keys, "x"), "x") == keys
    assert of.RECIPIENTS.read(" age1one ", "x") == ("age1one",)
    for value in ("[", "[3]", {"a": "b"}, [" "], 3):
        with pytest.raises(ConfigurationError, match="x is not"):
            of.RECIPIENTS.read(value, "x")
    with pytest.raises(ConfigurationError, match="x contains a private key") as caught:
        of.RECIPIENTS.read(["age-secret-key-1CANARY"], "x")
    assert "CANARY" not in str(caught.value)


def test_a_prefix() -> None:
    assert of.PREFIX.read(" cluster/db1/ ", "x") == "cluster/db1/"
    for value in ("cluster/db1", "/", "/db1/", "s3://bucket/db1/", "../", "a\nb/", 3):
        with pytest.raises(ConfigurationError, match="x "):
            of.PREFIX.read(value, "x")


@pytest.mark.parametrize(
    ("given", "tables"),
    [
        ("public.orders", ("public.orders",)),
        ('sales."a, b"', ('sales."a, b"',)),
        ('["public.a", "sales.\\"b\\""]', ("public.a", 'sales."b"')),
        (["public.a", " public.b "], ("public.a", "public.b")),
        ("", ()),
        ([], ()),
    ],
)
def test_tables(given: object, tables: tuple[str, ...]) -> None:
    assert of.TABLES.read(given, "tables") == tables
    assert of.TABLES.read(of.TABLES.written(tables, "tables"), "tables") == tables


@pytest.mark.parametrize("given", ["[", '["a", 1]', {"a": 1}, 5, [["a"]]])
def test_what_is_no_list_of_tables(given: object) -> None:
    with pytest.raises(ConfigurationError, match="tables is not"):
        of.TABLES.read(given, "tables")
