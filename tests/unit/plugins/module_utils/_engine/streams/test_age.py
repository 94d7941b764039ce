# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import base64
import io
import itertools
import os
import pathlib
import subprocess
import typing as t

import pyrage
import pytest
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.databases import (
    Databases,
    InvalidDatabases,
    parse,
)
from ansible_collections.infrazero.database.plugins.module_utils._engine.domain.secret import Secret
from ansible_collections.infrazero.database.plugins.module_utils._engine.errors import (
    ConfigurationError,
    DamagedObject,
    EngineError,
    IdentityMissing,
    LibraryMissing,
    StreamError,
    WrongIdentity,
)
from ansible_collections.infrazero.database.plugins.module_utils._engine.streams import age
from hypothesis import given
from hypothesis import strategies as st

from tests.support.streams import Endless, Pieces, SourceBroke, Stuck, drain, flips

# One chunk of an age payload, and what encryption adds to it.
PAYLOAD_CHUNK = 64 * 1024
TAG = 16

KEYS = [pyrage.x25519.Identity.generate() for _unused in range(4)]
PUBLIC = [str(key.to_public()) for key in KEYS]
PRIVATE = [Secret(str(key)) for key in KEYS]
RECIPIENTS = age.parse_recipients(PUBLIC[:1])


def _bech32(kind: str, data: bytes) -> str:
    """BIP 173, without its limit of length."""
    bits = "".join(f"{byte:08b}" for byte in data)
    bits += "0" * (-len(bits) % 5)
    values = [int(bits[i : i + 5], 2) for i in range(0, len(bits), 5)]
    checksum = 1
    for value in [*(ord(c) >> 5 for c in kind), 0, *(ord(c) & 31 for c in kind), *values, *[0] * 6]:
        top = checksum >> 25
        checksum = (checksum & 0x1FFFFFF) << 5 ^ value
        for bit, generator in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            checksum ^= generator if top >> bit & 1 else 0
    checksum ^= 1
    values += [checksum >> 5 * (5 - i) & 31 for i in range(6)]
    return kind + "1" + "".join("qpzry9x8gf2tvdw0s3jn54khce6mua7l"[value] for value in values)


# The base point of P-256 and an all-zero ML-KEM key: as good a public key as any to encrypt to.
_X = bytes.fromhex("6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296")
_Y = bytes.fromhex("4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5")
HARDWARE = _bech32("age1tag", b"\3" + _X)
HARDWARE_POST_QUANTUM = _bech32("age1tagpq", bytes(1184) + b"\4" + _X + _Y)


@pytest.fixture(scope="module")
def ssh_keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, Secret]]:
    """SSH key pairs (public, private) by the name of their kind."""
    folder = tmp_path_factory.mktemp("ssh")
    kinds = {
        "ed25519": ["-t", "ed25519", "-N", ""],
        "rsa": ["-t", "rsa", "-b", "2048", "-N", ""],
        "rsa-pem": ["-t", "rsa", "-b", "2048", "-m", "PEM", "-N", ""],
        "ecdsa": ["-t", "ecdsa", "-N", ""],
        "locked": ["-t", "ed25519", "-N", "a passphrase"],
    }
    keys = {}
    for name, options in kinds.items():
        path = folder / name
        subprocess.run(["ssh-keygen", "-q", "-C", "me@host", *options, "-f", str(path)], check=True)
        keys[name] = ((folder / f"{name}.pub").read_text(), Secret(path.read_text()))
    return keys


def encrypt(data: bytes, public: t.Sequence[str] = PUBLIC[:1], sizes: t.Sequence[int] = (65536,)) -> bytes:
    return drain(age.encrypting_reader(Pieces(data, sizes=sizes), age.parse_recipients(public)))


def decrypt(data: bytes, private: t.Sequence[Secret] = PRIVATE[:1], sizes: t.Sequence[int] = (65536,)) -> bytes:
    with age.decrypting_reader(Pieces(data, sizes=sizes), age.parse_identities(private)) as reader:
        return drain(reader)


