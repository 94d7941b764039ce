# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fault harness: each fault in a real run of backup, restore or bootstrap, and all that is looked at after it.

Writes faults.json, and with ``--document`` the table of docs/faults.md.  The order of the cases and all that is chance
in them comes from ``--seed``.  Exit status 1: a case was not as it must be.
"""

from __future__ import annotations

import argparse
import collections
import datetime
import json
import multiprocessing
import os
import pathlib
import platform
import queue
import random
import re
import shutil
import signal
import sys
import tempfile
import time
import typing as t

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import conftest  # noqa: E402, F401  (puts the collection on sys.path)  # pylint: disable=unused-import
from tests.faults import cases as all_cases  # noqa: E402
from tests.faults.trial import Case, Result, Trial  # noqa: E402
from tests.faults.world import World  # noqa: E402

DOCUMENT = ROOT / "docs" / "faults.md"
#: Around what is written into the document.
BEGIN, END = "<!-- begin of what the run wrote -->", "<!-- end of what the run wrote -->"


def main(arguments: t.Sequence[str] | None = None) -> int:
    """Run the cases; the exit status comes back."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1, help="of the order and of all chance (default: %(default)s)")
    parser.add_argument(
        "--only", action="append", default=[], metavar="CASE", help="an id, or a regular expression for ids"
    )
    parser.add_argument("--quick", action="store_true", help="only the subset that the tests run")
    parser.add_argument("--list", action="store_true", help="say which cases there are")
    parser.add_argument(
        "--jobs", type=int, default=min(4, os.cpu_count() or 1), help="cases at a time (default: %(default)s)"
    )
    parser.add_argument("--report", type=pathlib.Path, default=ROOT / "faults.json", help="where the report goes")
    parser.add_argument(
        "--resume", action="store_true", help="take over from the report what it says of cases that were as expected"
    )
    parser.add_argument("--document", action="store_true", help="write the table of docs/faults.md")
    options = parser.parse_args(arguments)
    chosen = [
        case
        for case in all_cases.cases()
        if (not options.only or any(re.fullmatch(only, case.id) for only in options.only))
        and (case.quick or not options.quick)
    ]
    if not chosen:
        parser.error("no such case")
    if options.list:
        for case in chosen:
            print(f"{case.id:45} {case.fault}: {case.expected}")
        return 0
    kept: list[Result] = []
    seconds = 0.0
    if options.resume and options.report.exists():
        before = json.loads(options.report.read_text(encoding="utf-8"))
        passed = {said["id"]: said for said in before["cases"] if said["passed"]}
        kept = [Result.of(case, passed[case.id]) for case in all_cases.cases() if case.id in passed]
        chosen = [case for case in chosen if case.id not in passed]
        seconds = before["seconds"]
    random.Random(options.seed).shuffle(chosen)
    started = time.monotonic()

    def write(results: t.Sequence[Result]) -> dict[str, t.Any]:
        whole = sorted([*kept, *results], key=lambda result: result.case.id)
        report = report_of(whole, seed=options.seed, seconds=seconds + time.monotonic() - started)
        options.report.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        return report

    report = write(run(chosen, seed=options.seed, jobs=options.jobs, told=write))
    if options.document:
        document(report)
    for key in ("injected", "silent_successes", "lost_backups", "damaged_databases", "failed", "seconds"):
        print(f"{key}: {report[key]}")
    return 1 if report["failed"] else 0


