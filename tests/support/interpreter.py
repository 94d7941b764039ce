# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""This interpreter, by a path that Ansible can use."""

from __future__ import annotations

import atexit
import functools
import pathlib
import shlex
import shutil
import sys
import tempfile


@functools.cache
def interpreter() -> str:
    """The path, for ``ansible_python_interpreter``.

    Ansible quotes it nowhere: where the checkout's path has a space in it, it is that of a link, which ends with us.
    """
    if shlex.quote(sys.executable) == sys.executable:
        return sys.executable
    directory = pathlib.Path(tempfile.mkdtemp(prefix="interpreter-"))
    atexit.register(shutil.rmtree, directory)
    directory.chmod(0o755)
    link = directory / "environment"
    link.symlink_to(sys.prefix)
    return str(link / "bin" / pathlib.Path(sys.executable).name)
