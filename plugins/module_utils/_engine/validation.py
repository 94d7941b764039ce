# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Validation without a server and without a store: of a list of databases, and of a configuration directory.

Every error is reported at once.  What an error says is what a backup or a restore would say of it.
"""

from __future__ import annotations

import dataclasses
import pathlib
import typing as t

from . import settings
from .domain import databases
from .domain.databases import Fault, InvalidDatabases
from .domain.text import NotJson, strict_json
from .errors import ConfigurationError, EngineError
from .profile import Profile
from .streams import age

#: Where the errors are that belong to no entry of the list.
SETTINGS = "settings"
LIST = "list"
#: Stands for a password in a file.
_IN_A_FILE = "in a file"


@dataclasses.dataclass(frozen=True)
class Report:
    """What was found.

    :param subject: what was validated: the path of a file or a directory.
    :param databases: number of databases in the list; ``None``: the list is not valid.
    :param errors: the errors, each with its place, reason and remedy.
    :param warnings: what is valid, but probably not meant.
    """

    subject: str
    databases: int | None
    errors: tuple[Fault, ...]
    warnings: tuple[str, ...]

    def as_dict(self) -> dict[str, t.Any]:
        """As plain data."""
        return {
            "subject": self.subject,
            "valid": not self.errors,
            "databases": self.databases,
            "errors": [dataclasses.asdict(fault) for fault in self.errors],
            "warnings": list(self.warnings),
        }


def of_list(text: str, *, subject: str, private: bool = True) -> Report:
    """Validate a list.  Files that it names are not read: they may be on another machine.

    :param text: JSON text, or its base64.
    :param subject: what errors and the report call it.
    :param private: whether private keys may be present.
    """
    try:
        source = databases.with_files(
            databases.decoded(text, name=subject), read=lambda _path: _IN_A_FILE, private=False, name=subject
        )
        found = databases.parse(
            _without_key_files(source) if private else source, rules=age, private=private, name=subject
        )
    except ConfigurationError as exc:
        return Report(subject, None, _faults(exc, LIST, ""), ())
    return Report(subject, len(found.entries), (), found.warnings)


def of_directory(directory: str | pathlib.Path) -> Report:
    """Validate a configuration directory: the settings and the list in its ``db.env``, and the keys beside it.

    :raises ConfigurationError: if ``db.env`` cannot be read as a settings file.
    """
    host, errors = Profile.examine(directory)
    named = f" in {host.directory / 'db.env'} "
    faults = [
        dataclasses.replace(fault, reason=fault.reason.replace(f"{name}{named}", "", 1))
        for name, error in errors.items()
        for fault in _faults(error, SETTINGS, name)
    ]
    warnings = list(host.warnings)
    count = None
    try:
        listed = host.databases()
    except EngineError as exc:
        # Where its file cannot be read, that has been said.
        if settings.LIST + "_FILE" not in errors:
            faults += _faults(exc, LIST, "")
    else:
        count = len(listed.entries)
        warnings += listed.warnings
        faults += _of(lambda: host.restore_options(listed))
    if host.values.get("store", "directory") is None:
        faults += _credentials(host)
    for check in (host.store, host.signer, host.trust, host.backup_options):
        faults += _of(check)
    for recipient in host.cluster_globals().recipients:
        reason = age.recipient_fault(recipient)
        if reason is not None:
            name = str(settings.BY_KEY["cluster_backup", "age_public_keys"].environment)
            faults.append(Fault(SETTINGS, name, reason, "give age recipients, which begin with age1"))
    return Report(str(host.directory), count, tuple(dict.fromkeys(faults)), tuple(warnings))


def _without_key_files(source: object) -> object:
    """*source* without the names of files that hold private keys: the keys themselves are optional."""
    if isinstance(source, (str, bytes)):
        try:
            source = strict_json(source)
        except NotJson:
            return source  # parse() reports it
    if not isinstance(source, list):
        return source
    field = "backup_age_private_key_file"
    return [
        {name: value for name, value in item.items() if name != field}
        if isinstance(item, dict) and isinstance(item.get(field), str) and not item.get("backup_age_private_key")
        else item
        for item in source
    ]


def _credentials(host: Profile) -> t.Iterator[Fault]:
    """One half of a pair without the other."""
    names = ("access_key_id", "secret_access_key")
    missing = [name for name in names if not host.values.get("store", name)]
    if len(missing) == 1:
        (name,) = missing
        variable = str(settings.BY_KEY["store", name].environment)
        yield Fault(SETTINGS, variable, "is not set, but the other half of the credentials is", "set both, or neither")


def _of(check: t.Callable[[], object]) -> t.Sequence[Fault]:
    try:
        check()
    except EngineError as exc:
        return _faults(exc, SETTINGS, "")
    return ()


def _faults(error: EngineError, place: str, field: str) -> tuple[Fault, ...]:
    if isinstance(error, InvalidDatabases):
        return error.faults
    reason = f"{error.message}: {error.cause}" if error.cause else error.message
    return (Fault(place, field, reason, error.hint),)
