# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import dataclasses
import typing as t

import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain import envfile
from ansible_collections.infrazero.database.plugins.plugin_utils import server, volume

DEVICE = "/dev/disk/by-id/scsi-0HC_Volume_db"
UUID = "0b0a3f3c-5f2b-4a86-9f8e-5c9d1f1d1c11"
GIB = 1024**3


def directory(version: str = "15", **changes: t.Any) -> dict[str, t.Any]:
    """Facts of a data directory."""
    return {
        "empty": False,
        "version": version,
        "running": False,
        "user_databases": False,
        "mounted": False,
        "on_volume": False,
        "aside": False,
        "bytes": 40_000_000,
        **changes,
    }


BLANK: dict[str, t.Any] = {
    "device": "/dev/sdb",
    "exists": True,
    "block": True,
    "signature": {},
    "ambivalent": False,
    "mountpoints": [],
    "busy": False,
    "entries": [],
    "data": {},
    "free": 10 * GIB,
    "fault": "",
}
MADE = {**BLANK, "signature": {"TYPE": "ext4", "UUID": UUID}, "entries": ["lost+found"]}
FILLED = {**MADE, "entries": ["lost+found", "postgresql"], "data": {"15": directory()}}


def facts(**changes: t.Any) -> dict[str, t.Any]:
    return {
        "os": {"id": "debian", "version": "12", "codename": "bookworm"},
        "installed": [],
        "candidates": [],
        "clusters": [],
        "addresses": ["198.51.100.7", "10.0.3.4"],
        "network_env": "",
        "local": {},
        "mount": {"mounted": "", "fstab": "", "entries": []},
        "volume": BLANK,
        "tls_fault": "",
        **changes,
    }


def wish(**changes: t.Any) -> dict[str, t.Any]:
    return {
        "version": "",
        "repository": "distribution",
        "settings": {},
        "wg_cidr": "",
        "private_cidr": "",
        "listen_address": "",
        "databases": [],
        "databases_required": False,
        "client_cidrs": "",
        "db_env": "",
        "volume_device": "",
        "volume_filesystem": "ext4",
        "tls": "none",
        "server_tls_certificate": "",
        "server_tls_key": "",
        "server_certbot_domains": [],
        "server_certbot_email": "",
        "server_certbot_cloudflare_token": False,
        **changes,
    }


def refused(wanted: dict[str, t.Any], found: dict[str, t.Any]) -> str:
    with pytest.raises(server.InvalidServer) as caught:
        server.plan(wanted, found)
    assert str(caught.value).endswith("hint: nothing has been changed")
    return "; ".join(caught.value.faults)


def steps(**changes: t.Any) -> volume.Volume:
    planned = server.plan(wish(volume_device=DEVICE), facts(**changes)).volume
    assert planned is not None
    return planned


# The version ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("release", "major"), [(("debian", "11"), "13"), (("debian", "12"), "15"), (("debian", "13"), "17")]
)
def test_the_distribution_has_a_version_of_its_own(release: tuple[str, str], major: str) -> None:
    found = facts(os={"id": release[0], "version": release[1], "codename": "x"})
    assert server.plan(wish(), found).major == major


@pytest.mark.parametrize("text", ["15", "15.4", " 15 ", "15.4.1"])
def test_the_major_version_is_taken_from_a_version(text: str) -> None:
    assert server.plan(wish(version=text), facts()).major == "15"


@pytest.mark.parametrize(
    ("changes", "found", "text"),
    [
        ({"version": "fifteen"}, {}, "is not a version of PostgreSQL"),
        ({"version": "9.6"}, {}, "9 is too old"),
        ({"version": "17"}, {}, "PostgreSQL 17 is not in the archives of debian 12, which has 15"),
        ({}, {"os": {"id": "plan9", "version": "4", "codename": ""}}, "this distribution is unknown"),
        ({}, {"clusters": ["13"]}, "the host has a cluster of PostgreSQL 13, and none of 15"),
        ({}, {"local": {"13": directory("13")}}, "has a data directory of PostgreSQL 13, and none of 15"),
        ({}, {"local": {"15": directory("13")}}, "is a data directory of PostgreSQL 13"),
        ({}, {"local": {"15": directory("")}}, "is not empty and has no PG_VERSION"),
    ],
)
def test_versions_that_can_not_be_had_are_refused(changes: t.Any, found: t.Any, text: str) -> None:
    told = refused(wish(**changes), facts(**found))
    assert told.startswith("server_version: ") and text in told


@pytest.mark.parametrize("found", [{"installed": ["17"]}, {"candidates": ["17"]}])
def test_a_version_from_elsewhere_that_the_host_knows_is_taken(found: t.Any) -> None:
    assert server.plan(wish(version="17"), facts(**found)).major == "17"
    assert server.plan(wish(version="17", repository="pgdg"), facts()).major == "17"


