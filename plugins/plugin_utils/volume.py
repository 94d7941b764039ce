# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What to do with a volume and with the data directories on it and on the host's own disk.

Facts in (``roles/server/files/probe.py`` gathers them), steps out.  Whatever could cost somebody's data is
refused here, before anything has been touched.
"""

from __future__ import annotations

import dataclasses
import typing as t

#: Where the volume is mounted.
MOUNT = "/mnt/db"
#: Where Debian's packages look for clusters.
CLUSTERS = "/var/lib/postgresql"

#: Says where a volume's data directories are; a file system without it, but with anything else, is somebody else's.
_HOME = "postgresql"
#: What a file system that nobody has used has in it.
_UNUSED = {"lost+found"}
#: Room that a copy needs besides its own size.
_MARGIN = 1.05
#: A cluster without any database takes half of it.
_SMALLEST = 100 * 1024 * 1024

Facts = t.Mapping[str, t.Any]
#: Takes a reason and a remedy.
Refuse = t.Callable[[str, str], None]


@dataclasses.dataclass(frozen=True)
class Volume:
    """The steps that bring a data directory onto a volume; with all of them false it is there.

    :param device: the device itself, no link to it.
    :param uuid: of its file system; empty where one is to be made.
    :param bring: the host's own data directory is copied to the volume.
    :param set_aside: the host's own data directory is renamed to :attr:`aside`.
    """

    device: str
    filesystem: str
    uuid: str
    make: bool
    mount: bool
    bring: bool
    set_aside: bool
    aside: str
    bind: bool


def data_directory(major: str) -> str:
    """Where the cluster's data directory is looked for."""
    return f"{CLUSTERS}/{major}/main"


def judge_directory(place: str, major: str, data: Facts, refuse: Refuse) -> None:
    """Refuse the data directories in *data*, by major version, where a server of *major* must not come beside them."""
    ours = data.get(major)
    if ours is not None and not ours["empty"]:
        if not ours["version"]:
            refuse(
                f"{place}/{major}/main is not empty and has no PG_VERSION: it is no data directory",
                "move away what is in it",
            )
        elif ours["version"] != major:
            refuse(
                f"{place}/{major}/main is a data directory of PostgreSQL {ours['version']}",
                f"set server_version to {ours['version']}, or move it away",
            )
        return
    others = sorted(other for other, found in data.items() if other != major and not found["empty"])
    if others:
        refuse(
            f"{place} has a data directory of PostgreSQL {', '.join(others)}, and none of {major}",
            f"set server_version to {others[-1]}, or upgrade or move it away first; nothing here converts it",
        )


def plan(*, device: str, filesystem: str, major: str, facts: Facts, refuse: Refuse) -> Volume | None:
    """The steps for a volume, or ``None`` where something was refused.

    :param device: as it was asked for.
    :param filesystem: what is made where there is none, and expected where there is one.
    :param facts: ``volume``, ``mount`` and ``local`` of the probe.
    """
    refusals: list[str] = []

    def say(reason: str, remedy: str) -> None:
        refusals.append(reason)
        refuse(reason, remedy)

    volume, local = facts["volume"], facts["local"].get(major)
    if not volume["exists"]:
        say(f"{device} isn't there", "attach the volume, or correct its name")
        return None
    if not volume["block"]:
        say(f"{device} is no block device", "name the volume's device")
        return None
    _judge_signature(device, filesystem, volume, say)
    _judge_use(device, volume, facts["mount"], data_directory(major), say)
    if refusals:
        return None
    data = volume["data"].get(major)
    judge_directory(f"{MOUNT}/{_HOME}", major, volume["data"], say)
    strange = sorted(set(volume["entries"]) - _UNUSED)
    if strange and _HOME not in strange:
        say(
            f"the file system on {device} holds something else: {', '.join(strange[:3])}",
            f"empty it, or make the directory {_HOME} in it to say that it is meant for a database",
        )
    present = data is not None and not data["empty"]
    bound = local is not None and local["on_volume"]
    # What the bind mount would hide.
    hidden = local is not None and not bound and not local["empty"]
    aside = f"{CLUSTERS}/{major}/main.before-volume"
    if local is not None and local["mounted"] and not bound:
        say(f"{data_directory(major)} is a mount of something else", "unmount it, and take it out of /etc/fstab")
    if hidden:
        _judge_local(local, present, aside, volume, major, say)
    if refusals:
        return None
    return Volume(
        device=volume["device"],
        filesystem=filesystem,
        uuid=volume["signature"].get("UUID", ""),
        make=not volume["signature"],
        mount=MOUNT not in volume["mountpoints"],
        bring=hidden and not present,
        set_aside=hidden,
        aside=aside,
        bind=not bound,
    )


def _judge_local(local: Facts, present: bool, aside: str, volume: Facts, major: str, refuse: Refuse) -> None:
    """Refuse what can't be brought together: data of the host's own disk and of the volume."""
    if present and local["user_databases"]:
        refuse(
            f"both the volume and {data_directory(major)} have databases, and one would hide the other",
            f"move {data_directory(major)} away if the volume's are meant",
        )
    if not present and local["bytes"] * _MARGIN > volume["free"]:
        refuse(
            f"{data_directory(major)} has {local['bytes']} bytes and the volume has room for {volume['free']}",
            "take a larger volume",
        )
    if local["aside"]:
        refuse(f"{aside} is in the way of what an earlier run would put there", "remove it when it is of no use")


def _judge_signature(device: str, filesystem: str, volume: Facts, refuse: Refuse) -> None:
    signature = volume["signature"]
    if volume["ambivalent"]:
        refuse(f"{device} has signatures of several kinds", "look at it with wipefs; name another device, or erase it")
    elif "PTTYPE" in signature and "TYPE" not in signature:
        refuse(f"{device} has a partition table ({signature['PTTYPE']})", "name one of its partitions, or erase it")
    elif signature and signature.get("TYPE") != filesystem:
        kind = signature.get("TYPE", "something unknown")
        refuse(f"{device} holds {kind}, not {filesystem}", "name another device, or set server_volume_filesystem")
    elif not signature and volume["free"] < _SMALLEST:
        refuse(f"{device} has {volume['free']} bytes", f"a cluster needs {_SMALLEST} at least")
    elif volume["fault"]:
        refuse(f"the file system on {device} can't be read: {volume['fault']}", "check it with fsck")


def _judge_use(device: str, volume: Facts, mount: Facts, data: str, refuse: Refuse) -> None:
    elsewhere = sorted(set(volume["mountpoints"]) - {MOUNT, data})
    if elsewhere:
        refuse(f"{device} is mounted at {', '.join(elsewhere)}", "unmount it there, or name another device")
    elif volume["busy"] and MOUNT not in volume["mountpoints"]:
        refuse(f"{device} is in use (swap, RAID, LVM or a mount)", "find its user with lsblk, or name another device")
    if MOUNT in volume["mountpoints"]:
        return
    if mount["mounted"]:
        refuse(f"{MOUNT} is the place of {mount['mounted']}", "unmount that first")
    elif mount["entries"]:
        refuse(f"{MOUNT} has files on the host's own disk, which the volume would hide", "move them away")
    known = {volume["device"], device, f"UUID={volume['signature'].get('UUID', '')}"}
    if mount["fstab"] and mount["fstab"] not in known:
        refuse(f"/etc/fstab has {mount['fstab']} at {MOUNT}", "take that line out")
