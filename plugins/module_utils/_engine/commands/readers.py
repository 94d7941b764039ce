# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The command ``who-can-read``."""

from __future__ import annotations

import sys
import typing as t

from ..domain import human, recipients
from ..keys import backups
from ..printing import printable, printable_name
from ..stores import registry
from . import common

if t.TYPE_CHECKING:
    from ..keys.backups import Held
    from ..reporting import Reporter


def register(command: common.Command) -> None:
    """Add the command."""
    parser = command(
        "who-can-read",
        run,
        "show the recipients of each backup",
        "Show which age recipients can decrypt each backup, newest first, by what its manifest says, and who signed\n"
        "that. Backups of version 0.1 and of older tools do not record it.",
    )
    common.add_database_flag(parser)


def run(options: common.Options, _reporter: Reporter) -> int:
    """Print the recipients; the exit status is returned."""
    host = common.read_profile(options)
    store = registry.open_store(host.store())
    known = recipients.owners(host.subjects())
    held = [
        one for subject in host.selected(options.database) for one in backups.held(store, subject, trust=host.trust())
    ]
    if options.json:
        common.write_json({"backups": [_as_dict(one, known) for one in held]})
        return common.OK
    for warning in host.warnings:
        sys.stderr.write(f"warning: {printable(warning)}\n")
    for one in held:
        sys.stdout.write(f"{printable_name(one.backup.key)}\n")
        for line in _lines(one, known):
            sys.stdout.write(f"  {line}\n")
    others = [one for one in held if one.is_for_others]
    if others:
        sys.stdout.write(
            f"{human.counted(len(others), 'backup')} encrypted to other recipients than the list has now:"
            " infrazero-database rekey changes that\n"
        )
    return common.OK


def _lines(one: Held, known: recipients.Owners) -> t.Iterator[str]:
    backup = one.backup
    latest = ", the latest" if backup.latest else ""
    yield f"{printable_name(backup.database)}, created {backup.created_at:%Y-%m-%d %H:%M:%SZ}{latest}"
    if one.signed_by is not None:
        yield f"signed by {printable_name(one.signed_by.name)} ({one.signed_by.key})"
    else:
        yield f"NOT VERIFIED: {printable(one.reason)}"
    if one.recipients is None:
        yield "recipients are not recorded"
    for recipient in one.recipients or ():
        yield f"recipient {recipients.labelled(recipient, known)}"


def _as_dict(one: Held, known: recipients.Owners) -> dict[str, t.Any]:
    backup, named = one.backup, one.recipients
    return {
        "database": backup.database,
        "key": backup.key,
        "created_at": f"{backup.created_at:%Y-%m-%dT%H:%M:%SZ}",
        "state": backup.state,
        "latest": backup.latest,
        "recipients": None
        if named is None
        else [{"recipient": text, "owners": list(known.get(recipients.normal(text), ()))} for text in named],
        "as_listed": None if named is None else not one.is_for_others,
        "signed_by": None if one.signed_by is None else {"name": one.signed_by.name, "key": one.signed_by.key},
        "not_verified": None if one.signed_by is not None else printable(one.reason),
    }
