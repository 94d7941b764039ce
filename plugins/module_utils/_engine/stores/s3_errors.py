# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Translation of S3 errors to errors of the engine.

The codes are from Amazon's list of error responses and from observed answers of other servers.  Only the code and the
server's one-line message are kept, because other fields of an answer contain signatures and tokens.
"""

from __future__ import annotations

import datetime
import email.utils

from ..domain import human
from ..errors import (
    AccessDenied,
    AlreadyExists,
    BucketMissing,
    ConfigurationError,
    Deleted,
    EngineError,
    NotFound,
    StoreError,
    Unreachable,
)
from ..printing import printable
from .base import ABSENT, TAKEN

try:
    from botocore import exceptions as aws
    from botocore.parsers import ResponseParserError
    from urllib3.exceptions import HTTPError
except ImportError:
    aws = None  # type: ignore[assignment]

#: Exceptions of a boto3 call that are caused by the server, the network or the settings.  Those of urllib3 are raised
#: unchanged if an answer is interrupted.
CALL_ERRORS: tuple[type[Exception], ...] = ()
#: The same for creating a client; botocore has no exception of its own for an invalid endpoint.
CONNECT_ERRORS: tuple[type[Exception], ...] = (ValueError,)
#: The same for reading the body of an object.
BODY_ERRORS: tuple[type[Exception], ...] = ()
if aws is not None:
    CALL_ERRORS = (aws.ClientError, aws.BotoCoreError, ResponseParserError, HTTPError)
    CONNECT_ERRORS = (*CALL_ERRORS, ValueError)
    BODY_ERRORS = (aws.BotoCoreError, HTTPError, OSError)

#: Permissions that a call needs, as named in Amazon's policies.
_PERMISSIONS = {
    "upload": "s3:PutObject and s3:AbortMultipartUpload on the key",
    "download": "s3:GetObject on the key",
    "store": "s3:GetObject on the key",
    "list": "s3:ListBucket on the bucket",
    "delete": "s3:DeleteObject on the key; versions under object lock can't be deleted by anyone",
}
_CLOCK = (
    "synchronize the clock of this host (timedatectl set-ntp true), then run again; the store refuses signatures"
    " that are more than 15 minutes old or in the future"
)
_CREDENTIALS = {
    "ExpiredToken": "the credentials have expired: get new ones",
    "ExpiredTokenException": "the credentials have expired: get new ones",
    "TokenRefreshRequired": "the credentials have expired: get new ones",
    "InvalidToken": "the session token does not belong to these keys, or has expired",
    "InvalidAccessKeyId": "the store does not know the access key id: check the key and the endpoint",
    "InvalidClientTokenId": "the store does not know the access key id: check the key and the endpoint",
    "SignatureDoesNotMatch": (
        "the secret access key is wrong (S3_SECRET_ACCESS_KEY in db.env, infrazero_s3_secret_access_key in the"
        " inventory), or a proxy changes the requests"
    ),
    "RequestTimeTooSkewed": _CLOCK,
    "RequestExpired": _CLOCK,
}
_SKEWED = frozenset({"RequestTimeTooSkewed", "RequestExpired"})
_DAMAGED = "the data was changed on its way to the store: run again, and check the network and the host's memory"
_REGION = "the bucket is in another region or at another endpoint: correct the region and the endpoint"
_OTHERS = {
    "NoSuchBucket": (
        "create the bucket, or correct its name (DB_BACKUP_BUCKET in db.env, infrazero_s3_bucket in the inventory),"
        " the endpoint or the addressing style"
    ),
    "PermanentRedirect": _REGION,
    "TemporaryRedirect": _REGION,
    "AuthorizationHeaderMalformed": _REGION,
    "IllegalLocationConstraintException": _REGION,
    "InvalidObjectState": "the object is archived: restore it to a readable storage class first",
    "EntityTooLarge": "the store does not accept objects of this size",
    "QuotaExceeded": "the bucket is full: free some space or raise its quota",
    "NoSuchUpload": "somebody else aborted the upload, for example a lifecycle rule for incomplete uploads",
    "ConditionalRequestConflict": "another writer uses the same key: run again",
    "OperationAborted": "another operation uses the same key or bucket: run again",
    "BadDigest": _DAMAGED,
    "InvalidDigest": _DAMAGED,
    "XAmzContentSHA256Mismatch": _DAMAGED,
    "SlowDown": "the store is busy: run again later",
    "ServiceUnavailable": "the store is busy: run again later",
    "InternalError": "the store has an internal error: run again later, or report it to the operator of the store",
}
_TLS = "check the endpoint's scheme and certificate; for a private CA set the CA bundle (verification is always on)"


def code_of(error: Exception) -> str:
    """The error code in the server's answer; ``""`` if there is none (an answer to HEAD has no body)."""
    if aws is None or not isinstance(error, aws.ClientError):
        return ""
    code = str(error.response.get("Error", {}).get("Code", ""))
    return "" if code.isdigit() else code


def status_of(error: Exception) -> int:
    """The HTTP status of the server's answer; 0 if there was no answer."""
    if aws is None or not isinstance(error, aws.ClientError):
        return 0
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def is_refusal(error: Exception) -> bool:
    """Whether the server may have rejected the form of the request, such as an unsupported checksum.

    Older servers answer 411 to trailers, others 501 or 400, and some compute a different signature.
    """
    code = code_of(error)
    if code in _CREDENTIALS:
        return code == "SignatureDoesNotMatch"
    return status_of(error) in (400, 411, 501)


def translated(error: Exception, message: str, *, phase: str, endpoint: str) -> EngineError:
    """Translate *error*, raised by boto3, to an error of the engine.

    :param message: what failed.
    :param phase: ``upload``, ``download``, ``store``, ``list`` or ``delete``.
    """
    if isinstance(error, aws.ClientError):
        return _answered(error, message, phase)
    return _unanswered(error, message, phase, endpoint)


