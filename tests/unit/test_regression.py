# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The comparison of the regression database finds what differs, and only that."""

from __future__ import annotations

import pytest

from tests.regression import compare

DUMP = b"""--
-- PostgreSQL database dump
--

\\restrict abc

CREATE DATABASE app WITH TEMPLATE = template0;

ALTER DATABASE app OWNER TO postgres;

\\connect app

ALTER DATABASE app SET bytea_output TO 'hex';
ALTER ROLE app IN DATABASE app SET search_path TO 'public';

\\connect app

CREATE TABLE public.t (
    a text
);
ALTER TABLE public.t OWNER TO postgres;
COPY public.t (a) FROM stdin;
\\\\connect elsewhere
one
\\.
GRANT SELECT ON TABLE public.t TO reader;

--
-- PostgreSQL database dump complete
--

\\unrestrict abc
"""


def test_counts_statements_by_kind_and_finds_nothing_in_equal_dumps() -> None:
    compared = compare.compare(DUMP, DUMP.replace(b"abc", b"xyz"))
    assert compared.counts == {compare.OTHER: 4, compare.OWNER: 2, compare.SEARCH_PATH: 1, compare.PRIVILEGES: 1}
    assert not compared.differences


@pytest.mark.parametrize(
    ("kind", "text", "changed"),
    [
        (compare.OTHER, b"a text", b"a integer"),
        (compare.OTHER, b"\none\n", b"\ntwo\n"),
        (compare.OTHER, b"'hex'", b"'escape'"),
        (compare.OTHER, b"template0", b"template1"),
        (compare.OWNER, b"ALTER TABLE public.t OWNER TO postgres", b"ALTER TABLE public.t OWNER TO app"),
        (compare.OWNER, b"DATABASE app OWNER TO postgres", b"DATABASE app OWNER TO app"),
        (compare.PRIVILEGES, b"reader", b"writer"),
        (compare.SEARCH_PATH, b"'public'", b"'other'"),
    ],
)
def test_finds_a_statement_that_differs(kind: str, text: bytes, changed: bytes) -> None:
    compared = compare.compare(DUMP, DUMP.replace(text, changed))
    assert {one: compared.differing(one) for one in compare.KINDS if compared.differing(one)} == {kind: 1}


def test_finds_a_statement_that_is_missing() -> None:
    compared = compare.compare(DUMP, DUMP.replace(b"ALTER DATABASE app SET bytea_output TO 'hex';\n", b""))
    (difference,) = compared.differences
    assert (difference.kind, difference.only_second) == (compare.OTHER, ())
    assert difference.only_first == ("ALTER DATABASE app SET bytea_output TO 'hex'",)
