# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Validation of an inventory on the controller, without a connection to any host.

The values come in as plain data; what is found goes out as texts that hold no secret.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ..module_utils._engine import settings
from ..module_utils._engine.domain import databases, layout
from ..module_utils._engine.domain.secret import Secret
from ..module_utils._engine.errors import EngineError
from ..module_utils._engine.streams import age
from . import signers

try:
    import pyrage
except ImportError:
    pyrage = None

#: What errors call a list that comes from an inventory.
NAME = "infrazero_databases"
#: What the names of variables of settings begin with: shared ones, and those of role runtime, which override them.
_BEGINNINGS = ("infrazero_", "runtime_")


class _CheckedByTheHost:
    """Accepts every age key if the controller has no pyrage: the modules check them before they change anything."""

    def recipient_fault(self, text: str) -> str | None:
        return None

    def mix_fault(self, recipients: t.Sequence[str]) -> str | None:
        return None

    def identity_fault(self, secret: Secret) -> str | None:
        return None

    def pair_fault(self, recipients: t.Sequence[str], secret: Secret) -> str | None:
        return None


def key_rules() -> databases.KeyRules:
    """Validators of age keys, as far as this controller can."""
    return _CheckedByTheHost() if pyrage is None else age


@dataclasses.dataclass
class Report:
    """What was found about one host.

    :param databases: names of the databases.
    :param places: where their backups are stored, as URLs of prefixes that several hosts could share.
    """

    databases: list[str] = dataclasses.field(default_factory=list)
    errors: list[str] = dataclasses.field(default_factory=list)
    warnings: list[str] = dataclasses.field(default_factory=list)
    places: list[str] = dataclasses.field(default_factory=list)

    def failed(self, error: EngineError, *, where: str = "") -> None:
        """Record an error."""
        if isinstance(error, databases.InvalidDatabases):
            self.errors += [str(fault) for fault in error.faults]
            return
        reason = f"{error.message}: {error.cause}" if error.cause else error.message
        self.errors.append(where + reason + (f" ({error.hint})" if error.hint else ""))


def setting_variables() -> dict[str, settings.Setting]:
    """Settings by the variables that set them."""
    return {f"{each}{row.variable}": row for each in _BEGINNINGS for row in settings.TABLE if row.variable}


def file_variables() -> dict[str, settings.Setting]:
    """Secret settings by the variables that name files of the host with their values."""
    return {
        f"{each}{row.variable}_file": row
        for each in _BEGINNINGS
        for row in settings.STORED.values()
        if row.variable and row.secret
    }


def examine(values: t.Mapping[str, t.Any], source: object, *, host: str, node: str, missing: str) -> Report:
    """Validate the variables of one host.

    :param values: of the variables of settings and of those that name their files, by name; ``None``: it has one, but
        that is not known.
    :param source: the list, its JSON text or the base64 of that.
    :param host: name in the inventory.
    :param node: node name of the controller.
    :param missing: what to say if there is no list.
    """
    report = Report()
    rows = setting_variables()
    found, errors = settings.examine(values, rows)
    for error in errors.values():
        report.failed(error)
    unknown = {rows[name].key for name in rows if name in errors or values.get(name, "") is None}
    unknown |= set(_check_files(report, values))
    _check_store(report, found, unknown=unknown)
    name = found.get(("signing", "signing_name")) or host
    try:
        name = signers.signing_name(str(name), node=node)
    except EngineError as exc:
        report.failed(exc)
    recipients = found.get(("cluster_backup", "age_public_keys")) or ()
    for recipient in recipients:
        reason = key_rules().recipient_fault(recipient)
        if reason is not None:
            report.errors.append(f"infrazero_cluster_age_public_keys {reason} (give age recipients)")
    prefixes = []
    if recipients:
        prefixes.append(found.get(("cluster", "prefix")) or layout.cluster_prefix(name))
    if not source:
        report.errors.append(missing)
    else:
        prefixes += _check_list(report, source, maintenance=found.get(("connection", "maintenance_database")))
    bucket = found.get(("store", "bucket"))
    if bucket and not found.get(("store", "directory")):
        endpoint = found.get(("store", "endpoint"))
        store = f"{endpoint.rstrip('/')}/{bucket}" if endpoint else f"s3://{bucket}"
        report.places = [f"{store}/{prefix}" for prefix in prefixes]
    return report


def shared(places: t.Mapping[str, t.Collection[str]]) -> list[str]:
    """A warning for each place in which several hosts store backups.

    :param places: by host.
    """
    hosts: dict[str, list[str]] = {}
    for host, own in places.items():
        for place in own:
            hosts.setdefault(place, []).append(host)
    return [
        f"{', '.join(found)} store backups in the same place, {place}: unless they are nodes of one cluster, give each"
        " a bucket or a backup_prefix of its own"
        for place, found in sorted(hosts.items())
        if len(found) > 1
    ]


def _check_list(report: Report, source: object, *, maintenance: str | None) -> list[str]:
    """Record the errors of a list; return the prefixes of its databases."""
    try:
        listed = databases.parse(
            databases.decoded(source, name=NAME),
            rules=key_rules(),
            private=True,
            maintenance_database=maintenance or "postgres",
            name=NAME,
        )
    except EngineError as exc:
        report.failed(exc)
        return []
    report.warnings += listed.warnings
    if pyrage is None:
        report.warnings.append("the age keys were not validated: the library pyrage is not installed on the controller")
    report.databases = [entry.name for entry in listed.entries]
    return [entry.prefix for entry in listed.entries]


def _check_files(report: Report, values: t.Mapping[str, t.Any]) -> t.Iterator[tuple[str, str]]:
    """Record the errors in the paths of files that hold secrets; yield the keys of settings that have such a file."""
    for name, row in file_variables().items():
        path = values.get(name, "")
        if path == "":
            continue
        yield row.key
        secret = name[: -len("_file")]
        if values.get(secret):
            report.errors.append(f"{secret} and {name} are both set (set only one of them)")
        elif path is not None and not str(path).startswith("/"):
            report.errors.append(f"{name} is not an absolute path (name a file on the host)")


def _check_store(
    report: Report, found: t.Mapping[tuple[str, str], t.Any], *, unknown: t.Collection[tuple[str, str]]
) -> None:
    """Record that there is no destination, or one half of its credentials only.

    :param unknown: settings that have a value, but none that is known and valid.
    """
    bucket, directory = ("store", "bucket"), ("store", "directory")
    if not (found.get(bucket) or found.get(directory) or {bucket, directory} & {*unknown}):
        report.errors.append(
            "nothing says where backups are stored (set infrazero_s3_bucket or infrazero_backup_directory)"
        )
    pair = {
        name: bool(found.get(("store", name)) or ("store", name) in unknown)
        for name in ("access_key_id", "secret_access_key")
    }
    if len({*pair.values()}) > 1:
        (missing,) = (name for name, given in pair.items() if not given)
        report.errors.append(
            f"infrazero_s3_{missing} is not set, but the other half of the credentials is (set both, or neither)"
        )