def armor(data: bytes, end: bytes = b"\n") -> bytes:
    text = base64.b64encode(data)
    lines = [text[i : i + 64] for i in range(0, len(text), 64)]
    return end.join([age.ARMOR_MAGIC, *lines, b"-----END AGE ENCRYPTED FILE-----", b""])


# "data", by `age --passphrase`, the passphrase is "secret".
WITH_PASSPHRASE = base64.b64decode(
    "YWdlLWVuY3J5cHRpb24ub3JnL3YxCi0+IHNjcnlwdCBtM3lMRmtUSEdBaXczaG9rMmt5SzB3IDE4CkFhUnB5cHZqdS8vQVhiZTBi"
    "eFpvQ21VYW5BRmdzQTBkcFMwTnpwbUo5YkEKLS0tICtReGtWNCtsbXpCWHhsZlk1VWM2TWRScm5PRzc5T0N5Ny9YWndYeGlKaWMK"
    "xbG8G/VWDzA7f7w+IKpjuufLv/E17eRiEZD0yS5XVhxyzwCx"
)
SAMPLE = os.urandom(PAYLOAD_CHUNK * 2 + 1000)
ENCRYPTED = encrypt(SAMPLE)


# Streams ------------------------------------------------------------------------------------------------------------


@given(
    st.binary(max_size=3000),
    st.sampled_from([0, 1, 30, 70]),
    st.lists(st.integers(1, 70000), min_size=1, max_size=4),
    st.integers(1, 200000),
    st.integers(1, 4),
    st.booleans(),
)
def test_round_trip(data: bytes, times: int, sizes: list[int], n: int, recipients: int, armored: bool) -> None:
    data *= times
    with age.encrypting_reader(Pieces(data, sizes=sizes), age.parse_recipients(PUBLIC[:recipients])) as reader:
        encrypted = drain(reader, n)
    assert age.is_encrypted(encrypted)
    if armored:
        encrypted = armor(encrypted)
    for key in range(recipients):
        assert decrypt(encrypted, PRIVATE[key : key + 1], sizes) == data


@pytest.mark.parametrize("size", [0, 1, PAYLOAD_CHUNK - 1, PAYLOAD_CHUNK, PAYLOAD_CHUNK + 1, PAYLOAD_CHUNK * 2])
def test_sizes_around_the_payloads_chunks(size: int) -> None:
    data = os.urandom(size)
    encrypted = encrypt(data)
    assert decrypt(encrypted) == data
    for cut in {1, TAG, TAG + 1, PAYLOAD_CHUNK + TAG, size + TAG} - {0}:
        if cut <= size + TAG:
            with pytest.raises(DamagedObject):
                decrypt(encrypted[:-cut])


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("after", [b"", b"\n \t\r\n", b"\n" * 100_000])
def test_armored(end: bytes, after: bytes) -> None:
    armored = armor(ENCRYPTED, end)
    assert age.is_encrypted(armored[: age.MAGIC_SIZE])
    for sizes in [(65536,), (1000, 1, 3)]:
        assert decrypt(armored + after, sizes=sizes) == SAMPLE


@pytest.mark.parametrize("kind", ["ed25519", "rsa", "rsa-pem"])
def test_ssh_keys(kind: str, ssh_keys: dict[str, tuple[str, Secret]]) -> None:
    public, private = ssh_keys[kind]
    encrypted = encrypt(SAMPLE, [PUBLIC[0], public])
    assert decrypt(encrypted, [private]) == SAMPLE
    assert decrypt(encrypted, [PRIVATE[1], Secret(private.reveal().replace("\n", "\r\n"))]) == SAMPLE
    assert age.pair_fault([public], private) is None
    assert age.pair_fault([PUBLIC[0]], private) is not None


def test_hardware_recipients_can_be_encrypted_to() -> None:
    assert b"\n-> p256tag " in encrypt(b"data", [HARDWARE, PUBLIC[0]])
    assert b"\n-> mlkem768p256tag " in encrypt(b"data", [HARDWARE_POST_QUANTUM])
    with pytest.raises(WrongIdentity, match="mlkem768p256tag"):
        decrypt(encrypt(b"data", [HARDWARE_POST_QUANTUM]))


