# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Work on many databases: one that fails doesn't stop the others, and the summary names it."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import traceback
import typing as t

from .errors import EngineError
from .printing import printable, printable_name
from .reporting import Reporter, Silent

#: Status of a database whose work failed; every other status is the use case's own word for success.
FAILED = "failed"

#: Status of a database that was restored, but for statements that failed.
RESTORED_WITH_ERRORS = "restored_with_errors"

#: Details that are sentences for people.  All others are data, which programs go on working with: they stay exact.
_SENTENCES = ("failed_statements", "reason", "skipped", "warnings")


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The result of the work on one database.

    :param status: ``backed_up``, ``restored``, ``restored_with_errors``, ``empty``, ``skipped`` or ``failed``.
    :param details: plain data of the use case.
    """

    database: str
    status: str
    details: t.Mapping[str, t.Any] = dataclasses.field(default_factory=dict)
    error: EngineError | None = None

    def as_dict(self) -> dict[str, t.Any]:
        """As plain data, its sentences printable; ``error`` is there only after a failure."""
        data: dict[str, t.Any] = {"database": self.database, "status": self.status, **self.details}
        data.update((name, _printable(data[name])) for name in _SENTENCES if data.get(name))
        if self.error is not None:
            data["error"] = self.error.as_dict()
        return data


@dataclasses.dataclass(frozen=True)
class Summary:
    """The outcomes of a run, in the order of the list.

    :param warnings: of the run, beside those of its databases; printable.
    """

    outcomes: tuple[Outcome, ...]
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "warnings", tuple(map(printable, self.warnings)))

    @property
    def failed(self) -> tuple[Outcome, ...]:
        """The databases that failed."""
        return tuple(outcome for outcome in self.outcomes if outcome.error is not None)

    @property
    def incomplete(self) -> tuple[Outcome, ...]:
        """The databases that were restored, but for statements that failed."""
        return tuple(outcome for outcome in self.outcomes if outcome.status == RESTORED_WITH_ERRORS)

    def line(self, *statuses: str) -> str:
        """``restored=2 skipped=0 failed=1 (app)``: a count for each of *statuses*, then the failures by name.

        Programs read it: the count of databases restored with errors is there only if there are any.
        """
        counts = [
            f"{status}={sum(o.status == status for o in self.outcomes)}"
            for status in (*statuses, FAILED)
            if status != RESTORED_WITH_ERRORS or self.incomplete
        ]
        names = ", ".join(printable_name(outcome.database) for outcome in self.failed)
        return " ".join(counts) + (f" ({names})" if names else "")


def _printable(value: t.Any) -> t.Any:
    return printable(value) if isinstance(value, str) else [printable(str(one)) for one in value]


def unexpected(exception: Exception) -> EngineError:
    """An unexpected error, as one of the engine's.

    The text of a foreign exception may hold anything, even a secret, so only its type and place are reported.
    """
    frame = traceback.extract_tb(exception.__traceback__)[-1]
    return EngineError(
        f"unexpected {type(exception).__name__} in {frame.name}, line {frame.lineno}",
        phase="internal",
        hint="this is a bug of infrazero.database: please report it",
    )


def run_each(
    names: t.Sequence[str],
    work: t.Callable[[str], Outcome],
    *,
    jobs: int = 1,
    warnings: t.Sequence[str] = (),
    reporter: Reporter | None = None,
) -> Summary:
    """Do *work* for each of *names*, up to *jobs* at a time, and collect the outcomes.

    :param warnings: of the run, for the summary.
    """
    progress = reporter or Silent()
    progress.begin(len(names))

    def guarded(name: str) -> Outcome:
        try:
            return work(name)
        except EngineError as exc:
            return Outcome(name, FAILED, error=exc)
        except Exception as exc:  # noqa: BLE001 - an error of ours must not stop the other databases
            return Outcome(name, FAILED, error=unexpected(exc))
        finally:
            progress.finish(name)

    if jobs == 1:
        # In this thread, where a signal interrupts the work itself and everything it holds is given up in order.
        return Summary(tuple(map(guarded, names)), tuple(warnings))
    with concurrent.futures.ThreadPoolExecutor(max_workers=jobs) as pool:
        try:
            return Summary(tuple(pool.map(guarded, names)), tuple(warnings))
        except BaseException:
            # Interrupted: work that has not begun does not begin.  Work that has begun is waited for; it fails soon,
            # because its processes are ended (streams.process.end_all).
            pool.shutdown(wait=False, cancel_futures=True)
            raise
