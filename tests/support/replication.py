# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A standby of a cluster, with plain streaming replication."""

from __future__ import annotations

import typing as t

from .cluster import SERVER_USER, Cluster, wait_until


class Standby(Cluster):
    """A copy of *primary*, which must be running, that follows it until it is promoted.

    :param configuration: more settings for ``postgresql.conf``.
    """

    def __init__(self, primary: Cluster, *, configuration: t.Mapping[str, str] | None = None) -> None:
        super().__init__(primary.major, configuration=configuration)
        self._primary = primary

    def __enter__(self) -> Standby:
        super().__enter__()
        return self

    def start(self) -> None:
        """Start it, and copy the primary first where there is no copy; it follows the primary from then on."""
        super().start()
        if self.psql("SELECT pg_is_in_recovery()") == "t":
            wait_until(lambda: self.psql("SELECT status FROM pg_stat_wal_receiver") == "streaming")

    def catch_up(self) -> None:
        """Wait until it has everything that the primary has now."""
        # Commits are asynchronous in these clusters: what is committed need not be written yet.
        position = self._primary.psql("SELECT pg_current_wal_insert_lsn()")
        wait_until(lambda: self.psql(f"SELECT pg_last_wal_replay_lsn() >= '{position}'") == "t")

    def promote(self) -> None:
        """Make it a primary."""
        self._pg_ctl("promote", "-w", "-t", "60")

    def _initialise(self) -> None:
        self._run(
            *(str(self.bindir / "pg_basebackup"), "--pgdata", str(self.data_directory), "--write-recovery-conf"),
            *("--checkpoint=fast", "--wal-method=stream", "--no-sync"),
            *(f"--host={self._primary.host}", f"--port={self._primary.port}", f"--username={SERVER_USER}"),
        )
