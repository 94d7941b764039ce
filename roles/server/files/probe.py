# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Facts about a host, as one JSON document.  Runs with the host's Python, without other libraries; changes nothing.

Argument: JSON with ``device`` (a path or empty), ``mount`` (the mount point of the volume), ``clusters`` (the directory
of data directories), ``network_env``, ``db_env`` (files), ``certificate`` and ``key`` (files or empty), ``sources``
(files that the server's certificate and key are copied from) and ``installed`` (the server's own copies).
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import pathlib
import re
import ssl
import subprocess
import sys

CLONE_NEWNS = 0x00020000
#: Options with which the kernel reads a file system without replaying its journal, which would write.
READ_ONLY = {"ext4": "ro,norecovery", "xfs": "ro,norecovery,nouuid"}
#: Object identifiers below belong to initdb (FirstNormalObjectId).
FIRST_NORMAL_OID = 16384


def run(*command):
    """Exit status and output of a program, which may be missing."""
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
    try:
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        return 127, ""
    return done.returncode, done.stdout if done.returncode == 0 else done.stderr


def text_of(path):
    """Text of a file; empty if there is no file."""
    path = pathlib.Path(path)
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""


def names_in(path):
    """Names of the entries of a directory; none if there is no directory."""
    path = pathlib.Path(path)
    return sorted(entry.name for entry in path.iterdir()) if path.is_dir() else []


def release():
    """Name, version and codename of the distribution."""
    values = dict(re.findall(r'^([A-Z_]+)="?([^"\n]*)"?$', text_of("/etc/os-release"), re.MULTILINE))
    return {
        "id": values.get("ID", ""),
        "version": values.get("VERSION_ID", ""),
        "codename": values.get("VERSION_CODENAME", ""),
    }


def packages():
    """Major versions whose server is installed, and those that can be installed."""
    status, text = run("dpkg-query", "-W", "-f", "${Package} ${db:Status-Abbrev}\n", "postgresql-[0-9]*")
    installed = re.findall(r"^postgresql-([0-9]+) ii", text, re.MULTILINE) if status == 0 else []
    # Slow, so only if it matters.
    status, text = (1, "") if installed else run("apt-cache", "search", "--names-only", "^postgresql-[0-9]+$")
    candidates = re.findall(r"^postgresql-([0-9]+) ", text, re.MULTILINE) if status == 0 else []
    return {"installed": sorted(installed), "candidates": sorted(candidates)}


def addresses():
    """IPv4 addresses without the loopback's, in the system's order."""
    status, text = run("ip", "-4", "-o", "address", "show")
    found = re.findall(r"\binet ([0-9.]+)(?:/| )(.*)", text) if status == 0 else []
    return [address for address, rest in found if "scope host" not in rest]


def mounts():
    """Device number, source and mount point of every mount."""
    found = []
    for line in text_of("/proc/self/mountinfo").splitlines():
        before, after = line.split(" - ", 1)
        fields = before.split(" ")
        point = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), fields[4])
        found.append((fields[2], after.split(" ")[1], point))
    return found


def directories(root):
    """Data directories below *root*, by major version."""
    found = {}
    for path in pathlib.Path(root).glob("[1-9]*/main"):
        oids = [int(name) for name in names_in(path / "base") if name.isdigit()]
        found[path.parent.name] = {
            "empty": not names_in(path),
            "version": text_of(path / "PG_VERSION").strip(),
            "running": (path / "postmaster.pid").exists(),
            "user_databases": any(oid >= FIRST_NORMAL_OID for oid in oids),
        }
    return found


def used(path):
    """Bytes that the files below *path* occupy."""
    total = 0
    for directory, _below, names in os.walk(path):
        for name in names:
            with contextlib.suppress(FileNotFoundError):  # a running server removes files
                total += pathlib.Path(directory, name).lstat().st_blocks * 512
    return total


def contents(root):
    """Contents of a mounted volume."""
    space = os.statvfs(root)
    return {
        "entries": names_in(root),
        "data": directories(pathlib.Path(root, "postgresql")),
        "free": space.f_bavail * space.f_frsize,
        "fault": "",
    }


