# Copyright (c) 2026, The infrazero.database contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""What goes wrong between us and an S3 server, in the engine's words.

The codes are those of Amazon's list of error responses and what other servers were seen to answer.  Only the code and
the server's one-line message are taken over: other fields of an answer hold signatures and tokens.
"""

from __future__ import annotations

from ..errors import (
    AccessDenied,
    AlreadyExists,
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

#: All that a call of boto3 raises because of the server, the way to it, or the settings.  urllib3's are raised as they
#: are where an answer breaks off.
CALL_ERRORS: tuple[type[Exception], ...] = ()
#: The same for making a client; botocore has no type of its own for an endpoint it can't use.
CONNECT_ERRORS: tuple[type[Exception], ...] = (ValueError,)
#: The same for reading the body of an object.
BODY_ERRORS: tuple[type[Exception], ...] = ()
if aws is not None:
    CALL_ERRORS = (aws.ClientError, aws.BotoCoreError, ResponseParserError, HTTPError)
    CONNECT_ERRORS = (*CALL_ERRORS, ValueError)
    BODY_ERRORS = (aws.BotoCoreError, HTTPError, OSError)

#: Which permissions a call needs, in the words of Amazon's policies.
_PERMISSIONS = {
    "upload": "s3:PutObject and s3:AbortMultipartUpload on the key",
    "download": "s3:GetObject on the key",
    "store": "s3:GetObject on the key",
    "list": "s3:ListBucket on the bucket",
    "delete": "s3:DeleteObject on the key; versions under object lock can't be deleted by anyone",
}
_CREDENTIALS = {
    "ExpiredToken": "the credentials have expired: get new ones",
    "ExpiredTokenException": "the credentials have expired: get new ones",
    "TokenRefreshRequired": "the credentials have expired: get new ones",
    "InvalidToken": "the session token doesn't belong to the keys, or has expired",
    "InvalidAccessKeyId": "the store doesn't know the access key id: check it, and that the endpoint is its own",
    "InvalidClientTokenId": "the store doesn't know the access key id: check it, and that the endpoint is its own",
    "SignatureDoesNotMatch": "the secret access key is wrong, or something on the way changes requests",
    "RequestTimeTooSkewed": "the clock of this host is wrong: let it be set (timedatectl set-ntp true)",
    "RequestExpired": "the clock of this host is wrong: let it be set (timedatectl set-ntp true)",
}
_DAMAGED = "bytes were changed on their way to the store: run again, and look into the network and the host's memory"
_REGION = "the bucket is in another region or behind another endpoint: set both as the store names them"
_OTHERS = {
    "NoSuchBucket": "create the bucket, or correct its name, the endpoint or the addressing style",
    "PermanentRedirect": _REGION,
    "TemporaryRedirect": _REGION,
    "AuthorizationHeaderMalformed": _REGION,
    "IllegalLocationConstraintException": _REGION,
    "InvalidObjectState": "the object is archived: bring it back to a readable storage class first",
    "EntityTooLarge": "the store takes no object of this size",
    "QuotaExceeded": "the bucket is full",
    "NoSuchUpload": "the upload was aborted by somebody else, such as a lifecycle rule for incomplete uploads",
    "ConditionalRequestConflict": "somebody else writes the same key: run again",
    "OperationAborted": "somebody else works on the same key or bucket: run again",
    "BadDigest": _DAMAGED,
    "InvalidDigest": _DAMAGED,
    "XAmzContentSHA256Mismatch": _DAMAGED,
    "SlowDown": "the store is busy: run again later",
    "ServiceUnavailable": "the store is busy: run again later",
    "InternalError": "the store failed: run again later, then ask its operator",
}
_TLS = "check the endpoint's scheme and certificate; set the CA bundle where the CA is your own: TLS is never skipped"


def code_of(error: Exception) -> str:
    """The server's code for what went wrong, ``""`` where it gave none (an answer to HEAD has no body)."""
    if aws is None or not isinstance(error, aws.ClientError):
        return ""
    code = str(error.response.get("Error", {}).get("Code", ""))
    return "" if code.isdigit() else code


def status_of(error: Exception) -> int:
    """The HTTP status of the server's answer, 0 where there was none."""
    if aws is None or not isinstance(error, aws.ClientError):
        return 0
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def is_refusal(error: Exception) -> bool:
    """Whether the server may have disliked the form of the request, such as a checksum it doesn't know.

    Older servers answer 411 to trailers, others 501 or some 400, and some compute another signature than we do.
    """
    code = code_of(error)
    if code in _CREDENTIALS:
        return code == "SignatureDoesNotMatch"
    return status_of(error) in (400, 411, 501)


