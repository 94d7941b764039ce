# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run on the host: an archive in base64 on standard input becomes the directory named, complete or not at all."""

from __future__ import annotations

import base64
import compileall
import io
import os
import pathlib
import shutil
import sys
import tarfile

# Whoever runs the engine has to read it, however careful root's umask is.
os.umask(0o022)
target = pathlib.Path(sys.argv[1])
unpacked = target.with_name(target.name + ".new")
shutil.rmtree(unpacked, ignore_errors=True)
with tarfile.open(fileobj=io.BytesIO(base64.b64decode(sys.stdin.read()))) as archive:
    archive.extractall(unpacked)  # makes the directories above it, too
# Whoever runs it may not write here, and would compile it each time.
compileall.compile_dir(unpacked, quiet=1)
# Earlier ones, but for the one in use until now.
current = target.parent.parent / "lib"
for old in target.parent.iterdir():
    if old not in (unpacked, current.resolve()):
        shutil.rmtree(old)
unpacked.rename(target)
