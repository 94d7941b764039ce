# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looks at a host with the host's own Python, and changes nothing: USER PREFIX, and prints JSON."""

from __future__ import annotations

import importlib.util
import json
import os
import pathlib
import platform
import pwd
import sys

user, prefix = sys.argv[1:]
try:
    account = pwd.getpwnam(user)
except KeyError:
    account = None

closed = None
if account is not None:
    if os.geteuid() == 0:
        os.initgroups(account.pw_name, account.pw_gid)
        os.setgid(account.pw_gid)
        os.setuid(account.pw_uid)
    # As that user: what lies behind the first directory that is closed looks as if it weren't there.
    for above in reversed(pathlib.Path(prefix).parents):
        if not os.access(above, os.X_OK) and os.access(above, os.F_OK):
            closed = str(above)
            break

print(
    json.dumps(
        {
            "version": "{}.{}".format(*sys.version_info),
            "machine": platform.machine(),
            "venv": all(importlib.util.find_spec(name) for name in ("venv", "ensurepip")),
            "user": account is not None,
            "closed": closed,
        }
    )
)
