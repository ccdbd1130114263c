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

from tests.support.clients.wire import Wire
from tests.support.net import HOST, free_port, wait_until
from tests.support.process import is_listening, tree
from tests.support.servers.endpoint import Asked, Endpoint, Says, endpoint
from tests.support.servers.relay import Relay, flow

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
        if "listeners" in config:
            relay.port = config["listeners"][0]["port"]
            del relay.config["port"], relay.config["bind"]
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


def test_http_auth_checks_the_sender(server: Endpoint, running: RelayFor) -> None:
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


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("lmtp", [False, True])
def test_what_is_not_taken_is_counted_and_told(
    server: Endpoint, running: RelayFor, workers: int, lmtp: bool
) -> None:
    port = free_port()
    whom = {"type": "whitelist", "from": ["a@client.example"], "to": ["b@server.example"]}
    users = {"type": "static-auth", "username": "u", "password": "plain:p"}
    relay = running(
        {
            "flows": {
                "in": flow(whom, {"type": "http-filter", "url": server.url}),
                "known": {**flow(users), "listeners": ["other"]},
            },
            "workers": workers,
            "prometheus": {"portNumber": port},
            "listeners": [
                {"name": "smtp", "port": free_port(), "lmtp": lmtp},
                {"name": "other", "port": free_port(), "allowInsecureAuth": True, "authOptional": False},
            ],
        },
        size=10_000,
    )
    hello = "LHLO" if lmtp else "EHLO"
    mail, rcpt = "MAIL FROM:<a@client.example>", "RCPT TO:<b@server.example>"
    server.answer = Says(403)
    with Wire(relay.port) as wire:
        wire.greet(verb=hello)
        said = [wire.command(line).code for line in ("MAIL FROM:<x@client.example>", f"{mail} SIZE=20000")]
        assert said == [550, 552]
        said = [wire.command(line).code for line in (mail, "RCPT TO:<x@server.example>", rcpt, "DATA")]
        assert said == [250, 550, 250, 354]
        wire.send(MAIL + b".\r\n")
        assert wire.reply().code == 550
        server.answer = Says(503)
        assert [wire.command(line).code for line in (mail, rcpt, "DATA")] == [250, 250, 354]
        wire.send(MAIL + b".\r\n")
        assert wire.reply().code == 451
    with Wire(relay.config["listeners"][1]["port"]) as wire:
        wire.greet()
        token = base64.b64encode(b"\0u\0p").decode()
        said = [wire.command(line).code for line in (mail, f"AUTH PLAIN {token}", mail)]
        assert said == [530, 235, 250]
    found = scrape(port)
    assert of(found, "smtp_relay_emails_total", flow="", status="rejected", output="") == 4
    assert of(found, "smtp_relay_emails_total", flow="", status="deferred", output="") == 1
    assert of(found, "smtp_relay_stage_duration_seconds_count", stage="auth") == 1
    told = [line for line in relay.log().splitlines() if "mail not taken" in line]
    assert [line.partition(" at=")[2].partition(" ")[0] for line in told] == [
        "mail",
        "mail",
        "rcpt",
        "data",
        "data",
    ]
    assert all("ip=127.0.0.1" in line and "from_domain=client.example" in line for line in told)
    assert "to_domain=server.example" in told[2]
    assert 'reply="550 5.7.1 No mail is accepted for this recipient"' in told[2]
    assert "a@client.example" not in relay.log()


def test_clients_that_are_turned_away_are_counted_and_told(running: RelayFor) -> None:
    port = free_port()
    relay = running(
        {
            "flows": {"in": flow({"type": "whitelist", "ips": ["192.0.2.1"]})},
            "prometheus": {"portNumber": port},
            "options": {"useProxy": ["127.0.0.1"]},
        }
    )
    for octets in (b"PROXY TCP4 192.0.2.9 192.0.2.8 1 2\r\n", b"PROXY UNKNOWN\r\n", b"EHLO x\r\n"):
        with Wire(relay.port) as wire:
            wire.send(octets)
            assert wire.rest()[:3] in (b"554", b"")
    with Wire(relay.port) as wire:
        # One hello may follow the header at once, because the checks of HAProxy send it so.
        wire.send(b"PROXY TCP4 192.0.2.1 192.0.2.8 1 2\r\nEHLO x\r\nNOOP\r\n")
        assert wire.rest().startswith(b"554 5.5.1 ")
    found = scrape(port)
    refused = {dict(labels)["reason"]: value for (name, labels), value in found.items() if "refused" in name}
    assert refused == {"filters": 2, "proxy": 1, "early": 1}
    assert relay.log().count("client turned away") == 3
    assert "ip=192.0.2.9" in relay.log()


def test_the_backlog_is_that_of_all_parts(new_relay: RelayFor) -> None:
    """After several workers, one process owns all of their parts."""
    port = free_port()
    away = {"type": "mailer", "nodemailer": {"host": HOST, "port": free_port()}}
    relay = new_relay(
        {
            "flows": {"in": {**flow(), "outputs": [away]}},
            "workers": 3,
            "prometheus": {"portNumber": port},
            "delivery": {"retry": {"first": 600_000, "max": 600_000}},
        }
    ).start()
    for _ in range(24):
        send(relay)
    parts = [part for part in relay.spool.glob("part-*") if part.is_dir()]
    assert len(parts) == 3
    assert relay.stop() == 0
    relay.config["workers"] = 1
    relay.start()
    name = "smtp_relay_unfinished_mails"
    wait_until(lambda: of(scrape(port), name) == 24, seconds=20, what="the count of all parts")
    assert of(scrape(port), "smtp_relay_oldest_unfinished_seconds") < 60
    assert relay.stop() == 0


@pytest.mark.slow
def test_health_tells_of_a_worker_that_hangs_and_of_one_that_died(running: RelayFor) -> None:
    port = free_port()
    one = flow({"type": "http-filter", "url": "http://127.0.0.1:1/"})
    relay = running({"flows": {"in": one}, "workers": 2, "health": {"portNumber": port}})

    def status(path: str = "/healthz") -> int:
        return httpx.get(f"http://{HOST}:{port}{path}", timeout=30).status_code

    wait_until(lambda: status("/readyz") == 200, seconds=90, what="readiness")
    workers = [pid for pid in tree(relay.pid) if pid != relay.pid and is_listening(pid, relay.port)]
    os.kill(workers[0], signal.SIGSTOP)
    try:
        wait_until(lambda: status() == 503, seconds=90, what="the hung worker to be seen")
    finally:
        os.kill(workers[0], signal.SIGCONT)
    wait_until(lambda: status() == 200, seconds=90, what="the worker to come back")
    os.kill(workers[0], signal.SIGKILL)
    wait_until(lambda: status() == 200, seconds=90, what="another worker")
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