def test_an_older_cluster_beside_ours_is_left_alone() -> None:
    found = facts(clusters=["13", "15"], local={"13": directory("13"), "15": directory()})
    assert server.plan(wish(), found).major == "15"


# Networks ------------------------------------------------------------------------------------------------------------


def test_the_hosts_own_settings_speak_where_the_inventory_is_silent() -> None:
    found = facts(network_env="WG_CIDR='10.8.0.0/24'\nPRIVATE_CIDR='10.0.0.0/16'\nOTHER=x\n")
    text = 'DATABASES_JSON=\'[{"name": "shop", "user": "app"}]\'\nK3S_NODE_CIDRS=10.1.0.0/16\n'
    planned = server.plan(wish(db_env=text), found)
    assert planned.listen_addresses == "10.0.3.4,localhost"
    assert planned.network_env == {}
    assert planned.hba == [
        "host all all 10.8.0.0/24 scram-sha-256",
        'host "shop" "app" 10.1.0.0/16 scram-sha-256',
    ]


def test_what_the_inventory_says_is_written_down() -> None:
    found = facts(network_env="WG_CIDR='10.8.0.0/24'\nPRIVATE_CIDR='192.168.0.0/16'\n")
    planned = server.plan(wish(wg_cidr="10.8.0.0/24", private_cidr="10.0.0.0/16"), found)
    assert planned.network_env == {"PRIVATE_CIDR": "10.0.0.0/16"}
    assert planned.listen_addresses == "10.0.3.4,localhost"


def test_what_is_not_wrong_but_should_be_known() -> None:
    (everywhere,) = server.plan(wish(private_cidr="192.168.0.0/16"), facts()).warnings
    assert "no address of this host is in PRIVATE_CIDR 192.168.0.0/16" in everywhere
    (no_loopback,) = server.plan(wish(listen_address="10.0.3.4"), facts()).warnings
    assert "does not include localhost" in no_loopback


def test_a_list_can_be_required_and_may_be_the_hosts_own() -> None:
    assert "server_databases: there is no list: no infrazero_databases" in refused(
        wish(databases_required=True), facts()
    )
    own = envfile.render({"DATABASES_JSON": '[{"name": "a", "user": "b"}]'})
    for given in ({"databases": [{"name": "a", "user": "b"}]}, {"db_env": own}):
        assert server.plan(wish(databases_required=True, **given), facts()).major == "15"
    assert server.plan(wish(), facts()).major == "15"


def test_every_fault_is_told_at_once_and_no_secret() -> None:
    told = refused(
        wish(
            settings={"port": 1, "a b": 1, "x": "1\n2", "ssl": True, "y": None},
            wg_cidr="x",
            private_cidr="y",
            client_cidrs="z",
            databases="not json",
            tls="certbot",
            db_env="A=$(canary)",
        ),
        facts(network_env="A='open"),
    )
    for part in (
        "network.env: network.env, line 1",
        "db.env: db.env, line 1",
        "server_settings: port is set by server_port",
        "server_settings: 'a b' is not the name of a setting",
        "server_settings: the value of x is not a single line",
        "server_settings: ssl is set by server_tls",
        "server_settings: the value of y is not a single line",
        "WG_CIDR: 'x' is not a network",
        "PRIVATE_CIDR: 'y' is not a network",
        "server_client_cidrs: 'z' is not a network",
        "server_certbot_domains: is empty",
        "server_certbot_email: is empty",
        "server_certbot_cloudflare_token: is empty",
    ):
        assert part in told
    assert "canary" not in told


def test_certificates_that_openssl_refuses() -> None:
    told = refused(
        wish(tls="files", server_tls_certificate="/c", server_tls_key="/k"), facts(tls_fault="there is no file /c")
    )
    assert told.startswith("server_tls_certificate and server_tls_key: there is no file /c")
    assert "server_tls_key: is empty" in refused(wish(tls="files", server_tls_certificate="/c"), facts())


# The volume ----------------------------------------------------------------------------------------------------------


def test_no_volume_was_asked_for() -> None:
    assert server.plan(wish(), facts()).volume is None


def test_a_blank_volume_on_a_new_host() -> None:
    assert steps() == volume.Volume(
        device="/dev/sdb",
        filesystem="ext4",
        uuid="",
        make=True,
        mount=True,
        bring=False,
        set_aside=False,
        aside="/var/lib/postgresql/15/main.before-volume",
        bind=True,
    )


def test_a_volume_that_its_provider_has_formatted() -> None:
    planned = steps(volume=MADE)
    assert (planned.make, planned.uuid, planned.mount, planned.bind) == (False, UUID, True, True)


def test_the_volume_of_a_lost_host() -> None:
    planned = steps(volume=FILLED)
    assert not planned.make and not planned.bring and not planned.set_aside and planned.bind


