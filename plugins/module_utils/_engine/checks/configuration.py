# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Checks of the configuration directory: what is in it, and who may read and change it."""

from __future__ import annotations

import os
import pathlib
import stat
import typing as t

from .. import settings
from ..domain import human
from ..domain.checks import CRITICAL, OK, WARNING, Check, failed
from ..errors import ConfigurationError

if t.TYPE_CHECKING:
    from .host import Host

AREA = "configuration"


def check(host: Host) -> t.Iterator[Check]:
    """``db.env``, the list in it, and the rights on the files."""
    try:
        profile = host.profile()
    except ConfigurationError as exc:
        yield failed(AREA, "db.env", exc)
        return
    yield Check(AREA, "db.env", OK, f"{host.directory / 'db.env'} is valid")
    for warning in profile.warnings:
        yield Check(AREA, "db.env", WARNING, warning, "correct the name, or remove the line")
    try:
        listed = profile.databases()
    except ConfigurationError as exc:
        yield failed(AREA, "databases list", exc)
    else:
        yield Check(AREA, "databases list", OK, human.counted(len(listed.entries), "database"))
        for warning in listed.warnings:
            yield Check(AREA, "databases list", WARNING, warning, "correct the list")
    yield from _rights(host.directory)


def _rights(directory: pathlib.Path) -> t.Iterator[Check]:
    """Who may read secrets, and who may change what a backup or a restore obeys."""
    private = directory / "db.env"
    guarded = (private, directory, *(directory / name for name in (settings.ALLOWED_SIGNERS, settings.REVOKED_KEYS)))
    # Role runtime gives db.env to the user of backups.
    owners = {0, os.getuid(), private.stat().st_uid}
    good = True
    for path in guarded:
        try:
            found = path.stat()
        except FileNotFoundError:
            continue
        for problem, remedy in _problems(found, owners=owners, secret=path == private):
            good = False
            yield Check(AREA, str(path), CRITICAL, problem, f"{remedy} {path}")
    if good:
        yield Check(AREA, "rights", OK, "only root and the user of backups can change the files, or read the secrets")


def _problems(found: os.stat_result, *, owners: t.Collection[int], secret: bool) -> t.Iterator[tuple[str, str]]:
    mode = stat.S_IMODE(found.st_mode)
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        yield f"other users can change it (mode {mode:04o})", "run: chmod go-w"
    if secret and mode & (stat.S_IRGRP | stat.S_IROTH):
        yield f"other users can read its secrets (mode {mode:04o})", "run: chmod 600"
    if found.st_uid not in owners:
        yield f"it belongs to user {found.st_uid}, who can change it", "run: chown root"
