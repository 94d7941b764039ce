# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compares two dumps statement by statement, each table's rows as one."""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import io
import re
import typing as t

from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.dumptext import (
    events,
    statements,
)
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.dumptext.scanner import (
    Statement,
)

#: What pg_dump --create writes for psql between the statements about the database itself and its contents.
CONNECT = re.compile(rb"^\\connect .*\n", re.MULTILINE)

OWNER, PRIVILEGES, SEARCH_PATH, OTHER = "owner", "privileges", "search_path of the user", "anything else"
KINDS = (OTHER, OWNER, PRIVILEGES, SEARCH_PATH)


@dataclasses.dataclass(frozen=True)
class Difference:
    """Statements of one kind that only one of the dumps has."""

    kind: str
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]

    @property
    def count(self) -> int:
        """A statement that both have in another wording counts once."""
        return max(len(self.only_first), len(self.only_second))


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What came of it.

    :param counts: statements of the first dump, by kind; what is in it of rows counts as one for each table.
    """

    counts: t.Mapping[str, int]
    differences: tuple[Difference, ...]

    def differing(self, kind: str) -> int:
        """How many statements of *kind* differ."""
        return sum(one.count for one in self.differences if one.kind == kind)


def compare(first: bytes, second: bytes) -> Comparison:
    """Compare the statements of two dumps that ``pg_dump --create`` wrote, whatever their order."""
    ours, theirs = _statements(first), _statements(second)
    differences = []
    for kind in KINDS:
        only_first = _listed((ours - theirs), kind)
        only_second = _listed((theirs - ours), kind)
        if only_first or only_second:
            differences.append(Difference(kind, only_first, only_second))
    counts = collections.Counter[str]()
    for (kind, _text), number in ours.items():
        counts[kind] += number
    return Comparison(dict(counts), tuple(differences))


def _listed(counter: collections.Counter[tuple[str, str]], kind: str) -> tuple[str, ...]:
    return tuple(sorted(text for (its_kind, text) in counter.elements() if its_kind == kind))


def _statements(dump: bytes) -> collections.Counter[tuple[str, str]]:
    found = collections.Counter[tuple[str, str]]()
    rows = dump.find(b"\nCOPY ")
    dump = CONNECT.sub(b"", dump[:rows]) + dump[rows:]
    for statement in events.read(io.BytesIO(dump)):
        text = statement.text.decode()
        if isinstance(statement, events.CopyBlock):
            digest = hashlib.sha256()
            count = 0
            while data := statement.read():
                digest.update(data)
                count += data.count(b"\n")
            text += f"; {count} rows, SHA-256 {digest.hexdigest()}"
        found[kind_of(statement, text), text] += 1
    return found


def kind_of(statement: Statement, text: str) -> str:
    """Return the kind by which a statement is counted."""
    parsed = statements.classify(statement)
    if isinstance(parsed, statements.OwnerChange) or re.match(r"ALTER DATABASE \S+ OWNER TO ", text):
        return OWNER
    if text.startswith(("GRANT ", "REVOKE ", "ALTER DEFAULT PRIVILEGES ")):
        return PRIVILEGES
    if re.match(r"ALTER ROLE \S+ IN DATABASE \S+ SET search_path ", text):
        return SEARCH_PATH
    return OTHER