def test_a_server_that_has_run_without_it() -> None:
    local = {"15": directory(user_databases=True, running=True)}
    planned = steps(volume=MADE, local=local, clusters=["15"])
    assert planned.bring and planned.set_aside and planned.bind


def test_the_volume_of_a_lost_host_where_packages_have_made_an_empty_cluster() -> None:
    planned = steps(volume=FILLED, local={"15": directory()}, clusters=["15"])
    assert planned.set_aside and not planned.bring and planned.bind


def test_nothing_is_left_to_do() -> None:
    mounted = {**FILLED, "mountpoints": ["/mnt/db", volume.data_directory("15")], "busy": True}
    place = {"mounted": "/dev/sdb", "fstab": f"UUID={UUID}", "entries": ["lost+found", "postgresql"]}
    planned = steps(volume=mounted, mount=place, local={"15": directory(mounted=True, on_volume=True)})
    steps_to_do = [name for name, value in dataclasses.asdict(planned).items() if value is True]
    assert steps_to_do == []


def test_a_run_that_was_cut_short_between_the_mounts() -> None:
    mounted = {**MADE, "mountpoints": ["/mnt/db"], "busy": True}
    place = {"mounted": "/dev/sdb", "fstab": f"UUID={UUID}", "entries": ["lost+found"]}
    planned = steps(volume=mounted, mount=place)
    assert not planned.mount and planned.bind


@pytest.mark.parametrize(
    ("found", "text"),
    [
        ({**BLANK, "exists": False}, f"{DEVICE} does not exist"),
        ({**BLANK, "block": False}, "is not a block device"),
        ({**BLANK, "signature": {"TYPE": "ntfs", "UUID": "1"}}, "contains ntfs, not ext4"),
        ({**BLANK, "signature": {"TYPE": "xfs", "UUID": "1"}}, "contains xfs, not ext4"),
        ({**BLANK, "signature": {"TYPE": "swap", "UUID": "1"}}, "contains swap, not ext4"),
        ({**BLANK, "signature": {"PTTYPE": "gpt"}}, "has a partition table (gpt)"),
        ({**BLANK, "ambivalent": True}, "signatures of several kinds"),
        ({**BLANK, "free": 1024}, "has 1024 bytes"),
        ({**MADE, "fault": "Structure needs cleaning"}, "cannot be read: Structure needs cleaning"),
        ({**MADE, "mountpoints": ["/srv"], "busy": True}, "is mounted at /srv"),
        ({**BLANK, "busy": True}, "is in use"),
        ({**MADE, "entries": ["home", "lost+found"]}, "contains other files: home"),
        ({**FILLED, "data": {"15": directory("13")}}, "is a data directory of PostgreSQL 13"),
        ({**FILLED, "data": {"13": directory("13")}}, "has a data directory of PostgreSQL 13, and none of 15"),
        ({**FILLED, "data": {"15": directory("")}}, "is not empty and has no PG_VERSION"),
    ],
)
def test_volumes_that_may_be_somebody_elses_are_refused(found: dict[str, t.Any], text: str) -> None:
    told = refused(wish(volume_device=DEVICE), facts(volume=found))
    assert told.startswith("server_volume_device: ") and text in told


def test_xfs_is_taken_where_it_was_asked_for() -> None:
    found = facts(volume={**MADE, "signature": {"TYPE": "xfs", "UUID": UUID}})
    assert server.plan(wish(volume_device=DEVICE, volume_filesystem="xfs"), found).volume is not None


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"mount": {"mounted": "/dev/sdc", "fstab": "", "entries": []}}, "/dev/sdc is mounted at /mnt/db"),
        ({"mount": {"mounted": "", "fstab": "", "entries": ["x"]}}, "/mnt/db has files on the host's own disk"),
        ({"mount": {"mounted": "", "fstab": "UUID=other", "entries": []}}, "/etc/fstab has UUID=other at /mnt/db"),
        ({"local": {"15": directory(mounted=True)}}, "another file system is mounted at"),
        ({"local": {"15": directory(user_databases=True)}}, "both the volume and /var/lib/postgresql/15/main"),
        ({"local": {"15": directory(aside=True)}}, "main.before-volume exists"),
        ({"volume": MADE, "local": {"15": directory(bytes=10 * GIB)}}, "and the volume has 10737418240 free"),
    ],
)
def test_places_that_are_taken_are_refused(changes: dict[str, t.Any], text: str) -> None:
    told = refused(wish(volume_device=DEVICE), facts(**{"volume": FILLED, **changes}))
    assert told.startswith("server_volume_device: ") and text in told


def test_the_fstab_may_name_the_device_otherwise() -> None:
    for source in (f"UUID={UUID}", "/dev/sdb", DEVICE):
        assert steps(volume=FILLED, mount={"mounted": "", "fstab": source, "entries": []}).mount