def run(
    cases: t.Sequence[Case], *, seed: int, jobs: int, told: t.Callable[[t.Sequence[Result]], object] = len
) -> list[Result]:
    """Try *cases*, *jobs* at a time, each worker in a world of its own.

    :param told: is given all results after each case.
    """
    context = multiprocessing.get_context("spawn")
    todo, done = context.Queue(), context.Queue()
    todo.cancel_join_thread()  # where workers end before their time
    for case in cases:
        todo.put(case.id)
    workers = [
        context.Process(target=_work, args=(todo, done, seed, any(case.live == "large" for case in cases)))
        for _number in range(min(jobs, len(cases)))
    ]
    for worker in workers:
        worker.start()
    by_id = {case.id: case for case in cases}
    results: list[Result] = []
    try:
        while len(results) < len(cases):
            try:
                fields = done.get(timeout=1)
            except queue.Empty:
                if not any(worker.is_alive() for worker in workers):
                    break
                continue
            result = Result(by_id[fields.pop("id")], **fields)
            results.append(result)
            text = "; ".join(result.faults) if result.faults else result.outcome
            print(f"{len(results):4}/{len(cases)} {result.seconds:5.1f} s  {result.case.id}: {text}", flush=True)
            told(results)
    finally:
        for worker in workers:
            if len(results) < len(cases):
                worker.terminate()
            worker.join()
    tried = {result.case.id for result in results}
    lost = [Result(case, faults=["the harness: its worker has ended"]) for case in cases if case.id not in tried]
    return results + lost


def _work(todo: t.Any, done: t.Any, seed: int, large: bool) -> None:
    # Whoever is ended removes servers and mounts first; an interrupt of the terminal is for the one who ends us.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    by_id = {case.id: case for case in all_cases.cases()}
    directory = pathlib.Path(tempfile.mkdtemp(prefix="faults-", dir="/var/tmp"))
    directory.chmod(0o755)
    try:
        with World(directory, large=large) as world:
            while True:
                try:
                    case = by_id[todo.get(timeout=1)]
                except queue.Empty:
                    return
                world.reset()
                result = Trial(world, case, seed).play()
                fields = dict(vars(result))
                fields.pop("case")
                done.put({"id": case.id, **fields})
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def report_of(results: t.Sequence[Result], *, seed: int, seconds: float) -> dict[str, t.Any]:
    """The report as plain data."""
    return {
        "injected": sum(result.injected for result in results),
        "silent_successes": sum(result.silent_success for result in results),
        "lost_backups": sum(result.lost_backup for result in results),
        "damaged_databases": sum(result.damaged_database for result in results),
        "failed": sum(bool(result.faults) for result in results),
        "seed": seed,
        "seconds": round(seconds),
        "at": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "machine": f"{os.cpu_count()} processors, Python {platform.python_version()}",
        "cases": [result.as_dict() for result in results],
    }


def _circumstances(report: t.Mapping[str, t.Any]) -> str:
    tried, there = len(report["cases"]), len(all_cases.cases())
    return (
        f"`make faults`, seed {report['seed']}, {report['at'][:10]}: {tried} of {there} cases, {report['seconds']} s on"
        f" {report['machine']}."
    )


def document(report: t.Mapping[str, t.Any]) -> None:
    """Write figures and table into the document, between its two marks."""
    lines = [
        BEGIN,
        "",
        "| faults injected | silent successes | lost backups | damaged databases | cases not as expected |",
        "| --- | --- | --- | --- | --- |",
        "| {injected} | {silent_successes} | {lost_backups} | {damaged_databases} | {failed} |".format_map(report),
        "",
        _circumstances(report),
    ]
    groups: dict[str, list[t.Mapping[str, t.Any]]] = collections.defaultdict(list)
    for case in report["cases"]:
        groups[case["stage"]].append(case)
    for stage, found in groups.items():
        lines += ["", f"## {stage.capitalize()}", "", "| case | fault | outcome |", "| --- | --- | --- |"]
        for case in found:
            outcome = case["outcome"] if case["passed"] else "**not as expected**"
            if case["outcome"] == "error":
                outcome += f" ({case['exit_status']})" if case["exit_status"] is not None else ""
            lines.append(f"| `{case['id'].partition('/')[2]}` | {case['fault'].replace('|', '&#124;')} | {outcome} |")
    lines += ["", END]
    text = DOCUMENT.read_text(encoding="utf-8")
    before, _begin, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    DOCUMENT.write_text(before + "\n".join(lines) + after, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