def _answered(error: aws.ClientError, message: str, phase: str) -> EngineError:
    code, status = code_of(error), status_of(error)
    # Any server that answers in place of the real one controls these texts.
    text = str(error.response.get("Error", {}).get("Message", "")).strip()
    cause = " ".join(
        part
        for part in (f"HTTP {status}", printable(code, limit=100), f"({printable(text, limit=1000)})" if text else "")
        if part
    )
    if code == "NoSuchKey" and status == 404:
        if error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("x-amz-delete-marker") == "true":
            cause += "; the object was deleted and has a delete marker"
            return Deleted(message, phase=phase, cause=cause, hint="its versions may still exist: restore one of them")
        return NotFound(message, phase=phase, cause=cause, hint=ABSENT)
    if code in _SKEWED or ((status in (401, 403) or code == "AccessDenied") and "server's time" in text):
        return AccessDenied(message, phase=phase, cause="; ".join([cause, *_clocks(error)]), hint=_CLOCK)
    if code in _CREDENTIALS:
        return AccessDenied(message, phase=phase, cause=cause, hint=_CREDENTIALS[code])
    if code == "NoSuchBucket":
        return BucketMissing(message, phase=phase, cause=cause, hint=_OTHERS[code])
    if code in _OTHERS:
        return StoreError(message, phase=phase, cause=cause, hint=_OTHERS[code])
    if status == 412:
        return AlreadyExists(message, phase=phase, cause=cause, hint=TAKEN)
    if status in (401, 403) or code == "AccessDenied":
        hint = f"the credentials need {_PERMISSIONS[phase]}"
        if phase in ("download", "store"):
            hint += "; without s3:ListBucket on the bucket, the store gives the same answer for an absent object"
        return AccessDenied(message, phase=phase, cause=cause, hint=hint)
    if status in (301, 302, 307, 308):
        return StoreError(message, phase=phase, cause=cause, hint=_REGION)
    if status == 404:
        return StoreError(
            message,
            phase=phase,
            cause=f"{cause}; the store does not report what is absent",
            hint="check that the endpoint is an S3 API, and the name of the bucket",
        )
    if status >= 500:
        return StoreError(message, phase=phase, cause=cause, hint=_OTHERS["InternalError"])
    return StoreError(message, phase=phase, cause=cause, hint="check the settings of the endpoint and the bucket")


def parse_time(text: str | None) -> datetime.datetime | None:
    """The time in the header ``Date`` of an answer, UTC; ``None`` if it is not one."""
    try:
        moment = email.utils.parsedate_to_datetime(text or "")
        # Without a zone it would be a local time.
        return None if moment.tzinfo is None else moment.astimezone(datetime.timezone.utc)
    except (TypeError, ValueError, IndexError, OverflowError):
        return None


def _clocks(error: aws.ClientError) -> list[str]:
    """How this host's clock differs from the server's, in words; nothing if the server does not tell the time."""
    theirs = parse_time(error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date"))
    if theirs is None:
        return []
    return [human.clocks(theirs, datetime.datetime.now(datetime.timezone.utc), whose="the store's")]


def _unanswered(error: Exception, message: str, phase: str, endpoint: str) -> EngineError:
    cause = _first_line(error)
    if isinstance(error, (aws.NoCredentialsError, aws.PartialCredentialsError)):
        hint = "give both keys, or provide them to boto3: in the environment, in ~/.aws or by the machine's role"
        return AccessDenied(message, phase=phase, cause=cause, hint=hint)
    if isinstance(error, aws.SSLError):
        return Unreachable(message, phase=phase, cause=cause, hint=_TLS)
    if isinstance(error, (aws.CredentialRetrievalError, aws.UnauthorizedSSOTokenError, aws.SSOError)):
        return AccessDenied(
            message, phase=phase, cause=cause, hint="boto3 found credentials that it can't use: check them"
        )
    if isinstance(error, aws.ProxyConnectionError):
        hint = "check HTTPS_PROXY, HTTP_PROXY and NO_PROXY in the environment"
        return Unreachable(message, phase=phase, cause=cause, hint=hint)
    if isinstance(error, (aws.HTTPClientError, aws.ConnectionError, HTTPError)):
        if _is_name_resolution(error):
            hint = f"the name in {endpoint} can't be resolved: check the endpoint and the name servers"
        elif isinstance(error, (aws.ConnectTimeoutError, aws.ReadTimeoutError)):
            hint = f"{endpoint} did not answer in time: check firewalls and routes"
        else:
            hint = (
                f"nothing answers at {endpoint}, or the connection is closed: check the endpoint, its port and scheme"
            )
        return Unreachable(message, phase=phase, cause=cause, hint=hint)
    if isinstance(error, ResponseParserError):
        # The exception quotes the unparsable answer, which may contain anything.
        hint = f"check that {endpoint} is an S3 API and not a console or another service"
        return StoreError(message, phase=phase, cause="the answer is not that of an S3 API", hint=hint)
    if isinstance(error, (aws.ParamValidationError, aws.ProfileNotFound, aws.InvalidConfigError, ValueError)):
        return ConfigurationError(message, cause=cause, hint="correct the settings of the store or of boto3")
    return StoreError(message, phase=phase, cause=cause, hint="check the cause")


def _is_name_resolution(error: Exception) -> bool:
    reason = error.kwargs.get("error") if isinstance(error, aws.BotoCoreError) else error
    return "NameResolutionError" in repr(reason) or "Name or service not known" in str(reason)


def _first_line(error: Exception) -> str:
    return printable((str(error).strip().splitlines() or [type(error).__name__])[0], limit=300)
