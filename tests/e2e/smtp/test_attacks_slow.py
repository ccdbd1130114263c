"""Clients that are slow, silent, half gone or gone, in each phase of a connection. test_attacks.py
lists the checks around each."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import pytest

from tests.support.clients.attack import attack
from tests.support.clients.slow import drip
from tests.support.clients.tls import starttls, trusting
from tests.support.clients.wire import Wire
from tests.support.servers.relay import Relay

Make = Callable[..., Relay]

IMPATIENT: Final[Mapping[str, Any]] = {"socketTimeout": 1500, "closeTimeout": 1500, "minDataRate": 1000}
"""Bytes of these tests come ten a second."""


def _hello() -> bytes:
    """The first flight of a TLS handshake."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = trusting().wrap_bio(incoming, outgoing, server_hostname="mx.server.example")
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


@dataclass(frozen=True)
class PhaseRow:
    """The client's phase, its next bytes, and the reply in the end."""

    name: str
    enter: Callable[[Wire], object]
    octets: bytes
    told: bytes = b"421 4.4.2 "
    options: Mapping[str, Any] = field(default_factory=dict)
    takes_ours: bool = True


def _said(*lines: str) -> Callable[[Wire], None]:
    def enter(wire: Wire) -> None:
        wire.greet()
        for line in lines:
            assert wire.command(line).code < 400

    return enter


def _over_tls(wire: Wire) -> None:
    wire.greet()
    starttls(wire)
    wire.command("EHLO client.example")


def _body(wire: Wire) -> None:
    wire.begin()
    wire.send(b"a: b\r\n\r\nsome of the body\r\n")


def _nothing(wire: Wire) -> None:
    """From the first byte."""


MAIL: Final = "MAIL FROM:<a@client.example>"
RCPT: Final = "RCPT TO:<b@server.example>"
V2: Final = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x0f\x00" + bytes(500)

PHASES: Final = [
    PhaseRow("the hello", lambda wire: wire.reply(), b"EHLO " + b"x" * 200),
    PhaseRow("a command", _said(), b"NOOP" + b" " * 200),
    PhaseRow("AUTH", _said("AUTH LOGIN"), b"QUFB" * 50, options={"allowInsecureAuth": True}),
    PhaseRow("RCPT", _said(MAIL), b"RCPT TO:<" + b"x" * 200),
    PhaseRow("DATA", _said(MAIL, RCPT), b"DATA" + b" " * 200),
    PhaseRow("the header", lambda wire: wire.begin(), b"Subject: x" + b"y" * 200),
    PhaseRow("the body", _body, b"x" * 70 + b"\r\n"),
    PhaseRow("the end", _body, b"\r\n..x"),
    PhaseRow("the PROXY header", _nothing, b"PROXY TCP4 192.0.2.7 19", b"", {"useProxy": True}, False),
    PhaseRow("the PROXY header 2", _nothing, V2, b"", {"useProxy": True}, False),
    PhaseRow("the TLS handshake", _nothing, _hello(), b"", {"secure": True}, False),
    PhaseRow("STARTTLS", _said("STARTTLS"), _hello(), b""),
    PhaseRow("a command over TLS", _over_tls, b"NOOP" + b" " * 200),
]


@pytest.mark.parametrize("phase", PHASES, ids=lambda phase: phase.name)
class TestEachPhase:
    @pytest.fixture
    def relay(self, relay_for: Make, phase: PhaseRow) -> Relay:
        return relay_for(**IMPATIENT, **phase.options)

    def test_a_byte_now_and_then(self, relay: Relay, phase: PhaseRow) -> None:
        with self.attack(relay, phase), Wire(relay.port) as wire:
            phase.enter(wire)
            seconds, heard = drip(wire, phase.octets, most=10)
            assert seconds > 1
            assert heard.startswith(phase.told) if phase.told else heard == b"", heard

    def test_silence(self, relay: Relay, phase: PhaseRow) -> None:
        with self.attack(relay, phase), Wire(relay.port) as wire:
            phase.enter(wire)
            wire.send(phase.octets[:3])
            rest = wire.rest(seconds=10)
            assert rest.startswith(phase.told) if phase.told else rest == b"", rest

    @pytest.mark.parametrize("how", ["close", "reset", "half-close"])
    @pytest.mark.parametrize("cut", [0, 1, 20])
    def test_gone(self, relay: Relay, phase: PhaseRow, how: str, cut: int) -> None:
        with self.attack(relay, phase):
            for _ in range(5):
                with Wire(relay.port) as wire:
                    phase.enter(wire)
                    wire.send(phase.octets[:cut])
                    self.leave(wire, how)
                    if how == "half-close":
                        began = time.monotonic()
                        wire.rest(seconds=10)
                        assert time.monotonic() - began < 1, "it is hung up on at once"
        # The partial mail did not become a mail.
        assert all(b"still serving" in mail for mail in relay.mails())

    @staticmethod
    def attack(relay: Relay, phase: PhaseRow) -> contextlib.AbstractContextManager[None]:
        return attack(relay, seconds=12, ordinary=None if phase.takes_ours else 0)

    @staticmethod
    def leave(wire: Wire, how: str) -> None:
        if how == "reset":
            wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if how == "half-close":
            # Of the TCP connection, as a dying client would, not of TLS.
            socket.socket.shutdown(wire.socket, socket.SHUT_WR)
        else:
            wire.socket.close()


def test_a_hundred_slow_ones_delay_no_client(relay_for: Make) -> None:
    relay = relay_for()
    with attack(relay, seconds=30), contextlib.ExitStack() as stack:
        for wire in crowd(relay, stack, 100):
            wire.begin()
            wire.send(b"a: b\r\n\r\nhalf a")
        began = time.monotonic()
        with Wire(relay.port) as wire:
            wire.begin()
            wire.send(b"a: b\r\n.\r\n")
            assert wire.reply().code == 250
        assert time.monotonic() - began < 1


def crowd(relay: Relay, stack: contextlib.ExitStack, count: int) -> Iterator[Wire]:
    """So many connections, open until the stack is left."""
    for _ in range(count):
        yield stack.enter_context(Wire(relay.port))


def test_a_client_that_never_closes(relay_for: Make) -> None:
    """The server ends the connection, the client stays: the server waits for it, but not for ever."""
    relay = relay_for(**IMPATIENT)
    with attack(relay, seconds=15), Wire(relay.port) as wire:
        wire.reply()
        wire.send(b"x" * 70_000)
        assert wire.reply().code == 500
        deadline = time.monotonic() + 10
        with contextlib.suppress(OSError):
            while time.monotonic() < deadline:
                wire.send(b"x" * 100)
                time.sleep(0.05)
        assert time.monotonic() < deadline, "it could send on and on"
