# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Write the generated parts of docs/troubleshooting.md: what the engine answers, and the kinds of its errors.

The answers come from a real server and a real store, where each trouble is brought about (tests/support/troubles.py).
What cannot be brought about on this machine keeps its place as it is.  With --check, nothing is written, and the exit
status is 1 if anything would be.
"""

from __future__ import annotations

import argparse
import inspect
import pathlib
import re
import sys
import textwrap
import typing as t

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from conftest import ROOT

# isort: split
from ansible_collections.infrazero.database.plugins.module_utils._engine import errors
from ansible_collections.infrazero.database.plugins.module_utils._engine.commands import common

from tests.support import troubles

PAGE = ROOT / "docs" / "troubleshooting.md"
#: Columns of an answer; a terminal folds it at its own.
_WIDTH = 115
_PART = "<!-- BEGIN generated: {name} (by scripts/troubleshooting.py) -->\n{text}<!-- END generated -->\n"


def answered(found: t.Mapping[str, troubles.Answer], page: str) -> str:
    """The section of each trouble; one without an answer in *found* keeps that of *page*."""
    sections = []
    for name, trouble in troubles.TROUBLES.items():
        if name in found:
            sections.append(_section(trouble, found[name]))
        else:
            known = re.search(
                rf"^### {re.escape(trouble.title)}\n.*?(?=^### |^<!-- END)", page, re.MULTILINE | re.DOTALL
            )
            sections.append(known[0] if known else "")
    return "\n" + "".join(sections)


def _section(trouble: troubles.Trouble, answer: troubles.Answer) -> str:
    text = textwrap.fill(answer.text, width=_WIDTH, break_long_words=False, break_on_hyphens=False)
    return f"### {trouble.title}\n\n```text\n# {trouble.command}\n{text}\n```\n\nExit status {answer.status}.\n\n"


def kinds() -> str:
    """A table of the engine's errors, each below the kind that it is a case of."""
    rows = ["| error | phase | exit status | meaning |", "| --- | --- | --- | --- |"]
    rows += [_row(kind, depth) for kind, depth in _tree(errors.EngineError, 0)]
    return "\n" + "\n".join(rows) + "\n"


def _tree(kind: type[errors.EngineError], depth: int) -> t.Iterator[tuple[type[errors.EngineError], int]]:
    yield kind, depth
    for case in kind.__subclasses__():
        if case.__module__ == errors.__name__:
            yield from _tree(case, depth + 1)


def _row(kind: type[errors.EngineError], depth: int) -> str:
    # The first paragraph: what follows is for those who raise it.
    meaning = " ".join((inspect.getdoc(kind) or "").split("\n\n", maxsplit=1)[0].split())
    meaning = re.sub(r":class:`\.*(\w+)`", r"`\1`", meaning).replace("``", "`").replace("|", "\\|").replace("  ", " ")
    status = common.status_of(kind("message"))
    return f"| {'&nbsp;&nbsp;' * depth}`{kind.__name__}` | `{kind.phase}` | {status} | {meaning} |"


def rendered(page: str, parts: t.Mapping[str, str]) -> str:
    """*page* with its generated parts replaced."""
    for name, text in parts.items():
        pattern = rf"<!-- BEGIN generated: {name} .*?<!-- END generated -->\n"
        new = _PART.format(name=name, text=text)
        page, count = re.subn(pattern, lambda _match, new=new: new, page, flags=re.DOTALL)  # type: ignore[misc]
        if count != 1:
            raise SystemExit(f"{PAGE} has {count} parts {name!r}")
    return page


def current(found: t.Mapping[str, troubles.Answer]) -> str:
    """The page as it should be with the answers *found*."""
    page = PAGE.read_text(encoding="utf-8")
    return rendered(page, {"answers": answered(found, page), "errors": kinds()})


def main() -> int:
    """Entry point; the exit status is returned."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="only compare")
    check = parser.parse_args().check
    with troubles.world() as it:
        text = current(troubles.answers(it))
    if text == PAGE.read_text(encoding="utf-8"):
        return 0
    if not check:
        PAGE.write_text(text, encoding="utf-8")
    print(f"{PAGE.relative_to(ROOT)} {'is not current' if check else 'written'}")
    return int(check)


if __name__ == "__main__":
    raise SystemExit(main())
