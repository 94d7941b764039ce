# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the tests of backup and restore on each major version of PostgreSQL, and prints one table.

A server that is not installed is unpacked in a temporary directory, and the tests see it at the place of the installed
one, in a mount namespace of their own: what a test or the engine finds there is exactly one major with its client
programs.  Writes majors.json, and with ``--document`` the table of docs/majors.md.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import datetime
import json
import os
import pathlib
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import typing as t
from xml.etree import ElementTree

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.majors.servers import SERVERS, ServerError, Unpacked  # noqa: E402
from tests.support.cluster import INSTALLATIONS  # noqa: E402

#: Tests of what a server can do differently from one major to the next.
TESTS = (
    "backup",
    "bootstrap_roles",
    "connection",
    "database_settings",
    "databases",
    "dumptext_real",
    "extensions",
    "hostile_definitions",
    "hostile_dumps",
    "inplace",
    "load",
    "lock",
    "managed_server",
    "ownership",
    "privileged",
    "restore",
    "restore_limits",
    "server_identity",
    "server_settings",
    "standby",
    "state",
    "trust",
    "unproven",
)
DOCUMENT = ROOT / "docs" / "majors.md"
#: Around what is written into the document.
BEGIN, END = "<!-- begin of what the run wrote -->", "<!-- end of what the run wrote -->"
#: The longest reason for which a test failed or was skipped.
_REASON_LENGTH = 200


def say(text: str) -> None:
    """Progress, for whoever waits."""
    print(f"{datetime.datetime.now():%H:%M:%S} {text}", flush=True)


def try_major(major: int, directory: pathlib.Path, options: argparse.Namespace) -> dict[str, t.Any]:
    """Run the tests on one major, and return what came of them."""
    server = SERVERS[major]
    source = getattr(server, "requirement", None) or getattr(server, "release", None) or "installed"
    found: dict[str, t.Any] = {"major": major, "source": source, "note": server.note}
    try:
        unpacked = server.unpack(major, directory)
    except ServerError as error:
        say(f"PostgreSQL {major} cannot be had: {error}")
        return {**found, "untested": str(error)}
    installations = directory / "installations"
    installations.mkdir()
    (installations / str(major)).symlink_to(unpacked.home)
    report = directory / "report.xml"
    script = _script(unpacked, installations, directory, _pytest(options, report))
    namespace = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--user", "--map-current-user", "--mount"]
    with (directory / "output.txt").open("wb") as output:
        done = subprocess.run(
            [*namespace, "bash", "-c", script],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            check=False,
        )
    if not report.exists():
        text = (directory / "output.txt").read_text(encoding="utf-8", errors="replace")
        sys.exit(f"the tests on PostgreSQL {major} did not run ({done.returncode}):\n{text[-4000:]}")
    found.update(read(report))
    found["version"] = (directory / "version").read_text(encoding="utf-8").split()[2]
    say(
        f"PostgreSQL {found['version']}: {found['passed']} passed, {len(found['failed'])} failed,"
        f" {sum(found['skipped'].values())} skipped, {found['seconds']:.0f} s"
    )
    if found["failed"]:
        text = (directory / "output.txt").read_text(encoding="utf-8", errors="replace")
        print(text[text.find("\n=====") :], flush=True)
    for reason, count in found["skipped"].items():
        say(f"  skipped {count}: {reason}")
    return found


def _pytest(options: argparse.Namespace, report: pathlib.Path) -> list[str]:
    tests = [f"tests/integration/test_{name}.py" for name in options.tests or TESTS]
    return [
        *(sys.executable, "-m", "pytest", "-q", "-n", str(options.workers), "--dist", "loadfile", "--tb", "short"),
        *(f"--junit-xml={report}", *(["-k", options.keyword] if options.keyword else []), *tests),
    ]


def _script(unpacked: Unpacked, installations: pathlib.Path, directory: pathlib.Path, pytest: t.Sequence[str]) -> str:
    """Return what runs in the mount namespace."""
    lines = [f"cd {shlex.quote(str(ROOT))}"]
    if unpacked.home.parent != INSTALLATIONS:
        lines.append(f"mount --bind {installations} {INSTALLATIONS}")
    if unpacked.libraries is not None:
        # They have other names than this machine's own, and are found after them.
        configuration = directory / "ld.so.conf"
        configuration.write_text(f"include /etc/ld.so.conf\n{unpacked.libraries}\n", encoding="utf-8")
        lines += [
            f"PATH=$PATH:/sbin:/usr/sbin ldconfig -X -f {configuration} -C {directory / 'ld.so.cache'}",
            f"mount --bind {directory / 'ld.so.cache'} /etc/ld.so.cache",
        ]
    lines += [f"{INSTALLATIONS}/*/bin/postgres --version >{directory / 'version'}", shlex.join(pytest)]
    return "set -e\n" + "\n".join(lines)


