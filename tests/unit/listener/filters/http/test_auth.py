from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import json
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import ValidationError

from listener.api.decision import Decision, Phase
from listener.api.filter import BuildContext
from listener.api.session import Credentials, Session
from listener.filters.http import client as http_client
from listener.filters.http.auth import HttpAuth
from listener.filters.registry import FILTERS, build_filter
from listener.flows.flow import Flow, Flows
from tests.support.net import PATIENCE, free_port
from tests.support.servers.endpoint import Asked, Endpoint, Says, endpoint

SESSION = Session("s", "smtp", "192.0.2.1", 4000, "[192.0.2.1]", "127.0.0.1:25")
ANN = Credentials("PLAIN", "ann", "s3cret pass&word=ü")

Make = Callable[..., HttpAuth]


@pytest.fixture
def server() -> Iterator[Endpoint]:
    with endpoint() as made:
        yield made


@pytest.fixture(autouse=True)
def _direct(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")  # despite the proxies of this machine


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Callable[..., Any]]:
    """Builds filters as the configuration would, starts them, and stops them at the end."""
    made: list[HttpAuth] = []

    async def build(url: str, **options: Any) -> HttpAuth:
        context = BuildContext.of(tmp_path, {"KEY": "k3y"})
        one = build_filter(FILTERS.parse({"type": "http-auth", "url": url, **options}), "auth_0", context)
        assert isinstance(one, HttpAuth)
        await one.start()
        made.append(one)
        return one

    yield build
    for one in made:
        await one.stop()


async def verdict(one: HttpAuth, credentials: Credentials = ANN) -> str:
    answer = one.on_auth(SESSION, credentials)
    decision = answer if isinstance(answer, Decision) else await answer
    return decision.verdict


# -- the form of credentials --------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"credentialsMethod": "BASIC_AUTH"}, {"method": "POST"}])
async def test_basic_auth(server: Endpoint, make: Any, options: dict[str, Any]) -> None:
    assert await verdict(await make(server.url, **options)) == "accept"
    (asked,) = server.asked
    assert (asked.method, asked.path, asked.body) == (options.get("method", "GET"), "/ask?key=k", b"")
    scheme, token = asked.headers["authorization"].split()
    assert scheme == "Basic"
    assert base64.b64decode(token).decode() == f"{ANN.username}:{ANN.password}"


@pytest.mark.parametrize(
    ("options", "method", "wanted"),
    [
        ({}, "POST", {"username": "ann", "password": ANN.password}),
        ({"method": "PUT"}, "PUT", {"username": "ann", "password": ANN.password}),
        (
            {"userField": "$.login.name", "passwordField": "$.login['pass word']"},
            "POST",
            {"login": {"name": "ann", "pass word": ANN.password}},
        ),
        (
            {"userField": "user", "passwordField": "a.b.c"},
            "POST",
            {"user": "ann", "a": {"b": {"c": ANN.password}}},
        ),
    ],
)
async def test_json(server: Endpoint, make: Any, options: Any, method: str, wanted: Any) -> None:
    assert await verdict(await make(server.url, credentialsMethod="JSON", **options)) == "accept"
    (asked,) = server.asked
    assert asked.method == method
    assert asked.headers["content-type"] == "application/json"
    assert json.loads(asked.body) == wanted


@pytest.mark.parametrize("fields", [("username", "password"), ("u[name]", "p&w")])
async def test_form(server: Endpoint, make: Any, fields: tuple[str, str]) -> None:
    options = {"userField": fields[0], "passwordField": fields[1]} if "[" in fields[0] else {}
    assert await verdict(await make(server.url, credentialsMethod="FORM_URLENCODED", **options)) == "accept"
    (asked,) = server.asked
    assert asked.method == "POST"
    assert asked.headers["content-type"] == "application/x-www-form-urlencoded"
    assert parse_qs(asked.body.decode(), strict_parsing=True) == {
        fields[0]: ["ann"],
        fields[1]: [ANN.password],
    }


