"""Strangers can write few lines into the log, whatever they do; the log has a count of the rest."""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Callable
from typing import Any, Final

import pytest

from tests.support.clients.attack import attack
from tests.support.clients.wire import Wire
from tests.support.net import HOST, wait_until
from tests.support.servers.relay import Relay, flow

Make = Callable[..., Relay]

HEADERS: Final = {
    1: b"PROXY TCP4 192.0.2.7 198.51.100.1 1 25\r\n",
    2: b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c" + bytes(12),
}


@pytest.fixture
def one_recipient(new_relay: Make) -> Make:
    def make(config: dict[str, Any] | None = None, **options: Any) -> Relay:
        flows = {"in": flow({"type": "whitelist", "to": ["b@server.example"]})}
        return new_relay({"flows": flows, **(config or {})}, **options).start()

    return make


def told(relay: Relay, words: str) -> list[str]:
    return [line for line in relay.log().splitlines() if words in line]


def value(line: str, key: str) -> int:
    found = re.search(rf" {key}=([0-9]+)", line)
    assert found is not None, line
    return int(found[1])


def test_a_mail_has_one_line_for_its_refused_recipients(one_recipient: Make) -> None:
    relay = one_recipient()
    with Wire(relay.port) as wire:
        wire.greet()
        assert wire.command("MAIL FROM:<a@client.example>").code == 250
        assert wire.command("RCPT TO:<b@server.example>").code == 250
        for number in range(15):
            assert wire.command(f"RCPT TO:<x@n{number}.example>").code == 550
        assert wire.command("DATA").code == 354
        wire.send(b"a: b\r\n.\r\n")
        assert wire.reply().code == 250
        assert wire.command("QUIT").code == 221
    wait_until(lambda: bool(told(relay, "mail not taken")), seconds=5, what="the line")
    (line,) = told(relay, "mail not taken")
    assert "at=rcpt" in line
    assert (value(line, "refused"), value(line, "deferred")) == (15, 0)
    assert 'reply="550 ' in line
    assert "n0.example" in line
    assert "n9.example" in line
    assert "n10.example" not in line
    assert len(told(relay, "mail accepted")) == 1


@pytest.mark.parametrize("end", [b"RSET\r\n", b"EHLO client.example\r\n", b"QUIT\r\n", b""])
def test_a_mail_that_is_given_up_has_its_line(one_recipient: Make, end: bytes) -> None:
    relay = one_recipient()
    with Wire(relay.port) as wire:
        wire.greet()
        assert wire.command("MAIL FROM:<a@client.example>").code == 250
        assert wire.command("RCPT TO:<x@elsewhere.example>").code == 550
        wire.send(end)
        if end:
            assert wire.reply().code in (221, 250)
    wait_until(lambda: bool(told(relay, "mail not taken")), seconds=5, what="the line")
    assert len(told(relay, "mail not taken")) == 1


def test_refused_recipients_cost_less_log_than_they_send(one_recipient: Make) -> None:
    relay = one_recipient()
    sent = 0
    with attack(relay, seconds=30, ordinary=0):
        before = relay.output.stat().st_size
        for _ in range(60):
            with Wire(relay.port) as wire:
                wire.greet()
                for _ in range(10):
                    mail = b"MAIL FROM:<a@b.c>\r\n" + b"RCPT TO:<x@e.f>\r\n" * 20 + b"RSET\r\n"
                    with contextlib.suppress(OSError):
                        wire.send(mail)
                        sent += len(mail)
                with contextlib.suppress(OSError):
                    wire.socket.shutdown(socket.SHUT_WR)
                    wire.rest()
    written = relay.output.stat().st_size - before
    assert written < sent / 4, f"{written} bytes of log for {sent} bytes"


def test_lines_that_are_left_out_are_counted(one_recipient: Make) -> None:
    relay = one_recipient(maxRefusalLines=5)
    with Wire(relay.port) as wire:
        wire.greet()
        for _ in range(20):
            assert wire.command("MAIL FROM:<a@client.example>").code == 250
            assert wire.command("RCPT TO:<x@elsewhere.example>").code == 550
            assert wire.command("RSET").code == 250
    assert len(told(relay, "mail not taken id=")) == 5
    relay.stop()
    (line,) = told(relay, "more lines of one kind were left out")
    assert f"ip={HOST}" in line
    assert 'kind="mail not taken"' in line
    assert value(line, "times") == 15


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(
    "options", [{}, {"useProxy": ["203.0.113.0/24"]}, {"secure": True}, {"lmtp": True}], ids=str
)
def test_a_proxy_header_that_is_not_trusted_is_told_once_and_counted(
    new_relay: Make, version: int, options: dict[str, Any]
) -> None:
    relay = new_relay(**options).start()
    for _ in range(7):
        with socket.create_connection((HOST, relay.port), timeout=10) as client:
            client.sendall(HEADERS[version])
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_WR)
                while client.recv(4096):
                    pass
    wait_until(lambda: bool(told(relay, "PROXY header")), seconds=5, what="the line")
    (line,) = told(relay, "PROXY header from an address that useProxy does not list")
    assert f"ip={HOST}" in line
    assert "WARN" in line
    relay.stop()
    lines = [line for line in told(relay, "more lines of one kind") if "PROXY header" in line]
    assert [value(line, "times") for line in lines] == [6]
