"""DSN parameters (RFC 3461): their syntax, and that they are known only if announced."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.clients.wire import Wire
from tests.support.servers.relay import Relay

Make = Callable[..., Relay]


@pytest.fixture
def relay(relay_for: Make) -> Relay:
    return relay_for(dsn=True)


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ("RET=FULL", 250),
        ("RET=hdrs ENVID=QQ314159", 250),
        ("ENVID=a+2Bb+20c", 250),
        ("ENVID=" + "x" * 100, 250),
        ("ENVID=" + "x" * 101, 501),
        ("ENVID=a+0Ab", 501),
        ("ENVID=a+GG", 501),
        ("ENVID=+", 501),
        ("ENVID", 501),
        ("RET=HALF", 501),
        ("RET", 501),
        ("RET=FULL RET=FULL", 501),
        ("NOTIFY=NEVER", 555),
    ],
)
def test_of_mail(relay: Relay, parameters: str, code: int) -> None:
    with Wire(relay.port) as wire:
        assert "DSN" in wire.greet().lines
        reply = wire.command(f"MAIL FROM:<a@client.example> {parameters}")
        assert reply.code == code, reply


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ("NOTIFY=NEVER", 250),
        ("notify=success,failure,delay", 250),
        ("NOTIFY=FAILURE ORCPT=rfc822;bob@server.example", 250),
        ("ORCPT=rfc822;bob+2Btag@server.example", 250),
        ("ORCPT=utf-8;b\\x{F6}b@server.example", 250),
        ("ORCPT=x400;/c=de", 501),
        ("NOTIFY=NEVER,SUCCESS", 501),
        ("NOTIFY=SUCCESS,", 501),
        ("NOTIFY=", 501),
        ("NOTIFY", 501),
        ("NOTIFY=SOMETIMES", 501),
        ("NOTIFY=NEVER NOTIFY=NEVER", 501),
        ("ORCPT=bob@server.example", 501),
        ("ORCPT=rfc822;", 501),
        ("ORCPT=;x", 501),
        ("ORCPT=rfc822;a+0Db", 501),
        ("ORCPT=rfc822;" + "x" * 494, 501),
        ("RET=FULL", 555),
    ],
)
def test_of_rcpt(relay: Relay, parameters: str, code: int) -> None:
    with Wire(relay.port) as wire:
        wire.greet()
        assert wire.command("MAIL FROM:<a@client.example>").code == 250
        reply = wire.command(f"RCPT TO:<bob@server.example> {parameters}")
        assert reply.code == code, reply


@pytest.mark.parametrize("options", [{}, {"dsn": True, "hideDSN": True}])
def test_not_announced_not_known(relay_for: Make, options: dict[str, bool]) -> None:
    with Wire(relay_for(**options).port) as wire:
        assert "DSN" not in wire.greet().lines
        assert wire.command("MAIL FROM:<a@client.example> RET=FULL").code == 555
        assert wire.command("MAIL FROM:<a@client.example>").code == 250
        assert wire.command("RCPT TO:<b@server.example> NOTIFY=NEVER").code == 555


def test_not_after_helo(relay: Relay) -> None:
    with Wire(relay.port) as wire:
        wire.greet(verb="HELO")
        assert wire.command("MAIL FROM:<a@client.example> RET=FULL").code == 501
