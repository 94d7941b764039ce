# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Removes private keys from the files that brought them to a host: scripts, and cloud-init's copies of user-data.

The keys may be in plain text or in nested layers of base64 and gzip, as in cloud-init's ``write_files``, MIME messages
and Azure's ``ovf-env.xml``.  The rest of a file stays unchanged.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import json
import re
import typing as t
import zlib

#: An age identity as age writes it; Bech32 may also be in lower case.
_AGE_IDENTITY = rb"(?i:AGE-SECRET-KEY-(?:PQ-)?1[0-9A-Z]{40,})"
#: base64 in one line or in several; the last line may be short, but is not the first word of ``word: ...``.
_BASE64 = re.compile(
    rb"(?:[A-Za-z0-9+/]{40,}[ \t]*\r?\n[ \t]*)*[A-Za-z0-9+/]{40,}(?:\s+[A-Za-z0-9+/]+(?![A-Za-z0-9+/:._-]))?={0,2}"
)
#: base64 as the whole text of an XML element: with line breaks anywhere and characters as references.
_XML_TEXT = re.compile(rb"(?<=>)(?:[A-Za-z0-9+/=\s]|&#(?:[0-9]{1,7}|x[0-9A-Fa-f]{1,6});){40,}(?=<)")
_XML_REFERENCE = re.compile(rb"&#(?:([0-9]+)|x([0-9A-Fa-f]+));")
_GZIP = b"\x1f\x8b\x08"
_MAX_LAYERS = 6
_MAX_PLAIN_BYTES = 64 * 1024 * 1024


class CantScrub(Exception):
    """A secret is in a place that can't be rewritten; the message has the place and no part of the secret."""


class Scrubber:
    """Rewrites the contents of files.

    :param variables: names of shell variables whose assignments become empty, ``NAME=""``.
    :param secrets: texts that are removed everywhere, in addition to age identities.
    """

    def __init__(self, variables: t.Iterable[str], secrets: t.Iterable[str]) -> None:
        names = b"|".join(re.escape(name.encode()) for name in variables)
        # The value as a shell reads it: quoted pieces, which may span several lines, and plain ones; and the rest of
        # its last line, which is removed too (docs/formats/databases-list.md).
        self._assignment = re.compile(
            rb"^([ \t]*(?:- +)?(?:export[ \t]+)?(?:" + names + rb")=)"
            rb"((?:\"(?:[^\"\\]|\\.|\\\n)*\"|'[^']*'|\\\n|\\.|[^\s\"'\\])*[^\r\n]*)",
            re.MULTILINE,
        )
        forms = {form for secret in secrets for form in (secret, json.dumps(secret)[1:-1]) if form.strip()}
        # The longest first, because a short one may be part of a longer one.
        literals = [re.escape(form.encode()) for form in sorted(forms, key=len, reverse=True)]
        self._secret = re.compile(b"|".join([*literals, _AGE_IDENTITY]))

    def scrub(self, data: bytes) -> bytes:
        """Return *data* without the secrets, or unchanged if it has none.

        Data with NUL bytes keeps its length, because its format may contain byte counts, such as a pickle.

        :raises CantScrub: if that is impossible.
        """
        return self._layer(data, keep_length=False, depth=0)

    def _layer(self, data: bytes, *, keep_length: bool, depth: int) -> bytes:
        if depth > _MAX_LAYERS:
            return data
        packed = b""
        while data.startswith(_GZIP):
            parts = self._gzip(data, keep_length=keep_length, depth=depth)
            if parts is None:
                break
            packed, data = packed + parts[0], parts[1]
        if packed and not data:
            return packed
        keep_length = keep_length or b"\0" in data

        def emptied(match: re.Match[bytes]) -> bytes:
            return b" " * len(match[0]) if keep_length else b""

        def assigned(match: re.Match[bytes]) -> bytes:
            return match[1] + (b'""'.ljust(len(match[2])) if keep_length else b'""')

        data = self._assignment.sub(assigned, data)
        data = self._secret.sub(emptied, data)
        data = _XML_TEXT.sub(lambda match: self._xml(match[0], keep_length=keep_length, depth=depth), data)
        data = _BASE64.sub(lambda match: self._base64(match[0], keep_length=keep_length, depth=depth), data)
        start = data.find(_GZIP)
        while start >= 0:
            parts = self._gzip(data[start:], keep_length=keep_length, depth=depth)
            if parts is not None:
                data = data[:start] + parts[0] + parts[1]
            start = data.find(_GZIP, start + 1)
        return packed + data

    def _xml(self, text: bytes, *, keep_length: bool, depth: int) -> bytes:
        plain = _XML_REFERENCE.sub(_referred_to, text)
        try:
            inner = base64.b64decode(b"".join(plain.split()), validate=True)
        except binascii.Error:
            return text
        scrubbed = self._layer(inner, keep_length=keep_length, depth=depth + 1)
        if scrubbed == inner:
            return text
        packed = _laid_out(base64.b64encode(scrubbed), like=plain)
        return packed.ljust(len(text)) if keep_length else packed

    def _base64(self, text: bytes, *, keep_length: bool, depth: int) -> bytes:
        # The last of several lines may be a word that only looks like base64.
        for run in (text, text.rpartition(text.split()[-1])[0].rstrip()):
            try:
                inner = base64.b64decode(b"".join(run.split()), validate=True)
            except binascii.Error:
                continue
            scrubbed = self._layer(inner, keep_length=keep_length, depth=depth + 1)
            if scrubbed == inner:
                return text
            return _laid_out(base64.b64encode(scrubbed), like=run) + text[len(run) :]
        return text

    def _gzip(self, data: bytes, *, keep_length: bool, depth: int) -> tuple[bytes, bytes] | None:
        """The gzip data at the beginning of *data*, scrubbed, and the rest; ``None`` if it is not gzip."""
        unpacker = zlib.decompressobj(wbits=31)
        try:
            plain = unpacker.decompress(data, _MAX_PLAIN_BYTES)
        except zlib.error:
            return None
        scrubbed = self._layer(plain, keep_length=False, depth=depth + 1)
        rest = unpacker.unused_data
        if not unpacker.eof:
            if scrubbed == plain:
                return None  # only the magic bytes, or truncated gzip data
            raise CantScrub("a secret is in gzip data that is truncated or too large")
        old = len(data) - len(rest)
        if scrubbed == plain:
            return data[:old], rest
        packed = gzip.compress(scrubbed, mtime=0)
        if keep_length and len(packed) > old:
            raise CantScrub("a secret is in gzip data within a file whose length must not change")
        # Readers of gzip ignore zeros at the end.
        return (packed.ljust(old, b"\0") if keep_length else packed), rest


def _referred_to(match: re.Match[bytes]) -> bytes:
    """The character of an XML reference; a non-ASCII one stays a reference, which ends the base64."""
    number = int(match[1]) if match[1] else int(match[2], 16)
    return bytes([number]) if number < 128 else match[0]


def _laid_out(text: bytes, *, like: bytes) -> bytes:
    """*text* with line breaks at the same places as in *like*."""
    pieces: list[bytes] = []
    for piece in re.split(rb"(\s+)", like):
        if text and piece.isspace():
            pieces.append(piece)
        elif text:
            pieces.append(text[: len(piece)])
            text = text[len(piece) :]
    return b"".join(pieces) + text
