# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import pwd
import secrets
import socket
import types

import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql import authentication


def test_whoever_listens_on_a_socket_is_named(tmp_path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / ".s.PGSQL.5432"))
        listener.listen()
        assert authentication.socket_listener(str(tmp_path), 5432, timeout=5) == os.geteuid()


def test_whoever_listens_on_an_abstract_socket_is_named():
    name = f"infrazero-{secrets.token_hex(8)}"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"\0{name}/.s.PGSQL.5432")
        listener.listen()
        assert authentication.socket_listener(f"@{name}", 5432, timeout=5) == os.geteuid()


def test_nobody_listens(tmp_path):
    with pytest.raises(FileNotFoundError):
        authentication.socket_listener(str(tmp_path), 5432, timeout=5)


def test_who_may_be_the_server(tmp_path):
    users = authentication.trusted_users(str(tmp_path), "daemon")
    assert {0, os.geteuid(), pwd.getpwnam("daemon").pw_uid} <= users
    assert pwd.getpwnam("nobody").pw_uid not in users
    assert pwd.getpwnam("daemon").pw_uid not in authentication.trusted_users("@abstract", "no such account")


def test_an_account_without_a_name():
    assert authentication.account(0) == "root"
    assert authentication.account(2**31 - 7) is None


def test_the_other_end_of_a_connection_on_this_machine():
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as ours,
    ):
        session = types.SimpleNamespace(fileno=ours.fileno)
        # The kernel has answered for it; no process holds it.
        assert authentication.tcp_peer_user(session) is None
        theirs, _address = listener.accept()
        with theirs:
            assert authentication.tcp_peer_user(session) == os.geteuid()


def test_a_session_through_a_socket_has_no_tcp_peer():
    one, other = socket.socketpair()
    with one, other:
        session = types.SimpleNamespace(fileno=one.fileno)
        assert authentication.endpoints(session) is None
        assert authentication.tcp_peer_user(session) is None
        assert authentication.peer_user(session) == os.geteuid()