@pytest.mark.parametrize("how", ["BASIC_AUTH", "JSON", "FORM_URLENCODED"])
async def test_a_token_travels_as_the_password_and_is_named(server: Endpoint, make: Any, how: str) -> None:
    one = await make(server.url, credentialsMethod=how)
    assert await verdict(one, Credentials("XOAUTH2", "ann", "ya29.token")) == "accept"
    assert await verdict(one) == "accept"
    token, password = server.asked
    assert token.headers["x-smtp-relay-mechanism"] == "XOAUTH2"
    assert "x-smtp-relay-mechanism" not in password.headers
    sent = token.body or base64.b64decode(token.headers["authorization"].split()[1])
    assert b"ya29.token" in sent


async def test_what_cannot_be_asked_is_not_asked(server: Endpoint, make: Any) -> None:
    one = await make(server.url)
    assert await verdict(one, Credentials("CRAM-MD5", "ann", "digest", b"<1@x>")) == "abstain"
    assert await verdict(one, Credentials("PLAIN", "ann:x", "pw")) == "refuse"
    assert server.asked == []
    assert (
        await verdict(await make(server.url, credentialsMethod="JSON"), Credentials("PLAIN", "a:b", ""))
        == "accept"
    )


# -- the meaning of answers ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "wanted"),
    [(200, "accept"), (201, "accept"), (204, "accept"), (299, "accept")]
    + [(status, "refuse") for status in (300, 301, 302, 304, 307, 308)]
    + [(status, "refuse") for status in (400, 401, 403, 404, 409, 418, 422, 451)]
    + [(status, "defer") for status in (408, 425, 429, 500, 502, 503, 504, 599)],
)
async def test_statuses(server: Endpoint, make: Any, status: int, wanted: str) -> None:
    other = {"Location": server.url + "&followed"} if 300 <= status < 400 else {}
    server.answer = Says(status, headers=other)
    assert await verdict(await make(server.url)) == wanted
    assert [asked.path for asked in server.asked] == ["/ask?key=k"], "no redirect is followed"


RESULT = {"path": "$.user.active", "value": True}


@pytest.mark.parametrize(
    ("result", "body", "wanted"),
    [
        (RESULT, b'{"user": {"active": true}}', "accept"),
        (RESULT, b'{"user": {"active": 1}}', "refuse"),
        (RESULT, b'{"user": {"active": "true"}}', "refuse"),
        (RESULT, b'{"user": {"active": false}}', "refuse"),
        (RESULT, b'{"user": {}}', "refuse"),
        (RESULT, b'{"user": [true]}', "refuse"),
        (RESULT, b"null", "refuse"),
        (RESULT, b"", "defer"),
        (RESULT, b"OK", "defer"),
        (RESULT, b'{"user": {"active": true}', "defer"),
        (RESULT, b'{"user":' + b"[" * 100_000, "defer"),
        (RESULT, b"\xff\xfe\x00", "defer"),
        ({"path": "status", "value": "ok"}, b'{"status": "ok"}', "accept"),
        ({"path": "status", "value": "ok"}, b'{"status": "OK"}', "refuse"),
        ({"path": "$.a[1].b", "value": 2}, b'{"a": [0, {"b": 2}]}', "accept"),
        ({"path": "$.a[1].b", "value": 2}, b'{"a": [0, {"b": "2"}]}', "refuse"),
        ({"path": "$.a[1].b", "value": "2"}, b'{"a": [0, {"b": 2}]}', "refuse"),
        ({"path": "a.1.b", "value": 2}, b'{"a": [0, {"b": 2.0}]}', "accept"),
        ({"path": "$.a", "value": None}, b'{"a": null}', "accept"),
        ({"path": "$.a", "value": None}, b'{"b": null}', "refuse"),
        ({"path": "$.a", "value": 0}, b'{"a": false}', "refuse"),
    ],
)
async def test_json_result(server: Endpoint, make: Any, result: Any, body: bytes, wanted: str) -> None:
    server.answer = Says(200, body, {"Content-Type": "application/json"})
    assert await verdict(await make(server.url, json_result=result)) == wanted
    server.answer = Says(403, body)
    assert await verdict(await make(server.url, json_result=result)) == "refuse"
    server.answer = Says(503, body)
    assert await verdict(await make(server.url, json_result=result)) == "defer"