def test_a_wrong_identity_says_so_and_shows_none() -> None:
    with pytest.raises(WrongIdentity) as caught:
        decrypt(ENCRYPTED, PRIVATE[1:])
    assert caught.value.phase == "decrypt"
    assert caught.value.given == tuple(PUBLIC[1:])
    assert caught.value.cause == "it is encrypted to keys of these kinds: X25519"
    assert "AGE-SECRET" not in str(caught.value)


def test_random_stanzas_are_nobodys_recipients() -> None:
    """pyrage adds one to most files; nothing that is said of a file may be of it."""
    files = [encrypt(b"data") for _unused in range(30)]
    assert any(b"-grease " in file for file in files)
    for file in files:
        with pytest.raises(WrongIdentity) as caught:
            decrypt(file, PRIVATE[1:])
        assert "grease" not in str(caught.value)


def test_an_entry_of_the_list_may_have_several_private_keys() -> None:
    """As while a key is rotated: one of them belongs to the entry, the others open earlier backups."""

    def parsed(*identities: Secret) -> Databases:
        key = "\n".join(["# created: today", *(one.reveal() for one in identities), ""])
        item = {"name": "app", "user": "app", "password": "x", "backup_age_public_key": PUBLIC[0]}
        return parse([{**item, "backup_age_private_key": key}], rules=age, private=True)

    (entry,) = parsed(PRIVATE[1], PRIVATE[0]).entries
    assert entry.identity is not None and len(age.parse_identities([entry.identity])) == 2
    with pytest.raises(InvalidDatabases, match=f"it belongs to {PUBLIC[1]}, {PUBLIC[2]}"):
        parsed(PRIVATE[1], PRIVATE[2])


def test_whose_keys_identities_are(ssh_keys: dict[str, tuple[str, Secret]]) -> None:
    several = Secret(f"# two keys\n{KEYS[0]}\n\n{KEYS[1]}\n")
    identities = age.parse_identities([several, ssh_keys["ed25519"][1], PRIVATE[0]])
    assert age.recipients_of(identities) == (PUBLIC[0], PUBLIC[1])


def test_no_identity() -> None:
    with pytest.raises(IdentityMissing):
        age.decrypting_reader(Pieces(ENCRYPTED), [])
    with pytest.raises(IdentityMissing):
        age.parse_identities([])


def test_a_passphrase_file_says_so() -> None:
    for encrypted in (WITH_PASSPHRASE, armor(WITH_PASSPHRASE)):
        with pytest.raises(WrongIdentity, match="passphrase"):
            decrypt(encrypted)


def test_nobody_to_encrypt_to_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="no age recipient"):
        age.encrypting_reader(Pieces(b"data"), [])


# Damage -------------------------------------------------------------------------------------------------------------

# Each kind of place once: every byte of the header, then places in every chunk of the payload.
CUTS = [
    *range(ENCRYPTED.index(b"\n---") + 70),
    *range(300, len(ENCRYPTED), 4093),
    *range(len(ENCRYPTED) - 20, len(ENCRYPTED)),
]


@pytest.mark.parametrize("armored", [False, True])
def test_truncated_anywhere(armored: bool) -> None:
    whole = armor(ENCRYPTED) if armored else ENCRYPTED
    # The last line's end is no part of the armor.
    for cut in {cut for cut in CUTS if cut < len(whole)} | {len(whole) - 2}:
        if armored or cut < len(ENCRYPTED):
            with pytest.raises(DamagedObject):
                decrypt(whole[:cut])


