# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""SCRAM-SHA-256 verifiers, made and compared on the client, so that no password is ever sent to the server.

The format is that of ``pg_authid.rolpassword``; the rules are RFC 5802, RFC 7677 and, for how a password becomes
bytes, PostgreSQL's own reading of SASLprep (RFC 4013).
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import hashlib
import hmac
import os
import re
import stringprep
import typing as t
import unicodedata

from ...domain.secret import Secret

#: PostgreSQL's default (and only value before 16, which has the setting ``scram_iterations``).
ITERATIONS = 4096
#: Bytes of salt, as the server makes them.
SALT_BYTES = 16

_VERIFIER = re.compile(
    r"SCRAM-SHA-256\$(?P<iterations>[1-9][0-9]{0,9}):(?P<salt>[A-Za-z0-9+/=]+)"
    r"\$(?P<stored>[A-Za-z0-9+/]{43}=):(?P<server>[A-Za-z0-9+/]{43}=)"
)

_PROHIBITED = (
    stringprep.in_table_c12,  # spaces other than ASCII's
    stringprep.in_table_c21_c22,  # control characters
    stringprep.in_table_c3,  # private use
    stringprep.in_table_c4,  # non-characters
    stringprep.in_table_c5,  # surrogates
    stringprep.in_table_c6,  # inappropriate for plain text
    stringprep.in_table_c7,  # inappropriate for canonical representation
    stringprep.in_table_c8,  # change display properties
    stringprep.in_table_c9,  # tagging
    stringprep.in_table_a1,  # unassigned in Unicode 3.2
)


def verifier(password: Secret, *, salt: bytes | None = None, iterations: int = ITERATIONS) -> str:
    """What ``ALTER ROLE ... PASSWORD`` is given instead of *password*.

    :param salt: random when not given.
    """
    salt = os.urandom(SALT_BYTES) if salt is None else salt
    stored, server = _keys(password, salt, iterations)
    return f"SCRAM-SHA-256${iterations}:{_base64(salt)}${_base64(stored)}:{_base64(server)}"


def matches(stored: str | None, password: Secret) -> bool:
    """Whether *stored*, as it is in ``pg_authid.rolpassword``, is a SCRAM verifier of *password*.

    An MD5 hash never is: it has to be replaced, whatever password it was made of.
    """
    match = _VERIFIER.fullmatch(stored or "")
    if match is None:
        return False
    try:
        salt = base64.b64decode(match["salt"], validate=True)
    except binascii.Error:
        return False
    key, _server = _keys(password, salt, int(match["iterations"]))
    return hmac.compare_digest(_base64(key), match["stored"])


@dataclasses.dataclass(frozen=True)
class Credential:
    """A role's password as it is wished for, and what the server has stored for it."""

    user: str
    password: Secret
    stored: str


def proof(credentials: t.Iterable[Credential], *, salt: bytes | None = None) -> str:
    """A text that later shows, at the price of one comparison, that all of *credentials* are still the same.

    It is derived from all of them together, with as many iterations as the strongest of their verifiers.  Whoever
    wants to try a password on it pays what the role's own verifier costs, and must also know all the others.

    :param salt: random when not given.
    """
    salt = os.urandom(SALT_BYTES) if salt is None else salt
    material = hashlib.sha256()
    iterations = ITERATIONS
    for credential in sorted(credentials, key=lambda credential: credential.user):
        match = _VERIFIER.fullmatch(credential.stored)
        iterations = max(iterations, int(match["iterations"]) if match is not None else 0)
        for text in (credential.user, credential.password.reveal(), credential.stored):
            data = text.encode("utf-8")
            material.update(len(data).to_bytes(8, "big") + data)
    digest = hashlib.pbkdf2_hmac("sha256", material.digest(), salt, iterations)
    return f"{_base64(salt)}:{_base64(digest)}"


def proves(text: str | None, credentials: t.Iterable[Credential]) -> bool:
    """Whether *text* is a :func:`proof` of exactly these credentials."""
    try:
        salt = base64.b64decode((text or "").partition(":")[0], validate=True)
    except binascii.Error:
        return False
    return bool(text) and hmac.compare_digest(proof(credentials, salt=salt), text or "")


def _keys(password: Secret, salt: bytes, iterations: int) -> tuple[bytes, bytes]:
    salted = hashlib.pbkdf2_hmac("sha256", saslprep(password.reveal()), salt, iterations)
    client = hmac.digest(salted, b"Client Key", "sha256")
    return hashlib.sha256(client).digest(), hmac.digest(salted, b"Server Key", "sha256")


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def saslprep(text: str) -> bytes:
    """The bytes of a password as libpq and the server take them.

    PostgreSQL departs from RFC 4013: pure ASCII is taken as it is, and so is a password that SASLprep refuses.  The
    checks look at the text before normalisation, and code points are those of Unicode 3.2.
    """
    raw = text.encode("utf-8")
    if text.isascii():
        return raw
    mapped = "".join(
        " " if stringprep.in_table_c12(character) else character
        for character in text
        # U+200B is in both tables; it becomes a space.
        if stringprep.in_table_c12(character) or not stringprep.in_table_b1(character)
    )
    if not mapped or any(table(character) for character in mapped for table in _PROHIBITED):
        return raw
    if any(stringprep.in_table_d1(character) for character in mapped):
        if any(stringprep.in_table_d2(character) for character in mapped):
            return raw
        if not (stringprep.in_table_d1(mapped[0]) and stringprep.in_table_d1(mapped[-1])):
            return raw
    return unicodedata.normalize("NFKC", mapped).encode("utf-8")
