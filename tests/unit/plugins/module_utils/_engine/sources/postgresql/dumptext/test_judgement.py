# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a restore would refuse or leave out, found in the text of a dump."""

from __future__ import annotations

import io

import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.dumptext import events
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.dumptext.judgement import (
    MOST,
    Judge,
)
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.dumptext.preamble import (
    PrivilegedObject,
)

OBJECTS = (PrivilegedObject("function", "public.same(integer)", "d"), PrivilegedObject("cast", "(text AS uuid)", "d"))


def findings(
    text: str,
    refused: dict[str, str] | None = None,
    *,
    objects: tuple[PrivilegedObject, ...] = (),
    signed: bool = True,
) -> tuple[str, ...]:
    judge = Judge(encoding="utf-8", refuse_extension=(refused or {}).get, objects=objects, signed=signed)
    for statement in events.read(io.BytesIO(text.encode())):
        judge.take(statement)
    return judge.findings()


def test_an_ordinary_dump_has_no_findings() -> None:
    text = "SET lock_timeout = 0; CREATE TABLE t (a int); CREATE EXTENSION hstore WITH SCHEMA public; SELECT 1;"
    assert findings(text) == ()


def test_what_is_left_out_is_named_once_and_printable() -> None:
    text = "SECURITY LABEL ON TABLE a IS 'x'; SECURITY LABEL ON TABLE b IS 'x';"
    assert findings(text) == ("security label would be left out: security labels need a label provider in the server",)


def test_an_extension_that_would_be_refused_is_named() -> None:
    refused = {"file_fdw": "extension 'file_fdw' is not allowed in a restore: \x1b[31m"}
    found = findings("CREATE EXTENSION IF NOT EXISTS file_fdw WITH SCHEMA public;", refused)
    assert found == ("extension 'file_fdw' is not allowed in a restore: \\x1b[31m",)


def test_what_only_a_superuser_may_create_takes_a_signed_backup() -> None:
    assert findings("SELECT 1;", objects=OBJECTS) == ()
    (found,) = findings("SELECT 1;", objects=OBJECTS, signed=False)
    assert found.startswith("function public.same(integer), cast (text AS uuid) would be refused: only a superuser")
    (many,) = findings("SELECT 1;", objects=OBJECTS * 4, signed=False)
    assert "and 3 more would be refused" in many


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("CREATE FUNCTION public.f(a integer) RETURNS integer LANGUAGE sql LEAKPROOF AS 'SELECT $1'", []),
        ("CREATE FUNCTION public.f(a integer) RETURNS integer LANGUAGE sql LEAKPROOF RETURN $1", ["function public.f"]),
        ("CREATE FUNCTION public.f(a integer) RETURNS integer LANGUAGE sql NOT LEAKPROOF RETURN $1", []),
        (
            "CREATE FUNCTION public.f(a integer) RETURNS integer LANGUAGE sql SUPPORT public.s RETURN $1",
            ["function public.f"],
        ),
        (
            "CREATE FUNCTION public.f(a public.d DEFAULT 'x'::public.d) RETURNS int LANGUAGE c AS 'l', 's'",
            ["function public.f"],
        ),
        ("CREATE FUNCTION public.f(a integer) RETURNS integer LANGUAGE sql RETURN $1", []),
        ("CREATE OPERATOR FAMILY public.x USING btree", []),
        (
            "CREATE OPERATOR CLASS public.x FOR TYPE public.y USING btree AS OPERATOR 1 =('x')",
            ["operator class public.x"],
        ),
    ],
)
def test_a_definition_that_no_superuser_is_given_is_named(text: str, named: list[str]) -> None:
    found = findings(f"{text};", objects=OBJECTS)
    assert [line.partition(" would be refused")[0] for line in found] == named
    # A database in which there is nothing of a superuser is not looked at so closely.
    assert findings(f"{text};") == ()


def test_many_findings_are_counted() -> None:
    names = [f"e{number}" for number in range(MOST + 5)]
    found = findings("".join(f"CREATE EXTENSION {name};" for name in names), {name: f"no {name}" for name in names})
    assert len(found) == MOST + 1 and found[-1] == "5 more"
