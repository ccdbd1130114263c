"""LMTP (RFC 2033): its hello, and a reply for each recipient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pytest

from tests.support.clients.tls import starttls
from tests.support.clients.wire import Wire
from tests.support.servers.endpoint import Asked, Endpoint, Says, endpoint
from tests.support.servers.relay import Relay, flow

Make = Callable[..., Relay]

MAIL: Final = b"a: b\r\n\r\nx\r\n.\r\n"


@pytest.fixture
def relay(relay_for: Make) -> Relay:
    return relay_for(lmtp=True)


def test_the_greeting_and_the_hello(relay: Relay) -> None:
    with Wire(relay.port) as wire:
        assert "LMTP" in wire.reply().text
        assert wire.command("HELO client.example").code in (500, 502)
        assert wire.command("EHLO client.example").code in (500, 502)
        assert wire.command("MAIL FROM:<a@client.example>").code == 503
        offers = wire.command("LHLO client.example").lines
        # RFC 2033 section 4.2 asks for these two.
        assert {"PIPELINING", "ENHANCEDSTATUSCODES"} <= set(offers)


def test_smtp_knows_no_lhlo(relay_for: Make) -> None:
    with Wire(relay_for().port) as wire:
        wire.reply()
        assert wire.command("LHLO client.example").code == 500


@pytest.mark.parametrize("count", [1, 2, 5, 100])
def test_a_reply_for_each_recipient(relay: Relay, count: int) -> None:
    with Wire(relay.port) as wire:
        wire.greet(verb="LHLO")
        wire.envelope("a@client.example", *(f"u{number}@server.example" for number in range(count)))
        wire.send(MAIL)
        replies = [wire.reply() for _ in range(count)]
        assert {reply.code for reply in replies} == {250}
        assert wire.command("NOOP").code == 250, "no reply too many"
    (mail,) = relay.mails()
    assert b" with LMTP id " in mail


def test_a_recipient_named_twice_gets_two(relay: Relay) -> None:
    with Wire(relay.port) as wire:
        wire.greet(verb="LHLO")
        wire.envelope("a@client.example", "b@server.example", "b@server.example")
        wire.send(MAIL + b"NOOP\r\n")
        assert [wire.reply().code for _ in range(3)] == [250, 250, 250]
        assert wire.silent()


def test_refused_recipients_get_none(relay_for: Make) -> None:
    only = {"type": "whitelist", "to": ["good@server.example"]}
    relay = relay_for({"flows": {"in": flow(only)}}, lmtp=True)
    with Wire(relay.port) as wire:
        wire.greet(verb="LHLO")
        wire.command("MAIL FROM:<a@client.example>")
        codes = [wire.command(f"RCPT TO:<{user}@server.example>").code for user in ("bad", "good", "ugly")]
        assert codes == [550, 250, 550]
        assert wire.command("DATA").code == 354
        wire.send(MAIL)
        assert wire.reply().code == 250
        assert wire.command("NOOP").code == 250


def test_no_recipient_is_503(relay_for: Make) -> None:
    """RFC 2033 section 4.2: DATA without an accepted recipient MUST be answered 503."""
    only = {"type": "whitelist", "to": ["good@server.example"]}
    relay = relay_for({"flows": {"in": flow(only)}}, lmtp=True)
    with Wire(relay.port) as wire:
        wire.greet(verb="LHLO")
        wire.send(b"MAIL FROM:<a@client.example>\r\nRCPT TO:<bad@server.example>\r\nDATA\r\n")
        assert [wire.reply().code for _ in range(3)] == [250, 550, 503]


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (b"a: \0\r\n\r\nx\r\n.\r\n", "550 5.6.0"),
        (b"a: b\r\n\r\n" + b"x" * 70_000 + b"\r\n.\r\n", "550 5.6.0"),
    ],
)
def test_a_bad_mail_is_refused_for_each(relay: Relay, fault: bytes, status: str) -> None:
    with Wire(relay.port) as wire:
        wire.greet(verb="LHLO")
        wire.envelope("a@client.example", "b@server.example", "c@server.example")
        wire.send(fault)
        assert [str(wire.reply())[:9] for _ in range(2)] == [status] * 2
        assert wire.command("NOOP").code == 250


@pytest.fixture
def judge() -> Any:
    with endpoint() as made:
        yield made


@pytest.mark.parametrize(
    ("answer", "codes"),
    [
        (
            Says(200, b'{"recipients": ["c@server.example"]}', {"Content-Type": "application/json"}),
            [550, 250, 550],
        ),
        (Says(200), [250, 250, 250]),
        (Says(403), [550, 550, 550]),
        (Says(503), [451, 451, 451]),
    ],
)
def test_each_recipient_is_answered_for_itself(
    relay_for: Make, judge: Endpoint, answer: Says, codes: list[int]
) -> None:
    """A filter that looks at the mail keeps some recipients, or none."""

    def say(_: Asked) -> Says:
        return answer

    judge.answer = say
    relay = relay_for({"flows": {"in": flow({"type": "http-filter", "url": judge.url})}}, lmtp=True)
    with Wire(relay.port) as wire:
        wire.greet(verb="LHLO")
        wire.envelope("a@client.example", "b@server.example", "c@server.example", "d@server.example")
        wire.send(MAIL)
        assert [wire.reply().code for _ in range(3)] == codes
        assert wire.command("NOOP").code == 250


def test_over_tls(relay: Relay) -> None:
    with Wire(relay.port) as wire:
        assert "STARTTLS" in wire.greet(verb="LHLO").lines
        starttls(wire)
        assert wire.command("LHLO client.example").code == 250
        wire.envelope()
        wire.send(MAIL)
        assert wire.reply().code == 250
    assert b" with LMTPS id " in relay.mails()[0]
