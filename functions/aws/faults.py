"""Classifies failed AWS calls: retry the mail, or give it up (docs/concepts.md)."""

from __future__ import annotations

from typing import Any, Final

from botocore import exceptions as botocore

from functions.errors import DeliveryFault, Permanent, Temporary

_THROTTLED: Final = frozenset(
    {
        "BandwidthLimitExceeded",
        "EC2ThrottledException",
        "KMSThrottlingException",
        "LimitExceededException",
        "PriorRequestNotComplete",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "SlowDown",
        "Throttling",
        "ThrottledException",
        "ThrottlingException",
        "TooManyRequestsException",
        "TransactionInProgressException",
        "OverLimit",
    }
)

# The operator, or a deployment that is still under way, fixes these without touching the mail. A
# retry loses nothing, and the age of the oldest unfinished mail raises an alarm.
_CURABLE: Final = frozenset(
    {
        "AccessDenied",
        "AccessDeniedException",
        "AllAccessDisabled",
        "AuthFailure",
        "ConditionalRequestConflict",
        "ExpiredToken",
        "ExpiredTokenException",
        "IncompleteSignature",
        "InternalError",
        "InternalException",
        "InternalFailure",
        "InternalServerError",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidToken",
        "MissingAuthenticationToken",
        "NotSignedUp",
        "OperationAborted",
        "RequestExpired",
        "RequestTimeTooSkewed",
        "RequestTimeout",
        "RequestTimeoutException",
        "ServiceUnavailable",
        "SignatureDoesNotMatch",
        "TokenRefreshRequired",
        "UnauthorizedAccess",
        "UnrecognizedClientException",
    }
)

_NO_ACCESS: Final = frozenset({401, 403, 407})
"""Statuses about the caller's identity, whatever error name the service or a proxy gives them."""

_STATUS: Final[dict[str, str]] = {
    # RFC 3463 section 3: the destination does not exist; the message is too large; security.
    "NoSuchBucket": "5.1.2",
    "QueueDoesNotExist": "5.1.2",
    "AWS.SimpleQueueService.NonExistentQueue": "5.1.2",
    "NotFound": "5.1.2",
    "NotFoundException": "5.1.2",
    "ResourceNotFoundException": "5.1.2",
    "EntityTooLarge": "5.3.4",
    "MessageRejected": "5.7.1",
    "MailFromDomainNotVerifiedException": "5.7.1",
}

_NEVER_LEFT: Final = (
    botocore.EndpointConnectionError,
    botocore.ConnectTimeoutError,
    botocore.ProxyConnectionError,
    botocore.SSLError,
    botocore.NoCredentialsError,
    botocore.PartialCredentialsError,
    botocore.CredentialRetrievalError,
    botocore.MetadataRetrievalError,
    botocore.TokenRetrievalError,
)


def error_code(error: BaseException) -> str:
    """The service's name for an error, "" if no service answered."""
    if isinstance(error, botocore.ClientError):
        return str(error.response.get("Error", {}).get("Code", ""))
    return ""


def status_of(error: BaseException) -> int:
    """The HTTP status of an answer, 0 if there was no answer."""
    if isinstance(error, botocore.ClientError):
        return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    return 0


def is_throttled(error: BaseException) -> bool:
    """True if the service asked for fewer requests."""
    return error_code(error) in _THROTTLED or status_of(error) == 429


def fault_of(error: Exception, what: str, *, repeatable: bool = True) -> DeliveryFault:
    """The fault for a botocore exception; `what` names the attempted step for people.

    A call that is not `repeatable` and got no answer is in doubt.
    """
    if isinstance(error, botocore.ClientError):
        return _refused(error, what)
    reason = f"{what}: {_words(error)}"
    if isinstance(error, _NEVER_LEFT):
        return Temporary(reason, enhanced="4.4.1")
    if isinstance(error, botocore.ParamValidationError):
        return Permanent(reason, enhanced="5.6.0")
    # Any other error may have happened after the service read the request.
    return Temporary(reason, enhanced="4.4.2", in_doubt=not repeatable)


def named(message: str, what: str) -> str:
    """The service's id of what it took. Raises Temporary if it is "": an answer that broke off, or another
    server's, proves nothing, so the call is in doubt."""
    if not message:
        raise Temporary(f"{what}: the answer names no message", enhanced="4.4.2", in_doubt=True)
    return message


def _refused(error: Any, what: str) -> DeliveryFault:
    code, status = error_code(error), status_of(error)
    message = str(error.response.get("Error", {}).get("Message", ""))
    reason = f"{what}: {code}: {message}" if message else f"{what}: {code}"
    if code in _THROTTLED or status == 429:
        return Temporary(reason, enhanced="4.4.5", retry_after=_retry_after(error))
    curable = status in _NO_ACCESS or code in _CURABLE or code.startswith("KMS")
    if status >= 500 or status == 408 or curable:
        return Temporary(reason, enhanced="4.3.0", retry_after=_retry_after(error))
    return Permanent(reason, enhanced=_STATUS.get(code, "5.3.0"))


def _retry_after(error: Any) -> float | None:
    headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    text = str(headers.get("retry-after", ""))
    return min(float(text), 3600.0) if text.isdecimal() else None


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
