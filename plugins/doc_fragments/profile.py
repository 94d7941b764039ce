# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """A configuration directory of the host."""

    DOCUMENTATION = r"""
options:
  config:
    description:
      - Configuration directory on the host, such as C(/etc/infrazero). Its C(db.env), which role
        P(infrazero.database.runtime#role) writes, sets every option that is not given, as it does for the command on
        the host. Keys are read from the same directory.
      - Without it, the default of an option is used where it is not given.
      - C(db.env) belongs to the user that backups run as, so run the task as that user.
    type: path
    version_added: 0.2.0
"""
