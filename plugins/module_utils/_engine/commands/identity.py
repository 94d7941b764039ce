# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The age private key that a command is given: from a descriptor, the environment or a terminal."""

from __future__ import annotations

import getpass
import os
import sys
import typing as t

from ..domain.secret import Secret
from ..errors import ConfigurationError, IdentityMissing

if t.TYPE_CHECKING:
    import argparse

    from ..profile import Profile


def add_flag(parser: argparse.ArgumentParser) -> None:
    """Add ``--identity-fd``."""
    parser.add_argument(
        "--identity-fd",
        metavar="N",
        type=int,
        help="read the age private key from this open file descriptor",
    )


def leave_environment() -> None:
    """Remove the key from the environment, once it is read: a child process must not find it there."""
    os.environ.pop("DB_RESTORE_AGE_PRIVATE_KEY", None)


def given(host: Profile, descriptor: int | None) -> Secret | None:
    """The key in *descriptor*, or else in the settings of the run; ``None``: it was not given."""
    if descriptor is None:
        return t.cast("Secret | None", host.values.get("restore", "age_private_key"))
    return _read(descriptor)


def ask(url: str, *, interactive: bool) -> Secret:
    """Ask for the key on the terminal.

    :param url: of the encrypted object.
    :raises IdentityMissing: if nobody can be asked, or nothing was typed.
    """
    if not interactive or not sys.stdin.isatty():
        raise IdentityMissing(
            f"{url} is encrypted and no age private key was given",
            hint="set DB_RESTORE_AGE_PRIVATE_KEY or DB_RESTORE_AGE_PRIVATE_KEY_FILE, or run on a terminal",
        )
    try:
        text = getpass.getpass("age private key (not shown): ").strip()
    except EOFError:
        text = ""
    if not text:
        raise IdentityMissing("no age private key was typed", hint="paste the line that begins with AGE-SECRET-KEY-1")
    return Secret(text)


def _read(descriptor: int) -> Secret:
    try:
        with os.fdopen(descriptor, "r", encoding="utf-8") as stream:
            text = stream.read().strip()
    except (OSError, UnicodeDecodeError):
        text = ""
    if not text:
        raise ConfigurationError(
            f"no age private key can be read from file descriptor {descriptor}",
            hint="open it for the command, with a shell for example: --identity-fd 3 3<key.txt",
        )
    return Secret(text)
