# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What `ansible-test` runs in a new virtual environment in place of the get-pip.py that it would fetch.

pip comes from the standard library, and installs the versions asked for from the index that it is configured for.
"""

from __future__ import annotations

import subprocess
import sys

# Options of the real script: leave out two packages that ensurepip may bring, and that do no harm.
arguments = [argument for argument in sys.argv[1:] if argument not in ("--no-setuptools", "--no-wheel")]
subprocess.run([sys.executable, "-m", "ensurepip"], check=True, stdout=subprocess.DEVNULL)
subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", *arguments], check=True)
