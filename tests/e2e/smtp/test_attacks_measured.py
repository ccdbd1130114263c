"""The cost of refused strangers' attacks for the other clients: the 99th percentile of an ordinary
client's mails, and the memory of all processes of the server (`pytest -s` prints the figures)."""

from __future__ import annotations

import base64
import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import argon2
import pytest

from tests.support.clients.innocent import Memory, Ordinary, report
from tests.support.net import HOST, wait_until
from tests.support.servers.relay import Relay, flow

Make = Callable[..., Relay]

MEBIBYTE: Final = 1_048_576
ATTACKER: Final = "127.0.0.66"
HELLO: Final = b"HELO stranger.example\r\n"
GUESS: Final = b"AUTH PLAIN " + base64.b64encode(b"\0bob\0wrong") + b"\r\n"


@dataclass(frozen=True)
class Attack:
    """`sends` goes over each of `clients` connections, again and again."""

    name: str
    sends: bytes
    clients: int
    memory: int
    """Bytes that all processes may use more meanwhile."""
    options: dict[str, Any] = field(default_factory=dict)


ATTACKS: Final = [
    Attack(
        "recipients that are refused",
        HELLO
        + (b"MAIL FROM:<a@b.example>\r\n" + b"RCPT TO:<x@elsewhere.example>\r\n" * 20 + b"RSET\r\n") * 10,
        20,
        16 * MEBIBYTE,
    ),
    # Two checks of 64 MiB are in hand at a time.
    Attack("guesses of passwords", HELLO + GUESS, 100, 192 * MEBIBYTE),
    Attack("connections that come and go", b"QUIT\r\n", 20, 16 * MEBIBYTE, {"maxConnectionRate": 300}),
    Attack("PROXY headers", b"PROXY TCP4 192.0.2.7 198.51.100.1 1 25\r\nQUIT\r\n", 20, 16 * MEBIBYTE),
]


@contextlib.contextmanager
def under(relay: Relay, attack: Attack) -> Iterator[None]:
    """Strangers of another address attack meanwhile."""
    ended = threading.Event()
    began = threading.Semaphore(0)

    def run() -> None:
        first = True
        while not ended.is_set():
            with (
                contextlib.suppress(OSError),
                socket.create_connection((HOST, relay.port), 30, source_address=(ATTACKER, 0)) as client,
            ):
                client.sendall(attack.sends)
                if first:
                    began.release()
                    first = False
                client.shutdown(socket.SHUT_WR)
                while not ended.is_set() and client.recv(65_536):
                    pass

    threads = [threading.Thread(target=run, daemon=True) for _ in range(attack.clients)]
    for thread in threads:
        thread.start()
    try:
        for _ in threads:
            assert began.acquire(timeout=30)
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join(40)


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_an_ordinary_client_is_served_meanwhile(new_relay: Make, attack: Attack) -> None:
    users = {"type": "static-auth", "users": {"bob": argon2.PasswordHasher().hash("secret")}}
    ordinary = {"type": "whitelist", "ips": [HOST], "to": ["b@server.example"]}
    config = {
        "flows": {"in": flow(ordinary, users, operator="OR")},
        "spool": {"url": "file://{folder}/spool", "durability": "none"},
        "loggers": [{"type": "FILE", "filepath": "{folder}/relay.log"}],
    }
    relay = new_relay(config, allowInsecureAuth=True, **attack.options).start()
    alone = Ordinary(relay)
    alone.send(30)
    memory = Memory(relay)
    beside = Ordinary(relay)
    with under(relay, attack):
        beside.send(60)
    report(attack.name, beside, memory)
    assert set(beside.codes) == {250}
    # Other work of the machine slows mails down without any attack as well.
    assert beside.p99 < max(0.5, 20 * alone.p99), f"{beside.p99:.2f} s, alone {alone.p99:.2f} s"
    assert memory.grown < attack.memory, f"{memory.grown / MEBIBYTE:.0f} MiB"
    wait_until(lambda: len(relay.files()) == 90, seconds=20, what="all mails")
