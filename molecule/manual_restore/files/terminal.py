# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""terminal.py PROGRAM ARGUMENT...: run it on a terminal, and answer its questions.

The private key is standard input, and everything is confirmed.

Prints all that the terminal showed; ends with the program's exit status.
"""

from __future__ import annotations

import os
import pty
import sys

typed = sys.stdin.buffer.read()
process, terminal = pty.fork()
if process == 0:
    os.execv(sys.argv[1], sys.argv[1:])
shown = b""
confirmed = False
while True:
    try:
        shown += os.read(terminal, 4096)
    except OSError:  # on Linux: no process has the terminal open any more
        break
    if typed and b"private key (not shown): " in shown:
        os.write(terminal, typed)
        typed = b""
    if not confirmed and b"Type yes to continue: " in shown:
        os.write(terminal, b"yes\n")
        confirmed = True
sys.stdout.buffer.write(shown)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]))
