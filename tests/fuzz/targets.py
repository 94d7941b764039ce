# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What reads bytes that others wrote, as functions that take any bytes: each fails where the reader breaks a promise.

A promise is: only the errors that are foreseen; the same answer however the bytes are cut; what is read can be written
and read again; no secret in an error; a time that grows with the length and no faster (:func:`within_time`).
"""

# A target judges errors as well as answers.
# ruff: noqa: PT017, SIM105

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import pathlib
import re
import subprocess
import typing as t

from ansible_collections.infrazero.database.plugins.module_utils._engine.domain import (
    databases,
    envfile,
    layout,
    manifest,
    trust,
)
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.secret import Secret
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.text import NotJson, strict_json
from ansible_collections.infrazero.database.plugins.module_utils._engine.errors import (
    ConfigurationError,
    DumpIncomplete,
    DumpSyntax,
    EngineError,
    ManifestError,
)
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql import (
    ownership,
    settings_text,
)
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.dumptext import preamble
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.dumptext import (
    scanner as dumptext_scanner,
)
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.dumptext import (
    selection as dumptext_selection,
)
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.dumptext import (
    statements as dumptext_statements,
)
from ansible_collections.infrazero.database.plugins.module_utils._engine.sources.postgresql.dumptext import (
    tally as tallies,
)
from ansible_collections.infrazero.database.plugins.module_utils._engine.stores import filenames
from ansible_collections.infrazero.database.plugins.module_utils._engine.streams import age, compression
from ansible_collections.infrazero.database.plugins.module_utils._scrub import CantScrub, Scrubber

from tests.support.readers import READERS
from tests.support.timing import Text, require_linear

if t.TYPE_CHECKING:
    from collections.abc import Callable

#: Stands in every secret field of the lists that are made up, and must stand in no error.
SECRET = "zCanaryOfAFuzzerz"
_KEY_LINE = b"-- infrazero digest key: " + b"5" * 64 + b"\n"
#: Sizes of the pieces that a text is cut into.
CUTS: tuple[int, ...] = (1, 2, 3, 7, 64)
_SHELL = pathlib.Path("/bin/sh")


# Dumps --------------------------------------------------------------------------------------------------------------


def _scanned(chunks: t.Iterable[bytes]) -> tuple[list[object], str]:
    """The events, rows joined, and how it ended."""
    scanner = dumptext_scanner.Scanner()
    found: list[object] = []
    rows: list[bytes] | None = None
    try:
        for chunk in chunks:
            for event in scanner.feed(chunk):
                if isinstance(event, dumptext_scanner.CopyData):
                    assert event.data and rows is not None, "rows outside of a block, or none"
                    rows.append(event.data)
                elif isinstance(event, dumptext_scanner.CopyStart):
                    rows = []
                    found.append((event.table, event.text))
                elif isinstance(event, dumptext_scanner.CopyEnd):
                    assert rows is not None, "the end of no block"
                    found.append(b"".join(rows))
                    rows = None
                else:
                    assert isinstance(event, dumptext_scanner.Statement) and rows is None
                    found.append(event.text)
        scanner.finish()
    except (DumpIncomplete, DumpSyntax) as exc:
        return found, f"{type(exc).__name__}: {exc}"
    return found, "ended"


def _pieces(data: bytes, size: int) -> t.Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


def scanner(data: bytes) -> None:
    """The events of a dump's text are the same however it is cut."""
    whole = _scanned([data] if data else [])
    for size in CUTS:
        pieces = _scanned(_pieces(data, size))
        assert pieces == whole, f"cut into {size}: {pieces} instead of {whole}"


def tally(data: bytes) -> None:
    """A tally counts the same however it is fed, and the same as a check of the whole."""

    def counted(size: int) -> object:
        one = tallies.Tally(b"5" * 32)
        try:
            for piece in _pieces(data, size):
                one.feed(piece)
            return one.finish_any()
        except (DumpIncomplete, DumpSyntax) as exc:
            return type(exc)

    whole = counted(len(data) or 1)
    for size in CUTS:
        assert counted(size) == whole, f"cut into {size}"
    for text in (data, _KEY_LINE + data):
        try:
            tallies.check(io.BytesIO(text))
        except (DumpIncomplete, DumpSyntax):
            pass


class _Cut:
    """Gives bytes in pieces of one size."""

    def __init__(self, data: bytes, size: int) -> None:
        self._data = io.BytesIO(data)
        self._size = size

    def read(self, n: int, /) -> bytes:
        return self._data.read(min(n, self._size))