def test_one_flipped_bit_anywhere() -> None:
    """In a stanza it can't be told from a file for somebody else: then the identity is said to be wrong."""
    header = ENCRYPTED.index(b"\n---") + 48
    for _position, flipped in flips(ENCRYPTED[: header + 16]):
        with pytest.raises((DamagedObject, WrongIdentity)):
            decrypt(flipped + ENCRYPTED[header + 16 :])
    for _position, flipped in flips(ENCRYPTED, start=header, step=4099 * 8 + 1):
        with pytest.raises(DamagedObject):
            decrypt(flipped)


def test_one_flipped_bit_of_an_armored_file() -> None:
    """White space at the ends of an armored file says nothing; everything else does."""
    armored = armor(encrypt(b"a short text"))
    for position, flipped in flips(armored, step=3):
        try:
            assert decrypt(flipped) == b"a short text", position
            assert not flipped[position : position + 1].strip(), position
        except (DamagedObject, WrongIdentity):
            pass


@pytest.mark.parametrize("trailing", [b"x", b"\0" * 100_000, ENCRYPTED])
def test_trailing_bytes(trailing: bytes) -> None:
    for whole in (ENCRYPTED + trailing, armor(ENCRYPTED) + trailing, armor(ENCRYPTED) + b"\n" * 100_000 + trailing):
        with pytest.raises(DamagedObject):
            decrypt(whole)


def test_chunks_swapped_doubled_or_left_out() -> None:
    start = len(ENCRYPTED) - len(SAMPLE) - 3 * TAG
    size = PAYLOAD_CHUNK + TAG
    head, chunks = ENCRYPTED[:start], [ENCRYPTED[i : i + size] for i in range(start, len(ENCRYPTED), size)]
    assert len(chunks) == 3
    for order in ([1, 0, 2], [0, 0, 1, 2], [0, 2], [2], [0, 1], []):
        with pytest.raises(DamagedObject):
            decrypt(head + b"".join(chunks[i] for i in order))


@pytest.mark.parametrize(
    "header",
    [
        b"-> X25519 " + b"A" * 10_000_000,
        b"-> hostile a\n" + b"A" * 64 + b"\n",
        b"-> hostile a\n" + (b"A" * 64 + b"\n") * 100_000,
        b"-> h\n\n" * 1_000_000,
        b"-> h\n\n" * 1000 + b"--- " + b"A" * 43 + b"\n" + b"x" * 32,
    ],
)
def test_a_hostile_header_is_refused_before_it_costs_anything(header: bytes) -> None:
    hostile = age.BINARY_MAGIC + b"\n" + header
    for data in (hostile, armor(hostile)):
        source = Pieces(data)
        with age.decrypting_reader(source, KEYS[:1]) as reader, pytest.raises(DamagedObject, match="header"):
            drain(reader)
        assert source.position < 400_000


@pytest.mark.parametrize(
    "data", [b"", b"age", b"-- PostgreSQL database dump\n", b"\x1f\x8b" + bytes(100), b"age-encryption.org/v2\n"]
)
def test_what_is_no_age_file(data: bytes) -> None:
    assert not age.is_encrypted(data)
    with pytest.raises(DamagedObject, match="not a readable age file"):
        decrypt(data)


# Faults of what stands before and after -----------------------------------------------------------------------------


@pytest.mark.parametrize("fail_at", [0, 1, PAYLOAD_CHUNK, len(SAMPLE) - 1, len(SAMPLE)])
def test_an_error_of_the_source_surfaces_and_leaves_no_whole_file(fail_at: int) -> None:
    out = []
    with age.encrypting_reader(Pieces(SAMPLE, fail_at=fail_at), RECIPIENTS) as reader:
        for _again in range(2):
            with pytest.raises(SourceBroke):
                out.extend(iter(lambda: reader.read(1000), b""))
    with pytest.raises(DamagedObject):
        decrypt(b"".join(out))


@pytest.mark.parametrize(
    "fail_at", [0, 1, 100, PAYLOAD_CHUNK, len(ENCRYPTED) - 1, len(ENCRYPTED)], ids=itertools.count()
)
def test_an_error_of_the_encrypted_source_surfaces(fail_at: int) -> None:
    with age.decrypting_reader(Pieces(ENCRYPTED, fail_at=fail_at), KEYS[:1]) as reader:
        for _again in range(2):
            with pytest.raises(SourceBroke):
                drain(reader)


