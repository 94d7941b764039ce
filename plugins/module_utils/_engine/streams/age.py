# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""age encryption: recipients, identities, and readers that encrypt and decrypt a stream.

Format: https://age-encryption.org/v1.  pyrage (bindings to the Rust implementation of age) does the work.  It pulls
from a reader and pushes into a writer, so each direction runs in its own thread.
"""

from __future__ import annotations

import binascii
import io
import re
import typing as t

from ..domain.secret import Secret
from ..domain.text import utf8_size
from ..errors import (
    ConfigurationError,
    DamagedObject,
    EngineError,
    IdentityMissing,
    LibraryMissing,
    StreamError,
    WrongIdentity,
)
from .flow import CHUNK, ChunkReader, Peekable, Readable, ThreadReader

try:
    import pyrage  # type: ignore[import-untyped]
except ImportError:
    pyrage = None

BINARY_MAGIC = b"age-encryption.org/v1"
ARMOR_MAGIC = b"-----BEGIN AGE ENCRYPTED FILE-----"
#: Number of bytes that :func:`is_encrypted` needs.
MAGIC_SIZE = max(len(BINARY_MAGIC), len(ARMOR_MAGIC))

# A header has a few hundred bytes for each recipient.  pyrage parses it again from its start for every missing line, so
# a hostile header of 100 KB would keep it busy for most of a minute.  The limit applies before pyrage reads it.
_HEADER_BYTES = 64 * 1024
_HEADER_STANZAS = 128

#: How the kinds of the random stanzas end that implementations of age add (https://c2sp.org/age).
_GREASE = b"-grease"

_Recipient = t.Any  # pyrage's classes have no common base
_Identity = t.Any

_HINT_RECIPIENT = "give a public key: age1…, ssh-ed25519 … or ssh-rsa …"
_HINT_IDENTITY = "give a private key: AGE-SECRET-KEY-1…, or an OpenSSH private key without a passphrase"
_HINT_DAMAGED = "the object is incomplete or altered: choose another backup"

_SSH_EDGE = re.compile(r"-----(BEGIN|END) ([A-Z ]*PRIVATE KEY)-----")


def _require() -> None:
    if pyrage is None:
        raise LibraryMissing(
            "the Python library pyrage, which age encryption needs, is not installed",
            hint="install the Python package pyrage for this Python interpreter",
        )


def is_encrypted(head: bytes) -> bool:
    """Whether a stream that begins with *head* (at least :data:`MAGIC_SIZE` bytes) is a binary or armored age file."""
    return head.startswith((BINARY_MAGIC, ARMOR_MAGIC))


# Recipients and identities ------------------------------------------------------------------------------------------


class _Unusable(Exception):
    """The reason why a key can't be used; never contains any part of the key."""


def _recipient(text: str) -> _Recipient:
    _require()
    text = text.strip()
    kind = text[:16].lower()
    if not text:
        raise _Unusable("is empty")
    if utf8_size(text) is None:
        raise _Unusable("is not valid Unicode")
    if "age-secret-key-" in text.lower() or "PRIVATE KEY" in text:
        raise _Unusable("is a private key, but a public key (recipient) is needed; do not store the private key here")
    if kind.startswith(("ssh-", "ecdsa-", "sk-")):
        module = pyrage.ssh
    elif kind.startswith(("age1tag1", "age1tagpq1")):
        name = "tagpq" if kind.startswith("age1tagpq1") else "tag"
        module = getattr(pyrage, name, None)
        if module is None:
            raise _Unusable(
                f"is of a kind ({name}) that the installed pyrage doesn't know: install pyrage 1.4 or newer"
            )
    elif kind.startswith("age1") and "1" in text[4:]:
        # In Bech32, "1" ends the prefix, and the data never contains it.
        raise _Unusable("is mistyped, or of a kind that pyrage doesn't know (a plugin's, or post-quantum age1pq1…)")
    elif kind.startswith("age1"):
        module = pyrage.x25519
    else:
        raise _Unusable("is not an age recipient")
    try:
        return module.Recipient.from_str(text)
    except pyrage.RecipientError:
        raise _Unusable("is malformed: mistyped, cut off, or an SSH key of an unsupported type") from None


