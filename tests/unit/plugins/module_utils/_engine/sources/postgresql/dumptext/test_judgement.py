# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a restore would refuse or leave out, found in the text of a dump."""

from __future__ import annotations

import io
import typing as t

from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.dumptext import events
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.dumptext.judgement import (
    MOST,
    Judge,
)
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.dumptext.preamble import (
    PrivilegedObject,
)


def findings(text: str, refused: dict[str, str] | None = None, **more: t.Any) -> tuple[str, ...]:
    judge = Judge(encoding="utf-8", refuse_extension=(refused or {}).get, **more)
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


def test_many_findings_are_counted() -> None:
    names = [f"e{number}" for number in range(MOST + 5)]
    found = findings("".join(f"CREATE EXTENSION {name};" for name in names), {name: f"no {name}" for name in names})
    assert len(found) == MOST + 1 and found[-1] == "5 more"


LISTED = (
    PrivilegedObject("event trigger", "e", "0" * 64, "postgres"),
    PrivilegedObject("function", "public.f()", "0" * 64, "postgres"),
    # Called by another object, or not for a superuser only.
    PrivilegedObject("function", "public.g()", "0" * 64, "postgres", ((None, False),)),
    PrivilegedObject("cast", "(integer AS public.t)", "0" * 64),
    PrivilegedObject("library", "$libdir/x", "0" * 64),
)
EVENT_TRIGGER = "CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION public.g(); ALTER EVENT TRIGGER e DISABLE;"


def test_what_a_superuser_would_create_is_no_finding() -> None:
    text = f"CREATE FUNCTION public.f() RETURNS int LANGUAGE sql LEAKPROOF AS 'SELECT 1'; {EVENT_TRIGGER}"
    assert findings(text, objects=LISTED) == ()
    assert len(findings(EVENT_TRIGGER)) == 1


def test_what_is_not_on_the_list_would_be_left_out() -> None:
    text = "CREATE EVENT TRIGGER other ON ddl_command_end EXECUTE FUNCTION public.g();"
    (found,) = findings(text, objects=LISTED[3:4])
    assert found.startswith("event trigger other would be left out")


def test_a_definition_that_a_superuser_must_not_execute_is_named() -> None:
    text = f"CREATE FUNCTION public.f() RETURNS int LANGUAGE sql LEAKPROOF RETURN 1; {EVENT_TRIGGER}"
    (found,) = findings(text, objects=LISTED)
    assert found.startswith("function public.f() would be refused") and "expression" in found


def test_without_a_signature_all_of_them_are_named() -> None:
    text = f"CREATE FUNCTION public.f() RETURNS int LANGUAGE sql LEAKPROOF AS 'SELECT 1'; {EVENT_TRIGGER}"
    found = findings(text, objects=LISTED, refuse_objects="the backup is not signed")
    assert "function public.f() would be refused: the backup is not signed" in found
    assert "event trigger e would be refused: the backup is not signed" in found
