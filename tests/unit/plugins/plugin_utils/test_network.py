# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.infrazero.database.plugins.plugin_utils import network


@pytest.mark.parametrize(
    ("text", "network_of_it"),
    [
        ("10.8.0.0/24", "10.8.0.0/24"),
        (" 10.8.0.1/24 ", "10.8.0.0/24"),
        ("10.8.0.1", "10.8.0.1/32"),
        ("fd00::/8", "fd00::/8"),
        ("0.0.0.0/0", "0.0.0.0/0"),
    ],
)
def test_one_network(text: str, network_of_it: str) -> None:
    assert network.cidr(text) == network_of_it


@pytest.mark.parametrize(
    "text", ["", "all", "10.8.0.0/33", "10.8.0", "10.8.0.0/24 trust", "10.8.0.0/24\nhost all", "samenet"]
)
def test_what_is_no_network_is_refused(text: str) -> None:
    with pytest.raises(network.BadNetwork):
        network.cidr(text)


@pytest.mark.parametrize(
    "source", ["10.1.0.0/16,10.2.0.0/16", "10.1.0.0/16, 10.2.0.9/16\n10.1.0.0/16,", ["10.1.0.0/16", "10.2.0.0/16"]]
)
def test_several_networks(source: object) -> None:
    assert network.cidrs(source) == ("10.1.0.0/16", "10.2.0.0/16")


def test_no_networks() -> None:
    assert network.cidrs("") == network.cidrs([]) == ()


@pytest.mark.parametrize("source", [7, None, {"a": 1}, ["10.1.0.0/16", 7.5], "10.1.0.0/16 trust"])
def test_what_are_no_networks_is_refused(source: object) -> None:
    with pytest.raises(network.BadNetwork):
        network.cidrs(source)


ADDRESSES = ["198.51.100.7", "10.0.3.4", "10.0.3.5"]


@pytest.mark.parametrize(
    ("wanted", "private", "listen"),
    [
        ("10.0.3.5, localhost", "10.0.0.0/16", "10.0.3.5, localhost"),
        ("*", "10.0.0.0/16", "*"),
        ("::1,db.example.com", "", "::1,db.example.com"),
        ("", "10.0.0.0/16", "10.0.3.4,localhost"),
        ("", "10.0.3.5/32", "10.0.3.5,localhost"),
        ("", "10.0.9.9/16", "10.0.3.4,localhost"),
        ("", "192.168.0.0/16", "*"),
        ("", "", "*"),
    ],
)
def test_what_a_server_listens_on(wanted: str, private: str, listen: str) -> None:
    assert network.listen_addresses(wanted=wanted, private=private, addresses=ADDRESSES) == listen


@pytest.mark.parametrize(
    ("wanted", "private"), [("a b", ""), ("10.0.0.1,", ""), ("'; x", ""), ("", "fd00::/8"), ("", "x")]
)
def test_what_nobody_can_listen_on_is_refused(wanted: str, private: str) -> None:
    with pytest.raises(network.BadNetwork):
        network.listen_addresses(wanted=wanted, private=private, addresses=ADDRESSES)


@pytest.mark.parametrize(
    ("listen", "covered"),
    [("*", True), ("10.0.0.1,localhost", True), ("0.0.0.0", True), ("10.0.0.1", False), ("::", False)],
)
def test_whether_it_is_reached_from_its_own_host(listen: str, covered: bool) -> None:
    assert network.covers_loopback(listen) is covered