def translated(error: Exception, message: str, *, phase: str, endpoint: str) -> EngineError:
    """*error*, raised by boto3, as one of the engine's own.

    :param message: what failed, in words.
    :param phase: ``upload``, ``download``, ``store``, ``list`` or ``delete``.
    """
    if isinstance(error, aws.ClientError):
        return _answered(error, message, phase)
    return _unanswered(error, message, phase, endpoint)


def _answered(error: aws.ClientError, message: str, phase: str) -> EngineError:
    code, status = code_of(error), status_of(error)
    # Anyone who answers in the server's place chooses them.
    text = str(error.response.get("Error", {}).get("Message", "")).strip()
    cause = " ".join(
        part
        for part in (f"HTTP {status}", printable(code, limit=100), f"({printable(text, limit=1000)})" if text else "")
        if part
    )
    if code == "NoSuchKey" and status == 404:
        if error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("x-amz-delete-marker") == "true":
            cause += "; it was deleted, a delete marker took its place"
            return Deleted(message, phase=phase, cause=cause, hint="its versions may still be there: bring one back")
        return NotFound(message, phase=phase, cause=cause, hint=ABSENT)
    if code in _CREDENTIALS:
        return AccessDenied(message, phase=phase, cause=cause, hint=_CREDENTIALS[code])
    if code in _OTHERS:
        return StoreError(message, phase=phase, cause=cause, hint=_OTHERS[code])
    if status == 412:
        return AlreadyExists(message, phase=phase, cause=cause, hint=TAKEN)
    if status in (401, 403) or code == "AccessDenied":
        if "server's time" in text:
            return AccessDenied(message, phase=phase, cause=cause, hint=_CREDENTIALS["RequestTimeTooSkewed"])
        hint = f"the credentials need {_PERMISSIONS[phase]}"
        if phase in ("download", "store"):
            hint += "; without s3:ListBucket on the bucket the store answers so for an absent object too"
        return AccessDenied(message, phase=phase, cause=cause, hint=hint)
    if status in (301, 302, 307, 308):
        return StoreError(message, phase=phase, cause=cause, hint=_REGION)
    if status == 404:
        return StoreError(
            message,
            phase=phase,
            cause=f"{cause}; the store doesn't say what is absent",
            hint="check that the endpoint is an S3 API, and the bucket's name",
        )
    if status >= 500:
        return StoreError(message, phase=phase, cause=cause, hint=_OTHERS["InternalError"])
    return StoreError(message, phase=phase, cause=cause, hint="check the endpoint, the bucket and the settings of both")


def _unanswered(error: Exception, message: str, phase: str, endpoint: str) -> EngineError:
    cause = _first_line(error)
    if isinstance(error, (aws.NoCredentialsError, aws.PartialCredentialsError)):
        hint = "give both keys, or let boto3 find some: environment, ~/.aws, the machine's role"
        return AccessDenied(message, phase=phase, cause=cause, hint=hint)
    if isinstance(error, aws.SSLError):
        return Unreachable(message, phase=phase, cause=cause, hint=_TLS)
    if isinstance(error, (aws.CredentialRetrievalError, aws.UnauthorizedSSOTokenError, aws.SSOError)):
        return AccessDenied(message, phase=phase, cause=cause, hint="boto3's chain found credentials it can't use")
    if isinstance(error, aws.ProxyConnectionError):
        hint = "check HTTPS_PROXY, HTTP_PROXY and NO_PROXY in the environment"
        return Unreachable(message, phase=phase, cause=cause, hint=hint)
    if isinstance(error, (aws.HTTPClientError, aws.ConnectionError, HTTPError)):
        if _is_name_resolution(error):
            hint = f"the name in {endpoint} can't be resolved: check the endpoint and the name servers"
        elif isinstance(error, (aws.ConnectTimeoutError, aws.ReadTimeoutError)):
            hint = f"{endpoint} didn't answer in time: check firewalls and routes"
        else:
            hint = f"nothing answers at {endpoint}, or it hangs up: check the endpoint, its port and its scheme"
        return Unreachable(message, phase=phase, cause=cause, hint=hint)
    if isinstance(error, ResponseParserError):
        # It quotes what it couldn't parse, which may be anything.
        hint = f"check that {endpoint} is an S3 API and not a console or another service"
        return StoreError(message, phase=phase, cause="the answer isn't S3's", hint=hint)
    if isinstance(error, (aws.ParamValidationError, aws.ProfileNotFound, aws.InvalidConfigError, ValueError)):
        return ConfigurationError(message, cause=cause, hint="correct the settings of the store, or of boto3")
    return StoreError(message, phase=phase, cause=cause, hint="look at the cause")


def _is_name_resolution(error: Exception) -> bool:
    reason = error.kwargs.get("error") if isinstance(error, aws.BotoCoreError) else error
    return "NameResolutionError" in repr(reason) or "Name or service not known" in str(reason)


def _first_line(error: Exception) -> str:
    return printable((str(error).strip().splitlines() or [type(error).__name__])[0], limit=300)
