# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import itertools

import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine.errors import DumpIncomplete, DumpSyntax
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.dumptext import (
    scanner as dumptext_scanner,
)
from hypothesis import example, given, settings
from hypothesis import strategies as st

HEADER = b"--\n-- PostgreSQL database dump\n--\n\n"
FOOTER = b"--\n-- PostgreSQL database dump complete\n--\n\n"


def scan(text, cuts=None):
    """Statements as bytes, COPY blocks as (table, rows), for *text* given in one piece or cut at the offsets *cuts*."""
    scanner = dumptext_scanner.Scanner()
    found = []
    edges = [0, *sorted(cuts or []), len(text)]
    for begin, end in itertools.pairwise(edges):
        for event in scanner.feed(text[begin:end]):
            if isinstance(event, dumptext_scanner.CopyStart):
                found.append((event.table, b""))
            elif isinstance(event, dumptext_scanner.CopyData):
                assert event.data
                found[-1] = (found[-1][0], found[-1][1] + event.data)
            elif isinstance(event, dumptext_scanner.Statement):
                found.append(event.text)
    scanner.finish()
    return found


def scan_bytewise(text):
    return scan(text, range(1, len(text)))


WHOLE_STATEMENTS = {
    "plain": b"SELECT 1",
    "two strings": b"SELECT 'a;''b', ';'",
    "backslash ends no plain string": b"SELECT '\\', ';\\'",
    "escape string": b"SELECT E'it\\'s; \\\\', e';\\''",
    "escape string after an operator": b"SELECT 1||E'\\';'",
    "name that ends in e": b"SELECT type'\\', ';\\'",
    "escape string goes on": b"SELECT E'a'\n'b\\';'",
    "escape string goes on after a comment": b"SELECT E'a' -- it's\n  -- more; '\n 'b\\';'",
    "escape string does not go on in the line": b"SELECT E'a' 'b\\' , ';'",
    "doubled quote in an escape string": b"SELECT E'a''\\';'",
    "unicode string": b"SELECT U&'\\0041;\\', ';'",
    "quoted name": b'SELECT "a;""b", ";"',
    "dollar quote": b"SELECT $$;'\"$$",
    "tagged dollar quote": b"SELECT $a$ ; $$ $b$ $a $a$",
    "dollar quote ends after a dollar": b"SELECT $a$ ;$a2$ $a$",
    "dollar in a name": b"SELECT a$b$, c$$",
    "parameter": b"SELECT $1, $2",
    "unicode tag": "SELECT $тег$;$тег$".encode(),
    "line comment": b"SELECT 1 -- it's; $$ /* \n, 2",
    "comment": b"SELECT 1 /* it's; */, 2",
    "nested comment": b"SELECT 1 /* a /* b; */ ; c */, 2",
    "comment of stars": b"SELECT 1 /***;***/, 2",
    "comment after an operator": b"SELECT 2*/*;*/3",
    "operators": b"SELECT 1 - -1 / 2 @- 3",
    "rule": b"CREATE RULE r AS ON INSERT TO t DO INSTEAD ( UPDATE a SET b = ')'; DELETE FROM c; )",
    "rule, or replace": b"create or /* ; */ replace rule r AS ON INSERT TO t DO (SELECT 1; SELECT (2);)",
    "body": b"CREATE FUNCTION f() RETURNS int\n BEGIN ATOMIC\n SELECT 1;\n SELECT CASE WHEN x THEN 1 END;\nEND",
    "body with names like its end": b"CREATE PROCEDURE p() BEGIN ATOMIC SELECT 1; SELECT end_, bend FROM case_; END",
    "body with strings": b"CREATE FUNCTION f() BEGIN --\nATOMIC SELECT 'end', $$end;$$; SELECT E'\\'end;'; END",
    "routine called begin": b"CREATE FUNCTION begin(atomic int) RETURNS int LANGUAGE sql AS $$SELECT 1;$$",
    "routine in the old way": b"CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS $_$ BEGIN RETURN $1; END; $_$",
    "word atomic in a string": b"CREATE FUNCTION f(a text DEFAULT 'begin atomic') RETURNS int LANGUAGE sql AS $$;$$",
    "COPY in a string": b"SELECT 'x\nCOPY t FROM stdin;\n\\.\n'",
    "COPY in a body": b"CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS $$\nCOPY t FROM stdin;\n1\n\\.\n$$",
    "COPY from a file": b"COPY t FROM '/tmp/from stdin'",
    "COPY to": b"COPY (SELECT 1) TO stdout",
    "text like pg_dump's end": b"SELECT '\n-- PostgreSQL database dump\n'",
    "names beyond ASCII": "SELECT é'\\', \"ü;\"".encode(),
    "ends in a letter of END": b"COMMIT",
}


