# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Unpack an archive, base64 on standard input, to the directory in the argument: completely or not at all."""

from __future__ import annotations

import base64
import compileall
import io
import os
import pathlib
import shutil
import sys
import tarfile

# Those who run the engine must be able to read it, even if root's umask is strict.
os.umask(0o022)
target = pathlib.Path(sys.argv[1])
unpacked = target.with_name(target.name + ".new")
shutil.rmtree(unpacked, ignore_errors=True)
with tarfile.open(fileobj=io.BytesIO(base64.b64decode(sys.stdin.read()))) as archive:
    archive.extractall(unpacked)  # creates the directories above it, too
# Those who run it may not write here, and would compile it each time.
compileall.compile_dir(unpacked, quiet=1)
# Remove earlier ones, except the one in use until now.
current = target.parent.parent / "lib"
for old in target.parent.iterdir():
    if old not in (unpacked, current.resolve()):
        shutil.rmtree(old)
unpacked.rename(target)
