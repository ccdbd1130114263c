"""Limits and replies that an option sets to another value than its default (docs/configuration.md)."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from base64 import b64encode
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.clients.wire import Wire
from tests.support.net import free_port, wait_until
from tests.support.servers.endpoint import Endpoint, Says, endpoint
from tests.support.servers.relay import Relay, flow

Make = Callable[..., Relay]

JSON = {"Content-Type": "application/json"}


@pytest.fixture
def judge() -> Iterator[Endpoint]:
    with endpoint() as made:
        yield made


@pytest.mark.parametrize("body", [b"x\r\n", b"y" * 70 + b"\r\n"])
@pytest.mark.parametrize("times", [1, 3000])
def test_max_header_size(relay_for: Make, body: bytes, times: int) -> None:
    """It holds for a small mail, which never leaves memory, and for a large one."""
    relay = relay_for(maxHeaderSize=2000)
    with Wire(relay.port) as wire:
        wire.greet()
        wire.envelope()
        wire.send(b"Subject: " + b"x" * 3000 + b"\r\n\r\n" + body * times + b".\r\n")
        assert str(wire.reply()).startswith("552 5.3.4 ")
        wire.envelope()
        wire.send(b"Subject: " + b"x" * 1500 + b"\r\n\r\n" + body * times + b".\r\n")
        assert wire.reply().code == 250
    assert len(relay.mails()) == 1


def test_max_recipients(relay_for: Make) -> None:
    relay = relay_for(maxRecipients=2)
    with Wire(relay.port) as wire:
        wire.greet()
        wire.command("MAIL FROM:<a@client.example>")
        said = [str(wire.command(f"RCPT TO:<u{number}@server.example>"))[:9] for number in range(4)]
        assert said == ["250 2.1.5", "250 2.1.5", "452 4.5.3", "452 4.5.3"]
        assert wire.command("DATA").code == 354
        wire.send(b"a: b\r\n.\r\n")
        assert wire.reply().code == 250


def test_max_auth_failures(relay_for: Make) -> None:
    users = {"type": "static-auth", "username": "user", "password": "plain:secret"}
    relay = relay_for({"flows": {"in": flow(users)}}, allowInsecureAuth=True, maxAuthFailures=2)
    wrong = b64encode(b"\0user\0wrong").decode()
    with Wire(relay.port) as wire:
        wire.greet()
        assert wire.command(f"AUTH PLAIN {wrong}").code == 535
        assert wire.command(f"AUTH PLAIN {wrong}").code == 535
        assert str(wire.reply()).startswith("421 4.7.0 ")
        assert wire.rest() == b""


@pytest.mark.parametrize("partial", [False, True])
def test_partial_accept(relay_for: Make, judge: Endpoint, partial: bool) -> None:
    """One of two recipients is refused after DATA: either the mail is refused, or a dead record names
    that recipient."""
    judge.answer = Says(200, b'{"recipients": ["c@server.example"]}', JSON)
    config: dict[str, Any] = {"flows": {"in": flow({"type": "http-filter", "url": judge.url})}}
    relay = relay_for(config, partialAccept=partial)
    with Wire(relay.port) as wire:
        wire.greet()
        wire.envelope("a@client.example", "b@server.example", "c@server.example")
        wire.send(b"a: b\r\n\r\nx\r\n.\r\n")
        assert wire.reply().code == (250 if partial else 550)
        # No recipient remains.
        wire.envelope("a@client.example", "b@server.example")
        wire.send(b"a: b\r\n\r\nx\r\n.\r\n")
        assert wire.reply().code == 550
    if not partial:
        assert relay.mails() == []
        assert _dead(relay) == []
        return
    wait_until(lambda: len(relay.files()) == 1, seconds=10, what="the mail")
    (record,) = _dead(relay)
    assert record["recipients"] == ["b@server.example"]
    assert record["code"] == "5.7.1"


def _dead(relay: Relay) -> list[dict[str, Any]]:
    command = [
        sys.executable,
        "-m",
        "listener.cli.main",
        "deadletter",
        "list",
        "--json",
        "-c",
        str(relay.path),
    ]
    said = subprocess.run(command, check=True, capture_output=True, timeout=60, cwd=relay.folder)
    return [json.loads(line) for line in said.stdout.splitlines()]


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("limit", ["maxClients", "maxClientsPerIp"])
def test_a_listener_with_a_limit_of_its_own(new_relay: Make, workers: int, limit: str) -> None:
    """Clients of the other port do not count against it."""
    relay = new_relay({"workers": workers})
    small = free_port()
    relay.config["listeners"] = [{"port": relay.port}, {"port": small, limit: 2}]
    del relay.config["port"], relay.config["bind"]
    relay.start()
    with contextlib.ExitStack() as stack:

        def codes(port: int, count: int) -> list[int]:
            return [stack.enter_context(Wire(port)).reply().code for _ in range(count)]

        assert codes(relay.port, 5) == [220] * 5
        assert codes(small, 4) == [220, 220, 421, 421]
        assert codes(relay.port, 2) == [220, 220]


def test_default_labels_stand_on_every_sample(new_relay: Make) -> None:
    import httpx

    from tests.support.net import HOST

    port = free_port()
    served = {"portNumber": port, "url": "/figures", "defaultLabels": {"site": "eu"}}
    relay = new_relay({"prometheus": served}).start()
    with Wire(relay.port) as wire:
        wire.greet()
    text = httpx.get(f"http://{HOST}:{port}/figures", timeout=20).text
    samples = [line for line in text.splitlines() if line and line[0] != "#"]
    assert samples
    assert all('site="eu"' in line for line in samples)
    assert httpx.get(f"http://{HOST}:{port}/metrics", timeout=20).status_code == 404
