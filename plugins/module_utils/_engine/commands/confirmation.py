# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Asks on a terminal before a command replaces something: what is about to happen, then ``Type yes to continue``.

Programs are never asked.  A command whose input or whose messages do not go to a terminal, or that prints JSON, goes on
at once, as it does with ``--yes``.
"""

from __future__ import annotations

import sys
import typing as t

from ..errors import NotConfirmed

if t.TYPE_CHECKING:
    import argparse

_ANSWER = "yes"


def add_flag(parser: argparse.ArgumentParser) -> None:
    """Add ``--yes``."""
    parser.add_argument("--yes", action="store_true", help="go on without a question on a terminal")


def is_wanted(options: argparse.Namespace, *, interactive: bool = True) -> bool:
    """Whether somebody is to be asked, and is there to answer.

    :param options: with ``yes`` of :func:`add_flag` and ``json``.
    :param interactive: false if the settings of the run say that nobody is to be asked anything.
    """
    if options.yes or options.json or not interactive:
        return False
    # The question is a message, not a result: results may go to a file while somebody watches.
    return sys.stdin.isatty() and sys.stderr.isatty()


def require(plan: str, question: str) -> None:
    """Show *plan* and ask *question*; return only if the answer is ``yes``.

    :param plan: safe to show, may have several lines.
    :param question: likewise, one line: ``Replace shop?``.
    :raises NotConfirmed: after any other answer, or none.
    """
    sys.stderr.write(f"{plan}\n\n{question} Type {_ANSWER} to continue: ")
    sys.stderr.flush()
    try:
        answer = sys.stdin.readline()
    except UnicodeDecodeError:
        answer = ""
    if not answer.endswith("\n"):  # the end of the input: the prompt's line is still open
        sys.stderr.write("\n")
    if answer.strip().lower() != _ANSWER:
        raise NotConfirmed(
            "not confirmed, nothing was changed",
            hint=f"run the command again and type {_ANSWER}; in scripts, pass --yes",
        )
