"""Fair turns: what an attack costs the other clients. Each test prints the 99th percentile of an ordinary
client's mails and the memory of all processes of the server (`pytest -s`)."""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Callable
from typing import Any, Final

import pytest

from tests.support.clients.flood import flood
from tests.support.clients.innocent import Memory, Ordinary, report
from tests.support.net import HOST, free_port
from tests.support.servers.relay import Relay, flow

Make = Callable[..., Relay]

MEBIBYTE: Final = 1_048_576
HELLO: Final = b"EHLO client.example\r\n"
SENDER: Final = b"MAIL FROM:<a@client.example>\r\n"

ONE_SENDER: Final = {"type": "whitelist", "from": ["a@client.example"]}
SOME: Final = {"type": "whitelist", "to": ["regexp:.*@server\\.example"]}
USERS: Final = {"type": "static-auth", "username": "user", "password": "plain:secret"}

FLOODS: Final = {
    "accepted recipients": HELLO
    + b"".join(
        SENDER + b"".join(b"RCPT TO:<u%d@server.example>\r\n" % number for number in range(900)) + b"RSET\r\n"
        for _ in range(5)
    ),
    "refused recipients": HELLO
    + SENDER
    + b"".join(b"RCPT TO:<u%d@elsewhere.example>\r\n" % number for number in range(2_000)),
    "an accepted recipient and refused ones": HELLO
    + SENDER
    + b"RCPT TO:<b@server.example>\r\n"
    + b"".join(b"RCPT TO:<u%d@elsewhere.example>\r\n" % number for number in range(2_000)),
    "commands that do nothing": HELLO * 50 + b"NOOP\r\n" * 500,
    "AUTH that is given up": HELLO + b"AUTH LOGIN\r\n*\r\n" * 500,
    "mails": HELLO
    + (SENDER + b"RCPT TO:<b@server.example>\r\nDATA\r\na: b\r\n\r\n" + b"x" * 70 + b"\r\n.\r\nRSET\r\n")
    * 200,
}


def healthz(port: int) -> float:
    """How many seconds /healthz took to answer 200."""
    began = time.perf_counter()
    with urllib.request.urlopen(f"http://{HOST}:{port}/healthz", timeout=5) as answer:
        assert answer.status == 200
    return time.perf_counter() - began


@pytest.fixture
def relay_with_health(new_relay: Make) -> Callable[..., tuple[Relay, int]]:
    def make(**options: Any) -> tuple[Relay, int]:
        port = free_port()
        config = {
            "spool": {"url": "file://{folder}/spool", "durability": "none"},
            "health": {"portNumber": port, "bind": HOST},
            "loggers": [{"type": "FILE", "filepath": "{folder}/relay.log"}],
            "flows": {"in": flow(SOME)},
        }
        return new_relay(config, allowInsecureAuth=True, **options).start(), port

    return make


@pytest.mark.parametrize("name", FLOODS)
def test_forty_clients_that_pipeline_hold_up_no_other(
    relay_with_health: Callable[..., tuple[Relay, int]], name: str
) -> None:
    relay, health = relay_with_health()
    quiet = Ordinary(relay)
    quiet.send(50)
    memory, ordinary = Memory(relay), Ordinary(relay)
    with flood(relay.port, 40, FLOODS[name]):
        time.sleep(1)
        answers = []
        for _ in range(10):
            ordinary.send(10)
            answers.append(healthz(health))
        report(name, ordinary, memory)
    assert ordinary.codes == [250] * 100
    assert ordinary.p99 < 0.2 + quiet.p99, f"p99 {ordinary.p99:.3f} s"
    assert max(answers) < 1.0
    assert memory.grown < 64 * MEBIBYTE