def contents_of_device(device, kind):
    """Contents of an unmounted volume, which is mounted read-only in a namespace that ends with the process."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNS):
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
            status, text = run("mount", "--make-rprivate", "/")
            if status == 0:
                status, text = run("mount", "-t", kind, "-o", READ_ONLY[kind], device, "/mnt")
            result = {"fault": " ".join(text.split())} if status else contents("/mnt")
        except OSError as exc:
            result = {"fault": str(exc)}
        with os.fdopen(writer, "w") as out:
            json.dump({"entries": [], "data": {}, "free": 0, **result}, out)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as result:
        found = json.load(result)
    os.waitpid(child, 0)
    return found


def signature(device):
    """What blkid finds on the device itself, bypassing its cache, and whether the signatures are ambivalent."""
    status, text = run("blkid", "-p", "-o", "export", device)
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line) if status == 0 else {}, status == 8


def busy(device):
    """Whether the kernel uses the device, even if this process cannot see what for."""
    try:
        os.close(os.open(device, os.O_RDONLY | os.O_EXCL))
    except OSError:
        return True
    return False


def volume(path, mount):
    """Facts about the device and its contents."""
    device = pathlib.Path(path).resolve()
    real = str(device)
    found = {"device": real, "exists": device.exists(), "block": device.is_block_device()}
    if not found["block"]:
        return found
    number = device.stat().st_rdev
    name = f"{os.major(number)}:{os.minor(number)}"
    marks, ambivalent = signature(real)
    size = int(text_of(f"/sys/dev/block/{name}/size") or 0) * 512
    found.update(
        signature={key: marks[key] for key in ("TYPE", "UUID", "PTTYPE") if key in marks},
        ambivalent=ambivalent,
        mountpoints=sorted({point for mounted, _source, point in mounts() if mounted == name}),
        busy=busy(real),
    )
    found.update(entries=[], data={}, free=size, fault="")
    if mount in found["mountpoints"]:
        found.update(contents(mount))
    elif marks.get("TYPE") in READ_ONLY and not found["busy"]:
        found.update(contents_of_device(real, marks["TYPE"]))
    return found


def place(mount):
    """Facts about the volume's mount point."""
    lines = [line.split() for line in text_of("/etc/fstab").splitlines() if not line.lstrip().startswith("#")]
    return {
        "mounted": next((source for _device, source, point in reversed(mounts()) if point == mount), ""),
        "fstab": next((line[0] for line in lines if len(line) > 1 and line[1].rstrip("/") == mount), ""),
        "entries": names_in(mount),
    }


def local(clusters, mount):
    """Data directories where the packages expect them."""
    found = directories(clusters)
    points = {point for _device, _source, point in mounts()}
    for major, facts in found.items():
        path = pathlib.Path(clusters, major, "main")
        twin = pathlib.Path(mount, "postgresql", major, "main")
        facts["mounted"] = str(path) in points
        facts["on_volume"] = facts["mounted"] and twin.exists() and path.samefile(twin)
        facts["aside"] = "main.before-volume" in names_in(path.parent)
        facts["bytes"] = 0 if facts["on_volume"] else used(path)
    return found


def tls_fault(certificate, key):
    """Why OpenSSL rejects the pair; empty if it does not."""

    def no_passphrase():
        raise ValueError("the key has a passphrase")

    for path in (certificate, key):
        if not pathlib.Path(path).is_file():
            return f"there is no file {path}"
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, no_passphrase)
    except ValueError as exc:
        return str(exc)
    except (OSError, ssl.SSLError) as exc:
        return f"OpenSSL rejects them: {getattr(exc, 'reason', None) or exc}"
    return ""


def same(source, copy):
    """Whether both files exist and have the same contents."""
    paths = pathlib.Path(source), pathlib.Path(copy)
    return all(path.is_file() for path in paths) and paths[0].read_bytes() == paths[1].read_bytes()


def main():
    question = json.loads(sys.argv[1])
    pair = question["certificate"], question["key"]
    found = {
        "os": release(),
        "addresses": addresses(),
        "clusters": sorted(path.parts[3] for path in pathlib.Path("/etc/postgresql").glob("*/main/postgresql.conf")),
        "network_env": text_of(question["network_env"]),
        "db_env": pathlib.Path(question["db_env"]).exists(),
        "local": local(question["clusters"], question["mount"]),
        "mount": place(question["mount"]),
        "volume": volume(question["device"], question["mount"]) if question["device"] else {},
        "tls_fault": tls_fault(*pair) if all(pair) else "",
        "tls_installed": pathlib.Path(question["installed"][0]).exists(),
        "tls_current": all(same(source, copy) for source, copy in zip(question["sources"], question["installed"])),
        "certbot": pathlib.Path("/usr/bin/certbot").exists(),
        **packages(),
    }
    json.dump(found, sys.stdout)


main()
