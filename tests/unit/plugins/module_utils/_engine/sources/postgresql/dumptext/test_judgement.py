# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a restore would refuse or leave out, found in the text of a dump."""

from __future__ import annotations

import io

from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.dumptext import events
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.dumptext.judgement import (
    MOST,
    Judge,
)


def findings(text: str, refused: dict[str, str] | None = None) -> tuple[str, ...]:
    judge = Judge(encoding="utf-8", refuse_extension=(refused or {}).get)
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
