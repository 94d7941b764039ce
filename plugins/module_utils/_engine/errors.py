# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The hierarchy of the engine's errors.

Every error names the phase in which it happened, its cause and what the operator can do about it.  None of its texts
may contain a secret: they go to logs, return values and terminals.

They may contain text that others wrote, such as an object's key or a server's message.  Code that builds a message
passes such text through :mod:`.printing`; every text that an error returns has passed through it in any case.
"""

from __future__ import annotations

import typing as t

from .printing import printable

#: Maximum number of characters shown of each text: the errors of a list of 10,000 databases fit.
_MAX_SHOWN = 1024 * 1024


class EngineError(Exception):
    """Base class of all errors that the engine raises deliberately.

    :param message: what failed, in one line and without a secret.
    :param phase: where it failed: ``configuration``, ``dump``, ``encrypt``, ``upload``, ``load`` and so on.
    :param cause: why it failed, if known: a server's message, an exit status.
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
        """Return the error as plain data, for ``--json`` and for a module's return value."""
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
    """A setting is missing or invalid; nothing has been changed."""

    phase = "configuration"


class LibraryMissing(ConfigurationError):
    """A required Python library or program is not installed."""


class NotConfirmed(EngineError):
    """Somebody was asked for confirmation and did not give it; nothing has been changed."""

    phase = "confirmation"


# Streams ------------------------------------------------------------------------------------------------------------


class StreamError(EngineError):
    """A stream could not be produced, transformed or checked."""

    phase = "stream"


class ProcessFailed(StreamError):
    """A child process exited with a status other than 0 or was terminated by a signal."""


class IdentityMissing(StreamError):
    """The object is encrypted and no identity (age private key) was given."""

    phase = "decrypt"


class WrongIdentity(StreamError):
    """None of the given identities can decrypt the object.

    :ivar given: recipients of the given identities, as far as they can be derived; ``None``: no key opens the object,
        because it is encrypted with a passphrase.
    """

    phase = "decrypt"
    given: tuple[str, ...] | None = None


class DamagedObject(StreamError):
    """An age file, a compressed stream or an archive is truncated, altered or malformed."""


class ForeignFormat(StreamError):
    """The object is not a dump, or a dump in a form that no restore reads; nothing has been changed."""

    phase = "dump"


class ChecksumMismatch(DamagedObject):
    """The bytes read are not the ones that the manifest or the caller specifies."""

    phase = "checksum"


class DumpIncomplete(DamagedObject):
    """The text of a dump ends before pg_dump's end marker."""

    phase = "dump"


class DumpSyntax(DamagedObject):
    """The text of a dump contains something other than SQL written by pg_dump, such as a psql meta-command."""

    phase = "dump"


# Stores -------------------------------------------------------------------------------------------------------------


class StoreError(EngineError):
    """The object store returned an error or did something that it must not do."""

    phase = "store"


class NotFound(StoreError):
    """The store reported that the object does not exist.  Only an explicit "no such key" is translated to this."""


class Deleted(NotFound):
    """The object was deleted: the store has a delete marker for it.  This does not mean that it never existed."""


class BucketMissing(StoreError):
    """The store reported that it has no such bucket.  Nothing is known about objects."""


class AccessDenied(StoreError):
    """The store rejected the credentials, or they lack a permission.  This does not mean that the object is absent."""


class Unreachable(StoreError):
    """The store could not be reached: name resolution, connection, TLS or timeout.  Does not mean absence."""


class TooLarge(StoreError):
    """The object is larger than its kind may be."""


class AlreadyExists(StoreError):
    """A create-only write found an existing object under its key."""


class ManifestError(EngineError):
    """A manifest cannot be read or has an invalid field."""

    phase = "manifest"


# Trust --------------------------------------------------------------------------------------------------------------


class TrustError(EngineError):
    """A backup is not proven to come from a trusted host; none of its contents have been read."""

    phase = "trust"


class SignersMissing(TrustError):
    """No trusted signers are configured."""


class Unsigned(TrustError):
    """The backup has no signature, or no manifest that could contain one."""


class UnknownSigner(TrustError):
    """The signature is valid, but its key is not trusted, or not for that host and time."""


class ForeignSigner(TrustError):
    """The signature is that of a known host whose backups of this database are not accepted here."""


class RevokedSigner(TrustError):
    """The signing key is revoked."""


class ForgedManifest(TrustError):
    """The manifest's fields are not the ones that were signed."""


class WrongDatabase(TrustError):
    """The manifest belongs to a different database than the one whose backups are stored there."""


class Replayed(TrustError):
    """The manifest belongs to a different backup than its key says."""


# PostgreSQL ---------------------------------------------------------------------------------------------------------


class PostgresError(EngineError):
    """The server rejected a command, or the command failed."""

    phase = "postgresql"


class ConnectionFailed(PostgresError):
    """The connection to the server failed."""

    phase = "connect"


class LockHeld(PostgresError):
    """Another backup or restore of the same database is running."""

    phase = "lock"


class RestoreRefused(EngineError):
    """The plan of a restore contains a step that must not be performed; nothing has been changed."""

    phase = "plan"


class BackupRefused(EngineError):
    """The new backup would replace a good one; nothing has been changed."""

    phase = "plan"


class OtherHistory(BackupRefused):
    """The backups under the prefix are another cluster's, or continue a history that this one does not."""


class LoadError(PostgresError):
    """The server rejected a statement or rows of a dump."""

    phase = "load"
