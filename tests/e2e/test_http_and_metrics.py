"""The HTTP filters, health and metrics through a running server, with one process and several."""

from __future__ import annotations

import base64
import json
import os
import signal
import smtplib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.endpoint import Asked, Endpoint, Says, endpoint
from tests.support.net import HOST, free_port, wait_until
from tests.support.process import is_listening, tree
from tests.support.servers import Relay, flow

MAIL = b"From: ann@client.example\r\nSubject: hello\r\n\r\nbody\r\n"

RelayFor = Callable[..., Relay]


@pytest.fixture
def server() -> Iterator[Endpoint]:
    with endpoint() as made:
        yield made


@pytest.fixture
def running(tmp_path: Path) -> Iterator[RelayFor]:
    started: list[Relay] = []

    def start(config: dict[str, Any], **options: Any) -> Relay:
        relay = Relay(tmp_path / str(len(started)), config, **options)
        started.append(relay)
        return relay.start()

    yield start
    for relay in started:
        if relay.alive:
            relay.stop()


@contextmanager
def client(relay: Relay) -> Iterator[smtplib.SMTP]:
    with smtplib.SMTP(HOST, relay.port, timeout=30) as connected:
        yield connected


def send(relay: Relay, content: bytes = MAIL) -> None:
    with client(relay) as connected:
        connected.sendmail("ann@client.example", ["bob@server.example"], content)


def scrape(port: int) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    answer = httpx.get(f"http://{HOST}:{port}/metrics", timeout=30)
    assert answer.status_code == 200
    families = text_string_to_metric_families(answer.text)
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def of(found: dict[Any, float], name: str, **labels: str) -> float:
    return found[name, frozenset(labels.items())]


def test_http_auth_checks_who_sends(server: Endpoint, running: RelayFor) -> None:
    def answer(asked: Asked) -> Says:
        given = base64.b64decode(asked.headers["authorization"].split()[1])
        return Says(200 if given == b"ann:right" else 401)

    server.answer = answer
    one = flow({"type": "http-auth", "url": server.url})
    relay = running({"flows": {"in": one}}, authOptional=False, allowInsecureAuth=True)
    with client(relay) as connected, pytest.raises(smtplib.SMTPAuthenticationError) as refused:
        connected.login("ann", "wrong")
    assert refused.value.smtp_code == 535
    with client(relay) as connected:
        connected.login("ann", "right")
        connected.sendmail("ann@client.example", ["bob@server.example"], MAIL)
    server.answer = Says(503)
    with client(relay) as connected, pytest.raises(smtplib.SMTPAuthenticationError) as deferred:
        connected.login("ann", "right")
    assert deferred.value.smtp_code == 454
    assert len(relay.mails()) == 1
    assert "right" not in relay.log()


def test_http_filter_words_the_refusal_and_adds_headers(server: Endpoint, running: RelayFor) -> None:
    relay = running({"flows": {"in": flow({"type": "http-filter", "url": server.url})}})
    said = {"Content-Type": "application/json"}
    server.answer = Says(403, b'{"code": 554, "message": "5.7.1 No, thank you"}', said)
    with pytest.raises(smtplib.SMTPDataError) as refused:
        send(relay)
    assert (refused.value.smtp_code, refused.value.smtp_error) == (554, b"5.7.1 No, thank you")
    server.answer = Says(200, b'{"action": "accept", "headers": {"X-Verdict": "fine"}}', said)
    send(relay)
    assert json.loads(server.asked[-1].body)["data"]["email"]["subject"] == "hello"
    (stored,) = relay.mails()
    assert stored.startswith(b"X-Verdict: fine\r\n")
    server.answer = Says(500)
    with pytest.raises(smtplib.SMTPDataError) as deferred:
        send(relay)
    assert deferred.value.smtp_code == 451


