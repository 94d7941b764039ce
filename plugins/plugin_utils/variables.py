# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The variables that an inventory or a command line may set for this collection, and errors in their names.

Ansible ignores a variable that nothing reads, so a misspelt one silently leaves a default in force.  On the command
line, each name that begins with ``infrazero_`` must be known.  An inventory may have others that begin so, for other
collections: there, only names that are similar to a known one are errors.  The short names of a playbook's options are
ordinary words: of them, only those on the command line are examined, and only those that are similar to an option.
"""

from __future__ import annotations

import typing as t

from ..module_utils._engine import settings
from ..module_utils._engine.domain import suggestions

#: What the names of all shared variables begin with.
BEGINNING = "infrazero_"
#: What the names begin with whose ending is the user's: parts of the databases list.
OPEN = ("infrazero_databases_",)

#: Shared variables that are settings, or name the file on a host that holds a secret one.
SETTINGS = frozenset(f"infrazero_{row.variable}" for row in settings.TABLE if row.variable) | frozenset(
    f"infrazero_{row.variable}_file" for row in settings.STORED.values() if row.variable and row.secret
)

#: Shared variables that roles and playbooks read; the others are settings.
SHARED = SETTINGS | frozenset(
    {
        "infrazero_allowed_signers",
        "infrazero_allowed_signers_file",
        "infrazero_cluster_age_private_key",
        "infrazero_config_directory",
        "infrazero_databases",
        "infrazero_databases_json_file",
        "infrazero_db_version",
        "infrazero_first_backup",
        "infrazero_hosts",
        "infrazero_infisical_hosts",
        "infrazero_install_directory",
        "infrazero_k3s_node_cidrs",
        "infrazero_listen_address",
        "infrazero_owner",
        "infrazero_prefix",  # of version 0.1, deprecated
        "infrazero_private_cidr",
        "infrazero_revoked_keys",
        "infrazero_rotate_signing_key",
        "infrazero_serial",
        "infrazero_summary_file",
        "infrazero_user",
        "infrazero_volume_device",
        "infrazero_volume_name",
        "infrazero_wg_cidr",
    }
)

#: Options of playbooks by their short names, each with the shared variable that is the same.  ``None``: the option
#: overrides a setting (``infrazero_backup_jobs``, ``infrazero_s3_bucket``) for one run.
OPTIONS: t.Mapping[str, t.Mapping[str, str | None]] = {
    "backup": {"database": "infrazero_database", "jobs": None},
    "policies": {
        "bucket": None,
        "conditions": "infrazero_conditions",
        "dest": "infrazero_dest",
        "prefixes": "infrazero_prefixes",
    },
    "restore": {
        "age_private_key": "infrazero_age_private_key",
        "allow_many": "infrazero_allow_many",
        "as": "infrazero_as",
        "confirm": "infrazero_confirm",
        "database": "infrazero_database",
        "drop_after": "infrazero_drop_after",
        "drop_replaced": "infrazero_drop_replaced",
        "from": "infrazero_from",
        "options": "infrazero_options",
        "tables": "infrazero_tables",
        "undo": "infrazero_undo",
    },
}

KNOWN = SHARED | {shared for options in OPTIONS.values() for shared in options.values() if shared}

_TRUE, _FALSE = frozenset({"true", "yes", "on", "1"}), frozenset({"false", "no", "off", "0"})


def unknown(variables: t.Collection[str], *, extra: t.Collection[str], playbook: str) -> list[str]:
    """One message for each misspelt variable, in the order of their names.

    :param variables: names of all variables of the hosts.
    :param extra: names of those that the command line sets.
    :param playbook: which is run.
    """
    ours = {name for name in {*variables, *extra} if name.startswith(BEGINNING)}
    messages = {
        name: suggestions.unknown(name, KNOWN, "a variable of this collection")
        for name in ours - KNOWN
        if (name in extra or suggestions.nearest(name, KNOWN))
        and not any(name.startswith(beginning) and name != beginning for beginning in OPEN)
    }
    options = OPTIONS.get(playbook, {})
    for name in {*extra} - ours - {*options}:
        if suggestions.nearest(name, options):
            messages[name] = suggestions.unknown(name, options, f"an option of the playbook {playbook}")
    return [messages[name] for name in sorted(messages)]


def contradictions(values: t.Mapping[str, t.Any], *, playbook: str) -> list[str]:
    """One message for each option of *playbook* that has different values under its short and its shared name.

    :param values: by the names of variables.
    """
    return [
        f"{option} and {shared} have different values; set only one of them"
        for option, shared in OPTIONS.get(playbook, {}).items()
        if shared is not None
        and option in values
        and shared in values
        and _plain(values[option]) != _plain(values[shared])
    ]


def _plain(value: object) -> object:
    """The same for ``true`` in an inventory and ``yes`` on the command line, where each value is a text."""
    if not isinstance(value, (str, int, bool)):
        return value
    text = str(value).strip()
    if text.lower() in _TRUE | _FALSE:
        return text.lower() in _TRUE
    return text
