# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Parser for the lines of an ``allowed_signers`` file, which reads them as OpenSSH does.

ssh-keygen(1) documents the format; the parser follows ``parse_principals_key_and_options`` in OpenSSH's sshsig.c.
"""

from __future__ import annotations

import base64
import dataclasses
import datetime
import re
import struct
import typing as t

_UNQUOTED = re.compile(r'[^ \t\r\n"]*')
_KEY = re.compile(r"([^ \t\r\n]+)[ \t]+([^ \t\r\n]+)")
_OPTIONS = re.compile(r'(?:\\"|"(?:\\"|[^"\\]|\\(?!"))*"|[^ \t"\\]|\\(?!"))+')
_OPTION = re.compile(r'([A-Za-z-]+)(?:="((?:\\"|[^"\\]|\\(?!"))*)")?(?:,|\Z)')
_TIMES = {8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}
_AFTER, _BEFORE = "valid-after", "valid-before"


@dataclasses.dataclass(frozen=True)
class Entry:
    """A line that OpenSSH can parse.

    :param text: the whole line.
    :param names: the patterns at its beginning, without quotes.
    :param start: offset of the options, or of the key if there are none.
    :param options: values of the options by lower-case name; an option without a value has the value ``""``.
    :param key_start: offset of the key.
    :param blob: the decoded key.
    """

    text: str
    names: str
    start: int
    options: t.Mapping[str, str]
    key_start: int
    blob: bytes

    @property
    def authority(self) -> bool:
        """Whether the key is a certificate authority, which signs only certificates."""
        return "cert-authority" in self.options

    @property
    def end(self) -> datetime.datetime | None:
        """The time in ``valid-before``, UTC; ``None`` if it is absent or unreadable."""
        return _time(self.options.get(_BEFORE, ""))

    def counts_for(self, namespace: str) -> bool:
        """Whether the line applies to signatures in *namespace*."""
        namespaces = self.options.get("namespaces")
        return namespaces is None or _matches(namespace, namespaces)

    def matches(self, name: str) -> bool:
        """Whether a name or pattern of the line matches *name*."""
        return _matches(name, self.names)

    def until(self, moment: datetime.datetime) -> str:
        """The line with *moment* as the end of its validity; a line that already has an end keeps it."""
        if _BEFORE in self.options:
            return self.text
        end = f'{_BEFORE}="{moment.astimezone(datetime.timezone.utc):%Y%m%d%H%M%S}"'
        return f"{self.text[: self.start]}{end}{',' if self.options else ' '}{self.text[self.start :]}"

    def also_as(self, name: str) -> str:
        """The line with *name* added before its names."""
        return f"{name},{self.names} {self.text[self.start :]}"

    def without_times(self, moment: datetime.datetime) -> str:
        """The line without its times if it is valid at *moment*; otherwise the line unchanged."""
        after, before = (_time(self.options[name]) if name in self.options else moment for name in (_AFTER, _BEFORE))
        if after is None or before is None or not after <= moment <= before:
            return self.text
        kept = [match[0].rstrip(",") for match in _OPTION.finditer(self.text[self.start : self.key_start].rstrip())]
        options = ",".join(each for each in kept if each.partition("=")[0].lower() not in (_AFTER, _BEFORE))
        return f"{self.text[: self.start]}{options + ' ' if options else ''}{self.text[self.key_start :]}"


def read(text: str) -> Entry | None:
    """Parse one line; return ``None`` for a comment, an empty line or a line that OpenSSH can't parse."""
    begin = _skip(text, 0, " \t")
    plain = t.cast("re.Match[str]", _UNQUOTED.match(text, begin))
    names, start = plain[0], plain.end()
    if text[start : start + 1] == '"':
        close = text.find('"', start + 1)
        if close < 0:
            return None
        names, start = names + text[start + 1 : close], close + 1
    if not names or names.startswith("#"):
        return None
    start = _skip(text, start, " \t\r\n")
    blob = _blob_at(text, start)
    if blob is not None:
        return Entry(text, names, start, {}, start, blob)
    quoted = _OPTIONS.match(text, start)
    options = _options(quoted[0]) if quoted else None
    if quoted is None or options is None:
        return None
    key_start = _skip(text, quoted.end(), " \t")
    blob = _blob_at(text, key_start)
    return None if blob is None else Entry(text, names, start, options, key_start, blob)


def valid_at(text: str, moment: datetime.datetime) -> str:
    """The text of a file with the times removed from each line that is valid at *moment*.

    An older OpenSSH, such as Debian 11's, ignores every line that has times.  Lines that are not valid at *moment*, or
    whose times are unreadable, stay unchanged, and OpenSSH rejects them.
    """
    entries = ((line, read(line)) for line in text.split("\n"))
    return "\n".join(line if entry is None else entry.without_times(moment) for line, entry in entries)


def _skip(text: str, start: int, blanks: str) -> int:
    while text[start : start + 1] and text[start] in blanks:
        start += 1
    return start


def _time(text: str) -> datetime.datetime | None:
    digits = text[:-1] if text.endswith("Z") else text
    form = _TIMES.get(len(digits))
    if form is None or not (digits.isascii() and digits.isdigit()):
        return None
    try:
        return datetime.datetime.strptime(digits, form).replace(tzinfo=datetime.timezone.utc)
    except ValueError:
        return None


def _blob_at(text: str, start: int) -> bytes | None:
    match = _KEY.match(text, start)
    if match is None:
        return None
    try:
        blob = base64.b64decode(match[2], validate=True)
    except ValueError:
        return None
    kind = match[1].encode("utf-8", "replace")
    return blob if blob.startswith(struct.pack(">I", len(kind)) + kind) else None


def _options(text: str) -> dict[str, str] | None:
    options: dict[str, str] = {}
    position = 0
    while position < len(text):
        match = _OPTION.match(text, position)
        # OpenSSH rejects a line that has an option twice.
        if match is None or match[1].lower() in options:
            return None
        options[match[1].lower()] = (match[2] or "").replace('\\"', '"')
        position = match.end()
    return options


def _matches(name: str, patterns: str) -> bool:
    """OpenSSH's ``match_pattern_list``: ``*`` and ``?`` are wildcards, ``!`` excludes what the pattern matches."""
    positive = False
    for pattern in patterns.split(","):
        wanted = pattern[1:] if pattern.startswith("!") else pattern
        expression = "".join({"*": ".*", "?": "."}.get(letter, re.escape(letter)) for letter in wanted)
        if re.fullmatch(expression, name, re.DOTALL):
            if wanted != pattern:
                return False
            positive = True
    return positive