@pytest.mark.parametrize("workers", [1, 3])
def test_scrapes_under_load_are_right_and_the_server_lives(
    server: Endpoint, running: RelayFor, workers: int
) -> None:
    port = free_port()
    one = {**flow({"type": "http-filter", "url": server.url}), "outputs": [{"type": "log", "fields": []}]}
    relay = running(
        {
            "flows": {"in": one},
            "workers": workers,
            "prometheus": {"portNumber": port, "nodeMetrics": True},
        }
    )
    wait_until(
        lambda: httpx.get(f"http://{HOST}:{port}/readyz").status_code == 200, seconds=20, what="readiness"
    )
    mails, senders = 40, 6
    failures: list[Exception] = []

    def work() -> None:
        try:
            with client(relay) as connected:
                for _ in range(mails):
                    connected.sendmail("ann@client.example", ["bob@server.example"], MAIL)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(senders)]
    for thread in threads:
        thread.start()
    seen = 0.0
    while any(thread.is_alive() for thread in threads):
        now = of(scrape(port), "smtp_relay_emails_total", flow="in", status="accepted", output="")
        assert now >= seen
        seen = now
    for thread in threads:
        thread.join()
    assert failures == []

    def settled() -> bool:
        name = "smtp_relay_connections_open"
        return of(scrape(port), name, listener=str(relay.port)) == 0

    wait_until(settled, seconds=20, what="the connections to be closed")
    first, second = scrape(port), scrape(port)
    total = mails * senders
    for found in (first, second):
        assert of(found, "smtp_relay_emails_total", flow="in", status="accepted", output="") == total
        assert of(found, "smtp_relay_emails_total", flow="in", status="delivered", output="log_0") == total
        assert of(found, "smtp_relay_received_bytes_total") == total * len(MAIL)
        verdicts = {"filter": "http-filter_0", "phase": "data", "verdict": "accept"}
        assert of(found, "smtp_relay_filter_verdicts_total", **verdicts) == total
        assert of(found, "smtp_relay_output_duration_seconds_count", flow="in", output="log_0") == total
        workers_seen = {dict(labels)["worker"] for name, labels in found if name == "process_open_fds"}
        assert workers_seen == {str(worker) for worker in range(workers)}
    counters = [key for key in first if key[0].startswith("smtp_relay_") and key[0].endswith("_total")]
    assert {key: first[key] for key in counters} == {key: second[key] for key in counters}
    assert relay.alive
    send(relay)


@pytest.mark.slow
def test_health_tells_of_a_worker_that_hangs_and_of_one_that_died(running: RelayFor) -> None:
    port = free_port()
    one = flow({"type": "http-filter", "url": "http://127.0.0.1:1/"})
    relay = running({"flows": {"in": one}, "workers": 2, "health": {"portNumber": port}})

    def status(path: str = "/healthz") -> int:
        return httpx.get(f"http://{HOST}:{port}{path}", timeout=30).status_code

    wait_until(lambda: status("/readyz") == 200, seconds=20, what="readiness")
    workers = [pid for pid in tree(relay.pid) if pid != relay.pid and is_listening(pid, relay.port)]
    os.kill(workers[0], signal.SIGSTOP)
    try:
        wait_until(lambda: status() == 503, seconds=40, what="the hung worker to be seen")
    finally:
        os.kill(workers[0], signal.SIGCONT)
    wait_until(lambda: status() == 200, seconds=20, what="the worker to come back")
    os.kill(workers[0], signal.SIGKILL)
    wait_until(lambda: status() == 200, seconds=20, what="another worker")
    assert relay.stop() == 0


def test_a_probe_behind_a_proxy_header(running: RelayFor) -> None:
    port = free_port()
    relay = running(
        {
            "flows": {"in": flow({"type": "http-filter", "url": "http://127.0.0.1:1/"})},
            "health": {"portNumber": port},
        }
    )
    for prefix in (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", b"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"):
        with socket.create_connection((HOST, port), timeout=20) as probe:
            probe.sendall(prefix + b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert probe.recv(100).startswith(b"HTTP/1.1 200 OK\r\n")
    assert relay.alive
