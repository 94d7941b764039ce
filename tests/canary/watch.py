# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps watch over everything that a run may leave a secret in."""

from __future__ import annotations

import contextlib
import pathlib
import typing as t

from . import surfaces
from .allowed import leaks

if t.TYPE_CHECKING:
    from tests.support.cluster import Cluster

    from .canaries import Flock, Hit


class Watch:
    """Entered before the run, asked after it.

    :param passed_over: ids of processes whose environment is the test's own business.
    :param log: whether to listen to the system's log, which one watch can at a time.
    """

    def __init__(self, *passed_over: int, log: bool = True) -> None:
        self.processes = surfaces.ProcessSampler(*passed_over)
        self.log = surfaces.SystemLog()
        self.new_files = surfaces.NewFiles()
        self._surfaces = (self.new_files, self.processes, *([self.log] if log else []))
        self._outputs: list[tuple[str, bytes]] = []
        self._entered = contextlib.ExitStack()

    def __enter__(self) -> Watch:
        for surface in self._surfaces:
            self._entered.enter_context(surface)
        return self

    def __exit__(self, *_exception: object) -> None:
        self._entered.close()

    def output(self, name: str, text: str | bytes) -> None:
        """Search what something printed, too."""
        self._outputs.append((name, text.encode() if isinstance(text, str) else text))

    def texts(self, cluster: Cluster | None, *roots: pathlib.Path) -> t.Iterator[tuple[str, bytes]]:
        """Everything that there is to search; the watch is over then.

        :param cluster: which server to ask.
        :param roots: folders to search whatever their age.
        """
        self._entered.close()
        yield from self._outputs
        yield from self.processes.texts()
        yield "the system's log", self.log.text
        for path, data in self.new_files.contents():
            # The cluster's own files are searched below, where their state on disk is known.
            if cluster is None or cluster.directory not in path.parents:
                yield str(path), data
        for root in roots:
            for path, data in surfaces.files(root):
                yield str(path), data
        if cluster is not None:
            yield from surfaces.of_cluster(cluster)
            yield from surfaces.of_data_directory(cluster)

    def hits(self, flock: Flock, cluster: Cluster | None, *roots: pathlib.Path) -> list[Hit]:
        """Every secret, wherever it is."""
        return [hit for place, data in self.texts(cluster, *roots) for hit in flock.hits(data, place)]

    def leaks(self, flock: Flock, cluster: Cluster | None, *roots: pathlib.Path) -> list[Hit]:
        """Every secret in a place where none may be."""
        return leaks(self.hits(flock, cluster, *roots))
