# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run on a machine: where on it a secret can be found, besides where it belongs.

Standard input: JSON with ``secrets`` (what make_secrets.py wrote), ``settings`` (files where passwords and credentials
of S3 belong; private keys belong nowhere) and ``more`` (names to texts that belong nowhere). Standard output: JSON of
names to places. Only this process's own memory has the secrets; it searches

- the arguments and the environment of every process,
- every file that is younger than the machine, those in memory too, and its name,
- the journal, decoded.

A secret is looked for as it is, escaped as in JSON, and in base64, ordinary and URL-safe, at each of its three
alignments and however it is wrapped.
"""

from __future__ import annotations

import base64
import json
import os
import pathlib
import subprocess
import sys
import typing as t

CHUNK = 1 << 22
#: Files of the kernel, and devices.
ELSEWHERE = ("/proc", "/sys", "/dev")
#: Created with the machine; older files are part of its image.
BIRTH = pathlib.Path("/.dockerenv")


def plain_forms(secret: str) -> set[bytes]:
    """As it is, and as JSON has it."""
    return {text.encode() for text in (secret, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1])}


def encoded_forms(secret: str) -> set[bytes]:
    """What base64 makes of it wherever it stands, without the characters that its neighbours have a part in."""
    result = set()
    for shift, first in enumerate((0, 2, 3)):
        middle = base64.b64encode(b"\0" * shift + secret.encode())[first:-4]
        result |= {middle, middle.translate(bytes.maketrans(b"+/", b"-_"))}
    return result


class Search:
    """Looks for all secrets at once."""

    def __init__(self, nowhere: dict[str, str], in_settings: dict[str, str], settings: list[str]) -> None:
        self.allowed = {**dict.fromkeys(nowhere, ()), **dict.fromkeys(in_settings, tuple(settings))}
        wanted = {**nowhere, **in_settings}
        self.plain = {form: name for name, text in wanted.items() for form in plain_forms(text)}
        self.encoded = {form: name for name, text in wanted.items() for form in encoded_forms(text)}
        self.overlap = 2 * max(map(len, [*self.plain, *self.encoded]))
        self.found: dict[str, list[str]] = {}

    def look(self, data: bytes, place: str) -> None:
        """Note what is in *data*."""
        unwrapped = data.translate(None, b" \r\n\t")
        names = {name for form, name in self.plain.items() if form in data}
        names |= {name for form, name in self.encoded.items() if form in unwrapped}
        for name in names:
            if place not in self.allowed[name] and place not in self.found.setdefault(name, []):
                self.found[name].append(place)

    def stream(self, file: t.IO[bytes], place: str) -> None:
        """Note what is in a file of any size."""
        rest = b""
        while data := file.read(CHUNK):
            self.look(rest + data, place)
            rest = data[-self.overlap :]

    def processes(self) -> None:
        """Arguments and environments."""
        for process in pathlib.Path("/proc").glob("[0-9]*"):
            for name in ("cmdline", "environ"):
                try:
                    self.look((process / name).read_bytes(), f"{name} of {(process / 'comm').read_text().strip()}")
                except OSError:  # the process has ended
                    continue

    def files(self) -> None:
        """Files, and their names."""
        born = BIRTH.stat().st_ctime if BIRTH.exists() else 0
        for directory, directories, names in os.walk("/"):
            directories[:] = [name for name in directories if f"{directory}{name}" not in ELSEWHERE]
            for path in (pathlib.Path(directory, name) for name in names):
                try:
                    if path.is_file() and not path.is_symlink() and path.stat().st_ctime >= born:
                        self.look(os.fsencode(path), f"the name of {path}")
                        with path.open("rb") as file:
                            self.stream(file, str(path))
                except OSError:  # the file has gone
                    continue

    def journal(self) -> None:
        """Which is compressed on disk."""
        command = ["journalctl", "--output=export", "--all"]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            self.stream(t.cast("t.IO[bytes]", process.stdout), "the journal")


given = json.load(sys.stdin)
databases = given["secrets"]["databases"]
search = Search(
    nowhere={**{f"private key of {one['name']}": one["backup_age_private_key"] for one in databases}, **given["more"]},
    in_settings={
        **{f"password of {one['user']}": one["password"] for one in databases},
        **{name: given["secrets"][name] for name in ("s3_access_key_id", "s3_secret_access_key")},
    },
    settings=given["settings"],
)
search.processes()
search.files()
search.journal()
json.dump(search.found, sys.stdout)