def test_closing_early_ends_the_thread() -> None:
    for read in (0, 1, 5_000_000):
        source = Endless()
        reader = age.encrypting_reader(source, RECIPIENTS)
        if read:
            reader.read(read)
        reader.close()
        assert source.closed >= 1
        with pytest.raises(StreamError):
            drain(reader)


def test_closing_ends_the_thread_while_the_source_hangs() -> None:
    for source, make in (
        (Stuck(SAMPLE * 8), lambda source: age.encrypting_reader(source, RECIPIENTS)),
        (Stuck(encrypt(SAMPLE * 8)), lambda source: age.decrypting_reader(source, KEYS[:1])),
    ):
        reader = make(source)
        reader.read(1000)
        source.waiting.wait()
        reader.close()


def test_a_failure_of_the_library_is_an_error_of_the_encryption() -> None:
    reader = age.encrypting_reader(io.BytesIO(b"data"), ["no recipient"])
    with reader, pytest.raises(StreamError, match="encrypt: age encryption failed"):
        drain(reader)


# Recipients and identities ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", [PUBLIC[0], f"  {PUBLIC[0]}\n", HARDWARE, HARDWARE_POST_QUANTUM], ids=itertools.count()
)
def test_recipients_that_will_do(text: str) -> None:
    assert age.recipient_fault(text) is None
    assert len(age.parse_recipients([text])) == 1


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "empty"),
        (" \n", "empty"),
        ("age1", "malformed"),
        (PUBLIC[0][:-1], "malformed"),
        (PUBLIC[0][:-1] + ("q" if PUBLIC[0][-1] != "q" else "p"), "malformed"),
        (HARDWARE[:-1], "malformed"),
        (HARDWARE_POST_QUANTUM[:-1], "malformed"),
        (f"{PUBLIC[0]} {PUBLIC[1]}", "mistyped"),
        ("age1pq1" + "q" * 100, "doesn't know"),
        ("age1yubikey1qwt50d05nh5vutpdzmlg5wn80xq5negm4uj9ghv0snvdd3yysf5yw3rhl3t", "doesn't know"),
        ("ssh-ed25519 AAAA", "malformed"),
        ("ssh-dss AAAA", "malformed"),
        ("gibberish", "not an age recipient"),
        (PRIVATE[0].reveal(), "is a private key"),
        (PRIVATE[0].reveal().lower(), "is a private key"),
        (f"# public key: {PUBLIC[0]}\n{PRIVATE[0].reveal()}", "is a private key"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nb3Bl\n-----END OPENSSH PRIVATE KEY-----", "is a private key"),
    ],
    ids=itertools.count(),
)
def test_recipients_that_will_not_do(text: str, why: str) -> None:
    assert why in str(age.recipient_fault(text))
    with pytest.raises(ConfigurationError, match="age recipient 2 of 2") as caught:
        age.parse_recipients([PUBLIC[0], text])
    assert caught.value.__cause__ is None
    shown = str(caught.value) + str(age.recipient_fault(text))
    assert not any(word in shown for word in text.split() if len(word) > 20)


def test_an_ecdsa_key_is_no_recipient_and_no_identity(ssh_keys: dict[str, tuple[str, Secret]]) -> None:
    public, private = ssh_keys["ecdsa"]
    assert "unsupported type" in str(age.recipient_fault(public))
    assert "unsupported type" in str(age.identity_fault(private))


def test_recipients_that_cannot_stand_together() -> None:
    with pytest.raises(ConfigurationError, match="post-quantum"):
        age.parse_recipients([HARDWARE_POST_QUANTUM, PUBLIC[0]])
    with pytest.raises(ConfigurationError, match="no age recipient"):
        age.parse_recipients([])
    assert age.mix_fault([PUBLIC[0], PUBLIC[1]]) is None
    assert "can't be used together: post-quantum" in str(age.mix_fault([PUBLIC[0], HARDWARE_POST_QUANTUM]))