def _identities(text: str) -> list[_Identity]:
    """Parse all identities of a key file: age secret keys, one per line, or SSH private keys."""
    _require()
    if utf8_size(text) is None:
        raise _Unusable("is not valid Unicode")
    identities = []
    blocks, others = _ssh_blocks(text)
    for block in blocks:
        try:
            identities.append(pyrage.ssh.Identity.from_buffer((block.replace("\r\n", "\n") + "\n").encode()))
        except pyrage.IdentityError as exc:
            if "decrypted first" in str(exc):
                raise _Unusable("is an SSH private key protected by a passphrase") from None
            raise _Unusable("is an SSH private key that is malformed or of an unsupported type") from None
    for line in others.splitlines():
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        kind = line[:20].upper()
        if kind.startswith(("AGE-PLUGIN-", "AGE-SECRET-KEY-PQ-")):
            raise _Unusable("is of a kind that pyrage doesn't know (a plugin's, or post-quantum AGE-SECRET-KEY-PQ)")
        if line.lower().startswith(("age1", "ssh-")):
            raise _Unusable("is a public key, but a private key (identity) is needed")
        if not kind.startswith("AGE-SECRET-KEY-1"):
            raise _Unusable("contains something that is not an age identity")
        try:
            identities.append(pyrage.x25519.Identity.from_str(line))
        except pyrage.IdentityError:
            raise _Unusable("is malformed: mistyped or cut off") from None
    if not identities:
        raise _Unusable("contains no identity")
    return identities


def _ssh_blocks(text: str) -> tuple[list[str], str]:
    """The armored SSH private keys, and the text around them."""
    blocks, others, at = [], [], 0
    begin: re.Match[str] | None = None
    # One pass: a search for the end of each BEGIN would take quadratic time.
    for edge in _SSH_EDGE.finditer(text):
        if edge[1] == "BEGIN":
            begin = begin or edge
        elif begin is not None and edge[2] == begin[2]:
            blocks.append(text[begin.start() : edge.end()])
            others.append(text[at : begin.start()])
            at, begin = edge.end(), None
    return blocks, "".join([*others, text[at:]])


def recipient_fault(text: str) -> str | None:
    """Why *text* is not a valid recipient, as a predicate ("is empty"); ``None`` if it is valid."""
    try:
        _recipient(text)
    except _Unusable as exc:
        return str(exc)
    return None


def identity_fault(secret: Secret) -> str | None:
    """Why *secret* is not a valid identity, as a predicate ("is empty"); ``None`` if it is valid."""
    try:
        _identities(secret.reveal())
    except _Unusable as exc:
        return str(exc)
    return None


def mix_fault(recipients: t.Sequence[str]) -> str | None:
    """Why *recipients*, each of them valid, can't be used together; ``None`` if they can."""
    try:
        parse_recipients(recipients)
    except ConfigurationError as exc:
        return f"can't be used together: {exc.cause}"
    return None


def pair_fault(recipients: t.Sequence[str], secret: Secret) -> str | None:
    """Why *secret* can't decrypt what is encrypted to *recipients*; ``None`` if it can.

    All of them must be valid.  The check encrypts and decrypts a test file, so it works for SSH keys too.
    """
    public, private = parse_recipients(recipients), parse_identities([secret])
    try:
        pyrage.decrypt(pyrage.encrypt(b"", public), private)
    except pyrage.DecryptError:
        own = ", ".join(recipients_of(private))
        return "doesn't belong to any of the recipients" + (f": it belongs to {own}" if own else "")
    return None


def public_of(secret: Secret) -> str | None:
    """The recipient of the first age identity in *secret*; ``None`` for an SSH key, from which it can't be derived.

    :raises ConfigurationError: if no identity is usable.
    """
    for identity in parse_identities([secret]):
        if isinstance(identity, pyrage.x25519.Identity):
            return str(identity.to_public())
    return None


def generate() -> tuple[Secret, str]:
    """A new key pair: the identity and its recipient."""
    _require()
    identity = pyrage.x25519.Identity.generate()
    return Secret(str(identity)), str(identity.to_public())


def recipients_of(identities: t.Sequence[_Identity]) -> tuple[str, ...]:
    """The recipients of parsed *identities*, each once; those of SSH keys, which can't be derived, are left out."""
    own = (str(one.to_public()) for one in identities if isinstance(one, pyrage.x25519.Identity))
    return tuple(dict.fromkeys(own))