@pytest.mark.parametrize("statement", WHOLE_STATEMENTS.values(), ids=WHOLE_STATEMENTS)
@pytest.mark.parametrize("read", [scan, scan_bytewise])
def test_a_statement_ends_at_its_own_semicolon(statement, read):
    expected = [b"SELECT 'before'", statement, b"INSERT INTO t VALUES (1)"]
    assert read(b"SELECT 'before';\n-- ; '\n/* ; ' */ " + statement + b";INSERT INTO t VALUES (1);\n;\n") == expected


def test_strings_escape_where_they_are_not_conforming():
    text = b"SET standard_conforming_strings = off;SELECT 'a\\';';SET standard_conforming_strings TO on;SELECT '\\';"
    assert scan(text)[1::2] == [b"SELECT 'a\\';'", b"SELECT '\\'"]
    assert scan_bytewise(text) == scan(text)


ROWS = {
    "none": b"",
    "one": b"1\ta\n",
    "empty line": b"\n",
    "escaped marker": b"\\\\.\n\\\\.\n",
    "marker inside a line": b"a\\.\n\\.a\n",
    "null": b"\\N\n\\N\n",
    "looks like statements": b"GRANT ALL ON t TO x;\n'\n$$\n/*\nALTER TABLE t OWNER TO x;\nCOPY u FROM stdin;\n",
    "looks like the end": b"--\n-- PostgreSQL database dump complete\n--\n",
}


@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS)
@pytest.mark.parametrize("read", [scan, scan_bytewise])
def test_rows_end_at_their_marker(rows, read):
    text = b"SELECT 0;\nCOPY public.t (a, b) FROM stdin;\n" + rows + b"\\.\n\n\nSELECT 1;\n"
    assert read(text) == [b"SELECT 0", ("public.t", rows), b"SELECT 1"]
    text = text.replace(b"\n", b"\r\n")
    assert read(text) == [b"SELECT 0", ("public.t", rows.replace(b"\n", b"\r\n")), b"SELECT 1"]


@pytest.mark.parametrize(
    ("statement", "table"),
    [
        ('COPY public."from stdin;" ("a)", b) FROM stdin', 'public."from stdin;"'),
        ('copy "a""b" from STDIN with (format text)', '"a""b"'),
        ("COPY схема.таблица FROM stdin", "схема.таблица"),
        ("COPY t () FROM stdin", "t"),
    ],
)
def test_copy_names_its_table(statement, table):
    assert scan(statement.encode() + b";  \n1\n\\.\n") == [(table, b"1\n")]


def test_rows_begin_on_the_next_line():
    with pytest.raises(DumpSyntax, match="next line"):
        scan(b"COPY t FROM stdin; SELECT 1;\n\\.\n")


@pytest.mark.parametrize("read", [scan, scan_bytewise])
def test_restrict_is_passed_over(read):
    text = b"\xef\xbb\xbf" + HEADER + b"\\restrict aB1\n\nSELECT 1;\n" + FOOTER + b"\\unrestrict aB1"
    assert read(text) == [b"SELECT 1"]


@pytest.mark.parametrize("read", [scan, scan_bytewise])
@pytest.mark.parametrize(
    ("text", "name"),
    [
        (b"SELECT 1;\n\\! touch /tmp/x\n", r"\\\\ "),
        (b"\\connect other\n", r"\\connect"),
        (b"SELECT 1 \\gexec\n", r"\\gexec"),
        (b"\\restrict a b\n", r"\\restrict"),
        (b"SELECT 1\n\\restrict a\n;", r"\\restrict"),
        (b"\\copy t FROM PROGRAM 'secret'\n", r"\\copy"),
    ],
)
def test_meta_commands_are_refused(text, name, read):
    with pytest.raises(DumpSyntax, match=name if not name.startswith(r"\\\\ ") else "meta-command") as refused:
        read(text)
    assert "secret" not in str(refused.value)


