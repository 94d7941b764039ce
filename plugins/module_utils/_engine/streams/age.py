# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""age encryption: recipients, identities, and readers that encrypt and decrypt as they go.

Format: https://age-encryption.org/v1.  The work is done by pyrage (the Rust implementation of age).  It pushes, from a
reader into a writer, so each direction runs in a thread of its own.
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
#: Bytes to look at for :func:`is_encrypted`.
MAGIC_SIZE = max(len(BINARY_MAGIC), len(ARMOR_MAGIC))

# A header is a few hundred bytes for each recipient.  pyrage reads it again from its start for every line it misses,
# so a hostile one of 100 KB would keep it busy for most of a minute: bounded before pyrage sees it.
_HEADER_BYTES = 64 * 1024
_HEADER_STANZAS = 128

_Recipient = t.Any  # pyrage's classes have no common base
_Identity = t.Any

_HINT_RECIPIENT = "give a public key: age1…, ssh-ed25519 … or ssh-rsa …"
_HINT_IDENTITY = "give a private key: AGE-SECRET-KEY-1…, or an OpenSSH private key without a passphrase"
_HINT_DAMAGED = "the object is incomplete or altered: take another backup"

_SSH_EDGE = re.compile(r"-----(BEGIN|END) ([A-Z ]*PRIVATE KEY)-----")


def _require() -> None:
    if pyrage is None:
        raise LibraryMissing(
            "the Python library pyrage is needed for age and is not installed",
            hint="install the Python package pyrage for the interpreter in use",
        )


def is_encrypted(head: bytes) -> bool:
    """Whether a stream that begins with *head* (at least :data:`MAGIC_SIZE` bytes) is an age file, armored or not."""
    return head.startswith((BINARY_MAGIC, ARMOR_MAGIC))


# Recipients and identities ------------------------------------------------------------------------------------------


class _Unusable(Exception):
    """Why a key can't be used; never holds any of the key."""


def _recipient(text: str) -> _Recipient:
    _require()
    text = text.strip()
    kind = text[:16].lower()
    if not text:
        raise _Unusable("is empty")
    if utf8_size(text) is None:
        raise _Unusable("is not valid Unicode")
    if "age-secret-key-" in text.lower() or "PRIVATE KEY" in text:
        raise _Unusable(
            "is a private key where a public key (recipient) belongs; the private key must not be kept here"
        )
    if kind.startswith(("ssh-", "ecdsa-", "sk-")):
        module = pyrage.ssh
    elif kind.startswith(("age1tag1", "age1tagpq1")):
        name = "tagpq" if kind.startswith("age1tagpq1") else "tag"
        module = getattr(pyrage, name, None)
        if module is None:
            raise _Unusable(f"is of a kind ({name}) that the installed pyrage doesn't know; 1.4 does")
    elif kind.startswith("age1") and "1" in text[4:]:
        # "1" ends the kind in Bech32, and no Bech32 key holds one.
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
    """All identities of a key file's text: age secret keys one a line, or SSH private keys."""
    _require()
    if utf8_size(text) is None:
        raise _Unusable("is not valid Unicode")
    found = []
    blocks, others = _ssh_blocks(text)
    for block in blocks:
        try:
            found.append(pyrage.ssh.Identity.from_buffer((block.replace("\r\n", "\n") + "\n").encode()))
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
            raise _Unusable("is a public key where a private key (identity) belongs")
        if not kind.startswith("AGE-SECRET-KEY-1"):
            raise _Unusable("holds something that is not an age identity")
        try:
            found.append(pyrage.x25519.Identity.from_str(line))
        except pyrage.IdentityError:
            raise _Unusable("is malformed: mistyped or cut off") from None
    if not found:
        raise _Unusable("holds no identity")
    return found


def _ssh_blocks(text: str) -> tuple[list[str], str]:
    """The private keys in SSH's armor, and the text around them."""
    blocks, others, at = [], [], 0
    begin: re.Match[str] | None = None
    # One pass: a search for the end of each beginning would take a time that grows with the square of the length.
    for edge in _SSH_EDGE.finditer(text):
        if edge[1] == "BEGIN":
            begin = begin or edge
        elif begin is not None and edge[2] == begin[2]:
            blocks.append(text[begin.start() : edge.end()])
            others.append(text[at : begin.start()])
            at, begin = edge.end(), None
    return blocks, "".join([*others, text[at:]])


def recipient_fault(text: str) -> str | None:
    """What is wrong with a recipient, as the end of a sentence that begins with its name, or ``None``."""
    try:
        _recipient(text)
    except _Unusable as exc:
        return str(exc)
    return None


def identity_fault(secret: Secret) -> str | None:
    """What is wrong with an identity, as the end of a sentence that begins with its name, or ``None``."""
    try:
        _identities(secret.reveal())
    except _Unusable as exc:
        return str(exc)
    return None


def mix_fault(recipients: t.Sequence[str]) -> str | None:
    """Why *recipients*, each free of faults, can't be used together, or ``None`` where they can."""
    try:
        parse_recipients(recipients)
    except ConfigurationError as exc:
        return f"can't be used together: {exc.cause}"
    return None


def pair_fault(recipients: t.Sequence[str], secret: Secret) -> str | None:
    """Why *secret* doesn't open what is encrypted to *recipients*, or ``None`` where it does.

    All of them are taken to be free of faults.  Found out by trying, so it holds for SSH keys too.
    """
    public, private = parse_recipients(recipients), parse_identities([secret])
    try:
        pyrage.decrypt(pyrage.encrypt(b"", public), private)
    except pyrage.DecryptError:
        return "doesn't belong to any of the recipients"
    return None


