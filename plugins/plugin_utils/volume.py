# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Plans the steps for a volume, and for the data directories on it and on the host's own disk.

``roles/server/files/probe.py`` gathers the facts.  Whatever could destroy data is refused here, before anything
changes.
"""

from __future__ import annotations

import dataclasses
import typing as t

#: Mount point of the volume.
MOUNT = "/mnt/db"
#: Where Debian's packages expect clusters.
CLUSTERS = "/var/lib/postgresql"

#: Directory of a volume's data directories. A file system with other files and without it has another purpose.
_HOME = "postgresql"
#: Contents of an unused file system.
_UNUSED = {"lost+found"}
#: Free space that a copy needs, in relation to its size.
_MARGIN = 1.05
#: A cluster without databases takes half of it, in bytes.
_SMALLEST = 100 * 1024 * 1024

Facts = t.Mapping[str, t.Any]
#: Called with a reason and a remedy.
Refuse = t.Callable[[str, str], None]


@dataclasses.dataclass(frozen=True)
class Volume:
    """Steps that move a data directory to a volume; all of them are false if it is there already.

    :param device: the device itself, not a link to it.
    :param uuid: UUID of its file system; empty if the file system is to be created.
    :param bring: copy the host's own data directory to the volume.
    :param set_aside: rename the host's own data directory to :attr:`aside`.
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
    """Where the packages expect the cluster's data directory."""
    return f"{CLUSTERS}/{major}/main"


def check_directory(place: str, major: str, data: Facts, refuse: Refuse) -> None:
    """Refuse data directories (*data*, by major version) beside which there must be no server of *major*."""
    ours = data.get(major)
    if ours is not None and not ours["empty"]:
        if not ours["version"]:
            refuse(
                f"{place}/{major}/main is not empty and has no PG_VERSION: it is not a data directory",
                "move its contents elsewhere",
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
            f"set server_version to {others[-1]}, or upgrade or move it away first; this role does not convert it",
        )


def plan(*, device: str, filesystem: str, major: str, facts: Facts, refuse: Refuse) -> Volume | None:
    """Plan the steps for a volume; ``None`` if something was refused.

    :param device: path of the device, as the user wrote it.
    :param filesystem: type of the file system to create or to require.
    :param facts: ``volume``, ``mount`` and ``local`` of the probe.
    """
    refusals: list[str] = []

    def say(reason: str, remedy: str) -> None:
        refusals.append(reason)
        refuse(reason, remedy)

    volume, local = facts["volume"], facts["local"].get(major)
    if not volume["exists"]:
        say(f"{device} does not exist", "attach the volume, or correct its name")
        return None
    if not volume["block"]:
        say(f"{device} is not a block device", "set the volume's device")
        return None
    _check_signature(device, filesystem, volume, say)
    _check_use(device, volume, facts["mount"], data_directory(major), say)
    if refusals:
        return None
    data = volume["data"].get(major)
    check_directory(f"{MOUNT}/{_HOME}", major, volume["data"], say)
    strange = sorted(set(volume["entries"]) - _UNUSED)
    if strange and _HOME not in strange:
        say(
            f"the file system on {device} contains other files: {', '.join(strange[:3])}",
            f"empty it, or create the directory {_HOME} in it to mark it for a database",
        )
    present = data is not None and not data["empty"]
    bound = local is not None and local["on_volume"]
    # Data that the bind mount would hide.
    hidden = local is not None and not bound and not local["empty"]
    aside = f"{CLUSTERS}/{major}/main.before-volume"
    if local is not None and local["mounted"] and not bound:
        say(f"another file system is mounted at {data_directory(major)}", "unmount it, and remove it from /etc/fstab")
    if hidden:
        _check_local(local, present, aside, volume, major, say)
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


def _check_local(local: Facts, present: bool, aside: str, volume: Facts, major: str, refuse: Refuse) -> None:
    """Refuse data of the host's own disk and of the volume that exclude each other."""
    if present and local["user_databases"]:
        refuse(
            f"both the volume and {data_directory(major)} have databases, and one would hide the other",
            f"move {data_directory(major)} away to use those of the volume",
        )
    if not present and local["bytes"] * _MARGIN > volume["free"]:
        refuse(
            f"{data_directory(major)} has {local['bytes']} bytes, and the volume has {volume['free']} free",
            "attach a larger volume",
        )
    if local["aside"]:
        refuse(
            f"{aside} exists already, so the present data cannot be set aside there",
            "remove it if you no longer need it",
        )


def _check_signature(device: str, filesystem: str, volume: Facts, refuse: Refuse) -> None:
    signature = volume["signature"]
    if volume["ambivalent"]:
        refuse(f"{device} has signatures of several kinds", "examine it with wipefs; set another device, or erase it")
    elif "PTTYPE" in signature and "TYPE" not in signature:
        refuse(f"{device} has a partition table ({signature['PTTYPE']})", "set one of its partitions, or erase it")
    elif signature and signature.get("TYPE") != filesystem:
        kind = signature.get("TYPE", "an unknown format")
        refuse(f"{device} contains {kind}, not {filesystem}", "set another device, or server_volume_filesystem")
    elif not signature and volume["free"] < _SMALLEST:
        refuse(f"{device} has {volume['free']} bytes", f"a cluster needs at least {_SMALLEST}")
    elif volume["fault"]:
        refuse(f"the file system on {device} cannot be read: {volume['fault']}", "check it with fsck")


def _check_use(device: str, volume: Facts, mount: Facts, data: str, refuse: Refuse) -> None:
    elsewhere = sorted(set(volume["mountpoints"]) - {MOUNT, data})
    if elsewhere:
        refuse(f"{device} is mounted at {', '.join(elsewhere)}", "unmount it there, or set another device")
    elif volume["busy"] and MOUNT not in volume["mountpoints"]:
        refuse(
            f"{device} is in use (swap, RAID, LVM or a mount)",
            "find its user with lsblk, or set another device",
        )
    if MOUNT in volume["mountpoints"]:
        return
    if mount["mounted"]:
        refuse(f"{mount['mounted']} is mounted at {MOUNT}", "unmount it first")
    elif mount["entries"]:
        refuse(f"{MOUNT} has files on the host's own disk, which the volume would hide", "move them away")
    known = {volume["device"], device, f"UUID={volume['signature'].get('UUID', '')}"}
    if mount["fstab"] and mount["fstab"] not in known:
        refuse(f"/etc/fstab has {mount['fstab']} at {MOUNT}", "remove that line")
