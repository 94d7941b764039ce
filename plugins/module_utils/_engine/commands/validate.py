# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The command ``validate``."""

from __future__ import annotations

import pathlib
import sys
import typing as t

from .. import validation
from ..domain import human, listfields
from ..errors import ConfigurationError
from ..printing import printable
from . import common

if t.TYPE_CHECKING:
    from ..reporting import Reporter

_DESCRIPTION = """\
Validate the configuration of this host: every setting in db.env, the list of databases, and the keys. With FILE,
validate that list only: JSON text or its base64, which may have private keys; - is standard input. Every error is
reported at once. Nothing is changed, and neither a server nor a store is needed.

The exit status is 2 if there are errors. Warnings leave it at 0."""


def register(command: common.Command) -> None:
    """Add the command."""
    parser = command("validate", run, "validate the configuration, or a list of databases", _DESCRIPTION)
    parser.add_argument(
        "file", metavar="FILE", nargs="?", help="a list of databases, relative to the working directory"
    )
    parser.add_argument(
        "--public", action="store_true", help="refuse private keys in FILE, as in a list that stays on a host"
    )
    parser.add_argument("--schema", action="store_true", help="print the JSON Schema of the list, and do nothing else")


def run(options: common.Options, _reporter: Reporter) -> int:
    """Validate; the exit status is returned."""
    if options.schema:
        common.write_json(listfields.document())
        return common.OK
    if options.public and options.file is None:
        options.parser.error("--public is about FILE")
    report = (
        validation.of_directory(options.config)
        if options.file is None
        else validation.of_list(_text(options.file), subject=options.file, private=not options.public)
    )
    if options.json:
        common.write_json(report.as_dict())
    else:
        for warning in report.warnings:
            sys.stderr.write(f"warning: {printable(warning)}\n")
        for fault in report.errors:
            sys.stderr.write(f"error: {printable(str(fault))}\n")
        result = human.counted(len(report.errors), "error")
        if not report.errors:
            result = f"valid, {human.counted(report.databases or 0, 'database')}"
        sys.stdout.write(f"{printable(report.subject)}: {result}\n")
    return common.USAGE if report.errors else common.OK


def _text(file: str) -> str:
    try:
        return sys.stdin.read() if file == "-" else pathlib.Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        cause = (exc.strerror or "") if isinstance(exc, OSError) else "it is not UTF-8"
        raise ConfigurationError(
            f"cannot read {file}", cause=cause, hint="correct the path, or give the list on standard input, as -"
        ) from None
