"""The HTTP client of outputs, against a real server."""

from __future__ import annotations

import io
import socket
import ssl
import threading
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from functions.http.client import MAX_BODY, HttpClient, Unanswered
from tests.support.clients.tls import Authority
from tests.support.servers import receiver as faults
from tests.support.servers.receiver import Receiver, answer, in_turn, receiving


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as made:
        yield made


@pytest.fixture
def client(receiver: Receiver) -> Iterator[HttpClient]:
    made = HttpClient(f"{receiver.url}/hook?x=1")
    yield made
    made.close()


def post(client: HttpClient, seconds: float = 10.0, body: bytes = b"{}") -> Any:
    return client.post({"Content-Type": "application/json"}, body, len(body), seconds)


def test_a_request_and_its_answer(receiver: Receiver, client: HttpClient) -> None:
    receiver.react = answer(202, b"taken", X_Note="n")
    found = post(client, body=b"hello")
    assert (found.status, found.body, found.headers["x-note"]) == (202, b"taken", "n")
    (one,) = receiver.received
    assert (one.method, one.target, one.body) == ("POST", "/hook?x=1", b"hello")
    assert one.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert one.headers["accept-encoding"] == "identity"
    assert one.headers["user-agent"].startswith("smtp-relay/")


def test_a_body_may_come_from_a_stream(receiver: Receiver, client: HttpClient) -> None:
    data = b"abc" * 200_000
    client.post({}, lambda: io.BytesIO(data), len(data), 10)
    client.post({}, lambda: io.BytesIO(data), 1_000, 10)
    assert [len(one.body) for one in receiver.received] == [600_000, 1_000]


def test_connections_are_used_again(receiver: Receiver, client: HttpClient) -> None:
    for _ in range(5):
        assert post(client).status == 200
    assert receiver.connections == 1


def test_a_kept_connection_that_ended_is_replaced(receiver: Receiver, client: HttpClient) -> None:
    """The server hangs up between two requests, or at the second."""
    receiver.react = in_turn(answer(), faults.hang_up, answer())
    assert post(client).status == post(client).status == 200
    assert receiver.connections == 2


def test_a_new_connection_that_breaks_is_not_tried_again(receiver: Receiver, client: HttpClient) -> None:
    receiver.react = faults.hang_up
    with pytest.raises(Unanswered, match="without an answer"):
        post(client)
    assert len(receiver.received) == 1


@pytest.mark.parametrize("fault", ["hang", "drip", "reset", "noise", "huge head", "endless interim answers"])
def test_a_fault_ends_within_the_time_limit(receiver: Receiver, client: HttpClient, fault: str) -> None:
    receiver.react = faults.FAULTS[fault]
    start = time.monotonic()
    with pytest.raises(Unanswered):
        post(client, seconds=1.0)
    assert time.monotonic() - start < 3.0


def test_the_status_counts_whatever_becomes_of_the_body(receiver: Receiver, client: HttpClient) -> None:
    for reaction in (faults.lie, faults.drip_body):
        receiver.react = reaction
        start = time.monotonic()
        assert post(client, seconds=1.0).status == 200
        assert time.monotonic() - start < 3.0


@pytest.mark.parametrize("reaction", [faults.huge, faults.bomb])
def test_an_answer_takes_no_memory(receiver: Receiver, client: HttpClient, reaction: faults.Reaction) -> None:
    """Not more than the bound, and nothing is unpacked."""
    receiver.react = reaction
    assert post(client).status == 200
    tracemalloc.start()
    try:
        tracemalloc.reset_peak()
        begin = tracemalloc.get_traced_memory()[0]
        found = post(client)
        # The server's own pieces are in this process too.
        assert tracemalloc.get_traced_memory()[1] - begin < 4 * 1_048_576
    finally:
        tracemalloc.stop()
    assert len(found.body) <= MAX_BODY
    assert found.body[:2] in (b"xx", b"\x1f\x8b")


def test_a_redirect_is_not_followed(receiver: Receiver, client: HttpClient) -> None:
    receiver.react = answer(307, location=f"{receiver.url}/elsewhere")
    assert post(client).status == 307
    assert len(receiver.received) == 1


