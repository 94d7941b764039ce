# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import sys

import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain import peers
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.peers import Directory, Rule

ROOT, SERVER, MALLORY = 0, 108, 65534


@pytest.mark.parametrize(
    ("path", "owner"),
    [
        # Debian: /run/postgresql, 2775.
        ([Directory(SERVER, 0o42775), Directory(ROOT, 0o40755), Directory(ROOT, 0o40755)], SERVER),
        # An image that lets everybody write there: a socket may be another's, the directory is not.
        ([Directory(SERVER, 0o43777), Directory(ROOT, 0o40755)], SERVER),
        ([Directory(SERVER, 0o40700), Directory(SERVER, 0o40755), Directory(ROOT, 0o40755)], SERVER),
        # Anybody may have created it.
        ([Directory(MALLORY, 0o40755), Directory(ROOT, 0o41777), Directory(ROOT, 0o40755)], None),
        ([Directory(MALLORY, 0o40755), Directory(ROOT, 0o40775)], None),
        ([Directory(SERVER, 0o40755), Directory(MALLORY, 0o40755), Directory(ROOT, 0o40755)], None),
        ([Directory(ROOT, 0o41777), Directory(ROOT, 0o40755)], ROOT),
    ],
)
def test_whose_directory_it_is(path, owner):
    assert peers.directory_owner(path) == owner


HEADER = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
LOCAL, REMOTE = peers.endpoint("127.0.0.1", 5432), peers.endpoint("127.0.0.1", 40000)


def line(local="0100007F:1538", remote="0100007F:9C40", state="01", uid=SERVER, inode=4711):
    return f"   0: {local} {remote} {state} 00000000:00000000 00:00000000 00000000  {uid}  0 {inode} 1 0 100 0 0\n"


@pytest.mark.skipif(sys.byteorder != "little", reason="the lines are those of a little-endian machine")
@pytest.mark.parametrize(
    ("lines", "holder"),
    [
        ([line()], SERVER),
        ([line(local="0100007F:9C40", remote="0100007F:1538", uid=MALLORY)], None),
        ([line(uid=MALLORY)], MALLORY),
        ([line(local="0200007F:1538", uid=MALLORY), line()], SERVER),
        ([line(remote="0100007F:9C41")], None),
        # Not accepted yet, listening, closing.
        ([line(uid=0, inode=0)], None),
        ([line(state="0A")], None),
        ([line(state="06", uid=0, inode=0)], None),
        # A listener for IPv6 that takes IPv4 as well.
        ([line(local="0000000000000000FFFF00000100007F:1538", remote="0000000000000000FFFF00000100007F:9C40")], SERVER),
        ([], None),
    ],
)
def test_whose_end_of_a_connection_it_is(lines, holder):
    assert peers.socket_owner(HEADER + "".join(lines), local=LOCAL, remote=REMOTE) == holder


@pytest.mark.skipif(sys.byteorder != "little", reason="the line is that of a little-endian machine")
def test_an_address_of_ipv6():
    table = HEADER + line(local="000080FE00000000FF565052ADDE5E00:1538", remote="00000000000000000000000001000000:9C40")
    local, remote = peers.endpoint("fe80::5250:56ff:5e:dead%eth0", 5432), peers.endpoint("::1", 40000)
    assert peers.socket_owner(table, local=local, remote=remote) == SERVER


ADMINISTRATOR = Rule("local", ["all"], ["postgres"], "peer", None)


@pytest.mark.parametrize(
    ("rules", "admitted"),
    [
        ([], False),
        ([ADMINISTRATOR, Rule("local", ["all"], ["all"], "peer", None)], False),
        ([ADMINISTRATOR, Rule("local", ["all"], ["all"], "scram-sha-256", None)], True),
        ([Rule("local", ["all"], ["all"], "trust", None)], True),
        ([Rule("local", ["stage"], ["loader"], "md5", None)], True),
        ([Rule("local", ["other", "stage"], ["all"], "password", None)], True),
        ([Rule("local", ["other"], ["all"], "password", None)], False),
        ([Rule("host", ["all"], ["all"], "scram-sha-256", None)], False),
        ([Rule("local", ["all"], ["all"], "reject", None), Rule("local", ["all"], ["all"], "trust", None)], False),
        ([Rule("local", ["replication"], ["all"], "peer", None), Rule("local", ["all"], ["all"], "trust", None)], True),
        # Not understood, so it may be the one that decides.
        ([Rule("local", ["all"], ["+staff"], "peer", None), Rule("local", ["all"], ["all"], "trust", None)], False),
        ([Rule("local", ["sameuser"], ["all"], "peer", None), Rule("local", ["all"], ["all"], "trust", None)], False),
        ([Rule("local", ["/^st"], ["all"], "peer", None), Rule("local", ["all"], ["all"], "trust", None)], False),
        ([Rule("local", ["@file"], ["all"], "peer", None), Rule("local", ["all"], ["all"], "trust", None)], False),
        # ... but not this one, whatever it means.
        ([Rule("local", ["+x"], ["postgres"], "peer", None), Rule("local", ["all"], ["all"], "trust", None)], True),
        # The file has an error: the server uses another one.
        ([Rule("local", ["all"], ["all"], "trust", None), Rule(None, None, None, None, "invalid")], True),
        ([Rule(None, None, None, None, "invalid"), Rule("local", ["all"], ["all"], "trust", None)], False),
    ],
)
def test_whether_the_socket_lets_a_password_in(rules, admitted):
    assert peers.socket_admits(rules, database="stage", role="loader") is admitted
