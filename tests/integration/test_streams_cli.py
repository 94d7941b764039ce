# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Objects of ours open with the tools everybody has, and theirs with ours: age, gzip, zstd, ssh-keygen themselves."""

from __future__ import annotations

import io
import os
import pathlib
import re
import subprocess
import typing as t

import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.secret import Secret
from ansible_collections.infrazero.database.plugins.module_utils._engine.streams import age
from ansible_collections.infrazero.database.plugins.module_utils._engine.streams.compression import Compression
from ansible_collections.infrazero.database.plugins.module_utils._engine.streams.pipeline import decode, encode

from tests.support.streams import drain

# More than one chunk of age's payload, of text and of what can't be compressed.
SAMPLE = b"".join(b"%d\tname %d\t\\N\n" % (i, i % 71) for i in range(100_000)) + os.urandom(200_000)
KINDS = ["x25519", "ssh-ed25519", "ssh-rsa"]
UNPACK = {"gzip": ["gunzip", "-c"], "zstd": ["zstd", "-q", "-d", "-c"], "none": ["cat"]}
PACK = {"gzip": ["gzip", "-c"], "zstd": ["zstd", "-q", "-c"], "none": ["cat"]}


class Key(t.NamedTuple):
    public: str
    private: Secret
    file: pathlib.Path


def run(*argv: object, data: bytes = b"") -> bytes:
    return subprocess.run([str(word) for word in argv], input=data, stdout=subprocess.PIPE, check=True).stdout


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Key]:
    """A key pair of each kind, made by age-keygen and ssh-keygen; and a second one of age's."""
    folder = tmp_path_factory.mktemp("keys")
    found = {}
    for name in ("x25519", "other"):
        file = folder / name
        run("age-keygen", "-o", file)
        public = re.search(r"public key: (age1\w+)", file.read_text())
        assert public is not None
        found[name] = Key(public.group(1), Secret(file.read_text()), file)
    for name, options in {"ssh-ed25519": ["-t", "ed25519"], "ssh-rsa": ["-t", "rsa", "-b", "3072"]}.items():
        file = folder / name
        run("ssh-keygen", "-q", "-N", "", "-C", "me@host", *options, "-f", file)
        found[name] = Key(file.with_suffix(".pub").read_text(), Secret(file.read_text()), file)
    return found


def ours(method: str, public: t.Sequence[str]) -> bytes:
    source = io.BytesIO(SAMPLE)
    with encode(source, compression=Compression(method), recipients=age.parse_recipients(public)) as encoded:
        return drain(encoded)


def opened(data: bytes, key: Key) -> bytes:
    identities = age.parse_identities([key.private])
    with decode(io.BytesIO(data), identities=identities, expected_sha256=None) as decoded:
        return drain(decoded)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", UNPACK)
def test_their_tools_open_ours(kind: str, method: str, keys: dict[str, Key]) -> None:
    decrypted = run("age", "-d", "-i", keys[kind].file, data=ours(method, [keys[kind].public]))
    assert run(*UNPACK[method], data=decrypted) == SAMPLE


def test_each_of_many_recipients_opens_ours(keys: dict[str, Key]) -> None:
    packed = ours("gzip", [key.public for key in keys.values()])
    for key in keys.values():
        assert run("gunzip", "-c", data=run("age", "-d", "-i", key.file, data=packed)) == SAMPLE
        assert opened(packed, key) == SAMPLE


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", PACK)
@pytest.mark.parametrize("armor", [[], ["-a"]])
def test_ours_opens_theirs(kind: str, method: str, armor: list[str], keys: dict[str, Key]) -> None:
    packed = run("age", *armor, "-r", keys[kind].public.strip(), data=run(*PACK[method], data=SAMPLE))
    assert opened(packed, keys[kind]) == SAMPLE


@pytest.mark.parametrize("armor", [[], ["-a"]])
def test_ours_opens_theirs_for_many_recipients(armor: list[str], keys: dict[str, Key]) -> None:
    recipients = [word for key in keys.values() for word in ("-r", key.public.strip())]
    packed = run("age", *armor, *recipients, data=run("gzip", "-c", data=SAMPLE))
    for key in keys.values():
        assert opened(packed, key) == SAMPLE


def test_parallel_and_long_range_compressors(keys: dict[str, Key]) -> None:
    """What a shell pipeline may have used instead: levels, workers, a larger window, several members."""
    for argv in (["gzip", "-9"], ["zstd", "-q", "-T2"], ["zstd", "-q", "--long=27"], ["zstd", "-q", "--no-check"]):
        packed = run(*argv, "-c", data=SAMPLE)
        assert opened(packed + run(*argv, "-c", data=b"more"), keys["x25519"]) == SAMPLE + b"more"


def test_their_recipient_of_a_private_key_is_ours(keys: dict[str, Key]) -> None:
    key = keys["x25519"]
    assert age.public_of(key.private) == run("age-keygen", "-y", key.file).decode().strip() == key.public
    for name in KINDS:
        assert age.recipient_fault(keys[name].public) is None
        assert age.identity_fault(keys[name].private) is None
        assert age.pair_fault([keys["other"].public, keys[name].public], keys[name].private) is None
        assert age.pair_fault([keys["other"].public], keys[name].private) is not None
