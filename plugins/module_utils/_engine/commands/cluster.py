# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The command ``globals``: the roles of the cluster in a backup, shown, compared and created."""

from __future__ import annotations

import sys
import typing as t

from ..domain import human
from ..errors import NotFound
from ..printing import printable, printable_name
from ..stores import registry as stores
from . import common, identity

if t.TYPE_CHECKING:
    from ..domain.cluster import Membership, Role
    from ..profile import Profile
    from ..reporting import Reporter
    from ..sources.base import GlobalsReport, RecordedGlobals

_DESCRIPTION = """\
Read a backup of the cluster's roles: their attributes, memberships, settings and comments. A bootstrap of a fresh
cluster restores them by itself, if it has the cluster's age private key; this command is for doing it by hand.

Roles that are missing are created; a role that exists is never changed. A role without a password in the backup cannot
log in. What a superuser alone should decide about is printed as statements, and created only with --privileges.

Settings come from db.env. The age private key is that of the cluster (DB_RESTORE_AGE_PRIVATE_KEY in the environment,
--identity-fd, or the prompt). Values of settings and passwords are never printed."""

_EPILOG = """\
exit status:
  0  success
  1  the backup cannot be used, or there is none
  2  invalid usage or configuration; nothing was changed
  3  another backup or restore of the roles is running
"""


def register(command: common.Command) -> None:
    """Add the command."""
    parser = command("globals", run, "show or restore the roles of the cluster", _DESCRIPTION)
    parser.epilog = _EPILOG
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--show", action="store_true", help="print the roles of the backup; needs no server")
    action.add_argument("--plan", action="store_true", help="print what would be created, and change nothing")
    action.add_argument("--apply", action="store_true", help="create the roles that are missing")
    parser.add_argument(
        "--source",
        metavar="KEY",
        help="key of a backup or its manifest (default: the latest one below the prefix)",
    )
    common.add_flags(parser, "cluster")
    common.add_flags(parser, "cluster_restore")
    identity.add_flag(parser)


def run(options: common.Options, _reporter: Reporter) -> int:
    """Show, plan or restore; the exit status is returned."""
    # Not at the top, as in the command restore.
    from ..sources import registry

    host = common.read_profile(options, "cluster", "cluster_restore", environment=True)
    recorded = _recorded(options, host)
    warnings = [*host.warnings, *recorded.warnings]
    if options.show:
        return _show(options, recorded, warnings)
    report = registry.open_source(host.connection()).restore_globals(
        recorded, privileges=host.values.get("cluster_restore", "privileges"), plan_only=options.plan
    )
    if options.json:
        common.write_json({**report.as_dict(), "changed": report.changed and not options.plan})
        return common.OK
    _warn([*host.warnings, *report.warnings])
    _print(report, done=not options.plan)
    return common.OK


def _recorded(options: common.Options, host: Profile) -> RecordedGlobals:
    from ..restore import cluster

    subject, store = host.cluster_globals(), stores.open_store(host.store())
    key = identity.given(host, options.identity_fd)
    identity.leave_environment()
    interactive = not host.values.get("restore", "non_interactive")
    found = cluster.read(
        store,
        subject,
        trust=host.trust(),
        identity=lambda url: key or identity.ask(url, interactive=interactive),
        source=options.source,
    )
    if found is None:
        raise NotFound(
            f"{store.location} has no backup of the cluster's roles below {printable(subject.prefix)}",
            hint="to back them up, set DB_CLUSTER_AGE_PUBLIC_KEYS (infrazero_cluster_age_public_keys in the inventory);"
            " for those of another host, name its prefix with --prefix",
        )
    return found


def _warn(warnings: t.Iterable[str]) -> None:
    for warning in warnings:
        sys.stderr.write(f"warning: {printable(warning)}\n")


def _print(report: GlobalsReport, *, done: bool) -> None:
    for line in report.plan:
        sys.stdout.write(f"{printable(line)}\n")
    for line in report.steps.listed:
        sys.stdout.write(f"note: {printable(line)}\n")
    roles = human.counted(len(report.steps.created), "role")
    origin = f"{printable(report.recorded.origin.url)} of {report.recorded.origin.created_at}"
    sys.stdout.write(f"{roles} {'created' if done else 'would be created'} from {origin}\n")


def _show(options: common.Options, recorded: RecordedGlobals, warnings: t.Sequence[str]) -> int:
    facts = recorded.globals
    if options.json:
        common.write_json(
            {
                "source": recorded.origin.url,
                "created_at": recorded.origin.created_at,
                "signed_by": recorded.signed_by,
                "server_version_num": facts.server_version_num,
                "roles": [_role(one) for one in facts.roles],
                "memberships": [_membership(one) for one in facts.memberships],
                "tablespaces": list(facts.tablespaces),
                "warnings": [printable(warning) for warning in warnings],
            }
        )
        return common.OK
    _warn(warnings)
    for role in facts.roles:
        words = ["LOGIN" if role.login else "NOLOGIN", *role.privileges]
        more = [f"password {'recorded' if role.password else 'not recorded'}"]
        more += [f"sets {setting.name}" for setting in role.settings]
        sys.stdout.write(f"{printable_name(role.name)}: {printable(', '.join([' '.join(words), *more]))}\n")
    for one in facts.memberships:
        option = " (admin)" if one.admin else ""
        sys.stdout.write(f"{printable_name(one.member)} is a member of {printable_name(one.role)}{option}\n")
    if facts.tablespaces:
        sys.stdout.write(f"tablespaces: {', '.join(map(printable_name, facts.tablespaces))}\n")
    return common.OK


def _role(role: Role) -> dict[str, t.Any]:
    return {
        "name": role.name,
        "login": role.login,
        "inherit": role.inherit,
        "privileges": list(role.privileges),
        "connection_limit": role.connection_limit,
        "valid_until": role.valid_until,
        "password": role.password is not None,
        "settings": [setting.name for setting in role.settings],
    }


def _membership(one: Membership) -> dict[str, t.Any]:
    return {
        "role": one.role,
        "member": one.member,
        "grantor": one.grantor,
        "admin": one.admin,
        "inherit": one.inherit,
        "set": one.set_role,
    }
