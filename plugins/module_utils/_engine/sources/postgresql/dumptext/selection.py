# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Chooses what of a dump is loaded for a restore of some of its tables.

The schema is loaded whole: all schemas, types, functions, tables and views, with their privileges and policies.  Of
tables that were not chosen, rows, values of their sequences, indexes, triggers, rules, statistics, foreign keys and
exclusion constraints are left out.  Their primary keys and unique constraints are created, because views and functions
may depend on them; without rows they cost nothing.

Names are read from the statements by the server's own rules, never searched for in their text.
"""

from __future__ import annotations

import re
import typing as t

from ....domain import suggestions
from ....errors import ConfigurationError, RestoreRefused
from ....printing import printable
from .events import CopyBlock
from .scanner import Statement
from .statements import _Cursor as Cursor
from .statements import decode, quote

#: Schema and name.
Name = tuple[str, str]

#: What needs no quotes.
_PLAIN = re.compile("[a-z_][a-z0-9_]*")
_TABLES = frozenset({"TABLE", "FOREIGN TABLE", "MATERIALIZED VIEW", "TEMPORARY TABLE", "UNLOGGED TABLE"})
_LARGE_OBJECTS = frozenset({"lo_close", "lo_creat", "lo_create", "lo_open", "lo_unlink", "lowrite"})
#: Verbs that a dump uses only once its rows have begun.
_ROWS = frozenset({"insert"})


def parse(text: str) -> Name:
    """Read a table's name with its schema, as it is written in SQL: unquoted letters are lower case.

    :raises ConfigurationError: with the remedy.
    """
    cursor = Cursor(text)
    parts = cursor.parts()
    if parts is None or not cursor.ended or len(parts) > 2:
        raise ConfigurationError(
            f"{printable(text)} is not the name of a table",
            hint='write schema.table as in SQL, such as public.orders or sales."Order Lines"',
        )
    if len(parts) == 1:
        raise ConfigurationError(
            f"{printable(text)} does not name a schema",
            hint=f"write it with its schema, such as public.{printable(text)}",
        )
    return parts[0], parts[1]


def spelled(name: Name) -> str:
    """The name as :func:`parse` reads it, with quotes only where it needs them."""
    return ".".join(part if _PLAIN.fullmatch(part) else quote(part) for part in name)


class Selection:
    """Takes the statements of a dump in their order and decides which are loaded.

    With a partitioned table its partitions are chosen, and with any table those that inherit from it.

    :param texts: names of the chosen tables, for :func:`parse`.
    :ivar written: the chosen tables that had rows, by their names in their ``COPY`` statements.
    """

    def __init__(self, texts: t.Iterable[str]) -> None:
        self._wanted = [parse(text) for text in texts]
        self._chosen = set(self._wanted)
        self._tables: set[Name] = set()
        self._children: dict[Name, set[Name]] = {}
        self._owners: dict[Name, Name] = {}  # of sequences: the tables
        self._indexes: set[Name] = set()  # that are loaded, also those of constraints
        self._statistics: set[Name] = set()
        self._constraints: set[tuple[Name, str]] = set()  # of chosen tables, but left out
        self._schema = "public"  # of names without one
        self._notes: dict[tuple[str, str, str], int] = {}
        self.written: set[str] = set()

    # Results

    def notes(self) -> t.Iterator[tuple[str, str, str, int]]:
        """What of the chosen tables, or of no table, was left out: kind, name, reason, number of statements."""
        for (kind, what, why), count in self._notes.items():
            yield kind, what, why, count

    def require(self, others: t.Iterable[str] = ()) -> None:
        """Raise unless the statements have created all chosen tables.

        :param others: further tables of the dump, by their names in ``COPY`` statements.
        :raises RestoreRefused: naming the most similar table.
        """
        known = {*self._tables, *filter(None, (self._named(Cursor(text)) for text in others))}
        missing = [name for name in self._wanted if name not in known]
        if not missing:
            return
        texts = [self._unknown(name, known) for name in missing]
        raise RestoreRefused(
            "the backup does not have all tables that were chosen",
            cause=printable("; ".join(texts)),
            hint="nothing was changed: correct the name, with its schema and as the database spells it",
        )

    @staticmethod
    def _unknown(name: Name, known: t.AbstractSet[Name]) -> str:
        elsewhere = sorted(other for other in known if other[1] == name[1])
        if elsewhere:
            return f"{spelled(name)} is not a table of the backup; did you mean {spelled(elsewhere[0])}?"
        return suggestions.unknown(spelled(name), map(spelled, sorted(known)), "a table of the backup")

    # Statements

    def takes(self, statement: Statement, *, encoding: str) -> bool:
        """Whether *statement* is to be loaded.

        :param encoding: Python codec of the dump's client_encoding.
        """
        cursor = Cursor(decode(statement, encoding))
        verb = cursor.any_word()
        if isinstance(statement, CopyBlock):
            chosen = self._named(cursor) in self._chosen
            if chosen:
                self.written.add(statement.table)
            return chosen
        handler = _HANDLERS.get(verb or "")
        return handler is None or handler(self, cursor)

    def _keeps(self, table: Name | None) -> bool:
        """Whether what belongs to *table* is loaded: it was chosen, or it is a view or unknown."""
        return table is None or table not in self._tables or table in self._chosen

    def _named(self, cursor: Cursor) -> Name | None:
        parts = cursor.parts()
        return None if parts is None else self._name(parts)

    def _name(self, parts: t.Sequence[str]) -> Name:
        return (parts[-2], parts[-1]) if len(parts) > 1 else (self._schema, parts[0])

    def _descends(self, child: Name | None, parent: Name | None) -> None:
        if child is None or parent is None:
            return
        self._children.setdefault(parent, set()).add(child)
        if parent in self._chosen:
            self._choose(child)

    def _choose(self, table: Name) -> None:
        """Choose *table* and all that descends from it; a hostile dump may have circles."""
        waiting = [table]
        while waiting:
            each = waiting.pop()
            if each not in self._chosen:
                self._chosen.add(each)
                waiting += self._children.get(each, ())

    def _note(self, kind: str, what: str, why: str) -> bool:
        key = (kind, what, why)
        self._notes[key] = self._notes.get(key, 0) + 1
        return False

    # CREATE

    def _create(self, cursor: Cursor) -> bool:
        cursor.skip_any("or", "replace")
        kind = cursor.kind()
        if kind in _TABLES:
            self._create_table(cursor)
            return True
        if kind in ("INDEX", "UNIQUE INDEX"):
            return self._create_index(cursor)
        if kind in ("TRIGGER", "CONSTRAINT TRIGGER"):
            return cursor.seek("on") is None or self._keeps(self._named(cursor))
        if kind == "RULE":
            # ON SELECT makes a view of what older versions of pg_dump create as a table.
            event = cursor.seek("select", "insert", "update", "delete")
            return event in (None, "select") or cursor.seek("to") is None or self._keeps(self._named(cursor))
        if kind == "STATISTICS":
            name = self._named(cursor)
            keeps = cursor.seek("from") is None or self._keeps(self._named(cursor))
            if keeps and name is not None:
                self._statistics.add(name)
            return keeps
        return True

    def _create_table(self, cursor: Cursor) -> None:
        cursor.skip_any("if", "not", "exists")
        table = self._named(cursor)
        if table is None:
            return
        self._tables.add(table)
        if cursor.words("partition", "of"):
            self._descends(table, self._named(cursor))
        elif cursor.seek("inherits") and cursor.symbol("("):
            self._descends(table, self._named(cursor))
            while cursor.symbol(","):
                self._descends(table, self._named(cursor))
                cursor.forget()

    def _create_index(self, cursor: Cursor) -> bool:
        cursor.skip_any("concurrently", "if", "not", "exists")
        index = None if cursor.words("on") else cursor.name()
        if index is not None:
            cursor.words("on")
        cursor.words("only")
        table = self._named(cursor)
        keeps = self._keeps(table)
        if keeps and index is not None and table is not None:
            self._indexes.add((table[0], index))
        return keeps

    # ALTER

    def _alter(self, cursor: Cursor) -> bool:
        kind = cursor.kind()
        if kind == "LARGE OBJECT":
            return False
        if kind == "TRIGGER":
            return cursor.seek("on") is None or self._keeps(self._named(cursor))
        if kind not in (*_TABLES, "INDEX", "SEQUENCE", "STATISTICS"):
            return True
        cursor.skip_any("if", "exists", "only")
        name = self._named(cursor)
        if name is None:
            return True
        if kind == "INDEX":
            if cursor.words("attach", "partition"):
                return {name, self._named(cursor)} <= self._indexes
            return name in self._indexes
        if kind == "STATISTICS":
            return name in self._statistics
        if kind == "SEQUENCE":
            self._alter_sequence(name, cursor)
            return True
        return self._alter_table(name, cursor)

    def _alter_sequence(self, sequence: Name, cursor: Cursor) -> None:
        column = cursor.parts() if cursor.words("owned", "by") else None
        if column is not None and len(column) > 1:
            self._owners[sequence] = self._name(column[:-1])

    def _alter_table(self, table: Name, cursor: Cursor) -> bool:
        if cursor.words("attach", "partition"):
            self._descends(self._named(cursor), table)
            return True
        if cursor.words("inherit"):
            self._descends(table, self._named(cursor))
            return True
        if cursor.words("alter"):
            self._alter_column(table, cursor)
            return True
        if cursor.words("add"):
            return self._add(table, cursor)
        if self._keeps(table):
            return True
        if cursor.words("enable") or cursor.words("disable"):
            return cursor.words("row")  # row-level security; anything else is about triggers and rules
        return not any(
            cursor.words(*words) for words in (("cluster", "on"), ("replica", "identity"), ("validate", "constraint"))
        )

    def _alter_column(self, table: Name, cursor: Cursor) -> None:
        """Look for the sequence of an identity column."""
        cursor.words("column")
        if cursor.name() is None or not cursor.words("add", "generated"):
            return
        if cursor.seek("identity") and cursor.symbol("(") and cursor.words("sequence", "name"):
            sequence = self._named(cursor)
            if sequence is not None:
                self._owners[sequence] = table

    def _add(self, table: Name, cursor: Cursor) -> bool:
        """``ALTER TABLE … ADD``: a constraint, or a column."""
        constraint = cursor.name() if cursor.words("constraint") else None
        if cursor.words("primary", "key") or cursor.words("unique"):
            if constraint is not None:
                self._indexes.add((table[0], constraint))
            return True
        if cursor.words("foreign", "key"):
            if not self._keeps(table):
                return False
            other = self._named(cursor) if cursor.seek("references") else None
            if other is None or self._keeps(other):
                return True
            self._constraints.add((table, constraint or ""))
            what = f"{constraint or ''} of {spelled(table)}".lstrip()
            return self._note("foreign key", what, f"it refers to {spelled(other)}, which was not chosen")
        is_constraint = constraint is not None or any(cursor.words(word) for word in ("check", "exclude"))
        return not is_constraint or self._keeps(table)

    # Others

    def _comment(self, cursor: Cursor) -> bool:
        cursor.words("on")
        kind = cursor.kind()
        if kind == "LARGE OBJECT":
            return False
        if kind == "INDEX":
            return self._named(cursor) in self._indexes
        if kind == "STATISTICS":
            return self._named(cursor) in self._statistics
        if kind not in ("CONSTRAINT", "RULE", "TRIGGER"):
            return True
        name = cursor.name()
        if not cursor.words("on") or cursor.words("domain"):
            return True
        table = self._named(cursor)
        return self._keeps(table) and (table, name) not in self._constraints

    def _grant(self, cursor: Cursor) -> bool:
        return cursor.seek("on", "to", "from") != "on" or cursor.kind() != "LARGE OBJECT"

    def _insert(self, cursor: Cursor) -> bool:
        cursor.words("into")
        return self._named(cursor) in self._chosen

    def _refresh(self, cursor: Cursor) -> bool:
        if not cursor.words("materialized", "view"):
            return True
        cursor.words("concurrently")
        if self._named(cursor) in self._chosen:
            return True
        return self._note("rows", "of materialized views", "they were not chosen")

    def _select(self, cursor: Cursor) -> bool:
        """A call of a function, which pg_dump writes for what has no statement of its own."""
        function = cursor.parts()
        if function is None or not cursor.symbol("("):
            return True
        if function[-1] in _LARGE_OBJECTS:
            return self._note("large objects", "", "they belong to no table")
        if function[-1] == "setval":
            text = cursor.value()
            sequence = None if text is None else self._named(Cursor(text))
            return sequence is None or self._keeps(self._owners.get(sequence))
        if function[-1] == "set_config" and cursor.value() == "search_path" and cursor.symbol(","):
            self._set_schema(Cursor(cursor.value() or "").names())
        return True

    def _set(self, cursor: Cursor) -> bool:
        if cursor.words("search_path") and (cursor.symbol("=") or cursor.words("to")):
            self._set_schema(cursor.names())
        return True

    def _set_schema(self, path: t.Sequence[str]) -> None:
        self._schema = path[0] if path else ""


_HANDLERS: dict[str, t.Callable[[Selection, Cursor], bool]] = {
    "alter": Selection._alter,
    "comment": Selection._comment,
    "create": Selection._create,
    "grant": Selection._grant,
    "insert": Selection._insert,
    "refresh": Selection._refresh,
    "revoke": Selection._grant,
    "select": Selection._select,
    "set": Selection._set,
}


def require(
    statements: t.Iterable[Statement], texts: t.Sequence[str], *, encoding: str, counted: t.Iterable[str] | None
) -> None:
    """Raise unless a dump has the tables *texts*, as far as its beginning tells; it is read up to its first rows.

    :param encoding: Python codec of the dump's text.
    :param counted: the tables with rows that the manifest names; ``None``: none does, so the rest of a text that does
        not begin with all tables may have more.
    :raises RestoreRefused: naming the most similar table.
    """
    selection = Selection(texts)
    for statement in statements:
        if isinstance(statement, CopyBlock):
            break
        cursor = Cursor(decode(statement, encoding))
        if cursor.any_word() in _ROWS:
            break
        selection.takes(statement, encoding=encoding)
    else:
        counted = counted or ()
    if counted is not None:
        selection.require(counted)
