# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The engine's one tree of errors.

Every error says in which phase it happened, what the cause was and what the operator can do about it.  None of the
three texts may hold a secret: they go to logs, to return values and to terminals.

They may hold what others wrote, such as an object's key or a server's message.  Whoever builds a message shows that by
:mod:`.printing`; what an error gives out went through it in any case.
"""

from __future__ import annotations

import typing as t

from .printing import printable

#: Characters of each text that are shown: the faults of a list of 10,000 databases fit.
_MAX_SHOWN = 1024 * 1024


class EngineError(Exception):
    """Base of everything the engine raises on purpose.

    :param message: what failed, one line, no secret.
    :param phase: where it failed: ``configuration``, ``dump``, ``encrypt``, ``upload``, ``load`` and so on.
    :param cause: why, as far as it is known: a server's message, an exit status.
    :param hint: what the operator can do.
    """

    phase = "engine"

    def __init__(self, message: str, *, phase: str | None = None, cause: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        if phase is not None:
            self.phase = phase
        self.cause = cause
        self.hint = hint

    def __str__(self) -> str:
        parts = [f"{self.phase}: {self.message}"]
        if self.cause:
            parts.append(f"cause: {self.cause}")
        if self.hint:
            parts.append(f"hint: {self.hint}")
        return "; ".join(_shown(part).rstrip(".; ") for part in parts)

    def as_dict(self) -> dict[str, t.Any]:
        """The error as plain data, for ``--json`` and for a module's return value."""
        return {
            "type": type(self).__name__,
            "phase": self.phase,
            "message": _shown(self.message),
            "cause": _shown(self.cause),
            "hint": _shown(self.hint),
        }


def _shown(text: str) -> str:
    return printable(text, limit=_MAX_SHOWN)


# Configuration ------------------------------------------------------------------------------------------------------


class ConfigurationError(EngineError):
    """A setting is missing or wrong; nothing has been changed."""

    phase = "configuration"


class LibraryMissing(ConfigurationError):
    """A Python library or a program that the work needs is not installed."""


# Streams ------------------------------------------------------------------------------------------------------------


class StreamError(EngineError):
    """The bytes on their way could not be produced, transformed or checked."""

    phase = "stream"


class ProcessFailed(StreamError):
    """A child process ended with a status other than 0, or by a signal."""


class IdentityMissing(StreamError):
    """The object is encrypted and no identity (age private key) was given."""

    phase = "decrypt"


class WrongIdentity(StreamError):
    """None of the given identities opens the object."""

    phase = "decrypt"


class DamagedObject(StreamError):
    """Truncated, altered or malformed bytes: an age file, a compressed stream or an archive."""


class ChecksumMismatch(DamagedObject):
    """The bytes read are not those that the manifest, or the caller, names."""

    phase = "checksum"


class DumpIncomplete(DamagedObject):
    """The text of a dump ends before pg_dump's own end."""

    phase = "dump"


class DumpSyntax(DamagedObject):
    """The text of a dump holds something that is not SQL of pg_dump: a psql meta-command, for one."""

    phase = "dump"


# Stores -------------------------------------------------------------------------------------------------------------


class StoreError(EngineError):
    """The object store answered with an error, or did something it must not do."""

    phase = "store"


class NotFound(StoreError):
    """The store said that there is no such object.  Only its own clear "no such key" becomes this."""


class Deleted(NotFound):
    """There was such an object: a delete marker took its place.  Never to be read as "there never was one"."""


class AccessDenied(StoreError):
    """The store refused the credentials, or what they may do.  Never to be read as absence."""


class Unreachable(StoreError):
    """No answer: name resolution, connection, TLS or time-out.  Never to be read as absence."""


class TooLarge(StoreError):
    """The object has more bytes than one of its kind may have."""


class AlreadyExists(StoreError):
    """A create-only write found something under its key."""


class ManifestError(EngineError):
    """A manifest that can't be read, or that says something it must not say."""

    phase = "manifest"


# Trust --------------------------------------------------------------------------------------------------------------


class TrustError(EngineError):
    """A backup is not proven to be one that a trusted host made; nothing of it has been read."""

    phase = "trust"


class SignersMissing(TrustError):
    """Nothing says whose backups are trusted."""


class Unsigned(TrustError):
    """There is no signature, or no manifest that could carry one."""


class UnknownSigner(TrustError):
    """The signature is sound, but the key is not trusted, or not for that host and time."""


class ForeignSigner(TrustError):
    """The signature is that of a known host, but its backups of this database are not accepted here."""


class RevokedSigner(TrustError):
    """The key that signed is revoked."""


class ForgedManifest(TrustError):
    """The manifest's fields are not those that were signed."""


class WrongDatabase(TrustError):
    """The manifest is of another database than the one whose backups are there."""


class Replayed(TrustError):
    """The manifest is that of another backup than the one whose name it has."""


# PostgreSQL ---------------------------------------------------------------------------------------------------------


class PostgresError(EngineError):
    """The server refused or failed a command."""

    phase = "postgresql"


class ConnectionFailed(PostgresError):
    """No connection to the server."""

    phase = "connect"


class LockHeld(PostgresError):
    """Another backup or restore of the same database is running."""

    phase = "lock"


class RestoreRefused(EngineError):
    """The plan of a restore holds something that must not be done; nothing has been changed."""

    phase = "plan"


class BackupRefused(EngineError):
    """A backup now would replace a good one; nothing has been changed."""

    phase = "plan"


class LoadError(PostgresError):
    """The server refused a statement, or rows, of a dump."""

    phase = "load"