def parse_recipients(texts: t.Sequence[str]) -> list[_Recipient]:
    """Parse recipients: X25519 (``age1…``), SSH (``ssh-ed25519``, ``ssh-rsa``), and ``age1tag1…``,
    ``age1tagpq1…`` (hardware keys, the latter post-quantum).

    :raises ConfigurationError: if there are none, one can't be used (the error has its position), or post-quantum
        recipients are mixed with others, which age rejects because the file would be only as safe as the weakest one.
    """
    _require()
    if not texts:
        raise ConfigurationError("no age recipient was given", hint=_HINT_RECIPIENT)
    recipients = []
    for position, text in enumerate(texts, 1):
        try:
            recipients.append(_recipient(text))
        except _Unusable as exc:
            raise ConfigurationError(f"age recipient {position} of {len(texts)} {exc}", hint=_HINT_RECIPIENT) from None
    try:
        pyrage.encrypt(b"", recipients)
    except pyrage.EncryptError:
        raise ConfigurationError(
            "these age recipients can't be used together",
            cause="post-quantum recipients (age1tagpq1…) are mixed with others",
            hint="use only post-quantum recipients, or none",
        ) from None
    return recipients


def parse_identities(texts: t.Sequence[Secret]) -> list[_Identity]:
    """Parse the identities in *texts*; each text may be a whole key file with comments, or an OpenSSH private key.

    :raises IdentityMissing: if there are none.
    :raises ConfigurationError: if one can't be used (the error has its position, never the key).
    """
    _require()
    if not texts:
        raise IdentityMissing("no age identity (private key) was given", hint=_HINT_IDENTITY)
    identities: list[_Identity] = []
    for position, secret in enumerate(texts, 1):
        try:
            identities.extend(_identities(secret.reveal()))
        except _Unusable as exc:
            raise ConfigurationError(f"age identity {position} of {len(texts)} {exc}", hint=_HINT_IDENTITY) from None
    return identities


def encrypt(data: bytes, recipients: t.Sequence[str]) -> bytes:
    """A few bytes as a binary age file.

    :raises ConfigurationError: as :func:`parse_recipients` does.
    """
    return t.cast(bytes, pyrage.encrypt(data, parse_recipients(recipients)))


def encrypt_with_passphrase(secret: Secret, passphrase: Secret) -> bytes:
    """*secret*, a text, as an armored age file that a passphrase opens."""
    _require()
    data = (secret.reveal().rstrip("\n") + "\n").encode("utf-8")
    return t.cast(bytes, pyrage.passphrase.encrypt(data, passphrase.reveal(), armored=True))


# Streams ------------------------------------------------------------------------------------------------------------


class _Input:
    """Adapter of *source* for pyrage, which reads 8 KiB at a time: BytesIO cuts these from a larger piece in C.

    pyrage replaces an error of its reader with its own, so the adapter keeps the original one.
    """

    def __init__(self, source: Readable) -> None:
        self._source = source
        self._piece = io.BytesIO()
        self.error: BaseException | None = None

    def read(self, n: int) -> bytes:
        data = self._piece.read(n)
        if data:
            return data
        try:
            self._piece = io.BytesIO(self._source.read(CHUNK))
        except BaseException as exc:
            self.error = exc
            raise
        return self._piece.read(n)


class _Output:
    """Collects pyrage's writes of 8 or 64 KiB and passes them on in larger pieces."""

    def __init__(self, put: t.Callable[[bytes], None]) -> None:
        self._put = put
        self._pieces: list[bytes] = []
        self._size = 0
        self.error: BaseException | None = None

    def write(self, data: bytes) -> int:
        self._pieces.append(data)
        self._size += len(data)
        if self._size >= CHUNK:
            try:
                self.flush()
            except BaseException as exc:
                self.error = exc
                raise
        return len(data)

    def flush(self) -> None:
        self._put(b"".join(self._pieces))
        self._pieces.clear()
        self._size = 0


def _transform(
    work: t.Callable[[_Input, _Output], None],
    explain: t.Callable[[BaseException], EngineError],
    source: Readable,
    put: t.Callable[[bytes], None],
) -> None:
    """Run pyrage's *work* from *source* to *put*; if one of these two fails, its own error is raised."""
    reader, writer = _Input(source), _Output(put)
    try:
        work(reader, writer)
    except BaseException as exc:  # a panic of the Rust code is not an Exception
        for origin in (reader.error, writer.error):
            if origin is not None:
                raise origin from None
        raise explain(exc) from exc
    rest = reader.read(CHUNK)
    if rest:
        raise DamagedObject(
            "there is unexpected data after the end of the age file", phase="decrypt", hint=_HINT_DAMAGED
        )
    writer.flush()


