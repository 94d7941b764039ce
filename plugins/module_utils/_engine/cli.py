# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The command on the host, ``infrazero-database``; ``backup.sh`` and ``restore.sh`` run it with a subcommand.

Exit statuses: 0 success; 1 at least one database failed; 2 invalid usage or configuration, nothing was changed; 3
another backup or restore of the database is running; 4 restored, but statements failed; 128 + n ended by signal n.
"""

from __future__ import annotations

import argparse
import gc
import io
import signal
import sys
import threading
import time
import types
import typing as t

from . import outcome
from .commands import (
    access,
    backup,
    cluster,
    common,
    doctor,
    keygen,
    listing,
    readers,
    recovery_kit,
    rekey,
    restore,
    undo,
    validate,
)
from .domain import suggestions
from .errors import EngineError
from .progress import LogReporter, TerminalReporter
from .streams import process
from .version import VERSION

if t.TYPE_CHECKING:
    from .reporting import Reporter


def main(arguments: t.Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    # What is imported now stays until the end: the collector need not look at it, here and once more at the exit.
    gc.freeze()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A name that the locale's encoding lacks must not end the report of a backup that is good.
        sys.stdout.reconfigure(errors="backslashreplace")
    options = parsed(arguments)
    reporter = _reporter(sys.stderr, options)
    received = _end_on_signals()
    try:
        status = _run(options, reporter)
    except SystemExit:
        if not received:
            raise
    finally:
        reporter.close()
    if received:
        # Whatever became of the exception on its way up.
        sys.stderr.write(f"error: ended by {signal.Signals(received[0]).name} before the work was done\n")
        return 128 + received[0]
    return status


def _reporter(stream: t.TextIO, options: argparse.Namespace) -> LogReporter | TerminalReporter:
    if stream.isatty() and not options.json and TerminalReporter.is_available():
        return TerminalReporter(stream)
    return LogReporter(stream)


def _end_on_signals() -> list[int]:
    """Clean up and end when a signal asks for it; the returned list then holds its number.

    The first one interrupts the main thread, whose contexts abort an upload or remove what a restore has created, and
    ends the children, so that no other thread keeps waiting for them.  Further ones must not disturb that.
    """
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup
        numbers.append(signal.SIGHUP)
    received: list[int] = []

    def end_children() -> t.NoReturn:
        while True:  # also those that a thread is just about to start
            process.end_all()
            time.sleep(0.1)

    def stop(number: int, _frame: types.FrameType | None) -> t.NoReturn:
        received.append(number)
        for each in numbers:
            # Not SIG_IGN: children would inherit it.
            signal.signal(each, lambda *_: None)
        threading.Thread(target=end_children, name="end children", daemon=True).start()
        raise SystemExit(128 + number)

    for number in numbers:
        signal.signal(number, stop)
    return received


def _run(options: argparse.Namespace, reporter: Reporter) -> int:
    try:
        return t.cast(int, options.run(options, reporter))
    except EngineError as exc:
        error = exc
    except Exception as exc:  # noqa: BLE001 - its text, or its traceback, may hold anything
        error = outcome.unexpected(exc)
    if options.json:
        common.write_json({"error": error.as_dict()})
    else:
        sys.stderr.write(f"error: {error}\n")
    return common.status_of(error)


# Arguments ----------------------------------------------------------------------------------------------------------


def parsed(arguments: t.Sequence[str] | None) -> argparse.Namespace:
    """The options that *arguments* give, by default those of the process; invalid ones end it with status 2."""
    options, rest = _parser().parse_known_args(arguments)
    if rest:
        # By the subcommand's parser: its usage is the one that helps.
        parser: argparse.ArgumentParser = options.parser
        flags = parser._option_string_actions
        parser.error("; ".join(suggestions.unknown(one.partition("=")[0], flags, "an argument") for one in rest))
    return options


def _parser() -> argparse.ArgumentParser:
    # Without abbreviations: one that is unique today may not be tomorrow.
    parser = argparse.ArgumentParser(
        prog="infrazero-database", description="Back up and restore databases.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {VERSION}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: common.Run, summary: str, description: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(
            name,
            help=summary,
            description=description,
            epilog=common.EPILOG,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        common.add_config(sub)
        sub.set_defaults(run=run, parser=sub)
        return sub

    for module in (
        backup,
        restore,
        cluster,
        listing,
        access,
        doctor,
        rekey,
        keygen,
        readers,
        recovery_kit,
        undo,
        validate,
    ):
        module.register(command)
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