async def test_an_encoded_answer_is_unreadable(server: Endpoint, make: Any) -> None:
    body = gzip.compress(b'{"user": {"active": true}}' + b" " * 10_000_000)
    server.answer = Says(200, body, {"Content-Encoding": "gzip"})
    assert await verdict(await make(server.url, json_result=RESULT)) == "defer"
    assert server.asked[0].headers["accept-encoding"] == "identity"


async def test_an_oversized_answer(server: Endpoint, make: Any) -> None:
    server.answer = Says(200, b'{"user": {"active": true}}' + b" " * http_client.MAX_ANSWER)
    assert await verdict(await make(server.url, json_result=RESULT)) == "defer"
    assert await verdict(await make(server.url)) == "accept", "the status is enough"
    server.answer = Says(200, b'{"user": {"active": true}}')
    assert await verdict(await make(server.url, json_result=RESULT)) == "accept", "the filter lives on"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort",
        b"HTTP/1.1 999999 What\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100_000,
    ],
    ids=lambda raw: repr(raw[:20]),
)
async def test_no_http_defers(server: Endpoint, make: Any, raw: bytes) -> None:
    one = await make(server.url, json_result=RESULT)
    server.answer = Says(raw=raw)
    assert await verdict(one) == "defer"
    server.answer = Says(200, b'{"user": {"active": true}}')
    assert await verdict(one) == "accept"


async def test_no_server_there_defers(make: Any) -> None:
    assert await verdict(await make(f"http://127.0.0.1:{free_port()}/")) == "defer"
    assert await verdict(await make("http://does-not-exist.invalid/")) == "defer"


# -- time ----------------------------------------------------------------------------------------


def flows(one: HttpAuth, timeout: float) -> Flows:
    return Flows([Flow("in", (one,))], auth_optional=True, filter_timeout=timeout)


async def auth(one: HttpAuth, timeout: float) -> tuple[int | None, float]:
    start = time.monotonic()
    outcome = flows(one, timeout).connection(SESSION).auth(ANN)
    reply = await outcome if asyncio.iscoroutine(outcome) else outcome
    return (reply.code if reply is not None else None), time.monotonic() - start


async def test_an_endpoint_that_hangs_is_454(server: Endpoint, make: Any) -> None:
    hang = threading.Event()
    server.answer = Says(hang=hang)
    code, seconds = await auth(await make(server.url), 0.2)
    hang.set()
    assert code == 454
    assert 0.19 < seconds < 3


async def test_a_slow_body_is_bounded(server: Endpoint, make: Any) -> None:
    server.answer = Says(200, b'{"user": {"active": true}}' + b" " * 500, pace=threading.Event())
    code, seconds = await auth(await make(server.url, json_result=RESULT), 0.3)
    assert code == 454
    assert seconds < 3


async def test_an_unneeded_body_is_not_awaited(
    server: Endpoint, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_client, "DRAIN_SECONDS", 0.05)
    server.answer = Says(200, b" " * 5000, pace=threading.Event())
    code, seconds = await auth(await make(server.url), 30)
    assert code is None
    assert seconds < 5


async def test_timed_out_requests_give_their_connections_back(
    server: Endpoint, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_client, "MAX_CONNECTIONS", 2)
    one = await make(server.url)
    hang = threading.Event()
    server.answer = Says(hang=hang)
    results = await asyncio.gather(*(auth(one, 0.1) for _ in range(10)))
    assert {code for code, _ in results} == {454}
    server.answer = Says()
    hang.set()
    assert [code for code, _ in await asyncio.gather(*(auth(one, 20) for _ in range(10)))] == [None] * 10


