# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An S3 server with a policy: what it doesn't allow, or denies, is answered with 403 as Amazon answers it.

The servers that tests can start have no policies of their own.
"""

from __future__ import annotations

import fnmatch
import typing as t

from .faultyproxy import FaultyProxy, Request, refuse

#: The permission that each operation takes.
_PERMISSIONS = {
    "ListObjectsV2": "s3:ListBucket",
    "GetBucketVersioning": "s3:GetBucketVersioning",
    "GetObjectLockConfiguration": "s3:GetBucketObjectLockConfiguration",
    "GetObject": "s3:GetObject",
    "HeadObject": "s3:GetObject",
    "PutObject": "s3:PutObject",
    "CreateMultipartUpload": "s3:PutObject",
    "UploadPart": "s3:PutObject",
    "CompleteMultipartUpload": "s3:PutObject",
    "AbortMultipartUpload": "s3:AbortMultipartUpload",
    "DeleteObject": "s3:DeleteObject",
}
_CREATES_NO_OBJECT = ("CreateMultipartUpload", "UploadPart")


class PolicyProxy(FaultyProxy):
    """Passes on what *policy* allows.

    :param policy: of a user, as plain data; may be changed at any time.
    """

    def __init__(self, upstream: str, bucket: str, policy: t.Mapping[str, t.Any]) -> None:
        super().__init__(upstream)
        self._bucket = bucket
        self.policy = policy
        self.denied: list[str] = []

    def _fault_for(self, request: Request) -> t.Any:
        if not allows(self.policy, request, self._bucket):
            self.denied.append(f"{request.operation} {request.key}")
            return refuse(403, "" if request.method == "HEAD" else "AccessDenied")
        return super()._fault_for(request)


def allows(policy: t.Mapping[str, t.Any], request: Request, bucket: str) -> bool:
    """Whether *policy* lets *request* through: something allows it and nothing denies it."""
    permission = _PERMISSIONS[request.operation]
    if "versionId" in request.query:
        permission += "Version"
    resource = f"arn:aws:s3:::{bucket}" + (f"/{request.key}" if request.key else "")
    headers = {name.lower() for name in request.headers}
    context = {
        "s3:if-none-match": None if "if-none-match" not in headers else "*",
        "s3:ObjectCreationOperation": "false" if request.operation in _CREATES_NO_OBJECT else "true",
    }

    def applies(statement: t.Mapping[str, t.Any]) -> bool:
        conditions = statement.get("Condition", {})
        return (
            permission in statement["Action"]
            and any(fnmatch.fnmatchcase(resource, pattern) for pattern in statement["Resource"])
            and all((context[key] is None) == (value == "true") for key, value in conditions.get("Null", {}).items())
            and all(context[key] == value for key, value in conditions.get("Bool", {}).items())
        )

    effects = {statement["Effect"] for statement in policy["Statement"] if applies(statement)}
    return effects == {"Allow"}
