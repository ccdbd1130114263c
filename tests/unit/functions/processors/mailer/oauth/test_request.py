"""One request to a token endpoint that works, fails, lies or hangs."""

from __future__ import annotations

import base64
import json
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from functions.processors.mailer.oauth import request
from functions.processors.mailer.oauth.request import MAX_ANSWER, NoToken, post
from tests.support.clients.relaying import endless
from tests.support.clients.tls import Authority
from tests.support.net import free_port
from tests.support.servers.endpoint import Says, endpoint
from tests.support.servers.token_server import JSON, refusal, token_server

SECRET = "ge heim/und+lang=="


def failure(url: str, *, seconds: float = float("inf"), **form: str) -> NoToken:
    with pytest.raises(NoToken) as caught:
        post(url, {"client_secret": SECRET, **form}, lambda: seconds, [SECRET])
    assert caught.value.no_login
    return caught.value


def test_a_form_is_posted() -> None:
    with token_server() as server:
        answer = post(server.url, {"client_id": "a&b", "client_secret": SECRET}, endless, [SECRET])
        assert answer["access_token"] == "token-1"
        assert server.forms == [{"client_id": "a&b", "client_secret": SECRET}]
        (asked,) = server.endpoint.asked
        assert (asked.method, asked.path) == ("POST", "/token")
        assert asked.headers["content-type"] == "application/x-www-form-urlencoded"


@pytest.mark.parametrize(
    ("says", "words", "enhanced", "rest"),
    [
        (
            refusal("invalid_client", "unknown\r\nclient"),
            "it answers 400 invalid_client: unknown  client",
            "4.7.8",
            0,
        ),
        (refusal("invalid_client", "no", 401), "it answers 401 invalid_client: no", "4.7.8", 0),
        (refusal("invalid_grant", "no", 200), "it answers 200 invalid_grant: no", "4.4.2", 0),
        (Says(302, headers={"Location": "http://127.0.0.1:1/"}), "it answers 302, a redirect", "4.4.2", 0),
        (Says(503, b"<html>", {"Retry-After": "7"}), "it answers 503", "4.4.2", 7),
        (Says(429, b"", {"Retry-After": "9" * 9}), "it answers 429", "4.4.2", 900),
        (Says(429, b"", {"Retry-After": "²"}), "it answers 429", "4.4.2", 0),
        (Says(200, b"<html>hello"), "its answer is no JSON object", "4.4.2", 0),
        (Says(200, b"[" * 60_000), "its answer is no JSON object", "4.4.2", 0),
        (Says(200, b'["access_token"]'), "its answer is no JSON object", "4.4.2", 0),
        (Says(200, b" " * (MAX_ANSWER + 1)), f"longer than {MAX_ANSWER} bytes", "4.4.2", 0),
        (Says(raw=b""), "RemoteDisconnected", "4.4.2", 0),
        (Says(raw=b"SSH-2.0-x\r\n"), "BadStatusLine", "4.4.2", 0),
        (Says(raw=b'HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"a"'), "is no JSON object", "4.4.2", 0),
        (refusal("a" * 100, "b" * 60_000), "it answers 400: bbb", "4.7.8", 0),
        (Says(400, json.dumps({"error": 1, "error_description": []}).encode()), "it answers 400", "4.7.8", 0),
    ],
)
def test_an_answer_without_a_token(says: Says, words: str, enhanced: str, rest: int) -> None:
    with endpoint() as served:
        served.answer = says
        fault = failure(served.url)
        assert words in fault.reason
        assert (fault.enhanced, fault.rest) == (enhanced, rest)
        assert len(fault.reason) < 450
        assert len(served.asked) == 1


@pytest.mark.parametrize(
    "form", [SECRET, quote(SECRET), base64.b64encode(SECRET.encode()).decode(), f"{SECRET * 200}{SECRET[:9]}"]
)
def test_an_endpoint_that_repeats_the_secret_puts_it_into_no_record(form: str) -> None:
    with endpoint() as served:
        served.answer = refusal("invalid_client", f"you said {form}")
        reason = failure(served.url).reason
        assert form not in reason
        assert SECRET not in reason
        assert "***" in reason


@pytest.mark.parametrize("slow", ["hanging", "a byte at a time", "silent TLS"])
def test_one_limit_holds_for_the_whole_request(slow: str, monkeypatch: pytest.MonkeyPatch) -> None:
    never = threading.Event()
    monkeypatch.setattr(request, "TOTAL", 0.5)
    with endpoint() as served:
        served.answer = Says(hang=never) if slow == "hanging" else Says(200, b" " * 5_000, pace=never)
        url = served.url
        if slow == "silent TLS":
            served.answer = Says(hang=never)
            url = url.replace("http:", "https:")
        started = time.monotonic()
        fault = failure(url)
        assert time.monotonic() - started < 5
        never.set()
    if slow != "silent TLS":  # the server answers a hello that it does not understand
        assert fault.reason.endswith("it did not answer in time")


def test_the_runs_own_limit_counts() -> None:
    assert failure("http://127.0.0.1:1/", seconds=0.0).enhanced == "4.4.7"


def test_no_endpoint_listens() -> None:
    fault = failure(f"http://127.0.0.1:{free_port()}/token")
    assert "cannot be reached: Connection refused" in fault.reason
    assert fault.enhanced == "4.4.1"


def test_certificates_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = Authority.shared()
    certificate = authority.issue("localhost").write(tmp_path)
    with token_server((str(certificate[0]), str(certificate[1]))) as server:
        url = server.url.replace("127.0.0.1", "localhost")
        assert "its certificate is not trusted" in failure(url).reason
        assert server.forms == []
        trusted = tmp_path / "ca.pem"
        trusted.write_text(authority.identity.pem)
        monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
        assert post(url, {}, endless, ())["access_token"] == "token-1"
        other = failure(server.url).reason
        assert "certificate is not valid for '127.0.0.1'" in other


@pytest.mark.parametrize("name", ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"])
def test_proxies_are_ignored(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    with token_server() as server:
        assert post(server.url, {}, endless, ())["access_token"] == "token-1"


def test_an_answer_is_bounded_however_it_is_framed() -> None:
    pieces = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1000\r\n" + b" " * 4096 + b"\r\n"
    endless_answer: Any = pieces + (b"1000\r\n" + b" " * 4096 + b"\r\n") * 500
    with endpoint() as served:
        served.answer = Says(raw=endless_answer)
        assert "longer than" in failure(served.url).reason
        assert json.dumps(JSON)
