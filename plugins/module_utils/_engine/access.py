# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The commands ``policy`` and ``probe``: rights on a bucket, written down and tried out."""

from __future__ import annotations

import argparse
import json
import sys
import typing as t

from .domain import policies
from .errors import ConfigurationError
from .stores.base import DirectorySettings, S3Settings
from .stores.s3 import S3Store
from .stores.s3_access import try_out

OK = 0
UNFIT = 1

_POLICY = """\
Print the S3 policy of whoever has these roles, as JSON for Amazon, MinIO, Ceph and others:

  host      creates backups; reads manifests only; deletes nothing
  restore   reads backups
  prune     deletes old backups, and reads manifests only

A host that is to restore by itself has two of them: policy host restore.  Without --principal it is a policy to be
attached to a user, with --principal one of the bucket.  It covers the prefixes of db.env's databases and nothing else
of the bucket, unless others are given."""

_PROBE = """\
Try out what the credentials can do, and compare it with their roles.  They are those of db.env; with --bucket, those
that boto3 finds (AWS_ACCESS_KEY_ID, AWS_PROFILE, the machine's role).  Nothing of a backup is touched: what is written,
read and deleted is one object of a few bytes, .infrazero/probe.age below the prefix, which stays there.  The prefix is
that of db.env's first database, unless another one is given.

The exit status is 1 where they can do more than their roles may, or less than these must."""


def register(
    command: t.Callable[..., argparse.ArgumentParser],
    host_store: t.Callable[[argparse.Namespace], S3Settings | DirectorySettings],
    host_prefixes: t.Callable[[argparse.Namespace], t.Sequence[str]],
) -> None:
    """Add the commands to the host's.

    :param command: makes the parser of one: name, function, summary, description.
    :param host_store: the store that the host's settings name.
    :param host_prefixes: where the backups of the host's databases are.
    """

    def bucket_of(options: argparse.Namespace) -> S3Settings:
        if options.bucket:
            return S3Settings(bucket=options.bucket, endpoint=options.endpoint, region=options.region)
        settings = host_store(options)
        if isinstance(settings, DirectorySettings):
            raise ConfigurationError("backups lie in a directory", hint="its rights are those of the file system")
        return settings

    def own_prefixes(options: argparse.Namespace) -> t.Sequence[str]:
        try:
            return host_prefixes(options)
        except ConfigurationError as exc:
            raise ConfigurationError(
                "no prefix is given, and db.env names none", cause=str(exc), hint="name it: --prefix db/shop/"
            ) from None

    def policy(options: argparse.Namespace, _reporter: object) -> int:
        document = policies.policy(
            options.roles,
            bucket=options.bucket or bucket_of(options).bucket,
            prefixes=options.prefix or own_prefixes(options),
            principals=options.principal or [],
            conditions=not options.without_conditions,
        )
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
        return OK

    def probe(options: argparse.Namespace, _reporter: object) -> int:
        roles = list(dict.fromkeys(options.role or [policies.HOST]))
        prefix = options.prefix or own_prefixes(options)[0]
        access = try_out(S3Store(bucket_of(options)), prefix)
        findings = policies.judge(access, roles)
        if options.json:
            sys.stdout.write(json.dumps(_as_dict(roles, access, findings), indent=2) + "\n")
        else:
            for finding in findings:
                mark = "ok" if finding.fits else "NOT OK"
                sys.stdout.write(f"{mark}\t{finding.action}: {finding.answer}{finding.why and f' ({finding.why})'}\n")
            sys.stdout.write(
                f"create-only writes: {_word(access.create_only)}; in parts: {_word(access.multipart_create_only)}\n"
            )
        return OK if all(finding.fits for finding in findings) else UNFIT

    sub = command("policy", policy, "print the S3 policy of a role", _POLICY)
    sub.add_argument("roles", metavar="ROLE", nargs="+", choices=policies.ROLES, help="host, restore or prune")
    sub.add_argument("--bucket", metavar="NAME", help="default: that of db.env")
    sub.add_argument(
        "--prefix",
        metavar="PREFIX",
        action="append",
        help="below which the backups are (default: those of db.env's databases); several times",
    )
    sub.add_argument(
        "--principal", metavar="ARN", action="append", help="make it a bucket's policy about this user; several times"
    )
    sub.add_argument(
        "--without-conditions",
        action="store_true",
        help="for stores that refuse conditions they don't know; the host's role can then write over backups",
    )
    sub.set_defaults(endpoint=None, region=None)

    sub = command("probe", probe, "try out what credentials can do in the bucket", _PROBE)
    sub.add_argument(
        "--role", choices=policies.ROLES, action="append", help="default: host; several times for whoever has several"
    )
    sub.add_argument("--prefix", metavar="PREFIX", help="below which to try (default: that of db.env's first database)")
    sub.add_argument("--bucket", metavar="NAME", help="default: that of db.env, with its credentials")
    sub.add_argument("--endpoint", metavar="URL", help="of the S3 server, with --bucket")
    sub.add_argument("--region", metavar="NAME", help="of the bucket, with --bucket")


def _as_dict(
    roles: t.Sequence[str], access: policies.Access, findings: t.Sequence[policies.Finding]
) -> dict[str, t.Any]:
    return {
        "roles": list(roles),
        "fits": all(finding.fits for finding in findings),
        "actions": [
            {"action": finding.action, "answer": finding.answer, "fits": finding.fits, "why": finding.why}
            for finding in findings
        ],
        "versions": access.versions,
        "create_only": access.create_only,
        "multipart_create_only": access.multipart_create_only,
    }


def _word(honoured: bool | None) -> str:
    return {True: "honoured", False: "not honoured by this store", None: "not tried"}[honoured]
