# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long the first boot of a host takes that restores two small databases: from its packages on, and in all.

The host is the one called `new` of the molecule scenario first_boot: a container with systemd, PostgreSQL and
cloud-init that has nothing but user-data. Its first boot says by itself how long it took. Writes
bench-first-boot.json and prints a table as docs/first-boot.md has it.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import platform
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
LIMIT = 60


def main() -> int:
    """Run the scenario, and read what the host said."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=pathlib.Path, default=ROOT / "bench-first-boot.json")
    options = parser.parse_args()
    subprocess.run([ROOT / "scripts" / "rehearse", "first_boot"], check=True)
    log = (ROOT / ".ansible" / "molecule" / "first_boot.log").read_text(encoding="utf-8")
    # The first host that has been booted; what others say comes after it.
    running = re.search(r"first boot: running infrazero\.database\.first_boot, after (\d+) s", log)
    done = re.search(r"first boot: done, after (\d+) s", log)
    if running is None or done is None:
        sys.exit("the log of the scenario first_boot doesn't say how long it took")
    packages, total = int(running[1]), int(done[1])
    seconds = total - packages
    goal = {"id": "first_boot_after_packages_seconds", "value": seconds, "limit": LIMIT, "met": seconds < LIMIT}
    machine = f"{os.cpu_count()} cores, Python {platform.python_version()}"
    report = {"machine": machine, "seconds": {"packages": packages, "total": total}, "goals": [goal]}
    options.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(f"\n{machine}\n")
    print("| first boot, two databases | seconds | limit | met |\n|---|---|---|---|")
    print(f"| ansible-core and the collection installed | {packages} | - | - |")
    met = "yes" if goal["met"] else "no"
    print(f"| from there to restored, scrubbed and scheduled | {seconds} | below {LIMIT} | {met} |")
    return 0 if goal["met"] else 1


if __name__ == "__main__":
    sys.exit(main())
