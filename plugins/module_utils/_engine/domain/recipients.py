# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Age recipients: whose they are, and the answer to a key that does not open a backup."""

from __future__ import annotations

import typing as t

from ..errors import WrongIdentity
from ..printing import MAX_NAME, printable, printable_name
from .manifest import GLOBALS
from .subjects import Subject

#: Names of the databases (or ``cluster globals``) that each recipient, in its :func:`normal` form, belongs to.
Owners = t.Mapping[str, tuple[str, ...]]

#: A manifest may list any number; an answer shows the first ones.
_MOST_SHOWN = 10


def normal(recipient: str) -> str:
    """The form in which equal recipients are equal: an SSH key without its comment, an age key in lower case."""
    words = recipient.split()
    return " ".join(words[:2]) if recipient.startswith(("ssh-", "ecdsa-", "sk-")) else recipient.strip().lower()


def same(one: t.Iterable[str], other: t.Iterable[str]) -> bool:
    """Whether two lists of recipients mean the same keys, in any order."""
    return {normal(each) for each in one} == {normal(each) for each in other}


def owners(subjects: t.Iterable[Subject]) -> Owners:
    """The owners of all recipients of *subjects*."""
    found: dict[str, list[str]] = {}
    for subject in subjects:
        name = subject.name if subject.kind == GLOBALS else f"database {subject.name}"
        for recipient in subject.recipients:
            found.setdefault(normal(recipient), []).append(name)
    return {recipient: tuple(dict.fromkeys(names)) for recipient, names in found.items()}


def labelled(recipient: str, known: Owners) -> str:
    """*recipient* with its owners, if there are any: ``age1… (database shop)``."""
    names = known.get(normal(recipient), ())
    shown = printable(recipient, limit=MAX_NAME)
    return f"{shown} ({', '.join(map(printable_name, names))})" if names else shown


def explain(error: WrongIdentity, *, url: str, recorded: t.Sequence[str] | None, owners: Owners) -> WrongIdentity:
    """The answer to a wrong key: whom the object is encrypted to, and whose key was given.

    :param recorded: recipients in the manifest; ``None``: it names none.
    """
    if error.given is None:
        return error
    if recorded:
        shown = ", ".join(labelled(one, owners) for one in recorded[:_MOST_SHOWN])
        more = f" and {len(recorded) - _MOST_SHOWN} more" if len(recorded) > _MOST_SHOWN else ""
        cause = f"the manifest says that it is encrypted to {shown}{more}"
        hint = "give the private key of one of these recipients"
    else:
        cause = f"{error.cause}; no manifest names the recipients, as with backups of older tools"
        hint = "give the private key that the backup was made for; a database's earlier keys count, too"
    named = [name for recipient in error.given for name in owners.get(normal(recipient), ())]
    if error.given:
        cause += f"; the given key belongs to {', '.join(map(printable, error.given))}"
        if named:
            cause += f": this is the key of {', '.join(map(printable_name, dict.fromkeys(named)))}"
    else:
        cause += "; the given key is an SSH key"
    better = WrongIdentity(
        f"the given age private key does not open {printable(url)}", phase=error.phase, cause=cause, hint=hint
    )
    better.given = error.given
    return better
