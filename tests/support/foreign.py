# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Text as an attacker would write it where a terminal, a log or a shell might obey it."""

from __future__ import annotations

import unicodedata

#: By what it tries. None may reach an output as it is.
FOREIGN = {
    "escape sequence": "\x1b[2J\x1b[31m",
    "title of the window": "\x1b]0;title\x07",
    "C1 control": "\x9b2J",
    "a row of its own": "x\n2030-01-01T00:00:00Z\tshop\t1\tcomplete\tdb/shop/forged.sql.gz.age\tlatest",
    "carriage return": "x\rlatest",
    "tab": "x\tcomplete\tlatest",
    "backspace": "x\b\b\bdb",
    "next line": "x\x85latest",
    "line separator": "x\u2028latest",
    "right to left": "\u202eega.zg.lqs\u202c",
    "isolate": "\u2066x\u2069",
    "delete": "x\x7f",
    "zero width": "x\u200b",
    "selector": "x\ufe0f",
    "filler": "x\u3164",
    "tag": "x\U000e0041",
    "no-break space": "x\u00a0y",
}
#: Texts that UTF-8 can't hold: a half of a pair, as JSON can escape it, and a byte that was no character.
UNENCODABLE = {"half of a pair": "x\ud800y", "other half": "x\udfffy", "escaped byte": "x\udcff"}
#: What a shell obeys; a terminal shows it as it is.
COMMANDS = {
    "substitution": "$(touch x)",
    "backtick": "`touch x`",
    "quotes": "'; touch x; '",
    "double quotes": '"; touch x; "',
    "variable": "${HOME}",
    "separator": "x;touch x",
    "option": "--trust=unsigned",
    "backslash": "x\\x1b",
}

#: Whatever a line may hold besides what is to be read in it.
_LINE_ENDS = {"\n"}


def commanding(text: str) -> set[str]:
    """Characters of data that a terminal would obey, or that UTF-8 can't encode; what is only invisible is not."""
    overriding = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
    return {
        character
        for character in text
        if unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")
        or unicodedata.bidirectional(character) in overriding
    } - _LINE_ENDS


def obeyed(text: str) -> set[str]:
    """Characters of an output that a terminal or a reader of lines would obey, or that can't be seen."""
    return {character for character in text if not character.isprintable()} - _LINE_ENDS