def encrypting_reader(source: Readable, recipients: t.Sequence[_Recipient]) -> ChunkReader:
    """*source* as a binary age file that each of *recipients* (from :func:`parse_recipients`) can decrypt.

    The last chunk, without which every age implementation rejects the file as incomplete, is created only after the
    proven end of *source*.  A thread runs from the first read until the end, an error or ``close``.
    """
    if not recipients:
        raise ConfigurationError("no age recipient was given", hint=_HINT_RECIPIENT)

    def explain(exc: BaseException) -> EngineError:
        return StreamError("age encryption failed", phase="encrypt", cause=f"{type(exc).__name__}: {exc}")

    def work(reader: _Input, writer: _Output) -> None:
        pyrage.encrypt_io(reader, writer, recipients)

    return ThreadReader(lambda put: _transform(work, explain, source, put), source, name="encrypt")


def decrypting_reader(source: Readable, identities: t.Sequence[_Identity]) -> ChunkReader:
    """The decrypted contents of *source*, a binary or armored age file.

    A thread runs from the first read until the end, an error or ``close``; it reads *source* to its proven end.

    :param identities: identities from :func:`parse_identities`.
    :raises IdentityMissing: if there are no identities.
    :raises WrongIdentity: on read, if no identity can decrypt the file, or if it is encrypted with a passphrase.
    :raises DamagedObject: on read, if the file is truncated, altered, followed by other data or not an age file.
    """
    if not identities:
        raise IdentityMissing("the object is encrypted and no age identity was given", hint=_HINT_IDENTITY)
    peekable = Peekable(source)

    def decrypt(put: t.Callable[[bytes], None]) -> None:
        kinds = _stanza_kinds(peekable.peek(_HEADER_BYTES))
        if "scrypt" in kinds:
            raise WrongIdentity(
                "the object is encrypted with a passphrase, not to a key",
                hint="decrypt it with age -d, then restore the result",
            )

        def explain(exc: BaseException) -> EngineError:
            if isinstance(exc, pyrage.DecryptError) and "No matching keys" in str(exc):
                error = WrongIdentity(
                    "none of the given age identities can decrypt the object",
                    cause="it is encrypted to keys of these kinds: " + ", ".join(kinds),
                    hint="give an identity that belongs to one of the recipients of the backup",
                )
                error.given = recipients_of(identities)
                return error
            return DamagedObject(
                "the age file is damaged", phase="decrypt", cause=f"{type(exc).__name__}: {exc}", hint=_HINT_DAMAGED
            )

        def work(reader: _Input, writer: _Output) -> None:
            pyrage.decrypt_io(reader, writer, identities)

        _transform(work, explain, peekable, put)

    return ThreadReader(decrypt, peekable, name="decrypt")


def _stanza_kinds(head: bytes) -> list[str]:
    """The kinds of the recipients in an age header, from the first :data:`_HEADER_BYTES` bytes of a file.

    :raises DamagedObject: if it is not an age file, or its header is truncated or larger than any genuine one.
    """
    header = head
    if head.startswith(ARMOR_MAGIC):
        lines = head.split(b"-----END", 1)[0].splitlines()[1:]
        text = b"".join(line.strip() for line in lines)
        try:
            header = binascii.a2b_base64(text[: len(text) // 4 * 4])
        except binascii.Error as exc:
            raise _damaged_header("its armor is malformed") from exc
    if not header.startswith(BINARY_MAGIC + b"\n"):
        raise _damaged_header("it does not begin like one")
    header, mac, _rest = header.partition(b"\n--- ")
    if not mac:
        if len(head) < _HEADER_BYTES:
            raise _damaged_header("it ends within its header")
        raise _damaged_header(f"its header is larger than {_HEADER_BYTES} bytes")
    kinds = re.findall(rb"^-> ([!-~]+)", header, re.MULTILINE)
    if len(kinds) > _HEADER_STANZAS:
        raise _damaged_header(f"its header has more than {_HEADER_STANZAS} recipients")
    # No key opens a random stanza: they exist so that no implementation relies on knowing all kinds.
    return sorted({kind.decode("ascii") for kind in kinds if not kind.endswith(_GREASE)})


def _damaged_header(cause: str) -> DamagedObject:
    return DamagedObject("the object is not a readable age file", phase="decrypt", cause=cause, hint=_HINT_DAMAGED)
