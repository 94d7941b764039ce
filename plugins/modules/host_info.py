#!/usr/bin/python
# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: host_info
short_description: Answer everything that a role asks about a host, in one task
version_added: 0.2.0
description:
  - Gathers facts about files, a user, programs, units of systemd, Python and a signing key. Each option is a question.
    What is not asked is not answered.
  - A role can compare the answers with its desired state on the controller, and skip every task that would change
    nothing. The test P(infrazero.database.has#test) does so for a path.
  - Reads only. Needs nothing but the host's Python. Without the privileges of C(root) it answers what the connecting
    user may know.
  - The contents of a file are never returned, except for O(texts) and the public half of O(signing_key).
author:
  - The infrazero.database contributors (@infrazero)
extends_documentation_fragment:
  - infrazero.database.attributes
  - infrazero.database.attributes.info_module
options:
  paths:
    description:
      - Paths whose type, owner, group and mode are returned. Symbolic links are not followed.
    type: list
    elements: str
    default: []
  texts:
    description:
      - Regular files whose text is returned as well, up to 1 MiB. For files without secrets only.
    type: list
    elements: str
    default: []
  salt:
    description:
      - Key for RV(paths.digest). No digests are returned without it.
      - Use a new random value in each run, and keep it secret. Anybody who knows the salt can test guesses of a
        password against the digest of the file that holds it.
    type: str
  user:
    description:
      - Name of a user.
    type: str
  reachable:
    description:
      - Paths that O(user) needs to reach. RV(closed) has the answers.
      - Without the privileges of C(root) this is answered for the connecting user only.
    type: list
    elements: str
    default: []
  commands:
    description:
      - Names of programs, which are looked for in E(PATH) and in the directories of system programs.
    type: list
    elements: str
    default: []
  units:
    description:
      - Names of units of systemd, such as V(backup.timer).
    type: list
    elements: str
    default: []
  signing_key:
    description:
      - Path of an OpenSSH private key. Its public half is expected beside it, in a file that ends with V(.pub).
    type: path
  python:
    description:
      - Python interpreter to describe. The one that runs this module by default.
    type: path
seealso:
  - plugin: infrazero.database.has
    plugin_type: test
"""

EXAMPLES = r"""
- name: Check what is installed
  infrazero.database.host_info:
    user: postgres
    reachable: [/opt/infrazero/db]
    paths:
      - /opt/infrazero/db
      - /etc/infrazero/db.env
    commands: [logrotate]
    salt: "{{ host_salt }}" # set_fact: lookup('ansible.builtin.password', '/dev/null', length=32), with no_log: true
  register: host

- name: Write the configuration
  ansible.builtin.template:
    src: db.env.j2
    dest: /etc/infrazero/db.env
    owner: postgres
    mode: "0600"
  no_log: true
  when: >-
    host is not infrazero.database.has(
      '/etc/infrazero/db.env', type='file', owner='postgres', mode='0600',
      content=lookup('ansible.builtin.template', 'db.env.j2'), salt=host_salt
    )
"""

RETURN = r"""
node:
  description: The host's own name, as C(uname -n) reports it.
  returned: success
  type: str
  sample: db1
python:
  description: Facts about O(python). Null where it cannot be run.
  returned: success
  type: dict
  contains:
    version:
      description: Major and minor version.
      type: str
      sample: "3.11"
    machine:
      description: Architecture of the host.
      type: str
      sample: x86_64
    venv:
      description: Whether it can create virtual environments with pip.
      type: bool
      sample: true
paths:
  description: Facts about each of O(paths) and O(texts), by path.
  returned: success
  type: dict
  contains:
    exists:
      description: Whether there is something at the path. Null where that cannot be known without more privileges.
      type: bool
      sample: true
    type:
      description: What it is, V(file), V(directory), V(link) or V(other). Null where nothing is there.
      type: str
      sample: file
    owner:
      description: Name of the user that it belongs to, or the number where the user has no name.
      type: str
      sample: postgres
    group:
      description: Name of the group that it belongs to, or the number where the group has no name.
      type: str
      sample: postgres
    mode:
      description: Permissions as four octal digits.
      type: str
      sample: "0600"
    target:
      description: Target of a symbolic link, as it is stored. Null for anything else.
      type: str
    digest:
      description: >-
        HMAC-SHA256 of the contents of a regular file, keyed with O(salt). Null without a salt, for anything else, and
        where the file cannot be read.
      type: str
    text:
      description: Text of a regular file of O(texts). Null where it is not UTF-8, is too large or cannot be read.
      type: str
  sample:
    /etc/infrazero/db.env:
      exists: true
      type: file
      owner: postgres
      group: root
      mode: "0600"
      target:
      digest: 7a1c3a5b8f4c2f1be5f0a5e4fd2d1cb2f36d1f0d8bca1c5b7d3b1f6c5a4e3d2c
user:
  description: Facts about O(user). Null where the host has no such user, or none was asked for.
  returned: success
  type: dict
  contains:
    name:
      description: Name of the user.
      type: str
      sample: postgres
    uid:
      description: Number of the user.
      type: int
      sample: 107
    home:
      description: Home directory.
      type: str
      sample: /var/lib/postgresql
closed:
  description: >-
    For each of O(reachable), the first directory on the way that O(user) may not enter. Null where there is none, and
    where that cannot be known.
  returned: success
  type: dict
  sample: {/opt/infrazero/db: /opt}
commands:
  description: Path of each of O(commands), by name. Null where it is not installed.
  returned: success
  type: dict
  sample: {logrotate: /usr/sbin/logrotate}
units:
  description: Facts about each of O(units), by name.
  returned: success
  type: dict
  contains:
    enabled:
      description: Whether it is started with the system.
      type: bool
    active:
      description: Whether it is running or waiting. Null where systemd does not run.
      type: bool
    reload_needed:
      description: Whether its file has changed since systemd read it. Null where systemd does not run.
      type: bool
  sample: {backup.timer: {enabled: true, active: true, reload_needed: false}}
postgresql:
  description: >-
    Major versions of the PostgreSQL clusters that Debian's packages have created on the host, in ascending order; if
    there are none, those of the servers that the packages have installed.
  returned: success
  type: list
  elements: str
  sample: ["15"]
signing_key:
  description: Facts about O(signing_key). Null where none was asked for.
  returned: success
  type: dict
  contains:
    path:
      description: Path of the private key.
      type: str
      sample: /etc/infrazero/signing/id_ed25519
    exists:
      description: Whether there is a private key. Null where that cannot be known without more privileges.
      type: bool
    public:
      description: >-
        The line in the file of the public half. Null where that file is missing, or is anything else than one line
        that begins with the type and the base64 of a public key.
      type: str
      sample: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGs7SDo2wBa0H0Dx7RLpxR3OnHNd1AcmCyBp3Hl3WcWp db1
    derived:
      description: The public half that C(ssh-keygen) derives from the private key. Null where it cannot.
      type: str
    matches:
      description: Whether the two are the same key. Null where one of them is null.
      type: bool
"""

import errno
import grp
import hashlib
import hmac
import importlib.util
import json
import os
import pathlib
import platform
import pwd
import re
import stat
import sys
import typing as t

from ansible.module_utils.basic import AnsibleModule

TEXT_LIMIT = 1 << 20
PUBLIC_KEY = re.compile(r"(?:ssh-|sk-ssh-|ecdsa-)[a-z0-9@.-]+ [A-Za-z0-9+/]+=*(?: [^\r\n]*)?\n?\Z")
#: Run by the interpreter that is asked about.
DESCRIBE = """
import importlib.util, json, platform, sys
print(json.dumps({
    "version": "%d.%d" % sys.version_info[:2],
    "machine": platform.machine(),
    "venv": all(importlib.util.find_spec(name) for name in ("venv", "ensurepip")),
}))
"""


# Paths --------------------------------------------------------------------------------------------------------------


def path_facts(path: str, *, salt: str | None, text: bool) -> dict[str, t.Any]:
    """Facts about what is at *path*, which is not followed where it is a link."""
    names = ("exists", "type", "owner", "group", "mode", "target", "digest") + (("text",) if text else ())
    facts: dict[str, t.Any] = dict.fromkeys(names)
    try:
        status = os.lstat(path)
    except OSError as exc:
        known = exc.errno in (errno.ENOENT, errno.ENOTDIR)
        return {**facts, "exists": False if known else None}
    kinds = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "link"}
    kind = kinds.get(stat.S_IFMT(status.st_mode), "other")
    facts.update(
        exists=True,
        type=kind,
        owner=user_name(status.st_uid),
        group=group_name(status.st_gid),
        mode=f"{stat.S_IMODE(status.st_mode):04o}",
    )
    try:
        if kind == "link":
            facts["target"] = str(pathlib.Path(path).readlink())
        elif kind == "file" and (salt is not None or text):
            read_file(path, facts, salt=salt, text=text)
    except OSError:  # gone by now, replaced by something else, or closed to this user
        pass
    return facts


def read_file(path: str, facts: dict[str, t.Any], *, salt: str | None, text: bool) -> None:
    """Add the digest and the text of the regular file at *path* to its *facts*."""
    # Nothing else is opened, whatever has replaced the file: a link leads elsewhere, a pipe waits for a writer.
    number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(number, "rb") as stream:
        if not stat.S_ISREG(os.fstat(number).st_mode):
            return
        if salt is not None:
            digest = hmac.new(salt.encode(), digestmod=hashlib.sha256)
            for chunk in iter(lambda: stream.read(TEXT_LIMIT), b""):
                digest.update(chunk)
            facts["digest"] = digest.hexdigest()
            stream.seek(0)
        if text:
            facts["text"] = as_text(stream.read(TEXT_LIMIT + 1))


def as_text(data: bytes) -> str | None:
    """*data* as text, where it is UTF-8 and not too long."""
    if len(data) > TEXT_LIMIT:
        return None
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def user_name(number: int) -> str:
    """Name of a user."""
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def group_name(number: int) -> str:
    """Name of a group."""
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)


# User ---------------------------------------------------------------------------------------------------------------


def user_facts(name: str | None) -> dict[str, t.Any] | None:
    """Facts about a user, where the host has it."""
    try:
        account = pwd.getpwnam(name) if name else None
    except KeyError:
        account = None
    return account and {"name": account.pw_name, "uid": account.pw_uid, "home": account.pw_dir}


def closed_directories(paths: t.Sequence[str], user: t.Mapping[str, t.Any] | None) -> dict[str, str | None]:
    """The first directory above each of *paths* that *user* may not enter."""
    unknown = dict.fromkeys(paths)
    if user is None or not paths:
        return unknown
    if os.geteuid() == user["uid"]:
        return {path: first_closed(path) for path in paths}
    if os.geteuid() != 0:
        return unknown
    # The kernel decides, and not a computation with modes: access lists count, too.
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            account = pwd.getpwuid(user["uid"])
            os.initgroups(account.pw_name, account.pw_gid)
            os.setgid(account.pw_gid)
            os.setuid(account.pw_uid)
            with os.fdopen(writer, "w", encoding="utf-8") as stream:
                json.dump({path: first_closed(path) for path in paths}, stream)
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader, encoding="utf-8") as stream:
        answer = stream.read()
    os.waitpid(child, 0)
    return t.cast("dict[str, str | None]", json.loads(answer)) if answer else unknown


def first_closed(path: str) -> str | None:
    """The first directory above *path* that this process may not enter."""
    # What is behind it looks as if it did not exist.
    for above in reversed(pathlib.Path(path).parents):
        if not os.access(above, os.X_OK) and os.access(above, os.F_OK):
            return str(above)
    return None


# Programs and units -------------------------------------------------------------------------------------------------


def python_facts(module: AnsibleModule) -> dict[str, t.Any] | None:
    """Facts about the interpreter that was asked for, where it can be run."""
    path = module.params["python"]
    if path is None or os.path.realpath(path) == os.path.realpath(sys.executable):
        return {
            "version": "{}.{}".format(*sys.version_info),
            "machine": platform.machine(),
            "venv": all(importlib.util.find_spec(name) for name in ("venv", "ensurepip")),
        }
    output = run(module, path, "-I", "-c", DESCRIBE)
    try:
        return t.cast("dict[str, t.Any]", json.loads(output or ""))
    except ValueError:
        return None


def unit_facts(module: AnsibleModule) -> dict[str, dict[str, t.Any]]:
    """Facts about units of systemd, by name."""
    names = module.params["units"]
    if not names:
        return {}
    systemctl = module.get_bin_path("systemctl")
    properties = ("ActiveState", "UnitFileState", "NeedDaemonReload")
    output = run(module, systemctl, "show", f"--property={','.join(properties)}", "--", *names) if systemctl else None
    blocks = [dict(line.partition("=")[::2] for line in block.splitlines()) for block in (output or "").split("\n\n")]
    if len(blocks) == len(names) and all(blocks):
        return {name: running_unit(block) for name, block in zip(names, blocks)}
    # systemd does not run here, as in a container or while an image is built.
    wanting = pathlib.Path("/etc/systemd/system")
    return {
        name: {
            "enabled": any(wanting.glob(f"*.wants/{name}")) or any(wanting.glob(f"*.requires/{name}")),
            "active": None,
            "reload_needed": None,
        }
        for name in names
    }


def running_unit(properties: t.Mapping[str, str]) -> dict[str, t.Any]:
    """Facts about a unit, from what ``systemctl show`` prints."""
    return {
        "enabled": properties.get("UnitFileState", "").startswith("enabled"),
        "active": properties.get("ActiveState") in ("active", "activating", "reloading"),
        "reload_needed": properties.get("NeedDaemonReload") == "yes",
    }


def node_name(module: AnsibleModule) -> str:
    """The host's own name."""
    uname = module.get_bin_path("uname")
    output = run(module, uname, "-n") if uname else None
    return platform.node() if output is None else output.rstrip("\r\n")


def run(module: AnsibleModule, *command: str) -> str | None:
    """What *command* prints, where it can be run and succeeds."""
    try:
        status, output, _errors = module.run_command(
            list(command), environ_update={"LC_ALL": "C"}, handle_exceptions=False
        )
    except OSError:
        return None
    return t.cast(str, output) if status == 0 else None


# Signing key --------------------------------------------------------------------------------------------------------


def signing_key_facts(module: AnsibleModule) -> dict[str, t.Any] | None:
    """Facts about the key that was asked for."""
    path = module.params["signing_key"]
    if path is None:
        return None
    private = path_facts(path, salt=None, text=False)
    public = path_facts(f"{path}.pub", salt=None, text=True).get("text")
    if public is not None and not PUBLIC_KEY.match(public):
        public = None  # something else, which nobody has asked for
    keygen = module.get_bin_path("ssh-keygen")
    derived = None
    if keygen and private["type"] == "file":
        # With an empty passphrase: it never asks for one.
        derived = run(module, keygen, "-y", "-P", "", "-f", path)
    derived = derived.strip() if derived else None
    return {
        "path": path,
        "exists": private["exists"],
        "public": public and public.rstrip("\n"),
        "derived": derived,
        "matches": public.split()[:2] == derived.split()[:2] if public and derived else None,
    }


# PostgreSQL ---------------------------------------------------------------------------------------------------------


def server_versions(root: pathlib.Path) -> list[str]:
    """Major versions of the clusters below *root*, or else of the installed servers, in ascending order."""
    for pattern in ("etc/postgresql/*/*/postgresql.conf", "usr/lib/postgresql/*/bin/postgres"):
        found = {path.parent.parent.name for path in root.glob(pattern)}
        versions = sorted((name for name in found if name.isascii() and name.isdigit()), key=int)
        if versions:
            return versions
    return []


# The module ---------------------------------------------------------------------------------------------------------


def main() -> t.NoReturn:
    """Entry point."""
    names = {"type": "list", "elements": "str", "default": []}
    module = AnsibleModule(
        argument_spec={
            "paths": names,
            "texts": names,
            "salt": {"type": "str", "no_log": True},
            "user": {"type": "str"},
            "reachable": names,
            "commands": names,
            "units": names,
            "signing_key": {"type": "path", "no_log": False},
            "python": {"type": "path"},
        },
        supports_check_mode=True,
    )
    params = module.params
    user = user_facts(params["user"])
    module.exit_json(
        changed=False,
        node=node_name(module),
        python=python_facts(module),
        paths={
            path: path_facts(path, salt=params["salt"], text=path in params["texts"])
            for path in dict.fromkeys([*params["paths"], *params["texts"]])
        },
        user=user,
        closed=closed_directories(params["reachable"], user),
        commands={name: module.get_bin_path(name) for name in params["commands"]},
        units=unit_facts(module),
        postgresql=server_versions(pathlib.Path("/")),
        signing_key=signing_key_facts(module),
    )
    raise SystemExit  # for the type checker: the line above has ended the module


if __name__ == "__main__":
    main()
