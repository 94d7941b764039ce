# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The command ``keygen``."""

from __future__ import annotations

import datetime
import json
import os
import pathlib
import sys
import typing as t

from ..errors import ConfigurationError
from ..printing import printable, shell_word
from ..streams import age
from . import common

if t.TYPE_CHECKING:
    from ..reporting import Reporter


def register(command: common.Command) -> None:
    """Add the command."""
    parser = command(
        "keygen",
        run,
        "create an age key pair",
        "Create the age key pair of a database. The private key goes to a new file, which only you can read, or to\n"
        "standard output; what the list of databases needs is printed. Needs no db.env: run it away from the hosts.",
    )
    place = parser.add_mutually_exclusive_group(required=True)
    place.add_argument("--output", metavar="FILE", type=pathlib.Path, help="new file for the private key, mode 0600")
    place.add_argument("--stdout", action="store_true", help="print the private key on standard output")
    parser.add_argument(
        "--escrow",
        metavar="RECIPIENT",
        action="append",
        default=[],
        help="age recipient that can read the backups, too; may be given several times",
    )


def run(options: common.Options, _reporter: Reporter) -> int:
    """Create the pair; the exit status is returned."""
    identity, recipient = age.generate()
    recipients = [recipient, *(one.strip() for one in options.escrow)]
    age.parse_recipients(recipients)
    now = datetime.datetime.now(datetime.timezone.utc)
    text = f"# created: {now:%Y-%m-%dT%H:%M:%SZ}\n# public key: {recipient}\n{identity.reveal()}\n"
    if options.output is not None:
        _write(options.output, text)
    field = recipients if len(recipients) > 1 else recipient
    if options.json:
        secret = {"identity": identity.reveal()} if options.stdout else {"file": str(options.output)}
        common.write_json({"recipient": recipient, "backup_age_public_key": field, **secret})
        return common.OK
    # Beside a key on standard output nothing else may be there: it is likely to be redirected to a file.
    out = sys.stderr if options.stdout else sys.stdout
    if options.stdout:
        sys.stdout.write(text)
    out.write(
        f"recipient: {recipient}\nin the entry of the list: {json.dumps({'backup_age_public_key': field})[1:-1]}\n"
    )
    word = None if options.output is None else shell_word(str(options.output))
    if word is not None:
        out.write(f"keep {word} away from the database hosts, in two places; without it no backup can be restored\n")
    return common.OK


def _write(path: pathlib.Path, text: str) -> None:
    """Write *text* to a file that did not exist.

    :raises ConfigurationError: if it can't be created; nothing is left of it then.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise ConfigurationError(
            f"{printable(str(path))} can't be created",
            cause=exc.strerror or "",
            hint="name a file that does not exist yet: a key is never overwritten",
        ) from None
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as exc:
        path.unlink()
        raise ConfigurationError(
            f"{printable(str(path))} can't be written", cause=exc.strerror or "", hint="name a file on another disk"
        ) from None
