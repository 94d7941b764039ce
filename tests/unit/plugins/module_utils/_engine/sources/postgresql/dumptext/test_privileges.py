# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.dumptext import privileges
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.dumptext.privileges import (
    Change,
    DefaultChange,
    Right,
)
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.dumptext.scanner import (
    Statement,
)
from hypothesis import given
from hypothesis import strategies as st

ALL = (Right("ALL"),)


def parse(text):
    return privileges.parse(Statement(text.encode()))


@pytest.mark.parametrize(
    ("text", "change"),
    [
        (
            "REVOKE ALL ON FUNCTION public.wipe(a integer, VARIADIC b text[]) FROM PUBLIC",
            Change(True, ALL, "FUNCTION", ("public", "wipe"), "(a integer, VARIADIC b text[])", (None,)),
        ),
        ("REVOKE ALL ON PROCEDURE s.p() FROM public", Change(True, ALL, "PROCEDURE", ("s", "p"), "()", (None,))),
        ("REVOKE ALL ON FUNCTION s.f(*) FROM PUBLIC", Change(True, ALL, "FUNCTION", ("s", "f"), "(*)", (None,))),
        ("REVOKE USAGE ON SCHEMA s FROM PUBLIC", Change(True, (Right("USAGE"),), "SCHEMA", ("s",), "", (None,))),
        ("REVOKE ALL PRIVILEGES ON TYPE s.t FROM PUBLIC", Change(True, ALL, "TYPE", ("s", "t"), "", (None,))),
        ("REVOKE ALL ON LANGUAGE plpgsql FROM PUBLIC", Change(True, ALL, "LANGUAGE", ("plpgsql",), "", (None,))),
        ("REVOKE ALL ON LARGE OBJECT 17 FROM PUBLIC", Change(True, ALL, "LARGE OBJECT", ("17",), "", (None,))),
        ("REVOKE ALL ON FOREIGN SERVER s FROM PUBLIC", Change(True, ALL, "FOREIGN SERVER", ("s",), "", (None,))),
        (
            "REVOKE ALL ON FOREIGN DATA WRAPPER w FROM PUBLIC CASCADE",
            Change(True, ALL, "FOREIGN DATA WRAPPER", ("w",), "", (None,)),
        ),
        (
            'GRANT SELECT ("a b", c), UPDATE ON TABLE public."t" TO reader, GROUP "Wri;ter", PUBLIC WITH GRANT OPTION',
            Change(
                False,
                (Right("SELECT", ("a b", "c")), Right("UPDATE")),
                "TABLE",
                ("public", "t"),
                "",
                ("reader", "Wri;ter", None),
                True,
            ),
        ),
        ('GRANT ALL ON "table" TO "public"', Change(False, ALL, "TABLE", ("table",), "", ("public",))),
        (
            "REVOKE GRANT OPTION FOR INSERT ON t FROM a RESTRICT",
            Change(True, (Right("INSERT"),), "TABLE", ("t",), "", ("a",), True),
        ),
        (
            "ALTER DEFAULT PRIVILEGES FOR ROLE app, b IN SCHEMA s GRANT SELECT ON TABLES TO reader",
            DefaultChange(False, (Right("SELECT"),), "TABLES", ("reader",), ("app", "b"), ("s",)),
        ),
        (
            "ALTER DEFAULT PRIVILEGES FOR USER app REVOKE ALL ON FUNCTIONS FROM PUBLIC",
            DefaultChange(True, ALL, "FUNCTIONS", (None,), ("app",)),
        ),
    ],
)  # fmt: skip
def test_what_pg_dump_writes_is_parsed_and_written_again(text, change):
    assert parse(text) == change
    assert parse(privileges.render(change, change.grantees)) == change


@pytest.mark.parametrize(
    "text",
    [
        "REVOKE ALL ON FUNCTION f FROM PUBLIC",
        "REVOKE ALL ON FUNCTION f(integer FROM PUBLIC",
        "REVOKE ALL ON FUNCTION f('x') FROM PUBLIC",
        "REVOKE ALL ON FUNCTION f(integer) FROM PUBLIC; DROP TABLE t",
        "REVOKE ALL ON FUNCTION f(a int = g()) FROM PUBLIC",
        "REVOKE ALL ON TABLE a, b FROM PUBLIC",
        "REVOKE ALL ON ALL TABLES IN SCHEMA public FROM PUBLIC",
        "REVOKE ALL ON TABLE t FROM CURRENT_USER",
        "REVOKE ALL ON TABLE t FROM PUBLIC GRANTED BY postgres",
        "REVOKE ALL ON LARGE OBJECT x FROM PUBLIC",
        "REVOKE ALL ON LARGE OBJECT \u0663 FROM PUBLIC",
        "REVOKE ALL ON DATABASE d FROM PUBLIC",
        "REVOKE ALL ON PARAMETER work_mem FROM PUBLIC",
        "REVOKE ADMIN OPTION FOR a FROM b",
        "REVOKE WONDER ON t FROM PUBLIC",
        "REVOKE ALL () ON t FROM PUBLIC",
        "REVOKE ALL ON t TO PUBLIC",
        "REVOKE ALL ON t",
        "GRANT a TO b",
        "GRANT ALL ON t TO a WITH ADMIN OPTION",
        "ALTER DEFAULT PRIVILEGES FOR ROLE PUBLIC GRANT SELECT ON TABLES TO b",
        "ALTER DEFAULT PRIVILEGES FOR ROLE a GRANT SELECT (c) ON TABLES TO b",
        "ALTER DEFAULT PRIVILEGES FOR ROLE a GRANT SELECT ON TABLE t TO b",
        "ALTER TABLE t OWNER TO a",
    ],
)
def test_what_is_not_of_that_form_is_not_parsed(text):
    assert parse(text) is None


@given(
    st.lists(st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1), min_size=1, max_size=2),
    st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1),
)
def test_names_are_only_names(names, role):
    change = Change(True, (Right("SELECT", tuple(names)),), "TABLE", tuple(names), "", (role, None))
    assert parse(privileges.render(change, change.grantees)) == change
