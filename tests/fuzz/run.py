# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`make fuzz`: every target for some seconds, each in a process of its own.

By atheris, which looks for inputs that reach new code, where it is installed (`pip install atheris`: there are wheels
for some Pythons only), else by hypothesis with the inputs of inputs.py.  What breaks something is printed as a line for
tests/fuzz/cases/TARGET.txt.
"""

from __future__ import annotations

import argparse
import importlib.util
import pathlib
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))
import conftest  # noqa: F401  (makes the collection importable)  # pylint: disable=unused-import


def by_hypothesis(name: str, seconds: float) -> None:
    """Raises what the target raised, with the smallest input that hypothesis found."""
    from hypothesis import HealthCheck, given, settings

    from tests.fuzz.inputs import INPUTS
    from tests.fuzz.targets import TARGETS

    tried = 0

    @settings(max_examples=500, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(INPUTS[name])
    def run(data: bytes) -> None:
        nonlocal tried
        tried += 1
        TARGETS[name](data)

    until = time.monotonic() + seconds
    while time.monotonic() < until:
        run()
    print(f"{name}: {tried} inputs of hypothesis", flush=True)


def by_atheris(name: str, seconds: float, corpus: str) -> None:
    """Ends the process; with a status where something broke."""
    import atheris  # type: ignore[import-not-found, import-untyped]

    with atheris.instrument_imports(include=["ansible_collections.infrazero"]):
        from tests.fuzz.inputs import cases
        from tests.fuzz.targets import TARGETS
    for number, data in enumerate(cases(name)):
        (pathlib.Path(corpus) / str(number)).write_bytes(data)

    def run(data: bytes) -> None:
        try:
            TARGETS[name](data)
        except BaseException:
            print(f"{name}: {data!r}", flush=True)
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
            with tempfile.TemporaryDirectory() as corpus:
                by_atheris(name, options.seconds, corpus)
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
