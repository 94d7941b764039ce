# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Permissions on the objects of a bucket: Amazon-style policies, and the evaluation of tested credentials.

A host creates objects, reads only manifests and deletes nothing.  A restore reads.  Pruning deletes, but never a
pointer to the latest backup.  A policy allows what :mod:`..stores.s3` needs, and no more.  It also denies everything
else explicitly: on some servers (Ceph) the writer of an object may always read it, even if no policy allows that.
"""

from __future__ import annotations

import dataclasses
import re
import typing as t

from ..errors import ConfigurationError
from . import layout

HOST = "host"
RESTORE = "restore"
PRUNE = "prune"
ROLES = (HOST, RESTORE, PRUNE)

# Characters with a special meaning in policies; a name with one of them would match other names.
_PATTERN = re.compile(r"[*?$\"\\\x00-\x1f\x7f]")
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}\Z")

#: Names of the pointers to the latest backup: small, unencrypted, and read by every backup.
_POINTERS = (f"*{layout.LATEST}", "*latest-tokens.json")
_MANIFESTS = (*_POINTERS, f"*{layout.MANIFEST_SUFFIX}")
#: Names of the dumps that a host creates.
_DUMPS = ("*.age",)
#: Names of objects that are written once and never changed.
_IMMUTABLE = (*_DUMPS, f"*{layout.MANIFEST_SUFFIX}")


def probe_key(prefix: str) -> str:
    """Key of the object used to test permissions; a policy treats it like any dump."""
    return f"{prefix}.infrazero/probe.age"


def probe_latest_key(prefix: str) -> str:
    """Key that a policy treats like a latest manifest; no object is ever created there."""
    return f"{prefix}.infrazero/{layout.LATEST}"


def policy(
    roles: t.Collection[str],
    *,
    bucket: str,
    prefixes: t.Sequence[str],
    principals: t.Sequence[str] = (),
    conditions: bool = True,
) -> dict[str, t.Any]:
    """The policy for *roles*, as plain data for JSON.

    :param roles: some of :data:`ROLES`; several if a host also restores.
    :param prefixes: prefixes of the backups, each ending with ``/``: those of one host's databases, so that it can
        neither write nor read another host's.
    :param principals: ARNs of the users for a bucket policy; empty for a user policy.
    :param conditions: deny a host to overwrite existing objects.  Amazon supports these conditions; another store may
        ignore them or reject the policy.
    :raises ConfigurationError: if a name would be a pattern, or without a prefix.
    """
    if not _BUCKET.match(bucket):
        raise ConfigurationError(f"invalid bucket name {bucket!r}", hint="give only the name of the bucket")
    if not prefixes:
        raise ConfigurationError("a policy needs at least one prefix", hint="give the prefixes of the host's databases")
    for prefix in prefixes:
        if not prefix.endswith("/") or prefix.startswith("/") or _PATTERN.search(prefix):
            raise ConfigurationError(
                f"invalid prefix {prefix!r} for a policy",
                hint="a prefix ends with '/', does not begin with '/', and contains none of * ? $ \" \\",
            )
    arn = f"arn:aws:s3:::{bucket}"
    statements = []

    def add(sid: str, effect: str, actions: t.Sequence[str], *names: str, **more: t.Any) -> None:
        whose = {"Principal": {"AWS": list(principals)}} if principals else {}
        objects = [f"{arn}/{prefix}{name}" for prefix in prefixes for name in names]
        statements.append(
            {"Sid": sid, "Effect": effect, **whose, "Action": list(actions), "Resource": objects or [arn], **more}
        )

    # No condition on the prefix: with one, a store answers "not allowed" for an object that does not exist, and an
    # absent backup could not be distinguished from a forbidden one.
    add("List", "Allow", ["s3:ListBucket"])
    if RESTORE in roles:
        add("Read", "Allow", ["s3:GetObject"], "*")
    else:
        add("ReadManifests", "Allow", ["s3:GetObject"], *_MANIFESTS)
        add("ReadNoDump", "Deny", ["s3:GetObject", "s3:GetObjectVersion"], *_DUMPS)
    if HOST in roles:
        add("Create", "Allow", ["s3:PutObject", "s3:AbortMultipartUpload"], "*")
        if conditions:
            # The parts of an upload have no condition, and do not create an object.
            unconditional = {"Null": {"s3:if-none-match": "true"}, "Bool": {"s3:ObjectCreationOperation": "true"}}
            add("WriteOverNothing", "Deny", ["s3:PutObject"], *_IMMUTABLE, Condition=unconditional)
    else:
        add("WriteNothing", "Deny", ["s3:PutObject"], "*")
    if PRUNE in roles:
        add("Delete", "Allow", ["s3:DeleteObject"], "*")
        add("DeleteNoPointer", "Deny", ["s3:DeleteObject"], *_POINTERS)
        add("DeleteNoVersion", "Deny", ["s3:DeleteObjectVersion"], "*")
    else:
        add("DeleteNothing", "Deny", ["s3:DeleteObject", "s3:DeleteObjectVersion"], "*")
    return {"Version": "2012-10-17", "Statement": statements}


# Evaluation of credentials --------------------------------------------------------------------------------------------

LIST = "list"
READ_MANIFEST = "read a manifest"
READ = "read a dump"
CREATE = "create"
OVERWRITE = "overwrite"
DELETE = "delete"
DELETE_VERSION = "delete a version for ever"
DELETE_LATEST = "delete the latest manifest"
ACTIONS = (LIST, READ_MANIFEST, CREATE, READ, OVERWRITE, DELETE_LATEST, DELETE_VERSION, DELETE)

_NEEDED = {
    HOST: frozenset({LIST, READ_MANIFEST, CREATE}),
    RESTORE: frozenset({LIST, READ_MANIFEST, READ}),
    PRUNE: frozenset({LIST, READ_MANIFEST, DELETE}),
}

ALLOWED = "allowed"
DENIED = "denied"
UNKNOWN = "unknown"


@dataclasses.dataclass(frozen=True)
class Access:
    """The permissions that a test of a credential has shown.

    :param answers: :data:`ALLOWED`, :data:`DENIED` or :data:`UNKNOWN` for each of :data:`ACTIONS`.
    :param versions: whether the bucket keeps overwritten objects; ``None`` if nothing could be written.
    :param create_only: whether the store honours create-only writes; ``None`` if nothing could be written.
    :param multipart_create_only: the same for multipart uploads.
    """

    answers: t.Mapping[str, str]
    versions: bool | None = None
    create_only: bool | None = None
    multipart_create_only: bool | None = None


@dataclasses.dataclass(frozen=True)
class Finding:
    """One action, whether the answer fits the roles, and an explanation."""

    action: str
    answer: str
    fits: bool
    why: str = ""


def evaluate(access: Access, roles: t.Collection[str]) -> list[Finding]:
    """Compare the permissions of a credential with what *roles* must and must not be able to do."""
    needed = {action for role in roles for action in _NEEDED[role]}
    who = " and ".join(roles)
    findings = []
    for action in ACTIONS:
        answer = access.answers[action]
        fits, why = answer == DENIED, f"{who} must not"
        if action in needed:
            fits, why = answer == ALLOWED, f"{who} can't work without it"
        elif answer == UNKNOWN:
            # Without versions, none can be lost.
            fits = action == DELETE_VERSION
            why = "no object to test it on"
        elif action == OVERWRITE and HOST in roles and answer == ALLOWED:
            fits = bool(access.versions)
            why = (
                "the bucket keeps the overwritten object"
                if fits
                else "and the bucket does not keep the overwritten object"
            )
        needless = fits and (answer == DENIED or action in needed)
        findings.append(Finding(action, answer, fits, "" if needless else why))
    return findings
