"""PIPELINING (RFC 2920): several commands in one packet, cut anywhere, answered in order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import pytest

from tests.support.clients.splits import send_split
from tests.support.clients.wire import Wire
from tests.support.servers.relay import Relay

TWO_MAILS: Final = (
    b"MAIL FROM:<a@client.example>\r\nRCPT TO:<b@server.example>\r\nDATA\r\n"
    b"Subject: one\r\n\r\n..\r\n.\r\n"
    b"RSET\r\nMAIL FROM:<c@client.example> SIZE=10\r\nRCPT TO:<d@server.example>\r\nDATA\r\n"
    b"Subject: two\r\n\r\n.\r\nNOOP\r\nQUIT\r\n"
)

CODES: Final = [250, 250, 354, 250, 250, 250, 250, 354, 250, 250, 221]


def _codes(wire: Wire, count: int) -> list[int]:
    return [wire.reply().code for _ in range(count)]


def test_two_mails_in_one_packet(relay: Relay) -> None:
    with Wire(relay.port) as wire:
        wire.greet()
        wire.send(TWO_MAILS)
        assert _codes(wire, len(CODES)) == CODES
        assert wire.rest() == b""
    assert len(relay.mails()) == 2


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64])
def test_two_mails_in_small_pieces(relay: Relay, size: int) -> None:
    with Wire(relay.port) as wire:
        wire.greet()
        wire.send(TWO_MAILS, chunks=size)
        assert _codes(wire, len(CODES)) == CODES
    assert sorted(mail[-7:] for mail in relay.mails()) == [b"\r\n\r\n.\r\n", b"two\r\n\r\n"]


def test_two_mails_cut_everywhere(relay: Relay) -> None:
    def check(wire: Wire, cut: int) -> None:
        assert _codes(wire, len(CODES)) == CODES, f"cut at {cut}"

    cuts = range(1, len(TWO_MAILS))
    send_split(relay.port, TWO_MAILS, cuts, lambda wire: wire.greet(), check)
    bodies = [mail.partition(b"Subject: ")[2] for mail in relay.mails()]
    assert sorted(bodies) == [b"one\r\n\r\n.\r\n"] * len(cuts) + [b"two\r\n\r\n"] * len(cuts)


def test_a_refused_command_does_not_stop_the_others(dialogue: Callable[..., None]) -> None:
    dialogue("""
        S: 220 *
        C: EHLO client.example
        S: 250-...
        C: MAIL FROM:<a@client.example>
        C: RCPT TO:<b@server.example
        C: RCPT TO:<c@server.example>
        C: FOO
        C: NOOP
        S: 250 2.1.0 *
        S: 501 5.1.3 *
        S: 250 2.1.5 *
        S: 500 5.5.1 *
        S: 250 2.0.0 *
    """)


def test_data_without_recipients_does_not_eat_commands(dialogue: Callable[..., None]) -> None:
    dialogue("""
        S: 220 *
        C: EHLO client.example
        S: 250-...
        C: MAIL FROM:<a@client.example>
        C: RCPT TO:<>
        C: DATA
        C: RSET
        C: NOOP
        S: 250 2.1.0 *
        S: 501 5.1.3 *
        S: 503 5.5.1 *
        S: 250 2.0.0 *
        S: 250 2.0.0 *
    """)


def test_many_recipients_in_one_packet(relay: Relay) -> None:
    with Wire(relay.port) as wire:
        wire.greet()
        recipients = b"".join(b"RCPT TO:<u%d@server.example>\r\n" % number for number in range(900))
        wire.send(b"MAIL FROM:<a@client.example>\r\n" + recipients + b"DATA\r\n")
        assert _codes(wire, 902) == [250] * 901 + [354]
        wire.send(b"a: b\r\n.\r\n")
        assert wire.reply().code == 250