INCOMPLETE = {
    "nothing": b"",
    "only blanks": b"\n \n",
    "statement": b"SELECT 1",
    "string": b"SELECT 'a;",
    "escape string": b"SELECT E'a';\n SELECT E'",
    "escape string's end": b"SELECT E'a'",
    "dollar quote": b"SELECT $$ a; $",
    "comment": b"SELECT 1; /* a",
    "comment in a statement": b"SELECT 1 -- ;",
    "rows": b"COPY t FROM stdin;\n1\n",
    "rows' marker": b"COPY t FROM stdin;\n1\n\\.",
    "copy statement": b"COPY t FROM stdin;",
    "body": b"CREATE FUNCTION f() BEGIN ATOMIC SELECT 1;",
    "no closing comment": HEADER + b"SELECT 1;\n",
    "half a statement after the closing comment": HEADER + FOOTER + b"SELECT 1",
    "half a block of rows after the closing comment": HEADER + FOOTER + b"COPY t FROM stdin;\n1\n",
    "a second dump without an end": HEADER + FOOTER + HEADER,
}


@pytest.mark.parametrize("text", INCOMPLETE.values(), ids=INCOMPLETE)
def test_an_incomplete_text_is_told(text):
    for read in (scan, scan_bytewise):
        with pytest.raises(DumpIncomplete):
            read(text)


@pytest.mark.parametrize(
    "text",
    [
        b"SELECT 1;",
        HEADER + FOOTER,
        HEADER + FOOTER.rstrip(),
        HEADER + FOOTER + HEADER + FOOTER,
        # Written by hand; psql runs it.
        HEADER + FOOTER + b"SELECT 1;",
    ],
)
def test_a_complete_text_is_taken(text):
    scan(text)


def test_only_the_closing_comment_at_the_very_end_proves_a_dump_of_ours():
    scanner = dumptext_scanner.Scanner()
    assert not list(scanner.feed(HEADER + FOOTER))
    scanner.finish()
    assert scanner.complete
    for _event in scanner.feed(b"SELECT 1;"):
        pass
    scanner.finish()
    assert not scanner.complete


@pytest.mark.parametrize("read", [scan, scan_bytewise])
@pytest.mark.parametrize("columns", [b"", b' (a, "b)")'])
def test_rows_with_oids_are_refused_by_the_name_of_their_table(columns, read):
    with pytest.raises(DumpSyntax, match=r'public\."a\\x1b" begin with OIDs') as refused:
        read(b'COPY public."a\x1b"' + columns + b" WITH OIDS FROM stdin;\n16384\t1\n\\.\n")
    assert "--oids" in refused.value.hint


def test_every_cut_of_a_dump_is_told():
    dump = HEADER + b"CREATE TABLE t (a text);\nCOPY t (a) FROM stdin;\nx\n\\.\n\nSELECT 1;\n" + FOOTER
    for end in range(dump.index(b"complete") + len(b"complete") - 1):
        with pytest.raises(DumpIncomplete):
            scan(dump[:end])


FRAGMENTS = st.sampled_from(
    [
        *(b"' '' \" $ $$ $a$ \\ \\\\ ; - -- / /* */ ( ) \n \r\n E' e a $1 begin atomic case end".split(b" ")),
        b"COPY t FROM stdin;\n",
        b"COPY t FROM stdin;\r\n",
        b"\n\\.\n",
        b"\\.\r\n",
        b"\n-- PostgreSQL database dump complete\n",
        b"CREATE FUNCTION f() ",
        b"CREATE RULE ",
        b"SET standard_conforming_strings = off;",
        b" ",
        b"\xc3",
        b"x" * 40,
    ]
)


def outcome(text, cuts):
    try:
        return scan(text, cuts)
    except (DumpIncomplete, DumpSyntax) as error:
        return type(error)


@settings(max_examples=600, deadline=None)
@given(st.lists(FRAGMENTS, max_size=30).map(b"".join), st.data())
@example(b"E'a'\n'b\\';'", None)
@example(b"\\\n", None)
def test_the_cuts_make_no_difference(text, data):
    whole = outcome(text, [])
    assert outcome(text, range(1, len(text))) == whole
    if data is not None:
        cuts = data.draw(st.lists(st.integers(0, len(text)), max_size=8))
        assert outcome(text, cuts) == whole


def test_a_statement_may_be_large():
    statement = b"SELECT '" + b"x" * (5 << 20) + b"'"
    assert scan(statement + b";SELECT 1;", range(1 << 16, len(statement), 1 << 16)) == [statement, b"SELECT 1"]


def test_a_statement_longer_than_the_server_takes_is_refused(monkeypatch):
    monkeypatch.setattr(dumptext_scanner, "STATEMENT_LIMIT", 1000)
    with pytest.raises(DumpSyntax, match="longer"):
        scan(b"SELECT '" + b"x" * 2000, range(100, 2000, 100))


def test_an_endless_comment_is_refused():
    with pytest.raises(DumpSyntax, match="longer"):
        scan(b"--" + b"x" * (3 << 20), [1 << 18, 2 << 20])
