# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""What the subcommands share: exit statuses, flags from the table of settings, and how results are printed."""

from __future__ import annotations

import argparse
import os
import pathlib
import re
import sys
import typing as t

from .. import outcome, settings
from ..domain import checks, human
from ..domain.subjects import CLUSTER_GLOBALS
from ..errors import ConfigurationError, EngineError, IdentityMissing, LockHeld, NotConfirmed
from ..printing import printable, printable_json, printable_name
from ..profile import Profile
from ..reporting import Reporter

OK = 0
FAILED = 1
USAGE = 2
LOCKED = 3
INCOMPLETE = 4

EPILOG = """\
exit status:
  0  success
  1  at least one database failed; the others are done
  2  invalid usage or configuration, or not confirmed; nothing was changed
  3  another backup or restore of the database is running
  4  restored, but some statements failed (with --on-error continue)
"""

Options = argparse.Namespace
Run = t.Callable[[Options, Reporter], int]
#: Makes the parser of a subcommand: name, function, summary, description.
Command = t.Callable[[str, Run, str, str], argparse.ArgumentParser]

#: Semantic markup of Ansible's documentation.
_MARKUP = re.compile(r"\b[VCO]\(([^)]*)\)")


def add_database_flag(parser: argparse.ArgumentParser) -> None:
    """Add ``--database``, which chooses databases of the list."""
    parser.add_argument(
        "--database", metavar="NAME", action="append", help="only this database; may be given several times"
    )


def add_flags(parser: argparse.ArgumentParser, section: str, *names: str) -> None:
    """Add a flag for each setting of *section* that has one, or of those that are named."""
    for row in settings.of_section(section):
        if row.flag is None or (names and row.name not in names):
            continue
        notes = [note for note in (_default(row), row.environment) if note]
        text = _MARKUP.sub(lambda match: match[1], row.help) + (f" ({'; '.join(notes)})" if notes else "")
        more: dict[str, t.Any] = {"dest": _destination(row), "default": None, "help": text.replace("%", "%%")}
        if row.type.ansible == "bool":
            # What holds for one run only is either asked for or not.
            switch: t.Any = argparse.BooleanOptionalAction if row.stored else "store_true"
            parser.add_argument(row.flag, action=switch, **more)
        elif row.choices:
            parser.add_argument(row.flag, choices=row.choices, **more)
        else:
            action = "append" if row.repeatable else "store"
            parser.add_argument(row.flag, metavar=row.type.metavar, action=action, **more)
        for flag, value in row.flag_values.items():
            same = f"the same as {row.flag} {value}"
            parser.add_argument(
                flag, dest=_destination(row), action="store_const", const=value, default=None, help=same
            )


def _default(row: settings.Setting) -> str:
    text = row.default_text or row.default_written
    return f"default: {_MARKUP.sub(lambda match: match[1], text)}" if text else ""


def _destination(row: settings.Setting) -> str:
    return f"setting_{row.section}_{row.name}"


def read_profile(options: Options, *sections: str, environment: bool = False) -> Profile:
    """The profile that ``--config`` names, with the settings of this run on top.

    :param sections: whose flags the subcommand has.
    :param environment: whether settings of the environment are read.
    :raises ConfigurationError: naming the setting.
    """
    found = Profile.read(options.config)
    if environment:
        found = found.over_environment(os.environ)
    rows = {row.flag: row for section in sections for row in settings.of_section(section) if row.flag is not None}
    given = {flag: getattr(options, _destination(row), None) for flag, row in rows.items()}
    return found.over(settings.read(given, rows))


def add_config(parser: argparse.ArgumentParser) -> None:
    """Add the flags of every subcommand."""
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of text")
    parser.add_argument(
        "--config",
        metavar="DIR",
        type=pathlib.Path,
        default=pathlib.Path(settings.DIRECTORY),
        help="configuration directory, which holds db.env (default: %(default)s)",
    )


def finish(
    options: Options,
    summary: outcome.Summary,
    *,
    warnings: t.Sequence[str],
    sentence: t.Callable[[outcome.Outcome], str],
    done: str,
) -> int:
    """Print the results of work on databases; the exit status is returned.

    :param warnings: of the configuration.
    :param sentence: what happened to one database.
    :param done: the last line's verb: ``backed up``.
    """
    every = [*map(printable, warnings), *summary.warnings]
    if options.json:
        write_json({"databases": [one.as_dict() for one in summary.outcomes], "warnings": every})
    else:
        for warning in every:
            sys.stderr.write(f"warning: {warning}\n")
        for one in summary.outcomes:
            name = printable_name(one.database)
            for warning in one.details.get("warnings", ()):
                sys.stderr.write(f"warning: {name}: {printable(warning)}\n")
            if one.error is not None:
                sys.stderr.write(f"error: {name}: {one.error}\n")
            else:
                sys.stdout.write(f"{name}: {sentence(one)}\n")
        sys.stdout.write(_last_line(summary, done) + "\n")
    if not summary.failed:
        return INCOMPLETE if summary.incomplete else OK
    if len(summary.outcomes) == 1 and summary.failed[0].error is not None:
        return status_of(summary.failed[0].error)
    return FAILED


def _last_line(summary: outcome.Summary, done: str) -> str:
    """``2 of 3 databases and the cluster globals backed up; failed: shop``."""
    databases = [one for one in summary.outcomes if one.database != CLUSTER_GLOBALS]
    good, every = sum(one.error is None for one in databases), len(databases)
    line = human.counted(every, "database") if good == every else f"{good} of {every} databases"
    if any(one.database == CLUSTER_GLOBALS and one.error is None for one in summary.outcomes):
        line += f" and the {CLUSTER_GLOBALS}"
    line += f" {done}"
    names = ", ".join(printable_name(one.database) for one in summary.failed)
    return f"{line}; failed: {names}" if names else line


def status_of(error: EngineError) -> int:
    """The exit status after *error*."""
    if isinstance(error, LockHeld):
        return LOCKED
    return USAGE if isinstance(error, (ConfigurationError, IdentityMissing, NotConfirmed)) else FAILED


def write_json(document: t.Mapping[str, t.Any]) -> None:
    """Print *document*."""
    sys.stdout.write(printable_json(document) + "\n")


def write_checks(found: t.Sequence[checks.Check]) -> None:
    """Print the results of checks as a table, each remedy below its line."""
    rows = [
        (
            one.severity if one.severity == checks.OK else one.severity.upper(),
            printable(one.area),
            printable(one.subject),
        )
        for one in found
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for one, row in zip(found, rows):
        cells = [cell.ljust(width) for cell, width in zip(row, widths)]
        sys.stdout.write("  ".join([*cells, printable(one.seen)]).rstrip() + "\n")
        if one.remedy:
            sys.stdout.write(f"{' ' * widths[0]}  -> {printable(one.remedy)}\n")
