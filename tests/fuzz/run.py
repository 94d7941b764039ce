# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`make fuzz`: every target for some seconds, each in a process of its own.

By atheris, which looks for inputs that reach new code, where it is installed (`pip install atheris`: there are wheels
for some Pythons only), else by hypothesis with the inputs of inputs.py.  Half of the time goes to repetitions of such
inputs, whose readers must take a time that grows with the length and no faster.  What breaks something is printed, and
added to tests/fuzz/cases/TARGET.txt.
"""

from __future__ import annotations

import argparse
import importlib.util
import pathlib
import subprocess
import sys
import tempfile
import time
import typing as t

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))
import conftest  # noqa: F401  (makes the collection importable)  # pylint: disable=unused-import


def by_hypothesis(name: str, seconds: float, *, times_only: bool = False) -> None:
    """Raises what the target raised, and saves the smallest input that hypothesis found."""
    from hypothesis import HealthCheck, given, settings

    from tests.fuzz.inputs import INPUTS, REPEATED, save
    from tests.fuzz.targets import TARGETS, within_time

    tried = {"inputs": 0, "repetitions": 0}
    failed: list[t.Any] = []

    def searched(what: str, strategy: t.Any, check: t.Callable[[t.Any], None]) -> t.Callable[[], None]:
        @settings(
            max_examples=500 if what == "inputs" else 20,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(strategy)
        def run(value: t.Any) -> None:
            tried[what] += 1
            try:
                check(value)
            except BaseException:
                failed[:] = [value]
                raise

        return run

    searches = []
    if not times_only:
        searches.append(searched("inputs", INPUTS[name], TARGETS[name]))
    if name in REPEATED:
        searches.append(searched("repetitions", REPEATED[name], lambda text: within_time(name, text)))
    spent = [0.0] * len(searches)
    while searches and sum(spent) < seconds:
        which = spent.index(min(spent))
        begin = time.monotonic()
        try:
            searches[which]()
        except BaseException:
            # hypothesis ends with the smallest one that fails.
            if failed:
                print(f"{name}: saved {save(name, failed[0])}", flush=True)
            raise
        spent[which] += time.monotonic() - begin
    print(f"{name}: {tried['inputs']} inputs and {tried['repetitions']} repetitions of hypothesis", flush=True)


def by_atheris(name: str, seconds: float, corpus: str) -> None:
    """Ends the process; with a status where something broke, which is saved."""
    import atheris  # type: ignore[import-not-found, import-untyped]

    with atheris.instrument_imports(include=["ansible_collections.infrazero"]):
        from tests.fuzz.inputs import cases, save
        from tests.fuzz.targets import TARGETS
    for number, data in enumerate(cases(name)):
        (pathlib.Path(corpus) / str(number)).write_bytes(data)

    def run(data: bytes) -> None:
        try:
            TARGETS[name](data)
        except BaseException:
            print(f"{name}: saved {save(name, data)}", flush=True)
            raise

    atheris.Setup([sys.argv[0], f"-max_total_time={seconds:.0f}", "-print_final_stats=1", "-verbosity=0", corpus], run)
    atheris.Fuzz()


def main() -> int:
    """The number of targets that broke, as a status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="for each target")
    parser.add_argument("--alone", action="store_true", help="in this process")
    parser.add_argument("targets", nargs="*")
    options = parser.parse_args()
    if options.alone:
        (name,) = options.targets
        if importlib.util.find_spec("atheris"):
            # Instrumented code is slower, and by how much says nothing: times are measured without it.
            by_hypothesis(name, options.seconds / 2, times_only=True)
            with tempfile.TemporaryDirectory() as corpus:
                by_atheris(name, options.seconds / 2, corpus)
        else:
            by_hypothesis(name, options.seconds)
        return 0
    from tests.fuzz.targets import TARGETS

    arguments = [sys.executable, __file__, "--alone", f"--seconds={options.seconds}"]
    names = options.targets or list(TARGETS)
    broken = [name for name in names if subprocess.run([*arguments, name], check=False).returncode]
    print(f"{len(names)} targets, broken: {' '.join(broken) or 'none'}")
    return 1 if broken else 0


if __name__ == "__main__":
    raise SystemExit(main())
