# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""What the user probably meant by a misspelt name: a key of an entry, a setting of ``db.env``, a variable."""

from __future__ import annotations

import difflib
import typing as t

from ..printing import printable

#: How alike two names must be, from 0 to 1. At 0.6, the default of difflib, unrelated names are suggested.
_CUTOFF = 0.8
#: Characters of an unknown name that are shown: the text may be anything, such as a value in the wrong place.
_SHOWN = 64


def nearest(name: str, known: t.Iterable[str]) -> str | None:
    """The one of *known* that *name* is most likely a misspelling of.

    Upper and lower case, ``-`` and ``_`` make no difference, and neither does what all the names begin with, such as
    ``infrazero_``: otherwise that part alone would make any two of them look alike.

    :returns: ``None`` if none of *known* is similar.
    """
    candidates = {_plain(one): one for one in known}
    written = _plain(name)
    shared = _shared_words([written, *candidates])
    stems = {one[shared:]: original for one, original in candidates.items()}
    found = difflib.get_close_matches(written[shared:], stems, n=1, cutoff=_CUTOFF)
    return stems[found[0]] if found else None


def unknown(name: str, known: t.Iterable[str], what: str) -> str:
    """The message about an unknown *name*, such as ``nmae is not an option; did you mean name?``.

    :param what: what *name* should have been, with its article: ``an option``.
    """
    message = f"{printable(name, limit=_SHOWN)} is not {what}"
    suggestion = nearest(name, known)
    return f"{message}; did you mean {suggestion}?" if suggestion else message


def _plain(name: str) -> str:
    return name.casefold().replace("-", "_")


def _shared_words(names: t.Sequence[str]) -> int:
    """How many characters all *names* begin with, up to and including the last ``_``."""
    first, last = min(names), max(names)
    length = next((i for i, (a, b) in enumerate(zip(first, last)) if a != b), min(len(first), len(last)))
    return first.rfind("_", 0, length) + 1
