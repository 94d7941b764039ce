# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""scrub.py VARIABLE,... PATTERN...: does the same as the module secret_scrub, on a host without Ansible.

Words of standard input are secrets, which are removed wherever they occur.
plugins/module_utils/_scrub.py is beside it.
"""

from __future__ import annotations

import glob
import os
import pathlib
import sys
import tempfile

from _scrub import CantScrub, Scrubber


def replace(path: pathlib.Path, data: bytes) -> None:
    """Replace the file at *path* with one that contains *data*, with the same owner and mode."""
    before = path.stat()
    number, name = tempfile.mkstemp(dir=path.parent)
    try:
        with os.fdopen(number, "wb") as stream:
            stream.write(data)
            os.fchown(stream.fileno(), before.st_uid, before.st_gid)
            os.fchmod(stream.fileno(), before.st_mode & 0o7777)
            os.fsync(stream.fileno())
        pathlib.Path(name).replace(path)
    except BaseException:
        pathlib.Path(name).unlink()
        raise


def main() -> int:
    """Scrub the files; 0 if none of them contains a secret any more."""
    scrubber = Scrubber(sys.argv[1].split(","), sys.stdin.read().split())
    errors = 0
    # pathlib's patterns cannot be absolute.
    matches = (match for pattern in sys.argv[2:] for match in glob.glob(pattern))  # noqa: PTH207
    for path in sorted({pathlib.Path(match).resolve() for match in matches}):
        try:
            data = path.read_bytes() if path.is_file() else b""
            scrubbed = scrubber.scrub(data)
            if scrubbed != data:
                replace(path, scrubbed)
        except (CantScrub, OSError) as exc:
            sys.stderr.write(f"{path} may still contain private keys: {exc}\n")
            errors += 1
    return min(errors, 1)


if __name__ == "__main__":
    raise SystemExit(main())
