# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Who may do what with the objects of a bucket: policies in Amazon's form, and what a credential of each role shows.

A host creates; it reads manifests only, and deletes nothing.  A restore reads.  Pruning deletes, but never what points
to the latest backup.  What is allowed is what :mod:`..stores.s3` asks of a store, and no more.  What is not is denied
also: on some servers (Ceph) the writer of an object may read it, whatever is allowed.
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

# Policies have wildcards and variables of their own; a name with one of these would mean more than itself.
_PATTERN = re.compile(r"[*?$\"\\\x00-\x1f\x7f]")
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}\Z")

#: Names of what says where a backup is: small, in clear, and read by every backup.
_POINTERS = (f"*{layout.LATEST}", "*latest-tokens.json")
_MANIFESTS = (*_POINTERS, f"*{layout.MANIFEST_SUFFIX}")
#: Names of dumps as a host makes them.
_DUMPS = ("*.age",)
#: Names of what is written once.
_IMMUTABLE = (*_DUMPS, f"*{layout.MANIFEST_SUFFIX}")


def probe_key(prefix: str) -> str:
    """Key of the object on which rights are tried out: to a policy it is a dump like any other."""
    return f"{prefix}.infrazero/probe.age"


def probe_latest_key(prefix: str) -> str:
    """Key of what is to a policy a manifest of a latest backup; no object is ever made there."""
    return f"{prefix}.infrazero/{layout.LATEST}"


def policy(
    roles: t.Collection[str],
    *,
    bucket: str,
    prefixes: t.Sequence[str],
    principals: t.Sequence[str] = (),
    conditions: bool = True,
) -> dict[str, t.Any]:
    """The policy for a credential with *roles*, as plain data, for JSON.

    :param roles: of :data:`ROLES`; several where a host is to restore by itself.
    :param prefixes: below which the backups are, each ending with ``/``: those of one host's databases, so that it
        can write and read no other host's.
    :param principals: ARNs of the users that it is about, for a bucket's policy; none: a policy of users.
    :param conditions: forbid a host to write over what is there.  Amazon knows these conditions; a store that doesn't
        passes over them or refuses the policy.
    :raises ConfigurationError: for names that would be patterns, and without a prefix.
    """
    if not _BUCKET.match(bucket):
        raise ConfigurationError(f"{bucket!r} can't be the name of a bucket", hint="give its name alone")
    if not prefixes:
        raise ConfigurationError("a policy needs at least one prefix", hint="name those of the host's databases")
    for prefix in prefixes:
        if not prefix.endswith("/") or prefix.startswith("/") or _PATTERN.search(prefix):
            raise ConfigurationError(
                f"{prefix!r} cannot be the prefix of a policy",
                hint="a prefix ends with '/', does not begin with it, and has none of * ? $ \" \\ in it",
            )
    arn = f"arn:aws:s3:::{bucket}"
    statements = []

    def add(sid: str, effect: str, actions: t.Sequence[str], *names: str, **more: t.Any) -> None:
        whose = {"Principal": {"AWS": list(principals)}} if principals else {}
        objects = [f"{arn}/{prefix}{name}" for prefix in prefixes for name in names]
        statements.append(
            {"Sid": sid, "Effect": effect, **whose, "Action": list(actions), "Resource": objects or [arn], **more}
        )

    # Without a condition on the prefix: with one, a store answers "not allowed" for an object that isn't there, and
    # nobody could tell an absent backup from a forbidden one.
    add("List", "Allow", ["s3:ListBucket"])
    if RESTORE in roles:
        add("Read", "Allow", ["s3:GetObject"], "*")
    else:
        add("ReadManifests", "Allow", ["s3:GetObject"], *_MANIFESTS)
        add("ReadNoDump", "Deny", ["s3:GetObject", "s3:GetObjectVersion"], *_DUMPS)
    if HOST in roles:
        add("Create", "Allow", ["s3:PutObject", "s3:AbortMultipartUpload"], "*")
        if conditions:
            # The parts of an upload carry no condition, and make no object.
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


# What a credential shows --------------------------------------------------------------------------------------------

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
    """What a credential was seen to be able to do.

    :param answers: :data:`ALLOWED`, :data:`DENIED` or :data:`UNKNOWN` for each of :data:`ACTIONS`.
    :param versions: whether the bucket keeps what is written over; ``None``: nothing could be written.
    :param create_only: whether the store honours create-only writes; ``None``: nothing could be written.
    :param multipart_create_only: the same for objects that arrive in parts.
    """

    answers: t.Mapping[str, str]
    versions: bool | None = None
    create_only: bool | None = None
    multipart_create_only: bool | None = None


@dataclasses.dataclass(frozen=True)
class Finding:
    """One action, whether the answer fits the roles, and what there is to say about it."""

    action: str
    answer: str
    fits: bool
    why: str = ""


def judge(access: Access, roles: t.Collection[str]) -> list[Finding]:
    """Compare what a credential can do with what one with *roles* must and must not be able to do."""
    needed = {action for role in roles for action in _NEEDED[role]}
    who = " and ".join(roles)
    findings = []
    for action in ACTIONS:
        answer = access.answers[action]
        fits, why = answer == DENIED, f"{who} must not"
        if action in needed:
            fits, why = answer == ALLOWED, f"{who} can't work without it"
        elif answer == UNKNOWN:
            # Where nothing is seen to have a version there is none to lose.
            fits = action == DELETE_VERSION
            why = "there is nothing to try it on"
        elif action == OVERWRITE and HOST in roles and answer == ALLOWED:
            fits = bool(access.versions)
            why = "the bucket keeps what was there before" if fits else "and nothing of what was there before is kept"
        needless = fits and (answer == DENIED or action in needed)
        findings.append(Finding(action, answer, fits, "" if needless else why))
    return findings
