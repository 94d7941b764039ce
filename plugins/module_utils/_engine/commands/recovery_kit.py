# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The command ``recovery-kit``."""

from __future__ import annotations

import contextlib
import datetime
import getpass
import os
import pathlib
import shutil
import sys
import typing as t

from ..domain.secret import Secret
from ..errors import ConfigurationError
from ..keys import recovery_kit
from ..printing import printable, printable_name
from ..stores.base import S3Settings
from ..stores.registry import open_store
from ..streams import age
from . import common, identity

if t.TYPE_CHECKING:
    from ..domain.subjects import Subject
    from ..profile import Profile
    from ..reporting import Reporter

#: A passphrase is all that stands between a printed kit and the backups.
_LEAST_PASSPHRASE = 16


def register(command: common.Command) -> None:
    """Add the command."""
    parser = command(
        "recovery-kit",
        run,
        "write what a restore without this software needs",
        "Write a new directory with all that restores the databases with age, psql, ssh-keygen and jq alone: steps in\n"
        "plain words, trusted keys, recipients, and a small object for each database that proves a key. Nothing in it\n"
        "is secret, unless private keys are included.",
    )
    parser.add_argument("directory", metavar="DIR", type=pathlib.Path, help="directory, which must not exist yet")
    parser.add_argument(
        "--include-identities",
        action="store_true",
        help="include private keys, encrypted with a passphrase of at least 16 characters",
    )
    identity.add_flag(parser)
    parser.add_argument(
        "--passphrase-fd", metavar="N", type=int, help="read the passphrase from this open file descriptor"
    )


def run(options: common.Options, _reporter: Reporter) -> int:
    """Write the kit; the exit status is returned."""
    host = common.read_profile(options, environment=True)
    identity.leave_environment()
    cluster = host.cluster_globals()
    subjects: list[Subject] = [*host.databases().entries, *([cluster] if cluster.recipients else [])]
    # Before anything is asked.
    if os.path.lexists(options.directory):
        raise _taken(options.directory)
    keys = passphrase = None
    warnings = list(host.warnings)
    if options.include_identities:
        keys = _identities(options, host)
        names = recovery_kit.not_opened(subjects, keys)
        warnings += [f"no given key opens the backups of {printable_name(name)}" for name in names]
        passphrase = _passphrase(options.passphrase_fd)
    settings = host.store()
    files = recovery_kit.kit(
        subjects,
        trust=host.trust(),
        location=open_store(settings).location,
        endpoint=settings.endpoint if isinstance(settings, S3Settings) else None,
        moment=datetime.datetime.now(datetime.timezone.utc),
        identities=keys,
        passphrase=passphrase,
    )
    if "allowed_signers" in files and not files["allowed_signers"].strip():
        warnings.append("there are no trusted keys here, so nothing in the kit can tell who made a backup")
    _write(options.directory, files)
    if options.json:
        common.write_json(
            {
                "directory": str(options.directory),
                "files": sorted(files),
                "warnings": [printable(warning) for warning in warnings],
            }
        )
        return common.OK
    for warning in warnings:
        sys.stderr.write(f"warning: {printable(warning)}\n")
    shown = printable(str(options.directory))
    secret = "private keys, encrypted with the passphrase" if options.include_identities else "nothing secret"
    sys.stdout.write(f"{shown}: {len(files)} files, {secret} in it; begin with {shown}/README.txt\n")
    return common.OK


def _identities(options: common.Options, host: Profile) -> Secret:
    interactive = not host.values.get("restore", "non_interactive")
    found = identity.given(host, options.identity_fd) or identity.ask("the kit", interactive=interactive)
    age.parse_identities([found])
    return found


def _passphrase(descriptor: int | None) -> Secret:
    """The passphrase, from *descriptor* or typed twice.

    :raises ConfigurationError: if there is none, or it is too short.
    """
    if descriptor is not None:
        try:
            with os.fdopen(descriptor, "r", encoding="utf-8") as stream:
                text = stream.read().rstrip("\r\n")
        except (OSError, UnicodeDecodeError):
            text = ""
    elif sys.stdin.isatty():
        text = getpass.getpass("passphrase (not shown): ")
        if getpass.getpass("the same passphrase again: ") != text:
            raise ConfigurationError("the two passphrases differ", hint="run the command again")
    else:
        raise ConfigurationError(
            "no passphrase was given", hint="run on a terminal to be asked for it, or give --passphrase-fd N"
        )
    if len(text) < _LEAST_PASSPHRASE:
        raise ConfigurationError(
            f"the passphrase has fewer than {_LEAST_PASSPHRASE} characters",
            hint="take several random words: whoever finds the kit can try passphrases for as long as they like",
        )
    return Secret(text)


def _taken(directory: pathlib.Path) -> ConfigurationError:
    return ConfigurationError(
        f"{printable(str(directory))} exists already", hint="name a new directory: a kit is never mixed with another"
    )


def _write(directory: pathlib.Path, files: t.Mapping[str, bytes]) -> None:
    """Write all *files* or leave nothing.

    :raises ConfigurationError: if that is not possible.
    """
    try:
        directory.mkdir(mode=0o700)
    except FileExistsError:
        raise _taken(directory) from None
    except OSError as exc:
        raise _not_written(directory, exc) from None
    with contextlib.ExitStack() as undo:
        undo.callback(shutil.rmtree, directory, ignore_errors=True)
        try:
            for name, data in files.items():
                path = directory / name
                path.parent.mkdir(mode=0o700, exist_ok=True)
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                with os.fdopen(descriptor, "wb") as stream:
                    stream.write(data)
                    stream.flush()
                    os.fsync(stream.fileno())
        except OSError as exc:
            raise _not_written(directory, exc) from None
        undo.pop_all()


def _not_written(directory: pathlib.Path, error: OSError) -> ConfigurationError:
    return ConfigurationError(
        f"{printable(str(directory))} can't be written", cause=error.strerror or "", hint="name another directory"
    )
