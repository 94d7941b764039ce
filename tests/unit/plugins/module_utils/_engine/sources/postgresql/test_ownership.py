# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hypothesis
import hypothesis.strategies as st
import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql import ownership
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.dumptext import statements
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.dumptext.scanner import (
    Statement,
)

REAL = [
    ("TABLE", "public.customer"),
    ("TABLE", '"odd; -- ""schema"""."ta ble"'),
    ("VIEW", "v"),
    ("MATERIALIZED VIEW", "public.größe"),
    ("SCHEMA", '"with space"'),
    ("TYPE", "a.b.c"),
    ("LARGE OBJECT", "4711"),
    ("OPERATOR CLASS", "public.o USING btree"),
    ("OPERATOR FAMILY", 'public."o f" USING "my am"'),
    ("FUNCTION", "public.f()"),
    ("FUNCTION", 'public.f(a integer, VARIADIC b public."ty(pe"[])'),
    ("FUNCTION", "public.f(numeric(10,2), timestamp with time zone)"),
    ("PROCEDURE", "public.p(IN a integer, OUT b text)"),
    ("AGGREGATE", "public.a(*)"),
    ("AGGREGATE", "public.a(double precision ORDER BY integer)"),
    ("OPERATOR", "public.=== (integer, NONE)"),
    ("OPERATOR", "@>(public.a,public.b)"),
]


@pytest.mark.parametrize(("kind", "identity"), REAL)
def test_what_pg_dump_writes_is_an_identity(kind, identity):
    assert ownership.is_identity(kind, identity)


@pytest.mark.parametrize(("kind", "identity"), REAL)
def test_the_reader_of_dumps_hands_on_what_is_an_identity(kind, identity):
    text = f"ALTER {kind} {identity} OWNER TO somebody".encode()
    change = statements.classify(Statement(text))
    assert isinstance(change, statements.OwnerChange)
    assert ownership.is_identity(change.kind, change.identity)


@pytest.mark.parametrize(
    ("kind", "identity"),
    [
        ("TABLE", ""),
        ("TABLE", "a; DROP TABLE b"),
        ("TABLE", "a ADD COLUMN b int,"),
        ("TABLE", "a -- "),
        ("TABLE", "a/**/"),
        ("TABLE", '"a'),
        ("TABLE", '""'),
        ("TABLE", "a.b.c.d"),
        ("TABLE", "ONLY a"),
        ("TABLE", "ALL IN TABLESPACE x"),
        ("TABLE", 'U&"a"'),
        ("TABLE", "a\x00"),
        ("LARGE OBJECT", "1 2"),
        ("LARGE OBJECT", "-1"),
        ("LARGE OBJECT", "x"),
        ("OPERATOR CLASS", "a"),
        ("OPERATOR CLASS", "a USING b SET"),
        ("FUNCTION", "f"),
        ("FUNCTION", "f("),
        ("FUNCTION", "f())"),
        ("FUNCTION", "f() SET search_path"),
        ("FUNCTION", "f()()"),
        ("FUNCTION", "f SET x ()"),
        ("FUNCTION", "f(a integer DEFAULT 'x')"),
        ("FUNCTION", "f(a integer = 1)"),
        ("FUNCTION", "f(/**/)"),
        ("FUNCTION", "f(;)"),
        ("OPERATOR", "=--(a, b)"),
        ("OPERATOR", "=/*(a, b)"),
        ("OPERATOR", "f(a, b)"),
        ("FOREIGN DATA WRAPPER", "w"),
        ("EVENT TRIGGER", "e"),
        ("DATABASE", "d"),
        ("SUBSCRIPTION", "s"),
        ("LANGUAGE", "l"),
        ("TABLESPACE", "t"),
        ("table", "a"),
    ],
)
def test_anything_else_is_none(kind, identity):
    assert not ownership.is_identity(kind, identity)


@hypothesis.given(name=st.text(st.characters(blacklist_characters="\0", blacklist_categories=("Cs",)), min_size=1))
@hypothesis.example(name="/*")
@hypothesis.example(name='"--')
def test_every_quoted_name_is_an_identity(name):
    quoted = '"' + name.replace('"', '""') + '"'
    assert ownership.is_identity("TABLE", f"{quoted}.{quoted}")
    assert ownership.is_identity("FUNCTION", f"{quoted}.{quoted}({quoted} {quoted}.{quoted}[])")


@hypothesis.given(text=st.text("abc\"'.,;()[]-/*$ \n=+1é", max_size=40))
def test_no_text_gets_out_of_its_place(text):
    """What counts as an identity has its quotes closed, its brackets balanced, and nothing that ends a statement."""
    for kind in ("TABLE", "FUNCTION", "OPERATOR", "OPERATOR CLASS"):
        if ownership.is_identity(kind, text):
            found = list(statements.tokens(text))
            assert "".join(text[token.start : token.end] for token in found) == "".join(
                text[token.start : token.end] for token in found if token.kind in ("word", "name", "symbol", "number")
            )
            bare = [token.value for token in found if token.kind == "symbol"]
            assert ";" not in bare
            assert bare.count("(") == bare.count(")")
