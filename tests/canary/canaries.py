# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets that are looked for, and every form in which one may come to light."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import pathlib
import re
import secrets
import string
import typing as t

import pyrage
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_ssh_private_key

_ALPHABET = string.ascii_letters + string.digits
#: What stands around the random core of a password: everything that a shell, SQL, JSON, a template or URL escapes.
AWKWARD = "{{ 7 * 7 }} '\"\\%s$(id)`&é;#="
_CORE_LENGTH = 24
#: What is longer is no text that anybody broke into lines, but the server's write-ahead log.
_LONGEST_TEXT = 8 * 1024 * 1024
#: White space, quotes and backslashes: what wrapping and quoting puts between the pieces of a text.
_BETWEEN = re.compile(rb"\\r\\n|\\[nrt]|[\s\0'\"\\]+")


@dataclasses.dataclass(frozen=True)
class Canary:
    """One secret.

    :param name: says what it is, and where it was put in.
    :param text: the secret.
    :param core: the random letters and digits in it: what is left the same by every way of quoting or escaping.
    """

    name: str
    text: str = dataclasses.field(repr=False)
    core: str | bytes = dataclasses.field(repr=False)


def text(name: str) -> Canary:
    """A password, with whatever must be escaped somewhere around its core."""
    core = _random()
    return Canary(name, AWKWARD + core + AWKWARD[::-1], core)


def word(name: str) -> Canary:
    """A token of letters and digits only, where nothing else can stand."""
    core = _random()
    return Canary(name, core, core)


def identity(name: str) -> Canary:
    """An age private key."""
    return of_identity(name, str(pyrage.x25519.Identity.generate()))


def of_identity(name: str, key: str) -> Canary:
    """The age private key *key*."""
    return Canary(name, key, key.rpartition("-1")[2])


def whole(name: str, secret: str) -> Canary:
    """A secret that is all letters, digits, or signs that nothing escapes."""
    return Canary(name, secret, secret)


def of_signing_key(name: str, path: pathlib.Path) -> Canary:
    """The private part of an Ed25519 key in OpenSSH's format; its public part is everywhere, as it should be."""
    key = load_ssh_private_key(path.read_bytes(), password=None)
    assert isinstance(key, Ed25519PrivateKey)
    return Canary(name, path.read_text(encoding="ascii"), key.private_bytes_raw())


def _random() -> str:
    return "".join(secrets.choice(_ALPHABET) for _number in range(_CORE_LENGTH))


def _base64(data: bytes) -> t.Iterator[bytes]:
    """What of *data*'s base64 stays the same whatever stands before and after it: one text for each alignment."""
    for before in range(3):
        encoded = base64.b64encode(b"\0" * before + data)
        first = (before * 8 + 5) // 6
        last = (before + len(data)) * 8 // 6
        yield encoded[first:last]


def forms(core: str | bytes) -> dict[str, bytes]:
    """The *core* of a secret in every form that is looked for, by the name of the form."""
    raw = core if isinstance(core, bytes) else core.encode("utf-8")
    middle = len(raw) // 2
    found = {
        "as it is": raw,
        "first half": raw[:middle],
        "second half": raw[middle:],
        "reversed": raw[::-1],
        "lower case": raw.lower(),
        "upper case": raw.upper(),
        "hex": raw.hex().encode(),
        "HEX": raw.hex().upper().encode(),
        "percent": "".join(f"%{byte:02X}" for byte in raw).encode(),
        "backslash-u": "".join(f"\\u{byte:04x}" for byte in raw).encode(),
        "UTF-16": raw.decode("latin-1").encode("utf-16-le"),
        "UTF-16, big": raw.decode("latin-1").encode("utf-16-be"),
    }
    for number, once in enumerate(_base64(raw)):
        found[f"base64 at {number}"] = once
        for outer, twice in enumerate(_base64(once)):
            found[f"base64 at {number} in base64 at {outer}"] = twice
    return found


@dataclasses.dataclass(frozen=True, order=True)
class Hit:
    """A secret in a place where it was looked for; *around* is what stands before it."""

    canary: str
    form: str
    place: str
    around: str = dataclasses.field(default="", compare=False)

    def __str__(self) -> str:
        return f"{self.canary} ({self.form}) in {self.place}, after {self.around!r}"


class Flock:
    """All secrets of a test, to be looked for together."""

    def __init__(self, *canaries: Canary) -> None:
        self.canaries: list[Canary] = []
        self._needles: dict[bytes, tuple[str, str]] = {}
        self._clean: set[bytes] = set()
        for canary in canaries:
            self.add(canary)

    def add(self, canary: Canary) -> Canary:
        """Look for *canary*, too."""
        self.canaries.append(canary)
        for form, needle in forms(canary.core).items():
            self._needles.setdefault(needle, (canary.name, form))
        self._clean.clear()
        return canary

    def hits(self, data: bytes, place: str) -> list[Hit]:
        """Every secret in *data*, in whatever form, each named once."""
        # A cluster's databases begin as copies of one: most of its files needn't be searched again.
        digest = hashlib.sha256(data).digest()
        if digest in self._clean:
            return []
        found: dict[str, Hit] = {}
        variants = [("", data)]
        if len(data) <= _LONGEST_TEXT:
            variants.append((", in pieces", _BETWEEN.sub(b"", data)))
        for variant, content in variants:
            for needle, (name, form) in self._needles.items():
                if name not in found:
                    at = content.find(needle)
                    if at >= 0:
                        around = content[max(0, at - 80) : at].decode("utf-8", "replace")
                        found[name] = Hit(name, form + variant, place, around)
        if not found:
            self._clean.add(digest)
        return sorted(found.values())