def test_proxies_of_the_environment_are_ignored(
    receiver: Receiver, client: HttpClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    assert post(client).status == 200


def test_nothing_listens(receiver: Receiver) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        client = HttpClient(f"http://127.0.0.1:{taken.getsockname()[1]}/secret-path")
        with pytest.raises(Unanswered, match="cannot be reached: Connection refused") as found:
            post(client)
    assert "secret" not in str(found.value)


def resolving(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> list[str]:
    """Let every name have these addresses; returns those that sockets connect to."""
    connected: list[str] = []
    real = socket.socket.connect

    def getaddrinfo(host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        families = [(socket.AF_INET6 if ":" in one else socket.AF_INET, one) for one in addresses]
        return [
            (family, socket.SOCK_STREAM, 6, "", (one, port, 0, 0) if ":" in one else (one, port))
            for family, one in families
        ]

    def connect(self: socket.socket, address: Any) -> None:
        connected.append(address[0])
        real(self, address)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(socket.socket, "connect", connect)
    return connected


@pytest.mark.parametrize("address", ["169.254.169.254", "::ffff:169.254.169.254", "fd00:ec2::254", "fe80::1"])
def test_a_name_of_a_metadata_service_is_refused(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    connected = resolving(monkeypatch, address)
    with pytest.raises(Unanswered, match="link-local or a metadata service") as found:
        post(HttpClient("http://innocent.example.com/"))
    assert found.value.refused
    assert connected == []


def test_only_the_other_addresses_of_a_name_are_reached(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the connection goes to the very address that was checked, with the name in Host."""
    connected = resolving(monkeypatch, "169.254.169.254", "127.0.0.1")
    with closing(HttpClient(f"http://api.example.com:{receiver.port}/")) as client:
        assert post(client).status == 200
    assert connected == ["127.0.0.1"]
    assert receiver.received[0].headers["host"] == f"api.example.com:{receiver.port}"


def test_a_name_that_is_not_resolved_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    done = threading.Event()

    def getaddrinfo(*_: Any, **__: Any) -> list[Any]:
        done.wait(10)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    with pytest.raises(Unanswered, match="not resolved in time"):
        post(HttpClient("http://slow.example.com/"), seconds=0.2)
    done.set()


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("http://h.example.com", "/"),
        ("http://h.example.com?a=b", "/?a=b"),
        ("http://h.example.com/ä/%20?q=ü#part", "/%C3%A4/%20?q=%C3%BC"),
    ],
)
def test_the_target_of_a_url(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch, url: str, target: str
) -> None:
    resolving(monkeypatch, "127.0.0.1")
    with closing(HttpClient(url.replace("example.com", f"example.com:{receiver.port}"))) as client:
        post(client)
    assert receiver.received[0].target == target


def test_a_closed_client_ends_the_request_under_way(receiver: Receiver, client: HttpClient) -> None:
    receiver.react = faults.hang
    found: list[Exception] = []

    def work() -> None:
        try:
            post(client, seconds=20)
        except Unanswered as reason:
            found.append(reason)

    thread = threading.Thread(target=work)
    thread.start()
    faults.wait_for(receiver, 1)
    client.close()
    thread.join(5)
    assert len(found) == 1


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[Receiver]:
    """A receiver over TLS for api.example.com. `names` are those that clients asked for (SNI)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*Authority.shared().issue("api.example.com").write(tmp_path))
    with receiving(context) as made:
        yield made


def trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ca.pem").write_text(Authority.shared().identity.pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))


def test_tls_is_for_the_name_and_goes_to_the_checked_address(
    secure: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trusted(tmp_path, monkeypatch)
    connected = resolving(monkeypatch, "127.0.0.1")
    with closing(HttpClient(f"https://api.example.com:{secure.port}/")) as client:
        assert [post(client).status for _ in range(3)] == [200] * 3
    assert connected == ["127.0.0.1"]
    assert secure.received[0].headers["host"] == f"api.example.com:{secure.port}"


@pytest.mark.parametrize(("trust", "name"), [(False, "api.example.com"), (True, "other.example.com")])
def test_a_certificate_of_another_name_or_authority_is_refused(
    secure: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trust: bool, name: str
) -> None:
    if trust:
        trusted(tmp_path, monkeypatch)
    resolving(monkeypatch, "127.0.0.1")
    with (
        closing(HttpClient(f"https://{name}:{secure.port}/")) as client,
        pytest.raises(Unanswered, match="certificate is not trusted"),
    ):
        post(client)
    assert secure.received == []


def test_a_handshake_that_hangs_ends_within_the_time_limit() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        start = time.monotonic()
        with pytest.raises(Unanswered, match="not set up in time"):
            post(HttpClient(f"https://127.0.0.1:{silent.getsockname()[1]}/"), seconds=0.5)
        assert time.monotonic() - start < 3.0
