"""Clients' names through a running relay, with a name server that is slow, silent or lying."""

from __future__ import annotations

import re
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.clients.wire import Wire
from tests.support.net import HOST
from tests.support.servers.dns_server import DnsServer
from tests.support.servers.relay import Relay, flow

IP: Final = "192.0.2.7"
POINTER: Final = "7.2.0.192.in-addr.arpa"
NAME: Final = "mail.client.example"
GOOD: Final[Mapping[str, Any]] = {POINTER: {"PTR": [NAME]}, NAME: {"A": [IP]}}
SILENT: Final[Mapping[str, Any]] = {POINTER: {"PTR": "TIMEOUT"}}
LYING: Final[Mapping[str, Any]] = {POINTER: {"PTR": [NAME]}, NAME: {"A": ["198.51.100.1"]}}

BY_ADDRESS: Final = {"type": "whitelist", "ips": [IP, HOST]}
BY_NAME: Final = {"type": "whitelist", "domains": [NAME]}

_CODE: Final = """
import sys
import listener.server.generation
from listener.cli.main import main
from listener.mailauth.dns.client import DnsResolver
port, config = int(sys.argv[1]), sys.argv[2]
listener.server.generation.system_resolver = lambda: DnsResolver(["127.0.0.1"], port, timeout=2.5)
sys.exit(main(["serve", config]))
"""


class Dns(DnsServer):
    """Answers while `gate` is open."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.gate = threading.Event()
        self.gate.set()

    def _answers(self, data: bytes, transport: str) -> list[tuple[float, bytes]]:
        self.gate.wait(5)
        return super()._answers(data, transport)


class NamedRelay(Relay):
    """A relay that asks the test's name server, about the client that the PROXY header names."""

    def __init__(self, folder: Path, dns: Dns, who: Mapping[str, Any], **options: Any) -> None:
        options = {"disableReverseLookup": False, "useProxy": True, **options}
        super().__init__(folder, {"flows": {"in": flow(who)}}, **options)
        self._dns = dns

    def command(self) -> Sequence[str]:
        super().command()
        return [sys.executable, "-c", _CODE, str(self._dns.port), str(self.path)]

    def connect(self, ip: str = IP) -> Wire:
        """A client at that address."""
        wire = Wire(self.port)
        wire.send(f"PROXY TCP4 {ip} 127.0.0.1 4000 25\r\n".encode())
        return wire

    def client(self) -> str:
        """The client as the only mail's Received field names it."""
        (mail,) = self.mails()
        match = re.search(rb"\r\nReceived: from client\.example \((.*)\)\r\n", mail)
        assert match is not None
        return match[1].decode()


@pytest.fixture
def dns() -> Iterator[Dns]:
    with Dns(GOOD, ttl=60) as server:
        yield server


@pytest.fixture
def relays(tmp_path: Path, dns: Dns) -> Iterator[Any]:
    made: list[NamedRelay] = []

    def start(who: Mapping[str, Any], **options: Any) -> NamedRelay:
        made.append(NamedRelay(tmp_path / f"relay-{len(made)}", dns, who, **options))
        made[-1].start()
        return made[-1]

    yield start
    for relay in made:
        assert "Traceback" not in relay.log()
        relay.kill()


def deliver(wire: Wire) -> None:
    wire.envelope()
    wire.send(b"a: b\r\n\r\nx\r\n.\r\n")
    assert wire.reply().code == 250


@pytest.mark.parametrize(("zone", "name"), [(GOOD, f"{NAME} [{IP}]"), (LYING, f"[{IP}]"), ({}, f"[{IP}]")])
def test_no_client_waits_for_a_name_that_no_filter_reads(
    relays: Any, dns: Dns, zone: Mapping[str, Any], name: str
) -> None:
    dns.zone = zone
    relay = relays(BY_ADDRESS)
    dns.gate.clear()
    with relay.connect() as wire:
        wire.greet()
        assert wire.command("MAIL FROM:<a@client.example>").code == 250
        assert wire.command("RCPT TO:<b@server.example>").code == 250
        wire.send(b"DATA\r\n")
        # The mail itself will show it.
        assert wire.silent(seconds=0.2)
        dns.gate.set()
        assert wire.reply().code == 354
        wire.send(b"a: b\r\n\r\nx\r\n.\r\n")
        assert wire.reply().code == 250
    assert relay.client() == name


def test_a_silent_name_server_holds_a_mail_up_for_seconds_only(relays: Any, dns: Dns) -> None:
    dns.zone = SILENT
    relay = relays(BY_ADDRESS)
    with relay.connect() as wire:
        began = time.monotonic()
        wire.greet()
        deliver(wire)
        assert time.monotonic() - began < 7
    assert relay.client() == f"[{IP}]"


@pytest.mark.parametrize(("zone", "code"), [(GOOD, 220), (LYING, 554), (SILENT, 421), ({}, 554)])
def test_filters_by_name_get_the_name(relays: Any, dns: Dns, zone: Mapping[str, Any], code: int) -> None:
    dns.zone = zone
    relay = relays(BY_NAME)
    with relay.connect() as wire:
        began = time.monotonic()
        assert wire.reply().code == code
        assert time.monotonic() - began < 7


def test_early_talkers(relays: Any, dns: Dns) -> None:
    """A client that speaks during its lookup has not waited for the greeting."""
    relay = relays(BY_NAME)
    dns.gate.clear()
    with relay.connect() as wire:
        # One hello may follow the PROXY header of this connection at once.
        wire.send(b"EHLO client.example\r\nNOOP\r\n")
        assert wire.silent(seconds=0.2)
        dns.gate.set()
        assert wire.rest() == b"554 5.5.1 You spoke before the greeting\r\n"
    with relay.connect() as wire:
        assert wire.greet().code == 250


def test_gone_while_being_looked_up(relays: Any, dns: Dns) -> None:
    relay = relays(BY_NAME)
    dns.gate.clear()
    for _ in range(5):
        relay.connect().socket.close()
        with relay.connect() as wire:
            wire.send(b"x" * 100)
    with relay.connect() as wire:
        dns.gate.set()
        assert wire.greet().code == 250


@pytest.mark.parametrize("options", [{"disableReverseLookup": True}, {"useProxy": False}])
def test_no_name_server_is_asked(relays: Any, dns: Dns, options: Mapping[str, Any]) -> None:
    """If it is off; and for this machine's own clients, which are `localhost`."""
    relay = relays(BY_ADDRESS, **options)
    with relay.connect() if options.get("useProxy", True) else Wire(relay.port) as wire:
        wire.greet()
        deliver(wire)
    assert dns.queries == []
    assert relay.client() == (f"[{IP}]" if "disableReverseLookup" in options else "localhost [127.0.0.1]")


def test_xclient_tells_the_name(relays: Any, dns: Dns) -> None:
    relay = relays(BY_ADDRESS, useProxy=False, useXClient=True)
    for line, name in (
        (f"XCLIENT ADDR={IP} NAME=told.client.example", f"told.client.example [{IP}]"),
        (f"XCLIENT ADDR={IP} NAME=[UNAVAILABLE]", f"[{IP}]"),
    ):
        with Wire(relay.port) as wire:
            wire.greet()
            assert wire.command(line).code == 220
            wire.command("EHLO client.example")
            deliver(wire)
        assert relay.client() == name
        relay.forget()
    assert dns.queries == []
    with Wire(relay.port) as wire:
        wire.greet()
        assert wire.command(f"XCLIENT ADDR={IP}").code == 220
        wire.command("EHLO client.example")
        deliver(wire)
    assert relay.client() == f"{NAME} [{IP}]", "it was not told, and looked up"
