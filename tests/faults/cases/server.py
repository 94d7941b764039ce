# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A PostgreSQL server on its bad days: locked, full, told strange things, damaged."""

from __future__ import annotations

import contextlib
import pathlib
import typing as t

import psycopg2

from tests.faults.trial import BACKUP, BOOTSTRAP, RESTORE, SUCCEEDS, Case, Trial


def cases() -> t.Iterator[Case]:
    """All of them."""
    yield Case(
        "backup/server/locked",
        BACKUP,
        "a table is held ACCESS EXCLUSIVE",
        _locked,
        says="locked by",
        quick=True,
    )
    for stage in (BACKUP, RESTORE):
        yield Case(f"{stage}/server/full", stage, "there are too many connections", _full, says="max_connections")
        yield Case(f"{stage}/server/down", stage, "the server doesn't run", _down, says="running")
    yield Case("backup/server/no-database", BACKUP, "the database isn't there", _gone, says="does not exist")
    yield Case("restore/server/no-database", RESTORE, "the database isn't there", _gone, SUCCEEDS)
    yield Case("restore/server/connected", RESTORE, "somebody is connected to the database", _connected, SUCCEEDS)
    yield Case(
        "restore/server/connected-refused", RESTORE, "somebody is connected, and is not to be disturbed", _refusing
    )
    yield Case("restore/server/no-login", RESTORE, "pg_hba.conf lets nobody in by password", _no_login, says="pg_hba")
    yield Case("backup/server/damaged-page", BACKUP, "a page of a table is damaged", _damaged, quick=True)
    yield Case("backup/server/missing-file", BACKUP, "the file of a table is gone", _file_gone)
    yield Case(
        "backup/server/row-security",
        BACKUP,
        "row level security is forced, and a setting of the database has the administrator act as its owner",
        _row_security,
        SUCCEEDS,
    )
    yield Case(
        "backup/server/superuser-security",
        BACKUP,
        "row level security is forced, the dump is the superuser's",
        _forced,
        SUCCEEDS,
    )
    for name, words, setting in (
        ("statement_timeout", "statements may take 1 ms", "statement_timeout = 1"),
        ("lock_timeout", "locks may be waited for 1 ms", "lock_timeout = 1"),
        ("read_only", "transactions are read-only", "default_transaction_read_only = on"),
        ("encoding", "clients speak LATIN1", "client_encoding = latin1"),
        ("datestyle", "dates are written the German way", "datestyle = 'German'"),
        ("bytea", "bytes are written the old way", "bytea_output = escape"),
        ("strings", "backslashes mean something in texts", "standard_conforming_strings = off"),
        ("floats", "numbers are written short", "extra_float_digits = -15"),
        ("search_path", "names are looked for elsewhere", "search_path = 'nosuch'"),
    ):
        for stage in (BACKUP, RESTORE):

            def told(trial: Trial, setting: str = setting) -> None:
                trial.world.sql(f"ALTER DATABASE {trial.live.name} SET {setting}; ALTER ROLE postgres SET {setting}")
                trial.heals(
                    lambda: trial.world.cluster.psql(
                        f"SET default_transaction_read_only = off; ALTER DATABASE {trial.live.name} RESET ALL;"
                        "ALTER ROLE postgres RESET ALL"
                    )
                )
                trial.happened()

            yield Case(f"{stage}/told/{name}", stage, f"the server was told that {words}", told, SUCCEEDS)

    def superuser(trial: Trial) -> None:
        trial.world.bare.psql("CREATE ROLE small SUPERUSER")
        trial.heals(lambda: trial.world.bare.psql("DROP ROLE IF EXISTS small"))
        trial.happened()

    yield Case(
        "bootstrap/server/superuser", BOOTSTRAP, "the user of the list is a superuser", superuser, says="superuser"
    )

    def down(trial: Trial) -> None:
        trial.world.bare.stop()
        trial.heals(trial.world.bare.start)
        trial.happened()

    yield Case("bootstrap/server/down", BOOTSTRAP, "the server doesn't run", down, says="running")


def _locked(trial: Trial) -> None:
    conn = trial.world.connect(trial.live.name)
    trial.heals(conn.close)
    conn.autocommit = False
    conn.cursor().execute("LOCK TABLE public.later IN ACCESS EXCLUSIVE MODE")
    trial.happened()


def _full(trial: Trial) -> None:
    with contextlib.suppress(psycopg2.OperationalError):
        while True:
            trial.heals(trial.world.connect().close)
    trial.happened()


def _down(trial: Trial) -> None:
    trial.world.cluster.stop()
    trial.happened()


def _gone(trial: Trial) -> None:
    trial.world.sql(f"DROP DATABASE {trial.live.name}")
    trial.rows = None
    if trial.case.stage == BACKUP:
        trial.heals(trial.world.reset_databases)
    trial.happened()


def _connected(trial: Trial) -> None:
    trial.heals(trial.world.connect(trial.live.name).close)
    trial.happened()


def _refusing(trial: Trial) -> None:
    trial.arguments = ["--refuse-connected"]
    _connected(trial)


def _no_login(trial: Trial) -> None:
    path = trial.world.cluster.data_directory / "pg_hba.conf"
    before = path.read_text()

    def write(text: str) -> None:
        path.write_text(text)
        trial.world.sql("SELECT pg_reload_conf()")

    write("local all postgres peer map=local\nhost all all 127.0.0.1/32 reject\n")
    trial.heals(lambda: write(before))
    trial.happened()


def _file_of(trial: Trial) -> pathlib.Path:
    """The file of a table, written and read by nobody."""
    ((path,),) = trial.world.sql("SELECT pg_relation_filepath('public.looks_like_sql')", trial.live.name)
    trial.world.cluster.stop()
    return trial.world.cluster.data_directory / path


def _damaged(trial: Trial) -> None:
    path = _file_of(trial)
    before = path.read_bytes()

    def put_back() -> None:
        trial.world.cluster.stop(immediate=True)
        path.write_bytes(before)
        trial.world.cluster.start()

    with path.open("r+b") as file:
        file.write(b"\xa5" * 8192)
    trial.world.cluster.start()
    trial.heals(put_back)
    trial.happened()


def _file_gone(trial: Trial) -> None:
    path = _file_of(trial)
    aside = path.with_suffix(".aside")
    path.rename(aside)

    def put_back() -> None:
        trial.world.cluster.stop(immediate=True)
        aside.rename(path)
        trial.world.cluster.start()

    trial.world.cluster.start()
    trial.heals(put_back)
    trial.happened()


def _forced(trial: Trial) -> None:
    name = trial.live.name
    trial.world.sql(
        "ALTER TABLE public.later ENABLE ROW LEVEL SECURITY; ALTER TABLE public.later FORCE ROW LEVEL SECURITY;"
        "CREATE POLICY nothing ON public.later USING (false)",
        name,
    )
    trial.heals(
        lambda: trial.world.sql(
            "DROP POLICY nothing ON public.later; ALTER TABLE public.later DISABLE ROW LEVEL SECURITY,"
            " NO FORCE ROW LEVEL SECURITY",
            name,
        )
    )
    trial.happened()


def _row_security(trial: Trial) -> None:
    """The administrator is to act as somebody else in that database; a dump takes no notice, and has all rows."""
    _forced(trial)
    name = trial.live.name
    trial.world.sql(f"ALTER ROLE postgres IN DATABASE {name} SET role = '{name}'")
    trial.heals(lambda: trial.world.sql(f"ALTER ROLE postgres IN DATABASE {name} RESET role"))
