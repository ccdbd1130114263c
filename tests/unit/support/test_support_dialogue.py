"""The test tools themselves, on a peer that is not this project's."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.clients.dialogue import octets, play
from tests.support.clients.wire import Wire, stuffed, submit
from tests.support.servers.relay import Stock


def test_transcript_passes_on_what_was_said(stock_for: Callable[..., Stock]) -> None:
    play(
        stock_for().port,
        """
        S: 220 stock.example *
        C: EHLO client.example
        S: 250-...
        # two commands in one packet
        C: MAIL FROM:<a@b.example>
        C: RCPT TO:<c@d.example>
        S: 250 OK
        S: 250 OK
        C: QUIT
        S: 221 *
        S: <closed>
        """,
    )


@pytest.mark.parametrize(
    "transcript",
    [
        "S: 250 *",
        "S: 220 *\nC: NOOP\nS: 251 *",
        "S: 220 *\nC: NOOP",
        "S: 220 *\nC: QUIT\nS: 221 *\nS: 250 *",
        "S: 220 *\nC: EHLO x\nS: 500-...",
    ],
)
def test_transcript_fails_on_anything_else(stock_for: Callable[..., Stock], transcript: str) -> None:
    with pytest.raises(AssertionError, match=r"expected|says more"):
        play(stock_for().port, transcript)


def test_escapes_are_bytes() -> None:
    assert octets(r"a\x00\r\n\0\xe9é") == b"a\x00\r\n\x00\xe9" + "é".encode()


def test_stuffing() -> None:
    assert stuffed(b".a\r\n..\r\nb\r\n") == b"..a\r\n...\r\nb\r\n.\r\n"
    assert stuffed(b"") == b".\r\n"


def test_mail_arrives_in_pieces(stock_for: Callable[..., Stock]) -> None:
    stock = stock_for()
    assert submit(stock.port, b"Subject: x\r\n\r\n.dot\r\n").code == 250
    with Wire(stock.port) as wire:
        wire.begin()
        wire.send(stuffed(b"Subject: x\r\n\r\n.dot\r\n"), chunks=3)
        assert wire.reply().code == 250
    assert stock.mails() == [b"Subject: x\r\n\r\n.dot\r\n"] * 2