def read(report: pathlib.Path) -> dict[str, t.Any]:
    """Read a report in JUnit's format."""
    suite = ElementTree.parse(report).getroot()[0]
    failed: dict[str, str] = {}
    skipped = collections.Counter[str]()
    for case in suite.iter("testcase"):
        name = f"{case.get('classname', '').rpartition('.')[2]}::{case.get('name', '')}"
        for kind in ("failure", "error"):
            for element in case.iter(kind):
                failed[name] = (element.get("message") or "").split("\n")[0][:_REASON_LENGTH]
        for element in case.iter("skipped"):
            skipped[(element.get("message") or "")[:_REASON_LENGTH]] += 1
    total = int(suite.get("tests", "0"))
    return {
        "passed": total - len(failed) - sum(skipped.values()),
        "failed": failed,
        "skipped": dict(skipped),
        "seconds": float(suite.get("time", "0")),
    }


def table(results: t.Iterable[t.Mapping[str, t.Any]]) -> list[str]:
    """Return the table of what was found, as Markdown."""
    lines = ["| PostgreSQL | from | passed | failed | skipped |", "| --- | --- | --- | --- | --- |"]
    reasons: dict[str, None] = {}
    for one in results:
        source = f"{one['source']}{', ' if one['note'] else ''}{one['note']}"
        if "untested" in one:
            lines.append(f"| {one['major']} | {source} | not tested | | |")
            continue
        lines.append(
            f"| {one['version']} | {source} | {one['passed']} | {len(one['failed'])} | {sum(one['skipped'].values())} |"
        )
        reasons.update(
            {f"{count} on {one['version']}: {reason}": None for reason, count in sorted(one["skipped"].items())}
        )
    if reasons:
        lines += ["", "Tests that were skipped:", "", *(f"- {reason}" for reason in reasons)]
    return lines


def document(lines: t.Sequence[str]) -> None:
    """Write the table into the document, between its two marks."""
    circumstances = f"Python {platform.python_version()}, {datetime.date.today():%Y-%m-%d}:"
    text = DOCUMENT.read_text(encoding="utf-8")
    inner = "\n".join([BEGIN, "", circumstances, "", *lines, "", END])
    pattern = re.compile(f"{re.escape(BEGIN)}.*{re.escape(END)}", re.DOTALL)
    DOCUMENT.write_text(pattern.sub(lambda _match: inner, text), encoding="utf-8")


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("majors", type=int, nargs="*", metavar="MAJOR", help="default: all of them")
    parser.add_argument("--tests", nargs="+", choices=TESTS, metavar="NAME", help="only tests/integration/test_NAME.py")
    parser.add_argument("--keyword", help="only tests that match, as pytest's -k")
    parser.add_argument("--workers", type=int, default=min(4, os.cpu_count() or 1), help="default: %(default)s")
    parser.add_argument("--document", action="store_true", help="write the table of docs/majors.md")
    parser.add_argument("--output", type=pathlib.Path, default=ROOT / "majors.json")
    options = parser.parse_args()
    unknown = set(options.majors) - set(SERVERS)
    if unknown:
        parser.error(
            f"there is no server of {', '.join(map(str, sorted(unknown)))}; known: {', '.join(map(str, SERVERS))}"
        )
    results = []
    for major in options.majors or SERVERS:
        with contextlib.ExitStack() as stack:
            # Not in the checkout: the server's user must be able to reach it.
            directory = pathlib.Path(tempfile.mkdtemp(prefix=f"major-{major}-", dir="/var/tmp"))
            stack.callback(shutil.rmtree, directory)
            directory.chmod(0o755)
            results.append(try_major(major, directory, options))
    options.output.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    lines = table(results)
    print("", *lines, sep="\n")
    if options.document:
        document(lines)
    return 1 if any(one.get("failed") for one in results) else 0


if __name__ == "__main__":
    sys.exit(main())
