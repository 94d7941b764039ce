# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Checks of destinations: what they let the credentials of this host do, and what they honour."""

from __future__ import annotations

import typing as t

from ..domain import checks, policies
from ..domain.checks import CRITICAL, OK, UNKNOWN, WARNING, Check
from ..errors import EngineError
from ..stores import trial
from .host import PRIMARY

if t.TYPE_CHECKING:
    from ..stores.base import Capabilities, Protection
    from .host import Host

AREA = "destinations"


def check(host: Host) -> t.Iterator[Check]:
    """The destination of the host's settings."""
    host.profile()
    try:
        store, found = host.store(), host.trial()
    except EngineError as exc:
        yield checks.failed(AREA, PRIMARY, exc)
        return
    yield from judge(PRIMARY, found, location=store.location)


def judge(name: str, found: trial.Trial, *, location: str) -> t.Iterator[Check]:
    """What a trial means.

    :param name: of the destination.
    :param location: of its store.
    """
    if found.error is not None:
        yield Check(AREA, name, CRITICAL, unfit(found, location=location), found.error.hint)
        return
    yield from _rights(name, found, location=location)
    if found.capabilities is not None:
        yield _create_only(name, found.capabilities, found.protection)
    if found.protection is not None:
        yield _protection(name, found.protection)


def unfit(found: trial.Trial, *, location: str) -> str:
    """Why a destination cannot take backups, in one sentence."""
    where = f"{location}, below {found.refused_prefix}" if found.refused_prefix else location
    error = found.error
    return "" if error is None else f"cannot store backups in {where}: {error.cause or error.message}"


def _rights(name: str, found: trial.Trial, *, location: str) -> t.Iterator[Check]:
    if found.writing == trial.NOT_TRIED:
        yield Check(AREA, name, UNKNOWN, f"{location} answers; no write was tried")
    else:
        yield Check(AREA, name, OK, f"{location} accepts new objects")
    if found.listing == policies.DENIED:
        remedy = "allow s3:ListBucket: without it, an absent backup can't be told from a forbidden one"
        yield Check(AREA, f"{name}: listing", WARNING, "this host may not list objects", remedy)


def _create_only(name: str, capabilities: Capabilities, protection: Protection | None) -> Check:
    whole, parts = capabilities.create_only, capabilities.multipart_create_only
    subject = f"{name}: create-only writes"
    if whole and parts:
        return Check(AREA, subject, OK, "honoured")
    seen = f"{'honoured' if whole else 'not honoured'}; in parts: {'honoured' if parts else 'not honoured'}"
    if protection is not None and protection.versions:
        return Check(AREA, subject, OK, f"{seen}, but overwritten objects are kept")
    remedy = "make sure that only one host writes to a prefix, and turn on versioning of the bucket"
    return Check(AREA, subject, WARNING, seen, remedy)


def _protection(name: str, protection: Protection) -> Check:
    versions, locked = protection.versions, protection.object_lock
    subject = f"{name}: protection"
    seen = f"versioning {_word(versions)}, object lock {_word(locked)}"
    if versions or locked:
        return Check(AREA, subject, OK, seen)
    if versions is None:
        remedy = "allow s3:GetBucketVersioning and s3:GetBucketObjectLockConfiguration to see it here"
        return Check(AREA, subject, UNKNOWN, seen, remedy)
    remedy = "turn on versioning of the bucket: then nothing that this host's keys overwrite is lost"
    return Check(AREA, subject, WARNING, seen, remedy)


def _word(value: bool | None) -> str:
    return {True: "on", False: "off", None: "not known: the credentials may not ask"}[value]


def clocks(host: Host) -> t.Iterator[Check]:
    """The clocks of the server and of the destination, compared with this host's."""
    yield from _clock("server", lambda: host.health().clock_offset)
    yield from _clock(f"destination {PRIMARY}", lambda: host.trial().clock_offset)


def _clock(subject: str, offset: t.Callable[[], float | None]) -> t.Iterator[Check]:
    try:
        yield checks.clock(subject, offset())
    except EngineError as exc:
        yield Check("clocks", subject, UNKNOWN, f"not checked: {exc.message}")
