"""The meaning of Google's exceptions for a mail."""

from __future__ import annotations

import grpc
import pytest
import requests
from google.api_core import exceptions as api
from google.auth.exceptions import RefreshError, TransportError

from functions.errors import Permanent, Temporary
from functions.gcp.faults import fault_of, status_of


def answered(status: int, **headers: str) -> api.GoogleAPICallError:
    response = requests.Response()
    response.status_code = status
    response.request = requests.Request("GET", "https://example.com/").prepare()
    response.headers.update(headers)
    return api.from_http_response(response)


def said(code: grpc.StatusCode, text: str = "words") -> api.GoogleAPICallError:
    kind = api.from_grpc_status(code, text)
    assert isinstance(kind, api.GoogleAPICallError)
    return kind


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (400, Permanent, "5.6.0"),
        (401, Temporary, "4.3.0"),
        (403, Temporary, "4.3.0"),
        (407, Temporary, "4.3.0"),
        (404, Permanent, "5.1.2"),
        (408, Temporary, "4.3.0"),
        (412, Temporary, "4.3.0"),
        (413, Permanent, "5.3.4"),
        (418, Permanent, "5.3.0"),
        (429, Temporary, "4.4.5"),
        (500, Temporary, "4.3.0"),
        (503, Temporary, "4.3.0"),
    ],
)
def test_answers(status: int, kind: type[Exception], code: str) -> None:
    fault = fault_of(answered(status), "store", repeatable=False)
    assert type(fault) is kind
    assert fault.enhanced == code
    assert fault.reason.startswith("store: ")
    assert not getattr(fault, "in_doubt", False)  # an answer leaves no doubt


@pytest.mark.parametrize(("text", "seconds"), [("7", 7.0), ("999999", 3600.0), ("soon", None)])
def test_a_wait_that_was_asked_for(text: str, seconds: float | None) -> None:
    fault = fault_of(answered(429, **{"Retry-After": text}), "store")
    assert isinstance(fault, Temporary)
    assert fault.retry_after == seconds


@pytest.mark.parametrize(
    ("error", "doubt"),
    [
        (said(grpc.StatusCode.UNAVAILABLE, "Socket closed"), True),
        (said(grpc.StatusCode.UNAVAILABLE, "failed to connect to all addresses; last error: refused"), False),
        (said(grpc.StatusCode.DEADLINE_EXCEEDED), True),
        (said(grpc.StatusCode.INTERNAL, "Received RST_STREAM"), True),
        (said(grpc.StatusCode.RESOURCE_EXHAUSTED), False),
        (said(grpc.StatusCode.PERMISSION_DENIED), False),
        (said(grpc.StatusCode.UNAUTHENTICATED), False),
        (requests.exceptions.ReadTimeout("read"), True),
        (requests.exceptions.ConnectTimeout("connect"), False),
        (requests.exceptions.ConnectionError("reset"), True),
        (RefreshError("no token"), False),
        (TransportError("metadata server"), False),
    ],
)
def test_doubt(error: Exception, doubt: bool) -> None:
    fault = fault_of(error, "publish", repeatable=False)
    assert isinstance(fault, Temporary)
    assert fault.in_doubt is doubt
    again = fault_of(error, "publish")
    assert isinstance(again, Temporary)
    assert not again.in_doubt


@pytest.mark.parametrize(
    ("code", "enhanced"), [(grpc.StatusCode.NOT_FOUND, "5.1.2"), (grpc.StatusCode.INVALID_ARGUMENT, "5.6.0")]
)
def test_grpc_for_good(code: grpc.StatusCode, enhanced: str) -> None:
    fault = fault_of(said(code), "publish", repeatable=False)
    assert isinstance(fault, Permanent)
    assert fault.enhanced == enhanced


def test_retries_that_ended_are_what_they_ended_with() -> None:
    fault = fault_of(api.RetryError("gave up", cause=answered(404)), "read")
    assert isinstance(fault, Permanent)
    assert status_of(answered(404)) == 404
    assert status_of(ValueError()) == 0
