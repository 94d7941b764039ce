# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The commands ``policy`` and ``probe``: print the rights that a role needs on a bucket, and test those that it has."""

from __future__ import annotations

import sys
import typing as t

from ..checks import destinations
from ..checks.host import PRIMARY
from ..domain import checks, policies
from ..errors import ConfigurationError
from ..printing import printable
from ..stores import trial
from ..stores.base import DirectorySettings, S3Settings
from ..stores.directory import DirectoryStore
from ..stores.s3 import S3Store
from ..stores.s3_access import try_out
from . import common

if t.TYPE_CHECKING:
    from ..reporting import Reporter

UNFIT = 1

_POLICY = """\
Print the S3 policy for these roles, as JSON for Amazon, MinIO, Ceph and others:

  host      creates backups; reads manifests only; deletes nothing
  restore   reads backups
  prune     deletes old backups, and reads manifests only

A host that restores by itself has two of them: policy host restore. Without --principal, it is a policy to attach to
a user; with --principal, it is a bucket policy. It covers the prefixes of db.env's databases and nothing else in the
bucket, unless others are given."""

_PROBE = """\
Test what the credentials can do, and compare it with their roles. The credentials are those of db.env; with --bucket,
those that boto3 finds (AWS_ACCESS_KEY_ID, AWS_PROFILE, the machine's role). No backup is touched: the test writes,
reads and deletes one object of a few bytes, .infrazero/probe.age below the prefix, which stays there. The prefix is
that of db.env's first database, unless another one is given. In a directory, only what a backup needs is tested: its
rights are those of the file system.

The exit status is 1 if they can do more than their roles allow, or less than these need."""


def register(command: common.Command) -> None:
    """Add both commands."""
    parser = command("policy", print_policy, "print the S3 policy of a role", _POLICY)
    parser.add_argument("roles", metavar="ROLE", nargs="+", choices=policies.ROLES, help="host, restore or prune")
    parser.add_argument("--bucket", metavar="NAME", help="bucket (default: that of db.env)")
    parser.add_argument(
        "--prefix",
        metavar="PREFIX",
        action="append",
        help="prefix of the backups (default: those of db.env's databases); may be given several times",
    )
    parser.add_argument(
        "--principal",
        metavar="ARN",
        action="append",
        help="print a bucket policy for this user; may be given several times",
    )
    parser.add_argument(
        "--without-conditions",
        action="store_true",
        help="for stores that refuse conditions they don't know; the role host can then overwrite backups",
    )
    parser.set_defaults(endpoint=None, region=None)

    parser = command("probe", probe, "test what credentials can do in the bucket", _PROBE)
    parser.add_argument(
        "--role", choices=policies.ROLES, action="append", help="default: host; may be given several times"
    )
    parser.add_argument(
        "--prefix", metavar="PREFIX", help="where to test (default: the prefix of db.env's first database)"
    )
    parser.add_argument("--bucket", metavar="NAME", help="bucket (default: that of db.env, with its credentials)")
    parser.add_argument("--endpoint", metavar="URL", help="URL of the S3 service, with --bucket")
    parser.add_argument("--region", metavar="NAME", help="region of the bucket, with --bucket")


def print_policy(options: common.Options, _reporter: Reporter) -> int:
    """Print a policy; the exit status is returned."""
    document = policies.policy(
        options.roles,
        bucket=options.bucket or _bucket(options).bucket,
        prefixes=options.prefix or _own_prefixes(options),
        principals=options.principal or [],
        conditions=not options.without_conditions,
    )
    common.write_json(document)
    return common.OK


def probe(options: common.Options, _reporter: Reporter) -> int:
    """Test credentials; the exit status is returned."""
    prefix = options.prefix or _own_prefixes(options)[0]
    if not options.bucket:
        found = common.read_profile(options).store()
        if isinstance(found, DirectorySettings):
            return _probe_directory(options, found, prefix)
    roles = list(dict.fromkeys(options.role or [policies.HOST]))
    access = try_out(S3Store(_bucket(options)), prefix)
    findings = policies.evaluate(access, roles)
    if options.json:
        common.write_json(_as_dict(roles, access, findings))
    else:
        for finding in findings:
            mark = "ok" if finding.fits else "NOT OK"
            why = f" ({printable(finding.why)})" if finding.why else ""
            sys.stdout.write(f"{mark:<6}  {finding.action}: {finding.answer}{why}\n")
        sys.stdout.write(
            f"create-only writes: {_word(access.create_only)}; in parts: {_word(access.multipart_create_only)}\n"
        )
    return common.OK if all(finding.fits for finding in findings) else UNFIT


def _probe_directory(options: common.Options, settings: DirectorySettings, prefix: str) -> int:
    store = DirectoryStore(settings)
    found = list(destinations.judge(PRIMARY, trial.examine(store, [prefix], write=True), location=store.location))
    if options.json:
        common.write_json({"fits": checks.worst(found) == checks.OK, "checks": [one.as_dict() for one in found]})
    else:
        common.write_checks(found)
    return common.OK if checks.worst(found) == checks.OK else UNFIT


def _bucket(options: common.Options) -> S3Settings:
    if options.bucket:
        return S3Settings(bucket=options.bucket, endpoint=options.endpoint, region=options.region)
    found = common.read_profile(options).store()
    if isinstance(found, DirectorySettings):
        raise ConfigurationError(
            "backups are stored in a directory, which has no S3 policy", hint="its rights are those of the file system"
        )
    return found


def _own_prefixes(options: common.Options) -> t.Sequence[str]:
    try:
        return [subject.prefix for subject in common.read_profile(options).subjects()]
    except ConfigurationError as exc:
        raise ConfigurationError(
            "no prefix is given, and db.env names none", cause=str(exc), hint="name it: --prefix db/shop/"
        ) from None


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