def preambles(data: bytes) -> None:
    """A preamble is read the same however it is cut, and what it says can be used or is refused."""

    def read(size: int) -> object:
        try:
            found, rest = preamble.read(_Cut(data, size))
            return found, b"".join(iter(lambda: rest.read(1 << 16), b""))
        except (DumpIncomplete, DumpSyntax) as exc:
            return type(exc)

    whole = read(len(data) or 1)
    for size in CUTS:
        assert read(size) == whole, f"cut into {size}"
    if isinstance(whole, tuple) and whole[0].settings is not None:
        try:
            settings_text.for_psql(settings_text.of_backup(whole[0].settings))
        except DumpSyntax:
            pass


def statements(data: bytes) -> None:
    """Every statement can be judged, and one whose roles keep their names stays as it is."""
    for encoding in ("utf-8", "latin-1"):
        statement = dumptext_scanner.Statement(data)
        found = dumptext_statements.classify(statement, encoding=encoding)
        text = dumptext_statements.decode(statement, encoding)
        for token in dumptext_statements.tokens(text):
            assert 0 <= token.start < token.end <= len(text)
        roles = getattr(found, "roles", ())
        assert dumptext_statements.rewrite_roles(statement, roles, {}, encoding=encoding).text == data
        for role in roles:
            assert 0 <= role.start < role.end <= len(text)
        dumptext_selection.Selection(["public.a"]).takes(statement, encoding=encoding)


def identities(data: bytes) -> None:
    """What names an object is names, types and brackets, each closed, and nothing behind them."""
    text = data.decode("utf-8", "replace")
    for kind in ("TABLE", "LARGE OBJECT", "OPERATOR CLASS", "FUNCTION", "AGGREGATE", "OPERATOR"):
        if ownership.is_identity(kind, text):
            found = list(dumptext_statements.tokens(text))
            edges = [0, *(edge for token in found for edge in (token.start, token.end)), len(text)]
            assert not any(text[begin:end].strip() for begin, end in zip(edges[::2], edges[1::2])), "a comment"
            assert all(token.kind != "text" and token.value != ";" for token in found)
            depth = 0
            for token in found:
                depth += (token.value == "(") - (token.value == ")") if token.kind == "symbol" else 0
                assert depth >= 0
            assert depth == 0


# Lists, manifests, settings -----------------------------------------------------------------------------------------


def databases_json(data: bytes) -> None:
    """A list is valid, or every fault of it is told, without a secret."""
    for private in (True, False):
        try:
            found = databases.parse(data, rules=age, private=private)
        except databases.InvalidDatabases as exc:
            told = json.dumps(exc.as_dict()) + str(exc)
            assert exc.faults
        else:
            told = repr(found)
            names = [entry.name for entry in found.entries]
            assert names and len(set(names)) == len(names)
            assert all(len(name.encode()) <= 63 and "/" not in name for name in names)
        assert SECRET not in told
    for view in (databases.private_view, databases.public_view):
        try:
            viewed = view(data)
        except databases.InvalidDatabases as exc:
            assert SECRET not in str(exc)
        else:
            assert view is databases.private_view or "AGE-SECRET-KEY-" not in json.dumps(
                [entry.get("backup_age_public_key") for entry in viewed]
            )


def manifests(data: bytes) -> None:
    """A manifest is one, or an error says why not; what is read from one can be written and read again."""
    try:
        found = manifest.parse(data)
    except ManifestError:
        return
    assert re.fullmatch(r"[0-9a-f]{64}", found.sha256)
    assert not layout.locate(found.key).is_manifest
    if found.schema_version is not None:
        found = dataclasses.replace(found, schema_version=manifest.SCHEMA_VERSION)
    assert manifest.parse(manifest.render(found)) == found
    assert manifest.render(manifest.parse(manifest.render(found))) == manifest.render(found)
    if found.rekeyed is not None:
        assert found.stands_for[0] == found.rekeyed.sha256
        with contextlib.suppress(ManifestError):
            assert isinstance(json.loads(manifest.earlier(data)), dict)
    try:
        new = manifest.rekeyed(data, at=found.created_at, recipients=("age1new",), changes={"key": "new.age"})
    except ManifestError:
        return
    assert manifest.agree(dataclasses.replace(found, schema_version=new.schema_version), new)
    assert json.loads(manifest.earlier(manifest.render(new))) == {
        name: value for name, value in json.loads(data).items() if value is not None
    }


def json_text(data: bytes) -> None:
    """Strict JSON is what Python reads, or an error of ours."""
    try:
        value = strict_json(data)
    except NotJson:
        return
    assert json.loads(data.decode("utf-8")) == value


def signatures(data: bytes) -> None:
    """What can be told of a signature before it is checked."""
    text = data.decode("utf-8", "surrogateescape")
    key = trust.key_of(text)
    if key is not None:
        assert trust.fingerprint(key).startswith("SHA256:")
    if trust.can_sign(text):
        assert len(trust.signers_line(text, "ssh-ed25519 AAAA").split()) == 4
    trust.holds_keys(trust.key_lines(text, name="allowed_signers"))