def test_a_pyrage_without_hardware_recipients(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(pyrage, "tagpq")
    assert "1.4" in str(age.recipient_fault(HARDWARE_POST_QUANTUM))


def test_a_key_file_as_age_keygen_writes_it() -> None:
    text = f"# created: 2026-01-01T00:00:00Z\r\n# public key: {PUBLIC[0]}\r\n{PRIVATE[0].reveal()}\r\n\r\n"
    assert age.identity_fault(Secret(text)) is None
    assert decrypt(ENCRYPTED, [Secret(text)]) == SAMPLE
    assert age.public_of(Secret(text)) == PUBLIC[0]
    both = Secret(f"{PRIVATE[1].reveal()}\n{PRIVATE[0].reveal()}")
    assert decrypt(ENCRYPTED, [both]) == SAMPLE


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "contains no identity"),
        ("# only a comment\n", "contains no identity"),
        (PUBLIC[0], "is a public key"),
        ("ssh-ed25519 AAAA me", "is a public key"),
        (PRIVATE[0].reveal()[:-1], "malformed"),
        (PRIVATE[0].reveal()[:-5] + "AAAAA", "malformed"),
        ("AGE-PLUGIN-YUBIKEY-1QQQQQQQQQQQQQQQQQQQQQQQQQQ", "doesn't know"),
        ("AGE-SECRET-KEY-PQ-1QQQQQQQQQQQQQQQQQQQQQQQQQ", "doesn't know"),
        (f"{PRIVATE[0].reveal()}\nhunter2-is-not-a-key-at-all", "not an age identity"),
        (
            "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAA\n-----END OPENSSH PRIVATE KEY-----",
            "malformed",
        ),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQ\n", "not an age identity"),
    ],
    ids=itertools.count(),
)
def test_identities_that_will_not_do_are_never_shown(text: str, why: str) -> None:
    secret = Secret(text)
    assert why in str(age.identity_fault(secret))
    for call in (lambda: age.parse_identities([PRIVATE[0], secret]), lambda: age.pair_fault(PUBLIC[:1], secret)):
        with pytest.raises(ConfigurationError, match="age identity") as caught:
            call()
        shown: t.Any = caught.value
        assert shown.__cause__ is None
        assert not any(word in str(shown) for word in text.split() if len(word) > 15)


def test_a_locked_ssh_key_says_so(ssh_keys: dict[str, tuple[str, Secret]]) -> None:
    assert "passphrase" in str(age.identity_fault(ssh_keys["locked"][1]))


def test_pairs_and_public_keys(ssh_keys: dict[str, tuple[str, Secret]]) -> None:
    assert age.pair_fault(PUBLIC[:2], PRIVATE[1]) is None
    assert "any of the recipients" in str(age.pair_fault(PUBLIC[:2], PRIVATE[2]))
    assert age.public_of(PRIVATE[2]) == PUBLIC[2]
    assert age.public_of(ssh_keys["ed25519"][1]) is None


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(age, "pyrage", None)
    calls: list[t.Callable[[], t.Any]] = [
        lambda: age.parse_recipients(PUBLIC),
        lambda: age.parse_identities(PRIVATE),
        lambda: age.recipient_fault(PUBLIC[0]),
        lambda: age.identity_fault(PRIVATE[0]),
        lambda: age.pair_fault(PUBLIC, PRIVATE[0]),
        lambda: age.public_of(PRIVATE[0]),
    ]
    for call in calls:
        with pytest.raises(LibraryMissing, match="pyrage"):
            call()


def test_no_error_of_a_stream_holds_an_identity(tmp_path: pathlib.Path) -> None:
    for data in (ENCRYPTED[:-1], b"", encrypt(b"data", PUBLIC[1:2])):
        with pytest.raises(EngineError) as caught:
            decrypt(data)
        assert PRIVATE[0].reveal() not in repr(caught.value.as_dict()) + repr(caught.value.__cause__)