def public_of(secret: Secret) -> str | None:
    """The recipient of the first age identity in *secret*; ``None`` for an SSH key, which doesn't tell.

    :raises ConfigurationError: no usable identity.
    """
    for identity in parse_identities([secret]):
        if isinstance(identity, pyrage.x25519.Identity):
            return str(identity.to_public())
    return None


def parse_recipients(texts: t.Sequence[str]) -> list[_Recipient]:
    """The recipients that *texts* name: X25519 (``age1…``), SSH (``ssh-ed25519``, ``ssh-rsa``), and ``age1tag1…``,
    ``age1tagpq1…`` (hardware keys, the latter post-quantum).

    :raises ConfigurationError: none given, one that can't be used (named by its position), or post-quantum recipients
        beside others, which age refuses as the file would be no safer than the weakest of them.
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
    """The identities in *texts*; each may be a whole key file with comments, or an OpenSSH private key.

    :raises IdentityMissing: none given.
    :raises ConfigurationError: one that can't be used (named by its position, never shown).
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


# Streams ------------------------------------------------------------------------------------------------------------


class _Input:
    """*source* for pyrage, which reads 8 KiB at a time: cut from a larger piece in C.

    pyrage turns an error of its reader into one of its own, so it is kept here.
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
    """Gathers pyrage's writes of 8 or 64 KiB and puts them on in larger pieces."""

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
    """Run pyrage's *work* from *source* to *put*; where either of these failed, their error is the one that is seen."""
    reader, writer = _Input(source), _Output(put)
    try:
        work(reader, writer)
    except BaseException as exc:  # a panic of the Rust code is no Exception
        for origin in (reader.error, writer.error):
            if origin is not None:
                raise origin from None
        raise explain(exc) from exc
    rest = reader.read(CHUNK)
    if rest:
        raise DamagedObject("the age file is followed by something else", phase="decrypt", hint=_HINT_DAMAGED)
    writer.flush()


def encrypting_reader(source: Readable, recipients: t.Sequence[_Recipient]) -> ChunkReader:
    """*source* as a binary age file that each of *recipients* (of :func:`parse_recipients`) can open.

    The last chunk, without which no age implementation takes the file for whole, is only made after the proven end
    of *source*.  Works in a thread from the first read to the end, an error, or ``close``.
    """
    if not recipients:
        raise ConfigurationError("no age recipient was given", hint=_HINT_RECIPIENT)

    def explain(exc: BaseException) -> EngineError:
        return StreamError("age could not encrypt", phase="encrypt", cause=f"{type(exc).__name__}: {exc}")

    def work(reader: _Input, writer: _Output) -> None:
        pyrage.encrypt_io(reader, writer, recipients)

    return ThreadReader(lambda put: _transform(work, explain, source, put), source, name="encrypt")


def decrypting_reader(source: Readable, identities: t.Sequence[_Identity]) -> ChunkReader:
    """The plain bytes of *source*, an age file, binary or armored.

    Works in a thread from the first read to the end, an error, or ``close``; reads *source* to its proven end.

    :param identities: of :func:`parse_identities`.
    :raises IdentityMissing: no identities.
    :raises WrongIdentity: at a read: none of them opens it, or it is encrypted with a passphrase.
    :raises DamagedObject: at a read: truncated, altered, followed by something else, no age file at all.
    """
    if not identities:
        raise IdentityMissing("the object is encrypted and no age identity was given", hint=_HINT_IDENTITY)
    peekable = Peekable(source)

    def decrypt(put: t.Callable[[bytes], None]) -> None:
        kinds = _stanza_kinds(peekable.peek(_HEADER_BYTES))
        if "scrypt" in kinds:
            raise WrongIdentity(
                "the object is encrypted with a passphrase, not to a key",
                hint="decrypt it with age -d, and restore the result",
            )

        def explain(exc: BaseException) -> EngineError:
            if isinstance(exc, pyrage.DecryptError) and "No matching keys" in str(exc):
                return WrongIdentity(
                    "none of the given age identities opens the object",
                    cause="it is encrypted to keys of the kinds " + ", ".join(kinds),
                    hint="give the identity that belongs to the recipient that the backup was encrypted to",
                )
            return DamagedObject(
                "the age file is damaged", phase="decrypt", cause=f"{type(exc).__name__}: {exc}", hint=_HINT_DAMAGED
            )

        def work(reader: _Input, writer: _Output) -> None:
            pyrage.decrypt_io(reader, writer, identities)

        _transform(work, explain, peekable, put)

    return ThreadReader(decrypt, peekable, name="decrypt")


def _stanza_kinds(head: bytes) -> list[str]:
    """The kinds of recipients an age header is for, from a file's first :data:`_HEADER_BYTES` bytes.

    :raises DamagedObject: no age file, or a header that is cut off or larger than any honest one.
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
        raise _damaged_header("it doesn't begin as one")
    header, mac, _rest = header.partition(b"\n--- ")
    if not mac:
        if len(head) < _HEADER_BYTES:
            raise _damaged_header("it ends within its header")
        raise _damaged_header(f"its header is larger than {_HEADER_BYTES} bytes")
    kinds = re.findall(rb"^-> ([!-~]+)", header, re.MULTILINE)
    if len(kinds) > _HEADER_STANZAS:
        raise _damaged_header(f"its header has more than {_HEADER_STANZAS} recipients")
    return sorted({kind.decode("ascii") for kind in kinds})


def _damaged_header(cause: str) -> DamagedObject:
    return DamagedObject("the object is not a readable age file", phase="decrypt", cause=cause, hint=_HINT_DAMAGED)