def settings(data: bytes) -> None:
    """A settings file says the same to us and to a shell, and can be written and read again."""
    text = data.decode("utf-8", "surrogateescape")
    try:
        values = envfile.parse(text, name="db.env")
    except ConfigurationError as exc:
        assert SECRET not in str(exc)
        return
    rendered = envfile.render(values)
    assert envfile.parse(rendered, name="db.env") == values
    names = [name for name in values if name.startswith("DB_")]
    if names and _SHELL.exists():
        shown = "".join(f'printf "%s\\0" "${name}"; ' for name in names)
        for source in (text, rendered):
            script = source.encode("utf-8", "surrogateescape") + b"\n" + shown.encode()
            done = subprocess.run([str(_SHELL)], input=script, capture_output=True, check=False, env={})
            expected = "".join(values[name] + "\0" for name in names).encode("utf-8", "surrogateescape")
            assert done.stdout == expected, f"a shell reads {done.stdout!r} instead of {expected!r}"


# Keys ---------------------------------------------------------------------------------------------------------------


def locations(data: bytes) -> None:
    """A text names one place that no path leads out of, or none."""
    text = data.decode("utf-8", "surrogatepass") if _decodes(data) else data.decode("latin-1")
    try:
        found = layout.locate(text)
    except ConfigurationError:
        return
    assert not {".", "..", ""} & set(found.key.split("/")[:1]) and ".." not in found.key.split("/")
    assert "/" not in (found.bucket or "")
    assert layout.locate(found.key) == layout.Location(found.key)
    layout.moment_of(found.key)
    layout.manifest_key(found.key)
    path = filenames.path_of(found.key)
    assert filenames.key_of(path) == found.key
    parts = path.split("/")
    assert all(0 < len(part.encode()) <= 255 and part not in (".", "..") and "\0" not in part for part in parts), path
    folder = filenames.folder_of(found.key)
    assert folder == "" or path.startswith(folder + "/")


def file_names(data: bytes) -> None:
    """The name of a file in the store is that of one key, or of none."""
    path = data.decode("utf-8", "replace").replace("\0", "")
    key = filenames.key_of(path)
    assert key is None or filenames.path_of(key) == path


def _decodes(data: bytes) -> bool:
    try:
        data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return False
    return True


# Objects ------------------------------------------------------------------------------------------------------------

_IDENTITIES = age.parse_identities(
    [Secret("AGE-SECRET-KEY-1PPHJUE8N9F5KFDVMNHG3M2877DDQVHJ6LPJ57RPALDXL33LXADESXYM2U5")]
)


def objects(data: bytes) -> None:
    """An object that isn't what it seems is damaged, never a crash; and it is read to its end."""
    try:
        reader: t.Any = io.BytesIO(data)
        if age.is_encrypted(data):
            reader = age.decrypting_reader(reader, _IDENTITIES)
        reader = compression.decompressing_reader(reader, limit=1 << 20)
        while reader.read(1 << 16):
            pass
    except EngineError:
        pass


def age_keys(data: bytes) -> None:
    """A text is a key, or there is a reason in words, which repeats nothing of it."""
    text = data.decode("utf-8", "surrogateescape")
    for reason in (age.recipient_fault(text), age.identity_fault(Secret(text))):
        assert reason is None or len(text) < 40 or text not in reason


# What brought secrets to a host ---------------------------------------------------------------------------------------

_IDENTITY = b"AGE-SECRET-KEY-1" + b"Q" * 58


def scrubbed(data: bytes) -> None:
    """No private key is left, wherever one stood."""
    scrubber = Scrubber(["NAME"], [SECRET])
    for text in (data, data + b"\nNAME='" + _IDENTITY + b"'\n" + data):
        try:
            once = scrubber.scrub(text)
        except CantScrub:
            continue
        assert _IDENTITY not in once and SECRET.encode() not in once


TARGETS: dict[str, Callable[[bytes], None]] = {
    function.__name__: function
    for function in (
        *(
            scanner,
            tally,
            preambles,
            statements,
            identities,
            databases_json,
            manifests,
            json_text,
            signatures,
            settings,
        ),
        *(locations, file_names, objects, age_keys, scrubbed),
    )
}


# Time ---------------------------------------------------------------------------------------------------------------


def within_time(name: str, text: Text) -> None:
    """The readers of a target take a time for *text* that grows with its length, and in proportion to an honest text's.

    :raises TooSlow: otherwise.
    """
    for reader in READERS[name]:
        require_linear(reader.read, text, size=reader.size, plain=reader.plain)
