# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import pathlib

import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.secret import Secret
from ansible_collections.infrazero.database.plugins.module_utils._engine.errors import (
    ConfigurationError,
    LibraryMissing,
)
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.connection import (
    ConnectionSettings,
    client_arguments,
    client_credentials,
    client_program,
)
from psycopg2.extensions import parse_dsn


@pytest.fixture
def installations(tmp_path):
    def install(*majors):
        for major in majors:
            program = tmp_path / str(major) / "bin" / "pg_dump"
            program.parent.mkdir(parents=True)
            program.touch(mode=0o755)
        return str(tmp_path)

    return install


def major_of(program):
    return int(pathlib.Path(program).parent.parent.name)


def test_client_program_is_the_nearest_that_is_new_enough(installations):
    assert major_of(client_program("pg_dump", 150018, installations=installations(9, 13, 15, 16, 17))) == 15


def test_client_program_is_newer_where_its_own_major_is_missing(installations):
    assert major_of(client_program("pg_dump", 150018, installations=installations(9, 16, 17))) == 16


def test_client_program_for_archives_is_the_newest(installations):
    assert major_of(client_program("pg_dump", 150018, newest=True, installations=installations(15, 16, 17))) == 17


def test_client_program_older_than_the_server_names_the_package(installations, monkeypatch):
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    with pytest.raises(LibraryMissing) as caught:
        client_program("pg_dump", 170002, installations=installations(13, 15))
    assert "older than the server" in str(caught.value)
    assert "the newest pg_dump on this host has version 15" in caught.value.cause
    assert "postgresql-client-17" in caught.value.hint


def test_client_program_from_path_where_there_are_no_installations(tmp_path, monkeypatch):
    program = tmp_path / "pg_dump"
    program.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert client_program("pg_dump", 150018, installations=str(tmp_path / "none")) == str(program)


def test_client_program_nowhere(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LibraryMissing, match="postgresql-client-15"):
        client_program("pg_dump", 150018, installations=str(tmp_path))


def test_programs_that_may_not_be_run_do_not_count(installations, monkeypatch):
    root = installations(15)
    pathlib.Path(root, "15", "bin", "pg_dump").chmod(0o644)
    monkeypatch.setenv("PATH", root)
    with pytest.raises(LibraryMissing, match="not installed"):
        client_program("pg_dump", 150018, installations=root)


def test_client_arguments_hold_no_secret_and_quote_the_name():
    settings = ConnectionSettings(
        host="db.example", port=5433, user="o'admin", password=Secret("canary"), sslmode="require"
    )
    (argument,) = client_arguments(settings, "dbname=x user=y")
    assert parse_dsn(argument[len("--dbname=") :]) == {
        "host": "db.example",
        "port": "5433",
        "user": "o'admin",
        "dbname": "dbname=x user=y",
        "connect_timeout": "10",
        "sslmode": "require",
    }


def test_without_a_password_there_are_no_credentials_of_anybody():
    with client_credentials(ConnectionSettings()) as (environment, descriptors):
        assert descriptors == ()
        # Instead of ~/.pgpass: below a file, nobody can create this one.
        assert environment == {"PGPASSFILE": "/dev/null/pgpass"}


@pytest.mark.parametrize("host", ["db.example.com", "10.0.0.5", "::2"])
@pytest.mark.parametrize("sslmode", [None, "disable", "prefer", "require", "verify-ca"])
def test_a_server_on_the_network_that_is_not_authenticated_is_a_warning(host, sslmode):
    (warning,) = ConnectionSettings(host=host, sslmode=sslmode, password=Secret("canary")).warnings
    assert f"the server {host} is not authenticated (sslmode {sslmode or 'prefer'})" in warning
    assert "DB_SSLMODE" in warning
    assert "canary" not in warning


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"host": "@abstract"},
        {"host": "127.0.0.1"},
        {"host": "::1"},
        {"host": "localhost"},
        {"host": "db.example.com", "sslmode": "verify-full"},
    ],
)
def test_no_warning_where_nobody_is_between(changes):
    assert ConnectionSettings(**changes).warnings == ()


def test_password_file_is_private_escaped_and_gone_afterwards():
    with client_credentials(ConnectionSettings(password=Secret(r"a:b\c"))) as (environment, descriptors):
        path = pathlib.Path(environment["PGPASSFILE"])
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.read_text(encoding="utf-8") == "*:*:*:*:a\\:b\\\\c\n"
        (descriptor,) = descriptors
        assert not os.get_inheritable(descriptor)
    with pytest.raises(OSError, match="descriptor"):
        os.fstat(descriptor)


@pytest.mark.parametrize("password", ["a\nb", "a\rb"])
def test_a_password_that_no_password_file_can_hold(password):
    with pytest.raises(ConfigurationError) as caught, client_credentials(ConnectionSettings(password=Secret(password))):
        pass
    assert password not in str(caught.value)
