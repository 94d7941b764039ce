# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this doc fragment is PRIVATE to the collection.

from __future__ import annotations


class ModuleDocFragment:
    """How a PostgreSQL server is reached."""

    DOCUMENTATION = r"""
options:
  login_host:
    description:
      - Where the server is reached. A directory (an absolute path) is that of its socket, anything else a host name or
        an address.
    type: str
    default: /var/run/postgresql
  login_port:
    description:
      - The server's port. It is part of the socket's name too.
    type: int
    default: 5432
  login_user:
    description:
      - The superuser to work as. Through the socket the server usually asks for no password, but for the operating
        system user of the same name, so run the task with C(become_user=postgres).
    type: str
    default: postgres
  login_password:
    description:
      - The password of O(login_user), where the server asks for one.
    type: str
  ssl_mode:
    description:
      - How much of TLS is insisted on. When not given, libpq's own default holds.
    type: str
    choices:
      - disable
      - allow
      - prefer
      - require
      - verify-ca
      - verify-full
  maintenance_db:
    description:
      - The database in which the collection keeps its state (schema C(infrazero)) and its locks. It is never backed up,
        restored or replaced.
    type: str
    default: postgres
requirements:
  - python >= 3.9
  - psycopg2
"""
