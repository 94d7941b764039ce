# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The host that is checked: each part is read once, and fails in the same way for every check that needs it."""

from __future__ import annotations

import dataclasses
import datetime
import functools
import pathlib
import typing as t

from ..errors import EngineError
from ..profile import Profile
from ..sources import registry as sources
from ..stores import registry as stores
from ..stores import trial

if t.TYPE_CHECKING:
    from ..sources.base import Health
    from ..stores.base import Store

#: What a host calls the one destination that its settings describe.
PRIMARY = "primary"

Part = t.TypeVar("Part")


class _Once(t.Generic[Part]):
    """The result of a function, or its error, from its first call on."""

    def __init__(self, read: t.Callable[[], Part]) -> None:
        self._read = read
        self._result: list[Part] = []
        self._error: EngineError | None = None

    def __call__(self) -> Part:
        if self._error is not None:
            raise self._error
        if not self._result:
            try:
                self._result.append(self._read())
            except EngineError as exc:
                self._error = exc
                raise
        return self._result[0]


@dataclasses.dataclass(frozen=True)
class Places:
    """Where a host keeps what is not in its configuration directory.

    :param cron: cron tables, and directories of them.
    :param units: directory of systemd's units.
    :param processes: the kernel's list of processes.
    :param systemd: exists where systemd runs the host.
    """

    cron: tuple[str, ...] = ("/etc/crontab", "/etc/cron.d")
    units: str = "/etc/systemd/system"
    processes: str = "/proc"
    systemd: str = "/run/systemd/system"


class Host:
    """One configuration directory of a host, and what it leads to.

    :param directory: the configuration directory.
    :param places: where the rest is.
    :param now: the time of the checks, UTC.
    """

    def __init__(self, directory: pathlib.Path, *, places: Places, now: datetime.datetime) -> None:
        self.directory = directory
        self.places = places
        self.now = now
        self.profile: t.Callable[[], Profile] = _Once(functools.partial(Profile.read, directory))
        self.health: t.Callable[[], Health] = _Once(self._health)
        self.store: t.Callable[[], Store] = _Once(lambda: stores.open_store(self.profile().store()))
        self.trial: t.Callable[[], trial.Trial] = _Once(self._trial)

    def _health(self) -> Health:
        with sources.open_source(self.profile().connection()).session() as session:
            return session.health()

    def _trial(self) -> trial.Trial:
        prefixes = [subject.prefix for subject in self.profile().subjects()]
        return trial.examine(self.store(), prefixes, write=True)