# -- connections, cookies, signatures, TLS -------------------------------------------------------


async def test_connections_are_kept(server: Endpoint, make: Any) -> None:
    one = await make(server.url)
    for _ in range(20):
        assert await verdict(one) == "accept"
    assert server.connections == 1


async def test_a_crowd_is_served(server: Endpoint, make: Any) -> None:
    one = await make(server.url, json_result={"path": "n", "value": 1})
    lock, full, open_at_once = threading.Lock(), threading.Event(), [0]

    def answer(_: Asked) -> Says:
        with lock:
            open_at_once.append(open_at_once[-1] + 1)
            if open_at_once[-1] == http_client.MAX_CONNECTIONS:
                full.set()
        full.wait(PATIENCE)
        with lock:
            open_at_once.append(open_at_once[-1] - 1)
        return Says(200, b'{"n": 1}')

    server.answer = answer
    assert set(await asyncio.gather(*(verdict(one) for _ in range(150)))) == {"accept"}
    assert max(open_at_once) == http_client.MAX_CONNECTIONS


async def test_a_connection_that_the_endpoint_closed_is_replaced(server: Endpoint, make: Any) -> None:
    one = await make(server.url)
    turns = iter([Says(), Says(raw=b""), Says()])
    server.answer = lambda asked: next(turns)
    assert await verdict(one) == "accept"
    assert await verdict(one) == "accept", "asked once more on a new connection"
    assert len(server.asked) == 3


async def test_cookies_of_one_client_never_speak_for_another(server: Endpoint, make: Any) -> None:
    server.answer = Says(200, headers={"Set-Cookie": "session=ann; Path=/"})
    one = await make(server.url)
    for _ in range(3):
        await verdict(one)
    assert not any("cookie" in asked.headers for asked in server.asked)


def hmac_by_hand(algorithm: str, key: bytes, text: bytes) -> str:
    """RFC 2104 section 2, from its definition."""
    block = hashlib.new(algorithm).block_size
    key = key if len(key) <= block else hashlib.new(algorithm, key).digest()
    padded = key.ljust(block, b"\0")
    inner = hashlib.new(algorithm, bytes(b ^ 0x36 for b in padded) + text).digest()
    return hashlib.new(algorithm, bytes(b ^ 0x5C for b in padded) + inner).hexdigest()


@pytest.mark.parametrize(
    ("hmac", "algorithm", "key", "header"),
    [
        ({"secret": "s"}, "sha256", b"s", "x-smtp-relay"),
        ({"secret": "env:KEY", "algo": "sha512", "header": "X-Sig"}, "sha512", b"k3y", "x-sig"),
        ({"secret": "x" * 300, "algo": "RSA-SHA1"}, "sha1", b"x" * 300, "x-smtp-relay"),
        ({"secret": "s", "algo": "sha3-256"}, "sha3_256", b"s", "x-smtp-relay"),
    ],
)
@pytest.mark.parametrize("how", ["BASIC_AUTH", "JSON"])
async def test_signatures(
    server: Endpoint, make: Any, hmac: Any, algorithm: str, key: bytes, header: str, how: str
) -> None:
    before = time.time_ns() // 1_000_000
    await verdict(await make(server.url, credentialsMethod=how, hmac=hmac))
    (asked,) = server.asked
    stamp = asked.headers["x-smtp-relay-time"]
    assert before <= int(stamp) <= time.time_ns() // 1_000_000
    lines = [server.url.encode(), asked.method.encode(), stamp.encode()]
    text = b"\n".join([*lines, asked.body] if asked.body else lines)
    assert asked.headers[header] == hmac_by_hand(algorithm, key, text)


async def test_unsigned_requests_carry_no_signature(server: Endpoint, make: Any) -> None:
    await verdict(await make(server.url))
    assert not any(name.startswith("x-smtp-relay") for name in server.asked[0].headers)


