"""Classifies failed Google calls: retry the mail, or give it up (docs/concepts.md)."""

from __future__ import annotations

from typing import Any, Final

from google.api_core import exceptions as api
from google.auth import exceptions as auth

from functions.errors import DeliveryFault, Permanent, Temporary

_CURABLE: Final = frozenset({401, 403, 407, 408, 409, 412, 499})
"""The operator, a deployment that is still under way or the next attempt fixes these. A retry loses
nothing, and the age of the oldest unfinished mail raises an alarm."""

_STATUS: Final = {404: "5.1.2", 413: "5.3.4", 400: "5.6.0"}
"""RFC 3463 section 3: no such destination; too large; not as the service wants it."""

_NEVER_LEFT: Final = ("failed to connect", "dns resolution failed", "no route to host", "name resolution")
"""gRPC's texts for calls that were not sent."""


def status_of(error: BaseException) -> int:
    """The HTTP status of an answer (for gRPC the equivalent one), 0 if there was no answer."""
    if isinstance(error, api.GoogleAPICallError):
        return int(error.code or 0)
    response = getattr(error, "response", None)
    return int(getattr(response, "status_code", 0) or 0)


def fault_of(error: Exception, what: str, *, repeatable: bool = True) -> DeliveryFault:
    """The fault for a Google exception; `what` names the attempted step for people.

    A call that is not `repeatable` and got no answer is in doubt.
    """
    if isinstance(error, api.RetryError) and isinstance(error.cause, Exception):
        return fault_of(error.cause, what, repeatable=repeatable)
    reason = f"{what}: {_words(error)}"
    if isinstance(error, auth.GoogleAuthError):
        return Temporary(reason, enhanced="4.4.1")
    by_http = getattr(getattr(error, "response", None), "status_code", None) is not None
    if isinstance(error, api.GoogleAPICallError) and error.grpc_status_code is not None and not by_http:
        return _grpc(error, reason, repeatable)
    status = status_of(error)
    if status:
        return _answered(error, status, reason)
    return Temporary(reason, enhanced="4.4.2", in_doubt=not repeatable and not _unsent(error))


def _answered(error: Exception, status: int, reason: str) -> DeliveryFault:
    if status == 429:
        return Temporary(reason, enhanced="4.4.5", retry_after=_retry_after(error))
    if status >= 500 or status in _CURABLE:
        return Temporary(reason, enhanced="4.3.0", retry_after=_retry_after(error))
    return Permanent(reason, enhanced=_STATUS.get(status, "5.3.0"))


def _grpc(error: api.GoogleAPICallError, reason: str, repeatable: bool) -> DeliveryFault:
    """gRPC uses the same names for its own broken connections and for the service's answers. If both
    are possible, the worse is assumed."""
    from grpc import StatusCode

    code = error.grpc_status_code
    broken = (StatusCode.UNAVAILABLE, StatusCode.DEADLINE_EXCEEDED, StatusCode.CANCELLED)
    if code in (*broken, StatusCode.UNKNOWN, StatusCode.INTERNAL):
        return Temporary(reason, enhanced="4.4.2", in_doubt=not repeatable and not _unsent(error))
    if code in (StatusCode.RESOURCE_EXHAUSTED, StatusCode.ABORTED):
        return Temporary(reason, enhanced="4.4.5")
    return _answered(error, status_of(error), reason)


def _unsent(error: Exception) -> bool:
    text = str(error).lower()
    if any(words in text for words in _NEVER_LEFT):
        return True
    return type(error).__name__ in {"ConnectTimeout", "NewConnectionError", "ProxyError", "SSLError"}


def _retry_after(error: Any) -> float | None:
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    text = str(headers.get("Retry-After", headers.get("retry-after", "")))
    return min(float(text), 3600.0) if text.isdecimal() else None


def _words(error: Exception) -> str:
    text = getattr(error, "message", None) or str(error)
    return f"{type(error).__name__}: {text}"[:1_000]