def self_signed(folder: Path) -> tuple[str, str]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (folder / "cert.pem").write_bytes(certificate.public_bytes(pem))
    (folder / "key.pem").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return str(folder / "cert.pem"), str(folder / "key.pem")


async def test_certificates_are_verified(make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate = self_signed(tmp_path)
    with endpoint(certificate) as server:
        assert await verdict(await make(server.url)) == "defer"
        assert server.asked == []
        monkeypatch.setenv("SSL_CERT_FILE", certificate[0])
        assert await verdict(await make(server.url)) == "accept"
        assert await verdict(await make(server.url.replace("127.0.0.1", "localhost"))) == "defer", (
            "other name"
        )


async def test_no_secret_reaches_a_log(server: Endpoint, make: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    one = await make(server.url, hmac={"secret": "hm4c"})
    for says in (Says(), Says(500), Says(raw=b"")):
        server.answer = says
        await verdict(one)
    closed = await make(f"http://127.0.0.1:{free_port()}/path?key=k")
    await verdict(closed)
    text = caplog.text + repr(one._options.hmac) + repr(ANN)
    assert "no answer from" in caplog.text
    for secret in (ANN.password, "hm4c", "key=k", base64.b64encode(b"ann:s3cret").decode()[:10]):
        assert secret not in text


async def test_a_name_that_is_no_unicode_defers(server: Endpoint, make: Any) -> None:
    code, _ = await auth(await make(server.url), 5)
    assert code is None
    outcome = flows(await make(server.url), 5).connection(SESSION).auth(Credentials("PLAIN", "\ud800", "x"))
    assert (await outcome).code == 454  # type: ignore[misc,union-attr]


# -- options -------------------------------------------------------------------------------------


def test_what_the_filter_is() -> None:
    assert HttpAuth.phases == {Phase.AUTH}
    assert HttpAuth.checks_credentials


def test_the_sample_of_the_documentation_loads() -> None:
    options: Any = FILTERS.parse(
        {
            "type": "http-auth",
            "url": "http://localhost:16662/smtp/filter",
            "credentialsMethod": "BASIC_AUTH",
            "json_result": {"path": "$.ok", "value": "yes"},
        }
    )
    assert options.method_used == "GET"
    assert options.json_result.value == "yes"


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"url": "ftp://x/"},
        {"url": "http:///x"},
        {"url": "http://user:pass@x/"},
        {"url": "http://x:99999/"},
        {"url": "http://x/", "method": "DELETE"},
        {"url": "http://x/", "method": "GET", "credentialsMethod": "JSON"},
        {"url": "http://x/", "method": "GET", "credentialsMethod": "FORM_URLENCODED"},
        {"url": "http://x/", "credentialsMethod": "DIGEST"},
        {"url": "http://x/", "credentialsMethod": "JSON", "userField": "$.a[0]"},
        {"url": "http://x/", "credentialsMethod": "JSON", "userField": "$.a", "passwordField": "$.a"},
        {"url": "http://x/", "credentialsMethod": "JSON", "userField": "$.a", "passwordField": "$.a.b"},
        {"url": "http://x/", "credentialsMethod": "JSON", "userField": "$..a"},
        {"url": "http://x/", "json_result": {"path": "$"}},
        {"url": "http://x/", "json_result": {"path": "$.a"}},
        {"url": "http://x/", "json_result": {"path": "$.a", "value": []}},
        {"url": "http://x/", "jsonResult": {"path": "$.a", "value": 1}},
        {"url": "http://x/", "hmac": {"secret": ""}},
        {"url": "http://x/", "hmac": {"algo": "sha256"}},
        {"url": "http://x/", "hmac": {"secret": "x", "algo": "rot13"}},
        {"url": "http://x/", "hmac": {"secret": "x", "algo": "shake_128"}},
        {"url": "http://x/", "hmac": {"secret": "x", "header": "X: y"}},
    ],
    ids=str,
)
def test_mistakes_in_options(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        FILTERS.parse({"type": "http-auth", **options})
